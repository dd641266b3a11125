/* Messages of a channel in place: reserved and committed, looked at and released; by any pairing with the calls that copy. */
#include "channels.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define LARGE 300000 /* handed over by its pages */

static unsigned char *reserved(tine_channel *c, size_t length)
{
    void *out = NULL;
    CHECK_RC(tine_channel_reserve(c, length, HANG_NS, &out), 0);
    CHECK(out && (uintptr_t)out % 16 == 0);
    return (unsigned char *)out;
}

static unsigned char *peeked(tine_channel *c, size_t wanted)
{
    void *out = NULL;
    size_t length = 77;
    CHECK_RC(tine_channel_peek(c, HANG_NS, &out, &length), 0);
    CHECK(out && (uintptr_t)out % 16 == 0);
    CHECK_EQ(length, wanted);
    return (unsigned char *)out;
}

static void test_bad_input(void)
{
    struct ends ends = make(0, 0);
    void *out = &ends;
    size_t length = 77;
    CHECK_RC(tine_channel_reserve(NULL, 1, 0, &out), -EINVAL);
    CHECK_RC(tine_channel_reserve(ends.a, 1, 0, NULL), -EINVAL);
    CHECK_RC(tine_channel_reserve(ends.a, SIZE_MAX, 0, &out), -ENOMEM);
    CHECK_RC(tine_channel_reserve(ends.a, (size_t)PTRDIFF_MAX / 2, 0, &out), -ENOMEM);
    CHECK_RC(tine_channel_commit(NULL, 0), -EINVAL);
    CHECK_RC(tine_channel_abandon(NULL), -EINVAL);
    CHECK_RC(tine_channel_release(NULL), -EINVAL);
    CHECK_RC(tine_channel_peek(NULL, 0, &out, &length), -EINVAL);
    CHECK_RC(tine_channel_peek(ends.b, 0, NULL, &length), -EINVAL);
    CHECK_RC(tine_channel_peek(ends.b, 0, &out, NULL), -EINVAL);
    CHECK_RC(tine_channel_commit(ends.a, 0), -EPERM);
    CHECK_RC(tine_channel_abandon(ends.a), -EPERM);
    CHECK_RC(tine_channel_release(ends.a), -EPERM);
    CHECK_RC(tine_channel_peek(ends.b, 0, &out, &length), -EAGAIN);
    CHECK_RC(tine_channel_peek(ends.b, SHORT_NS, &out, &length), -ETIMEDOUT);
    CHECK(out == &ends && length == 77);
    close_both(ends);
}

/* Each length, sent and received in each way; shorter than what was reserved, too. */
static void test_lengths(void)
{
    static const size_t sizes[] = {0, 1, 8, 240, 4096, 65536, 65537, LARGE, (1 << 20) + 1, (17 << 20) + 3};
    struct ends ends = make(0, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i], length;
        unsigned char *bytes = filled(size, (unsigned)i), *got = filled(size, 99);
        for (int way = 0; way < 6; way++) {
            tine_channel *from = way % 2 ? ends.a : ends.b, *to = way % 2 ? ends.b : ends.a;
            if (way < 4) {
                size_t more = way < 2 ? size : size + 100000;
                memcpy(reserved(from, more), bytes, size);
                CHECK_RC(tine_channel_commit(from, more + 1), -EMSGSIZE);
                CHECK_RC(tine_channel_commit(from, size), 0);
                CHECK_RC(tine_channel_commit(from, size), -EPERM);
            } else {
                CHECK_RC(tine_channel_send(from, bytes, size, 0), 0);
            }
            CHECK(is_readable(to));
            if (size && way % 3 == 1) {
                CHECK_RC(tine_channel_receive(to, 0, got, size - 1, &length), -EMSGSIZE);
                CHECK_EQ(length, size);
                CHECK_RC(tine_channel_receive_fd(to, 0, (int *)got), -ENOMSG);
            }
            if (way % 3 == 2) {
                CHECK_RC(tine_channel_receive(to, 0, got, size, &length), 0);
                CHECK(length == size && memcmp(got, bytes, size) == 0);
            } else {
                CHECK(memcmp(peeked(to, size), bytes, size) == 0);
                CHECK(!is_readable(to));
                CHECK_RC(tine_channel_release(to), 0);
                CHECK_RC(tine_channel_release(to), -EPERM);
            }
        }
        free(bytes);
        free(got);
    }
    close_both(ends);
}

/* Memory is used again when its message has been released, and not before. */
static void test_used_again(void)
{
    struct ends ends = make(0, 0);
    static char got[LARGE];
    size_t length;
    int descriptors = 0;
    unsigned char *first = reserved(ends.a, LARGE);
    memset(first, 1, LARGE);
    CHECK_RC(tine_channel_commit(ends.a, LARGE), 0);
    unsigned char *seen = peeked(ends.b, LARGE);
    for (int round = 2; round < 50; round++) {
        unsigned char *next = reserved(ends.a, LARGE - (size_t)round);
        CHECK(next != first);
        memset(next, round, LARGE - (size_t)round);
        if (round % 5 == 0) {
            CHECK_RC(tine_channel_abandon(ends.a), 0);
        } else {
            CHECK_RC(tine_channel_commit(ends.a, LARGE - (size_t)round), 0);
            CHECK_RC(tine_channel_receive(ends.b, 0, got, sizeof got, &length), 0);
            CHECK(length == LARGE - (size_t)round && got[0] == round && got[length - 1] == round);
        }
        if (round == 10)
            descriptors = take_stock().descriptors;
        CHECK(seen[0] == 1 && seen[LARGE - 1] == 1);
    }
    CHECK_EQ(take_stock().descriptors, descriptors);
    seen[5] = 99; /* it may be written */
    CHECK_RC(tine_channel_release(ends.b), 0);
    CHECK(reserved(ends.a, LARGE) == first);
    CHECK_RC(tine_channel_abandon(ends.a), 0);
    close_both(ends);
}

/* A sender that is far ahead, with more messages than memory is kept for. */
static void test_ahead(void)
{
    struct ends ends = make(0, 0);
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 30; i++) {
            memset(reserved(ends.a, 100000 + (size_t)i * 1000), i + turn, 100000 + (size_t)i * 1000);
            CHECK_RC(tine_channel_commit(ends.a, 100000 + (size_t)i * 1000), 0);
        }
        for (int i = 0; i < 30; i++) {
            size_t length = 100000 + (size_t)i * 1000;
            unsigned char *seen = peeked(ends.b, length);
            for (size_t at = 0; at < length; at++)
                CHECK(seen[at] == i + turn);
            CHECK_RC(tine_channel_release(ends.b), 0);
        }
    }
    CHECK_RC(tine_channel_send(ends.a, "end", 3, 0), 0);
    CHECK(memcmp(peeked(ends.b, 3), "end", 3) == 0);
    close_both(ends); /* with a message that is looked at */
}

static void test_room(void)
{
    struct ends ends = make(0, 0);
    char bytes[4096] = {0};
    void *out = NULL;
    int fd, pipes[2];
    size_t length;
    while (tine_channel_send(ends.a, bytes, sizeof bytes, 0) == 0) {
    }
    CHECK_RC(tine_channel_reserve(ends.a, 10, 0, &out), -EAGAIN);
    CHECK_RC(tine_channel_reserve(ends.a, LARGE, SHORT_NS, &out), -ETIMEDOUT);
    CHECK(out == NULL);
    while (tine_channel_receive(ends.b, 0, bytes, sizeof bytes, NULL) == 0) {
    }
    for (size_t size = 10; size <= LARGE; size += LARGE - 10) {
        CHECK_RC(tine_channel_reserve(ends.a, size, 0, &out), 0);
        CHECK_RC(tine_channel_reserve(ends.a, size, 0, &out), -EDEADLK);
        while (tine_channel_send(ends.a, bytes, sizeof bytes, 0) == 0) { /* the others' room */
        }
        memset(out, 7, size);
        CHECK_RC(tine_channel_commit(ends.a, size), -EAGAIN);
        while (tine_channel_receive(ends.b, 0, bytes, sizeof bytes, NULL) == 0) {
        }
        CHECK_RC(tine_channel_commit(ends.a, size), 0);
        unsigned char *seen = peeked(ends.b, size);
        CHECK(seen[0] == 7 && seen[size - 1] == 7);
        CHECK_RC(tine_channel_peek(ends.b, 0, &out, &length), -EDEADLK);
        CHECK_RC(tine_channel_release(ends.b), 0);
    }

    /* A descriptor is none; one that cannot be had leaves the message. */
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    CHECK_RC(tine_channel_send_fd(ends.a, pipes[0], 0), 0);
    CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &out, &length), -ENOMSG);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
    close(fd);
    close(pipes[0]);
    close(pipes[1]);
    struct ends others = make(0, 0);
    struct rlimit before, none;
    memset(reserved(others.a, LARGE), 8, LARGE);
    CHECK_RC(tine_channel_commit(others.a, LARGE), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_RC(tine_channel_peek(others.b, 0, &out, &length), -EMFILE);
    CHECK_RC(tine_channel_peek(others.b, 0, &out, &length), -EMFILE);
    CHECK_RC(tine_channel_reserve(others.b, LARGE, 0, &out), -EMFILE);
    CHECK_RC(tine_channel_reserve(others.b, 100, TINE_FOREVER, &out), 0);
    CHECK_RC(tine_channel_abandon(others.b), 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK(peeked(others.b, LARGE)[LARGE - 1] == 8);
    close_both(others);
    close_both(ends);
}

static void test_gone(void)
{
    for (size_t size = 10; size <= LARGE; size += LARGE - 10) {
        struct ends ends = make(0, 0);
        void *out;
        size_t length;
        memset(reserved(ends.a, size), 3, size);
        CHECK_RC(tine_channel_commit(ends.a, size), 0);
        reserved(ends.a, size);
        reserved(ends.b, size);
        tine_channel_close(ends.a); /* with what it has reserved */
        CHECK_RC(tine_channel_commit(ends.b, size), -EPIPE);
        CHECK_RC(tine_channel_commit(ends.b, size), -EPERM);
        CHECK_RC(tine_channel_reserve(ends.b, size, TINE_FOREVER, &out), -EPIPE);
        CHECK(peeked(ends.b, size)[size - 1] == 3);
        CHECK_RC(tine_channel_release(ends.b), 0);
        CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &out, &length), -EPIPE);
        tine_channel_close(ends.b);
    }
}

static void test_fork(void)
{
    struct ends ends = make(0, 0);
    int status;
    unsigned char *mine = reserved(ends.a, LARGE);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        void *out;
        size_t length;
        CHECK_RC(tine_channel_reserve(ends.b, 1, 0, &out), TINE_EFORKED);
        CHECK_RC(tine_channel_commit(ends.a, 1), TINE_EFORKED);
        CHECK_RC(tine_channel_abandon(ends.a), TINE_EFORKED);
        CHECK_RC(tine_channel_peek(ends.b, 0, &out, &length), TINE_EFORKED);
        CHECK_RC(tine_channel_release(ends.b), TINE_EFORKED);
        close_both(ends);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    memset(mine, 4, LARGE);
    CHECK_RC(tine_channel_commit(ends.a, LARGE), 0);
    CHECK(peeked(ends.b, LARGE)[LARGE - 1] == 4);
    close_both(ends);
}

/* ---- Threads: each has what it has reserved, and looks at, for itself ---- */

enum { WRITERS = 3, READERS = 3, MESSAGES = 300 };

static struct {
    struct ends ends;
    int seen[WRITERS][MESSAGES];
} crowd;

static size_t length_of(uint32_t writer, uint32_t number)
{
    return number % 3 == 0 ? 70000 + (size_t)number * 100 + writer : 8 + (size_t)number % 100;
}

static void *write_many(void *argument)
{
    uint32_t me = (uint32_t)(uintptr_t)argument;
    for (uint32_t number = 0; number < MESSAGES; number++) {
        size_t length = length_of(me, number);
        uint32_t head[2] = {me, number};
        unsigned char *out = reserved(crowd.ends.a, length);
        memset(out, (int)(me + number), length);
        memcpy(out, head, sizeof head);
        CHECK_RC(tine_channel_commit(crowd.ends.a, length), 0);
    }
    return NULL;
}

static void *read_many(void *argument)
{
    (void)argument;
    void *out;
    size_t length;
    int rc;
    while ((rc = tine_channel_peek(crowd.ends.b, TINE_FOREVER, &out, &length)) == 0) {
        const unsigned char *bytes = (const unsigned char *)out;
        uint32_t head[2];
        memcpy(head, bytes, sizeof head);
        CHECK(head[0] < WRITERS && head[1] < MESSAGES);
        CHECK_EQ(length, length_of(head[0], head[1]));
        for (size_t at = sizeof head; at < length; at++)
            CHECK(bytes[at] == (unsigned char)(head[0] + head[1]));
        CHECK_EQ(__atomic_fetch_add(&crowd.seen[head[0]][head[1]], 1, __ATOMIC_SEQ_CST), 0);
        CHECK_RC(tine_channel_release(crowd.ends.b), 0);
    }
    CHECK_RC(rc, -EPIPE);
    return NULL;
}

static void test_threads(void)
{
    pthread_t writers[WRITERS], readers[READERS];
    crowd.ends = make(0, 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&writers[i], NULL, write_many, (void *)i), 0);
    for (int i = 0; i < READERS; i++)
        CHECK_EQ(pthread_create(&readers[i], NULL, read_many, NULL), 0);
    for (int i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(writers[i], NULL), 0);
    tine_channel_close(crowd.ends.a);
    for (int i = 0; i < READERS; i++)
        CHECK_EQ(pthread_join(readers[i], NULL), 0);
    for (int i = 0; i < WRITERS * MESSAGES; i++)
        CHECK_EQ(crowd.seen[i / MESSAGES][i % MESSAGES], 1);
    tine_channel_close(crowd.ends.b);
}

static void *leave_it(void *argument)
{
    struct ends *ends = (struct ends *)argument;
    reserved(ends->a, LARGE);
    peeked(ends->b, 3);
    return NULL;
}

/* What a thread has left is nobody else's, whatever number the next one has. */
static void test_ended_threads(void)
{
    struct ends ends = make(0, 0);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK_RC(tine_channel_send(ends.a, "abc", 3, 0), 0);
        CHECK_EQ(pthread_create(&thread, NULL, leave_it, &ends), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    CHECK_RC(tine_channel_commit(ends.a, 1), -EPERM);
    CHECK_RC(tine_channel_release(ends.b), -EPERM);
    close_both(ends);
}

int main(void)
{
    struct belongings before = take_stock();
    test_bad_input();
    test_lengths();
    test_used_again();
    test_ahead();
    test_room();
    test_gone();
    test_fork();
    test_threads();
    test_ended_threads();
    before.mappings = take_stock().mappings; /* the C library keeps some of threads */
    check_stock(before);
    return 0;
}
