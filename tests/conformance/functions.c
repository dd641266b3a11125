/* The functions of the conformance suite, as a library that workers load: called by name, from every language. It is not
   linked with tine: the program that loads it has tine. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tine.h>
#include <time.h>
#include <unistd.h>

/* ---- Inputs: texts, integers, and words, of which some are addresses of shared objects ---- */

static int number(const tine_task *task)
{
    size_t length;
    const int32_t *in = tine_input(task, &length);
    return length == sizeof *in ? *in : 0;
}

static uint64_t word(const tine_task *task, size_t at)
{
    size_t length;
    const uint64_t *in = tine_input(task, &length);
    return (at + 1) * sizeof *in <= length ? in[at] : 0;
}

static void *object(const tine_task *task, size_t at)
{
    return (void *)(uintptr_t)word(task, at);
}

/* A text as the output, without a terminating zero. */
static int say(tine_task *task, const char *text)
{
    size_t length = strlen(text);
    char *out = tine_output(task, length);
    if (!out)
        return -ENOMEM;
    memcpy(out, text, length);
    return 0;
}

static void nap(void)
{
    nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void sleep_for_ever(void)
{
    for (;;)
        nap();
}

/* ---- Tasks ---- */

static int echo(tine_task *task)
{
    size_t length;
    const void *in = tine_input(task, &length);
    void *out = tine_output(task, length);
    if (!out)
        return -ENOMEM;
    if (length)
        memcpy(out, in, length);
    return 0;
}

static int no_output(tine_task *task)
{
    (void)task;
    return 0;
}

static int upper(tine_task *task)
{
    size_t length;
    const char *in = tine_input(task, &length);
    char *out = tine_output(task, length);
    for (size_t i = 0; out && i < length; i++)
        out[i] = (char)toupper((unsigned char)in[i]);
    return out ? 0 : -ENOMEM;
}

static int reverse(tine_task *task)
{
    size_t length;
    const char *in = tine_input(task, &length);
    char *out = tine_output(task, length);
    for (size_t i = 0; out && i < length; i++)
        out[i] = in[length - 1 - i];
    return out ? 0 : -ENOMEM;
}

static int sum(tine_task *task)
{
    size_t length;
    const int32_t *in = tine_input(task, &length);
    int64_t total = 0;
    char text[24];
    for (size_t i = 0; i < length / sizeof *in; i++)
        total += in[i];
    snprintf(text, sizeof text, "%" PRId64, total);
    return say(task, text);
}

/* words:N gives N bytes, as bytes:N of the table. */
static int make_bytes(tine_task *task)
{
    size_t length = word(task, 0);
    unsigned char *out = tine_output(task, length);
    for (size_t i = 0; out && i < length; i++)
        out[i] = (unsigned char)(i + i / 251);
    return out ? 0 : -ENOMEM;
}

static int return_number(tine_task *task)
{
    return number(task);
}

static int fail(tine_task *task)
{
    size_t length;
    const char *in = tine_input(task, &length);
    return tine_fail(task, -EINVAL, "%.*s is not wanted", (int)length, in);
}

static int fail_and_return_0(tine_task *task)
{
    tine_fail(task, -ERANGE, "said, and returned 0");
    return 0;
}

static int die_by_signal(tine_task *task)
{
    raise(number(task));
    return 0;
}

static int die_by_exit(tine_task *task)
{
    _exit(number(task));
}

/* words:@counter,N: dies the first N times. */
static int die_times(tine_task *task)
{
    int64_t *counter = object(task, 0);
    char text[24];
    if (++*counter <= (int64_t)word(task, 1))
        raise(SIGKILL);
    snprintf(text, sizeof text, "attempt %" PRId64, *counter);
    return say(task, text);
}

/* words:@begun,@go */
static int wait_for(tine_task *task)
{
    int rc = tine_event_set(object(task, 0));
    return rc ? rc : tine_event_wait(object(task, 1), TINE_FOREVER);
}

/* words:@begun: returns as soon as it is told to. */
static int until_cancelled(tine_task *task)
{
    tine_event_set(object(task, 0));
    while (!tine_cancelled(task))
        nap();
    return tine_fail(task, -EINTR, "told to return");
}

/* words:@begun, or none: does not care what it is told. */
static int never_return(tine_task *task)
{
    signal(SIGTERM, SIG_IGN); /* in every thread, where the host's language has given the worker more than this one */
    if (word(task, 0))
        tine_event_set(object(task, 0));
    sleep_for_ever();
    return 0;
}

/* Until it is told to end by SIGTERM. */
static int sleep_on(tine_task *task)
{
    (void)task;
    sleep_for_ever();
    return 0;
}

/* ---- Items of maps: a 32-bit integer in, one out ---- */

static int square(tine_task *task)
{
    int32_t *out = tine_output(task, sizeof *out);
    if (!out)
        return -ENOMEM;
    *out = number(task) * number(task);
    return 0;
}

/* The context has three integers: the item that fails, the one that dies, the one that never returns. Others double. */
static int picky(tine_task *task)
{
    size_t length;
    const int32_t *context = tine_context(task, &length);
    int32_t *out = tine_output(task, sizeof *out);
    if (!out || length != 3 * sizeof *context)
        return -EPROTO;
    *out = 2 * number(task);
    if (number(task) == context[0])
        return tine_fail(task, -EDOM, "%d is not wanted", number(task));
    if (number(task) == context[1])
        raise(SIGKILL);
    if (number(task) == context[2])
        return never_return(task);
    return 0;
}

/* The context is the address of a counter: the first item that comes along dies with its process. */
static int first_dies(tine_task *task)
{
    size_t length;
    const uint64_t *context = tine_context(task, &length);
    int32_t *out = tine_output(task, sizeof *out);
    if (!out || length != sizeof *context)
        return -EPROTO;
    *out = number(task);
    if (__atomic_fetch_add((uint64_t *)(uintptr_t)*context, 1, __ATOMIC_SEQ_CST) == 0)
        raise(SIGKILL);
    return 0;
}

/* ---- Locks: words:@lock,@held,@go ---- */

static int hold(tine_task *task)
{
    int rc = tine_mutex_lock(object(task, 0), TINE_FOREVER);
    if (rc == 0)
        rc = tine_event_set(object(task, 1));
    if (rc == 0)
        rc = tine_event_wait(object(task, 2), TINE_FOREVER);
    return rc ? rc : tine_mutex_unlock(object(task, 0));
}

static int die_holding(tine_task *task)
{
    int rc = tine_mutex_lock(object(task, 0), TINE_FOREVER);
    if (rc == 0)
        raise(SIGKILL);
    return rc;
}

static int hold_reading(tine_task *task)
{
    int rc = tine_rwlock_read_lock(object(task, 0), TINE_FOREVER);
    if (rc == 0)
        rc = tine_event_set(object(task, 1));
    if (rc == 0)
        rc = tine_event_wait(object(task, 2), TINE_FOREVER);
    return rc ? rc : tine_rwlock_unlock(object(task, 0));
}

static int hold_writing(tine_task *task)
{
    int rc = tine_rwlock_write_lock(object(task, 0), TINE_FOREVER);
    if (rc == 0)
        rc = tine_event_set(object(task, 1));
    if (rc == 0)
        rc = tine_event_wait(object(task, 2), TINE_FOREVER);
    return rc ? rc : tine_rwlock_unlock(object(task, 0));
}

static int die_reading(tine_task *task)
{
    int rc = tine_rwlock_read_lock(object(task, 0), TINE_FOREVER);
    if (rc == 0)
        raise(SIGKILL);
    return rc;
}

static int die_writing(tine_task *task)
{
    int rc = tine_rwlock_write_lock(object(task, 0), TINE_FOREVER);
    if (rc == 0)
        raise(SIGKILL);
    return rc;
}

/* words:@semaphore */
static int acquire(tine_task *task)
{
    return tine_semaphore_acquire(object(task, 0), TINE_FOREVER);
}

static int release(tine_task *task)
{
    return tine_semaphore_release(object(task, 0), 1);
}

/* words:@event */
static int set(tine_task *task)
{
    return tine_event_set(object(task, 0));
}

/* words:@barrier */
static int meet(tine_task *task)
{
    int rc = tine_barrier_wait(object(task, 0), TINE_FOREVER);
    return rc < 0 ? rc : 0;
}

/* words:@condition,@mutex: notifies with the mutex held, so not before its holder waits. */
static int notify(tine_task *task)
{
    int rc = tine_mutex_lock(object(task, 1), TINE_FOREVER);
    if (rc == 0)
        rc = tine_condition_notify_all(object(task, 0));
    return rc ? rc : tine_mutex_unlock(object(task, 1));
}

static int nothing(void *user)
{
    (void)user;
    return 0;
}

/* words:@once */
static int call_once(tine_task *task)
{
    return tine_once_call(object(task, 0), nothing, NULL, TINE_FOREVER);
}

/* ---- Queues and memory ---- */

/* words:@queue,N: puts the texts 0 to N - 1. */
static int produce(tine_task *task)
{
    for (uint64_t i = 0; i < word(task, 1); i++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRIu64, i);
        int rc = tine_queue_put(object(task, 0), text, strlen(text), TINE_FOREVER);
        if (rc)
            return rc;
    }
    return 0;
}

/* words:@queue: gets what there is until the queue is closed, and gives it back in one text. */
static int consume(tine_task *task)
{
    char text[64], all[256] = "";
    size_t length;
    int rc;
    while ((rc = tine_queue_get(object(task, 0), TINE_FOREVER, text, sizeof text, &length)) == 0) {
        size_t at = strlen(all);
        snprintf(all + at, sizeof all - at, "%s%.*s", at ? " " : "", (int)length, text);
        rc = tine_queue_task_done(object(task, 0));
        if (rc)
            return rc;
    }
    return rc == -EPIPE ? say(task, all) : rc;
}

/* What comes on its end of a channel goes back in capital letters, until the other end is closed. */
static int answer(tine_task *task)
{
    char text[64];
    size_t length;
    int rc;
    while ((rc = tine_channel_receive(tine_task_channel(task), TINE_FOREVER, text, sizeof text, &length)) == 0) {
        for (size_t i = 0; i < length; i++)
            text[i] = (char)toupper((unsigned char)text[i]);
        rc = tine_channel_send(tine_task_channel(task), text, length, TINE_FOREVER);
        if (rc)
            return rc;
    }
    return rc == -EPIPE ? 0 : rc;
}

/* words:@block: the text that stands there. */
static int read_block(tine_task *task)
{
    return say(task, object(task, 0));
}

/* words:@block */
static int write_block(tine_task *task)
{
    strcpy(object(task, 0), "from a worker");
    return 0;
}

/* A host with a tine of its own in it, linked statically, has none for its libraries; its workers have. */
#pragma weak tine_register

__attribute__((constructor)) static void on_load(void)
{
    static const struct { const char *name; tine_fn fn; } functions[] = {
        {"echo", echo}, {"no_output", no_output}, {"upper", upper}, {"reverse", reverse}, {"sum", sum},
        {"make_bytes", make_bytes}, {"return_number", return_number}, {"fail", fail},
        {"fail_and_return_0", fail_and_return_0}, {"die_by_signal", die_by_signal}, {"die_by_exit", die_by_exit},
        {"die_times", die_times}, {"wait_for", wait_for}, {"until_cancelled", until_cancelled},
        {"never_return", never_return}, {"square", square}, {"picky", picky}, {"first_dies", first_dies},
        {"hold", hold}, {"die_holding", die_holding}, {"hold_reading", hold_reading}, {"hold_writing", hold_writing},
        {"die_reading", die_reading}, {"die_writing", die_writing}, {"acquire", acquire}, {"release", release},
        {"set", set}, {"meet", meet}, {"notify", notify}, {"call_once", call_once}, {"produce", produce},
        {"consume", consume}, {"answer", answer}, {"sleep_on", sleep_on}, {"read_block", read_block}, {"write_block", write_block},
    };
    for (size_t i = 0; tine_register && i < sizeof functions / sizeof *functions; i++)
        if (tine_register(functions[i].name, functions[i].fn)) {
            fprintf(stderr, "conformance functions: %s cannot be registered\n", functions[i].name);
            abort();
        }
}
