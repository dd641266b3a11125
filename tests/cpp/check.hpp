/* What every test of the C++ binding starts from. */
#ifndef CHECK_HPP
#define CHECK_HPP

#include "../c/check.h"

#include <tine.hpp>

#include <cerrno>
#include <csignal>
#include <string>

/* The statement throws a tine::error of this code. */
#define CHECK_THROWS(statement, expected)                                                                    \
    do {                                                                                                     \
        int code_ = 0;                                                                                       \
        try {                                                                                                \
            statement;                                                                                       \
        } catch (const tine::error &wrong_) {                                                                \
            code_ = wrong_.code();                                                                           \
        }                                                                                                    \
        if (code_ != (expected)) {                                                                           \
            std::fprintf(stderr, "%s:%d: %s throws %s, not %s\n", __FILE__, __LINE__, #statement,            \
                         tine_errname(code_), tine_errname(expected));                                       \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

/* Only what hangs reaches it. */
inline constexpr std::chrono::seconds hang{20};

/* Runs a test with each start method. The pool has a thread of its own: tests wait for locks and events while a worker that has
   died is to be replaced, and a host that waits for something else than the pool does not move it on. With fork, workers run on a stack that is tine's, which AddressSanitizer does not know:
   it says so, and that its reports are then false, as soon as a worker throws. */
template <class Test>
void with_all_starts(std::size_t workers, Test test)
{
    for (int start : {TINE_START_FORKSERVER, TINE_START_SPAWN, TINE_START_FORK}) {
#ifdef __SANITIZE_ADDRESS__
        if (start == TINE_START_FORK) {
            std::puts("not tested: start method fork under AddressSanitizer, which does not know the stack of such workers");
            continue;
        }
#endif
        tine::pool_options options;
        options.workers = workers;
        options.start = start;
        tine::pool pool(options);
        test(pool);
    }
}

#endif
