/* The pool's heap: blocks of all kinds, what is listed, and what a dead worker leaves. */
#include <tine.h>
#include "family.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

static void blocks_of_all_kinds(tine_pool *pool)
{
    unsigned char *block = (unsigned char *)tine_calloc(pool, 100, 10);
    CHECK(block && tine_block_size(pool, block) >= 1000);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(block[i], 0);
        block[i] = (unsigned char)i;
    }
    block = (unsigned char *)tine_realloc(pool, block, 500000);
    CHECK(block && tine_block_size(pool, block) >= 500000);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(block[i], (unsigned char)i);
    CHECK_EQ(tine_is_shared(pool, block, 500000), 1);
    CHECK_EQ(tine_is_shared(pool, &pool, 1), 0);
    CHECK_EQ(tine_is_shared(pool, NULL, 0), 0);
    CHECK_EQ(tine_is_shared(pool, block, SIZE_MAX), 0);
    tine_free(pool, block);
    CHECK_EQ(tine_block_size(pool, block), 0);
    tine_free(pool, block);

    for (size_t alignment = 1; alignment <= (1u << 21); alignment *= 2) {
        void *aligned = tine_alloc_aligned(pool, alignment, 333);
        CHECK(aligned && (uintptr_t)aligned % alignment == 0);
        tine_free(pool, aligned);
    }
    CHECK(!tine_alloc_aligned(pool, 0, 16));
    CHECK(!tine_alloc_aligned(pool, 24, 16));
    CHECK(!tine_alloc(pool, SIZE_MAX));
    CHECK(!tine_calloc(pool, SIZE_MAX / 2, 3));
    CHECK(!tine_realloc(pool, &pool, 100));

    void *nothing = tine_alloc(pool, 0);
    CHECK(nothing && tine_realloc(pool, nothing, 0) == nothing);
    tine_free(pool, nothing);
    /* Pointers into a block, behind it, and to something else: left alone. */
    char *other = (char *)tine_alloc(pool, 100);
    tine_free(pool, other + 16);
    tine_free(pool, &other);
    tine_free(pool, NULL);
    CHECK_EQ(tine_block_size(pool, other + 16), 0);
    CHECK(tine_block_size(pool, other) >= 100);
    tine_free(pool, other);
}

static void memory_goes_back_to_the_system(tine_pool *pool)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    CHECK_EQ(info.used_blocks, 0);
    void *large = tine_alloc(pool, 100 << 20);
    CHECK(large != NULL);
    memset(large, 1, 100 << 20);
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    CHECK_EQ(info.used_blocks, 1);
    CHECK(info.used_bytes >= 100 << 20 && info.reserved_bytes >= info.used_bytes);
    tine_free(pool, large);
    CHECK_RC(tine_heap_trim(tine_pool_heap(pool)), 0);
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    CHECK_EQ(info.used_bytes, 0);
    CHECK(info.reserved_bytes < 2 << 20 && info.peak_bytes >= 100 << 20);
}

struct left { char *small, *large; int pid; };

static int allocate_and_die(tine_task *task)
{
    struct left *left = *(struct left *const *)tine_input(task, NULL);
    tine_pool *pool = tine_task_pool(task);
    left->small = (char *)tine_alloc(pool, 100);
    left->large = (char *)tine_alloc(pool, 300000);
    tine_free(pool, tine_alloc(pool, 5000));
    strcpy(left->small, "still here");
    left->pid = getpid();
    raise(SIGKILL);
    return 0;
}

struct seen { int pid; unsigned long long blocks; int dead, alive; };

static int look(const tine_heap_usage *usage, void *user)
{
    struct seen *seen = (struct seen *)user;
    CHECK_EQ(usage->size, sizeof *usage);
    *(usage->alive ? &seen->alive : &seen->dead) += 1;
    if (usage->pid == seen->pid)
        seen->blocks = usage->blocks;
    return 0;
}

static int count(void *block, size_t length, void *user)
{
    CHECK(block && length >= 100);
    *(size_t *)user += length;
    return 0;
}

static void a_dead_worker_leaves_its_blocks(tine_pool *pool)
{
    struct left *left = (struct left *)tine_calloc(pool, 1, sizeof *left);
    CHECK(left != NULL);
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_submit(pool, allocate_and_die, &left, sizeof left, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.status, TINE_EDIED);
    int pid = result.death->pid;
    CHECK_EQ(left->pid, pid);
    tine_result_release(pool, &result);

    struct seen seen = {pid, 0, 0, 0};
    CHECK(tine_heap_processes(tine_pool_heap(pool), look, &seen) >= 2);
    CHECK_EQ(seen.dead, 1);
    CHECK_EQ(seen.blocks, 2);
    size_t bytes = 0;
    CHECK_EQ(tine_heap_blocks(tine_pool_heap(pool), pid, count, &bytes), 2);
    CHECK(bytes >= 300100);
    CHECK_STR(left->small, "still here");
    tine_free(pool, left->small);
    CHECK_EQ(tine_heap_release_process(tine_pool_heap(pool), pid), 1);
    CHECK_EQ(tine_heap_release_process(tine_pool_heap(pool), pid), 0);
    CHECK_EQ(tine_heap_release_process(tine_pool_heap(pool), getpid()), -EBUSY);
    tine_free(pool, left);
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    CHECK_EQ(info.used_blocks, 0);
}

static int ask_as_worker(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    void *block = tine_alloc_aligned(pool, 4096, 4096);
    CHECK(block && (uintptr_t)block % 4096 == 0);
    CHECK_EQ(tine_is_shared(pool, block, 4096), 1);
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    CHECK_EQ(info.used_blocks, 1);
    tine_free(pool, block);
    CHECK_RC(tine_heap_trim(tine_pool_heap(pool)), 0);
    CHECK_RC(tine_heap_processes(tine_pool_heap(pool), look, NULL), TINE_EWORKER);
    CHECK_RC(tine_heap_release_process(tine_pool_heap(pool), 1), TINE_EWORKER);
    return 77;
}

static void workers_may_ask_too(tine_pool *pool)
{
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_submit(pool, ask_as_worker, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_EQ(result.status, 77);
    tine_result_release(pool, &result);
}

static void bad_input_is_answered(tine_pool *pool)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(NULL, &info), -EINVAL);
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), NULL), -EINVAL);
    info.size = 3;
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), -EINVAL);
    CHECK_RC(tine_heap_processes(tine_pool_heap(pool), NULL, NULL), -EINVAL);
    CHECK_RC(tine_heap_blocks(tine_pool_heap(pool), 1, NULL, NULL), -EINVAL);
    CHECK_RC(tine_heap_trim(NULL), -EINVAL);
    CHECK(!tine_alloc(NULL, 1) && !tine_calloc(NULL, 1, 1) && !tine_realloc(NULL, NULL, 1));
}

enum { THREADS = 4, SLOTS = 32, STEPS = 30000 };

struct board {
    tine_pool *pool;
    unsigned char *blocks[SLOTS];
};

/* Takes a block off the board, looks at it and frees it; puts a new one there. */
static void *exchange(void *argument)
{
    struct board *board = (struct board *)argument;
    uint64_t random = (uint64_t)(uintptr_t)&random | 1;
    for (int i = 0; i < STEPS; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t size = random % 16 == 0 ? 70000 + random % 100000 : 1 + random % 2000;
        unsigned char *block = (unsigned char *)tine_alloc(board->pool, size);
        CHECK(block);
        block[0] = (unsigned char)i;
        block[size - 1] = block[0];
        unsigned char *other = __atomic_exchange_n(&board->blocks[(random >> 20) % SLOTS], block, __ATOMIC_ACQ_REL);
        if (other) {
            CHECK_RC(tine_heap_free(tine_pool_heap(board->pool), other), 0);
        }
    }
    return NULL;
}

static void threads_use_one_heap(tine_pool *pool)
{
    struct board board;
    tine_heap_info before = TINE_HEAP_INFO_INIT, after = TINE_HEAP_INFO_INIT;
    pthread_t threads[THREADS];
    memset(&board, 0, sizeof board);
    board.pool = pool;
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &before), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, exchange, &board), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < SLOTS; i++)
        tine_free(pool, board.blocks[i]);
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &after), 0);
    CHECK_EQ(after.used_blocks, before.used_blocks);
}

/* One block of each size that there are slabs for. */
enum { SIZES = 44, SMALL_HEAP = 8 << 20, MOST_OF_IT = 6 << 20 };

static int one_of_each(tine_pool *pool, void **blocks)
{
    size_t size = 0, step = 16;
    for (int i = 0; i < SIZES; i++) {
        if (i >= 8 && i % 4 == 0)
            step = size / 4;
        size += step;
        blocks[i] = tine_alloc(pool, size);
        if (!blocks[i])
            return -ENOMEM;
    }
    return 0;
}

/* Somebody else has them last; then nearly all of the heap is to be had in one piece, though who made them does nothing but sleep. */
static int nearly_all_is_free(tine_pool *pool, void *const *blocks)
{
    int64_t last = 0, spent = 0;
    for (int i = 0; i < SIZES; i++)
        tine_free(pool, blocks[i]);
    while (!is_over(20000000000, &last, &spent)) {
        void *most = tine_alloc(pool, MOST_OF_IT);
        tine_free(pool, most);
        if (most)
            return 0;
        nap_ns(1000000);
    }
    return -ENOMEM;
}

static int make_one_of_each(tine_task *task)
{
    void *blocks = tine_output(task, SIZES * sizeof(void *));
    return blocks ? one_of_each(tine_task_pool(task), (void **)blocks) : -ENOMEM;
}

static int free_one_of_each(tine_task *task)
{
    return nearly_all_is_free(tine_task_pool(task), (void *const *)tine_input(task, NULL));
}

static void who_sleeps_keeps_nothing(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool;
    tine_id id;
    void *blocks[SIZES];
    options.workers = 1;
    options.heap_bytes = SMALL_HEAP;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_submit(pool, make_one_of_each, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_RC(result.status, 0);
    CHECK_EQ(result.length, sizeof blocks);
    memcpy(blocks, result.data, sizeof blocks);
    tine_result_release(pool, &result);
    CHECK_RC(nearly_all_is_free(pool, blocks), 0);

    CHECK_RC(one_of_each(pool, blocks), 0);
    CHECK_RC(tine_submit(pool, free_one_of_each, blocks, sizeof blocks, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_RC(result.status, 0);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    tine_pool *pool;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    blocks_of_all_kinds(pool);
    memory_goes_back_to_the_system(pool);
    a_dead_worker_leaves_its_blocks(pool);
    workers_may_ask_too(pool);
    bad_input_is_answered(pool);
    threads_use_one_heap(pool);
    tine_pool_destroy(pool);
    who_sleeps_keeps_nothing();
    return 0;
}
