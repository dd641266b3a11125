/* limit: 300 */
/* How a family comes into the world, and out of it: with its keeper killed at any system call (TINE_STORM=1: at any instruction), where nobody
 * reaps, in another PID namespace than its host, by a host that may not signal it any more, and without /proc. */
#include "family.h"
#include "refuse.h"
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

static int succeed(tine_task *task)
{
    (void)task;
    return 7;
}

static int stay(tine_task *task)
{
    (void)task;
    signal(SIGTERM, SIG_IGN);
    while (pause()) {
    }
    return 0;
}

/* Leaves a process in a session of its own; its number. */
static int leave_one(tine_task *task)
{
    (void)task;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        for (;;) {
            pause();
        }
    }
    return (int)pid;
}

/* A process whose children are in another PID namespace can have no thread. */
static uint32_t pool_flags;

static int call(tine_pool *pool, tine_fn function, int64_t deadline_ns)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_id id;
    options.deadline_ns = deadline_ns;
    options.error = &error;
    if (tine_submit(pool, function, NULL, 0, &options, &id) != 0) {
        fprintf(stderr, "tine_submit: %s\n", error.text);
        exit(1);
    }
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    int status = result.status;
    tine_result_release(pool, &result);
    return status;
}

static void use_processes(int start)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_exit end = TINE_EXIT_INIT;
    tine_process *process;
    options.start = start;
    CHECK_RC(tine_process_start(&options, succeed, NULL, 0, &process), 0);
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    CHECK_EQ(end.status, 7);
    tine_process_close(process);
}

/* Runs a part of the test in a process of its own; 0, or what it has exited with. */
static int apart(int (*part)(int), int start)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        exit(part(start));
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- Who adopts does not reap ---- */

static int come_and_go(int start)
{
    for (int i = 0; i < 3; i++) {
        tine_pool *pool = create_hasty_pool(start, 2, pool_flags);
        CHECK_EQ(call(pool, succeed, 0), 7);
        tine_pool_destroy(pool);
        use_processes(start);
    }
    return 0;
}

static int nobody_reaps(int start)
{
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    CHECK_EQ(apart(come_and_go, start), 0);
    CHECK_EQ(count_children(), 0);
    return 0;
}

/* ---- The keeper is killed ---- */

static pid_t first_child(void)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    CHECK(read_file(path, text, sizeof text) > 0);
    return (pid_t)atoi(text);
}

static int keeper_killed_later(int start)
{
    int status;
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    tine_pool *pool = create_hasty_pool(start, 2, pool_flags);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(call(pool, succeed, 0), 7);
        CHECK_EQ(kill(first_child(), SIGKILL), 0);
        /* The pool finds out sooner or later, and goes on with another one. */
        int got = call(pool, succeed, 0);
        CHECK(got == 7 || got == TINE_EDIED);
    }
    tine_pool_destroy(pool);
    CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
    WAIT_UNTIL(count_children() == 0);
    return 0;
}

/* The host starts one pool; its first keeper is killed after so many stops. Whether it lived to see them. */
static int killed_after(int start, long stops, const char *doubled)
{
    long request = getenv("TINE_STORM") ? PTRACE_SINGLESTEP : PTRACE_SYSCALL, seen = 0;
    int status, killed = 0;
    pid_t keeper = 0, host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        tine_pool *pool;
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.workers = 1;
        options.start = start;
        setenv("TINE_TEST_DOUBLED", doubled, 1);
        CHECK_EQ(ptrace(PTRACE_TRACEME, 0, 0, 0), 0);
        raise(SIGSTOP);
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        int got = call(pool, succeed, 0); /* It may be killed as late as now. */
        CHECK(got == 7 || got == TINE_EDIED);
        tine_pool_destroy(pool);
        _exit(0);
    }
    int64_t last = clock_ns(), spent = 0;
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(ptrace(PTRACE_SETOPTIONS, host, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL), 0);
    CHECK_EQ(ptrace(PTRACE_CONT, host, 0, 0), 0);
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL | WNOHANG);
        if (is_over(HANG_NS, &last, &spent)) {
            fprintf(stderr, "%s: the host hangs, its keeper killed after %ld stops\n", start_name(start), stops);
            exit(1);
        }
        if (pid <= 0) {
            nap_ns(20000);
            continue;
        }
        if (pid == host && !WIFSTOPPED(status)) {
            CHECK_EQ(status, 0);
            break;
        }
        if (!WIFSTOPPED(status)) {
            continue;
        }
        if (pid == host) { /* The keeper that it has made stops by itself. */
            int signal = WSTOPSIG(status);
            ptrace(PTRACE_CONT, pid, 0, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
            continue;
        }
        if (keeper == 0) {
            keeper = pid;
        }
        if (pid != keeper) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
        } else if (seen++ == stops) {
            killed = 1;
            kill(pid, SIGKILL);
        } else {
            ptrace((ptrace_request)request, pid, 0, 0);
        }
    }
    return killed;
}

static int keeper_killed_anywhere(int start)
{
    char path[] = "/tmp/tine-doubled-XXXXXX";
    long stops = 0;
    int file = mkstemp(path);
    CHECK(file >= 0);
    close(file);
    unlink(path);
    while (killed_after(start, stops, path)) {
        CHECK_EQ(access(path, F_OK), -1); /* Nobody has run this program's main a second time. */
        stops++;
    }
    printf("%s: the keeper was killed at each of %ld %s\n", start_name(start), stops,
           getenv("TINE_STORM") ? "instructions" : "stops at system calls");
    CHECK(stops > 20);
    return 0;
}

/* ---- In another PID namespace ---- */

static void sleep_for_ever(void)
{
    for (;;) {
        pause();
    }
}

/* The kernel starts no thread for a process whose children are in another namespace: that is said, and a pool without one works. */
static void no_threads_here(int start)
{
    tine_error error = TINE_ERROR_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id = 0;
    pool_flags = 0;
    tine_pool *pool = create_hasty_pool(start, 2, pool_flags);
    options.error = &error;
    CHECK_RC(tine_submit(pool, succeed, NULL, 0, &options, &id), -EINVAL);
    CHECK(strstr(error.text, "PID namespace") && strstr(error.text, "TINE_NO_THREAD"));
    CHECK(id == 0);
    tine_pool_destroy(pool);
    pool_flags = TINE_NO_THREAD;
}

/* In a namespace with processes that have nothing to do with tine, whose numbers are those of the family's in its own. */
static int among_strangers(int start)
{
    enum { STRANGERS = 20 };
    pid_t strangers[STRANGERS];
    CHECK_EQ(getpid(), 1);
    CHECK_EQ(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_EQ(mount("proc", "/proc", "proc", 0, NULL), 0);
    for (int i = 0; i < STRANGERS; i++) {
        if ((strangers[i] = fork()) == 0) {
            sleep_for_ever();
        }
    }
    int status;
    pid_t host = fork();
    if (host == 0) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_pool *pool;
        pool_flags = TINE_NO_THREAD;
        CHECK_EQ(unshare(CLONE_NEWPID), 0);
        pid_t inner = fork();
        if (inner == 0) {
            sleep_for_ever();
        }
        no_threads_here(start);
        if (start != TINE_START_FORK) {
            options.start = start;
            options.preload = "/nowhere/libnothing.so";
            CHECK_RC(tine_pool_create(&options, &pool), TINE_EWORKERSTART);
        }
        pool = create_hasty_pool(start, 2, pool_flags);
        CHECK_EQ(call(pool, succeed, 0), 7);
        CHECK_EQ(call(pool, stay, 20000000), -ETIMEDOUT);
        tine_pool_destroy(pool);
        tine_process_options how = TINE_PROCESS_OPTIONS_INIT;
        tine_process *process;
        how.start = start;
        CHECK_RC(tine_process_start(&how, stay, NULL, 0, &process), 0);
        CHECK_RC(tine_process_kill_tree(process, SIGTERM), 0);
        CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
        CHECK_RC(tine_process_wait(process, HANG_NS, NULL), 0);
        tine_process_close(process);
        kill(inner, SIGKILL);
        exit(0);
    }
    CHECK_EQ(waitpid(host, &status, 0), host);
    CHECK_EQ(status, 0);
    for (int i = 0; i < STRANGERS; i++) {
        CHECK_EQ(waitpid(strangers[i], &status, WNOHANG), 0);
    }
    return 0;
}

/* Root may; others first become root of a user namespace of their own. */
static void unshare_with(int flags)
{
    if (unshare(flags) != 0) {
        CHECK_EQ(unshare(CLONE_NEWUSER | flags), 0);
    }
}

static int in_a_namespace(int start)
{
    unshare_with(CLONE_NEWPID | CLONE_NEWNS);
    return apart(among_strangers, start);
}

/* ---- The host may not signal them ---- */

static void check_ends(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_EQ(call(pool, stay, 20000000), -ETIMEDOUT);
    CHECK_RC(tine_submit(pool, stay, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_cancel(pool, id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, -ECANCELED);
    tine_result_release(pool, &result);
    CHECK_EQ(call(pool, succeed, 0), 7);
    CHECK_RC(tine_submit(pool, stay, NULL, 0, NULL, &id), 0);
    tine_pool_destroy(pool);
}

static tine_process *start_staying(int start)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_process *process;
    options.start = start;
    CHECK_RC(tine_process_start(&options, stay, NULL, 0, &process), 0);
    return process;
}

static void check_kill(tine_process *process)
{
    tine_exit end = TINE_EXIT_INIT;
    CHECK_RC(tine_process_kill(process, SIGKILL), 0);
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    CHECK_EQ(end.signal, SIGKILL);
    tine_process_close(process);
}

static int as_somebody_else(int start)
{
    if (getuid() != 0) {
        printf("not tested: a host that becomes another user, which takes root\n");
        return 0;
    }
    tine_pool *pool = create_hasty_pool(start, 2, pool_flags);
    tine_process *process = start_staying(start);
    CHECK_EQ(setgid(65534), 0);
    CHECK_EQ(setuid(65534), 0);
    check_ends(pool);
    check_kill(process);
    return 0;
}

static int behind_a_filter(int start)
{
    tine_pool *pool = create_hasty_pool(start, 2, pool_flags);
    tine_process *process = start_staying(start);
    refuse(SYS_pidfd_send_signal);
    check_ends(pool);
    check_kill(process);
    return 0;
}

/* ---- Without /proc ---- */

static int without_proc(int start)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool *pool;
    unshare_with(CLONE_NEWNS);
    CHECK_EQ(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_EQ(mount("none", "/proc", "tmpfs", 0, NULL), 0);
    if (start != TINE_START_FORK) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.start = start;
        options.error = &error;
        CHECK_RC(tine_pool_create(&options, &pool), TINE_EWORKERSTART);
        CHECK(strstr(error.text, "/proc"));
        return 0;
    }
    pool = create_hasty_pool(start, 2, pool_flags);
    pid_t left = call(pool, leave_one, 0);
    CHECK(left > 0 && kill(left, 0) == 0);
    tine_pool_destroy(pool);
    CHECK(kill(left, 0) == -1 && errno == ESRCH);
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_exit end = TINE_EXIT_INIT;
    tine_process *process;
    options.start = start;
    CHECK_RC(tine_process_start(&options, leave_one, NULL, 0, &process), 0);
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    CHECK(end.status > 0 && kill(end.status, 0) == 0);
    CHECK_RC(tine_process_kill_tree(process, SIGTERM), -ENOTSUP);
    CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
    WAIT_UNTIL(kill(end.status, 0) == -1 && errno == ESRCH);
    tine_process_close(process);
    return 0;
}

/* ---- In a forked child ---- */

static int released_in_a_child(int start)
{
    struct belongings before = take_stock();
    tine_pool *pool = create_hasty_pool(start, 2, pool_flags);
    tine_process *process = start_staying(start);
    int status;
    CHECK_EQ(call(pool, succeed, 0), 7);
    pid_t child = fork();
    if (child == 0) {
        tine_process_close(process);
        tine_pool_destroy(pool);
        struct belongings now = take_stock();
        CHECK_EQ(now.descriptors, before.descriptors);
        CHECK_EQ(now.shared_mappings, before.shared_mappings);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(call(pool, succeed, 0), 7);
    check_kill(process);
    tine_pool_destroy(pool);
    return 0;
}

int main(int argc, char **argv)
{
    static int (*const parts[])(int) = {nobody_reaps,   keeper_killed_later, keeper_killed_anywhere, in_a_namespace,
                                        as_somebody_else, behind_a_filter,   without_proc,           released_in_a_child};
    const char *doubled = getenv("TINE_TEST_DOUBLED");
    if (doubled && !getenv("TINE_CHILD")) {
        close(open(doubled, O_CREAT | O_WRONLY, 0600));
        return 1;
    }
    tine_init(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
        for (int i = 0; i < 3; i++) {
            if (apart(parts[part], all_starts[i]) != 0) {
                fprintf(stderr, "part %d, start method %s\n", (int)part, start_name(all_starts[i]));
                return 1;
            }
        }
    }
    return 0;
}
