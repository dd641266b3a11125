/* For tests of bad input: a pool, and calls that must be refused. After each its counters are what they were, and a good task still
 * works. */
#ifndef BAD_INPUT_H
#define BAD_INPUT_H

#include <tine.h>
#include "check.h"
#include <errno.h>
#include <unistd.h>

static tine_pool *pool;

/* ---- Functions of the workers ---- */

static inline int answer(tine_task *task)
{
    int *out = (int *)tine_output(task, sizeof *out);
    *out = 42;
    return 7;
}

static inline int one_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    (void)in;
    (void)out;
    return 0;
}

static inline int one_piece(tine_task *task, size_t begin, size_t end)
{
    (void)task;
    return begin <= end ? 0 : -EINVAL;
}

/* Runs until the host lets it: a word in the heap. */
static inline int until_told(tine_task *task)
{
    int *go = *(int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(go, __ATOMIC_ACQUIRE))
        usleep(200);
    return 0;
}

/* Fails with what the host's calls say in here. */
static inline int host_calls(tine_task *task)
{
    tine_pool *mine = tine_task_pool(task);
    tine_stats stats = TINE_STATS_INIT;

    CHECK_RC(tine_pool_fd(mine), TINE_EWORKER);
    CHECK_RC(tine_pool_stats(mine, &stats), TINE_EWORKER);
    CHECK_RC(tine_pool_shutdown(mine, 0), TINE_EWORKER);
    tine_pool_destroy(mine); /* not the worker's to destroy */
    return tine_task_pool(task) == mine ? 0 : -EINVAL;
}

static inline int is_registered(tine_task *task)
{
    return tine_task_id(task) != 0 ? 11 : -EINVAL;
}

/* ---- What must stay as it was ---- */

static inline void same_as_before(const tine_stats *before, const char *file, int line)
{
    tine_stats now = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &now), 0);
    if (now.submitted != before->submitted || now.settled != before->settled || now.outstanding != before->outstanding
        || now.worker_deaths != before->worker_deaths || now.supervisor_deaths != before->supervisor_deaths
        || now.heap_allocated_bytes != before->heap_allocated_bytes) {
        fprintf(stderr, "%s:%d: the pool has changed: submitted %llu -> %llu, settled %llu -> %llu, outstanding %llu -> "
                "%llu, deaths %llu -> %llu, heap %llu -> %llu\n", file, line,
                (unsigned long long)before->submitted, (unsigned long long)now.submitted,
                (unsigned long long)before->settled, (unsigned long long)now.settled,
                (unsigned long long)before->outstanding, (unsigned long long)now.outstanding,
                (unsigned long long)before->worker_deaths, (unsigned long long)now.worker_deaths,
                (unsigned long long)before->heap_allocated_bytes, (unsigned long long)now.heap_allocated_bytes);
        exit(1);
    }
}

/* A call that must fail with this code and change nothing. */
#define REFUSED(call, expected)                                                              \
    do {                                                                                     \
        tine_stats before_ = TINE_STATS_INIT;                                                \
        CHECK_RC(tine_pool_stats(pool, &before_), 0);                                        \
        CHECK_RC(call, expected);                                                            \
        same_as_before(&before_, __FILE__, __LINE__);                                        \
    } while (0)

/* The same, where the error's text must contain these words. */
#define REFUSED_SAYING(call, expected, words)                                                \
    do {                                                                                     \
        tine_error blank_ = TINE_ERROR_INIT;                                                 \
        error = blank_;                                                                      \
        REFUSED(call, expected);                                                             \
        CHECK_EQ(error.code, expected);                                                      \
        if (!strstr(error.text, words)) {                                                    \
            fprintf(stderr, "%s:%d: \"%s\" does not say \"%s\"\n", __FILE__, __LINE__, error.text, words); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

static inline void works(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK(id != 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.status, 7);
    CHECK_EQ(result.length, sizeof(int));
    CHECK_EQ(*(const int *)result.data, 42);
    tine_result_release(pool, &result);
    CHECK_EQ(result.id, 0);
    CHECK_EQ(result.size, sizeof result);
}

static inline void create_it(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    works();
}

/* In all of this no process of the pool has died. */
static inline void nobody_died(void)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    CHECK_EQ(stats.supervisor_deaths, 0);
}

#endif
