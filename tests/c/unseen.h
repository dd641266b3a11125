/* For tests of holders whose end the kernel tells nobody of: locks of all kinds in shared memory, and processes that are denied the means
 * by which deaths are found out. */
#ifndef UNSEEN_H
#define UNSEEN_H

#include "refuse.h"
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tine.h>

#define MS 1000000ll
#define LONG (20000 * MS) /* a hang */

struct shared {
    tine_mutex plain, owned, interruptible, other;
    tine_rwlock written, read, crowded;
    tine_semaphore given;
    tine_condition changed;
    tine_barrier met;
    volatile int ready;
};

/* Memory that all processes of the test share. */
static struct shared *s;

/* What a process is denied. */
enum { NO_LIST = 1, NO_PIDFD = 2, NO_DESCRIPTOR = 4, NO_PROC = 8, UNREAPED = 16 };

static inline void deny(int what)
{
    if (what & NO_PROC) leave_proc();
    if (what & NO_LIST) refuse(SYS_get_robust_list);
    if (what & NO_PIDFD) refuse(SYS_pidfd_open);
    if (what & NO_DESCRIPTOR) {
        struct rlimit few = {32, 32};
        CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
        while (dup(2) >= 0) {}
    }
}

static inline int exit_code(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline void fresh(void)
{
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_mutex_init(&s->owned, TINE_PROCESS_OWNED), 0);
    CHECK_RC(tine_mutex_init(&s->interruptible, TINE_INTERRUPTIBLE), 0);
}

static inline void take_all(void)
{
    CHECK_RC(tine_mutex_lock(&s->plain, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->owned, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->interruptible, 0), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->written, 0), 0);
    CHECK_RC(tine_rwlock_read_lock(&s->read, 0), 0);
    CHECK_RC(tine_rwlock_read_lock(&s->crowded, 0), 0);
}

/* A process that holds all of it, and is dead when this returns; to be reaped still, if `unreaped`. */
static inline pid_t dead_holder(int denied)
{
    siginfo_t info;
    pid_t pid = fork();
    if (pid == 0) {
        deny(denied);
        take_all();
        raise(SIGKILL);
    }
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    if (!(denied & UNREAPED)) CHECK_EQ(exit_code(pid), 128 + SIGKILL);
    return pid;
}

/* The first wait of each, of this length. */
static inline void find_out(int64_t timeout_ns)
{
    CHECK_RC(tine_mutex_lock(&s->plain, timeout_ns), -EOWNERDEAD);
    CHECK_RC(tine_mutex_lock(&s->owned, timeout_ns), -EOWNERDEAD);
    CHECK_RC(tine_mutex_lock(&s->interruptible, timeout_ns), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_write_lock(&s->written, timeout_ns), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_write_lock(&s->read, timeout_ns), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->crowded, timeout_ns), 0);
}

/* Maps the shared memory and calls each scene in a process of its own, which may end with what it holds. */
static inline int run_scenes(void (*const *scenes)(void), size_t count)
{
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    for (size_t i = 0; i < count; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            scenes[i]();
            _exit(0);
        }
        CHECK_EQ(exit_code(pid), 0);
    }
    return 0;
}

#endif
