/* Processes that have nothing in common but a queue in a segment are killed while they put, get, make and destroy. */
#include "queue_segments.h"

enum { PRODUCERS = 2, CONSUMERS = 2, WORKERS = PRODUCERS + CONSUMERS, NUMBERS = 1 << 24, PER_KILL = 1000 };

/* In a segment beside the one with the heap, as the storm's own notes. */
struct storm {
    tine_queue *q;
    uint64_t next, allowed, progress[WORKERS], wrong;
    uint8_t put[NUMBERS], got[NUMBERS];
};

static void produce(tine_queue *q, struct storm *storm, int who)
{
    uint64_t message[40];
    for (;;) {
        uint64_t number = __atomic_fetch_add(&storm->next, 1, __ATOMIC_SEQ_CST);
        while (number >= __atomic_load_n(&storm->allowed, __ATOMIC_SEQ_CST) || number >= NUMBERS)
            nap_ns(100000);
        size_t words = 2 + number % 38;
        for (size_t i = 0; i < words; i++)
            message[i] = number;
        message[1] = (uint64_t)who;
        storm->put[number] = 1;
        void *place = message;
        if (number % 4 == 0) {
            CHECK_RC(tine_queue_reserve(q, words * 8, TINE_FOREVER, &place), 0);
            memcpy(place, message, words * 8);
            CHECK_RC(tine_queue_commit(q, words * 8), 0);
        } else {
            CHECK_RC(tine_queue_put(q, message, words * 8, TINE_FOREVER), 0);
        }
        storm->put[number] = 2;
        storm->progress[who]++;
    }
}

static void note(struct storm *storm, const uint64_t *message, size_t length, uint64_t *last)
{
    uint64_t number = message[0], who = message[1];
    int whole = number < NUMBERS && who < PRODUCERS && length == (2 + number % 38) * 8 && number >= last[who];
    for (size_t i = 2; whole && i < length / 8; i++)
        whole = message[i] == number;
    if (!whole) {
        __atomic_fetch_add(&storm->wrong, 1, __ATOMIC_SEQ_CST);
        return;
    }
    last[who] = number;
    __atomic_fetch_add(&storm->got[number], 1, __ATOMIC_SEQ_CST);
}

static void consume(tine_queue *q, struct storm *storm, int who)
{
    uint64_t buffer[40], last[PRODUCERS] = {0, 0};
    for (unsigned turn = 0;; turn++) {
        void *place = buffer;
        size_t length = 0;
        if (turn % 4 == 0)
            CHECK_RC(tine_queue_peek(q, TINE_FOREVER, &place, &length), 0);
        else
            CHECK_RC(tine_queue_get(q, TINE_FOREVER, buffer, sizeof buffer, &length), 0);
        note(storm, (const uint64_t *)place, length, last);
        if (turn % 4 == 0)
            CHECK_RC(tine_queue_release(q), 0);
        storm->progress[who]++;
    }
}

/* A worker of the storm: it gets both segments over the socket, and nothing else. */
static int storm_worker(int socket, int who)
{
    tine_segment *s = NULL, *notes = NULL;
    tine_heap *heap = NULL;
    CHECK_RC(tine_segment_receive(socket, NULL, &s), 0);
    CHECK_RC(tine_segment_receive(socket, NULL, &notes), 0);
    struct storm *storm = (struct storm *)tine_segment_address(notes);
    CHECK_RC(tine_heap_attach(s, NULL, &heap), 0);
    if (who < PRODUCERS)
        produce(storm->q, storm, who);
    consume(storm->q, storm, who);
    return 1;
}

static pid_t start_worker(const char *program, tine_segment *s, tine_segment *notes, int who)
{
    int line[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, line) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char number[16], name[16];
        snprintf(number, sizeof number, "%d", line[1]);
        snprintf(name, sizeof name, "%d", who);
        execl("/proc/self/exe", program, "storm", number, name, (char *)NULL);
        _exit(127);
    }
    close(line[1]);
    CHECK_RC(tine_segment_send(line[0], s), 0);
    CHECK_RC(tine_segment_send(line[0], notes), 0);
    close(line[0]);
    return child;
}

static int all_moved(struct storm *storm, const uint64_t *before)
{
    __atomic_fetch_add(&storm->allowed, 10, __ATOMIC_SEQ_CST);
    for (int i = 0; i < WORKERS; i++)
        if (__atomic_load_n(&storm->progress[i], __ATOMIC_SEQ_CST) == before[i])
            return 0;
    return 1;
}

static void strangers_are_killed(const char *program, int kills)
{
    uint64_t random = random_seed();
    tine_segment *s = new_segment(8 << 20), *notes = new_segment(sizeof(struct storm));
    tine_heap *heap = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    struct storm *storm = (struct storm *)tine_segment_address(notes);
    storm->q = make(heap, 8, 2048);
    storm->allowed = 8 * PER_KILL;
    pid_t pids[WORKERS];
    int killed[2] = {0, 0};
    for (int i = 0; i < WORKERS; i++)
        pids[i] = start_worker(program, s, notes, i);
    for (int round = 0; round < kills; round++) {
        int victim = (int)(random_next(&random) % WORKERS);
        uint64_t before[WORKERS], started = storm->progress[victim];
        /* Every victim has come as far as to the queue. */
        WAIT_UNTIL((storm->allowed += 10, storm->progress[victim] != started));
        nap_ns((int64_t)(random_next(&random) % 300000));
        CHECK_EQ(kill(pids[victim], SIGKILL), 0);
        CHECK_EQ(ended(pids[victim]), 1000 + SIGKILL);
        killed[victim >= PRODUCERS]++;
        pids[victim] = start_worker(program, s, notes, victim);
        storm->allowed += PER_KILL;
        CHECK(storm->next < NUMBERS); /* or there is nothing left to do, and nobody moves */
        if (round % 8 == 7) {
            memcpy(before, storm->progress, sizeof before);
            WAIT_UNTIL(all_moved(storm, before));
        }
    }
    for (int i = 0; i < WORKERS; i++) {
        CHECK_EQ(kill(pids[i], SIGKILL), 0);
        CHECK_EQ(ended(pids[i]), 1000 + SIGKILL);
        killed[i >= PRODUCERS]++;
    }
    uint64_t buffer[40], last[PRODUCERS] = {0, 0};
    size_t length = 0;
    while (tine_queue_get(storm->q, SHORT, buffer, sizeof buffer, &length) == 0)
        note(storm, buffer, length, last);
    uint64_t delivered = 0, twice = 0, lost = 0, in_vain = 0, numbers = storm->next;
    CHECK(numbers < NUMBERS);
    for (uint64_t i = 0; i < numbers; i++) {
        delivered += storm->got[i] > 0;
        twice += storm->got[i] > 1;
        lost += storm->got[i] == 0 && storm->put[i] == 2;
        in_vain += storm->got[i] == 0 && storm->put[i] == 1;
    }
    printf("%d producers and %d consumers killed: %llu messages delivered, %llu twice, %llu torn; %llu lost, %llu put in vain\n",
           killed[0], killed[1], (unsigned long long)delivered, (unsigned long long)twice,
           (unsigned long long)storm->wrong, (unsigned long long)lost, (unsigned long long)in_vain);
    CHECK(delivered > 0 && twice == 0 && storm->wrong == 0);
    CHECK(lost <= (uint64_t)killed[1] && in_vain <= (uint64_t)killed[0]);
    tine_queue_destroy(storm->q);
    CHECK_EQ(used_blocks(heap), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
    CHECK_RC(tine_segment_close(notes), 0);
}

/* Makers and destroyers die in the middle: there is a queue or there is none, and no block that nobody answers for. */
static void makers_are_killed(int kills)
{
    tine_segment *s = new_segment(4 << 20);
    tine_heap *heap = NULL;
    CHECK_RC(tine_heap_create(s, NULL, &heap), 0);
    for (int i = 0; i < kills; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            tine_heap *mine = NULL;
            CHECK_RC(tine_heap_attach(s, NULL, &mine), 0);
            for (;;) {
                tine_queue *q = make(mine, 4, 8192);
                CHECK_RC(tine_queue_put(q, "x", 1, 0), 0);
                tine_queue_destroy(q);
            }
        }
        nap_ns(1000000 + i % 20 * 100000);
        CHECK_EQ(kill(child, SIGKILL), 0);
        CHECK_EQ(ended(child), 1000 + SIGKILL);
        int left = tine_heap_release_process(heap, child);
        CHECK(left == 0 || left == 1);
        CHECK_EQ(used_blocks(heap), 0);
    }
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

int main(int argc, char **argv)
{
    int is_long = getenv("TINE_STORM") != NULL;
    if (argc > 3 && strcmp(argv[1], "storm") == 0)
        return storm_worker(atoi(argv[2]), atoi(argv[3]));
    tine_init(argc, argv);
    struct belongings before = take_stock();
    makers_are_killed(is_long ? 1000 : 60);
    strangers_are_killed(argv[0], is_long ? 5000 : 300);
    check_stock_but_stacks(before);
    return 0;
}
