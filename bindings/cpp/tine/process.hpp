/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: single processes, which call one function.
 */
#ifndef TINE_PROCESS_HPP
#define TINE_PROCESS_HPP

#include "channel.hpp"
#include "codec.hpp"
#include "error.hpp"
#include "function.hpp"
#include "pool.hpp"

#include <memory>
#include <new>
#include <string>
#include <sys/types.h>
#include <type_traits>
#include <utility>

TINE_NAMESPACE_BEGIN

/** What a process can be told: tine.h's tine_process_options, at its defaults; .name is set by tine::named. */
struct process_options : tine_process_options {
    process_options() : tine_process_options TINE_PROCESS_OPTIONS_INIT {}

    /**
     * Gives the process an end of a channel, which is closed here once it has started; it is asked for by tine::task::channel. An end
     * that was closed, moved or given away before that: -EBADF.
     */
    process_options &give(tine::channel &end)
    {
        offer_ = end.offer();
        return *this;
    }

private:
    template <class R>
    friend class process;
    detail::offer offer_;
};

/** How a process has ended: tine.h's tine_exit, owned. */
struct exit_status {
    int code = 0;        /**< Its exit code, where signal is 0. */
    int signal = 0;      /**< The signal that ended it, or 0. */
    int status = 0;      /**< What the function has returned; TINE_EDIED: it never did; -ETIMEDOUT: its deadline has passed. */
    std::string message; /**< What the function said of its failure, or what is known of it. */
    tine::death death;   /**< All that is known of the end. */
};

/**
 * A process of its own that calls one function, whose result is an R. It is killed when this object ends, with everything that it
 * has started, unless it is TINE_DETACHED. tine::start makes one.
 */
template <class R = std::string>
class process {
public:
    process(process &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    process &operator=(process &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~process() { tine_process_close(handle_); }

    /** Waits until it has ended, so long; whether it has. */
    bool wait(time_limit timeout = forever) const
    {
        return detail::done_or_not_now(tine_process_wait(handle_, timeout.ns(), nullptr), "tine::process::wait");
    }
    /** Waits, and says how it has ended. Throws -ETIMEDOUT, -EAGAIN: it has not. */
    exit_status exit(time_limit timeout = forever) const
    {
        tine_exit ended = TINE_EXIT_INIT;
        detail::check(tine_process_wait(handle_, timeout.ns(), &ended), "tine::process::exit");
        exit_status status;
        status.code = ended.code;
        status.signal = ended.signal;
        status.status = ended.status;
        status.message = ended.message;
        status.death = tine::death(*ended.death);
        return status;
    }
    /**
     * Waits, and gives the function's result; again as often as is liked. Throws worker_died if the process exited or was killed in
     * the function, task_failed if the function failed, tine::error as exit().
     */
    R get(time_limit timeout = forever) const { return get(std::nothrow, timeout).value(); }
    /** The same without exceptions. */
    expected<R> get(std::nothrow_t, time_limit timeout = forever) const
    {
        tine_exit ended = TINE_EXIT_INIT;
        if (int rc = tine_process_wait(handle_, timeout.ns(), &ended))
            return detail::plain(rc, "tine::process::get");
        if (ended.status < 0) {
            failure what = detail::failure_with(ended.status, ended.message[0] ? ended.message : tine_strerror(ended.status));
            what.of_task = true;
            what.delivery = ended.status == TINE_EDIED ? TINE_MAYBE_RAN : TINE_RAN;
            what.death = std::make_shared<const tine::death>(*ended.death);
            return what;
        }
        if constexpr (std::is_void_v<R>)
            return {};
        else
            return detail::decode<R>({ended.data, ended.length});
    }

    /** Sends it a signal. Throws -ESRCH: it has ended. */
    void kill(int signal) const { detail::check(tine_process_kill(handle_, signal), "tine::process::kill"); }
    /** Sends one to it and to everything that it has started and that is still there. */
    void kill_tree(int signal) const { detail::check(tine_process_kill_tree(handle_, signal), "tine::process::kill_tree"); }
    /** Whether it has not ended. */
    bool alive() const { return detail::check(tine_process_alive(handle_), "tine::process::alive") == 1; }
    /** Its number, which may be another one's after its end. */
    pid_t pid() const { return detail::check(tine_process_pid(handle_), "tine::process::pid"); }
    /** A descriptor that is readable from its end on; the object's own. */
    int fd() const { return detail::check(tine_process_fd(handle_), "tine::process::fd"); }
    /** What ps shows; empty: this object has been moved from. */
    std::string title() const
    {
        const char *text = tine_process_title(handle_);
        return text ? text : "";
    }
    /** tine.h's. */
    tine_process *native_handle() const noexcept { return handle_; }

    /** For tine::start. */
    template <class F, class... A>
    TINE_LOCAL static expected<process> make(process_options options, F &&function, A &&...arguments)
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        tine_process *handle = nullptr;
        auto post = [&](tine_fn call, const char *name, bytes input) {
            options.name = name;
            int rc = options.offer_.place(options);
            return rc == 0 ? tine_process_start(&options, call, input.data, input.size, &handle) : rc;
        };
        if (int rc = detail::send(*report.place(), post, std::forward<F>(function), std::forward<A>(arguments)...))
            return report.take(rc);
        options.offer_.taken();
        return process(handle);
    }

private:
    explicit process(tine_process *handle) noexcept : handle_(handle) {}

    tine_process *handle_;
};

namespace detail {

/* So that options and std::nothrow are not taken for functions. */
template <class F>
inline constexpr bool may_start =
    !std::is_same_v<std::decay_t<F>, std::nothrow_t> && !std::is_base_of_v<tine_process_options, std::decay_t<F>>;

/* A process has no pool whose memory a tine::result could name. */
template <class R>
using process_result = std::conditional_t<std::is_same_v<R, result>, std::string, R>;

} // namespace detail

/**
 * Starts a process that calls a function with copies of the arguments, and waits until the function has begun:
 *
 *     auto child = tine::start([](int number) { return 2 * number; }, 21);
 *     child.get();
 *
 * What can be sent is what a pool's submit() can send. The output of a function that is called by name, or is a tine_fn, is a
 * std::string of its bytes where tine::named says no other type. Throws as tine_process_start().
 */
template <class F, class... A, std::enable_if_t<detail::may_start<F>, int> = 0>
TINE_LOCAL auto start(F &&function, A &&...arguments)
{
    return start(process_options(), std::forward<F>(function), std::forward<A>(arguments)...);
}

/** The same with options. */
template <class F, class... A>
TINE_LOCAL auto start(const process_options &options, F &&function, A &&...arguments)
{
    return std::move(start(std::nothrow, options, std::forward<F>(function), std::forward<A>(arguments)...)).value();
}

/** The same without exceptions. */
template <class F, class... A>
TINE_LOCAL auto start(std::nothrow_t, const process_options &options, F &&function, A &&...arguments)
{
    using type = detail::process_result<detail::submission_of<F, A...>>;
    return process<type>::make(options, std::forward<F>(function), std::forward<A>(arguments)...);
}

TINE_NAMESPACE_END

#endif /* TINE_PROCESS_HPP */
