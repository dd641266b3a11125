/*
 * Processes move money between accounts in shared memory, while others of them are killed in the middle of it.
 *
 *     bank [--pthread] [-j PROCESSES] [-k KILLS]
 *
 * Whoever takes the lock from a dead holder is told so, and finds in the journal what the dead one was about to do. With
 * --pthread the lock is the C library's ordinary one: the first process that dies with it stops all the others for good.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <tine.h>
#include <unistd.h>

#define ACCOUNTS 16
#define AT_FIRST 1000  /* in each account */
#define MOST 64        /* processes */
#define LIMIT_MS 2000  /* nobody moves any money for so long: wedged */

/* Atomic, so that what is written first is there first, whenever its writer is killed. */
static struct bank {
    tine_mutex lock;
    pthread_mutex_t plain;
    _Atomic long account[ACCOUNTS];
    struct { /* the transfer that is being made; once it is open, the rest holds */
        atomic_int open, from, to;
        _Atomic long from_before, to_before;
    } journal;
    atomic_ulong transfers, repaired, deaths;
    atomic_int stop;
} *bank;

static int use_pthread;

/* A process died with the lock: what it had begun is undone. */
static void repair(void)
{
    bank->deaths++;
    if (bank->journal.open) {
        bank->account[bank->journal.from] = bank->journal.from_before;
        bank->account[bank->journal.to] = bank->journal.to_before;
        bank->journal.open = 0;
        bank->repaired++;
    }
}

static void enter(void)
{
    int rc = use_pthread ? -pthread_mutex_lock(&bank->plain) : tine_mutex_lock(&bank->lock, TINE_FOREVER);
    if (rc == -EOWNERDEAD) {
        repair();
        rc = tine_mutex_repair(&bank->lock);
    }
    if (rc) {
        fprintf(stderr, "bank: lock: %s\n", tine_strerror(rc));
        _exit(1);
    }
}

static void leave(void)
{
    if (use_pthread) pthread_mutex_unlock(&bank->plain);
    else tine_mutex_unlock(&bank->lock);
}

static void transfer(int from, int to, long amount)
{
    enter();
    bank->journal.from = from;
    bank->journal.to = to;
    bank->journal.from_before = bank->account[from];
    bank->journal.to_before = bank->account[to];
    bank->journal.open = 1;
    bank->account[from] -= amount;
    bank->account[to] += amount; /* killed before this, the money would be gone */
    bank->journal.open = 0;
    bank->transfers++;
    leave();
}

static pid_t start_clerk(unsigned seed)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        perror("bank: fork");
        exit(1);
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        srand(seed);
        while (!bank->stop) transfer(rand() % ACCOUNTS, rand() % ACCOUNTS, rand() % 100);
        _exit(0);
    }
    return pid;
}

/* -1: it is no number, or too large. */
static int number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    return *text && !*end && value >= 0 && value <= INT_MAX ? (int)value : -1;
}

static void nap(long ns)
{
    struct timespec time = {0, ns};
    nanosleep(&time, NULL);
}

/* Waits until some money has been moved; whether it was in time. */
static int goes_on(void)
{
    unsigned long before = bank->transfers;
    for (int ms = 0; bank->transfers == before; ms++) {
        if (ms >= LIMIT_MS) return 0;
        nap(1000000);
    }
    return 1;
}

int main(int argc, char **argv)
{
    pid_t clerks[MOST];
    pthread_mutexattr_t attributes;
    int processes = 4, kills = 300, done = 0, wedged = 0;
    long sum = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--pthread")) use_pthread = 1;
        else if (!strcmp(argv[i], "-j") && i + 1 < argc) processes = number(argv[++i]);
        else if (!strcmp(argv[i], "-k") && i + 1 < argc) kills = number(argv[++i]);
        else processes = 0;
    }
    if (processes < 1 || processes > MOST || kills < 0) {
        fprintf(stderr, "usage: bank [--pthread] [-j PROCESSES (at most %d)] [-k KILLS]\n", MOST);
        return 2;
    }

    bank = mmap(NULL, sizeof *bank, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (bank == MAP_FAILED) {
        perror("bank: mmap");
        return 1;
    }
    /* All-zero memory is a free tine_mutex. */
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&bank->plain, &attributes);
    for (int i = 0; i < ACCOUNTS; i++) bank->account[i] = AT_FIRST;

    for (int i = 0; i < processes; i++) clerks[i] = start_clerk((unsigned)i);
    while (done < kills && !wedged) {
        int victim = rand() % processes;
        nap(rand() % 200000);
        kill(clerks[victim], SIGKILL);
        waitpid(clerks[victim], NULL, 0);
        clerks[victim] = start_clerk((unsigned)(processes + done++));
        wedged = !goes_on();
    }

    bank->stop = 1;
    for (int i = 0; i < processes; i++) {
        if (wedged) kill(clerks[i], SIGKILL);
        waitpid(clerks[i], NULL, 0);
    }
    if (wedged) {
        printf("wedged after %d kills: a process died with the lock, and %d others wait for it for ever\n", done, processes);
        return 1;
    }
    enter(); /* the last one killed may have left something, too */
    leave();
    for (int i = 0; i < ACCOUNTS; i++) sum += bank->account[i];
    printf("%lu transfers, %d kills, %lu of them in the middle, %lu transfers undone; %ld of %d there\n", bank->transfers,
           done, bank->deaths, bank->repaired, sum, ACCOUNTS * AT_FIRST);
    return sum == ACCOUNTS * AT_FIRST ? 0 : 1;
}
