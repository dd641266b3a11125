/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: pools.
 */
#ifndef TINE_POOL_HPP
#define TINE_POOL_HPP

#include "codec.hpp"
#include "error.hpp"
#include "function.hpp"
#include "future.hpp"
#include "map.hpp"
#include "memory.hpp"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <sys/types.h>
#include <type_traits>
#include <utility>
#include <vector>

namespace tine {

/** What is to go wrong in a pool, for tests: tine.h's tine_faults, at nothing. It stays there until the pool has been created. */
struct faults : tine_faults {
    faults() : tine_faults TINE_FAULTS_INIT {}
};

/** What a pool can be told: tine.h's tine_pool_options, at its defaults; .faults points to a tine::faults. */
struct pool_options : tine_pool_options {
    pool_options() : tine_pool_options TINE_POOL_OPTIONS_INIT {}
};

class channel;
template <class T>
class queue;
class segment;
template <class R, class A>
class stream;
struct stream_options;

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

/**
 * A pool of worker processes. It ends with this object, and kills what still runs: shutdown() waits for it.
 *
 * What can be submitted: functions, lambdas that capture nothing or copies of trivially copyable values, functions that are
 * registered (tine::named), and C's tine_fn. Arguments are copied to the worker: trivially copyable values, strings,
 * vectors of such values, pairs and tuples, and what has a tine::codec. A function whose first parameter is tine::task & is given its task.
 */
class pool {
public:
    /** Starts the workers, and waits until they are ready. */
    explicit pool(const pool_options &options = {}) : state_(std::move(*create_state(options))) {}

    /** So many workers; 0: one for each CPU. */
    explicit pool(std::size_t workers) : pool(with_workers(workers)) {}

    /** The same without exceptions. */
    static expected<pool> create(std::nothrow_t, const pool_options &options = {})
    {
        auto state = create_state(options, std::nothrow);
        if (!state)
            return state.error();
        return pool(std::move(*state));
    }

    /** A pool that somebody else owns: C's, or a task's own. */
    static pool from(tine_pool *handle) { return pool(std::make_shared<detail::pool_state>(handle, false)); }

    pool(pool &&) noexcept = default;
    pool &operator=(pool &&other) noexcept
    {
        if (state_)
            state_->end();
        state_ = std::move(other.state_);
        return *this;
    }
    ~pool()
    {
        if (state_)
            state_->end();
    }

    /* ---- Tasks ---- */

    /**
     * Submits one call of a function:
     *
     *     auto area = pool.submit([](double width, double height) { return width * height; }, 2.0, 3.0);
     *     area.get();
     *
     * Throws tine::error: -EAGAIN: the window is full; TINE_EFUNCTION: the function is not of this module (wrap it in a
     * lambda), TINE_EMODULE, TINE_ENAME, TINE_ESHUTDOWN and the rest of tine_submit().
     */
    template <class F, class... A, std::enable_if_t<detail::may_be_function<F>, int> = 0>
    TINE_LOCAL future<detail::submission_of<F, A...>> submit(F &&function, A &&...arguments)
    {
        detail::report report;
        tine_id id = 0;
        int rc = send(report, id, nullptr, std::forward<F>(function), std::forward<A>(arguments)...);
        if (rc < 0)
            report.take(rc).raise();
        return {state_, id};
    }

    /** The same with options. */
    template <class F, class... A, std::enable_if_t<detail::may_be_function<F>, int> = 0>
    TINE_LOCAL future<detail::submission_of<F, A...>> submit(const submit_options &options, F &&function, A &&...arguments)
    {
        detail::report report;
        tine_id id = 0;
        int rc = send(report, id, &options, std::forward<F>(function), std::forward<A>(arguments)...);
        if (rc < 0)
            report.take(rc).raise();
        return {state_, id};
    }

    /** The same without exceptions. */
    template <class F, class... A, std::enable_if_t<detail::may_be_function<F>, int> = 0>
    TINE_LOCAL expected<future<detail::submission_of<F, A...>>> submit(std::nothrow_t, const submit_options &options, F &&function,
                                                            A &&...arguments)
    {
        detail::report report;
        tine_id id = 0;
        int rc = send(report, id, &options, std::forward<F>(function), std::forward<A>(arguments)...);
        if (rc < 0)
            return report.take(rc);
        return future<detail::submission_of<F, A...>>(state_, id);
    }

    template <class F, class... A, std::enable_if_t<detail::may_be_function<F>, int> = 0>
    TINE_LOCAL expected<future<detail::submission_of<F, A...>>> submit(std::nothrow_t, F &&function, A &&...arguments)
    {
        return submit(std::nothrow, submit_options(), std::forward<F>(function), std::forward<A>(arguments)...);
    }

    /**
     * Submits one call of a function whose result goes to a callback, as a tine::expected:
     *
     *     pool.submit_then([](tine::expected<int> sum) { show(sum); }, add, 19, 23);
     *
     * Callbacks come one at a time, on a thread of tine's (tine_submit_options.on_settled says when on another); each once, whatever
     * comes of the task, and before the pool has ended. One that throws ends the program. The output of a function that is called by name
     * without a type, or is a tine_fn, is a std::string of its bytes. In place of the callback there may be
     * tine::callbacks, of which the second is told when the task has begun, and in which process. Throws as submit().
     */
    template <class Settled, class F, class... A, std::enable_if_t<detail::may_be_function<Settled>, int> = 0>
    TINE_LOCAL tine_id submit_then(Settled &&settled, F &&function, A &&...arguments)
    {
        return submit_then(submit_options(), std::forward<Settled>(settled), std::forward<F>(function), std::forward<A>(arguments)...);
    }

    /** The same with options; .on_settled, .on_begin and .user are the callbacks' own. */
    template <class Settled, class F, class... A>
    TINE_LOCAL tine_id submit_then(const submit_options &options, Settled &&settled, F &&function, A &&...arguments)
    {
        return submit_then(std::nothrow, options, std::forward<Settled>(settled), std::forward<F>(function),
                           std::forward<A>(arguments)...)
            .value();
    }

    /** The same without exceptions. */
    template <class Settled, class F, class... A>
    TINE_LOCAL expected<tine_id> submit_then(std::nothrow_t, const submit_options &options, Settled &&settled, F &&function,
                                             A &&...arguments)
    {
        // The memory that a tine::result names ends with the callback.
        using given = detail::submission_of<F, A...>;
        using told = std::conditional_t<std::is_same_v<given, tine::result>, std::string, given>;
        using pending = detail::pending<told, std::decay_t<Settled>>;
        auto waiting = std::make_unique<pending>(state_, std::forward<Settled>(settled));
        submit_options full = options;
        waiting->place(full);
        detail::report report;
        tine_id id = 0;
        int rc = send(report, id, &full, std::forward<F>(function), std::forward<A>(arguments)...);
        if (rc < 0)
            return report.take(rc);
        static_cast<void>(waiting.release()); // its callback's, which may have been called by now
        return id;
    }

    /* ---- Streams: include tine/stream.hpp ---- */

    /**
     * A stream of items that are put (tine::stream::put), or drawn where `draw` is given, which gives one after the other and
     * then nothing. Each is one call of the function. Throws as tine_stream_create().
     */
    template <class A, class F, std::enable_if_t<detail::may_be_function<F>, int> = 0>
    TINE_LOCAL auto stream(F &&function, std::function<std::optional<A>()> draw = {});

    /** The same with options. */
    template <class A, class F>
    TINE_LOCAL auto stream(const stream_options &options, F &&function, std::function<std::optional<A>()> draw = {});

    /** The same without exceptions. */
    template <class A, class F>
    TINE_LOCAL auto stream(std::nothrow_t, const stream_options &options, F &&function, std::function<std::optional<A>()> draw = {});

    /** Waits until all tasks have settled; false: they have not within this time. Their results stay to be taken. */
    bool wait_all(time_limit timeout = forever)
    {
        return detail::done_or_not_now(tine_wait_all(handle(), nullptr, 0, timeout.ns()), "tine::pool::wait_all");
    }

    /** Cancels every task that has not settled. Returns how many. */
    int cancel_all() { return detail::check(tine_cancel_all(handle()), "tine::pool::cancel_all"); }

    /* ---- Maps and loops ---- */

    /**
     * Calls a function for each item of a range, on all workers, and gives the results in the items' order:
     *
     *     std::vector<double> roots = pool.map(numbers, [](double number) { return std::sqrt(number); });
     *
     * The range is contiguous; its items and the results are trivially copyable, or the range is a tine::vector. The function
     * takes const T &, or T, and before that a tine::task & if it likes.
     *
     * Throws items_failed if some items failed, after all have been dealt with (map_into() keeps the others' results); else
     * tine::error, as tine_map().
     */
    template <class Range, class F, std::enable_if_t<detail::may_be_function<Range>, int> = 0>
    TINE_LOCAL auto map(Range &&range, F &&function)
    {
        return map(map_options(), std::forward<Range>(range), std::forward<F>(function));
    }

    /** The same with options. */
    template <class Range, class F>
    TINE_LOCAL auto map(const map_options &options, Range &&range, F &&function)
    {
        return map(std::nothrow, options, std::forward<Range>(range), std::forward<F>(function)).value();
    }

    /** The same without exceptions, but for those of callbacks and std::bad_alloc. */
    template <class Range, class F>
    TINE_LOCAL auto map(std::nothrow_t, const map_options &options, Range &&range, F &&function)
    {
        using type = std::remove_reference_t<Range>;
        if constexpr (check_map<type, F>()) {
            using output = map_output<type, F>;
            static_assert(!std::is_void_v<output>, "tine: this function gives nothing: use for_each");
            static_assert(!std::is_same_v<output, bool>, "tine: a vector of bool has no addresses: return a char");
            static_assert(std::is_void_v<output> || detail::is_plain<output>,
                          "tine: results of this type cannot be copied to another process. Return a trivially copyable value, or use "
                          "map_into with a tine::vector");
            using place = std::conditional_t<std::is_void_v<output> || std::is_same_v<output, bool>, char, output>;
            std::vector<place> results(std::size(range));
            expected<void> done = run_map(options, range, results, function);
            if (!done)
                return expected<std::vector<place>>(done.error());
            return expected<std::vector<place>>(std::move(results));
        } else {
            return expected<std::vector<char>>(failure());
        }
    }

    template <class Range, class F, std::enable_if_t<detail::may_be_function<Range>, int> = 0>
    TINE_LOCAL auto map(std::nothrow_t, Range &&range, F &&function)
    {
        return map(std::nothrow, map_options(), std::forward<Range>(range), std::forward<F>(function));
    }

    /**
     * The same into a range that is there already, of the same length: what becomes of an item that fails is as it was. With a
     * tine::vector results may be of any type that the worker can build in the heap.
     */
    template <class Range, class Output, class F, std::enable_if_t<detail::may_be_function<Range>, int> = 0>
    TINE_LOCAL void map_into(Range &&range, Output &&output, F &&function)
    {
        map_into(map_options(), std::forward<Range>(range), std::forward<Output>(output), std::forward<F>(function));
    }

    template <class Range, class Output, class F>
    TINE_LOCAL void map_into(const map_options &options, Range &&range, Output &&output, F &&function)
    {
        run_map(options, range, output, function).value();
    }

    template <class Range, class Output, class F>
    TINE_LOCAL expected<void> map_into(std::nothrow_t, const map_options &options, Range &&range, Output &&output, F &&function)
    {
        return run_map(options, range, output, function);
    }

    /**
     * Calls a function for each item of a range, for what it does: with a tine::vector it may change the items, where they
     * are; of other ranges it gets copies.
     */
    template <class Range, class F, std::enable_if_t<detail::may_be_function<Range>, int> = 0>
    TINE_LOCAL void for_each(Range &&range, F &&function)
    {
        for_each(map_options(), std::forward<Range>(range), std::forward<F>(function));
    }

    template <class Range, class F, std::enable_if_t<!std::is_integral_v<std::decay_t<Range>>, int> = 0>
    TINE_LOCAL void for_each(const map_options &options, Range &&range, F &&function)
    {
        no_output none;
        run_map(options, range, none, function).value();
    }

    /**
     * Calls a function for each number from begin up to but not including end, in pieces of options.chunk numbers. A number that
     * fails fails its piece: what follows there is not called.
     */
    template <class F>
    TINE_LOCAL void for_each(std::size_t begin, std::size_t end, F &&function)
    {
        for_each(map_options(), begin, end, std::forward<F>(function));
    }

    template <class F>
    TINE_LOCAL void for_each(const map_options &options, std::size_t begin, std::size_t end, F &&function)
    {
        using type = detail::map_function<std::decay_t<F>>;
        detail::check_function<type>();
        if constexpr (detail::is_plain<type>)
            detail::check_call<type, std::size_t>();
        detail::map_call call(options);
        detail::packet captures;
        int rc = carry(call, captures, function);
        if (rc == 0)
            rc = tine_for(handle(), detail::local::run_range<type>, begin, end, call.options());
        call.finish(rc, end - begin).value();
    }

    /* ---- Memory ---- */

    /** The pool's heap. */
    tine::heap heap() const
    {
        return tine::heap(tine_pool_heap(handle()));
    }

    /** An object in the pool's heap: heap().make. Its address may go to workers. */
    template <class T, class... A>
    heap_ptr<T> make(A &&...arguments) const
    {
        return heap().template make<T>(std::forward<A>(arguments)...);
    }

    /** For containers in the pool's heap: tine::vector<int> numbers(pool.allocator()). */
    tine::allocator<std::byte> allocator() const { return heap().allocator(); }

    /** Has a segment mapped in every worker, at the address that it has here. Throws as tine_pool_share(). Include tine/segment.hpp. */
    inline void share(const tine::segment &segment, time_limit timeout = forever);
    /** The same without exceptions. */
    inline expected<void> share(std::nothrow_t, const tine::segment &segment, time_limit timeout = forever);

    /* ---- The pool itself ---- */

    /** Takes no more tasks and waits for all, so long; false: some are still under way, and it may be called again. */
    bool shutdown(time_limit timeout = forever)
    {
        return detail::done_or_not_now(tine_pool_shutdown(handle(), timeout.ns()), "tine::pool::shutdown");
    }

    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<void> shutdown(std::nothrow_t, time_limit timeout = forever)
    {
        if (int rc = tine_pool_shutdown(handle(), timeout.ns()))
            return detail::plain(rc, "tine::pool::shutdown");
        return {};
    }

    /** Counters. */
    tine_stats stats() const
    {
        tine_stats counters = TINE_STATS_INIT;
        detail::check(tine_pool_stats(handle(), &counters), "tine::pool::stats");
        return counters;
    }

    /** The same as text for Prometheus; the pool's name, UTF-8, becomes the label pool. */
    std::string stats_text(const std::string &name) const
    {
        tine_pool *const pools[] = {handle()};
        const char *const names[] = {name.c_str()};
        std::string text(2048, '\0');
        for (;;) {
            std::size_t length = 0;
            int rc = tine_stats_text(pools, names, 1, text.data(), text.size(), &length);
            if (rc != -EMSGSIZE) {
                detail::check(rc, "tine::pool::stats_text");
                text.resize(length);
                return text;
            }
            text.resize(length + 64); /* counters grow, and their digits */
        }
    }

    /** A descriptor that is readable when there is something to call poll() for. */
    int fd() const { return detail::check(tine_pool_fd(handle()), "tine::pool::fd"); }

    /** Moves the pool on without waiting. */
    int poll() { return detail::check(tine_pool_poll(handle()), "tine::pool::poll"); }

    /** tine.h's, for the calls there. */
    tine_pool *native_handle() const noexcept { return handle(); }

private:
    template <class T>
    friend class queue;

    explicit pool(std::shared_ptr<detail::pool_state> state) : state_(std::move(state)) {}

    static pool_options with_workers(std::size_t workers)
    {
        pool_options options;
        options.workers = workers;
        return options;
    }

    static expected<std::shared_ptr<detail::pool_state>> create_state(pool_options options, std::nothrow_t)
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        tine_pool *handle = nullptr;
        int rc = tine_pool_create(&options, &handle);
        if (rc < 0)
            return report.take(rc);
        return std::make_shared<detail::pool_state>(handle, true);
    }

    static expected<std::shared_ptr<detail::pool_state>> create_state(const pool_options &options)
    {
        auto state = create_state(options, std::nothrow);
        if (!state)
            state.error().raise();
        return state;
    }

    tine_pool *handle() const noexcept { return state_ ? state_->handle() : nullptr; }

    /* One task on its way. Options may be nullptr. */
    template <class F, class... A>
    TINE_LOCAL int send(detail::report &report, tine_id &id, const submit_options *options, F &&function, A &&...arguments)
    {
        auto post = [&](tine_fn call, const char *name, bytes input) {
            if (!name)
                return transmit(report, id, options, call, input);
            submit_options named = options ? *options : submit_options();
            named.name = name;
            return transmit(report, id, &named, call, input);
        };
        return detail::send(*report.place(), post, std::forward<F>(function), std::forward<A>(arguments)...);
    }

    /* Without options there is no text for an error, and nothing to look at for who succeeds, as nearly all do. A call that
       fails changes nothing, so the one that doesn't may ask again, for the text. */
    int transmit(detail::report &report, tine_id &id, const submit_options *options, tine_fn function, bytes input)
    {
        if (!options) {
            if (tine_pool *clean = state_ ? state_->clean_handle() : nullptr)
                if (int rc = tine_submit(clean, function, input.data, input.size, nullptr, &id); rc >= 0)
                    return rc;
        }
        submit_options full = options ? *options : submit_options();
        if (!full.error)
            full.error = report.place();
        int rc = full.offer_.place(full);
        if (rc == 0)
            rc = state_ ? state_->submit(function, input.data, input.size, full, id) : TINE_ESHUTDOWN;
        if (rc >= 0)
            full.offer_.taken();
        return rc;
    }

    struct no_output {};

    template <class Range, class F, bool Named = detail::is_named<std::decay_t<F>>::value>
    struct output_of {
        using type = detail::result_of<detail::map_function<std::decay_t<F>>, detail::item<Range> &>;
    };
    template <class Range, class F>
    struct output_of<Range, F, true> {
        using type = typename detail::submission<std::decay_t<F>>::type;
    };
    template <class Range, class F>
    using map_output = typename output_of<Range, F>::type;

    /* Says what is wrong, and whether something is. */
    template <class Range, class F>
    static constexpr bool check_map()
    {
        using type = detail::map_function<std::decay_t<F>>;
        constexpr bool fine_range = detail::check_range<Range>() && detail::is_contiguous<Range>::value;
        if constexpr (detail::is_named<std::decay_t<F>>::value) {
            return fine_range;
        } else {
            detail::check_function<type>();
            if constexpr (fine_range && detail::is_plain<type>) {
                detail::check_call<type, detail::item<Range> &>();
                return detail::is_callable<type, detail::item<Range> &>;
            }
            return false;
        }
    }

    /* A function's captures, as the map's context. */
    template <class F>
    TINE_LOCAL int carry(detail::map_call &call, detail::packet &captures, F &function)
    {
        using type = std::decay_t<F>;
        if (call.options()->context) {
            call.options()->error->code = -EINVAL;
            std::snprintf(call.options()->error->text, sizeof call.options()->error->text,
                          ".context is for functions that are called by name: capture it instead");
            return -EINVAL;
        }
        if constexpr (std::is_pointer_v<type> && std::is_function_v<std::remove_pointer_t<type>>) {
            using sent = detail::local::by_address<type>;
            if (!sent::is_here(function))
                return detail::elsewhere(*call.options()->error);
            captures.fill(sent::of(function));
        } else if constexpr (detail::is_plain<type>) {
            captures.fill(static_cast<const type &>(function));
        }
        call.options()->context = captures.data();
        call.options()->context_length = captures.size();
        return 0;
    }

    template <class Range, class Output, class F>
    TINE_LOCAL expected<void> run_map(const map_options &options, Range &range, Output &output, F &function)
    {
        constexpr bool has_output = !std::is_same_v<std::remove_const_t<Output>, no_output>;
        constexpr bool is_named = detail::is_named<std::decay_t<F>>::value;
        if constexpr (has_output)
            detail::check_range<Output>();
        if constexpr (check_map<Range, F>() && (!has_output || detail::is_contiguous<Output>::value)) {
            using in = detail::item<Range>;
            detail::map_call call(options);
            detail::packet captures;
            void *out = nullptr;
            std::size_t out_stride = 0;
            tine_item_fn item_function = nullptr;
            if constexpr (has_output) {
                out = std::data(output);
                out_stride = sizeof(*std::data(output));
                if (std::size(output) != std::size(range))
                    return detail::plain(-EINVAL, "tine::pool::map_into: the ranges' lengths differ");
            }
            int rc = 0;
            if constexpr (is_named) {
                call.options()->name = function.name.c_str();
            } else {
                using type = detail::map_function<std::decay_t<F>>;
                if constexpr (has_output) {
                    using gives = detail::result_of<type, in &>;
                    using to = std::remove_reference_t<decltype(*std::data(output))>;
                    static_assert(!std::is_const_v<to>, "tine: the range for the results is const");
                    static_assert(std::is_convertible_v<gives, to>, "tine: the function's result is not what the range for the results holds");
                    constexpr bool assigned = detail::is_shared_range<Output>::value && !detail::is_plain<to>;
                    item_function = detail::local::run_item<type, in, to, assigned>;
                } else {
                    item_function = detail::local::run_item<type, in, void, false>;
                }
                rc = carry(call, captures, function);
            }
            if (rc == 0)
                rc = tine_map(handle(), item_function, std::data(range), sizeof(in), out, out_stride, std::size(range),
                              call.options());
            return call.finish(rc, std::size(range));
        }
        return {};
    }

    std::shared_ptr<detail::pool_state> state_;
};

inline tine::pool task::pool() const
{
    return tine::pool::from(tine_task_pool(handle_));
}

} // namespace tine

#endif /* TINE_POOL_HPP */
