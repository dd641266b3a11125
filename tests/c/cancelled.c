/* Threads that are cancelled in the middle of a call: the call ends as any other, and the thread after it. Each of them has been cancelled before the
 * call, so whatever cancellation point the call meets acts at once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <tine.h>
#include <unistd.h>

/* Twice as many as a process has allocators: each of these is somebody's besides the thread that is in it for long. */
enum { THREADS = 16, ROUNDS = 3, LARGE = 16 << 20 };

static void cancel_myself(void)
{
    CHECK(pthread_cancel(pthread_self()) == 0);
}

static void ends_cancelled(pthread_t thread)
{
    void *result;
    CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
}

static void in_thread(void *(*body)(void *))
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
    ends_cancelled(thread);
}

static tine_once once;
static int begun, returned;

static int initializer(void *user)
{
    CHECK(user == &once);
    begun++;
    usleep(1); /* a cancellation point */
    return 0;
}

static int fails(void *user)
{
    CHECK(user == &once);
    usleep(1);
    return 7;
}

static void *calls_what_fails(void *unused)
{
    (void)unused;
    cancel_myself();
    CHECK_EQ(tine_once_call(&once, fails, &once, 0), 7);
    returned++;
    pthread_testcancel();
    return NULL;
}

static void *calls(void *unused)
{
    (void)unused;
    cancel_myself();
    CHECK_RC(tine_once_call(&once, initializer, &once, 0), 0);
    returned++;
    pthread_testcancel();
    return NULL;
}

static void initializers(void)
{
    in_thread(calls_what_fails);
    CHECK_EQ(returned, 1);
    in_thread(calls);
    CHECK_EQ(returned, 2);
    in_thread(calls); /* done already */
    CHECK_EQ(returned, 3);
    CHECK_EQ(begun, 1);
}

static tine_heap *heap;
static volatile int rounds;
static int started;

static void *allocates(void *unused)
{
    (void)unused;
    tine_heap_free(heap, tine_heap_alloc(heap, 100));
    __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
    cancel_myself();
    while (rounds < ROUNDS) CHECK_RC(tine_heap_free(heap, tine_heap_alloc(heap, 100)), 0);
    pthread_testcancel();
    return NULL;
}

/* One thread is in its allocator for long, because it has pages to get from the system; others wait for that. */
static void allocations(void)
{
    tine_segment *segment;
    pthread_t threads[THREADS];
    CHECK_RC(tine_segment_create(4 * LARGE, NULL, &segment), 0);
    CHECK_RC(tine_heap_create(segment, NULL, &heap), 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, allocates, NULL) == 0);
    while (__atomic_load_n(&started, __ATOMIC_SEQ_CST) < THREADS) sched_yield();
    for (; rounds < ROUNDS; rounds++) {
        void *block = tine_heap_alloc(heap, LARGE);
        CHECK(block);
        CHECK_RC(tine_heap_free(heap, block), 0);
        tine_heap_trim(heap);
    }
    for (int i = 0; i < THREADS; i++) ends_cancelled(threads[i]);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(segment), 0);
}

static int drawn;

static void *draws(void *unused)
{
    (void)unused;
    tine_progress bar = TINE_PROGRESS_INIT;
    bar.fd = open("/dev/null", O_WRONLY);
    CHECK(bar.fd > 0);
    cancel_myself();
    tine_progress_bar(0, 1, &bar);
    tine_progress_bar(1, 1, &bar);
    drawn = 1;
    pthread_testcancel();
    return NULL;
}

int main(void)
{
    initializers();
    in_thread(draws);
    CHECK_EQ(drawn, 1);
    allocations();
    return 0;
}
