/* Workers that do not get ready: tine_pool_create says why, and a pool whose later workers fail breaks with the reason. */
#include "sights.h"

static volatile char *volatile nowhere = (volatile char *)0xdead0;

static int crash(tine_task *task)
{
    (void)task;
    *nowhere = 1;
    return 0;
}

enum start_failure { EXITS, CRASHES, FAILS, FAILS_SILENTLY, HANGS, ABORTS, FROM_THE_SECOND_ON, START_FAILURES };

struct start_plan {
    int failure;
    pid_t host;
    int fd; /* Of a file of the host's, by which workers count themselves. */
};

static int initialize(tine_task *task)
{
    struct start_plan plan;
    memcpy(&plan, tine_input(task, NULL), sizeof plan);
    switch (plan.failure) {
        case EXITS: exit(5);
        case CRASHES: *nowhere = 1; break;
        case FAILS: return tine_fail(task, -ENOENT, "no %s today", "model");
        case FAILS_SILENTLY: return -EACCES;
        case HANGS:
            for (;;) {
                pause();
            }
        case ABORTS: abort();
        case FROM_THE_SECOND_ON: {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)plan.host, plan.fd);
            int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
            if (fd < 0 || write(fd, "x", 1) != 1) {
                return -EIO;
            }
            off_t length = lseek(fd, 0, SEEK_END);
            close(fd);
            return length > 1 ? tine_fail(task, -EBUSY, "only once") : 0;
        }
    }
    return 0;
}

static void a_start_that_fails_says_why(int start)
{
    static const char *const said[] = {"exited with code 5", "SIGSEGV",    "no model today",    "EACCES",
                                       "not ready",          "SIGABRT"};
    for (int failure = EXITS; failure <= ABORTS; failure++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_error error = TINE_ERROR_INIT;
        struct start_plan plan = {failure, getpid(), -1};
        tine_pool *pool = NULL;
        options.start = start;
        options.workers = 2;
        options.error = &error;
        options.initializer = initialize;
        options.initializer_input = &plan;
        options.initializer_length = sizeof plan;
        options.start_timeout_ns = failure == HANGS ? 300000000 : 0;
        int64_t began = clock_ns();
        int rc = tine_pool_create(&options, &pool);
        if (rc != TINE_EWORKERSTART || error.code != rc || !strstr(error.text, said[failure]) || pool) {
            fprintf(stderr, "%s, failure %d: %s, \"%s\"\n", start_name(start), failure, tine_errname(rc), error.text);
            exit(1);
        }
        /* Promptly: not after a start timeout of ten seconds. */
        CHECK(clock_ns() - began < HANG_NS / 2);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
}

static void later_generations_that_fail_end_the_pool(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct start_plan plan = {FROM_THE_SECOND_ON, getpid(), memfd_create("generations", MFD_CLOEXEC)};
    tine_pool *pool;
    tine_result result;
    tine_id ids[10];
    int number = 1;
    CHECK(plan.fd >= 0);
    options.start = start;
    options.workers = 1;
    options.initializer = initialize;
    options.initializer_input = &plan;
    options.initializer_length = sizeof plan;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_submit(pool, crash, NULL, 0, NULL, &ids[0]), 0);
    for (int i = 1; i < 10; i++) {
        CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &ids[i]), 0);
    }
    take(pool, ids[0], &result);
    CHECK_EQ(result.status, TINE_EDIED);
    CHECK(result.death && result.death->signal == SIGSEGV);
    tine_result_release(pool, &result);
    for (int i = 1; i < 10; i++) { /* Nobody is left to run them, and each is told so. */
        take(pool, ids[i], &result);
        CHECK_EQ(result.status, TINE_EWORKERSTART);
        CHECK_EQ(result.delivery, TINE_NOT_STARTED);
        CHECK(strstr(result.message, "only once"));
        tine_result_release(pool, &result);
    }
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    submit.error = &error;
    CHECK_RC(tine_submit(pool, add_one, &number, sizeof number, &submit, NULL), TINE_EWORKERSTART);
    CHECK(strstr(error.text, "only once"));
    struct stat file;
    CHECK_EQ(fstat(plan.fd, &file), 0);
    CHECK(file.st_size >= 2 && file.st_size <= 10); /* It was tried more than once, and not for ever. */
    tine_pool_destroy(pool);
    close(plan.fd);
}

static void run(int start)
{
    a_start_that_fails_says_why(start);
    later_generations_that_fail_end_the_pool(start);
}

int main(int argc, char **argv)
{
    return run_with_each_start(argc, argv, run);
}
