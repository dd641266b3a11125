/* A pool in hosts of every kind: it gives right results there, survives the death of a worker and of a supervisor, and
 * the host does not notice that it has guests. Each case is a process of its own: this program, `host_matrix CASE START`. */
#include "family.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

static int add_one(tine_task *task)
{
    int number;
    memcpy(&number, tine_input(task, NULL), sizeof number);
    return number + 1;
}

static int square(tine_task *task, const void *in, void *out)
{
    int number;
    (void)task;
    memcpy(&number, in, sizeof number);
    number *= number;
    memcpy(out, &number, sizeof number);
    return 0;
}

static int tell_pid(tine_task *task)
{
    (void)task;
    return (int)getpid();
}

static int tell_parent(tine_task *task)
{
    (void)task;
    return (int)getppid();
}

static tine_pool *create(int start, size_t workers)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    options.start = start;
    options.workers = workers;
    options.error = &error;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0) {
        fprintf(stderr, "tine_pool_create: %s, %s\n", tine_errname(rc), error.text);
        exit(1);
    }
    return pool;
}

/* Runs one task to its end and gives back its status. */
static int call(tine_pool *pool, tine_fn fn, const void *input, size_t length)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, fn, input, length, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int status = result.status;
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", tine_errname(status), result.message);
    }
    tine_result_release(pool, &result);
    return status;
}

static void map_squares(tine_pool *pool, int first)
{
    enum { COUNT = 300 };
    int in[COUNT], out[COUNT];
    for (int i = 0; i < COUNT; i++) {
        in[i] = first + i;
    }
    CHECK_RC(tine_map(pool, square, in, sizeof *in, out, sizeof *out, COUNT, NULL), 0);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(out[i], (first + i) * (first + i));
    }
}

static void use(tine_pool *pool)
{
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(call(pool, add_one, &i, sizeof i), i + 1);
    }
    map_squares(pool, 7);
}

static uint64_t supervisor_deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.supervisor_deaths;
}

static uint64_t worker_deaths(tine_pool *pool)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    return stats.worker_deaths;
}

/* Right results before and after a worker's death and a supervisor's. */
static void use_and_kill(tine_pool *pool)
{
    use(pool);
    pid_t worker = (pid_t)call(pool, tell_pid, NULL, 0);
    CHECK(worker > 0 && worker != getpid());
    CHECK_EQ(kill(worker, SIGKILL), 0);
    WAIT_UNTIL(worker_deaths(pool) == 1);
    use(pool);
    pid_t supervisor = (pid_t)call(pool, tell_parent, NULL, 0);
    CHECK(supervisor > 1 && supervisor != getpid());
    CHECK_EQ(kill(supervisor, SIGKILL), 0);
    WAIT_UNTIL(supervisor_deaths(pool) == 1);
    use(pool);
}

static void whole_life(int start)
{
    tine_pool *pool = create(start, 2);
    use_and_kill(pool);
    tine_pool_destroy(pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

/* ---- Signals and children ---- */

static void with_sigchld_ignored(int start)
{
    struct sigaction now;
    signal(SIGCHLD, SIG_IGN);
    whole_life(start);
    sigaction(SIGCHLD, NULL, &now);
    CHECK(now.sa_handler == SIG_IGN);
}

static volatile sig_atomic_t sigchlds;

static void count_sigchld(int signal)
{
    (void)signal;
    sigchlds++;
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
    tine_pool *pool = create(start, 2);
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
    tine_pool *pool = create(start, 2);
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
    tine_pool *pool = create(start, 2);
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
    tine_pool *pool = create(start, 2);
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
    tine_pool_destroy(create(start, 2));
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

/* ---- What the host keeps, and what the worker gets ---- */

static void the_host_stays_as_it_is(int start)
{
    struct sigaction before[65], after;
    sigset_t mask, mask_after;
    char folder[256], folder_after[256];
    int status, descriptors = count_entries("/proc/self/fd");
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, count_sigchld);
    sigemptyset(&mask);
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGCHLD);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    umask(0137);
    CHECK_EQ(chdir("/usr"), 0);
    CHECK(getcwd(folder, sizeof folder));
    for (int signal = 1; signal <= 64; signal++) {
        memset(&before[signal], 0, sizeof before[signal]);
        sigaction(signal, NULL, &before[signal]);
    }
    tine_pool *pool = create(start, 2);
    use_and_kill(pool);
    CHECK(wait(&status) == -1 && errno == ECHILD); /* At once, and with the pool alive. */
    CHECK(count_entries("/proc/self/task") <= 2); /* tine's one, at most. */
    /* A program that the host starts gets none of the descriptors. */
    CHECK(count_entries("/proc/self/fd") > descriptors);
    pid_t pid = fork();
    if (pid == 0) {
        char program[] = "host_matrix", word[] = "descriptors", number[16];
        snprintf(number, sizeof number, "%d", descriptors);
        char *arguments[] = {program, word, number, NULL};
        execv("/proc/self/exe", arguments);
        _exit(126);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    for (int round = 0; round < 2; round++) {
        for (int signal = 1; signal <= 64; signal++) {
            memset(&after, 0, sizeof after);
            sigaction(signal, NULL, &after);
            CHECK(after.sa_handler == before[signal].sa_handler && after.sa_flags == before[signal].sa_flags);
        }
        pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
        for (int signal = 1; signal <= 64; signal++) {
            CHECK_EQ(sigismember(&mask_after, signal), sigismember(&mask, signal));
        }
        CHECK_EQ(umask(0137), 0137);
        CHECK(getcwd(folder_after, sizeof folder_after));
        CHECK_STR(folder_after, folder);
        tine_pool_destroy(pool);
        pool = NULL;
    }
    CHECK_EQ(count_entries("/proc/self/fd"), descriptors);
}

struct view {
    int handlers, ignored, blocked, descriptors, standard, input_bytes, threads;
    struct rlimit core;
    unsigned umask_;
    char folder[128], names[600];
};

static int look_around(tine_task *task)
{
    struct view *view = (struct view *)tine_output(task, sizeof *view);
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t mask;
    char byte;
    if (!view) {
        return -ENOMEM;
    }
    memset(view, 0, sizeof *view);
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int signal = 1; signal <= 64; signal++) {
        struct sigaction action;
        int is_fatal = 0;
        for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
            is_fatal |= signal == fatal[i];
        }
        memset(&action, 0, sizeof action);
        if (sigaction(signal, NULL, &action) == 0) {
            view->handlers += action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN && !is_fatal;
            view->ignored += action.sa_handler == SIG_IGN;
        }
        view->blocked += sigismember(&mask, signal) == 1;
    }
    for (int fd = 0; fd < 1024; fd++) {
        if (fcntl(fd, F_GETFD) == -1) {
            continue;
        }
        view->standard += fd < 3;
        view->descriptors += fd >= 3;
        if (fd >= 3) {
            char path[64], target[100];
            size_t used = strlen(view->names);
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            ssize_t length = readlink(path, target, sizeof target - 1);
            target[length > 0 ? length : 0] = 0;
            snprintf(view->names + used, sizeof view->names - used, "%d %s\n", fd, target);
        }
    }
    view->input_bytes = (int)read(0, &byte, 1);
    view->threads = count_entries("/proc/self/task");
    getrlimit(RLIMIT_CORE, &view->core);
    view->umask_ = (unsigned)umask(0);
    umask((mode_t)view->umask_);
    return getcwd(view->folder, sizeof view->folder) ? 0 : -errno;
}

static void the_worker_is_clean(int start)
{
    struct rlimit core;
    sigset_t mask;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_EQ(getrlimit(RLIMIT_CORE, &core), 0);
    core.rlim_cur = core.rlim_max;
    setrlimit(RLIMIT_CORE, &core);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, count_sigchld);
    signal(SIGCHLD, SIG_IGN);
    sigfillset(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    umask(0077);
    CHECK_EQ(chdir("/usr"), 0);
    for (int i = 0; i < 10; i++) { /* Inheritable, and in the way. */
        CHECK(dup(0) > 2);
    }
    tine_pool *pool = create(start, 1);
    CHECK_RC(tine_submit(pool, look_around, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, 0);
    const struct view *view = (const struct view *)result.data;
    CHECK(view && result.length == sizeof *view);
    if (view->descriptors > 5) {
        fprintf(stderr, "the worker's descriptors:\n%s", view->names);
    }
    CHECK(view->descriptors <= 5);
    CHECK_EQ(view->standard, 3);
    CHECK_EQ(view->handlers, 0);
    CHECK_EQ(view->ignored, 0);
    CHECK_EQ(view->blocked, 0);
    CHECK_EQ(view->input_bytes, 0);
    CHECK_EQ(view->threads, 1);
    CHECK_EQ(view->core.rlim_cur, 0);
    CHECK_EQ(view->umask_, 0077);
    CHECK_STR(view->folder, "/usr");
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

/* ---- More pools than one ---- */

static void two_pools(int start)
{
    for (int i = 0; i < 3; i++) {
        tine_pool *one = create(start, 2), *other = create(all_starts[i], 1);
        void *block = tine_alloc(one, 100), *elsewhere = tine_alloc(other, 100);
        CHECK(block && elsewhere && block != elsewhere);
        use(one);
        use_and_kill(other);
        CHECK_EQ(worker_deaths(one), 0);
        tine_pool_destroy(one);
        use(other);
        tine_pool_destroy(other);
    }
}

static int use_a_pool(tine_task *task)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool = NULL;
    int start;
    memcpy(&start, tine_input(task, NULL), sizeof start);
    options.start = start;
    options.workers = 2;
    options.error = &error;
    int rc = tine_pool_create(&options, &pool);
    if (rc != 0) {
        return tine_fail(task, -EIO, "%s: %s", tine_errname(rc), error.text);
    }
    use(pool);
    int status;
    if (wait(&status) != -1 || errno != ECHILD) {
        return tine_fail(task, -EIO, "the inner pool gave its host a child");
    }
    tine_pool_destroy(pool);
    return 4;
}

static int leave_a_pool(tine_task *task)
{
    int start;
    memcpy(&start, tine_input(task, NULL), sizeof start);
    use(create(start, 2));
    return 5;
}

static int misuse_own_pool(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    tine_stats stats = TINE_STATS_INIT;
    CHECK(pool);
    CHECK_RC(tine_pool_fd(pool), TINE_EWORKER);
    CHECK_RC(tine_pool_stats(pool, &stats), TINE_EWORKER);
    CHECK_RC(tine_pool_shutdown(pool, 0), TINE_EWORKER);
    return 6;
}

static void pools_in_workers(int start)
{
    tine_pool *pool = create(start, 2);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(call(pool, use_a_pool, &all_starts[i], sizeof all_starts[i]), 4);
    }
    CHECK_EQ(call(pool, misuse_own_pool, NULL, 0), 6);
    /* One that is left behind goes with its worker. */
    CHECK_EQ(call(pool, leave_a_pool, &all_starts[0], sizeof all_starts[0]), 5);
    CHECK_EQ(worker_deaths(pool), 0);
    use_and_kill(pool);
    tine_pool_destroy(pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

static void a_forked_child_may_not(int start)
{
    tine_pool *pool = create(start, 2);
    tine_id id;
    int number = 5, status, out;
    use(pool);
    CHECK_RC(tine_submit(pool, add_one, &number, sizeof number, NULL, &id), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        tine_result result = TINE_RESULT_INIT;
        tine_stats stats = TINE_STATS_INIT;
        CHECK_RC(tine_submit(pool, add_one, &number, sizeof number, NULL, NULL), TINE_EFORKED);
        CHECK_RC(tine_next(pool, TINE_FOREVER, &result), TINE_EFORKED);
        CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), TINE_EFORKED);
        CHECK_RC(tine_cancel(pool, id), TINE_EFORKED);
        CHECK_RC(tine_pool_fd(pool), TINE_EFORKED);
        CHECK_RC(tine_pool_poll(pool), TINE_EFORKED);
        CHECK_RC(tine_pool_stats(pool, &stats), TINE_EFORKED);
        CHECK_RC(tine_pool_shutdown(pool, 0), TINE_EFORKED);
        CHECK_RC(tine_map(pool, square, &number, sizeof number, &out, sizeof out, 1, NULL), TINE_EFORKED);
        CHECK(tine_alloc(pool, 10) == NULL);
        tine_free(pool, NULL);
        tine_result_release(pool, &result);
        tine_pool_destroy(pool);
        pool = create(start, 2); /* One of its own it may. */
        use_and_kill(pool);
        tine_pool_destroy(pool);
        exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 6);
    tine_result_release(pool, &result);
    CHECK_EQ(worker_deaths(pool), 0);
    use_and_kill(pool);
    tine_pool_destroy(pool);
}

static const struct {
    const char *name;
    void (*run)(int start);
} cases[] = {
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
    {"the host stays as it is", the_host_stays_as_it_is},
    {"the worker is clean", the_worker_is_clean},
    {"two pools", two_pools},
    {"pools in workers", pools_in_workers},
    {"a forked child", a_forked_child_may_not},
};

static int run_case(size_t at, int start)
{
    int status;
    char tag[80];
    snprintf(tag, sizeof tag, "%s-%zu-%d", family_tag(), at, start);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char program[] = "host_matrix", words[2][16];
        snprintf(words[0], sizeof words[0], "%zu", at);
        snprintf(words[1], sizeof words[1], "%d", start);
        char *arguments[] = {program, words[0], words[1], NULL};
        setenv(TAG_VARIABLE, tag, 1);
        alarm(60); /* Only what hangs takes that long. */
        execv("/proc/self/exe", arguments);
        _exit(126);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (status != 0) {
        fprintf(stderr, "%s, %s: wait status %#x\n", cases[at].name, start_name(start), (unsigned)status);
        print_family(tag);
        return 1;
    }
    WAIT_UNTIL(family_is_gone(tag, 0));
    return 0;
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (argc == 3 && strcmp(argv[1], "descriptors") == 0) {
        CHECK_EQ(count_entries("/proc/self/fd"), atoi(argv[2]));
        return 0;
    }
    tag_family(argv);
    tine_init(argc, argv);
    if (argc == 3) {
        size_t at = (size_t)atoi(argv[1]);
        CHECK(at < sizeof cases / sizeof *cases);
        cases[at].run(atoi(argv[2]));
        return 0;
    }
    for (size_t at = 0; at < sizeof cases / sizeof *cases; at++) {
        int64_t began = clock_ns();
        for (int i = 0; i < 3; i++) {
            failed += run_case(at, all_starts[i]);
        }
        printf("%-26s %.2f s\n", cases[at].name, (double)(clock_ns() - began) / 1e9);
        fflush(stdout);
    }
    CHECK_EQ(failed, 0);
    return 0;
}
