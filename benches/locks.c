/*
 * Locks next to glibc's and Boost's: `make bench`. (std's and parking_lot's are in locks.rs.) All figures are nanoseconds for one
 * operation, so that less is better everywhere; of several processes, the time that passes between two sections of any of them.
 * Processes are pinned, each to a processor of its own, as far as there are enough.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LOOPS 2000000
#define SLICE_NS 150e6
#define KILLS 112
#define MOST 128
#define BARRIER_ROUNDS 200

#ifdef HAVE_BOOST /* locks_boost.cpp */
void boost_make(void *at);
void boost_lock(void *at);
void boost_unlock(void *at);
#endif

static struct shared {
    tine_mutex mutex __attribute__((aligned(64)));
    tine_rwlock rwlock __attribute__((aligned(64)));
    tine_semaphore semaphore __attribute__((aligned(64)));
    tine_mutex recursive __attribute__((aligned(64)));
    tine_barrier barrier __attribute__((aligned(64)));
    pthread_mutex_t robust __attribute__((aligned(64)));
    pthread_mutex_t plain __attribute__((aligned(64)));
    pthread_mutex_t standard __attribute__((aligned(64)));
    pthread_mutex_t again __attribute__((aligned(64)));
    pthread_rwlock_t peer_rwlock __attribute__((aligned(64)));
    pthread_barrier_t peer_barrier __attribute__((aligned(64)));
    sem_t peer_semaphore __attribute__((aligned(64)));
    char boost[256] __attribute__((aligned(64)));
    struct { volatile long count; char pad[56]; } done[MOST] __attribute__((aligned(64)));
    volatile int go, stop, holds;
    volatile double killed;
} *s;

/* About 100 ns that the processor can't overlap with itself. */
static unsigned long section(unsigned long x)
{
    for (int i = 0; i < 75; i++) x = x * 6364136223846793005ul + 1442695040888963407ul;
    return x;
}
static volatile unsigned long sink;

static void ten_us(void)
{
    for (int i = 0; i < 100; i++) sink = section(sink);
}

static int file = -1;
static void three_writes(void)
{
    char bytes[64] = {0};
    for (int i = 0; i < 3; i++)
        if (pwrite(file, bytes, sizeof bytes, i * 64) < 0) exit(1);
}

/* The operations: with an empty section, and with others. */
#define OPERATION(name, lock, work, unlock) static void name(void) { lock; work; unlock; }
#define OPERATIONS(name, lock, unlock)                                                                     \
    OPERATION(name, lock, , unlock)                                                                        \
    OPERATION(name##_100, lock, sink = section(sink), unlock)
#define LONG_OPERATIONS(name, lock, unlock)                                                                \
    OPERATION(name##_ten_us, lock, ten_us(), unlock)                                                       \
    OPERATION(name##_writes, lock, three_writes(), unlock)
OPERATIONS(tine, tine_mutex_lock(&s->mutex, TINE_FOREVER), tine_mutex_unlock(&s->mutex))
OPERATIONS(robust, pthread_mutex_lock(&s->robust), pthread_mutex_unlock(&s->robust))
LONG_OPERATIONS(tine, tine_mutex_lock(&s->mutex, TINE_FOREVER), tine_mutex_unlock(&s->mutex))
LONG_OPERATIONS(robust, pthread_mutex_lock(&s->robust), pthread_mutex_unlock(&s->robust))
OPERATIONS(plain, pthread_mutex_lock(&s->plain), pthread_mutex_unlock(&s->plain))
OPERATION(standard, pthread_mutex_lock(&s->standard), , pthread_mutex_unlock(&s->standard))
OPERATION(recursive, tine_mutex_lock(&s->recursive, TINE_FOREVER), , tine_mutex_unlock(&s->recursive))
OPERATION(peer_recursive, pthread_mutex_lock(&s->again), , pthread_mutex_unlock(&s->again))
#ifdef HAVE_BOOST
OPERATIONS(boost, boost_lock(s->boost), boost_unlock(s->boost))
#endif
OPERATIONS(reader, tine_rwlock_read_lock(&s->rwlock, TINE_FOREVER), tine_rwlock_unlock(&s->rwlock))
OPERATIONS(peer_reader, pthread_rwlock_rdlock(&s->peer_rwlock), pthread_rwlock_unlock(&s->peer_rwlock))
OPERATION(writer, tine_rwlock_write_lock(&s->rwlock, TINE_FOREVER), , tine_rwlock_unlock(&s->rwlock))
OPERATION(peer_writer, pthread_rwlock_wrlock(&s->peer_rwlock), , pthread_rwlock_unlock(&s->peer_rwlock))
OPERATIONS(unit, tine_semaphore_acquire(&s->semaphore, TINE_FOREVER), tine_semaphore_release(&s->semaphore, 1))
OPERATIONS(peer_unit, sem_wait(&s->peer_semaphore), sem_post(&s->peer_semaphore))

static void nothing_100(void) { sink = section(sink); }

/* Alone: of the processor's time, so that others who want it don't count. */
static double alone(void (*operation)(void))
{
    struct timespec before, after;
    for (int i = 0; i < LOOPS / 10; i++) operation();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    for (int i = 0; i < LOOPS; i++) operation();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    return ((double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec)) / LOOPS;
}

/* Starts processes that wait for s->go, then call run(number), then end. */
static void start(pid_t *pids, int processes, void (*run)(int number, void (*operation)(void)), void (*operation)(void))
{
    s->go = s->stop = 0;
    for (int i = 0; i < processes; i++) {
        s->done[i].count = 0;
        if ((pids[i] = fork()) != 0) continue;
        if (processes <= sysconf(_SC_NPROCESSORS_ONLN)) pin(i);
        while (!s->go) sched_yield();
        run(i, operation);
        _exit(0);
    }
}

static void repeat(int number, void (*operation)(void))
{
    long count = 0;
    for (; !s->stop; count++) operation();
    s->done[number].count = count;
}

static double together(void (*operation)(void), int processes)
{
    pid_t pids[MOST];
    long total = 0;
    struct timespec nap = {0, (long)SLICE_NS};
    start(pids, processes, repeat, operation);
    double began = now_ns();
    s->go = 1;
    nanosleep(&nap, NULL);
    s->stop = 1;
    double took = now_ns() - began;
    for (int i = 0; i < processes; i++) {
        waitpid(pids[i], NULL, 0);
        total += s->done[i].count;
    }
    return total ? took / (double)total : 0;
}

static void meet(int number, void (*operation)(void))
{
    (void)number;
    for (int i = 0; i < BARRIER_ROUNDS; i++) operation();
}
static void wait_tine(void) { must(tine_barrier_wait(&s->barrier, TINE_FOREVER), "barrier"); }
static void wait_pthread(void) { pthread_barrier_wait(&s->peer_barrier); }

/* One round of a barrier, of so many processes. */
static double barrier(void (*wait)(void), int parties)
{
    pid_t pids[MOST];
    pthread_barrierattr_t shared;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&s->peer_barrier, &shared, (unsigned)parties);
    must(tine_barrier_init(&s->barrier, (unsigned)parties, 0), "barrier");
    start(pids, parties, meet, wait);
    double began = now_ns();
    s->go = 1;
    for (int i = 0; i < parties; i++) waitpid(pids[i], NULL, 0);
    return (now_ns() - began) / BARRIER_ROUNDS;
}

/* From the kill of a holder until the waiter has its lock. */
static double hand_over(int (*take)(void), int (*give)(void))
{
    double took;
    pid_t holder, killer;
    s->holds = 0;
    if ((holder = fork()) == 0) {
        take();
        s->holds = 1;
        for (;;) pause();
    }
    while (!s->holds) sched_yield();
    if ((killer = fork()) == 0) {
        struct timespec nap = {0, 1000000}; /* the waiter sleeps by then */
        nanosleep(&nap, NULL);
        s->killed = now_ns();
        kill(holder, SIGKILL);
        _exit(0);
    }
    if (take() == 0) fprintf(stderr, "a death went unnoticed\n"), exit(1);
    took = now_ns() - s->killed;
    give();
    waitpid(holder, NULL, 0);
    waitpid(killer, NULL, 0);
    return took;
}
static int take_tine(void) { return tine_mutex_lock(&s->mutex, TINE_FOREVER); }
static int give_tine(void) { tine_mutex_repair(&s->mutex); return tine_mutex_unlock(&s->mutex); }
static int take_robust(void) { return pthread_mutex_lock(&s->robust); }
static int give_robust(void) { pthread_mutex_consistent(&s->robust); return pthread_mutex_unlock(&s->robust); }

/* All kills of all rounds, for the tail. */
static struct kills { double each[MOST_ROUNDS * KILLS]; int count; } kills_tine, kills_robust;

static double hand_overs(struct kills *all, int (*take)(void), int (*give)(void))
{
    double each[KILLS];
    for (int i = 0; i < KILLS; i++) {
        each[i] = hand_over(take, give);
        if (all->count < MOST_ROUNDS * KILLS) all->each[all->count++] = each[i];
    }
    return median(each, KILLS);
}
static double kill_tine(void) { return hand_overs(&kills_tine, take_tine, give_tine); }
static double kill_robust(void) { return hand_overs(&kills_robust, take_robust, give_robust); }

static void print_tail(const char *name, struct kills *all)
{
    if (all->count == 0) return;
    median(all->each, all->count); /* sorts */
    printf("%s: 99.9 %% of %d kills handed over within %.0f us\n", name, all->count,
        all->each[all->count - 1 - all->count / 1000] / 1e3);
}

static void set_up(void)
{
    pthread_mutexattr_t mutex;
    pthread_rwlockattr_t rwlock;
    char path[] = "/tmp/tine-bench-XXXXXX";
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED) perror("mmap"), exit(1);
    if ((file = mkstemp(path)) < 0) perror(path), exit(1);
    unlink(path);
    tine_semaphore_init(&s->semaphore, 1, 0, 0);
    sem_init(&s->peer_semaphore, 1, 1);
    pthread_rwlockattr_init(&rwlock);
    pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&s->peer_rwlock, &rwlock);
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->standard, NULL);
    pthread_mutex_init(&s->plain, &mutex);
    pthread_mutexattr_settype(&mutex, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&s->again, &mutex);
    pthread_mutexattr_settype(&mutex, PTHREAD_MUTEX_DEFAULT);
    tine_mutex_init(&s->recursive, TINE_RECURSIVE);
#ifdef HAVE_BOOST
    boost_make(s->boost);
#endif
    pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&s->robust, &mutex);
}

/* What the rows measure. */
#define ALONE(operation) static double operation##_alone(void) { return alone(operation); }
#define TOGETHER(operation, processes) \
    static double operation##_by_##processes(void) { return together(operation, processes); }
ALONE(tine) ALONE(robust) ALONE(plain) ALONE(standard) ALONE(recursive) ALONE(peer_recursive)
ALONE(reader) ALONE(peer_reader) ALONE(writer) ALONE(peer_writer) ALONE(unit) ALONE(peer_unit)
TOGETHER(tine, 2) TOGETHER(robust, 2) TOGETHER(tine, 4) TOGETHER(robust, 4)
TOGETHER(tine_100, 2) TOGETHER(robust_100, 2) TOGETHER(plain_100, 2)
TOGETHER(tine_100, 4) TOGETHER(robust_100, 4) TOGETHER(plain_100, 4)
TOGETHER(tine_ten_us, 4) TOGETHER(robust_ten_us, 4) TOGETHER(tine_ten_us, 8) TOGETHER(robust_ten_us, 8)
TOGETHER(tine_writes, 4) TOGETHER(robust_writes, 4)
TOGETHER(reader, 2) TOGETHER(peer_reader, 2) TOGETHER(reader_100, 2) TOGETHER(peer_reader_100, 2) TOGETHER(nothing_100, 2)
TOGETHER(unit_100, 2) TOGETHER(peer_unit_100, 2) TOGETHER(unit_100, 4) TOGETHER(peer_unit_100, 4)
#ifdef HAVE_BOOST
ALONE(boost) TOGETHER(boost_100, 2) TOGETHER(boost_100, 4)
#else
static double boost_alone(void) { return 0; }
static double boost_100_by_2(void) { return 0; }
static double boost_100_by_4(void) { return 0; }
#endif
#define BOOST(measure) PEER("Boost.Interprocess", "ns", 1, measure, 0),
static double barrier_32(void) { return barrier(wait_tine, 32); }
static double barrier_128(void) { return barrier(wait_tine, 128); }
static double peer_barrier_32(void) { return barrier(wait_pthread, 32); }
static double peer_barrier_128(void) { return barrier(wait_pthread, 128); }

int main(int argc, char **argv)
{
    static struct row rows[] = {
        OURS("mutex alone", "ns", 1, tine_alone),
        PEER("glibc, robust", "ns", 1, robust_alone, 0.9),
        PEER("glibc, process-shared", "ns", 1, plain_alone, 0),
        PEER("glibc, default", "ns", 1, standard_alone, 0),
        BOOST(boost_alone)
        OURS("recursive mutex alone", "ns", 1, recursive_alone),
        PEER("glibc, recursive, process-shared", "ns", 1, peer_recursive_alone, 0),
        OURS("mutex, 2 processes, empty", "ns", 1, tine_by_2),
        PEER("glibc, robust", "ns", 1, robust_by_2, 0),
        OURS("mutex, 4 processes, empty", "ns", 1, tine_by_4),
        PEER("glibc, robust", "ns", 1, robust_by_4, 0),
        OURS("mutex, 2 processes, 100 ns", "ns", 1, tine_100_by_2),
        PEER("glibc, robust", "ns", 1, robust_100_by_2, 0.67),
        PEER("glibc, process-shared", "ns", 1, plain_100_by_2, 0),
        BOOST(boost_100_by_2)
        OURS("mutex, 4 processes, 100 ns", "ns", 1, tine_100_by_4),
        PEER("glibc, robust", "ns", 1, robust_100_by_4, 0.67),
        PEER("glibc, process-shared", "ns", 1, plain_100_by_4, 0),
        BOOST(boost_100_by_4)
        OURS("mutex, 4 processes, 10 us", "us", 1e3, tine_ten_us_by_4),
        PEER("glibc, robust", "us", 1e3, robust_ten_us_by_4, 1.0),
        OURS("mutex, 8 processes, 10 us", "us", 1e3, tine_ten_us_by_8),
        PEER("glibc, robust", "us", 1e3, robust_ten_us_by_8, 1.0),
        OURS("mutex, 4 processes, 3 writes to a file", "us", 1e3, tine_writes_by_4),
        PEER("glibc, robust", "us", 1e3, robust_writes_by_4, 1.0),
        OURS("rwlock alone, reading", "ns", 1, reader_alone),
        PEER("pthread_rwlock", "ns", 1, peer_reader_alone, 0),
        OURS("rwlock alone, writing", "ns", 1, writer_alone),
        PEER("pthread_rwlock", "ns", 1, peer_writer_alone, 0),
        OURS("rwlock, 2 readers, empty", "ns", 1, reader_by_2),
        PEER("pthread_rwlock", "ns", 1, peer_reader_by_2, 0.2),
        OURS("rwlock, 2 readers, 100 ns", "ns", 1, reader_100_by_2),
        PEER("no lock at all", "ns", 1, nothing_100_by_2, 1.02),
        PEER("pthread_rwlock", "ns", 1, peer_reader_100_by_2, 0),
        OURS("semaphore alone", "ns", 1, unit_alone),
        PEER("sem_t", "ns", 1, peer_unit_alone, 1.0),
        OURS("semaphore, 2 processes, 100 ns", "ns", 1, unit_100_by_2),
        PEER("sem_t", "ns", 1, peer_unit_100_by_2, 0),
        OURS("semaphore, 4 processes, 100 ns", "ns", 1, unit_100_by_4),
        PEER("sem_t", "ns", 1, peer_unit_100_by_4, 0),
        OURS("barrier, 32 parties, a round", "us", 1e3, barrier_32),
        PEER("pthread_barrier", "us", 1e3, peer_barrier_32, 1.5),
        OURS("barrier, 128 parties, a round", "us", 1e3, barrier_128),
        PEER("pthread_barrier", "us", 1e3, peer_barrier_128, 1.5),
        OURS("kill to hand-over, median", "us", 1e3, kill_tine),
        PEER("glibc, robust", "us", 1e3, kill_robust, 1.0),
    };
    set_up();
    run_table(rows, sizeof rows / sizeof *rows, argc, argv);
    print_tail("tine", &kills_tine);
    print_tail("glibc, robust", &kills_robust);
    return 0;
}
