/* One function under several names, as bindings of other languages register theirs: a task says by which it was called. */
#include <tine.h>
#include "check.h"
#include <errno.h>

/* Which name that was: the output is the name, and no output where there is none. */
static int say_name(tine_task *task)
{
    const char *name = tine_task_name(task);
    if (!name)
        return 7;
    if (name != tine_task_name(task))
        return tine_fail(task, -EPROTO, "asked again, it is another string");
    size_t size = strlen(name) + 1;
    char *out = (char *)tine_output(task, size);
    if (!out)
        return -ENOMEM;
    memcpy(out, name, size);
    return 0;
}

/* Submits to its own pool, by another name: each call has its own, and after the inner one the outer still has. */
static int nested(tine_task *task)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    options.name = "second";
    int rc = tine_submit(tine_task_pool(task), NULL, NULL, 0, &options, &id);
    if (rc == 0)
        rc = tine_wait(tine_task_pool(task), id, TINE_FOREVER, &result);
    if (rc || result.status || strcmp((const char *)result.data, "second") != 0)
        return tine_fail(task, -EPROTO, "the inner one: %s", rc ? tine_strerror(rc) : result.message);
    tine_result_release(tine_task_pool(task), &result);
    return say_name(task);
}

static void expect(tine_pool *pool, tine_fn fn, const char *name, const char *said)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    options.name = name;
    CHECK_RC(tine_submit(pool, fn, NULL, 0, &options, &id), 0);
    CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
    CHECK_STR(result.message, "");
    CHECK_EQ(result.status, said ? 0 : 7);
    if (said)
        CHECK_STR((const char *)result.data, said);
    tine_result_release(pool, &result);
}

int main(int argc, char **argv)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
    CHECK_RC(tine_register("first", say_name), 0);
    CHECK_RC(tine_register("second", say_name), 0);
    CHECK_RC(tine_register("nested", nested), 0);
    tine_init(argc, argv);
    for (int at = 0; at < 4; at++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_map_options map = TINE_MAP_OPTIONS_INIT;
        tine_pool *pool = NULL;
        options.workers = 1;
        options.start = at < 3 ? starts[at] : 0;
        options.flags = at < 3 ? 0 : TINE_INLINE;
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        expect(pool, NULL, "second", "second");
        expect(pool, say_name, NULL, NULL);
        expect(pool, NULL, "first", "first");
        expect(pool, NULL, "nested", "nested");
        /* Items of a map by name. */
        int in[100] = {0};
        char out[100][8];
        map.name = "first";
        CHECK_RC(tine_map(pool, NULL, in, sizeof *in, out, sizeof *out, 100, &map), 0);
        for (int item = 0; item < 100; item++)
            CHECK_STR(out[item], "first");
        tine_pool_destroy(pool);
    }
    CHECK(tine_task_name(NULL) == NULL);
    return 0;
}
