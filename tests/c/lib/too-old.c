/* On a kernel that is too old, tine_init says so, with its name and what it lacks, and so does who wants a pool all the same. */
#include <tine.h>
#include "../check.h"
#include <errno.h>
#include <sys/utsname.h>

static int lines;

static int nothing(tine_task *task)
{
    (void)task;
    return 0;
}

static void heard(int level, const char *text, void *user)
{
    struct utsname name;
    CHECK_EQ(uname(&name), 0);
    CHECK_EQ(level, TINE_LOG_WARNING);
    CHECK(strstr(text, "tine_init: tine needs Linux 5.4 or newer") == text);
    CHECK(strstr(text, name.release) != NULL);
    CHECK(strstr(text, "which has no ") != NULL);
    puts(text);
    lines += user == &lines;
}

int main(int argc, char **argv)
{
    tine_pool *pool = NULL;
    tine_process *process = NULL;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_process_options of_process = TINE_PROCESS_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;

    tine_set_log(heard, &lines);
    CHECK_RC(tine_init(argc, argv), -ENOSYS);
    CHECK_EQ(lines, 1);
    options.error = &error;
    CHECK_RC(tine_pool_create(&options, &pool), -ENOSYS);
    CHECK(strstr(error.text, "tine needs Linux 5.4 or newer") == error.text);
    of_process.error = &error;
    error.text[0] = 0;
    CHECK_RC(tine_process_start(&of_process, nothing, NULL, 0, &process), -ENOSYS);
    CHECK(strstr(error.text, "tine needs Linux 5.4 or newer") == error.text);
    CHECK(pool == NULL && process == NULL);
    return 0;
}
