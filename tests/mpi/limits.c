/* What is refused, what fails to start, large inputs, and several pools at a time. */
#include "nodes.h"

static int checksum(tine_task *task)
{
    size_t length;
    const unsigned char *input = tine_input(task, &length);
    uint64_t sum = length;
    for (size_t i = 0; i < length; i += 4096)
        sum = sum * 31 + input[i];
    void *output = tine_output(task, sizeof sum);
    if (!output)
        return -ENOMEM;
    memcpy(output, &sum, sizeof sum);
    return 0;
}

void what_means_nothing_there_is_refused(void)
{
    tine_pool *pool = nodes();
    struct {
        int64_t number;
        void *pointer;
    } item = {1, tine_alloc(pool, 100)};
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.error = &error;
    tine_id id;
    CHECK(tine_submit(pool, echo, &item, sizeof item, &options, &id) == -EFAULT);
    CHECK(strstr(error.text, "the input has at offset 8 the address"));
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    map.error = &error;
    CHECK(tine_map(pool, crash_on_fives, &item, sizeof item, NULL, 0, 1, &map) == -EFAULT);
    CHECK(strstr(error.text, "in: item 0 has at offset 8"));
    map.context = &item;
    map.context_length = sizeof item;
    int64_t number = 1;
    CHECK(tine_map(pool, crash_on_fives, &number, sizeof number, NULL, 0, 1, &map) == -EFAULT);
    CHECK(strstr(error.text, "context has at offset 8"));
    CHECK(tine_submit(pool, (tine_fn)(uintptr_t)&item, NULL, 0, &options, &id) == TINE_EFUNCTION);
    options.name = "nobody";
    CHECK(tine_submit(pool, NULL, NULL, 0, &options, &id) == TINE_ENAME);
    tine_segment *segment;
    zero_or_die(tine_segment_create(4096, NULL, &segment), "segment");
    CHECK(tine_pool_share(pool, segment, TINE_FOREVER) == -EOPNOTSUPP);
    tine_segment_close(segment);
    tine_pool_options wrong = TINE_POOL_OPTIONS_INIT;
    wrong.error = &error;
    wrong.engine = 9;
    tine_pool *none = NULL;
    CHECK(tine_pool_create(&wrong, &none) == -EINVAL && strstr(error.text, "engine is 9"));
    wrong.engine = TINE_ENGINE_MPI;
    wrong.flags = TINE_NO_THREAD;
    CHECK(tine_pool_create(&wrong, &none) == -EINVAL && strstr(error.text, "TINE_NO_THREAD"));
    finish(pool);
}

static int fail_to_start(tine_task *task)
{
    return tine_fail(task, -EPERM, "not on this node");
}

void an_initializer_that_fails_is_told(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    options.error = &error;
    options.engine = TINE_ENGINE_MPI;
    options.workers = 1;
    options.initializer = fail_to_start;
    tine_pool *pool = NULL;
    CHECK(tine_pool_create(&options, &pool) == TINE_EWORKERSTART && strstr(error.text, "not on this node"));
}

static void large_inputs_travel(size_t bytes)
{
    tine_pool *pool = pool_on(TINE_ENGINE_MPI, 1);
    unsigned char *big = tine_alloc(pool, bytes);
    CHECK(big);
    uint64_t wanted = bytes;
    for (size_t i = 0; i < bytes; i += 4096) {
        big[i] = (unsigned char)(i >> 12);
        wanted = wanted * 31 + big[i];
    }
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    zero_or_die(tine_submit(pool, checksum, big, bytes, NULL, &id), "submit");
    wait_for(pool, id, &result);
    if (result.status)
        die("a large input: %s", result.message);
    CHECK(result.length == sizeof wanted && memcmp(result.data, &wanted, sizeof wanted) == 0);
    tine_result_release(pool, &result);
    finish(pool);
}

void several_pools_serve_at_once(void)
{
    tine_pool *pools[3];
    tine_id ids[3][50];
    for (int i = 0; i < 3; i++)
        pools[i] = pool_on(TINE_ENGINE_MPI, 1);
    for (int j = 0; j < 50; j++)
        for (int i = 0; i < 3; i++)
            zero_or_die(tine_submit(pools[i], echo, &j, sizeof j, NULL, &ids[i][j]), "submit");
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 50; j++) {
            tine_result result = TINE_RESULT_INIT;
            wait_for(pools[i], ids[i][j], &result);
            CHECK(result.status == 7 && *(const int *)result.data == j);
            tine_result_release(pools[i], &result);
        }
    tine_pool_destroy(pools[1]);
    finish(pools[0]);
    finish(pools[2]);
}

void large_ones(void)
{
    large_inputs_travel((size_t)200 << 20);
}

void more_than_two_gib(void)
{
    large_inputs_travel(((size_t)2 << 30) + 12345);
}
