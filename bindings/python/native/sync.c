/* What locks, semaphores, conditions, events and barriers have in common. */
#include "sync.h"

PyObject *owner_died, *broken_barrier;

Shared *new_shared(PyTypeObject *type, PyObject *owner, PyObject *segment, Py_ssize_t offset, size_t bytes)
{
    void *at = segment_place(segment, (size_t)offset, bytes);
    Shared *self = at ? (Shared *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0) : NULL;
    if (!self) return NULL;
    Py_INCREF(owner);
    Py_INCREF(segment);
    self->owner = owner;
    self->segment = segment;
    self->at = at;
    return self;
}

void shared_dealloc(PyObject *object)
{
    Shared *self = (Shared *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->owner);
    Py_XDECREF(self->segment);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *shared_owner(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *owner = ((Shared *)object)->owner;
    Py_INCREF(owner);
    return owner;
}

PyGetSetDef shared_getters[] = {
    {"_block", shared_owner, NULL, "The block that it lies in.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* use_exceptions(OwnerDied, BrokenBarrierError) */
PyObject *use_exceptions(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO", &owner_died, &broken_barrier)) return NULL;
    Py_INCREF(owner_died);
    Py_INCREF(broken_barrier);
    Py_RETURN_NONE;
}

PyTypeObject *add_type(PyObject *module, const char *name, PyType_Spec *spec, const char *bytes_name, size_t bytes)
{
    PyObject *type = PyType_FromSpec(spec);
    if (!type) return NULL;
    Py_INCREF(type); /* for who has called; the other one goes to the module */
    bool added = PyModule_AddObject(module, name, type) == 0 && PyModule_AddIntConstant(module, bytes_name, (long)bytes) == 0;
    return added ? (PyTypeObject *)type : NULL;
}

bool add_sync(PyObject *module)
{
    return add_mutex(module) && add_semaphore(module) && add_condition(module) && add_event(module) && add_barrier(module);
}
