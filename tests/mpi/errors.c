/* Errors of MPI's, which tests/mpi/faults makes: what is lost is what belongs to the node whose error it is. */
#include "nodes.h"

#include <dlfcn.h>

enum { TASKS = 300 };

static volatile int *fault(const char *name)
{
    const char *path = getenv("TINE_MPI_LIBRARY");
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    CHECK(library);
    volatile int *place = (volatile int *)dlsym(library, name);
    CHECK(place);
    return place;
}

static size_t workers_of(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    return stats.workers;
}

/* Runs tasks; how many of them are lost. All others have run. */
static int run_tasks(tine_pool *pool)
{
    int lost = 0;
    for (int i = 0; i < TASKS; i++)
        zero_or_die(tine_submit(pool, echo, &i, sizeof i, NULL, &(tine_id){0}), "submit");
    for (int i = 0; i < TASKS; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        CHECK(result.status == 7 || (result.status == TINE_EDIED && result.delivery == TINE_MAYBE_RAN));
        if (result.status != 7 && !strstr(result.message, "rank 2 on "))
            die("lost by: %s", result.message);
        lost += result.status != 7;
        tine_result_release(pool, &result);
    }
    return lost;
}

/* MPI does not say whose error it was, and it was nobody's. */
void an_error_of_nobodys_costs_no_node(void)
{
    tine_pool *pool = nodes();
    size_t workers = workers_of(pool);
    *fault("tine_fault_any") = 1;
    CHECK(run_tasks(pool) == 0);
    CHECK(workers_of(pool) == workers);
    finish(pool);
}

/* Holds its stream for ever. */
static void *read_for_ever(void *stream)
{
    getc((FILE *)stream);
    return NULL;
}

/* The job is aborted in the end, and what main prints last is there: no stream that is being read from keeps it from being written. */
static void one_node_is_lost(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    FILE *stream = fdopen(ends[0], "r");
    pthread_t thread;
    CHECK(stream && pthread_create(&thread, NULL, read_for_ever, stream) == 0);
    tine_pool *pool = nodes();
    size_t workers = workers_of(pool);
    CHECK(workers == 6);
    CHECK(run_tasks(pool) == 0);
    if (strstr(current, "length")) {
        *fault("tine_fault_count") = 2;
    } else {
        *fault("tine_fault_of") = 2;
        *fault("tine_fault_any") = 1;
    }
    run_tasks(pool);
    CHECK(workers_of(pool) == workers - 2);
    CHECK(run_tasks(pool) == 0);
    finish(pool);
}

/* MPI does not say whose error it was. It was rank 2's. */
void an_error_costs_its_node(void)
{
    one_node_is_lost();
}

/* The node is known, though its message cannot be taken. */
void a_message_without_length_costs_its_node(void)
{
    one_node_is_lost();
}
