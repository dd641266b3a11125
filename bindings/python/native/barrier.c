/* Barriers. */
#include "sync.h"
#include <errno.h>

struct shared_barrier {
    tine_barrier barrier;
    /* How many parties have left, but for the last of each round. */
    uint64_t left;
    uint64_t reserved[7];
};

static PyObject *barrier_wait(PyObject *object, PyObject *timeout)
{
    tine_barrier *barrier = ((Shared *)object)->at;
    int64_t timeout_ns;
    if (!get_timeout(timeout, &timeout_ns)) return NULL;
    int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    int rc;
    do {
        /* With 0 a party has not come at all; one whose time is over has come, and breaks the barrier. */
        Py_BEGIN_ALLOW_THREADS
        rc = tine_barrier_wait(barrier, timeout_ns ? timeout_ns : 1);
        Py_END_ALLOW_THREADS
        if (rc == -EINTR && PyErr_CheckSignals()) {
            tine_barrier_abort(barrier); /* the others would wait for a party that comes no more */
            return NULL;
        }
        if (rc == -EINTR) timeout_ns = time_left(timeout_ns, until_ns);
    } while (rc == -EINTR);
    if (rc == 1) return PyLong_FromLong(0);
    if (rc == 0) {
        uint64_t before = __atomic_fetch_add(&((struct shared_barrier *)barrier)->left, 1, __ATOMIC_RELAXED);
        return PyLong_FromUnsignedLongLong(before % (uint64_t)(tine_barrier_parties(barrier) - 1) + 1);
    }
    if (rc != TINE_EBROKEN && rc != -ETIMEDOUT) return raise_code(rc, NULL);
    PyErr_SetNone(broken_barrier);
    return NULL;
}

static PyObject *barrier_reset(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_barrier_reset(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *barrier_abort(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_barrier_abort(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *barrier_state(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_barrier *barrier = ((Shared *)object)->at;
    return Py_BuildValue("(iii)", tine_barrier_parties(barrier), tine_barrier_waiting(barrier), tine_barrier_broken(barrier));
}

static PyObject *barrier_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    unsigned parties;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnI", &owner, &segment, &offset, &parties)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, sizeof(struct shared_barrier));
    int rc = self && parties ? tine_barrier_init(self->at, parties, TINE_INTERRUPTIBLE) : 0;
    if (rc) {
        Py_DECREF((PyObject *)self);
        return raise_code(rc, NULL);
    }
    return (PyObject *)self;
}

static PyMethodDef barrier_methods[] = {
    {"wait", barrier_wait, METH_O, "wait(timeout) -> 0 for the last party to leave; the others have other numbers below that of the parties"},
    {"reset", barrier_reset, METH_NOARGS, "reset()"},
    {"abort", barrier_abort, METH_NOARGS, "abort()"},
    {"state", barrier_state, METH_NOARGS, "state() -> (parties, waiting, broken)"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot barrier_slots[] = {
    {Py_tp_new, barrier_new},       {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, barrier_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec barrier_spec = {"libtine._native.Barrier", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT, barrier_slots};

bool add_barrier(PyObject *module)
{
    return add_type(module, "Barrier", &barrier_spec, "BARRIER_BYTES", sizeof(struct shared_barrier)) != NULL &&
           PyModule_AddIntConstant(module, "BARRIER_PARTIES", TINE_BARRIER_PARTIES) == 0;
}
