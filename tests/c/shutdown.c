/* A pool is shut down in every state that it can be in: the call returns when its time is up, a second one is harmless,
 * results can still be taken, and to destroy it ends everything. */
#include "family.h"
#include <pthread.h>

#define MS ((int64_t)1000000)

enum { SHUTDOWN_NS = 50 * 1000000 };

/* A pool, a word in its heap that tasks count up, and who is in it. */
struct scene {
    tine_pool *pool;
    int *words;
    pid_t workers[2], supervisor;
    tine_stream *stream;
    pthread_t thread;
    int told;
};

/* The worker's and the supervisor's number; one task for each worker at a time. */
static int who(tine_task *task)
{
    int *words = *(int *const *)tine_input(task, NULL);
    pid_t *out = (pid_t *)tine_output(task, 2 * sizeof *out);
    CHECK(out);
    out[0] = getpid();
    out[1] = getppid();
    __atomic_add_fetch(words, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(words, __ATOMIC_SEQ_CST) < 2) {
        nap_ns(20000);
    }
    return 0;
}

static int for_ever(tine_task *task)
{
    int *words = *(int *const *)tine_input(task, NULL);
    signal(SIGTERM, SIG_IGN);
    __atomic_add_fetch(words + 1, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 1000000; i++) {
        nap_ns(MS);
    }
    return 1;
}

static int quick(tine_task *task)
{
    (void)task;
    return 7;
}

static int dies(tine_task *task)
{
    (void)task;
    return raise(SIGKILL);
}

static void submit(struct scene *scene, tine_fn fn, int count, int64_t deadline_ns)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.deadline_ns = deadline_ns;
    for (int i = 0; i < count; i++) {
        CHECK_RC(tine_submit(scene->pool, fn, &scene->words, sizeof scene->words, &options, NULL), 0);
    }
}

static void await_begun(struct scene *scene, int count)
{
    WAIT_UNTIL(tine_pool_poll(scene->pool) >= 0 && __atomic_load_n(scene->words + 1, __ATOMIC_SEQ_CST) >= count);
}

/* ---- The states ---- */

static void idle(struct scene *scene)
{
    (void)scene;
}

static void full(struct scene *scene)
{
    submit(scene, quick, 3000, 0);
}

static void busy(struct scene *scene)
{
    submit(scene, for_ever, 2, 0);
    submit(scene, quick, 10, 0);
    await_begun(scene, 2);
}

static void about_to_begin(struct scene *scene)
{
    submit(scene, for_ever, 3, 0);
}

static void in_its_grace(struct scene *scene)
{
    submit(scene, for_ever, 2, MS);
    await_begun(scene, 2);
    nap_ns(5 * MS);
    CHECK(tine_pool_poll(scene->pool) >= 0);
}

static void dying(struct scene *scene)
{
    for (int i = 0; i < 5; i++) {
        submit(scene, dies, 1, 0);
        submit(scene, quick, 20, 0);
    }
}

static void just_killed(struct scene *scene)
{
    submit(scene, quick, 100, 0);
    kill(scene->workers[0], SIGKILL);
    kill(scene->workers[1], SIGKILL);
}

static void without_supervisor(struct scene *scene)
{
    submit(scene, quick, 100, 0);
    kill(scene->supervisor, SIGKILL);
}

static void all_killed(struct scene *scene)
{
    kill(scene->supervisor, SIGKILL);
    just_killed(scene);
}

static void supervisor_stopped(struct scene *scene)
{
    kill(scene->supervisor, SIGSTOP);
}

static void supervisor_stopped_and_dying(struct scene *scene)
{
    submit(scene, dies, 2, 0);
    kill(scene->supervisor, SIGSTOP);
}

static void workers_stopped(struct scene *scene)
{
    kill(scene->workers[0], SIGSTOP);
    kill(scene->workers[1], SIGSTOP);
}

static void stopped_at_work(struct scene *scene)
{
    busy(scene);
    workers_stopped(scene);
}

static void all_stopped(struct scene *scene)
{
    stopped_at_work(scene);
    supervisor_stopped(scene);
}

static void streaming(struct scene *scene)
{
    CHECK_RC(tine_stream_create(scene->pool, quick, NULL, &scene->stream), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_RC(tine_stream_put(scene->stream, NULL, 0, NULL, HANG_NS), 0);
    }
}

static void on_settled(const tine_result *result, void *user)
{
    (void)result;
    __atomic_add_fetch(&((struct scene *)user)->told, 1, __ATOMIC_SEQ_CST);
}

static void untold(struct scene *scene)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.on_settled = on_settled;
    options.user = scene;
    for (int i = 0; i < 100; i++) {
        CHECK_RC(tine_submit(scene->pool, quick, NULL, 0, &options, NULL), 0);
    }
}

static void *shut_down_too(void *user)
{
    int rc = tine_pool_shutdown((tine_pool *)user, 4 * SHUTDOWN_NS);
    CHECK(rc == 0 || rc == -ETIMEDOUT);
    return NULL;
}

static void by_two(struct scene *scene)
{
    full(scene);
    CHECK_EQ(pthread_create(&scene->thread, NULL, shut_down_too, scene->pool), 0);
}

static void busy_by_two(struct scene *scene)
{
    busy(scene);
    CHECK_EQ(pthread_create(&scene->thread, NULL, shut_down_too, scene->pool), 0);
}

/* What a shutdown of SHUTDOWN_NS can come to: 0, that its time is up, or either. */
enum { ENDS, TAKES_TOO_LONG, MAY_END };

static const struct state {
    const char *name;
    void (*enter)(struct scene *scene);
    int expected;
} states[] = {
    {"idle", idle, ENDS},
    {"full", full, MAY_END},
    {"busy", busy, TAKES_TOO_LONG},
    {"about to begin", about_to_begin, TAKES_TOO_LONG},
    {"in its grace", in_its_grace, MAY_END},
    {"dying", dying, MAY_END},
    {"just killed", just_killed, MAY_END},
    {"without supervisor", without_supervisor, MAY_END},
    {"all killed", all_killed, MAY_END},
    {"supervisor stopped", supervisor_stopped, ENDS},
    {"supervisor stopped, workers dying", supervisor_stopped_and_dying, MAY_END},
    {"workers stopped", workers_stopped, ENDS},
    {"stopped at work", stopped_at_work, TAKES_TOO_LONG},
    {"all stopped", all_stopped, TAKES_TOO_LONG},
    {"streaming", streaming, MAY_END},
    {"untold", untold, MAY_END},
    {"by two", by_two, MAY_END},
    {"busy, by two", busy_by_two, TAKES_TOO_LONG},
};

enum { STATES = sizeof states / sizeof states[0] };

static int64_t late_ns[(STATES * 4 + 1) * 2];
static size_t calls;

/* How long a call took beyond its time. */
static int shut_down(tine_pool *pool, int64_t timeout_ns)
{
    int64_t began = clock_ns();
    int rc = tine_pool_shutdown(pool, timeout_ns);
    int64_t late = clock_ns() - began - timeout_ns;
    CHECK(rc == 0 || rc == -ETIMEDOUT);
    CHECK(late < HANG_NS);
    late_ns[calls++] = late > 0 ? late : 0;
    return rc;
}

static void look(const struct state *state, int start, uint32_t flags)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    static struct scene scene;
    memset(&scene, 0, sizeof scene);
    options.workers = 2;
    options.start = start;
    options.flags = flags;
    CHECK_RC(tine_pool_create(&options, &scene.pool), 0);
    scene.words = (int *)tine_calloc(scene.pool, 2, sizeof *scene.words);
    CHECK(scene.words);
    submit(&scene, who, 2, 0);
    for (int i = 0; i < 2; i++) {
        CHECK_RC(tine_next(scene.pool, HANG_NS, &result), 0);
        CHECK_EQ(result.length, 2 * sizeof(pid_t));
        scene.workers[i] = ((const pid_t *)result.data)[0];
        scene.supervisor = ((const pid_t *)result.data)[1];
        tine_result_release(scene.pool, &result);
    }
    state->enter(&scene);
    int rc = shut_down(scene.pool, SHUTDOWN_NS);
    if ((state->expected == ENDS && rc != 0) || (state->expected == TAKES_TOO_LONG && rc != -ETIMEDOUT)) {
        fprintf(stderr, "%s, %s: %s\n", state->name, start_name(start), tine_errname(rc));
        exit(1);
    }
    CHECK_RC(tine_submit(scene.pool, quick, NULL, 0, NULL, NULL), TINE_ESHUTDOWN);
    int again = shut_down(scene.pool, SHUTDOWN_NS / 10);
    CHECK(rc != 0 || again == 0);
    while (tine_next(scene.pool, 0, &result) == 0) {
        CHECK(result.status == 7 || result.status == TINE_EDIED || result.status == -ETIMEDOUT);
        tine_result_release(scene.pool, &result);
    }
    if (scene.thread) {
        CHECK_EQ(pthread_join(scene.thread, NULL), 0);
    }
    tine_stream_destroy(scene.stream);
    int64_t began = clock_ns();
    tine_pool_destroy(scene.pool);
    CHECK(clock_ns() - began < HANG_NS);
    CHECK(state->enter != untold || scene.told == 100);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    look(&states[STATES - 1], TINE_START_FORKSERVER, 0); /* what threads leave with the allocator */
    struct belongings before = take_stock();
    for (int way = 0; way < 4; way++) {
        for (int i = 0; i < STATES; i++) {
            if (argc < 2 || strcmp(argv[1], states[i].name) == 0) {
                look(&states[i], way < 3 ? all_starts[way] : TINE_START_FORKSERVER, way < 3 ? 0 : (uint32_t)TINE_NO_THREAD);
            }
        }
    }
    print_percentiles("shutdown returned, after its time was up by", late_ns, calls);
    check_stock(before);
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}
