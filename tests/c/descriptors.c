/* The program's own code closes whatever descriptors it finds, in a worker and in the host, and opens files of its own under the
   same numbers. Nothing of tine's is written there, nothing of the program's is closed, and every task settles. */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS = 200, TASKS = 40 };
#define SECONDS(n) ((int64_t)(n) * 1000000000)

static const char CONTENT[] = "important";

/* The numbers that the program has taken. */
static char taken[NUMBERS];

/* Closes everything above the standard descriptors, and lets the kernel give the program's own the numbers that are free: files,
   or eventfds. A number of one's own choice could be one that another thread is just being given. */
static int take_all_numbers(int as_eventfds)
{
    char path[] = "/tmp/tine-descriptors-XXXXXX";
    for (int fd = 3; fd < NUMBERS; fd++)
        close(fd);
    int fd = as_eventfds ? eventfd(0, EFD_NONBLOCK) : mkstemp(path);
    if (fd < 0)
        return -errno;
    if (!as_eventfds && (unlink(path) != 0 || write(fd, CONTENT, sizeof CONTENT) != (ssize_t)sizeof CONTENT))
        return -errno;
    memset(taken, 0, sizeof taken);
    for (int file = fd; fd < NUMBERS; fd = dup(file)) {
        if (fd < 0)
            return -errno;
        taken[fd] = 1;
    }
    return close(fd) == 0 ? 0 : -errno;
}

/* Whether they are all still there, and as they were. */
static int are_intact(int as_eventfds)
{
    struct stat first, other;
    uint64_t count;
    const char *lowest = (const char *)memchr(taken, 1, sizeof taken);
    if (!lowest || fstat((int)(lowest - taken), &first) != 0)
        return 0;
    for (int fd = 3; fd < NUMBERS; fd++)
        if (taken[fd] && (fstat(fd, &other) != 0 || other.st_dev != first.st_dev || other.st_ino != first.st_ino))
            return 0;
    if (as_eventfds)
        return read((int)(lowest - taken), &count, sizeof count) == -1 && errno == EAGAIN;
    return first.st_size == sizeof CONTENT;
}

static int in_worker(tine_task *task)
{
    return take_all_numbers(*(const int *)tine_input(task, NULL));
}

static int look(tine_task *task)
{
    return are_intact(*(const int *)tine_input(task, NULL));
}

static int slow(tine_task *task)
{
    (void)task;
    usleep(50000);
    return 5;
}

static int run(tine_pool *pool, tine_fn fn, int input)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, &input, sizeof input, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, SECONDS(20), &result), 0);
    int status = result.status;
    tine_result_release(pool, &result);
    return status;
}

/* A worker loses everything that it had open, and works on. */
static void worker_without(int start, int as_eventfds)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    tine_stats stats = TINE_STATS_INIT;
    options.workers = 1;
    options.start = start;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    /* Asked for, it makes the worker tell by descriptor. */
    struct pollfd readable = {tine_pool_fd(pool), POLLIN, 0};
    CHECK(readable.fd >= 0);
    CHECK_RC(run(pool, in_worker, as_eventfds), 0);
    for (int i = 0; i < 5; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK_RC(tine_submit(pool, look, &as_eventfds, sizeof as_eventfds, NULL, NULL), 0);
        while (tine_pool_poll(pool) == 0)
            CHECK(poll(&readable, 1, 20000) == 1);
        CHECK_RC(tine_next(pool, 0, &result), 0);
        CHECK(result.status == 1);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK(stats.worker_deaths == 0);
    CHECK_RC(tine_pool_shutdown(pool, SECONDS(20)), 0);
    tine_pool_destroy(pool);
}

/* The host loses everything while tasks are under way: they settle, whatever with, and what the program has open stays. */
static void host_without(int start, int as_eventfds)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    tine_id ids[TASKS];
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    options.workers = 2;
    options.start = start;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    for (int i = 0; i < TASKS; i++)
        CHECK_RC(tine_submit(pool, slow, NULL, 0, NULL, &ids[i]), 0);
    CHECK(take_all_numbers(as_eventfds) == 0);
    for (int i = 0; i < TASKS; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK_RC(tine_wait(pool, ids[i], SECONDS(10), &result), 0);
        CHECK(result.status == 5 || result.status == TINE_EDIED || result.status == TINE_EWORKERSTART);
        tine_result_release(pool, &result);
    }
    submit.error = &error;
    CHECK(tine_submit(pool, slow, NULL, 0, &submit, NULL) == TINE_EWORKERSTART);
    CHECK(strstr(error.text, "descriptors") != NULL);
    CHECK(are_intact(as_eventfds));
    tine_pool_destroy(pool);
    CHECK(are_intact(as_eventfds));
}

int main(int argc, char **argv)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
    tine_init(argc, argv);
    for (size_t i = 0; i < 3; i++)
        for (int as_eventfds = 0; as_eventfds < 2; as_eventfds++) {
            worker_without(starts[i], as_eventfds);
            fflush(NULL);
            pid_t host = fork();
            CHECK(host >= 0);
            if (host == 0) {
                alarm(60);
                /* An eventfd of the program's cannot be told from an epoll set of tine's by anybody. */
                host_without(starts[i], 0);
                _exit(0);
            }
            int status;
            CHECK(waitpid(host, &status, 0) == host && status == 0);
        }
    return 0;
}
