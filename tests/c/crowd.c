/* Pools of so many workers that each says by a mark that there is something in its ring: nothing is lost, and a worker that wipes the
 * marks away makes nobody wait for long. */
#include "family.h"
#include <poll.h>

#define MS ((int64_t)1000000)

enum { WORKERS = 40, TASKS = 2000 };

static int number_of(tine_task *task) { return *(const int *)tine_input(task, NULL); }

static int answers(tine_task *task) { return number_of(task); }

static int naps(tine_task *task)
{
    nap_ns(number_of(task) % 7 * MS);
    return number_of(task);
}

static int ends(tine_task *task)
{
    if (number_of(task) % 50 == 0) {
        raise(SIGKILL);
    }
    return number_of(task);
}

static int sleeps(tine_task *task)
{
    while (number_of(task) >= 0) {
        pause();
    }
    return 0;
}

static int stops(tine_task *task)
{
    (void)task;
    raise(SIGSTOP);
    return 0;
}

/* The marks lie somewhere in the last quarter of the heap's first page. */
static int wipes(tine_task *task)
{
    char line[512];
    unsigned long start = 0, end;
    const volatile int *over = *(int *const *)tine_input(task, NULL);
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && !start && fgets(line, sizeof line, maps)) {
        if (!strstr(line, "memfd:tine-heap") || sscanf(line, "%lx-%lx", &start, &end) != 2) {
            start = 0;
        }
    }
    if (!maps || !start) {
        return -EFAULT;
    }
    fclose(maps);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    while (!*over) {
        /* What people wait on stays as it is: its line comes first. */
        memset((char *)start + page - page / 4 + 64, 0, page / 4 - 64);
    }
    return 0;
}

static void submit(tine_pool *pool, tine_fn function, int number, int64_t deadline_ns)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.deadline_ns = deadline_ns;
    CHECK_EQ(tine_submit(pool, function, &number, sizeof number, &options, NULL), 0);
}

/* Every number comes back once, in one call or the other. */
static void everything_comes_back(tine_pool *pool, tine_fn function)
{
    static int seen[TASKS];
    tine_result result = TINE_RESULT_INIT;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < TASKS; i++) {
        submit(pool, function, i, 0);
    }
    for (int i = 0; i < TASKS; i++) {
        CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
        CHECK(result.status >= 0 && result.status < TASKS && !seen[result.status]++);
        tine_result_release(pool, &result);
    }
}

static void deaths_are_told(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    int died = 0;
    for (int i = 0; i < 500; i++) {
        submit(pool, ends, i, 0);
    }
    for (int i = 0; i < 500; i++) {
        CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
        died += result.status == TINE_EDIED;
        tine_result_release(pool, &result);
    }
    CHECK_EQ(died, 10);
}

/* In every worker one; those that are stopped do not even notice the signals. */
static void deadlines_are_kept(tine_pool *pool)
{
    tine_result result = TINE_RESULT_INIT;
    for (int i = 0; i < 2 * WORKERS; i++) {
        submit(pool, i % 8 ? sleeps : stops, i, 30 * MS);
    }
    for (int i = 0; i < 2 * WORKERS; i++) {
        CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
        CHECK_RC(result.status, -ETIMEDOUT);
        tine_result_release(pool, &result);
    }
}

/* The descriptor becomes readable for each result. */
static void an_event_loop_hears_of_all(tine_pool *pool)
{
    struct pollfd fd = {tine_pool_fd(pool), POLLIN, 0};
    tine_result result = TINE_RESULT_INIT;
    int64_t last = clock_ns(), spent = 0;
    for (int i = 0; i < TASKS; i++) {
        submit(pool, naps, i, 0);
    }
    for (int taken = 0; taken < TASKS;) {
        CHECK(poll(&fd, 1, 1000) >= 0);
        while (tine_next(pool, 0, &result) == 0) {
            tine_result_release(pool, &result);
            taken++;
        }
        CHECK(!is_over(HANG_NS, &last, &spent));
    }
}

static void a_wiper_of_marks_holds_nobody_up(tine_pool *pool)
{
    int *over = (int *)tine_calloc(pool, 1, sizeof *over);
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK(over);
    CHECK_EQ(tine_submit(pool, wipes, &over, sizeof over, NULL, &id), 0);
    for (int i = 0; i < 200; i++) {
        submit(pool, answers, i, 0);
    }
    for (int i = 0; i < 200; i++) {
        CHECK_EQ(tine_next(pool, HANG_NS, &result), 0);
        CHECK(result.status >= 0);
        tine_result_release(pool, &result);
    }
    __atomic_store_n(over, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, 0);
    tine_result_release(pool, &result);
    tine_free(pool, over);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    tine_init(argc, argv);
    tine_pool *pool = create_hasty_pool(TINE_START_FORKSERVER, WORKERS, 0);
    everything_comes_back(pool, answers);
    everything_comes_back(pool, naps);
    deaths_are_told(pool);
    deadlines_are_kept(pool);
    a_wiper_of_marks_holds_nobody_up(pool);
    everything_comes_back(pool, answers);
    an_event_loop_hears_of_all(pool);
    everything_comes_back(pool, naps);
    tine_pool_destroy(pool);
    return 0;
}
