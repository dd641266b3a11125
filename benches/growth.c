/* What must not grow: the cost of a task with the number of workers, of the host's threads, of tasks outstanding, and with the length
 * of its input in the heap; and the start of a pool with the host's memory. `make bench`. */
#define _GNU_SOURCE
#include "bench.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define TASKS 20000
#define MOST_THREADS 1024
#define WORKERS_AXIS "workers"
#define THREADS_AXIS "threads of the host that submit and wait"
#define OUTSTANDING_AXIS "tasks outstanding"
#define INPUT_AXIS "input of a task, in the heap (bytes)"

static int nothing(tine_task *task) { (void)task; return 0; }

static tine_pool *new_pool(unsigned workers)
{
    tine_pool *pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = workers;
    options.window_tasks = 20000000;
    options.start_timeout_ns = 300000000000;
    must(tine_pool_create(&options, &pool), "create");
    return pool;
}

/* Submits so many tasks and takes all results. Returns nanoseconds for each. */
static double run_tasks(tine_pool *pool, int tasks)
{
    tine_result result = TINE_RESULT_INIT;
    double start = now_ns();
    for (int task = 0; task < tasks; task++) must(tine_submit(pool, nothing, NULL, 0, NULL, NULL), "submit");
    while (tine_next(pool, TINE_FOREVER, &result) == 0) { }
    return (now_ns() - start) / tasks;
}

/* Workers. Each pool is made when it is first measured, and stays: most of its workers sleep. */

#define WORKERS(count)                                                                                     \
    static double workers_##count(void)                                                                    \
    {                                                                                                      \
        static tine_pool *pool;                                                                            \
        if (!pool) run_tasks(pool = new_pool(count), TASKS);                                               \
        return run_tasks(pool, TASKS);                                                                     \
    }
WORKERS(1)
WORKERS(2)
WORKERS(16)
WORKERS(256)
WORKERS(1024)
WORKERS(2048)

/* Outstanding tasks. */

static tine_pool *pool;
/* As many tasks in all, whatever is outstanding at a time, up to TASKS. */
static double outstanding(int tasks)
{
    int times = tasks < TASKS ? TASKS / tasks : 1;
    double sum = 0;
    for (int i = 0; i < times; i++) sum += run_tasks(pool, tasks);
    return sum / times;
}
static double outstanding_100(void) { return outstanding(100); }
static double outstanding_1000(void) { return outstanding(1000); }
static double outstanding_10000(void) { return outstanding(10000); }
static double outstanding_100000(void) { return outstanding(100000); }
static double outstanding_1000000(void) { return outstanding(1000000); }
static double outstanding_10000000(void) { return outstanding(10000000); }

/* Inputs in the heap, which are handed over and not copied. */

static double input_of(size_t length)
{
    enum { TRIPS = 2000 };
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    void *input = tine_calloc(pool, 1, length);
    if (!input) fprintf(stderr, "no memory for an input of %zu bytes\n", length), exit(1);
    double start = now_ns();
    for (int trip = 0; trip < TRIPS; trip++) {
        must(tine_submit(pool, nothing, input, length, NULL, &id), "submit");
        must(tine_wait(pool, id, TINE_FOREVER, &result), "wait");
        tine_result_release(pool, &result);
    }
    double each = (now_ns() - start) / TRIPS;
    tine_free(pool, input);
    return each;
}
static double input_8(void) { return input_of(8); }
static double input_4k(void) { return input_of(4 << 10); }
static double input_1m(void) { return input_of(1 << 20); }
static double input_64m(void) { return input_of(64 << 20); }

/* Hosts of different size. */

static double pool_up(int start, size_t megabytes)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    char *memory = mmap(NULL, megabytes << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return 0;
    options.workers = 2;
    options.start = start;
    double began = now_ns();
    must(tine_pool_create(&options, &other), "create");
    double up = now_ns() - began;
    tine_pool_destroy(other);
    munmap(memory, megabytes << 20);
    return up;
}
static double up_10_mb(void) { return pool_up(TINE_START_FORKSERVER, 10); }
static double up_2_gb(void) { return pool_up(TINE_START_FORKSERVER, 2048); }
static double fork_10_mb(void) { return pool_up(TINE_START_FORK, 10); }
static double fork_2_gb(void) { return pool_up(TINE_START_FORK, 2048); }

/* Threads of the host that each submit a task and wait for it, again and again. */

static int per_thread;

static void *submit_and_wait(void *unused)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    for (int task = 0; task < per_thread; task++) {
        must(tine_submit(pool, nothing, NULL, 0, NULL, &id), "submit");
        must(tine_wait(pool, id, TINE_FOREVER, &result), "wait");
        tine_result_release(pool, &result);
    }
    return unused;
}

/* The limit, written by hand: each thread enters itself into a list and sleeps on a futex of its own; one dispatcher takes
 * from the list and wakes. */
struct sleeper { atomic_int word; struct sleeper *next; };
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sleeper *list;
static atomic_int list_word, over;

static void futex(atomic_int *word, int operation, int value)
{
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void *dispatch(void *unused)
{
    while (!over) {
        pthread_mutex_lock(&list_lock);
        struct sleeper *taken = list;
        list = NULL;
        if (!taken) list_word = 0;
        pthread_mutex_unlock(&list_lock);
        if (!taken) futex(&list_word, FUTEX_WAIT, 0);
        while (taken) {
            struct sleeper *sleeper = taken;
            taken = sleeper->next;
            sleeper->word = 1;
            futex(&sleeper->word, FUTEX_WAKE, 1);
        }
    }
    return unused;
}

static void *enter_and_sleep(void *unused)
{
    /* Static, since the dispatcher may wake it once more after it has gone on. */
    static __thread struct sleeper self;
    for (int task = 0; task < per_thread; task++) {
        self.word = 0;
        pthread_mutex_lock(&list_lock);
        self.next = list;
        list = &self;
        int asleep = !list_word;
        list_word = 1;
        pthread_mutex_unlock(&list_lock);
        if (asleep) futex(&list_word, FUTEX_WAKE, 1);
        while (!self.word) futex(&self.word, FUTEX_WAIT, 0);
    }
    return unused;
}

/* Nanoseconds for each task of so many threads. */
static double threads(void *(*run)(void *), int count)
{
    static pthread_t ids[MOST_THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 << 10);
    per_thread = TASKS / count + 1;
    double start = now_ns();
    for (int thread = 0; thread < count; thread++)
        if (pthread_create(&ids[thread], &small, run, NULL)) exit(1);
    for (int thread = 0; thread < count; thread++) pthread_join(ids[thread], NULL);
    return (now_ns() - start) / ((double)per_thread * count);
}

static double by_hand(int count)
{
    pthread_t dispatcher;
    over = 0;
    if (pthread_create(&dispatcher, NULL, dispatch, NULL)) exit(1);
    double each = threads(enter_and_sleep, count);
    over = 1;
    list_word = 1;
    futex(&list_word, FUTEX_WAKE, 1);
    pthread_join(dispatcher, NULL);
    return each;
}

#define THREADS(count)                                                                                     \
    static double threads_##count(void) { return threads(submit_and_wait, count); }                        \
    static double by_hand_##count(void) { return by_hand(count); }
THREADS(1)
THREADS(16)
THREADS(256)
THREADS(1024)

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    pool = new_pool(2);
    static struct row rows[] = {
        OURS_AT(THREADS_AXIS, 1, "1 thread of the host, a task", "us", 1e3, threads_1),
        PEER("dispatcher and futexes, by hand", "us", 1e3, by_hand_1, 0),
        OURS_AT(THREADS_AXIS, 16, "16 threads of the host, a task", "us", 1e3, threads_16),
        PEER("dispatcher and futexes, by hand", "us", 1e3, by_hand_16, 1.11),
        OURS_AT(THREADS_AXIS, 256, "256 threads of the host, a task", "us", 1e3, threads_256),
        PEER("dispatcher and futexes, by hand", "us", 1e3, by_hand_256, 1.11),
        OURS_AT(THREADS_AXIS, 1024, "1,024 threads of the host, a task", "us", 1e3, threads_1024),
        PEER("dispatcher and futexes, by hand", "us", 1e3, by_hand_1024, 1.11),
        OURS_AT(WORKERS_AXIS, 1, "1 worker, a task", "us", 1e3, workers_1),
        PEER("2 workers", "us", 1e3, workers_2, 0),
        OURS_AT(WORKERS_AXIS, 16, "16 workers, a task", "us", 1e3, workers_16),
        PEER("2 workers", "us", 1e3, workers_2, 1.5),
        OURS_AT(WORKERS_AXIS, 256, "256 workers, a task", "us", 1e3, workers_256),
        PEER("2 workers", "us", 1e3, workers_2, 1.5),
        OURS_WHOLE(WORKERS_AXIS, 1024, "1,024 workers, a task", "us", 1e3, workers_1024),
        PEER("2 workers", "us", 1e3, workers_2, 1.5),
        OURS_WHOLE(WORKERS_AXIS, 2048, "2,048 workers, a task", "us", 1e3, workers_2048),
        PEER("2 workers", "us", 1e3, workers_2, 1.5),
        OURS_AT(OUTSTANDING_AXIS, 100, "100 tasks outstanding, a task", "us", 1e3, outstanding_100),
        PEER("1,000 outstanding", "us", 1e3, outstanding_1000, 0),
        OURS_AT(OUTSTANDING_AXIS, 1e4, "10,000 tasks outstanding, a task", "us", 1e3, outstanding_10000),
        PEER("1,000 outstanding", "us", 1e3, outstanding_1000, 1.1),
        OURS_AT(OUTSTANDING_AXIS, 1e5, "100,000 tasks outstanding, a task", "us", 1e3, outstanding_100000),
        PEER("1,000 outstanding", "us", 1e3, outstanding_1000, 1.1),
        OURS_AT(OUTSTANDING_AXIS, 1e6, "1,000,000 tasks outstanding, a task", "us", 1e3, outstanding_1000000),
        PEER("1,000 outstanding", "us", 1e3, outstanding_1000, 1.1),
        OURS_WHOLE(OUTSTANDING_AXIS, 1e7, "10,000,000 tasks outstanding, a task", "us", 1e3, outstanding_10000000),
        PEER("1,000 outstanding", "us", 1e3, outstanding_1000, 1.1),
        OURS_AT(INPUT_AXIS, 4096, "a task with 4 KiB in the heap", "us", 1e3, input_4k),
        PEER("8 B in the heap", "us", 1e3, input_8, 1.5),
        OURS_AT(INPUT_AXIS, 1 << 20, "a task with 1 MiB in the heap", "us", 1e3, input_1m),
        PEER("8 B in the heap", "us", 1e3, input_8, 1.5),
        OURS_AT(INPUT_AXIS, 64 << 20, "a task with 64 MiB in the heap", "us", 1e3, input_64m),
        PEER("8 B in the heap", "us", 1e3, input_8, 1.5),
        OURS("pool of 2 ready, a host of 2 GB more", "ms", 1e6, up_2_gb),
        PEER("10 MB more", "ms", 1e6, up_10_mb, 1.5),
        OURS("pool of 2 by fork, a host of 2 GB more", "ms", 1e6, fork_2_gb),
        PEER("10 MB more", "ms", 1e6, fork_10_mb, 0),
    };
    run_table(rows, sizeof rows / sizeof *rows, argc, argv);
    tine_pool_destroy(pool);
    return 0;
}
