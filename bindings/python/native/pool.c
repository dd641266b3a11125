/* A pool as Python's host sees it: calls go in as buffers with a token, results come out with the token (results.c). */
#include "pool.h"
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Futures bound what is under way, if anybody does: a callback that submits must find room. */
#define WINDOW_TASKS ((size_t)1 << 30)

static PyTypeObject *pool_type;

void destroy_if_over(struct pool_base *base)
{
    if (!base->closed || base->looked_at || !base->pool) return;
    tine_pool *pool = base->pool;
    base->pool = NULL;
    Py_BEGIN_ALLOW_THREADS
    tine_pool_destroy(pool);
    Py_END_ALLOW_THREADS
}

PyObject *list_answers(void *pool, PyObject *(*answer_of)(void *pool, tine_result *result), tine_result *results, int count, int rc)
{
    bool failed = !count && rc != -ETIMEDOUT && rc != -EAGAIN && rc != -EINTR && rc != TINE_EEMPTY;
    PyObject *list = failed ? raise_code(rc, NULL) : PyList_New(0);
    for (int at = 0; at < count; at++) {
        PyObject *answer = answer_of(pool, &results[at]);
        if (!answer || !list || PyList_Append(list, answer) < 0) Py_CLEAR(list);
        Py_XDECREF(answer);
    }
    return list;
}

bool pool_is_open(const struct pool_base *base)
{
    if (base->pool && !base->closed) return true;
    raise_code(TINE_ESHUTDOWN, "the pool is closed");
    return false;
}

bool enter_pool(struct pool_base *base)
{
    bool open = pool_is_open(base);
    base->looked_at += open;
    return open;
}

void leave_pool(struct pool_base *base)
{
    base->looked_at--;
    destroy_if_over(base);
}

bool enter_submission(struct pool_base *base)
{
    bool open = enter_pool(base);
    base->coming += open;
    return open;
}

void leave_submission(struct pool_base *base, bool taken)
{
    base->coming--;
    base->under_way += taken;
    leave_pool(base);
}

/* What any pool's object begins with. */
struct any_pool {
    PyObject_HEAD
    struct pool_base base;
};
_Static_assert(offsetof(struct any_pool, base) == offsetof(Pool, base), "where a pool's object has it");

PyObject *pool_outstanding(PyObject *object, PyObject *unused)
{
    Py_ssize_t under_way = ((struct any_pool *)object)->base.under_way;
    (void)unused;
    return PyLong_FromSsize_t(under_way < 0 ? 0 : under_way);
}

PyObject *pool_coming(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((struct any_pool *)object)->base.coming);
}

PyObject *raise_submission(int rc, const char *text)
{
    /* One that may wait does so while the window is full. EAGAIN means then that there is no thread to be had, and that waiting helps nobody. */
    if (rc != -EAGAIN) return raise_code(rc, text);
    return PyErr_Format(PyExc_RuntimeError, "can't start new thread (%s)", text);
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

bool get_faults(PyObject *given, tine_faults *faults)
{
    unsigned long long words[6];
    long long delay_ns;
    if (!given || given == Py_None) return true;
    if (!PyArg_ParseTuple(given, "KKKKKLK", &words[0], &words[1], &words[2], &words[3], &words[4], &delay_ns, &words[5])) return false;
    faults->seed = words[0];
    faults->kill_start = words[1];
    faults->kill_call = words[2];
    faults->kill_return = words[3];
    faults->delay_call = words[4];
    faults->delay_ns = delay_ns;
    faults->fail_alloc = words[5];
    return true;
}

PyObject *start_nodes(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_init(0, NULL);
    Py_END_ALLOW_THREADS
    if (rc) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *pool_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"workers", "start", "worker_path", "worker_arguments", "initializer_input", "max_tasks_per_worker",
                            "grace_ns", "start_timeout_ns", "deadline_ns", "min_workers", "faults", "engine", NULL};
    tine_faults faults = TINE_FAULTS_INIT;
    tine_pool_options options = TINE_POOL_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *worker_arguments, *keep, *faults_given = NULL;
    Py_ssize_t workers, min_workers = 0;
    long long grace_ns = 0, start_timeout_ns = 0, deadline_ns = 0;
    const char *input = NULL;
    Py_ssize_t input_length = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "niyO|z#ILLLnOi", names, &workers, &options.start,
                                     &options.worker_path, &worker_arguments, &input, &input_length,
                                     &options.max_tasks_per_worker, &grace_ns, &start_timeout_ns, &deadline_ns, &min_workers,
                                     &faults_given, &options.engine) ||
        !get_faults(faults_given, &faults))
        return NULL;
    Pool *self = (Pool *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    const char **strings = self ? get_strings(worker_arguments, &keep) : NULL;
    if (!strings) {
        Py_XDECREF((PyObject *)self);
        return NULL;
    }
    options.error = &error;
    options.flags = TINE_INTERRUPTIBLE;
    options.workers = (size_t)workers;
    options.min_workers = (size_t)min_workers;
    options.window_tasks = WINDOW_TASKS;
    options.worker_arguments = strings;
    if (input) {
        options.initializer = initialize_worker;
        options.initializer_input = input;
        options.initializer_length = (size_t)input_length;
    }
    options.finalizer = finalize_worker;
    options.grace_ns = grace_ns;
    options.start_timeout_ns = start_timeout_ns;
    options.deadline_ns = deadline_ns;
    options.faults = &faults;
    int rc;
    self->on_nodes = options.engine != TINE_ENGINE_LOCAL && options.engine != TINE_ENGINE_DEFAULT;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_pool_create(&options, &self->base.pool);
    Py_END_ALLOW_THREADS
    PyMem_Free(strings);
    Py_DECREF(keep);
    if (rc) {
        self->base.pool = NULL;
        Py_DECREF((PyObject *)self);
        return raise_code(rc, error.text);
    }
    return (PyObject *)self;
}

static void pool_dealloc(PyObject *object)
{
    Pool *self = (Pool *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->base.closed = true;
    destroy_if_over(&self->base);
    free(self->free_marks);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static unsigned char *address_of_mark(Pool *self, uint32_t mark)
{
    return mark == NO_MARK ? NULL : &self->banks[mark / BANK_MARKS][mark % BANK_MARKS];
}

static uint32_t take_mark(Pool *self)
{
    if (self->on_nodes) return NO_MARK;
    if (!self->free_count && self->bank_count < MOST_BANKS) {
        size_t marks = (size_t)(self->bank_count + 1) * BANK_MARKS;
        uint32_t *list = realloc(self->free_marks, marks * sizeof *list);
        if (!list) return NO_MARK;
        self->free_marks = list;
        unsigned char *bank = tine_alloc(self->base.pool, BANK_MARKS);
        if (!bank) return NO_MARK;
        self->banks[self->bank_count] = bank;
        for (uint32_t at = BANK_MARKS; at-- > 0;) list[self->free_count++] = self->bank_count * BANK_MARKS + at;
        self->bank_count++;
    }
    if (!self->free_count) return NO_MARK;
    uint32_t mark = self->free_marks[--self->free_count];
    *address_of_mark(self, mark) = 0;
    return mark;
}

void give_mark(Pool *self, uint32_t mark)
{
    if (mark != NO_MARK) self->free_marks[self->free_count++] = mark;
}

/* A call whose message goes into a block of the heap: long ones, with one copy; and chunks. */
static int submit_block(Pool *self, struct call *call, const struct parts *parts, const tine_submit_options *options, tine_id *id)
{
    int rc = -ENOMEM;
    Py_BEGIN_ALLOW_THREADS
    call->block = tine_alloc_aligned(self->base.pool, BLOCK_ALIGNMENT, BLOCK_ALIGNMENT + parts->length);
    if (call->block) {
        *(struct block_head *)call->block = (struct block_head){address_of_mark(self, call->mark), 0};
        copy_parts(parts, call->block + BLOCK_ALIGNMENT);
    }
    if (call->block && call->count) call->chunk = chunk_begin(self->base.pool, call->block + BLOCK_ALIGNMENT);
    if (call->block && (!call->count || call->chunk))
        rc = tine_submit(self->base.pool, NULL, call->block, BLOCK_ALIGNMENT + parts->length, options, id);
    Py_END_ALLOW_THREADS
    return rc;
}

static PyObject *pool_submit(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *sequence, *token;
    long long deadline_ns;
    unsigned retries;
    unsigned long long count = 0;
    struct parts parts;
    if (!PyArg_ParseTuple(arguments, "OOLI|K", &sequence, &token, &deadline_ns, &retries, &count)) return NULL;
    if (!enter_submission(&self->base)) return NULL;
    if (!get_parts(sequence, &parts)) {
        leave_submission(&self->base, false);
        return NULL;
    }
    tine_id id = 0;
    uint32_t mark = NO_MARK;
    int rc = -ENOMEM;
    struct call *call = malloc(sizeof *call);
    if (call) {
        call->token = token;
        call->block = NULL;
        call->length = parts.length;
        call->count = count;
        call->chunk = NULL;
        options.error = &error;
        options.user = call;
        options.deadline_ns = deadline_ns;
        options.retries = retries;
        options.flags = retries ? TINE_IDEMPOTENT : 0;
        Py_INCREF(token);
        bool copied = parts.count == 1 && parts.length <= COPIED_BYTES && !count;
        options.name = copied ? CALL_COPIED : self->on_nodes ? CALL_COPIED_BLOCK : CALL_BLOCK;
        struct {
            unsigned char *mark;
            char message[COPIED_BYTES];
        } copy;
        size_t length = sizeof copy.mark + parts.length;
        call->mark = mark = take_mark(self);
        if (copied) {
            copy.mark = address_of_mark(self, call->mark);
            copy_parts(&parts, copy.message);
            rc = tine_submit(self->base.pool, NULL, &copy, length, &options, &id);
        } else {
            length = BLOCK_ALIGNMENT + parts.length;
            rc = submit_block(self, call, &parts, &options, &id);
        }
        /* Waiting for room is what a signal may end; a call for which there is room does not even let other threads run. */
        while ((rc == -EAGAIN && !options.timeout_ns) || rc == -EINTR) {
            if (rc == -EINTR && PyErr_CheckSignals() < 0) break;
            options.timeout_ns = TINE_FOREVER;
            Py_BEGIN_ALLOW_THREADS
            rc = tine_submit(self->base.pool, NULL, copied ? (void *)&copy : call->block, length, &options, &id);
            Py_END_ALLOW_THREADS
        }
        if (rc == 0) {
            self->input_bytes += (Py_ssize_t)parts.length;
        } else {
            tine_free(self->base.pool, call->block);
            tine_free(self->base.pool, call->chunk);
            give_mark(self, call->mark);
            Py_DECREF(token);
            free(call);
        }
    }
    release_parts(&parts);
    leave_submission(&self->base, rc == 0);
    if (rc == -EINTR) return NULL;
    if (rc) return raise_submission(rc, error.text);
    return Py_BuildValue("(KI)", (unsigned long long)id, (unsigned)mark);
}

static PyObject *pool_cancel(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
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

static PyObject *cancel_with(PyObject *object, int (*cancel)(tine_pool *pool))
{
    Pool *self = (Pool *)object;
    int rc;
    if (!enter_pool(&self->base)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = cancel(self->base.pool);
    Py_END_ALLOW_THREADS
    leave_pool(&self->base);
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
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns) || !enter_pool(&self->base)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_pool_shutdown(self->base.pool, timeout_ns);
    Py_END_ALLOW_THREADS
    leave_pool(&self->base);
    return PyBool_FromLong(rc == 0);
}

static PyObject *pool_close(PyObject *object, PyObject *unused)
{
    Pool *self = (Pool *)object;
    (void)unused;
    self->base.closed = true;
    destroy_if_over(&self->base);
    Py_RETURN_NONE;
}

static PyObject *pool_stats(PyObject *object, PyObject *unused)
{
    Pool *self = (Pool *)object;
    tine_stats stats = TINE_STATS_INIT;
    (void)unused;
    if (!pool_is_open(&self->base)) return NULL;
    int rc = tine_pool_stats(self->base.pool, &stats);
    if (rc) return raise_code(rc, NULL);
    return Py_BuildValue("{sKsKsKsKsKsKsK}", "workers", (unsigned long long)stats.workers, "workers_ready",
                         (unsigned long long)stats.workers_ready, "submitted", (unsigned long long)stats.submitted, "settled",
                         (unsigned long long)stats.settled, "outstanding", (unsigned long long)stats.outstanding,
                         "worker_deaths", (unsigned long long)stats.worker_deaths, "heap_allocated_bytes",
                         (unsigned long long)stats.heap_allocated_bytes);
}

static PyObject *pool_stats_text(PyObject *object, PyObject *name)
{
    Pool *self = (Pool *)object;
    if (!pool_is_open(&self->base)) return NULL;
    const char *label = PyUnicode_AsUTF8AndSize(name, NULL);
    if (!label) return NULL;
    tine_pool *pools[] = {self->base.pool};
    size_t length = 0, capacity = 2048;
    for (;;) {
        char *text = PyMem_Malloc(capacity);
        if (!text) return PyErr_NoMemory();
        int rc = tine_stats_text(pools, &label, 1, text, capacity, &length);
        PyObject *answer = rc ? NULL : PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, NULL);
        PyMem_Free(text);
        if (rc != -EMSGSIZE) return rc ? raise_code(rc, NULL) : answer;
        capacity = length + 64; /* counters grow, and their digits */
    }
}

static PyObject *pool_has_begun(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    unsigned mark;
    if (!PyArg_ParseTuple(arguments, "I", &mark)) return NULL;
    if (!self->base.pool || mark / BANK_MARKS >= self->bank_count) Py_RETURN_FALSE;
    return PyBool_FromLong(*(volatile unsigned char *)address_of_mark(self, mark));
}

static PyObject *pool_input_bytes(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((Pool *)object)->input_bytes);
}

static int add_pid(const tine_heap_usage *usage, void *list)
{
    if (!usage->alive || usage->pid == getpid()) return 0;
    PyObject *pid = PyLong_FromLong(usage->pid);
    int rc = pid ? PyList_Append(list, pid) : -1;
    Py_XDECREF(pid);
    return rc;
}

static PyObject *pool_pids(PyObject *object, PyObject *unused)
{
    Pool *self = (Pool *)object;
    (void)unused;
    PyObject *list = PyList_New(0);
    tine_pool *pool = self->base.closed ? NULL : self->base.pool;
    if (list && pool && tine_heap_processes(tine_pool_heap(pool), add_pid, list) < 0 && PyErr_Occurred()) Py_CLEAR(list);
    return list;
}

static PyMethodDef pool_methods[] = {
    {"submit", pool_submit, METH_VARARGS,
     "submit(parts, token, deadline_ns, retries, count=0) -> (id, mark): a call of the buffers in parts, one after the "
     "other; a chunk of count calls."},
    {"results", pool_results, METH_VARARGS,
     "results(timeout_ns) -> [(token, status, value, odd, (message, delivery, death), begun, size), ...]: what has settled; empty if nothing has."},
    {"cancel", pool_cancel, METH_VARARGS, "cancel(id)"},
    {"cancel_all", pool_cancel_all, METH_NOARGS, "cancel_all(): ends everything, what runs too."},
    {"cancel_queued", pool_cancel_queued, METH_NOARGS, "cancel_queued(): ends what has not begun."},
    {"shutdown", pool_shutdown, METH_VARARGS, "shutdown(timeout_ns) -> whether everything had settled by then."},
    {"close", pool_close, METH_NOARGS, "close(): ends the pool; memory of results stays as long as somebody looks at it."},
    {"has_begun", pool_has_begun, METH_VARARGS, "has_begun(mark) -> whether a call that is under way has begun."},
    {"outstanding", pool_outstanding, METH_NOARGS, "outstanding() -> how many calls have no answer from results() yet."},
    {"coming", pool_coming, METH_NOARGS, "coming() -> how many calls are being submitted."},
    {"input_bytes", pool_input_bytes, METH_NOARGS, "input_bytes() -> how long the messages of these calls are."},
    {"pids", pool_pids, METH_NOARGS, "pids() -> the process numbers of the workers that live; none once it is closed."},
    {"stats", pool_stats, METH_NOARGS, "stats() -> dict"},
    {"stats_text", pool_stats_text, METH_O, "stats_text(name) -> str"},
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
