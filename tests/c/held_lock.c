/* What other calls need not wait for while a call of the same process is at an input that takes its time: here one in a page that cannot be
 * read until a handler of SIGSEGV lets it be. */
#include "handed.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

enum { SHORT = 100, LONG = 1 << 20 };

static char *page;
static size_t page_bytes;
static tine_channel *sends;
static int is_in, may_go_on, sent, full;

static void close_page(size_t bytes)
{
    page_bytes = bytes;
    page = (char *)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    memset(page, 7, bytes);
    CHECK_EQ(mprotect(page, bytes, PROT_NONE), 0);
    __atomic_store_n(&is_in, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&may_go_on, 0, __ATOMIC_SEQ_CST);
}

/* What the program does in the middle of the call: a signal handler may send. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    char *at = (char *)info->si_addr;
    (void)context;
    if (at < page || at >= page + page_bytes)
        _exit(signal);
    if (sends) {
        __atomic_store_n(&sent, tine_channel_send(sends, "x", 1, 0), __ATOMIC_SEQ_CST);
        int rc;
        while ((rc = tine_channel_send(sends, "x", 1, 0)) == 0)
            ;
        __atomic_store_n(&full, rc, __ATOMIC_SEQ_CST);
    } else {
        __atomic_store_n(&is_in, 1, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(&may_go_on, __ATOMIC_SEQ_CST))
            nap_ns(100000);
    }
    if (mprotect(page, page_bytes, PROT_READ))
        _exit(signal);
}

static int length_of(tine_task *task)
{
    size_t length;
    const char *input = (const char *)tine_input(task, &length);
    return input[0] == 7 && input[length - 1] == 7 ? (int)length : -EINVAL;
}

/* A handler sends on top of a call that has the pool's lock. */
static void test_handler(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, TINE_NO_THREAD);
    tine_channel *other;
    tine_id id;
    CHECK_RC(tine_channel_create(NULL, &sends, &other), 0);
    CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    close_page(4096);
    nap_ns(2000000); /* from a millisecond on a call looks after the pools */
    CHECK_RC(tine_submit(pool, length_of, page, SHORT, NULL, &id), 0);
    CHECK_RC(__atomic_load_n(&sent, __ATOMIC_SEQ_CST), 0);
    CHECK_RC(__atomic_load_n(&full, __ATOMIC_SEQ_CST), -EAGAIN);
    CHECK_RC(status_of(pool, id), SHORT);
    tine_channel_close(sends);
    tine_channel_close(other);
    sends = NULL;
    munmap(page, page_bytes);
    tine_pool_destroy(pool);
}

enum way { SUBMITTED, PUT, DRAWN };

struct submission {
    tine_pool *pool;
    tine_stream *stream;
    size_t length;
    int rc;
    tine_id id;
    enum way way;
    tine_result result;
};

/* The page, once. */
static int draw(void *user, const void **input, size_t *length, void **item)
{
    int *left = (int *)user;
    (void)item;
    *input = page;
    *length = page_bytes;
    return (*left)-- > 0;
}

static void *submit_page(void *argument)
{
    struct submission *submission = (struct submission *)argument;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.timeout_ns = HANG_NS;
    if (submission->way == DRAWN)
        submission->rc = tine_stream_next(submission->stream, HANG_NS, &submission->result);
    else if (submission->way == PUT)
        submission->rc = tine_stream_put(submission->stream, page, submission->length, NULL, TINE_FOREVER);
    else
        submission->rc =
            tine_submit(submission->pool, length_of, page, submission->length, &options, &submission->id);
    return NULL;
}

static pthread_t begin(struct submission *submission)
{
    pthread_t thread;
    close_page(LONG);
    CHECK_EQ(pthread_create(&thread, NULL, submit_page, submission), 0);
    WAIT_UNTIL(__atomic_load_n(&is_in, __ATOMIC_SEQ_CST));
    return thread;
}

static void end(pthread_t thread)
{
    __atomic_store_n(&may_go_on, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    munmap(page, page_bytes);
}

/* While one thread is at a short input with the lock held, another's call that has what it wants does not wait for it. */
static void test_available(void)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, TINE_NO_THREAD);
    tine_channel *one, *other;
    tine_queue *queue;
    tine_id id;
    char byte;
    CHECK_RC(tine_queue_create(pool, NULL, &queue), 0);
    CHECK_RC(tine_channel_create(NULL, &one, &other), 0);
    CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    struct submission submission = {pool, NULL, SHORT, 0, 0, SUBMITTED, TINE_RESULT_INIT};
    pthread_t thread = begin(&submission);
    for (int i = 0; i < 3; i++) {
        nap_ns(2000000);
        CHECK_RC(tine_queue_put(queue, "x", 1, HANG_NS), 0);
        nap_ns(2000000);
        CHECK_RC(tine_queue_get(queue, HANG_NS, &byte, 1, NULL), 0);
        nap_ns(2000000);
        CHECK_RC(tine_queue_get(queue, 0, &byte, 1, NULL), -EAGAIN);
        CHECK_RC(tine_channel_send(one, "x", 1, HANG_NS), 0);
        nap_ns(2000000);
        CHECK_RC(tine_channel_receive(other, HANG_NS, &byte, 1, NULL), 0);
        nap_ns(2000000);
        CHECK_RC(tine_channel_receive(other, 1000000, &byte, 1, NULL), -ETIMEDOUT);
    }
    end(thread);
    CHECK_RC(submission.rc, 0);
    CHECK_RC(status_of(pool, submission.id), SHORT);
    tine_channel_close(one);
    tine_channel_close(other);
    tine_queue_destroy(queue);
    tine_pool_destroy(pool);
}

/* A long input is copied while the pool is anybody's. */
static void test_long(int flags)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, flags);
    tine_result result = TINE_RESULT_INIT;
    tine_stats stats = TINE_STATS_INIT;
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    size_t bytes[2];
    tine_id id;
    CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
    CHECK_RC(status_of(pool, id), 0);
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    bytes[0] = stats.heap_allocated_bytes;
    for (int way = SUBMITTED; way <= DRAWN; way++) {
        struct submission submission = {pool, NULL, LONG, 0, 0, (enum way)way, TINE_RESULT_INIT};
        int left = 1;
        options.pull = way == DRAWN ? draw : NULL;
        options.user = &left;
        if (way != SUBMITTED)
            CHECK_RC(tine_stream_create(pool, length_of, &options, &submission.stream), 0);
        pthread_t thread = begin(&submission);
        CHECK_RC(tine_next(pool, 0, &result), TINE_EEMPTY);
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
        CHECK_RC(tine_submit(pool, has_none, NULL, 0, NULL, &id), 0);
        CHECK_RC(status_of(pool, id), 0);
        end(thread);
        CHECK_RC(submission.rc, 0);
        if (way == SUBMITTED) {
            CHECK_RC(status_of(pool, submission.id), LONG);
            continue;
        }
        if (way == PUT)
            CHECK_RC(tine_stream_next(submission.stream, HANG_NS, &submission.result), 0);
        CHECK_RC(submission.result.status, LONG);
        tine_result_release(pool, &submission.result);
        tine_stream_destroy(submission.stream);
    }
    CHECK_RC(tine_pool_stats(pool, &stats), 0);
    bytes[1] = stats.heap_allocated_bytes;
    CHECK_EQ(bytes[1], bytes[0]);
    tine_pool_destroy(pool);
}

/* The pool is shut down meanwhile: the task is refused, and its copy given back. */
static void test_shut_down(enum way way)
{
    tine_pool *pool = create_pool(TINE_START_FORKSERVER, 1, 0);
    struct submission submission = {pool, NULL, LONG, 0, 0, way, TINE_RESULT_INIT};
    tine_stream_options options = TINE_STREAM_OPTIONS_INIT;
    tine_stats before = TINE_STATS_INIT, after = TINE_STATS_INIT;
    int left = 1;
    options.pull = way == DRAWN ? draw : NULL;
    options.user = &left;
    if (way != SUBMITTED)
        CHECK_RC(tine_stream_create(pool, length_of, &options, &submission.stream), 0);
    CHECK_RC(tine_pool_stats(pool, &before), 0);
    pthread_t thread = begin(&submission);
    CHECK_RC(tine_pool_shutdown(pool, HANG_NS), 0);
    end(thread);
    CHECK_RC(submission.rc, TINE_ESHUTDOWN);
    CHECK_RC(tine_pool_stats(pool, &after), 0);
    CHECK_EQ(after.heap_allocated_bytes, before.heap_allocated_bytes);
    if (way != SUBMITTED)
        tine_stream_destroy(submission.stream);
    tine_pool_destroy(pool);
}

static int submit_at_once(tine_pool *pool, const void *input, size_t length)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    return tine_submit(pool, length_of, input, length, &options, NULL);
}

/* The room of a task whose input is being copied is not another's, in tasks or in bytes. */
static void test_room(enum way way)
{
    static char other[LONG];
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_stream_options of_stream = TINE_STREAM_OPTIONS_INIT;
    tine_pool *pool;
    memset(other, 7, sizeof other);
    for (int in_bytes = 0; in_bytes < 2; in_bytes++) {
        size_t tasks = in_bytes ? 10 : 1, bytes = LONG + LONG / 2;
        options.workers = 1;
        options.window_tasks = of_stream.window_tasks = tasks;
        options.window_bytes = of_stream.window_bytes = bytes;
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        struct submission submission = {pool, NULL, LONG, 0, 0, way, TINE_RESULT_INIT};
        if (way == PUT)
            CHECK_RC(tine_stream_create(pool, length_of, &of_stream, &submission.stream), 0);
        pthread_t thread = begin(&submission);
        if (way == PUT) {
            CHECK_RC(tine_stream_put(submission.stream, other, LONG, NULL, 0), -EAGAIN);
            CHECK_RC(tine_stream_put(submission.stream, other, SHORT, NULL, 0), in_bytes ? 0 : -EAGAIN);
        } else {
            CHECK_RC(submit_at_once(pool, other, LONG), -EAGAIN);
            CHECK_RC(submit_at_once(pool, other, SHORT), in_bytes ? 0 : -EAGAIN);
        }
        end(thread);
        CHECK_RC(submission.rc, 0);
        for (int i = 0; i <= in_bytes; i++) {
            CHECK_RC(way == PUT ? tine_stream_next(submission.stream, HANG_NS, &submission.result)
                                : tine_next(pool, HANG_NS, &submission.result), 0);
            CHECK(submission.result.status == LONG || (in_bytes && submission.result.status == SHORT));
            tine_result_release(pool, &submission.result);
        }
        /* It has been given back with the result. */
        CHECK_RC(submit_at_once(pool, other, LONG), 0);
        if (way == PUT)
            tine_stream_destroy(submission.stream);
        tine_pool_destroy(pool);
    }
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    const char *only = argc > 1 ? argv[1] : "";
    if (!*only || *only == 'h')
        test_handler();
    if (!*only || *only == 'a')
        test_available();
    for (int i = 0; i < 2 && (!*only || *only == 'l'); i++)
        test_long(i ? TINE_NO_THREAD : 0);
    for (int way = SUBMITTED; way <= DRAWN && (!*only || *only == 's'); way++)
        test_shut_down((enum way)way);
    for (int way = SUBMITTED; way <= PUT && (!*only || *only == 'r'); way++)
        test_room((enum way)way);
    return 0;
}
