/* Processes that are given the number of a dead one, of whose end the kernel has told nobody: they are not taken for it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "unseen.h"
#include <linux/sched.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

static void *reads(void *unused)
{
    (void)unused;
    CHECK_RC(tine_rwlock_read_lock(&s->crowded, 0), 0);
    __atomic_add_fetch(&s->ready, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
    return NULL;
}

/* Has all places of their own, so that the next to read shares one with its process. */
static pid_t crowd(void)
{
    pid_t pid;
    s->ready = 0;
    if ((pid = fork()) == 0) {
        pthread_t thread;
        for (int i = 1; i < TINE_RWLOCK_READERS; i++) CHECK(pthread_create(&thread, NULL, reads, NULL) == 0);
        reads(NULL);
    }
    while (s->ready < TINE_RWLOCK_READERS) sched_yield();
    return pid;
}

/* A number that has been given out again, in the kernel's only other way to make a process with a number of one's choice. */
static pid_t namesake_of(pid_t dead, void (*run)(void))
{
    struct clone_args how;
    memset(&how, 0, sizeof how);
    how.exit_signal = SIGCHLD;
    how.set_tid = (uintptr_t)&dead;
    how.set_tid_size = 1;
    pid_t other = (pid_t)syscall(SYS_clone3, &how, sizeof how);
    if (other == 0) {
        run();
        for (;;) pause();
    }
    CHECK_EQ(other, dead);
    return other;
}

static void end(pid_t pid)
{
    CHECK(pid > 0 && kill(pid, SIGKILL) == 0);
    CHECK_EQ(exit_code(pid), 128 + SIGKILL);
}

static void nothing(void) {}

static void holders_namesake(void)
{
    fresh();
    pid_t readers = crowd(), dead = dead_holder(NO_LIST);
    end(readers);
    pid_t other = namesake_of(dead, nothing);
    find_out(0);
    end(other);
}

/* Can't tell its cookie. */
static void read_crowded(void)
{
    deny(NO_DESCRIPTOR);
    CHECK_RC(tine_rwlock_read_lock(&s->crowded, 0), 0);
    s->ready = 1;
}

/* A reader with a dead one's number is not buried with it. */
static void readers_namesake(void)
{
    fresh();
    pid_t readers = crowd(), dead = dead_holder(0);
    s->ready = 0;
    pid_t other = namesake_of(dead, read_crowded);
    while (!s->ready) sched_yield();
    end(readers);
    CHECK_RC(tine_rwlock_write_lock(&s->crowded, 0), -EAGAIN);
    CHECK_RC(tine_rwlock_write_lock(&s->crowded, 120 * MS), -ETIMEDOUT);
    end(other);
    CHECK_RC(tine_rwlock_write_lock(&s->crowded, LONG), 0);
}

static pid_t waits_for_change(int denied)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct timespec begin, now;
        deny(denied);
        CHECK_RC(tine_mutex_lock(&s->plain, LONG), 0);
        s->ready = 1;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        CHECK_RC(tine_condition_wait(&s->changed, &s->plain, LONG), 0);
        clock_gettime(CLOCK_MONOTONIC, &now);
        CHECK(now.tv_sec - begin.tv_sec < 10);
        CHECK_RC(tine_mutex_unlock(&s->plain), 0);
        _exit(0);
    }
    while (!s->ready) sched_yield();
    s->ready = 0;
    /* It has let go of the mutex, so it waits. */
    CHECK_RC(tine_mutex_lock(&s->plain, LONG), 0);
    CHECK_RC(tine_condition_notify(&s->changed, 1), 0);
    return pid;
}

static int names(const volatile uint32_t *words, size_t bytes, pid_t pid)
{
    for (size_t i = 0; i < bytes / 4; i++)
        if ((words[i] & 0x3fffffff) == (uint32_t)pid) return 1;
    return 0;
}

/* One that was notified dies on its way to the mutex. The next one that is notified must not take the namesake for it. */
static void notified_ones_namesake(void)
{
    fresh();
    pid_t dead = waits_for_change(NO_LIST);
    while (!names((const volatile uint32_t *)&s->changed, sizeof s->changed, dead)) sched_yield();
    end(dead);
    pid_t other = namesake_of(dead, nothing);
    CHECK_RC(tine_mutex_unlock(&s->plain), 0);
    pid_t waiter = waits_for_change(0);
    CHECK_RC(tine_mutex_unlock(&s->plain), 0);
    CHECK_EQ(exit_code(waiter), 0);
    end(other);
}

static pid_t comes(int denied)
{
    unsigned before = (unsigned)tine_barrier_waiting(&s->met);
    pid_t pid = fork();
    if (pid == 0) {
        deny(denied);
        _exit(tine_barrier_wait(&s->met, LONG) == TINE_EBROKEN ? 0 : 1);
    }
    while (tine_barrier_waiting(&s->met) == (int)before) sched_yield();
    return pid;
}

/* A party dies, the first to come or another one: the others get TINE_EBROKEN, those that wait and the last one to come. */
static void partys_namesake(void)
{
    for (int scene = 0; scene < 3; scene++) {
        pid_t waiter = 0;
        fresh();
        CHECK_RC(tine_barrier_init(&s->met, scene == 0 ? 2 : 3, 0), 0);
        if (scene == 2) waiter = comes(0);
        pid_t dead = comes(NO_LIST);
        end(dead);
        pid_t other = namesake_of(dead, nothing);
        if (scene == 1) waiter = comes(0);
        if (scene == 0) CHECK_RC(tine_barrier_wait(&s->met, LONG), TINE_EBROKEN);
        else CHECK_EQ(exit_code(waiter), 0);
        end(other);
    }
}

/* As the first process of a PID namespace, which gives out numbers as it likes. */
int main(void)
{
    static void (*const scenes[])(void) = {holders_namesake, readers_namesake, notified_ones_namesake, partys_namesake};
    pid_t outer = fork();
    CHECK(outer >= 0);
    if (outer == 0) {
        pid_t first;
        CHECK(unshare(CLONE_NEWPID) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0);
        if ((first = fork()) == 0) _exit(run_scenes(scenes, sizeof scenes / sizeof *scenes));
        _exit(exit_code(first));
    }
    return exit_code(outer);
}
