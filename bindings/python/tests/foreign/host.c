/* A host in C with workers in Python: host START PYTHON MODULE. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <tine.h>

static tine_pool *pool;

/* The output of a call, or why there is none: the name of its code and its message. */
static void call(const char *name, const void *input, size_t length)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    options.name = name;
    int rc = tine_submit(pool, NULL, input, length, &options, &id);
    if (rc == 0)
        rc = tine_wait(pool, id, TINE_FOREVER, &result);
    if (rc) {
        printf("%s: %s\n", name, tine_errname(rc));
        return;
    }
    if (result.status < 0)
        printf("%s: %s %s\n", name, tine_errname(result.status), result.status == TINE_EDIED ? "" : result.message);
    else if (result.length > 8 && memcmp(result.data, "\xc1TINE\1\0\0", 8) == 0)
        printf("%s: msgpack %d\n", name, ((const unsigned char *)result.data)[8]);
    else
        printf("%s: %.*s\n", name, (int)result.length, (const char *)result.data);
    tine_result_release(pool, &result);
}

int main(int argc, char **argv)
{
    const char *arguments[] = {"-m", "libtine.worker", argc == 4 ? argv[3] : NULL, NULL};
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    if (argc != 4)
        return 2;
    options.error = &error;
    options.workers = 2;
    options.start = strcmp(argv[1], "spawn") == 0 ? TINE_START_SPAWN : TINE_START_FORKSERVER;
    options.worker_path = argv[2];
    options.worker_arguments = arguments;
    if (tine_pool_create(&options, &pool)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    call("shout", "hello", 5);
    call("total", "\xc1TINE\1\0\0\x93\1\2\3", 12);
    call("total", "hello", 5);
    call("total", "\xc1TINE\7\0\0", 8);
    call("boom", "x", 1);
    call("die", NULL, 0);
    call("shout", "again", 5);
    call("nobody", NULL, 0);
    tine_mutex *mutex = tine_calloc(pool, 1, sizeof *mutex);
    int64_t *numbers = tine_calloc(pool, 3, sizeof *numbers);
    if (!mutex || !numbers || tine_mutex_init(mutex, 0))
        return 1;
    numbers[2] = 40;
    uint64_t shared[] = {(uint64_t)(uintptr_t)mutex, (uint64_t)(uintptr_t)numbers, 3};
    call("add 2", shared, sizeof shared);
    printf("%d %d %d\n", (int)numbers[0], (int)numbers[1], (int)numbers[2]);
    tine_pool_destroy(pool);
    return 0;
}
