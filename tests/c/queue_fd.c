/* The descriptor of a queue, and the thread behind it that watches the queue. */
#include "queues.h"
#include <sys/epoll.h>
#include <sys/resource.h>

static int readable(int fd, int timeout_ms)
{
    struct pollfd look = {fd, POLLIN, 0};
    return poll(&look, 1, timeout_ms) == 1;
}

static void test_descriptor(void)
{
    tine_queue *q = make(4, 1024, 0), *other = make(4, 1024, 0);
    struct epoll_event event = {EPOLLIN, {NULL}};
    char buffer[300];
    int fd = tine_queue_fd(q), fd2 = tine_queue_fd(other), set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(fd > 2 && fd2 > 2 && fd != fd2 && set >= 0);
    CHECK_EQ(tine_queue_fd(q), fd);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd2, &event) == 0);
    CHECK(!readable(fd, 0));
    for (int round = 0; round < 200; round++) {
        CHECK_RC(tine_queue_put(q, "message", 8, 0), 0);
        CHECK_RC(tine_queue_put(q, "another", 8, 0), 0);
        CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, NULL), 0);
        CHECK(readable(fd, 0)); /* there is one more */
        CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, NULL), 0);
        /* A get that finds nothing makes it unreadable; the thread may just be about to say so once more. */
        int tries = 0;
        do {
            CHECK_RC(tine_queue_get(q, 0, buffer, sizeof buffer, NULL), -EAGAIN);
        } while (readable(fd, 0) && ++tries < 100);
        CHECK(tries < 100);
    }
    /* What workers put, and a consumer that waits beside the watching thread. The pool is in the same set: it may have to
     * replace a worker first, which it does in calls on it. */
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, tine_pool_fd(pool), &event) == 0);
    struct job job = {NULL, other, 5, 3000};
    tine_id id = start(produce, &job, sizeof job);
    for (int got = 0; got < 3000;) {
        char large[1000];
        CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK(tine_pool_poll(pool) >= 0);
        int rc = tine_queue_get(other, got % 2 ? SHORT : 0, large, sizeof large, NULL);
        CHECK(rc == 0 || rc == -EAGAIN || rc == -ETIMEDOUT);
        got += rc == 0;
    }
    CHECK_EQ(end(id), 0);
    CHECK_RC(tine_queue_close(other), 0);
    CHECK(readable(fd2, 20000));
    CHECK_RC(tine_queue_get(other, LIMIT, buffer, sizeof buffer, NULL), -EPIPE);
    CHECK(readable(fd2, 0));
    tine_queue_destroy(other);
    close(set);
    /* `q` and its thread end with the pool. */
}

enum { LEFT = 1 /* thread that watches, of the test above */ };

/* A worker that writes into the queue's words can't keep the watching thread, or whoever waits for its end. */
static void test_descriptor_of_a_queue_that_is_overwritten(void)
{
    for (int round = 0; round < 50; round++) {
        tine_queue *q = make(4, 1024, 0);
        CHECK(tine_queue_fd(q) >= 0);
        if (round % 2)
            CHECK(!readable(tine_queue_fd(q), 2)); /* the thread sleeps by now, as a rule */
        memset((char *)q + 8, 0, 56); /* all of the first line but what says that there is a queue */
        tine_queue_destroy(q);
        CHECK_RC(tine_queue_fd(q), -EINVAL);
    }
}

static int get_one(tine_task *task)
{
    tine_queue *const *q = (tine_queue *const *)tine_input(task, NULL);
    char byte;
    return tine_queue_get(*q, TINE_FOREVER, &byte, 1, NULL);
}

static long switches(const char *tid)
{
    char path[300], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", tid);
    FILE *file = fopen(path, "r");
    CHECK(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *line = strstr(text, "voluntary_ctxt_switches:");
    CHECK(line);
    return atol(line + strlen("voluntary_ctxt_switches:"));
}

/* The threads that watch; one that has been joined is listed for a moment longer. */
static int watchers(char tids[][16], int room)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    CHECK(folder);
    while ((entry = readdir(folder))) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file && fgets(name, sizeof name, file) && strcmp(name, "tine-queue\n") == 0 && count < room)
            snprintf(tids[count++], 16, "%.15s", entry->d_name);
        if (file)
            fclose(file);
    }
    closedir(folder);
    return count;
}

/* A thread only where somebody has asked; it sleeps without waking up, behind a consumer too; and it goes. */
static void test_watching_thread(void)
{
    enum { QUEUES = 5 };
    tine_queue *queues[QUEUES];
    char tids[16][16];
    struct epoll_event event;
    int set = epoll_create1(EPOLL_CLOEXEC);
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    for (int i = 0; i < QUEUES; i++)
        queues[i] = make(4, 64, 0);
    tine_id id = start(get_one, &queues[0], sizeof *queues);
    CHECK_EQ(watchers(tids, 16), LEFT);
    for (int i = 0; i < QUEUES; i++) {
        event.events = EPOLLIN;
        event.data.u32 = (uint32_t)i;
        CHECK(epoll_ctl(set, EPOLL_CTL_ADD, tine_queue_fd(queues[i]), &event) == 0);
        CHECK_EQ(tine_queue_fd(queues[i]), tine_queue_fd(queues[i]));
    }
    int count;
    WAIT_UNTIL((count = watchers(tids, 16)) == LEFT + QUEUES);
    CHECK_EQ(epoll_wait(set, &event, 1, 100), 0); /* all asleep by now, or nearly */
    long started = 0, now = 0;
    for (int i = 0; i < count; i++)
        started += switches(tids[i]);
    int64_t napped = clock_ns();
    nap_ns(1200000000);
    /* The watch of the queue at which the worker waits, too, waits behind it, and looks after its life every 50 ms. */
    long looks = 2 * (long)((clock_ns() - napped) / 50000000);
    for (int i = 0; i < count; i++)
        now += switches(tids[i]);
    CHECK(now - started <= QUEUES + looks); /* of the others at most the last one before it slept */
    /* Each calls for itself. */
    for (int i = 1; i < QUEUES; i++) {
        char byte;
        CHECK_RC(tine_queue_put(queues[i], "x", 1, 0), 0);
        CHECK_EQ(epoll_wait(set, &event, 1, 20000), 1);
        CHECK_EQ(event.data.u32, i);
        do
            CHECK_RC(tine_queue_get(queues[i], 0, &byte, 1, NULL), 0);
        while (tine_queue_count(queues[i]) != 0);
        for (int tries = 0; tries < 1000 && epoll_wait(set, &event, 1, 0) != 0; tries++)
            CHECK_RC(tine_queue_get(queues[i], 0, &byte, 1, NULL), -EAGAIN);
        CHECK_EQ(epoll_wait(set, &event, 1, 0), 0);
    }
    CHECK_RC(tine_queue_put(queues[0], "x", 1, 0), 0);
    CHECK_EQ(end(id), 0);
    for (int i = 0; i < QUEUES; i++)
        tine_queue_destroy(queues[i]);
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    close(set);
}

/* No descriptor left: a code, nothing kept, and the queue goes on. */
static void test_no_descriptor(void)
{
    struct rlimit limit, none;
    char tids[16][16], byte;
    int used[512], count = 0;
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    tine_queue *q = make(4, 64, 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 200;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    while (count < 512 && (used[count] = dup(2)) >= 0)
        count++;
    CHECK(errno == EMFILE);
    CHECK_RC(tine_queue_fd(q), -EMFILE);
    CHECK_RC(tine_queue_fd(q), -EMFILE);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (count > 0)
        close(used[--count]);
    CHECK_EQ(watchers(tids, 16), LEFT);
    CHECK(tine_queue_fd(q) >= 0);
    tine_queue_destroy(q);
}

/* The pool ends while a worker waits in a queue that this process watches. */
static void test_the_pool_ends_first(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    tine_queue *q = NULL;
    tine_id id;
    char tids[16][16];
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    CHECK_RC(tine_queue_create(other, NULL, &q), 0);
    CHECK_RC(tine_submit(other, get_one, &q, sizeof q, NULL, &id), 0);
    int fd = tine_queue_fd(q);
    CHECK(!readable(fd, 20));
    tine_pool_destroy(other);
    WAIT_UNTIL(watchers(tids, 16) == LEFT);
    CHECK(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), -EINVAL);
}

/* A child of fork has a copy of the descriptor, and no thread: it may close it. */
static void test_descriptor_in_a_child(void)
{
    tine_queue *q = make(4, 64, 0);
    int fd = tine_queue_fd(q), status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_RC(tine_queue_fd(q), TINE_EFORKED);
        CHECK_EQ(count_entries("/proc/self/task"), 1);
        close(fd);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
    CHECK(readable(fd, 20000));
    tine_queue_destroy(q);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    struct belongings before = take_stock();
    create_the_pool();
    test_descriptor();
    test_descriptor_of_a_queue_that_is_overwritten();
    test_watching_thread();
    test_no_descriptor();
    test_the_pool_ends_first();
    test_descriptor_in_a_child();
    tine_pool_destroy(pool);
    check_stock_but_stacks(before);
    return 0;
}
