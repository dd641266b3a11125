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

struct pointed {
    int64_t number;
    void *pointer;
};

/* The item with the address, and then one without. */
static int draw(void *user, const void **input, size_t *length, void **word)
{
    struct pointed *next = user;
    (void)word;
    if (next->number > 2)
        return 0;
    if (next->number++ == 2)
        next->pointer = NULL;
    *input = next;
    *length = sizeof *next;
    return 1;
}

static void streams_refuse_addresses(tine_pool *pool, struct pointed item)
{
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_stream *stream;
    tine_result result = TINE_RESULT_INIT;
    zero_or_die(tine_stream_create(pool, echo, &options, &stream), "tine_stream_create");
    CHECK(tine_stream_put(stream, &item, sizeof item, NULL, TINE_FOREVER) == -EFAULT);
    CHECK(tine_stream_next(stream, 0, &result) == -EAGAIN);
    tine_stream_destroy(stream);
    options.pull = draw;
    options.user = &item;
    zero_or_die(tine_stream_create(pool, echo, &options, &stream), "tine_stream_create");
    zero_or_die(tine_stream_next(stream, TINE_FOREVER, &result), "tine_stream_next");
    CHECK(result.status == -EFAULT && result.delivery == TINE_NOT_STARTED && strstr(result.message, "at offset 8 the address"));
    tine_result_release(pool, &result);
    zero_or_die(tine_stream_next(stream, TINE_FOREVER, &result), "tine_stream_next");
    CHECK(result.status == 7);
    tine_result_release(pool, &result);
    CHECK(tine_stream_next(stream, TINE_FOREVER, &result) == TINE_EEMPTY);
    tine_stream_destroy(stream);
}

void what_means_nothing_there_is_refused(void)
{
    tine_pool *pool = nodes();
    struct pointed item = {1, tine_alloc(pool, 100)};
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.error = &error;
    tine_id id;
    CHECK(tine_submit(pool, echo, &item, sizeof item, &options, &id) == -EFAULT);
    CHECK(strstr(error.text, "the input has at offset 8 the address"));
    streams_refuse_addresses(pool, item);
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

/* Says that it runs, by a file in the folder that its input names, and waits for a file there. */
static int wait_in(const char *folder, const char *kind)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s-%d", folder, kind, (int)getpid());
    FILE *file = fopen(path, "w");
    if (!file)
        return -errno;
    fclose(file);
    snprintf(path, sizeof path, "%s/go-%s", folder, kind);
    while (access(path, F_OK))
        usleep(2000);
    return 0;
}

static const char *folder_of_worker; /* what the initializer was told */

static int start_slowly(tine_task *task)
{
    folder_of_worker = strdup(tine_input(task, NULL));
    return folder_of_worker ? wait_in(folder_of_worker, "start") : -ENOMEM;
}

static int end_slowly(tine_task *task)
{
    (void)task;
    return wait_in(folder_of_worker, "end");
}

static size_t files_of(const char *folder, const char *kind)
{
    DIR *directory = opendir(folder);
    CHECK(directory);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        count += strncmp(entry->d_name, kind, strlen(kind)) == 0;
    closedir(directory);
    return count;
}

static void let_go(const char *folder, const char *kind)
{
    char path[256];
    snprintf(path, sizeof path, "%s/go-%s", folder, kind);
    FILE *file = fopen(path, "w");
    CHECK(file);
    fclose(file);
}

struct slow {
    const char *folder;
    tine_pool *pool;
};

static void *create_slowly(void *argument)
{
    struct slow *slow = argument;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.engine = TINE_ENGINE_MPI;
    options.workers = 1;
    options.initializer = start_slowly;
    options.initializer_input = slow->folder;
    options.initializer_length = strlen(slow->folder) + 1;
    options.finalizer = end_slowly;
    zero_or_die(tine_pool_create(&options, &slow->pool), "tine_pool_create");
    return NULL;
}

static void *end_pool(void *argument)
{
    struct slow *slow = argument;
    finish(slow->pool);
    return NULL;
}

/* Each node answers while it starts and ends another pool, however long that takes: nothing here goes by the clock. */
void a_slow_start_or_end_costs_nobody(void)
{
    char folder[] = "/tmp/tine-nodes-XXXXXX";
    CHECK(mkdtemp(folder));
    tine_pool *pool = nodes();
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    size_t node_count = stats.workers / 2;
    struct slow slow = {folder, NULL};
    static const char *const kinds[] = {"start", "end"};
    for (int round = 0; round < 2; round++) {
        pthread_t thread;
        zero_or_die(pthread_create(&thread, NULL, round ? end_pool : create_slowly, &slow), "pthread_create");
        while (files_of(folder, kinds[round]) < node_count)
            usleep(2000);
        for (int i = 0; i < 200; i++) {
            tine_id id;
            zero_or_die(tine_submit(pool, echo, &i, sizeof i, NULL, &id), "submit");
        }
        for (int i = 0; i < 200; i++) {
            tine_result result = TINE_RESULT_INIT;
            zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
            CHECK(result.status == 7);
            tine_result_release(pool, &result);
        }
        let_go(folder, kinds[round]);
        zero_or_die(pthread_join(thread, NULL), "pthread_join");
    }
    finish(pool);
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

/* An input or output that is long enough travels apart from the frame: in every length around that, many at a time and among short ones. */
void long_and_short_ones_mix(void)
{
    enum { COUNT = 300, LONGEST = 3 << 20 };
    static const size_t lengths[] = {0, 1, 100, 32767, 32768, 32769, 65536, 1 << 20, LONGEST};
    enum { KINDS = sizeof lengths / sizeof *lengths };
    tine_pool *pool = nodes();
    unsigned char *heap = tine_alloc(pool, LONGEST), *own = malloc(LONGEST);
    CHECK(heap && own);
    for (size_t i = 0; i < LONGEST; i++)
        heap[i] = (unsigned char)(i * 7 + (i >> 8)), own[i] = (unsigned char)(heap[i] ^ 0x55);
    for (int i = 0; i < COUNT; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = (void *)(uintptr_t)i;
        zero_or_die(tine_submit(pool, echo, i % 2 ? heap : own, lengths[i % KINDS], &options, &(tine_id){0}), "submit");
    }
    for (int i = 0; i < COUNT; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        int number = (int)(uintptr_t)result.user;
        if (result.status != 7)
            die("task %d: %d (%s)", number, result.status, result.message);
        CHECK(result.length == lengths[number % KINDS]);
        CHECK(result.length == 0 || memcmp(result.data, number % 2 ? heap : own, result.length) == 0);
        tine_result_release(pool, &result);
    }
    tine_free(pool, heap);
    free(own);
    finish(pool);
}

static int length_of(tine_task *task)
{
    size_t length;
    tine_input(task, &length);
    return (int)(length >> 20);
}

/* Nodes whose heap has 48 MiB, and as many tasks as one likes. */
static tine_pool *nodes_with_little(size_t workers, tine_fn initializer)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.engine = TINE_ENGINE_MPI;
    options.workers = workers;
    options.heap_bytes = 48 << 20;
    options.window_bytes = (size_t)1 << 30;
    options.initializer = initializer;
    zero_or_die(tine_pool_create(&options, &pool), "tine_pool_create");
    return pool;
}

static char *full_input(tine_pool *pool, size_t length)
{
    char *input = tine_alloc(pool, length);
    CHECK(input);
    memset(input, 1, length);
    return input;
}

/* Rank 0 has an input once, however many tasks have it; a node has it once for each task. */
static void many_inputs_of(int count, size_t length)
{
    tine_pool *pool = nodes_with_little(4, NULL);
    char *input = full_input(pool, length);
    for (int i = 0; i < count; i++)
        zero_or_die(tine_submit(pool, length_of, input, length, NULL, &(tine_id){0}), "submit");
    for (int i = 0; i < count; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        if (result.status != (int)(length >> 20))
            die("task %d of %d with %zu MiB: %d (%s)", i, count, length >> 20, result.status, result.message);
        tine_result_release(pool, &result);
    }
    tine_free(pool, input);
    finish(pool);
}

static int hold_memory(tine_task *task)
{
    return tine_alloc(tine_task_pool(task), 24 << 20) ? 0 : -ENOMEM;
}

/* The nodes' workers have so much of the heap that an input never fits. Each task is told so once, and those without an input run. */
static void inputs_that_never_fit(int count, size_t length)
{
    tine_pool *pool = nodes_with_little(1, hold_memory);
    char *input = full_input(pool, length);
    for (int i = 0; i < count; i++)
        zero_or_die(tine_submit(pool, length_of, input, i % 2 ? 0 : length, NULL, &(tine_id){0}), "submit");
    int refused = 0;
    for (int i = 0; i < count; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        CHECK(result.status == 0 || (result.status == -ENOMEM && result.delivery == TINE_NOT_STARTED));
        refused += result.status != 0;
        tine_result_release(pool, &result);
    }
    CHECK(refused == (count + 1) / 2);
    tine_free(pool, input);
    finish(pool);
}

/* It gets as many as it has memory for: several, one at a time, or none. */
void a_node_without_memory_gets_less(void)
{
    many_inputs_of(60, (size_t)9 << 20);
    many_inputs_of(24, (size_t)30 << 20);
    inputs_that_never_fit(16, (size_t)30 << 20);
}

/* What comes of tasks whose pool is being given up concerns no other pool. */
void a_pool_is_given_up_beside_another(void)
{
    tine_pool *pool = nodes();
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    size_t workers = stats.workers;
    for (int round = 0; round < 12; round++) {
        tine_pool *other = pool_on(TINE_ENGINE_MPI, 1);
        for (int i = 0; i < 2000; i++)
            zero_or_die(tine_submit(other, echo, &i, sizeof i, NULL, &(tine_id){0}), "submit");
        usleep((useconds_t)(round * 300));
        tine_pool_destroy(other);
        tine_id id;
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_submit(pool, echo, &round, sizeof round, NULL, &id), "submit");
        wait_for(pool, id, &result);
        CHECK(result.status == 7);
        tine_result_release(pool, &result);
    }
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.workers == workers);
    finish(pool);
}

void large_ones(void)
{
    large_inputs_travel((size_t)200 << 20);
}

void more_than_two_gib(void)
{
    large_inputs_travel(((size_t)2 << 30) + 12345);
}
