/* Python functions in the workers of a host of another language: each is registered by its name, and all of them are one function
 * here, which hands the name and the input to Python. */
#include "native.h"
#include <errno.h>

static PyObject *call_hook;
static tine_heap *heap; /* of the pool of this worker, once it has had a task */

tine_heap *heap_of_exports(void) { return heap; }

/* What the hook has returned: (0, output), or (code, text) of a failure. */
static int settle(tine_task *task, PyObject *answer)
{
    int code;
    PyObject *output;
    if (!PyArg_ParseTuple(answer, "iO", &code, &output)) return -1;
    if (code) {
        PyObject *text = PyUnicode_AsUTF8String(output);
        if (!text) return -1;
        tine_fail(task, code, "%s", PyBytes_AsString(text));
        Py_DECREF(text);
        return code;
    }
    struct parts parts;
    if (!get_parts(output, &parts)) return -1;
    void *out = parts.length ? tine_output(task, parts.length) : NULL;
    if (out) copy_parts(&parts, out);
    else if (parts.length) code = tine_fail(task, -ENOMEM, "no memory for a result of %zu bytes", parts.length);
    release_parts(&parts);
    return code;
}

static void nothing(void *owner) { (void)owner; }

static int call_export(tine_task *task)
{
    size_t length;
    const void *data = tine_input(task, &length);
    heap = tine_pool_heap(tine_task_pool(task));
    enter_interpreter();
    PyObject *input = new_memory(data, length, nothing, NULL), *answer = NULL;
    if (input) answer = PyObject_CallFunction(call_hook, "sO", tine_task_name(task), input);
    int status = answer ? settle(task, answer) : -1;
    if (PyErr_Occurred()) { /* the hook has an answer for what its function raises: this is a want of memory, or an end */
        PyErr_Print();
        status = tine_fail(task, -EIO, "the worker's interpreter has failed; it has said more on its standard error");
    }
    Py_XDECREF(answer);
    /* The input is gone when this returns. What looks at it may be part of a cycle that nobody has. */
    if (input && memory_is_shared(input)) PyGC_Collect();
    if (input && memory_is_shared(input))
        status = tine_fail(task, -EBUSY, "%s has kept a view of its input, which ends with the call; bytes(view) is a copy that stays",
                           tine_task_name(task));
    Py_XDECREF(input);
    leave_interpreter();
    return status;
}

PyObject *serve_exports(PyObject *module, PyObject *arguments)
{
    PyObject *names, *keep;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO", &names, &call_hook)) return NULL;
    const char **strings = get_strings(names, &keep);
    if (!strings) return NULL;
    Py_INCREF(call_hook);
    int rc = 0;
    for (size_t at = 0; strings[at] && !rc; at++) rc = tine_register(strings[at], call_export);
    PyMem_Free(strings);
    Py_DECREF(keep);
    return become_member(rc);
}
