/* For tests that look at nothing of a task's result but its status. */
#ifndef STATUS_H
#define STATUS_H

#include "family.h"

/* Waits for a task, and releases its result. */
static inline int status_of(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int status = result.status;
    if (status < 0) {
        printf("  task %s: %s\n", tine_errname(status), result.message);
    }
    tine_result_release(pool, &result);
    return status;
}

/* Submits a task, and waits for it. */
static inline int call(tine_pool *pool, tine_fn fn, const void *input, size_t length)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    return status_of(pool, id);
}

#endif
