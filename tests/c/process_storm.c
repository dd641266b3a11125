/* The kill storm of single processes: they, their supervisors and their hosts are killed at any moment.
 *
 * limit: 240
 *
 * TINE_STORM: 3,000 processes and 300 hosts of each kind. */
#include "processes.h"

/* Processes that are killed at any moment from their start on, and their supervisors: everything ends, and nothing is left. */
static void storm(int rounds)
{
    uint64_t seed = random_seed();
    char tag[64];
    snprintf(tag, sizeof tag, "%s", family_tag());
    struct belongings before = take_stock();
    int64_t *times = (int64_t *)malloc(sizeof *times * (size_t)rounds);
    int dead = 0, done = 0;
    for (int round = 0; round < rounds; round++) {
        tine_process *processes[3];
        for (int i = 0; i < 3; i++) {
            int64_t ns = (int64_t)(random_next(&seed) % 5000000);
            processes[i] = start(i == 1 ? stay : work, &ns, sizeof ns, NULL);
        }
        struct process all[16];
        int count = list_family(tag, 0, all, 16);
        int victim = (int)(random_next(&seed) % (uint64_t)(count + 1));
        int64_t began = clock_ns();
        if (victim < count) {
            kill(all[victim].pid, SIGKILL);
        }
        tine_process_kill(processes[1], SIGKILL);
        for (int i = 0; i < 3; i++) {
            tine_exit end = wait_for(processes[i]);
            if (end.status == 0) {
                CHECK_EQ(end.length, 1000);
                CHECK_EQ(((const char *)end.data)[999], 'w');
                done++;
            } else {
                CHECK_EQ(end.status, TINE_EDIED);
                CHECK_EQ(end.signal, SIGKILL);
                dead++;
            }
        }
        times[round] = clock_ns() - began;
        for (int i = 0; i < 3; i++) {
            tine_process_close(processes[i]);
        }
    }
    WAIT_UNTIL(family_is_gone(tag, 0));
    check_stock(before);
    printf("%s: %d processes, %d killed, %d with their result\n", start_name(start_method), 3 * rounds, dead, done);
    print_percentiles("from kill to the last of three ends", times, (size_t)rounds);
    free(times);
}

/* The host is killed at any moment while it starts and ends processes with trees below them: nothing of it is left. */
static void hosts_die(int rounds)
{
    uint64_t seed = random_seed();
    char tag[64];
    volatile int *count;
    tine_segment *segment = counter(&count);
    snprintf(tag, sizeof tag, "%s", family_tag());
    int64_t *times = (int64_t *)malloc(sizeof *times * (size_t)rounds);
    for (int round = 0; round < rounds; round++) {
        pid_t host = fork();
        if (host == 0) {
            for (;;) {
                tine_process *processes[2];
                for (int i = 0; i < 2; i++) {
                    processes[i] = start_with(segment, plant_tree, count, 0);
                }
                for (int i = 0; i < 2; i++) {
                    tine_process_close(processes[i]);
                }
            }
        }
        nap_ns((int64_t)(random_next(&seed) % 20000000));
        CHECK_EQ(kill(host, SIGKILL), 0);
        int status;
        CHECK_EQ(waitpid(host, &status, 0), host);
        CHECK(WIFSIGNALED(status));
        int64_t began = clock_ns();
        WAIT_UNTIL(family_is_gone(tag, 0));
        times[round] = clock_ns() - began;
    }
    CHECK_RC(tine_segment_close(segment), 0);
    print_percentiles("from the host's kill to nobody left", times, (size_t)rounds);
    free(times);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    tag_family(argv);
    int is_long = getenv("TINE_STORM") != NULL;
    for (int i = 0; i < 3; i++) {
        start_method = all_starts[i];
        storm(is_long ? 1000 : 20);
        hosts_die(is_long ? 300 : 10);
    }
    return 0;
}
