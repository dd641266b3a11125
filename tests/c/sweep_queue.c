/* limit: 300
 *
 * Every system call of a family that talks through queues and channels fails once, each way that it can: in the host, in the
 * worker, in the threads that watch for a descriptor. No message is lost, doubled or damaged, no call hangs, what comes out is
 * documented, and nothing is left. A message that could not be received is still there. */
#include "sweep.h"
#include <malloc.h>

#define SLICE_NS 100000000
#define NAP_NS 1000000
#define LONGEST (1 << 20)
#define DONE 7

/* What may pass, or is for good in a sandbox; -EACCES: it refuses the memory of a long message; -EXDEV: a thread that is not told what PID
 * namespace it is in. */
static int is_want(int rc)
{
    static const int known[] = {-ENOMEM, -EMFILE, -ENFILE, -EAGAIN, -EPERM, -EACCES, -ENOSYS, -EXDEV};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (rc == known[i]) {
            return 1;
        }
    }
    return 0;
}

/* For the host: whether to try again; a shortage is over when it has been met once. */
static int try_again(int rc, int *tries)
{
    if (!is_want(rc) || ++*tries > 20) {
        return 0;
    }
    CHECK(sweep_struck());
    sweep_end();
    nap_ns(NAP_NS);
    return 1;
}

static tine_pool *create(void)
{
    tine_pool *pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.start = TINE_START_FORKSERVER;
    options.start_timeout_ns = HANG_NS / 2;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    return pool;
}

/* Whether the task has settled, as it may where a process has been killed or could not have what it needs. */
static int has_ended(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_wait(pool, id, 0, &result);
    if (rc == -EAGAIN) {
        return 0;
    }
    CHECK_RC(rc, 0);
    /* Where the socket says that there is nothing in it, the task's end of its channel is gone: -EPIPE. */
    int known = sweep_kills() || is_want(result.status) || result.status == -EPIPE;
    if (result.status != DONE && !(sweep_struck() && known)) {
        fprintf(stderr, "the task ended with %s: %s\n", tine_errname(result.status), result.message);
        exit(1);
    }
    tine_result_release(pool, &result);
    return 1;
}

static void wait_for_end(tine_pool *pool, tine_id id)
{
    int64_t last = clock_ns(), spent = 0;
    while (!has_ended(pool, id)) {
        CHECK(!is_over(HANG_NS, &last, &spent));
        nap_ns(NAP_NS);
    }
}

/* ---- Queues ---- */

struct line {
    tine_queue *there, *back;
};

static int echo(tine_task *task)
{
    size_t length;
    const struct line *line = (const struct line *)tine_input(task, &length);
    int64_t number;
    int rc;
    while ((rc = tine_queue_get(line->there, TINE_FOREVER, &number, sizeof number, NULL)) == 0) {
        nap_ns(NAP_NS); /* The host sleeps by now. */
        if ((rc = tine_queue_put(line->back, &number, sizeof number, TINE_FOREVER)) != 0) {
            return tine_fail(task, rc, "put");
        }
        if ((rc = tine_queue_task_done(line->there)) != 0) {
            return tine_fail(task, rc, "task_done");
        }
    }
    return rc == -EPIPE ? DONE : tine_fail(task, rc, "get");
}

/* Waits for a descriptor to be readable, if poll can; 0 if the task has ended instead. */
static int is_readable(tine_pool *pool, tine_id id, int fd)
{
    struct pollfd it = {fd, POLLIN, 0};
    int64_t last = clock_ns(), spent = 0;
    for (int rc, failures = 0; (rc = poll(&it, 1, SLICE_NS / 1000000)) <= 0 && failures < 20; failures += rc < 0) {
        if (rc < 0) {
            sweep_end();
        }
        CHECK(!is_over(HANG_NS, &last, &spent));
        if (has_ended(pool, id)) {
            return 0;
        }
    }
    return 1;
}

/* Gets this very number; 0 if the task has ended instead. */
static int comes_back(tine_pool *pool, tine_id id, tine_queue *back, int64_t wanted)
{
    int64_t number = -1, last = clock_ns(), spent = 0;
    int rc;
    while ((rc = tine_queue_get(back, SLICE_NS, &number, sizeof number, NULL)) == -ETIMEDOUT) {
        CHECK(!is_over(HANG_NS, &last, &spent));
        if (has_ended(pool, id)) {
            return 0;
        }
    }
    CHECK_RC(rc, 0);
    CHECK_EQ(number, wanted);
    return 1;
}

/* What the C library keeps of the threads that there will be. */
static void warm_up(void)
{
    tine_pool *pool = create();
    tine_queue *queue;
    CHECK_RC(tine_queue_create(pool, NULL, &queue), 0);
    CHECK(tine_queue_fd(queue) >= 0);
    tine_queue_destroy(queue);
    tine_pool_destroy(pool);
}

static void queues(void)
{
    warm_up();
    struct belongings before = take_stock();
    tine_pool *pool = create();
    struct line line;
    tine_id id;
    int64_t number = 0;
    int alive = 1;
    CHECK_RC(tine_queue_create(pool, NULL, &line.there), 0);
    CHECK_RC(tine_queue_create(pool, NULL, &line.back), 0);
    CHECK_RC(tine_submit(pool, echo, &line, sizeof line, NULL, &id), 0);
    sweep_begin();
    int fd = tine_queue_fd(line.back);
    CHECK(fd >= 0 || (sweep_struck() && is_want(fd)));
    for (; alive && number < 4; number++) {
        CHECK_RC(tine_queue_put(line.there, &number, sizeof number, HANG_NS), 0);
        alive = (fd < 0 || number % 2 || is_readable(pool, id, fd)) && comes_back(pool, id, line.back, number);
    }
    CHECK_RC(tine_queue_get(line.back, NAP_NS, &number, sizeof number, NULL), -ETIMEDOUT);
    if (alive) {
        CHECK_RC(tine_queue_join(line.there, HANG_NS), 0);
    }
    CHECK_RC(tine_queue_close(line.there), 0);
    tine_queue_destroy(line.back);
    sweep_end();
    CHECK_RC(tine_queue_get(line.back, 0, &number, sizeof number, NULL), -EINVAL);
    if (alive) {
        wait_for_end(pool, id);
    }
    tine_pool_destroy(pool);
    check_stock(before);
}

/* ---- Channels ---- */

/* Tries for a while: nobody knows how long a shortage lasts. */
#define PATIENTLY(rc, call)                                       \
    for (int tries = 0; is_want((rc) = (call)) && tries < 100; tries++) \
    nap_ns(NAP_NS)

static int relay(tine_task *task)
{
    static char bytes[LONGEST];
    tine_channel *c = tine_task_channel(task);
    size_t length;
    int rc, fd;
    for (;;) {
        PATIENTLY(rc, tine_channel_receive(c, TINE_FOREVER, bytes, sizeof bytes, &length));
        if (rc == -ENOMSG) {
            PATIENTLY(rc, tine_channel_receive_fd(c, TINE_FOREVER, &fd));
            if (rc == 0) {
                PATIENTLY(rc, tine_channel_send_fd(c, fd, TINE_FOREVER));
                close(fd);
            }
        } else if (rc == 0) {
            nap_ns(NAP_NS);
            PATIENTLY(rc, tine_channel_send(c, bytes, length, TINE_FOREVER));
        }
        if (rc != 0) {
            return rc == -EPIPE ? DONE : rc;
        }
    }
}

/* There and back; 0 where that can't be any more. */
static int exchange(tine_channel *c, size_t length)
{
    static char out[LONGEST], in[LONGEST];
    size_t got = 0;
    int rc, tries = 0;
    memset(out, (int)length % 251 + 1, length);
    memset(in, 0, length);
    do {
        rc = tine_channel_send(c, out, length, HANG_NS);
    } while (rc != 0 && try_again(rc, &tries));
    if (rc == 0) {
        do {
            rc = tine_channel_receive(c, HANG_NS, in, sizeof in, &got);
        } while (rc != 0 && try_again(rc, &tries));
    }
    if (rc != 0) {
        CHECK(sweep_struck() && (rc == -EPIPE || is_want(rc)));
        return 0;
    }
    CHECK(got == length && memcmp(in, out, length) == 0);
    return 1;
}

/* The same in place, on both sides. */
static int relay_in_place(tine_task *task)
{
    tine_channel *c = tine_task_channel(task);
    size_t length;
    void *in, *out;
    int rc;
    for (;;) {
        PATIENTLY(rc, tine_channel_peek(c, TINE_FOREVER, &in, &length));
        if (rc != 0) {
            return rc == -EPIPE ? DONE : rc;
        }
        nap_ns(NAP_NS);
        PATIENTLY(rc, tine_channel_reserve(c, length, TINE_FOREVER, &out));
        if (rc == 0) {
            memcpy(out, in, length);
            PATIENTLY(rc, tine_channel_commit(c, length, TINE_FOREVER));
        }
        if (rc != 0) {
            return rc == -EPIPE ? DONE : rc;
        }
        CHECK_RC(tine_channel_release(c), 0);
    }
}

static int exchange_in_place(tine_channel *c, size_t length)
{
    static char wanted[LONGEST];
    size_t got = 0;
    void *place;
    int rc, tries = 0;
    memset(wanted, (int)length % 251 + 1, length);
    do {
        rc = tine_channel_reserve(c, length, HANG_NS, &place);
    } while (rc != 0 && try_again(rc, &tries));
    if (rc == 0) {
        memcpy(place, wanted, length);
        do {
            rc = tine_channel_commit(c, length, HANG_NS);
        } while (rc != 0 && try_again(rc, &tries));
        if (rc != 0 && rc != -EPIPE) {
            CHECK_RC(tine_channel_abandon(c), 0);
        }
    }
    if (rc == 0) {
        do {
            rc = tine_channel_peek(c, HANG_NS, &place, &got);
        } while (rc != 0 && try_again(rc, &tries));
    }
    if (rc != 0) {
        CHECK(sweep_struck() && (rc == -EPIPE || is_want(rc)));
        return 0;
    }
    CHECK(got == length && memcmp(place, wanted, length) == 0);
    CHECK_RC(tine_channel_release(c), 0);
    return 1;
}

/* All room is with messages on their way, until they are released. */
static int exchange_many(tine_channel *c)
{
    enum { MANY = 6 };
    for (int i = 0; i < MANY; i++) {
        void *place;
        int rc, tries = 0;
        do {
            rc = tine_channel_reserve(c, LONGEST, HANG_NS, &place);
        } while (rc != 0 && try_again(rc, &tries));
        if (rc == 0) {
            *(int *)place = i;
            do {
                rc = tine_channel_commit(c, LONGEST, HANG_NS);
            } while (rc != 0 && try_again(rc, &tries));
        }
        if (rc != 0) {
            CHECK(sweep_struck() && (rc == -EPIPE || is_want(rc)));
            return 0;
        }
    }
    for (int i = 0; i < MANY; i++) {
        void *place;
        size_t length;
        int rc, tries = 0;
        do {
            rc = tine_channel_peek(c, HANG_NS, &place, &length);
        } while (rc != 0 && try_again(rc, &tries));
        if (rc != 0) {
            CHECK(sweep_struck() && (rc == -EPIPE || is_want(rc)));
            return 0;
        }
        CHECK(length == LONGEST && *(int *)place == i);
        CHECK_RC(tine_channel_release(c), 0);
    }
    return 1;
}

/* A pipe, and its writing end as it came back; -1 where it did not. */
struct passed {
    int ends[2], fd;
};

static int exchange_descriptor(tine_channel *c, struct passed *passed)
{
    int rc, tries = 0;
    do {
        rc = tine_channel_send_fd(c, passed->ends[1], HANG_NS);
    } while (rc != 0 && try_again(rc, &tries));
    if (rc == 0) {
        do {
            rc = tine_channel_receive_fd(c, HANG_NS, &passed->fd);
        } while (rc != 0 && try_again(rc, &tries));
    }
    CHECK(rc == 0 || (sweep_struck() && (rc == -EPIPE || is_want(rc))));
    return rc == 0;
}

/* Once nothing fails any more: the test's own calls are no part of it. */
static void check_passed(struct passed *passed)
{
    char byte = 0;
    if (passed->fd >= 0) {
        CHECK(write(passed->fd, "x", 1) == 1 && read(passed->ends[0], &byte, 1) == 1 && byte == 'x');
        close(passed->fd);
    }
    close(passed->ends[0]);
    close(passed->ends[1]);
}

static void converse(tine_fn fn, int is_in_place)
{
    warm_up();
    struct belongings before = take_stock();
    tine_pool *pool = create();
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_channel *ours;
    tine_id id;
    struct passed passed = {{-1, -1}, -1};
    int rc, tries = 0;
    CHECK_EQ(pipe2(passed.ends, O_CLOEXEC), 0);
    sweep_begin();
    do {
        rc = tine_channel_create(NULL, &ours, &options.channel);
    } while (rc != 0 && try_again(rc, &tries));
    if (rc == 0) {
        do {
            rc = tine_submit(pool, fn, NULL, 0, &options, &id);
        } while (rc != 0 && try_again(rc, &tries));
        if (rc == 0 && is_in_place) {
            (void)(exchange_in_place(ours, 8) && exchange_in_place(ours, LONGEST) && exchange(ours, LONGEST) &&
                   exchange_in_place(ours, 300) && exchange_many(ours));
        } else if (rc == 0) {
            (void)(exchange(ours, 8) && exchange(ours, 300) && exchange_descriptor(ours, &passed) &&
                   exchange(ours, LONGEST) && exchange(ours, 9));
        } else {
            tine_channel_close(options.channel);
        }
        tine_channel_close(ours);
    }
    sweep_end();
    check_passed(&passed);
    if (rc == 0) {
        wait_for_end(pool, id);
    } else {
        CHECK(sweep_struck() && is_want(rc));
    }
    tine_pool_destroy(pool);
    check_stock(before);
}

static void channels(void)
{
    converse(relay, 0);
}

static void channels_in_place(void)
{
    converse(relay_in_place, 1);
}

static const struct sweep_scenario scenarios[] = {
    {"queues", queues, NULL}, {"channels", channels, NULL}, {"channels_in_place", channels_in_place, NULL}};

int main(int argc, char **argv)
{
    /* A thread that begins notes a destructor; where there is no arena for it to have that from, the C library ends the process. */
    mallopt(M_ARENA_MAX, 1);
    CHECK_RC(tine_init(argc, argv), 0);
    return SWEEP_MAIN(argc, argv, scenarios);
}
