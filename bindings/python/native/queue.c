/* A queue as one process has it open: in a heap of its own in a segment, or in the heap of a pool of several languages. */
#include "sync.h"
#include <errno.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    PyObject *segment; /* or the pool's memory */
    tine_heap *heap;   /* NULL: the pool's */
    tine_queue *queue;
} Queue;

/* Messages up to this length are got in one call. */
enum { AT_ONCE_BYTES = 4096 };

static bool get_options(tine_queue_options *options, Py_ssize_t messages, Py_ssize_t bytes)
{
    if (messages < 1 || messages > TINE_MOST_MESSAGES || bytes < 0) {
        PyErr_Format(PyExc_ValueError, "a queue of %zd messages; at most %d are possible", messages, TINE_MOST_MESSAGES);
        return false;
    }
    options->capacity_messages = (size_t)messages;
    options->capacity_bytes = (size_t)bytes;
    options->flags = TINE_INTERRUPTIBLE;
    return true;
}

static PyObject *open_in_pool(PyTypeObject *type, PyObject *memory)
{
    tine_queue *queue = memory_address(memory, 0);
    if (!queue) return NULL;
    if (tine_queue_join(queue, 0) == -EINVAL) return raise_code(-EINVAL, "there is no queue at this address");
    Queue *self = (Queue *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    Py_INCREF(memory);
    self->segment = memory;
    self->queue = queue;
    return (PyObject *)self;
}

/* Queue(segment, messages, bytes) makes one; Queue(segment, address) opens one that another process has made; Queue(memory) the one
 * that lies there in a pool's heap. */
static PyObject *queue_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"segment", "messages", "bytes", "address", NULL};
    tine_queue_options options = TINE_QUEUE_OPTIONS_INIT;
    tine_heap_options heap_options = TINE_HEAP_OPTIONS_INIT;
    tine_error error = TINE_ERROR_INIT;
    PyObject *segment;
    Py_ssize_t messages = 0, bytes = 0;
    unsigned long long address = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|nnK", names, &segment, &messages, &bytes, &address)) return NULL;
    if (is_memory(segment)) return open_in_pool(type, segment);
    if (!segment_place(segment, 0, 8) || (!address && !get_options(&options, messages, bytes))) return NULL;
    Queue *self = (Queue *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    Py_INCREF(segment);
    self->segment = segment;
    options.error = heap_options.error = &error;
    tine_segment *memory = ((Segment *)segment)->segment;
    int rc = address ? tine_heap_attach(memory, &heap_options, &self->heap) : tine_heap_create(memory, &heap_options, &self->heap);
    if (rc) self->heap = NULL;
    options.heap = self->heap;
    if (!rc && !address) rc = tine_queue_create(NULL, &options, &self->queue);
    if (!rc && address) {
        self->queue = (tine_queue *)(uintptr_t)address;
        /* It is no queue where the address is made up. */
        if (tine_heap_contains(self->heap, self->queue, sizeof(void *)) != 1 || tine_queue_is_closed(self->queue)) rc = -EINVAL;
    }
    if (rc) {
        Py_DECREF((PyObject *)self);
        return raise_code(rc, error.text);
    }
    return (PyObject *)self;
}

static void queue_dealloc(PyObject *object)
{
    Queue *self = (Queue *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->heap) tine_heap_close(self->heap);
    Py_XDECREF(self->segment);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

struct putting {
    tine_queue *queue;
    Py_buffer data;
};

static int put(void *at, int64_t timeout_ns)
{
    struct putting *putting = at;
    return tine_queue_put(putting->queue, putting->data.buf, (size_t)putting->data.len, timeout_ns);
}

static PyObject *queue_put(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    struct putting putting = {((Queue *)object)->queue, {0}};
    int64_t timeout_ns = count == 2 ? PyLong_AsLongLong(arguments[1]) : 0;
    if (PyErr_Occurred() || count < 1 || PyObject_GetBuffer(arguments[0], &putting.data, PyBUF_SIMPLE) < 0) return NULL;
    int rc = wait_for(put, &putting, timeout_ns);
    PyBuffer_Release(&putting.data);
    return answer_of_wait(rc);
}

/* put_value(object): without waiting, an object that needs no pickle. False: it needs one, is long, or there is no room. */
static PyObject *queue_put_value(PyObject *object, PyObject *value)
{
    struct writer to;
    char tag = MESSAGE_VALUE;
    int rc = -EAGAIN;
    writer_begin(&to);
    int done = put_bytes(&to, &tag, 1) ? put_value(&to, value) : -1;
    if (done == 1 && to.length <= AT_ONCE_BYTES) rc = tine_queue_put(((Queue *)object)->queue, to.data, to.length, 0);
    writer_end(&to);
    return done < 0 ? NULL : answer_of_wait(rc);
}

struct getting {
    tine_queue *queue;
    void *buffer;
    size_t capacity, length;
};

static int get(void *at, int64_t timeout_ns)
{
    struct getting *getting = at;
    return tine_queue_get(getting->queue, timeout_ns, getting->buffer, getting->capacity, &getting->length);
}

/* Gets a message, of whatever length: 0, or what came instead. *long_one is a bytes object that it is in, or NULL. */
static int get_any(struct getting *getting, int64_t timeout_ns, PyObject **long_one)
{
    int rc;
    int64_t until_ns = timeout_ns == 0 || timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    *long_one = NULL;
    /* Another consumer may take a long message that has been looked at here; the next one may be longer. */
    while ((rc = wait_for(get, getting, timeout_ns)) == -EMSGSIZE) {
        Py_XDECREF(*long_one);
        *long_one = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)getting->length);
        if (!*long_one) return RAISED;
        getting->buffer = PyBytes_AsString(*long_one);
        getting->capacity = getting->length;
        timeout_ns = time_left(timeout_ns, until_ns);
    }
    return rc;
}

static PyObject *bytes_of(const struct getting *getting, PyObject *long_one)
{
    if (long_one && getting->length == getting->capacity) return Py_NewRef(long_one);
    return PyBytes_FromStringAndSize(getting->buffer, (Py_ssize_t)getting->length);
}

/* What says where a long message is. It has been taken: where it cannot be opened now, and may be later, the taker keeps it. */
static PyObject *object_elsewhere(PyObject *record, PyObject *taker)
{
    PyObject *parts = PyObject_CallMethod(taker, "open", "O", record);
    if (parts) {
        PyObject *value = PyObject_CallMethod(taker, "read", "O", parts);
        Py_DECREF(parts);
        return value;
    }
    if (!PyErr_ExceptionMatches(owner_died) && !PyErr_ExceptionMatches(PyExc_PermissionError)) {
        PyObject *type, *error, *trace;
        PyErr_Fetch(&type, &error, &trace);
        PyObject *kept = PyObject_CallMethod(taker, "keep", "O", record);
        if (!kept) PyErr_Clear();
        Py_XDECREF(kept);
        PyErr_Restore(type, error, trace);
    }
    return NULL;
}

static PyObject *object_of(const struct getting *getting, PyObject *long_one, PyObject *load, PyObject *taker)
{
    const char *data = getting->buffer;
    if (getting->length && *data == MESSAGE_VALUE) {
        struct reader from = {data + 1, data + getting->length};
        return get_value(&from);
    }
    PyObject *bytes = bytes_of(getting, long_one);
    PyObject *value = !bytes ? NULL
                      : getting->length && (unsigned char)*data == MESSAGE_LONG ? object_elsewhere(bytes, taker)
                                                                                : PyObject_CallFunctionObjArgs(load, bytes, NULL);
    Py_XDECREF(bytes);
    return value;
}

/* The message as bytes, or None if none came in time; with load the object that it is, or `empty` is raised. */
static PyObject *take(Queue *self, PyObject *timeout, PyObject *load, PyObject *empty, PyObject *taker)
{
    char at_once[AT_ONCE_BYTES];
    struct getting getting = {self->queue, at_once, sizeof at_once, 0};
    int64_t timeout_ns = PyLong_AsLongLong(timeout);
    if (timeout_ns == -1 && PyErr_Occurred()) return NULL;
    PyObject *long_one, *taken = NULL;
    int rc = get_any(&getting, timeout_ns, &long_one);
    if (rc == 0) taken = load ? object_of(&getting, long_one, load, taker) : bytes_of(&getting, long_one);
    else if (rc != -EAGAIN && rc != -ETIMEDOUT && rc != RAISED) raise_code(rc, NULL);
    else if (rc != RAISED && load) PyErr_SetNone(empty);
    else if (rc != RAISED) taken = Py_NewRef(Py_None);
    Py_XDECREF(long_one);
    return taken;
}

static PyObject *queue_get(PyObject *object, PyObject *timeout) { return take((Queue *)object, timeout, NULL, NULL, NULL); }

/* get_object(timeout_ns, load, empty, taker): what is no value comes of load(message), or of the taker where it is elsewhere; `empty` is
 * raised if nothing came in time. */
static PyObject *queue_get_object(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    if (count == 4) return take((Queue *)object, arguments[0], arguments[1], arguments[2], arguments[3]);
    PyErr_SetString(PyExc_TypeError, "get_object(timeout_ns, load, empty, taker)");
    return NULL;
}

/* get_into(buffer, timeout_ns): for who knows how long messages are. */
static PyObject *queue_get_into(PyObject *object, PyObject *arguments)
{
    Py_buffer buffer;
    long long timeout_ns;
    if (!PyArg_ParseTuple(arguments, "w*L", &buffer, &timeout_ns)) return NULL;
    struct getting getting = {((Queue *)object)->queue, buffer.buf, (size_t)buffer.len, 0};
    int rc = wait_for(get, &getting, timeout_ns);
    PyBuffer_Release(&buffer);
    if (rc == 0) return PyLong_FromSize_t(getting.length);
    if (rc == -EAGAIN || rc == -ETIMEDOUT) Py_RETURN_NONE;
    return rc == RAISED ? NULL : raise_code(rc, NULL);
}

static PyObject *queue_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    int rc = tine_queue_close(((Queue *)object)->queue);
    if (rc) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static int join(void *queue, int64_t timeout_ns) { return tine_queue_join(queue, timeout_ns); }

static PyObject *queue_join(PyObject *object, PyObject *timeout)
{
    int64_t timeout_ns = PyLong_AsLongLong(timeout);
    if (timeout_ns == -1 && PyErr_Occurred()) return NULL;
    return answer_of_wait(wait_for(join, ((Queue *)object)->queue, timeout_ns));
}

static PyObject *queue_task_done(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (tine_queue_task_done(((Queue *)object)->queue) == 0) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
    return NULL;
}

static PyObject *queue_count(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSize_t(tine_queue_count(((Queue *)object)->queue));
}

static PyObject *queue_is_full(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(tine_queue_is_full(((Queue *)object)->queue));
}

static PyObject *queue_fd(PyObject *object, PyObject *unused)
{
    (void)unused;
    int fd = tine_queue_fd(((Queue *)object)->queue);
    return fd < 0 ? raise_code(fd, NULL) : PyLong_FromLong(fd);
}

static PyObject *queue_address(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong((unsigned long long)(uintptr_t)((Queue *)object)->queue);
}

static PyMethodDef queue_methods[] = {
    {"put", FAST(queue_put), METH_FASTCALL, "put(data, timeout_ns=0) -> whether there was room in time"},
    {"put_value", queue_put_value, METH_O, "put_value(object) -> whether it needs no pickle, and there was room for it at once"},
    {"get_object", FAST(queue_get_object), METH_FASTCALL,
     "get_object(timeout_ns, load, empty, taker) -> the object put; load(message) makes it where it was pickled, the taker where it is "
     "elsewhere; empty is raised if none came in time"},
    {"get", queue_get, METH_O, "get(timeout_ns) -> bytes, or None if none came in time"},
    {"get_into", queue_get_into, METH_VARARGS, "get_into(buffer, timeout_ns) -> the message's length, or None if none came in time"},
    {"close", queue_close, METH_NOARGS, "close(): nothing more is put; what is in it can be got."},
    {"join", queue_join, METH_O, "join(timeout_ns) -> whether all was dealt with in time"},
    {"task_done", queue_task_done, METH_NOARGS, "task_done()"},
    {"count", queue_count, METH_NOARGS, "count() -> the messages of the moment"},
    {"is_full", queue_is_full, METH_NOARGS, "is_full() -> whether it holds as many messages as it may"},
    {"fd", queue_fd, METH_NOARGS, "fd() -> a descriptor that is readable while there may be something to get"},
    {"address", queue_address, METH_NOARGS, "address() -> where it lies, in every process"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot queue_slots[] = {
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_methods, queue_methods},
    {0, NULL},
};
static PyType_Spec queue_spec = {"libtine._native.Queue", sizeof(Queue), 0, Py_TPFLAGS_DEFAULT, queue_slots};

bool add_queue(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&queue_spec);
    return type && PyModule_AddObject(module, "Queue", type) == 0;
}
