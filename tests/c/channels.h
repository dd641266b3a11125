/* For tests of channels: both ends of one, and bytes that say which message they are of. */
#ifndef CHANNELS_H
#define CHANNELS_H

#include "family.h"
#include <poll.h>

#define SHORT_NS INT64_C(2000000) /* runs out */

struct ends {
    tine_channel *a, *b;
};

static inline struct ends make(uint32_t flags, size_t buffer_bytes)
{
    tine_channel_options options = TINE_CHANNEL_OPTIONS_INIT;
    struct ends ends = {NULL, NULL};
    options.flags = flags;
    options.buffer_bytes = buffer_bytes;
    CHECK_RC(tine_channel_create(&options, &ends.a, &ends.b), 0);
    return ends;
}

static inline void close_both(struct ends ends)
{
    tine_channel_close(ends.a);
    tine_channel_close(ends.b);
}

/* Bytes that say which message they are of. */
static inline unsigned char *filled(size_t length, unsigned seed)
{
    unsigned char *bytes = (unsigned char *)malloc(length + 1);
    CHECK(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)(seed + i * 7 + i / 251);
    return bytes;
}

static inline int is_readable(tine_channel *c)
{
    struct pollfd entry = {tine_channel_fd(c), POLLIN, 0};
    return poll(&entry, 1, 0) == 1;
}

#endif
