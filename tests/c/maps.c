/* Maps and loops: whatever the chunk, the start method, the number of workers and the place of the arrays, results,
   states, failures and progress are those of a serial loop. */
#include "maps.h"
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

static uint64_t heap_bytes(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.heap_allocated_bytes;
}

/* ---- The job, and what a serial loop makes of it ---- */

/* An item is larger than what it holds: the strides are not the sizes. */
struct item {
    int value;
    char name[12];
    int unused[4];
};

struct made {
    long long square;
    char name[12];
    unsigned char rest[12];
};

/* Every 13th fails with a text of its own, every 13th after 5 with a code alone, every 13th after 7 returns more than
   0, every 1000th returns what it may not. */
static int make(tine_task *task, const struct item *in, struct made *out, int bonus)
{
    if (in->value % 1000 == 999)
        return -70000;
    if (in->value % 13 == 0 && in->value > 0)
        return tine_fail(task, -ERANGE, "item %d of %s is unlucky", in->value, in->name);
    if (in->value % 13 == 5)
        return -EDOM;
    memset(out, 0, sizeof *out);
    out->square = (long long)in->value * in->value + bonus;
    memcpy(out->name, in->name, sizeof out->name);
    return in->value % 13 == 7 ? in->value : 0;
}

static int item_status(int value)
{
    return value % 1000 == 999                ? TINE_EBADCODE
           : value % 13 == 0 && value > 0 ? -ERANGE
           : value % 13 == 5              ? -EDOM
           : value % 13 == 7              ? value
                                          : 0;
}

static int make_item(tine_task *task, const void *in, void *out)
{
    size_t length;
    const int *bonus = (const int *)tine_context(task, &length);
    const struct item *item = (const struct item *)in;
    if (!bonus || length != 100)
        return tine_fail(task, -EPROTO, "a context of %zu bytes", length);
    if (tine_task_id(task) != (uint64_t)item->value)
        return tine_fail(task, -EPROTO, "task %llu", (unsigned long long)tine_task_id(task));
    return make(task, item, (struct made *)out, *bonus);
}

/* The same by its name: the item is the task's input, its place the output. */
static int make_named(tine_task *task)
{
    size_t length, context;
    const struct item *in = (const struct item *)tine_input(task, &length);
    const int *bonus = (const int *)tine_context(task, &context);
    struct made *out = (struct made *)tine_output(task, sizeof *out);
    if (length != sizeof *in || !out || context != 100)
        return tine_fail(task, -EPROTO, "%zu bytes", length);
    if (tine_output(task, sizeof *out + 1) != NULL)
        return tine_fail(task, -EPROTO, "more room than there is");
    return make(task, in, out, *bonus);
}

enum { COUNT = 3000 };

struct report {
    size_t failures, last_done, calls, total;
    unsigned char failed[COUNT];
};

static void note_failure(const tine_result *result, size_t at, void *user)
{
    struct report *report = (struct report *)user;
    char expected[100];
    int value = (int)at;
    CHECK(at < COUNT);
    CHECK_EQ(report->failed[at], 0); /* once */
    report->failed[at] = 1;
    report->failures++;
    CHECK_EQ(result->status, item_status(value));
    CHECK_EQ(result->delivery, TINE_RAN);
    CHECK(result->death == NULL && result->data == NULL && result->user == user && result->id == 0);
    snprintf(expected, sizeof expected, "item %d of number%d is unlucky", value, value);
    if (result->status == -ERANGE)
        CHECK_STR(result->message, expected);
    else if (result->status == -EDOM)
        CHECK_STR(result->message, tine_strerror(-EDOM));
    else
        CHECK_STR(result->message, "the function returned -70000");
}

static void note_progress(size_t done, size_t total, void *user)
{
    struct report *report = (struct report *)user;
    CHECK(done >= report->last_done && done <= total); /* never back */
    report->last_done = done;
    report->total = total;
    report->calls++;
}

static void check_map(tine_pool *pool, size_t count, size_t chunk, int named, int heap_in, int heap_out, int heap_context)
{
    static struct item items[COUNT];
    static struct made places[COUNT + 1];
    static int status[COUNT];
    static struct report report;
    int bonus[25] = {7};
    uint64_t before = heap_bytes(pool);
    struct item *in = heap_in ? (struct item *)tine_alloc(pool, count * sizeof *in + 1) : items;
    struct made *out = heap_out ? (struct made *)tine_alloc(pool, (count + 1) * sizeof *out) : places;
    int *context = heap_context ? (int *)tine_alloc(pool, sizeof bonus) : bonus;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    CHECK(in && out && context);
    memcpy(context, bonus, sizeof bonus);
    for (size_t i = 0; i < count; i++) {
        memset(&in[i], 0, sizeof in[i]);
        in[i].value = (int)i;
        snprintf(in[i].name, sizeof in[i].name, "number%d", (int)i);
        status[i] = 12345;
    }
    memset(out, 0xee, (count + 1) * sizeof *out);
    memset(&report, 0, sizeof report);
    options.name = named ? "make_named" : NULL;
    options.context = context;
    options.context_length = sizeof bonus;
    options.chunk = chunk;
    options.status = status;
    options.on_failure = note_failure;
    options.progress = note_progress;
    options.user = &report;
    int rc = tine_map(pool, named ? NULL : make_item, in, sizeof *in, out, sizeof *out, count, &options);

    size_t failures = 0;
    for (size_t i = 0; i < count; i++) {
        int expected = item_status((int)i);
        CHECK_EQ(status[i], expected);
        CHECK_EQ(report.failed[i], expected < 0);
        failures += expected < 0;
        if (expected < 0) {
            CHECK_EQ(((unsigned char *)&out[i])[0], 0xee); /* what failed has left its place alone */
        } else {
            char name[12];
            snprintf(name, sizeof name, "number%d", (int)i);
            CHECK_EQ(out[i].square, (long long)i * (long long)i + 7);
            CHECK_STR(out[i].name, name);
            CHECK_EQ(out[i].rest[11], 0);
        }
    }
    CHECK_EQ(((unsigned char *)&out[count])[0], 0xee); /* nor is anything behind the end written */
    CHECK_EQ(report.failures, failures);
    CHECK_RC(rc, failures ? TINE_EITEMS : 0);
    if (count > 0) {
        CHECK(report.calls >= 1);
        CHECK_EQ(report.total, count);
    }
    CHECK_EQ(report.last_done, count);
    if (heap_in)
        tine_free(pool, in);
    if (heap_out)
        tine_free(pool, out);
    if (heap_context)
        tine_free(pool, context);
    CHECK_EQ(heap_bytes(pool), before);
}

static void every_way(tine_pool *pool)
{
    static const size_t chunks[] = {0, 1, 2, 7, 64, 1000, COUNT + 5, SIZE_MAX};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        for (int where = 0; where < 4; where++) {
            check_map(pool, COUNT, chunks[i], 0, where & 1, where & 2, where == 1);
            check_map(pool, COUNT / 3, chunks[i], 1, where & 1, where & 2, where == 2);
        }
    check_map(pool, 1, 0, 0, 0, 0, 0);
    check_map(pool, 2, 1, 1, 1, 1, 1);
}

/* ---- Loops ---- */

struct range_context {
    unsigned *calls; /* how often each number was called, in the heap */
    size_t begin, bad;
};

static int piece(tine_task *task, size_t begin, size_t end)
{
    const struct range_context *context = (const struct range_context *)tine_context(task, NULL);
    int bad = 0;
    if (begin >= end)
        return -EPROTO;
    for (size_t i = begin; i < end; i++) {
        __atomic_fetch_add(&context->calls[i - context->begin], 1, __ATOMIC_RELAXED);
        bad |= i == context->bad;
    }
    return bad ? tine_fail(task, -EBADF, "from %zu to %zu", begin, end) : 0;
}

struct range_report {
    size_t failures, item;
    char message[100];
};

static void note_piece(const tine_result *result, size_t item, void *user)
{
    struct range_report *report = (struct range_report *)user;
    report->failures++;
    report->item = item;
    snprintf(report->message, sizeof report->message, "%s", result->message);
    CHECK_EQ(result->status, -EBADF);
}

static void check_for(tine_pool *pool, size_t begin, size_t count, size_t chunk)
{
    static int status[COUNT];
    struct range_context context = {(unsigned *)tine_alloc(pool, (count + 1) * sizeof(unsigned)), begin, begin + count / 2};
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    struct range_report report;
    memset(&report, 0, sizeof report);
    memset(context.calls, 0, (count + 1) * sizeof(unsigned));
    options.context = &context;
    options.context_length = sizeof context;
    options.chunk = chunk;
    options.status = status;
    options.on_failure = note_piece;
    options.user = &report;
    CHECK_RC(tine_for(pool, piece, begin, begin + count, &options), TINE_EITEMS);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(context.calls[i], 1);
    CHECK_EQ(context.calls[count], 0);
    /* One piece has failed, with all its items; it says itself where it was. */
    size_t first = 0, end = 0;
    CHECK_EQ(report.failures, 1);
    CHECK_EQ(sscanf(report.message, "from %zu to %zu", &first, &end), 2);
    CHECK_EQ(report.item, first);
    CHECK(first <= context.bad && context.bad < end);
    if (chunk > 0) {
        CHECK_EQ((first - begin) % chunk, 0);
        CHECK(end - first == chunk || end == begin + count);
    }
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(status[i], begin + i >= first && begin + i < end ? -EBADF : 0);
    tine_free(pool, context.calls);
}

static void loops(tine_pool *pool)
{
    static const size_t chunks[] = {0, 1, 7, 64, COUNT, SIZE_MAX};
    uint64_t before = heap_bytes(pool);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        check_for(pool, 0, COUNT, chunks[i]);
        check_for(pool, SIZE_MAX - 1000, 999, chunks[i]);
        check_for(pool, 1000000, 1, chunks[i]);
    }
    CHECK_EQ(heap_bytes(pool), before);
}

/* ---- Many items ---- */

static int count_up(tine_task *task, const void *in, void *out)
{
    long *total = *(long *const *)tine_context(task, NULL);
    __atomic_fetch_add(total, *(const int *)in, __ATOMIC_RELAXED);
    return out == NULL ? 0 : -EPROTO;
}

static void million(tine_pool *pool, int in_heap)
{
    enum { MILLION = 1000000 };
    int *in = (int *)(in_heap ? tine_alloc(pool, MILLION * sizeof *in) : malloc(MILLION * sizeof *in));
    int *out = (int *)(in_heap ? tine_alloc(pool, MILLION * sizeof *in) : malloc(MILLION * sizeof *in));
    long *total = (long *)tine_alloc(pool, sizeof *total);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    CHECK(in && out && total);
    for (int i = 0; i < MILLION; i++)
        in[i] = i;
    CHECK_RC(tine_map(pool, next_int, in, sizeof *in, out, sizeof *out, MILLION, NULL), 0);
    for (int i = 0; i < MILLION; i++)
        CHECK_EQ(out[i], i + 1);
    /* In place; and nothing for what becomes of them. */
    CHECK_RC(tine_map(pool, next_int, in, sizeof *in, in, sizeof *in, MILLION, NULL), 0);
    for (int i = 0; i < MILLION; i++)
        CHECK_EQ(in[i], i + 1);
    *total = 0;
    options.context = &total;
    options.context_length = sizeof total;
    CHECK_RC(tine_map(pool, count_up, in, sizeof *in, NULL, 0, MILLION, &options), 0);
    CHECK_EQ(*total, (long)MILLION * (MILLION + 1) / 2);
    tine_free(pool, total);
    if (in_heap) {
        tine_free(pool, in);
        tine_free(pool, out);
    } else {
        free(in);
        free(out);
    }
}

/* ---- Memory ---- */

struct most {
    tine_pool *pool;
    uint64_t bytes;
};

static void note_most(size_t done, size_t total, void *user)
{
    struct most *most = (struct most *)user;
    uint64_t bytes = heap_bytes(most->pool);
    (void)done;
    (void)total;
    if (bytes > most->bytes)
        most->bytes = bytes;
}

static int work_as_said(tine_task *task, const void *in, void *out)
{
    unsigned rounds = *(const unsigned *)in % 4096;
    (void)task;
    (void)out;
    for (volatile unsigned i = 0; i < rounds; i++)
        ;
    return 0;
}

/* Of arrays that are not in the heap no more is there at a time than what is under way, whatever lengths the chunks have. */
static void little_is_carried_at_a_time(tine_pool *pool, size_t workers)
{
    enum { ITEMS = 1 << 17, EACH = 1024 };
    char *in = (char *)malloc((size_t)ITEMS * EACH);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    struct most most = {pool, 0};
    uint64_t before = heap_bytes(pool);
    CHECK(in);
    for (unsigned i = 0; i < ITEMS; i++) {
        unsigned said = i * 2654435761u >> 12;
        memcpy(memset(in + (size_t)i * EACH, 0, EACH), &said, sizeof said);
    }
    options.progress = note_most;
    options.user = &most;
    CHECK_RC(tine_map(pool, work_as_said, in, EACH, NULL, 0, ITEMS, &options), 0);
    CHECK(most.bytes > before && most.bytes - before < (workers * 9 + 5) << 20);
    CHECK_EQ(heap_bytes(pool), before);
    free(in);
}

/* ---- Uneven items ---- */

/* The first item waits until all the others are done: only other workers can do them, whatever the chunk. */
static int one_waits(tine_task *task, const void *in, void *out)
{
    int *done = *(int *const *)tine_context(task, NULL);
    int last = ((const int *)in)[1];
    if (*(const int *)in == 0)
        while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < last)
            usleep(100);
    else
        __atomic_fetch_add(done, 1, __ATOMIC_RELEASE);
    *(int *)out = getpid();
    return 0;
}

static void uneven(tine_pool *pool, int count, int waiting_for)
{
    static int in[2000][2], out[2000];
    int *done = (int *)tine_alloc(pool, sizeof *done);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    *done = 0;
    for (int i = 0; i < count; i++) {
        in[i][0] = i;
        in[i][1] = waiting_for;
    }
    options.context = &done;
    options.context_length = sizeof done;
    CHECK_RC(tine_map(pool, one_waits, in, sizeof *in, out, sizeof *out, (size_t)count, &options), 0);
    CHECK_EQ(*done, count - 1);
    int others = 0;
    for (int i = 1; i < count; i++)
        others += out[i] != out[0];
    CHECK(others >= waiting_for);
    tine_free(pool, done);
}

/* ---- Failures with much to say ---- */

static unsigned char heard[20000];

static void hear(const tine_result *result, size_t item, void *user)
{
    int number = -1, at = 0;
    (void)user;
    CHECK_EQ(heard[item]++, 0);
    CHECK_EQ(result->status, -1 - (int)item % 100);
    CHECK_EQ(sscanf(result->message, "%d %n", &number, &at), 1);
    CHECK_EQ(number, item);
    CHECK_EQ(strlen(result->message + at), 100 + item % 70);
    CHECK_EQ(result->message[at], 'a' + (int)item % 26);
}

static void much_said(tine_pool *pool, size_t chunk)
{
    enum { ITEMS = 20000 };
    int *in = (int *)malloc(ITEMS * sizeof *in);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    uint64_t before = heap_bytes(pool);
    memset(heard, 0, sizeof heard);
    for (int i = 0; i < ITEMS; i++)
        in[i] = i;
    options.chunk = chunk;
    options.on_failure = hear;
    CHECK_RC(tine_map(pool, says_much, in, sizeof *in, NULL, 0, ITEMS, &options), TINE_EITEMS);
    for (int i = 0; i < ITEMS; i++)
        CHECK_EQ(heard[i], 1);
    CHECK_EQ(heap_bytes(pool), before);
    free(in);
}

/* ---- Deaths in a map ---- */

static int sometimes_dies(tine_task *task, const void *in, void *out)
{
    int value = *(const int *)in;
    if (value % 500 == 123)
        raise(SIGKILL);
    if (value % 500 == 124)
        exit(9);
    if (value % 50 == 7)
        return tine_fail(task, -EIO, "item %d", value);
    *(int *)out = value + 1;
    return 0;
}

static void hear_deaths(const tine_result *result, size_t item, void *user)
{
    int *deaths = (int *)user;
    if (result->status == TINE_EDIED) {
        CHECK(item % 500 == 123 || item % 500 == 124);
        CHECK_EQ(result->delivery, TINE_MAYBE_RAN);
        CHECK(result->death != NULL && result->death->pid > 0);
        CHECK_EQ(result->death->signal, item % 500 == 123 ? SIGKILL : 0);
        CHECK_EQ(result->death->code, item % 500 == 123 ? 0 : 9);
        CHECK(result->message[0] != '\0');
        ++*deaths;
    } else {
        char expected[50];
        snprintf(expected, sizeof expected, "item %d", (int)item);
        CHECK_STR(result->message, expected);
        CHECK(result->death == NULL);
    }
}

static void deaths(tine_pool *pool, size_t chunk)
{
    enum { ITEMS = 2000 };
    static int in[ITEMS], out[ITEMS], status[ITEMS];
    int died = 0;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    uint64_t before = heap_bytes(pool);
    for (int i = 0; i < ITEMS; i++) {
        in[i] = i;
        out[i] = -1;
    }
    options.chunk = chunk;
    options.status = status;
    options.on_failure = hear_deaths;
    options.user = &died;
    CHECK_RC(tine_map(pool, sometimes_dies, in, sizeof *in, out, sizeof *out, ITEMS, &options), TINE_EITEMS);
    CHECK_EQ(died, 2 * ITEMS / 500);
    for (int i = 0; i < ITEMS; i++) {
        int expected = i % 500 == 123 || i % 500 == 124 ? TINE_EDIED : i % 50 == 7 ? -EIO : 0;
        CHECK_EQ(status[i], expected);
        CHECK_EQ(out[i], expected == 0 ? i + 1 : -1);
    }
    CHECK_EQ(heap_bytes(pool), before);
}

int main(int argc, char **argv)
{
    static const size_t workers[] = {2, 1, 5};
    CHECK_RC(tine_register("make_named", make_named), 0);
    CHECK_RC(tine_init(argc, argv), 0);
    for (size_t i = 0; i < 3; i++) {
        tine_pool *pool = create_pool(all_starts[i], workers[i], 0);
        every_way(pool);
        loops(pool);
        million(pool, i != 1);
        little_is_carried_at_a_time(pool, workers[i]);
        if (workers[i] > 1) {
            uneven(pool, 2, 1);
            uneven(pool, 2000, 1500);
        }
        much_said(pool, 0);
        much_said(pool, 1000);
        for (size_t chunk = 0; chunk < 2000; chunk = chunk * 11 + 1)
            deaths(pool, chunk);
        tine_pool_destroy(pool);
    }
    return 0;
}
