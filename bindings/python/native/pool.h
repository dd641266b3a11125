/* What pool.c and results.c share: a pool, and its calls that are under way. */
#ifndef TINE_PYTHON_POOL_H
#define TINE_PYTHON_POOL_H

#include "native.h"

enum { BANK_MARKS = 65536, MOST_BANKS = 1024 };
#define NO_MARK UINT32_MAX

typedef struct {
    PyObject_HEAD
    struct pool_base base;
    Py_ssize_t input_bytes; /* of the messages of calls under way */
    bool on_nodes; /* or may be: other machines do not have the heap, so there are no marks, and workers keep no block */
    /* A byte of the heap for each call under way, which its worker sets when it begins; in banks, with the free ones in a list. */
    unsigned char *banks[MOST_BANKS];
    uint32_t bank_count, free_count, *free_marks;
} Pool;

/* A call under way. */
struct call {
    PyObject *token;
    char *block;    /* its input, if that is a block of the heap */
    size_t length;  /* of the message in it */
    uint64_t count; /* how many calls a chunk has; 0 for a single call */
    struct chunk_state *chunk;
    uint32_t mark; /* which byte says that it has begun; NO_MARK: there is none */
};

/* Makes a call's mark free for another call. */
void give_mark(Pool *self, uint32_t mark);

/* results.c: the method `results`. */
PyObject *pool_results(PyObject *object, PyObject *arguments);

#endif
