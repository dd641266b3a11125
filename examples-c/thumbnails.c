/* thumbnails IN_DIR OUT_DIR: shrinks every JPEG and PNG of a directory, on all cores.
 *
 * One item of a map for each file. A file that is damaged fails with a sentence; a worker that dies takes nothing
 * along but the file that it was at; both end up in the table of what failed and why, and everything else is done.
 * Started by mpirun with TINE_ENGINE=mpi it does the same on the nodes of a cluster.
 */
#define _GNU_SOURCE /* for getopt_long */
#include "files.h"
#include "image.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <tine.h>

static const char usage[] =
    "usage: thumbnails [OPTION]... IN_DIR OUT_DIR\n"
    "  -j N                            workers; one for each CPU unless given\n"
    "  -w WIDTH                        of the thumbnails, in pixels; 256 unless given\n"
    "  -q QUALITY                      of the JPEGs, 1 to 100; 85 unless given\n"
    "  --start forkserver|spawn|fork   how the workers come into being\n"
    "  --serial                        do it all in this process first, and compare\n"
    "  --crash-on FILE                 have the worker that gets this file crash\n"
    "  --trace FILE                    write down who did what when, for Perfetto\n";

/* No file has a longer path: PATH_MAX. */
enum { USAGE = 2, PATH = 4096 };

struct settings {
    unsigned workers, width, quality;
    int start;
    bool serial;
    const char *crash_on, *in, *out;
};

/* What a worker gets and gives. The job has its paths in it, and no pointers: so workers on other machines can have it, too. */
struct job {
    char in[PATH], out[PATH];
    unsigned width, quality;
    bool crash;
};

struct thumb {
    size_t bytes;
};

/* What one way of doing it all came to; failures don't count. */
struct tally {
    size_t images, bytes_in, bytes_out;
    double seconds;
};

/* ---- The work ---- */

static int make_thumbnail(const struct job *job, struct thumb *thumb, char reason[IMAGE_REASON])
{
    struct image image;
    if (image_read(&image, job->in, job->width, reason))
        return -1;
    int rc = image_shrink(&image, job->width, reason);
    if (rc == 0)
        rc = image_write(&image, job->out, (int)job->quality, &thumb->bytes, reason);
    image_free(&image);
    return rc;
}

static int shrink(tine_task *task, const void *in, void *out)
{
    const struct job *job = in;
    char reason[IMAGE_REASON];
    if (job->crash) {
        volatile int *volatile nowhere = NULL; /* volatile twice, or the compiler sees through it */
        *nowhere = 1;
    }
    return make_thumbnail(job, out, reason) == 0 ? 0 : tine_fail(task, -EINVAL, "%s", reason);
}

/* ---- In this process, one after the other ---- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void count(struct tally *tally, const struct file *file, const struct thumb *thumb)
{
    tally->images++;
    tally->bytes_in += file->bytes;
    tally->bytes_out += thumb->bytes;
}

/* False where a path is too long. */
static bool make_job(struct job *job, const struct settings *settings, const struct file *file)
{
    job->width = settings->width;
    job->quality = settings->quality;
    job->crash = settings->crash_on && strcmp(settings->crash_on, file->name) == 0;
    return snprintf(job->in, PATH, "%s", file->in) < PATH && snprintf(job->out, PATH, "%s", file->out) < PATH;
}

static void run_serial(const struct settings *settings, struct files files, struct tally *tally)
{
    tine_progress bar = TINE_PROGRESS_INIT;
    double start = now();
    bar.label = "in this process";
    tine_progress_bar(0, files.count, &bar);
    for (size_t i = 0; i < files.count; i++) {
        const struct file *file = &files.at[i];
        struct job job;
        struct thumb thumb;
        char reason[IMAGE_REASON];
        if (!make_job(&job, settings, file)) {
            bar.failed++;
            continue;
        }
        if (make_thumbnail(&job, &thumb, reason) == 0)
            count(tally, file, &thumb);
        else
            bar.failed++;
        tine_progress_bar(i + 1, files.count, &bar);
    }
    tally->seconds = now() - start;
}

/* ---- In a pool ---- */

struct watch {
    struct files files;
    tine_progress bar;
};

static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct watch *watch = user;
    char *reason = watch->files.at[item].reason;
    watch->bar.failed++;
    const tine_death *death = result->death;
    if (death && death->signal)
        snprintf(reason, REASON, "worker %d died: signal %d, %s", (int)death->pid, (int)death->signal,
                 strsignal((int)death->signal));
    else if (death)
        snprintf(reason, REASON, "worker %d died: exit status %d", (int)death->pid, (int)death->code);
    else
        snprintf(reason, REASON, "%s", result->message ? result->message : tine_strerror(result->status));
}

static void on_progress(size_t done, size_t total, void *user)
{
    tine_progress_bar(done, total, &((struct watch *)user)->bar);
}

static int map_files(tine_pool *pool, const struct settings *settings, struct files files, struct tally *tally,
                     tine_error *error)
{
    struct job *jobs = tine_calloc(pool, files.count, sizeof *jobs);
    struct thumb *thumbs = tine_alloc(pool, files.count * sizeof *thumbs);
    if (!jobs || !thumbs)
        return -ENOMEM; /* the heap goes with the pool: there is nothing to free here */
    for (size_t i = 0; i < files.count; i++) {
        if (!make_job(&jobs[i], settings, &files.at[i])) {
            snprintf(error->text, sizeof error->text, "%s: %s", files.at[i].name, strerror(ENAMETOOLONG));
            return -ENAMETOOLONG;
        }
    }
    struct watch watch = {.files = files, .bar = TINE_PROGRESS_INIT};
    watch.bar.label = "in the pool";
    tine_progress_bar(0, files.count, &watch.bar);

    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.error = error;
    options.chunk = 1; /* a picture takes milliseconds: hand out one at a time, so that the workers end together */
    options.on_failure = on_failure;
    options.progress = on_progress;
    options.user = &watch;
    int rc = tine_map(pool, shrink, jobs, sizeof *jobs, thumbs, sizeof *thumbs, files.count, &options);

    for (size_t i = 0; i < files.count; i++)
        if (!files.at[i].reason[0])
            count(tally, &files.at[i], &thumbs[i]);
    return rc;
}

/* Returns 0, or TINE_EITEMS when there are files whose .reason says why they failed, or another code. The clock
   covers everything: starting the workers and ending them, too. */
static int run_pool(const struct settings *settings, struct files files, struct tally *tally)
{
    double start = now();
    tine_error error = TINE_ERROR_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    options.error = &error;
    options.workers = settings->workers;
    options.start = settings->start;
    tine_pool *pool = NULL;
    int rc = tine_pool_create(&options, &pool);
    if (rc == 0)
        rc = map_files(pool, settings, files, tally, &error);
    tine_pool_destroy(pool);
    tally->seconds = now() - start;
    if (rc && rc != TINE_EITEMS)
        fprintf(stderr, "thumbnails: %s\n", error.text[0] ? error.text : tine_strerror(rc));
    return rc;
}

/* ---- What it came to ---- */

static void show_tally(const char *label, const struct tally *tally)
{
    printf("%-22s %4zu images in %.3f s: %.1f images/s, %.1f MB/s", label, tally->images, tally->seconds,
           (double)tally->images / tally->seconds, (double)tally->bytes_in / 1e6 / tally->seconds);
}

/* Returns how many failed. */
static size_t show_failures(struct files files)
{
    size_t failed = 0;
    int longest = 0;
    for (size_t i = 0; i < files.count; i++) {
        int length = files.at[i].reason[0] ? (int)strlen(files.at[i].name) : 0;
        failed += length > 0;
        longest = length > longest ? length : longest;
    }
    if (failed)
        printf("\n%zu of %zu files failed:\n", failed, files.count);
    for (size_t i = 0; i < files.count; i++)
        if (files.at[i].reason[0])
            printf("  %-*s  %s\n", longest, files.at[i].name, files.at[i].reason);
    return failed;
}

/* ---- Options ---- */

static int number(const char *text, unsigned least, unsigned most, unsigned *out)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || value < least || value > most) {
        fprintf(stderr, "thumbnails: '%s' is not a number from %u to %u\n", text, least, most);
        return -1;
    }
    *out = (unsigned)value;
    return 0;
}

static int start_method(const char *text, int *out)
{
    static const struct { const char *name; int start; } methods[] = {
        {"forkserver", TINE_START_FORKSERVER}, {"spawn", TINE_START_SPAWN}, {"fork", TINE_START_FORK}};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(text, methods[i].name) == 0) {
            *out = methods[i].start;
            return 0;
        }
    fprintf(stderr, "thumbnails: '%s' is no start method\n", text);
    return -1;
}

static int parse(int argc, char **argv, struct settings *settings)
{
    static const struct option options[] = {{"start", required_argument, NULL, 's'},
                                            {"serial", no_argument, NULL, 'S'},
                                            {"crash-on", required_argument, NULL, 'c'},
                                            {"trace", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    int option, rc = 0;
    while (rc == 0 && (option = getopt_long(argc, argv, "j:w:q:", options, NULL)) != -1)
        switch (option) {
        case 'j': rc = number(optarg, 1, 4096, &settings->workers); break;
        case 'w': rc = number(optarg, 1, 100000, &settings->width); break;
        case 'q': rc = number(optarg, 1, 100, &settings->quality); break;
        case 's': rc = start_method(optarg, &settings->start); break;
        case 'S': settings->serial = true; break;
        case 'c': settings->crash_on = optarg; break;
        case 't': rc = setenv("TINE_TRACE", optarg, 1); break; /* pools that are created from now on look there */
        default: rc = -1; break;
        }
    if (rc || argc - optind != 2) {
        fputs(usage, stderr);
        return -1;
    }
    settings->in = argv[optind];
    settings->out = argv[optind + 1];
    return 0;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv); /* returns here; never returns in a worker */
    struct settings settings = {.width = 256, .quality = 85, .start = TINE_START_FORKSERVER};
    struct files files = {0};
    if (parse(argc, argv, &settings) || files_list(&files, settings.in, settings.out)) {
        files_free(files);
        return USAGE;
    }
    if (mkdir(settings.out, 0777) && errno != EEXIST) {
        fprintf(stderr, "thumbnails: %s: %s\n", settings.out, strerror(errno));
        files_free(files);
        return USAGE;
    }
    struct tally serial = {0}, pool = {0};
    if (settings.serial) {
        files_read(files);
        run_serial(&settings, files, &serial);
        show_tally("in this process", &serial);
        putchar('\n');
    }
    int rc = run_pool(&settings, files, &pool), status = USAGE;
    if (rc == 0 || rc == TINE_EITEMS) {
        show_tally("in the pool", &pool);
        if (serial.images && pool.images)
            printf(", %.2f times as fast", (double)pool.images / pool.seconds / ((double)serial.images / serial.seconds));
        printf("\n%zu thumbnails of %.1f KB on average in %s\n", pool.images,
               pool.images ? (double)pool.bytes_out / 1e3 / (double)pool.images : 0, settings.out);
        status = show_failures(files) ? 1 : 0;
    }
    files_free(files);
    return status;
}
