/* One word of an object is overwritten while threads sleep on the object: they sleep on, or their calls end, but they do not use up a
 * processor. Each word of each object, with values that none of its words has. limit: 300 */
#include "family.h"
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/syscall.h>

enum { THREADS = 2, MOST_WORDS = 128 };

static tine_mutex mutex;
static tine_rwlock rwlock;
static tine_semaphore semaphore;
static tine_event event;
static tine_condition condition;
static tine_barrier barrier;
static tine_queue *queue;

/* Not a word of any object's but by somebody else's hand. */
static const uint32_t values[] = {0, 1, 5, 0x80000000, 0x80000001, 0x40000000, 0xc0000002, 0xffffffff};

static void *lock(void *unused)
{
    (void)tine_mutex_lock(&mutex, TINE_FOREVER);
    return unused;
}

static void *lock_to_read(void *unused)
{
    (void)tine_rwlock_read_lock(&rwlock, TINE_FOREVER);
    return unused;
}

static void *lock_to_write(void *unused)
{
    (void)tine_rwlock_write_lock(&rwlock, TINE_FOREVER);
    return unused;
}

static void *acquire(void *unused)
{
    (void)tine_semaphore_acquire(&semaphore, TINE_FOREVER);
    return unused;
}

static void *wait_for_event(void *unused)
{
    (void)tine_event_wait(&event, TINE_FOREVER);
    return unused;
}

static void *wait_for_condition(void *unused)
{
    CHECK_RC(tine_mutex_lock(&mutex, TINE_FOREVER), 0);
    (void)tine_condition_wait(&condition, &mutex, TINE_FOREVER);
    (void)tine_mutex_unlock(&mutex); /* not the dead one's, for who comes later */
    return unused;
}

static void *meet(void *unused)
{
    (void)tine_barrier_wait(&barrier, TINE_FOREVER);
    return unused;
}

static void *get(void *unused)
{
    char byte;
    (void)tine_queue_get(queue, TINE_FOREVER, &byte, 1, NULL);
    return unused;
}

static void *put(void *unused)
{
    (void)tine_queue_put(queue, "x", 1, TINE_FOREVER);
    return unused;
}

static void *join(void *unused)
{
    (void)tine_queue_join(queue, TINE_FOREVER);
    return unused;
}

static void own(void)
{
    CHECK_RC(tine_mutex_init(&mutex, 0), 0);
    CHECK_RC(tine_mutex_lock(&mutex, 0), 0);
}

static void own_as_a_process(void)
{
    CHECK_RC(tine_mutex_init(&mutex, TINE_PROCESS_OWNED), 0);
    CHECK_RC(tine_mutex_lock(&mutex, 0), 0);
}

static void read_(void)
{
    CHECK_RC(tine_rwlock_init(&rwlock, 0), 0);
    CHECK_RC(tine_rwlock_read_lock(&rwlock, 0), 0);
}

static void write_(void)
{
    CHECK_RC(tine_rwlock_init(&rwlock, 0), 0);
    CHECK_RC(tine_rwlock_write_lock(&rwlock, 0), 0);
}

static void write_among_preferred_readers(void)
{
    CHECK_RC(tine_rwlock_init(&rwlock, TINE_PREFER_READERS), 0);
    CHECK_RC(tine_rwlock_write_lock(&rwlock, 0), 0);
}

static void no_unit(void)
{
    CHECK_RC(tine_semaphore_init(&semaphore, 0, 0, 0), 0);
}

static void stays_set(void)
{
    CHECK_RC(tine_event_init(&event, 0), 0);
}

static void resets_itself(void)
{
    CHECK_RC(tine_event_init(&event, TINE_AUTO_RESET), 0);
}

static void nobody_notifies(void)
{
    CHECK_RC(tine_mutex_init(&mutex, 0), 0);
    CHECK_RC(tine_condition_init(&condition, 0), 0);
}

static void two_are_missing(void)
{
    CHECK_RC(tine_barrier_init(&barrier, THREADS + 2, 0), 0);
}

static void empty(void)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_segment *s;
    CHECK_RC(tine_segment_create(4 << 20, NULL, &s), 0);
    CHECK_RC(tine_heap_create(s, NULL, &options.heap), 0);
    options.capacity_messages = 4;
    options.capacity_bytes = 64;
    CHECK_RC(tine_queue_create(NULL, &options, &queue), 0);
}

static void full(void)
{
    empty();
    while (tine_queue_put(queue, "x", 1, 0) == 0) {
    }
}

static void watched(void)
{
    empty();
    CHECK(tine_queue_fd(queue) >= 0);
}

static void watched_and_full(void)
{
    full();
    CHECK(tine_queue_fd(queue) >= 0);
}

/* With the mutex in hand, so that one goes for it and the other stands in line. */
static void notify(void)
{
    CHECK_RC(tine_mutex_lock(&mutex, TINE_FOREVER), 0);
    CHECK_RC(tine_condition_notify(&condition, THREADS), 0);
}

struct scene {
    const char *name;
    void (*make)(void);
    void *(*sleeper)(void *);
    void *object;
    size_t size;
    void (*then)(void);
};

static const struct scene scenes[] = {
    {"a mutex", own, lock, &mutex, sizeof mutex, NULL},
    {"a process's mutex", own_as_a_process, lock, &mutex, sizeof mutex, NULL},
    {"writers", read_, lock_to_write, &rwlock, sizeof rwlock, NULL},
    {"readers", write_, lock_to_read, &rwlock, sizeof rwlock, NULL},
    {"preferred readers", write_among_preferred_readers, lock_to_read, &rwlock, sizeof rwlock, NULL},
    {"a semaphore", no_unit, acquire, &semaphore, sizeof semaphore, NULL},
    {"an event", stays_set, wait_for_event, &event, sizeof event, NULL},
    {"an event that resets itself", resets_itself, wait_for_event, &event, sizeof event, NULL},
    {"a condition", nobody_notifies, wait_for_condition, &condition, sizeof condition, NULL},
    {"a condition's line", nobody_notifies, wait_for_condition, &condition, sizeof condition, notify},
    {"a barrier", two_are_missing, meet, &barrier, sizeof barrier, NULL},
    {"consumers", empty, get, NULL, MOST_WORDS * 4, NULL},
    {"producers", full, put, NULL, MOST_WORDS * 4, NULL},
    {"a join", full, join, NULL, MOST_WORDS * 4, NULL},
    {"a watcher", watched, NULL, NULL, MOST_WORDS * 4, NULL},
    {"a watcher that has told", watched_and_full, NULL, NULL, MOST_WORDS * 4, NULL},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

static int begun;

static void *begin(void *scene)
{
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    return ((const struct scene *)scene)->sleeper(NULL);
}

static int64_t used_ns(void)
{
    struct timespec used;
    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

/* Whether the whole process leaves the processors alone for a time, in which the clock ticks that count another thread's use. Who only
 * looks round uses some microseconds; who spins, more than this beside as many others as there are scenes. */
static int is_asleep(int64_t ns)
{
    int64_t used = used_ns();
    nap_ns(ns);
    return used_ns() - used < 500000;
}

/* Within three looks: of a hundred, one would find a thread that spins without a processor. */
static int falls_asleep(void)
{
    return is_asleep(50000000) || is_asleep(50000000) || is_asleep(50000000);
}

/* In a process of its own. */
static void overwrite(const struct scene *scene, size_t word, uint32_t value)
{
    pthread_t threads[THREADS];
    scene->make();
    /* One alone sleeps at a queue's gate for its side. Two, whose lock somebody has freed, wake each other: docs/design/queues.md. */
    int count = scene->sleeper == get || scene->sleeper == put ? 1 : THREADS;
    for (int i = 0; i < count && scene->sleeper; i++)
        CHECK(pthread_create(&threads[i], NULL, begin, (void *)(uintptr_t)scene) == 0);
    WAIT_UNTIL(!scene->sleeper || __atomic_load_n(&begun, __ATOMIC_SEQ_CST) == count);
    WAIT_UNTIL(is_asleep(3000000));
    if (scene->then) {
        scene->then();
        WAIT_UNTIL(is_asleep(3000000));
    }
    volatile uint32_t *words = (volatile uint32_t *)(scene->object ? scene->object : (void *)queue);
    words[word] = value;
    /* All look again. */
    for (size_t i = 0; i < scene->size / 4 && i < MOST_WORDS; i++)
        syscall(SYS_futex, &words[i], FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    if (!falls_asleep()) {
        fprintf(stderr, "%s: with %#x at %zu a thread does not come to rest\n", scene->name, value, 4 * word);
        _exit(1);
    }
    _exit(0);
}

static int each_word(const struct scene *scene)
{
    int failed = 0;
    size_t count = scene->size / 4 < MOST_WORDS ? scene->size / 4 : (size_t)MOST_WORDS;
    size_t step = getenv("TINE_STORM") ? 1 : 4;
    for (size_t word = 0; word < count; word++) {
        for (size_t i = word < 32 ? 0 : word % step; i < sizeof values / sizeof *values; i += word < 32 ? 1 : step) {
            int status;
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (pid == 0) overwrite(scene, word, values[i]);
            CHECK_EQ(waitpid(pid, &status, 0), pid);
            failed += status != 0;
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;
    pid_t pids[SCENES];
    tine_init(argc, argv);
    for (int i = 0; i < SCENES; i++) {
        pids[i] = fork();
        CHECK(pids[i] >= 0);
        if (pids[i] == 0) _exit(each_word(&scenes[i]) != 0);
    }
    for (int i = 0; i < SCENES; i++) {
        int status;
        CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
        if (status != 0) fprintf(stderr, "%s: wait status %#x\n", scenes[i].name, (unsigned)status);
        failed += status != 0;
    }
    CHECK_EQ(failed, 0);
    return 0;
}
