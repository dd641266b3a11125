/* limit: 300
 *
 * Every system call of processes that share locks fails once, or for good, each way that it can, in one of the processes only: in the one
 * that dies with locks in its hands, in the one that takes them over, in the one that waits and is woken. No call hangs, a death is
 * told, nobody is let in beside another, and what comes out is documented. */
#include "sweep.h"

#define NAP_NS 1000000
/* How long somebody waits for who may have been killed, or may not have what it needs. */
#define PATIENCE_NS (2 * 1000000000ll)

static struct shared {
    tine_mutex mutex, owned;
    tine_rwlock rwlock;
    tine_semaphore semaphore;
    tine_event event;
    tine_condition condition;
    tine_barrier barrier;
    tine_once once;
    int inside[3]; /* of each lock */
    int go, held, said, given_up, made;
} *s;

static int get(int *flag)
{
    return __atomic_load_n(flag, __ATOMIC_SEQ_CST);
}

static void set(int *flag, int value)
{
    __atomic_store_n(flag, value, __ATOMIC_SEQ_CST);
}

/* Without a system call that could fail. */
static void wait_for(int *flag)
{
    int64_t last = clock_ns(), spent = 0;
    while (!get(flag)) {
        CHECK(!is_over(HANG_NS, &last, &spent));
        nap_ns(NAP_NS);
    }
}

/* What may pass, or is for good in a sandbox; -EXDEV: a process that is not told what PID namespace it is in. */
static int is_want(int rc)
{
    return rc == -ENOMEM || rc == -EXDEV;
}

/* Whether the call was answered; else it can't be for good, or who should have answered it could not. */
static int was_answered(int rc)
{
    if (is_want(rc) || rc == -ETIMEDOUT) {
        CHECK(sweep_struck());
        CHECK(is_want(rc) || sweep_kills() || get(&s->given_up));
        set(&s->given_up, 1);
        return 0;
    }
    return 1;
}

#define PATIENTLY(rc, call)                                             \
    for (int tries = 0; is_want((rc) = (call)) && tries < 50; tries++) \
    nap_ns(NAP_NS)

/* Alone inside, whoever has been here before. */
static void visit(int rc, int *inside)
{
    CHECK(rc == 0 || rc == -EOWNERDEAD);
    if (rc == -EOWNERDEAD) {
        set(inside, 0);
    }
    CHECK_EQ(__atomic_add_fetch(inside, 1, __ATOMIC_SEQ_CST), 1);
    nap_ns(NAP_NS);
    CHECK_EQ(__atomic_sub_fetch(inside, 1, __ATOMIC_SEQ_CST), 0);
}

/* With the mutex, whoever had it before. */
static void hold(int rc)
{
    CHECK(rc == 0 || rc == -EOWNERDEAD);
    if (rc == -EOWNERDEAD) {
        CHECK_RC(tine_mutex_repair(&s->mutex), 0);
    }
}

static int pass(tine_mutex *m, int *inside)
{
    int rc;
    PATIENTLY(rc, tine_mutex_lock(m, HANG_NS));
    if (!is_want(rc)) {
        visit(rc, inside);
        if (rc == -EOWNERDEAD) {
            CHECK_RC(tine_mutex_repair(m), 0);
        }
        CHECK_RC(tine_mutex_unlock(m), 0);
    }
    return was_answered(rc);
}

static int write_and_read(void)
{
    int rc;
    PATIENTLY(rc, tine_rwlock_write_lock(&s->rwlock, HANG_NS));
    if (!is_want(rc)) {
        visit(rc, &s->inside[2]);
        if (rc == -EOWNERDEAD) {
            CHECK_RC(tine_rwlock_repair(&s->rwlock), 0);
        }
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
        rc = tine_rwlock_read_lock(&s->rwlock, HANG_NS);
        CHECK(rc == 0 || rc == -EOWNERDEAD);
        CHECK_RC(tine_rwlock_unlock(&s->rwlock), 0);
    }
    return was_answered(rc);
}

/* Who dies with everything in its hands. */
static void victim(void)
{
    int rc;
    wait_for(&s->go);
    PATIENTLY(rc, tine_mutex_lock(&s->mutex, HANG_NS));
    if (was_answered(rc)) {
        CHECK_RC(rc, 0);
        CHECK_RC(tine_mutex_lock(&s->owned, HANG_NS), 0);
        CHECK_RC(tine_rwlock_write_lock(&s->rwlock, HANG_NS), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(__atomic_add_fetch(&s->inside[i], 1, __ATOMIC_SEQ_CST), 1);
        }
    }
    set(&s->held, 1);
    nap_ns(20 * NAP_NS);
    _exit(0);
}

/* Who gives what the host waits for. */
static void partner(void)
{
    int rc;
    wait_for(&s->held);
    if (!pass(&s->mutex, &s->inside[0]) || !pass(&s->owned, &s->inside[1]) || !write_and_read()) {
        _exit(0);
    }
    nap_ns(5 * NAP_NS);
    PATIENTLY(rc, tine_semaphore_release(&s->semaphore, 1));
    if (was_answered(rc)) {
        nap_ns(5 * NAP_NS);
        CHECK_RC(tine_event_set(&s->event), 0);
        nap_ns(5 * NAP_NS);
        hold(tine_mutex_lock(&s->mutex, HANG_NS));
        s->said = 1;
        CHECK_RC(tine_condition_notify(&s->condition, 1), 0);
        CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
        rc = tine_barrier_wait(&s->barrier, PATIENCE_NS);
        CHECK(rc == 0 || rc == 1 ||
              ((rc == TINE_EBROKEN || rc == -ETIMEDOUT) && (sweep_struck() || sweep_kills())));
    }
    _exit(0);
}

static int make(void *user)
{
    (void)user;
    s->made++;
    return 0;
}

/* The host's part; 0 where it could not go on. */
static int take_part(void)
{
    int rc;
    if (!pass(&s->mutex, &s->inside[0]) || !pass(&s->owned, &s->inside[1]) || !write_and_read()) {
        return 0;
    }
    PATIENTLY(rc, tine_once_call(&s->once, make, NULL, HANG_NS));
    CHECK_RC(rc, 0);
    CHECK_EQ(s->made, 1);
    PATIENTLY(rc, tine_semaphore_acquire(&s->semaphore, PATIENCE_NS));
    if (!was_answered(rc)) {
        return 0;
    }
    CHECK_RC(rc, 0);
    rc = tine_event_wait(&s->event, PATIENCE_NS);
    if (!was_answered(rc)) {
        return 0;
    }
    CHECK_RC(rc, 0);
    hold(tine_mutex_lock(&s->mutex, HANG_NS));
    while (!s->said) {
        rc = tine_condition_wait(&s->condition, &s->mutex, PATIENCE_NS);
        if (rc == -ETIMEDOUT) {
            break;
        }
        hold(rc);
    }
    CHECK_RC(tine_mutex_unlock(&s->mutex), 0);
    if (!s->said) {
        return was_answered(-ETIMEDOUT);
    }
    rc = tine_barrier_wait(&s->barrier, PATIENCE_NS);
    if (rc == TINE_EBROKEN || rc == -ETIMEDOUT) {
        CHECK(sweep_kills() || get(&s->given_up));
        return 0;
    }
    CHECK(rc == 0 || rc == 1);
    return 1;
}

static void locks(void)
{
    static void (*const roles[])(void) = {victim, partner};
    pid_t children[2];
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)s != MAP_FAILED);
    CHECK_RC(tine_mutex_init(&s->mutex, 0), 0);
    CHECK_RC(tine_mutex_init(&s->owned, TINE_PROCESS_OWNED), 0);
    CHECK_RC(tine_rwlock_init(&s->rwlock, 0), 0);
    CHECK_RC(tine_semaphore_init(&s->semaphore, 0, 0, 0), 0);
    CHECK_RC(tine_event_init(&s->event, TINE_AUTO_RESET), 0);
    CHECK_RC(tine_barrier_init(&s->barrier, 2, 0), 0);
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            roles[i]();
        }
    }
    sweep_begin();
    set(&s->go, 1);
    for (int64_t last = clock_ns(), spent = 0; !get(&s->held) && !sweep_kills(); nap_ns(NAP_NS)) {
        CHECK(!is_over(HANG_NS, &last, &spent));
    }
    set(&s->held, 1); /* Who should have said so may have been killed. */
    int whole = take_part();
    sweep_end();
    for (int i = 0; i < 2; i++) {
        int status = -1;
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && sweep_kills()));
    }
    CHECK(whole || sweep_struck());
    munmap(s, sizeof *s);
}

static const struct sweep_scenario scenarios[] = {{"locks", locks, NULL}};

int main(int argc, char **argv)
{
    return SWEEP_MAIN(argc, argv, scenarios);
}
