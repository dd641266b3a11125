/* Processes that rely on different things share one object: what one is refused by its sandbox, the others make up for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "refuse.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <tine.h>
#include <unistd.h>

#define MS 1000000ll
#define LONG (20000 * MS) /* a hang */

static struct shared {
    tine_semaphore units;
    tine_event event;
    tine_mutex mutex;
    tine_condition condition;
    tine_barrier barrier;
    tine_rwlock lock;
    int items, got, stop;
} *s;

static int load(int *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

/* Without it a thread's end is not told by the kernel. */
static void refuse_list(void) { refuse(SYS_get_robust_list); }

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

static void until_asleep(pid_t pid)
{
    char path[64], text[64];
    long number = -1;
    CHECK(snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid) > 0);
    while (number != SYS_futex && number != SYS_futex_waitv) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length;
        CHECK(fd >= 0 && (length = read(fd, text, sizeof text - 1)) > 0);
        close(fd);
        text[length] = 0;
        if (sscanf(text, "%ld", &number) != 1) number = -1;
        sched_yield();
    }
}

static void kill_and_reap(pid_t pid)
{
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static void hear(int rc)
{
    if (rc != -EOWNERDEAD) {
        CHECK_RC(rc, 0);
        return;
    }
    CHECK_RC(tine_condition_notify_all(&s->condition), 0);
    CHECK_RC(tine_mutex_repair(&s->mutex), 0);
}

static void take(int what)
{
    if (what == 0) CHECK_RC(tine_semaphore_acquire(&s->units, TINE_FOREVER), 0);
    if (what == 1) CHECK_RC(tine_event_wait(&s->event, TINE_FOREVER), 0);
    if (what == 2) {
        hear(tine_mutex_lock(&s->mutex, TINE_FOREVER));
        while (s->items == 0)
            hear(tine_condition_wait(&s->condition, &s->mutex, TINE_FOREVER));
        s->items--;
        CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    }
}

static void give(int what)
{
    if (what == 0) CHECK_RC(tine_semaphore_release(&s->units, 1), 0);
    if (what == 1) CHECK_RC(tine_event_set(&s->event), 0);
    if (what == 2) {
        hear(tine_mutex_lock(&s->mutex, TINE_FOREVER));
        s->items++;
        CHECK_RC(tine_condition_notify(&s->condition, 1), 0);
        CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    }
}

/* One that is refused the list is killed as soon as it has been woken, before or after it has taken what it was woken for: the
   other, which the kernel would tell, gets what is left. */
static void woken_and_killed(int what, int victim_first)
{
    pid_t pid[2];
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_event_init(&s->event, TINE_AUTO_RESET), 0);
    for (int i = 0; i < 2; i++) {
        if ((pid[i] = fork()) == 0) {
            if (i != victim_first) {
                /* Who is woken does not run at once. */
                struct sched_param idle;
                memset(&idle, 0, sizeof idle);
                CHECK(sched_setscheduler(0, SCHED_IDLE, &idle) == 0);
                refuse_list();
            }
            take(what);
            __atomic_add_fetch(&s->got, 1, __ATOMIC_SEQ_CST);
            _exit(0);
        }
        until_asleep(pid[i]);
    }
    give(what);
    kill_and_reap(pid[!victim_first]);
    if (what == 2) {
        for (int64_t i = 0; load(&s->items) != 0; i++) {
            CHECK(i < 20000);
            usleep(1000);
        }
        kill_and_reap(pid[victim_first]);
    } else {
        int status;
        give(what); /* if the first went with the dead one */
        CHECK(waitpid(pid[victim_first], &status, 0) == pid[victim_first]);
        CHECK_EQ(status, 0);
    }
}

static void one_is_refused(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    for (int what = 0; what < 3; what++)
        for (int i = 0; i < 40; i++)
            woken_and_killed(what, i % 4 == 0);
}

/* The last party to come to a barrier hears of a dead one that the kernel has not marked; so does who only tries. */
static void dead_party(void)
{
    for (unsigned parties = 2; parties < 4; parties++) {
        pid_t pid;
        CHECK_RC(tine_barrier_init(&s->barrier, parties, 0), 0);
        if ((pid = fork()) == 0) {
            refuse_list();
            tine_barrier_wait(&s->barrier, TINE_FOREVER);
            _exit(0);
        }
        until_asleep(pid);
        kill_and_reap(pid);
        CHECK_RC(tine_barrier_wait(&s->barrier, 0), TINE_EBROKEN);
    }
}

/* Whatever somebody has written into a barrier, a wait ends, and not by a panic. */
static void written_over(void)
{
    for (uint32_t beside = 0; beside < 0x10000; beside += 0xff)
        for (uint32_t meeting = 0; meeting < 4; meeting += 2) {
            uint32_t words[2] = {meeting, beside};
            int rc;
            CHECK_RC(tine_barrier_init(&s->barrier, TINE_BARRIER_PARTIES, 0), 0);
            memcpy((void *)&s->barrier, words, sizeof words);
            rc = tine_barrier_wait(&s->barrier, MS / 10);
            CHECK(rc == -ETIMEDOUT || rc == TINE_EBROKEN || rc == 0 || rc == 1);
        }
}

static void *reads(void *unused)
{
    (void)unused;
    while (!load(&s->stop)) {
        CHECK_RC(tine_rwlock_read_lock(&s->lock, LONG), 0);
        usleep(2000);
        CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    }
    return NULL;
}

/* More threads of one process read, again and again, than have places of their own: a writer gets in between. */
static void crowd(void)
{
    pthread_t threads[24];
    memset((void *)s, 0, sizeof *s);
    for (int i = 0; i < 24; i++)
        CHECK(pthread_create(&threads[i], NULL, reads, NULL) == 0);
    usleep(50000);
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tine_rwlock_write_lock(&s->lock, LONG), 0);
        CHECK_RC(tine_rwlock_unlock(&s->lock), 0);
    }
    __atomic_store_n(&s->stop, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 24; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* A process without a free descriptor takes a lock of its own, and has descriptors when it releases it. */
static void no_descriptor_then_some(void)
{
    struct rlimit most, few;
    CHECK(getrlimit(RLIMIT_NOFILE, &most) == 0);
    CHECK_RC(tine_mutex_init(&s->mutex, TINE_PROCESS_OWNED), 0);
    few = most;
    few.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &most) == 0);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), -EAGAIN);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    CHECK_RC(tine_mutex_lock(&s->mutex, 0), 0);
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
}

int main(void)
{
    static void (*const scenes[])(void) = {no_descriptor_then_some, one_is_refused, dead_party, written_over, crowd};
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            scenes[i]();
            _exit(0);
        }
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_EQ(status, 0);
    }
    return 0;
}
