/* For tests of a pool in hosts of every kind: a pool's whole life, and cases that are processes of their own. */
#ifndef HOSTS_H
#define HOSTS_H

#include "family.h"

static inline int add_one(tine_task *task)
{
    int number;
    memcpy(&number, tine_input(task, NULL), sizeof number);
    return number + 1;
}

static inline int square(tine_task *task, const void *in, void *out)
{
    int number;
    (void)task;
    memcpy(&number, in, sizeof number);
    number *= number;
    memcpy(out, &number, sizeof number);
    return 0;
}

static inline int tell_pid(tine_task *task)
{
    (void)task;
    return (int)getpid();
}

static inline int tell_parent(tine_task *task)
{
    (void)task;
    return (int)getppid();
}

/* Runs one task to its end and gives back its status. */
static inline int call(tine_pool *pool, tine_fn fn, const void *input, size_t length)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int status = result.status;
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", tine_errname(status), result.message);
    }
    tine_result_release(pool, &result);
    return status;
}

static inline void map_squares(tine_pool *pool, int first)
{
    enum { COUNT = 300 };
    int in[COUNT], out[COUNT];
    for (int i = 0; i < COUNT; i++) {
        in[i] = first + i;
    }
    CHECK_RC(tine_map(pool, square, in, sizeof *in, out, sizeof *out, COUNT, NULL), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(out[i], (first + i) * (first + i));
    }
}

static inline void use(tine_pool *pool)
{
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(call(pool, add_one, &i, sizeof i), i + 1);
    }
    map_squares(pool, 7);
}

static inline uint64_t supervisor_deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.supervisor_deaths;
}

static inline uint64_t worker_deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.worker_deaths;
}

/* Right results before and after a worker's death and a supervisor's. */
static inline void use_and_kill(tine_pool *pool)
{
    use(pool);
    pid_t worker = (pid_t)call(pool, tell_pid, NULL, 0);
    CHECK(worker > 0 && worker != getpid());
    CHECK_EQ(kill(worker, SIGKILL), 0);
    WAIT_UNTIL(worker_deaths(pool) == 1);
    use(pool);
    pid_t supervisor = (pid_t)call(pool, tell_parent, NULL, 0);
    CHECK(supervisor > 1 && supervisor != getpid());
    CHECK_EQ(kill(supervisor, SIGKILL), 0);
    WAIT_UNTIL(supervisor_deaths(pool) == 1);
    use(pool);
}

static inline void whole_life(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    use_and_kill(pool);
    tine_pool_destroy(pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

static volatile sig_atomic_t sigchlds;

static inline void count_sigchld(int signal)
{
    (void)signal;
    sigchlds++;
}

struct host_case {
    const char *name;
    void (*run)(int start);
};

/* Runs a case as a process of its own: this program, `PROGRAM CASE START`. */
static inline int run_case(const char *name, size_t at, int start)
{
    int status;
    char tag[80];
    snprintf(tag, sizeof tag, "%s-%zu-%d", family_tag(), at, start);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char program[] = "hosts", words[2][16];
        snprintf(words[0], sizeof words[0], "%zu", at);
        snprintf(words[1], sizeof words[1], "%d", start);
        char *arguments[] = {program, words[0], words[1], NULL};
        setenv(TAG_VARIABLE, tag, 1);
        alarm(60); /* Only what hangs takes that long. */
        execv("/proc/self/exe", arguments);
        _exit(126);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (status != 0) {
        fprintf(stderr, "%s, %s: wait status %#x\n", name, start_name(start), (unsigned)status);
        print_family(tag);
        return 1;
    }
    WAIT_UNTIL(family_is_gone(tag, 0));
    return 0;
}

/* The main of such a test: all cases with each start method, or the one that the arguments name. */
static inline int run_cases(int argc, char **argv, const struct host_case *cases, size_t count)
{
    int failed = 0;
    tag_family(argv);
    tine_init(argc, argv);
    if (argc == 3) {
        size_t at = (size_t)atoi(argv[1]);
        CHECK(at < count);
        cases[at].run(atoi(argv[2]));
        return 0;
    }
    for (size_t at = 0; at < count; at++) {
        int64_t began = clock_ns();
        for (int i = 0; i < 3; i++) {
            failed += run_case(cases[at].name, at, all_starts[i]);
        }
        printf("%-26s %.2f s\n", cases[at].name, (double)(clock_ns() - began) / 1e9);
        fflush(stdout);
    }
    CHECK_EQ(failed, 0);
    return 0;
}

#endif
