/* The killer of the kill storm: a process that kills a random one of a pool's family every few milliseconds, and writes down when. */
#ifndef STORM_KILLER_H
#define STORM_KILLER_H

#include "family.h"

/* Shared with the killer. */
#define KILL_ROOM 65536
struct killing {
    pid_t host;
    int go, stop;
    uint64_t seed;
    /* The kills to make, and the tasks to spread them over: on a busy machine a family that is killed every few
     * milliseconds would never get to work. */
    uint32_t wanted, tasks, settled;
    uint32_t kills, supervisors;
    uint32_t logged;
    struct {
        int64_t ns;
        pid_t pid;
        int is_supervisor;
    } log[KILL_ROOM];
};

static inline void log_kill(struct killing *killing, pid_t pid, int is_supervisor, int64_t ns)
{
    uint32_t place = killing->logged % KILL_ROOM;
    killing->log[place].ns = ns;
    killing->log[place].pid = pid;
    killing->log[place].is_supervisor = is_supervisor;
    __atomic_store_n(&killing->logged, killing->logged + 1, __ATOMIC_RELEASE);
}

static inline void kill_one(struct killing *killing, uint64_t *random)
{
    struct process family[64];
    int count;
    const struct process *victim = pick_victim(killing->host, random, family, 64, &count);
    if (!victim) {
        return;
    }
    int is_supervisor = strcmp(victim->name, "tine-supervisor") == 0;
    int64_t now = clock_ns();
    if (kill(victim->pid, SIGKILL) != 0) {
        return;
    }
    for (int i = 0; is_supervisor && i < count; i++) {
        if (family[i].parent == victim->pid) {
            log_kill(killing, family[i].pid, 0, now); /* They go with it. */
        }
    }
    log_kill(killing, victim->pid, is_supervisor, now);
    killing->supervisors += (uint32_t)is_supervisor;
    __atomic_fetch_add(&killing->kills, 1, __ATOMIC_SEQ_CST);
}

/* A process of its own: forked before the pool exists, so it has nothing of it. */
static inline pid_t start_killer(struct killing *killing)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid != 0) {
        return pid;
    }
    uint64_t random = killing->seed;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == killing->host && !__atomic_load_n(&killing->stop, __ATOMIC_ACQUIRE)) {
        nap_ns(1000000 + (int64_t)(random_next(&random) % 8000000));
        uint32_t settled = __atomic_load_n(&killing->settled, __ATOMIC_ACQUIRE);
        int behind = (uint64_t)killing->kills * killing->tasks <= (uint64_t)killing->wanted * (settled + killing->tasks / 40);
        if (__atomic_load_n(&killing->go, __ATOMIC_ACQUIRE) && killing->kills < killing->wanted && behind) {
            kill_one(killing, &random);
        }
    }
    _exit(0);
}

/* When the killer has killed a process, by clock_ns; 0: it was not among the last 200. */
static inline int64_t when_killed(const struct killing *killing, pid_t pid)
{
    uint32_t logged = __atomic_load_n(&killing->logged, __ATOMIC_ACQUIRE);
    for (uint32_t back = 1; back <= logged && back <= 200; back++) {
        uint32_t place = (logged - back) % KILL_ROOM;
        if (killing->log[place].pid == pid) {
            return killing->log[place].ns;
        }
    }
    return 0;
}

#endif
