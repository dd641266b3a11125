/* Deaths, deadlines and cancelling on nodes, and nodes that are lost. */
#include "nodes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int die_by(tine_task *task)
{
    raise(*(const int *)tine_input(task, NULL));
    return 0;
}

static int sleep_long(tine_task *task)
{
    (void)task;
    for (;;)
        pause();
    return 0;
}

static int sleep_ms(tine_task *task)
{
    int ms = *(const int *)tine_input(task, NULL);
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
    return ms;
}

static int kill_supervisor(tine_task *task)
{
    (void)task;
    kill(getppid(), SIGKILL);
    for (;;)
        pause();
    return 0;
}

void a_crash_costs_one_item(void)
{
    tine_pool *pool = nodes();
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    int signal = SIGSEGV;
    zero_or_die(tine_submit(pool, die_by, &signal, sizeof signal, NULL, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == TINE_EDIED && result.delivery == TINE_MAYBE_RAN && result.death);
    CHECK(result.death->signal == SIGSEGV && result.death->pid > 0 && result.death->task == id);
    CHECK(strstr(result.message, "SIGSEGV") && strcmp(result.death->function, "die_by") != 1);
    tine_result_release(pool, &result);

    struct item items[200];
    int64_t out[200] = {0};
    int status[200];
    memset(items, 0, sizeof items);
    for (int i = 0; i < 200; i++)
        items[i].number = i;
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.status = status;
    CHECK(tine_map(pool, crash_on_fives, items, sizeof *items, out, sizeof *out, 200, &options) == TINE_EITEMS);
    for (int i = 0; i < 200; i++)
        CHECK(i % 5 ? status[i] == 0 && out[i] == i + 1 : status[i] == TINE_EDIED && out[i] == 0);
    tine_submit_options again = TINE_SUBMIT_OPTIONS_INIT;
    again.retries = 2;
    again.flags = TINE_IDEMPOTENT;
    signal = SIGKILL;
    zero_or_die(tine_submit(pool, die_by, &signal, sizeof signal, &again, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == TINE_EDIED && result.deaths == 3);
    tine_result_release(pool, &result);
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.worker_deaths == 1 + 40 + 3);
    finish(pool);
}

void deadlines_and_cancels_end_tasks(void)
{
    tine_pool *pool = nodes();
    tine_id id, other;
    tine_result result = TINE_RESULT_INIT;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.deadline_ns = 50000000;
    zero_or_die(tine_submit(pool, sleep_long, NULL, 0, &options, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == -ETIMEDOUT);
    tine_result_release(pool, &result);

    zero_or_die(tine_submit(pool, sleep_long, NULL, 0, NULL, &id), "submit");
    usleep(20000);
    zero_or_die(tine_cancel(pool, id), "cancel");
    wait_for(pool, id, &result);
    CHECK(result.status == -ECANCELED);
    tine_result_release(pool, &result);

    finish(pool);

    /* All workers are busy, none of them is being replaced: the last task has not begun by its queue deadline, or when it is cancelled. */
    pool = nodes();
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    tine_id busy[64];
    CHECK(stats.workers <= 64);
    for (size_t i = 0; i < stats.workers; i++)
        zero_or_die(tine_submit(pool, sleep_long, NULL, 0, NULL, &busy[i]), "submit");
    tine_submit_options due = TINE_SUBMIT_OPTIONS_INIT;
    due.queue_deadline_ns = 30000000;
    int ms = 1;
    zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, &due, &id), "submit");
    zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, NULL, &other), "submit");
    wait_for(pool, id, &result);
    if (result.status != -ETIMEDOUT || result.delivery != TINE_NOT_STARTED)
        die("a queue deadline: status %d (%s), delivery %d", result.status, result.message, (int)result.delivery);
    tine_result_release(pool, &result);
    zero_or_die(tine_cancel(pool, other), "cancel");
    wait_for(pool, other, &result);
    CHECK(result.status == -ECANCELED && result.delivery == TINE_NOT_STARTED);
    tine_result_release(pool, &result);
    CHECK(tine_cancel_all(pool) == (int)stats.workers);
    for (size_t i = 0; i < stats.workers; i++) {
        wait_for(pool, busy[i], &result);
        CHECK(result.status == -ECANCELED);
        tine_result_release(pool, &result);
    }
    finish(pool);
}

void a_family_is_rebuilt(void)
{
    tine_pool *pool = nodes();
    for (int round = 0; round < 3; round++) {
        tine_id id;
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_submit(pool, kill_supervisor, NULL, 0, NULL, &id), "submit");
        wait_for(pool, id, &result);
        CHECK(result.status == TINE_EDIED && result.delivery == TINE_MAYBE_RAN);
        tine_result_release(pool, &result);
        for (int i = 0; i < 100; i++) {
            zero_or_die(tine_submit(pool, echo, &i, sizeof i, NULL, &id), "submit");
            wait_for(pool, id, &result);
            CHECK(result.status == 7);
            tine_result_release(pool, &result);
        }
    }
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.supervisor_deaths == 3);
    finish(pool);
}

/* Tasks, some of which kill their workers. All settle, once, and say what is true. */
static int perhaps_die(tine_task *task)
{
    int number = *(const int *)tine_input(task, NULL);
    if (number % 100 == 99)
        raise(SIGKILL);
    int *output = tine_output(task, sizeof *output);
    if (!output)
        return -ENOMEM;
    *output = number * 2;
    return 0;
}

static void storm(int count)
{
    tine_pool *pool = nodes();
    char *seen = calloc((size_t)count, 1);
    CHECK(seen);
    int dead = 0, wrong = 0, twice = 0;
    for (int i = 0; i < count; i++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = (void *)(uintptr_t)i;
        zero_or_die(tine_submit(pool, perhaps_die, &i, sizeof i, &options, &(tine_id){0}), "submit");
    }
    for (int i = 0; i < count; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        int number = (int)(uintptr_t)result.user;
        twice += seen[number]++ != 0;
        dead += result.status == TINE_EDIED;
        if (number % 100 == 99)
            wrong += result.status != TINE_EDIED || result.delivery != TINE_MAYBE_RAN;
        else
            wrong += result.status != 0 || *(const int *)result.data != number * 2;
        tine_result_release(pool, &result);
    }
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    printf("storm: %d tasks, %d kills, %d wrong, %d twice, 0 unsettled\n", count, dead, wrong, twice);
    CHECK(dead == count / 100 && wrong == 0 && twice == 0 && stats.outstanding == 0);
    free(seen);
    finish(pool);
}

void short_storm(void)
{
    storm(getenv("TINE_STORM") ? 100000 : 3000);
}

static pid_t parent_of(pid_t pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    char *read = fgets(line, sizeof line, file);
    fclose(file);
    const char *end = read ? strrchr(line, ')') : NULL;
    char state;
    int parent;
    return end && sscanf(end + 1, " %c %d", &state, &parent) == 2 ? (pid_t)parent : -1;
}

/* A worker's parent is the supervisor, whose parent is the keeper, whose parent is the node. */
static int tell_node(tine_task *task)
{
    pid_t *output = tine_output(task, sizeof *output);
    if (!output)
        return -ENOMEM;
    *output = parent_of(parent_of(getppid()));
    return 0;
}

static pid_t find_node(tine_pool *pool)
{
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    zero_or_die(tine_submit(pool, tell_node, NULL, 0, NULL, &id), "submit");
    wait_for(pool, id, &result);
    CHECK(result.status == 0 && *(const pid_t *)result.data > 1);
    pid_t node = *(const pid_t *)result.data;
    tine_result_release(pool, &result);
    return node;
}

/* A node that hangs is given up after TINE_MPI_TIMEOUT_MS: what it has settles, and the others serve on. */
void a_node_that_hangs_is_lost(void)
{
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    size_t workers = stats.workers;
    CHECK(workers > 2 && kill(node, SIGSTOP) == 0);
    int lost = 0, ms = 1;
    for (int i = 0; i < 200; i++) {
        tine_id id;
        zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, NULL, &id), "submit");
    }
    for (int i = 0; i < 200; i++) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        if (result.status == TINE_EDIED) {
            CHECK(result.delivery == TINE_MAYBE_RAN && !result.death && strstr(result.message, "is lost"));
            lost++;
        } else {
            CHECK(result.status == ms);
        }
        tine_result_release(pool, &result);
    }
    CHECK(lost > 0);
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    CHECK(stats.workers == workers - 2 && stats.outstanding == 0);
    kill(node, SIGCONT);
    finish(pool);
    printf("%d of 200 were lost\n", lost);
}

/* A node stops, and the others have so much to say that rank 0 never rests: it is given up all the same. */
void a_node_hangs_among_busy_ones(void)
{
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    size_t workers = stats.workers, taken = 0, talks = 0;
    CHECK(workers > 2 && kill(node, SIGSTOP) == 0);
    for (int i = 0; i < 100; i++)
        zero_or_die(tine_submit(pool, echo, &i, sizeof i, NULL, &(tine_id){0}), "submit");
    /* Each result brings another task, so the node that has stopped is full and the others have something to do at any time. */
    while (stats.workers == workers) {
        tine_result result = TINE_RESULT_INIT;
        zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
        tine_result_release(pool, &result);
        zero_or_die(tine_submit(pool, echo, &talks, sizeof talks, NULL, &(tine_id){0}), "submit");
        talks++;
        zero_or_die(tine_pool_stats(pool, &stats), "stats");
    }
    CHECK(stats.workers == workers - 2 && talks > 100);
    for (tine_result result = TINE_RESULT_INIT; tine_next(pool, TINE_FOREVER, &result) == 0; taken++)
        tine_result_release(pool, &result);
    CHECK(taken == 100);
    kill(node, SIGCONT);
    finish(pool);
}

/* Makes a long output, and says so by a file. */
static int long_output(tine_task *task)
{
    enum { LENGTH = 128 << 20 };
    const char *path = tine_input(task, NULL);
    char *output = tine_output(task, LENGTH);
    if (!output)
        return -ENOMEM;
    memset(output, 1, LENGTH);
    FILE *file = fopen(path, "w");
    if (!file)
        return -errno;
    fclose(file);
    return 0;
}

/* A node stops while it sends: rank 0 does not wait for the rest in a call of MPI, and gives the node up. */
void a_node_hangs_amid_its_output(void)
{
    char folder[] = "/tmp/tine-nodes-XXXXXX", path[64];
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/made", folder);
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    tine_id ids[16];
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    size_t workers = stats.workers;
    CHECK(workers == 2);
    zero_or_die(tine_submit(pool, long_output, path, strlen(path) + 1, NULL, &ids[0]), "submit");
    while (access(path, F_OK))
        usleep(500);
    const char *after = getenv("TINE_AFTER_US");
    usleep(after ? (useconds_t)atoi(after) : 10000);
    CHECK(kill(node, SIGSTOP) == 0);
    int number = 5;
    zero_or_die(tine_submit(pool, echo, &number, sizeof number, NULL, &ids[1]), "submit");
    for (int i = 0; i < 2; i++) {
        tine_result result = TINE_RESULT_INIT;
        wait_for(pool, ids[i], &result);
        printf("task %d: %d\n", i, result.status);
        CHECK(result.status == TINE_EDIED ? result.delivery == TINE_MAYBE_RAN : i == 0 && result.status == 0 && result.length == 128 << 20);
        tine_result_release(pool, &result);
    }
    kill(node, SIGCONT);
    tine_pool_destroy(pool);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

/* Stops a node of this pool and waits until it is lost, which it is though it is sent something again and again. */
static pid_t lose_node(tine_pool *pool)
{
    pid_t node = find_node(pool);
    tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &before), "stats");
    CHECK(kill(node, SIGSTOP) == 0);
    int ms = 1;
    for (int i = 0; i < 100; i++)
        zero_or_die(tine_submit(pool, sleep_ms, &ms, sizeof ms, NULL, &(tine_id){0}), "submit");
    for (int i = 0; i < 100; i++) {
        tine_result result = TINE_RESULT_INIT;
        int rc;
        while ((rc = tine_next(pool, 100000000, &result)) == -ETIMEDOUT)
            CHECK(tine_cancel_all(pool) >= 0);
        zero_or_die(rc, "next");
        tine_result_release(pool, &result);
    }
    zero_or_die(tine_pool_stats(pool, &after), "stats");
    CHECK(after.workers == before.workers - 2);
    return node;
}

/* One node after the other is lost. A pool that is made afterwards has the nodes that are left; where none is, it is refused. */
void a_pool_is_made_after_a_loss(void)
{
    pid_t lost[16];
    size_t count = 0, workers;
    tine_pool *pool = nodes();
    tine_stats stats = TINE_STATS_INIT;
    do {
        CHECK(count < sizeof lost / sizeof *lost);
        lost[count++] = lose_node(pool);
        zero_or_die(tine_pool_stats(pool, &stats), "stats");
        workers = stats.workers;
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_error error = TINE_ERROR_INIT;
        options.error = &error;
        options.engine = TINE_ENGINE_MPI;
        options.workers = 2;
        tine_pool *later = NULL;
        int rc = tine_pool_create(&options, &later);
        if (workers == 0) {
            CHECK(rc == TINE_EWORKERSTART && !later);
            CHECK(strstr(error.text, "no node is left: rank ") && strstr(error.text, " is lost"));
            continue;
        }
        zero_or_die(rc, "tine_pool_create");
        for (int i = 0; i < 100; i++) {
            tine_id id;
            tine_result result = TINE_RESULT_INIT;
            zero_or_die(tine_submit(later, echo, &i, sizeof i, NULL, &id), "submit");
            wait_for(later, id, &result);
            CHECK(result.status == 7 && *(const int *)result.data == i);
            tine_result_release(later, &result);
        }
        zero_or_die(tine_pool_stats(later, &stats), "stats");
        CHECK(stats.workers == workers);
        finish(later);
    } while (workers > 0);
    CHECK(count > 1);
    for (size_t i = 0; i < count; i++)
        kill(lost[i], SIGCONT);
    tine_pool_destroy(pool);
}

static size_t mappings_of(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    size_t lines = 0;
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

/* A node makes and ends each pool in threads, whose stacks it gives back: two mappings each. */
void many_pools_leave_no_stacks(void)
{
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    size_t before = 0;
    for (int i = 0; i < 15; i++) {
        if (i == 5)
            before = mappings_of(node);
        finish(pool_on(TINE_ENGINE_MPI, 1));
    }
    size_t after = mappings_of(node);
    if (after >= before + 15)
        die("after ten pools a node has %zu mappings, and not %zu", after, before);
    finish(pool);
}

/* Five tasks that have settled and fifty that have not; their ids are printed. */
static tine_id leave_tasks(tine_pool *pool)
{
    tine_id id = 0;
    tine_stats stats = TINE_STATS_INIT;
    zero_or_die(tine_pool_stats(pool, &stats), "stats");
    uint64_t wanted = stats.settled + 5;
    for (int i = 0; i < 55; i++) {
        zero_or_die(tine_submit(pool, i < 5 ? echo : sleep_long, NULL, 0, NULL, &id), "submit");
        printf("task %#llx\n", (unsigned long long)id);
        while (i == 4 && stats.settled < wanted) {
            usleep(1000);
            zero_or_die(tine_pool_stats(pool, &stats), "stats");
        }
    }
    fflush(stdout);
    return id;
}

/* mpirun ends the job while rank 0 waits. */
void rank_is_killed(void)
{
    tine_pool *pool = nodes();
    pid_t node = find_node(pool);
    tine_id id = leave_tasks(pool);
    tine_result result = TINE_RESULT_INIT;
    CHECK(node > 1);
    kill(node, SIGKILL);
    wait_for(pool, id, &result);
}

/* Rank 0 itself, by a signal, and without saying goodbye. */
void host_is_killed(void)
{
    tine_pool *pool = nodes();
    find_node(pool);
    leave_tasks(pool);
    raise(SIGKILL);
}

/* What a forked child does to its copy of the pool leaves the parent's report as it is. */
void host_forks_and_is_killed(void)
{
    tine_pool *pool = nodes();
    find_node(pool);
    leave_tasks(pool);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_pool_destroy(pool);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    raise(SIGKILL);
}

void host_leaves_at_once(void)
{
    tine_pool *pool = nodes();
    find_node(pool);
    leave_tasks(pool);
    _exit(3);
}

/* What rank 0 has done, in a file: another process reads it when rank 0 is gone. */
struct counts {
    volatile uint64_t begun, accepted, taken;
};

static pid_t victim;

static void *kill_victim(void *wait_us)
{
    usleep(*(const useconds_t *)wait_us);
    CHECK(victim > 1);
    kill(victim, SIGKILL);
    return NULL;
}

/* A rank is killed, rank 0 or a node, at any moment of a pool's life under load: TINE_RANK says which, TINE_AFTER_US when. It does not come back. */
void a_rank_dies_at_work(void)
{
    const char *rank = getenv("TINE_RANK"), *after = getenv("TINE_AFTER_US"), *path = getenv("TINE_COUNTS");
    CHECK(rank && after && path);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && ftruncate(file, sizeof(struct counts)) == 0);
    struct counts *counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(counts != MAP_FAILED);
    tine_pool *pool = nodes();
    victim = atoi(rank) ? find_node(pool) : getpid();
    counts->begun = counts->accepted = counts->taken = atoi(rank) ? 1 : 0;
    useconds_t wait_us = (useconds_t)atoi(after);
    for (int i = 0;; i++) {
        counts->begun++;
        /* The first one never ends, so that there is something to report. */
        zero_or_die(tine_submit(pool, i ? echo : sleep_long, &i, sizeof i, NULL, &(tine_id){0}), "submit");
        counts->accepted++;
        pthread_t thread;
        if (i == 0)
            zero_or_die(pthread_create(&thread, NULL, kill_victim, &wait_us), "pthread_create");
        while (counts->accepted - counts->taken > 1000) {
            tine_result result = TINE_RESULT_INIT;
            zero_or_die(tine_next(pool, TINE_FOREVER, &result), "next");
            tine_result_release(pool, &result);
            counts->taken++;
        }
    }
}
