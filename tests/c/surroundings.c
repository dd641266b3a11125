/* What workers find around them: environment, directory, limits, processors, memory, and what an initializer leaves. */
#include "family.h"
#include "refuse.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MS ((int64_t)1000000)

static char environment_at_start[64];

/* Before main, as the libraries of a program would read it. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("TINE_TEST_WORD");
    snprintf(environment_at_start, sizeof environment_at_start, "%s", text ? text : "(none)");
}

struct view {
    char word[64], at_start[64], gone[64], threads[16], own_threads[16], directory[256], state[32];
    int nice, oom_score_adj, processors, processor;
    uint64_t files_soft, files_hard;
    pid_t pid;
};

static void copy_variable(char *to, size_t size, const char *name)
{
    const char *text = getenv(name);
    snprintf(to, size, "%s", text ? text : "(none)");
}

static int look_around(tine_task *task)
{
    struct view *view = (struct view *)tine_output(task, sizeof *view);
    struct rlimit files;
    cpu_set_t set;
    char score[32] = "0";
    memset(view, 0, sizeof *view);
    copy_variable(view->word, sizeof view->word, "TINE_TEST_WORD");
    copy_variable(view->gone, sizeof view->gone, "TINE_TEST_GONE");
    copy_variable(view->threads, sizeof view->threads, "OMP_NUM_THREADS");
    copy_variable(view->own_threads, sizeof view->own_threads, "MKL_NUM_THREADS");
    snprintf(view->at_start, sizeof view->at_start, "%s", environment_at_start);
    snprintf(view->state, sizeof view->state, "%s", tine_worker_state(task) ? (char *)tine_worker_state(task) : "(none)");
    if (!getcwd(view->directory, sizeof view->directory) || getrlimit(RLIMIT_NOFILE, &files) != 0 ||
        sched_getaffinity(0, sizeof set, &set) != 0 || read_file("/proc/self/oom_score_adj", score, sizeof score) <= 0) {
        return -EIO;
    }
    view->nice = getpriority(PRIO_PROCESS, 0);
    view->oom_score_adj = atoi(score);
    view->processors = CPU_COUNT(&set);
    while (!CPU_ISSET(view->processor, &set)) {
        view->processor++;
    }
    view->files_soft = files.rlim_cur;
    view->files_hard = files.rlim_max;
    view->pid = getpid();
    return 0;
}

static int *shared_counter, own_counter;

static int open_things(tine_task *task)
{
    size_t length;
    const char *input = (const char *)tine_input(task, &length);
    char *state = (char *)malloc(length + 8);
    if (!state) {
        return -ENOMEM;
    }
    snprintf(state, length + 8, "opened %s", input + sizeof(int *));
    tine_set_worker_state(task, state);
    return 0;
}

static int close_things(tine_task *task)
{
    free(tine_worker_state(task));
    __atomic_add_fetch(shared_counter ? shared_counter : &own_counter, 1, __ATOMIC_SEQ_CST);
    return -1; /* nobody minds */
}

static tine_pool *make_pool(tine_pool_options options)
{
    tine_pool *pool;
    tine_error error = TINE_ERROR_INIT;
    options.error = &error;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0) {
        fprintf(stderr, "tine_pool_create: %s: %s\n", tine_errname(rc), error.text);
        exit(1);
    }
    return pool;
}

static struct view view_of(tine_pool *pool)
{
    tine_id id = 0;
    tine_result result = TINE_RESULT_INIT;
    struct view view;
    CHECK_RC(tine_submit(pool, look_around, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, 0);
    CHECK_EQ(result.length, sizeof view);
    memcpy(&view, result.data, sizeof view);
    tine_result_release(pool, &result);
    return view;
}

static void nothing_said(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    char here[256];
    struct rlimit files;
    cpu_set_t set;
    options.start = start;
    options.workers = 1;
    tine_pool *pool = make_pool(options);
    struct view view = view_of(pool);
    CHECK(getcwd(here, sizeof here) && getrlimit(RLIMIT_NOFILE, &files) == 0 && sched_getaffinity(0, sizeof set, &set) == 0);
    CHECK_STR(view.word, "(none)");
    CHECK_STR(view.gone, "here");
    CHECK_STR(view.threads, "(none)");
    CHECK_STR(view.state, "(none)");
    CHECK_STR(view.directory, here);
    CHECK_EQ(view.nice, getpriority(PRIO_PROCESS, 0));
    CHECK_EQ(view.processors, CPU_COUNT(&set));
    CHECK_EQ(view.files_soft, files.rlim_cur);
    CHECK_EQ(view.files_hard, files.rlim_max);
    tine_pool_destroy(pool);
}

static void everything_said(int start)
{
    static const char *const lines[] = {"TINE_TEST_WORD=first", "TINE_TEST_WORD=a=b c", "TINE_TEST_GONE", "MKL_NUM_THREADS=3", NULL};
    struct rlimit files;
    cpu_set_t set;
    tine_limit limits[] = {{RLIMIT_NOFILE, 100, 200}, {RLIMIT_CPU, 1000, 1000}};
    uint32_t processor = 0;
    CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0 && sched_getaffinity(0, sizeof set, &set) == 0);
    while (!CPU_ISSET(processor, &set)) {
        processor++;
    }
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    options.start = start;
    options.workers = 2;
    worker.environment = lines;
    worker.directory = "/proc";
    worker.library_threads = 2;
    worker.nice = 3;
    worker.oom_score_adj = 700;
    worker.processors = &processor;
    worker.processor_count = 1;
    worker.limits = limits;
    worker.limit_count = 2;
    tine_pool *pool = make_pool(options);
    /* Of the first workers, and of one that took a dead one's place. */
    for (int round = 0; round < 2; round++) {
        struct view view = view_of(pool);
        CHECK_STR(view.word, "a=b c");
        CHECK_STR(view.at_start, start == TINE_START_FORK ? "(none)" : "a=b c");
        CHECK_STR(view.gone, "(none)");
        CHECK_STR(view.threads, "2");
        CHECK_STR(view.own_threads, "3");
        CHECK_STR(view.directory, "/proc");
        CHECK_EQ(view.nice, getpriority(PRIO_PROCESS, 0) + 3);
        CHECK_EQ(view.oom_score_adj, 700);
        CHECK_EQ(view.processors, 1);
        CHECK_EQ(view.processor, processor);
        CHECK_EQ(view.files_soft, 100);
        CHECK_EQ(view.files_hard, 200);
        tine_stats stats = TINE_STATS_INIT;
        CHECK_EQ(kill(view.pid, SIGKILL), 0);
        WAIT_UNTIL((tine_pool_poll(pool), tine_pool_stats(pool, &stats) == 0 &&
                    stats.worker_deaths == (uint64_t)round + 1 && stats.workers_ready == 2));
    }
    tine_pool_destroy(pool);
    CHECK(getenv("TINE_TEST_GONE") && !getenv("TINE_TEST_WORD")); /* the host's own is as it was */
}

static void processors(int start)
{
    cpu_set_t set;
    CHECK_EQ(sched_getaffinity(0, sizeof set, &set), 0);
    for (int affinity = TINE_AFFINITY_COMPACT; affinity <= TINE_AFFINITY_SPREAD; affinity++) {
        tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.worker = &worker;
        options.start = start;
        options.workers = (size_t)CPU_COUNT(&set);
        worker.affinity = affinity;
        tine_pool *pool = make_pool(options);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(view_of(pool).processors, 1);
        }
        tine_pool_destroy(pool);
    }
}

static void state(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct {
        int *counter;
        char name[16];
    } input = {NULL, "the database"};
    options.start = start;
    options.workers = 2;
    options.max_tasks_per_worker = 1;
    options.initializer = open_things;
    options.finalizer = close_things;
    /* What the finalizers count in. It is mapped where it is in a copy of the host; others count for themselves. */
    input.counter = (int *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(input.counter != MAP_FAILED);
    shared_counter = start == TINE_START_FORK ? input.counter : NULL;
    options.initializer_input = &input;
    options.initializer_length = sizeof input;
    tine_pool *pool = make_pool(options);
    for (int i = 0; i < 6; i++) {
        struct view view = view_of(pool);
        CHECK_STR(view.state, "opened the database");
    }
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    if (start == TINE_START_FORK) {
        /* Six that were replaced, and whoever had taken their places by the end. */
        CHECK(*input.counter >= 6 && *input.counter <= 8);
    }
    tine_pool_destroy(pool);
    munmap(input.counter, 4096);
}

/* ---- Memory ---- */

struct appetite {
    size_t bytes;
};

static int eat(const struct appetite *appetite)
{
    volatile char *memory = (volatile char *)malloc(appetite->bytes);
    if (!memory) {
        return -ENOMEM;
    }
    for (size_t at = 0; at < appetite->bytes; at += 4096) {
        memory[at] = 1;
    }
    while (appetite->bytes > 32 << 20) {
        nap_ns(MS); /* until somebody notices */
    }
    free((void *)memory);
    return 0;
}

static int eat_task(tine_task *task)
{
    return eat((const struct appetite *)tine_input(task, NULL));
}

static int eat_item(tine_task *task, const void *in, void *out)
{
    (void)task, (void)out;
    return eat((const struct appetite *)in);
}

static void memory(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct appetite appetites[20];
    int status[20];
    options.start = start;
    options.workers = 2;
    options.max_worker_bytes = 100 << 20;
    tine_pool *pool = make_pool(options);
    tine_result result = TINE_RESULT_INIT;
    appetites[0].bytes = 200 << 20;
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, eat_task, appetites, sizeof appetites[0], NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, TINE_EMEMORY);
    CHECK_EQ(result.delivery, TINE_MAYBE_RAN);
    CHECK_EQ(result.death->signal, SIGKILL);
    CHECK(strstr(result.message, "max_worker_bytes"));
    tine_result_release(pool, &result);
    for (int i = 0; i < 20; i++) {
        appetites[i].bytes = i == 4 ? 200 << 20 : 4096;
    }
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    map.status = status;
    map.chunk = 6;
    CHECK_RC(tine_map(pool, eat_item, appetites, sizeof appetites[0], NULL, 0, 20, &map), TINE_EITEMS);
    for (int i = 0; i < 20; i++) {
        CHECK_RC(status[i], i == 4 ? TINE_EMEMORY : 0);
    }
    tine_pool_destroy(pool);
}

/* Says how often it has begun, and has the worker's memory grow a little. */
static int grow_item(tine_task *task, const void *in, void *out)
{
    static volatile char *arena;
    static size_t grown;
    int *begun;
    (void)task, (void)out;
    memcpy(&begun, in, sizeof begun);
    ++*begun;
    if (!arena) {
        arena = (volatile char *)mmap(NULL, (size_t)1 << 30, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    arena[grown % ((size_t)1 << 30)] = 1;
    grown += 1024;
    return 0;
}

/* Between the look at a worker's memory and its end it goes on with its chunk: none of those items runs again, and only one that
 * has not ended fails. */
static void memory_of_many(void)
{
    enum { ITEMS = 300000, ROUNDS = 3 };
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.start = TINE_START_FORKSERVER;
    options.workers = 1;
    options.max_worker_bytes = 64 << 20;
    tine_pool *pool = make_pool(options);
    tine_stats stats = TINE_STATS_INIT;
    int *begun = (int *)tine_calloc(pool, ITEMS, sizeof *begun);
    int **in = (int **)calloc(ITEMS, sizeof *in), *status = (int *)calloc(ITEMS, sizeof *status);
    uint64_t failed = 0;
    CHECK(begun && in && status);
    refuse(SYS_pidfd_send_signal); /* it takes the supervisor to send the signal, which takes longer */
    for (int i = 0; i < ITEMS; i++) {
        in[i] = &begun[i];
    }
    for (int round = 0; round < ROUNDS; round++) {
        tine_map_options map = TINE_MAP_OPTIONS_INIT;
        memset(begun, 0, ITEMS * sizeof *begun);
        map.status = status;
        map.chunk = ITEMS;
        int rc = tine_map(pool, grow_item, in, sizeof *in, NULL, 0, ITEMS, &map);
        CHECK(rc == 0 || rc == TINE_EITEMS);
        for (int i = 0; i < ITEMS; i++) {
            CHECK(status[i] == 0 || status[i] == TINE_EMEMORY);
            CHECK(begun[i] == 1 || (status[i] != 0 && begun[i] == 0));
            failed += status[i] != 0;
        }
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    printf("%d items, %d ended with their workers, of which there were %d\n", ITEMS * ROUNDS, (int)failed,
           (int)stats.worker_deaths);
    CHECK(stats.worker_deaths > 0 && failed <= stats.worker_deaths);
    tine_free(pool, begun);
    free(in);
    free(status);
    tine_pool_destroy(pool);
}

/* ---- Bad input ---- */

static int failing_start(const tine_pool_options *options, const char *text)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    tine_pool_options copy = *options;
    copy.error = &error;
    copy.workers = 1;
    int rc = tine_pool_create(&copy, &pool);
    CHECK(pool == NULL);
    if (!strstr(error.text, text)) {
        fprintf(stderr, "\"%s\" has no \"%s\"\n", error.text, text);
        exit(1);
    }
    return rc;
}

static void bad_input(void)
{
    static const char *const nameless[] = {"=x", NULL};
    tine_limit crossed = {RLIMIT_NOFILE, 20, 10}, unknown = {12345, 1, 1};
    uint32_t processor = 70000, absent = 60000;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_worker_options none = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    worker.environment = nameless;
    CHECK_RC(failing_start(&options, "environment has \"=x\", without a name"), -EINVAL);
    worker = none, worker.nice = 20;
    CHECK_RC(failing_start(&options, "nice is 20"), -EINVAL);
    worker = none, worker.oom_score_adj = -1001;
    CHECK_RC(failing_start(&options, "oom_score_adj is -1001"), -EINVAL);
    worker = none, worker.affinity = 3;
    CHECK_RC(failing_start(&options, "affinity is 3"), -EINVAL);
    worker = none, worker.limits = &crossed, worker.limit_count = 1;
    CHECK_RC(failing_start(&options, "soft value of 20 above the hard one of 10"), -EINVAL);
    worker = none, worker.limit_count = 1;
    CHECK_RC(failing_start(&options, "limits is 0x0 and its count is 1"), -EINVAL);
    worker = none, worker.processors = &processor, worker.processor_count = 1;
    CHECK_RC(failing_start(&options, "processors has 70000, which is not a processor of this machine"), -EINVAL);
    /* What only the worker, or the supervisor, can find out. */
    worker = none, worker.processors = &absent, worker.processor_count = 1;
    CHECK_RC(failing_start(&options, "running on processor 60000"), TINE_EWORKERSTART);
    worker = none, worker.limits = &unknown, worker.limit_count = 1;
    CHECK_RC(failing_start(&options, "setting limit 12345"), TINE_EWORKERSTART);
    worker = none, worker.directory = "/nowhere/at/all";
    CHECK_RC(failing_start(&options, "directory /nowhere/at/all"), TINE_EWORKERSTART);
    worker = none, worker.size = 5;
    CHECK_RC(failing_start(&options, "tine_worker_options.size is 5"), -EINVAL);
    worker.size = 0;
    CHECK_RC(failing_start(&options, "tine_worker_options.size is 0"), -EINVAL);
    CHECK(tine_worker_state(NULL) == NULL);
    tine_set_worker_state(NULL, NULL);
}

int main(int argc, char **argv)
{
    if (!getenv(TAG_VARIABLE)) {
        setenv("TINE_TEST_GONE", "here", 1); /* the host's, and not set again by the workers, which run this too */
    }
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    bad_input();
    for (size_t start = 0; start < 3; start++) {
        nothing_said(all_starts[start]);
        everything_said(all_starts[start]);
        processors(all_starts[start]);
        state(all_starts[start]);
        memory(all_starts[start]);
    }
    memory_of_many();
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}
