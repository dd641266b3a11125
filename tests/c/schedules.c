/* Maps and loops: how the pieces are cut decides nothing but speed; what fails can end it all; slow pieces are shared out. */
#include "family.h"
#include <sys/time.h>

#define MS ((int64_t)1000000)

struct seen {
    int failures, cancelled, last;
    size_t done, total;
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct seen *seen = (struct seen *)user;
    seen->failures++;
    seen->last = (int)item;
    if (result->status == -ECANCELED) {
        seen->cancelled++;
        CHECK_EQ(result->delivery, TINE_NOT_STARTED);
    }
}

static void on_progress(size_t done, size_t total, void *user)
{
    struct seen *seen = (struct seen *)user;
    CHECK(done >= seen->done && done <= total);
    seen->done = done;
    seen->total = total;
}

/* ---- The same results, however it is cut ---- */

enum { COUNT = 700 };

static int square(tine_task *task, const void *in, void *out)
{
    int n = *(const int *)in;
    *(int *)out = n * n;
    if (n % 100 == 44) {
        return tine_fail(task, -EDOM, "it is %d", n);
    }
    return n == 333 ? raise(SIGKILL) : 0;
}

static int add_piece(tine_task *task, size_t begin, size_t end)
{
    int *sums = *(int *const *)tine_context(task, NULL);
    for (size_t i = begin; i < end; i++) {
        __atomic_add_fetch(&sums[i], 1, __ATOMIC_SEQ_CST);
    }
    return 0;
}

static void same_results(tine_pool *pool)
{
    static const struct {
        int schedule;
        size_t chunk, bytes;
    } ways[] = {
        {TINE_SCHEDULE_MEASURED, 0, 0},   {TINE_SCHEDULE_MEASURED, 1, 0},  {TINE_SCHEDULE_MEASURED, 97, 0},
        {TINE_SCHEDULE_MEASURED, 0, 100}, {TINE_SCHEDULE_STATIC, 0, 0},    {TINE_SCHEDULE_STATIC, 0, 1000},
        {TINE_SCHEDULE_GUIDED, 0, 0},     {TINE_SCHEDULE_GUIDED, 50, 0},   {TINE_SCHEDULE_GUIDED, 50, 1},
        {TINE_SCHEDULE_MEASURED, 10000, 0},
    };
    int *sums = (int *)tine_alloc(pool, 1000 * sizeof *sums);
    CHECK(sums);
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        int in[COUNT], out[COUNT], status[COUNT];
        struct seen seen = {0, 0, 0, 0, 0};
        tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
        tine_map_options options = TINE_MAP_OPTIONS_INIT;
        options.schedule = ways[way].schedule;
        options.chunk = ways[way].chunk;
        options.chunk_bytes = ways[way].bytes;
        options.status = status;
        options.on_failure = on_failure;
        options.progress = on_progress;
        options.user = &seen;
        for (int i = 0; i < COUNT; i++) {
            in[i] = i;
            out[i] = -1;
        }
        CHECK_EQ(tine_pool_stats(pool, &before), 0);
        CHECK_EQ(tine_map(pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, &options), TINE_EITEMS);
        CHECK_EQ(tine_pool_stats(pool, &after), 0);
        for (int i = 0; i < COUNT; i++) {
            int expected = i == 333 ? TINE_EDIED : i % 100 == 44 ? -EDOM : 0;
            CHECK_EQ(status[i], expected);
            CHECK(expected || out[i] == i * i);
        }
        CHECK_EQ(seen.failures, 8);
        CHECK(seen.done == COUNT && seen.total == COUNT);
        CHECK_EQ(after.items_settled - before.items_settled, COUNT);
        CHECK_EQ(after.items_failed - before.items_failed, 8);

        tine_map_options loop = TINE_MAP_OPTIONS_INIT;
        loop.schedule = ways[way].schedule;
        loop.chunk = ways[way].chunk;
        loop.context = &sums;
        loop.context_length = sizeof sums;
        memset(sums, 0, 1000 * sizeof *sums);
        CHECK_EQ(tine_for(pool, add_piece, 100, 1000, &loop), 0);
        for (int i = 0; i < 1000; i++) {
            CHECK_EQ(sums[i], i >= 100);
        }
    }
    tine_free(pool, sums);
}

static void refused(tine_pool *pool)
{
    tine_error error = TINE_ERROR_INIT;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int in = 3, out;
    options.error = &error;
    options.schedule = 3;
    CHECK_RC(tine_map(pool, square, &in, sizeof in, &out, sizeof out, 1, &options), -EINVAL);
    CHECK(strstr(error.text, "schedule is 3"));
    options.schedule = TINE_SCHEDULE_STATIC;
    options.chunk = 5;
    CHECK_RC(tine_map(pool, square, &in, sizeof in, &out, sizeof out, 1, &options), -EINVAL);
    CHECK(strstr(error.text, "chunk is 5"));
    options.chunk = 0;
    options.chunk_bytes = 5;
    CHECK_RC(tine_for(pool, add_piece, 0, 1, &options), -EINVAL);
    CHECK(strstr(error.text, "chunk_bytes"));
    options.chunk_bytes = 0;
    options.flags = 1u << 30;
    CHECK_RC(tine_map(pool, square, &in, sizeof in, &out, sizeof out, 1, &options), -EINVAL);
}

/* ---- The first failure ends it ---- */

static int fails_at_300(tine_task *task, const void *in, void *out)
{
    (void)out;
    return *(const int *)in == 300 ? tine_fail(task, -EPERM, "three hundred") : 0;
}

static int fails_after_300(tine_task *task, size_t begin, size_t end)
{
    (void)task;
    return begin <= 300 && 300 < end ? -EPERM : 0;
}

static void stops(tine_pool *pool, size_t workers)
{
    static const size_t chunks[] = {0, 1, 50, 5000};
    enum { ITEMS = 5000 };
    static int in[ITEMS], status[ITEMS];
    for (size_t way = 0; way < 4; way++) {
        struct seen seen = {0, 0, 0, 0, 0};
        tine_map_options options = TINE_MAP_OPTIONS_INIT;
        options.chunk = chunks[way];
        options.flags = TINE_STOP_ON_FAILURE;
        options.status = status;
        options.on_failure = on_failure;
        options.progress = on_progress;
        options.user = &seen;
        for (int i = 0; i < ITEMS; i++) {
            in[i] = i;
            status[i] = 77;
        }
        CHECK_EQ(tine_map(pool, fails_at_300, in, sizeof in[0], NULL, 0, ITEMS, &options), TINE_EITEMS);
        int cancelled = 0, well = 0;
        for (int i = 0; i < ITEMS; i++) {
            CHECK(i == 300 ? status[i] == -EPERM : status[i] == 0 || status[i] == -ECANCELED);
            cancelled += status[i] == -ECANCELED;
            well += status[i] == 0;
        }
        CHECK_EQ(seen.failures, cancelled + 1);
        CHECK_EQ(seen.cancelled, cancelled);
        CHECK_EQ(seen.done, ITEMS);
        CHECK(cancelled > 0 || chunks[way] == 0); /* measured chunks may have got through */
        /* It was the last of its chunk, unless another worker that had nothing to do took a part of that. */
        CHECK(workers > 1 || chunks[way] != 5000 || well == 300);

        memset(&seen, 0, sizeof seen);
        memset(status, 77, sizeof status);
        CHECK_EQ(tine_for(pool, fails_after_300, 0, ITEMS, &options), TINE_EITEMS);
        for (int i = 0; i < ITEMS; i++) {
            CHECK(status[i] == 0 || status[i] == -ECANCELED || status[i] == -EPERM);
        }
        CHECK_EQ(status[300], -EPERM);
    }
}

/* ---- A signal ends it: every item has a status ---- */

static void on_alarm(int number)
{
    (void)number;
}

static int nap_item(tine_task *task, const void *in, void *out)
{
    (void)task, (void)in, (void)out;
    nap_ns(MS);
    return 0;
}

static void interrupted(int start)
{
    enum { ITEMS = 100000 };
    static int in[ITEMS], status[ITEMS];
    struct sigaction action, old;
    struct itimerval timer = {{0, 20000}, {0, 20000}}, off = {{0, 0}, {0, 0}};
    tine_pool *pool = create_pool(start, 2, TINE_INTERRUPTIBLE);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK_EQ(sigaction(SIGALRM, &action, &old), 0);
    options.status = status;
    memset(status, 77, sizeof status);
    CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
    CHECK_RC(tine_map(pool, nap_item, in, sizeof in[0], NULL, 0, ITEMS, &options), -EINTR);
    CHECK_EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
    int well = 0;
    for (int i = 0; i < ITEMS; i++) {
        CHECK(status[i] == 0 || status[i] == -ECANCELED);
        well += status[i] == 0;
    }
    CHECK(well < ITEMS);
    CHECK_EQ(sigaction(SIGALRM, &old, NULL), 0);
    tine_pool_destroy(pool);
}

/* ---- Slow items of a long piece are shared out ---- */

/* Who has run slow items: the first worker that has, and whether another one has, too. */
struct helpers {
    pid_t first;
    int both;
};

/* The last quarter waits for the second worker, so that nothing depends on who is how fast: each of them for a second at
 * most, because a piece can only be shared out between two of its items. */
static int slow_half(tine_task *task, const void *in, void *out)
{
    static int naps;
    struct helpers *helpers = *(struct helpers *const *)tine_context(task, NULL);
    pid_t nobody = 0;
    (void)out;
    if (*(const int *)in < 1000) {
        return 0;
    }
    nap_ns(200000);
    if (!__atomic_compare_exchange_n(&helpers->first, &nobody, getpid(), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) &&
        nobody != getpid()) {
        __atomic_store_n(&helpers->both, 1, __ATOMIC_SEQ_CST);
    }
    for (int i = 0; *(const int *)in >= 1500 && i < 1000 && !__atomic_load_n(&helpers->both, __ATOMIC_SEQ_CST); i++) {
        nap_ns(MS);
        if (++naps > HANG_NS / MS) {
            return -ETIMEDOUT; /* nobody helps */
        }
    }
    return 0;
}

static void shared_out(tine_pool *pool)
{
    enum { ITEMS = 2000 };
    static int in[ITEMS];
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    struct helpers *helpers = (struct helpers *)tine_calloc(pool, 1, sizeof *helpers);
    CHECK(helpers);
    options.schedule = TINE_SCHEDULE_STATIC; /* one worker gets all the slow ones */
    options.context = &helpers;
    options.context_length = sizeof helpers;
    for (int i = 0; i < ITEMS; i++) {
        in[i] = i;
    }
    CHECK_EQ(tine_map(pool, slow_half, in, sizeof in[0], NULL, 0, ITEMS, &options), 0);
    CHECK(helpers->both);
    tine_free(pool, helpers);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        tine_pool *pool = create_pool(all_starts[i], 2, 0);
        same_results(pool);
        stops(pool, 2);
        tine_pool *one = create_pool(all_starts[i], 1, 0);
        stops(one, 1);
        tine_pool_destroy(one);
        shared_out(pool);
        refused(pool);
        tine_pool_destroy(pool);
        interrupted(all_starts[i]);
    }
    return 0;
}
