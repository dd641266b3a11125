/* Queues in a heap of one's own: between processes that have nothing in common but a segment, which they pass over a
 * socket; who attaches, leaves, and dies. */
#include "queue_segments.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

static void what_is_refused(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_pool_options inline_pool = TINE_POOL_OPTIONS_INIT;
    tine_segment *s = new_segment(2 << 20);
    tine_heap *heap = NULL;
    tine_pool *pool = NULL;
    tine_queue *q = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    options.error = &error;
    CHECK_RC(tine_queue_create(NULL, &options, &q), -EINVAL);
    CHECK_STR(error.text, "pool is NULL, and options.heap names no heap");
    options.heap = heap;
    CHECK_RC(tine_queue_create(NULL, &options, NULL), -EINVAL);
    CHECK_STR(error.text, "out is NULL");
    inline_pool.flags = TINE_INLINE;
    CHECK_RC(tine_pool_create(&inline_pool, &pool), 0);
    CHECK_RC(tine_queue_create(pool, &options, &q), -EINVAL);
    CHECK_STR(error.text, "both pool and options.heap are given");
    options.capacity_bytes = 2 << 20; /* twice that does not fit */
    CHECK_RC(tine_queue_create(NULL, &options, &q), -ENOMEM);
    CHECK_EQ(error.code, -ENOMEM);
    CHECK(error.text[0] && q == NULL);
    CHECK_EQ(used_blocks(heap), 0);
    /* A pool's heap by its own name is the pool's heap. */
    q = make(tine_pool_heap(pool), 4, 64);
    CHECK_EQ(tine_heap_contains(tine_pool_heap(pool), q, 64), 1);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    tine_queue_destroy(q);
    tine_pool_destroy(pool);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), -EINVAL);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* A wait of whatever length sees that who had reserved or looked is dead, or is the caller. */
static void the_shortest_wait_sees_a_death(void)
{
    tine_segment *s = new_segment(2 << 20);
    tine_heap *heap = NULL;
    void *place = NULL;
    size_t length = 0;
    char got[8];
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    tine_queue *q = make(heap, 4, 64);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_heap *mine = NULL;
        CHECK_RC(tine_heap_attach(s, NULL, &mine), 0);
        CHECK_RC(tine_queue_reserve(q, 8, 0, &place), 0);
        CHECK_RC(tine_queue_peek(q, 0, &place, &length), 0);
        _exit(0);
    }
    CHECK_EQ(ended(child), 0);
    CHECK_RC(tine_queue_put(q, "y", 1, 1), 0);
    CHECK_RC(tine_queue_get(q, 1, got, sizeof got, &length), 0);
    CHECK(length == 1 && got[0] == 'y');
    CHECK_RC(tine_queue_reserve(q, 8, 1, &place), 0);
    CHECK_RC(tine_queue_put(q, "z", 1, 1), -EDEADLK);
    CHECK_RC(tine_queue_commit(q, 1), 0);
    CHECK_RC(tine_queue_peek(q, 1, &place, &length), 0);
    CHECK_RC(tine_queue_get(q, 1, got, sizeof got, &length), -EDEADLK);
    CHECK_RC(tine_queue_release(q), 0);
    tine_queue_destroy(q);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

static void made_used_and_destroyed(void)
{
    tine_segment *s = new_segment(8 << 20);
    tine_heap *heap = NULL, *again = NULL;
    char text[16];
    void *place;
    size_t length;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    tine_queue *q = make(heap, 8, 1 << 20);
    CHECK_EQ(used_blocks(heap), 1);
    CHECK_RC(tine_queue_put(q, "one", 4, 0), 0);
    CHECK_RC(tine_queue_reserve(q, 1 << 19, 0, &place), 0);
    memset(place, 'p', 1 << 19);
    CHECK_RC(tine_queue_commit(q, 1 << 19), 0);
    CHECK_RC(tine_queue_get(q, 0, text, sizeof text, NULL), 0);
    CHECK_STR(text, "one");
    CHECK_RC(tine_queue_peek(q, 0, &place, &length), 0);
    CHECK(length == 1 << 19 && ((char *)place)[length - 1] == 'p');
    CHECK_RC(tine_queue_release(q), 0);
    /* Another handle of the same process: the queue is there until the last is closed. */
    CHECK_RC(tine_heap_attach(s, NULL, &again), 0);
    int fd = tine_queue_fd(q);
    CHECK(fd >= 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_queue_put(q, "two", 4, 0), 0);
    CHECK_EQ(tine_queue_fd(q), fd);
    CHECK_RC(tine_heap_close(again), 0);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    CHECK_RC(tine_queue_get(q, 0, text, sizeof text, NULL), -EINVAL);
    CHECK_RC(tine_queue_fd(q), -EINVAL);
    CHECK_EQ(tine_queue_count(q), 0);
    /* What was in it is still there for who comes next. */
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    CHECK_RC(tine_queue_get(q, 0, text, sizeof text, NULL), 0);
    CHECK_STR(text, "two");
    tine_queue_destroy(q);
    tine_queue_destroy(q);
    CHECK_EQ(used_blocks(heap), 0);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), -EINVAL);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* ---- Closing the heap while a queue is in use ---- */

struct waiter {
    tine_queue *q;
    int64_t timeout_ns;
    int rc, tid;
};

static void *wait_for_room(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    __atomic_store_n(&waiter->tid, (int)gettid(), __ATOMIC_RELEASE);
    waiter->rc = tine_queue_put(waiter->q, "12345678", 8, waiter->timeout_ns);
    return NULL;
}

static void *wait_for_a_message(void *argument)
{
    struct waiter *waiter = (struct waiter *)argument;
    char byte[8];
    __atomic_store_n(&waiter->tid, (int)gettid(), __ATOMIC_RELEASE);
    waiter->rc = tine_queue_get(waiter->q, waiter->timeout_ns, byte, sizeof byte, NULL);
    return NULL;
}

static int sleeps(int tid)
{
    struct process process;
    return tid != 0 && look_at((pid_t)tid, &process) && process.state == 'S';
}

static void closing_while_it_is_used(void)
{
    struct belongings before = take_stock();
    tine_segment *s = new_segment(1 << 20);
    tine_heap *heap = NULL;
    void *place;
    char byte[8];
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    tine_queue *q = make(heap, 1, 64);
    /* A message in this thread's hands. */
    CHECK_RC(tine_queue_reserve(q, 8, 0, &place), 0);
    CHECK_RC(tine_heap_close(heap), -EBUSY);
    CHECK_RC(tine_queue_commit(q, 8), 0);
    /* A thread that waits for room with the lock, and one behind it. */
    struct waiter waiters[2] = {{q, TINE_FOREVER, 1, 0}, {q, TINE_FOREVER, 1, 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_for_room, &waiters[i]) == 0);
    for (int i = 0; i < 2; i++)
        WAIT_UNTIL(sleeps(__atomic_load_n(&waiters[i].tid, __ATOMIC_ACQUIRE)));
    CHECK_RC(tine_heap_close(heap), -EBUSY);
    for (int i = 0; i < 3; i++)
        CHECK_RC(tine_queue_get(q, HANG_NS, byte, sizeof byte, NULL), 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0 && waiters[i].rc == 0);
    /* A thread that only waits for another process's lock. */
    int line[2];
    CHECK(pipe(line) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_heap *mine = NULL;
        CHECK_RC(tine_heap_attach(s, NULL, &mine), 0);
        CHECK_RC(tine_queue_reserve(q, 8, 0, &place), 0);
        CHECK(write(line[1], "r", 1) == 1);
        for (;;)
            pause();
    }
    CHECK(read(line[0], byte, 1) == 1);
    waiters[0].tid = 0;
    CHECK(pthread_create(&threads[0], NULL, wait_for_room, &waiters[0]) == 0);
    WAIT_UNTIL(sleeps(__atomic_load_n(&waiters[0].tid, __ATOMIC_ACQUIRE)));
    CHECK_RC(tine_heap_close(heap), -EBUSY);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK_EQ(ended(child), 1000 + SIGKILL);
    CHECK(pthread_join(threads[0], NULL) == 0 && waiters[0].rc == 0);
    CHECK_RC(tine_queue_get(q, 0, byte, sizeof byte, NULL), 0);
    /* A consumer that waits. */
    waiters[0].tid = 0;
    CHECK(pthread_create(&threads[0], NULL, wait_for_a_message, &waiters[0]) == 0);
    WAIT_UNTIL(sleeps(__atomic_load_n(&waiters[0].tid, __ATOMIC_ACQUIRE)));
    CHECK_RC(tine_heap_close(heap), -EBUSY);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    CHECK(pthread_join(threads[0], NULL) == 0 && waiters[0].rc == 0);
    /* A thread that only watches for a descriptor is no reason: it ends. */
    int fd = tine_queue_fd(q);
    CHECK(fd >= 0);
    close(line[0]);
    close(line[1]);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
    check_stock(before);
}

/* ---- Unrelated processes: the segment comes over a socket ---- */

struct board {
    tine_queue *there, *back;
    uint64_t words[64];
};

/* What a stranger does with the segment that it receives, in a program of its own. */
static int stranger(int socket)
{
    tine_segment *s = NULL;
    tine_heap *heap = NULL;
    char text[64];
    size_t length;
    int rc;
    CHECK_RC(tine_segment_receive(socket, NULL, &s), 0);
    struct board *board = NULL;
    CHECK(read(socket, &board, sizeof board) == (ssize_t)sizeof board);
    /* Not before the heap is open here. */
    CHECK_RC(tine_queue_put(board->back, "x", 1, 0), -EINVAL);
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    while ((rc = tine_queue_get(board->there, HANG_NS, text, sizeof text, &length)) == 0) {
        CHECK_RC(tine_queue_put(board->back, text, length, HANG_NS), 0);
        CHECK_RC(tine_queue_task_done(board->there), 0);
    }
    CHECK_RC(rc, -EPIPE);
    /* One made here, for the other process. */
    tine_queue *mine = make(heap, 4, 64);
    CHECK_RC(tine_queue_put(mine, "made by a stranger", 19, 0), 0);
    CHECK_RC(tine_queue_put(board->back, &mine, sizeof mine, HANG_NS), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
    return 0;
}

static void strangers_talk(const char *program)
{
    int line[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, line) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", line[1]);
        execl("/proc/self/exe", program, "stranger", number, (char *)NULL);
        _exit(127);
    }
    close(line[1]);
    tine_segment *s = new_segment(4 << 20);
    tine_heap *heap = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    struct board *board = (struct board *)tine_heap_calloc(heap, 1, sizeof *board);
    board->there = make(heap, 16, 4096);
    board->back = make(heap, 16, 4096);
    CHECK_RC(tine_segment_send(line[0], s), 0);
    CHECK(write(line[0], &board, sizeof board) == (ssize_t)sizeof board);
    struct epoll_event event = {EPOLLIN, {NULL}};
    int set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, tine_queue_fd(board->back), &event) == 0);
    char text[64];
    for (int i = 0; i < 2000; i++) {
        size_t length = 0;
        int bytes = snprintf(text, sizeof text, "message %d", i) + 1, rc;
        CHECK_RC(tine_queue_put(board->there, text, (size_t)bytes, HANG_NS), 0);
        while ((rc = tine_queue_get(board->back, 0, text, sizeof text, &length)) == -EAGAIN)
            CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK_RC(rc, 0);
        CHECK_EQ(length, bytes);
        CHECK_EQ(atoi(text + 8), i);
    }
    CHECK_RC(tine_queue_join(board->there, HANG_NS), 0);
    CHECK_RC(tine_queue_close(board->there), 0);
    tine_queue *other = NULL;
    CHECK_RC(tine_queue_get(board->back, HANG_NS, &other, sizeof other, NULL), 0);
    CHECK_EQ(ended(child), 0);
    /* Its maker has gone, the queue has not; it is listed under the one that made it. */
    CHECK_RC(tine_queue_get(other, 0, text, sizeof text, NULL), 0);
    CHECK_STR(text, "made by a stranger");
    CHECK_EQ(tine_heap_release_process(heap, child), 1);
    tine_queue_destroy(board->there);
    tine_queue_destroy(board->back);
    CHECK_RC(tine_heap_free(heap, board), 0);
    CHECK_EQ(used_blocks(heap), 0);
    close(set);
    close(line[0]);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* A child of fork has its parent's pointers, and no right to them until it attaches. */
static void a_forked_child_attaches(void)
{
    tine_segment *s = new_segment(1 << 20);
    tine_heap *heap = NULL;
    char text[8];
    void *place = NULL;
    size_t length = 0;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    tine_queue *q = make(heap, 4, 64);
    int fd = tine_queue_fd(q);
    CHECK(fd >= 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
        tine_queue *none = NULL;
        tine_heap *mine = NULL;
        options.heap = heap;
        CHECK_RC(tine_queue_create(NULL, &options, &none), TINE_EFORKED);
        CHECK_RC(tine_queue_put(q, "x", 1, 0), TINE_EFORKED);
        CHECK_RC(tine_queue_get(q, 0, text, 1, &length), TINE_EFORKED);
        CHECK_RC(tine_queue_reserve(q, 1, 0, &place), TINE_EFORKED);
        CHECK_RC(tine_queue_fd(q), TINE_EFORKED);
        CHECK_RC(tine_queue_close(q), TINE_EFORKED);
        tine_queue_destroy(q);
        CHECK_RC(tine_heap_close(heap), 0); /* forgotten here; the parent has it */
        CHECK_RC(tine_heap_attach(s, NULL, &mine), 0);
        int mine_fd = tine_queue_fd(q); /* a thread and a descriptor of its own */
        CHECK(mine_fd >= 0 && mine_fd != fd);
        CHECK_RC(tine_queue_put(q, "hello", 6, 0), 0);
        struct pollfd look = {mine_fd, POLLIN, 0};
        CHECK_EQ(poll(&look, 1, 20000), 1);
        CHECK_RC(tine_heap_close(mine), 0);
        _exit(0);
    }
    CHECK_EQ(ended(child), 0);
    struct pollfd look = {fd, POLLIN, 0};
    CHECK_EQ(poll(&look, 1, 20000), 1);
    CHECK_RC(tine_queue_get(q, 0, text, sizeof text, NULL), 0);
    CHECK_STR(text, "hello");
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "stranger") == 0)
        return stranger(atoi(argv[2]));
    tine_init(argc, argv);
    struct belongings before = take_stock();
    what_is_refused();
    the_shortest_wait_sees_a_death();
    made_used_and_destroyed();
    closing_while_it_is_used();
    strangers_talk(argv[0]);
    a_forked_child_attaches();
    check_stock_but_stacks(before);
    return 0;
}
