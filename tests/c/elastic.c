/* Pools that grow while tasks wait and shrink when there is nothing to do. */
#include "family.h"
#include <poll.h>

#define MS ((int64_t)1000000)

static tine_pool *create(int start, size_t least, size_t most, int64_t idle_ns, uint32_t flags)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.error = &error;
    options.workers = most;
    options.min_workers = least;
    options.idle_timeout_ns = idle_ns;
    options.start = start;
    options.flags = flags;
    int rc = tine_pool_create(&options, &pool);
    if (rc) {
        fprintf(stderr, "%s\n", error.text);
    }
    CHECK_EQ(rc, 0);
    return pool;
}

static size_t ready(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_EQ(tine_pool_stats(pool, &stats), 0);
    return stats.workers_ready;
}

static int wait_for_go(tine_task *task)
{
    int *words = *(int *const *)tine_input(task, NULL);
    __atomic_add_fetch(&words[1], 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&words[0], __ATOMIC_SEQ_CST)) {
        nap_ns(100000);
    }
    return 3;
}

/* As many workers as there are tasks that wait, and no more than there may be; afterwards the least. */
static void grows_and_shrinks(int start, uint32_t flags)
{
    tine_pool *pool = create(start, 1, 4, 20 * MS, flags);
    tine_result result = TINE_RESULT_INIT;
    int *words = (int *)tine_calloc(pool, 2, sizeof *words);
    CHECK(words);
    CHECK_EQ(ready(pool), 1);
    for (int round = 0; round < 3; round++) {
        words[0] = words[1] = 0;
        int tasks = round == 0 ? 3 : 9, most = tasks < 4 ? tasks : 4;
        for (int i = 0; i < tasks; i++) {
            CHECK_EQ(tine_submit(pool, wait_for_go, &words, sizeof words, NULL, NULL), 0);
        }
        WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&words[1], __ATOMIC_SEQ_CST) == most);
        /* One more where a worker had no processor for so long that its task was taken back before it had begun: that waited, too. */
        CHECK(ready(pool) >= (size_t)most && ready(pool) <= 4);
        __atomic_store_n(&words[0], 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < tasks; i++) {
            CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
            CHECK_EQ(result.status, 3);
        }
        /* The host's calls end them; `in_silence` has what happens without a call. */
        if (round == 1 && !flags) {
            struct pollfd fd = {tine_pool_fd(pool), POLLIN, 0};
            int64_t last = clock_ns(), spent = 0;
            while (ready(pool) > 1) {
                CHECK(poll(&fd, 1, 1000) >= 0);
                CHECK_EQ(tine_pool_poll(pool), 0);
                CHECK(!is_over(HANG_NS, &last, &spent));
            }
        } else {
            WAIT_UNTIL(ready(pool) == 1);
        }
    }
    /* Nobody wakes up any more. */
    if (!flags) {
        struct pollfd fd = {tine_pool_fd(pool), POLLIN, 0};
        while (poll(&fd, 1, 50) > 0) {
            CHECK(tine_pool_poll(pool) >= 0);
        }
        CHECK_EQ(poll(&fd, 1, 300), 0);
        CHECK_EQ(ready(pool), 1);
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_EQ(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.workers, 4);
    CHECK_EQ(stats.worker_deaths, 0);
    CHECK(stats.workers_recycled >= 5);
    tine_pool_destroy(pool);
}

static int work(tine_task *task)
{
    uint64_t number = *(const uint64_t *)tine_input(task, NULL);
    if (number % 37 == 5) {
        return raise(SIGKILL);
    }
    nap_ns((int64_t)(number % 7) * 50000);
    return (int)(number % 1000);
}

/* Bursts and pauses, and workers that die: every task settles once. */
static void bursts(int start)
{
    tine_pool *pool = create(start, 1, 5, 2 * MS, 0);
    uint64_t random = random_seed(), submitted = 0, died = 0, settled = 0, expected_dead = 0;
    static unsigned char seen[20000];
    memset(seen, 0, sizeof seen);
    for (int round = 0; round < 60; round++) {
        int count = (int)(random_next(&random) % 60);
        for (int i = 0; i < count; i++) {
            tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
            options.user = (void *)(uintptr_t)submitted;
            expected_dead += submitted % 37 == 5;
            CHECK_EQ(tine_submit(pool, work, &submitted, sizeof submitted, &options, NULL), 0);
            submitted++;
        }
        tine_result result = TINE_RESULT_INIT;
        int rc;
        while ((rc = tine_next(pool, HANG_NS, &result)) == 0) {
            uint64_t number = (uintptr_t)result.user;
            CHECK(!seen[number]++);
            CHECK_EQ(result.status, number % 37 == 5 ? TINE_EDIED : (int)(number % 1000));
            died += result.status == TINE_EDIED;
            settled++;
            tine_result_release(pool, &result);
        }
        CHECK_EQ(rc, TINE_EEMPTY);
        nap_ns((int64_t)(random_next(&random) % 8) * MS);
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_EQ(tine_pool_stats(pool, &stats), 0);
    printf("%s: %d tasks, %d died, %d workers ended in good order\n", start_name(start), (int)settled, (int)died,
           (int)stats.workers_recycled);
    CHECK_EQ(settled, submitted);
    CHECK_EQ(died, expected_dead);
    tine_pool_destroy(pool);
}

static int square(tine_task *task, const void *in, void *out)
{
    (void)task;
    nap_ns(100000);
    *(int *)out = *(const int *)in * *(const int *)in;
    return 0;
}

/* A map makes a pool grow, too, and what is shared reaches those that come later. */
static void maps_and_shares(int start)
{
    tine_pool *pool = create(start, 1, 3, 0, 0);
    tine_segment *segment;
    int in[300], out[300];
    CHECK_EQ(tine_segment_create(4096, NULL, &segment), 0);
    CHECK_EQ(tine_pool_share(pool, segment, TINE_FOREVER), 0);
    for (int i = 0; i < 300; i++) {
        in[i] = i;
    }
    CHECK_EQ(tine_map(pool, square, in, sizeof in[0], out, sizeof out[0], 300, NULL), 0);
    for (int i = 0; i < 300; i++) {
        CHECK_EQ(out[i], i * i);
    }
    CHECK(ready(pool) > 1);
    CHECK_EQ(tine_pool_shutdown(pool, HANG_NS), 0);
    tine_pool_destroy(pool);
    CHECK_EQ(tine_segment_close(segment), 0);
}

static void refused(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.error = &error;
    options.workers = 2;
    options.min_workers = 3;
    CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
    CHECK(strstr(error.text, "min_workers is 3"));
    options.min_workers = 1;
    options.idle_timeout_ns = -1;
    CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
    CHECK(strstr(error.text, "idle_timeout_ns is -1"));
}

static int say_who(tine_task *task)
{
    int *words = *(int *const *)tine_input(task, NULL);
    int at = __atomic_add_fetch(&words[0], 1, __ATOMIC_SEQ_CST);
    words[at] = getpid();
    WAIT_UNTIL(__atomic_load_n(&words[0], __ATOMIC_SEQ_CST) == 4);
    return 0;
}

static int say_who_of(tine_task *task, const void *in, void *out)
{
    int *words = *(int *const *)in;
    (void)task, (void)out;
    int at = __atomic_add_fetch(&words[0], 1, __ATOMIC_SEQ_CST);
    words[at] = getpid();
    WAIT_UNTIL(__atomic_load_n(&words[0], __ATOMIC_SEQ_CST) == 4);
    return 0;
}

static int living(const int *pids)
{
    struct process one;
    int count = 0;
    for (int i = 0; i < 4; i++) {
        count += look_at(pids[i], &one);
    }
    return count;
}

/* Workers that have nothing to do leave, and those that have served their time are replaced, though the host makes no call at all: after
 * tasks that it has waited for, and after a map. */
static void in_silence(int start, int maps, int64_t age_ns)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.start = start;
    options.workers = 4;
    options.min_workers = age_ns ? 4 : 1;
    options.idle_timeout_ns = age_ns ? 0 : 100 * MS;
    options.recycle_age_ns = age_ns;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    int *words = (int *)tine_calloc(pool, 5, sizeof *words), *inputs[4] = {words, words, words, words};
    CHECK(words);
    if (maps) {
        tine_map_options how = TINE_MAP_OPTIONS_INIT;
        how.chunk = 1;
        CHECK_RC(tine_map(pool, say_who_of, inputs, sizeof inputs[0], NULL, 0, 4, &how), 0);
    } else {
        for (int i = 0; i < 4; i++) {
            CHECK_RC(tine_submit(pool, say_who, &words, sizeof words, NULL, NULL), 0);
        }
        CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    }
    WAIT_UNTIL(living(words + 1) == (age_ns ? 0 : 1));
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        grows_and_shrinks(all_starts[i], 0);
        grows_and_shrinks(all_starts[i], TINE_NO_THREAD);
        bursts(all_starts[i]);
        maps_and_shares(all_starts[i]);
    }
    refused();
    in_silence(TINE_START_FORKSERVER, 0, 0);
    in_silence(TINE_START_FORKSERVER, 1, 0);
    in_silence(TINE_START_FORKSERVER, 0, 200 * MS);
    in_silence(TINE_START_FORKSERVER, 1, 200 * MS);
    return 0;
}
