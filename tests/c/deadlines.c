/* Ending what runs: deadlines of tasks, and cancelling, with every start method.
 *
 * limit: 300 */
#include "deadlines.h"

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
            CHECK_STR(result.message, "");
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
        CHECK_STR(result.message, "");
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
        check_ended(pool, ids[i], -ETIMEDOUT, TINE_NOT_STARTED, 0, "the task had not begun by its queue deadline");
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
    CHECK_RC(tine_submit(pool, run, NULL, 0, &options, &id), -EINVAL);
    CHECK(strstr(error.text, "deadline_ns is -7"));
    options.deadline_ns = 0;
    options.queue_deadline_ns = -1;
    CHECK_RC(tine_submit(pool, run, NULL, 0, &options, &id), -EINVAL);
    CHECK(strstr(error.text, "queue_deadline_ns is -1"));
    options.queue_deadline_ns = 0;
    options.flags = TINE_IDEMPOTENT | 2;
    CHECK_RC(tine_submit(pool, run, NULL, 0, &options, &id), -EINVAL);
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
    static const struct timed_test tests[] = {
        {"deadlines", deadlines},
        {"neighbours", neighbours},
        {"a late signal", a_signal_that_comes_late},
        {"queue deadlines", queue_deadlines},
        {"cancelling", cancelling},
        {"cancel signal", cancel_signal},
        {"waiting for several", waiting_for_several},
    };
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    bad_options();
    return run_timed(argc, argv, tests, sizeof tests / sizeof *tests);
}
