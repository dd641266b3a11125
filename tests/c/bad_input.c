/* What bad input gets: a code with a name, words that name the thing and its value, and nothing lost or half done.
   After each bad call the pool's counters are what they were, and a good task still works. */
#include <tine.h>
#include "check.h"
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static tine_pool *pool;

/* ---- Functions of the workers ---- */

static int answer(tine_task *task)
{
    int *out = (int *)tine_output(task, sizeof *out);
    *out = 42;
    return 7;
}

static int one_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    (void)in;
    (void)out;
    return 0;
}

static int one_piece(tine_task *task, size_t begin, size_t end)
{
    (void)task;
    return begin <= end ? 0 : -EINVAL;
}

/* Runs until the host lets it: a word in the heap. */
static int until_told(tine_task *task)
{
    int *go = *(int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(go, __ATOMIC_ACQUIRE))
        usleep(200);
    return 0;
}

/* Fails with what the host's calls say in here. */
static int host_calls(tine_task *task)
{
    tine_pool *mine = tine_task_pool(task);
    tine_stats stats = TINE_STATS_INIT;

    CHECK_RC(tine_pool_fd(mine), TINE_EWORKER);
    CHECK_RC(tine_pool_stats(mine, &stats), TINE_EWORKER);
    CHECK_RC(tine_pool_shutdown(mine, 0), TINE_EWORKER);
    tine_pool_destroy(mine); /* not the worker's to destroy */
    return tine_task_pool(task) == mine ? 0 : -EINVAL;
}

static int is_registered(tine_task *task)
{
    return tine_task_id(task) != 0 ? 11 : -EINVAL;
}

/* ---- What must stay as it was ---- */

static void same_as_before(const tine_stats *before, const char *file, int line)
{
    tine_stats now = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &now), 0);
    if (now.submitted != before->submitted || now.settled != before->settled || now.outstanding != before->outstanding
        || now.worker_deaths != before->worker_deaths || now.supervisor_deaths != before->supervisor_deaths
        || now.heap_allocated_bytes != before->heap_allocated_bytes) {
        fprintf(stderr, "%s:%d: the pool has changed: submitted %llu -> %llu, settled %llu -> %llu, outstanding %llu -> "
                "%llu, deaths %llu -> %llu, heap %llu -> %llu\n", file, line,
                (unsigned long long)before->submitted, (unsigned long long)now.submitted,
                (unsigned long long)before->settled, (unsigned long long)now.settled,
                (unsigned long long)before->outstanding, (unsigned long long)now.outstanding,
                (unsigned long long)before->worker_deaths, (unsigned long long)now.worker_deaths,
                (unsigned long long)before->heap_allocated_bytes, (unsigned long long)now.heap_allocated_bytes);
        exit(1);
    }
}

/* A call that must fail with this code and change nothing. */
#define REFUSED(call, expected)                                                              \
    do {                                                                                     \
        tine_stats before_ = TINE_STATS_INIT;                                                \
        CHECK_RC(tine_pool_stats(pool, &before_), 0);                                        \
        CHECK_RC(call, expected);                                                            \
        same_as_before(&before_, __FILE__, __LINE__);                                        \
    } while (0)

/* The same, where the error's text must contain these words. */
#define REFUSED_SAYING(call, expected, words)                                                \
    do {                                                                                     \
        tine_error blank_ = TINE_ERROR_INIT;                                                 \
        error = blank_;                                                                      \
        REFUSED(call, expected);                                                             \
        CHECK_EQ(error.code, expected);                                                      \
        if (!strstr(error.text, words)) {                                                    \
            fprintf(stderr, "%s:%d: \"%s\" does not say \"%s\"\n", __FILE__, __LINE__, error.text, words); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

static void works(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK(id != 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.status, 7);
    CHECK_EQ(result.length, sizeof(int));
    CHECK_EQ(*(const int *)result.data, 42);
    tine_result_release(pool, &result);
    CHECK_EQ(result.id, 0);
    CHECK_EQ(result.size, sizeof result);
}

/* ---- Pools ---- */

static void pools(void)
{
    static tine_error error;
    tine_pool *out = NULL;
    tine_pool_options good = TINE_POOL_OPTIONS_INIT, options;
    good.error = &error;
    good.workers = 1;

    REFUSED(tine_pool_create(NULL, NULL), -EINVAL);
    options = good;
    REFUSED_SAYING(tine_pool_create(&options, NULL), -EINVAL, "out is NULL");
    options.workers = 100000;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "100000");
    options.workers = SIZE_MAX;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "workers");
    options = good;
    options.start = 3;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "start is 3");
    options.start = -1;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "start is -1");
    options = good;
    options.flags = 1u << 30 | TINE_NO_THREAD;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "0x40000000");
    options = good;
    options.heap_bytes = 1;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "heap_bytes is 1");
    options.heap_bytes = SIZE_MAX;
    REFUSED_SAYING(tine_pool_create(&options, &out), -ENOMEM, "heap_bytes is 18446744073709551615");
    options = good;
    options.initializer = answer;
    options.initializer_length = 4;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "initializer_input is NULL");
    options.initializer_input = "four";
    options.initializer_length = SIZE_MAX;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "initializer_input");
    options.initializer = NULL;
    options.initializer_length = 4;
    REFUSED_SAYING(tine_pool_create(&options, &out), -EINVAL, "initializer_input is given without an initializer");
    options = good;
    CHECK(out == NULL);

    /* Sizes: too small for its first fields, beyond all reason. */
    static const size_t sizes[] = {0, 1, 8, 15, 65537, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        options = good;
        options.size = sizes[i];
        REFUSED(tine_pool_create(&options, &out), -EINVAL);
    }
    /* Shorter: what is missing is zero. One that ends behind .workers knows no flags yet. */
    options = good;
    options.size = offsetof(tine_pool_options, start);
    options.start = 77;
    options.flags = ~0u;
    CHECK_RC(tine_pool_create(&options, &out), 0);
    tine_pool_destroy(out);
    out = NULL;
    /* Longer: of a later version. Its fields may be there, but nothing in them. */
    struct {
        tine_pool_options known;
        char unknown[40];
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.known = good;
    longer.known.size = sizeof longer;
    CHECK_RC(tine_pool_create(&longer.known, &out), 0);
    tine_pool_destroy(out);
    out = NULL;
    longer.unknown[33] = 1;
    REFUSED(tine_pool_create(&longer.known, &out), -E2BIG);
    CHECK(out == NULL);

    /* An error whose own size is garbage is left alone. */
    tine_error strange = TINE_ERROR_INIT;
    strange.size = 3;
    strange.code = 99;
    options = good;
    options.workers = 100000;
    options.error = &strange;
    REFUSED(tine_pool_create(&options, &out), -EINVAL);
    CHECK_EQ(strange.code, 99);

    REFUSED(tine_pool_shutdown(NULL, 0), -EINVAL);
    REFUSED(tine_pool_fd(NULL), -EINVAL);
    REFUSED(tine_pool_poll(NULL), -EINVAL);
    tine_pool_destroy(NULL);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(NULL, &stats), -EINVAL);
    CHECK_RC(tine_pool_stats(pool, NULL), -EINVAL);
    stats.size = 7;
    CHECK_RC(tine_pool_stats(pool, &stats), -EINVAL);
    works();
}

/* ---- Functions ---- */

static void functions(void)
{
    static tine_error error;
    static int data;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id = 99;
    tine_fn not_code;
    void *address = &data;
    options.error = &error;
    memcpy(&not_code, &address, sizeof not_code);

    REFUSED_SAYING(tine_submit(pool, NULL, NULL, 0, &options, &id), TINE_EFUNCTION, "fn is NULL");
    REFUSED(tine_submit(pool, NULL, NULL, 0, NULL, &id), TINE_EFUNCTION);
    REFUSED_SAYING(tine_submit(pool, not_code, NULL, 0, &options, &id), TINE_EFUNCTION, "0x");
    address = malloc(64);
    memcpy(&not_code, &address, sizeof not_code);
    REFUSED_SAYING(tine_submit(pool, not_code, NULL, 0, &options, &id), TINE_EFUNCTION, "0x");
    free(address);
    options.name = "registered";
    REFUSED_SAYING(tine_submit(pool, answer, NULL, 0, &options, &id), -EINVAL, "both");
    options.name = "nobody";
    REFUSED_SAYING(tine_submit(pool, NULL, NULL, 0, &options, &id), TINE_ENAME, "nobody");
    options.name = "";
    REFUSED(tine_submit(pool, NULL, NULL, 0, &options, &id), TINE_ENAME);
    options.name = "\xff\xfe";
    REFUSED_SAYING(tine_submit(pool, NULL, NULL, 0, &options, &id), TINE_ENAME, "UTF-8");
    CHECK_EQ(id, 99);
    options.name = "registered";
    CHECK_RC(tine_submit(pool, NULL, NULL, 0, &options, &id), 0);
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.status, 11);

    /* A function of a library that the workers have not loaded, because it came after them. */
    const char *path = getenv("TINE_TEST_LIBRARY");
    CHECK(path != NULL);
    void *library = dlopen(path, RTLD_LAZY);
    CHECK(library != NULL);
    tine_fn strange;
    address = dlsym(library, "lib_triple");
    CHECK(address != NULL);
    memcpy(&strange, &address, sizeof strange);
    options.name = NULL;
    REFUSED_SAYING(tine_submit(pool, strange, NULL, 0, &options, &id), TINE_EMODULE, "functions.so");
    tine_item_fn strange_item;
    address = dlsym(library, "lib_twice");
    memcpy(&strange_item, &address, sizeof strange_item);
    int item = 1, doubled = 5;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    map.error = &error;
    REFUSED_SAYING(tine_map(pool, strange_item, &item, 4, &doubled, 4, 1, &map), TINE_EMODULE, "functions.so");
    CHECK_EQ(doubled, 5);
    works();

    /* Names: they were registered in main, before tine_init. */
    CHECK_RC(tine_register("late", answer), TINE_ELATE);
    CHECK_RC(tine_register("registered", answer), TINE_ELATE);
    CHECK_RC(tine_register(NULL, answer), -EINVAL);
}

/* ---- Tasks ---- */

static void submits(void)
{
    static tine_error error;
    static char bytes[4096];
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id = 99;
    options.error = &error;

    REFUSED(tine_submit(NULL, answer, NULL, 0, NULL, &id), -EINVAL);
    REFUSED_SAYING(tine_submit(NULL, answer, NULL, 0, &options, &id), -EINVAL, "pool is NULL");
    REFUSED_SAYING(tine_submit(pool, answer, NULL, 1, &options, &id), -EINVAL, "input is NULL");
    REFUSED_SAYING(tine_submit(pool, answer, bytes, SIZE_MAX, &options, &id), -EINVAL, "18446744073709551615");
    options.flags = 4;
    REFUSED_SAYING(tine_submit(pool, answer, NULL, 0, &options, &id), -EINVAL, "0x4");
    options.flags = 0;
    options.retries = 3;
    REFUSED_SAYING(tine_submit(pool, answer, NULL, 0, &options, &id), -EINVAL, "retries is 3, but flags lack TINE_IDEMPOTENT");
    options.retries = 0;
    static const size_t sizes[] = {0, 1, 15, 65537, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        options.size = sizes[i];
        REFUSED(tine_submit(pool, answer, NULL, 0, &options, &id), -EINVAL);
    }
    struct {
        tine_submit_options known;
        size_t unknown;
    } longer;
    memset(&longer, 0, sizeof longer);
    longer.known.size = sizeof longer;
    longer.known.error = &error;
    longer.unknown = 1;
    REFUSED(tine_submit(pool, answer, NULL, 0, &longer.known, &id), -E2BIG);

    /* An input that begins in the heap and reaches beyond it. */
    options.size = sizeof options;
    char *block = (char *)tine_alloc(pool, 64);
    CHECK(block != NULL);
    REFUSED_SAYING(tine_submit(pool, answer, block, (size_t)200 << 30, &options, &id), -EFAULT, "heap");
    REFUSED_SAYING(tine_submit(pool, answer, block, (size_t)8 << 30, &options, &id), -EFAULT, "heap");
    tine_free(pool, block);
    CHECK_EQ(id, 99);
    works();
}

static void ids(void)
{
    tine_result result = TINE_RESULT_INIT, untouched;
    tine_id id = 0, gone;
    memset(&untouched, 0, sizeof untouched);

    static const tine_id garbage[] = {0, 1, 0xffffffffu, (tine_id)1 << 32, UINT64_MAX, 0x100000001u ^ 0x40000000u};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        REFUSED(tine_wait(pool, garbage[i], TINE_FOREVER, &result), TINE_EID);
        REFUSED(tine_cancel(pool, garbage[i]), TINE_EID);
    }
    CHECK_EQ(result.id, 0);
    REFUSED(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY);
    REFUSED(tine_next(pool, 0, &result), TINE_EEMPTY);
    REFUSED(tine_wait(pool, 1, 0, NULL), -EINVAL);
    REFUSED(tine_next(pool, 0, NULL), -EINVAL);
    REFUSED(tine_wait(NULL, 1, 0, &result), -EINVAL);
    REFUSED(tine_next(NULL, 0, &result), -EINVAL);
    REFUSED(tine_cancel(NULL, 1), -EINVAL);

    /* A result with a wrong size is refused before the task's result is taken. */
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    result.size = 1;
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), -EINVAL);
    CHECK_RC(tine_next(pool, TINE_FOREVER, &result), -EINVAL);
    result.size = sizeof result;
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.id, id);

    /* Taken: the id is no good any more, whatever for, though its result is still there to be looked at. */
    gone = id;
    tine_result second = TINE_RESULT_INIT;
    REFUSED(tine_wait(pool, gone, TINE_FOREVER, &second), TINE_EID);
    REFUSED(tine_cancel(pool, gone), TINE_EID);
    CHECK_EQ(*(const int *)result.data, 42);
    /* Released: once, again, and a copy of it. */
    tine_result copy = result;
    tine_result_release(pool, &result);
    REFUSED(tine_wait(pool, gone, TINE_FOREVER, &second), TINE_EID);
    REFUSED(tine_cancel(pool, gone), TINE_EID);
    tine_result_release(pool, &result);
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK(id != gone);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    tine_result_release(pool, &copy); /* stale: does not release the new one, though it may be in the same place */
    CHECK_EQ(*(const int *)result.data, 42);
    tine_result_release(pool, &result);

    tine_result zero = TINE_RESULT_INIT;
    tine_result_release(pool, &zero);
    tine_result_release(pool, NULL);
    tine_result_release(NULL, &zero);
    tine_result_release(NULL, NULL);
    zero.size = 1;
    tine_result_release(pool, &zero);
    zero.size = sizeof zero;
    zero.id = 12345;
    tine_result_release(pool, &zero);
    CHECK_EQ(zero.id, 0);

    /* A result of another length: the known part is filled, what this version does not know is zeroed. */
    struct {
        tine_result known;
        char unknown[24];
    } longer;
    memset(&longer, 0xee, sizeof longer);
    longer.known.size = sizeof longer;
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &longer.known), 0);
    CHECK_EQ(longer.known.size, sizeof longer);
    CHECK_EQ(longer.known.status, 7);
    for (size_t i = 0; i < sizeof longer.unknown; i++)
        CHECK_EQ(longer.unknown[i], 0);
    tine_result_release(pool, &longer.known);
    tine_result shorter;
    memset(&shorter, 0xee, sizeof shorter);
    shorter.size = offsetof(tine_result, data);
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &shorter), 0);
    CHECK_EQ(shorter.status, 7);
    CHECK_EQ(((unsigned char *)&shorter.data)[0], 0xee);
    tine_result_release(pool, &shorter);
    CHECK_EQ(shorter.id, 0);
    works();
}

/* ---- Maps ---- */

static void maps(void)
{
    static tine_error error;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int in[4] = {1, 2, 3, 4}, out[4] = {9, 9, 9, 9}, status[4] = {8, 8, 8, 8};
    options.error = &error;
    options.status = status;

    REFUSED_SAYING(tine_map(NULL, one_item, in, 4, out, 4, 4, &options), -EINVAL, "pool is NULL");
    REFUSED_SAYING(tine_map(pool, one_item, NULL, 4, out, 4, 4, &options), -EINVAL, "in is NULL");
    REFUSED_SAYING(tine_map(pool, one_item, in, 0, out, 4, 4, &options), -EINVAL, "in_stride is 0");
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 0, 4, &options), -EINVAL, "out_stride is 0");
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, NULL, 4, 4, &options), -EINVAL, "out is NULL");
    REFUSED_SAYING(tine_map(pool, NULL, in, 4, out, 4, 4, &options), TINE_EFUNCTION, "fn is NULL");
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, SIZE_MAX, &options), -EOVERFLOW, "18446744073709551615");
    REFUSED_SAYING(tine_map(pool, one_item, in, SIZE_MAX, NULL, 0, 2, &options), -EOVERFLOW, "in");
    REFUSED_SAYING(tine_map(pool, one_item, in, 1, out, SIZE_MAX / 2, 4, &options), -EOVERFLOW, "out");
    options.name = "nobody";
    REFUSED_SAYING(tine_map(pool, NULL, in, 4, out, 4, 4, &options), TINE_ENAME, "nobody");
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EINVAL, "both");
    options.name = NULL;
    options.context_length = 3;
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EINVAL, "context is NULL");
    options.context = "abc";
    options.context_length = SIZE_MAX;
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EINVAL, "context");
    options.context_length = 0;
    static const size_t sizes[] = {0, 1, 15, 65537, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        options.size = sizes[i];
        REFUSED(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EINVAL);
    }
    options.size = sizeof options;

    /* Arrays and a context that begin in the heap and reach beyond it. */
    char *block = (char *)tine_alloc(pool, 4096);
    CHECK(block != NULL);
    REFUSED_SAYING(tine_map(pool, one_item, block, 4096, out, 4, (size_t)1 << 24, &options), -EFAULT, "in at 0x");
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, block, (size_t)1 << 36, 4, &options), -EFAULT, "out at 0x");
    options.context = block;
    options.context_length = (size_t)1 << 36;
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EFAULT, "context at 0x");
    options.context = NULL;
    options.context_length = 0;
    tine_free(pool, block);

    REFUSED_SAYING(tine_for(NULL, one_piece, 0, 1, &options), -EINVAL, "pool is NULL");
    REFUSED_SAYING(tine_for(pool, NULL, 0, 1, &options), TINE_EFUNCTION, "fn is NULL");
    REFUSED_SAYING(tine_for(pool, one_piece, 5, 4, &options), -EINVAL, "4");
    REFUSED(tine_for(pool, one_piece, SIZE_MAX, 0, NULL), -EINVAL);
    options.name = "registered";
    REFUSED_SAYING(tine_for(pool, one_piece, 0, 1, &options), -EINVAL, ".name");
    REFUSED(tine_for(pool, NULL, 0, 1, &options), -EINVAL);
    options.name = NULL;
    options.chunk_bytes = 64;
    REFUSED_SAYING(tine_for(pool, one_piece, 0, 1, &options), -EINVAL, "chunk_bytes is 64");
    options.chunk_bytes = 0;
    options.retries = 1;
    REFUSED_SAYING(tine_for(pool, one_piece, 0, 1, &options), -EINVAL, "retries is 1");
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EINVAL, "retries is 1");
    options.retries = 0;
    options.flags = 1u << 19;
    REFUSED_SAYING(tine_map(pool, one_item, in, 4, out, 4, 4, &options), -EINVAL, "0x80000");
    options.flags = 0;
    tine_stream *stream = NULL;
    tine_stream_options items = TINE_STREAM_OPTIONS_INIT;
    items.error = &error;
    items.retries = 1;
    REFUSED_SAYING(tine_stream_create(pool, answer, &items, &stream), -EINVAL, "retries is 1");
    items.flags = TINE_IDEMPOTENT;
    REFUSED_SAYING(tine_stream_create(pool, answer, &items, NULL), -EINVAL, "out is NULL");
    CHECK(!stream);
    /* A call that fails with a text hands it over, whatever has failed. */
    tine_segment_options segment = TINE_SEGMENT_OPTIONS_INIT;
    segment.error = &error;
    REFUSED_SAYING(tine_segment_create(1, &segment, NULL), -EINVAL, "out is NULL");
    segment.flags = TINE_INTERRUPTIBLE; /* what is one object's flag is none of another's */
    tine_segment *none = NULL;
    REFUSED_SAYING(tine_segment_create(1, &segment, &none), -EINVAL, "0x1");
    tine_heap_options heap = TINE_HEAP_OPTIONS_INIT;
    heap.error = &error;
    REFUSED_SAYING(tine_heap_create(NULL, &heap, NULL), -EINVAL, "out is NULL");

    for (int i = 0; i < 4; i++) {
        CHECK_EQ(out[i], 9);
        CHECK_EQ(status[i], 8);
    }
    /* Nothing to do is not bad input. */
    REFUSED(tine_map(pool, one_item, NULL, 4, NULL, 0, 0, &options), 0);
    REFUSED(tine_map(pool, one_item, in, 4, out, 4, 0, NULL), 0);
    REFUSED(tine_for(pool, one_piece, 3, 3, &options), 0);
    REFUSED(tine_for(pool, one_piece, SIZE_MAX, SIZE_MAX, NULL), 0);
    /* Nor is a range at the end of all numbers. */
    CHECK_RC(tine_for(pool, one_piece, SIZE_MAX - 5, SIZE_MAX, NULL), 0);
    CHECK_RC(tine_map(pool, one_item, in, 4, out, 4, 4, &options), 0);
    CHECK_EQ(status[3], 0);
    works();
}

/* ---- In a task ---- */

static int odd_calls(tine_task *task)
{
    size_t length = 77;
    CHECK(tine_input(NULL, &length) == NULL);
    CHECK(tine_context(NULL, NULL) == NULL);
    CHECK(tine_context(task, &length) == NULL);
    CHECK_EQ(length, 0);
    CHECK(tine_output(NULL, 4) == NULL);
    CHECK(tine_output(task, SIZE_MAX) == NULL);
    CHECK(tine_output(task, SIZE_MAX / 2) == NULL);
    CHECK(tine_task_pool(NULL) == NULL);
    CHECK_EQ(tine_task_id(NULL), 0);
    CHECK_EQ(tine_fail(NULL, -EIO, "nobody"), -EIO);
    CHECK(tine_alloc(tine_task_pool(task), SIZE_MAX) == NULL);
    CHECK(tine_alloc(NULL, 1) == NULL);
    tine_free(tine_task_pool(task), task);
    tine_free(NULL, task);
    return 5;
}

static int run(tine_fn fn, const void *input, size_t length)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    int status;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    status = result.status;
    if (status < 0)
        fprintf(stderr, "%s\n", result.message);
    tine_result_release(pool, &result);
    return status;
}

static void in_tasks(void)
{
    CHECK_RC(run(host_calls, NULL, 0), 0);
    CHECK_EQ(run(odd_calls, NULL, 0), 5);
    works();
}

/* ---- Memory ---- */

static void memory(void)
{
    int local = 3;
    tine_stats before = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &before), 0);
    CHECK(tine_alloc(NULL, 1) == NULL);
    CHECK(tine_alloc(pool, SIZE_MAX) == NULL);
    CHECK(tine_alloc(pool, SIZE_MAX / 2) == NULL);
    CHECK(tine_alloc(pool, (size_t)1 << 45) == NULL);
    tine_free(pool, NULL);
    tine_free(NULL, NULL);
    tine_free(NULL, &local);
    tine_free(pool, &local);
    tine_free(pool, (void *)8);
    tine_free(pool, (void *)UINTPTR_MAX);
    same_as_before(&before, __FILE__, __LINE__);

    /* Not the start of a block, a block twice, the heap's own words, what was never handed out. */
    static const size_t sizes[] = {0, 1, 16, 100, 5000, 65536, 65537, 1000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = (char *)tine_alloc(pool, sizes[i]);
        CHECK(block != NULL && (uintptr_t)block % 16 == 0);
        memset(block, 0x55, sizes[i]);
        tine_stats with = TINE_STATS_INIT;
        CHECK_RC(tine_pool_stats(pool, &with), 0);
        CHECK(with.heap_allocated_bytes >= before.heap_allocated_bytes + sizes[i]);
        tine_free(pool, block + 1);
        tine_free(pool, block + 16);
        tine_free(pool, block - 16);
        tine_free(pool, block + ((size_t)1 << 35));
        if (sizes[i] <= 65536) /* the heap's own words, in front of the blocks */
            tine_free(pool, (void *)((uintptr_t)block & ~(uintptr_t)65535));
        for (size_t at = 0; at < sizes[i]; at++)
            CHECK_EQ(block[at], 0x55);
        if (sizes[i] > 65536) /* 16 bytes beside a small block there may be another */
            same_as_before(&with, __FILE__, __LINE__);
        tine_free(pool, block);
        tine_free(pool, block);
        same_as_before(&before, __FILE__, __LINE__);
    }
    works();
}

/* ---- Full windows and full heaps ---- */

static void windows(void)
{
    static tine_error error;
    static char bytes[1001];
    tine_pool *outer = pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id = 99;
    options.workers = 1;
    options.window_tasks = 3;
    options.window_bytes = 1000;
    submit.error = &error;
    CHECK_RC(tine_pool_create(&options, &pool), 0);

    REFUSED_SAYING(tine_submit(pool, answer, bytes, 1001, &submit, &id), -EMSGSIZE, "1001");
    CHECK_RC(tine_submit(pool, answer, bytes, 1000, &submit, NULL), 0);
    while (tine_pool_poll(pool) == 0)
        ;
    /* Settled, but not taken: it counts. */
    REFUSED(tine_submit(pool, answer, bytes, 1, &submit, &id), -EAGAIN);
    submit.timeout_ns = 1000000;
    REFUSED(tine_submit(pool, answer, bytes, 1, &submit, &id), -ETIMEDOUT);
    submit.timeout_ns = 0;
    CHECK_RC(tine_submit(pool, answer, NULL, 0, &submit, NULL), 0);
    CHECK_RC(tine_submit(pool, answer, NULL, 0, &submit, NULL), 0);
    while (tine_pool_poll(pool) < 3)
        ;
    REFUSED(tine_submit(pool, answer, NULL, 0, &submit, &id), -EAGAIN);
    submit.timeout_ns = 1;
    REFUSED(tine_submit(pool, answer, NULL, 0, &submit, &id), -ETIMEDOUT);
    CHECK_EQ(id, 99);
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
        CHECK_EQ(result.status, 7);
        tine_result_release(pool, &result);
    }
    REFUSED(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY);
    submit.timeout_ns = 0;
    CHECK_RC(tine_submit(pool, answer, bytes, 1000, &submit, NULL), 0);
    CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
    tine_result_release(pool, &result);
    works();
    tine_pool_destroy(pool);
    pool = outer;
}

static void full_heap(void)
{
    enum { HEAP = 4 << 20 };
    static tine_error error;
    tine_pool *outer = pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    tine_id id = 99;
    char *big = (char *)calloc(2, HEAP);
    void *blocks[HEAP / 100000 + 1];
    size_t count = 0;
    options.workers = 1;
    options.heap_bytes = HEAP;
    options.window_bytes = 2 * HEAP;
    submit.error = map.error = &error;
    CHECK(big != NULL);
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    works();
    REFUSED(tine_alloc(pool, HEAP + 1) ? 0 : -ENOMEM, -ENOMEM);
    REFUSED_SAYING(tine_submit(pool, answer, big, HEAP + 1, &submit, &id), -ENOMEM, "heap");
    while ((blocks[count] = tine_alloc(pool, 100000)) != NULL)
        CHECK(++count < sizeof blocks / sizeof *blocks);
    CHECK(count >= HEAP / 100000 / 2);
    REFUSED_SAYING(tine_submit(pool, answer, big, 100000, &submit, &id), -ENOMEM, "heap");
    REFUSED_SAYING(tine_map(pool, one_item, big, 100000, NULL, 0, 1, &map), -ENOMEM, "heap");
    CHECK_EQ(id, 99);
    works(); /* small ones travel without the heap */
    tine_free(pool, blocks[--count]);
    tine_free(pool, blocks[--count]);
    CHECK_RC(run(answer, big, 100000), 7);
    /* More than fits at once goes piece by piece. */
    CHECK_RC(tine_map(pool, one_item, big, 1000, NULL, 0, HEAP / 1000, &map), 0);
    while (count > 0)
        tine_free(pool, blocks[--count]);
    CHECK_RC(run(answer, big, HEAP / 2), 7);
    tine_pool_destroy(pool);
    pool = outer;
    free(big);
}

/* ---- Pools that are over, or somebody else's ---- */

static void after_shutdown(void)
{
    static tine_error error;
    tine_pool *outer = pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id, other = 99;
    int item = 1;
    submit.error = map.error = &error;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    REFUSED_SAYING(tine_submit(pool, answer, NULL, 0, &submit, &other), TINE_ESHUTDOWN, "shut down");
    submit.timeout_ns = TINE_FOREVER;
    REFUSED(tine_submit(pool, answer, NULL, 0, &submit, &other), TINE_ESHUTDOWN);
    REFUSED_SAYING(tine_map(pool, one_item, &item, 4, NULL, 0, 1, &map), TINE_ESHUTDOWN, "shut down");
    REFUSED(tine_for(pool, one_piece, 0, 1, NULL), TINE_ESHUTDOWN);
    CHECK_EQ(other, 99);
    CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    CHECK_EQ(tine_pool_poll(pool), 1);
    CHECK(tine_pool_fd(pool) >= 0);
    /* What has settled is still there, and so is the heap. */
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(*(const int *)result.data, 42);
    tine_result_release(pool, &result);
    REFUSED(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY);
    void *block = tine_alloc(pool, 1000);
    CHECK(block != NULL);
    tine_free(pool, block);
    tine_pool_destroy(pool);
    pool = outer;
}

static void in_a_forked_child(void)
{
    tine_id id;
    int *go = (int *)tine_alloc(pool, sizeof *go), status = 0;
    *go = 0;
    CHECK_RC(tine_submit(pool, until_told, &go, sizeof go, NULL, &id), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_result result = TINE_RESULT_INIT;
        tine_stats stats = TINE_STATS_INIT;
        tine_id other = 99;
        int item = 0;
        CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &other), TINE_EFORKED);
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), TINE_EFORKED);
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), TINE_EFORKED);
        CHECK_RC(tine_cancel(pool, id), TINE_EFORKED);
        CHECK_RC(tine_map(pool, one_item, &item, sizeof item, NULL, 0, 1, NULL), TINE_EFORKED);
        CHECK_RC(tine_for(pool, one_piece, 0, 1, NULL), TINE_EFORKED);
        CHECK_RC(tine_pool_fd(pool), TINE_EFORKED);
        CHECK_RC(tine_pool_poll(pool), TINE_EFORKED);
        CHECK_RC(tine_pool_stats(pool, &stats), TINE_EFORKED);
        CHECK_RC(tine_pool_shutdown(pool, 0), TINE_EFORKED);
        CHECK(tine_alloc(pool, 1) == NULL);
        tine_free(pool, go);
        result.id = id;
        tine_result_release(pool, &result);
        CHECK_EQ(other, 99);
        tine_pool_destroy(pool);
        /* A pool of its own it may have. */
        tine_pool *own;
        CHECK_RC(tine_pool_create(NULL, &own), 0);
        pool = own;
        works();
        tine_pool_destroy(own);
        exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    /* The parent's pool has not noticed. */
    __atomic_store_n(go, 1, __ATOMIC_RELEASE);
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.status, 0);
    tine_result_release(pool, &result);
    tine_free(pool, go);
    works();
}

/* ---- Workers that cannot be started ---- */

/* Standard output while nobody but the processes of a pool has the other end: at its end of file they are gone. */
static int watched_out(int *saved)
{
    int ends[2];
    fflush(stdout);
    CHECK_EQ(pipe(ends), 0);
    *saved = dup(1);
    CHECK(dup2(ends[1], 1) == 1);
    close(ends[1]);
    return ends[0];
}

static void nobody_left(int watch, int saved)
{
    struct pollfd end = {watch, 0, 0};
    CHECK(dup2(saved, 1) == 1);
    close(saved);
    /* Readable data does not matter; POLLHUP comes when the last writer is gone. */
    CHECK_EQ(poll(&end, 1, 20000), 1);
    CHECK(end.revents & POLLHUP);
    close(watch);
}

static int fails(tine_task *task)
{
    size_t length;
    const char *text = (const char *)tine_input(task, &length);
    return tine_fail(task, -ENODEV, "no %.*s here", (int)length, text);
}

static int crashes(tine_task *task)
{
    (void)task;
    raise(SIGSEGV);
    return 0;
}

static int exits(tine_task *task)
{
    (void)task;
    exit(3);
}

static void bad_start(const tine_pool_options *base, int code, const char *words)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = *base;
    tine_pool *out = NULL;
    struct timespec before, after;
    int saved, watch = watched_out(&saved);
    options.error = &error;
    options.workers = 2;
    if (options.start_timeout_ns == 0)
        options.start_timeout_ns = (int64_t)100 * 1000000000;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int rc = tine_pool_create(&options, &out);
    clock_gettime(CLOCK_MONOTONIC, &after);
    nobody_left(watch, saved);
    CHECK_RC(rc, code);
    CHECK_EQ(error.code, code);
    if (!strstr(error.text, words)) {
        fprintf(stderr, "\"%s\" does not say \"%s\"\n", error.text, words);
        exit(1);
    }
    CHECK(out == NULL);
    /* Promptly: it has not come to the start timeout. */
    if (after.tv_sec - before.tv_sec >= 50) {
        fprintf(stderr, "it took %d s to say \"%s\"\n", (int)(after.tv_sec - before.tv_sec), error.text);
        exit(1);
    }
}

static void no_workers(void)
{
    tine_pool_options base = TINE_POOL_OPTIONS_INIT, options = base;
    char path[] = "/tmp/tine-bad-input-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    CHECK_EQ(write(file, "#!/nonexistent/interpreter\n", 27), 27);

    options.worker_path = "/nonexistent/worker";
    bad_start(&options, -ENOENT, "/nonexistent/worker");
    options.worker_path = "";
    bad_start(&options, -ENOENT, "worker_path");
    options.worker_path = "/";
    bad_start(&options, -ENOENT, "worker_path");
    options.worker_path = path; /* not executable */
    bad_start(&options, TINE_EWORKERSTART, path);
    CHECK_EQ(fchmod(file, 0755), 0);
    close(file);
    bad_start(&options, TINE_EWORKERSTART, path); /* nor would it get far */
    FILE *script = fopen(path, "w");
    CHECK(script && fputs("#!/bin/sh\nexec sleep 1000\n", script) >= 0 && fclose(script) == 0);
    options.start_timeout_ns = 1; /* it never reports; one that does may be ready before anybody looks at the clock */
    bad_start(&options, TINE_EWORKERSTART, "0.000000001 s");
    options.start_timeout_ns = 0;
    unlink(path);
    options.worker_path = "/bin/true";
    bad_start(&options, TINE_EWORKERSTART, "tine_init");
    options.worker_path = "/bin/cat"; /* would read for ever, but its input is empty */
    bad_start(&options, TINE_EWORKERSTART, "tine_init");
    options.start = TINE_START_SPAWN;
    options.worker_path = "/bin/false";
    bad_start(&options, TINE_EWORKERSTART, "tine_init");
    options.start = TINE_START_FORK;
    bad_start(&options, -EINVAL, "worker_path");

    options = base;
    options.preload = "/nonexistent/library.so";
    bad_start(&options, TINE_EWORKERSTART, "/nonexistent/library.so");
    options.preload = "\xff";
    bad_start(&options, -EINVAL, "preload");

    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
    for (size_t i = 0; i < 3; i++) {
        options = base;
        options.start = starts[i];
        options.initializer = fails;
        options.initializer_input = "disk";
        options.initializer_length = 4;
        bad_start(&options, TINE_EWORKERSTART, "ENODEV: no disk here");
        options.initializer = crashes;
        bad_start(&options, TINE_EWORKERSTART, "SIGSEGV");
        options.initializer = exits;
        bad_start(&options, TINE_EWORKERSTART, "code 3");
        static int data;
        void *address = &data;
        memcpy(&options.initializer, &address, sizeof address);
        bad_start(&options, TINE_EFUNCTION, "0x");
        address = dlsym(RTLD_DEFAULT, "lib_triple"); /* not there: it was loaded without RTLD_GLOBAL */
        CHECK(address == NULL);
    }
    works();
}

int main(int argc, char **argv)
{
    char name[300];
    memset(name, 'n', sizeof name);
    CHECK_RC(tine_register("registered", is_registered), 0);
    CHECK_RC(tine_register("registered", is_registered), -EEXIST);
    CHECK_RC(tine_register("registered", answer), -EEXIST);
    CHECK_RC(tine_register(NULL, answer), -EINVAL);
    CHECK_RC(tine_register("null", NULL), -EINVAL);
    CHECK_RC(tine_register("", answer), -EINVAL);
    CHECK_RC(tine_register("\xff", answer), -EINVAL);
    name[256] = '\0';
    CHECK_RC(tine_register(name, answer), -EINVAL);
    name[255] = '\0';
    CHECK_RC(tine_register(name, answer), 0);

    CHECK_RC(tine_init(argc, argv), 0);
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    works();
    pools();
    functions();
    submits();
    ids();
    maps();
    in_tasks();
    memory();
    windows();
    full_heap();
    after_shutdown();
    in_a_forked_child();
    no_workers();

    /* In all of this no process of the pool has died. */
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    CHECK_EQ(stats.supervisor_deaths, 0);
    tine_pool_destroy(pool);
    return 0;
}
