/* What the parts of the compiled layer share. It is the only user of tine.h; everything above it is Python. */
#ifndef TINE_PYTHON_NATIVE_H
#define TINE_PYTHON_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <tine.h>

#if PY_VERSION_HEX < 0x030A0000
static inline PyObject *Py_NewRef(PyObject *object)
{
    Py_INCREF(object);
    return object;
}
#endif

/* The names under which workers have their functions: for inputs that are copied, for inputs that are a block of the heap, which the
 * worker may keep, and for such a block that tine or the host frees in any case: what the worker keeps is a copy. */
#define CALL_COPIED "libtine.copied"
#define CALL_BLOCK "libtine.block"
#define CALL_COPIED_BLOCK "libtine.copied-block"

/* A status of 0 or more says how the call ended. */
#define STATUS_RAISED 1

/* What a message begins with. _codec.py makes a pickle, one with buffers beside it, and one with buffers that are in the call's input. */
enum { MESSAGE_PICKLE = 0, MESSAGE_PARTS = 1, MESSAGE_CALL = 2, MESSAGE_VALUE = 3, MESSAGE_CHUNK = 4, MESSAGE_GIVEN = 6 };
/* And one in a queue that only says where a long message is: _long.py. */
enum { MESSAGE_LONG = 0xFF };

/* Strings and bytes up to this length are values; longer ones are worth buffers of their own. */
#define INLINE_BYTES 4096

/* A tuple that takes more than this as a value is pickled: what stands in it many times is one object, and a pickle has it once. The same
 * is true of the items of a chunk. */
#define VALUE_BYTES 65536
#define CHUNK_BYTES (16 * VALUE_BYTES)

/* Of messages with buffers beside them: what vector instructions want. */
#define BLOCK_ALIGNMENT 64

/* What stands before a message in a block, in BLOCK_ALIGNMENT bytes. */
struct block_head {
    unsigned char *mark; /* set when the call begins; NULL: there is none */
    unsigned char kept;  /* whether the worker has the block when the call is over, however that ended, and frees it itself */
};

/* Outputs up to this length become bytes; longer ones stay in the heap as long as somebody looks at them. */
#define COPIED_BYTES 4096

/* The exception for codes of tine's. */
extern PyObject *native_error;

/* Raises native_error(code, text), or what Python has for the code. Returns NULL. */
PyObject *raise_code(int code, const char *text);

/* tp_new of types whose objects only functions of this module make. */
PyObject *refuse_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords);

/* Gathers the buffers of a sequence. Each has to be released with PyBuffer_Release. */
struct parts {
    Py_buffer *views;
    Py_ssize_t count;
    size_t length;
};
bool get_parts(PyObject *sequence, struct parts *parts);
void copy_parts(const struct parts *parts, void *to);
void release_parts(struct parts *parts);

/* codec.c: values that need no pickle. put_value gives 1, 0 if this is no such value, -1 with an exception. */
struct writer {
    char *data;
    size_t length, capacity;
    char first[512];
};
struct reader {
    const char *at, *end;
};
void writer_begin(struct writer *to);
void writer_end(struct writer *to);
bool put_bytes(struct writer *to, const void *bytes, size_t length);
int put_value(struct writer *to, PyObject *value);
bool get_bytes(struct reader *from, void *bytes, size_t length);
PyObject *get_value(struct reader *from);
PyObject *encode_call(PyObject *module, PyObject *arguments);
PyObject *encode_value(PyObject *module, PyObject *value);
PyObject *decode_value(PyObject *module, PyObject *message);

/* chunk.c: many calls as one task. */
PyObject *encode_chunk(PyObject *module, PyObject *arguments);
struct chunk_state;
/* What the host knows of a chunk under way: into the message, which lies in the heap. NULL: no memory. */
struct chunk_state *chunk_begin(tine_pool *pool, void *message);
bool run_chunk(tine_task *task, PyObject *input, const char *data, size_t length);
/* (values, odd, begun, size) of a chunk of `count` calls that has settled; its results and state are freed. */
PyObject *chunk_answer(PyObject *owner, tine_pool *pool, struct chunk_state *state, uint64_t count);

/* worker.c: what Python has to do for a worker. */
PyObject *worker_function(const char *pickle, size_t length); /* a new reference */
PyObject *worker_load(PyObject *input, Py_ssize_t offset);
PyObject *worker_dump(PyObject *result, bool *raised); /* parts of a message: the result's, or of why it cannot be sent */
PyObject *worker_failure(void);                        /* parts of a message: the exception that is set */
PyObject *worker_unreadable(void);                     /* the same, of one that came of reading the call */

/* Shared memory: its bytes at an offset, or NULL with an exception. */
typedef struct {
    PyObject_HEAD
    tine_segment *segment;
} Segment;
bool add_segment(PyObject *module);
void *segment_place(PyObject *segment, size_t offset, size_t bytes);

/* A pool that Python has, behind PyObject_HEAD in each object that is one. It stays as long as Python has pieces of its memory, and calls
 * on it that are under way. */
struct pool_base {
    tine_pool *pool;
    size_t looked_at;     /* how many of both there are */
    size_t coming;        /* calls that are being submitted */
    Py_ssize_t under_way; /* calls whose results have not been taken; a result may be, before its submission is over */
    bool closed;
};
/* False with an exception: it is closed. */
bool pool_is_open(const struct pool_base *base);
/* Around a call without the interpreter's lock, during which another thread may close the pool. enter_pool is as pool_is_open. */
bool enter_pool(struct pool_base *base);
void leave_pool(struct pool_base *base);
/* The same around a submission; taken: whether the call is under way now. */
bool enter_submission(struct pool_base *base);
void leave_submission(struct pool_base *base, bool taken);
/* Methods of all pools: how many calls are under way, and coming. */
PyObject *pool_outstanding(PyObject *object, PyObject *unused);
PyObject *pool_coming(PyObject *object, PyObject *unused);
/* Ends a pool that was closed, once nobody looks at it any more. */
void destroy_if_over(struct pool_base *base);
/* Raises why a submission that may wait has failed. Returns NULL. */
PyObject *raise_submission(int rc, const char *text);
/* The list of what answer_of, which releases its result, makes of each; rc: what the call after the last one returned. With none, the
 * list is empty where there was nothing to take, and else rc is raised. */
PyObject *list_answers(void *pool, PyObject *(*answer_of)(void *pool, tine_result *result), tine_result *results, int count, int rc);

/* Strings of a sequence, with NULL at the end; they point into *keep. To be freed with PyMem_Free. */
const char **get_strings(PyObject *sequence, PyObject **keep);
/* Of libtine.Faults, by its tuple, or of None; whether it is one. */
bool get_faults(PyObject *given, tine_faults *faults);

/* Around each call into Python that the library makes in a process that it has started. */
void enter_interpreter(void);
void leave_interpreter(void);

/* Becomes the supervisor or the process that somebody has started, if rc says that its functions are registered; returns only with an
 * exception. */
PyObject *become_member(int rc);
PyObject *serve_processes(PyObject *module, PyObject *arguments);
bool add_process(PyObject *module);

bool add_queue(PyObject *module);

bool add_channel(PyObject *module);
PyObject *channel_pair(PyObject *module, PyObject *unused);
PyObject *channel_attach(PyObject *module, PyObject *arguments);
/* Lends the end to a call that takes it over if it succeeds; NULL with an exception. Nobody else may use it until channel_lent. */
tine_channel *channel_lend(PyObject *channel);
void channel_lent(PyObject *channel, bool given);

bool add_sync(PyObject *module);
PyObject *use_exceptions(PyObject *module, PyObject *arguments);

/* crash.c */
PyObject *handle_crashes(PyObject *module, PyObject *arguments);
PyObject *take_text(PyObject *module, PyObject *arguments);

PyObject *calls(PyObject *module, PyObject *unused);
PyObject *place_in_input(PyObject *module, PyObject *view);
PyObject *serve(PyObject *module, PyObject *arguments);
int initialize_worker(tine_task *task);
int finalize_worker(tine_task *task);

/* pool.c */
bool add_pool(PyObject *module);
PyObject *start_nodes(PyObject *module, PyObject *unused);

/* results.c */
/* A block of the pool's heap from an offset on, as memory; the block is freed when nobody looks at it any more, or at once on failure. */
PyObject *take_block(PyObject *pool, void *block, size_t offset, size_t length);
/* A death as Python has it, or None. */
PyObject *death_of(const tine_death *death);

/* memory.c: views of memory that goes back when nobody looks at it any more. Most are read-only. */
bool add_memory(PyObject *module);
PyObject *new_memory(const void *data, size_t length, void (*release)(void *owner), void *owner);
PyObject *new_writable_memory(void *data, size_t length, void (*release)(void *owner), void *owner);
bool is_memory(PyObject *object);
bool memory_is_shared(PyObject *memory);
/* Where it is, if it has so many bytes at least; NULL with an exception. */
void *memory_address(PyObject *memory, size_t bytes);

/* named_pool.c */
bool add_named_pool(PyObject *module);
/* Memory of such a pool's heap, which keeps the pool. NULL: there is an exception, or no pool of this process has it. */
PyObject *memory_of_named_pool(tine_heap *heap, void *at, size_t length);

/* named_process.c */
bool add_named_process(PyObject *module);

/* placed.c */
PyObject *operate(PyObject *module, PyObject *arguments);
PyObject *shared_memory(PyObject *module, PyObject *arguments);

/* export.c */
/* The heap of the pool whose worker this process is; NULL: it is no worker of another language's host, or has had no task yet. */
tine_heap *heap_of_exports(void);
PyObject *serve_exports(PyObject *module, PyObject *arguments);

#endif
