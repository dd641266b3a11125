/*
 * Channels next to what they are made of, and to a pipe: `make bench`. One end in the host, the other in a child, each on a
 * processor of its own. Every round measures each transport once, one after the other; the table gives medians. The peers do
 * what a program has to do with them: a pipe reads until it has all, the bare socket of 1 MiB is cut into pieces of 64 KiB.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

enum { ROUNDS = 7, TRANSPORTS = 3, LONGEST = 1 << 20, PIECE = 64 << 10 };

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void stay_on(int processor)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void must(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static char *bytes, *buffer; /* what is sent from, and received into */

/* ---- Each transport as one side has it ---- */

static tine_channel *channel;
static int sockets[2], pipes[2][2], side;

static void send_channel(size_t length)
{
    must(tine_channel_send(channel, bytes, length, TINE_FOREVER) == 0, "tine_channel_send");
}

static void receive_channel(size_t length)
{
    size_t got;
    must(tine_channel_receive(channel, TINE_FOREVER, buffer, LONGEST, &got) == 0 && got == length, "tine_channel_receive");
}

static void send_socket(size_t length)
{
    for (size_t sent = 0; sent < length; sent += PIECE) {
        size_t part = length - sent < PIECE ? length - sent : PIECE;
        must(send(sockets[side], bytes + sent, part, 0) == (ssize_t)part, "send");
    }
}

static void receive_socket(size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t part = recv(sockets[side], buffer + got, length - got, 0);
        must(part > 0, "recv");
        got += (size_t)part;
    }
}

static void send_pipe(size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t part = write(pipes[side][1], bytes + sent, length - sent);
        must(part > 0, "write");
        sent += (size_t)part;
    }
}

static void receive_pipe(size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t part = read(pipes[!side][0], buffer + got, length - got);
        must(part > 0, "read");
        got += (size_t)part;
    }
}

static const struct transport {
    const char *name;
    void (*send)(size_t length), (*receive)(size_t length);
} transports[TRANSPORTS] = {
    {"tine", send_channel, receive_channel},
    {"bare SEQPACKET socket", send_socket, receive_socket},
    {"pipe", send_pipe, receive_pipe},
};

/* ns per message. */
static double measure(const struct transport *transport, size_t length, long count, int echo)
{
    tine_channel *theirs;
    int status;
    must(tine_channel_create(NULL, &channel, &theirs) == 0, "tine_channel_create");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) == 0 && pipe(pipes[0]) == 0 && pipe(pipes[1]) == 0, "socketpair");
    int fd = tine_channel_fd(theirs);
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        stay_on(0);
        side = 1;
        must(tine_channel_attach(fd, NULL, &channel) == 0, "tine_channel_attach");
        for (long i = 0; i < count; i++) {
            transport->receive(length);
            if (echo) transport->send(length);
        }
        _exit(0);
    }
    tine_channel_close(theirs);
    double began = now_ns();
    for (long i = 0; i < count; i++) {
        transport->send(length);
        if (echo) transport->receive(length);
    }
    must(waitpid(child, &status, 0) == child && status == 0, "child");
    double took = now_ns() - began;
    tine_channel_close(channel);
    for (int i = 0; i < 2; i++) close(sockets[i]), close(pipes[i][0]), close(pipes[i][1]);
    return took / (double)count;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

int main(void)
{
    static const struct { const char *name; size_t length; long count; int echo; } rows[] = {
        {"8 B, one way", 8, 100000, 0},
        {"8 B, there and back", 8, 30000, 1},
        {"4 KiB, one way", 4096, 50000, 0},
        {"1 MiB, one way", LONGEST, 500, 0},
        {"1 MiB, there and back", LONGEST, 200, 1},
    };
    stay_on(1);
    bytes = calloc(1, LONGEST), buffer = calloc(1, LONGEST);
    must(bytes && buffer, "calloc");
    memset(bytes, 1, LONGEST), memset(buffer, 1, LONGEST);
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        double values[TRANSPORTS][ROUNDS], ratios[TRANSPORTS][ROUNDS];
        for (int round = 0; round < ROUNDS; round++)
            for (int i = 0; i < TRANSPORTS; i++) {
                values[i][round] = measure(&transports[i], rows[row].length, rows[row].count, rows[row].echo);
                ratios[i][round] = values[0][round] / values[i][round];
            }
        printf("\n| %s | us per message | GB/s | tine takes |\n|---|---|---|---|\n", rows[row].name);
        for (int i = 0; i < TRANSPORTS; i++) {
            double ns = median(values[i]);
            printf("| %s | %.2f | %.2f | %.2f times as long |\n", transports[i].name, ns / 1e3,
                   (double)rows[row].length / ns, median(ratios[i]));
        }
        fflush(stdout);
    }
    return 0;
}
