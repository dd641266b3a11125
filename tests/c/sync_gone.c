/* Who lets another go does not touch the object any more: it is stopped after each of its instructions in turn from the one
 * that lets go, while the other takes what it was given and fills or unmaps the memory; then it goes on.
 *
 * limit: 300 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tine.h>
#include <ucontext.h>
#include <unistd.h>

#define FILL 0x80
#define PAGE 8192

union object {
    tine_semaphore semaphore;
    tine_event event;
    tine_rwlock rwlock;
    tine_barrier barrier;
};

struct kind {
    const char *name;
    void (*init)(union object *);
    void (*give)(union object *);
    int (*take)(union object *); /* not 0: the memory is the taker's now */
};

static void semaphore(union object *o) { CHECK_RC(tine_semaphore_init(&o->semaphore, 0, 0, 0), 0); }
static void bounded(union object *o) { CHECK_RC(tine_semaphore_init(&o->semaphore, 0, 1, 0), 0); }
static void post(union object *o) { CHECK_RC(tine_semaphore_release(&o->semaphore, 1), 0); }
static int acquire(union object *o) { return tine_semaphore_acquire(&o->semaphore, TINE_FOREVER) == 0; }

static void event(union object *o) { CHECK_RC(tine_event_init(&o->event, 0), 0); }
static void automatic(union object *o) { CHECK_RC(tine_event_init(&o->event, TINE_AUTO_RESET), 0); }
static void set(union object *o) { CHECK_RC(tine_event_set(&o->event), 0); }
static int told(union object *o) { return tine_event_wait(&o->event, TINE_FOREVER) == 0; }

static void reading(union object *o) { CHECK_RC(tine_rwlock_read_lock(&o->rwlock, TINE_FOREVER), 0); }
static void writing(union object *o) { CHECK_RC(tine_rwlock_write_lock(&o->rwlock, TINE_FOREVER), 0); }
static void preferring(union object *o)
{
    CHECK_RC(tine_rwlock_init(&o->rwlock, TINE_PREFER_READERS), 0);
    writing(o);
}
static void unlock(union object *o) { CHECK_RC(tine_rwlock_unlock(&o->rwlock), 0); }
static int write_last(union object *o)
{
    writing(o);
    unlock(o);
    return 1;
}

static void pair(union object *o) { CHECK_RC(tine_barrier_init(&o->barrier, 2, 0), 0); }
static void dispose(union object *o);
static int meet(union object *o)
{
    int rc = tine_barrier_wait(&o->barrier, TINE_FOREVER);
    CHECK(rc == 0 || rc == 1);
    return rc;
}
static void meet_stepped(union object *o)
{
    if (meet(o))
        dispose(o);
}

static const struct kind kinds[] = {
    { "semaphore", semaphore, post, acquire },      { "bounded semaphore", bounded, post, acquire },
    { "event", event, set, told },                  { "automatic event", automatic, set, told },
    { "read unlock", reading, unlock, write_last }, { "write unlock", writing, unlock, write_last },
    { "write unlock, readers preferred", preferring, unlock, write_last },
    { "barrier", pair, meet_stepped, meet },
};

static union object *object;
static const struct kind *kind;
static int unmap;
static long stop_at;
static volatile int stepping, go, taken, ended;
static volatile pid_t taker;
static struct seen {
    volatile long steps;
    volatile int let_go; /* before the call went on */
} *seen;

static void dispose(union object *o)
{
    if (unmap)
        CHECK(munmap(o, PAGE) == 0);
    else
        memset(o, FILL, PAGE);
    taken = 1;
}

/* Whether the other thread sleeps in a call of the kernel's: then it has not been let go. */
static int sleeps(void)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)taker);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *state = strrchr(text, ')');
    return state && state[2] == 'S';
}

static void stop(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
#ifdef __x86_64__
    if (!stepping)
        ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100ll;
#else
    (void)context;
#endif
    if (!stepping || ++seen->steps != stop_at)
        return;
    go = 1;
    while (!taker)
        usleep(50);
    while (!taken && !ended && !sleeps())
        usleep(50);
    seen->let_go = taken;
}

static void *other(void *asleep)
{
    while (!asleep && !go)
        usleep(50);
    taker = (pid_t)syscall(SYS_gettid);
    if (kind->take(object))
        dispose(object);
    ended = 1;
    return NULL;
}

static void run(int asleep)
{
    pthread_t thread;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = stop;
    action.sa_flags = SA_SIGINFO;
    object = (union object *)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(object != MAP_FAILED && sizeof *object <= PAGE);
    kind->init(object);
    CHECK(sigaction(SIGTRAP, &action, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, other, asleep ? (void *)seen : NULL) == 0);
    while (asleep && (!taker || !sleeps()))
        usleep(50);
    stepping = 1;
#ifdef __x86_64__
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orl $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc");
#endif
    kind->give(object);
    stepping = 0;
    go = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(taken);
    if (!unmap)
        for (const unsigned char *at = (unsigned char *)object; at < (unsigned char *)object + PAGE; at++)
            CHECK_EQ(*at, FILL);
}

/* A run of its own process; whether the other had been let go when the call was stopped. */
static int stopped_after(long steps, size_t which, int how)
{
    int status;
    pid_t child;
    seen->steps = seen->let_go = 0;
    stop_at = steps;
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        kind = &kinds[which];
        unmap = how & 1;
        alarm(60);
        run(how & 2);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0) {
        fprintf(stderr, "%s, %s, %s, stopped after instruction %ld: status %#x\n", kinds[which].name,
                how & 1 ? "unmapped" : "filled", how & 2 ? "the other asleep" : "the other on its way", steps, status);
        exit(1);
    }
    return seen->let_go;
}

/* With an argument: only the kinds of that name. */
int main(int argc, char **argv)
{
    seen = (struct seen *)mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(seen != MAP_FAILED);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int how = 0; how < 4; how++) {
            if (argc > 1 ? strcmp(argv[1], kinds[i].name) != 0 : (how == 0 || how == 3) && !getenv("TINE_STORM"))
                continue;
            if (kinds[i].take == meet && !(how & 2))
                continue; /* it would wait for one that waits for it to go on */
            long before = 0, from, all;
            stopped_after(-1, i, how);
            all = from = seen->steps;
            while (from - before > 1) { /* the first instruction that lets go */
                long middle = before + (from - before) / 2;
                if (stopped_after(middle, i, how))
                    from = middle;
                else
                    before = middle;
            }
            for (long at = from; at <= all; at++)
                stopped_after(at, i, how);
            printf("%s, %s, %s: instructions %ld to %ld\n", kinds[i].name, how & 1 ? "unmapped" : "filled",
                   how & 2 ? "the other asleep" : "the other on its way", from, all);
            fflush(stdout);
        }
    return 0;
}
