/* The cost of a block: alloc and free of 64 bytes in the pool's heap next to malloc and free, interleaved, medians.
 *
 *     cc -O2 benches/heap.c $(pkg-config --cflags --libs tine) -o heap && ./heap
 *
 * Alone in the process; with a second thread in it; and in two workers at once. */
#include <tine.h>
#include <pthread.h>
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

static void side_by_side(tine_pool *pool, const char *what)
{
    double tine[ROUNDS], libc[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        libc[round] = libcs();
        tine[round] = ours(pool);
    }
    double a = median(tine), b = median(libc);
    printf("%-28s tine %6.1f ns   malloc %6.1f ns   %.2fx\n", what, a, b, a / b);
}

static void *sleeper(void *mutex)
{
    pthread_mutex_lock(mutex);
    return NULL;
}

static int in_worker(tine_task *task)
{
    double *took = tine_output(task, sizeof *took);
    *took = ours(tine_task_pool(task));
    return 0;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    tine_pool *pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    if (tine_pool_create(&options, &pool))
        return 1;
    side_by_side(pool, "one thread");
    double alone[ROUNDS], together[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        tine_id ids[2];
        tine_result result = TINE_RESULT_INIT;
        if (tine_submit(pool, in_worker, NULL, 0, NULL, &ids[0]) || tine_wait(pool, ids[0], TINE_FOREVER, &result))
            return 1;
        alone[round] = *(double *)result.data;
        tine_result_release(pool, &result);
        for (int i = 0; i < 2; i++)
            if (tine_submit(pool, in_worker, NULL, 0, NULL, &ids[i]))
                return 1;
        together[round] = 0;
        for (int i = 0; i < 2; i++) {
            if (tine_wait(pool, ids[i], TINE_FOREVER, &result))
                return 1;
            together[round] += *(double *)result.data / 2;
            tine_result_release(pool, &result);
        }
    }
    printf("%-28s %6.1f ns alone, %.1f ns each when two do it at once\n", "in workers", median(alone),
           median(together));
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    pthread_mutex_lock(&mutex);
    pthread_create(&thread, NULL, sleeper, &mutex);
    side_by_side(pool, "a second thread is there");
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    tine_pool_destroy(pool);
    return 0;
}
