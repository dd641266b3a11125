/* limit: 300
 *
 * Every system call of a pool's family fails once, each way that it can, in the host, the supervisor and the workers: while a
 * pool is created, and in the middle of its work, when a worker dies and another takes its place. Whatever fails: what was
 * asked for settles, nobody healthy is killed, what comes out is documented, the pool serves on, and nothing is left. */
#include "sweep.h"

/* How long a shortage lasts that is in the way. */
#define SHORTAGE_NS 100000000

static int start;

static int answer(tine_task *task)
{
    size_t length;
    const int *number = (const int *)tine_input(task, &length);
    return length == sizeof *number ? *number : -EINVAL;
}

static int rest(tine_task *task)
{
    nap_ns(20000000);
    return answer(task);
}

static int crash(tine_task *task)
{
    (void)task;
    fputs("I crash\n", stderr);
    _exit(77);
}

/* What a call may say that needed what there is not. */
static void check_want(int rc, const tine_error *error)
{
    static const int known[] = {-ENOMEM, -EMFILE, -ENFILE, -ENOSPC, -EPERM, -ENOSYS, TINE_EWORKERSTART};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (rc == known[i]) {
            return;
        }
    }
    fprintf(stderr, "%s is not documented: %s\n", tine_errname(rc), error->text);
    exit(1);
}

static tine_pool *create(int patient)
{
    tine_pool *pool;
    tine_error error = TINE_ERROR_INIT;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    options.workers = 2;
    options.start = start;
    options.heap_bytes = 1 << 26;
    options.start_timeout_ns = HANG_NS / 2;
    worker.output = TINE_OUTPUT_CAPTURE;
    options.error = &error;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0 && !patient) {
        fprintf(stderr, "%s: %s\n", tine_errname(rc), error.text);
    }
    if (rc != 0 && patient) {
        CHECK(sweep_struck());
        check_want(rc, &error);
        return NULL;
    }
    CHECK_RC(rc, 0);
    return pool;
}

/* Submits, where something is short again and again: an error is the answer to who asked. */
static tine_id submit(tine_pool *pool, tine_fn fn, int number)
{
    tine_id id = 0;
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.error = &error;
    for (int rc; (rc = tine_submit(pool, fn, &number, sizeof number, &options, &id)) != 0;) {
        if (!sweep_struck()) {
            fprintf(stderr, "submit: %s: %s\n", tine_errname(rc), error.text);
            exit(1);
        }
        check_want(rc, &error);
        sweep_end();
        options.error = &error;
    }
    return id;
}

static void settle(tine_pool *pool, tine_id id, int number)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    /* A process that was killed, or could not be what it is to be for good, is another matter. */
    if (result.status != number && !(sweep_struck() && sweep_kills() && result.delivery != TINE_RAN)) {
        fprintf(stderr, "a task ended with %s, delivery %d: %s\n", tine_errname(result.status), (int)result.delivery,
                result.message);
        exit(1);
    }
    tine_result_release(pool, &result);
}

/* It serves, with as many workers as before. */
static void check_serves(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    tine_id ids[8];
    for (int i = 0; i < 8; i++) {
        ids[i] = submit(pool, answer, i);
    }
    for (int i = 0; i < 8; i++) {
        settle(pool, ids[i], i);
    }
    int64_t last = clock_ns(), spent = 0;
    do {
        CHECK(!is_over(HANG_NS, &last, &spent));
        CHECK_RC(tine_pool_poll(pool), 0);
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
        nap_ns(200000);
    } while (stats.workers_ready < 2);
}

static void creation(void)
{
    struct belongings before = take_stock();
    sweep_begin();
    tine_pool *pool = create(1);
    sweep_end();
    if (!pool) {
        pool = create(0);
    }
    check_serves(pool);
    tine_pool_destroy(pool);
    check_stock(before);
}

static void death(void)
{
    struct belongings before = take_stock();
    tine_pool *pool = create(0);
    check_serves(pool);
    sweep_begin();
    tine_id resting = submit(pool, rest, 5), crashing = submit(pool, crash, 0), next = submit(pool, answer, 6);
    tine_result result = TINE_RESULT_INIT;
    /* A shortage lasts for a while, and then it is over. */
    int rc = tine_wait(pool, crashing, SHORTAGE_NS, &result);
    if (rc != 0) {
        CHECK_RC(rc, -ETIMEDOUT);
        sweep_end();
        CHECK_RC(tine_wait(pool, crashing, HANG_NS, &result), 0);
    }
    if (result.status != TINE_EDIED || !result.death || result.death->code != 77) {
        CHECK(sweep_kills() && result.delivery != TINE_RAN);
    }
    tine_result_release(pool, &result);
    settle(pool, resting, 5);
    sweep_end();
    settle(pool, next, 6);
    check_serves(pool);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    if (!sweep_kills()) {
        /* One that fell short when it was born is not one that was healthy. */
        CHECK(stats.worker_deaths == 1 || (stats.worker_deaths == 2 && sweep_struck()));
        CHECK_EQ(stats.supervisor_deaths, 0);
    }
    tine_pool_destroy(pool);
    check_stock(before);
}

#define WITH_EACH_START(part)                                                                \
    static void part##_forkserver(void) { start = TINE_START_FORKSERVER; part(); }           \
    static void part##_spawn(void) { start = TINE_START_SPAWN; part(); }                     \
    static void part##_fork(void) { start = TINE_START_FORK; part(); }
WITH_EACH_START(creation)
WITH_EACH_START(death)

static const struct sweep_scenario scenarios[] = {
    {"creation_forkserver", creation_forkserver, NULL}, {"creation_spawn", creation_spawn, NULL},
    {"creation_fork", creation_fork, NULL},             {"death_forkserver", death_forkserver, NULL},
    {"death_spawn", death_spawn, NULL},                 {"death_fork", death_fork, NULL},
};

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    return SWEEP_MAIN(argc, argv, scenarios);
}
