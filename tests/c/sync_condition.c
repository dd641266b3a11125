/* Waiters of a condition that are notified while another one, on its way to the mutex before them, is stopped or dies there. */
#include "family.h"
#include <signal.h>
#include <sys/mman.h>

#define ROUNDS 3
/* How often everybody has been woken is counted in a word; once it had 12 bits. */
#define TURNS 4096

static struct shared {
    tine_mutex mutex;
    tine_condition condition;
    int waiting, turns;
} *s;

static void lock(void)
{
    CHECK_RC(tine_mutex_lock(&s->mutex, 10 * HANG_NS), 0);
}

static void unlock(void)
{
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
}

static void fresh(uint32_t flags)
{
    memset((void *)s, 0, sizeof *s);
    CHECK_RC(tine_condition_init(&s->condition, flags), 0);
}

static void nothing(int signal)
{
    (void)signal;
}

/* A process that waits once; its exit code says how that ended. */
static pid_t waiter(int64_t timeout_ns)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct sigaction action;
        int rc;
        memset(&action, 0, sizeof action);
        action.sa_handler = nothing;
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        lock();
        s->waiting++;
        rc = tine_condition_wait(&s->condition, &s->mutex, timeout_ns);
        CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EINTR);
        unlock();
        _exit(-rc);
    }
    return child;
}

static void stop(pid_t child)
{
    int status;
    CHECK(kill(child, SIGSTOP) == 0);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
}

/* Whether it has ended, and then how. */
static int has_ended(pid_t child, int *status)
{
    pid_t ended = waitpid(child, status, WNOHANG);
    CHECK(ended >= 0);
    return ended == child;
}

static int end_of(pid_t child)
{
    int status = 0;
    WAIT_UNTIL(has_ended(child, &status));
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void kill_off(pid_t child)
{
    int status = 0;
    CHECK(kill(child, SIGKILL) == 0);
    WAIT_UNTIL(has_ended(child, &status));
    CHECK(WIFSIGNALED(status));
}

/* How often a process has gone to sleep so far, and whether it sleeps now. */
static long sleeps(pid_t child, int *now)
{
    char path[64], line[128];
    long count = -1;
    FILE *file;
    snprintf(path, sizeof path, "/proc/%d/status", (int)child);
    file = fopen(path, "r");
    CHECK(file);
    *now = 0;
    while (fgets(line, sizeof line, file)) {
        char state = 0;
        if (sscanf(line, "State: %c", &state) == 1) {
            *now = state == 'S';
        }
        (void)sscanf(line, "voluntary_ctxt_switches: %ld", &count);
    }
    CHECK(fclose(file) == 0 && count >= 0);
    return count;
}

static int sleeps_now(pid_t child)
{
    int now;
    (void)sleeps(child, &now);
    return now;
}

/* Whether it has woken up since, and sleeps for the next thing. */
static int sleeps_again(pid_t child, long before)
{
    int now;
    return sleeps(child, &now) > before && now;
}

/* Two that wait; returned with the mutex in hand, when both have released it and sleep. */
static void two_wait(pid_t children[2], int64_t timeout_ns)
{
    int before = s->waiting;
    for (int i = 0; i < 2; i++) {
        children[i] = waiter(timeout_ns);
    }
    WAIT_UNTIL(__atomic_load_n(&s->waiting, __ATOMIC_SEQ_CST) == before + 2);
    lock();
    for (int i = 0; i < 2; i++) {
        WAIT_UNTIL(sleeps_now(children[i]));
    }
}

/* With the mutex in hand: notifies one of two that sleep. It is the first of the two when this returns, and sleeps on its way to the
 * mutex. */
static void notify_first(pid_t children[2])
{
    long before[2];
    int now;
    for (int i = 0; i < 2; i++) {
        before[i] = sleeps(children[i], &now);
    }
    CHECK_RC(tine_condition_notify(&s->condition, 1), 0);
    WAIT_UNTIL(sleeps_again(children[0], before[0]) || sleeps_again(children[1], before[1]));
    if (!sleeps_again(children[0], before[0])) {
        pid_t first = children[1];
        children[1] = children[0];
        children[0] = first;
    }
}

/* The same for the only one that has not been notified. */
static void notify_last(pid_t child)
{
    int now;
    long before = sleeps(child, &now);
    CHECK_RC(tine_condition_notify(&s->condition, 1), 0);
    WAIT_UNTIL(sleeps_again(child, before));
}

/* As many as are notified come back, one after the other. */
static void works(void)
{
    pid_t children[2];
    two_wait(children, TINE_FOREVER);
    CHECK_RC(tine_condition_notify(&s->condition, 2), 0);
    unlock();
    CHECK_EQ(end_of(children[0]), 0);
    CHECK_EQ(end_of(children[1]), 0);
}

/* The mutex is free and the one before it is stopped: a waiter that has been notified returns when its time is over. Afterwards
 * the one that was stopped goes on, or dies. */
static void time_runs_out(int dies)
{
    pid_t children[2];
    int end;
    fresh(0);
    two_wait(children, 500000000);
    notify_first(children);
    notify_last(children[1]);
    stop(children[0]);
    unlock();
    end = end_of(children[1]);
    CHECK(end == 0 || end == ETIMEDOUT); /* A machine that stood still: its time was over before it was notified. */
    if (dies) {
        kill_off(children[0]);
    } else {
        CHECK(kill(children[0], SIGCONT) == 0);
        end = end_of(children[0]);
        CHECK(end == 0 || end == ETIMEDOUT);
    }
    works();
}

/* The same for a signal, where the condition says that one ends a wait. */
static void is_interrupted(void)
{
    pid_t children[2];
    int status = 0;
    fresh(TINE_INTERRUPTIBLE);
    two_wait(children, TINE_FOREVER);
    notify_first(children);
    notify_last(children[1]);
    stop(children[0]);
    unlock();
    WAIT_UNTIL(kill(children[1], SIGUSR1) == 0 && has_ended(children[1], &status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(kill(children[0], SIGCONT) == 0);
    CHECK_EQ(end_of(children[0]), 0);
    works();
}

/* Waits in a process of its own as often as everybody is woken. */
static pid_t turner(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        lock();
        for (int i = 0; i < TURNS; i++) {
            __atomic_store_n(&s->turns, 1, __ATOMIC_SEQ_CST);
            while (s->turns) {
                CHECK_RC(tine_condition_wait(&s->condition, &s->mutex, 10 * HANG_NS), 0);
            }
        }
        unlock();
        _exit(0);
    }
    return child;
}

/* One that has been notified and stands in line: the mutex is free, and it does not come back. One that was about to look round when it
 * was notified does come back. */
static pid_t in_line(void)
{
    for (;;) {
        int before = s->waiting, status = 0, now;
        pid_t child = waiter(TINE_FOREVER);
        long slept;
        WAIT_UNTIL(__atomic_load_n(&s->waiting, __ATOMIC_SEQ_CST) == before + 1);
        lock();
        WAIT_UNTIL(sleeps_now(child));
        slept = sleeps(child, &now);
        CHECK_RC(tine_condition_notify(&s->condition, 1), 0);
        unlock();
        WAIT_UNTIL(has_ended(child, &status) || sleeps_again(child, slept + 3));
        if (kill(child, 0) == 0) {
            return child;
        }
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

/* Everybody is woken as often as it takes for a short count to be where it was, while one that was notified is stopped. When that
 * one goes on, it takes nothing off what has been notified since: a death on the way to the mutex is told to one that waits. */
static void stopped_for_long(void)
{
    pid_t stopped[2], turns, dies, waits;
    long slept;
    int before, now;
    fresh(0);
    two_wait(stopped, TINE_FOREVER);
    notify_first(stopped);
    stop(stopped[0]);
    unlock();
    turns = turner();
    for (int i = 0; i < TURNS; i++) {
        WAIT_UNTIL(__atomic_load_n(&s->turns, __ATOMIC_SEQ_CST));
        lock();
        s->turns = 0;
        CHECK_RC(tine_condition_notify_all(&s->condition), 0);
        unlock();
    }
    CHECK_EQ(end_of(turns), 0);
    CHECK_EQ(end_of(stopped[1]), 0);
    dies = in_line();
    before = s->waiting;
    waits = waiter(TINE_FOREVER);
    WAIT_UNTIL(__atomic_load_n(&s->waiting, __ATOMIC_SEQ_CST) == before + 1);
    stop(dies);
    CHECK(kill(stopped[0], SIGCONT) == 0);
    CHECK_EQ(end_of(stopped[0]), 0);
    lock(); /* The last one waits, and nobody has the baton: after a signal it sleeps until it is woken. */
    unlock();
    slept = sleeps(waits, &now);
    WAIT_UNTIL(kill(waits, SIGUSR1) == 0 && sleeps_again(waits, slept));
    kill_off(dies);
    CHECK_EQ(end_of(waits), 0);
    works();
}

int main(void)
{
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)s != MAP_FAILED);
    for (int round = 0; round < ROUNDS; round++) {
        time_runs_out(round & 1);
        is_interrupted();
    }
    stopped_for_long();
    return 0;
}
