/* What benchmarks have in common: a table of rows that are measured one after the other in every round, so that whatever
 * else the machine does hits all of them alike, and each of them guarded (guard.h). Below a row of tine's stand those of its peers. For
 * each row the table gives minimum, median and maximum of the rounds; for a peer also the median of the ratios of tine's time to
 * the peer's, taken round by round, beside the aim.
 *
 * Usage of every program: NAME [ROUNDS [ROW]]; with ROW only rows whose name has that text in it, and their peers. */
#ifndef BENCH_H
#define BENCH_H

#include "guard.h"
#include <tine.h>

#define MOST_ROUNDS 64

struct row {
    const char *name, *unit;
    double scale;            /* of the unit, in nanoseconds */
    double (*measure)(void); /* nanoseconds; 0 where it can't be measured here */
    int is_peer;             /* of the last row before it that is tine's */
    double aim;              /* tine's time to the peer's is to be no more than that; 0 for no aim */
    int chosen;
    double rounds[MOST_ROUNDS];
};
#define OURS(name, unit, scale, measure) { name, unit, scale, measure, 0, 0, 0, { 0 } }
#define PEER(name, unit, scale, measure, aim) { "  " name, unit, scale, measure, 1, aim, 0, { 0 } }

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

/* Marks the rows of tine's that are asked for, and their peers. */
static inline void choose(struct row *rows, int count, const char *text)
{
    for (int row = 0, chosen = 0; row < count; row++) {
        if (!rows[row].is_peer) chosen = !text || strstr(rows[row].name, text) != NULL;
        rows[row].chosen = chosen;
    }
}

static inline void run_table(struct row *rows, int count, int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 9;
    double ratios[MOST_ROUNDS], values[MOST_ROUNDS];
    if (rounds < 1 || rounds > MOST_ROUNDS) rounds = 9;
    choose(rows, count, argc > 2 ? argv[2] : NULL);
    for (int round = 0; round < rounds; round++) {
        for (int row = 0; row < count; row++) {
            if (!rows[row].chosen) continue;
            if (isatty(2)) fprintf(stderr, "\rround %d of %d: %-50.50s", round + 1, rounds, rows[row].name);
            rows[row].rounds[round] = guarded(rows[row].measure);
        }
    }
    if (isatty(2)) fprintf(stderr, "\r%70s\r", "");

    printf("%-46s %9s %9s %9s      %8s %6s\n", "", "min", "median", "max", "tine to it", "aim");
    const struct row *ours = rows;
    for (const struct row *row = rows; row < rows + count; row++) {
        if (!row->is_peer) ours = row;
        memcpy(values, row->rounds, sizeof values);
        if (!row->chosen || median(values, rounds) == 0) continue;
        printf("%-46s %9.3f %9.3f %9.3f %-4s", row->name, values[0] / row->scale, values[rounds / 2] / row->scale,
            values[rounds - 1] / row->scale, row->unit);
        for (int round = 0; round < rounds; round++)
            ratios[round] = row->rounds[round] > 0 ? ours->rounds[round] / row->rounds[round] : 0;
        double ratio = median(ratios, rounds);
        if (row->is_peer) printf(" %9.4g", ratio);
        if (row->is_peer && row->aim > 0) printf(" %6.4g %s", row->aim, ratio <= row->aim ? "met" : "MISSED");
        printf("\n");
    }
    if (repeated) printf("disturbed by others and measured again: %d; disturbed to the last: %d\n", repeated, disturbed);
}

#endif
