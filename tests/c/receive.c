/* Receiving while something is missing: the error names it, and what was sent is still there when it no longer is. */
#include "family.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

static int ended(pid_t pid)
{
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void limit(int resource, rlim_t most)
{
    struct rlimit now;
    CHECK_EQ(getrlimit(resource, &now), 0);
    now.rlim_cur = most < now.rlim_max ? most : now.rlim_max;
    CHECK_EQ(setrlimit(resource, &now), 0);
}

/* The lowest number that is free: with it as the limit, none is. */
static rlim_t first_free(void)
{
    int fd = dup(0);
    CHECK(fd >= 0);
    close(fd);
    return (rlim_t)fd;
}

static tine_segment *received(int socket, uint32_t flags, int expected)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *s = NULL;
    options.flags = flags;
    CHECK_RC(tine_segment_receive(socket, &options, &s), expected);
    CHECK((s != NULL) == (expected == 0));
    return s;
}

static void is_the_one(tine_segment *s, const char *content)
{
    CHECK_STR((const char *)tine_segment_address(s), content);
    CHECK_RC(tine_segment_close(s), 0);
}

/* In a process that does not have what the sender has mapped; its socket does not wait, so that what is lost is seen. */
static void segment_receiver(int socket, const char *content)
{
    CHECK_EQ(fcntl(socket, F_SETFL, O_NONBLOCK), 0);
    /* No descriptor is free. */
    rlim_t free_number = first_free();
    limit(RLIMIT_NOFILE, free_number);
    for (int i = 0; i < 3; i++)
        received(socket, 0, -EMFILE);
    /* Only a standard one's is, which tine does not take. */
    limit(RLIMIT_NOFILE, free_number);
    int input = fcntl(0, F_DUPFD, 0);
    CHECK(input < 0 && errno == EMFILE);
    close(0);
    received(socket, 0, -EMFILE);
    CHECK_EQ(open("/dev/null", O_RDONLY), 0);
    limit(RLIMIT_NOFILE, RLIM_INFINITY);
    /* No address space. */
    limit(RLIMIT_AS, 1 << 20);
    received(socket, 0, -ENOMEM);
    limit(RLIMIT_AS, RLIM_INFINITY);
    /* And then it is there. */
    tine_segment *s = received(socket, 0, 0);
    received(socket, 0, -EAGAIN);
    CHECK_RC(tine_segment_send(socket, s), 0);
    is_the_one(s, content);
    exit(0);
}

static void a_segment(int type)
{
    int sockets[2];
    tine_segment *s = NULL;
    CHECK_EQ(socketpair(AF_UNIX, type, 0, sockets), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char ready;
        close(sockets[0]);
        CHECK_EQ(recv(sockets[1], &ready, 1, MSG_PEEK), 1);
        segment_receiver(sockets[1], "precious");
    }
    close(sockets[1]);
    CHECK_RC(tine_segment_create(5000, NULL, &s), 0);
    strcpy((char *)tine_segment_address(s), "precious");
    CHECK_RC(tine_segment_send(sockets[0], s), 0);
    CHECK_EQ(ended(child), 0);
    /* What the child has sent back: its address is taken here. */
    CHECK_EQ(fcntl(sockets[0], F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 3; i++)
        received(sockets[0], 0, -EEXIST);
    is_the_one(received(sockets[0], TINE_SEGMENT_ANY_ADDRESS, 0), "precious");
    received(sockets[0], 0, -EPIPE);
    CHECK_RC(tine_segment_close(s), 0);
    close(sockets[0]);
}

static void send_fd(int socket, const char *text, size_t length, int fd)
{
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control;
    struct iovec part = {(void *)text, length};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK_EQ(sendmsg(socket, &message, 0), (ssize_t)length);
}

/* What nobody can have is not in the way of what comes behind it. */
static void what_is_no_segment(void)
{
    int sockets[2];
    tine_segment *s = NULL;
    struct belongings before = take_stock();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sockets), 0);
    CHECK_RC(tine_segment_create(5000, NULL, &s), 0);
    strcpy((char *)tine_segment_address(s), "after it");
    CHECK_EQ(send(sockets[0], "tine/seg", 8, 0), 8);
    CHECK_EQ(send(sockets[0], "something longer", 16, 0), 16);
    send_fd(sockets[0], "tine/sex", 8, tine_segment_fd(s));
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(ftruncate(unsealed, 8192), 0);
    send_fd(sockets[0], "tine/seg", 8, unsealed);
    CHECK_EQ(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_RC(tine_segment_send(sockets[0], s), 0);
    for (int i = 0; i < 3; i++)
        received(sockets[1], 0, -EPROTO);
    received(sockets[1], 0, -EINVAL); /* sealed by now, and all zero */
    is_the_one(received(sockets[1], TINE_SEGMENT_ANY_ADDRESS, 0), "after it");
    received(sockets[1], 0, -EAGAIN);
    /* Nor are descriptors of a segment that nobody can look at, read or map. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", unsealed);
    static const int modes[] = {O_PATH, O_WRONLY, O_RDONLY};
    for (size_t i = 0; i < 3; i++) {
        if (modes[i] == O_RDONLY)
            snprintf(path, sizeof path, "/proc/self/fd/%d", tine_segment_fd(s));
        int fd = open(path, modes[i] | O_CLOEXEC);
        CHECK(fd >= 0);
        send_fd(sockets[0], "tine/seg", 8, fd);
        close(fd);
    }
    CHECK_RC(tine_segment_send(sockets[0], s), 0);
    for (int i = 0; i < 3; i++)
        received(sockets[1], TINE_SEGMENT_ANY_ADDRESS, -EPROTO);
    is_the_one(received(sockets[1], TINE_SEGMENT_ANY_ADDRESS, 0), "after it");
    /* Nor is an empty one, which is not the end. */
    CHECK_EQ(send(sockets[0], "", 0, 0), 0);
    CHECK_RC(tine_segment_send(sockets[0], s), 0);
    received(sockets[1], 0, -EPROTO);
    is_the_one(received(sockets[1], TINE_SEGMENT_ANY_ADDRESS, 0), "after it");
    /* Who sends nothing more is at its end. */
    CHECK_EQ(shutdown(sockets[0], SHUT_WR), 0);
    received(sockets[1], 0, -EPIPE);
    CHECK_RC(tine_segment_close(s), 0);
    close(unsealed), close(sockets[0]), close(sockets[1]);
    check_stock(before);
}

/* ---- Several threads at one socket ---- */

enum { SEGMENTS = 200, THREADS = 3 };

static int shared_socket;
static int seen[SEGMENTS];

static void *receive_some(void *unused)
{
    for (;;) {
        tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
        tine_segment *s = NULL;
        options.flags = TINE_SEGMENT_ANY_ADDRESS;
        int rc = tine_segment_receive(shared_socket, &options, &s);
        if (rc == -EPIPE)
            return unused;
        CHECK_RC(rc, 0);
        __atomic_add_fetch(&seen[*(int *)tine_segment_address(s)], 1, __ATOMIC_RELAXED);
        CHECK_RC(tine_segment_close(s), 0);
    }
}

static void each_goes_to_one_thread(void)
{
    pthread_t threads[THREADS];
    int sockets[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
    shared_socket = sockets[1];
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, receive_some, NULL), 0);
    for (int i = 0; i < SEGMENTS;) {
        tine_segment *s = NULL;
        CHECK_RC(tine_segment_create(64, NULL, &s), 0);
        *(int *)tine_segment_address(s) = i;
        int rc = tine_segment_send(sockets[0], s);
        CHECK(rc == 0 || rc == -EAGAIN);
        i += rc == 0;
        CHECK_RC(tine_segment_close(s), 0);
    }
    close(sockets[0]);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < SEGMENTS; i++)
        CHECK_EQ(seen[i], 1);
    close(sockets[1]);
}

/* One that is woken and cannot have the segment leaves it there, and its wake-up to the next one. */
static void *receive_elsewhere(void *received_by)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *s = NULL;
    options.flags = *(const uint32_t *)received_by;
    int rc = tine_segment_receive(shared_socket, &options, &s);
    if (options.flags == 0 && rc == -EPIPE)
        return NULL; /* the others were faster */
    CHECK_RC(rc, options.flags ? 0 : -EEXIST);
    CHECK_RC(tine_segment_close(s), 0);
    return NULL;
}

static void one_cannot_have_it(void)
{
    static uint32_t here = 0, anywhere = TINE_SEGMENT_ANY_ADDRESS;
    for (int round = 0; round < 20; round++) {
        uint32_t *flags[] = {&here, round % 2 ? &anywhere : &here, &anywhere};
        pthread_t threads[3];
        tine_segment *s = NULL;
        int sockets[2];
        CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
        shared_socket = sockets[1];
        CHECK_RC(tine_segment_create(64, NULL, &s), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(pthread_create(&threads[i], NULL, receive_elsewhere, flags[i]), 0);
            usleep(2000); /* the order in which they are most likely to wait; nothing hangs on it */
        }
        /* One for each that can have it: the others leave it. */
        for (int i = 0; i <= round % 2; i++)
            CHECK_RC(tine_segment_send(sockets[0], s), 0);
        for (int i = 2; i >= 0; i--) {
            if (flags[i] == &here)
                close(sockets[0]), sockets[0] = -1;
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        }
        CHECK_RC(tine_segment_close(s), 0);
        close(sockets[1]);
    }
}

/* A child that is forked while another thread receives can receive as well. */

static void *receive_until_the_end(void *unused)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    options.flags = TINE_SEGMENT_ANY_ADDRESS | TINE_SEGMENT_POPULATE;
    for (;;) {
        tine_segment *s = NULL;
        int rc = tine_segment_receive(shared_socket, &options, &s);
        if (rc == -EPIPE)
            return unused;
        CHECK_RC(rc, 0);
        CHECK_RC(tine_segment_close(s), 0);
    }
}

static void a_forked_child_receives(void)
{
    pthread_t thread;
    int sockets[2], own[2];
    tine_segment *large = NULL, *small = NULL;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
    shared_socket = sockets[1];
    CHECK_RC(tine_segment_create(16 << 20, NULL, &large), 0);
    CHECK_RC(tine_segment_create(5000, NULL, &small), 0);
    strcpy((char *)tine_segment_address(small), "the child's");
    CHECK_EQ(pthread_create(&thread, NULL, receive_until_the_end, NULL), 0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, own), 0);
        CHECK_RC(tine_segment_send(own[0], small), 0);
        int rc = tine_segment_send(sockets[0], large);
        CHECK(rc == 0 || rc == -EAGAIN);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            is_the_one(received(own[1], TINE_SEGMENT_ANY_ADDRESS, 0), "the child's");
            _exit(0);
        }
        CHECK_EQ(ended(child), 0);
        close(own[0]), close(own[1]);
    }
    CHECK_EQ(shutdown(sockets[0], SHUT_WR), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_RC(tine_segment_close(large), 0);
    CHECK_RC(tine_segment_close(small), 0);
    close(sockets[0]), close(sockets[1]);
}

/* ---- Channels ---- */

/* A process that may have no descriptor may not poll either. Its waits still end: in time, and with what there is. */
static void without_poll(void)
{
    tine_channel *a = NULL, *b = NULL;
    size_t length = 0;
    char got[8];
    struct rlimit before;
    CHECK_RC(tine_channel_create(NULL, &a, &b), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit(RLIMIT_NOFILE, 0);
    CHECK_RC(tine_channel_receive(b, 5000000, got, sizeof got, &length), -ETIMEDOUT);
    CHECK_RC(tine_channel_receive(b, 1, got, sizeof got, &length), -ETIMEDOUT);
    CHECK_RC(tine_channel_send(a, "x", 1, 0), 0);
    CHECK_RC(tine_channel_receive(b, 5000000, got, sizeof got, &length), 0);
    tine_channel_close(a);
    CHECK_RC(tine_channel_receive(b, 5000000, got, sizeof got, &length), -EPIPE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    tine_channel_close(b);
}

static void a_channel(void)
{
    static char large[100000], got[100000];
    tine_channel *a = NULL, *b = NULL;
    size_t length = 0;
    int fd = -1, line[2];
    struct rlimit before;
    CHECK_RC(tine_channel_create(NULL, &a, &b), 0);
    CHECK_EQ(pipe(line), 0);
    memset(large, 'x', sizeof large);
    CHECK_RC(tine_channel_send(a, large, sizeof large, 0), 0);
    CHECK_RC(tine_channel_send_fd(a, line[0], 0), 0);
    CHECK_RC(tine_channel_send(a, "short", 6, 0), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit(RLIMIT_NOFILE, first_free());
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tine_channel_receive(b, 0, got, sizeof got, &length), -EMFILE);
        CHECK_RC(tine_channel_receive_fd(b, 0, &fd), -EMFILE);
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_RC(tine_channel_receive_fd(b, 0, &fd), -ENOMSG);
    CHECK_RC(tine_channel_receive(b, 0, got, 10, &length), -EMSGSIZE);
    CHECK_EQ(length, sizeof large);
    CHECK_RC(tine_channel_receive(b, 0, got, sizeof got, &length), 0);
    CHECK(length == sizeof large && memcmp(got, large, length) == 0);
    limit(RLIMIT_NOFILE, first_free());
    CHECK_RC(tine_channel_receive_fd(b, 0, &fd), -EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_RC(tine_channel_receive(b, 0, got, sizeof got, &length), -ENOMSG);
    CHECK_RC(tine_channel_receive_fd(b, 0, &fd), 0);
    CHECK_RC(tine_channel_receive_fd(b, 0, &line[0]), -ENOMSG);
    CHECK_RC(tine_channel_receive(b, 0, got, sizeof got, &length), 0);
    CHECK_STR(got, "short");
    close(fd), close(line[0]), close(line[1]);
    tine_channel_close(a), tine_channel_close(b);
}

/* Not connected, closed or no socket: nothing is looked at, and nothing waited for. */
static void what_has_no_other_end(void)
{
    static const struct {
        int type, code;
    } all[] = {{SOCK_SEQPACKET, -ENOTCONN}, {SOCK_STREAM, -EINVAL}};
    tine_segment *s, *sent;
    CHECK_RC(tine_segment_create(100, NULL, &sent), 0);
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_UNIX, all[i].type, 0);
        CHECK(fd >= 0);
        CHECK_RC(tine_segment_receive(fd, NULL, &s), all[i].code);
        CHECK_RC(tine_segment_send(fd, sent), -EPIPE);
        close(fd);
        CHECK_RC(tine_segment_receive(fd, NULL, &s), -EBADF);
        CHECK_RC(tine_segment_send(fd, sent), -EBADF);
    }
    int file = open("/dev/null", O_RDONLY);
    CHECK_RC(tine_segment_receive(file, NULL, &s), -ENOTSOCK);
    CHECK_RC(tine_segment_send(file, sent), -ENOTSOCK);
    close(file);
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    close(tine_segment_fd(sent));
    CHECK_RC(tine_segment_send(ends[0], sent), -EBADF);
    close(ends[0]);
    close(ends[1]);
    CHECK_RC(tine_segment_close(sent), 0);
}

int main(void)
{
    a_segment(SOCK_SEQPACKET);
    a_segment(SOCK_STREAM);
    what_is_no_segment();
    what_has_no_other_end();
    each_goes_to_one_thread();
    one_cannot_have_it();
    a_forked_child_receives();
    a_channel();
    without_poll();
    return 0;
}
