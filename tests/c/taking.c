/* Results of tasks: who waits for them and who gets them, cancelling, signals, and what a shutdown does with them. */
#include "tasks.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

/* ---- Waiting ---- */

struct waiter {
    tine_pool *pool;
    tine_id id;
    int *begun;
    int rc, status;
    tine_id got;
};

static void *wait_in_thread(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    tine_result result = TINE_RESULT_INIT;
    waiter->rc = tine_wait(waiter->pool, waiter->id, TINE_FOREVER, &result);
    waiter->status = result.status;
    waiter->got = result.id;
    tine_result_release(waiter->pool, &result);
    return NULL;
}

static void *next_in_thread(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    tine_result result = TINE_RESULT_INIT;
    waiter->rc = tine_next(waiter->pool, TINE_FOREVER, &result);
    waiter->status = result.status;
    waiter->got = result.id;
    tine_result_release(waiter->pool, &result);
    return NULL;
}

/* Waits until a thread of this process waits for this very task, which a second wait for it tells. */
static void await_waiter(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    int rc;
    while ((rc = tine_wait(pool, id, 0, &result)) == -EAGAIN)
        usleep(200);
    CHECK_RC(rc, -EBUSY);
}

static void wait_and_next(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    int *words[2] = {make_word(pool), make_word(pool)};
    tine_result result = TINE_RESULT_INIT;
    pthread_t first, second;

    /* One waiter for a task; next leaves what is waited for alone. */
    struct waiter waiter = {pool, submit(pool, until_told, words, sizeof words), NULL, 1, 0, 0};
    await(words[0], 1);
    CHECK_RC(tine_wait(pool, waiter.id, 0, &result), -EAGAIN);
    CHECK_RC(tine_wait(pool, waiter.id, 1000000, &result), -ETIMEDOUT);
    CHECK_RC(tine_next(pool, 0, &result), -EAGAIN);
    CHECK_RC(tine_next(pool, 1000000, &result), -ETIMEDOUT);
    CHECK_EQ(pthread_create(&first, NULL, wait_in_thread, &waiter), 0);
    await_waiter(pool, waiter.id);
    CHECK_RC(tine_wait(pool, waiter.id, TINE_FOREVER, &result), -EBUSY);
    CHECK_RC(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY); /* all that is outstanding is waited for */
    int five = 5;
    struct waiter next = {pool, submit(pool, give_back, &five, sizeof five), NULL, 1, 0, 0};
    CHECK_EQ(pthread_create(&second, NULL, next_in_thread, &next), 0);
    set(words[1], 1);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    CHECK_EQ(waiter.rc, 0);
    CHECK_EQ(waiter.status, 3);
    CHECK(waiter.got == waiter.id);
    CHECK_EQ(next.rc, 0);
    CHECK_EQ(next.status, 5);
    CHECK(next.got == next.id);
    CHECK_RC(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY);

    /* A next that is on when the only task gets a waiter of its own is told that there is nothing left for it. */
    set(words[0], 0);
    set(words[1], 0);
    waiter.id = submit(pool, until_told, words, sizeof words);
    CHECK_EQ(pthread_create(&second, NULL, next_in_thread, &next), 0);
    await(words[0], 1);
    CHECK_EQ(pthread_create(&first, NULL, wait_in_thread, &waiter), 0);
    pthread_join(second, NULL); /* before the task ends, or after: then one of the two has it */
    if (next.rc == 0) {
        CHECK(next.got == waiter.id);
    } else {
        CHECK_RC(next.rc, TINE_EEMPTY);
    }
    set(words[1], 1);
    pthread_join(first, NULL);
    CHECK_RC(waiter.rc, next.rc == 0 ? TINE_EID : 0);

    /* A wait that gives up leaves the task to others. */
    set(words[0], 0);
    set(words[1], 0);
    tine_id id = submit(pool, until_told, words, sizeof words);
    CHECK_RC(tine_wait(pool, id, 2000000, &result), -ETIMEDOUT);
    CHECK_EQ(pthread_create(&second, NULL, next_in_thread, &next), 0);
    CHECK_RC(tine_wait(pool, id, 2000000, &result), next.rc == 0 ? -ETIMEDOUT : -ETIMEDOUT);
    /* The next of the thread may have found nothing while the wait was on; then it is asked for here. */
    set(words[1], 1);
    pthread_join(second, NULL);
    if (next.rc == TINE_EEMPTY)
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
    else
        CHECK_EQ(next.rc, 0);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

/* ---- Cancelling ---- */

static void cancelling(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    enum { BEHIND = 200 };
    tine_id ids[BEHIND];
    int *words[2] = {make_word(pool), make_word(pool)};
    int value = 6;
    tine_id running = submit(pool, until_told, words, sizeof words);
    await(words[0], 1);
    for (int i = 0; i < BEHIND; i++)
        ids[i] = submit(pool, give_back, &value, sizeof value);
    /* In the worker's ring or still in the queue: each third of them. */
    for (int i = 0; i < BEHIND; i += 3) {
        CHECK_RC(tine_cancel(pool, ids[i]), 0);
        CHECK_RC(tine_cancel(pool, ids[i]), -EALREADY);
    }
    CHECK_EQ(tine_pool_poll(pool), (BEHIND + 2) / 3); /* cancelled tasks have settled */
    set(words[1], 1);
    for (int i = 0; i < BEHIND; i++) {
        tine_result result = wait_for(pool, ids[i]);
        CHECK_EQ(result.status, i % 3 == 0 ? -ECANCELED : 6);
        CHECK_EQ(result.delivery, i % 3 == 0 ? TINE_NOT_STARTED : TINE_RAN);
        tine_result_release(pool, &result);
        CHECK_RC(tine_cancel(pool, ids[i]), TINE_EID);
    }
    while (tine_pool_poll(pool) == 0)
        ;
    CHECK_RC(tine_cancel(pool, running), -EALREADY);
    tine_result result = wait_for(pool, running);
    CHECK_EQ(result.status, 3);
    tine_result_release(pool, &result);
    CHECK_EQ(stats_of(pool).outstanding, 0);
    tine_pool_destroy(pool);
}

/* ---- Signals ---- */

static int handled;

static void on_signal(int number)
{
    (void)number;
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
}

struct target {
    pthread_t thread;
    int stop;
};

/* Signals a thread again and again, so that one comes while it sleeps. */
static void *pester(void *argument)
{
    struct target *target = (struct target *)argument;
    while (!__atomic_load_n(&target->stop, __ATOMIC_ACQUIRE)) {
        pthread_kill(target->thread, SIGUSR1);
        usleep(1000);
    }
    return NULL;
}

struct release {
    int *word, after;
};

/* Lets the task end when so many signals have come. */
static void *release_after(void *argument)
{
    struct release *release = (struct release *)argument;
    while (__atomic_load_n(&handled, __ATOMIC_RELAXED) < release->after)
        usleep(1000);
    set(release->word, 1);
    return NULL;
}

static int slow_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    await(*(int *const *)in, 1);
    *(int *)out = 1;
    return 0;
}

static void signals(uint32_t flags)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, flags);
    int *words[2] = {make_word(pool), make_word(pool)};
    struct target target = {pthread_self(), 0};
    struct sigaction action;
    pthread_t pesterer, releaser;
    tine_result result = TINE_RESULT_INIT;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    tine_id id = submit(pool, until_told, words, sizeof words);
    await(words[0], 1);
    handled = 0;
    CHECK_EQ(pthread_create(&pesterer, NULL, pester, &target), 0);
    struct release release = {words[1], 20};
    if (flags & TINE_INTERRUPTIBLE) {
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), -EINTR);
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), -EINTR);
        CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), -EINTR);
        set(words[1], 1);
    } else {
        /* It goes on after twenty of them. */
        CHECK_EQ(pthread_create(&releaser, NULL, release_after, &release), 0);
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
        CHECK_EQ(result.status, 3);
        CHECK(handled >= 20);
        tine_result_release(pool, &result);
        pthread_join(releaser, NULL);
        int out = 0;
        set(words[1], 0);
        handled = 0;
        CHECK_EQ(pthread_create(&releaser, NULL, release_after, &release), 0);
        CHECK_RC(tine_map(pool, slow_item, &words[1], sizeof words[1], &out, sizeof out, 1, NULL), 0);
        CHECK_EQ(out, 1);
        pthread_join(releaser, NULL);
    }
    __atomic_store_n(&target.stop, 1, __ATOMIC_RELEASE);
    pthread_join(pesterer, NULL);
    if (flags & TINE_INTERRUPTIBLE) {
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
        tine_result_release(pool, &result);
        CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    }
    tine_pool_destroy(pool);
}

/* ---- The end ---- */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void shutdowns(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    int *words[2] = {make_word(pool), make_word(pool)};
    int one = 1;
    tine_id running = submit(pool, until_told, words, sizeof words);
    await(words[0], 1);
    enum { BEHIND = 100 };
    for (int i = 0; i < BEHIND; i++)
        submit(pool, give_back, &one, sizeof one);
    CHECK_RC(tine_pool_shutdown(pool, 0), -EAGAIN);
    CHECK_RC(tine_pool_shutdown(pool, 5000000), -ETIMEDOUT);
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, NULL, NULL), TINE_ESHUTDOWN);
    CHECK_EQ(stats_of(pool).workers_ready, 2);
    set(words[1], 1);
    CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    CHECK_EQ(stats_of(pool).workers_ready, 0);
    CHECK_EQ(stats_of(pool).worker_deaths, 0);
    CHECK_EQ(stats_of(pool).settled, BEHIND + 1);
    tine_result result = wait_for(pool, running);
    CHECK_EQ(result.status, 3);
    tine_result_release(pool, &result);
    for (int i = 0; i < BEHIND; i++) {
        CHECK_RC(tine_next(pool, 0, &result), 0);
        CHECK_EQ(result.status, 1);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
    tine_pool_destroy(pool);

    /* Destroy does not wait for what runs. */
    pool = create_pool(start, 2, 0);
    words[0] = make_word(pool);
    words[1] = make_word(pool);
    submit(pool, until_told, words, sizeof words);
    await(words[0], 1);
    for (int i = 0; i < BEHIND; i++)
        submit(pool, give_back, &one, sizeof one);
    int64_t before = now_ns();
    tine_pool_destroy(pool);
    CHECK(now_ns() - before < 5000000000);
}

/* In the worker: where the host says that it may end. */
static int *may_end;

static int learn_where(tine_task *task)
{
    may_end = *(int *const *)tine_input(task, NULL);
    return 0;
}

static int ends_when_told(tine_task *task)
{
    (void)task;
    await(may_end, 1);
    return 0;
}

/* A shutdown of 0 does not wait for workers either, which run their finalizers. Afterwards one may ask again, wait, or destroy. */
static void never_waits(int start)
{
    for (int way = 0; way < 3; way++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_pool *pool = NULL;
        options.workers = 1;
        options.start = start;
        options.finalizer = ends_when_told;
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        int *word = make_word(pool), rc = -EAGAIN;
        tine_result result = wait_for(pool, submit(pool, learn_where, &word, sizeof word));
        tine_result_release(pool, &result);
        CHECK_RC(tine_pool_shutdown(pool, 0), -EAGAIN);
        CHECK_RC(tine_submit(pool, give_back, &way, sizeof way, NULL, NULL), TINE_ESHUTDOWN);
        if (way < 2)
            set(word, 1);
        while (way == 0 && rc == -EAGAIN) {
            usleep(100);
            rc = tine_pool_shutdown(pool, 0);
        }
        if (way == 1)
            rc = tine_pool_shutdown(pool, TINE_FOREVER);
        CHECK_RC(rc, way < 2 ? 0 : -EAGAIN);
        tine_pool_destroy(pool);
    }
}

static int prints(tine_task *task)
{
    printf("task %d\n", *(const int *)tine_input(task, NULL));
    return 0;
}

/* What workers have printed is not lost with them: it is in their buffers until they end. And what the host had in
   its own is written once. */
static void printed(int start)
{
    char path[] = "/tmp/tine-tasks-XXXXXX", line[100];
    int file = mkstemp(path), saved, lines[100] = {0}, host = 0;
    enum { TASKS = 100 };
    CHECK(file >= 0);
    fflush(stdout);
    saved = dup(1);
    CHECK(dup2(file, 1) == 1);
    printf("host\n"); /* still in the buffer when a pool forks this process */
    tine_pool *pool = create_pool(start, 2, 0);
    for (int i = 0; i < TASKS; i++)
        submit(pool, prints, &i, sizeof i);
    CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    tine_pool_destroy(pool);
    fflush(stdout);
    CHECK(dup2(saved, 1) == 1);
    close(saved);
    FILE *written = fopen(path, "r");
    CHECK(written != NULL);
    while (fgets(line, sizeof line, written)) {
        int number = -1;
        if (strcmp(line, "host\n") == 0) {
            host++;
        } else {
            CHECK(sscanf(line, "task %d", &number) == 1 && number >= 0 && number < TASKS);
            lines[number]++;
        }
    }
    fclose(written);
    close(file);
    unlink(path);
    for (int i = 0; i < TASKS; i++)
        CHECK_EQ(lines[i], 1);
    CHECK_EQ(host, 1);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    for (size_t i = 0; i < 3; i++) {
        shutdowns(all_starts[i]);
        never_waits(all_starts[i]);
        printed(all_starts[i]);
    }
    wait_and_next();
    cancelling();
    signals(TINE_INTERRUPTIBLE);
    signals(0);
    return 0;
}
