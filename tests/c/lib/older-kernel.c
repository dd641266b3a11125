/* older-kernel VERSION PROGRAM [ARGUMENT...]: runs a program, and all that it starts, as under an older kernel.
 *
 * What tine and the C library use and that version has not is refused as it refuses it: whole calls with ENOSYS, new flags and
 * commands with the error of a kernel that does not know them. A seccomp filter does it, which every descendant inherits.
 * Below 6.2 the kernel also calls itself an old one (the personality UNAME26): what a dead waiter's wake-up does there cannot be
 * had by refusing anything, and tine goes by the number.
 *
 * What this cannot show: a flag that old kernels ignore instead of refusing it (MAP_FIXED_NOREPLACE before 4.17), files of /proc
 * that they have not, and whatever they do in another way. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define VERSION(major, minor) ((major) * 1000 + (minor))

/* The first call of each version, where numbers are the same on all machines. What has no line came with the one before. */
static const struct {
    unsigned number;
    int since;
} calls[] = {
    {424, VERSION(5, 1)},                           /* pidfd_send_signal, io_uring_* */
    {428, VERSION(5, 2)},                           /* open_tree and so on */
    {434, VERSION(5, 3)},                           /* pidfd_open, clone3 */
    {436, VERSION(5, 9)},                           /* close_range */
    {437, VERSION(5, 6)},                           /* openat2, pidfd_getfd */
    {439, VERSION(5, 8)},                           /* faccessat2 */
    {440, VERSION(5, 10)},                          /* process_madvise */
    {441, VERSION(5, 11)},                          /* epoll_pwait2 */
    {442, VERSION(5, 12)}, {443, VERSION(5, 14)},   /* mount_setattr, quotactl_fd */
    {444, VERSION(5, 13)},                          /* landlock_* */
    {447, VERSION(5, 14)}, {448, VERSION(5, 15)},   /* memfd_secret, process_mrelease */
    {449, VERSION(5, 16)}, {450, VERSION(5, 17)},   /* futex_waitv, set_mempolicy_home_node */
    {451, VERSION(6, 5)},  {452, VERSION(6, 6)},    /* cachestat, fchmodat2 */
    {454, VERSION(6, 7)},  {457, VERSION(6, 8)},    /* futex_wake and so on, statmount */
    {462, VERSION(6, 10)}, {463, VERSION(6, 13)},   /* mseal, setxattrat */
    {467, VERSION(6, 15)},                          /* open_tree_attr and whatever comes */
};

/* A call of which an argument's bits, or the whole of it, came later than the call itself. Whole: mask is 0xffffffff. */
static const struct {
    unsigned number, argument, mask, bits;
    int since, error;
} arguments[] = {
    {SYS_waitid, 0, 0xffffffff, 3 /* P_PIDFD */, VERSION(5, 4), EINVAL},
    {SYS_memfd_create, 1, 0x8, 0x8 /* MFD_NOEXEC_SEAL */, VERSION(6, 3), EINVAL},
    {SYS_pidfd_open, 1, O_EXCL, O_EXCL /* PIDFD_THREAD */, VERSION(6, 9), EINVAL},
    {SYS_ioctl, 1, 0xffffffff, 0xff05 /* PIDFD_GET_PID_NAMESPACE */, VERSION(6, 11), ENOTTY},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct sock_filter program[128];
static unsigned short length;

static void add(unsigned short code, unsigned char yes, unsigned char no, unsigned k)
{
    struct sock_filter one = BPF_JUMP(code, k, yes, no);
    if (length == COUNT(program)) {
        abort();
    }
    program[length++] = one;
}

static void refuse(int error)
{
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | (unsigned)error);
}

static void load(size_t offset)
{
    add(BPF_LD | BPF_W | BPF_ABS, 0, 0, (unsigned)offset);
}

static void fill(int version)
{
    load(offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT(calls); i++) {
        if (version < calls[i].since) {
            /* Not before this one, and before the next. */
            add(BPF_JMP | BPF_JGE | BPF_K, 0, i + 1 < COUNT(calls) ? 2 : 1, calls[i].number);
            if (i + 1 < COUNT(calls)) {
                add(BPF_JMP | BPF_JGE | BPF_K, 1, 0, calls[i + 1].number);
            }
            refuse(ENOSYS);
        }
    }
    if (version < VERSION(6, 9)) {
        /* There pidfds are in no file system of their own, which only this call tells. */
        add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_fstatfs);
        refuse(ENOSYS);
    }
    for (size_t i = 0; i < COUNT(arguments); i++) {
        if (version < arguments[i].since) {
            add(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, arguments[i].number);
            load(offsetof(struct seccomp_data, args) + 8 * arguments[i].argument);
            add(BPF_ALU | BPF_AND | BPF_K, 0, 0, arguments[i].mask);
            add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, arguments[i].bits);
            refuse(arguments[i].error);
            load(offsetof(struct seccomp_data, nr));
        }
    }
    add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
}

static int fail(const char *what)
{
    fprintf(stderr, "older-kernel: %s: %s\n", what, strerror(errno));
    return 125;
}

int main(int argc, char **argv)
{
    int major, minor;
    if (argc < 3 || sscanf(argv[1], "%d.%d", &major, &minor) != 2) {
        fputs("usage: older-kernel VERSION PROGRAM [ARGUMENT...]\n", stderr);
        return 125;
    }
    fill(VERSION(major, minor));
    if (VERSION(major, minor) < VERSION(6, 2) && personality(0x0020000 /* UNAME26 */) < 0) {
        return fail("personality");
    }
    struct sock_fprog filter;
    filter.len = length;
    filter.filter = program;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        return fail("seccomp");
    }
    execv(argv[2], argv + 2);
    return fail(argv[2]);
}
