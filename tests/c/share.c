/* Segments that a pool's workers share: the same address in all of them, those that are busy, those to come; and what
 * happens where the address is not free. */
#include "status.h"
#include <pthread.h>
#include <stdint.h>

struct item {
    struct item *next;
    int value;
};

static uint64_t deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.worker_deaths + stats.supervisor_deaths;
}

/* Returns when the pool has noticed that so many have died of it: what is submitted then does not run there. */
static void kill_it(tine_pool *pool, pid_t pid, uint64_t dead)
{
    uint64_t before = deaths(pool);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    WAIT_UNTIL(deaths(pool) >= before + dead);
}

/* ---- In workers ---- */

static int tell_pid(tine_task *task)
{
    (void)task;
    return getpid();
}

static int walk(tine_task *task)
{
    struct item *item;
    int sum = 0;
    memcpy(&item, tine_input(task, NULL), sizeof item);
    if (tine_is_shared(tine_task_pool(task), item, sizeof *item) != 1)
        return tine_fail(task, -EFAULT, "not shared, says the worker");
    for (; item; item = item->next)
        sum += item->value;
    return sum;
}

static int set(tine_task *task)
{
    struct item *item;
    memcpy(&item, tine_input(task, NULL), sizeof item);
    item->value = (int)getpid();
    return 0;
}

struct gate {
    volatile int inside, open;
};

static int wait_at(tine_task *task)
{
    struct gate *gate;
    memcpy(&gate, tine_input(task, NULL), sizeof gate);
    gate->inside = 1;
    while (!gate->open)
        nap_ns(100000);
    return 0;
}

static int wait_at_and_tell_pid(tine_task *task)
{
    wait_at(task);
    return getpid();
}

static int occupy(tine_task *task)
{
    void *page;
    memcpy(&page, tine_input(task, NULL), sizeof page);
    void *mapped = mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return mapped == page ? 0 : -errno;
}

static int map_item(tine_task *task, const void *in, void *out)
{
    struct item *item;
    (void)task;
    memcpy(&item, in, sizeof item);
    *(int *)out = item->value;
    return 0;
}

static int tell_parent(tine_task *task)
{
    (void)task;
    return (int)getppid();
}

/* One that has the segment already has no room for it. */
static int occupy_if_free(tine_task *task)
{
    (void)occupy(task);
    return 0;
}

/* ---- In the host ---- */

static struct item *list_in(tine_segment *s, int count)
{
    struct item *items = (struct item *)tine_segment_address(s);
    for (int i = 0; i < count; i++) {
        items[i].value = i + 1;
        items[i].next = i + 1 < count ? &items[i + 1] : NULL;
    }
    return items;
}

static void all_workers_have_it(tine_pool *pool, struct item *list, int sum)
{
    enum { MANY = 200 };
    struct item *in[MANY];
    int out[MANY];
    for (int i = 0; i < MANY; i++)
        in[i] = list;
    CHECK_RC(tine_map(pool, map_item, in, sizeof *in, out, sizeof *out, MANY, NULL), 0);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(call(pool, walk, &list, sizeof list), sum);
}

static void shared_by_all(int start)
{
    struct belongings before = take_stock();
    tine_pool *pool = create_pool(start, 2, 0);
    tine_segment *s, *second;
    CHECK_RC(tine_segment_create(10000, NULL, &s), 0);
    struct item *list = list_in(s, 4);
    CHECK_EQ(tine_is_shared(pool, list, 16), 0);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), -EALREADY);
    CHECK_EQ(tine_is_shared(pool, list, 10000), 1);
    CHECK_EQ(tine_is_shared(pool, list, 1 << 20), 0);
    CHECK_EQ(tine_is_shared(pool, (char *)list - 1, 2), 0);
    all_workers_have_it(pool, list, 10);
    CHECK_RC(call(pool, set, &list, sizeof list), 0);
    int worker = list->value;
    CHECK(worker > 1 && worker != getpid());
    list->value = 1;

    /* Workers to come, after the death of one and after that of the supervisor. */
    kill_it(pool, worker, 1);
    all_workers_have_it(pool, list, 10);
    CHECK_RC(tine_segment_create(5000, NULL, &second), 0);
    CHECK_RC(tine_pool_share(pool, second, TINE_FOREVER), 0);
    kill_it(pool, call(pool, tell_parent, NULL, 0), 3);
    all_workers_have_it(pool, list_in(second, 5), 15);
    all_workers_have_it(pool, list, 10);

    /* Closed here, it is still there for them. */
    CHECK_RC(tine_segment_close(s), 0);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(call(pool, walk, &list, sizeof list), 10);
    CHECK_RC(tine_segment_close(second), 0);
    tine_pool_destroy(pool);
    check_stock(before);
}

static void busy_workers_get_it_before_their_next_task(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    struct gate *gate = (struct gate *)tine_calloc(pool, 1, sizeof *gate);
    tine_segment *s;
    tine_id busy, next;
    CHECK_RC(tine_submit(pool, wait_at, &gate, sizeof gate, NULL, &busy), 0);
    WAIT_UNTIL(gate->inside);
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    struct item *list = list_in(s, 3);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    CHECK_RC(tine_submit(pool, walk, &list, sizeof list, NULL, &next), 0);
    gate->open = 1;
    CHECK_RC(status_of(pool, busy), 0);
    CHECK_EQ(status_of(pool, next), 6);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

static void a_taken_address_is_an_error(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    tine_segment *s;
    CHECK_RC(tine_segment_create(20000, NULL, &s), 0);
    struct item *list = list_in(s, 3);
    char *page = (char *)list - 4096;
    int rc;
    CHECK_RC(call(pool, occupy, &page, sizeof page), 0);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), -EEXIST);
    CHECK_EQ(tine_is_shared(pool, list, 1), 0);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 1);
    /* Its place has been filled anew, with a worker that has room. */
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    all_workers_have_it(pool, list, 6);
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 1);

    /* A worker that was busy when the segment was shared: its next task runs elsewhere, and nothing is lost. */
    tine_segment *other;
    tine_id ids[40], busy;
    CHECK_RC(tine_segment_create(20000, NULL, &other), 0);
    page = (char *)tine_segment_address(other) - 4096;
    CHECK_RC(call(pool, occupy, &page, sizeof page), 0);
    struct gate *gate = (struct gate *)tine_calloc(pool, 2, sizeof *gate);
    struct gate *gates[2] = {&gate[0], &gate[1]};
    CHECK_RC(tine_submit(pool, wait_at, &gates[0], sizeof gates[0], NULL, &busy), 0);
    CHECK_RC(tine_submit(pool, wait_at, &gates[1], sizeof gates[1], NULL, &ids[0]), 0);
    WAIT_UNTIL(gate[0].inside && gate[1].inside);
    CHECK_RC(tine_pool_share(pool, other, TINE_FOREVER), 0);
    struct item *more = list_in(other, 2);
    for (int i = 1; i < 40; i++)
        CHECK_RC(tine_submit(pool, walk, &more, sizeof more, NULL, &ids[i]), 0);
    gate[0].open = gate[1].open = 1;
    CHECK_RC(status_of(pool, busy), 0);
    CHECK_RC(status_of(pool, ids[0]), 0);
    for (int i = 1; i < 40; i++) {
        rc = status_of(pool, ids[i]);
        CHECK_EQ(rc, 3);
    }
    CHECK_RC(tine_segment_close(other), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

/* Workers that have done nothing yet, none of which has room for the segment: the call fails, and the pool goes on. It may succeed
 * where all of them are new and get the segment before the initializer has run. */
static void no_worker_has_room(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_segment *s, *other;
    tine_pool *pool;
    CHECK_RC(tine_segment_create(20000, NULL, &s), 0);
    struct item *list = list_in(s, 3);
    char *page = (char *)list - 4096;
    options.start = start;
    options.workers = 3;
    options.initializer = occupy_if_free;
    options.initializer_input = &page;
    options.initializer_length = sizeof page;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    int rc = tine_pool_share(pool, s, TINE_FOREVER);
    CHECK_RC(rc, start == TINE_START_FORK ? 0 : -EEXIST); /* copies of the host have it */
    for (int i = 0; i < 5 && rc; i++) {
        rc = tine_pool_share(pool, s, TINE_FOREVER);
        CHECK(rc == 0 || rc == -EEXIST);
    }
    CHECK_EQ(tine_is_shared(pool, list, 1), rc == 0);
    CHECK(call(pool, tell_pid, NULL, 0) > 0);
    CHECK_RC(tine_segment_create(20000, NULL, &other), 0);
    CHECK_RC(tine_pool_share(pool, other, TINE_FOREVER), 0);
    all_workers_have_it(pool, list_in(other, 3), 6);
    CHECK_RC(tine_segment_close(other), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

static void only_the_creator_writes(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    options.flags = TINE_SEGMENT_READ_ONLY;
    tine_segment *s;
    CHECK_RC(tine_segment_create(100, &options, &s), 0);
    struct item *list = list_in(s, 3);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    CHECK_EQ(call(pool, walk, &list, sizeof list), 6);
    CHECK_RC(call(pool, set, &list, sizeof list), TINE_EDIED);
    CHECK_EQ(list->value, 1);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

static void sharing_while_workers_are_killed(int start)
{
    struct belongings before = take_stock();
    tine_pool *pool = create_pool(start, 2, 0);
    uint64_t random = random_seed();
    tine_segment *all[20];
    for (int i = 0; i < 20; i++) {
        tine_id id;
        struct item *list = i > 0 ? (struct item *)tine_segment_address(all[i - 1]) : NULL;
        if (list) {
            (void)call(pool, set, &list, sizeof list);
            CHECK_RC(tine_submit(pool, set, &list, sizeof list, NULL, &id), 0);
            if (list->value > 1)
                kill(list->value, SIGKILL);
        }
        CHECK_RC(tine_segment_create(1 + random_next(&random) % 30000, NULL, &all[i]), 0);
        CHECK_RC(tine_pool_share(pool, all[i], TINE_FOREVER), 0);
        if (list)
            (void)status_of(pool, id);
    }
    for (int i = 0; i < 20; i++) {
        if (tine_segment_size(all[i]) < 100)
            continue;
        struct item *list = list_in(all[i], 3);
        int sum;
        /* The last one to be killed may have got the task. */
        while ((sum = call(pool, walk, &list, sizeof list)) == TINE_EDIED) {
        }
        CHECK_EQ(sum, 6);
    }
    for (int i = 0; i < 20; i++)
        CHECK_RC(tine_segment_close(all[i]), 0);
    tine_pool_destroy(pool);
    check_stock(before);
}

struct sharer {
    tine_pool *pool;
    tine_segment *segment;
    int rc;
};

static void *share_without_limit(void *argument)
{
    struct sharer *sharer = (struct sharer *)argument;
    int rc = tine_pool_share(sharer->pool, sharer->segment, TINE_FOREVER);
    __atomic_store_n(&sharer->rc, rc, __ATOMIC_RELEASE);
    return NULL;
}

static int64_t thread_cpu_ns(void)
{
    struct timespec used;
    CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used), 0);
    return used.tv_sec * INT64_C(1000000000) + used.tv_nsec;
}

/* A worker that has been stopped takes nothing: who shares waits as long as it wants to, and everybody else goes on. */
static void a_stopped_worker_is_waited_for_as_long_as_is_said(int start)
{
    struct belongings before = take_stock();
    tine_pool *pool = create_pool(start, 2, 0);
    enum { MANY = 150, KEPT = 64 };
    tine_segment *many[MANY], *s;
    pid_t worker = 0;
    pthread_t thread;
    while (worker <= 0) {
        worker = call(pool, tell_pid, NULL, 0);
    }
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(worker));
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    struct item *list = list_in(s, 3);
    CHECK_RC(tine_pool_share(pool, s, 0), -EAGAIN);
    CHECK_RC(tine_pool_share(pool, s, 1000000), -ETIMEDOUT);
    CHECK_RC(tine_pool_share(pool, s, -5), -EAGAIN);
    /* It sleeps meanwhile. */
    int64_t used_ns = thread_cpu_ns();
    CHECK_RC(tine_pool_share(pool, s, 200000000), -ETIMEDOUT);
    used_ns = thread_cpu_ns() - used_ns;
    CHECK(used_ns < 100000000);
    CHECK_EQ(tine_is_shared(pool, list, 1), 0);
    /* More than a worker is passed that does not answer, and none of them counts. */
    int descriptors = count_entries("/proc/self/fd");
    for (int i = 0; i < MANY; i++) {
        CHECK_RC(tine_segment_create(100, NULL, &many[i]), 0);
        CHECK_RC(tine_pool_share(pool, many[i], 0), -EAGAIN);
    }
    CHECK(count_entries("/proc/self/fd") <= descriptors + MANY + KEPT + 12);
    struct sharer sharer;
    sharer.pool = pool;
    sharer.segment = many[0];
    sharer.rc = 1;
    CHECK_EQ(pthread_create(&thread, NULL, share_without_limit, &sharer), 0);
    WAIT_UNTIL(tine_is_shared(pool, tine_segment_address(many[0]), 1) == 1);
    /* Another thread's wait is part of this one's. */
    CHECK_RC(tine_pool_share(pool, s, 0), -EAGAIN);
    CHECK_RC(tine_pool_share(pool, s, 1000000), -ETIMEDOUT);
    CHECK_EQ(kill(worker, SIGCONT), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_RC(sharer.rc, 0);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    all_workers_have_it(pool, list, 6);
    CHECK_EQ(deaths(pool), 0);
    for (int i = 0; i < MANY; i++)
        CHECK_RC(tine_segment_close(many[i]), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
    check_stock(before);
}

static void do_nothing(int signal) { (void)signal; }

/* A signal ends the wait for another thread's call, too. */
static void a_signal_ends_the_wait_for_another_call(int start)
{
    struct belongings before = take_stock();
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = do_nothing;
    CHECK_EQ(sigaction(SIGUSR1, &action, &old), 0);
    tine_pool *pool = create_pool(start, 2, TINE_INTERRUPTIBLE);
    struct sharer first = {pool, NULL, 1}, second = {pool, NULL, 1};
    pthread_t threads[2];
    pid_t worker = call(pool, tell_pid, NULL, 0);
    CHECK(worker > 0);
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(worker));
    CHECK_RC(tine_segment_create(100, NULL, &first.segment), 0);
    CHECK_RC(tine_segment_create(100, NULL, &second.segment), 0);
    CHECK_EQ(pthread_create(&threads[0], NULL, share_without_limit, &first), 0);
    WAIT_UNTIL(tine_is_shared(pool, tine_segment_address(first.segment), 1) == 1);
    CHECK_EQ(pthread_create(&threads[1], NULL, share_without_limit, &second), 0);
    /* Again and again: the first signals may come before it waits. */
    WAIT_UNTIL(pthread_kill(threads[1], SIGUSR1) != 0 || __atomic_load_n(&second.rc, __ATOMIC_ACQUIRE) != 1);
    CHECK_EQ(pthread_join(threads[1], NULL), 0);
    CHECK_RC(second.rc, -EINTR);
    CHECK_EQ(kill(worker, SIGCONT), 0);
    CHECK_EQ(pthread_join(threads[0], NULL), 0);
    CHECK_RC(first.rc, 0);
    CHECK_RC(tine_pool_share(pool, second.segment, HANG_NS), 0);
    CHECK_RC(tine_segment_close(first.segment), 0);
    CHECK_RC(tine_segment_close(second.segment), 0);
    tine_pool_destroy(pool);
    CHECK_EQ(sigaction(SIGUSR1, &old, NULL), 0);
    check_stock(before);
}

static void share_in_callback(const tine_result *result, void *user)
{
    (void)result;
    share_without_limit(user);
}

/* Without tine's thread a callback runs in the call that shares, and may not share itself: it would wait for its caller. */
static void a_callback_cannot_share_in_the_call_that_shares(int start)
{
    struct belongings before = take_stock();
    tine_pool *pool = create_pool(start, 2, TINE_NO_THREAD);
    struct sharer inner = {pool, NULL, 1};
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct gate *gates = (struct gate *)tine_calloc(pool, 2, sizeof *gates), *at[2] = {&gates[0], &gates[1]};
    tine_segment *s;
    tine_id id;
    CHECK(gates);
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    CHECK_RC(tine_segment_create(100, NULL, &inner.segment), 0);
    /* The idle worker is stopped, so that the call has to wait; the busy one has the task with the callback. */
    CHECK_RC(tine_submit(pool, wait_at_and_tell_pid, &at[0], sizeof at[0], NULL, &id), 0);
    options.on_settled = share_in_callback;
    options.user = &inner;
    CHECK_RC(tine_submit(pool, wait_at, &at[1], sizeof at[1], &options, NULL), 0);
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && gates[0].inside && gates[1].inside);
    gates[0].open = 1;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    pid_t idle = result.status;
    tine_result_release(pool, &result);
    CHECK(idle > 0);
    CHECK_EQ(kill(idle, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(idle));
    gates[1].open = 1;
    int rc = 1;
    for (int i = 0; inner.rc == 1 && i < 1000; i++)
        rc = tine_pool_share(pool, s, 10000000);
    CHECK_RC(rc, -ETIMEDOUT);
    CHECK_RC(inner.rc, -EDEADLK);
    CHECK_EQ(kill(idle, SIGCONT), 0);
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), 0);
    CHECK_RC(tine_pool_share(pool, inner.segment, HANG_NS), 0);
    tine_free(pool, gates);
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_segment_close(inner.segment), 0);
    tine_pool_destroy(pool);
    check_stock(before);
}

/* The supervisor is killed while a call waits for a stopped worker: nobody tells the call, which has to look for itself. */
static void who_shares_notices_that_nobody_is_left_to_tell(int start)
{
    struct belongings before = take_stock();
    tine_pool *pool = create_pool(start, 2, 0);
    struct sharer sharer = {pool, NULL, 1};
    pid_t worker = call(pool, tell_pid, NULL, 0), supervisor = call(pool, tell_parent, NULL, 0);
    pthread_t thread;
    CHECK(worker > 0 && supervisor > 1 && supervisor != getpid());
    CHECK_RC(tine_segment_create(100, NULL, &sharer.segment), 0);
    struct item *list = list_in(sharer.segment, 3);
    CHECK_EQ(kill(worker, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(worker));
    CHECK_EQ(pthread_create(&thread, NULL, share_without_limit, &sharer), 0);
    WAIT_UNTIL(tine_is_shared(pool, list, 1) == 1);
    nap_ns(100000000); /* The other worker has it, and the call is asleep. */
    CHECK_EQ(kill(supervisor, SIGKILL), 0);
    WAIT_UNTIL(__atomic_load_n(&sharer.rc, __ATOMIC_ACQUIRE) != 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_RC(sharer.rc, 0);
    all_workers_have_it(pool, list, 6);
    CHECK_RC(tine_segment_close(sharer.segment), 0);
    tine_pool_destroy(pool);
    check_stock(before);
}

static void what_cannot_be_shared(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    tine_segment *s, *many[64];
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    CHECK_RC(tine_pool_share(NULL, s, TINE_FOREVER), -EINVAL);
    CHECK_RC(tine_pool_share(pool, NULL, TINE_FOREVER), -EINVAL);
    for (int i = 0; i < 64; i++) {
        CHECK_RC(tine_segment_create(100, NULL, &many[i]), 0);
        CHECK_RC(tine_pool_share(pool, many[i], TINE_FOREVER), 0);
    }
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), -ENOSPC);
    kill_it(pool, call(pool, tell_parent, NULL, 0), 2);
    struct item *list = list_in(many[63], 3);
    CHECK_EQ(call(pool, walk, &list, sizeof list), 6);
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), TINE_ESHUTDOWN);
    for (int i = 0; i < 64; i++)
        CHECK_RC(tine_segment_close(many[i]), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    for (int i = 0; i < 3; i++) {
        shared_by_all(all_starts[i]);
        busy_workers_get_it_before_their_next_task(all_starts[i]);
        a_taken_address_is_an_error(all_starts[i]);
        no_worker_has_room(all_starts[i]);
        only_the_creator_writes(all_starts[i]);
        a_stopped_worker_is_waited_for_as_long_as_is_said(all_starts[i]);
        a_signal_ends_the_wait_for_another_call(all_starts[i]);
        a_callback_cannot_share_in_the_call_that_shares(all_starts[i]);
        who_shares_notices_that_nobody_is_left_to_tell(all_starts[i]);
        sharing_while_workers_are_killed(all_starts[i]);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
    what_cannot_be_shared();
    return 0;
}
