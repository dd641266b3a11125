/* Tasks that run where they are submitted: what a task submits to its own pool, with every start method, and pools
 * with TINE_INLINE, which give the same results as workers do. */
#include "status.h"
#include <pthread.h>

#define MS ((int64_t)1000000)

/* ---- A task that submits ---- */

static int fibonacci(tine_task *task)
{
    int n = *(const int *)tine_input(task, NULL), parts[2], sum = 0;
    tine_pool *pool = tine_task_pool(task);
    if (n < 2) {
        return n;
    }
    tine_id ids[2];
    for (int i = 0; i < 2; i++) {
        parts[i] = n - 1 - i;
        int rc = tine_submit(pool, fibonacci, &parts[i], sizeof parts[i], NULL, &ids[i]);
        if (rc) {
            return tine_fail(task, rc < -4095 ? -EIO : rc, "submit: %s", tine_strerror(rc));
        }
    }
    for (int i = 0; i < 2; i++) {
        tine_result result = TINE_RESULT_INIT;
        int rc = tine_wait(pool, ids[i], TINE_FOREVER, &result);
        if (rc || result.status < 0) {
            return tine_fail(task, -EIO, "wait: %s", tine_strerror(rc ? rc : result.status));
        }
        sum += result.status;
        tine_result_release(pool, &result);
    }
    return sum;
}

static int square(tine_task *task, const void *in, void *out)
{
    int n = *(const int *)in;
    *(int *)out = n * n;
    return n == 13 ? tine_fail(task, -EDOM, "thirteen") : 0;
}

static int add_piece(tine_task *task, size_t begin, size_t end)
{
    long *sum = *(long *const *)tine_context(task, NULL);
    for (size_t i = begin; i < end; i++) {
        *sum += (long)i;
    }
    return 0;
}

struct failures {
    int count;
    char text[64];
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct failures *failures = (struct failures *)user;
    failures->count++;
    snprintf(failures->text, sizeof failures->text, "%zu %d %s", item, result->status, result->message);
}

static int uses_maps(tine_task *task)
{
    enum { COUNT = 10000 };
    tine_pool *pool = tine_task_pool(task);
    static int in[COUNT], out[COUNT], status[COUNT];
    struct failures failures = {0, {0}};
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    long sum = 0, *where = &sum;
    options.status = status;
    options.on_failure = on_failure;
    options.user = &failures;
    for (int i = 0; i < COUNT; i++) {
        in[i] = i;
    }
    CHECK_EQ(tine_map(pool, square, in, sizeof in[0], out, sizeof out[0], COUNT, &options), TINE_EITEMS);
    CHECK_EQ(failures.count, 1);
    CHECK_STR(failures.text, "13 -33 thirteen");
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(status[i], i == 13 ? -EDOM : 0);
        CHECK(i == 13 || out[i] == i * i);
    }
    tine_map_options loop = TINE_MAP_OPTIONS_INIT;
    loop.context = &where;
    loop.context_length = sizeof where;
    CHECK_EQ(tine_for(pool, add_piece, 0, 1000, &loop), 0);
    CHECK_EQ(sum, 499500);
    return 3;
}

static int large_output(tine_task *task)
{
    size_t length;
    const unsigned char *in = (const unsigned char *)tine_input(task, &length);
    unsigned char *out = (unsigned char *)tine_output(task, length);
    for (size_t i = 0; out && i < length; i++) {
        out[i] = (unsigned char)~in[i];
    }
    return out ? 0 : -ENOMEM;
}

static int answer(tine_task *task)
{
    (void)task;
    return 42;
}

/* Leaves results that it does not take, and must find none that others left. */
static int leaves_results(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
    enum { LENGTH = 100000 };
    char *bytes = (char *)calloc(1, LENGTH);
    CHECK(bytes);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(tine_submit(pool, large_output, bytes, LENGTH, NULL, NULL), 0);
    }
    free(bytes);
    CHECK_EQ(tine_next(pool, 0, &result), 0); /* taken, and not released */
    CHECK_EQ(result.length, LENGTH);
    CHECK_EQ(((const unsigned char *)result.data)[LENGTH - 1], 255);
    return 1;
}

static int until_cancelled(tine_task *task)
{
    int *started = *(int *const *)tine_input(task, NULL);
    __atomic_store_n(started, 1, __ATOMIC_SEQ_CST);
    while (!tine_cancelled(task)) {
        nap_ns(100000);
    }
    return 5;
}

/* The inner task must see that the outer one is to end. */
static int waits_inside(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    CHECK_EQ(tine_submit(pool, until_cancelled, tine_input(task, NULL), sizeof(int *), NULL, NULL), 0);
    return tine_cancelled(task) ? -ECANCELED : 0;
}

static int deadlines_inside(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    int started, *where = &started;
    options.deadline_ns = 5 * MS;
    CHECK_EQ(tine_submit(pool, until_cancelled, &where, sizeof where, &options, &id), 0);
    CHECK_RC(tine_cancel(pool, id), -EALREADY);
    CHECK_EQ(tine_wait(pool, id, 0, &result), 0);
    CHECK_EQ(result.status, -ETIMEDOUT);
    CHECK_EQ(result.delivery, TINE_RAN);
    CHECK(strstr(result.message, "past its deadline"));
    tine_result_release(pool, &result);
    CHECK_RC(tine_wait(pool, id, 0, &result), TINE_EID);
    CHECK_RC(tine_submit(pool, NULL, NULL, 0, NULL, NULL), TINE_EFUNCTION);
    return 2;
}

static int crashes_inside(tine_task *task)
{
    return tine_submit(tine_task_pool(task), large_output, NULL, 0, NULL, NULL) ? -EIO : raise(SIGKILL);
}

static int crashes_deeper(tine_task *task)
{
    return tine_submit(tine_task_pool(task), crashes_inside, NULL, 0, NULL, NULL);
}

static void *submit_from_thread(void *user)
{
    tine_pool *pool = (tine_pool *)user;
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    int n = 12;
    CHECK_EQ(tine_submit(pool, fibonacci, &n, sizeof n, NULL, &id), 0);
    CHECK_EQ(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 144);
    tine_result_release(pool, &result);
    return NULL;
}

static int threads_inside(tine_task *task)
{
    pthread_t threads[4];
    pthread_attr_t attributes;
    /* Tasks that run in their submitter nest on its stack, of which musl gives a thread 128 KiB. */
    CHECK_EQ(pthread_attr_init(&attributes), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attributes, 1 << 20), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], &attributes, submit_from_thread, tine_task_pool(task)), 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    return 4;
}

static int forks_inside(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    CHECK_EQ(tine_submit(pool, answer, NULL, 0, NULL, NULL), 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(tine_submit(pool, answer, NULL, 0, NULL, NULL) == TINE_EFORKED ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return status == 0 ? 6 : -EIO;
}

static void nested(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    int n = 14;
    CHECK_EQ(call(pool, fibonacci, &n, sizeof n), 377);
    CHECK_EQ(call(pool, uses_maps, NULL, 0), 3);
    CHECK_EQ(call(pool, deadlines_inside, NULL, 0), 2);
    CHECK_EQ(call(pool, threads_inside, NULL, 0), 4);
    CHECK_EQ(call(pool, forks_inside, NULL, 0), 6);

    tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
    CHECK_EQ(call(pool, leaves_results, NULL, 0), 1);
    CHECK_EQ(tine_pool_stats(pool, &before), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(call(pool, leaves_results, NULL, 0), 1);
    }
    CHECK_EQ(tine_pool_stats(pool, &after), 0);
    CHECK_EQ(after.heap_allocated_bytes, before.heap_allocated_bytes);

    int *started = (int *)tine_alloc(pool, sizeof *started);
    CHECK(started);
    *started = 0;
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    CHECK_EQ(tine_submit(pool, waits_inside, &started, sizeof started, NULL, &id), 0);
    WAIT_UNTIL(__atomic_load_n(started, __ATOMIC_SEQ_CST));
    CHECK_EQ(tine_cancel(pool, id), 0);
    CHECK_EQ(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, -ECANCELED);
    CHECK_EQ(result.delivery, TINE_RAN); /* it saw it by itself, inside */
    tine_result_release(pool, &result);

    CHECK_EQ(tine_submit(pool, crashes_deeper, NULL, 0, NULL, &id), 0);
    CHECK_EQ(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, TINE_EDIED);
    CHECK(result.death && result.death->signal == SIGKILL);
    tine_result_release(pool, &result);
    CHECK_EQ(call(pool, fibonacci, &n, sizeof n), 377);
    tine_pool_destroy(pool);
}

/* ---- TINE_INLINE: the same as with workers ---- */

static int says_no(tine_task *task)
{
    return tine_fail(task, -ENOENT, "no %s", (const char *)tine_input(task, NULL));
}

static int bad_code(tine_task *task)
{
    (void)task;
    return -70000;
}

static int small_output(tine_task *task)
{
    size_t length;
    const void *in = tine_input(task, &length);
    void *out = tine_output(task, length);
    CHECK(out);
    memcpy(out, in, length);
    return (int)length;
}

static int task_id_is(tine_task *task)
{
    return tine_task_id(task) != 0 && tine_task_pool(task) ? 1 : -EINVAL;
}

static int state_of_worker(tine_task *task)
{
    int *state = (int *)tine_worker_state(task);
    return state ? ++*state : -ENOENT;
}

static int initialize(tine_task *task)
{
    static int state;
    memcpy(&state, tine_input(task, NULL), sizeof state);
    tine_set_worker_state(task, &state);
    void *block = tine_alloc(tine_task_pool(task), 100); /* the pool is there already */
    CHECK(block);
    tine_free(tine_task_pool(task), block);
    return state < 0 ? tine_fail(task, -EPERM, "it is %d", state) : 0;
}

/* Writes down everything that a host can see of what its tasks came to. */
static void record(uint32_t flags, char *text, size_t size)
{
    static const struct {
        tine_fn fn;
        const char *input;
        size_t length;
    } tasks[] = {{answer, NULL, 0},         {says_no, "luck", 5},    {bad_code, NULL, 0},
                 {small_output, "abc", 4},  {task_id_is, NULL, 0},   {state_of_worker, NULL, 0},
                 {state_of_worker, NULL, 0}, {uses_maps, NULL, 0},   {deadlines_inside, NULL, 0},
                 {leaves_results, NULL, 0}, {threads_inside, NULL, 0}};
    enum { TASKS = sizeof tasks / sizeof tasks[0] };
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    int state = 7;
    options.workers = 1;
    options.flags = flags;
    options.initializer = initialize;
    options.initializer_input = &state;
    options.initializer_length = sizeof state;
    options.window_tasks = TASKS;
    CHECK_EQ(tine_pool_create(&options, &pool), 0);
    for (size_t i = 0; i < TASKS; i++) {
        tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
        submit.user = (void *)(uintptr_t)(i + 1);
        CHECK_EQ(tine_submit(pool, tasks[i].fn, tasks[i].input, tasks[i].length, &submit, NULL), 0);
    }
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, NULL), -EAGAIN); /* the window is full */
    size_t used = 0;
    for (size_t i = 0; i < TASKS; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
        used += (size_t)snprintf(text + used, size - used, "%d: status %d, delivery %d, message '%s', output %zu '%.4s'\n",
                                 (int)(uintptr_t)result.user, result.status, result.delivery, result.message,
                                 result.length, result.data ? (const char *)result.data : "");
        CHECK(used < size);
        tine_result_release(pool, &result);
    }
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
    CHECK_EQ(call(pool, uses_maps, NULL, 0), 3);
    CHECK_EQ(tine_pool_shutdown(pool, HANG_NS), 0);
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, NULL), TINE_ESHUTDOWN);
    tine_pool_destroy(pool);
}

static void same_results(void)
{
    char with_workers[4096], inlined[4096];
    record(0, with_workers, sizeof with_workers);
    struct belongings before = take_stock();
    record(TINE_INLINE, inlined, sizeof inlined);
    struct belongings after = take_stock();
    if (strcmp(with_workers, inlined) != 0) {
        fprintf(stderr, "with workers:\n%sinline:\n%s", with_workers, inlined);
    }
    CHECK_STR(inlined, with_workers);
    CHECK_EQ(after.children, before.children);
    WAIT_UNTIL(count_entries("/proc/self/task") <= before.threads);
    CHECK_EQ(after.descriptors, before.descriptors);
    record(TINE_INLINE, inlined, sizeof inlined);
    CHECK_STR(inlined, with_workers);
}

static pid_t here;
static int at_a_time;

static int alone(tine_task *task)
{
    (void)task;
    CHECK_EQ(getpid(), here);
    CHECK_EQ(__atomic_add_fetch(&at_a_time, 1, __ATOMIC_SEQ_CST), 1);
    sched_yield();
    CHECK_EQ(__atomic_sub_fetch(&at_a_time, 1, __ATOMIC_SEQ_CST), 0);
    return 9;
}

static void *submit_many(void *user)
{
    tine_pool *pool = (tine_pool *)user;
    for (int i = 0; i < 500; i++) {
        CHECK_EQ(call(pool, alone, NULL, 0), 9);
    }
    return NULL;
}

static void one_at_a_time(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, TINE_INLINE);
    pthread_t threads[4];
    here = getpid();
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, submit_many, pool), 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_EQ(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.workers, 0);
    CHECK_EQ(stats.settled, 2000);
    CHECK_EQ(stats.outstanding, 0);
    tine_pool_destroy(pool);
}

struct shared {
    tine_pool *pool;
    int *started;
};

static void *cancel_it(void *user)
{
    struct shared *shared = (struct shared *)user;
    WAIT_UNTIL(__atomic_load_n(shared->started, __ATOMIC_SEQ_CST));
    CHECK_EQ(tine_cancel_all(shared->pool), 1);
    return NULL;
}

static void inline_errors(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, TINE_INLINE);
    int data = 0;
    tine_fn not_code;
    void *pointer = &data;
    memcpy(&not_code, &pointer, sizeof not_code);
    CHECK_RC(tine_submit(pool, not_code, NULL, 0, NULL, NULL), TINE_EFUNCTION);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.name = "nobody";
    CHECK_RC(tine_submit(pool, NULL, NULL, 0, &options, NULL), TINE_ENAME);
    options.name = "answer";
    tine_id id;
    CHECK_EQ(tine_submit(pool, NULL, NULL, 0, &options, &id), 0);
    tine_result result = TINE_RESULT_INIT;
    CHECK_EQ(tine_wait(pool, id, 0, &result), 0);
    CHECK_EQ(result.status, 42);
    CHECK(tine_pool_fd(pool) >= 0);

    /* Cancelled by another thread while it runs. */
    int started = 0, *where = &started;
    struct shared shared = {pool, &started};
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, cancel_it, &shared), 0);
    CHECK_EQ(tine_submit(pool, until_cancelled, &where, sizeof where, NULL, &id), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(tine_wait(pool, id, 0, &result), 0);
    CHECK_EQ(result.status, -ECANCELED);
    tine_result_release(pool, &result);

    pid_t child = fork();
    if (child == 0) {
        _exit(tine_submit(pool, answer, NULL, 0, NULL, NULL) == TINE_EFORKED ? 0 : 1);
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    tine_pool_destroy(pool);

    tine_error error = TINE_ERROR_INIT;
    tine_pool_options refused = TINE_POOL_OPTIONS_INIT;
    int state = -3;
    refused.flags = TINE_INLINE;
    refused.error = &error;
    refused.initializer = initialize;
    refused.initializer_input = &state;
    refused.initializer_length = sizeof state;
    CHECK_RC(tine_pool_create(&refused, &pool), TINE_EWORKERSTART);
    CHECK(strstr(error.text, "it is -3"));
}

int main(int argc, char **argv)
{
    CHECK_EQ(tine_register("answer", answer), 0);
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        nested(all_starts[i]);
    }
    same_results();
    one_at_a_time();
    inline_errors();
    return 0;
}
