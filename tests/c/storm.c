/* The kill storm: tasks of all sizes, through submit and through maps, while a second process kills a random process of
 * the pool's family every 5 ms or so (as long as tasks get on, too), supervisors included. Half of the storms add what no kill from
 * outside hits on purpose: the pool's own .faults kill workers as they start, before a call and behind it, delay calls and fail allocations, where the
 * seed says. Every task settles exactly once, with the right result, with a death or with the allocation that failed; what is said not to have started
 * has not run; nothing runs twice; and the host ends as it began.
 *
 * limit: 300
 *
 * 10,000 tasks in all, for the three start methods. TINE_STORM=long: 1,000,000 tasks and 10,000 kills from outside, and a table. TINE_TEST_SEED repeats a run's choices (though
 * not its timing). */
#include "storm_jobs.h"
#include "storm_killer.h"
#include <poll.h>
#include <pthread.h>

struct record {
    tine_id id;
    void *heap_input;
    uint32_t settled, length, kind, canceled;
    int delivery;
};

struct storm {
    int start, has_faults;
    size_t workers;
    uint32_t tasks, mapped;
    uint64_t random;
    tine_pool *pool;
    struct tally *tally;
    struct killing *killing;
    struct record *records;
    uint32_t submitted, settled, duplicates, wrong, died, canceled, map_died, no_output, no_block;
    uint32_t map_settled;
    uint32_t *map_executions;
    int64_t *settle_ns;
    size_t settle_count, settle_room;
};

/* ---- The host's side ---- */

static void count_settled(struct storm *storm, uint32_t count)
{
    __atomic_fetch_add(&storm->killing->settled, count, __ATOMIC_SEQ_CST);
}

/* A result that says how its process died: when was that? */
static void note_death(struct storm *storm, pid_t pid)
{
    int64_t killed_ns = when_killed(storm->killing, pid);
    if (killed_ns == 0) {
        return;
    }
    int64_t took = clock_ns() - killed_ns;
    CHECK(took < HANG_NS);
    size_t at = __atomic_fetch_add(&storm->settle_count, 1, __ATOMIC_SEQ_CST);
    if (at < storm->settle_room) {
        storm->settle_ns[at] = took;
    }
}

/* A block of the pool's heap, of which .faults may refuse one, but not again and again. */
static void *get_block(struct storm *storm, size_t length)
{
    for (int tries = 0; tries < 20; tries++) {
        void *block = tine_alloc(storm->pool, length);
        if (block) {
            return block;
        }
        CHECK(storm->has_faults);
        __atomic_fetch_add(&storm->no_block, 1, __ATOMIC_SEQ_CST);
    }
    CHECK(!"the heap is full");
    return NULL;
}

static void check_death(struct storm *storm, const tine_result *result)
{
    CHECK_EQ(result->delivery, TINE_MAYBE_RAN);
    CHECK(result->death);
    CHECK(result->death->pid > 1);
    CHECK_EQ(result->death->signal, SIGKILL);
    note_death(storm, result->death->pid);
}

static int is_right(const struct record *record, uint32_t number, const tine_result *result)
{
    unsigned char *expected;
    size_t length = 0;
    int right;
    if (result->delivery != TINE_RAN || result->death) {
        return 0;
    }
    if (record->kind == FAILING) {
        char text[64];
        snprintf(text, sizeof text, "job %u fails", number);
        return result->status == -EDOM && strcmp(result->message, text) == 0;
    }
    if (record->kind != NOTHING_OUT) {
        length = record->kind == SMALL_OUT ? 5 + number % 60 : large_length(number);
    }
    if (result->status != (int)(number % 1000) || result->length != length || (length > 0) != (result->data != NULL)) {
        return 0;
    }
    expected = (unsigned char *)malloc(length + 1);
    CHECK(expected);
    fill(expected, length, number);
    right = length == 0 || memcmp(expected, result->data, length) == 0;
    free(expected);
    return right;
}

static void take_result(struct storm *storm, tine_result *result)
{
    uint32_t number = (uint32_t)(uintptr_t)result->user;
    CHECK(number < storm->submitted);
    struct record *record = &storm->records[number];
    if (record->settled++ != 0 || record->id != result->id) {
        storm->duplicates++;
    }
    record->delivery = result->delivery;
    if (result->status == TINE_EDIED) {
        check_death(storm, result);
        storm->died++;
    } else if (result->status == -ECANCELED) {
        CHECK(record->canceled);
        CHECK(result->death == NULL || result->delivery == TINE_MAYBE_RAN); /* it may have been running */
        storm->canceled++;
    } else if (result->status == -ENOMEM && storm->has_faults && record->kind == LARGE_OUT) {
        /* Its output was refused, which only one can be that does not fit beside the result. */
        CHECK_EQ(result->delivery, TINE_RAN);
        CHECK(!result->death && !result->data);
        storm->no_output++;
    } else if (!is_right(record, number, result)) {
        fprintf(stderr, "task %u: status %d %s, delivery %d, %zu bytes, \"%s\"\n", number, result->status,
                tine_errname(result->status), result->delivery, result->length, result->message);
        storm->wrong++;
    }
    tine_free(storm->pool, record->heap_input);
    record->heap_input = NULL;
    tine_result_release(storm->pool, result);
    storm->settled++;
    count_settled(storm, 1);
}

static void submit_one(struct storm *storm)
{
    uint64_t random = random_next(&storm->random);
    uint32_t number = storm->submitted;
    struct record *record = &storm->records[number];
    struct job *job;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    /* In the slot, copied to the heap, or in the heap from the start. */
    size_t length = random % 3 == 0 ? random / 3 % 80 : random / 3 % 20000;
    int in_heap = random >> 40 & 1;
    job = (struct job *)(in_heap ? get_block(storm, sizeof *job + length) : malloc(sizeof *job + length));
    CHECK(job);
    job->number = number;
    job->work_us = 5 + (uint32_t)(random >> 20) % 496;
    job->kind = (random >> 44) % 16 == 0 ? (uint32_t)FAILING : (uint32_t)((random >> 44) % 3);
    job->length = (uint32_t)length;
    fill((unsigned char *)(job + 1), length, number + 1);
    job->sum = sum_bytes((const unsigned char *)(job + 1), length);
    job->tally = storm->tally;
    record->kind = job->kind;
    record->heap_input = in_heap ? job : NULL;
    options.user = (void *)(uintptr_t)number;
    storm->submitted++; /* Before the submit: its result is checked against this. */
    CHECK_RC(tine_submit(storm->pool, run_job, job, sizeof *job + length, &options, &record->id), 0);
    CHECK(record->id != 0);
    if (!in_heap) {
        memset(job, 0xee, sizeof *job + length); /* It was copied, so this must not matter. */
        free(job);
    }
    if ((random >> 52) % 40 == 0) {
        record->canceled = 1;
        int rc = tine_cancel(storm->pool, record->id);
        CHECK(rc == 0 || rc == -EALREADY);
        record->canceled = rc == 0;
    }
}

static void take_one(struct storm *storm)
{
    tine_result result = TINE_RESULT_INIT;
    uint64_t random = random_next(&storm->random);
    if (random % 4 == 0) {
        /* By its id, which may have settled already, or take longer than one wants to wait. */
        uint32_t number = (uint32_t)(random >> 8) % storm->submitted;
        int known = storm->records[number].settled;
        int rc = tine_wait(storm->pool, storm->records[number].id, (int64_t)(random >> 40) % 1000000, &result);
        if (known) {
            CHECK_RC(rc, TINE_EID);
        } else if (rc != -ETIMEDOUT && rc != -EAGAIN) {
            CHECK_RC(rc, 0);
            CHECK_EQ((uintptr_t)result.user, number);
            take_result(storm, &result);
        }
        return;
    }
    if (random % 4 == 1) {
        /* As an event loop does. */
        struct pollfd wait = {tine_pool_fd(storm->pool), POLLIN, 0};
        int64_t limit = clock_ns() + HANG_NS;
        CHECK(wait.fd > 2);
        while (tine_next(storm->pool, 0, &result) == -EAGAIN) {
            int ready = poll(&wait, 1, (int)(HANG_NS / 1000000));
            if (ready <= 0 || clock_ns() > limit) {
                fprintf(stderr, "the pool's descriptor is silent: poll %d, %u of %u settled\n", ready, storm->settled,
                        storm->submitted);
                exit(1);
            }
            CHECK(tine_pool_poll(storm->pool) >= 0);
        }
        CHECK(result.id != 0);
        take_result(storm, &result);
        return;
    }
    int rc = tine_next(storm->pool, HANG_NS, &result);
    if (rc != 0) {
        fprintf(stderr, "tine_next: %s with %u of %u settled\n", tine_errname(rc), storm->settled, storm->submitted);
        print_family(family_tag());
        exit(1);
    }
    take_result(storm, &result);
}

struct map_state {
    struct storm *storm;
    uint32_t *failures;
    size_t done;
};

static void map_failure(const tine_result *result, size_t item, void *user)
{
    struct map_state *state = (struct map_state *)user;
    state->failures[item]++;
    if (result->status == TINE_EDIED) {
        check_death(state->storm, result);
    } else {
        CHECK_EQ(result->status, -EDOM);
    }
}

static void map_progress(size_t done, size_t total, void *user)
{
    struct map_state *state = (struct map_state *)user;
    CHECK(done >= state->done && done <= total);
    count_settled(state->storm, (uint32_t)(done - state->done));
    state->done = done;
}

#define MAP_ITEMS 1000
#define MAPS_AFTERWARDS 30

static void map_some(struct storm *storm, uint32_t first, uint32_t count, uint64_t random)
{
    static uint32_t failures[MAP_ITEMS];
    static int status[MAP_ITEMS];
    int in_heap = random & 1, out_heap = random >> 1 & 1;
    struct map_state state = {storm, failures, 0};
    struct tally *tally = storm->tally + 1;
    size_t in_bytes = count * sizeof(struct job), out_bytes = count * sizeof(struct map_out);
    struct job *in = (struct job *)(in_heap ? get_block(storm, in_bytes) : malloc(in_bytes));
    struct map_out *out = (struct map_out *)(out_heap ? get_block(storm, out_bytes) : malloc(out_bytes));
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    uint32_t failed = 0;
    CHECK(in && out);
    memset(failures, 0, sizeof failures);
    memset(out, 0xaa, out_bytes);
    for (uint32_t i = 0; i < count; i++) {
        in[i].number = first + i;
        in[i].work_us = 5 + (uint32_t)(random >> 8) % 300 * (i % 3) / 2;
        in[i].kind = i % 29 == 7 ? FAILING : NOTHING_OUT;
        in[i].sum = random + i;
        in[i].tally = tally;
        status[i] = 12345;
    }
    options.chunk = random >> 20 & 7;
    options.status = status;
    options.on_failure = map_failure;
    options.progress = map_progress;
    options.user = &state;
    int rc = tine_map(storm->pool, run_item, in, sizeof *in, out, sizeof *out, count, &options);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t executions = tally->executions[first + i];
        if (status[i] == TINE_EDIED) {
            storm->map_died++;
            storm->wrong += executions > 1;
        } else if (in[i].kind == FAILING) {
            storm->wrong += status[i] != -EDOM || executions != 1;
        } else {
            storm->wrong += status[i] != (int)((first + i) % 10) || out[i].number != first + i
                || out[i].sum != random + i + 1 || executions != 1;
        }
        if (failures[i] != (status[i] < 0)) {
            storm->duplicates++;
        }
        failed += status[i] < 0;
    }
    CHECK_RC(rc, failed ? TINE_EITEMS : 0);
    CHECK_EQ(state.done, count);
    storm->map_settled += count;
    in_heap ? tine_free(storm->pool, in) : free(in);
    out_heap ? tine_free(storm->pool, out) : free(out);
}

static void *map_thread(void *argument)
{
    struct storm *storm = (struct storm *)argument;
    uint64_t random = storm->random ^ 0x5555555555555555u;
    for (uint32_t first = 0; first < storm->mapped;) {
        uint64_t number = random_next(&random);
        uint32_t count = 1 + (uint32_t)(number >> 30) % 200;
        count = count < storm->mapped - first ? count : storm->mapped - first;
        map_some(storm, first, count, number);
        first += count;
    }
    return NULL;
}

/* A family that is whole again: one supervisor, all workers, and they are its. */
static int is_whole(struct storm *storm, pid_t killer)
{
    struct process family[64];
    tine_stats stats = TINE_STATS_INIT;
    pid_t supervisor = 0;
    size_t workers = 0;
    CHECK_RC(tine_pool_stats(storm->pool, &stats), 0);
    int count = list_family(family_tag(), killer, family, 64);
    for (int i = 0; i < count; i++) {
        supervisor = strcmp(family[i].name, "tine-supervisor") == 0 ? family[i].pid : supervisor;
    }
    for (int i = 0; i < count; i++) {
        workers += strcmp(family[i].name, "tine-worker") == 0 && family[i].parent == supervisor;
    }
    return stats.workers_ready == storm->workers && workers == storm->workers && count == (int)workers + 1;
}

static struct tally *new_tally(struct storm *storm)
{
    uint32_t lengths[2] = {storm->tasks, storm->mapped + (1 + MAPS_AFTERWARDS) * MAP_ITEMS};
    struct tally *tallies = (struct tally *)get_block(storm, 2 * sizeof *tallies);
    for (int i = 0; i < 2; i++) {
        tallies[i].executions = (uint32_t *)get_block(storm, lengths[i] * sizeof(uint32_t));
        memset(tallies[i].executions, 0, lengths[i] * sizeof(uint32_t));
    }
    return tallies;
}

static void begin_pool(struct storm *storm)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    tine_faults faults = TINE_FAULTS_INIT;
    faults.seed = random_next(&storm->random) | 1;
    faults.kill_start = 20;
    faults.kill_call = 150;
    faults.kill_return = 150;
    faults.delay_call = 100;
    faults.delay_ns = 1000000;
    faults.fail_alloc = 100;
    options.workers = storm->workers;
    options.start = storm->start;
    options.faults = storm->has_faults ? &faults : NULL;
    options.error = &error;
    int rc = tine_pool_create(&options, &storm->pool);
    if (rc != 0) {
        fprintf(stderr, "tine_pool_create: %s, %s\n", tine_errname(rc), error.text);
        exit(1);
    }
}

static void check_executions(struct storm *storm)
{
    for (uint32_t i = 0; i < storm->tasks; i++) {
        const struct record *record = &storm->records[i];
        uint32_t executions = storm->tally->executions[i];
        uint32_t least = record->delivery == TINE_RAN, most = record->delivery != TINE_NOT_STARTED;
        if (record->settled != 1) {
            fprintf(stderr, "task %u has settled %u times\n", i, record->settled);
            storm->duplicates++;
        }
        if (executions < least || executions > most) {
            fprintf(stderr, "task %u: delivery %d, executed %u times\n", i, record->delivery, executions);
            storm->wrong++;
        }
    }
}

static int tell_pid(tine_task *task)
{
    (void)task;
    return (int)getpid();
}

/* One worker and nothing else to do: from a kill until its replacement has run a task. */
static void replace_in_calm(int start, int rounds)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    int64_t *took = (int64_t *)malloc((size_t)rounds * sizeof *took);
    pid_t last = 0;
    char title[64];
    options.workers = 1;
    options.start = start;
    CHECK(took);
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    for (int done = -1; done < rounds;) {
        tine_result result = TINE_RESULT_INIT;
        int64_t began = clock_ns();
        if (last != 0) {
            kill(last, SIGKILL);
        }
        do { /* The old one may still answer, or die of this very task. */
            tine_id id;
            tine_result_release(pool, &result);
            CHECK_RC(tine_submit(pool, tell_pid, NULL, 0, NULL, &id), 0);
            result.size = sizeof result;
            CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
            CHECK(result.status > 1 || result.status == TINE_EDIED);
        } while (result.status == last || result.status == TINE_EDIED);
        if (++done > 0) {
            took[done - 1] = clock_ns() - began;
        }
        last = result.status;
    }
    snprintf(title, sizeof title, "%-10s from kill to a new worker's answer", start_name(start));
    print_percentiles(title, took, (size_t)rounds);
    free(took);
    tine_pool_destroy(pool);
}

static void weather(struct storm *storm, uint32_t kills)
{
    struct killing *killing = storm->killing;
    pthread_t mapper;
    struct timespec limit;
    memset(killing, 0, sizeof *killing);
    killing->host = getpid();
    killing->seed = random_next(&storm->random);
    killing->wanted = kills;
    killing->tasks = storm->tasks + storm->mapped;
    pid_t killer = start_killer(killing);
    begin_pool(storm);
    storm->tally = new_tally(storm);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(storm->pool, &stats), 0);
    uint64_t allocated = stats.heap_allocated_bytes;
    __atomic_store_n(&killing->go, 1, __ATOMIC_RELEASE);
    int64_t began = clock_ns();

    CHECK_EQ(pthread_create(&mapper, NULL, map_thread, storm), 0);
    while (storm->settled < storm->tasks) {
        uint32_t most = 1 + (uint32_t)(random_next(&storm->random) % 300);
        while (storm->submitted < storm->tasks && storm->submitted - storm->settled < most) {
            submit_one(storm);
        }
        if (storm->submitted > storm->settled) {
            take_one(storm);
        }
    }
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 300;
    CHECK_EQ(pthread_timedjoin_np(mapper, NULL, &limit), 0);
    __atomic_store_n(&killing->stop, 1, __ATOMIC_RELEASE);
    CHECK_EQ(waitpid(killer, NULL, 0), killer);
    int64_t took = clock_ns() - began;

    uint32_t mapped = storm->map_settled;
    /* The last kill may still be under way, so this one may lose items, but nothing else. */
    map_some(storm, storm->mapped, MAP_ITEMS, 3u << 20);
    tine_result none = TINE_RESULT_INIT;
    CHECK_RC(tine_next(storm->pool, TINE_FOREVER, &none), TINE_EEMPTY);
    check_executions(storm);

    /* And afterwards all is well, but for the faults, which go on: each takes a worker, and that one item. */
    WAIT_UNTIL(is_whole(storm, 0));
    uint32_t died = storm->map_died;
    CHECK_RC(tine_pool_stats(storm->pool, &stats), 0);
    uint64_t deaths = stats.worker_deaths;
    for (uint32_t map = 0; map == 0 || (storm->has_faults && storm->map_died == died); map++) {
        CHECK(map < MAPS_AFTERWARDS);
        map_some(storm, storm->mapped + (1 + map) * MAP_ITEMS, MAP_ITEMS, 1u << 20);
    }
    CHECK_RC(tine_pool_stats(storm->pool, &stats), 0);
    if (storm->has_faults) {
        CHECK(storm->map_died - died <= stats.worker_deaths - deaths);
    } else {
        CHECK_EQ(storm->map_died, died);
    }
    CHECK(storm->died + storm->map_died <= stats.worker_deaths);
    CHECK_EQ(stats.outstanding, 0);
    /* Inputs, outputs and chunks are given back, those of the dead too. What dead workers' own code had allocated stays,
     * and freed blocks of a few sizes may still be counted. */
    CHECK(stats.heap_allocated_bytes <= allocated + (uint64_t)storm->died * 6000 + (2 << 20));
    CHECK_EQ(stats.submitted, storm->tasks);
    CHECK_EQ(stats.settled, storm->tasks);

    printf("%-10s %zu workers, %.1f s: tasks %u, mapped %u, settled %u + %u, duplicates %u, wrong %u, died %u + %u, "
           "canceled %u\n           %s, without output %u, without a block %u; kills %u, of them of supervisors %u; worker deaths %llu, supervisor deaths %llu; heap %.1f MiB\n",
           start_name(storm->start), storm->workers, (double)took / 1e9, storm->tasks, storm->mapped, storm->settled,
           mapped, storm->duplicates, storm->wrong, storm->died, storm->map_died,
           storm->canceled, storm->has_faults ? "with faults" : "without faults", storm->no_output, storm->no_block,
           killing->kills, killing->supervisors, (unsigned long long)stats.worker_deaths,
           (unsigned long long)stats.supervisor_deaths,
           (double)stats.heap_reserved_bytes / (1 << 20));
    size_t settles = storm->settle_count < storm->settle_room ? storm->settle_count : storm->settle_room;
    print_percentiles("           from kill to settled", storm->settle_ns, settles);
    CHECK_EQ(storm->duplicates, 0);
    CHECK_EQ(storm->wrong, 0);
    CHECK(killing->kills >= kills / 10); /* That it was a storm; how many there are is the scheduler's. */
    CHECK(killing->supervisors >= killing->kills / 20);
    CHECK(stats.supervisor_deaths > 0);
    tine_pool_destroy(storm->pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
}

int main(int argc, char **argv)
{
    static const size_t workers[] = {4, 2, 3};
    const char *mode = getenv("TINE_STORM");
    int is_long = mode && strcmp(mode, "long") == 0;
    uint32_t tasks = is_long ? 166667 : 1667, kills = is_long ? 1667 : 75;
    struct belongings before;
    tag_family(argv);
    tine_init(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t seed = random_seed();
    struct killing *killing = (struct killing *)mmap(NULL, sizeof *killing, PROT_READ | PROT_WRITE,
                                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(killing != MAP_FAILED);
    /* The first round is small, and warms up what the C library keeps: stacks of threads, arenas. */
    for (int round = -1; round < 6; round++) {
        struct storm storm;
        uint32_t count = round < 0 ? 500 : tasks;
        memset(&storm, 0, sizeof storm);
        storm.start = round < 0 ? TINE_START_FORKSERVER : all_starts[round / 2];
        storm.workers = round < 0 ? 1 : workers[round / 2];
        storm.has_faults = round % 2 != 0;
        storm.mapped = count / 4;
        storm.tasks = count - storm.mapped;
        storm.random = random_next(&seed);
        storm.killing = killing;
        storm.settle_room = KILL_ROOM * 4;
        storm.settle_ns = (int64_t *)malloc(storm.settle_room * sizeof(int64_t));
        storm.records = (struct record *)calloc(storm.tasks, sizeof *storm.records);
        CHECK(storm.records && storm.settle_ns);
        weather(&storm, round < 0 ? 40 : kills);
        free(storm.settle_ns);
        free(storm.records);
        if (round >= 0 && storm.has_faults) {
            replace_in_calm(storm.start, is_long ? 500 : 50);
        }
        if (round < 0) {
            before = take_stock();
        } else {
            check_stock(before);
        }
    }
    return 0;
}
