/* own: a program that calls MPI by itself, beside tine. ci/check-mpi.sh runs it under each MPI: own CASE [LIBRARY], where the library has the function that
 * workers run who do not run this program.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tine.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "FAIL %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static int answer(tine_task *task)
{
    (void)task;
    return 7;
}

static int sleep_long(tine_task *task)
{
    (void)task;
    for (;;)
        pause();
    return 0;
}

static tine_error error = TINE_ERROR_INIT;

static int make(tine_pool **pool, const char *library)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.error = &error;
    options.engine = TINE_ENGINE_MPI;
    options.workers = 2;
    if (library) {
        options.worker_path = tine_worker_path();
        options.preload = library;
    }
    return tine_pool_create(&options, pool);
}

static void has_an_answer(tine_pool *pool, tine_fn function)
{
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    CHECK(tine_submit(pool, function, NULL, 0, NULL, &id) == 0);
    CHECK(tine_wait(pool, id, TINE_FOREVER, &result) == 0);
    CHECK(result.status == 7);
    tine_result_release(pool, &result);
}

struct waiter {
    tine_pool *pool;
    tine_id id;
    tine_result result;
};

static void *wait_for_it(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    CHECK(tine_wait(waiter->pool, waiter->id, TINE_FOREVER, &waiter->result) == 0);
    return NULL;
}

/* tine has initialised MPI. The program finalises it while a thread waits for a task of a pool: the task settles, and there is no pool any more. */
static void finalized_with_a_pool(void)
{
    tine_pool *pool = NULL, *later = NULL;
    CHECK(make(&pool, NULL) == 0);
    has_an_answer(pool, answer);
    struct waiter waiter = {pool, 0, TINE_RESULT_INIT};
    CHECK(tine_submit(pool, sleep_long, NULL, 0, NULL, &waiter.id) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_it, &waiter) == 0);
    MPI_Finalize();
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(waiter.result.status == TINE_EDIED || waiter.result.status == TINE_EWORKERSTART);
    CHECK(strstr(waiter.result.message, "MPI_Finalize"));
    tine_result_release(pool, &waiter.result);
    CHECK(make(&later, NULL) == TINE_EWORKERSTART && strstr(error.text, "MPI_Finalize"));
    tine_pool_destroy(pool);
    int over = 0;
    MPI_Finalized(&over);
    CHECK(over);
}

static void finalized_without_a_pool(void)
{
    tine_pool *pool = NULL;
    CHECK(make(&pool, NULL) == 0);
    has_an_answer(pool, answer);
    tine_pool_destroy(pool);
    MPI_Finalize();
}

/* The program has initialised MPI. Its workers run another program, or they would do so, too. */
static void initialised_before(const char *library)
{
    tine_pool *pool = NULL;
    CHECK(make(&pool, NULL) == -EPERM && strstr(error.text, "tine_init first"));
    CHECK(make(&pool, library) == 0);
    void *opened = dlopen(library, RTLD_NOW);
    CHECK(opened);
    tine_fn echo;
    *(void **)&echo = dlsym(opened, "echo");
    CHECK(echo);
    has_an_answer(pool, echo);
    tine_pool_destroy(pool);
    MPI_Finalize();
}

/* Some rank has too low a level: each rank is told, and none waits. */
static void refused(void)
{
    tine_pool *pool = NULL;
    CHECK(make(&pool, NULL) == -EPERM && strstr(error.text, "MPI_THREAD_MULTIPLE"));
    MPI_Finalize();
}

int main(int argc, char **argv)
{
    CHECK(argc > 1);
    const char *name = argv[1], *rank = getenv("PMI_RANK") ? getenv("PMI_RANK") : getenv("OMPI_COMM_WORLD_RANK");
    int level = MPI_THREAD_MULTIPLE;
    if (strcmp(name, "uneven") == 0 && rank && strcmp(rank, "1") == 0)
        level = MPI_THREAD_SINGLE;
    int is_before = strcmp(name, "before") == 0 || strcmp(name, "uneven") == 0;
    if (is_before)
        MPI_Init_thread(&argc, &argv, level, &level);
    int rc = tine_init(argc, argv);
    CHECK(rc == (strcmp(name, "uneven") ? 0 : -EPERM));
    if (strcmp(name, "before") == 0)
        initialised_before(argv[2]);
    else if (strcmp(name, "uneven") == 0)
        refused();
    else if (strcmp(name, "pool") == 0)
        finalized_with_a_pool();
    else
        finalized_without_a_pool();
    printf("own: done\n");
    return 0;
}
