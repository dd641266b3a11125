/* Two pools in one libuv loop, which never blocks in tine: results and callbacks come as the loop runs, deaths too.
 *
 * packages: libuv */
#include "family.h"
#include <uv.h>

enum { TASKS = 2000 };

/* A pool, the handle by which the loop looks at it, and what has come. */
struct watched {
    tine_pool *pool;
    uv_poll_t handle;
    int submitted, taken, told, died;
    long total;
};

static int twice(tine_task *task)
{
    int n = *(const int *)tine_input(task, NULL);
    return n == 777 ? raise(SIGKILL) : 2 * n;
}

static void count(struct watched *watched, const tine_result *result)
{
    watched->died += result->status == TINE_EDIED;
    watched->total += result->status > 0 ? result->status : 0;
}

static void on_settled(const tine_result *result, void *user)
{
    struct watched *watched = (struct watched *)user;
    count(watched, result);
    watched->told++;
}

/* A few at a time, so that the loop sleeps often; every second one by a callback. */
static void submit_some(struct watched *watched)
{
    while (watched->submitted < TASKS && watched->submitted - watched->taken - watched->told < 30) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = watched;
        options.on_settled = watched->submitted % 2 ? on_settled : NULL;
        CHECK_RC(tine_submit(watched->pool, twice, &watched->submitted, sizeof watched->submitted, &options, NULL), 0);
        watched->submitted++;
    }
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct watched *watched = (struct watched *)handle->data;
    tine_result result = TINE_RESULT_INIT;
    CHECK_EQ(status, 0);
    CHECK_EQ(events, UV_READABLE);
    for (int left = tine_pool_poll(watched->pool); left > 0; left--) {
        CHECK_RC(tine_next(watched->pool, 0, &result), 0);
        count(watched, &result);
        watched->taken++;
        tine_result_release(watched->pool, &result);
    }
    submit_some(watched);
    if (watched->taken + watched->told == TASKS) {
        CHECK_EQ(uv_poll_stop(handle), 0);
        uv_close((uv_handle_t *)handle, NULL);
    }
}

static int ticks;

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    ticks++;
}

static void on_late(uv_timer_t *timer)
{
    (void)timer;
    fprintf(stderr, "the loop still runs after %d s\n", (int)(HANG_NS / 1000000000));
    exit(1);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    for (int start = 0; start < 3; start++) {
        static struct watched watched[2];
        uv_loop_t loop;
        uv_timer_t timer, late;
        memset(watched, 0, sizeof watched);
        CHECK_EQ(uv_loop_init(&loop), 0);
        CHECK_EQ(uv_timer_init(&loop, &timer), 0);
        CHECK_EQ(uv_timer_init(&loop, &late), 0);
        /* What else the loop has to do gets its turn; it does not keep the loop going. */
        ticks = 0;
        CHECK_EQ(uv_timer_start(&timer, on_tick, 1, 1), 0);
        CHECK_EQ(uv_timer_start(&late, on_late, (uint64_t)(HANG_NS / 1000000), 0), 0);
        uv_unref((uv_handle_t *)&timer);
        uv_unref((uv_handle_t *)&late);
        for (int i = 0; i < 2; i++) {
            tine_pool_options options = TINE_POOL_OPTIONS_INIT;
            options.workers = 2;
            options.start = all_starts[start];
            options.flags = TINE_NO_THREAD; /* the loop drives the pools, and is where callbacks run */
            CHECK_RC(tine_pool_create(&options, &watched[i].pool), 0);
            CHECK_EQ(uv_poll_init(&loop, &watched[i].handle, tine_pool_fd(watched[i].pool)), 0);
            watched[i].handle.data = &watched[i];
            CHECK_EQ(uv_poll_start(&watched[i].handle, UV_READABLE, on_readable), 0);
            submit_some(&watched[i]);
        }
        CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(watched[i].taken, TASKS / 2);
            CHECK_EQ(watched[i].told, TASKS / 2);
            CHECK_EQ(watched[i].died, 1);
            CHECK_EQ(watched[i].total, (long)TASKS * (TASKS - 1) - 2 * 777);
            tine_pool_destroy(watched[i].pool);
        }
        CHECK(ticks > 0);
        uv_close((uv_handle_t *)&timer, NULL);
        uv_close((uv_handle_t *)&late, NULL);
        CHECK_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
        CHECK_EQ(uv_loop_close(&loop), 0);
    }
    return 0;
}
