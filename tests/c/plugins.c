/* A host with several pools: its own, and those of two plugins that each use tine, in one process and at once. Where the
 * host is linked with the shared library they all have that; where it has libtine.a in it, the plugins have the shared one
 * besides, and the two know nothing of each other. */
#include "family.h"
#include <dlfcn.h>

struct plugin {
    void *library;
    char path[4096];
    int (*open)(const char *path, const char *worker_path, int start, tine_pool **out);
    int (*submit)(tine_pool *pool, int n);
    int (*next)(tine_pool *pool, int *died);
    int (*map)(tine_pool *pool);
    void (*close)(tine_pool *pool);
    tine_pool *pool;
};

static void *find(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return symbol;
}

static void load(struct plugin *plugin, int number)
{
    const char *folder = getenv("TINE_TEST_PLUGINS");
    CHECK(folder);
    snprintf(plugin->path, sizeof plugin->path, "%s/plugin%d.so", folder, number);
    plugin->library = dlopen(plugin->path, RTLD_NOW | RTLD_LOCAL);
    if (!plugin->library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    /* As POSIX has it: a pointer to an object is the address of the function. */
    *(void **)&plugin->open = find(plugin->library, "plugin_open");
    *(void **)&plugin->submit = find(plugin->library, "plugin_submit");
    *(void **)&plugin->next = find(plugin->library, "plugin_next");
    *(void **)&plugin->map = find(plugin->library, "plugin_map");
    *(void **)&plugin->close = find(plugin->library, "plugin_close");
}

static int add_one(tine_task *task)
{
    return *(const int *)tine_input(task, NULL) + 1;
}

/* Takes `count` results of a plugin's; the sum of those that did not die. */
static long sum(struct plugin *plugin, int count, int *deaths)
{
    long total = 0;
    for (int i = 0; i < count; i++) {
        int died = 0, value = plugin->next(plugin->pool, &died);
        CHECK(value >= 0);
        total += value;
        *deaths += died;
    }
    return total;
}

/* Tasks in three pools at once; a worker of one of them dies, and the others know nothing of it. */
static void work(tine_pool *own, struct plugin *plugins)
{
    enum { TASKS = 300 };
    tine_result result = TINE_RESULT_INIT;
    int deaths[2] = {0, 0}, rc;
    long total = 0;
    for (int n = 0; n < TASKS; n++) {
        CHECK_RC(tine_submit(own, add_one, &n, sizeof n, NULL, NULL), 0);
        CHECK_EQ(plugins[0].submit(plugins[0].pool, n == 100 ? -1 : n), 0);
        CHECK_EQ(plugins[1].submit(plugins[1].pool, n), 0);
    }
    CHECK_EQ(plugins[1].map(plugins[1].pool), 2 * 4950);
    CHECK_EQ(sum(&plugins[0], TASKS, &deaths[0]), TASKS * (TASKS - 1) / 2 - 100);
    CHECK_EQ(sum(&plugins[1], TASKS, &deaths[1]), TASKS * (TASKS - 1));
    while ((rc = tine_next(own, HANG_NS, &result)) == 0) {
        total += result.status;
    }
    CHECK_RC(rc, TINE_EEMPTY);
    CHECK_EQ(total, TASKS * (TASKS + 1) / 2);
    CHECK_EQ(deaths[0], 1);
    CHECK_EQ(deaths[1], 0);
    tine_stats stats = TINE_STATS_INIT;
    CHECK_RC(tine_pool_stats(own, &stats), 0);
    CHECK_EQ(stats.worker_deaths, 0);
}

int main(int argc, char **argv)
{
    tag_family(argv);
    CHECK_RC(tine_init(argc, argv), 0);
    static struct plugin plugins[2];
    load(&plugins[0], 1);
    load(&plugins[1], 2);
    const char *worker_path = getenv("TINE_WORKER_PROGRAM");
    CHECK(worker_path);
    struct belongings before;
    for (int round = 0; round < 7; round++) {
        int start = all_starts[round % 3];
        /* A ready-made worker, which a plugin needs that cannot rely on its host's main; a forked one is the host. */
        const char *program = start == TINE_START_FORK ? NULL : worker_path;
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        tine_pool *own;
        options.workers = 2;
        options.start = start;
        CHECK_RC(tine_pool_create(&options, &own), 0);
        for (int i = 0; i < 2; i++) {
            int rc = plugins[i].open(plugins[i].path, program, start, &plugins[i].pool);
            if (rc == TINE_ENOINIT && start == TINE_START_FORK) {
                /* A copy of tine of its own, which nobody has initialised: it says so, and takes the worker. */
                rc = plugins[i].open(plugins[i].path, worker_path, TINE_START_FORKSERVER, &plugins[i].pool);
            }
            CHECK_RC(rc, 0);
        }
        work(own, plugins);
        /* They end in any order. */
        if (round % 2) {
            tine_pool_destroy(own);
        }
        plugins[1].close(plugins[1].pool);
        plugins[0].close(plugins[0].pool);
        if (round % 2 == 0) {
            tine_pool_destroy(own);
        }
        /* The C library keeps a stack and an arena for each copy's first thread. */
        if (round == 0) {
            before = take_stock();
        }
        check_stock(before);
        /* A plugin that has been unloaded and comes back may be somewhere else. */
        CHECK_EQ(dlclose(plugins[round % 2].library), 0);
        load(&plugins[round % 2], round % 2 + 1);
    }
    WAIT_UNTIL(family_is_gone(family_tag(), 0));
    return 0;
}
