/* Deadlines of items: only the item that is late is ended, whatever the chunk, with every start method.
 *
 * limit: 300 */
#include "deadlines.h"

struct failures {
    int count, items[40], signals[40], statuses[40];
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct failures *failures = (struct failures *)user;
    CHECK(failures->count < 40);
    failures->items[failures->count] = (int)item;
    failures->statuses[failures->count] = result->status;
    failures->signals[failures->count++] = result->death ? result->death->signal : 0;
    CHECK(result->status != -ETIMEDOUT || strlen(result->message) > 0);
}

/* Only the item that is late fails, whatever the chunk. */
static void item_deadlines_with(int start, int64_t grace_ns, enum manner one, enum manner other, size_t chunk)
{
    enum { ITEMS = 30 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    settings.grace_ns = grace_ns;
    tine_pool *pool = make_pool(start, 2, settings);
    struct job items[ITEMS];
    int outputs[ITEMS], status[ITEMS];
    struct failures failures;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    memset(&failures, 0, sizeof failures);
    map.status = status;
    map.chunk = chunk;
    map.item_deadline_ns = 300 * MS; /* the quick ones need none of it, on however busy a machine */
    map.on_failure = on_failure;
    map.user = &failures;
    for (int i = 0; i < ITEMS; i++) {
        items[i] = job_of(i == 5 || i == 29 ? one : i == 11 || i == 12 ? other : QUICK);
        items[i].tries = make_word(pool);
    }
    CHECK_RC(tine_map(pool, run_item, items, sizeof items[0], outputs, sizeof outputs[0], ITEMS, &map), TINE_EITEMS);
    for (int i = 0; i < ITEMS; i++) {
        int late = items[i].manner != QUICK;
        CHECK_RC(status[i], late ? -ETIMEDOUT : 0);
        CHECK_EQ(*items[i].tries, 1);
        if (!late) {
            CHECK_EQ(outputs[i], 8);
        }
        tine_free(pool, items[i].tries);
    }
    CHECK_EQ(failures.count, 4);
    for (int i = 0; i < 4; i++) {
        CHECK_RC(failures.statuses[i], -ETIMEDOUT);
        enum manner manner = items[failures.items[i]].manner;
        CHECK_EQ(failures.signals[i], manner == POLITE ? 0 : manner == SLEEPY ? SIGTERM : SIGKILL);
    }
    tine_pool_destroy(pool);
}

static int quick_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    for (volatile int spins = 0; spins < 200; spins++) { /* long enough for the host to look in the middle of a chunk */
    }
    *(int *)out = *(const int *)in + 1;
    return 0;
}

/* What a worker says of itself is of the chunk that it is at, which it has reached before the host has taken the last one's result. */
static void chunks_in_a_row(int start)
{
    enum { ITEMS = 100000 };
    tine_pool_options settings = TINE_POOL_OPTIONS_INIT;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    tine_stats stats = TINE_STATS_INIT;
    tine_pool *pool = make_pool(start, 1, settings);
    int *items = (int *)calloc(ITEMS, sizeof *items), *outputs = (int *)calloc(ITEMS, sizeof *outputs);
    CHECK(items && outputs);
    for (int i = 0; i < ITEMS; i++) {
        items[i] = i;
    }
    map.item_deadline_ns = 3600 * 1000 * MS;
    for (map.chunk = 5; map.chunk <= 20; map.chunk *= 2) {
        memset(outputs, 0, ITEMS * sizeof *outputs);
        CHECK_RC(tine_map(pool, quick_item, items, sizeof *items, outputs, sizeof *outputs, ITEMS, &map), 0);
        for (int i = 0; i < ITEMS; i++) {
            CHECK_EQ(outputs[i], i + 1);
        }
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    free(items);
    free(outputs);
    tine_pool_destroy(pool);
}

static void item_deadlines(int start)
{
    item_deadlines_with(start, LONG, POLITE, POLITE, 7);
    item_deadlines_with(start, 10 * MS, SLEEPY, STUBBORN, 0);
    item_deadlines_with(start, 10 * MS, SLEEPY, STUBBORN, 7);
    item_deadlines_with(start, 10 * MS, SLEEPY, STUBBORN, 30);
}

int main(int argc, char **argv)
{
    static const struct timed_test tests[] = {
        {"item deadlines", item_deadlines},
        {"chunks in a row", chunks_in_a_row},
    };
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    return run_timed(argc, argv, tests, sizeof tests / sizeof *tests);
}
