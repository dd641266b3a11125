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

/* Whether they are all still there, and as they were; the first that is not is named. */
static int are_intact(int as_eventfds)
{
    struct stat first, other;
    uint64_t count = 0;
    char name[32], what[64] = "nothing";
    const char *lowest = (const char *)memchr(taken, 1, sizeof taken);
    if (!lowest)
        return 0;
    int fd = (int)(lowest - taken), is_there = fstat(fd, &first) == 0;
    while (is_there && ++fd < NUMBERS)
        is_there = !taken[fd] || (fstat(fd, &other) == 0 && other.st_dev == first.st_dev && other.st_ino == first.st_ino);
    if (!is_there) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        if (readlink(name, what, sizeof what - 1) < 0)
            snprintf(what, sizeof what, "%s", strerror(errno));
        fprintf(stderr, "descriptor %d is %s\n", fd, what);
        return 0;
    }
    if (!as_eventfds && first.st_size == sizeof CONTENT)
        return 1;
    if (as_eventfds && read((int)(lowest - taken), &count, sizeof count) == -1 && errno == EAGAIN)
        return 1;
    fprintf(stderr, "somebody has written: %llu, %lld bytes\n", (unsigned long long)count, (long long)first.st_size);
    return 0;
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

/* The host loses everything while tasks are under way: they settle, whatever with. What the program has open stays, where no thread of
   tine's is in a call just then: in what another thread does with a number, nobody can step between the look and the use. */
static void host_without(int start, int as_eventfds, unsigned flags)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    tine_id ids[TASKS];
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    options.workers = 2;
    options.start = start;
    options.flags = flags;
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
    CHECK(flags == 0 || are_intact(as_eventfds));
    tine_pool_destroy(pool);
    CHECK(flags == 0 || are_intact(as_eventfds));
}

/* What is not a pool's: a queue's descriptor, by which a thread of tine's tells of messages, a channel's end and a segment. Whatever
   is called afterwards, the program's own files stay as they are; and who asks for the queue's descriptor again has a new one. */
static void handles_without(void)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_segment *segment;
    tine_heap *heap;
    tine_queue *queue;
    tine_channel *ours, *theirs;
    char text[8];
    size_t length;
    CHECK_RC(tine_segment_create(4 << 20, NULL, &segment), 0);
    CHECK_RC(tine_heap_create(segment, NULL, &heap), 0);
    options.heap = heap;
    CHECK_RC(tine_queue_create(NULL, &options, &queue), 0);
    struct pollfd readable = {tine_queue_fd(queue), POLLIN, 0};
    CHECK(readable.fd >= 0);
    CHECK_RC(tine_channel_create(NULL, &ours, &theirs), 0);
    CHECK(take_all_numbers(0) == 0);

    for (int i = 0; i < 3; i++) {
        CHECK_RC(tine_queue_put(queue, "x", 1, 0), 0);
        usleep(20000);                                  /* the thread tells, and must not by this number */
        CHECK_RC(tine_queue_get(queue, SECONDS(20), text, sizeof text, &length), 0);
        CHECK_RC(tine_queue_get(queue, 1, text, sizeof text, &length), -ETIMEDOUT);
    }
    CHECK(tine_channel_send(ours, "x", 1, 0) < 0);
    CHECK(are_intact(0));
    CHECK_RC(tine_channel_fd(ours), -EBADF);
    CHECK_RC(tine_segment_fd(segment), -EBADF);

    readable.fd = tine_queue_fd(queue);
    CHECK(readable.fd >= 3 && (readable.fd >= NUMBERS || !taken[readable.fd]));
    CHECK_RC(tine_queue_put(queue, "y", 1, 0), 0);
    CHECK(poll(&readable, 1, 20000) == 1);
    CHECK(tine_queue_fd(queue) == readable.fd);

    tine_channel_close(ours);
    tine_channel_close(theirs);
    tine_queue_destroy(queue);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(segment), 0);
    CHECK(are_intact(0));
}

/* Ends that wait with their tasks when the host loses what it had open, and one that a task has and loses. */
static int keeps_end(tine_task *task)
{
    int rc = tine_task_channel(task) ? take_all_numbers(0) : -EINVAL;
    tine_channel_close(tine_task_channel(task));
    return rc ? rc : are_intact(0);
}

static void ends_without(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_channel *ours[4];
    tine_pool *pool;
    tine_id id;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_channel_create(NULL, &ours[0], &submit.channel), 0);
    CHECK_RC(tine_submit(pool, keeps_end, NULL, 0, &submit, &id), 0);
    CHECK_RC(tine_wait(pool, id, SECONDS(20), &result), 0);
    CHECK(result.status == 1);
    tine_result_release(pool, &result);
    CHECK_RC(tine_submit(pool, slow, NULL, 0, NULL, NULL), 0);
    for (int i = 1; i < 4; i++) {
        CHECK_RC(tine_channel_create(NULL, &ours[i], &submit.channel), 0);
        CHECK_RC(tine_submit(pool, slow, NULL, 0, &submit, NULL), 0);
    }
    CHECK(take_all_numbers(0) == 0);
    tine_pool_destroy(pool);
    for (int i = 0; i < 4; i++)
        tine_channel_close(ours[i]);
    CHECK(are_intact(0));
}

/* In a process of its own. */
static void in_child(void (*check)(void))
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60);
        check();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
    tine_init(argc, argv);
    for (size_t i = 0; i < 3; i++)
        for (int way = 0; way < 4; way++) {
            int as_eventfds = way & 1;
            if (way < 2)
                worker_without(starts[i], as_eventfds);
            fflush(NULL);
            pid_t host = fork();
            CHECK(host >= 0);
            if (host == 0) {
                alarm(60);
                host_without(starts[i], as_eventfds, way < 2 ? TINE_NO_THREAD : 0);
                _exit(0);
            }
            int status;
            CHECK(waitpid(host, &status, 0) == host && status == 0);
        }
    in_child(handles_without);
    in_child(ends_without);
    return 0;
}
