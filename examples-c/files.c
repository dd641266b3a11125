/* Every function here runs in the host, before or after the work. */
#define _DEFAULT_SOURCE /* for scandir and strdup */
#include "files.h"
#include "image.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int is_image(const struct dirent *entry)
{
    return image_format(entry->d_name) != IMAGE_UNKNOWN;
}

/* The largest first: were it the last to be taken, all the other workers would have to wait for it. */
static int larger(const void *left, const void *right)
{
    size_t a = ((const struct file *)left)->bytes, b = ((const struct file *)right)->bytes;
    return (a < b) - (a > b);
}

static char *join(const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s", directory, name);
    return path;
}

void files_free(struct files files)
{
    for (size_t i = 0; i < files.count; i++) {
        free(files.at[i].name);
        free(files.at[i].in);
        free(files.at[i].out);
    }
    free(files.at);
}

int files_list(struct files *files, const char *in, const char *out)
{
    *files = (struct files){0};
    struct dirent **entries;
    int n = scandir(in, &entries, is_image, alphasort);
    if (n < 0) {
        fprintf(stderr, "thumbnails: %s: %s\n", in, strerror(errno));
        return -1;
    }
    int rc = 0;
    files->at = calloc((size_t)n + 1, sizeof *files->at);
    files->count = files->at ? (size_t)n : 0;
    for (int i = 0; i < n; i++) {
        if (files->at) {
            struct file *file = &files->at[i];
            struct stat status;
            file->name = strdup(entries[i]->d_name);
            file->in = join(in, entries[i]->d_name);
            file->out = join(out, entries[i]->d_name);
            if (!file->name || !file->in || !file->out)
                rc = -1;
            else if (stat(file->in, &status) == 0)
                file->bytes = (size_t)status.st_size;
        }
        free(entries[i]);
    }
    free(entries);
    if (!files->at || rc) {
        fprintf(stderr, "thumbnails: %s\n", strerror(ENOMEM));
        return -1;
    }
    if (n == 0) {
        fprintf(stderr, "thumbnails: %s: no JPEG and no PNG in here\n", in);
        return -1;
    }
    qsort(files->at, files->count, sizeof *files->at, larger);
    return 0;
}

void files_read(struct files files)
{
    static char buffer[1 << 16];
    for (size_t i = 0; i < files.count; i++) {
        FILE *file = fopen(files.at[i].in, "rb");
        while (file && fread(buffer, 1, sizeof buffer, file) > 0)
            ;
        if (file)
            fclose(file);
    }
}
