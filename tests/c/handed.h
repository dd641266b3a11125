/* For tests of ends of channels that go with tasks: submitting one, and talking with the function that has it. */
#ifndef HANDED_H
#define HANDED_H

#include "refuse.h"
#include "status.h"
#include <stdint.h>

struct handed {
    tine_channel *ours;
    tine_id id;
};

/* Submits a task with an end, and keeps the other. */
static inline struct handed hand(tine_pool *pool, tine_fn fn, uint32_t retries)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct handed handed = {NULL, 0};
    CHECK_RC(tine_channel_create(NULL, &handed.ours, &options.channel), 0);
    options.retries = retries;
    options.flags = retries ? TINE_IDEMPOTENT : 0;
    CHECK_RC(tine_submit(pool, fn, NULL, 0, &options, &handed.id), 0);
    return handed;
}

static inline tine_result wait_for(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    return result;
}

static inline int64_t number_from(tine_channel *c)
{
    int64_t number = 0;
    size_t length = 0;
    CHECK_RC(tine_channel_receive(c, HANG_NS, &number, sizeof number, &length), 0);
    CHECK_EQ(length, sizeof number);
    return number;
}

/* The first number of a task, which may need the host to begin. */
static inline int64_t greeting(tine_pool *pool, tine_channel *c)
{
    int64_t number = 0, spent = 0, last = clock_ns();
    int rc;
    while ((rc = tine_channel_receive(c, 1000000, &number, sizeof number, NULL)) == -ETIMEDOUT) {
        CHECK(!is_over(HANG_NS, &last, &spent));
        CHECK(tine_pool_poll(pool) >= 0);
    }
    CHECK_RC(rc, 0);
    return number;
}

static inline void tell(tine_channel *c, int64_t number)
{
    CHECK_RC(tine_channel_send(c, &number, sizeof number, HANG_NS), 0);
}

/* Says who it is, and gives back what it gets until there is nothing more. */
static inline int echo(tine_task *task)
{
    tine_channel *c = tine_task_channel(task);
    int64_t number = getpid();
    size_t length;
    int rc;
    if (!c)
        return tine_fail(task, -ENODEV, "no channel");
    if ((rc = tine_channel_send(c, &number, sizeof number, TINE_FOREVER)))
        return rc;
    while ((rc = tine_channel_receive(c, TINE_FOREVER, &number, sizeof number, &length)) == 0) {
        if (number < 0)
            return 5;
        if ((rc = tine_channel_send(c, &number, length, TINE_FOREVER)))
            return rc;
    }
    return rc == -EPIPE ? 0 : rc;
}

static inline int say_who(tine_task *task)
{
    int64_t number = getpid();
    return tine_channel_send(tine_task_channel(task), &number, sizeof number, 0);
}

static inline int has_none(tine_task *task)
{
    return tine_task_channel(task) == NULL ? 0 : -EEXIST;
}

struct gate {
    volatile int inside, open;
};

static inline int wait_at(tine_task *task)
{
    struct gate *gate;
    memcpy(&gate, tine_input(task, NULL), sizeof gate);
    gate->inside++;
    while (!gate->open)
        nap_ns(100000);
    return 0;
}

#endif
