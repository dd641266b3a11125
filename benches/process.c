/* Single processes next to bare forks and to multiprocessing.Process: from the start to the known end of one that does
 * nothing, one after the other. `make bench`. */
#define _GNU_SOURCE
#include "bench.h"
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PROCESSES = 20 };

static int nothing(tine_task *task) { (void)task; return 0; }

static double of_tine(int start)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    options.start = start;
    double began = now_ns();
    for (int i = 0; i < PROCESSES; i++) {
        tine_process *process;
        must(tine_process_start(&options, nothing, NULL, 0, &process), "start");
        must(tine_process_wait(process, TINE_FOREVER, NULL), "wait");
        tine_process_close(process);
    }
    return (now_ns() - began) / PROCESSES;
}

static double forkserver(void) { return of_tine(TINE_START_FORKSERVER); }
static double spawn(void) { return of_tine(TINE_START_SPAWN); }
static double copy(void) { return of_tine(TINE_START_FORK); }

static double bare_fork(void)
{
    double began = now_ns();
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(0);
        waitpid(pid, NULL, 0);
    }
    return (now_ns() - began) / PROCESSES;
}

static double bare_spawn(void)
{
    char *arguments[] = { "true", NULL };
    double began = now_ns();
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid;
        if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) != 0) return 0;
        waitpid(pid, NULL, 0);
    }
    return (now_ns() - began) / PROCESSES;
}

static double of_multiprocessing(const char *method)
{
    char code[600];
    snprintf(code, sizeof code,
        "import multiprocessing, time\n"
        "def f(): pass\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('%s')\n"
        "    def one():\n"
        "        p = context.Process(target=f); p.start(); p.join()\n"
        "    one()\n"
        "    began = time.perf_counter_ns()\n"
        "    for i in range(5): one()\n"
        "    print((time.perf_counter_ns() - began) / 5)\n", method);
    return of_python(code);
}

static double python_forkserver(void) { return of_multiprocessing("forkserver"); }
static double python_spawn(void) { return of_multiprocessing("spawn"); }
static double python_fork(void) { return of_multiprocessing("fork"); }

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    static struct row rows[] = {
        OURS("a process, start to end, fork", "ms", 1e6, copy),
        PEER("fork, waitpid", "ms", 1e6, bare_fork, 6),
        PEER("multiprocessing.Process, fork", "ms", 1e6, python_fork, 0),
        OURS("a process, start to end, forkserver", "ms", 1e6, forkserver),
        PEER("posix_spawn of true, waitpid", "ms", 1e6, bare_spawn, 2),
        PEER("multiprocessing.Process, forkserver", "ms", 1e6, python_forkserver, 0),
        OURS("a process, start to end, spawn", "ms", 1e6, spawn),
        PEER("posix_spawn of true, waitpid", "ms", 1e6, bare_spawn, 0),
        PEER("multiprocessing.Process, spawn", "ms", 1e6, python_spawn, 0),
    };
    run_table(rows, sizeof rows / sizeof *rows, argc, argv);
    return 0;
}
