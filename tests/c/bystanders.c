/* Whoever waits, leaves, is in a callback or is stopped keeps nobody else from what is his; and what begins while nobody looks at
 * the clock is looked after all the same. */
#include "family.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define SECOND_NS ((int64_t)1000000000)

static int load(const int *word)
{
    return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static int nap_ms(tine_task *task)
{
    nap_ns(*(const int *)tine_input(task, NULL) * (int64_t)1000000);
    return 0;
}

static int give_pid(tine_task *task)
{
    *(pid_t *)tine_output(task, sizeof(pid_t)) = getpid();
    return 0;
}

/* It is deaf to SIGTERM, and has said so. */
static int stay(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    signal(SIGTERM, SIG_IGN);
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
    while (!load(word + 1)) {
        nap_ns(SECOND_NS);
    }
    return 0;
}

/* The same, at once. */
static int stay_until_told(tine_task *task)
{
    int *word = *(int *const *)tine_input(task, NULL);
    __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
    WAIT_UNTIL(load(word + 1));
    return 0;
}

static int close_all(tine_task *task)
{
    (void)task;
    for (int fd = 3; fd < 256; fd++) {
        close(fd);
    }
    return 0;
}

static int linger(tine_task *task)
{
    (void)task;
    nap_ns(SECOND_NS * 9 / 10);
    return 0;
}

static tine_pool *create(size_t workers, uint32_t flags)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    options.workers = workers;
    options.flags = flags;
    options.grace_ns = SECOND_NS / 10;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    return pool;
}

static pid_t supervisor_of(tine_pool *pool)
{
    struct process worker;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_submit(pool, give_pid, NULL, 0, NULL, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK(look_at(*(const pid_t *)result.data, &worker));
    tine_result_release(pool, &result);
    return worker.parent;
}

static void count(const tine_result *result, void *user)
{
    (void)result;
    __atomic_add_fetch((int *)user, 1, __ATOMIC_SEQ_CST);
}

static pthread_t thread(void *(*run)(void *), void *argument)
{
    pthread_t new_thread;
    CHECK_EQ(pthread_create(&new_thread, NULL, run, argument), 0);
    return new_thread;
}

/* The number of the calling thread, for others to see when it sleeps. */
static void say_who(int *tid)
{
    __atomic_store_n(tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
}

static int sleeps(const int *tid)
{
    char path[64], text[300];
    const char *name_end = NULL;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", load(tid));
    if (load(tid) && read_file(path, text, sizeof text) > 0) {
        name_end = strrchr(text, ')');
    }
    return name_end && name_end[1] == ' ' && name_end[2] == 'S';
}

/* The first task of a quiet pool takes away its worker's means to call; the event loop has nothing else to go by but the clock. */
static void the_first_task_sets_the_clock(void)
{
    tine_pool *pool = create(2, TINE_NO_THREAD);
    struct epoll_event event;
    int set = epoll_create1(EPOLL_CLOEXEC), ready = 0;
    tine_id id;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN;
    CHECK(set >= 0);
    CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, tine_pool_fd(pool), &event), 0);
    CHECK_EQ(tine_pool_poll(pool), 0);
    CHECK_RC(tine_submit(pool, close_all, NULL, 0, NULL, &id), 0);
    while (ready == 0) {
        CHECK_EQ(epoll_wait(set, &event, 1, (int)(HANG_NS / 1000000)), 1);
        ready = tine_pool_poll(pool);
    }
    CHECK_EQ(ready, 1);
    close(set);
    tine_pool_destroy(pool);
}

struct reader {
    tine_stream *stream;
    int rc, tid;
};

static void *read_stream(void *argument)
{
    struct reader *reader = (struct reader *)argument;
    tine_result result = TINE_RESULT_INIT;
    say_who(&reader->tid);
    reader->rc = tine_stream_next(reader->stream, TINE_FOREVER, &result);
    return NULL;
}

/* Somebody sleeps until a far time at which an idle worker is one too many, the host's thread or tine's. A task that begins meanwhile
 * is looked after: the supervisor is killed with it, and nobody is left to tell. */
static void what_begins_beside_a_far_deadline_is_looked_after(int host_waits)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_stream_options of_stream = TINE_STREAM_OPTIONS_INIT;
    struct reader reader = {NULL, 1, 0};
    tine_pool *pool = NULL;
    pthread_t waiting = pthread_self();
    int settled = 0, nap = 100, *word;
    tine_id id;
    options.workers = 4;
    options.min_workers = 1;
    options.idle_timeout_ns = 1000 * SECOND_NS;
    submit.on_settled = count;
    submit.user = &settled;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    for (int i = 0; i < 4; i++) { /* One of these workers is one too many, later. */
        CHECK_RC(tine_submit(pool, nap_ms, &nap, sizeof nap, &submit, &id), 0);
    }
    WAIT_UNTIL(load(&settled) == 4);
    pid_t supervisor = supervisor_of(pool);
    word = (int *)tine_alloc(pool, 2 * sizeof *word);
    CHECK(word);
    word[0] = word[1] = 0;
    if (host_waits) {
        CHECK_RC(tine_stream_create(pool, nap_ms, &of_stream, &reader.stream), 0);
        waiting = thread(read_stream, &reader);
    }
    nap_ns(SECOND_NS / 4); /* Until everybody has lain down. */
    CHECK_RC(tine_submit(pool, stay, &word, sizeof word, &submit, &id), 0);
    WAIT_UNTIL(load(word));
    CHECK_EQ(kill(supervisor, SIGKILL), 0);
    WAIT_UNTIL(load(&settled) == 5);
    if (host_waits) {
        CHECK_RC(tine_stream_end(reader.stream), 0);
        CHECK_EQ(pthread_join(waiting, NULL), 0);
        CHECK_RC(reader.rc, TINE_EEMPTY);
        tine_stream_destroy(reader.stream);
    }
    tine_pool_destroy(pool);
}

struct submitter {
    tine_pool *pool;
    size_t length;
    int64_t timeout_ns;
    int done, tid;
};

static void *submit_when_there_is_room(void *argument)
{
    struct submitter *submitter = (struct submitter *)argument;
    static const char bytes[100] = {0};
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id;
    options.timeout_ns = submitter->timeout_ns;
    say_who(&submitter->tid);
    int rc = tine_submit(submitter->pool, give_pid, bytes, submitter->length, &options, &id);
    __atomic_store_n(&submitter->done, rc ? rc : 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* The first in the queue wants more room than there is, and gives up; the one behind wants less than there is by then. */
static void who_gives_up_makes_way(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_stream_options of_stream = TINE_STREAM_OPTIONS_INIT;
    struct reader reader = {NULL, 1, 0};
    tine_result result = TINE_RESULT_INIT;
    tine_pool *pool = NULL;
    static const char bytes[100] = {0};
    tine_id ids[2];
    options.workers = 1;
    options.window_bytes = 100;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    struct submitter wants_much = {pool, 80, SECOND_NS / 2, 0, 0}, wants_little = {pool, 10, TINE_FOREVER, 0, 0};
    CHECK_RC(tine_submit(pool, give_pid, bytes, 50, NULL, &ids[0]), 0);
    CHECK_RC(tine_submit(pool, give_pid, bytes, 45, NULL, &ids[1]), 0);
    CHECK_RC(tine_wait_all(pool, NULL, 0, HANG_NS), 0);
    CHECK_RC(tine_stream_create(pool, nap_ms, &of_stream, &reader.stream), 0);
    pthread_t threads[3];
    threads[0] = thread(read_stream, &reader); /* It leads, with no reason to look. */
    WAIT_UNTIL(sleeps(&reader.tid));
    threads[1] = thread(submit_when_there_is_room, &wants_much);
    WAIT_UNTIL(sleeps(&wants_much.tid));
    threads[2] = thread(submit_when_there_is_room, &wants_little);
    WAIT_UNTIL(sleeps(&wants_little.tid));
    CHECK_RC(tine_wait(pool, ids[1], 0, &result), 0);
    tine_result_release(pool, &result);
    CHECK_EQ(pthread_join(threads[1], NULL), 0);
    CHECK_RC(wants_much.done, -ETIMEDOUT);
    WAIT_UNTIL(load(&wants_little.done));
    CHECK_EQ(wants_little.done, 1);
    CHECK_EQ(pthread_join(threads[2], NULL), 0);
    CHECK_RC(tine_stream_end(reader.stream), 0);
    CHECK_EQ(pthread_join(threads[0], NULL), 0);
    tine_stream_destroy(reader.stream);
    tine_pool_destroy(pool);
}

enum what { SHUTDOWN, WAIT_ALL, DESTROY };

struct other {
    tine_pool *pool;
    enum what what;
    int told, rc, done;
};

static void end_other(const tine_result *result, void *user)
{
    struct other *other = (struct other *)user;
    (void)result;
    switch (other->what) {
    case SHUTDOWN:
        other->rc = tine_pool_shutdown(other->pool, TINE_FOREVER);
        break;
    case WAIT_ALL:
        other->rc = tine_wait_all(other->pool, NULL, 0, TINE_FOREVER);
        break;
    case DESTROY:
        tine_pool_destroy(other->pool);
        other->rc = load(&other->told) == 3 ? 0 : -EDOM; /* Before it returns. */
        break;
    }
    __atomic_store_n(&other->done, 1, __ATOMIC_SEQ_CST);
}

/* A callback waits for the end of another pool, whose callbacks only the same thread could call. */
static void a_callback_ends_another_pool(enum what what, uint32_t flags)
{
    tine_pool *pool = create(1, flags);
    struct other other = {create(1, flags), what, 0, 0, 0};
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_id id;
    int nap = 20;
    submit.on_settled = count;
    submit.user = &other.told;
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tine_submit(other.pool, nap_ms, &nap, sizeof nap, &submit, &id), 0);
    }
    submit.on_settled = end_other;
    submit.user = &other;
    CHECK_RC(tine_submit(pool, give_pid, NULL, 0, &submit, &id), 0);
    WAIT_UNTIL((flags == 0 || tine_pool_poll(pool) >= 0) && load(&other.done));
    CHECK_RC(other.rc, 0);
    if (what != DESTROY) {
        tine_pool_destroy(other.pool);
    }
    CHECK_EQ(load(&other.told), 3);
    tine_pool_destroy(pool);
}

/* Who reaps is stopped: what is cancelled, late or killed settles all the same. */
static void a_stopped_supervisor_holds_up_nothing(int how)
{
    tine_pool *pool = create(2, 0);
    pid_t supervisor = supervisor_of(pool);
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    int *word = (int *)tine_alloc(pool, 2 * sizeof *word);
    tine_id id;
    CHECK(word);
    word[0] = word[1] = 0;
    submit.deadline_ns = how == 0 ? SECOND_NS / 5 : 0;
    CHECK_RC(tine_submit(pool, stay, &word, sizeof word, &submit, &id), 0);
    WAIT_UNTIL(load(word));
    CHECK_EQ(kill(supervisor, SIGSTOP), 0);
    if (how == 1) {
        CHECK_RC(tine_cancel(pool, id), 0);
    }
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_RC(result.status, how == 0 ? -ETIMEDOUT : -ECANCELED);
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
}

struct source {
    int drawn, inside, go_on;
    int *told; /* in the heap: the tasks may fail */
};

/* A failure before the third draw would be the last draw's end. */
static int fail_when_told(tine_task *task)
{
    int *const *told = (int *const *)tine_input(task, NULL);
    WAIT_UNTIL(load(*told));
    return tine_fail(task, -EIO, "told to");
}

static int draw(void *user, const void **input, size_t *length, void **item)
{
    struct source *source = (struct source *)user;
    (void)item;
    if (source->drawn < 2) {
        source->drawn++;
        *input = &source->told;
        *length = sizeof source->told;
        return 1;
    }
    __atomic_store_n(&source->inside, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(source->told, 1, __ATOMIC_SEQ_CST);
    WAIT_UNTIL(load(&source->go_on));
    return 0;
}

/* One thread is in .pull for as long as the user likes; another, which does not wait, gets its answer. */
static void who_draws_holds_up_nobody(void)
{
    tine_pool *pool = create(2, 0);
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    struct source source = {0, 0, 0, (int *)tine_alloc(pool, sizeof(int))};
    struct reader reader = {NULL, 1, 0};
    tine_result result = TINE_RESULT_INIT;
    int taken = 0, rc = 0;
    CHECK(source.told);
    *source.told = 0;
    options.pull = draw;
    options.user = &source;
    options.flags = TINE_STOP_ON_FAILURE;
    CHECK_RC(tine_stream_create(pool, fail_when_told, &options, &reader.stream), 0);
    pthread_t drawing = thread(read_stream, &reader);
    WAIT_UNTIL(load(&source.inside));
    WAIT_UNTIL((rc = tine_stream_next(reader.stream, 0, &result)) != -EAGAIN);
    while (rc == 0) {
        taken++;
        tine_result_release(pool, &result);
        WAIT_UNTIL((rc = tine_stream_next(reader.stream, 0, &result)) != -EAGAIN);
    }
    CHECK_RC(rc, TINE_EEMPTY);
    CHECK_EQ(taken, 2);
    __atomic_store_n(&source.go_on, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(drawing, NULL), 0);
    CHECK_RC(reader.rc, TINE_EEMPTY);
    tine_stream_destroy(reader.stream);
    tine_pool_destroy(pool);
}

static void *shut_down_for_as_long(void *argument)
{
    struct submitter *shutting = (struct submitter *)argument;
    say_who(&shutting->tid);
    int rc = tine_pool_shutdown(shutting->pool, shutting->timeout_ns);
    __atomic_store_n(&shutting->done, rc ? rc : 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Two shut down; the one with less time has used most of it up when the other begins to end the workers, which takes longer than what is
 * left of it and less than the whole. Its time is not begun anew. */
static void a_second_shutdown_keeps_its_own_time(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool = NULL;
    tine_id id;
    options.workers = 1;
    options.finalizer = linger;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    int *word = (int *)tine_alloc(pool, 2 * sizeof *word);
    CHECK(word);
    word[0] = word[1] = 0;
    CHECK_RC(tine_submit(pool, stay_until_told, &word, sizeof word, NULL, &id), 0);
    WAIT_UNTIL(load(word));
    struct submitter patient = {pool, 0, HANG_NS, 0, 0}, hasty = {pool, 0, SECOND_NS * 3 / 2, 0, 0};
    pthread_t threads[2];
    threads[0] = thread(shut_down_for_as_long, &patient);
    WAIT_UNTIL(sleeps(&patient.tid));
    threads[1] = thread(shut_down_for_as_long, &hasty);
    nap_ns(SECOND_NS * 14 / 10);
    __atomic_store_n(word + 1, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(threads[1], NULL), 0);
    CHECK_RC(hasty.done, -ETIMEDOUT);
    CHECK_EQ(pthread_join(threads[0], NULL), 0);
    CHECK_RC(patient.done, 1);
    tine_pool_destroy(pool);
}

struct calls {
    int rc, done;
    tine_pool *pool;
    tine_id id;
};

static int is_taken(tine_pool *pool, tine_id id)
{
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_wait(pool, id, HANG_NS, &result);
    tine_result_release(pool, &result);
    return rc;
}

static int one_more(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in + 1;
    return 0;
}

/* Each call makes system calls that would be cancellation points. */
static int make_calls(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_channel *ends[2] = {NULL, NULL};
    tine_process *process = NULL;
    tine_segment *segment = NULL;
    tine_queue *queue = NULL;
    tine_pool *pool = NULL;
    int in[4] = {1, 2, 3, 4}, out[4], nap = 1, rc = 0;
    size_t length = 0;
    tine_id id;
    options.workers = 1;
    options.flags = TINE_NO_THREAD;
    rc = rc ? rc : tine_pool_create(&options, &pool);
    CHECK(tine_pool_fd(pool) >= 0);
    rc = rc ? rc : tine_submit(pool, nap_ms, &nap, sizeof nap, NULL, &id);
    rc = rc ? rc : is_taken(pool, id);
    rc = rc ? rc : tine_submit(pool, close_all, NULL, 0, NULL, &id);
    rc = rc ? rc : is_taken(pool, id);
    rc = rc ? rc : tine_map(pool, one_more, in, sizeof *in, out, sizeof *out, 4, NULL);
    rc = rc ? rc : tine_pool_poll(pool);
    rc = rc ? rc : tine_queue_create(pool, NULL, &queue);
    rc = rc ? rc : tine_queue_put(queue, "x", 1, HANG_NS);
    rc = rc ? rc : tine_queue_get(queue, HANG_NS, in, sizeof in, &length);
    tine_free(pool, tine_alloc(pool, 32 << 20));
    rc = rc ? rc : tine_process_start(NULL, give_pid, NULL, 0, &process);
    rc = rc ? rc : tine_process_wait(process, HANG_NS, NULL);
    tine_process_close(process);
    rc = rc ? rc : tine_channel_create(NULL, &ends[0], &ends[1]);
    rc = rc ? rc : tine_channel_send(ends[0], "x", 1, HANG_NS);
    rc = rc ? rc : tine_channel_receive(ends[1], HANG_NS, in, sizeof in, &length);
    tine_channel_close(ends[0]);
    tine_channel_close(ends[1]);
    rc = rc ? rc : tine_segment_create(1 << 20, NULL, &segment);
    rc = rc ? rc : tine_pool_share(pool, segment, HANG_NS);
    rc = rc ? rc : tine_segment_close(segment);
    rc = rc ? rc : tine_pool_shutdown(pool, HANG_NS);
    tine_pool_destroy(pool);
    return rc;
}

static void *be_cancelled_waiting(void *argument)
{
    struct calls *calls = (struct calls *)argument;
    tine_result result = TINE_RESULT_INIT;
    CHECK_EQ(pthread_cancel(pthread_self()), 0);
    calls->rc = tine_wait(calls->pool, calls->id, HANG_NS, &result);
    calls->done = 1;
    pthread_testcancel();
    return NULL;
}

/* The same where the wait closes the end of a channel, which the host has kept for another try of the task. */
static void a_cancelled_thread_settles_a_task_with_a_channel(void)
{
    struct calls calls = {0, 0, create(1, TINE_NO_THREAD), 0};
    tine_channel *end, *other;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    char byte;
    size_t length;
    void *how = NULL;
    int ms = 50;
    CHECK_RC(tine_channel_create(NULL, &end, &other), 0);
    options.channel = end;
    options.retries = 1;
    options.flags = TINE_IDEMPOTENT;
    CHECK_RC(tine_submit(calls.pool, nap_ms, &ms, sizeof ms, &options, &calls.id), 0);
    CHECK_EQ(pthread_join(thread(be_cancelled_waiting, &calls), &how), 0);
    CHECK(how == PTHREAD_CANCELED);
    CHECK_EQ(calls.done, 1);
    CHECK_RC(calls.rc, 0);
    CHECK_RC(tine_channel_receive(other, HANG_NS, &byte, 1, &length), -EPIPE);
    tine_channel_close(other);
    tine_pool_destroy(calls.pool);
}

static void *be_cancelled(void *argument)
{
    struct calls *calls = (struct calls *)argument;
    CHECK_EQ(pthread_cancel(pthread_self()), 0);
    calls->rc = make_calls();
    calls->done = 1;
    pthread_testcancel();
    return NULL;
}

/* No call is a cancellation point: a thread that is cancelled ends after it, and neither the host nor what it was at goes with it. */
static void a_cancelled_thread_ends_after_its_call(void)
{
    struct calls calls = {0, 0, NULL, 0};
    void *how = NULL;
    CHECK_EQ(pthread_join(thread(be_cancelled, &calls), &how), 0);
    CHECK(how == PTHREAD_CANCELED);
    CHECK_EQ(calls.done, 1);
    CHECK_RC(calls.rc, 0);
}

int main(int argc, char **argv)
{
    static const enum what whats[] = {SHUTDOWN, WAIT_ALL, DESTROY};
    CHECK_RC(tine_init(argc, argv), 0);
    the_first_task_sets_the_clock();
    what_begins_beside_a_far_deadline_is_looked_after(0);
    what_begins_beside_a_far_deadline_is_looked_after(1);
    who_gives_up_makes_way();
    for (int i = 0; i < 3; i++) {
        a_callback_ends_another_pool(whats[i], 0);
        a_callback_ends_another_pool(whats[i], TINE_NO_THREAD);
    }
    a_stopped_supervisor_holds_up_nothing(0);
    a_stopped_supervisor_holds_up_nothing(1);
    who_draws_holds_up_nobody();
    a_second_shutdown_keeps_its_own_time();
    a_cancelled_thread_ends_after_its_call();
    a_cancelled_thread_settles_a_task_with_a_channel();
    return 0;
}
