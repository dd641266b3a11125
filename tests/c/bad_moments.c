/* What calls get that are good ones at another moment or place: in a task, in a forked child, with full memory or a full window, after a
 * shutdown, and where no worker can be started. */
#include "bad_input.h"
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

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
    CHECK_RC(tine_init(argc, argv), 0);
    create_it();
    in_tasks();
    memory();
    windows();
    full_heap();
    after_shutdown();
    in_a_forked_child();
    no_workers();
    nobody_died();
    tine_pool_destroy(pool);
    return 0;
}
