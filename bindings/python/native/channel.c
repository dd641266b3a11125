/* An end of a channel. A thread that closes it while another is in a call on it leaves the end to that call. */
#include "wait.h"
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

typedef struct {
    PyObject_HEAD
    tine_channel *channel;
    int fd;
    unsigned calls;
    unsigned generation;
    bool closed;
    bool lent; /* to a process that is being started */
} Channel;

static PyTypeObject *channel_type;

/* Counts forks: a child takes its copies of ends over at their first use. */
static unsigned generation;
static void count_fork(void) { generation++; }

static PyObject *channel_of(tine_channel *channel)
{
    Channel *self = (Channel *)((allocfunc)PyType_GetSlot(channel_type, Py_tp_alloc))(channel_type, 0);
    if (!self) {
        tine_channel_close(channel);
        return NULL;
    }
    self->channel = channel;
    self->fd = tine_channel_fd(channel);
    self->generation = generation;
    return (PyObject *)self;
}

static tine_channel_options interruptible(void)
{
    tine_channel_options options = TINE_CHANNEL_OPTIONS_INIT;
    options.flags = TINE_INTERRUPTIBLE;
    return options;
}

static PyObject *raise_system_error(int rc)
{
    if (rc <= -4096) return raise_code(rc, NULL);
    errno = -rc;
    return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject *channel_pair(PyObject *module, PyObject *unused)
{
    tine_channel_options options = interruptible();
    tine_channel *ends[2];
    (void)module;
    (void)unused;
    int rc = tine_channel_create(&options, &ends[0], &ends[1]);
    if (rc) return raise_system_error(rc);
    PyObject *first = channel_of(ends[0]), *second = channel_of(ends[1]);
    PyObject *pair = first && second ? PyTuple_Pack(2, first, second) : NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
    return pair;
}

PyObject *channel_attach(PyObject *module, PyObject *arguments)
{
    tine_channel_options options = interruptible();
    tine_channel *channel;
    int fd;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "i", &fd)) return NULL;
    int rc = tine_channel_attach(fd, &options, &channel);
    return rc ? raise_system_error(rc) : channel_of(channel);
}

static void leave(Channel *self)
{
    if (--self->calls || !self->closed || !self->channel) return;
    tine_channel_close(self->channel);
    self->channel = NULL;
}

/* In a forked child: the calls that were under way are those of threads that it has not. */
static void forget_calls(Channel *self)
{
    if (self->generation == generation) return;
    self->calls = 0;
    self->lent = false;
}

static bool enter(Channel *self)
{
    forget_calls(self);
    if (self->closed || self->lent) {
        PyErr_SetString(PyExc_OSError, "handle is closed");
        return false;
    }
    if (self->generation != generation) {
        tine_channel_options options = interruptible();
        tine_channel *own;
        int rc = tine_channel_attach(self->fd, &options, &own);
        if (rc) {
            raise_system_error(rc);
            return false;
        }
        tine_channel_close(self->channel);
        self->channel = own;
        self->fd = tine_channel_fd(own);
        self->generation = generation;
    }
    self->calls++;
    return true;
}

tine_channel *channel_lend(PyObject *object)
{
    Channel *self = (Channel *)object;
    if (!PyObject_TypeCheck(object, channel_type)) {
        PyErr_SetString(PyExc_TypeError, "not an end of a channel");
        return NULL;
    }
    forget_calls(self);
    if (self->calls) return raise_code(-EBUSY, "another thread is in a call on this end of the channel"), NULL;
    if (!enter(self)) return NULL;
    self->lent = true;
    return self->channel;
}

void channel_lent(PyObject *object, bool given)
{
    Channel *self = (Channel *)object;
    self->lent = false;
    if (given) {
        self->channel = NULL;
        self->closed = true;
    }
    leave(self);
}

static void channel_dealloc(PyObject *object)
{
    Channel *self = (Channel *)object;
    PyTypeObject *type = Py_TYPE(object);
    tine_channel_close(self->channel);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

struct message {
    tine_channel *channel;
    void *data;
    size_t length, capacity;
    int fd;
};

static int send(void *at, int64_t timeout_ns)
{
    struct message *message = at;
    return message->data ? tine_channel_send(message->channel, message->data, message->length, timeout_ns)
                         : tine_channel_send_fd(message->channel, message->fd, timeout_ns);
}

static int receive(void *at, int64_t timeout_ns)
{
    struct message *message = at;
    return tine_channel_receive(message->channel, timeout_ns, message->data, message->capacity, &message->length);
}

static int receive_fd(void *at, int64_t timeout_ns)
{
    struct message *message = at;
    return tine_channel_receive_fd(message->channel, timeout_ns, &message->fd);
}

static PyObject *answer_of_send(int rc)
{
    if (rc == 0) Py_RETURN_NONE;
    return rc == RAISED ? NULL : raise_system_error(rc);
}

static PyObject *channel_send(PyObject *object, PyObject *data)
{
    Channel *self = (Channel *)object;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) return NULL;
    int rc = RAISED;
    if (enter(self)) {
        struct message message = {self->channel, view.buf ? view.buf : "", (size_t)view.len, 0, -1};
        rc = wait_for(send, &message, TINE_FOREVER);
        leave(self);
    }
    PyBuffer_Release(&view);
    return answer_of_send(rc);
}

static PyObject *channel_send_fd(PyObject *object, PyObject *arguments)
{
    Channel *self = (Channel *)object;
    struct message message = {NULL, NULL, 0, 0, -1};
    if (!PyArg_ParseTuple(arguments, "i", &message.fd) || !enter(self)) return NULL;
    message.channel = self->channel;
    int rc = wait_for(send, &message, TINE_FOREVER);
    leave(self);
    return answer_of_send(rc);
}

/* receive(most) -> bytes, or a descriptor; None: longer than most, and it stays. Raises EOFError. */
static PyObject *channel_receive(PyObject *object, PyObject *arguments)
{
    Channel *self = (Channel *)object;
    long long most;
    char at_once[8192];
    if (!PyArg_ParseTuple(arguments, "L", &most) || !enter(self)) return NULL;
    struct message message = {self->channel, at_once, 0, sizeof at_once, -1};
    PyObject *long_one = NULL, *answer = NULL;
    int rc;
    while ((rc = wait_for(receive, &message, TINE_FOREVER)) == -EMSGSIZE) {
        if (most >= 0 && message.length > (unsigned long long)most) break;
        Py_XDECREF(long_one);
        long_one = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)message.length);
        if (!long_one) break;
        message.data = PyBytes_AsString(long_one);
        message.capacity = message.length;
    }
    if (rc == -ENOMSG && (rc = wait_for(receive_fd, &message, TINE_FOREVER)) == 0) answer = PyLong_FromLong(message.fd);
    else if (rc == 0 && most >= 0 && message.length > (unsigned long long)most) answer = Py_NewRef(Py_None);
    else if (rc == 0 && long_one && message.length == message.capacity) answer = Py_NewRef(long_one);
    else if (rc == 0) answer = PyBytes_FromStringAndSize(message.data, (Py_ssize_t)message.length);
    else if (rc == -EMSGSIZE && !PyErr_Occurred()) answer = Py_NewRef(Py_None);
    else if (rc == -EPIPE) PyErr_SetNone(PyExc_EOFError);
    else if (rc != RAISED && rc != -EMSGSIZE) answer_of_send(rc);
    Py_XDECREF(long_one);
    leave(self);
    return answer;
}

static PyObject *channel_fileno(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((Channel *)object)->fd);
}

static PyObject *channel_close(PyObject *object, PyObject *unused)
{
    Channel *self = (Channel *)object;
    (void)unused;
    forget_calls(self);
    self->calls++;
    self->closed = true;
    leave(self);
    Py_RETURN_NONE;
}

static PyMethodDef channel_methods[] = {
    {"send", channel_send, METH_O, "send(data)"},
    {"send_fd", channel_send_fd, METH_VARARGS, "send_fd(fd): which stays the caller's."},
    {"receive", channel_receive, METH_VARARGS,
     "receive(most) -> bytes, or a descriptor that was sent; None where it is longer than most, which is not so at -1."},
    {"fileno", channel_fileno, METH_NOARGS, "fileno() -> int"},
    {"close", channel_close, METH_NOARGS, "close()"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot channel_slots[] = {
    {Py_tp_new, refuse_new},
    {Py_tp_dealloc, channel_dealloc},
    {Py_tp_methods, channel_methods},
    {0, NULL},
};
static PyType_Spec channel_spec = {"libtine._native.Channel", sizeof(Channel), 0, Py_TPFLAGS_DEFAULT, channel_slots};

bool add_channel(PyObject *module)
{
    pthread_atfork(NULL, NULL, count_fork);
    channel_type = (PyTypeObject *)PyType_FromSpec(&channel_spec);
    if (!channel_type) return false;
    Py_INCREF((PyObject *)channel_type);
    return PyModule_AddObject(module, "Channel", (PyObject *)channel_type) == 0;
}
