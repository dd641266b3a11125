/* What benchmarks have in common: a table of rows that are measured one after the other in every round, so that whatever
 * else the machine does hits all of them alike, and each of them guarded (guard.h). Below a row of tine's stand those of its peers. For
 * each row the table gives minimum, median and maximum of the rounds; for a peer also the median of the ratios of tine's time to
 * the peer's, taken round by round, beside the aim.
 *
 * Usage of every program: NAME [ROUNDS [ROW]]; with ROW only rows whose name has that text in it, and their peers. A row whose
 * measurement returns 0 has no peer here, and is named at the end. Where the environment has TINE_BENCH_CSV, each single figure is
 * appended to that file: report.py makes tables and plots of it. With TINE_BENCH_QUICK, rows made by OURS_WHOLE are left out. */
#ifndef BENCH_H
#define BENCH_H

#include "guard.h"
#include <errno.h>
#include <tine.h>

#define MOST_ROUNDS 64

struct row {
    const char *name, *unit;
    double scale;            /* of the unit, in nanoseconds */
    double (*measure)(void); /* nanoseconds; 0 where it can't be measured here */
    int is_peer;             /* of the last row before it that is tine's */
    double aim;              /* tine's time to the peer's is to be no more than that; 0 for no aim */
    const char *axis;        /* of the plot that this row of tine's and its peers are a point of; NULL for none */
    double at;               /* where on the axis */
    int is_whole_only;
    const void *argument;    /* for a measurement that serves several rows */
    int chosen;
    double rounds[MOST_ROUNDS];
};
#define OURS(...) ROW(0, NULL, 0, 0, __VA_ARGS__, 0)
#define OURS_AT(axis, at, ...) ROW(0, axis, at, 0, __VA_ARGS__, 0)
#define OURS_WHOLE(axis, at, ...) ROW(0, axis, at, 1, __VA_ARGS__, 0)
#define PEER(...) ROW(1, NULL, 0, 0, __VA_ARGS__)
#define ROW(is_peer, axis, at, is_whole_only, name, unit, scale, measure, aim) \
    { name, unit, scale, measure, is_peer, aim, axis, at, is_whole_only, NULL, 0, { 0 } }

/* The row that is being measured. */
static const struct row *current_row;

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

/* What a command prints: nanoseconds; 0 where it fails. */
static inline double of_program(const char *command)
{
    char line[64] = "0", quiet[700];
    snprintf(quiet, sizeof quiet, "%s 2>/dev/null", command);
    FILE *output = popen(quiet, "r");
    if (!output) return 0;
    if (!fgets(line, sizeof line, output)) line[0] = '0';
    return pclose(output) == 0 ? atof(line) : 0;
}

/* A program of Python, given as a file's text, that prints nanoseconds; 0 where there is no python3. */
static inline double of_python(const char *code)
{
    char path[] = "/tmp/tine-bench-XXXXXX", command[64];
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) return 0;
    fputs(code, file);
    fclose(file);
    snprintf(command, sizeof command, "python3 %s", path);
    double ns = of_program(command);
    remove(path);
    return ns;
}

/* Marks the rows of tine's that are asked for, and their peers. */
static inline void choose(struct row *rows, int count, const char *text)
{
    int quick = getenv("TINE_BENCH_QUICK") != NULL;
    for (int row = 0, chosen = 0; row < count; row++) {
        if (!rows[row].is_peer) chosen = (!text || strstr(rows[row].name, text)) && !(quick && rows[row].is_whole_only);
        rows[row].chosen = chosen;
    }
}

/* Appends every single figure to the file that is asked for: program, row, peer of it, axis, place, unit, scale, aim, round, ns. */
static inline void write_csv(const struct row *rows, int count, int rounds)
{
    const char *path = getenv("TINE_BENCH_CSV");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!path) return;
    if (!file) perror(path), exit(1);
    const struct row *ours = rows;
    for (const struct row *row = rows; row < rows + count; row++) {
        if (!row->is_peer) ours = row;
        if (!row->chosen) continue;
        for (int round = 0; round < rounds; round++)
            fprintf(file, "%s,\"%s\",\"%s\",\"%s\",%g,%s,%g,%g,%d,%.3f\n", program_invocation_short_name, ours->name,
                row->is_peer ? row->name : "tine", ours->axis ? ours->axis : "", ours->at, row->unit, row->scale, row->aim,
                round + 1, row->rounds[round]);
    }
    fclose(file);
}

static inline void show_progress(double done, int round, int rounds, const char *name)
{
    static const char bar[] = "##############################", none[] = "..............................";
    int width = (int)(done * 30);
    fprintf(stderr, "\r[%.*s%.*s] %3.0f %%, round %d of %d: %-44.44s", width, bar, 30 - width, none, done * 100, round, rounds,
        name);
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
            if (isatty(2)) show_progress((double)(round * count + row) / (rounds * count), round + 1, rounds, rows[row].name);
            current_row = &rows[row];
            /* Where a peer is not here it is not here in any round. */
            if (round == 0 || rows[row].rounds[0] > 0) rows[row].rounds[round] = guarded(rows[row].measure);
        }
    }
    if (isatty(2)) fprintf(stderr, "\r%100s\r", "");
    write_csv(rows, count, rounds);

    printf("%-46s %9s %9s %9s      %8s %6s\n", "", "min", "median", "max", "tine to it", "aim");
    const struct row *ours = rows;
    for (const struct row *row = rows; row < rows + count; row++) {
        if (!row->is_peer) ours = row;
        memcpy(values, row->rounds, sizeof values);
        if (!row->chosen || median(values, rounds) == 0) continue;
        printf("%s%-*s %9.3f %9.3f %9.3f %-4s", row->is_peer ? "  " : "", row->is_peer ? 44 : 46, row->name,
            values[0] / row->scale, values[rounds / 2] / row->scale, values[rounds - 1] / row->scale, row->unit);
        for (int round = 0; round < rounds; round++)
            ratios[round] = row->rounds[round] > 0 ? ours->rounds[round] / row->rounds[round] : 0;
        double ratio = median(ratios, rounds);
        if (row->is_peer) printf(" %9.4g", ratio);
        if (row->is_peer && row->aim > 0) printf(" %6.4g %s", row->aim, ratio <= row->aim ? "met" : "MISSED");
        printf("\n");
    }
    for (const struct row *row = rows; row < rows + count; row++)
        if (row->chosen && row->rounds[0] == 0) printf("not here: %s\n", row->name);
    if (disturbed >= MOST_DISTURBED) printf("THE MACHINE WAS NOT QUIET: these figures mean little\n");
    if (repeated) printf("disturbed by others and measured again: %d; disturbed to the last: %d\n", repeated, disturbed);
}

#endif
