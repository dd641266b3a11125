/* The host has no memory of its own left: what it asks for is refused with -ENOMEM, what it has asked for settles, and when there is
 * memory again everything goes on. Here of pools; memory_short_heap.c is of heaps. The last scenario has the kernel refuse: the address
 * space is at its limit. */
#include "memory_short.h"
#include <pthread.h>
#include <sys/resource.h>

static int answer(tine_task *task)
{
    (void)task;
    return 7;
}

static int fails(tine_task *task)
{
    return tine_fail(task, -EIO, "a text that has to be kept somewhere");
}

static int dies(tine_task *task)
{
    (void)task;
    return raise(SIGKILL);
}

static int item(tine_task *task, const void *in, void *out)
{
    *(int *)out = *(const int *)in;
    return *(const int *)in % 7 ? 0 : tine_fail(task, -EIO, "an item that fails");
}

static tine_pool *create(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.workers = 2;
    options.heap_bytes = 1 << 26;
    options.window_tasks = 1 << 20;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    return pool;
}

static int take(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int status = result.status;
    tine_result_release(pool, &result);
    return status;
}

/* The pool does what it is there for, and lets go of everything. */
static void serve(tine_pool *pool)
{
    int in[100], out[100];
    tine_id id;
    end_to_refuse();
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
    CHECK_EQ(take(pool, id), 7);
    for (int i = 0; i < 100; i++) {
        in[i] = 1 + 7 * i;
    }
    CHECK_RC(tine_map(pool, item, in, sizeof *in, out, sizeof *out, 100, NULL), 0);
    CHECK_EQ(out[99], in[99]);
    tine_pool_destroy(pool);
}

static void creates(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    options.workers = 300;
    options.min_workers = 1;
    options.heap_bytes = 1 << 26;
    options.error = &error;
    begin_to_refuse();
    int rc = tine_pool_create(&options, &pool);
    end_to_refuse();
    if (rc == 0) {
        serve(pool);
    } else {
        CHECK_RC(rc, -ENOMEM);
    }
    serve(create());
}

enum { MANY = 3000 };

static void submits(void)
{
    static tine_id ids[MANY];
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = create();
    int count = 0, rc = 0;
    begin_to_refuse();
    for (int i = 0; i < MANY; i++) {
        if ((rc = tine_submit(pool, i % 5 ? answer : fails, NULL, 0, NULL, &ids[count])) == 0) {
            count++;
        }
        CHECK_SHORT(rc);
    }
    /* Waiting is no asking; claiming many may be. */
    if (count > 0) {
        CHECK_RC(tine_wait_all(pool, ids, (size_t)count, HANG_NS), 0);
        rc = tine_wait_any(pool, ids, (size_t)count, HANG_NS, &result);
        CHECK_SHORT(rc);
        if (rc == 0) {
            tine_result_release(pool, &result);
        }
        CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    }
    for (int i = rc == 0; i < count; i++) {
        CHECK_RC(tine_next(pool, 0, &result), 0);
        CHECK(result.status == 7 || result.status == -EIO);
        tine_result_release(pool, &result);
    }
    CHECK(tine_cancel_all(pool) >= 0);
    serve(pool);
}

static int told;

static void count_told(const tine_result *result, void *user)
{
    (void)user;
    CHECK(result->status == 7 || result->status == -EIO);
    __atomic_add_fetch(&told, 1, __ATOMIC_SEQ_CST);
}

static void has_callbacks(void)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_pool *pool = create();
    int count = 0, rc;
    options.on_settled = count_told;
    options.queue_deadline_ns = HANG_NS;
    begin_to_refuse();
    for (int i = 0; i < 700; i++) {
        rc = tine_submit(pool, i % 5 ? answer : fails, NULL, 0, &options, NULL);
        count += rc == 0;
        CHECK_SHORT(rc);
    }
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_EQ(told, count);
    serve(pool);
}

static void count_failure(const tine_result *result, size_t number, void *user)
{
    (void)number;
    CHECK(result->status == -EIO || result->status == -ECANCELED);
    *(int *)user += result->status == -EIO;
}

static void maps(void)
{
    static int in[2000], out[2000];
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    tine_pool *pool = create();
    int failures = 0;
    for (int i = 0; i < 2000; i++) {
        in[i] = i;
    }
    options.on_failure = count_failure;
    options.user = &failures;
    options.chunk = 10;
    begin_to_refuse();
    int rc = tine_map(pool, item, in, sizeof *in, out, sizeof *out, 2000, &options);
    end_to_refuse();
    if (rc == TINE_EITEMS) {
        CHECK_EQ(failures, 286);
        CHECK_EQ(out[1999], 1999);
    } else {
        CHECK_RC(rc, -ENOMEM);
    }
    serve(pool);
}

static void streams(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = create();
    tine_stream *stream = NULL;
    begin_to_refuse();
    int rc = tine_stream_create(pool, answer, NULL, &stream), count = 0;
    CHECK_SHORT(rc);
    if (rc == 0) {
        for (int i = 0; i < 8; i++) {
            rc = tine_stream_put(stream, &i, sizeof i, NULL, HANG_NS);
            CHECK_SHORT(rc);
            count += rc == 0;
        }
        CHECK_RC(tine_stream_end(stream), 0);
        for (int i = 0; i < count; i++) {
            CHECK_RC(tine_stream_next(stream, HANG_NS, &result), 0);
            CHECK_EQ(result.status, 7);
            tine_result_release(pool, &result);
        }
        CHECK_RC(tine_stream_next(stream, HANG_NS, &result), TINE_EEMPTY);
        tine_stream_destroy(stream);
    }
    serve(pool);
}

/* What came of a start: a process that answers, or -ENOMEM. */
static void answered_or_refused(int rc, tine_process *process)
{
    tine_exit end = TINE_EXIT_INIT;
    if (rc == 0) {
        CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
        end_to_refuse();
        CHECK_EQ(end.code, 7);
        tine_process_close(process);
    } else {
        end_to_refuse();
        CHECK_RC(rc, -ENOMEM);
    }
    serve(create());
}

static void starts_a_process(void)
{
    tine_process *process = NULL;
    begin_to_refuse();
    int rc = tine_process_start(NULL, answer, NULL, 0, &process);
    answered_or_refused(rc, process);
}

/* What processes are started with is longer than what tine keeps back for such times. */
static void starts_with_much(void)
{
    enum { LINES = 1500, NUMBERS = 5000, LENGTH = 40 };
    static char lines[LINES][LENGTH];
    static const char *environment[LINES + 1], *arguments[LINES + 1];
    static uint32_t processors[NUMBERS];
    static tine_limit limits[500];
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_process *process = NULL;
    for (int i = 0; i < LINES; i++) {
        snprintf(lines[i], LENGTH, "A_VARIABLE_%d=what it is set to", i);
        environment[i] = arguments[i] = lines[i];
    }
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        limits[i].resource = RLIMIT_CORE;
    }
    worker.environment = environment;
    worker.library_threads = 2;
    worker.processors = processors;
    worker.processor_count = NUMBERS;
    worker.limits = limits;
    worker.limit_count = sizeof limits / sizeof *limits;
    options.worker = &worker;
    options.worker_path = "/proc/self/exe";
    options.worker_arguments = arguments;
    begin_to_refuse();
    int rc = tine_process_start(&options, answer, NULL, 0, &process);
    answered_or_refused(rc, process);
}

static void shares(void)
{
    tine_pool *pool = create();
    tine_queue *queue = NULL;
    tine_channel *left = NULL, *right = NULL;
    tine_segment *segment = NULL;
    tine_mutex *mutex = (tine_mutex *)tine_alloc(pool, sizeof *mutex);
    char buffer[16];
    size_t length;
    int fd;
    CHECK(mutex);
    CHECK_RC(tine_mutex_init(mutex, 0), 0);
    begin_to_refuse();
    CHECK_SHORT(tine_queue_create(pool, NULL, &queue));
    CHECK_SHORT(tine_channel_create(NULL, &left, &right));
    CHECK_SHORT(tine_segment_create(1 << 16, NULL, &segment));
    tine_free(pool, tine_alloc(pool, 100));
    tine_free(pool, tine_alloc(pool, 1 << 20));
    int rc = tine_mutex_lock(mutex, HANG_NS);
    CHECK_SHORT(rc);
    if (rc == 0) {
        CHECK_RC(tine_mutex_unlock(mutex), 0);
    }
    if (queue) {
        CHECK_SHORT(rc = tine_queue_put(queue, "text", 5, HANG_NS));
        if (rc == 0) {
            CHECK_RC(tine_queue_get(queue, HANG_NS, buffer, sizeof buffer, &length), 0);
        }
        fd = tine_queue_fd(queue);
        CHECK_SHORT(fd < 0 ? fd : 0);
        tine_queue_destroy(queue);
    }
    if (left) {
        CHECK_RC(tine_channel_send(left, "text", 5, HANG_NS), 0);
        CHECK_RC(tine_channel_receive(right, HANG_NS, buffer, sizeof buffer, &length), 0);
        rc = tine_channel_send(left, pool, 0, HANG_NS);
        CHECK_SHORT(rc);
        tine_channel_close(left);
        tine_channel_close(right);
    }
    if (segment) {
        CHECK_SHORT(tine_pool_share(pool, segment, HANG_NS));
        tine_segment_close(segment);
    }
    tine_free(pool, mutex);
    serve(pool);
}

/* Nobody but the host knows of a death: it has to be told, memory or not. */
static void loses_workers(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = create();
    tine_id ids[6];
    for (int i = 0; i < 6; i++) {
        CHECK_RC(tine_submit(pool, i % 2 ? answer : dies, NULL, 0, NULL, &ids[i]), 0);
    }
    begin_to_refuse();
    for (int i = 0; i < 6; i += 2) {
        CHECK_RC(tine_wait(pool, ids[i], HANG_NS, &result), 0);
        CHECK_EQ(result.status, TINE_EDIED);
        CHECK(result.death && result.death->signal == SIGKILL);
        tine_result_release(pool, &result);
    }
    end_to_refuse();
    for (int i = 1; i < 6; i += 2) {
        CHECK_EQ(take(pool, ids[i]), 7);
    }
    serve(pool);
}

static pthread_barrier_t together;

static void *submits_and_waits(void *pool)
{
    tine_id id;
    pthread_barrier_wait(&together);
    for (int i = 0; i < 20; i++) {
        int rc = tine_submit((tine_pool *)pool, i % 5 ? answer : fails, NULL, 0, NULL, &id);
        CHECK_SHORT(rc);
        if (rc == 0) {
            CHECK_EQ(take((tine_pool *)pool, id), i % 5 ? 7 : -EIO);
        }
    }
    return NULL;
}

static void has_threads(void)
{
    enum { THREADS = 12 };
    pthread_t threads[THREADS];
    tine_pool *pool = create();
    CHECK(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, submits_and_waits, pool) == 0);
    }
    begin_to_refuse();
    pthread_barrier_wait(&together);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    serve(pool);
}

static void errs(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_pool *pool = create();
    options.error = &error;
    options.deadline_ns = -1;
    begin_to_refuse();
    for (int i = 0; i < 10; i++) {
        int rc = tine_submit(pool, answer, NULL, 0, &options, NULL);
        CHECK(rc == -EINVAL || rc == -ENOMEM);
        CHECK_EQ(error.code, rc);
        CHECK_RC(tine_wait(pool, 1234567, 0, NULL), -EINVAL);
        CHECK(tine_strerror(-1000 - i) != NULL);
    }
    serve(pool);
}

static void shuts_down(void)
{
    tine_pool *pool = create();
    for (int i = 0; i < 600; i++) {
        CHECK_RC(tine_submit(pool, i % 5 ? answer : fails, NULL, 0, NULL, NULL), 0);
    }
    begin_to_refuse();
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    tine_pool_destroy(pool);
    serve(create());
}

/* ---- The address space is at its limit ---- */

struct block {
    struct block *next;
};

static struct block *taken;

static void take_all_memory(void)
{
    struct rlimit limit;
    char text[64];
    CHECK(read_file("/proc/self/statm", text, sizeof text) > 0);
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = (rlim_t)atol(text) * (rlim_t)sysconf(_SC_PAGESIZE) + (rlim_t)plan.at * 4096;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    for (size_t size = 1 << 20; size >= sizeof *taken; size /= 2) {
        for (struct block *block; (block = (struct block *)malloc(size)) != NULL; taken = block) {
            block->next = taken;
        }
    }
}

static void give_memory_back(void)
{
    struct rlimit limit;
    while (taken) {
        struct block *block = taken;
        taken = block->next;
        free(block);
    }
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static int is_slow(tine_task *task)
{
    nap_ns(1000000);
    return answer(task);
}

static void is_at_its_limit(void)
{
    static int in[100], out[100];
    tine_result result = TINE_RESULT_INIT;
    tine_process *process = NULL;
    tine_pool *pool = create(), *other = NULL;
    tine_id id;
    int rc = 0, count = 0;
    if (plan.mode == ALL) {
        CHECK_RC(tine_submit(pool, fails, NULL, 0, NULL, &id), 0);
        CHECK_EQ(take(pool, id), -EIO);
    }
    take_all_memory();
    while (rc == 0 && count < 100000) {
        rc = tine_submit(pool, is_slow, NULL, 0, NULL, &id);
        count += rc == 0;
    }
    CHECK(rc == -ENOMEM || rc == -EAGAIN);
    if (plan.mode == ALL) {
        CHECK(count > 0);
    }
    rc = tine_map(pool, item, in, sizeof *in, out, sizeof *out, 100, NULL);
    CHECK(rc == TINE_EITEMS || rc == -ENOMEM);
    rc = tine_process_start(NULL, answer, NULL, 0, &process);
    CHECK(rc == -ENOMEM);
    CHECK_RC(tine_pool_create(NULL, &other), -ENOMEM);
    for (int i = 0; i < count && i < 50; i++) {
        CHECK_RC(tine_next(pool, HANG_NS, &result), 0);
        CHECK_EQ(result.status, 7);
        tine_result_release(pool, &result);
    }
    CHECK(tine_cancel_all(pool) >= 0);
    give_memory_back();
    serve(pool);
}

/* Longer than what is kept back for small needs. */
static void tells(void)
{
    static char name[20000], text[1 << 20];
    const char *names[] = {name};
    tine_pool *pool = create();
    memset(name, '"', sizeof name - 1);
    begin_to_refuse();
    int rc = tine_stats_text(&pool, names, 1, text, sizeof text, NULL);
    CHECK_SHORT(rc);
    serve(pool);
}

static const struct scenario scenarios[] = {
    {"creates", creates, 0},
    {"submits", submits, 0},
    {"has_callbacks", has_callbacks, 0},
    {"maps", maps, 0},
    {"streams", streams, 0},
    {"starts_a_process", starts_a_process, 0},
    {"starts_with_much", starts_with_much, 0},
    {"shares", shares, 0},
    {"loses_workers", loses_workers, 0},
    {"has_threads", has_threads, 0},
    {"errs", errs, 0},
    {"tells", tells, 0},
    {"shuts_down", shuts_down, 0},
    {"is_at_its_limit", is_at_its_limit, 6},
};

int main(int argc, char **argv)
{
    return run_scenarios(scenarios, sizeof scenarios / sizeof *scenarios, argc, argv);
}
