/* Conditions. */
#include "sync.h"
#include <errno.h>

struct shared_condition {
    tine_condition condition;
    /* Changed with the mutex held, for messages. */
    uint32_t waiting;
    uint32_t unused;
    /* How often somebody has notified. Changed and read with the mutex held: a waiter that a signal has woken is no waiter of the
     * condition's any more, and sees here that it was notified before it had the mutex back, or while the handler ran. */
    uint64_t notified;
    uint32_t reserved[12];
};

/* wait(mutex, timeout): releases the mutex however often the thread has locked it, and takes it back as often. */
static PyObject *condition_wait(PyObject *object, PyObject *arguments)
{
    struct shared_condition *condition = ((Shared *)object)->at;
    PyObject *lock, *timeout;
    Shared *self;
    int64_t timeout_ns;
    if (!PyArg_ParseTuple(arguments, "OO", &lock, &timeout) || !(self = get_mutex(lock)) || !get_timeout(timeout, &timeout_ns))
        return NULL;
    if (!is_mine(self)) {
        PyErr_SetString(PyExc_AssertionError, "must acquire() condition before using wait()");
        return NULL;
    }
    struct shared_mutex *mutex = mutex_of(self);
    uint32_t depth = self->recursive ? mutex->depth : 1;
    if (timeout_ns == 0) timeout_ns = 1; /* others get the mutex meanwhile, as they would from any wait */
    int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    uint64_t notified = condition->notified;
    condition->waiting++;
    int rc;
    do {
        mutex->depth = 0;
        __atomic_store_n(&mutex->holder, 0, __ATOMIC_RELAXED);
        Py_BEGIN_ALLOW_THREADS
        rc = tine_condition_wait(&condition->condition, &mutex->mutex, timeout_ns);
        Py_END_ALLOW_THREADS
        if (rc == -EOWNERDEAD) {
            note_death(mutex);
            rc = 0;
        }
        if (self->recursive) { /* before a signal's handler runs, which may take it once more */
            mutex->depth = depth;
            __atomic_store_n(&mutex->holder, own_key(), __ATOMIC_RELAXED);
        }
        if (rc == -EINTR) {
            if (PyErr_CheckSignals()) rc = RAISED;
            else if (condition->notified != notified) rc = 0;
            else if (!(timeout_ns = time_left(timeout_ns, until_ns))) rc = -ETIMEDOUT;
        }
    } while (rc == -EINTR);
    condition->waiting--;
    if (mutex->dead && rc != RAISED) return raise_owner_died(mutex->dead);
    return answer_of_wait(rc);
}

static PyObject *condition_notify(PyObject *object, PyObject *arguments)
{
    PyObject *lock;
    Shared *mutex;
    unsigned n;
    if (!PyArg_ParseTuple(arguments, "OI", &lock, &n) || !(mutex = get_mutex(lock))) return NULL;
    if (!is_mine(mutex)) {
        PyErr_SetString(PyExc_AssertionError, "lock is not owned");
        return NULL;
    }
    struct shared_condition *condition = ((Shared *)object)->at;
    if (n) condition->notified++;
    int rc = tine_condition_notify(&condition->condition, n);
    if (rc) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *condition_waiting(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(((struct shared_condition *)((Shared *)object)->at)->waiting);
}

static PyObject *condition_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    int init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnp", &owner, &segment, &offset, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, sizeof(struct shared_condition));
    if (self && init) tine_condition_init(self->at, TINE_INTERRUPTIBLE);
    return (PyObject *)self;
}

static PyMethodDef condition_methods[] = {
    {"wait", condition_wait, METH_VARARGS, "wait(mutex, timeout) -> bool"},
    {"notify", condition_notify, METH_VARARGS, "notify(mutex, n)"},
    {"waiting", condition_waiting, METH_NOARGS, "waiting() -> how many wait at this moment"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot condition_slots[] = {
    {Py_tp_new, condition_new},     {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, condition_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec condition_spec = {"libtine._native.Condition", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT, condition_slots};

bool add_condition(PyObject *module)
{
    return add_type(module, "Condition", &condition_spec, "CONDITION_BYTES", sizeof(struct shared_condition)) != NULL;
}
