/* TINE_TRACE: what a pool's trace says of tasks, deaths, waits, several pools and libraries, and files that cannot be one. */
#include "check.h"
#include "family.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[200];

static const char *file(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int works(tine_task *task)
{
    (void)task;
    return 0;
}

static int dies(tine_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int squares(tine_task *task, const void *in, void *out)
{
    (void)task;
    const int *number = (const int *)in;
    *(int *)out = *number * *number;
    return 0;
}

/* A worker whose task makes a pool of its own writes to the same file. */
static int nests(tine_task *task)
{
    (void)task;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    tine_pool *pool;
    int rc = tine_pool_create(&options, &pool);
    if (rc)
        return rc;
    tine_id id;
    rc = tine_submit(pool, works, NULL, 0, NULL, &id);
    if (!rc)
        rc = tine_pool_shutdown(pool, TINE_FOREVER);
    tine_pool_destroy(pool);
    return rc;
}

static tine_pool *pool_of(int start, unsigned flags, unsigned workers)
{
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.start = start;
    options.flags = flags;
    options.workers = workers;
    tine_pool *pool = NULL;
    CHECK(tine_pool_create(&options, &pool) == 0);
    return pool;
}

/* Reads a trace, looks for what no trace may have, and says what is in it: see trace_check.py. NULL where no Python is there to do so. */
static const char *contents(const char *name, const char *option)
{
    static char line[600];
    static int told;
    char command[900];
    if (system("python3 -c 'import json' >/dev/null 2>&1") != 0) {
        if (!told++)
            puts("not tested: what stands in a trace: needs python3");
        return NULL;
    }
    snprintf(command, sizeof command, "python3 tests/c/trace_check.py %s '%s'", option, file(name));
    FILE *answer = popen(command, "r");
    CHECK(answer);
    CHECK(fgets(line, sizeof line, answer) != NULL);
    CHECK(pclose(answer) == 0);
    line[strcspn(line, "\n")] = 0;
    return line;
}

static void expect(const char *name, const char *wanted)
{
    const char *has = contents(name, "");
    if (has && strcmp(has, wanted) != 0) {
        fprintf(stderr, "%s has \"%s\", not \"%s\"\n", name, has, wanted);
        exit(1);
    }
}

static void run(tine_pool *pool, int tasks, tine_fn fn)
{
    for (int i = 0; i < tasks; i++) {
        tine_id id;
        CHECK(tine_submit(pool, fn, NULL, 0, NULL, &id) == 0);
    }
    for (int i = 0; i < tasks; i++) {
        tine_result result = TINE_RESULT_INIT;
        CHECK(tine_next(pool, TINE_FOREVER, &result) == 0);
        tine_result_release(pool, &result);
    }
}

static void tasks_and_deaths(void)
{
    static const int starts[] = {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK};
    static const char *const names[] = {"forkserver", "spawn", "fork"};
    for (int i = 0; i < 3; i++) {
        setenv("TINE_TRACE", file(names[i]), 1);
        tine_pool *pool = pool_of(starts[i], 0, 1);
        run(pool, 300, works);
        run(pool, 2, dies);
        run(pool, 1, works);
        CHECK(tine_pool_shutdown(pool, TINE_FOREVER) == 0);
        tine_pool_destroy(pool);
        expect(names[i], "pools 1 submitted 303 tasks 303 died 2 never-ran 0 chunk-items 0 births 3 open 0 waits yes");
    }
}

static void maps(void)
{
    setenv("TINE_TRACE", file("map"), 1);
    tine_pool *pool = pool_of(TINE_START_FORKSERVER, 0, 2);
    int in[1000], out[1000];
    for (int i = 0; i < 1000; i++)
        in[i] = i;
    CHECK(tine_map(pool, squares, in, sizeof *in, out, sizeof *out, 1000, NULL) == 0);
    tine_pool_destroy(pool);
    expect("map", "pools 1 submitted 0 tasks 0 died 0 never-ran 0 chunk-items 1000 births 2 open 0 waits yes");
}

static int pauses(tine_task *task)
{
    (void)task;
    pause();
    return 0;
}

/* Tasks that never run are settled in the trace. */
static void cancelled(void)
{
    setenv("TINE_TRACE", file("cancelled"), 1);
    tine_pool *pool = pool_of(TINE_START_FORKSERVER, 0, 1);
    tine_id ids[20];
    for (int i = 0; i < 20; i++)
        CHECK(tine_submit(pool, pauses, NULL, 0, NULL, &ids[i]) == 0);
    for (int i = 19; i > 0; i--)
        CHECK(tine_cancel(pool, ids[i]) == 0);
    CHECK(tine_cancel(pool, ids[0]) == 0);
    CHECK(tine_pool_shutdown(pool, TINE_FOREVER) == 0);
    tine_pool_destroy(pool);
    const char *has = contents("cancelled", "");
    CHECK(!has || strstr(has, "submitted 20 "));
}

/* Two pools, one inside a worker, and one without workers: all in one file. */
static void many_write(void)
{
    setenv("TINE_TRACE", file("many"), 1);
    tine_pool *one = pool_of(TINE_START_SPAWN, 0, 2);
    tine_pool *other = pool_of(TINE_START_SPAWN, 0, 1);
    run(one, 50, works);
    run(other, 50, works);
    run(other, 1, nests);
    tine_pool_destroy(one);
    tine_pool_destroy(other);
    expect("many", "pools 3 submitted 102 tasks 102 died 0 never-ran 0 chunk-items 0 births 4 open 0 waits yes");
    setenv("TINE_TRACE", file("inline"), 1);
    tine_pool *inside = pool_of(TINE_START_FORKSERVER, TINE_INLINE, 0);
    run(inside, 10, works);
    tine_pool_destroy(inside);
    expect("inline", "pools 1 submitted 10 tasks 10 died 0 never-ran 0 chunk-items 0 births 0 open 0 waits no");
}

/* Another copy of the library in this process, as a plugin has it that is linked with a library of its own. */
static void two_copies(int argc, char **argv)
{
    char path[400], command[900];
    snprintf(path, sizeof path, "%s/plugin1.so", getenv("TINE_TEST_PLUGINS"));
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    Dl_info library;
    if (!plugin) {
        puts("not tested: a trace by two copies of the library: needs a dynamic linker");
        return;
    }
    CHECK(dladdr(dlsym(plugin, "tine_version"), &library) && strstr(library.dli_fname, "libtine"));
    snprintf(command, sizeof command, "cp '%s' '%s'", library.dli_fname, file("copy.so"));
    CHECK(system(command) == 0);
    void *copy = dlopen(file("copy.so"), RTLD_NOW | RTLD_LOCAL);
    CHECK(copy);
    static int (*init)(int, char **);
    static int (*create)(const tine_pool_options *, tine_pool **);
    static int (*submit)(tine_pool *, tine_fn, const void *, size_t, const tine_submit_options *, tine_id *);
    static void (*destroy)(tine_pool *);
    *(void **)&init = dlsym(copy, "tine_init");
    *(void **)&create = dlsym(copy, "tine_pool_create");
    *(void **)&submit = dlsym(copy, "tine_submit");
    *(void **)&destroy = dlsym(copy, "tine_pool_destroy");
    CHECK(init && create && submit && destroy && create != tine_pool_create && init(argc, argv) == 0);
    setenv("TINE_TRACE", file("copies"), 1);
    for (int round = 0; round < 2; round++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.flags = TINE_INLINE;
        tine_pool *mine = pool_of(TINE_START_FORKSERVER, TINE_INLINE, 0), *other;
        CHECK(create(&options, &other) == 0);
        run(mine, 10, works);
        for (int i = 0; i < 10; i++) {
            tine_id id;
            CHECK(submit(other, works, NULL, 0, NULL, &id) == 0);
        }
        destroy(other);
        tine_pool_destroy(mine);
    }
    expect("copies", "pools 4 submitted 40 tasks 40 died 0 never-ran 0 chunk-items 0 births 0 open 0 waits no");
    dlclose(plugin);
}

/* Processes begin one file at the same moment. */
static void begin_together(void)
{
    setenv("TINE_TRACE", file("together"), 1);
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t children[6];
    for (int i = 0; i < 6; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            char byte;
            close(gate[1]);
            if (read(gate[0], &byte, 1) != 0)
                _exit(1);
            tine_pool *pool = pool_of(TINE_START_FORKSERVER, TINE_INLINE, 0);
            run(pool, 20, works);
            tine_pool_destroy(pool);
            _exit(0);
        }
    }
    close(gate[0]);
    close(gate[1]);
    for (int i = 0; i < 6; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
    }
    expect("together", "pools 6 submitted 120 tasks 120 died 0 never-ran 0 chunk-items 0 births 0 open 0 waits no");
}

/* A host that is killed leaves whole lines, and workers without an end; %p is its number. */
static void killed_host(void)
{
    setenv("TINE_TRACE", file("host-%p"), 1);
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        tine_pool *pool = pool_of(TINE_START_FORKSERVER, 0, 1);
        run(pool, 10, works);
        tine_id id;
        CHECK(tine_submit(pool, works, NULL, 0, NULL, &id) == 0);
        raise(SIGKILL);
    }
    int status;
    CHECK(waitpid(host, &status, 0) == host && WIFSIGNALED(status));
    char name[40];
    snprintf(name, sizeof name, "host-%d", (int)host);
    const char *has = contents(name, "--killed");
    CHECK(!has || strstr(has, "tasks 10 ") || strstr(has, "tasks 11 "));
    CHECK(!has || strstr(has, "open 1 "));
}

/* A forked child writes nothing of what its parent has gathered. */
static void forked_child(void)
{
    setenv("TINE_TRACE", file("forked"), 1);
    tine_pool *pool = pool_of(TINE_START_FORKSERVER, 0, 1);
    tine_id id;
    CHECK(tine_submit(pool, works, NULL, 0, NULL, &id) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine_pool_destroy(pool);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(tine_pool_shutdown(pool, TINE_FOREVER) == 0);
    tine_pool_destroy(pool);
    expect("forked", "pools 1 submitted 1 tasks 1 died 0 never-ran 0 chunk-items 0 births 1 open 0 waits yes");
}

static void refused(const char *path, int code, const char *why)
{
    setenv("TINE_TRACE", path, 1);
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.workers = 1;
    options.error = &error;
    tine_pool *pool = NULL;
    int rc = tine_pool_create(&options, &pool);
    if (rc != code || !strstr(error.text, path) || !strstr(error.text, why) || !strstr(error.text, "TINE_TRACE")) {
        fprintf(stderr, "%s: %d, %s\n", path, rc, error.text);
        exit(1);
    }
}

static void files_that_cannot_be(void)
{
    refused("/no/such/folder/trace", -ENOENT, "open");
    refused(folder, -EISDIR, "open");
    CHECK(mkfifo(file("pipe"), 0600) == 0);
    refused(file("pipe"), -EINVAL, "regular");
    refused("/dev/null", -EINVAL, "regular");
    FILE *other = fopen(file("other"), "w");
    CHECK(other && fputs("mine\n", other) >= 0 && fclose(other) == 0);
    refused(file("other"), -EINVAL, "not a trace");
    /* Behind what was cut, or closed, nothing could be read. */
    const char *torn[] = {"[", "[\n{\"a\":1},\n{\"b\"", "[\n{\"a\":1}]\n", "[\n{\"a\":1}\n"};
    for (size_t i = 0; i < sizeof torn / sizeof *torn; i++) {
        other = fopen(file("torn"), "w");
        CHECK(other && fputs(torn[i], other) >= 0 && fclose(other) == 0);
        refused(file("torn"), -EINVAL, "whole line");
    }
    struct stat kept;
    CHECK(stat(file("other"), &kept) == 0 && kept.st_size == 5);
    setenv("TINE_TRACE", "", 1);
    tine_pool_destroy(pool_of(TINE_START_FORKSERVER, TINE_INLINE, 0));
}

/* A limit on the length of files ends the trace, and neither the host nor what it computes. */
static void full(void)
{
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        setenv("TINE_TRACE", file("full"), 1);
        tine_pool *pool = pool_of(TINE_START_FORKSERVER, TINE_INLINE, 0);
        struct rlimit limit = {2000, 2000};
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        run(pool, 100, works);
        tine_pool_destroy(pool);
        _exit(0);
    }
    int status;
    CHECK(waitpid(host, &status, 0) == host && status == 0);
    struct stat length;
    CHECK(stat(file("full"), &length) == 0 && length.st_size <= 2000);
}

int main(int argc, char **argv)
{
    CHECK(tine_init(argc, argv) == 0);
    snprintf(folder, sizeof folder, "%s/tine-trace-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    CHECK(mkdtemp(folder) != NULL);
    two_copies(argc, argv); /* first, while neither has counted any */
    tasks_and_deaths();
    maps();
    cancelled();
    many_write();
    begin_together();
    killed_host();
    forked_child();
    files_that_cannot_be();
    full();
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK(system(command) == 0);
    return 0;
}
