/* For tests that kill: who belongs to a pool's family, what a host has open, and waiting with a limit.
 *
 * A test that calls tag_family() first thing in main runs with a word of its own in its environment. Everything that it
 * starts inherits that word, workers' descendants and orphans too, so /proc can be asked who is left. */
#ifndef FAMILY_H
#define FAMILY_H

#include "pools.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Ten times what is promised, and more: only what hangs reaches it. */
#define HANG_NS ((int64_t)10 * 1000 * 1000 * 1000)

#define TAG_VARIABLE "TINE_TEST_FAMILY"

static inline int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Between two looks at a condition that nothing announces. */
static inline void nap_ns(int64_t ns)
{
    struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    while (nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}

/* Counts the time between two looks at the clock, but at most 100 ms of it: a machine that stood still, as a virtual one
 * does when it is saved or moved, does not make anything hang. Whether `limit_ns` are over. */
static inline int is_over(int64_t limit_ns, int64_t *last, int64_t *spent)
{
    int64_t now = clock_ns(), passed = now - *last;
    *last = now;
    *spent += passed < 100000000 ? passed : 100000000;
    return *spent > limit_ns;
}

/* Waits until a condition holds; a test that has to wait for longer than the limit has failed. */
#define WAIT_UNTIL(condition)                                                                \
    do {                                                                                     \
        int64_t last_ = clock_ns(), spent_ = 0;                                              \
        while (!(condition)) {                                                               \
            if (is_over(HANG_NS, &last_, &spent_)) {                                         \
                fprintf(stderr, "%s:%d: still not after %d s: %s\n", __FILE__, __LINE__,     \
                        (int)(HANG_NS / 1000000000), #condition);                            \
                exit(1);                                                                     \
            }                                                                                \
            nap_ns(200000);                                                                  \
        }                                                                                    \
    } while (0)

/* xorshift64*: the same numbers for the same seed, whatever the C library. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static inline uint64_t random_seed(void)
{
    const char *text = getenv("TINE_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)clock_ns() ^ ((uint64_t)getpid() << 40);
    seed |= 1;
    printf("seed: TINE_TEST_SEED=0x%llx\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

static inline const char *family_tag(void)
{
    const char *tag = getenv(TAG_VARIABLE);
    return tag ? tag : "";
}

/* First thing in main: executes the program once more, with the word in its environment. Only what was there at exec
 * can be seen in /proc, and a forked supervisor is never executed. */
static inline void tag_family(char **argv)
{
    char tag[64];
    if (getenv(TAG_VARIABLE)) {
        return;
    }
    snprintf(tag, sizeof tag, "%d-%lld", (int)getpid(), (long long)clock_ns());
    setenv(TAG_VARIABLE, tag, 1);
    execv("/proc/self/exe", argv);
    perror("execv");
    exit(1);
}

struct process {
    pid_t pid, parent;
    char state;
    char name[20];
};

/* Reads a small file of /proc; its length, or -1. */
static inline ssize_t read_file(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = 0, got = -1;
    if (fd < 0) {
        return -1;
    }
    while ((size_t)length < size - 1 && (got = read(fd, buffer + length, size - 1 - (size_t)length)) > 0) {
        length += got;
    }
    close(fd);
    buffer[length] = 0;
    return got < 0 && length == 0 ? -1 : length;
}

static inline int is_tagged(pid_t pid, const char *tag)
{
    static const char variable[] = TAG_VARIABLE "=";
    char path[64], text[32768];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    ssize_t length = read_file(path, text, sizeof text);
    for (const char *at = text; at < text + length; at += strlen(at) + 1) {
        if (strncmp(at, variable, sizeof variable - 1) == 0) {
            return strcmp(at + sizeof variable - 1, tag) == 0;
        }
    }
    return 0;
}

/* What /proc says of a process; 0 if it is gone or has ended. */
static inline int look_at(pid_t pid, struct process *out)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) <= 0) {
        return 0;
    }
    char *open_ = strchr(text, '('), *close_ = strrchr(text, ')');
    int parent = 0;
    if (!open_ || !close_ || sscanf(close_ + 1, " %c %d", &out->state, &parent) != 2) {
        return 0;
    }
    *close_ = 0;
    out->pid = pid;
    out->parent = parent;
    snprintf(out->name, sizeof out->name, "%.19s", open_ + 1);
    return out->state != 'Z' && out->state != 'X';
}

static inline int is_stopped(pid_t pid)
{
    struct process process;
    return look_at(pid, &process) && process.state == 'T';
}

/* The living processes of a family, but for the caller and `besides`. A process in the middle of an exec may be missed:
 * look twice before you say that nobody is left. */
static inline int list_family(const char *tag, pid_t besides, struct process *out, int room)
{
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir("/proc");
    CHECK(folder);
    while (count < room && (entry = readdir(folder))) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid <= 1 || pid == getpid() || pid == besides || !is_tagged(pid, tag)) {
            continue;
        }
        count += look_at(pid, &out[count]);
    }
    closedir(folder);
    return count;
}

static inline int family_is_gone(const char *tag, pid_t besides)
{
    struct process left[1];
    return list_family(tag, besides, left, 1) == 0 && list_family(tag, besides, left, 1) == 0;
}

/* A random process of the family, which a killer beside the host is to kill. NULL where nobody is there, and for the keeper, which a
 * supervisor is made by: tests/c/birth.c kills that. `family` gets everybody who is there, `count` how many they are. */
static inline const struct process *pick_victim(pid_t host, uint64_t *random, struct process *family, int room, int *count)
{
    *count = list_family(family_tag(), host, family, room);
    const struct process *victim = *count > 0 ? &family[random_next(random) % (uint64_t)*count] : NULL;
    return victim && victim->parent != host ? victim : NULL;
}

static inline void print_family(const char *tag)
{
    struct process left[64];
    int count = list_family(tag, 0, left, 64);
    for (int i = 0; i < count; i++) {
        fprintf(stderr, "  left: %d %s, state %c, child of %d\n", (int)left[i].pid, left[i].name, left[i].state,
                (int)left[i].parent);
    }
}

/* ---- What a host has open ---- */

struct belongings {
    int descriptors, mappings, threads, children, shared_mappings;
};

static inline int count_entries(const char *path)
{
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir(path);
    CHECK(folder);
    while ((entry = readdir(folder))) {
        count += entry->d_name[0] != '.';
    }
    closedir(folder);
    return count;
}

/* Children of every thread and of every kind; zombies count. */
static inline int count_children(void)
{
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir("/proc/self/task");
    CHECK(folder);
    while ((entry = readdir(folder))) {
        char path[300], text[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "/proc/self/task/%s/children", entry->d_name);
        if (read_file(path, text, sizeof text) > 0) {
            for (const char *at = text; *at; at++) {
                count += *at == ' ';
            }
        }
    }
    closedir(folder);
    return count;
}

static inline struct belongings take_stock(void)
{
    struct belongings stock;
    size_t size = 1 << 20;
    char *text = (char *)malloc(size);
    CHECK(text);
    memset(&stock, 0, sizeof stock);
    stock.descriptors = count_entries("/proc/self/fd");
    stock.threads = count_entries("/proc/self/task");
    stock.children = count_children();
    CHECK(read_file("/proc/self/maps", text, size) > 0);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        stock.mappings++;
        stock.shared_mappings += strstr(line, "memfd:") != NULL;
    }
    free(text);
    return stock;
}

/* A keeper that takes longer to end than destroy waits for it, as on a machine that is busy, is let go of by a later call. */
static inline void let_go_of_keepers(int children)
{
    int64_t last = clock_ns(), spent = 0;
    while (count_children() > children && !is_over(HANG_NS, &last, &spent)) {
        tine_pool *pool;
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.workers = 1;
        if (tine_pool_create(&options, &pool) == 0) {
            tine_pool_destroy(pool);
        }
    }
}

/* After a pool, a host has what it had before, but for mappings: the C library keeps the stacks of threads. */
static inline struct belongings check_stock_but_stacks(struct belongings before)
{
    let_go_of_keepers(before.children);
    /* A thread that has been joined is listed for a moment longer. */
    WAIT_UNTIL(count_entries("/proc/self/task") <= before.threads);
    struct belongings now = take_stock();
    CHECK_EQ(now.descriptors, before.descriptors);
    CHECK(now.children <= before.children);
    CHECK_EQ(now.shared_mappings, before.shared_mappings);
    return now;
}

/* AddressSanitizer's own allocator maps what it likes. */
#if defined __SANITIZE_ADDRESS__
#define MAPPINGS_ARE_COUNTED 0
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define MAPPINGS_ARE_COUNTED 0
#endif
#endif
#ifndef MAPPINGS_ARE_COUNTED
#define MAPPINGS_ARE_COUNTED 1
#endif

/* And that may be a few mappings; one for each death would be hundreds. musl's malloc has one for each group of blocks. */
static inline void check_stock(struct belongings before)
{
#ifdef __GLIBC__
    const int kept = 8;
#else
    const int kept = 40;
#endif
    struct belongings now = check_stock_but_stacks(before);
    if (MAPPINGS_ARE_COUNTED && now.mappings > before.mappings + kept) {
        fprintf(stderr, "%d mappings, %d before\n", now.mappings, before.mappings);
        exit(1);
    }
}

/* A test's main, whose `run` is called with each start method in turn, and leaves no process and nothing open. */
static inline int run_with_each_start(int argc, char **argv, void (*run)(int start))
{
    tag_family(argv);
    tine_init(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    tine_pool_destroy(create_pool(TINE_START_FORKSERVER, 1, 0));
    struct belongings before = take_stock();
    for (int i = 0; i < 3; i++) {
        int64_t began = clock_ns();
        run(all_starts[i]);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
        check_stock(before);
        printf("%-10s %.1f s\n", start_name(all_starts[i]), (double)(clock_ns() - began) / 1e9);
    }
    return 0;
}

static inline int compare_int64(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* p50, p99 and the largest, in milliseconds. */
static inline void print_percentiles(const char *what, int64_t *ns, size_t count)
{
    if (count == 0) {
        printf("%-44s none\n", what);
        return;
    }
    qsort(ns, count, sizeof *ns, compare_int64);
    printf("%-44s p50 %.2f ms, p99 %.2f ms, max %.2f ms (%zu)\n", what, (double)ns[count / 2] / 1e6,
           (double)ns[count * 99 / 100] / 1e6, (double)ns[count - 1] / 1e6, count);
    fflush(stdout);
}

#endif
