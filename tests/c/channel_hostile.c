/* What a hostile other end of a channel can send, by its descriptor: it is refused, and costs that channel at the most. */
#include "channels.h"
#include <stdint.h>
#include <sys/socket.h>

struct header {
    char magic[4];
    uint16_t version, kind;
    uint64_t length;
};

static char body[512];

static void send_raw(int socket, struct header header, size_t bytes, const int *fds, size_t count)
{
    union { char bytes[256]; struct cmsghdr align; } control;
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

/* The same for a call that looks at the message in place. */
#define REFUSED_IN_PLACE(expected)                                                    \
    do {                                                                              \
        CHECK_RC(tine_channel_peek(ends.b, TINE_FOREVER, &place, &length), expected); \
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), -EAGAIN);             \
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
    header = sound, header.version = 1;
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

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

/* The program has asked for more than descriptors on its socket: tine's messages arrive as they are, and nothing is left open. */
static void test_who_sent_it(void)
{
    struct belongings before = take_stock();
    struct ends ends = make(0, 0);
    unsigned char *sent = filled(100000, 3), *received = (unsigned char *)malloc(100000);
    void *place;
    size_t length;
    int yes = 1, fd, pipes[2];
    CHECK_EQ(setsockopt(tine_channel_fd(ends.b), SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes), 0);
    /* Before Linux 6.5 there is none. */
    if (setsockopt(tine_channel_fd(ends.b), SOL_SOCKET, SO_PASSPIDFD, &yes, sizeof yes))
        CHECK_EQ(errno, ENOPROTOOPT);
    CHECK_EQ(pipe(pipes), 0);
    for (int i = 0; i < 20; i++) {
        size_t bytes = i % 2 ? 100000 : 100;
        CHECK_RC(tine_channel_send(ends.a, sent, bytes, 0), 0);
        CHECK_RC(tine_channel_receive(ends.b, 0, received, 100000, &length), 0);
        CHECK(length == bytes && memcmp(sent, received, bytes) == 0);
        CHECK_RC(tine_channel_send(ends.a, sent, bytes, 0), 0);
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
        CHECK(length == bytes && memcmp(sent, place, bytes) == 0);
        CHECK_RC(tine_channel_release(ends.b), 0);
        CHECK_RC(tine_channel_send_fd(ends.a, pipes[1], 0), 0);
        CHECK_RC(tine_channel_receive_fd(ends.b, 0, &fd), 0);
        CHECK_EQ(write(fd, "x", 1), 1);
        close(fd);
    }
    close(pipes[0]);
    close(pipes[1]);
    close_both(ends);
    free(sent);
    free(received);
    check_stock(before);
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
    char path[64]; /* a descriptor that cannot be read */
    fd = memory_of(4096);
    CHECK_EQ(fallocate(fd, 0, 0, 4096), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int for_writing = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(for_writing >= 0);
    void *place;
    send_raw(socket, header, 16, &for_writing, 1);
    REFUSED(-EBADMSG);
    send_raw(socket, header, 16, &for_writing, 1);
    REFUSED_IN_PLACE(-EBADMSG);
    close(for_writing);
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

static void send_placed(int socket, uint64_t message, uint64_t offset, uint64_t slot, size_t bytes, int fd)
{
    struct header header = sound;
    header.kind = 4, header.length = message;
    memcpy(body, &offset, 8);
    memcpy(body + 8, &slot, 8);
    send_raw(socket, header, bytes, &fd, fd >= 0);
    memset(body, 0, sizeof body);
}

static int sealed(size_t length, int seals)
{
    int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)length) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

/* Messages in pages of the sender's: places that lie elsewhere, pages that can be made shorter, words that say anything. */
static void test_places(void)
{
    enum { PAGE = 4096, LENGTH = 4 * PAGE };
    static const uint64_t places[][3] = { /* message, offset, slot */
        {8, 0, 0}, {8, 8, 0}, {8, PAGE + 8, 0}, {8, PAGE, 4}, {8, PAGE, 1 << 20}, {8, PAGE, UINT64_MAX},
        {3 * PAGE + 1, PAGE, 0}, {8, LENGTH, 0}, {8, UINT64_MAX - PAGE + 1, 0}, {INT64_MAX, PAGE, 0}, {8, (uint64_t)1 << 63, 0},
        {8, UINT64_MAX, 0}, {0, LENGTH, 0},
    };
    struct ends ends = make(0, 0);
    int socket = tine_channel_fd(ends.a), pipes[2];
    static char bytes[LENGTH];
    void *place = NULL;
    size_t length = 77;
    int good = sealed(LENGTH, F_SEAL_SHRINK), open_ended = sealed(LENGTH, 0), tiny = sealed(PAGE, F_SEAL_SHRINK);
    int read_only = sealed(LENGTH, F_SEAL_SHRINK | F_SEAL_WRITE), for_reading;
    char path[64];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        send_placed(socket, places[i][0], places[i][1], places[i][2], 32, good);
        REFUSED_IN_PLACE(-EBADMSG);
        if (places[i][0] <= sizeof bytes) {
            send_placed(socket, places[i][0], places[i][1], places[i][2], 32, good);
            REFUSED(-EBADMSG);
            send_placed(socket, 8, PAGE, (uint64_t)1 << 32, 32, good); /* "they are kept": they are mapped as a whole */
            CHECK_RC(tine_channel_receive(ends.b, 0, bytes, sizeof bytes, &length), 0);
            send_placed(socket, places[i][0], places[i][1], places[i][2], 32, good);
            REFUSED(-EBADMSG);
        }
    }
    for (size_t cut = 16; cut < 40; cut++) {
        if (cut != 32) {
            send_placed(socket, 8, PAGE, 0, cut, good);
            REFUSED_IN_PLACE(-EBADMSG);
        }
    }
    send_placed(socket, 8, PAGE, 0, 32, -1);
    REFUSED_IN_PLACE(-EBADMSG);
    send_placed(socket, 8, PAGE, 0, 32, open_ended);
    REFUSED_IN_PLACE(-EBADMSG);
    send_placed(socket, 8, PAGE, 0, 32, open_ended);
    REFUSED(-EBADMSG);
    send_placed(socket, 8, PAGE, 0, 32, tiny);
    REFUSED_IN_PLACE(-EBADMSG);
    send_placed(socket, 8, PAGE, 0, 32, read_only);
    REFUSED_IN_PLACE(-EBADMSG);
    int unknown = sealed(LENGTH, F_SEAL_SHRINK); /* which are not mapped yet */
    snprintf(path, sizeof path, "/proc/self/fd/%d", unknown);
    CHECK((for_reading = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
    send_placed(socket, 8, PAGE, 0, 32, for_reading);
    REFUSED_IN_PLACE(-EBADMSG);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    send_placed(socket, 8, PAGE, 0, 32, pipes[0]);
    REFUSED_IN_PLACE(-EBADMSG);
    /* Huge pages, of which the system need not have any: what cannot be mapped must not stay. */
    struct header header = sound;
    int huge = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    CHECK(huge >= 0 || errno == ENOSYS || errno == EINVAL); /* or the kernel has none to attack with */
    if (huge >= 0) {
        CHECK(ftruncate(huge, 64 << 20) == 0 && fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
        for (int i = 0; i < 2; i++) {
            send_placed(socket, 8, PAGE, 0, 32, huge);
            REFUSED_IN_PLACE(-EBADMSG);
            send_placed(socket, 8, PAGE, 0, 32, huge);
            REFUSED(-EBADMSG);
        }
        header.kind = 2, header.length = 8;
        send_raw(socket, header, 16, &huge, 1);
        REFUSED_IN_PLACE(-EBADMSG);
        send_raw(socket, header, 16, &huge, 1);
        REFUSED(-EBADMSG);
        close(huge);
    }
    /* A long one that says that it is longer than its memory. */
    header.kind = 2, header.length = INT64_MAX;
    send_raw(socket, header, 16, &good, 1);
    REFUSED_IN_PLACE(-EBADMSG);
    header.length = LENGTH + 1;
    send_raw(socket, header, 16, &pipes[1], 1);
    REFUSED_IN_PLACE(-EBADMSG);
    /* One that is as long as it says, and of holes: reading it would take more memory than its sender has paid for. */
    int holes = memory_of(64 << 20);
    header.length = 64 << 20;
    send_raw(socket, header, 16, &holes, 1);
    REFUSED_IN_PLACE(-EBADMSG);
    CHECK_EQ(fallocate(holes, 0, 0, (64 << 20) - PAGE), 0);
    send_raw(socket, header, 16, &holes, 1);
    REFUSED_IN_PLACE(-EBADMSG);
    close(holes);
    /* What is well is received, whatever stands in the words; holes too. */
    char *there = (char *)mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, good, 0);
    CHECK(there != MAP_FAILED);
    memset(there, 0xFF, PAGE);
    strcpy(there + PAGE, "hostile");
    for (uint64_t slot = 0; slot < 4; slot++) {
        send_placed(socket, 8, PAGE, slot | (slot & 1) << 32, 32, good); /* "they are kept" */
        CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
        CHECK(length == 8 && strcmp((char *)place, "hostile") == 0);
        CHECK_EQ(fallocate(good, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LENGTH), 0);
        CHECK_STR((char *)place, "");
        CHECK_RC(tine_channel_release(ends.b), 0);
        memset(there, 0xFF, PAGE);
        strcpy(there + PAGE, "hostile");
    }
    munmap(there, LENGTH);
    close(good), close(open_ended), close(tiny), close(read_only), close(for_reading), close(unknown), close(pipes[0]), close(pipes[1]);
    close_both(ends);
}

/* A receiver that writes over the words of its sender's pages: the sender neither hangs nor believes it. */
static void test_words(void)
{
    enum { LONG = 1 << 20 };
    static char bytes[LONG];
    struct ends ends = make(0, 0);
    void *place;
    size_t length;
    CHECK_RC(tine_channel_reserve(ends.a, LONG, 0, &place), 0);
    CHECK_RC(tine_channel_commit(ends.a, LONG, 0), 0);
    CHECK_RC(tine_channel_peek(ends.b, 0, &place, &length), 0);
    uint32_t *words = (uint32_t *)(void *)((char *)place - 4096); /* of slot 0 */
    for (unsigned round = 0; round < 200; round++) {
        for (int i = 0; i < 6; i++)
            words[i] = round % 3 == 0 ? 0 : round % 3 == 1 ? UINT32_MAX : round * 2654435761u + (unsigned)i;
        int rc = tine_channel_reserve(ends.a, LONG, round % 5 ? 0 : 1000000, &place);
        CHECK(rc == 0 || rc == -EAGAIN || rc == -ETIMEDOUT);
        if (rc == 0) {
            memset(place, 1, LONG);
            for (int i = 0; i < 4; i++)
                words[i] = 0; /* "it is free" */
            CHECK_RC(tine_channel_send(ends.a, body, 1, 0), 0);
            rc = round % 2 ? tine_channel_commit(ends.a, LONG, 0) : tine_channel_abandon(ends.a);
            CHECK(rc == 0);
        }
        while (is_readable(ends.b))
            CHECK_RC(tine_channel_receive(ends.b, 0, bytes, LONG, NULL), 0);
    }
    CHECK_RC(tine_channel_release(ends.b), 0);
    close_both(ends);
}

int main(void)
{
    struct belongings before = take_stock();
    test_places();
    test_words();
    test_headers();
    test_who_sent_it();
    test_memory();
    check_stock(before);
    return 0;
}
