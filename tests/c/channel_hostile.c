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

static const struct header sound = {{'t', 'i', 'n', 'e'}, 2, 1, 4};

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
    header = sound, header.version = 3;
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
    /* A short one needs none: it is not looked at. */
    send_raw(socket, sound, 20, many, 1);
    CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), 0);
    CHECK_EQ(length, 4);
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

/* Memory that is all there, and that nobody can make shorter. */
static int sealed_memory(size_t length, int seals)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && fallocate(fd, 0, 0, (off_t)length) == 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | seals), 0);
    return fd;
}

/* Messages that this process is to map. */
static void test_in_place(void)
{
    enum { FRONT = 64, TICKET = 24, LENGTH = 4096 };
    struct ends ends = make(0, 0);
    int socket = tine_channel_fd(ends.a), fd, pipes[2];
    static char bytes[1 << 20];
    size_t length = 77;
    void *out;
    struct header header = sound;
    header.kind = 4, header.length = LENGTH;
    for (int way = 0; way < 2; way++) {
        fd = sealed_memory(FRONT + LENGTH, 0);
        CHECK_EQ(pwrite(fd, "text", 4, FRONT), 4);
        send_raw(socket, header, 16 + TICKET, &fd, 1);
        if (way) {
            CHECK_RC(tine_channel_receive(ends.b, TINE_FOREVER, bytes, sizeof bytes, &length), 0);
            CHECK(length == LENGTH && memcmp(bytes, "text", 4) == 0);
        } else {
            CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &out, &length), 0);
            CHECK(length == LENGTH && memcmp(out, "text", 4) == 0);
            CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, FRONT + LENGTH), 0);
            memcpy(bytes, out, LENGTH);
            CHECK(bytes[0] == 0 && bytes[LENGTH - 1] == 0);
            CHECK_RC(tine_channel_release(ends.b), 0);
        }
        close(fd);
    }
    /* No descriptor, two, one of something else. */
    send_raw(socket, header, 16 + TICKET, NULL, 0);
    REFUSED(-EBADMSG);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    send_raw(socket, header, 16 + TICKET, pipes, 2);
    REFUSED(-EBADMSG);
    send_raw(socket, header, 16 + TICKET, pipes, 1);
    REFUSED(-EBADMSG);
    close(pipes[0]);
    close(pipes[1]);
    /* Without its ticket, or with more. */
    fd = sealed_memory(FRONT + LENGTH, 0);
    send_raw(socket, header, 16, &fd, 1);
    REFUSED(-EBADMSG);
    send_raw(socket, header, 16 + TICKET + 1, &fd, 1);
    REFUSED(-EBADMSG);
    close(fd);
    /* Memory that is too short, can become so, is not there, may not be written. */
    fd = sealed_memory(FRONT + LENGTH - 1, 0);
    send_raw(socket, header, 16 + TICKET, &fd, 1);
    REFUSED(-EBADMSG);
    close(fd);
    fd = memory_of(FRONT + LENGTH);
    send_raw(socket, header, 16 + TICKET, &fd, 1);
    REFUSED(-EBADMSG);
    close(fd);
    fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)1 << 40) == 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    send_raw(socket, header, 16 + TICKET, &fd, 1);
    REFUSED(-EBADMSG);
    close(fd);
    fd = sealed_memory(FRONT + LENGTH, F_SEAL_WRITE);
    send_raw(socket, header, 16 + TICKET, &fd, 1);
    REFUSED(-EBADMSG);
    send_raw(socket, header, 16 + TICKET, &fd, 1);
    CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &out, &length), -EBADMSG);
    close(fd);
    /* Longer than the memory of that name, which is known by now; any turn. */
    void *room;
    CHECK_RC(tine_channel_reserve(ends.a, 70000, 0, &room), 0);
    CHECK_RC(tine_channel_commit(ends.a, 70000), 0);
    char packet[64];
    CHECK_EQ(recv(tine_channel_fd(ends.b), packet, sizeof packet, MSG_PEEK), 16 + TICKET);
    CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), 0);
    header.length = sizeof bytes;
    memcpy(packet, &header, sizeof header);
    CHECK_EQ(send(socket, packet, 16 + TICKET, 0), 16 + TICKET);
    REFUSED(-EBADMSG);
    header.length = 70000;
    memcpy(packet, &header, sizeof header);
    memset(packet + 32, 0xff, 8);
    CHECK_EQ(send(socket, packet, 16 + TICKET, 0), 16 + TICKET);
    CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), 0);
    CHECK_EQ(length, 70000);
    close_both(ends);
}

int main(void)
{
    struct belongings before = take_stock();
    test_headers();
    test_memory();
    test_in_place();
    check_stock(before);
    return 0;
}
