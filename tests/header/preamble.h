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
 *   Threads     every call may be made from any thread unless its text says otherwise. None is a cancellation point:
 *               pthread_cancel() acts when the call has returned.
 *   Fork        a child of fork() may not use its parent's objects: calls give TINE_EFORKED.
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
