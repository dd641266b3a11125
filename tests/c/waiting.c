/* Threads that wait for the same pool: nobody takes another's wake-up, nobody leads while it is in a callback, a condition is
 * true for whoever waits for it, and what can be had at once is had while workers leave. With tine's threads and without. */
#include "family.h"
#include <poll.h>
#include <pthread.h>

static int give_back(tine_task *task)
{
    return *(const int *)tine_input(task, NULL);
}

/* Ends when the word that it is given is set. */
static int until_set(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(word, __ATOMIC_SEQ_CST) && !tine_cancelled(task)) {
        nap_ns(200000);
    }
    return 7;
}

static int for_ever(tine_task *task)
{
    (void)task;
    for (;;) {
        pause();
    }
    return 0;
}

static int *word_of(tine_pool *pool)
{
    int *word = (int *)tine_calloc(pool, 1, sizeof *word);
    CHECK(word);
    return word;
}

static void set(int *word)
{
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
}

static int is_set(int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static tine_id submit(tine_pool *pool, tine_fn fn, int *word, const tine_submit_options *options)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, fn, &word, sizeof word, options, &id), 0);
    return id;
}

static void start(pthread_t *thread, void *(*run)(void *), void *user)
{
    CHECK_EQ(pthread_create(thread, NULL, run, user), 0);
}

static void join(pthread_t thread)
{
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- A wake-up is the one's for whom it is meant ---- */

struct loop {
    tine_pool *pool;
    int stop, always;
};

static void *event_loop(void *user)
{
    struct loop *loop = (struct loop *)user;
    struct pollfd fd = {tine_pool_fd(loop->pool), POLLIN, 0};
    CHECK(fd.fd >= 0);
    while (!is_set(&loop->stop)) {
        if (loop->always || poll(&fd, 1, 20) == 1) {
            CHECK(tine_pool_poll(loop->pool) >= 0);
        }
    }
    return NULL;
}

static void linger(const tine_result *result, void *user)
{
    (void)result;
    set((int *)user);
    nap_ns(300000);
}

static void beside_an_event_loop(uint32_t flags, int always, size_t count)
{
    struct loop loop = {create_pool(TINE_START_FORKSERVER, 1, flags), 0, always};
    pthread_t threads[3];
    for (size_t i = 0; i < count; i++) {
        start(&threads[i], event_loop, &loop);
    }
    for (int round = 0; round < 100; round++) {
        int called = 0, five = 5;
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.on_settled = linger;
        options.user = &called;
        CHECK_RC(tine_submit(loop.pool, give_back, &five, sizeof five, &options, NULL), 0);
        if (round % 2) {
            WAIT_UNTIL(is_set(&called)); /* its callback is under way, or over */
        }
        CHECK_RC(tine_wait_all(loop.pool, NULL, 0, HANG_NS), 0);
        CHECK(is_set(&called));
    }
    set(&loop.stop);
    for (size_t i = 0; i < count; i++) {
        join(threads[i]);
    }
    tine_pool_destroy(loop.pool);
}

/* ---- The lead is handed on before user code runs ---- */

struct stall {
    tine_pool *pool;
    tine_id id;
    int over;
};

static __thread struct stall *own;

static void *wait_for_one(void *user)
{
    struct stall *stall = own = (struct stall *)user;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(stall->pool, stall->id, HANG_NS, &result), 0);
    tine_result_release(stall->pool, &result);
    set(&stall->over);
    return NULL;
}

/* Stays until the other threads have what they wait for; without tine's threads it may be one of these itself. */
static void stay(const tine_result *result, void *user)
{
    struct stall *stalls = (struct stall *)user;
    (void)result;
    for (int i = 0; i < 3; i++) {
        WAIT_UNTIL(own == &stalls[i] || is_set(&stalls[i].over));
    }
}

static int add_one(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in + 1;
    return 0;
}

static void *map_some(void *user)
{
    struct stall *stall = own = (struct stall *)user;
    int in[100], out[100];
    for (int i = 0; i < 100; i++) {
        in[i] = i;
    }
    CHECK_RC(tine_map(stall->pool, add_one, in, sizeof *in, out, sizeof *out, 100, NULL), 0);
    CHECK_EQ(out[99], 100);
    set(&stall->over);
    return NULL;
}

static void in_a_callback(uint32_t flags)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 4, flags);
    int *go = word_of(pool);
    tine_submit_options told = TINE_SUBMIT_OPTIONS_INIT, late = TINE_SUBMIT_OPTIONS_INIT;
    struct stall stalls[3];
    for (int i = 0; i < 3; i++) {
        stalls[i].pool = pool;
        stalls[i].over = 0;
    }
    told.on_settled = stay;
    told.user = stalls;
    late.deadline_ns = 20000000;
    late.flags = 0;
    int *nothing = word_of(pool), first = 1;
    pthread_t threads[3];
    stalls[0].id = submit(pool, until_set, go, NULL);
    stalls[1].id = submit(pool, for_ever, nothing, &late); /* its deadline is kept meanwhile */
    start(&threads[0], wait_for_one, &stalls[0]);
    CHECK_RC(tine_submit(pool, give_back, &first, sizeof first, &told, NULL), 0);
    start(&threads[1], wait_for_one, &stalls[1]);
    start(&threads[2], map_some, &stalls[2]);
    set(go);
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    tine_pool_destroy(pool);
}

/* ---- A condition is true for whoever waits for it ---- */

struct closer {
    tine_pool *pool;
    int how, answer;
};

static void wait_inside(const tine_result *result, void *user)
{
    struct closer *closer = (struct closer *)user;
    (void)result;
    closer->answer = closer->how == 0 ? tine_pool_shutdown(closer->pool, HANG_NS)
                                      : tine_wait_all(closer->pool, NULL, 0, HANG_NS);
}

static void everything_inside(uint32_t flags, int how, int outside)
{
    struct closer closer = {create_pool(TINE_START_FORKSERVER, 3, flags), how, 1};
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int one = 1, *go = word_of(closer.pool);
    options.on_settled = wait_inside;
    options.user = &closer;
    submit(closer.pool, until_set, go, NULL);
    submit(closer.pool, until_set, go, NULL);
    /* The last one: its callback may be there before this goes on, and take no more tasks. */
    CHECK_RC(tine_submit(closer.pool, give_back, &one, sizeof one, &options, NULL), 0);
    set(go);
    tine_result result = TINE_RESULT_INIT;
    switch (outside) {
    case 0: CHECK_RC(tine_wait_all(closer.pool, NULL, 0, HANG_NS), 0); break;
    case 1: CHECK_RC(tine_pool_shutdown(closer.pool, HANG_NS), 0); break;
    default:
        for (int rc = 0; rc == 0;) {
            rc = tine_next(closer.pool, HANG_NS, &result);
            CHECK(rc == 0 || rc == TINE_EEMPTY);
            tine_result_release(closer.pool, &result);
        }
        CHECK_RC(tine_wait_all(closer.pool, NULL, 0, HANG_NS), 0);
    }
    CHECK_RC(closer.answer, 0);
    tine_pool_destroy(closer.pool);
}

/* ---- Every consumer of a stream draws ---- */

enum { ITEMS = 60 };

struct consumers {
    tine_pool *pool;
    tine_stream *stream;
    int drawn, got;
};

static int draw(void *user, const void **input, size_t *length, void **item)
{
    struct consumers *all = (struct consumers *)user;
    (void)item;
    *input = &all->drawn;
    *length = sizeof all->drawn;
    return all->drawn++ < ITEMS;
}

static void *take_one(void *user)
{
    struct consumers *all = (struct consumers *)user;
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_stream_next(all->stream, HANG_NS, &result);
    if (rc == TINE_EEMPTY) {
        return NULL; /* the others have been very quick */
    }
    CHECK_RC(rc, 0);
    tine_result_release(all->pool, &result);
    __atomic_add_fetch(&all->got, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *take_all(void *user)
{
    struct consumers *all = (struct consumers *)user;
    tine_result result = TINE_RESULT_INIT;
    int rc;
    while ((rc = tine_stream_next(all->stream, HANG_NS, &result)) == 0) {
        tine_result_release(all->pool, &result);
        __atomic_add_fetch(&all->got, 1, __ATOMIC_SEQ_CST);
    }
    CHECK_RC(rc, TINE_EEMPTY);
    return NULL;
}

static void many_consumers(uint32_t flags, size_t window, int unordered)
{
    struct consumers all = {create_pool(TINE_START_FORKSERVER, 2, flags), NULL, 0, 0};
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    pthread_t threads[4];
    options.pull = draw;
    options.user = &all;
    options.window_tasks = window;
    options.flags = unordered ? TINE_UNORDERED : 0;
    CHECK_RC(tine_stream_create(all.pool, give_back, &options, &all.stream), 0);
    for (int i = 0; i < 4; i++) { /* two that leave after the first, two that stay */
        start(&threads[i], i % 2 ? take_all : take_one, &all);
    }
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    CHECK_EQ(all.got, ITEMS);
    tine_stream_destroy(all.stream);
    tine_pool_destroy(all.pool);
}

/* ---- What can be had at once, while workers leave ---- */

static int *leaves_when;

static int waits_at_the_end(tine_task *task)
{
    (void)task;
    while (!is_set(leaves_when)) {
        nap_ns(200000);
    }
    return 0;
}

struct leaving {
    tine_pool *pool;
    int over;
};

static void *shut_down(void *user)
{
    struct leaving *leaving = (struct leaving *)user;
    CHECK_RC(tine_pool_shutdown(leaving->pool, HANG_NS), 0);
    set(&leaving->over);
    return NULL;
}

static void while_workers_leave(uint32_t flags)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct leaving leaving = {NULL, 0};
    pthread_t threads[2];
    leaves_when = (int *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    options.workers = 2;
    options.flags = flags;
    options.start = TINE_START_FORK; /* the word is the workers' too */
    options.finalizer = waits_at_the_end;
    CHECK_RC(tine_pool_create(&options, &leaving.pool), 0);
    tine_result result = TINE_RESULT_INIT;
    int one = 1;
    tine_id id;
    CHECK_RC(tine_submit(leaving.pool, give_back, &one, sizeof one, NULL, NULL), 0);
    CHECK_RC(tine_wait_all(leaving.pool, NULL, 0, HANG_NS), 0);
    start(&threads[0], shut_down, &leaving);
    WAIT_UNTIL(tine_submit(leaving.pool, give_back, &one, sizeof one, NULL, &id) == TINE_ESHUTDOWN);
    start(&threads[1], shut_down, &leaving); /* a second one waits for the same */
    nap_ns(20000000);                        /* so that it is most likely with the workers that are leaving */
    int rc, taken = 0;
    int64_t last = clock_ns(), spent = 0;
    while ((rc = tine_next(leaving.pool, 0, &result)) != TINE_EEMPTY) {
        /* What a worker has begun may take as long as the machine is busy. */
        CHECK(rc == 0 || rc == -EAGAIN);
        if (rc == 0) {
            tine_result_release(leaving.pool, &result);
            taken++;
        }
        CHECK(!is_over(HANG_NS, &last, &spent));
    }
    CHECK(taken > 0);
    CHECK_EQ(tine_pool_poll(leaving.pool), 0);
    CHECK_EQ(is_set(&leaving.over), 0);
    set(leaves_when);
    join(threads[0]);
    join(threads[1]);
    tine_pool_destroy(leaving.pool);
    munmap(leaves_when, 4096);
}

/* ---- Many threads, one window, any of several ---- */

static void *submit_and_wait(void *user)
{
    tine_pool *pool = (tine_pool *)user;
    tine_result result = TINE_RESULT_INIT;
    for (int round = 0; round < 30; round++) {
        tine_id ids[3];
        for (int i = 0; i < 3; i++) {
            int n = 100 * round + i;
            tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
            options.timeout_ns = HANG_NS;
            CHECK_RC(tine_submit(pool, give_back, &n, sizeof n, &options, &ids[i]), 0);
        }
        CHECK_RC(tine_wait(pool, ids[1], HANG_NS, &result), 0);
        CHECK_EQ(result.status, 100 * round + 1);
        tine_result_release(pool, &result);
        ids[1] = ids[0];
        CHECK_RC(tine_wait_all(pool, ids, 3, HANG_NS), 0);
        for (int left = 2; left > 0; left--) {
            CHECK_RC(tine_wait_any(pool, ids + 3 - left, (size_t)left, HANG_NS, &result), 0);
            CHECK_EQ(result.id, ids[3 - left]);
            tine_result_release(pool, &result);
        }
    }
    return NULL;
}

static void many_threads(uint32_t flags, size_t window)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    pthread_t threads[16];
    options.workers = 2;
    options.flags = flags;
    options.window_tasks = window;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    for (int i = 0; i < 16; i++) {
        start(&threads[i], submit_and_wait, pool);
    }
    for (int i = 0; i < 16; i++) {
        join(threads[i]);
    }
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    tine_pool_destroy(pool);
}

/* One worker: they settle in the order in which they were submitted. Who takes one of several looks at the others and leaves them as
 * they are: what one of them is refused for does not hang on which has settled, and the others come in their order. */
static void any_of_several(tine_pool *pool)
{
    enum { TASKS = 100 };
    tine_id ids[TASKS], some[4];
    tine_result result = TINE_RESULT_INIT;
    for (int i = 0; i < TASKS; i++) {
        CHECK_RC(tine_submit(pool, give_back, &i, sizeof i, NULL, &ids[i]), 0);
    }
    CHECK_RC(tine_wait_any(pool, ids, TASKS, HANG_NS, &result), 0); /* It may have to wait. */
    CHECK_EQ(result.id, ids[0]);
    tine_result_release(pool, &result);
    CHECK_RC(tine_wait_any(pool, ids, TASKS, HANG_NS, &result), TINE_EID);
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    some[0] = some[1] = ids[TASKS - 1];
    some[2] = ids[1];
    some[3] = ids[0];
    CHECK_RC(tine_wait_any(pool, some, 4, 0, &result), TINE_EID);
    CHECK_RC(tine_wait_any(pool, some, 3, 0, &result), 0);
    CHECK_EQ(result.id, ids[TASKS - 1]);
    tine_result_release(pool, &result);
    for (int i = 1; i < TASKS - 1; i++) {
        CHECK_RC(tine_next(pool, 0, &result), 0);
        CHECK_EQ(result.id, ids[i]);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
}

/* The same task twice among those that are waited for, with and without time to wait. */
static void one_of_one_that_is_named_twice(tine_pool *pool)
{
    int *word = word_of(pool);
    tine_id id = submit(pool, until_set, word, NULL), twice[2] = {id, id};
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait_any(pool, twice, 2, 0, &result), -EAGAIN);
    CHECK_RC(tine_wait_any(pool, twice, 2, 1000000, &result), -ETIMEDOUT);
    set(word);
    CHECK_RC(tine_wait_any(pool, twice, 2, HANG_NS, &result), 0);
    CHECK_EQ(result.id, id);
    tine_result_release(pool, &result);
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
}

/* ---- Texts stay ---- */

static int fails(tine_task *task)
{
    return -*(const int *)tine_input(task, NULL);
}

static void *ask(void *user)
{
    *(const char **)user = tine_strerror(-3999);
    return NULL;
}

static void texts_stay(tine_pool *pool)
{
    tine_result results[2] = {TINE_RESULT_INIT, TINE_RESULT_INIT};
    for (int i = 0; i < 2; i++) {
        int code = 2001 + i;
        tine_id id;
        CHECK_RC(tine_submit(pool, fails, &code, sizeof code, NULL, &id), 0);
        CHECK_RC(tine_wait(pool, id, HANG_NS, &results[i]), 0);
    }
    CHECK(strstr(results[0].message, "2001") != NULL);
    CHECK(strstr(results[1].message, "2002") != NULL);
    const char *text = NULL;
    pthread_t thread;
    start(&thread, ask, &text);
    join(thread);
    tine_strerror(-3998);
    CHECK(strstr(text, "3999") != NULL);
    tine_result_release(pool, &results[0]);
    tine_result_release(pool, &results[1]);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (uint32_t flags = 0; flags <= TINE_NO_THREAD; flags += TINE_NO_THREAD) {
        beside_an_event_loop(flags, 0, 1);
        beside_an_event_loop(flags, 0, 3);
        beside_an_event_loop(flags, 1, 1);
        in_a_callback(flags);
        for (int how = 0; how < 2; how++) {
            for (int outside = 0; outside < 3; outside++) {
                everything_inside(flags, how, outside);
            }
        }
        many_consumers(flags, 1, 0);
        many_consumers(flags, 1, 1);
        many_consumers(flags, 3, 0);
        while_workers_leave(flags);
        many_threads(flags, 0);
        many_threads(flags, 96);
        tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, flags);
        any_of_several(pool);
        one_of_one_that_is_named_twice(pool);
        texts_stay(pool);
        tine_pool_destroy(pool);
    }
    return 0;
}
