// Times at the ends of what the standard's types can say, for everything that takes one: what is past does not wait, what
// is far away does, and a wait of 0 on a condition lets go of the mutex as any other.
#include "check.hpp"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using std::chrono::duration;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using std::chrono::time_point;

// A clock that somebody sets back: it comes to its times late, and goes back once.
struct unsteady_clock {
    using rep = std::int64_t;
    using period = std::milli;
    using duration = std::chrono::duration<rep, period>;
    using time_point = std::chrono::time_point<unsteady_clock>;
    static constexpr bool is_steady = false;
    static inline std::atomic<int> looks{0};

    static time_point now()
    {
        auto real = std::chrono::duration_cast<duration>(steady_clock::now().time_since_epoch());
        return time_point(looks.fetch_add(1) < 2 ? real : real - duration(20));
    }
};

struct things {
    tine::mutex mutex;
    tine::process_mutex process;
    tine::shared_mutex rwlock;
    tine::counting_semaphore<1> semaphore{0};
    tine::event event, automatic{TINE_AUTO_RESET};
    tine::condition_variable condition;
    tine::latch latch{1};
};

// Calls every wait that takes a point in time; each gives whether it was let go.
template <class Time, class Each>
static void all_until(things &at, tine::future<int> &task, Time time, Each each)
{
    auto lock = [&](auto &mutex) {
        bool taken = mutex.try_lock_until(time);
        if (taken)
            mutex.unlock();
        return taken;
    };
    auto lock_shared = [&](auto &mutex) {
        bool taken = mutex.try_lock_shared_until(time);
        if (taken)
            mutex.unlock_shared();
        return taken;
    };
    each("mutex", [&] { return lock(at.mutex); });
    each("process_mutex", [&] { return lock(at.process); });
    each("shared_mutex", [&] { return lock(at.rwlock); });
    each("shared_mutex, shared", [&] { return lock_shared(at.rwlock); });
    each("semaphore", [&] { return at.semaphore.try_acquire_until(time); });
    each("event", [&] { return at.event.wait_until(time); });
    each("event that resets itself", [&] { return at.automatic.wait_until(time); });
    each("latch", [&] { return at.latch.wait_until(time); });
    each("future", [&] { return task.wait_until(time) == std::future_status::ready; });
    tine::mutex free;
    each("condition", [&] {
        std::unique_lock<tine::mutex> held(free);
        bool notified = at.condition.wait_until(held, time) == std::cv_status::no_timeout;
        CHECK(held.owns_lock() && free.owner().pid == getpid());
        return notified;
    });
    each("condition with a predicate", [&] {
        std::unique_lock<tine::mutex> held(free);
        return at.condition.wait_until(held, time, [] { return false; });
    });
}

template <class Limit, class Each>
static void all_for(things &at, tine::future<int> &task, tine::queue<int> &empty, tine::queue<int> &full, Limit limit, Each each)
{
    auto lock = [&](auto &mutex) {
        bool taken = mutex.try_lock_for(limit);
        if (taken)
            mutex.unlock();
        return taken;
    };
    each("mutex", [&] { return lock(at.mutex); });
    each("process_mutex", [&] { return lock(at.process); });
    each("shared_mutex", [&] { return lock(at.rwlock); });
    each("shared_mutex, shared", [&] { return at.rwlock.try_lock_shared_for(limit); });
    each("semaphore", [&] { return at.semaphore.try_acquire_for(limit); });
    each("event", [&] { return at.event.wait_for(limit); });
    each("event that resets itself", [&] { return at.automatic.wait_for(limit); });
    each("latch", [&] { return at.latch.wait_for(limit); });
    each("future", [&] { return task.wait_for(limit) == std::future_status::ready; });
    each("future's value", [&] { return bool(task.get(std::nothrow, limit)); });
    each("queue::try_get_for", [&] { return bool(empty.try_get_for(limit)); });
    each("queue::try_put_for", [&] { return full.try_put_for(1, limit); });
    each("queue::get", [&] { return bool(empty.get(std::nothrow, limit)); });
    each("queue::put", [&] { return bool(full.put(std::nothrow, 1, limit)); });
    each("queue::join", [&] { return bool(full.join(std::nothrow, limit)); });
    tine::mutex free;
    each("condition", [&] {
        std::unique_lock<tine::mutex> held(free);
        return at.condition.wait_for(held, limit) == std::cv_status::no_timeout;
    });
    each("condition with a predicate", [&] {
        std::unique_lock<tine::mutex> held(free);
        return at.condition.wait_for(held, limit, [] { return false; });
    });
}

static void not_let_go(const char *what, bool got)
{
    if (got) {
        std::fprintf(stderr, "%s: let go\n", what);
        std::exit(1);
    }
}

// Nobody lets go of anything: a wait that does not return at once never does, and the alarm ends the test.
static void past(tine::pool &pool)
{
    things at;
    tine::queue<int> empty(pool, 1), full(pool, 1);
    full.put(1);
    auto gate = pool.make<tine::event>();
    tine::future<int> task = pool.submit([](tine::event *open) { return open->wait(), 1; }, gate.get());
    tine::event ready, leave;
    std::thread holder([&] {
        std::scoped_lock all(at.mutex, at.process, at.rwlock);
        ready.set();
        leave.wait();
    });
    ready.wait();
    auto each = [](const char *what, auto wait) { not_let_go(what, wait()); };
    auto until = [&](auto time) { all_until(at, task, time, each); };
    auto during = [&](auto limit) { all_for(at, task, empty, full, limit, each); };

    until(steady_clock::time_point::min());
    until(system_clock::time_point::min());
    until(steady_clock::time_point{});
    until(steady_clock::now());
    until(system_clock::now() - 24h);
    using unsigned_seconds = duration<unsigned long long>;
    until(time_point<system_clock, unsigned_seconds>(unsigned_seconds(1)));
    using hours = std::chrono::hours;
    until(time_point<system_clock, hours>(hours(std::numeric_limits<hours::rep>::min())));
    until(time_point<system_clock, hours>(hours(std::numeric_limits<hours::rep>::min() / 4)));
    until(time_point<steady_clock, duration<double>>(duration<double>(-std::numeric_limits<double>::infinity())));
    until(time_point<steady_clock, duration<double>>(duration<double>(std::numeric_limits<double>::quiet_NaN())));
    until(time_point<unsteady_clock>(unsteady_clock::duration::min()));

    during(0ns);
    during(-1ns);
    during(std::chrono::nanoseconds::min());
    during(hours::min());
    during(duration<unsigned>(0));
    during(duration<double>(-0.5));
    during(duration<double>(-std::numeric_limits<double>::infinity()));
    during(duration<double>(std::numeric_limits<double>::quiet_NaN()));
    // These are over soon.
    during(1ns);
    during(duration<double, std::nano>(0.25));
    during(duration<unsigned char, std::micro>(1));
    until(steady_clock::now() + 1us);
    until(time_point<system_clock, duration<double>>(duration<double>(system_clock::now().time_since_epoch()) + 1ms));
    leave.set();
    holder.join();
    gate->set();
    CHECK_EQ(task.get(hang), 1);
}

// A point that is far away, or beyond what can be said in nanoseconds, is waited for until somebody lets go.
static void far(tine::pool &pool)
{
    using hours = std::chrono::hours;
    auto each = [](const char *what, auto wait, auto let_go) {
        std::atomic<bool> back{false};
        bool got = false;
        std::thread waiter([&] { got = wait(); back = true; });
        std::this_thread::sleep_for(2ms);
        not_let_go(what, back);
        let_go();
        waiter.join();
        CHECK(got);
    };
    auto both = [&](auto time, auto limit) {
        tine::event event;
        tine::counting_semaphore<1> semaphore(0);
        tine::mutex mutex;
        tine::condition_variable condition;
        tine::latch first(1), second(1);
        bool open = false;
        tine::queue<int> queue(pool, 1);
        each("event", [&] { return event.wait_until(time); }, [&] { event.set(); });
        event.clear();
        each("event", [&] { return event.wait_for(limit); }, [&] { event.set(); });
        each("semaphore", [&] { return semaphore.try_acquire_until(time); }, [&] { semaphore.release(); });
        each("semaphore", [&] { return semaphore.try_acquire_for(limit); }, [&] { semaphore.release(); });
        each("latch", [&] { return first.wait_until(time); }, [&] { first.count_down(); });
        each("latch", [&] { return second.wait_for(limit); }, [&] { second.count_down(); });
        each("queue", [&] { return bool(queue.try_get_for(limit)); }, [&] { queue.put(1); });
        each("queue", [&] { return bool(queue.get(std::nothrow, limit)); }, [&] { queue.put(1); });
        auto notify = [&] {
            std::lock_guard<tine::mutex> held(mutex);
            open = true;
            condition.notify_all();
        };
        each("condition", [&] {
            std::unique_lock<tine::mutex> held(mutex);
            return condition.wait_until(held, time, [&] { return open; });
        }, notify);
        open = false;
        each("condition", [&] {
            std::unique_lock<tine::mutex> held(mutex);
            return condition.wait_for(held, limit, [&] { return open; });
        }, notify);
    };
    both(steady_clock::time_point::max(), std::chrono::nanoseconds::max());
    both(system_clock::time_point::max(), tine::forever);
    both(time_point<system_clock, hours>(hours::max()), hours::max());
    both(time_point<steady_clock, duration<double>>(duration<double>(std::numeric_limits<double>::infinity())),
         duration<double>(std::numeric_limits<double>::infinity()));
    using unsigned_seconds = duration<unsigned long long>;
    both(time_point<system_clock, unsigned_seconds>(unsigned_seconds::max()), unsigned_seconds::max());
}

// The clock that was set back has not come there when the nanoseconds are over.
static void set_back()
{
    tine::event event;
    unsteady_clock::looks = 0;
    auto end = unsteady_clock::now() + 10ms;
    CHECK(!event.wait_until(end));
    CHECK(unsteady_clock::now() >= end);
    tine::mutex mutex;
    tine::condition_variable condition;
    unsteady_clock::looks = 0;
    end = unsteady_clock::now() + 10ms;
    std::unique_lock<tine::mutex> held(mutex);
    CHECK(!condition.wait_until(held, end, [] { return false; }));
    CHECK(unsteady_clock::now() >= end);
}

// One that polls with waits of 0 does not keep the others out.
template <class Wait>
static void lets_go(Wait wait)
{
    tine::mutex mutex;
    tine::condition_variable condition;
    std::atomic<bool> open{false};
    std::thread poller([&] {
        std::unique_lock<tine::mutex> held(mutex);
        while (!open)
            wait(condition, held);
    });
    while (!mutex.try_lock())
        std::this_thread::yield();
    open = true;
    mutex.unlock();
    poller.join();
}

// A latch on a stack: what was its memory is somebody else's as soon as a wait has returned.
template <class Wait>
static void on_a_stack(Wait wait)
{
    constexpr int rounds = 3000;
    std::atomic<tine::latch *> job{nullptr};
    std::atomic<int> done{0};
    std::thread worker([&] {
        for (int round = 1; round <= rounds; round++) {
            tine::latch *at;
            while (!(at = job.exchange(nullptr))) {
            }
            at->count_down();
            done = round;
        }
    });
    alignas(64) unsigned char room[sizeof(tine::latch)];
    for (int round = 1; round <= rounds; round++) {
        auto *at = new (room) tine::latch(1);
        job = at;
        wait(*at);
        at->~latch();
        std::memset(room, 0x55, sizeof room);
        while (done != round) {
        }
        for (unsigned char byte : room)
            CHECK_EQ(byte, 0x55);
    }
    worker.join();
}

static_assert(tine::ns(0s) == 0 && tine::ns(-5s) == -1 && tine::ns(3us) == 3000 && tine::ns(tine::forever) == TINE_FOREVER);
static_assert(tine::ns(std::chrono::hours::max()) == TINE_FOREVER && tine::ns(std::chrono::hours::min()) == -1);
static_assert(tine::ns(duration<double>(0.25)) == 250000000 && tine::ns(duration<float, std::nano>(0.5f)) == 1);

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    alarm(100);
    tine::pool_options options;
    options.workers = 1;
    tine::pool pool(options);
    past(pool);
    far(pool);
    set_back();
    lets_go([](auto &condition, auto &held) { condition.wait_for(held, 0ms); });
    lets_go([](auto &condition, auto &held) { condition.wait_for(held, -1h); });
    lets_go([](auto &condition, auto &held) { condition.wait_until(held, steady_clock::time_point::min()); });
    on_a_stack([](tine::latch &at) { at.wait(); });
    on_a_stack([](tine::latch &at) { CHECK(at.wait_for(hang)); });
    on_a_stack([](tine::latch &at) {
        while (!at.try_wait()) {
        }
    });
}
