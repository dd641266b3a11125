/* What every C test starts from: a check that says where and what it was, and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* glibc has enums for these, which C++ makes of no int by itself; musl takes an int. */
#ifdef __GLIBC__
#define ptrace_request enum __ptrace_request
#define rlimit_resource __rlimit_resource_t
#else
#define ptrace_request int
#define rlimit_resource int
#endif

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

/* Two integers; both values are printed. */
#define CHECK_EQ(left, right)                                                                \
    do {                                                                                     \
        long long left_ = (long long)(left), right_ = (long long)(right);                    \
        if (left_ != right_) {                                                               \
            fprintf(stderr, "%s:%d: %s is %lld, not %s, which is %lld\n", __FILE__, __LINE__, #left, left_, #right, \
                    right_);                                                                 \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

/* A call that returns 0 or a code; the code is printed by name. */
#define CHECK_RC(call, expected)                                                             \
    do {                                                                                     \
        int rc_ = (call), expected_ = (expected);                                            \
        if (rc_ != expected_) {                                                              \
            fprintf(stderr, "%s:%d: %s is %d %s, not %d %s\n", __FILE__, __LINE__, #call, rc_, tine_errname(rc_), \
                    expected_, tine_errname(expected_));                                     \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

#define CHECK_STR(left, right)                                                               \
    do {                                                                                     \
        const char *left_ = (left), *right_ = (right);                                       \
        if (strcmp(left_, right_) != 0) {                                                    \
            fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #left, left_, right_); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

#endif
