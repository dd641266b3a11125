/* tine's locks and the like as they are in tine.h, in memory that a pool of several languages shares. An operation has a name, the
 * memory in which its object lies, and up to two numbers; it gives tine's code. */
#include "wait.h"
#include <errno.h>
#include <string.h>

struct operands {
    void *at, *other;
    uint32_t first, second;
};

#define OF(call) (struct operands *with, int64_t timeout_ns) { (void)timeout_ns; return call; }
static int mutex_init OF(tine_mutex_init(with->at, with->first))
static int mutex_lock OF(tine_mutex_lock(with->at, timeout_ns))
static int mutex_unlock OF(tine_mutex_unlock(with->at))
static int mutex_repair OF(tine_mutex_repair(with->at))
static int rwlock_init OF(tine_rwlock_init(with->at, with->first))
static int rwlock_read_lock OF(tine_rwlock_read_lock(with->at, timeout_ns))
static int rwlock_write_lock OF(tine_rwlock_write_lock(with->at, timeout_ns))
static int rwlock_unlock OF(tine_rwlock_unlock(with->at))
static int rwlock_repair OF(tine_rwlock_repair(with->at))
static int semaphore_init OF(tine_semaphore_init(with->at, with->first, with->second, TINE_INTERRUPTIBLE))
static int semaphore_acquire OF(tine_semaphore_acquire(with->at, timeout_ns))
static int semaphore_release OF(tine_semaphore_release(with->at, with->first))
static int semaphore_value OF(tine_semaphore_value(with->at))
static int event_init OF(tine_event_init(with->at, with->first))
static int event_set OF(tine_event_set(with->at))
static int event_clear OF(tine_event_clear(with->at))
static int event_is_set OF(tine_event_is_set(with->at))
static int event_wait OF(tine_event_wait(with->at, timeout_ns))
static int barrier_init OF(tine_barrier_init(with->at, with->first, TINE_INTERRUPTIBLE))
static int barrier_wait OF(tine_barrier_wait(with->at, timeout_ns))
static int barrier_reset OF(tine_barrier_reset(with->at))
static int barrier_abort OF(tine_barrier_abort(with->at))
static int condition_init OF(tine_condition_init(with->at, with->first))
static int condition_wait OF(tine_condition_wait(with->at, with->other, timeout_ns))
static int condition_notify OF(tine_condition_notify(with->at, with->first))
#undef OF

/* once: the initializer is Python's. */
static int initialize(void *function)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = PyObject_CallFunctionObjArgs(function, NULL);
    int rc = result && PyObject_IsTrue(result) == 1 ? 0 : -ECANCELED;
    Py_XDECREF(result);
    PyErr_Clear(); /* which it does not raise: it says by its result whether it is done */
    PyGILState_Release(state);
    return rc;
}

static int once_call(struct operands *with, int64_t timeout_ns) { return tine_once_call(with->at, initialize, with->other, timeout_ns); }

/* How an operation is called: at once; by a try first, which keeps the interpreter's lock; or at once without that lock. */
enum { AT_ONCE, TRIED, UNLOCKED };

static const struct operation {
    const char *name;
    int (*call)(struct operands *with, int64_t timeout_ns);
    size_t bytes;
    int how;
} operations[] = {
    {"mutex_init", mutex_init, sizeof(tine_mutex), AT_ONCE},
    {"mutex_lock", mutex_lock, sizeof(tine_mutex), TRIED},
    {"mutex_unlock", mutex_unlock, sizeof(tine_mutex), AT_ONCE},
    {"mutex_repair", mutex_repair, sizeof(tine_mutex), AT_ONCE},
    {"rwlock_init", rwlock_init, sizeof(tine_rwlock), AT_ONCE},
    {"rwlock_read_lock", rwlock_read_lock, sizeof(tine_rwlock), TRIED},
    {"rwlock_write_lock", rwlock_write_lock, sizeof(tine_rwlock), TRIED},
    {"rwlock_unlock", rwlock_unlock, sizeof(tine_rwlock), AT_ONCE},
    {"rwlock_repair", rwlock_repair, sizeof(tine_rwlock), AT_ONCE},
    {"semaphore_init", semaphore_init, sizeof(tine_semaphore), AT_ONCE},
    {"semaphore_acquire", semaphore_acquire, sizeof(tine_semaphore), TRIED},
    {"semaphore_release", semaphore_release, sizeof(tine_semaphore), AT_ONCE},
    {"semaphore_value", semaphore_value, sizeof(tine_semaphore), AT_ONCE},
    {"event_init", event_init, sizeof(tine_event), AT_ONCE},
    {"event_set", event_set, sizeof(tine_event), AT_ONCE},
    {"event_clear", event_clear, sizeof(tine_event), AT_ONCE},
    {"event_is_set", event_is_set, sizeof(tine_event), AT_ONCE},
    {"event_wait", event_wait, sizeof(tine_event), TRIED},
    {"barrier_init", barrier_init, sizeof(tine_barrier), AT_ONCE},
    /* A try would break the barrier, and one of a condition would miss what is notified right after it. */
    {"barrier_wait", barrier_wait, sizeof(tine_barrier), UNLOCKED},
    {"barrier_reset", barrier_reset, sizeof(tine_barrier), AT_ONCE},
    {"barrier_abort", barrier_abort, sizeof(tine_barrier), AT_ONCE},
    {"condition_init", condition_init, sizeof(tine_condition), AT_ONCE},
    {"condition_wait", condition_wait, sizeof(tine_condition), UNLOCKED},
    {"condition_notify", condition_notify, sizeof(tine_condition), AT_ONCE},
    {"once_call", once_call, sizeof(tine_once), UNLOCKED},
};

struct attempt {
    const struct operation *operation;
    struct operands with;
};

static int attempt(void *at, int64_t timeout_ns)
{
    struct attempt *attempt = at;
    return attempt->operation->call(&attempt->with, timeout_ns);
}

PyObject *operate(PyObject *module, PyObject *arguments)
{
    const char *name;
    PyObject *memory, *other = NULL;
    long long timeout_ns = 0;
    struct attempt with = {NULL, {NULL, NULL, 0, 0}};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "sO|LIIO", &name, &memory, &timeout_ns, &with.with.first, &with.with.second, &other)) return NULL;
    for (size_t at = 0; at < sizeof operations / sizeof *operations; at++)
        if (strcmp(operations[at].name, name) == 0) with.operation = &operations[at];
    if (!with.operation) {
        PyErr_Format(PyExc_ValueError, "no operation %s", name);
        return NULL;
    }
    if (!(with.with.at = memory_address(memory, with.operation->bytes))) return NULL;
    if (with.operation->call == once_call) with.with.other = other;
    else if (other && !(with.with.other = memory_address(other, sizeof(tine_mutex)))) return NULL;
    int rc;
    if (with.operation->how == AT_ONCE) {
        rc = with.operation->call(&with.with, timeout_ns);
    } else if (with.operation->how == TRIED) {
        rc = wait_for(attempt, &with, timeout_ns);
    } else {
        int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
        for (;;) {
            Py_BEGIN_ALLOW_THREADS
            rc = with.operation->call(&with.with, timeout_ns);
            Py_END_ALLOW_THREADS
            if (rc != -EINTR) break;
            if (PyErr_CheckSignals()) return NULL;
            if (with.operation->call == condition_wait) break; /* it may have been notified meanwhile */
            timeout_ns = time_left(timeout_ns, until_ns);
        }
    }
    return rc == RAISED ? NULL : PyLong_FromLong(rc);
}

static void nothing(void *owner) { (void)owner; }

/* shared_memory(address, length): of a host's pool, which it keeps, or of the pool of a worker, which has it as long as it lives. Other
 * heaps that are found here are not shared with other languages, and are closed when Python objects go. */
PyObject *shared_memory(PyObject *module, PyObject *arguments)
{
    unsigned long long address;
    Py_ssize_t length;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "Kn", &address, &length)) return NULL;
    void *at = (void *)(uintptr_t)address;
    tine_heap *heap = length < 0 ? NULL : tine_heap_find(at);
    PyObject *memory = NULL;
    if (heap && heap == heap_of_exports()) {
        if (tine_heap_contains(heap, at, length ? (size_t)length : 1) == 1) memory = new_writable_memory(at, (size_t)length, nothing, NULL);
    } else if (heap) {
        memory = memory_of_named_pool(heap, at, (size_t)length);
    }
    if (!memory && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "%zd bytes at address %p: no heap of this process has them", length, at);
    return memory;
}
