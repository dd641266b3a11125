/* What benchmarks have in common: a clock, and a table of rows that are measured one after the other in every round, so
 * that whatever else the machine does hits all of them alike. It gives medians of the rounds, the best round, and the
 * ratio of the medians to the row's peer. */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tine.h>

#define MOST_ROUNDS 64

struct row {
    const char *name, *unit;
    double scale;
    double (*measure)(void); /* nanoseconds; 0 where it can't be measured here */
    int peer;                /* the row of the peer, counted from this one; 0 for a peer */
    double rounds[MOST_ROUNDS];
};

static inline double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static inline void must(int rc, const char *what)
{
    if (rc >= 0) return;
    fprintf(stderr, "%s: %s\n", what, tine_strerror(rc));
    exit(1);
}

static inline int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static inline double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

/* A line of Python, given as a file's text, that prints nanoseconds; 0 where there is no python3. */
static inline double of_python(const char *code)
{
    char line[64] = "0", path[] = "/tmp/tine-bench-XXXXXX", command[128];
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) return 0;
    fputs(code, file);
    fclose(file);
    snprintf(command, sizeof command, "python3 %s 2>/dev/null", path);
    FILE *output = popen(command, "r");
    if (output) {
        if (!fgets(line, sizeof line, output)) line[0] = '0';
        pclose(output);
    }
    remove(path);
    return atof(line);
}

/* The number of rounds is the program's first argument, or 9. */
static inline void run_table(struct row *rows, int count, int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 9;
    if (rounds < 1 || rounds > MOST_ROUNDS) rounds = 9;
    for (int round = 0; round < rounds; round++)
        for (int row = 0; row < count; row++) rows[row].rounds[round] = rows[row].measure();

    double *medians = malloc((size_t)count * sizeof *medians);
    if (!medians) return;
    printf("%-42s %10s %10s   %s\n", "", "median", "best", "to its peer");
    for (int row = 0; row < count; row++) medians[row] = median(rows[row].rounds, rounds);
    for (int row = 0; row < count; row++) {
        const struct row *shown = &rows[row];
        if (medians[row] == 0) continue;
        printf("%-42s %7.3f %s %7.3f %s", shown->name, medians[row] / shown->scale, shown->unit,
            shown->rounds[0] / shown->scale, shown->unit);
        if (shown->peer && medians[row + shown->peer] > 0) printf("   %.3f", medians[row] / medians[row + shown->peer]);
        printf("\n");
    }
    free(medians);
}

#endif
