/* The worker's side. The interpreter that the host starts becomes the pool's supervisor in serve(); workers are forked from
 * it in there, and call back into Python for each task. The interpreter's lock is free while a worker waits, so that threads which
 * tasks have left behind can run. */
#include "native.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* What _worker.py does for this file, and functions by their pickles. */
static PyObject *load_hook, *dump_hook, *repeated_hook, *failed_hook, *unreadable_hook, *initialize_hook, *finalize_hook;
static PyObject *functions;
static PyThreadState *main_thread;
static pid_t interpreter_pid;

/* Python has prepared for a fork in become_member(), and finds out at the first call whether there was one. */
static bool fork_is_due;

void enter_interpreter(void)
{
    PyEval_RestoreThread(main_thread);
    if (!fork_is_due) return;
    fork_is_due = false;
    if (getpid() == interpreter_pid) PyOS_AfterFork_Parent();
    else PyOS_AfterFork_Child();
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

/* The exception that is set, given to a hook that makes parts of a message of it. */
static PyObject *message_of_exception(PyObject *hook)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace && value) PyException_SetTraceback(value, trace);
    PyObject *message = PyObject_CallFunctionObjArgs(hook, value, NULL);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return message;
}

PyObject *worker_failure(void) { return message_of_exception(failed_hook); }

PyObject *worker_unreadable(void) { return message_of_exception(unreadable_hook); }

PyObject *worker_dump(PyObject *result, bool *raised)
{
    PyObject *message = PyObject_CallFunctionObjArgs(dump_hook, result, NULL);
    *raised = !message;
    return message ? message : worker_failure();
}

PyObject *worker_load(PyObject *input, Py_ssize_t offset) { return PyObject_CallFunction(load_hook, "On", input, offset); }

/* Functions that come by name are looked up once. */
PyObject *worker_function(const char *pickle, size_t length)
{
    PyObject *key = PyBytes_FromStringAndSize(pickle, (Py_ssize_t)length);
    PyObject *function = key ? PyDict_GetItemWithError(functions, key) : NULL;
    Py_XINCREF(function);
    if (key && !function && !PyErr_Occurred()) {
        function = worker_load(key, 0);
        if (function && *pickle == MESSAGE_PICKLE && PyDict_SetItem(functions, key, function) < 0) Py_CLEAR(function);
    }
    Py_XDECREF(key);
    return function;
}

/* The input of the call that runs, if that is a block of the heap: what of it is in the result need not be repeated there. */
static struct {
    PyObject *memory;
    const char *data;
    size_t length;
} call_input;

PyObject *place_in_input(PyObject *module, PyObject *view)
{
    (void)module;
    Py_buffer buffer;
    if (PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE) < 0) return NULL;
    size_t offset = (uintptr_t)buffer.buf - (uintptr_t)call_input.data, length = (size_t)buffer.len;
    bool inside = call_input.memory && buffer.readonly && offset < call_input.length && length <= call_input.length - offset;
    PyBuffer_Release(&buffer);
    /* A small part would keep all of the input in the host, for as long as somebody has the result. */
    if (!inside) return PyLong_FromLong(0);
    return length < call_input.length / 4 ? PyLong_FromLong(-1) : PyLong_FromSize_t(offset + 1);
}

/* A message that leaves parts of the input where they are is one only while nobody in this process keeps the input. */
static PyObject *repeat_what_is_kept(PyObject *message)
{
    PyObject *input = call_input.memory;
    call_input.memory = NULL;
    if (!message || !input || !memory_is_shared(input)) return message;
    PyObject *first = PySequence_GetItem(message, 0);
    bool given = first && PyBytes_Check(first) && *PyBytes_AsString(first) == MESSAGE_GIVEN;
    Py_XDECREF(first);
    if (!given) return message;
    PyObject *repeated = PyObject_CallFunctionObjArgs(repeated_hook, message, input, NULL);
    Py_DECREF(message);
    return repeated;
}

/* Makes parts the output. */
static int output_parts(tine_task *task, PyObject *message, bool raised)
{
    struct parts parts;
    if (!message || !get_parts(message, &parts)) {
        Py_XDECREF(message);
        return fail(task);
    }
    int status = raised ? STATUS_RAISED : 0;
    void *out = parts.length ? tine_output(task, parts.length) : NULL;
    if (out) copy_parts(&parts, out);
    else if (parts.length) status = tine_fail(task, -ENOMEM, "no memory for a result of %zu bytes", parts.length);
    release_parts(&parts);
    Py_DECREF(message);
    return status;
}

/* A call's result, which is let go of here, or the exception that is set, as the output. */
static int output(tine_task *task, PyObject *result)
{
    if (!result) return output_parts(task, worker_failure(), true);
    struct writer to;
    writer_begin(&to);
    char tag = MESSAGE_VALUE;
    int status = 0, done = put_bytes(&to, &tag, 1) ? put_value(&to, result) : -1;
    if (done == 1) {
        void *out = tine_output(task, to.length);
        if (out) memcpy(out, to.data, to.length);
        else status = tine_fail(task, -ENOMEM, "no memory for a result of %zu bytes", to.length);
    }
    writer_end(&to);
    bool raised = true;
    PyObject *message = done == 0 ? worker_dump(result, &raised) : NULL;
    Py_DECREF(result);
    if (done == 1) return status;
    if (done < 0) return output_parts(task, worker_failure(), true);
    return output_parts(task, repeat_what_is_kept(message), raised);
}

/* A call whose arguments are values. */
static PyObject *call_values(const char *data, size_t length, bool *read)
{
    struct reader from = {data + 1, data + length};
    uint32_t function_length;
    if (!get_bytes(&from, &function_length, sizeof function_length) || (size_t)(from.end - from.at) < function_length) {
        PyErr_SetString(PyExc_ValueError, "a message is damaged");
        return NULL;
    }
    PyObject *function = worker_function(from.at, function_length);
    from.at += function_length;
    PyObject *values = function ? get_value(&from) : NULL, *result = NULL;
    *read = values != NULL;
    if (values) result = PyObject_CallObject(function, values);
    Py_XDECREF(values);
    Py_XDECREF(function);
    return result;
}

/* A call that is a pickle of (function, arguments, keywords). */
static PyObject *call_pickled(PyObject *input, bool *read)
{
    PyObject *call = worker_load(input, 0), *function, *values, *keywords, *result = NULL;
    *read = call && PyArg_ParseTuple(call, "OOO", &function, &values, &keywords);
    if (*read) {
        Py_INCREF(function);
        Py_INCREF(values);
        Py_INCREF(keywords);
        Py_CLEAR(call); /* an argument lives no longer than its call */
        result = PyObject_Call(function, values, PyDict_Size(keywords) ? keywords : NULL);
        Py_DECREF(function);
        Py_DECREF(values);
        Py_DECREF(keywords);
    }
    Py_XDECREF(call);
    return result;
}

/* How many tasks this worker has been given, the present one included; 0 in a host. */
static unsigned long long call_count;

PyObject *calls(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong(call_count);
}

/* Does what a message says. `input` has it as Python sees it, or is made here where that is needed. */
static int run(tine_task *task, PyObject *input, const char *data, size_t length)
{
    bool read = false;
    call_count++;
    PyObject *made = NULL, *result = NULL;
    if (!input && *data != MESSAGE_CALL) input = made = PyBytes_FromStringAndSize(data, (Py_ssize_t)length);
    if (*data == MESSAGE_CHUNK) {
        int status = run_chunk(task, input, data, length) ? 0 : fail(task);
        Py_XDECREF(made);
        return status;
    }
    if (*data == MESSAGE_CALL) result = call_values(data, length, &read);
    else if (input) result = call_pickled(input, &read);
    Py_XDECREF(made);
    if (!read) {
        if (PyErr_ExceptionMatches(PyExc_SystemExit)) PyErr_Print(); /* which ends this process, as it would a program */
        return output_parts(task, worker_unreadable(), true);
    }
    return output(task, result);
}

/* Before each message stands where the host wants to see that the call has begun. */
static const char *begin(tine_task *task, size_t head, size_t *length)
{
    const char *data = tine_input(task, length);
    unsigned char *mark = *(unsigned char *const *)data;
    if (mark) *(volatile unsigned char *)mark = 1;
    *length -= head;
    return data + head;
}

static int call_copy(tine_task *task, size_t head)
{
    size_t length;
    const char *data = begin(task, head, &length);
    enter_interpreter();
    int status = run(task, NULL, data, length);
    leave_interpreter();
    return status;
}

static int call_copied(tine_task *task) { return call_copy(task, sizeof(unsigned char *)); }

static int call_copied_block(tine_task *task) { return call_copy(task, BLOCK_ALIGNMENT); }

static int call_block(tine_task *task)
{
    size_t length;
    const char *data = begin(task, BLOCK_ALIGNMENT, &length);
    struct block_head *head = (struct block_head *)(data - BLOCK_ALIGNMENT);
    head->kept = 0; /* as another worker may have left it, which has died with the call */
    enter_interpreter();
    struct kept *kept = PyMem_Malloc(sizeof *kept);
    if (kept) *kept = (struct kept){NULL, head};
    PyObject *input = kept ? new_memory(data, length, release_kept, kept) : PyErr_NoMemory();
    call_input.memory = *data == MESSAGE_CHUNK ? NULL : input;
    call_input.data = data;
    call_input.length = length;
    int status = input ? run(task, input, data, length) : fail(task);
    call_input.memory = NULL;
    if (input && memory_is_shared(input)) {
        kept->pool = tine_task_pool(task);
        head->kept = 1;
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
    PyObject *answer = input ? PyObject_CallFunctionObjArgs(initialize_hook, input, NULL) : NULL;
    int status = answer ? 0 : fail(task);
    Py_XDECREF(answer);
    Py_XDECREF(input);
    leave_interpreter();
    return status;
}

/* A pool's finalizer, in a worker that leaves in good order: calls finalize(). */
int finalize_worker(tine_task *task)
{
    enter_interpreter();
    PyObject *answer = PyObject_CallFunctionObjArgs(finalize_hook, NULL);
    int status = answer ? 0 : fail(task);
    Py_XDECREF(answer);
    leave_interpreter();
    return status;
}

PyObject *serve(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOOOOOO", &load_hook, &dump_hook, &repeated_hook, &failed_hook, &unreadable_hook, &initialize_hook,
                          &finalize_hook))
        return NULL;
    Py_INCREF(load_hook);
    Py_INCREF(dump_hook);
    Py_INCREF(repeated_hook);
    Py_INCREF(failed_hook);
    Py_INCREF(unreadable_hook);
    Py_INCREF(initialize_hook);
    Py_INCREF(finalize_hook);
    functions = PyDict_New();
    if (!functions) return NULL;
    int rc = tine_register(CALL_COPIED, call_copied);
    if (!rc) rc = tine_register(CALL_BLOCK, call_block);
    return become_member(rc ? rc : tine_register(CALL_COPIED_BLOCK, call_copied_block));
}

PyObject *become_member(int rc)
{
    interpreter_pid = getpid();
    PyOS_BeforeFork();
    fork_is_due = true;
    leave_interpreter();
    if (!rc) rc = tine_init(0, NULL);
    enter_interpreter();
    if (rc) return raise_code(rc, NULL);
    PyErr_SetString(PyExc_RuntimeError, "nobody has started this process by tine");
    return NULL;
}
