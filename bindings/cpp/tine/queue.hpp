/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: queues of messages between the processes of a pool.
 */
#ifndef TINE_QUEUE_HPP
#define TINE_QUEUE_HPP

#include "codec.hpp"
#include "error.hpp"
#include "pool.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

TINE_NAMESPACE_BEGIN

/** What a queue can be told: tine.h's tine_queue_options, at its defaults. */
struct queue_options : tine_queue_options {
    queue_options() : tine_queue_options TINE_QUEUE_OPTIONS_INIT {}
};

/**
 * A queue that somebody owns: what to give to workers, whose calls are the owner's. Messages are what T's tine::codec makes of
 * them: of trivially copyable values their bytes, of a string its characters; so any language can put and get them.
 *
 * Every wait throws tine::error with -EPIPE once the queue is closed (and, for consumers, empty), but for next() and the
 * try_ calls of consumers, which then give nothing. No process that is killed blocks others; what a dead one takes along is
 * said in tine.h, at tine_queue.
 */
template <class T>
class queue_ref {
    static_assert(detail::can_travel<T>::value,
                  "tine: messages of this type cannot be sent to another process. Use a trivially copyable type, std::string, or "
                  "std::vector of such values; or specialise tine::codec for the type");

public:
    using value_type = T;

    queue_ref() = default;
    explicit queue_ref(tine_queue *handle) noexcept : handle_(handle) {}

    /** Puts a message, and waits for room. -EMSGSIZE: it is longer than the queue can hold. */
    void put(const T &value, time_limit timeout = forever) const { put(std::nothrow, value, timeout).value(); }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<void> put(std::nothrow_t, const T &value, time_limit timeout = forever) const
    {
        if (int rc = put_ns(value, timeout.ns()))
            return detail::plain(rc, "tine::queue::put");
        return {};
    }
    /** Puts it if there is room; whether there was. */
    bool try_put(const T &value) const { return detail::done_or_not_now(put_ns(value, 0), "tine::queue::try_put"); }
    template <class Rep, class Period>
    bool try_put_for(const T &value, std::chrono::duration<Rep, Period> timeout) const
    {
        return detail::done_or_not_now(put_ns(value, time_limit(timeout).ns()), "tine::queue::try_put_for");
    }

    /** Takes the next message, and waits for one. -EBADMSG: it is no T; it is gone, unless it is longer than one: -EMSGSIZE. */
    T get(time_limit timeout = forever) const { return get(std::nothrow, timeout).value(); }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<T> get(std::nothrow_t, time_limit timeout = forever) const { return get_ns(timeout.ns()); }
    /** Takes it if there is one. */
    std::optional<T> try_get() const { return get_if(0); }
    template <class Rep, class Period>
    std::optional<T> try_get_for(std::chrono::duration<Rep, Period> timeout) const
    {
        return get_if(time_limit(timeout).ns());
    }
    /** The next message, until the queue is closed and empty: while (auto message = queue.next()). */
    std::optional<T> next() const { return get_if(TINE_FOREVER); }

    /** Takes the next message's bytes, whatever they are; -EMSGSIZE: more than capacity, and it stays. Returns how many. */
    expected<std::size_t> get_into(std::nothrow_t, void *buffer, std::size_t capacity,
                                   time_limit timeout = forever) const
    {
        std::size_t length = 0;
        if (int rc = tine_queue_get(handle_, timeout.ns(), buffer, capacity, &length))
            return detail::plain(rc, "tine::queue::get_into");
        return length;
    }

    /** Nothing more is put: consumers get what is there, and then -EPIPE. */
    void close() const { detail::check(tine_queue_close(handle_), "tine::queue::close"); }
    bool closed() const { return tine_queue_is_closed(handle_); }
    /** How many messages there are at this moment. */
    std::size_t size() const { return tine_queue_count(handle_); }
    bool empty() const { return tine_queue_is_empty(handle_); }

    /** Says that a message has been dealt with, for join(). */
    void task_done() const { detail::check(tine_queue_task_done(handle_), "tine::queue::task_done"); }
    /** Waits until task_done() was called for every message. */
    void join() const { join(std::nothrow).value(); }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<void> join(std::nothrow_t, time_limit timeout = forever) const
    {
        if (int rc = tine_queue_join(handle_, timeout.ns()))
            return detail::plain(rc, "tine::queue::join");
        return {};
    }

    /** A descriptor that is readable while there may be something to get. */
    int fd() const { return detail::check(tine_queue_fd(handle_), "tine::queue::fd"); }

    /** tine.h's: for other languages' workers, say. */
    tine_queue *native_handle() const noexcept { return handle_; }

protected:
    tine_queue *handle_ = nullptr;

private:
    static constexpr bool is_fixed = detail::has_fixed_size<T>::value;

    int put_ns(const T &value, std::int64_t timeout_ns) const
    {
        if constexpr (is_fixed) {
            return tine_queue_put(handle_, std::addressof(value), sizeof(T), timeout_ns);
        } else {
            void *place;
            std::size_t size = codec<T>::size(value);
            if (int rc = tine_queue_reserve(handle_, size, timeout_ns, &place))
                return rc;
            TINE_TRY
            {
                codec<T>::encode(value, place);
            }
            TINE_CATCH_ALL
            {
                tine_queue_abandon(handle_);
                TINE_THROW_ON;
            }
            return tine_queue_commit(handle_, size);
        }
    }

    expected<T> get_ns(std::int64_t timeout_ns) const
    {
        if constexpr (is_fixed) {
            alignas(T) unsigned char place[sizeof(T)];
            std::size_t length = 0;
            if (int rc = tine_queue_get(handle_, timeout_ns, place, sizeof place, &length)) {
                failure what = detail::plain(rc, "tine::queue::get");
                if (rc == -EMSGSIZE)
                    what.message = "a message of " + std::to_string(length) + " bytes is not a value of " +
                                   std::to_string(sizeof(T));
                return what;
            }
            return detail::decode<T>({place, length}); // or why it is no T
        } else {
            void *place;
            std::size_t length = 0;
            if (int rc = tine_queue_peek(handle_, timeout_ns, &place, &length))
                return detail::plain(rc, "tine::queue::get");
            struct releasing {
                tine_queue *queue;
                ~releasing() { tine_queue_release(queue); }
            } guard{handle_};
            return detail::decode<T>({place, length}); // or why it is no T
        }
    }

    std::optional<T> get_if(std::int64_t timeout_ns) const
    {
        expected<T> message = get_ns(timeout_ns);
        if (message)
            return std::move(*message);
        int code = message.error().code;
        if (code != -EAGAIN && code != -ETIMEDOUT && code != -EPIPE)
            message.error().raise();
        return std::nullopt;
    }
};

/**
 * A queue in a pool's heap, and its owner: it ends with this object, which nobody may be using then, or with its pool. After that no call
 * on it is allowed. ref() goes to workers.
 */
template <class T>
class queue : public queue_ref<T> {
public:
    explicit queue(const pool &pool, const queue_options &options = {}) : queue_ref<T>(create(pool, options)), pool_(pool.state_) {}

    /** For so many messages. */
    queue(const pool &pool, std::size_t messages) : queue(pool, with_capacity(messages)) {}

    queue(queue &&other) noexcept : queue_ref<T>(std::exchange(other.handle_, nullptr)), pool_(std::move(other.pool_)) {}
    queue &operator=(queue &&other) noexcept
    {
        std::swap(this->handle_, other.handle_);
        std::swap(pool_, other.pool_);
        return *this;
    }
    ~queue()
    {
        detail::pool_state::use pool(pool_);
        if (pool.handle()) // otherwise its memory has gone with the pool
            tine_queue_destroy(this->handle_);
    }

    /** What to give to workers: it may be copied and sent. */
    queue_ref<T> ref() const noexcept { return *this; }

private:
    static queue_options with_capacity(std::size_t messages)
    {
        queue_options options;
        options.capacity_messages = messages;
        return options;
    }

    static tine_queue *create(const pool &pool, queue_options options)
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        // Room for as many values as were asked for, where their size is known.
        if constexpr (detail::has_fixed_size<T>::value)
            if (options.capacity_messages && !options.capacity_bytes && sizeof(T) > 64)
                options.capacity_bytes = options.capacity_messages * ((sizeof(T) + 15) / 16 * 16);
        tine_queue *handle = nullptr;
        int rc = tine_queue_create(pool.native_handle(), &options, &handle);
        if (rc < 0)
            report.take(rc).raise();
        return handle;
    }

    std::shared_ptr<detail::pool_state> pool_;
};

TINE_NAMESPACE_END

#endif /* TINE_QUEUE_HPP */
