/* The images of a directory: their names, their sizes, and what became of them. */
#ifndef FILES_H
#define FILES_H

#include <stddef.h>

enum { REASON = 400 };

struct file {
    char *name, *in, *out;
    size_t bytes;
    char reason[REASON]; /* why it failed, or empty */
};

struct files {
    struct file *at;
    size_t count;
};

/* Lists the images of directory `in`, the largest first, each with its path there and in directory `out`. Returns 0,
   or -1 after saying why on stderr. files_free is due in either case. */
int files_list(struct files *files, const char *in, const char *out);
/* Reads all files once, so that the first of two runs doesn't pay for the disk alone. */
void files_read(struct files files);
void files_free(struct files files);

#endif
