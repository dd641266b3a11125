/* Segments: made, sealed, passed to other processes in every way, refused where they would be dangerous. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <tine.h>
#include "cgroup.h"
#include "refuse.h"
#include <errno.h>
#include <pthread.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

struct list { struct list *next; int value; };

static int ended(pid_t child)
{
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void a_segment_is_zero_reserved_and_fixed(void)
{
    tine_segment *s;
    CHECK_RC(tine_segment_create(1000000, NULL, &s), 0);
    CHECK_EQ(tine_segment_size(s), 1000000);
    char *bytes = (char *)tine_segment_address(s);
    CHECK(bytes && (uintptr_t)bytes % 4096 == 0);
    for (int i = 0; i < 1000000; i++)
        CHECK_EQ(bytes[i], 0);
    int fd = tine_segment_fd(s);
    CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    CHECK(ftruncate(fd, 100) < 0 && errno == EPERM);
    CHECK(ftruncate(fd, 1 << 30) < 0 && errno == EPERM);
    bytes[999999] = 7;
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_segment_close(NULL), 0);
}

/* A process that has nothing from this one but a socket: what it was forked with is unmapped first. */
static void receiver(int socket, tine_segment *mine)
{
    void *address = tine_segment_address(mine);
    CHECK_RC(tine_segment_close(mine), 0);
    tine_segment *s;
    CHECK_RC(tine_segment_receive(socket, NULL, &s), 0);
    CHECK(tine_segment_address(s) == address);
    CHECK_EQ(tine_segment_size(s), 5000);
    int sum = 0;
    for (struct list *item = *(struct list **)address; item; item = item->next)
        sum += item->value;
    CHECK_EQ(sum, 6);
    (*(struct list **)address)->value = 100;
    CHECK_RC(tine_segment_close(s), 0);
    exit(0);
}

static void pointers_mean_the_same_at_the_other_end(int type)
{
    int sockets[2];
    CHECK_EQ(socketpair(AF_UNIX, type, 0, sockets), 0);
    tine_segment *s, *none = NULL;
    CHECK_RC(tine_segment_create(5000, NULL, &s), 0);
    struct list **head = (struct list **)tine_segment_address(s);
    struct list *items = (struct list *)(head + 1);
    for (int i = 0; i < 3; i++) {
        items[i].value = i + 1;
        items[i].next = i < 2 ? &items[i + 1] : NULL;
    }
    *head = items;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        receiver(sockets[1], s);
    close(sockets[1]);
    CHECK_RC(tine_segment_send(sockets[0], s), 0);
    CHECK_EQ(ended(child), 0);
    CHECK_EQ(items[0].value, 100);
    CHECK_RC(tine_segment_send(sockets[0], s), -EPIPE);
    CHECK_RC(tine_segment_receive(sockets[0], NULL, &none), -EPIPE);
    CHECK(none == NULL);
    close(sockets[0]);
    CHECK_RC(tine_segment_close(s), 0);
}

static void what_is_no_segment_is_not_received(void)
{
    int sockets[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sockets), 0);
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_receive(sockets[0], NULL, &s), -EAGAIN);
    CHECK_EQ(send(sockets[1], "tine/seg", 8, 0), 8);
    CHECK_RC(tine_segment_receive(sockets[0], NULL, &s), -EPROTO);
    CHECK_RC(tine_segment_receive(-1, NULL, &s), -EBADF);
    CHECK(s == NULL);
    close(sockets[0]);
    close(sockets[1]);
}

static void only_the_creator_writes(void)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    options.flags = TINE_SEGMENT_READ_ONLY | TINE_SEGMENT_POPULATE;
    tine_segment *s, *other;
    CHECK_RC(tine_segment_create(4096, &options, &s), 0);
    volatile char *mine = (volatile char *)tine_segment_address(s);
    options.flags = TINE_SEGMENT_ANY_ADDRESS | TINE_SEGMENT_POPULATE;
    CHECK_RC(tine_segment_attach(tine_segment_fd(s), &options, &other), 0);
    volatile char *theirs = (volatile char *)tine_segment_address(other);
    CHECK(mine != theirs);
    mine[5] = 9;
    CHECK_EQ(theirs[5], 9);
    CHECK(mprotect((void *)(uintptr_t)theirs, 4096, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, tine_segment_fd(s), 0) == MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        theirs[5] = 1;
        exit(0);
    }
    CHECK_EQ(ended(child), 1000 + SIGSEGV);
    CHECK_RC(tine_segment_close(other), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

static void huge_pages_or_what_there_is(void)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    options.flags = TINE_SEGMENT_HUGE_PAGES;
    tine_segment *s;
    CHECK_RC(tine_segment_create(3 << 20, &options, &s), 0);
    memset(tine_segment_address(s), 3, 3 << 20);
    CHECK_RC(tine_segment_close(s), 0);
}

static void dangerous_descriptors_are_refused(void)
{
    char text[240];
    tine_error error = TINE_ERROR_INIT;
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    options.error = &error;
    tine_segment *s, *none = NULL;
    CHECK_RC(tine_segment_attach(-1, &options, &none), -EBADF);
    CHECK_RC(tine_segment_attach(0, &options, &none), -EINVAL);
    CHECK_RC(tine_segment_attach(tine_segment_fd(NULL), &options, &none), -EBADF);

    int loose = memfd_create("loose", MFD_ALLOW_SEALING);
    CHECK(loose >= 0 && ftruncate(loose, 10000) == 0);
    CHECK_RC(tine_segment_attach(loose, &options, &none), -EPERM);
    CHECK(error.code == -EPERM && strstr(error.text, "shrink"));
    CHECK_EQ(fcntl(loose, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_RC(tine_segment_attach(loose, &options, &none), -EINVAL);

    /* A copy of a real header, with one word wrong at a time. */
    CHECK_RC(tine_segment_create(8000, NULL, &s), 0);
    uint64_t header[6];
    CHECK_EQ(pread(tine_segment_fd(s), header, sizeof header, 0), (ssize_t)sizeof header);
    CHECK_RC(tine_segment_attach(tine_segment_fd(s), &options, &none), -EEXIST);
    static const int expected[6] = {-EINVAL, TINE_EVERSION, TINE_EVERSION, -EXDEV, -EINVAL, -EINVAL};
    for (int word = 0; word < 6; word++) {
        uint64_t copy[6];
        memcpy(copy, header, sizeof copy);
        copy[word] += word == 4 ? 1 << 20 : 1;
        CHECK_EQ(pwrite(loose, copy, sizeof copy, 0), (ssize_t)sizeof copy);
        CHECK_RC(tine_segment_attach(loose, &options, &none), expected[word]);
    }
    snprintf(text, sizeof text, "%s", error.text);
    CHECK(none == NULL && strlen(text) > 0);
    CHECK_RC(tine_segment_close(s), 0);
    close(loose);
}

/* Another PID namespace, where locks would take one thread for another. Needs root, or user namespaces. */
static void other_pid_namespaces_are_refused(void)
{
    tine_segment *s;
    CHECK_RC(tine_segment_create(100, NULL, &s), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWPID) != 0)
            exit(77);
        pid_t inside = fork();
        if (inside == 0) {
            tine_segment *again;
            exit(tine_segment_attach(tine_segment_fd(s), NULL, &again) == -EXDEV ? 0 : 1);
        }
        exit(ended(inside));
    }
    int status = ended(child);
    if (status == 77)
        printf("not tested: other PID namespaces, which need root or user namespaces\n");
    else
        CHECK_EQ(status, 0);
    CHECK_RC(tine_segment_close(s), 0);
}

static void a_held_lock_keeps_the_segment(void)
{
    tine_segment *s;
    CHECK_RC(tine_segment_create(4096, NULL, &s), 0);
    tine_mutex *mutex = (tine_mutex *)tine_segment_address(s);
    CHECK_RC(tine_mutex_lock(mutex, TINE_FOREVER), 0);
    CHECK_RC(tine_segment_close(s), -EBUSY);
    CHECK_RC(tine_mutex_unlock(mutex), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

struct held {
    tine_rwlock lock;
    tine_mutex mutex;
    pthread_mutex_t libc;
    volatile int which, holds, release;
};

static void *hold(void *argument)
{
    struct held *held = (struct held *)argument;
    switch (held->which) {
        case 0: CHECK_RC(tine_mutex_lock(&held->mutex, TINE_FOREVER), 0); break;
        case 1: CHECK_RC(tine_rwlock_write_lock(&held->lock, TINE_FOREVER), 0); break;
        case 2: /* A thread of which tine knows. */
            CHECK_RC(tine_mutex_lock(&held->mutex, TINE_FOREVER), 0);
            CHECK_RC(tine_mutex_unlock(&held->mutex), 0);
            CHECK_EQ(pthread_mutex_lock(&held->libc), 0);
            break;
        default: CHECK_EQ(pthread_mutex_lock(&held->libc), 0); break;
    }
    held->holds = 1;
    while (!held->release)
        usleep(100);
    switch (held->which) {
        case 0: CHECK_RC(tine_mutex_unlock(&held->mutex), 0); break;
        case 1: CHECK_RC(tine_rwlock_unlock(&held->lock), 0); break;
        default: CHECK_EQ(pthread_mutex_unlock(&held->libc), 0); break;
    }
    held->holds = 0;
    return NULL;
}

static int is_short; /* Whenever a segment is closed; from this kind on nobody can look. */
static int shortage; /* The error: -EMFILE is lifted after each call, -ENOMEM is for good. */

static int close_segment(tine_segment *s)
{
    struct rlimit limit, low = {3, 3};
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low.rlim_max = limit.rlim_max;
    if (is_short && shortage == -EMFILE) CHECK_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    int rc = tine_segment_close(s);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return rc;
}

/* Another thread's locks: a mutex, an rwlock, and a robust mutex of the C library's; the first `kinds` of them. */
static void held_by_another_thread(int kinds)
{
    struct held *held;
    tine_segment *s;
    CHECK_RC(tine_segment_create(sizeof *held, NULL, &s), 0);
    held = (struct held *)tine_segment_address(s);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&held->libc, &attributes);
    for (int which = 0; which < kinds; which++) {
        pthread_t thread;
        held->which = which;
        held->release = 0;
        CHECK_EQ(pthread_create(&thread, NULL, hold, held), 0);
        while (!held->holds)
            usleep(100);
        CHECK_RC(close_segment(s), is_short && which >= is_short ? shortage : -EBUSY);
        held->release = 1;
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(held->holds, 0);
    }
    if (is_short) CHECK_RC(close_segment(s), shortage); /* Nobody can have looked. */
    if (shortage == -ENOMEM) return;
    is_short = 0;
    CHECK_RC(close_segment(s), 0);
}

static void a_lock_that_another_thread_holds_keeps_it_too(void) { held_by_another_thread(4); }

/* That a process may not look says nothing about who holds what. Without /proc nobody knows of threads that have never come to tine. */
static void a_refused_look_is_no_answer(void)
{
    for (int refused = 0; refused < 8; refused++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            int no_proc = refused == 0 || refused == 3;
            if (no_proc) {
                leave_proc();
            }
            if (refused == 1 || refused == 3) refuse(SYS_get_robust_list);
            if (refused == 2 || refused == 3 || refused == 5 || refused == 7) refuse(SYS_process_vm_readv);
            if (refused == 6) refuse_with(SYS_readlinkat, ENOMEM);
            if (refused == 7) refuse_with(SYS_write, ENOMEM);
            is_short = refused < 4 ? 0 : refused % 2 ? 2 : 3;
            shortage = refused < 6 ? -EMFILE : -ENOMEM;
            held_by_another_thread(refused == 2 || is_short ? 4 : refused == 0 ? 3 : 2);
            exit(0);
        }
        CHECK_EQ(ended(child), 0);
    }
}

/* Each limit in a process of its own: an error, and no signal. */
static void limits_are_errors(void)
{
    static const int limits[] = {RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_NOFILE, RLIMIT_MEMLOCK};
    static const rlim_t bytes[] = {65536, 256 << 20, 3, 0};
    static const int expected[] = {-ENOMEM, -ENOMEM, -EMFILE, 0};
    for (int i = 0; i < 4; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            struct rlimit low;
            CHECK_EQ(getrlimit((rlimit_resource)limits[i], &low), 0);
            low.rlim_cur = bytes[i];
            CHECK_EQ(setrlimit((rlimit_resource)limits[i], &low), 0);
            tine_segment *s = NULL;
            CHECK_RC(tine_segment_create(300 << 20, NULL, &s), expected[i]);
            exit(0);
        }
        CHECK_EQ(ended(child), 0);
    }
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create((size_t)1 << 45, NULL, &s), -ENOMEM);
    CHECK_RC(tine_segment_create(SIZE_MAX, NULL, &s), -ENOMEM);
    CHECK_RC(tine_segment_create(0, NULL, &s), -EINVAL);
    CHECK_RC(tine_segment_create(1, NULL, NULL), -EINVAL);
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    options.flags = 1u << 9;
    CHECK_RC(tine_segment_create(1, &options, &s), -EINVAL);
    options.flags = TINE_SEGMENT_READ_ONLY;
    CHECK_RC(tine_segment_attach(0, &options, &s), -EINVAL);
    CHECK(s == NULL && tine_segment_size(NULL) == 0 && !tine_segment_address(NULL));
    CHECK_RC(tine_segment_fd(NULL), -EINVAL);
}

static void on_alarm(int number)
{
    (void)number;
}

/* Older kernels give up on reserving when a signal comes; and one comes every millisecond. */
static void signals_do_not_stop_it(void)
{
    struct sigaction action;
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
    tine_segment *s;
    CHECK_RC(tine_segment_create(300 << 20, NULL, &s), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

static void create_beyond_the_limit(void)
{
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create(100 << 20, NULL, &s), -ENOMEM);
    CHECK_RC(tine_segment_create(16 << 20, NULL, &s), 0);
    memset(tine_segment_address(s), 1, 16 << 20);
}

/* The answer has to come before anything is reserved. Needs root. */
static void a_memory_cgroup_is_an_error_too(void)
{
    if (!run_in_cgroup("segment", 64 << 20, create_beyond_the_limit))
        printf("not tested: a memory cgroup, which needs root and a cgroup file system that can be written\n");
}

enum { HUGE_SEGMENT = 48 << 20 };

static void create_of_huge_pages(void)
{
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_segment *s = NULL;
    CHECK_RC(tine_segment_create(HUGE_SEGMENT, NULL, &s), -ENOMEM);
    options.flags = TINE_SEGMENT_HUGE_PAGES;
    CHECK_RC(tine_segment_create(HUGE_SEGMENT, &options, &s), 0);
    memset(tine_segment_address(s), 1, HUGE_SEGMENT);
    CHECK_RC(tine_segment_close(s), 0);
    /* More than there are: all of it would be of small ones. */
    CHECK_RC(tine_segment_create((size_t)1 << 40, &options, &s), -ENOMEM);
}

/* They are set aside, whatever else is left. */
static void huge_pages_are_not_of_what_is_left(void)
{
    char line[200];
    long free_pages = 0, page_kb = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    CHECK(file);
    while (fgets(line, sizeof line, file)) {
        (void)sscanf(line, "HugePages_Free: %ld", &free_pages);
        (void)sscanf(line, "Hugepagesize: %ld kB", &page_kb);
    }
    fclose(file);
    if (free_pages * page_kb < HUGE_SEGMENT / 1024 * 2)
        printf("not tested: a segment of huge pages, which needs 96 MiB of them (vm.nr_hugepages)\n");
    else if (!run_in_cgroup("huge-pages", 40 << 20, create_of_huge_pages))
        printf("not tested: huge pages in a memory cgroup, which needs root and a cgroup file system that can be written\n");
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* Nothing in it for children to say again. */
    a_memory_cgroup_is_an_error_too();
    huge_pages_are_not_of_what_is_left();
    a_segment_is_zero_reserved_and_fixed();
    pointers_mean_the_same_at_the_other_end(SOCK_STREAM);
    pointers_mean_the_same_at_the_other_end(SOCK_SEQPACKET);
    what_is_no_segment_is_not_received();
    only_the_creator_writes();
    huge_pages_or_what_there_is();
    dangerous_descriptors_are_refused();
    other_pid_namespaces_are_refused();
    a_held_lock_keeps_the_segment();
    a_lock_that_another_thread_holds_keeps_it_too();
    a_refused_look_is_no_answer();
    limits_are_errors();
    signals_do_not_stop_it();
    return 0;
}
