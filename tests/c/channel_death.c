/* Kills at random instants while messages of all sizes go through channels, copied and in place: each arrives whole, in order and
 * once, what was sent arrives, and then the survivor gets -EPIPE. */
#include "family.h"
#include <pthread.h>
#include <stdint.h>

static int rounds(void)
{
    const char *storm = getenv("TINE_STORM");
    return storm && strcmp(storm, "long") == 0 ? 10000 : 400;
}

#define LARGEST (300 * 1024)

static unsigned char pattern[LARGEST + 256];

/* The length of a message follows from its number and the round's seed: none, few bytes, a page, more than a packet. */
static size_t length_of(uint64_t seed, uint64_t number)
{
    uint64_t state = (seed ^ (number * UINT64_C(0x9e3779b97f4a7c15))) | 1;
    random_next(&state);
    uint64_t value = random_next(&state);
    switch (value % 16) {
    case 0: return 0;
    case 1: return 60000 + (value >> 8) % 12000;
    case 2: return LARGEST - (value >> 8) % 1000;
    case 3: case 4: case 5: return (value >> 8) % 8192;
    default: return (value >> 8) % 64;
    }
}

/* What comes first in it. The rest is the pattern, from a place that follows from the number. */
static size_t compose(unsigned char *buffer, uint64_t seed, uint64_t number)
{
    size_t length = length_of(seed, number);
    memcpy(buffer, pattern + number % 256, length);
    memcpy(buffer, &number, length < sizeof number ? length : sizeof number);
    return length;
}

static void check_message(const unsigned char *got, size_t length, uint64_t seed, uint64_t number)
{
    static __thread unsigned char wanted[LARGEST];
    size_t wanted_length = compose(wanted, seed, number);
    if (length != wanted_length || memcmp(got, wanted, length) != 0) {
        fprintf(stderr, "message %llu has %zu bytes, not the %zu that were sent\n", (unsigned long long)number, length,
                wanted_length);
        exit(1);
    }
}

/* What the process that is killed has got to; in memory that outlives it. */
struct progress {
    volatile uint64_t begun, sent, received;
};

static struct progress *progress;

/* Sends a message, in one of two ways. */
static int send_one(tine_channel *c, const unsigned char *bytes, size_t length, uint64_t number, int64_t timeout_ns)
{
    void *place;
    if (number % 3)
        return tine_channel_send(c, bytes, length, timeout_ns);
    int rc = tine_channel_reserve(c, length, timeout_ns, &place);
    if (rc)
        return rc;
    memcpy(place, bytes, length);
    rc = tine_channel_commit(c, length, timeout_ns);
    if (rc && rc != -EPIPE)
        CHECK_RC(tine_channel_abandon(c), 0);
    return rc;
}

/* Receives and checks one, in one of two ways. */
static int receive_one(tine_channel *c, uint64_t seed, uint64_t number, int64_t timeout_ns)
{
    static __thread unsigned char buffer[LARGEST];
    void *place = buffer;
    size_t length;
    int rc = number % 5 < 3 ? tine_channel_receive(c, timeout_ns, buffer, sizeof buffer, &length)
                            : tine_channel_peek(c, timeout_ns, &place, &length);
    if (rc == 0)
        check_message((unsigned char *)place, length, seed, number);
    if (rc == 0 && place != buffer)
        CHECK_RC(tine_channel_release(c), 0);
    return rc;
}

static void *send_all(void *argument)
{
    tine_channel *c = (tine_channel *)argument;
    static unsigned char buffer[LARGEST];
    for (uint64_t number = 0;; number++) {
        size_t length = compose(buffer, progress->begun, number);
        if (send_one(c, buffer, length, number, TINE_FOREVER))
            _exit(2);
        progress->sent = number + 1;
    }
    return NULL;
}

/* Sends and receives, each in a thread, until it is killed. */
static void victim(int fd, uint64_t seed)
{
    tine_channel *c;
    pthread_t thread;
    CHECK_RC(tine_channel_attach(fd, NULL, &c), 0);
    close(fd);
    progress->begun = seed;
    CHECK_EQ(pthread_create(&thread, NULL, send_all, c), 0);
    for (uint64_t number = 0;; number++) {
        CHECK_RC(receive_one(c, ~seed, number, TINE_FOREVER), 0);
        progress->received = number + 1;
    }
}

struct totals {
    uint64_t kills, sent, received, in_the_middle;
};

static void kill_one(uint64_t *random, struct totals *totals)
{
    static unsigned char buffer[LARGEST], out[LARGEST];
    tine_channel *ours, *theirs;
    uint64_t seed = random_next(random), number = 0, sent = 0;
    uint64_t patience = random_next(random) % 60;
    int64_t kill_at = INT64_MAX, last = clock_ns(), spent = 0;
    size_t length;
    int rc, status, killed = 0, send_rc = 0;
    CHECK_RC(tine_channel_create(NULL, &ours, &theirs), 0);
    int fd = tine_channel_fd(theirs);
    memset((void *)progress, 0, sizeof *progress);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_channel_close(ours);
        victim(fd, seed);
    }
    tine_channel_close(theirs);
    for (;;) {
        if (is_over(HANG_NS, &last, &spent)) { /* since the last message */
            fprintf(stderr, "hangs: %llu received of %llu sent, %llu of %llu arrived, %s\n", (unsigned long long)number,
                    (unsigned long long)progress->sent, (unsigned long long)progress->received, (unsigned long long)sent,
                    killed ? "killed" : "alive");
            exit(1);
        }
        if (!killed && (number >= patience || clock_ns() >= kill_at)) {
            /* At any instant: between two messages it would mostly be asleep. */
            for (uint64_t turns = random_next(random) % 20000; turns > 0; turns--)
                __asm__ volatile("" ::: "memory");
            CHECK_EQ(kill(child, SIGKILL), 0);
            killed = 1;
        }
        if (send_rc == 0 || send_rc == -EAGAIN) {
            send_rc = send_one(ours, out, compose(out, ~seed, sent), sent, 0);
            sent += send_rc == 0;
            CHECK(send_rc == 0 || send_rc == -EAGAIN || (send_rc == -EPIPE && killed));
        }
        rc = receive_one(ours, seed, number, 1000000);
        if (rc == -EPIPE)
            break;
        if (rc == -ETIMEDOUT)
            continue;
        CHECK_RC(rc, 0);
        number++;
        spent = 0;
        if (number == 1)
            kill_at = clock_ns() + (int64_t)(random_next(random) % 1500000);
    }
    CHECK(killed);
    CHECK_RC(tine_channel_send(ours, out, 1, TINE_FOREVER), -EPIPE);
    CHECK_RC(tine_channel_receive(ours, TINE_FOREVER, buffer, sizeof buffer, &length), -EPIPE);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* All that was sent has come, and at most the one whose send had not returned. */
    CHECK(number == progress->sent || number == progress->sent + 1);
    CHECK(progress->received <= sent);
    totals->in_the_middle += number != progress->sent;
    totals->kills++;
    totals->sent += sent;
    totals->received += number;
    tine_channel_close(ours);
}

/* ---- Workers with ends that are killed ---- */

#define LINES 4
#define COUNT 60

static int send_count(tine_task *task)
{
    static unsigned char buffer[LARGEST];
    uint64_t seed;
    int64_t pid = getpid();
    memcpy(&seed, tine_input(task, NULL), sizeof seed);
    int rc = tine_channel_send(tine_task_channel(task), &pid, sizeof pid, TINE_FOREVER);
    for (uint64_t number = 0; number < COUNT && rc == 0; number++)
        rc = send_one(tine_task_channel(task), buffer, compose(buffer, seed, number), number, TINE_FOREVER);
    return rc;
}

static void kill_workers(int kills)
{
    static unsigned char buffer[LARGEST];
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct { tine_channel *c; tine_id id; uint64_t seed, next; pid_t pid; } lines[LINES];
    uint64_t random = random_seed(), tasks = 0, done = 0, died = 0;
    int killed = 0;
    tine_pool *pool;
    options.workers = 2;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    memset(lines, 0, sizeof lines);
    int64_t last = clock_ns(), spent = 0;
    while (killed < kills) {
        CHECK(!is_over(HANG_NS, &last, &spent)); /* since the last kill */
        CHECK(tine_pool_poll(pool) >= 0);
        for (int i = 0; i < LINES; i++) {
            size_t length;
            if (!lines[i].c) {
                tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
                lines[i].seed = random_next(&random), lines[i].next = 0, lines[i].pid = 0;
                CHECK_RC(tine_channel_create(NULL, &lines[i].c, &submit.channel), 0);
                CHECK_RC(tine_submit(pool, send_count, &lines[i].seed, sizeof lines[i].seed, &submit, &lines[i].id), 0);
                tasks++;
            }
            int rc = tine_channel_receive(lines[i].c, 100000, buffer, sizeof buffer, &length);
            if (rc == 0 && lines[i].pid == 0) {
                CHECK_EQ(length, sizeof(int64_t));
                lines[i].pid = (pid_t) * (int64_t *)(void *)buffer;
                continue;
            }
            if (rc == 0) {
                check_message(buffer, length, lines[i].seed, lines[i].next++);
                if (random_next(&random) % 64 == 0 && kill(lines[i].pid, SIGKILL) == 0)
                    killed++, spent = 0;
                continue;
            }
            if (rc == -ETIMEDOUT)
                continue;
            CHECK_RC(rc, -EPIPE);
            tine_result result = TINE_RESULT_INIT;
            CHECK_RC(tine_wait(pool, lines[i].id, HANG_NS, &result), 0);
            CHECK(result.status == 0 || result.status == TINE_EDIED);
            /* A worker may die when all has been sent, and its task may not have said so. */
            CHECK(result.status != 0 || lines[i].next == COUNT);
            CHECK(result.delivery != TINE_NOT_STARTED);
            done += result.status == 0;
            died += result.status != 0;
            tine_result_release(pool, &result);
            tine_channel_close(lines[i].c);
            lines[i].c = NULL;
        }
    }
    for (int i = 0; i < LINES; i++)
        tine_channel_close(lines[i].c);
    tine_pool_destroy(pool);
    printf("%d kills of workers: %llu tasks with ends, %llu done, %llu died, each settled once\n", killed,
           (unsigned long long)tasks, (unsigned long long)done, (unsigned long long)died);
    CHECK(done > 0 && died > 0 && tasks - done - died <= LINES);
}

int main(int argc, char **argv)
{
    struct totals totals;
    uint64_t random;
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(i * 131 + i / 250);
    tine_init(argc, argv);
    random = random_seed();
    memset(&totals, 0, sizeof totals);
    progress = (struct progress *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(progress != MAP_FAILED);
    struct belongings before = take_stock();
    for (int i = 0; i < rounds(); i++)
        kill_one(&random, &totals);
    printf("%llu kills: %llu messages to the dead, %llu from them; %llu died in a send that had done its work\n",
           (unsigned long long)totals.kills, (unsigned long long)totals.sent, (unsigned long long)totals.received,
           (unsigned long long)totals.in_the_middle);
    kill_workers(rounds() / 4);
    check_stock(before);
    return 0;
}
