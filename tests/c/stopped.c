/* Supervisors and workers that are stopped (SIGSTOP): nothing is lost, nobody is blamed, and the pool can be ended. */
#include "sights.h"

static int kill_itself(tine_task *task)
{
    (void)task;
    kill(getpid(), SIGKILL);
    return 0;
}

/* It is not on the path of tasks: these go on; a worker that dies meanwhile makes it go on. */
static void a_stopped_supervisor_loses_nothing(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sight *sight = new_sight(pool);
    tine_id id = submit_sight(pool, sight), dying;
    tine_result result;
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
    CHECK_EQ(kill(supervisor_of(sight), SIGSTOP), 0);
    for (int i = 0; i < 1000; i++) { /* One worker waits, the other serves. */
        tine_id one;
        CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &one), 0);
        take(pool, one, &result);
        CHECK_EQ(result.status, i + 1);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_submit(pool, kill_itself, NULL, 0, NULL, &dying), 0);
    take(pool, dying, &result); /* Who reaps it is stopped, and is told to go on. */
    CHECK_EQ(result.status, TINE_EDIED);
    CHECK_EQ(result.delivery, TINE_MAYBE_RAN);
    CHECK(result.death && result.death->signal == SIGKILL);
    tine_result_release(pool, &result);
    __atomic_store_n(&sight->let_go, 1, __ATOMIC_SEQ_CST);
    take(pool, id, &result);
    CHECK_EQ(result.status, 77);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

/* A worker that does not begin what it has been given, because it is stopped while it has nothing to do, loses it to others
 * and is replaced in the end. */
static void a_stopped_worker_keeps_nothing(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sight *sight = new_sight(pool);
    tine_id id = submit_sight(pool, sight), ids[100];
    tine_result result;
    tine_stats stats = TINE_STATS_INIT;
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
    __atomic_store_n(&sight->let_go, 1, __ATOMIC_SEQ_CST);
    take(pool, id, &result);
    CHECK_EQ(result.status, 77);
    tine_result_release(pool, &result);
    CHECK_EQ(kill(sight->pid, SIGSTOP), 0);
    for (int i = 0; i < 100; i++) {
        CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &ids[i]), 0);
    }
    for (int i = 0; i < 100; i++) {
        take(pool, ids[i], &result);
        CHECK_EQ(result.status, i + 1);
        tine_result_release(pool, &result);
    }
    for (int64_t last = clock_ns(), spent = 0; stats.worker_deaths == 0;) {
        int more = 0;
        CHECK(!is_over(HANG_NS, &last, &spent));
        CHECK_RC(tine_submit(pool, add_one, &more, sizeof more, NULL, &id), 0);
        take(pool, id, &result);
        CHECK_EQ(result.status, 1);
        tine_result_release(pool, &result);
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
    }
    CHECK_EQ(stats.worker_deaths, 1);
    struct process gone;
    WAIT_UNTIL(!look_at(sight->pid, &gone));
    tine_free(pool, sight);
    tine_pool_destroy(pool);
}

/* All workers are stopped for a while, and a task goes from one to the next: it is suspected of what becomes of them, but it has begun in
 * none, and nobody is given up before a second. A stop that the machine has made longer than that shows nothing. */
static void what_nobody_begins_is_not_to_blame(int start, int64_t stop_ns)
{
    enum { WORKERS = 4 };
    const int64_t limit_ns = 1000000000;
    tine_pool *pool = create_pool(start, WORKERS, 0);
    for (int64_t took = limit_ns, last = clock_ns(), spent = 0; took >= limit_ns;) {
        struct sight *sights[WORKERS];
        tine_id ids[WORKERS], id;
        tine_result result;
        tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
        int six = 6;
        CHECK(!is_over(10 * HANG_NS, &last, &spent));
        for (int i = 0; i < WORKERS; i++) {
            sights[i] = new_sight(pool);
            ids[i] = submit_sight(pool, sights[i]);
        }
        for (int i = 0; i < WORKERS; i++) {
            WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sights[i]->started, __ATOMIC_SEQ_CST));
        }
        for (int i = 0; i < WORKERS; i++) {
            __atomic_store_n(&sights[i]->let_go, 1, __ATOMIC_SEQ_CST);
            take(pool, ids[i], &result);
            CHECK_EQ(result.status, 77);
            tine_result_release(pool, &result);
        }
        CHECK_RC(tine_pool_stats(pool, &before), 0);
        int64_t began = clock_ns();
        for (int i = 0; i < WORKERS; i++) {
            CHECK_EQ(kill(sights[i]->pid, SIGSTOP), 0);
        }
        CHECK_RC(tine_submit(pool, add_one, &six, sizeof six, NULL, &id), 0);
        nap_ns(stop_ns);
        for (int i = 0; i < WORKERS; i++) {
            kill(sights[i]->pid, SIGCONT);
            tine_free(pool, sights[i]);
        }
        take(pool, id, &result);
        CHECK_RC(tine_pool_stats(pool, &after), 0);
        took = clock_ns() - began;
        if (took < limit_ns) {
            CHECK_EQ(result.status, 7);
            CHECK_EQ(after.worker_deaths, before.worker_deaths);
        }
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);
}

/* One that is stopped for good must not hold up the end either. */
static void a_stopped_family_can_be_destroyed(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sight *sight = new_sight(pool);
    submit_sight(pool, sight);
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
    CHECK_EQ(kill(sight->pid, SIGSTOP), 0);
    CHECK_EQ(kill(supervisor_of(sight), SIGSTOP), 0);
    int64_t began = clock_ns();
    tine_pool_destroy(pool);
    CHECK(clock_ns() - began < HANG_NS);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

static void run(int start)
{
    static const int64_t stops_ns[] = {150000000, 350000000, 700000000}; /* by start method */
    a_stopped_supervisor_loses_nothing(start);
    a_stopped_worker_keeps_nothing(start);
    what_nobody_begins_is_not_to_blame(start, stops_ns[start]);
    a_stopped_family_can_be_destroyed(start);
}

int main(int argc, char **argv)
{
    return run_with_each_start(argc, argv, run);
}
