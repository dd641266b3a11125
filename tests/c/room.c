/* Several threads wait for room, and one result that is taken makes enough of it for all: each is told, although nothing else
 * happens; and one that is told and then fails stands in nobody's way. */
#include "family.h"
#include <pthread.h>

#define MS ((int64_t)1000000)
#define PRODUCERS 3

/* What is shared with the workers: whether they are to go on, and how many wait for that. */
struct gate {
    int open, waiting;
};

static int wait_at_gate(tine_task *task)
{
    struct gate *gate = *(struct gate *const *)tine_input(task, NULL);
    __atomic_add_fetch(&gate->waiting, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&gate->open, __ATOMIC_SEQ_CST)) {
        nap_ns(100000);
    }
    return 0;
}

/* A long one ends at once, a short one does not before the gate is open. */
static int stay_if_short(tine_task *task)
{
    size_t length;
    tine_input(task, &length);
    return length > sizeof(struct gate *) ? 0 : wait_at_gate(task);
}

struct producer {
    tine_pool *pool;
    tine_stream *stream;
    struct gate *gate;
    size_t length; /* of what it puts */
    int expected, about;
};

static void *produce(void *user)
{
    struct producer *producer = (struct producer *)user;
    char bytes[1000] = {0};
    int rc;
    memcpy(bytes, &producer->gate, sizeof producer->gate);
    __atomic_store_n(&producer->about, 1, __ATOMIC_SEQ_CST);
    if (producer->stream) {
        rc = tine_stream_put(producer->stream, bytes, producer->length, NULL, TINE_FOREVER);
    } else {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        tine_id id;
        options.timeout_ns = TINE_FOREVER;
        rc = tine_submit(producer->pool, stay_if_short, bytes, producer->length, &options, &id);
    }
    CHECK_EQ(rc, producer->expected);
    return NULL;
}

struct waiter {
    tine_pool *pool;
    tine_id id;
};

static void *wait_for_one(void *user)
{
    const struct waiter *waiter = (const struct waiter *)user;
    tine_result result = TINE_RESULT_INIT;
    CHECK_EQ(tine_wait(waiter->pool, waiter->id, TINE_FOREVER, &result), 0);
    return NULL;
}

/* Puts into a stream or submits; where the first `failing` need memory, there is none. */
static void one_makes_room_for_all(int start, int through_stream, int failing)
{
    tine_pool_options pool_options = TINE_POOL_OPTIONS_INIT;
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool;
    tine_stream *stream = NULL;
    tine_id id;
    char bytes[1000] = {0};
    pool_options.start = start;
    pool_options.workers = 1 + PRODUCERS;
    pool_options.window_bytes = 1000 + sizeof(struct gate *);
    pool_options.heap_bytes = (size_t)1 << 20;
    CHECK_EQ(tine_pool_create(&pool_options, &pool), 0);
    struct gate *gate = (struct gate *)tine_calloc(pool, 1, sizeof *gate);
    CHECK(gate);

    /* One leads, and nothing wakes it. */
    CHECK_EQ(tine_submit(pool, wait_at_gate, &gate, sizeof gate, NULL, &id), 0);
    struct waiter waiter = {pool, id};
    pthread_t leader, threads[PRODUCERS];
    CHECK_EQ(pthread_create(&leader, NULL, wait_for_one, &waiter), 0);
    WAIT_UNTIL(__atomic_load_n(&gate->waiting, __ATOMIC_SEQ_CST) == 1);

    if (through_stream) {
        options.window_bytes = 1000;
        CHECK_EQ(tine_stream_create(pool, stay_if_short, &options, &stream), 0);
        CHECK_EQ(tine_stream_put(stream, bytes, 1000, NULL, 0), 0);
    } else {
        CHECK_EQ(tine_submit(pool, stay_if_short, bytes, 1000, NULL, &id), 0);
    }
    tine_stats stats = TINE_STATS_INIT;
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && tine_pool_stats(pool, &stats) == 0 && stats.outstanding == 1);
    if (failing) {
        for (size_t length = (size_t)1 << 19; length >= 16;) {
            length = tine_alloc(pool, length) ? length : length / 2;
        }
    }
    struct producer each[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) {
        struct producer one = {pool, stream, gate, sizeof gate, 0, 0};
        if (i < failing) {
            one.length = 300;
            one.expected = -ENOMEM;
        }
        each[i] = one;
        CHECK_EQ(pthread_create(&threads[i], NULL, produce, &each[i]), 0);
        WAIT_UNTIL(__atomic_load_n(&each[i].about, __ATOMIC_SEQ_CST));
        nap_ns(20 * MS); /* so that it waits, and behind the ones before */
    }
    if (stream) {
        CHECK_EQ(tine_stream_next(stream, 0, &result), 0);
    } else {
        CHECK_EQ(tine_next(pool, 0, &result), 0);
    }
    WAIT_UNTIL(__atomic_load_n(&gate->waiting, __ATOMIC_SEQ_CST) == 1 + PRODUCERS - failing);
    for (int i = 0; i < PRODUCERS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    __atomic_store_n(&gate->open, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(leader, NULL), 0);
    for (int i = failing; i < PRODUCERS; i++) {
        CHECK_EQ(stream ? tine_stream_next(stream, HANG_NS, &result) : tine_next(pool, HANG_NS, &result), 0);
        CHECK_EQ(result.status, 0);
    }
    tine_stream_destroy(stream);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        for (int through_stream = 0; through_stream < 2; through_stream++) {
            one_makes_room_for_all(all_starts[i], through_stream, 0);
            one_makes_room_for_all(all_starts[i], through_stream, 1);
        }
    }
    return 0;
}
