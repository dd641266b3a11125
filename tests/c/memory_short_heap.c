/* The process has no memory of its own left, and uses a heap: a block that cannot be had is NULL, freeing and giving back need no
 * memory, nothing is lost or half done, and when there is memory again everything goes on. */
#include "memory_short.h"
#include <pthread.h>
#include <stdint.h>

/* Blocks of which 7 are a slab, and a slab an extent. So many slabs of one size that a list of them, in a process that remembers them in
 * words, is longer than what tine keeps back for texts and the like. */
enum { SIZE = 8192, IN_SLAB = 7, SLABS = 1100, BLOCKS = SLABS * IN_SLAB };
/* So many free extents that a list of their numbers is, and so many that one of numbers, lengths and kinds is. */
enum { HOLES = 2100, FEWER_HOLES = 300 };

static unsigned char *blocks[2 * HOLES * IN_SLAB];

static tine_segment *segment;

static tine_heap *open_heap(size_t bytes)
{
    tine_heap *heap;
    CHECK_RC(tine_segment_create(bytes, NULL, &segment), 0);
    CHECK_RC(tine_heap_create(segment, NULL, &heap), 0);
    return heap;
}

static void close_heap(tine_heap *heap)
{
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(segment), 0);
}

/* Marks a block at both ends as the one of that number. */
static void mark(int number, size_t size)
{
    memcpy(blocks[number], &number, sizeof number);
    memcpy(blocks[number] + size - sizeof number, &number, sizeof number);
}

static void check_mark(int number, size_t size)
{
    CHECK(memcmp(blocks[number], &number, sizeof number) == 0);
    CHECK(memcmp(blocks[number] + size - sizeof number, &number, sizeof number) == 0);
}

static uint64_t used_blocks(tine_heap *heap)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(heap, &info), 0);
    return info.used_blocks;
}

static uint64_t reserved_bytes(tine_heap *heap)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(heap, &info), 0);
    return info.reserved_bytes;
}

/* None of an empty heap is lost: there is room for a block that is nearly all of it. */
static void check_whole(tine_heap *heap, size_t bytes)
{
    unsigned char *block = (unsigned char *)tine_heap_alloc(heap, bytes);
    CHECK(block);
    block[0] = block[bytes - 1] = 1;
    CHECK_RC(tine_heap_free(heap, block), 0);
}

static size_t size_of(int number)
{
    static const size_t sizes[] = {16, 3000, 64, 20000, 700, 5000, 16, 3000, 64, 20000, 700, 66000};
    return sizes[(size_t)number % (sizeof sizes / sizeof *sizes)];
}

/* Blocks of all kinds, from nothing: the heap has what was given, each block once, and serves on. */
static void allocate(tine_heap *heap)
{
    enum { MANY = 3000 };
    uint64_t count = 0, before;
    end_to_refuse();
    before = used_blocks(heap);
    begin_to_refuse();
    for (int i = 0; i < MANY; i++) {
        if ((blocks[i] = (unsigned char *)tine_heap_alloc(heap, size_of(i))) != NULL) {
            mark(i, size_of(i));
            count++;
        }
    }
    CHECK_EQ(used_blocks(heap), before + count);
    for (int i = 0; i < MANY; i += 2) {
        count -= blocks[i] != NULL;
        CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
        blocks[i] = NULL;
    }
    void *aligned = tine_heap_alloc_aligned(heap, 1 << 18, 100);
    CHECK(((uintptr_t)aligned & ((1 << 18) - 1)) == 0);
    CHECK_RC(tine_heap_free(heap, aligned), 0);
    for (int i = 1; i < 400; i += 2) {
        unsigned char *longer = blocks[i] ? (unsigned char *)tine_heap_realloc(heap, blocks[i], 2 * size_of(i) + 100) : NULL;
        if (longer) {
            blocks[i] = longer;
            mark(i, size_of(i));
        }
    }
    CHECK_EQ(used_blocks(heap), before + count);
    end_to_refuse();
    for (int i = 0; i < MANY; i += 2) {
        CHECK((blocks[i] = (unsigned char *)tine_heap_alloc(heap, size_of(i))) != NULL);
        mark(i, size_of(i));
        count++;
    }
    CHECK_EQ(used_blocks(heap), before + count);
    for (int i = 0; i < MANY; i++) {
        if (blocks[i]) {
            check_mark(i, size_of(i));
        }
        CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
    }
    CHECK_EQ(used_blocks(heap), before);
}

static void allocates(void)
{
    tine_heap *heap = open_heap(72 << 20);
    allocate(heap);
    check_whole(heap, 68 << 20);
    close_heap(heap);
}

static void allocates_in_a_pool(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    allocate(tine_pool_heap(pool));
    tine_pool_destroy(pool);
}

/* Takes all of these blocks, of one size. */
static void fill(tine_heap *heap, int count)
{
    for (int i = 0; i < count; i++) {
        CHECK((blocks[i] = (unsigned char *)tine_heap_alloc(heap, SIZE)) != NULL);
        mark(i, SIZE);
    }
}

/* Memory ends with many slabs that are full: who needs a block looks at all of them, and what is freed in each moves it from one list to
 * another. */
static void frees(void)
{
    tine_heap *heap = open_heap(82 << 20);
    int more = BLOCKS;
    fill(heap, BLOCKS);
    begin_to_refuse();
    for (int i = 0; i < 10 * IN_SLAB; i++) {
        if ((blocks[more] = (unsigned char *)tine_heap_alloc(heap, SIZE)) != NULL) {
            mark(more++, SIZE);
        }
    }
    for (int i = 0; i < BLOCKS; i += IN_SLAB) {
        CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
    }
    /* There is room in the slabs that it has, which takes no memory. */
    for (int i = 0; i < BLOCKS; i += IN_SLAB) {
        CHECK((blocks[i] = (unsigned char *)tine_heap_alloc(heap, SIZE)) != NULL);
        mark(i, SIZE);
    }
    CHECK_EQ(used_blocks(heap), more);
    for (int i = 0; i < more; i++) {
        check_mark(i, SIZE);
        CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
    }
    CHECK_RC(tine_heap_free(heap, blocks[0]), -EINVAL);
    CHECK_EQ(used_blocks(heap), 0);
    check_whole(heap, 78 << 20);
    end_to_refuse();
    fill(heap, BLOCKS);
    close_heap(heap);
}

/* Frees every other slab of twice as many, so that no free extent is beside another. */
static void make_gaps(tine_heap *heap, int gaps)
{
    int count = 2 * gaps * IN_SLAB;
    fill(heap, count);
    for (int i = 0; i < count; i++) {
        if (i / IN_SLAB % 2) {
            CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
        }
    }
}

static void trim(tine_heap *heap, int gaps)
{
    uint64_t before = reserved_bytes(heap);
    CHECK_RC(tine_heap_trim(heap), 0);
    CHECK(reserved_bytes(heap) < before - (uint64_t)(gaps - 10) * 65536);
    CHECK_EQ(used_blocks(heap), gaps * IN_SLAB);
}

/* Giving thousands of free extents back takes no list of them. */
static void trims(void)
{
    tine_heap *heap = open_heap(290 << 20);
    make_gaps(heap, HOLES);
    begin_to_refuse();
    trim(heap, HOLES);
    end_to_refuse();
    close_heap(heap);
}

/* One block is made of holes and free extents in turn. */
static void joins(void)
{
    tine_heap *heap = open_heap(44 << 20);
    make_gaps(heap, FEWER_HOLES);
    trim(heap, FEWER_HOLES);
    begin_to_refuse();
    for (int i = 0; i < 2 * FEWER_HOLES * IN_SLAB; i++) {
        if (i / IN_SLAB % 2 == 0) {
            check_mark(i, SIZE);
            CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
        }
    }
    check_whole(heap, 40 << 20);
    CHECK_EQ(used_blocks(heap), 0);
    close_heap(heap);
}

static int count_usage(const tine_heap_usage *usage, void *sum)
{
    *(uint64_t *)sum += usage->blocks;
    return 0;
}

static int free_block(void *block, size_t length, void *heap)
{
    CHECK(length >= 16);
    CHECK_RC(tine_heap_free((tine_heap *)heap, block), 0);
    return 0;
}

/* What the dead have left is listed, or there is no memory for the list; it is freed in any case. */
static void lists(void)
{
    enum { DEAD = 3, LEFT = 2000 };
    tine_heap *heap = open_heap(64 << 20), *own;
    pid_t dead[DEAD];
    uint64_t sum = 0;
    int status, rc, left = LEFT;
    for (int i = 0; i < DEAD; i++) {
        CHECK((dead[i] = fork()) >= 0);
        if (dead[i] == 0) {
            CHECK_RC(tine_heap_attach(segment, NULL, &own), 0);
            for (int block = 0; block < LEFT; block++) {
                CHECK(tine_heap_alloc(own, 16));
            }
            _exit(0);
        }
        CHECK(waitpid(dead[i], &status, 0) == dead[i] && status == 0);
    }
    begin_to_refuse();
    rc = tine_heap_processes(heap, count_usage, &sum);
    CHECK(rc == 1 + DEAD || rc == -ENOMEM);
    CHECK_EQ(sum, rc == -ENOMEM ? 0 : DEAD * LEFT);
    if ((rc = tine_heap_blocks(heap, dead[0], free_block, heap)) >= 0) {
        left = 0;
    }
    CHECK(rc == LEFT || rc == -ENOMEM);
    CHECK_EQ(used_blocks(heap), 2 * LEFT + left);
    CHECK_EQ(tine_heap_release_process(heap, dead[1]), LEFT);
    end_to_refuse();
    CHECK_EQ(tine_heap_blocks(heap, dead[2], free_block, heap), LEFT);
    CHECK_EQ(tine_heap_release_process(heap, dead[0]), left);
    CHECK_EQ(used_blocks(heap), 0);
    close_heap(heap);
}

/* A heap that could not be made is not there, and one that could not be opened takes up no place. */
static void opens(void)
{
    tine_heap *heap = NULL, *again = NULL;
    CHECK_RC(tine_segment_create(1 << 20, NULL, &segment), 0);
    begin_to_refuse();
    int rc = tine_heap_create(segment, NULL, &heap);
    end_to_refuse();
    if (rc != 0) {
        CHECK_RC(rc, -ENOMEM);
        CHECK_RC(tine_heap_create(segment, NULL, &heap), 0);
    }
    begin_to_refuse();
    rc = tine_heap_attach(segment, NULL, &again);
    end_to_refuse();
    uint64_t sum = 0;
    CHECK_EQ(tine_heap_processes(heap, count_usage, &sum), rc == 0 ? 2 : 1);
    if (rc == 0) {
        begin_to_refuse();
        CHECK_RC(tine_heap_close(again), 0);
        end_to_refuse();
    } else {
        CHECK_RC(rc, -ENOMEM);
    }
    close_heap(heap);
}

/* What threads share in a heap, each used for the first time while there is no memory. */
struct shared {
    tine_mutex mutex;
    tine_condition condition;
    tine_rwlock lock;
    tine_semaphore semaphore;
    tine_event event;
    tine_barrier barrier;
    int turn;
};

enum { THREADS = 4, ROUNDS = 20 };

static pthread_barrier_t together;
static tine_queue *queue;

static void *use(void *pointer)
{
    struct shared *shared = (struct shared *)pointer;
    char buffer[300] = "";
    size_t length;
    pthread_barrier_wait(&together);
    for (int round = 0; round < ROUNDS; round++) {
        CHECK_RC(tine_mutex_lock(&shared->mutex, HANG_NS), 0);
        if (++shared->turn % THREADS == 0) {
            CHECK_RC(tine_condition_notify_all(&shared->condition), 0);
        } else {
            int from = shared->turn;
            while (shared->turn / THREADS == from / THREADS) {
                CHECK_RC(tine_condition_wait(&shared->condition, &shared->mutex, HANG_NS), 0);
            }
        }
        CHECK_RC(tine_mutex_unlock(&shared->mutex), 0);
        CHECK_RC(tine_rwlock_read_lock(&shared->lock, HANG_NS), 0);
        CHECK_RC(tine_rwlock_unlock(&shared->lock), 0);
        CHECK_RC(tine_rwlock_write_lock(&shared->lock, HANG_NS), 0);
        CHECK_RC(tine_rwlock_unlock(&shared->lock), 0);
        CHECK_RC(tine_semaphore_acquire(&shared->semaphore, HANG_NS), 0);
        CHECK_RC(tine_semaphore_release(&shared->semaphore, 1), 0);
        CHECK_RC(tine_event_set(&shared->event), 0);
        CHECK_RC(tine_event_wait(&shared->event, HANG_NS), 0);
        CHECK_RC(tine_queue_put(queue, buffer, 1 + (size_t)round * 14, HANG_NS), 0);
        CHECK_RC(tine_queue_get(queue, HANG_NS, buffer, sizeof buffer, &length), 0);
        int rc = tine_barrier_wait(&shared->barrier, HANG_NS);
        CHECK(rc == 0 || rc == 1);
    }
    return NULL;
}

static void uses_locks(void)
{
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_heap *heap = open_heap(4 << 20);
    struct shared *shared = (struct shared *)tine_heap_calloc(heap, 1, sizeof *shared);
    pthread_t threads[THREADS];
    CHECK(shared);
    CHECK_RC(tine_mutex_init(&shared->mutex, 0), 0);
    CHECK_RC(tine_condition_init(&shared->condition, 0), 0);
    CHECK_RC(tine_rwlock_init(&shared->lock, 0), 0);
    CHECK_RC(tine_semaphore_init(&shared->semaphore, 1, 1, 0), 0);
    CHECK_RC(tine_event_init(&shared->event, 0), 0);
    CHECK_RC(tine_barrier_init(&shared->barrier, THREADS, 0), 0);
    options.heap = heap;
    CHECK_RC(tine_queue_create(NULL, &options, &queue), 0);
    CHECK(pthread_barrier_init(&together, NULL, THREADS + 1) == 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, use, shared) == 0);
    }
    begin_to_refuse();
    pthread_barrier_wait(&together);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    tine_queue_destroy(queue);
    CHECK_RC(tine_heap_free(heap, shared), 0);
    CHECK_EQ(used_blocks(heap), 0);
    close_heap(heap);
}

static const struct scenario scenarios[] = {
    {"allocates", allocates, 0},
    {"allocates_in_a_pool", allocates_in_a_pool, 0},
    {"frees", frees, 0},
    {"trims", trims, 0},
    {"joins", joins, 0},
    {"lists", lists, 0},
    {"opens", opens, 0},
    {"uses_locks", uses_locks, 0},
};

int main(int argc, char **argv)
{
    return run_scenarios(scenarios, sizeof scenarios / sizeof *scenarios, argc, argv);
}
