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

/** A pool of worker processes; in a worker, the pool that it belongs to. */
typedef struct tine_pool tine_pool;

/** A task, as the function that carries it out sees it. Valid until that function returns, in its thread only. */
typedef struct tine_task tine_task;

/** One end of a channel: see tine_channel_create. */
typedef struct tine_channel tine_channel;
