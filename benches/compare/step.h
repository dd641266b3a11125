/*
 * Counts the instructions of calls.
 *
 * The processor's trap flag raises SIGTRAP after each instruction of a thread, and the handler counts. A system call is one instruction.
 * callgrind would be the usual tool, but valgrind before 3.20 knows no pidfd_open, without which a pool has no workers.
 *
 * Each row is counted ROUNDS times, BATCH calls each, and the median counts: now and then a side waits for the other, and counts that. Few are
 * enough, and a step takes up to 0.3 ms in a virtual machine.
 */
#ifndef TINE_BENCH_STEP_H
#define TINE_BENCH_STEP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tine.h>
#include <ucontext.h>

#ifndef __x86_64__
#error "the trap flag is x86_64's"
#endif
#define TRAP_FLAG 0x100

#define BATCH 2
#define ROUNDS 7

static volatile long counted; /* by the one thread of this process that counts */

static void trapped(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    if (info->si_code == TRAP_TRACE) {
        counted++;
        return;
    }
    counted = 0;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG; /* the breakpoint of step_begin() */
}

static void prepare(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = trapped;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGTRAP, &action, NULL);
}

/* What lies between step_begin() and step_end() is counted. */
#define step_begin() __asm__ volatile("int3" ::: "memory")
static void step_end(void)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

typedef struct row {
    int rounds;
    double each[ROUNDS]; /* instructions of one call */
} row;

static void count(row *r, long instructions, int calls)
{
    if (r->rounds < ROUNDS) r->each[r->rounds++] = (double)instructions / calls;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, row *r)
{
    qsort(r->each, (size_t)r->rounds, sizeof *r->each, by_size);
    printf("%s\t%.1f\n", name, r->each[r->rounds / 2]);
}

static void check(int rc, const char *call)
{
    if (rc >= 0) return;
    fprintf(stderr, "%s: %s\n", call, tine_strerror(rc));
    exit(1);
}

#endif
