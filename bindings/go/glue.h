/* SPDX-License-Identifier: MIT OR Apache-2.0
 * What lies between Go and tine.h: calls that take Go's memory as plain arguments, several steps in one crossing, and the
 * function that stands for every Go function. */
#ifndef TINE_GO_GLUE_H
#define TINE_GO_GLUE_H

#include <stdlib.h>
#include <tine.h>

/* What a call came to: its code, and where it failed a text to be freed, or NULL. */
typedef struct {
    int code;
    char *text;
    tine_id id;
    void *made;
    int count;
} tine_go_answer;

enum { TINE_GO_MOST_RESULTS = 64, TINE_GO_SMALL = 64 };

/* Results on their way to Go. Small outputs of successes are copied here, and the results released at once; of the others
   the memory is kept until the next call. */
typedef struct {
    int count, kept;
    tine_result results[TINE_GO_MOST_RESULTS];
    char small[TINE_GO_MOST_RESULTS][TINE_GO_SMALL];
} tine_go_batch;

int tine_go_register(const char *name);
void tine_go_init(void);
void tine_go_allow_init(void);

tine_go_answer tine_go_pool_create(tine_pool_options options, int initialize, const void *input, size_t length);
/* A task to be submitted. Pointers to C's own memory are numbers here: Go does not look whether they are its own. So is the input in
   small, for calls without an input of their own: Go need not keep memory for it then, nor look through it. */
typedef struct {
    uintptr_t name, user;
    size_t length;
    int64_t deadline_ns, queue_deadline_ns;
    uint32_t retries, flags;
    uintptr_t channel;
    char small[TINE_GO_SMALL];
} tine_go_task;

/* -ETIMEDOUT: the window is full. */
tine_go_answer tine_go_submit(uintptr_t pool, tine_go_task task);
tine_go_answer tine_go_submit_input(uintptr_t pool, tine_go_task task, const void *input);
tine_go_answer tine_go_call(uintptr_t pool, tine_go_task task, uintptr_t batch);
tine_go_answer tine_go_call_input(uintptr_t pool, tine_go_task task, const void *input, uintptr_t batch);
int tine_go_next(uintptr_t pool, uintptr_t batch, int most);
void tine_go_release(uintptr_t pool, uintptr_t batch);
int tine_go_wait(tine_pool *pool, tine_id id, tine_result *result);
tine_go_answer tine_go_map(tine_pool *pool, const char *name, const void *in, size_t in_stride, void *out,
                           size_t out_stride, size_t count, const void *context, size_t context_length, size_t chunk,
                           int64_t deadline_ns, uint32_t retries, uint32_t flags, int progress, uintptr_t user);
/* With an address that may be one of Go's memory, and then is refused. */
int tine_go_is_shared(tine_pool *pool, uintptr_t address, size_t length);
int tine_go_heap_free(tine_heap *heap, uintptr_t block);
void tine_go_fail(tine_task *task, int code, const char *text);
int tine_go_rwlock_probe(tine_rwlock *lock, int64_t timeout_ns);
int tine_go_once(tine_once *once, uintptr_t user, int64_t timeout_ns);
tine_go_answer tine_go_queue_create(tine_pool *pool, size_t messages, size_t bytes);
/* What a process has in common with a pool is said by a pool's options. */
tine_go_answer tine_go_process_start(tine_pool_options common, const char *name, const char *title, int detached,
                                     tine_channel *channel, tine_segment **segments, size_t segment_count, const void *input,
                                     size_t length);
/* A new one of so many bytes; of none, that of a descriptor. */
tine_go_answer tine_go_segment(size_t size, int fd, uint32_t flags);
_Noreturn void tine_go_end(int code);

#endif
