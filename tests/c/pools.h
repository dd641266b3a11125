/* For tests of what pools do, whatever their family: a pool as most tests want one, with every start method. */
#ifndef POOLS_H
#define POOLS_H

#include <tine.h>
#include "check.h"

static const int all_starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};

static inline const char *start_name(int start)
{
    return start == TINE_START_FORKSERVER ? "forkserver" : start == TINE_START_SPAWN ? "spawn" : "fork";
}

/* A pool with these options and no others; a grace of 0 is the default. */
static inline tine_pool *create_pool_with_grace(int start, size_t workers, uint32_t flags, int64_t grace_ns)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.error = &error;
    options.start = start;
    options.workers = workers;
    options.flags = flags;
    options.grace_ns = grace_ns;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0) {
        fprintf(stderr, "tine_pool_create, %s: %s, %s\n", start_name(start), tine_errname(rc), error.text);
        exit(1);
    }
    return pool;
}

static inline tine_pool *create_pool(int start, size_t workers, uint32_t flags)
{
    return create_pool_with_grace(start, workers, flags, 0);
}

/* The same, whose workers are killed soon after they are to end: for tests that wait for that many times. */
static inline tine_pool *create_hasty_pool(int start, size_t workers, uint32_t flags)
{
    return create_pool_with_grace(start, workers, flags, 20 * 1000 * 1000);
}

#endif
