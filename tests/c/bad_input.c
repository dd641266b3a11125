/* What bad input gets: a code with a name, words that name the thing and its value, and nothing lost or half done. Here: options,
 * functions, tasks, ids and maps. */
#include "bad_input.h"
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

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
    CHECK(out == NULL);
}

/* Structs of other lengths than this version's. */
static void pool_structs(void)
{
    static tine_error error;
    tine_pool *out = NULL;
    tine_pool_options good = TINE_POOL_OPTIONS_INIT, options;
    good.error = &error;
    good.workers = 1;
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
    works();
}

/* A result of another length: the known part is filled, what this version does not know is zeroed. */
static void result_structs(void)
{
    tine_id id = 0;
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
    tine_free(pool, block);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(out[i], 9);
        CHECK_EQ(status[i], 8);
    }
    works();
}

static void loops_and_streams(void)
{
    static tine_error error;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int in[4] = {1, 2, 3, 4}, out[4] = {9, 9, 9, 9}, status[4] = {8, 8, 8, 8};
    options.error = &error;
    options.status = status;

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
    create_it();
    pools();
    pool_structs();
    functions();
    submits();
    ids();
    result_structs();
    maps();
    loops_and_streams();

    nobody_died();
    tine_pool_destroy(pool);
    return 0;
}
