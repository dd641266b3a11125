/* More readers than there are places of their own meet inside; some are killed there; writers that only wait are killed. What a
 * reader without a place of its own has is seen by who closes the memory, at whatever address it was taken, and by nobody after. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

#define LONG 20000000000ll /* ns: a hang */
#define READERS 40

static struct shared {
    tine_rwlock lock;
    int inside, leave;
} *s;

static int load(int *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

/* Stays inside until all are, and then until it may leave. Twice deep. */
static void read_with_all(void)
{
    CHECK_RC(tine_rwlock_read_lock(&s->lock, LONG), 0);
    __atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
    while (load(&s->inside) < READERS)
        sched_yield();
    CHECK_RC(tine_rwlock_read_lock(&s->lock, LONG), 0);
    while (!load(&s->leave))
        usleep(1000);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    CHECK_RC(tine_rwlock_unlock(&s->lock), -EPERM);
}

static void many(unsigned flags, int killed)
{
    pid_t readers[READERS], writer;
    memset(s, 0, sizeof *s);
    CHECK_RC(tine_rwlock_init(&s->lock, flags), 0);
    for (int i = 0; i < READERS; i++)
        if ((readers[i] = fork()) == 0) {
            read_with_all();
            _exit(0);
        }
    while (load(&s->inside) < READERS)
        usleep(1000);
    CHECK_RC(tine_rwlock_write_lock(&s->lock, 0), -EAGAIN);
    CHECK_RC(tine_rwlock_write_lock(&s->lock, 1000000), -ETIMEDOUT);
    if ((writer = fork()) == 0) { /* never gets in */
        tine_rwlock_write_lock(&s->lock, TINE_FOREVER);
        _exit(1);
    }
    for (int i = 0; i < killed; i++) {
        if (i == READERS - 1) kill(writer, SIGKILL); /* before it could get in */
        kill(readers[i], SIGKILL);
        CHECK(waitpid(readers[i], NULL, 0) == readers[i]);
    }
    kill(writer, SIGKILL);
    CHECK(waitpid(writer, NULL, 0) == writer);
    __atomic_store_n(&s->leave, 1, __ATOMIC_SEQ_CST);
    CHECK_RC(tine_rwlock_write_lock(&s->lock, LONG), 0); /* of neither death anybody hears */
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    for (int i = killed; i < READERS; i++) {
        int status;
        CHECK(waitpid(readers[i], &status, 0) == readers[i]);
        CHECK_EQ(status, 0);
    }
}

static int exit_code(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* A child that does not outlive the test, should that fail. */
static pid_t child(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    return pid;
}

static void end(pid_t pid)
{
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_EQ(exit_code(pid), 128 + SIGKILL);
}

static void *stay_inside(void *lock)
{
    CHECK_RC(tine_rwlock_read_lock((tine_rwlock *)lock, LONG), 0);
    __atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
    for (;;) pause();
    return NULL;
}

/* A process whose threads have all places of their own. */
static pid_t fill(tine_rwlock *lock)
{
    s->inside = 0;
    pid_t pid = child();
    if (pid == 0) {
        pthread_t thread;
        for (int i = 1; i < TINE_RWLOCK_READERS; i++)
            CHECK_EQ(pthread_create(&thread, NULL, stay_inside, lock), 0);
        stay_inside(lock);
    }
    while (load(&s->inside) < TINE_RWLOCK_READERS)
        usleep(1000);
    return pid;
}

/* What another process's try gets. */
static int tried(tine_rwlock *lock, int (*call)(tine_rwlock *, int64_t), int64_t timeout_ns)
{
    pid_t pid = child();
    if (pid == 0) _exit(-call(lock, timeout_ns));
    return -exit_code(pid);
}

static struct other {
    tine_rwlock *lock, *before;
    int holds, release;
    pid_t tid;
} other;

/* Reads another lock first, and ends that before. */
static void *read_both(void *unused)
{
    (void)unused;
    CHECK_RC(tine_rwlock_read_lock(other.before, LONG), 0);
    CHECK_RC(tine_rwlock_read_lock(other.lock, LONG), 0);
    CHECK_RC(tine_rwlock_read_lock(other.lock, LONG), 0);
    CHECK_RC(tine_rwlock_unlock(other.before), 0);
    CHECK_RC(tine_rwlock_unlock(other.lock), 0);
    __atomic_store_n(&other.holds, 1, __ATOMIC_SEQ_CST);
    while (!load(&other.release)) usleep(1000);
    CHECK_RC(tine_rwlock_unlock(other.lock), 0);
    return NULL;
}

static void *ends_with_a_read(void *unused)
{
    (void)unused;
    CHECK_RC(tine_rwlock_read_lock(other.lock, LONG), 0);
    other.tid = (pid_t)syscall(SYS_gettid);
    return NULL;
}

/* The memory of a lock that a thread reads, this one or another, is not to be closed. */
static void closed(int in_heap)
{
    tine_segment *segment;
    tine_heap *heap = NULL;
    pthread_t thread;
    CHECK_RC(tine_segment_create(1 << 20, NULL, &segment), 0);
    if (in_heap) CHECK_RC(tine_heap_create(segment, NULL, &heap), 0);
    tine_rwlock *locks = in_heap ? (tine_rwlock *)tine_heap_alloc(heap, 2 * sizeof *locks)
                                 : (tine_rwlock *)tine_segment_address(segment);
    CHECK(locks != NULL);
    memset(locks, 0, 2 * sizeof *locks);
    pid_t first = fill(&locks[0]), second = fill(&locks[1]);
    for (int again = 0; again < 2; again++)
        CHECK_RC(tine_rwlock_read_lock(&locks[1], LONG), 0);
    for (int again = 0; again < 2; again++) {
        CHECK_RC(in_heap ? tine_heap_close(heap) : tine_segment_close(segment), -EBUSY);
        CHECK_RC(tine_rwlock_unlock(&locks[1]), 0);
    }
    memset(&other, 0, sizeof other);
    other.before = &locks[0];
    other.lock = &locks[1];
    CHECK_EQ(pthread_create(&thread, NULL, read_both, NULL), 0);
    while (!load(&other.holds)) usleep(1000);
    CHECK_RC(in_heap ? tine_heap_close(heap) : tine_segment_close(segment), -EBUSY);
    __atomic_store_n(&other.release, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    /* Of a thread that has ended nobody can end the read. */
    CHECK_EQ(pthread_create(&thread, NULL, ends_with_a_read, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    while (syscall(SYS_tgkill, getpid(), other.tid, 0) == 0) sched_yield(); /* join is a moment earlier */
    if (in_heap) CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(segment), 0);
    end(first);
    end(second);
}

/* Another lock where one was that this thread still reads as far as its record says. */
static void another_lock(void)
{
    tine_rwlock *lock = (tine_rwlock *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(lock != MAP_FAILED);
    pid_t filler = fill(lock);
    CHECK_RC(tine_rwlock_read_lock(lock, LONG), 0);
    end(filler);
    CHECK(munmap(lock, 4096) == 0);
    CHECK(mmap(lock, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == lock);
    CHECK_RC(tine_rwlock_unlock(lock), -EPERM);
    CHECK_RC(tine_rwlock_write_lock(lock, 0), 0);
    CHECK_RC(tine_rwlock_unlock(lock), 0);
    CHECK_RC(tine_rwlock_read_lock(lock, 0), 0);
    CHECK_RC(tried(lock, tine_rwlock_write_lock, 0), -EAGAIN);
    CHECK_RC(tine_rwlock_unlock(lock), 0);
    CHECK_RC(tine_rwlock_unlock(lock), -EPERM);
    /* The same once more, with places that are shared in the new one too. */
    memset(lock, 0, sizeof *lock);
    filler = fill(lock);
    CHECK_RC(tine_rwlock_read_lock(lock, LONG), 0);
    end(filler);
    memset(lock, 0, sizeof *lock);
    filler = fill(lock);
    CHECK_RC(tine_rwlock_read_lock(lock, LONG), 0);
    end(filler);
    CHECK_RC(tried(lock, tine_rwlock_write_lock, 0), -EAGAIN);
    CHECK_RC(tine_rwlock_unlock(lock), 0);
    CHECK_RC(tine_rwlock_unlock(lock), -EPERM);
    CHECK_RC(tried(lock, tine_rwlock_write_lock, 0), 0);
    CHECK(munmap(lock, 4096) == 0);
}

/* The same lock at two addresses: who would wait for itself is told, with a place of its own or a shared one. */
static void mapped_twice(unsigned flags, int shared)
{
    int fd = memfd_create("lock", MFD_CLOEXEC), rc;
    tine_rwlock *one, *two;
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    one = (tine_rwlock *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    two = (tine_rwlock *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(one != MAP_FAILED && two != MAP_FAILED);
    CHECK_RC(tine_rwlock_init(one, flags), 0);
    pid_t filler = shared ? fill(one) : 0;
    CHECK_RC(tine_rwlock_read_lock(one, LONG), 0);
    if (shared) end(filler);
    CHECK_RC(tine_rwlock_write_lock(two, 0), -EDEADLK);
    CHECK_RC(tine_rwlock_write_lock(two, LONG), -EDEADLK);
    CHECK_RC(tine_rwlock_write_lock(two, TINE_FOREVER), -EDEADLK);
    CHECK_RC(tine_rwlock_write_lock(one, TINE_FOREVER), -EDEADLK);
    pid_t writer = child();
    if (writer == 0) _exit(-tine_rwlock_write_lock(one, LONG));
    if (flags & TINE_PREFER_READERS) {
        CHECK_RC(tine_rwlock_read_lock(two, LONG), 0);
        CHECK_RC(tine_rwlock_unlock(two), 0);
    } else {
        while ((rc = tine_rwlock_read_lock(two, LONG)) == 0) { /* until the writer waits */
            CHECK_RC(tine_rwlock_unlock(two), 0);
            sched_yield();
        }
        CHECK_RC(rc, -EDEADLK);
        CHECK_RC(tine_rwlock_read_lock(two, 0), -EDEADLK);
    }
    CHECK_RC(tine_rwlock_read_lock(one, LONG), 0);
    CHECK_RC(tine_rwlock_unlock(one), 0);
    CHECK_RC(tine_rwlock_unlock(one), 0);
    CHECK_EQ(exit_code(writer), 0);
    CHECK_RC(tine_rwlock_write_lock(one, LONG), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_repair(one), 0);
    CHECK_RC(tine_rwlock_read_lock(two, LONG), -EDEADLK);
    CHECK_RC(tine_rwlock_read_lock(two, 0), -EDEADLK);
    CHECK_RC(tine_rwlock_write_lock(two, LONG), -EDEADLK);
    CHECK_RC(tine_rwlock_unlock(one), 0);
    CHECK_RC(tine_rwlock_write_lock(two, 0), 0);
    CHECK_RC(tine_rwlock_unlock(two), 0);
    CHECK(munmap(one, 4096) == 0 && munmap(two, 4096) == 0 && close(fd) == 0);
}

/* A copy of a lock that was read when it was made, and that nobody has reopened. */
static void copied(void)
{
    static tine_rwlock copy;
    memset(s, 0, sizeof *s);
    CHECK_RC(tine_rwlock_read_lock(&s->lock, LONG), 0);
    memcpy(&copy, &s->lock, sizeof copy);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    CHECK_RC(tine_rwlock_write_lock(&copy, LONG), 0);
    CHECK_RC(tine_rwlock_unlock(&copy), 0);
}

static void die_writing(void)
{
    pid_t pid = child();
    if (pid == 0) {
        CHECK_RC(tine_rwlock_write_lock(&s->lock, LONG), 0);
        raise(SIGKILL);
    }
    CHECK_EQ(exit_code(pid), 128 + SIGKILL);
}

/* A lock that repairs itself: a writer hears of the death, and until then each reader. */
static void repairs_itself(unsigned flags)
{
    memset(s, 0, sizeof *s);
    CHECK_RC(tine_rwlock_init(&s->lock, flags | TINE_AUTO_REPAIR), 0);
    die_writing();
    CHECK_RC(tine_rwlock_write_lock(&s->lock, 0), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->lock, 0), 0);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    die_writing();
    for (int again = 0; again < 2; again++) {
        CHECK_RC(tine_rwlock_read_lock(&s->lock, 0), -EOWNERDEAD);
        CHECK_RC(tried(&s->lock, tine_rwlock_read_lock, 0), -EOWNERDEAD);
        CHECK_RC(tried(&s->lock, tine_rwlock_write_lock, 0), -EAGAIN);
        CHECK_RC(tried(&s->lock, tine_rwlock_write_lock, 1000000), -ETIMEDOUT);
        pid_t writer = child();
        if (writer == 0) _exit(-tine_rwlock_write_lock(&s->lock, LONG));
        usleep(1000); /* it waits, or has not come so far */
        end(writer);
        CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    }
    CHECK_RC(tine_rwlock_write_lock(&s->lock, 0), -EOWNERDEAD);
    CHECK_RC(tine_rwlock_repair(&s->lock), 0);
    CHECK_RC(tine_rwlock_repair(&s->lock), -EINVAL);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    CHECK_RC(tine_rwlock_read_lock(&s->lock, 0), 0);
    CHECK_RC(tried(&s->lock, tine_rwlock_read_lock, 0), 0);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->lock, 0), 0);
    CHECK_RC(tine_rwlock_repair(&s->lock), -EINVAL);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
}

/* Where all places are taken a reader sleeps on the one that it tries first, and says so: then its release wakes. */
static void no_place(void)
{
    enum { ALL = TINE_RWLOCK_READERS + 60 };
    pid_t readers[ALL];
    struct timespec now, start;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < ALL; i++)
        if ((readers[i] = child()) == 0) {
            CHECK_RC(tine_rwlock_read_lock(&s->lock, LONG), 0);
            __atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
            while (!load(&s->leave)) usleep(1000);
            CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
            _exit(0);
        }
    while (load(&s->inside) < ALL) usleep(1000);
    CHECK_RC(tine_rwlock_read_lock(&s->lock, 0), -EAGAIN);
    CHECK_RC(tine_rwlock_read_lock(&s->lock, 1000000), -ETIMEDOUT);
    pid_t waiter = child();
    if (waiter == 0) {
        CHECK_RC(tine_rwlock_read_lock(&s->lock, LONG), 0);
        CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
        _exit(0);
    }
    /* A slot is 64 bytes, behind the 64 of the writers' lock; its first 8 are the kernel's word and the cookie. */
    uint64_t *first = &s->lock.opaque[8 * (1 + waiter % TINE_RWLOCK_READERS)];
#ifdef __GLIBC__
    const uint64_t waits = (uint64_t)1 << 31;
#else
    const uint64_t waits = (uint64_t)1 << 63;
#endif
    CHECK(clock_gettime(CLOCK_MONOTONIC, &start) == 0);
    while (!(__atomic_load_n(first, __ATOMIC_SEQ_CST) & waits)) {
        CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec - start.tv_sec < LONG / 1000000000);
        usleep(1000);
    }
    __atomic_store_n(&s->leave, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(exit_code(waiter), 0);
    for (int i = 0; i < ALL; i++) CHECK_EQ(exit_code(readers[i]), 0);
    CHECK_RC(tine_rwlock_write_lock(&s->lock, LONG), 0);
    CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
}

int main(void)
{
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    for (unsigned flags = 0; flags <= TINE_PREFER_READERS; flags += TINE_PREFER_READERS) {
        many(flags, 0);
        many(flags, READERS);
        many(flags, 7);
        repairs_itself(flags);
        mapped_twice(flags, 0);
        mapped_twice(flags, 1);
    }
    copied();
    another_lock();
    closed(0);
    closed(1);
    no_place();
    return 0;
}
