/* Tasks: what goes in and what comes out of them, and what they may do. */
#include "tasks.h"
#include <stddef.h>
#include <sys/wait.h>

enum { MIB = 1 << 20 };

/* ---- What a function may return ---- */

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
enum { WHAT_FAIL_RETURNED = 4711 };

static int fails(tine_task *task)
{
    const struct words *words = (const struct words *)tine_input(task, NULL);
    char text[1024] = "";
    for (int i = 0; i < words->narrow; i++)
        strcat(text, "x");
    for (int i = 0; i < words->wide; i++)
        strcat(text, "\xc3\xa4");
    int failed = tine_fail(task, words->code, "%s", text);
    CHECK_EQ(failed, words->code < 0 && words->code >= -4095 ? words->code : TINE_EBADCODE);
    return words->returned == WHAT_FAIL_RETURNED ? failed : words->returned;
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
        {{EINVAL, WHAT_FAIL_RETURNED, 3, 0}, TINE_EBADCODE, 3}, /* the sign was forgotten */
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

/* ---- Pools in tasks, forks in tasks ---- */

static int own_pool(tine_task *task)
{
    tine_pool *pool = create_pool(*(const int *)tine_input(task, NULL), 2, 0);
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
        tine_result result = wait_for(pool, submit(pool, own_pool, &all_starts[i], sizeof all_starts[i]));
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

/* ---- Who waits for those behind him ---- */

/* Sets the word that it is given, if any. */
static int sets(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    if (word != NULL)
        set(word, 1);
    return 0;
}

/* Tasks so short that they are gathered at one worker. A long one among them waits for what the last one behind it does: the other worker,
 * which has nothing to do, gets them although the first one's ring stays full. */
static void waits_for_those_behind(tine_pool *pool)
{
    enum { SHORT = 66, ROUNDS = 20 }; /* more than a ring holds */
    tine_id ids[1 + SHORT];
    int *none = NULL;
    for (int round = 0; round < ROUNDS; round++) {
        int *words[2] = {make_word(pool), make_word(pool)};
        for (int i = 0; i < 2000; i += SHORT) {
            for (int k = 0; k < SHORT; k++)
                ids[k] = submit(pool, sets, &none, sizeof none);
            for (int k = 0; k < SHORT; k++) {
                tine_result result = wait_for(pool, ids[k]);
                tine_result_release(pool, &result);
            }
        }
        ids[0] = submit(pool, until_told, words, sizeof words);
        for (int i = 1; i <= SHORT; i++)
            ids[i] = submit(pool, sets, i == SHORT ? &words[1] : &none, sizeof none);
        for (int i = 0; i <= SHORT; i++) {
            tine_result result = wait_for(pool, ids[i]);
            CHECK_EQ(result.status, i == 0 ? 3 : 0);
            tine_result_release(pool, &result);
        }
        tine_free(pool, words[0]);
        tine_free(pool, words[1]);
    }
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    for (size_t i = 0; i < 3; i++) {
        tine_pool *pool = create_pool(all_starts[i], 2, 0);
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
        waits_for_those_behind(pool);
        tine_pool_destroy(pool);
    }
    return 0;
}
