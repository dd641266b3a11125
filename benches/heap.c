/* The cost of a block next to malloc's: `make bench`. alloc and free of 64 bytes, with one thread and several, in one process and
 * several; blocks replaced at random; and what it costs to hand over a large block as compared with a small one. */
#define _GNU_SOURCE
#include "bench.h"
#include <pthread.h>
#include <stdint.h>

enum { PAIRS = 1000000, SMALL = 64, LARGE = 6 << 20 };

static tine_pool *pool;
static void *small, *large; /* inputs */

static double ours(void)
{
    double began = now_ns();
    for (int i = 0; i < PAIRS; i++) {
        void *volatile block = tine_alloc(pool, 64);
        tine_free(pool, block);
    }
    return (now_ns() - began) / PAIRS;
}

static double libcs(void)
{
    double began = now_ns();
    for (int i = 0; i < PAIRS; i++) {
        void *volatile block = malloc(64);
        free(block);
    }
    return (now_ns() - began) / PAIRS;
}

static void *sleeper(void *mutex)
{
    pthread_mutex_lock(mutex);
    return NULL;
}

struct thread {
    int is_ours;
    double took;
};

static void *in_thread(void *argument)
{
    struct thread *thread = argument;
    thread->took = thread->is_ours ? ours() : libcs();
    return NULL;
}

/* What a pair takes each of two threads that do it at once. */
static double in_threads(int is_ours)
{
    pthread_t threads[2];
    struct thread arguments[2] = {{is_ours, 0}, {is_ours, 0}};
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, in_thread, &arguments[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return (arguments[0].took + arguments[1].took) / 2;
}

static int in_worker(tine_task *task)
{
    double *took = tine_output(task, sizeof *took);
    pool = tine_task_pool(task);
    *took = *(const int *)tine_input(task, NULL) ? ours() : libcs();
    return 0;
}

/* What a pair takes each of so many workers. */
static double in_workers(int workers, int which)
{
    tine_id ids[2];
    tine_result result = TINE_RESULT_INIT;
    double sum = 0;
    for (int i = 0; i < workers; i++)
        must(tine_submit(pool, in_worker, &which, sizeof which, NULL, &ids[i]), "submit");
    for (int i = 0; i < workers; i++) {
        if (tine_wait(pool, ids[i], TINE_FOREVER, &result))
            exit(1);
        sum += *(double *)result.data;
        tine_result_release(pool, &result);
    }
    return sum / workers;
}

static int take_input(tine_task *task)
{
    size_t length;
    return *(const unsigned char *)tine_input(task, &length);
}

static int give_output(tine_task *task)
{
    size_t length = *(const size_t *)tine_input(task, NULL);
    unsigned char *out = tine_output(task, length);
    if (!out)
        return -ENOMEM;
    *out = 1;
    return 0;
}

/* One task there and back, whose input or output is of that length: it is handed over, and not looked at. */
static double hand_over(tine_fn fn, const void *input, size_t length)
{
    enum { TASKS = 2000 };
    double began = now_ns();
    for (int i = 0; i < TASKS; i++) {
        tine_result result = TINE_RESULT_INIT;
        tine_id id;
        if (tine_submit(pool, fn, input, length, NULL, &id) || tine_wait(pool, id, TINE_FOREVER, &result))
            exit(1);
        tine_result_release(pool, &result);
    }
    return (now_ns() - began) / TASKS;
}

/* A block, of tine's heap or of the C library's. */
static void *get(int is_ours, size_t size)
{
    return is_ours ? tine_alloc(pool, size) : malloc(size);
}

static void put(int is_ours, void *block)
{
    if (is_ours)
        tine_free(pool, block);
    else
        free(block);
}

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random >> 8;
}

/* What it takes to free one of so many blocks at random, and to allocate another in its place. */
static double replace(int is_ours, size_t count, size_t least, size_t span)
{
    enum { REPLACED = 200000 };
    void **blocks = malloc(count * sizeof *blocks);
    uint64_t random = 88172645463325252u;
    for (size_t i = 0; i < count; i++)
        blocks[i] = get(is_ours, least + next_random(&random) % span);
    double began = now_ns();
    for (int i = 0; i < REPLACED; i++) {
        size_t place = next_random(&random) % count;
        put(is_ours, blocks[place]);
        blocks[place] = get(is_ours, least + next_random(&random) % span);
        if (!blocks[place])
            exit(1);
    }
    double took = (now_ns() - began) / REPLACED;
    for (size_t i = 0; i < count; i++)
        put(is_ours, blocks[i]);
    free(blocks);
    return took;
}

/* What the rows measure. */

static double workers_1(void) { return in_workers(1, 1); }
static double workers_2(void) { return in_workers(2, 1); }
static double malloc_workers_1(void) { return in_workers(1, 0); }
static double malloc_workers_2(void) { return in_workers(2, 0); }
static double threads_2(void) { return in_threads(1); }
static double malloc_threads_2(void) { return in_threads(0); }
static double thousand(void) { return replace(1, 1000, SMALL, 1); }
static double malloc_thousand(void) { return replace(0, 1000, SMALL, 1); }
static double many(void) { return replace(1, 256000, SMALL, 1); }
static double malloc_many(void) { return replace(0, 256000, SMALL, 1); }
static double megabytes(void) { return replace(1, 4, 1000000, 29000000); }
static double malloc_megabytes(void) { return replace(0, 4, 1000000, 29000000); }
static double input_small(void) { return hand_over(take_input, small, SMALL); }
static double input_large(void) { return hand_over(take_input, large, LARGE); }

static double output_of(size_t length) { return hand_over(give_output, &length, sizeof length); }
static double output_small(void) { return output_of(SMALL); }
static double output_large(void) { return output_of(LARGE); }

/* One thread, while a second one sleeps: the C library's malloc is slower then. */
static double beside_a_sleeper(double (*measure)(void))
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&mutex);
    pthread_create(&thread, NULL, sleeper, &mutex);
    double each = measure();
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    return each;
}
static double sleeping(void) { return beside_a_sleeper(ours); }
static double malloc_sleeping(void) { return beside_a_sleeper(libcs); }

int main(int argc, char **argv)
{
    static struct row rows[] = {
        OURS("alloc and free of 64 B, one thread", "ns", 1, ours),
        PEER("malloc, free", "ns", 1, libcs, 1.5),
        OURS("the same, a second thread sleeps", "ns", 1, sleeping),
        PEER("malloc, free", "ns", 1, malloc_sleeping, 0),
        OURS("the same, each of 2 threads at once", "ns", 1, threads_2),
        PEER("malloc, free", "ns", 1, malloc_threads_2, 2),
        OURS("the same, in a worker", "ns", 1, workers_1),
        PEER("malloc, free", "ns", 1, malloc_workers_1, 0),
        OURS("the same, each of 2 workers at once", "ns", 1, workers_2),
        PEER("malloc, free", "ns", 1, malloc_workers_2, 0),
        OURS("one of 1,000 blocks of 64 B replaced", "ns", 1, thousand),
        PEER("malloc, free", "ns", 1, malloc_thousand, 3),
        OURS("one of 256,000 blocks of 64 B replaced", "ns", 1, many),
        PEER("malloc, free", "ns", 1, malloc_many, 3),
        OURS("one of 4 blocks of 1 to 30 MB replaced", "ns", 1, megabytes),
        PEER("malloc, free", "ns", 1, malloc_megabytes, 1),
        OURS("a task with an input of 6 MiB", "us", 1e3, input_large),
        PEER("an input of 64 B", "us", 1e3, input_small, 0),
        OURS("a task with an output of 6 MiB", "us", 1e3, output_large),
        PEER("an output of 64 B", "us", 1e3, output_small, 0),
    };
    tine_init(argc, argv);
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    must(tine_pool_create(&options, &pool), "create");
    small = tine_calloc(pool, 1, SMALL);
    large = tine_calloc(pool, 1, LARGE);
    run_table(rows, sizeof rows / sizeof *rows, argc, argv);
    tine_pool_destroy(pool);
    return 0;
}
