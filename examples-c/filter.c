/*
 * filter FILE WORD: the longest lines of a text that have a word in them. One worker reads (the producer), as many as
 * there are processors look at the lines (the filters), the host collects what is left (the sink); two queues connect them.
 *
 * A filter that is killed takes one line along at most; the others go on, and the pipeline ends as it would have.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tine.h>
#include <unistd.h>

#define LONGEST 4096 /* bytes of a line; a longer one counts as several */

struct plan {
    tine_queue *lines, *hits; /* valid in every process of the pool */
    char path[1024], word[64];
};

/* How many tasks of each kind have not ended. */
struct running {
    int readers, filters;
};

static int read_lines(tine_task *task)
{
    const struct plan *plan = tine_input(task, NULL);
    char line[LONGEST];
    int rc = 0;
    FILE *file = fopen(plan->path, "r");
    while (file && rc == 0 && fgets(line, sizeof line, file)) {
        rc = tine_queue_put(plan->lines, line, strlen(line) + 1, TINE_FOREVER);
    }
    if (!file || (rc == 0 && ferror(file))) {
        rc = -errno;
    }
    if (file) {
        fclose(file);
    }
    tine_queue_close(plan->lines); /* the filters finish what is there, and end */
    return rc ? tine_fail(task, rc, "%s: %s", plan->path, tine_strerror(rc)) : 0;
}

static int filter(tine_task *task)
{
    const struct plan *plan = tine_input(task, NULL);
    for (;;) {
        char line[LONGEST];
        int rc = tine_queue_get(plan->lines, TINE_FOREVER, line, sizeof line, NULL);
        if (rc == -EPIPE) {
            return 0;
        }
        if (rc == 0 && strstr(line, plan->word)) {
            rc = tine_queue_put(plan->hits, line, strlen(line) + 1, TINE_FOREVER);
        }
        if (rc) {
            return tine_fail(task, rc, "%s", tine_strerror(rc));
        }
    }
}

/* One reader, and as many filters as are asked for. The .user of a task says where it is counted. */
static int begin(tine_pool *pool, const struct plan *plan, int filters, struct running *running)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int rc = 0;
    while (rc == 0 && running->filters < filters) {
        options.user = running->readers == 0 ? &running->readers : &running->filters;
        rc = tine_submit(pool, running->readers == 0 ? read_lines : filter, plan, sizeof *plan, &options, NULL);
        ++*(int *)options.user;
    }
    return rc;
}

/* Takes note of the tasks that have ended, and tells the others. Returns whether one has failed. */
static int finish(tine_pool *pool, struct plan *plan, struct running *running)
{
    int failed = 0;
    tine_result result = TINE_RESULT_INIT;
    while (tine_next(pool, 0, &result) == 0) {
        --*(int *)result.user;
        if (result.status < 0) {
            fprintf(stderr, "filter: %s\n", result.message);
            failed = 1;
        }
        tine_result_release(pool, &result);
    }
    /* A reader that died could not say that it is done; and one without filters would wait for room for ever. */
    if (running->readers == 0 || running->filters == 0) {
        tine_queue_close(plan->lines);
    }
    if (running->filters == 0) {
        tine_queue_close(plan->hits);
    }
    return failed;
}

int main(int argc, char **argv)
{
    static struct plan plan;
    static struct running running;
    char line[LONGEST], longest[LONGEST] = "";
    size_t hits = 0;
    int rc, failed = 0, filters = (int)sysconf(_SC_NPROCESSORS_ONLN);
    tine_pool *pool = NULL;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;

    tine_init(argc, argv);
    if (argc != 3 || strlen(argv[1]) >= sizeof plan.path || strlen(argv[2]) >= sizeof plan.word) {
        fprintf(stderr, "usage: filter FILE WORD\n");
        return 2;
    }
    strcpy(plan.path, argv[1]);
    strcpy(plan.word, argv[2]);
    options.workers = (size_t)filters + 1; /* each task has a worker to itself: they wait for one another */
    if ((rc = tine_pool_create(&options, &pool)) == 0 && (rc = tine_queue_create(pool, NULL, &plan.lines)) == 0 &&
        (rc = tine_queue_create(pool, NULL, &plan.hits)) == 0) {
        rc = begin(pool, &plan, filters, &running);
    }
    while (rc == 0 || rc == -ETIMEDOUT) {
        rc = tine_queue_get(plan.hits, 50000000, line, sizeof line, NULL);
        if (rc == 0) {
            hits++;
            if (strlen(line) > strlen(longest)) {
                strcpy(longest, line);
            }
        }
        failed |= finish(pool, &plan, &running);
    }
    if (rc == -EPIPE) {
        longest[strcspn(longest, "\n")] = 0;
        printf("%zu lines with \"%s\"; the longest: %s\n", hits, plan.word, longest);
    } else {
        fprintf(stderr, "filter: %s\n", tine_strerror(rc));
        failed = 1;
    }
    tine_pool_destroy(pool); /* and the queues with it */
    return failed;
}
