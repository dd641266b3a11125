/* Ends of channels that go with tasks where descriptors or memory run out: in a worker, and in the host. */
#include "handed.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static int keep(tine_task *task)
{
    tine_channel *kept;
    int rc = tine_channel_attach(tine_channel_fd(tine_task_channel(task)), NULL, &kept);
    tine_set_worker_state(task, kept);
    return rc;
}

static int use_kept(tine_task *task)
{
    tine_channel *kept = (tine_channel *)tine_worker_state(task);
    int rc = tine_channel_send(kept, "kept", 4, 0);
    tine_channel_close(kept);
    return rc;
}

/* Numbers from this one on are not to be had any more. */
static void limit_descriptors(rlim_t most)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int use_up_descriptors(tine_task *task)
{
    (void)task;
    limit_descriptors(0);
    return 0;
}

static int restore_descriptors(tine_task *task)
{
    (void)task;
    limit_descriptors(256);
    return 0;
}

static void test_in_worker_limits(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    char byte;
    tine_id id;
    struct handed handed = hand(pool, say_who, 0); /* by which the worker gets what it gets ends by */
    CHECK_RC(status_of(pool, handed.id), 0);
    tine_channel_close(handed.ours);
    CHECK_RC(tine_submit(pool, use_up_descriptors, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    handed = hand(pool, say_who, 0);
    CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
    tine_result result = wait_for(pool, handed.id);
    CHECK_RC(result.status, -EMFILE);
    CHECK_EQ(result.delivery, TINE_NOT_STARTED);
    CHECK(strstr(result.message, "no descriptor is free"));
    tine_result_release(pool, &result);
    tine_channel_close(handed.ours);
    CHECK_RC(tine_submit(pool, restore_descriptors, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    handed = hand(pool, keep, 0);
    CHECK_RC(status_of(pool, handed.id), 0);
    CHECK_RC(tine_channel_receive(handed.ours, 0, &byte, 1, NULL), -EAGAIN);
    CHECK_RC(tine_submit(pool, use_kept, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    CHECK_RC(tine_channel_receive(handed.ours, 0, NULL, 0, NULL), -EMSGSIZE);
    tine_channel_close(handed.ours);
    tine_pool_destroy(pool);
}

struct waiter {
    tine_pool *pool;
    tine_id id;
    int status;
};

/* A thread that is to end: the call that takes the result comes to its own end first. */
static void *wait_though_cancelled(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    CHECK_EQ(pthread_cancel(pthread_self()), 0);
    waiter->status = status_of(waiter->pool, waiter->id);
    pthread_testcancel();
    return NULL;
}

static void cancelled(tine_pool *pool)
{
    struct handed last = hand(pool, say_who, 0);
    struct waiter waiter = {pool, last.id, 0};
    pthread_t thread;
    void *ended;
    CHECK_EQ(pthread_create(&thread, NULL, wait_though_cancelled, &waiter), 0);
    CHECK_EQ(pthread_join(thread, &ended), 0);
    CHECK(ended == PTHREAD_CANCELED);
    CHECK_RC(waiter.status, -EMFILE);
    tine_channel_close(last.ours);
}

/* A worker that cannot have what it would get the end by runs no task with an end, and is none the worse for it. */
static void test_no_room_for_the_handover(uint32_t flags)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    tine_pool *pool;
    tine_id id;
    char byte;
    options.start = TINE_START_FORK;
    options.workers = 1;
    options.initializer = use_up_descriptors;
    options.flags = flags;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    for (int i = 0; i < 20; i++) {
        struct handed handed = hand(pool, say_who, 0);
        CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
        tine_result result = wait_for(pool, handed.id);
        CHECK_RC(result.status, -EMFILE);
        CHECK_EQ(result.delivery, TINE_NOT_STARTED);
        CHECK(strstr(result.message, "no descriptor is free"));
        tine_result_release(pool, &result);
        tine_channel_close(handed.ours);
    }
    if (flags & TINE_NO_THREAD) cancelled(pool);
    CHECK_RC(tine_submit(pool, restore_descriptors, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    for (int i = 0; i < 3; i++) {
        struct handed handed = hand(pool, say_who, 0);
        CHECK_RC(status_of(pool, handed.id), 0);
        CHECK(number_from(handed.ours) != getpid());
        tine_channel_close(handed.ours);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    tine_pool_destroy(pool);
}

struct submitter {
    tine_pool *pool;
    struct handed handed;
};

/* A thread whose kernel has no memory for messages. */
static void *hand_without_memory(void *argument)
{
    struct submitter *submitter = (struct submitter *)argument;
    refuse_with(SYS_sendmsg, ENOBUFS);
    submitter->handed = hand(submitter->pool, say_who, 0);
    return NULL;
}

/* The host cannot send the end for the moment: its worker goes on, and so does what it is at. */
static void test_no_memory_for_the_end(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    tine_stats stats = TINE_STATS_INIT;
    pthread_t thread;
    tine_id busy;
    struct handed handed = hand(pool, say_who, 0); /* by which the worker gets what it gets ends by */
    CHECK_RC(status_of(pool, handed.id), 0);
    tine_channel_close(handed.ours);
    struct gate *gate = (struct gate *)tine_calloc(pool, 1, sizeof *gate);
    CHECK_RC(tine_submit(pool, wait_at, &gate, sizeof gate, NULL, &busy), 0);
    WAIT_UNTIL(gate->inside);
    struct submitter submitter = {pool, {NULL, 0}};
    CHECK_EQ(pthread_create(&thread, NULL, hand_without_memory, &submitter), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    gate->open = 1;
    CHECK_RC(status_of(pool, busy), 0);
    CHECK_RC(status_of(pool, submitter.handed.id), 0);
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    tine_channel_close(submitter.handed.ours);
    tine_pool_destroy(pool);
}

/* A worker that stands still with a task in its ring that has not begun. */
static struct handed hand_to_a_stopped_one(tine_pool *pool, uint32_t retries, pid_t *worker)
{
    struct handed handed = hand(pool, echo, 0);
    *worker = (pid_t)greeting(pool, handed.ours);
    tell(handed.ours, -1);
    CHECK_RC(status_of(pool, handed.id), 5);
    tine_channel_close(handed.ours);
    CHECK_EQ(kill(*worker, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(*worker));
    return hand(pool, echo, retries);
}

/* The host has no descriptor free when it wants an end back. The task waits for one, and runs with its channel; or it is
 * cancelled, and the other end is told at once, though the worker has a copy of what the end lies in. */
static void test_host_limits(uint32_t retries)
{
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
        tine_stats stats = TINE_STATS_INIT;
        struct rlimit limit;
        pid_t worker;
        char byte;
        struct handed handed = hand_to_a_stopped_one(pool, retries, &worker);
        CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit_descriptors(3); /* With less, poll would look at nothing. */
        if (cancelled) {
            CHECK_RC(tine_cancel(pool, handed.id), 0);
            CHECK_RC(tine_channel_receive(handed.ours, 0, &byte, 1, NULL), -EPIPE);
            CHECK_RC(status_of(pool, handed.id), -ECANCELED);
            CHECK_EQ(kill(worker, SIGCONT), 0);
        } else {
            int64_t last = clock_ns(), spent = 0;
            CHECK_EQ(kill(worker, SIGKILL), 0);
            do {
                CHECK(!is_over(HANG_NS, &last, &spent));
                CHECK(tine_pool_poll(pool) >= 0);
                CHECK_RC(tine_pool_stats(pool, &stats), 0);
                nap_ns(100000);
            } while (stats.worker_deaths == 0);
            CHECK_RC(tine_channel_receive(handed.ours, 0, &byte, 1, NULL), -EAGAIN);
        }
        limit_descriptors(limit.rlim_cur);
        if (!cancelled) {
            CHECK(greeting(pool, handed.ours) != worker);
            tell(handed.ours, -1);
            CHECK_RC(status_of(pool, handed.id), 5);
            CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
        }
        tine_channel_close(handed.ours);
        handed = hand(pool, echo, 0);
        greeting(pool, handed.ours);
        tell(handed.ours, -1);
        CHECK_RC(status_of(pool, handed.id), 5);
        tine_channel_close(handed.ours);
        tine_pool_destroy(pool);
    }
}

/* Uses up the descriptors of this process, but for so many. */
static int use_up_ours(int *fds, int room, int but)
{
    int count = 0;
    limit_descriptors(64);
    while (count < room && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    CHECK_EQ(errno, EMFILE);
    CHECK(count >= but);
    while (but-- > 0)
        close(fds[--count]);
    return count;
}

static void give_back(const int *fds, int count, rlim_t limit)
{
    while (count > 0)
        close(fds[--count]);
    limit_descriptors(limit);
}

/* A task whose end cannot be passed, for want of a descriptor, waits alone: who comes behind it runs. */
static void test_others_go_on(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    struct rlimit limit;
    int fds[64];
    tine_id id;
    char byte;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct handed handed;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    CHECK_RC(tine_channel_create(NULL, &handed.ours, &options.channel), 0);
    int count = use_up_ours(fds, 64, 1); /* which the task's own end has until it is submitted */
    CHECK_RC(tine_submit(pool, echo, NULL, 0, &options, &handed.id), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
        CHECK_RC(status_of(pool, id), 0);
    }
    CHECK_RC(tine_channel_receive(handed.ours, 0, &byte, 1, NULL), -EAGAIN);
    give_back(fds, count, limit.rlim_cur);
    greeting(pool, handed.ours);
    tell(handed.ours, -1);
    CHECK_RC(status_of(pool, handed.id), 5);
    tine_channel_close(handed.ours);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    struct belongings before = take_stock();
    test_in_worker_limits();
    test_no_room_for_the_handover(0);
    test_host_limits(0);
    test_host_limits(1);
    test_others_go_on();
    check_stock(before);
    /* Last: their threads leave memory of the C library's. */
    test_no_memory_for_the_end();
    test_no_room_for_the_handover(TINE_NO_THREAD);
    return 0;
}
