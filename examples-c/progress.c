/* Draws only when what it shows would change: a million items shall not cost a million writes. */
#define _POSIX_C_SOURCE 200809L /* for fileno */
#include "progress.h"

#include <stdint.h>
#include <unistd.h>

enum { CELLS = 40, LINES = 4 };

void progress_begin(struct progress *progress, FILE *stream, const char *label)
{
    *progress = (struct progress){.stream = stream, .label = label, .shown = SIZE_MAX};
}

void progress_show(struct progress *progress, size_t done, size_t total)
{
    int terminal = isatty(fileno(progress->stream));
    size_t steps = terminal ? CELLS : LINES;
    size_t step = total ? (size_t)((double)done / (double)total * (double)steps) : steps;
    if (step == progress->shown)
        return;
    progress->shown = step;
    if (terminal) {
        static const char full[CELLS + 1] = "########################################";
        fprintf(progress->stream, "\r%-22s [%-*.*s] %zu of %zu", progress->label, CELLS, (int)step, full, done, total);
    } else {
        fprintf(progress->stream, "%-22s %zu of %zu\n", progress->label, done, total);
    }
    fflush(progress->stream);
}

void progress_end(struct progress *progress)
{
    if (isatty(fileno(progress->stream)))
        fputs("\r\033[K", progress->stream);
    fflush(progress->stream);
}
