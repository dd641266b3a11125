/* What happens to a pool and to a stream while the stream's .pull is at it. */

#include "family.h"
#include <pthread.h>

static tine_pool *pool;

struct item {
    int number;
    volatile int *go; /* until when the first one is at it */
};

static int fails_first(tine_task *task)
{
    const struct item *item = (const struct item *)tine_input(task, NULL);
    while (!*item->go) sched_yield();
    return item->number == 1 ? -EDOM : item->number;
}

/* Draws numbers from 1 on. It says which it is at, and waits until it may go on. */
struct source {
    int count;
    struct item last;
    volatile int drawing, may_go;
};

static int pull(void *user, const void **input, size_t *length, void **item)
{
    struct source *s = (struct source *)user;
    (void)item;
    s->drawing = s->last.number + 1;
    while (s->may_go <= s->last.number) sched_yield();
    if (s->last.number == s->count) return 0;
    s->last.number++;
    *input = &s->last;
    *length = sizeof s->last;
    return 1;
}

static void *shuts_down(void *argument)
{
    struct source *s = (struct source *)argument;
    while (s->drawing == 0) sched_yield();
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    s->may_go = 1000;
    return NULL;
}

/* The pool is shut down while the first item is drawn: nobody waits for that item, and no call says that the input has ended. */
static void shut_down_meanwhile(int start, uint32_t flags)
{
    struct source source = {1000, {0, NULL}, 0, 0};
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stream *stream;
    pthread_t other;
    pool = create_pool(start, 2, flags);
    options.pull = pull;
    options.user = &source;
    CHECK_RC(tine_stream_create(pool, fails_first, &options, &stream), 0);
    CHECK_EQ(pthread_create(&other, NULL, shuts_down, &source), 0);
    for (int i = 0; i < 3; i++) CHECK_RC(tine_stream_next(stream, HANG_NS, &result), TINE_ESHUTDOWN);
    CHECK_RC(tine_stream_next(stream, TINE_FOREVER, &result), TINE_ESHUTDOWN);
    CHECK_RC(tine_stream_next(stream, 0, &result), TINE_ESHUTDOWN);
    CHECK_EQ(source.last.number, 1);
    CHECK_EQ(pthread_join(other, NULL), 0);
    tine_stream_destroy(stream);
    tine_pool_destroy(pool);
}

static tine_stream *stopping;

static void *draws(void *unused)
{
    tine_result result = TINE_RESULT_INIT;
    (void)unused;
    CHECK_RC(tine_stream_next(stopping, HANG_NS, &result), 0);
    CHECK_EQ(result.status, -ECANCELED);
    CHECK_EQ(result.delivery, TINE_NOT_STARTED);
    tine_result_release(pool, &result);
    CHECK_RC(tine_stream_next(stopping, HANG_NS, &result), TINE_EEMPTY);
    return NULL;
}

/* The first item has failed, and another thread has taken its result, while the second one is drawn: the second one does not begin. */
static void stops_meanwhile(int start, uint32_t flags)
{
    struct source source = {5, {0, NULL}, 0, 1};
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    pthread_t other;
    pool = create_pool(start, 2, 0);
    source.last.go = (volatile int *)tine_calloc(pool, 1, sizeof *source.last.go);
    CHECK(source.last.go);
    options.pull = pull;
    options.user = &source;
    options.flags = TINE_STOP_ON_FAILURE | flags;
    CHECK_RC(tine_stream_create(pool, fails_first, &options, &stopping), 0);
    CHECK_EQ(pthread_create(&other, NULL, draws, NULL), 0);
    while (source.drawing < 2) sched_yield();
    *source.last.go = 1;
    CHECK_RC(tine_stream_next(stopping, HANG_NS, &result), 0);
    CHECK_EQ(result.status, -EDOM);
    tine_result_release(pool, &result);
    source.may_go = 1000;
    CHECK_EQ(pthread_join(other, NULL), 0);
    tine_stream_destroy(stopping);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        shut_down_meanwhile(all_starts[i], 0);
        shut_down_meanwhile(all_starts[i], TINE_NO_THREAD);
        stops_meanwhile(all_starts[i], 0);
        stops_meanwhile(all_starts[i], TINE_UNORDERED);
    }
    return 0;
}
