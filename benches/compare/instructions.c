/*
 * What single calls cost in instructions, the same on every run: benches/compare.sh compares two builds of the library by it, and
 * benches/instructions.sh what is asked for with what is not. With the argument "faults" the pool has all faults of tine_pool_options, at
 * numbers that are never reached.
 */
#include "step.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

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
    step_begin();
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
    step_end();
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
    step_begin();
    for (int i = 0; i < BATCH; i++) check(tine_submit(pool, nothing, &s, sizeof s, NULL, NULL), "tine_submit");
    step_end();
    count(&submit, counted, BATCH);
    check(tine_submit(pool, last, &s, sizeof s, NULL, &id), "tine_submit");
    check(tine_semaphore_release(&s->go, 1), "go");
    check(tine_wait(pool, id, TINE_FOREVER, &result), "tine_wait");
    check(tine_semaphore_acquire(&s->through, TINE_FOREVER), "through");
    step_begin();
    for (int i = 0; i < BATCH; i++) check(tine_next(pool, TINE_FOREVER, &result), "tine_next");
    step_end();
    count(&next, counted, BATCH);
    check(tine_next(pool, TINE_FOREVER, &result), "tine_next");

    /* One result to drain. It is committed soon after the task has said that it is through. */
    check(tine_submit(pool, last, &s, sizeof s, NULL, NULL), "tine_submit");
    check(tine_semaphore_acquire(&s->through, TINE_FOREVER), "through");
    nanosleep(&(struct timespec){0, 2000000}, NULL);
    step_begin();
    check(tine_pool_poll(pool), "tine_pool_poll");
    step_end();
    count(&drain, counted, 1);
    check(tine_next(pool, TINE_FOREVER, &result), "tine_next");
    tine_result_release(pool, &result);
}

static row alloc_and_free, lock_and_unlock, put, get;

static void memory(tine_pool *pool)
{
    step_begin();
    for (int i = 0; i < BATCH; i++) tine_free(pool, tine_alloc(pool, 64));
    step_end();
    count(&alloc_and_free, counted, BATCH);
}

static void lock(tine_mutex *m)
{
    step_begin();
    for (int i = 0; i < BATCH; i++) {
        check(tine_mutex_lock(m, TINE_FOREVER), "tine_mutex_lock");
        check(tine_mutex_unlock(m), "tine_mutex_unlock");
    }
    step_end();
    count(&lock_and_unlock, counted, BATCH);
}

static void queue(tine_queue *q)
{
    long message = 0;
    size_t length;
    step_begin();
    for (int i = 0; i < BATCH; i++) check(tine_queue_put(q, &message, sizeof message, TINE_FOREVER), "tine_queue_put");
    step_end();
    count(&put, counted, BATCH);
    step_begin();
    for (int i = 0; i < BATCH; i++) check(tine_queue_get(q, TINE_FOREVER, &message, sizeof message, &length), "tine_queue_get");
    step_end();
    count(&get, counted, BATCH);
}

int main(int argc, char **argv)
{
    check(tine_init(argc, argv), "tine_init");
    prepare();
    tine_faults faults = TINE_FAULTS_INIT;
    faults.kill_start = faults.kill_call = faults.kill_return = faults.delay_call = faults.fail_alloc = UINT64_MAX;
    faults.delay_ns = 1;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.faults = argc > 1 && strcmp(argv[1], "faults") == 0 ? &faults : NULL;
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
