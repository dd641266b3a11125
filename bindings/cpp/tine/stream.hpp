/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: streams, for input that does not fit into memory, or that has no end.
 */
#ifndef TINE_STREAM_HPP
#define TINE_STREAM_HPP

#include "codec.hpp"
#include "error.hpp"
#include "function.hpp"
#include "future.hpp"
#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

TINE_NAMESPACE_BEGIN

/** What a stream can be told: tine.h's tine_stream_options, at its defaults; .name is set by tine::named, .pull by pool::stream. */
struct stream_options : tine_stream_options {
    stream_options() : tine_stream_options TINE_STREAM_OPTIONS_INIT {}
};

/** What came of an item: its result, or why there is none. */
template <class R>
struct stream_result : expected<R> {
    /** Which item, from 0, in the order in which they went in; where several threads put, some numbers may be nobody's. */
    std::uint64_t number;

    stream_result(std::uint64_t which, expected<R> what) : expected<R>(std::move(what)), number(which) {}
};

/**
 * Items go in, and results come out in the same order (or with TINE_UNORDERED as they finish), and between the two there are never
 * more than a window allows. R is what the function gives, A what it takes. pool::stream makes one; it ends before its pool, and
 * what has not begun by then never does.
 *
 *     auto squares = pool.stream<int>([](int number) { return number * number; });
 *     squares.put(3);
 *     squares.end();
 *     while (auto square = squares.next())
 *         use(square->value());
 *
 * Any threads may put and take. A thread that does both must not wait to put while the window is full of results that it has not
 * taken: try_put() says so.
 */
template <class R, class A>
class stream {
public:
    stream(stream &&other) noexcept
        : pool_(std::move(other.pool_)), handle_(std::exchange(other.handle_, nullptr)), captures_(std::move(other.captures_)),
          source_(std::move(other.source_)), count_(other.count_.load())
    {
    }
    stream &operator=(stream &&) = delete;
    ~stream() { tine_stream_destroy(handle_); }

    /** Puts an item in, and waits for room. -EPIPE: after end(); -ECANCELED: an item has failed, with TINE_STOP_ON_FAILURE. */
    void put(const A &item, time_limit timeout = forever) { put(std::nothrow, item, timeout).value(); }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<void> put(std::nothrow_t, const A &item, time_limit timeout = forever)
    {
        if (int rc = put_ns(item, timeout.ns()))
            return detail::plain(rc, "tine::stream::put");
        return {};
    }
    /** Puts it in if there is room; whether there was. */
    bool try_put(const A &item) { return detail::done_or_not_now(put_ns(item, 0), "tine::stream::try_put"); }
    /** Says that no more items will come. */
    void end() { detail::check(tine_stream_end(handle_), "tine::stream::end"); }

    /**
     * Waits for the next result; nothing: the input has ended and all results are taken. The item's failure is in the result, and
     * its .value() throws it. Throws -ETIMEDOUT, -EAGAIN: not yet; TINE_ESHUTDOWN; and once, after the results before it, what
     * drawing an item has thrown.
     */
    std::optional<stream_result<R>> next(time_limit timeout = forever)
    {
        auto taken = next(std::nothrow, timeout);
        // This code is pull's alone, and comes once, after the items before it. Other failures may come while another thread draws.
        if (!taken && taken.error().code == -ECANCELED && source_)
            std::rethrow_exception(std::exchange(source_->thrown, nullptr));
        return std::move(taken).value();
    }
    /** The same without exceptions; -ECANCELED, once: drawing an item has thrown. */
    expected<std::optional<stream_result<R>>> next(std::nothrow_t, time_limit timeout = forever)
    {
        using taken = std::optional<stream_result<R>>;
        tine_result result = TINE_RESULT_INIT;
        int rc = tine_stream_next(handle_, timeout.ns(), &result);
        if (rc == TINE_EEMPTY)
            return taken();
        if (rc)
            return detail::plain(rc, "tine::stream::next");
        auto number = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(result.user));
        expected<taken> answer{taken()}; // made in its place: gcc warns, wrongly, of what is moved on and on
        if constexpr (std::is_same_v<R, tine::result>) {
            if (result.status >= 0) {
                answer->emplace(number, tine::result(pool_, result));
                return answer;
            }
        }
        struct releasing {
            tine_pool *pool;
            tine_result *result;
            ~releasing() { tine_result_release(pool, result); }
        } guard{pool_->handle(), &result};
        if (result.status < 0)
            answer->emplace(number, detail::failure_of(result));
        else if constexpr (std::is_void_v<R>)
            answer->emplace(number, expected<void>());
        else if constexpr (!std::is_same_v<R, tine::result>)
            answer->emplace(number, detail::decode<R>({result.data, result.length}));
        return answer;
    }

    /** tine.h's. */
    tine_stream *native_handle() const noexcept { return handle_; }

    /* For pool::stream. `captures` are the function's, packed; nothing: it is called by name, and its input is the item alone. */
    struct source {
        std::function<std::optional<A>()> draw;
        std::optional<std::vector<unsigned char>> captures;
        std::vector<unsigned char> packed;
        std::uint64_t count = 0;
        std::exception_ptr thrown;
    };

    static expected<stream> make(std::shared_ptr<detail::pool_state> pool, stream_options options, tine_fn function, const char *name,
                                 std::optional<std::vector<unsigned char>> captures, std::function<std::optional<A>()> draw)
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        options.name = name;
        std::unique_ptr<source> from;
        if (draw) {
            from = std::make_unique<source>();
            from->draw = std::move(draw);
            from->captures = captures;
            options.pull = pull;
            options.user = from.get();
        }
        tine_stream *handle = nullptr;
        if (int rc = pool ? tine_stream_create(pool->handle(), function, &options, &handle) : TINE_ESHUTDOWN)
            return report.take(rc);
        return stream(std::move(pool), handle, std::move(captures), std::move(from));
    }

private:
    stream(std::shared_ptr<detail::pool_state> pool, tine_stream *handle, std::optional<std::vector<unsigned char>> captures,
           std::unique_ptr<source> from) noexcept
        : pool_(std::move(pool)), handle_(handle), captures_(std::move(captures)), source_(std::move(from))
    {
    }

    static void pack_into(std::vector<unsigned char> &to, const std::optional<std::vector<unsigned char>> &captures, const A &item)
    {
        if (captures) {
            to.resize(captures->size() + detail::packed_size(item));
            std::copy(captures->begin(), captures->end(), to.begin());
            detail::pack(item, to.data() + captures->size());
        } else {
            to.resize(codec<A>::size(item));
            codec<A>::encode(item, to.data());
        }
    }

    int put_ns(const A &item, std::int64_t timeout_ns)
    {
        std::vector<unsigned char> packed;
        pack_into(packed, captures_, item);
        auto number = reinterpret_cast<void *>(static_cast<std::uintptr_t>(count_.fetch_add(1)));
        int rc = tine_stream_put(handle_, packed.data(), packed.size(), number, timeout_ns);
        if (rc) {
            auto after = reinterpret_cast<std::uintptr_t>(number) + 1;
            std::uint64_t expected = after;
            count_.compare_exchange_strong(expected, after - 1); // unless another thread has taken the next
        }
        return rc;
    }

    /* What the draw has thrown leaves next() once the items before it have been taken. */
    static int pull(void *user, const void **input, std::size_t *length, void **item) noexcept
    {
        auto &from = *static_cast<source *>(user);
        std::optional<A> drawn;
        TINE_TRY
        {
            drawn = from.draw();
            if (!drawn)
                return 0;
            pack_into(from.packed, from.captures, *drawn);
        }
        TINE_CATCH_ALL
        {
            from.thrown = std::current_exception();
            return -ECANCELED;
        }
        *input = from.packed.data();
        *length = from.packed.size();
        *item = reinterpret_cast<void *>(static_cast<std::uintptr_t>(from.count++));
        return 1;
    }

    std::shared_ptr<detail::pool_state> pool_;
    tine_stream *handle_;
    std::optional<std::vector<unsigned char>> captures_;
    std::unique_ptr<source> source_;
    std::atomic<std::uint64_t> count_{0};
};

template <class A, class F>
TINE_LOCAL auto pool::stream(const stream_options &options, F &&function, std::function<std::optional<A>()> draw)
{
    return std::move(stream<A>(std::nothrow, options, std::forward<F>(function), std::move(draw))).value();
}

template <class A, class F, std::enable_if_t<detail::may_be_function<F>, int>>
TINE_LOCAL auto pool::stream(F &&function, std::function<std::optional<A>()> draw)
{
    return stream<A>(stream_options(), std::forward<F>(function), std::move(draw));
}

template <class A, class F>
TINE_LOCAL auto pool::stream(std::nothrow_t, const stream_options &options, F &&function, std::function<std::optional<A>()> draw)
{
    using made = tine::stream<detail::submission_of<F, A>, A>;
    std::optional<expected<made>> stream;
    auto with = [&](tine_fn call, const char *name, auto captures) {
        stream.emplace(made::make(state_, options, call, name, std::move(captures), std::move(draw)));
        return 0;
    };
    detail::report report;
    const std::decay_t<F> sent = function;
    if (int rc = detail::send_captures<A>(*report.place(), with, sent))
        stream.emplace(report.take(rc));
    return std::move(*stream);
}

TINE_NAMESPACE_END

#endif /* TINE_STREAM_HPP */
