/* Storms of workers that are ended on purpose: by deadlines that they ignore, and because they have served their time.
 *
 * Each is run by a host that waits for its results, and by one that makes no call for a second at a time: what is due is done all the same.
 * TINE_STORM=long makes both as long as the promises say; `make storm` does.
 * limit: 300 */
#include "family.h"

#define MS ((int64_t)1000000)

struct job {
    uint32_t number;
    int64_t *began_ns; /* in the heap: when each task began, by the worker's clock */
    uint32_t *runs;    /* in the heap: how often each was run */
};

/* A third each: over at once, dies of SIGTERM, ignores it. */
static int be_late(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    __atomic_add_fetch(&job->runs[job->number], 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&job->began_ns[job->number], clock_ns(), __ATOMIC_SEQ_CST);
    if (job->number % 3 == 0) {
        return 5;
    }
    if (job->number % 3 == 1) {
        signal(SIGTERM, SIG_IGN);
    }
    for (;;) {
        nap_ns(5 * MS);
    }
}

static tine_pool *make_pool(tine_pool_options options)
{
    tine_pool *pool;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    return pool;
}

static void *make_array(tine_pool *pool, size_t bytes)
{
    void *array = tine_alloc(pool, bytes);
    CHECK(array);
    memset(array, 0, bytes);
    return array;
}

/* The next result. A silent host makes no call for a second when there is none yet; returns how often it had to. */
static uint32_t take(tine_pool *pool, int is_silent, tine_result *result, int *rc)
{
    uint32_t silences = 0;
    int64_t limit = clock_ns() + HANG_NS;
    while ((*rc = tine_next(pool, is_silent ? 0 : HANG_NS, result)) == -EAGAIN) {
        CHECK(clock_ns() < limit);
        nap_ns(1000 * MS);
        silences++;
    }
    return silences;
}

static void deadlines(int start, int is_silent, uint32_t tasks, int64_t deadline_ns)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.start = start;
    options.workers = 8;
    options.deadline_ns = deadline_ns;
    options.grace_ns = 50 * MS;
    tine_pool *pool = make_pool(options);
    struct job job = {0, (int64_t *)make_array(pool, tasks * sizeof(int64_t)), (uint32_t *)make_array(pool, tasks * sizeof(uint32_t))};
    int64_t *late_ns = (int64_t *)calloc(tasks, sizeof *late_ns);
    uint32_t late = 0, settled = 0, quick = 0, killed = 0, silences = 0;
    int64_t began = clock_ns();
    CHECK(late_ns);
    for (job.number = 0; job.number < tasks; job.number++) {
        tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
        submit.user = (void *)(uintptr_t)job.number;
        CHECK_RC(tine_submit(pool, be_late, &job, sizeof job, &submit, NULL), 0);
    }
    tine_result result = TINE_RESULT_INIT;
    int rc;
    while (silences += take(pool, is_silent, &result, &rc), rc == 0) {
        uint32_t number = (uint32_t)(uintptr_t)result.user;
        int64_t now = clock_ns(), ran_ns = now - job.began_ns[number];
        settled++;
        CHECK_EQ(job.runs[number], 1);
        if (result.status == 5) {
            quick++;
        } else {
            CHECK_RC(result.status, -ETIMEDOUT);
            CHECK_EQ(result.delivery, number % 3 == 0 ? result.delivery : TINE_MAYBE_RAN);
            if (number % 3 == 1) {
                CHECK_EQ(result.death->signal, SIGKILL);
                killed++;
                late_ns[late++] = ran_ns - deadline_ns - options.grace_ns;
                CHECK(ran_ns - deadline_ns - options.grace_ns < HANG_NS);
            }
        }
        tine_result_release(pool, &result);
    }
    CHECK_RC(rc, TINE_EEMPTY);
    CHECK_EQ(settled, tasks);
    CHECK_EQ(killed, (tasks + 1) / 3);
    /* The pool serves on. */
    job.number = 0;
    job.runs[0] = 0;
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, be_late, &job, sizeof job, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 5);
    tine_result_release(pool, &result);
    qsort(late_ns, late, sizeof *late_ns, compare_int64);
    printf("%-10s %u tasks with %d ms, %u silences, %.1f s: settled %u, in time %u, killed %u; %s later than deadline and grace by "
           "p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n",
           start_name(start), tasks, (int)(deadline_ns / MS), silences, (double)(clock_ns() - began) / 1e9, settled, quick, killed,
           is_silent ? "taken" : "settled", (double)late_ns[late / 2] / 1e6, (double)late_ns[late * 99 / 100] / 1e6,
           (double)late_ns[(size_t)late * 999 / 1000] / 1e6, (double)late_ns[late - 1] / 1e6);
    free(late_ns);
    tine_pool_destroy(pool);
}

static int count(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    __atomic_add_fetch(&job->runs[job->number], 1, __ATOMIC_SEQ_CST);
    return (int)(job->number % 100);
}

static void recycling(int start, int is_silent, uint32_t tasks)
{
    int64_t began = clock_ns();
    uint64_t recycled = 0;
    uint32_t settled = 0, silences = 0;
    for (uint32_t most = 1; most <= 7; most++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.start = start;
        options.workers = 2;
        options.max_tasks_per_worker = most;
        struct belongings before = take_stock();
        tine_pool *pool = make_pool(options);
        struct job job = {0, NULL, (uint32_t *)make_array(pool, tasks * sizeof(uint32_t))};
        for (job.number = 0; job.number < tasks; job.number++) {
            tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
            submit.user = (void *)(uintptr_t)job.number;
            CHECK_RC(tine_submit(pool, count, &job, sizeof job, &submit, NULL), 0);
        }
        tine_result result = TINE_RESULT_INIT;
        int rc;
        while (silences += take(pool, is_silent, &result, &rc), rc == 0) {
            uint32_t number = (uint32_t)(uintptr_t)result.user;
            CHECK_EQ(result.status, number % 100);
            CHECK_EQ(job.runs[number], 1);
            tine_result_release(pool, &result);
            settled++;
        }
        CHECK_RC(rc, TINE_EEMPTY);
        tine_stats stats = TINE_STATS_INIT;
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
        CHECK_EQ(stats.worker_deaths, 0);
        CHECK(stats.workers_recycled + 2 >= tasks / most);
        recycled += stats.workers_recycled;
        tine_pool_destroy(pool);
        check_stock(before);
    }
    printf("%-10s %u tasks, workers replaced after 1 to 7 of them, %u silences, %.1f s: settled %u, replaced %llu\n",
           start_name(start), 7 * tasks, silences, (double)(clock_ns() - began) / 1e9, settled, (unsigned long long)recycled);
    CHECK_EQ(settled, 7 * tasks);
}

int main(int argc, char **argv)
{
    const char *storm = getenv("TINE_STORM");
    int is_long = storm && strcmp(storm, "long") == 0;
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int is_silent = 0; is_silent < 2; is_silent++) {
        for (size_t start = 0; start < 3; start++) {
            uint32_t few = is_silent ? 24 : 120;
            deadlines(all_starts[start], is_silent, is_long ? 2000 : few, (is_long ? 200 : 50) * MS);
        }
        for (size_t start = 0; start < (is_long || !is_silent ? 3 : 1); start++) {
            uint32_t few = is_silent ? 100 : start == 0 ? 1800 : 800;
            recycling(all_starts[start], is_silent, is_long ? 47620 : few);
        }
    }
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}
