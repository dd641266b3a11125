/* Ending what runs: deadlines of tasks and of items, cancelling, retries, and replacing workers, with every start method.
 *
 * limit: 300 */
#include "family.h"

#define MS ((int64_t)1000000)
/* A grace that no task needs which gives up by itself, on however busy a machine. */
#define LONG (100000 * MS)

/* What a function does with the time that it is given. */
enum manner {
    QUICK,     /* returns at once */
    POLITE,    /* looks at tine_cancelled, and returns when it is true */
    SLEEPY,    /* sleeps, and dies of SIGTERM */
    STUBBORN,  /* ignores SIGTERM and computes */
    PARENT,    /* as STUBBORN, with a child process of its own */
    LASTING,   /* computes for .lasts_ns */
    CRASHING,  /* dies of SIGSEGV the first so many times */
};

struct job {
    enum manner manner;
    int crashes;
    int *tries;       /* in the heap: how often it was begun */
    int *started;     /* in the heap: set when it has begun */
    int *child;       /* in the heap: the child's pid */
    int64_t lasts_ns;
};

static int behave(tine_task *task, const struct job *job)
{
    int tries = job->tries ? __atomic_add_fetch(job->tries, 1, __ATOMIC_SEQ_CST) : 1;
    if (job->started) {
        __atomic_store_n(job->started, 1, __ATOMIC_SEQ_CST);
    }
    switch (job->manner) {
    case QUICK:
        return 7;
    case POLITE:
        while (!tine_cancelled(task)) {
            nap_ns(100000);
        }
        return tine_fail(task, -EIO, "stopped in the middle");
    case SLEEPY:
        for (;;) {
            pause();
        }
    case PARENT: {
        pid_t child = fork();
        if (child == 0) {
            for (;;) {
                pause();
            }
        }
        __atomic_store_n(job->child, (int)child, __ATOMIC_SEQ_CST);
    }
        /* fall through */
    case STUBBORN:
        signal(SIGTERM, SIG_IGN);
        for (volatile unsigned spins = 0;; spins++) {
        }
    case LASTING:
        for (int64_t until = clock_ns() + job->lasts_ns; clock_ns() < until;) {
        }
        return 7;
    case CRASHING:
        if (tries <= job->crashes) {
            raise(SIGSEGV);
        }
        return 9;
    }
    return -EINVAL;
}

static int run(tine_task *task)
{
    return behave(task, (const struct job *)tine_input(task, NULL));
}

static int run_item(tine_task *task, const void *in, void *out)
{
    int status = behave(task, (const struct job *)in);
    *(int *)out = status + 1;
    return status < 0 ? status : 0;
}

static tine_pool *make_pool(int start, size_t workers, tine_pool_options options)
{
    tine_pool *pool;
    tine_error error = TINE_ERROR_INIT;
    options.start = start;
    options.workers = workers;
    options.error = &error;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0) {
        fprintf(stderr, "tine_pool_create: %s: %s\n", tine_errname(rc), error.text);
        exit(1);
    }
    return pool;
}

static int *make_word(tine_pool *pool)
{
    int *word = (int *)tine_alloc(pool, sizeof *word);
    CHECK(word);
    *word = 0;
    return word;
}

static tine_id submit(tine_pool *pool, struct job job, tine_submit_options options)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, run, &job, sizeof job, &options, &id), 0);
    return id;
}

static tine_result result_of(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK(result.id == id);
    return result;
}

static struct job job_of(enum manner manner)
{
    struct job job = {manner, 0, NULL, NULL, NULL, 0};
    return job;
}

static int is_set(int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

/* The pool still works, with all of its workers. */
static void check_serves(tine_pool *pool)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id ids[8];
    for (int i = 0; i < 8; i++) {
        ids[i] = submit(pool, job_of(QUICK), options);
    }
    for (int i = 0; i < 8; i++) {
        tine_result result = result_of(pool, ids[i]);
        CHECK_EQ(result.status, 7);
        tine_result_release(pool, &result);
    }
}

static void check_ended(tine_pool *pool, tine_id id, int status, int delivery, int signal_, const char *message)
{
    tine_result result = result_of(pool, id);
    CHECK_RC(result.status, status);
    CHECK_EQ(result.delivery, delivery);
    CHECK_STR(result.message, message);
    CHECK(result.data == NULL && result.length == 0);
    CHECK_EQ(result.death != NULL, signal_ != 0);
    if (result.death) {
        CHECK_EQ(result.death->signal, signal_);
        CHECK_EQ(result.deaths, 1);
    }
    tine_result_release(pool, &result);
}

/* ---- Deadlines of tasks ---- */

static void deadlines(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.grace_ns = 40 * MS;
    tine_pool *pool = make_pool(start, 2, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    struct job parent = job_of(PARENT);
    parent.child = make_word(pool);

    options.deadline_ns = 20 * MS;
    tine_id sleepy = submit(pool, job_of(SLEEPY), options);
    tine_id stubborn = submit(pool, job_of(STUBBORN), options), family = submit(pool, parent, options);
    options.deadline_ns = LONG;
    tine_id quick = submit(pool, job_of(QUICK), options);
    check_ended(pool, sleepy, -ETIMEDOUT, TINE_MAYBE_RAN, SIGTERM, "past its deadline; its worker was ended");
    check_ended(pool, stubborn, -ETIMEDOUT, TINE_MAYBE_RAN, SIGKILL, "past its deadline; its worker was ended");
    check_ended(pool, family, -ETIMEDOUT, TINE_MAYBE_RAN, SIGKILL, "past its deadline; its worker was ended");
    struct process child;
    WAIT_UNTIL(!look_at((pid_t)is_set(parent.child), &child)); /* what the task had started goes with it */
    tine_result result = result_of(pool, quick);
    CHECK_EQ(result.status, 7);
    tine_result_release(pool, &result);
    check_serves(pool);
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 3);
    CHECK_EQ(stats.supervisor_deaths, 0);

    /* TINE_FOREVER is no deadline, also where the pool has one. */
    tine_pool_destroy(pool);
    settings.deadline_ns = 20 * MS;
    settings.grace_ns = LONG;
    pool = make_pool(start, 1, settings);
    options.deadline_ns = TINE_FOREVER;
    struct job waiting = job_of(POLITE);
    waiting.started = make_word(pool);
    tine_id endless = submit(pool, waiting, options);
    options.deadline_ns = 0;
    tine_id bounded = submit(pool, job_of(POLITE), options);
    WAIT_UNTIL((tine_pool_poll(pool), is_set(waiting.started)));
    CHECK_RC(tine_wait(pool, endless, 100 * MS, &result), -ETIMEDOUT);
    CHECK_RC(tine_cancel(pool, endless), 0);
    check_ended(pool, endless, -ECANCELED, TINE_RAN, 0, "stopped in the middle");
    check_ended(pool, bounded, -ETIMEDOUT, TINE_RAN, 0, "stopped in the middle");
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    tine_pool_destroy(pool);
}

/* What waits behind a late task runs elsewhere, and what is not late is never hit: neither behind one that has to be ended,
 * nor behind one that ends by itself at about the time of its deadline. */
static void neighbours(int start)
{
    enum { ROUNDS = 400, BESIDE = 6 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    int in_time = 0, ended = 0;
    settings.grace_ns = 1; /* at once */
    tine_pool *pool = make_pool(start, 2, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    for (int round = 0; round < ROUNDS; round++) {
        tine_id late, beside[BESIDE];
        struct job edge = job_of(LASTING), brief = job_of(LASTING);
        edge.lasts_ns = 2 * MS + (round % 40 - 15) * 5000;
        brief.lasts_ns = 20000;
        options.deadline_ns = 2 * MS;
        late = submit(pool, round % 20 == 0 ? job_of(STUBBORN) : round % 20 == 1 ? job_of(SLEEPY) : edge, options);
        for (int i = 0; i < BESIDE; i++) {
            options.deadline_ns = i % 2 ? 0 : 10000 * MS;
            beside[i] = submit(pool, brief, options);
        }
        tine_result result = result_of(pool, late);
        if (round % 20 > 1 && result.status == 7) {
            in_time++;
        } else {
            CHECK_RC(result.status, -ETIMEDOUT);
            CHECK(result.delivery == TINE_MAYBE_RAN || round % 20 > 1);
            ended++;
        }
        tine_result_release(pool, &result);
        for (int i = 0; i < BESIDE; i++) {
            result = result_of(pool, beside[i]);
            CHECK_EQ(result.status, 7);
            CHECK_EQ(result.deaths, 0);
            tine_result_release(pool, &result);
        }
    }
    printf("            %d in time, %d ended\n", in_time, ended);
    CHECK(ended >= ROUNDS / 10);
    tine_pool_destroy(pool);
}

/* A worker that a signal has reached just after its late task came to its end by itself: what it is given before its death is seen
 * has not begun, and runs elsewhere. */
static void a_signal_that_comes_late(int start)
{
    enum { ROUNDS = 500 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.grace_ns = 1; /* both signals at once */
    tine_pool *pool = make_pool(start, 1, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT, no_limits = TINE_SUBMIT_OPTIONS_INIT;
    struct job edge = job_of(LASTING), brief = job_of(LASTING);
    edge.lasts_ns = options.deadline_ns = 200000;
    brief.lasts_ns = 20000;
    int ended = 0;
    for (int round = 0; round < ROUNDS; round++) {
        tine_result result = result_of(pool, submit(pool, edge, options));
        /* Along the edge, wherever this machine has it: one that was in time lasts longer the next time, one that was not less long. */
        edge.lasts_ns += result.status == 7 ? edge.lasts_ns / 64 : -edge.lasts_ns / 64;
        ended += result.status != 7;
        tine_result_release(pool, &result);
        result = result_of(pool, submit(pool, brief, no_limits));
        CHECK_EQ(result.status, 7);
        CHECK_EQ(result.deaths, 0);
        tine_result_release(pool, &result);
    }
    CHECK(ended >= ROUNDS / 10);
    tine_pool_destroy(pool);
}

static void queue_deadlines(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.grace_ns = LONG;
    tine_pool *pool = make_pool(start, 1, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct job first = job_of(POLITE);
    first.started = make_word(pool);
    tine_id running = submit(pool, first, options), ids[20];
    WAIT_UNTIL((tine_pool_poll(pool), is_set(first.started)));
    for (int i = 0; i < 20; i++) {
        /* Some in the worker's ring, most in the queue; every other one may wait for ever. */
        options.queue_deadline_ns = i % 2 ? 0 : 5 * MS;
        ids[i] = submit(pool, job_of(QUICK), options);
    }
    for (int i = 0; i < 20; i += 2) {
        check_ended(pool, ids[i], -ETIMEDOUT, TINE_NOT_STARTED, 0, "it had not begun by its queue deadline");
    }
    CHECK_RC(tine_cancel(pool, running), 0);
    for (int i = 1; i < 20; i += 2) {
        tine_result result = result_of(pool, ids[i]);
        CHECK_EQ(result.status, 7);
        tine_result_release(pool, &result);
    }
    check_ended(pool, running, -ECANCELED, TINE_RAN, 0, "stopped in the middle");
    tine_pool_destroy(pool);
}

/* ---- Cancelling ---- */

static void cancelling(int start)
{
    static const enum manner manners[] = {POLITE, SLEEPY, STUBBORN};
    static const int signals[] = {0, SIGTERM, SIGKILL};
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_pool *pool = NULL;
    for (int i = 0; i < 3; i++) {
        if (i < 2) {
            tine_pool_destroy(pool);
            settings.grace_ns = i == 0 ? LONG : 40 * MS;
            pool = make_pool(start, 2, settings);
        }
        struct job job = job_of(manners[i]);
        job.started = make_word(pool);
        tine_id id = submit(pool, job, options), behind = submit(pool, job_of(QUICK), options);
        WAIT_UNTIL((tine_pool_poll(pool), is_set(job.started)));
        CHECK_RC(tine_cancel(pool, id), 0);
        CHECK_RC(tine_cancel(pool, id), 0); /* it is being cancelled already */
        check_ended(pool, id, -ECANCELED, signals[i] ? TINE_MAYBE_RAN : TINE_RAN, signals[i],
                    signals[i] ? "cancelled while it ran; its worker was ended" : "stopped in the middle");
        CHECK_RC(tine_cancel(pool, id), TINE_EID);
        tine_result result = result_of(pool, behind);
        CHECK_EQ(result.status, 7);
        tine_result_release(pool, &result);
    }

    /* All at once: two that run, and many that don't. */
    struct job job = job_of(STUBBORN);
    tine_id ids[1000];
    int ran = 0;
    job.tries = make_word(pool);
    for (int i = 0; i < 1000; i++) {
        ids[i] = submit(pool, job, options);
    }
    WAIT_UNTIL((tine_pool_poll(pool), is_set(job.tries) == 2));
    CHECK_EQ(tine_cancel_all(pool), 1000);
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    for (int i = 0; i < 1000; i++) {
        tine_result result = result_of(pool, ids[i]);
        CHECK_RC(result.status, -ECANCELED);
        CHECK(result.delivery == TINE_NOT_STARTED || result.delivery == TINE_MAYBE_RAN);
        ran += result.delivery == TINE_MAYBE_RAN;
        tine_result_release(pool, &result);
    }
    CHECK_EQ(ran, 2);
    CHECK_EQ(is_set(job.tries), 2);
    CHECK_EQ(tine_cancel_all(pool), 0);
    check_serves(pool);
    tine_pool_destroy(pool);
}

static void on_signal(int number)
{
    (void)number;
}

static int prepare_signal(tine_task *task)
{
    struct sigaction action;
    (void)task;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    return sigaction(SIGUSR2, &action, NULL);
}

static int sleep_once(tine_task *task)
{
    int *started = *(int *const *)tine_input(task, NULL);
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    __atomic_store_n(started, 1, __ATOMIC_SEQ_CST);
    sigsuspend(&before);
    return tine_cancelled(task) ? tine_fail(task, -EINTR, "woken") : -EIO;
}

/* A signal of the program's own choice gets a function out of a system call. */
static void cancel_signal(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.cancel_signal = SIGUSR2;
    settings.initializer = prepare_signal;
    settings.grace_ns = LONG;
    tine_pool *pool = make_pool(start, 1, settings);
    int *started = make_word(pool);
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, sleep_once, &started, sizeof started, NULL, &id), 0);
    WAIT_UNTIL((tine_pool_poll(pool), is_set(started)));
    CHECK_RC(tine_cancel(pool, id), 0);
    check_ended(pool, id, -ECANCELED, TINE_RAN, 0, "woken");
    tine_pool_destroy(pool);
}

/* ---- Retries ---- */

static void retries(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = make_pool(start, 2, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct job job = job_of(CRASHING);
    job.crashes = 2;

    /* Not declared idempotent: never again. */
    job.tries = make_word(pool);
    tine_result once = result_of(pool, submit(pool, job, options));
    CHECK_RC(once.status, TINE_EDIED);
    CHECK_EQ(once.deaths, 1);
    CHECK_EQ(*job.tries, 1);
    tine_result_release(pool, &once);

    options.flags = TINE_IDEMPOTENT;
    for (unsigned allowed = 0; allowed < 4; allowed++) {
        job.tries = make_word(pool);
        options.retries = allowed;
        tine_result result = result_of(pool, submit(pool, job, options));
        CHECK_RC(result.status, allowed < 2 ? TINE_EDIED : 9);
        CHECK_EQ(result.delivery, allowed < 2 ? TINE_MAYBE_RAN : TINE_RAN);
        CHECK_EQ(result.deaths, allowed < 2 ? allowed + 1 : 2);
        CHECK_EQ(*job.tries, allowed < 2 ? allowed + 1 : 3);
        tine_result_release(pool, &result);
    }

    /* An item of a map: the same, and no other item is run twice. */
    struct job items[40];
    int outputs[40], status[40];
    for (int chunk = 1; chunk <= 40; chunk += 13) {
        tine_map_options map = TINE_MAP_OPTIONS_INIT;
        map.status = status;
        map.chunk = (size_t)chunk;
        map.retries = 2;
        map.flags = TINE_IDEMPOTENT;
        for (int i = 0; i < 40; i++) {
            items[i] = job_of(i % 20 == 7 ? CRASHING : QUICK);
            items[i].crashes = i == 7 ? 2 : 3; /* the 27th does not make it */
            items[i].tries = make_word(pool);
        }
        CHECK_RC(tine_map(pool, run_item, items, sizeof items[0], outputs, sizeof outputs[0], 40, &map), TINE_EITEMS);
        for (int i = 0; i < 40; i++) {
            CHECK_RC(status[i], i == 27 ? TINE_EDIED : 0);
            CHECK_EQ(*items[i].tries, i % 20 == 7 ? 3 : 1);
            if (i != 27) {
                CHECK_EQ(outputs[i], i == 7 ? 10 : 8);
            }
            tine_free(pool, items[i].tries);
        }
    }
    tine_pool_destroy(pool);
}

/* ---- Deadlines of items ---- */

struct failures {
    int count, items[40], signals[40], statuses[40];
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct failures *failures = (struct failures *)user;
    CHECK(failures->count < 40);
    failures->items[failures->count] = (int)item;
    failures->statuses[failures->count] = result->status;
    failures->signals[failures->count++] = result->death ? result->death->signal : 0;
    CHECK(result->status != -ETIMEDOUT || strlen(result->message) > 0);
}

/* Only the item that is late fails, whatever the chunk. */
static void item_deadlines_with(int start, int64_t grace_ns, enum manner one, enum manner other, size_t chunk)
{
    enum { ITEMS = 30 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.grace_ns = grace_ns;
    tine_pool *pool = make_pool(start, 2, settings);
    struct job items[ITEMS];
    int outputs[ITEMS], status[ITEMS];
    struct failures failures;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    memset(&failures, 0, sizeof failures);
    map.status = status;
    map.chunk = chunk;
    map.item_deadline_ns = 300 * MS; /* the quick ones need none of it, on however busy a machine */
    map.on_failure = on_failure;
    map.user = &failures;
    for (int i = 0; i < ITEMS; i++) {
        items[i] = job_of(i == 5 || i == 29 ? one : i == 11 || i == 12 ? other : QUICK);
        items[i].tries = make_word(pool);
    }
    CHECK_RC(tine_map(pool, run_item, items, sizeof items[0], outputs, sizeof outputs[0], ITEMS, &map), TINE_EITEMS);
    for (int i = 0; i < ITEMS; i++) {
        int late = items[i].manner != QUICK;
        CHECK_RC(status[i], late ? -ETIMEDOUT : 0);
        CHECK_EQ(*items[i].tries, 1);
        if (!late) {
            CHECK_EQ(outputs[i], 8);
        }
        tine_free(pool, items[i].tries);
    }
    CHECK_EQ(failures.count, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_RC(failures.statuses[i], -ETIMEDOUT);
        enum manner manner = items[failures.items[i]].manner;
        CHECK_EQ(failures.signals[i], manner == POLITE ? 0 : manner == SLEEPY ? SIGTERM : SIGKILL);
    }
    tine_pool_destroy(pool);
}

static int quick_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    for (volatile int spins = 0; spins < 200; spins++) { /* long enough for the host to look in the middle of a chunk */
    }
    *(int *)out = *(const int *)in + 1;
    return 0;
}

/* What a worker says of itself is of the chunk that it is at, which it has reached before the host has taken the last one's result. */
static void chunks_in_a_row(int start)
{
    enum { ITEMS = 100000 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    tine_pool *pool = make_pool(start, 1, settings);
    int *items = (int *)calloc(ITEMS, sizeof *items), *outputs = (int *)calloc(ITEMS, sizeof *outputs);
    CHECK(items && outputs);
    for (int i = 0; i < ITEMS; i++) {
        items[i] = i;
    }
    map.item_deadline_ns = 3600 * 1000 * MS;
    for (map.chunk = 5; map.chunk <= 20; map.chunk *= 2) {
        memset(outputs, 0, ITEMS * sizeof *outputs);
        CHECK_RC(tine_map(pool, quick_item, items, sizeof *items, outputs, sizeof *outputs, ITEMS, &map), 0);
        for (int i = 0; i < ITEMS; i++) {
            CHECK_EQ(outputs[i], i + 1);
        }
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    free(items);
    free(outputs);
    tine_pool_destroy(pool);
}

static void item_deadlines(int start)
{
    item_deadlines_with(start, LONG, POLITE, POLITE, 7);
    item_deadlines_with(start, 10 * MS, SLEEPY, STUBBORN, 0);
    item_deadlines_with(start, 10 * MS, SLEEPY, STUBBORN, 7);
    item_deadlines_with(start, 10 * MS, SLEEPY, STUBBORN, 30);
}

/* ---- Several at a time ---- */

static void waiting_for_several(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.grace_ns = LONG;
    tine_pool *pool = make_pool(start, 2, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    struct job waiting = job_of(POLITE);
    tine_id ids[3] = {submit(pool, waiting, options), submit(pool, job_of(QUICK), options), 0};
    CHECK_RC(tine_wait_any(pool, ids, 0, 0, &result), TINE_EEMPTY);
    CHECK_RC(tine_wait_any(pool, ids, 3, 0, &result), TINE_EID);
    CHECK_RC(tine_wait_any(pool, NULL, 2, 0, &result), -EINVAL);
    CHECK_RC(tine_wait_any(pool, ids, 2, HANG_NS, &result), 0);
    CHECK(result.id == ids[1] && result.status == 7);
    CHECK_RC(tine_wait_any(pool, ids, 2, 0, &result), TINE_EID); /* one of them has been taken */
    CHECK_RC(tine_wait_any(pool, ids, 1, 0, &result), -EAGAIN);
    CHECK_RC(tine_wait_any(pool, ids, 1, 5 * MS, &result), -ETIMEDOUT);
    CHECK_RC(tine_wait_all(pool, ids, 1, 0), -EAGAIN);
    CHECK_RC(tine_wait_all(pool, NULL, 0, 5 * MS), -ETIMEDOUT);
    CHECK_RC(tine_wait_all(pool, ids, 3, 0), TINE_EID);
    ids[1] = submit(pool, job_of(QUICK), options);
    ids[2] = submit(pool, job_of(QUICK), options);
    CHECK_RC(tine_wait_all(pool, ids + 1, 2, HANG_NS), 0);
    CHECK_RC(tine_cancel(pool, ids[0]), 0);
    CHECK_RC(tine_wait_all(pool, ids, 3, HANG_NS), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tine_next(pool, 0, &result), 0); /* nobody has taken them */
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
    CHECK_RC(tine_wait_all(pool, NULL, 0, 0), 0);
    tine_pool_destroy(pool);
}

/* ---- Replacing workers ---- */

static int own_pid(tine_task *task)
{
    pid_t *pid = (pid_t *)tine_output(task, sizeof *pid);
    *pid = getpid();
    return 0;
}

static void recycling(int start)
{
    enum { TASKS = 200 };
    for (uint32_t most = 1; most <= 7; most += 3) {
        tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
        tine_stats stats = TINE_STATS_INIT;
        settings.max_tasks_per_worker = most;
        tine_pool *pool = make_pool(start, 2, settings);
        tine_id ids[TASKS];
        pid_t pids[TASKS];
        for (int i = 0; i < TASKS; i++) {
            CHECK_RC(tine_submit(pool, own_pid, NULL, 0, NULL, &ids[i]), 0);
        }
        for (int i = 0; i < TASKS; i++) {
            tine_result result = result_of(pool, ids[i]);
            CHECK_EQ(result.status, 0);
            pids[i] = *(const pid_t *)result.data;
            tine_result_release(pool, &result);
            uint32_t same = 0;
            for (int k = 0; k <= i; k++) {
                same += pids[k] == pids[i];
            }
            CHECK(same <= most);
        }
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
        CHECK(stats.workers_recycled + 2 >= TASKS / most);
        CHECK_EQ(stats.worker_deaths, 0);
        CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
        tine_pool_destroy(pool);
    }

    /* By age, and by the memory that it has kept. */
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    settings.recycle_age_ns = 5 * MS;
    tine_pool *pool = make_pool(start, 1, settings);
    WAIT_UNTIL((check_serves(pool), tine_pool_stats(pool, &stats) == 0 && stats.workers_recycled >= 3));
    CHECK_EQ(stats.worker_deaths, 0);
    tine_pool_destroy(pool);
}

static int hoard(tine_task *task)
{
    volatile char *kept = (volatile char *)malloc(8 << 20); /* never given back */
    (void)task;
    for (int i = 0; kept && i < 8 << 20; i += 4096) {
        kept[i] = 1;
    }
    return kept ? 0 : -ENOMEM;
}

static void hoard_once(tine_pool *pool)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, hoard, NULL, 0, NULL, &id), 0);
    tine_result result = result_of(pool, id);
    CHECK_EQ(result.status, 0);
    tine_result_release(pool, &result);
}

static void recycling_by_memory(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    settings.recycle_bytes = 64 << 20;
    tine_pool *pool = make_pool(start, 1, settings);
    WAIT_UNTIL((hoard_once(pool), tine_pool_stats(pool, &stats) == 0 && stats.workers_recycled >= 2));
    CHECK_EQ(stats.worker_deaths, 0);
    tine_pool_destroy(pool);
}

/* ---- Bad input ---- */

static void bad_options(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    struct {
        int64_t deadline, grace, age;
        int signal;
        const char *text;
    } bad[] = {
        {-2, 0, 0, 0, "deadline_ns is -2; it cannot be negative"},
        {0, -1, 0, 0, "grace_ns is -1; it cannot be negative"},
        {0, 0, -5, 0, "recycle_age_ns is -5; it cannot be negative"},
        {0, 0, 0, SIGKILL, "cancel_signal is 9, which cannot be handled"},
        {0, 0, 0, 65, "cancel_signal is 65, which cannot be handled"},
        {0, 0, 0, -1, "cancel_signal is -1, which cannot be handled"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.error = &error;
        options.workers = 1;
        options.deadline_ns = bad[i].deadline;
        options.grace_ns = bad[i].grace;
        options.recycle_age_ns = bad[i].age;
        options.cancel_signal = bad[i].signal;
        CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
        CHECK(pool == NULL);
        CHECK(strstr(error.text, bad[i].text));
    }
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    pool = make_pool(TINE_START_FORKSERVER, 1, settings);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id = 0;
    options.error = &error;
    options.deadline_ns = -7;
    CHECK_RC(tine_submit(pool, own_pid, NULL, 0, &options, &id), -EINVAL);
    CHECK(strstr(error.text, "deadline_ns is -7"));
    options.deadline_ns = 0;
    options.queue_deadline_ns = -1;
    CHECK_RC(tine_submit(pool, own_pid, NULL, 0, &options, &id), -EINVAL);
    CHECK(strstr(error.text, "queue_deadline_ns is -1"));
    options.queue_deadline_ns = 0;
    options.flags = TINE_IDEMPOTENT | 2;
    CHECK_RC(tine_submit(pool, own_pid, NULL, 0, &options, &id), -EINVAL);
    CHECK(strstr(error.text, "flags has bits 0x2"));
    CHECK(id == 0);
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    struct job item = job_of(QUICK);
    int out;
    map.error = &error;
    map.item_deadline_ns = -3;
    CHECK_RC(tine_map(pool, run_item, &item, sizeof item, &out, sizeof out, 1, &map), -EINVAL);
    CHECK(strstr(error.text, "item_deadline_ns is -3"));
    CHECK_EQ(tine_cancel_all(NULL), -EINVAL);
    CHECK_RC(tine_wait_all(NULL, NULL, 0, 0), -EINVAL);
    CHECK(!tine_cancelled(NULL));
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    static void (*const tests[])(int) = {deadlines, neighbours, a_signal_that_comes_late, queue_deadlines, cancelling, cancel_signal, retries,
                                         item_deadlines, chunks_in_a_row, waiting_for_several, recycling, recycling_by_memory};
    static const char *const names[] = {"deadlines", "neighbours", "a late signal", "queue deadlines", "cancelling", "cancel signal",
                                        "retries", "item deadlines", "chunks in a row", "waiting for several", "recycling", "recycling by memory"};
    bad_options();
    for (size_t start = 0; start < 3; start++) {
        for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
            int64_t began = clock_ns();
            if (argc > 1 && !strstr(names[i], argv[1])) {
                continue;
            }
            tests[i](all_starts[start]);
            printf("%-11s %-20s %6.2f s\n", start_name(all_starts[start]), names[i], (double)(clock_ns() - began) / 1e9);
            fflush(stdout);
        }
    }
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}
