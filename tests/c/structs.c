/* Structs that grow: of whatever size the caller's is, from 1 byte to twice this version's, nothing is read or written beyond it.
 *
 * Each lies once so that its end is the end of a page, with no page behind it, and once in a block of malloc's of just its
 * size, for who runs this under a sanitizer. Its first field is a size_t, so it has that much memory at the least. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <tine.h>
#include <unistd.h>

#include "check.h"

enum { FIRST = sizeof(size_t), SHORTEST = 2 * FIRST, PAGE = 4096, UNTOUCHED = 0xA5 };

static char *page; /* with none before and behind it */

typedef struct {
    char *at;
    size_t size, room;
    bool in_block;
} place;

/* A caller's struct: what is known of it begins as `known`, what this version does not know as `rest`. */
static place make_place(size_t size, bool in_block, const void *known, size_t known_size, int rest)
{
    place made;
    made.size = size, made.in_block = in_block;
    made.room = size < FIRST ? (size_t)FIRST : size;
    memset(page, UNTOUCHED, PAGE);
    made.at = in_block ? (char *)malloc(made.room) : page + PAGE - made.room;
    CHECK(made.at);
    memset(made.at, rest, made.room);
    if (known) memcpy(made.at, known, made.room < known_size ? made.room : known_size);
    memcpy(made.at, &size, sizeof size);
    return made;
}

/* Looks at what lies before it; what lies behind it would have ended the program. */
static void end_place(place *made)
{
    size_t size;
    memcpy(&size, made->at, sizeof size);
    CHECK_EQ(size, made->size);
    if (made->in_block) {
        free(made->at);
    } else {
        for (char *byte = page; byte < made->at; byte++) CHECK_EQ((unsigned char)*byte, UNTOUCHED);
    }
}

/* What is written into an output: as many bytes of `whole` as fit, and zeros behind those that this version knows. Between two
 * fields, from `hole` to `hole_end`, anything may be. */
static void check_output(const char *name, const place *made, const void *whole, size_t known_size, size_t hole, size_t hole_end)
{
    const char *expected = (const char *)whole;
    for (size_t at = FIRST; at < made->room; at++) {
        int wanted = at < known_size ? expected[at] : 0;
        if (made->at[at] != wanted && !(hole <= at && at < hole_end)) {
            fprintf(stderr, "%s of %zu bytes: byte %zu is %d, not %d\n", name, made->size, at, made->at[at], wanted);
            exit(1);
        }
    }
}

static tine_pool *pool;
static tine_segment *segment;
static tine_heap *heap;
static tine_mutex mutex;
static tine_process *process;
static tine_id last;

static int seven(tine_task *task)
{
    char *out = (char *)tine_output(task, 16);
    if (out) memset(out, 7, 16);
    return out ? 7 : -ENOMEM;
}

/* ---- Outputs ---- */

static int fill_stats(void *out) { return tine_pool_stats(pool, (tine_stats *)out); }
static int fill_info(void *out) { return tine_heap_stats(heap, (tine_heap_info *)out); }
static int fill_owner(void *out) { return tine_mutex_owner(&mutex, (tine_owner *)out); }
static int fill_exit(void *out) { return tine_process_wait(process, TINE_FOREVER, (tine_exit *)out); }

static int fill_result(void *out)
{
    CHECK_RC(tine_submit(pool, seven, NULL, 0, NULL, &last), 0);
    int rc = tine_wait(pool, last, TINE_FOREVER, (tine_result *)out);
    if (rc) { /* refused: it is still to be had */
        tine_result whole = TINE_RESULT_INIT;
        CHECK_RC(tine_wait(pool, last, TINE_FOREVER, &whole), 0);
        tine_result_release(pool, &whole);
    } else {
        tine_result_release(pool, (tine_result *)out); /* whose id is in whatever is long enough */
        for (size_t at = FIRST; at < SHORTEST; at++) CHECK_EQ(((char *)out)[at], 0);
        CHECK_RC(tine_cancel(pool, last), TINE_EID);
    }
    return rc;
}

static int fill_error(void *out)
{
    tine_heap_options options = TINE_HEAP_OPTIONS_INIT;
    options.error = (tine_error *)out;
    tine_heap *none;
    CHECK_RC(tine_heap_create(NULL, &options, &none), -EINVAL);
    size_t size;
    memcpy(&size, out, sizeof size);
    return size < SHORTEST ? -EINVAL : 0; /* the error of a call that fails has no error of its own */
}

static void outputs(void)
{
    const struct {
        const char *name;
        size_t size;
        int (*fill)(void *out);
        size_t hole, hole_end;
        bool varies; /* from one call to the next: what is written is not compared */
    } all[] = {
        {"tine_stats", sizeof(tine_stats), fill_stats, 0, 0, false},
        {"tine_heap_info", sizeof(tine_heap_info), fill_info, 0, 0, false},
        {"tine_owner", sizeof(tine_owner), fill_owner, 0, 0, false},
        {"tine_exit", sizeof(tine_exit), fill_exit, offsetof(tine_exit, status) + sizeof(int), offsetof(tine_exit, message), false},
        {"tine_result", sizeof(tine_result), fill_result, 0, 0, true},
        {"tine_error", sizeof(tine_error), fill_error, offsetof(tine_error, text) + TINE_ERROR_TEXT, sizeof(tine_error), false},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char whole[1024] = {0};
        memcpy(whole, &all[i].size, sizeof all[i].size);
        CHECK_RC(all[i].fill(whole), 0);
        for (size_t size = 1; size <= 2 * all[i].size; size++) {
            for (int in_block = 0; in_block < 2; in_block++) {
                place made = make_place(size, in_block, NULL, 0, UNTOUCHED);
                CHECK_RC(all[i].fill(made.at), size < SHORTEST ? -EINVAL : 0);
                if (size < SHORTEST) {
                    for (size_t at = FIRST; at < made.room; at++) CHECK_EQ((unsigned char)made.at[at], UNTOUCHED);
                } else if (!all[i].varies) {
                    check_output(all[i].name, &made, whole, all[i].size, all[i].hole, all[i].hole_end);
                }
                end_place(&made);
            }
        }
    }
}

/* ---- Inputs: each is given to a call that refuses something else, after it has read all of it ---- */

static tine_pool *new_pool;
static int read_pool(void *in) { return tine_pool_create((const tine_pool_options *)in, NULL); }
static int read_submit(void *in) { return tine_submit(pool, NULL, NULL, 0, (const tine_submit_options *)in, NULL); }
static int read_map(void *in) { return tine_map(pool, NULL, NULL, 0, NULL, 0, 1, (const tine_map_options *)in); }
static int read_for(void *in) { return tine_for(pool, NULL, 0, 1, (const tine_map_options *)in); }
static int read_segment(void *in) { return tine_segment_create(4096, (const tine_segment_options *)in, NULL); }
static int read_heap(void *in) { return tine_heap_create(segment, (const tine_heap_options *)in, NULL); }
static int read_queue(void *in) { return tine_queue_create(pool, (const tine_queue_options *)in, NULL); }
static int read_channel(void *in) { return tine_channel_create((const tine_channel_options *)in, NULL, NULL); }

static int read_process(void *in)
{
    return tine_process_start((const tine_process_options *)in, NULL, NULL, 0, &process);
}

static int read_stream(void *in)
{
    tine_stream *stream;
    return tine_stream_create(pool, NULL, (const tine_stream_options *)in, &stream);
}

static int read_worker(void *in)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = (const tine_worker_options *)in;
    options.min_workers = 5000; /* more than there are workers */
    options.workers = 1;
    return tine_pool_create(&options, &new_pool);
}

static int read_faults(void *in)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.faults = (const tine_faults *)in;
    options.min_workers = 5000; /* more than there are workers */
    options.workers = 1;
    return tine_pool_create(&options, &new_pool);
}

static int read_death(void *in) { return tine_death_print((const tine_death *)in, -1); }

/* Reads, writes what it remembers, and has no code. */
static int use_progress(void *in)
{
    tine_progress_bar(1, 100, in);
    return -EINVAL;
}

static void inputs(void)
{
    tine_error error = TINE_ERROR_INIT;
    const struct {
        const char *name;
        size_t size;
        int (*read)(void *in);
        int rc;
        bool has_error, is_refused;
    } all[] = {
        {"tine_pool_options", sizeof(tine_pool_options), read_pool, -EINVAL, true, true},
        {"tine_worker_options", sizeof(tine_worker_options), read_worker, -EINVAL, false, true},
        {"tine_faults", sizeof(tine_faults), read_faults, -EINVAL, false, true},
        {"tine_submit_options", sizeof(tine_submit_options), read_submit, TINE_EFUNCTION, true, true},
        {"tine_map_options", sizeof(tine_map_options), read_map, TINE_EFUNCTION, true, true},
        {"tine_map_options", sizeof(tine_map_options), read_for, TINE_EFUNCTION, true, true},
        {"tine_stream_options", sizeof(tine_stream_options), read_stream, TINE_EFUNCTION, true, true},
        {"tine_process_options", sizeof(tine_process_options), read_process, TINE_EFUNCTION, true, true},
        {"tine_segment_options", sizeof(tine_segment_options), read_segment, -EINVAL, true, true},
        {"tine_heap_options", sizeof(tine_heap_options), read_heap, -EINVAL, true, true},
        {"tine_queue_options", sizeof(tine_queue_options), read_queue, -EINVAL, true, true},
        {"tine_channel_options", sizeof(tine_channel_options), read_channel, -EINVAL, true, true},
        {"tine_death", sizeof(tine_death), read_death, -EBADF, false, true},
        {"tine_progress", sizeof(tine_progress), use_progress, -EINVAL, false, false},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char known[1024] = {0};
        tine_error *where = all[i].has_error ? &error : NULL;
        memcpy(known + FIRST, &where, sizeof where);
        for (size_t size = 1; size <= 2 * all[i].size; size++) {
            /* A zero tail is what a later version has not been told; any other is something that this one does not know. */
            for (int variant = 0; variant < 4; variant++) {
                bool tail = variant >= 2 && size > all[i].size && all[i].is_refused;
                place made = make_place(size, variant % 2, known, all[i].size, tail ? 1 : 0);
                error.code = 0;
                int wanted = size < SHORTEST ? -EINVAL : tail ? -E2BIG : all[i].rc;
                int rc = all[i].read(made.at);
                if (rc != wanted) {
                    fprintf(stderr, "%s of %zu bytes: %s: %s\n", all[i].name, size, tine_errname(rc), error.text);
                    exit(1);
                }
                if (all[i].has_error) CHECK_RC(error.code, size < SHORTEST ? 0 : wanted);
                end_place(&made);
            }
        }
    }
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    char *pages = (char *)mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != (char *)MAP_FAILED);
    page = pages + PAGE;
    CHECK_EQ(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);

    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.flags = TINE_INLINE;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_segment_create(1 << 20, NULL, &segment), 0);
    CHECK_RC(tine_heap_create(segment, NULL, &heap), 0);
    CHECK_RC(tine_mutex_lock(&mutex, 0), 0);
    CHECK_RC(tine_process_start(NULL, seven, NULL, 0, &process), 0);
    outputs();
    tine_process_close(process);
    inputs();
    CHECK_RC(tine_mutex_unlock(&mutex), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(segment), 0);
    tine_pool_destroy(pool);
    return 0;
}
