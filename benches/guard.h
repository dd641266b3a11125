/* Whether a measurement was disturbed: how much processor time others had meanwhile.
 *
 * Others are processes that are neither of this session nor copies of this program (a pool's supervisor has a session of its own),
 * and the hypervisor. A measurement during which they had more than FOREIGN_SHARE of one processor is taken again. Kernel
 * threads are left out: what they do, they mostly do for us. */
#ifndef GUARD_H
#define GUARD_H

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define FOREIGN_SHARE 0.08
#define MOST_REPEATS 20
#define MOST_DISTURBED 5 /* from then on the machine is not quiet, and nothing is measured again */

static inline double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Keeps the calling thread on one processor; a negative number lets it go everywhere again. */
static inline void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int each = 0; each < (int)sysconf(_SC_NPROCESSORS_ONLN); each++)
        if (processor < 0 || each == processor) CPU_SET(each, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Whether a process is ours, by its directory in /proc and its session. */
static inline int is_ours(const char *pid, long session)
{
    char path[64];
    struct stat own, other;
    if (session == (long)getsid(0)) return 1;
    snprintf(path, sizeof path, "/proc/%.16s/exe", pid);
    return stat("/proc/self/exe", &own) == 0 && stat(path, &other) == 0 && own.st_ino == other.st_ino &&
        own.st_dev == other.st_dev;
}

/* Processor time that others have had since the machine started, in seconds. */
static inline double foreign_seconds(void)
{
    double tick = (double)sysconf(_SC_CLK_TCK), seconds = 0;
    char path[64], line[1024];
    DIR *processes = opendir("/proc");
    if (!processes) return 0;
    for (struct dirent *entry; (entry = readdir(processes));) {
        long parent, session;
        unsigned long user, system;
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%.16s/stat", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file) continue;
        size_t length = fread(line, 1, sizeof line - 1, file);
        fclose(file);
        line[length] = 0;
        const char *rest = strrchr(line, ')'); /* a name may have anything in it */
        if (!rest || sscanf(rest + 1, " %*c %ld %*d %ld %*d %*d %*u %*u %*u %*u %*u %lu %lu", &parent, &session, &user,
                         &system) != 4)
            continue;
        if (parent != 2 && !is_ours(entry->d_name, session)) seconds += (double)(user + system) / tick;
    }
    closedir(processes);

    unsigned long long stolen = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (file) {
        if (fscanf(file, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &stolen) != 1) stolen = 0;
        fclose(file);
    }
    return seconds + (double)stolen / tick;
}

/* How often a measurement was taken again, and how often it stayed disturbed to the last. */
static int repeated, disturbed;

/* Measures until nobody disturbs. */
static inline double guarded(double (*measure)(void))
{
    for (int repeat = 0;; repeat++) {
        double foreign = foreign_seconds(), began = now_ns(), value = measure();
        double share = (foreign_seconds() - foreign) / ((now_ns() - began) / 1e9);
        if (share <= FOREIGN_SHARE) return value;
        if (repeat == MOST_REPEATS || disturbed >= MOST_DISTURBED) {
            disturbed++;
            return value;
        }
        repeated++;
    }
}

#endif
