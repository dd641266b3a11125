/* word-count DIRECTORY: lines, words and bytes of each file, and their sum.
 *
 * One task for each file, whose result is a struct in the task's output. tine_next hands the results over as they
 * come, in any order: nothing waits for the largest file.
 */
#define _DEFAULT_SOURCE /* for d_type */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tine.h>

enum { WINDOW = 1000 }; /* so many files are on their way at once, from their submission until their result is taken */

struct counts { unsigned long long lines, words, bytes; };

/* All files together. */
struct total { struct counts counts; int failed; };

static int count(tine_task *task)
{
    const char *path = tine_input(task, NULL);
    struct counts *counts = tine_output(task, sizeof *counts);
    if (!counts)
        return -ENOMEM;
    struct stat status;
    if (stat(path, &status))
        return tine_fail(task, -errno, "%s", strerror(errno));
    if (!S_ISREG(status.st_mode)) /* reading a pipe might never end */
        return tine_fail(task, -EINVAL, "it is not a regular file");
    FILE *file = fopen(path, "r");
    if (!file)
        return tine_fail(task, -errno, "%s", strerror(errno));
    *counts = (struct counts){0};
    int byte, before = ' ';
    while ((byte = getc(file)) != EOF) {
        counts->bytes++;
        counts->lines += byte == '\n';
        counts->words += isspace(before) && !isspace(byte);
        before = byte;
    }
    int failed = ferror(file) ? errno : 0;
    fclose(file);
    return failed ? tine_fail(task, -failed, "%s", strerror(failed)) : 0;
}

static void show(const struct counts *counts, const char *name)
{
    printf("%10llu %10llu %10llu  %s\n", counts->lines, counts->words, counts->bytes, name);
}

static int may_be_file(const struct dirent *entry)
{
    /* A link may lead to a file, and some file systems don't say. */
    return entry->d_type == DT_REG || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
}

/* Waits for the next result, and shows it. Returns 0; TINE_EEMPTY: no task is left. */
static int take_one(tine_pool *pool, struct total *total)
{
    tine_result result = TINE_RESULT_INIT;
    int rc = tine_next(pool, TINE_FOREVER, &result);
    if (rc)
        return rc;
    const char *name = result.user;
    if (result.status == 0) {
        const struct counts *counts = result.data;
        show(counts, name);
        total->counts.lines += counts->lines;
        total->counts.words += counts->words;
        total->counts.bytes += counts->bytes;
    } else {
        fprintf(stderr, "word-count: %s: %s\n", name, result.message);
        total->failed++;
    }
    tine_result_release(pool, &result);
    return 0;
}

/* A task for each file, and the results as they come: however many files there are, only so many are on their way. The path travels as
   the task's input, and .user brings the name back with the result. */
static int count_all(tine_pool *pool, const char *directory, struct dirent **files, int n, struct total *total)
{
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        char path[4096];
        int length = snprintf(path, sizeof path, "%s/%s", directory, files[i]->d_name);
        if (length >= (int)sizeof path) {
            fprintf(stderr, "word-count: %s: %s\n", files[i]->d_name, strerror(ENAMETOOLONG));
            total->failed++;
            continue;
        }
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = files[i]->d_name;
        /* -EAGAIN: the window is full, until a result has been taken. */
        while ((rc = tine_submit(pool, count, path, (size_t)length + 1, &options, NULL)) == -EAGAIN && take_one(pool, total) == 0)
            ;
    }
    while (rc == 0)
        rc = take_one(pool, total);
    return rc == TINE_EEMPTY ? 0 : rc;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    if (argc != 2) {
        fputs("usage: word-count DIRECTORY\n", stderr);
        return 2;
    }
    struct dirent **files;
    int n = scandir(argv[1], &files, may_be_file, alphasort);
    if (n < 0) {
        fprintf(stderr, "word-count: %s: %s\n", argv[1], strerror(errno));
        return 2;
    }
    tine_pool *pool = NULL;
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.error = &error;
    options.window_tasks = WINDOW;
    struct total total = {{0}, 0};
    int rc = tine_pool_create(&options, &pool);
    if (rc == 0)
        rc = count_all(pool, argv[1], files, n, &total);
    if (rc)
        fprintf(stderr, "word-count: %s\n", error.text[0] ? error.text : tine_strerror(rc));
    else
        show(&total.counts, "in all");
    tine_pool_destroy(pool);
    for (int i = 0; i < n; i++)
        free(files[i]);
    free(files);
    return rc ? 2 : total.failed > 0;
}
