/* Maps beside other maps and tasks, calls of tine from their callbacks, and a shutdown while one is under way. */
#include "maps.h"
#include <pthread.h>
#include <unistd.h>

/* ---- Several at once, and calls from callbacks ---- */

static int half(tine_task *task)
{
    int *out = (int *)tine_output(task, sizeof *out);
    *out = *(const int *)tine_input(task, NULL) / 2;
    return 0;
}

static void *maps_in_thread(void *argument)
{
    tine_pool *pool = *(tine_pool **)argument;
    int in[500], out[500];
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 500; i++)
            in[i] = i * round;
        tine_map_options options = TINE_MAP_OPTIONS_INIT;
        options.chunk = (size_t)round % 4;
        CHECK_RC(tine_map(pool, next_int, in, sizeof *in, out, sizeof *out, 500, &options), 0);
        for (int i = 0; i < 500; i++)
            CHECK_EQ(out[i], i * round + 1);
    }
    return NULL;
}

static void *tasks_in_thread(void *argument)
{
    tine_pool *pool = *(tine_pool **)argument;
    for (int i = 0; i < 1000; i++) {
        tine_result result = TINE_RESULT_INIT;
        tine_id id;
        CHECK_RC(tine_submit(pool, half, &i, sizeof i, NULL, &id), 0);
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
        CHECK_EQ(*(const int *)result.data, i / 2);
        tine_result_release(pool, &result);
    }
    return NULL;
}

static void at_once(tine_pool *pool)
{
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, i % 4 == 3 ? tasks_in_thread : maps_in_thread, &pool), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* A map waits for its own chunks, and what else finishes meanwhile is still there for tine_next. */
struct caller {
    tine_pool *pool;
    int submitted;
    void *block;
};

static void calls_tine(size_t done, size_t total, void *user)
{
    struct caller *caller = (struct caller *)user;
    int value = (int)done;
    (void)total;
    tine_free(caller->pool, caller->block);
    caller->block = tine_alloc(caller->pool, 1000);
    CHECK(caller->block != NULL);
    CHECK_RC(tine_submit(caller->pool, half, &value, sizeof value, NULL, NULL), 0);
    caller->submitted++;
    int in = 1, out = 0;
    CHECK_RC(tine_map(caller->pool, next_int, &in, sizeof in, &out, sizeof out, 1, NULL), 0);
    CHECK_EQ(out, 2);
}

static void fails_and_calls(const tine_result *result, size_t item, void *user)
{
    CHECK_EQ(result->status, -1 - (int)item % 100);
    calls_tine(item, 0, user);
    CHECK(strlen(result->message) > 100); /* still there after all that */
}

static void callbacks(tine_pool *pool)
{
    int in[50];
    struct caller caller = {pool, 0, NULL};
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    for (int i = 0; i < 50; i++)
        in[i] = i;
    options.progress = calls_tine;
    options.on_failure = fails_and_calls;
    options.user = &caller;
    CHECK_RC(tine_map(pool, says_much, in, sizeof *in, NULL, 0, 50, &options), TINE_EITEMS);
    CHECK(caller.submitted > 50);
    for (int i = 0; i < caller.submitted; i++) {
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
        CHECK_EQ(result.status, 0);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY);
    tine_free(pool, caller.block);
}

/* ---- A shutdown while a map is under way ---- */

static void *shut_down(void *argument)
{
    CHECK_RC(tine_pool_shutdown(*(tine_pool **)argument, TINE_FOREVER), 0);
    return NULL;
}

/* A map that has begun goes on to its end; one that comes too late is refused. Neither hangs, and no item is lost. */
static void shutdown_in_a_map(int round)
{
    static int in[300], out[300];
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    pthread_t thread;
    memset(out, 0, sizeof out);
    for (int i = 0; i < 300; i++)
        in[i] = i;
    options.chunk = 1;
    CHECK_EQ(pthread_create(&thread, NULL, shut_down, &pool), 0);
    if (round % 2)
        usleep(50);
    int rc = tine_map(pool, next_int, in, sizeof *in, out, sizeof *out, 300, &options);
    if (rc != TINE_ESHUTDOWN)
        CHECK_RC(rc, 0);
    for (int i = 0; i < 300; i++)
        CHECK_EQ(out[i], rc == 0 ? i + 1 : 0);
    pthread_join(thread, NULL);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    static const size_t workers[] = {2, 1, 5};
    CHECK_RC(tine_init(argc, argv), 0);
    for (size_t i = 0; i < 3; i++) {
        tine_pool *pool = create_pool(all_starts[i], workers[i], 0);
        at_once(pool);
        callbacks(pool);
        tine_pool_destroy(pool);
    }
    for (int round = 0; round < 100; round++)
        shutdown_in_a_map(round);
    return 0;
}
