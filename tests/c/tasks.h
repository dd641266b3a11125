/* For tests of tasks: submitting one and waiting for it, and a word by which the two sides tell each other how far they are. */
#ifndef TASKS_H
#define TASKS_H

#include "pools.h"
#include <errno.h>
#include <unistd.h>

static inline tine_id submit(tine_pool *pool, tine_fn fn, const void *input, size_t length)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK(id != 0);
    return id;
}

static inline tine_result wait_for(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK(result.id == id);
    CHECK(result.message != NULL);
    return result;
}

static inline tine_stats stats_of(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats;
}

/* A word in the heap by which host and workers tell each other how far they are. */
static inline int *make_word(tine_pool *pool)
{
    int *word = (int *)tine_alloc(pool, sizeof *word);
    CHECK(word != NULL);
    *word = 0;
    return word;
}

static inline void await(int *word, int value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < value)
        usleep(100);
}

static inline void set(int *word, int value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static inline int give_back(tine_task *task)
{
    return *(const int *)tine_input(task, NULL);
}

static inline int until_told(tine_task *task)
{
    int *const *words = (int *const *)tine_input(task, NULL);
    set(words[0], 1);
    await(words[1], 1);
    return 3;
}

#endif
