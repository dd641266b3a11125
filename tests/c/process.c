/* Single processes: starting, results, ends of every kind, signals, the tree below one, segments, deadlines. */
/* limit: 240 */
#include "family.h"
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>

static int start_method;

static tine_process_options options_of(void)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    options.start = start_method;
    return options;
}

static tine_process *start(tine_fn fn, const void *input, size_t length, const tine_process_options *options)
{
    tine_process_options defaults = options_of();
    tine_process *process = NULL;
    tine_error error = TINE_ERROR_INIT;
    defaults.error = &error;
    int rc = tine_process_start(options ? options : &defaults, fn, input, length, &process);
    if (rc) {
        fprintf(stderr, "%s: %s %s\n", start_name(start_method), tine_errname(rc), error.text);
    }
    CHECK_RC(rc, 0);
    return process;
}

static tine_exit wait_for(tine_process *process)
{
    tine_exit end = TINE_EXIT_INIT;
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    return end;
}

/* ---- Functions of the processes ---- */

static int shout(tine_task *task)
{
    size_t length;
    const char *in = (const char *)tine_input(task, &length);
    char *out = (char *)tine_output(task, length);
    if (!out) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < length; i++) {
        out[i] = (char)toupper((unsigned char)in[i]);
    }
    return 0;
}

/* The same after some time. */
static int work(tine_task *task)
{
    int64_t until = clock_ns() + *(const int64_t *)tine_input(task, NULL);
    while (clock_ns() < until) {
    }
    memset(tine_output(task, 1000), 'w', 1000);
    return 0;
}

static int answer(tine_task *task)
{
    int number;
    memcpy(&number, tine_input(task, NULL), sizeof number);
    return number;
}

static int refuse(tine_task *task)
{
    return tine_fail(task, -EDOM, "no %s today", "answer");
}

static int say_name(tine_task *task)
{
    const char *name = tine_task_name(task);
    strcpy((char *)tine_output(task, 20), name ? name : "nobody");
    return 0;
}

static int leave(tine_task *task)
{
    exit(answer(task));
}

static int crash(tine_task *task)
{
    (void)task;
    volatile int *nowhere = NULL;
    printf("about to crash\n");
    *nowhere = 1;
    return 0;
}

static int stay(tine_task *task)
{
    (void)task;
    for (;;) {
        pause();
    }
    return 0;
}

static int ignore_and_stay(tine_task *task)
{
    signal(SIGTERM, SIG_IGN);
    return stay(task);
}

/* Children and grandchildren, one of them in a session of its own, that stay; it tells the host by a segment. */
static int plant_tree(tine_task *task)
{
    volatile int **place = (volatile int **)(uintptr_t)tine_input(task, NULL);
    volatile int *count = *place;
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            if (i == 1) {
                setsid();
            }
            if (fork() == 0) {
                __sync_fetch_and_add(count, 1);
                for (;;) {
                    pause();
                }
            }
            if (i == 2) {
                _exit(0); /* its child is an orphan */
            }
            __sync_fetch_and_add(count, 1);
            for (;;) {
                pause();
            }
        }
    }
    return stay(task);
}

static int leave_orphans(tine_task *task)
{
    volatile int *count = *(volatile int **)(uintptr_t)tine_input(task, NULL);
    if (fork() == 0) {
        setsid();
        __sync_fetch_and_add(count, 1);
        for (;;) {
            pause();
        }
    }
    while (!*count) {
        nap_ns(100000);
    }
    return 0;
}

/* ---- What they come to ---- */

static void results(void)
{
    for (size_t length = 0; length <= 3 << 20; length = length ? length * 40 : 1) {
        char *text = (char *)malloc(length + 1);
        memset(text, 'a', length);
        tine_process *process = start(shout, text, length, NULL);
        tine_exit end = wait_for(process);
        CHECK_EQ(end.status, 0);
        CHECK_EQ(end.code, 0);
        CHECK_EQ(end.signal, 0);
        CHECK_STR(end.message, "");
        CHECK_EQ(end.length, length);
        CHECK(length == 0 || (((const char *)end.data)[0] == 'A' && ((const char *)end.data)[length - 1] == 'A'));
        CHECK(end.death && end.death->pid == tine_process_pid(process) && end.death->max_rss_bytes > 0);
        /* Again, and to nobody: the answer stays. */
        CHECK_RC(tine_process_wait(process, 0, NULL), 0);
        tine_process_close(process);
        free(text);
    }
    static const int codes[][2] = {{0, 0}, {7, 7}, {255, 255}, {70000, 255}, {-EDOM, 1}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        tine_process *process = start(answer, &codes[i][0], sizeof(int), NULL);
        tine_exit end = wait_for(process);
        CHECK_EQ(end.status, codes[i][0]);
        CHECK_EQ(end.code, codes[i][1]);
        tine_process_close(process);
    }
    tine_process_options options = options_of();
    for (int named = 0; named < 2; named++) {
        options.name = named ? "who am I" : NULL;
        tine_process *process = start(named ? NULL : say_name, NULL, 0, &options);
        CHECK_STR((const char *)wait_for(process).data, named ? "who am I" : "nobody");
        tine_process_close(process);
    }
    tine_process *process = start(refuse, NULL, 0, NULL);
    tine_exit end = wait_for(process);
    CHECK_EQ(end.status, -EDOM);
    CHECK_EQ(end.code, 1);
    CHECK_STR(end.message, "no answer today");
    tine_process_close(process);
}

static void ends(void)
{
    int code = 3;
    tine_process *process = start(leave, &code, sizeof code, NULL);
    tine_exit end = wait_for(process);
    CHECK_EQ(end.status, TINE_EDIED);
    CHECK_EQ(end.code, 3);
    CHECK_EQ(end.signal, 0);
    CHECK(strstr(end.message, "code 3"));
    tine_process_close(process);

    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_process_options options = options_of();
    options.worker = &worker;
    worker.output = TINE_OUTPUT_CAPTURE;
    process = start(crash, NULL, 0, &options);
    end = wait_for(process);
    CHECK_EQ(end.status, TINE_EDIED);
    CHECK_EQ(end.signal, SIGSEGV);
    CHECK_EQ(end.code, 0);
    CHECK(strstr(end.message, "SIGSEGV"));
    CHECK(end.death->fault_address == NULL && end.death->backtrace[0]);
    CHECK_STR(end.death->output, "about to crash\n");
    tine_process_close(process);

    static const int signals[] = {SIGTERM, SIGINT, SIGKILL, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        process = start(stay, NULL, 0, NULL);
        CHECK_EQ(tine_process_alive(process), 1);
        CHECK_RC(tine_process_wait(process, 0, &end), -EAGAIN);
        CHECK_RC(tine_process_wait(process, 1000000, &end), -ETIMEDOUT);
        struct pollfd poll_ = {tine_process_fd(process), POLLIN, 0};
        CHECK_EQ(poll(&poll_, 1, 0), 0);
        CHECK_RC(tine_process_kill(process, signals[i]), 0);
        CHECK_EQ(poll(&poll_, 1, (int)(HANG_NS / 1000000)), 1);
        /* From here on it never says that it would have to wait. */
        CHECK_RC(tine_process_wait(process, 0, &end), 0);
        CHECK_EQ(end.signal, signals[i]);
        CHECK_EQ(end.status, TINE_EDIED);
        CHECK_EQ(tine_process_alive(process), 0);
        CHECK_RC(tine_process_kill(process, SIGTERM), -ESRCH);
        tine_process_close(process);
    }
}

/* Several threads wait for one process, one of them not for long enough. */
static void *wait_in_thread(void *argument)
{
    static const tine_exit nothing = TINE_EXIT_INIT;
    tine_exit *end = (tine_exit *)malloc(sizeof *end);
    *end = nothing;
    CHECK_RC(tine_process_wait((tine_process *)argument, HANG_NS, end), 0);
    return end;
}

static void many_waiters(void)
{
    pthread_t threads[4];
    tine_process *process = start(stay, NULL, 0, NULL);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, wait_in_thread, process), 0);
    }
    CHECK_RC(tine_process_wait(process, 5000000, NULL), -ETIMEDOUT);
    CHECK_RC(tine_process_kill(process, SIGTERM), 0);
    for (int i = 0; i < 4; i++) {
        void *end;
        CHECK_EQ(pthread_join(threads[i], &end), 0);
        CHECK_EQ(((tine_exit *)end)->signal, SIGTERM);
        free(end);
    }
    tine_process_close(process);
}

static void deadlines(void)
{
    tine_process_options options = options_of();
    options.deadline_ns = 30000000;
    options.grace_ns = 20000000;
    tine_process *process = start(stay, NULL, 0, &options);
    tine_exit end = wait_for(process);
    CHECK_EQ(end.status, -ETIMEDOUT);
    CHECK_EQ(end.signal, SIGTERM);
    CHECK(strstr(end.message, "deadline"));
    tine_process_close(process);
    process = start(ignore_and_stay, NULL, 0, &options);
    end = wait_for(process);
    CHECK_EQ(end.status, -ETIMEDOUT);
    /* On a loaded machine the SIGTERM may come before it is ignored. */
    CHECK(end.signal == SIGKILL || end.signal == SIGTERM);
    tine_process_close(process);
    options.deadline_ns = INT64_MAX;
    process = start(shout, "x", 1, &options);
    CHECK_EQ(wait_for(process).status, 0);
    tine_process_close(process);
}

/* ---- What a process has started ---- */

static tine_segment *counter(volatile int **out)
{
    tine_segment *segment = NULL;
    CHECK_RC(tine_segment_create(4096, NULL, &segment), 0);
    *out = (volatile int *)tine_segment_address(segment);
    return segment;
}

static tine_process *start_with(tine_segment *segment, tine_fn fn, volatile int *count, uint32_t flags)
{
    tine_process_options options = options_of();
    options.segments = &segment;
    options.segment_count = 1;
    options.flags = flags;
    return start(fn, &count, sizeof count, &options);
}

static void trees(void)
{
    volatile int *count;
    tine_segment *segment = counter(&count);
    char tag[64];
    snprintf(tag, sizeof tag, "%s", family_tag());
    for (int how = 0; how < 3; how++) {
        *count = 0;
        tine_process *process = start_with(segment, plant_tree, count, 0);
        WAIT_UNTIL(*count == 5);
        tine_exit end;
        switch (how) {
        case 0: /* Closing ends all of it. */
            break;
        case 1:
            CHECK_RC(tine_process_kill_tree(process, SIGKILL), 0);
            end = wait_for(process);
            CHECK_EQ(end.signal, SIGKILL);
            break;
        default:
            CHECK_RC(tine_process_kill_tree(process, SIGTERM), 0);
            end = wait_for(process);
            CHECK_EQ(end.signal, SIGTERM);
        }
        if (how > 0) { /* All but the supervisor. */
            struct process left[8];
            WAIT_UNTIL(list_family(tag, 0, left, 8) == 1);
        }
        tine_process_close(process);
        WAIT_UNTIL(family_is_gone(tag, 0));
    }
    *count = 0;
    tine_process *process = start_with(segment, leave_orphans, count, 0);
    CHECK_EQ(wait_for(process).status, 0);
    struct process left[8];
    WAIT_UNTIL(list_family(tag, 0, left, 8) == 2);
    CHECK_RC(tine_process_kill_tree(process, SIGINT), 0);
    WAIT_UNTIL(list_family(tag, 0, left, 8) == 1);
    tine_process_close(process);
    WAIT_UNTIL(family_is_gone(tag, 0));
    CHECK_RC(tine_segment_close(segment), 0);
}

static int count_up(tine_task *task)
{
    volatile int *count = *(volatile int **)(uintptr_t)tine_input(task, NULL);
    while (*count >= 0) {
        __sync_fetch_and_add(count, 1);
        nap_ns(100000);
    }
    return 0;
}

/* A detached process lives on after its handle, and after its host. */
static void detached(void)
{
    volatile int *count;
    tine_segment *segment = counter(&count);
    char tag[64];
    snprintf(tag, sizeof tag, "%s", family_tag());
    tine_process *process = start_with(segment, count_up, count, TINE_DETACHED);
    tine_process_close(process);
    int before = *count;
    WAIT_UNTIL(*count > before + 5);
    *count = -1000000;
    WAIT_UNTIL(family_is_gone(tag, 0));

    for (int detach = 0; detach < 2; detach++) {
        *count = 0;
        pid_t host = fork();
        if (host == 0) {
            start_with(segment, count_up, count, detach ? TINE_DETACHED : 0);
            kill(getpid(), SIGKILL);
        }
        int status;
        CHECK_EQ(waitpid(host, &status, 0), host);
        CHECK(WIFSIGNALED(status));
        if (detach) {
            before = *count;
            WAIT_UNTIL(*count > before + 5);
            *count = -1000000;
        }
        WAIT_UNTIL(family_is_gone(tag, 0));
    }
    CHECK_RC(tine_segment_close(segment), 0);
}

/* ---- Channels ---- */

/* Sends back what comes, until nobody is at the other end. */
static int echo(tine_task *task)
{
    char buffer[100];
    size_t length;
    tine_channel *channel = tine_task_channel(task);
    int rc, count = 0;
    if (!channel) {
        return -ENOLINK;
    }
    while ((rc = tine_channel_receive(channel, TINE_FOREVER, buffer, sizeof buffer, &length)) == 0) {
        if ((rc = tine_channel_send(channel, buffer, length, TINE_FOREVER))) {
            return rc;
        }
        count++;
    }
    return rc == -EPIPE ? count : rc;
}

static int say_and_die(tine_task *task)
{
    tine_channel_send(tine_task_channel(task), "bye", 4, TINE_FOREVER);
    return raise(SIGKILL);
}

static void channels(void)
{
    tine_channel *near, *far;
    char buffer[100];
    size_t length;
    CHECK_RC(tine_channel_create(NULL, &near, &far), 0);
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_process_options options = options_of();
    options.worker = &worker;
    options.channel = far;
    tine_process *process = start(echo, NULL, 0, &options);
    for (int i = 0; i < 50; i++) {
        CHECK_RC(tine_channel_send(near, &i, sizeof i, HANG_NS), 0);
        CHECK_RC(tine_channel_receive(near, HANG_NS, buffer, sizeof buffer, &length), 0);
        CHECK_EQ(length, sizeof i);
        CHECK(memcmp(buffer, &i, sizeof i) == 0);
    }
    tine_channel_close(near);
    CHECK_EQ(wait_for(process).status, 50);
    tine_process_close(process);

    /* Its death is seen at the other end, after what it had sent. */
    CHECK_RC(tine_channel_create(NULL, &near, &far), 0);
    options.channel = far;
    process = start(say_and_die, NULL, 0, &options);
    CHECK_RC(tine_channel_receive(near, HANG_NS, buffer, sizeof buffer, &length), 0);
    CHECK_STR(buffer, "bye");
    CHECK_RC(tine_channel_receive(near, HANG_NS, buffer, sizeof buffer, &length), -EPIPE);
    CHECK_EQ(wait_for(process).signal, SIGKILL);
    tine_process_close(process);
    tine_channel_close(near);

    /* A start that fails leaves the end where it is. */
    CHECK_RC(tine_channel_create(NULL, &near, &far), 0);
    options.channel = far;
    worker.directory = "/no/such/place";
    CHECK_RC(tine_process_start(&options, echo, NULL, 0, &process), TINE_EWORKERSTART);
    CHECK_RC(tine_channel_send(far, "x", 1, 0), 0);
    CHECK_RC(tine_channel_receive(near, 0, buffer, sizeof buffer, &length), 0);
    tine_channel_close(near);
    tine_channel_close(far);
    process = start(echo, NULL, 0, NULL);
    CHECK_EQ(wait_for(process).status, -ENOLINK);
    tine_process_close(process);
}

/* ---- Its surroundings ---- */

static int look_around(tine_task *task)
{
    char name[32] = "", directory[256] = "";
    struct rlimit limit;
    FILE *file = fopen("/proc/self/comm", "r");
    CHECK(file && fgets(name, sizeof name, file));
    fclose(file);
    name[strcspn(name, "\n")] = 0;
    CHECK(getcwd(directory, sizeof directory));
    getrlimit(RLIMIT_NOFILE, &limit);
    char *out = (char *)tine_output(task, 300);
    const char *word = getenv("TINE_TEST_WORD");
    snprintf(out, 300, "%s %s %s %d %d", name, directory, word ? word : "-", (int)limit.rlim_cur, getpgrp() == getpid());
    return 0;
}

static void surroundings(void)
{
    const char *environment[] = {"TINE_TEST_WORD=spoon", NULL};
    tine_limit limits[] = {{RLIMIT_NOFILE, 60, 60}};
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_process_options options = options_of();
    options.worker = &worker;
    worker.environment = environment;
    worker.directory = "/proc";
    worker.limits = limits;
    worker.limit_count = 1;
    options.title = "spoon-bender";
    tine_process *process = start(look_around, NULL, 0, &options);
    CHECK_STR(tine_process_title(process), "spoon-bender");
    CHECK_STR((const char *)wait_for(process).data, "spoon-bender /proc spoon 60 1");
    tine_process_close(process);
    process = start(shout, NULL, 0, NULL);
    CHECK_STR(tine_process_title(process), "tine-process");
    tine_process_close(process);
}

/* ---- Somebody dies ---- */

static void supervisor_dies(void)
{
    char tag[64];
    snprintf(tag, sizeof tag, "%s", family_tag());
    for (int stop = 0; stop < 2; stop++) {
        tine_process *process = start(stay, NULL, 0, NULL);
        struct process all[8];
        int count = 0;
        WAIT_UNTIL((count = list_family(tag, 0, all, 8)) == 2);
        pid_t supervisor = all[all[0].pid == tine_process_pid(process)].pid;
        CHECK_EQ(kill(supervisor, stop ? SIGSTOP : SIGKILL), 0);
        if (stop) {
            CHECK_RC(tine_process_kill(process, SIGTERM), 0);
        }
        tine_exit end = wait_for(process);
        /* One that is stopped is made to go on. */
        CHECK_EQ(end.signal, stop ? SIGTERM : SIGKILL);
        CHECK_EQ(end.status, TINE_EDIED);
        CHECK_EQ(count, 2);
        tine_process_close(process);
        WAIT_UNTIL(family_is_gone(tag, 0));
    }
}

/* ---- Errors ---- */

static void refused(const tine_process_options *change, tine_fn fn, int code, const char *word)
{
    tine_process_options options = *change;
    tine_error error = TINE_ERROR_INIT;
    tine_process *process = (tine_process *)&error;
    options.error = &error;
    CHECK_RC(tine_process_start(&options, fn, NULL, 0, &process), code);
    CHECK(process == (tine_process *)&error);
    CHECK_EQ(error.code, code);
    if (!strstr(error.text, word)) {
        fprintf(stderr, "\"%s\" has no \"%s\"\n", error.text, word);
        exit(1);
    }
}

static void errors(void)
{
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_process_options options = options_of();
    options.worker = &worker;
    tine_process *process;
    CHECK_RC(tine_process_start(&options, stay, NULL, 0, NULL), -EINVAL);
    CHECK_RC(tine_process_start(&options, stay, NULL, 1, &process), -EINVAL);
    refused(&options, NULL, TINE_EFUNCTION, "fn is NULL");
    refused(&options, (tine_fn)(uintptr_t)&options, TINE_EFUNCTION, "is not a function");
    options.name = "nobody";
    refused(&options, NULL, TINE_ENAME, "nobody");
    refused(&options, stay, -EINVAL, ".name");
    options = options_of();
    options.flags = 1u << 30;
    refused(&options, stay, -EINVAL, "0x40000000");
    options = options_of();
    options.start = 17;
    refused(&options, stay, -EINVAL, "17");
    options = options_of();
    options.deadline_ns = -5;
    refused(&options, stay, -EINVAL, "deadline_ns is -5");
    options = options_of();
    options.grace_ns = -6;
    refused(&options, stay, -EINVAL, "grace_ns is -6");
    options = options_of();
    options.segment_count = 1;
    refused(&options, stay, -EINVAL, "segments");
    tine_segment *nothing = NULL;
    options.segments = &nothing;
    refused(&options, stay, -EINVAL, "segment is NULL");
    options = options_of();
    options.worker = &worker;
    worker.nice = 99;
    refused(&options, stay, -EINVAL, "99");
    worker.nice = 0;
    worker.affinity = TINE_AFFINITY_COMPACT;
    refused(&options, stay, -EINVAL, "worker.affinity");
    worker.affinity = TINE_AFFINITY_NONE;
    options = options_of();
    options.heap_bytes = 5;
    refused(&options, stay, -EINVAL, "heap_bytes is 5");
    options = options_of();
    options.worker = &worker;
    worker.directory = "/no/such/place";
    refused(&options, stay, TINE_EWORKERSTART, "/no/such/place");
    if (start_method != TINE_START_FORK) {
        options = options_of();
        options.worker_path = "/no/such/program";
        refused(&options, stay, -ENOENT, "/no/such/program");
    }
    options = options_of();
    options.size = 3;
    CHECK_RC(tine_process_start(&options, stay, NULL, 0, &process), -EINVAL);

    process = start(stay, NULL, 0, NULL);
    tine_exit end = TINE_EXIT_INIT;
    CHECK_RC(tine_process_kill(process, 0), -EINVAL);
    CHECK_RC(tine_process_kill(process, 65), -EINVAL);
    CHECK_RC(tine_process_kill_tree(process, -1), -EINVAL);
    end.size = 1;
    CHECK_RC(tine_process_wait(process, 0, &end), -EINVAL);
    CHECK_RC(tine_process_wait(NULL, 0, NULL), -EINVAL);
    CHECK_RC(tine_process_kill(NULL, SIGTERM), -EINVAL);
    CHECK_RC(tine_process_kill_tree(NULL, SIGTERM), -EINVAL);
    CHECK_RC(tine_process_alive(NULL), -EINVAL);
    CHECK_RC(tine_process_pid(NULL), -EINVAL);
    CHECK_RC(tine_process_fd(NULL), -EINVAL);
    CHECK(tine_process_title(NULL) == NULL);
    tine_process_close(NULL);
    pid_t child = fork();
    if (child == 0) {
        end.size = sizeof end;
        CHECK_RC(tine_process_wait(process, 0, &end), TINE_EFORKED);
        CHECK_RC(tine_process_kill(process, SIGTERM), TINE_EFORKED);
        CHECK_RC(tine_process_kill_tree(process, SIGTERM), TINE_EFORKED);
        CHECK_RC(tine_process_alive(process), TINE_EFORKED);
        CHECK_RC(tine_process_fd(process), TINE_EFORKED);
        tine_process_close(process);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(tine_process_alive(process), 1);
    tine_process_close(process);
}

static void handler(int signal_)
{
    (void)signal_;
}

static void interrupted(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    struct itimerval timer = {{0, 2000}, {0, 2000}};
    tine_process_options options = options_of();
    options.flags = TINE_INTERRUPTIBLE;
    tine_process *process = start(stay, NULL, 0, &options);
    tine_process *other = start(stay, NULL, 0, NULL);
    CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
    CHECK_RC(tine_process_wait(process, HANG_NS, NULL), -EINTR);
    CHECK_RC(tine_process_wait(other, 50000000, NULL), -ETIMEDOUT);
    memset(&timer, 0, sizeof timer);
    CHECK_EQ(setitimer(ITIMER_REAL, &timer, NULL), 0);
    tine_process_close(process);
    tine_process_close(other);
}

/* Processes that are killed at any moment from their start on, and their supervisors: everything ends, and nothing is left. */
static void storm(int rounds)
{
    uint64_t seed = random_seed();
    char tag[64];
    snprintf(tag, sizeof tag, "%s", family_tag());
    struct belongings before = take_stock();
    int64_t *times = (int64_t *)malloc(sizeof *times * (size_t)rounds);
    int dead = 0, done = 0;
    for (int round = 0; round < rounds; round++) {
        tine_process *processes[3];
        for (int i = 0; i < 3; i++) {
            int64_t ns = (int64_t)(random_next(&seed) % 5000000);
            processes[i] = start(i == 1 ? stay : work, &ns, sizeof ns, NULL);
        }
        struct process all[16];
        int count = list_family(tag, 0, all, 16);
        int victim = (int)(random_next(&seed) % (uint64_t)(count + 1));
        int64_t began = clock_ns();
        if (victim < count) {
            kill(all[victim].pid, SIGKILL);
        }
        tine_process_kill(processes[1], SIGKILL);
        for (int i = 0; i < 3; i++) {
            tine_exit end = wait_for(processes[i]);
            if (end.status == 0) {
                CHECK_EQ(end.length, 1000);
                CHECK_EQ(((const char *)end.data)[999], 'w');
                done++;
            } else {
                CHECK_EQ(end.status, TINE_EDIED);
                CHECK_EQ(end.signal, SIGKILL);
                dead++;
            }
        }
        times[round] = clock_ns() - began;
        for (int i = 0; i < 3; i++) {
            tine_process_close(processes[i]);
        }
    }
    WAIT_UNTIL(family_is_gone(tag, 0));
    check_stock(before);
    printf("%s: %d processes, %d killed, %d with their result\n", start_name(start_method), 3 * rounds, dead, done);
    print_percentiles("from kill to the last of three ends", times, (size_t)rounds);
    free(times);
}

/* The host is killed at any moment while it starts and ends processes with trees below them: nothing of it is left. */
static void hosts_die(int rounds)
{
    uint64_t seed = random_seed();
    char tag[64];
    volatile int *count;
    tine_segment *segment = counter(&count);
    snprintf(tag, sizeof tag, "%s", family_tag());
    int64_t *times = (int64_t *)malloc(sizeof *times * (size_t)rounds);
    for (int round = 0; round < rounds; round++) {
        pid_t host = fork();
        if (host == 0) {
            for (;;) {
                tine_process *processes[2];
                for (int i = 0; i < 2; i++) {
                    processes[i] = start_with(segment, plant_tree, count, 0);
                }
                for (int i = 0; i < 2; i++) {
                    tine_process_close(processes[i]);
                }
            }
        }
        nap_ns((int64_t)(random_next(&seed) % 20000000));
        CHECK_EQ(kill(host, SIGKILL), 0);
        int status;
        CHECK_EQ(waitpid(host, &status, 0), host);
        CHECK(WIFSIGNALED(status));
        int64_t began = clock_ns();
        WAIT_UNTIL(family_is_gone(tag, 0));
        times[round] = clock_ns() - began;
    }
    CHECK_RC(tine_segment_close(segment), 0);
    print_percentiles("from the host's kill to nobody left", times, (size_t)rounds);
    free(times);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_register("who am I", say_name), 0);
    tine_init(argc, argv);
    tag_family(argv);
    many_waiters(); /* The C library keeps what threads had. */
    for (int i = 0; i < 3; i++) {
        start_method = all_starts[i];
        struct belongings before = take_stock();
        results();
        ends();
        many_waiters();
        deadlines();
        trees();
        detached();
        channels();
        surroundings();
        supervisor_dies();
        errors();
        interrupted();
        check_stock(before);
        int is_long = getenv("TINE_STORM") != NULL;
        storm(is_long ? 1000 : 20);
        hosts_die(is_long ? 300 : 10);
    }
    return 0;
}
