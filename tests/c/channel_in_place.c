/* Channels: messages that are written and read in place, next to those that are copied; each error; close, fork, threads. */
#include "channels.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define LONG_BYTES ((size_t)1 << 20)

static const size_t lengths[] = {0, 1, 15, 16, 4096, 65536, 65537, 100000, LONG_BYTES, 3 * LONG_BYTES + 1};
#define LENGTHS (sizeof lengths / sizeof *lengths)

/* Sends message `number`, in one of two ways. */
static void send_it(tine_channel *c, size_t length, unsigned number, int in_place)
{
    unsigned char *bytes = filled(length, number);
    void *place = NULL;
    if (in_place) {
        CHECK_RC(tine_channel_reserve(c, length + number % 3 * 1000, TINE_FOREVER, &place), 0);
        CHECK((uintptr_t)place >= 4096 && (uintptr_t)place % 16 == 0); /* of memory, where it is for nothing, too */
        memcpy(place, bytes, length);
        CHECK_RC(tine_channel_commit(c, length, TINE_FOREVER), 0);
    } else {
        CHECK_RC(tine_channel_send(c, bytes, length, TINE_FOREVER), 0);
    }
    free(bytes);
}

/* Receives it, in one of two ways. */
static void receive_it(tine_channel *c, size_t length, unsigned number, int in_place)
{
    unsigned char *bytes = filled(length, number), *got = (unsigned char *)malloc(length + 1);
    void *place = got;
    size_t got_length = SIZE_MAX;
    CHECK(got);
    if (in_place)
        CHECK_RC(tine_channel_peek(c, TINE_FOREVER, &place, &got_length), 0);
    else
        CHECK_RC(tine_channel_receive(c, TINE_FOREVER, got, length, &got_length), 0);
    CHECK_EQ(got_length, length);
    CHECK(place && memcmp(place, bytes, length) == 0);
    if (in_place) {
        CHECK((uintptr_t)place >= 4096 && (uintptr_t)place % 16 == 0);
        memset(place, 0xEE, length); /* it is the receiver's */
        CHECK_RC(tine_channel_release(c), 0);
    }
    free(bytes);
    free(got);
}

static void test_ways(void)
{
    struct ends ends = make(0, 0);
    unsigned number = 0;
    for (size_t i = 0; i < LENGTHS; i++)
        for (int way = 0; way < 8; way++, number++) {
            tine_channel *from = way & 4 ? ends.b : ends.a, *to = way & 4 ? ends.a : ends.b;
            send_it(from, lengths[i], number, way & 1);
            receive_it(to, lengths[i], number, way & 2);
        }
    /* Several on their way: more than there are slots, as long as they are sent by copy. */
    for (unsigned i = 0; i < 20; i++)
        send_it(ends.a, lengths[i % LENGTHS], i, 0);
    for (unsigned i = 0; i < 20; i++)
        receive_it(ends.b, lengths[i % LENGTHS], i, i & 1);
    for (unsigned i = 0; i < 4; i++)
        send_it(ends.a, LONG_BYTES, i, 1);
    CHECK(is_readable(ends.b));
    for (unsigned i = 0; i < 4; i++)
        receive_it(ends.b, LONG_BYTES, i, i & 1);
    CHECK(!is_readable(ends.b));
    close_both(ends);
}

/* A buffer that is too small leaves a placed message where it is; so does a call for a descriptor. */
static void test_stays(void)
{
    struct ends ends = make(0, 0);
    char small[8];
    void *place = small;
    size_t length = 0;
    int fd = -7;
    send_it(ends.a, LONG_BYTES, 1, 1);
    CHECK_RC(tine_channel_receive(ends.b, 0, small, sizeof small, &length), -EMSGSIZE);
    CHECK_EQ(length, LONG_BYTES);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), -ENOMSG);
    receive_it(ends.b, LONG_BYTES, 1, 1);
    CHECK_RC(tine_channel_send_fd(ends.a, 0, 0), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), -ENOMSG);
    CHECK(place == small && length == LONG_BYTES); /* written on success only */
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
    close(fd);
    close_both(ends);
}

static void test_errors(void)
{
    struct ends ends = make(0, 0);
    void *place = &ends, *other = &ends;
    size_t length = 77;
    CHECK_RC(tine_channel_reserve(NULL, 1, 0, &place), -EINVAL);
    CHECK_RC(tine_channel_reserve(ends.a, 1, 0, NULL), -EINVAL);
    CHECK_RC(tine_channel_reserve(ends.a, SIZE_MAX, 0, &place), -EINVAL);
    CHECK_RC(tine_channel_reserve(ends.a, (size_t)INT64_MAX, 0, &place), -ENOMEM);
    CHECK_RC(tine_channel_reserve(ends.a, (size_t)1 << 60, 0, &place), -ENOMEM);
    CHECK_RC(tine_channel_commit(NULL, 1, 0), -EINVAL);
    CHECK_RC(tine_channel_commit(ends.a, 0, 0), -EPERM);
    CHECK_RC(tine_channel_abandon(NULL), -EINVAL);
    CHECK_RC(tine_channel_abandon(ends.a), -EPERM);
    CHECK_RC(tine_channel_peek(NULL, 0, &place, &length), -EINVAL);
    CHECK_RC(tine_channel_peek(ends.b, 0, NULL, &length), -EINVAL);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, NULL), -EINVAL);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), -EAGAIN);
    CHECK_RC(tine_channel_peek(ends.b, -5, &place, &length), -EAGAIN);
    CHECK_RC(tine_channel_peek(ends.b, SHORT_NS, &place, &length), -ETIMEDOUT);
    CHECK_RC(tine_channel_release(NULL), -EINVAL);
    CHECK_RC(tine_channel_release(ends.b), -EPERM);
    CHECK(place == (void *)&ends && length == 77);

    for (size_t i = 0; i < LENGTHS; i++) {
        CHECK_RC(tine_channel_reserve(ends.a, lengths[i], 0, &place), 0);
        CHECK_RC(tine_channel_reserve(ends.a, 1, TINE_FOREVER, &other), -EBUSY);
        CHECK_RC(tine_channel_commit(ends.a, lengths[i] + 1, 0), -EMSGSIZE);
        CHECK_RC(tine_channel_commit(ends.a, SIZE_MAX, 0), -EMSGSIZE);
        CHECK_RC(tine_channel_send(ends.a, "meanwhile", 10, 0), 0); /* has its place before it */
        CHECK_RC(tine_channel_commit(ends.a, lengths[i], 0), 0);
        CHECK_RC(tine_channel_commit(ends.a, 0, 0), -EPERM);
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
        CHECK_EQ(length, 10);
        CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &other, &length), -EBUSY);
        CHECK_STR((char *)place, "meanwhile");
        CHECK_RC(tine_channel_release(ends.b), 0);
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
        CHECK_EQ(length, lengths[i]);
        CHECK_RC(tine_channel_release(ends.b), 0);
        CHECK_RC(tine_channel_release(ends.b), -EPERM);
        CHECK_RC(tine_channel_reserve(ends.a, lengths[i], 0, &place), 0);
        CHECK_RC(tine_channel_abandon(ends.a), 0);
        CHECK_RC(tine_channel_abandon(ends.a), -EPERM);
        CHECK_RC(tine_channel_receive(ends.b, 0, NULL, 0, NULL), -EAGAIN);
    }

    /* The other end is gone: what it had sent is there, and a reserved message is gone. */
    send_it(ends.a, LONG_BYTES, 5, 1);
    CHECK_RC(tine_channel_reserve(ends.b, LONG_BYTES, 0, &place), 0);
    tine_channel_close(ends.a);
    CHECK_RC(tine_channel_commit(ends.b, LONG_BYTES, TINE_FOREVER), -EPIPE);
    CHECK_RC(tine_channel_commit(ends.b, LONG_BYTES, TINE_FOREVER), -EPERM);
    receive_it(ends.b, LONG_BYTES, 5, 1);
    CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &place, &length), -EPIPE);
    tine_channel_close(ends.b);
}

/* Room is what the other end has released; the socket's own room is waited for by the commit. */
static void test_room(void)
{
    struct ends ends = make(0, 0);
    void *place;
    size_t length;
    unsigned sent = 0;
    int rc;
    while ((rc = tine_channel_reserve(ends.a, LONG_BYTES, 0, &place)) == 0) {
        memset(place, (int)sent, LONG_BYTES);
        CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
        CHECK(++sent < 100);
    }
    CHECK_RC(rc, -EAGAIN);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, SHORT_NS, &place), -ETIMEDOUT);
    /* What is looked at is not released. */
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, SHORT_NS, &place), -ETIMEDOUT);
    CHECK_RC(tine_channel_release(ends.b), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, 0, &place), 0);
    memset(place, 77, LONG_BYTES);
    for (unsigned i = 1; i < sent; i++) {
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
        CHECK(*(unsigned char *)place == i && ((unsigned char *)place)[LONG_BYTES - 1] == i);
        CHECK_RC(tine_channel_release(ends.b), 0);
    }
    /* A commit that finds no room leaves the message reserved. */
    while ((rc = tine_channel_send(ends.a, "fill", 4, 0)) == 0)
        ;
    CHECK_RC(rc, -EAGAIN);
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), -EAGAIN);
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, SHORT_NS), -ETIMEDOUT);
    do
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
    while (length == 4 && tine_channel_release(ends.b) == 0 && is_readable(ends.b));
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
    CHECK(length == LONG_BYTES && *(unsigned char *)place == 77);
    close_both(ends); /* with a message that is looked at */
}

static void *commit_there(void *argument)
{
    struct ends *ends = (struct ends *)argument;
    CHECK_RC(tine_channel_commit(ends->a, LONG_BYTES, TINE_FOREVER), 0);
    return NULL;
}

static void *release_later(void *argument)
{
    struct ends *ends = (struct ends *)argument;
    void *place;
    size_t length;
    for (int i = 0; i < 200; i++) {
        CHECK_RC(tine_channel_peek(ends->b, TINE_FOREVER, &place, &length), 0);
        CHECK_EQ(*(int *)place, i);
        CHECK_RC(tine_channel_release(ends->b), 0);
    }
    return NULL;
}

static void test_threads(void)
{
    struct ends ends = make(0, 0);
    pthread_t thread;
    void *place;
    int64_t last = clock_ns(), spent = 0;
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, 0, &place), 0);
    memset(place, 0, LONG_BYTES);
    CHECK_EQ(pthread_create(&thread, NULL, commit_there, &ends), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(pthread_create(&thread, NULL, release_later, &ends), 0);
    for (int i = 1; i < 200; i++) { /* waits for room, and is told of it */
        CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, TINE_FOREVER, &place), 0);
        *(int *)place = i;
        CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, TINE_FOREVER), 0);
    }
    pthread_join(thread, NULL);
    CHECK(!is_over(HANG_NS, &last, &spent));
    close_both(ends);
}

/* A second handle of an end has a reservation and a message of its own. */
static void test_handles(void)
{
    struct ends ends = make(0, 0);
    tine_channel *second;
    void *one, *two;
    size_t length;
    CHECK_RC(tine_channel_attach(tine_channel_fd(ends.a), NULL, &second), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, 0, &one), 0);
    CHECK_RC(tine_channel_reserve(second, LONG_BYTES, 0, &two), 0);
    CHECK(one != two);
    *(int *)one = 1, *(int *)two = 2;
    CHECK_RC(tine_channel_commit(second, LONG_BYTES, 0), 0);
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
    tine_channel_close(second); /* what it has sent arrives */
    CHECK_RC(tine_channel_attach(tine_channel_fd(ends.b), NULL, &second), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &one, &length), 0);
    CHECK_RC(tine_channel_peek(second, 0, &two, &length), 0);
    CHECK(*(int *)one == 2 && *(int *)two == 1);
    CHECK_RC(tine_channel_release(ends.b), 0);
    CHECK_EQ(*(int *)two, 1);
    tine_channel_close(second);
    close_both(ends);
}

/* A child has reserved nothing and looks at nothing; that it closes its copies changes nothing for its parent. */
static void test_fork(void)
{
    struct ends ends = make(0, 0);
    void *out, *in;
    size_t length;
    int status;
    send_it(ends.a, LONG_BYTES, 3, 1);
    CHECK_RC(tine_channel_peek(ends.b, 0, &in, &length), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, 0, &out), 0);
    memset(out, 9, LONG_BYTES);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        void *place;
        CHECK_RC(tine_channel_reserve(ends.a, 1, 0, &place), TINE_EFORKED);
        CHECK_RC(tine_channel_commit(ends.a, 1, 0), TINE_EFORKED);
        CHECK_RC(tine_channel_abandon(ends.a), TINE_EFORKED);
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), TINE_EFORKED);
        CHECK_RC(tine_channel_release(ends.b), TINE_EFORKED);
        close_both(ends);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    /* Nobody has got their slots meanwhile: all that are free are filled. */
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
    for (int rc = 0; rc == 0;) {
        void *place;
        rc = tine_channel_reserve(ends.a, LONG_BYTES, 0, &place);
        CHECK(rc == 0 || rc == -EAGAIN);
        if (rc == 0) {
            memset(place, 0xAA, LONG_BYTES);
            CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
        }
    }
    unsigned char *wanted = filled(LONG_BYTES, 3);
    CHECK(memcmp(in, wanted, LONG_BYTES) == 0);
    free(wanted);
    CHECK_RC(tine_channel_release(ends.b), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &in, &length), 0);
    CHECK_EQ(*(unsigned char *)in, 9);
    close_both(ends);
}

static int is_of_pages(int fd)
{
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    return strstr(target, "tine-pages") != NULL;
}

/* Whether the next message lies in its sender's pages: what the packet says. */
static int is_in_pages(tine_channel *c)
{
    uint16_t header[8] = {0};
    CHECK_EQ(recv(tine_channel_fd(c), header, sizeof header, MSG_PEEK | MSG_DONTWAIT), (ssize_t)sizeof header);
    return header[3] == 4;
}

/* How many descriptors of such pages this process has. */
static int count_pages(void)
{
    int count = 0;
    for (int fd = 3; fd < 200; fd++)
        count += is_of_pages(fd);
    return count;
}

/* Receivers that die with a message in their hands, one after the other: the sender goes on, and its memory does not grow. */
static void test_dead_receivers(int by_copy)
{
    struct ends ends = make(0, 0);
    int fd = tine_channel_fd(ends.b), status;
    void *place = malloc(LONG_BYTES), *own = place;
    CHECK(own);
    for (unsigned i = 0; i < 40; i++) {
        if (!by_copy)
            CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, HANG_NS, &place), 0);
        memset(place, (int)i, LONG_BYTES);
        if (by_copy) /* with a timeout and without */
            CHECK_RC(tine_channel_send(ends.a, place, LONG_BYTES, i & 4 ? 0 : HANG_NS), 0);
        else
            CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
        CHECK(is_in_pages(ends.b));
        fflush(stdout);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            tine_channel *theirs;
            size_t length;
            CHECK_RC(tine_channel_attach(fd, NULL, &theirs), 0);
            CHECK_RC(tine_channel_peek(theirs, 0, &place, &length), 0);
            CHECK(*(unsigned char *)place == i && ((unsigned char *)place)[LONG_BYTES - 1] == i);
            kill(getpid(), SIGKILL);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    free(own);
    close_both(ends);
}

/* While a message is being written, its pages are not left to receivers who hold all others. */
static void test_held(void)
{
    enum { SLOTS = 4 };
    struct ends ends = make(0, 0);
    tine_channel *receivers[SLOTS];
    unsigned char *bytes = filled(LONG_BYTES, 1);
    void *place;
    size_t length;
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, 0, &place), 0);
    for (int i = 0; i < SLOTS; i++)
        CHECK_RC(tine_channel_attach(tine_channel_fd(ends.b), NULL, &receivers[i]), 0);
    for (int i = 0; i < SLOTS; i++) {
        CHECK_RC(tine_channel_send(ends.a, bytes, LONG_BYTES, SHORT_NS), 0);
        CHECK_EQ(is_in_pages(ends.b), i < SLOTS - 1); /* the last one found no slot free */
        void *there;
        CHECK_RC(tine_channel_peek(receivers[i], 0, &there, &length), 0);
        CHECK(length == LONG_BYTES && memcmp(there, bytes, length) == 0);
    }
    CHECK_EQ(count_pages(), 1);
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
    CHECK_RC(tine_channel_send(ends.a, bytes, LONG_BYTES, 0), 0); /* now they are */
    CHECK(is_in_pages(ends.b));
    for (int i = 0; i < SLOTS; i++)
        tine_channel_close(receivers[i]);
    free(bytes);
    close_both(ends);
}

/* Nothing is kept of messages that are too long for that, and of others no more than is said. */
static size_t shared_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "RssShmem: %zu kB", &kib);
    CHECK(file && fclose(file) == 0);
    return kib << 10;
}

static int has_pages_mapped(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char line[512];
    int found = 0;
    while (file && fgets(line, sizeof line, file))
        found |= strstr(line, "tine-pages") != NULL;
    CHECK(file && fclose(file) == 0);
    return found;
}

static void test_kept(void)
{
    enum { HUGE_BYTES = 40 << 20 };
    struct ends ends = make(0, 0);
    size_t before = shared_bytes(), length;
    void *place;
    CHECK_RC(tine_channel_reserve(ends.a, HUGE_BYTES, 0, &place), 0);
    memset(place, 1, HUGE_BYTES);
    CHECK_RC(tine_channel_commit(ends.a, HUGE_BYTES, 0), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
    CHECK(length == HUGE_BYTES && ((char *)place)[HUGE_BYTES - 1] == 1);
    CHECK(shared_bytes() - before < HUGE_BYTES / 2); /* of which one page has been touched here */
    CHECK_RC(tine_channel_release(ends.b), 0);
    CHECK(shared_bytes() < before + (1 << 20));
    CHECK(!has_pages_mapped()); /* in which the message would still be */
    close_both(ends);
}

/* No descriptor, no address space: a clear error, and later it works. */
static void test_short(void)
{
    struct ends ends = make(0, 0);
    struct rlimit limit, low;
    void *place;
    size_t length;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, TINE_FOREVER, &place), -EMFILE);
    CHECK_RC(tine_channel_abandon(ends.a), -EPERM);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    send_it(ends.a, LONG_BYTES, 8, 1);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &place, &length), -EMFILE);
    CHECK_RC(tine_channel_release(ends.b), -EPERM);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    receive_it(ends.b, LONG_BYTES, 8, 1);
    /* A limit on the length of files: less is kept, or there is none. */
    close_both(ends);
    ends = make(0, 0);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    low = limit;
    low.rlim_cur = 2 << 20;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
    send_it(ends.a, LONG_BYTES, 9, 1);
    receive_it(ends.b, LONG_BYTES, 9, 1);
    send_it(ends.a, LONG_BYTES, 9, 0);
    receive_it(ends.b, LONG_BYTES, 9, 1);
    CHECK_RC(tine_channel_reserve(ends.a, 4 << 20, TINE_FOREVER, &place), -ENOMEM);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    close_both(ends);
    /* A limit that comes when the pages are there already, which ends no sender. */
    ends = make(0, 0);
    send_it(ends.a, LONG_BYTES, 10, 0);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
    for (unsigned i = 11; i < 14; i++)
        send_it(ends.a, LONG_BYTES, i, 0);
    for (unsigned i = 10; i < 14; i++)
        receive_it(ends.b, LONG_BYTES, i, i & 1);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    close_both(ends);
}

/* The program closes descriptors that are not its own: other memory is taken, and nothing of the program's is sent. */
static int replaced[2], replaced_count;

static int close_pages(void)
{
    int closed = 0;
    for (int fd = 3; fd < 200; fd++) {
        if (is_of_pages(fd)) {
            CHECK_EQ(dup2(0, fd), fd); /* and has another file there */
            replaced[replaced_count++] = fd;
            closed++;
        }
    }
    return closed;
}

static void test_closed(void)
{
    struct ends ends = make(0, 0);
    void *place;
    send_it(ends.a, LONG_BYTES, 4, 1);
    receive_it(ends.b, LONG_BYTES, 4, 1);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, 0, &place), 0);
    CHECK_EQ(close_pages(), 1);
    CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), -EBADF);
    CHECK_RC(tine_channel_abandon(ends.a), 0);
    send_it(ends.a, LONG_BYTES, 5, 0);
    receive_it(ends.b, LONG_BYTES, 5, 1);
    CHECK_EQ(close_pages(), 1);
    send_it(ends.a, LONG_BYTES, 6, 1);
    receive_it(ends.b, LONG_BYTES, 6, 0);
    close_both(ends);
    while (replaced_count > 0)
        CHECK_EQ(close(replaced[--replaced_count]), 0); /* still there: the library has not closed them */
}

static void nothing(int number)
{
    (void)number;
}

/* A signal ends the wait for room where that is asked for. */
static void *signal_later(void *argument)
{
    pthread_t *waiter = (pthread_t *)argument;
    struct timespec nap = {0, 1000000};
    for (int i = 0; i < 10000 && !__atomic_load_n((int *)(waiter + 1), __ATOMIC_SEQ_CST); i++) {
        pthread_kill(*waiter, SIGUSR1);
        nanosleep(&nap, NULL);
    }
    return NULL;
}

static void test_signals(void)
{
    struct ends ends = make(TINE_INTERRUPTIBLE, 0);
    struct sigaction action;
    struct { pthread_t waiter; int is_over; } told = {pthread_self(), 0};
    pthread_t thread;
    void *place;
    int rc;
    memset(&action, 0, sizeof action);
    action.sa_handler = nothing;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    while ((rc = tine_channel_reserve(ends.a, LONG_BYTES, 0, &place)) == 0)
        CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
    CHECK_RC(rc, -EAGAIN);
    CHECK_EQ(pthread_create(&thread, NULL, signal_later, &told), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, TINE_FOREVER, &place), -EINTR);
    __atomic_store_n(&told.is_over, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    close_both(ends);
}

/* The other end goes while this one waits for room. */
static void *close_it(void *argument)
{
    tine_channel_close((tine_channel *)argument);
    return NULL;
}

static void test_close(void)
{
    struct ends ends = make(0, 0);
    pthread_t thread;
    void *place;
    int rc;
    while ((rc = tine_channel_reserve(ends.a, LONG_BYTES, 0, &place)) == 0)
        CHECK_RC(tine_channel_commit(ends.a, LONG_BYTES, 0), 0);
    CHECK_EQ(pthread_create(&thread, NULL, close_it, ends.b), 0);
    CHECK_RC(tine_channel_reserve(ends.a, LONG_BYTES, TINE_FOREVER, &place), -EPIPE);
    pthread_join(thread, NULL);
    CHECK_RC(tine_channel_reserve(ends.a, 8, 0, &place), 0);
    tine_channel_close(ends.a); /* with a reservation */
}

int main(void)
{
    test_ways(); /* the library's own memory first */
    struct belongings before = take_stock();
    test_ways();
    test_stays();
    test_errors();
    test_room();
    test_threads();
    test_handles();
    test_fork();
    test_dead_receivers(0);
    test_dead_receivers(1);
    test_held();
    test_kept();
    test_short();
    test_closed();
    test_signals();
    test_close();
    check_stock(before);
    return 0;
}
