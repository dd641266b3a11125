/* Holders whose end the kernel tells nobody of: every wait finds out by itself, whatever its length, and whoever waits. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "unseen.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static void denied(int holder, int waiter, int64_t timeout_ns)
{
    pid_t pid;
    fresh();
    if ((pid = fork()) == 0) {
        pid_t dead = dead_holder(holder);
        deny(waiter);
        find_out(timeout_ns);
        if (holder & UNREAPED) exit_code(dead);
        _exit(0);
    }
    if (exit_code(pid) != 0) {
        fprintf(stderr, "holder denied %d, waiter %d, wait of %lld ns\n", holder, waiter, (long long)timeout_ns);
        exit(1);
    }
}

static void everything_denied(void)
{
    static const int holders[] = {0, NO_LIST, NO_PIDFD | NO_LIST, NO_PROC | NO_LIST, NO_LIST | UNREAPED};
    static const int waiters[] = {0, NO_PIDFD, NO_DESCRIPTOR, NO_PROC};
    static const int64_t lengths[] = {0, 10 * MS, LONG};
    for (size_t h = 0; h < sizeof holders / sizeof *holders; h++)
        for (size_t w = 0; w < sizeof waiters / sizeof *waiters; w++)
            denied(holders[h], waiters[w], lengths[(h + w) % 3]);
    denied(NO_LIST, NO_PIDFD, 0);
    denied(NO_LIST | UNREAPED, NO_DESCRIPTOR, 0);
    denied(NO_LIST, NO_LIST, LONG);
}

/* The same locks while the holder lives: nothing that is denied to anybody makes it dead. */
static void alive(void)
{
    static const int waiters[] = {0, NO_PIDFD, NO_DESCRIPTOR, NO_PROC};
    pid_t holder, waiter;
    for (size_t w = 0; w < sizeof waiters / sizeof *waiters; w++) {
        fresh();
        if ((holder = fork()) == 0) {
            deny(NO_LIST | NO_PIDFD);
            take_all();
            s->ready = 1;
            for (;;) pause();
        }
        while (!s->ready) sched_yield();
        if ((waiter = fork()) == 0) {
            deny(waiters[w]);
            CHECK_RC(tine_mutex_lock(&s->plain, 0), -EAGAIN);
            CHECK_RC(tine_mutex_lock(&s->owned, 0), -EAGAIN);
            CHECK_RC(tine_mutex_lock(&s->owned, 60 * MS), -ETIMEDOUT);
            CHECK_RC(tine_mutex_lock(&s->plain, 60 * MS), -ETIMEDOUT);
            CHECK_RC(tine_rwlock_write_lock(&s->read, 60 * MS), -ETIMEDOUT);
            _exit(0);
        }
        CHECK_EQ(exit_code(waiter), 0);
        CHECK(kill(holder, SIGKILL) == 0);
        CHECK_EQ(exit_code(holder), 128 + SIGKILL);
    }
}

/* Who can't tell its PID namespace gets an error, and leaves the locks to the others. */
static void nowhere(void)
{
    pid_t pid;
    fresh();
    if ((pid = fork()) == 0) {
        deny(NO_PROC | NO_PIDFD);
        CHECK_RC(tine_mutex_lock(&s->plain, 0), -EXDEV);
        CHECK_RC(tine_mutex_lock(&s->owned, LONG), -EXDEV);
        CHECK_RC(tine_rwlock_write_lock(&s->written, 0), -EXDEV);
        _exit(0);
    }
    CHECK_EQ(exit_code(pid), 0);
    /* The next without /proc, but with pidfds, is the first to use them. */
    if ((pid = fork()) == 0) {
        deny(NO_PROC);
        CHECK_RC(tine_mutex_lock(&s->plain, 0), 0);
        CHECK_RC(tine_mutex_unlock(&s->plain), 0);
        _exit(0);
    }
    CHECK_EQ(exit_code(pid), 0);
    if ((pid = fork()) == 0) {
        take_all();
        _exit(0);
    }
    CHECK_EQ(exit_code(pid), 0);
}

static void *execs(void *unused)
{
    (void)unused;
    CHECK_RC(tine_mutex_lock(&s->plain, 0), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->written, 0), 0);
    s->ready = 1;
    execl("/proc/self/exe", "sync_unseen", "--stay", (char *)NULL);
    _exit(1);
}

/* Not by the first thread: its number is gone with exec, and the kernel looks for another's. */
static void executed(void)
{
    pid_t pid;
    fresh();
    if ((pid = fork()) == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, execs, NULL) == 0);
        for (;;) pause();
    }
    while (!s->ready) sched_yield();
    CHECK_RC(tine_mutex_lock(&s->plain, LONG), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_write_lock(&s->written, LONG), -EOWNERDEAD);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_EQ(exit_code(pid), 128 + SIGKILL);
}

static void *meets_twice(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) CHECK(tine_barrier_wait(&s->met, LONG) >= 0);
    return NULL;
}

static void *is_told(void *unused)
{
    (void)unused;
    CHECK_RC(tine_barrier_wait(&s->met, LONG), TINE_EBROKEN);
    return NULL;
}

/* What a party leaves that died when it had its place and had not yet said for which meeting. */
static void unsign(pid_t dead)
{
    volatile uint32_t *words = (volatile uint32_t *)&s->met;
    for (size_t i = 0; i < sizeof s->met / 4; i++)
        if ((words[i] & 0x3fffffff) == (uint32_t)dead) words[i ^ 1] = (words[i ^ 1] & ~3u) | 1;
}

/* More parties die, in as many meetings, than there are places for a meeting's: those that come after them have theirs. */
static void dead_parties(void)
{
    static const int parties[] = {2, 3, 128};
    for (int scene = 0; scene < 6; scene++) {
        int count = parties[scene / 2], unsigned_ones = scene % 2;
        pthread_t threads[128];
        fresh();
        CHECK_RC(tine_barrier_init(&s->met, (unsigned)count, 0), 0);
        for (int i = 0; i < (count == 128 ? 2 : 20); i++) {
            pid_t dead = comes(NO_LIST);
            end(dead);
            if (!unsigned_ones) CHECK_RC(tine_barrier_wait(&s->met, LONG), TINE_EBROKEN);
            CHECK_RC(tine_barrier_reset(&s->met), 0);
            if (unsigned_ones) unsign(dead);
        }
        for (int i = 1; i < count; i++) CHECK_EQ(pthread_create(&threads[i], NULL, meets_twice, NULL), 0);
        meets_twice(NULL);
        for (int i = 1; i < count; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

/* The only places that a meeting has left are those of parties that died before they had said for which meeting: who comes is told, and
 * after a reset all meet. */
static void dead_before_they_came(void)
{
    static const int parties[] = {2, 128};
    for (int scene = 0; scene < 2; scene++) {
        int count = parties[scene];
        pthread_t threads[128];
        fresh();
        CHECK_RC(tine_barrier_init(&s->met, (unsigned)count, 0), 0);
        volatile uint32_t *words = (volatile uint32_t *)&s->met;
        volatile uint32_t *number = &words[words[0] == 0xff00 ? 0 : 1]; /* musl's kernel list has the two the other way round */
        CHECK_EQ(*number, 0xff00);
        for (int i = 0; i < (count == 128 ? 1 : 4); i++) {
            pid_t dead = comes(NO_LIST);
            end(dead);
            unsign(dead);
            *number = 0xff00; /* nobody has come, and nobody watches */
        }
        for (int i = 1; i < count; i++) CHECK_EQ(pthread_create(&threads[i], NULL, is_told, NULL), 0);
        is_told(NULL);
        for (int i = 1; i < count; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
        CHECK_RC(tine_barrier_reset(&s->met), 0);
        for (int i = 1; i < count; i++) CHECK_EQ(pthread_create(&threads[i], NULL, meets_twice, NULL), 0);
        meets_twice(NULL);
        for (int i = 1; i < count; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

/* A party whose thread's robust list somebody else has replaced dies where nobody waits with it: the last to come finds out. */
static void only_one_waits(void)
{
    static struct robust_list_head {
        void *next;
        long offset;
        void *pending;
    } other = {&other, 0, NULL};
    for (int tries = 0; tries < 2; tries++) {
        fresh();
        CHECK_RC(tine_barrier_init(&s->met, 2, 0), 0);
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_RC(tine_mutex_lock(&s->plain, 0), 0);
            CHECK(syscall(SYS_set_robust_list, &other, sizeof other) == 0);
            (void)!tine_barrier_wait(&s->met, TINE_FOREVER);
            _exit(1);
        }
        while (tine_barrier_waiting(&s->met) == 0) sched_yield();
        end(pid);
        struct timespec promised = {0, 100 * MS};
        nanosleep(&promised, NULL);
        CHECK_RC(tine_barrier_wait(&s->met, tries ? 0 : LONG), TINE_EBROKEN);
    }
}

/* A process of another time namespace, to which all others have started at another time. */
static void other_time(void)
{
    pid_t outer;
    fresh();
    take_all();
    if ((outer = fork()) == 0) {
        pid_t inner;
        int offsets;
        CHECK(unshare(CLONE_NEWTIME) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWTIME) == 0);
        CHECK((offsets = open("/proc/self/timens_offsets", O_WRONLY)) >= 0);
        CHECK(dprintf(offsets, "boottime 1000 0") > 0);
        if ((inner = fork()) == 0) {
            CHECK_RC(tine_mutex_lock(&s->owned, 120 * MS), -ETIMEDOUT);
            CHECK_RC(tine_mutex_lock(&s->plain, 120 * MS), -ETIMEDOUT);
            CHECK_RC(tine_mutex_lock(&s->owned, 0), -EAGAIN);
            _exit(0);
        }
        _exit(exit_code(inner));
    }
    CHECK_EQ(exit_code(outer), 0);
    CHECK_RC(tine_rwlock_unlock(&s->crowded), 0);
    CHECK_RC(tine_rwlock_unlock(&s->read), 0);
    CHECK_RC(tine_rwlock_unlock(&s->written), 0);
    CHECK_RC(tine_mutex_unlock(&s->interruptible), 0);
    CHECK_RC(tine_mutex_unlock(&s->owned), 0);
    CHECK_RC(tine_mutex_unlock(&s->plain), 0);
}

static void tick(int signal)
{
    (void)signal;
    CHECK_RC(tine_semaphore_release(&s->given, 1), 0);
}

/* Signals that come more often than a wait looks round, and whose handlers release a semaphore. */
static void ticking(int64_t timeout_ns)
{
    struct itimerval every = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
    int rc;
    fresh();
    CHECK(signal(SIGALRM, tick) != SIG_ERR);
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        deny(NO_LIST);
        take_all();
        s->ready = 1;
        for (;;) pause();
    }
    while (!s->ready) sched_yield();
    CHECK_RC(tine_mutex_lock(&s->plain, 20 * MS), -ETIMEDOUT);
    CHECK(kill(pid, SIGKILL) == 0);
    while (waitpid(pid, NULL, 0) < 0) CHECK(errno == EINTR);
    while ((rc = tine_mutex_lock(&s->interruptible, timeout_ns)) == -EINTR) {}
    CHECK_RC(rc, -EOWNERDEAD);
    CHECK_RC(tine_mutex_lock(&s->plain, timeout_ns), -EOWNERDEAD);
    CHECK_RC(tine_mutex_lock(&s->owned, timeout_ns), -EOWNERDEAD);
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(tine_semaphore_value(&s->given) > 0);
}

/* A word of somebody else's in the list, on which the kernel gives up; and more robust mutexes than it walks over. */
static void damaged(int many)
{
    size_t length = 2100 * sizeof(pthread_mutex_t);
    pthread_mutex_t *mutexes = (pthread_mutex_t *)mmap(NULL, length, PROT_READ | PROT_WRITE,
                                                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid;
    CHECK(mutexes != MAP_FAILED);
    fresh();
    if ((pid = fork()) == 0) {
        take_all();
        if (many) {
            pthread_mutexattr_t robust;
            pthread_mutexattr_init(&robust);
            pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
            pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
            for (int i = 0; i < 2100; i++)
                CHECK(pthread_mutex_init(&mutexes[i], &robust) == 0 && pthread_mutex_lock(&mutexes[i]) == 0);
        } else {
            CHECK_RC(tine_mutex_lock(&s->other, 0), 0);
            ((volatile uint64_t *)&s->other)[4] = 0x10;
        }
        raise(SIGKILL);
    }
    CHECK_EQ(exit_code(pid), 128 + SIGKILL);
    find_out(many ? LONG : 0);
    CHECK(munmap(mutexes, length) == 0);
}

/* The same memory at another address; and a copy of it, which is somebody else's. */
static void mapped_twice(void)
{
    int fd = memfd_create("locks", MFD_CLOEXEC);
    tine_mutex *one, *two, copy;
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    one = (tine_mutex *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    two = (tine_mutex *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(one != MAP_FAILED && two != MAP_FAILED);
    CHECK_RC(tine_mutex_lock(one, 0), 0);
    CHECK_RC(tine_mutex_lock(two, 0), -EDEADLK);
    CHECK_RC(tine_mutex_lock(two, 10 * MS), -EDEADLK);
    CHECK_RC(tine_mutex_lock(two, TINE_FOREVER), -EDEADLK);
    copy = *one;
    CHECK_RC(tine_mutex_unlock(one), 0);
    CHECK_RC(tine_mutex_lock(two, 0), 0);
    CHECK_RC(tine_mutex_unlock(two), 0);
    CHECK_RC(tine_mutex_lock(&copy, 0), -EOWNERDEAD);
    CHECK_RC(tine_mutex_repair(&copy), 0);
    CHECK_RC(tine_mutex_unlock(&copy), 0);
}

/* A file of locks that a living process held when it was copied, opened in another PID namespace. */
static void reopened(void)
{
    struct shared copy;
    tine_once once;
    fresh();
    take_all();
    copy = *s;
    memset(&once, 0, sizeof once);
    CHECK_RC(tine_mutex_reopen(NULL), -EINVAL);
    CHECK_RC(tine_rwlock_reopen(NULL), -EINVAL);
    CHECK_RC(tine_once_reopen(NULL), -EINVAL);
    ((volatile uint32_t *)&copy.plain)[2] += 1;
    CHECK_RC(tine_mutex_lock(&copy.plain, 0), -EXDEV);
    CHECK_RC(tine_mutex_lock(&copy.owned, 0), -EAGAIN); /* by the numbers it is this very process */
    CHECK_RC(tine_mutex_reopen(&copy.plain), 0);
    CHECK_RC(tine_mutex_reopen(&copy.owned), 0);
    CHECK_RC(tine_mutex_reopen(&copy.other), 0);
    CHECK_RC(tine_rwlock_reopen(&copy.written), 0);
    CHECK_RC(tine_rwlock_reopen(&copy.read), 0);
    CHECK_RC(tine_once_reopen(&once), 0);
    CHECK_RC(tine_mutex_lock(&copy.plain, 0), -EOWNERDEAD);
    CHECK_RC(tine_mutex_lock(&copy.owned, 0), -EOWNERDEAD);
    CHECK_RC(tine_mutex_lock(&copy.other, 0), 0);
    CHECK_RC(tine_rwlock_read_lock(&copy.written, 0), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_write_lock(&copy.read, 0), 0);
    CHECK_RC(tine_mutex_lock(&s->plain, 0), -EDEADLK); /* the original is held as before */
}

/* Who has tried a moment ago, and hears of the holder's end in another way, gets the lock at the next try. */
static void tried_before(void)
{
    for (int i = 0; i < 200; i++) {
        int rc;
        fresh();
        s->ready = 0;
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_RC(tine_mutex_lock(&s->owned, 0), 0);
            s->ready = 1;
            usleep(100 + i % 50 * 10);
            _exit(0);
        }
        while (!s->ready) sched_yield();
        struct pollfd end = {(int)syscall(SYS_pidfd_open, pid, 0), POLLIN, 0};
        CHECK(end.fd >= 0);
        do {
            int ended = poll(&end, 1, 0);
            rc = tine_mutex_lock(&s->owned, 0);
            if (ended) CHECK_RC(rc, -EOWNERDEAD);
        } while (rc == -EAGAIN);
        CHECK_RC(rc, -EOWNERDEAD);
        CHECK_RC(tine_mutex_repair(&s->owned), 0);
        CHECK_RC(tine_mutex_unlock(&s->owned), 0);
        CHECK_EQ(exit_code(pid), 0);
        CHECK(close(end.fd) == 0);
    }
}

static volatile int enough;

static void *closes(void *unused)
{
    while (!enough) syscall(SYS_close_range, 3u, ~0u, 0u);
    return unused;
}

/* A program closes descriptors that are not its own while a thread of it looks with one: that says nothing of the holder. */
static void closed_meanwhile(void)
{
    pid_t holder, pid;
    fresh();
    if ((holder = fork()) == 0) {
        take_all();
        s->ready = 1;
        for (;;) pause();
    }
    while (!s->ready) sched_yield();
    if ((pid = fork()) == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, closes, NULL) == 0);
        for (int i = 0; i < 100000; i++) CHECK_RC(tine_mutex_lock(&s->owned, 0), -EAGAIN);
        enough = 1;
        CHECK(pthread_join(thread, NULL) == 0);
        _exit(0);
    }
    CHECK_EQ(exit_code(pid), 0);
    CHECK(kill(holder, SIGKILL) == 0);
    CHECK_EQ(exit_code(holder), 128 + SIGKILL);
    CHECK_RC(tine_mutex_lock(&s->owned, 0), -EOWNERDEAD);
}

static void scribbled(void) { damaged(0); }
static void long_list(void) { damaged(1); }
static void ticking_long(void) { ticking(LONG); }
static void ticking_short(void) { ticking(10 * MS); }

int main(int argc, char **argv)
{
    static void (*const scenes[])(void) = {everything_denied, alive, nowhere, executed, dead_parties, dead_before_they_came, only_one_waits, other_time, scribbled,
                                           long_list, ticking_long, ticking_short, mapped_twice, reopened, tried_before, closed_meanwhile};
    if (argc > 1 && strcmp(argv[1], "--stay") == 0)
        for (;;) pause();
    return run_scenes(scenes, sizeof scenes / sizeof *scenes);
}
