/* The counters as text: what stands there, room that is too short, names, and bad input. */
#include "check.h"
#include <errno.h>
#include <stdint.h>
#include <sys/wait.h>
#include <tine.h>
#include <unistd.h>

static int nothing(tine_task *task)
{
    (void)task;
    return 0;
}

static int tells(tine_task *task)
{
    size_t length = 0;
    tine_pool *mine = tine_task_pool(task);
    return tine_stats_text(&mine, NULL, 1, NULL, 0, &length) == TINE_EWORKER && length == 0 ? 0 : -EPROTO;
}

/* What follows a metric's name and label. */
static long value(const char *text, const char *metric)
{
    const char *at = strstr(text, metric);
    while (at && at > text && at[-1] != '\n') {
        at = strstr(at + 1, metric);
    }
    CHECK(at);
    return strtol(at + strlen(metric), NULL, 10);
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 2;
    tine_pool *pools[2];
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    CHECK_RC(tine_pool_create(&options, &pools[0]), 0);
    CHECK_RC(tine_pool_create(&options, &pools[1]), 0);
    for (int task = 0; task < 7; task++) {
        CHECK_RC(tine_submit(pools[0], task == 3 ? tells : nothing, NULL, 0, NULL, &id), 0);
        CHECK_RC(tine_wait(pools[0], id, TINE_FOREVER, &result), 0);
        CHECK_RC(result.status, 0);
        tine_result_release(pools[0], &result);
    }

    /* One pool without a name. */
    static char text[20000];
    size_t length = 0, needed = 0;
    CHECK_RC(tine_stats_text(pools, NULL, 1, text, sizeof text, &length), 0);
    CHECK(strlen(text) == length && text[length - 1] == '\n');
    CHECK(value(text, "tine_tasks_submitted_total ") == 7 && value(text, "tine_tasks_settled_total ") == 7);
    CHECK(value(text, "tine_workers ") == 2 && value(text, "tine_workers_ready ") == 2);
    CHECK(value(text, "tine_tasks_outstanding ") == 0 && value(text, "tine_heap_reserved_bytes ") > 0);
    /* Each line is a comment or a sample. */
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        CHECK(strncmp(line, "# HELP tine_", 12) == 0 || strncmp(line, "# TYPE tine_", 12) == 0 || strncmp(line, "tine_", 5) == 0);
    }

    /* Two with names. */
    const char *names[] = {"thumbs", "a \"b\""};
    CHECK_RC(tine_stats_text(pools, names, 2, text, sizeof text, &length), 0);
    CHECK(value(text, "tine_tasks_settled_total{pool=\"thumbs\"} ") == 7);
    CHECK(value(text, "tine_tasks_settled_total{pool=\"a \\\"b\\\"\"} ") == 0);
    const char *type = strstr(text, "# TYPE tine_workers gauge");
    CHECK(type && !strstr(type + 1, "# TYPE tine_workers gauge"));
    names[1] = NULL;
    CHECK_RC(tine_stats_text(pools, names, 2, text, sizeof text, NULL), 0);
    CHECK(value(text, "tine_workers ") == 2 && value(text, "tine_workers{pool=\"thumbs\"} ") == 2);

    /* Room. */
    CHECK_RC(tine_stats_text(pools, NULL, 1, NULL, 0, &needed), -EMSGSIZE);
    memset(text, 'x', sizeof text);
    CHECK_RC(tine_stats_text(pools, NULL, 1, text, needed, &length), -EMSGSIZE);
    CHECK(text[0] == 'x' && length == needed);
    CHECK_RC(tine_stats_text(pools, NULL, 1, text, needed + 1, &length), 0);
    CHECK(length == needed && text[length] == 0 && text[length + 1] == 'x');

    /* Bad input changes nothing. */
    length = 77;
    tine_pool *missing[] = {pools[0], NULL};
    const char *bad[] = {"\xff"};
    CHECK_RC(tine_stats_text(NULL, NULL, 1, text, sizeof text, &length), -EINVAL);
    CHECK_RC(tine_stats_text(pools, NULL, 0, text, sizeof text, &length), -EINVAL);
    CHECK_RC(tine_stats_text(pools, NULL, SIZE_MAX, text, sizeof text, &length), -EINVAL);
    CHECK_RC(tine_stats_text(missing, NULL, 2, text, sizeof text, &length), -EINVAL);
    CHECK_RC(tine_stats_text(pools, bad, 1, text, sizeof text, &length), -EINVAL);
    CHECK_RC(tine_stats_text(pools, NULL, 1, NULL, 10, &length), -EINVAL);
    CHECK(length == 77);
    pid_t child = fork();
    if (child == 0) {
        _exit(tine_stats_text(pools, NULL, 1, text, sizeof text, &length) == TINE_EFORKED ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    tine_pool_destroy(pools[0]);
    tine_pool_destroy(pools[1]);
    return 0;
}
