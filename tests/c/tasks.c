/* Tasks: what submit, wait, next, cancel and release do, and that they do it from many threads at once. */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};

static tine_pool *make_pool(size_t workers, int start, uint32_t flags)
{
    tine_pool *pool = NULL;
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.error = &error;
    options.workers = workers;
    options.start = start;
    options.flags = flags;
    if (tine_pool_create(&options, &pool) != 0) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    return pool;
}

static tine_id submit(tine_pool *pool, tine_fn fn, const void *input, size_t length)
{
    tine_id id = 0;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK(id != 0);
    return id;
}

static tine_result wait_for(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK(result.id == id);
    CHECK(result.message != NULL);
    return result;
}

static tine_stats stats_of(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats;
}

/* A word in the heap by which host and workers tell each other how far they are. */
static int *make_word(tine_pool *pool)
{
    int *word = (int *)tine_alloc(pool, sizeof *word);
    CHECK(word != NULL);
    *word = 0;
    return word;
}

static void await(int *word, int value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < value)
        usleep(100);
}

static void set(int *word, int value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* ---- What a function may return ---- */

static int give_back(tine_task *task)
{
    return *(const int *)tine_input(task, NULL);
}

static void returned_values(tine_pool *pool)
{
    static const struct {
        int returned, status;
    } cases[] = {{0, 0},         {1, 1},         {4096, 4096},   {2147483647, 2147483647}, {-1, -1},
                 {-4095, -4095}, {-EIO, -EIO},   {-4096, TINE_EBADCODE}, {-5003, TINE_EBADCODE},
                 {-2147483647 - 1, TINE_EBADCODE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tine_id id = submit(pool, give_back, &cases[i].returned, sizeof(int));
        tine_result result = wait_for(pool, id);
        CHECK_EQ(result.status, cases[i].status);
        CHECK_EQ(result.delivery, TINE_RAN);
        CHECK(result.data == NULL && result.length == 0 && result.death == NULL && result.user == NULL);
        /* A success has no message; a failure always has one. */
        CHECK_EQ(result.message[0] == '\0', cases[i].status >= 0);
        if (cases[i].status == -EIO)
            CHECK_STR(result.message, tine_strerror(-EIO));
        if (cases[i].returned == -4096)
            CHECK(strstr(result.message, "-4096") != NULL);
        tine_result_release(pool, &result);
    }
}

/* ---- tine_fail ---- */

/* Text of so many bytes: two-byte letters where wide, behind so many one-byte ones. */
struct words {
    int code, returned, narrow, wide;
};

static int fails(tine_task *task)
{
    const struct words *words = (const struct words *)tine_input(task, NULL);
    char text[1024] = "";
    for (int i = 0; i < words->narrow; i++)
        strcat(text, "x");
    for (int i = 0; i < words->wide; i++)
        strcat(text, "\xc3\xa4");
    CHECK_EQ(tine_fail(task, words->code, "%s", text), words->code);
    return words->returned;
}

static int fails_twice(tine_task *task)
{
    tine_fail(task, -EIO, "first");
    return tine_fail(task, -EACCES, "%s %d%c", "second", 2, '!');
}

static int fails_without_words(tine_task *task)
{
    const char *nothing = NULL; /* a variable, so that the compiler does not see what it is asked to check */
    return tine_fail(task, -EIO, nothing, 1);
}

static void failures(tine_pool *pool)
{
    static const struct {
        struct words words;
        int status;
        size_t length;
    } cases[] = {
        {{-EIO, -EIO, 3, 0}, -EIO, 3},
        {{-EIO, 0, 3, 0}, -EIO, 3},           /* returning 0 does not undo it */
        {{-EIO, -EACCES, 3, 0}, -EACCES, 3},  /* another failure is the last word on the code */
        {{-EIO, 5, 3, 0}, 5, 0},              /* nor does it undo a success */
        {{-EIO, -EIO, 183, 0}, -EIO, 183},
        {{-EIO, -EIO, 184, 0}, -EIO, 184},
        {{-EIO, -EIO, 185, 0}, -EIO, 184},
        {{-EIO, -EIO, 1000, 0}, -EIO, 184},
        {{-EIO, -EIO, 0, 92}, -EIO, 184},
        {{-EIO, -EIO, 0, 400}, -EIO, 184},
        {{-EIO, -EIO, 1, 400}, -EIO, 183},    /* half a letter is none */
        {{-5000, -5000, 3, 0}, TINE_EBADCODE, 3},
        {{-5000, 0, 3, 0}, TINE_EBADCODE, 3},
        {{0, 0, 3, 0}, TINE_EBADCODE, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tine_id id = submit(pool, fails, &cases[i].words, sizeof cases[i].words);
        tine_result result = wait_for(pool, id);
        CHECK_EQ(result.status, cases[i].status);
        CHECK_EQ(strlen(result.message), cases[i].length);
        for (size_t at = 0; at < cases[i].length; at++) {
            int narrow = (int)at < cases[i].words.narrow;
            unsigned char wide = (at - (size_t)cases[i].words.narrow) % 2 ? 0xa4 : 0xc3;
            CHECK_EQ((unsigned char)result.message[at], narrow ? 'x' : wide);
        }
        tine_result_release(pool, &result);
    }
    tine_result result = wait_for(pool, submit(pool, fails_twice, NULL, 0));
    CHECK_EQ(result.status, -EACCES);
    CHECK_STR(result.message, "second 2!");
    tine_result_release(pool, &result);
    result = wait_for(pool, submit(pool, fails_without_words, NULL, 0));
    CHECK_EQ(result.status, -EIO);
    CHECK_STR(result.message, tine_strerror(-EIO));
    tine_result_release(pool, &result);
    /* Nothing of a failure stays with the worker. */
    int zero = 0;
    result = wait_for(pool, submit(pool, give_back, &zero, sizeof zero));
    CHECK_STR(result.message, "");
    tine_result_release(pool, &result);
}

/* ---- Inputs and outputs ---- */

static unsigned char byte_at(size_t at, size_t salt)
{
    return (unsigned char)((at * 2654435761u >> 7) + salt);
}

/* Its input: how long the output shall be, then bytes that are checked. */
static int reshape(tine_task *task)
{
    size_t length, wanted = 0;
    const unsigned char *in = (const unsigned char *)tine_input(task, &length);
    if (length >= sizeof wanted)
        memcpy(&wanted, in, sizeof wanted);
    for (size_t i = sizeof wanted; i < length; i++)
        if (in[i] != byte_at(i, length))
            return tine_fail(task, -EILSEQ, "input byte %zu of %zu", i, length);
    if (length > 0 && (uintptr_t)in % 16 != 0)
        return tine_fail(task, -EFAULT, "input at %p", (const void *)in);
    if (length == 0 && in != NULL)
        return tine_fail(task, -EFAULT, "no input at %p", (const void *)in);
    unsigned char *out = (unsigned char *)tine_output(task, wanted);
    if (!out || (uintptr_t)out % 16 != 0)
        return tine_fail(task, -EFAULT, "output at %p", (void *)out);
    for (size_t i = 0; i < wanted; i++)
        out[i] = byte_at(i, wanted);
    /* Writing the output must not have changed the input: they do not overlap. */
    for (size_t i = sizeof wanted; i < length; i++)
        if (in[i] != byte_at(i, length))
            return tine_fail(task, -EILSEQ, "input byte %zu of %zu, afterwards", i, length);
    return 0;
}

static void check_output(const tine_result *result, size_t length)
{
    if (result->status != 0)
        fprintf(stderr, "%s\n", result->message);
    CHECK_EQ(result->status, 0);
    CHECK_EQ(result->length, length);
    CHECK_EQ(result->data == NULL, length == 0);
    CHECK_EQ((uintptr_t)result->data % 16, 0);
    for (size_t i = 0; i < length; i++)
        CHECK_EQ(((const unsigned char *)result->data)[i], byte_at(i, length));
}

static void sizes(tine_pool *pool)
{
    static const size_t outputs[] = {0, 1, 63, 64, 65, 4096, 65536, 65537, 10 * MIB};
    static const size_t inputs[] = {8, 9, 127, 128, 129, 4096, 10 * MIB};
    enum { OUTPUTS = sizeof outputs / sizeof *outputs, INPUTS = sizeof inputs / sizeof *inputs };
    static tine_result kept[OUTPUTS * INPUTS];
    unsigned char *bytes = (unsigned char *)malloc(10 * MIB);
    CHECK(bytes != NULL);
    uint64_t before = stats_of(pool).heap_allocated_bytes;
    for (size_t in = 0; in < INPUTS; in++) {
        for (size_t out = 0; out < OUTPUTS; out++) {
            for (size_t i = 0; i < inputs[in]; i++)
                bytes[i] = byte_at(i, inputs[in]);
            memcpy(bytes, &outputs[out], sizeof outputs[out]);
            tine_id id = submit(pool, reshape, bytes, inputs[in]);
            memset(bytes, 0, inputs[in]); /* it has been copied */
            kept[in * OUTPUTS + out] = wait_for(pool, id);
        }
    }
    tine_result none = wait_for(pool, submit(pool, reshape, NULL, 0));
    check_output(&none, 0);
    tine_result_release(pool, &none);
    none = wait_for(pool, submit(pool, reshape, bytes, 0)); /* a pointer to no bytes is none */
    tine_result_release(pool, &none);
    none = wait_for(pool, submit(pool, reshape, bytes, 1));
    check_output(&none, 0);
    tine_result_release(pool, &none);
    /* All were kept, and the release of one leaves the others alone: every second first. */
    for (size_t step = 0; step < 2; step++) {
        for (size_t i = step; i < OUTPUTS * INPUTS; i += 2) {
            check_output(&kept[i], outputs[i % OUTPUTS]);
            tine_result_release(pool, &kept[i]);
            CHECK(kept[i].id == 0 && kept[i].data == NULL && kept[i].message == NULL);
        }
    }
    free(bytes);
    CHECK_EQ(stats_of(pool).heap_allocated_bytes, before);
}

static int outputs_again(tine_task *task)
{
    static const size_t lengths[] = {10 * MIB, 3, 100000, 64, 0, 200};
    unsigned char *out = NULL;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        out = (unsigned char *)tine_output(task, lengths[i]);
        if (!out)
            return -ENOMEM;
        memset(out, 0xff, lengths[i]);
    }
    for (size_t i = 0; i < 200; i++)
        out[i] = byte_at(i, 200);
    return 0;
}

static void second_output_replaces(tine_pool *pool)
{
    uint64_t before = stats_of(pool).heap_allocated_bytes;
    for (int i = 0; i < 20; i++) {
        tine_result result = wait_for(pool, submit(pool, outputs_again, NULL, 0));
        check_output(&result, 200);
        tine_result_release(pool, &result);
    }
    CHECK_EQ(stats_of(pool).heap_allocated_bytes, before);
    /* Twenty times ten mebibytes were asked for, and given back. */
    CHECK(stats_of(pool).heap_reserved_bytes < 150 * (uint64_t)MIB);
}

/* The count is of all blocks, whoever allocates and whoever frees them. */
static void heap_counts(tine_pool *pool)
{
    uint64_t before = stats_of(pool).heap_allocated_bytes;
    void *mine = tine_alloc(pool, 4 * MIB);
    CHECK(mine != NULL);
    uint64_t with = stats_of(pool).heap_allocated_bytes;
    CHECK(with >= before + 4 * MIB);
    size_t wanted = 2 * MIB;
    tine_result result = wait_for(pool, submit(pool, reshape, &wanted, sizeof wanted));
    check_output(&result, wanted);
    CHECK_EQ(stats_of(pool).heap_allocated_bytes, with + wanted);
    tine_result_release(pool, &result);
    CHECK_EQ(stats_of(pool).heap_allocated_bytes, with);
    tine_free(pool, mine);
    CHECK_EQ(stats_of(pool).heap_allocated_bytes, before);
}

static int free_it(tine_task *task)
{
    tine_free(tine_task_pool(task), *(void *const *)tine_input(task, NULL));
    return 0;
}

/* What the host has allocated and a worker has freed counts as freed. */
static void workers_free(tine_pool *pool)
{
    static const size_t lengths[] = {16, 1000, 60000, 70000, 3 * MIB};
    uint64_t before = stats_of(pool).heap_allocated_bytes;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        void *block = tine_alloc(pool, lengths[i]);
        tine_result result = wait_for(pool, submit(pool, free_it, &block, sizeof block));
        CHECK_EQ(result.status, 0);
        CHECK_EQ(stats_of(pool).heap_allocated_bytes, before);
    }
}

static int shared_input(tine_task *task)
{
    size_t length;
    int **in = (int **)(uintptr_t)tine_input(task, &length);
    int *word = in[1];
    if (length != 3 * sizeof *in || in != (int **)in[0])
        return -EFAULT; /* not where it is in the host */
    set(word, 1);
    await(word, 2);
    return *in[2];
}

/* An input in the heap is that very memory: same address, and what the host writes later is seen. */
static void heap_input_is_not_copied(tine_pool *pool)
{
    uint64_t before = stats_of(pool).heap_allocated_bytes;
    void **in = (void **)tine_alloc(pool, 3 * sizeof *in);
    int *word = make_word(pool), *later = make_word(pool);
    in[0] = in;
    in[1] = word;
    in[2] = later;
    tine_id id = submit(pool, shared_input, in, 3 * sizeof *in);
    await(word, 1);
    *later = 1234;
    set(word, 2);
    tine_result result = wait_for(pool, id);
    CHECK_EQ(result.status, 1234);
    tine_result_release(pool, &result);
    tine_free(pool, word);
    tine_free(pool, later);
    tine_free(pool, in);
    CHECK_EQ(stats_of(pool).heap_allocated_bytes, before);
}

static void user_pointer(tine_pool *pool)
{
    int places[10], seen[10] = {0};
    for (int i = 0; i < 10; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = &places[i];
        CHECK_RC(tine_submit(pool, give_back, &i, sizeof i, &options, NULL), 0);
    }
    tine_result result = TINE_RESULT_INIT;
    for (int i = 0; i < 10; i++) {
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
        CHECK_EQ((int *)result.user - places, result.status);
        seen[result.status]++;
        tine_result_release(pool, &result);
        CHECK(result.user == NULL);
    }
    for (int i = 0; i < 10; i++)
        CHECK_EQ(seen[i], 1);
    CHECK_RC(tine_next(pool, TINE_FOREVER, &result), TINE_EEMPTY);
}

/* ---- Waiting ---- */

static int until_told(tine_task *task)
{
    int *const *words = (int *const *)tine_input(task, NULL);
    set(words[0], 1);
    await(words[1], 1);
    return 3;
}

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
    tine_pool *pool = make_pool(1, TINE_START_FORKSERVER, 0);
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
    tine_pool *pool = make_pool(1, TINE_START_FORKSERVER, 0);
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

/* ---- Many ---- */

static int add_one(tine_task *task)
{
    int *out = (int *)tine_output(task, sizeof *out);
    *out = *(const int *)tine_input(task, NULL) + 1;
    return 0;
}

enum { MANY = 100000, THREADS = 16 };
static unsigned char seen[MANY];

static void collect(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    int rc;
    while ((rc = tine_next(pool, TINE_FOREVER, &result)) == 0) {
        CHECK_EQ(result.status, 0);
        int value = *(const int *)result.data;
        CHECK(value >= 1 && value <= MANY);
        CHECK_EQ(__atomic_fetch_add(&seen[value - 1], 1, __ATOMIC_RELAXED), 0);
        tine_result_release(pool, &result);
    }
    CHECK_RC(rc, TINE_EEMPTY);
}

static void all_seen(void)
{
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(seen[i], 1);
    memset(seen, 0, sizeof seen);
}

struct share {
    tine_pool *pool;
    int first;
};

/* Submits its share, and takes whatever has settled: its own and others'. */
static void *submit_and_collect(void *argument)
{
    struct share *share = (struct share *)argument;
    for (int i = 0; i < MANY / THREADS; i++) {
        int value = share->first + i;
        submit(share->pool, add_one, &value, sizeof value);
    }
    collect(share->pool);
    return NULL;
}

/* Submits its share and waits for each of them by its id, some at a time. */
static void *submit_and_wait(void *argument)
{
    struct share *share = (struct share *)argument;
    enum { AT_A_TIME = 25 };
    for (int done = 0; done < MANY / THREADS; done += AT_A_TIME) {
        tine_id ids[AT_A_TIME];
        for (int i = 0; i < AT_A_TIME; i++) {
            int value = share->first + done + i;
            ids[i] = submit(share->pool, add_one, &value, sizeof value);
        }
        for (int i = AT_A_TIME - 1; i >= 0; i--) {
            tine_result result = wait_for(share->pool, ids[i]);
            CHECK_EQ(*(const int *)result.data, share->first + done + i + 1);
            seen[share->first + done + i]++;
            tine_result_release(share->pool, &result);
        }
    }
    return NULL;
}

static void many(tine_pool *pool)
{
    tine_stats before = stats_of(pool);
    for (int i = 0; i < MANY; i++)
        submit(pool, add_one, &i, sizeof i);
    collect(pool);
    all_seen();

    pthread_t threads[THREADS];
    struct share shares[THREADS];
    void *(*const ways[])(void *) = {submit_and_collect, submit_and_wait};
    for (int way = 0; way < 2; way++) {
        for (int i = 0; i < THREADS; i++) {
            shares[i].pool = pool;
            shares[i].first = i * (MANY / THREADS);
            CHECK_EQ(pthread_create(&threads[i], NULL, ways[way], &shares[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        all_seen();
    }
    tine_stats after = stats_of(pool);
    CHECK_EQ(after.submitted, before.submitted + 3 * MANY);
    CHECK_EQ(after.settled, after.submitted);
    CHECK_EQ(after.outstanding, 0);
    CHECK_EQ(after.worker_deaths, before.worker_deaths);
    CHECK_EQ(after.heap_allocated_bytes, before.heap_allocated_bytes);
    CHECK_EQ(after.workers_ready, after.workers);
}

/* ---- A host with an event loop of its own, which never blocks in tine ---- */

static int dies(tine_task *task)
{
    if (*(const int *)tine_input(task, NULL) == 5000)
        raise(SIGKILL);
    return add_one(task);
}

static void event_loop(int use_epoll, int start)
{
    tine_pool *pool = make_pool(2, start, 0);
    enum { TASKS = 10000 };
    int fd = tine_pool_fd(pool), submitted = 0, taken = 0, died = 0, set_fd = -1, again = -1;
    CHECK(fd >= 0);
    CHECK_EQ(tine_pool_fd(pool), fd);
    if (use_epoll) {
        struct epoll_event event;
        memset(&event, 0, sizeof event);
        event.events = EPOLLIN;
        set_fd = epoll_create1(EPOLL_CLOEXEC);
        CHECK(set_fd >= 0);
        CHECK_EQ(epoll_ctl(set_fd, EPOLL_CTL_ADD, fd, &event), 0);
    }
    while (taken < TASKS) {
        /* A few at a time, so that the loop sleeps often. */
        while (submitted < TASKS && submitted - taken < 40) {
            submit(pool, dies, &submitted, sizeof submitted);
            submitted++;
        }
        struct pollfd ready = {fd, POLLIN, 0};
        struct epoll_event event;
        CHECK_EQ(use_epoll ? epoll_wait(set_fd, &event, 1, 20000) : poll(&ready, 1, 20000), 1);
        int count = tine_pool_poll(pool);
        CHECK(count >= 0);
        tine_result result = TINE_RESULT_INIT;
        for (int i = 0; i < count; i++) {
            CHECK_RC(tine_next(pool, 0, &result), 0);
            if (result.status == TINE_EDIED) {
                died++;
                CHECK_EQ(result.delivery, TINE_MAYBE_RAN);
                CHECK(result.death != NULL && result.death->signal == SIGKILL);
            } else {
                CHECK_EQ(result.status, 0);
                int value = *(const int *)result.data;
                CHECK(value >= 1 && value <= TASKS);
                CHECK_EQ(seen[value - 1]++, 0);
            }
            taken++;
            tine_result_release(pool, &result);
        }
        again = count > 0 ? tine_next(pool, 0, &result) : again;
        if (again == 0) { /* one that has come since the count */
            CHECK(result.status == 0 || result.status == TINE_EDIED);
            if (result.status == 0)
                CHECK_EQ(seen[*(const int *)result.data - 1]++, 0);
            else
                died++;
            taken++;
            tine_result_release(pool, &result);
            again = -1;
        }
    }
    CHECK_EQ(died, 1);
    for (int i = 0; i < TASKS; i++)
        CHECK_EQ(seen[i], i != 5000);
    memset(seen, 0, sizeof seen);
    /* The dead worker's place is filled without a blocking call, too. */
    while (stats_of(pool).workers_ready < 2) {
        struct pollfd ready = {fd, POLLIN, 0};
        CHECK_EQ(poll(&ready, 1, 20000), 1);
        CHECK_EQ(tine_pool_poll(pool), 0);
    }
    /* With nothing to do it becomes quiet. */
    int loud = 0;
    struct pollfd ready = {fd, POLLIN, 0};
    while (poll(&ready, 1, 100) == 1) {
        tine_pool_poll(pool);
        CHECK(++loud < 1000);
    }
    if (use_epoll)
        close(set_fd);
    tine_pool_destroy(pool);
}

/* One result waits for the host's event loop while a thread waits for another task: it sleeps. */
static void waits_asleep(tine_pool *pool)
{
    int *words[2] = {make_word(pool), make_word(pool)};
    int one = 1, fd = tine_pool_fd(pool);
    struct timespec before, after;
    tine_result result = TINE_RESULT_INIT;
    tine_id running = submit(pool, until_told, words, sizeof words);
    await(words[0], 1);
    submit(pool, give_back, &one, sizeof one);
    while (tine_pool_poll(pool) == 0) {
        struct pollfd ready = {fd, POLLIN, 0};
        CHECK_EQ(poll(&ready, 1, 20000), 1);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    CHECK_RC(tine_wait(pool, running, 300000000, &result), -ETIMEDOUT);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t busy_ns = (after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec;
    CHECK(busy_ns < 30000000);
    struct pollfd ready = {fd, POLLIN, 0};
    CHECK_EQ(poll(&ready, 1, 0), 1); /* the result is still there to be told of */
    CHECK_EQ(tine_pool_poll(pool), 1);
    CHECK_RC(tine_next(pool, 0, &result), 0);
    tine_result_release(pool, &result);
    set(words[1], 1);
    result = wait_for(pool, running);
    tine_result_release(pool, &result);
}

/* A thread of tine's moves things on while the host calls nothing: even a death and what was queued behind it. */
static void background(int start)
{
    tine_pool *pool = make_pool(1, start, 0);
    enum { TASKS = 1000 };
    int *words[2] = {make_word(pool), make_word(pool)};
    int five = 5000, one = 1;
    submit(pool, dies, &five, sizeof five);
    for (int i = 0; i < TASKS; i++)
        submit(pool, give_back, &one, sizeof one);
    submit(pool, until_told, words, sizeof words);
    await(words[0], 1); /* the last has begun, and nobody has called into the pool */
    set(words[1], 1);
    tine_result result = TINE_RESULT_INIT;
    int died = 0;
    for (int i = 0; i < TASKS + 2; i++) {
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), 0);
        died += result.status == TINE_EDIED;
        tine_result_release(pool, &result);
    }
    CHECK_EQ(died, 1);
    CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
    tine_pool_destroy(pool);
    /* With a host that polls besides; and an end in mid-work, and one of a pool that has never done anything. */
    pool = make_pool(2, start, 0);
    int fd = tine_pool_fd(pool);
    for (int i = 0; i < 10; i++) {
        submit(pool, give_back, &one, sizeof one);
        struct pollfd ready = {fd, POLLIN, 0};
        while (tine_pool_poll(pool) == 0)
            CHECK_EQ(poll(&ready, 1, 20000), 1);
        CHECK_RC(tine_next(pool, 0, &result), 0);
        tine_result_release(pool, &result);
    }
    for (int i = 0; i < 1000; i++)
        submit(pool, give_back, &one, sizeof one);
    tine_pool_destroy(pool);
    tine_pool_destroy(make_pool(1, start, 0));
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
    tine_pool *pool = make_pool(1, TINE_START_FORKSERVER, flags);
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
    tine_pool *pool = make_pool(2, start, 0);
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
    pool = make_pool(2, start, 0);
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
    tine_pool *pool = make_pool(2, start, 0);
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

/* ---- Pools in tasks, forks in tasks ---- */

static int own_pool(tine_task *task)
{
    tine_pool *pool = make_pool(2, *(const int *)tine_input(task, NULL), 0);
    int total = 0;
    for (int i = 0; i < 10; i++) {
        tine_result result = wait_for(pool, submit(pool, give_back, &i, sizeof i));
        total += result.status;
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);
    return total;
}

static void pools_in_tasks(tine_pool *pool)
{
    for (size_t i = 0; i < 3; i++) {
        tine_result result = wait_for(pool, submit(pool, own_pool, &starts[i], sizeof starts[i]));
        CHECK_EQ(result.status, 45);
        tine_result_release(pool, &result);
    }
}

/* A forked child of a worker is not the worker: it must not hand out memory as if it were. */
static int forks(tine_task *task)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(tine_alloc(tine_task_pool(task), 16) != NULL ? 1 : 0);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -errno;
    return status == 0 ? 0 : tine_fail(task, -EPERM, "wait status %#x", status);
}

static void forks_in_tasks(tine_pool *pool)
{
    tine_result result = wait_for(pool, submit(pool, forks, NULL, 0));
    if (result.status)
        fprintf(stderr, "%s\n", result.message);
    CHECK_EQ(result.status, 0);
    tine_result_release(pool, &result);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    for (size_t i = 0; i < 3; i++) {
        tine_pool *pool = make_pool(2, starts[i], 0);
        returned_values(pool);
        failures(pool);
        sizes(pool);
        second_output_replaces(pool);
        heap_counts(pool);
        workers_free(pool);
        heap_input_is_not_copied(pool);
        user_pointer(pool);
        pools_in_tasks(pool);
        forks_in_tasks(pool);
        if (i == 0)
            many(pool);
        tine_pool_destroy(pool);
        background(starts[i]);
        event_loop((int)i % 2, starts[i]);
        pool = make_pool(2, starts[i], 0);
        waits_asleep(pool);
        tine_pool_destroy(pool);
        shutdowns(starts[i]);
        printed(starts[i]);
    }
    wait_and_next();
    cancelling();
    signals(TINE_INTERRUPTIBLE);
    signals(0);
    return 0;
}
