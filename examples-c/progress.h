/* A progress bar on a terminal, now and then a plain line elsewhere. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stddef.h>
#include <stdio.h>

struct progress {
    FILE *stream;
    const char *label;
    size_t shown; /* the last step that was shown */
};

void progress_begin(struct progress *progress, FILE *stream, const char *label);
void progress_show(struct progress *progress, size_t done, size_t total);
void progress_end(struct progress *progress); /* leaves the cursor at the start of an empty line */

#endif
