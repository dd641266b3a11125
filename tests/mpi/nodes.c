/* nodes: what a pool with TINE_ENGINE_MPI promises, case by case, on however many ranks it is started. ci/check-mpi.sh runs it under each MPI.
 * Every case is held against the same calls on this machine, where it can be.
 */
#include "nodes.h"

const char *current = "";

struct test {
    const char *name;
    void (*run)(void);
};

static const struct test tests[] = {
    {"maps_are_as_here", maps_are_as_here},
    {"arrays_of_the_heap_come_back", arrays_of_the_heap_come_back},
    {"long_arrays_come_back", long_arrays_come_back},
    {"outputs_need_no_heap_at_the_host", outputs_need_no_heap_at_the_host},
    {"tasks_come_back", tasks_come_back},
    {"streams_are_in_order", streams_are_in_order},
    {"a_crash_costs_one_item", a_crash_costs_one_item},
    {"deadlines_and_cancels_end_tasks", deadlines_and_cancels_end_tasks},
    {"a_family_is_rebuilt", a_family_is_rebuilt},
    {"what_means_nothing_there_is_refused", what_means_nothing_there_is_refused},
    {"an_initializer_that_fails_is_told", an_initializer_that_fails_is_told},
    {"several_pools_serve_at_once", several_pools_serve_at_once},
    {"a_slow_start_or_end_costs_nobody", a_slow_start_or_end_costs_nobody},
    {"many_pools_leave_no_stacks", many_pools_leave_no_stacks},
    {"long_and_short_ones_mix", long_and_short_ones_mix},
    {"a_node_without_memory_gets_less", a_node_without_memory_gets_less},
    {"a_pool_is_given_up_beside_another", a_pool_is_given_up_beside_another},
    {"large_ones", large_ones},
    {"storm", short_storm},
    /* What takes 10 GiB of memory, what leaves its job with fewer nodes, and what does not come back. */
    {"more_than_two_gib", more_than_two_gib},
    {"a_node_that_hangs_is_lost", a_node_that_hangs_is_lost},
    {"a_node_hangs_among_busy_ones", a_node_hangs_among_busy_ones},
    {"a_node_hangs_amid_its_output", a_node_hangs_amid_its_output},
    {"a_pool_is_made_after_a_loss", a_pool_is_made_after_a_loss},
    {"rank_is_killed", rank_is_killed},
    {"host_is_killed", host_is_killed},
    {"host_forks_and_is_killed", host_forks_and_is_killed},
    {"host_leaves_at_once", host_leaves_at_once},
    {"host_is_killed_in_a_map", host_is_killed_in_a_map},
    {"host_is_killed_with_a_part", host_is_killed_with_a_part},
    {"a_rank_dies_at_work", a_rank_dies_at_work},
    {"an_error_of_nobodys_costs_no_node", an_error_of_nobodys_costs_no_node},
    {"an_error_costs_its_node", an_error_costs_its_node},
    {"a_message_without_length_costs_its_node", a_message_without_length_costs_its_node},
};

/* nodes [CASE]...: these cases, or all but the last fourteen. */
int main(int argc, char **argv)
{
    zero_or_die(tine_init(argc, argv), "tine_init");
    zero_or_die(tine_init(0, NULL), "tine_init again");
    size_t count = sizeof tests / sizeof *tests, passed = 0;
    for (size_t i = 0; i < count; i++) {
        int wanted = argc == 1 && i + 14 < count;
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], tests[i].name) == 0;
        if (!wanted)
            continue;
        current = tests[i].name;
        tests[i].run();
        printf("ok %s\n", tests[i].name);
        fflush(stdout);
        passed++;
    }
    printf("%zu passed, 0 failed\n", passed);
    return passed == 0;
}
