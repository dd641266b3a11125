#include <errno.h>
#include <stdio.h>
#include <tine.h>
#include <unistd.h>

static int greet(tine_task *task) /* runs in a worker, a process of its own */
{
    const char *name = tine_input(task, NULL);
    char *text = tine_output(task, 64);
    if (!text) return tine_fail(task, -ENOMEM, "no room for the greeting of %s", name);
    snprintf(text, 64, "hello, %s, from process %d", name, (int)getpid());
    return 0;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv); /* the first call in main: a worker starts in this main too, and never returns from here */

    tine_error error = TINE_ERROR_INIT; /* gets a sentence that names what went wrong */
    tine_pool_options pool_options = TINE_POOL_OPTIONS_INIT;
    pool_options.error = &error;
    tine_pool *pool;
    if (tine_pool_create(&pool_options, &pool) < 0) { /* one worker for each CPU */
        fprintf(stderr, "no pool: %s\n", error.text);
        return 1;
    }

    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.error = &error;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    int rc = tine_submit(pool, greet, "world", sizeof "world", &options, &id);
    if (rc < 0) {
        fprintf(stderr, "not submitted: %s\n", error.text);
    } else if ((rc = tine_wait(pool, id, TINE_FOREVER, &result)) < 0) {
        fprintf(stderr, "no result: %s\n", tine_strerror(rc));
    } else if ((rc = result.status) < 0) {
        fprintf(stderr, "failed: %s: %s\n", tine_strerror(rc), result.message);
    } else {
        printf("process %d was told: %s\n", (int)getpid(), (const char *)result.data);
    }
    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    return rc < 0;
}
