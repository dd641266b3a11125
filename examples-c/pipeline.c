/* pipeline [--crash-in decode|scale|encode] [--crash-on FILE] IN_DIR OUT_DIR: shrinks the pictures of a directory in three stages.
 *
 * Each stage has a pool of its own, so that a crash in the decoder, say, is the decoder's. The pictures lie in a ring of frames in
 * memory that all three pools share, and only a frame's address goes from stage to stage. There are never more pictures on their way
 * than frames, whichever stage is slow, and what became of them is said in the order in which they came in. A worker that dies costs
 * the one frame that it was at.
 */
#define _GNU_SOURCE /* for getopt_long */
#include "files.h"
#include "image.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tine.h>

enum { STAGES = 3, FRAMES = 8, WIDTH = 256, QUALITY = 85, PATH = 4096, DONE = STAGES };
static const char *const names[STAGES] = {"decode", "scale", "encode"};

/* A picture on its way. It belongs to one process at a time: to the worker of the stage that it is in, else to the host. */
struct frame {
    char in[PATH], out[PATH];
    char failed[REASON]; /* why, or empty */
    int stage, crash_in;
    size_t bytes;        /* of the encoded picture */
    struct image image;  /* its .pixels are only those of the process that has it in its hands */
    unsigned char pixels[32 << 20]; /* of which the system gives what is written to */
};

/* ---- The stages, in their workers ---- */

static int keep(tine_task *task, struct frame *frame, struct image *image)
{
    size_t bytes = image->width * image->height * image->channels;
    int rc = 0;
    if (bytes <= sizeof frame->pixels) {
        memcpy(frame->pixels, image->pixels, bytes);
        frame->image = *image;
    } else {
        rc = tine_fail(task, -EFBIG, "%zu x %zu pixels are too many for a frame", image->width, image->height);
    }
    image_free(image);
    return rc;
}

/* The frame's picture in memory of this process, which the calls of image.h want to free. */
static int take(tine_task *task, const struct frame *frame, struct image *image)
{
    size_t bytes = frame->image.width * frame->image.height * frame->image.channels;
    *image = frame->image;
    image->pixels = malloc(bytes);
    if (!image->pixels)
        return tine_fail(task, -ENOMEM, "no memory for %zu bytes", bytes);
    memcpy(image->pixels, frame->pixels, bytes);
    return 0;
}

static struct frame *frame_of(tine_task *task)
{
    struct frame *frame = *(struct frame *const *)tine_input(task, NULL);
    if (frame->crash_in == frame->stage)
        abort();
    return frame;
}

static int decode(tine_task *task)
{
    struct frame *frame = frame_of(task);
    struct image image;
    char reason[IMAGE_REASON];
    if (image_read(&image, frame->in, WIDTH, reason))
        return tine_fail(task, -EINVAL, "%s", reason);
    return keep(task, frame, &image);
}

static int scale(tine_task *task)
{
    struct frame *frame = frame_of(task);
    struct image image;
    char reason[IMAGE_REASON];
    int rc = take(task, frame, &image);
    if (rc)
        return rc;
    if (image_shrink(&image, WIDTH, reason)) {
        image_free(&image);
        return tine_fail(task, -EINVAL, "%s", reason);
    }
    return keep(task, frame, &image);
}

static int encode(tine_task *task)
{
    struct frame *frame = frame_of(task);
    struct image image = frame->image;
    char reason[IMAGE_REASON];
    image.pixels = frame->pixels; /* it is only read */
    return image_write(&image, frame->out, QUALITY, &frame->bytes, reason) ? tine_fail(task, -EINVAL, "%s", reason) : 0;
}

/* ---- The host ---- */

struct pipeline {
    tine_segment *memory;
    struct frame *frames; /* the ring: picture number n is in frames[n % FRAMES] */
    tine_pool *pools[STAGES];
};

static int begin_stage(struct pipeline *line, struct frame *frame)
{
    static const tine_fn stages[STAGES] = {decode, scale, encode};
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    options.user = frame;
    tine_id id;
    return tine_submit(line->pools[frame->stage], stages[frame->stage], &frame, sizeof frame, &options, &id);
}

/* Frames that have left a stage go to the next one, or are done. */
static int move_on(struct pipeline *line, int stage)
{
    int rc;
    tine_result result = TINE_RESULT_INIT;
    while ((rc = tine_next(line->pools[stage], 0, &result)) == 0) {
        struct frame *frame = result.user;
        frame->stage++;
        if (result.status < 0) {
            snprintf(frame->failed, sizeof frame->failed, "%s: %s", names[stage], result.message);
            frame->stage = DONE;
        }
        tine_result_release(line->pools[stage], &result);
        if (frame->stage != DONE && (rc = begin_stage(line, frame)))
            return rc;
    }
    return rc == -EAGAIN || rc == TINE_EEMPTY ? 0 : rc;
}

static void fill(struct frame *frame, const struct file *file, int crash_in, const char *crash_on)
{
    frame->stage = 0;
    frame->failed[0] = 0;
    frame->crash_in = strcmp(file->name, crash_on) == 0 ? crash_in : -1;
    if (snprintf(frame->in, PATH, "%s", file->in) >= PATH || snprintf(frame->out, PATH, "%s", file->out) >= PATH) {
        snprintf(frame->failed, sizeof frame->failed, "%s", strerror(ENAMETOOLONG));
        frame->stage = DONE;
    }
}

static int run(struct pipeline *line, struct files files, int crash_in, const char *crash_on, size_t *failed)
{
    size_t begun = 0, told = 0;
    struct pollfd news[STAGES];
    int rc = 0;
    for (int stage = 0; stage < STAGES; stage++) {
        news[stage] = (struct pollfd){.fd = tine_pool_fd(line->pools[stage]), .events = POLLIN};
        if (news[stage].fd < 0)
            return news[stage].fd;
    }
    while (told < files.count) {
        while (begun < files.count && begun - told < FRAMES) {
            struct frame *frame = &line->frames[begun % FRAMES];
            fill(frame, &files.at[begun++], crash_in, crash_on);
            if (frame->stage != DONE && (rc = begin_stage(line, frame)))
                return rc;
        }
        for (int stage = 0; stage < STAGES; stage++)
            if ((rc = move_on(line, stage)))
                return rc;
        size_t before = told;
        for (struct frame *frame; told < begun && (frame = &line->frames[told % FRAMES])->stage == DONE; told++) {
            const char *name = files.at[told].name;
            if (frame->failed[0])
                printf("%-20s %s\n", name, frame->failed);
            else
                printf("%-20s %zu x %zu, %zu bytes\n", name, frame->image.width, frame->image.height, frame->bytes);
            *failed += frame->failed[0] != 0;
        }
        if (told == before && poll(news, STAGES, -1) < 0 && errno != EINTR)
            return -errno;
    }
    return 0;
}

static int open_line(struct pipeline *line, tine_error *error)
{
    tine_segment_options memory = TINE_SEGMENT_OPTIONS_INIT;
    memory.error = error;
    int rc = tine_segment_create(FRAMES * sizeof *line->frames, &memory, &line->memory);
    if (rc)
        return rc;
    line->frames = tine_segment_address(line->memory);
    for (int stage = 0; stage < STAGES; stage++) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.error = error;
        options.workers = 2;
        if ((rc = tine_pool_create(&options, &line->pools[stage])) ||
            (rc = tine_pool_share(line->pools[stage], line->memory, TINE_FOREVER)))
            return rc;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"crash-in", required_argument, NULL, 'i'}, {"crash-on", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
    const char *crash_on = "";
    int option, crash_in = -1;
    bool bad = false;
    tine_init(argc, argv);
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'o')
            crash_on = optarg;
        for (int stage = 0; option == 'i' && stage < STAGES; stage++)
            if (strcmp(names[stage], optarg) == 0)
                crash_in = stage;
        bad |= option == '?' || (option == 'i' && crash_in < 0);
    }
    struct files files = {0};
    if (bad || argc - optind != 2) {
        fputs("usage: pipeline [--crash-in decode|scale|encode] [--crash-on FILE] IN_DIR OUT_DIR\n", stderr);
        return 2;
    }
    if (files_list(&files, argv[optind], argv[optind + 1])) {
        files_free(files);
        return 2;
    }
    size_t failed = 0;
    struct pipeline line = {0};
    tine_error error = TINE_ERROR_INIT;
    int rc = mkdir(argv[optind + 1], 0777) && errno != EEXIST ? -errno : 0;
    if (rc)
        snprintf(error.text, sizeof error.text, "%s: %s", argv[optind + 1], tine_strerror(rc));
    else
        rc = open_line(&line, &error);
    if (rc == 0)
        rc = run(&line, files, crash_in, crash_on, &failed);
    for (int stage = 0; stage < STAGES; stage++)
        tine_pool_destroy(line.pools[stage]);
    if (line.memory)
        tine_segment_close(line.memory);
    files_free(files);
    if (rc)
        fprintf(stderr, "pipeline: %s\n", error.text[0] ? error.text : tine_strerror(rc));
    return rc ? 2 : failed ? 1 : 0;
}
