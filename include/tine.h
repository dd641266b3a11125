/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine: process pools, shared memory, queues and locks that settle whatever is killed.
 * Made by `make header` from src/ffi; change the comments there.
 *
 * Conventions, for every call below:
 *
 *   Results     A call returns 0 or a count on success. A number from -1 to -4095 is a negated errno value, a number
 *               below that is a TINE_E code. A call that fails changes nothing, unless its text names an exception.
 *               tine_strerror() has a sentence for each code. A call that takes an options struct with a field .error
 *               writes a text there that names the thing and its value.
 *   Timeouts    are int64_t nanoseconds, relative and monotonic. With 0 or less a call never waits: it returns
 *               -EAGAIN instead. When a positive timeout runs out, it returns -ETIMEDOUT. TINE_FOREVER waits for
 *               ever. Waits go on after a signal handler has run; those for an object that was made with
 *               TINE_INTERRUPTIBLE return -EINTR. A field .timeout_ns of an options struct is such a timeout, too.
 *               For every other duration in an options struct 0 is the default, and a negative number is -EINVAL.
 *   Arguments   come in this order: the object, the inputs, the timeout, the outputs. Outputs are written only on
 *               success, unless a call's text says otherwise.
 *   Pointers    A pointer to an object is the one that the call which made the object has given. It is valid until
 *               the object is ended or given away, and the call that ends the object is the last call on it in any
 *               thread. Any other pointer leads to as many bytes as the length, the count or the .size beside it
 *               says, or else to one value. These bytes stay as they are until the call returns.
 *   Structs     start with .size: how much of the struct the caller knows. tine reads and writes no more than that.
 *               Locks, whose size is fixed within a soname, and tine_limit have no .size. Every struct except
 *               tine_barrier has an initialiser, TINE_<NAME>_INIT. tine_barrier_init comes before any other call on a
 *               barrier. Zero is the default of every option, and NULL in place of an options struct means all defaults.
 *               Options that contradict each other are -EINVAL; a struct that is longer than this version knows, and
 *               not zero there, is -E2BIG.
 *   Flags       No two flags of the library have the same bit. A flag that an object does not know is -EINVAL.
 *   Ownership   tine_X_destroy ends an object for every process: pools, streams, queues. tine_X_close releases this
 *               process's handle: other processes keep their handles of a segment, of a heap and of a channel's end.
 *               A process of tine_process_start ends with its only handle, unless it is TINE_DETACHED.
 *               tine_queue_close releases nothing: it forbids further puts, and refuses NULL. Every destroy and every
 *               other close accepts NULL.
 *   Threads     "Threads: any" means that any thread may make the call, also while others are in it. No call is a
 *               cancellation point: pthread_cancel() acts when the call has returned.
 *   Fork        says what holds for a child of fork(). It must not use its parent's pools, heaps, streams, queues,
 *               channels and processes. There a call that returns a code returns TINE_EFORKED, and a call that makes
 *               or gives something returns NULL. A segment stays usable, and so do calls that only describe an
 *               object.
 *   Environment Variables named TINE_... change how the library works: the page docs/environment.md lists them.
 */

#ifndef TINE_H
#define TINE_H

#define TINE_VERSION "0.1.0"
#define TINE_VERSION_MAJOR 0
#define TINE_VERSION_MINOR 1
#define TINE_VERSION_PATCH 0

#if !defined(__LP64__) && !defined(_LP64)
#error "tine is for 64-bit Linux: its locks and queues have words of 64 bits, and its heap needs the address space"
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A pool of worker processes; in a worker, the pool that the worker belongs to. */
typedef struct tine_pool tine_pool;

/** A task, as the function that carries it out sees it. Valid until that function returns, in its thread only. */
typedef struct tine_task tine_task;

/** One end of a channel: see tine_channel_create. */
typedef struct tine_channel tine_channel;

/* ---- Errors, timeouts, the log and the version ----------------------------------------------------------------- */

/** The longest text of a tine_error, its terminating zero included. */
#define TINE_ERROR_TEXT 240

/**
 * A timeout_ns that never runs out. A negative timeout_ns counts as 0, so end - now may be passed when the end has
 * gone by.
 */
#define TINE_FOREVER INT64_MAX

/**
 * A flag of pools, locks, queues, channels and processes: a wait for the object ends with -EINTR when a signal
 * handler has run while the wait slept. A stream does not take the flag, and waits as its pool does. A tine_once has
 * no flags, and its waits go on. A wait for a lock or a queue may go on after a handler that was installed with
 * SA_RESTART, as sem_wait does.
 *
 * A handler that runs just before a wait sleeps does not end the wait. A wait sleeps in several pieces: it wakes up
 * in between. Waits for mutexes, reader-writer locks, barriers and pools, and sends, look round now and then. So one
 * signal is a hint. Repeat the signal until the wait has ended, or let the handler do what ends the wait:
 * tine_event_set() or tine_semaphore_release().
 */
#define TINE_INTERRUPTIBLE (1 << 0)

/** tine_init has not run in this process. */
#define TINE_ENOINIT -5001

/** The worker processes could not be started, or end as soon as they have been started. */
#define TINE_EWORKERSTART -5002

/** The process that ran the task died. */
#define TINE_EDIED -5003

/** The task's function returned a number below -4095. These numbers are tine's own. */
#define TINE_EBADCODE -5004

/** Items of a map failed. The status of each item says why. */
#define TINE_EITEMS -5005

/** The function pointer is not code of a loaded module. */
#define TINE_EFUNCTION -5006

/** The function's module is not loaded in the workers, or is another build there. */
#define TINE_EMODULE -5007

/** The workers know no registered function of this name. */
#define TINE_ENAME -5008

/** The id was never given, or its result has been taken or released. */
#define TINE_EID -5009

/** The pool has been shut down. */
#define TINE_ESHUTDOWN -5010

/** The object belongs to the process that this one was forked from. */
#define TINE_EFORKED -5011

/** The call was made in a worker, and only the host may make it. */
#define TINE_EWORKER -5012

/** Nothing is outstanding, so there is nothing to wait for. */
#define TINE_EEMPTY -5013

/** The other process runs another build of tine. */
#define TINE_EVERSION -5014

/** The barrier is broken. */
#define TINE_EBROKEN -5015

/** The task used more memory than its worker may have. */
#define TINE_EMEMORY -5016

/** An error inside tine. The object should not be used any further. */
#define TINE_EPANIC -5017

/** tine_init has already run, and the call has to come before it. */
#define TINE_ELATE -5018

/** A level of tine_log_fn: the process that writes the line ends. */
#define TINE_LOG_ERROR 0

/** A level of tine_log_fn: something is wrong, and the process goes on. */
#define TINE_LOG_WARNING 1

/**
 * A program's own log. text is one line without a line feed, and is valid until the function returns. The function
 * may be called in any thread, also while tine holds locks of its own. So it must not call tine, throw an exception,
 * or jump out.
 */
typedef void (*tine_log_fn)(int level, const char *text, void *user);

/**
 * What went wrong, in words that name the thing and its value. The caller owns it, and points the .error of an
 * options struct at it. A call that fails fills it in. A call that succeeds leaves it as it is.
 */
typedef struct tine_error {
    /** sizeof(tine_error). */
    size_t size;
    /** The code that the call returned. */
    int code;
    /** The text; a zero always ends it. */
    char text[TINE_ERROR_TEXT];
} tine_error;
#define TINE_ERROR_INIT { sizeof(tine_error), 0, {0} }

/**
 * One sentence that says what a code means.
 *
 * Parameters: rc: what a call has returned.
 * Returns the sentence: a static string, never NULL.
 * Threads: any. Fork: a child may call it.
 */
const char *tine_strerror(int rc);

/**
 * The name of the constant behind a code: "EINVAL" or "TINE_EDIED".
 *
 * Parameters: rc: what a call has returned.
 * Returns the name, a static string, never NULL: "OK" for 0 and counts, "UNKNOWN" for a number that is no code.
 * Threads: any. Fork: a child may call it.
 */
const char *tine_errname(int rc);

/**
 * The version of the library that runs. TINE_VERSION is the version of the header.
 *
 * Returns the version, as "0.1.0": a static string, never NULL.
 * Threads: any. Fork: a child may call it.
 */
const char *tine_version(void);

/**
 * Directs the lines that tine writes for people to a function. Without a function they go to standard error. They say
 * why a process that was started cannot be a worker, why tine_init has failed, and why a trace (TINE_TRACE) ends early.
 * They also say what goes wrong with the nodes of an MPI job, and what TINE_CHECK=1 finds.
 *
 * The errors of other calls are not logged: their text goes to the caller's tine_error. A worker that is a fresh copy
 * of the program has the log that the program sets before tine_init. A worker that is forked from the host has the
 * host's log.
 *
 * Parameters: log: the function; NULL for standard error. user: passed to the function. Both count for the whole
 * process from now on. A call of the former log that has begun goes on, so what the former log uses must stay.
 * Threads: any. Fork: a child keeps the log.
 */
void tine_set_log(tine_log_fn log, void *user);

/* ---- Starting up ----------------------------------------------------------------------------------------------- */

/**
 * The function of a task. Its return value is the result's .status: 0 or more for a success, a negated errno value
 * for a failure. tine_fail gives a failure a text.
 */
typedef int (*tine_fn)(tine_task *task);

/**
 * Registers a function under a name, for callers that have no pointer to it: other languages and other programs.
 *
 * Each program of a family has to register the name, before tine_init. The name is copied. A library that workers
 * load by .preload registers its functions in a constructor.
 *
 * Parameters: name: 1 to 255 bytes of UTF-8, new in this process. fn: the function.
 * Returns 0; -EINVAL: the name has another length or is not UTF-8, or an argument is NULL; -EEXIST: a function has
 * this name already; TINE_ELATE: tine_init has run.
 * Threads: any. Fork: a child keeps what was registered.
 */
int tine_register(const char *name, tine_fn fn);

/**
 * The first call in main. In the program that the user has started it returns. In a process that a pool has started
 * it never returns: that process becomes a supervisor or a worker here.
 *
 * A program that is started by mpirun, and that is linked with libtine-mpi or has TINE_ENGINE=mpi in its
 * environment, is a job. There tine_init returns in rank 0 alone. Every other rank becomes a node, which runs the
 * tasks of rank 0's pools (TINE_ENGINE_MPI) until rank 0 exits.
 *
 * A host whose main is not its own, a plugin, need not call tine_init. It names a worker executable instead, in
 * tine_pool_options.worker_path.
 *
 * Parameters: argc, argv: main's own, or 0 and NULL. They are not changed.
 * Returns 0, also when it is called again; -ENOSYS: the kernel is older than Linux 5.4. The log then names the
 * kernel and the system call that it lacks, and pools are refused. Under mpirun also -ENOENT: there is no
 * libtine-mpi; -ETIMEDOUT: a rank does not come; -EIO, -EPERM: MPI cannot be started.
 * Threads: before any other thread is started. Fork: a child need not call it again.
 */
int tine_init(int argc, char **argv);

/**
 * Tells workers and hosts apart.
 *
 * Returns true in a process that was started to run functions. These are the workers of a pool, in their
 * initializer, their tasks, their finalizer and all their threads, and the processes of tine_process_start. Returns
 * false everywhere else: in a host (with TINE_INLINE too), in a supervisor, and in a child that a worker has forked.
 * Threads: any; may be called in a signal handler. Fork: false in a child.
 */
bool tine_in_worker(void);

/**
 * The path of the ready-made worker program, tine-worker, for tine_pool_options.worker_path and
 * tine_process_options.worker_path.
 *
 * The program is looked for once: in the folder of the library (or of the program that libtine.a is in), below it in
 * a folder of the version's own (tine0.1), and in the libexec folders beside and above it.
 *
 * Returns the path, an absolute one and a static string; NULL: there is no such program.
 * Threads: any. Fork: a child may call it.
 */
const char *tine_worker_path(void);

/* ---- What worker processes find around them -------------------------------------------------------------------- */

/** Workers run on any processor that the host may use. */
#define TINE_AFFINITY_NONE 0

/** Each worker has a processor of its own, given out in the order of their numbers. */
#define TINE_AFFINITY_COMPACT 1

/** Each worker has a processor of its own, given out from the first half of them and from the second half in turn. */
#define TINE_AFFINITY_SPREAD 2

/** The workers' standard output and standard error go where the host's go. */
#define TINE_OUTPUT_INHERIT 0

/** The last 64 KiB of each worker's standard output and standard error are kept, for the report of its death. */
#define TINE_OUTPUT_CAPTURE 1

/** The workers' standard output and standard error are thrown away. */
#define TINE_OUTPUT_NULL 2

/** A resource limit, as setrlimit takes it. */
typedef struct tine_limit {
    /** RLIMIT_NOFILE, RLIMIT_CPU, and the like. */
    int resource;
    /** The limit that is in force. */
    uint64_t soft;
    /** The value up to which the worker itself may raise the limit. */
    uint64_t hard;
} tine_limit;
#define TINE_LIMIT_INIT { 0, 0, 0 }

/**
 * The environment of a pool's workers, or of a single process: tine_pool_options.worker,
 * tine_process_options.worker.
 */
typedef struct tine_worker_options {
    /** sizeof(tine_worker_options). */
    size_t size;
    /**
     * Changes of the environment variables, with NULL at the end: "NAME=value" sets a variable, "NAME" removes one.
     * NULL: no changes. The changes are made before the program begins; with TINE_START_FORK, before the initializer
     * runs.
     */
    const char *const *environment;
    /** The working directory; NULL: the host's. */
    const char *directory;
    /**
     * How many threads numerical libraries are to start in each process, told to them by OMP_NUM_THREADS and the
     * like; 0: they are told nothing.
     */
    uint32_t library_threads;
    /** Added to the niceness: -20 to 19. */
    int nice;
    /** The oom_score_adj, from -1000 to 1000; 0: the host's. */
    int oom_score_adj;
    /** TINE_AFFINITY_NONE, TINE_AFFINITY_COMPACT or TINE_AFFINITY_SPREAD. */
    int affinity;
    /**
     * The numbers of the processors to give out. Each worker in turn gets one, in the order of this array; with
     * TINE_AFFINITY_SPREAD from both halves of the array in turn. NULL and 0: the processors that the host may use,
     * as .affinity says.
     */
    const uint32_t *processors;
    /** How many processors there are in .processors. */
    size_t processor_count;
    /** Resource limits; NULL and 0: the host's. */
    const tine_limit *limits;
    /** How many limits there are in .limits. */
    size_t limit_count;
    /** TINE_OUTPUT_INHERIT, TINE_OUTPUT_CAPTURE or TINE_OUTPUT_NULL. */
    int output;
    /**
     * A file to which standard output and standard error are appended; the file is made where there is none. NULL:
     * .output decides.
     */
    const char *output_path;
} tine_worker_options;
#define TINE_WORKER_OPTIONS_INIT { sizeof(tine_worker_options), NULL, NULL, 0, 0, 0, 0, NULL, 0, NULL, \
    0, 0, NULL }

/* ---- Faults on request ----------------------------------------------------------------------------------------- */

/**
 * Faults that a pool is to have, so that a test sees how its program deals with them: tine_pool_options.faults. All
 * zero: none.
 *
 * Each kind of fault counts its own events, from 1 on, over all processes of the pool. With .seed 0 the fault comes
 * once, at the event with the given number. With another seed it comes at one event in the given number, and the
 * seed decides at which: at the same events in every run. A pool with one worker counts its tasks in the same order
 * in every run.
 */
typedef struct tine_faults {
    /** sizeof(tine_faults). */
    size_t size;
    /** 0: each fault comes once. Another number: each comes again and again, at events that the seed decides. */
    uint64_t seed;
    /** Counts starts of workers. The worker is killed before its initializer runs. 0: none. */
    uint64_t kill_start;
    /**
     * Counts calls of functions in workers: tasks, items of maps and streams, chunks of loops; a retry counts once
     * more. The worker is killed when the call counts as begun and its function has not run. 0: none.
     */
    uint64_t kill_call;
    /**
     * Counts calls as .kill_call does. The worker is killed when the function has run, before anything of its result
     * is handed over. 0: none.
     */
    uint64_t kill_return;
    /**
     * Counts calls as .kill_call does. The function is called .delay_ns later, and the delay counts as its own time.
     * 0: none.
     */
    uint64_t delay_call;
    /** How long the delay of .delay_call is, in nanoseconds; 0 where .delay_call is 0, and only there. */
    int64_t delay_ns;
    /**
     * Counts allocations, in the host and in workers: tine_alloc, tine_calloc, tine_alloc_aligned, tine_realloc, the
     * tine_heap_... calls for them on the pool's heap, and each tine_output that does not fit beside the result. The
     * call returns NULL, as when memory is full. 0: none.
     */
    uint64_t fail_alloc;
} tine_faults;
#define TINE_FAULTS_INIT { sizeof(tine_faults), 0, 0, 0, 0, 0, 0, 0 }

/* ---- Past one machine ------------------------------------------------------------------------------------------ */

/** The workers are on this machine, unless the environment variable TINE_ENGINE is "mpi" or "mpi-or-local". */
#define TINE_ENGINE_DEFAULT 0

/** The workers are on this machine, whatever the environment says. */
#define TINE_ENGINE_LOCAL 1

/**
 * The workers are on the nodes of an MPI job: all ranks but this one, which is rank 0. The program is linked with
 * libtine-mpi and started by mpirun; otherwise tine_pool_create returns -ENODEV.
 */
#define TINE_ENGINE_MPI 2

/**
 * The workers are on the nodes of an MPI job. In a program that mpirun has not started, or that has no libtine-mpi,
 * they are on this machine.
 */
#define TINE_ENGINE_MPI_OR_LOCAL 3

/** The version of tine_transport. */
#define TINE_TRANSPORT_VERSION 3

/**
 * How messages get from one process of a job to another: what libtine-mpi gives to tine. Programs need not know it.
 *
 * Messages from one process to another arrive in the order in which they were sent. Every function returns a negated
 * errno value where it fails. All functions but .started are called by one thread of tine's: .start first and .stop
 * last.
 */
typedef struct tine_transport {
    /** sizeof(tine_transport). */
    size_t size;
    /** TINE_TRANSPORT_VERSION. */
    uint32_t version;
    /** The name that people know the transport by; a static string. */
    const char *name;
    /**
     * Returns 1 in a process that was started as one of several, else 0. It may be called in any thread, at any
     * time.
     */
    int (*started)(void);
    /**
     * Joins the other processes. It gives this process's rank and the number of ranks. Rank 0 calls part where the
     * program leaves the others by itself, in whichever thread does so, and before it has done so: when part
     * returns, .stop has. Returns 0; 1 where the program has joined the others by itself; -EPERM where it did so in a
     * way that leaves tine no thread, in any of the processes.
     */
    int (*start)(int *rank, int *ranks, void (*part)(void));
    /**
     * Begins to send a message of at most 64 MiB, and gives a handle for .done. The bytes stay as they are until that
     * has returned 1. Returns 0.
     */
    int (*send)(int rank, const void *data, size_t length, void **sending);
    /**
     * Looks for a message of the process that *rank says, or of any where that is -1. Returns 1 where one is there,
     * and gives its sender, its length and a handle for .receive; 0 where none is. It tells of each message once, of
     * those from one process in the order in which they were sent. Where it fails, *rank is the process whose error
     * it is, or -1 where that is not known.
     */
    int (*probe)(int *rank, size_t *length, void **message);
    /**
     * Begins to receive a message that .probe has told of, and gives a handle for .done; the message's own handle is
     * gone then. There is room for all of it, until .done has returned 1. Returns 0.
     */
    int (*receive)(void *message, void *data, size_t length, void **receiving);
    /** Returns 1 when a message has been sent or received, and its handle is gone; 0 until then. */
    int (*done)(void *moving);
    /**
     * Leaves in good order, which waits until the other processes leave too, unless the program is to do that by
     * itself. Returns 0.
     */
    int (*stop)(void);
    /** Ends all processes of the job, this one too. code is the exit code that the job should have. */
    void (*abort)(int code);
} tine_transport;
#define TINE_TRANSPORT_INIT { sizeof(tine_transport), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL }

/**
 * Registers how messages get to other processes. libtine-mpi calls it when it is loaded.
 *
 * Parameters: transport: every field is set. It is copied. The string .name is not, and must stay.
 * Returns 0; -EINVAL: transport is NULL, or a field is not set; TINE_EVERSION: a transport of another version;
 * -EEXIST: a transport is registered already.
 * Threads: any, before tine_init. Fork: a child keeps it.
 */
int tine_transport_register(const tine_transport *transport);

/* ---- Pools ----------------------------------------------------------------------------------------------------- */

/**
 * A fresh copy of the program becomes the supervisor, and workers are forked from the supervisor: they start warm,
 * and without threads.
 */
#define TINE_START_FORKSERVER 0

/** Each worker is a fresh copy of the program. It is for runtimes that cannot be forked, such as Go's. */
#define TINE_START_SPAWN 1

/**
 * The supervisor is forked from the host, and workers share the host's memory of that moment copy-on-write. The host
 * should have one thread: what its other threads held locked at that moment stays locked in the workers.
 */
#define TINE_START_FORK 2

/** Workers that crash leave core files, as far as the host's limit allows. Without this flag they leave none. */
#define TINE_CORE_FILES (1 << 9)

/**
 * Workers keep the default dispositions of fatal signals. So reports of deaths have no fault address and no
 * backtrace.
 */
#define TINE_NO_CRASH_HANDLER (1 << 10)

/**
 * No processes are started, and everything runs in the calling one, for debuggers. A task runs before its
 * tine_submit returns. An item of a map runs while the caller of the map waits, one at a time.
 * Results, errors and windows are those of a pool with workers. A crash ends the host. A task that is late or
 * cancelled is told so, and is not ended. Options of worker processes have no effect.
 */
#define TINE_INLINE (1 << 11)

/**
 * The host gets no thread of tine's. Its pools are moved on, and its callbacks are called, in its own calls, to
 * which tine_pool_fd is the cue. Every promise that something happens within a time counts from the host's next
 * call. A tine_channel_send with a timeout of 0 moves no pool on, because a signal handler may call it.
 *
 * Without this flag, the first call that leaves work under way when it returns starts one thread for all pools of
 * the process. Such a call is tine_submit, or one that puts an item into a stream; never tine_map, and none with
 * TINE_INLINE. The thread runs no code of the host's. It sleeps while nothing is to be done, and while a thread of
 * the host's waits in tine. The first callback that is asked for starts a second thread, on which callbacks are
 * called one at a time. Both threads block all signals but those that the C library uses itself, and end with the
 * last pool.
 *
 * What a thread costs a host: unshare(CLONE_NEWUSER), setns to a user namespace, and unshare(CLONE_THREAD) fail.
 * malloc and stdio lock, which they need not do in a process with one thread. A forked child has only the thread
 * that forked. After unshare(CLONE_NEWPID), or setns to a PID namespace, the kernel starts no threads: a call that
 * needs one returns -EINVAL, with a text. TINE_NO_THREAD works there.
 */
#define TINE_NO_THREAD (1 << 12)

/** The most workers that a pool may have. */
#define TINE_MAX_WORKERS 4096

/** Options of tine_pool_create. */
typedef struct tine_pool_options {
    /** sizeof(tine_pool_options). */
    size_t size;
    /** Filled in when tine_pool_create fails; may be NULL. */
    tine_error *error;
    /** How many workers; 0: one per processor of the affinity mask, or fewer where a cgroup's CPU quota is less. */
    size_t workers;
    /** TINE_START_FORKSERVER, TINE_START_SPAWN or TINE_START_FORK. */
    int start;
    /** TINE_INTERRUPTIBLE, TINE_CORE_FILES, TINE_NO_CRASH_HANDLER, TINE_INLINE, TINE_NO_THREAD. */
    uint32_t flags;
    /**
     * How long a task or an item may run, in nanoseconds from the moment at which its function is called; 0: without
     * a limit. A deadline of the task's own takes its place. The host ends what is late: by tine's thread in it, or
     * with TINE_NO_THREAD by a thread that calls into tine or waits there.
     */
    int64_t deadline_ns;
    /**
     * How long a task that is past its deadline, or cancelled, may go on, in nanoseconds; 0: 200 ms. At first
     * tine_cancelled becomes true in the task. After half of the grace its worker gets SIGTERM, and at the end
     * SIGKILL.
     */
    int64_t grace_ns;
    /** A signal that the worker gets at once when its task is to end, for functions that block; 0: none. */
    int cancel_signal;
    /**
     * How many tasks a worker carries out before it is replaced, where a chunk of a map counts as one; 0: any
     * number. A worker may be replaced up to an eighth earlier, so that not all workers are replaced at the same
     * time.
     */
    uint32_t max_tasks_per_worker;
    /** The age at which a worker is replaced, in nanoseconds, once it has nothing to do; 0: never. */
    int64_t recycle_age_ns;
    /**
     * A worker that has more private resident memory than this after a task is replaced, in bytes; 0: never. With
     * TINE_START_FORK, what the worker has when it becomes ready does not count: it is the host's for the most part.
     */
    uint64_t recycle_bytes;
    /**
     * The most private resident memory that a worker may have in the middle of a task, in bytes; 0: any amount. A
     * task that takes more fails with TINE_EMEMORY, and its worker is replaced. What counts is as in .recycle_bytes.
     * The memory is looked at every 10 ms.
     */
    uint64_t max_worker_bytes;
    /** The environment of the workers: variables, directory, limits, processors, output. NULL: the host's. */
    const tine_worker_options *worker;
    /** How long a process may take from its start until it is ready, in nanoseconds; 0: ten seconds. */
    int64_t start_timeout_ns;
    /**
     * The program that supervisor and workers run, or a script with an interpreter; NULL: the host's own program.
     * With the ready-made program (tine_worker_path) a host need not call tine_init, and functions come from the
     * libraries of .preload.
     */
    const char *worker_path;
    /**
     * The arguments of that program, without its name: strings, with NULL at the end; NULL: none. The host's own
     * program gets all arguments of the host.
     */
    const char *const *worker_arguments;
    /**
     * Shared libraries that supervisor and workers load before anything else: paths, separated by colons; NULL:
     * none.
     */
    const char *preload;
    /**
     * The most that the pool's heap may grow to, in bytes; 0: 256 GiB, or less where the limit of the address space
     * (a quarter of it) or the limit on file sizes is less.
     */
    size_t heap_bytes;
    /** How many tasks may be submitted whose results have not been taken; 0: 1,048,576. */
    size_t window_tasks;
    /** How many bytes the inputs of these tasks may have together; 0: as many as the heap may hold. */
    size_t window_bytes;
    /**
     * Runs once in each worker before it takes tasks; NULL: nothing runs. Where the initializer fails,
     * tine_pool_create fails.
     */
    tine_fn initializer;
    /** The input of the initializer, which is copied; NULL: none. */
    const void *initializer_input;
    /** The length of .initializer_input in bytes. */
    size_t initializer_length;
    /**
     * Runs once in each worker that leaves in good order, because of tine_pool_shutdown or because it is replaced;
     * NULL: nothing runs. A worker that is killed does not run it.
     */
    tine_fn finalizer;
    /**
     * How many workers the pool begins with, and how many it keeps. More workers, up to .workers, are started when
     * tasks wait and no worker is free. 0: as many as .workers.
     */
    size_t min_workers;
    /**
     * How long a worker above .min_workers may have nothing to do before it ends, in nanoseconds; 0: any time. It
     * ends as a worker does that is replaced. With TINE_NO_THREAD it ends in the host's next call.
     */
    int64_t idle_timeout_ns;
    /**
     * Where the workers are: TINE_ENGINE_DEFAULT, TINE_ENGINE_LOCAL, TINE_ENGINE_MPI or TINE_ENGINE_MPI_OR_LOCAL.
     * With MPI, .workers is the number of workers on each node; 0: one for each processor that the node's rank may
     * use. Inputs and outputs travel as bytes there. So an input with an address of the pool's heap in it is refused
     * with -EFAULT, and calls with channels or segments return -EOPNOTSUPP.
     */
    int engine;
    /** What is to go wrong, for tests; NULL: nothing. With TINE_INLINE and with the engine MPI it is -EINVAL. */
    const tine_faults *faults;
} tine_pool_options;
#define TINE_POOL_OPTIONS_INIT { sizeof(tine_pool_options), NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, \
    0, NULL, NULL, NULL, 0, 0, 0, NULL, NULL, 0, NULL, 0, 0, 0, NULL }

/** Counters of a pool: see tine_pool_stats. */
typedef struct tine_stats {
    /** sizeof(tine_stats). */
    size_t size;
    /** How many workers the pool may have. */
    size_t workers;
    /** Workers that take tasks at this moment. */
    size_t workers_ready;
    /** Tasks that have been submitted so far. The chunks of maps are not counted. */
    uint64_t submitted;
    /** How many of .submitted have settled. */
    uint64_t settled;
    /** Tasks and chunks of maps that have not settled yet. */
    uint64_t outstanding;
    /** Workers that have died while the pool was running. */
    uint64_t worker_deaths;
    /**
     * Workers that have left because of .max_tasks_per_worker, .recycle_age_ns, .recycle_bytes or
     * .idle_timeout_ns.
     */
    uint64_t workers_recycled;
    /** Supervisors that have ended while the pool was running. */
    uint64_t supervisor_deaths;
    /** Bytes of memory that are reserved for the heap. */
    uint64_t heap_reserved_bytes;
    /**
     * Bytes of allocated blocks in the heap, rounded up to block sizes: those of the host, of workers, of inputs and
     * of outputs.
     */
    uint64_t heap_allocated_bytes;
    /** Items of maps, loops and streams that have settled so far. */
    uint64_t items_settled;
    /** How many of .items_settled have failed. */
    uint64_t items_failed;
    /** Workers that are in the middle of a task at this moment. */
    size_t workers_busy;
    /** How many of .outstanding have not begun. */
    uint64_t waiting;
} tine_stats;
#define TINE_STATS_INIT { sizeof(tine_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Starts a pool, and waits until its workers are ready.
 *
 * The host gets no child that it could see, no signal handler, and no thread yet (see TINE_NO_THREAD). Workers have
 * default signal dispositions, and end with the host. Of the host's descriptors they have only standard output and
 * standard error. Their standard input is empty.
 *
 * Beside these each worker has a few descriptors of tine's, which are close-on-exec, and so has the host. A program
 * that closes one of them keeps running. A worker works on, but its part of the heap cannot grow any more, and it
 * ends when it is to get a segment or a channel. In a host, the tasks of the pool settle with TINE_EWORKERSTART.
 *
 * Parameters: options: NULL for all defaults. out: where the pool goes.
 * Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: the processes could
 * not be started, they end as soon as they have been started, or the initializer fails; TINE_EFUNCTION, TINE_EMODULE:
 * the initializer is not a function of the workers; -EINTR: a signal came, with TINE_INTERRUPTIBLE, before the
 * workers were ready, and no pool is left; -EINVAL, -E2BIG: an option, or an environment variable, has no meaning;
 * -EINVAL also: the file of TINE_TRACE is there, and is not a trace; -EACCES, -ENOSPC and the like: that file cannot
 * be opened or written; -ENOENT: there is no program at .worker_path, no folder for the file of TINE_TRACE, or no
 * libtine-mpi; -ENODEV: there are no nodes for TINE_ENGINE_MPI; -EPERM: the program has called MPI_Init before
 * tine_init, and no .worker_path is given, or MPI leaves tine no thread; TINE_EVERSION: a node runs another build;
 * -ENOSYS: the kernel is too old; -ENOMEM, -EMFILE: the host has no memory or no descriptor. The text in .error
 * names the thing.
 * Ownership: tine_pool_destroy ends the pool. Threads: any. Fork: a child may create pools of its own.
 */
int tine_pool_create(const tine_pool_options *options, tine_pool **out);

/**
 * Takes no more tasks, waits until all tasks have settled, and ends the workers in good order. Results can still be
 * taken.
 *
 * Every task runs to its end. To end tasks sooner, call it with a timeout of 0, so that no more tasks come. Then
 * call tine_cancel_queued, by which tasks that have not begun never begin, or tine_cancel_all, which ends running
 * tasks too. Then call it again. tine_pool_destroy alone kills.
 *
 * Parameters: pool. timeout_ns: how long to wait for the tasks, in nanoseconds; 0: not at all. Workers that have
 * nothing more to do get the rest of this time to leave, at least 50 ms and at most a second, and are killed then.
 * With 0 the call does not wait for the workers either; they get the second.
 * Returns 0: the workers have ended; -ETIMEDOUT: tasks are still under way; -EAGAIN (timeout 0): tasks are still
 * under way, or workers are still ending; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: pool is NULL;
 * TINE_EWORKER; TINE_EFORKED. After -ETIMEDOUT, -EAGAIN and -EINTR the shutdown goes on, and the call may be made
 * again.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_pool_shutdown(tine_pool *pool, int64_t timeout_ns);

/**
 * Ends a pool with everything that belongs to it: workers are killed, and results and the heap's memory are gone.
 *
 * The call waits until the processes have been killed and reaped: some milliseconds, and up to 3 s where the pool's
 * supervisor does not answer, because somebody has stopped it, say. It waits without a limit for a callback that is
 * running, for those that it calls itself, and for a worker that the kernel cannot end.
 *
 * Parameters: pool: may be NULL. No other thread may be in a call on the pool. A worker may not destroy a pool that
 * it has from tine_task_pool: the call then does nothing.
 * Threads: any. Fork: in a child it releases the child's copy, and the pool goes on in the parent.
 */
void tine_pool_destroy(tine_pool *pool);

/**
 * A descriptor that is readable when there is a reason to call tine_pool_poll: a result, a death, or a worker that
 * runs out of tasks. It is for poll, select and epoll. The program must not read or close it.
 *
 * Parameters: pool.
 * Returns the descriptor, which stays the pool's; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_pool_fd(tine_pool *pool);

/**
 * Moves the pool on without waiting.
 *
 * Parameters: pool.
 * Returns how many results tine_next could take at once; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_pool_poll(tine_pool *pool);

/**
 * Reads the counters of a pool.
 *
 * Parameters: pool. out: a tine_stats with its .size set.
 * Returns 0; -EINVAL: pool or out is NULL, or the .size is less than 16; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_pool_stats(tine_pool *pool, tine_stats *out);

/* ---- Counters as text ------------------------------------------------------------------------------------------ */

/**
 * Writes the counters of pools (tine_stats) as text in the format of Prometheus: what an HTTP server answers for
 * /metrics, with the type text/plain; version=0.0.4. Each counter is a metric named tine_..., with a line of help.
 * The name of a pool becomes the label "pool".
 *
 * Parameters: pools: an array of count pools. names: an array of count names in UTF-8; a name that is NULL, or NULL
 * in place of the array, gives no label, which makes sense for a single pool. count: how many pools. buffer: gets
 * the text and a zero byte behind it. capacity: the size of buffer in bytes; 0 with a NULL buffer asks for the
 * length. length: gets the length of the text in bytes, without the zero byte; may be NULL.
 * Returns 0; -EMSGSIZE: the text does not fit, *length is its length, and the buffer is as it was; -EINVAL: count is
 * 0, a pool is NULL, or a name is not UTF-8; -ENOMEM; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_stats_text(tine_pool *const *pools, const char *const *names, size_t count, char *buffer,
    size_t capacity, size_t *length);

/* ---- Deaths ---------------------------------------------------------------------------------------------------- */

/** How a process ended: tine_result.death and tine_exit.death. */
typedef struct tine_death {
    /** sizeof(tine_death). */
    size_t size;
    /** Which process. */
    pid_t pid;
    /** The signal that ended it, or 0. */
    int signal;
    /** Its exit code, where .signal is 0. */
    int code;
    /** For SIGSEGV, SIGBUS, SIGFPE and SIGILL: the address at fault. */
    void *fault_address;
    /** The most memory that it had resident at once, in bytes; 0 where that is not known. */
    uint64_t max_rss_bytes;
    /**
     * Where it crashed, innermost frame first: lines of module and offset, for addr2line. Never NULL; empty where
     * the process has left no backtrace.
     */
    const char *backtrace;
    /** The processor time that it took in its own code, in nanoseconds; 0 where that is not known. */
    uint64_t user_ns;
    /** The processor time that the kernel took for it, in nanoseconds; 0 where that is not known. */
    uint64_t system_ns;
    /**
     * 1: it was most likely killed because memory ran out: by .max_worker_bytes, or by the kernel, which has killed
     * a process for want of memory since the pool looked last. 0: there is no sign of that.
     */
    int out_of_memory;
    /** The task that it was running; 0 where it was running an item of a map or a loop. */
    uint64_t task;
    /** The item that it was running. */
    uint64_t item;
    /** The function that it was running: its registered name, its symbol, or module and offset. Never NULL. */
    const char *function;
    /**
     * With TINE_OUTPUT_CAPTURE, the last 64 KiB that it had written to its standard output and standard error, with
     * a zero byte behind them. Never NULL.
     */
    const char *output;
    /** The length of .output in bytes. */
    size_t output_length;
} tine_death;
#define TINE_DEATH_INIT { sizeof(tine_death), 0, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, NULL, NULL, 0 }

/**
 * Writes a report of a death for people: how the process ended and what it was running, a line for each frame, and
 * the last that it had written.
 *
 * The report does not go through stdio. Where the order of lines matters, call fflush before.
 *
 * Parameters: death: the .death of a result or an exit. fd: the descriptor to write to, 2 for standard error.
 * Returns 0; -EINVAL: death is NULL; -EBADF, -EPIPE, -EIO and the like: what write() has failed with.
 * Threads: any. Fork: a child may call it.
 */
int tine_death_print(const tine_death *death, int fd);

/* ---- Tasks and results ----------------------------------------------------------------------------------------- */

/** The function ran to its end. */
#define TINE_RAN 0

/** The function did not run; that is certain. */
#define TINE_NOT_STARTED 1

/** The function had begun when its process died. */
#define TINE_MAYBE_RAN 2

/**
 * The task may be run twice without harm. So it may be run again after its worker has died, even where it had done
 * all its work by then.
 */
#define TINE_IDEMPOTENT (1 << 16)

/**
 * Names a submitted task within its pool: 64 bits, never 0. The id of a task whose result has been released is known
 * to be stale.
 */
typedef uint64_t tine_id;

/** The outcome of a task. */
typedef struct tine_result {
    /** sizeof(tine_result). */
    size_t size;
    /** The task; 0 once the result has been released, and for items of a map. */
    tine_id id;
    /**
     * What the function returned, 0 or more for a success; or the code of what went wrong, such as TINE_EDIED or
     * -ECANCELED.
     */
    int status;
    /** TINE_RAN, TINE_NOT_STARTED or TINE_MAYBE_RAN. */
    int delivery;
    /**
     * The text that the function gave to its failure (tine_fail), or what tine knows of the failure. Never NULL; ""
     * for a success.
     */
    const char *message;
    /** The output; NULL if there is none. */
    const void *data;
    /** The length of .data in bytes. */
    size_t length;
    /**
     * The death of the process that ran the task; NULL where no process died, or where the task has been run again
     * since.
     */
    const tine_death *death;
    /** How many processes have died while they ran the task. */
    uint32_t deaths;
    /** The .user of the options of tine_submit, or of the map. */
    void *user;
} tine_result;
#define TINE_RESULT_INIT { sizeof(tine_result), 0, 0, 0, NULL, NULL, 0, NULL, 0, NULL }

/** Options of tine_submit. */
typedef struct tine_submit_options {
    /** sizeof(tine_submit_options). */
    size_t size;
    /** Filled in when tine_submit fails; may be NULL. */
    tine_error *error;
    /** The name of a registered function, where fn is NULL. */
    const char *name;
    /** How long the function may run, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: without a limit. */
    int64_t deadline_ns;
    /**
     * How soon the task must begin, in nanoseconds from tine_submit; 0: at any time. A task that has not begun by
     * then settles with -ETIMEDOUT and TINE_NOT_STARTED.
     */
    int64_t queue_deadline_ns;
    /** How long tine_submit may wait while the window is full, in nanoseconds; 0: not at all. */
    int64_t timeout_ns;
    /**
     * How often the task may be run again after the process that ran it has died. Without TINE_IDEMPOTENT only 0 is
     * accepted. A task that had not begun runs in another worker in any case.
     */
    uint32_t retries;
    /** TINE_IDEMPOTENT. */
    uint32_t flags;
    /** A word of the caller's, which is passed to the callbacks and copied to the result. */
    void *user;
    /**
     * Called when the task has begun, with the process number of its worker, and once more each time that the task
     * is run again; may be NULL. Where the task ends first, the call comes before on_settled; where the task goes
     * on, it comes within some milliseconds.
     */
    void (*on_begin)(tine_id id, pid_t pid, void *user);
    /**
     * Called once with the result, however the task has ended: done, failed, past its deadline, cancelled, or died;
     * may be NULL. The result is valid until the callback returns, and then the id is stale. Nobody else gets the
     * result: tine_next leaves it out, and tine_wait returns -EBUSY.
     *
     * on_begin and on_settled run on a thread of tine's, whatever the host does. Only one callback runs at a time.
     * tine_pool_destroy calls on_settled for each task that it cancels, before it returns.
     *
     * With TINE_NO_THREAD, and for what a task submits, both run on a thread of the caller's, in one of these calls:
     * tine_pool_poll; a call on the pool that waits or looks for results; a wait for a queue, a channel or a process;
     * tine_pool_shutdown; tine_pool_destroy. Such a call runs the callbacks that were due when it began. It returns
     * when its timeout is over, however many more callbacks those make.
     *
     * A callback may submit and cancel. It may also wait, and no other callback begins on its thread meanwhile. It
     * must not destroy the pool. A child that it forks must not return from it.
     */
    void (*on_settled)(const tine_result *result, void *user);
    /**
     * An end of a channel for the task, which gets it by tine_task_channel; may be NULL. Where tine_submit returns
     * 0, the end has been given away: the handle is closed here, and must not be used any more. Otherwise the end
     * stays the caller's.
     *
     * The worker closes the end when the function returns. The other end gets -EPIPE then, and also when the worker
     * dies, and when the task settles without having begun. A task that is run in another worker takes the end
     * along. A task with .retries keeps it until the task has settled. Where the worker has no descriptor free for
     * the end, the task settles with -EMFILE and TINE_NOT_STARTED.
     */
    tine_channel *channel;
} tine_submit_options;
#define TINE_SUBMIT_OPTIONS_INIT { sizeof(tine_submit_options), NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL, \
    NULL, NULL }

/**
 * Submits one call of a function to a pool.
 *
 * The function is given by its address, and need not be registered, where its module (the program or a shared
 * library) is loaded in the workers too. Or fn is NULL, and the option .name names a registered function.
 *
 * Parameters: pool. fn: the function, or NULL. input: the task's input; NULL where length is 0. It is copied, unless
 * it lies in the pool's heap: the worker reads it there, and it must stay as it is until the task has settled.
 * length: in bytes. options: NULL for all defaults. out: where the id goes, or NULL.
 * Returns 0; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full; -EAGAIN also: no thread can be started (see
 * TINE_NO_THREAD); -EMSGSIZE: the input is larger than the whole window; TINE_EFUNCTION: fn is not a function of any
 * module; TINE_EMODULE: its module is not loaded in the workers, or is another build there; TINE_ENAME: the workers
 * know no function of that name; TINE_ESHUTDOWN: the pool has been shut down; TINE_EWORKERSTART: no worker can be
 * started any more; -ENOMEM: there is no memory for the task; -EMFILE: no descriptor is free for the .channel;
 * -EFAULT: the input reaches beyond the heap, or with the engine MPI has an address of the heap in it; -EOPNOTSUPP: a
 * .channel is given, and the engine is MPI; -EINVAL, -E2BIG: an argument or an option has no meaning; TINE_EFORKED;
 * TINE_EWORKER.
 * Ownership: the result is the pool's until it is taken. A .channel is given away. Threads: any. Fork: TINE_EFORKED
 * in a child.
 */
int tine_submit(tine_pool *pool, tine_fn fn, const void *input, size_t length,
    const tine_submit_options *options, tine_id *out);

/**
 * Waits for one task, and takes its result, which tine_next then leaves out.
 *
 * Parameters: pool. id: from tine_submit. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a
 * tine_result with its .size set. A result that it still holds must be released before, or the memory of that result
 * is lost.
 * Returns 0: the task has settled, whatever its .status; -ETIMEDOUT, -EAGAIN, -EINTR: it has not settled yet;
 * TINE_EID: the id was never given, or its result has been taken or released; -EBUSY: another thread waits for the
 * task, or the task has an .on_settled; -EINVAL: pool or out is NULL, or the .size is less than 16; TINE_EFORKED;
 * TINE_EWORKER.
 * Ownership: what the result points to is valid until tine_result_release. Threads: any. Fork: TINE_EFORKED in a
 * child.
 */
int tine_wait(tine_pool *pool, tine_id id, int64_t timeout_ns, tine_result *out);

/**
 * Waits for the next task to settle, in any order, and takes its result. Tasks for which a thread is in tine_wait,
 * and the items of maps, are left out.
 *
 * Parameters: pool. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a tine_result with its .size
 * set, as for tine_wait.
 * Returns 0: a task has settled; TINE_EEMPTY: no task is outstanding, so a loop may end; -ETIMEDOUT, -EAGAIN,
 * -EINTR: no task has settled yet; -EINVAL: pool or out is NULL, or the .size is less than 16; TINE_EFORKED;
 * TINE_EWORKER.
 * Ownership: as for tine_wait. Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_next(tine_pool *pool, int64_t timeout_ns, tine_result *out);

/**
 * Cancels a task. The task settles with -ECANCELED, and its result is taken as any other.
 *
 * A task that has not begun settles at once, with TINE_NOT_STARTED. A running task is told (tine_cancelled), and has
 * the pool's .grace_ns to return: TINE_RAN. Then its worker is ended and replaced: TINE_MAYBE_RAN. A task that waits
 * to be run again (.retries) settles at once, with TINE_MAYBE_RAN. A task that returns by itself in this very moment
 * keeps its result.
 *
 * Parameters: pool. id: from tine_submit.
 * Returns 0; -EALREADY: the task has settled; TINE_EID: the id was never given, or its result has been taken or
 * released; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_cancel(tine_pool *pool, tine_id id);

/**
 * Cancels every submitted task that has not settled, as tine_cancel does. Maps, loops and streams go on.
 *
 * Parameters: pool.
 * Returns how many tasks it has cancelled; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_cancel_all(tine_pool *pool);

/**
 * Cancels every submitted task that has not begun, as tine_cancel does. Running tasks go on, and so do maps, loops
 * and streams.
 *
 * Parameters: pool.
 * Returns how many tasks it has cancelled; -EINVAL: pool is NULL; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_cancel_queued(tine_pool *pool);

/**
 * Waits for the first of several tasks to settle, and takes its result. The other tasks stay as they are.
 *
 * Parameters: pool. ids: an array of tasks. Of several tasks that have settled the one nearest to the array's
 * beginning is taken; an id that is there twice counts once. count: how many ids. timeout_ns: how long to wait, in
 * nanoseconds; 0: not at all. out: a tine_result with its .size set; its .id says which task it is.
 * Returns 0: a task has settled; TINE_EEMPTY: count is 0; -ENOMEM: there is no memory for so many tasks; -ETIMEDOUT,
 * -EAGAIN, -EINTR: no task has settled yet; TINE_EID, -EBUSY: as for tine_wait, for any one of the ids; -EINVAL:
 * pool, ids or out is NULL, or the .size is less than 16; TINE_EFORKED; TINE_EWORKER.
 * Ownership: as for tine_wait. Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_wait_any(tine_pool *pool, const tine_id *ids, size_t count, int64_t timeout_ns, tine_result *out);

/**
 * Waits until several tasks have settled. Their results stay to be taken.
 *
 * Parameters: pool. ids: an array of tasks; NULL where count is 0. count: how many ids; 0: all tasks that have been
 * submitted. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0: all of them have settled, whatever their .status; -ETIMEDOUT, -EAGAIN, -EINTR: not all of them have
 * settled yet; TINE_EID: one of the ids was never given, or its result has been taken or released; -EINVAL: an
 * argument is NULL; TINE_EFORKED; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_wait_all(tine_pool *pool, const tine_id *ids, size_t count, int64_t timeout_ns);

/**
 * Frees what a result points to, and sets every field but .size to zero. Releasing a released result does nothing.
 *
 * Parameters: pool: the pool that gave the result. result: may be NULL.
 * Threads: any, one at a time for one result. Fork: in a child it only sets the fields to zero.
 */
void tine_result_release(tine_pool *pool, tine_result *result);

/* ---- Maps and loops -------------------------------------------------------------------------------------------- */

/**
 * No item begins any more once an item has failed. Items that have not begun then fail with -ECANCELED and
 * TINE_NOT_STARTED.
 */
#define TINE_STOP_ON_FAILURE (1 << 17)

/**
 * Chunks of .chunk items. Where .chunk is 0, chunks of as many items as take about a millisecond, and smaller ones
 * towards the end.
 */
#define TINE_SCHEDULE_MEASURED 0

/** One chunk for each worker. */
#define TINE_SCHEDULE_STATIC 1

/** Chunks of half of a worker's share of the items that are left. All but the last have at least .chunk items. */
#define TINE_SCHEDULE_GUIDED 2

/** The function of a map, called once per item. Its return value is the item's status, as for tine_fn. */
typedef int (*tine_item_fn)(tine_task *task, const void *in, void *out);

/** Options of tine_map and tine_for. */
typedef struct tine_map_options {
    /** sizeof(tine_map_options). */
    size_t size;
    /** Filled in when the call fails, but not for TINE_EITEMS; may be NULL. */
    tine_error *error;
    /**
     * The name of a registered function, where fn is NULL. The function is a tine_fn, called once per item:
     * tine_input is the item, and tine_output is the item's place in out.
     */
    const char *name;
    /**
     * Bytes that every call sees through tine_context; NULL: none. They are copied, unless they lie in the pool's
     * heap.
     */
    const void *context;
    /** The length of .context in bytes. */
    size_t context_length;
    /**
     * How many items go to a worker at a time; 0: as many as take about a millisecond, and fewer towards the end. It
     * decides the speed alone: results, errors and progress are those of single items. When other workers have
     * nothing left to do, the items of the last chunks are taken back from slow workers.
     */
    size_t chunk;
    /** An array with an int for each item, which gets the item's status; may be NULL. */
    int *status;
    /**
     * How long the call of each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: without a
     * limit. An item that takes longer fails with -ETIMEDOUT, and no other item fails with it. In a loop it counts
     * for each chunk.
     */
    int64_t item_deadline_ns;
    /**
     * How often an item may be run again after the process that ran it has died. Without TINE_IDEMPOTENT only 0 is
     * accepted.
     */
    uint32_t retries;
    /** TINE_IDEMPOTENT, TINE_STOP_ON_FAILURE. */
    uint32_t flags;
    /**
     * Called for each item that has failed, on the thread that called the map; may be NULL. In a loop it is called
     * for each chunk that has failed, and item is where the chunk begins. The result is valid until the callback
     * returns.
     */
    void (*on_failure)(const tine_result *result, size_t item, void *user);
    /**
     * Called now and then, and at the end, on the thread that called the map, with the number of items that have
     * settled; may be NULL.
     */
    void (*progress)(size_t done, size_t total, void *user);
    /** A word of the caller's, which is passed to the callbacks. */
    void *user;
    /**
     * TINE_SCHEDULE_MEASURED, TINE_SCHEDULE_STATIC or TINE_SCHEDULE_GUIDED. As .chunk does, it decides the speed
     * alone.
     */
    int schedule;
    /**
     * The most bytes of inputs and outputs in a chunk, unless a single item has more; 0: any number. In a loop only
     * 0 is accepted.
     */
    size_t chunk_bytes;
} tine_map_options;
#define TINE_MAP_OPTIONS_INIT { sizeof(tine_map_options), NULL, NULL, NULL, 0, 0, NULL, 0, 0, 0, NULL, \
    NULL, NULL, 0, 0 }

/**
 * The function of a loop, called once per chunk of the range, from begin up to but not including end. Its return
 * value is the chunk's status, as for tine_fn.
 */
typedef int (*tine_range_fn)(tine_task *task, size_t begin, size_t end);

/**
 * Calls a function for each item of an array, on all workers, and waits until all items have settled.
 *
 * Arrays in the pool's heap are used where they are. Others are copied chunk by chunk, and the outputs of items that
 * succeed are copied back. A worker that dies costs the one item that it was running.
 *
 * Parameters: pool. fn: the function, or NULL where the option .name is given. in: the first input. in_stride: the
 * bytes from one input to the next. out: the first output; NULL for no outputs. out_stride: the bytes from one
 * output to the next; 0 for no outputs. count: how many items; with 0 the call returns at once. options: NULL for
 * all defaults.
 * Returns 0: every item has succeeded; TINE_EITEMS: items have failed, and .status and .on_failure say which;
 * -EINVAL: an array is NULL, a stride is 0, or an option has no meaning; -E2BIG: the options are longer than this
 * version knows; -EOVERFLOW: there are more bytes than an address space has; -EFAULT: an array reaches beyond the
 * heap; -ENOMEM: there is no memory for the chunks; -EINTR: a signal came, with TINE_INTERRUPTIBLE. Then the items
 * that had begun have finished, and the others have failed with -ECANCELED. Also TINE_EFUNCTION, TINE_EMODULE,
 * TINE_ENAME, TINE_ESHUTDOWN, TINE_EWORKERSTART: as for tine_submit; TINE_EFORKED; TINE_EWORKER.
 * Threads: any, and several maps may run at a time. The callbacks may call tine. They must neither destroy the pool
 * nor wait for its shutdown, which waits for the map. Fork: TINE_EFORKED in a child.
 */
int tine_map(tine_pool *pool, tine_item_fn fn, const void *in, size_t in_stride, void *out, size_t out_stride,
    size_t count, const tine_map_options *options);

/**
 * Calls a function for chunks of a range, on all workers, and waits until the whole range has settled.
 *
 * Parameters: pool. fn: the function. begin: where the range begins. end: the first number behind the range.
 * options: as for tine_map, without .name; .chunk is the length of a chunk, and a chunk that fails fails with all
 * its items. NULL for all defaults.
 * Returns the codes of tine_map; -EINVAL also: end is less than begin.
 * Threads: any, as for tine_map. Fork: TINE_EFORKED in a child.
 */
int tine_for(tine_pool *pool, tine_range_fn fn, size_t begin, size_t end, const tine_map_options *options);

/* ---- Progress for people --------------------------------------------------------------------------------------- */

/** What tine_progress_bar shows besides the numbers, and what it remembers. Zero is the default of every field. */
typedef struct tine_progress {
    /** sizeof(tine_progress). */
    size_t size;
    /** A word in front of the bar; NULL: none. */
    const char *label;
    /** The descriptor to write to; 0: standard error. */
    int fd;
    /** How many items have failed. The caller counts them, in .on_failure for example. */
    uint64_t failed;
    /** tine's own, as are the fields that follow. */
    uint64_t began_ns;
    /** tine's own. */
    uint64_t drawn_ns;
    /** tine's own. */
    uint64_t shown;
} tine_progress;
#define TINE_PROGRESS_INIT { sizeof(tine_progress), NULL, 0, 0, 0, 0, 0 }

/**
 * A progress bar. It can be the .progress of maps and loops, or be called by hand.
 *
 * On a terminal it is a line with a bar, the number of items that are done, the rate, the time left, and the number
 * of failures. The line is drawn at most ten times a second, and ended when done is total. Elsewhere a plain line is
 * written for each quarter. Rate and time count from the first call: with a call of done 0 before the work begins
 * they are those of the whole work.
 *
 * It writes as write() does: it waits for a terminal that has been stopped, unless the descriptor is non-blocking,
 * and a pipe whose reader has gone gives SIGPIPE.
 *
 * Parameters: done: how many items are done. total: how many there are. user: a tine_progress with its .size set; in
 * a map it is the .user of the options, so .on_failure gets it too. NULL for all defaults; then only the end is
 * shown.
 * Threads: any, one at a time for one tine_progress. Fork: a child may call it.
 */
void tine_progress_bar(size_t done, size_t total, void *user);

/* ---- Streams of items ------------------------------------------------------------------------------------------ */

/** Results come in the order in which they settle, and not in the order of the items. */
#define TINE_UNORDERED (1 << 18)

/**
 * Items go in one after the other, and results come out, in the order of the items or in the order in which they
 * settle. A window limits how many are in between. So a stream is for input that does not fit into memory, or that
 * has no end.
 *
 * Items are put (tine_stream_put), or drawn as there is room (.pull). Each item is one call of a tine_fn, with
 * tine_input and tine_output. Each item has one result, whatever happens to the item, its worker or the supervisor.
 * tine_next, tine_wait and the like leave a stream's items out. While a stream has a result to take, tine_pool_fd is
 * readable.
 *
 * Several threads may call at a time: one that puts and one that takes, for example. A thread that does both must
 * not wait to put while the window is full of results that it has not taken.
 */
typedef struct tine_stream tine_stream;

/** Options of tine_stream_create. */
typedef struct tine_stream_options {
    /** sizeof(tine_stream_options). */
    size_t size;
    /** Filled in when tine_stream_create fails; may be NULL. */
    tine_error *error;
    /** The name of a registered function, where fn is NULL. */
    const char *name;
    /** How many items may have been put whose results have not been taken; 0: 16 for each worker. */
    size_t window_tasks;
    /** How many bytes the inputs of these items may have together; 0: as many as the pool's .window_bytes. */
    size_t window_bytes;
    /**
     * How long the call for each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: without a
     * limit.
     */
    int64_t item_deadline_ns;
    /**
     * How often an item may be run again after the process that ran it has died. Without TINE_IDEMPOTENT only 0 is
     * accepted.
     */
    uint32_t retries;
    /**
     * TINE_IDEMPOTENT, TINE_UNORDERED, TINE_STOP_ON_FAILURE. With the last, no item begins any more once an item has
     * failed. Items that have not begun then settle with -ECANCELED, further items are refused with -ECANCELED, and
     * all results can be taken.
     */
    uint32_t flags;
    /**
     * Draws an item. tine_stream_next calls it, on its own thread, while there is room in the window. NULL: items
     * are put.
     *
     * It returns 1 and says where the item is; the bytes stay there until the next call. *item becomes the .user of
     * the result. It returns 0 at the end. A negative code ends the input as well, and tine_stream_next returns the
     * code after the last result. An item that is longer than .window_bytes is drawn, and its result is -EMSGSIZE.
     */
    int (*pull)(void *user, const void **input, size_t *length, void **item);
    /** A word of the caller's, which is passed to .pull. */
    void *user;
} tine_stream_options;
#define TINE_STREAM_OPTIONS_INIT { sizeof(tine_stream_options), NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL }

/**
 * Begins a stream.
 *
 * Parameters: pool: the host's, or in a task what tine_task_pool returns. fn: the function that is called for each
 * item; NULL where the option .name is given. options: NULL for all defaults. out: where the stream goes.
 * Returns 0; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME, TINE_ESHUTDOWN, TINE_EWORKERSTART: as for tine_submit;
 * -EINVAL, -E2BIG: an argument or an option has no meaning; -ENOMEM: there is no memory; TINE_EFORKED.
 * Ownership: tine_stream_destroy ends the stream, before the pool is destroyed. Threads: any. Fork: TINE_EFORKED in
 * a child.
 */
int tine_stream_create(tine_pool *pool, tine_fn fn, const tine_stream_options *options, tine_stream **out);

/**
 * Puts an item in.
 *
 * Parameters: stream. input: the item; NULL where length is 0. It is copied, unless it lies in the pool's heap, as
 * for tine_submit. length: in bytes. user: becomes the .user of the result. timeout_ns: how long to wait while the
 * window is full, in nanoseconds; 0: not at all.
 * Returns 0: the item will have a result; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full; -EAGAIN also: no thread
 * can be started; -EMSGSIZE: the item is longer than .window_bytes; -EPIPE: tine_stream_end has been called;
 * -ECANCELED: an item has failed, with TINE_STOP_ON_FAILURE; -EINVAL: stream is NULL, or the stream has .pull;
 * -EFAULT, -ENOMEM, TINE_ESHUTDOWN, TINE_EWORKERSTART: as for tine_submit; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_stream_put(tine_stream *stream, const void *input, size_t length, void *user, int64_t timeout_ns);

/**
 * Says that no more items will be put. A further call does nothing.
 *
 * Parameters: stream.
 * Returns 0; -EINVAL: stream is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_stream_end(tine_stream *stream);

/**
 * Waits for the next result, and takes it: the result of the oldest item, or with TINE_UNORDERED of the first item
 * to settle.
 *
 * Parameters: stream. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a tine_result with its .size
 * set, as for tine_wait; its .user is the item's.
 * Returns 0: an item has settled, whatever its .status; TINE_EEMPTY: the input has ended, and all results have been
 * taken; -ETIMEDOUT, -EAGAIN, -EINTR: no item has settled yet; -EAGAIN also: the stream has .pull, and no thread can
 * be started; a code that .pull has returned, once; TINE_ESHUTDOWN, TINE_EWORKERSTART: no more results can come;
 * -ENOMEM: the item that has been drawn does not fit into the heap, and is kept; -EINVAL: stream or out is NULL, or
 * the .size is less than 16; TINE_EFORKED.
 * Ownership: what the result points to is valid until tine_result_release, with the stream's pool. Threads: any.
 * Fork: TINE_EFORKED in a child.
 */
int tine_stream_next(tine_stream *stream, int64_t timeout_ns, tine_result *out);

/**
 * Ends a stream. Items that have not begun never begin, running items are cancelled, and results that have not been
 * taken are gone. Results that have been taken stay as they are.
 *
 * Parameters: stream: may be NULL. No other thread may be in a call on the stream.
 * Threads: any. Fork: in a child it releases the child's copy, and the stream goes on in the parent.
 */
void tine_stream_destroy(tine_stream *stream);

/* ---- Inside a task --------------------------------------------------------------------------------------------- */

/**
 * The input of a task, or of the item in a map that is called by name.
 *
 * Parameters: task. length: gets the length of the input in bytes; may be NULL.
 * Returns the address of the input, which may be read until the function returns; NULL, with a length of 0: the input
 * is empty. The address is a multiple of 16, unless the input was submitted from the heap, where it is the caller's
 * own memory, or is an item of a map, where the stride decides.
 * Threads: the task's. Fork: a child may call it.
 */
const void *tine_input(const tine_task *task, size_t *length);

/**
 * The context of the map or loop that the task is part of.
 *
 * Parameters: task. length: gets the length of the context in bytes; may be NULL.
 * Returns the address of the context, which may be read until the function returns; NULL, with a length of 0: there
 * is no context.
 * Threads: the task's. Fork: a child may call it.
 */
const void *tine_context(const tine_task *task, size_t *length);

/**
 * Room for the task's output, to be written in place. It becomes the .data and .length of the result.
 *
 * A second call replaces the first one. In a map that is called by name the room is the item's place in out.
 *
 * Parameters: task. length: in bytes.
 * Returns the address of the room, which has any content. It is a multiple of 16 unless it is an item's place. NULL:
 * the heap is full, or the item's place is shorter than length.
 * Threads: the task's. Fork: a child must not call it.
 */
void *tine_output(tine_task *task, size_t length);

/**
 * The number of the task.
 *
 * Parameters: task.
 * Returns the id that tine_submit has given; for an item of a stream, the .id of its result; in a map, the item's
 * place in the array; in a loop, where the chunk begins; in a process of tine_process_start 1; in an initializer or a
 * finalizer 0.
 * Threads: the task's. Fork: a child may call it.
 */
uint64_t tine_task_id(const tine_task *task);

/**
 * The name by which the task's function is called. It is for a function that is registered under many names because
 * it stands for functions of another language.
 *
 * Parameters: task.
 * Returns the name as it was registered; NULL: the function is called by its address. The string stays as long as
 * the process, and each call by that name gets the same address.
 * Threads: the task's. Fork: a child may call it.
 */
const char *tine_task_name(const tine_task *task);

/**
 * Leaves a pointer for the later tasks of this worker: to what an initializer has opened or loaded, for example.
 *
 * Parameters: task: the initializer's, or any other. state: any pointer. tine neither reads nor frees what it points
 * to.
 * Threads: the task's. Fork: in a child it changes the child's copy.
 */
void tine_set_worker_state(tine_task *task, void *state);

/**
 * The pointer that tine_set_worker_state has left in this worker.
 *
 * Parameters: task.
 * Returns the pointer; NULL: none has been left.
 * Threads: the task's. Fork: a child may call it.
 */
void *tine_worker_state(const tine_task *task);

/**
 * Tells a task that it should return. The call is cheap enough for an inner loop.
 *
 * Parameters: task.
 * Returns true when the task, or this item of a map, is past its deadline or has been cancelled; else false. A task
 * that goes on gets SIGTERM after half of the pool's .grace_ns, and SIGKILL after all of it.
 * Threads: the task's. Fork: a child may call it.
 */
bool tine_cancelled(const tine_task *task);

/**
 * The pool that runs the task. Memory that the task allocates comes from its heap.
 *
 * A task may submit to its own pool, too. tine_submit, tine_map, tine_for and what follows them then run the
 * functions there and then, in the worker that calls, so that nothing nested can wait for ever. Results that the
 * task has not taken when it returns are released. What the task runs inside itself dies with it. Calls that only
 * the host may make (tine_pool_fd, tine_pool_stats, tine_pool_shutdown) return TINE_EWORKER.
 *
 * Parameters: task.
 * Returns the pool, which is valid as long as the worker lives, in all its threads; NULL: task is NULL.
 * Threads: the task's. Fork: a child may call it.
 */
tine_pool *tine_task_pool(const tine_task *task);

/**
 * Fails a task with a text, which becomes the .message of the result:
 *     return tine_fail(task, -EINVAL, "%s: not an image", path);
 *
 * Parameters: task. code: a negated errno value, from -1 to -4095. format: as for printf, with what it takes behind
 * it; up to 184 bytes of text are kept.
 * Returns code, or TINE_EBADCODE where code is outside of that range: with EINVAL instead of -EINVAL, say. A function
 * that has called it and then returns 0 has failed with what it returned all the same.
 * Threads: the task's. Fork: a child must not call it.
 */
int tine_fail(tine_task *task, int code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;


/* ---- Memory: the pool's heap ----------------------------------------------------------------------------------- */

/**
 * Allocates a block of the pool's heap: shared memory that has one address in the host and in every worker, later
 * workers included. So pointers into the heap are valid in all of them.
 *
 * The pages of a block are reserved before the block is handed out. When memory is full this call returns NULL, and
 * no SIGBUS comes later.
 *
 * Parameters: pool: in a worker, what tine_task_pool returns. size: in bytes; 0 gives a block as well.
 * Returns the block, a multiple of 16, with any content; NULL: there is no memory, or the heap's limit is reached.
 * Ownership: the block stays until tine_free, from whatever process. The death of the process that has allocated the
 * block does not free it. Threads: any; not in a signal handler. Fork: NULL in a child of the host or of a worker.
 */
void *tine_alloc(tine_pool *pool, size_t size);

/**
 * Allocates a block for an array, and sets all of it to zero.
 *
 * Parameters: pool: as for tine_alloc. count: how many elements. size: of each element, in bytes.
 * Returns the block; NULL: as for tine_alloc, and where the product of count and size overflows.
 * Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child of the host or of a
 * worker.
 */
void *tine_calloc(tine_pool *pool, size_t count, size_t size);

/**
 * Allocates a block whose address is a multiple of alignment: for vectors, pages, direct I/O.
 *
 * Parameters: pool: as for tine_alloc. alignment: in bytes, a power of two. size: in bytes. A block with an
 * alignment above 64 KiB takes whole pieces of 64 KiB.
 * Returns the block; NULL: as for tine_alloc, and where alignment is not a power of two.
 * Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child of the host or of a
 * worker.
 */
void *tine_alloc_aligned(tine_pool *pool, size_t alignment, size_t size);

/**
 * Makes a block longer or shorter, in its place or in another one. The content is kept, and an alignment is not.
 *
 * Parameters: pool: as for tine_alloc. block: of that pool; NULL: the call is tine_alloc. size: in bytes; 0 gives a
 * block as well.
 * Returns the block in place of the old one; NULL: there is no memory, or block is not a block. Then the old block
 * is as it was.
 * Ownership: as for tine_alloc. Threads: any; no other thread may use the block meanwhile. Fork: NULL in a child of
 * the host or of a worker.
 */
void *tine_realloc(tine_pool *pool, void *block, size_t size);

/**
 * Frees a block, in whatever process of the pool.
 *
 * An address that is not the start of an allocated block is left alone: of a block that has been freed already,
 * inside a block, or outside the heap. With TINE_CHECK=1 in the environment such a call ends the process with a
 * message. tine_heap_free returns a code for it. It also returns a code where a block cannot be found for want of
 * memory; such a block stays allocated here.
 *
 * Parameters: pool: as for tine_alloc. block: of that pool; NULL: nothing happens.
 * Threads: any; not in a signal handler. Fork: does nothing in a child of the host or of a worker.
 */
void tine_free(tine_pool *pool, void *block);

/**
 * The size of a block, all of which may be used.
 *
 * Parameters: pool: as for tine_alloc. block: of that pool.
 * Returns the size in bytes, at least what was asked for; 0: block is NULL, or not the start of an allocated block.
 * Threads: any. Fork: 0 in a child of the host or of a worker.
 */
size_t tine_block_size(tine_pool *pool, const void *block);

/**
 * Tells whether every process of the pool can use an array of bytes.
 *
 * Parameters: pool: as for tine_alloc. pointer: the first byte. length: in bytes.
 * Returns 1: all the bytes lie in the memory of the pool's heap, or of one segment that tine_pool_share has passed
 * to the workers; 0: they do not, or pointer is NULL; -EINVAL: pool is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child of the host or of a worker.
 */
int tine_is_shared(tine_pool *pool, const void *pointer, size_t length);

/* ---- Segments: shared memory of its own ------------------------------------------------------------------------ */

/** Only the process that creates the segment, and its forked children, can write to it. The kernel enforces that. */
#define TINE_SEGMENT_READ_ONLY (1 << 24)

/** Huge pages if there are enough, ordinary ones otherwise. */
#define TINE_SEGMENT_HUGE_PAGES (1 << 25)

/**
 * The segment is mapped wherever there is room, and not at one address in every process. So pointers into it mean
 * nothing to other processes.
 */
#define TINE_SEGMENT_ANY_ADDRESS (1 << 26)

/** All pages are mapped at once, so that the first touch of a page costs no time later. */
#define TINE_SEGMENT_POPULATE (1 << 27)

/** A piece of shared memory, as one process has mapped it. */
typedef struct tine_segment tine_segment;

/** Options of tine_segment_create, tine_segment_attach and tine_segment_receive. */
typedef struct tine_segment_options {
    /** sizeof(tine_segment_options). */
    size_t size;
    /** Filled in when the call fails; may be NULL. */
    tine_error *error;
    /**
     * TINE_SEGMENT_READ_ONLY, TINE_SEGMENT_HUGE_PAGES (both for tine_segment_create only), TINE_SEGMENT_ANY_ADDRESS,
     * TINE_SEGMENT_POPULATE.
     */
    uint32_t flags;
} tine_segment_options;
#define TINE_SEGMENT_OPTIONS_INIT { sizeof(tine_segment_options), NULL, 0 }

/**
 * Creates shared memory. All of it is zero and reserved, and nobody can change its size, so touching it never fails.
 *
 * The segment is mapped at one address in every process that attaches, so pointers into it are valid in all of them.
 * It has no name and leaves nothing behind: it is gone when the last process that has it is gone.
 *
 * Parameters: size: in bytes, not 0. options: NULL for all defaults. out: where the segment goes.
 * Returns 0; -ENOMEM: there is no memory, or a limit of the process or of its cgroup is in the way; -EINVAL, -E2BIG:
 * an argument or an option has no meaning; -EMFILE, -ENFILE: no descriptor is free.
 * Ownership: until tine_segment_close. Threads: any. Fork: a child has the segment mapped as well, for writing too.
 */
int tine_segment_create(size_t size, const tine_segment_options *options, tine_segment **out);

/**
 * Maps a segment that another process has created.
 *
 * Parameters: fd: a descriptor of the segment, inherited or received; it stays the caller's. options: NULL for all
 * defaults. out: where the segment goes.
 * Returns 0; -EPERM: other processes could shrink the memory, so it is not safe to touch; -EINVAL: fd is not of a
 * segment, or an option has no meaning; TINE_EVERSION: the segment is of another version of tine, or its locks are
 * laid out for another C library; -EXDEV: the segment was made in another PID namespace, where its locks would take
 * one thread for another; -EEXIST: something else is at its address (TINE_SEGMENT_ANY_ADDRESS helps); -EACCES: fd
 * was opened for reading only; -EBADF: fd is not open; -E2BIG: the options are longer than this version knows;
 * -ENOMEM, -EMFILE.
 * Ownership: until tine_segment_close. Threads: any. Fork: a child has the segment mapped as well.
 */
int tine_segment_attach(int fd, const tine_segment_options *options, tine_segment **out);

/**
 * The address of a segment.
 *
 * Parameters: s.
 * Returns the address of the first byte, a multiple of 4096; NULL: s is NULL.
 * Threads: any. Fork: a child gets the same address.
 */
void *tine_segment_address(const tine_segment *s);

/**
 * The size of a segment: the one with which it was created.
 *
 * Parameters: s.
 * Returns the size in bytes; 0: s is NULL.
 * Threads: any. Fork: a child gets the same size.
 */
size_t tine_segment_size(const tine_segment *s);

/**
 * A descriptor of a segment, to be passed to other processes.
 *
 * Parameters: s.
 * Returns the descriptor, which is close-on-exec and stays the segment's; -EINVAL: s is NULL; -EBADF: the program
 * has closed it.
 * Threads: any. Fork: a child has its own copy.
 */
int tine_segment_fd(const tine_segment *s);

/**
 * Unmaps a segment in this process. Other processes keep it. Pointers into it must not be used any more.
 *
 * Parameters: s: may be NULL. No other thread may use the segment any more.
 * Returns 0; -EBUSY: a heap in it is open here (tine_heap_close), or a thread of this process holds a lock in it or
 * waits for one, as far as that can be known. A TINE_PROCESS_OWNED mutex is not looked for. -EMFILE, -ENFILE,
 * -ENOMEM: there is no descriptor, or the kernel has no memory, with which to look for locks of the C library's.
 * After an error the segment is as it was.
 * Threads: any. Fork: in a child it unmaps the child's copy.
 */
int tine_segment_close(tine_segment *s);

/**
 * Sends a segment to the process at the other end of a unix socket, without waiting.
 *
 * Parameters: socket: a connected socket of any type. While a segment is on its way, nothing but whole segments may
 * be sent through it. s: the segment, which stays the caller's.
 * Returns 0; -EAGAIN: the socket is full; -EPIPE: nobody is at the other end any more; -EMFILE: too many descriptors
 * are on their way; -ENOTSOCK: socket is not a socket; -EBADF: socket is not open, or the program has closed the
 * segment's descriptor; -EINVAL: s is NULL.
 * Threads: any. Fork: a child may call it.
 */
int tine_segment_send(int socket, const tine_segment *s);

/**
 * Takes a segment that another process has sent with tine_segment_send, and maps it. Where the socket is a blocking
 * one the call waits for a segment, and its wait has no limit. To wait with a limit, poll() the socket first, or set
 * SO_RCVTIMEO.
 *
 * A segment that this process cannot have at the moment stays in the socket, to be received again: after -EEXIST
 * with TINE_SEGMENT_ANY_ADDRESS, for example. A segment that no process could have is thrown away.
 *
 * Parameters: socket: only one process at a time may receive from it. options: NULL for all defaults. out: where the
 * segment goes.
 * Returns 0; -EAGAIN: no segment is there yet; -EPIPE: the other end is gone. The segment stays in the socket after
 * -EMFILE: no descriptor is free; -ENOMEM: there is no memory or address space; -EEXIST: something else is at its
 * address. It is thrown away after -EPROTO: it is not a message of tine_segment_send, or its descriptor cannot be
 * read or mapped; -EPERM, -EXDEV, TINE_EVERSION and -EINVAL: as for tine_segment_attach. Nothing is looked at after
 * -EINVAL, -E2BIG: an argument or an option has no meaning; -EBADF, -ENOTSOCK: socket is not an open socket;
 * -ENOTCONN, or -EINVAL for a SOCK_STREAM socket: socket is not connected.
 * Ownership: until tine_segment_close. Threads: any. Fork: a child may call it.
 */
int tine_segment_receive(int socket, const tine_segment_options *options, tine_segment **out);

/**
 * Has a segment mapped in every worker of a pool, at the address that it has in the host, so pointers into it are
 * valid in all of them. Later workers get it too. A busy worker gets it before its next task.
 *
 * After an error the pool does not have the segment, and a worker that has mapped it already unmaps it: the next time
 * that it is between two tasks. After -ETIMEDOUT, -EAGAIN and -EINTR the workers keep it for a second first. Within
 * that time the same call goes on where the last one has stopped, so that short waits add up.
 *
 * Parameters: pool. s: the segment. It stays the caller's, who may close it. The workers keep it until the pool is
 * destroyed. timeout_ns: how long to wait for the workers, and for another thread's call of tine_pool_share, in
 * nanoseconds; 0: not at all.
 * Returns 0; -ETIMEDOUT, -EAGAIN: another thread's call goes on, or a worker that is not busy has not taken the
 * segment, because it is stopped for example; -EINTR: a signal came, with TINE_INTERRUPTIBLE. Then the call may be
 * made again; -EEXIST: something else is at its address in a worker, which is replaced; or the segment lies in the
 * range of the pool's heap, or where the workers have a segment that has been closed here; -ENOMEM, -EMFILE, -ENFILE:
 * there is no memory or no descriptor, here or in a worker, which is replaced then; -EALREADY: the segment is shared
 * already; -EDEADLK: a callback has made the call, which runs in another tine_pool_share of its thread for this pool;
 * -ENOSPC: the pool shares 64 segments; -EBADF: the program has closed the segment's descriptor; -EOPNOTSUPP: the
 * engine is MPI; -EINVAL: an argument is NULL; TINE_ESHUTDOWN: the pool has been shut down, by another thread
 * meanwhile for example; TINE_EWORKERSTART: no worker can be started any more; TINE_EFORKED; TINE_EWORKER. A later
 * worker that cannot map the segment cannot be started; tasks settle with TINE_EWORKERSTART when no worker is left.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_pool_share(tine_pool *pool, tine_segment *s, int64_t timeout_ns);

/* ---- Heaps: the calls for a pool's heap and for one in a segment ----------------------------------------------- */

/** A heap: the one of a pool, or one of its own in a segment, for processes that have no pool in common. */
typedef struct tine_heap tine_heap;

/** Options of tine_heap_create and tine_heap_attach. */
typedef struct tine_heap_options {
    /** sizeof(tine_heap_options). */
    size_t size;
    /** Filled in when the call fails; may be NULL. */
    tine_error *error;
} tine_heap_options;
#define TINE_HEAP_OPTIONS_INIT { sizeof(tine_heap_options), NULL }

/** The contents of a heap: see tine_heap_stats. */
typedef struct tine_heap_info {
    /** sizeof(tine_heap_info). */
    size_t size;
    /**
     * Bytes of the system's memory that are reserved for the heap. A heap in a segment has all of the segment
     * reserved.
     */
    uint64_t reserved_bytes;
    /** The most bytes that were reserved at one time. */
    uint64_t peak_bytes;
    /** Bytes of allocated blocks, rounded up to block sizes, of all processes together. */
    uint64_t used_bytes;
    /** How many allocated blocks there are. */
    uint64_t used_blocks;
} tine_heap_info;
#define TINE_HEAP_INFO_INIT { sizeof(tine_heap_info), 0, 0, 0, 0 }

/** The blocks that one process has allocated in a heap and that nobody has freed: see tine_heap_processes. */
typedef struct tine_heap_usage {
    /** sizeof(tine_heap_usage). */
    size_t size;
    /** The process. */
    int pid;
    /** 1: the process has the heap; 0: it has died, or has closed the heap. */
    int alive;
    /** Bytes of its blocks, rounded up to block sizes. */
    uint64_t bytes;
    /** How many blocks. */
    uint64_t blocks;
} tine_heap_usage;
#define TINE_HEAP_USAGE_INIT { sizeof(tine_heap_usage), 0, 0, 0, 0 }

/** Called with the blocks of one process. Returning another number than 0 ends the listing. */
typedef int (*tine_heap_usage_fn)(const tine_heap_usage *usage, void *user);

/** Called with one block and its size in bytes. Returning another number than 0 ends the listing. */
typedef int (*tine_heap_block_fn)(void *block, size_t length, void *user);

/**
 * The heap of a pool. tine_alloc(pool, size) is short for tine_heap_alloc(tine_pool_heap(pool), size), and so on.
 *
 * Parameters: pool: in a worker, what tine_task_pool returns.
 * Returns the heap, which lives and ends with the pool; NULL: pool is NULL.
 * Threads: any. Fork: a child may call it.
 */
tine_heap *tine_pool_heap(tine_pool *pool);

/**
 * The heap in which an address lies: a pool's, or one that tine_heap_create or tine_heap_attach has opened in this
 * process. So it tells for a pointer that was kept whether its heap is still open.
 *
 * Parameters: address: any.
 * Returns the heap; NULL: the address lies in no heap that is open here.
 * Ownership: the heap stays whose it was. Threads: any, while no other thread closes the heap. Fork: a child finds
 * only heaps of its own.
 */
tine_heap *tine_heap_find(const void *address);

/**
 * Attaches a pointer to a heap's handle in this process, for a language's binding. The first tag stays.
 *
 * Parameters: heap. tag: any pointer; NULL only asks.
 * Returns the tag that the heap has now; NULL: it has none, or heap is NULL.
 * Threads: any. Of several threads that give a tag, one succeeds. Fork: a child may call it.
 */
void *tine_heap_tag(tine_heap *heap, void *tag);

/**
 * Makes a heap in a segment, and uses up the whole segment. Every process that has the segment may attach, and
 * allocate and free blocks in it. A pointer to a block is valid in all of them.
 *
 * Parameters: s: a segment of at least 256 KiB, without TINE_SEGMENT_READ_ONLY and TINE_SEGMENT_ANY_ADDRESS, that is
 * used for nothing else. options: NULL for all defaults. out: where the heap goes.
 * Returns 0; -EEXIST: a heap, or something else, is in the segment already; -EINVAL: the segment is too small, or
 * not mapped at its own address, or an argument is NULL; -EACCES: the segment can only be read; -E2BIG: the options
 * are longer than this version knows; -EMFILE: no descriptor is free; -ENOMEM: there is no memory. After an error no
 * heap is in the segment.
 * Ownership: until tine_heap_close, which comes before tine_segment_close. Threads: any. Fork: a child attaches for
 * itself.
 */
int tine_heap_create(tine_segment *s, const tine_heap_options *options, tine_heap **out);

/**
 * Opens the heap that another process has made in a segment.
 *
 * Parameters: s: the segment. options: NULL for all defaults. out: where the heap goes.
 * Returns 0; -EINVAL: there is no heap in the segment, the segment is not mapped at its own address, or an argument
 * is NULL; TINE_EVERSION: the heap was made by another version of tine; -ENOSPC: the heap is open 252 times;
 * -EACCES: the segment can only be read; -E2BIG: the options are longer than this version knows; -EMFILE: no
 * descriptor is free; -ENOMEM: there is no memory.
 * Ownership: until tine_heap_close, which comes before tine_segment_close. Threads: any. Fork: a child attaches for
 * itself.
 */
int tine_heap_attach(tine_segment *s, const tine_heap_options *options, tine_heap **out);

/**
 * Closes a heap that tine_heap_create or tine_heap_attach has opened. Its blocks stay, and those of this process are
 * listed under this process's number.
 *
 * Queues in the heap stay for other processes. Here their descriptors are closed, and calls on them return -EINVAL,
 * unless this process has the heap open once more.
 *
 * Parameters: heap: may be NULL. No other thread may use the heap any more.
 * Returns 0; -EINVAL: the heap is a pool's; -EBUSY: a thread of this process is in a call on a queue in the heap, has
 * reserved a message or looks at one, holds a lock in the heap, or waits for one, as far as that can be known;
 * -EMFILE, -ENFILE: there is no descriptor with which to look for locks of the C library's; -ENOMEM: the kernel has
 * no memory for that look, or the heap has descriptors of thousands of queues, and there is no memory to list them.
 * After an error everything is as it was.
 * Threads: any. Fork: in a child it releases the child's copy, and the parent keeps the heap.
 */
int tine_heap_close(tine_heap *heap);

/**
 * Allocates a block, as tine_alloc does. The processes that have the heap are to it what the processes of a pool are
 * to the pool's heap.
 *
 * Parameters: heap. size: in bytes; 0 gives a block as well.
 * Returns the block, a multiple of 16, with any content; NULL: there is no memory, the heap is full, or heap is
 * NULL.
 * Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child.
 */
void *tine_heap_alloc(tine_heap *heap, size_t size);

/**
 * Allocates a block for an array, and sets all of it to zero, as tine_calloc does.
 *
 * Parameters: heap. count: how many elements. size: of each element, in bytes.
 * Returns the block; NULL: as for tine_heap_alloc, and where the product of count and size overflows.
 * Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child.
 */
void *tine_heap_calloc(tine_heap *heap, size_t count, size_t size);

/**
 * Allocates a block whose address is a multiple of alignment, as tine_alloc_aligned does.
 *
 * Parameters: heap. alignment: in bytes, a power of two. size: in bytes.
 * Returns the block; NULL: as for tine_heap_alloc, and where alignment is not a power of two.
 * Ownership: as for tine_alloc. Threads: any; not in a signal handler. Fork: NULL in a child.
 */
void *tine_heap_alloc_aligned(tine_heap *heap, size_t alignment, size_t size);

/**
 * Makes a block longer or shorter, as tine_realloc does.
 *
 * Parameters: heap. block: of that heap; NULL: the call is tine_heap_alloc. size: in bytes; 0 gives a block as well.
 * Returns the block in place of the old one; NULL: there is no memory, or block is not a block. Then the old block
 * is as it was.
 * Ownership: as for tine_alloc. Threads: any; no other thread may use the block meanwhile. Fork: NULL in a child.
 */
void *tine_heap_realloc(tine_heap *heap, void *block, size_t size);

/**
 * Frees a block, as tine_free does, and says whether it could.
 *
 * Parameters: heap. block: of that heap; NULL: nothing happens.
 * Returns 0; -EINVAL: the block has been freed already, is not the start of a block, or is not in this heap. Then
 * nothing has changed; with TINE_CHECK=1 in the environment the process ends with a message. -ENOMEM, -EPERM,
 * -ENOSYS: another process has made the heap longer, and this process cannot find out how long it is, for want of
 * memory or because the kernel refuses the call. Then nothing has changed, and the block can be freed later.
 * TINE_EFORKED.
 * Threads: any; not in a signal handler. Fork: TINE_EFORKED in a child.
 */
int tine_heap_free(tine_heap *heap, void *block);

/**
 * The size of a block, all of which may be used, as tine_block_size gives it.
 *
 * Parameters: heap. block: of that heap.
 * Returns the size in bytes, at least what was asked for; 0: block is NULL, or not the start of an allocated block.
 * Threads: any. Fork: 0 in a child.
 */
size_t tine_heap_block_size(tine_heap *heap, const void *block);

/**
 * Tells whether an array of bytes lies in the heap's memory.
 *
 * Parameters: heap. pointer: the first byte. length: in bytes.
 * Returns 1: all the bytes do; 0: they do not, or pointer is NULL; -EINVAL: heap is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_heap_contains(tine_heap *heap, const void *pointer, size_t length);

/**
 * Counts what is in the heap, by a walk over it. Other processes may allocate and free meanwhile.
 *
 * Parameters: heap. out: a tine_heap_info with its .size set.
 * Returns 0; -EINVAL: heap or out is NULL, or the .size is less than 16; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_heap_stats(tine_heap *heap, tine_heap_info *out);

/**
 * Lists the blocks of each process: of those that have the heap, and of those that have ended and left blocks. In a
 * pool's heap these are the host, each worker, and each worker that has died and left blocks.
 *
 * Parameters: heap. visit: called once for each process, on this thread; it may use the heap. user: passed to visit.
 * Returns how many processes there are; another number than 0 that visit has returned; -EINVAL: heap or visit is
 * NULL; -ENOMEM: there is no memory for the list; TINE_EFORKED; TINE_EWORKER: the heap is the pool's, and this is a
 * worker.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_heap_processes(tine_heap *heap, tine_heap_usage_fn visit, void *user);

/**
 * Lists the blocks that a process had when it died or closed the heap, and that nobody has freed since.
 *
 * The blocks stay as they are: other processes may have pointers to them. Memory that tine itself had allocated for
 * a worker is not among them, because it has been freed.
 *
 * Parameters: heap. pid: the process. visit: called once for each block, on this thread; it may free the block.
 * user: passed to visit.
 * Returns how many blocks there are, 0 for a process that left none; another number than 0 that visit has returned;
 * -EINVAL: heap or visit is NULL, or pid is no number of a process (1 to 4194303); -ENOMEM: there is no memory for
 * the list; TINE_EFORKED; TINE_EWORKER: the heap is the pool's, and this is a worker.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_heap_blocks(tine_heap *heap, int pid, tine_heap_block_fn visit, void *user);

/**
 * Frees all blocks that a process had when it died or closed the heap. It is for when nobody has a pointer to any of
 * them.
 *
 * Parameters: heap. pid: the process.
 * Returns how many blocks it has freed; -EBUSY: the process is not known to have ended; -EINVAL: heap is NULL, or pid
 * is no number of a process (1 to 4194303); TINE_EFORKED; TINE_EWORKER: the heap is the pool's, and this is a worker.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_heap_release_process(tine_heap *heap, int pid);

/**
 * Gives unused memory back to the system, whoever had allocated and freed it.
 *
 * Without this call, a pool's heap keeps some of it for the next blocks: 32 MiB, half of what is in use, or four
 * times the largest block that was freed lately, whichever is most. A heap in a segment keeps all of it. Memory that
 * was given back is reserved anew for the next blocks; where that is not possible, they are NULL.
 *
 * Parameters: heap.
 * Returns 0; -EINVAL: heap is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_heap_trim(tine_heap *heap);

/* ---- Mutexes, and what holds for all locks --------------------------------------------------------------------- */

/** A mutex whose holder may lock it again. The holder then unlocks it as often. */
#define TINE_RECURSIVE (1 << 1)

/**
 * A mutex that a process holds, and not a thread. Any thread of the process may unlock it, and only the death of the
 * whole process counts as the death of the holder. A process that executes another program holds the mutex until it
 * ends. It is for runtimes that move work between threads. Another thread of the holder waits as any thread does.
 */
#define TINE_PROCESS_OWNED (1 << 2)

/**
 * A lock on data that a death cannot damage. The thread that takes the lock from a dead holder gets -EOWNERDEAD, and
 * need not repair the lock.
 */
#define TINE_AUTO_REPAIR (1 << 3)

/** An event that clears itself when it releases a waiter. */
#define TINE_AUTO_RESET (1 << 4)

/** A reader-writer lock whose readers do not wait for a waiting writer. Readers may starve writers. */
#define TINE_PREFER_READERS (1 << 5)

/**
 * How many locks a thread may hold at a time. Read locks count, and so do barriers that it waits at. One more is
 * -ENOLCK.
 */
#define TINE_MOST_HELD 128

/**
 * Mutual exclusion among threads and processes. What follows holds for all locks: mutexes, reader-writer locks,
 * semaphores, conditions, events, barriers and tine_once.
 *
 * A lock is plain memory of the caller's, aligned to 8 bytes. It may lie in a heap, in any MAP_SHARED memory, which
 * each process may map at another address, or in private memory for the threads of one process. All-zero memory is a
 * free lock without flags: a semaphore without units, an event that is not set. Only a barrier has to be
 * initialised. A lock owns no memory besides its own, and nothing has to be destroyed. A thread's first call on a
 * lock may allocate a record for the thread, and returns -ENOMEM where that fails. The content is tine's.
 *
 * The memory must stay mapped while a call on the lock runs, and while the lock is held. A lock is released through
 * the address by which it was taken. A thread that has unlocked a mutex may free, unmap or reuse the memory at once
 * if no other thread will ask for the mutex. The unlocking call of the holder before may still be running then, and
 * no longer touches the mutex.
 *
 * A thread or process that holds a lock may end, be killed at any instruction, or execute another program. Then the
 * next thread that takes a mutex, or a reader-writer lock after a writer, gets -EOWNERDEAD. After another program
 * was executed this does not hold for a mutex that is TINE_PROCESS_OWNED. A reader that died is gone without a
 * trace. A barrier at which a waiting thread died is broken: TINE_EBROKEN. A tine_once is done anew by the next
 * thread. Semaphores, conditions and events have no holder: a thread that dies while it waits there leaves nothing
 * behind, but the units that it has taken from a semaphore stay taken. A child of fork() holds no locks.
 *
 * As a rule the kernel reports at once that a holder has ended. It cannot do so where the thread's robust list is
 * damaged, replaced, too long, or refused by a sandbox, on kernels before 6.2, and with TINE_FORCE_NO=robust in the
 * environment. There, a waiting thread finds out within 50 ms by looking, and a thread that only tries, or whose
 * time is up, looks before it gives up. The look knows a holder by its thread number, and from Linux 6.9 on or with
 * /proc by what tells it from a later thread of that number. Where the look has been refused both, the end is seen
 * only once the number is free.
 *
 * Only threads of one PID namespace may share a lock. Mutexes, reader-writer locks, barriers, and a tine_once that is
 * not done refuse others with -EXDEV. They refuse a process that cannot find out its PID namespace, too: without
 * /proc, before Linux 6.11. Semaphores, conditions and events do not look.
 *
 * A signal handler may call tine_semaphore_release and tine_event_set, and no other call on a lock. Asynchronous
 * cancelling (pthread_setcanceltype) must be off.
 */
typedef struct tine_mutex {
    /** tine's. */
    uint64_t opaque[8];
} tine_mutex;
#define TINE_MUTEX_INIT { {0} }

/** The thread that holds a mutex, or that died holding it: see tine_mutex_owner. */
typedef struct tine_owner {
    /** sizeof(tine_owner). */
    size_t size;
    /** The process of the holder; 0: no thread holds the mutex. */
    int32_t pid;
    /** The thread of the holder; for TINE_PROCESS_OWNED, the thread that took the mutex. */
    int32_t tid;
    /** When the thread, or for TINE_PROCESS_OWNED the process, started: field 22 of /proc/PID/stat. 0: not known. */
    uint64_t start_time;
    /**
     * The process that died holding the mutex, until the mutex is repaired or unlocked. 0: no process did, or one
     * died after it had taken the mutex and before it had written down its number.
     */
    int32_t dead_pid;
    /** The thread of .dead_pid that held the mutex. */
    int32_t dead_tid;
} tine_owner;
#define TINE_OWNER_INIT { sizeof(tine_owner), 0, 0, 0, 0, 0 }

/**
 * Makes memory a free mutex.
 *
 * Without TINE_RECURSIVE a holder that locks again gets -EDEADLK.
 *
 * Parameters: m: memory that no other thread uses meanwhile. flags: TINE_RECURSIVE or TINE_PROCESS_OWNED,
 * TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR.
 * Returns 0; -EINVAL: m is NULL or not aligned to 8 bytes, a flag is unknown, or two flags exclude each other.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_mutex_init(tine_mutex *m, uint32_t flags);

/**
 * Takes a mutex, and waits while another thread has it.
 *
 * After -EOWNERDEAD repair the data and call tine_mutex_repair(), unless the mutex is TINE_AUTO_REPAIR. Unlocking
 * without that makes the mutex useless for good: -ENOTRECOVERABLE.
 *
 * A mutex that is not TINE_PROCESS_OWNED belongs to the operating system's thread. A goroutine or coroutine must stay
 * on its thread (runtime.LockOSThread) from lock to unlock, or the mutex must be TINE_PROCESS_OWNED. Any thread of
 * the process may unlock such a mutex, so a thread that locks it twice waits, and does not get -EDEADLK.
 *
 * Parameters: m. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0: the mutex is taken; -EOWNERDEAD: the mutex is taken, and its last holder has died. With any other code
 * the mutex is not taken: -EAGAIN (timeout 0), -ETIMEDOUT; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EDEADLK:
 * the caller holds the mutex, perhaps by another mapping of its memory; -ENOTRECOVERABLE: the mutex is useless;
 * -ENOLCK: the thread holds TINE_MOST_HELD locks; -EXDEV: the mutex is another PID namespace's, or the caller's own
 * namespace is not known; -EINVAL: m is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
 * Threads: any; not in a signal handler. Fork: a child may call it, and holds nothing.
 */
int tine_mutex_lock(tine_mutex *m, int64_t timeout_ns);

/**
 * Releases a mutex, and wakes one waiter if there is any.
 *
 * Parameters: m.
 * Returns 0; -EPERM: the caller does not hold the mutex; a child does not hold what it held before fork(); -EINVAL:
 * m is NULL or misaligned.
 * Threads: the holder; with TINE_PROCESS_OWNED, any of its process. Fork: -EPERM in a child.
 */
int tine_mutex_unlock(tine_mutex *m);

/**
 * Says that the data which a dead holder may have damaged is consistent again.
 *
 * Parameters: m: a mutex of which the caller has got -EOWNERDEAD.
 * Returns 0; -EPERM: the caller does not hold the mutex; -EINVAL: there is nothing to repair, or m is NULL or
 * misaligned.
 * Threads: the holder. Fork: -EPERM in a child.
 */
int tine_mutex_repair(tine_mutex *m);

/**
 * Takes over a mutex in a file, or in a copy of one, that no process has open any more. A holder there will not come
 * back, though its number may be in use again, after a restart or in another PID namespace. If the mutex was held,
 * the next thread that takes it gets -EOWNERDEAD. If it was to be repaired, it still is.
 *
 * The process that opens such memory calls it once, before anything else uses the memory. tine_rwlock_reopen() and
 * tine_once_reopen() are there as well. Semaphores, conditions and barriers are made anew by their init, and an
 * event needs nothing.
 *
 * Parameters: m.
 * Returns 0; -EINVAL: m is NULL or misaligned.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_mutex_reopen(tine_mutex *m);

/**
 * Tells the holder of a mutex, for messages. The mutex may have changed hands when the call returns, and the call
 * changes nothing.
 *
 * Parameters: m. out: a tine_owner with its .size set.
 * Returns 0; -EINVAL: m or out is NULL, m is misaligned, or the .size is less than 16.
 * Threads: any. Fork: a child may call it.
 */
int tine_mutex_owner(const tine_mutex *m, tine_owner *out);

/* ---- Reader-writer locks --------------------------------------------------------------------------------------- */

/** How many threads have a place of their own for reading at a time. Further threads share places by process. */
#define TINE_RWLOCK_READERS 15

/**
 * Many readers or one writer, among threads and processes. What holds for all locks (tine_mutex) holds here.
 *
 * A dead reader is forgotten. The death of a writer is reported to the readers that come before the next writer, and
 * to that writer, who repairs the lock or loses it. A writer that dies while it waits is forgotten, because it was
 * never inside.
 *
 * A thread has one place, however often it reads. Threads beyond TINE_RWLOCK_READERS are counted by process, up to
 * 1,023 reads in each of 60 processes. The reads of such a process end with the process, and not with the thread.
 * Still more threads wait.
 *
 * The last thread that has the lock for writing may free, unmap or reuse its memory once its unlock has returned.
 */
typedef struct tine_rwlock {
    /** tine's. */
    uint64_t opaque[128];
} tine_rwlock;
#define TINE_RWLOCK_INIT { {0} }

/**
 * Makes memory a free reader-writer lock.
 *
 * Without TINE_PREFER_READERS a waiting writer lets no new readers in; a thread that reads already may read again.
 * With TINE_PREFER_READERS readers wait only for a writer that holds the lock.
 *
 * Parameters: l: memory that no other thread uses meanwhile. flags: TINE_PREFER_READERS, TINE_INTERRUPTIBLE,
 * TINE_AUTO_REPAIR.
 * Returns 0; -EINVAL: l is NULL or not aligned to 8 bytes, or a flag is unknown.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_rwlock_init(tine_rwlock *l, uint32_t flags);

/**
 * Takes the lock for reading, and waits while a writer has it. A thread may read-lock again what it has read-locked;
 * it then unlocks as often.
 *
 * Parameters: l. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0: the lock is taken; -EOWNERDEAD: the lock is taken, but a writer has died, and no writer has repaired
 * the data since. With any other code the lock is not taken: -EAGAIN (timeout 0), -ETIMEDOUT, -EINTR; -EDEADLK: the
 * caller holds it for writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM: as for tine_mutex_lock().
 * Threads: any; not in a signal handler. Fork: a child may call it, and holds nothing.
 */
int tine_rwlock_read_lock(tine_rwlock *l, int64_t timeout_ns);

/**
 * Takes the lock for writing, and waits while other threads have it.
 *
 * After -EOWNERDEAD repair the data and call tine_rwlock_repair(), unless the lock is TINE_AUTO_REPAIR. Unlocking
 * without that makes the lock useless for good: -ENOTRECOVERABLE.
 *
 * Parameters: l. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0: the lock is taken; -EOWNERDEAD: the lock is taken, but a writer has died. With any other code the lock
 * is not taken: -EAGAIN (timeout 0), -ETIMEDOUT, -EINTR; -EDEADLK: the caller holds it, for reading or writing;
 * -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM: as for tine_mutex_lock().
 * Threads: any; not in a signal handler. Fork: a child may call it, and holds nothing.
 */
int tine_rwlock_write_lock(tine_rwlock *l, int64_t timeout_ns);

/**
 * Releases what the calling thread holds: the write lock, or one of its read locks.
 *
 * Parameters: l.
 * Returns 0; -EPERM: the thread holds neither; -EINVAL: l is NULL or misaligned.
 * Threads: the holder. Fork: -EPERM in a child.
 */
int tine_rwlock_unlock(tine_rwlock *l);

/**
 * Says that the data which a dead writer may have damaged is consistent again.
 *
 * Parameters: l: a lock of which the caller has got -EOWNERDEAD for writing.
 * Returns 0; -EPERM: the caller does not hold it for writing; -EINVAL: there is nothing to repair, or l is NULL or
 * misaligned.
 * Threads: the holder. Fork: -EPERM in a child.
 */
int tine_rwlock_repair(tine_rwlock *l);

/**
 * Takes over a lock in memory that has outlived its processes, as tine_mutex_reopen() does: no thread reads any
 * more, and a writer there counts as dead.
 *
 * Parameters: l.
 * Returns 0; -EINVAL: l is NULL or misaligned.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_rwlock_reopen(tine_rwlock *l);

/* ---- Semaphores, conditions, events ---------------------------------------------------------------------------- */

/**
 * Units that any thread of any process takes and gives back. All-zero memory has no units, and its limit is
 * INT32_MAX. A unit that a dead process had taken is gone. A wake-up is never lost.
 *
 * A thread that has got a unit may free, unmap or reuse the memory as soon as no other thread will use the
 * semaphore. The call that gave the unit may still be running then, and no longer touches the memory.
 */
typedef struct tine_semaphore {
    /** tine's. */
    uint64_t opaque[8];
} tine_semaphore;
#define TINE_SEMAPHORE_INIT { {0} }

/**
 * Waits for something that a mutex protects to become true. All-zero memory is a condition that nobody waits for. A
 * notification whose receiver is killed goes to another waiter. A wait may end without a notification, so test
 * again.
 */
typedef struct tine_condition {
    /** tine's. */
    uint64_t opaque[8];
} tine_condition;
#define TINE_CONDITION_INIT { {0} }

/**
 * Something that has happened, or that has not happened yet. All-zero memory is an event that is not set, and that
 * stays set once it is.
 *
 * A thread that was told that the event is set may free, unmap or reuse the memory as soon as no other thread will
 * use it: wait for it, set it or clear it. The call that has set the event may still be running then, and no longer
 * touches the memory.
 */
typedef struct tine_event {
    /** tine's. */
    uint64_t opaque[8];
} tine_event;
#define TINE_EVENT_INIT { {0} }

/**
 * Makes memory a semaphore.
 *
 * Parameters: s: memory that no other thread uses meanwhile. value: how many units are free. max: the most units
 * that may be free; 0: INT32_MAX. flags: TINE_INTERRUPTIBLE.
 * Returns 0; -EINVAL: s is NULL or not aligned to 8 bytes, value is above max, max is above INT32_MAX, or a flag is
 * unknown.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_semaphore_init(tine_semaphore *s, uint32_t value, uint32_t max, uint32_t flags);

/**
 * Takes one unit, and waits while none is free.
 *
 * Parameters: s. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0; -EAGAIN (timeout 0), -ETIMEDOUT; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: s is NULL or
 * misaligned; -ENOMEM: there is no memory at a thread's first call.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_semaphore_acquire(tine_semaphore *s, int64_t timeout_ns);

/**
 * Gives units: all n of them, or none. The thread that gives them need not have taken them.
 *
 * Parameters: s. n: how many units.
 * Returns 0; -EOVERFLOW: there would be more than max; -EINVAL: s is NULL or misaligned; -ENOMEM: a thread waits,
 * and there is no memory at the caller's first call.
 * Threads: any; may be called in a signal handler, whatever call of tine's or of the C library's the handler
 * interrupts. Fork: a child may call it.
 */
int tine_semaphore_release(tine_semaphore *s, uint32_t n);

/**
 * Counts the units that are free at this moment.
 *
 * Parameters: s.
 * Returns how many units are free; -EINVAL: s is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_semaphore_value(const tine_semaphore *s);

/**
 * Makes memory a condition that nobody waits for.
 *
 * Parameters: c: memory that no other thread uses meanwhile. flags: TINE_INTERRUPTIBLE.
 * Returns 0; -EINVAL: c is NULL or not aligned to 8 bytes, or a flag is unknown.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_condition_init(tine_condition *c, uint32_t flags);

/**
 * Releases a mutex, waits for a notification, and takes the mutex back, however long that takes. All waiters of a
 * condition use one mutex.
 *
 * -EOWNERDEAD takes precedence over -ETIMEDOUT and -EINTR. After it repair the data and m, and notify all waiters.
 *
 * Parameters: c. m: a mutex that the caller has locked once. timeout_ns: how long to wait for the notification, in
 * nanoseconds; 0: not at all.
 * Returns, with m held, 0: notified, or woken for no reason; -EOWNERDEAD: m has been taken back from a holder that
 * died; -ETIMEDOUT: no notification came; -EAGAIN (timeout 0): m has not been released; -EINTR: a signal came, with a
 * TINE_INTERRUPTIBLE condition. Without m it returns -ENOTRECOVERABLE: m is useless for good. Nothing has been done
 * with -EPERM: the caller does not hold m; -EINVAL: an argument is NULL or misaligned, or m is locked more than once;
 * -ENOMEM: there is no memory.
 * Threads: the holder of m; not in a signal handler. Fork: -EPERM in a child that has not locked m itself.
 */
int tine_condition_wait(tine_condition *c, tine_mutex *m, int64_t timeout_ns);

/**
 * Wakes up to n waiters. What they wait for should be changed with their mutex held. The caller may hold the mutex
 * during this call, or not.
 *
 * Parameters: c. n: how many waiters at most.
 * Returns 0; -EINVAL: c is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_condition_notify(tine_condition *c, uint32_t n);

/**
 * Wakes all waiters.
 *
 * Parameters: c.
 * Returns 0; -EINVAL: c is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_condition_notify_all(tine_condition *c);

/**
 * Makes memory an event that is not set.
 *
 * Parameters: e: memory that no other thread uses meanwhile. flags: TINE_AUTO_RESET, TINE_INTERRUPTIBLE.
 * Returns 0; -EINVAL: e is NULL or not aligned to 8 bytes, or a flag is unknown.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_event_init(tine_event *e, uint32_t flags);

/**
 * Sets the event and releases all waiters, even where it is cleared before they run. With TINE_AUTO_RESET it
 * releases one waiter.
 *
 * Parameters: e.
 * Returns 0; -EINVAL: e is NULL or misaligned.
 * Threads: any; may be called in a signal handler. Fork: a child may call it.
 */
int tine_event_set(tine_event *e);

/**
 * Clears the event.
 *
 * Parameters: e.
 * Returns 0; -EINVAL: e is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_event_clear(tine_event *e);

/**
 * Tells the state of the event at this moment.
 *
 * Parameters: e.
 * Returns 1: it is set; 0: it is not; -EINVAL: e is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_event_is_set(const tine_event *e);

/**
 * Waits until the event is set. With TINE_AUTO_RESET one waiter clears it; if that waiter is killed before it has
 * cleared the event, another one does.
 *
 * Parameters: e. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0: the event is set; -EAGAIN (timeout 0), -ETIMEDOUT; -EINTR: a signal came, with TINE_INTERRUPTIBLE;
 * -EINVAL: e is NULL or misaligned; -ENOMEM: there is no memory at a thread's first call.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_event_wait(tine_event *e, int64_t timeout_ns);

/**
 * Counts how often the event has been cleared, for tine_event_wait_after.
 *
 * Parameters: e.
 * Returns a number below 2^30, after which it begins at 0 again; -EINVAL: e is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_event_cleared(const tine_event *e);

/**
 * Waits as tine_event_wait does, and also ends where the event has been set and cleared again since
 * tine_event_cleared returned cleared. So a wait that is split into several calls misses no setting of the event. A
 * single tine_event_wait misses none either. With TINE_AUTO_RESET it is tine_event_wait.
 *
 * Parameters: e. cleared: what tine_event_cleared has returned. timeout_ns: how long to wait, in nanoseconds; 0: not
 * at all.
 * Returns the codes of tine_event_wait; -EINVAL also where cleared is no number below 2^30, as an error of
 * tine_event_cleared is none.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_event_wait_after(tine_event *e, int cleared, int64_t timeout_ns);

/* ---- Barriers, and what is done once --------------------------------------------------------------------------- */

/** The most parties that a barrier can have. */
#define TINE_BARRIER_PARTIES 128

/**
 * A meeting of a fixed number of threads, of any processes, again and again. What holds for all locks (tine_mutex)
 * holds here, but all-zero memory is not a barrier: tine_barrier_init() sets the number of parties.
 *
 * A party that dies while it waits breaks the barrier: every party gets TINE_EBROKEN until tine_barrier_reset(). A
 * party that never comes is found by the timeout.
 *
 * The party that gets 1 is the last to leave, and may free, unmap or reuse the memory at once: no other party's call
 * looks at it any more. The other parties may not, unless they know by other means that all calls have returned. More
 * threads than parties may take turns. Then 1 says nothing about the memory: others may be in the call. And threads
 * that are stopped on their way out can hold up a later meeting: docs/locks.md says how many.
 */
typedef struct tine_barrier {
    /** tine's. */
    uint64_t opaque[648];
} tine_barrier;

/**
 * Something that is done once, by the process that comes first. All-zero memory is something that has not been done.
 * What holds for all locks (tine_mutex) holds here.
 */
typedef struct tine_once {
    /** tine's. */
    uint64_t opaque[8];
} tine_once;
#define TINE_ONCE_INIT { {0} }

/**
 * Makes memory a barrier that nobody waits at.
 *
 * Parameters: b: memory that no other thread uses meanwhile. parties: how many threads meet, from 1 to
 * TINE_BARRIER_PARTIES. flags: TINE_INTERRUPTIBLE.
 * Returns 0; -EINVAL: b is NULL or not aligned to 8 bytes, parties is out of range, or a flag is unknown.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_barrier_init(tine_barrier *b, uint32_t parties, uint32_t flags);

/**
 * Waits until all parties have come. A wait whose time runs out breaks the barrier for the other parties. With a
 * timeout of 0, a party that is not the last one does not count as having come.
 *
 * Of each meeting one party gets 1, the last to leave. No party does where one is killed on its way out. Where
 * several parties of one meeting are killed there, say d, as many as d - 1 later meetings give no party 1 either.
 *
 * Parameters: b. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 1 for the last party to leave, and 0 for the others; TINE_EBROKEN: a party has died, another party's time
 * has run out, or the barrier was aborted or reset; -EAGAIN (timeout 0): not all parties have come; -ETIMEDOUT: the
 * caller's time has run out, and the barrier is broken now; -EINTR: a signal came, with TINE_INTERRUPTIBLE, and the
 * caller does not count as having come; -EINVAL: b is NULL, misaligned, or not a barrier; -ENOLCK: the thread holds
 * TINE_MOST_HELD locks; -EXDEV: the barrier is another PID namespace's; -ENOMEM: there is no memory at a thread's
 * first call.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_barrier_wait(tine_barrier *b, int64_t timeout_ns);

/**
 * Makes the barrier as new: it is not broken, and nobody waits. Parties that were waiting get TINE_EBROKEN. Where
 * parties were killed on their way out, later meetings may still give no party 1 (tine_barrier_wait).
 *
 * Parameters: b.
 * Returns 0; -EINVAL: b is NULL or misaligned.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_barrier_reset(tine_barrier *b);

/**
 * Breaks the barrier. Parties that wait, and parties that come, get TINE_EBROKEN until the barrier is reset.
 *
 * Parameters: b.
 * Returns 0; -EINVAL: b is NULL or misaligned.
 * Threads: any; not in a signal handler. Fork: a child may call it.
 */
int tine_barrier_abort(tine_barrier *b);

/**
 * Tells the state of the barrier at this moment.
 *
 * Parameters: b.
 * Returns 1: it is broken; 0: it is not; -EINVAL: b is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_barrier_broken(const tine_barrier *b);

/**
 * The number of parties that meet at the barrier.
 *
 * Parameters: b.
 * Returns the number; -EINVAL: b is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_barrier_parties(const tine_barrier *b);

/**
 * Counts the parties that wait at this moment.
 *
 * Parameters: b.
 * Returns how many parties wait; -EINVAL: b is NULL or misaligned.
 * Threads: any. Fork: a child may call it.
 */
int tine_barrier_waiting(const tine_barrier *b);

/**
 * Calls initializer(user), unless an initializer has succeeded on this tine_once before, in whatever process. It
 * waits while another thread's initializer runs.
 *
 * An initializer that returns another number than 0 has failed. Its caller gets that number, and the next caller's
 * initializer runs. The next caller's initializer also runs where the process died in which one was running; it may
 * find things half done. An initializer must not throw an exception or leave by longjmp.
 *
 * A thread that was told that it is done, and that knows that no other thread will ask, may free or unmap the memory
 * at once. The call that ran the initializer may still be running then.
 *
 * Parameters: o. initializer: the function. user: passed to it. timeout_ns: how long to wait, in nanoseconds; 0: not
 * at all.
 * Returns 0: it is done, now or before; the number that the initializer has returned; -EAGAIN (timeout 0),
 * -ETIMEDOUT: another thread's initializer is running; -EDEADLK: the call comes from the initializer; -EINVAL: o or
 * initializer is NULL, or o is misaligned; -ENOLCK, -EXDEV, -ENOMEM: as for tine_mutex_lock().
 * Threads: any; not in a signal handler. A thread that is cancelled meanwhile (pthread_cancel) is cancelled after the
 * call. Fork: a child may call it.
 */
int tine_once_call(tine_once *o, int (*initializer)(void *user), void *user, int64_t timeout_ns);

/**
 * Takes over a tine_once in memory that has outlived its processes, as tine_mutex_reopen() does. What has been done
 * stays done. What was being done is done anew.
 *
 * Parameters: o.
 * Returns 0; -EINVAL: o is NULL or misaligned.
 * Threads: any, one at a time. Fork: a child may call it.
 */
int tine_once_reopen(tine_once *o);

/* ---- Queues ---------------------------------------------------------------------------------------------------- */

/** The most messages that a queue can hold. */
#define TINE_MOST_MESSAGES (1 << 26)

/** The most bytes that a queue can hold, and so the length of the longest message. */
#define TINE_MOST_MESSAGE_BYTES 4294967040

/**
 * A queue of messages between processes: many producers, many consumers.
 *
 * A queue lies in a pool's heap, and its pointer is valid in the host and in every worker, later workers included:
 * pass it in a task's input. Or it lies in a heap of its own in a segment, and its pointer is valid in every process
 * that has the heap open, until the process closes the heap.
 *
 * Messages of one producer are got in the order in which they were put, and each message by one consumer. When a put
 * has returned 0, the message is in the queue for the next consumer. No thread has to send it afterwards.
 *
 * A process that is killed, at whatever instruction, blocks no other. A dead producer takes along what it had not
 * put yet: at most one message, or the messages of one call. A dead consumer takes along what it had taken: at most
 * one message, or the messages of one call. No message is got twice.
 *
 * Calls may be made from any thread of these processes. A child of fork() gets TINE_EFORKED from a call that returns
 * a code; from the calls that only describe a queue it gets their answer for what is not a queue. Once the child has
 * a pool or an open heap of its own it may use the queues in that heap, and gets -EINVAL for the others. A pointer
 * that is not a queue of a living pool, or of an open heap, of this process is -EINVAL, and so is a queue that has
 * been destroyed. -EBADMSG means that a program has written into the queue's memory. -EXDEV, -ENOMEM and -ENOLCK are
 * as for tine_mutex_lock.
 */
typedef struct tine_queue tine_queue;

/** Options of tine_queue_create. */
typedef struct tine_queue_options {
    /** sizeof(tine_queue_options). */
    size_t size;
    /** Filled in when tine_queue_create fails; may be NULL. */
    tine_error *error;
    /** How many messages the queue holds; 0: 1,024. */
    size_t capacity_messages;
    /**
     * How many bytes of messages the queue holds, and so how long a message may be; 0: 1 MiB, or 64 bytes for each
     * message where that is more. A message counts with its length rounded up to 16; one of up to 8 bytes does not
     * count. Of the heap the queue takes twice these bytes, and 16 bytes for each message, both rounded up to powers
     * of two.
     */
    size_t capacity_bytes;
    /** TINE_INTERRUPTIBLE. */
    uint32_t flags;
    /** 0. */
    uint32_t reserved;
    /**
     * With pool NULL: the heap in which the queue lies, for processes that have no pool in common. tine_heap_create
     * makes a heap in a segment.
     */
    tine_heap *heap;
} tine_queue_options;
#define TINE_QUEUE_OPTIONS_INIT { sizeof(tine_queue_options), NULL, 0, 0, 0, 0, NULL }

/**
 * Makes a queue in a pool's heap, or in the heap that the options name.
 *
 * Parameters: pool: in a worker, what tine_task_pool returns; NULL where options->heap is given. options: NULL for
 * all defaults. out: where the pointer goes.
 * Returns 0; -EINVAL, -E2BIG: an argument or an option has no meaning; -ENOMEM: there is no memory, or the heap's
 * limit is reached; TINE_EFORKED.
 * Ownership: until tine_queue_destroy, from whatever process, or the end of the pool or the segment. The death of
 * the process that made it does not end it. Its memory is a block of that process, for tine_heap_blocks and
 * tine_heap_release_process. Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_queue_create(tine_pool *pool, const tine_queue_options *options, tine_queue **out);

/**
 * Ends a queue and frees its memory. Its messages are gone.
 *
 * Any process may call it as soon as every call on the queue has returned, by whatever thread of whatever process,
 * or the process in the call has died. No call on the queue may follow. When it returns, the memory may be another
 * block, and nothing touches the queue any more.
 *
 * That holds for processes that have a descriptor of the queue (tine_queue_fd), too. It waits up to a second for
 * their threads to let go. Where one of them is stopped, the memory stays allocated, and is listed under the process
 * that made the queue. That memory must not be released (tine_heap_release_process) before the stopped process goes
 * on or dies. The descriptors become readable, and tine_queue_get returns -EINVAL there.
 *
 * Parameters: q: may be NULL. A pointer that is not a queue is left alone. In a thread that holds TINE_MOST_HELD
 * locks, and in a process that cannot tell its PID namespace, the call does nothing.
 * Threads: any. Of several threads that call it, one does it. Fork: does nothing in a child.
 */
void tine_queue_destroy(tine_queue *q);

/**
 * Puts one message, and waits while there is no room for it.
 *
 * With a timeout of 0 it never waits, so it also returns -EAGAIN while another producer is in the middle of a put,
 * or waits for room.
 *
 * Parameters: q. data: the message, which is copied; NULL where length is 0. length: in bytes, up to the queue's
 * capacity. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0; -EAGAIN, -ETIMEDOUT: there is no room; -EPIPE: the queue is closed; -EMSGSIZE: the message is longer
 * than the queue can hold; -EDEADLK: the thread has reserved a message; -EINTR: a signal came, with
 * TINE_INTERRUPTIBLE; -EINVAL: q is not a queue, data is NULL, or length is above SSIZE_MAX; TINE_EFORKED; -EBADMSG,
 * -EXDEV, -ENOMEM, -ENOLCK: see tine_queue.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_put(tine_queue *q, const void *data, size_t length, int64_t timeout_ns);

/**
 * Takes the next message, and waits while there is none.
 *
 * With a timeout of 0 it never waits, so it also returns -EAGAIN while another consumer is in the middle of a get, or
 * waits for a message. The thread of tine_queue_fd is such a consumer while its descriptor is not readable.
 *
 * Parameters: q. timeout_ns: how long to wait, in nanoseconds; 0: not at all. buffer: where the message goes; NULL
 * where capacity is 0. capacity: the size of buffer in bytes. length: gets the length of the message in bytes; may be
 * NULL.
 * Returns 0; -EAGAIN, -ETIMEDOUT: there is no message; -EPIPE: there is no message, and the queue is closed;
 * -EMSGSIZE: the message is longer than capacity. It stays in the queue, and *length is the capacity that it needs;
 * -EDEADLK: the thread looks at a message in place; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: q is
 * not a queue, or buffer is NULL; TINE_EFORKED; -EBADMSG, -EXDEV, -ENOMEM, -ENOLCK: see tine_queue.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_get(tine_queue *q, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length);

/**
 * Closes a queue for further messages. Producers get -EPIPE at once, waiting ones too. Consumers get what is in the
 * queue, and then -EPIPE. Closing a closed queue does nothing. Any process may close it.
 *
 * Parameters: q.
 * Returns 0; -EINVAL: q is not a queue; TINE_EFORKED.
 * Threads: any. Fork: see tine_queue.
 */
int tine_queue_close(tine_queue *q);

/**
 * Counts the messages in the queue at this moment.
 *
 * Parameters: q.
 * Returns how many messages there are; 0: there is none, or q is not a queue.
 * Threads: any. Fork: see tine_queue.
 */
size_t tine_queue_count(const tine_queue *q);

/**
 * Tells whether the queue is empty at this moment.
 *
 * Parameters: q.
 * Returns true: there is no message in it, or q is not a queue; false: there is one.
 * Threads: any. Fork: see tine_queue.
 */
bool tine_queue_is_empty(const tine_queue *q);

/**
 * Says that a message which a consumer has got has been dealt with, for tine_queue_join.
 *
 * Parameters: q.
 * Returns 0; -EINVAL: it has been said more often than messages were put, or q is not a queue; TINE_EFORKED.
 * Threads: any. Fork: see tine_queue.
 */
int tine_queue_task_done(tine_queue *q);

/**
 * Waits until tine_queue_task_done has been called for every message that was put.
 *
 * A consumer that was killed has not called it for the message that it had taken. Whoever takes over its work calls
 * it, or the wait needs a timeout.
 *
 * Parameters: q. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0; -EAGAIN, -ETIMEDOUT: it has not been called for every message; -EINTR: a signal came, with
 * TINE_INTERRUPTIBLE; -EINVAL: q is not a queue; TINE_EFORKED; -ENOMEM: there is no memory at a thread's first call.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_join(tine_queue *q, int64_t timeout_ns);

/**
 * A descriptor that is readable while there may be something to get. It becomes readable when a message comes, or
 * when the queue is closed, and stays so until a tine_queue_get of this process returns -EAGAIN or -ETIMEDOUT. It is
 * for poll, select and epoll. The program must not read or close it.
 *
 * The first call starts a thread in this process. While the descriptor is not readable the thread waits for a message
 * as a consumer does, and takes none. If this process is stopped (SIGSTOP) then, the other consumers wait, too.
 * tine_queue_destroy in this process, tine_heap_close and the end of the pool end the thread and close the
 * descriptor. tine_queue_destroy in another process ends the thread and leaves the descriptor open and readable. It
 * is closed by one of the former, or when this process asks for the descriptor of another queue at that address.
 *
 * Parameters: q.
 * Returns the descriptor, which stays the queue's; -EINVAL: q is not a queue; -EMFILE: no descriptor is free;
 * -EAGAIN: no thread can be started; -ENOLCK: too many processes watch the queue; TINE_EFORKED; -ENOMEM: there is no
 * memory.
 * Threads: any. Fork: see tine_queue.
 */
int tine_queue_fd(tine_queue *q);

/* ---- Queues: many messages at a time, and messages in place ---------------------------------------------------- */

/**
 * Puts several messages, which costs less than a put for each. Messages for which there is room at one time become
 * visible together. The others wait for room.
 *
 * Parameters: q. data: the messages, one behind the other. lengths: the length of each message in bytes. count: how
 * many messages. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns how many messages were put, fewer than count where the time has run out, the queue was closed or a signal
 * came; where none was put, the codes of tine_queue_put; -EMSGSIZE: a message is longer than the queue can hold, and
 * none was put.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_put_many(tine_queue *q, const void *data, const size_t *lengths, size_t count, int64_t timeout_ns);

/**
 * Takes as many messages as are there, up to count, and as fit. It waits for the first of them. The messages lie in
 * buffer one behind the other.
 *
 * A consumer that is killed in this call takes along what it was taking: up to count messages.
 *
 * Parameters: q. timeout_ns: how long to wait, in nanoseconds; 0: not at all. buffer: where the messages go.
 * capacity: the size of buffer in bytes. lengths: gets the length of each message in bytes. count: how many messages
 * at most.
 * Returns how many messages were taken, 0 where count is 0; the codes of tine_queue_get; -EMSGSIZE: the next message
 * is longer than capacity, and the first of lengths is the capacity that it needs.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_get_many(tine_queue *q, int64_t timeout_ns, void *buffer, size_t capacity, size_t *lengths,
    size_t count);

/**
 * Reserves room in the queue for a message, which is then written in place, without a copy. The thread ends it with
 * tine_queue_commit or tine_queue_abandon. Until then, or until the thread dies, other producers wait.
 *
 * The reservation counts among the locks that the thread holds (TINE_MOST_HELD).
 *
 * Parameters: q. length: the most bytes that the message may have. timeout_ns: how long to wait for room, in
 * nanoseconds; 0: not at all. out: where the address of the room goes, a multiple of 16, or of 8 where length is at
 * most 8.
 * Returns 0, or the codes of tine_queue_put.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_reserve(tine_queue *q, size_t length, int64_t timeout_ns, void **out);

/**
 * Puts the message that the thread has reserved and written.
 *
 * Parameters: q. length: the length of the message in bytes, from its beginning.
 * Returns 0; -EPERM: the thread has reserved no message; -EMSGSIZE: length is more than was reserved, and the
 * message is still reserved; -EPIPE: the queue has been closed, and the message is gone; -EINVAL: q is not a queue;
 * TINE_EFORKED.
 * Threads: the one that has reserved. Fork: see tine_queue; a child has reserved no message.
 */
int tine_queue_commit(tine_queue *q, size_t length);

/**
 * Gives up the message that the thread has reserved.
 *
 * Parameters: q.
 * Returns 0; -EPERM: the thread has reserved no message; -EINVAL: q is not a queue; TINE_EFORKED.
 * Threads: the one that has reserved. Fork: see tine_queue; a child has reserved no message.
 */
int tine_queue_abandon(tine_queue *q);

/**
 * Takes the next message without copying it. The thread may read and write the message in place, until it calls
 * tine_queue_release. Until then, or until the thread dies, other consumers wait. If the thread dies, the message is
 * gone.
 *
 * The message counts among the locks that the thread holds (TINE_MOST_HELD).
 *
 * Parameters: q. timeout_ns: how long to wait for a message, in nanoseconds; 0: not at all. out: where the address of
 * the message goes, a multiple of 16, or of 8 where it has at most 8 bytes. length: gets the length of the message in
 * bytes.
 * Returns 0, or the codes of tine_queue_get.
 * Threads: any; not in a signal handler. Fork: see tine_queue.
 */
int tine_queue_peek(tine_queue *q, int64_t timeout_ns, void **out, size_t *length);

/**
 * Frees the room of the message that the thread has looked at in place.
 *
 * Parameters: q.
 * Returns 0; -EPERM: the thread looks at no message; -EINVAL: q is not a queue; TINE_EFORKED.
 * Threads: the one that has called tine_queue_peek. Fork: see tine_queue; a child looks at no message.
 */
int tine_queue_release(tine_queue *q);

/**
 * Tells whether the queue holds as many messages as it may at this moment, so that a put would have to wait. Where
 * bytes run out, a long message may have to wait before that.
 *
 * Parameters: q.
 * Returns true: it does; false: it does not, the queue is closed, or q is not a queue.
 * Threads: any. Fork: see tine_queue.
 */
bool tine_queue_is_full(const tine_queue *q);

/**
 * Tells whether the queue has been closed.
 *
 * Parameters: q.
 * Returns true: it has, or q is not a queue; false: it has not.
 * Threads: any. Fork: see tine_queue.
 */
bool tine_queue_is_closed(const tine_queue *q);

/* ---- Channels -------------------------------------------------------------------------------------------------- */

/** Options of tine_channel_create and tine_channel_attach. */
typedef struct tine_channel_options {
    /** sizeof(tine_channel_options). */
    size_t size;
    /** Filled in when the call fails; may be NULL. */
    tine_error *error;
    /**
     * How many bytes may be on their way in each direction before a send waits, as far as the system allows
     * (net.core.wmem_max); 0: the system's default, about 200 KiB. A message counts with at least 768 bytes. A
     * message that is longer than 64 KiB, or than this, travels in memory beside it, and counts like an empty one.
     */
    size_t buffer_bytes;
    /** TINE_INTERRUPTIBLE. */
    uint32_t flags;
    /** 0. */
    uint32_t reserved;
} tine_channel_options;
#define TINE_CHANNEL_OPTIONS_INIT { sizeof(tine_channel_options), NULL, 0, 0, 0 }

/**
 * Makes a channel: two ends, between which whole messages and descriptors go both ways.
 *
 * One process has an end at a time. An end is given to a task (tine_submit_options.channel), to a process that
 * starts (tine_process_options.channel), or to any other process: tine_channel_send_fd sends the tine_channel_fd,
 * and tine_channel_attach takes it over there.
 *
 * A process that is killed, at whatever instruction, leaves each message sent or not sent, and never a part of one.
 * The process with the other end receives what was sent, in order and once, and then gets -EPIPE. That holds when an
 * end is closed, too. It does not get -EPIPE while a copy of the end exists in another process, a forked child for
 * example.
 *
 * Calls on an end may be made from any thread. Several threads may receive, and each message goes to one of them.
 *
 * Parameters: options: NULL for all defaults. a: where the one end goes. b: where the other end goes.
 * Returns 0; -EINVAL, -E2BIG: an argument or an option has no meaning; -EMFILE, -ENFILE: no descriptor is free;
 * -ENOMEM: there is no memory.
 * Ownership: each end is the caller's until tine_channel_close, or until it is given away. Threads: any. Fork: a
 * child may make channels of its own; calls on its parent's ends return TINE_EFORKED.
 */
int tine_channel_create(const tine_channel_options *options, tine_channel **a, tine_channel **b);

/**
 * Takes over an end of a channel that has come from another process.
 *
 * Parameters: fd: a descriptor of the end, received or inherited. It stays the caller's, who should close it: as
 * long as it is open, the other end does not see this end closed. options: NULL for all defaults. out: where the end
 * goes.
 * Returns 0; -EBADF: fd is not open; -EINVAL: fd is not an end of a channel, or an option has no meaning;
 * TINE_EVERSION: a message of another version of tine waits in it; -E2BIG: the options are longer than this version
 * knows; -EMFILE: no descriptor is free; -ENOMEM: there is no memory.
 * Ownership: until tine_channel_close, or until it is given away. Threads: any. Fork: a child may call it.
 */
int tine_channel_attach(int fd, const tine_channel_options *options, tine_channel **out);

/**
 * Closes an end. The other end can still receive what was sent, and then gets -EPIPE.
 *
 * A task that closes the end that it was given (tine_task_channel) ends it for every process that has a copy. The
 * handle stays valid until the function returns.
 *
 * Parameters: c: may be NULL. No other thread may be in a call on the end, unless it is the one that a task was
 * given.
 * Threads: any. Fork: a child closes its copy.
 */
void tine_channel_close(tine_channel *c);

/**
 * Sends one message, and waits while there is no room for it.
 *
 * Parameters: c. data: the message, which is copied; NULL where length is 0. length: in bytes; a message may be
 * empty. timeout_ns: how long to wait, in nanoseconds; 0: not at all.
 * Returns 0: the kernel has the whole message, whatever happens to this process; -EAGAIN, -ETIMEDOUT: there is no
 * room; -EPIPE: the other end is gone; -ENOMEM: there is no memory for the message; -EINTR: a signal came, with
 * TINE_INTERRUPTIBLE; -EINVAL: c or data is NULL; TINE_EFORKED. For a message that is longer than 64 KiB or than
 * .buffer_bytes also -EMFILE, -ENFILE: no descriptor is free, or too many are on their way; -EACCES, -ENOSYS: the
 * system refuses memfd_create; -EBADF: the program has closed the descriptor of the memory. After an error nothing
 * was sent.
 * Threads: any; in a signal handler only with a timeout of 0, and a message that is no longer than 64 KiB and than
 * .buffer_bytes. Fork: TINE_EFORKED in a child.
 */
int tine_channel_send(tine_channel *c, const void *data, size_t length, int64_t timeout_ns);

/**
 * Receives the next message, and waits while there is none.
 *
 * Parameters: c. timeout_ns: how long to wait, in nanoseconds; 0: not at all. buffer: where the message goes; NULL
 * where capacity is 0. capacity: the size of buffer in bytes. length: gets the length of the message in bytes; may be
 * NULL.
 * Returns 0; -EAGAIN, -ETIMEDOUT: there is no message; -EPIPE: there is no message, and the other end is gone;
 * -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: c or buffer is NULL; TINE_EFORKED. The message stays after
 * -EMSGSIZE: it is longer than capacity, and *length is the capacity that it needs; -ENOMSG: it is a descriptor, for
 * tine_channel_receive_fd; -EMFILE: it is longer than 64 KiB, which needs a descriptor, and none is free; -ENOMEM:
 * there is no memory or address space for it. It is thrown away after -EBADMSG: tine has not sent it; TINE_EVERSION:
 * the other end has another version of tine.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_channel_receive(tine_channel *c, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length);

/**
 * Sends a descriptor: of a file, a segment, or an end of another channel. It keeps its place in the order of the
 * messages.
 *
 * Parameters: c. fd: the descriptor, which stays the caller's. timeout_ns: how long to wait, in nanoseconds; 0: not
 * at all.
 * Returns 0, or the codes of tine_channel_send; -EBADF: fd is not open; -EMFILE: too many descriptors are on their
 * way.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_channel_send_fd(tine_channel *c, int fd, int64_t timeout_ns);

/**
 * Receives a descriptor.
 *
 * Parameters: c. timeout_ns: how long to wait, in nanoseconds; 0: not at all. fd: where the descriptor goes.
 * Returns 0, or the codes of tine_channel_receive. What comes next stays after -ENOMSG: it is a message, for
 * tine_channel_receive; -EMFILE: this process has no descriptor free.
 * Ownership: the caller closes the descriptor, which is close-on-exec. Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_channel_receive_fd(tine_channel *c, int64_t timeout_ns, int *fd);

/**
 * A descriptor that is readable while there is something to receive, or when the other end is gone. It is for poll,
 * select and epoll, and can be sent to another process. The program must not read or close it.
 *
 * Parameters: c.
 * Returns the descriptor, which stays the channel's; -EINVAL: c is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_channel_fd(const tine_channel *c);

/**
 * The end of a channel that was given to the task (tine_submit_options.channel) or to the process
 * (tine_process_options.channel).
 *
 * Parameters: task.
 * Returns the end; NULL: none was given.
 * Ownership: the end is valid until the function returns, in all threads, and is closed then. To keep it longer,
 * attach its descriptor. Threads: the task's. Fork: TINE_EFORKED for calls on the end in a child.
 */
tine_channel *tine_task_channel(const tine_task *task);

/* ---- Channels: messages in place ------------------------------------------------------------------------------- */

/**
 * Reserves room for a message, which is then written in place. tine_channel_commit sends it, and tine_channel_abandon
 * gives it up. A message of more than 64 KiB is not copied on its way to tine_channel_peek.
 *
 * A handle has one reserved message at a time; a thread that wants one of its own attaches a handle of its own
 * (tine_channel_attach). Sending and receiving through the handle go on meanwhile: the message takes its place in the
 * order when it is committed.
 *
 * The memory for messages of more than 64 KiB is used again for the next ones. It stays with the handle, and with the
 * handle at the other end: up to four times the longest message, and 64 MiB at most. A message of more than 32 MiB
 * gets memory of its own. So the room may hold an older message of this channel; room for up to 64 KiB is zero. Where
 * the other end has received all messages and has released none, it may have died: then that memory is left to it,
 * and new memory is taken at once. So more is in use while receivers hold messages.
 *
 * Parameters: c. length: the most bytes that the message may have; may be 0. timeout_ns: how long to wait until the
 * other end has released room, in nanoseconds; 0: not at all. out: where the address of the room goes, a multiple of
 * 16, never NULL.
 * Returns 0; -EBUSY: a message is reserved through this handle already, or another thread is in this call; -EAGAIN,
 * -ETIMEDOUT: all room is in use, and some of it is for messages that are on their way or being written; -EPIPE: all
 * room is in use, and the other end is gone; -ENOMEM: there is no memory; -EMFILE, -ENFILE: no descriptor is free;
 * -EACCES, -ENOSYS: the system refuses memfd_create; -EBADF: the program has closed the descriptor of the memory;
 * -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: c or out is NULL, or length is more than an address space
 * has; TINE_EFORKED.
 * Ownership: the room is valid until tine_channel_commit or tine_channel_abandon has returned 0, or the handle is
 * closed or given away. Threads: any, and another one may commit; not in a signal handler. Fork: TINE_EFORKED in a
 * child, which must not write there.
 */
int tine_channel_reserve(tine_channel *c, size_t length, int64_t timeout_ns, void **out);

/**
 * Sends the message that was reserved through this handle and written, and waits while there is no room for it on the
 * way. tine_channel_peek at the other end receives it, and so does tine_channel_receive.
 *
 * Parameters: c. length: the length of the message in bytes, from its beginning. timeout_ns: how long to wait, in
 * nanoseconds; 0: not at all.
 * Returns 0: the kernel has the whole message, whatever happens to this process; -EPERM: no message is reserved
 * through this handle. The message is still reserved after -EMSGSIZE: length is more than was reserved; -EAGAIN,
 * -ETIMEDOUT: there is no room on the way; -ENOMEM: there is no memory; -EMFILE, -ENFILE: no descriptor is free, or
 * too many are on their way; -EACCES, -ENOSYS: the system refuses memfd_create; -EBADF: the program has closed the
 * descriptor of the memory; -EINTR: a signal came, with TINE_INTERRUPTIBLE. It is gone after -EPIPE: the other end is
 * gone. -EINVAL: c is NULL; TINE_EFORKED.
 * Ownership: after 0 and -EPIPE the room is not the caller's any more. Threads: any; not in a signal handler. Fork:
 * TINE_EFORKED in a child.
 */
int tine_channel_commit(tine_channel *c, size_t length, int64_t timeout_ns);

/**
 * Gives up the message that was reserved through this handle.
 *
 * Parameters: c.
 * Returns 0; -EPERM: no message is reserved through this handle; -EINVAL: c is NULL; TINE_EFORKED.
 * Threads: any; not in a signal handler. Fork: TINE_EFORKED in a child.
 */
int tine_channel_abandon(tine_channel *c);

/**
 * Receives the next message to be read in place, however it was sent, and waits while there is none. The program may
 * read and write it in place, until it calls tine_channel_release. If the process dies before that, the message is
 * gone. A message of more than 64 KiB is not copied, unless it is one of tine_channel_send that is longer than 32 MiB
 * or found no room free.
 *
 * A handle looks at one message at a time; a thread that wants one of its own attaches a handle of its own
 * (tine_channel_attach). Sending and receiving through the handle go on meanwhile.
 *
 * A message of more than 64 KiB lies in memory that the other end has too. What another program has sent should be
 * copied before it is checked: a hostile one can still write there, and can take the memory away, so that reading
 * needs new memory of the system. Where the system has none, or may not give it (vm.overcommit_memory is 2), the
 * access raises SIGBUS; so it does in tine_channel_receive and tine_channel_send, which copy from and to such memory.
 * The same can do who has got the memory's descriptor from a process that received from this end before: from a
 * worker in which the task was tried first (.retries), for example.
 *
 * Parameters: c. timeout_ns: how long to wait for a message, in nanoseconds; 0: not at all. out: where the address of
 * the message goes, a multiple of 16, never NULL. length: gets the length of the message in bytes.
 * Returns 0; -EBUSY: a message is looked at through this handle already, or another thread is in this call; -EAGAIN,
 * -ETIMEDOUT: there is no message; -EPIPE: there is no message, and the other end is gone; -EINTR: a signal came,
 * with TINE_INTERRUPTIBLE; -EINVAL: c, out or length is NULL; TINE_EFORKED. The message stays after -ENOMSG: it is a
 * descriptor, for tine_channel_receive_fd; -EMFILE: it is longer than 64 KiB, which needs a descriptor, and none is
 * free; -ENOMEM: there is no memory or address space for it. It is thrown away after -EBADMSG: tine has not sent it;
 * TINE_EVERSION: the other end has another version of tine.
 * Ownership: the message is valid until tine_channel_release, or until the handle is closed or given away. Threads:
 * any, and another one may release; not in a signal handler. Fork: TINE_EFORKED in a child, which must not touch the
 * message.
 */
int tine_channel_peek(tine_channel *c, int64_t timeout_ns, void **out, size_t *length);

/**
 * Lets go of the message that is looked at through this handle, so that its room can be used again.
 *
 * Parameters: c.
 * Returns 0; -EPERM: no message is looked at through this handle; -EINVAL: c is NULL; TINE_EFORKED.
 * Threads: any; not in a signal handler. Fork: TINE_EFORKED in a child.
 */
int tine_channel_release(tine_channel *c);

/* ---- Single processes ------------------------------------------------------------------------------------------ */

/**
 * The process goes on when the host ends or closes its handle. When the process ends, whatever it has started ends
 * too. A process that was started in a worker, or in another process, still ends with that one.
 */
#define TINE_DETACHED (1 << 19)

/**
 * A process of its own that calls one function, as a worker does, and ends when the function returns.
 *
 * It starts as the workers of a pool do: by function pointer or name, by the start methods, with an environment of
 * its own; and the host gets no child that it could see. It leads a process group. When the host ends, for whatever
 * reason, the process is killed with everything that it has started, unless it is TINE_DETACHED.
 *
 * A second process beside it watches it, which costs memory and time. For many short pieces of work there are pools.
 */
typedef struct tine_process tine_process;

/** Options of tine_process_start. */
typedef struct tine_process_options {
    /** sizeof(tine_process_options). */
    size_t size;
    /** Filled in when tine_process_start fails; may be NULL. */
    tine_error *error;
    /** The name of a registered function, where fn is NULL. */
    const char *name;
    /**
     * TINE_START_FORKSERVER, TINE_START_SPAWN or TINE_START_FORK. With the first, a copy of the program without
     * threads forks itself, and the program's own state is that of its start.
     */
    int start;
    /** TINE_DETACHED, TINE_INTERRUPTIBLE, TINE_CORE_FILES, TINE_NO_CRASH_HANDLER. */
    uint32_t flags;
    /** What ps and tine_process_title show; the kernel keeps 15 bytes of it. NULL: "tine-process". */
    const char *title;
    /**
     * How long the process may live, in nanoseconds from its start; 0: without a limit. Then it gets SIGTERM, and
     * after .grace_ns SIGKILL, whatever the host does meanwhile. A process whose time is over before its function
     * could begin counts as started, and ends with -ETIMEDOUT.
     */
    int64_t deadline_ns;
    /** How long the process may go on after the SIGTERM, in nanoseconds; 0: 200 ms. */
    int64_t grace_ns;
    /**
     * An end of a channel for the process, which gets it by tine_task_channel; may be NULL. Where tine_process_start
     * returns 0, the end has been given away: the handle is closed here, and must not be used any more. Otherwise
     * the end stays the caller's.
     */
    tine_channel *channel;
    /**
     * Segments that are mapped in the process before its function begins, at the addresses that they have here; NULL
     * and 0: none.
     */
    tine_segment *const *segments;
    /** How many segments there are in .segments. */
    size_t segment_count;
    /**
     * The environment of the process. It may run on all of .processors, and .affinity is TINE_AFFINITY_NONE. NULL:
     * the host's.
     */
    const tine_worker_options *worker;
    /** How long the process may take from its start until its function begins, in nanoseconds; 0: ten seconds. */
    int64_t start_timeout_ns;
    /** The program to run, as in tine_pool_options. */
    const char *worker_path;
    /** The arguments of that program, as in tine_pool_options. */
    const char *const *worker_arguments;
    /** Shared libraries to load, as in tine_pool_options. */
    const char *preload;
    /**
     * The most that the output of the process and its blocks from tine_task_pool may take, in bytes; 0: 1 GiB, or
     * less where the limit of the address space (a quarter of it) or the limit on file sizes is less.
     */
    size_t heap_bytes;
} tine_process_options;
#define TINE_PROCESS_OPTIONS_INIT { sizeof(tine_process_options), NULL, NULL, 0, 0, NULL, 0, 0, NULL, \
    NULL, 0, NULL, 0, NULL, NULL, NULL, 0 }

/** How a process ended, and what its function returned: see tine_process_wait. */
typedef struct tine_exit {
    /** sizeof(tine_exit). */
    size_t size;
    /**
     * The exit code of the process, where .signal is 0. Where the function has returned, it is 0 for 0, the number
     * itself up to 255, 255 for a larger number, and 1 for a negative one.
     */
    int code;
    /** The signal that ended it, or 0. */
    int signal;
    /**
     * What the function has returned; TINE_EDIED where it has not returned because the process exited or was killed;
     * -ETIMEDOUT where it has not returned by the deadline.
     */
    int status;
    /**
     * The text that the function gave to its failure (tine_fail), or what tine knows of the failure. Never NULL; ""
     * for a success.
     */
    const char *message;
    /** The output (tine_output); NULL if there is none. */
    const void *data;
    /** The length of .data in bytes. */
    size_t length;
    /** The report of the process's end; never NULL. */
    const tine_death *death;
} tine_exit;
#define TINE_EXIT_INIT { sizeof(tine_exit), 0, 0, 0, NULL, NULL, 0, NULL }

/**
 * Starts a process, and waits until its function has begun.
 *
 * The task of that function has no pool that other processes share: tine_task_pool is a heap of its own, and runs
 * what is submitted there and then. It shares segments with other processes, and the heaps, queues and locks in
 * them, and it may have an end of a channel.
 *
 * Parameters: options: NULL for all defaults. fn: the function; NULL where the option .name is given. input: the
 * input, which is copied; NULL where length is 0. length: in bytes. out: where the process goes.
 * Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: the process could
 * not be started; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME: the function is not one of the process's; -EEXIST:
 * something else is at a segment's address there; -ENOSPC: there are more than 64 segments; -EINVAL, -E2BIG: an
 * argument or an option has no meaning; -ENOENT: there is no program at .worker_path; -ENOSYS: the kernel is too
 * old; -ENOMEM, -EMFILE: the host has no memory or no descriptor.
 * Ownership: tine_process_close ends the process; a .channel is given away. Threads: any. Fork: a child may start
 * processes of its own.
 */
int tine_process_start(const tine_process_options *options, tine_fn fn, const void *input, size_t length,
    tine_process **out);

/**
 * Waits until the process has ended.
 *
 * It may be called again, and by several threads, and then returns what it has returned. The process's supervisor
 * tells how the process has ended, some microseconds after the end: until then tine_process_fd is readable already,
 * and a wait goes on while it has time.
 *
 * Parameters: p. timeout_ns: how long to wait, in nanoseconds; 0: not at all. out: a tine_exit with its .size set, or
 * NULL.
 * Returns 0: the process has ended, in whatever way; -EAGAIN, -ETIMEDOUT: it has not, or its supervisor has not told
 * how; -EINTR: a signal came, with TINE_INTERRUPTIBLE; -EINVAL: p is NULL, or the .size is less than 16;
 * TINE_EFORKED.
 * Ownership: what the exit points to is valid until tine_process_close. Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_process_wait(tine_process *p, int64_t timeout_ns, tine_exit *out);

/**
 * Sends a signal to the process: SIGTERM asks it to end, SIGINT interrupts it, SIGKILL ends it.
 *
 * Parameters: p. signal: 1 to 64.
 * Returns 0; -ESRCH: the process has ended; -EINVAL: p is NULL, or signal is not a signal; -EPERM: this process may
 * not signal it; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_process_kill(tine_process *p, int signal);

/**
 * Sends a signal to the process and to everything that it has started and that is still there. That includes what
 * has outlived the process and what has left its process group. The process's supervisor sends the signals, at once
 * but not before the call returns.
 *
 * Parameters: p. signal: 1 to 64.
 * Returns 0; -EINVAL: p is NULL, or signal is not a signal; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_process_kill_tree(tine_process *p, int signal);

/**
 * Tells whether the process is still running.
 *
 * Parameters: p.
 * Returns 1: it is; 0: it has ended; -EINVAL: p is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_process_alive(const tine_process *p);

/**
 * The number of the process. After the end of the process another one may get this number.
 *
 * Parameters: p.
 * Returns the number; -EINVAL: p is NULL.
 * Threads: any. Fork: a child may call it.
 */
pid_t tine_process_pid(const tine_process *p);

/**
 * A descriptor that becomes readable when the process ends, and stays readable. It is for poll, select and epoll.
 * The program must not close it.
 *
 * Parameters: p.
 * Returns the descriptor, which stays the handle's; -EINVAL: p is NULL; TINE_EFORKED.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_process_fd(const tine_process *p);

/**
 * The title of the process.
 *
 * Parameters: p.
 * Returns the .title of the options, or "tine-process"; NULL: p is NULL. The string is valid until
 * tine_process_close.
 * Threads: any. Fork: a child may call it.
 */
const char *tine_process_title(const tine_process *p);

/**
 * Kills the process and everything that it has started, and releases its handle. A process that is TINE_DETACHED
 * goes on, and its end is reported to nobody.
 *
 * The call waits until the processes have been killed and reaped: some milliseconds, and up to 8 s where the
 * process's supervisor does not answer, because somebody has stopped it, say. It waits without a limit for a process
 * that the kernel cannot end, and not at all for one that is TINE_DETACHED.
 *
 * Parameters: p: may be NULL. No other thread may be in a call on the process.
 * Threads: any. Fork: in a child it releases the child's copy, and the process goes on.
 */
void tine_process_close(tine_process *p);

#ifdef __cplusplus
}
#endif

#endif /* TINE_H */
