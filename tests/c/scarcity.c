/* Shortages as they come by themselves: no descriptor free in the host or the supervisor, too many on their way through sockets.
 * Tasks that run go on running, a death is told in time, and a place is filled again when that is possible. */
#include "status.h"
#include <grp.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* How long a start may take: long on a machine that is busy, short for who waits for it to be over. */
#define START_NS ((int64_t)2 * 1000 * 1000 * 1000)

static int start;

static int crash(tine_task *task)
{
    (void)task;
    puts("I crash");
    fflush(stdout);
    _exit(77);
}

/* Runs until it is told to end. */
static int run_on(tine_task *task)
{
    int *const *over = (int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(*over, __ATOMIC_SEQ_CST)) {
        nap_ns(1000000);
    }
    return 5;
}

static int answer(tine_task *task)
{
    (void)task;
    return 6;
}

static tine_pool *create(size_t workers)
{
    tine_pool *pool;
    tine_error error = TINE_ERROR_INIT;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    options.workers = workers;
    options.start = start;
    worker.output = TINE_OUTPUT_CAPTURE;
    options.start_timeout_ns = START_NS;
    options.error = &error;
    if (tine_pool_create(&options, &pool) != 0) {
        fprintf(stderr, "create: %s\n", error.text);
        exit(1);
    }
    return pool;
}

/* Two tasks run, and one of three workers dies, while `begin` has made something short; then `end` makes that good again. */
static void nobody_else_is_ended(void (*begin)(void), void (*end)(void))
{
    struct belongings before = take_stock();
    tine_pool *pool = create(3);
    tine_id running[2], crashing, more;
    tine_stats stats = TINE_STATS_INIT;
    int *over = (int *)tine_calloc(pool, 1, sizeof *over);
    CHECK(over);
    for (int i = 0; i < 2; i++) {
        CHECK_RC(tine_submit(pool, run_on, &over, sizeof over, NULL, &running[i]), 0);
    }
    WAIT_UNTIL(tine_pool_stats(pool, &stats) == 0 && stats.workers_busy == 2);
    begin();
    CHECK_RC(tine_submit(pool, crash, NULL, 0, NULL, &crashing), 0);
    CHECK_RC(status_of(pool, crashing), TINE_EDIED);
    /* Longer than a start may take. */
    for (int64_t until = clock_ns() + START_NS + START_NS / 2; clock_ns() < until; nap_ns(5000000)) {
        CHECK(tine_pool_poll(pool) >= 0);
    }
    end();
    CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &more), 0);
    CHECK_EQ(status_of(pool, more), 6);
    __atomic_store_n(over, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(status_of(pool, running[0]), 5);
    CHECK_EQ(status_of(pool, running[1]), 5);
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && tine_pool_stats(pool, &stats) == 0 && stats.workers_ready == 3);
    CHECK_EQ(stats.worker_deaths, 1);
    CHECK_EQ(stats.supervisor_deaths, 0);
    tine_pool_destroy(pool);
    check_stock(before);
}

static int tell_parent(tine_task *task)
{
    (void)task;
    return getppid();
}

static tine_id submit(tine_pool *pool, tine_fn fn)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, NULL, 0, NULL, &id), 0);
    return id;
}

/* No worker can be started for longer than a start may take: what is queued settles, with the reason. Then it serves on. */
static void a_pool_without_workers_says_so_and_serves_on(void)
{
    struct belongings before = take_stock();
    tine_pool *pool = create(1);
    pid_t supervisor = status_of(pool, submit(pool, tell_parent));
    struct rlimit limit, none;
    CHECK(supervisor > 1);
    CHECK_EQ(prlimit(supervisor, RLIMIT_NOFILE, NULL, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK_EQ(prlimit(supervisor, RLIMIT_NOFILE, &none, NULL), 0);
    CHECK_RC(status_of(pool, submit(pool, crash)), TINE_EDIED);
    for (int i = 0; i < 3; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK_RC(tine_wait(pool, submit(pool, answer), HANG_NS, &result), 0);
        CHECK_RC(result.status, TINE_EWORKERSTART);
        CHECK_EQ(result.delivery, TINE_NOT_STARTED);
        CHECK(strstr(result.message, "descriptors"));
        tine_result_release(pool, &result);
    }
    CHECK_EQ(prlimit(supervisor, RLIMIT_NOFILE, &limit, NULL), 0);
    int64_t last = clock_ns(), spent = 0;
    while (status_of(pool, submit(pool, answer)) != 6) {
        CHECK(!is_over(HANG_NS, &last, &spent));
    }
    CHECK_EQ(status_of(pool, submit(pool, tell_parent)), supervisor);
    tine_pool_destroy(pool);
    check_stock(before);
}

static int taken[1024], taken_count;

static void take_descriptors(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        taken[taken_count++] = fd;
    }
}

static void give_descriptors_back(void)
{
    while (taken_count > 0) {
        close(taken[--taken_count]);
    }
}

static int ends[2];

static int send_descriptors(void)
{
    enum { MANY = 250 };
    static union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(MANY * sizeof(int))];
    } room;
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    memset(&room, 0, sizeof room);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &room;
    message.msg_controllen = sizeof room;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(MANY * sizeof(int));
    return sendmsg(ends[0], &message, 0) < 0 ? errno : 0;
}

static void send_too_many(void)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_EQ(send_descriptors(), 0);
    CHECK_EQ(send_descriptors(), 0);
    CHECK_EQ(send_descriptors(), ETOOMANYREFS);
}

static void close_them(void)
{
    close(ends[0]);
    close(ends[1]);
}

static void no_descriptor_is_free(void)
{
    nobody_else_is_ended(take_descriptors, give_descriptors_back);
}

/* The superuser may have any number on their way, and all processes of a user count. */
static void too_many_are_on_their_way(void)
{
    uid_t user = 60000 + (uid_t)getpid() % 5000; /* nobody else's: another run of this test may be under way */
    if (getuid() == 0) {
        CHECK(setgroups(0, NULL) == 0 && setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0);
        CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
    }
    nobody_else_is_ended(send_too_many, close_them);
}

int main(int argc, char **argv)
{
    static void (*const all[])(void) = {no_descriptor_is_free, too_many_are_on_their_way,
                                        a_pool_without_workers_says_so_and_serves_on};
    int failed = 0, status;
    CHECK_RC(tine_init(argc, argv), 0);
    struct rlimit limit = {256, 256};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    /* They wait most of the time, so all at once. */
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                start = all_starts[i];
                all[j]();
                exit(0);
            }
        }
    }
    while (wait(&status) > 0) {
        failed += status != 0;
    }
    CHECK_EQ(failed, 0);
    return 0;
}
