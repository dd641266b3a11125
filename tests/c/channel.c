/* Channels: every call, every error, descriptors, threads, forked children. */
#include "channels.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

/* ---- Options, pointers, messages ---- */

static void test_options(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_channel_options options = TINE_CHANNEL_OPTIONS_INIT;
    struct ends ends = {NULL, NULL};
    size_t length = 77;
    int fd = 77;
    options.error = &error;
    CHECK_RC(tine_channel_create(&options, NULL, &ends.b), -EINVAL);
    CHECK(strstr(error.text, "a is NULL"));
    CHECK_RC(tine_channel_create(&options, &ends.a, NULL), -EINVAL);
    CHECK(strstr(error.text, "b is NULL"));
    options.flags = 6;
    CHECK_RC(tine_channel_create(&options, &ends.a, &ends.b), -EINVAL);
    CHECK(strstr(error.text, "0x6"));
    options.flags = 0;
    options.reserved = 9;
    CHECK_RC(tine_channel_create(&options, &ends.a, &ends.b), -EINVAL);
    CHECK(strstr(error.text, "reserved is 9"));
    options.reserved = 0;
    options.size = 3;
    CHECK_RC(tine_channel_create(&options, &ends.a, &ends.b), -EINVAL);
    struct { tine_channel_options options; size_t newer; } longer = {TINE_CHANNEL_OPTIONS_INIT, 1};
    longer.options.size = sizeof longer;
    CHECK_RC(tine_channel_create(&longer.options, &ends.a, &ends.b), -E2BIG);
    CHECK(ends.a == NULL && ends.b == NULL);

    CHECK_RC(tine_channel_send(NULL, "x", 1, 0), -EINVAL);
    CHECK_RC(tine_channel_receive(NULL, 0, &fd, sizeof fd, &length), -EINVAL);
    CHECK_RC(tine_channel_send_fd(NULL, 0, 0), -EINVAL);
    CHECK_RC(tine_channel_receive_fd(NULL, 0, &fd), -EINVAL);
    CHECK_RC(tine_channel_fd(NULL), -EINVAL);
    CHECK(tine_task_channel(NULL) == NULL);
    tine_channel_close(NULL);
    ends = make(0, 0);
    CHECK_RC(tine_channel_send(ends.a, NULL, 1, 0), -EINVAL);
    CHECK_RC(tine_channel_send(ends.a, "x", SIZE_MAX, 0), -EINVAL);
    CHECK_RC(tine_channel_send(ends.a, "x", (size_t)PTRDIFF_MAX, 0), -ENOMEM);
    CHECK_RC(tine_channel_receive(ends.b, 0, NULL, 1, &length), -EINVAL);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, NULL), -EINVAL);
    CHECK_RC(tine_channel_send_fd(ends.a, -1, 0), -EBADF);
    CHECK_RC(tine_channel_send_fd(ends.a, 987654, 0), -EBADF);
    CHECK_RC(tine_channel_receive(ends.b, 0, &fd, sizeof fd, &length), -EAGAIN);
    CHECK_EQ(fcntl(tine_channel_fd(ends.a), F_GETFD), FD_CLOEXEC);
    CHECK(length == 77 && fd == 77);
    close_both(ends);
}

static void test_messages(void)
{
    static const size_t sizes[] = {0, 1, 8, 4096, 65535, 65536, 65537, 1 << 20, (4 << 20) + 3};
    struct ends ends = make(0, 0);
    size_t length;
    char byte, four[4];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        unsigned char *sent = filled(size, (unsigned)i), *got = filled(size, 99);
        tine_channel *from = i % 2 ? ends.a : ends.b, *to = i % 2 ? ends.b : ends.a;
        CHECK(!is_readable(to));
        CHECK_RC(tine_channel_send(from, size ? sent : NULL, size, 0), 0);
        CHECK_RC(tine_channel_send(from, "next", 4, 0), 0);
        CHECK(is_readable(to));
        if (size) {
            length = 0;
            CHECK_RC(tine_channel_receive(to, 0, got, size - 1, &length), -EMSGSIZE);
            CHECK_EQ(length, size);
            CHECK_RC(tine_channel_receive(to, TINE_FOREVER, NULL, 0, NULL), -EMSGSIZE);
            CHECK(is_readable(to));
        }
        CHECK_RC(tine_channel_receive(to, TINE_FOREVER, size ? got : NULL, size, &length), 0);
        CHECK(length == size && memcmp(got, sent, size) == 0);
        CHECK_RC(tine_channel_receive(to, SHORT_NS, got, size, &length), size < 4 ? -EMSGSIZE : 0);
        if (size < 4)
            CHECK_RC(tine_channel_receive(to, 0, four, sizeof four, &length), 0);
        CHECK_EQ(length, 4);
        CHECK_RC(tine_channel_receive(to, 0, &byte, 1, NULL), -EAGAIN);
        free(sent);
        free(got);
    }
    /* A small buffer: what does not fit in it travels as a long one does. */
    close_both(ends);
    ends = make(0, 1);
    unsigned char *sent = filled(60000, 3), *got = filled(60000, 4);
    CHECK_RC(tine_channel_send(ends.a, sent, 60000, 0), 0);
    CHECK_RC(tine_channel_receive(ends.b, 0, got, 60000, &length), 0);
    CHECK(length == 60000 && memcmp(sent, got, length) == 0);
    free(sent);
    free(got);
    close_both(ends);
}

static void *send_later(void *argument)
{
    struct ends *ends = (struct ends *)argument;
    nap_ns(5000000);
    CHECK_RC(tine_channel_send(ends->a, "late", 4, 0), 0);
    return NULL;
}

static void *drain_later(void *argument)
{
    struct ends *ends = (struct ends *)argument;
    char bytes[4096];
    nap_ns(5000000);
    for (int count = 0;; count++) {
        int rc = tine_channel_receive(ends->b, SHORT_NS * 100, bytes, sizeof bytes, NULL);
        if (rc == -ETIMEDOUT && count > 0)
            return NULL;
        CHECK(rc == 0 || rc == -ETIMEDOUT);
    }
}

static void test_waiting(void)
{
    struct ends ends = make(0, 0);
    char bytes[4096] = {0};
    size_t length;
    pthread_t thread;
    int rc, count = 0;
    int64_t began = clock_ns();
    CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), -EAGAIN);
    CHECK_RC(tine_channel_receive(ends.b, SHORT_NS, bytes, sizeof bytes, &length), -ETIMEDOUT);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &rc), -EAGAIN);
    CHECK_RC(tine_channel_receive_fd(ends.b, SHORT_NS, &rc), -ETIMEDOUT);
    CHECK(clock_ns() - began >= 2 * SHORT_NS);
    for (int forever = 0; forever < 2; forever++) {
        CHECK_EQ(pthread_create(&thread, NULL, send_later, &ends), 0);
        CHECK_RC(tine_channel_receive(ends.b, forever ? TINE_FOREVER : HANG_NS, bytes, sizeof bytes, &length), 0);
        CHECK(length == 4 && memcmp(bytes, "late", 4) == 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    while ((rc = tine_channel_send(ends.a, bytes, sizeof bytes, 0)) == 0)
        count++;
    CHECK_RC(rc, -EAGAIN);
    CHECK(count > 10);
    CHECK_RC(tine_channel_send(ends.a, bytes, sizeof bytes, SHORT_NS), -ETIMEDOUT);
    CHECK_RC(tine_channel_send_fd(ends.a, 0, 0), -EAGAIN);
    CHECK_EQ(pthread_create(&thread, NULL, drain_later, &ends), 0);
    CHECK_RC(tine_channel_send(ends.a, bytes, sizeof bytes, TINE_FOREVER), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close_both(ends);
}

/* A kernel tells of room only when most of the buffer is free. Who waits for room finds it all the same. */
static void *receive_one_later(void *argument)
{
    static char bytes[60000];
    nap_ns(5000000);
    CHECK_RC(tine_channel_receive(((struct ends *)argument)->b, 0, bytes, sizeof bytes, NULL), 0);
    return NULL;
}

static void test_room_unheard(void)
{
    static char bytes[60000];
    struct ends ends = make(0, 0);
    pthread_t thread;
    int count = 0;
    while (tine_channel_send(ends.a, bytes, sizeof bytes, 0) == 0)
        count++;
    CHECK(count > 2);
    CHECK_EQ(pthread_create(&thread, NULL, receive_one_later, &ends), 0);
    CHECK_RC(tine_channel_send(ends.a, bytes, sizeof bytes, HANG_NS), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close_both(ends);
}

/* ---- Signals ---- */

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

static void test_signals(void)
{
    struct ends plain = make(0, 0), gives_up = make(TINE_INTERRUPTIBLE, 0);
    struct sigaction action;
    struct itimerval often = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
    char bytes[4096] = {0};
    int rc;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    for (int restart = 0; restart < 2; restart++) {
        action.sa_flags = restart ? SA_RESTART : 0;
        CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
        CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
        CHECK_RC(tine_channel_receive(gives_up.a, TINE_FOREVER, bytes, sizeof bytes, NULL), -EINTR);
        CHECK_RC(tine_channel_receive_fd(gives_up.a, HANG_NS, &rc), -EINTR);
        while ((rc = tine_channel_send(gives_up.a, bytes, sizeof bytes, TINE_FOREVER)) == 0) {
        }
        CHECK_RC(rc, -EINTR);
        while (tine_channel_receive(gives_up.b, 0, bytes, sizeof bytes, NULL) == 0) {
        }
        alarms = 0;
        do {
            CHECK_RC(tine_channel_receive(plain.a, 20 * SHORT_NS, bytes, sizeof bytes, NULL), -ETIMEDOUT);
        } while (alarms < 3);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, send_later, &plain), 0);
        CHECK_RC(tine_channel_receive(plain.b, TINE_FOREVER, bytes, sizeof bytes, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    }
    action.sa_handler = SIG_DFL;
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    close_both(plain);
    close_both(gives_up);
}

/* ---- The other end is gone ---- */

static void test_gone(void)
{
    for (int unread = 0; unread < 2; unread++) {
        struct ends ends = make(0, 0);
        size_t length;
        char bytes[8];
        int fd = 77;
        unsigned char *large = filled(100000, 1), *got = filled(100000, 2);
        if (unread) /* the kernel says ECONNRESET then */
            CHECK_RC(tine_channel_send(ends.a, "unread", 6, 0), 0);
        CHECK_RC(tine_channel_send(ends.b, "one", 3, 0), 0);
        CHECK_RC(tine_channel_send(ends.b, "", 0, 0), 0);
        CHECK_RC(tine_channel_send(ends.b, large, 100000, 0), 0);
        tine_channel_close(ends.b);
        CHECK(is_readable(ends.a));
        CHECK_RC(tine_channel_send(ends.a, "x", 1, TINE_FOREVER), -EPIPE);
        CHECK_RC(tine_channel_send(ends.a, large, 100000, 0), -EPIPE);
        CHECK_RC(tine_channel_send_fd(ends.a, 0, 0), -EPIPE);
        CHECK_RC(tine_channel_receive(ends.a, 0, bytes, sizeof bytes, &length), 0);
        CHECK(length == 3 && memcmp(bytes, "one", 3) == 0);
        CHECK_RC(tine_channel_receive(ends.a, 0, bytes, sizeof bytes, &length), 0);
        CHECK_EQ(length, 0);
        CHECK_RC(tine_channel_receive(ends.a, 0, got, 100000, &length), 0);
        CHECK(length == 100000 && memcmp(large, got, length) == 0);
        for (int i = 0; i < 3; i++)
            CHECK_RC(tine_channel_receive(ends.a, TINE_FOREVER, bytes, sizeof bytes, &length), -EPIPE);
        CHECK_RC(tine_channel_receive_fd(ends.a, TINE_FOREVER, &fd), -EPIPE);
        CHECK_EQ(fd, 77);
        CHECK(is_readable(ends.a));
        tine_channel_close(ends.a);
        free(large);
        free(got);
    }
}

static void *close_later(void *argument)
{
    nap_ns(5000000);
    tine_channel_close((tine_channel *)argument);
    return NULL;
}

static void test_gone_while_waiting(void)
{
    char bytes[4096] = {0};
    int rc;
    for (int way = 0; way < 4; way++) {
        struct ends ends = make(0, 0);
        pthread_t thread;
        int64_t timeout_ns = way % 2 ? HANG_NS : TINE_FOREVER;
        while (way >= 2 && (rc = tine_channel_send(ends.a, bytes, sizeof bytes, 0)) == 0) {
        }
        CHECK_EQ(pthread_create(&thread, NULL, close_later, ends.b), 0);
        if (way >= 2)
            CHECK_RC(tine_channel_send(ends.a, bytes, sizeof bytes, timeout_ns), -EPIPE);
        else
            CHECK_RC(tine_channel_receive(ends.a, timeout_ns, bytes, sizeof bytes, NULL), -EPIPE);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        tine_channel_close(ends.a);
    }
}

/* ---- Descriptors ---- */

static int is_same_file(int left, int right)
{
    struct stat a, b;
    CHECK(fstat(left, &a) == 0 && fstat(right, &b) == 0);
    return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void test_descriptors(void)
{
    struct ends ends = make(0, 0);
    int pipes[2], fd = 77;
    char byte;
    size_t length = 77;
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    CHECK_RC(tine_channel_send(ends.a, "1", 1, 0), 0);
    CHECK_RC(tine_channel_send_fd(ends.a, pipes[0], 0), 0);
    CHECK_RC(tine_channel_send(ends.a, "2", 1, 0), 0);
    CHECK_RC(tine_channel_receive_fd(ends.b, TINE_FOREVER, &fd), -ENOMSG);
    CHECK_RC(tine_channel_receive(ends.b, 0, &byte, 1, NULL), 0);
    CHECK_EQ(byte, '1');
    CHECK_RC(tine_channel_receive(ends.b, TINE_FOREVER, &byte, 1, &length), -ENOMSG);
    CHECK(length == 77 && fd == 77);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
    CHECK(fd != pipes[0] && is_same_file(fd, pipes[0]));
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    CHECK_RC(tine_channel_receive(ends.b, 0, &byte, 1, NULL), 0);
    CHECK_EQ(byte, '2');

    /* No descriptor is free: what needs one stays. */
    struct rlimit before, none;
    unsigned char *large = filled(70000, 5), *got = filled(70000, 6);
    CHECK_RC(tine_channel_send_fd(ends.a, pipes[1], 0), 0);
    CHECK_RC(tine_channel_send(ends.a, large, 70000, 0), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_RC(tine_channel_receive_fd(ends.b, TINE_FOREVER, &fd), -EMFILE);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), -EMFILE);
    CHECK_RC(tine_channel_send(ends.b, large, 70000, 0), -EMFILE); /* the other end has the memory already */
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
    CHECK(is_same_file(fd, pipes[1]));
    close(fd);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_RC(tine_channel_receive(ends.b, 0, got, 70000, NULL), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_RC(tine_channel_receive(ends.b, 0, got, 70000, &length), 0);
    CHECK(length == 70000 && memcmp(large, got, length) == 0);
    CHECK_RC(tine_channel_receive(ends.b, 0, got, 70000, &length), -EAGAIN);
    free(large);
    free(got);

    /* One that was sent and is never received is closed with the channel. */
    CHECK_RC(tine_channel_send_fd(ends.a, pipes[1], 0), 0);
    close(pipes[1]);
    close_both(ends);
    CHECK_EQ(read(pipes[0], &byte, 1), 0);
    close(pipes[0]);
}

/* More descriptors on their way than the process may have open: an error, until some have arrived. The kernel does not hold
 * root to it. */
static void test_many_descriptors(void)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {40, 40};
        struct ends ends = make(0, 0);
        int count = 0, rc, fd;
        unsigned char *large = filled(70000, 5);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (getuid() == 0)
            CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        while ((rc = tine_channel_send_fd(ends.a, 0, 0)) == 0 && count < 1000)
            count++;
        CHECK_RC(rc, -EMFILE);
        CHECK(count > 0 && count <= 41);
        CHECK_RC(tine_channel_send(ends.a, large, 70000, 0), -EMFILE);
        CHECK_RC(tine_channel_send(ends.a, large, 60000, 0), 0); /* needs none */
        CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
        close(fd);
        CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
        close(fd);
        CHECK_RC(tine_channel_send(ends.a, large, 70000, 0), 0);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void test_attach(void)
{
    tine_channel_options options = TINE_CHANNEL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    struct ends ends = make(0, 0), inner = make(0, 0);
    tine_channel *out = NULL;
    int pair[2], pipes[2], fd;
    char byte;
    options.error = &error;
    CHECK_RC(tine_channel_attach(-1, &options, &out), -EBADF);
    CHECK(strstr(error.text, "descriptor -1 is not open"));
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    CHECK_RC(tine_channel_attach(pipes[0], &options, &out), -EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_RC(tine_channel_attach(pair[0], &options, &out), -EINVAL);
    close(pair[0]);
    close(pair[1]);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_RC(tine_channel_attach(fd, &options, &out), -EINVAL);
    CHECK(strstr(error.text, "not an end of a channel"));
    close(fd);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_EQ(write(pair[1], "something else", 14), 14);
    CHECK_RC(tine_channel_attach(pair[0], &options, &out), -EINVAL);
    CHECK(strstr(error.text, "not a channel"));
    close(pair[0]);
    close(pair[1]);
    CHECK_RC(tine_channel_attach(tine_channel_fd(ends.a), NULL, NULL), -EINVAL);
    options.flags = 4;
    CHECK_RC(tine_channel_attach(tine_channel_fd(ends.a), &options, &out), -EINVAL);
    CHECK(out == NULL);

    /* An end goes through another channel. */
    CHECK_RC(tine_channel_send(inner.b, "before", 6, 0), 0);
    CHECK_RC(tine_channel_send_fd(ends.a, tine_channel_fd(inner.a), 0), 0);
    tine_channel_close(inner.a);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
    CHECK_RC(tine_channel_attach(fd, NULL, &out), 0);
    close(fd);
    char text[8];
    CHECK_RC(tine_channel_receive(out, 0, text, sizeof text, NULL), 0);
    CHECK(memcmp(text, "before", 6) == 0);
    CHECK_RC(tine_channel_send(out, "x", 1, 0), 0);
    CHECK_RC(tine_channel_receive(inner.b, 0, &byte, 1, NULL), 0);
    tine_channel_close(out);
    CHECK_RC(tine_channel_receive(inner.b, TINE_FOREVER, &byte, 1, NULL), -EPIPE);
    tine_channel_close(inner.b);
    close_both(ends);
}

/* ---- Threads ---- */

#define MESSAGES 6000
#define WRITERS 3
#define READERS 4

static struct {
    struct ends ends;
    unsigned char seen[WRITERS][MESSAGES];
    pthread_mutex_t lock;
} crowd;

static void *write_many(void *argument)
{
    size_t me = (size_t)(intptr_t)argument;
    uint32_t message[64] = {(uint32_t)me};
    for (uint32_t i = 0; i < MESSAGES; i++) {
        message[1] = i;
        size_t length = 8 + 4 * ((i * 7 + me) % 57);
        CHECK_RC(tine_channel_send(crowd.ends.a, message, length, i % 3 ? TINE_FOREVER : HANG_NS), 0);
    }
    return NULL;
}

/* Some have little room at first: what is too long for them goes to others, or to them. */
static void *read_many(void *argument)
{
    size_t me = (size_t)(intptr_t)argument, count = 0, room = me % 2 ? 40 : 256, length;
    uint32_t message[64];
    int rc;
    while ((rc = tine_channel_receive(crowd.ends.b, me % 3 ? TINE_FOREVER : HANG_NS, message, room, &length)) != -EPIPE) {
        if (rc == -EMSGSIZE) {
            CHECK(length > room && length <= 256);
            room = 256;
            continue;
        }
        CHECK_RC(rc, 0);
        CHECK(message[0] < WRITERS && message[1] < MESSAGES);
        CHECK_EQ(length, 8 + 4 * ((message[1] * 7 + message[0]) % 57));
        pthread_mutex_lock(&crowd.lock);
        CHECK_EQ(crowd.seen[message[0]][message[1]]++, 0);
        pthread_mutex_unlock(&crowd.lock);
        count++;
        room = me % 2 ? 40 : 256;
    }
    return (void *)(intptr_t)count;
}

static void test_threads(void)
{
    pthread_t readers[READERS], writers[WRITERS];
    size_t all = 0;
    crowd.ends = make(0, 0);
    pthread_mutex_init(&crowd.lock, NULL);
    for (intptr_t i = 0; i < READERS; i++)
        CHECK_EQ(pthread_create(&readers[i], NULL, read_many, (void *)i), 0);
    for (intptr_t i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_create(&writers[i], NULL, write_many, (void *)i), 0);
    for (int i = 0; i < WRITERS; i++)
        CHECK_EQ(pthread_join(writers[i], NULL), 0);
    tine_channel_close(crowd.ends.a);
    for (int i = 0; i < READERS; i++) {
        void *count;
        CHECK_EQ(pthread_join(readers[i], &count), 0);
        all += (size_t)(intptr_t)count;
    }
    CHECK_EQ(all, WRITERS * MESSAGES);
    tine_channel_close(crowd.ends.b);
}

/* ---- Forked children ---- */

static void test_fork(void)
{
    struct ends ends = make(0, 0);
    int status, fd = 77;
    size_t length = 77;
    char byte = 0;
    pid_t child = fork();
    if (child == 0) {
        tine_channel *mine, *its;
        CHECK_RC(tine_channel_send(ends.a, "x", 1, 0), TINE_EFORKED);
        CHECK_RC(tine_channel_send_fd(ends.a, 0, 0), TINE_EFORKED);
        CHECK_RC(tine_channel_receive(ends.a, 0, &byte, 1, &length), TINE_EFORKED);
        CHECK_RC(tine_channel_receive_fd(ends.a, 0, &fd), TINE_EFORKED);
        CHECK_RC(tine_channel_fd(ends.a), TINE_EFORKED);
        CHECK(length == 77 && fd == 77);
        tine_channel_close(ends.b);
        CHECK_RC(tine_channel_create(NULL, &mine, &its), 0);
        CHECK_RC(tine_channel_send(mine, "x", 1, 0), 0);
        pause(); /* with its copy of a */
        _exit(0);
    }
    tine_channel_close(ends.a);
    CHECK_RC(tine_channel_receive(ends.b, SHORT_NS, &byte, 1, NULL), -ETIMEDOUT);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_RC(tine_channel_receive(ends.b, HANG_NS, &byte, 1, NULL), -EPIPE);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    tine_channel_close(ends.b);
}

int main(void)
{
    struct belongings before = take_stock();
    test_options();
    test_messages();
    test_waiting();
    test_room_unheard();
    test_signals();
    test_gone();
    test_gone_while_waiting();
    test_descriptors();
    test_many_descriptors();
    test_attach();
    test_threads();
    test_fork();
    before.mappings = take_stock().mappings; /* the C library keeps some of threads */
    check_stock(before);
    return 0;
}
