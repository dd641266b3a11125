/* A detached process whose start takes several copies of the host, or comes first in a PID namespace: nothing of the start stays. */
#include "processes.h"
#include <pthread.h>
#include <sched.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int holds;
/* Shared with the host's copies: how many have come to the lock. */
static int *copies;

static void before_fork(void)
{
    __sync_fetch_and_add(copies, 1);
    pthread_mutex_lock(&mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&mutex);
}

static void *hold_until_two_stand_still(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&mutex);
    __atomic_store_n(&holds, 1, __ATOMIC_SEQ_CST);
    WAIT_UNTIL(__atomic_load_n(copies, __ATOMIC_SEQ_CST) >= 2);
    pthread_mutex_unlock(&mutex);
    for (;;) {
        pause();
    }
    return NULL;
}

static int succeed(tine_task *task)
{
    (void)task;
    return 0;
}

static void start_and_end(void)
{
    tine_process_options options = options_of();
    options.flags = TINE_DETACHED;
    tine_process *process = start(succeed, NULL, 0, &options);
    CHECK_RC(wait_for(process).status, 0);
    tine_process_close(process);
}

/* In a process of its own: it keeps the thread. */
static void beside_a_lock(uint32_t flags)
{
    pid_t host = fork();
    if (host == 0) {
        pthread_t thread;
        tine_process_options options = options_of();
        options.flags = flags;
        CHECK_EQ(pthread_atfork(before_fork, after_fork, after_fork), 0);
        CHECK_EQ(pthread_create(&thread, NULL, hold_until_two_stand_still, NULL), 0);
        WAIT_UNTIL(__atomic_load_n(&holds, __ATOMIC_SEQ_CST));
        tine_process *process = start(succeed, NULL, 0, &options);
        CHECK_RC(wait_for(process).status, 0);
        tine_process_close(process);
        /* The host is there still. */
        WAIT_UNTIL(family_is_gone(family_tag(), getppid()));
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(status, 0);
    *copies = 0;
}

static void first_in_a_namespace(void)
{
    pid_t host = fork();
    if (host == 0) {
        tine_process_options options = options_of();
        options.flags = TINE_DETACHED;
        CHECK_EQ(unshare(CLONE_NEWPID), 0);
        tine_process *process = start(stay, NULL, 0, &options);
        /* While the family lives its namespace does, in which the host's own children are. */
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            _exit(0);
        }
        CHECK_EQ(waitpid(child, NULL, 0), child);
        CHECK_RC(tine_process_kill(process, SIGKILL), 0);
        CHECK_EQ(wait_for(process).signal, SIGKILL);
        tine_process_close(process);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(status, 0);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    copies = (int *)mmap(NULL, sizeof *copies, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(copies != MAP_FAILED);
    start_method = TINE_START_FORK;
    beside_a_lock(0);
    beside_a_lock(TINE_DETACHED);
    for (int at = 0; at < 3; at++) {
        start_method = all_starts[at];
        start_and_end();
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
        if (geteuid() == 0) {
            first_in_a_namespace();
        } else {
            printf("not tested: a PID namespace, which takes root\n");
        }
    }
    return 0;
}
