/* TINE_CHECK=1: pointers that mean nothing to who gets them, blocks that are freed wrongly, and what is never freed. Each
 * case is this program, executed anew, `check_mode CASE`, and what it says on its standard error. */
#include "family.h"
#include <stdint.h>

static tine_pool *pool;

struct job {
    uint64_t number;
    const void *text;
    uint64_t other;
};

static int look(tine_task *task)
{
    return tine_input(task, NULL) ? 5 : 0;
}

static int give_private(tine_task *task)
{
    struct job *job = (struct job *)tine_output(task, sizeof *job);
    memset(job, 0, sizeof *job);
    job->text = calloc(1, 10);
    return 0;
}

static int give_shared(tine_task *task)
{
    void *block = tine_alloc(tine_task_pool(task), 100);
    size_t length = 500;
    char *out = (char *)tine_output(task, length);
    memset(out, 0, length);
    memcpy(out, &block, sizeof block);
    return 0;
}

static int item(tine_task *task, const void *in, void *out)
{
    (void)task;
    (void)in;
    ((struct job *)out)->text = out; /* Its place in the map's output: that is fine. */
    if (((const struct job *)in)->number == 3)
        ((struct job *)out)->text = stderr;
    return 0;
}

static void start(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
}

static int call(tine_fn fn, const void *input, size_t length)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int status = result.status;
    tine_result_release(pool, &result);
    return status;
}

static void send(const void *pointer)
{
    struct job job = {7, pointer, 70000};
    start();
    CHECK_EQ(call(look, &job, sizeof job), 5);
    tine_pool_destroy(pool);
}

static void stack_pointer(void)
{
    int local = 1;
    send(&local);
}

static void heap_pointer(void) { send(calloc(1, 100)); }
static void library_pointer(void) { send((const void *)(uintptr_t)puts); }
static void own_pointer(void) { send(&pool); }

static void output_pointer(void)
{
    start();
    CHECK_EQ(call(give_private, NULL, 0), 0);
    tine_pool_destroy(pool);
}

static void map_pointers(void)
{
    struct job in[6], out[6];
    memset(in, 0, sizeof in);
    for (int i = 0; i < 6; i++)
        in[i].number = (uint64_t)i;
    in[2].text = calloc(1, 5);
    start();
    CHECK_RC(tine_map(pool, item, in, sizeof *in, out, sizeof *out, 6, NULL), 0);
    tine_pool_destroy(pool);
}

static void shared_pointers(void)
{
    start();
    void *block = tine_alloc(pool, 10), *all[3];
    tine_segment *s;
    CHECK_RC(tine_segment_create(10, NULL, &s), 0);
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    all[0] = block;
    all[1] = tine_segment_address(s);
    all[2] = (void *)(uintptr_t)12345678;
    CHECK_EQ(call(look, all, sizeof all), 5);
    tine_free(pool, block);
    tine_pool_destroy(pool);
    CHECK_RC(tine_segment_close(s), 0);
}

static void double_free(void)
{
    start();
    void *block = tine_alloc(pool, 10);
    tine_free(pool, block);
    tine_free(pool, block);
}

static void interior_free(void)
{
    start();
    tine_free(pool, (char *)tine_alloc(pool, 1000) + 32);
}

static void foreign_free(void)
{
    start();
    tine_free(pool, calloc(1, 10));
}

static void large_interior_free(void)
{
    start();
    tine_free(pool, (char *)tine_alloc(pool, 1 << 20) + 70000);
}

static void foreign_realloc(void)
{
    start();
    (void)tine_realloc(pool, calloc(1, 10), 100);
}

static void odd_alignment(void)
{
    start();
    (void)tine_alloc_aligned(pool, 24, 100);
}

static void overflow(void)
{
    start();
    (void)tine_calloc(pool, SIZE_MAX / 2, 3);
}

static void no_memory(void)
{
    start();
    CHECK(!tine_alloc(pool, SIZE_MAX / 4));
    tine_pool_destroy(pool);
}

static void leaks(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    start();
    CHECK(tine_alloc(pool, 1000) && tine_alloc(pool, 200000));
    CHECK_EQ(call(give_shared, NULL, 0), 0);
    CHECK_RC(tine_submit(pool, give_shared, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0); /* And not released. */
    CHECK_RC(tine_submit(pool, give_shared, NULL, 0, NULL, &id), 0); /* Never asked for. */
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    tine_pool_destroy(pool);
}

static void nothing_left(void)
{
    tine_result result = TINE_RESULT_INIT;
    char big[5000];
    tine_id id;
    start();
    memset(big, 1, sizeof big);
    CHECK_RC(tine_submit(pool, look, big, sizeof big, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    tine_result_release(pool, &result);
    tine_free(pool, tine_alloc(pool, 100));
    tine_pool_destroy(pool);
}

static const struct {
    const char *name;
    void (*run)(void);
    int dies;
    const char *says[4];
} cases[] = {
    {"stack_pointer", stack_pointer, 0, {"task 0x", "input, byte 8: 0x", "points to the stack, which is private", NULL}},
    {"heap_pointer", heap_pointer, 0, {"input, byte 8: 0x", "the malloc heap", NULL, NULL}},
    {"library_pointer", library_pointer, 0, {"input, byte 8: 0x", "puts in ", "libc", NULL}},
    {"own_pointer", own_pointer, 0, {"input, byte 8: 0x", "/check_mode-", NULL, NULL}},
    {"output_pointer", output_pointer, 0, {"task 0x", "output, byte 8: 0x", "the malloc heap", NULL}},
    {"map_pointers", map_pointers, 0, {"item 2 of a map", "input, byte 8", "item 3 of a map", "output, byte 8"}},
    {"shared_pointers", shared_pointers, 0, {NULL, NULL, NULL, NULL}},
    {"double_free", double_free, 1, {"freeing a block: 0x", "is not allocated: freed twice", NULL, NULL}},
    {"interior_free", interior_free, 1, {"freeing a block: 0x", "points 32 bytes into a block", NULL, NULL}},
    {"large_interior_free", large_interior_free, 1, {"points 70000 bytes into a block", NULL, NULL, NULL}},
    {"foreign_free", foreign_free, 1, {"is not in this heap", NULL, NULL, NULL}},
    {"foreign_realloc", foreign_realloc, 1, {"changing a block's size: 0x", "is not in this heap", NULL, NULL}},
    {"odd_alignment", odd_alignment, 1, {"alignment is 24, which is not a power of two", NULL, NULL, NULL}},
    {"overflow", overflow, 1, {"and size is 3: their product overflows", NULL, NULL, NULL}},
    {"no_memory", no_memory, 0, {NULL, NULL, NULL, NULL}},
    {"leaks", leaks, 0, {"with 2 blocks", "that the host ", "with 3 blocks, 336 bytes, that worker ", "when the pool is destroyed: 1"}},
    {"nothing_left", nothing_left, 0, {NULL, NULL, NULL, NULL}},
};

enum { CASES = sizeof cases / sizeof *cases };

/* What the case says, with the variable set to this. */
static void run_case(char **argv, int at, const char *check, char *text, size_t room, int *status)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char name[60];
        snprintf(name, sizeof name, "%s", cases[at].name);
        char *arguments[] = {argv[0], name, NULL};
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        setenv("TINE_CHECK", check, 1);
        alarm(60);
        execv("/proc/self/exe", arguments);
        _exit(126);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t got;
    while (length < room - 1 && (got = read(ends[0], text + length, room - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = 0;
    close(ends[0]);
    CHECK_EQ(waitpid(pid, status, 0), pid);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    for (int at = 0; argc == 2 && at < CASES; at++)
        if (strcmp(cases[at].name, argv[1]) == 0) {
            cases[at].run();
            return 0;
        }
    CHECK_EQ(argc, 1);
    int failed = 0;
    for (int at = 0; at < CASES; at++) {
        static char text[20000];
        int status = 0, said = 0, wanted = 0;
        run_case(argv, at, "1", text, sizeof text, &status);
        for (int i = 0; i < 4 && cases[at].says[i]; i++, wanted++)
            said += strstr(text, cases[at].says[i]) != NULL;
        int ended = cases[at].dies ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT : status == 0;
        if (!ended || said != wanted || (wanted == 0 && text[0])) {
            fprintf(stderr, "%s: wait status %#x, and it says:\n%s\n", cases[at].name, (unsigned)status, text);
            failed++;
        }
        /* And nothing at all without. */
        run_case(argv, at, at % 2 ? "0" : "", text, sizeof text, &status);
        if (status != 0 || text[0]) {
            fprintf(stderr, "%s, unchecked: wait status %#x, and it says:\n%s\n", cases[at].name, (unsigned)status, text);
            failed++;
        }
    }
    CHECK_EQ(failed, 0);
    return 0;
}
