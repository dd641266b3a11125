/*
 * Queues next to their peers: `make bench`. One producer, one consumer, each on a processor of its own; a figure is the time of
 * one message. Peers that are programs of their own (Boost, Python, the crates in benches/peers) are called as
 * PROGRAM one-way|round-trip LENGTH COUNT and print nanoseconds per message: one more is one more file, and one line in `transports`.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <linux/futex.h>
#include <mqueue.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { LONGEST = 1 << 20 };

static void check(int ok, const char *what)
{
    if (ok) return;
    perror(what);
    exit(1);
}

static char *bytes, *buffer; /* what is sent from, and received into */

/* ---- One direction of each transport: 0 there, 1 back ---- */

static int pipes[2][2], sockets[2][2];
static mqd_t queues[2];

static void send_pipe(int way, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t part = write(pipes[way][1], bytes + sent, length - sent);
        check(part > 0, "write");
        sent += (size_t)part;
    }
}
static void receive_pipe(int way, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t part = read(pipes[way][0], buffer + got, length - got);
        check(part > 0, "read");
        got += (size_t)part;
    }
}
static void send_socket(int way, size_t length) { check(send(sockets[way][0], bytes, length, 0) >= 0, "send"); }
static void receive_socket(int way, size_t length) { check(recv(sockets[way][1], buffer, length, 0) >= 0, "recv"); }
static void send_mq(int way, size_t length) { check(mq_send(queues[way], bytes, length, 0) == 0, "mq_send"); }
static void receive_mq(int way, size_t length)
{
    (void)length;
    check(mq_receive(queues[way], buffer, 8192, NULL) >= 0, "mq_receive");
}

/* The least that such a thing can be: one producer, one consumer, no death, one length; looks for 2 us, then sleeps. */
struct ring {
    _Alignas(128) atomic_uint tail;
    _Alignas(128) atomic_uint head;
    _Alignas(128) atomic_uint sleeps[2];
    _Alignas(128) char slots[];
};
static struct ring *rings[2];
static size_t ring_length;
static unsigned ring_slots, seen[2][2];

static void ring_wait(struct ring *ring, int side, atomic_uint *word, unsigned value)
{
    double end = now_ns() + 2000;
    for (;;) {
        for (int i = 0; i < 50; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value) return;
            __builtin_ia32_pause();
        }
        if (now_ns() < end) continue;
        atomic_store(&ring->sleeps[side], 1);
        if (atomic_load(word) != value) return;
        syscall(SYS_futex, &ring->sleeps[side], FUTEX_WAIT, 1, NULL, NULL, 0);
    }
}
static void ring_moved(struct ring *ring, int other)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ring->sleeps[other], memory_order_relaxed) && atomic_exchange(&ring->sleeps[other], 0))
        syscall(SYS_futex, &ring->sleeps[other], FUTEX_WAKE, 1, NULL, NULL, 0);
}
static void send_ring(int way, size_t length)
{
    struct ring *ring = rings[way];
    unsigned tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    while (tail - seen[way][0] == ring_slots &&
           tail - (seen[way][0] = atomic_load_explicit(&ring->head, memory_order_acquire)) == ring_slots)
        ring_wait(ring, 0, &ring->head, seen[way][0]);
    memcpy(ring->slots + tail % ring_slots * ring_length, bytes, length);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    ring_moved(ring, 1);
}
static void receive_ring(int way, size_t length)
{
    struct ring *ring = rings[way];
    unsigned head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    while (head == seen[way][1] && head == (seen[way][1] = atomic_load_explicit(&ring->tail, memory_order_acquire)))
        ring_wait(ring, 1, &ring->tail, head);
    memcpy(buffer, ring->slots + head % ring_slots * ring_length, length);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    ring_moved(ring, 0);
}

/* tine: copied, and in place without a look at the bytes */
static tine_segment *segment;
static tine_heap *heap;
static tine_queue *tine[2];

static void send_tine(int way, size_t length) { must(tine_queue_put(tine[way], bytes, length, TINE_FOREVER), "put"); }
static void receive_tine(int way, size_t length)
{
    must(tine_queue_get(tine[way], TINE_FOREVER, buffer, length, NULL), "get");
}
static void send_in_place(int way, size_t length)
{
    void *place;
    must(tine_queue_reserve(tine[way], length, TINE_FOREVER, &place), "reserve");
    must(tine_queue_commit(tine[way], length), "commit");
}
static void receive_in_place(int way, size_t length)
{
    void *place;
    must(tine_queue_peek(tine[way], TINE_FOREVER, &place, &length), "peek");
    must(tine_queue_release(tine[way]), "release");
}

static const struct transport {
    const char *name;
    void (*send)(int way, size_t length), (*receive)(int way, size_t length);
    const char *program; /* or one that is a program */
    int share;           /* of the number of messages, for the slow */
    double aims[2];      /* tine's time to it, one way and there and back */
} transports[] = {
    {"tine", send_tine, receive_tine, NULL, 1, {0, 0}},
    {"bare ring", send_ring, receive_ring, NULL, 1, {1.5, 1.5}},
    {"pipe", send_pipe, receive_pipe, NULL, 10, {0, 0}},
    {"SEQPACKET", send_socket, receive_socket, NULL, 10, {0, 0}},
    {"POSIX mq", send_mq, receive_mq, NULL, 10, {0, 0}},
    {"Boost message_queue", NULL, NULL, "build/benches/queue-boost", 10, {0, 0}},
    {"multiprocessing.Queue", NULL, NULL, "python3 benches/queue-python.py", 100, {0, 0}},
    {"iceoryx2, polled", NULL, NULL, "build/benches/peers/release/queue-peers iceoryx2", 10, {0, 0}},
    {"ipc-channel, bytes", NULL, NULL, "build/benches/peers/release/queue-peers ipc-channel", 20, {0, 0}},
}, on_one[] = {
    {"tine", send_tine, receive_tine, NULL, 1, {0, 0}},
    {"pipe", send_pipe, receive_pipe, NULL, 1, {0, 1.2}},
}, in_place[] = {
    {"tine", send_in_place, receive_in_place, NULL, 1, {0, 0}},
    {"iceoryx2, polled, loan", NULL, NULL, "build/benches/peers/release/queue-peers iceoryx2-in-place", 10, {1, 1}},
};

/* ---- A measurement ---- */

struct job {
    const struct transport *transport;
    size_t length;
    long count;
    int echo, on_one; /* both sides on one processor */
};

static void consume(const struct job *job)
{
    for (long i = 0; i < job->count; i++) {
        job->transport->receive(0, job->length);
        if (job->echo) job->transport->send(1, job->length);
    }
}

static void set_up(const struct job *job)
{
    struct mq_attr attributes = {0, 10, 8192, 0, {0}};
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    options.heap = heap;
    options.capacity_messages = job->length > 65536 ? 4 : 1024;
    options.capacity_bytes = job->length > 65536 ? 4 * job->length : 1 << 20;
    ring_slots = job->length > 65536 ? 4 : job->length > 1024 ? 32 : 1024;
    ring_length = job->length;
    memset(seen, 0, sizeof seen);
    for (int way = 0; way < 2; way++) {
        char name[64];
        int large = 4 * LONGEST;
        snprintf(name, sizeof name, "/tine-bench-%d-%d", (int)getpid(), way);
        check(pipe(pipes[way]) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets[way]) == 0, "pipe");
        if (setsockopt(sockets[way][0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large))
            setsockopt(sockets[way][0], SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
        queues[way] = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
        mq_unlink(name);
        rings[way] = mmap(NULL, sizeof **rings + ring_slots * ring_length, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        check(rings[way] != MAP_FAILED, "mmap");
        must(tine_queue_create(NULL, &options, &tine[way]), "queue");
    }
}

static void tear_down(void)
{
    for (int way = 0; way < 2; way++) {
        for (int end = 0; end < 2; end++) close(pipes[way][end]), close(sockets[way][end]);
        if (queues[way] >= 0) mq_close(queues[way]);
        munmap(rings[way], sizeof **rings + ring_slots * ring_length);
        tine_queue_destroy(tine[way]);
    }
}

/* Nanoseconds of one message of the current row; 0 where the transport can't. */
static double measure(void)
{
    const struct job *asked = current_row->argument;
    const struct transport *transport = asked->transport;
    struct job job = *asked;
    double began, took;
    pid_t pid;
    int status, line[2];
    char byte = 0;
    job.count = job.count / transport->share > 20 ? job.count / transport->share : 20;
    if (transport->program) {
        char command[600];
        snprintf(command, sizeof command, "%s %s %zu %ld", transport->program, job.echo ? "round-trip" : "one-way", job.length,
            job.count);
        return of_program(command);
    }
    set_up(&job);
    if (transport->send == send_mq && (queues[0] < 0 || queues[1] < 0 || job.length > 8192)) {
        tear_down();
        return 0;
    }
    check(pipe(line) == 0, "pipe");
    if ((pid = fork()) == 0) {
        pin(job.on_one ? 1 : 0);
        /* tine's memory is the parent's until the child opens it for itself. */
        must(tine_heap_attach(segment, NULL, &heap), "attach");
        check(write(line[1], &byte, 1) == 1, "write");
        consume(&job);
        _exit(0);
    }
    check(read(line[0], &byte, 1) == 1, "the consumer's start");
    close(line[0]), close(line[1]);
    began = now_ns();
    for (long i = 0; i < job.count; i++) {
        transport->send(0, job.length);
        if (job.echo) transport->receive(1, job.length);
    }
    check(waitpid(pid, &status, 0) == pid && status == 0, "consumer");
    took = now_ns() - began;
    tear_down();
    return took / (double)job.count;
}

static struct row rows[128];
static struct job jobs[128];
static int row_count;

/* A row for each of the transports, of messages of one length. */
static void add(const char *name, const struct transport *peers, size_t count, struct job job)
{
    for (size_t i = 0; i < count; i++) {
        int large = job.length > 65536;
        const char *axis = peers != transports ? NULL : job.echo ? "message, there and back (bytes)" : "message, one way (bytes)";
        struct row row = ROW(i > 0, axis, (double)job.length, 0, i ? peers[i].name : name, large ? "us" : "ns", large ? 1e3 : 1, measure,
            job.length == 8 || peers != transports ? peers[i].aims[job.echo] : 0);
        job.transport = &peers[i];
        jobs[row_count] = job;
        row.argument = &jobs[row_count];
        rows[row_count++] = row;
    }
}
#define ADD(name, peers, ...) add(name, peers, sizeof peers / sizeof *peers, (struct job){ NULL, __VA_ARGS__ })

int main(int argc, char **argv)
{
    must(tine_segment_create(32 << 20, NULL, &segment), "segment");
    must(tine_heap_create(segment, NULL, &heap), "heap");
    pin(1);
    bytes = calloc(1, LONGEST), buffer = calloc(1, LONGEST);
    ADD("queue, 8 B, one way", transports, 8, 400000, 0, 0);
    ADD("queue, 256 B, one way", transports, 256, 200000, 0, 0);
    ADD("queue, 4 KiB, one way", transports, 4096, 20000, 0, 0);
    ADD("queue, 1 MiB, one way", transports, LONGEST, 200, 0, 0);
    ADD("queue, 8 B, there and back", transports, 8, 40000, 1, 0);
    ADD("queue, 1 MiB, there and back", transports, LONGEST, 100, 1, 0);
    ADD("queue, 8 B, there and back, on one processor", on_one, 8, 20000, 1, 1);
    ADD("queue, 1 MiB in place, one way", in_place, LONGEST, 2000, 0, 0);
    ADD("queue, 1 MiB in place, there and back", in_place, LONGEST, 1000, 1, 0);
    run_table(rows, row_count, argc, argv);
    tine_heap_close(heap);
    tine_segment_close(segment);
    return 0;
}
