/* A pool as Python's host sees it: calls go in as buffers with a token, results come out with the token. */
#include "native.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    tine_pool *pool;
    /* Results in the heap that Python still looks at: the pool's memory stays as long. */
    size_t looked_at;
    bool closed;
} Pool;

/* A call under way. */
struct call {
    PyObject *token;
    void *block; /* its input, if that is a block of the heap */
};

static PyTypeObject *pool_type;

static void destroy_if_over(Pool *self)
{
    if (!self->closed || self->looked_at || !self->pool) return;
    tine_pool *pool = self->pool;
    self->pool = NULL;
    Py_BEGIN_ALLOW_THREADS
    tine_pool_destroy(pool);
    Py_END_ALLOW_THREADS
}

static bool is_open(Pool *self)
{
    if (self->pool && !self->closed) return true;
    raise_code(TINE_ESHUTDOWN, "the pool is closed");
    return false;
}

const char **get_strings(PyObject *sequence, PyObject **keep)
{
    *keep = NULL;
    Py_ssize_t count = PySequence_Size(sequence);
    const char **strings = count < 0 ? NULL : PyMem_Calloc((size_t)count + 1, sizeof *strings);
    PyObject *list = strings ? PyList_New(0) : NULL;
    for (Py_ssize_t at = 0; list && at < count; at++) {
        PyObject *item = PySequence_GetItem(sequence, at), *bytes = NULL;
        if (!item || !PyUnicode_FSConverter(item, &bytes) || PyList_Append(list, bytes) < 0) Py_CLEAR(list);
        else strings[at] = PyBytes_AsString(bytes);
        Py_XDECREF(bytes);
        Py_XDECREF(item);
    }
    if (!list) {
        PyMem_Free(strings);
        if (!PyErr_Occurred()) PyErr_NoMemory();
        return NULL;
    }
    *keep = list;
    return strings;
}

static PyObject *pool_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"workers", "start", "worker_path", "worker_arguments", "initializer_input", "max_tasks_per_worker",
                            "grace_ns", "start_timeout_ns", "deadline_ns", NULL};
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *worker_arguments, *keep;
    Py_ssize_t workers;
    long long grace_ns = 0, start_timeout_ns = 0, deadline_ns = 0;
    const char *input = NULL;
    Py_ssize_t input_length = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "niyO|z#ILLL", names, &workers, &options.start,
                                     &options.worker_path, &worker_arguments, &input, &input_length,
                                     &options.max_tasks_per_worker, &grace_ns, &start_timeout_ns, &deadline_ns))
        return NULL;
    Pool *self = (Pool *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    const char **strings = self ? get_strings(worker_arguments, &keep) : NULL;
    if (!strings) {
        Py_XDECREF((PyObject *)self);
        return NULL;
    }
    options.error = &error;
    options.workers = (size_t)workers;
    options.worker_arguments = strings;
    if (input) {
        options.initializer = initialize_worker;
        options.initializer_input = input;
        options.initializer_length = (size_t)input_length;
    }
    options.grace_ns = grace_ns;
    options.start_timeout_ns = start_timeout_ns;
    options.deadline_ns = deadline_ns;
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_pool_create(&options, &self->pool);
    Py_END_ALLOW_THREADS
    PyMem_Free(strings);
    Py_DECREF(keep);
    if (rc) {
        self->pool = NULL;
        Py_DECREF((PyObject *)self);
        return raise_code(rc, error.text);
    }
    return (PyObject *)self;
}

static void pool_dealloc(PyObject *object)
{
    Pool *self = (Pool *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->closed = true;
    destroy_if_over(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *pool_submit(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *sequence, *token;
    long long deadline_ns, timeout_ns;
    unsigned retries;
    struct parts parts;
    if (!PyArg_ParseTuple(arguments, "OOLIL", &sequence, &token, &deadline_ns, &retries, &timeout_ns)) return NULL;
    if (!is_open(self) || !get_parts(sequence, &parts)) return NULL;
    tine_id id = 0;
    int rc = -ENOMEM;
    struct call *call = malloc(sizeof *call);
    if (call) {
        call->token = token;
        call->block = NULL;
        options.error = &error;
        options.user = call;
        options.deadline_ns = deadline_ns;
        options.retries = retries;
        options.flags = retries ? TINE_IDEMPOTENT : 0;
        Py_INCREF(token);
        const void *input = parts.views[0].buf;
        bool copied = parts.count == 1 && parts.length <= COPIED_BYTES;
        options.name = copied ? CALL_COPIED : CALL_BLOCK;
        /* Small calls for which there is room don't give the interpreter's lock away: that costs more than the call. */
        if (copied) rc = tine_submit(self->pool, NULL, input, parts.length, &options, &id);
        if (!copied || (rc == -EAGAIN && timeout_ns)) {
            options.timeout_ns = timeout_ns;
            Py_BEGIN_ALLOW_THREADS
            if (!copied && (call->block = tine_alloc(self->pool, parts.length)) != NULL) {
                copy_parts(&parts, call->block);
                input = call->block;
            }
            if (copied || call->block) rc = tine_submit(self->pool, NULL, input, parts.length, &options, &id);
            if (rc) tine_free(self->pool, call->block);
            Py_END_ALLOW_THREADS
        }
        if (rc) {
            Py_DECREF(token);
            free(call);
        }
    }
    release_parts(&parts);
    if (rc) return raise_code(rc, error.text);
    return PyLong_FromUnsignedLongLong(id);
}

/* A result in the heap, and the pool that it is in. */
struct looked_at {
    Pool *pool;
    tine_result result;
};

static void release_result(void *owner)
{
    struct looked_at *seen = owner;
    tine_result_release(seen->pool->pool, &seen->result);
    seen->pool->looked_at--;
    destroy_if_over(seen->pool);
    Py_DECREF((PyObject *)seen->pool);
    PyMem_Free(seen);
}

static PyObject *death_of(const tine_death *death)
{
    if (!death) Py_RETURN_NONE;
    return Py_BuildValue("(iisKi)", (int)death->pid, death->signal, death->backtrace,
                         (unsigned long long)(uintptr_t)death->fault_address, death->code);
}

/* (token, status, data, message, delivery, death); takes the result over. */
static PyObject *answer_of(Pool *self, tine_result *result)
{
    struct call *call = result->user;
    int status = result->status;
    PyObject *token = call->token, *data, *answer = NULL;
    /* A worker that died may have kept it, and then nobody has it any more. */
    if (call->block && (status < 0 || !(status & STATUS_KEPT))) tine_free(self->pool, call->block);
    free(call);
    PyObject *message = PyUnicode_DecodeUTF8(result->message, (Py_ssize_t)strlen(result->message), "replace");
    PyObject *death = death_of(result->death);
    int delivery = result->delivery;
    if (result->length <= COPIED_BYTES) {
        data = PyBytes_FromStringAndSize(result->data, (Py_ssize_t)result->length);
        tine_result_release(self->pool, result);
    } else {
        struct looked_at *seen = PyMem_Malloc(sizeof *seen);
        if (seen) {
            Py_INCREF((PyObject *)self);
            self->looked_at++;
            *seen = (struct looked_at){self, *result};
            data = new_memory(result->data, result->length, release_result, seen);
        } else {
            tine_result_release(self->pool, result);
            data = PyErr_NoMemory();
        }
    }
    if (message && death && data) answer = Py_BuildValue("(OiOOiO)", token, status, data, message, delivery, death);
    Py_DECREF(token);
    Py_XDECREF(message);
    Py_XDECREF(death);
    Py_XDECREF(data);
    return answer;
}

static PyObject *pool_results(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    long long timeout_ns;
    enum { MOST = 64 };
    tine_result results[MOST];
    int count = 0, rc;
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns)) return NULL;
    if (!self->pool) return raise_code(TINE_ESHUTDOWN, "the pool is closed");
    Py_BEGIN_ALLOW_THREADS
    do {
        results[count] = (tine_result)TINE_RESULT_INIT;
        rc = tine_next(self->pool, count ? 0 : timeout_ns, &results[count]);
    } while (rc == 0 && ++count < MOST);
    Py_END_ALLOW_THREADS
    if (!count && rc != -ETIMEDOUT && rc != -EAGAIN && rc != TINE_EEMPTY) return raise_code(rc, NULL);
    PyObject *list = PyList_New(0);
    for (int at = 0; at < count; at++) {
        PyObject *answer = answer_of(self, &results[at]);
        if (!answer || !list || PyList_Append(list, answer) < 0) Py_CLEAR(list);
        Py_XDECREF(answer);
    }
    return list;
}

static PyObject *pool_cancel(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    unsigned long long id;
    int rc;
    if (!PyArg_ParseTuple(arguments, "K", &id) || !is_open(self)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_cancel(self->pool, id);
    Py_END_ALLOW_THREADS
    if (rc < 0) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *cancel_with(PyObject *object, int (*cancel)(tine_pool *pool))
{
    Pool *self = (Pool *)object;
    int rc;
    if (!is_open(self)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = cancel(self->pool);
    Py_END_ALLOW_THREADS
    if (rc < 0) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *pool_cancel_all(PyObject *object, PyObject *unused)
{
    (void)unused;
    return cancel_with(object, tine_cancel_all);
}

static PyObject *pool_cancel_queued(PyObject *object, PyObject *unused)
{
    (void)unused;
    return cancel_with(object, tine_cancel_queued);
}

static PyObject *pool_shutdown(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    long long timeout_ns;
    int rc;
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns) || !is_open(self)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_pool_shutdown(self->pool, timeout_ns);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(rc == 0);
}

static PyObject *pool_close(PyObject *object, PyObject *unused)
{
    Pool *self = (Pool *)object;
    (void)unused;
    self->closed = true;
    destroy_if_over(self);
    Py_RETURN_NONE;
}

static PyObject *pool_stats(PyObject *object, PyObject *unused)
{
    Pool *self = (Pool *)object;
    tine_stats stats = TINE_STATS_INIT;
    (void)unused;
    if (!is_open(self)) return NULL;
    int rc = tine_pool_stats(self->pool, &stats);
    if (rc) return raise_code(rc, NULL);
    return Py_BuildValue("{sKsKsKsKsKsKsK}", "workers", (unsigned long long)stats.workers, "workers_ready",
                         (unsigned long long)stats.workers_ready, "submitted", (unsigned long long)stats.submitted, "settled",
                         (unsigned long long)stats.settled, "outstanding", (unsigned long long)stats.outstanding,
                         "worker_deaths", (unsigned long long)stats.worker_deaths, "heap_allocated_bytes",
                         (unsigned long long)stats.heap_allocated_bytes);
}

static PyMethodDef pool_methods[] = {
    {"submit", pool_submit, METH_VARARGS,
     "submit(parts, token, deadline_ns, retries, timeout_ns) -> id: a call of the buffers in parts, one after the other."},
    {"results", pool_results, METH_VARARGS,
     "results(timeout_ns) -> [(token, status, data, message, delivery, death), ...]: what has settled; empty if nothing has."},
    {"cancel", pool_cancel, METH_VARARGS, "cancel(id)"},
    {"cancel_all", pool_cancel_all, METH_NOARGS, "cancel_all(): ends everything, what runs too."},
    {"cancel_queued", pool_cancel_queued, METH_NOARGS, "cancel_queued(): ends what has not begun."},
    {"shutdown", pool_shutdown, METH_VARARGS, "shutdown(timeout_ns) -> whether everything had settled by then."},
    {"close", pool_close, METH_NOARGS, "close(): ends the pool; memory of results stays as long as somebody looks at it."},
    {"stats", pool_stats, METH_NOARGS, "stats() -> dict"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot pool_slots[] = {
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_doc, "A pool of interpreters."},
    {0, NULL},
};
static PyType_Spec pool_spec = {"libtine._native.Pool", sizeof(Pool), 0, Py_TPFLAGS_DEFAULT, pool_slots};

bool add_pool(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&pool_spec);
    if (!type) return false;
    pool_type = (PyTypeObject *)type;
    Py_INCREF(type);
    return PyModule_AddObject(module, "Pool", type) == 0;
}
