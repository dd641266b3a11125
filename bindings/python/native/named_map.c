/* A map over items that lie one behind the other, by the workers of another language. A signal interrupts tine's map, which lets the items
 * that have begun finish and cancels the others. Where the signal's handler does not raise, those go again. */
#include "named_pool.h"
#include "wait.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct failure {
    size_t item;
    int status;
    char message[256];
};

/* Items from begin up to but not including end. */
struct range {
    size_t begin, end;
};

struct map {
    NamedPool *pool;
    const char *in;
    char *out;
    size_t stride, out_stride;
    tine_map_options options;
    size_t first; /* the item with which the present call of tine_map begins */
    struct failure *failures;
    size_t failure_count, failure_room;
    struct range *cancelled; /* items that the present call has cancelled */
    size_t cancelled_count, cancelled_room;
    bool out_of_memory;
};

/* An array of so many with room for one more. NULL: there is no memory, as the map will say. */
static void *with_room(struct map *map, void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room) return array;
    size_t more = *room ? *room * 2 : 16;
    void *moved = realloc(array, more * size);
    if (moved) *room = more;
    else map->out_of_memory = true;
    return moved;
}

static void add_failure(struct map *map, size_t item, int status, const char *message)
{
    struct failure *failures = with_room(map, map->failures, map->failure_count, &map->failure_room, sizeof *failures);
    if (!failures) return;
    map->failures = failures;
    struct failure *failure = &failures[map->failure_count++];
    failure->item = item;
    failure->status = status;
    size_t length = strnlen(message, sizeof failure->message - 1);
    memcpy(failure->message, message, length);
    failure->message[length] = 0;
}

static void add_cancelled(struct map *map, size_t item)
{
    struct range *last = map->cancelled_count ? &map->cancelled[map->cancelled_count - 1] : NULL;
    if (last && last->end == item) {
        last->end++;
        return;
    }
    struct range *cancelled = with_room(map, map->cancelled, map->cancelled_count, &map->cancelled_room, sizeof *cancelled);
    if (!cancelled) return;
    map->cancelled = cancelled;
    cancelled[map->cancelled_count++] = (struct range){item, item + 1};
}

/* On the thread that called the map, without the interpreter's lock. */
static void on_failure(const tine_result *result, size_t item, void *user)
{
    struct map *map = user;
    if (result->status == -ECANCELED && result->delivery == TINE_NOT_STARTED) add_cancelled(map, map->first + item);
    else add_failure(map, map->first + item, result->status, result->message);
}

static int map_range(struct map *map, struct range range)
{
    int rc;
    map->first = range.begin;
    map->cancelled_count = 0;
    Py_BEGIN_ALLOW_THREADS
    rc = tine_map(map->pool->base.pool, NULL, map->in + range.begin * map->stride, map->stride,
                  map->out_stride ? map->out + range.begin * map->out_stride : NULL, map->out_stride, range.end - range.begin, &map->options);
    Py_END_ALLOW_THREADS
    return rc;
}

static void fail_cancelled(struct map *map, const struct range *ranges, size_t count)
{
    for (size_t at = 0; at < count; at++)
        for (size_t item = ranges[at].begin; item < ranges[at].end; item++) add_failure(map, item, -ECANCELED, "cancelled before it began");
}

/* What the present call has cancelled, behind the ranges that are left, the first ones last. */
static struct range *add_ranges(struct map *map, struct range *left, size_t *count, size_t *room)
{
    for (size_t at = map->cancelled_count; at-- > 0;) {
        struct range *more = with_room(map, left, *count, room, sizeof *left);
        if (!more) break;
        left = more;
        left[(*count)++] = map->cancelled[at];
    }
    return left;
}

/* 0; RAISED; or the code with which a call of tine_map has failed. */
static int map_all(struct map *map, size_t count)
{
    size_t ranges = 0, room = 0;
    struct range *left = NULL, range = {0, count};
    unsigned cancels = map->pool->cancels;
    int rc;
    for (;;) {
        rc = map_range(map, range);
        if (rc == TINE_EITEMS) rc = 0;
        bool interrupted = rc == -EINTR;
        if (interrupted) rc = PyErr_CheckSignals() ? RAISED : 0;
        if (rc) break;
        if (!interrupted || cancels != map->pool->cancels) fail_cancelled(map, map->cancelled, map->cancelled_count);
        else left = add_ranges(map, left, &ranges, &room);
        if (cancels != map->pool->cancels) {
            fail_cancelled(map, left, ranges);
            ranges = 0;
        }
        if (!ranges || map->out_of_memory) break;
        range = left[--ranges];
    }
    free(left);
    return rc;
}

static PyObject *list_of(const struct map *map)
{
    PyObject *list = map->out_of_memory ? PyErr_NoMemory() : PyList_New(0);
    for (size_t at = 0; list && at < map->failure_count; at++) {
        const struct failure *failure = &map->failures[at];
        PyObject *text = PyUnicode_DecodeUTF8(failure->message, (Py_ssize_t)strlen(failure->message), "replace");
        PyObject *entry = text ? Py_BuildValue("(niN)", (Py_ssize_t)failure->item, failure->status, text) : NULL;
        if (!entry || PyList_Append(list, entry) < 0) Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

PyObject *named_pool_map(PyObject *object, PyObject *arguments)
{
    struct map map = {.pool = (NamedPool *)object, .options = TINE_MAP_OPTIONS_INIT};
    tine_error error = TINE_ERROR_INIT;
    Py_buffer in, out, context;
    Py_ssize_t count, chunk;
    long long deadline_ns;
    int idempotent;
    if (!enter_pool(&map.pool->base)) return NULL;
    if (!PyArg_ParseTuple(arguments, "yy*w*ny*nLIp", &map.options.name, &in, &out, &count, &context, &chunk, &deadline_ns,
                          &map.options.retries, &idempotent)) {
        leave_pool(&map.pool->base);
        return NULL;
    }
    PyObject *answer = NULL;
    if (count < 0 || chunk < 0 || (count ? in.len % count || out.len % count || !in.len : in.len || out.len)) {
        PyErr_Format(PyExc_ValueError, "%zd items in %zd bytes, %zd bytes for their results, %zd in a chunk: each item has the same length",
                     count, in.len, out.len, chunk);
    } else {
        map.options.error = &error;
        map.options.context = context.len ? context.buf : NULL;
        map.options.context_length = (size_t)context.len;
        map.options.chunk = (size_t)chunk;
        map.options.item_deadline_ns = deadline_ns;
        map.options.flags = idempotent ? TINE_IDEMPOTENT : 0;
        map.options.on_failure = on_failure;
        map.options.user = &map;
        map.in = in.buf;
        map.out = out.buf;
        map.stride = count ? (size_t)(in.len / count) : 1;
        map.out_stride = count ? (size_t)(out.len / count) : 0;
        int rc = map_all(&map, (size_t)count);
        if (!rc) answer = list_of(&map);
        else if (rc != RAISED) raise_code(rc, error.text);
    }
    free(map.failures);
    free(map.cancelled);
    PyBuffer_Release(&in);
    PyBuffer_Release(&out);
    PyBuffer_Release(&context);
    leave_pool(&map.pool->base);
    return answer;
}
