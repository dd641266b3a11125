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

#define LONGEST 4096 /* bytes of a line; longer ones are cut */

struct plan {
    tine_queue *lines, *hits; /* valid in every process of the pool */
    char path[1024], word[64];
};

static int read_lines(tine_task *task)
{
    const struct plan *plan = tine_input(task, NULL);
    char line[LONGEST];
    int rc = 0;
    FILE *file = fopen(plan->path, "r");
    if (!file) {
        rc = tine_fail(task, -errno, "%s: %s", plan->path, strerror(errno));
    }
    while (rc == 0 && fgets(line, sizeof line, file)) {
        rc = tine_queue_put(plan->lines, line, strlen(line) + 1, TINE_FOREVER);
    }
    if (file) {
        fclose(file);
    }
    tine_queue_close(plan->lines); /* the filters finish what is there, and end */
    return rc;
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

/* Tells the sink that nothing more will come, once the last filter has ended. */
static int finish(tine_pool *pool, struct plan *plan, int *left)
{
    int rc, failed = 0;
    tine_result result = TINE_RESULT_INIT;
    while (*left > 0 && (rc = tine_next(pool, 0, &result)) == 0) {
        if (result.status < 0) {
            fprintf(stderr, "filter: %s\n", result.message ? result.message : tine_strerror(result.status));
            failed = 1;
            tine_queue_close(plan->lines); /* a reader that died could not */
        }
        tine_result_release(pool, &result);
        if (--*left == 0) {
            tine_queue_close(plan->hits);
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    static struct plan plan;
    char line[LONGEST], longest[LONGEST] = "";
    size_t hits = 0;
    int rc, filters, left, failed = 0;
    tine_pool *pool;
    tine_stats stats = TINE_STATS_INIT;

    tine_init(argc, argv);
    if (argc != 3 || strlen(argv[1]) >= sizeof plan.path || strlen(argv[2]) >= sizeof plan.word) {
        fprintf(stderr, "usage: filter FILE WORD\n");
        return 2;
    }
    strcpy(plan.path, argv[1]);
    strcpy(plan.word, argv[2]);
    if ((rc = tine_pool_create(NULL, &pool)) || (rc = tine_queue_create(pool, NULL, &plan.lines)) ||
        (rc = tine_queue_create(pool, NULL, &plan.hits)) || (rc = tine_pool_stats(pool, &stats))) {
        fprintf(stderr, "filter: %s\n", tine_strerror(rc));
        return 1;
    }
    filters = stats.workers > 1 ? (int)stats.workers - 1 : 1;
    left = filters + 1;
    for (int i = 0; i < left; i++) {
        tine_id id;
        if ((rc = tine_submit(pool, i == 0 ? read_lines : filter, &plan, sizeof plan, NULL, &id))) {
            fprintf(stderr, "filter: %s\n", tine_strerror(rc));
            return 1;
        }
    }
    do {
        rc = tine_queue_get(plan.hits, 50000000, line, sizeof line, NULL);
        if (rc == 0) {
            hits++;
            if (strlen(line) > strlen(longest)) {
                strcpy(longest, line);
            }
        }
        failed |= finish(pool, &plan, &left);
    } while (rc != -EPIPE);
    longest[strcspn(longest, "\n")] = 0;
    printf("%zu lines with \"%s\"; the longest: %s\n", hits, plan.word, longest);
    tine_pool_destroy(pool); /* and the queues with it */
    return failed;
}
