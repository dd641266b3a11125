/* A worker that writes whatever it likes over everything that it shares with the host: the heap with its directory and
   slabs, its ring, its eventfd. The host must not crash, hang, or report what cannot be; at worst the worker is declared
   dead. User data may be garbage afterwards, so what tasks return is not checked here, only that they settle.

   Each way of being hostile runs against a host of its own, in a child process under a watchdog. */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HEAP = 64 << 20, WORKERS = 2, SECONDS_LIMIT = 10 };

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- In the worker ---- */

struct attack {
    char kind[16];
    int milliseconds;
    uint64_t seed;
};

static uint64_t state;

static uint64_t chance(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

struct range {
    uint64_t *start;
    size_t words;
};

/* The shared mapping whose name contains this; only as far as its file goes. */
static struct range mapping(const char *name)
{
    struct range range = {NULL, 0};
    char line[500];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char flags[8];
        if (strstr(line, name) && sscanf(line, "%lx-%lx %7s", &start, &end, flags) == 3 && flags[3] == 's') {
            range.start = (uint64_t *)start;
            range.words = (end - start) / 8;
        }
    }
    if (maps)
        fclose(maps);
    return range;
}

/* What a word may become: numbers that mean something somewhere, and noise. */
static uint64_t nasty(uint64_t old)
{
    static const uint64_t known[] = {0, 1, 2, 3, 63, 64, 65, 1u << 31, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX,
                                     UINT64_MAX - 7, 4096, 65536};
    switch (chance() % 5) {
    case 0: return known[chance() % (sizeof known / sizeof *known)];
    case 1: return old + chance() % 7 - 3;
    case 2: return old ^ (uint64_t)1 << chance() % 64;
    /* An entry of the heap's directory: kind, class, owner, length or distance. */
    case 3: return chance() % 6 << 56 | chance() % 50 << 48 | chance() % 4 << 32 | chance() % 70;
    default: return chance();
    }
}

static void scribble(struct range range, int64_t until)
{
    volatile uint64_t *words = range.start;
    while (now_ns() < until)
        for (int i = 0; i < 100; i++) {
            uint64_t *word = &range.start[chance() % range.words];
            if (chance() % 2)
                words[word - range.start] = nasty(*word);
            else
                ((volatile uint32_t *)word)[chance() % 2] = (uint32_t)nasty(*word);
        }
}

/* Descriptors of this process whose link contains this. */
static int descriptors(const char *name, int *fds, int room)
{
    int count = 0;
    for (int fd = 3; fd < 64 && count < room; fd++) {
        char path[64], link[200];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, link, sizeof link - 1);
        if (length > 0 && (link[length] = '\0', strstr(link, name)))
            fds[count++] = fd;
    }
    return count;
}

/* The heap's file as long as it is: its header, its directory, and all that has been handed out. */
static struct range heap(void)
{
    struct range range = mapping("tine-heap");
    int fd;
    struct stat file;
    if (descriptors("tine-heap", &fd, 1) == 1 && fstat(fd, &file) == 0 && (size_t)file.st_size / 8 < range.words)
        range.words = (size_t)file.st_size / 8;
    return range;
}

static void *scribbler(void *argument)
{
    const struct attack *attack = (const struct attack *)argument;
    int64_t until = now_ns() + (int64_t)attack->milliseconds * 1000000;
    struct range all = heap(), directory = all, ring = mapping("tine-ring");
    int events[8], count = descriptors("eventfd", events, 8), heap_fd = -1;
    descriptors("tine-heap", &heap_fd, 1);
    if (!all.start || !ring.start || count == 0 || heap_fd < 0) {
        fprintf(stderr, "nothing to scribble on: heap %p, ring %p, %d eventfds\n", (void *)all.start,
                (void *)ring.start, count);
        abort();
    }
    if (directory.words > 512 + HEAP / 65536)
        directory.words = 512 + HEAP / 65536; /* a page, then a word for each 64 KiB */
    if (strcmp(attack->kind, "ring") == 0) {
        struct range front = ring;
        front.words = ring.words < 300 ? ring.words : 300; /* where most is decided */
        while (now_ns() < until) {
            scribble(chance() % 2 ? front : ring, now_ns() + 100000);
            usleep(chance() % 500);
        }
    } else if (strcmp(attack->kind, "directory") == 0) {
        scribble(directory, until);
    } else if (strcmp(attack->kind, "heap") == 0) {
        scribble(all, until);
    } else if (strcmp(attack->kind, "taken") == 0) {
        /* The directory full to its end, of what is nobody's. */
        while (now_ns() < until)
            for (size_t i = 512; i < directory.words; i++)
                ((volatile uint64_t *)all.start)[i] = (uint64_t)1 << 56 | (uint64_t)999 << 32;
    } else if (strcmp(attack->kind, "events") == 0 || strcmp(attack->kind, "legacy") == 0) {
        uint64_t most = UINT64_MAX - 1;
        for (int i = 0; i < count; i++) {
            int64_t stop = now_ns() + (until - now_ns()) / count;
            fcntl(events[i], F_SETFL, O_NONBLOCK);
            while (now_ns() < stop)
                if (read(events[i], &most, sizeof most) < 0)
                    usleep(10);
            /* Left full: nobody can make it readable once more. */
            most = UINT64_MAX - 1;
            while (write(events[i], &most, sizeof most) < 0 && errno == EAGAIN && read(events[i], &most, 8) > 0)
                most = UINT64_MAX - 1;
        }
        if (strcmp(attack->kind, "legacy") == 0) {
            /* Besides, whoever writes to it waits for ever; and that is not this process. */
            for (int i = 0; i < count; i++)
                fcntl(events[i], F_SETFL, 0);
            raise(SIGKILL);
        }
    } else if (strcmp(attack->kind, "file") == 0) {
        /* Its length and its seals. */
        struct stat file;
        int rc = 0;
        while (now_ns() < until && fstat(heap_fd, &file) == 0) {
            rc |= ftruncate(heap_fd, file.st_size + (off_t)(chance() % 4 << 16));
            rc |= ftruncate(heap_fd, 4096);
            usleep(1000);
        }
        rc |= ftruncate(heap_fd, (off_t)1 << 40);
        rc |= fcntl(heap_fd, F_ADD_SEALS, F_SEAL_GROW);
        rc |= fcntl(heap_fd, F_ADD_SEALS, 0x0010 /* F_SEAL_FUTURE_WRITE */);
        rc |= fcntl(heap_fd, F_ADD_SEALS, F_SEAL_SEAL);
        if (rc == 0)
            fprintf(stderr, "everything was allowed\n");
        raise(SIGKILL); /* the next worker has to map what is left */
    }
    return NULL;
}

/* Hostile while it runs. */
static int attack_now(tine_task *task)
{
    struct attack attack = *(const struct attack *)tine_input(task, NULL);
    state = attack.seed * 0x9e3779b97f4a7c15u + 1;
    scribbler(&attack);
    return 0;
}

/* Hostile from behind, while the worker takes further tasks. */
static int attack_later(tine_task *task)
{
    struct attack *attack = (struct attack *)malloc(sizeof *attack);
    pthread_t thread;
    memcpy(attack, tine_input(task, NULL), sizeof *attack);
    state = attack->seed * 0x9e3779b97f4a7c15u + 1;
    return pthread_create(&thread, NULL, scribbler, attack);
}

static int some_work(tine_task *task)
{
    size_t length;
    const unsigned char *in = (const unsigned char *)tine_input(task, &length);
    size_t wanted = length >= 2 ? in[0] * 300u : 3;
    unsigned char *out = (unsigned char *)tine_output(task, wanted);
    if (out && wanted > 0)
        memset(out, 1, wanted);
    return wanted % 7 == 0 ? tine_fail(task, -EIO, "%zu bytes", wanted) : 1;
}

static int some_item(tine_task *task, const void *in, void *out)
{
    if (*(const unsigned char *)in % 11 == 0)
        return tine_fail(task, -ERANGE, "item %d", *(const unsigned char *)in);
    *(unsigned char *)out = 1;
    return 0;
}

/* ---- In the host ---- */

static tine_pool *pool;
static size_t sum;

static void look_at(const tine_result *result)
{
    /* All that the host is told must be readable: its memory is checked by reading it. */
    CHECK(result->message != NULL);
    sum += strlen(result->message);
    CHECK((result->data == NULL) == (result->length == 0));
    if (result->data) {
        CHECK(result->length <= HEAP);
        sum += ((const unsigned char *)result->data)[0];
        sum += ((const unsigned char *)result->data)[result->length - 1];
    }
    if (result->death)
        sum += strlen(result->death->backtrace) + (size_t)result->death->pid;
    CHECK(result->delivery == TINE_RAN || result->delivery == TINE_NOT_STARTED || result->delivery == TINE_MAYBE_RAN);
}

static void on_failure(const tine_result *result, size_t item, void *user)
{
    look_at(result);
    CHECK(item < *(size_t *)user);
}

static void progress(size_t done, size_t total, void *user)
{
    CHECK(done <= total && total == *(size_t *)user);
}

static uint64_t host_state = 88172645463325252u;

static uint64_t host_chance(void)
{
    host_state ^= host_state << 13;
    host_state ^= host_state >> 7;
    host_state ^= host_state << 17;
    return host_state;
}

/* A round of everything that a host does. Out of memory is an answer; a panic inside tine is not. */
static void a_round(void)
{
    static unsigned char bytes[70000], out[70000];
    static int status[70000];
    enum { TASKS = 60 };
    tine_id ids[TASKS];
    void *blocks[20];
    int count = 0;
    for (int i = 0; i < 20; i++) {
        size_t size = host_chance() % 3 == 0 ? host_chance() % 300000 : host_chance() % 3000;
        blocks[i] = tine_alloc(pool, size);
        if (blocks[i])
            memset(blocks[i], 0x11, size);
    }
    for (int i = 0; i < TASKS; i++) {
        bytes[0] = (unsigned char)host_chance();
        int rc = tine_submit(pool, some_work, bytes, host_chance() % 2 ? host_chance() % 200 : host_chance() % 70000,
                             NULL, &ids[count]);
        CHECK(rc == 0 || rc == -ENOMEM);
        count += rc == 0;
    }
    for (int i = 0; i < count; i++) {
        tine_result result = TINE_RESULT_INIT;
        if (host_chance() % 8 == 0)
            tine_cancel(pool, ids[i]);
        CHECK_RC(tine_wait(pool, ids[i], TINE_FOREVER, &result), 0);
        look_at(&result);
        tine_result_release(pool, &result);
    }
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    size_t items = 1 + host_chance() % sizeof bytes;
    options.status = status;
    options.chunk = host_chance() % 2 ? 0 : host_chance() % 1000;
    options.on_failure = on_failure;
    options.progress = progress;
    options.user = &items;
    options.context = bytes;
    options.context_length = host_chance() % 1000;
    for (size_t i = 0; i < items; i++)
        bytes[i] = (unsigned char)i;
    int rc = tine_map(pool, some_item, bytes, 1, out, 1, items, &options);
    if (rc != 0 && rc != -ENOMEM)
        CHECK_RC(rc, TINE_EITEMS);
    for (int i = 0; i < 20; i++)
        tine_free(pool, blocks[i]);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK(stats.outstanding <= 1); /* the hostile task itself */
    CHECK_EQ(stats.workers, WORKERS);
    CHECK_EQ(stats.supervisor_deaths, 0);
}

static void host(const char *kind, int later, int milliseconds, uint64_t seed, int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = WORKERS;
    options.heap_bytes = HEAP;
    options.start = start;
    host_state += seed;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    struct attack attack;
    memset(&attack, 0, sizeof attack);
    snprintf(attack.kind, sizeof attack.kind, "%s", kind);
    attack.milliseconds = milliseconds;
    int64_t until = now_ns() + (int64_t)milliseconds * 1000000;
    int rounds = 0;
    while (now_ns() < until || rounds < 3) {
        /* One hostile worker after the other: one that dies of it is followed by another. */
        tine_id id = 0;
        tine_result result = TINE_RESULT_INIT;
        attack.seed = seed * 1000 + (uint64_t)rounds;
        attack.milliseconds = later ? 100 : 20;
        CHECK_RC(tine_submit(pool, later ? attack_later : attack_now, &attack, sizeof attack, NULL, &id), 0);
        a_round();
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
        look_at(&result);
        tine_result_release(pool, &result);
        rounds++;
    }
    tine_pool_shutdown(pool, 2000000000);
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *kind;
        int later;
    } ways[] = {{"ring", 0}, {"ring", 1},   {"directory", 0}, {"directory", 1}, {"heap", 0}, {"heap", 1},
                {"taken", 0}, {"taken", 1}, {"events", 0},    {"events", 1},    {"legacy", 0}, {"legacy", 1},
                {"file", 0},  {"file", 1}};
    CHECK_RC(tine_init(argc, argv), 0);
    /* hostile WAY MILLISECONDS SEED: one of them, for longer. */
    if (argc == 4) {
        size_t way = (size_t)atoi(argv[1]);
        host(ways[way].kind, ways[way].later, atoi(argv[2]), (uint64_t)atoi(argv[3]), TINE_START_FORKSERVER);
        return 0;
    }
    const char *only = getenv("TINE_HOSTILE_SEED");
    uint64_t seed = only ? (uint64_t)atoi(only) : (uint64_t)time(NULL);
    int failed = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(SECONDS_LIMIT);
            host(ways[i].kind, ways[i].later, 300, seed, i % 3 == 0 ? TINE_START_SPAWN : TINE_START_FORKSERVER);
            _exit(0);
        }
        int status = 0;
        CHECK_EQ(waitpid(child, &status, 0), child);
        if (status != 0) {
            fprintf(stderr, "%s, %s (way %zu, seed %llu): the host's wait status is %#x%s\n", ways[i].kind,
                    ways[i].later ? "from behind" : "in a task", i, (unsigned long long)seed, status,
                    WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? ": it hung" : "");
            failed = 1;
        }
    }
    return failed;
}
