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

#define TINE_VERSION "@VERSION@"
#define TINE_VERSION_MAJOR @MAJOR@
#define TINE_VERSION_MINOR @MINOR@
#define TINE_VERSION_PATCH @PATCH@

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
