/* What the rows of same_everywhere.c are made with: pools of every kind, and a place where it is written down what a host
 * sees of them. */
#ifndef SAME_EVERYWHERE_H
#define SAME_EVERYWHERE_H

#include "family.h"
#include <stdarg.h>

#define MS ((int64_t)1000000)

/* How a pool is made. */
struct way {
    const char *name;
    int start;
    uint32_t flags;
    size_t workers, chunk;
};

/* ---- What is said ---- */

static char said[8192];

static void say(const char *format, ...)
{
    size_t used = strlen(said);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(said + used, sizeof said - used, format, arguments);
    va_end(arguments);
    CHECK(length >= 0 && (size_t)length < sizeof said - used);
}

/* A code by its name, a success as the number that it is. */
static void say_code(int code)
{
    if (code < 0) {
        say("%s", tine_errname(code));
    } else {
        say("%d", code);
    }
}

/* Numbers of processes are nobody's promise. */
static void say_text(const char *text)
{
    char copy[512];
    size_t length = 0;
    for (const char *at = text; *at && length < sizeof copy - 1; at++) {
        int is_digit = *at >= '0' && *at <= '9';
        if (is_digit && length > 0 && copy[length - 1] == '#') {
            continue;
        }
        copy[length++] = is_digit ? '#' : *at;
    }
    copy[length] = 0;
    say("'%s'", copy);
}

static void say_result(const tine_result *result)
{
    static const char *const delivery[] = {"ran", "not started", "may have run"};
    say_code(result->status);
    say(", %s", delivery[result->delivery]);
    if (result->message[0]) {
        say(", ");
        say_text(result->message);
    }
    if (result->death) {
        say(", signal %d code %d", result->death->signal, result->death->code);
    }
    if (result->length > 0 && result->length < 20) {
        say(", gives '%.*s'", (int)result->length, (const char *)result->data);
    }
    say("\n");
}

/* ---- Pools and tasks ---- */

static tine_pool *open_pool(const struct way *way, const tine_pool_options *given)
{
    tine_pool_options defaults = TINE_POOL_OPTIONS_INIT, options = given ? *given : defaults;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    options.error = &error;
    options.workers = way->workers;
    options.start = way->start;
    options.flags |= way->flags;
    int rc = tine_pool_create(&options, &pool);
    if (rc) {
        say_code(rc);
        say(", ");
        say_text(error.text);
        say("\n");
    }
    return pool;
}

static tine_id submit(tine_pool *pool, tine_fn fn, const void *input, size_t length, const tine_submit_options *options)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, fn, input, length, options, &id), 0);
    return id;
}

/* Waits for a task and says what came of it. */
static void say_task(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    say_result(&result);
    tine_result_release(pool, &result);
}

static int turn_round(tine_task *task)
{
    size_t length;
    const char *in = (const char *)tine_input(task, &length);
    char *out = (char *)tine_output(task, length);
    for (size_t i = 0; i < length; i++) {
        out[i] = in[length - 1 - i];
    }
    return (int)length;
}

static void say_that_it_serves(tine_pool *pool)
{
    say_task(pool, submit(pool, turn_round, "sevres", 6, NULL));
}

/* A name and what goes with it. */
struct job {
    int *word; /* in the heap */
    int number;
    char what;
};

/* Says that it has begun, and goes on until it is let go ('h'), or asked to end ('p'), or for ever ('i'). */
static int stays(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    if (job->what == 'i') {
        signal(SIGTERM, SIG_IGN);
    }
    __atomic_add_fetch(&job->word[0], 1, __ATOMIC_SEQ_CST);
    while (job->what == 'i' || !__atomic_load_n(&job->word[1], __ATOMIC_SEQ_CST)) {
        if (job->what == 'p' && tine_cancelled(task)) {
            return tine_fail(task, -EINTR, "as it was asked to");
        }
        nap_ns(50000);
    }
    return job->number;
}

static int *make_words(tine_pool *pool)
{
    int *words = (int *)tine_calloc(pool, 2, sizeof *words);
    CHECK(words);
    return words;
}

/* Every worker has something to do until words[1] is set. */
static void occupy(tine_pool *pool, const struct way *way, int *words, tine_id *ids)
{
    struct job job = {words, 1, 'h'};
    for (size_t i = 0; i < way->workers; i++) {
        ids[i] = submit(pool, stays, &job, sizeof job, NULL);
    }
    WAIT_UNTIL(tine_pool_poll(pool) == 0 && __atomic_load_n(&words[0], __ATOMIC_SEQ_CST) == (int)way->workers);
}

static void let_go(tine_pool *pool, const struct way *way, int *words, const tine_id *ids)
{
    __atomic_store_n(&words[1], 1, __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < way->workers; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK_RC(tine_wait(pool, ids[i], HANG_NS, &result), 0);
        CHECK_EQ(result.status, 1);
    }
}

static int square(tine_task *task)
{
    int n = *(const int *)tine_input(task, NULL), *out = (int *)tine_output(task, sizeof *out);
    CHECK(out);
    *out = n * n;
    return n % 10 == 9 ? -ERANGE : n;
}

static int item_square(tine_task *task, const void *in, void *out)
{
    int n = *(const int *)in, bonus = *(const int *)tine_context(task, NULL);
    *(int *)out = n * n + bonus;
    CHECK_EQ(tine_task_id(task), n);
    return n % 100 == 13 ? tine_fail(task, -EDOM, "item %d", n) : n % 100 == 50 ? -70000 : n;
}

/* ---- Rows ---- */

#define SERVES "6, ran, gives 'serves'\n"

enum { EVERYWHERE, IN_WORKERS };

/* What is promised, who shows it, whether it takes workers, whether pieces have to do with it, and what is to be said. */
struct row {
    const char *name;
    void (*show)(const struct way *way);
    int where, has_chunks;
    const char *expected;
};

/* Shows the rows, or the one that is named, in every way; what main returns. */
static int show_all(const struct row *rows, size_t count, const char *name)
{
    static const size_t chunks[] = {0, 1, 7};
    int shown = 0, failed = 0;
    for (const struct row *row = rows; row < rows + count; row++) {
        for (int start = 0; start < (row->where == EVERYWHERE ? 4 : 3) && (!name || strcmp(name, row->name) == 0); start++) {
            int inlined = start == 3;
            for (size_t workers = 1; workers <= (inlined ? 1 : 3); workers += 2) {
                for (int chunk = 0; chunk < (row->has_chunks ? 3 : 1); chunk++) {
                    struct way way = {inlined ? "inline" : start_name(all_starts[start]), inlined ? TINE_START_FORKSERVER : all_starts[start],
                                      inlined ? (uint32_t)TINE_INLINE : 0, workers, chunks[chunk]};
                    said[0] = 0;
                    row->show(&way);
                    shown++;
                    if (strcmp(said, row->expected) != 0) {
                        failed++;
                        fprintf(stderr, "%s, %s, %d workers, chunk %d:\n%sand not\n%s", row->name, way.name, (int)workers,
                                (int)way.chunk, said, row->expected);
                    }
                }
            }
        }
    }
    printf("%d rows, shown %d times\n", (int)count, shown);
    return failed != 0 || shown == 0;
}

#endif
