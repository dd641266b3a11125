/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine: process pools, shared memory, queues and locks that settle whatever is killed.
 * Made by `make header` from src/ffi; change the comments there.
 *
 * Conventions, for every call below:
 *
 *   Results     0 or a count on success. -1 to -4095 is a negated errno value, below that is a TINE_E code. A call that
 *               fails changes nothing, unless its text names an exception. tine_strerror() has a sentence for each code.
 *               Every call that takes an options struct writes a text that names the thing and its value to the struct's
 *               .error.
 *   Timeouts    int64_t nanoseconds, relative, monotonic. With 0 or less a call returns -EAGAIN instead of waiting. A
 *               positive one that runs out is -ETIMEDOUT. TINE_FOREVER waits for ever. Durations in options structs are
 *               different, but for .timeout_ns: 0 is the default, and a negative one is -EINVAL. Waits go on after a
 *               signal handler has run; those of an object that was made TINE_INTERRUPTIBLE return -EINTR.
 *   Arguments   the object, the inputs, the timeout, the outputs. Outputs are written only on success, unless a call's
 *               text says otherwise.
 *   Pointers    an object's is what the call that made the object has given, and is used until the object is ended or
 *               given away. Ending it is the last call on it, in any thread. Any other pointer goes to as many bytes as
 *               the length, the count or the .size beside it says, or to one value, and all of them stay until the call
 *               returns.
 *   Structs     start with .size, which tells tine how much of the struct the caller knows: it reads and writes no more.
 *               Locks, whose size never changes, and tine_limit have no .size. Every struct has an initialiser,
 *               TINE_<NAME>_INIT. Only tine_barrier has none: tine_barrier_init comes before any other call on it. Zero
 *               is every option's default. NULL in place of an options struct means all defaults. What contradicts itself
 *               is -EINVAL.
 *   Flags       have a bit each in the whole library. A flag that an object does not know is -EINVAL.
 *   Ownership   tine_X_destroy ends an object for everybody: pools, streams, queues. tine_X_close lets go of this
 *               process's handle: of a segment, a heap and a channel's end others have theirs; a process ends with its
 *               only handle, unless it is TINE_DETACHED. tine_queue_close only forbids further puts, and
 *               tine_queue_close(NULL) is -EINVAL. Every destroy and every other close accepts NULL.
 *   Threads     every call may be made from any thread unless its text says otherwise. None is a cancellation point:
 *               pthread_cancel() acts when the call has returned.
 *   Fork        after fork() a child must not use a pool, heap, stream, queue, channel or process of its parent. A call that
 *               returns a code returns TINE_EFORKED; a call that makes or gives something returns NULL. A segment stays
 *               usable in the child, and so does what a call only tells of an object.
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

/** A pool of worker processes; in a worker, the pool that it belongs to. */
typedef struct tine_pool tine_pool;

/** A task, as the function that carries it out sees it. Valid until that function returns, in its thread only. */
typedef struct tine_task tine_task;

/** One end of a channel: see tine_channel_create. */
typedef struct tine_channel tine_channel;

/* ---- Errors, timeouts, the log and the version ----------------------------------------------------------------- */

/** The longest text of a tine_error, its terminating zero included. */
#define TINE_ERROR_TEXT 240

/**
 * Waits for ever: a value for every timeout_ns. A negative one counts as 0, so end - now may be passed when that
 * time is over.
 */
#define TINE_FOREVER INT64_MAX

/**
 * A flag of every object that can be waited for: its waits end with -EINTR when a signal handler has run while they slept. Those for
 * locks and queues may go on after a handler that was installed with SA_RESTART, as sem_wait does. A handler that runs just before
 * a wait sleeps does not end it: not before the first sleep, nor between two, into which waits are cut by wake-ups and, for mutexes,
 * reader-writer locks, barriers and pools, by a look round now and then. So one signal is a hint: repeat it until the wait has
 * ended, or let the handler do what ends the wait, tine_event_set() or tine_semaphore_release().
 */
#define TINE_INTERRUPTIBLE 1

/** tine_init has not run in this process. */
#define TINE_ENOINIT -5001

/** The worker processes could not be started, or end as soon as they are. */
#define TINE_EWORKERSTART -5002

/** The process that ran the task died. */
#define TINE_EDIED -5003

/** The task's function returned a number below -4095, which is not its to use. */
#define TINE_EBADCODE -5004

/** Items of a map failed; their own states say why. */
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

/** The call is the host's and was made in a worker. */
#define TINE_EWORKER -5012

/** Nothing is outstanding, so there is nothing to wait for. */
#define TINE_EEMPTY -5013

/** The other process runs another build of tine. */
#define TINE_EVERSION -5014

/** The task used more memory than its worker may. */
#define TINE_EMEMORY -5016

/** An error inside tine; the object should not be used further. */
#define TINE_EPANIC -5017

/** Too late: tine_init has already run. */
#define TINE_ELATE -5018

/** A level of tine_log_fn: the process that says it ends. */
#define TINE_LOG_ERROR 0

/** A level of tine_log_fn: a mistake of the program's; the process goes on. */
#define TINE_LOG_WARNING 1

/**
 * A program's own log. text is one line without its end, and valid until the function returns. It may be called in any thread, also
 * while tine holds locks of its own: it must not call tine, throw, or jump out.
 */
typedef void (*tine_log_fn)(int level, const char *text, void *user);

/**
 * What went wrong, in words that name the thing and its value. It belongs to the caller, who points an options
 * struct's .error at it; a call that fails fills it in, one that succeeds leaves it alone.
 */
typedef struct tine_error {
    /** sizeof(tine_error). */
    size_t size;
    /** The code that the call returned. */
    int code;
    /** The text, always terminated. */
    char text[TINE_ERROR_TEXT];
} tine_error;
#define TINE_ERROR_INIT { sizeof(tine_error), 0, {0} }

/** One sentence that says what rc means. Never NULL; the string is static. Any thread, any process. */
const char *tine_strerror(int rc);

/**
 * The name of the constant behind rc: "EINVAL", "TINE_EDIED", "OK" for a success, "UNKNOWN" for what is none. Never
 * NULL; the string is static. Any thread, any process.
 */
const char *tine_errname(int rc);

/** The version of the library that runs, as "0.1.0"; the header's is TINE_VERSION. The string is static. */
const char *tine_version(void);

/**
 * Has what tine says to people go to a function: why a process that was started cannot be a worker, and what TINE_CHECK=1 finds.
 * Without a function it goes to standard error.
 *
 * Errors of calls are not among it: their text goes to the caller's tine_error. A worker that is a fresh copy of the program has
 * the log that the program sets before tine_init; one that is forked from the host has the host's.
 *
 * Parameters: log: NULL for standard error. user: passed on. Both count for the whole process from now on; a call of the former
 * log that has begun goes on, so what it uses must stay.
 * Threads: any. Fork: a child keeps it.
 */
void tine_set_log(tine_log_fn log, void *user);

/* ---- Starting up ----------------------------------------------------------------------------------------------- */

/**
 * The function of a task. What it returns is the result's status: 0 or more for success, a negated errno value for a
 * failure (see tine_fail for one with a text).
 */
typedef int (*tine_fn)(tine_task *task);

/**
 * Registers a function under a name, for callers that have no pointer to it: other languages, other programs.
 *
 * To be called before tine_init, in every program of a family alike; the name is copied. A library that workers load
 * by .preload calls it in a constructor.
 *
 * Parameters: name: 1 to 255 bytes of UTF-8, new in this process. fn: the function.
 * Returns 0, -EINVAL (bad name, or NULL), -EEXIST (a second function of that name), TINE_ELATE (after tine_init).
 * Threads: any. Fork: a child keeps what was registered.
 */
int tine_register(const char *name, tine_fn fn);

/**
 * The first thing in main. In the program that was started by its user it returns. In a process that a pool started it
 * never returns: that process becomes a supervisor or a worker here.
 *
 * In a program that is linked with libtine-mpi, or started with TINE_ENGINE=mpi in its environment, and that was started
 * by mpirun, it returns in rank 0 alone: every other rank is a node there, which runs the tasks of rank 0's pools
 * (TINE_ENGINE_MPI), until rank 0 exits.
 *
 * A host whose main is not its own, a plugin, need not call it and names a worker executable instead:
 * tine_pool_options.worker_path.
 *
 * Parameters: argc, argv: main's own, or 0 and NULL. They are not changed.
 * Returns 0, also when it is called again; -ENOSYS (the kernel is older than Linux 5.4: the log names it and the call
 * that it lacks, and pools are refused). Under mpirun also -ENOENT: there is no libtine-mpi; -ETIMEDOUT: a rank does
 * not come; -EIO, -EPERM: MPI cannot be started.
 * Threads: before any other thread is started. Fork: a child need not call it again.
 */
int tine_init(int argc, char **argv);

/**
 * Returns true in a process that was started to run functions: a worker of a pool, in its initializer, its tasks, its finalizer
 * and in all its threads, or a process of tine_process_start. Returns false everywhere else: in a host (with TINE_INLINE too), in
 * a supervisor, in a child that a worker has forked.
 *
 * Threads: any; may be called in a signal handler.
 */
bool tine_in_worker(void);

/**
 * The path of the ready-made worker program, tine-worker, for tine_pool_options.worker_path and
 * tine_process_options.worker_path.
 *
 * It is looked for beside the library, or the program that libtine.a is in, and in the libexec folders next to and above that
 * folder. It is looked for once.
 *
 * Returns the path, which is absolute and static; NULL: there is no such program. Threads: any.
 */
const char *tine_worker_path(void);

/* ---- What worker processes find around them -------------------------------------------------------------------- */

/** Workers run wherever the host may. */
#define TINE_AFFINITY_NONE 0

/** Each worker has a processor, in the order of their numbers. */
#define TINE_AFFINITY_COMPACT 1

/** Each worker has a processor, those of the first half and of the second in turn. */
#define TINE_AFFINITY_SPREAD 2

/** What workers write to their standard output and error goes where the host's goes. */
#define TINE_OUTPUT_INHERIT 0

/** The last 64 KiB of it are kept for each worker, for the report of its death. */
#define TINE_OUTPUT_CAPTURE 1

/** It goes nowhere. */
#define TINE_OUTPUT_NULL 2

/** A resource limit, as setrlimit takes it. */
typedef struct tine_limit {
    /** RLIMIT_NOFILE, RLIMIT_CPU, and the like. */
    int resource;
    /** The limit that counts. */
    uint64_t soft;
    /** How far the worker itself may raise it. */
    uint64_t hard;
} tine_limit;
#define TINE_LIMIT_INIT { 0, 0, 0 }

/** What the workers of a pool, or a single process, find around them: tine_pool_options.worker, tine_process_options.worker. */
typedef struct tine_worker_options {
    /** sizeof(tine_worker_options). */
    size_t size;
    /**
     * Changes of the environment: strings of "NAME=value", or "NAME" for a variable that is to go, with NULL at the end; or
     * NULL. They are made before the program begins; with TINE_START_FORK, before the initializer runs.
     */
    const char *const *environment;
    /** The working directory; NULL: the host's. */
    const char *directory;
    /**
     * How many threads numerical libraries are told to start in each process, by OMP_NUM_THREADS and the like; 0: they are
     * told nothing.
     */
    uint32_t library_threads;
    /** Added to the niceness: -20 to 19. */
    int nice;
    /** The oom_score_adj, from -1000 to 1000; 0: as the host's. */
    int oom_score_adj;
    /** TINE_AFFINITY_NONE, TINE_AFFINITY_COMPACT or TINE_AFFINITY_SPREAD. */
    int affinity;
    /**
     * The processors to give out, one to each worker in turn, in this order unless it is TINE_AFFINITY_SPREAD; NULL and
     * 0: those that the host may use, by .affinity.
     */
    const uint32_t *processors;
    /** How many processors. */
    size_t processor_count;
    /** Resource limits; NULL and 0: as the host's. */
    const tine_limit *limits;
    /** How many limits. */
    size_t limit_count;
    /** TINE_OUTPUT_INHERIT, TINE_OUTPUT_CAPTURE or TINE_OUTPUT_NULL. */
    int output;
    /**
     * A file, to the end of which standard output and error are written instead; it is made where there is none. NULL: as
     * .output says.
     */
    const char *output_path;
} tine_worker_options;
#define TINE_WORKER_OPTIONS_INIT { sizeof(tine_worker_options), NULL, NULL, 0, 0, 0, 0, NULL, 0, NULL, \
    0, 0, NULL }

/* ---- Past one machine ------------------------------------------------------------------------------------------ */

/** The workers are on this machine, unless the environment variable TINE_ENGINE is "mpi" or "mpi-or-local". */
#define TINE_ENGINE_DEFAULT 0

/** The workers are on this machine, whatever the environment says. */
#define TINE_ENGINE_LOCAL 1

/**
 * The workers are on the nodes of an MPI job: all ranks but this one, which is rank 0. For a program that is linked with
 * libtine-mpi and started by mpirun; in one that is not, the pool is refused (-ENODEV).
 */
#define TINE_ENGINE_MPI 2

/** The same, and on this machine in a program that is not started by mpirun, or has no libtine-mpi. */
#define TINE_ENGINE_MPI_OR_LOCAL 3

/** The version of tine_transport. */
#define TINE_TRANSPORT_VERSION 1

/**
 * How messages get from one process of a job to another: what libtine-mpi gives to tine. Programs need not know it.
 *
 * Messages from one process to another arrive in the order in which they were sent. Every function returns a negated
 * errno value where it fails. All but .started are called by one thread of tine's, .start first and .stop last.
 */
typedef struct tine_transport {
    /** sizeof(tine_transport). */
    size_t size;
    /** TINE_TRANSPORT_VERSION. */
    uint32_t version;
    /** What people know it by; static. */
    const char *name;
    /** Returns 1 in a process that was started as one of several, else 0. Any thread, at any time. */
    int (*started)(void);
    /** Joins the other processes: this one's rank, and how many there are. Returns 0. */
    int (*start)(int *rank, int *ranks);
    /** Begins to send at most 64 MiB, which stay as they are until .sent has said that it is over. Returns 0. */
    int (*send)(int rank, const void *data, size_t length, void **sending);
    /** Returns 1 when the sending is over, and its handle is gone; 0 while it is not. */
    int (*sent)(void *sending);
    /** Returns 1 and whose and how long the next message is, where there is one; else 0. */
    int (*probe)(int *rank, size_t *length);
    /** Receives the message that .probe told of. Returns 0. */
    int (*receive)(int rank, void *data, size_t length);
    /** Leaves in good order, which waits for the others to do the same. Returns 0. */
    int (*stop)(void);
    /** Ends all processes of the job. */
    void (*abort)(int code);
} tine_transport;
#define TINE_TRANSPORT_INIT { sizeof(tine_transport), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL }

/**
 * Registers how messages get to other processes; libtine-mpi does it when it is loaded.
 *
 * Parameters: transport: with every field set; copied, but for its name, which stays.
 * Returns 0; -EINVAL: NULL, or a field that is not set; TINE_EVERSION: another version; -EEXIST: there is one already.
 * Threads: any, before tine_init. Fork: a child keeps it.
 */
int tine_transport_register(const tine_transport *transport);

/* ---- Pools ----------------------------------------------------------------------------------------------------- */

/** A fresh copy of the program becomes the supervisor, and workers are forked from it: warm, and without threads. */
#define TINE_START_FORKSERVER 0

/** Each worker is a fresh copy of the program: for runtimes that cannot be forked, such as Go's. */
#define TINE_START_SPAWN 1

/**
 * The supervisor is forked from the host, and workers share the host's memory of that moment copy-on-write. The host
 * should have one thread: what other threads held locked at that moment stays locked in the workers.
 */
#define TINE_START_FORK 2

/** The name that the default had before: accepted, and without effect. */
#define TINE_BACKGROUND (1 << 8)

/** Workers that crash leave core files, as far as the host's limit allows; otherwise they leave none. */
#define TINE_CORE_FILES (1 << 9)

/** Workers keep the default dispositions of fatal signals, so deaths come without fault address and backtrace. */
#define TINE_NO_CRASH_HANDLER (1 << 10)

/**
 * No processes are started: everything runs in the calling one, for debuggers. A task runs before its tine_submit returns,
 * an item of a map while its caller waits, one at a time. Results, errors and windows are the same; a crash is the host's,
 * what is late or cancelled is told so and not ended, and options of worker processes have no effect.
 */
#define TINE_INLINE (1 << 11)

/**
 * The host gets no thread of tine's: its pool is moved on, and its callbacks called, in its own calls, or when tine_pool_fd
 * says so; and every promise that something happens within a time counts from its next call.
 *
 * Otherwise the first call that leaves work under way when it returns (tine_submit, an item of a stream; never tine_map, nor with
 * TINE_INLINE) starts one thread for all pools of the process, which runs no code of the host's and sleeps while a thread of the
 * host's waits in tine, or nothing is to be done; the first callback asked for starts a second one, on which callbacks are
 * called one at a time. They have all signals blocked but those that the C library uses itself, and end with the last pool. What
 * a thread costs a host: unshare(CLONE_NEWUSER) and setns to a user namespace fail, and so does unshare(CLONE_THREAD); malloc
 * and stdio lock where they need not with one thread; a forked child has only the thread that forked. After unshare(CLONE_NEWPID), or
 * setns to a PID namespace, the kernel starts no threads: such a call is -EINVAL, with a text, and TINE_NO_THREAD works.
 */
#define TINE_NO_THREAD (1 << 12)

/** More workers than this are refused. */
#define TINE_MAX_WORKERS 4096

/** What a pool can be told. */
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
     * How long a task or an item may run from the moment at which its function is called, in nanoseconds, unless it
     * has a deadline of its own; 0: as long as it likes. It is the host that ends what is late: tine's thread in it, or
     * with TINE_NO_THREAD the thread that calls into tine or waits there.
     */
    int64_t deadline_ns;
    /**
     * How long a task that is past its deadline or cancelled may still take, in nanoseconds; 0: 200 ms. At first
     * tine_cancelled becomes true in it; after half the grace its worker gets SIGTERM, and at the end SIGKILL.
     */
    int64_t grace_ns;
    /** A signal that the worker gets at once when its task is to end, for functions that block; 0: none. */
    int cancel_signal;
    /**
     * A worker is replaced after so many tasks (a chunk of a map counts as one), or up to an eighth fewer, so that
     * they aren't all replaced at a time; 0: never.
     */
    uint32_t max_tasks_per_worker;
    /** A worker is replaced when it is so old and has nothing to do, in nanoseconds; 0: at no age. */
    int64_t recycle_age_ns;
    /** A worker is replaced when it has more private resident memory than this after a task, in bytes; 0: never. */
    uint64_t recycle_bytes;
    /**
     * The most private resident memory that a worker may have in the middle of a task, in bytes; 0: any amount. A task
     * that takes more fails with TINE_EMEMORY, and its worker is replaced. It is looked at every 10 ms.
     */
    uint64_t max_worker_bytes;
    /** What the workers find around them: environment, directory, limits, processors, output. NULL: what the host has. */
    const tine_worker_options *worker;
    /** How long a process may take from its start until it is ready, in nanoseconds; 0: ten seconds. */
    int64_t start_timeout_ns;
    /**
     * The program that supervisor and workers run, or a script with an interpreter; NULL: the host's own. With the ready-made
     * one (tine_worker_path) a host need not call tine_init; functions then come from the libraries of .preload.
     */
    const char *worker_path;
    /**
     * What that program is called with, besides its name: strings, with NULL at the end; or NULL. The host's own program is
     * called with all that the host was called with.
     */
    const char *const *worker_arguments;
    /** Shared libraries that supervisor and workers load before anything else: paths separated by colons, or NULL. */
    const char *preload;
    /**
     * The most that the pool's heap may grow to, in bytes; 0: 256 GiB, or a quarter of a limited address
     * space, or the limit on file sizes.
     */
    size_t heap_bytes;
    /** How many tasks may be submitted and not yet taken; 0: 1,048,576. */
    size_t window_tasks;
    /** How many bytes their inputs may have together; 0: as much as the heap may hold. */
    size_t window_bytes;
    /** Runs once in each worker before it takes tasks; NULL: nothing. One that fails fails tine_pool_create. */
    tine_fn initializer;
    /** The initializer's input; copied. */
    const void *initializer_input;
    /** Its length in bytes. */
    size_t initializer_length;
    /**
     * Runs once in each worker that leaves in good order, by tine_pool_shutdown or because it is replaced; NULL:
     * nothing. One that is killed has no time for it.
     */
    tine_fn finalizer;
    /**
     * With how many workers the pool begins, and how many it keeps; further ones, up to .workers, are started when tasks
     * wait and no worker is free. 0: as many as .workers.
     */
    size_t min_workers;
    /**
     * How long a worker above .min_workers may have nothing to do before it ends, in nanoseconds; 0: any time. It ends as
     * one that is replaced does. With TINE_NO_THREAD it ends in the host's next call.
     */
    int64_t idle_timeout_ns;
    /**
     * Where the workers are: TINE_ENGINE_DEFAULT, TINE_ENGINE_LOCAL, TINE_ENGINE_MPI or TINE_ENGINE_MPI_OR_LOCAL. With
     * MPI, .workers is how many each node has (0: one for each processor that its rank may use). Inputs and outputs travel
     * as bytes: an input with an address of the pool's heap in it is refused (-EFAULT), and channels and segments are
     * -EOPNOTSUPP.
     */
    int engine;
} tine_pool_options;
#define TINE_POOL_OPTIONS_INIT { sizeof(tine_pool_options), NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, \
    0, NULL, NULL, NULL, 0, 0, 0, NULL, NULL, 0, NULL, 0, 0, 0 }

/** Counters of a pool. */
typedef struct tine_stats {
    /** sizeof(tine_stats). */
    size_t size;
    /** Places for workers. */
    size_t workers;
    /** Workers that take tasks at this moment. */
    size_t workers_ready;
    /** Tasks submitted so far, without the chunks of maps. */
    uint64_t submitted;
    /** Of these, tasks that have settled. */
    uint64_t settled;
    /** Tasks and chunks of maps that have not settled yet. */
    uint64_t outstanding;
    /** Workers that have died while the pool was running. */
    uint64_t worker_deaths;
    /** Workers that were asked to leave, and are gone: .max_tasks_per_worker, .recycle_age_ns, .recycle_bytes, .idle_timeout_ns. */
    uint64_t workers_recycled;
    /** Supervisors that have ended while the pool was running. */
    uint64_t supervisor_deaths;
    /** Bytes of memory that are reserved for the heap. */
    uint64_t heap_reserved_bytes;
    /** Bytes of allocated blocks in it, rounded up to block sizes: of the host, of workers, inputs and outputs. */
    uint64_t heap_allocated_bytes;
    /** Items of maps, loops and streams that have been dealt with so far. */
    uint64_t items_settled;
    /** Of these, items that failed. */
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
 * default signal dispositions, and end with the host. Of the host's descriptors they have the standard ones alone
 * (standard input is empty); beside those a few of tine's, close-on-exec. What the program's own code closes of these,
 * in a worker or in the host, is not used any more: a worker works on, but its part of the heap cannot grow, and it ends
 * when it is to get a segment or a channel; a host that has closed the pool's has its tasks settled with
 * TINE_EWORKERSTART.
 *
 * Parameters: options: NULL for all defaults. out: where the pool goes.
 * Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: the processes could
 * not be started, or end as soon as they are; TINE_EFUNCTION, TINE_EMODULE: the initializer is not a function of the
 * workers; -EINVAL, -E2BIG: bad options, or variables of the environment; -ENOENT: no such .worker_path, no folder for
 * the file of TINE_TRACE, or no libtine-mpi; -ENODEV: no nodes for TINE_ENGINE_MPI; TINE_EVERSION: a node runs another
 * build; -ENOSYS: the kernel is too old; -ENOMEM, -EMFILE. The options' .error says which. An initializer that fails
 * is TINE_EWORKERSTART.
 * Ownership: tine_pool_destroy ends it. Threads: any. Fork: a child may create pools of its own.
 */
int tine_pool_create(const tine_pool_options *options, tine_pool **out);

/**
 * Takes no more tasks, waits until all have settled, and ends the workers in good order. Results can still be taken.
 *
 * That lets everything run to its end. To end sooner, call it with 0, so that nothing more comes, then tine_cancel_queued
 * (what has not begun never does) or tine_cancel_all (what runs is ended, too), and then call it again;
 * tine_pool_destroy alone kills.
 *
 * Parameters: pool; timeout_ns: how long to wait for the tasks. Workers that have nothing to do any more get what is
 * left of it to leave, though at least 50 ms and at most a second, and then are killed. 0 does not wait for them either:
 * they get the second.
 * Returns 0: the workers have ended; -ETIMEDOUT: tasks are still under way; -EAGAIN (0 ns): tasks are, or workers are
 * still ending; both go on, and it may be called again; -EINTR; -EINVAL: NULL; TINE_EWORKER.
 * Threads: any. Fork: TINE_EFORKED in a child.
 */
int tine_pool_shutdown(tine_pool *pool, int64_t timeout_ns);

/**
 * Ends a pool with everything that is its: workers are killed, results and the heap's memory are gone.
 *
 * Parameters: pool: may be NULL. No other thread may be in a call on it.
 * Fork: in a child it forgets the pool, which goes on in the parent.
 */
void tine_pool_destroy(tine_pool *pool);

/**
 * A descriptor that is readable when there is something to call tine_pool_poll for: a result, a death, a worker that
 * runs out of tasks. For poll, select, epoll; not to be read or closed.
 *
 * Returns the descriptor, which stays the pool's; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_pool_fd(tine_pool *pool);

/**
 * Moves the pool on without waiting.
 *
 * Returns how many results tine_next could take at once; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_pool_poll(tine_pool *pool);

/**
 * Counters of a pool.
 *
 * Parameters: pool; out: a tine_stats, with its .size set.
 * Returns 0; -EINVAL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_pool_stats(tine_pool *pool, tine_stats *out);

/* ---- Counters as text ------------------------------------------------------------------------------------------ */

/**
 * The counters of pools (tine_stats) as text, in the format of Prometheus: what an HTTP server answers for /metrics, with the type
 * text/plain; version=0.0.4. Each is a metric tine_... with a line of help; a pool's name becomes the label pool.
 *
 * Parameters: pools, names: arrays of count pools and of their names, which are UTF-8; names, or one of them, may be NULL: no label,
 * which makes sense for a single pool. buffer: gets the text and a NUL. capacity: its room in bytes; 0 with a NULL buffer asks for
 * the length. length: gets the text's length in bytes without the NUL; may be NULL.
 * Returns 0; -EMSGSIZE: it does not fit, *length says how long it is, and the buffer is as it was; -EINVAL: no pool, a
 * pool is NULL, a name is no UTF-8; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_stats_text(tine_pool *const *pools, const char *const *names, size_t count, char *buffer,
    size_t capacity, size_t *length);

/* ---- Deaths ---------------------------------------------------------------------------------------------------- */

/** How a process ended. */
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
    /** The most memory that it had resident at once, in bytes; 0 if nobody can say. */
    uint64_t max_rss_bytes;
    /**
     * Where it crashed, innermost frame first: lines of module and offset, for addr2line. Never NULL; empty if the
     * process left no word.
     */
    const char *backtrace;
    /** How much processor time it took in its own code, in nanoseconds; 0 if nobody can say. */
    uint64_t user_ns;
    /** And in the kernel's. */
    uint64_t system_ns;
    /**
     * 1: it was most likely killed for want of memory: by .max_worker_bytes, or by the kernel, which has killed somebody
     * for that since the pool looked last.
     */
    int out_of_memory;
    /** The task that it was running; 0 for an item of a map or loop. */
    uint64_t task;
    /** That item. */
    uint64_t item;
    /** The function that it was running: its registered name, its symbol, or module and offset. Never NULL. */
    const char *function;
    /**
     * The last 64 KiB of what it had written to its standard output and error, with TINE_OUTPUT_CAPTURE, and a zero behind
     * them. Never NULL.
     */
    const char *output;
    /** The length of .output in bytes. */
    size_t output_length;
} tine_death;
#define TINE_DEATH_INIT { sizeof(tine_death), 0, 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, NULL, NULL, 0 }

/**
 * Writes what is known of a death, for people: how it came about and in what, a line for each frame, and the last that the
 * process had written.
 *
 * It goes past the streams of stdio: call fflush before, where the order of lines matters.
 *
 * Parameters: death: a result's .death. fd: where to, 2 for standard error.
 * Returns 0; -EINVAL: death is NULL; -EIO: it could not be written. Threads: any.
 */
int tine_death_print(const tine_death *death, int fd);

/* ---- Tasks and results ----------------------------------------------------------------------------------------- */

/** The function ran to its end. */
#define TINE_RAN 0

/** For certain the function did not run. */
#define TINE_NOT_STARTED 1

/** The function had begun when its process died. */
#define TINE_MAYBE_RAN 2

/** The task may be run twice without harm. So it may be run again after its worker has died, even if it had done its work by then. */
#define TINE_IDEMPOTENT (1 << 16)

/** Names a submitted task within its pool: 64 bits, 0 is never one. A released one is known as stale. */
typedef uint64_t tine_id;

/** What came of a task. */
typedef struct tine_result {
    /** sizeof(tine_result). */
    size_t size;
    /** Which task; 0 once the result has been released, and for items of a map. */
    tine_id id;
    /** What the function returned, 0 or more for success; or the code of what went wrong: TINE_EDIED, -ECANCELED. */
    int status;
    /** TINE_RAN, TINE_NOT_STARTED or TINE_MAYBE_RAN. */
    int delivery;
    /** What the function said of its failure (tine_fail), or what is known of it. Never NULL; "" for a success. */
    const char *message;
    /** The output; NULL if there is none. */
    const void *data;
    /** Its length in bytes. */
    size_t length;
    /** How the process died that ran the task; NULL if none did, or if the task was run again since. */
    const tine_death *death;
    /** How many processes have died while they ran the task. */
    uint32_t deaths;
    /** The option .user of tine_submit, or of the map. */
    void *user;
} tine_result;
#define TINE_RESULT_INIT { sizeof(tine_result), 0, 0, 0, NULL, NULL, 0, NULL, 0, NULL }

/** What a task can be told. */
typedef struct tine_submit_options {
    /** sizeof(tine_submit_options). */
    size_t size;
    /** Filled in when tine_submit fails; may be NULL. */
    tine_error *error;
    /** The name of a registered function, where fn is NULL. */
    const char *name;
    /** How long the function may run, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: as long as it likes. */
    int64_t deadline_ns;
    /**
     * How soon it must begin, in nanoseconds from tine_submit; 0: whenever there is a worker for it. A task that has
     * not begun by then settles with -ETIMEDOUT and TINE_NOT_STARTED.
     */
    int64_t queue_deadline_ns;
    /** How long to wait while the window is full, in nanoseconds; 0: not at all, -EAGAIN. */
    int64_t timeout_ns;
    /**
     * How often the task may be run again after its process has died with it. Without TINE_IDEMPOTENT any number but 0 is
     * -EINVAL. A task that had not begun runs elsewhere in any case.
     */
    uint32_t retries;
    /** TINE_IDEMPOTENT. */
    uint32_t flags;
    /** Carried to the result, and given to the callbacks. */
    void *user;
    /**
     * Called when the task has begun, with the worker's process; again when it is run again; may be NULL. A task that
     * ends first is told of before its on_settled; one that goes on, within some milliseconds.
     */
    void (*on_begin)(tine_id id, pid_t pid, void *user);
    /**
     * Called once with the result, whatever the task has come to: done, failed, past its deadline, cancelled, died; may be
     * NULL. Nobody else gets the result then: tine_next leaves it out, tine_wait gives -EBUSY, and the id is over when the
     * callback returns. The result is valid until then.
     *
     * on_begin and on_settled run on a thread of tine's, whatever the host does. Only one callback runs at a time. tine_pool_destroy
     * calls on_settled for each task that it cancels, before it returns. With TINE_NO_THREAD, and for what a task submits, both
     * run on a thread that is in tine_pool_poll, waits in any call on the pool, shuts it down or destroys it.
     *
     * A callback may submit and cancel. It may wait, too, and no other callback begins on its thread meanwhile. It may not
     * destroy the pool, and a child that it forks may not return from it.
     */
    void (*on_settled)(const tine_result *result, void *user);
    /**
     * An end of a channel that the task is to have, by tine_task_channel; may be NULL. When tine_submit returns 0 it is
     * given away: the handle is closed here, and is not to be used any more. Otherwise it stays the caller's.
     *
     * The worker closes it when the function returns. The one at the other end gets -EPIPE then, and when the worker
     * dies, and when the task settles without having begun. A task that is run elsewhere takes it along; one with
     * .retries keeps it until it has settled.
     */
    tine_channel *channel;
} tine_submit_options;
#define TINE_SUBMIT_OPTIONS_INIT { sizeof(tine_submit_options), NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL, \
    NULL, NULL }

/**
 * Submits one call of a function to a pool.
 *
 * A function is named by its address, and need not be registered, if the module that it is in (the program or a
 * shared library) is loaded in the workers too; or by fn NULL and the option .name.
 *
 * Parameters: pool. fn. input, length: copied, unless it lies in the pool's heap: then the worker reads it there, and
 * it must be left alone until the task has settled; NULL and 0 for none. options: NULL for all defaults. out: where
 * the id goes, or NULL.
 * Returns 0; -EAGAIN, -ETIMEDOUT: the window is full; -EAGAIN also: no thread can be started (see TINE_NO_THREAD);
 * -EMSGSIZE: the input is larger than the whole window; TINE_EFUNCTION: fn is no function of any module; TINE_EMODULE:
 * its module is not loaded in the workers, or is another build there; TINE_ENAME; TINE_ESHUTDOWN; TINE_EWORKERSTART: no
 * worker can be started any more; -ENOMEM; -EMFILE: no descriptor is free for the .channel; -EINVAL, -E2BIG, -EFAULT;
 * TINE_EFORKED, TINE_EWORKER. Ownership: the result is the pool's until it is taken. A .channel is given away. Threads:
 * any.
 */
int tine_submit(tine_pool *pool, tine_fn fn, const void *input, size_t length,
    const tine_submit_options *options, tine_id *out);

/**
 * Waits for one task, and takes its result: tine_next will not give it.
 *
 * Parameters: pool. id: from tine_submit. timeout_ns. out: a tine_result, with its .size set.
 * Returns 0: the task has settled, whatever its .status; -ETIMEDOUT, -EAGAIN, -EINTR: not yet; TINE_EID: the id was
 * never given, or its result has been taken or released; -EBUSY: another thread waits for it, or it has an
 * .on_settled; -EINVAL; TINE_EFORKED, TINE_EWORKER. Ownership: what the result points to is valid until
 * tine_result_release. Release first what out has from before, or its memory is lost. Threads: any.
 */
int tine_wait(tine_pool *pool, tine_id id, int64_t timeout_ns, tine_result *out);

/**
 * Waits for the next task to settle, in whatever order, and takes its result. Tasks that a tine_wait is on for, and
 * the items of maps, are left out.
 *
 * Parameters: as for tine_wait.
 * Returns 0; TINE_EEMPTY: no task is outstanding, so a loop may end; otherwise as tine_wait.
 */
int tine_next(tine_pool *pool, int64_t timeout_ns, tine_result *out);

/**
 * Cancels a task. It settles with -ECANCELED; the result is to be taken as any other.
 *
 * One that has not begun settles at once, with TINE_NOT_STARTED. One that runs is told so (tine_cancelled), and has the
 * pool's .grace_ns to return, TINE_RAN; then its worker is ended and replaced, TINE_MAYBE_RAN. One that returns by
 * itself in this very moment keeps its result.
 *
 * Returns 0; -EALREADY: it has settled; TINE_EID; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_cancel(tine_pool *pool, tine_id id);

/**
 * Cancels every submitted task that has not settled, as tine_cancel does. Maps, loops and streams go on.
 *
 * Returns how many there were; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_cancel_all(tine_pool *pool);

/**
 * Cancels every submitted task that has not begun, as tine_cancel does. What runs goes on, and so do maps, loops and streams.
 *
 * Returns how many there were; -EINVAL: NULL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_cancel_queued(tine_pool *pool);

/**
 * Waits for the first of several tasks to settle, and takes its result; the others stay as they are.
 *
 * Parameters: pool. ids, count: tasks; their place in the array gives one that has settled the preference. timeout_ns.
 * out: a tine_result, with its .size set; .id says which task.
 * Returns 0; TINE_EEMPTY: count is 0; -ENOMEM: no memory for so many; otherwise as tine_wait, where an error for one of the
 * ids is one for all. One that is named twice counts once.
 * Ownership: as for tine_wait. Threads: any.
 */
int tine_wait_any(tine_pool *pool, const tine_id *ids, size_t count, int64_t timeout_ns, tine_result *out);

/**
 * Waits until several tasks have settled. Their results stay to be taken.
 *
 * Parameters: pool. ids, count: tasks; NULL and 0: all that have been submitted. timeout_ns.
 * Returns 0: all have settled, whatever their .status; -ETIMEDOUT, -EAGAIN, -EINTR: not yet; TINE_EID: one of the ids
 * was never given, or its result has been taken or released; -EINVAL; TINE_EFORKED, TINE_EWORKER. Threads: any.
 */
int tine_wait_all(tine_pool *pool, const tine_id *ids, size_t count, int64_t timeout_ns);

/**
 * Gives back what a result points to, and zeroes it; a zeroed one again is harmless.
 *
 * Parameters: pool: the one that gave it. result: may be NULL. Threads: any, one at a time for one result.
 */
void tine_result_release(tine_pool *pool, tine_result *result);

/* ---- Maps and loops -------------------------------------------------------------------------------------------- */

/** After the first item that fails no other begins: those that had not fail with -ECANCELED and TINE_NOT_STARTED. */
#define TINE_STOP_ON_FAILURE (1 << 17)

/** Chunks of .chunk items; where that is 0, of as many as take about a millisecond, fewer towards the end. */
#define TINE_SCHEDULE_MEASURED 0

/** One chunk for each worker. */
#define TINE_SCHEDULE_STATIC 1

/** Chunks of half of a worker's share of what is left, and never fewer items than .chunk but for the last. */
#define TINE_SCHEDULE_GUIDED 2

/** The function of a map: once per item. What it returns is the item's status, as for tine_fn. */
typedef int (*tine_item_fn)(tine_task *task, const void *in, void *out);

/** What a map or a loop can be told. */
typedef struct tine_map_options {
    /** sizeof(tine_map_options). */
    size_t size;
    /** Filled in when the call fails, though not for TINE_EITEMS; may be NULL. */
    tine_error *error;
    /**
     * The name of a registered function, where fn is NULL. It is a tine_fn, called once per item: tine_input is the
     * item, tine_output its place in out.
     */
    const char *name;
    /** Bytes that every call sees through tine_context; copied, unless they lie in the pool's heap. NULL: none. */
    const void *context;
    /** Their length. */
    size_t context_length;
    /**
     * How many items go to a worker at a time; 0: as many as take about a millisecond, fewer towards the end. It
     * decides the speed and nothing else: results, errors and progress are each item's own. The last chunks are taken
     * back from slow workers item by item when others have nothing left to do.
     */
    size_t chunk;
    /** An int for each item, which becomes its status; may be NULL. */
    int *status;
    /**
     * How long the call of each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: any time. An
     * item that takes longer fails with -ETIMEDOUT, and no other with it. In a loop, of each chunk.
     */
    int64_t item_deadline_ns;
    /**
     * How often an item may be run again after its process has died with it. Without TINE_IDEMPOTENT any number but 0 is
     * -EINVAL.
     */
    uint32_t retries;
    /** TINE_IDEMPOTENT, TINE_STOP_ON_FAILURE. */
    uint32_t flags;
    /**
     * Called for each item that has failed, on the thread that called the map; may be NULL. In a loop, for each chunk
     * that has failed, with where it begins. The result is valid until the callback returns.
     */
    void (*on_failure)(const tine_result *result, size_t item, void *user);
    /**
     * Called now and then, and at the end, with how many items have been dealt with, on the thread that called the
     * map; may be NULL.
     */
    void (*progress)(size_t done, size_t total, void *user);
    /** Given to the callbacks. */
    void *user;
    /** TINE_SCHEDULE_MEASURED, TINE_SCHEDULE_STATIC or TINE_SCHEDULE_GUIDED: it decides as little as .chunk does. */
    int schedule;
    /**
     * How many bytes of inputs and outputs a chunk may have at most, though at least one item; 0: any number. In a
     * loop any number but 0 is -EINVAL.
     */
    size_t chunk_bytes;
} tine_map_options;
#define TINE_MAP_OPTIONS_INIT { sizeof(tine_map_options), NULL, NULL, NULL, 0, 0, NULL, 0, 0, 0, NULL, \
    NULL, NULL, 0, 0 }

/** The function of a loop: once per chunk of the range, from begin up to but not including end. */
typedef int (*tine_range_fn)(tine_task *task, size_t begin, size_t end);

/**
 * Calls a function for each item of an array, on all workers, and waits until all items have been dealt with.
 *
 * Arrays in the pool's heap are used where they are; others are copied chunk by chunk, and outputs are copied back
 * for items that succeed. A worker that dies costs the one item that it was running.
 *
 * Parameters: pool. fn, or NULL and the option .name. in, in_stride: the first item, and the bytes from one to the
 * next. out, out_stride: the same for what becomes of them; NULL and 0 for nothing. count: how many; 0 returns at
 * once. options: NULL for all defaults.
 * Returns 0: every item succeeded; TINE_EITEMS: some did not, .status and .on_failure say which; -EINVAL: a NULL
 * array, a stride of 0, bad options; -EOVERFLOW: more bytes than there can be; -EFAULT: an array reaches beyond the
 * heap; -ENOMEM; -EINTR, with the items that had begun finished and others -ECANCELED; TINE_EFUNCTION,
 * TINE_EMODULE, TINE_ENAME; TINE_ESHUTDOWN, TINE_EWORKERSTART, TINE_EFORKED, TINE_EWORKER.
 * Threads: any, several maps at a time too. The callbacks may call tine, but not destroy the pool, nor wait for its
 * shutdown, which waits for the map.
 */
int tine_map(tine_pool *pool, tine_item_fn fn, const void *in, size_t in_stride, void *out, size_t out_stride,
    size_t count, const tine_map_options *options);

/**
 * Calls a function for chunks of a range, on all workers, until all of it has been dealt with.
 *
 * Parameters: pool. fn. begin, end: the range, without end. options: as for tine_map, without .name; .chunk is the
 * length of a chunk, and a chunk that fails fails all its items.
 * Returns as tine_map; -EINVAL where end is less than begin.
 */
int tine_for(tine_pool *pool, tine_range_fn fn, size_t begin, size_t end, const tine_map_options *options);

/* ---- Progress for people --------------------------------------------------------------------------------------- */

/** What tine_progress_bar shows besides the numbers, and what it remembers. Zero is the default of every field. */
typedef struct tine_progress {
    /** sizeof(tine_progress). */
    size_t size;
    /** What is going on; NULL: nothing is said of it. */
    const char *label;
    /** Where to; 0: standard error. */
    int fd;
    /** How many have failed: the caller's to count, in .on_failure, say. */
    uint64_t failed;
    /** What the bar remembers. */
    uint64_t began_ns;
    /** As above. */
    uint64_t drawn_ns;
    /** As above. */
    uint64_t shown;
} tine_progress;
#define TINE_PROGRESS_INIT { sizeof(tine_progress), NULL, 0, 0, 0, 0, 0 }

/**
 * A progress bar, for .progress of maps and loops, or to be called by hand.
 *
 * On a terminal it is a line with a bar, how many of how many, the rate, the time left and how many have failed, drawn at
 * most ten times a second and ended when done is total; elsewhere a plain line for each quarter. Rate and time count from the
 * first call: one with done 0 before the work begins makes them those of the whole work. It is written as any write
 * is: it waits for a terminal that has been stopped, unless the descriptor is non-blocking, and a pipe whose reader has
 * gone gives SIGPIPE.
 *
 * Parameters: done, total: items. user: a tine_progress, or NULL for all defaults; then only the end is shown. In a map: its
 * .user, so on_failure gets it too.
 * Threads: one at a time for one tine_progress.
 */
void tine_progress_bar(size_t done, size_t total, void *user);

/* ---- Streams of items ------------------------------------------------------------------------------------------ */

/** Results come as they finish, not in the order of the items. */
#define TINE_UNORDERED (1 << 18)

/**
 * Items go in one after the other, results come out in the same order or as they finish, and between the two there are
 * never more than a window allows: for input that does not fit into memory, or that has no end.
 *
 * Items are put (tine_stream_put) or drawn as there is room (.pull). Each is one call of a tine_fn, with tine_input and
 * tine_output, and has one result, whatever becomes of it, its worker or the supervisor. tine_next, tine_wait and the like
 * know nothing of a stream's items; while one has a result to give, tine_pool_fd is readable.
 *
 * Calls may be made from any thread, several at a time: one that puts and one that takes, say. A thread that does both
 * must not wait to put while the window is full of results that it has not taken. A child of fork() gets TINE_EFORKED.
 */
typedef struct tine_stream tine_stream;

/** What a stream can be told. */
typedef struct tine_stream_options {
    /** sizeof(tine_stream_options). */
    size_t size;
    /** Filled in when tine_stream_create fails; may be NULL. */
    tine_error *error;
    /** The name of a registered function, where fn is NULL. */
    const char *name;
    /** How many items may be in and their results not taken; 0: 16 for each worker. */
    size_t window_tasks;
    /** How many bytes the inputs of these may have together; 0: as many as the pool's .window_bytes. */
    size_t window_bytes;
    /** How long the call for each item may take, in nanoseconds; 0: the pool's .deadline_ns; TINE_FOREVER: any time. */
    int64_t item_deadline_ns;
    /**
     * How often an item may be run again after its process has died with it. Without TINE_IDEMPOTENT any number but 0 is
     * -EINVAL.
     */
    uint32_t retries;
    /**
     * TINE_IDEMPOTENT, TINE_UNORDERED, and TINE_STOP_ON_FAILURE: after the first item that fails no other begins. Those that
     * had not settle with -ECANCELED, further ones are refused with it, and the results of all are there to be taken.
     */
    uint32_t flags;
    /**
     * Draws an item: called by tine_stream_next, on its thread, while there is room in the window; NULL: items are put.
     * It gives 1 and says where the item is, which stays there until the next call, and what is to be carried to the
     * result's .user; 0 at the end; or a negative code, which ends the input as well and is what tine_stream_next gives
     * after the last result. An item longer than .window_bytes is drawn, and its result is -EMSGSIZE.
     */
    int (*pull)(void *user, const void **input, size_t *length, void **item);
    /** Given to .pull. */
    void *user;
} tine_stream_options;
#define TINE_STREAM_OPTIONS_INIT { sizeof(tine_stream_options), NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL }

/**
 * Begins a stream.
 *
 * Parameters: pool: also what tine_task_pool gives. fn: called for each item, or NULL and the option .name. options: NULL for
 * all defaults. out: where the stream goes.
 * Returns 0; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME, TINE_ESHUTDOWN, TINE_EWORKERSTART: as tine_submit; -EINVAL,
 * -E2BIG: bad options; TINE_EFORKED.
 * Ownership: tine_stream_destroy ends it, before the pool is destroyed. Threads: any.
 */
int tine_stream_create(tine_pool *pool, tine_fn fn, const tine_stream_options *options, tine_stream **out);

/**
 * Puts an item in.
 *
 * Parameters: stream. input, length: copied, unless it lies in the pool's heap, as with tine_submit; NULL and 0 for
 * none. user: carried to the result. timeout_ns: how long to wait while the window is full.
 * Returns 0: the item has a result to come; -EAGAIN, -ETIMEDOUT, -EINTR: the window is full; -EAGAIN also: no thread can
 * be started; -EMSGSIZE: longer than .window_bytes; -EPIPE: after tine_stream_end; -ECANCELED: an item has failed, with
 * TINE_STOP_ON_FAILURE; -EINVAL: the stream has .pull; -EFAULT, -ENOMEM, TINE_ESHUTDOWN, TINE_EWORKERSTART: as
 * tine_submit; TINE_EFORKED.
 */
int tine_stream_put(tine_stream *stream, const void *input, size_t length, void *user, int64_t timeout_ns);

/**
 * Says that no more items will be put; again is harmless.
 *
 * Returns 0; -EINVAL: stream is NULL; TINE_EFORKED.
 */
int tine_stream_end(tine_stream *stream);

/**
 * Waits for the next result, and takes it: that of the oldest item, or with TINE_UNORDERED of the first to settle.
 *
 * Parameters: stream. timeout_ns. out: a tine_result, with its .size set; .user is the item's.
 * Returns 0: an item has settled, whatever its .status; TINE_EEMPTY: the input has ended and all results are taken;
 * -ETIMEDOUT, -EAGAIN, -EINTR: not yet; what .pull has given, once; TINE_ESHUTDOWN, TINE_EWORKERSTART: nothing more can
 * come; -ENOMEM: the item that was drawn does not fit into the heap, and is kept; -EINVAL; TINE_EFORKED.
 * Ownership: what the result points to is valid until tine_result_release, with the stream's pool.
 */
int tine_stream_next(tine_stream *stream, int64_t timeout_ns, tine_result *out);

/**
 * Ends a stream. Items that have not begun never do, those that run are cancelled, and results that have not been taken are
 * gone; those that have are as they were.
 *
 * Parameters: stream: may be NULL. No other thread may be in a call on it.
 * Fork: in a child it forgets the stream, which goes on in the parent.
 */
void tine_stream_destroy(tine_stream *stream);

/* ---- Inside a task --------------------------------------------------------------------------------------------- */

/**
 * The input of a task, or the item of a map that is called by name.
 *
 * Parameters: task: the task. length: a place for the input's length in bytes, or NULL.
 * Returns where it is; aligned to 16 bytes unless it is the caller's own memory in the heap. It may be read until the
 * function returns; an input that was submitted from the heap is that very memory.
 */
const void *tine_input(const tine_task *task, size_t *length);

/**
 * The context of the map or loop that the task is part of; NULL and 0 where there is none.
 *
 * Parameters and rules as for tine_input.
 */
const void *tine_context(const tine_task *task, size_t *length);

/**
 * Room for the task's output, to be written in place; the result's .data and .length. Its first content is anything.
 *
 * A second call replaces the first. In a map that is called by name this is the item's place in out.
 *
 * Parameters: task: the task. length: in bytes.
 * Returns where it is, aligned to 16 bytes, or NULL: the heap is full, or an item's place is shorter than that.
 */
void *tine_output(tine_task *task, size_t length);

/** What identifies the task: the number that tine_submit gave, or the item's place in its map. */
uint64_t tine_task_id(const tine_task *task);

/**
 * The name by which the task's function is called: for a function that is registered under many names, because it stands
 * for those of another language.
 *
 * Returns the name, as it was registered; NULL where the function is called by its address. The string lives as long as
 * the process, and is the same one at each call by that name.
 */
const char *tine_task_name(const tine_task *task);

/**
 * Leaves something of the program's own for the tasks of this worker to find: what an initializer has opened or loaded.
 *
 * Parameters: task: the initializer's, or any other. state: anything; tine neither reads nor frees it.
 */
void tine_set_worker_state(tine_task *task, void *state);

/** What tine_set_worker_state has left in this worker; NULL if nothing was. */
void *tine_worker_state(const tine_task *task);

/**
 * Whether the task, or this item of its map, should return: it is past its deadline, or it was cancelled. One that
 * does not gets SIGTERM after half of the pool's .grace_ns, and SIGKILL after all of it. It costs next to nothing.
 */
bool tine_cancelled(const tine_task *task);

/**
 * The pool that runs the task, for what the task allocates there, and for what it submits to its own pool: tine_submit,
 * tine_map, tine_for and what follows them run the functions there and then, in the worker that calls, so that
 * nothing nested can wait for ever. What a task has submitted and not taken when it returns is released; what it
 * runs inside itself dies with it. Calls that are the host's (tine_pool_fd, tine_pool_stats, tine_pool_shutdown) give
 * TINE_EWORKER. The pool is valid as long as the worker lives, in all its threads.
 */
tine_pool *tine_task_pool(const tine_task *task);

/**
 * Fails a task with a text, which becomes the result's .message:
 *     return tine_fail(task, -EINVAL, "%s: not an image", path);
 *
 * Parameters: task. code: a negated errno value, -1 to -4095. format and what it takes: as for printf; up to 184
 * bytes of text are kept.
 * Returns code. A function that has called it and returns 0 has failed with that code all the same; with another code than
 * these, with TINE_EBADCODE.
 */
int tine_fail(tine_task *task, int code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;


/* ---- Memory: the pool's heap ----------------------------------------------------------------------------------- */

/**
 * A block of the pool's heap: shared memory at the same address in the host and in every worker, those to come too,
 * so that pointers into it mean the same everywhere.
 *
 * Its pages are reserved before it is handed out: full memory is NULL here, never a SIGBUS later.
 *
 * Parameters: pool: in a worker, what tine_task_pool gives. size: in bytes; 0 gives a block as well.
 * Returns the block, aligned to 16 bytes, its content anything; NULL: no memory, or the heap's limit is reached.
 * Ownership: until tine_free, from whatever process; the death of the process that allocated it does not end it.
 * Threads: any; not in a signal handler. Fork: NULL in a child of the host, and of a worker.
 */
void *tine_alloc(tine_pool *pool, size_t size);

/**
 * A block for an array, all of it zeroed.
 *
 * Parameters: pool; count: how many elements; size: of each, in bytes. A product that overflows is NULL.
 * Otherwise as tine_alloc.
 */
void *tine_calloc(tine_pool *pool, size_t count, size_t size);

/**
 * A block whose address is a multiple of alignment: for vectors, pages, direct I/O.
 *
 * Parameters: pool; alignment: in bytes, a power of two, otherwise NULL; size: in bytes.
 * Otherwise as tine_alloc. Alignments above 64 KiB are of whole 64 KiB pieces.
 */
void *tine_alloc_aligned(tine_pool *pool, size_t alignment, size_t size);

/**
 * Makes a block longer or shorter, in its place or in another one; its content goes along, an alignment does not.
 *
 * Parameters: pool; block: from the same pool, or NULL: then it is tine_alloc. size: in bytes; 0 gives a block as well.
 * Returns the block, which takes the old one's place; NULL: no memory, or not a block, and the old one is as it was.
 * Threads: any; nobody else may use the block meanwhile. Fork: NULL in a child of the host, and of a worker.
 */
void *tine_realloc(tine_pool *pool, void *block, size_t size);

/**
 * Gives a block back, from whatever process of the pool.
 *
 * Parameters: pool; block: of the same pool, or NULL. What is not the start of an allocated block is left alone: one
 * that was freed already, a pointer into a block, a pointer to something else. With TINE_CHECK=1 in the environment that
 * ends the process, with a message; tine_heap_free has a code for it, and for a block that cannot be found for want of memory, which
 * stays as well.
 * Threads: any; not in a signal handler. Fork: does nothing in a child of the host or of a worker.
 */
void tine_free(tine_pool *pool, void *block);

/**
 * How many bytes a block really has, which is at least what was asked for; all of them may be used.
 *
 * Returns 0 for NULL and for what is not the start of an allocated block. Threads: any. Fork: 0 in a child of the host.
 */
size_t tine_block_size(tine_pool *pool, const void *block);

/**
 * Whether every process of the pool can use these bytes: whether all of them lie in memory of the pool's heap, or of
 * one segment that tine_pool_share has passed to the workers.
 *
 * Parameters: pool; pointer; length: in bytes.
 * Returns 1 or 0; 0 for a NULL pointer; -EINVAL: pool is NULL. Threads: any. Fork: TINE_EFORKED in a child of the
 * host.
 */
int tine_is_shared(tine_pool *pool, const void *pointer, size_t length);

/* ---- Segments: shared memory of its own ------------------------------------------------------------------------ */

/** Only the process that creates the segment, and its forked children, can write; the kernel sees to it. */
#define TINE_SEGMENT_READ_ONLY (1 << 24)

/** Huge pages if there are enough, ordinary ones otherwise. */
#define TINE_SEGMENT_HUGE_PAGES (1 << 25)

/** Wherever there is room, instead of at the same address in every process. Pointers into it then mean nothing to others. */
#define TINE_SEGMENT_ANY_ADDRESS (1 << 26)

/** All pages are mapped at once, so that no first touch of one costs time later. */
#define TINE_SEGMENT_POPULATE (1 << 27)

/** A piece of shared memory, as one process has it mapped. */
typedef struct tine_segment tine_segment;

/** What a segment can be told. */
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
 * New shared memory, all of it zero, reserved, and of a size that nobody can change: touching it never fails.
 *
 * It is mapped at the same address in every process that attaches, so that pointers into it mean the same everywhere.
 * It has no name and leaves nothing behind: it is gone when the last process that has it is.
 *
 * Parameters: size: in bytes, not 0; options: NULL for all defaults; out: where the segment goes.
 * Returns 0; -ENOMEM: no memory, or a cgroup's or the process's limit is in the way; -EINVAL, -E2BIG: bad options;
 * -EMFILE, -ENFILE. Ownership: tine_segment_close. Threads: any. Fork: a child has it mapped as well, for writing too.
 */
int tine_segment_create(size_t size, const tine_segment_options *options, tine_segment **out);

/**
 * Maps a segment that another process has made.
 *
 * Parameters: fd: a descriptor of it, inherited or received; it stays the caller's. options: NULL for all defaults;
 * out: where the segment goes.
 * Returns 0; -EPERM: the memory could be shrunk by others, so it is not safe to touch; -EINVAL: not a segment, or bad
 * options; TINE_EVERSION: of another version of tine, or its locks are laid out for another C library; -EXDEV: made in
 * another PID namespace, where locks would take one thread for another; -EEXIST: something else is at its address
 * (TINE_SEGMENT_ANY_ADDRESS helps); -EACCES: fd was opened for reading only; -EBADF, -ENOMEM, -EMFILE.
 * Ownership: tine_segment_close. Threads: any. Fork: a child has it mapped as well.
 */
int tine_segment_attach(int fd, const tine_segment_options *options, tine_segment **out);

/** Where the segment's bytes begin: a multiple of 4096. NULL for NULL. Threads: any. Fork: the same in a child. */
void *tine_segment_address(const tine_segment *s);

/** How many bytes the segment has: what it was created with. 0 for NULL. Threads: any. */
size_t tine_segment_size(const tine_segment *s);

/**
 * A descriptor to pass to other processes: close-on-exec, and the segment's own, not to be closed.
 *
 * Returns the descriptor; -EINVAL for NULL; -EBADF: the program has closed it all the same. Threads: any.
 */
int tine_segment_fd(const tine_segment *s);

/**
 * Unmaps a segment in this process; others keep it. Pointers into it are dangling from here on.
 *
 * Parameters: s: may be NULL. No other thread may use it any more.
 * Returns 0; -EBUSY: a heap in it is open here (tine_heap_close), or a thread of this process holds a lock in it or
 * waits for one, as far as that can be known (not of a mutex that is TINE_PROCESS_OWNED); then the segment is as it was.
 * Fork: in a child it unmaps the child's.
 */
int tine_segment_close(tine_segment *s);

/**
 * Sends a segment to the process at the other end of a unix socket, without waiting.
 *
 * Parameters: socket: connected, of whatever type, used for whole segments only while one is on its way; s.
 * Returns 0; -EAGAIN: the socket is full; -EPIPE: nobody is there any more; -EMFILE: too many descriptors are on their way;
 * -ENOTSOCK: it is no socket; -EINVAL; -EBADF. Threads: any.
 */
int tine_segment_send(int socket, const tine_segment *s);

/**
 * Takes a segment that another process has sent with tine_segment_send, and maps it. It waits for one if the socket is
 * one that blocks.
 *
 * What this process cannot have at the moment stays in the socket, to be received again: after -EEXIST, say, with
 * TINE_SEGMENT_ANY_ADDRESS. What nobody could have is thrown away.
 *
 * Parameters: socket: one process at a time receives from it; options: NULL for all defaults; out: where the segment
 * goes.
 * Returns 0; -EAGAIN: none is there yet; -EPIPE: the other side is gone. It stays: -EMFILE: no descriptor is free;
 * -ENOMEM: no memory or address space; -EEXIST: something else is at its address. It is gone: -EPROTO: what came is no
 * message of tine_segment_send; -EPERM, -EXDEV, TINE_EVERSION and -EINVAL as for tine_segment_attach. -EINVAL for bad
 * options, -EBADF and -ENOTSOCK come before anything is looked at.
 * Ownership: tine_segment_close. Threads: any.
 */
int tine_segment_receive(int socket, const tine_segment_options *options, tine_segment **out);

/**
 * Has a segment mapped in every worker of a pool, at the address that it has here: pointers into it mean the same in all
 * of them. Workers to come get it too. Ones that are busy get it before their next task.
 *
 * Parameters: pool; s: stays the caller's, who may close it here; the workers keep it until the pool is destroyed; timeout_ns:
 * how long to wait for the workers, and for another thread's share; TINE_FOREVER waits for good.
 * Returns 0; -ETIMEDOUT, at 0 -EAGAIN: a worker that is not busy has not taken it, because it is stopped, say; nobody
 * shares it then, and it may be shared again; -EEXIST: something else is at its address in a worker, or in the range of
 * the pool's heap: nobody shares it then, and that worker is replaced; -EALREADY: it is shared; -ENOSPC: 64 segments
 * are; -EINVAL; -ENOMEM, -EMFILE; TINE_ESHUTDOWN, TINE_EWORKERSTART, TINE_EFORKED, TINE_EWORKER. A worker to come that
 * cannot have it is one that cannot be started: tasks say so when no worker is left.
 * Threads: any.
 */
int tine_pool_share(tine_pool *pool, tine_segment *s, int64_t timeout_ns);

/* ---- Heaps: the same for every heap, a pool's and one's own ---------------------------------------------------- */

/** A heap: that of a pool, or one of its own in a segment, for processes that have no pool in common. */
typedef struct tine_heap tine_heap;

/** What tine_heap_create and tine_heap_attach can be told. */
typedef struct tine_heap_options {
    /** sizeof(tine_heap_options). */
    size_t size;
    /** Filled in when the call fails; may be NULL. */
    tine_error *error;
} tine_heap_options;
#define TINE_HEAP_OPTIONS_INIT { sizeof(tine_heap_options), NULL }

/** What a heap holds. */
typedef struct tine_heap_info {
    /** sizeof(tine_heap_info). */
    size_t size;
    /** Bytes of the system's memory that are reserved for the heap; for one in a segment, for the segment. */
    uint64_t reserved_bytes;
    /** The most that were reserved at once. */
    uint64_t peak_bytes;
    /** Bytes of allocated blocks, rounded up to block sizes, of all processes together. */
    uint64_t used_bytes;
    /** How many allocated blocks there are. */
    uint64_t used_blocks;
} tine_heap_info;
#define TINE_HEAP_INFO_INIT { sizeof(tine_heap_info), 0, 0, 0, 0 }

/** What one process has allocated in a heap, and nobody has freed. */
typedef struct tine_heap_usage {
    /** sizeof(tine_heap_usage). */
    size_t size;
    /** The process. */
    int pid;
    /** 1: it has the heap; 0: it has died, or closed the heap. */
    int alive;
    /** Bytes of its blocks, rounded up to block sizes. */
    uint64_t bytes;
    /** How many blocks. */
    uint64_t blocks;
} tine_heap_usage;
#define TINE_HEAP_USAGE_INIT { sizeof(tine_heap_usage), 0, 0, 0, 0 }

/** Called with what one process has. A return other than 0 ends the listing. */
typedef int (*tine_heap_usage_fn)(const tine_heap_usage *usage, void *user);

/** Called with one block and its size in bytes. A return other than 0 ends the listing. */
typedef int (*tine_heap_block_fn)(void *block, size_t length, void *user);

/**
 * The heap of a pool. tine_alloc(pool, size) is short for tine_heap_alloc(tine_pool_heap(pool), size), and so on.
 *
 * Parameters: pool: in a worker, what tine_task_pool gives.
 * Returns the heap, which lives and ends with the pool; NULL for NULL. Threads: any.
 */
tine_heap *tine_pool_heap(tine_pool *pool);

/**
 * The heap of this process in which an address lies: the pool's, or one that tine_heap_create or tine_heap_attach has
 * opened and that is not closed. So it tells whether the heap behind a pointer that was kept is still open.
 *
 * Returns the heap, as its other calls take it, or NULL. In a worker its pool's is found once tine_task_pool was called.
 * Ownership: as before. Threads: any, while no other closes the heap. Fork: NULL in a child, but for heaps of its own.
 */
tine_heap *tine_heap_find(const void *address);

/**
 * A pointer that goes with a heap's handle in this process, for who writes a language's binding: tag from now on if there was
 * none. NULL asks only.
 *
 * Returns the pointer that goes with it now; NULL: none, or heap is NULL. Threads: any; of several that give one, one does.
 */
void *tine_heap_tag(tine_heap *heap, void *tag);

/**
 * Makes a heap in a segment, which it takes up as a whole. Every process that has the segment may attach, and allocate
 * and free blocks in it; a pointer to a block means the same in all of them.
 *
 * Parameters: s: of at least 256 KiB, without TINE_SEGMENT_READ_ONLY and TINE_SEGMENT_ANY_ADDRESS, and not used for
 * anything else. options: NULL for all defaults. out: where the heap goes.
 * Returns 0; -EEXIST: there is a heap in the segment, or something else; -EINVAL: the segment is too small, or not at its
 * address; -EACCES: it is for reading only; -EMFILE; -ENOMEM: then there is no heap in it.
 * Ownership: tine_heap_close, which tine_segment_close wants first. Threads: any. Fork: a child attaches for itself.
 */
int tine_heap_create(tine_segment *s, const tine_heap_options *options, tine_heap **out);

/**
 * Opens the heap that another process has made in a segment.
 *
 * Parameters: s; options: NULL for all defaults; out: where the heap goes.
 * Returns 0; -EINVAL: there is no heap in the segment, or the segment is not at its address; TINE_EVERSION: the heap was made
 * by another version of tine; -ENOSPC: it is open 252 times; -EACCES: the segment is for reading only; -EMFILE; -ENOMEM.
 * Ownership: tine_heap_close. Threads: any. Fork: a child attaches for itself.
 */
int tine_heap_attach(tine_segment *s, const tine_heap_options *options, tine_heap **out);

/**
 * Leaves a heap that tine_heap_create or tine_heap_attach has given. The blocks stay: those of this process are listed
 * under its number. Queues in it stay for other processes; in this one their descriptors are closed, and their pointers
 * are -EINVAL, unless it has the same heap open once more.
 *
 * Parameters: heap: may be NULL. No other thread may use it any more.
 * Returns 0; -EINVAL: it is a pool's; -EBUSY: a thread of this process is in a call on a queue in the heap, or has a
 * message of one in its hands, or holds a lock in it or waits for one, as far as that can be known;
 * -ENOMEM: it has the descriptors of thousands of queues, and no memory to list them. Then everything is as it was.
 * Fork: in a child it forgets the heap, which the parent has.
 */
int tine_heap_close(tine_heap *heap);

/**
 * A block: what tine_alloc says of a pool's holds for any heap, with the processes that have the heap for those of the
 * pool.
 *
 * Returns the block, or NULL. Threads: any; not in a signal handler. Fork: NULL in a child.
 */
void *tine_heap_alloc(tine_heap *heap, size_t size);

/** As tine_calloc. */
void *tine_heap_calloc(tine_heap *heap, size_t count, size_t size);

/** As tine_alloc_aligned. */
void *tine_heap_alloc_aligned(tine_heap *heap, size_t alignment, size_t size);

/** As tine_realloc. */
void *tine_heap_realloc(tine_heap *heap, void *block, size_t size);

/**
 * As tine_free, with an answer.
 *
 * Returns 0, in the heap's own process for NULL too; -EINVAL: the block was freed already, or is no block's start, or
 * not in this heap: nothing is changed (with TINE_CHECK=1 in the environment the process ends, with a message);
 * TINE_EFORKED. Where another process has made the heap longer, and this one cannot look how long it is, nothing is
 * changed either: -ENOMEM, or -EPERM and -ENOSYS where that look is refused; the block can be freed later.
 */
int tine_heap_free(tine_heap *heap, void *block);

/** As tine_block_size. */
size_t tine_heap_block_size(tine_heap *heap, const void *block);

/**
 * Whether all of these bytes lie in memory of the heap.
 *
 * Returns 1 or 0; 0 for NULL; -EINVAL; TINE_EFORKED. Threads: any.
 */
int tine_heap_contains(tine_heap *heap, const void *pointer, size_t length);

/**
 * What the heap holds, counted by a walk over it; other processes may allocate and free meanwhile.
 *
 * Parameters: heap; out: a tine_heap_info, with its .size set.
 * Returns 0; -EINVAL; TINE_EFORKED. Threads: any.
 */
int tine_heap_stats(tine_heap *heap, tine_heap_info *out);

/**
 * Lists what each process has in the heap: those that have it, and those that have ended and left blocks. Of a pool's:
 * the host, each worker, and each worker that has died and left blocks.
 *
 * Parameters: heap; visit: called once for each, on this thread; it may use the heap. user: passed on.
 * Returns how many there are, or what visit returned other than 0; -EINVAL; -ENOMEM; TINE_EFORKED; TINE_EWORKER for a pool's
 * heap. Threads: any.
 */
int tine_heap_processes(tine_heap *heap, tine_heap_usage_fn visit, void *user);

/**
 * Lists the blocks that a process had when it died, or closed the heap, and nobody has freed since.
 *
 * They stay as they are: other processes may have pointers to them. Memory that tine itself had taken for a worker
 * is not among them, it is free again.
 *
 * Parameters: heap; pid; visit: called once for each block, on this thread; it may free it. user: passed on.
 * Returns how many there are, 0 for a process that left nothing, or what visit returned other than 0; -EINVAL; -ENOMEM;
 * TINE_EFORKED; TINE_EWORKER for a pool's heap. Threads: any.
 */
int tine_heap_blocks(tine_heap *heap, int pid, tine_heap_block_fn visit, void *user);

/**
 * Frees all blocks that a process had when it died: for when nobody has a pointer to any of them.
 *
 * Parameters: heap; pid: of a process that has died or closed the heap.
 * Returns how many blocks it freed; -EBUSY: the process is not known to have ended; -EINVAL; TINE_EFORKED; TINE_EWORKER
 * for a pool's heap. Threads: any.
 */
int tine_heap_release_process(tine_heap *heap, int pid);

/**
 * Gives the memory that nothing is in back to the system, whoever had allocated and freed it. Without it, some of a pool's heap
 * stays reserved for the next blocks (32 MiB, half of what is in use, or four times the largest block that was freed lately), and
 * all of a segment; memory that was given back is reserved anew for the next blocks, or they are NULL.
 *
 * Parameters: heap.
 * Returns 0; -EINVAL; TINE_EFORKED. Threads: any.
 */
int tine_heap_trim(tine_heap *heap);

/* ---- Mutexes, and what holds for all locks --------------------------------------------------------------------- */

/** A mutex whose holder may lock it again, and unlocks it as often. */
#define TINE_RECURSIVE 2

/**
 * A mutex that a process holds, not a thread: any thread of it may unlock it, and only the whole process's death is
 * its holder's. For runtimes that move work between threads. Another thread of the holder waits like anybody else.
 */
#define TINE_PROCESS_OWNED 4

/** A lock on data that a death can't tear: who takes it from a dead holder gets -EOWNERDEAD, but need not repair it. */
#define TINE_AUTO_REPAIR 8

/** An event that clears itself when it lets a waiter go. */
#define TINE_AUTO_RESET 16

/** A reader-writer lock on which readers don't wait for a writer that waits. It may starve writers. */
#define TINE_PREFER_READERS 32

/** How many locks a thread may hold at a time, read locks and barriers that it waits at included. One more is -ENOLCK. */
#define TINE_MOST_HELD 128

/**
 * One at a time, among threads and processes.
 *
 * All locks of the family are plain memory of the caller's, aligned to 8 bytes: in a heap, in any MAP_SHARED memory, at
 * another address in each process if need be, or in private memory for threads of one process. All-zero memory is a
 * free lock without flags. No call allocates or frees anything for them, and there is nothing to destroy. The content is
 * tine's.
 *
 * The memory must stay mapped while a call on it runs or a lock in it is held, and a lock must be released through the
 * address by which it was taken. A thread that has unlocked a mutex may free, unmap or make anew its memory at once, if nobody else
 * will ask for the mutex. The unlocking call of the holder before may still be running then: it no longer touches the
 * mutex.
 *
 * A thread or process that ends, is killed, or executes another program while it holds a lock, at whatever instruction,
 * leaves it to the next taker, who gets -EOWNERDEAD. A child of fork() holds nothing. As a rule the kernel says at once
 * that a holder has ended. Where it can't (a robust list that is damaged, replaced, too long or refused by a sandbox,
 * kernels before 6.2, TINE_FORCE_NO=robust in the environment), who waits finds out within 50 ms by looking, and who only
 * tries, or has no more time, looks before it gives up. A holder is known by its number and, from Linux 6.9 on or with
 * /proc, by what tells it from a later one of the same number; of one that was refused both, the end is seen only once
 * its number is free.
 *
 * Threads of one PID namespace only may share a lock; others get -EXDEV, as does a process that can't find out which is
 * its own: without /proc, before Linux 6.11.
 *
 * Locks are not for signal handlers. A call that waits is no cancellation point: a thread that is cancelled in it waits on
 * and is cancelled afterwards; asynchronous cancelling must be off.
 */
typedef struct tine_mutex {
    /** tine's. */
    uint64_t opaque[8];
} tine_mutex;
#define TINE_MUTEX_INIT { {0} }

/** Who holds a mutex, or died holding it. */
typedef struct tine_owner {
    /** sizeof(tine_owner). */
    size_t size;
    /** The holder's process; 0 where nobody holds the mutex. */
    int32_t pid;
    /** The holder's thread; for TINE_PROCESS_OWNED, the one that took the mutex. */
    int32_t tid;
    /** When the thread, or for TINE_PROCESS_OWNED the process, started: field 22 of /proc/PID/stat. 0 where not known. */
    uint64_t start_time;
    /**
     * The process that died holding it, until the mutex is repaired or unlocked; 0 where none did, or where it died
     * between taking the mutex and signing for it.
     */
    int32_t dead_pid;
    /** Its thread. */
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
int tine_mutex_init(tine_mutex *m, uint32_t flags);

/**
 * Takes the mutex, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits.
 *
 * A thread-owned mutex belongs to the operating system's thread: a goroutine or coroutine must be pinned to its thread
 * (runtime.LockOSThread) from lock to unlock, or the mutex made TINE_PROCESS_OWNED.
 *
 * Returns 0: taken. -EOWNERDEAD: taken from a holder that died; make the data whole and call tine_mutex_repair(), or
 * unlocking makes the mutex useless for good (-ENOTRECOVERABLE). Otherwise it was not taken: -EAGAIN (0 ns),
 * -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only), -EDEADLK: the caller holds it; -ENOTRECOVERABLE; -ENOLCK: the thread
 * holds TINE_MOST_HELD locks; -EXDEV: another PID namespace's, or its own not known; -EINVAL: NULL or misaligned; -ENOMEM at a
 * thread's first. -EDEADLK also by another mapping of the same memory; but TINE_PROCESS_OWNED, which another thread may
 * unlock, waits.
 */
int tine_mutex_lock(tine_mutex *m, int64_t timeout_ns);

/**
 * Releases the mutex, and wakes one waiter if there is any.
 *
 * Returns 0; -EPERM: the caller does not hold it (nor did it before fork()); -EINVAL: NULL or misaligned.
 */
int tine_mutex_unlock(tine_mutex *m);

/**
 * Says that the data is whole again which a dead holder may have torn. For the holder that got -EOWNERDEAD.
 *
 * Returns 0; -EPERM: the caller does not hold it; -EINVAL: there is nothing to repair, or NULL or misaligned.
 */
int tine_mutex_repair(tine_mutex *m);

/**
 * For a mutex in a file, or a copy of one, that nobody has open any more: whoever held it there is not coming back,
 * though its number may be in use by now, after a restart or in another PID namespace. The next taker gets
 * -EOWNERDEAD if it was held, and whatever was to be repaired still is.
 *
 * To be called once, by who opens such memory, before anybody else uses it; see tine_rwlock_reopen() and
 * tine_once_reopen() as well. Semaphores, conditions and barriers are made anew by their init; an event needs nothing.
 *
 * Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_mutex_reopen(tine_mutex *m);

/**
 * Says who holds the mutex, for messages: it may have changed hands when the call returns. out->size is set by
 * TINE_OWNER_INIT.
 *
 * Returns 0; -EINVAL: NULL, misaligned, or a size that is none. Any thread of any process; nothing is changed.
 */
int tine_mutex_owner(const tine_mutex *m, tine_owner *out);

/* ---- Reader-writer locks --------------------------------------------------------------------------------------- */

/** How many threads have a place of their own for reading at a time; more share places by process. */
#define TINE_RWLOCK_READERS 15

/**
 * Many readers or one writer, among threads and processes. What holds for tine_mutex holds here.
 *
 * A dead reader is forgotten. A dead writer is reported to the next writer, who repairs or loses the lock, and to the
 * readers before that. A writer that dies while it waits was never inside, and is forgotten.
 *
 * A thread has one place, however often it reads. Threads beyond TINE_RWLOCK_READERS are counted by process, up to 1,023 reads
 * in each of 60 processes, and still more wait: such a process's reads end with the
 * process, not with the thread.
 *
 * The last to have the lock for writing may free or unmap it, or make it anew, once its unlock has returned.
 */
typedef struct tine_rwlock {
    /** tine's. */
    uint64_t opaque[128];
} tine_rwlock;
#define TINE_RWLOCK_INIT { {0} }

/**
 * Makes l a free lock. flags: TINE_PREFER_READERS, TINE_INTERRUPTIBLE, TINE_AUTO_REPAIR. Without the first, a
 * writer that waits lets no new readers in, but for threads that read already; with it, readers wait for nobody but a writer
 * that is inside. Nobody may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: l is NULL or not aligned to 8 bytes, or unknown flags.
 */
int tine_rwlock_init(tine_rwlock *l, uint32_t flags);

/**
 * Takes the lock for reading, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits. A thread may
 * read-lock again what it has read-locked, and unlocks as often.
 *
 * Returns 0: taken. -EOWNERDEAD: taken, but a writer died and no writer has repaired the data since. Otherwise not taken:
 * -EAGAIN (0 ns), -ETIMEDOUT, -EINTR, -EDEADLK: the caller holds it for writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV,
 * -EINVAL, -ENOMEM as for tine_mutex_lock().
 */
int tine_rwlock_read_lock(tine_rwlock *l, int64_t timeout_ns);

/**
 * Takes the lock for writing, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits.
 *
 * Returns 0: taken. -EOWNERDEAD: taken, but a writer died: make the data whole and call tine_rwlock_repair(), or
 * unlocking makes the lock useless for good (-ENOTRECOVERABLE). Otherwise not taken: -EAGAIN (0 ns), -ETIMEDOUT, -EINTR,
 * -EDEADLK: the caller holds it, for reading or writing; -ENOTRECOVERABLE, -ENOLCK, -EXDEV, -EINVAL, -ENOMEM as for
 * tine_mutex_lock().
 */
int tine_rwlock_write_lock(tine_rwlock *l, int64_t timeout_ns);

/**
 * Releases what the calling thread holds: the write lock, or one of its read locks.
 *
 * Returns 0; -EPERM: the thread holds neither; -EINVAL: NULL or misaligned.
 */
int tine_rwlock_unlock(tine_rwlock *l);

/**
 * Says that the data is whole again which a dead writer may have torn. For a writer that got -EOWNERDEAD.
 *
 * Returns 0; -EPERM: the caller does not hold it for writing; -EINVAL: there is nothing to repair, NULL, misaligned.
 */
int tine_rwlock_repair(tine_rwlock *l);

/**
 * For memory that outlived its processes, as tine_mutex_reopen(): nobody reads any more, and a writer there has died.
 *
 * Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_rwlock_reopen(tine_rwlock *l);

/* ---- Semaphores, conditions, events ---------------------------------------------------------------------------- */

/**
 * Units that are taken and given back, by any thread of any process. All-zero memory has none, and no limit below
 * INT32_MAX. A unit that a dead process had taken is gone; a wake-up never is.
 *
 * Whoever got a unit may free or unmap the semaphore, or make it anew, as soon as nobody else is to use it: the call that
 * gave the unit does not touch the memory any more, even if it has not returned yet.
 */
typedef struct tine_semaphore {
    /** tine's. */
    uint64_t opaque[8];
} tine_semaphore;
#define TINE_SEMAPHORE_INIT { {0} }

/**
 * Waiting for something to become true that a mutex protects. All-zero memory is one that nobody waits for. A
 * notification whose receiver is killed goes to another waiter. Waits may end without a notification: test again.
 */
typedef struct tine_condition {
    /** tine's. */
    uint64_t opaque[8];
} tine_condition;
#define TINE_CONDITION_INIT { {0} }

/**
 * Something that has happened, or not yet. All-zero memory is one that has not, and stays set once it is.
 *
 * Whoever was told that it is set may free or unmap the event, or make it anew, as soon as nobody else is to wait for it:
 * the call that set it does not touch the memory any more, even if it has not returned yet.
 */
typedef struct tine_event {
    /** tine's. */
    uint64_t opaque[8];
} tine_event;
#define TINE_EVENT_INIT { {0} }

/**
 * Gives s value free units out of at most max; a max of 0 is as many as fit. flags: TINE_INTERRUPTIBLE. Nobody
 * may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: s is NULL or not aligned to 8 bytes, value above max, max above INT32_MAX, unknown flags.
 */
int tine_semaphore_init(tine_semaphore *s, uint32_t value, uint32_t max, uint32_t flags);

/**
 * Takes one unit, waiting for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits.
 *
 * Returns 0; -EAGAIN (0 ns), -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only); -EINVAL: NULL or misaligned; -ENOMEM.
 */
int tine_semaphore_acquire(tine_semaphore *s, int64_t timeout_ns);

/**
 * Gives n units, all or none. Who gives them need not have taken them. May be called in signal handlers, whatever call
 * of tine's or the C library's they interrupt.
 *
 * Returns 0; -EOVERFLOW: there would be more than max; -EINVAL: NULL or misaligned; -ENOMEM where somebody waits, at a
 * thread's first call.
 */
int tine_semaphore_release(tine_semaphore *s, uint32_t n);

/** The units that are free at this moment, or -EINVAL: NULL or misaligned. */
int tine_semaphore_value(const tine_semaphore *s);

/**
 * Makes c a condition that nobody waits for. flags: TINE_INTERRUPTIBLE. Nobody may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: c is NULL or not aligned to 8 bytes, or unknown flags.
 */
int tine_condition_init(tine_condition *c, uint32_t flags);

/**
 * Releases m, which the caller has locked once, waits for a notification for up to timeout_ns nanoseconds, and takes
 * m back, however long that takes. All waiters of a condition use the same mutex.
 *
 * Returns, with m held: 0: notified, or for no reason; -EOWNERDEAD: m was taken back from a holder that died, which
 * is said rather than -ETIMEDOUT: repair the data and m, and notify all; -ETIMEDOUT; -EAGAIN (0 ns), without having
 * released m; -EINTR (a TINE_INTERRUPTIBLE condition). -ENOTRECOVERABLE: m is not held, and never will be. Nothing
 * was done: -EPERM: the caller does not hold m; -EINVAL: NULL, misaligned, or m is locked more than once; -ENOMEM.
 */
int tine_condition_wait(tine_condition *c, tine_mutex *m, int64_t timeout_ns);

/**
 * Wakes n waiters, or as many as there are. What they wait for should be changed with their mutex held; the mutex may
 * be held here or not.
 *
 * Returns 0; -EINVAL: NULL or misaligned; -ENOMEM at a thread's first call.
 */
int tine_condition_notify(tine_condition *c, uint32_t n);

/** Wakes all waiters. Returns as tine_condition_notify(). */
int tine_condition_notify_all(tine_condition *c);

/**
 * Makes e an event that is not set. flags: TINE_AUTO_RESET, TINE_INTERRUPTIBLE. Nobody may use the memory meanwhile.
 *
 * Returns 0; -EINVAL: e is NULL or not aligned to 8 bytes, or unknown flags.
 */
int tine_event_init(tine_event *e, uint32_t flags);

/**
 * Sets the event and lets all waiters go, even if it is cleared before they run; with TINE_AUTO_RESET, one. May be called
 * in signal handlers.
 *
 * Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_event_set(tine_event *e);

/** Clears the event. Returns 0; -EINVAL: NULL or misaligned. */
int tine_event_clear(tine_event *e);

/** 1 if the event is set at this moment, 0 if not; -EINVAL: NULL or misaligned. */
int tine_event_is_set(const tine_event *e);

/**
 * Waits until the event is set, for up to timeout_ns nanoseconds; 0 tries, TINE_FOREVER waits. With TINE_AUTO_RESET
 * one waiter clears it; if that one is killed before it has, another does.
 *
 * Returns 0; -EAGAIN (0 ns), -ETIMEDOUT, -EINTR (TINE_INTERRUPTIBLE only); -EINVAL: NULL or misaligned; -ENOMEM.
 */
int tine_event_wait(tine_event *e, int64_t timeout_ns);

/**
 * How often the event has been cleared, for tine_event_wait_after: a number below 2^30, after which it begins anew.
 * -EINVAL: NULL or misaligned.
 */
int tine_event_cleared(const tine_event *e);

/**
 * Waits as tine_event_wait does, and returns 0 also where the event has been set and cleared again since
 * tine_event_cleared gave cleared. So a wait that is split into several calls misses no setting of the event. A
 * single tine_event_wait misses none either. With TINE_AUTO_RESET it is tine_event_wait.
 *
 * Returns the codes of tine_event_wait.
 */
int tine_event_wait_after(tine_event *e, int cleared, int64_t timeout_ns);

/* ---- Barriers, and what is done once --------------------------------------------------------------------------- */

/** The barrier is broken. */
#define TINE_EBROKEN -5015

/** The most parties that a barrier can have. */
#define TINE_BARRIER_PARTIES 128

/**
 * A meeting of a fixed number of threads, of any processes, again and again. What holds for tine_mutex holds here, but
 * all-zero memory is no barrier: tine_barrier_init() says how many parties it is for.
 *
 * A party that dies while it waits breaks the barrier: everybody gets TINE_EBROKEN until tine_barrier_reset(). One that
 * never comes is found by the timeout.
 *
 * Whoever gets 1 may free, unmap or make anew the barrier at once: it was the last to leave, and no other party's call
 * looks at the memory any more. The others may not, unless they know by other means that all calls have returned.
 */
typedef struct tine_barrier {
    /** tine's. */
    uint64_t opaque[648];
} tine_barrier;

/**
 * Something that is done once, by whichever process comes first. All-zero memory is one that has not been done; what
 * holds for tine_mutex holds here.
 */
typedef struct tine_once {
    /** tine's. */
    uint64_t opaque[8];
} tine_once;
#define TINE_ONCE_INIT { {0} }

/**
 * Makes b a barrier for so many parties, from 1 to TINE_BARRIER_PARTIES. flags: TINE_INTERRUPTIBLE. Nobody may use
 * the memory meanwhile.
 *
 * Returns 0; -EINVAL: b is NULL or not aligned to 8 bytes, a number of parties out of range, unknown flags.
 */
int tine_barrier_init(tine_barrier *b, uint32_t parties, uint32_t flags);

/**
 * Waits until all parties have come, for up to timeout_ns nanoseconds; TINE_FOREVER waits. A wait that runs out of time
 * breaks the barrier for the others; with 0, a party that isn't the last has not come at all.
 *
 * Returns 1 for one of the parties, the last to leave, and 0 for the others; nobody gets 1 where a party is killed on its
 * way out. TINE_EBROKEN: a party died or ran out of time, or the barrier was
 * aborted or reset; -EAGAIN (0 ns); -ETIMEDOUT: the barrier is broken now; -EINTR (TINE_INTERRUPTIBLE only): the party
 * has not come; -EINVAL: NULL, misaligned, or no barrier; -ENOLCK: the thread holds TINE_MOST_HELD locks, or more threads
 * than twice the parties are in the barrier; -EXDEV: another PID namespace's; -ENOMEM.
 */
int tine_barrier_wait(tine_barrier *b, int64_t timeout_ns);

/**
 * Makes the barrier as new: it isn't broken, and nobody waits; those that did get TINE_EBROKEN.
 *
 * Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_barrier_reset(tine_barrier *b);

/**
 * Breaks the barrier: those that wait and those that come get TINE_EBROKEN until it is reset.
 *
 * Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_barrier_abort(tine_barrier *b);

/** 1 if the barrier is broken, 0 if not; -EINVAL: NULL or misaligned. */
int tine_barrier_broken(const tine_barrier *b);

/** How many parties the barrier is for, or -EINVAL: NULL or misaligned. */
int tine_barrier_parties(const tine_barrier *b);

/** How many parties wait at this moment, or -EINVAL: NULL or misaligned. */
int tine_barrier_waiting(const tine_barrier *b);

/**
 * Calls initializer(user) unless one has succeeded on this o before, in whatever process; waits for one that runs,
 * for up to timeout_ns nanoseconds (0 tries, TINE_FOREVER waits).
 *
 * An initializer that returns something other than 0 has failed: its caller gets that number, and the next caller's
 * initializer runs. So does the next one after an initializer whose process died, and it may find things half done. An
 * initializer must not throw or longjmp out.
 *
 * Who was told that it is done, and knows that nobody else will ask, may free or unmap the memory at once, though the
 * call that ran the initializer has perhaps not returned.
 *
 * Returns 0: done, now or before; what the initializer returned; -EAGAIN (0 ns), -ETIMEDOUT; -EDEADLK: called from the
 * initializer; -EINVAL: NULL or misaligned; -ENOLCK, -EXDEV, -ENOMEM as for tine_mutex_lock().
 */
int tine_once_call(tine_once *o, int (*initializer)(void *user), void *user, int64_t timeout_ns);

/**
 * For memory that outlived its processes, as tine_mutex_reopen(): what was done stays done, what was being done is done
 * anew.
 *
 * Returns 0; -EINVAL: NULL or misaligned.
 */
int tine_once_reopen(tine_once *o);

/* ---- Queues ---------------------------------------------------------------------------------------------------- */

/** How many messages a queue can be made for. */
#define TINE_MOST_MESSAGES (1 << 26)

/** How many bytes a queue can be made for, and so the longest message. */
#define TINE_MOST_MESSAGE_BYTES 4294967040

/**
 * A queue of messages between processes: many producers, many consumers.
 *
 * It lies in a pool's heap, and a pointer to it is valid in the host and in every worker, those to come too: pass it in a
 * task's input. Or it lies in a heap of its own in a segment, and the pointer is valid in every process that has the heap
 * open, until it closes it. What one producer puts is got in that order, and each message by one consumer. When a put has
 * returned 0, the message is in the queue for whoever gets it next; there is no thread that would still have to send it.
 *
 * A process that is killed, at whatever instruction, blocks nobody. A producer takes along what it had not put yet, at
 * most one message, or one call's; a consumer what it had taken, at most one message, or one call's. No message is got
 * twice.
 *
 * Calls may be made from any thread of these processes. A child of fork() gets TINE_EFORKED, or -EINVAL once it has a pool
 * or an open heap of its own, by which it may use the queues in that heap. A pointer that is no queue of a living pool or
 * an open heap of this process is -EINVAL, as is one that has been destroyed. -EBADMSG means that somebody has written
 * into the queue's memory. -EXDEV, -ENOMEM and -ENOLCK are as for tine_mutex_lock.
 */
typedef struct tine_queue tine_queue;

/** What a queue can be told. */
typedef struct tine_queue_options {
    /** sizeof(tine_queue_options). */
    size_t size;
    /** Filled in when tine_queue_create fails; may be NULL. */
    tine_error *error;
    /** How many messages the queue holds; 0: 1,024. */
    size_t capacity_messages;
    /**
     * How many bytes of messages it holds together, and so how long one may be; 0: 1 MiB, or 64 bytes for each message
     * where that is more. A message counts as its length rounded up to 16, one of up to 8 bytes not at all. The queue
     * takes up twice that and 16 bytes per message of the heap, both rounded up to powers of two.
     */
    size_t capacity_bytes;
    /** TINE_INTERRUPTIBLE. */
    uint32_t flags;
    /** 0. */
    uint32_t reserved;
    /**
     * With pool NULL: the heap in which the queue lies, for processes that have no pool in common. tine_heap_create makes
     * one in a segment.
     */
    tine_heap *heap;
} tine_queue_options;
#define TINE_QUEUE_OPTIONS_INIT { sizeof(tine_queue_options), NULL, 0, 0, 0, 0, NULL }

/**
 * Makes a queue in a pool's heap, or in the one that the options name.
 *
 * Parameters: pool: in a worker, what tine_task_pool gives; NULL where options->heap is given. options: NULL for all
 * defaults. out: where the pointer goes.
 * Returns 0; -EINVAL, -E2BIG: bad options; -ENOMEM: no memory, or the heap's limit is reached; TINE_EFORKED.
 * Ownership: until tine_queue_destroy, from whatever process, or the end of the pool or the segment; the death of its
 * maker does not end it. Its memory is a block of the process that made it, for tine_heap_blocks and
 * tine_heap_release_process.
 */
int tine_queue_create(tine_pool *pool, const tine_queue_options *options, tine_queue **out);

/**
 * Ends a queue and gives its memory back; what is in it is gone.
 *
 * It may be called, in any process, as soon as every call on the queue has returned, by whatever thread of whatever
 * process, or its process has died; and no call may follow. From when it returns the memory may be another block, and
 * nothing of the queue is touched any more: not by processes that have a descriptor of it either (tine_queue_fd). It waits
 * for their threads to let go, for a second at most: where one of them is stopped, the memory stays taken, and is listed
 * under the process that made the queue. Their descriptors become readable, for a tine_queue_get that returns -EINVAL.
 *
 * Parameters: q: may be NULL; what is no queue is left alone. Threads: any; of several that call it, one does it. Fork: does
 * nothing in a child.
 */
void tine_queue_destroy(tine_queue *q);

/**
 * Puts one message, waiting for up to timeout_ns nanoseconds for room; 0 tries, TINE_FOREVER waits.
 *
 * One that tries never waits: while another producer is in the middle of a put, or waits for room, it is -EAGAIN too.
 *
 * Parameters: data: copied; may be NULL where length is 0. length: in bytes, up to the queue's capacity.
 * Returns 0; -EAGAIN, -ETIMEDOUT: no room; -EPIPE: the queue is closed; -EMSGSIZE: longer than the queue can hold;
 * -EDEADLK: the thread has reserved a message; -EINTR; -EINVAL, also for a length above SSIZE_MAX.
 */
int tine_queue_put(tine_queue *q, const void *data, size_t length, int64_t timeout_ns);

/**
 * Takes the next message, waiting for up to timeout_ns nanoseconds for one; 0 tries, TINE_FOREVER waits.
 *
 * One that tries never waits: while another consumer is in the middle of a get, or waits for a message, it is -EAGAIN too.
 *
 * Parameters: buffer, capacity: where the message goes; NULL where capacity is 0. length: its length; may be NULL.
 * Returns 0; -EAGAIN, -ETIMEDOUT: no message; -EPIPE: none, and the queue is closed; -EMSGSIZE: it is longer than
 * capacity; it stays, and *length is what it needs; -EDEADLK: the thread looks at a message in place; -EINTR; -EINVAL.
 */
int tine_queue_get(tine_queue *q, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length);

/**
 * Nothing more is put. Producers get -EPIPE at once, those that wait too; consumers get what is in the queue, and then
 * -EPIPE. Closing again is fine. Any process may do it.
 *
 * Returns 0; -EINVAL.
 */
int tine_queue_close(tine_queue *q);

/** How many messages are in the queue at this moment; 0 where q is no queue. */
size_t tine_queue_count(const tine_queue *q);

/** Whether there is no message in the queue at this moment; true where q is no queue. */
bool tine_queue_is_empty(const tine_queue *q);

/**
 * Says that a message which was got has been dealt with, for tine_queue_join.
 *
 * Returns 0; -EINVAL: said more often than messages were put, or no queue.
 */
int tine_queue_task_done(tine_queue *q);

/**
 * Waits until tine_queue_task_done was called for every message that was put.
 *
 * A consumer that was killed has not called it for the message in its hands: whoever takes its work over does, or the
 * wait should have a limit.
 *
 * Returns 0; -EAGAIN, -ETIMEDOUT, -EINTR; -EINVAL.
 */
int tine_queue_join(tine_queue *q, int64_t timeout_ns);

/**
 * A descriptor that is readable while there may be something to get: from when a message comes, or the queue is closed,
 * until a tine_queue_get of this process returns -EAGAIN or -ETIMEDOUT. For poll, select, epoll; not to be read or
 * closed.
 *
 * The first call starts a thread in this process, which sleeps until there is a message. tine_queue_destroy in this
 * process, tine_heap_close or the end of the pool ends it and closes the descriptor. tine_queue_destroy in another process
 * ends it, and leaves the descriptor readable and open until then, or until this process asks for that of another queue
 * at the same address.
 *
 * Returns the descriptor, which stays the queue's; -EINVAL; -EMFILE, -EAGAIN: no descriptor, no thread; -ENOLCK: too many
 * processes watch it.
 */
int tine_queue_fd(tine_queue *q);

/* ---- Queues: many messages at a time, and messages in place ---------------------------------------------------- */

/**
 * Puts several messages, which lie one behind the other in data: cheaper than one by one. Those for which there is
 * room at a time become visible together; the others wait for room.
 *
 * Parameters: lengths: of each message, in bytes. count: how many. The rest as for tine_queue_put.
 * Returns how many were put: fewer than count where the time ran out, the queue was closed or a signal came, but not
 * none: then the code is that of tine_queue_put. -EMSGSIZE: one is longer than the queue can hold; none was put.
 */
int tine_queue_put_many(tine_queue *q, const void *data, const size_t *lengths, size_t count, int64_t timeout_ns);

/**
 * Takes several messages: as many as there are, at most count, and as fit, but at least one, for which it waits. They
 * lie one behind the other in buffer.
 *
 * A consumer that is killed in here takes along what it was taking: up to count messages.
 *
 * Parameters: lengths: for each message its length. The rest as for tine_queue_get.
 * Returns how many were taken; otherwise the codes of tine_queue_get, and for -EMSGSIZE lengths[0] is what the next
 * message needs. 0: count is 0.
 */
int tine_queue_get_many(tine_queue *q, int64_t timeout_ns, void *buffer, size_t capacity, size_t *lengths,
    size_t count);

/**
 * Room in the queue for a message of up to length bytes, to be written in place: no copy. The thread then calls
 * tine_queue_commit or tine_queue_abandon; until it does, or dies, other producers wait.
 *
 * A thread that has reserved counts it among the locks that it holds (TINE_MOST_HELD).
 *
 * Parameters: out: where the address goes, aligned to 16 bytes, or to 8 where length is at most 8.
 * Returns 0, or the codes of tine_queue_put.
 */
int tine_queue_reserve(tine_queue *q, size_t length, int64_t timeout_ns, void **out);

/**
 * Puts the message that the thread has reserved and written: its first length bytes.
 *
 * Returns 0; -EPERM: the thread has reserved none; -EMSGSIZE: longer than was reserved, which it still is; -EPIPE: the
 * queue has been closed, and the message is gone.
 */
int tine_queue_commit(tine_queue *q, size_t length);

/**
 * Gives up the message that the thread has reserved.
 *
 * Returns 0; -EPERM: the thread has reserved none.
 */
int tine_queue_abandon(tine_queue *q);

/**
 * Takes the next message without copying it: it may be read, and written, in place until the thread calls
 * tine_queue_release. Until it does, or dies, other consumers wait. Should it die, the message is gone.
 *
 * A thread that looks at a message counts it among the locks that it holds (TINE_MOST_HELD).
 *
 * Parameters: out, length: where its address and length go; the address is aligned as for tine_queue_reserve.
 * Returns 0, or the codes of tine_queue_get.
 */
int tine_queue_peek(tine_queue *q, int64_t timeout_ns, void **out, size_t *length);

/**
 * Gives the message's room back that the thread has looked at in place.
 *
 * Returns 0; -EPERM: the thread looks at none.
 */
int tine_queue_release(tine_queue *q);

/**
 * Whether the queue holds as many messages as it may at this moment, so that a put would have to wait. Bytes are another
 * matter: for a long message there may be no room before. False where the queue is closed, or q is no queue.
 */
bool tine_queue_is_full(const tine_queue *q);

/** Whether the queue has been closed; true where q is no queue. */
bool tine_queue_is_closed(const tine_queue *q);

/* ---- Channels -------------------------------------------------------------------------------------------------- */

/** What a channel can be told. */
typedef struct tine_channel_options {
    /** sizeof(tine_channel_options). */
    size_t size;
    /** Filled in when the call fails; may be NULL. */
    tine_error *error;
    /**
     * How many bytes may be on their way in each direction before a send waits, as far as the system allows
     * (net.core.wmem_max); 0: the system's default, about 200 KiB. A message counts as at least 768 bytes. One that is
     * longer than 64 KiB, or than this, travels in memory of its own and counts as one of no bytes.
     */
    size_t buffer_bytes;
    /** TINE_INTERRUPTIBLE. */
    uint32_t flags;
    /** 0. */
    uint32_t reserved;
} tine_channel_options;
#define TINE_CHANNEL_OPTIONS_INIT { sizeof(tine_channel_options), NULL, 0, 0, 0 }

/**
 * Makes a channel: two ends, between which whole messages go both ways, and descriptors.
 *
 * An end is one process's at a time. It is given to a task (tine_submit_options.channel), to a process that starts
 * (tine_process_options.channel), or to any other: by
 * tine_channel_send_fd of tine_channel_fd, and tine_channel_attach there.
 *
 * A process that is killed, at whatever instruction, leaves each message sent or not sent, never a part of one. Whoever
 * has the other end receives what was sent, in order and once, and then gets -EPIPE; that holds when an end is closed,
 * too. A copy of the end in another process, a forked child's, keeps it from that for as long as it exists.
 *
 * Calls on an end may be made from any thread; several may receive, and each message goes to one of them. A child of
 * fork() gets TINE_EFORKED.
 *
 * Parameters: options: NULL for all defaults. a, b: where the ends go.
 * Returns 0; -EINVAL, -E2BIG: bad options; -EMFILE, -ENFILE, -ENOMEM.
 * Ownership: each until tine_channel_close, or until it is given away. Threads: any. Fork: a child may make its own.
 */
int tine_channel_create(const tine_channel_options *options, tine_channel **a, tine_channel **b);

/**
 * Takes over an end of a channel that has come from another process.
 *
 * Parameters: fd: a descriptor of it, received or inherited; it stays the caller's, who should close it: as long as it
 * is open, the other end does not see this one closed. options: NULL for all defaults. out: where the end goes.
 * Returns 0; -EBADF: no descriptor; -EINVAL: not an end of a channel, or bad options; TINE_EVERSION: a message of
 * another version of tine waits in it; -E2BIG, -EMFILE, -ENOMEM.
 * Ownership: until tine_channel_close, or until it is given away. Threads: any.
 */
int tine_channel_attach(int fd, const tine_channel_options *options, tine_channel **out);

/**
 * Closes an end. What was sent can still be received at the other one, which then gets -EPIPE.
 *
 * In a task, its own end (tine_task_channel) is ended, whoever else has it; it stays valid until the function returns.
 *
 * Parameters: c: may be NULL. No other thread may be in a call on it, but for a task's own.
 * Fork: a child closes its copy.
 */
void tine_channel_close(tine_channel *c);

/**
 * Sends one message, waiting for up to timeout_ns nanoseconds for room; 0 tries, TINE_FOREVER waits.
 *
 * Parameters: data: copied; may be NULL where length is 0, which is a message too. length: in bytes.
 * Returns 0: the kernel has it, whole, whatever becomes of this process; -EAGAIN, -ETIMEDOUT: no room; -EPIPE: the other
 * end is gone; -ENOMEM: no memory for it; -EMFILE: for one longer than 64 KiB, no descriptor is free, or too many are on
 * their way; -EINTR; -EINVAL; TINE_EFORKED. After any of these nothing was sent.
 */
int tine_channel_send(tine_channel *c, const void *data, size_t length, int64_t timeout_ns);

/**
 * Receives the next message, waiting for up to timeout_ns nanoseconds for one; 0 tries, TINE_FOREVER waits.
 *
 * Parameters: buffer, capacity: where it goes; NULL where capacity is 0. length: its length in bytes; may be NULL.
 * Returns 0; -EAGAIN, -ETIMEDOUT: no message; -EPIPE: none, and there will be none: the other end is gone; -EMSGSIZE: it
 * is longer than capacity; it stays, and *length is what it needs; -ENOMSG: the next is a descriptor, for
 * tine_channel_receive_fd; it stays; -EMFILE: no descriptor is free, which one longer than 64 KiB needs; it stays;
 * -EBADMSG: something that tine has not sent; it is thrown away; TINE_EVERSION: the other end has another version of
 * tine; the message is thrown away; -EINTR; -EINVAL; TINE_EFORKED.
 */
int tine_channel_receive(tine_channel *c, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length);

/**
 * Sends a descriptor: of a file, a segment, an end of another channel. What came before it is received before it.
 *
 * Parameters: fd: stays the caller's. timeout_ns: as for tine_channel_send.
 * Returns 0, or the codes of tine_channel_send; -EBADF: fd is no descriptor; -EMFILE: too many are on their way.
 */
int tine_channel_send_fd(tine_channel *c, int fd, int64_t timeout_ns);

/**
 * Receives a descriptor, which is the caller's to close, and close-on-exec.
 *
 * Parameters: timeout_ns: as for tine_channel_receive. fd: where it goes.
 * Returns 0, or the codes of tine_channel_receive; -ENOMSG: the next is a message, for tine_channel_receive; it stays;
 * -EMFILE: this process has no descriptor free; the one that was sent stays.
 */
int tine_channel_receive_fd(tine_channel *c, int64_t timeout_ns, int *fd);

/**
 * A descriptor that is readable while there is something to receive, or the other end is gone. For poll, select, epoll,
 * and to be sent to another process; not to be read or closed.
 *
 * Returns the descriptor, which stays the channel's; -EINVAL; TINE_EFORKED.
 */
int tine_channel_fd(const tine_channel *c);

/**
 * The end of a channel that was given to the task (tine_submit_options.channel) or to the process
 * (tine_process_options.channel); NULL if none was. It is valid until the
 * function returns, in all threads, and is closed then. To keep it longer, attach its descriptor.
 */
tine_channel *tine_task_channel(const tine_task *task);

/* ---- Single processes ------------------------------------------------------------------------------------------ */

/**
 * The process goes on when the host ends or closes its handle. What it has started and left behind ends with it then. One that
 * was started in a worker, or in another process, still ends with that.
 */
#define TINE_DETACHED (1 << 19)

/**
 * A process of its own that calls one function, as a worker does, and ends when that returns.
 *
 * It starts and is found as a pool's workers are: by function pointer or name, by the same start methods, in the same
 * surroundings; and as with them the host gets no child. It leads a process group of its own. When the host ends, however that
 * comes about, it is killed with everything that it has started, unless it is TINE_DETACHED.
 *
 * A process costs a second one beside it, which watches it. For many short pieces of work there are pools.
 */
typedef struct tine_process tine_process;

/** What a process can be told. */
typedef struct tine_process_options {
    /** sizeof(tine_process_options). */
    size_t size;
    /** Filled in when tine_process_start fails; may be NULL. */
    tine_error *error;
    /** The name of a registered function, where fn is NULL. */
    const char *name;
    /**
     * TINE_START_FORKSERVER (a process without threads forks itself; the program's own state is that of its start),
     * TINE_START_SPAWN or TINE_START_FORK.
     */
    int start;
    /** TINE_DETACHED, TINE_INTERRUPTIBLE, TINE_CORE_FILES, TINE_NO_CRASH_HANDLER. */
    uint32_t flags;
    /** What ps and tine_process_title show; the kernel keeps 15 bytes of it. NULL: "tine-process". */
    const char *title;
    /**
     * How long it may live, in nanoseconds from its start; 0: as long as it likes. Then it gets SIGTERM, and after
     * .grace_ns SIGKILL, whatever the host does meanwhile. One whose time is over before its function could begin has
     * started all the same, and ended with -ETIMEDOUT.
     */
    int64_t deadline_ns;
    /** How long it may live on after the SIGTERM, in nanoseconds; 0: 200 ms. */
    int64_t grace_ns;
    /**
     * An end of a channel that it is to have, by tine_task_channel; may be NULL. When tine_process_start returns 0 it is
     * closed here, and not to be used any more.
     */
    tine_channel *channel;
    /** Segments that are mapped in it before the function begins, at the addresses that they have here; NULL and 0 for none. */
    tine_segment *const *segments;
    /** How many. */
    size_t segment_count;
    /** What it finds around it. It may run on all of .processors; .affinity is TINE_AFFINITY_NONE. NULL: what the host has. */
    const tine_worker_options *worker;
    /** How long it may take from its start until the function begins, in nanoseconds; 0: ten seconds. */
    int64_t start_timeout_ns;
    /** As in tine_pool_options. */
    const char *worker_path;
    /** As in tine_pool_options. */
    const char *const *worker_arguments;
    /** As in tine_pool_options. */
    const char *preload;
    /**
     * The most that its output and what it allocates from tine_task_pool may take, in bytes; 0: 1 GiB, or a quarter of a
     * limited address space, or the limit on file sizes.
     */
    size_t heap_bytes;
} tine_process_options;
#define TINE_PROCESS_OPTIONS_INIT { sizeof(tine_process_options), NULL, NULL, 0, 0, NULL, 0, 0, NULL, \
    NULL, 0, NULL, 0, NULL, NULL, NULL, 0 }

/** How a process ended, and what its function left. */
typedef struct tine_exit {
    /** sizeof(tine_exit). */
    size_t size;
    /**
     * Its exit code, where .signal is 0. Of one whose function has returned: 0 to 255 as that returned, 255 for more, 1 for a
     * failure.
     */
    int code;
    /** The signal that ended it, or 0. */
    int signal;
    /**
     * What the function returned. TINE_EDIED: it never did, because the process exited or was killed in it; -ETIMEDOUT:
     * because it was past its deadline.
     */
    int status;
    /** What the function said of its failure (tine_fail), or what is known of it. Never NULL; "" for a success. */
    const char *message;
    /** The output (tine_output); NULL if there is none. */
    const void *data;
    /** Its length in bytes. */
    size_t length;
    /** All that is known of the end; never NULL. */
    const tine_death *death;
} tine_exit;
#define TINE_EXIT_INIT { sizeof(tine_exit), 0, 0, 0, NULL, NULL, 0, NULL }

/**
 * Starts a process, and waits until its function has begun.
 *
 * In there the task has no pool that others share: tine_task_pool is a heap of its own, and runs what is submitted there and
 * then. What is to be shared are segments, and heaps, queues and locks in them; and it may have an end of a channel.
 *
 * Parameters: fn, or NULL and the option .name. input, length: copied; NULL and 0 for none. options: NULL for all defaults.
 * out: where the process goes.
 * Returns 0; TINE_ENOINIT: tine_init has not run and no .worker_path is given; TINE_EWORKERSTART: it could not be
 * started; TINE_EFUNCTION, TINE_EMODULE, TINE_ENAME: the function is none of the process's; -EEXIST: a segment's address is
 * taken there; -ENOSPC: more than 64 segments; -EINVAL, -E2BIG: bad options; -ENOENT: no such .worker_path; -ENOMEM, -EMFILE.
 * Ownership: tine_process_close ends it; a .channel is given away. Threads: any. Fork: a child may start processes of its own.
 */
int tine_process_start(const tine_process_options *options, tine_fn fn, const void *input, size_t length,
    tine_process **out);

/**
 * Waits until the process has ended, for up to timeout_ns nanoseconds; 0 asks, TINE_FOREVER waits.
 *
 * It may be called again, and by several threads: the answer stays the same. How the process has ended its supervisor says, within
 * microseconds: until then, tine_process_fd is readable already, and a wait goes on while it has time.
 *
 * Parameters: p. timeout_ns. out: a tine_exit, with its .size set, or NULL.
 * Returns 0: it has ended, in whatever way; -EAGAIN, -ETIMEDOUT: it has not, or its supervisor has not said how; -EINTR
 * (TINE_INTERRUPTIBLE only); -EINVAL; TINE_EFORKED. Ownership: what the exit points to is valid until
 * tine_process_close. Threads: any.
 */
int tine_process_wait(tine_process *p, int64_t timeout_ns, tine_exit *out);

/**
 * Sends the process a signal: SIGTERM asks it to end, SIGINT interrupts it, SIGKILL ends it.
 *
 * Parameters: p. signal: 1 to 64.
 * Returns 0; -ESRCH: it has ended; -EINVAL: p is NULL, or no signal; -EPERM; TINE_EFORKED. Threads: any.
 */
int tine_process_kill(tine_process *p, int signal);

/**
 * Sends a signal to the process and to everything that it has started and that is still there, also what has outlived
 * it and what has left its process group. It is the process's supervisor that does it, at once but not before the call returns.
 *
 * Parameters: p. signal: 1 to 64.
 * Returns 0; -EINVAL: p is NULL, or no signal; TINE_EFORKED. Threads: any.
 */
int tine_process_kill_tree(tine_process *p, int signal);

/** 1 while the process has not ended, 0 from then on; -EINVAL: p is NULL; TINE_EFORKED. Threads: any. */
int tine_process_alive(const tine_process *p);

/** The process's number; -EINVAL: p is NULL. It may be given to another one after its end. Threads: any. */
pid_t tine_process_pid(const tine_process *p);

/**
 * A descriptor that is readable from the end of the process on, and then for good. For poll, select, epoll; not to be
 * closed.
 *
 * Returns the descriptor, which stays the handle's; -EINVAL: p is NULL; TINE_EFORKED. Threads: any.
 */
int tine_process_fd(const tine_process *p);

/** The process's title: .title, or "tine-process". NULL for NULL; valid until tine_process_close. Threads: any. */
const char *tine_process_title(const tine_process *p);

/**
 * Kills the process and everything that it has started. One that is TINE_DETACHED goes on, and nobody will know how it ends.
 *
 * Parameters: p: may be NULL. No other thread may be in a call on it.
 * Fork: in a child it forgets the process, which goes on.
 */
void tine_process_close(tine_process *p);

#ifdef __cplusplus
}
#endif

#endif /* TINE_H */
