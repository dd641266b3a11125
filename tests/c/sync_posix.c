/* The calls of POSIX on tine's locks, by a thin shim, with the results that POSIX asks for: EBUSY's place is taken by EAGAIN,
 * and a mutex checks for errors, so that whoever tries what it holds itself is told so. The rest is one to one. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

/* ---- the shim */

static int busy(int rc) { return rc == -EAGAIN || rc == -EDEADLK ? EBUSY : -rc; }

/* POSIX's absolute time as what is left; whoever comes too late still gets what is free. */
static int64_t left(const struct timespec *until)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t ns = (int64_t)(until->tv_sec - now.tv_sec) * 1000000000 + (until->tv_nsec - now.tv_nsec);
    return ns > 0 ? ns : 0;
}
static int timed(int rc) { return rc == -EAGAIN ? ETIMEDOUT : -rc; }

static int mutex_lock(tine_mutex *m) { return -tine_mutex_lock(m, TINE_FOREVER); }
static int mutex_trylock(tine_mutex *m) { return busy(tine_mutex_lock(m, 0)); }
static int mutex_timedlock(tine_mutex *m, const struct timespec *t) { return timed(tine_mutex_lock(m, left(t))); }
static int mutex_unlock(tine_mutex *m) { return -tine_mutex_unlock(m); }
static int mutex_consistent(tine_mutex *m) { return -tine_mutex_repair(m); }
static int rwlock_rdlock(tine_rwlock *l) { return -tine_rwlock_read_lock(l, TINE_FOREVER); }
static int rwlock_tryrdlock(tine_rwlock *l) { return busy(tine_rwlock_read_lock(l, 0)); }
static int rwlock_timedrdlock(tine_rwlock *l, const struct timespec *t) { return timed(tine_rwlock_read_lock(l, left(t))); }
static int rwlock_wrlock(tine_rwlock *l) { return -tine_rwlock_write_lock(l, TINE_FOREVER); }
static int rwlock_trywrlock(tine_rwlock *l) { return busy(tine_rwlock_write_lock(l, 0)); }
static int rwlock_timedwrlock(tine_rwlock *l, const struct timespec *t) { return timed(tine_rwlock_write_lock(l, left(t))); }
static int rwlock_unlock(tine_rwlock *l) { return -tine_rwlock_unlock(l); }
static int cond_wait(tine_condition *c, tine_mutex *m) { return -tine_condition_wait(c, m, TINE_FOREVER); }
static int cond_timedwait(tine_condition *c, tine_mutex *m, const struct timespec *t)
{
    return timed(tine_condition_wait(c, m, left(t)));
}
static int cond_signal(tine_condition *c) { return -tine_condition_notify(c, 1); }
static int cond_broadcast(tine_condition *c) { return -tine_condition_notify_all(c); }
static int barrier_wait(tine_barrier *b)
{
    int rc = tine_barrier_wait(b, TINE_FOREVER);
    return rc == 1 ? PTHREAD_BARRIER_SERIAL_THREAD : -rc;
}
static int semaphore(int rc) /* these say it by errno */
{
    if (rc < 0) errno = -rc;
    return rc < 0 ? -1 : 0;
}
static int posix_sem_init(tine_semaphore *s, unsigned value) { return semaphore(tine_semaphore_init(s, value, 0, 0)); }
static int posix_sem_wait(tine_semaphore *s) { return semaphore(tine_semaphore_acquire(s, TINE_FOREVER)); }
static int posix_sem_trywait(tine_semaphore *s) { return semaphore(tine_semaphore_acquire(s, 0)); }
static int posix_sem_timedwait(tine_semaphore *s, const struct timespec *t)
{
    int rc = tine_semaphore_acquire(s, left(t));
    return semaphore(rc == -EAGAIN ? -ETIMEDOUT : rc);
}
static int posix_sem_post(tine_semaphore *s) { return semaphore(tine_semaphore_release(s, 1)); }

/* ---- what POSIX says */

static tine_mutex mutex;
static tine_rwlock rwlock;
static tine_condition condition;
static tine_barrier barrier;
static tine_semaphore sem;
static int waiting, go, serial;

static struct timespec soon(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 2000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    return until;
}

static void in_thread(void *(*body)(void *))
{
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
    CHECK(pthread_join(thread, &result) == 0 && result == NULL);
}

static void *other_mutex(void *unused)
{
    struct timespec until = soon(), past = {1, 0};
    (void)unused;
    CHECK_EQ(mutex_trylock(&mutex), EBUSY);
    CHECK_EQ(mutex_timedlock(&mutex, &until), ETIMEDOUT);
    CHECK_EQ(mutex_timedlock(&mutex, &past), ETIMEDOUT);
    CHECK_EQ(mutex_unlock(&mutex), EPERM);
    return NULL;
}
static void *die_with_mutex(void *unused)
{
    (void)unused;
    CHECK_EQ(mutex_lock(&mutex), 0);
    return NULL;
}

static void mutexes(void)
{
    struct timespec past = {1, 0};
    CHECK_EQ(mutex_unlock(&mutex), EPERM); /* PTHREAD_MUTEX_ERRORCHECK */
    CHECK_EQ(mutex_lock(&mutex), 0);
    CHECK_EQ(mutex_lock(&mutex), EDEADLK);
    CHECK_EQ(mutex_timedlock(&mutex, &past), EDEADLK);
    CHECK_EQ(mutex_trylock(&mutex), EBUSY);
    in_thread(other_mutex);
    CHECK_EQ(mutex_unlock(&mutex), 0);
    CHECK_EQ(mutex_timedlock(&mutex, &past), 0); /* free: the time doesn't matter */
    CHECK_EQ(mutex_consistent(&mutex), EINVAL);
    CHECK_EQ(mutex_unlock(&mutex), 0);

    CHECK_RC(tine_mutex_init(&mutex, TINE_RECURSIVE), 0);
    for (int i = 0; i < 1000; i++) CHECK_EQ(i % 2 ? mutex_lock(&mutex) : mutex_trylock(&mutex), 0);
    in_thread(other_mutex);
    for (int i = 0; i < 1000; i++) CHECK_EQ(mutex_unlock(&mutex), 0);
    CHECK_EQ(mutex_unlock(&mutex), EPERM);

    for (int repairs = 1; repairs >= 0; repairs--) { /* PTHREAD_MUTEX_ROBUST */
        CHECK_RC(tine_mutex_init(&mutex, 0), 0); /* destroyed and made anew: memory is all there is to it */
        in_thread(die_with_mutex);
        CHECK_EQ(repairs ? mutex_lock(&mutex) : mutex_trylock(&mutex), EOWNERDEAD);
        if (repairs) CHECK_EQ(mutex_consistent(&mutex), 0);
        CHECK_EQ(mutex_unlock(&mutex), 0);
        CHECK_EQ(mutex_lock(&mutex), repairs ? 0 : ENOTRECOVERABLE);
        CHECK_EQ(mutex_unlock(&mutex), repairs ? 0 : EPERM);
    }
    CHECK_RC(tine_mutex_init(&mutex, 0), 0);
}

static void *beside_reader(void *unused)
{
    struct timespec until = soon();
    (void)unused;
    CHECK_EQ(rwlock_tryrdlock(&rwlock), 0);
    CHECK_EQ(rwlock_unlock(&rwlock), 0);
    CHECK_EQ(rwlock_trywrlock(&rwlock), EBUSY);
    CHECK_EQ(rwlock_timedwrlock(&rwlock, &until), ETIMEDOUT);
    CHECK_EQ(rwlock_unlock(&rwlock), EPERM);
    return NULL;
}
static void *beside_writer(void *unused)
{
    struct timespec until = soon();
    (void)unused;
    CHECK_EQ(rwlock_tryrdlock(&rwlock), EBUSY);
    CHECK_EQ(rwlock_trywrlock(&rwlock), EBUSY);
    CHECK_EQ(rwlock_timedrdlock(&rwlock, &until), ETIMEDOUT);
    CHECK_EQ(rwlock_timedwrlock(&rwlock, &until), ETIMEDOUT);
    return NULL;
}

static void rwlocks(void)
{
    CHECK_EQ(rwlock_unlock(&rwlock), EPERM);
    CHECK_EQ(rwlock_rdlock(&rwlock), 0);
    CHECK_EQ(rwlock_rdlock(&rwlock), 0);
    CHECK_EQ(rwlock_wrlock(&rwlock), EDEADLK);
    CHECK_EQ(rwlock_trywrlock(&rwlock), EBUSY);
    CHECK_EQ(rwlock_unlock(&rwlock), 0);
    in_thread(beside_reader);
    CHECK_EQ(rwlock_unlock(&rwlock), 0);
    CHECK_EQ(rwlock_wrlock(&rwlock), 0);
    CHECK_EQ(rwlock_wrlock(&rwlock), EDEADLK);
    CHECK_EQ(rwlock_rdlock(&rwlock), EDEADLK);
    CHECK_EQ(rwlock_tryrdlock(&rwlock), EBUSY);
    CHECK_EQ(rwlock_trywrlock(&rwlock), EBUSY);
    in_thread(beside_writer);
    CHECK_EQ(rwlock_unlock(&rwlock), 0);
    CHECK_EQ(rwlock_unlock(&rwlock), EPERM);
}

static void *wait_for_go(void *unused)
{
    (void)unused;
    CHECK_EQ(mutex_lock(&mutex), 0);
    waiting++;
    while (!go) CHECK_EQ(cond_wait(&condition, &mutex), 0);
    waiting--;
    CHECK_EQ(mutex_unlock(&mutex), 0);
    return NULL;
}

static void conditions(void)
{
    pthread_t threads[3];
    struct timespec until = soon();
    CHECK_EQ(cond_signal(&condition), 0);
    CHECK_EQ(cond_broadcast(&condition), 0);
    CHECK_EQ(cond_wait(&condition, &mutex), EPERM);
    CHECK_EQ(mutex_lock(&mutex), 0);
    CHECK_EQ(cond_timedwait(&condition, &mutex, &until), ETIMEDOUT); /* signals are not kept */
    CHECK_EQ(mutex_trylock(&mutex), EBUSY);                          /* held again */
    CHECK_EQ(cond_timedwait(&condition, &mutex, &until), ETIMEDOUT); /* a time that has passed */
    CHECK_EQ(mutex_unlock(&mutex), 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, wait_for_go, NULL) == 0);
    for (int all = 0; !all;) {
        CHECK_EQ(mutex_lock(&mutex), 0);
        all = waiting == 3;
        if (all) go = 1;
        CHECK_EQ(mutex_unlock(&mutex), 0);
        sched_yield();
    }
    CHECK_EQ(cond_signal(&condition), 0);
    CHECK_EQ(cond_broadcast(&condition), 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQ(waiting, 0);
}

static void *meet(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++) {
        int rc = barrier_wait(&barrier);
        CHECK(rc == 0 || rc == PTHREAD_BARRIER_SERIAL_THREAD);
        if (rc) __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void barriers(void)
{
    pthread_t threads[3];
    CHECK_RC(tine_barrier_init(&barrier, 0, 0), -EINVAL);
    CHECK_RC(tine_barrier_init(&barrier, 1, 0), 0);
    CHECK_EQ(barrier_wait(&barrier), PTHREAD_BARRIER_SERIAL_THREAD);
    CHECK_RC(tine_barrier_init(&barrier, 3, 0), 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, meet, NULL) == 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQ(serial, 100);
}

static void semaphores(void)
{
    struct timespec until = soon(), past = {1, 0};
    CHECK(posix_sem_init(&sem, (unsigned)INT_MAX + 1) == -1 && errno == EINVAL);
    CHECK_EQ(posix_sem_init(&sem, INT_MAX), 0); /* SEM_VALUE_MAX */
    CHECK(posix_sem_post(&sem) == -1 && errno == EOVERFLOW);
    CHECK_EQ(tine_semaphore_value(&sem), INT_MAX);
    CHECK_EQ(posix_sem_init(&sem, 1), 0);
    CHECK_EQ(posix_sem_wait(&sem), 0);
    CHECK(posix_sem_trywait(&sem) == -1 && errno == EAGAIN);
    CHECK(posix_sem_timedwait(&sem, &until) == -1 && errno == ETIMEDOUT);
    CHECK_EQ(tine_semaphore_value(&sem), 0);
    CHECK_EQ(posix_sem_post(&sem), 0);
    CHECK_EQ(posix_sem_timedwait(&sem, &past), 0); /* there is one: the time doesn't matter */
    CHECK_EQ(posix_sem_post(&sem), 0);
    CHECK_EQ(posix_sem_trywait(&sem), 0);
}

int main(void)
{
    mutexes();
    rwlocks();
    conditions();
    barriers();
    semaphores();
    return 0;
}
