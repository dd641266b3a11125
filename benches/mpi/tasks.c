/* tasks: what tasks cost on a node of an MPI job. run.sh runs it next to mpi4py.futures and a bare pair of MPI calls.
 *
 *     mpirun -n 2 tasks ROW COUNT: prints one number
 *
 * round-trip     nanoseconds from tine_submit to the end of tine_wait, the median of COUNT
 * tasks          nanoseconds for each of COUNT tasks that are submitted one by one, and whose results are taken one by one
 * items          nanoseconds for each of the COUNT items of a tine_map
 * megabytes      nanoseconds for each of COUNT tasks with an input of 1 MiB in the pool's heap
 * long-items     nanoseconds for each of COUNT items of tine_map with an input and an output of 1 MiB, in arrays of the program's own with 32 items
 *
 * With -cpu behind its name a row prints the processor time of rank 0 instead, of all its threads: what says how many nodes it can feed.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <tine.h>

enum { MEGABYTE = 1 << 20 };

static double now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3;
}

static void check(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "tasks: %s: %s\n", what, tine_strerror(rc));
        exit(1);
    }
}

static int add(tine_task *task)
{
    return *(const int *)tine_input(task, NULL) + 1;
}

static int add_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in + 1;
    return 0;
}

static int first_byte(tine_task *task)
{
    return *(const unsigned char *)tine_input(task, NULL);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double round_trip(tine_pool *pool, int count)
{
    double *took = malloc((size_t)count * sizeof *took);
    if (!took)
        exit(1);
    for (int i = 0; i < count; i++) {
        tine_id id;
        tine_result result = TINE_RESULT_INIT;
        double began = now_ns();
        check(tine_submit(pool, add, &i, sizeof i, NULL, &id), "tine_submit");
        check(tine_wait(pool, id, TINE_FOREVER, &result), "tine_wait");
        took[i] = now_ns() - began;
        tine_result_release(pool, &result);
    }
    qsort(took, (size_t)count, sizeof *took, compare);
    double median = took[count / 2];
    free(took);
    return median;
}

static void take(tine_pool *pool, int count)
{
    for (int i = 0; i < count; i++) {
        tine_result result = TINE_RESULT_INIT;
        check(tine_next(pool, TINE_FOREVER, &result), "tine_next");
        check(result.status, "a task");
        tine_result_release(pool, &result);
    }
}

static double tasks(tine_pool *pool, int count)
{
    double began = now_ns();
    for (int i = 0; i < count; i++)
        check(tine_submit(pool, add, &i, sizeof i, NULL, &(tine_id){0}), "tine_submit");
    take(pool, count);
    return (now_ns() - began) / count;
}

static double items(tine_pool *pool, int count)
{
    int *in = malloc((size_t)count * sizeof *in), *out = malloc((size_t)count * sizeof *out);
    if (!in || !out)
        exit(1);
    for (int i = 0; i < count; i++)
        in[i] = i;
    double began = now_ns();
    check(tine_map(pool, add_item, in, sizeof *in, out, sizeof *out, (size_t)count, NULL), "tine_map");
    double took = (now_ns() - began) / count;
    free(in), free(out);
    return took;
}

static double megabytes(tine_pool *pool, int count)
{
    char *input = tine_alloc(pool, MEGABYTE);
    if (!input)
        exit(1);
    memset(input, 1, MEGABYTE);
    double began = now_ns();
    for (int i = 0; i < count; i++)
        check(tine_submit(pool, first_byte, input, MEGABYTE, NULL, &(tine_id){0}), "tine_submit");
    take(pool, count);
    double took = (now_ns() - began) / count;
    tine_free(pool, input);
    return took;
}

static int copy_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    memcpy(out, in, MEGABYTE);
    return 0;
}

static double long_items(tine_pool *pool, int count)
{
    enum { ITEMS = 32 };
    char *in = malloc((size_t)ITEMS * MEGABYTE), *out = malloc((size_t)ITEMS * MEGABYTE);
    if (!in || !out)
        exit(1);
    memset(in, 1, (size_t)ITEMS * MEGABYTE);
    memset(out, 0, (size_t)ITEMS * MEGABYTE);
    int rounds = count / ITEMS + 1;
    double began = now_ns();
    for (int i = 0; i < rounds; i++)
        check(tine_map(pool, copy_item, in, MEGABYTE, out, MEGABYTE, ITEMS, NULL), "tine_map");
    double took = (now_ns() - began) / rounds / ITEMS;
    free(in), free(out);
    return took;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double (*measure)(tine_pool *, int);
    } rows[] = {{"round-trip", round_trip}, {"tasks", tasks}, {"items", items}, {"megabytes", megabytes}, {"long-items", long_items}};
    check(tine_init(argc, argv), "tine_init");
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool;
    options.error = &error;
    options.engine = TINE_ENGINE_MPI;
    options.workers = 1;
    if (argc != 3) {
        fprintf(stderr, "usage: tasks ROW COUNT\n");
        return 2;
    }
    if (tine_pool_create(&options, &pool)) {
        fprintf(stderr, "tasks: tine_pool_create: %s\n", error.text);
        return 1;
    }
    int count = atoi(argv[2]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t length = strlen(rows[i].name);
        int cpu = 0;
        if (strncmp(argv[1], rows[i].name, length))
            continue;
        cpu = strcmp(argv[1] + length, "-cpu") == 0;
        if (argv[1][length] && !cpu)
            continue;
        rows[i].measure(pool, count / 10 + 1); /* all is warm then */
        double began = cpu_ns(), took = rows[i].measure(pool, count);
        printf("%.0f\n", cpu ? (cpu_ns() - began) / count : took);
    }
    check(tine_pool_shutdown(pool, TINE_FOREVER), "tine_pool_shutdown");
    tine_pool_destroy(pool);
    return 0;
}
