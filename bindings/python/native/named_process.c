/* A process of another program, as Python's host sees it: it calls one function by its name, and what goes in and comes out are bytes.
 * A thread that closes it while another is in a call on it kills it, and leaves the rest to that call. */
#include "wait.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    tine_process *process;
    unsigned calls;
    bool closed;
} NamedProcess;

static PyTypeObject *process_type;

static bool enter(NamedProcess *self)
{
    if (self->closed) {
        raise_code(TINE_ESHUTDOWN, "the process is closed");
        return false;
    }
    self->calls++;
    return true;
}

static void leave(NamedProcess *self)
{
    tine_process *process = self->process;
    if (--self->calls || !self->closed || !process) return;
    self->process = NULL;
    Py_BEGIN_ALLOW_THREADS
    tine_process_close(process);
    Py_END_ALLOW_THREADS
}

/* The segments of a sequence, which keeps them; NULL with an exception. To be freed with PyMem_Free. */
static tine_segment **get_segments(PyObject *sequence, size_t *count)
{
    Py_ssize_t length = PySequence_Size(sequence);
    tine_segment **segments = length < 0 ? NULL : PyMem_Calloc((size_t)length + 1, sizeof *segments);
    if (!segments) return length < 0 ? NULL : (PyErr_NoMemory(), NULL);
    for (Py_ssize_t at = 0; at < length; at++) {
        PyObject *segment = PySequence_GetItem(sequence, at);
        bool is_one = segment && segment_place(segment, 0, 0);
        if (is_one) segments[at] = ((Segment *)segment)->segment;
        Py_XDECREF(segment);
        if (!is_one) {
            PyMem_Free(segments);
            return NULL;
        }
    }
    *count = (size_t)length;
    return segments;
}

/* An input, put together. */
static char *get_input(PyObject *sequence, size_t *length)
{
    struct parts parts;
    if (!get_parts(sequence, &parts)) return NULL;
    char *input = PyMem_Malloc(parts.length ? parts.length : 1);
    if (input) copy_parts(&parts, input);
    else PyErr_NoMemory();
    *length = parts.length;
    release_parts(&parts);
    return input;
}

static PyObject *process_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *sequence, *worker_arguments, *channel, *segments, *keep = NULL;
    long long deadline_ns, grace_ns;
    size_t length = 0;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "yOiyOzLLOO!", &options.name, &sequence, &options.start, &options.worker_path, &worker_arguments,
                          &options.preload, &deadline_ns, &grace_ns, &channel, &PyTuple_Type, &segments))
        return NULL;
    options.error = &error;
    options.flags = TINE_INTERRUPTIBLE;
    options.deadline_ns = deadline_ns;
    options.grace_ns = grace_ns;
    NamedProcess *self = (NamedProcess *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    char *input = self ? get_input(sequence, &length) : NULL;
    const char **strings = input ? get_strings(worker_arguments, &keep) : NULL;
    tine_segment **given = strings ? get_segments(segments, &options.segment_count) : NULL;
    bool begun = given && (channel == Py_None || (options.channel = channel_lend(channel)));
    if (begun) {
        int rc;
        options.segments = given;
        options.worker_arguments = strings[0] ? strings : NULL;
        Py_BEGIN_ALLOW_THREADS
        rc = tine_process_start(&options, NULL, length ? input : NULL, length, &self->process);
        Py_END_ALLOW_THREADS
        if (rc) self->process = NULL;
        if (channel != Py_None) channel_lent(channel, rc == 0);
        begun = rc == 0;
        if (rc) raise_code(rc, error.text);
    }
    PyMem_Free(given);
    PyMem_Free(strings);
    PyMem_Free(input);
    Py_XDECREF(keep);
    if (begun) return (PyObject *)self;
    Py_XDECREF((PyObject *)self);
    return NULL;
}

static void process_dealloc(PyObject *object)
{
    NamedProcess *self = (NamedProcess *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_BEGIN_ALLOW_THREADS
    tine_process_close(self->process);
    Py_END_ALLOW_THREADS
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int wait_for_end(void *process, int64_t timeout_ns) { return tine_process_wait(process, timeout_ns, NULL); }

static PyObject *process_wait(PyObject *object, PyObject *arguments)
{
    NamedProcess *self = (NamedProcess *)object;
    long long timeout_ns;
    tine_exit end = TINE_EXIT_INIT;
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns) || !enter(self)) return NULL;
    int rc = wait_for(wait_for_end, self->process, timeout_ns);
    if (rc == 0) rc = tine_process_wait(self->process, 0, &end);
    if (rc == 0) {
        PyObject *output = PyBytes_FromStringAndSize(end.data, (Py_ssize_t)end.length);
        PyObject *message = PyUnicode_DecodeUTF8(end.message, (Py_ssize_t)strlen(end.message), "replace");
        PyObject *death = death_of(end.death);
        if (output && message && death) answer = Py_BuildValue("(iOOO)", end.status, output, message, death);
        Py_XDECREF(output);
        Py_XDECREF(message);
        Py_XDECREF(death);
    } else if (rc == -EAGAIN || rc == -ETIMEDOUT) {
        answer = Py_NewRef(Py_None);
    } else if (rc != RAISED) {
        raise_code(rc, NULL);
    }
    leave(self);
    return answer;
}

static PyObject *process_kill(PyObject *object, PyObject *arguments)
{
    NamedProcess *self = (NamedProcess *)object;
    int signal, tree;
    if (!PyArg_ParseTuple(arguments, "ip", &signal, &tree) || !enter(self)) return NULL;
    int rc = tree ? tine_process_kill_tree(self->process, signal) : tine_process_kill(self->process, signal);
    leave(self);
    if (rc) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *process_alive(PyObject *object, PyObject *unused)
{
    NamedProcess *self = (NamedProcess *)object;
    (void)unused;
    if (!enter(self)) return NULL;
    int rc = tine_process_alive(self->process);
    leave(self);
    return rc < 0 ? raise_code(rc, NULL) : PyBool_FromLong(rc);
}

static PyObject *process_pid(PyObject *object, PyObject *unused)
{
    NamedProcess *self = (NamedProcess *)object;
    (void)unused;
    if (!enter(self)) return NULL;
    int pid = tine_process_pid(self->process);
    leave(self);
    return PyLong_FromLong(pid);
}

static PyObject *process_close(PyObject *object, PyObject *unused)
{
    NamedProcess *self = (NamedProcess *)object;
    (void)unused;
    self->calls++;
    self->closed = true;
    if (self->calls > 1) tine_process_kill(self->process, SIGKILL); /* whoever waits for it comes out */
    leave(self);
    Py_RETURN_NONE;
}

static PyMethodDef process_methods[] = {
    {"wait", process_wait, METH_VARARGS, "wait(timeout_ns) -> (status, output, message, death), or None: it has not ended."},
    {"kill", process_kill, METH_VARARGS, "kill(signal, tree): it, or with tree all that it has started, too."},
    {"alive", process_alive, METH_NOARGS, "alive() -> bool"},
    {"pid", process_pid, METH_NOARGS, "pid() -> its number"},
    {"close", process_close, METH_NOARGS, "close(): kills it with all that it has started."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot process_slots[] = {
    {Py_tp_new, process_new},
    {Py_tp_dealloc, process_dealloc},
    {Py_tp_methods, process_methods},
    {Py_tp_doc, "A process of a program of another language."},
    {0, NULL},
};
static PyType_Spec process_spec = {"libtine._native.NamedProcess", sizeof(NamedProcess), 0, Py_TPFLAGS_DEFAULT, process_slots};

bool add_named_process(PyObject *module)
{
    process_type = (PyTypeObject *)PyType_FromSpec(&process_spec);
    return process_type && PyModule_AddObject(module, "NamedProcess", (PyObject *)process_type) == 0;
}
