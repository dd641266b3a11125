/* A task that forks, and whose child comes back from the function as well: the child ends there, and takes no part in what
 * its parent does. */
#include "family.h"

/* The parent waits for its child, so it hangs if that one goes on. */
static int fork_and_return(tine_task *task)
{
    pid_t child = fork();
    int status;
    if (child == 0) {
        memset(tine_output(task, 4), 'c', 4);
        return 7;
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return -ECHILD;
    }
    memset(tine_output(task, 4), 'p', 4);
    return WIFEXITED(status) ? 1 : -EPROTO;
}

static int fork_in_item(tine_task *task, const void *in, void *out)
{
    (void)task;
    pid_t child = *(const int *)in % 3 == 0 ? fork() : -1;
    int status;
    if (child == 0) {
        return -EPERM;
    }
    if (child > 0 && waitpid(child, &status, 0) != child) {
        return -ECHILD;
    }
    __atomic_fetch_add((int *)out, 1, __ATOMIC_RELAXED);
    return 0;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    tag_family(argv);
    for (int start = 0; start < 3; start++) {
        enum { ITEMS = 30 };
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_result result = TINE_RESULT_INIT;
        tine_map_options map = TINE_MAP_OPTIONS_INIT;
        tine_pool *pool;
        tine_id id;
        options.workers = 2;
        options.start = all_starts[start];
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        for (int i = 0; i < 20; i++) {
            CHECK_RC(tine_submit(pool, fork_and_return, NULL, 0, NULL, &id), 0);
            CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
            CHECK_EQ(result.status, 1);
            CHECK(result.length == 4 && memcmp(result.data, "pppp", 4) == 0);
            tine_result_release(pool, &result);
        }
        int *in = (int *)tine_calloc(pool, ITEMS, sizeof *in), *out = (int *)tine_calloc(pool, ITEMS, sizeof *out);
        for (int i = 0; i < ITEMS; i++) {
            in[i] = i;
        }
        map.chunk = 10;
        CHECK_RC(tine_map(pool, fork_in_item, in, sizeof *in, out, sizeof *out, ITEMS, &map), 0);
        for (int i = 0; i < ITEMS; i++) {
            CHECK_EQ(out[i], 1);
        }
        tine_pool_destroy(pool);
        WAIT_UNTIL(family_is_gone(family_tag(), 0));
    }
    return 0;
}
