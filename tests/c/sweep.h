/* Fails the system calls of a whole family of processes, one after the other.
 *
 * A scenario is a function of a C test: it sets something up, does the part that counts between sweep_begin() and sweep_end(),
 * and checks with CHECK that what was promised holds, whatever has failed. A first run lists the calls that every process of
 * the family makes in that part: the host, what it forks or clones, what those execute, all their threads. Each further run is
 * a new process that runs the scenario again, and in it one of these calls fails:
 *
 *   once     this call, with this errno; TRUNCATED lets a receive drop the descriptors of its message instead
 *   call     every call of this number in this process from here on, as in a sandbox
 *   class    every call in this process that takes of what is short, from here until sweep_end(): EMFILE or ENOMEM
 *   kill     the process is killed where it makes the call, before it is made
 *
 * A call is named by process (in the order of their first calls; 0 is the host), number and ordinal. What goes another way in
 * a later run and is not met is counted as such. After each run the host must have exited with 0, within a limit, and nobody
 * of its family may be left.
 *
 *   static void put_and_get(void) { ...; sweep_begin(); ...; sweep_end(); ... CHECK(...); }
 *   static const struct sweep_scenario scenarios[] = {{"put_and_get", put_and_get}};
 *   int main(int argc, char **argv) { tine_init(argc, argv); return SWEEP_MAIN(argc, argv, scenarios); }
 *
 *   PROGRAM                            a sample of the runs; TINE_STORM=1: all of them
 *   PROGRAM list SCENARIO              the calls that there are
 *   PROGRAM one SCENARIO once|call|class|kill PROCESS CALL ORDINAL [ERRNO]     one run, its output in full
 *
 * A scenario that shall fail only some processes' calls, or only some calls, has a filter: `wanted(process, name of the
 * process, name of the call)`. A check that depends on what has failed asks sweep_struck() and sweep_has_killed().
 *
 * How: the host installs a seccomp filter whose notifications this program answers: it works for threads, children made by
 * whatever flags and executed programs alike, changes nothing about signals and parents, and costs some microseconds a call. */
#ifndef SWEEP_H
#define SWEEP_H

#include "sweep_calls.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

struct sweep_scenario {
    const char *name;
    void (*run)(void);
    int (*wanted)(int process, const char *comm, const char *call); /* NULL: all */
};

enum sweep_mode { SWEEP_LIST, SWEEP_ONCE, SWEEP_CALL, SWEEP_CLASS, SWEEP_KILL };
static const char *const sweep_modes[] = {"list", "once", "call", "class", "kill"};

/* ---- What the scenario and this program tell each other, in memory that they share ---- */

struct sweep_shared {
    int counting; /* by the scenario: it is in the part that counts */
    int listener; /* by the scenario: where its filter's notifications come, and 1 */
    int taken;    /* by this program: it has a copy */
    int struck;   /* by this program: how many calls it has made fail */
    int mode;
};

static struct sweep_shared *sweep_shared;

static inline void sweep_begin(void)
{
    __atomic_store_n(&sweep_shared->counting, 1, __ATOMIC_SEQ_CST);
}

static inline void sweep_end(void)
{
    __atomic_store_n(&sweep_shared->counting, 0, __ATOMIC_SEQ_CST);
}

/* How many calls have failed so far. */
static inline int sweep_struck(void)
{
    return __atomic_load_n(&sweep_shared->struck, __ATOMIC_SEQ_CST);
}

/* Whether a process of the family has been killed, or will be. */
static inline int sweep_kills(void)
{
    return sweep_shared->mode == SWEEP_KILL;
}

/* ---- One run ---- */

#define SWEEP_PROCESSES 64
#define SWEEP_NUMBERS 512
#define SWEEP_CALLS 8192

struct sweep_plan {
    int mode, process, ordinal, error;
    long number;
};

struct sweep_call {
    int process, ordinal;
    long number;
    char comm[16];
};

struct sweep_run {
    struct sweep_plan plan;
    const struct sweep_scenario *scenario;
    pid_t tids[1024], tgids[1024]; /* whose thread is whose */
    size_t tid_count;
    pid_t processes[SWEEP_PROCESSES];
    int process_count;
    int ordinals[SWEEP_PROCESSES][SWEEP_NUMBERS];
    struct sweep_call *calls; /* where they are to be listed */
    size_t call_count;
    pid_t squeezed; /* a process whose limit on descriptors is to be put back */
    struct rlimit limit;
    int status, is_over, hung, left;
};

static inline pid_t sweep_process_of(struct sweep_run *run, pid_t tid)
{
    for (size_t i = 0; i < run->tid_count; i++) {
        if (run->tids[i] == tid) {
            return run->tgids[i];
        }
    }
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    const char *at = read_file(path, text, sizeof text) > 0 ? strstr(text, "\nTgid:") : NULL;
    pid_t process = at ? (pid_t)atoi(at + 6) : tid;
    if (run->tid_count < sizeof run->tids / sizeof *run->tids) {
        run->tids[run->tid_count] = tid;
        run->tgids[run->tid_count++] = process;
    }
    return process;
}

static inline int sweep_index_of(struct sweep_run *run, pid_t process)
{
    for (int i = 0; i < run->process_count; i++) {
        if (run->processes[i] == process) {
            return i;
        }
    }
    if (run->process_count == SWEEP_PROCESSES) {
        return SWEEP_PROCESSES - 1;
    }
    run->processes[run->process_count] = process;
    return run->process_count++;
}

/* Kills the family, whoever has adopted its members: this program is the ancestor that does. */
static inline void sweep_kill_all(void)
{
    char text[4096], path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    if (read_file(path, text, sizeof text) > 0) {
        for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
            kill((pid_t)atoi(word), SIGKILL);
        }
    }
}

/* Whether the call is one to fail in this run, and what is known of it where it is to be listed. */
static inline int sweep_is_hit(struct sweep_run *run, const struct seccomp_notif *request, pid_t process)
{
    const struct sweep_plan *plan = &run->plan;
    long number = request->data.nr;
    int index = sweep_index_of(run, process);
    if (!__atomic_load_n(&sweep_shared->counting, __ATOMIC_SEQ_CST) || number < 0 || number >= SWEEP_NUMBERS ||
        !sweep_kind_of(number) || (number == SYS_fcntl && request->data.args[1] != F_DUPFD_CLOEXEC)) {
        return 0;
    }
    int ordinal = run->ordinals[index][number]++;
    if (run->calls && run->call_count < SWEEP_CALLS) {
        struct sweep_call *call = &run->calls[run->call_count];
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/comm", (int)process);
        call->process = index;
        call->number = number;
        call->ordinal = ordinal;
        if (read_file(path, call->comm, sizeof call->comm) < 0) {
            call->comm[0] = 0;
        }
        call->comm[strcspn(call->comm, "\n")] = 0;
        const struct sweep_scenario *scenario = run->scenario;
        run->call_count += !scenario->wanted || scenario->wanted(index, call->comm, sweep_kind_of(number)->name);
    }
    int is_place = index == plan->process && number == plan->number && ordinal == plan->ordinal;
    switch (plan->mode) {
    case SWEEP_ONCE:
    case SWEEP_KILL:
        return is_place;
    case SWEEP_CALL:
        return index == plan->process && number == plan->number && ordinal >= plan->ordinal;
    case SWEEP_CLASS:
        return is_place || (sweep_struck() && index == plan->process && sweep_takes(number, plan->error));
    default:
        return 0;
    }
}

/* Takes one notification and answers it. */
static inline void sweep_answer(struct sweep_run *run, int listener)
{
    struct seccomp_notif request;
    struct seccomp_notif_resp response;
    memset(&request, 0, sizeof request);
    memset(&response, 0, sizeof response);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) != 0) {
        return; /* it was killed in the meantime */
    }
    pid_t process = sweep_process_of(run, (pid_t)request.pid);
    if (run->squeezed && run->squeezed == process) {
        prlimit(process, RLIMIT_NOFILE, &run->limit, NULL);
        run->squeezed = 0;
    }
    response.id = request.id;
    response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    if (sweep_is_hit(run, &request, process)) {
        __atomic_add_fetch(&sweep_shared->struck, 1, __ATOMIC_SEQ_CST);
        if (run->plan.mode == SWEEP_KILL) {
            kill(process, SIGKILL); /* it stands in the call, so the number is its own */
        } else if (run->plan.error == SWEEP_TRUNCATED) {
            struct rlimit none;
            CHECK(prlimit(process, RLIMIT_NOFILE, NULL, &run->limit) == 0);
            none = run->limit;
            none.rlim_cur = 0;
            CHECK(prlimit(process, RLIMIT_NOFILE, &none, NULL) == 0);
            run->squeezed = process;
        } else {
            response.flags = 0;
            response.error = -run->plan.error;
        }
    }
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

/* In the host: all calls from here on, and those of whoever descends from it, are asked about, but for those that cannot fail
 * or are made all the time. */
static inline void sweep_install(void)
{
#define SWEEP_PASS(name)                                                                     \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        SWEEP_PASS(exit),
        SWEEP_PASS(exit_group),
        SWEEP_PASS(rt_sigreturn),
        SWEEP_PASS(rt_sigprocmask),
        SWEEP_PASS(rt_sigaction),
        SWEEP_PASS(sched_yield),
        SWEEP_PASS(clock_nanosleep),
        SWEEP_PASS(nanosleep),
        SWEEP_PASS(brk),
        SWEEP_PASS(close),
        SWEEP_PASS(getpid),
        SWEEP_PASS(gettid),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x7f),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0 /* FUTEX_WAIT */, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 9 /* FUTEX_WAIT_BITSET */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program;
    program.len = sizeof filter / sizeof *filter;
    program.filter = filter;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
    if (fd < 0) {
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    }
    /* No call may be made before somebody answers. */
    __atomic_store_n(&sweep_shared->listener, fd < 0 ? -1 : (int)fd + 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&sweep_shared->taken, __ATOMIC_SEQ_CST)) {
    }
    close((int)fd);
}

/* The listener, which the host has made; -1 where the machine has no such thing. */
static inline int sweep_listener(pid_t host)
{
    int number, pidfd = (int)syscall(SYS_pidfd_open, host, 0);
    CHECK(pidfd >= 0);
    while (!(number = __atomic_load_n(&sweep_shared->listener, __ATOMIC_SEQ_CST))) {
        CHECK(waitpid(host, NULL, WNOHANG) == 0);
    }
    int fd = number < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number - 1, 0);
    close(pidfd);
    if (fd < 0) {
        kill(host, SIGKILL);
        waitpid(host, NULL, 0);
    }
    __atomic_store_n(&sweep_shared->taken, 1, __ATOMIC_SEQ_CST);
    return fd;
}

/* Runs the scenario once; 0 where the machine cannot. `output` gets what it writes. */
static inline int sweep_once(struct sweep_run *run, int output)
{
    memset(sweep_shared, 0, sizeof *sweep_shared);
    sweep_shared->mode = run->plan.mode;
    CHECK(ftruncate(output, 0) == 0);
    lseek(output, 0, SEEK_SET);
    fflush(NULL);
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        dup2(output, 1);
        dup2(output, 2);
        close(output);
        sweep_install();
        run->scenario->run();
        sweep_end();
        exit(0);
    }
    int listener = sweep_listener(host);
    if (listener < 0) {
        return 0;
    }
    int64_t last = clock_ns(), spent = 0;
    int gone = 0;
    run->is_over = 0;
    while (!gone || !run->is_over) {
        struct pollfd poll_;
        pid_t pid;
        poll_.fd = listener;
        poll_.events = POLLIN;
        poll_.revents = 0;
        poll(&poll_, gone ? 0 : 1, run->is_over ? 2 : 50);
        if (poll_.revents & POLLIN) {
            sweep_answer(run, listener);
        }
        int status;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            if (pid == host) {
                run->status = status;
                run->is_over = 1;
                last = clock_ns(), spent = 0;
            }
        }
        gone = run->is_over && pid < 0 && errno == ECHILD && (poll_.revents & POLLHUP);
        if (is_over(run->is_over ? HANG_NS : 3 * HANG_NS, &last, &spent)) {
            run->hung |= !run->is_over;
            run->left |= run->is_over && !run->hung;
            sweep_kill_all();
        }
    }
    close(listener);
    return 1;
}

/* ---- All of them ---- */

struct sweep_tally {
    int runs, struck, missed, hung, left, failed;
};

static inline void sweep_say(const struct sweep_plan *plan, const char *comm)
{
    const struct sweep_kind *kind = sweep_kind_of(plan->number);
    printf("%s %d %s %d %s (%s)", sweep_modes[plan->mode], plan->process, kind ? kind->name : "?", plan->ordinal,
           sweep_error_name(plan->error), comm);
}

static inline void sweep_copy_output(int output, const char *prefix)
{
    char text[8192], *at = text;
    ssize_t length = pread(output, text, sizeof text - 1, 0);
    text[length < 0 ? 0 : length] = 0;
    for (char *line; (line = strsep(&at, "\n")) && (*line || at);) {
        printf("%s%s\n", prefix, line);
    }
}

static inline void sweep_try(struct sweep_run *run, const struct sweep_scenario *scenario, struct sweep_plan plan,
                             const char *comm, int output, struct sweep_tally *tally)
{
    memset(run, 0, sizeof *run);
    run->plan = plan;
    run->scenario = scenario;
    CHECK(sweep_once(run, output));
    int struck = sweep_struck();
    int failed = !run->hung && !run->left && run->status != 0;
    /* A host that was killed itself says nothing; its family has gone with it. */
    failed &= !(plan.mode == SWEEP_KILL && plan.process == 0 && run->status == SIGKILL);
    tally->runs++;
    tally->struck += struck != 0;
    tally->missed += struck == 0;
    tally->hung += run->hung;
    tally->left += run->left;
    tally->failed += failed;
    if (run->hung || run->left || failed) {
        printf("%s: %s: ", scenario->name, run->hung ? "HUNG" : run->left ? "LEFT BEHIND" : "FAILED");
        sweep_say(&plan, comm);
        printf(", status %#x\n", (unsigned)run->status);
        sweep_copy_output(output, "    ");
        fflush(stdout);
    }
}

/* How many runs of a scenario make a sample. */
#define SWEEP_SAMPLE 24

/* Every run that a list of calls asks for; returns how many there are. */
static inline size_t sweep_plans(const struct sweep_call *calls, size_t count, struct sweep_plan *plans, size_t *of,
                                 size_t room)
{
    size_t made = 0;
    for (size_t i = 0; i < count; i++) {
        const struct sweep_kind *kind = sweep_kind_of(calls[i].number);
        struct sweep_plan plan;
        plan.process = calls[i].process;
        plan.number = calls[i].number;
        plan.ordinal = calls[i].ordinal;
        for (int mode = SWEEP_ONCE; mode <= SWEEP_KILL; mode++) {
            for (int j = 0; kind->errors[j] && made < room; j++) {
                int error = kind->errors[j];
                int refused = error == EPERM || error == ENOSYS, scarce = error == EMFILE || error == ENOMEM;
                if ((mode == SWEEP_CALL && !(refused && plan.ordinal == 0)) ||
                    (mode == SWEEP_CLASS && !(scarce && sweep_takes(plan.number, error))) ||
                    (mode == SWEEP_KILL && j > 0)) {
                    continue;
                }
                plan.mode = mode;
                plan.error = mode == SWEEP_KILL ? 0 : error;
                of[made] = i;
                plans[made++] = plan;
            }
        }
    }
    return made;
}

/* The command "one SCENARIO MODE PROCESS CALL ORDINAL [ERROR]": a single run, whose output is shown. */
static inline int sweep_one(struct sweep_run *run, const struct sweep_scenario *scenario, int argc, char **argv, int output)
{
    int64_t started = clock_ns();
    struct sweep_tally tally;
    struct sweep_plan plan;
    CHECK(argc >= 7);
    memset(&tally, 0, sizeof tally);
    memset(&plan, 0, sizeof plan);
    for (int mode = 0; mode <= SWEEP_KILL; mode++) {
        plan.mode = strcmp(sweep_modes[mode], argv[3]) == 0 ? mode : plan.mode;
    }
    plan.process = atoi(argv[4]);
    plan.number = -1;
    for (size_t i = 0; i < SWEEP_KIND_COUNT; i++) {
        plan.number = strcmp(sweep_kinds[i].name, argv[5]) == 0 ? sweep_kinds[i].number : plan.number;
    }
    plan.ordinal = atoi(argv[6]);
    for (int error = 1; argc > 7 && error <= SWEEP_TRUNCATED; error++) {
        const char *name = error == SWEEP_TRUNCATED || strerrorname_np(error) ? sweep_error_name(error) : "";
        plan.error = strcmp(name, argv[7]) == 0 ? error : plan.error;
    }
    sweep_try(run, scenario, plan, "", output, &tally);
    printf("struck %d times, status %#x, %.3f s\n", sweep_struck(), (unsigned)run->status, (double)(clock_ns() - started) / 1e9);
    sweep_copy_output(output, "");
    return tally.failed + tally.hung + tally.left != 0;
}

static inline int sweep_main(int argc, char **argv, const struct sweep_scenario *scenarios, size_t count)
{
    static struct sweep_run run;
    static struct sweep_call calls[SWEEP_CALLS];
    static struct sweep_plan plans[SWEEP_CALLS * 8];
    static size_t of[SWEEP_CALLS * 8];
    const char *command = argc > 2 ? argv[1] : "all", *only = argc > 2 ? argv[2] : argc > 1 ? argv[1] : NULL;
    int output = memfd_create("output", 0), bad = 0;
    CHECK(output >= 0);
    sweep_shared = (struct sweep_shared *)mmap(NULL, sizeof *sweep_shared, PROT_READ | PROT_WRITE,
                                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)sweep_shared != MAP_FAILED);
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
    uint64_t seed = random_seed();
    for (size_t s = 0; s < count; s++) {
        const struct sweep_scenario *scenario = &scenarios[s];
        struct sweep_tally tally;
        int64_t started = clock_ns();
        memset(&tally, 0, sizeof tally);
        if (only && strcmp(only, scenario->name) != 0) {
            continue;
        }
        if (strcmp(command, "one") == 0) {
            return sweep_one(&run, scenario, argc, argv, output);
        }
        memset(&run, 0, sizeof run);
        run.scenario = scenario;
        run.calls = calls;
        if (!sweep_once(&run, output)) {
            printf("not tested: %s: needs seccomp's user notifications\n", scenario->name);
            continue;
        }
        size_t call_count = run.call_count, process_count = (size_t)run.process_count;
        if (strcmp(command, "list") == 0) {
            for (size_t i = 0; i < call_count; i++) {
                printf("%d %s %d (%s)\n", calls[i].process, sweep_kind_of(calls[i].number)->name, calls[i].ordinal,
                       calls[i].comm);
            }
        }
        if (run.status != 0 || run.hung || run.left) {
            printf("%s: fails by itself, status %#x\n", scenario->name, (unsigned)run.status);
            sweep_copy_output(output, "    ");
            return 1;
        }
        if (strcmp(command, "list") == 0) {
            continue;
        }
        size_t plan_count = sweep_plans(calls, call_count, plans, of, sizeof plans / sizeof *plans);
        CHECK(plan_count > 0);
        size_t step = getenv("TINE_STORM") || plan_count < SWEEP_SAMPLE ? 1 : plan_count / SWEEP_SAMPLE;
        for (size_t i = random_next(&seed) % step; i < plan_count; i += step) {
            sweep_try(&run, scenario, plans[i], calls[of[i]].comm, output, &tally);
        }
        printf("%-24s %zu calls of %zu processes; %d of %zu runs: %d hung, %d left somebody behind, %d failed; "
               "%d not met; %.1f s\n",
               scenario->name, call_count, process_count, tally.runs, plan_count, tally.hung, tally.left, tally.failed,
               tally.missed, (double)(clock_ns() - started) / 1e9);
        fflush(stdout);
        bad |= tally.hung || tally.left || tally.failed || tally.struck == 0;
    }
    return bad;
}

#define SWEEP_MAIN(argc, argv, scenarios) sweep_main(argc, argv, scenarios, sizeof(scenarios) / sizeof *(scenarios))

#endif
