/* How a worker can end, and what its result says: the signal or the code, where it crashed, that it may have run; and
 * that it costs the one item. Then supervisors that are killed. */
#include "sights.h"
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

static int die_as_told(tine_task *task)
{
    int way;
    memcpy(&way, tine_input(task, NULL), sizeof way);
    return die(way);
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

/* Dies before it has finished its output, where the heap has put that at the address of the output before. */
static int die_at_the_last_address(tine_task *task)
{
    static void *last;
    char *output = (char *)tine_output(task, 1 << 20);
    if (!output) return 1;
    if (output == last) raise(SIGKILL);
    output[0] = 1;
    last = output;
    return 0;
}

static int count_block(void *block, size_t size, void *count)
{
    CHECK(block != NULL && size > 0);
    ++*(int *)count;
    return 0;
}

/* An output that nobody gets goes with its worker, wherever it was. */
static void an_unfinished_output_is_freed(int start)
{
    tine_pool *pool = create_pool(start, 1, 0);
    tine_result result;
    int deaths = 0;
    for (int i = 0; i < 500 && deaths < 4; i++) {
        tine_id id;
        CHECK_RC(tine_submit(pool, die_at_the_last_address, NULL, 0, NULL, &id), 0);
        take(pool, id, &result);
        if (result.status == TINE_EDIED) {
            int left = 0;
            CHECK_RC(tine_heap_blocks(tine_pool_heap(pool), result.death->pid, count_block, &left), 0);
            CHECK_EQ(left, 0);
            deaths++;
        } else {
            CHECK_RC(result.status, 0);
            CHECK(((const char *)result.data)[0] == 1);
        }
        tine_result_release(pool, &result);
    }
    CHECK_EQ(deaths, 4);
    tine_pool_destroy(pool);
}

static void run(int start)
{
    each_way_costs_its_task(start, 0);
    each_way_costs_its_task(start, TINE_NO_CRASH_HANDLER);
    a_map_loses_the_culprits_alone(start);
    a_dead_supervisor_costs_what_was_running(start);
    tasks_that_kill_do_not_end_the_pool(start);
    an_unfinished_output_is_freed(start);
}

int main(int argc, char **argv)
{
    return run_with_each_start(argc, argv, run);
}
