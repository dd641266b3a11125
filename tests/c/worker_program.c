/* A host whose main is not its own: no tine_init, but the ready-made worker program, and functions from a library. */
#include <tine.h>
#include "check.h"
#include <dlfcn.h>
#include <errno.h>

static int not_there(tine_task *task)
{
    (void)task;
    return 0;
}

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    CHECK(address != NULL);
    return address;
}

/* Of the library. */
static tine_fn triple;
static tine_item_fn twice;
static tine_range_fn range;

/* By address and by the name under which the library has registered it in the workers. */
static void tasks(tine_pool *pool)
{
    for (int named = 0; named < 2; named++) {
        tine_error error = TINE_ERROR_INIT;
        tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
        submit.error = &error;
        submit.name = named ? "lib_triple" : NULL;
        for (int value = 0; value < 100; value++) {
            tine_result result = TINE_RESULT_INIT;
            tine_id id;
            int rc = tine_submit(pool, named ? NULL : triple, &value, sizeof value, &submit, &id);
            if (rc) {
                fprintf(stderr, "%s\n", error.text);
            }
            CHECK_RC(rc, 0);
            CHECK_RC(tine_wait(pool, id, TINE_FOREVER, &result), 0);
            CHECK_EQ(result.status, 3);
            CHECK_EQ(*(const int *)result.data, 3 * value);
            tine_result_release(pool, &result);
        }
    }
}

static void maps(tine_pool *pool)
{
    int in[1000], out[1000], status[100];
    for (int at = 0; at < 1000; at++)
        in[at] = at;
    CHECK_RC(tine_map(pool, twice, in, sizeof *in, out, sizeof *out, 1000, NULL), 0);
    for (int at = 0; at < 1000; at++)
        CHECK_EQ(out[at], 2 * at);
    tine_map_options map = TINE_MAP_OPTIONS_INIT;
    map.status = status;
    map.chunk = 10;
    CHECK_RC(tine_for(pool, range, 0, 100, &map), TINE_EITEMS);
    for (int at = 0; at < 100; at++)
        CHECK_EQ(status[at], at / 10 == 1 ? -EIO : 0);
    map.name = "lib_triple"; /* it returns 3: a success */
    map.status = NULL;
    CHECK_RC(tine_map(pool, NULL, in, sizeof *in, out, sizeof *out, 1000, &map), 0);
    for (int at = 0; at < 1000; at++)
        CHECK_EQ(out[at], 3 * at);
}

int main(void)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN};
    const char *worker = getenv("TINE_WORKER_PROGRAM"), *path = getenv("TINE_TEST_LIBRARY");
    CHECK(worker != NULL && path != NULL);
    void *library = dlopen(path, RTLD_LAZY), *address;
    CHECK(library != NULL);
    memcpy(&triple, (address = symbol(library, "lib_triple"), &address), sizeof triple);
    memcpy(&twice, (address = symbol(library, "lib_twice"), &address), sizeof twice);
    memcpy(&range, (address = symbol(library, "lib_range"), &address), sizeof range);

    for (int i = 0; i < 2; i++) {
        tine_error error = TINE_ERROR_INIT;
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_pool *pool = NULL;
        options.error = &error;
        options.workers = 2;
        options.start = starts[i];
        options.worker_path = worker;
        options.preload = path;
        if (tine_pool_create(&options, &pool) != 0) {
            fprintf(stderr, "%s\n", error.text);
            return 1;
        }

        tasks(pool);
        maps(pool);
        /* The workers run another program than this one. */
        tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
        submit.error = &error;
        CHECK_RC(tine_submit(pool, not_there, NULL, 0, &submit, NULL), TINE_EMODULE);
        CHECK(strstr(error.text, "worker_program") != NULL);
        submit.name = "nobody";
        CHECK_RC(tine_submit(pool, NULL, NULL, 0, &submit, NULL), TINE_ENAME);

        CHECK_RC(tine_pool_shutdown(pool, TINE_FOREVER), 0);
        tine_pool_destroy(pool);
    }

    /* Without the library the worker program has no function of its own, and says so. */
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_submit_options submit = TINE_SUBMIT_OPTIONS_INIT;
    tine_pool *pool = NULL;
    int value = 1;
    options.worker_path = worker;
    CHECK_RC(tine_pool_create(&options, &pool), 0);
    submit.error = &error;
    CHECK_RC(tine_submit(pool, triple, &value, sizeof value, &submit, NULL), TINE_EMODULE);
    CHECK(strstr(error.text, "functions.so") != NULL);
    tine_pool_destroy(pool);
    /* And still no pool of this program itself. */
    CHECK_RC(tine_pool_create(NULL, &pool), TINE_ENOINIT);
    return 0;
}
