/* Callbacks and those beside them: calls that return though callbacks make ever more of them, other pools' callbacks, what is told of one
 * task at a time, and a pool that ends while a callback of it runs in a call that has nothing to do with it. */
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

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    calls_come_back();
    other_pools_have_their_turn();
    of_one_task_one_after_the_other(0);
    of_one_task_one_after_the_other(1);
    a_pool_ends_after_its_callbacks();
    a_try_beside_the_pool_calls_nobody();
    return 0;
}
