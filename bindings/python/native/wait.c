#include "wait.h"
#include <errno.h>
#include <limits.h>
#include <time.h>

bool get_timeout(PyObject *timeout, int64_t *timeout_ns)
{
    *timeout_ns = TINE_FOREVER;
    if (!timeout || timeout == Py_None) return true;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred()) return false;
    if (seconds != seconds) {
        PyErr_SetString(PyExc_ValueError, "the timeout is not a number (NaN)");
        return false;
    }
    if (seconds <= 0) *timeout_ns = 0;
    else if (seconds < 9e9) *timeout_ns = (int64_t)(seconds * 1e9) + 1;
    return true;
}

/* 1, 0, or -1 with an exception: as the running Python's multiprocessing takes it, any object since 3.12 and a C int before. */
static int get_block(PyObject *given)
{
#if PY_VERSION_HEX < 0x030B0000
    const unsigned long Py_Version = PY_VERSION_HEX;
#endif
    if (Py_Version >= 0x030C0000) return PyObject_IsTrue(given);
    PyObject *index = PyNumber_Index(given);
    long number = index ? PyLong_AsLong(index) : -1;
    Py_XDECREF(index);
    if (number == -1 && PyErr_Occurred()) return -1;
    if (number < INT_MIN || number > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "block does not fit into a C int");
        return -1;
    }
    return number != 0;
}

bool get_block_and_timeout(const char *name, PyObject *const *arguments, Py_ssize_t count, PyObject *names, int64_t *timeout_ns)
{
    PyObject *given[2] = {NULL, NULL};
    if (count > 2) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 2 arguments (%zd given)", name, count);
        return false;
    }
    for (Py_ssize_t at = 0; at < count; at++) given[at] = arguments[at];
    for (Py_ssize_t at = 0, keywords = names ? PyTuple_Size(names) : 0; at < keywords; at++) {
        PyObject *keyword = PyTuple_GetItem(names, at);
        int which = PyUnicode_CompareWithASCIIString(keyword, "block") == 0     ? 0
                    : PyUnicode_CompareWithASCIIString(keyword, "timeout") == 0 ? 1
                                                                                : -1;
        if (which < 0 || given[which]) {
            PyErr_Format(PyExc_TypeError, which < 0 ? "%s() got an unexpected keyword argument '%U'" : "%s() got '%U' twice",
                         name, keyword);
            return false;
        }
        given[which] = arguments[count + at];
    }
    int block = given[0] ? get_block(given[0]) : 1;
    if (block < 0 || !get_timeout(given[1], timeout_ns)) return false;
    if (!block) *timeout_ns = 0;
    return true;
}

int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t time_left(int64_t timeout_ns, int64_t until_ns)
{
    if (timeout_ns == TINE_FOREVER) return timeout_ns;
    int64_t left = until_ns - monotonic_ns();
    return left < 0 ? 0 : left;
}

int wait_for(int (*call)(void *at, int64_t timeout_ns), void *at, int64_t timeout_ns)
{
    int rc = call(at, 0);
    if (rc != -EAGAIN || timeout_ns == 0) return rc;
    int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    do {
        Py_BEGIN_ALLOW_THREADS
        rc = call(at, timeout_ns);
        Py_END_ALLOW_THREADS
        if (rc != -EINTR) return rc;
        if (PyErr_CheckSignals()) return RAISED;
        timeout_ns = time_left(timeout_ns, until_ns);
    } while (timeout_ns);
    return -ETIMEDOUT;
}

PyObject *answer_of_wait(int rc)
{
    if (rc == 0) Py_RETURN_TRUE;
    if (rc == -EAGAIN || rc == -ETIMEDOUT) Py_RETURN_FALSE;
    return rc == RAISED ? NULL : raise_code(rc, NULL);
}
