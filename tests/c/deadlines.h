/* For tests of what ends a task: functions that make what they will of the time that they are given. */
#ifndef DEADLINES_H
#define DEADLINES_H

#include "family.h"

#define MS ((int64_t)1000000)
/* A grace that no task needs which gives up by itself, on however busy a machine. */
#define LONG (100000 * MS)

/* What a function does with the time that it is given. */
enum manner {
    QUICK,     /* returns at once */
    POLITE,    /* looks at tine_cancelled, and returns when it is true */
    SLEEPY,    /* sleeps, and dies of SIGTERM */
    STUBBORN,  /* ignores SIGTERM and computes */
    PARENT,    /* as STUBBORN, with a child process of its own */
    LASTING,   /* computes for .lasts_ns */
    CRASHING,  /* dies of SIGSEGV the first so many times */
};

struct job {
    enum manner manner;
    int crashes;
    int *tries;       /* in the heap: how often it was begun */
    int *started;     /* in the heap: set when it has begun */
    int *child;       /* in the heap: the child's pid */
    int64_t lasts_ns;
};

static inline int behave(tine_task *task, const struct job *job)
{
    int tries = job->tries ? __atomic_add_fetch(job->tries, 1, __ATOMIC_SEQ_CST) : 1;
    if (job->started) {
        __atomic_store_n(job->started, 1, __ATOMIC_SEQ_CST);
    }
    switch (job->manner) {
    case QUICK:
        return 7;
    case POLITE:
        while (!tine_cancelled(task)) {
            nap_ns(100000);
        }
        return tine_fail(task, -EIO, "stopped in the middle");
    case SLEEPY:
        for (;;) {
            pause();
        }
    case PARENT: {
        pid_t child = fork();
        if (child == 0) {
            for (;;) {
                pause();
            }
        }
        __atomic_store_n(job->child, (int)child, __ATOMIC_SEQ_CST);
    }
        /* fall through */
    case STUBBORN:
        signal(SIGTERM, SIG_IGN);
        for (volatile unsigned spins = 0;; spins++) {
        }
    case LASTING:
        for (int64_t until = clock_ns() + job->lasts_ns; clock_ns() < until;) {
        }
        return 7;
    case CRASHING:
        if (tries <= job->crashes) {
            raise(SIGSEGV);
        }
        return 9;
    }
    return -EINVAL;
}

static inline int run(tine_task *task)
{
    return behave(task, (const struct job *)tine_input(task, NULL));
}

static inline int run_item(tine_task *task, const void *in, void *out)
{
    int status = behave(task, (const struct job *)in);
    *(int *)out = status + 1;
    return status < 0 ? status : 0;
}

static inline tine_pool *make_pool(int start, size_t workers, tine_pool_options options)
{
    tine_pool *pool;
    tine_error error = TINE_ERROR_INIT;
    options.start = start;
    options.workers = workers;
    options.error = &error;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0) {
        fprintf(stderr, "tine_pool_create: %s: %s\n", tine_errname(rc), error.text);
        exit(1);
    }
    return pool;
}

static inline int *make_word(tine_pool *pool)
{
    int *word = (int *)tine_alloc(pool, sizeof *word);
    CHECK(word);
    *word = 0;
    return word;
}

static inline tine_id submit(tine_pool *pool, struct job job, tine_submit_options options)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, run, &job, sizeof job, &options, &id), 0);
    return id;
}

static inline tine_result result_of(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK(result.id == id);
    return result;
}

static inline struct job job_of(enum manner manner)
{
    struct job job = {manner, 0, NULL, NULL, NULL, 0};
    return job;
}

static inline int is_set(int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

/* The pool still works, with all of its workers. */
static inline void check_serves(tine_pool *pool)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id ids[8];
    for (int i = 0; i < 8; i++) {
        ids[i] = submit(pool, job_of(QUICK), options);
    }
    for (int i = 0; i < 8; i++) {
        tine_result result = result_of(pool, ids[i]);
        CHECK_EQ(result.status, 7);
        tine_result_release(pool, &result);
    }
}

static inline void check_ended(tine_pool *pool, tine_id id, int status, int delivery, int signal_, const char *message)
{
    tine_result result = result_of(pool, id);
    CHECK_RC(result.status, status);
    CHECK_EQ(result.delivery, delivery);
    CHECK_STR(result.message, message);
    CHECK(result.data == NULL && result.length == 0);
    CHECK_EQ(result.death != NULL, signal_ != 0);
    if (result.death) {
        CHECK_EQ(result.death->signal, signal_);
        CHECK_EQ(result.deaths, 1);
    }
    tine_result_release(pool, &result);
}

struct timed_test {
    const char *name;
    void (*run)(int start);
};

/* Each test with every start method; argv[1], where there is one, is a part of the name of those to run. */
static inline int run_timed(int argc, char **argv, const struct timed_test *tests, size_t count)
{
    for (size_t start = 0; start < 3; start++) {
        for (size_t i = 0; i < count; i++) {
            int64_t began = clock_ns();
            if (argc > 1 && !strstr(tests[i].name, argv[1])) {
                continue;
            }
            tests[i].run(all_starts[start]);
            printf("%-11s %-20s %6.2f s\n", start_name(all_starts[start]), tests[i].name, (double)(clock_ns() - began) / 1e9);
            fflush(stdout);
        }
    }
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}

#endif
