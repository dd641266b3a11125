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

#ifdef __cplusplus
}
#endif

#endif /* TINE_H */
