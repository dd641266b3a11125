/* For tests of single processes: starting one and waiting for its end, and functions for them. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include "family.h"

static int start_method;

static inline tine_process_options options_of(void)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    options.start = start_method;
    return options;
}

static inline tine_process *start(tine_fn fn, const void *input, size_t length, const tine_process_options *options)
{
    tine_process_options defaults = options_of();
    tine_process *process = NULL;
    tine_error error = TINE_ERROR_INIT;
    defaults.error = &error;
    int rc = tine_process_start(options ? options : &defaults, fn, input, length, &process);
    if (rc) {
        fprintf(stderr, "%s: %s %s\n", start_name(start_method), tine_errname(rc), error.text);
    }
    CHECK_RC(rc, 0);
    return process;
}

static inline tine_exit wait_for(tine_process *process)
{
    tine_exit end = TINE_EXIT_INIT;
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    return end;
}

/* Gives back 1,000 bytes after some time. */
static inline int work(tine_task *task)
{
    int64_t until = clock_ns() + *(const int64_t *)tine_input(task, NULL);
    while (clock_ns() < until) {
    }
    memset(tine_output(task, 1000), 'w', 1000);
    return 0;
}

static inline int stay(tine_task *task)
{
    (void)task;
    for (;;) {
        pause();
    }
    return 0;
}

/* Children and grandchildren, one of them in a session of its own, that stay; it tells the host by a segment. */
static inline int plant_tree(tine_task *task)
{
    volatile int **place = (volatile int **)(uintptr_t)tine_input(task, NULL);
    volatile int *count = *place;
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            if (i == 1) {
                setsid();
            }
            if (fork() == 0) {
                __sync_fetch_and_add(count, 1);
                for (;;) {
                    pause();
                }
            }
            if (i == 2) {
                _exit(0); /* its child is an orphan */
            }
            __sync_fetch_and_add(count, 1);
            for (;;) {
                pause();
            }
        }
    }
    return stay(task);
}

static inline tine_segment *counter(volatile int **out)
{
    tine_segment *segment = NULL;
    CHECK_RC(tine_segment_create(4096, NULL, &segment), 0);
    *out = (volatile int *)tine_segment_address(segment);
    return segment;
}

static inline tine_process *start_with(tine_segment *segment, tine_fn fn, volatile int *count, uint32_t flags)
{
    tine_process_options options = options_of();
    options.segments = &segment;
    options.segment_count = 1;
    options.flags = flags;
    return start(fn, &count, sizeof count, &options);
}

#endif
