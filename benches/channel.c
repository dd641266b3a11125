/*
 * Channels next to what they are made of, and to a pipe: `make bench`. One end in the host, the other in a child, each on a
 * processor of its own; a figure is the time of one message. The peers do what a program has to do with them: a pipe reads until
 * it has all, the bare socket of 1 MiB is cut into pieces of 64 KiB. In place the bytes are not looked at.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <sys/socket.h>
#include <sys/wait.h>

enum { LONGEST = 1 << 20, PIECE = 64 << 10 };

static void check(int ok, const char *what)
{
    if (ok) return;
    perror(what);
    exit(1);
}

static char *bytes, *buffer; /* what is sent from, and received into */

/* ---- Each transport as one side has it ---- */

static tine_channel *channel;
static int sockets[2], pipes[2][2], side;

static void send_channel(size_t length)
{
    must(tine_channel_send(channel, bytes, length, TINE_FOREVER), "send");
}

static void receive_channel(size_t length)
{
    size_t got;
    must(tine_channel_receive(channel, TINE_FOREVER, buffer, LONGEST, &got), "receive");
    check(got == length, "a message's length");
}

static void send_in_place(size_t length)
{
    void *place;
    must(tine_channel_reserve(channel, length, TINE_FOREVER, &place), "reserve");
    must(tine_channel_commit(channel, length, TINE_FOREVER), "commit");
}

static void receive_in_place(size_t length)
{
    void *place;
    size_t got;
    must(tine_channel_peek(channel, TINE_FOREVER, &place, &got), "peek");
    check(got == length, "a message's length");
    must(tine_channel_release(channel), "release");
}

static void send_socket(size_t length)
{
    for (size_t sent = 0; sent < length; sent += PIECE) {
        size_t part = length - sent < PIECE ? length - sent : PIECE;
        check(send(sockets[side], bytes + sent, part, 0) == (ssize_t)part, "send");
    }
}

static void receive_socket(size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t part = recv(sockets[side], buffer + got, length - got, 0);
        check(part > 0, "recv");
        got += (size_t)part;
    }
}

static void send_pipe(size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t part = write(pipes[side][1], bytes + sent, length - sent);
        check(part > 0, "write");
        sent += (size_t)part;
    }
}

static void receive_pipe(size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t part = read(pipes[!side][0], buffer + got, length - got);
        check(part > 0, "read");
        got += (size_t)part;
    }
}

static const struct transport {
    const char *name;
    void (*send)(size_t length), (*receive)(size_t length);
} transports[] = {
    {"tine", send_channel, receive_channel},
    {"tine, in place", send_in_place, receive_in_place},
    {"bare SEQPACKET socket", send_socket, receive_socket},
    {"pipe", send_pipe, receive_pipe},
};

struct job {
    const struct transport *transport;
    size_t length;
    long count;
    int echo;
};

/* Nanoseconds of one message of the current row. */
static double measure(void)
{
    const struct job *job = current_row->argument;
    tine_channel *theirs;
    int status;
    must(tine_channel_create(NULL, &channel, &theirs), "channel");
    check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) == 0 && pipe(pipes[0]) == 0 && pipe(pipes[1]) == 0, "socketpair");
    int fd = tine_channel_fd(theirs);
    pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        pin(0);
        side = 1;
        must(tine_channel_attach(fd, NULL, &channel), "attach");
        for (long i = 0; i < job->count; i++) {
            job->transport->receive(job->length);
            if (job->echo) job->transport->send(job->length);
        }
        _exit(0);
    }
    tine_channel_close(theirs);
    double began = now_ns();
    for (long i = 0; i < job->count; i++) {
        job->transport->send(job->length);
        if (job->echo) job->transport->receive(job->length);
    }
    check(waitpid(child, &status, 0) == child && status == 0, "child");
    double took = now_ns() - began;
    tine_channel_close(channel);
    for (int i = 0; i < 2; i++) close(sockets[i]), close(pipes[i][0]), close(pipes[i][1]);
    return took / (double)job->count;
}

int main(int argc, char **argv)
{
    enum { SHAPES = 7, TRANSPORTS = 3 };
    static const struct { const char *name; size_t length; long count; int echo, in_place; double aim; } shapes[SHAPES] = {
        {"channel, 8 B, one way", 8, 100000, 0, 0, 1.1},
        {"channel, 8 B, there and back", 8, 30000, 1, 0, 1.1},
        {"channel, 4 KiB, one way", 4096, 50000, 0, 0, 0},
        {"channel, 1 MiB, one way", LONGEST, 500, 0, 0, 1},
        {"channel, 1 MiB, there and back", LONGEST, 200, 1, 0, 1},
        {"channel, 1 MiB in place, one way", LONGEST, 500, 0, 1, 0.3},
        {"channel, 1 MiB in place, there and back", LONGEST, 200, 1, 1, 0.3},
    };
    static struct job jobs[SHAPES * TRANSPORTS];
    static struct row rows[SHAPES * TRANSPORTS];
    pin(1);
    bytes = calloc(1, LONGEST), buffer = calloc(1, LONGEST);
    check(bytes && buffer, "calloc");
    memset(bytes, 1, LONGEST), memset(buffer, 1, LONGEST);
    for (int i = 0; i < SHAPES * TRANSPORTS; i++) {
        int shape = i / TRANSPORTS, peer = i % TRANSPORTS;
        const struct transport *transport = &transports[peer ? peer + 1 : shapes[shape].in_place];
        struct row row = ROW(peer > 0, NULL, 0, 0, peer ? transport->name : shapes[shape].name, "us", 1e3, measure,
            peer == 1 ? shapes[shape].aim : 0);
        jobs[i] = (struct job){ transport, shapes[shape].length, shapes[shape].count, shapes[shape].echo };
        row.argument = &jobs[i];
        rows[i] = row;
    }
    run_table(rows, SHAPES * TRANSPORTS, argc, argv);
    return 0;
}
