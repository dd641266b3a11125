/* The instrument of the sweeps (sweep.h) itself: it sees the calls of every process of a family, and each way to fail one
 * reaches the process that it is meant for, and nobody else. */
#include "sweep.h"
#include <pthread.h>
#include <spawn.h>

extern char **environ;

/* 1 where no pipe could be made. */
static int has_failed(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return 1;
    }
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void *try_in_thread(void *result)
{
    *(int *)result = has_failed();
    return NULL;
}

/* How many have failed in a child that has ended; 50 where it was killed. */
static int failures_of(pid_t child)
{
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? 50 : WEXITSTATUS(status);
}

/* The host makes a pipe, so do a thread of it, a child, and a program that it executes without a copy of its memory: as many
 * fail as have been struck. */
static void family(void)
{
    static char name[] = "sweep_tool", word[] = "executed";
    static char *const arguments[] = {name, word, NULL};
    int failed, in_thread = 0;
    pthread_t thread;
    pid_t executed;
    sweep_begin();
    failed = has_failed();
    CHECK_EQ(pthread_create(&thread, NULL, try_in_thread, &in_thread), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    failed += in_thread;
    pid_t child = fork();
    if (child == 0) {
        CHECK_EQ(posix_spawn(&executed, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
        failed = has_failed();
        _exit(failed + failures_of(executed));
    }
    CHECK(child > 0);
    failed += failures_of(child);
    sweep_end();
    if (sweep_kills()) {
        CHECK_EQ(sweep_struck(), 1);
        CHECK(failed >= 50);
    } else {
        CHECK_EQ(failed, sweep_struck());
    }
    CHECK_EQ(has_failed(), 0);
}

static int is_pipe(int process, const char *comm, const char *call)
{
    (void)process;
    (void)comm;
    return strcmp(call, "pipe2") == 0;
}

static const struct sweep_scenario scenarios[] = {{"family", family, is_pipe}};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "executed") == 0) {
        int first = has_failed();
        return first + has_failed();
    }
    return SWEEP_MAIN(argc, argv, scenarios);
}
