/* The worker's side. The interpreter that the host starts becomes the pool's supervisor in serve(); workers are forked from
 * it in there, and call back into Python for each task. The interpreter's lock is free while a worker waits, so that threads which
 * tasks have left behind can run. */
#include "native.h"
#include <errno.h>
#include <unistd.h>

static PyObject *run_function, *initialize_function;
static PyThreadState *main_thread;
static pid_t interpreter_pid;

/* Python finds out that it has been forked at a worker's first call. */
void enter_interpreter(void)
{
    PyEval_RestoreThread(main_thread);
    if (getpid() != interpreter_pid) {
        PyOS_AfterFork_Child();
        interpreter_pid = getpid();
    }
}

void leave_interpreter(void) { main_thread = PyEval_SaveThread(); }

/* A block of the heap that a worker keeps after its call. */
struct kept {
    tine_pool *pool;
    void *block;
};

static void release_kept(void *owner)
{
    struct kept *kept = owner;
    if (kept->pool) tine_free(kept->pool, kept->block);
    PyMem_Free(kept);
}

/* What went wrong outside of the user's function: nothing that run_function could have caught. */
static int fail(tine_task *task)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *text = value ? PyObject_Str(value) : NULL, *bytes = text ? PyUnicode_AsUTF8String(text) : NULL;
    tine_fail(task, -EIO, "%s", bytes ? PyBytes_AsString(bytes) : "the worker's interpreter");
    Py_XDECREF(bytes);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    PyErr_Clear();
    return -EIO;
}

/* Calls run(input) -> (raised, parts), and makes parts the output. */
static int run(tine_task *task, PyObject *input)
{
    PyObject *answer = PyObject_CallFunctionObjArgs(run_function, input, NULL), *sequence;
    struct parts parts;
    int raised, status;
    if (!answer) return fail(task);
    if (!PyArg_ParseTuple(answer, "pO", &raised, &sequence) || !get_parts(sequence, &parts)) {
        Py_DECREF(answer);
        return fail(task);
    }
    void *out = parts.length ? tine_output(task, parts.length) : NULL;
    if (parts.length && !out) {
        status = tine_fail(task, -ENOMEM, "no memory for a result of %zu bytes", parts.length);
    } else {
        if (out) copy_parts(&parts, out);
        status = raised ? STATUS_RAISED : 0;
    }
    release_parts(&parts);
    Py_DECREF(answer);
    return status;
}

static int call_copied(tine_task *task)
{
    size_t length;
    const char *data = tine_input(task, &length);
    enter_interpreter();
    PyObject *input = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    int status = input ? run(task, input) : fail(task);
    Py_XDECREF(input);
    leave_interpreter();
    return status;
}

static int call_block(tine_task *task)
{
    size_t length;
    const void *data = tine_input(task, &length);
    enter_interpreter();
    struct kept *kept = PyMem_Malloc(sizeof *kept);
    if (kept) *kept = (struct kept){NULL, (void *)data};
    PyObject *input = kept ? new_memory(data, length, release_kept, kept) : PyErr_NoMemory();
    int status = input ? run(task, input) : fail(task);
    if (input && memory_is_shared(input) && status >= 0) {
        kept->pool = tine_task_pool(task);
        status |= STATUS_KEPT;
    }
    Py_XDECREF(input);
    leave_interpreter();
    return status;
}

/* A pool's initializer: calls initialize(input). */
int initialize_worker(tine_task *task)
{
    size_t length;
    const char *data = tine_input(task, &length);
    enter_interpreter();
    PyObject *input = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    PyObject *answer = input ? PyObject_CallFunctionObjArgs(initialize_function, input, NULL) : NULL;
    int status = answer ? 0 : fail(task);
    Py_XDECREF(answer);
    Py_XDECREF(input);
    leave_interpreter();
    return status;
}

PyObject *serve(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO", &run_function, &initialize_function)) return NULL;
    Py_INCREF(run_function);
    Py_INCREF(initialize_function);
    return become_member(CALL_COPIED, call_copied, CALL_BLOCK, call_block);
}

PyObject *become_member(const char *name, tine_fn function, const char *other_name, tine_fn other_function)
{
    interpreter_pid = getpid();
    int rc = tine_register(name, function);
    if (!rc && other_name) rc = tine_register(other_name, other_function);
    leave_interpreter();
    if (!rc) rc = tine_init(0, NULL);
    enter_interpreter();
    if (rc) return raise_code(rc, NULL);
    PyErr_SetString(PyExc_RuntimeError, "nobody has started this process by tine");
    return NULL;
}
