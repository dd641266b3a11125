/* A worker writes over a queue while the host is in calls on it. */
#include "queues.h"

static int scribble(tine_task *task)
{
    const struct job *job = (const struct job *)tine_input(task, NULL);
    static const uint64_t known[] = {0, 1, 2, 7, 64, UINT32_MAX, (uint64_t)1 << 31, (uint64_t)1 << 63, UINT64_MAX};
    volatile uint64_t *words = (volatile uint64_t *)(void *)job->in;
    uint64_t random = job->first;
    int64_t until = clock_ns() + (int64_t)job->count;
    uint64_t whole[101];
    memcpy(whole, job->in, sizeof whole);
    while (clock_ns() < until) {
        /* As it was, now and then, so that the host comes into the middle of things again. */
        memcpy((char *)job->in + 8, whole + 1, sizeof whole - 8);
        nap_ns((int64_t)(random % 100000));
        for (int i = 0; i < 50; i++) {
            /* All but the mark, which says that there is a queue: locks, commits, slots, bytes. */
            uint64_t word = 1 + random_next(&random) % 100, value = random_next(&random);
            if (value % 3 == 0)
                value = known[value / 3 % (sizeof known / sizeof *known)];
            else if (value % 3 == 1)
                value = words[word] + value % 5 - 2;
            if (random_next(&random) % 2)
                words[word] = value;
            else
                ((volatile uint32_t *)words)[2 * word + random_next(&random) % 2] = (uint32_t)value;
        }
    }
    return 0;
}

struct user {
    tine_queue *q;
    int done, out, gone;
    long calls, failed;
};

static void *use_the_queue(void *argument)
{
    struct user *user = (struct user *)argument;
    tine_queue *q = user->q;
    char buffer[512];
    size_t lengths[4] = {8, 40, 0, 100};
    memset(buffer, 'h', sizeof buffer);
    while (!__atomic_load_n(&user->done, __ATOMIC_ACQUIRE)) {
        void *place;
        size_t length;
        user->failed += tine_queue_put(q, buffer, 60, SHORT) != 0;
        user->failed += tine_queue_get(q, SHORT, buffer, sizeof buffer, &length) != 0;
        user->failed += tine_queue_put_many(q, buffer, lengths, 4, SHORT) < 0;
        if (tine_queue_reserve(q, 100, SHORT, &place) == 0) {
            memset(place, 'r', 100);
            if (tine_queue_commit(q, 90) != 0)
                (void)tine_queue_abandon(q);
        }
        if (tine_queue_peek(q, SHORT, &place, &length) == 0) {
            unsigned sum = 0;
            for (size_t i = 0; i < length; i++)
                sum += ((unsigned char *)place)[i];
            CHECK(length <= 1024 && sum <= 255 * length);
            (void)tine_queue_release(q);
        }
        size_t many[4];
        user->failed += tine_queue_get_many(q, SHORT, buffer, sizeof buffer, many, 4) < 0;
        (void)tine_queue_task_done(q);
        (void)tine_queue_join(q, SHORT);
        if (user->calls % 1000 == 990)
            (void)tine_queue_close(q);
        CHECK(tine_queue_count(q) <= 64);
        (void)tine_queue_is_empty(q);
        user->calls += 10;
    }
    __atomic_store_n(&user->out, 1, __ATOMIC_RELEASE);
    /* And it ends when the memory is gone. */
    while (!__atomic_load_n(&user->gone, __ATOMIC_ACQUIRE))
        nap_ns(1000000);
    return NULL;
}

static void test_hostile_worker(void)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_queue_options small = TINE_QUEUE_OPTIONS_INIT;
    uint64_t random = random_seed();
    tine_pool *other;
    tine_result result = TINE_RESULT_INIT;
    pthread_t threads[2];
    struct user users[2];
    tine_id id;
    options.workers = 1;
    small.capacity_messages = 8;
    small.capacity_bytes = 512;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    for (int round = 0; round < 2; round++) {
        tine_queue *q = NULL;
        CHECK_RC(tine_queue_create(other, &small, &q), 0);
        CHECK(tine_queue_fd(q) >= 0);
        struct job job = {q, NULL, random_next(&random) | 1, 700000000};
        CHECK_RC(tine_submit(other, scribble, &job, sizeof job, NULL, &id), 0);
        for (int i = 0; i < 2; i++) {
            memset(&users[i], 0, sizeof users[i]);
            users[i].q = q;
            CHECK(pthread_create(&threads[i], NULL, use_the_queue, &users[i]) == 0);
        }
        CHECK_RC(tine_wait(other, id, LIMIT, &result), 0);
        tine_result_release(other, &result);
        for (int i = 0; i < 2; i++)
            __atomic_store_n(&users[i].done, 1, __ATOMIC_RELEASE);
        for (int i = 0; i < 2; i++)
            WAIT_UNTIL(__atomic_load_n(&users[i].out, __ATOMIC_ACQUIRE)); /* a limit for each call, too */
        char buffer[512];
        memset((char *)q + 384, 0x7f, 256); /* what garbage stays for good: a call ends, whatever it says */
        (void)tine_queue_get(q, SHORT, buffer, sizeof buffer, NULL);
        if (round == 0) {
            for (int i = 0; i < 2; i++) {
                __atomic_store_n(&users[i].gone, 1, __ATOMIC_RELEASE);
                CHECK(pthread_join(threads[i], NULL) == 0);
            }
            tine_queue_destroy(q);
        }
    }
    tine_pool_destroy(other);
    for (int i = 0; i < 2; i++) {
        __atomic_store_n(&users[i].gone, 1, __ATOMIC_RELEASE);
        CHECK(pthread_join(threads[i], NULL) == 0);
        printf("%ld calls, %ld of them failed\n", users[i].calls, users[i].failed);
        CHECK(users[i].calls > 0);
    }
}

/* The flags of a lock that a thread holds are changed: the thread must not keep it on its list, which would lead into the
 * pool's memory when that is gone. */
static void *outlive_the_pool(void *argument)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *other;
    tine_queue *q = NULL;
    void *place;
    (void)argument;
    options.workers = 1;
    CHECK_RC(tine_pool_create(&options, &other), 0);
    CHECK_RC(tine_queue_create(other, NULL, &q), 0);
    CHECK_RC(tine_queue_reserve(q, 8, 0, &place), 0);
    *(volatile uint32_t *)(void *)((char *)q + 68) = TINE_PROCESS_OWNED << 8; /* as the producers' lock has them */
    CHECK_RC(tine_queue_commit(q, 8), 0);
    tine_pool_destroy(other);
    return NULL;
}

static void test_changed_flags(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, outlive_the_pool, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

/* Garbage in the words that commit, with nobody in the way: it has a code of its own. */
static void test_garbage(void)
{
    tine_queue *q = make(4, 64, 0);
    char byte;
    memset((char *)q + 384, 0x7e, 8); /* the tail */
    CHECK_RC(tine_queue_get(q, 0, &byte, 1, NULL), -EBADMSG);
    CHECK_RC(tine_queue_get(q, SHORT, &byte, 1, NULL), -EBADMSG);
    tine_queue_destroy(q);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    struct belongings before = take_stock();
    create_the_pool();
    test_hostile_worker();
    test_changed_flags();
    test_garbage();
    tine_pool_destroy(pool);
    check_stock_but_stacks(before);
    return 0;
}
