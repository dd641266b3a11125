/* One loop for everything: a pool, a queue, a channel and a process in one epoll set.
 *
 * Tasks look for primes, and put what they find into a queue. The monitor, a process of its own, has a channel to the host and
 * says when it is asked how far they are, which they count in a segment. The pool says when a task is done, and the process
 * when it has ended. The host sleeps until one of them has something. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <tine.h>
#include <unistd.h>

enum { PIECES = 8, PIECE = 20000 };
enum source { POOL, QUEUE, CHANNEL, PROCESS };

struct plan {
    tine_queue *found;
    long *looked_at; /* by all: in a segment */
    long begin;
};

static int look(tine_task *task)
{
    const struct plan *plan = tine_input(task, NULL);
    for (long number = plan->begin; number < plan->begin + PIECE; number++) {
        long divisor = 2;
        while (divisor * divisor <= number && number % divisor) divisor++;
        if (number > 1 && divisor * divisor > number) {
            int rc = tine_queue_put(plan->found, &number, sizeof number, TINE_FOREVER);
            if (rc) return rc;
        }
        __atomic_fetch_add(plan->looked_at, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

/* Answers each question with the number of those that have been looked at, until the host closes its end. */
static int monitor(tine_task *task)
{
    long *const *looked_at = tine_input(task, NULL);
    tine_channel *host = tine_task_channel(task);
    char question[16];
    int rc;
    while ((rc = tine_channel_receive(host, TINE_FOREVER, question, sizeof question, NULL)) == 0) {
        long so_far = __atomic_load_n(*looked_at, __ATOMIC_RELAXED);
        if ((rc = tine_channel_send(host, &so_far, sizeof so_far, TINE_FOREVER))) break;
    }
    return rc == -EPIPE ? 0 : rc;
}

static void must(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", what, tine_strerror(rc));
        exit(1);
    }
}

static void watch(int set, int fd, enum source source)
{
    struct epoll_event event = {EPOLLIN, {.u32 = source}};
    must(fd, "descriptor");
    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) ? -errno : 0, "epoll_ctl");
}

int main(int argc, char **argv)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_process_options with = TINE_PROCESS_OPTIONS_INIT;
    tine_exit end = TINE_EXIT_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_channel *channel = NULL;
    tine_pool *pool = NULL;
    tine_segment *segment = NULL;
    tine_process *process = NULL;
    struct plan plan = {NULL, NULL, 0};
    long primes = 0, number, looked_at = 0;
    int left = PIECES, asked = 0, ended = 0;

    tine_init(argc, argv);
    options.workers = 3;
    must(tine_pool_create(&options, &pool), "pool");
    must(tine_queue_create(pool, NULL, &plan.found), "queue");
    must(tine_segment_create(sizeof *plan.looked_at, NULL, &segment), "segment");
    must(tine_pool_share(pool, segment, TINE_FOREVER), "share");
    plan.looked_at = tine_segment_address(segment);
    must(tine_channel_create(NULL, &channel, &with.channel), "channel");
    with.segments = &segment;
    with.segment_count = 1;
    must(tine_process_start(&with, monitor, &plan.looked_at, sizeof plan.looked_at, &process), "monitor");
    for (int i = 0; i < PIECES; i++, plan.begin += PIECE)
        must(tine_submit(pool, look, &plan, sizeof plan, NULL, NULL), "submit");

    int set = epoll_create1(EPOLL_CLOEXEC);
    must(set < 0 ? -errno : 0, "epoll_create1");
    watch(set, tine_pool_fd(pool), POOL);
    watch(set, tine_queue_fd(plan.found), QUEUE);
    watch(set, tine_channel_fd(channel), CHANNEL);
    watch(set, tine_process_fd(process), PROCESS);

    while (!ended) {
        struct epoll_event events[4];
        int count = epoll_wait(set, events, 4, -1);
        for (int i = 0; i < count; i++) {
            switch ((enum source)events[i].data.u32) {
            case POOL:
                must(tine_pool_poll(pool), "poll");
                while (tine_next(pool, 0, &result) == 0) {
                    must(result.status, "task");
                    tine_result_release(pool, &result);
                    left--;
                    must(tine_channel_send(channel, "how far?", 8, 0), "question");
                    asked++;
                }
                break;
            case QUEUE: /* until -EAGAIN: then it is unreadable again */
                while (tine_queue_get(plan.found, 0, &number, sizeof number, NULL) == 0) primes++;
                break;
            case CHANNEL:
                must(tine_channel_receive(channel, 0, &looked_at, sizeof looked_at, NULL), "answer");
                if (--asked == 0 && left == 0) {
                    epoll_ctl(set, EPOLL_CTL_DEL, tine_channel_fd(channel), NULL);
                    tine_channel_close(channel); /* that is its end */
                }
                break;
            case PROCESS:
                must(tine_process_wait(process, TINE_FOREVER, &end), "end"); /* it has ended: how is known at once */
                must(end.status, "monitor");
                ended = 1;
                break;
            }
        }
    }
    while (tine_queue_get(plan.found, 0, &number, sizeof number, NULL) == 0) primes++;
    printf("%ld primes below %d; %ld numbers looked at, says the monitor\n", primes, PIECES * PIECE, looked_at);
    close(set);
    tine_process_close(process);
    tine_pool_destroy(pool);
    tine_segment_close(segment);
    return 0;
}
