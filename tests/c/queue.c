/* Queues between a host and its workers: every function, every error, and what happens at the end. */
#include "family.h"
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#define LIMIT INT64_C(20000000000) /* ns: a hang */
#define SHORT INT64_C(2000000)     /* ns: runs out */

static tine_pool *pool;

static tine_queue *make(size_t messages, size_t bytes, uint32_t flags)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *q = NULL;
    options.capacity_messages = messages;
    options.capacity_bytes = bytes;
    options.flags = flags;
    CHECK_RC(tine_queue_create(pool, &options, &q), 0);
    return q;
}

static tine_id start(tine_fn fn, const void *input, size_t length)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    return id;
}

/* The status of a task. */
static int end(tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, LIMIT, &result), 0);
    int status = result.status;
    if (status < 0)
        fprintf(stderr, "a task failed: %s\n", result.message ? result.message : tine_strerror(status));
    tine_result_release(pool, &result);
    return status;
}

/* ---- Options and pointers ---- */

static void test_options(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *q = NULL;
    options.error = &error;
    options.capacity_messages = TINE_MOST_MESSAGES + (size_t)1;
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    CHECK(strstr(error.text, "capacity_messages is 67108865"));
    options.capacity_messages = 0;
    options.capacity_bytes = TINE_MOST_MESSAGE_BYTES + (size_t)1;
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    CHECK(strstr(error.text, "capacity_bytes is 4294967041"));
    options.capacity_bytes = 0;
    options.flags = 6;
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    CHECK(strstr(error.text, "0x6"));
    options.flags = 0;
    options.reserved = 1;
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    CHECK(strstr(error.text, "reserved is 1"));
    options.reserved = 0;
    options.capacity_messages = options.capacity_bytes = SIZE_MAX;
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    CHECK(strstr(error.text, "18446744073709551615"));
    options.capacity_messages = options.capacity_bytes = 0;
    options.size = 3;
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    struct { tine_queue_options options; size_t newer; } longer = {TINE_QUEUE_OPTIONS_INIT, 1};
    longer.options.size = sizeof longer;
    CHECK_RC(tine_queue_create(pool, &longer.options, &q), -E2BIG);
    options.size = sizeof options;
    CHECK_RC(tine_queue_create(NULL, &options, &q), -EINVAL);
    CHECK(strstr(error.text, "pool is NULL"));
    CHECK_RC(tine_queue_create(NULL, NULL, &q), -EINVAL);
    CHECK_RC(tine_queue_create(pool, &options, NULL), -EINVAL);
    CHECK(strstr(error.text, "out is NULL"));
    /* More than the heap may hold. */
    options.capacity_bytes = (size_t)1 << 30;
    CHECK_RC(tine_queue_create(pool, &options, &q), -ENOMEM);
    CHECK_EQ(error.code, -ENOMEM);
    CHECK(error.text[0] && q == NULL);
    CHECK_RC(tine_queue_create(pool, NULL, &q), 0);
    tine_queue_destroy(q);
}

/* Every call on what is no queue. */
static void refused(tine_queue *q, int expected)
{
    char byte = 0;
    void *place = &byte;
    size_t length = 77;
    CHECK_RC(tine_queue_put(q, &byte, 1, 0), expected);
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, &length), expected);
    CHECK_RC(tine_queue_put_many(q, &byte, &length, 0, 0), expected);
    CHECK_RC(tine_queue_get_many(q, 0, &byte, 1, &length, 1), expected);
    CHECK_RC(tine_queue_reserve(q, 1, 0, &place), expected);
    CHECK_RC(tine_queue_commit(q, 1), expected);
    CHECK_RC(tine_queue_abandon(q), expected);
    CHECK_RC(tine_queue_peek(q, 0, &place, &length), expected);
    CHECK_RC(tine_queue_release(q), expected);
    CHECK_RC(tine_queue_close(q), expected);
    CHECK_RC(tine_queue_task_done(q), expected);
    CHECK_RC(tine_queue_join(q, 0), expected);
    CHECK_RC(tine_queue_fd(q), expected);
    CHECK_EQ(tine_queue_count(q), 0);
    CHECK(tine_queue_is_empty(q));
    CHECK(tine_queue_is_closed(q) && !tine_queue_is_full(q));
    CHECK(length == 77 && place == &byte);
    tine_queue_destroy(q);
}

static void test_pointers(void)
{
    static char elsewhere[4096] __attribute__((aligned(64)));
    char *block = (char *)tine_alloc(pool, 4096);
    CHECK(block);
    memset(block, 0, 4096);
    refused(NULL, -EINVAL);
    refused((tine_queue *)(void *)elsewhere, -EINVAL);
    refused((tine_queue *)(void *)block, -EINVAL);
    refused((tine_queue *)(void *)(block + 1), -EINVAL);
    refused((tine_queue *)(uintptr_t)64, -EINVAL);
    refused((tine_queue *)(~(uintptr_t)0 << 6), -EINVAL);
    tine_free(pool, block);
    /* Inside a queue, and right behind it. */
    tine_queue *whole = make(4, 64, 0);
    refused((tine_queue *)(void *)((char *)whole + 64), -EINVAL);
    refused((tine_queue *)(void *)((char *)whole + 8), -EINVAL);
    refused((tine_queue *)(void *)((char *)whole + 4096), -EINVAL);
    CHECK_EQ(tine_queue_count(whole), 0);
    tine_queue_destroy(whole);
    /* After its end, and when another one has taken its place. */
    tine_queue *q = make(4, 4096, 0);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    tine_queue_destroy(q);
    refused(q, -EINVAL);
    for (size_t bytes = 64; bytes < 1 << 16; bytes *= 2) {
        tine_queue *other = make(4, bytes, 0);
        char *message = (char *)calloc(1, bytes);
        size_t length = 0;
        CHECK_RC(tine_queue_put(other, message, bytes, 0), 0);
        CHECK_RC(tine_queue_put(other, message, bytes + 1, 0), -EMSGSIZE);
        CHECK_RC(tine_queue_get(other, 0, message, bytes, &length), 0);
        CHECK_EQ(length, bytes);
        free(message);
        tine_queue_destroy(other);
    }
    /* In a forked child. */
    q = make(4, 4096, 0);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        refused(q, TINE_EFORKED);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    CHECK_EQ(tine_queue_count(q), 1);
    tine_queue_destroy(q);
}

/* ---- Messages ---- */

static void test_messages(void)
{
    tine_queue *q = make(2, 100, 0);
    char buffer[200], bytes[200];
    size_t length = 5;
    memset(bytes, 'm', sizeof bytes);
    CHECK_RC(tine_queue_put(q, NULL, 1, 0), -EINVAL);
    CHECK_RC(tine_queue_put(q, bytes, (size_t)-1, 0), -EINVAL);
    CHECK_RC(tine_queue_put(q, bytes, 101, 0), -EMSGSIZE);
    CHECK_RC(tine_queue_get(q, 0, NULL, 1, &length), -EINVAL);
    CHECK_RC(tine_queue_get(q, 0, buffer, (size_t)-1, &length), -EINVAL);
    CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, &length), -EAGAIN);
    CHECK_RC(tine_queue_get(q, SHORT, buffer, sizeof buffer, &length), -ETIMEDOUT);
    CHECK_EQ(length, 5);
    /* Empty ones are messages, too. */
    CHECK_RC(tine_queue_put(q, NULL, 0, 0), 0);
    CHECK(!tine_queue_is_full(q));
    CHECK_RC(tine_queue_put(q, bytes, 100, 0), 0);
    CHECK(tine_queue_is_full(q));
    CHECK_RC(tine_queue_put(q, bytes, 0, 0), -EAGAIN);
    CHECK_RC(tine_queue_put(q, bytes, 1, SHORT), -ETIMEDOUT);
    CHECK_EQ(tine_queue_count(q), 2);
    CHECK(!tine_queue_is_empty(q));
    CHECK_RC(tine_queue_get(q, 0, NULL, 0, &length), 0);
    CHECK_EQ(length, 0);
    CHECK_RC(tine_queue_get(q, 0, buffer, 99, &length), -EMSGSIZE);
    CHECK_EQ(length, 100);
    CHECK_RC(tine_queue_get(q, 0, buffer, 99, NULL), -EMSGSIZE);
    CHECK_RC(tine_queue_get(q, 0, buffer, 100, NULL), 0);
    CHECK(memcmp(buffer, bytes, 100) == 0);
    CHECK(tine_queue_is_empty(q) && !tine_queue_is_full(q));
    length = 1;
    CHECK_RC(tine_queue_put_many(q, bytes, &length, 1, 0), 1);
    CHECK_RC(tine_queue_put_many(q, bytes, &length, 1, 0), 1);
    CHECK(tine_queue_is_full(q));
    CHECK_RC(tine_queue_close(q), 0);
    CHECK(!tine_queue_is_full(q)); /* nobody waits for room */
    /* The bound in bytes, alone. */
    tine_queue *narrow = make(100, 64, 0);
    CHECK_RC(tine_queue_put(narrow, bytes, 32, 0), 0);
    CHECK_RC(tine_queue_put(narrow, bytes, 32, 0), 0);
    CHECK_RC(tine_queue_put(narrow, bytes, 16, 0), -EAGAIN);
    CHECK(!tine_queue_is_full(narrow)); /* a short one would fit */
    tine_queue_destroy(narrow);
    tine_queue_destroy(q);
}

static void test_many(void)
{
    tine_queue *q = make(4, 4096, 0);
    int numbers[10], back[10];
    size_t lengths[10], got[10];
    for (int i = 0; i < 10; i++) {
        numbers[i] = i;
        lengths[i] = sizeof *numbers;
    }
    size_t *crooked = (size_t *)(void *)((char *)lengths + 1);
    CHECK_RC(tine_queue_put_many(q, numbers, crooked, 1, 0), -EINVAL);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, crooked, 1), -EINVAL);
    CHECK_RC(tine_queue_get_many(q, 0, back, (size_t)-1, got, 1), -EINVAL);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, got, (size_t)-1), -EINVAL);
    CHECK_RC(tine_queue_put_many(q, numbers, NULL, 1, 0), -EINVAL);
    CHECK_RC(tine_queue_put_many(q, NULL, lengths, 1, 0), -EINVAL);
    CHECK_RC(tine_queue_put_many(q, numbers, lengths, (size_t)-1, 0), -EINVAL);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, NULL, 1), -EINVAL);
    CHECK_RC(tine_queue_get_many(q, 0, NULL, sizeof back, got, 1), -EINVAL);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, got, 10), -EAGAIN);
    CHECK_RC(tine_queue_get_many(q, SHORT, back, sizeof back, got, 10), -ETIMEDOUT);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, got, 0), 0);
    lengths[9] = 5000;
    CHECK_RC(tine_queue_put_many(q, numbers, lengths, 10, 0), -EMSGSIZE);
    lengths[9] = SIZE_MAX;
    CHECK_RC(tine_queue_put_many(q, numbers, lengths, 10, 0), -EINVAL);
    lengths[9] = sizeof *numbers;
    CHECK_RC(tine_queue_put_many(q, numbers, lengths, 10, SHORT), 4);
    CHECK_RC(tine_queue_put_many(q, numbers, lengths, 10, 0), -EAGAIN);
    CHECK_RC(tine_queue_get_many(q, 0, back, 3, got, 10), -EMSGSIZE);
    CHECK_EQ(got[0], sizeof *numbers);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, got, 3), 3);
    CHECK(back[0] == 0 && back[2] == 2 && got[2] == sizeof *numbers);
    CHECK_RC(tine_queue_get_many(q, 0, back, sizeof back, got, 10), 1);
    CHECK_EQ(back[0], 3);
    tine_queue_close(q);
    CHECK_RC(tine_queue_put_many(q, numbers, lengths, 1, LIMIT), -EPIPE);
    CHECK_RC(tine_queue_get_many(q, LIMIT, back, sizeof back, got, 1), -EPIPE);
    tine_queue_destroy(q);
}

static void *commit_elsewhere(void *q)
{
    CHECK_RC(tine_queue_commit((tine_queue *)q, 1), -EPERM);
    CHECK_RC(tine_queue_abandon((tine_queue *)q), -EPERM);
    CHECK_RC(tine_queue_release((tine_queue *)q), -EPERM);
    return NULL;
}

static void test_in_place(void)
{
    size_t big = 1 << 20, length = 0;
    tine_queue *q = make(4, big, 0);
    pthread_t thread;
    void *place = NULL, *same = NULL;
    char byte;
    CHECK_RC(tine_queue_commit(q, 0), -EPERM);
    CHECK_RC(tine_queue_abandon(q), -EPERM);
    CHECK_RC(tine_queue_release(q), -EPERM);
    CHECK_RC(tine_queue_reserve(q, 1, 0, NULL), -EINVAL);
    CHECK_RC(tine_queue_peek(q, 0, NULL, &length), -EINVAL);
    CHECK_RC(tine_queue_peek(q, 0, &place, NULL), -EINVAL);
    CHECK_RC(tine_queue_peek(q, 0, &place, &length), -EAGAIN);
    CHECK_RC(tine_queue_peek(q, SHORT, &place, &length), -ETIMEDOUT);
    CHECK_RC(tine_queue_reserve(q, big + 1, 0, &place), -EMSGSIZE);
    CHECK_RC(tine_queue_reserve(q, big, 0, &place), 0);
    CHECK((uintptr_t)place % 16 == 0);
    memset(place, 'p', big);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), -EDEADLK);
    CHECK_RC(tine_queue_reserve(q, 1, 0, &same), -EDEADLK);
    CHECK_RC(tine_queue_commit(q, big + 1), -EMSGSIZE);
    CHECK(pthread_create(&thread, NULL, commit_elsewhere, q) == 0 && pthread_join(thread, NULL) == 0);
    CHECK_EQ(tine_queue_count(q), 0);
    CHECK_RC(tine_queue_commit(q, big), 0);
    CHECK_RC(tine_queue_reserve(q, 1, 0, &same), 0); /* a short one takes no bytes */
    CHECK_RC(tine_queue_abandon(q), 0);
    CHECK_RC(tine_queue_reserve(q, big, 0, &same), -EAGAIN);
    CHECK_RC(tine_queue_peek(q, 0, &same, &length), 0);
    CHECK(same == place && length == big); /* no copy was made */
    CHECK(((char *)same)[0] == 'p' && ((char *)same)[big - 1] == 'p');
    CHECK_EQ(tine_queue_count(q), 0);
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), -EDEADLK);
    CHECK(pthread_create(&thread, NULL, commit_elsewhere, q) == 0 && pthread_join(thread, NULL) == 0);
    CHECK_RC(tine_queue_release(q), 0);
    /* None at all is a message, too. */
    CHECK_RC(tine_queue_reserve(q, 0, 0, &place), 0);
    CHECK_RC(tine_queue_commit(q, 1), -EMSGSIZE);
    CHECK_RC(tine_queue_commit(q, 0), 0);
    CHECK_RC(tine_queue_peek(q, 0, &place, &length), 0);
    CHECK(place != NULL && length == 0);
    CHECK_RC(tine_queue_release(q), 0);
    CHECK_RC(tine_queue_reserve(q, SIZE_MAX, 0, &place), -EMSGSIZE);
    CHECK_RC(tine_queue_commit(q, SIZE_MAX), -EPERM);
    CHECK_RC(tine_queue_reserve(q, 16, 0, &place), 0);
    CHECK_RC(tine_queue_commit(q, SIZE_MAX), -EMSGSIZE);
    CHECK_RC(tine_queue_abandon(q), 0);
    CHECK_RC(tine_queue_task_done(q), 0);
    CHECK_RC(tine_queue_task_done(q), 0);
    CHECK_RC(tine_queue_task_done(q), -EINVAL); /* more than were put */
    CHECK_RC(tine_queue_join(q, 0), 0);
    CHECK_RC(tine_queue_reserve(q, 16, 0, &place), 0);
    CHECK_RC(tine_queue_close(q), 0);
    CHECK_RC(tine_queue_commit(q, 16), -EPIPE);
    CHECK_RC(tine_queue_reserve(q, 16, LIMIT, &place), -EPIPE);
    CHECK_RC(tine_queue_peek(q, LIMIT, &place, &length), -EPIPE);
    tine_queue_destroy(q);
}

/* As many queues as a thread may hold locks. */
static void test_most_held(void)
{
    static tine_queue *queues[TINE_MOST_HELD + 1];
    void *place;
    for (int i = 0; i <= (int)TINE_MOST_HELD; i++)
        queues[i] = make(1, 16, 0);
    for (int i = 0; i < (int)TINE_MOST_HELD; i++)
        CHECK_RC(tine_queue_reserve(queues[i], 1, 0, &place), 0);
    CHECK_RC(tine_queue_put(queues[TINE_MOST_HELD], "x", 1, 0), -ENOLCK);
    CHECK_RC(tine_queue_get(queues[TINE_MOST_HELD], 0, place, 1, NULL), -ENOLCK);
    for (int i = 0; i < (int)TINE_MOST_HELD; i++)
        CHECK_RC(tine_queue_abandon(queues[i]), 0);
    for (int i = 0; i <= (int)TINE_MOST_HELD; i++) {
        CHECK_RC(tine_queue_put(queues[i], "x", 1, 0), 0);
        tine_queue_destroy(queues[i]);
    }
}

/* ---- Signals ---- */

static void on_alarm(int signal) { (void)signal; }

static void *keep_knocking(void *arg)
{
    pthread_t *target = (pthread_t *)arg;
    for (;;) {
        struct timespec nap = {0, 1000000};
        nanosleep(&nap, NULL);
        pthread_kill(*target, SIGUSR1);
    }
    return NULL;
}

static void test_signals(void)
{
    struct sigaction action;
    pthread_t self = pthread_self(), thread;
    char byte;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    tine_queue *q = make(1, 16, TINE_INTERRUPTIBLE), *patient = make(1, 16, 0);
    CHECK(pthread_create(&thread, NULL, keep_knocking, &self) == 0);
    CHECK_RC(tine_queue_get(q, LIMIT, &byte, 1, NULL), -EINTR);
    CHECK_RC(tine_queue_put(q, "x", 1, LIMIT), 0);
    CHECK_RC(tine_queue_put(q, "x", 1, LIMIT), -EINTR);
    CHECK_RC(tine_queue_join(q, LIMIT), -EINTR);
    CHECK_RC(tine_queue_get(patient, 20 * SHORT, &byte, 1, NULL), -ETIMEDOUT);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, NULL) == 0);
    tine_queue_destroy(q);
    tine_queue_destroy(patient);
}

/* ---- Host and workers ---- */

struct job {
    tine_queue *in, *out;
    uint64_t first, count;
};

/* Passes everything on until the queue is closed. */
static int pass_on(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    char buffer[3000];
    size_t length;
    int rc;
    while ((rc = tine_queue_get(job->in, LIMIT, buffer, sizeof buffer, &length)) == 0) {
        if ((rc = tine_queue_put(job->out, buffer, length, LIMIT)) || (rc = tine_queue_task_done(job->in)))
            return tine_fail(task, rc, "passing on");
    }
    return rc == -EPIPE ? 0 : tine_fail(task, rc, "getting");
}

static int produce(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    for (uint64_t i = job->first; i < job->first + job->count; i++) {
        uint64_t message[100];
        size_t words = 2 + i % 98;
        for (size_t at = 0; at < words; at++)
            message[at] = i;
        message[1] = job->first;
        int rc = tine_queue_put(job->out, message, words * sizeof *message, LIMIT);
        if (rc)
            return tine_fail(task, rc, "putting");
    }
    return 0;
}

static void test_workers(void)
{
    enum { EACH = 20000 };
    /* What two producers put, two others pass on; each producer's messages arrive whole, once, and in order for as long as
     * one consumer passes them on. */
    tine_queue *first = make(16, 4096, 0), *second = make(16, 4096, 0);
    struct job producers[2] = {{NULL, first, 1000000, EACH}, {NULL, first, 2000000, EACH}};
    struct job filter = {first, second, 0, 0};
    tine_id ids[3];
    ids[0] = start(pass_on, &filter, sizeof filter);
    for (int i = 0; i < 2; i++)
        ids[1 + i] = start(produce, &producers[i], sizeof *producers);
    uint64_t next[2] = {1000000, 2000000}, message[100];
    for (int i = 0; i < 2 * EACH; i++) {
        size_t length = 0;
        CHECK_RC(tine_queue_get(second, LIMIT, message, sizeof message, &length), 0);
        int who = message[1] == 2000000;
        CHECK_EQ(message[0], next[who]);
        CHECK_EQ(length, (2 + message[0] % 98) * sizeof *message);
        CHECK_EQ(message[length / sizeof *message - 1], length > 16 ? message[0] : message[1]);
        next[who]++;
    }
    CHECK_RC(tine_queue_join(first, LIMIT), 0);
    CHECK_RC(tine_queue_close(first), 0);
    CHECK_RC(tine_queue_close(first), 0);
    CHECK(tine_queue_is_closed(first) && !tine_queue_is_closed(second));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(end(ids[i]), 0);
    CHECK_RC(tine_queue_put(first, "x", 1, LIMIT), -EPIPE);
    tine_queue_destroy(first);
    tine_queue_destroy(second);
}

static int make_one(tine_task *task)
{
    tine_queue *q;
    int rc = tine_queue_create(tine_task_pool(task), NULL, &q);
    if (rc == 0)
        rc = tine_queue_put(q, "made by a worker", 17, 0);
    if (rc)
        return tine_fail(task, rc, "making");
    *(tine_queue **)tine_output(task, sizeof q) = q;
    return 0;
}

static void test_made_by_a_worker(void)
{
    tine_result result = TINE_RESULT_INIT;
    tine_queue *q;
    char text[17];
    CHECK_RC(tine_wait(pool, start(make_one, NULL, 0), LIMIT, &result), 0);
    CHECK_EQ(result.status, 0);
    memcpy(&q, result.data, sizeof q);
    tine_result_release(pool, &result);
    CHECK_RC(tine_queue_get(q, 0, text, sizeof text, NULL), 0);
    CHECK_STR(text, "made by a worker");
    tine_queue_destroy(q);
}

/* Dies in the middle of what the input says. */
static int die(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    void *place;
    size_t length;
    switch (job->first) {
    case 0: tine_queue_reserve(job->in, 100, LIMIT, &place); break;
    case 1: tine_queue_peek(job->in, LIMIT, &place, &length); break;
    default: tine_queue_get(job->in, LIMIT, NULL, 0, &length); break; /* while it waits, or after it */
    }
    raise(SIGKILL);
    return 0;
}

static void test_deaths(void)
{
    tine_queue *q = make(3, 300, 0);
    char text[16];
    struct job job = {q, NULL, 0, 0};
    CHECK_RC(tine_queue_put(q, "one", 4, 0), 0);
    CHECK_EQ(end(start(die, &job, sizeof job)), TINE_EDIED);
    CHECK_RC(tine_queue_put(q, "two", 4, LIMIT), 0);
    CHECK_EQ(tine_queue_count(q), 2);
    job.first = 1;
    CHECK_EQ(end(start(die, &job, sizeof job)), TINE_EDIED);
    CHECK_RC(tine_queue_get(q, LIMIT, text, sizeof text, NULL), 0);
    CHECK_STR(text, "two");
    CHECK_RC(tine_queue_get(q, 0, text, sizeof text, NULL), -EAGAIN);
    CHECK_RC(tine_queue_put(q, "", 0, 0), 0);
    job.first = 2;
    CHECK_EQ(end(start(die, &job, sizeof job)), TINE_EDIED);
    CHECK(tine_queue_is_empty(q));
    tine_queue_destroy(q);
}

/* ---- The descriptor ---- */

static int readable(int fd, int timeout_ms)
{
    struct pollfd look = {fd, POLLIN, 0};
    return poll(&look, 1, timeout_ms) == 1;
}

static void test_descriptor(void)
{
    tine_queue *q = make(4, 1024, 0), *other = make(4, 1024, 0);
    struct epoll_event event = {EPOLLIN, {NULL}};
    char buffer[300];
    int fd = tine_queue_fd(q), fd2 = tine_queue_fd(other), set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(fd > 2 && fd2 > 2 && fd != fd2 && set >= 0);
    CHECK_EQ(tine_queue_fd(q), fd);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd2, &event) == 0);
    CHECK(!readable(fd, 0));
    for (int round = 0; round < 200; round++) {
        CHECK_RC(tine_queue_put(q, "message", 8, 0), 0);
        CHECK_RC(tine_queue_put(q, "another", 8, 0), 0);
        CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, NULL), 0);
        CHECK(readable(fd, 0)); /* there is one more */
        CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, NULL), 0);
        /* A get that finds nothing makes it unreadable; the thread may just be about to say so once more. */
        int tries = 0;
        do {
            CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, NULL), -EAGAIN);
        } while (readable(fd, 0) && ++tries < 100);
        CHECK(tries < 100);
    }
    /* What workers put, and a consumer that waits beside the watching thread. The pool is in the same set: it may have to
     * replace a worker first, which it does in calls on it. */
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, tine_pool_fd(pool), &event) == 0);
    struct job job = {NULL, other, 5, 3000};
    tine_id id = start(produce, &job, sizeof job);
    for (int got = 0; got < 3000;) {
        char large[1000];
        CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK(tine_pool_poll(pool) >= 0);
        int rc = tine_queue_get(other, got % 2 ? SHORT : 0, large, sizeof large, NULL);
        CHECK(rc == 0 || rc == -EAGAIN || rc == -ETIMEDOUT);
        got += rc == 0;
    }
    CHECK_EQ(end(id), 0);
    CHECK_RC(tine_queue_close(other), 0);
    CHECK(readable(fd2, 20000));
    CHECK_RC(tine_queue_get(other, LIMIT, buffer, sizeof buffer, NULL), -EPIPE);
    CHECK(readable(fd2, 0));
    tine_queue_destroy(other);
    close(set);
    /* `q` and its thread end with the pool. */
}

enum { LEFT = 1 /* thread that watches, of the test above */ };

/* A worker that writes into the queue's words can't keep the watching thread, or whoever waits for its end. */
static void test_descriptor_of_a_queue_that_is_overwritten(void)
{
    for (int round = 0; round < 50; round++) {
        tine_queue *q = make(4, 1024, 0);
        CHECK(tine_queue_fd(q) >= 0);
        if (round % 2)
            CHECK(!readable(tine_queue_fd(q), 2)); /* the thread sleeps by now, as a rule */
        memset((char *)q + 8, 0, 56); /* all of the first line but what says that there is a queue */
        tine_queue_destroy(q);
        CHECK_RC(tine_queue_fd(q), -EINVAL);
    }
}

static int get_one(tine_task *task)
{
    tine_queue *const *q = (tine_queue *const *)tine_input(task, NULL);
    char byte;
    return tine_queue_get(*q, TINE_FOREVER, &byte, 1, NULL);
}

static long switches(const char *tid)
{
    char path[300], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", tid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *line = strstr(text, "voluntary_ctxt_switches:");
    CHECK(line);
    return atol(line + strlen("voluntary_ctxt_switches:"));
}

/* The threads that watch, by name. */
/* The threads that watch; one that has been joined is listed for a moment longer. */
static int watchers(char tids[][16], int room)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    CHECK(folder);
    while ((entry = readdir(folder))) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof name, file) && strcmp(name, "tine-queue\n") == 0 && count < room)
            snprintf(tids[count++], 16, "%.15s", entry->d_name);
        if (file)
            fclose(file);
    }
    closedir(folder);
    return count;
}

/* ---- A worker that writes over a queue ---- */

static int scribble(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    static const uint64_t known[] = {0, 1, 2, 7, 64, UINT32_MAX, (uint64_t)1 << 31, (uint64_t)1 << 63, UINT64_MAX};
    volatile uint64_t *words = (volatile uint64_t *)(void *)job->in;
    uint64_t random = job->first;
    int64_t until = clock_ns() + (int64_t)job->count;
    uint64_t whole[101];
    memcpy(whole, job->in, sizeof whole);
    while (clock_ns() < until) {
        /* As it was, now and then, so that the host comes into the middle of things again. */
        memcpy((char *)job->in + 8, whole + 1, sizeof whole - 8);
        nap_ns((int64_t)(random % 100000));
        for (int i = 0; i < 50; i++) {
            /* All but the mark, which says that there is a queue: locks, commits, slots, bytes. */
            uint64_t word = 1 + random_next(&random) % 100, value = random_next(&random);
            if (value % 3 == 0)
                value = known[value / 3 % (sizeof known / sizeof *known)];
            else if (value % 3 == 1)
                value = words[word] + value % 5 - 2;
            if (random_next(&random) % 2)
                words[word] = value;
            else
                ((volatile uint32_t *)words)[2 * word + random_next(&random) % 2] = (uint32_t)value;
        }
    }
    return 0;
}

struct user {
    tine_queue *q;
    int done, out, gone;
    long calls, failed;
};

static void *use_the_queue(void *argument)
{
    struct user *user = (struct user *)argument;
    tine_queue *q = user->q;
    char buffer[512];
    size_t lengths[4] = {8, 40, 0, 100};
    memset(buffer, 'h', sizeof buffer);
    while (!__atomic_load_n(&user->done, __ATOMIC_ACQUIRE)) {
        void *place;
        size_t length;
        user->failed += tine_queue_put(q, buffer, 60, SHORT) != 0;
        user->failed += tine_queue_get(q, SHORT, buffer, sizeof buffer, &length) != 0;
        user->failed += tine_queue_put_many(q, buffer, lengths, 4, SHORT) < 0;
        if (tine_queue_reserve(q, 100, SHORT, &place) == 0) {
            memset(place, 'r', 100);
            if (tine_queue_commit(q, 90) != 0)
                (void)tine_queue_abandon(q);
        }
        if (tine_queue_peek(q, SHORT, &place, &length) == 0) {
            unsigned sum = 0;
            for (size_t i = 0; i < length; i++)
                sum += ((unsigned char *)place)[i];
            CHECK(length <= 1024 && sum <= 255 * length);
            (void)tine_queue_release(q);
        }
        size_t many[4];
        user->failed += tine_queue_get_many(q, SHORT, buffer, sizeof buffer, many, 4) < 0;
        (void)tine_queue_task_done(q);
        (void)tine_queue_join(q, SHORT);
        if (user->calls % 1000 == 990)
            (void)tine_queue_close(q);
        CHECK(tine_queue_count(q) <= 64);
        (void)tine_queue_is_empty(q);
        user->calls += 10;
    }
    __atomic_store_n(&user->out, 1, __ATOMIC_RELEASE);
    /* And it ends when the memory is gone. */
    while (!__atomic_load_n(&user->gone, __ATOMIC_ACQUIRE))
        nap_ns(1000000);
    return NULL;
}

static void test_hostile_worker(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_queue_options small = TINE_QUEUE_OPTIONS_INIT;
    uint64_t random = random_seed();
    tine_pool *other;
    tine_result result = TINE_RESULT_INIT;
    pthread_t threads[2];
    struct user users[2];
    tine_id id;
    options.workers = 1;
    small.capacity_messages = 8;
    small.capacity_bytes = 512;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    for (int round = 0; round < 2; round++) {
        tine_queue *q = NULL;
        CHECK_RC(tine_queue_create(other, &small, &q), 0);
        CHECK(tine_queue_fd(q) >= 0);
        struct job job = {q, NULL, random_next(&random) | 1, 700000000};
        CHECK_RC(tine_submit(other, scribble, &job, sizeof job, NULL, &id), 0);
        for (int i = 0; i < 2; i++) {
            memset(&users[i], 0, sizeof users[i]);
            users[i].q = q;
            CHECK(pthread_create(&threads[i], NULL, use_the_queue, &users[i]) == 0);
        }
        CHECK_RC(tine_wait(other, id, LIMIT, &result), 0);
        tine_result_release(other, &result);
        for (int i = 0; i < 2; i++)
            __atomic_store_n(&users[i].done, 1, __ATOMIC_RELEASE);
        for (int i = 0; i < 2; i++)
            WAIT_UNTIL(__atomic_load_n(&users[i].out, __ATOMIC_ACQUIRE)); /* a limit for each call, too */
        char buffer[512];
        memset((char *)q + 384, 0x7f, 256); /* what garbage stays for good: a call ends, whatever it says */
        (void)tine_queue_get(q, SHORT, buffer, sizeof buffer, NULL);
        if (round == 0) {
            for (int i = 0; i < 2; i++) {
                __atomic_store_n(&users[i].gone, 1, __ATOMIC_RELEASE);
                CHECK(pthread_join(threads[i], NULL) == 0);
            }
            tine_queue_destroy(q);
        }
    }
    tine_pool_destroy(other);
    for (int i = 0; i < 2; i++) {
        __atomic_store_n(&users[i].gone, 1, __ATOMIC_RELEASE);
        CHECK(pthread_join(threads[i], NULL) == 0);
        printf("%ld calls, %ld of them failed\n", users[i].calls, users[i].failed);
        CHECK(users[i].calls > 0);
    }
}

/* The flags of a lock that a thread holds are changed: the thread must not keep it on its list, which would lead into the
 * pool's memory when that is gone. */
static void *outlive_the_pool(void *argument)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    tine_queue *q = NULL;
    void *place;
    (void)argument;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    CHECK_RC(tine_queue_create(other, NULL, &q), 0);
    CHECK_RC(tine_queue_reserve(q, 8, 0, &place), 0);
    *(volatile uint32_t *)(void *)((char *)q + 68) = TINE_PROCESS_OWNED << 8; /* as the producers' lock has them */
    CHECK_RC(tine_queue_commit(q, 8), 0);
    tine_pool_destroy(other);
    return NULL;
}

static void test_changed_flags(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, outlive_the_pool, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

/* Garbage in the words that commit, with nobody in the way: it has a code of its own. */
static void test_garbage(void)
{
    tine_queue *q = make(4, 64, 0);
    char byte;
    memset((char *)q + 384, 0x7e, 8); /* the tail */
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), -EBADMSG);
    CHECK_RC(tine_queue_get(q, SHORT, &byte, 1, NULL), -EBADMSG);
    tine_queue_destroy(q);
}

/* A queue outlives its pool's work: what workers have put can be got until the pool is destroyed. */
static void test_after_shutdown(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    tine_queue *q = NULL;
    char byte = 0;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    CHECK_RC(tine_queue_create(other, NULL, &q), 0);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    CHECK_RC(tine_pool_shutdown(other, LIMIT), 0);
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), 0);
    CHECK_EQ(byte, 'x');
    tine_pool_destroy(other);
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), -EINVAL);
}

/* A thread only where somebody has asked; it sleeps without waking up, behind a consumer too; and it goes. */
static void test_watching_thread(void)
{
    enum { QUEUES = 5 };
    tine_queue *queues[QUEUES];
    char tids[16][16];
    struct epoll_event event;
    int set = epoll_create1(EPOLL_CLOEXEC);
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    for (int i = 0; i < QUEUES; i++)
        queues[i] = make(4, 64, 0);
    tine_id id = start(get_one, &queues[0], sizeof *queues);
    CHECK_EQ(watchers(tids, 16), LEFT);
    for (int i = 0; i < QUEUES; i++) {
        event.events = EPOLLIN;
        event.data.u32 = (uint32_t)i;
        CHECK(epoll_ctl(set, EPOLL_CTL_ADD, tine_queue_fd(queues[i]), &event) == 0);
        CHECK_EQ(tine_queue_fd(queues[i]), tine_queue_fd(queues[i]));
    }
    int count;
    WAIT_UNTIL((count = watchers(tids, 16)) == LEFT + QUEUES);
    CHECK_EQ(epoll_wait(set, &event, 1, 100), 0); /* all asleep by now, or nearly */
    long started = 0, now = 0;
    for (int i = 0; i < count; i++)
        started += switches(tids[i]);
    int64_t napped = clock_ns();
    nap_ns(1200000000);
    /* The watch of the queue at which the worker waits, too, waits behind it, and looks after its life every 50 ms. */
    long looks = 2 * (long)((clock_ns() - napped) / 50000000);
    for (int i = 0; i < count; i++)
        now += switches(tids[i]);
    CHECK(now - started <= QUEUES + looks); /* of the others at most the last one before it slept */
    /* Each calls for itself. */
    for (int i = 1; i < QUEUES; i++) {
        char byte;
        CHECK_RC(tine_queue_put(queues[i], "x", 1, 0), 0);
        CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK_EQ(event.data.u32, i);
        do
            CHECK_RC(tine_queue_get(queues[i], 0, &byte, 1, NULL), 0);
        while (tine_queue_count(queues[i]) != 0);
        for (int tries = 0; tries < 1000 && epoll_wait(set, &event, 1, 0) != 0; tries++)
            CHECK_RC(tine_queue_get(queues[i], 0, &byte, 1, NULL), -EAGAIN);
        CHECK_EQ(epoll_wait(set, &event, 1, 0), 0);
    }
    CHECK_RC(tine_queue_put(queues[0], "x", 1, 0), 0);
    CHECK_EQ(end(id), 0);
    for (int i = 0; i < QUEUES; i++)
        tine_queue_destroy(queues[i]);
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    close(set);
}

/* No descriptor left: a code, nothing kept, and the queue goes on. */
static void test_no_descriptor(void)
{
    struct rlimit limit, none;
    char tids[16][16], byte;
    int used[512], count = 0;
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    tine_queue *q = make(4, 64, 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 200;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    while (count < 512 && (used[count] = dup(2)) >= 0)
        count++;
    CHECK(errno == EMFILE);
    CHECK_RC(tine_queue_fd(q), -EMFILE);
    CHECK_RC(tine_queue_fd(q), -EMFILE);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (count > 0)
        close(used[--count]);
    CHECK_EQ(watchers(tids, 16), LEFT);
    CHECK(tine_queue_fd(q) >= 0);
    tine_queue_destroy(q);
}

/* The pool ends while a worker waits in a queue that this process watches. */
static void test_the_pool_ends_first(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    tine_queue *q = NULL;
    tine_id id;
    char tids[16][16];
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    CHECK_RC(tine_queue_create(other, NULL, &q), 0);
    CHECK_RC(tine_submit(other, get_one, &q, sizeof q, NULL, &id), 0);
    int fd = tine_queue_fd(q);
    CHECK(!readable(fd, 20));
    tine_pool_destroy(other);
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), -EINVAL);
}

/* A child of fork has a copy of the descriptor, and no thread: it may close it. */
static void test_descriptor_in_a_child(void)
{
    tine_queue *q = make(4, 64, 0);
    int fd = tine_queue_fd(q), status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_RC(tine_queue_fd(q), TINE_EFORKED);
        CHECK_EQ(count_entries("/proc/self/task"), 1);
        close(fd);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    CHECK(readable(fd, 20000));
    tine_queue_destroy(q);
}

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_init(argc, argv);
    struct belongings before = take_stock();
    options.workers = 3;
    options.heap_bytes = 256 << 20;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    test_options();
    test_pointers();
    test_messages();
    test_many();
    test_in_place();
    test_most_held();
    test_signals();
    test_workers();
    test_made_by_a_worker();
    test_deaths();
    test_descriptor();
    test_descriptor_of_a_queue_that_is_overwritten();
    test_watching_thread();
    test_hostile_worker();
    test_changed_flags();
    test_garbage();
    test_after_shutdown();
    test_no_descriptor();
    test_the_pool_ends_first();
    test_descriptor_in_a_child();
    tine_queue *left = make(4, 64, 0);
    tine_pool_destroy(pool);
    refused(left, -EINVAL);
    /* Not all mappings: the C library keeps the stacks of threads. */
    struct belongings after = take_stock();
    CHECK_EQ(after.descriptors, before.descriptors);
    WAIT_UNTIL(count_entries("/proc/self/task") <= before.threads);
    CHECK_EQ(after.children, before.children);
    CHECK_EQ(after.shared_mappings, before.shared_mappings);
    return 0;
}
