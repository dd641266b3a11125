/* For tests of queues in a heap of one's own, which lies in a segment. */
#ifndef QUEUE_SEGMENTS_H
#define QUEUE_SEGMENTS_H

#include "family.h"
#include <stdint.h>
#include <sys/socket.h>

#define SHORT INT64_C(2000000) /* ns: runs out */

static inline int ended(pid_t pid)
{
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline tine_segment *new_segment(size_t size)
{
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create(size, NULL, &s), 0);
    return s;
}

static inline tine_queue *make(tine_heap *heap, size_t messages, size_t bytes)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *q = NULL;
    options.heap = heap;
    options.capacity_messages = messages;
    options.capacity_bytes = bytes;
    CHECK_RC(tine_queue_create(NULL, &options, &q), 0);
    return q;
}

static inline uint64_t used_blocks(tine_heap *heap)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(heap, &info), 0);
    return info.used_blocks;
}

#endif
