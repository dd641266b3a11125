/* Tasks that can be seen to run and that end when they are told to, and what takes their results. */
#ifndef TINE_TESTS_SIGHTS_H
#define TINE_TESTS_SIGHTS_H

#include "family.h"

/* In the pool's heap. */
struct sight {
    uint32_t started, let_go;
    pid_t pid, parent;
};

static inline int wait_to_be_let_go(tine_task *task)
{
    struct sight *sight;
    memcpy(&sight, tine_input(task, NULL), sizeof sight);
    sight->pid = getpid();
    sight->parent = getppid();
    __atomic_store_n(&sight->started, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&sight->let_go, __ATOMIC_SEQ_CST)) {
        nap_ns(100000);
    }
    return 77;
}

static inline int add_one(tine_task *task)
{
    int number;
    memcpy(&number, tine_input(task, NULL), sizeof number);
    return number + 1;
}

static inline struct sight *new_sight(tine_pool *pool)
{
    struct sight *sight = (struct sight *)tine_alloc(pool, sizeof *sight);
    CHECK(sight);
    memset(sight, 0, sizeof *sight);
    return sight;
}

static inline tine_id submit_sight(tine_pool *pool, struct sight *sight)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, wait_to_be_let_go, &sight, sizeof sight, NULL, &id), 0);
    return id;
}

static inline void take(tine_pool *pool, tine_id id, tine_result *result)
{
    tine_result fresh = TINE_RESULT_INIT;
    *result = fresh;
    CHECK_RC(tine_wait(pool, id, HANG_NS, result), 0);
    CHECK(result->id == id);
}

static inline pid_t supervisor_of(const struct sight *sight)
{
    CHECK(sight->parent > 1); /* It is about to be signalled. */
    return sight->parent;
}

#endif
