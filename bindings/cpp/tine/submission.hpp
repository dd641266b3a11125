/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: what a task is told, and what its submission gives. pool.hpp has the calls.
 */
#ifndef TINE_SUBMISSION_HPP
#define TINE_SUBMISSION_HPP

#include "codec.hpp"
#include "error.hpp"
#include "function.hpp"
#include "future.hpp"

#include <cerrno>
#include <cstdio>
#include <memory>
#include <new>
#include <sys/types.h>
#include <type_traits>
#include <utility>

TINE_NAMESPACE_BEGIN

class channel;

namespace detail {

/*
 * What give() was told: where an end's handle is. The end withdraws it, which makes it nullptr, when it is closed, moved or given
 * away; options may stay longer than the end.
 */
class offer {
public:
    offer() = default;
    explicit offer(std::shared_ptr<tine_channel **> end) noexcept : end_(std::move(end)) {}

    /* Sets the options' .channel. -EBADF, with a text: the end is not there any more. */
    template <class Options>
    int place(Options &options) const
    {
        if (!end_)
            return 0;
        if (*end_ && **end_) {
            options.channel = **end_;
            return 0;
        }
        options.error->code = -EBADF;
        std::snprintf(options.error->text, sizeof options.error->text,
                      "the end of a channel that give() was told was closed, moved or given away");
        return -EBADF;
    }

    /* The end is the task's or the process's now. */
    void taken() const noexcept
    {
        if (end_)
            *std::exchange(*end_, nullptr) = nullptr;
    }

private:
    std::shared_ptr<tine_channel **> end_;
};

} // namespace detail

/** What a task can be told: tine.h's tine_submit_options, at its defaults; .name is set by tine::named. */
struct submit_options : tine_submit_options {
    submit_options() : tine_submit_options TINE_SUBMIT_OPTIONS_INIT {}

    /**
     * Gives the task an end of a channel, which is closed here once it has been submitted, and stays the caller's otherwise. The
     * function asks for it by tine::task::channel. An end that was closed, moved or given away before that: -EBADF. Include
     * tine/channel.hpp.
     */
    inline submit_options &give(tine::channel &end);

private:
    friend class pool;
    detail::offer offer_;
};

/** What is to be called of a task: settled(tine::expected<R>), and begun(tine_id, pid_t), for pool::submit_then. */
template <class Settled, class Begun>
struct callbacks {
    Settled settled;
    Begun begun;
};
template <class Settled, class Begun>
callbacks(Settled, Begun) -> callbacks<Settled, Begun>;

namespace detail {

/* What a submission gives. */
template <class F, class... A>
struct submission {
    using type = result_of<F, A...>;
};
template <class R, class... A>
struct submission<named_function<R>, A...> {
    using type = R;
};
template <class... A>
struct submission<tine_fn, A...> {
    using type = tine::result;
};
template <class F, class... A>
using submission_of = typename submission<std::decay_t<F>, arrival<A>...>::type;

/* So that options and std::nothrow are not taken for functions. */
template <class F>
inline constexpr bool may_be_function =
    !std::is_same_v<std::decay_t<F>, std::nothrow_t> && !std::is_base_of_v<tine_submit_options, std::decay_t<F>> &&
    !std::is_base_of_v<tine_map_options, std::decay_t<F>> && !std::is_base_of_v<tine_stream_options, std::decay_t<F>>;

/* What a task's callbacks are called with, between the submission and the end. */
template <class R, class Settled>
class pending {
public:
    template <class S>
    pending(std::shared_ptr<pool_state> pool, S &&settled) : pool_(std::move(pool)), settled_(std::forward<S>(settled))
    {
    }

    void place(tine_submit_options &options)
    {
        options.user = this;
        options.on_settled = [](const tine_result *result, void *user) noexcept {
            std::unique_ptr<pending> self(static_cast<pending *>(user));
            self->call(self->settled_, outcome(*result));
        };
        if constexpr (is_pair<Settled>::value)
            options.on_begin = [](tine_id id, pid_t pid, void *user) noexcept {
                static_cast<pending *>(user)->settled_.begun(id, pid);
            };
    }

private:
    template <class T>
    struct is_pair : std::false_type {};
    template <class S, class B>
    struct is_pair<callbacks<S, B>> : std::true_type {};

    /* The result's memory is the pool's again when the callback returns. */
    static expected<R> outcome(const tine_result &result)
    {
        if (result.status < 0)
            return failure_of(result);
        if constexpr (std::is_void_v<R>)
            return {};
        else
            return decode<R>({result.data, result.length});
    }

    static void call(Settled &settled, expected<R> what)
    {
        if constexpr (is_pair<Settled>::value)
            settled.settled(std::move(what));
        else
            settled(std::move(what));
    }

    std::shared_ptr<pool_state> pool_;
    Settled settled_;
};

} // namespace detail

TINE_NAMESPACE_END

#endif /* TINE_SUBMISSION_HPP */
