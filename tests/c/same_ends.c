/* The same everywhere, second part: what ends tasks and workers, and what workers are like. See same_everywhere.c.
 *
 * limit: 300 */
#include "same_everywhere.h"
#include <sys/resource.h>

/* ---- Deadlines and cancelling ---- */

static tine_pool *open_patient(const struct way *way, int64_t grace_ns)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.grace_ns = grace_ns;
    return open_pool(way, &options);
}

/* For who gives up when asked; with a grace that it does not need on however busy a machine. */
static void soft_deadlines(const struct way *way)
{
    tine_pool *pool = open_patient(way, 100000 * MS);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct job job = {make_words(pool), 1, 'p'};
    options.deadline_ns = 5 * MS;
    say_task(pool, submit(pool, stays, &job, sizeof job, &options));
    options.deadline_ns = TINE_FOREVER;
    job.word[1] = 1;
    say_task(pool, submit(pool, stays, &job, sizeof job, &options));
    tine_pool_destroy(pool);
}

static void hard_deadlines(const struct way *way)
{
    tine_pool *pool = open_patient(way, 10 * MS);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct job job = {make_words(pool), 1, 'i'};
    options.deadline_ns = 5 * MS;
    say_task(pool, submit(pool, stays, &job, sizeof job, &options));
    say_that_it_serves(pool);
    tine_pool_destroy(pool);
}

static int late_item(tine_task *task, const void *in, void *out)
{
    const struct job *job = (const struct job *)in;
    *(int *)out = job->number;
    if (job->what == 'q') {
        return 0;
    }
    if (job->what == 'i') {
        signal(SIGTERM, SIG_IGN);
    }
    while (job->what == 'i' || !tine_cancelled(task)) {
        nap_ns(50000);
    }
    return 0;
}

/* An item that is late fails alone, whatever piece it is in. */
static void item_deadlines(const struct way *way, char what)
{
    tine_pool *pool = open_patient(way, what == 'p' ? 100000 * MS : 10 * MS);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    struct job jobs[20];
    int out[20] = {0}, status[20], fine = 0;
    for (int i = 0; i < 20; i++) {
        struct job job = {NULL, i + 1, i == 6 ? what : 'q'};
        jobs[i] = job;
    }
    options.chunk = way->chunk;
    options.status = status;
    options.item_deadline_ns = 200 * MS; /* for those that take no time, on however busy a machine */
    say_code(tine_map(pool, late_item, jobs, sizeof jobs[0], out, sizeof out[0], 20, &options));
    for (int i = 0; i < 20; i++) {
        fine += status[i] == 0 && out[i] == i + 1;
    }
    say(", item 6 ");
    say_code(status[6]);
    say(", %d fine\n", fine);
    tine_pool_destroy(pool);
}

static void polite_items(const struct way *way)
{
    item_deadlines(way, 'p');
}

static void stubborn_items(const struct way *way)
{
    item_deadlines(way, 'i');
}

static void cancelling(const struct way *way)
{
    tine_pool *pool = open_patient(way, 30 * MS);
    tine_id ids[8], queued[4];
    int *words = make_words(pool);
    occupy(pool, way, words, ids);
    for (int i = 0; i < 4; i++) {
        queued[i] = submit(pool, turn_round, "abc", 3, NULL);
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    say("%d idle, %d wait\n", (int)(way->workers - stats.workers_busy), (int)stats.waiting);
    CHECK_RC(tine_cancel(pool, queued[1]), 0);
    say_task(pool, queued[1]);
    say("%d\n", tine_cancel_queued(pool));
    say_task(pool, queued[2]);
    let_go(pool, way, words, ids);
    static const char manners[] = {'p', 'i'};
    for (int i = 0; i < 2; i++) {
        struct job job = {make_words(pool), 1, manners[i]};
        tine_id id = submit(pool, stays, &job, sizeof job, NULL);
        WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&job.word[0], __ATOMIC_SEQ_CST) == 1);
        say("%d\n", i == 0 ? tine_cancel(pool, id) : tine_cancel_all(pool) - 1);
        tine_result result = TINE_RESULT_INIT;
        CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
        /* Whether the polite one is in time is the machine's business. */
        say_code(result.status);
        say(i == 0 ? "\n" : ", signal %d\n", result.death ? result.death->signal : 0);
        tine_result_release(pool, &result);
    }
    say_that_it_serves(pool);
    tine_pool_destroy(pool);
}

static void queue_deadlines(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id ids[8];
    int *words = make_words(pool);
    occupy(pool, way, words, ids);
    options.queue_deadline_ns = MS;
    say_task(pool, submit(pool, turn_round, "abc", 3, &options));
    let_go(pool, way, words, ids);
    tine_pool_destroy(pool);
}

/* ---- Deaths ---- */

static int dies(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    if (job->word && __atomic_add_fetch(job->word, 1, __ATOMIC_SEQ_CST) > job->number) {
        return 5;
    }
    switch (job->what) {
    case 'k': return raise(SIGKILL);
    case 'a': abort();
    case 'e': _exit(3);
    default: fprintf(stderr, "my last words\n"); return raise(SIGKILL);
    }
}

static void deaths(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_id ids[30];
    static const char ways[] = {'k', 'a', 'e'};
    for (int i = 0; i < 30; i++) {
        struct job job = {NULL, 0, ways[i / 10]};
        ids[i] = i % 10 == 5 ? submit(pool, dies, &job, sizeof job, NULL) : submit(pool, turn_round, "abc", 3, NULL);
    }
    for (int i = 0; i < 30; i++) {
        if (i % 10 == 5) {
            say_task(pool, ids[i]);
        } else {
            tine_result result = TINE_RESULT_INIT;
            CHECK_RC(tine_wait(pool, ids[i], HANG_NS, &result), 0);
            CHECK_EQ(result.status, 3);
            tine_result_release(pool, &result);
        }
    }
    say_that_it_serves(pool);
    tine_pool_destroy(pool);
}

static void retries(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    struct job job = {make_words(pool), 2, 'k'};
    options.retries = 2;
    options.flags = TINE_IDEMPOTENT;
    say_task(pool, submit(pool, dies, &job, sizeof job, &options));
    job.word = make_words(pool);
    job.number = 3;
    say_task(pool, submit(pool, dies, &job, sizeof job, &options));
    tine_pool_destroy(pool);
}

static int dying_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = 2 * *(const int *)in;
    return *(const int *)in % 50 == 17 ? raise(SIGKILL) : 0;
}

static void deaths_in_maps(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    int in[200], out[200] = {0}, status[200], died = 0, fine = 0;
    for (int n = 0; n < 200; n++) {
        in[n] = n;
    }
    options.chunk = way->chunk;
    options.status = status;
    say_code(tine_map(pool, dying_item, in, sizeof in[0], out, sizeof out[0], 200, &options));
    for (int n = 0; n < 200; n++) {
        died += status[n] == TINE_EDIED && n % 50 == 17;
        fine += status[n] == 0 && out[n] == 2 * n;
    }
    say(", %d died, %d fine\n", died, fine);
    tine_pool_destroy(pool);
}

static void reports(const struct way *way)
{
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    tine_result result = TINE_RESULT_INIT;
    struct job job = {NULL, 0, 'w'};
    worker.output = TINE_OUTPUT_CAPTURE;
    tine_pool *pool = open_pool(way, &options);
    tine_id id = submit(pool, dies, &job, sizeof job, NULL);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    const tine_death *death = result.death;
    CHECK(death);
    say("signal %d, task %d, %d %d, says '%.*s'\n", death->signal, death->task == id, death->function[0] != 0,
        death->max_rss_bytes > 0, (int)death->output_length - 1, death->output);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

static int hoards(tine_task *task)
{
    for (int i = 0; i < 1 << 20; i++) {
        char *bytes = (char *)malloc(1 << 20);
        if (bytes) {
            memset(bytes, 1, 1 << 20);
        }
        nap_ns(100000);
    }
    return tine_fail(task, -ENOSPC, "a terabyte was not enough");
}

static void memory_caps(const struct way *way)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    options.max_worker_bytes = 64 << 20;
    tine_pool *pool = open_pool(way, &options);
    tine_id id = submit(pool, hoards, NULL, 0, NULL);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    say_code(result.status);
    say(", out of memory: %d\n", result.death ? result.death->out_of_memory : -1);
    tine_result_release(pool, &result);
    say_that_it_serves(pool);
    tine_pool_destroy(pool);
}

/* ---- Workers ---- */

static int initialize(tine_task *task)
{
    static int state;
    state = *(const int *)tine_input(task, NULL);
    tine_set_worker_state(task, &state);
    return state < 0 ? tine_fail(task, -EPERM, "it is %s", "negative") : 0;
}

static int state_of_worker(tine_task *task)
{
    return *(int *)tine_worker_state(task);
}

static void initializers(const struct way *way)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    int state = 11;
    options.initializer = initialize;
    options.initializer_input = &state;
    options.initializer_length = sizeof state;
    tine_pool *pool = open_pool(way, &options);
    say_task(pool, submit(pool, state_of_worker, NULL, 0, NULL));
    tine_pool_destroy(pool);
    state = -1;
    CHECK(open_pool(way, &options) == NULL);
}

static void recycling(const struct way *way)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_stats stats = TINE_STATS_INIT;
    int settled = 0;
    options.max_tasks_per_worker = 3;
    tine_pool *pool = open_pool(way, &options);
    for (int i = 0; i < 40; i++) {
        submit(pool, turn_round, "abc", 3, NULL);
    }
    while (tine_next(pool, HANG_NS, &result) == 0) {
        settled += result.status == 3;
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK(stats.workers_recycled >= 40 / 3 - way->workers);
    say("%d settled, %d died\n", settled, (int)stats.worker_deaths);
    tine_pool_destroy(pool);
}

static int looks_around(tine_task *task)
{
    char directory[8], *out = (char *)tine_output(task, 19);
    struct rlimit limit;
    const char *word = getenv("TINE_TEST_WORD"), *threads = getenv("OMP_NUM_THREADS");
    CHECK(out && word && threads && strlen(word) == 2 && strlen(threads) == 1 && getcwd(directory, sizeof directory));
    CHECK_EQ(getrlimit(RLIMIT_CORE, &limit), 0);
    snprintf(out, 19, "%.2s %.7s %.1s %d", word, directory, threads, limit.rlim_cur == 0);
    return 0;
}

static void surroundings(const struct way *way)
{
    static const char *const environment[] = {"TINE_TEST_WORD=hi", NULL};
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    tine_limit limit = {RLIMIT_CORE, 0, 0};
    worker.environment = environment;
    worker.directory = "/proc";
    worker.library_threads = 2;
    worker.limits = &limit;
    worker.limit_count = 1;
    worker.nice = 1;
    tine_pool *pool = open_pool(way, &options);
    say_task(pool, submit(pool, looks_around, NULL, 0, NULL));
    tine_pool_destroy(pool);
}

static int asks_itself(tine_task *task)
{
    tine_pool *pool = tine_task_pool(task);
    tine_result result = TINE_RESULT_INIT;
    int total = 0, in[5] = {1, 2, 3, 4, 5}, out[5] = {0}, bonus = 1;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    for (int n = 1; n < 6; n++) {
        tine_id id = submit(pool, square, &n, sizeof n, NULL);
        CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
        total += *(const int *)result.data;
        tine_result_release(pool, &result);
    }
    (void)in;
    for (int n = 0; n < 5; n++) {
        in[n] = n;
    }
    options.context = &bonus;
    options.context_length = sizeof bonus;
    CHECK_RC(tine_map(pool, item_square, in, sizeof in[0], out, sizeof out[0], 5, &options), 0);
    return total + out[4];
}

static void nested(const struct way *way)
{
    tine_pool *pool = open_pool(way, NULL);
    tine_id ids[6];
    for (int i = 0; i < 6; i++) { /* more than there are workers, and each waits */
        ids[i] = submit(pool, asks_itself, NULL, 0, NULL);
    }
    for (int i = 0; i < 6; i++) {
        say_task(pool, ids[i]);
    }
    tine_pool_destroy(pool);
}

/* ---- All of it ---- */

static const struct row rows[] = {
    {"soft deadlines", soft_deadlines, EVERYWHERE, 0, "ETIMEDOUT, ran, 'as it was asked to'\n1, ran\n"},
    {"hard deadlines", hard_deadlines, IN_WORKERS, 0,
     "ETIMEDOUT, may have run, 'past its deadline; its worker was ended', signal 9 code 0\n" SERVES},
    {"items that are late and give up", polite_items, EVERYWHERE, 1, "TINE_EITEMS, item 6 ETIMEDOUT, 19 fine\n"},
    {"items that are late and do not", stubborn_items, IN_WORKERS, 1, "TINE_EITEMS, item 6 ETIMEDOUT, 19 fine\n"},
    {"cancelling", cancelling, IN_WORKERS, 0,
     "0 idle, 4 wait\nECANCELED, not started, 'cancelled before it began'\n3\nECANCELED, not started, 'cancelled before it began'\n"
     "0\nECANCELED\n0\nECANCELED, signal 9\n" SERVES},
    {"queue deadlines", queue_deadlines, IN_WORKERS, 0,
     "ETIMEDOUT, not started, 'the task had not begun by its queue deadline'\n"},
    {"deaths", deaths, IN_WORKERS, 0,
     "TINE_EDIED, may have run, 'worker # was ended by SIGKILL', signal 9 code 0\n"
     "TINE_EDIED, may have run, 'worker # was ended by SIGABRT', signal 6 code 0\n"
     "TINE_EDIED, may have run, 'worker # exited with code #', signal 0 code 3\n" SERVES},
    {"retries", retries, IN_WORKERS, 0,
     "5, ran\nTINE_EDIED, may have run, 'worker # was ended by SIGKILL', signal 9 code 0\n"},
    {"deaths in maps", deaths_in_maps, IN_WORKERS, 1, "TINE_EITEMS, 4 died, 196 fine\n"},
    {"reports of deaths", reports, IN_WORKERS, 0, "signal 9, task 1, 1 1, says 'my last words'\n"},
    {"memory caps", memory_caps, IN_WORKERS, 0, "TINE_EMEMORY, out of memory: 1\n" SERVES},
    {"initializers", initializers, EVERYWHERE, 0,
     "11, ran\nTINE_EWORKERSTART, 'the initializer failed with EPERM: it is negative'\n"},
    {"recycling", recycling, IN_WORKERS, 0, "40 settled, 0 died\n"},
    {"surroundings", surroundings, IN_WORKERS, 0, "0, ran, gives 'hi /proc 2 1'\n"},
    {"tasks inside of tasks", nested, EVERYWHERE, 0,
     "72, ran\n72, ran\n72, ran\n72, ran\n72, ran\n72, ran\n"},
};

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    return show_all(rows, sizeof rows / sizeof rows[0], argc > 1 ? argv[1] : NULL);
}
