/* What named_pool.c and named_map.c share: a pool whose workers are programs of other languages. */
#ifndef TINE_PYTHON_NAMED_POOL_H
#define TINE_PYTHON_NAMED_POOL_H

#include "native.h"

typedef struct NamedPool {
    PyObject_HEAD
    struct pool_base base;
    struct NamedPool *next;
    unsigned cancels; /* how often everything has been cancelled */
} NamedPool;

/* named_map.c: the method `map`. */
PyObject *named_pool_map(PyObject *object, PyObject *arguments);

#endif
