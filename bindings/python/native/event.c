/* Events. */
#include "sync.h"
#include <errno.h>

struct event_wait {
    tine_event *event;
    int cleared;
};

static int wait_event(void *at, int64_t timeout_ns)
{
    struct event_wait *wait = at;
    return tine_event_wait_after(wait->event, wait->cleared, timeout_ns);
}

static PyObject *event_wait(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    int64_t timeout_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O", names, &timeout) || !get_timeout(timeout, &timeout_ns)) return NULL;
    struct event_wait wait = {((Shared *)object)->at, tine_event_cleared(((Shared *)object)->at)};
    return answer_of_wait(wait_for(wait_event, &wait, timeout_ns));
}

static PyObject *event_set(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_event_set(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_event_clear(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *event_is_set(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(tine_event_is_set(((Shared *)object)->at) == 1);
}

static PyObject *event_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    int init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnp", &owner, &segment, &offset, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, sizeof(tine_event));
    if (self && init) tine_event_init(self->at, TINE_INTERRUPTIBLE);
    return (PyObject *)self;
}

static PyMethodDef event_methods[] = {
    {"wait", FAST(event_wait), METH_VARARGS | METH_KEYWORDS, 
     "wait($self, /, timeout=None)\n--\n\nWaits until it is set, for timeout seconds at most; returns whether it is."},
    {"set", event_set, METH_NOARGS, "set($self, /)\n--\n\nSets it; who waits goes on."},
    {"clear", event_clear, METH_NOARGS, "clear($self, /)\n--\n\nClears it."},
    {"is_set", event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nWhether it is set."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot event_slots[] = {
    {Py_tp_new, event_new},         {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, event_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec event_spec = {"libtine._native.Event", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, event_slots};

bool add_event(PyObject *module) { return add_type(module, "Event", &event_spec, "EVENT_BYTES", sizeof(tine_event)) != NULL; }
