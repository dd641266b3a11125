/* For tests/c/sweep.h: which system calls can fail, and how. */
#ifndef SWEEP_CALLS_H
#define SWEEP_CALLS_H

#include "family.h"
#include <stddef.h>
#include <sys/syscall.h>

/* Not an errno: the message arrives, its descriptors do not. */
#define SWEEP_TRUNCATED 4000

struct sweep_kind {
    long number;
    const char *name;
    int errors[7];
};

#define SWEEP_KIND(name, ...) {SYS_##name, #name, {__VA_ARGS__, 0}}
static const struct sweep_kind sweep_kinds[] = {
    SWEEP_KIND(openat, EMFILE, ENOMEM, EPERM, EINTR),
    SWEEP_KIND(openat2, ENOSYS, EMFILE, EPERM),
    SWEEP_KIND(read, EINTR, ENOMEM),
    SWEEP_KIND(pread64, EINTR, ENOMEM),
    SWEEP_KIND(write, EINTR),
    SWEEP_KIND(fstat, ENOMEM),
    SWEEP_KIND(newfstatat, ENOMEM, EPERM),
    SWEEP_KIND(statx, ENOMEM, EPERM, ENOSYS),
    SWEEP_KIND(readlinkat, ENOMEM, EPERM),
    SWEEP_KIND(getdents64, ENOMEM),
    SWEEP_KIND(dup, EMFILE),
    SWEEP_KIND(dup3, EMFILE, EINTR),
    SWEEP_KIND(pipe2, EMFILE, ENFILE),
    SWEEP_KIND(eventfd2, EMFILE, ENOMEM),
    SWEEP_KIND(timerfd_create, EMFILE, ENOMEM, EPERM),
    SWEEP_KIND(timerfd_settime, EPERM),
    SWEEP_KIND(signalfd4, EMFILE, ENOMEM),
    SWEEP_KIND(memfd_create, EMFILE, ENOMEM, EPERM, ENOSYS),
    SWEEP_KIND(epoll_create1, EMFILE, ENOMEM),
    SWEEP_KIND(epoll_ctl, ENOMEM, ENOSPC),
    SWEEP_KIND(epoll_pwait, EINTR),
    SWEEP_KIND(epoll_pwait2, EINTR, EPERM, ENOSYS),
    SWEEP_KIND(ppoll, EINTR, ENOMEM),
    SWEEP_KIND(socket, EMFILE, ENOMEM, EPERM),
    SWEEP_KIND(socketpair, EMFILE, ENOMEM, EPERM),
    SWEEP_KIND(sendmsg, EAGAIN, ENOMEM, ENOBUFS, ETOOMANYREFS, EINTR, EPERM),
    SWEEP_KIND(recvmsg, EAGAIN, ENOMEM, EINTR, SWEEP_TRUNCATED),
    SWEEP_KIND(getsockopt, EPERM),
    SWEEP_KIND(setsockopt, EPERM, ENOMEM),
    SWEEP_KIND(clone, EAGAIN, ENOMEM, EPERM),
    SWEEP_KIND(clone3, EAGAIN, ENOMEM, ENOSYS, EPERM),
    SWEEP_KIND(execve, ENOMEM, EAGAIN, EPERM),
    SWEEP_KIND(execveat, ENOMEM, EPERM, ENOSYS),
    SWEEP_KIND(wait4, EINTR),
    SWEEP_KIND(waitid, EINTR),
    SWEEP_KIND(kill, EPERM),
    SWEEP_KIND(tgkill, EPERM),
    SWEEP_KIND(pidfd_open, EMFILE, ENOMEM, EPERM, ENOSYS),
    SWEEP_KIND(pidfd_send_signal, EPERM, ENOSYS),
    SWEEP_KIND(pidfd_getfd, EMFILE, EPERM, ENOSYS),
    SWEEP_KIND(mmap, ENOMEM),
    SWEEP_KIND(mremap, ENOMEM),
    SWEEP_KIND(mprotect, ENOMEM, EPERM),
    SWEEP_KIND(madvise, ENOMEM),
    SWEEP_KIND(mincore, EAGAIN),
    SWEEP_KIND(fallocate, ENOSPC, ENOMEM, EINTR, EPERM, ENOSYS),
    SWEEP_KIND(ftruncate, ENOMEM, EINTR, EPERM),
    SWEEP_KIND(getrandom, EINTR),
    SWEEP_KIND(prctl, EPERM),
    SWEEP_KIND(prlimit64, EPERM),
    SWEEP_KIND(set_robust_list, ENOSYS),
    SWEEP_KIND(get_robust_list, EPERM, ENOSYS),
    SWEEP_KIND(sigaltstack, ENOMEM),
    SWEEP_KIND(setpgid, EPERM),
    SWEEP_KIND(setsid, EPERM),
    SWEEP_KIND(sched_getaffinity, EPERM),
    SWEEP_KIND(sched_setaffinity, EPERM),
    SWEEP_KIND(membarrier, EPERM, ENOSYS),
    SWEEP_KIND(close_range, EPERM, ENOSYS),
#ifdef SYS_futex_waitv
    SWEEP_KIND(futex_waitv, EINTR, EAGAIN, EPERM, ENOSYS),
#endif
    SWEEP_KIND(futex, EINTR, EAGAIN), /* waits: a wake-up cannot fail */
    SWEEP_KIND(fcntl, EMFILE),        /* duplicates */
#ifdef SYS_open
    SWEEP_KIND(open, EMFILE, ENOMEM, EPERM, EINTR),
    SWEEP_KIND(access, ENOMEM, EPERM),
    SWEEP_KIND(readlink, ENOMEM, EPERM),
    SWEEP_KIND(dup2, EMFILE, EINTR),
    SWEEP_KIND(poll, EINTR, ENOMEM),
    SWEEP_KIND(epoll_wait, EINTR),
    SWEEP_KIND(fork, EAGAIN, ENOMEM),
    SWEEP_KIND(vfork, EAGAIN, ENOMEM),
#endif
};
#define SWEEP_KIND_COUNT (sizeof sweep_kinds / sizeof *sweep_kinds)

static inline const struct sweep_kind *sweep_kind_of(long number)
{
    for (size_t i = 0; i < SWEEP_KIND_COUNT; i++) {
        if (sweep_kinds[i].number == number) {
            return &sweep_kinds[i];
        }
    }
    return NULL;
}

/* Whether a call takes of what is short: one that only works with what is there goes on working. */
static inline int sweep_takes(long number, int error)
{
    static const long others[] = {SYS_read, SYS_pread64, SYS_fstat, SYS_newfstatat, SYS_readlinkat, SYS_getdents64, SYS_recvmsg,
                                  SYS_ppoll, SYS_setsockopt, SYS_mprotect, SYS_madvise, SYS_sigaltstack};
    const struct sweep_kind *kind = sweep_kind_of(number);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        kind = number == others[i] ? NULL : kind;
    }
    for (int i = 0; kind && kind->errors[i]; i++) {
        if (kind->errors[i] == error) {
            return 1;
        }
    }
    return 0;
}

static inline const char *sweep_error_name(int error)
{
    return error == SWEEP_TRUNCATED ? "TRUNCATED" : error ? strerrorname_np(error) : "-";
}

#endif
