/* A worker writes one value into one word of what it shares with the host alone, or does one thing to one of its descriptors, at one
   moment; and that for every word, many values and every moment. The host's deadlines, cancels, other tasks and shutdown hold: at
   worst this worker is killed.

   limit: 300
   A sample; TINE_STORM=1 does all of it (for that LIMIT=7200). */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MILLISECONDS(n) ((int64_t)(n) * 1000000)

enum { DEADLINE_MS = 20, GRACE_MS = 20, INNOCENTS = 3, ANSWER = 7 };
/* Ten times what is promised. */
enum { LIMIT_MS = 10 * (DEADLINE_MS + GRACE_MS + 100) };

enum moment { RETURNS, LATE, CANCELLED, AFTERWARDS, EXITS, MOMENTS };
/* One word; every word that holds a small number; a word that counts up while those behind it are 0; a descriptor. */
enum target { WORD, ALIKE, SPAN, DESCRIPTOR };

/* In the pool's heap, and shared with the worker by that. */
struct attack {
    enum target target;
    enum moment moment;
    size_t place; /* the word, the number, or the descriptor */
    int how;      /* the value, or what is done to the descriptor */
    int keeps_on; /* writes it over and over */
    volatile int begun;
    volatile pid_t pid;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- In the worker ---- */

static volatile uint32_t *ring(size_t *words)
{
    char line[500];
    volatile uint32_t *at = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        if (strstr(line, "memfd:tine-ring") && sscanf(line, "%lx-%lx", &start, &end) == 2) {
            at = (volatile uint32_t *)start;
            *words = (end - start) / 4;
        }
    }
    if (maps)
        fclose(maps);
    return at;
}

enum { VALUES = 10, DEEDS = 8 };

static uint32_t value(int how, uint32_t old)
{
    switch (how) {
    case 0: return 0;
    case 1: return 1;
    case 2: return 2;
    case 3: return 3;
    case 4: return UINT32_MAX;
    case 5: return 1u << 31;
    case 6: return old + 1;
    case 7: return old - 1;
    case 8: return 77;
    default: return old ^ 1;
    }
}

static void do_to_descriptor(int fd, int how)
{
    char bytes[300] = {0};
    uint64_t most = UINT64_MAX - 1;
    int other;
    switch (how) {
    case 0: close(fd); break;
    case 1:
        other = open("/dev/null", O_RDWR);
        dup2(other, fd);
        close(other);
        break;
    case 2:
        other = eventfd(0, EFD_NONBLOCK);
        dup2(other, fd);
        close(other);
        break;
    case 3: shutdown(fd, SHUT_RDWR); break;
    case 4: fcntl(fd, F_SETFL, O_NONBLOCK); if (write(fd, &most, sizeof most)) {} break;
    case 5: for (int i = 0; i < 1000 && send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0; i++) {} break;
    case 6: for (int i = 0; i < 100 && recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0; i++) {} break;
    default: fcntl(fd, F_SETFL, 0); if (ftruncate(fd, 1 << 20)) {} break;
    }
}

static void attack_once(const struct attack *attack)
{
    size_t words = 0;
    if (attack->target == DESCRIPTOR) {
        do_to_descriptor((int)attack->place, attack->how);
        return;
    }
    volatile uint32_t *word = ring(&words);
    if (!word || attack->place >= words)
        _exit(99);
    do {
        if (attack->target == ALIKE) {
            for (size_t i = 0; i < words; i++)
                if (word[i] == attack->place)
                    word[i] = value(attack->how, word[i]);
        } else {
            word[attack->place] = value(attack->how, word[attack->place]);
        }
        for (size_t i = 1; attack->target == SPAN && i < 64 && attack->place + i < words; i++)
            word[attack->place + i] = 0;
        if (attack->keeps_on)
            usleep(100);
    } while (attack->keeps_on);
}

static void *from_behind(void *argument)
{
    attack_once((const struct attack *)argument);
    return NULL;
}

static int rogue(tine_task *task)
{
    struct attack *attack = *(struct attack *const *)tine_input(task, NULL);
    pthread_t thread;
    signal(SIGTERM, SIG_IGN);
    attack->pid = getpid();
    if (attack->keeps_on || attack->moment == AFTERWARDS) {
        if (pthread_create(&thread, NULL, from_behind, attack) != 0)
            return -EAGAIN;
    } else {
        attack_once(attack);
    }
    attack->begun = 1;
    switch (attack->moment) {
    case LATE:
    case CANCELLED:
        for (;;)
            pause();
    case EXITS: _exit(3);
    default: return 1;
    }
}

static int innocent(tine_task *task)
{
    (void)task;
    return ANSWER;
}

/* Keeps the other worker busy, so that something stays behind the rogue in its ring. */
static int longer(tine_task *task)
{
    (void)task;
    usleep((DEADLINE_MS + 2 * GRACE_MS) * 1000);
    return ANSWER;
}

static int count_words(tine_task *task)
{
    size_t words = 0;
    (void)task;
    return ring(&words) ? (int)words : -ENOENT;
}

/* ---- In the host ---- */

static tine_pool *pool;
static size_t cases, deaths;
static int64_t worst_ns;

/* A worker that says that it has begun with a task, and no more, is one whose task takes for ever: a cancel ends that. */
static int cancel_begun(tine_id id, tine_result *result)
{
    int rc = tine_cancel(pool, id);
    if (rc == 0 || rc == -EALREADY)
        rc = tine_wait(pool, id, MILLISECONDS(LIMIT_MS), result);
    return rc == 0 && result->delivery == TINE_NOT_STARTED ? -ETIMEDOUT : rc;
}

static int settle(tine_id id, const char *who, const struct attack *attack)
{
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_wait(pool, id, MILLISECONDS(10 * LIMIT_MS), &result);
    if (rc == -ETIMEDOUT && attack->target == WORD && (attack->keeps_on || attack->moment == AFTERWARDS))
        rc = cancel_begun(id, &result);
    if (rc != 0) {
        fprintf(stderr, "%s: %s; target %d, moment %d, place %zu, how %d, keeps on %d\n", who, tine_errname(rc),
                attack->target, attack->moment, attack->place, attack->how, attack->keeps_on);
        exit(1);
    }
    int status = result.status;
    tine_result_release(pool, &result);
    return status;
}

static void fail(const struct attack *attack, const char *what, int status)
{
    fprintf(stderr, "%s (%d %s); target %d, moment %d, place %zu, how %d, keeps on %d\n", what, status, tine_errname(status),
            attack->target, attack->moment, attack->place, attack->how, attack->keeps_on);
    exit(1);
}

static void one_case(struct attack *attack)
{
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT, of_others = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id, busy = 0, others[INNOCENTS];
    /* A worker that says that it has begun with a task, and no more, is one whose task takes for ever: a deadline ends that. */
    if (attack->target == ALIKE)
        of_others.deadline_ns = MILLISECONDS(LIMIT_MS);
    attack->begun = 0;
    attack->pid = 0;
    if (attack->moment == LATE)
        submit.deadline_ns = MILLISECONDS(DEADLINE_MS);
    int64_t began = now_ns();
    CHECK_RC(tine_submit(pool, rogue, &attack, sizeof attack, &submit, &id), 0);
    if (attack->moment == LATE || attack->moment == CANCELLED)
        CHECK_RC(tine_submit(pool, longer, NULL, 0, NULL, &busy), 0);
    for (int i = 0; i < INNOCENTS; i++)
        CHECK_RC(tine_submit(pool, innocent, NULL, 0, &of_others, &others[i]), 0);
    if (attack->moment == CANCELLED) {
        while (!attack->begun) {
            CHECK(now_ns() - began < MILLISECONDS(10 * LIMIT_MS));
            tine_pool_poll(pool);
            usleep(50);
        }
        tine_cancel(pool, id);
    }
    int status = settle(id, "the rogue", attack);
    /* A worker that says that it has done its task is believed, and may say the same of those behind it: their results are its to
       write. If the host has ended it, or it has died, it has not said so. */
    int ended = status == TINE_EDIED || (attack->moment == LATE && status == -ETIMEDOUT) ||
        (attack->moment == CANCELLED && status == -ECANCELED);
    if (busy != 0)
        settle(busy, "a longer task", attack);
    for (int i = 0; i < INNOCENTS; i++) {
        int other = settle(others[i], "an innocent task", attack);
        /* One that was in the same ring may be lost with it: TINE_EDIED. */
        if (attack->target == ALIKE && ended && other != ANSWER && other != TINE_EDIED)
            fail(attack, "an innocent task", other);
        if (attack->target == DESCRIPTOR && other != ANSWER)
            fail(attack, "an innocent task", other);
    }
    if (attack->moment == LATE || attack->moment == CANCELLED) {
        int64_t took = now_ns() - began;
        if (took > worst_ns)
            worst_ns = took;
        while (ended && attack->pid && kill(attack->pid, 0) == 0) {
            if (now_ns() - began > MILLISECONDS(LIMIT_MS) + MILLISECONDS(5000))
                fail(attack, "the worker lives on", status);
            tine_pool_poll(pool);
            usleep(200);
        }
    }
    /* The pool serves on. */
    tine_id good;
    CHECK_RC(tine_submit(pool, innocent, NULL, 0, &of_others, &good), 0);
    int last = settle(good, "a good task", attack);
    /* A thread of the rogue's may still write, and a result in its worker's ring is that worker's to write. */
    int beside = (attack->keeps_on || attack->moment == AFTERWARDS) &&
        (attack->target == WORD || attack->target == SPAN || (attack->target == ALIKE && !ended));
    if (!beside && last != ANSWER && last != TINE_EDIED)
        fail(attack, "a good task", last);
    cases++;
}

static void open_pool(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    options.grace_ns = MILLISECONDS(GRACE_MS);
    options.max_tasks_per_worker = 50; /* recycled in between */
    CHECK_RC(tine_pool_create(&options, &pool), 0);
}

static void close_pool(void)
{
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    deaths += stats.worker_deaths;
    int64_t began = now_ns();
    CHECK_RC(tine_pool_shutdown(pool, MILLISECONDS(10 * LIMIT_MS)), 0);
    CHECK(now_ns() - began < MILLISECONDS(10 * LIMIT_MS));
    tine_pool_destroy(pool);
}

/* Another pool: the threads of earlier rogues, which write on in the workers where those have returned, are gone with theirs. */
static struct attack *start_anew(void)
{
    if (pool)
        close_pool();
    open_pool();
    struct attack *attack = (struct attack *)tine_alloc(pool, sizeof *attack);
    CHECK(attack != NULL);
    return attack;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    int whole = getenv("TINE_STORM") != NULL;
    alarm(whole ? 7000 : 280);
    struct attack *attack = start_anew();
    tine_id id;
    CHECK_RC(tine_submit(pool, count_words, NULL, 0, NULL, &id), 0);
    size_t words = (size_t)settle(id, "counting", attack), step = whole ? 1 : 1543, number = 0, since = 0;
    CHECK(words > 1000 && words < 1 << 20);
    enum { FRONT = 700 }; /* what is not slots, and the first of those */
    for (size_t at = 0; at < words; at++)
        for (int how = 0; how < VALUES; how++)
            for (int moment = 0; moment < MOMENTS; moment++)
                for (int keeps_on = 0; keeps_on < 2; keeps_on++) {
                    /* The slots are all alike, and an ending takes its time: of those behind the first few, one in fifty. */
                    int alike = at >= FRONT && (moment == LATE || moment == CANCELLED || keeps_on);
                    if (number++ % (at < FRONT ? step / 3 + 1 : alike ? step * 50 : step) != 0)
                        continue;
                    struct attack next = {WORD, (enum moment)moment, at, how, keeps_on, 0, 0};
                    memcpy(attack, &next, sizeof next);
                    one_case(attack);
                    if (++since == 200) {
                        attack = start_anew();
                        since = 0;
                    }
                }
    for (size_t at = 1; at < 4; at++)
        for (int how = 0; how < VALUES; how++)
            for (int moment = 0; moment < MOMENTS; moment++) {
                struct attack next = {ALIKE, (enum moment)moment, at, how, 1, 0, 0};
                if (!whole && moment != LATE && moment != CANCELLED)
                    continue;
                attack = start_anew();
                memcpy(attack, &next, sizeof next);
                one_case(attack);
            }
    for (size_t at = 0; at < FRONT; at += 16)
        for (int moment = 0; moment < MOMENTS; moment++) {
            struct attack next = {SPAN, (enum moment)moment, at, 6, 1, 0, 0};
            memcpy(attack, &next, sizeof next);
            if (whole || moment == LATE)
                one_case(attack);
        }
    attack = start_anew();
    for (size_t fd = 3; fd < 16; fd++)
        for (int how = 0; how < DEEDS; how++)
            for (int moment = 0; moment < MOMENTS; moment++) {
                if (number++ % (whole ? 1 : 7) != 0)
                    continue;
                struct attack next = {DESCRIPTOR, (enum moment)moment, fd, how, 0, 0, 0};
                memcpy(attack, &next, sizeof next);
                one_case(attack);
            }
    close_pool();
    printf("%zu cases over %zu words: every task settled; %zu workers died; the slowest ending took %.0f ms\n", cases, words,
           deaths, (double)worst_ns / 1e6);
    return 0;
}
