/* Where memory is short or the system is odd: /dev/shm missing, full, read-only, of 64 KiB; limits on file sizes, on address
 * space, on locked memory, of a memory cgroup; a host whose memory is locked, a core dump. tine works, or says why not;
 * nobody gets a signal. Each case is a process of its own: this program, `environment CASE`.
 *
 * A case that needs a right that there is not (it exits with 77) is named on a line that begins with "not tested". */
#include "cgroup.h"
#include "status.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

enum { NOT_HERE = 77, MIB = 1 << 20 };

static int sum_up(tine_task *task)
{
    size_t length;
    const unsigned char *in = (const unsigned char *)tine_input(task, &length);
    int sum = 0;
    for (size_t i = 0; i < length; i += 4096)
        sum += in[i];
    return sum;
}

/* As many MiB of the heap as there are, and how many that was. */
static int fill(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    void **list = NULL, **block;
    int count = 0;
    while (count < 2000 && (block = (void **)tine_alloc(pool, MIB))) {
        memset(block, 1, MIB);
        *block = list;
        list = block;
        count++;
    }
    while ((block = list)) {
        list = (void **)*block;
        tine_free(pool, block);
    }
    tine_heap_trim(tine_pool_heap(pool));
    return count;
}

static int large_output(tine_task *task)
{
    return tine_output(task, (size_t)200 * MIB) ? 1 : 0;
}

static int create(tine_pool **pool, int start, tine_error *error)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    options.start = start;
    options.error = error;
    return tine_pool_create(&options, pool);
}

/* All that is shared, 60 MiB of it. */
static void everything(int start)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool;
    tine_segment *s, *plain;
    tine_heap *heap;
    CHECK_RC(create(&pool, start, &error), 0);
    unsigned char *block = (unsigned char *)tine_alloc(pool, 30 * MIB);
    CHECK(block);
    memset(block, 1, 30 * MIB);
    CHECK_EQ(call(pool, sum_up, block, 30 * MIB), 30 * MIB / 4096);
    CHECK_RC(tine_segment_create(20 * MIB, NULL, &plain), 0);
    memset(tine_segment_address(plain), 2, 20 * MIB);
    CHECK_RC(tine_pool_share(pool, plain, TINE_FOREVER), 0);
    CHECK_RC(tine_segment_create(10 * MIB, NULL, &s), 0);
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    CHECK(tine_heap_alloc(heap, 9 * MIB));
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_segment_close(plain), 0);
    tine_pool_destroy(pool);
}

/* A pool in need: what it does not get is an error, and all else goes on. */
static void get_along(tine_pool *pool, int most)
{
    int count = 0;
    void **list = NULL, **block;
    while (count < most && (block = (void **)tine_alloc(pool, MIB))) {
        memset(block, 1, MIB);
        *block = list;
        list = block;
        count++;
    }
    printf("%d MiB in the host\n", count);
    CHECK(count < most);
    while ((block = list)) {
        list = (void **)*block;
        tine_free(pool, block);
    }
    CHECK_RC(tine_heap_trim(tine_pool_heap(pool)), 0);
    count = call(pool, fill, NULL, 0);
    printf("%d MiB in a worker\n", count);
    CHECK(count >= 0 && count < most);
    CHECK_EQ(call(pool, large_output, NULL, 0), 0);
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create((size_t)most * MIB, NULL, &s), -ENOMEM);
    CHECK(s == NULL);
    unsigned char input[5000];
    memset(input, 1, sizeof input);
    for (int i = 0; i < 50; i++)
        CHECK_EQ(call(pool, sum_up, input, sizeof input), 2);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    CHECK_EQ(stats.supervisor_deaths, 0);
}

/* ---- /dev/shm ---- */

static void in_namespace(void)
{
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        exit(NOT_HERE);
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        exit(NOT_HERE);
}

static void all_starts_in(void)
{
    for (int i = 0; i < 3; i++)
        everything(all_starts[i]);
}

static void mount_shm(const char *options, unsigned long flags)
{
    in_namespace();
    if (mount("tmpfs", "/dev/shm", "tmpfs", flags, options) != 0)
        exit(NOT_HERE);
}

static void without_shm(void)
{
    in_namespace();
    if (mount("tmpfs", "/dev", "tmpfs", 0, "") != 0 || mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)) != 0)
        exit(NOT_HERE);
    CHECK(access("/dev/shm", F_OK) != 0);
    all_starts_in();
}

static void full_shm(void)
{
    mount_shm("size=1m", 0);
    int fd = open("/dev/shm/full", O_CREAT | O_WRONLY, 0600);
    static char page[4096];
    while (write(fd, page, sizeof page) > 0) {
    }
    CHECK_EQ(errno, ENOSPC);
    close(fd);
    all_starts_in();
}

static void read_only_shm(void)
{
    mount_shm("", MS_RDONLY);
    CHECK(open("/dev/shm/x", O_CREAT | O_WRONLY, 0600) < 0);
    all_starts_in();
}

static void small_shm(void)
{
    mount_shm("size=64k", 0);
    all_starts_in();
}

/* ---- Limits ---- */

static void set_limit(int which, rlim_t value)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit((rlimit_resource)which, &limit), 0);
    limit.rlim_cur = value;
    limit.rlim_max = limit.rlim_max < value ? limit.rlim_max : value;
    CHECK_EQ(setrlimit((rlimit_resource)which, &limit), 0);
}

/* A limit may leave room for a pool and none for what a task takes: how much that is depends on the size of the program. */
static int takes_a_task(tine_pool *pool)
{
    tine_id id;
    unsigned char input[5000] = {0};
    int rc = tine_submit(pool, sum_up, input, sizeof input, NULL, &id);
    if (rc == -ENOMEM || rc == -EAGAIN) return 0; /* -EAGAIN: for the stack of tine's thread */
    CHECK_RC(rc, 0);
    CHECK_EQ(status_of(pool, id), 0);
    return 1;
}

/* From nothing at all to enough: a named error, then a pool that gets along. */
static void with_limit(int which, const rlim_t *values, int count, int most)
{
    int created = 0;
    for (int i = 0; i < count; i++) {
        for (int at = 0; at < 3; at++) {
            int status, ends[2];
            CHECK_EQ(pipe(ends), 0);
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (pid == 0) {
                tine_error error = TINE_ERROR_INIT;
                tine_pool *pool = NULL;
                /* What it says itself is not to meet the limit on files. */
                dup2(ends[1], 1);
                dup2(ends[1], 2);
                close(ends[0]);
                close(ends[1]);
                set_limit(which, values[i]);
                int rc = create(&pool, all_starts[at], &error);
                if (rc == 0 && !takes_a_task(pool)) {
                    printf("%s, limit %llu: a pool, and nothing for a task\n", start_name(all_starts[at]), (unsigned long long)values[i]);
                    tine_pool_destroy(pool);
                    exit(2);
                }
                if (rc == 0) {
                    get_along(pool, most);
                    tine_pool_destroy(pool);
                    exit(0);
                }
                if ((rc != -ENOMEM && rc != TINE_EWORKERSTART) || error.code != rc || !error.text[0]) {
                    fprintf(stderr, "limit %llu: %s, \"%s\"\n", (unsigned long long)values[i], tine_errname(rc),
                            error.text);
                    exit(1);
                }
                CHECK(pool == NULL);
                printf("%s, limit %llu: %s, %s\n", start_name(all_starts[at]), (unsigned long long)values[i],
                       tine_errname(rc), error.text);
                exit(2);
            }
            char text[1000];
            ssize_t got;
            close(ends[1]);
            while ((got = read(ends[0], text, sizeof text)) > 0)
                CHECK(write(1, text, (size_t)got) == got);
            close(ends[0]);
            CHECK_EQ(waitpid(pid, &status, 0), pid);
            if (!WIFEXITED(status) || WEXITSTATUS(status) == 1) {
                fprintf(stderr, "limit %llu, %s: wait status %#x\n", (unsigned long long)values[i],
                        start_name(all_starts[at]), (unsigned)status);
                exit(1);
            }
            created += WEXITSTATUS(status) == 0;
        }
    }
    CHECK(created > 0);
}

static void limited_files(void)
{
    static const rlim_t values[] = {0, 65536, MIB, 20 * MIB};
    with_limit(RLIMIT_FSIZE, values, 4, 100);
}

static void limited_addresses(void)
{
    static const rlim_t values[] = {(rlim_t)8 * MIB, (rlim_t)40 * MIB};
    with_limit(RLIMIT_AS, values, 2, 1000);
}

/* Root may lock what it likes, so this is somebody else, who wants all memory locked and may not. */
static void limited_locked_memory(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        exit(NOT_HERE);
    set_limit(RLIMIT_MEMLOCK, 4 * MIB);
    if (mlockall(MCL_FUTURE) != 0)
        exit(NOT_HERE);
    int rc = create(&pool, TINE_START_FORK, &error);
    printf("%s, %s\n", tine_errname(rc), error.text);
    CHECK_RC(rc, -ENOMEM);
    CHECK(strstr(error.text, "lock"));
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create(64 * MIB, NULL, &s), -ENOMEM);
    CHECK_EQ(munlockall(), 0);
    everything(TINE_START_FORK);
}

static void fill_each(void)
{
    for (int at = 0; at < 3; at++) {
        tine_error error = TINE_ERROR_INIT;
        tine_pool *pool;
        CHECK_RC(create(&pool, all_starts[at], &error), 0);
        get_along(pool, 120);
        tine_pool_destroy(pool);
    }
}

enum { SMALL = 1 << 10, SMALL_LIMIT = 160 * MIB };

/* Small blocks until there are no more; how many MiB that was. The heap grows for them step by step. */
static int small_blocks(tine_pool *pool)
{
    int count = 0;
    while (count < SMALL_LIMIT / SMALL) {
        void *block = tine_alloc(pool, SMALL);
        if (!block)
            break;
        memset(block, 1, SMALL);
        count++;
    }
    return count / (MIB / SMALL);
}

static int small_in_worker(tine_task *task)
{
    return small_blocks(tine_task_pool(task));
}

static void *small_in_thread(void *pool)
{
    return (void *)(intptr_t)small_blocks((tine_pool *)pool);
}

/* Threads of the host, and workers, at the same time. */
static void fill_with_small_blocks(void)
{
    enum { THREADS = 3, TASKS = 2 };
    for (int at = 0; at < 3; at++) {
        tine_error error = TINE_ERROR_INIT;
        tine_pool *pool;
        pthread_t threads[THREADS];
        tine_id ids[TASKS];
        int sum = 0;
        CHECK_RC(create(&pool, all_starts[at], &error), 0);
        for (int i = 0; i < TASKS; i++)
            CHECK_RC(tine_submit(pool, small_in_worker, NULL, 0, NULL, &ids[i]), 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, small_in_thread, pool) == 0);
        for (int i = 0; i < THREADS; i++) {
            void *count;
            CHECK(pthread_join(threads[i], &count) == 0);
            sum += (int)(intptr_t)count;
        }
        for (int i = 0; i < TASKS; i++) {
            int count = status_of(pool, ids[i]);
            CHECK(count >= 0);
            sum += count;
        }
        printf("%d MiB of small blocks\n", sum);
        CHECK(sum < SMALL_LIMIT / MIB && sum > SMALL_LIMIT / MIB / 2);
        CHECK(!tine_alloc(pool, SMALL_LIMIT));
        tine_pool_destroy(pool);
    }
}

/* The answer has to come before the kernel's. */
static void limited_small_blocks(void)
{
    if (!run_in_cgroup("small-blocks", SMALL_LIMIT, fill_with_small_blocks)) exit(NOT_HERE);
}

static void limited_cgroup(void)
{
    if (!run_in_cgroup("environment", 96 * MIB, fill_each)) exit(NOT_HERE);
}

/* ---- Locked memory, core dumps ---- */

static long long resident_bytes(void)
{
    char text[400];
    long long size, resident;
    CHECK(read_file("/proc/self/statm", text, sizeof text) > 0);
    CHECK_EQ(sscanf(text, "%lld %lld", &size, &resident), 2);
    return resident * sysconf(_SC_PAGESIZE);
}

/* The heap's range is 256 GiB. What gets filled is its directory, a word for every 64 KiB. */
static void all_memory_locked(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    tine_pool *pool;
    if (geteuid() != 0 || mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        exit(NOT_HERE);
    long long before = resident_bytes();
    CHECK_RC(create(&pool, TINE_START_FORKSERVER, &error), 0);
    CHECK_EQ(mlockall(MCL_CURRENT | MCL_FUTURE), 0);
    void *block = tine_alloc(pool, 5 * MIB);
    CHECK(block);
    CHECK_EQ(call(pool, sum_up, block, 5 * MIB) >= 0, 1);
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    CHECK(info.reserved_bytes < 48 * MIB);
    CHECK(resident_bytes() - before < 64 * MIB);
    tine_pool_destroy(pool);
}

static void core_file(void)
{
    char folder[] = "/tmp/tine-core-XXXXXX", pattern[200], path[300];
    if (read_file("/proc/sys/kernel/core_pattern", pattern, sizeof pattern) <= 0 || strpbrk(pattern, "|/%"))
        exit(NOT_HERE);
    CHECK(mkdtemp(folder));
    CHECK_EQ(chdir(folder), 0);
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_CORE, &limit) != 0)
        exit(NOT_HERE);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        tine_pool *pool;
        CHECK_RC(create(&pool, TINE_START_FORKSERVER, NULL), 0);
        void *block = tine_alloc(pool, 100 * MIB);
        CHECK(block);
        memset(block, 1, 100 * MIB);
        abort();
    }
    int status, cores = 0;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    struct dirent *entry;
    DIR *listing = opendir(folder);
    CHECK(listing);
    while ((entry = readdir(listing))) {
        struct stat file;
        if (strncmp(entry->d_name, "core", 4) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        CHECK_EQ(stat(path, &file), 0);
        printf("a core of %lld bytes, %lld on disk\n", (long long)file.st_size, (long long)file.st_blocks * 512);
        CHECK(file.st_size < 64 * MIB);
        CHECK_EQ(unlink(path), 0);
        cores++;
    }
    closedir(listing);
    CHECK_EQ(rmdir(folder), 0);
    if (!WCOREDUMP(status))
        exit(NOT_HERE);
    CHECK_EQ(cores, 1);
}

static const struct {
    const char *name;
    void (*run)(void);
    const char *needs;
} cases[] = {
    {"/dev/shm missing", without_shm, "a mount namespace"},
    {"/dev/shm full", full_shm, "a mount namespace"},
    {"/dev/shm read-only", read_only_shm, "a mount namespace"},
    {"/dev/shm of 64 KiB", small_shm, "a mount namespace"},
    {"RLIMIT_FSIZE", limited_files, ""},
    {"RLIMIT_AS", limited_addresses, ""},
    {"RLIMIT_MEMLOCK", limited_locked_memory, "to become another user"},
    {"a memory cgroup", limited_cgroup, "a memory cgroup of its own"},
    {"small blocks in one", limited_small_blocks, "a memory cgroup of its own"},
    {"mlockall", all_memory_locked, "root"},
    {"a core file", core_file, "core files in the working directory"},
};

int main(int argc, char **argv)
{
    int failed = 0;
    tag_family(argv);
    setvbuf(stdout, NULL, _IOLBF, 0); /* Nothing in it for children to say again. */
    CHECK_RC(tine_init(argc, argv), 0);
    if (argc == 2) {
        cases[atoi(argv[1])].run();
        return 0;
    }
    for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
        int status;
        int64_t began = clock_ns();
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            char program[] = "environment", word[16];
            snprintf(word, sizeof word, "%zu", at);
            char *arguments[] = {program, word, NULL};
            alarm(100); /* Only what hangs takes that long. */
            execv("/proc/self/exe", arguments);
            _exit(126);
        }
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HERE) {
            printf("not tested: %s, which needs %s\n", cases[at].name, cases[at].needs);
        } else if (status != 0) {
            fprintf(stderr, "%s: wait status %#x\n", cases[at].name, (unsigned)status);
            failed++;
        } else {
            printf("%-20s %.2f s\n", cases[at].name, (double)(clock_ns() - began) / 1e9);
        }
        fflush(stdout);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
    CHECK_EQ(failed, 0);
    return 0;
}
