/* Single processes whose function, supervisor or host does what nobody should: nothing hangs, lies or is left behind. */
/* limit: 240 */
#include "family.h"
#include <pthread.h>
#include <sys/resource.h>

static int start_method;

static tine_process_options options_of(void)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    options.start = start_method;
    return options;
}

static tine_process *start_with(const tine_process_options *changed, tine_fn fn, const void *input, size_t length)
{
    tine_process_options options = *changed;
    tine_process *process = NULL;
    tine_error error = TINE_ERROR_INIT;
    options.error = &error;
    int rc = tine_process_start(&options, fn, input, length, &process);
    if (rc) {
        fprintf(stderr, "%s: %s %s\n", start_name(start_method), tine_errname(rc), error.text);
    }
    CHECK_RC(rc, 0);
    return process;
}

static tine_process *start(tine_fn fn, const void *input, size_t length)
{
    tine_process_options options = options_of();
    return start_with(&options, fn, input, length);
}

static tine_exit wait_for(tine_process *process)
{
    tine_exit end = TINE_EXIT_INIT;
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    return end;
}

/* What processes and the test tell each other. */
struct board {
    volatile int count, wanted, stop;
};

static tine_segment *segment;
static struct board *board;

static tine_process *start_on_board(tine_fn fn, uint32_t flags)
{
    tine_process_options options = options_of();
    options.segments = &segment;
    options.segment_count = 1;
    options.flags = flags;
    return start_with(&options, fn, &board, sizeof board);
}

static struct board *board_of(tine_task *task)
{
    return *(struct board *const *)tine_input(task, NULL);
}

/* The one supervisor that there is. */
static pid_t supervisor_of(const tine_process *process)
{
    struct process all[8];
    int count = 0;
    WAIT_UNTIL((count = list_family(family_tag(), 0, all, 8)) >= 2);
    for (int i = 0; i < count; i++) {
        if (strcmp(all[i].name, "tine-supervisor") == 0) {
            return all[i].pid;
        }
    }
    fprintf(stderr, "process %d has no supervisor\n", (int)tine_process_pid(process));
    exit(1);
}

static int succeed(tine_task *task)
{
    (void)task;
    return 0;
}

static int stay(tine_task *task)
{
    (void)task;
    for (;;) {
        pause();
    }
    return 0;
}

/* ---- The function ---- */

/* The child returns from the function, too: the result is not its to leave. */
static int fork_and_return(tine_task *task)
{
    memset(tine_output(task, 8), 'p', 8);
    pid_t child = fork();
    if (child == 0) {
        memset(tine_output(task, 8), 'c', 8);
        return 7;
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 7);
    abort();
}

static void forked_children_leave_no_result(void)
{
    tine_process *process = start(fork_and_return, NULL, 0);
    tine_exit end = wait_for(process);
    CHECK_EQ(end.status, TINE_EDIED);
    CHECK_EQ(end.signal, SIGABRT);
    CHECK(end.data == NULL);
    tine_process_close(process);
}

/* Daemons and the like close what they do not know; what they open then has the numbers of tine's own. */
static int close_everything(tine_task *task)
{
    const char *path = (const char *)tine_input(task, NULL);
    int fd = 0;
    for (int i = 3; i < 1000; i++) {
        close(i);
    }
    while (fd < 20) {
        fd = open(path, O_RDWR);
        CHECK(fd >= 0);
    }
    return tine_output(task, 30 << 20) ? 1 : 2;
}

static void files_of_the_function_are_its_own(void)
{
    char path[] = "/tmp/tine-hostile-XXXXXX";
    struct stat file;
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    tine_process *process = start(close_everything, path, sizeof path);
    tine_exit end = wait_for(process);
    CHECK_EQ(fstat(fd, &file), 0);
    CHECK_EQ(file.st_size, 0);
    CHECK_EQ(end.status, 2);
    tine_process_close(process);
    close(fd);
    unlink(path);
}

/* Writes what it likes over all that it shares with its host but the board. */
static int scribble(tine_task *task)
{
    uint64_t seed = *(const uint64_t *)tine_input(task, NULL);
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        if (!strstr(line, "memfd:tine-ring") || sscanf(line, "%lx-%lx", &from, &to) != 2) {
            continue;
        }
        /* Everything, or a few words of the first slots. */
        size_t words = (to - from) / 8, count = random_next(&seed) % 2 ? words : 40;
        for (size_t i = 0; i < count; i++) {
            static const uint64_t odd[] = {0, 1, 64, 65, UINT64_MAX, UINT64_C(1) << 63, 0x7e7f80000000, 0x7e7f80001000};
            uint64_t value = random_next(&seed);
            size_t at = count == words ? i : random_next(&seed) % (words < 512 ? words : 512);
            ((volatile uint64_t *)from)[at] = value % 2 ? odd[value / 2 % 8] : value;
        }
    }
    switch (random_next(&seed) % 3) {
    case 0:
        _exit(3);
    case 1:
        kill(getpid(), SIGKILL);
    }
    return 0;
}

static void scribblers(int rounds)
{
    uint64_t seed = random_seed();
    for (int i = 0; i < rounds; i++) {
        uint64_t own = random_next(&seed) | 1;
        tine_process_options options = options_of();
        tine_process *process;
        int rc = tine_process_start(&options, scribble, &own, sizeof own, &process);
        if (rc) { /* It has overwritten that it has begun. */
            CHECK_RC(rc, TINE_EWORKERSTART);
            continue;
        }
        tine_exit end = wait_for(process);
        unsigned sum = 0;
        for (size_t at = 0; at < end.length; at += 512) {
            sum += ((const unsigned char *)end.data)[at];
        }
        board->wanted = (int)(sum + strlen(end.message) + strlen(end.death->backtrace) + end.death->output_length);
        tine_process_close(process);
    }
}

/* ---- Before it begins ---- */

#define TRAP "TINE_TEST_TRAP"

/* The first that is forked while there is such a file dies of it. */
static void spring_trap(void)
{
    const char *path = getenv(TRAP);
    if (path && unlink(path) == 0) {
        kill(getpid(), SIGKILL);
    }
}

static void killed_before_it_begins(void)
{
    char path[] = "/tmp/tine-hostile-XXXXXX";
    close(mkstemp(path));
    setenv(TRAP, path, 1);
    tine_process *process = start(succeed, NULL, 0);
    unsetenv(TRAP);
    CHECK_EQ(wait_for(process).status, 0);
    CHECK_EQ(access(path, F_OK), -1);
    tine_process_close(process);
}

/* ---- The supervisor ---- */

/* Nothing says any more that its supervisor has died. */
static int outlive(tine_task *task)
{
    prctl(PR_SET_PDEATHSIG, 0);
    board_of(task)->count = 1;
    return stay(task);
}

static void nobody_outlives_the_supervisor(void)
{
    board->count = 0;
    tine_process *process = start_on_board(outlive, 0);
    WAIT_UNTIL(board->count);
    CHECK_EQ(kill(supervisor_of(process), SIGKILL), 0);
    tine_exit end = wait_for(process);
    CHECK_EQ(end.status, TINE_EDIED);
    CHECK_EQ(end.signal, SIGKILL);
    tine_process_close(process);
}

static int plant(tine_task *task)
{
    struct board *shared = board_of(task);
    for (int i = 0; i < shared->wanted; i++) {
        if (fork() == 0) {
            setsid();
            __sync_fetch_and_add(&shared->count, 1);
            stay(task);
        }
    }
    return stay(task);
}

static tine_process *start_tree(int count)
{
    board->count = 0;
    board->wanted = count;
    tine_process *process = start_on_board(plant, 0);
    WAIT_UNTIL(board->count == count);
    return process;
}

static void stopped_supervisors_go_on(void)
{
    struct process left[8];
    for (int how = 0; how < 3; how++) {
        tine_process *process = start_tree(3);
        CHECK_EQ(kill(supervisor_of(process), SIGSTOP), 0);
        if (how == 1) {
            CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
        } else if (how == 2) {
            CHECK_RC(tine_process_kill(process, SIGTERM), 0);
        }
        if (how > 0) {
            CHECK_EQ(wait_for(process).signal, how == 1 ? SIGKILL : SIGTERM);
            WAIT_UNTIL(how == 2 || list_family(family_tag(), 0, left, 8) == 1);
        }
        tine_process_close(process);
        CHECK(family_is_gone(family_tag(), 0));
    }
}

/* More descendants than the supervisor may have open. */
static void large_trees(void)
{
    struct process left[8];
    struct rlimit before, few = {40, 40};
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    few.rlim_max = before.rlim_max;
    for (int by_signal = 0; by_signal < 2; by_signal++) {
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        tine_process *process = start_tree(by_signal ? 100 : 300);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (by_signal) {
            CHECK_RC(tine_process_kill_tree(process, SIGTERM), 0);
            CHECK_EQ(wait_for(process).signal, SIGTERM);
            WAIT_UNTIL(list_family(family_tag(), 0, left, 8) == 1);
        }
        tine_process_close(process);
        CHECK(family_is_gone(family_tag(), 0));
    }
}

/* ---- The host ---- */

static int stay_on_board(tine_task *task)
{
    struct board *shared = board_of(task);
    shared->count = 1;
    while (!shared->stop) {
        nap_ns(200000);
    }
    return 0;
}

/* A forked child of the host has all its descriptors; what is let go of is let go of all the same. */
static void forked_children_keep_nobody(void)
{
    board->count = board->stop = 0;
    tine_process *process = start_on_board(stay_on_board, TINE_DETACHED);
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    tine_process_close(process);
    board->stop = 1;
    WAIT_UNTIL(family_is_gone(family_tag(), child));
    kill(child, SIGKILL);
    CHECK_EQ(waitpid(child, NULL, 0), child);
}

/* A host that gets orphans as its children sees none of tine's, and has none left over. */
static void adopting_hosts(void)
{
    pid_t host = fork();
    if (host == 0) {
        CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        signal(SIGCHLD, SIG_IGN);
        struct belongings before = take_stock();
        for (int i = 0; i < 3; i++) {
            board->count = board->stop = 0;
            tine_process_close(start_on_board(stay_on_board, TINE_DETACHED));
            CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
            board->stop = 1;
            WAIT_UNTIL(family_is_gone(family_tag(), getppid()));
        }
        tine_process *process = start(succeed, NULL, 0);
        CHECK_EQ(wait_for(process).status, 0);
        tine_process_close(process);
        CHECK_EQ(waitpid(-1, NULL, 0), -1);
        CHECK_EQ(errno, ECHILD);
        check_stock(before);
        exit(0);
    }
    int status;
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(status, 0);
}

static int look_at_input(tine_task *task)
{
    size_t length;
    const char *in = (const char *)tine_input(task, &length);
    for (size_t i = 0; i < length; i += 4096) {
        CHECK_EQ(in[i], 'a');
    }
    return (int)(length >> 20);
}

/* Memory that is full is an error, not the end of the host. */
static void long_inputs(void)
{
    size_t length = (size_t)48 << 20;
    char *input = (char *)malloc(length);
    memset(input, 'a', length);
    tine_process *process = start(look_at_input, input, length);
    CHECK_EQ(wait_for(process).status, 48);
    tine_process_close(process);
    pid_t host = fork();
    if (host == 0) {
        struct rlimit limit = {(rlim_t)90 << 20, (rlim_t)90 << 20};
        tine_process_options options = options_of();
        options.heap_bytes = 4 << 20;
        CHECK_EQ(setrlimit(RLIMIT_AS, &limit), 0);
        CHECK_RC(tine_process_start(&options, look_at_input, input, length, &process), -ENOMEM);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(status, 0);
    free(input);
}

/* However few descriptors there are: a process, or an error and nothing left. */
static void few_descriptors(void)
{
    struct belongings stock = take_stock();
    struct rlimit before, few;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    int started = 0;
    for (int i = 0; i < 36; i += 3) {
        tine_process_options options = options_of();
        tine_process *process;
        options.flags = i % 2 ? TINE_DETACHED : 0;
        few = before;
        few.rlim_cur = (rlim_t)(3 + i / 2);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        int rc = tine_process_start(&options, stay, NULL, 0, &process);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (rc == 0) {
            started++;
            CHECK_RC(tine_process_kill(process, SIGTERM), 0);
            CHECK_EQ(wait_for(process).signal, SIGTERM);
            tine_process_close(process);
        } else {
            CHECK_RC(rc, -EMFILE);
        }
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
    CHECK(started > 0);
    check_stock(stock);
}

/* Many at once, each for no more than a handful of descriptors. */
static void many_at_once(void)
{
    enum { COUNT = 40 };
    tine_process *processes[COUNT];
    struct belongings before = take_stock();
    for (int i = 0; i < COUNT; i++) {
        processes[i] = start(stay, NULL, 0);
    }
    CHECK(take_stock().descriptors <= before.descriptors + 6 * COUNT);
    for (int i = 0; i < COUNT; i++) {
        tine_process_close(processes[i]);
    }
    check_stock(before);
}

static void *start_and_end(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    for (int i = 0; i < 10; i++) {
        tine_process *process = start(random_next(&seed) % 2 ? stay : succeed, NULL, 0);
        int rc = tine_process_kill(process, SIGTERM);
        CHECK(rc == 0 || rc == -ESRCH);
        wait_for(process);
        tine_process_close(process);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t all[4];
    for (uintptr_t i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&all[i], NULL, start_and_end, (void *)(i * 7919 + 1)), 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(all[i], NULL), 0);
    }
}

/* A process in a process, which ends with it, detached or not. */
static int nest(tine_task *task)
{
    tine_process_options options = options_of();
    tine_process *process;
    int *method = (int *)(uintptr_t)tine_input(task, NULL);
    options.start = *method;
    CHECK_RC(tine_process_start(&options, succeed, NULL, 0, &process), 0);
    CHECK_EQ(wait_for(process).status, 0);
    tine_process_close(process);
    options.flags = TINE_DETACHED;
    CHECK_RC(tine_process_start(&options, stay, NULL, 0, &process), 0);
    options.flags = 0;
    CHECK_RC(tine_process_start(&options, stay, NULL, 0, &process), 0);
    return 5;
}

static void nested(void)
{
    tine_process *process = start(nest, &start_method, sizeof start_method);
    CHECK_EQ(wait_for(process).status, 5);
    tine_process_close(process);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    options.workers = 1;
    options.start = start_method;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_submit(pool, nest, &start_method, sizeof start_method, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 5);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

/* ---- Edges of the options ---- */

static void edges(void)
{
    tine_process_options options = options_of();
    tine_error error = TINE_ERROR_INIT;
    tine_process *process;
    tine_segment *segments[65];
    options.error = &error;
    for (int i = 0; i < 65; i++) {
        segments[i] = segment;
    }
    options.segments = segments;
    options.segment_count = 65;
    CHECK_RC(tine_process_start(&options, succeed, NULL, 0, &process), -ENOSPC);
    CHECK(strstr(error.text, "65 segments"));
    options.segment_count = 64;
    process = start_with(&options, succeed, NULL, 0);
    CHECK_EQ(wait_for(process).status, 0);
    tine_process_close(process);
    options = options_of();
    options.error = &error;
    options.name = "nobody";
    CHECK_RC(tine_process_start(&options, NULL, NULL, 0, &process), TINE_ENAME);
    CHECK(strstr(error.text, "nobody"));
    /* Over before it can begin: it is a process that has ended, as with any other deadline. */
    for (int64_t ns = 1; ns <= 10000000; ns *= 10) {
        options = options_of();
        options.deadline_ns = ns;
        process = start_with(&options, stay, NULL, 0);
        CHECK_EQ(wait_for(process).status, -ETIMEDOUT);
        tine_process_close(process);
    }
    /* A start that takes too long leaves nothing, nor does a detached one. One that was quick after all is ended. */
    for (int detach = 0; detach < 2; detach++) {
        options = options_of();
        options.start_timeout_ns = 1;
        options.flags = detach ? TINE_DETACHED : 0;
        int rc = tine_process_start(&options, stay, NULL, 0, &process);
        if (rc == 0) {
            CHECK_RC(tine_process_kill(process, SIGKILL), 0);
            tine_process_close(process);
        } else {
            CHECK_EQ(rc, TINE_EWORKERSTART);
        }
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
}

int main(int argc, char **argv)
{
    CHECK_EQ(pthread_atfork(NULL, NULL, spring_trap), 0);
    tine_init(argc, argv);
    tag_family(argv);
    CHECK_RC(tine_segment_create(sizeof *board, NULL, &segment), 0);
    board = (struct board *)tine_segment_address(segment);
    threads(); /* The C library keeps what threads had. */
    for (int i = 0; i < 3; i++) {
        start_method = all_starts[i];
        struct belongings before = take_stock();
        forked_children_leave_no_result();
        files_of_the_function_are_its_own();
        scribblers(getenv("TINE_STORM") ? 1000 : 20);
        killed_before_it_begins();
        nobody_outlives_the_supervisor();
        stopped_supervisors_go_on();
        large_trees();
        forked_children_keep_nobody();
        adopting_hosts();
        long_inputs();
        few_descriptors();
        many_at_once();
        if (start_method != TINE_START_FORK) { /* A host of many threads is not for it: see TINE_START_FORK. */
            threads();
        }
        nested();
        edges();
        check_stock(before);
    }
    CHECK_RC(tine_segment_close(segment), 0);
    return 0;
}
