/* A message to the supervisor that cannot be sent at once, or never: what it asks for happens all the same. */
#include "processes.h"
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* How many of this process's next messages are refused, and with what. The library calls this one in the C library's place. */
static int refused, refused_with, refused_since;

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    int left = __atomic_load_n(&refused, __ATOMIC_SEQ_CST);
    while (left > 0) {
        if (__atomic_compare_exchange_n(&refused, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            __atomic_fetch_add(&refused_since, 1, __ATOMIC_SEQ_CST);
            errno = refused_with;
            return -1;
        }
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}

static void refuse(int times, int with)
{
    refused_with = with;
    __atomic_store_n(&refused_since, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&refused, times, __ATOMIC_SEQ_CST);
}

/* Ends the refusing; at least one message was refused. */
static void refuse_no_more(void)
{
    __atomic_store_n(&refused, 0, __ATOMIC_SEQ_CST);
    CHECK(__atomic_load_n(&refused_since, __ATOMIC_SEQ_CST) > 0);
}

static tine_segment *segment;
static volatile int *count;

static tine_process *start_tree(void)
{
    *count = 0;
    tine_process *process = start_with(segment, plant_tree, count, 0);
    WAIT_UNTIL(*count == 5);
    return process;
}

static void kill_tree_before_a_wait(void)
{
    tine_process *process = start_tree();
    refuse(1, ENOMEM);
    CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
    CHECK_EQ(wait_for(process).signal, SIGKILL);
    refuse_no_more();
    struct process left[4];
    WAIT_UNTIL(list_family(family_tag(), 0, left, 4) <= 2); /* supervisor and keeper */
    tine_process_close(process);
}

static int waits;
static pid_t waiting_thread;

static int thread_sleeps(void)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)waiting_thread);
    return read_file(path, text, sizeof text) > 0 && strstr(text, ") S ") != NULL;
}

static void *wait_in_a_thread(void *argument)
{
    tine_exit end = TINE_EXIT_INIT;
    waiting_thread = (pid_t)syscall(SYS_gettid);
    __atomic_store_n(&waits, 1, __ATOMIC_SEQ_CST);
    CHECK_RC(tine_process_wait((tine_process *)argument, TINE_FOREVER, &end), 0);
    CHECK_EQ(end.signal, SIGKILL);
    __atomic_store_n(&waits, 2, __ATOMIC_SEQ_CST);
    return NULL;
}

/* The thread sleeps already when there is something to send. */
static void kill_tree_beside_a_wait(void)
{
    tine_process *process = start_tree();
    pthread_t thread;
    __atomic_store_n(&waits, 0, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_create(&thread, NULL, wait_in_a_thread, process), 0);
    WAIT_UNTIL(__atomic_load_n(&waits, __ATOMIC_SEQ_CST) == 1);
    WAIT_UNTIL(thread_sleeps());
    refuse(1, ENOMEM);
    CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
    WAIT_UNTIL(__atomic_load_n(&waits, __ATOMIC_SEQ_CST) == 2);
    pthread_join(thread, NULL);
    refuse_no_more();
    tine_process_close(process);
}

/* Only the supervisor can end what a process has started. */
static void close_one(int times, int with)
{
    tine_process *process = start_tree();
    refuse(times, with);
    tine_process_close(process);
    refuse_no_more();
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

static int plant_and_return(tine_task *task)
{
    volatile int *place = *(volatile int *const *)tine_input(task, NULL);
    if (fork() == 0) {
        setsid();
        __sync_fetch_and_add(place, 1);
        stay(NULL);
    }
    return 0;
}

static void destroy_one(int times, int with)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = NULL;
    tine_id id;
    options.workers = 1;
    options.start = start_method;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_pool_share(pool, segment, HANG_NS), 0);
    *count = 0;
    CHECK_RC(tine_submit(pool, plant_and_return, &count, sizeof count, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, 0);
    tine_result_release(pool, &result);
    WAIT_UNTIL(*count == 1);
    refuse(times, with);
    tine_pool_destroy(pool);
    refuse_no_more();
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    segment = counter(&count);
    for (int at = 0; at < 3; at++) {
        start_method = all_starts[at];
        kill_tree_before_a_wait();
        kill_tree_beside_a_wait();
        close_one(1, ENOMEM);
        close_one(1000000, EPERM);
        destroy_one(1, ENOMEM);
        destroy_one(1000000, EPERM);
    }
    tine_segment_close(segment);
    return 0;
}
