/* nodes: what a pool with TINE_ENGINE_MPI promises, case by case, on however many ranks it is started. ci/check-mpi.sh runs it under each MPI.
 * Every case is held against the same calls on this machine, where it can be.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

static const char *current = "";

__attribute__((format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "FAIL %s: ", current);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

#define CHECK(condition) \
    do { \
        if (!(condition)) \
            die("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)

static void zero_or_die(int rc, const char *what)
{
    if (rc)
        die("%s: %s", what, tine_strerror(rc));
}

/* ---- What runs on the nodes ---- */

struct item {
    int64_t number;
    char text[24];
};

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

static int echo(tine_task *task)
{
    size_t length;
    const void *input = tine_input(task, &length);
    void *output = tine_output(task, length);
    if (length && !output)
        return -ENOMEM;
    if (length)
        memcpy(output, input, length);
    return 7;
}

static int die_by(tine_task *task)
{
    raise(*(const int *)tine_input(task, NULL));
    return 0;
}

static int crash_on_fives(tine_task *task, const void *in, void *out)
{
    const struct item *item = in;
    (void)task;
    if (item->number % 5 == 0)
        raise(SIGKILL);
    *(int64_t *)out = item->number + 1;
    return 0;
}

static int sleep_long(tine_task *task)
{
    (void)task;
    for (;;)
        pause();
    return 0;
}

static int sleep_ms(tine_task *task)
{
    int ms = *(const int *)tine_input(task, NULL);
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
    return ms;
}

static int kill_supervisor(tine_task *task)
{
    (void)task;
    kill(getppid(), SIGKILL);
    for (;;)
        pause();
    return 0;
}

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

static int one_writes_half(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int32_t *)out = *(const int32_t *)in;
    return 0;
}

/* ---- The cases ---- */

static tine_pool *pool_on(int engine, size_t workers)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    options.error = &error;
    options.engine = engine;
    options.workers = workers;
    tine_pool *pool = NULL;
    if (tine_pool_create(&options, &pool))
        die("tine_pool_create: %s", error.text);
    return pool;
}

static tine_pool *nodes(void)
{
    return pool_on(TINE_ENGINE_MPI, 2);
}

static void finish(tine_pool *pool)
{
    zero_or_die(tine_pool_shutdown(pool, TINE_FOREVER), "shutdown");
    tine_pool_destroy(pool);
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

static void maps_are_as_here(void)
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

static void arrays_of_the_heap_come_back(void)
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

static void tasks_come_back(void)
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

static void streams_are_in_order(void)
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

static void wait_for(tine_pool *pool, tine_id id, tine_result *result)
{
    zero_or_die(tine_wait(pool, id, TINE_FOREVER, result), "wait");
}

static void a_crash_costs_one_item(void)
{
    tine_pool *pool = nodes();
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    int signal = SIGSEGV;
    zero_or_die(tine_submit(pool, die_by, &signal, sizeof signal, NULL, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == TINE_EDIED && result.delivery == TINE_MAYBE_RAN && result.death);
    CHECK(result.death->signal == SIGSEGV && result.death->pid > 0 && result.death->task == id);
    CHECK(strstr(result.message, "SIGSEGV") && strcmp(result.death->function, "die_by") != 1);
    tine_result_release(pool, &result);

    struct item items[200];
    int64_t out[200] = {0};
    int status[200];
    memset(items, 0, sizeof items);
    for (int i = 0; i < 200; i++)
        items[i].number = i;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.status = status;
    CHECK(tine_map(pool, crash_on_fives, items, sizeof *items, out, sizeof *out, 200, &options) == TINE_EITEMS);
    for (int i = 0; i < 200; i++)
        CHECK(i % 5 ? status[i] == 0 && out[i] == i + 1 : status[i] == TINE_EDIED && out[i] == 0);
    tine_submit_options again = TINE_SUBMIT_OPTIONS_INIT;
    again.retries = 2;
    again.flags = TINE_IDEMPOTENT;
    signal = SIGKILL;
    zero_or_die(tine_submit(pool, die_by, &signal, sizeof signal, &again, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == TINE_EDIED && result.deaths == 3);
    tine_result_release(pool, &result);
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.worker_deaths == 1 + 40 + 3);
    finish(pool);
}

static void deadlines_and_cancels_end_tasks(void)
{
    tine_pool *pool = nodes();
    tine_id id, other;
    tine_result result = TINE_RESULT_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.deadline_ns = 50000000;
    zero_or_die(tine_submit(pool, sleep_long, NULL, 0, &options, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == -ETIMEDOUT);
    tine_result_release(pool, &result);

    zero_or_die(tine_submit(pool, sleep_long, NULL, 0, NULL, &id), "submit");
    usleep(20000);
    zero_or_die(tine_cancel(pool, id), "cancel");
    wait_for(pool, id, &result);
    CHECK(result.status == -ECANCELED);
    tine_result_release(pool, &result);

    finish(pool);

    /* All workers are busy, none of them is being replaced: the last task has not begun by its queue deadline, or when it is cancelled. */
    pool = nodes();
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    tine_id busy[64];
    CHECK(stats.workers <= 64);
    for (size_t i = 0; i < stats.workers; i++)
        zero_or_die(tine_submit(pool, sleep_long, NULL, 0, NULL, &busy[i]), "submit");
    tine_submit_options due = TINE_SUBMIT_OPTIONS_INIT;
    due.queue_deadline_ns = 30000000;
    int ms = 1;
    zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, &due, &id), "submit");
    zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, NULL, &other), "submit");
    wait_for(pool, id, &result);
    if (result.status != -ETIMEDOUT || result.delivery != TINE_NOT_STARTED)
        die("a queue deadline: status %d (%s), delivery %d", result.status, result.message, (int)result.delivery);
    tine_result_release(pool, &result);
    zero_or_die(tine_cancel(pool, other), "cancel");
    wait_for(pool, other, &result);
    CHECK(result.status == -ECANCELED && result.delivery == TINE_NOT_STARTED);
    tine_result_release(pool, &result);
    CHECK(tine_cancel_all(pool) == (int)stats.workers);
    for (size_t i = 0; i < stats.workers; i++) {
        wait_for(pool, busy[i], &result);
        CHECK(result.status == -ECANCELED);
        tine_result_release(pool, &result);
    }
    finish(pool);
}

static void a_family_is_rebuilt(void)
{
    tine_pool *pool = nodes();
    for (int round = 0; round < 3; round++) {
        tine_id id;
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_submit(pool, kill_supervisor, NULL, 0, NULL, &id), "submit");
        wait_for(pool, id, &result);
        CHECK(result.status == TINE_EDIED && result.delivery == TINE_MAYBE_RAN);
        tine_result_release(pool, &result);
        for (int i = 0; i < 100; i++) {
            zero_or_die(tine_submit(pool, echo, &i, sizeof i, NULL, &id), "submit");
            wait_for(pool, id, &result);
            CHECK(result.status == 7);
            tine_result_release(pool, &result);
        }
    }
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.supervisor_deaths == 3);
    finish(pool);
}

static void what_means_nothing_there_is_refused(void)
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

static void an_initializer_that_fails_is_told(void)
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

static void several_pools_serve_at_once(void)
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
static void a_slow_start_or_end_costs_nobody(void)
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

/* Tasks, some of which kill their workers. All settle, once, and say what is true. */
static int perhaps_die(tine_task *task)
{
    int number = *(const int *)tine_input(task, NULL);
    if (number % 100 == 99)
        raise(SIGKILL);
    int *output = tine_output(task, sizeof *output);
    if (!output)
        return -ENOMEM;
    *output = number * 2;
    return 0;
}

static void storm(int count)
{
    tine_pool *pool = nodes();
    char *seen = calloc((size_t)count, 1);
    CHECK(seen);
    int dead = 0, wrong = 0, twice = 0;
    for (int i = 0; i < count; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = (void *)(uintptr_t)i;
        zero_or_die(tine_submit(pool, perhaps_die, &i, sizeof i, &options, &(tine_id){0}), "submit");
    }
    for (int i = 0; i < count; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        int number = (int)(uintptr_t)result.user;
        twice += seen[number]++ != 0;
        dead += result.status == TINE_EDIED;
        if (number % 100 == 99)
            wrong += result.status != TINE_EDIED || result.delivery != TINE_MAYBE_RAN;
        else
            wrong += result.status != 0 || *(const int *)result.data != number * 2;
        tine_result_release(pool, &result);
    }
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    printf("storm: %d tasks, %d kills, %d wrong, %d twice, 0 unsettled\n", count, dead, wrong, twice);
    CHECK(dead == count / 100 && wrong == 0 && twice == 0 && stats.outstanding == 0);
    free(seen);
    finish(pool);
}

static void short_storm(void)
{
    storm(getenv("TINE_STORM") ? 100000 : 3000);
}

static void large_ones(void)
{
    large_inputs_travel((size_t)200 << 20);
}

static void more_than_two_gib(void)
{
    large_inputs_travel(((size_t)2 << 30) + 12345);
}

static pid_t parent_of(pid_t pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    char *read = fgets(line, sizeof line, file);
    fclose(file);
    const char *end = read ? strrchr(line, ')') : NULL;
    char state;
    int parent;
    return end && sscanf(end + 1, " %c %d", &state, &parent) == 2 ? (pid_t)parent : -1;
}

/* A worker's parent is the supervisor, whose parent is the keeper, whose parent is the node. */
static int tell_node(tine_task *task)
{
    pid_t *output = tine_output(task, sizeof *output);
    if (!output)
        return -ENOMEM;
    *output = parent_of(parent_of(getppid()));
    return 0;
}

static pid_t find_node(tine_pool *pool)
{
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    zero_or_die(tine_submit(pool, tell_node, NULL, 0, NULL, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == 0 && *(const pid_t *)result.data > 1);
    pid_t node = *(const pid_t *)result.data;
    tine_result_release(pool, &result);
    return node;
}

/* A node that hangs is given up after TINE_MPI_TIMEOUT_MS: what it has settles, and the others serve on. */
static void a_node_that_hangs_is_lost(void)
{
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    size_t workers = stats.workers;
    CHECK(workers > 2 && kill(node, SIGSTOP) == 0);
    int lost = 0, ms = 1;
    for (int i = 0; i < 200; i++) {
        tine_id id;
        zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, NULL, &id), "submit");
    }
    for (int i = 0; i < 200; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        if (result.status == TINE_EDIED) {
            CHECK(result.delivery == TINE_MAYBE_RAN && !result.death && strstr(result.message, "is lost"));
            lost++;
        } else {
            CHECK(result.status == ms);
        }
        tine_result_release(pool, &result);
    }
    CHECK(lost > 0);
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.workers == workers - 2 && stats.outstanding == 0);
    kill(node, SIGCONT);
    finish(pool);
    printf("%d of 200 were lost\n", lost);
}

/* mpirun ends the job. Where it does not, the node's tasks settle. */
static void rank_is_killed(void)
{
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    for (int i = 0; i < 50; i++) {
        tine_id id;
        zero_or_die(tine_submit(pool, sleep_long, NULL, 0, NULL, &id), "submit");
    }
    printf("killing %d\n", (int)node);
    fflush(stdout);
    kill(node, SIGKILL);
    for (int i = 0; i < 50; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        tine_result_release(pool, &result);
    }
}

struct test {
    const char *name;
    void (*run)(void);
};

static const struct test tests[] = {
    {"maps_are_as_here", maps_are_as_here},
    {"arrays_of_the_heap_come_back", arrays_of_the_heap_come_back},
    {"tasks_come_back", tasks_come_back},
    {"streams_are_in_order", streams_are_in_order},
    {"a_crash_costs_one_item", a_crash_costs_one_item},
    {"deadlines_and_cancels_end_tasks", deadlines_and_cancels_end_tasks},
    {"a_family_is_rebuilt", a_family_is_rebuilt},
    {"what_means_nothing_there_is_refused", what_means_nothing_there_is_refused},
    {"an_initializer_that_fails_is_told", an_initializer_that_fails_is_told},
    {"several_pools_serve_at_once", several_pools_serve_at_once},
    {"a_slow_start_or_end_costs_nobody", a_slow_start_or_end_costs_nobody},
    {"large_ones", large_ones},
    {"storm", short_storm},
    /* What takes 10 GiB of memory, what leaves its job with a node less, and what does not come back. */
    {"more_than_two_gib", more_than_two_gib},
    {"a_node_that_hangs_is_lost", a_node_that_hangs_is_lost},
    {"rank_is_killed", rank_is_killed},
};

/* nodes [CASE]...: these cases, or all but the last three. */
int main(int argc, char **argv)
{
    zero_or_die(tine_init(argc, argv), "tine_init");
    size_t count = sizeof tests / sizeof *tests, passed = 0;
    for (size_t i = 0; i < count; i++) {
        int wanted = argc == 1 && i + 3 < count;
        for (int a = 1; a < argc; a++)
            wanted |= strcmp(argv[a], tests[i].name) == 0;
        if (!wanted)
            continue;
        current = tests[i].name;
        tests[i].run();
        printf("ok %s\n", tests[i].name);
        fflush(stdout);
        passed++;
    }
    printf("%zu passed, 0 failed\n", passed);
    return passed == 0;
}
