/* The one process that Python's host starts by tine_process_start: an interpreter that starts all others (_server.py). Its
 * supervisor ends it, and all that it has started, when the host ends in whatever way. */
#include "native.h"
#include <errno.h>
#include <unistd.h>

#define SERVE_PROCESSES "libtine.processes"
enum { MOST_FDS = 4 };

typedef struct {
    PyObject_HEAD
    tine_process *process;
} Process;

static PyTypeObject *process_type;
static PyObject *serve_function;

static int send_fds(tine_channel *channel, const int *fds, int count)
{
    int rc = 0;
    for (int at = 0; at < count && !rc; at++) rc = tine_channel_send_fd(channel, fds[at], TINE_FOREVER);
    return rc;
}

static PyObject *process_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    tine_process_options options = TINE_PROCESS_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *worker_arguments, *keep;
    int fds[MOST_FDS], rc;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "yO(ii)", &options.worker_path, &worker_arguments, &fds[0], &fds[1])) return NULL;
    const char **strings = get_strings(worker_arguments, &keep);
    if (!strings) return NULL;
    Process *self = (Process *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    tine_channel *near = NULL;
    options.error = &error;
    options.name = SERVE_PROCESSES;
    options.title = "tine-python";
    options.flags = TINE_NO_CRASH_HANDLER;
    options.worker_arguments = strings;
    if (self) {
        Py_BEGIN_ALLOW_THREADS
        rc = tine_channel_create(NULL, &near, &options.channel);
        if (!rc) rc = send_fds(near, fds, 2); /* they are there when it looks for them */
        if (!rc) {
            rc = tine_process_start(&options, NULL, NULL, 0, &self->process);
            if (rc) self->process = NULL;
        }
        if (rc) tine_channel_close(options.channel);
        tine_channel_close(near);
        Py_END_ALLOW_THREADS
        if (rc) {
            Py_DECREF((PyObject *)self);
            self = NULL;
            raise_code(rc, error.text);
        }
    }
    PyMem_Free(strings);
    Py_DECREF(keep);
    return (PyObject *)self;
}

static void process_dealloc(PyObject *object)
{
    Process *self = (Process *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_BEGIN_ALLOW_THREADS
    tine_process_close(self->process);
    Py_END_ALLOW_THREADS
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *process_pid(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(tine_process_pid(((Process *)object)->process));
}

static PyMethodDef process_methods[] = {
    {"pid", process_pid, METH_NOARGS, "pid() -> its number"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot process_slots[] = {
    {Py_tp_new, process_new},
    {Py_tp_dealloc, process_dealloc},
    {Py_tp_methods, process_methods},
    {Py_tp_doc, "Process(worker_path, worker_arguments, (fd, fd)): ends, with all that it has started, when it is forgotten."},
    {0, NULL},
};
static PyType_Spec process_spec = {"libtine._native.Process", sizeof(Process), 0, Py_TPFLAGS_DEFAULT, process_slots};

/* In the process: calls function(fd, fd). */
static int call_server(tine_task *task)
{
    tine_channel *channel = tine_task_channel(task);
    int fds[2], rc = 0;
    for (int at = 0; at < 2 && !rc; at++) rc = tine_channel_receive_fd(channel, TINE_FOREVER, &fds[at]);
    if (rc) return rc;
    tine_channel_close(channel);
    enter_interpreter();
    PyObject *answer = PyObject_CallFunction(serve_function, "ii", fds[0], fds[1]);
    if (!answer) PyErr_Print();
    int status = answer ? 0 : -EIO;
    Py_XDECREF(answer);
    leave_interpreter();
    return status;
}

PyObject *serve_processes(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (!PyArg_ParseTuple(arguments, "O", &serve_function)) return NULL;
    Py_INCREF(serve_function);
    return become_member(tine_register(SERVE_PROCESSES, call_server));
}

bool add_process(PyObject *module)
{
    process_type = (PyTypeObject *)PyType_FromSpec(&process_spec);
    return process_type && PyModule_AddObject(module, "Process", (PyObject *)process_type) == 0;
}
