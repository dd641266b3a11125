/* Single processes: starting, results, ends of every kind, signals, the tree below one, segments, deadlines. */
/* limit: 240 */
#include "processes.h"
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>

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

static int ignore_and_stay(tine_task *task)
{
    signal(SIGTERM, SIG_IGN);
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
        CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
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

/* A supervisor that somebody has stopped cannot say how its process has ended. No wait is longer for that than it was to be, and who
 * asks again and again has it told to go on. */
static void word_is_missing(void)
{
    tine_process *process = start(stay, NULL, 0, NULL);
    tine_exit end = TINE_EXIT_INIT;
    struct process all[8], supervisor;
    struct pollfd poll_ = {tine_process_fd(process), POLLIN, 0};
    WAIT_UNTIL(list_family(family_tag(), 0, all, 8) == 2);
    supervisor = all[all[0].pid == tine_process_pid(process)];
    CHECK_EQ(kill(supervisor.pid, SIGSTOP), 0);
    WAIT_UNTIL(look_at(supervisor.pid, &supervisor) && supervisor.state == 'T');
    CHECK_EQ(kill(tine_process_pid(process), SIGKILL), 0);
    CHECK_EQ(poll(&poll_, 1, (int)(HANG_NS / 1000000)), 1);
    CHECK_RC(tine_process_wait(process, 0, &end), -EAGAIN);
    CHECK_RC(tine_process_wait(process, 1, &end), -ETIMEDOUT);
    WAIT_UNTIL(tine_process_wait(process, 0, &end) == 0);
    CHECK_EQ(end.signal, SIGKILL);
    tine_process_close(process);
}

/* ---- What a process has started ---- */

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
        word_is_missing();
        many_waiters();
        deadlines();
        trees();
        detached();
        channels();
        surroundings();
        supervisor_dies();
        check_stock(before);
    }
    return 0;
}
