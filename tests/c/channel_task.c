/* Ends of channels that go with tasks: into workers of every kind, back when a task has not begun, and closed when it is
 * over, however it ends. */
#include "handed.h"
#include <errno.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* ---- In workers ---- */

/* Ends it early, and goes on. */
static int close_and_wait(tine_task *task)
{
    tine_channel *c = tine_task_channel(task);
    char byte;
    tine_channel_send(c, "last", 4, 0);
    tine_channel_close(c);
    if (tine_channel_send(c, "x", 1, 0) != -EPIPE || tine_channel_receive(c, 0, &byte, 1, NULL) != -EPIPE)
        return -EINVAL;
    while (!tine_cancelled(task))
        nap_ns(100000);
    tine_channel_close(c);
    return 0;
}

static int wait_for_ever(tine_task *task)
{
    while (!tine_cancelled(task))
        nap_ns(100000);
    return 0;
}

static int sleep_a_little(tine_task *task)
{
    (void)task;
    nap_ns(20000000);
    return 0;
}

/* What a task hands to a task of its own. */
static int hand_on(tine_task *task)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = tine_task_pool(task);
    tine_channel *ours, *mine = tine_task_channel(task);
    tine_error error = TINE_ERROR_INIT;
    int64_t number;
    tine_id id;
    options.error = &error;
    options.channel = mine;
    if (tine_submit(pool, say_who, NULL, 0, &options, &id) != -EINVAL || !strstr(error.text, "running task's"))
        return -1;
    if (tine_channel_create(NULL, &ours, &options.channel))
        return -2;
    if (tine_submit(pool, say_who, NULL, 0, &options, &id))
        return -3;
    if (tine_wait(pool, id, 0, &result) || result.status)
        return -4;
    tine_result_release(pool, &result);
    if (tine_channel_receive(ours, 0, &number, sizeof number, NULL) || number != getpid())
        return -5;
    if (tine_channel_receive(ours, 0, &number, sizeof number, NULL) != -EPIPE)
        return -6;
    tine_channel_close(ours);
    return tine_channel_send(mine, &number, sizeof number, 0);
}

/* ---- The tests ---- */

static void test_plain(tine_pool *pool, int in_worker)
{
    char byte;
    for (int i = 0; i < 50; i++) {
        if (in_worker) {
            struct handed handed = hand(pool, echo, 0);
            CHECK(greeting(pool, handed.ours) != getpid());
            for (int64_t number = 0; number < 20; number++) {
                tell(handed.ours, number * 1000);
                CHECK_EQ(number_from(handed.ours), number * 1000);
            }
            if (i % 2) {
                tell(handed.ours, -1);
                CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE); /* no call on the pool */
            }
            tine_channel_close(handed.ours);
            CHECK_RC(status_of(pool, handed.id), i % 2 ? 5 : 0);
        }
        struct handed handed = hand(pool, say_who, 0);
        CHECK((greeting(pool, handed.ours) == getpid()) == !in_worker);
        CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
        CHECK_RC(status_of(pool, handed.id), 0);
        tine_channel_close(handed.ours);
        handed = hand(pool, hand_on, 0);
        CHECK((greeting(pool, handed.ours) == getpid()) == !in_worker);
        CHECK_RC(status_of(pool, handed.id), 0);
        tine_channel_close(handed.ours);
        tine_id id;
        CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
        CHECK_RC(status_of(pool, id), 0);
    }
}

/* A submit that fails leaves the handle alone. */
static void test_refused(tine_pool *pool)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_channel *ours;
    tine_id id = 0;
    char byte;
    CHECK_RC(tine_channel_create(NULL, &ours, &options.channel), 0);
    options.name = "nobody knows it";
    CHECK_RC(tine_submit(pool, NULL, NULL, 0, &options, &id), TINE_ENAME);
    options.name = NULL;
    struct rlimit before, none;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_RC(tine_submit(pool, say_who, NULL, 0, &options, &id), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(id, 0);
    CHECK_RC(tine_channel_send(options.channel, "1", 1, 0), 0);
    CHECK_RC(tine_channel_receive(ours, 0, &byte, 1, NULL), 0);
    tine_channel_close(options.channel);
    tine_channel_close(ours);
    pid_t child = fork();
    if (child == 0) {
        CHECK_RC(tine_submit(pool, say_who, NULL, 0, &options, &id), TINE_EFORKED);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void test_early_close(tine_pool *pool)
{
    char text[8];
    size_t length;
    struct handed handed = hand(pool, close_and_wait, 0);
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 &&
               tine_channel_receive(handed.ours, 0, NULL, 0, &length) == -EMSGSIZE);
    CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, text, sizeof text, &length), 0);
    CHECK(length == 4 && memcmp(text, "last", 4) == 0);
    CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, text, sizeof text, NULL), -EPIPE);
    CHECK_RC(tine_channel_send(handed.ours, "x", 1, TINE_FOREVER), -EPIPE);
    CHECK_RC(tine_cancel(pool, handed.id), 0);
    CHECK_RC(status_of(pool, handed.id), -ECANCELED);
    tine_channel_close(handed.ours);
}

/* The worker's death is seen at the other end, by a host that makes no call on the pool. */
static void test_killed(tine_pool *pool)
{
    char byte;
    for (int i = 0; i < 10; i++) {
        struct handed handed = hand(pool, echo, 0);
        pid_t worker = (pid_t)greeting(pool, handed.ours);
        CHECK_EQ(kill(worker, SIGKILL), 0);
        CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
        CHECK_RC(status_of(pool, handed.id), TINE_EDIED);
        tine_channel_close(handed.ours);
    }
}

/* A task that may be run again has the same end each time; its last death is seen. */
static void test_retried(tine_pool *pool)
{
    char byte;
    struct handed handed = hand(pool, echo, 3);
    for (int i = 0; i < 4; i++) {
        pid_t worker = (pid_t)greeting(pool, handed.ours);
        tell(handed.ours, i);
        CHECK_EQ(number_from(handed.ours), i);
        CHECK_EQ(kill(worker, SIGKILL), 0);
    }
    CHECK_RC(tine_channel_receive(handed.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
    CHECK_RC(status_of(pool, handed.id), TINE_EDIED);
    tine_channel_close(handed.ours);
}

/* All workers are busy: the ends wait in the books, or in a worker that has not come to its task. */
static void test_not_begun(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    struct handed handed[5];
    tine_id busy;
    char byte;
    CHECK_RC(tine_submit(pool, wait_for_ever, NULL, 0, NULL, &busy), 0);
    for (int i = 0; i < 5; i++) {
        handed[i] = hand(pool, say_who, 0);
        tine_pool_poll(pool);
    }
    CHECK_RC(tine_channel_receive(handed[0].ours, 0, &byte, 1, NULL), -EAGAIN);
    /* One that is cancelled: the other end is told. */
    for (int i = 0; i < 5; i += 2) {
        CHECK_RC(tine_cancel(pool, handed[i].id), 0);
        CHECK_RC(tine_channel_receive(handed[i].ours, 0, &byte, 1, NULL), -EPIPE);
        CHECK_RC(status_of(pool, handed[i].id), -ECANCELED);
        tine_channel_close(handed[i].ours);
    }
    /* The others run in the next worker. */
    CHECK_RC(tine_cancel(pool, busy), 0);
    CHECK_RC(status_of(pool, busy), -ECANCELED);
    for (int i = 1; i < 5; i += 2) {
        CHECK_RC(status_of(pool, handed[i].id), 0);
        number_from(handed[i].ours);
        CHECK_RC(tine_channel_receive(handed[i].ours, 0, &byte, 1, NULL), -EPIPE);
        tine_channel_close(handed[i].ours);
    }
    /* And what is there when the pool is destroyed. */
    CHECK_RC(tine_submit(pool, wait_for_ever, NULL, 0, NULL, &busy), 0);
    for (int i = 0; i < 5; i++)
        handed[i] = hand(pool, say_who, (uint32_t)i);
    tine_pool_destroy(pool);
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tine_channel_receive(handed[i].ours, 0, &byte, 1, NULL), -EPIPE);
        tine_channel_close(handed[i].ours);
    }
}

/* A task in a stopped worker's ring goes elsewhere, and its end with it. */
static void test_moved(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, 0);
    char byte;
    for (int i = 0; i < 5; i++) {
        struct handed first = hand(pool, echo, 0), second = hand(pool, echo, 0);
        pid_t stopped = (pid_t)greeting(pool, first.ours), other = (pid_t)greeting(pool, second.ours);
        CHECK(stopped != other);
        tell(first.ours, -1);
        CHECK_RC(status_of(pool, first.id), 5);
        tine_channel_close(first.ours);
        CHECK_EQ(kill(stopped, SIGSTOP), 0);
        first = hand(pool, echo, 0); /* to the one that has nothing to do, which cannot */
        tell(second.ours, -1);
        CHECK_RC(status_of(pool, second.id), 5);
        tine_channel_close(second.ours);
        pid_t taker = (pid_t)greeting(pool, first.ours);
        CHECK(taker != stopped);
        tell(first.ours, -1);
        CHECK_RC(tine_channel_receive(first.ours, HANG_NS, &byte, 1, NULL), -EPIPE);
        CHECK_RC(status_of(pool, first.id), 5);
        tine_channel_close(first.ours);
        kill(stopped, SIGCONT);
    }
    tine_pool_destroy(pool);
}

/* A pool that is made later has no copies of the host's ends. */
static void test_not_inherited(int start)
{
    tine_channel *ours, *theirs;
    char byte;
    CHECK_RC(tine_channel_create(NULL, &ours, &theirs), 0);
    tine_pool *pool = create_pool(start, 2, 0);
    tine_channel_close(theirs);
    CHECK_RC(tine_channel_receive(ours, 0, &byte, 1, NULL), -EPIPE);
    tine_channel_close(ours);
    tine_pool_destroy(pool);
}

/* Cuts every socket that it has. */
static int cut_sockets(tine_task *task)
{
    (void)task;
    for (int fd = 3; fd < 64; fd++)
        shutdown(fd, SHUT_RDWR);
    return 0;
}

/* Has the next task of this worker run as if no end went with it. */
static int hide_next_end(tine_task *task)
{
    enum { LINE_BYTES = 64, READY = 1, CHANNEL = 1 << 17 };
    volatile uint32_t *words;
    unsigned long start, end;
    char line[500];
    FILE *maps = fopen("/proc/self/maps", "r");
    (void)task;
    while (maps && fgets(line, sizeof line, maps) && !(strstr(line, "tine-ring") && strstr(line, "rw-s")))
        ;
    if (!maps || sscanf(line, "%lx-%lx", &start, &end) != 2)
        return -ENOENT;
    fclose(maps);
    for (;; nap_ns(100000)) {
        for (unsigned long at = start; at < end; at += LINE_BYTES) {
            words = (volatile uint32_t *)at;
            if (words[0] == READY && words[1] & CHANNEL) {
                words[1] &= ~(uint32_t)CHANNEL;
                return 0;
            }
        }
    }
}

/* What a worker has not taken out is not mistaken for the next task's end. */
static void test_left_behind(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    for (int i = 0; i < 3; i++) {
        struct handed first, second;
        tine_id hiding, busy;
        first = hand(pool, say_who, 0);
        CHECK_RC(status_of(pool, first.id), 0);
        pid_t worker = (pid_t)number_from(first.ours);
        tine_channel_close(first.ours);
        CHECK_RC(tine_submit(pool, hide_next_end, NULL, 0, NULL, &hiding), 0);
        first = hand(pool, has_none, 0);
        CHECK_RC(status_of(pool, hiding), 0);
        CHECK_RC(status_of(pool, first.id), 0);
        /* The next one waits in the ring when its worker is killed, and goes to another one. */
        CHECK_EQ(kill(worker, SIGSTOP), 0);
        WAIT_UNTIL(is_stopped(worker));
        CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &busy), 0);
        second = hand(pool, echo, 0);
        CHECK_EQ(kill(worker, SIGKILL), 0);
        CHECK(greeting(pool, second.ours) != worker);
        tell(second.ours, 7);
        CHECK_EQ(number_from(second.ours), 7);
        tell(second.ours, -1);
        CHECK_RC(status_of(pool, second.id), 5);
        CHECK_RC(status_of(pool, busy), 0);
        tine_channel_close(second.ours);
        tine_channel_close(first.ours);
    }
    tine_pool_destroy(pool);
}

/* A worker that cannot be given ends any more goes, and its tasks run in another one. */
static void test_vandal(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    tine_stats stats = TINE_STATS_INIT;
    for (int i = 0; i < 3; i++) {
        tine_id id;
        struct handed handed = hand(pool, say_who, 0);
        CHECK_RC(status_of(pool, handed.id), 0);
        pid_t before = (pid_t)number_from(handed.ours);
        tine_channel_close(handed.ours);
        CHECK_RC(tine_submit(pool, cut_sockets, NULL, 0, NULL, &id), 0);
        CHECK_RC(status_of(pool, id), 0);
        handed = hand(pool, say_who, 0);
        CHECK_RC(status_of(pool, handed.id), 0);
        CHECK(number_from(handed.ours) != before);
        tine_channel_close(handed.ours);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 3);
    tine_pool_destroy(pool);
}

/* Until a worker that cannot be given ends any more is known to be dead, the tasks that it has not begun can be cancelled, and the
 * time by which they must begin runs out. */
static void test_cancelled_in_a_vandal(int how)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, TINE_NO_THREAD);
    for (int i = 0; i < 20; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        tine_id ids[2], cut;
        struct handed handed = hand(pool, say_who, 0);
        CHECK_RC(status_of(pool, handed.id), 0);
        pid_t worker = (pid_t)number_from(handed.ours);
        tine_channel_close(handed.ours);
        CHECK_RC(tine_submit(pool, cut_sockets, NULL, 0, NULL, &cut), 0);
        CHECK_RC(status_of(pool, cut), 0);
        CHECK_EQ(kill(worker, SIGSTOP), 0);
        WAIT_UNTIL(is_stopped(worker));
        options.queue_deadline_ns = how == 2 ? 1000000 : 0;
        for (int j = 0; j < 2; j++)
            CHECK_RC(tine_submit(pool, has_none, NULL, 0, &options, &ids[j]), 0);
        nap_ns(2000000);
        handed = hand(pool, say_who, 0); /* cannot be passed: the worker is killed */
        if (how == 0)
            CHECK_RC(tine_cancel(pool, ids[0]), 0);
        else if (how == 1)
            CHECK(tine_cancel_queued(pool) >= 2);
        else
            CHECK(tine_pool_poll(pool) >= 0);
        for (int j = 0; j < 2; j++) {
            tine_result result = wait_for(pool, ids[j]);
            CHECK_RC(result.status, how == 2 ? -ETIMEDOUT : how == 1 || j == 0 ? -ECANCELED : 0);
            CHECK_EQ(result.delivery, result.status ? TINE_NOT_STARTED : TINE_RAN);
            tine_result_release(pool, &result);
        }
        CHECK_RC(status_of(pool, handed.id), how == 1 ? -ECANCELED : 0);
        tine_channel_close(handed.ours);
    }
    tine_pool_destroy(pool);
}

#define MANY 400

static void test_many(tine_pool *pool)
{
    static struct handed handed[MANY];
    tine_id short_ones[MANY];
    char byte;
    for (int i = 0; i < MANY; i++) {
        handed[i] = hand(pool, say_who, i % 3 == 0);
        CHECK_RC(tine_submit(pool, i % 50 ? has_none : sleep_a_little, NULL, 0, NULL, &short_ones[i]), 0);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK_RC(status_of(pool, handed[i].id), 0);
        CHECK(number_from(handed[i].ours) != getpid());
        CHECK_RC(tine_channel_receive(handed[i].ours, 0, &byte, 1, NULL), -EPIPE);
        tine_channel_close(handed[i].ours);
        CHECK_RC(status_of(pool, short_ones[i]), 0);
    }
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    struct belongings before = take_stock();
    for (int i = 0; i < 3; i++) {
        tine_pool *pool = create_pool(all_starts[i], 2, 0);
        printf("%s\n", start_name(all_starts[i]));
        fflush(stdout);
        test_plain(pool, 1);
        test_refused(pool);
        test_early_close(pool);
        test_killed(pool);
        test_retried(pool);
        test_many(pool);
        tine_pool_destroy(pool);
        test_not_begun(all_starts[i]);
        test_not_inherited(all_starts[i]);
        check_stock(before);
    }
    test_moved();
    test_left_behind();
    test_vandal();
    for (int how = 0; how < 3; how++)
        test_cancelled_in_a_vandal(how);
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, TINE_INLINE);
    test_plain(pool, 0);
    tine_pool_destroy(pool);
    check_stock(before);
    return 0;
}
