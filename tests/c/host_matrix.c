/* A pool in hosts of every kind: it gives right results there, survives the death of a worker and of a supervisor, and
 * the host does not notice that it has guests. Here: its signals, children, threads, descriptors and memory. */
#include "hosts.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* ---- Signals and children ---- */

static void with_sigchld_ignored(int start)
{
    struct sigaction now;
    signal(SIGCHLD, SIG_IGN);
    whole_life(start);
    sigaction(SIGCHLD, NULL, &now);
    CHECK(now.sa_handler == SIG_IGN);
}

static void handle_sigchld(int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = count_sigchld;
    action.sa_flags = flags;
    CHECK_EQ(sigaction(SIGCHLD, &action, NULL), 0);
}

static void with_no_child_wait(int start)
{
    struct sigaction now;
    handle_sigchld(SA_NOCLDWAIT);
    whole_life(start);
    CHECK_EQ(sigchlds, 0);
    sigaction(SIGCHLD, NULL, &now);
    CHECK(now.sa_flags & SA_NOCLDWAIT);
}

static void with_sigchld_handler(int start)
{
    handle_sigchld(SA_RESTART);
    whole_life(start);
    CHECK_EQ(sigchlds, 0);
}

static int stop_waiting;

static void *wait_for_anybody(void *argument)
{
    while (!__atomic_load_n(&stop_waiting, __ATOMIC_SEQ_CST)) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        CHECK(pid == -1 && errno == ECHILD); /* There is nobody to wait for. */
        nap_ns(20000);
    }
    return argument;
}

static void with_a_waiting_thread(int start)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_anybody, NULL), 0);
    whole_life(start);
    __atomic_store_n(&stop_waiting, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void with_own_children(int start)
{
    pid_t children[20];
    int gate[2], status;
    char byte = 0;
    CHECK_EQ(pipe(gate), 0);
    for (int i = 0; i < 10; i++) { /* From before the pool, and ending while it lives. */
        children[i] = fork();
        if (children[i] == 0) {
            close(gate[1]);
            _exit(read(gate[0], &byte, 1) == 0 ? 100 + i : 1);
        }
    }
    tine_pool *pool = create_pool(start, 2, 0);
    use(pool);
    for (int i = 10; i < 20; i++) { /* While the pool lives. */
        children[i] = fork();
        if (children[i] == 0) {
            _exit(100 + i);
        }
    }
    close(gate[1]);
    use_and_kill(pool);
    for (int i = 0; i < 20; i += 2) { /* Half by number, half as they come. */
        CHECK_EQ(waitpid(children[i], &status, 0), children[i]);
        CHECK_EQ(status, (100 + i) << 8);
    }
    uint32_t seen = 0;
    for (int count = 0; count < 10; count++) {
        pid_t pid = wait(&status);
        CHECK(pid > 0);
        for (int i = 1; i < 20; i += 2) {
            if (children[i] == pid) {
                CHECK_EQ(status, (100 + i) << 8);
                seen |= 1u << i;
            }
        }
    }
    CHECK_EQ(seen, 0xaaaaa);
    CHECK(wait(&status) == -1 && errno == ECHILD);
    tine_pool_destroy(pool);
}

/* Orphans come to this host, tine's must not: neither as children that wait() sees nor as zombies. */
static void with_orphans(int start)
{
    int status;
    handle_sigchld(SA_RESTART);
    tine_pool *pool = create_pool(start, 2, 0);
    use_and_kill(pool);
    CHECK(wait(&status) == -1 && errno == ECHILD);
    tine_pool_destroy(pool);
    WAIT_UNTIL(count_children() == 0);
    CHECK(waitpid(-1, &status, __WALL | WNOHANG) == -1 && errno == ECHILD);
    CHECK_EQ(sigchlds, 0);
}

static void as_subreaper(int start)
{
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    with_orphans(start);
}

static void as_pid_1(int start)
{
    int status;
    /* Root may; others first become root of a user namespace of their own. */
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
        CHECK_EQ(unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS), 0);
    }
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_EQ(getpid(), 1);
        CHECK_EQ(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        CHECK_EQ(mount("proc", "/proc", "proc", 0, NULL), 0);
        with_orphans(start);
        exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

static void with_everything_blocked(int start)
{
    sigset_t all, now;
    sigfillset(&all);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
    whole_life(start);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    for (int signal = 1; signal < 32; signal++) {
        CHECK(signal == SIGKILL || signal == SIGSTOP || sigismember(&now, signal));
    }
}

/* ---- Threads ---- */

static void *submit_and_map(void *argument)
{
    tine_pool *pool = (tine_pool *)argument;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(call(pool, add_one, &i, sizeof i), i + 1);
        if (i % 10 == 0) {
            map_squares(pool, i);
        }
    }
    return NULL;
}

static void with_64_threads(int start)
{
    pthread_t threads[64];
    tine_pool *pool = create_pool(start, 2, 0);
    for (int i = 0; i < 64; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, submit_and_map, pool), 0);
    }
    for (int i = 0; i < 64; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.settled, 64 * 20);
    CHECK_EQ(stats.worker_deaths, 0);
    use_and_kill(pool); /* Forked from a process with 64 threads, where the start method does that. */
    tine_pool_destroy(pool);
}

/* ---- Descriptors and memory ---- */

static void without_standard_descriptors(int start)
{
    int errors = fcntl(2, F_DUPFD_CLOEXEC, 100), taken[2] = {0, 0};
    char what[3][100];
    memset(what, 0, sizeof what);
    close(0);
    close(1);
    close(2);
    tine_pool *pool = create_pool(start, 2, 0);
    use_and_kill(pool);
    for (int fd = 0; fd < 3; fd++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        taken[0] += readlink(path, what[fd], sizeof what[fd] - 1) > 0;
    }
    tine_pool_destroy(pool);
    for (int fd = 0; fd < 3; fd++) {
        taken[1] += fcntl(fd, F_GETFD) != -1;
    }
    dup2(errors, 2);
    if (taken[0] != 0) {
        fprintf(stderr, "taken: 0 \"%s\", 1 \"%s\", 2 \"%s\"\n", what[0], what[1], what[2]);
    }
    CHECK_EQ(taken[0], 0);
    CHECK_EQ(taken[1], 0);
}

static void with_much_memory(int start)
{
    size_t length = (size_t)300 << 20;
    char *memory = (char *)malloc(length);
    CHECK(memory);
    memset(memory, 7, length);
    whole_life(start);
    CHECK(memory[length - 1] == 7);
    free(memory);
}

static void with_few_descriptors(int start)
{
    struct rlimit limit;
    tine_pool *pool = NULL;
    int refused = 0;
    tine_pool_destroy(create_pool(start, 2, 0));
    int open_now = count_entries("/proc/self/fd") - 1; /* One is the listing's. */
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int more = 0; more < 64; more++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_error error = TINE_ERROR_INIT;
        struct rlimit low = {(rlim_t)(open_now + more), limit.rlim_max};
        options.start = start;
        options.workers = 2;
        options.error = &error;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
        int rc = tine_pool_create(&options, &pool);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
        if (rc == 0) {
            break;
        }
        if (rc != -EMFILE || error.code != rc || error.text[0] == 0) {
            fprintf(stderr, "%d descriptors more: %s, \"%s\"\n", more, tine_errname(rc), error.text);
            exit(1);
        }
        refused++;
        CHECK_EQ(count_entries("/proc/self/fd") - 1, open_now);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
    CHECK(refused > 2 && pool);
    use(pool);
    tine_pool_destroy(pool);
    CHECK_EQ(count_entries("/proc/self/fd") - 1, open_now);
}

static const struct host_case cases[] = {
    {"SIGCHLD ignored", with_sigchld_ignored},
    {"SA_NOCLDWAIT", with_no_child_wait},
    {"SIGCHLD handled", with_sigchld_handler},
    {"a thread in wait", with_a_waiting_thread},
    {"own children", with_own_children},
    {"a subreaper", as_subreaper},
    {"PID 1", as_pid_1},
    {"all signals blocked", with_everything_blocked},
    {"64 threads", with_64_threads},
    {"no standard descriptors", without_standard_descriptors},
    {"300 MiB resident", with_much_memory},
    {"few descriptors", with_few_descriptors},
};

int main(int argc, char **argv)
{
    return run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
