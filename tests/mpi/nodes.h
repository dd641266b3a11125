/* What the cases of nodes share. */
#ifndef TINE_TESTS_NODES_H
#define TINE_TESTS_NODES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

extern const char *current; /* the case that runs */

__attribute__((format(printf, 1, 2))) static inline void die(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "FAIL %s: ", current);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            die("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)

static inline void zero_or_die(int rc, const char *what)
{
    if (rc)
        die("%s: %s", what, tine_strerror(rc));
}

struct item {
    int64_t number;
    char text[24];
};

static inline tine_pool *pool_on(int engine, size_t workers)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    options.error = &error;
    options.engine = engine;
    options.workers = workers;
    tine_pool *pool = NULL;
    if (tine_pool_create(&options, &pool))
        die("tine_pool_create: %s", error.text);
    return pool;
}

static inline tine_pool *nodes(void)
{
    return pool_on(TINE_ENGINE_MPI, 2);
}

static inline void finish(tine_pool *pool)
{
    zero_or_die(tine_pool_shutdown(pool, TINE_FOREVER), "shutdown");
    tine_pool_destroy(pool);
}

static inline void wait_for(tine_pool *pool, tine_id id, tine_result *result)
{
    zero_or_die(tine_wait(pool, id, TINE_FOREVER, result), "wait");
}

/* Work, in work.c. */
int echo(tine_task *task);
int crash_on_fives(tine_task *task, const void *in, void *out);

/* The cases. */
void maps_are_as_here(void);
void arrays_of_the_heap_come_back(void);
void long_arrays_come_back(void);
void outputs_need_no_heap_at_the_host(void);
void tasks_come_back(void);
void streams_are_in_order(void);
void a_crash_costs_one_item(void);
void deadlines_and_cancels_end_tasks(void);
void a_family_is_rebuilt(void);
void short_storm(void);
void a_node_that_hangs_is_lost(void);
void a_node_hangs_among_busy_ones(void);
void a_node_hangs_amid_its_output(void);
void a_pool_is_made_after_a_loss(void);
void many_pools_leave_no_stacks(void);
void rank_is_killed(void);
void host_is_killed(void);
void host_forks_and_is_killed(void);
void host_leaves_at_once(void);
void host_is_killed_in_a_map(void);
void host_is_killed_with_a_part(void);
void a_rank_dies_at_work(void);
void an_error_of_nobodys_costs_no_node(void);
void an_error_costs_its_node(void);
void a_message_without_length_costs_its_node(void);
void what_means_nothing_there_is_refused(void);
void an_initializer_that_fails_is_told(void);
void several_pools_serve_at_once(void);
void a_slow_start_or_end_costs_nobody(void);
void long_and_short_ones_mix(void);
void a_node_without_memory_gets_less(void);
void a_pool_is_given_up_beside_another(void);
void large_ones(void);
void more_than_two_gib(void);

#endif
