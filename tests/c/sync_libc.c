/* tine's mutexes and the C library's robust and priority-inheriting ones on one thread's list, taken and released in
 * random order, until the process is killed: exactly those that it held are reported, of both kinds. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <tine.h>
#include <unistd.h>

#define EACH 12
#define ROUNDS 300

static struct shared {
    tine_mutex ours[EACH];
    pthread_mutex_t theirs[EACH]; /* every second one inherits priority */
    char held[2 * EACH];
} *s;

static void set_up(void)
{
    pthread_mutexattr_t attributes;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < EACH; i++) {
        CHECK(pthread_mutexattr_init(&attributes) == 0);
        CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
        CHECK(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
        CHECK(pthread_mutexattr_setprotocol(&attributes, i % 2 ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE) == 0);
        CHECK(pthread_mutex_init(&s->theirs[i], &attributes) == 0);
    }
}

static void turn(int which)
{
    if (which < EACH)
        CHECK((s->held[which] ? tine_mutex_unlock(&s->ours[which]) : tine_mutex_lock(&s->ours[which], 0)) == 0);
    else
        CHECK((s->held[which] ? pthread_mutex_unlock(&s->theirs[which - EACH])
                              : pthread_mutex_lock(&s->theirs[which - EACH])) == 0);
    s->held[which] = !s->held[which];
}

static void *in_thread(void *count)
{
    /* The first mutex of a thread may be either kind, so the anchor meets lists of every length. */
    for (int i = 0; i < *(int *)count; i++) turn(rand() % (2 * EACH));
    raise(SIGKILL);
    return NULL;
}

int main(void)
{
    int marked = 0;
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    for (int round = 0; round < ROUNDS; round++) {
        int status, count = 1 + round * 7 % 500;
        pid_t pid;
        set_up();
        CHECK((pid = fork()) >= 0);
        if (pid == 0) {
            pthread_t thread;
            srand((unsigned)round + 1);
            CHECK(pthread_create(&thread, NULL, in_thread, &count) == 0);
            pthread_join(thread, NULL);
            _exit(1);
        }
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        for (int i = 0; i < EACH; i++) {
            int ours = tine_mutex_lock(&s->ours[i], 0), theirs = pthread_mutex_trylock(&s->theirs[i]);
            CHECK(ours == (s->held[i] ? -EOWNERDEAD : 0));
            CHECK(theirs == (s->held[EACH + i] ? EOWNERDEAD : 0));
            marked += (ours != 0) + (theirs != 0);
            if (ours != 0) CHECK(tine_mutex_repair(&s->ours[i]) == 0);
            if (theirs != 0) CHECK(pthread_mutex_consistent(&s->theirs[i]) == 0);
            CHECK(tine_mutex_unlock(&s->ours[i]) == 0 && pthread_mutex_unlock(&s->theirs[i]) == 0);
        }
    }
    CHECK(marked > ROUNDS);
    return 0;
}
