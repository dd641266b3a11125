/* Locks. A recursive one is tine's mutex of a process, too; which of its threads has it, and how often, stand in words beside it.
 *
 * A mutex has a word beside it that says who died holding it. The mutex itself repairs itself, so a taker that learns of a death
 * writes the word, lets go and raises; everybody raises until somebody has called repair(). Killed between any two of these steps, a
 * process leaves a mutex whose next taker learns of a death again. */
#include "sync.h"
#include <errno.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

static PyTypeObject *mutex_type;

struct shared_mutex *mutex_of(Shared *self) { return self->at; }

static int lock_mutex(void *at, int64_t timeout_ns) { return tine_mutex_lock(at, timeout_ns); }

/* The thread, 0: to be asked for; and the process, with a number that is nobody else's, of whatever process and time. */
static _Thread_local int32_t known_tid;
static int32_t own_pid;
static uint64_t process_key;

static void know_process(void)
{
    known_tid = 0;
    own_pid = (int32_t)getpid();
    if (getrandom(&process_key, sizeof process_key, GRND_NONBLOCK) != sizeof process_key)
        process_key = (uint64_t)monotonic_ns() << 22 | (uint32_t)own_pid; /* a process's number is not used twice at once */
}

static int32_t own_tid(void)
{
    if (!known_tid) known_tid = (int32_t)syscall(SYS_gettid);
    return known_tid;
}

/* Where the thread's control block is: no other thread of the process that lives has it there. */
static inline uint64_t thread_number(void)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_thread_pointer)
    return (uint64_t)(uintptr_t)__builtin_thread_pointer();
#endif
#endif
    return (uint64_t)pthread_self();
}

uint64_t own_key(void) { return process_key ^ thread_number(); }

static void set_holder(struct shared_mutex *mutex, uint64_t key) { __atomic_store_n(&mutex->holder, key, __ATOMIC_RELAXED); }

/* A recursive lock of this process: as long as it has an object here, or was held when the last one went. The end of a thread that holds
 * some is told to whoever takes them next: tine's mutex, which is the process's, knows nothing of threads. */
struct watch {
    struct shared_mutex *mutex;
    struct watch *next, **link;
};

static struct watch *watches;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t thread_end;
/* The thread that was found to have its end seen to, last; a hint that saves pthread_getspecific. */
static uint64_t watched;

static void before_fork(void) { pthread_mutex_lock(&list_lock); }

static void after_fork(void) { pthread_mutex_unlock(&list_lock); }

static void on_thread_end(void *unused)
{
    uint64_t key = own_key(), hint = key;
    (void)unused;
    __atomic_compare_exchange_n(&watched, &hint, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED); /* the next thread may have its number */
    pthread_mutex_lock(&list_lock);
    for (struct watch *each = watches; each; each = each->next) {
        struct shared_mutex *mutex = each->mutex;
        if (__atomic_load_n(&mutex->holder, __ATOMIC_RELAXED) != key) continue;
        mutex->dead = own_pid;
        mutex->depth = 0;
        set_holder(mutex, 0);
        tine_mutex_unlock(&mutex->mutex);
    }
    pthread_mutex_unlock(&list_lock);
}

static bool watch_thread(void)
{
    uint64_t key = own_key();
    if (__atomic_load_n(&watched, __ATOMIC_RELAXED) == key) return true;
    if (!pthread_getspecific(thread_end) && pthread_setspecific(thread_end, &thread_end)) return false;
    __atomic_store_n(&watched, key, __ATOMIC_RELAXED);
    return true;
}

static struct watch *start_watch(struct shared_mutex *mutex)
{
    struct watch *watch = PyMem_Malloc(sizeof *watch);
    if (!watch) return NULL;
    watch->mutex = mutex;
    watch->link = &watches;
    pthread_mutex_lock(&list_lock);
    watch->next = watches;
    if (watch->next) watch->next->link = &watch->next;
    watches = watch;
    pthread_mutex_unlock(&list_lock);
    return watch;
}

/* For an object that goes. Returns whether the watch stays, and with it has to stay the memory: of a lock that is held here, and has no
 * other watch. */
static bool end_watch(struct watch *watch, bool held)
{
    pthread_mutex_lock(&list_lock);
    bool stays = held;
    for (struct watch *each = watches; each && stays; each = each->next) stays = each == watch || each->mutex != watch->mutex;
    if (!stays) {
        *watch->link = watch->next;
        if (watch->next) watch->next->link = watch->link;
    }
    pthread_mutex_unlock(&list_lock);
    if (!stays) PyMem_Free(watch);
    return stays;
}

/* Whether this thread has taken it. Of one that is not recursive, which is asked seldom, the mutex itself knows. */
bool is_mine(Shared *self)
{
    if (self->recursive) { /* what others write meanwhile is not this thread's */
        uint64_t holder = __atomic_load_n(&mutex_of(self)->holder, __ATOMIC_RELAXED);
        return holder && holder == own_key();
    }
    tine_owner owner = TINE_OWNER_INIT;
    return tine_mutex_owner(self->at, &owner) == 0 && owner.pid == own_pid && owner.tid == own_tid();
}

PyObject *raise_owner_died(int pid)
{
    PyObject *text = PyUnicode_FromFormat("process %d died holding the lock; repair() makes it usable again", pid);
    PyObject *arguments = text ? Py_BuildValue("(Oi)", text, pid) : NULL;
    if (arguments) PyErr_SetObject(owner_died, arguments);
    Py_XDECREF(arguments);
    Py_XDECREF(text);
    return NULL;
}

/* The holder's note of a death that tine_mutex_lock or tine_condition_wait has told of. */
void note_death(struct shared_mutex *mutex)
{
    tine_owner owner = TINE_OWNER_INIT;
    tine_mutex_owner(&mutex->mutex, &owner);
    mutex->dead = owner.dead_pid > 0 ? owner.dead_pid : -1; /* it died before it could sign for it */
    mutex->depth = 0;
}

/* Takes the mutex; 0 also of one that was not repaired: its word says so. A holder that asks again waits for another of its threads. */
static int take(Shared *self, int64_t timeout_ns)
{
    if (self->recursive && is_mine(self)) {
        if (mutex_of(self)->depth == UINT32_MAX) return -EOVERFLOW;
        mutex_of(self)->depth++;
        return 0;
    }
    if (self->recursive && !watch_thread()) return -ENOMEM;
    int rc = tine_mutex_lock(self->at, 0);
    if (rc == -EAGAIN && timeout_ns) rc = wait_for(lock_mutex, self->at, timeout_ns);
    if (rc == -EDEADLK && timeout_ns == 0) return -EAGAIN;
    if (rc == -EOWNERDEAD) {
        note_death(mutex_of(self));
        rc = 0;
    }
    if (rc == 0 && self->recursive) {
        set_holder(mutex_of(self), own_key());
        mutex_of(self)->depth = 1;
    }
    return rc;
}

static PyObject *acquire_for(Shared *self, int64_t timeout_ns)
{
    int rc = take(self, timeout_ns);
    if (rc == 0 && mutex_of(self)->dead && !(self->recursive && mutex_of(self)->depth > 1)) {
        int pid = mutex_of(self)->dead;
        mutex_of(self)->depth = 0;
        set_holder(mutex_of(self), 0);
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
    if (self->recursive && --mutex->depth) Py_RETURN_NONE;
    if (self->recursive) set_holder(mutex, 0);
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
    Shared *self = new_shared(type, owner, segment, offset, sizeof(struct shared_mutex));
    if (!self) return NULL;
    self->recursive = recursive;
    if (recursive && !(self->watch = start_watch(self->at))) {
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    if (init) tine_mutex_init(self->at, TINE_PROCESS_OWNED | TINE_INTERRUPTIBLE | TINE_AUTO_REPAIR);
    return (PyObject *)self;
}

/* Memory of a mutex that a thread still holds, or that somebody died holding, is never used again. */
static void mutex_dealloc(PyObject *object)
{
    Shared *self = (Shared *)object;
    tine_owner owner = TINE_OWNER_INIT;
    bool held = self->at && tine_mutex_owner(self->at, &owner) == 0 && owner.pid;
    if (self->watch && end_watch(self->watch, held && owner.pid == own_pid)) Py_INCREF(self->segment);
    if (held) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        if (PyObject_SetAttrString(self->owner, "shared", Py_True) < 0) PyErr_Clear();
        PyErr_Restore(type, value, trace);
    }
    shared_dealloc(object);
}

static PyMethodDef mutex_methods[] = {
    {"acquire", FAST(mutex_acquire), METH_FASTCALL | METH_KEYWORDS, "acquire($self, /, block=True, timeout=None)\n--\n\nTakes the lock; returns whether it could, in time."},
    {"release", mutex_release, METH_NOARGS, "release($self, /)\n--\n\nGives the lock back."},
    {"__enter__", mutex_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", FAST(mutex_exit), METH_FASTCALL, "__exit__($self, /, *args)\n--\n\n"},
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

Shared *get_mutex(PyObject *object)
{
    if (PyObject_TypeCheck(object, mutex_type)) return (Shared *)object;
    PyErr_SetString(PyExc_TypeError, "the lock of a condition is a Lock or an RLock of libtine's");
    return NULL;
}

bool add_mutex(PyObject *module)
{
    static bool prepared; /* an interpreter that was ended and started again imports this once more */
    if (!prepared) {
        know_process();
        if (pthread_key_create(&thread_end, on_thread_end) || pthread_atfork(NULL, NULL, know_process) ||
            pthread_atfork(before_fork, after_fork, after_fork)) {
            PyErr_NoMemory();
            return false;
        }
        prepared = true;
    }
    mutex_type = add_type(module, "Mutex", &mutex_spec, "MUTEX_BYTES", sizeof(struct shared_mutex));
    return mutex_type != NULL;
}
