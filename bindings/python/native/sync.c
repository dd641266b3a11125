/* Locks, semaphores, conditions, events and barriers. Each lies in a block of a segment; what is here is a pointer to it, and a
 * reference to what keeps the block.
 *
 * A mutex has a word beside it that says who died holding it. The mutex itself repairs itself, so a taker that learns of a death
 * writes the word, lets go and raises; everybody raises until somebody has called repair(). Killed between any two of these steps, a
 * process leaves a mutex whose next taker learns of a death again. */
#include "wait.h"
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How many bytes a block of each kind has. */
#define MUTEX_BYTES sizeof(struct shared_mutex)
#define CONDITION_BYTES sizeof(struct shared_condition)
#define BARRIER_BYTES sizeof(struct shared_barrier)

struct shared_mutex {
    tine_mutex mutex;
    /* Written and read by the holder: who died holding it, since when nobody has repaired it. */
    int32_t dead;
    /* Written by the holder of one that is recursive: how often it has locked it. */
    uint32_t depth;
    /* The same: the thread that took it; 0 before it lets go. A dead holder leaves its own. */
    int32_t tid;
    uint32_t reserved[13];
};
struct shared_condition {
    tine_condition condition;
    /* Changed with the mutex held, for messages. */
    uint32_t waiting;
    uint32_t reserved[15];
};

struct shared_barrier {
    tine_barrier barrier;
    /* How many parties have left, but for the last of each round. */
    uint64_t left;
    uint64_t reserved[7];
};

/* Any of them: at is where it lies in segment, which owner keeps. */
typedef struct {
    PyObject_HEAD
    PyObject *segment, *owner;
    void *at;
    bool recursive;
} Shared;

static PyTypeObject *mutex_type;
static PyObject *owner_died, *broken_barrier;

static Shared *new_shared(PyTypeObject *type, PyObject *owner, PyObject *segment, Py_ssize_t offset, size_t bytes)
{
    void *at = segment_place(segment, (size_t)offset, bytes);
    Shared *self = at ? (Shared *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0) : NULL;
    if (!self) return NULL;
    Py_INCREF(owner);
    Py_INCREF(segment);
    self->owner = owner;
    self->segment = segment;
    self->at = at;
    return self;
}

static void shared_dealloc(PyObject *object)
{
    Shared *self = (Shared *)object;
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF(self->owner);
    Py_XDECREF(self->segment);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *shared_owner(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *owner = ((Shared *)object)->owner;
    Py_INCREF(owner);
    return owner;
}

static PyGetSetDef shared_getters[] = {
    {"_block", shared_owner, NULL, "The block that it lies in.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- Mutexes */

static struct shared_mutex *mutex_of(Shared *self) { return self->at; }

static int lock_mutex(void *at, int64_t timeout_ns) { return tine_mutex_lock(at, timeout_ns); }

/* The thread, 0: to be asked for; and the process. */
static _Thread_local int32_t known_tid;
static int32_t own_pid;

static void know_child(void)
{
    known_tid = 0;
    own_pid = (int32_t)getpid();
}

static int32_t own_tid(void)
{
    if (!known_tid) known_tid = (int32_t)syscall(SYS_gettid);
    return known_tid;
}

/* Whether this thread has taken it. Of one that processes own, which is asked seldom, the mutex itself knows. */
static bool is_mine(Shared *self)
{
    if (self->recursive) return mutex_of(self)->tid == own_tid();
    tine_owner owner = TINE_OWNER_INIT;
    return tine_mutex_owner(self->at, &owner) == 0 && owner.pid == own_pid && owner.tid == own_tid();
}

static PyObject *raise_owner_died(int pid)
{
    PyObject *text = PyUnicode_FromFormat("process %d died holding the lock; repair() makes it usable again", pid);
    PyObject *arguments = text ? Py_BuildValue("(Oi)", text, pid) : NULL;
    if (arguments) PyErr_SetObject(owner_died, arguments);
    Py_XDECREF(arguments);
    Py_XDECREF(text);
    return NULL;
}

/* The holder's note of a death that tine_mutex_lock or tine_condition_wait has told of. */
static void note_death(struct shared_mutex *mutex)
{
    tine_owner owner = TINE_OWNER_INIT;
    tine_mutex_owner(&mutex->mutex, &owner);
    mutex->dead = owner.dead_pid > 0 ? owner.dead_pid : -1; /* it died before it could sign for it */
    mutex->depth = 0;
}

/* Takes the mutex; 0 also of one that was not repaired: its word says so. A holder that asks again waits for another of its threads. */
static int take(Shared *self, int64_t timeout_ns)
{
    int rc = tine_mutex_lock(self->at, 0);
    if (rc == -EAGAIN && timeout_ns) rc = wait_for(lock_mutex, self->at, timeout_ns);
    if (rc == -EDEADLK && timeout_ns == 0) return -EAGAIN;
    if (rc == -EOWNERDEAD) {
        note_death(mutex_of(self));
        rc = 0;
    }
    if (rc == 0 && self->recursive) {
        mutex_of(self)->tid = own_tid();
        mutex_of(self)->depth++;
    }
    return rc;
}

static PyObject *acquire_for(Shared *self, int64_t timeout_ns)
{
    int rc = take(self, timeout_ns);
    if (rc == 0 && mutex_of(self)->dead && !(self->recursive && mutex_of(self)->depth > 1)) {
        int pid = mutex_of(self)->dead;
        mutex_of(self)->depth = 0;
        mutex_of(self)->tid = 0;
        tine_mutex_unlock(self->at);
        return raise_owner_died(pid);
    }
    if (rc == -EDEADLK) {
        PyErr_SetString(PyExc_RuntimeError, "the thread already holds this lock: it would wait for itself");
        return NULL;
    }
    return answer_of_wait(rc);
}

static PyObject *mutex_acquire(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    int64_t timeout_ns = TINE_FOREVER;
    if ((count || names) && !get_block_and_timeout("acquire", arguments, count, names, &timeout_ns)) return NULL;
    return acquire_for((Shared *)object, timeout_ns);
}

static PyObject *mutex_release(PyObject *object, PyObject *unused)
{
    Shared *self = (Shared *)object;
    struct shared_mutex *mutex = mutex_of(self);
    (void)unused;
    if (self->recursive && !is_mine(self)) {
        PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
        return NULL;
    }
    if (self->recursive && --mutex->depth == 0) mutex->tid = 0;
    int rc = tine_mutex_unlock(&mutex->mutex);
    if (rc == 0) Py_RETURN_NONE;
    if (rc != -EPERM) return raise_code(rc, NULL);
    tine_owner owner = TINE_OWNER_INIT;
    tine_mutex_owner(&mutex->mutex, &owner);
    if (owner.pid)
        PyErr_Format(PyExc_RuntimeError, "process %d holds the lock: only it can release it", (int)owner.pid);
    else
        PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
    return NULL;
}

static PyObject *mutex_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return acquire_for((Shared *)object, TINE_FOREVER);
}

static PyObject *mutex_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    (void)arguments;
    (void)count;
    return mutex_release(object, NULL);
}

static PyObject *mutex_repair(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Shared *self = (Shared *)object;
    int64_t timeout_ns = TINE_FOREVER;
    if ((count || names) && !get_block_and_timeout("_take_dead", arguments, count, names, &timeout_ns)) return NULL;
    return answer_of_wait(take(self, timeout_ns));
}

static PyObject *mutex_repaired(PyObject *object, PyObject *unused)
{
    (void)unused;
    mutex_of((Shared *)object)->dead = 0;
    Py_RETURN_NONE;
}

static PyObject *mutex_state(PyObject *object, PyObject *unused)
{
    Shared *self = (Shared *)object;
    tine_owner owner = TINE_OWNER_INIT;
    (void)unused;
    tine_mutex_owner(self->at, &owner);
    return Py_BuildValue("(iiIi)", (int)owner.pid, (int)owner.tid, mutex_of(self)->depth, (int)mutex_of(self)->dead);
}

static PyObject *mutex_is_mine(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(is_mine((Shared *)object));
}

static PyObject *mutex_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    int recursive, init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnpp", &owner, &segment, &offset, &recursive, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, MUTEX_BYTES);
    if (!self) return NULL;
    self->recursive = recursive;
    if (init) {
        unsigned kind = recursive ? TINE_RECURSIVE : TINE_PROCESS_OWNED;
        tine_mutex_init(self->at, kind | TINE_INTERRUPTIBLE | TINE_AUTO_REPAIR);
    }
    return (PyObject *)self;
}

/* Memory of a mutex that a thread still holds, or that somebody died holding, is never used again. */
static void mutex_dealloc(PyObject *object)
{
    Shared *self = (Shared *)object;
    tine_owner owner = TINE_OWNER_INIT;
    if (self->at && tine_mutex_owner(self->at, &owner) == 0 && owner.pid) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        if (PyObject_SetAttrString(self->owner, "shared", Py_True) < 0) PyErr_Clear();
        PyErr_Restore(type, value, trace);
    }
    shared_dealloc(object);
}

static PyMethodDef mutex_methods[] = {
    {"acquire", FAST(mutex_acquire), METH_FASTCALL | METH_KEYWORDS, "acquire(block=True, timeout=None) -> bool"},
    {"release", mutex_release, METH_NOARGS, "release()"},
    {"__enter__", mutex_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(mutex_exit), METH_FASTCALL, NULL},
    {"_take_dead", FAST(mutex_repair), METH_FASTCALL | METH_KEYWORDS, "As acquire, whoever died holding it."},
    {"_repaired", mutex_repaired, METH_NOARGS, "For the holder: what a dead holder may have torn is whole again."},
    {"_is_mine", mutex_is_mine, METH_NOARGS, "Whether the calling thread has taken it."},
    {"_state", mutex_state, METH_NOARGS, "_state() -> (pid, tid, depth, dead pid) of the moment"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot mutex_slots[] = {
    {Py_tp_new, mutex_new},         {Py_tp_dealloc, mutex_dealloc}, {Py_tp_methods, mutex_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec mutex_spec = {"libtine._native.Mutex", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, mutex_slots};

/* ---- Semaphores */

static int acquire_semaphore(void *at, int64_t timeout_ns) { return tine_semaphore_acquire(at, timeout_ns); }

static PyObject *semaphore_acquire(PyObject *object, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    int64_t timeout_ns = TINE_FOREVER;
    if ((count || names) && !get_block_and_timeout("acquire", arguments, count, names, &timeout_ns)) return NULL;
    return answer_of_wait(wait_for(acquire_semaphore, ((Shared *)object)->at, timeout_ns));
}

static PyObject *semaphore_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    int rc = tine_semaphore_release(((Shared *)object)->at, 1);
    if (rc == 0) Py_RETURN_NONE;
    if (rc != -EOVERFLOW) return raise_code(rc, NULL);
    PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
    return NULL;
}

static PyObject *semaphore_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return answer_of_wait(wait_for(acquire_semaphore, ((Shared *)object)->at, TINE_FOREVER));
}

static PyObject *semaphore_exit(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
    (void)arguments;
    (void)count;
    return semaphore_release(object, NULL);
}

static PyObject *semaphore_value(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(tine_semaphore_value(((Shared *)object)->at));
}

static PyObject *semaphore_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    unsigned value, most;
    int init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnIIp", &owner, &segment, &offset, &value, &most, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, sizeof(tine_semaphore));
    int rc = self && init ? tine_semaphore_init(self->at, value, most, TINE_INTERRUPTIBLE) : 0;
    if (rc) {
        Py_DECREF((PyObject *)self);
        return raise_code(rc, NULL);
    }
    return (PyObject *)self;
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", FAST(semaphore_acquire), METH_FASTCALL | METH_KEYWORDS, "acquire(block=True, timeout=None) -> bool"},
    {"release", semaphore_release, METH_NOARGS, "release()"},
    {"__enter__", semaphore_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(semaphore_exit), METH_FASTCALL, NULL},
    {"get_value", semaphore_value, METH_NOARGS, "get_value() -> the units that are free at this moment"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot semaphore_slots[] = {
    {Py_tp_new, semaphore_new},     {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, semaphore_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec semaphore_spec = {"libtine._native.Semaphore", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                                     semaphore_slots};

/* ---- Conditions */

static bool get_mutex(PyObject *object, Shared **mutex)
{
    if (!PyObject_TypeCheck(object, mutex_type)) {
        PyErr_SetString(PyExc_TypeError, "the lock of a condition is a Lock or an RLock of libtine's");
        return false;
    }
    *mutex = (Shared *)object;
    return true;
}

/* wait(mutex, timeout): releases the mutex however often the thread has locked it, and takes it back as often. */
static PyObject *condition_wait(PyObject *object, PyObject *arguments)
{
    struct shared_condition *condition = ((Shared *)object)->at;
    PyObject *lock, *timeout;
    Shared *self;
    int64_t timeout_ns;
    if (!PyArg_ParseTuple(arguments, "OO", &lock, &timeout) || !get_mutex(lock, &self) || !get_timeout(timeout, &timeout_ns))
        return NULL;
    if (!is_mine(self)) {
        PyErr_SetString(PyExc_AssertionError, "must acquire() condition before using wait()");
        return NULL;
    }
    struct shared_mutex *mutex = mutex_of(self);
    uint32_t depth = self->recursive ? mutex->depth : 1;
    for (uint32_t inner = 1; inner < depth; inner++) tine_mutex_unlock(&mutex->mutex);
    if (timeout_ns == 0) timeout_ns = 1; /* others get the mutex meanwhile, as they would from any wait */
    int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    condition->waiting++;
    int rc;
    do {
        mutex->depth = 0;
        mutex->tid = 0;
        Py_BEGIN_ALLOW_THREADS
        rc = tine_condition_wait(&condition->condition, &mutex->mutex, timeout_ns);
        Py_END_ALLOW_THREADS
        if (rc == -EOWNERDEAD) {
            note_death(mutex);
            rc = 0;
        }
        if (rc == -EINTR) {
            if (PyErr_CheckSignals()) rc = RAISED;
            else if (!(timeout_ns = time_left(timeout_ns, until_ns))) rc = -ETIMEDOUT;
        }
    } while (rc == -EINTR);
    condition->waiting--;
    for (uint32_t inner = 1; inner < depth; inner++) tine_mutex_lock(&mutex->mutex, TINE_FOREVER);
    if (self->recursive) {
        mutex->tid = own_tid();
        mutex->depth = depth;
    }
    if (mutex->dead && rc != RAISED) return raise_owner_died(mutex->dead);
    return answer_of_wait(rc);
}

static PyObject *condition_notify(PyObject *object, PyObject *arguments)
{
    PyObject *lock;
    Shared *mutex;
    unsigned n;
    if (!PyArg_ParseTuple(arguments, "OI", &lock, &n) || !get_mutex(lock, &mutex)) return NULL;
    if (!is_mine(mutex)) {
        PyErr_SetString(PyExc_AssertionError, "lock is not owned");
        return NULL;
    }
    int rc = tine_condition_notify(((Shared *)object)->at, n);
    if (rc) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

static PyObject *condition_waiting(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLong(((struct shared_condition *)((Shared *)object)->at)->waiting);
}

static PyObject *condition_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    int init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnp", &owner, &segment, &offset, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, CONDITION_BYTES);
    if (self && init) tine_condition_init(self->at, TINE_INTERRUPTIBLE);
    return (PyObject *)self;
}

static PyMethodDef condition_methods[] = {
    {"wait", condition_wait, METH_VARARGS, "wait(mutex, timeout) -> bool"},
    {"notify", condition_notify, METH_VARARGS, "notify(mutex, n)"},
    {"waiting", condition_waiting, METH_NOARGS, "waiting() -> how many wait at this moment"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot condition_slots[] = {
    {Py_tp_new, condition_new},     {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, condition_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec condition_spec = {"libtine._native.Condition", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT, condition_slots};

/* ---- Events */

struct event_wait {
    tine_event *event;
    int cleared;
};

static int wait_event(void *at, int64_t timeout_ns)
{
    struct event_wait *wait = at;
    return tine_event_wait_after(wait->event, wait->cleared, timeout_ns);
}

static PyObject *event_wait(PyObject *object, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    int64_t timeout_ns;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O", names, &timeout) || !get_timeout(timeout, &timeout_ns)) return NULL;
    struct event_wait wait = {((Shared *)object)->at, tine_event_cleared(((Shared *)object)->at)};
    return answer_of_wait(wait_for(wait_event, &wait, timeout_ns));
}

static PyObject *event_set(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_event_set(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *event_clear(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_event_clear(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *event_is_set(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(tine_event_is_set(((Shared *)object)->at) == 1);
}

static PyObject *event_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    int init;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnp", &owner, &segment, &offset, &init)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, sizeof(tine_event));
    if (self && init) tine_event_init(self->at, TINE_INTERRUPTIBLE);
    return (PyObject *)self;
}

static PyMethodDef event_methods[] = {
    {"wait", FAST(event_wait), METH_VARARGS | METH_KEYWORDS, "wait(timeout=None) -> bool"},
    {"set", event_set, METH_NOARGS, "set()"},
    {"clear", event_clear, METH_NOARGS, "clear()"},
    {"is_set", event_is_set, METH_NOARGS, "is_set() -> bool"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot event_slots[] = {
    {Py_tp_new, event_new},         {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, event_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec event_spec = {"libtine._native.Event", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, event_slots};

/* ---- Barriers */

static PyObject *barrier_wait(PyObject *object, PyObject *timeout)
{
    tine_barrier *barrier = ((Shared *)object)->at;
    int64_t timeout_ns;
    if (!get_timeout(timeout, &timeout_ns)) return NULL;
    int64_t until_ns = timeout_ns == TINE_FOREVER ? 0 : monotonic_ns() + timeout_ns;
    int rc;
    do {
        /* With 0 a party has not come at all; one whose time is over has come, and breaks the barrier. */
        Py_BEGIN_ALLOW_THREADS
        rc = tine_barrier_wait(barrier, timeout_ns ? timeout_ns : 1);
        Py_END_ALLOW_THREADS
        if (rc == -EINTR && PyErr_CheckSignals()) {
            tine_barrier_abort(barrier); /* the others would wait for a party that comes no more */
            return NULL;
        }
        if (rc == -EINTR) timeout_ns = time_left(timeout_ns, until_ns);
    } while (rc == -EINTR);
    if (rc == 1) return PyLong_FromLong(0);
    if (rc == 0) {
        uint64_t before = __atomic_fetch_add(&((struct shared_barrier *)barrier)->left, 1, __ATOMIC_RELAXED);
        return PyLong_FromUnsignedLongLong(before % (uint64_t)(tine_barrier_parties(barrier) - 1) + 1);
    }
    if (rc != TINE_EBROKEN && rc != -ETIMEDOUT) return raise_code(rc, NULL);
    PyErr_SetNone(broken_barrier);
    return NULL;
}

static PyObject *barrier_reset(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_barrier_reset(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *barrier_abort(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_barrier_abort(((Shared *)object)->at);
    Py_RETURN_NONE;
}

static PyObject *barrier_state(PyObject *object, PyObject *unused)
{
    (void)unused;
    tine_barrier *barrier = ((Shared *)object)->at;
    return Py_BuildValue("(iii)", tine_barrier_parties(barrier), tine_barrier_waiting(barrier), tine_barrier_broken(barrier));
}

static PyObject *barrier_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *owner, *segment;
    Py_ssize_t offset;
    unsigned parties;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOnI", &owner, &segment, &offset, &parties)) return NULL;
    Shared *self = new_shared(type, owner, segment, offset, BARRIER_BYTES);
    int rc = self && parties ? tine_barrier_init(self->at, parties, TINE_INTERRUPTIBLE) : 0;
    if (rc) {
        Py_DECREF((PyObject *)self);
        return raise_code(rc, NULL);
    }
    return (PyObject *)self;
}

static PyMethodDef barrier_methods[] = {
    {"wait", barrier_wait, METH_O, "wait(timeout) -> 0 for the last party to leave; the others have other numbers below that of the parties"},
    {"reset", barrier_reset, METH_NOARGS, "reset()"},
    {"abort", barrier_abort, METH_NOARGS, "abort()"},
    {"state", barrier_state, METH_NOARGS, "state() -> (parties, waiting, broken)"},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot barrier_slots[] = {
    {Py_tp_new, barrier_new},       {Py_tp_dealloc, shared_dealloc}, {Py_tp_methods, barrier_methods},
    {Py_tp_getset, shared_getters}, {0, NULL},
};
static PyType_Spec barrier_spec = {"libtine._native.Barrier", sizeof(Shared), 0, Py_TPFLAGS_DEFAULT, barrier_slots};

/* use_exceptions(OwnerDied, BrokenBarrierError) */
PyObject *use_exceptions(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO", &owner_died, &broken_barrier)) return NULL;
    Py_INCREF(owner_died);
    Py_INCREF(broken_barrier);
    Py_RETURN_NONE;
}

static bool add_type(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject **keep)
{
    PyObject *type = PyType_FromSpec(spec);
    if (!type) return false;
    if (keep) {
        Py_INCREF(type);
        *keep = (PyTypeObject *)type;
    }
    return PyModule_AddObject(module, name, type) == 0;
}

bool add_sync(PyObject *module)
{
    own_pid = (int32_t)getpid();
    pthread_atfork(NULL, NULL, know_child);
    return add_type(module, "Mutex", &mutex_spec, &mutex_type) && add_type(module, "Semaphore", &semaphore_spec, NULL) &&
           add_type(module, "Condition", &condition_spec, NULL) && add_type(module, "Event", &event_spec, NULL) &&
           add_type(module, "Barrier", &barrier_spec, NULL) && PyModule_AddIntConstant(module, "MUTEX_BYTES", MUTEX_BYTES) == 0 &&
           PyModule_AddIntConstant(module, "SEMAPHORE_BYTES", sizeof(tine_semaphore)) == 0 &&
           PyModule_AddIntConstant(module, "CONDITION_BYTES", CONDITION_BYTES) == 0 &&
           PyModule_AddIntConstant(module, "EVENT_BYTES", sizeof(tine_event)) == 0 &&
           PyModule_AddIntConstant(module, "BARRIER_BYTES", BARRIER_BYTES) == 0 &&
           PyModule_AddIntConstant(module, "BARRIER_PARTIES", TINE_BARRIER_PARTIES) == 0;
}
