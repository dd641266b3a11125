/* Waiting: timeouts as multiprocessing has them, without the interpreter's lock, and until a signal handler raises. */
#ifndef TINE_PYTHON_WAIT_H
#define TINE_PYTHON_WAIT_H

#include "native.h"

/* What a wait gives beside the codes of tine's: a signal handler has raised. */
#define RAISED 1000000

/* Nanoseconds of a timeout in seconds: None waits for ever, less than 0 is 0. False with an exception. */
bool get_timeout(PyObject *timeout, int64_t *timeout_ns);

/* (block=True, timeout=None) of a fast call; timeout does not matter unless block is true. */
bool get_block_and_timeout(const char *name, PyObject *const *arguments, Py_ssize_t count, PyObject *names, int64_t *timeout_ns);

int64_t monotonic_ns(void);

/* What is left of timeout_ns until the moment until_ns; 0: nothing. */
int64_t time_left(int64_t timeout_ns, int64_t until_ns);

/* Tries, and then waits without the interpreter's lock. After a signal handler that did not raise it waits on. */
int wait_for(int (*call)(void *at, int64_t timeout_ns), void *at, int64_t timeout_ns);

/* True: a wait has succeeded; False: its time ran out; otherwise an exception. */
PyObject *answer_of_wait(int rc);

/* A function of METH_FASTCALL for a table of methods. */
#define FAST(function) ((PyCFunction)(void (*)(void))(function))

#endif
