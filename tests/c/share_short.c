/* Segments and pools where descriptors are short, in a worker or in the host. */
#include "status.h"
#include <errno.h>
#include <sys/resource.h>

static uint64_t deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.worker_deaths + stats.supervisor_deaths;
}

/* ---- In workers ---- */

/* Has so many descriptors left. */
static int leave(tine_task *task)
{
    int left, last = -1;
    struct rlimit few = {64, 64};
    memcpy(&left, tine_input(task, NULL), sizeof left);
    if (setrlimit(RLIMIT_NOFILE, &few))
        return -errno;
    for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;)
        last = fd;
    if (left && close(last))
        return -errno;
    return getpid();
}

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

/* ---- In the host ---- */

/* One descriptor is enough, also for a worker that has the segment already and has to find that out. */
static void one_descriptor_is_enough(int start)
{
    tine_segment *s[2];
    CHECK_RC(tine_segment_create(100, NULL, &s[0]), 0);
    tine_pool *pool = create_pool(start, 1, 0); /* A copy of this process has the first segment. */
    CHECK_RC(tine_segment_create(100, NULL, &s[1]), 0);
    int left = 1;
    pid_t worker = call(pool, leave, &left, sizeof left);
    CHECK(worker > 1);
    for (int i = 0; i < 2; i++) {
        int *there = (int *)tine_segment_address(s[i]);
        *there = 40 + i;
        CHECK_RC(tine_pool_share(pool, s[i], HANG_NS), 0);
        CHECK_EQ(call(pool, read_there, &there, sizeof there), 40 + i);
    }
    CHECK_EQ(call(pool, tell_pid, NULL, 0), worker);
    CHECK_EQ(deaths(pool), 0);
    for (int i = 0; i < 2; i++)
        CHECK_RC(tine_segment_close(s[i]), 0);
    tine_pool_destroy(pool);
}

/* Without any the call says so, and the place gets a worker that has some. */
static void none_is_too_few(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_segment *s;
    int left = 0;
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    CHECK(call(pool, leave, &left, sizeof left) > 1);
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), -EMFILE);
    CHECK_EQ(deaths(pool), 1);
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), 0);
    CHECK_EQ(deaths(pool), 1);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

static void the_programs_own_doing(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_segment *s;
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    CHECK_EQ(close(tine_segment_fd(s)), 0);
    CHECK_RC(tine_pool_share(pool, s, HANG_NS), -EBADF);
    CHECK_EQ(call(pool, tell_pid, NULL, 0) > 1, 1);
    CHECK_RC(tine_segment_close(s), 0);
    tine_pool_destroy(pool);
}

static void run(int start)
{
    one_descriptor_is_enough(start);
    none_is_too_few(start);
    the_programs_own_doing(start);
}

int main(int argc, char **argv)
{
    return run_with_each_start(argc, argv, run);
}
