/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine: process pools, shared memory, queues and locks that settle whatever is killed.
 * Made by `make header` from src/ffi; change the comments there.
 *
 * Conventions, for every call below:
 *
 *   Results     0 or a count on success. -1 to -4095 is a negated errno value, below that a TINE_E code.
 *               A call that fails changes nothing. tine_strerror() has a sentence for each code, and every options
 *               struct takes a tine_error for the text that names the thing and its value.
 *   Timeouts    int64_t nanoseconds, relative, monotonic. 0 never waits and gives -EAGAIN; a positive one that runs
 *               out gives -ETIMEDOUT; TINE_FOREVER waits. Waits go on after a signal handler unless the object was
 *               made TINE_INTERRUPTIBLE; then they give -EINTR.
 *   Structs     start with .size and have an initialiser, TINE_<NAME>_INIT. Zero is every option's default, and NULL
 *               in place of an options struct means all defaults.
 *   Ownership   what tine_X_create makes, tine_X_destroy ends; destroying NULL is fine. Out-parameters come last and
 *               are written only on success.
 *   Threads     every call may be made from any thread unless its text says otherwise.
 *   Fork        a child of fork() may not use its parent's objects: calls give TINE_EFORKED.
 */

#ifndef TINE_H
#define TINE_H

#define TINE_VERSION "0.1.0"
#define TINE_VERSION_MAJOR 0
#define TINE_VERSION_MINOR 1
#define TINE_VERSION_PATCH 0

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Errors and the version ------------------------------------------------------------------------------------ */

/**
 * The longest text of a tine_error, its terminating zero included.
 */
#define TINE_ERROR_TEXT 240

/**
 * Wait for ever: a value for every timeout_ns.
 */
#define TINE_FOREVER -1

/**
 * One sentence that says what rc means. Never NULL; the string is static. Any thread, any process.
 */
const char *tine_strerror(int rc);

/**
 * The name of the constant behind rc: "EINVAL", "TINE_EDIED", "OK" for a success, "UNKNOWN" for what is none. Never
 * NULL; the string is static. Any thread, any process.
 */
const char *tine_errname(int rc);

/**
 * The version of the library that runs, as "0.1.0"; the header's is TINE_VERSION. The string is static.
 */
const char *tine_version(void);

/* ---- Mutexes, and what holds for all locks --------------------------------------------------------------------- */

/**
 * A mutex whose holder may lock it again, and unlocks it as often.
 */
#define TINE_RECURSIVE 1

/**
 * A mutex that a process holds, not a thread: any thread of it may unlock it, and only the whole process's death is
 * its holder's. For runtimes that move work between threads. Another thread of the holder waits like anybody else.
 */
#define TINE_PROCESS_OWNED 2

/**
 * Waits end with -EINTR after a signal handler has run. Without it they go on.
 */
#define TINE_INTERRUPTIBLE 4

/**
 * A lock on data that a death can't tear: who takes it from a dead holder gets -EOWNERDEAD, but need not repair it.
 */
#define TINE_AUTO_REPAIR 8

/**
 * An event that clears itself when it lets a waiter go.
 */
#define TINE_AUTO_RESET 16

/**
 * A reader-writer lock on which readers don't wait for a writer that waits. It may starve writers.
 */
#define TINE_PREFER_READERS 32

/**
 * How many locks a thread may hold at a time, read locks and barriers that it waits at included. One more is -ENOLCK.
 */
#define TINE_MOST_HELD 128

/**
 * One at a time, among threads and processes.
 *
 * All locks of the family are plain memory of the caller's, aligned to 8 bytes: in a heap, in any MAP_SHARED memory, at
 * another address in each process if need be, or in private memory for threads of one process. All-zero memory is a
 * free lock without flags. No call allocates or frees anything for them, and there is nothing to destroy; memory in
 * which a lock is held or waited for must stay mapped, and a lock must be released through the address by which it
 * was taken. The content is tine's.
 *
 * A thread or process that ends, is killed, or executes another program while it holds a lock, at whatever instruction,
 * leaves it to the next taker, who gets -EOWNERDEAD. A child of fork() holds nothing. Threads of one PID namespace
 * only may share a lock; others get -EXDEV. Locks are not for signal handlers, and pthread_cancel() is not supported:
 * a thread must not be cancelled inside a call.
 *
 * Where neither the kernel nor the C library helps (before Linux 6.2, or by TINE_FORCE_NO=robust in the environment,
 * which all processes that share a lock must agree on), waits look every 50 ms whether the holder lives.
 */
typedef struct tine_mutex {
    /**
     * tine's.
     */
    uint64_t opaque[8];
} tine_mutex;

/**
 * Who holds a mutex, or died holding it.
 */
typedef struct tine_owner {
    /**
     * sizeof(tine_owner).
     */
    size_t size;
    /**
     * The holder's process; 0 where nobody holds the mutex.
     */
    int32_t pid;
    /**
     * The holder's thread; for TINE_PROCESS_OWNED, the one that took the mutex.
     */
    int32_t tid;
    /**
     * When the thread, or for TINE_PROCESS_OWNED the process, started: field 22 of /proc/PID/stat. 0 where not known.
     */
    uint64_t start_time;
    /**
     * The process that died holding it, until the mutex is repaired or unlocked; 0 where none did, or where it died
     * between taking the mutex and signing for it.
     */
    int32_t dead_pid;
    /**
     * Its thread.
     */
    int32_t dead_tid;
} tine_owner;
#define TINE_OWNER_INIT { sizeof(tine_owner), 0, 0, 0, 0, 0 }

/**
 * Makes m a free mutex. flags: TINE_RECURSIVE or TINE_PROCESS_OWNED, TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR.
 *
 * Nobody may use the memory meanwhile. Without TINE_RECURSIVE a holder that locks again gets -EDEADLK.
 *
 * Returns 0; -EINVAL: m is NULL or not aligned to 8 bytes, or flags unknown or not to be combined.
 */
int tine_mutex_init(struct tine_mutex *m,
                    uint32_t flags);

/**
 * Takes the mutex, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits.
 *
 * A thread-owned mutex belongs to the operating system's thread: a goroutine or coroutine must be pinned to its thread
 * (runtime.LockOSThread) from lock to unlock, or the mutex made TINE_PROCESS_OWNED.
 *
 * Returns 0: taken. -EOWNERDEAD: taken from a holder that died; make the data whole and call tine_mutex_repair(), or
 * unlocking makes the mutex useless for good (-ENOTRECOVERABLE). Otherwise it was not taken: -EAGAIN (0 ns),
 * -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only), -EDEADLK: the caller holds it; -ENOTRECOVERABLE; -ENOLCK: the thread
 * holds TINE_MOST_HELD locks; -EXDEV: another PID namespace's; -EINVAL: NULL or misaligned; -ENOMEM at a thread's first.
 */
int tine_mutex_lock(struct tine_mutex *m,
                    int64_t timeout_ns);

/**
 * Releases the mutex, and wakes one waiter if there is any.
 *
 * Returns 0; -EPERM: the caller does not hold it (nor did it before fork()); -EINVAL: NULL or misaligned.
 */
int tine_mutex_unlock(struct tine_mutex *m);

/**
 * Says that the data is whole again which a dead holder may have torn. For the holder that got -EOWNERDEAD.
 *
 * Returns 0; -EPERM: the caller does not hold it; -EINVAL: there is nothing to repair, or NULL or misaligned.
 */
int tine_mutex_repair(struct tine_mutex *m);

/**
 * Says who holds the mutex, for messages: it may have changed hands when the call returns. out->size is set by
 * TINE_OWNER_INIT.
 *
 * Returns 0; -EINVAL: NULL, misaligned, or a size that is none. Any thread of any process; nothing is changed.
 */
int tine_mutex_owner(const struct tine_mutex *m,
                     struct tine_owner *out);

/* ---- Reader-writer locks --------------------------------------------------------------------------------------- */

/**
 * How many readers there can be at a time; more wait.
 */
#define TINE_RWLOCK_READERS 15

/**
 * Many readers or one writer, among threads and processes. What holds for tine_mutex holds here.
 *
 * A dead reader is forgotten. A dead writer is reported to the next writer, who repairs or loses the lock, and to the
 * readers before that.
 */
typedef struct tine_rwlock {
    /**
     * tine's.
     */
    uint64_t opaque[128];
} tine_rwlock;

/**
 * Makes l a free lock. flags: TINE_PREFER_READERS, TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR. Without the first, a
 * writer that waits lets no new readers in, but for threads that read already. Nobody may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: l is NULL or not aligned to 8 bytes, or unknown flags.
 */
int tine_rwlock_init(struct tine_rwlock *l,
                     uint32_t flags);

/**
 * Takes the lock for reading, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits. A thread may
 * read-lock again what it has read-locked, and unlocks as often.
 *
 * Returns 0: taken. -EOWNERDEAD: taken, but a writer died and no writer has repaired the data since. Otherwise not taken:
 * -EAGAIN (0 ns), -ETIMEDOUT, -EINTR, -EDEADLK: the caller holds it for writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV,
 * -EINVAL, -ENOMEM as for tine_mutex_lock().
 */
int tine_rwlock_read_lock(struct tine_rwlock *l,
                          int64_t timeout_ns);

/**
 * Takes the lock for writing, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits.
 *
 * Returns 0: taken. -EOWNERDEAD: taken, but a writer died: make the data whole and call tine_rwlock_repair(), or
 * unlocking makes the lock useless for good (-ENOTRECOVERABLE). Otherwise not taken: -EAGAIN (0 ns), -ETIMEDOUT, -EINTR,
 * -EDEADLK: the caller holds it, for reading or writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM as for
 * tine_mutex_lock().
 */
int tine_rwlock_write_lock(struct tine_rwlock *l,
                           int64_t timeout_ns);

/**
 * Releases what the calling thread holds: the write lock, or one of its read locks.
 *
 * Returns 0; -EPERM: the thread holds neither; -EINVAL: NULL or misaligned.
 */
int tine_rwlock_unlock(struct tine_rwlock *l);

/**
 * Says that the data is whole again which a dead writer may have torn. For a writer that got -EOWNERDEAD.
 *
 * Returns 0; -EPERM: the caller does not hold it for writing; -EINVAL: there is nothing to repair, NULL, misaligned.
 */
int tine_rwlock_repair(struct tine_rwlock *l);

/* ---- Semaphores, conditions, events ---------------------------------------------------------------------------- */

/**
 * Units that are taken and given back, by any thread of any process. All-zero memory has none, and no limit below
 * INT32_MAX. A unit that a dead process had taken is gone; a wake-up never is.
 */
typedef struct tine_semaphore {
    /**
     * tine's.
     */
    uint64_t opaque[8];
} tine_semaphore;

/**
 * Waiting for something to become true that a mutex protects. All-zero memory is one that nobody waits for. A
 * notification whose receiver is killed goes to another waiter. Waits may end without a notification: test again.
 */
typedef struct tine_condition {
    /**
     * tine's.
     */
    uint64_t opaque[8];
} tine_condition;

/**
 * Something that has happened, or not yet. All-zero memory is one that has not, and stays set once it is.
 */
typedef struct tine_event {
    /**
     * tine's.
     */
    uint64_t opaque[8];
} tine_event;

/**
 * Gives s value free units out of at most max; a max of 0 is as many as fit. flags: TINE_INTERRUPTIBLE. Nobody
 * may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: s is NULL or not aligned to 8 bytes, value above max, max above INT32_MAX, unknown flags.
 */
int tine_semaphore_init(struct tine_semaphore *s,
                        uint32_t value,
                        uint32_t max,
                        uint32_t flags);

/**
 * Takes one unit, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits.
 *
 * Returns 0; -EAGAIN (0 ns), -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only); -EINVAL: NULL or misaligned; -ENOMEM.
 */
int tine_semaphore_acquire(struct tine_semaphore *s,
                           int64_t timeout_ns);

/**
 * Gives n units, all or none. Who gives them need not have taken them.
 *
 * Returns 0; -EOVERFLOW: there would be more than max; -EINVAL: NULL or misaligned; -ENOMEM at a thread's first call.
 */
int tine_semaphore_release(struct tine_semaphore *s,
                           uint32_t n);

/**
 * The units that are free at this moment, or -EINVAL: NULL or misaligned.
 */
int tine_semaphore_value(const struct tine_semaphore *s);

/**
 * Makes c a condition that nobody waits for. flags: TINE_INTERRUPTIBLE. Nobody may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: c is NULL or not aligned to 8 bytes, or unknown flags.
 */
int tine_condition_init(struct tine_condition *c,
                        uint32_t flags);

/**
 * Releases m, which the caller has locked once, waits for a notification for up to timeout_ns nanoseconds, and takes
 * m back, however long that takes. All waiters of a condition use the same mutex.
 *
 * Returns, with m held: 0: notified, or for no reason; -EOWNERDEAD: m was taken back from a holder that died, which
 * is said rather than -ETIMEDOUT: repair the data and m, and notify all; -ETIMEDOUT; -EAGAIN (0 ns), without having
 * released m; -EINTR (a TINE_INTERRUPTIBLE condition). -ENOTRECOVERABLE: m is not held, and never will be. Nothing
 * was done: -EPERM: the caller does not hold m; -EINVAL: NULL, misaligned, or m is locked more than once; -ENOMEM.
 */
int tine_condition_wait(struct tine_condition *c,
                        tine_mutex *m,
                        int64_t timeout_ns);

/**
 * Wakes n waiters, or as many as there are. What they wait for should be changed with their mutex held; the mutex may
 * be held here or not.
 *
 * Returns 0; -EINVAL: NULL or misaligned; -ENOMEM at a thread's first call.
 */
int tine_condition_notify(struct tine_condition *c,
                          uint32_t n);

/**
 * Wakes all waiters. Returns as tine_condition_notify().
 */
int tine_condition_notify_all(struct tine_condition *c);

/**
 * Makes e an event that is not set. flags: TINE_AUTO_RESET, TINE_INTERRUPTIBLE. Nobody may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: e is NULL or not aligned to 8 bytes, or unknown flags.
 */
int tine_event_init(struct tine_event *e,
                    uint32_t flags);

/**
 * Sets the event and lets all waiters go, even if it is cleared before they run; with TINE_AUTO_RESET, one.
 *
 * Returns 0; -EINVAL: NULL or misaligned; -ENOMEM at a thread's first call.
 */
int tine_event_set(struct tine_event *e);

/**
 * Clears the event. Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_event_clear(struct tine_event *e);

/**
 * 1 if the event is set at this moment, 0 if not; -EINVAL: NULL or misaligned.
 */
int tine_event_is_set(const struct tine_event *e);

/**
 * Waits until the event is set, for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits. With TINE_AUTO_RESET
 * one waiter clears it; if that one is killed before it has, another does.
 *
 * Returns 0; -EAGAIN (0 ns), -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only); -EINVAL: NULL or misaligned; -ENOMEM.
 */
int tine_event_wait(struct tine_event *e,
                    int64_t timeout_ns);

/* ---- Barriers, and what is done once --------------------------------------------------------------------------- */

/**
 * The most parties that a barrier can have.
 */
#define TINE_BARRIER_PARTIES 128

/**
 * A meeting of a fixed number of threads, of any processes, again and again. What holds for tine_mutex holds here, but
 * all-zero memory is no barrier: tine_barrier_init() says how many parties it is for.
 *
 * A party that dies while it waits breaks the barrier: everybody gets TINE_EBROKEN until tine_barrier_reset(). One that
 * never comes is found by the timeout.
 */
typedef struct tine_barrier {
    /**
     * tine's.
     */
    uint64_t opaque[272];
} tine_barrier;

/**
 * Something that is done once, by whichever process comes first. All-zero memory is one that has not been done; what
 * holds for tine_mutex holds here.
 */
typedef struct tine_once {
    /**
     * tine's.
     */
    uint64_t opaque[8];
} tine_once;

/**
 * Makes b a barrier for parties parties, from 1 to TINE_BARRIER_PARTIES. flags: TINE_INTERRUPTIBLE. Nobody may use
 * the memory meanwhile.
 *
 * Returns 0; -EINVAL: b is NULL or not aligned to 8 bytes, a number of parties out of range, unknown flags.
 */
int tine_barrier_init(struct tine_barrier *b,
                      uint32_t parties,
                      uint32_t flags);

/**
 * Waits until all parties have come, for up to timeout_ns nanoseconds; TINE_FOREVER waits. A wait that runs out of time
 * breaks the barrier for the others; with 0, a party that isn't the last has not come at all.
 *
 * Returns 1 for one of the parties, 0 for the others. TINE_EBROKEN: a party died or ran out of time, or the barrier was
 * aborted or reset; -EAGAIN (0 ns); -ETIMEDOUT: the barrier is broken now; -EINTR (TINE_INTERRUPTIBLE only): the party
 * has not come; -EINVAL: NULL, misaligned, or no barrier; -ENOLCK: the thread holds TINE_MOST_HELD locks, or more threads
 * than TINE_BARRIER_PARTIES are in the barrier; -EXDEV: another PID namespace's; -ENOMEM.
 */
int tine_barrier_wait(struct tine_barrier *b,
                      int64_t timeout_ns);

/**
 * Makes the barrier as new: it isn't broken, and nobody waits; those that did get TINE_EBROKEN.
 *
 * Returns 0; -EINVAL: NULL or misaligned; -EXDEV; -ENOMEM.
 */
int tine_barrier_reset(struct tine_barrier *b);

/**
 * Breaks the barrier: those that wait and those that come get TINE_EBROKEN until it is reset.
 *
 * Returns 0; -EINVAL: NULL or misaligned; -EXDEV; -ENOMEM.
 */
int tine_barrier_abort(struct tine_barrier *b);

/**
 * 1 if the barrier is broken, 0 if not; -EINVAL: NULL or misaligned.
 */
int tine_barrier_broken(const struct tine_barrier *b);

/**
 * How many parties the barrier is for, or -EINVAL: NULL or misaligned.
 */
int tine_barrier_parties(const struct tine_barrier *b);

/**
 * How many parties wait at this moment, or -EINVAL: NULL or misaligned.
 */
int tine_barrier_waiting(const struct tine_barrier *b);

/**
 * Calls initializer(user) unless one has succeeded on this o before, in whatever process; waits for one that runs,
 * for up to timeout_ns nanoseconds (0 tries, TINE_FOREVER waits).
 *
 * An initialiser that returns something other than 0 has failed: its caller gets that number, and the next caller's
 * initialiser runs. So does the next one after an initialiser whose process died, and it may find things half done. An
 * initialiser must not throw or longjmp out.
 *
 * Returns 0: done, now or before; what the initialiser returned; -EAGAIN (0 ns), -ETIMEDOUT; -EDEADLK: called from the
 * initialiser; -EINVAL: NULL or misaligned; -ENOLCK, -EXDEV, -ENOMEM as for tine_mutex_lock().
 */
int tine_once_call(struct tine_once *o,
                   int (*initializer)(void *user),
                   void *user,
                   int64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif /* TINE_H */
