/* Nobody of a family outlives its host: whether the host is killed in mid-work, together with the supervisor, while it
 * creates a pool, or just leaves. And nothing is left in /dev/shm or /tmp. But a host thread that ends takes nobody along.
 *
 * limit: 300 */
#include "family.h"
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>

/* The program is its own host: `orphans ROLE START FD`. FD is a pipe to the test. */
enum role { WORKING, WITHOUT_DESCENDANTS, LEAVING, CREATING, THREADED };

/* What the host says of itself when it is in mid-work. */
struct report {
    pid_t supervisor, workers[2];
};

/* In the pool's heap. */
struct sight {
    uint32_t started, descendants;
    pid_t pid, parent;
};

static void sleep_stubbornly(struct sight *sight)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    __atomic_fetch_add(&sight->descendants, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        pause();
    }
}

/* One child in the worker's session, and a daemon: a grandchild in a session of its own, whose parent has gone. */
static int work_for_ever(tine_task *task)
{
    struct sight *sight;
    int with_descendants;
    memcpy(&sight, tine_input(task, NULL), sizeof sight);
    with_descendants = sight->descendants == 0;
    if (with_descendants) {
        if (fork() == 0) {
            sleep_stubbornly(sight);
        }
        pid_t middle = fork();
        if (middle == 0) {
            setsid();
            if (fork() == 0) {
                sleep_stubbornly(sight);
            }
            _exit(0);
        }
        waitpid(middle, NULL, 0);
    }
    sight->pid = getpid();
    sight->parent = getppid();
    __atomic_store_n(&sight->started, 1, __ATOMIC_SEQ_CST);
    for (volatile uint64_t spins = 0;; spins++) {
    }
    return 0;
}

static int answer(tine_task *task)
{
    (void)task;
    return 42;
}

static struct report start_working(tine_pool *pool, int with_descendants)
{
    struct report report;
    struct sight *sights[2];
    for (int i = 0; i < 2; i++) {
        sights[i] = (struct sight *)tine_alloc(pool, sizeof **sights);
        CHECK(sights[i]);
        memset(sights[i], 0, sizeof *sights[i]);
        sights[i]->descendants = with_descendants ? 0 : 100;
        CHECK_RC(tine_submit(pool, work_for_ever, &sights[i], sizeof sights[i], NULL, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        uint32_t wanted = with_descendants ? 2 : 100;
        WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sights[i]->started, __ATOMIC_SEQ_CST)
                   && __atomic_load_n(&sights[i]->descendants, __ATOMIC_SEQ_CST) >= wanted);
        report.workers[i] = sights[i]->pid;
        report.supervisor = sights[i]->parent;
    }
    for (int i = 0; i < 1000; i++) { /* More than they will ever begin. */
        CHECK_RC(tine_submit(pool, answer, &i, sizeof i, NULL, NULL), 0);
    }
    return report;
}

static void *create_in_thread(void *argument)
{
    tine_pool **pool = (tine_pool **)argument;
    *pool = create_pool((int)(intptr_t)*pool, 2, 0);
    return NULL;
}

/* The thread whose child the supervisor's first step was ends; its kernel-side death must not be taken for the host's. */
static void outlive_a_thread(int start)
{
    tine_pool *pool = (tine_pool *)(intptr_t)start;
    pthread_t thread;
    tine_stats stats = TINE_STATS_INIT;
    CHECK_EQ(pthread_create(&thread, NULL, create_in_thread, &pool), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    WAIT_UNTIL(count_entries("/proc/self/task") == 1);
    for (int i = 0; i < 200; i++) {
        tine_result result = TINE_RESULT_INIT;
        tine_id id;
        CHECK_RC(tine_submit(pool, answer, NULL, 0, NULL, &id), 0);
        CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
        CHECK_EQ(result.status, 42);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
    CHECK_EQ(stats.supervisor_deaths, 0);
    tine_pool_destroy(pool);
}

static int be_host(int role, int start, int pipe_fd)
{
    if (role == THREADED) {
        outlive_a_thread(start);
        return 0;
    }
    if (role == CREATING) {
        CHECK_EQ(write(pipe_fd, "c", 1), 1);
        for (;;) {
            tine_pool_destroy(create_pool(start, 2, 0));
        }
    }
    struct report report = start_working(create_pool(start, 2, 0), role != WITHOUT_DESCENDANTS);
    CHECK_EQ(write(pipe_fd, &report, sizeof report), (long long)sizeof report);
    if (role == LEAVING) {
        char byte;
        CHECK_EQ(read(0, &byte, 1), 0);
        _exit(0);
    }
    for (;;) {
        pause();
    }
}

/* ---- The test's side ---- */

struct host {
    pid_t pid;
    int pipe_fd;
    char tag[64];
};

static struct host start_host(int role, int start)
{
    static int number;
    struct host host;
    int ends[2];
    snprintf(host.tag, sizeof host.tag, "%s-%d", family_tag(), number++);
    CHECK_EQ(pipe(ends), 0);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fflush(stdout);
    host.pid = fork();
    CHECK(host.pid >= 0);
    if (host.pid == 0) {
        char words[3][16];
        char program[] = "orphans";
        snprintf(words[0], sizeof words[0], "%d", role);
        snprintf(words[1], sizeof words[1], "%d", start);
        snprintf(words[2], sizeof words[2], "%d", ends[1]);
        char *arguments[] = {program, words[0], words[1], words[2], NULL};
        setenv(TAG_VARIABLE, host.tag, 1);
        execv("/proc/self/exe", arguments);
        _exit(126);
    }
    close(ends[1]);
    host.pipe_fd = ends[0];
    return host;
}

static void hear(struct host *host, void *buffer, size_t length)
{
    struct pollfd wait = {host->pipe_fd, POLLIN, 0};
    CHECK_EQ(poll(&wait, 1, (int)(HANG_NS / 1000000)), 1);
    CHECK_EQ(read(host->pipe_fd, buffer, length), (long long)length);
}

/* Waits for the end of a family whose host is gone; how long that took. */
static int64_t wait_for_end(struct host *host, int64_t since)
{
    int told = 0;
    while (!family_is_gone(host->tag, 0)) {
        if (!told && clock_ns() - since > 1000000000) {
            told = 1;
            fprintf(stderr, "after 1 s:\n");
            print_family(host->tag);
        }
        if (clock_ns() - since > HANG_NS) {
            fprintf(stderr, "after %d s:\n", (int)(HANG_NS / 1000000000));
            print_family(host->tag);
            exit(1);
        }
    }
    close(host->pipe_fd);
    return clock_ns() - since;
}

/* Names in a folder; what belongs to other programs there may come and go. */
static int count_residue(const char *path)
{
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir(path);
    CHECK(folder);
    while ((entry = readdir(folder))) {
        count += strstr(entry->d_name, "tine") != NULL && strstr(entry->d_name, "tine-limits") == NULL;
    }
    closedir(folder);
    return count;
}

static int64_t kill_in_mid_work(int start, int with_supervisor)
{
    struct host host = start_host(with_supervisor ? WITHOUT_DESCENDANTS : WORKING, start);
    struct report report;
    hear(&host, &report, sizeof report);
    struct process family[16];
    /* Host aside: the supervisor, two workers, and four descendants. The keeper has no environment to be told by, once it
     * has let go of its host's memory. */
    WAIT_UNTIL(list_family(host.tag, host.pid, family, 16) == (with_supervisor ? 3 : 7));
    int64_t began = clock_ns();
    if (with_supervisor == 2) {
        CHECK_EQ(kill(report.supervisor, SIGKILL), 0);
    }
    CHECK_EQ(kill(host.pid, SIGKILL), 0);
    if (with_supervisor == 1) { /* Which may have seen its host's end already. */
        CHECK(kill(report.supervisor, SIGKILL) == 0 || errno == ESRCH);
    }
    CHECK_EQ(waitpid(host.pid, NULL, 0), host.pid);
    return wait_for_end(&host, began);
}

static int64_t leave(int start)
{
    struct host host = start_host(LEAVING, start); /* Its standard input is empty, so it leaves at once. */
    struct report report;
    int status;
    hear(&host, &report, sizeof report);
    CHECK_EQ(waitpid(host.pid, &status, 0), host.pid);
    CHECK_EQ(status, 0);
    return wait_for_end(&host, clock_ns());
}

static int64_t kill_while_creating(int start, uint64_t *random)
{
    struct host host = start_host(CREATING, start);
    char byte;
    hear(&host, &byte, 1);
    nap_ns((int64_t)(random_next(random) % 12000000)); /* Somewhere in the first pools' lives. */
    int64_t began = clock_ns();
    CHECK_EQ(kill(host.pid, SIGKILL), 0);
    int status;
    CHECK_EQ(waitpid(host.pid, &status, 0), host.pid);
    CHECK(WIFSIGNALED(status)); /* It had not ended for a reason of its own. */
    return wait_for_end(&host, began);
}

static void outlived_thread(int start)
{
    struct host host = start_host(THREADED, start);
    int status;
    CHECK_EQ(waitpid(host.pid, &status, 0), host.pid);
    CHECK_EQ(status, 0);
    wait_for_end(&host, clock_ns());
}

int main(int argc, char **argv)
{
    enum { TIMES = 67 };
    int64_t took[TIMES];
    char title[80];
    tag_family(argv);
    tine_init(argc, argv);
    if (argc == 4) {
        return be_host(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]));
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    close(null);
    uint64_t random = random_seed();
    int shm = count_residue("/dev/shm"), tmp = count_residue("/tmp");
    struct belongings before = take_stock();
    for (int i = 0; i < 3; i++) {
        int start = all_starts[i];
        for (int at = 0; at < TIMES; at++) {
            took[at] = kill_in_mid_work(start, 0);
        }
        snprintf(title, sizeof title, "%-10s host killed, all gone", start_name(start));
        print_percentiles(title, took, TIMES);
        for (int at = 0; at < 20; at++) {
            took[at] = kill_in_mid_work(start, 1 + at % 2);
        }
        snprintf(title, sizeof title, "%-10s host and supervisor killed", start_name(start));
        print_percentiles(title, took, 20);
        for (int at = 0; at < 30; at++) {
            took[at] = kill_while_creating(start, &random);
        }
        snprintf(title, sizeof title, "%-10s host killed while creating", start_name(start));
        print_percentiles(title, took, 30);
        for (int at = 0; at < 5; at++) {
            took[at] = leave(start);
        }
        snprintf(title, sizeof title, "%-10s host has left", start_name(start));
        print_percentiles(title, took, 5);
        outlived_thread(start);
    }
    CHECK_EQ(count_residue("/dev/shm"), shm);
    CHECK_EQ(count_residue("/tmp"), tmp);
    check_stock(before);
    return 0;
}
