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
#include "submission.hpp"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TINE_NAMESPACE_BEGIN

/** What is to go wrong in a pool, for tests: tine.h's tine_faults, at nothing. It stays there until the pool has been created. */
struct faults : tine_faults {
    faults() : tine_faults TINE_FAULTS_INIT {}
};

/** What a pool can be told: tine.h's tine_pool_options, at its defaults; .faults points to a tine::faults. */
struct pool_options : tine_pool_options {
    pool_options() : tine_pool_options TINE_POOL_OPTIONS_INIT {}
};

template <class T>
class queue;
class segment;
template <class R, class A>
class stream;
struct stream_options;

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

    /**
     * A pool that somebody else owns: C's, or a task's own. Objects of such a pool come and go; futures, queues and streams made with one
     * stay good after it, and end before the pool that its owner ends. Results that no future asks for any more are released by later
     * submissions through the same object, or are the owner's to take (tine_next).
     */
    static pool from(tine_pool *handle) { return pool(std::make_shared<detail::pool_state>(handle, false)); }

    pool(pool &&) noexcept = default;
    pool &operator=(pool &&other) noexcept
    {
        pool given(std::move(other)); // first: it may be this one
        std::swap(state_, given.state_);
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
        if constexpr (detail::check_map<type, F>()) {
            using output = detail::map_output<type, F>;
            static_assert(!std::is_void_v<output>, "tine: this function gives nothing: use for_each");
            static_assert(!std::is_same_v<output, bool>, "tine: a vector of bool has no addresses: return a char");
            static_assert(std::is_void_v<output> || detail::is_plain<output>,
                          "tine: results of this type cannot be copied to another process. Return a trivially copyable value, or use "
                          "map_into with a tine::vector");
            using place = std::conditional_t<std::is_void_v<output> || std::is_same_v<output, bool>, char, output>;
            std::vector<place> results(std::size(range));
            expected<void> done = detail::run_map(handle(), options, range, results, function);
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
        detail::run_map(handle(), options, range, output, function).value();
    }

    template <class Range, class Output, class F>
    TINE_LOCAL expected<void> map_into(std::nothrow_t, const map_options &options, Range &&range, Output &&output, F &&function)
    {
        return detail::run_map(handle(), options, range, output, function);
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
        detail::no_output none;
        detail::run_map(handle(), options, range, none, function).value();
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
        int rc = detail::carry(call, captures, function);
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

    std::shared_ptr<detail::pool_state> state_;
};

inline tine::pool task::pool() const
{
    return tine::pool::from(tine_task_pool(handle_));
}

TINE_NAMESPACE_END

#endif /* TINE_POOL_HPP */
