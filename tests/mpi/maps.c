/* What comes back of maps, tasks and streams, held against the same calls on this machine. */
#include "nodes.h"

struct answer {
    int64_t square;
    char text[40];
};

static int square(tine_task *task, const void *in, void *out)
{
    const struct item *item = in;
    struct answer *answer = out;
    size_t length;
    const char *context = tine_context(task, &length);
    if (item->number % 100 == 17)
        return tine_fail(task, -EDOM, "item %d is odd: %s", (int)item->number, item->text);
    answer->square = item->number * item->number;
    snprintf(answer->text, sizeof answer->text, "%.*s %s", (int)length, context ? context : "", item->text);
    return (int)(item->number % 3);
}

static int sum_range(tine_task *task, size_t begin, size_t end)
{
    (void)task;
    return begin < end && end <= 1000000 ? 0 : -ERANGE;
}

static int one_writes_half(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int32_t *)out = *(const int32_t *)in;
    return 0;
}

enum { ITEMS = 5000 };

struct seen {
    int64_t failures, texts, last_done;
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct seen *seen = user;
    char wanted[80];
    snprintf(wanted, sizeof wanted, "item %d is odd: i%d", (int)item, (int)item);
    seen->failures++;
    seen->texts += result->status == -EDOM && strcmp(result->message, wanted) == 0 && result->delivery == TINE_RAN;
}

static void on_progress(size_t done, size_t total, void *user)
{
    struct seen *seen = user;
    CHECK((int64_t)done >= seen->last_done && done <= total);
    seen->last_done = (int64_t)done;
}

static void map_on(int engine, size_t chunk, struct answer *answers, int *status, struct seen *seen)
{
    tine_pool *pool = pool_on(engine, 2);
    struct item *items = calloc(ITEMS, sizeof *items);
    CHECK(items);
    for (int i = 0; i < ITEMS; i++) {
        items[i].number = i;
        snprintf(items[i].text, sizeof items[i].text, "i%d", i);
    }
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.context = "ctx";
    options.context_length = 3;
    options.chunk = chunk;
    options.status = status;
    options.on_failure = on_failure;
    options.progress = on_progress;
    options.user = seen;
    int rc = tine_map(pool, square, items, sizeof *items, answers, sizeof *answers, ITEMS, &options);
    CHECK(rc == TINE_EITEMS);
    zero_or_die(tine_for(pool, sum_range, 0, 1000000, NULL), "tine_for");
    free(items);
    finish(pool);
}

void maps_are_as_here(void)
{
    struct answer *here = calloc(ITEMS, sizeof *here), *there = calloc(ITEMS, sizeof *there);
    int *status_here = calloc(ITEMS, sizeof(int)), *status_there = calloc(ITEMS, sizeof(int));
    CHECK(here && there && status_here && status_there);
    struct seen seen_here = {0, 0, 0};
    map_on(TINE_ENGINE_LOCAL, 0, here, status_here, &seen_here);
    for (size_t chunk = 0; chunk <= 64; chunk += 32) {
        struct seen seen = {0, 0, 0};
        memset(there, 0, ITEMS * sizeof *there);
        map_on(TINE_ENGINE_MPI, chunk, there, status_there, &seen);
        CHECK(memcmp(here, there, ITEMS * sizeof *here) == 0);
        CHECK(memcmp(status_here, status_there, ITEMS * sizeof(int)) == 0);
        CHECK(memcmp(&seen, &seen_here, sizeof seen) == 0 && seen.texts == ITEMS / 100);
    }
    free(here), free(there), free(status_here), free(status_there);
}

void arrays_of_the_heap_come_back(void)
{
    tine_pool *pool = nodes();
    int32_t *in = tine_alloc(pool, 100 * sizeof *in), *out = tine_alloc(pool, 200 * sizeof *out);
    CHECK(in && out);
    for (int i = 0; i < 100; i++)
        in[i] = i, out[2 * i] = -1, out[2 * i + 1] = 1000 + i;
    zero_or_die(tine_map(pool, one_writes_half, in, sizeof *in, out, 2 * sizeof *out, 100, NULL), "map");
    for (int i = 0; i < 100; i++)
        CHECK(out[2 * i] == i && out[2 * i + 1] == 1000 + i);
    finish(pool);
}

enum { LONG_ITEMS = 40, LONG_IN = 40000, LONG_OUT = 50000 };

static int change(tine_task *task, const void *in, void *out)
{
    const unsigned char *from = in;
    unsigned char *to = out;
    if (from[0] == 17)
        return tine_fail(task, -EDOM, "it is 17");
    if (from[0] == 23)
        raise(SIGKILL);
    for (size_t i = 0; i < LONG_OUT; i++)
        to[i] = (unsigned char)(from[i % LONG_IN] ^ 0x5a);
    return 0;
}

static void check_changed(const unsigned char *in, const unsigned char *out, const int *status)
{
    for (int item = 0; item < LONG_ITEMS; item++) {
        int wanted = item == 17 ? -EDOM : item == 23 ? TINE_EDIED : 0;
        if (status[item] != wanted)
            die("item %d: %d", item, status[item]);
        for (size_t i = 0; !wanted && i < LONG_OUT; i++)
            CHECK(out[item * LONG_OUT + i] == (in[item * LONG_IN + i % LONG_IN] ^ 0x5a));
    }
}

/* Inputs and outputs of a chunk that are long travel apart from the frame, from arrays in the heap and from others. */
void long_arrays_come_back(void)
{
    for (size_t round = 0; round < 6; round++) {
        tine_pool *pool = nodes();
        int in_heap = round % 2, status[LONG_ITEMS];
        unsigned char *in = in_heap ? tine_alloc(pool, LONG_ITEMS * LONG_IN) : malloc(LONG_ITEMS * LONG_IN);
        unsigned char *out = in_heap ? tine_alloc(pool, LONG_ITEMS * LONG_OUT) : malloc(LONG_ITEMS * LONG_OUT);
        CHECK(in && out);
        for (size_t i = 0; i < LONG_ITEMS * LONG_IN; i++)
            in[i] = (unsigned char)(i % LONG_IN ? 0x80 | (i * 7 + i / LONG_IN) : i / LONG_IN);
        memset(out, 0, LONG_ITEMS * LONG_OUT);
        tine_map_options options = TINE_MAP_OPTIONS_INIT;
        options.chunk = (size_t[]){1, 4, 0}[round / 2];
        options.status = status;
        CHECK(tine_map(pool, change, in, LONG_IN, out, LONG_OUT, LONG_ITEMS, &options) == TINE_EITEMS);
        check_changed(in, out, status);
        if (!in_heap)
            free(in), free(out);
        finish(pool);
    }
}

enum { HUGE_OUT = 28 << 20 };

static int fill(tine_task *task, const void *in, void *out)
{
    (void)task;
    memset(out, *(const int *)in, HUGE_OUT);
    return 0;
}

/* What comes back finds its place although rank 0's heap has no room for it beside the array that it goes to. */
void outputs_need_no_heap_at_the_host(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.engine = TINE_ENGINE_MPI;
    options.workers = 1;
    options.heap_bytes = 48 << 20;
    zero_or_die(tine_pool_create(&options, &pool), "tine_pool_create");
    unsigned char *out = tine_alloc(pool, HUGE_OUT);
    CHECK(out);
    memset(out, 0, HUGE_OUT);
    for (int round = 1; round < 4; round++) {
        zero_or_die(tine_map(pool, fill, &round, sizeof round, out, HUGE_OUT, 1, NULL), "tine_map");
        for (size_t i = 0; i < HUGE_OUT; i++)
            CHECK(out[i] == round);
    }
    finish(pool);
}

void tasks_come_back(void)
{
    tine_pool *pool = nodes();
    enum { COUNT = 20000 };
    tine_id *ids = calloc(COUNT, sizeof *ids);
    char *seen = calloc(COUNT, 1), *big = malloc(300000);
    CHECK(ids && seen && big);
    for (uint32_t i = 0; i < COUNT; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = (void *)(uintptr_t)i;
        zero_or_die(tine_submit(pool, echo, &i, sizeof i, &options, &ids[i]), "submit");
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        uint32_t number = (uint32_t)(uintptr_t)result.user;
        CHECK(result.status == 7 && result.length == sizeof number && memcmp(result.data, &number, sizeof number) == 0);
        CHECK(number < COUNT && ids[number] == result.id && !seen[number]);
        seen[number] = 1;
        tine_result_release(pool, &result);
    }
    for (size_t length = 0; length < 300000; length = length * 3 + 1) {
        memset(big, (int)length, length);
        tine_id id;
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_submit(pool, echo, big, length, NULL, &id), "submit");
        zero_or_die(tine_wait(pool, id, TINE_FOREVER, &result), "wait");
        CHECK(result.status == 7 && result.length == length && (!length || memcmp(result.data, big, length) == 0));
        tine_result_release(pool, &result);
    }
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.workers >= 2 && stats.workers_ready == stats.workers && stats.submitted == stats.settled);
    free(ids), free(seen), free(big);
    finish(pool);
}

struct draw {
    int next;
};

static int pull(void *user, const void **input, size_t *length, void **item)
{
    struct draw *draw = user;
    static int buffer;
    if (draw->next == 3000)
        return 0;
    buffer = draw->next++;
    *input = &buffer;
    *length = sizeof buffer;
    *item = (void *)(uintptr_t)buffer;
    return 1;
}

void streams_are_in_order(void)
{
    tine_pool *pool = nodes();
    struct draw draw = {0};
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    options.pull = pull;
    options.user = &draw;
    tine_stream *stream;
    zero_or_die(tine_stream_create(pool, echo, &options, &stream), "tine_stream_create");
    for (int i = 0; i < 3000; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_stream_next(stream, TINE_FOREVER, &result), "tine_stream_next");
        CHECK(result.status == 7 && *(const int *)result.data == i);
        tine_result_release(pool, &result);
    }
    tine_stream_destroy(stream);
    finish(pool);
}

static int stop_in_the_middle(tine_task *task, const void *in, void *out)
{
    (void)task;
    while (*(const int *)in >= 500)
        pause();
    *(int *)out = 1;
    return 0;
}

enum { IN_THE_MIDDLE = 20000 }; /* more than are handed out at a time */

static int states[IN_THE_MIDDLE];

/* Writes down which items have not settled, and ends. mpirun may lose some of what is printed then. */
static void end_with_open_items(int count)
{
    const char *path = getenv("TINE_OPEN_ITEMS");
    FILE *file = path ? fopen(path, "w") : NULL;
    CHECK(file);
    for (int i = 0; i < count; i++)
        if (states[i] < 0)
            fprintf(file, "%d\n", i);
    CHECK(fclose(file) == 0);
    raise(SIGKILL);
}

static void end_in_the_middle(size_t done, size_t total, void *user)
{
    (void)total, (void)user;
    if (done >= 300)
        end_with_open_items(IN_THE_MIDDLE);
}

/* Rank 0 is killed in a map of which most items never settle. */
void host_is_killed_in_a_map(void)
{
    static int in[IN_THE_MIDDLE], out[IN_THE_MIDDLE];
    tine_pool *pool = nodes();
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    for (int i = 0; i < IN_THE_MIDDLE; i++)
        in[i] = i, states[i] = -1;
    options.chunk = 10;
    options.status = states;
    options.progress = end_in_the_middle;
    tine_map(pool, stop_in_the_middle, in, sizeof *in, out, sizeof *out, IN_THE_MIDDLE, &options);
    die("the map has come to an end");
}

/* Item 15 ends its worker when it is told to; all others return at once. */
static int die_in_the_middle(tine_task *task, const void *in, void *out)
{
    if (*(const int *)in == 15) {
        while (access(tine_context(task, NULL), F_OK))
            usleep(2000);
        raise(SIGKILL);
    }
    *(int *)out = 1;
    return 0;
}

/* One chunk has been dealt with. The other one most likely comes back in part now, and nobody deals with it. */
static void end_when_a_part_is_back(size_t done, size_t total, void *user)
{
    (void)total;
    if (done < 10)
        return;
    FILE *file = fopen(user, "w");
    CHECK(file && fclose(file) == 0);
    usleep(500000);
    unlink(user);
    end_with_open_items(20);
}

/* Rank 0 is killed when half of a chunk has come back and the map has not had its turn. */
void host_is_killed_with_a_part(void)
{
    static int in[20], out[20];
    char path[64];
    snprintf(path, sizeof path, "/tmp/tine-go-%d", (int)getpid());
    tine_pool *pool = nodes();
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    for (int i = 0; i < 20; i++)
        in[i] = i, states[i] = -1;
    options.chunk = 10;
    options.status = states;
    options.context = path;
    options.context_length = sizeof path;
    options.progress = end_when_a_part_is_back;
    options.user = path;
    tine_map(pool, die_in_the_middle, in, sizeof *in, out, sizeof *out, 20, &options);
    die("the map has come to an end");
}
