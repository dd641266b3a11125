/* How a worker can end, and what its result says: the signal or the code, where it crashed, that it may have run; and
 * that it costs the one item. Then supervisors that are killed or stopped, and workers that never get ready. */
#include "family.h"
#include <pthread.h>

enum way {
    BY_SIGKILL, BY_SIGSEGV, BY_ABORT, BY_EXIT_3, BY_EXIT_0, BY_STACK, BY_SIGFPE, BY_GROUP, BY_SIGTERM, BY_EXEC, BY_THREAD,
    BY_SIGINT, BY_QUICK_EXIT, WAYS
};

static const struct {
    const char *name;
    int signal, code, has_backtrace;
    uintptr_t fault_address; /* 0: anything */
} expected[WAYS] = {
    {"kill(SIGKILL)", SIGKILL, 0, 0, 0},
    {"a write to 0xdead0", SIGSEGV, 0, 1, 0xdead0},
    {"abort", SIGABRT, 0, 1, 0},
    {"exit(3)", 0, 3, 0, 0},
    {"_exit(0)", 0, 0, 0, 0},
    {"endless recursion", SIGSEGV, 0, 1, 0},
    {"a division by zero", SIGFPE, 0, 1, 0},
    {"SIGKILL to its own process group", SIGKILL, 0, 0, 0},
    {"raise(SIGTERM)", SIGTERM, 0, 0, 0},
    {"exec of another program", 0, 7, 0, 0},
    {"a crash in another thread", SIGSEGV, 0, 1, 0xdead0},
    {"raise(SIGINT)", SIGINT, 0, 0, 0},
    {"quick_exit(9)", 0, 9, 0, 0},
};

static volatile int zero;
static volatile char *volatile nowhere = (volatile char *)0xdead0;

static int dig(volatile char *above)
{
    volatile char here[512];
    here[0] = above ? above[0] : 1;
    if (here[0] == 2) {
        return 0;
    }
    return dig(here) + here[0];
}

static void *crash_here(void *argument)
{
    *nowhere = 1;
    return argument;
}

static int die(int way)
{
    pthread_t thread;
    switch (way) {
        case BY_SIGKILL: kill(getpid(), SIGKILL); break;
        case BY_SIGSEGV: *nowhere = 1; break;
        case BY_ABORT: abort();
        case BY_EXIT_3: exit(3);
        case BY_EXIT_0: _exit(0);
        case BY_STACK: return dig(NULL);
        case BY_SIGFPE: return 7 / zero;
        case BY_GROUP: kill(0, SIGKILL); break;
        case BY_SIGTERM: raise(SIGTERM); break;
        case BY_EXEC: execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL); break;
        case BY_THREAD:
            pthread_create(&thread, NULL, crash_here, NULL);
            pthread_join(thread, NULL);
            break;
        case BY_SIGINT: raise(SIGINT); break;
        case BY_QUICK_EXIT: quick_exit(9);
    }
    return -EPROTO;
}

/* In the pool's heap. */
struct sight {
    uint32_t started, let_go;
    pid_t pid, parent;
};

static int die_as_told(tine_task *task)
{
    int way;
    memcpy(&way, tine_input(task, NULL), sizeof way);
    return die(way);
}

static int wait_to_be_let_go(tine_task *task)
{
    struct sight *sight;
    memcpy(&sight, tine_input(task, NULL), sizeof sight);
    sight->pid = getpid();
    sight->parent = getppid();
    __atomic_store_n(&sight->started, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&sight->let_go, __ATOMIC_SEQ_CST)) {
        nap_ns(100000);
    }
    return 77;
}

static int add_one(tine_task *task)
{
    int number;
    memcpy(&number, tine_input(task, NULL), sizeof number);
    return number + 1;
}

static struct sight *new_sight(tine_pool *pool)
{
    struct sight *sight = (struct sight *)tine_alloc(pool, sizeof *sight);
    CHECK(sight);
    memset(sight, 0, sizeof *sight);
    return sight;
}

static tine_id submit_sight(tine_pool *pool, struct sight *sight)
{
    tine_id id;
    CHECK_RC(tine_submit(pool, wait_to_be_let_go, &sight, sizeof sight, NULL, &id), 0);
    return id;
}

static void take(tine_pool *pool, tine_id id, tine_result *result)
{
    tine_result fresh = TINE_RESULT_INIT;
    *result = fresh;
    CHECK_RC(tine_wait(pool, id, HANG_NS, result), 0);
    CHECK(result->id == id);
}

static void check_death_of(const tine_result *result, int way, int handled)
{
    const char *exe_name = "deaths";
    const tine_death *death = result->death;
    if (result->status != TINE_EDIED || result->delivery != TINE_MAYBE_RAN || !death
        || death->signal != expected[way].signal || death->code != expected[way].code) {
        fprintf(stderr, "%s: status %s, delivery %d, signal %d, code %d: %s\n", expected[way].name,
                tine_errname(result->status), result->delivery, death ? death->signal : -1, death ? death->code : -1,
                result->message);
        exit(1);
    }
    CHECK(death->size >= sizeof *death);
    CHECK(death->pid > 1 && death->pid != getpid());
    CHECK(death->backtrace && result->message[0]);
    CHECK(result->data == NULL && result->length == 0);
    if (way != BY_GROUP) { /* The supervisor may not have lived to tell. */
        CHECK(death->max_rss_bytes > 100000);
    }
    if (!handled || !expected[way].has_backtrace) {
        CHECK_STR(death->backtrace, "");
        return;
    }
    if (expected[way].signal == SIGABRT) {
        CHECK(death->fault_address == NULL); /* nothing was at fault but the program */
    }
    if (expected[way].fault_address) {
        CHECK_EQ((uintptr_t)death->fault_address, expected[way].fault_address);
    }
    /* It begins where the fault is, not in tine's handler; an abort is in the C library. */
    const char *first_end = strchr(death->backtrace, '\n'), *found = strstr(death->backtrace, exe_name);
    if (!found || !first_end || (expected[way].signal != SIGABRT && found > first_end)) {
        fprintf(stderr, "%s: this program is not where the backtrace begins:\n%s", expected[way].name, death->backtrace);
        exit(1);
    }
}

/* Each way to die, beside a task of another worker that must not notice. */
static void each_way_costs_its_task(int start, uint32_t flags)
{
    tine_pool *pool = create_pool(start, 2, flags);
    for (int way = 0; way < WAYS; way++) {
        struct sight *sight = new_sight(pool);
        tine_id bystander = submit_sight(pool, sight), ids[8], culprit;
        tine_result result;
        WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
        CHECK_RC(tine_submit(pool, die_as_told, &way, sizeof way, NULL, &culprit), 0);
        for (int i = 0; i < 8; i++) {
            CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &ids[i]), 0);
        }
        take(pool, culprit, &result);
        check_death_of(&result, way, !(flags & TINE_NO_CRASH_HANDLER));
        CHECK(result.death->pid != sight->pid);
        tine_result_release(pool, &result);
        for (int i = 0; i < 8; i++) { /* The other worker is busy, so these run in the replacement. */
            take(pool, ids[i], &result);
            CHECK_EQ(result.status, i + 1);
            CHECK_EQ(result.delivery, TINE_RAN);
            tine_result_release(pool, &result);
        }
        __atomic_store_n(&sight->let_go, 1, __ATOMIC_SEQ_CST);
        take(pool, bystander, &result);
        if (result.status != 77) {
            fprintf(stderr, "%s, %s: the other worker's task: %s, %s\n", start_name(start), expected[way].name,
                    tine_errname(result.status), result.message);
            exit(1);
        }
        tine_result_release(pool, &result);
        tine_free(pool, sight);
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.worker_deaths, WAYS);
    CHECK_EQ(stats.supervisor_deaths, 0);
    tine_pool_destroy(pool);
}

/* ---- Maps ---- */

struct item {
    int number, way; /* A way to die, -1 for none, -2 to fail. */
};

static int map_item(tine_task *task, const void *in, void *out)
{
    struct item item;
    int64_t twice;
    memcpy(&item, in, sizeof item);
    if (item.way >= 0) {
        return die(item.way);
    }
    if (item.way == -2) {
        return tine_fail(task, -EDOM, "item %d", item.number);
    }
    twice = (int64_t)item.number * 2;
    memcpy(out, &twice, sizeof twice);
    return item.number % 50;
}

struct seen {
    const struct item *items;
    int failures[400];
};

static void see_failure(const tine_result *result, size_t item, void *user)
{
    struct seen *seen = (struct seen *)user;
    CHECK(item < 400);
    seen->failures[item]++;
    if (seen->items[item].way == -2) {
        char text[32];
        snprintf(text, sizeof text, "item %d", seen->items[item].number);
        CHECK_EQ(result->status, -EDOM);
        CHECK_STR(result->message, text);
        CHECK(!result->death);
    } else {
        CHECK(seen->items[item].way >= 0);
        check_death_of(result, seen->items[item].way, 1);
    }
}

static void a_map_loses_the_culprits_alone(int start)
{
    static const size_t chunks[] = {1, 7, 100, 0};
    enum { COUNT = 400 };
    tine_pool *pool = create_pool(start, 3, 0);
    for (int round = 0; round < 8; round++) {
        struct item items[COUNT];
        int64_t out[COUNT];
        int status[COUNT];
        struct seen seen;
        tine_map_options options = TINE_MAP_OPTIONS_INIT;
        memset(&seen, 0, sizeof seen);
        seen.items = items;
        for (int i = 0; i < COUNT; i++) {
            items[i].number = i;
            items[i].way = i % 13 == 5 ? -2 : -1;
            out[i] = -1;
            status[i] = 4711;
        }
        /* The first, the last, two in a row, and one here and there; not the whole group. */
        items[0].way = BY_SIGSEGV;
        items[COUNT - 1].way = BY_EXIT_3;
        items[100].way = BY_ABORT;
        items[101].way = BY_SIGKILL;
        items[107].way = BY_STACK;
        items[250].way = BY_EXIT_0;
        items[333].way = round % 2 ? BY_SIGFPE : BY_THREAD;
        options.chunk = chunks[round % 4];
        options.status = status;
        options.on_failure = see_failure;
        options.user = &seen;
        CHECK_RC(tine_map(pool, map_item, items, sizeof *items, out, sizeof *out, COUNT, &options), TINE_EITEMS);
        for (int i = 0; i < COUNT; i++) {
            int wanted = items[i].way == -1 ? i % 50 : items[i].way == -2 ? -EDOM : TINE_EDIED;
            if (status[i] != wanted || seen.failures[i] != (wanted < 0) || out[i] != (wanted < 0 ? -1 : 2 * i)) {
                fprintf(stderr, "%s, chunk %zu, item %d: status %d, not %d; %d failures, output %lld\n",
                        start_name(start), options.chunk, i, status[i], wanted, seen.failures[i], (long long)out[i]);
                exit(1);
            }
        }
    }
    tine_pool_destroy(pool);
}

/* ---- Supervisors ---- */

static pid_t supervisor_of(const struct sight *sight)
{
    return sight->parent;
}

static void a_dead_supervisor_costs_what_was_running(int start)
{
    enum { QUEUED = 200 };
    tine_pool *pool = create_pool(start, 2, 0);
    for (int round = 0; round < 5; round++) {
        struct sight *sights[2];
        tine_id running[2], queued[QUEUED];
        tine_result result;
        for (int i = 0; i < 2; i++) {
            sights[i] = new_sight(pool);
            running[i] = submit_sight(pool, sights[i]);
        }
        for (int i = 0; i < 2; i++) {
            WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sights[i]->started, __ATOMIC_SEQ_CST));
        }
        CHECK_EQ(sights[0]->parent, sights[1]->parent);
        for (int i = 0; i < QUEUED; i++) {
            CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &queued[i]), 0);
        }
        CHECK_EQ(kill(supervisor_of(sights[0]), SIGKILL), 0);
        for (int i = 0; i < QUEUED; i++) {
            take(pool, queued[i], &result);
            CHECK_EQ(result.status, i + 1);
            tine_result_release(pool, &result);
        }
        for (int i = 0; i < 2; i++) {
            take(pool, running[i], &result);
            CHECK_EQ(result.status, TINE_EDIED);
            CHECK_EQ(result.delivery, TINE_MAYBE_RAN);
            CHECK(result.death && result.death->pid == sights[i]->pid);
            tine_result_release(pool, &result);
            tine_free(pool, sights[i]);
        }
    }
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    CHECK_EQ(stats.supervisor_deaths, 5);
    CHECK_EQ(stats.worker_deaths, 10);
    tine_pool_destroy(pool);
}

/* It is not on the path of tasks: these go on; a worker that dies meanwhile makes it go on. */
static void a_stopped_supervisor_loses_nothing(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sight *sight = new_sight(pool);
    tine_id id = submit_sight(pool, sight), dying;
    tine_result result;
    int way = BY_SIGKILL;
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
    CHECK_EQ(kill(supervisor_of(sight), SIGSTOP), 0);
    for (int i = 0; i < 1000; i++) { /* One worker waits, the other serves. */
        tine_id one;
        CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &one), 0);
        take(pool, one, &result);
        CHECK_EQ(result.status, i + 1);
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_submit(pool, die_as_told, &way, sizeof way, NULL, &dying), 0);
    take(pool, dying, &result); /* Who reaps it is stopped, and is told to go on. */
    check_death_of(&result, way, 1);
    tine_result_release(pool, &result);
    __atomic_store_n(&sight->let_go, 1, __ATOMIC_SEQ_CST);
    take(pool, id, &result);
    CHECK_EQ(result.status, 77);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

/* A worker that does not begin what it has been given, because it is stopped while it has nothing to do, loses it to others
 * and is replaced in the end. */
static void a_stopped_worker_keeps_nothing(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sight *sight = new_sight(pool);
    tine_id id = submit_sight(pool, sight), ids[100];
    tine_result result;
    tine_stats stats = TINE_STATS_INIT;
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
    __atomic_store_n(&sight->let_go, 1, __ATOMIC_SEQ_CST);
    take(pool, id, &result);
    CHECK_EQ(result.status, 77);
    tine_result_release(pool, &result);
    CHECK_EQ(kill(sight->pid, SIGSTOP), 0);
    for (int i = 0; i < 100; i++) {
        CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &ids[i]), 0);
    }
    for (int i = 0; i < 100; i++) {
        take(pool, ids[i], &result);
        CHECK_EQ(result.status, i + 1);
        tine_result_release(pool, &result);
    }
    for (int64_t last = clock_ns(), spent = 0; stats.worker_deaths == 0;) {
        int more = 0;
        CHECK(!is_over(HANG_NS, &last, &spent));
        CHECK_RC(tine_submit(pool, add_one, &more, sizeof more, NULL, &id), 0);
        take(pool, id, &result);
        CHECK_EQ(result.status, 1);
        tine_result_release(pool, &result);
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
    }
    CHECK_EQ(stats.worker_deaths, 1);
    struct process gone;
    WAIT_UNTIL(!look_at(sight->pid, &gone));
    tine_free(pool, sight);
    tine_pool_destroy(pool);
}

/* All workers are stopped for a while, and a task goes from one to the next: it is suspected of what becomes of them, but it has begun in
 * none, and nobody is given up before a second. A stop that the machine has made longer than that shows nothing. */
static void what_nobody_begins_is_not_to_blame(int start, int64_t stop_ns)
{
    enum { WORKERS = 4 };
    const int64_t limit_ns = 1000000000;
    tine_pool *pool = create_pool(start, WORKERS, 0);
    for (int64_t took = limit_ns, last = clock_ns(), spent = 0; took >= limit_ns;) {
        struct sight *sights[WORKERS];
        tine_id ids[WORKERS], id;
        tine_result result;
        tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
        int six = 6;
        CHECK(!is_over(10 * HANG_NS, &last, &spent));
        for (int i = 0; i < WORKERS; i++) {
            sights[i] = new_sight(pool);
            ids[i] = submit_sight(pool, sights[i]);
        }
        for (int i = 0; i < WORKERS; i++) {
            WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sights[i]->started, __ATOMIC_SEQ_CST));
        }
        for (int i = 0; i < WORKERS; i++) {
            __atomic_store_n(&sights[i]->let_go, 1, __ATOMIC_SEQ_CST);
            take(pool, ids[i], &result);
            CHECK_EQ(result.status, 77);
            tine_result_release(pool, &result);
        }
        CHECK_RC(tine_pool_stats(pool, &before), 0);
        int64_t began = clock_ns();
        for (int i = 0; i < WORKERS; i++) {
            CHECK_EQ(kill(sights[i]->pid, SIGSTOP), 0);
        }
        CHECK_RC(tine_submit(pool, add_one, &six, sizeof six, NULL, &id), 0);
        nap_ns(stop_ns);
        for (int i = 0; i < WORKERS; i++) {
            kill(sights[i]->pid, SIGCONT);
            tine_free(pool, sights[i]);
        }
        take(pool, id, &result);
        CHECK_RC(tine_pool_stats(pool, &after), 0);
        took = clock_ns() - began;
        if (took < limit_ns) {
            CHECK_EQ(result.status, 7);
            CHECK_EQ(after.worker_deaths, before.worker_deaths);
        }
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);
}

/* One that is stopped for good must not hold up the end either. */
static void a_stopped_family_can_be_destroyed(int start)
{
    tine_pool *pool = create_pool(start, 2, 0);
    struct sight *sight = new_sight(pool);
    submit_sight(pool, sight);
    WAIT_UNTIL(tine_pool_poll(pool) >= 0 && __atomic_load_n(&sight->started, __ATOMIC_SEQ_CST));
    CHECK_EQ(kill(sight->pid, SIGSTOP), 0);
    CHECK_EQ(kill(supervisor_of(sight), SIGSTOP), 0);
    int64_t began = clock_ns();
    tine_pool_destroy(pool);
    CHECK(clock_ns() - began < HANG_NS);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

/* ---- Workers that do not get ready ---- */

enum start_failure { EXITS, CRASHES, FAILS, FAILS_SILENTLY, HANGS, ABORTS, FROM_THE_SECOND_ON, START_FAILURES };

struct start_plan {
    int failure;
    pid_t host;
    int fd; /* Of a file of the host's, by which workers count themselves. */
};

static int initialize(tine_task *task)
{
    struct start_plan plan;
    memcpy(&plan, tine_input(task, NULL), sizeof plan);
    switch (plan.failure) {
        case EXITS: exit(5);
        case CRASHES: *nowhere = 1; break;
        case FAILS: return tine_fail(task, -ENOENT, "no %s today", "model");
        case FAILS_SILENTLY: return -EACCES;
        case HANGS:
            for (;;) {
                pause();
            }
        case ABORTS: abort();
        case FROM_THE_SECOND_ON: {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)plan.host, plan.fd);
            int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
            if (fd < 0 || write(fd, "x", 1) != 1) {
                return -EIO;
            }
            off_t length = lseek(fd, 0, SEEK_END);
            close(fd);
            return length > 1 ? tine_fail(task, -EBUSY, "only once") : 0;
        }
    }
    return 0;
}

static void a_start_that_fails_says_why(int start)
{
    static const char *const said[] = {"exited with code 5", "SIGSEGV",    "no model today",    "EACCES",
                                       "not ready",          "SIGABRT"};
    for (int failure = EXITS; failure <= ABORTS; failure++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_error error = TINE_ERROR_INIT;
        struct start_plan plan = {failure, getpid(), -1};
        tine_pool *pool = NULL;
        options.start = start;
        options.workers = 2;
        options.error = &error;
        options.initializer = initialize;
        options.initializer_input = &plan;
        options.initializer_length = sizeof plan;
        options.start_timeout_ns = failure == HANGS ? 300000000 : 0;
        int64_t began = clock_ns();
        int rc = tine_pool_create(&options, &pool);
        if (rc != TINE_EWORKERSTART || error.code != rc || !strstr(error.text, said[failure]) || pool) {
            fprintf(stderr, "%s, failure %d: %s, \"%s\"\n", start_name(start), failure, tine_errname(rc), error.text);
            exit(1);
        }
        /* Promptly: not after a start timeout of ten seconds. */
        CHECK(clock_ns() - began < HANG_NS / 2);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
}

static void later_generations_that_fail_end_the_pool(int start)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    struct start_plan plan = {FROM_THE_SECOND_ON, getpid(), memfd_create("generations", MFD_CLOEXEC)};
    tine_pool *pool;
    tine_result result;
    tine_id ids[10];
    int way = BY_SIGSEGV;
    CHECK(plan.fd >= 0);
    options.start = start;
    options.workers = 1;
    options.initializer = initialize;
    options.initializer_input = &plan;
    options.initializer_length = sizeof plan;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    CHECK_RC(tine_submit(pool, die_as_told, &way, sizeof way, NULL, &ids[0]), 0);
    for (int i = 1; i < 10; i++) {
        CHECK_RC(tine_submit(pool, add_one, &i, sizeof i, NULL, &ids[i]), 0);
    }
    take(pool, ids[0], &result);
    check_death_of(&result, way, 1);
    tine_result_release(pool, &result);
    for (int i = 1; i < 10; i++) { /* Nobody is left to run them, and each is told so. */
        take(pool, ids[i], &result);
        CHECK_EQ(result.status, TINE_EWORKERSTART);
        CHECK_EQ(result.delivery, TINE_NOT_STARTED);
        CHECK(strstr(result.message, "only once"));
        tine_result_release(pool, &result);
    }
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    submit.error = &error;
    CHECK_RC(tine_submit(pool, add_one, &way, sizeof way, &submit, NULL), TINE_EWORKERSTART);
    CHECK(strstr(error.text, "only once"));
    struct stat file;
    CHECK_EQ(fstat(plan.fd, &file), 0);
    CHECK(file.st_size >= 2 && file.st_size <= 10); /* It was tried more than once, and not for ever. */
    tine_pool_destroy(pool);
    close(plan.fd);
}

/* Tasks that always kill their worker are no crash loop of the pool's. */
static void tasks_that_kill_do_not_end_the_pool(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_result result;
    for (int i = 0; i < 30; i++) {
        tine_id id;
        int way = i % 3 == 0 ? BY_EXIT_3 : i % 3 == 1 ? BY_SIGSEGV : BY_SIGKILL;
        CHECK_RC(tine_submit(pool, die_as_told, &way, sizeof way, NULL, &id), 0);
        take(pool, id, &result);
        check_death_of(&result, way, 1);
        tine_result_release(pool, &result);
    }
    tine_pool_destroy(pool);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    tine_init(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    static const int64_t stops_ns[] = {150000000, 350000000, 700000000};
    tine_pool_destroy(create_pool(TINE_START_FORKSERVER, 1, 0));
    struct belongings before = take_stock();
    for (int i = 0; i < 3; i++) {
        int start = all_starts[i];
        int64_t began = clock_ns();
        each_way_costs_its_task(start, 0);
        each_way_costs_its_task(start, TINE_NO_CRASH_HANDLER);
        a_map_loses_the_culprits_alone(start);
        a_dead_supervisor_costs_what_was_running(start);
        a_stopped_supervisor_loses_nothing(start);
        a_stopped_worker_keeps_nothing(start);
        what_nobody_begins_is_not_to_blame(start, stops_ns[i]);
        a_stopped_family_can_be_destroyed(start);
        a_start_that_fails_says_why(start);
        later_generations_that_fail_end_the_pool(start);
        tasks_that_kill_do_not_end_the_pool(start);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
        check_stock(before);
        printf("%-10s %.1f s\n", start_name(start), (double)(clock_ns() - began) / 1e9);
    }
    return 0;
}
