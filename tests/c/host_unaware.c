/* What a host keeps that has a pool, what the workers get, and pools beside and inside of each other. */
#include "hosts.h"
#include <pthread.h>
#include <sys/resource.h>

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
    tine_pool *pool = create_pool(start, 2, 0);
    use_and_kill(pool);
    CHECK(wait(&status) == -1 && errno == ECHILD); /* At once, and with the pool alive. */
    CHECK(count_entries("/proc/self/task") <= 2); /* tine's one, at most. */
    /* A program that the host starts gets none of the descriptors. */
    CHECK(count_entries("/proc/self/fd") > descriptors);
    pid_t pid = fork();
    if (pid == 0) {
        char program[] = "hosts", word[] = "descriptors", number[16];
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
    tine_pool *pool = create_pool(start, 1, 0);
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
        tine_pool *one = create_pool(start, 2, 0), *other = create_pool(all_starts[i], 1, 0);
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
    use(create_pool(start, 2, 0));
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
    tine_pool *pool = create_pool(start, 2, 0);
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
    tine_pool *pool = create_pool(start, 2, 0);
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
        pool = create_pool(start, 2, 0); /* One of its own it may. */
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

static const struct host_case cases[] = {
    {"the host stays as it is", the_host_stays_as_it_is},
    {"the worker is clean", the_worker_is_clean},
    {"two pools", two_pools},
    {"pools in workers", pools_in_workers},
    {"a forked child", a_forked_child_may_not},
};

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "descriptors") == 0) {
        CHECK_EQ(count_entries("/proc/self/fd"), atoi(argv[2]));
        return 0;
    }
    return run_cases(argc, argv, cases, sizeof cases / sizeof *cases);
}
