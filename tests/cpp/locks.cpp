// The locks, as the standard library's lock types use them, and what a holder's death comes to.
#include "check.hpp"

#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <type_traits>
#include <unistd.h>

using namespace std::chrono_literals;

// One memory for all of them, that needs no constructor: all zero is as good.
struct shared {
    tine::mutex mutex, other;
    tine::recursive_mutex recursive;
    tine::auto_repair_mutex automatic;
    tine::process_mutex process;
    tine::shared_mutex rwlock;
    tine::condition_variable condition;
    tine::counting_semaphore<3> semaphore{1};
    tine::binary_semaphore binary{0};
    tine::event event, again{TINE_AUTO_RESET};
    tine::barrier barrier{2};
    tine::latch latch{2};
    tine::once_flag once, once_again;
    int value = 0;
};

static_assert(sizeof(tine::mutex) == sizeof(tine_mutex) && std::is_standard_layout_v<tine::mutex>);
static_assert(!std::is_copy_constructible_v<tine::mutex> && !std::is_move_constructible_v<tine::mutex>);
static_assert(std::is_nothrow_default_constructible_v<tine::mutex>);

// Runs a function in a worker, which gets the shared memory's address, and dies where it likes.
template <class F>
static int worker(tine::pool &pool, shared *all, F function)
{
    auto task = pool.submit(function, all).get(std::nothrow, hang);
    return task ? 0 : task.error().code;
}

static void lockables(tine::pool &pool, shared *all)
{
    {
        std::scoped_lock both(all->mutex, all->other);
        CHECK_EQ(worker(pool, all, [](shared *at) {
            std::unique_lock<tine::mutex> lock(at->mutex, std::defer_lock);
            CHECK(!lock.try_lock() && !lock.try_lock_for(1ms) && !lock.try_lock_until(std::chrono::steady_clock::now() + 1ms));
            CHECK(!lock.try_lock_for(-1s));
        }), 0);
        CHECK_EQ(all->mutex.owner().pid, getpid());
        CHECK_THROWS(all->mutex.lock(), -EDEADLK);
    }
    CHECK_THROWS(all->mutex.unlock(), -EPERM);
    std::unique_lock<tine::mutex> lock(all->mutex, 10s);
    CHECK(lock.owns_lock());
    lock.unlock();
    {
        std::lock_guard<tine::recursive_mutex> once(all->recursive);
        std::lock_guard<tine::recursive_mutex> twice(all->recursive);
    }
    all->process.lock();
    std::thread([&] { all->process.unlock(); }).join();

    std::shared_lock<tine::shared_mutex> reading(all->rwlock);
    CHECK_EQ(worker(pool, all, [](shared *at) {
        CHECK(at->rwlock.try_lock_shared());
        at->rwlock.unlock_shared();
        CHECK(!at->rwlock.try_lock() && !at->rwlock.try_lock_for(1ms));
    }), 0);
    reading.unlock();
    std::unique_lock<tine::shared_mutex> writing(all->rwlock);
    CHECK_EQ(worker(pool, all, [](shared *at) {
        std::shared_lock<tine::shared_mutex> in_vain(at->rwlock, 1ms);
        CHECK(!in_vain.owns_lock());
    }), 0);
}

// Two processes and two locks, in both orders.
static void no_deadlock(tine::pool &pool, shared *all)
{
    auto task = pool.submit([](shared *at) {
        for (int i = 0; i < 2000; i++) {
            std::scoped_lock both(at->other, at->mutex);
            at->value++;
        }
    }, all);
    for (int i = 0; i < 2000; i++) {
        std::scoped_lock both(all->mutex, all->other);
        all->value++;
    }
    task.get(hang);
    CHECK_EQ(all->value, 4000);
}

static void deaths(tine::pool &pool, shared *all)
{
    auto die_with = [](shared *at) {
        at->mutex.lock();
        at->value = -1;
        std::raise(SIGKILL);
    };
    // With repair.
    CHECK_EQ(worker(pool, all, die_with), TINE_EDIED);
    int repairs = 0;
    for (int i = 0; i < 2; i++) {
        auto lock = tine::lock_or_repair(all->mutex, [&] { repairs++, all->value = 1; });
        CHECK(lock.owns_lock() && all->value == 1);
    }
    CHECK_EQ(repairs, 1);

    // A repair that fails gives the mutex up, and leaves it unlocked.
    CHECK_EQ(worker(pool, all, die_with), TINE_EDIED);
    CHECK_THROWS(tine::lock_or_repair(all->mutex, [] { throw tine::error(-EIO); }), -EIO);
    CHECK_THROWS(all->mutex.lock(), -ENOTRECOVERABLE);

    // Without: it is not held, as std::unique_lock believes; and useless from then on.
    tine_mutex_init(all->mutex.native_handle(), 0);
    CHECK_EQ(worker(pool, all, die_with), TINE_EDIED);
    bool died = false;
    try {
        std::unique_lock<tine::mutex> lock(all->mutex);
        CHECK(false);
    } catch (const tine::owner_died &what) {
        died = what.code() == -EOWNERDEAD;
    }
    CHECK(died && all->mutex.owner().pid == 0);
    CHECK_THROWS((void)std::unique_lock<tine::mutex>(all->mutex, std::try_to_lock), -ENOTRECOVERABLE);
    tine_mutex_init(all->mutex.native_handle(), 0);

    // try_lock, and std::lock with a second mutex, which it lets go.
    CHECK_EQ(worker(pool, all, die_with), TINE_EDIED);
    CHECK_THROWS(std::lock(all->other, all->mutex), -EOWNERDEAD);
    CHECK(all->other.owner().pid == 0 && all->mutex.owner().pid == 0);
    tine_mutex_init(all->mutex.native_handle(), 0);

    // Data that can't be torn.
    CHECK_EQ(worker(pool, all, [](shared *at) { at->automatic.lock(), std::raise(SIGKILL); }), TINE_EDIED);
    std::lock_guard<tine::auto_repair_mutex>{all->automatic};

    // By hand.
    CHECK_EQ(worker(pool, all, die_with), TINE_EDIED);
    CHECK(!all->mutex.lock_even_if_owner_died());
    CHECK(all->mutex.owner().dead_pid > 0);
    all->mutex.repair();
    all->mutex.unlock();
    CHECK(all->mutex.lock_even_if_owner_died(1s));
    CHECK_THROWS(all->mutex.repair(), -EINVAL);
    all->mutex.unlock();

    // Readers of what a dead writer left, and writers.
    CHECK_EQ(worker(pool, all, [](shared *at) { at->rwlock.lock(), std::raise(SIGKILL); }), TINE_EDIED);
    CHECK_THROWS((void)std::shared_lock<tine::shared_mutex>(all->rwlock), -EOWNERDEAD);
    CHECK(!all->rwlock.lock_shared_even_if_owner_died());
    all->rwlock.unlock_shared();
    repairs = 0;
    CHECK(tine::lock_or_repair(all->rwlock, [&] { repairs++; }).owns_lock());
    CHECK_EQ(repairs, 1);
    std::shared_lock<tine::shared_mutex>{all->rwlock};
    CHECK_EQ(worker(pool, all, [](shared *at) { at->rwlock.lock_shared(), std::raise(SIGKILL); }), TINE_EDIED);
    std::unique_lock<tine::shared_mutex>{all->rwlock};
}

static void conditions(tine::pool &pool, shared *all)
{
    all->value = 0;
    std::unique_lock<tine::mutex> lock(all->mutex);
    CHECK(all->condition.wait_for(lock, 1ms) == std::cv_status::timeout && lock.owns_lock());
    CHECK(!all->condition.wait_for(lock, 1ms, [&] { return all->value == 1; }));
    CHECK(!all->condition.wait_for(lock, -1s, [] { return false; }));
    CHECK(all->condition.wait_until(lock, std::chrono::system_clock::now() - 1s) == std::cv_status::timeout);
    auto sets = [](shared *at) {
        std::lock_guard<tine::mutex> guard(at->mutex);
        at->value++;
        at->condition.notify_one();
    };
    auto task = pool.submit(sets, all);
    all->condition.wait(lock, [&] { return all->value == 1; });
    task.get(hang);
    task = pool.submit(sets, all);
    CHECK(all->condition.wait_for(lock, std::chrono::hours::max(), [&] { return all->value == 2; }));
    task.get(hang);

    // A holder that dies while somebody waits: the exception comes with the mutex held, as the lock says.
    auto dies = pool.submit([](shared *at) {
        at->mutex.lock();
        at->condition.notify_all();
        std::raise(SIGKILL);
    }, all);
    bool died = false;
    try {
        for (;;)
            all->condition.wait(lock);
    } catch (const tine::owner_died &) {
        died = true;
    }
    CHECK(died && lock.owns_lock() && all->mutex.owner().pid == getpid());
    all->mutex.repair();
    lock.unlock();
    CHECK_THROWS(dies.get(hang), TINE_EDIED);
    CHECK_THROWS(all->condition.wait(lock), -EPERM);

    // Threads of one process, by the standard's own condition.
    std::condition_variable_any any;
    bool ready = false;
    std::thread thread([&] {
        std::lock_guard<tine::mutex> guard(all->mutex);
        ready = true;
        any.notify_one();
    });
    lock.lock();
    any.wait(lock, [&] { return ready; });
    lock.unlock();
    thread.join();
}

static void others(tine::pool &pool, shared *all)
{
    CHECK(all->semaphore.value() == 1 && all->semaphore.max() == 3);
    all->semaphore.acquire();
    CHECK(!all->semaphore.try_acquire() && !all->semaphore.try_acquire_for(1ms));
    CHECK(!all->semaphore.try_acquire_until(std::chrono::steady_clock::now() + 1ms));
    CHECK_EQ(worker(pool, all, [](shared *at) { at->semaphore.release(2); }), 0);
    CHECK(all->semaphore.try_acquire_for(hang));
    CHECK_THROWS(all->semaphore.release(3), -EOVERFLOW);
    CHECK_THROWS(all->semaphore.release(4), -EOVERFLOW);
    CHECK_THROWS(all->semaphore.release(-1), -EINVAL);
    CHECK_THROWS(tine::counting_semaphore<3>(4), -EINVAL);
    auto taker = pool.submit([](shared *at) { at->binary.acquire(); }, all);
    all->binary.release();
    taker.get(hang);

    CHECK(!all->event.is_set() && !all->event.try_wait() && !all->event.wait_for(1ms));
    CHECK_EQ(worker(pool, all, [](shared *at) { at->event.set(), at->again.set(); }), 0);
    all->event.wait();
    CHECK(all->event.wait_until(std::chrono::system_clock::now()));
    all->event.clear();
    CHECK(!all->event.is_set());
    CHECK(all->again.try_wait() && !all->again.try_wait());

    auto party = pool.submit([](shared *at) { return at->barrier.arrive_and_wait() ? 1 : 0; }, all);
    int mine = all->barrier.arrive_and_wait() ? 1 : 0;
    CHECK_EQ(party.get(hang) + mine, 1);
    CHECK(!all->barrier.arrive_and_wait_for(1ms) && all->barrier.broken());
    CHECK_THROWS(all->barrier.arrive_and_wait(), TINE_EBROKEN);
    all->barrier.reset();
    CHECK_EQ(worker(pool, all, [](shared *at) { at->barrier.abort(); }), 0);
    CHECK(all->barrier.broken());
    CHECK_THROWS(tine::barrier(0), -EINVAL);
    CHECK_THROWS(tine::barrier(all->barrier.max() + 1), -EINVAL);

    CHECK(!all->latch.try_wait() && !all->latch.wait_for(1ms));
    CHECK_EQ(worker(pool, all, [](shared *at) { at->latch.count_down(); }), 0);
    CHECK_THROWS(all->latch.count_down(2), -EINVAL);
    auto last = pool.submit([](shared *at) { at->latch.arrive_and_wait(); }, all);
    all->latch.wait();
    last.get(hang);
    CHECK(all->latch.try_wait());
    CHECK_THROWS(tine::latch(-1), -EINVAL);
    CHECK(tine::latch(0).try_wait());

    // Once for all processes: one that throws, one that dies, and one that does it.
    CHECK_THROWS(tine::call_once(all->once, [] { throw tine::error(-EIO); }), -EIO);
    CHECK_EQ(worker(pool, all, [](shared *at) { tine::call_once(at->once, [] { std::raise(SIGKILL); }); }), TINE_EDIED);
    all->value = 0;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(worker(pool, all, [](shared *at) { tine::call_once(at->once, [](int *value) { ++*value; }, &at->value); }), 0);
    tine::call_once(all->once, [&] { all->value++; });
    CHECK_EQ(all->value, 1);
    CHECK_THROWS(tine::call_once(all->once_again, [&] { tine::call_once(all->once_again, [] {}); }), -EDEADLK);
}

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    // All-zero memory is a free lock.
    alignas(tine::mutex) static unsigned char zero[sizeof(tine::mutex)];
    std::lock_guard<tine::mutex> guard(*reinterpret_cast<tine::mutex *>(zero));
    with_all_starts(2, [](tine::pool &pool) {
        auto all = pool.make<shared>();
        lockables(pool, all.get());
        no_deadlock(pool, all.get());
        deaths(pool, all.get());
        conditions(pool, all.get());
        others(pool, all.get());
    });
    return 0;
}
