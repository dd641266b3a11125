/* A pool whose workers are programs of other languages, as Python's host sees it: functions are called by name, and what goes
 * in and comes out are bytes. */
#include "named_pool.h"
#include "wait.h"
#include <errno.h>
#include <string.h>

static PyTypeObject *pool_type;
static NamedPool *pools; /* all that Python has */

static PyObject *pool_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"workers", "start", "worker_path", "worker_arguments", "preload", "deadline_ns", "grace_ns",
                            "window_tasks", "window_bytes", "heap_bytes", "faults", NULL};
    tine_faults faults = TINE_FAULTS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *worker_arguments, *keep = NULL, *faults_given = NULL;
    Py_ssize_t workers, window_tasks, window_bytes, heap_bytes;
    long long deadline_ns, grace_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "niyOzLLnnn|O", names, &workers, &options.start, &options.worker_path,
                                     &worker_arguments, &options.preload, &deadline_ns, &grace_ns, &window_tasks, &window_bytes,
                                     &heap_bytes, &faults_given) ||
        !get_faults(faults_given, &faults))
        return NULL;
    if (workers < 0 || window_tasks < 0 || window_bytes < 0 || heap_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "workers, window_tasks, window_bytes and heap_bytes are 0 or more");
        return NULL;
    }
    const char **strings = get_strings(worker_arguments, &keep);
    NamedPool *self = strings ? (NamedPool *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0) : NULL;
    if (self) {
        options.error = &error;
        options.flags = TINE_INTERRUPTIBLE;
        options.workers = (size_t)workers;
        options.worker_arguments = strings[0] ? strings : NULL;
        options.deadline_ns = deadline_ns;
        options.grace_ns = grace_ns;
        options.window_tasks = (size_t)window_tasks;
        options.window_bytes = (size_t)window_bytes;
        options.heap_bytes = (size_t)heap_bytes;
        options.faults = &faults;
        int rc;
        Py_BEGIN_ALLOW_THREADS
        rc = tine_pool_create(&options, &self->base.pool);
        Py_END_ALLOW_THREADS
        if (rc) {
            self->base.pool = NULL;
            Py_DECREF((PyObject *)self);
            self = NULL;
            raise_code(rc, error.text);
        } else {
            self->next = pools;
            pools = self;
        }
    }
    PyMem_Free(strings);
    Py_XDECREF(keep);
    return (PyObject *)self;
}

static void pool_dealloc(PyObject *object)
{
    NamedPool *self = (NamedPool *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (NamedPool **at = &pools; *at; at = &(*at)->next) {
        if (*at != self) continue;
        *at = self->next;
        break;
    }
    self->base.closed = true;
    destroy_if_over(&self->base);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* ---- Calls ---- */

static PyObject *pool_submit(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *sequence, *token;
    long long deadline_ns, queue_deadline_ns, timeout_ns;
    int idempotent;
    struct parts parts;
    if (!PyArg_ParseTuple(arguments, "yOOLLIpL", &options.name, &sequence, &token, &deadline_ns, &queue_deadline_ns, &options.retries,
                          &idempotent, &timeout_ns))
        return NULL;
    if (!enter_submission(&self->base)) return NULL;
    if (!get_parts(sequence, &parts)) {
        leave_submission(&self->base, false);
        return NULL;
    }
    options.error = &error;
    options.deadline_ns = deadline_ns;
    options.queue_deadline_ns = queue_deadline_ns;
    options.flags = idempotent ? TINE_IDEMPOTENT : 0;
    options.user = token;
    tine_id id = 0;
    /* An input that is one block of the pool's heap goes by its address; what has parts is put together first. */
    char *copy = parts.count > 1 ? PyMem_Malloc(parts.length ? parts.length : 1) : NULL;
    const void *input = parts.count == 1 ? parts.views[0].buf : copy;
    int rc = parts.count > 1 && !copy ? -ENOMEM : 0;
    if (copy) copy_parts(&parts, copy);
    Py_INCREF(token);
    int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    while (!rc) {
        options.timeout_ns = timeout_ns ? timeout_ns : 1; /* so that a full window is ETIMEDOUT, and EAGAIN is the want of a thread */
        Py_BEGIN_ALLOW_THREADS
        rc = tine_submit(self->base.pool, NULL, parts.length ? input : NULL, parts.length, &options, &id);
        Py_END_ALLOW_THREADS
        if (rc != -EINTR) break;
        if (PyErr_CheckSignals()) break;
        timeout_ns = time_left(timeout_ns, until_ns);
        rc = 0;
    }
    PyMem_Free(copy);
    release_parts(&parts);
    leave_submission(&self->base, rc == 0);
    if (rc == 0) return PyLong_FromUnsignedLongLong(id);
    Py_DECREF(token);
    return PyErr_Occurred() ? NULL : raise_submission(rc, error.text);
}

/* (token, status, output, message, delivery, death, deaths); takes the result over. */
static PyObject *answer_of(void *object, tine_result *result)
{
    NamedPool *self = (NamedPool *)object;
    self->base.under_way--;
    PyObject *token = result->user;
    PyObject *message = PyUnicode_DecodeUTF8(result->message, (Py_ssize_t)strlen(result->message), "replace");
    PyObject *output = PyBytes_FromStringAndSize(result->data, (Py_ssize_t)result->length), *death = death_of(result->death);
    PyObject *answer = NULL;
    if (message && output && death)
        answer = Py_BuildValue("(OiOOiOI)", token, result->status, output, message, result->delivery, death, (unsigned)result->deaths);
    if (!answer) { /* there is no memory for what came of it */
        PyErr_Clear();
        answer = Py_BuildValue("(Oiy#siOI)", token, -ENOMEM, "", (Py_ssize_t)0, "no memory for the result", result->delivery, Py_None,
                               (unsigned)result->deaths);
    }
    tine_result_release(self->base.pool, result);
    Py_DECREF(token);
    Py_XDECREF(message);
    Py_XDECREF(output);
    Py_XDECREF(death);
    return answer;
}

enum { LOOK_MOST = 64 };

static PyObject *pool_results(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    long long timeout_ns;
    tine_result results[LOOK_MOST];
    int count = 0, rc;
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns) || !enter_pool(&self->base)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    do {
        results[count] = (tine_result)TINE_RESULT_INIT;
        rc = tine_next(self->base.pool, count ? 0 : timeout_ns, &results[count]);
        if (rc == 0) count++;
    } while (rc == 0 && count < LOOK_MOST);
    Py_END_ALLOW_THREADS
    PyObject *list = list_answers(self, answer_of, results, count, rc);
    leave_pool(&self->base);
    return list;
}

static PyObject *pool_cancel(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    unsigned long long id;
    int rc;
    if (!PyArg_ParseTuple(arguments, "K", &id) || !enter_pool(&self->base)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_cancel(self->base.pool, id);
    Py_END_ALLOW_THREADS
    leave_pool(&self->base);
    if (rc < 0) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *pool_cancel_all(PyObject *object, PyObject *unused)
{
    NamedPool *self = (NamedPool *)object;
    (void)unused;
    int rc;
    if (!enter_pool(&self->base)) return NULL;
    self->cancels++;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_cancel_all(self->base.pool);
    Py_END_ALLOW_THREADS
    leave_pool(&self->base);
    if (rc < 0) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static int shut_down(void *pool, int64_t timeout_ns) { return tine_pool_shutdown(pool, timeout_ns); }

static PyObject *pool_shutdown(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    long long timeout_ns;
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns) || !enter_pool(&self->base)) return NULL;
    PyObject *answer = answer_of_wait(wait_for(shut_down, self->base.pool, timeout_ns));
    leave_pool(&self->base);
    return answer;
}

struct sharing {
    tine_pool *pool;
    tine_segment *segment;
};

static int share(void *at, int64_t timeout_ns)
{
    struct sharing *sharing = at;
    return tine_pool_share(sharing->pool, sharing->segment, timeout_ns);
}

static PyObject *pool_share(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    PyObject *segment;
    long long timeout_ns;
    if (!PyArg_ParseTuple(arguments, "OL", &segment, &timeout_ns) || !segment_place(segment, 0, 0) || !enter_pool(&self->base)) return NULL;
    struct sharing sharing = {self->base.pool, ((Segment *)segment)->segment};
    PyObject *answer = answer_of_wait(wait_for(share, &sharing, timeout_ns));
    leave_pool(&self->base);
    return answer;
}

static PyObject *pool_close(PyObject *object, PyObject *unused)
{
    NamedPool *self = (NamedPool *)object;
    (void)unused;
    self->base.closed = true;
    destroy_if_over(&self->base);
    Py_RETURN_NONE;
}

/* ---- Memory ---- */

static void release_looked_at(void *owner)
{
    NamedPool *self = owner;
    leave_pool(&self->base);
    Py_DECREF((PyObject *)self);
}

static PyObject *memory_of(NamedPool *self, void *at, size_t length)
{
    Py_INCREF((PyObject *)self);
    self->base.looked_at++;
    return new_writable_memory(at, length, release_looked_at, self);
}

PyObject *memory_of_named_pool(tine_heap *heap, void *at, size_t length)
{
    NamedPool *self = pools;
    while (self && !(self->base.pool && tine_pool_heap(self->base.pool) == heap)) self = self->next;
    if (!self || tine_heap_contains(heap, at, length ? length : 1) != 1) return NULL;
    return memory_of(self, at, length);
}

static PyObject *pool_alloc(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "n", &size) || !pool_is_open(&self->base)) return NULL;
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "a block of %zd bytes", size);
        return NULL;
    }
    void *block = tine_calloc(self->base.pool, 1, (size_t)size);
    return block ? memory_of(self, block, (size_t)size) : PyErr_NoMemory();
}

static PyObject *pool_free(PyObject *object, PyObject *memory)
{
    NamedPool *self = (NamedPool *)object;
    void *at = memory_address(memory, 0);
    if (!at || !pool_is_open(&self->base)) return NULL;
    int rc = tine_heap_free(tine_pool_heap(self->base.pool), at);
    if (rc) return raise_code(rc, "no block of the pool's heap begins there, or it has been freed");
    Py_RETURN_NONE;
}

static PyObject *pool_queue(PyObject *object, PyObject *arguments)
{
    NamedPool *self = (NamedPool *)object;
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    Py_ssize_t messages, bytes;
    tine_queue *queue;
    if (!PyArg_ParseTuple(arguments, "nn", &messages, &bytes) || !pool_is_open(&self->base)) return NULL;
    if (messages < 0 || bytes < 0) {
        PyErr_Format(PyExc_ValueError, "a queue of %zd messages and %zd bytes", messages, bytes);
        return NULL;
    }
    options.error = &error;
    options.flags = TINE_INTERRUPTIBLE;
    options.capacity_messages = (size_t)messages;
    options.capacity_bytes = (size_t)bytes;
    int rc = tine_queue_create(self->base.pool, &options, &queue);
    return rc ? raise_code(rc, error.text) : memory_of(self, queue, 0);
}

static PyObject *pool_stats(PyObject *object, PyObject *unused)
{
    NamedPool *self = (NamedPool *)object;
    tine_stats stats = TINE_STATS_INIT;
    tine_heap_info heap = TINE_HEAP_INFO_INIT;
    (void)unused;
    if (!pool_is_open(&self->base)) return NULL;
    int rc = tine_pool_stats(self->base.pool, &stats);
    if (!rc) rc = tine_heap_stats(tine_pool_heap(self->base.pool), &heap);
    if (rc) return raise_code(rc, NULL);
    return Py_BuildValue("{sKsKsKsKsKsKsK}", "workers", (unsigned long long)stats.workers, "workers_ready",
                         (unsigned long long)stats.workers_ready, "submitted", (unsigned long long)stats.submitted, "settled",
                         (unsigned long long)stats.settled, "outstanding", (unsigned long long)stats.outstanding, "worker_deaths",
                         (unsigned long long)stats.worker_deaths, "heap_blocks", (unsigned long long)heap.used_blocks);
}

static PyMethodDef pool_methods[] = {
    {"submit", pool_submit, METH_VARARGS,
     "submit(name, parts, token, deadline_ns, queue_deadline_ns, retries, idempotent, timeout_ns) -> id"},
    {"results", pool_results, METH_VARARGS,
     "results(timeout_ns) -> [(token, status, output, message, delivery, death, deaths), ...]; empty if nothing has settled."},
    {"outstanding", pool_outstanding, METH_NOARGS, "outstanding() -> how many calls have no answer from results() yet."},
    {"coming", pool_coming, METH_NOARGS, "coming() -> how many calls are being submitted."},
    {"map", named_pool_map, METH_VARARGS,
     "map(name, items, results, count, context, chunk, deadline_ns, retries, idempotent) -> [(item, status, message), ...]: what failed."},
    {"cancel", pool_cancel, METH_VARARGS, "cancel(id)"},
    {"cancel_all", pool_cancel_all, METH_NOARGS, "cancel_all(): ends everything, what runs too."},
    {"shutdown", pool_shutdown, METH_VARARGS, "shutdown(timeout_ns) -> whether everything had settled by then."},
    {"share", pool_share, METH_VARARGS, "share(segment, timeout_ns) -> whether all workers have it."},
    {"close", pool_close, METH_NOARGS, "close(): ends the pool; its memory stays as long as somebody looks at it."},
    {"alloc", pool_alloc, METH_VARARGS, "alloc(size) -> Memory: a block of zeros."},
    {"free", pool_free, METH_O, "free(memory)"},
    {"queue", pool_queue, METH_VARARGS, "queue(messages, bytes) -> Memory: where a new queue lies."},
    {"stats", pool_stats, METH_NOARGS, "stats() -> dict"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot pool_slots[] = {
    {Py_tp_new, pool_new},
    {Py_tp_dealloc, pool_dealloc},
    {Py_tp_methods, pool_methods},
    {Py_tp_doc, "A pool of programs of other languages."},
    {0, NULL},
};
static PyType_Spec pool_spec = {"libtine._native.NamedPool", sizeof(NamedPool), 0, Py_TPFLAGS_DEFAULT, pool_slots};

bool add_named_pool(PyObject *module)
{
    pool_type = (PyTypeObject *)PyType_FromSpec(&pool_spec);
    return pool_type && PyModule_AddObject(module, "NamedPool", (PyObject *)pool_type) == 0;
}
