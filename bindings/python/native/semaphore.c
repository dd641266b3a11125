/* Semaphores. */
#include "sync.h"
#include <errno.h>

static int acquire_semaphore(void *at, int64_t timeout_ns) { return tine_semaphore_acquire(at, timeout_ns); }

static PyObject *semaphore_acquire(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    int64_t timeout_ns = TINE_FOREVER;
    if ((count || names) && !get_block_and_timeout("acquire", arguments, count, names, &timeout_ns)) return NULL;
    return answer_of_wait(wait_for(acquire_semaphore, ((Shared *)object)->at, timeout_ns));
}

static PyObject *semaphore_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    int rc = tine_semaphore_release(((Shared *)object)->at, 1);
    if (rc == 0) Py_RETURN_NONE;
    if (rc != -EOVERFLOW) return raise_code(rc, NULL);
    PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
    return NULL;
}

static PyObject *semaphore_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return answer_of_wait(wait_for(acquire_semaphore, ((Shared *)object)->at, TINE_FOREVER));
}

static PyObject *semaphore_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    (void)arguments;
    (void)count;
    return semaphore_release(object, NULL);
}

static PyObject *semaphore_value(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(tine_semaphore_value(((Shared *)object)->at));
}

static PyObject *semaphore_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    unsigned value, most;
    int init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnIIp", &owner, &segment, &offset, &value, &most, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, sizeof(tine_semaphore));
    int rc = self && init ? tine_semaphore_init(self->at, value, most, TINE_INTERRUPTIBLE) : 0;
    if (rc) {
        Py_DECREF((PyObject *)self);
        return raise_code(rc, NULL);
    }
    return (PyObject *)self;
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", FAST(semaphore_acquire), METH_FASTCALL | METH_KEYWORDS, 
     "acquire($self, /, block=True, timeout=None)\n--\n\nTakes a unit; returns whether it could, in time."},
    {"release", semaphore_release, METH_NOARGS, "release($self, /)\n--\n\nGives a unit back."},
    {"__enter__", semaphore_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", FAST(semaphore_exit), METH_FASTCALL, "__exit__($self, /, *args)\n--\n\n"},
    {"get_value", semaphore_value, METH_NOARGS, "get_value($self, /)\n--\n\nThe units that are free at this moment."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot semaphore_slots[] = {
    {Py_tp_new, semaphore_new},     {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, semaphore_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec semaphore_spec = {"libtine._native.Semaphore", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                                     semaphore_slots};

bool add_semaphore(PyObject *module)
{
    return add_type(module, "Semaphore", &semaphore_spec, "SEMAPHORE_BYTES", sizeof(tine_semaphore)) != NULL;
}
