/* Two programs and one segment: the first starts the second and hands it a descriptor; both count, under a lock that
 * survives the death of whoever holds it.
 *
 *     shared-counter [TIMES]          each of the two counts so often; 100,000 if not said otherwise */
#define _DEFAULT_SOURCE /* for fork and exec */
#include <tine.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What both programs know: all-zero memory is a good mutex, so there is nothing to set up. */
struct counter {
    tine_mutex mutex;
    long times, count;
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "shared-counter: %s: %s\n", what, tine_strerror(rc));
    exit(1);
}

static void count(struct counter *counter)
{
    for (long i = 0; i < counter->times; i++) {
        int rc = tine_mutex_lock(&counter->mutex, TINE_FOREVER);
        /* The other one died while it held the lock. The count is one number, so it is whole; elsewhere, look first. */
        if (rc == -EOWNERDEAD)
            rc = tine_mutex_repair(&counter->mutex);
        if (rc)
            die("lock", rc);
        counter->count++;
        tine_mutex_unlock(&counter->mutex);
    }
}

/* The second program: all it has is the number of a descriptor. */
static int second(int fd)
{
    tine_segment *segment;
    int rc = tine_segment_attach(fd, NULL, &segment);
    if (rc)
        die("attach", rc);
    count(tine_segment_address(segment));
    return tine_segment_close(segment) ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--attach") == 0)
        return second(atoi(argv[2]));
    char *end = "";
    long times = argc > 1 ? strtol(argv[1], &end, 10) : 100000;
    if (argc > 2 || *end || times < 1) {
        fprintf(stderr, "usage: shared-counter [TIMES (1 or more)]\n");
        return 2;
    }
    tine_segment *segment;
    int rc = tine_segment_create(sizeof(struct counter), NULL, &segment);
    if (rc)
        die("create", rc);
    struct counter *counter = tine_segment_address(segment);
    counter->times = times;

    pid_t child = fork();
    if (child < 0)
        die("fork", -errno);
    if (child == 0) {
        /* The segment's own descriptor closes itself when another program starts; a copy does not. */
        char number[16];
        snprintf(number, sizeof number, "%d", dup(tine_segment_fd(segment)));
        execl("/proc/self/exe", argv[0], "--attach", number, (char *)NULL);
        _exit(127);
    }
    count(counter);
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0)
        die("the second program", -ECHILD);
    printf("two programs counted to %ld\n", counter->count);
    tine_segment_close(segment);
    return 0;
}
