/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: what comes of a task.
 */
#ifndef TINE_FUTURE_HPP
#define TINE_FUTURE_HPP

#include "codec.hpp"
#include "error.hpp"
#include "memory.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>
#include <utility>

TINE_NAMESPACE_BEGIN

namespace detail {

/*
 * A pool, as what is made with it knows it. Results that nobody will ask for count in the pool's window until they are taken, so
 * futures that are destroyed leave their tasks' numbers here; what has settled of them is released by later calls.
 *
 * Futures, results and queues may outlive the pool's object, and be in use by other threads when it ends. uses_ says how many of them
 * are in a call, and by one bit that the pool has ended: enter() sets the one, end() the other, so that either enter() sees the end, or
 * end() sees whom it has to wait for. The pool's own object is its user's to end when no thread is in a call on it.
 */
class pool_state {
public:
    pool_state(tine_pool *handle, bool owned) : handle_(handle), owned_(owned) {}
    pool_state(const pool_state &) = delete;
    pool_state &operator=(const pool_state &) = delete;
    ~pool_state() { end(); }

    /* Keeps the pool for a call of what may outlive it. */
    class use {
    public:
        explicit use(const std::shared_ptr<pool_state> &of) noexcept : state_(of && of->enter() ? of.get() : nullptr) {}
        use(const use &) = delete;
        use &operator=(const use &) = delete;
        ~use()
        {
            if (state_)
                state_->leave();
        }

        /* nullptr: there is no pool, or none any more. */
        tine_pool *handle() const noexcept { return state_ ? state_->handle_ : nullptr; }

    private:
        pool_state *state_;
    };

    /* For the pool's own object and what must end before it. */
    tine_pool *handle() const noexcept { return handle_; }

    /* The same, but nullptr while there are tasks that nobody will ask for. */
    tine_pool *clean_handle() const noexcept
    {
        return abandoned_count_.load(std::memory_order_relaxed) == 0 ? handle_ : nullptr;
    }

    /* Of a pool that somebody else owns only the object ends: what it has made goes on. */
    void end() noexcept
    {
        if (!owned_)
            return;
        std::uint64_t before = uses_.fetch_or(ended, std::memory_order_acq_rel);
        if ((before & ended) != 0)
            return;
        // Who waits for a task is told that it was cancelled. In a child of fork() the threads are not there that were in a call.
        if (before != 0 && tine_cancel_all(handle_) >= 0) {
            std::unique_lock<std::mutex> guard(mutex_);
            unused_.wait(guard, [this] { return uses_.load(std::memory_order_acquire) == ended; });
        }
        tine_pool_destroy(handle_);
    }

    int submit(tine_fn function, const void *input, std::size_t size, tine_submit_options &options, tine_id &id)
    {
        // While one thread waits for room, futures may be destroyed in another: a wait is of the other kind, too.
        if (clean_handle() && options.timeout_ns <= 0)
            return tine_submit(handle_, function, input, size, &options, &id);
        return submit_and_sweep(function, input, size, options, id);
    }

    /* Within a use. */
    void abandon(tine_id id) noexcept
    {
        if (release_if_settled(id))
            return;
        TINE_TRY
        {
            std::lock_guard<std::mutex> guard(mutex_);
            abandoned_.push_back(id);
            abandoned_count_.store(abandoned_.size(), std::memory_order_relaxed);
        }
        TINE_CATCH_ALL
        {
            // Its place in the window is lost until the pool ends.
        }
    }

private:
    static constexpr std::uint64_t ended = std::uint64_t(1) << 63;

    bool enter() noexcept
    {
        if (!owned_ || (uses_.fetch_add(1, std::memory_order_acquire) & ended) == 0)
            return true;
        leave();
        return false;
    }

    void leave() noexcept
    {
        if (!owned_ || uses_.fetch_sub(1, std::memory_order_release) != (ended | 1))
            return;
        std::lock_guard<std::mutex> guard(mutex_);
        unused_.notify_all();
    }

    /* Whether there is nothing more to release. */
    bool release_if_settled(tine_id id) noexcept
    {
        tine_result gone = TINE_RESULT_INIT;
        int rc = tine_wait(handle_, id, 0, &gone);
        tine_result_release(handle_, &gone);
        return rc != -EAGAIN && rc != -EINTR && rc != -EBUSY;
    }

    /* Tasks settle in about the order in which they were submitted, so looking at the oldest is enough, as a rule. */
    void sweep(bool all)
    {
        std::lock_guard<std::mutex> guard(mutex_);
        while (!abandoned_.empty() && release_if_settled(abandoned_.front()))
            abandoned_.pop_front();
        if (all)
            abandoned_.erase(std::remove_if(abandoned_.begin(), abandoned_.end(),
                                            [this](tine_id id) { return release_if_settled(id); }),
                             abandoned_.end());
        abandoned_count_.store(abandoned_.size(), std::memory_order_relaxed);
    }

    /* A window that is full of abandoned tasks has room as soon as they are looked at, so a wait for it is made of short ones. */
    int submit_and_sweep(tine_fn function, const void *input, std::size_t size, tine_submit_options &options, tine_id &id)
    {
        constexpr std::int64_t slice_ns = 5'000'000;
        const time_left time(options.timeout_ns);
        sweep(false);
        for (bool last = false; !last;) {
            std::int64_t left_ns = time.ns();
            last = left_ns <= slice_ns;
            options.timeout_ns = last ? left_ns : slice_ns;
            int rc = tine_submit(handle_, function, input, size, &options, &id);
            // A wait that ends with -EAGAIN has not been one: no thread can be started.
            if (rc != (options.timeout_ns > 0 ? -ETIMEDOUT : -EAGAIN))
                return rc;
            sweep(true);
        }
        options.timeout_ns = 0;
        return time.code(tine_submit(handle_, function, input, size, &options, &id));
    }

    tine_pool *const handle_;
    const bool owned_;
    std::atomic<std::uint64_t> uses_{0};
    std::atomic<std::size_t> abandoned_count_{0};
    std::mutex mutex_;
    std::condition_variable unused_;
    std::deque<tine_id> abandoned_;
};

inline failure failure_of(const tine_result &result)
{
    failure what;
    what.code = result.status;
    what.message = result.message && result.message[0] ? result.message : tine_strerror(result.status);
    what.delivery = result.delivery;
    what.deaths = result.deaths;
    what.of_task = true;
    if (result.death)
        what.death = std::make_shared<const death>(*result.death);
    return what;
}

} // namespace detail

/** What a task has come to, as tine.h has it, without a copy of its output: for functions that are called by name. */
class result {
public:
    result(std::shared_ptr<detail::pool_state> pool, const tine_result &from) noexcept : pool_(std::move(pool)), result_(from) {}
    result(result &&other) noexcept : pool_(std::move(other.pool_)), result_(std::exchange(other.result_, nothing())) {}
    result &operator=(result &&other) noexcept
    {
        std::swap(pool_, other.pool_);
        std::swap(result_, other.result_);
        return *this;
    }
    ~result()
    {
        detail::pool_state::use pool(pool_);
        if (pool.handle())
            tine_result_release(pool.handle(), &result_);
    }

    /** What the function returned: 0 or more. */
    int status() const noexcept { return result_.status; }
    /** Its output; valid as long as this and the pool are. */
    const void *data() const noexcept { return result_.data; }
    /** Its length in bytes. */
    std::size_t size() const noexcept { return result_.length; }
#ifdef TINE_HAS_SPAN
    /** The output as bytes. */
    std::span<const std::byte> span() const noexcept { return {static_cast<const std::byte *>(result_.data), result_.length}; }
#endif
    /** The output as characters. */
    std::string_view text() const noexcept { return {static_cast<const char *>(result_.data), result_.length}; }
    /** The output as a T; throws -EBADMSG where it is none. */
    template <class T>
    T as() const
    {
        return codec<T>::decode({result_.data, result_.length});
    }
    /** How many processes have died while they ran the task. */
    std::uint32_t deaths() const noexcept { return result_.deaths; }
    /** tine.h's. */
    const tine_result &native_handle() const noexcept { return result_; }

private:
    static tine_result nothing() noexcept { return TINE_RESULT_INIT; }

    std::shared_ptr<detail::pool_state> pool_;
    tine_result result_;
};

/**
 * A task's result to come. It may be moved, not copied, and may outlive its pool: then it is TINE_ESHUTDOWN. A pool that ends while
 * another thread waits for a future cancels the tasks, within its .grace_ns, and the thread gets -ECANCELED.
 *
 * One that is destroyed leaves the task to itself: it runs, and its result is released.
 */
template <class R>
class [[nodiscard]] future {
public:
    future() = default;
    future(std::shared_ptr<detail::pool_state> pool, tine_id id) noexcept : pool_(std::move(pool)), id_(id) {}
    future(future &&other) noexcept : pool_(std::move(other.pool_)), id_(std::exchange(other.id_, 0)) {}
    future &operator=(future &&other) noexcept
    {
        future given(std::move(other)); // first: it may be this one
        std::swap(pool_, given.pool_);
        std::swap(id_, given.id_);
        return *this;
    }
    ~future()
    {
        detail::pool_state::use pool(pool_);
        if (pool.handle())
            pool_->abandon(id_);
    }

    /** Whether there is a result to come: false once get() has given it. */
    bool valid() const noexcept { return pool_ != nullptr; }
    /** The task's number; 0 where there is none. */
    tine_id id() const noexcept { return id_; }

    /**
     * Waits for the task, and takes its result.
     *
     * Throws task_failed if the function threw, returned an error or ran out of time, worker_died if its process died;
     * tine::error with -ETIMEDOUT or -EAGAIN, and the future is as before, if the time given here runs out; TINE_EID if
     * the result has been taken; TINE_ESHUTDOWN if the pool has been destroyed.
     */
    R get(time_limit timeout = forever)
    {
        taken what(*this, timeout);
        if (what.code)
            detail::plain(what.code, "tine::future::get").raise();
        if (what.result.status < 0)
            detail::failure_of(what.result).raise();
        return what.value();
    }

    /** The same without exceptions. */
    expected<R> get(std::nothrow_t, time_limit timeout = forever)
    {
        taken what(*this, timeout);
        if (what.code)
            return detail::plain(what.code, "tine::future::get");
        if (what.result.status < 0)
            return detail::failure_of(what.result);
        return what.value_or_failure();
    }

    /** Waits until the task has settled. The result stays to be taken. */
    void wait() const { detail::check(settle(TINE_FOREVER), "tine::future::wait"); }

    template <class Rep, class Period>
    std::future_status wait_for(std::chrono::duration<Rep, Period> timeout) const
    {
        return status(settle(time_limit(timeout).ns()));
    }

    template <class Clock, class Duration>
    std::future_status wait_until(std::chrono::time_point<Clock, Duration> time) const
    {
        return status(detail::wait_until(time, [this](std::int64_t timeout_ns) { return settle(timeout_ns); }));
    }

    /** Whether the task has settled. */
    bool is_ready() const { return status(settle(0)) == std::future_status::ready; }

    /** Cancels the task, which settles with -ECANCELED. Throws -EALREADY: it has settled. */
    void cancel() const { cancel(std::nothrow).value(); }

    /** The same without exceptions. */
    expected<void> cancel(std::nothrow_t) const
    {
        detail::pool_state::use pool(pool_);
        int rc = pool.handle() ? tine_cancel(pool.handle(), id_) : pool_ ? TINE_ESHUTDOWN : TINE_EID;
        if (rc < 0)
            return detail::plain(rc, "tine::future::cancel");
        return {};
    }

private:
    /* A result that has been taken; what it points to is released at the end of the call. */
    struct taken {
        taken(future &from, time_limit timeout) : pool(from.pool_)
        {
            code = pool.handle() ? tine_wait(pool.handle(), from.id_, timeout.ns(), &result) : from.pool_ ? TINE_ESHUTDOWN : TINE_EID;
            if (code == 0) {
                owner = std::move(from.pool_);
                from.id_ = 0;
            }
        }
        taken(const taken &) = delete;
        taken &operator=(const taken &) = delete;
        ~taken()
        {
            if (owner)
                tine_result_release(pool.handle(), &result);
        }

        R value()
        {
            if constexpr (std::is_same_v<R, tine::result>)
                return tine::result(std::move(owner), result);
            else if constexpr (!std::is_void_v<R>)
                return codec<R>::decode({result.data, result.length});
        }

        expected<R> value_or_failure()
        {
            if constexpr (std::is_void_v<R>)
                return {};
            else if constexpr (std::is_same_v<R, tine::result>)
                return value();
            else
                return detail::decode<R>({result.data, result.length});
        }

        int code;
        tine_result result = TINE_RESULT_INIT;
        std::shared_ptr<detail::pool_state> owner;
        detail::pool_state::use pool; // ends before its owner
    };

    int settle(std::int64_t timeout_ns) const
    {
        detail::pool_state::use pool(pool_);
        return pool.handle() ? tine_wait_all(pool.handle(), &id_, 1, timeout_ns) : pool_ ? TINE_ESHUTDOWN : TINE_EID;
    }

    static std::future_status status(int rc)
    {
        return detail::done_or_not_now(rc, "tine::future::wait_for") ? std::future_status::ready
                                                                     : std::future_status::timeout;
    }

    std::shared_ptr<detail::pool_state> pool_;
    tine_id id_ = 0;
};

TINE_NAMESPACE_END

#endif /* TINE_FUTURE_HPP */
