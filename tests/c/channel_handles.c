/* Two handles of one end in one process, each with a thread that receives: every message and every descriptor comes once, whole, to one
 * of them. */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MESSAGES = 10000, LONG_EVERY = 97, DESCRIPTOR_EVERY = 50, LONGEST = 70000 };

static int came[MESSAGES];

static size_t length_of(int number)
{
    return number % LONG_EVERY == 0 ? LONGEST - (size_t)number % 1000 : sizeof number + (size_t)number % 60;
}

static unsigned char byte_of(int number, size_t at) { return (unsigned char)(number * 7 + (int)at); }

static void note(int number)
{
    CHECK(number >= 0 && number < MESSAGES);
    CHECK_EQ(__atomic_fetch_add(&came[number], 1, __ATOMIC_SEQ_CST), 0);
}

static void *receive(void *end)
{
    tine_channel *channel = (tine_channel *)end;
    unsigned char *bytes = (unsigned char *)malloc(LONGEST);
    CHECK(bytes);
    for (;;) {
        size_t length;
        int number, fd, rc = tine_channel_receive(channel, TINE_FOREVER, bytes, LONGEST, &length);
        if (rc == -EPIPE)
            break;
        if (rc == -ENOMSG) {
            /* By now the other one may have it. */
            rc = tine_channel_receive_fd(channel, 0, &fd);
            if (rc == -ENOMSG || rc == -EAGAIN || rc == -EPIPE)
                continue;
            CHECK_RC(rc, 0);
            CHECK(pread(fd, &number, sizeof number, 0) == (ssize_t)sizeof number);
            CHECK_EQ(number % DESCRIPTOR_EVERY, 1);
            close(fd);
            note(number);
            continue;
        }
        CHECK_RC(rc, 0);
        CHECK(length >= sizeof number);
        memcpy(&number, bytes, sizeof number);
        CHECK_EQ(length, length_of(number));
        for (size_t at = sizeof number; at < length; at++)
            CHECK(bytes[at] == byte_of(number, at));
        note(number);
    }
    free(bytes);
    return NULL;
}

static void send_all(tine_channel *channel)
{
    unsigned char *bytes = (unsigned char *)malloc(LONGEST);
    CHECK(bytes);
    for (int number = 0; number < MESSAGES; number++) {
        size_t length = length_of(number);
        if (number % DESCRIPTOR_EVERY == 1) {
            int fd = memfd_create("number", MFD_CLOEXEC);
            CHECK(fd >= 0 && write(fd, &number, sizeof number) == (ssize_t)sizeof number);
            CHECK_RC(tine_channel_send_fd(channel, fd, TINE_FOREVER), 0);
            close(fd);
            continue;
        }
        memcpy(bytes, &number, sizeof number);
        for (size_t at = sizeof number; at < length; at++)
            bytes[at] = byte_of(number, at);
        CHECK_RC(tine_channel_send(channel, bytes, length, TINE_FOREVER), 0);
    }
    free(bytes);
}

int main(int argc, char **argv)
{
    tine_channel *host, *ends[2];
    pthread_t threads[2];
    tine_init(argc, argv);
    CHECK_RC(tine_channel_create(NULL, &host, &ends[0]), 0);
    CHECK_RC(tine_channel_attach(tine_channel_fd(ends[0]), NULL, &ends[1]), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, receive, ends[i]), 0);
    send_all(host);
    tine_channel_close(host);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        tine_channel_close(ends[i]);
    }
    for (int number = 0; number < MESSAGES; number++)
        CHECK_EQ(came[number], 1);
    return 0;
}
