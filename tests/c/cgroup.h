/* A memory cgroup of the test's own, with a process in it. */
#ifndef CGROUP_H
#define CGROUP_H

#include "check.h"
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int write_number(const char *folder, const char *name, long long value)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file) return -1;
    int written = fprintf(file, "%lld", value);
    return fclose(file) == 0 && written > 0 ? 0 : -1;
}

/* Calls run() in a forked process whose cgroup may have so much memory, and checks that it ends with 0. The kernel answers this limit by
 * killing. false: there is no cgroup file system that this process may write, and nothing was called. */
static inline bool run_in_cgroup(const char *name, long long memory_bytes, void (*run)(void))
{
    static const char *const roots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    static const char *const limits[] = {"memory.limit_in_bytes", "memory.max"};
    enum { NOT_IN_IT = 77 };
    for (int i = 0; i < 2; i++) {
        char folder[200];
        int status;
        snprintf(folder, sizeof folder, "%s/tine-%s-%d", roots[i], name, (int)getpid());
        if (mkdir(folder, 0755) != 0) continue;
        bool limited = write_number(folder, limits[i], memory_bytes) == 0;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (!limited || write_number(folder, "cgroup.procs", getpid()) != 0) _exit(NOT_IN_IT);
            run();
            exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        while (rmdir(folder) != 0) usleep(1000); /* what has ended may be listed for a moment longer */
        if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_IN_IT) continue;
        CHECK_EQ(status, 0);
        return true;
    }
    return false;
}

#endif
