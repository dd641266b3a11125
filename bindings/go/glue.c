/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include "glue.h"
#include "_cgo_export.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* ---- Signals of a worker -----------------------------------------------------------------------------------------
 *
 * Go turns a fault in Go code into a panic, which can be recovered; tine makes of a fault a report, and lets the process
 * die of it. A worker that runs Go needs both, each for its own code. Who can tell where a fault was is Go's runtime: it
 * passes one that is not in Go code on to the handler that was there when it started. So
 *
 *   before Go starts     a constructor installs `pass_on`, in processes of a pool alone
 *   Go starts            it keeps `pass_on` as where to forward to, and installs its own handlers
 *   tine_init            tine installs its own
 *   the first task       `first` takes their place: a fault of the processor's goes to Go, which makes a panic of it or
 *                        calls `pass_on`, which calls tine's; a signal that somebody has sent is tine's at once
 */
enum { FAULTS = 3 };
static const int faults[FAULTS] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction of_go[FAULTS], of_tine[FAULTS];
static int in_pool; /* this is a process that a pool has started */

static void pass_on(int number, siginfo_t *info, void *context)
{
    /* Tine's handler raises the signal again when it has made its report: then it is to end the process. */
    signal(number, SIG_DFL);
    for (int at = 0; at < FAULTS; at++)
        if (faults[at] == number && of_tine[at].sa_sigaction)
            of_tine[at].sa_sigaction(number, info, context);
}

static void first(int number, siginfo_t *info, void *context)
{
    for (int at = 0; at < FAULTS && info->si_code > 0; at++)
        if (faults[at] == number) {
            of_go[at].sa_sigaction(number, info, context);
            return;
        }
    pass_on(number, info, context);
}

static void set_handler(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(number, &action, NULL);
}

__attribute__((constructor)) static void before_go_starts(void)
{
    in_pool = getenv("TINE_CHILD") != NULL;
    for (int at = 0; at < FAULTS && in_pool; at++)
        set_handler(faults[at], pass_on);
}

/* In the thread that runs a worker's tasks, before the first. */
static void share_signals(void)
{
    static int done;
    if (done || !in_pool)
        return;
    done = 1;
    for (int at = 0; at < FAULTS; at++) {
        sigaction(faults[at], NULL, &of_tine[at]);
        /* With TINE_NO_CRASH_HANDLER tine has left Go's where they were. */
        if (of_tine[at].sa_sigaction == of_go[at].sa_sigaction || !(of_tine[at].sa_flags & SA_SIGINFO))
            of_tine[at].sa_sigaction = NULL;
        else if (of_go[at].sa_flags & SA_SIGINFO)
            set_handler(faults[at], first);
    }
}

/* ---- Starting up ---- */

/* Go has taken TINE_CHILD out of its own copy of the environment, and with it out of C's: tine_init wants to see it. */
void tine_go_allow_init(void)
{
    setenv("TINE_CHILD", "1", 1);
}

void tine_go_init(void)
{
    for (int at = 0; at < FAULTS; at++)
        sigaction(faults[at], NULL, &of_go[at]);
    tine_init(0, NULL);
}

/* A small output comes back here, so that Go need not come back for room. */
static int finish(tine_task *task, int status, const char *small, size_t length)
{
    if (status == 0 && length) {
        void *room = tine_output(task, length);
        if (!room)
            return tine_fail(task, -ENOMEM, "no room for an output of %zu bytes", length);
        memcpy(room, small, length);
    }
    return status;
}

/* Every Go function is registered as this one, which asks by which name it was called. */
static int run(tine_task *task)
{
    char small[TINE_GO_SMALL];
    size_t length, output = 0;
    const void *input = tine_input(task, &length);
    share_signals();
    int status = tineGoRun(task, (char *)tine_task_name(task), (void *)input, length, small, &output);
    return finish(task, status, small, output);
}

/* A pool's initializer has no name: its input is the name, a zero, and the function's input. */
static int initialize(tine_task *task)
{
    size_t length;
    const char *input = tine_input(task, &length);
    size_t name = strnlen(input, length) + 1;
    share_signals();
    return tineGoInitialize(task, (char *)input, (void *)(input + name), length - name);
}

int tine_go_register(const char *name)
{
    return tine_register(name, run);
}

/* ---- Calls ---- */

static char *text_of(const tine_error *error)
{
    return error->text[0] ? strdup(error->text) : NULL;
}

tine_go_answer tine_go_pool_create(tine_pool_options options, int with_initializer, const void *input, size_t length)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    options.error = &error;
    if (with_initializer) {
        options.initializer = initialize;
        options.initializer_input = input;
        options.initializer_length = length;
    }
    int code = tine_pool_create(&options, &pool);
    return (tine_go_answer){code, code ? text_of(&error) : NULL, 0, pool, 0};
}

static inline tine_go_answer submit(uintptr_t pool, const tine_go_task *task, const void *input)
{
    tine_error error;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id = 0;
    error.size = sizeof error;
    error.text[0] = 0;
    options.error = &error;
    options.name = (const char *)task->name;
    options.deadline_ns = task->deadline_ns;
    options.queue_deadline_ns = task->queue_deadline_ns;
    options.retries = task->retries;
    options.flags = task->flags;
    options.user = (void *)task->user;
    options.channel = (tine_channel *)task->channel;
    options.timeout_ns = 1; /* so a full window is -ETIMEDOUT, and -EAGAIN says that there is no thread for tine */
    int code = tine_submit((tine_pool *)pool, NULL, input, task->length, &options, &id);
    return (tine_go_answer){code, code && code != -ETIMEDOUT ? text_of(&error) : NULL, id, NULL, 0};
}

tine_go_answer tine_go_submit(uintptr_t pool, tine_go_task task)
{
    return submit(pool, &task, task.small);
}

tine_go_answer tine_go_submit_input(uintptr_t pool, tine_go_task task, const void *input)
{
    return submit(pool, &task, input);
}

static void release(tine_pool *pool, tine_go_batch *batch)
{
    for (int at = 0; batch->kept > 0 && at < batch->count; at++)
        if (batch->results[at].id) {
            tine_result_release(pool, &batch->results[at]);
            batch->kept--;
        }
    batch->count = 0;
}

void tine_go_release(uintptr_t pool, uintptr_t batch)
{
    release((tine_pool *)pool, (tine_go_batch *)batch);
}

/* Gives back the results of the last call, waits for one more, and takes what else there is, up to most. */
static int next(tine_pool *pool, tine_go_batch *batch, int most)
{
    int code = 0;
    release(pool, batch);
    while (batch->count < most) {
        tine_result *result = &batch->results[batch->count];
        result->size = sizeof *result;
        code = tine_next(pool, batch->count ? 0 : TINE_FOREVER, result);
        if (code)
            break;
        if (result->status >= 0 && result->length <= TINE_GO_SMALL) {
            tine_result whole = *result;
            if (result->length)
                memcpy(batch->small[batch->count], result->data, result->length);
            tine_result_release(pool, &whole);
            result->data = batch->small[batch->count];
            result->id = 0;
        } else {
            batch->kept++;
        }
        batch->count++;
    }
    return batch->count ? batch->count : code;
}

int tine_go_next(uintptr_t pool, uintptr_t batch, int most)
{
    return next((tine_pool *)pool, (tine_go_batch *)batch, most);
}

/* Submits a task and takes the next result, which need not be the task's. */
static tine_go_answer call(uintptr_t pool, const tine_go_task *task, const void *input, uintptr_t batch)
{
    tine_go_answer answer = submit(pool, task, input);
    if (answer.code == 0)
        answer.count = next((tine_pool *)pool, (tine_go_batch *)batch, 1);
    return answer;
}

tine_go_answer tine_go_call(uintptr_t pool, tine_go_task task, uintptr_t batch)
{
    return call(pool, &task, task.small, batch);
}

tine_go_answer tine_go_call_input(uintptr_t pool, tine_go_task task, const void *input, uintptr_t batch)
{
    return call(pool, &task, input, batch);
}

int tine_go_wait(tine_pool *pool, tine_id id, tine_result *result)
{
    result->size = sizeof *result;
    return tine_wait(pool, id, TINE_FOREVER, result);
}

static void on_failure(const tine_result *result, size_t item, void *user)
{
    tineGoFailure((tine_result *)result, item, (uintptr_t)user);
}

static void on_progress(size_t done, size_t total, void *user)
{
    tineGoProgress(done, total, (uintptr_t)user);
}

tine_go_answer tine_go_map(tine_pool *pool, const char *name, const void *in, size_t in_stride, void *out,
                           size_t out_stride, size_t count, const void *context, size_t context_length, size_t chunk,
                           int64_t deadline_ns, uint32_t retries, uint32_t flags, int progress, uintptr_t user)
{
    tine_error error = TINE_ERROR_INIT;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.error = &error;
    options.name = name;
    options.context = context;
    options.context_length = context_length;
    options.chunk = chunk;
    options.item_deadline_ns = deadline_ns;
    options.retries = retries;
    options.flags = flags;
    options.on_failure = on_failure;
    options.progress = progress ? on_progress : NULL;
    options.user = (void *)user;
    int code = tine_map(pool, NULL, in, in_stride, out_stride ? out : NULL, out_stride, count, &options);
    return (tine_go_answer){code, code ? text_of(&error) : NULL, 0, NULL, 0};
}

int tine_go_is_shared(tine_pool *pool, uintptr_t address, size_t length)
{
    return tine_is_shared(pool, (const void *)address, length);
}

int tine_go_heap_free(tine_heap *heap, uintptr_t block)
{
    return tine_heap_free(heap, (void *)block);
}

void tine_go_fail(tine_task *task, int code, const char *text)
{
    tine_fail(task, code, "%s", text);
}

/* Waits until the lock lets one more reader in, which it does not while a writer waits. */
int tine_go_rwlock_probe(tine_rwlock *lock, int64_t timeout_ns)
{
    int code = tine_rwlock_read_lock(lock, timeout_ns);
    if (code == 0 || code == -EOWNERDEAD)
        tine_rwlock_unlock(lock);
    return code;
}

static int once(void *user)
{
    return tineGoOnce((uintptr_t)user);
}

int tine_go_once(tine_once *o, uintptr_t user, int64_t timeout_ns)
{
    return tine_once_call(o, once, (void *)user, timeout_ns);
}

tine_go_answer tine_go_queue_create(tine_pool *pool, size_t messages, size_t bytes)
{
    tine_error error = TINE_ERROR_INIT;
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *queue = NULL;
    options.error = &error;
    options.capacity_messages = messages;
    options.capacity_bytes = bytes;
    int code = tine_queue_create(pool, &options, &queue);
    return (tine_go_answer){code, code ? text_of(&error) : NULL, 0, queue, 0};
}

tine_go_answer tine_go_process_start(tine_pool_options common, const char *name, const char *title, int detached,
                                     tine_channel *channel, tine_segment **segments, size_t segment_count, const void *input,
                                     size_t length)
{
    tine_error error = TINE_ERROR_INIT;
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_process *process = NULL;
    options.error = &error;
    options.name = name;
    options.start = common.start;
    options.flags = common.flags | (detached ? TINE_DETACHED : 0);
    options.title = title;
    options.deadline_ns = common.deadline_ns;
    options.grace_ns = common.grace_ns;
    options.channel = channel;
    options.segments = segments;
    options.segment_count = segment_count;
    options.worker = common.worker;
    options.start_timeout_ns = common.start_timeout_ns;
    options.worker_path = common.worker_path;
    options.worker_arguments = common.worker_arguments;
    options.preload = common.preload;
    int code = tine_process_start(&options, NULL, input, length, &process);
    return (tine_go_answer){code, code ? text_of(&error) : NULL, 0, process, 0};
}

tine_go_answer tine_go_segment(size_t size, int fd, uint32_t flags)
{
    tine_error error = TINE_ERROR_INIT;
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *segment = NULL;
    options.error = &error;
    options.flags = flags;
    int code = size ? tine_segment_create(size, &options, &segment) : tine_segment_attach(fd, &options, &segment);
    return (tine_go_answer){code, code ? text_of(&error) : NULL, 0, segment, 0};
}

void tine_go_end(int code)
{
    _exit(code);
}
