/*
 * What a timeout means is the same in every call: 0 and every negative number never wait and give -EAGAIN, a positive one runs
 * out with -ETIMEDOUT, and TINE_FOREVER alone waits. `end - now` that comes out just below zero must not wait for ever.
 */
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <tine.h>
#include <unistd.h>

/* A call with `timeout_ns` in it, which would have to wait. */
#define WOULD_WAIT(call)                                                                     \
    do {                                                                                     \
        static const int64_t over[] = {0, -1, -1000000000, INT64_MIN}, some[] = {1, 2000000}; \
        for (size_t i = 0; i < sizeof over / sizeof *over; i++) {                             \
            int64_t timeout_ns = over[i];                                                    \
            CHECK_RC(call, -EAGAIN);                                                         \
        }                                                                                    \
        for (size_t i = 0; i < sizeof some / sizeof *some; i++) {                             \
            int64_t timeout_ns = some[i];                                                    \
            CHECK_RC(call, -ETIMEDOUT);                                                      \
        }                                                                                    \
    } while (0)

static int stay(tine_task *task)
{
    (void)task;
    pause();
    return 0;
}

static struct locks {
    tine_mutex mutex, own, other;
    tine_rwlock rwlock;
    tine_semaphore semaphore;
    tine_condition condition;
    tine_event event;
    tine_barrier barrier;
    tine_once once;
    pthread_barrier_t ready, leave;
} *locks;

static int hold_once(void *user)
{
    (void)user;
    pthread_barrier_wait(&locks->ready);
    pthread_barrier_wait(&locks->leave);
    return 0;
}

/* Holds whatever can be held, until the checks are done. */
static void *hold(void *unused)
{
    CHECK_RC(tine_mutex_lock(&locks->mutex, TINE_FOREVER), 0);
    CHECK_RC(tine_rwlock_write_lock(&locks->rwlock, TINE_FOREVER), 0);
    CHECK_RC(tine_once_call(&locks->once, hold_once, NULL, TINE_FOREVER), 0);
    CHECK_RC(tine_rwlock_unlock(&locks->rwlock), 0);
    CHECK_RC(tine_mutex_unlock(&locks->mutex), 0);
    return unused;
}

static void test_locks(tine_pool *pool)
{
    pthread_t holder;
    locks = (struct locks *)tine_alloc(pool, sizeof *locks);
    CHECK(locks);
    memset(locks, 0, sizeof *locks);
    CHECK_RC(tine_semaphore_init(&locks->semaphore, 0, 0, 0), 0);
    CHECK_RC(tine_barrier_init(&locks->barrier, 2, 0), 0);
    CHECK_EQ(pthread_barrier_init(&locks->ready, NULL, 2), 0);
    CHECK_EQ(pthread_barrier_init(&locks->leave, NULL, 2), 0);
    CHECK_EQ(pthread_create(&holder, NULL, hold, NULL), 0);
    pthread_barrier_wait(&locks->ready);

    WOULD_WAIT(tine_mutex_lock(&locks->mutex, timeout_ns));
    WOULD_WAIT(tine_rwlock_read_lock(&locks->rwlock, timeout_ns));
    WOULD_WAIT(tine_rwlock_write_lock(&locks->rwlock, timeout_ns));
    WOULD_WAIT(tine_semaphore_acquire(&locks->semaphore, timeout_ns));
    WOULD_WAIT(tine_event_wait(&locks->event, timeout_ns));
    WOULD_WAIT(tine_once_call(&locks->once, hold_once, NULL, timeout_ns));
    CHECK_RC(tine_mutex_lock(&locks->own, 0), 0);
    WOULD_WAIT(tine_condition_wait(&locks->condition, &locks->own, timeout_ns));
    CHECK_RC(tine_mutex_unlock(&locks->own), 0);
    /* A wait that runs out breaks a barrier. */
    CHECK_RC(tine_barrier_wait(&locks->barrier, 0), -EAGAIN);

    pthread_barrier_wait(&locks->leave);
    CHECK_EQ(pthread_join(holder, NULL), 0);
    CHECK_RC(tine_mutex_lock(&locks->mutex, -1), 0); /* what need not wait succeeds */
    CHECK_RC(tine_mutex_unlock(&locks->mutex), 0);
    tine_free(pool, locks);
}

static void test_queues(tine_pool *pool)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *queue;
    tine_channel *a, *b;
    char byte = 1;
    size_t length;
    int fd;
    options.capacity_bytes = 4096;
    CHECK_RC(tine_queue_create(pool, &options, &queue), 0);
    WOULD_WAIT(tine_queue_get(queue, timeout_ns, &byte, 1, &length));
    while (tine_queue_put(queue, &byte, 1, INT64_MIN) == 0) { }
    WOULD_WAIT(tine_queue_put(queue, &byte, 1, timeout_ns));
    WOULD_WAIT(tine_queue_join(queue, timeout_ns));
    tine_queue_destroy(queue);

    CHECK_RC(tine_channel_create(NULL, &a, &b), 0);
    WOULD_WAIT(tine_channel_receive(a, timeout_ns, &byte, 1, &length));
    WOULD_WAIT(tine_channel_receive_fd(a, timeout_ns, &fd));
    while (tine_channel_send(a, &byte, 1, -1) == 0) { }
    WOULD_WAIT(tine_channel_send(a, &byte, 1, timeout_ns));
    tine_channel_close(a);
    tine_channel_close(b);
}

static void test_tasks(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_process *process;
    tine_exit end = TINE_EXIT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, stay, NULL, 0, NULL, &id), 0);
    WOULD_WAIT(tine_next(pool, timeout_ns, &result));
    WOULD_WAIT(tine_wait_any(pool, &id, 1, timeout_ns, &result));
    WOULD_WAIT(tine_wait_all(pool, &id, 1, timeout_ns));
    WOULD_WAIT(tine_wait(pool, id, timeout_ns, &result));
    CHECK_RC(tine_cancel(pool, id), 0);

    CHECK_RC(tine_process_start(&options, stay, NULL, 0, &process), 0);
    WOULD_WAIT(tine_process_wait(process, timeout_ns, &end));
    CHECK_RC(tine_process_kill(process, 9), 0);
    CHECK_RC(tine_process_wait(process, TINE_FOREVER, &end), 0);
    tine_process_close(process);

    CHECK_RC(tine_submit(pool, stay, NULL, 0, NULL, &id), 0);
    WOULD_WAIT(tine_wait(pool, id, timeout_ns, &result));
    CHECK_RC(tine_pool_shutdown(pool, INT64_MIN), -EAGAIN);
}

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options late = TINE_SUBMIT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool;
    CHECK_RC(tine_init(argc, argv), 0);
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    /* Lengths of time in options are no timeouts: a negative one is a mistake. */
    late.error = &error;
    late.deadline_ns = -1;
    CHECK_RC(tine_submit(pool, stay, NULL, 0, &late, NULL), -EINVAL);
    CHECK_STR(error.text, "deadline_ns is -1; it cannot be negative");
    test_locks(pool);
    test_queues(pool);
    test_tasks(pool);
    tine_pool_destroy(pool);
    return 0;
}
