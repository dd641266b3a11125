#include <errno.h>
#include <stdio.h>
#include <tine.h>
#include <unistd.h>

static int greet(tine_task *task) /* runs in a worker, a process of its own */
{
    const char *name = tine_input(task, NULL);
    char *text = tine_output(task, 64);
    if (!text) return -ENOMEM;
    snprintf(text, 64, "hello, %s, from process %d", name, (int)getpid());
    return 0;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv); /* first of all: workers start in this main(), too, and stay in here */
    tine_pool *pool = NULL;
    tine_id id;
    tine_result result = TINE_RESULT_INIT;

    int rc = tine_pool_create(NULL, &pool); /* a worker for each CPU */
    if (!rc) rc = tine_submit(pool, greet, "world", sizeof "world", NULL, &id);
    if (!rc) rc = tine_wait(pool, id, TINE_FOREVER, &result);
    if (!rc) rc = result.status;
    printf("process %d was told: %s\n", (int)getpid(), rc ? tine_strerror(rc) : (const char *)result.data);

    tine_result_release(pool, &result);
    tine_pool_destroy(pool);
    return rc != 0;
}
