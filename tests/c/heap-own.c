/* A heap of one's own in a segment: processes that have nothing but the segment in common build a structure in it, free
 * each other's blocks, and are killed in the middle of it. */
#include "family.h"
#include <limits.h>
#include <stdint.h>
#include <sys/resource.h>

static tine_segment *new_segment(size_t size)
{
    tine_segment *s;
    CHECK_RC(tine_segment_create(size, NULL, &s), 0);
    return s;
}

static tine_heap *attach(tine_segment *s)
{
    tine_heap *heap = NULL;
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    return heap;
}

static tine_heap_info stats_of(tine_heap *heap)
{
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(heap, &info), 0);
    return info;
}

static int exit_status(pid_t pid)
{
    int status = 0;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void blocks_of_all_kinds(void)
{
    tine_segment *s = new_segment(8 << 20);
    tine_heap *heap, *none = NULL;
    CHECK_RC(tine_heap_attach(s, NULL, &none), -EINVAL);
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    CHECK_RC(tine_heap_create(s, NULL, &none), -EEXIST);
    CHECK(none == NULL);
    unsigned char *block = (unsigned char *)tine_heap_calloc(heap, 100, 10);
    CHECK(block && tine_heap_block_size(heap, block) >= 1000 && tine_heap_contains(heap, block, 1000) == 1);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(block[i], 0);
    memset(block, 7, 1000);
    block = (unsigned char *)tine_heap_realloc(heap, block, 3 << 20);
    CHECK(block && block[0] == 7 && block[999] == 7);
    CHECK(!tine_heap_alloc(heap, 6 << 20) && !tine_heap_alloc(heap, SIZE_MAX));
    CHECK_RC(tine_heap_free(heap, block + 16), -EINVAL);
    CHECK_RC(tine_heap_free(heap, &heap), -EINVAL);
    CHECK_RC(tine_heap_free(heap, block), 0);
    CHECK_RC(tine_heap_free(heap, block), -EINVAL);
    CHECK_RC(tine_heap_free(heap, NULL), 0);
    CHECK_RC(tine_heap_free(NULL, NULL), -EINVAL);
    CHECK_EQ(tine_heap_contains(heap, &heap, 1), 0);
    CHECK_EQ(tine_heap_contains(heap, NULL, 0), 0);
    for (size_t alignment = 1; alignment <= (1u << 20); alignment *= 2) {
        void *aligned = tine_heap_alloc_aligned(heap, alignment, 333);
        CHECK(aligned && (uintptr_t)aligned % alignment == 0);
        CHECK_RC(tine_heap_free(heap, aligned), 0);
    }
    CHECK(!tine_heap_alloc_aligned(heap, 24, 16));
    /* All of it, in blocks of every size, and again. */
    for (int round = 0; round < 3; round++) {
        static void *blocks[100000];
        int count = 0;
        while (count < 100000 && (blocks[count] = tine_heap_alloc(heap, (size_t)(count % 50) * 37)))
            count++;
        CHECK(count > 7000);
        for (int i = 0; i < count; i++)
            CHECK_RC(tine_heap_free(heap, blocks[i]), 0);
    }
    CHECK_EQ(stats_of(heap).used_blocks, 0);
    uint64_t reserved = stats_of(heap).reserved_bytes;
    CHECK_RC(tine_heap_trim(heap), 0);
    CHECK(stats_of(heap).reserved_bytes < reserved);
    block = (unsigned char *)tine_heap_alloc(heap, 5 << 20);
    CHECK(block);
    memset(block, 1, 5 << 20);
    CHECK_RC(tine_segment_close(s), -EBUSY);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_heap_close(NULL), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

static void what_holds_no_heap(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_heap_options options = TINE_HEAP_OPTIONS_INIT;
    tine_segment_options any = TINE_SEGMENT_OPTIONS_INIT, read_only = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *s, *other;
    tine_heap *heap = NULL;
    options.error = &error;
    CHECK_RC(tine_heap_create(NULL, &options, &heap), -EINVAL);
    CHECK(error.code == -EINVAL && strstr(error.text, "NULL"));
    s = new_segment(100000);
    CHECK_RC(tine_heap_create(s, &options, &heap), -EINVAL);
    CHECK(strstr(error.text, "100000"));
    CHECK_RC(tine_heap_create(s, &options, NULL), -EINVAL);
    CHECK_RC(tine_segment_close(s), 0);
    any.flags = TINE_SEGMENT_ANY_ADDRESS;
    CHECK_RC(tine_segment_create(1 << 20, &any, &s), 0);
    CHECK_RC(tine_heap_create(s, &options, &heap), -EINVAL);
    CHECK_RC(tine_segment_close(s), 0);
    s = new_segment(1 << 20);
    memset(tine_segment_address(s), 5, 1 << 20);
    CHECK_RC(tine_heap_create(s, &options, &heap), -EEXIST);
    CHECK_RC(tine_heap_attach(s, &options, &heap), -EINVAL);
    CHECK_RC(tine_segment_attach(tine_segment_fd(s), &any, &other), 0);
    CHECK_RC(tine_heap_attach(other, &options, &heap), -EINVAL);
    CHECK_RC(tine_segment_close(other), 0);
    CHECK_RC(tine_segment_close(s), 0);
    read_only.flags = TINE_SEGMENT_READ_ONLY;
    CHECK_RC(tine_segment_create(1 << 20, &read_only, &s), 0);
    CHECK_RC(tine_heap_create(s, &options, &heap), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    heap = NULL;
    int fd = dup(tine_segment_fd(s));
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_segment_attach(fd, NULL, &s), 0);
    CHECK_RC(tine_heap_attach(s, &options, &heap), -EACCES);
    CHECK(heap == NULL);
    close(fd);
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_heap_close(tine_pool_heap(NULL)), 0);
}

struct seen {
    pid_t pid;
    int alive, times;
    uint64_t blocks;
};

static int look(const tine_heap_usage *usage, void *user)
{
    struct seen *seen = (struct seen *)user;
    if (usage->pid == seen->pid) {
        seen->alive = usage->alive;
        seen->blocks = usage->blocks;
        seen->times++;
    }
    return 0;
}

static int count_blocks(void *block, size_t length, void *user)
{
    CHECK(block && length >= 100);
    ++*(int *)user;
    return 0;
}

/* A process that leaves blocks: by its death, or by closing the heap. */
static void what_others_leave(int killed)
{
    tine_segment *s = new_segment(4 << 20);
    tine_heap *heap;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    void **shared = (void **)tine_heap_calloc(heap, 4, sizeof *shared);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(tine_heap_alloc(heap, 10) == NULL);
        CHECK_RC(tine_heap_free(heap, shared), TINE_EFORKED);
        CHECK_EQ(tine_heap_contains(heap, shared, 1), TINE_EFORKED);
        CHECK_RC(tine_heap_close(heap), 0);
        tine_heap *mine = attach(s);
        for (int i = 0; i < 3; i++)
            shared[i] = tine_heap_alloc(mine, i == 2 ? 300000 : 100);
        if (killed)
            raise(SIGKILL);
        CHECK_RC(tine_heap_close(mine), 0);
        exit(0);
    }
    CHECK_EQ(exit_status(child), killed ? 1000 + SIGKILL : 0);
    struct seen me = {getpid(), 0, 0, 0}, it = {child, 1, 0, 0};
    CHECK_EQ(tine_heap_processes(heap, look, &me), 2);
    CHECK_EQ(tine_heap_processes(heap, look, &it), 2);
    CHECK(me.alive == 1 && me.blocks == 1 && it.alive == 0 && it.blocks == 3 && it.times == 1);
    int count = 0;
    CHECK_EQ(tine_heap_blocks(heap, child, count_blocks, &count), 3);
    CHECK_EQ(count, 3);
    CHECK_RC(tine_heap_release_process(heap, getpid()), -EBUSY);
    CHECK_RC(tine_heap_free(heap, shared[0]), 0);
    CHECK_EQ(tine_heap_block_size(heap, shared[0]), 0);
    CHECK(tine_heap_block_size(heap, shared[1]) >= 100);
    CHECK_EQ(tine_heap_release_process(heap, child), 2);
    CHECK_EQ(tine_heap_release_process(heap, child), 0);
    CHECK_EQ(tine_heap_blocks(heap, child, count_blocks, &count), 0);
    CHECK_EQ(tine_heap_processes(heap, look, &it), 1);
    CHECK_EQ(stats_of(heap).used_blocks, 1);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* More processes than there are places, one after the other; none of them leaves anything. */
static void places_are_used_again(void)
{
    tine_segment *s = new_segment(1 << 20);
    tine_heap *heap, *none = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            tine_heap *mine = attach(s);
            void *block = tine_heap_alloc(mine, 1000);
            CHECK(block);
            CHECK_RC(tine_heap_free(mine, block), 0);
            _exit(0); /* Without closing it. */
        }
        CHECK_EQ(exit_status(child), 0);
    }
    tine_heap *many[251];
    for (int i = 0; i < 251; i++)
        many[i] = attach(s);
    CHECK_RC(tine_heap_attach(s, NULL, &none), -ENOSPC);
    for (int i = 0; i < 251; i++)
        CHECK_RC(tine_heap_close(many[i]), 0);
    CHECK_RC(tine_heap_close(attach(s)), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* ---- Kills ---- */

enum { SLOTS = 64, PROCESSES = 3 };

/* Where blocks change hands: who takes one out by exchange has it. */
static void rove(tine_segment *s, void *volatile *board, uint64_t seed)
{
    tine_heap *heap = attach(s);
    uint64_t random = seed | 1;
    for (;;) {
        size_t size = random_next(&random) % 8 ? random_next(&random) % 2000 : random_next(&random) % 200000;
        unsigned char *block = (unsigned char *)tine_heap_alloc(heap, size);
        if (block && size)
            memset(block, (int)size, size);
        void *other = __atomic_exchange_n(&board[random_next(&random) % SLOTS], block, __ATOMIC_ACQ_REL);
        if (other && tine_heap_free(heap, other) != 0)
            _exit(3);
    }
}

static void processes_are_killed(int kills)
{
    uint64_t random = random_seed();
    tine_segment *s = new_segment(64 << 20);
    tine_heap *heap;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    void *volatile *board = (void *volatile *)tine_heap_calloc(heap, SLOTS, sizeof(void *));
    pid_t pids[PROCESSES];
    memset(pids, 0, sizeof pids);
    for (int i = 0; i < kills; i++) {
        pid_t *place = &pids[random_next(&random) % PROCESSES];
        if (*place) {
            CHECK_EQ(kill(*place, SIGKILL), 0);
            CHECK_EQ(exit_status(*place), 1000 + SIGKILL);
        }
        uint64_t seed = random_next(&random);
        *place = fork();
        CHECK(*place >= 0);
        if (*place == 0)
            rove(s, board, seed);
        nap_ns((int64_t)(random_next(&random) % 3000000));
        if (i % 8 == 0)
            (void)stats_of(heap);
    }
    for (int i = 0; i < PROCESSES; i++)
        if (pids[i]) {
            kill(pids[i], SIGKILL);
            CHECK_EQ(exit_status(pids[i]), 1000 + SIGKILL);
        }
    /* What is on the board is in order and can be freed; what is not belongs to a dead process, one block for each. */
    for (int i = 0; i < SLOTS; i++)
        if (board[i])
            CHECK_RC(tine_heap_free(heap, board[i]), 0);
    struct seen me = {getpid(), 0, 0, 0};
    CHECK(tine_heap_processes(heap, look, &me) >= 1);
    CHECK_EQ(me.blocks, 1);
    uint64_t lost = stats_of(heap).used_blocks - 1;
    printf("%d kills, %llu blocks left by the dead\n", kills, (unsigned long long)lost);
    CHECK(lost <= (uint64_t)kills);
    CHECK_RC(tine_heap_free(heap, (void *)board), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* What dead processes had claimed and not finished is found again when there is nothing else. */
static void nothing_is_lost_to_the_dead(void)
{
    tine_segment *s = new_segment(8 << 20);
    tine_heap *heap;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    for (int i = 0; i < 40; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            tine_heap *mine = attach(s);
            for (;;)
                tine_heap_free(mine, tine_heap_alloc(mine, 3 << 20));
        }
        nap_ns(i * 100000);
        CHECK_EQ(kill(child, SIGKILL), 0);
        CHECK_EQ(exit_status(child), 1000 + SIGKILL);
        (void)tine_heap_release_process(heap, child);
    }
    CHECK_EQ(stats_of(heap).used_blocks, 0);
    void *most = tine_heap_alloc(heap, 7 << 20);
    CHECK(most);
    CHECK_RC(tine_heap_free(heap, most), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

static int opened_by_me(const tine_heap_usage *usage, void *count)
{
    *(int *)count += usage->pid == getpid() && usage->alive;
    return 0;
}

/* Short of descriptors a process doesn't know all of itself that others go by. Whatever it has put into its place, it takes out. */
static void short_of_descriptors(void)
{
    tine_segment *s = new_segment(1 << 20);
    tine_heap *heap, *mine;
    struct rlimit before;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    int attached = 0;
    for (int more = 0; more < 6; more++) {
        struct rlimit few = before;
        int count = 0, next = dup(2);
        CHECK(next > 0 && close(next) == 0);
        few.rlim_cur = (rlim_t)(next + more);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        int rc = tine_heap_attach(s, NULL, &mine);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (rc == 0) {
            attached++;
            CHECK_RC(tine_heap_close(mine), 0);
        }
        CHECK_EQ(tine_heap_processes(heap, opened_by_me, &count), 1);
        CHECK_EQ(count, 1);
    }
    CHECK(attached > 1);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* A process that replaces its program has no heap open any more, and does not end: so many programs, one after the other. */
enum { PROGRAMS = 300 };

static void run_program(const char *what, int left, int fd)
{
    char number[16], descriptor[16], program[] = "heap-own", word[16];
    snprintf(number, sizeof number, "%d", left);
    snprintf(descriptor, sizeof descriptor, "%d", fd);
    snprintf(word, sizeof word, "%s", what);
    char *arguments[] = {program, word, number, descriptor, NULL};
    execv("/proc/self/exe", arguments);
    _exit(126);
}

static int be_a_program(const char *what, int left, int fd)
{
    tine_segment *s;
    if (strcmp(what, "idle") == 0)
        for (;;)
            pause();
    CHECK_RC(tine_segment_attach(fd, NULL, &s), 0);
    tine_heap *heap = attach(s);
    CHECK(tine_heap_alloc(heap, 100));
    if (left > 0)
        run_program(strcmp(what, "last") == 0 ? "idle" : what, left - 1, fd);
    struct seen me = {getpid(), 0, 0, 0};
    CHECK(tine_heap_processes(heap, look, &me) > 0);
    /* What the programs before it have left, and its own block. */
    CHECK_EQ(me.times, 2);
    return 0;
}

static void programs_take_no_places(void)
{
    tine_segment *s = new_segment(32 << 20); /* what each leaves keeps 64 KiB from others */
    tine_heap *heap;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    int fd = dup(tine_segment_fd(s));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) run_program("next", PROGRAMS, fd);
    CHECK_EQ(exit_status(child), 0);
    CHECK_EQ(tine_heap_release_process(heap, child), PROGRAMS + 1);
    /* Nor is it known to live, by others than itself. */
    child = fork();
    CHECK(child >= 0);
    if (child == 0) run_program("last", 1, fd);
    struct seen it = {child, 1, 0, 0};
    WAIT_UNTIL(tine_heap_processes(heap, look, &it) > 0 && it.times && !it.alive && it.blocks == 1);
    CHECK_EQ(tine_heap_release_process(heap, child), 1);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
    close(fd);
}

/* The lowest bits of these are the number of this process. */
static void what_is_no_process(void)
{
    tine_segment *s = new_segment(1 << 20);
    tine_heap *heap;
    int count = 0;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        heap = attach(s);
        CHECK(tine_heap_alloc(heap, 100));
        _exit(0);
    }
    CHECK_EQ(exit_status(child), 0);
    const int wrong[] = {child | 1 << 22, child | 1 << 30, child | INT_MIN, 0, -1, 1 << 22, INT_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_RC(tine_heap_blocks(heap, wrong[i], count_blocks, &count), -EINVAL);
        CHECK_RC(tine_heap_release_process(heap, wrong[i]), -EINVAL);
    }
    CHECK_EQ(count, 0);
    CHECK_EQ(tine_heap_release_process(heap, child), 1);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return be_a_program(argv[1], atoi(argv[2]), atoi(argv[3]));
    blocks_of_all_kinds();
    what_holds_no_heap();
    what_others_leave(1);
    what_others_leave(0);
    places_are_used_again();
    programs_take_no_places();
    what_is_no_process();
    processes_are_killed(getenv("TINE_STORM") ? 2000 : 150);
    nothing_is_lost_to_the_dead();
    short_of_descriptors();
    return 0;
}
