/* What came of a pool's calls: takes results as they settle, and makes Python objects of them. */
#include "pool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A result in the heap, and the pool that it is in. */
struct looked_at {
    Pool *pool;
    tine_result result;
};

static void release_result(void *owner)
{
    struct looked_at *seen = owner;
    tine_result_release(seen->pool->base.pool, &seen->result);
    leave_pool(&seen->pool->base);
    Py_DECREF((PyObject *)seen->pool);
    PyMem_Free(seen);
}

PyObject *death_of(const tine_death *death)
{
    if (!death) Py_RETURN_NONE;
    return Py_BuildValue("(iisKi)", (int)death->pid, death->signal, death->backtrace,
                         (unsigned long long)(uintptr_t)death->fault_address, death->code);
}

/* A block that a worker has left for the host. */
struct taken {
    Pool *pool;
    void *block;
};

static void release_taken(void *owner)
{
    struct taken *taken = owner;
    tine_free(taken->pool->base.pool, taken->block);
    leave_pool(&taken->pool->base);
    Py_DECREF((PyObject *)taken->pool);
    PyMem_Free(taken);
}

PyObject *take_block(PyObject *pool, void *block, size_t offset, size_t length)
{
    Pool *self = (Pool *)pool;
    struct taken *taken = PyMem_Malloc(sizeof *taken);
    if (!taken) {
        tine_free(self->base.pool, block);
        return PyErr_NoMemory();
    }
    Py_INCREF(pool);
    self->base.looked_at++;
    *taken = (struct taken){self, block};
    return new_memory((char *)block + offset, length, release_taken, taken);
}

/* What a call has given: its value, or the message that has it; releases the result. *odd says which. */
static PyObject *data_of(Pool *self, tine_result *result, PyObject **odd)
{
    const char *bytes = result->data;
    if (result->length && *bytes == MESSAGE_VALUE) {
        struct reader from = {bytes + 1, bytes + result->length};
        PyObject *value = get_value(&from);
        *odd = Py_BuildValue("");
        tine_result_release(self->base.pool, result);
        return value;
    }
    *odd = PyBool_FromLong(result->status >= 0 && result->status & STATUS_RAISED);
    PyObject *data = NULL;
    struct looked_at *seen = result->length > COPIED_BYTES ? PyMem_Malloc(sizeof *seen) : NULL;
    if (seen) {
        Py_INCREF((PyObject *)self);
        self->base.looked_at++;
        *seen = (struct looked_at){self, *result};
        return new_memory(result->data, result->length, release_result, seen);
    }
    if (result->length <= COPIED_BYTES) data = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)result->length);
    else PyErr_NoMemory();
    tine_result_release(self->base.pool, result);
    return data;
}

/* Whether the worker keeps the call's input. One that has died may have kept it, and then nobody has it any more. */
static bool is_kept(const struct call *call, const tine_result *result)
{
    return call->block && result->delivery == TINE_RAN && !result->death && ((struct block_head *)call->block)->kept;
}

/* Whether a result says where in its call's input something is; a worker that keeps the input itself does not say so. */
static bool refers_to_input(const struct call *call, const tine_result *result)
{
    return call->block && !call->count && result->status >= 0 && result->length && *(const char *)result->data == MESSAGE_GIVEN;
}

/* (message, input), of such a result; takes both over. */
static PyObject *message_and_input(Pool *self, struct call *call, PyObject *message)
{
    PyObject *input = take_block((PyObject *)self, call->block, BLOCK_ALIGNMENT, call->length);
    call->block = NULL;
    PyObject *both = message && input ? PyTuple_Pack(2, message, input) : NULL;
    Py_XDECREF(message);
    Py_XDECREF(input);
    return both;
}

/* (token, status, value, odd, detail, begun, size); takes the result over. For a single call odd is None, or value is a message, and odd says
 * whether it is an exception. For a chunk value is a list, and odd lists (index, raised, message) of those that are messages.
 * detail is None, or where tine has settled the call (message, delivery, death). begun: how many of a chunk had. size: of the messages
 * that say what the calls have given. */
static PyObject *answer_of(void *object, tine_result *result)
{
    Pool *self = (Pool *)object;
    struct call *call = result->user;
    self->base.under_way--;
    self->input_bytes -= (Py_ssize_t)call->length;
    int status = result->status;
    PyObject *token = call->token, *value = NULL, *odd = NULL, *detail = NULL;
    unsigned long long begun = 0, size = 0;
    bool kept = is_kept(call, result);
    if (status < 0) {
        PyObject *death = death_of(result->death);
        PyObject *text = PyUnicode_DecodeUTF8(result->message, (Py_ssize_t)strlen(result->message), "replace");
        if (death && text) detail = Py_BuildValue("(NiN)", text, result->delivery, death);
    } else {
        detail = Py_BuildValue("");
    }
    if (call->count) {
        PyObject *chunk = chunk_answer((PyObject *)self, self->base.pool, call->chunk, call->count);
        if (chunk && PyArg_ParseTuple(chunk, "OOKK", &value, &odd, &begun, &size)) {
            Py_INCREF(value);
            Py_INCREF(odd);
        }
        Py_XDECREF(chunk);
        tine_result_release(self->base.pool, result);
    } else {
        bool refers = !kept && refers_to_input(call, result);
        size = result->length + (refers ? call->length : 0);
        value = data_of(self, result, &odd);
        if (refers) value = message_and_input(self, call, value);
    }
    if (call->block && !kept) tine_free(self->base.pool, call->block);
    give_mark(self, call->mark);
    free(call);
    PyObject *answer = value && odd && detail ? Py_BuildValue("(OiOOOKK)", token, status, value, odd, detail, begun, size) : NULL;
    if (!answer) { /* there is no memory for what came of it */
        PyErr_Clear();
        answer = Py_BuildValue("(Oi[][](siO)KK)", token, -ENOMEM, "no memory for the result", TINE_RAN, Py_None, begun, size);
    }
    Py_DECREF(token);
    Py_XDECREF(value);
    Py_XDECREF(odd);
    Py_XDECREF(detail);
    return answer;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* While results come faster than Python can look at them, they are looked at many at a time: each look takes the interpreter's lock
 * from whoever has it. So with much under way, and results that did not have to be waited for, a look waits for more of them. */
enum { LOOK_MOST = 128, LOOK_MUCH = 32, LOOK_HOT_NS = 20000, LOOK_LINGER_NS = 100000 };

static int take_results(Pool *self, tine_result *results, int64_t timeout_ns, Py_ssize_t under_way, int *rc)
{
    int count = 0;
    bool lingered = under_way < LOOK_MUCH || !timeout_ns;
    int64_t began = now_ns();
    do {
        results[count] = (tine_result)TINE_RESULT_INIT;
        *rc = tine_next(self->base.pool, count ? 0 : timeout_ns, &results[count]);
        if (*rc == 0 && !count && now_ns() - began > LOOK_HOT_NS) lingered = true;
        if (*rc == -EAGAIN && count && count < LOOK_MUCH && !lingered) {
            struct timespec linger = {0, LOOK_LINGER_NS};
            nanosleep(&linger, NULL);
            lingered = true;
            *rc = 0;
            continue;
        }
        if (*rc == 0) count++;
    } while (*rc == 0 && count < LOOK_MOST);
    return count;
}

PyObject *pool_results(PyObject *object, PyObject *arguments)
{
    Pool *self = (Pool *)object;
    long long timeout_ns;
    tine_result results[LOOK_MOST];
    int count, rc;
    if (!PyArg_ParseTuple(arguments, "L", &timeout_ns)) return NULL;
    if (!self->base.pool) return raise_code(TINE_ESHUTDOWN, "the pool is closed");
    Py_ssize_t under_way = self->base.under_way;
    self->base.looked_at++;
    Py_BEGIN_ALLOW_THREADS
    count = take_results(self, results, timeout_ns, under_way, &rc);
    Py_END_ALLOW_THREADS
    PyObject *list = list_answers(self, answer_of, results, count, rc);
    leave_pool(&self->base);
    return list;
}
