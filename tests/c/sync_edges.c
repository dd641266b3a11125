/* Where locks end: another PID namespace, no memory, exec with a lock in hand. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <tine.h>
#include <unistd.h>

#define LONG 20000000000ll /* ns: a hang */

static struct shared {
    tine_mutex mutex, owned, foreign;
    tine_rwlock rwlock, table;
    volatile int ready;
} *s;

static int exit_code(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Must come first: a thread that has locked before has its record. */
static void no_memory(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit all, none;
        CHECK(getrlimit(RLIMIT_AS, &all) == 0);
        none = all;
        none.rlim_cur = 4096;
        CHECK(setrlimit(RLIMIT_AS, &none) == 0);
        CHECK_RC(tine_mutex_lock(&s->mutex, 0), -ENOMEM);
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), -ENOMEM);
        CHECK(setrlimit(RLIMIT_AS, &all) == 0);
        CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
        CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
        _exit(0);
    }
    CHECK_EQ(exit_code(pid), 0);
}

static void refused(tine_mutex *mutex, tine_rwlock *rwlock)
{
    CHECK_RC(tine_mutex_lock(mutex, 0), -EXDEV);
    CHECK_RC(tine_mutex_lock(mutex, TINE_FOREVER), -EXDEV);
    CHECK_RC(tine_rwlock_read_lock(rwlock, 0), -EXDEV);
    CHECK_RC(tine_rwlock_write_lock(rwlock, 0), -EXDEV);
}

static void other_namespace(void)
{
    pid_t pid;
    CHECK_RC(tine_mutex_lock(&s->foreign, 0), 0);
    CHECK_RC(tine_mutex_unlock(&s->foreign), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->table, 0), 0);
    CHECK_RC(tine_rwlock_unlock(&s->table), 0);
    if ((pid = fork()) == 0) {
        /* Where a user may have no PID namespace of its own, the tag of another stands in for one. */
        if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
            ((volatile uint32_t *)&s->foreign)[2] += 1;
            ((volatile uint32_t *)&s->table)[2] += 1;
        }
        if ((pid = fork()) == 0) {
            refused(&s->foreign, &s->table);
            _exit(0);
        }
        _exit(exit_code(pid));
    }
    CHECK_EQ(exit_code(pid), 0);
    ((volatile uint32_t *)&s->foreign)[2] += 1;
    ((volatile uint32_t *)&s->table)[2] += 1;
    refused(&s->foreign, &s->table);
}

/* The process lives on, but what held the locks is gone; a lock that the process owns is still its. */
static void executed(void)
{
    int out[2];
    char byte;
    pid_t pid;
    CHECK(pipe(out) == 0);
    CHECK_RC(tine_mutex_init(&s->owned, TINE_PROCESS_OWNED), 0);
    if ((pid = fork()) == 0) {
        CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
        CHECK_RC(tine_mutex_lock(&s->owned, 0), 0);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), 0);
        dup2(out[1], 1);
        execl("/proc/self/exe", "sync_edges", "--stay", (char *)NULL);
        _exit(1);
    }
    CHECK(read(out[0], &byte, 1) == 1); /* it runs another program by now */
    CHECK_RC(tine_mutex_lock(&s->mutex, LONG), -EOWNERDEAD);
    CHECK_RC(tine_mutex_repair(&s->mutex), 0);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    CHECK_RC(tine_rwlock_read_lock(&s->rwlock, LONG), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->rwlock, LONG), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_repair(&s->rwlock), 0);
    CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
    CHECK_RC(tine_mutex_lock(&s->owned, 0), -EAGAIN);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_RC(tine_mutex_lock(&s->owned, LONG), -EOWNERDEAD);
    CHECK_EQ(exit_code(pid), 128 + SIGKILL);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--stay") == 0) {
        CHECK(write(1, "", 1) == 1);
        for (;;) pause();
    }
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    no_memory();
    other_namespace();
    executed();
    return 0;
}
