/* What a program is preloaded with that is to see rare things, as long as the environment asks for them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

typedef int create_fn(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);
typedef int get_fn(void *queue, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length);

/* NO_THREADS: no thread can be started. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    if (getenv("NO_THREADS")) return EAGAIN;
    return ((create_fn *)dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, start, argument);
}

/* ALL_IS_TAKEN: every 20 ms comes a message that is longer than the last one, and another process takes it. */
int tine_queue_get(void *queue, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length)
{
    const int64_t interval_ns = 20000000;
    if (!getenv("ALL_IS_TAKEN")) return ((get_fn *)dlsym(RTLD_NEXT, "tine_queue_get"))(queue, timeout_ns, buffer, capacity, length);
    if (timeout_ns == 0) return -EAGAIN;
    struct timespec wait = {0, timeout_ns < interval_ns ? timeout_ns : interval_ns};
    nanosleep(&wait, NULL);
    if (timeout_ns <= interval_ns) return -ETIMEDOUT;
    *length = capacity + 1;
    return -EMSGSIZE;
}
