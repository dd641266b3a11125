/* For LD_PRELOAD: a program in which libtine gets no thread, as where the user has too many. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    void *address, *real = dlsym(RTLD_NEXT, "pthread_create");
    create *next;
    Dl_info whose;
    memcpy(&address, &run, sizeof address);
    if (dladdr(address, &whose) && strstr(whose.dli_fname, "libtine"))
        return EAGAIN;
    memcpy(&next, &real, sizeof next);
    return next(thread, attributes, run, argument);
}
