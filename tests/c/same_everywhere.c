/* The same everywhere: one row for each thing that a pool promises, shown with every start method, one worker and three,
 * pieces of 1, of 7 and measured ones, and without workers. What is said must be the same to the letter. Here are tasks, maps,
 * streams and the life of a pool; same_ends.c has deadlines, deaths and workers.
 *
 * A row writes down everything that a host can see, in an order that nothing decides by chance. A row's name as an argument
 * shows that row alone. */
#include "same_everywhere.h"
#include <poll.h>

/* ---- Tasks ---- */

static int is_unlucky(tine_task *task)
{
    return tine_fail(task, -EDOM, "number %d", *(const int *)tine_input(task, NULL));
}

static void results(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    int seven = 7;
    options.user = &seven;
    tine_id id = submit(pool, turn_round, "abcd", 4, &options);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK(result.user == &seven && result.id == id);
    say_result(&result);
    tine_result_release(pool, &result);
    say_task(pool, submit(pool, is_unlucky, &seven, sizeof seven, NULL));
    options.name = "turn_round";
    say_task(pool, submit(pool, NULL, "xy", 2, &options));
    tine_pool_destroy(pool);
}

static int bad_code(tine_task *task)
{
    (void)task;
    return -70000;
}

static int bad_text(tine_task *task)
{
    char text[600];
    memset(text, '\xff', sizeof text);
    text[sizeof text - 1] = 0;
    return tine_fail(task, -EIO, "%s", text);
}

static void bad_errors(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_result result = TINE_RESULT_INIT;
    say_task(pool, submit(pool, bad_code, NULL, 0, NULL));
    tine_id id = submit(pool, bad_text, NULL, 0, NULL);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    say_code(result.status);
    say(", a text of %d bytes\n", (int)strlen(result.message));
    tine_result_release(pool, &result);
    say_that_it_serves(pool);
    tine_pool_destroy(pool);
}

static void any_order(const struct way *way)
{
    enum { TASKS = 300 };
    tine_pool *pool = open_pool(way, NULL);
    tine_result result = TINE_RESULT_INIT;
    char seen[TASKS] = {0};
    int rc, failed = 0, wrong = 0, twice = 0;
    for (int n = 0; n < TASKS; n++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = (void *)(uintptr_t)n;
        submit(pool, square, &n, sizeof n, &options);
    }
    while ((rc = tine_next(pool, HANG_NS, &result)) == 0) {
        int n = (int)(uintptr_t)result.user;
        twice += seen[n]++;
        failed += result.status == -ERANGE;
        wrong += result.status >= 0 && (result.status != n || *(const int *)result.data != n * n);
        tine_result_release(pool, &result);
    }
    say_code(rc);
    say(" after all, %d failed, %d wrong, %d twice\n", failed, wrong, twice);
    tine_pool_destroy(pool);
}

static void large(const struct way *way)
{
    enum { BYTES = 3 << 20 };
    tine_pool *pool = open_pool(way, NULL);
    tine_result result = TINE_RESULT_INIT;
    char *bytes = (char *)malloc(BYTES);
    CHECK(bytes);
    for (int i = 0; i < BYTES; i++) {
        bytes[i] = (char)(i % 251);
    }
    tine_id id = submit(pool, turn_round, bytes, BYTES, NULL);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int wrong = result.length != BYTES;
    for (int i = 0; i < BYTES && !wrong; i++) {
        wrong = ((const char *)result.data)[i] != bytes[BYTES - 1 - i];
    }
    say("%d bytes, %d wrong\n", result.status, wrong);
    tine_result_release(pool, &result);
    free(bytes);
    tine_pool_destroy(pool);
}

static void several(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_id ids[5];
    tine_result result = TINE_RESULT_INIT;
    for (int i = 0; i < 5; i++) {
        ids[i] = submit(pool, turn_round, "12345", (size_t)i + 1, NULL);
    }
    CHECK_RC(tine_wait_all(pool, ids, 5, HANG_NS), 0);
    for (int i = 0; i < 5; i++) {
        CHECK_RC(tine_wait_any(pool, ids + i, (size_t)(5 - i), HANG_NS, &result), 0);
        say_result(&result);
        tine_result_release(pool, &result);
    }
    say_code(tine_wait_any(pool, ids, 0, 0, &result));
    say(" %d\n", tine_wait_all(pool, NULL, 0, HANG_NS));
    tine_pool_destroy(pool);
}

static void window(const struct way *way)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options wait = TINE_SUBMIT_OPTIONS_INIT;
    options.window_tasks = 3;
    options.window_bytes = 100;
    tine_pool *pool = open_pool(way, &options);
    static char bytes[200];
    tine_id ids[3];
    wait.timeout_ns = MS;
    for (int i = 0; i < 3; i++) {
        ids[i] = submit(pool, turn_round, bytes, 20, NULL);
    }
    say_code(tine_submit(pool, turn_round, bytes, 1, NULL, NULL));
    say(" ");
    say_code(tine_submit(pool, turn_round, bytes, 1, &wait, NULL));
    say("\n");
    for (int i = 0; i < 2; i++) {
        say_task(pool, ids[i]); /* 20 bytes stay in */
    }
    static const size_t lengths[] = {101, 81, 80};
    for (int i = 0; i < 3; i++) {
        say_code(tine_submit(pool, turn_round, bytes, lengths[i], NULL, NULL));
        say(i < 2 ? " " : "\n");
    }
    tine_pool_destroy(pool);
}

struct told {
    int begun, settled, failed, wrong;
};

static void on_begin(tine_id id, pid_t pid, void *user)
{
    struct told *told = (struct told *)user;
    told->wrong += id == 0 || pid <= 0;
    told->begun++;
}

static void on_settled(const tine_result *result, void *user)
{
    struct told *told = (struct told *)user;
    told->failed += result->status == -ERANGE;
    told->wrong += result->status >= 0 && *(const int *)result->data != result->status * result->status;
    __atomic_add_fetch(&told->settled, 1, __ATOMIC_SEQ_CST);
}

static void callbacks(const struct way *way)
{
    for (uint32_t flags = 0; flags <= TINE_NO_THREAD; flags += TINE_NO_THREAD) {
        tine_pool_options pool_options = TINE_POOL_OPTIONS_INIT;
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        struct told told = {0, 0, 0, 0};
        pool_options.flags = flags;
        tine_pool *pool = open_pool(way, &pool_options);
        options.on_begin = on_begin;
        options.on_settled = on_settled;
        options.user = &told;
        for (int n = 0; n < 100; n++) {
            submit(pool, square, &n, sizeof n, &options);
        }
        if (!flags) {
            WAIT_UNTIL(__atomic_load_n(&told.settled, __ATOMIC_SEQ_CST) == 100);
        }
        CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
        say("%d begun, %d settled, %d failed, %d wrong\n", told.begun, told.settled, told.failed, told.wrong);
        tine_pool_destroy(pool);
    }
}

/* ---- Maps, loops and streams ---- */

enum { ITEMS = 700 };

static int named_square(tine_task *task)
{
    return item_square(task, tine_input(task, NULL), tine_output(task, sizeof(int)));
}

struct seen {
    size_t done;
    int back, failures, wrong;
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct seen *seen = (struct seen *)user;
    char text[40];
    snprintf(text, sizeof text, "item %d", (int)item);
    seen->failures++;
    seen->wrong += item % 100 == 13 ? result->status != -EDOM || strcmp(result->message, text) != 0
                                    : item % 100 != 50 || result->status != TINE_EBADCODE;
}

static void on_progress(size_t done, size_t total, void *user)
{
    struct seen *seen = (struct seen *)user;
    seen->back += done < seen->done || total != ITEMS;
    seen->done = done;
}

static void maps(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    int bonus = 3;
    for (int how = 0; how < 8; how++) {
        int *in = how & 1 ? (int *)tine_alloc(pool, ITEMS * sizeof *in) : (int *)malloc(ITEMS * sizeof *in);
        int out[ITEMS] = {0}, status[ITEMS], wrong = 0;
        struct seen seen = {0, 0, 0, 0};
        tine_map_options options = TINE_MAP_OPTIONS_INIT;
        CHECK(in);
        for (int n = 0; n < ITEMS; n++) {
            in[n] = n;
        }
        options.name = how & 2 ? "named_square" : NULL;
        options.schedule = how & 4 ? (how & 2 ? TINE_SCHEDULE_STATIC : TINE_SCHEDULE_GUIDED) : TINE_SCHEDULE_MEASURED;
        options.chunk = options.schedule == TINE_SCHEDULE_STATIC ? 0 : way->chunk;
        options.chunk_bytes = how & 4 ? 256 : 0;
        options.context = &bonus;
        options.context_length = sizeof bonus;
        options.status = status;
        options.on_failure = on_failure;
        options.progress = on_progress;
        options.user = &seen;
        say_code(tine_map(pool, how & 2 ? NULL : item_square, in, sizeof *in, out, sizeof *out, ITEMS, &options));
        for (int n = 0; n < ITEMS; n++) {
            int fails = n % 100 == 13 || n % 100 == 50;
            wrong += fails ? status[n] >= 0 : status[n] != n || out[n] != n * n + bonus;
        }
        say(", %d failed, %d of %d, %d wrong\n", seen.failures, (int)seen.done, ITEMS, wrong + seen.wrong + seen.back);
        if (how & 1) {
            tine_free(pool, in);
        } else {
            free(in);
        }
    }
    tine_pool_destroy(pool);
}

static int mark(tine_task *task, size_t begin, size_t end)
{
    int *marks = *(int *const *)tine_context(task, NULL);
    for (size_t i = begin; i < end; i++) {
        marks[i]++;
    }
    return 0;
}

static void loops(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int *marks = (int *)tine_calloc(pool, ITEMS, sizeof *marks), once = 0;
    CHECK(marks);
    options.chunk = way->chunk;
    options.context = &marks;
    options.context_length = sizeof marks;
    say_code(tine_for(pool, mark, 100, ITEMS, &options));
    for (int i = 0; i < ITEMS; i++) {
        once += marks[i] == 1;
    }
    say(", %d once\n", once);
    tine_pool_destroy(pool);
}

static int fails_third(tine_task *task, const void *in, void *out)
{
    (void)task, (void)out;
    return *(const int *)in == 3 ? -EPERM : 0;
}

static void first_error(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int in[ITEMS], status[ITEMS], failed = 0, fine = 0, never = 0;
    for (int n = 0; n < ITEMS; n++) {
        in[n] = n;
    }
    options.flags = TINE_STOP_ON_FAILURE;
    options.chunk = way->chunk;
    options.status = status;
    say_code(tine_map(pool, fails_third, in, sizeof in[0], NULL, 0, ITEMS, &options));
    for (int n = 0; n < ITEMS; n++) {
        failed += status[n] == -EPERM;
        fine += status[n] == 0;
        never += status[n] == -ECANCELED;
    }
    say(", %d failed, %d unaccounted for\n", failed, ITEMS - failed - fine - never);
    tine_pool_destroy(pool);
}

/* Inputs drawn and results taken. */
struct flow {
    int drawn, taken, number[16];
    size_t bytes, most_tasks, most_bytes;
};

static int draw(void *user, const void **input, size_t *length, void **item)
{
    struct flow *flow = (struct flow *)user;
    if (flow->drawn == ITEMS) {
        return 0;
    }
    int *number = &flow->number[flow->drawn % 16];
    *number = flow->drawn++;
    *input = number;
    *length = sizeof *number;
    *item = (void *)(uintptr_t)*number;
    flow->bytes += sizeof *number;
    flow->most_tasks = (size_t)(flow->drawn - flow->taken) > flow->most_tasks ? (size_t)(flow->drawn - flow->taken) : flow->most_tasks;
    flow->most_bytes = flow->bytes > flow->most_bytes ? flow->bytes : flow->most_bytes;
    return 1;
}

static void streams(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    for (uint32_t flags = 0; flags <= TINE_UNORDERED; flags += TINE_UNORDERED) {
        tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
        tine_result result = TINE_RESULT_INIT;
        tine_stream *stream;
        struct flow flow;
        char seen[ITEMS] = {0};
        int rc, failed = 0, wrong = 0, out_of_order = 0;
        memset(&flow, 0, sizeof flow);
        options.flags = flags;
        options.window_tasks = 10;
        options.window_bytes = 8 * sizeof(int);
        options.pull = draw;
        options.user = &flow;
        CHECK_RC(tine_stream_create(pool, square, &options, &stream), 0);
        while ((rc = tine_stream_next(stream, HANG_NS, &result)) == 0) {
            int n = (int)(uintptr_t)result.user;
            out_of_order += n != flow.taken++;
            flow.bytes -= sizeof n;
            wrong += seen[n]++ || (result.status >= 0 && *(const int *)result.data != n * n);
            failed += result.status == -ERANGE;
            tine_result_release(pool, &result);
        }
        say_code(rc);
        say(" after %d, %d failed, %d wrong; window kept: %d\n", flow.taken, failed, wrong,
            flow.most_tasks <= 10 && flow.most_bytes <= options.window_bytes + sizeof(int));
        CHECK(flags || out_of_order == 0);
        tine_stream_destroy(stream);
    }
    tine_pool_destroy(pool);
}

/* ---- The life of a pool ---- */

static void shutdowns(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_result result = TINE_RESULT_INIT;
    int taken = 0;
    for (int i = 0; i < 10; i++) {
        submit(pool, turn_round, "abc", 3, NULL);
    }
    say("%d ", tine_pool_shutdown(pool, HANG_NS));
    say("%d ", tine_pool_shutdown(pool, 0)); /* a second one is harmless */
    say_code(tine_submit(pool, turn_round, "abc", 3, NULL, NULL));
    while (tine_next(pool, 0, &result) == 0) {
        taken += result.status == 3;
        tine_result_release(pool, &result);
    }
    say(", %d taken\n", taken);
    tine_pool_destroy(pool);
}

static void busy_shutdowns(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_id ids[8], behind;
    int *words = make_words(pool);
    occupy(pool, way, words, ids);
    behind = submit(pool, turn_round, "abc", 3, NULL);
    say_code(tine_pool_shutdown(pool, 0));
    say(" ");
    say_code(tine_pool_shutdown(pool, 2 * MS));
    say(" %d ", tine_cancel_queued(pool));
    say_task(pool, behind);
    let_go(pool, way, words, ids);
    say_code(tine_pool_shutdown(pool, HANG_NS));
    tine_pool_destroy(pool);
    pool = open_pool(way, NULL);
    words = make_words(pool);
    occupy(pool, way, words, ids);
    tine_pool_destroy(pool); /* waits for nothing */
    say(", ended\n");
}

static void counters(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_stats stats = TINE_STATS_INIT;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    int in[100];
    for (int n = 0; n < 100; n++) {
        in[n] = n;
    }
    options.chunk = way->chunk;
    CHECK_RC(tine_map(pool, fails_third, in, sizeof in[0], NULL, 0, 100, &options), TINE_EITEMS);
    for (int i = 0; i < 9; i++) {
        submit(pool, turn_round, "abc", 3, NULL);
    }
    while (tine_next(pool, HANG_NS, &result) == 0) {
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    say("%d submitted, %d settled, %d outstanding, items %d and %d\n", (int)stats.submitted, (int)stats.settled,
        (int)stats.outstanding, (int)stats.items_settled, (int)stats.items_failed);
    tine_pool_destroy(pool);
}

static void event_loops(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    struct pollfd fd = {tine_pool_fd(pool), POLLIN, 0};
    tine_result result = TINE_RESULT_INIT;
    int taken = 0;
    for (int i = 0; i < 50; i++) {
        submit(pool, turn_round, "abc", 3, NULL);
    }
    while (taken < 50) {
        CHECK_EQ(poll(&fd, 1, (int)(HANG_NS / MS)), 1);
        for (int left = tine_pool_poll(pool); left > 0; left--, taken++) {
            CHECK_RC(tine_next(pool, 0, &result), 0);
            tine_result_release(pool, &result);
        }
    }
    say("%d %d\n", taken, tine_pool_poll(pool));
    tine_pool_destroy(pool);
}

static void misuse(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_result result = TINE_RESULT_INIT;
    tine_id id = submit(pool, turn_round, "abc", 3, NULL);
    say_task(pool, id);
    say_code(tine_wait(pool, id, 0, &result));
    say(" ");
    say_code(tine_cancel(pool, id));
    say(" ");
    say_code(tine_submit(pool, NULL, NULL, 0, NULL, NULL));
    say(" ");
    say_code(tine_submit(NULL, turn_round, NULL, 0, NULL, NULL));
    say(" ");
    say_code(tine_next(pool, 0, &result));
    say(" ");
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int rc = tine_submit(pool, turn_round, "abc", 3, NULL, NULL);
        tine_pool_destroy(pool);
        _exit(rc == TINE_EFORKED ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    say("%d\n", status);
    say_that_it_serves(pool);
    tine_pool_destroy(pool);
}

/* ---- All of it ---- */

static const struct row rows[] = {
    {"results", results, EVERYWHERE, 0,
     "4, ran, gives 'dcba'\nEDOM, ran, 'number #'\n2, ran, gives 'yx'\n"},
    {"bad errors", bad_errors, EVERYWHERE, 0,
     "TINE_EBADCODE, ran, 'the function returned -#'\nEIO, a text of 183 bytes\n" SERVES},
    {"results in any order", any_order, EVERYWHERE, 0, "TINE_EEMPTY after all, 30 failed, 0 wrong, 0 twice\n"},
    {"large inputs and outputs", large, EVERYWHERE, 0, "3145728 bytes, 0 wrong\n"},
    {"several at a time", several, EVERYWHERE, 0,
     "1, ran, gives '1'\n2, ran, gives '21'\n3, ran, gives '321'\n4, ran, gives '4321'\n5, ran, gives '54321'\n"
     "TINE_EEMPTY 0\n"},
    {"window", window, EVERYWHERE, 0,
     "EAGAIN ETIMEDOUT\n20, ran\n20, ran\nEMSGSIZE EAGAIN 0\n"},
    {"callbacks", callbacks, EVERYWHERE, 0,
     "100 begun, 100 settled, 10 failed, 0 wrong\n100 begun, 100 settled, 10 failed, 0 wrong\n"},
    {"maps", maps, EVERYWHERE, 1,
#define MAP "TINE_EITEMS, 14 failed, 700 of 700, 0 wrong\n"
     MAP MAP MAP MAP MAP MAP MAP MAP},
    {"loops", loops, EVERYWHERE, 1, "0, 600 once\n"},
    {"first error", first_error, EVERYWHERE, 1, "TINE_EITEMS, 1 failed, 0 unaccounted for\n"},
    {"streams", streams, EVERYWHERE, 0,
     "TINE_EEMPTY after 700, 70 failed, 0 wrong; window kept: 1\nTINE_EEMPTY after 700, 70 failed, 0 wrong; window kept: 1\n"},
    {"shutdowns", shutdowns, EVERYWHERE, 0, "0 0 TINE_ESHUTDOWN, 10 taken\n"},
    {"busy shutdowns", busy_shutdowns, IN_WORKERS, 0,
     "EAGAIN ETIMEDOUT 1 ECANCELED, not started, 'cancelled before it began'\n0, ended\n"},
    {"counters", counters, EVERYWHERE, 1, "9 submitted, 9 settled, 0 outstanding, items 100 and 1\n"},
    {"event loops", event_loops, EVERYWHERE, 0, "50 0\n"},
    {"misuse", misuse, EVERYWHERE, 0,
     "3, ran, gives 'cba'\nTINE_EID TINE_EID TINE_EFUNCTION EINVAL TINE_EEMPTY 0\n" SERVES},
};

int main(int argc, char **argv)
{
    CHECK_RC(tine_register("turn_round", turn_round), 0);
    CHECK_RC(tine_register("named_square", named_square), 0);
    CHECK_RC(tine_init(argc, argv), 0);
    return show_all(rows, sizeof rows / sizeof rows[0], argc > 1 ? argv[1] : NULL);
}
