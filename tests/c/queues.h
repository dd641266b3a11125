/* Queues in a pool's heap: what several programs do with them. */
#include "family.h"
#include <poll.h>
#include <pthread.h>
#include <stdint.h>

#define LIMIT INT64_C(20000000000) /* ns: a hang */
#define SHORT INT64_C(2000000)     /* ns: runs out */

static tine_pool *pool;

static inline tine_queue *make(size_t messages, size_t bytes, uint32_t flags)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *q = NULL;
    options.capacity_messages = messages;
    options.capacity_bytes = bytes;
    options.flags = flags;
    CHECK_RC(tine_queue_create(pool, &options, &q), 0);
    return q;
}

static inline tine_id start(tine_fn fn, const void *input, size_t length)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    return id;
}

/* The status of a task. */
static inline int end(tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, LIMIT, &result), 0);
    int status = result.status;
    if (status < 0)
        fprintf(stderr, "a task failed: %s\n", result.message ? result.message : tine_strerror(status));
    tine_result_release(pool, &result);
    return status;
}

struct job {
    tine_queue *in, *out;
    uint64_t first, count;
};

/* Messages of many lengths, which begin with their number and with who has put them. */
static inline int produce(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    for (uint64_t i = job->first; i < job->first + job->count; i++) {
        uint64_t message[100];
        size_t words = 2 + i % 98;
        for (size_t at = 0; at < words; at++)
            message[at] = i;
        message[1] = job->first;
        int rc = tine_queue_put(job->out, message, words * sizeof *message, LIMIT);
        if (rc)
            return tine_fail(task, rc, "putting");
    }
    return 0;
}

static inline void create_the_pool(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 3;
    options.heap_bytes = 256 << 20;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
}
