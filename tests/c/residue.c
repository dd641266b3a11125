/* Every process of a family is killed in the same moment, 100 times: nothing is left in /dev/shm or /tmp, no process, no
 * socket, whatever they had open: a pool with tasks under way, a shared segment, a heap in it. */
#include "family.h"
#include <sched.h>

enum { TIMES = 100 };

static int busy(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    for (int i = 0; i < 100; i++)
        tine_free(pool, tine_alloc(pool, (size_t)i * 3000));
    return tine_output(task, 10000) ? 0 : -ENOMEM;
}

/* Says on the pipe that it is in the middle of it, and goes on until it is killed. */
static int be_host(int start, int pipe_fd)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_segment *s, *shared;
    tine_heap *heap;
    tine_pool *pool;
    options.workers = 2;
    options.start = start;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_segment_create(1 << 20, NULL, &s), 0);
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    CHECK_RC(tine_segment_create(1 << 20, NULL, &shared), 0);
    CHECK_RC(tine_pool_share(pool, shared, TINE_FOREVER), 0);
    for (int round = 0;; round++) {
        tine_result result = TINE_RESULT_INIT;
        tine_id id;
        for (int i = 0; i < 20; i++)
            CHECK_RC(tine_submit(pool, busy, NULL, 0, NULL, &id), 0);
        if (round == 3)
            CHECK_EQ(write(pipe_fd, "x", 1), 1);
        for (int i = 0; i < 20; i++) {
            int rc = tine_next(pool, HANG_NS, &result);
            if (rc != 0)
                _exit(0); /* Its family is being killed. */
            tine_result_release(pool, &result);
            tine_heap_free(heap, tine_heap_alloc(heap, 1000));
        }
    }
}

/* Sockets of this network namespace. */
static int count_sockets(void)
{
    static char text[1 << 20];
    int count = 0;
    CHECK(read_file("/proc/self/net/unix", text, sizeof text) > 0);
    for (const char *at = text; *at; at++)
        count += *at == '\n';
    return count;
}

static int count_residue(const char *path)
{
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir(path);
    if (!folder)
        return 0;
    while ((entry = readdir(folder)))
        count += strstr(entry->d_name, "tine") != NULL && strstr(entry->d_name, "tine-limits") == NULL;
    closedir(folder);
    return count;
}

static void kill_all_at_once(char **argv, int start, uint64_t *random)
{
    int ends[2];
    char byte;
    CHECK_EQ(pipe(ends), 0);
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        char words[2][16], tag[100];
        snprintf(words[0], sizeof words[0], "%d", start);
        snprintf(words[1], sizeof words[1], "%d", ends[1]);
        snprintf(tag, sizeof tag, "%s-host", family_tag());
        char *arguments[] = {argv[0], words[0], words[1], NULL};
        setenv(TAG_VARIABLE, tag, 1);
        close(ends[0]);
        execv("/proc/self/exe", arguments);
        _exit(126);
    }
    close(ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    nap_ns((int64_t)(random_next(random) % 2000000));
    char tag[100];
    snprintf(tag, sizeof tag, "%s-host", family_tag());
    struct process family[16];
    int count = list_family(tag, 0, family, 16);
    CHECK(count >= 2);
    for (int i = count; i > 1; i--) { /* In any order. */
        int other = (int)(random_next(random) % (uint64_t)i);
        struct process one = family[i - 1];
        family[i - 1] = family[other];
        family[other] = one;
    }
    for (int i = 0; i < count; i++)
        kill(family[i].pid, SIGKILL);
    CHECK_EQ(waitpid(host, NULL, 0), host);
    WAIT_UNTIL(family_is_gone(tag, 0));
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    if (argc == 3)
        return be_host(atoi(argv[1]), atoi(argv[2]));
    /* The sockets of others are not to be counted. */
    int alone = unshare(CLONE_NEWNET) == 0;
    if (!alone)
        printf("not tested: that no socket is left, which needs a network namespace\n");
    uint64_t random = random_seed();
    int shm = count_residue("/dev/shm"), tmp = count_residue("/tmp"), sockets = count_sockets();
    struct belongings before = take_stock();
    for (int i = 0; i < TIMES; i++)
        kill_all_at_once(argv, all_starts[i % 3], &random);
    CHECK_EQ(count_residue("/dev/shm"), shm);
    CHECK_EQ(count_residue("/tmp"), tmp);
    if (alone)
        WAIT_UNTIL(count_sockets() == sockets);
    check_stock(before);
    return 0;
}
