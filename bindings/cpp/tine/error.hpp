/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: what goes wrong, as exceptions and as values, and how processes die.
 */
#ifndef TINE_ERROR_HPP
#define TINE_ERROR_HPP

#if __cplusplus < 201703L
#error "tine.hpp needs C++17 or later: compile with -std=c++17 (CMake: target_compile_features(program PRIVATE cxx_std_17))"
#endif

#include <tine.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

/*
 * With -fno-exceptions what would be thrown ends the process with its text, and what would be caught cannot come. So the same
 * functions have other bodies there, and everything has another name for the linker: of two functions of one name it takes one, for
 * files of both kinds.
 */
#ifdef __cpp_exceptions
#define TINE_NAMESPACE_BEGIN namespace tine {
#define TINE_NAMESPACE_END }
#define TINE_TRY try
#define TINE_CATCH_ALL catch (...)
#define TINE_THROW_ON throw
#else
#define TINE_NAMESPACE_BEGIN \
    namespace tine {         \
    inline namespace without_exceptions {
#define TINE_NAMESPACE_END \
    }                      \
    }
#define TINE_TRY if constexpr (true)
#define TINE_CATCH_ALL else
#define TINE_THROW_ON static_cast<void>(0)
#endif

TINE_NAMESPACE_BEGIN

namespace detail {

template <class E>
[[noreturn]] void raise(const E &what)
{
#ifdef __cpp_exceptions
    throw what;
#else
    std::fprintf(stderr, "tine: without exceptions this call ends the process: %s\n", what.what());
    std::abort();
#endif
}

} // namespace detail

/** Waits for ever: a value for every timeout. */
inline constexpr std::chrono::nanoseconds forever = std::chrono::nanoseconds::max();

namespace detail {

/* Nanoseconds as a floating-point number, which any duration fits, and in which nothing overflows or wraps around. */
using wide = std::chrono::duration<long double, std::nano>;

} // namespace detail

/**
 * A duration as the number that tine.h's fields take. tine::forever, and what is longer than there are nanoseconds, is
 * TINE_FOREVER. A negative one is over already, and stays so: -1. 0 is 0, which stands for a field's default.
 */
template <class Rep, class Period>
constexpr std::int64_t ns(std::chrono::duration<Rep, Period> duration)
{
    if (duration == duration.zero())
        return 0;
    if (!(duration > duration.zero()))
        return -1;
    if (detail::wide(duration) >= detail::wide(forever))
        return TINE_FOREVER;
    auto whole = std::chrono::duration_cast<std::chrono::nanoseconds>(duration);
    // What is shorter than a nanosecond still is a wait.
    return whole.count() == 0 ? 1 : static_cast<std::int64_t>(whole.count());
}

/** How long it is from now until a point in time, as the number that tine.h takes; 0 if that is past. */
template <class Clock, class Duration>
std::int64_t ns_until(std::chrono::time_point<Clock, Duration> time)
{
    detail::wide left = detail::wide(time.time_since_epoch()) - detail::wide(Clock::now().time_since_epoch());
    return left > left.zero() ? ns(left) : 0;
}

/** How long a call may wait: any duration of the standard's. One that is not positive does not wait. */
class time_limit {
public:
    template <class Rep, class Period>
    constexpr time_limit(std::chrono::duration<Rep, Period> duration) // NOLINT: it is there to be converted to
        : ns_(duration > duration.zero() ? tine::ns(duration) : 0)
    {
    }

    /** As tine.h's calls take it. */
    constexpr std::int64_t ns() const noexcept { return ns_; }

private:
    std::int64_t ns_;
};

namespace detail {

/*
 * Has wait(nanoseconds) wait until a point in time, and its code. A clock that somebody sets may not have come there when
 * the nanoseconds are over.
 */
template <class Clock, class Duration, class Wait>
int wait_until(std::chrono::time_point<Clock, Duration> time, Wait wait)
{
    int rc;
    do
        rc = wait(ns_until(time));
    while (rc == -ETIMEDOUT && ns_until(time) > 0);
    return rc;
}

/* What is left of the time of a call that waits several times. */
class time_left {
public:
    explicit time_left(std::int64_t whole_ns) : whole_ns_(whole_ns > 0 ? whole_ns : 0)
    {
        if (is_bounded())
            began_ = clock::now();
    }

    std::int64_t ns() const
    {
        if (!is_bounded())
            return whole_ns_;
        std::int64_t spent_ns = std::chrono::nanoseconds(clock::now() - began_).count();
        return whole_ns_ > spent_ns ? whole_ns_ - spent_ns : 0;
    }

    /* The code of the last wait as the code of all: with nothing left it has not waited. */
    int code(int rc) const noexcept { return rc == -EAGAIN && whole_ns_ > 0 ? -ETIMEDOUT : rc; }

private:
    using clock = std::chrono::steady_clock;

    bool is_bounded() const noexcept { return whole_ns_ != 0 && whole_ns_ != TINE_FOREVER; }

    std::int64_t whole_ns_;
    clock::time_point began_;
};

} // namespace detail

/** How a process died: tine.h's tine_death, owned. */
struct death {
    pid_t pid = 0;                      /**< Which process. */
    int signal = 0;                     /**< The signal that ended it, or 0. */
    int code = 0;                       /**< Its exit code, where signal is 0. */
    void *fault_address = nullptr;      /**< For SIGSEGV, SIGBUS, SIGFPE and SIGILL: the address at fault. */
    std::uint64_t max_rss_bytes = 0;    /**< The most memory that it had resident at once; 0 if nobody can say. */
    std::uint64_t user_ns = 0;          /**< Processor time in its own code; 0 if nobody can say. */
    std::uint64_t system_ns = 0;        /**< And in the kernel's. */
    bool out_of_memory = false;         /**< It was most likely killed for want of memory. */
    std::uint64_t task = 0;             /**< The task that it was running; 0 for an item of a map or loop. */
    std::uint64_t item = 0;             /**< That item. */
    std::string function;               /**< The function that it was running, as far as that is known. */
    std::string backtrace;              /**< Where it crashed, innermost frame first; empty if it left no word. */
    std::string output;                 /**< The last that it wrote, with TINE_OUTPUT_CAPTURE. */

    death() = default;

    explicit death(const tine_death &from)
        : pid(from.pid), signal(from.signal), code(from.code), fault_address(from.fault_address),
          max_rss_bytes(from.max_rss_bytes), user_ns(from.user_ns), system_ns(from.system_ns),
          out_of_memory(from.out_of_memory != 0), task(from.task), item(from.item), function(from.function),
          backtrace(from.backtrace), output(from.output, from.output_length)
    {
    }

    /** Writes what is known, for people, to a descriptor. Returns 0 or a code, as tine_death_print(). */
    int print(int fd = 2) const
    {
        tine_death report = TINE_DEATH_INIT;
        report.pid = pid;
        report.signal = signal;
        report.code = code;
        report.fault_address = fault_address;
        report.max_rss_bytes = max_rss_bytes;
        report.user_ns = user_ns;
        report.system_ns = system_ns;
        report.out_of_memory = out_of_memory;
        report.task = task;
        report.item = item;
        report.function = function.c_str();
        report.backtrace = backtrace.c_str();
        report.output = output.c_str();
        report.output_length = output.size();
        return tine_death_print(&report, fd);
    }
};

struct item_failure;

/** Why a call or a task has failed, as a value. */
struct failure {
    int code = 0;                            /**< -1 to -4095: a negated errno value; below that a TINE_E code. */
    std::string message;                     /**< In words, that name the thing and its value. */
    int delivery = TINE_NOT_STARTED;         /**< Of a task: TINE_RAN, TINE_NOT_STARTED, TINE_MAYBE_RAN. */
    std::uint32_t deaths = 0;                /**< How many processes have died while they ran the task. */
    bool of_task = false;                    /**< It is a task that failed, not the call. */
    std::shared_ptr<const tine::death> death{}; /**< How the process died that ran the task; empty if none did. */
    /** Of a map (TINE_EITEMS): the items that failed, in their order; otherwise empty. */
    std::shared_ptr<const std::vector<item_failure>> items{};

    /** The name of the constant: "EINVAL", "TINE_EDIED". */
    const char *name() const noexcept { return tine_errname(code); }

    /** Throws what fits: tine::error, task_failed, worker_died. With -fno-exceptions it writes the message and aborts. */
    [[noreturn]] inline void raise() const;
};

/** An item of a map or loop that failed. */
struct item_failure {
    std::size_t item;  /**< Its place, from 0; for a loop, where the piece begins. */
    tine::failure why; /**< What came of it. */
};

/** What a call that fails throws. */
class error : public std::runtime_error {
public:
    explicit error(tine::failure what)
        : std::runtime_error(what.message.empty() ? tine_strerror(what.code) : what.message),
          failure_(std::make_shared<const tine::failure>(std::move(what)))
    {
    }

    explicit error(int code, std::string message = {}) : error(make(code, std::move(message))) {}

    /** -1 to -4095: a negated errno value; below that a TINE_E code. */
    int code() const noexcept { return failure_->code; }
    /** The name of the constant: "EINVAL", "TINE_EDIED". */
    const char *name() const noexcept { return failure_->name(); }
    /** All of it. */
    const tine::failure &failure() const noexcept { return *failure_; }

private:
    static tine::failure make(int code, std::string message)
    {
        tine::failure what;
        what.code = code;
        what.message = std::move(message);
        return what;
    }

    std::shared_ptr<const tine::failure> failure_; // shared: an exception must be copied without throwing
};

/** A task's failure, thrown by future::get(): its function's, a deadline, cancelling, a death. */
class task_failed : public error {
public:
    using error::error;
    /** TINE_RAN, TINE_NOT_STARTED or TINE_MAYBE_RAN. */
    int delivery() const noexcept { return failure().delivery; }
    /** How the process died that ran it; nullptr if none did. */
    const tine::death *death() const noexcept { return failure().death.get(); }
};

/** The process that ran the task died (TINE_EDIED). */
class worker_died : public task_failed {
public:
    using task_failed::task_failed;
    /** How. */
    const tine::death &report() const noexcept
    {
        static const tine::death unknown;
        return death() ? *death() : unknown;
    }
};

/** Items of a map or loop failed (TINE_EITEMS); all others have been dealt with. */
class items_failed : public error {
public:
    using error::error;
    /** Which, in their order, and why. */
    const std::vector<item_failure> &items() const noexcept
    {
        static const std::vector<item_failure> none;
        return failure().items ? *failure().items : none;
    }
};

/**
 * A lock's holder has died, and the data that it protects may be torn (-EOWNERDEAD); thrown by the locks' standard
 * operations, which say more in locks.hpp.
 */
class owner_died : public error {
public:
    using error::error;
};

inline void failure::raise() const
{
    if (code == TINE_EDIED && of_task)
        detail::raise(worker_died(*this));
    if (of_task)
        detail::raise(task_failed(*this));
    if (code == TINE_EITEMS)
        detail::raise(items_failed(*this));
    if (code == -EOWNERDEAD)
        detail::raise(owner_died(*this));
    detail::raise(error(*this));
}

/** A value, or the failure that is there in its stead: what calls with std::nothrow return. */
template <class T>
class [[nodiscard]] expected {
public:
    using value_type = T;

    expected(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    expected(tine::failure what) : content_(std::in_place_index<1>, std::move(what)) {}

    bool has_value() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    /** The value; a failure is thrown. */
    T &value() & { return check(), *std::get_if<0>(&content_); }
    const T &value() const & { return check(), *std::get_if<0>(&content_); }
    T &&value() && { return check(), std::move(*std::get_if<0>(&content_)); }

    /** The value, which must be there. */
    T &operator*() & noexcept { return *std::get_if<0>(&content_); }
    const T &operator*() const & noexcept { return *std::get_if<0>(&content_); }
    T &&operator*() && noexcept { return std::move(*std::get_if<0>(&content_)); }
    T *operator->() noexcept { return std::get_if<0>(&content_); }
    const T *operator->() const noexcept { return std::get_if<0>(&content_); }

    /** The value, or another. */
    template <class U>
    T value_or(U &&otherwise) const &
    {
        return has_value() ? **this : static_cast<T>(std::forward<U>(otherwise));
    }

    /** The failure, which must be there. */
    const tine::failure &error() const noexcept { return *std::get_if<1>(&content_); }

private:
    void check() const
    {
        if (!has_value())
            error().raise();
    }

    std::variant<T, tine::failure> content_;
};

/** Nothing, or a failure. */
template <>
class [[nodiscard]] expected<void> {
public:
    using value_type = void;

    expected() = default;
    expected(tine::failure what) : failure_(std::make_unique<tine::failure>(std::move(what))) {}

    bool has_value() const noexcept { return !failure_; }
    explicit operator bool() const noexcept { return has_value(); }
    void value() const
    {
        if (failure_)
            failure_->raise();
    }
    void operator*() const noexcept {}
    const tine::failure &error() const noexcept { return *failure_; }

private:
    std::unique_ptr<tine::failure> failure_;
};

namespace detail {

/* A tine_error that the call fills in, and the failure that it becomes. */
class report {
public:
    report() noexcept // not by the initialiser: most calls succeed, and need no 240 zeros
    {
        error_.size = sizeof error_;
        error_.code = 0;
        error_.text[0] = 0;
    }

    tine_error *place() noexcept { return &error_; }

    failure take(int code) const
    {
        failure what;
        what.code = code;
        // A call may fail before it looks at its options.
        what.message = error_.code == code && error_.text[0] ? error_.text : tine_strerror(code);
        return what;
    }

private:
    tine_error error_;
};

inline failure plain(int code, const char *call)
{
    failure what;
    what.code = code;
    what.message = std::string(call) + ": " + tine_strerror(code);
    return what;
}

inline failure failure_with(int code, std::string message)
{
    failure what;
    what.code = code;
    what.message = std::move(message);
    return what;
}

[[noreturn]] inline void fail(int code, const char *call)
{
    plain(code, call).raise();
}

/* For calls that return 0 or more, or a code. */
inline int check(int code, const char *call)
{
    if (code < 0)
        fail(code, call);
    return code;
}

/* For calls that return 0, or a code that says "not now": true, false. */
inline bool done_or_not_now(int code, const char *call)
{
    if (code == -EAGAIN || code == -ETIMEDOUT)
        return false;
    check(code, call);
    return true;
}

} // namespace detail
TINE_NAMESPACE_END

#endif /* TINE_ERROR_HPP */
