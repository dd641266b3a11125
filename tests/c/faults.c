/* Faults on request, .faults of a pool's options: each comes where it is asked for and nowhere else, a seed repeats a run, what makes no
 * sense is refused; and a storm of all of them at once, in which everything settles, once and right. With every start method.
 *
 * TINE_STORM=1: the storm fifty times as long. TINE_TEST_SEED: another one. */
#include "family.h"
#include "tasks.h"

static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
enum { STARTS = sizeof starts / sizeof starts[0] };

static tine_pool *make_pool(int start, size_t workers, const tine_faults *faults)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    options.error = &error;
    options.start = start;
    options.workers = workers;
    options.faults = faults;
    int rc = tine_pool_create(&options, &pool);
    if (rc) fprintf(stderr, "tine_pool_create: %s: %s\n", tine_errname(rc), error.text);
    CHECK_RC(rc, 0);
    return pool;
}

/* What a call leaves: how often it ran. */
static int counts(tine_task *task)
{
    int *const *word = (int *const *)tine_input(task, NULL);
    __atomic_fetch_add(*word, 1, __ATOMIC_SEQ_CST);
    return 7;
}

static tine_result count_once(tine_pool *pool, int *word, const tine_submit_options *options)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, counts, &word, sizeof word, options, &id), 0);
    return wait_for(pool, id);
}

/* ---- One fault, once ---- */

static void kills_of_tasks(int start)
{
    for (int after = 0; after < 2; after++) {
        tine_faults faults = TINE_FAULTS_INIT;
        *(after ? &faults.kill_return : &faults.kill_call) = 3;
        tine_pool *pool = make_pool(start, 1, &faults);
        for (int i = 1; i <= 5; i++) {
            int *word = make_word(pool);
            tine_result result = count_once(pool, word, NULL);
            CHECK_RC(result.status, i == 3 ? TINE_EDIED : 7);
            CHECK_EQ(result.delivery, i == 3 ? TINE_MAYBE_RAN : TINE_RAN);
            CHECK_EQ(*word, i == 3 ? after : 1);
            if (i == 3) CHECK_EQ(result.death->signal, SIGKILL);
            tine_result_release(pool, &result);
        }
        CHECK_EQ(stats_of(pool).worker_deaths, 1);
        tine_pool_destroy(pool);
    }

    /* What may be run again is, and the next number has no fault. */
    tine_faults faults = TINE_FAULTS_INIT;
    faults.kill_return = 1;
    tine_pool *pool = make_pool(start, 1, &faults);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.retries = 1;
    options.flags = TINE_IDEMPOTENT;
    int *word = make_word(pool);
    tine_result result = count_once(pool, word, &options);
    CHECK_RC(result.status, 7);
    CHECK_EQ(result.deaths, 1);
    CHECK_EQ(*word, 2);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

static int doubles(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = 2 * *(const int *)in;
    return 0;
}

static int nothing(tine_task *task, size_t begin, size_t end)
{
    (void)task;
    (void)begin;
    (void)end;
    return 0;
}

static void kills_of_items(int start)
{
    enum { ITEMS = 60, HIT = 21 };
    for (int after = 0; after < 2; after++) {
        tine_faults faults = TINE_FAULTS_INIT;
        *(after ? &faults.kill_return : &faults.kill_call) = HIT;
        tine_pool *pool = make_pool(start, 1, &faults);
        int in[ITEMS], out[ITEMS], status[ITEMS];
        tine_map_options map = TINE_MAP_OPTIONS_INIT;
        map.chunk = 16;
        map.status = status;
        for (int i = 0; i < ITEMS; i++)
            in[i] = i;
        CHECK_RC(tine_map(pool, doubles, in, sizeof in[0], out, sizeof out[0], ITEMS, &map), TINE_EITEMS);
        for (int i = 0; i < ITEMS; i++) {
            CHECK_RC(status[i], i == HIT - 1 ? TINE_EDIED : 0);
            if (i != HIT - 1) CHECK_EQ(out[i], 2 * i);
        }
        tine_pool_destroy(pool);
    }
    /* A piece of a loop is one call. */
    tine_faults faults = TINE_FAULTS_INIT;
    faults.kill_call = 2;
    tine_pool *pool = make_pool(start, 1, &faults);
    tine_map_options loop = TINE_MAP_OPTIONS_INIT;
    loop.chunk = 10;
    CHECK_RC(tine_for(pool, nothing, 0, 10, &loop), 0);
    CHECK_RC(tine_for(pool, nothing, 0, 10, &loop), TINE_EITEMS);
    CHECK_RC(tine_for(pool, nothing, 0, 10, &loop), 0);
    tine_pool_destroy(pool);
}

static void kills_of_starts(int start)
{
    tine_faults faults = TINE_FAULTS_INIT;
    faults.kill_start = 1;
    tine_pool *pool = make_pool(start, 1, &faults);
    int *word = make_word(pool);
    tine_result result = count_once(pool, word, NULL);
    CHECK_RC(result.status, 7);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);

    /* Each of them: there is no pool, and it says so when the time for a start is over. */
    faults.seed = 1;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.start = start;
    options.start_timeout_ns = 300000000;
    options.faults = &faults;
    CHECK_RC(tine_pool_create(&options, &pool), TINE_EWORKERSTART);
}

static void delays(int start)
{
    enum { LATE_NS = 30000000 };
    tine_faults faults = TINE_FAULTS_INIT;
    faults.delay_call = 2;
    faults.delay_ns = LATE_NS;
    tine_pool *pool = make_pool(start, 1, &faults);
    int *word = make_word(pool);
    for (int i = 1; i <= 2; i++) {
        int64_t began = clock_ns();
        tine_result result = count_once(pool, word, NULL);
        CHECK_RC(result.status, 7);
        if (i == 2) CHECK(clock_ns() - began >= LATE_NS);
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);

    /* It is the call's own time: one that would never begin is ended by its deadline. */
    faults.delay_call = 1;
    faults.delay_ns = INT64_MAX;
    pool = make_pool(start, 1, &faults);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.deadline_ns = 20000000;
    word = make_word(pool);
    tine_result result = count_once(pool, word, &options);
    CHECK_RC(result.status, -ETIMEDOUT);
    CHECK_EQ(*word, 0);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

/* ---- Allocations ---- */

static void *by_alloc(tine_pool *pool) { return tine_alloc(pool, 40); }
static void *by_calloc(tine_pool *pool) { return tine_calloc(pool, 4, 10); }
static void *by_aligned(tine_pool *pool) { return tine_alloc_aligned(pool, 64, 40); }
static void *by_realloc(tine_pool *pool) { return tine_realloc(pool, NULL, 40); }
static void *by_heap(tine_pool *pool) { return tine_heap_alloc(tine_pool_heap(pool), 40); }

/* The second of three: bits of those that were NULL. */
static int asks_for_memory(tine_task *task)
{
    int failed = 0;
    for (int i = 0; i < 3; i++) {
        void *block = i == 1 ? tine_output(task, 5000) : tine_alloc(tine_task_pool(task), 40);
        failed |= !block << i;
        if (i != 1) tine_free(tine_task_pool(task), block);
    }
    return failed;
}

static void allocations(int start)
{
    void *(*const calls[])(tine_pool *) = {by_alloc, by_calloc, by_aligned, by_realloc, by_heap};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        tine_faults faults = TINE_FAULTS_INIT;
        faults.fail_alloc = 3;
        tine_pool *pool = make_pool(start, 1, &faults);
        for (int number = 1; number <= 5; number++) {
            void *block = calls[i](pool);
            CHECK_EQ(block == NULL, number == 3);
            tine_free(pool, block);
        }
        tine_pool_destroy(pool);
    }

    /* A block that cannot become longer stays. */
    tine_faults faults = TINE_FAULTS_INIT;
    faults.fail_alloc = 2;
    tine_pool *pool = make_pool(start, 1, &faults);
    char *block = (char *)tine_alloc(pool, 10), *same = block;
    strcpy(block, "as it was");
    CHECK(tine_realloc(pool, block, 100000) == NULL);
    CHECK_STR(same, "as it was");
    tine_free(pool, same);
    tine_pool_destroy(pool);

    for (uint64_t number = 1; number <= 3; number++) {
        faults.fail_alloc = number;
        pool = make_pool(start, 1, &faults);
        for (int i = 0; i < 2; i++) {
            tine_result result = wait_for(pool, submit(pool, asks_for_memory, NULL, 0));
            CHECK_RC(result.status, i == 0 ? 1 << (number - 1) : 0);
            tine_result_release(pool, &result);
        }
        tine_pool_destroy(pool);
    }
}

/* ---- Seeds ---- */

enum { DRAWS = 120, ONE_IN = 12 };

static void draw(int start, uint64_t seed, char *died)
{
    tine_faults faults = TINE_FAULTS_INIT;
    faults.seed = seed;
    faults.kill_call = ONE_IN;
    tine_pool *pool = make_pool(start, 1, &faults);
    int *word = make_word(pool);
    for (int i = 0; i < DRAWS; i++) {
        tine_result result = count_once(pool, word, NULL);
        died[i] = result.status == TINE_EDIED;
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);
}

static void seeds(void)
{
    char first[DRAWS], again[DRAWS], other[DRAWS];
    int deaths = 0;
    draw(TINE_START_FORK, 42, first);
    draw(TINE_START_FORKSERVER, 42, again);
    draw(TINE_START_FORK, 43, other);
    for (int i = 0; i < DRAWS; i++)
        deaths += first[i];
    CHECK(deaths > 0 && deaths < DRAWS / 2);
    CHECK_EQ(memcmp(first, again, sizeof first), 0);
    CHECK(memcmp(first, other, sizeof first) != 0);
}

/* ---- What is refused ---- */

static void refuse(tine_pool_options options, const tine_faults *faults, const char *text)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool;
    options.error = &error;
    options.faults = faults;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
    if (!strstr(error.text, text)) {
        fprintf(stderr, "\"%s\" does not say \"%s\"\n", error.text, text);
        exit(1);
    }
}

static void refusals(void)
{
    tine_pool_options plain = TINE_POOL_OPTIONS_INIT, in_line = TINE_POOL_OPTIONS_INIT;
    tine_faults faults = TINE_FAULTS_INIT;
    faults.delay_call = 3;
    refuse(plain, &faults, "delay_call is 3, and delay_ns is 0");
    faults.delay_call = 0;
    faults.delay_ns = 5;
    refuse(plain, &faults, "delay_ns is 5, and delay_call is 0");
    faults.delay_ns = -5;
    refuse(plain, &faults, "faults.delay_ns is -5");
    faults.delay_ns = 0;
    faults.size = 3;
    refuse(plain, &faults, "tine_faults");
    faults.size = sizeof faults;
    faults.fail_alloc = 1;
    in_line.flags = TINE_INLINE;
    refuse(in_line, &faults, "TINE_INLINE");

    /* Nothing asked for is nothing. */
    tine_pool *pool;
    faults.fail_alloc = 0;
    faults.seed = 9;
    in_line.faults = &faults;
    CHECK_RC(tine_pool_create(&in_line, &pool), 0);
    tine_pool_destroy(pool);
}

/* ---- All of them ---- */

struct work {
    int *ran;
    uint32_t number;
};

static int work(tine_task *task)
{
    const struct work *work = (const struct work *)tine_input(task, NULL);
    __atomic_fetch_add(work->ran, 1, __ATOMIC_SEQ_CST);
    uint32_t *block = (uint32_t *)tine_alloc(tine_task_pool(task), 100 + work->number % 5000);
    uint32_t *out = (uint32_t *)tine_output(task, work->number % 2 ? 4 : 3000);
    int failed = !block || !out;
    tine_free(tine_task_pool(task), block);
    if (failed) return -ENOMEM;
    *out = work->number * 3;
    return 0;
}

static void storm(int start, uint64_t seed, uint32_t tasks)
{
    tine_faults faults = TINE_FAULTS_INIT;
    faults.seed = seed;
    faults.kill_start = 6;
    faults.kill_call = 50;
    faults.kill_return = 50;
    faults.delay_call = 40;
    faults.delay_ns = 100000;
    faults.fail_alloc = 30;
    tine_pool *pool = make_pool(start, 3, &faults);
    int *ran;
    do {
        ran = (int *)tine_calloc(pool, tasks, sizeof *ran); /* which may be the one that fails */
    } while (!ran);
    uint32_t died = 0, short_of_memory = 0, retried = 0;
    char *settled = (char *)calloc(tasks, 1);
    CHECK(settled);
    for (uint32_t i = 0; i < tasks; i++) {
        struct work job = {ran + i, i};
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        tine_id id;
        options.user = (void *)(uintptr_t)i;
        options.flags = i % 3 ? TINE_IDEMPOTENT : 0;
        options.retries = i % 3;
        CHECK_RC(tine_submit(pool, work, &job, sizeof job, &options, &id), 0);
    }
    for (uint32_t i = 0; i < tasks; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
        uint32_t number = (uint32_t)(uintptr_t)result.user;
        CHECK(number < tasks);
        CHECK_EQ(settled[number]++, 0);
        CHECK_EQ(result.delivery, result.status == TINE_EDIED ? TINE_MAYBE_RAN : TINE_RAN);
        CHECK(result.deaths <= number % 3 + 1);
        CHECK((uint32_t)ran[number] <= result.deaths + 1);
        retried += result.deaths > 0 && result.status != TINE_EDIED;
        died += result.status == TINE_EDIED;
        short_of_memory += result.status == -ENOMEM;
        if (result.status == 0) {
            CHECK_EQ(result.length, number % 2 ? 4 : 3000);
            CHECK_EQ(*(const uint32_t *)result.data, number * 3);
        } else {
            CHECK(result.status == TINE_EDIED || result.status == -ENOMEM);
        }
        tine_result_release(pool, &result);
    }
    CHECK(died > 0 && short_of_memory > 0 && retried > 0);
    tine_stats stats = stats_of(pool);
    CHECK_EQ(stats.settled, tasks);
    CHECK_EQ(stats.outstanding, 0);
    tine_free(pool, ran);
    free(settled);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    const char *given = getenv("TINE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : 20261127;
    uint32_t tasks = getenv("TINE_STORM") ? 20000 : 400;
    for (int i = 0; i < STARTS; i++) {
        kills_of_tasks(starts[i]);
        kills_of_items(starts[i]);
        kills_of_starts(starts[i]);
        delays(starts[i]);
        allocations(starts[i]);
        storm(starts[i], seed + (uint64_t)i, tasks);
    }
    seeds();
    refusals();
    return 0;
}
