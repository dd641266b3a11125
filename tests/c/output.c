/* What workers write, and what the report of a death says. */
#include "family.h"

enum { KEPT = 64 * 1024 };

static tine_pool *create(int start, int output, const char *path)
{
    tine_error error = TINE_ERROR_INIT;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    tine_pool *pool = NULL;
    options.error = &error;
    options.workers = 2;
    options.start = start;
    worker.output = output;
    worker.output_path = path;
    int rc = tine_pool_create(&options, &pool);
    if (rc) {
        fprintf(stderr, "%s\n", error.text);
    }
    CHECK_EQ(rc, 0);
    return pool;
}

static void wait_for(tine_pool *pool, tine_fn fn, const void *input, size_t length, tine_result *result)
{
    tine_id id;
    CHECK_EQ(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK_EQ(tine_wait(pool, id, HANG_NS, result), 0);
    CHECK_EQ(result->id, id);
}

static int says_and_dies(tine_task *task)
{
    (void)task;
    printf("to standard output: %d\n", 42);
    fprintf(stderr, "to standard error\n");
    volatile double sink = 1;
    for (int i = 0; i < 5000000; i++) {
        sink = sink * 1.000001;
    }
    return raise(SIGKILL);
}

/* So many lines, each with its number; then it dies, or not. */
struct talk {
    int lines, dies;
};

static int talks(tine_task *task)
{
    const struct talk *talk = (const struct talk *)tine_input(task, NULL);
    for (int i = 0; i < talk->lines; i++) {
        printf("line %08d of a worker that talks and talks\n", i);
    }
    fflush(stdout);
    return talk->dies ? raise(SIGKILL) : 5;
}

static int fails_item(tine_task *task, const void *in, void *out)
{
    (void)task, (void)out;
    if (*(const int *)in == 7) {
        fprintf(stderr, "item seven\n");
        abort();
    }
    return 0;
}

static void on_failure(const tine_result *result, size_t item, void *user)
{
    CHECK_EQ(item, 7);
    CHECK(result->death);
    CHECK_EQ(result->death->signal, SIGABRT);
    CHECK_EQ(result->death->item, 7);
    CHECK_EQ(result->death->task, 0);
    CHECK(strstr(result->death->output, "item seven"));
    ++*(int *)user;
}

static void captured(int start)
{
    tine_pool *pool = create(start, TINE_OUTPUT_CAPTURE, NULL);
    tine_result result = TINE_RESULT_INIT;
    wait_for(pool, says_and_dies, NULL, 0, &result);
    CHECK_EQ(result.status, TINE_EDIED);
    const tine_death *death = result.death;
    CHECK(death);
    CHECK(strstr(death->output, "to standard output: 42\n"));
    CHECK(strstr(death->output, "to standard error\n"));
    CHECK_EQ(strlen(death->output), death->output_length);
    CHECK(death->user_ns > 0);
    CHECK_EQ(death->out_of_memory, 0);
    CHECK(death->task == result.id);
    CHECK(death->function[0]);
    int ends[2];
    char text[8192];
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(tine_death_print(death, ends[1]), 0);
    ssize_t got = read(ends[0], text, sizeof text - 1);
    CHECK(got > 0);
    text[got] = 0;
    CHECK(strstr(text, "SIGKILL") && strstr(text, "  in task 0x") && strstr(text, "processor time"));
    CHECK(strstr(text, "    | to standard output: 42\n"));
    close(ends[0]);
    close(ends[1]);
    tine_result_release(pool, &result);

    /* 1 MB; the end of it is kept. */
    struct talk talk = {20000, 1};
    wait_for(pool, talks, &talk, sizeof talk, &result);
    CHECK(result.death);
    CHECK_EQ(result.death->output_length, KEPT);
    const char *end = result.death->output + KEPT - strlen("line 00019999 of a worker that talks and talks\n");
    CHECK_STR(end, "line 00019999 of a worker that talks and talks\n");
    tine_result_release(pool, &result);

    /* Nobody waits for a reader. */
    talk.dies = 0;
    for (int i = 0; i < 5; i++) {
        wait_for(pool, talks, &talk, sizeof talk, &result);
        CHECK_EQ(result.status, 5);
        tine_result_release(pool, &result);
    }
    talk.lines = 0;
    talk.dies = 1;
    tine_pool_destroy(pool);
    pool = create(start, TINE_OUTPUT_CAPTURE, NULL);
    wait_for(pool, talks, &talk, sizeof talk, &result);
    CHECK(result.death);
    CHECK_EQ(result.death->output_length, 0);
    CHECK_STR(result.death->output, "");
    tine_result_release(pool, &result);

    int in[10], told = 0;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.on_failure = on_failure;
    options.user = &told;
    for (int i = 0; i < 10; i++) {
        in[i] = i;
    }
    CHECK_EQ(tine_map(pool, fails_item, in, sizeof in[0], NULL, 0, 10, &options), TINE_EITEMS);
    CHECK_EQ(told, 1);
    tine_pool_destroy(pool);
}

static int closes_both(tine_task *task)
{
    (void)task;
    close(1);
    close(2);
    return getppid();
}

static int64_t processor_time_ns(pid_t pid)
{
    struct timespec time;
    clockid_t clock;
    CHECK_EQ(clock_getcpuclockid(pid, &clock), 0);
    CHECK_EQ(clock_gettime(clock, &time), 0);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* A worker may close what is captured, as daemons and some libraries do, and live on. */
static void closed(int start)
{
    tine_pool *pool = create(start, TINE_OUTPUT_CAPTURE, NULL);
    tine_result result = TINE_RESULT_INIT;
    wait_for(pool, closes_both, NULL, 0, &result);
    CHECK(result.status > 0);
    int64_t before = processor_time_ns(result.status);
    nap_ns(200000000);
    CHECK(processor_time_ns(result.status) - before < 20000000); /* the supervisor sleeps */
    tine_pool_destroy(pool);
}

static void redirected(int start)
{
    char path[64], text[200] = {0};
    struct talk talk = {2, 0};
    tine_result result = TINE_RESULT_INIT;
    snprintf(path, sizeof path, "/tmp/tine-output-%d", (int)getpid());
    unlink(path);
    tine_pool *pool = create(start, TINE_OUTPUT_INHERIT, path);
    for (int i = 0; i < 2; i++) {
        wait_for(pool, talks, &talk, sizeof talk, &result);
        CHECK_EQ(result.status, 5);
    }
    tine_pool_destroy(pool);
    CHECK(read_file(path, text, sizeof text) > 0);
    CHECK_EQ(unlink(path), 0);
    const char *first = strstr(text, "line 00000001");
    CHECK(first && strstr(first + 1, "line 00000001")); /* appended */

    pool = create(start, TINE_OUTPUT_NULL, NULL);
    talk.lines = 1000;
    wait_for(pool, talks, &talk, sizeof talk, &result);
    CHECK_EQ(result.status, 5);
    tine_pool_destroy(pool);
}

static void refused(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    tine_pool *pool;
    options.error = &error;
    worker.output = 7;
    CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
    CHECK(strstr(error.text, "output is 7"));
    worker.output = TINE_OUTPUT_CAPTURE;
    worker.output_path = "/tmp/x";
    CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
    worker.output = TINE_OUTPUT_INHERIT;
    worker.output_path = "/nowhere/at/all";
    CHECK_RC(tine_pool_create(&options, &pool), TINE_EWORKERSTART);
    CHECK(strstr(error.text, "/nowhere/at/all"));
}

static int takes_memory(tine_task *task)
{
    (void)task;
    for (;;) {
        char *bytes = (char *)malloc(1 << 20);
        CHECK(bytes);
        memset(bytes, 1, 1 << 20);
        nap_ns(100000);
    }
}

static void out_of_memory(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    tine_result result = TINE_RESULT_INIT;
    options.workers = 1;
    options.start = start;
    options.max_worker_bytes = 64 << 20;
    CHECK_EQ(tine_pool_create(&options, &pool), 0);
    wait_for(pool, takes_memory, NULL, 0, &result);
    CHECK_EQ(result.status, TINE_EMEMORY);
    CHECK(result.death && result.death->out_of_memory);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    for (int i = 0; i < 3; i++) {
        captured(all_starts[i]);
        closed(all_starts[i]);
        redirected(all_starts[i]);
        out_of_memory(all_starts[i]);
    }
    refused();
    return 0;
}
