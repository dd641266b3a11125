/* Single processes: what bad input gets, and waits that a signal interrupts. */
#include "processes.h"
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>

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
}

/* Calls of a handle, of none, and of one in a forked child. */
static void calls(void)
{
    tine_process *process = start(stay, NULL, 0, NULL);
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

/* Shared with processes by fork. */
static int *ran;
/* Which of the next copies of a descriptor is refused; 0: none any more. The library calls this fcntl in the C library's place. */
static int refused_copy;

int fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (command == F_DUPFD_CLOEXEC && refused_copy > 0 && --refused_copy == 0) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

static int count_one(tine_task *task)
{
    (void)task;
    __sync_fetch_and_add(ran, 1);
    return 0;
}

/* A start that is refused a descriptor may fail; not one whose function has been called. */
static void scarce(void)
{
    tine_process_options options = options_of();
    options.start = TINE_START_FORK;
    ran = (int *)mmap(NULL, sizeof *ran, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ran != MAP_FAILED);
    for (int at = 1, was_refused = 1; was_refused; at++) {
        tine_process *process = NULL;
        *ran = 0;
        refused_copy = at;
        int rc = tine_process_start(&options, count_one, NULL, 0, &process);
        was_refused = refused_copy == 0;
        refused_copy = 0;
        if (rc == 0) {
            CHECK_RC(tine_process_wait(process, HANG_NS, NULL), 0);
            CHECK_RC(tine_process_kill(process, SIGTERM), -ESRCH);
            tine_process_close(process);
        }
        CHECK_EQ(*ran, rc == 0);
    }
    munmap(ran, sizeof *ran);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    tag_family(argv);
    for (int i = 0; i < 3; i++) {
        start_method = all_starts[i];
        struct belongings before = take_stock();
        errors();
        calls();
        interrupted();
        check_stock(before);
    }
    scarce();
    return 0;
}
