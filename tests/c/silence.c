/* The kill storm with a host that is silent: it submits, and then makes no call for a second at a time, while a second process kills a
 * random process of the pool's family every few milliseconds, supervisors included. What was submitted settles meanwhile: when the
 * host asks, every result is there, once, right or with a death, and what is said not to have started has not run.
 *
 * limit: 300
 *
 * TINE_STORM=long: 1,000,000 tasks in 250 silences, some 10,000 kills. */
#include "family.h"

enum { TASKS = 4000, LONG_ROUNDS = 250, WORKERS = 4 };

#define SILENCE_NS INT64_C(1000000000)

/* Shared with the killer. */
struct killing {
    pid_t host;
    uint64_t seed;
    uint32_t kills, supervisors;
    int go, stop;
};

static int run(tine_task *task)
{
    uint32_t *const *executions = (uint32_t *const *)tine_input(task, NULL);
    int64_t began = clock_ns();
    __atomic_fetch_add(*executions, 1, __ATOMIC_SEQ_CST);
    while (clock_ns() - began < 20000) {
    }
    return 7;
}

static void kill_one(struct killing *killing, uint64_t *random)
{
    struct process family[64];
    int count;
    const struct process *victim = pick_victim(killing->host, random, family, 64, &count);
    if (victim && kill(victim->pid, SIGKILL) == 0) {
        killing->kills++;
        killing->supervisors += strcmp(victim->name, "tine-supervisor") == 0;
    }
}

static pid_t start_killer(struct killing *killing)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid != 0) {
        return pid;
    }
    uint64_t random = killing->seed;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == killing->host && !__atomic_load_n(&killing->stop, __ATOMIC_ACQUIRE)) {
        nap_ns(2000000 + (int64_t)(random_next(&random) % 40000000));
        if (__atomic_load_n(&killing->go, __ATOMIC_ACQUIRE)) {
            kill_one(killing, &random);
        }
    }
    _exit(0);
}

/* Whether more have run than the rings can have held when the host fell silent. Looked at in memory: no call of tine's. */
static int most_have_run(const uint32_t *executions, int tasks)
{
    int run_count = 0;
    for (int task = 0; task < tasks; task++) {
        run_count += __atomic_load_n(&executions[task], __ATOMIC_SEQ_CST) > 0;
    }
    return run_count > tasks / 2;
}

/* One silence. Returns how many results were there when it ended. */
static int be_silent(tine_pool *pool, uint32_t *executions, int tasks, int *died)
{
    static tine_id ids[TASKS];
    static int settled[TASKS];
    tine_result result = TINE_RESULT_INIT;
    int there = 0, taken = 0;
    memset(executions, 0, (size_t)tasks * sizeof *executions);
    memset(settled, 0, sizeof settled);
    for (int task = 0; task < tasks; task++) {
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        uint32_t *own = &executions[task];
        options.user = (void *)(uintptr_t)task;
        CHECK_RC(tine_submit(pool, run, &own, sizeof own, &options, &ids[task]), 0);
    }
    nap_ns(SILENCE_NS);
    WAIT_UNTIL(most_have_run(executions, tasks));
    for (; taken < tasks; taken++) {
        int rc = tine_next(pool, 0, &result);
        there += rc == 0 && there == taken;
        if (rc != 0) {
            CHECK_RC(rc, -EAGAIN);
            CHECK_RC(tine_next(pool, HANG_NS, &result), 0);
        }
        int task = (int)(uintptr_t)result.user;
        CHECK(task >= 0 && task < tasks);
        CHECK_EQ(result.id, ids[task]);
        CHECK_EQ(settled[task]++, 0);
        if (result.status == TINE_EDIED) {
            CHECK(result.delivery == TINE_MAYBE_RAN && result.death && result.death->signal == SIGKILL);
            CHECK(executions[task] <= 1);
            ++*died;
        } else {
            CHECK_EQ(result.status, 7);
            CHECK_EQ(executions[task], 1);
        }
        tine_result_release(pool, &result);
    }
    CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
    return there;
}

int main(int argc, char **argv)
{
    const char *mode = getenv("TINE_STORM");
    int is_long = mode && strcmp(mode, "long") == 0;
    int rounds = is_long ? LONG_ROUNDS : 1, there = 0, died = 0;
    tag_family(argv);
    tine_init(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t seed = random_seed();
    struct killing *killing =
        (struct killing *)mmap(NULL, sizeof *killing, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(killing != MAP_FAILED);
    killing->host = getpid();
    killing->seed = random_next(&seed);
    pid_t killer = start_killer(killing); /* before the pool, so that it has nothing of it */

    tine_pool *pool;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = WORKERS;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    uint32_t *executions = (uint32_t *)tine_alloc(pool, TASKS * sizeof *executions);
    CHECK(executions);
    __atomic_store_n(&killing->go, 1, __ATOMIC_RELEASE);
    for (int round = 0; round < rounds; round++) {
        there += be_silent(pool, executions, TASKS, &died);
    }
    __atomic_store_n(&killing->stop, 1, __ATOMIC_RELEASE);
    CHECK_EQ(waitpid(killer, NULL, 0), killer);
    printf("%d silences of a second: %d tasks, all settled once, %d of them when the host asked first; %d died; %u kills, "
           "of them of supervisors %u\n",
           rounds, rounds * TASKS, there, died, killing->kills, killing->supervisors);
    CHECK(killing->kills > 0);
    CHECK(killing->supervisors >= killing->kills / 20);
    tine_pool_destroy(pool);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}
