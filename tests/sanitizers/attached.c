/* What a debugger is attached to: a worker whose task waits until somebody has set `attached`, and then calls a function to stop in. It writes the
 * worker's process number, which .on_begin has told, and exits with 0 when the task has gone on to its end. */
#include <stdio.h>
#include <time.h>
#include <tine.h>

static volatile int attached;

static __attribute__((noinline)) int stop_here(int number)
{
    return number + 1;
}

static int waits(tine_task *task)
{
    size_t length;
    const int *number = tine_input(task, &length);
    while (!attached) nanosleep(&(struct timespec){0, 1000000}, NULL);
    return stop_here(*number);
}

static void tell(tine_id id, pid_t pid, void *user)
{
    (void)id;
    (void)user;
    printf("%d\n", (int)pid);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submission = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = NULL;
    tine_id id;
    int number = 41;
    options.workers = 1;
    submission.on_begin = tell;
    submission.deadline_ns = 60000000000; /* for where no debugger comes */
    if (tine_init(argc, argv) || tine_pool_create(&options, &pool)) return 2;
    if (tine_submit(pool, waits, &number, sizeof number, &submission, &id)) return 3;
    if (tine_wait(pool, id, TINE_FOREVER, &result) || result.status != 42) return 4;
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    return 0;
}
