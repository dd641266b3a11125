/* Many tasks, from many threads at once; and a host that never blocks in tine, or calls nothing at all. */
#include "tasks.h"
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

/* ---- Many ---- */

static int add_one(tine_task *task)
{
    int *out = (int *)tine_output(task, sizeof *out);
    *out = *(const int *)tine_input(task, NULL) + 1;
    return 0;
}

enum { MANY = 100000, THREADS = 16 };
static unsigned char seen[MANY];

static void collect(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    int rc;
    while ((rc = tine_next(pool, TINE_FOREVER, &result)) == 0) {
        CHECK_EQ(result.status, 0);
        int value = *(const int *)result.data;
        CHECK(value >= 1 && value <= MANY);
        CHECK_EQ(__atomic_fetch_add(&seen[value - 1], 1, __ATOMIC_RELAXED), 0);
        tine_result_release(pool, &result);
    }
    CHECK_RC(rc, TINE_EEMPTY);
}

static void all_seen(void)
{
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(seen[i], 1);
    memset(seen, 0, sizeof seen);
}

struct share {
    tine_pool *pool;
    int first;
};

/* Submits its share, and takes whatever has settled: its own and others'. */
static void *submit_and_collect(void *argument)
{
    struct share *share = (struct share *)argument;
    for (int i = 0; i < MANY / THREADS; i++) {
        int value = share->first + i;
        submit(share->pool, add_one, &value, sizeof value);
    }
    collect(share->pool);
    return NULL;
}

/* Submits its share and waits for each of them by its id, some at a time. */
static void *submit_and_wait(void *argument)
{
    struct share *share = (struct share *)argument;
    enum { AT_A_TIME = 25 };
    for (int done = 0; done < MANY / THREADS; done += AT_A_TIME) {
        tine_id ids[AT_A_TIME];
        for (int i = 0; i < AT_A_TIME; i++) {
            int value = share->first + done + i;
            ids[i] = submit(share->pool, add_one, &value, sizeof value);
        }
        for (int i = AT_A_TIME - 1; i >= 0; i--) {
            tine_result result = wait_for(share->pool, ids[i]);
            CHECK_EQ(*(const int *)result.data, share->first + done + i + 1);
            seen[share->first + done + i]++;
            tine_result_release(share->pool, &result);
        }
    }
    return NULL;
}

static void many(tine_pool *pool)
{
    tine_stats before = stats_of(pool);
    for (int i = 0; i < MANY; i++)
        submit(pool, add_one, &i, sizeof i);
    collect(pool);
    all_seen();

    pthread_t threads[THREADS];
    struct share shares[THREADS];
    void *(*const ways[])(void *) = {submit_and_collect, submit_and_wait};
    for (int way = 0; way < 2; way++) {
        for (int i = 0; i < THREADS; i++) {
            shares[i].pool = pool;
            shares[i].first = i * (MANY / THREADS);
            CHECK_EQ(pthread_create(&threads[i], NULL, ways[way], &shares[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        all_seen();
    }
    tine_stats after = stats_of(pool);
    CHECK_EQ(after.submitted, before.submitted + 3 * MANY);
    CHECK_EQ(after.settled, after.submitted);
    CHECK_EQ(after.outstanding, 0);
    CHECK_EQ(after.worker_deaths, before.worker_deaths);
    CHECK_EQ(after.heap_allocated_bytes, before.heap_allocated_bytes);
    CHECK_EQ(after.workers_ready, after.workers);
}

/* ---- A host with an event loop of its own, which never blocks in tine ---- */

static int dies(tine_task *task)
{
    if (*(const int *)tine_input(task, NULL) == 5000)
        raise(SIGKILL);
    return add_one(task);
}

static void event_loop(int use_epoll, int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    enum { TASKS = 10000 };
    int fd = tine_pool_fd(pool), submitted = 0, taken = 0, died = 0, set_fd = -1, again = -1;
    CHECK(fd >= 0);
    CHECK_EQ(tine_pool_fd(pool), fd);
    if (use_epoll) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        event.events = EPOLLIN;
        set_fd = epoll_create1(EPOLL_CLOEXEC);
        CHECK(set_fd >= 0);
        CHECK_EQ(epoll_ctl(set_fd, EPOLL_CTL_ADD, fd, &event), 0);
    }
    while (taken < TASKS) {
        /* A few at a time, so that the loop sleeps often. */
        while (submitted < TASKS && submitted - taken < 40) {
            submit(pool, dies, &submitted, sizeof submitted);
            submitted++;
        }
        struct pollfd ready = {fd, POLLIN, 0};
        struct epoll_event event;
        CHECK_EQ(use_epoll ? epoll_wait(set_fd, &event, 1, 20000) : poll(&ready, 1, 20000), 1);
        int count = tine_pool_poll(pool);
        CHECK(count >= 0);
        tine_result result = TINE_RESULT_INIT;
        for (int i = 0; i < count; i++) {
            CHECK_RC(tine_next(pool, 0, &result), 0);
            if (result.status == TINE_EDIED) {
                died++;
                CHECK_EQ(result.delivery, TINE_MAYBE_RAN);
                CHECK(result.death != NULL && result.death->signal == SIGKILL);
            } else {
                CHECK_EQ(result.status, 0);
                int value = *(const int *)result.data;
                CHECK(value >= 1 && value <= TASKS);
                CHECK_EQ(seen[value - 1]++, 0);
            }
            taken++;
            tine_result_release(pool, &result);
        }
        again = count > 0 ? tine_next(pool, 0, &result) : again;
        if (again == 0) { /* one that has come since the count */
            CHECK(result.status == 0 || result.status == TINE_EDIED);
            if (result.status == 0)
                CHECK_EQ(seen[*(const int *)result.data - 1]++, 0);
            else
                died++;
            taken++;
            tine_result_release(pool, &result);
            again = -1;
        }
    }
    CHECK_EQ(died, 1);
    for (int i = 0; i < TASKS; i++)
        CHECK_EQ(seen[i], i != 5000);
    memset(seen, 0, sizeof seen);
    /* The dead worker's place is filled without a blocking call, too. */
    while (stats_of(pool).workers_ready < 2) {
        struct pollfd ready = {fd, POLLIN, 0};
        CHECK_EQ(poll(&ready, 1, 20000), 1);
        CHECK_EQ(tine_pool_poll(pool), 0);
    }
    /* With nothing to do it becomes quiet. */
    int loud = 0;
    struct pollfd ready = {fd, POLLIN, 0};
    while (poll(&ready, 1, 100) == 1) {
        tine_pool_poll(pool);
        CHECK(++loud < 1000);
    }
    if (use_epoll)
        close(set_fd);
    tine_pool_destroy(pool);
}

/* One result waits for the host's event loop while a thread waits for another task: it sleeps. */
static void waits_asleep(tine_pool *pool)
{
    int *words[2] = {make_word(pool), make_word(pool)};
    int one = 1, fd = tine_pool_fd(pool);
    struct timespec before, after;
    tine_result result = TINE_RESULT_INIT;
    tine_id running = submit(pool, until_told, words, sizeof words);
    await(words[0], 1);
    submit(pool, give_back, &one, sizeof one);
    while (tine_pool_poll(pool) == 0) {
        struct pollfd ready = {fd, POLLIN, 0};
        CHECK_EQ(poll(&ready, 1, 20000), 1);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    CHECK_RC(tine_wait(pool, running, 300000000, &result), -ETIMEDOUT);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t busy_ns = (after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec;
    CHECK(busy_ns < 30000000);
    struct pollfd ready = {fd, POLLIN, 0};
    CHECK_EQ(poll(&ready, 1, 0), 1); /* the result is still there to be told of */
    CHECK_EQ(tine_pool_poll(pool), 1);
    CHECK_RC(tine_next(pool, 0, &result), 0);
    tine_result_release(pool, &result);
    set(words[1], 1);
    result = wait_for(pool, running);
    tine_result_release(pool, &result);
}

/* A thread of tine's moves things on while the host calls nothing: even a death and what was queued behind it. */
static void background(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    enum { TASKS = 1000 };
    int *words[2] = {make_word(pool), make_word(pool)};
    int five = 5000, one = 1;
    submit(pool, dies, &five, sizeof five);
    for (int i = 0; i < TASKS; i++)
        submit(pool, give_back, &one, sizeof one);
    submit(pool, until_told, words, sizeof words);
    await(words[0], 1); /* the last has begun, and nobody has called into the pool */
    set(words[1], 1);
    tine_result result = TINE_RESULT_INIT;
    int died = 0;
    for (int i = 0; i < TASKS + 2; i++) {
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
        died += result.status == TINE_EDIED;
        tine_result_release(pool, &result);
    }
    CHECK_EQ(died, 1);
    CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    tine_pool_destroy(pool);
    /* With a host that polls besides; and an end in mid-work, and one of a pool that has never done anything. */
    pool = create_pool(start, 2, 0);
    int fd = tine_pool_fd(pool);
    for (int i = 0; i < 10; i++) {
        submit(pool, give_back, &one, sizeof one);
        struct pollfd ready = {fd, POLLIN, 0};
        while (tine_pool_poll(pool) == 0)
            CHECK_EQ(poll(&ready, 1, 20000), 1);
        CHECK_RC(tine_next(pool, 0, &result), 0);
        tine_result_release(pool, &result);
    }
    for (int i = 0; i < 1000; i++)
        submit(pool, give_back, &one, sizeof one);
    tine_pool_destroy(pool);
    tine_pool_destroy(create_pool(start, 1, 0));
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, 0);
    many(pool);
    tine_pool_destroy(pool);
    for (size_t i = 0; i < 3; i++) {
        background(all_starts[i]);
        event_loop((int)i % 2, all_starts[i]);
        pool = create_pool(all_starts[i], 2, 0);
        waits_asleep(pool);
        tine_pool_destroy(pool);
    }
    return 0;
}
