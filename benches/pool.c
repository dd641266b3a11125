/* Pools next to their peers: `make bench`. On a machine with a python3 its pools are measured in the same rounds. */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 2

static tine_pool *pool;

/* What the tasks do. */

static int nothing(tine_task *task) { (void)task; return 0; }

static int nothing_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in + 1;
    return 0;
}

static int nothing_range(tine_task *task, size_t begin, size_t end)
{
    (void)task;
    for (volatile size_t at = begin; at < end; at++) { }
    return 0;
}

static void busy(double ns)
{
    double end = now_ns() + ns;
    while (now_ns() < end) { }
}

static int ten_milliseconds(tine_task *task) { (void)task; busy(10e6); return 0; }

static int megabyte(tine_task *task)
{
    size_t length;
    const unsigned char *in = tine_input(task, &length);
    unsigned char *out = tine_output(task, length);
    if (!out) return -ENOMEM;
    for (size_t at = 0; at < length; at += 64) out[at] = in[at];
    return 0;
}

/* One empty task, there and back. */

static double trip_of_tine(double pause_ns)
{
    enum { HOT = 5000, ASLEEP = 200 };
    int trips = pause_ns ? ASLEEP : HOT;
    static double each[HOT];
    tine_result result = TINE_RESULT_INIT;
    tine_id id;

    for (int trip = 0; trip < trips; trip++) {
        if (pause_ns) usleep((useconds_t)(pause_ns / 1e3));
        double start = now_ns();
        must(tine_submit(pool, nothing, NULL, 0, NULL, &id), "submit");
        must(tine_wait(pool, id, TINE_FOREVER, &result), "wait");
        each[trip] = now_ns() - start;
    }
    return median(each, trips);
}

static int there[2], back[2];
static pid_t echo;

static void start_echo(void)
{
    if (pipe(there) || pipe(back)) exit(1);
    if ((echo = fork()) != 0) return;
    char byte;
    close(there[1]);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) { }
    _exit(0);
}

static double trip_of_pipe(double pause_ns)
{
    enum { TRIPS = 1000 };
    int trips = pause_ns ? 200 : TRIPS;
    static double each[TRIPS];
    char byte = 0;

    for (int trip = 0; trip < trips; trip++) {
        if (pause_ns) usleep((useconds_t)(pause_ns / 1e3));
        double start = now_ns();
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) exit(1);
        each[trip] = now_ns() - start;
    }
    return median(each, trips);
}

/* The least that two processes can take: each looks at one word until it changes. The pool's workers sleep meanwhile. */
static double hot_pair(void)
{
    enum { TRIPS = 5000 };
    static double each[TRIPS];
    volatile int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t other = fork();
    if (!other) {
        for (int trip = 0; trip < TRIPS; trip++) {
            while (word[0] != trip + 1) { }
            word[16] = trip + 1;
        }
        _exit(0);
    }
    for (int trip = 0; trip < TRIPS; trip++) {
        double start = now_ns();
        word[0] = trip + 1;
        while (word[16] != trip + 1) { }
        each[trip] = now_ns() - start;
    }
    waitpid(other, NULL, 0);
    munmap((void *)word, 4096);
    return median(each, TRIPS);
}

static double hot_tine(void) { return trip_of_tine(0); }
static double hot_pipe(void) { return trip_of_pipe(0); }
static double asleep_tine(void) { return trip_of_tine(500e3); }

static double asleep_pipe(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(echo, sizeof set, &set);
    pin(0);
    double trip = trip_of_pipe(500e3);
    pin(-1);
    return trip;
}
static double asleep_pipe_across(void) { return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? asleep_pipe(1) : 0; }
static double asleep_pipe_on_one(void) { return asleep_pipe(0); }

/* 100,000 empty tasks, each on its own. */

enum { MANY = 100000 };

static double many_of_tine(void)
{
    tine_result result = TINE_RESULT_INIT;
    int taken = 0;
    double start = now_ns();
    for (int task = 0; task < MANY; task++) must(tine_submit(pool, nothing, NULL, 0, NULL, NULL), "submit");
    while (tine_next(pool, TINE_FOREVER, &result) == 0) taken++;
    if (taken != MANY) exit(1);
    return (now_ns() - start) / MANY;
}

static double many_of_openmp(void)
{
    static int sink[MANY];
    (void)sink;
    double start = now_ns();
#pragma omp parallel num_threads(WORKERS)
#pragma omp single
    for (int task = 0; task < MANY; task++) {
#pragma omp task firstprivate(task)
        sink[task] = task;
    }
    return (now_ns() - start) / MANY;
}

#ifdef HAVE_TBB /* pool_tbb.cpp */
void tbb_empty_tasks(int tasks, int threads);
static double many_of_tbb(void)
{
    double start = now_ns();
    tbb_empty_tasks(MANY, WORKERS);
    return (now_ns() - start) / MANY;
}
#else
static double many_of_tbb(void) { return 0; }
#endif

static double many_of_rayon(void) { return of_program("build/benches/peers/release/pool-peers rayon"); }
static double many_of_crossbeam(void) { return of_program("build/benches/peers/release/pool-peers crossbeam"); }
static double many_of_loky(void) { return of_program("$PYTHON_PEERS benches/pool-python.py loky"); }
static double many_of_joblib(void) { return of_program("$PYTHON_PEERS benches/pool-python.py joblib"); }
static double many_of_pebble(void) { return of_program("$PYTHON_PEERS benches/pool-python.py pebble"); }
static double many_of_mpi(void) { return of_program("$PYTHON_PEERS benches/pool-python.py mpi4py"); }
static double many_of_executor(void) { return of_program("python3 benches/pool-python.py executor"); }
static double many_of_pool_map(void) { return of_program("python3 benches/pool-python.py pool_map"); }

/* Maps and loops, per item. */

enum { ITEMS = 1000000 };
static int *items_in, *items_out;

static double map_of_tine(size_t chunk)
{
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.chunk = chunk;
    double start = now_ns();
    must(tine_map(pool, nothing_item, items_in, sizeof *items_in, items_out, sizeof *items_out, ITEMS, &options), "map");
    return (now_ns() - start) / ITEMS;
}

static double map_measured(void) { return map_of_tine(0); }
static double map_fixed(void) { return map_of_tine(10000); }

static double for_of_tine(void)
{
    double start = now_ns();
    must(tine_for(pool, nothing_range, 0, ITEMS, NULL), "for");
    return (now_ns() - start) / ITEMS;
}

static double map_of_openmp(void)
{
    double start = now_ns();
#pragma omp parallel for schedule(dynamic, 1) num_threads(WORKERS)
    for (int item = 0; item < ITEMS; item++) items_out[item] = items_in[item] + 1;
    return (now_ns() - start) / ITEMS;
}

/* Items that take very different times: most 5 us, and at the end, where it hurts, some 1 ms. */

enum { UNEVEN = 4000, SLOW = 40 };

static int uneven_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    (void)out;
    busy(*(const int *)in < UNEVEN - SLOW ? 5e3 : 1e6);
    return 0;
}

static double uneven_of(size_t chunk)
{
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.chunk = chunk;
    double start = now_ns();
    must(tine_map(pool, uneven_item, items_in, sizeof *items_in, NULL, 0, UNEVEN, &options), "map");
    return now_ns() - start;
}

static double uneven_measured(void) { return uneven_of(0); }
static double uneven_1(void) { return uneven_of(1); }
static double uneven_8(void) { return uneven_of(8); }
static double uneven_64(void) { return uneven_of(64); }

/* 1 MiB in and 1 MiB out per task, in the heap. */

enum { MEGABYTE = 1 << 20, MEGABYTES = 100 };

static double megabytes_of_tine(void)
{
    tine_result result = TINE_RESULT_INIT;
    void *input = tine_alloc(pool, MEGABYTE);
    double start = now_ns();
    for (int task = 0; task < MEGABYTES; task++) {
        must(tine_submit(pool, megabyte, input, MEGABYTE, NULL, NULL), "submit");
        if (task < 4) continue; /* a few under way at a time, as a pipeline has them */
        must(tine_next(pool, TINE_FOREVER, &result), "next");
        tine_result_release(pool, &result);
    }
    while (tine_next(pool, TINE_FOREVER, &result) == 0) tine_result_release(pool, &result);
    double each = (now_ns() - start) / MEGABYTES;
    tine_free(pool, input);
    return each;
}

static double megabytes_of_forks(void)
{
    unsigned char *shared = mmap(NULL, 3 * MEGABYTE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(shared, 1, 3 * MEGABYTE);
    double start = now_ns();
    for (int worker = 0; worker < WORKERS; worker++) {
        if (fork()) continue;
        unsigned char *out = shared + (1 + worker) * MEGABYTE;
        for (int task = 0; task < MEGABYTES / WORKERS; task++)
            for (size_t at = 0; at < MEGABYTE; at += 64) out[at] = ((volatile unsigned char *)shared)[at];
        _exit(0);
    }
    for (int worker = 0; worker < WORKERS; worker++) wait(NULL);
    double each = (now_ns() - start) / MEGABYTES;
    munmap(shared, 3 * MEGABYTE);
    return each;
}

/* Tasks of 10 ms. */

enum { LONG_TASKS = 40 };

static double long_of_tine(void)
{
    tine_result result = TINE_RESULT_INIT;
    double start = now_ns();
    for (int task = 0; task < LONG_TASKS; task++) must(tine_submit(pool, ten_milliseconds, NULL, 0, NULL, NULL), "submit");
    while (tine_next(pool, TINE_FOREVER, &result) == 0) { }
    return now_ns() - start;
}

static double long_of_forks(void)
{
    double start = now_ns();
    for (int worker = 0; worker < WORKERS; worker++) {
        if (fork()) continue;
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET(worker, &own);
        sched_setaffinity(0, sizeof own, &own);
        for (int task = 0; task < LONG_TASKS / WORKERS; task++) busy(10e6);
        _exit(0);
    }
    for (int worker = 0; worker < WORKERS; worker++) wait(NULL);
    return now_ns() - start;
}

/* A pool up and down; a worker replaced. */

static double down_ns;

static double pool_up(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    options.workers = WORKERS;
    options.start = start;
    double began = now_ns();
    must(tine_pool_create(&options, &other), "create");
    double up = now_ns() - began;
    began = now_ns();
    tine_pool_destroy(other);
    down_ns = now_ns() - began;
    return up;
}

static double up_forkserver(void) { return pool_up(TINE_START_FORKSERVER); }
static double up_spawn(void) { return pool_up(TINE_START_SPAWN); }
static double up_fork(void) { return pool_up(TINE_START_FORK); }
static double down(void) { return down_ns; }

static double up_of_forks(void)
{
    int ready[2];
    char byte;
    if (pipe(ready)) exit(1);
    double start = now_ns();
    for (int worker = 0; worker < WORKERS; worker++)
        if (!fork()) _exit(write(ready[1], "", 1) != 1);
    for (int worker = 0; worker < WORKERS; worker++) if (read(ready[0], &byte, 1) != 1) exit(1);
    double took = now_ns() - start;
    for (int worker = 0; worker < WORKERS; worker++) wait(NULL);
    close(ready[0]);
    close(ready[1]);
    return took;
}

static int kill_self(tine_task *task) { (void)task; return raise(SIGKILL); }

/* From the submission of a task that kills its worker until as many workers as before are ready. */
static double replaced(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_stats stats = TINE_STATS_INIT;
    tine_id id;
    double start = now_ns();
    must(tine_submit(pool, kill_self, NULL, 0, NULL, &id), "submit");
    must(tine_wait(pool, id, TINE_FOREVER, &result), "wait");
    tine_result_release(pool, &result);
    do must(tine_pool_stats(pool, &stats), "stats"); while (stats.workers_ready < WORKERS);
    return now_ns() - start;
}

static struct row rows[] = {
    OURS("empty task there and back, host waiting", "us", 1e3, hot_tine),
    PEER("a bare pair of spinning processes", "us", 1e3, hot_pair, 3),
    PEER("pipe between two processes", "us", 1e3, hot_pipe, 0),
    OURS("empty task there and back, both asleep", "us", 1e3, asleep_tine),
    PEER("pipe, both asleep, each on a processor", "us", 1e3, asleep_pipe_across, 0.5),
    PEER("pipe, both asleep, on one processor", "us", 1e3, asleep_pipe_on_one, 0),
    OURS("100,000 empty tasks, each", "us", 1e3, many_of_tine),
    PEER("oneTBB task_group, 2 threads", "us", 1e3, many_of_tbb, 2.2),
    PEER("OpenMP task, 2 threads", "us", 1e3, many_of_openmp, 0),
    PEER("ProcessPoolExecutor.submit", "us", 1e3, many_of_executor, 1 / 200.0),
    PEER("multiprocessing.Pool.map, chunk 1", "us", 1e3, many_of_pool_map, 1 / 70.0),
    PEER("rayon, 2 threads", "us", 1e3, many_of_rayon, 0),
    PEER("crossbeam channel, 2 threads", "us", 1e3, many_of_crossbeam, 0),
    PEER("loky", "us", 1e3, many_of_loky, 0),
    PEER("joblib", "us", 1e3, many_of_joblib, 0),
    PEER("pebble", "us", 1e3, many_of_pebble, 0),
    PEER("mpi4py.futures", "us", 1e3, many_of_mpi, 0),
    OURS("map, chunk measured, per item", "ns", 1, map_measured),
    PEER("OpenMP dynamic, per item", "ns", 1, map_of_openmp, 0.4),
    OURS("map, chunk 10,000, per item", "ns", 1, map_fixed),
    PEER("OpenMP dynamic, per item", "ns", 1, map_of_openmp, 0),
    OURS("for, chunk measured, per item", "ns", 1, for_of_tine),
    PEER("OpenMP dynamic, per item", "ns", 1, map_of_openmp, 0),
    OURS("4,000 uneven items, chunk measured", "ms", 1e6, uneven_measured),
    PEER("chunk 1", "ms", 1e6, uneven_1, 1.2),
    PEER("chunk 8", "ms", 1e6, uneven_8, 1.2),
    PEER("chunk 64", "ms", 1e6, uneven_64, 1.2),
    OURS("1 MiB in, 1 MiB out, per task", "us", 1e3, megabytes_of_tine),
    PEER("two forks touching the same bytes", "us", 1e3, megabytes_of_forks, 0.55),
    OURS("40 tasks of 10 ms, 2 workers", "ms", 1e6, long_of_tine),
    PEER("two pinned forks, static split", "ms", 1e6, long_of_forks, 1.01),
    OURS("pool of 2 ready, fork", "ms", 1e6, up_fork),
    PEER("two bare forks ready", "ms", 1e6, up_of_forks, 1.6),
    OURS("pool of 2 ready, forkserver", "ms", 1e6, up_forkserver),
    PEER("two bare forks ready", "ms", 1e6, up_of_forks, 0),
    OURS("the same, destroyed", "ms", 1e6, down),
    OURS("pool of 2 ready, spawn", "ms", 1e6, up_spawn),
    OURS("worker killed, another one ready", "ms", 1e6, replaced),
};

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    start_echo(); /* before the pool, so that it is not the pool's pipes that it holds open */

    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = WORKERS;
    must(tine_pool_create(&options, &pool), "create");
    items_in = tine_alloc(pool, ITEMS * sizeof *items_in);
    items_out = tine_alloc(pool, ITEMS * sizeof *items_out);
    if (!items_in || !items_out) return 1;
    for (int item = 0; item < ITEMS; item++) items_in[item] = item;

    run_table(rows, sizeof rows / sizeof *rows, argc, argv);
    close(there[1]);
    tine_pool_destroy(pool);
    return 0;
}
