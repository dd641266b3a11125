/* tine's own threads: when they begin and end, what they do to the host, that they go on without it, and that without them
 * (TINE_NO_THREAD) the host's calls do, also those that wait for something else than a pool. */
#include "family.h"
#include <pthread.h>
#include <sys/resource.h>

static int give_back(tine_task *task)
{
    return *(const int *)tine_input(task, NULL);
}

static int add_one(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in + 1;
    return 0;
}

static int until_set(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    while (!__atomic_load_n(word, __ATOMIC_SEQ_CST) && !tine_cancelled(task)) {
        nap_ns(200000);
    }
    return 7;
}

/* A number in a file of a thread's, or -1. */
static long long field(const char *thread, const char *name, int base)
{
    char path[300], line[200];
    long long value = -1;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':') {
            value = (long long)strtoull(line + strlen(name) + 1, NULL, base);
        }
    }
    if (file) {
        fclose(file);
    }
    return value;
}

/* How many threads there are besides the main one (one that has been joined is listed for a moment longer), and the sum of a number of theirs. */
static int others(const char *name, long long *sum)
{
    DIR *all = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;
    CHECK(all);
    while ((entry = readdir(all))) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != getpid()) {
            count++;
            if (sum) {
                *sum += field(entry->d_name, name, 10);
            }
        }
    }
    closedir(all);
    return count;
}

static int threads(void)
{
    return others("", NULL);
}

static void all_signals_are_blocked(void)
{
    /* All but 9 and 19, which nobody can block, and 32 to 34, which are the C library's. */
    const long long wanted = (long long)~(1ull << 8 | 1ull << 18 | 1ull << 31 | 1ull << 32 | 1ull << 33);
    DIR *all = opendir("/proc/self/task");
    struct dirent *entry;
    while ((entry = readdir(all))) {
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != getpid()) {
            CHECK_EQ(field(entry->d_name, "SigBlk", 16) & wanted, wanted);
        }
    }
    closedir(all);
}

static void count_one(const tine_result *result, void *user)
{
    (void)result;
    __atomic_add_fetch((int *)user, 1, __ATOMIC_SEQ_CST);
}

static void take_all(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    while (tine_next(pool, HANG_NS, &result) == 0) {
        tine_result_release(pool, &result);
    }
}

/* ---- When they begin and end ---- */

static void begin_and_end(int start)
{
    CHECK_EQ(threads(), 0);
    tine_pool *pool = create_pool(start, 2, 0), *second = create_pool(start, 2, 0), *without = create_pool(start, 2, TINE_NO_THREAD);
    int in[50] = {0}, out[50], one = 1, told = 0;
    CHECK_RC(tine_map(pool, add_one, in, sizeof *in, out, sizeof *out, 50, NULL), 0);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.on_settled = count_one;
    options.user = &told;
    CHECK_RC(tine_submit(without, give_back, &one, sizeof one, &options, NULL), 0);
    CHECK_RC(tine_wait_all(without, NULL, 0, HANG_NS), 0);
    CHECK_EQ(told, 1);
    CHECK_EQ(threads(), 0);
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, NULL, NULL), 0);
    CHECK_EQ(threads(), 1);
    CHECK_RC(tine_submit(second, give_back, &one, sizeof one, NULL, NULL), 0);
    CHECK_EQ(threads(), 1);
    CHECK_RC(tine_submit(second, give_back, &one, sizeof one, &options, NULL), 0);
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, &options, NULL), 0);
    CHECK_EQ(threads(), 2);
    WAIT_UNTIL(__atomic_load_n(&told, __ATOMIC_SEQ_CST) == 3);
    all_signals_are_blocked();
    CHECK_EQ(setgid(getgid()), 0); /* asks every thread */
    tine_pool_destroy(second);
    CHECK_EQ(threads(), 2);
    tine_pool_destroy(pool);
    WAIT_UNTIL(threads() == 0);
    tine_pool_destroy(without);
    /* Again: they come back. */
    pool = create_pool(start, 2, 0);
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, &options, NULL), 0);
    WAIT_UNTIL(__atomic_load_n(&told, __ATOMIC_SEQ_CST) == 4);
    tine_pool_destroy(pool);
    WAIT_UNTIL(threads() == 0);
}

/* One that cannot be started is an error of the call that needed it, which changes nothing. */
static void cannot_be_started(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, 0);
    struct rlimit before, none;
    int one = 1;
    tine_stats stats = TINE_STATS_INIT;
    CHECK_EQ(getrlimit(RLIMIT_AS, &before), 0);
    none = before;
    none.rlim_cur = 1 << 20;
    CHECK_EQ(setrlimit(RLIMIT_AS, &none), 0);
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, NULL, NULL), -ENOMEM);
    CHECK_EQ(setrlimit(RLIMIT_AS, &before), 0);
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.submitted, 0);
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, NULL, NULL), 0);
    take_all(pool);
    tine_pool_destroy(pool);
    WAIT_UNTIL(threads() == 0);
}

/* ---- Asleep ---- */

/* Long enough for who waits to sleep. */
static int a_while(tine_task *task)
{
    (void)task;
    nap_ns(200000);
    return 0;
}

static long long switches(void)
{
    long long sum = 0;
    others("voluntary_ctxt_switches", &sum);
    return sum;
}

static void sleeps(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    int one = 1, *word = (int *)tine_calloc(pool, 1, sizeof *word);
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    for (int i = 0; i < 100; i++) {
        CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, NULL, NULL), 0);
    }
    take_all(pool);
    /* With nothing to do it comes to rest. */
    long long before = -1, now;
    WAIT_UNTIL((now = switches(), nap_ns(400000000), before = switches(), before == now));
    /* While a thread of the host's waits for a task of half a second, it sleeps: its look before that does not come again. */
    CHECK_RC(tine_submit(pool, until_set, &word, sizeof word, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, 200000000, &result), -ETIMEDOUT);
    before = switches();
    CHECK_RC(tine_wait(pool, id, 500000000, &result), -ETIMEDOUT);
    CHECK(switches() - before <= 4);
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    tine_result_release(pool, &result);
    /* A host that waits for task after task calls it by the time, twice in 50 ms, and not by the task. */
    int64_t began = clock_ns();
    before = switches();
    for (int i = 0; i < 2000; i++) {
        CHECK_RC(tine_submit(pool, a_while, NULL, 0, NULL, &id), 0);
        CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
        tine_result_release(pool, &result);
    }
    CHECK(switches() - before <= 40 + (clock_ns() - began) / 10000000);
    tine_pool_destroy(pool);
}

/* ---- Without the host's calls ---- */

static int goes(tine_task *task)
{
    return raise(SIGKILL) + *(const int *)tine_input(task, NULL);
}

static int stays(tine_task *task)
{
    (void)task;
    for (;;) {
        pause();
    }
    return 0;
}

struct ends {
    int right, late, died;
};

static void note(const tine_result *result, void *user)
{
    struct ends *ends = (struct ends *)user;
    int *place = result->status == 1 ? &ends->right : result->status == -ETIMEDOUT ? &ends->late : &ends->died;
    __atomic_add_fetch(place, 1, __ATOMIC_SEQ_CST);
}

/* Deaths, deadlines, and what was queued behind them. */
static void without_a_call(int start)
{
    enum { TASKS = 300 };
    struct ends ends = {0, 0, 0};
    tine_pool *pool = create_pool(start, 2, 0);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int one = 1;
    options.on_settled = note;
    options.user = &ends;
    for (int i = 0; i < TASKS; i++) {
        options.deadline_ns = i % 100 == 50 ? 20000000 : 0;
        CHECK_RC(tine_submit(pool, i % 100 == 0 ? goes : i % 100 == 50 ? stays : give_back, &one, sizeof one, &options, NULL), 0);
    }
    WAIT_UNTIL(__atomic_load_n(&ends.right, __ATOMIC_SEQ_CST) == TASKS - 6 && __atomic_load_n(&ends.late, __ATOMIC_SEQ_CST) == 3 &&
               __atomic_load_n(&ends.died, __ATOMIC_SEQ_CST) == 3);
    tine_pool_destroy(pool);
}

static int sets(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
    return 7;
}

struct wish {
    tine_pool *pool;
    tine_id id;
};

static void *wait_for(void *place)
{
    struct wish *wish = (struct wish *)place;
    tine_result result = TINE_RESULT_INIT;
    CHECK_RC(tine_wait(wish->pool, wish->id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, 7);
    return NULL;
}

/* After many short tasks the next ones go to the same worker; one that turns out to be long must not keep those behind it, on which
 * it depends here, whether nobody waits, or a thread waits that has been asleep since before. */
static void behind_a_long_one(int start)
{
    enum { SHORT = 5000, ROUNDS = 10 };
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.workers = 3;
    options.start = start;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    int one = 1, *words = (int *)tine_alloc(pool, 2 * sizeof *words);
    CHECK(words);
    for (int round = 0; round < ROUNDS; round++) {
        int *word = &words[0], *other = &words[1];
        struct wish wish = { pool, 0 };
        pthread_t thread;
        words[0] = words[1] = 0;
        for (int i = 0; i < SHORT; i++) {
            CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, NULL, NULL), 0);
        }
        take_all(pool);
        if (round % 2) {
            CHECK_RC(tine_submit(pool, until_set, &other, sizeof other, NULL, &wish.id), 0);
            CHECK_EQ(pthread_create(&thread, NULL, wait_for, &wish), 0);
            nap_ns(2000000);
        }
        CHECK_RC(tine_submit(pool, until_set, &word, sizeof word, NULL, NULL), 0);
        CHECK_RC(tine_submit(pool, sets, &word, sizeof word, NULL, NULL), 0);
        WAIT_UNTIL(__atomic_load_n(word, __ATOMIC_SEQ_CST));
        if (round % 2) {
            __atomic_store_n(other, 1, __ATOMIC_SEQ_CST);
            CHECK_EQ(pthread_join(thread, NULL), 0);
        }
        take_all(pool);
    }
    tine_free(pool, words);
    tine_pool_destroy(pool);
}

/* ---- The host waits for something else ---- */

static int nap(tine_task *task)
{
    nap_ns(20000000);
    return *(const int *)tine_input(task, NULL);
}

static int put_one(tine_task *task)
{
    tine_queue *queue = *(tine_queue *const *)tine_input(task, NULL);
    int one = 1;
    return tine_queue_put(queue, &one, sizeof one, TINE_FOREVER);
}

static int send_one(tine_task *task)
{
    int one = 1;
    return tine_channel_send(tine_task_channel(task), &one, sizeof one, TINE_FOREVER);
}

static int reads_the_word(tine_task *task)
{
    tine_queue *queue = *(tine_queue *const *)tine_input(task, NULL);
    int got;
    return tine_queue_get(queue, TINE_FOREVER, &got, sizeof got, NULL) || tine_queue_task_done(queue);
}

static void something_else(int start, uint32_t flags)
{
    enum { TASKS = 12 };
    tine_pool *pool = create_pool(start, 2, flags);
    tine_queue *queue;
    tine_queue_options few = TINE_QUEUE_OPTIONS_INIT;
    few.capacity_messages = 2;
    CHECK_RC(tine_queue_create(pool, &few, &queue), 0);
    int one = 1, got;
    size_t length;
    for (int i = 0; i < 4; i++) { /* so that what follows has to wait for its turn */
        CHECK_RC(tine_submit(pool, i % 2 ? nap : goes, &one, sizeof one, NULL, NULL), 0);
    }
    for (int i = 0; i < TASKS; i++) {
        CHECK_RC(tine_submit(pool, put_one, &queue, sizeof queue, NULL, NULL), 0);
    }
    for (int i = 0; i < TASKS; i++) {
        CHECK_RC(tine_queue_get(queue, HANG_NS, &got, sizeof got, &length), 0);
        CHECK_RC(tine_queue_task_done(queue), 0);
    }
    take_all(pool);
    /* The other way: the host puts, and waits until it has been dealt with. */
    for (int i = 0; i < TASKS; i++) {
        CHECK_RC(tine_submit(pool, i == 0 ? goes : reads_the_word, &queue, sizeof queue, NULL, NULL), 0);
    }
    int words[TASKS] = {0};
    size_t lengths[TASKS];
    for (int i = 0; i < TASKS; i++) {
        lengths[i] = sizeof one;
    }
    CHECK_RC(tine_queue_put(queue, &one, sizeof one, HANG_NS), 0);
    CHECK_RC(tine_queue_put_many(queue, words, lengths, TASKS - 2, HANG_NS), TASKS - 2);
    CHECK_RC(tine_queue_join(queue, HANG_NS), 0);
    take_all(pool);
    tine_channel *mine, *theirs;
    CHECK_RC(tine_channel_create(NULL, &mine, &theirs), 0);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.channel = theirs;
    for (int i = 0; i < 4; i++) {
        CHECK_RC(tine_submit(pool, nap, &one, sizeof one, NULL, NULL), 0);
    }
    CHECK_RC(tine_submit(pool, send_one, NULL, 0, &options, NULL), 0);
    CHECK_RC(tine_channel_receive(mine, HANG_NS, &got, sizeof got, &length), 0);
    tine_channel_close(mine);
    take_all(pool);
    tine_queue_destroy(queue);
    tine_pool_destroy(pool);
}

/* ---- In a forked child there are none ---- */

static int mappings(void)
{
    char line[1000];
    int count = 0;
    FILE *file = fopen("/proc/self/maps", "r");
    while (file && fgets(line, sizeof line, file)) {
        count += strstr(line, "memfd:tine") != NULL;
    }
    fclose(file);
    return count;
}

/* Whether all other threads sleep: one that is at something may hold what a forked child cannot take apart. */
static int others_sleep(void)
{
    DIR *all = opendir("/proc/self/task");
    struct dirent *entry;
    int asleep = 1;
    CHECK(all);
    while ((entry = readdir(all))) {
        char path[300], text[600];
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid()) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        asleep &= read_file(path, text, sizeof text) <= 0 || strstr(text, "State:\tS") != NULL;
    }
    closedir(all);
    return asleep;
}

static void forked(uint32_t flags)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, flags);
    int one = 1, told = 0, status;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.on_settled = count_one;
    options.user = &told;
    CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, &options, NULL), 0);
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    WAIT_UNTIL(others_sleep());
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(mappings() > 0);
        tine_pool_destroy(pool);
        CHECK_EQ(mappings(), 0);
        /* A pool of its own has threads of its own. */
        told = 0;
        pool = create_pool(TINE_START_FORKSERVER, 2, flags);
        CHECK_RC(tine_submit(pool, give_back, &one, sizeof one, &options, NULL), 0);
        CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
        CHECK_EQ(told, 1);
        tine_pool_destroy(pool);
        WAIT_UNTIL(threads() == 0);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    tine_pool_destroy(pool);
}

static int count_up(tine_task *task)
{
    __atomic_add_fetch(*(int *const *)tine_input(task, NULL), 1, __ATOMIC_SEQ_CST);
    return 0;
}

/* A host that never waits, since what it asks for is always there, moves the pool on, too: more tasks than the rings hold are done. */
static void always_at_once(uint32_t flags)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 2, flags);
    tine_queue *own = NULL;
    int *done = (int *)tine_calloc(pool, 1, sizeof *done);
    CHECK(done);
    CHECK_RC(tine_queue_create(pool, NULL, &own), 0);
    for (int i = 0; i < 500; i++) {
        CHECK_RC(tine_submit(pool, count_up, &done, sizeof done, NULL, NULL), 0);
    }
    while (__atomic_load_n(done, __ATOMIC_SEQ_CST) < 500) {
        int message = 5;
        CHECK_RC(tine_queue_put(own, &message, sizeof message, TINE_FOREVER), 0);
        CHECK_RC(tine_queue_get(own, TINE_FOREVER, &message, sizeof message, NULL), 0);
    }
    tine_queue_destroy(own);
    tine_pool_destroy(pool);
}

/* Words in the heap: whether it has begun, and has been told that it is to end. */
static int until_told(tine_task *task)
{
    volatile int *words = *(volatile int *const *)tine_input(task, NULL);
    for (words[0] = 1; !tine_cancelled(task);) {
        nap_ns(200000);
    }
    words[1] = 1;
    return 7;
}

static int says_so(tine_task *task)
{
    volatile int *words = *(volatile int *const *)tine_input(task, NULL);
    words[2] = 1;
    return 7;
}

/* Without a thread of tine's, what is due is done in the host's next call, also where that call finds its answer at once. */
static void in_the_next_call(int start)
{
    enum { DEADLINE_NS = 5000000 };
    tine_pool *pool = create_pool(start, 2, TINE_NO_THREAD);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    volatile int *words = (volatile int *)tine_calloc(pool, 3, sizeof *words);
    tine_id late, other;
    CHECK(words);
    options.deadline_ns = DEADLINE_NS;
    for (int round = 0; round < 5; round++) {
        memset((void *)words, 0, 3 * sizeof *words);
        CHECK_EQ(tine_submit(pool, until_told, &words, sizeof words, &options, &late), 0);
        WAIT_UNTIL(tine_pool_poll(pool) >= 0 && words[0]);
        for (int64_t begun = clock_ns(); clock_ns() - begun < 2 * DEADLINE_NS;) {
            nap_ns(DEADLINE_NS / 5);
        }
        CHECK_EQ(tine_submit(pool, says_so, &words, sizeof words, NULL, &other), 0);
        WAIT_UNTIL(words[2]);
        CHECK_EQ(tine_wait(pool, other, HANG_NS, &result), 0);
        CHECK_EQ(result.status, 7);
        WAIT_UNTIL(words[1]);
        CHECK_EQ(tine_wait(pool, late, HANG_NS, &result), 0);
        CHECK_EQ(result.status, -ETIMEDOUT);
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    cannot_be_started(); /* before there is a stack that the C library has kept */
    for (int i = 0; i < 3; i++) {
        begin_and_end(all_starts[i]);
        without_a_call(all_starts[i]);
        in_the_next_call(all_starts[i]);
        something_else(all_starts[i], 0);
        something_else(all_starts[i], TINE_NO_THREAD);
    }
    always_at_once(0);
    always_at_once(TINE_NO_THREAD);
    behind_a_long_one(TINE_START_FORKSERVER);
    sleeps(TINE_START_FORKSERVER);
    forked(0);
    forked(TINE_NO_THREAD);
    return 0;
}
