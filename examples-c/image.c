/* Read, shrink, write. Knows nothing of processes: thumbnails.c calls it alone or in a pool's workers. */
#include "image.h"

#include <errno.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jpeglib.h>
#include <png.h>

enum { MOST_PIXELS = 1 << 28 }; /* 1 GiB as RGBA: more is rather a damaged header than a picture */

static int fail(char reason[IMAGE_REASON], const char *what)
{
    snprintf(reason, IMAGE_REASON, "%s", what);
    return -1;
}

static int allocate(struct image *image, char reason[IMAGE_REASON])
{
    if (image->width == 0 || image->height == 0 || image->width > MOST_PIXELS / image->height)
        return fail(reason, "its size is not one of a picture");
    image->pixels = malloc(image->width * image->height * image->channels);
    return image->pixels ? 0 : fail(reason, strerror(ENOMEM));
}

/* ---- JPEG ---- */

/* libjpeg reports by calling back and expects not to be returned to. */
struct jpeg_trouble {
    struct jpeg_error_mgr base;
    jmp_buf back;
    char *reason;
};

static void jpeg_fail(j_common_ptr codec)
{
    struct jpeg_trouble *trouble = (struct jpeg_trouble *)codec->err;
    char text[JMSG_LENGTH_MAX];
    codec->err->format_message(codec, text);
    fail(trouble->reason, text);
    longjmp(trouble->back, 1);
}

/* Warnings, level -1, mean damage that libjpeg would paint over; half a picture in grey is no thumbnail. */
static void jpeg_message(j_common_ptr codec, int level)
{
    if (level < 0)
        jpeg_fail(codec);
}

static struct jpeg_error_mgr *jpeg_report_to(struct jpeg_trouble *trouble, char reason[IMAGE_REASON])
{
    jpeg_std_error(&trouble->base);
    trouble->base.error_exit = jpeg_fail;
    trouble->base.emit_message = jpeg_message;
    trouble->reason = reason;
    return &trouble->base;
}

static int read_jpeg(struct image *image, FILE *file, size_t width, char reason[IMAGE_REASON])
{
    struct jpeg_decompress_struct codec;
    struct jpeg_trouble trouble;
    codec.err = jpeg_report_to(&trouble, reason);
    if (setjmp(trouble.back)) {
        jpeg_destroy_decompress(&codec);
        return -1;
    }
    jpeg_create_decompress(&codec);
    jpeg_stdio_src(&codec, file);
    jpeg_read_header(&codec, TRUE);
    if (codec.num_components != 1 && codec.num_components != 3) {
        jpeg_destroy_decompress(&codec);
        return fail(reason, "its colours are CMYK, which this program doesn't convert");
    }
    codec.out_color_space = codec.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    /* The decoder can reduce by eighths, which costs less than decoding it all; at twice the width it leaves the
       filter enough to do a good job. */
    codec.scale_denom = 8;
    codec.scale_num = 8;
    while (codec.scale_num > 1 && (codec.scale_num - 1) * (size_t)codec.image_width / 8 >= 2 * width)
        codec.scale_num--;
    jpeg_start_decompress(&codec);

    image->width = codec.output_width;
    image->height = codec.output_height;
    image->channels = (size_t)codec.output_components;
    if (allocate(image, reason)) {
        jpeg_destroy_decompress(&codec);
        return -1;
    }
    while (codec.output_scanline < codec.output_height) {
        JSAMPROW row = image->pixels + codec.output_scanline * image->width * image->channels;
        jpeg_read_scanlines(&codec, &row, 1);
    }
    jpeg_finish_decompress(&codec);
    jpeg_destroy_decompress(&codec);
    return 0;
}

static int write_jpeg(const struct image *image, FILE *file, int quality, char reason[IMAGE_REASON])
{
    struct jpeg_compress_struct codec;
    struct jpeg_trouble trouble;
    codec.err = jpeg_report_to(&trouble, reason);
    if (setjmp(trouble.back)) {
        jpeg_destroy_compress(&codec);
        return -1;
    }
    jpeg_create_compress(&codec);
    jpeg_stdio_dest(&codec, file);
    codec.image_width = (JDIMENSION)image->width;
    codec.image_height = (JDIMENSION)image->height;
    codec.input_components = (int)image->channels;
    codec.in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&codec);
    jpeg_set_quality(&codec, quality, TRUE);
    jpeg_start_compress(&codec, TRUE);
    while (codec.next_scanline < codec.image_height) {
        JSAMPROW row = image->pixels + codec.next_scanline * image->width * image->channels;
        jpeg_write_scanlines(&codec, &row, 1);
    }
    jpeg_finish_compress(&codec);
    jpeg_destroy_compress(&codec);
    return 0;
}

/* ---- PNG ---- */

static int read_png(struct image *image, FILE *file, char reason[IMAGE_REASON])
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_stdio(&png, file))
        return fail(reason, png.message);
    /* Palettes and 16 bits become plain 8-bit samples; most 16-bit files are sRGB, whatever the standard says. */
    png.format &= PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA;
    png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;

    image->width = png.width;
    image->height = png.height;
    image->channels = PNG_IMAGE_SAMPLE_CHANNELS(png.format);
    int rc = allocate(image, reason);
    if (rc == 0 && !png_image_finish_read(&png, NULL, image->pixels, 0, NULL))
        rc = fail(reason, png.message);
    png_image_free(&png);
    return rc;
}

static int write_png(const struct image *image, FILE *file, char reason[IMAGE_REASON])
{
    static const png_uint_32 formats[] = {0, PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
    png_image png = {
        .version = PNG_IMAGE_VERSION,
        .width = (png_uint_32)image->width,
        .height = (png_uint_32)image->height,
        .format = formats[image->channels],
    };
    if (!png_image_write_to_stdio(&png, file, 0, image->pixels, 0, NULL))
        return fail(reason, png.message);
    return 0;
}

/* ---- Shrinking ---- */

/* The part of source pixel `at` that lies between begin and end, which are source coordinates. */
static float overlap(size_t at, double begin, double end)
{
    double left = (double)at > begin ? (double)at : begin;
    double right = (double)(at + 1) < end ? (double)(at + 1) : end;
    return (float)(right - left);
}

/* Adds one source row, with this weight, to the sums of a row of the thumbnail. Colours count as much as they are
   opaque, or else the invisible colour of transparent pixels would shine through at the edges. */
static void add_row(const struct image *image, size_t y, float weight, float *sums, size_t width)
{
    const unsigned char *row = image->pixels + y * image->width * image->channels;
    size_t colours = image->channels - (image->channels % 2 == 0);
    double step = (double)image->width / (double)width;
    for (size_t x = 0; x < width; x++, sums += image->channels) {
        double begin = (double)x * step;
        double end = x + 1 == width ? (double)image->width : begin + step;
        for (size_t at = (size_t)begin; at < image->width && (double)at < end; at++) {
            const unsigned char *pixel = row + at * image->channels;
            float area = weight * overlap(at, begin, end);
            if (colours < image->channels) {
                area *= (float)pixel[colours] / 255;
                sums[colours] += area * 255;
            }
            for (size_t c = 0; c < colours; c++)
                sums[c] += area * (float)pixel[c];
        }
    }
}

/* Sums become samples: divided by the area they were taken over, or by the opaque part of it. */
static void finish_row(const struct image *image, const float *sums, size_t width, float area, unsigned char *out)
{
    size_t colours = image->channels - (image->channels % 2 == 0);
    for (size_t x = 0; x < width; x++, sums += image->channels, out += image->channels) {
        float opaque = area;
        if (colours < image->channels) {
            opaque = sums[colours] / 255;
            out[colours] = (unsigned char)(sums[colours] / area + 0.5f);
        }
        for (size_t c = 0; c < colours; c++) {
            float sample = opaque > 0 ? sums[c] / opaque + 0.5f : 0;
            out[c] = sample < 255 ? (unsigned char)sample : 255;
        }
    }
}

/* Each pixel of the thumbnail is the mean of the area of the picture that it covers. */
int image_shrink(struct image *image, size_t width, char reason[IMAGE_REASON])
{
    if (width >= image->width)
        return 0;
    struct image small = *image;
    small.width = width;
    small.height = (image->height * width + image->width / 2) / image->width;
    if (small.height == 0)
        small.height = 1;
    if (allocate(&small, reason))
        return -1;
    size_t samples = small.width * small.channels;
    float *sums = malloc(samples * sizeof *sums);
    if (!sums) {
        image_free(&small);
        return fail(reason, strerror(ENOMEM));
    }
    double step = (double)image->height / (double)small.height;
    float area = (float)(step * (double)image->width / (double)width);
    for (size_t y = 0; y < small.height; y++) {
        double begin = (double)y * step;
        double end = y + 1 == small.height ? (double)image->height : begin + step;
        memset(sums, 0, samples * sizeof *sums);
        for (size_t at = (size_t)begin; at < image->height && (double)at < end; at++)
            add_row(image, at, overlap(at, begin, end), sums, width);
        finish_row(image, sums, width, area, small.pixels + y * samples);
    }
    free(sums);
    image_free(image);
    *image = small;
    return 0;
}

/* ---- Files ---- */

enum image_format image_format(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0))
        return IMAGE_JPEG;
    return dot && strcasecmp(dot, ".png") == 0 ? IMAGE_PNG : IMAGE_UNKNOWN;
}

int image_read(struct image *image, const char *path, size_t width, char reason[IMAGE_REASON])
{
    *image = (struct image){.format = image_format(path)};
    FILE *file = fopen(path, "rb");
    if (!file)
        return fail(reason, strerror(errno));
    int rc;
    switch (image->format) {
    case IMAGE_JPEG: rc = read_jpeg(image, file, width, reason); break;
    case IMAGE_PNG: rc = read_png(image, file, reason); break;
    default: rc = fail(reason, "its name says neither JPEG nor PNG"); break;
    }
    fclose(file);
    if (rc)
        image_free(image);
    return rc;
}

int image_write(const struct image *image, const char *path, int quality, size_t *bytes, char reason[IMAGE_REASON])
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return fail(reason, strerror(ENAMETOOLONG));
    FILE *file = fopen(part, "wb");
    if (!file)
        return fail(reason, strerror(errno));
    int rc = image->format == IMAGE_JPEG ? write_jpeg(image, file, quality, reason) : write_png(image, file, reason);
    long length = ftell(file);
    if (fclose(file) && rc == 0)
        rc = fail(reason, strerror(errno));
    /* Renamed when whole: a process may be killed at any time, and half a thumbnail would look like one. */
    if (rc == 0 && rename(part, path))
        rc = fail(reason, strerror(errno));
    if (rc)
        remove(part);
    else
        *bytes = (size_t)length;
    return rc;
}

void image_free(struct image *image)
{
    free(image->pixels);
    image->pixels = NULL;
}
