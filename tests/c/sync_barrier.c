/* Barriers with many parties, and ones whose parties run out of time, are killed, or are stopped while others go on. */
#include "family.h"
#include <pthread.h>
#include <sys/mman.h>

#define PROCESSES 4
#define THREADS (TINE_BARRIER_PARTIES / PROCESSES)
#define ROUNDS 20

static struct shared {
    tine_barrier barrier;
    int come, leaders[ROUNDS], codes[3], ended;
} *s;

static int wait_all(int64_t timeout_ns)
{
    return tine_barrier_wait(&s->barrier, timeout_ns);
}

static void *meet_often(void *unused)
{
    (void)unused;
    for (int round = 0; round < ROUNDS; round++) {
        __atomic_add_fetch(&s->come, 1, __ATOMIC_SEQ_CST);
        int rc = wait_all(10 * HANG_NS);
        CHECK(rc == 0 || rc == 1);
        CHECK(__atomic_load_n(&s->come, __ATOMIC_SEQ_CST) >= (round + 1) * TINE_BARRIER_PARTIES);
        __atomic_add_fetch(&s->leaders[round], rc, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void *be_broken(void *unused)
{
    (void)unused;
    CHECK_RC(wait_all(10 * HANG_NS), TINE_EBROKEN);
    __atomic_add_fetch(&s->ended, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void run_threads(void *(*body)(void *), int count)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < count; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, body, NULL), 0);
    }
    for (int i = 0; i < count; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

static pid_t process_of(void *(*body)(void *), int count)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run_threads(body, count);
        _exit(0);
    }
    return child;
}

static int status_of(pid_t child)
{
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return status;
}

/* As many parties as there can be, in several processes: nobody goes before all have come, and one of each meeting is told. */
static void as_many_as_can_be(void)
{
    pid_t children[PROCESSES];
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, TINE_BARRIER_PARTIES, 0), 0);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = process_of(meet_often, THREADS);
    }
    for (int i = 0; i < PROCESSES; i++) {
        CHECK_EQ(status_of(children[i]), 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_EQ(s->leaders[round], 1);
    }
    CHECK_RC(tine_barrier_broken(&s->barrier), 0);
}

/* All but one have come, and a process is killed: all others are told, wherever the dead ones' seats are. */
static void many_die(int victim)
{
    pid_t children[PROCESSES];
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, TINE_BARRIER_PARTIES, 0), 0);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = process_of(be_broken, i == 0 ? THREADS - 1 : THREADS);
    }
    WAIT_UNTIL(tine_barrier_waiting(&s->barrier) == TINE_BARRIER_PARTIES - 1);
    CHECK(kill(children[victim], SIGKILL) == 0);
    for (int i = 0; i < PROCESSES; i++) {
        int status = status_of(children[i]);
        CHECK(i == victim ? WIFSIGNALED(status) : status == 0);
    }
    CHECK_EQ(s->ended, (PROCESSES - 1) * THREADS - (victim == 0 ? 0 : 1));
    CHECK_RC(wait_all(0), TINE_EBROKEN);
    CHECK_RC(tine_barrier_reset(&s->barrier), 0);
    CHECK_RC(wait_all(0), -EAGAIN);
}

static void *wait_with_limit(void *of)
{
    int *code = (int *)of;
    *code = wait_all(code == &s->codes[0] ? 50000000 : 10 * HANG_NS);
    return NULL;
}

/* One of two that wait for a third runs out of time, be it the first to come or not: it is told that, the other that the barrier
 * is broken, and so is who comes later. After a reset it is as new. */
static void out_of_time(int first)
{
    pthread_t threads[2];
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, 3, 0), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, wait_with_limit, &s->codes[i == 0 ? first : !first]), 0);
        if (i == 0 && first == 1) {
            WAIT_UNTIL(tine_barrier_waiting(&s->barrier) == 1);
        }
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_RC(s->codes[0], -ETIMEDOUT);
    CHECK_RC(s->codes[1], TINE_EBROKEN);
    CHECK_RC(wait_all(0), TINE_EBROKEN);
    CHECK_RC(tine_barrier_reset(&s->barrier), 0);
    CHECK_RC(tine_barrier_waiting(&s->barrier), 0);
    CHECK_RC(wait_all(0), -EAGAIN);
}

#define RESETS 500

static void *be_reset_and_meet(void *unused)
{
    (void)unused;
    for (int round = 0; round < RESETS; round++) {
        CHECK_RC(wait_all(10 * HANG_NS), TINE_EBROKEN);
        CHECK(wait_all(10 * HANG_NS) >= 0);
    }
    return NULL;
}

/* Who is told because of a reset finds the barrier whole, however far the one that resets has got since. */
static void told_of_a_reset(void)
{
    pid_t child;
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, 3, 0), 0);
    child = process_of(be_reset_and_meet, 2);
    for (int round = 0; round < RESETS; round++) {
        WAIT_UNTIL(tine_barrier_waiting(&s->barrier) == 2);
        CHECK_RC(tine_barrier_reset(&s->barrier), 0);
        CHECK(wait_all(10 * HANG_NS) >= 0);
    }
    CHECK_EQ(status_of(child), 0);
}

static void *wait_for_others(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)wait_all(TINE_FOREVER);
}

/* A process of one thread that waits, and says what it was told. */
static pid_t waiting_process(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        _exit((int)((intptr_t)wait_for_others(NULL) & 0xff));
    }
    return child;
}

static void stop(pid_t child)
{
    int status;
    CHECK(kill(child, SIGSTOP) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
}

/* What a party was told that went on after this. */
static int told(pid_t child)
{
    int status;
    CHECK(kill(child, SIGCONT) == 0);
    status = status_of(child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void reset_often(int count)
{
    for (int i = 0; i < count; i++) {
        CHECK_RC(tine_barrier_reset(&s->barrier), 0);
    }
}

/* Two meet: one is told that it was the last to leave. */
static void all_meet(void)
{
    pthread_t other;
    void *code;
    int rc;
    CHECK_EQ(pthread_create(&other, NULL, wait_for_others, NULL), 0);
    rc = wait_all(10 * HANG_NS);
    CHECK_EQ(pthread_join(other, &code), 0);
    CHECK(rc >= 0 && (intptr_t)code >= 0);
    CHECK_EQ(rc + (intptr_t)code, 1);
}

/* Two of three wait and do not run again before so many resets: they are told, and the barrier is as new. */
static void told_late(int resets)
{
    pid_t children[2];
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, 3, 0), 0);
    for (int i = 0; i < 2; i++) {
        children[i] = waiting_process();
        WAIT_UNTIL(tine_barrier_waiting(&s->barrier) == i + 1);
    }
    stop(children[0]);
    stop(children[1]);
    reset_often(resets);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(told(children[i]), TINE_EBROKEN & 0xff);
    }
    CHECK_RC(wait_all(0), -EAGAIN);
    CHECK_RC(tine_barrier_waiting(&s->barrier), 0);
}

/* A party that has met does not run again before so many resets: it has met, and was the last to leave. */
static void met_long_ago(int resets)
{
    pid_t child;
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, 2, 0), 0);
    child = waiting_process();
    WAIT_UNTIL(tine_barrier_waiting(&s->barrier) == 1);
    stop(child);
    CHECK_RC(wait_all(HANG_NS), 0);
    reset_often(resets);
    CHECK_EQ(told(child), 1);
    all_meet();
}

/* One that died on its way out was never counted out: later meetings have one that is the last to leave, however many resets came
 * between. */
static void died_on_its_way_out(int resets)
{
    pid_t child;
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_barrier_init(&s->barrier, 2, 0), 0);
    child = waiting_process();
    WAIT_UNTIL(tine_barrier_waiting(&s->barrier) == 1);
    stop(child);
    CHECK_RC(wait_all(HANG_NS), 0);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(WIFSIGNALED(status_of(child)));
    reset_often(resets);
    all_meet();
    all_meet();
}

#define MOST_THREADS 300

static struct turns {
    tine_barrier barrier;
    int parties, meetings, tickets, come, gone, told;
} *turns;

static void *take_turns(void *unused)
{
    (void)unused;
    while (__atomic_add_fetch(&turns->tickets, 1, __ATOMIC_SEQ_CST) <= turns->meetings * turns->parties) {
        __atomic_add_fetch(&turns->come, 1, __ATOMIC_SEQ_CST);
        int rc = tine_barrier_wait(&turns->barrier, 10 * HANG_NS);
        CHECK(rc == 0 || rc == 1);
        __atomic_add_fetch(&turns->told, rc, __ATOMIC_SEQ_CST);
        int gone = __atomic_add_fetch(&turns->gone, 1, __ATOMIC_SEQ_CST);
        /* Whole meetings, of those who had come by now. */
        CHECK(gone <= __atomic_load_n(&turns->come, __ATOMIC_SEQ_CST) / turns->parties * turns->parties);
    }
    return NULL;
}

/* More threads than parties, of two processes: each meeting has its parties, and as many are told as there were meetings. */
static void more_than_parties(int parties, int threads, int meetings)
{
    pid_t child;
    pthread_t running[MOST_THREADS];
    memset((void *)turns, 0, sizeof *turns);
    turns->parties = parties;
    turns->meetings = meetings;
    CHECK_RC(tine_barrier_init(&turns->barrier, (unsigned)parties, 0), 0);
    child = fork();
    CHECK(child >= 0);
    for (int i = 0; i < threads / 2; i++)
        CHECK_EQ(pthread_create(&running[i], NULL, take_turns, NULL), 0);
    for (int i = 0; i < threads / 2; i++)
        CHECK_EQ(pthread_join(running[i], NULL), 0);
    if (child == 0) {
        if (threads % 2) take_turns(NULL);
        _exit(0);
    }
    CHECK_EQ(status_of(child), 0);
    CHECK_EQ(turns->come, parties * meetings);
    CHECK_EQ(turns->gone, parties * meetings);
    CHECK_EQ(turns->told, meetings);
    CHECK_RC(tine_barrier_waiting(&turns->barrier), 0);
}

int main(void)
{
    static const int resets[] = {1, 2, 15, 16, 17, 18, 40, 1000, 1001};
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)s != MAP_FAILED);
    as_many_as_can_be();
    many_die(0);
    many_die(PROCESSES - 1);
    out_of_time(0);
    out_of_time(1);
    told_of_a_reset();
    for (size_t i = 0; i < sizeof resets / sizeof *resets; i++) {
        told_late(resets[i]);
        met_long_ago(resets[i]);
    }
    died_on_its_way_out(3);
    died_on_its_way_out(40000);
    turns = (struct turns *)mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)turns != MAP_FAILED);
    more_than_parties(1, 6, 5000);
    more_than_parties(2, 3, 5000);
    more_than_parties(2, 40, 2000);
    more_than_parties(3, 7, 3000);
    more_than_parties(2, MOST_THREADS, 200);
    more_than_parties(TINE_BARRIER_PARTIES, TINE_BARRIER_PARTIES + 12, 20);
    return 0;
}
