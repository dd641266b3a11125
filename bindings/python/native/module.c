/* The module, its exception, and sequences of buffers. */
#include "native.h"
#include <errno.h>
#include <string.h>

PyObject *native_error;
static PyObject *raised_error; /* what is raised: a class of errors.py that derives from it */

PyObject *raise_code(int code, const char *text)
{
    if (code == -ENOMEM) return PyErr_NoMemory();
    PyObject *arguments = Py_BuildValue("(iss)", code, tine_errname(code), text && *text ? text : tine_strerror(code));
    if (arguments) PyErr_SetObject(raised_error ? raised_error : native_error, arguments);
    Py_XDECREF(arguments);
    return NULL;
}

PyObject *refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    (void)arguments;
    (void)keywords;
    PyErr_Format(PyExc_TypeError, "%R cannot be made by calling it", (PyObject *)type);
    return NULL;
}

bool get_parts(PyObject *sequence, struct parts *parts)
{
    Py_ssize_t count = PySequence_Size(sequence);
    if (count < 0) return false;
    *parts = (struct parts){PyMem_Calloc((size_t)(count ? count : 1), sizeof(Py_buffer)), 0, 0};
    if (!parts->views) {
        PyErr_NoMemory();
        return false;
    }
    for (; parts->count < count; parts->count++) {
        PyObject *part = PySequence_GetItem(sequence, parts->count);
        int rc = part ? PyObject_GetBuffer(part, &parts->views[parts->count], PyBUF_SIMPLE) : -1;
        Py_XDECREF(part);
        if (rc < 0) {
            release_parts(parts);
            return false;
        }
        parts->length += (size_t)parts->views[parts->count].len;
    }
    return true;
}

void copy_parts(const struct parts *parts, void *to)
{
    char *at = to;
    for (Py_ssize_t part = 0; part < parts->count; part++) {
        memcpy(at, parts->views[part].buf, (size_t)parts->views[part].len);
        at += parts->views[part].len;
    }
}

void release_parts(struct parts *parts)
{
    for (Py_ssize_t part = 0; part < parts->count; part++) PyBuffer_Release(&parts->views[part]);
    PyMem_Free(parts->views);
    parts->views = NULL;
}

static PyObject *raise_as(PyObject *module, PyObject *error)
{
    (void)module;
    Py_INCREF(error);
    Py_XDECREF(raised_error);
    raised_error = error;
    Py_RETURN_NONE;
}

static PyObject *code_name(PyObject *module, PyObject *code)
{
    (void)module;
    long number = PyLong_AsLong(code);
    if (number == -1 && PyErr_Occurred()) return NULL;
    return PyUnicode_FromString(tine_errname((int)number));
}

static PyObject *worker_path(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue("y", tine_worker_path());
}

/* The module's types and tine's state are the process's, and their calls into Python use the main interpreter's lock. */
static PyObject *check_interpreter(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    int64_t number = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (number == 0) Py_RETURN_NONE;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ImportError, "libtine works in the main interpreter only, and this is subinterpreter %lld", (long long)number);
    return NULL;
}

static PyObject *version(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_FromString(tine_version());
}

static PyMethodDef methods[] = {
    {"encode_call", encode_call, METH_VARARGS,
     "encode_call(function's pickle, arguments) -> a message, or None if an argument has to be pickled."},
    {"encode_value", encode_value, METH_O, "encode_value(value) -> a message, or None if it has to be pickled."},
    {"decode_value", decode_value, METH_O, "decode_value(message) -> what encode_value() was given."},
    {"encode_chunk", encode_chunk, METH_VARARGS,
     "encode_chunk(function's pickle, items, star, plain) -> a message of many calls, or None if an item has to be pickled; "
     "with plain false only its head."},
    {"calls", calls, METH_NOARGS, "calls() -> how many tasks this worker has been given; 0 in a host."},
    {"place_in_input", place_in_input, METH_O,
     "place_in_input(view) -> 1 + where it is in the input of the call that runs; 0: it is not there; -1: it is a small part of it."},
    {"handle_crashes", handle_crashes, METH_VARARGS, "handle_crashes(step): in a worker, around faulthandler.enable()."},
    {"take_text", take_text, METH_VARARGS, "take_text(fd, offset, length) -> the text there, which is gone then."},
    {"serve", serve, METH_VARARGS,
     "serve(load, dump, repeated, failed, unreadable, initialize, finalize): becomes a supervisor or a worker of the pool that started this process; never returns there."},
    {"serve_processes", serve_processes, METH_VARARGS,
     "serve_processes(function): becomes the process that a Process has started, and calls function(fd, fd); never returns there."},
    {"channel_pair", channel_pair, METH_NOARGS, "channel_pair() -> (Channel, Channel): the ends of a new one."},
    {"channel_attach", channel_attach, METH_VARARGS, "channel_attach(fd) -> Channel: the end behind fd, which stays the caller's."},
    {"use_exceptions", use_exceptions, METH_VARARGS, "use_exceptions(OwnerDied, BrokenBarrierError): what waits raise."},
    {"operate", operate, METH_VARARGS,
     "operate(operation, memory, timeout_ns=0, first=0, second=0, other) -> code: of a lock or the like that lies in the memory."},
    {"shared_memory", shared_memory, METH_VARARGS, "shared_memory(address, length) -> Memory: of a heap that this process has."},
    {"serve_exports", serve_exports, METH_VARARGS,
     "serve_exports(names, call): becomes a supervisor or a worker of another language's host, and has call(name, input) called for tasks; "
     "never returns there."},
    {"raise_as", raise_as, METH_O, "raise_as(class): of NativeError's, for all errors from now on."},
    {"start_nodes", start_nodes, METH_NOARGS, "start_nodes(): before a pool that may be on nodes; a rank that is a node never comes back from there."},
    {"code_name", code_name, METH_O, "code_name(code) -> the name of a code of tine's."},
    {"worker_path", worker_path, METH_NOARGS, "worker_path() -> the path of tine-worker, or None."},
    {"check_interpreter", check_interpreter, METH_NOARGS, "check_interpreter(): ImportError in a subinterpreter."},
    {"version", version, METH_NOARGS, "version() -> the version of the library."},
    {NULL, NULL, 0, NULL},
};

static const struct {
    const char *name;
    long value;
} constants[] = {
    {"RAISED", STATUS_RAISED},
    {"EDIED", TINE_EDIED},
    {"EEMPTY", TINE_EEMPTY},
    {"ESHUTDOWN", TINE_ESHUTDOWN},
    {"EID", TINE_EID},
    {"EMEMORY", TINE_EMEMORY},
    {"EWORKERSTART", TINE_EWORKERSTART},
    {"FORKSERVER", TINE_START_FORKSERVER},
    {"ENGINE_LOCAL", TINE_ENGINE_LOCAL},
    {"ENGINE_MPI", TINE_ENGINE_MPI},
    {"ENGINE_MPI_OR_LOCAL", TINE_ENGINE_MPI_OR_LOCAL},
    {"SPAWN", TINE_START_SPAWN},
    {"RAN", TINE_RAN},
    {"NOT_STARTED", TINE_NOT_STARTED},
    {"MAYBE_RAN", TINE_MAYBE_RAN},
    {"MUTEX_SIZE", sizeof(tine_mutex)},
    {"RWLOCK_SIZE", sizeof(tine_rwlock)},
    {"SEMAPHORE_SIZE", sizeof(tine_semaphore)},
    {"EVENT_SIZE", sizeof(tine_event)},
    {"BARRIER_SIZE", sizeof(tine_barrier)},
    {"CONDITION_SIZE", sizeof(tine_condition)},
    {"ONCE_SIZE", sizeof(tine_once)},
    {"PROCESS_OWNED", TINE_PROCESS_OWNED},
    {"INTERRUPTIBLE", TINE_INTERRUPTIBLE},
    {"AUTO_RESET", TINE_AUTO_RESET},
    {"EFAILED", -EREMOTEIO},
    {"ENOMEM", -ENOMEM},
    {"EPAYLOAD", -EBADMSG},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "libtine._native", "tine's C interface, as far as libtine needs it.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *checked = check_interpreter(NULL, NULL), *module = checked ? PyModule_Create(&definition) : NULL;
    Py_XDECREF(checked);
    if (!module) return NULL;
    native_error = PyErr_NewExceptionWithDoc("libtine._native.NativeError", "(code, name, text) of a call of tine's.", NULL, NULL);
    if (!native_error) return NULL;
    Py_INCREF(native_error);
    if (PyModule_AddObject(module, "NativeError", native_error) < 0 || !add_memory(module) || !add_pool(module) || !add_named_pool(module) ||
        !add_segment(module) || !add_sync(module) || !add_process(module) || !add_named_process(module) || !add_queue(module) || !add_channel(module)) return NULL;
    for (size_t at = 0; at < sizeof constants / sizeof *constants; at++)
        if (PyModule_AddIntConstant(module, constants[at].name, constants[at].value)) return NULL;
    return module;
}
