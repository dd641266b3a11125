/* Queues that processes watch by their descriptors, and that others destroy: nobody writes into what is no queue any more,
 * and whoever polls is told. */
#include "family.h"
#include <poll.h>
#include <stdint.h>
#include <sys/mman.h>

enum { WATCHING = 5, SIZE = 16 << 10 };

/* Where the processes say how far they are. */
struct shared {
    int ready, told, leave;
};

static struct shared *shared;

static int ended(pid_t pid)
{
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int load(int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void add(int *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
}

static tine_queue *make(tine_heap *heap, int messages)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *q = NULL;
    options.heap = heap;
    options.capacity_messages = 16;
    options.capacity_bytes = SIZE / 4;
    CHECK_RC(tine_queue_create(NULL, &options, &q), 0);
    for (int i = 0; i < messages; i++)
        CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    return q;
}

static int is_readable(int fd)
{
    struct pollfd one = {fd, POLLIN, 0};
    int rc = poll(&one, 1, 0);
    CHECK(rc >= 0);
    return rc == 1;
}

static int threads(void)
{
    return count_entries("/proc/self/task");
}

/* A process that has the heap and a descriptor of the queue, and is in no call; the queue stays as it was. */
static pid_t watcher(tine_segment *s, tine_queue *q, int messages)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child)
        return child;
    tine_heap *heap = NULL;
    char byte[8];
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    int before = threads();
    int fd = tine_queue_fd(q);
    CHECK(fd >= 0);
    if (messages)
        WAIT_UNTIL(is_readable(fd)); /* its thread sleeps on a word of its own, the others' at the queue */
    add(&shared->ready);
    WAIT_UNTIL(load(&shared->leave) || (!messages && is_readable(fd)) || tine_queue_is_closed(q));
    if (!load(&shared->leave)) {
        WAIT_UNTIL(is_readable(fd));
        CHECK_RC(tine_queue_get(q, 0, byte, sizeof byte, NULL), -EINVAL);
        CHECK(is_readable(fd));
        WAIT_UNTIL(threads() == before);
    }
    add(&shared->told);
    WAIT_UNTIL(load(&shared->leave));
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    exit(0);
}

static void begin(pid_t *children, tine_segment *s, tine_queue *q, int messages)
{
    memset(shared, 0, sizeof *shared);
    for (int i = 0; i < WATCHING; i++)
        children[i] = watcher(s, q, messages);
    WAIT_UNTIL(load(&shared->ready) == WATCHING);
}

/* The memory that was the queue's, as somebody's next block. */
static unsigned char *next_block(tine_heap *heap, tine_queue *q, size_t size)
{
    unsigned char *block = (unsigned char *)tine_heap_alloc_aligned(heap, 128, size);
    CHECK((void *)block == (void *)q);
    memset(block, 0x5a, size);
    return block;
}

static void stays_as_it_is(const unsigned char *block, size_t size)
{
    for (size_t i = 0; i < size; i++)
        CHECK_EQ(block[i], 0x5a);
}

static tine_heap *new_heap(tine_segment **s)
{
    tine_heap *heap = NULL;
    CHECK_RC(tine_segment_create(4 << 20, NULL, s), 0);
    CHECK_RC(tine_heap_create(*s, NULL, &heap), 0);
    return heap;
}

static void destroyed_by_another(int messages)
{
    pid_t children[WATCHING];
    tine_segment *s;
    tine_heap *heap = new_heap(&s);
    tine_queue *q = make(heap, messages);
    size_t size = tine_heap_block_size(heap, q);
    begin(children, s, q, messages);
    int own = tine_queue_fd(q);
    CHECK(own >= 0);
    tine_queue_destroy(q);
    CHECK(fcntl(own, F_GETFD) < 0 && errno == EBADF);
    unsigned char *block = next_block(heap, q, size);
    WAIT_UNTIL(load(&shared->told) == WATCHING);
    stays_as_it_is(block, size);
    /* Their leaving touches nothing either. */
    __atomic_store_n(&shared->leave, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < WATCHING; i++)
        CHECK_EQ(ended(children[i]), 0);
    stays_as_it_is(block, size);
    CHECK_RC(tine_heap_free(heap, block), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* Those that are dead are not waited for; one that is stopped keeps the memory, and nobody hangs. */
static void killed_and_stopped(int messages)
{
    pid_t children[WATCHING];
    tine_segment *s;
    tine_heap *heap = new_heap(&s);
    tine_queue *q = make(heap, messages);
    size_t size = tine_heap_block_size(heap, q);
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    begin(children, s, q, messages);
    for (int i = 0; i < WATCHING; i++)
        CHECK_EQ(kill(children[i], SIGKILL), 0);
    for (int i = 0; i < WATCHING; i++)
        CHECK_EQ(ended(children[i]), 1000 + SIGKILL);
    tine_queue_destroy(q);
    stays_as_it_is(next_block(heap, q, size), size);
    CHECK_RC(tine_heap_free(heap, q), 0);
    q = make(heap, messages);
    begin(children, s, q, messages);
    CHECK_EQ(kill(children[0], SIGSTOP), 0);
    int status;
    CHECK_EQ(waitpid(children[0], &status, WUNTRACED), children[0]);
    tine_queue_destroy(q);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), -EINVAL);
    CHECK_RC(tine_heap_stats(heap, &info), 0);
    CHECK_EQ(info.used_blocks, 1);
    CHECK_EQ(kill(children[0], SIGCONT), 0);
    WAIT_UNTIL(load(&shared->told) == WATCHING);
    __atomic_store_n(&shared->leave, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < WATCHING; i++)
        CHECK_EQ(ended(children[i]), 0);
    CHECK_RC(tine_heap_free(heap, q), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* The next queue at the same place is another one, for who watched the first too. */
static void watch_each(tine_segment *s, tine_queue *q)
{
    tine_heap *heap = NULL;
    char byte[8];
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    for (int round = 1; round <= 20; round++) {
        WAIT_UNTIL(load(&shared->ready) == round);
        int fd = tine_queue_fd(q);
        CHECK(fd >= 0);
        CHECK(!is_readable(fd));
        CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
        WAIT_UNTIL(is_readable(fd));
        CHECK_RC(tine_queue_get(q, HANG_NS, byte, sizeof byte, NULL), 0);
        if (round % 2) {
            CHECK_RC(tine_queue_get(q, 1000000, byte, sizeof byte, NULL), -ETIMEDOUT);
            CHECK(!is_readable(fd));
        }
        add(&shared->told);
        WAIT_UNTIL(is_readable(fd)); /* told of its end */
    }
    CHECK_RC(tine_heap_close(heap), 0);
    exit(0);
}

static void one_after_the_other(void)
{
    tine_segment *s;
    tine_heap *heap = new_heap(&s);
    memset(shared, 0, sizeof *shared);
    tine_queue *first = make(heap, 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        watch_each(s, first);
    for (int round = 1; round <= 20; round++) {
        add(&shared->ready);
        WAIT_UNTIL(load(&shared->told) == round);
        tine_queue_destroy(first);
        CHECK(make(heap, 0) == first);
    }
    CHECK_EQ(ended(child), 0);
    tine_queue_destroy(first);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

int main(void)
{
    shared = (struct shared *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (int messages = 0; messages < 2; messages++) {
        destroyed_by_another(messages);
        killed_and_stopped(messages);
    }
    one_after_the_other();
    return 0;
}
