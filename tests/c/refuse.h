/* For tests of processes that are refused something, for good: a system call, or /proc. */
#ifndef REFUSE_H
#define REFUSE_H

#include "check.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

/* From here on this system call fails with this error for this process. */
static inline void refuse_with(int number, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static inline void refuse(int number) { refuse_with(number, EPERM); }

/* From here on this process sees a root directory without /proc. */
static inline void leave_proc(void)
{
    CHECK(chroot("/usr") == 0 || (unshare(CLONE_NEWUSER) == 0 && chroot("/usr") == 0));
    CHECK(chdir("/") == 0 && access("/proc/self", F_OK) != 0);
}

#endif
