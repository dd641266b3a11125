/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: locks between processes, shaped like the standard library's, that no death blocks.
 *
 * They are plain memory: members of what lies in a heap (pool.make<T>), in any shared mapping, or in private memory for the
 * threads of one process. They are neither copied nor moved. std::unique_lock, std::scoped_lock and std::shared_lock are
 * the way to use them.
 *
 * When a holder dies
 *
 *   A thread or process that dies holding a mutex may leave torn what the mutex protects, and the next taker must not go on as if
 *   nothing had happened. C's tine_mutex_lock says -EOWNERDEAD with the lock held. An exception can't: std::unique_lock believes
 *   that a lock() which has thrown did not lock, and would never unlock. So there are three ways, and each holds exactly what the
 *   standard's lock types think that it holds:
 *
 *   - lock(), try_lock() and so on throw tine::owner_died, and the mutex is not held. Nobody can know what the data is worth,
 *     so the mutex is given up for good: whoever comes later gets tine::error with -ENOTRECOVERABLE. This is the safe way
 *     for who hasn't thought of deaths.
 *   - tine::lock_or_repair(mutex, repair) takes the mutex and calls repair() if its holder has died, with the mutex held; when
 *     that returns, the data counts as whole again. All users of data that can be made whole should lock in this way.
 *   - An auto_repair_mutex is for data that a death can't tear, a counter say: taking it from a dead holder is as taking it from
 *     a living one.
 *
 *   A condition variable's wait takes the mutex back, and std::unique_lock holds it when wait() ends, be it by an exception. So
 *   there tine::owner_died is thrown with the mutex held; who catches it may put the data right and call mutex.repair(), and
 *   if nobody does, unlocking gives the mutex up as above.
 */
#ifndef TINE_LOCKS_HPP
#define TINE_LOCKS_HPP

#include "error.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <type_traits>
#include <utility>

TINE_NAMESPACE_BEGIN

namespace detail {

/* What holds for everything in here: at one place, and made once. */
struct fixed {
    fixed() = default;
    fixed(const fixed &) = delete;
    fixed &operator=(const fixed &) = delete;
};

[[noreturn]] inline void fail_owner_died(const char *call)
{
    failure what = plain(-EOWNERDEAD, call);
    what.raise();
}

/* What a call to take a lock returned. true: taken; false: not now. A lock that was taken from a dead holder is unlocked, and
   tine::owner_died thrown, unless the lock repairs itself. */
template <std::uint32_t Flags, class Unlock>
bool taken_or_not_now(int rc, const char *call, Unlock unlock)
{
    if (rc == 0)
        return true;
    if (rc == -EOWNERDEAD) {
        if constexpr ((Flags & TINE_AUTO_REPAIR) != 0)
            return true;
        unlock();
        fail_owner_died(call);
    }
    return done_or_not_now(rc, call);
}

/* The same for who asked to hold it in any case. true: taken; false: taken from a dead holder. */
inline bool taken_from_the_living(int rc, const char *call)
{
    if (rc == -EOWNERDEAD)
        return false;
    check(rc, call);
    return true;
}

} // namespace detail

/**
 * A mutex: Lockable and TimedLockable. Flags: TINE_RECURSIVE or TINE_PROCESS_OWNED, TINE_AUTO_REPAIR, TINE_INTERRUPTIBLE.
 *
 * Every operation throws tine::error with the codes of tine.h's: -EDEADLK where the caller holds it, -EPERM for unlocking what
 * it does not hold, -ENOTRECOVERABLE, -ENOLCK, -EXDEV.
 */
template <std::uint32_t Flags>
class basic_mutex : private detail::fixed {
public:
    using native_handle_type = tine_mutex *;

    /** A free mutex. */
    constexpr basic_mutex() noexcept(Flags == 0) : mutex_{}
    {
        if constexpr (Flags != 0)
            detail::check(tine_mutex_init(&mutex_, Flags), "tine::mutex");
    }

    void lock() { take(tine_mutex_lock(&mutex_, TINE_FOREVER), "tine::mutex::lock"); }
    bool try_lock() { return take(tine_mutex_lock(&mutex_, 0), "tine::mutex::try_lock"); }

    template <class Rep, class Period>
    bool try_lock_for(std::chrono::duration<Rep, Period> timeout)
    {
        return take(tine_mutex_lock(&mutex_, time_limit(timeout).ns()), "tine::mutex::try_lock_for");
    }

    template <class Clock, class Duration>
    bool try_lock_until(std::chrono::time_point<Clock, Duration> time)
    {
        auto wait = [this](std::int64_t timeout_ns) { return tine_mutex_lock(&mutex_, timeout_ns); };
        return take(detail::wait_until(time, wait), "tine::mutex::try_lock_until");
    }

    void unlock() { detail::check(tine_mutex_unlock(&mutex_), "tine::mutex::unlock"); }

    /**
     * Locks as tine.h does, for up to timeout: true: taken; false: taken from a holder that died. In the latter case make the
     * data whole and call repair(), or unlock() gives the mutex up. Throws for everything else, also for a time that ran out.
     */
    bool lock_even_if_owner_died(time_limit timeout = forever)
    {
        return detail::taken_from_the_living(tine_mutex_lock(&mutex_, timeout.ns()), "tine::mutex::lock_even_if_owner_died");
    }

    /** Says that the data is whole again which a dead holder may have torn. Throws -EPERM, -EINVAL: nothing to repair. */
    void repair() { detail::check(tine_mutex_repair(&mutex_), "tine::mutex::repair"); }

    /** Who holds it, or died holding it, for messages. */
    tine_owner owner() const
    {
        tine_owner who = TINE_OWNER_INIT;
        detail::check(tine_mutex_owner(&mutex_, &who), "tine::mutex::owner");
        return who;
    }

    /** tine.h's, for the calls there. */
    tine_mutex *native_handle() noexcept { return &mutex_; }

private:
    bool take(int rc, const char *call)
    {
        return detail::taken_or_not_now<Flags>(rc, call, [this] { tine_mutex_unlock(&mutex_); });
    }

    tine_mutex mutex_;
};

/** A mutex; all-zero memory is a free one. */
using mutex = basic_mutex<0>;
/** One whose holder may lock it again, and unlocks it as often. */
using recursive_mutex = basic_mutex<TINE_RECURSIVE>;
/** One for data that a death can't tear. */
using auto_repair_mutex = basic_mutex<TINE_AUTO_REPAIR>;
/** One that a process holds, not a thread: any thread of it may unlock it, and only its end is the holder's death. */
using process_mutex = basic_mutex<TINE_PROCESS_OWNED>;

/**
 * Takes a mutex, or a shared_mutex for writing, also from a holder that died. In that case repair() is called with the mutex held, to make the
 * data whole, and the mutex counts as whole again. If repair() throws, the mutex is given up for good, and the exception goes on.
 */
template <class Mutex, class Repair>
std::unique_lock<Mutex> lock_or_repair(Mutex &taken, Repair &&repair)
{
    bool whole = taken.lock_even_if_owner_died();
    std::unique_lock<Mutex> held(taken, std::adopt_lock);
    if (!whole) {
        std::forward<Repair>(repair)();
        taken.repair();
    }
    return held;
}

/**
 * Many readers or one writer: SharedLockable and SharedTimedLockable. Flags: TINE_PREFER_READERS, TINE_AUTO_REPAIR,
 * TINE_INTERRUPTIBLE. A dead reader is forgotten; after a dead writer, lock() and its kin do as a mutex's. lock_shared() throws
 * tine::owner_died without holding the lock, until a writer has put things right.
 */
template <std::uint32_t Flags>
class basic_shared_mutex : private detail::fixed {
public:
    using native_handle_type = tine_rwlock *;

    /** A free lock. */
    constexpr basic_shared_mutex() noexcept(Flags == 0) : lock_{}
    {
        if constexpr (Flags != 0)
            detail::check(tine_rwlock_init(&lock_, Flags), "tine::shared_mutex");
    }

    void lock() { take(tine_rwlock_write_lock(&lock_, TINE_FOREVER), "tine::shared_mutex::lock"); }
    bool try_lock() { return take(tine_rwlock_write_lock(&lock_, 0), "tine::shared_mutex::try_lock"); }
    template <class Rep, class Period>
    bool try_lock_for(std::chrono::duration<Rep, Period> timeout)
    {
        return take(tine_rwlock_write_lock(&lock_, time_limit(timeout).ns()),
                    "tine::shared_mutex::try_lock_for");
    }
    template <class Clock, class Duration>
    bool try_lock_until(std::chrono::time_point<Clock, Duration> time)
    {
        auto wait = [this](std::int64_t timeout_ns) { return tine_rwlock_write_lock(&lock_, timeout_ns); };
        return take(detail::wait_until(time, wait), "tine::shared_mutex::try_lock_until");
    }
    void unlock() { detail::check(tine_rwlock_unlock(&lock_), "tine::shared_mutex::unlock"); }

    void lock_shared() { take(tine_rwlock_read_lock(&lock_, TINE_FOREVER), "tine::shared_mutex::lock_shared"); }
    bool try_lock_shared() { return take(tine_rwlock_read_lock(&lock_, 0), "tine::shared_mutex::try_lock_shared"); }
    template <class Rep, class Period>
    bool try_lock_shared_for(std::chrono::duration<Rep, Period> timeout)
    {
        return take(tine_rwlock_read_lock(&lock_, time_limit(timeout).ns()),
                    "tine::shared_mutex::try_lock_shared_for");
    }
    template <class Clock, class Duration>
    bool try_lock_shared_until(std::chrono::time_point<Clock, Duration> time)
    {
        auto wait = [this](std::int64_t timeout_ns) { return tine_rwlock_read_lock(&lock_, timeout_ns); };
        return take(detail::wait_until(time, wait), "tine::shared_mutex::try_lock_shared_until");
    }
    void unlock_shared() { detail::check(tine_rwlock_unlock(&lock_), "tine::shared_mutex::unlock_shared"); }

    /** As basic_mutex::lock_even_if_owner_died(), for writing. */
    bool lock_even_if_owner_died(time_limit timeout = forever)
    {
        return detail::taken_from_the_living(tine_rwlock_write_lock(&lock_, timeout.ns()), "tine::shared_mutex::lock_even_if_owner_died");
    }

    /** The same for reading: false: taken, but what a dead writer left has not been repaired. */
    bool lock_shared_even_if_owner_died(time_limit timeout = forever)
    {
        return detail::taken_from_the_living(tine_rwlock_read_lock(&lock_, timeout.ns()), "tine::shared_mutex::lock_shared_even_if_owner_died");
    }

    /** As basic_mutex::repair(), for the writer. */
    void repair() { detail::check(tine_rwlock_repair(&lock_), "tine::shared_mutex::repair"); }

    /** tine.h's, for the calls there. */
    tine_rwlock *native_handle() noexcept { return &lock_; }

private:
    bool take(int rc, const char *call)
    {
        return detail::taken_or_not_now<Flags>(rc, call, [this] { tine_rwlock_unlock(&lock_); });
    }

    tine_rwlock lock_;
};

/** A reader-writer lock; all-zero memory is a free one. */
using shared_mutex = basic_shared_mutex<0>;

/**
 * Waiting for something to become true that a mutex protects. All waiters use the same mutex. Waits may end without a
 * notification: test again, or give a predicate. tine::owner_died is thrown with the mutex held: see above.
 */
class condition_variable : private detail::fixed {
public:
    constexpr condition_variable() noexcept : condition_{} {}

    void notify_one() { detail::check(tine_condition_notify(&condition_, 1), "tine::condition_variable::notify_one"); }
    void notify_all() { detail::check(tine_condition_notify_all(&condition_), "tine::condition_variable::notify_all"); }

    template <std::uint32_t Flags>
    void wait(std::unique_lock<basic_mutex<Flags>> &lock)
    {
        wait_ns(lock, TINE_FOREVER);
    }
    template <std::uint32_t Flags, class Predicate>
    void wait(std::unique_lock<basic_mutex<Flags>> &lock, Predicate predicate)
    {
        while (!predicate())
            wait(lock);
    }

    template <std::uint32_t Flags, class Clock, class Duration>
    std::cv_status wait_until(std::unique_lock<basic_mutex<Flags>> &lock, std::chrono::time_point<Clock, Duration> time)
    {
        // A clock that has been set back has not come there: then this was a wait that ended without a notification.
        bool notified = wait_ns(lock, ns_until(time)) || ns_until(time) > 0;
        return notified ? std::cv_status::no_timeout : std::cv_status::timeout;
    }
    template <std::uint32_t Flags, class Clock, class Duration, class Predicate>
    bool wait_until(std::unique_lock<basic_mutex<Flags>> &lock, std::chrono::time_point<Clock, Duration> time,
                    Predicate predicate)
    {
        while (!predicate())
            if (wait_until(lock, time) == std::cv_status::timeout)
                return predicate();
        return true;
    }

    template <std::uint32_t Flags, class Rep, class Period>
    std::cv_status wait_for(std::unique_lock<basic_mutex<Flags>> &lock, std::chrono::duration<Rep, Period> timeout)
    {
        return wait_ns(lock, time_limit(timeout).ns()) ? std::cv_status::no_timeout : std::cv_status::timeout;
    }
    template <std::uint32_t Flags, class Rep, class Period, class Predicate>
    bool wait_for(std::unique_lock<basic_mutex<Flags>> &lock, std::chrono::duration<Rep, Period> timeout,
                  Predicate predicate)
    {
        using steady = std::chrono::steady_clock;
        // As a floating-point number: the clock itself does not go as far as a duration may.
        detail::wide left = timeout > timeout.zero() ? detail::wide(timeout) : detail::wide::zero();
        return wait_until(lock, std::chrono::time_point<steady, detail::wide>(steady::now() + left), std::move(predicate));
    }

    /** tine.h's, for the calls there. */
    tine_condition *native_handle() noexcept { return &condition_; }

private:
    template <std::uint32_t Flags>
    bool wait_ns(std::unique_lock<basic_mutex<Flags>> &lock, std::int64_t timeout_ns)
    {
        if (!lock.owns_lock())
            detail::fail(-EPERM, "tine::condition_variable::wait");
        // The standard's wait lets go of the mutex whatever its time; with 0 C's would not wait, and so not let go.
        int rc = tine_condition_wait(&condition_, lock.mutex()->native_handle(), timeout_ns == 0 ? 1 : timeout_ns);
        if ((Flags & TINE_AUTO_REPAIR) != 0 && rc == -EOWNERDEAD)
            return true;
        if (rc == -ENOTRECOVERABLE)
            lock.release(); // it is not held, and never will be
        return detail::done_or_not_now(rc, "tine::condition_variable::wait");
    }

    tine_condition condition_;
};

/** Units that are taken and given back, by any thread of any process, at most Most of them. A dead process's are gone. */
template <std::ptrdiff_t Most = INT32_MAX>
class counting_semaphore : private detail::fixed {
    static_assert(Most >= 1 && Most <= INT32_MAX, "tine: a semaphore has from 1 to INT32_MAX units");

public:
    /** With so many free units, from 0 to Most. */
    explicit counting_semaphore(std::ptrdiff_t desired)
    {
        if (desired < 0 || desired > Most)
            detail::raise(error(-EINVAL, "tine::counting_semaphore: " + std::to_string(desired) + " is not from 0 to " +
                                             std::to_string(Most)));
        detail::check(tine_semaphore_init(&semaphore_, static_cast<std::uint32_t>(desired),
                                          static_cast<std::uint32_t>(Most), 0),
                      "tine::counting_semaphore");
    }

    static constexpr std::ptrdiff_t max() noexcept { return Most; }

    /** Gives units, all or none. Throws -EOVERFLOW: there would be more than max(). */
    void release(std::ptrdiff_t update = 1)
    {
        if (update < 0 || update > Most)
            detail::fail(update < 0 ? -EINVAL : -EOVERFLOW, "tine::counting_semaphore::release");
        detail::check(tine_semaphore_release(&semaphore_, static_cast<std::uint32_t>(update)),
                      "tine::counting_semaphore::release");
    }

    void acquire() { detail::check(tine_semaphore_acquire(&semaphore_, TINE_FOREVER), "tine::counting_semaphore::acquire"); }
    bool try_acquire() { return take(tine_semaphore_acquire(&semaphore_, 0)); }
    template <class Rep, class Period>
    bool try_acquire_for(std::chrono::duration<Rep, Period> timeout)
    {
        return take(tine_semaphore_acquire(&semaphore_, time_limit(timeout).ns()));
    }
    template <class Clock, class Duration>
    bool try_acquire_until(std::chrono::time_point<Clock, Duration> time)
    {
        auto wait = [this](std::int64_t timeout_ns) { return tine_semaphore_acquire(&semaphore_, timeout_ns); };
        return take(detail::wait_until(time, wait));
    }

    /** The units that are free at this moment. */
    std::ptrdiff_t value() const { return detail::check(tine_semaphore_value(&semaphore_), "tine::counting_semaphore::value"); }

    /** tine.h's, for the calls there. */
    tine_semaphore *native_handle() noexcept { return &semaphore_; }

private:
    static bool take(int rc) { return detail::done_or_not_now(rc, "tine::counting_semaphore::try_acquire"); }

    tine_semaphore semaphore_;
};

using binary_semaphore = counting_semaphore<1>;

/** Something that has happened, or not yet. */
class event : private detail::fixed {
public:
    /** One that is not set; with TINE_AUTO_RESET one that clears itself when it lets a waiter go. */
    explicit event(std::uint32_t flags = 0) { detail::check(tine_event_init(&event_, flags), "tine::event"); }

    void set() { detail::check(tine_event_set(&event_), "tine::event::set"); }
    void clear() { detail::check(tine_event_clear(&event_), "tine::event::clear"); }
    bool is_set() const { return detail::check(tine_event_is_set(&event_), "tine::event::is_set") == 1; }

    void wait() { detail::check(tine_event_wait(&event_, TINE_FOREVER), "tine::event::wait"); }
    /** Whether it is set; with TINE_AUTO_RESET, true clears it. */
    bool try_wait() { return detail::done_or_not_now(tine_event_wait(&event_, 0), "tine::event::try_wait"); }
    template <class Rep, class Period>
    bool wait_for(std::chrono::duration<Rep, Period> timeout)
    {
        return detail::done_or_not_now(tine_event_wait(&event_, time_limit(timeout).ns()),
                                       "tine::event::wait_for");
    }
    template <class Clock, class Duration>
    bool wait_until(std::chrono::time_point<Clock, Duration> time)
    {
        auto wait = [this](std::int64_t timeout_ns) { return tine_event_wait(&event_, timeout_ns); };
        return detail::done_or_not_now(detail::wait_until(time, wait), "tine::event::wait_until");
    }

    /** tine.h's, for the calls there. */
    tine_event *native_handle() noexcept { return &event_; }

private:
    tine_event event_;
};

/**
 * A meeting of a fixed number of threads, of any processes, again and again.
 *
 * A party that dies while it waits breaks the barrier, as a wait does that runs out of time: everybody gets tine::error with
 * TINE_EBROKEN until reset().
 */
class barrier : private detail::fixed {
public:
    /** For 1 to TINE_BARRIER_PARTIES parties. */
    explicit barrier(std::ptrdiff_t parties)
    {
        if (parties < 1 || parties > TINE_BARRIER_PARTIES)
            detail::raise(error(-EINVAL, "tine::barrier: " + std::to_string(parties) + " parties are not from 1 to " +
                                             std::to_string(TINE_BARRIER_PARTIES)));
        detail::check(tine_barrier_init(&barrier_, static_cast<std::uint32_t>(parties), 0), "tine::barrier");
    }

    static constexpr std::ptrdiff_t max() noexcept { return TINE_BARRIER_PARTIES; }

    /** Waits for the others. True for one of the parties. */
    bool arrive_and_wait()
    {
        return detail::check(tine_barrier_wait(&barrier_, TINE_FOREVER), "tine::barrier::arrive_and_wait") == 1;
    }
    /** Waits so long; false: the others have not come, and the barrier is broken; but for 0, where this party has not come
        either. */
    template <class Rep, class Period>
    bool arrive_and_wait_for(std::chrono::duration<Rep, Period> timeout)
    {
        return detail::done_or_not_now(tine_barrier_wait(&barrier_, time_limit(timeout).ns()),
                                       "tine::barrier::arrive_and_wait_for");
    }

    /** As new: not broken, and nobody waits. */
    void reset() { detail::check(tine_barrier_reset(&barrier_), "tine::barrier::reset"); }
    /** Breaks it. */
    void abort() { detail::check(tine_barrier_abort(&barrier_), "tine::barrier::abort"); }
    bool broken() const { return detail::check(tine_barrier_broken(&barrier_), "tine::barrier::broken") == 1; }

    /** tine.h's, for the calls there. */
    tine_barrier *native_handle() noexcept { return &barrier_; }

private:
    tine_barrier barrier_;
};

/**
 * A count that goes down to zero, once, and what waits for that. A process that dies before it has counted down has not: nobody
 * does it in its place, and a wait should have a limit where that can happen.
 *
 * Whoever has seen it at zero, by a wait or by try_wait(), may destroy it, as soon as no other thread waits.
 */
class latch : private detail::fixed {
public:
    explicit latch(std::ptrdiff_t expected) : left_(expected)
    {
        if (expected < 0)
            detail::raise(error(-EINVAL, "tine::latch: " + std::to_string(expected) + " is negative"));
        if (expected == 0)
            zero_.set();
    }

    static constexpr std::ptrdiff_t max() noexcept { return PTRDIFF_MAX; }

    /** Throws -EINVAL: more than are left. */
    void count_down(std::ptrdiff_t update = 1)
    {
        std::lock_guard<auto_repair_mutex> guard(mutex_);
        if (update < 0 || update > left_)
            detail::raise(error(-EINVAL, "tine::latch::count_down: " + std::to_string(update) + " of " + std::to_string(left_)));
        // The event first: whoever dies between the two has let the waiters go, and a count that is not there stays not there.
        if (update == left_)
            zero_.set();
        left_ -= update;
        // Unlocking is the last access: those that wait pass through the mutex before they go.
    }

    /** Whether it is at zero; false, too, while the last one is still counting down. */
    bool try_wait() const
    {
        if (!zero_.is_set() || !mutex_.try_lock())
            return false;
        mutex_.unlock();
        return true;
    }
    void wait() const
    {
        zero_.wait();
        std::lock_guard<auto_repair_mutex> last_one_is_out(mutex_);
    }
    template <class Rep, class Period>
    bool wait_for(std::chrono::duration<Rep, Period> timeout) const
    {
        using steady = std::chrono::steady_clock;
        detail::wide left = timeout > timeout.zero() ? detail::wide(timeout) : detail::wide::zero();
        return wait_until(std::chrono::time_point<steady, detail::wide>(steady::now() + left));
    }
    template <class Clock, class Duration>
    bool wait_until(std::chrono::time_point<Clock, Duration> time) const
    {
        if (!zero_.wait_until(time) || !mutex_.try_lock_until(time))
            return false;
        mutex_.unlock();
        return true;
    }
    void arrive_and_wait(std::ptrdiff_t update = 1)
    {
        count_down(update);
        wait();
    }

private:
    mutable auto_repair_mutex mutex_;
    mutable event zero_;
    std::ptrdiff_t left_;
};

/** What call_once() remembers; all-zero memory is one that has not been done. */
class once_flag : private detail::fixed {
public:
    constexpr once_flag() noexcept : once_{} {}
    /** tine.h's, for the calls there. */
    tine_once *native_handle() noexcept { return &once_; }

private:
    tine_once once_;
};

/**
 * Calls a function unless a call with this flag has succeeded before, in whatever process, and waits for one that runs. One that
 * throws has failed, and the next caller's runs; so it does after one whose process died, and may find things half done.
 */
template <class F, class... A>
void call_once(once_flag &flag, F &&function, A &&...arguments)
{
    std::exception_ptr thrown;
    auto body = [&] {
        TINE_TRY
        {
            std::invoke(std::forward<F>(function), std::forward<A>(arguments)...);
            return 0;
        }
        TINE_CATCH_ALL
        {
            thrown = std::current_exception(); // it may not pass through C
            return -ECANCELED;
        }
    };
    int rc = tine_once_call(
        flag.native_handle(), [](void *user) { return (*static_cast<decltype(body) *>(user))(); }, &body, TINE_FOREVER);
    if (thrown)
        std::rethrow_exception(thrown);
    detail::check(rc, "tine::call_once");
}

TINE_NAMESPACE_END

#endif /* TINE_LOCKS_HPP */
