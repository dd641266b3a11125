/* Queues in a heap of one's own: between processes that have nothing in common but a segment, which they pass over a
 * socket; who attaches, leaves, and dies. */
#include "family.h"
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define SHORT INT64_C(2000000) /* ns: runs out */

static int ended(pid_t pid)
{
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static tine_segment *new_segment(size_t size)
{
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create(size, NULL, &s), 0);
    return s;
}

static tine_queue *make(tine_heap *heap, size_t messages, size_t bytes)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_queue *q = NULL;
    options.heap = heap;
    options.capacity_messages = messages;
    options.capacity_bytes = bytes;
    CHECK_RC(tine_queue_create(NULL, &options, &q), 0);
    return q;
}

static uint64_t used_blocks(tine_heap *heap)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(heap, &info), 0);
    return info.used_blocks;
}

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

/* ---- Kills ---- */

enum { PRODUCERS = 2, CONSUMERS = 2, WORKERS = PRODUCERS + CONSUMERS, NUMBERS = 1 << 24, PER_KILL = 1000 };

/* In a segment beside the one with the heap, as the storm's own notes. */
struct storm {
    tine_queue *q;
    uint64_t next, allowed, progress[WORKERS], wrong;
    uint8_t put[NUMBERS], got[NUMBERS];
};

static void produce(tine_queue *q, struct storm *storm, int who)
{
    uint64_t message[40];
    for (;;) {
        uint64_t number = __atomic_fetch_add(&storm->next, 1, __ATOMIC_SEQ_CST);
        while (number >= __atomic_load_n(&storm->allowed, __ATOMIC_SEQ_CST) || number >= NUMBERS)
            nap_ns(100000);
        size_t words = 2 + number % 38;
        for (size_t i = 0; i < words; i++)
            message[i] = number;
        message[1] = (uint64_t)who;
        storm->put[number] = 1;
        void *place = message;
        if (number % 4 == 0) {
            CHECK_RC(tine_queue_reserve(q, words * 8, TINE_FOREVER, &place), 0);
            memcpy(place, message, words * 8);
            CHECK_RC(tine_queue_commit(q, words * 8), 0);
        } else {
            CHECK_RC(tine_queue_put(q, message, words * 8, TINE_FOREVER), 0);
        }
        storm->put[number] = 2;
        storm->progress[who]++;
    }
}

static void note(struct storm *storm, const uint64_t *message, size_t length, uint64_t *last)
{
    uint64_t number = message[0], who = message[1];
    int whole = number < NUMBERS && who < PRODUCERS && length == (2 + number % 38) * 8 && number >= last[who];
    for (size_t i = 2; whole && i < length / 8; i++)
        whole = message[i] == number;
    if (!whole) {
        __atomic_fetch_add(&storm->wrong, 1, __ATOMIC_SEQ_CST);
        return;
    }
    last[who] = number;
    __atomic_fetch_add(&storm->got[number], 1, __ATOMIC_SEQ_CST);
}

static void consume(tine_queue *q, struct storm *storm, int who)
{
    uint64_t buffer[40], last[PRODUCERS] = {0, 0};
    for (unsigned turn = 0;; turn++) {
        void *place = buffer;
        size_t length = 0;
        if (turn % 4 == 0)
            CHECK_RC(tine_queue_peek(q, TINE_FOREVER, &place, &length), 0);
        else
            CHECK_RC(tine_queue_get(q, TINE_FOREVER, buffer, sizeof buffer, &length), 0);
        note(storm, (const uint64_t *)place, length, last);
        if (turn % 4 == 0)
            CHECK_RC(tine_queue_release(q), 0);
        storm->progress[who]++;
    }
}

/* A worker of the storm: it gets both segments over the socket, and nothing else. */
static int storm_worker(int socket, int who)
{
    tine_segment *s = NULL, *notes = NULL;
    tine_heap *heap = NULL;
    CHECK_RC(tine_segment_receive(socket, NULL, &s), 0);
    CHECK_RC(tine_segment_receive(socket, NULL, &notes), 0);
    struct storm *storm = (struct storm *)tine_segment_address(notes);
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    if (who < PRODUCERS)
        produce(storm->q, storm, who);
    consume(storm->q, storm, who);
    return 1;
}

static pid_t start_worker(const char *program, tine_segment *s, tine_segment *notes, int who)
{
    int line[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, line) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char number[16], name[16];
        snprintf(number, sizeof number, "%d", line[1]);
        snprintf(name, sizeof name, "%d", who);
        execl("/proc/self/exe", program, "storm", number, name, (char *)NULL);
        _exit(127);
    }
    close(line[1]);
    CHECK_RC(tine_segment_send(line[0], s), 0);
    CHECK_RC(tine_segment_send(line[0], notes), 0);
    close(line[0]);
    return child;
}

static int all_moved(struct storm *storm, const uint64_t *before)
{
    __atomic_fetch_add(&storm->allowed, 10, __ATOMIC_SEQ_CST);
    for (int i = 0; i < WORKERS; i++)
        if (__atomic_load_n(&storm->progress[i], __ATOMIC_SEQ_CST) == before[i])
            return 0;
    return 1;
}

static void strangers_are_killed(const char *program, int kills)
{
    uint64_t random = random_seed();
    tine_segment *s = new_segment(8 << 20), *notes = new_segment(sizeof(struct storm));
    tine_heap *heap = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    struct storm *storm = (struct storm *)tine_segment_address(notes);
    storm->q = make(heap, 8, 2048);
    storm->allowed = 8 * PER_KILL;
    pid_t pids[WORKERS];
    int killed[2] = {0, 0};
    for (int i = 0; i < WORKERS; i++)
        pids[i] = start_worker(program, s, notes, i);
    for (int round = 0; round < kills; round++) {
        int victim = (int)(random_next(&random) % WORKERS);
        uint64_t before[WORKERS], started = storm->progress[victim];
        /* Every victim has come as far as to the queue. */
        WAIT_UNTIL((storm->allowed += 10, storm->progress[victim] != started));
        nap_ns((int64_t)(random_next(&random) % 300000));
        CHECK_EQ(kill(pids[victim], SIGKILL), 0);
        CHECK_EQ(ended(pids[victim]), 1000 + SIGKILL);
        killed[victim >= PRODUCERS]++;
        pids[victim] = start_worker(program, s, notes, victim);
        storm->allowed += PER_KILL;
        CHECK(storm->next < NUMBERS); /* or there is nothing left to do, and nobody moves */
        if (round % 8 == 7) {
            memcpy(before, storm->progress, sizeof before);
            WAIT_UNTIL(all_moved(storm, before));
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQ(kill(pids[i], SIGKILL), 0);
        CHECK_EQ(ended(pids[i]), 1000 + SIGKILL);
        killed[i >= PRODUCERS]++;
    }
    uint64_t buffer[40], last[PRODUCERS] = {0, 0};
    size_t length = 0;
    while (tine_queue_get(storm->q, SHORT, buffer, sizeof buffer, &length) == 0)
        note(storm, buffer, length, last);
    uint64_t delivered = 0, twice = 0, lost = 0, in_vain = 0, numbers = storm->next;
    CHECK(numbers < NUMBERS);
    for (uint64_t i = 0; i < numbers; i++) {
        delivered += storm->got[i] > 0;
        twice += storm->got[i] > 1;
        lost += storm->got[i] == 0 && storm->put[i] == 2;
        in_vain += storm->got[i] == 0 && storm->put[i] == 1;
    }
    printf("%d producers and %d consumers killed: %llu messages delivered, %llu twice, %llu torn; %llu lost, %llu put in vain\n",
           killed[0], killed[1], (unsigned long long)delivered, (unsigned long long)twice,
           (unsigned long long)storm->wrong, (unsigned long long)lost, (unsigned long long)in_vain);
    CHECK(delivered > 0 && twice == 0 && storm->wrong == 0);
    CHECK(lost <= (uint64_t)killed[1] && in_vain <= (uint64_t)killed[0]);
    tine_queue_destroy(storm->q);
    CHECK_EQ(used_blocks(heap), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_segment_close(notes), 0);
}

/* Makers and destroyers die in the middle: there is a queue or there is none, and no block that nobody answers for. */
static void makers_are_killed(int kills)
{
    tine_segment *s = new_segment(4 << 20);
    tine_heap *heap = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    for (int i = 0; i < kills; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            tine_heap *mine = NULL;
            CHECK_RC(tine_heap_attach(s, NULL, &mine), 0);
            for (;;) {
                tine_queue *q = make(mine, 4, 8192);
                CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
                tine_queue_destroy(q);
            }
        }
        nap_ns(1000000 + i % 20 * 100000);
        CHECK_EQ(kill(child, SIGKILL), 0);
        CHECK_EQ(ended(child), 1000 + SIGKILL);
        int left = tine_heap_release_process(heap, child);
        CHECK(left == 0 || left == 1);
        CHECK_EQ(used_blocks(heap), 0);
    }
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

int main(int argc, char **argv)
{
    int is_long = getenv("TINE_STORM") != NULL;
    if (argc > 2 && strcmp(argv[1], "stranger") == 0)
        return stranger(atoi(argv[2]));
    if (argc > 3 && strcmp(argv[1], "storm") == 0)
        return storm_worker(atoi(argv[2]), atoi(argv[3]));
    tine_init(argc, argv);
    struct belongings before = take_stock();
    what_is_refused();
    the_shortest_wait_sees_a_death();
    made_used_and_destroyed();
    closing_while_it_is_used();
    strangers_talk(argv[0]);
    a_forked_child_attaches();
    makers_are_killed(is_long ? 1000 : 60);
    strangers_are_killed(argv[0], is_long ? 5000 : 300);
    /* Not all mappings: the C library keeps the stacks of threads. */
    struct belongings after = take_stock();
    CHECK_EQ(after.descriptors, before.descriptors);
    WAIT_UNTIL(count_entries("/proc/self/task") <= before.threads);
    CHECK_EQ(after.children, before.children);
    CHECK_EQ(after.shared_mappings, before.shared_mappings);
    return 0;
}
