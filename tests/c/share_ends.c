/* Calls of tine_pool_share that do not come to a good end: the pool is shut down or breaks down meanwhile. */
#include "status.h"
#include <pthread.h>
#include <sys/resource.h>

struct sharer {
    tine_pool *pool;
    tine_segment *segment;
    int rc;
    pthread_t thread;
};

static void *share_without_limit(void *argument)
{
    struct sharer *sharer = (struct sharer *)argument;
    int rc = tine_pool_share(sharer->pool, sharer->segment, TINE_FOREVER);
    __atomic_store_n(&sharer->rc, rc, __ATOMIC_RELEASE);
    return NULL;
}

/* Begins to share a new segment, and returns when that call waits. */
static void begin(struct sharer *sharer, tine_pool *pool)
{
    sharer->pool = pool;
    sharer->rc = 1;
    CHECK_RC(tine_segment_create(100, NULL, &sharer->segment), 0);
    CHECK_EQ(pthread_create(&sharer->thread, NULL, share_without_limit, sharer), 0);
    /* Another call waits for its turn from then on. */
    tine_segment *other;
    CHECK_RC(tine_segment_create(100, NULL, &other), 0);
    nap_ns(100000000);
    CHECK_RC(tine_pool_share(pool, other, 0), -EAGAIN);
    CHECK_RC(tine_segment_close(other), 0);
    CHECK_EQ(__atomic_load_n(&sharer->rc, __ATOMIC_ACQUIRE), 1);
}

static int is_over_now(const struct sharer *sharer)
{
    return __atomic_load_n(&sharer->rc, __ATOMIC_ACQUIRE) != 1;
}

static int end(struct sharer *sharer)
{
    WAIT_UNTIL(is_over_now(sharer));
    CHECK_EQ(pthread_join(sharer->thread, NULL), 0);
    CHECK_RC(tine_segment_close(sharer->segment), 0);
    return sharer->rc;
}

/* ---- In workers ---- */

static int tell_pid(tine_task *task)
{
    (void)task;
    return getpid();
}

static int tell_parent(tine_task *task)
{
    (void)task;
    return (int)getppid();
}

static int nothing(tine_task *task)
{
    (void)task;
    return 0;
}

/* Fails from when on there is a file of this name. */
static int fail_if_told(tine_task *task)
{
    return access((const char *)tine_input(task, NULL), F_OK) == 0 ? tine_fail(task, -EIO, "told to fail") : 0;
}

/* ---- In the host ---- */

static pid_t stop_a_worker(tine_pool *pool)
{
    pid_t worker = call(pool, tell_pid, NULL, 0);
    CHECK(worker > 1);
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(worker));
    return worker;
}

/* A shutdown ends the call, which waits for a stopped worker. */
static void a_shutdown_ends_it(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sharer sharer;
    (void)stop_a_worker(pool);
    begin(&sharer, pool);
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    CHECK_RC(end(&sharer), TINE_ESHUTDOWN);
    tine_pool_destroy(pool);
}

static void *wait_for_all(void *pool)
{
    tine_wait_all((tine_pool *)pool, NULL, 0, HANG_NS);
    return NULL;
}

static volatile int inside, may_return;

static void hold_up(const tine_result *result, void *user)
{
    (void)result, (void)user;
    inside = 1;
    while (!may_return)
        nap_ns(1000000);
}

static int64_t used_ns(void)
{
    struct rusage usage;
    CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
}

/* The pool breaks down while a call waits for a stopped worker. A thread leads that waits for something else, which does not come: it
 * sleeps. */
static void a_breakdown_ends_it(int start)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/tine-share-ends.%d", (int)getpid());
    (void)unlink(path);
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.start = start;
    options.workers = 2;
    options.initializer = fail_if_told;
    options.initializer_input = path;
    options.initializer_length = strlen(path) + 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    pid_t supervisor = call(pool, tell_parent, NULL, 0);
    CHECK(supervisor > 1 && supervisor != getpid());
    tine_submit_options with = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id;
    inside = may_return = 0;
    with.on_settled = hold_up;
    CHECK_RC(tine_submit(pool, nothing, NULL, 0, &with, &id), 0);
    WAIT_UNTIL(inside);
    pthread_t waiting;
    CHECK_EQ(pthread_create(&waiting, NULL, wait_for_all, pool), 0);
    nap_ns(100000000);
    struct sharer sharer;
    (void)stop_a_worker(pool);
    begin(&sharer, pool);
    int flag = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(flag >= 0);
    close(flag);
    int64_t before_ns = used_ns(), began_ns = clock_ns();
    CHECK_EQ(kill(supervisor, SIGKILL), 0);
    CHECK_RC(end(&sharer), TINE_EWORKERSTART);
    /* Nobody spins: what is used is a fraction of the time, also while this waits. */
    nap_ns(500000000);
    CHECK(used_ns() - before_ns < (clock_ns() - began_ns) / 2);
    may_return = 1;
    CHECK_EQ(pthread_join(waiting, NULL), 0);
    CHECK_EQ(unlink(path), 0);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    struct belongings before = take_stock();
    for (int i = 0; i < 3; i++) {
        a_shutdown_ends_it(all_starts[i]);
        a_breakdown_ends_it(all_starts[i]);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
        check_stock_but_stacks(before);
    }
    return 0;
}
