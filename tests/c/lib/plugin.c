/* A plugin that has pools of its own: a shared library that is linked with tine, for hosts that need not know of that. The
   runner makes two of it, which differ in PLUGIN, a number, and says in TINE_TEST_PLUGINS where build/c/plugin1.so and
   plugin2.so are. */
#include <tine.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static int times(tine_task *task)
{
    int n = *(const int *)tine_input(task, NULL);
    return n < 0 ? raise(SIGKILL) : n * PLUGIN;
}

static int item_times(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = *(const int *)in * PLUGIN;
    return 0;
}

/* What the host calls; it finds them by their names. */
int plugin_open(const char *path, const char *worker_path, int start, tine_pool **out);
int plugin_submit(tine_pool *pool, int n);
int plugin_next(tine_pool *pool, int *died);
int plugin_map(tine_pool *pool);
void plugin_close(tine_pool *pool);

int plugin_open(const char *path, const char *worker_path, int start, tine_pool **out)
{
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.error = &error;
    options.workers = 2;
    options.start = start;
    options.worker_path = worker_path;
    options.preload = start == TINE_START_FORK ? NULL : path; /* a copy of the host has it already */
    int rc = tine_pool_create(&options, out);
    if (rc)
        fprintf(stderr, "plugin %d: %s\n", PLUGIN, error.text);
    return rc;
}

int plugin_submit(tine_pool *pool, int n)
{
    return tine_submit(pool, times, &n, sizeof n, NULL, NULL);
}

int plugin_next(tine_pool *pool, int *died)
{
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_next(pool, TINE_FOREVER, &result);
    if (rc)
        return rc;
    *died = result.status == TINE_EDIED;
    rc = *died ? 0 : result.status;
    tine_result_release(pool, &result);
    return rc;
}

int plugin_map(tine_pool *pool)
{
    int in[100], out[100], total = 0;
    for (int i = 0; i < 100; i++)
        in[i] = i;
    if (tine_map(pool, item_times, in, sizeof in[0], out, sizeof out[0], 100, NULL))
        return -1;
    for (int i = 0; i < 100; i++)
        total += out[i];
    return total;
}

void plugin_close(tine_pool *pool)
{
    tine_pool_destroy(pool);
}
