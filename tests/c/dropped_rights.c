/* A worker that has become another user ends with its supervisor like any other, also where nobody is left who could signal it. The kernel
 * forgets what a process is to end with when that becomes another user. */
#include "family.h"

struct who {
    pid_t worker, supervisor;
};

static int drop_rights(tine_task *task)
{
    (void)task;
    return setgid(65534) || setuid(65534) ? -errno : 0;
}

static int say_who(tine_task *task)
{
    struct who *who = (struct who *)tine_output(task, sizeof *who);
    who->worker = getpid();
    who->supervisor = getppid();
    return 0;
}

static int stay(tine_task *task)
{
    (void)task;
    for (;;) {
        pause();
    }
    return 0;
}

/* Its input is where in the pool's heap it says that it has begun. */
static int begin_and_stay(tine_task *task)
{
    __atomic_store_n(*(int *const *)tine_input(task, NULL), 1, __ATOMIC_SEQ_CST);
    return stay(task);
}

static struct who call(tine_pool *pool, tine_fn fn)
{
    struct who who = {0, 0};
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_submit(pool, fn, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, 0);
    if (result.length == sizeof who) {
        memcpy(&who, result.data, sizeof who);
    }
    tine_result_release(pool, &result);
    return who;
}

static tine_pool *create(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.start = start;
    options.workers = 1;
    options.initializer = drop_rights;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    return pool;
}

/* Host and supervisor are killed together: the worker has nothing to do, and nobody to be told by. */
static void kill_both(int start)
{
    int to_test[2];
    struct who who;
    CHECK_EQ(pipe2(to_test, O_CLOEXEC), 0);
    pid_t host = fork();
    if (host == 0) {
        who = call(create(start), say_who);
        CHECK_EQ(write(to_test[1], &who, sizeof who), sizeof who);
        stay(NULL);
    }
    CHECK_EQ(read(to_test[0], &who, sizeof who), sizeof who);
    struct process worker;
    /* It is idle, and asleep. */
    WAIT_UNTIL(look_at(who.worker, &worker) && worker.state == 'S');
    CHECK_EQ(kill(host, SIGSTOP), 0);
    CHECK_EQ(kill(who.supervisor, SIGKILL), 0);
    CHECK_EQ(kill(host, SIGKILL), 0);
    CHECK_EQ(waitpid(host, NULL, 0), host);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    close(to_test[0]);
    close(to_test[1]);
}

/* The host has become a user who may signal neither; its task settles. */
static void host_may_not(int start)
{
    pid_t host = fork();
    if (host == 0) {
        tine_pool *pool = create(start);
        struct who who = call(pool, say_who);
        tine_id id;
        tine_result result = TINE_RESULT_INIT;
        int go[2];
        char byte;
        int *begun = (int *)tine_alloc(pool, sizeof *begun);
        CHECK(begun);
        *begun = 0;
        CHECK_RC(tine_submit(pool, begin_and_stay, &begun, sizeof begun, NULL, &id), 0);
        WAIT_UNTIL(__atomic_load_n(begun, __ATOMIC_SEQ_CST));
        CHECK_EQ(pipe2(go, O_CLOEXEC), 0);
        pid_t killer = fork();
        if (killer == 0) {
            CHECK_EQ(read(go[0], &byte, 1), 1);
            _exit(kill(who.supervisor, SIGKILL) != 0);
        }
        CHECK(setgid(1000) == 0 && setuid(1000) == 0);
        CHECK_EQ(write(go[1], "x", 1), 1);
        CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
        CHECK_RC(result.status, TINE_EDIED);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(status, 0);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    if (geteuid() != 0) {
        printf("not tested: workers that become another user, which takes root\n");
        return 0;
    }
    for (int at = 0; at < 3; at++) {
        kill_both(all_starts[at]);
        host_may_not(all_starts[at]);
    }
    return 0;
}
