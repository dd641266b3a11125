/* Segments that a pool did not get because workers had not answered in time: the same call goes on from there, and of those that nobody
 * asks for again nothing is left. */
#include "status.h"

#include <dirent.h>
#include <sys/mman.h>

static uint64_t deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.worker_deaths + stats.supervisor_deaths;
}

/* How many segments a process has mapped. */
static int segments_of(pid_t pid)
{
    char path[64], line[512];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "r");
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "/memfd:tine-segment") != NULL;
    fclose(maps);
    return count;
}

static void stop(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGSTOP), 0);
    WAIT_UNTIL(is_stopped(pid));
}

static void go_on(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGCONT), 0);
}

/* ---- In workers ---- */

static int tell_pid(tine_task *task)
{
    (void)task;
    return getpid();
}

static int read_there(tine_task *task)
{
    const int *there;
    memcpy(&there, tine_input(task, NULL), sizeof there);
    return tine_is_shared(tine_task_pool(task), there, sizeof *there) == 1 ? *there : -EFAULT;
}

static int occupy(tine_task *task)
{
    void *page;
    memcpy(&page, tine_input(task, NULL), sizeof page);
    void *mapped = mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return mapped == page ? 0 : -errno;
}

/* ---- In the host ---- */

static void find_workers(tine_pool *pool, pid_t workers[2])
{
    workers[0] = workers[1] = call(pool, tell_pid, NULL, 0);
    while (workers[1] == workers[0]) {
        tine_id ids[2];
        for (int i = 0; i < 2; i++)
            CHECK_RC(tine_submit(pool, tell_pid, NULL, 0, NULL, &ids[i]), 0);
        for (int i = 0; i < 2; i++) {
            int pid = status_of(pool, ids[i]);
            workers[1] = pid != workers[0] ? pid : workers[1];
        }
    }
    CHECK(workers[0] > 1 && workers[1] > 1);
}

/* Each worker answers while the other one is stopped, and no call lasts any time. */
static void short_waits_add_up(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    tine_segment *s;
    pid_t workers[2];
    find_workers(pool, workers);
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    *(int *)tine_segment_address(s) = 42;
    stop(workers[0]);
    int rc = tine_pool_share(pool, s, 0);
    CHECK_RC(rc, -EAGAIN);
    /* Once is enough, unless this process does not run for a second. */
    int64_t last = clock_ns(), spent = 0;
    for (int i = 0; rc && !is_over(HANG_NS, &last, &spent); i ^= 1) {
        WAIT_UNTIL(segments_of(workers[1 - i]) == 1);
        stop(workers[1 - i]);
        go_on(workers[i]);
        rc = tine_pool_share(pool, s, 0);
        CHECK(rc == 0 || rc == -EAGAIN);
        if (rc) {
            WAIT_UNTIL(segments_of(workers[i]) == 1);
            rc = tine_pool_share(pool, s, 0);
            CHECK(rc == 0 || rc == -EAGAIN);
        }
    }
    CHECK_RC(rc, 0);
    go_on(workers[0]);
    go_on(workers[1]);
    void *there = tine_segment_address(s);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(call(pool, read_there, &there, sizeof there), 42);
    CHECK_EQ(deaths(pool), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

/* Many that are asked for in turn, each without waiting. */
static void many_in_turn(int start)
{
    enum { SEGMENTS = 12 };
    tine_pool *pool = create_pool(start, 1, 0);
    tine_segment *segments[SEGMENTS];
    int is_shared[SEGMENTS] = {0}, left = SEGMENTS;
    pid_t worker = call(pool, tell_pid, NULL, 0);
    for (int i = 0; i < SEGMENTS; i++)
        CHECK_RC(tine_segment_create(100, NULL, &segments[i]), 0);
    /* The second time is enough, unless this process does not run for a second. */
    int64_t last = clock_ns(), spent = 0;
    while (left && !is_over(HANG_NS, &last, &spent)) {
        stop(worker);
        for (int i = 0; i < SEGMENTS; i++) {
            int rc = is_shared[i] ? 0 : tine_pool_share(pool, segments[i], 0);
            CHECK(rc == 0 || rc == -EAGAIN);
            left -= rc == 0 && !is_shared[i];
            is_shared[i] = rc == 0;
        }
        go_on(worker);
        /* It looks at all of its messages first. */
        CHECK_EQ(call(pool, tell_pid, NULL, 0), worker);
    }
    CHECK_EQ(left, 0);
    for (int i = 0; i < SEGMENTS; i++)
        CHECK_RC(tine_segment_close(segments[i]), 0);
    CHECK_EQ(deaths(pool), 0);
    tine_pool_destroy(pool);
}

/* How many descriptors of segments this process has. */
static int segments_held(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char link[64];
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, link, sizeof link - 1);
        link[length > 0 ? length : 0] = 0;
        count += strstr(link, "memfd:tine-segment") != NULL;
    }
    closedir(folder);
    return count;
}

/* Memory that a forked worker shares with its host. */
static volatile pid_t *forked_worker;

static int say_pid(tine_task *task)
{
    (void)task;
    *forked_worker = getpid();
    return 0;
}

/* Nobody but the call that shares has ever used the pool: it is also who does not know its worker but by what that says of itself. */
static void nobody_else_has_called(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    tine_segment *s;
    forked_worker = (volatile pid_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(forked_worker != MAP_FAILED);
    options.workers = 1;
    options.start = TINE_START_FORK;
    options.initializer = say_pid;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    WAIT_UNTIL(*forked_worker > 0);
    stop(*forked_worker);
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    int held = segments_held();
    CHECK_RC(tine_pool_share(pool, s, 0), -EAGAIN);
    CHECK_RC(tine_segment_close(s), 0);
    WAIT_UNTIL(segments_held() < held);
    go_on(*forked_worker);
    tine_pool_destroy(pool);
    munmap((void *)forked_worker, 4096);
}

/* A stopped worker whose tasks have been run by the other one is not busy. */
static void taken_back_tasks_are_none(int start)
{
    enum { TASKS = 12 };
    tine_pool *pool = create_pool(start, 2, 0);
    tine_segment *s;
    tine_id ids[TASKS];
    pid_t workers[2];
    find_workers(pool, workers);
    stop(workers[0]);
    for (int i = 0; i < TASKS; i++)
        CHECK_RC(tine_submit(pool, tell_pid, NULL, 0, NULL, &ids[i]), 0);
    for (int i = 0; i < TASKS; i++)
        CHECK_EQ(status_of(pool, ids[i]), workers[1]);
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    CHECK_RC(tine_pool_share(pool, s, 0), -EAGAIN);
    (void)kill(workers[0], SIGCONT); /* The pool ends it where it has been stopped with tasks for a second. */
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

/* Nobody calls any more, and each segment that was not shared goes: from the host, from the worker that has it, and from the one that was
 * stopped. A worker that would have had no room for one is not ended for what is over. */
static void nothing_is_left(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct belongings before = take_stock();
    pid_t workers[2];
    find_workers(pool, workers);
    pid_t stopped = workers[0], other = workers[1];
    tine_segment *s;
    char *occupied = NULL;
    for (int i = 0; i < 20; i++) {
        CHECK_RC(tine_segment_create(100, NULL, &s), 0);
        if (i == 10) {
            occupied = (char *)tine_segment_address(s) - 4096;
            stop(other);
            CHECK_RC(call(pool, occupy, &occupied, sizeof occupied), 0);
            go_on(other);
        }
        stop(stopped);
        CHECK_RC(tine_pool_share(pool, s, 0), -EAGAIN);
        CHECK_RC(tine_segment_close(s), 0);
        if (i == 9)
            go_on(stopped);
    }
    WAIT_UNTIL(count_entries("/proc/self/fd") <= before.descriptors);
    WAIT_UNTIL(segments_of(other) == 0);
    go_on(stopped);
    CHECK(call(pool, tell_pid, NULL, 0) > 1);
    /* Both have looked at all of their messages when a segment is shared. One in 8192 gets the address that is taken. */
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    while ((char *)tine_segment_address(s) - 4096 == occupied) {
        CHECK_RC(tine_segment_close(s), 0);
        CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    }
    CHECK_RC(tine_pool_share(pool, s, TINE_FOREVER), 0);
    CHECK_EQ(segments_of(other), 1);
    CHECK_EQ(segments_of(stopped), 1);
    CHECK_EQ(deaths(pool), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

/* A new segment at this address: as by chance, where the old one has been closed. */
static tine_segment *segment_at(void *address, int value)
{
    enum { ADDRESS_WORD = 5 };
    tine_segment_options anywhere = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *made, *there;
    anywhere.flags = TINE_SEGMENT_ANY_ADDRESS; /* and not there, while it is made */
    CHECK_RC(tine_segment_create(10000, &anywhere, &made), 0);
    *(int *)tine_segment_address(made) = value;
    ((uint64_t *)((char *)tine_segment_address(made) - 4096))[ADDRESS_WORD] = (uintptr_t)address - 4096;
    CHECK_RC(tine_segment_attach(tine_segment_fd(made), NULL, &there), 0);
    CHECK(tine_segment_address(there) == address);
    CHECK_RC(tine_segment_close(made), 0);
    return there;
}

static void an_address_that_is_given_out_again(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_segment *s;
    pid_t worker = call(pool, tell_pid, NULL, 0);
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    void *address = tine_segment_address(s);
    for (int i = 0; i < 2; i++) {
        /* What was not shared is out of the way, whether the worker had mapped it or not. */
        stop(worker);
        CHECK_RC(tine_pool_share(pool, s, 0), -EAGAIN);
        CHECK_RC(tine_segment_close(s), 0);
        if (i == 0) {
            go_on(worker);
            CHECK_EQ(call(pool, tell_pid, NULL, 0), worker);
        }
        s = segment_at(address, 7 + i);
        go_on(worker);
    }
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), 0);
    CHECK_EQ(call(pool, read_there, &address, sizeof address), 8);
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), -EALREADY);
    /* What was shared stays, and no worker dies of that. */
    CHECK_RC(tine_segment_close(s), 0);
    s = segment_at(address, 9);
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), -EEXIST);
    CHECK_EQ(call(pool, read_there, &address, sizeof address), 8);
    CHECK_EQ(call(pool, tell_pid, NULL, 0), worker);
    CHECK_EQ(deaths(pool), 0);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

/* No worker can ever map it. Whoever asks without waiting hears of that all the same, and no more workers die of it than there are. */
static void a_refusal_while_nobody_waits(int start)
{
    enum { WORKERS = 2 };
    if (start != TINE_START_FORK)
        return; /* No worker has what this process had mapped when the pool was created. */
    tine_segment *s;
    CHECK_RC(tine_segment_create(10000, NULL, &s), 0);
    char *address = (char *)tine_segment_address(s), *page = address - 4096;
    CHECK_RC(tine_segment_close(s), 0);
    CHECK(mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == page);
    tine_pool *pool = create_pool(start, WORKERS, 0);
    CHECK(call(pool, tell_pid, NULL, 0) > 1);
    CHECK_EQ(munmap(page, 4096), 0);
    s = segment_at(address, 42);
    tine_id id;
    CHECK_RC(tine_submit(pool, tell_pid, NULL, 0, NULL, &id), 0);
    int64_t last = clock_ns(), spent = 0;
    int rc;
    do {
        rc = tine_pool_share(pool, s, 0);
    } while (rc == -EAGAIN && !is_over(HANG_NS, &last, &spent));
    CHECK_RC(rc, -EEXIST);
    CHECK(deaths(pool) <= WORKERS);
    CHECK(status_of(pool, id) > 1);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

static void run(int start)
{
    short_waits_add_up(start);
    a_refusal_while_nobody_waits(start);
    many_in_turn(start);
    if (start == TINE_START_FORK) nobody_else_has_called();
    taken_back_tasks_are_none(start);
    nothing_is_left(start);
    an_address_that_is_given_out_again(start);
}

int main(int argc, char **argv)
{
    return run_with_each_start(argc, argv, run);
}
