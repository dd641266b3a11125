/*
 * What single calls cost in instructions, the same on every run: benches/compare.sh compares two builds of the library by it.
 *
 * The processor's trap flag raises SIGTRAP after each instruction of a thread, and the handler counts. A system call is one instruction.
 * callgrind would be the usual tool, but valgrind before 3.20 knows no pidfd_open, without which a pool has no workers.
 *
 * Each row is counted ROUNDS times, BATCH calls each, and the median counts: now and then a side waits for the other, and counts that. Few are
 * enough, and a step takes up to 0.3 ms in a virtual machine.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tine.h>
#include <ucontext.h>

#ifndef __x86_64__
#error "the trap flag is x86_64's"
#endif
#define TRAP_FLAG 0x100

#define BATCH 2
#define ROUNDS 7

static volatile long counted; /* by the one thread of this process that counts */

static void trapped(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    if (info->si_code == TRAP_TRACE) {
        counted++;
        return;
    }
    counted = 0;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG; /* the breakpoint of begin() */
}

static void prepare(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGTRAP, &action, NULL);
}

/* What lies between begin() and end() is counted. */
#define begin() __asm__ volatile("int3" ::: "memory")
static void end(void)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

typedef struct row {
    int rounds;
    double each[ROUNDS]; /* instructions of one call */
} row;

static void count(row *r, long instructions, int calls)
{
    if (r->rounds < ROUNDS) r->each[r->rounds++] = (double)instructions / calls;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, row *r)
{
    qsort(r->each, (size_t)r->rounds, sizeof *r->each, by_size);
    printf("%s\t%.1f\n", name, r->each[r->rounds / 2]);
}

static void check(int rc, const char *call)
{
    if (rc >= 0) return;
    fprintf(stderr, "%s: %s\n", call, tine_strerror(rc));
    exit(1);
}

typedef struct shared {
    tine_semaphore held, go, through;
    long before; /* the worker's count when its last task began; -1: it has had none */
    row worker;
} shared;

/* The first task of a round holds the worker until all the others are submitted. */
static int hold(tine_task *task)
{
    shared *s = *(shared *const *)tine_input(task, NULL);
    check(tine_semaphore_release(&s->held, 1), "held");
    check(tine_semaphore_acquire(&s->go, TINE_FOREVER), "go");
    prepare();
    s->before = -1;
    begin();
    return 0;
}

/* From one of these to the next the worker returns from a task, commits its result, claims another and calls it. */
static int nothing(tine_task *task)
{
    shared *s = *(shared *const *)tine_input(task, NULL);
    long now = counted;
    if (s->before >= 0) count(&s->worker, now - s->before, 1);
    s->before = counted;
    return 0;
}

static int last(tine_task *task)
{
    end();
    shared *s = *(shared *const *)tine_input(task, NULL);
    check(tine_semaphore_release(&s->through, 1), "through");
    return 0;
}

static row submit, drain, next;

static void tasks(tine_pool *pool, shared *s)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    check(tine_submit(pool, hold, &s, sizeof s, NULL, NULL), "tine_submit");
    check(tine_semaphore_acquire(&s->held, TINE_FOREVER), "held");
    begin();
    for (int i = 0; i < BATCH; i++) check(tine_submit(pool, nothing, &s, sizeof s, NULL, NULL), "tine_submit");
    end();
    count(&submit, counted, BATCH);
    check(tine_submit(pool, last, &s, sizeof s, NULL, &id), "tine_submit");
    check(tine_semaphore_release(&s->go, 1), "go");
    check(tine_wait(pool, id, TINE_FOREVER, &result), "tine_wait");
    check(tine_semaphore_acquire(&s->through, TINE_FOREVER), "through");
    begin();
    for (int i = 0; i < BATCH; i++) check(tine_next(pool, TINE_FOREVER, &result), "tine_next");
    end();
    count(&next, counted, BATCH);
    check(tine_next(pool, TINE_FOREVER, &result), "tine_next");

    /* One result to drain. It is committed soon after the task has said that it is through. */
    check(tine_submit(pool, last, &s, sizeof s, NULL, NULL), "tine_submit");
    check(tine_semaphore_acquire(&s->through, TINE_FOREVER), "through");
    nanosleep(&(struct timespec){0, 2000000}, NULL);
    begin();
    check(tine_pool_poll(pool), "tine_pool_poll");
    end();
    count(&drain, counted, 1);
    check(tine_next(pool, TINE_FOREVER, &result), "tine_next");
    tine_result_release(pool, &result);
}

static row alloc_and_free, lock_and_unlock, put, get;

static void memory(tine_pool *pool)
{
    begin();
    for (int i = 0; i < BATCH; i++) tine_free(pool, tine_alloc(pool, 64));
    end();
    count(&alloc_and_free, counted, BATCH);
}

static void lock(tine_mutex *m)
{
    begin();
    for (int i = 0; i < BATCH; i++) {
        check(tine_mutex_lock(m, TINE_FOREVER), "tine_mutex_lock");
        check(tine_mutex_unlock(m), "tine_mutex_unlock");
    }
    end();
    count(&lock_and_unlock, counted, BATCH);
}

static void queue(tine_queue *q)
{
    long message = 0;
    size_t length;
    begin();
    for (int i = 0; i < BATCH; i++) check(tine_queue_put(q, &message, sizeof message, TINE_FOREVER), "tine_queue_put");
    end();
    count(&put, counted, BATCH);
    begin();
    for (int i = 0; i < BATCH; i++) check(tine_queue_get(q, TINE_FOREVER, &message, sizeof message, &length), "tine_queue_get");
    end();
    count(&get, counted, BATCH);
}

int main(int argc, char **argv)
{
    check(tine_init(argc, argv), "tine_init");
    prepare();
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.flags = TINE_NO_THREAD; /* else it would take the results before tine_pool_poll does */
    tine_pool *pool;
    tine_queue *q;
    check(tine_pool_create(&options, &pool), "tine_pool_create");
    check(tine_queue_create(pool, NULL, &q), "tine_queue_create");
    shared *s = tine_alloc(pool, sizeof *s);
    tine_mutex *m = tine_alloc(pool, sizeof *m);
    if (!s || !m) return 1;
    s->worker.rounds = 0;
    check(tine_semaphore_init(&s->held, 0, 1, 0), "tine_semaphore_init");
    check(tine_semaphore_init(&s->go, 0, 1, 0), "tine_semaphore_init");
    check(tine_semaphore_init(&s->through, 0, 1, 0), "tine_semaphore_init");
    check(tine_mutex_init(m, 0), "tine_mutex_init");
    for (int i = 0; i < ROUNDS; i++) {
        tasks(pool, s);
        memory(pool);
        lock(m);
        queue(q);
    }
    print("submit", &submit);
    print("worker", &s->worker);
    print("drain", &drain);
    print("next", &next);
    print("alloc and free", &alloc_and_free);
    print("lock and unlock", &lock_and_unlock);
    print("queue put", &put);
    print("queue get", &get);
    tine_queue_destroy(q);
    tine_pool_destroy(pool);
    return 0;
}
