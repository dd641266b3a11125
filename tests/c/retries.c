/* Workers that go: what they ran is run again after a death, where it may be, and one that has served long enough is replaced. With
 * every start method.
 *
 * limit: 300 */
#include "deadlines.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

static void note_deaths(const tine_result *result, size_t item, void *user)
{
    ((uint32_t *)user)[item] = result->deaths;
}

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
    uint32_t deaths[40];
    for (int chunk = 1; chunk <= 40; chunk += 13) {
        tine_map_options map = TINE_MAP_OPTIONS_INIT;
        map.status = status;
        map.chunk = (size_t)chunk;
        map.retries = 2;
        map.flags = TINE_IDEMPOTENT;
        map.on_failure = note_deaths;
        map.user = deaths;
        memset(deaths, 0, sizeof deaths);
        for (int i = 0; i < 40; i++) {
            items[i] = job_of(i % 20 == 7 ? CRASHING : QUICK);
            items[i].crashes = i == 7 ? 2 : 3; /* the 27th does not make it */
            items[i].tries = make_word(pool);
        }
        CHECK_RC(tine_map(pool, run_item, items, sizeof items[0], outputs, sizeof outputs[0], 40, &map), TINE_EITEMS);
        for (int i = 0; i < 40; i++) {
            CHECK_RC(status[i], i == 27 ? TINE_EDIED : 0);
            CHECK_EQ(*items[i].tries, i % 20 == 7 ? 3 : 1);
            CHECK_EQ(deaths[i], i == 27 ? 3 : 0);
            if (i != 27) {
                CHECK_EQ(outputs[i], i == 7 ? 10 : 8);
            }
            tine_free(pool, items[i].tries);
        }
    }
    tine_pool_destroy(pool);
}

/* ---- Replacing workers ---- */

static int tell_pid_and_wait(tine_task *task)
{
    pid_t *shared;
    memcpy(&shared, tine_input(task, NULL), sizeof shared);
    __atomic_store_n(shared, getpid(), __ATOMIC_RELEASE);
    while (!tine_cancelled(task))
        nap_ns(1000000);
    return 0;
}

/* A task that has been in a process that died, and is cancelled before another one begins with it, may have run. */
static void cancelled_between_two_tries(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    settings.flags = TINE_NO_THREAD; /* so that nothing happens between two calls */
    tine_pool *pool = make_pool(start, 1, settings);
    options.retries = 3;
    options.flags = TINE_IDEMPOTENT;
    for (int i = 0; i < 5; i++) {
        tine_id id = 0;
        tine_stats before = TINE_STATS_INIT, stats = TINE_STATS_INIT;
        pid_t *worker = (pid_t *)tine_calloc(pool, 1, sizeof *worker);
        CHECK_RC(tine_pool_stats(pool, &before), 0);
        CHECK_RC(tine_submit(pool, tell_pid_and_wait, &worker, sizeof worker, &options, &id), 0);
        WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(worker, __ATOMIC_ACQUIRE) != 0);
        CHECK_EQ(kill(*worker, SIGKILL), 0);
        WAIT_UNTIL(tine_pool_stats(pool, &stats) == 0 && stats.worker_deaths > before.worker_deaths);
        CHECK_RC(tine_cancel(pool, id), 0);
        tine_result result = result_of(pool, id);
        CHECK_RC(result.status, -ECANCELED);
        CHECK(result.delivery != TINE_NOT_STARTED); /* TINE_RAN: another worker was there already. */
        tine_result_release(pool, &result);
        tine_free(pool, worker);
    }
    tine_pool_destroy(pool);
}

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

/* The same, and takes longer where it is told to. */
static int own_pid_later(tine_task *task)
{
    const int *later = (const int *)tine_input(task, NULL);
    if (*later) {
        nap_ns(300000);
    }
    return own_pid(task);
}

/* What waits behind a task that takes longer than the last ones goes to the other worker, several at once: no more than that worker may
 * still be given. */
static void recycling_where_tasks_move(int start)
{
    enum { ROUNDS = 60, BATCH = 24, TASKS = ROUNDS * BATCH, MOST = 40 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.max_tasks_per_worker = MOST;
    tine_pool *pool = make_pool(start, 2, settings);
    static pid_t pids[TASKS];
    for (int done = 0; done < TASKS; done += BATCH) {
        tine_id ids[BATCH];
        for (int i = 0; i < BATCH; i++) {
            int later = i == 0;
            CHECK_RC(tine_submit(pool, own_pid_later, &later, sizeof later, NULL, &ids[i]), 0);
        }
        for (int i = 0; i < BATCH; i++) {
            tine_result result = result_of(pool, ids[i]);
            CHECK_EQ(result.status, 0);
            pids[done + i] = *(const pid_t *)result.data;
            tine_result_release(pool, &result);
        }
    }
    for (int i = 0; i < TASKS; i++) {
        int same = 0;
        for (int k = 0; k <= i; k++) {
            same += pids[k] == pids[i];
        }
        CHECK(same <= MOST);
    }
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

static int hoard_much(tine_task *task)
{
    int rc = 0;
    for (int i = 0; i < 12; i++) {
        rc = rc ? rc : hoard(task);
    }
    return rc;
}

/* A worker that is too large is replaced although the host had no descriptor for the first looks, and the worker is idle since. */
static void recycling_after_looks_that_failed(int start)
{
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    struct rlimit limit, none;
    tine_id id = 0;
    settings.recycle_bytes = 64 << 20;
    tine_pool *pool = make_pool(start, 1, settings);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK_RC(tine_submit(pool, hoard_much, NULL, 0, NULL, &id), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    tine_result result = result_of(pool, id);
    CHECK_EQ(result.status, 0);
    tine_result_release(pool, &result);
    for (int i = 0; i < 20; i++) {
        CHECK(tine_pool_poll(pool) >= 0);
        nap_ns(5000000);
    }
    CHECK(tine_pool_stats(pool, &stats) == 0 && stats.workers_recycled == 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && tine_pool_stats(pool, &stats) == 0 && stats.workers_recycled == 1);
    CHECK_EQ(stats.worker_deaths, 0);
    tine_pool_destroy(pool);
}

static int take_a_while(tine_task *task)
{
    (void)task;
    nap_ns(50000000);
    return 0;
}

static void hoard_or_die(tine_pool *pool)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, hoard, NULL, 0, NULL, &id), 0);
    tine_result result = result_of(pool, id);
    CHECK(result.status == 0 || result.status == TINE_EMEMORY);
    tine_result_release(pool, &result);
}

/* What a worker has by fork of its host's memory is not the worker's own, but what it takes or writes itself is. */
static void memory_of_the_host(int start)
{
    enum { LARGE = 160 << 20 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    char *large = (char *)malloc(LARGE);
    CHECK(large != NULL);
    memset(large, 1, LARGE);
    settings.recycle_bytes = settings.max_worker_bytes = 64 << 20;
    tine_pool *pool = make_pool(start, 1, settings);
    for (int i = 0; i < 5; i++) {
        tine_id id = 0;
        CHECK_RC(tine_submit(pool, take_a_while, NULL, 0, NULL, &id), 0);
        tine_result result = result_of(pool, id);
        CHECK_RC(result.status, 0);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.workers_recycled + stats.worker_deaths, 0);
    /* Which of the two looks comes first is a matter of chance: in the middle of a task, or after it. */
    WAIT_UNTIL((hoard_or_die(pool), tine_pool_stats(pool, &stats) == 0 && stats.workers_recycled + stats.worker_deaths >= 1));
    tine_pool_destroy(pool);
    free(large);
}

/* What a worker and its host tell each other of, in memory that both have. */
static struct steps {
    volatile int started, go, hoarding, end;
} *shared;

static int wait_to_start(tine_task *task)
{
    (void)task;
    for (shared->started = getpid(); !shared->go;) {
        nap_ns(1000000);
    }
    return 0;
}

static int hoard_and_stay(tine_task *task)
{
    int rc = hoard_much(task);
    for (shared->hoarding = 1; !shared->end;) {
        nap_ns(1000000);
    }
    return rc;
}

/* Whether this process has been given the descriptor by which it knows the other one. */
static int has_pidfd_of(int pid)
{
    for (int fd = 3; fd < 256; fd++) {
        char path[64], line[256];
        int of = 0;
        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        FILE *info = fopen(path, "r");
        while (info && fgets(line, sizeof line, info) && sscanf(line, "Pid: %d", &of) != 1) {
        }
        if (info) {
            fclose(info);
        }
        if (of == pid) {
            return 1;
        }
    }
    return 0;
}

static void *create(void *options)
{
    tine_pool *pool = NULL;
    CHECK_RC(tine_pool_create((const tine_pool_options *)options, &pool), 0);
    return pool;
}

/* The host has no descriptor for a look from the moment at which a worker becomes ready until the worker has taken what it must not. */
static void memory_of_the_host_after_looks_that_failed(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct rlimit limit, none;
    pthread_t thread;
    void *pool;
    if (start != TINE_START_FORK) {
        return; /* No other worker has memory of its host's. */
    }
    shared = (struct steps *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    options.workers = 1;
    options.start = start;
    options.flags = TINE_NO_THREAD;
    options.max_worker_bytes = 64 << 20;
    options.initializer = wait_to_start;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK_EQ(pthread_create(&thread, NULL, create, &options), 0);
    WAIT_UNTIL(shared->started && has_pidfd_of(shared->started));
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    shared->go = 1;
    CHECK_EQ(pthread_join(thread, &pool), 0);
    tine_id id = 0;
    CHECK_RC(tine_submit((tine_pool *)pool, hoard_and_stay, NULL, 0, NULL, &id), 0);
    WAIT_UNTIL(tine_pool_poll((tine_pool *)pool) >= 0 && shared->hoarding);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_wait((tine_pool *)pool, id, HANG_NS, &result);
    shared->end = 1;
    CHECK_RC(rc, 0);
    CHECK_RC(result.status, TINE_EMEMORY);
    tine_result_release((tine_pool *)pool, &result);
    tine_pool_destroy((tine_pool *)pool);
    CHECK_EQ(munmap(shared, 4096), 0);
}

int main(int argc, char **argv)
{
    static const struct timed_test tests[] = {
        {"retries", retries},
        {"cancelled between two tries", cancelled_between_two_tries},
        {"recycling", recycling},
        {"recycling where tasks move", recycling_where_tasks_move},
        {"recycling by memory", recycling_by_memory},
        {"recycling after looks that failed", recycling_after_looks_that_failed},
        {"memory of the host", memory_of_the_host},
        {"memory of the host, after looks that failed", memory_of_the_host_after_looks_that_failed},
    };
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    return run_timed(argc, argv, tests, sizeof tests / sizeof *tests);
}
