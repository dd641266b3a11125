/*
 * Locks next to glibc's: `make bench`. Every round measures each row once, tine and its peer one after the other, so that
 * whatever else the machine does hits both alike; the table gives medians of the rounds and the ratio of each pair's,
 * again the median of the rounds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

#define ROUNDS 9
#define LOOPS 2000000
#define SLICE_NS 150e6
#define MOST 4

static struct shared {
    tine_mutex mutex __attribute__((aligned(64)));
    tine_rwlock rwlock __attribute__((aligned(64)));
    tine_semaphore semaphore __attribute__((aligned(64)));
    pthread_mutex_t robust __attribute__((aligned(64)));
    pthread_mutex_t plain __attribute__((aligned(64)));
    pthread_rwlock_t peer_rwlock __attribute__((aligned(64)));
    sem_t peer_semaphore __attribute__((aligned(64)));
    struct { volatile long count; char pad[56]; } done[MOST] __attribute__((aligned(64)));
    volatile int go, stop, holds;
    volatile double killed;
} *s;

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(const double *values, int count)
{
    double sorted[1024];
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare);
    return sorted[count / 2];
}

/* About 100 ns that the processor can't overlap with itself. */
static unsigned long section(unsigned long x)
{
    for (int i = 0; i < 75; i++) x = x * 6364136223846793005ul + 1442695040888963407ul;
    return x;
}
static volatile unsigned long sink;

/* The operations: without and with a section. */
#define OPERATION(name, lock, unlock) static void name(void) { lock; unlock; }
#define OPERATIONS(name, lock, unlock)                                                                     \
    OPERATION(name, lock, unlock)                                                                          \
    static void name##_100(void) { lock; sink = section(sink); unlock; }
OPERATIONS(tine, tine_mutex_lock(&s->mutex, TINE_FOREVER), tine_mutex_unlock(&s->mutex))
OPERATIONS(robust, pthread_mutex_lock(&s->robust), pthread_mutex_unlock(&s->robust))
OPERATION(plain, pthread_mutex_lock(&s->plain), pthread_mutex_unlock(&s->plain))
OPERATIONS(reader, tine_rwlock_read_lock(&s->rwlock, TINE_FOREVER), tine_rwlock_unlock(&s->rwlock))
OPERATIONS(peer_reader, pthread_rwlock_rdlock(&s->peer_rwlock), pthread_rwlock_unlock(&s->peer_rwlock))
OPERATION(unit, tine_semaphore_acquire(&s->semaphore, TINE_FOREVER), tine_semaphore_release(&s->semaphore, 1))
OPERATION(peer_unit, sem_wait(&s->peer_semaphore), sem_post(&s->peer_semaphore))

/* ns per operation, alone: of the processor's time, so that others who want it don't count. */
static double alone(void (*operation)(void))
{
    struct timespec before, after;
    for (int i = 0; i < LOOPS / 10; i++) operation();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    for (int i = 0; i < LOOPS; i++) operation();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    return ((after.tv_sec - before.tv_sec) * 1e9 + (after.tv_nsec - before.tv_nsec)) / LOOPS;
}

/* Million operations per second of several processes; *share is the least busy one's part of its fair share. */
static double together(void (*operation)(void), int processes, double slice_ns, double *share)
{
    pid_t pids[MOST];
    double began, took, total = 0, least = 1e300;
    s->go = s->stop = 0;
    for (int i = 0; i < processes; i++) {
        s->done[i].count = 0;
        if ((pids[i] = fork()) == 0) {
            long count = 0;
            cpu_set_t one; /* each on a processor of its own, as far as there are enough */
            CPU_ZERO(&one);
            CPU_SET(i % sysconf(_SC_NPROCESSORS_ONLN), &one);
            sched_setaffinity(0, sizeof one, &one);
            operation();
            while (!s->go) {}
            for (; !s->stop; count++) operation();
            s->done[i].count = count;
            _exit(0);
        }
    }
    began = now_ns();
    s->go = 1;
    do {
        struct timespec nap = {0, 5000000};
        nanosleep(&nap, NULL);
    } while (now_ns() - began < slice_ns);
    s->stop = 1;
    took = now_ns() - began;
    for (int i = 0; i < processes; i++) waitpid(pids[i], NULL, 0);
    for (int i = 0; i < processes; i++) {
        total += s->done[i].count;
        if (s->done[i].count < least) least = s->done[i].count;
    }
    if (share) *share = least * processes / total;
    return total * 1e3 / took;
}

/* From the kill of a holder until the waiter has its lock, in ns. */
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

static void set_up(void)
{
    pthread_mutexattr_t mutex;
    pthread_rwlockattr_t rwlock;
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED) perror("mmap"), exit(1);
    tine_semaphore_init(&s->semaphore, 1, 0, 0);
    sem_init(&s->peer_semaphore, 1, 1);
    pthread_rwlockattr_init(&rwlock);
    pthread_rwlockattr_setpshared(&rwlock, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&s->peer_rwlock, &rwlock);
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&s->plain, &mutex);
    pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&s->robust, &mutex);
}

struct row {
    const char *name, *unit, *aim;
    void (*ours)(void), (*theirs)(void);
    int processes; /* 0: alone, in ns */
    double mine[ROUNDS], peer[ROUNDS], ratio[ROUNDS];
};

int main(void)
{
    static struct row rows[] = {
        {"mutex lock + unlock, alone", "ns", "<= 0.9x glibc robust", tine, robust, 0, {0}, {0}, {0}},
        {"the same, not robust", "ns", "-", tine, plain, 0, {0}, {0}, {0}},
        {"mutex, 2 processes, 100 ns", "Mops/s", ">= 1.2x glibc robust", tine_100, robust_100, 2, {0}, {0}, {0}},
        {"mutex, 4 processes, 100 ns", "Mops/s", ">= 1.2x glibc robust", tine_100, robust_100, 4, {0}, {0}, {0}},
        {"rwlock, 2 readers, empty", "Mops/s", ">= 5x pthread_rwlock", reader, peer_reader, 2, {0}, {0}, {0}},
        {"rwlock, 2 readers, 100 ns", "Mops/s", ">= 2x pthread_rwlock", reader_100, peer_reader_100, 2, {0}, {0}, {0}},
        {"semaphore acquire + release", "ns", "<= 1.0x sem_t", unit, peer_unit, 0, {0}, {0}, {0}},
    };
    int count = sizeof rows / sizeof *rows, kills = 200;
    double shares[ROUNDS], mine[1024], peer[1024];
    set_up();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < count; i++) {
            struct row *row = &rows[i];
            row->mine[round] = row->processes ? together(row->ours, row->processes, SLICE_NS, NULL) : alone(row->ours);
            row->peer[round] = row->processes ? together(row->theirs, row->processes, SLICE_NS, NULL) : alone(row->theirs);
            row->ratio[round] = row->mine[round] / row->peer[round];
        }
        together(tine_100, 4, 1e9, &shares[round]);
    }
    for (int i = 0; i < kills; i++) {
        mine[i] = hand_over(take_tine, give_tine) / 1e3;
        peer[i] = hand_over(take_robust, give_robust) / 1e3;
    }
    printf("| locks | tine | glibc | ratio | aim |\n|---|---|---|---|---|\n");
    for (int i = 0; i < count; i++) {
        struct row *row = &rows[i];
        printf("| %s, %s | %.1f | %.1f | %.2f | %s |\n", row->name, row->unit, median(row->mine, ROUNDS),
               median(row->peer, ROUNDS), median(row->ratio, ROUNDS), row->aim);
    }
    printf("| kill to hand-over, us | %.0f | %.0f | %.2f | - |\n", median(mine, kills), median(peer, kills),
           median(mine, kills) / median(peer, kills));
    qsort(mine, (size_t)kills, sizeof *mine, compare);
    qsort(peer, (size_t)kills, sizeof *peer, compare);
    printf("| the slowest of %d, us | %.0f | %.0f | %.2f | - |\n", kills, mine[kills - 1], peer[kills - 1],
           mine[kills - 1] / peer[kills - 1]);
    printf("| least busy of 4 in 1 s, part of its fair share | %.2f | | | >= 0.25 |\n", median(shares, ROUNDS));
    return 0;
}
