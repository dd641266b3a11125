/* Memory of the heap that Python looks at: a result in the host, an input in a worker, or what several languages share. Whoever
 * looks at it, a memoryview or an array on top of it, keeps it; when the last one has gone, it goes back. */
#include "native.h"

typedef struct {
    PyObject_HEAD
    const void *data;
    size_t length;
    void (*release)(void *owner);
    void *owner;
    bool writable;
} Memory;

static PyTypeObject *memory_type;

static PyObject *make(const void *data, size_t length, bool writable, void (*release)(void *owner), void *owner)
{
    Memory *self = PyObject_New(Memory, memory_type);
    if (!self) {
        release(owner);
        return NULL;
    }
    self->data = data;
    self->length = length;
    self->release = release;
    self->owner = owner;
    self->writable = writable;
    return (PyObject *)self;
}

PyObject *new_memory(const void *data, size_t length, void (*release)(void *owner), void *owner)
{
    return make(data, length, false, release, owner);
}

PyObject *new_writable_memory(void *data, size_t length, void (*release)(void *owner), void *owner)
{
    return make(data, length, true, release, owner);
}

bool is_memory(PyObject *object) { return PyObject_TypeCheck(object, memory_type); }

void *memory_address(PyObject *memory, size_t bytes)
{
    if (!is_memory(memory)) {
        PyErr_SetString(PyExc_TypeError, "this is not memory of a pool");
        return NULL;
    }
    Memory *self = (Memory *)memory;
    if (self->length >= bytes) return (void *)self->data;
    PyErr_Format(PyExc_ValueError, "%zu bytes of memory, where %zu are needed", self->length, bytes);
    return NULL;
}

bool memory_is_shared(PyObject *memory) { return Py_REFCNT(memory) > 1; }

static void memory_dealloc(PyObject *object)
{
    Memory *self = (Memory *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->release(self->owner);
    PyObject_Free(object);
    Py_DECREF(type);
}

static int memory_buffer(PyObject *object, Py_buffer *view, int flags)
{
    Memory *self = (Memory *)object;
    return PyBuffer_FillInfo(view, object, (void *)self->data, (Py_ssize_t)self->length, !self->writable, flags);
}

static PyObject *memory_get_address(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)((Memory *)object)->data);
}

static PyGetSetDef memory_getters[] = {
    {"address", memory_get_address, NULL, "Where it is, in every process of its pool.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot memory_slots[] = {
    {Py_tp_new, refuse_new},
    {Py_tp_getset, memory_getters},
    {Py_tp_dealloc, memory_dealloc},
    {Py_bf_getbuffer, memory_buffer},
    {Py_tp_doc, "Memory of a heap. It goes back when nobody looks at it any more."},
    {0, NULL},
};
static PyType_Spec memory_spec = {"libtine._native.Memory", sizeof(Memory), 0, Py_TPFLAGS_DEFAULT, memory_slots};

bool add_memory(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&memory_spec);
    if (!type) return false;
    memory_type = (PyTypeObject *)type;
    Py_INCREF(type);
    return PyModule_AddObject(module, "Memory", type) == 0;
}
