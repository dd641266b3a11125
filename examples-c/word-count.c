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
#include <tine.h>

struct counts { unsigned long long lines, words, bytes; };

static int count(tine_task *task)
{
    const char *path = tine_input(task, NULL);
    struct counts *counts = tine_output(task, sizeof *counts);
    if (!counts)
        return -ENOMEM;
    FILE *file = fopen(path, "r");
    if (!file)
        return tine_fail(task, -errno, "%s: %s", path, strerror(errno));
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
    return failed ? tine_fail(task, -failed, "%s: %s", path, strerror(failed)) : 0;
}

static void show(const struct counts *counts, const char *name)
{
    printf("%10llu %10llu %10llu  %s\n", counts->lines, counts->words, counts->bytes, name);
}

static int regular(const struct dirent *entry)
{
    return entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN; /* some file systems don't say */
}

/* Submits a task for each file; the path travels as its input, and .user brings the name back with the result. */
static int submit_all(tine_pool *pool, const char *directory, struct dirent **files, int n)
{
    for (int i = 0; i < n; i++) {
        char path[4096];
        int length = snprintf(path, sizeof path, "%s/%s", directory, files[i]->d_name);
        if (length >= (int)sizeof path)
            return -ENAMETOOLONG;
        tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
        options.user = files[i]->d_name;
        options.timeout_ns = TINE_FOREVER; /* however many files there are: wait while the pool's window is full */
        tine_id id;
        int rc = tine_submit(pool, count, path, (size_t)length + 1, &options, &id);
        if (rc)
            return rc;
    }
    return 0;
}

/* Returns the number of files that failed, or a code. */
static int take_all(tine_pool *pool, struct counts *sum)
{
    tine_result result = TINE_RESULT_INIT;
    int rc, failed = 0;
    while ((rc = tine_next(pool, TINE_FOREVER, &result)) == 0) {
        if (result.status == 0) {
            const struct counts *counts = result.data;
            show(counts, result.user);
            sum->lines += counts->lines;
            sum->words += counts->words;
            sum->bytes += counts->bytes;
        } else {
            failed++;
            fprintf(stderr, "word-count: %s: %s\n", (const char *)result.user,
                    result.message ? result.message : tine_strerror(result.status));
        }
        tine_result_release(pool, &result);
    }
    return rc == TINE_EEMPTY ? failed : rc;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    if (argc != 2) {
        fputs("usage: word-count DIRECTORY\n", stderr);
        return 2;
    }
    struct dirent **files;
    int n = scandir(argv[1], &files, regular, alphasort);
    if (n < 0) {
        fprintf(stderr, "word-count: %s: %s\n", argv[1], strerror(errno));
        return 2;
    }
    tine_pool *pool = NULL;
    struct counts sum = {0};
    int rc = tine_pool_create(NULL, &pool);
    if (rc == 0)
        rc = submit_all(pool, argv[1], files, n);
    if (rc == 0)
        rc = take_all(pool, &sum);
    if (rc < 0)
        fprintf(stderr, "word-count: %s\n", tine_strerror(rc));
    else
        show(&sum, "in all");
    tine_pool_destroy(pool);
    for (int i = 0; i < n; i++)
        free(files[i]);
    free(files);
    return rc < 0 ? 2 : rc > 0;
}
