/* Shared memory as Python sees it: a segment is a writable buffer. It is unmapped when nobody has a view of it any more. */
#include "native.h"
#include <errno.h>
#include <unistd.h>

static PyTypeObject *segment_type;

static PyObject *segment_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"size", "fd", "any_address", NULL};
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    Py_ssize_t bytes = 0;
    int fd = -1, any_address = 1, rc;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|nip", names, &bytes, &fd, &any_address)) return NULL;
    Segment *self = (Segment *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    options.error = &error;
    options.flags = any_address ? TINE_SEGMENT_ANY_ADDRESS : 0;
    Py_BEGIN_ALLOW_THREADS
    rc = fd < 0 ? tine_segment_create((size_t)bytes, &options, &self->segment) : tine_segment_attach(fd, &options, &self->segment);
    Py_END_ALLOW_THREADS
    if (rc) {
        self->segment = NULL;
        Py_DECREF((PyObject *)self);
        return raise_code(rc, error.text);
    }
    return (PyObject *)self;
}

static void segment_dealloc(PyObject *object)
{
    Segment *self = (Segment *)object;
    PyTypeObject *type = Py_TYPE(object);
    /* Refused where a thread still holds a lock in it: then the memory stays for that lock. */
    if (self->segment) tine_segment_close(self->segment);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int segment_buffer(PyObject *object, Py_buffer *view, int flags)
{
    Segment *self = (Segment *)object;
    return PyBuffer_FillInfo(view, object, tine_segment_address(self->segment), (Py_ssize_t)tine_segment_size(self->segment), 0,
                             flags);
}

static PyObject *segment_fd(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(tine_segment_fd(((Segment *)object)->segment));
}

void *segment_place(PyObject *object, size_t offset, size_t bytes)
{
    if (!PyObject_TypeCheck(object, segment_type)) {
        PyErr_SetString(PyExc_TypeError, "not a segment");
        return NULL;
    }
    Segment *self = (Segment *)object;
    size_t size = tine_segment_size(self->segment);
    if (offset % 8 || offset > size || bytes > size - offset) {
        PyErr_Format(PyExc_ValueError, "%zu bytes at offset %zu of a segment of %zu", bytes, offset, size);
        return NULL;
    }
    return (char *)tine_segment_address(self->segment) + offset;
}

static PyObject *segment_address(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)tine_segment_address(((Segment *)object)->segment));
}

static PyGetSetDef segment_getters[] = {
    {"address", segment_address, NULL, "Where it is, in every process that has it at the address of its maker.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMethodDef segment_methods[] = {
    {"fd", segment_fd, METH_NOARGS, "fd() -> its descriptor, which stays the segment's."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot segment_slots[] = {
    {Py_tp_new, segment_new},
    {Py_tp_dealloc, segment_dealloc},
    {Py_tp_methods, segment_methods},
    {Py_tp_getset, segment_getters},
    {Py_bf_getbuffer, segment_buffer},
    {Py_tp_doc, "Segment(size) makes one, Segment(fd=) maps that of another process."},
    {0, NULL},
};
static PyType_Spec segment_spec = {"libtine._native.Segment", sizeof(Segment), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                                   segment_slots};

bool add_segment(PyObject *module)
{
    segment_type = (PyTypeObject *)PyType_FromSpec(&segment_spec);
    if (!segment_type) return false;
    Py_INCREF((PyObject *)segment_type);
    return PyModule_AddObject(module, "Segment", (PyObject *)segment_type) == 0;
}
