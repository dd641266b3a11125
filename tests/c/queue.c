/* Queues between a host and its workers: every function, every error, and what happens at the end. */
#include "queues.h"

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

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    struct belongings before = take_stock();
    create_the_pool();
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
    test_after_shutdown();
    tine_queue *left = make(4, 64, 0);
    tine_pool_destroy(pool);
    refused(left, -EINVAL);
    check_stock_but_stacks(before);
    return 0;
}
