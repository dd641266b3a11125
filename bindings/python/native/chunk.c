/* Many calls of one function as one task. The worker writes each result into the heap before it begins the next call, and counts
 * what it has begun and done in a block of the host's. So when it dies, the host knows which call it died in, has the results of those
 * before, and sends those after to another worker.
 *
 *   begun  done   what a death at this point leaves
 *   n      n      between two calls, or before the first: nobody is to blame, calls from n on have not begun
 *   n + 1  n      in call n: it fails, those from n + 1 on have not begun
 *
 * Only the worker writes them, and `results`: the block with the results of `done` calls. The host reads once the task has
 * settled, and believes none of them: counts are bounded, the block has to be one, and records end where it ends. */
#include "native.h"
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct chunk {
    char tag;
    char star; /* an item is a tuple of arguments, not the one argument */
    char plain; /* items follow as values; otherwise as a message of their own, a list */
    char unused[5];
    uint64_t count;
    uint64_t function_length;
    struct chunk_state *state;
    uint64_t unused_too[4];
    /* the function's pickle; from the next multiple of BLOCK_ALIGNMENT on, the items */
};
/* A block of its own: the message may be kept by who looks at its buffers, and freed by him. */
struct chunk_state {
    _Atomic uint64_t begun;
    _Atomic uint64_t done;
    _Atomic(char *) results;
};
_Static_assert(sizeof(struct chunk) == BLOCK_ALIGNMENT, "a chunk's head");

/* What a result's record begins with. */
enum { IS_VALUE = 'v', IS_MESSAGE = 'm', IS_RAISED = 'r', IS_APART = 'a', IS_RAISED_APART = 'b' };

static size_t items_offset(size_t function_length)
{
    return (sizeof(struct chunk) + function_length + BLOCK_ALIGNMENT - 1) & ~(size_t)(BLOCK_ALIGNMENT - 1);
}

static bool put_head(struct writer *to, const char *function, size_t length, size_t count, bool star, bool plain)
{
    static const char zeros[BLOCK_ALIGNMENT];
    struct chunk head = {.tag = MESSAGE_CHUNK, .star = star, .plain = plain, .count = count, .function_length = length};
    return put_bytes(to, &head, sizeof head) && put_bytes(to, function, length) &&
           put_bytes(to, zeros, items_offset(length) - sizeof head - length);
}

PyObject *encode_chunk(PyObject *module, PyObject *arguments)
{
    (void)module;
    const char *function;
    Py_ssize_t function_length;
    PyObject *items;
    int star, plain, done;
    struct writer to;
    if (!PyArg_ParseTuple(arguments, "y#Opp", &function, &function_length, &items, &star, &plain)) return NULL;
    Py_ssize_t count = PyList_Size(items);
    if (count < 0) return NULL;
    writer_begin(&to);
    done = put_head(&to, function, (size_t)function_length, (size_t)count, star, plain) ? 1 : -1;
    for (Py_ssize_t at = 0; plain && done == 1 && at < count; at++)
        done = to.length > CHUNK_BYTES ? 0 : put_value(&to, PyList_GetItem(items, at));
    PyObject *message = NULL;
    if (done == 1) message = PyBytes_FromStringAndSize(to.data, (Py_ssize_t)to.length);
    else if (done == 0) message = Py_BuildValue("");
    writer_end(&to);
    return message;
}

/* ---- In a worker ---- */

struct results {
    tine_pool *pool;
    struct chunk_state *state;
    size_t used, capacity;
};

/* Room for so many bytes more. The new block is published before the old one goes. */
static char *results_room(struct results *results, size_t length)
{
    char *old = atomic_load_explicit(&results->state->results, memory_order_relaxed);
    if (results->capacity - results->used < length) {
        size_t wanted = (results->used + length) * 2;
        char *block = tine_alloc(results->pool, wanted);
        if (!block) {
            PyErr_NoMemory();
            return NULL;
        }
        if (results->used) memcpy(block, old, results->used);
        atomic_store_explicit(&results->state->results, block, memory_order_release);
        tine_free(results->pool, old);
        results->capacity = wanted;
        old = block;
    }
    return old + results->used;
}

static bool results_put(struct results *results, const void *bytes, size_t length)
{
    char *room = results_room(results, length);
    if (!room) return false;
    memcpy(room, bytes, length);
    results->used += length;
    return true;
}

/* A message as a record: in place if it is short, otherwise in a block of its own. */
static bool results_put_message(struct results *results, const struct parts *parts, bool raised)
{
    uint64_t length = parts->length;
    if (length <= COPIED_BYTES) {
        char kind = raised ? IS_RAISED : IS_MESSAGE;
        char *room = results_put(results, &kind, 1) && results_put(results, &length, sizeof length) ? results_room(results, length) : NULL;
        if (!room) return false;
        copy_parts(parts, room);
        results->used += length;
        return true;
    }
    char kind = raised ? IS_RAISED_APART : IS_APART;
    char *block = tine_alloc_aligned(results->pool, BLOCK_ALIGNMENT, length);
    if (!block) {
        PyErr_NoMemory();
        return false;
    }
    copy_parts(parts, block);
    char record[1 + sizeof block + sizeof length];
    record[0] = kind;
    memcpy(record + 1, &block, sizeof block);
    memcpy(record + 1 + sizeof block, &length, sizeof length);
    if (results_put(results, record, sizeof record)) return true;
    tine_free(results->pool, block);
    return false;
}

/* One call's record. False with an exception: there is no memory even for the exception. */
static bool put_result(struct results *results, PyObject *result)
{
    struct writer to;
    int done = -1;
    if (result) {
        writer_begin(&to);
        char kind = IS_VALUE;
        done = put_bytes(&to, &kind, 1) ? put_value(&to, result) : -1;
        if (done == 1 && !results_put(results, to.data, to.length)) done = -1;
        writer_end(&to);
        if (done == 1) return true;
    }
    bool raised = done < 0;
    PyObject *message = raised ? worker_failure() : worker_dump(result, &raised);
    struct parts parts;
    bool put = message && get_parts(message, &parts);
    if (put) {
        size_t before = results->used;
        put = results_put_message(results, &parts, raised);
        if (!put) results->used = before;
        release_parts(&parts);
    }
    Py_XDECREF(message);
    return put;
}

static bool call_items(struct results *results, const struct chunk *chunk, PyObject *function, struct reader *from, PyObject *list)
{
    uint64_t count = chunk->count;
    for (uint64_t at = 0; at < count; at++) {
        PyObject *item, *result = NULL;
        atomic_store_explicit(&results->state->begun, at + 1, memory_order_release);
        if (list) {
            item = PyList_GetItem(list, (Py_ssize_t)at);
            Py_XINCREF(item);
        } else {
            item = get_value(from);
        }
        if (item && chunk->star) {
            PyObject *tuple = PySequence_Tuple(item);
            result = tuple ? PyObject_CallObject(function, tuple) : NULL;
            Py_XDECREF(tuple);
        } else if (item) {
            result = PyObject_CallFunctionObjArgs(function, item, NULL);
        }
        Py_XDECREF(item);
        if (list) { /* an argument lives no longer than its call */
            Py_INCREF(Py_None);
            PyList_SetItem(list, (Py_ssize_t)at, Py_None);
        }
        bool put = put_result(results, result) || (PyErr_Clear(), put_result(results, PyErr_NoMemory()));
        Py_XDECREF(result);
        if (!put) return false;
        atomic_store_explicit(&results->state->done, at + 1, memory_order_release);
    }
    return true;
}

bool run_chunk(tine_task *task, PyObject *input, const char *data, size_t length)
{
    const struct chunk *chunk = (const struct chunk *)data;
    struct results results = {tine_task_pool(task), chunk->state, 0, 0};
    size_t offset = items_offset(chunk->function_length);
    struct reader from = {data + offset, data + length};
    PyObject *function = worker_function(data + sizeof *chunk, chunk->function_length), *list = NULL;
    bool ran = false;
    if (function && !chunk->plain) list = worker_load(input, (Py_ssize_t)offset);
    if (function && (chunk->plain || list)) {
        ran = call_items(&results, chunk, function, &from, list);
    } else { /* none of the calls can be read, for one and the same reason */
        ran = true;
        PyObject *message = worker_unreadable();
        struct parts parts;
        if (!message || !get_parts(message, &parts)) ran = false;
        for (uint64_t at = 0; ran && at < chunk->count; at++) {
            ran = results_put_message(&results, &parts, true);
            if (ran) atomic_store_explicit(&results.state->done, at + 1, memory_order_release);
        }
        if (message && ran) release_parts(&parts);
        Py_XDECREF(message);
    }
    Py_XDECREF(list);
    Py_XDECREF(function);
    return ran;
}

/* ---- In the host ---- */

struct chunk_state *chunk_begin(tine_pool *pool, void *message)
{
    struct chunk *chunk = message;
    chunk->state = tine_calloc(pool, 1, sizeof *chunk->state);
    return chunk->state;
}

/* A record that is a message: (index, raised, data), appended to odd; its place in values stays None. Its length is added to
 * *size. */
static bool take_message(PyObject *owner, tine_pool *pool, struct reader *from, char kind, Py_ssize_t at, PyObject *odd, size_t *size)
{
    uint64_t length;
    char *block;
    PyObject *data = NULL;
    int raised = kind == IS_RAISED || kind == IS_RAISED_APART;
    if (kind == IS_APART || kind == IS_RAISED_APART) {
        if (!get_bytes(from, &block, sizeof block) || !get_bytes(from, &length, sizeof length)) return false;
        if (!block || tine_block_size(pool, block) < length) return false;
        data = take_block(owner, block, 0, length);
    } else if (kind == IS_MESSAGE || kind == IS_RAISED) {
        if (!get_bytes(from, &length, sizeof length) || (size_t)(from->end - from->at) < length) return false;
        data = PyBytes_FromStringAndSize(from->at, (Py_ssize_t)length);
        from->at += length;
    } else {
        return false;
    }
    *size += length;
    PyObject *record = data ? Py_BuildValue("(niN)", at, raised, data) : NULL;
    bool taken = record && PyList_Append(odd, record) == 0;
    Py_XDECREF(record);
    return taken;
}

PyObject *chunk_answer(PyObject *owner, tine_pool *pool, struct chunk_state *state, uint64_t count)
{
    uint64_t done = atomic_load_explicit(&state->done, memory_order_acquire);
    uint64_t begun = atomic_load_explicit(&state->begun, memory_order_acquire);
    char *results = atomic_load_explicit(&state->results, memory_order_acquire);
    size_t size = results ? tine_block_size(pool, results) : 0;
    struct reader from = {results, results + size};
    PyObject *values = PyList_New(0), *odd = PyList_New(0);
    bool good = values && odd;
    size_t bytes = 0;
    for (uint64_t at = 0; good && size && at < done && at < count; at++) {
        char kind;
        PyObject *value = NULL;
        if (!get_bytes(&from, &kind, 1)) break;
        const char *begin = from.at;
        if (kind == IS_VALUE) {
            value = get_value(&from);
            bytes += (size_t)(from.at - begin);
        } else if (take_message(owner, pool, &from, kind, (Py_ssize_t)at, odd, &bytes)) {
            value = Py_BuildValue("");
        }
        if (!value) { /* damaged: what is missing is seen by the count */
            PyErr_Clear();
            break;
        }
        good = PyList_Append(values, value) == 0;
        Py_DECREF(value);
    }
    if (size) tine_free(pool, results);
    tine_free(pool, state);
    if (good) return Py_BuildValue("(NNKK)", values, odd, (unsigned long long)(begun > count ? count : begun), (unsigned long long)bytes);
    Py_XDECREF(values);
    Py_XDECREF(odd);
    return NULL;
}
