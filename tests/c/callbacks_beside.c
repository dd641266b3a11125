/* Threads of a host beside each other: calls that return though callbacks make ever more of them, other pools' callbacks, what is told of
 * one task at a time, a pool that ends while a callback of it runs in a call that has nothing to do with it, threads that wait inside a
 * callback, and room in the window for those that need more and those that need less. */
#include "family.h"
#include "pools.h"
#include <pthread.h>

#define MS ((int64_t)1000000)

enum { CHAINS = 8, TASKS = 100 };

static int nothing(tine_task *task)
{
    (void)task;
    return 0;
}

static int wait_long(tine_task *task)
{
    while (!tine_cancelled(task)) {
        nap_ns(MS);
    }
    return 0;
}

static void create(uint32_t flags, size_t workers, tine_pool **out)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = workers;
    options.flags = flags;
    CHECK_RC(tine_pool_create(&options, out), 0);
}

/* Tasks of which each one's end submits the next one. */
struct chain {
    tine_pool *pool;
    int told, is_over;
};

static void go_on(const tine_result *result, void *user)
{
    struct chain *chain = (struct chain *)user;
    (void)result;
    __atomic_add_fetch(&chain->told, 1, __ATOMIC_SEQ_CST);
    /* Long enough for the other chains' tasks to be done when this one returns. */
    nap_ns(2 * MS);
    if (!__atomic_load_n(&chain->is_over, __ATOMIC_SEQ_CST)) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.on_settled = go_on;
        options.user = chain;
        CHECK_RC(tine_submit(chain->pool, nothing, NULL, 0, &options, NULL), 0);
    }
}

static void begin_chains(struct chain *chain)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.on_settled = go_on;
    options.user = chain;
    for (int i = 0; i < CHAINS; i++) {
        CHECK_RC(tine_submit(chain->pool, nothing, NULL, 0, &options, NULL), 0);
    }
}

static void end_chains(struct chain *chain)
{
    __atomic_store_n(&chain->is_over, 1, __ATOMIC_SEQ_CST);
    CHECK_RC(tine_wait_all(chain->pool, NULL, 0, HANG_NS), 0);
}

/* A call that polls, tries, or waits for so long comes back, whatever there is to tell by then. */
static void calls_come_back(void)
{
    struct chain chain = {NULL, 0, 0};
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    create(TINE_NO_THREAD, 3, &chain.pool);
    CHECK_RC(tine_submit(chain.pool, wait_long, NULL, 0, NULL, &id), 0);
    begin_chains(&chain);
    WAIT_UNTIL(tine_pool_poll(chain.pool) >= 0 && __atomic_load_n(&chain.told, __ATOMIC_SEQ_CST) > 2 * CHAINS);
    CHECK_RC(tine_wait(chain.pool, id, 0, &result), -EAGAIN);
    CHECK_RC(tine_wait(chain.pool, id, 20 * MS, &result), -ETIMEDOUT);
    CHECK_RC(tine_cancel(chain.pool, id), 0);
    CHECK_RC(tine_wait(chain.pool, id, HANG_NS, &result), 0);
    tine_result_release(chain.pool, &result);
    end_chains(&chain);
    tine_pool_destroy(chain.pool);
}

static void note(const tine_result *result, void *user)
{
    (void)result;
    __atomic_store_n((int *)user, 1, __ATOMIC_SEQ_CST);
}

/* The thread that calls callbacks calls those of all pools. */
static void other_pools_have_their_turn(void)
{
    struct chain chain = {NULL, 0, 0};
    tine_pool *other;
    int told = 0;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    create(0, 2, &chain.pool);
    create(0, 1, &other);
    begin_chains(&chain);
    WAIT_UNTIL(__atomic_load_n(&chain.told, __ATOMIC_SEQ_CST) > 2 * CHAINS);
    options.on_settled = note;
    options.user = &told;
    CHECK_RC(tine_submit(other, nothing, NULL, 0, &options, NULL), 0);
    WAIT_UNTIL(__atomic_load_n(&told, __ATOMIC_SEQ_CST));
    CHECK_RC(tine_submit(other, nothing, NULL, 0, &options, NULL), 0);
    tine_pool_destroy(other);
    end_chains(&chain);
    tine_pool_destroy(chain.pool);
}

struct steps {
    int begun, settled, wrong;
};

static void begins(tine_id id, pid_t pid, void *user)
{
    struct steps *steps = (struct steps *)user;
    (void)id, (void)pid;
    nap_ns(MS);
    steps->wrong |= __atomic_load_n(&steps->settled, __ATOMIC_SEQ_CST);
    __atomic_store_n(&steps->begun, 1, __ATOMIC_SEQ_CST);
}

static void settles(const tine_result *result, void *user)
{
    struct steps *steps = (struct steps *)user;
    (void)result;
    steps->wrong |= !__atomic_load_n(&steps->begun, __ATOMIC_SEQ_CST);
    __atomic_store_n(&steps->settled, 1, __ATOMIC_SEQ_CST);
}

struct polled {
    tine_pool *pool;
    int is_over;
};

static void *poll_on(void *argument)
{
    struct polled *polled = (struct polled *)argument;
    while (!__atomic_load_n(&polled->is_over, __ATOMIC_SEQ_CST)) {
        CHECK(tine_pool_poll(polled->pool) >= 0);
        nap_ns(MS / 10);
    }
    return NULL;
}

/* However many threads tell: of one task, that it has begun comes first, and is told to the end. */
static void of_one_task_one_after_the_other(int threads_poll)
{
    static struct steps all[TASKS];
    struct polled polled = {NULL, 0};
    pthread_t threads[3];
    memset(all, 0, sizeof all);
    create(TINE_NO_THREAD, 2, &polled.pool);
    for (int i = 0; i < 3 && threads_poll; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, poll_on, &polled), 0);
    }
    for (int i = 0; i < TASKS; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.on_begin = begins;
        options.on_settled = settles;
        options.user = &all[i];
        CHECK_RC(tine_submit(polled.pool, nothing, NULL, 0, &options, NULL), 0);
    }
    /* Also where what is passed over is the last that there is to tell. */
    CHECK_RC(tine_wait_all(polled.pool, NULL, 0, HANG_NS), 0);
    for (int i = 0; i < TASKS; i++) {
        CHECK_EQ(all[i].begun, 1);
        CHECK_EQ(all[i].settled, 1);
        CHECK_EQ(all[i].wrong, 0);
    }
    __atomic_store_n(&polled.is_over, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 3 && threads_poll; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    tine_pool_destroy(polled.pool);
}

struct elsewhere {
    tine_channel *end;
    pthread_t thread;
    int begun, may_end, is_over;
};

static void *receive(void *argument)
{
    struct elsewhere *elsewhere = (struct elsewhere *)argument;
    char byte;
    size_t length;
    CHECK_RC(tine_channel_receive(elsewhere->end, HANG_NS, &byte, 1, &length), 0);
    return NULL;
}

static void stays(const tine_result *result, void *user)
{
    struct elsewhere *elsewhere = (struct elsewhere *)user;
    (void)result;
    CHECK(pthread_equal(pthread_self(), elsewhere->thread));
    __atomic_store_n(&elsewhere->begun, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&elsewhere->may_end, __ATOMIC_SEQ_CST)) {
        nap_ns(MS);
    }
    nap_ns(50 * MS);
    __atomic_store_n(&elsewhere->is_over, 1, __ATOMIC_SEQ_CST);
}

/* A pool without a thread is moved on in a call that waits for something else; it is not gone before a callback of it that runs there is over. */
static void a_pool_ends_after_its_callbacks(void)
{
    struct elsewhere elsewhere = {NULL, 0, 0, 0, 0};
    tine_pool *pool;
    tine_channel *other;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    create(TINE_NO_THREAD, 1, &pool);
    CHECK_RC(tine_channel_create(NULL, &elsewhere.end, &other), 0);
    options.on_settled = stays;
    options.user = &elsewhere;
    CHECK_RC(tine_submit(pool, nothing, NULL, 0, &options, NULL), 0);
    CHECK_EQ(pthread_create(&elsewhere.thread, NULL, receive, &elsewhere), 0);
    WAIT_UNTIL(__atomic_load_n(&elsewhere.begun, __ATOMIC_SEQ_CST));
    __atomic_store_n(&elsewhere.may_end, 1, __ATOMIC_SEQ_CST);
    tine_pool_destroy(pool);
    CHECK_EQ(__atomic_load_n(&elsewhere.is_over, __ATOMIC_SEQ_CST), 1);
    CHECK_RC(tine_channel_send(other, "x", 1, HANG_NS), 0);
    CHECK_EQ(pthread_join(elsewhere.thread, NULL), 0);
    tine_channel_close(elsewhere.end);
    tine_channel_close(other);
}

static void set(const tine_result *result, void *user)
{
    (void)result;
    CHECK_EQ(pthread_mutex_lock((pthread_mutex_t *)user), 0);
    CHECK_EQ(pthread_mutex_unlock((pthread_mutex_t *)user), 0);
}

/* A call that does not wait runs no user code but on a pool: who makes it may hold what a callback wants. */
static void a_try_beside_the_pool_calls_nobody(void)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    tine_pool *pool;
    tine_queue *queue;
    char byte;
    size_t length;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    create(TINE_NO_THREAD, 1, &pool);
    CHECK_RC(tine_queue_create(pool, NULL, &queue), 0);
    options.on_settled = set;
    options.user = &mutex;
    CHECK_EQ(pthread_mutex_lock(&mutex), 0);
    CHECK_RC(tine_submit(pool, nothing, NULL, 0, &options, NULL), 0);
    /* The task is over by the time that this says, and then a message is looked for. */
    tine_stats stats = TINE_STATS_INIT;
    WAIT_UNTIL(tine_pool_stats(pool, &stats) == 0 && stats.settled == 1);
    for (int i = 0; i < 20; i++) {
        CHECK_RC(tine_queue_get(queue, 0, &byte, 1, &length), -EAGAIN);
        nap_ns(MS);
    }
    CHECK_EQ(pthread_mutex_unlock(&mutex), 0);
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    tine_queue_destroy(queue);
    tine_pool_destroy(pool);
}

/* ---- Threads that wait inside a callback ---- */

/* Words in the pool's heap, by which tasks are told to end. */
enum { OPENS_LATER, WORDS };

struct nested {
    tine_pool *pool;
    tine_id later, other;
    int *words;
    int is_inside;
};

static int wait_for_word(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(word, __ATOMIC_SEQ_CST) && !tine_cancelled(task)) {
        nap_ns(MS / 10);
    }
    return 0;
}

static int nap_ms(tine_task *task)
{
    nap_ns(*(const int *)tine_input(task, NULL) * MS);
    return 0;
}

static void wait_inside(const tine_result *result, void *user)
{
    struct nested *nested = (struct nested *)user;
    tine_result later = TINE_RESULT_INIT;
    (void)result;
    __atomic_store_n(&nested->is_inside, 1, __ATOMIC_SEQ_CST);
    CHECK_RC(tine_wait(nested->pool, nested->later, HANG_NS, &later), 0);
    tine_result_release(nested->pool, &later);
    __atomic_store_n(&nested->is_inside, 2, __ATOMIC_SEQ_CST);
}

static void open_later(const tine_result *result, void *user)
{
    (void)result;
    __atomic_store_n(&((struct nested *)user)->words[OPENS_LATER], 1, __ATOMIC_SEQ_CST);
}

static void *poll_until_inside(void *argument)
{
    struct nested *nested = (struct nested *)argument;
    WAIT_UNTIL(tine_pool_poll(nested->pool) >= 0 && __atomic_load_n(&nested->is_inside, __ATOMIC_SEQ_CST) == 2);
    return NULL;
}

/* A thread that waits inside a callback leads, and cannot tell what it finds: one that follows does, though it waits for something else. */
static void who_follows_tells(void)
{
    struct nested nested = {NULL, 0, 0, NULL, 0};
    pthread_t thread;
    tine_result result = TINE_RESULT_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int short_ms = 10, long_ms = 300;
    create(TINE_NO_THREAD, 4, &nested.pool);
    nested.words = (int *)tine_calloc(nested.pool, WORDS, sizeof(int));
    CHECK(nested.words);
    int *word = &nested.words[OPENS_LATER];
    CHECK_RC(tine_submit(nested.pool, wait_for_word, &word, sizeof word, NULL, &nested.later), 0);
    CHECK_RC(tine_submit(nested.pool, wait_for_word, &word, sizeof word, NULL, &nested.other), 0);
    options.user = &nested;
    options.on_settled = wait_inside;
    CHECK_RC(tine_submit(nested.pool, nap_ms, &short_ms, sizeof short_ms, &options, NULL), 0);
    options.on_settled = open_later;
    CHECK_RC(tine_submit(nested.pool, nap_ms, &long_ms, sizeof long_ms, &options, NULL), 0);
    CHECK_EQ(pthread_create(&thread, NULL, poll_until_inside, &nested), 0);
    WAIT_UNTIL(__atomic_load_n(&nested.is_inside, __ATOMIC_SEQ_CST));
    /* So that it most likely sleeps by now, and leads. */
    nap_ns(50 * MS);
    CHECK_RC(tine_wait(nested.pool, nested.other, HANG_NS, &result), 0);
    tine_result_release(nested.pool, &result);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    tine_free(nested.pool, nested.words);
    tine_pool_destroy(nested.pool);
}

/* ---- Room in the window for more and for less ---- */

enum { SMALL = 3000, WINDOW = 10000, THREADS = 4 };

struct filled {
    tine_pool *pool;
    int is_over;
};

static void submit_bytes(tine_pool *pool, size_t length)
{
    static char bytes[WINDOW];
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.timeout_ns = HANG_NS;
    CHECK_RC(tine_submit(pool, nothing, bytes, length, &options, NULL), 0);
}

static void *fill(void *argument)
{
    struct filled *filled = (struct filled *)argument;
    while (!__atomic_load_n(&filled->is_over, __ATOMIC_SEQ_CST)) {
        submit_bytes(filled->pool, SMALL);
    }
    return NULL;
}

static void *take_on(void *argument)
{
    struct filled *filled = (struct filled *)argument;
    tine_result result = TINE_RESULT_INIT;
    while (__atomic_load_n(&filled->is_over, __ATOMIC_SEQ_CST) < 2) {
        int rc = tine_next(filled->pool, 10 * MS, &result);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == TINE_EEMPTY);
        if (rc == 0) {
            tine_result_release(filled->pool, &result);
            nap_ns(MS);
        }
    }
    return NULL;
}

/* Who needs the whole window has it at some time, though many others need less of it all the time. */
static void who_needs_more_has_it_too(void)
{
    struct filled filled = {NULL, 0};
    pthread_t threads[THREADS], taker;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    options.window_bytes = WINDOW;
    CHECK_RC(tine_pool_create(&options, &filled.pool), 0);
    CHECK_EQ(pthread_create(&taker, NULL, take_on, &filled), 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, fill, &filled), 0);
    }
    nap_ns(20 * MS);
    submit_bytes(filled.pool, WINDOW);
    __atomic_store_n(&filled.is_over, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    __atomic_store_n(&filled.is_over, 2, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(taker, NULL), 0);
    tine_pool_destroy(filled.pool);
}

struct room {
    tine_pool *pool;
    size_t length;
    int has_it;
};

static void *have_room(void *argument)
{
    struct room *room = (struct room *)argument;
    submit_bytes(room->pool, room->length);
    __atomic_store_n(&room->has_it, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* And who needs less does not sleep behind one for whom there is too little. */
static void who_needs_less_goes_first(void)
{
    struct room more = {NULL, WINDOW, 0}, less = {NULL, 10, 0};
    pthread_t threads[2];
    tine_result result = TINE_RESULT_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.window_bytes = WINDOW;
    CHECK_RC(tine_pool_create(&options, &less.pool), 0);
    more.pool = less.pool;
    for (int i = 0; i < 2; i++) {
        submit_bytes(less.pool, WINDOW / 2);
    }
    CHECK_RC(tine_wait_all(less.pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(pthread_create(&threads[0], NULL, have_room, &more), 0);
    nap_ns(50 * MS);
    CHECK_EQ(pthread_create(&threads[1], NULL, have_room, &less), 0);
    nap_ns(50 * MS);
    CHECK_RC(tine_next(less.pool, 0, &result), 0);
    tine_result_release(less.pool, &result);
    WAIT_UNTIL(__atomic_load_n(&less.has_it, __ATOMIC_SEQ_CST));
    CHECK_EQ(__atomic_load_n(&more.has_it, __ATOMIC_SEQ_CST), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_RC(tine_next(less.pool, HANG_NS, &result), 0);
        tine_result_release(less.pool, &result);
    }
    CHECK_EQ(pthread_join(threads[1], NULL), 0);
    CHECK_EQ(pthread_join(threads[0], NULL), 0);
    tine_pool_destroy(less.pool);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    calls_come_back();
    other_pools_have_their_turn();
    of_one_task_one_after_the_other(0);
    of_one_task_one_after_the_other(1);
    a_pool_ends_after_its_callbacks();
    a_try_beside_the_pool_calls_nobody();
    who_follows_tells();
    who_needs_more_has_it_too();
    who_needs_less_goes_first();
    return 0;
}
