/* Values that need no pickle: None, bool, int, float, str, bytes and tuples of these. A value is a tag and what belongs to it,
 * in the order and width of this machine, without padding. Everything else is pickled, in _codec.py. */
#include "native.h"
#include <string.h>

enum { NONE = 'N', TRUE = 'T', FALSE = 'F', INTEGER = 'i', REAL = 'd', TEXT = 's', BYTES = 'b', TUPLE = '(' };
enum { DEEPEST = 8 };

bool put_bytes(struct writer *to, const void *bytes, size_t length)
{
    if (to->capacity - to->length < length) {
        size_t capacity = (to->length + length) * 2;
        char *data = PyMem_Realloc(to->data == to->first ? NULL : to->data, capacity);
        if (!data) {
            PyErr_NoMemory();
            return false;
        }
        if (to->data == to->first) memcpy(data, to->first, to->length);
        to->data = data;
        to->capacity = capacity;
    }
    if (length) memcpy(to->data + to->length, bytes, length);
    to->length += length;
    return true;
}

void writer_begin(struct writer *to)
{
    to->data = to->first;
    to->length = 0;
    to->capacity = sizeof to->first;
}

void writer_end(struct writer *to)
{
    if (to->data != to->first) PyMem_Free(to->data);
}

static int put_tagged(struct writer *to, char tag, const void *bytes, size_t length)
{
    return put_bytes(to, &tag, 1) && put_bytes(to, bytes, length) ? 1 : -1;
}

static int put_sized(struct writer *to, char tag, const char *bytes, Py_ssize_t length)
{
    uint32_t size = (uint32_t)length;
    if (length > INLINE_BYTES) return 0;
    return put_tagged(to, tag, &size, sizeof size) == 1 && put_bytes(to, bytes, size) ? 1 : -1;
}

static int put_value_at(struct writer *to, PyObject *value, int depth, size_t most)
{
    PyTypeObject *type = Py_TYPE(value);
    if (to->length > most) return 0;
    if (value == Py_None) return put_tagged(to, NONE, NULL, 0);
    if (value == Py_True || value == Py_False) return put_tagged(to, value == Py_True ? TRUE : FALSE, NULL, 0);
    if (type == &PyLong_Type) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return overflow ? 0 : put_tagged(to, INTEGER, &number, sizeof number);
    }
    if (type == &PyFloat_Type) {
        double number = PyFloat_AsDouble(value);
        return put_tagged(to, REAL, &number, sizeof number);
    }
    if (type == &PyUnicode_Type) {
        Py_ssize_t length;
        const char *text = PyUnicode_AsUTF8AndSize(value, &length);
        if (text) return put_sized(to, TEXT, text, length);
        PyErr_Clear(); /* a surrogate: pickle has a way */
        return 0;
    }
    if (type == &PyBytes_Type) return put_sized(to, BYTES, PyBytes_AsString(value), PyBytes_Size(value));
    if (type == &PyTuple_Type && depth < DEEPEST && PyTuple_Size(value) <= VALUE_BYTES) {
        uint32_t count = (uint32_t)PyTuple_Size(value);
        int done = put_tagged(to, TUPLE, &count, sizeof count);
        for (uint32_t at = 0; done == 1 && at < count; at++) done = put_value_at(to, PyTuple_GetItem(value, at), depth + 1, most);
        return done;
    }
    return 0;
}

int put_value(struct writer *to, PyObject *value)
{
    size_t before = to->length;
    int done = put_value_at(to, value, 0, before + VALUE_BYTES);
    if (done != 1) to->length = before;
    return done;
}

bool get_bytes(struct reader *from, void *bytes, size_t length)
{
    if ((size_t)(from->end - from->at) < length) return false;
    memcpy(bytes, from->at, length);
    from->at += length;
    return true;
}

static PyObject *get_value_at(struct reader *from, int depth)
{
    char tag;
    long long integer;
    double real;
    uint32_t size;
    if (!get_bytes(from, &tag, 1)) return NULL;
    switch (tag) {
    case NONE: Py_RETURN_NONE;
    case TRUE: Py_RETURN_TRUE;
    case FALSE: Py_RETURN_FALSE;
    case INTEGER: return get_bytes(from, &integer, sizeof integer) ? PyLong_FromLongLong(integer) : NULL;
    case REAL: return get_bytes(from, &real, sizeof real) ? PyFloat_FromDouble(real) : NULL;
    case TEXT:
    case BYTES:
        if (!get_bytes(from, &size, sizeof size) || (size_t)(from->end - from->at) < size) return NULL;
        from->at += size;
        if (tag == BYTES) return PyBytes_FromStringAndSize(from->at - size, size);
        return PyUnicode_DecodeUTF8(from->at - size, size, NULL);
    case TUPLE: {
        /* Each item takes a byte at least, so a count that cannot be is seen before memory is taken for it. */
        if (depth >= DEEPEST || !get_bytes(from, &size, sizeof size) || (size_t)(from->end - from->at) < size) return NULL;
        PyObject *tuple = PyTuple_New(size);
        for (uint32_t at = 0; tuple && at < size; at++) {
            PyObject *item = get_value_at(from, depth + 1);
            if (!item || PyTuple_SetItem(tuple, at, item) < 0) Py_CLEAR(tuple);
        }
        return tuple;
    }
    default: return NULL;
    }
}

PyObject *get_value(struct reader *from)
{
    PyObject *value = get_value_at(from, 0);
    if (!value && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a message is damaged");
    return value;
}

/* A value as a message, or None: it has to be pickled. */
PyObject *encode_value(PyObject *module, PyObject *value)
{
    (void)module;
    char tag = MESSAGE_VALUE;
    struct writer to;
    writer_begin(&to);
    int done = put_bytes(&to, &tag, 1) ? put_value(&to, value) : -1;
    PyObject *message = NULL;
    if (done == 1) message = PyBytes_FromStringAndSize(to.data, (Py_ssize_t)to.length);
    else if (done == 0) message = Py_NewRef(Py_None);
    writer_end(&to);
    return message;
}

PyObject *decode_value(PyObject *module, PyObject *message)
{
    (void)module;
    Py_buffer view;
    if (PyObject_GetBuffer(message, &view, PyBUF_SIMPLE) < 0) return NULL;
    const char *data = view.buf;
    struct reader from = {data + (view.len > 0), data + view.len};
    PyObject *value = get_value(&from);
    PyBuffer_Release(&view);
    return value;
}

/* A call, or None: (function's pickle, arguments) in a form of its own. */
PyObject *encode_call(PyObject *module, PyObject *arguments)
{
    (void)module;
    const char *function;
    Py_ssize_t function_length;
    PyObject *values;
    struct writer to;
    if (!PyArg_ParseTuple(arguments, "y#O", &function, &function_length, &values)) return NULL;
    char tag = MESSAGE_CALL;
    uint32_t length = (uint32_t)function_length;
    writer_begin(&to);
    int done = put_bytes(&to, &tag, 1) && put_bytes(&to, &length, sizeof length) && put_bytes(&to, function, length)
                   ? put_value(&to, values)
                   : -1;
    PyObject *message = NULL;
    if (done == 1) message = PyBytes_FromStringAndSize(to.data, (Py_ssize_t)to.length);
    else if (done == 0) message = Py_BuildValue("");
    writer_end(&to);
    return message;
}
