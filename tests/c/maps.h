/* For tests of maps: functions of items. */
#ifndef MAPS_H
#define MAPS_H

#include "pools.h"
#include <errno.h>

static inline int next_int(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in + 1;
    return 0;
}

/* Fails, with much to say. */
static inline int says_much(tine_task *task, const void *in, void *out)
{
    char text[180];
    (void)out;
    memset(text, 'a' + *(const int *)in % 26, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    return tine_fail(task, -1 - *(const int *)in % 100, "%d %.*s", *(const int *)in, 100 + *(const int *)in % 70, text);
}

#endif
