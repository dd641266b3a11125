/* What a program can ask of tine about itself: is this a worker, where is the ready-made one, what has tine to say. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <tine.h>
#include <unistd.h>

#include "check.h"

#define HANG_NS ((int64_t)60 * 1000 * 1000 * 1000)

static int am_i_a_worker(tine_task *task)
{
    (void)task;
    int status;
    pid_t child = fork();
    if (child == 0) _exit(tine_in_worker() ? 1 : 0);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return -ECHILD; /* a worker's child is none */
    return tine_in_worker() ? 1 : 0;
}

static int initialize(tine_task *task)
{
    (void)task;
    return tine_in_worker() ? 0 : -ENOEXEC;
}

static void in_worker(int start, uint32_t flags, int expected)
{
    tine_pool *pool;
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.error = &error;
    options.workers = 1;
    options.start = start;
    options.flags = flags;
    options.initializer = flags & TINE_INLINE ? NULL : initialize;
    int rc = tine_pool_create(&options, &pool);
    if (rc) fprintf(stderr, "%s\n", error.text);
    CHECK_RC(rc, 0);
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_submit(pool, am_i_a_worker, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, expected);
    tine_result_release(pool, &result);
    CHECK(!tine_in_worker());
    tine_pool_destroy(pool);
}

static void in_process(void)
{
    tine_process *process;
    tine_exit end = TINE_EXIT_INIT;
    CHECK_RC(tine_process_start(NULL, am_i_a_worker, NULL, 0, &process), 0);
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    CHECK_RC(end.status, 1);
    tine_process_close(process);
}

/* The worker that was installed with the library, and none where the library was not: inside this very program. */
static void worker_path(void)
{
    bool is_shared = false;
    char line[PATH_MAX + 200], *expected = getenv("TINE_WORKER_PROGRAM"), real[PATH_MAX];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps && expected && realpath(expected, real));
    while (fgets(line, sizeof line, maps)) is_shared |= strstr(line, "libtine.so") != NULL;
    fclose(maps);
    const char *path = tine_worker_path();
    if (is_shared) {
        CHECK(path);
        CHECK_STR(path, real);
        CHECK_EQ(access(path, X_OK), 0);
    } else {
        CHECK(!path);
    }
    CHECK(tine_worker_path() == path);
}

struct said {
    int count, last_level;
    char all[4000];
};

static void say(int level, const char *text, void *user)
{
    struct said *said = (struct said *)user;
    said->count++;
    said->last_level = level;
    CHECK(!strchr(text, '\n'));
    strncat(said->all, text, sizeof said->all - strlen(said->all) - 2);
    strcat(said->all, "\n");
}

static int ignore(tine_task *task)
{
    (void)task;
    return 0;
}

static void own_log(void)
{
    struct said said;
    memset(&said, 0, sizeof said);
    tine_set_log(say, &said);
    tine_pool *pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    void *forgotten = tine_alloc(pool, 100), *mine = malloc(100);
    CHECK(forgotten && mine);
    tine_id id;
    CHECK_RC(tine_submit(pool, ignore, &mine, sizeof mine, NULL, &id), 0);
    CHECK_EQ(said.count, 1);
    CHECK(strstr(said.all, "points to"));
    CHECK_EQ(said.last_level, TINE_LOG_WARNING);
    tine_pool_destroy(pool);
    CHECK(said.count > 2);
    CHECK(strstr(said.all, "destroyed with 1 blocks"));

    /* Without it, standard error is where it goes; with another, that one. */
    int before = said.count, ends[2], copy = dup(2);
    CHECK(pipe(ends) == 0 && copy >= 0 && dup2(ends[1], 2) == 2);
    tine_set_log(NULL, NULL);
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK(tine_alloc(pool, 100));
    tine_pool_destroy(pool);
    CHECK_EQ(dup2(copy, 2), 2);
    char text[2000] = "";
    CHECK(read(ends[0], text, sizeof text - 1) > 0);
    CHECK(strstr(text, "destroyed with 1 blocks"));
    CHECK_EQ(said.count, before);
    close(ends[0]), close(ends[1]), close(copy);
    free(mine);
}

int main(int argc, char **argv)
{
    setenv("TINE_CHECK", "1", 1);
    CHECK(!tine_in_worker());
    CHECK_RC(tine_init(argc, argv), 0);
    CHECK(!tine_in_worker());
    in_worker(TINE_START_FORKSERVER, 0, 1);
    in_worker(TINE_START_SPAWN, 0, 1);
    in_worker(TINE_START_FORK, 0, 1);
    in_worker(TINE_START_FORKSERVER, TINE_INLINE, 0);
    in_process();
    worker_path();
    own_log();
    return 0;
}
