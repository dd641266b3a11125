/* What workers and single processes have started ends when their supervisor is killed, which alone knew of it. */
#include "processes.h"

static tine_segment *segment;
static volatile int *count;

/* The supervisor of this family of the test's; others have ended. */
static pid_t the_supervisor(void)
{
    struct process all[16];
    pid_t found = 0;
    while (!found) {
        int members = list_family(family_tag(), 0, all, 16);
        for (int i = 0; i < members; i++) {
            found = strcmp(all[i].name, "tine-supervisor") == 0 ? all[i].pid : found;
        }
    }
    return found;
}

static tine_process *lose_supervisor_of_a_tree(void)
{
    *count = 0;
    tine_process *process = start_with(segment, plant_tree, count, 0);
    WAIT_UNTIL(*count == 5);
    CHECK_EQ(kill(the_supervisor(), SIGKILL), 0);
    CHECK_EQ(wait_for(process).signal, SIGKILL);
    return process;
}

static int plant_once(tine_task *task)
{
    volatile int *place = *(volatile int *const *)tine_input(task, NULL);
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            place[2] = getpid();
            stay(NULL);
        }
        place[1] = getpid();
        stay(NULL);
    }
    return 0;
}

static int is_there(pid_t pid)
{
    struct process process;
    return look_at(pid, &process);
}

static int answer(tine_task *task)
{
    (void)task;
    return 42;
}

static void run_task(tine_pool *pool, tine_fn fn, int status)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, &count, sizeof count, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, status);
    tine_result_release(pool, &result);
}

static void of_a_pool(uint32_t flags)
{
    tine_pool *pool = create_pool(start_method, 1, flags);
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_pool_share(pool, segment, HANG_NS), 0);
    count[1] = count[2] = 0;
    run_task(pool, plant_once, 0);
    WAIT_UNTIL(count[1] && count[2]);
    CHECK_EQ(kill(the_supervisor(), SIGKILL), 0);
    /* The pool has new workers; what the old ones had started ends while it is used. */
    run_task(pool, answer, 42);
    WAIT_UNTIL((tine_next(pool, 0, &result), !is_there(count[1]) && !is_there(count[2])));
    run_task(pool, answer, 42);
    tine_pool_destroy(pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

static void run(int start)
{
    start_method = start;
    segment = counter(&count);
    tine_process *process = lose_supervisor_of_a_tree();
    CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    tine_process_close(process);
    tine_process_close(lose_supervisor_of_a_tree());
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    of_a_pool(0);
    of_a_pool(TINE_NO_THREAD);
    tine_segment_close(segment);
}

int main(int argc, char **argv)
{
    return run_with_each_start(argc, argv, run);
}
