/* A program that has threads before tine_init, as one of another language's runtime has: so its supervisor has them, too,
   and the kernel may tell any of them that a worker has died. */
#include <tine.h>
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

enum { THREADS = 3, DEATHS = 30 };

static void *sleep_for_ever(void *nothing)
{
    for (;;)
        pause();
    return nothing;
}

static int die(tine_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int live(tine_task *task)
{
    (void)task;
    return 7;
}

static int status_of(tine_pool *pool, tine_fn fn)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, NULL, 0, NULL, &id), 0);
    /* Ten times the promise: the supervisor may be started anew in between. */
    CHECK_RC(tine_wait(pool, id, 10 * INT64_C(1000000000), &result), 0);
    int status = result.status;
    tine_result_release(pool, &result);
    return status;
}

int main(int argc, char **argv)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN};
    for (int at = 0; at < THREADS; at++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0);
    }
    tine_init(argc, argv);
    for (int at = 0; at < 2; at++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_stats stats = TINE_STATS_INIT;
        tine_pool *pool = NULL;
        options.workers = 1;
        options.start = starts[at];
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        for (int death = 0; death < DEATHS; death++) {
            CHECK_RC(status_of(pool, die), TINE_EDIED);
            CHECK_EQ(status_of(pool, live), 7);
        }
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
        CHECK_EQ(stats.worker_deaths, DEATHS);
        CHECK_EQ(stats.supervisor_deaths, 0);
        tine_pool_destroy(pool);
    }
    return 0;
}
