/*
 * Queues next to their peers: `make bench`. Every round measures each transport once, one after the other, so that whatever
 * else the machine does hits all alike; the table gives medians of the rounds. One producer, one consumer, each on a
 * processor of its own. Peers that are programs of their own (Boost, Python, the crates in benches/peers) are called as
 * PROGRAM one-way|round-trip LENGTH COUNT and print nanoseconds per message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

enum { ROUNDS = 9, MOST = 12, LONGEST = 1 << 20 };

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

/* ---- One direction of each transport: 0 there, 1 back ---- */

static int pipes[2][2], sockets[2][2];
static mqd_t queues[2];

static void send_pipe(int way, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t part = write(pipes[way][1], bytes + sent, length - sent);
        must(part > 0, "write");
        sent += (size_t)part;
    }
}
static void receive_pipe(int way, size_t length)
{
    for (size_t got = 0; got < length;) {
        ssize_t part = read(pipes[way][0], buffer + got, length - got);
        must(part > 0, "read");
        got += (size_t)part;
    }
}
static void send_socket(int way, size_t length) { must(send(sockets[way][0], bytes, length, 0) >= 0, "send"); }
static void receive_socket(int way, size_t length) { must(recv(sockets[way][1], buffer, length, 0) >= 0, "recv"); }
static void send_mq(int way, size_t length) { must(mq_send(queues[way], bytes, length, 0) == 0, "mq_send"); }
static void receive_mq(int way, size_t length)
{
    (void)length;
    must(mq_receive(queues[way], buffer, 8192, NULL) >= 0, "mq_receive");
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

static void send_tine(int way, size_t length) { must(tine_queue_put(tine[way], bytes, length, TINE_FOREVER) == 0, "put"); }
static void receive_tine(int way, size_t length)
{
    must(tine_queue_get(tine[way], TINE_FOREVER, buffer, length, NULL) == 0, "get");
}
static void send_in_place(int way, size_t length)
{
    void *place;
    must(tine_queue_reserve(tine[way], length, TINE_FOREVER, &place) == 0, "reserve");
    must(tine_queue_commit(tine[way], length) == 0, "commit");
}
static void receive_in_place(int way, size_t length)
{
    void *place;
    must(tine_queue_peek(tine[way], TINE_FOREVER, &place, &length) == 0, "peek");
    must(tine_queue_release(tine[way]) == 0, "release");
}

struct transport {
    const char *name;
    void (*send)(int way, size_t length), (*receive)(int way, size_t length);
    const char *program;
    int share; /* of the number of messages, for the slow */
} transports[MOST] = {
    {"tine", send_tine, receive_tine, NULL, 1},
    {"tine, in place, untouched", send_in_place, receive_in_place, NULL, 1},
    {"bare ring", send_ring, receive_ring, NULL, 1},
    {"pipe", send_pipe, receive_pipe, NULL, 10},
    {"SEQPACKET", send_socket, receive_socket, NULL, 10},
    {"POSIX mq", send_mq, receive_mq, NULL, 10},
};
static int transport_count = 6;

/* ---- A measurement ---- */

struct job {
    int transport, echo;
    size_t length;
    long count;
};

static void consume(const struct job *job)
{
    const struct transport *transport = &transports[job->transport];
    for (long i = 0; i < job->count; i++) {
        transport->receive(0, job->length);
        if (job->echo) transport->send(1, job->length);
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
        must(pipe(pipes[way]) == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets[way]) == 0, "pipe");
        if (setsockopt(sockets[way][0], SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large))
            setsockopt(sockets[way][0], SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
        queues[way] = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
        mq_unlink(name);
        rings[way] = mmap(NULL, sizeof **rings + ring_slots * ring_length, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        must(rings[way] != MAP_FAILED, "mmap");
        must(tine_queue_create(NULL, &options, &tine[way]) == 0, "queue");
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

/* ns per message, or -1 where the transport can't. */
static double measure(struct job *job)
{
    const struct transport *transport = &transports[job->transport];
    double began, took;
    pid_t pid;
    int status, line[2];
    char byte = 0;
    job->count = job->count / transport->share > 20 ? job->count / transport->share : 20;
    if (transport->program) {
        char command[600];
        snprintf(command, sizeof command, "%s %s %zu %ld", transport->program, job->echo ? "round-trip" : "one-way",
                 job->length, job->count);
        strcat(command, " 2>/dev/null");
        FILE *program = popen(command, "r");
        if (!program || fscanf(program, "%lf", &took) != 1) took = -1;
        if (program) pclose(program);
        return took;
    }
    set_up(job);
    if (transport->send == send_mq && (queues[0] < 0 || queues[1] < 0 || job->length > 8192)) {
        tear_down();
        return -1;
    }
    must(pipe(line) == 0, "pipe");
    if ((pid = fork()) == 0) {
        stay_on(0);
        /* tine's memory is the parent's until the child opens it for itself. */
        must(tine_heap_attach(segment, NULL, &heap) == 0 && write(line[1], &byte, 1) == 1, "attach");
        consume(job);
        _exit(0);
    }
    must(read(line[0], &byte, 1) == 1, "the consumer's start");
    close(line[0]), close(line[1]);
    began = now_ns();
    for (long i = 0; i < job->count; i++) {
        transport->send(0, job->length);
        if (job->echo) transport->receive(1, job->length);
    }
    must(waitpid(pid, &status, 0) == pid && status == 0, "consumer");
    took = now_ns() - began;
    tear_down();
    return took / (double)job->count;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(const double *values)
{
    double sorted[ROUNDS];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof *sorted, compare);
    return sorted[ROUNDS / 2];
}

static void peer(const char *name, const char *program, int share)
{
    if (transport_count < MOST) transports[transport_count++] = (struct transport){name, NULL, NULL, program, share};
}

int main(void)
{
    static struct { const char *name; size_t length; long count; int echo; } rows[] = {
        {"8 B, one way", 8, 400000, 0},      {"256 B, one way", 256, 200000, 0},    {"4 KiB, one way", 4096, 20000, 0},
        {"1 MiB, one way", LONGEST, 200, 0}, {"8 B, there and back", 8, 40000, 1},  {"1 MiB, there and back", LONGEST, 100, 1},
    };
    static double values[MOST][ROUNDS];
    must(tine_segment_create(32 << 20, NULL, &segment) == 0 && tine_heap_create(segment, NULL, &heap) == 0, "segment");
    stay_on(1);
    bytes = calloc(1, LONGEST), buffer = calloc(1, LONGEST);
    if (access("build/benches/queue-boost", X_OK) == 0) peer("Boost message_queue", "build/benches/queue-boost", 10);
    if (system("python3 -c '' 2>/dev/null") == 0) peer("multiprocessing.Queue", "python3 benches/queue-python.py", 100);
    if (access("build/benches/queue-peers", X_OK) == 0) {
        peer("iceoryx2, polled", "build/benches/queue-peers iceoryx2", 10);
        peer("iceoryx2, polled, loan, untouched", "build/benches/queue-peers iceoryx2-in-place", 10);
        peer("ipc-channel, bytes", "build/benches/queue-peers ipc-channel", 20);
    }
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        for (int round = 0; round < ROUNDS; round++)
            for (int i = 0; i < transport_count; i++) {
                struct job job = {i, rows[row].echo, rows[row].length, rows[row].count};
                values[i][round] = measure(&job);
            }
        printf("\n| %s | ns per message | million a second | GB/s | times tine |\n|---|---|---|---|---|\n", rows[row].name);
        for (int i = 0; i < transport_count; i++) {
            double ratios[ROUNDS], ns = median(values[i]);
            for (int round = 0; round < ROUNDS; round++) ratios[round] = values[i][round] / values[0][round];
            if (ns < 0)
                printf("| %s | - | - | - | - |\n", transports[i].name);
            else
                printf("| %s | %.0f | %.3f | %.2f | %.2f |\n", transports[i].name, ns, 1e3 / ns,
                       (double)rows[row].length / ns, median(ratios));
        }
        fflush(stdout);
    }
    tine_heap_close(heap);
    tine_segment_close(segment);
    return 0;
}
