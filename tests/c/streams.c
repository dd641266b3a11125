/* Streams: results in order or as they finish, one for each item; never more between input and output than the window
 * allows; whatever dies. */
#include "family.h"
#include <poll.h>
#include <pthread.h>

#define MS ((int64_t)1000000)

/* An item: its number, and bytes of filling. */
struct item {
    int number;
    char filling[60000];
};

/* Turns the item round; some fail, some die, those with even numbers take longer. */
static int turn(tine_task *task)
{
    size_t length;
    const char *in = (const char *)tine_input(task, &length);
    char *out = (char *)tine_output(task, length);
    int number;
    CHECK(out && length >= sizeof number);
    memcpy(&number, in, sizeof number);
    for (size_t i = 0; i < length; i++) {
        out[i] = in[length - 1 - i];
    }
    if (number % 2 == 0) {
        nap_ns(20000);
    }
    if (number % 100 == 57) {
        return tine_fail(task, -EDOM, "item %d", number);
    }
    return number % 100 == 91 ? raise(SIGKILL) : number;
}

static int number(tine_task *task)
{
    return *(const int *)tine_input(task, NULL);
}

static int wait_for_go(tine_task *task)
{
    int *go = *(int *const *)tine_input(task, NULL);
    __atomic_add_fetch(&go[1], 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(go, __ATOMIC_SEQ_CST) && !tine_cancelled(task)) {
        nap_ns(100000);
    }
    return 3;
}

/* What a stream's input and output have in common. */
struct source {
    int drawn, taken, count;
    size_t bytes, window_tasks, window_bytes;
    int most;
    size_t most_bytes;
    size_t length[20000];
    struct item item;
    int fails_at;
};

static size_t length_of(int number)
{
    return sizeof(int) + (size_t)(number * 7919 % 200) * (number % 11 == 0 ? 250 : 1);
}

static int pull(void *user, const void **input, size_t *length, void **item)
{
    struct source *source = (struct source *)user;
    if (source->drawn == source->count) {
        return 0;
    }
    if (source->fails_at && source->drawn == source->fails_at) {
        return -EIO;
    }
    int number = source->drawn++;
    source->length[number] = length_of(number);
    memset(&source->item, number, source->length[number]);
    source->item.number = number;
    *input = &source->item;
    *length = source->length[number];
    *item = (void *)(uintptr_t)(number + 1);
    /* One may be drawn and wait for its bytes' turn. */
    CHECK(source->drawn - source->taken <= (int)source->window_tasks);
    return 1;
}

/* Takes everything; each item once, with the right result. */
static void take_all(tine_pool *pool, tine_stream *stream, struct source *source, int ordered, int count)
{
    char *seen = (char *)calloc((size_t)count + 1, 1);
    tine_result result = TINE_RESULT_INIT;
    int rc;
    CHECK(seen);
    while ((rc = tine_stream_next(stream, HANG_NS, &result)) == 0) {
        int n = (int)(uintptr_t)result.user - 1;
        CHECK(n >= 0 && n < count && !seen[n]);
        CHECK(!ordered || n == source->taken);
        seen[n] = 1;
        source->taken++;
        if (n % 100 == 57) {
            char text[20];
            snprintf(text, sizeof text, "item %d", n);
            CHECK_EQ(result.status, -EDOM);
            CHECK_STR(result.message, text);
        } else if (n % 100 == 91) {
            CHECK_EQ(result.status, TINE_EDIED);
            CHECK(result.death && result.death->signal == SIGKILL);
            CHECK_EQ(result.delivery, TINE_MAYBE_RAN);
        } else {
            CHECK_EQ(result.status, n);
            CHECK_EQ(result.length, length_of(n));
            CHECK(result.length < 5 || ((const char *)result.data)[0] == (char)n);
        }
        tine_result_release(pool, &result);
        tine_result_release(pool, &result);
    }
    CHECK_EQ(rc, source->fails_at ? -EIO : TINE_EEMPTY);
    CHECK_EQ(source->taken, count);
    CHECK_RC(tine_stream_next(stream, HANG_NS, &result), TINE_EEMPTY);
    free(seen);
}

static void drawn(tine_pool *pool, uint32_t flags, size_t window_tasks, size_t window_bytes)
{
    static struct source source;
    memset(&source, 0, sizeof source);
    source.count = 3000;
    source.window_tasks = window_tasks ? window_tasks : 32;
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    options.window_tasks = window_tasks;
    options.window_bytes = window_bytes;
    options.flags = flags;
    options.pull = pull;
    options.user = &source;
    tine_stream *stream;
    CHECK_EQ(tine_stream_create(pool, turn, &options, &stream), 0);
    CHECK_EQ(source.drawn, 0);
    take_all(pool, stream, &source, !(flags & TINE_UNORDERED), source.count);
    tine_stream_destroy(stream);

    /* The input breaks off. */
    memset(&source, 0, sizeof source);
    source.count = 3000;
    source.fails_at = 300;
    source.window_tasks = window_tasks ? window_tasks : 32;
    CHECK_EQ(tine_stream_create(pool, turn, &options, &stream), 0);
    take_all(pool, stream, &source, !(flags & TINE_UNORDERED), source.fails_at);
    tine_stream_destroy(stream);
}

struct producer {
    tine_stream *stream;
    struct source *source;
    int first, step;
};

static void *produce(void *user)
{
    struct producer *producer = (struct producer *)user;
    struct item item;
    for (int n = producer->first; n < producer->source->count; n += producer->step) {
        size_t length = length_of(n);
        memset(&item, n, length);
        item.number = n;
        int rc = tine_stream_put(producer->stream, &item, length, (void *)(uintptr_t)(n + 1), HANG_NS);
        CHECK_EQ(rc, 0);
    }
    return NULL;
}

static void put(tine_pool *pool, uint32_t flags, int producers, size_t window_bytes)
{
    static struct source source;
    memset(&source, 0, sizeof source);
    source.count = 2000;
    struct producer each[4];
    pthread_t threads[4];
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    options.window_bytes = window_bytes;
    options.flags = flags;
    tine_stream *stream;
    CHECK_EQ(tine_stream_create(pool, turn, &options, &stream), 0);
    for (int i = 0; i < producers; i++) {
        struct producer one = {stream, &source, i, producers};
        each[i] = one;
        CHECK_EQ(pthread_create(&threads[i], NULL, produce, &each[i]), 0);
    }
    tine_result result = TINE_RESULT_INIT;
    for (int n = 0; n < 100; n++) { /* some before the end is known */
        CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
        CHECK(producers > 1 || flags || (int)(uintptr_t)result.user == n + 1);
        tine_result_release(pool, &result);
    }
    int taken = 100, rc, joined = 0;
    while ((rc = tine_stream_next(stream, MS, &result)) == 0 || rc == -ETIMEDOUT) {
        taken += rc == 0;
        tine_result_release(pool, &result);
        if (!joined && taken == source.count) {
            for (int i = 0; i < producers; i++) {
                CHECK_EQ(pthread_join(threads[i], NULL), 0);
            }
            joined = 1;
            CHECK_EQ(tine_stream_end(stream), 0);
            CHECK_EQ(tine_stream_end(stream), 0);
        }
    }
    CHECK_EQ(rc, TINE_EEMPTY);
    CHECK_EQ(taken, source.count);
    CHECK_RC(tine_stream_put(stream, NULL, 0, NULL, 0), -EPIPE);
    tine_stream_destroy(stream);
}

/* The window, one item at a time. */
static void windows(tine_pool *pool)
{
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stream *stream;
    int n = 0;
    char bytes[200] = {0};
    options.window_tasks = 3;
    options.window_bytes = 100;
    CHECK_EQ(tine_stream_create(pool, number, &options, &stream), 0);
    CHECK_RC(tine_stream_next(stream, 0, &result), -EAGAIN);
    CHECK_RC(tine_stream_next(stream, MS, &result), -ETIMEDOUT);
    for (; n < 3; n++) {
        CHECK_EQ(tine_stream_put(stream, &n, sizeof n, &n, 0), 0);
    }
    CHECK_RC(tine_stream_put(stream, &n, sizeof n, &n, 0), -EAGAIN);
    CHECK_RC(tine_stream_put(stream, &n, sizeof n, &n, MS), -ETIMEDOUT);
    CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 0);
    CHECK(result.user == &n);
    CHECK_RC(tine_stream_put(stream, bytes, 101, NULL, 0), -EMSGSIZE);
    CHECK_RC(tine_stream_put(stream, bytes, 93, NULL, 0), -EAGAIN); /* 8 bytes are in */
    CHECK_EQ(tine_stream_put(stream, bytes, 92, NULL, 0), 0);
    CHECK_RC(tine_stream_put(stream, NULL, 3, NULL, 0), -EINVAL);
    for (int i = 1; i < 4; i++) {
        CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
        CHECK_EQ(result.status, i % 3);
    }
    tine_stream_destroy(stream);
    tine_stream_destroy(NULL);
}

/* The descriptor says that there is a result. */
static void polled(tine_pool *pool)
{
    tine_stream *stream;
    tine_result result = TINE_RESULT_INIT;
    struct pollfd fd = {tine_pool_fd(pool), POLLIN, 0};
    CHECK_EQ(tine_stream_create(pool, number, NULL, &stream), 0);
    for (int n = 0; n < 300; n++) {
        int rc;
        CHECK_EQ(tine_stream_put(stream, &n, sizeof n, NULL, 0), 0);
        int64_t last = clock_ns(), spent = 0;
        while ((rc = tine_stream_next(stream, 0, &result)) == -EAGAIN) {
            CHECK(poll(&fd, 1, (int)(HANG_NS / MS)) == 1);
            CHECK_EQ(tine_pool_poll(pool), 0); /* no result of tine_next's */
            CHECK(!is_over(HANG_NS, &last, &spent));
        }
        CHECK_EQ(rc, 0);
        CHECK_EQ(result.status, n);
    }
    tine_stream_destroy(stream);
}

/* A number, and a word in the heap that says that the failure has been seen. */
struct stop {
    int number, *seen;
};

/* The last hundred wait for that, so that some are still there to be cancelled, whoever runs how fast. */
static int fails_at_50(tine_task *task)
{
    const struct stop *stop = (const struct stop *)tine_input(task, NULL);
    while (stop->number >= 900 && !__atomic_load_n(stop->seen, __ATOMIC_SEQ_CST)) {
        nap_ns(100000);
    }
    return stop->number == 50 ? -EPERM : stop->number;
}

/* After the first failure nothing begins, and everything that was put has a result. */
static void stops(tine_pool *pool, uint32_t flags)
{
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stream *stream;
    options.flags = TINE_STOP_ON_FAILURE | flags;
    options.window_tasks = 1000;
    CHECK_EQ(tine_stream_create(pool, fails_at_50, &options, &stream), 0);
    int rc = 0, out = 0, failed = 0, cancelled = 0;
    struct stop in = {0, (int *)tine_calloc(pool, 1, sizeof(int))};
    CHECK(in.seen);
    while (in.number < 1000 && (rc = tine_stream_put(stream, &in, sizeof in, NULL, 0)) == 0) {
        in.number++;
    }
    CHECK(in.number == 1000 || rc == -ECANCELED);
    while ((rc = tine_stream_next(stream, HANG_NS, &result)) == 0) {
        out++;
        if (result.status == -EPERM) {
            failed++;
            __atomic_store_n(in.seen, 1, __ATOMIC_SEQ_CST);
        }
        cancelled += result.status == -ECANCELED;
        CHECK(result.status != -ECANCELED || result.delivery == TINE_NOT_STARTED);
        tine_result_release(pool, &result);
    }
    CHECK_EQ(rc, TINE_EEMPTY);
    CHECK_EQ(out, in.number);
    CHECK_EQ(failed, 1);
    CHECK(in.number < 1000 || cancelled > 0);
    CHECK_RC(tine_stream_put(stream, &in, sizeof in, NULL, 0), -ECANCELED);
    tine_stream_destroy(stream);
    tine_free(pool, in.seen);
}

/* What an item does, and words in the heap: go; whether the one that waits for that has begun, and has ended; how many others have begun; all
 * are there. */
struct step {
    int what;
    volatile int *words;
};
enum { FAIL, WAIT, COUNT };

static int take_step(tine_task *task)
{
    const struct step *step = (const struct step *)tine_input(task, NULL);
    if (step->what == COUNT) {
        step->words[3]++;
    } else if (step->what == WAIT) {
        for (step->words[1] = 1; !step->words[0];) {
            nap_ns(100000);
        }
        step->words[2] = 1;
    } else {
        while (!step->words[4]) {
            nap_ns(100000);
        }
    }
    return step->what == FAIL ? -EPERM : 0;
}

static int nothing(tine_task *task)
{
    (void)task;
    return 0;
}

/* Items that lie in a worker's ring do not begin either, once the failure has been handed out, though the host makes no call. */
static void stops_in_the_ring(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stream *stream;
    options.flags = TINE_STOP_ON_FAILURE;
    struct step step = {FAIL, (volatile int *)tine_calloc(pool, 5, sizeof(int))};
    CHECK(step.words);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 64; i++) { /* many go into a ring whose tasks are short */
            CHECK_EQ(tine_submit(pool, nothing, NULL, 0, NULL, NULL), 0);
        }
        for (int i = 0; i < 64; i++) {
            CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
        }
        memset((void *)step.words, 0, 5 * sizeof(int));
        CHECK_EQ(tine_stream_create(pool, take_step, &options, &stream), 0);
        for (int i = 0; i < 7; i++) {
            step.what = i < COUNT ? i : COUNT;
            CHECK_EQ(tine_stream_put(stream, &step, sizeof step, NULL, HANG_NS), 0);
        }
        step.words[4] = 1;
        WAIT_UNTIL(step.words[1]);
        CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
        CHECK_EQ(result.status, -EPERM);
        step.words[0] = 1;
        WAIT_UNTIL(step.words[2]);
        nap_ns(2 * MS); /* for those that would begin now */
        for (int i = 1; i < 7; i++) {
            CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
            CHECK_EQ(result.status, i == 1 ? 0 : -ECANCELED);
            CHECK_EQ(result.delivery, i == 1 ? TINE_RAN : TINE_NOT_STARTED);
            tine_result_release(pool, &result);
        }
        CHECK_EQ(step.words[3], 0);
        tine_stream_destroy(stream);
    }
    tine_pool_destroy(pool);
}

/* Destroyed in the middle: what runs is cancelled, memory comes back, and the pool serves on. */
static void abandoned(tine_pool *pool)
{
    tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
    int *go = (int *)tine_calloc(pool, 2, sizeof *go);
    CHECK(go);
    CHECK_EQ(tine_pool_stats(pool, &before), 0);
    for (int round = 0; round < 5; round++) {
        tine_stream *stream;
        static struct item item;
        CHECK_EQ(tine_stream_create(pool, round % 2 ? turn : wait_for_go, NULL, &stream), 0);
        for (int i = 0; i < 20; i++) {
            item.number = 2 * i;
            int rc = round % 2 ? tine_stream_put(stream, &item, sizeof item, NULL, HANG_NS)
                               : tine_stream_put(stream, &go, sizeof go, NULL, HANG_NS);
            CHECK_EQ(rc, 0);
        }
        if (round % 2 == 0) {
            WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&go[1], __ATOMIC_SEQ_CST) > 0);
        }
        tine_stream_destroy(stream);
        go[1] = 0;
    }
    WAIT_UNTIL(tine_pool_stats(pool, &after) == 0 && after.outstanding == 0);
    CHECK_EQ(after.heap_allocated_bytes, before.heap_allocated_bytes);
    tine_free(pool, go);
}

static void shut_down(int start, uint32_t flags)
{
    tine_pool *pool = create_pool(start, 2, flags);
    tine_stream *stream, *other;
    tine_result result = TINE_RESULT_INIT;
    int n = 5;
    CHECK_EQ(tine_stream_create(pool, number, NULL, &stream), 0);
    CHECK_EQ(tine_stream_create(pool, number, NULL, &other), 0);
    CHECK_EQ(tine_stream_put(stream, &n, sizeof n, NULL, 0), 0);
    CHECK_EQ(tine_pool_shutdown(pool, HANG_NS), 0); /* an open stream does not hold it up */
    CHECK_RC(tine_stream_put(stream, &n, sizeof n, NULL, 0), TINE_ESHUTDOWN);
    CHECK_EQ(tine_stream_next(stream, 0, &result), 0);
    CHECK_EQ(result.status, 5);
    CHECK_RC(tine_stream_next(stream, TINE_FOREVER, &result), TINE_ESHUTDOWN);
    CHECK_RC(tine_stream_create(pool, number, NULL, &stream), TINE_ESHUTDOWN);
    tine_stream_destroy(other);
    tine_stream_destroy(stream);
    tine_pool_destroy(pool);
}

/* Input that was not drawn because the pool has been shut down is no end of the input. */
static void cut_off(int start, uint32_t flags, int count)
{
    static struct source source;
    tine_pool *pool = create_pool(start, 2, flags);
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stream *stream;
    int taken = 0, rc;
    memset(&source, 0, sizeof source);
    options.pull = pull;
    options.user = &source;
    source.count = count;
    source.window_tasks = options.window_tasks = 4;
    CHECK_EQ(tine_stream_create(pool, number, &options, &stream), 0);
    while (taken < 4) {
        CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
        CHECK_EQ(result.status, taken++);
        source.taken++;
    }
    CHECK_EQ(tine_pool_shutdown(pool, HANG_NS), 0);
    while ((rc = tine_stream_next(stream, HANG_NS, &result)) == 0) {
        CHECK_EQ(result.status, taken++);
        source.taken++;
    }
    CHECK_EQ(taken, source.drawn);
    CHECK_RC(rc, source.drawn < count ? TINE_ESHUTDOWN : TINE_EEMPTY);
    CHECK_EQ(source.drawn < count, count > 8);
    tine_stream_destroy(stream);
    tine_pool_destroy(pool);
}

static void errors(tine_pool *pool)
{
    tine_error error = TINE_ERROR_INIT;
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stream *stream = NULL;
    options.error = &error;
    CHECK_RC(tine_stream_create(NULL, number, &options, &stream), -EINVAL);
    CHECK(strstr(error.text, "pool is NULL"));
    CHECK_RC(tine_stream_create(pool, NULL, &options, &stream), TINE_EFUNCTION);
    options.name = "nobody";
    CHECK_RC(tine_stream_create(pool, NULL, &options, &stream), TINE_ENAME);
    CHECK(strstr(error.text, "nobody"));
    options.name = NULL;
    options.flags = 1u << 30;
    CHECK_RC(tine_stream_create(pool, number, &options, &stream), -EINVAL);
    CHECK(strstr(error.text, "0x40000000"));
    options.flags = 0;
    options.item_deadline_ns = -2;
    CHECK_RC(tine_stream_create(pool, number, &options, &stream), -EINVAL);
    CHECK(strstr(error.text, "item_deadline_ns is -2"));
    CHECK_RC(tine_stream_create(pool, number, NULL, NULL), -EINVAL);
    CHECK(stream == NULL);
    CHECK_RC(tine_stream_put(NULL, NULL, 0, NULL, 0), -EINVAL);
    CHECK_RC(tine_stream_next(NULL, 0, &result), -EINVAL);
    CHECK_RC(tine_stream_end(NULL), -EINVAL);

    static struct source source;
    memset(&source, 0, sizeof source);
    options.item_deadline_ns = 0;
    options.pull = pull;
    options.user = &source;
    options.window_bytes = 40;
    source.count = 2; /* the second has 123 bytes */
    source.window_tasks = 32;
    CHECK_EQ(tine_stream_create(pool, number, &options, &stream), 0);
    CHECK_RC(tine_stream_put(stream, NULL, 0, NULL, 0), -EINVAL);
    CHECK_RC(tine_stream_next(stream, 0, NULL), -EINVAL);
    CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 0);
    source.taken = 1;
    CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
    CHECK_EQ(result.status, -EMSGSIZE);
    CHECK(strstr(result.message, "123 bytes"));
    CHECK(result.user == (void *)2);
    tine_result_release(pool, &result);
    CHECK_RC(tine_stream_next(stream, HANG_NS, &result), TINE_EEMPTY);
    pid_t child = fork();
    if (child == 0) {
        int rc = tine_stream_next(stream, 0, &result);
        tine_stream_destroy(stream);
        _exit(rc == TINE_EFORKED ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    tine_stream_destroy(stream);

    /* An item has a deadline like any task. */
    int *go = (int *)tine_calloc(pool, 2, sizeof *go);
    CHECK(go);
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.item_deadline_ns = 10 * MS;
    CHECK_EQ(tine_stream_create(pool, wait_for_go, &options, &stream), 0);
    CHECK_EQ(tine_stream_put(stream, &go, sizeof go, NULL, 0), 0);
    CHECK_EQ(tine_stream_next(stream, HANG_NS, &result), 0);
    CHECK_EQ(result.status, -ETIMEDOUT);
    tine_result_release(pool, &result);
    tine_stream_destroy(stream);
    tine_free(pool, go);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        tine_pool *pool = create_pool(all_starts[i], 2, 0);
        for (uint32_t flags = 0; flags <= TINE_UNORDERED; flags += TINE_UNORDERED) {
            drawn(pool, flags, 0, 0);
            drawn(pool, flags, 1, 0);
            drawn(pool, flags, 7, 60000);
            put(pool, flags, 1, 0);
            put(pool, flags, 4, 60000);
            stops(pool, flags);
        }
        windows(pool);
        abandoned(pool);
        errors(pool);
        polled(pool);
        tine_pool_destroy(pool);
        stops_in_the_ring(all_starts[i]);
        shut_down(all_starts[i], 0);
        shut_down(all_starts[i], TINE_NO_THREAD);
        cut_off(all_starts[i], 0, 100);
        cut_off(all_starts[i], 0, 5);
    }
    cut_off(TINE_START_FORKSERVER, TINE_INLINE, 100);
    shut_down(TINE_START_FORKSERVER, TINE_INLINE);
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, TINE_INLINE);
    windows(pool);
    stops(pool, 0);
    errors(pool);
    tine_pool_destroy(pool);
    return 0;
}
