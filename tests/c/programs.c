/* What supervisor and workers are executed as: scripts with an interpreter, programs with arguments, a loader with a program, from wherever
 * the host happens to be.
 *
 * This program is all of them. As an interpreter, "run-script SCRIPT ...", it reads its script first, as they do. As a host it is called with
 * "host WORD", and refuses to be anything without that. */
#include "family.h"
#include <sys/wait.h>

static int arguments_given;
static char **arguments;

static int count_arguments(tine_task *task)
{
    size_t length;
    const char *wanted = (const char *)tine_input(task, &length);
    for (int i = 1; i < arguments_given; i++) {
        if (strcmp(arguments[i], wanted) == 0) {
            return i;
        }
    }
    return tine_fail(task, -ENOENT, "no argument %s", wanted);
}

static tine_pool *create(int start, const char *path, const char *const *with)
{
    tine_error error = TINE_ERROR_INIT;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.worker = &worker;
    tine_pool *pool;
    options.error = &error;
    options.workers = 2;
    options.start = start;
    options.worker_path = path;
    options.worker_arguments = with;
    worker.directory = "/usr";
    if (tine_pool_create(&options, &pool) != 0) {
        fprintf(stderr, "%s, %s: %s\n", start_name(start), path ? path : "this program", error.text);
        exit(1);
    }
    return pool;
}

static void check_argument(tine_pool *pool, const char *argument, int place)
{
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_result result = TINE_RESULT_INIT;
    tine_id id;
    options.name = "count_arguments";
    CHECK_RC(tine_submit(pool, NULL, argument, strlen(argument) + 1, &options, &id), 0);
    CHECK_RC(tine_wait(pool, id, HANG_NS, &result), 0);
    CHECK_EQ(result.status, place);
    tine_result_release(pool, &result);
}

static void check_process(int start, const char *path, const char *const *with, const char *argument, int place)
{
    tine_error error = TINE_ERROR_INIT;
    tine_worker_options worker = TINE_WORKER_OPTIONS_INIT;
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    options.worker = &worker;
    tine_exit end = TINE_EXIT_INIT;
    tine_process *process;
    options.error = &error;
    options.name = "count_arguments";
    options.start = start;
    options.worker_path = path;
    options.worker_arguments = with;
    worker.directory = "/usr";
    if (tine_process_start(&options, NULL, argument, strlen(argument) + 1, &process) != 0) {
        fprintf(stderr, "process, %s: %s\n", start_name(start), error.text);
        exit(1);
    }
    CHECK_RC(tine_process_wait(process, HANG_NS, &end), 0);
    CHECK_EQ(end.status, place);
    tine_process_close(process);
}

/* By a relative path, with a working directory elsewhere: what is executed must not depend on where its processes are to be. */
static void scripts(void)
{
    static const char *const with[] = {"one", "two words", NULL};
    char folder[] = "/tmp/tine-programs-XXXXXX", program[4096], before[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(length > 0 && mkdtemp(folder) && getcwd(before, sizeof before));
    program[length] = 0;
    CHECK_EQ(chdir(folder), 0);
    FILE *script = fopen("script", "w");
    CHECK(script && fprintf(script, "#!%s run-script\nnothing that this interpreter minds\n", program) > 0);
    fclose(script);
    CHECK_EQ(chmod("script", 0755), 0);
    for (int i = 0; i < 2; i++) {
        tine_pool *pool = create(all_starts[i], "./script", with);
        check_argument(pool, "run-script", 1);
        check_argument(pool, "./script", 2);
        check_argument(pool, "one", 3);
        check_argument(pool, "two words", 4);
        tine_pool_destroy(pool);
        check_process(all_starts[i], "./script", with, "two words", 4);
    }
    CHECK_EQ(unlink("script"), 0);
    CHECK_EQ(chdir(before), 0);
    CHECK_EQ(rmdir(folder), 0);
}

/* The host's own program gets what the host got, though the host has written over it since. */
static int be_host(void)
{
    for (int i = 0; i < 2; i++) {
        char word[32];
        snprintf(word, sizeof word, "%s", arguments[2]);
        memset(arguments[2], 'x', strlen(arguments[2]));
        tine_pool *pool = create(all_starts[i], NULL, NULL);
        check_argument(pool, word, 2);
        tine_pool_destroy(pool);
        check_process(all_starts[i], NULL, NULL, word, 2);
        memcpy(arguments[2], word, strlen(word));
    }
    return 0;
}

static void run(char *const *command)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execv(command[0], command);
        _exit(127);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* The file that the C library's loader is mapped from. */
static void find_loader(char *path, size_t size)
{
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps);
    path[0] = 0;
    while (fgets(line, sizeof line, maps)) {
        char *at = strchr(line, '/');
        if (at && (strstr(at, "/ld-linux") || strstr(at, "/ld-musl") || strstr(at, "/ld-2"))) {
            snprintf(path, size, "%.*s", (int)strcspn(at, "\n"), at);
        }
    }
    fclose(maps);
    CHECK(path[0]);
}

static void hosts(void)
{
    char program[4096], loader[4096], host[] = "host", word[] = "some-word";
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(length > 0);
    program[length] = 0;
    find_loader(loader, sizeof loader);
    char *const plain[] = {program, host, word, NULL};
    char *const loaded[] = {loader, program, host, word, NULL};
    run(plain);
    run(loaded);
}

static void bad_options(void)
{
    static const char *const with[] = {"one", NULL};
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_pool *pool;
    options.error = &error;
    options.worker_arguments = with;
    CHECK_RC(tine_pool_create(&options, &pool), -EINVAL);
    CHECK(strstr(error.text, "worker_arguments"));
}

int main(int argc, char **argv)
{
    int is_script = argc > 2 && strcmp(argv[1], "run-script") == 0;
    int is_host = argc > 2 && strcmp(argv[1], "host") == 0;
    arguments_given = argc;
    arguments = argv;
    if (is_script && access(argv[2], R_OK) != 0) {
        fprintf(stderr, "%s: there is no such script\n", argv[2]);
        return 2;
    }
    if (!is_script && !is_host && getenv("TINE_CHILD")) {
        return 3; /* Executed without its arguments. */
    }
    CHECK_RC(tine_register("count_arguments", count_arguments), 0);
    tine_init(argc, argv);
    if (is_host) {
        return be_host();
    }
    CHECK(!is_script);
    scripts();
    hosts();
    bad_options();
    return 0;
}
