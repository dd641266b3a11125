/* Photographs and drawings in memory: read, shrink, write. JPEG by libjpeg-turbo, PNG by libpng. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stddef.h>

enum { IMAGE_REASON = 200 }; /* room for the sentence that says why something failed */

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG };

struct image {
    enum image_format format;
    size_t width, height;
    size_t channels;       /* 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; 8 bits each */
    unsigned char *pixels; /* rows from the top, without gaps; from malloc */
};

/* What the file's name says that it is. */
enum image_format image_format(const char *path);

/* These return 0; or -1, with a sentence in reason and nothing to free. */

/* Reads an image that is to be shrunk to this width; a much larger one may come in reduced already. */
int image_read(struct image *image, const char *path, size_t width, char reason[IMAGE_REASON]);
/* Shrinks to this width and the height that goes with it. An image that is no wider is left as it is. */
int image_shrink(struct image *image, size_t width, char reason[IMAGE_REASON]);
/* Writes the image in its format, *bytes of it. The file is whole or not there, even when the process is killed. */
int image_write(const struct image *image, const char *path, int quality, size_t *bytes, char reason[IMAGE_REASON]);

void image_free(struct image *image);

#endif
