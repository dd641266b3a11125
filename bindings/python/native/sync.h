/* What locks, semaphores, conditions, events and barriers have in common. Each lies in a block of a segment; what is here is a pointer to
 * it, and a reference to what keeps the block. */
#ifndef TINE_PYTHON_SYNC_H
#define TINE_PYTHON_SYNC_H

#include "wait.h"

struct shared_mutex {
    tine_mutex mutex;
    /* Written and read by the holder: who died holding it, since when nobody has repaired it. */
    int32_t dead;
    /* Of one that is recursive: how often its holder has taken it. */
    uint32_t depth;
    /* The same: own_key() of the thread that took it, written by it; 0 before it lets go. A dead holder leaves its own. */
    uint64_t holder;
    uint32_t reserved[12];
};

/* Any of them: at is where it lies in segment, which owner keeps. */
typedef struct {
    PyObject_HEAD
    PyObject *segment, *owner;
    void *at;
    bool recursive;
    struct watch *watch; /* of a recursive lock */
} Shared;

Shared *new_shared(PyTypeObject *type, PyObject *owner, PyObject *segment, Py_ssize_t offset, size_t bytes);
void shared_dealloc(PyObject *object);
extern PyGetSetDef shared_getters[];

/* The exceptions of use_exceptions(). */
extern PyObject *owner_died, *broken_barrier;

/* Adds a type and the number of bytes that one takes in a segment. */
PyTypeObject *add_type(PyObject *module, const char *name, PyType_Spec *spec, const char *bytes_name, size_t bytes);

bool add_mutex(PyObject *module);
bool add_semaphore(PyObject *module);
bool add_condition(PyObject *module);
bool add_event(PyObject *module);
bool add_barrier(PyObject *module);

/* mutex.c: what a condition needs of its mutex. NULL with an exception: the object is none. */
Shared *get_mutex(PyObject *object);
struct shared_mutex *mutex_of(Shared *self);
bool is_mine(Shared *self);
uint64_t own_key(void);
void note_death(struct shared_mutex *mutex);
PyObject *raise_owner_died(int pid);

#endif
