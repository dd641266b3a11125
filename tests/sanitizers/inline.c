/* What runs under a valgrind that does not know pidfd_open: a pool without processes (TINE_INLINE), its heap, and locks. With an
 * argument, a read of what was never written, and a word that two threads write: errors for the tool to find. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <tine.h>

static tine_mutex mutex;
static int locked, bare;

static void *count(void *wrong)
{
    for (int i = 0; i < 1000; i++) {
        if (tine_mutex_lock(&mutex, TINE_FOREVER)) abort();
        tine_mutex_unlock(&mutex);
        if (wrong) bare++;
    }
    return NULL;
}

static int square(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in * *(const int *)in;
    return 0;
}

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    pthread_t threads[2];
    options.flags = TINE_INLINE;
    options.heap_bytes = 64 << 20;
    if (tine_init(argc, argv) || tine_pool_create(&options, &pool)) return 1;
    int *numbers = tine_alloc(pool, 100 * sizeof *numbers), *squares = tine_alloc(pool, 100 * sizeof *squares);
    if (!numbers || !squares) return 2;
    for (int i = 0; i < 100; i++) numbers[i] = i;
    if (tine_map(pool, square, numbers, sizeof *numbers, squares, sizeof *squares, 100, NULL) || squares[9] != 81) return 3;
    tine_free(pool, numbers);
    tine_free(pool, squares);
    tine_pool_destroy(pool);
    if (argc > 1) {
        int *never = malloc(sizeof *never);
        if (never && *never == 12345) puts("as it happens");
        free(never);
    }
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, count, argc > 1 ? &bare : NULL)) return 4;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    return locked;
}
