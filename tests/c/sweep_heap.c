/* limit: 300
 *
 * Every system call of processes that share a heap in a segment fails once, or for good, each way that it can, in one of the processes
 * only: in the one that makes both, in the one that gets the segment by a socket and frees what the first has allocated. Nothing
 * is lost but what a killed one had, no living block is given out twice, what comes out is documented, and no descriptor or mapping is left. */
#include "sweep.h"
#include <sys/socket.h>

#define NAP_NS 1000000
#define SEGMENT_SIZE ((size_t)4 << 20)
#define LARGE_SIZE ((size_t)300000)
#define BLOCKS 24

static struct shared {
    void *blocks[BLOCKS]; /* from the host to its child; taken by an exchange */
} *s;

/* What may pass, or is for good in a sandbox; -EPIPE: who should have sent could not. */
static int is_want(int rc)
{
    static const int known[] = {-ENOMEM, -EMFILE, -ENFILE, -EAGAIN, -EPERM, -ENOSYS, -EXDEV, -EINTR, -EACCES, -EPIPE, -EPROTO};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (rc == known[i]) {
            return 1;
        }
    }
    return 0;
}

/* A shortage is over when it has been met a few times. */
#define PATIENTLY(rc, call)                                                                \
    for (int tries = 0; ((rc) = (call)) != 0 && is_want(rc) && sweep_struck() && tries < 20; \
         tries++)                                                                          \
    nap_ns(NAP_NS)

/* Whether it can be gone on; else it was documented, and something has failed. */
static int works(int rc)
{
    if (rc != 0 && !(is_want(rc) && (sweep_struck() || sweep_kills()))) {
        fprintf(stderr, "%d: %s\n", rc, tine_strerror(rc));
        exit(1);
    }
    return rc == 0;
}

static size_t size_of(int index)
{
    return index % 8 == 7 ? LARGE_SIZE : (size_t)(index % 5) * 700 + 8;
}

static unsigned char *new_block(tine_heap *heap, int index)
{
    unsigned char *block = NULL;
    for (int tries = 0; !block && tries < 20; tries++) {
        block = (unsigned char *)tine_heap_alloc(heap, size_of(index));
        CHECK(block || sweep_struck());
    }
    if (block) {
        memset(block, index + 1, size_of(index));
    }
    return block;
}

/* Frees it if it is whole; what it answered. */
static int free_block(tine_heap *heap, unsigned char *block, int index)
{
    for (size_t i = 0; i < size_of(index); i += 97) {
        CHECK_EQ(block[i], index + 1);
    }
    int rc;
    PATIENTLY(rc, tine_heap_free(heap, block));
    return rc;
}

/* Frees what the host puts on the board, and leaves blocks of its own there. */
static void child_part(int socket)
{
    tine_segment *segment;
    tine_heap *heap;
    int rc;
    PATIENTLY(rc, tine_segment_receive(socket, NULL, &segment));
    if (!works(rc)) {
        _exit(0);
    }
    PATIENTLY(rc, tine_heap_attach(segment, NULL, &heap));
    if (works(rc)) {
        for (int i = 0; i < BLOCKS; i++) {
            unsigned char *block = (unsigned char *)__atomic_exchange_n(&s->blocks[i], NULL, __ATOMIC_SEQ_CST);
            if (block && !works(free_block(heap, block, i))) {
                __atomic_store_n(&s->blocks[i], block, __ATOMIC_SEQ_CST);
            } else if (block) {
                __atomic_store_n(&s->blocks[i], new_block(heap, i), __ATOMIC_SEQ_CST);
            }
        }
        PATIENTLY(rc, tine_heap_trim(heap));
        works(rc);
        PATIENTLY(rc, tine_heap_close(heap));
        if (!works(rc)) {
            _exit(0); /* open still: nobody could look for locks in it */
        }
    }
    PATIENTLY(rc, tine_segment_close(segment));
    works(rc);
    _exit(0);
}

static void host_part(int socket, pid_t child)
{
    tine_segment *segment;
    tine_heap *heap;
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    int rc;
    PATIENTLY(rc, tine_segment_create(SEGMENT_SIZE, NULL, &segment));
    if (!works(rc)) {
        close(socket);
        return;
    }
    PATIENTLY(rc, tine_heap_create(segment, NULL, &heap));
    if (works(rc)) {
        for (int i = 0; i < BLOCKS; i++) {
            s->blocks[i] = new_block(heap, i);
        }
        PATIENTLY(rc, tine_segment_send(socket, segment));
        works(rc);
        close(socket);
        for (int i = 0; i < BLOCKS; i++) {
            unsigned char *block = new_block(heap, i);
            if (block) {
                CHECK_RC(free_block(heap, block, i), 0);
            }
        }
        int status = -1, ended;
        while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) {}
        CHECK_EQ(ended, child);
        sweep_end();
        CHECK(status == 0 || (WIFSIGNALED(status) && sweep_kills()));
        for (int i = 0; i < BLOCKS; i++) {
            if (s->blocks[i]) {
                CHECK_RC(free_block(heap, (unsigned char *)s->blocks[i], i), 0);
            }
        }
        /* What a killed one had in its hands is listed under its number, and goes with it. */
        rc = tine_heap_release_process(heap, child);
        CHECK(rc == 0 || (rc == 1 && sweep_kills()));
        CHECK_RC(tine_heap_stats(heap, &info), 0);
        CHECK(info.used_blocks == 0 || (sweep_kills() && info.used_blocks <= 1));
        /* All of it can be had again. */
        void *all = tine_heap_alloc(heap, SEGMENT_SIZE / 2);
        CHECK(all && tine_heap_free(heap, all) == 0);
        CHECK_RC(tine_heap_close(heap), 0);
    } else {
        close(socket);
    }
    sweep_end();
    CHECK_RC(tine_segment_close(segment), 0);
}

static void heap(void)
{
    int sockets[2];
    s = (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)s != MAP_FAILED);
    struct belongings before = take_stock();
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(sockets[0]);
        child_part(sockets[1]);
    }
    close(sockets[1]);
    sweep_begin();
    host_part(sockets[0], child);
    sweep_end();
    waitpid(child, NULL, 0);
    struct belongings now = take_stock();
    CHECK_EQ(now.descriptors, before.descriptors);
    CHECK_EQ(now.shared_mappings, before.shared_mappings);
    munmap(s, sizeof *s);
}

static const struct sweep_scenario scenarios[] = {{"heap", heap, NULL}};

int main(int argc, char **argv)
{
    return SWEEP_MAIN(argc, argv, scenarios);
}
