/* Callbacks of tasks: each told exactly once, on a host thread that is in tine or on the pool's own, whatever the task
 * comes to; with every start method, and without workers. */
#include "family.h"
#include <poll.h>
#include <pthread.h>

#define MS ((int64_t)1000000)

enum { MANY = 1000 };

/* What the callbacks of one test write down. */
struct book {
    tine_pool *pool;
    int begun, settled, wrong, cancelled, died;
    pid_t pid, last_pid;
    pthread_t thread;
    int told[MANY];
    int left;
};

static int twice(tine_task *task)
{
    int n = *(const int *)tine_input(task, NULL);
    int *out = (int *)tine_output(task, sizeof *out);
    CHECK(out);
    *out = 2 * n;
    return n;
}

/* Every tenth dies. */
static int twice_or_dies(tine_task *task)
{
    return *(const int *)tine_input(task, NULL) % 10 == 3 ? raise(SIGKILL) : twice(task);
}

static int wait_for_go(tine_task *task)
{
    int *go = *(int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(go, __ATOMIC_SEQ_CST) && !tine_cancelled(task)) {
        nap_ns(100000);
    }
    return 3;
}

static int dies_twice(tine_task *task)
{
    int *tries = *(int *const *)tine_input(task, NULL);
    return __atomic_add_fetch(tries, 1, __ATOMIC_SEQ_CST) <= 2 ? raise(SIGKILL) : 8;
}

static void on_begin(tine_id id, pid_t pid, void *user)
{
    struct book *book = (struct book *)user;
    CHECK(id != 0 && pid > 0);
    book->last_pid = book->pid;
    book->pid = pid;
    book->thread = pthread_self();
    __atomic_add_fetch(&book->begun, 1, __ATOMIC_SEQ_CST);
}

static void on_settled(const tine_result *result, void *user)
{
    struct book *book = (struct book *)user;
    CHECK(result->user == user);
    book->thread = pthread_self();
    if (result->status == -ECANCELED) {
        book->cancelled++;
    } else if (result->status == TINE_EDIED) {
        CHECK(result->death && result->death->signal == SIGKILL);
        book->died++;
    } else if (result->length == sizeof(int)) {
        book->told[result->status]++;
        book->wrong += *(const int *)result->data != 2 * result->status;
    }
    __atomic_add_fetch(&book->settled, 1, __ATOMIC_SEQ_CST);
}

static tine_submit_options with(struct book *book)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.on_begin = on_begin;
    options.on_settled = on_settled;
    options.user = book;
    return options;
}

static void submit_many(tine_pool *pool, tine_fn fn, struct book *book)
{
    tine_submit_options options = with(book);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(tine_submit(pool, fn, &i, sizeof i, &options, NULL), 0);
    }
}

static void check_each_once(const struct book *book, int dying)
{
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(book->told[i], dying && i % 10 == 3 ? 0 : 1);
    }
    CHECK_EQ(book->wrong, 0);
    CHECK_EQ(book->settled, MANY);
    CHECK_EQ(book->begun, MANY);
    CHECK_EQ(book->died, dying ? MANY / 10 : 0);
}

/* The pool has no thread of tine's to tell. */
static int host_tells;

/* Whoever waits for everything waits for what is told, too. */
static void told_while_waiting(tine_pool *pool, int dying)
{
    static struct book book;
    memset(&book, 0, sizeof book);
    submit_many(pool, dying ? twice_or_dies : twice, &book);
    CHECK(!host_tells || book.settled == 0); /* nothing is told in tine_submit */
    CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    check_each_once(&book, dying);
    CHECK_EQ(!!pthread_equal(book.thread, pthread_self()), host_tells);
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
}

static void told_while_polling(tine_pool *pool)
{
    static struct book book;
    memset(&book, 0, sizeof book);
    struct pollfd fd = {tine_pool_fd(pool), POLLIN, 0};
    CHECK(fd.fd >= 0);
    submit_many(pool, twice, &book);
    int64_t last = clock_ns(), spent = 0;
    while (__atomic_load_n(&book.settled, __ATOMIC_SEQ_CST) < MANY) {
        CHECK(poll(&fd, 1, 1000) >= 0);
        CHECK_EQ(tine_pool_poll(pool), 0);
        CHECK(!is_over(HANG_NS, &last, &spent));
    }
    check_each_once(&book, 0);
}

/* The callback of each submits the next. */
static void submit_next(const tine_result *result, void *user)
{
    struct book *book = (struct book *)user;
    CHECK_EQ(result->status, MANY - book->left);
    book->settled++;
    if (--book->left > 0) {
        tine_submit_options options = with(book);
        int n = MANY - book->left;
        options.on_settled = submit_next;
        CHECK_EQ(tine_submit(book->pool, twice, &n, sizeof n, &options, NULL), 0);
    }
}

/* One that waits, in which no other callback runs. */
static void wait_inside(const tine_result *result, void *user)
{
    struct book *book = (struct book *)user;
    CHECK_EQ(result->status, 5);
    CHECK_EQ(book->left++, 0);
    int n = 9;
    tine_id id;
    tine_result inner = TINE_RESULT_INIT;
    CHECK_EQ(tine_submit(book->pool, twice, &n, sizeof n, NULL, &id), 0);
    CHECK_EQ(tine_wait(book->pool, id, HANG_NS, &inner), 0);
    CHECK_EQ(inner.status, 9);
    tine_result_release(book->pool, &inner);
    CHECK_EQ(--book->left, 0);
    book->settled++;
}

static void calls_from_callbacks(tine_pool *pool)
{
    struct book book;
    memset(&book, 0, sizeof book);
    tine_submit_options options = with(&book);
    int n = 0;
    book.pool = pool;
    book.left = MANY;
    options.on_settled = submit_next;
    CHECK_EQ(tine_submit(pool, twice, &n, sizeof n, &options, NULL), 0);
    CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(book.settled, MANY);

    book.left = book.settled = 0;
    options.on_settled = wait_inside;
    n = 5;
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(tine_submit(pool, twice, &n, sizeof n, &options, NULL), 0);
    }
    CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(book.settled, 50);
}

static void every_end(tine_pool *pool)
{
    struct book book;
    memset(&book, 0, sizeof book);
    tine_submit_options options = with(&book);
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    int *words = (int *)tine_calloc(pool, 2, sizeof *words);
    CHECK(words);

    /* Told that it has begun while it runs. */
    CHECK_EQ(tine_submit(pool, wait_for_go, &words, sizeof words, &options, &id), 0);
    CHECK_RC(tine_wait(pool, id, 0, &result), -EBUSY);
    int64_t last = clock_ns(), spent = 0;
    while (book.begun == 0) {
        CHECK_RC(tine_wait_all(pool, NULL, 0, MS), -ETIMEDOUT);
        CHECK(!is_over(HANG_NS, &last, &spent));
    }
    CHECK_EQ(book.settled, 0);
    CHECK(book.pid != getpid());
    CHECK_EQ(tine_cancel(pool, id), 0);
    CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(book.settled, 1);
    CHECK_EQ(book.cancelled, 1);
    CHECK_RC(tine_wait(pool, id, 0, &result), TINE_EID);

    /* Begun three times. */
    int *tries = &words[1];
    memset(&book, 0, sizeof book);
    options.flags = TINE_IDEMPOTENT;
    options.retries = 2;
    CHECK_EQ(tine_submit(pool, dies_twice, &tries, sizeof tries, &options, NULL), 0);
    CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(book.begun, 3);
    CHECK_EQ(book.settled, 1);
    CHECK_EQ(book.died, 0);
    CHECK(book.pid != book.last_pid);

    /* on_begin alone leaves the result to tine_next. */
    memset(&book, 0, sizeof book);
    options = with(&book);
    options.on_settled = NULL;
    int n = 4;
    CHECK_EQ(tine_submit(pool, twice, &n, sizeof n, &options, NULL), 0);
    CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 4);
    WAIT_UNTIL(__atomic_load_n(&book.begun, __ATOMIC_SEQ_CST) == 1);
    tine_result_release(pool, &result);
    tine_free(pool, words);
}

/* What a pool still has when it is destroyed is told, too: of what never began only that it has settled. */
static void told_at_the_end(int start, uint32_t flags)
{
    static struct book book;
    memset(&book, 0, sizeof book);
    tine_pool *pool = create_pool(start, 2, flags);
    int *go = (int *)tine_calloc(pool, 1, sizeof *go);
    CHECK(go);
    tine_submit_options options = with(&book);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(tine_submit(pool, wait_for_go, &go, sizeof go, &options, NULL), 0);
    }
    tine_pool_destroy(pool);
    CHECK_EQ(book.settled, 50);
    CHECK(book.begun <= 2);
    CHECK(book.died + book.cancelled == 50);

    memset(&book, 0, sizeof book);
    pool = create_pool(start, 2, flags);
    submit_many(pool, twice, &book);
    CHECK_EQ(tine_pool_shutdown(pool, HANG_NS), 0);
    check_each_once(&book, 0);
    tine_pool_destroy(pool);
    CHECK_EQ(book.settled, MANY);
}

/* The host never calls: tine's own thread tells, and it alone. */
static void told_without_a_call(int start, uint32_t flags)
{
    static struct book book;
    memset(&book, 0, sizeof book);
    tine_pool *pool = create_pool(start, 2, flags);
    for (int round = 0; round < 5; round++) {
        memset(&book, 0, sizeof book);
        submit_many(pool, flags ? twice : twice_or_dies, &book);
        if (round % 2) {
            CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
        } else {
            WAIT_UNTIL(__atomic_load_n(&book.settled, __ATOMIC_SEQ_CST) == MANY);
        }
        check_each_once(&book, !flags);
        CHECK(!pthread_equal(book.thread, pthread_self()));
    }
    tine_pool_destroy(pool);
}

static void *wait_too(void *user)
{
    CHECK_EQ(tine_wait_all((tine_pool *)user, NULL, 0, HANG_NS), 0);
    return NULL;
}

/* Several threads wait and tell. */
static void told_by_many(tine_pool *pool)
{
    static struct book book;
    memset(&book, 0, sizeof book);
    pthread_t threads[3];
    tine_submit_options options = with(&book);
    options.on_begin = NULL;
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(tine_submit(pool, twice, &i, sizeof i, &options, NULL), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, wait_too, pool), 0);
    }
    CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(__atomic_load_n(&book.settled, __ATOMIC_SEQ_CST), MANY);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

static int inner_settled;

static void count_inner(const tine_result *result, void *user)
{
    (void)user;
    CHECK_EQ(result->status, 6);
    CHECK_EQ(*(const int *)result->data, 12);
    inner_settled++;
}

/* A task that submits to its own pool, and leaves what it has submitted. */
static int submits_inside(tine_task *task)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int n = 6;
    options.on_settled = count_inner;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(tine_submit(tine_task_pool(task), twice, &n, sizeof n, &options, NULL), 0);
    }
    return *(const int *)tine_input(task, NULL);
}

static void submit_such(const tine_result *result, void *user)
{
    tine_pool *pool = (tine_pool *)user;
    tine_result inner = TINE_RESULT_INIT;
    tine_id id;
    int n = 4;
    CHECK_EQ(result->status, 5);
    CHECK_EQ(tine_submit(pool, submits_inside, &n, sizeof n, NULL, &id), 0);
    CHECK_EQ(tine_wait(pool, id, HANG_NS, &inner), 0);
    CHECK_EQ(inner.status, 4);
    tine_result_release(pool, &inner);
}

/* Callbacks inside of tasks are told before the task is over, also where the task runs inside of a callback. */
static void callbacks_inside(tine_pool *pool)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int n = 5;
    options.on_settled = submit_such;
    options.user = pool;
    inner_settled = 0;
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(tine_submit(pool, submits_inside, &n, sizeof n, &options, NULL), 0);
        CHECK_EQ(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
        CHECK_EQ(inner_settled, 6 * i);
    }
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        for (uint32_t flags = 0; flags <= TINE_NO_THREAD; flags += TINE_NO_THREAD) {
            tine_pool *pool = create_pool(all_starts[i], 2, flags);
            host_tells = flags != 0;
            told_while_waiting(pool, 0);
            told_while_waiting(pool, 1);
            told_by_many(pool);
            calls_from_callbacks(pool);
            every_end(pool);
            told_while_polling(pool);
            tine_pool_destroy(pool);
        }
        told_at_the_end(all_starts[i], 0);
        told_at_the_end(all_starts[i], TINE_NO_THREAD);
        told_without_a_call(all_starts[i], 0);
    }
    host_tells = 0;
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, TINE_INLINE);
    told_while_waiting(pool, 0);
    calls_from_callbacks(pool);
    callbacks_inside(pool);
    tine_pool_destroy(pool);
    told_without_a_call(TINE_START_FORKSERVER, TINE_INLINE);
    return 0;
}
