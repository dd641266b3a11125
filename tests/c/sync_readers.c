/* More readers than there are places of their own meet inside; some are killed there; writers that only wait are killed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "check.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
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

int main(void)
{
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    for (unsigned flags = 0; flags <= TINE_PREFER_READERS; flags += TINE_PREFER_READERS) {
        many(flags, 0);
        many(flags, READERS);
        many(flags, 7);
    }
    return 0;
}
