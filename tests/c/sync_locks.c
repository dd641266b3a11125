/* Every lock, between processes that map it at different addresses, with every error that it can give. */
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

#define SHORT 2000000 /* ns: runs out */
#define LONG 20000000000 /* ns: a hang */

struct shared {
    tine_mutex mutex, other, recursive, owned, automatic, interruptible;
    tine_rwlock rwlock;
    tine_semaphore semaphore;
    tine_condition condition;
    tine_event event;
    tine_barrier barrier;
    tine_once once;
    tine_mutex many[TINE_MOST_HELD + 1];
    int count;
};

static struct shared *s, *again; /* one memory at two addresses */

/* Runs a function in a child and gives its exit status, 128 + signal if a signal ended it. */
static int in_child(void (*body)(void))
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        s = again;
        body();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void die_with_mutex(void)
{
    CHECK_RC(tine_mutex_lock(&s->mutex, LONG), 0);
    raise(SIGKILL);
}
static void die_with_automatic(void)
{
    CHECK_RC(tine_mutex_lock(&s->automatic, LONG), 0);
    raise(SIGKILL);
}
static void die_with_owned(void)
{
    CHECK_RC(tine_mutex_lock(&s->owned, LONG), 0);
    raise(SIGKILL);
}
static void die_reading(void)
{
    CHECK_RC(tine_rwlock_read_lock(&s->rwlock, LONG), 0);
    raise(SIGKILL);
}
static void die_writing(void)
{
    CHECK_RC(tine_rwlock_write_lock(&s->rwlock, LONG), 0);
    raise(SIGKILL);
}
static void foreign_unlock(void)
{
    CHECK_RC(tine_mutex_unlock(&s->mutex), -EPERM);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), -EAGAIN);
    CHECK_RC(tine_mutex_lock(&s->mutex, SHORT), -ETIMEDOUT);
    CHECK_RC(tine_mutex_repair(&s->mutex), -EPERM);
}

static void mutexes(void)
{
    tine_owner owner = TINE_OWNER_INIT;
    CHECK_RC(tine_mutex_lock(NULL, 0), -EINVAL);
    CHECK_RC(tine_mutex_unlock(NULL), -EINVAL);
    CHECK_RC(tine_mutex_repair(NULL), -EINVAL);
    CHECK_RC(tine_mutex_init(NULL, 0), -EINVAL);
    CHECK_RC(tine_mutex_lock((tine_mutex *)((char *)&s->mutex + 4), 0), -EINVAL);
    CHECK_RC(tine_mutex_init(&s->mutex, 1u << 30), -EINVAL);
    CHECK_RC(tine_mutex_init(&s->mutex, TINE_AUTO_RESET), -EINVAL);
    CHECK_RC(tine_mutex_init(&s->mutex, TINE_RECURSIVE | TINE_PROCESS_OWNED), -EINVAL);
    CHECK_RC(tine_mutex_owner(&s->mutex, NULL), -EINVAL);
    CHECK_RC(tine_mutex_unlock(&s->mutex), -EPERM);
    CHECK_RC(tine_mutex_repair(&s->mutex), -EPERM);
    CHECK_RC(tine_mutex_owner(&s->mutex, &owner), 0);
    CHECK(owner.pid == 0 && owner.dead_pid == 0 && owner.size == sizeof owner);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), -EDEADLK);
    CHECK_RC(tine_mutex_lock(&s->mutex, TINE_FOREVER), -EDEADLK);
    CHECK_RC(tine_mutex_repair(&s->mutex), -EINVAL);
    CHECK_RC(tine_mutex_owner(&s->mutex, &owner), 0);
    CHECK(owner.pid == getpid() && owner.tid == (int)gettid() && owner.start_time > 0);
    CHECK(in_child(foreign_unlock) == 0); /* a child of fork holds nothing */
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);

    CHECK(in_child(die_with_mutex) == 128 + SIGKILL);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), -EOWNERDEAD);
    CHECK_RC(tine_mutex_owner(&s->mutex, &owner), 0);
    CHECK(owner.pid == getpid() && owner.dead_pid != 0 && owner.dead_pid != getpid());
    CHECK_RC(tine_mutex_repair(&s->mutex), 0);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);

    CHECK(in_child(die_with_mutex) == 128 + SIGKILL);
    CHECK_RC(tine_mutex_lock(&s->mutex, LONG), -EOWNERDEAD);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0); /* not repaired */
    CHECK_RC(tine_mutex_lock(&s->mutex, LONG), -ENOTRECOVERABLE);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), -ENOTRECOVERABLE);
    CHECK_RC(tine_mutex_init(&s->mutex, 0), 0);

    CHECK_RC(tine_mutex_init(&s->automatic, TINE_AUTO_REPAIR), 0);
    CHECK(in_child(die_with_automatic) == 128 + SIGKILL);
    CHECK_RC(tine_mutex_lock(&s->automatic, LONG), -EOWNERDEAD);
    CHECK_RC(tine_mutex_unlock(&s->automatic), 0);
    CHECK_RC(tine_mutex_lock(&s->automatic, LONG), 0);
    CHECK_RC(tine_mutex_unlock(&s->automatic), 0);

    CHECK_RC(tine_mutex_init(&s->recursive, TINE_RECURSIVE), 0);
    CHECK_RC(tine_mutex_lock(&s->recursive, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->recursive, 0), 0);
    CHECK_RC(tine_mutex_unlock(&s->recursive), 0);
    CHECK_RC(tine_mutex_unlock(&s->recursive), 0);
    CHECK_RC(tine_mutex_unlock(&s->recursive), -EPERM);

    for (int i = 0; i < (int)TINE_MOST_HELD; i++)
        CHECK_RC(tine_mutex_lock(&s->many[i], 0), 0);
    CHECK_RC(tine_mutex_lock(&s->many[TINE_MOST_HELD], 0), -ENOLCK);
    for (int i = 0; i < (int)TINE_MOST_HELD; i += 2) /* the oldest and the middle ones first */
        CHECK_RC(tine_mutex_unlock(&s->many[i]), 0);
    for (int i = 1; i < (int)TINE_MOST_HELD; i += 2)
        CHECK_RC(tine_mutex_unlock(&s->many[i]), 0);
}

static void *unlock_elsewhere(void *arg)
{
    CHECK_RC(tine_mutex_unlock((tine_mutex *)arg), 0);
    return NULL;
}
static void *hold_and_end(void *arg)
{
    CHECK_RC(tine_mutex_lock((tine_mutex *)arg, 0), 0);
    return NULL;
}

static void in_thread(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, arg) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void owners(void)
{
    tine_mutex private_one;
    memset(&private_one, 0, sizeof private_one);
    CHECK_RC(tine_mutex_init(&s->owned, TINE_PROCESS_OWNED), 0);
    CHECK_RC(tine_mutex_lock(&s->owned, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->owned, 0), -EAGAIN);
    in_thread(unlock_elsewhere, &s->owned);
    CHECK_RC(tine_mutex_unlock(&s->owned), -EPERM);
    in_thread(hold_and_end, &s->owned); /* the process lives, so it is held */
    CHECK_RC(tine_mutex_lock(&s->owned, SHORT), -ETIMEDOUT);
    CHECK_RC(tine_mutex_unlock(&s->owned), 0);
    CHECK(in_child(die_with_owned) == 128 + SIGKILL);
    CHECK_RC(tine_mutex_lock(&s->owned, LONG), -EOWNERDEAD);
    CHECK_RC(tine_mutex_repair(&s->owned), 0);
    CHECK_RC(tine_mutex_unlock(&s->owned), 0);

    in_thread(hold_and_end, &s->other); /* the thread has ended, so its mutex is a dead one's */
    CHECK_RC(tine_mutex_lock(&s->other, LONG), -EOWNERDEAD);
    CHECK_RC(tine_mutex_repair(&s->other), 0);
    CHECK_RC(tine_mutex_unlock(&s->other), 0);
    in_thread(hold_and_end, &private_one);
    CHECK_RC(tine_mutex_lock(&private_one, LONG), -EOWNERDEAD);
    CHECK_RC(tine_mutex_unlock(&private_one), 0);
}

/* The lowest number that no descriptor has. */
static int lowest(void)
{
    int fd = dup(STDERR_FILENO);
    CHECK(fd >= 0 && close(fd) == 0);
    return fd;
}

/* Who tries a lock that another process holds keeps a descriptor of that process, and none once the lock is had. */
static void tries_leave_nothing(void)
{
    int ready[2], go[2], status;
    char byte = 0;
    CHECK_RC(tine_mutex_init(&s->owned, TINE_PROCESS_OWNED), 0);
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_RC(tine_mutex_lock(&s->owned, 0), 0);
        CHECK(write(ready[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1);
        CHECK_RC(tine_mutex_unlock(&s->owned), 0);
        CHECK(write(ready[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1);
        _exit(0);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    int before = lowest();
    for (int i = 0; i < 100; i++)
        CHECK_RC(tine_mutex_lock(&s->owned, 0), -EAGAIN);
    CHECK(write(go[1], &byte, 1) == 1 && read(ready[0], &byte, 1) == 1);
    CHECK_RC(tine_mutex_lock(&s->owned, 0), 0);
    CHECK(lowest() == before);
    CHECK_RC(tine_mutex_unlock(&s->owned), 0);
    CHECK(write(go[1], &byte, 1) == 1 && waitpid(child, &status, 0) == child && status == 0);
    for (int i = 0; i < 2; i++)
        CHECK(close(ready[i]) == 0 && close(go[i]) == 0);
}

static void rwlocks(void)
{
    CHECK_RC(tine_rwlock_init(NULL, 0), -EINVAL);
    CHECK_RC(tine_rwlock_init(&s->rwlock, TINE_RECURSIVE), -EINVAL);
    for (unsigned flags = 0; flags <= TINE_PREFER_READERS; flags += TINE_PREFER_READERS) {
        CHECK_RC(tine_rwlock_init(&s->rwlock, flags), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), -EPERM);
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), 0);
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), 0);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), -EDEADLK);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), -EPERM);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), 0);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), -EDEADLK);
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), -EDEADLK);
        CHECK_RC(tine_rwlock_repair(&s->rwlock), -EINVAL);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        for (int i = 0; i < 3 * (int)TINE_RWLOCK_READERS; i++) /* counted in the thread's place */
            CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), 0);
        for (int i = 0; i < 3 * (int)TINE_RWLOCK_READERS; i++)
            CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), -EPERM);
        CHECK(in_child(die_reading) == 128 + SIGKILL); /* forgotten */
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK(in_child(die_writing) == 128 + SIGKILL); /* reported, to readers until a writer repairs */
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), -EOWNERDEAD);
        CHECK_RC(tine_rwlock_repair(&s->rwlock), -EPERM);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), -EOWNERDEAD);
        CHECK_RC(tine_rwlock_repair(&s->rwlock), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), 0);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        CHECK(in_child(die_writing) == 128 + SIGKILL);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), -EOWNERDEAD);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0); /* not repaired */
        CHECK_RC(tine_rwlock_read_lock(&s->rwlock, 0), -ENOTRECOVERABLE);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, 0), -ENOTRECOVERABLE);
    }
}

static void signals(void)
{
    CHECK_RC(tine_semaphore_init(NULL, 0, 0, 0), -EINVAL);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 3, 2, 0), -EINVAL);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 0, 0x80000000u, 0), -EINVAL);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 0, 0, TINE_RECURSIVE), -EINVAL);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, 0), -EAGAIN); /* all zero: no units */
    CHECK_RC(tine_semaphore_release(&s->semaphore, 0x7fffffff), 0);
    CHECK_RC(tine_semaphore_release(&s->semaphore, 1), -EOVERFLOW);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 1, 2, 0), 0);
    CHECK_RC(tine_semaphore_value(&s->semaphore), 1);
    CHECK_RC(tine_semaphore_release(&s->semaphore, 2), -EOVERFLOW);
    CHECK_RC(tine_semaphore_release(&s->semaphore, 1), 0);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, 0), 0);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, LONG), 0);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, 0), -EAGAIN);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, SHORT), -ETIMEDOUT);
    CHECK_RC(tine_semaphore_value(NULL), -EINVAL);

    CHECK_RC(tine_event_init(&s->event, TINE_RECURSIVE), -EINVAL);
    CHECK_RC(tine_event_wait(&s->event, 0), -EAGAIN);
    CHECK_RC(tine_event_wait(&s->event, SHORT), -ETIMEDOUT);
    CHECK_RC(tine_event_set(&s->event), 0);
    CHECK_RC(tine_event_is_set(&s->event), 1);
    CHECK_RC(tine_event_wait(&s->event, 0), 0);
    CHECK_RC(tine_event_wait(&s->event, 0), 0);
    CHECK_RC(tine_event_clear(&s->event), 0);
    CHECK_RC(tine_event_wait(&s->event, 0), -EAGAIN);
    CHECK_RC(tine_event_wait_after(&s->event, tine_event_cleared(&s->event), 0), -EAGAIN);
    CHECK_RC(tine_event_wait_after(&s->event, tine_event_cleared(NULL), 0), -EINVAL);
    CHECK_RC(tine_event_wait_after(&s->event, 1 << 30, 0), -EINVAL);
    CHECK_RC(tine_event_init(&s->event, TINE_AUTO_RESET), 0);
    CHECK_RC(tine_event_wait_after(&s->event, -1, 0), -EINVAL);
    CHECK_RC(tine_event_set(&s->event), 0);
    CHECK_RC(tine_event_wait(&s->event, LONG), 0);
    CHECK_RC(tine_event_is_set(&s->event), 0);

    CHECK_RC(tine_condition_init(&s->condition, TINE_AUTO_RESET), -EINVAL);
    CHECK_RC(tine_condition_wait(&s->condition, &s->mutex, 0), -EPERM);
    CHECK_RC(tine_condition_wait(&s->condition, NULL, 0), -EINVAL);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
    CHECK_RC(tine_condition_wait(&s->condition, &s->mutex, 0), -EAGAIN);
    CHECK_RC(tine_condition_wait(&s->condition, &s->mutex, SHORT), -ETIMEDOUT);
    CHECK_RC(tine_condition_notify(&s->condition, 1), 0);
    CHECK_RC(tine_condition_notify_all(&s->condition), 0);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    CHECK_RC(tine_mutex_lock(&s->recursive, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->recursive, 0), 0);
    CHECK_RC(tine_condition_wait(&s->condition, &s->recursive, SHORT), -EINVAL);
    CHECK_RC(tine_mutex_unlock(&s->recursive), 0);
    CHECK_RC(tine_mutex_unlock(&s->recursive), 0);
}

static int initialise(void *user)
{
    int *fail = (int *)user;
    CHECK_RC(tine_once_call(&s->once, initialise, NULL, 0), -EDEADLK);
    s->count++;
    return *fail;
}

static void meet(void)
{
    int rc = tine_barrier_wait(&s->barrier, LONG);
    CHECK(rc == 0 || rc == 1);
}

static void barriers_and_once(void)
{
    int fail = -EIO, status;
    pid_t pid;
    CHECK_RC(tine_barrier_wait(&s->barrier, 0), -EINVAL); /* all zero is no barrier */
    CHECK_RC(tine_barrier_init(&s->barrier, 0, 0), -EINVAL);
    CHECK_RC(tine_barrier_init(&s->barrier, TINE_BARRIER_PARTIES + 1, 0), -EINVAL);
    CHECK_RC(tine_barrier_init(&s->barrier, 1, 0), 0);
    CHECK_RC(tine_barrier_wait(&s->barrier, 0), 1);
    CHECK_RC(tine_barrier_init(&s->barrier, 2, 0), 0);
    CHECK_RC(tine_barrier_parties(&s->barrier), 2);
    CHECK_RC(tine_barrier_wait(&s->barrier, 0), -EAGAIN);
    CHECK_RC(tine_barrier_broken(&s->barrier), 0);
    pid = fork();
    if (pid == 0) {
        s = again;
        meet();
        _exit(0);
    }
    meet();
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK_RC(tine_barrier_wait(&s->barrier, SHORT), -ETIMEDOUT);
    CHECK_RC(tine_barrier_broken(&s->barrier), 1);
    CHECK(strcmp(tine_errname(tine_barrier_wait(&s->barrier, LONG)), "TINE_EBROKEN") == 0);
    CHECK_RC(tine_barrier_reset(&s->barrier), 0);
    CHECK_RC(tine_barrier_broken(&s->barrier), 0);
    CHECK_RC(tine_barrier_waiting(&s->barrier), 0);
    CHECK_RC(tine_barrier_abort(&s->barrier), 0);
    CHECK(strcmp(tine_errname(tine_barrier_wait(&s->barrier, 0)), "TINE_EBROKEN") == 0);

    CHECK_RC(tine_once_call(NULL, initialise, NULL, 0), -EINVAL);
    CHECK_RC(tine_once_call(&s->once, NULL, NULL, 0), -EINVAL);
    CHECK_RC(tine_once_call(&s->once, initialise, &fail, 0), -EIO);
    fail = 0;
    CHECK_RC(tine_once_call(&s->once, initialise, &fail, 0), 0);
    CHECK_RC(tine_once_call(&s->once, initialise, &fail, 0), 0);
    CHECK(s->count == 2);
}

static void on_signal(int signal) { (void)signal; }

static void *nag(void *thread)
{
    /* Signals the waiter until it has gone on, so that one of them meets it asleep. */
    while (tine_event_wait(&s->event, 1000000) != 0)
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

static void interruptions(void)
{
    struct sigaction action;
    pthread_t me = pthread_self(), nagger;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK_RC(tine_event_init(&s->event, 0), 0);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 0, 0, TINE_INTERRUPTIBLE), 0);
    CHECK(pthread_create(&nagger, NULL, nag, &me) == 0);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, LONG), -EINTR);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 0, 0, 0), 0);
    CHECK_RC(tine_semaphore_acquire(&s->semaphore, 20 * SHORT), -ETIMEDOUT); /* goes on */
    CHECK_RC(tine_event_set(&s->event), 0);
    CHECK(pthread_join(nagger, NULL) == 0);
}

/* The same once more without each mechanism of the kernel that there is a fallback for. */
static void without(const char *mechanism)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setenv("TINE_FORCE_NO", mechanism, 1);
        execl("/proc/self/exe", "sync_locks", (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    if (status != 0) {
        fprintf(stderr, "with TINE_FORCE_NO=%s: status %#x\n", mechanism, status);
        exit(1);
    }
}

int main(void)
{
    FILE *file = tmpfile();
    CHECK(file != NULL && ftruncate(fileno(file), sizeof(struct shared)) == 0);
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    again = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    CHECK(s != MAP_FAILED && again != MAP_FAILED && s != again);
    CHECK(sizeof(tine_mutex) == 64 && sizeof(tine_condition) == 64 && sizeof(tine_event) == 64);
    CHECK(sizeof(tine_semaphore) == 64 && sizeof(tine_once) == 64 && sizeof(tine_rwlock) == 1024);
    mutexes();
    owners();
    tries_leave_nothing();
    rwlocks();
    signals();
    barriers_and_once();
    interruptions();
    if (getenv("TINE_FORCE_NO") == NULL) {
        without("robust");
        without("layout");
        without("waitv");
        without("robust,waitv");
    }
    return 0;
}
