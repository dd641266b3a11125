/* What a hostile other end of a channel can send, by its descriptor: it is refused, and costs that channel at the most. */
#include "channels.h"
#include <stdint.h>
#include <sys/socket.h>

struct header {
    char magic[4];
    uint16_t version, kind;
    uint64_t length;
};

static void send_raw(int socket, struct header header, size_t bytes, const int *fds, size_t count)
{
    union { char bytes[256]; struct cmsghdr align; } control;
    char body[512] = {0};
    struct iovec parts[2] = {{&header, bytes < sizeof header ? bytes : sizeof header},
                             {body, bytes < sizeof header ? 0 : bytes - sizeof header}};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof *fds);
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        first->cmsg_level = SOL_SOCKET;
        first->cmsg_type = SCM_RIGHTS;
        first->cmsg_len = CMSG_LEN(count * sizeof *fds);
        memcpy(CMSG_DATA(first), fds, count * sizeof *fds);
    }
    CHECK_EQ(sendmsg(socket, &message, MSG_NOSIGNAL), (ssize_t)bytes);
}

static int memory_of(size_t length)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)length) == 0);
    return fd;
}

static const struct header sound = {{'t', 'i', 'n', 'e'}, 1, 1, 4};

/* The next message of `ends.b` is refused, and there is no other. */
#define REFUSED(expected)                                                                    \
    do {                                                                                     \
        CHECK_RC(tine_channel_receive(ends.b, TINE_FOREVER, bytes, sizeof bytes, &length), expected); \
        CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), -EAGAIN);    \
    } while (0)

static void test_headers(void)
{
    struct ends ends = make(0, 0);
    int socket = tine_channel_fd(ends.a);
    char bytes[4096];
    size_t length = 77;
    struct header header;
    send_raw(socket, sound, 20, NULL, 0);
    CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), 0);
    CHECK_EQ(length, 4);
    length = 77;
    for (size_t cut = 0; cut < 20; cut++) { /* too short, the empty one too */
        send_raw(socket, sound, cut, NULL, 0);
        REFUSED(-EBADMSG);
    }
    send_raw(socket, sound, 21, NULL, 0);
    REFUSED(-EBADMSG);
    header = sound, header.magic[2] = 'x';
    send_raw(socket, header, 20, NULL, 0);
    REFUSED(-EBADMSG);
    header = sound, header.version = 2;
    send_raw(socket, header, 20, NULL, 0);
    REFUSED(TINE_EVERSION);
    for (unsigned kind = 0; kind < 70000; kind = kind ? kind * 3 : 4) {
        header = sound, header.kind = (uint16_t)(kind == 0 ? 0 : kind | 4);
        send_raw(socket, header, 20, NULL, 0);
        REFUSED(-EBADMSG);
    }
    header = sound, header.length = UINT64_MAX;
    send_raw(socket, header, 20, NULL, 0);
    REFUSED(-EBADMSG);
    close_both(ends);
}

/* Messages whose bytes are in memory of the sender's. */
static void test_memory(void)
{
    struct ends ends = make(0, 0);
    int socket = tine_channel_fd(ends.a), fd, pipes[2], many[16];
    char bytes[4096];
    size_t length = 77;
    struct header header;
    /* Long ones without memory, with too little of it, with what is no memory, with too much of everything. */
    header = sound, header.kind = 2, header.length = 4096;
    send_raw(socket, header, 16, NULL, 0);
    REFUSED(-EBADMSG);
    fd = memory_of(4095);
    send_raw(socket, header, 16, &fd, 1);
    REFUSED(-EBADMSG);
    close(fd);
    fd = memory_of(4096);
    send_raw(socket, header, 17, &fd, 1);
    REFUSED(-EBADMSG);
    send_raw(socket, header, 16, &fd, 1);
    CHECK_EQ(ftruncate(fd, 10), 0); /* after it was sent */
    REFUSED(-EBADMSG);
    close(fd);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    send_raw(socket, header, 16, &pipes[0], 1);
    REFUSED(-EBADMSG);
    fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    send_raw(socket, header, 16, &fd, 1);
    REFUSED(-EBADMSG);
    close(fd);
    for (size_t i = 0; i < 16; i++)
        many[i] = pipes[1];
    for (size_t count = 2; count <= 16; count++) {
        send_raw(socket, header, 16, many, count);
        REFUSED(-EBADMSG);
    }
    send_raw(socket, sound, 20, many, 1);
    REFUSED(-EBADMSG);
    header.kind = 3;
    send_raw(socket, header, 16, many, 1); /* a descriptor has no length */
    REFUSED(-EBADMSG);
    header.length = 0;
    send_raw(socket, header, 16, many, 3);
    CHECK_RC(tine_channel_receive_fd(ends.b, TINE_FOREVER, &fd), -EBADMSG);
    /* One that may be larger than memory. */
    header.kind = 2, header.length = INT64_MAX;
    send_raw(socket, header, 16, many, 1);
    CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), -EMSGSIZE);
    CHECK_EQ(length, INT64_MAX);
    CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), -ENOMSG);
    close(pipes[0]);
    close(pipes[1]);
    close_both(ends);
}

int main(void)
{
    struct belongings before = take_stock();
    test_headers();
    test_memory();
    check_stock(before);
    return 0;
}
