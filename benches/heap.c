/* The cost of a block: alloc and free of 64 bytes in the pool's heap next to malloc and free, with one thread and several,
 * in one process and several; and what it costs to hand over a large block as compared with a small one.
 *
 *     cc -O2 benches/heap.c $(pkg-config --cflags --libs tine) -o heap && ./heap */
#include <tine.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 9, PAIRS = 1000000 };

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static double ours(tine_pool *pool)
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

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

static void print_row(const char *what, double *tine, double *libc)
{
    double a = median(tine), b = median(libc);
    printf("%-44s tine %6.1f ns   malloc %6.1f ns   %.2fx\n", what, a, b, a / b);
}

static void side_by_side(tine_pool *pool, const char *what)
{
    double tine[ROUNDS], libc[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        libc[round] = libcs();
        tine[round] = ours(pool);
    }
    print_row(what, tine, libc);
}

static void *sleeper(void *mutex)
{
    pthread_mutex_lock(mutex);
    return NULL;
}

struct thread {
    tine_pool *pool;
    double took;
};

static void *in_thread(void *argument)
{
    struct thread *thread = argument;
    thread->took = thread->pool ? ours(thread->pool) : libcs();
    return NULL;
}

/* What a pair takes each of two threads that do it at once. */
static double in_threads(tine_pool *pool)
{
    pthread_t threads[2];
    struct thread arguments[2] = {{pool, 0}, {pool, 0}};
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, in_thread, &arguments[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return (arguments[0].took + arguments[1].took) / 2;
}

static int in_worker(tine_task *task)
{
    double *took = tine_output(task, sizeof *took);
    *took = *(const int *)tine_input(task, NULL) ? ours(tine_task_pool(task)) : libcs();
    return 0;
}

/* What a pair takes each of so many workers. */
static double in_workers(tine_pool *pool, int workers, int which)
{
    tine_id ids[2];
    tine_result result = TINE_RESULT_INIT;
    double sum = 0;
    for (int i = 0; i < workers; i++)
        if (tine_submit(pool, in_worker, &which, sizeof which, NULL, &ids[i]))
            exit(1);
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
static double hand_over(tine_pool *pool, tine_fn fn, const void *input, size_t length)
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

static void hand_over_side_by_side(tine_pool *pool)
{
    enum { SMALL = 64, LARGE = 6 << 20 };
    double small[2][ROUNDS], large[2][ROUNDS];
    void *inputs[2] = {tine_calloc(pool, 1, SMALL), tine_calloc(pool, 1, LARGE)};
    size_t lengths[2] = {SMALL, LARGE};
    for (int round = 0; round < ROUNDS; round++) {
        small[0][round] = hand_over(pool, take_input, inputs[0], SMALL);
        large[0][round] = hand_over(pool, take_input, inputs[1], LARGE);
        small[1][round] = hand_over(pool, give_output, &lengths[0], sizeof lengths[0]);
        large[1][round] = hand_over(pool, give_output, &lengths[1], sizeof lengths[1]);
    }
    for (int i = 0; i < 2; i++) {
        double a = median(large[i]), b = median(small[i]);
        printf("%-44s 6 MiB %6.2f us  64 bytes %6.2f us   %.2fx\n", i ? "one task with an output of" : "one task with an input of",
               a / 1e3, b / 1e3, a / b);
    }
    tine_free(pool, inputs[0]);
    tine_free(pool, inputs[1]);
}

/* A block, of tine's heap or of the C library's. */
static void *get(tine_pool *pool, size_t size)
{
    return pool ? tine_alloc(pool, size) : malloc(size);
}

static void put(tine_pool *pool, void *block)
{
    if (pool)
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
static double replace(tine_pool *pool, size_t count, size_t least, size_t span)
{
    enum { REPLACED = 200000 };
    void **blocks = malloc(count * sizeof *blocks);
    uint64_t random = 88172645463325252u;
    for (size_t i = 0; i < count; i++)
        blocks[i] = get(pool, least + next_random(&random) % span);
    double began = now_ns();
    for (int i = 0; i < REPLACED; i++) {
        size_t place = next_random(&random) % count;
        put(pool, blocks[place]);
        blocks[place] = get(pool, least + next_random(&random) % span);
        if (!blocks[place])
            exit(1);
    }
    double took = (now_ns() - began) / REPLACED;
    for (size_t i = 0; i < count; i++)
        put(pool, blocks[i]);
    free(blocks);
    return took;
}

static void replace_side_by_side(tine_pool *pool, const char *what, size_t count, size_t least, size_t span)
{
    double tine[ROUNDS], libc[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        libc[round] = replace(NULL, count, least, span);
        tine[round] = replace(pool, count, least, span);
    }
    print_row(what, tine, libc);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    tine_pool *pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    if (tine_pool_create(&options, &pool))
        return 1;
    printf("a pair of alloc and free of 64 bytes, medians of %d interleaved rounds\n", ROUNDS);
    side_by_side(pool, "one thread");
    replace_side_by_side(pool, "one of 1,000 blocks of 64 bytes replaced", 1000, 64, 1);
    replace_side_by_side(pool, "one of 256,000 blocks of 64 bytes replaced", 256000, 64, 1);
    replace_side_by_side(pool, "one of 4 blocks of 1 to 30 MB replaced", 4, 1000000, 29000000);
    for (int workers = 1; workers <= 2; workers++) {
        double tine[ROUNDS], libc[ROUNDS];
        for (int round = 0; round < ROUNDS; round++) {
            libc[round] = in_workers(pool, workers, 0);
            tine[round] = in_workers(pool, workers, 1);
        }
        print_row(workers == 1 ? "in a worker" : "each of two workers at once", tine, libc);
    }
    hand_over_side_by_side(pool);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&mutex);
    pthread_create(&thread, NULL, sleeper, &mutex);
    side_by_side(pool, "one thread, a second one sleeps");
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    double tine[ROUNDS], libc[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        libc[round] = in_threads(NULL);
        tine[round] = in_threads(pool);
    }
    print_row("each of two threads at once", tine, libc);
    tine_pool_destroy(pool);
    return 0;
}
