/* What a sanitizer has to find: a write behind a block in a task, or two threads that write one word. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <tine.h>

static int shared;

static void *write_it(void *argument)
{
    for (int i = 0; i < 1000; i++) shared++;
    return argument;
}

static int beyond(tine_task *task)
{
    size_t length;
    const int *at = tine_input(task, &length);
    volatile char *block = malloc(8);
    if (!block || length != sizeof *at) return -1;
    block[*at] = 1;
    free((void *)block);
    return 0;
}

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = NULL;
    tine_id id;
    int at = 8;
    options.workers = 1;
    if (tine_init(argc, argv) || tine_pool_create(&options, &pool)) return 0;
    if (argc > 1 && strcmp(argv[1], "thread") == 0) {
        pthread_t one, other;
        if (pthread_create(&one, NULL, write_it, NULL) || pthread_create(&other, NULL, write_it, NULL)) return 0;
        pthread_join(one, NULL);
        pthread_join(other, NULL);
    }
    if (tine_submit(pool, beyond, &at, sizeof at, NULL, &id) || tine_wait(pool, id, TINE_FOREVER, &result)) return 0;
    int died = result.status == TINE_EDIED; /* the sanitizer has ended the worker */
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    return died;
}
