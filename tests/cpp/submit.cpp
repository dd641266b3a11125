// What can be submitted, what comes of it, and what futures do.
#include "check.hpp"

#include "../c/refuse.h"

#include <array>
#include <atomic>
#include <fstream>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <thread>
#include <unistd.h>

struct point {
    double x, y;
};

// Of a type that travels in its own way.
struct polygon {
    std::string name;
    std::vector<point> corners;
};

template <>
struct tine::codec<polygon> {
    static std::size_t size(const polygon &value) { return 16 + value.name.size() + value.corners.size() * sizeof(point); }
    static void encode(const polygon &value, void *at)
    {
        std::size_t length = value.name.size();
        auto *to = static_cast<char *>(at);
        std::memcpy(to, &length, sizeof length);
        if (!value.corners.empty())
            std::memcpy(to + 16, value.corners.data(), value.corners.size() * sizeof(point));
        std::memcpy(to + 16 + value.corners.size() * sizeof(point), value.name.data(), length);
    }
    static polygon decode(tine::bytes from)
    {
        std::size_t length;
        auto *at = static_cast<const char *>(from.data);
        std::memcpy(&length, at, sizeof length);
        if (from.size < 16 || length > from.size - 16)
            throw tine::error(-EBADMSG, "a polygon is cut off");
        polygon value{std::string(at + from.size - length, length), std::vector<point>((from.size - 16 - length) / sizeof(point))};
        if (!value.corners.empty())
            std::memcpy(value.corners.data(), at + 16, value.corners.size() * sizeof(point));
        return value;
    }
};

static int twice(int number) { return 2 * number; }
static int least(int left, int right) noexcept { return left < right ? left : right; }
static double length(point at) { return at.x + at.y; }
static std::string join(const std::string &left, std::string right) { return left + right; }
static bool is_cancelled(tine::task &task, int number) { return task.cancelled() || number == 0; }
static void nothing() {}
template <class T>
static T identity(T value)
{
    return value;
}

static int c_function(tine_task *task)
{
    std::size_t size;
    auto *in = static_cast<const char *>(tine_input(task, &size));
    auto *out = static_cast<char *>(tine_output(task, size));
    if (!out)
        return -ENOMEM;
    for (std::size_t i = 0; i < size; i++)
        out[i] = in[size - 1 - i];
    return static_cast<int>(size);
}

static std::string shout(const std::string &text) { return text + "!"; }
static point mirror(tine::task &, point at) { return {-at.x, -at.y}; }

struct functor {
    int factor;
    int operator()(int number) const { return factor * number; }
};

struct alignas(64) wide {
    char content[64];
};

static void functions(tine::pool &pool)
{
    CHECK_EQ(pool.submit(twice, 21).get(), 42);
    CHECK_EQ(pool.submit(&twice, 21).get(), 42);
    CHECK_EQ(pool.submit(least, 3, 2).get(), 2);
    CHECK(pool.submit(length, point{1, 2}).get() == 3);
    CHECK(!pool.submit(is_cancelled, 1).get());
    pool.submit(nothing).get();
    CHECK_EQ(pool.submit(identity<long>, 7L).get(), 7);
    CHECK(pool.submit(identity<std::string>, "seven").get() == "seven");

    CHECK_EQ(pool.submit([](int left, int right) { return left + right; }, 19, 23).get(), 42);
    CHECK_EQ(pool.submit([](auto left, auto right) { return left * right; }, 6, 7).get(), 42);
    CHECK_EQ(pool.submit(functor{6}, 7).get(), 42);
    int factor = 6;
    point by{2, 3};
    CHECK(pool.submit([factor, by](double number) { return factor * number + by.x + by.y; }, 10.0).get() == 65);
    CHECK_EQ(pool.submit([count = 0]() mutable { return ++count; }).get(), 1);
    CHECK(pool.submit([](tine::task &task) { return task.id(); }).get() != 0);
    CHECK(pool.submit([] { return getpid(); }).get() != getpid());

    // A function of a library: its address here is one of this program, or is refused with advice.
    CHECK_EQ(pool.submit([](int number) { return std::abs(number); }, -5).get(), 5);

    CHECK(pool.submit(c_function, "desserts").get().text() == "stressed");
    CHECK_EQ(pool.submit(c_function, std::string("four")).get().status(), 4);
    CHECK(pool.submit(tine::named("shout"), "hello").get().text() == "hello!");
    CHECK(pool.submit(tine::named<std::string>("shout"), "hello").get() == "hello!");
    CHECK(pool.submit(tine::named<point>("mirror"), point{1, 2}).get().y == -2);
    CHECK(pool.submit(tine::named("shout"), tine::bytes{"hello", 4}).get().text() == "hell!");
    CHECK_THROWS((void)pool.submit(tine::named("no such name"), 1), TINE_ENAME);
    // What comes is not what was expected, in the worker and here.
    CHECK_THROWS(pool.submit(tine::named<point>("mirror"), 1).get(), -EBADMSG);
    CHECK_THROWS(pool.submit(tine::named<int>("mirror"), point{1, 2}).get(), -EBADMSG);
}

static void arguments(tine::pool &pool)
{
    std::string text = "text", long_text(100'000, 'x');
    std::string_view view = text;
    std::vector<int> numbers(50'000);
    std::iota(numbers.begin(), numbers.end(), 0);
    int array[] = {1, 2, 3};
    CHECK(pool.submit(join, "left ", "right").get() == "left right");
    CHECK(pool.submit(join, text, view).get() == "texttext");
    CHECK(pool.submit(join, "", std::string()).get().empty());
    CHECK(pool.submit(join, long_text, long_text).get() == long_text + long_text);
    CHECK(pool.submit([](const char *, int) { return 0; }, nullptr, 1).get() == 0);
    auto sum = [](const std::vector<int> &all) { return std::accumulate(all.begin(), all.end(), 0LL); };
    CHECK_EQ(pool.submit(sum, numbers).get(), 1249975000);
    CHECK_EQ(pool.submit(sum, std::vector<int>()).get(), 0);
    CHECK_EQ(pool.submit(sum, array).get(), 6);
    CHECK(pool.submit([](std::vector<int> all) { return all; }, numbers).get() == numbers);
    CHECK_EQ(pool.submit([](std::array<int, 3> all, char, double) { return all[2]; }, std::array<int, 3>{1, 2, 3}, 'c', 1.5).get(), 3);
    CHECK_EQ(pool.submit([](const wide &at) { return reinterpret_cast<std::uintptr_t>(&at) % 64; }, wide{}).get(), 0);
    CHECK_EQ(pool.submit([](wide &&at, std::string, char) { return at.content[63]; }, wide{{}}, "s", 'c').get(), 0);
    CHECK(pool.submit([](std::u16string wide_text) { return wide_text.size(); }, std::u16string(3, u'x')).get() == 3);

    auto both = pool.submit([](std::pair<int, std::string> in, std::tuple<> nothing_in) {
        return std::make_tuple(in.second, in.first, std::vector<int>{in.first}, nothing_in);
    }, std::make_pair(7, std::string("seven")), std::tuple<>()).get();
    CHECK(std::get<0>(both) == "seven" && std::get<1>(both) == 7 && std::get<2>(both)[0] == 7);

    polygon square{"square", {{0, 0}, {0, 1}, {1, 1}, {1, 0}}};
    polygon back = pool.submit([](polygon shape, std::string suffix) {
        shape.name += suffix;
        shape.corners.pop_back();
        return shape;
    }, square, " with a corner less").get();
    CHECK(back.name == "square with a corner less" && back.corners.size() == 3 && back.corners[2].x == 1);
#ifdef TINE_HAS_SPAN
    CHECK_EQ(pool.submit(sum, std::span<const int>(array, 2)).get(), 3);
#endif
}

static void failures(tine::pool &pool)
{
    auto code = [&](auto function) { return pool.submit(function).get(std::nothrow).error().code; };
    CHECK_EQ(code([] { throw std::invalid_argument("x"); }), -EINVAL);
    CHECK_EQ(code([] { throw std::out_of_range("x"); }), -ERANGE);
    CHECK_EQ(code([] { throw std::range_error("x"); }), -ERANGE);
    CHECK_EQ(code([] { throw std::overflow_error("x"); }), -EOVERFLOW);
    CHECK_EQ(code([] { throw std::domain_error("x"); }), -EDOM);
    CHECK_EQ(code([] { throw std::bad_alloc(); }), -ENOMEM);
    CHECK_EQ(code([] { throw std::runtime_error("x"); }), tine::exception_code);
    CHECK_EQ(code([] { throw 5; }), tine::exception_code);
    CHECK_EQ(code([] { throw std::system_error(ENOENT, std::generic_category()); }), -ENOENT);
    CHECK_EQ(code([] { throw std::system_error(std::make_error_code(std::future_errc::no_state)); }), tine::exception_code);
    CHECK_EQ(code([] { throw tine::error(-EXDEV); }), -EXDEV);
    CHECK_EQ(code([] { throw tine::error(TINE_EBROKEN); }), tine::exception_code);
    CHECK_STR(tine_errname(tine::exception_code), "EREMOTEIO");

    auto failed = pool.submit([](tine::task &task, int number) { task.fail(-EDOM, std::to_string(number) + " has no root"); }, -1);
    try {
        failed.get();
        CHECK(false);
    } catch (const tine::task_failed &what) {
        CHECK_STR(what.what(), "-1 has no root");
        CHECK_STR(what.name(), "EDOM");
        CHECK_EQ(what.delivery(), TINE_RAN);
        CHECK(!what.death());
    }
    // A % is no format.
    CHECK(pool.submit([] { throw std::runtime_error("100 %s %n"); }).get(std::nothrow).error().message == "100 %s %n");

    auto died = pool.submit([] { std::raise(SIGKILL); });
    try {
        died.get();
        CHECK(false);
    } catch (const tine::worker_died &what) {
        CHECK_EQ(what.report().signal, SIGKILL);
        CHECK(what.report().pid > 0);
        CHECK_EQ(what.delivery(), TINE_MAYBE_RAN);
        // The report is the exception's own: it outlives the result, and is copied with it.
        tine::worker_died copy = what;
        CHECK_EQ(copy.report().signal, SIGKILL);
        CHECK(copy.report().function.size() > 0);
    }
    auto value = pool.submit([] { _exit(7); }).get(std::nothrow);
    CHECK(!value && value.error().death && value.error().death->code == 7 && value.error().deaths == 1);
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK_EQ(value.error().death->print(ends[1]), 0);
    char text[512] = "";
    CHECK(read(ends[0], text, sizeof text - 1) > 0 && std::strstr(text, std::to_string(value.error().death->pid).c_str()));
    close(ends[0]);
    close(ends[1]);
}

static void futures(tine::pool &pool)
{
    auto event = pool.make<tine::event>();
    auto waits = [](tine::event *go) { return go->wait(), 5; };
    auto future = pool.submit(waits, event.get());
    CHECK(future.valid() && future.id() != 0);
    CHECK(future.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
    CHECK(future.wait_for(std::chrono::milliseconds(5)) == std::future_status::timeout);
    CHECK(future.wait_until(std::chrono::steady_clock::now()) == std::future_status::timeout);
    CHECK_THROWS(future.get(std::chrono::milliseconds(1)), -ETIMEDOUT);
    CHECK_THROWS(future.get(std::chrono::nanoseconds(0)), -EAGAIN);
    tine::future<int> other = std::move(future);
    CHECK(!future.valid() && other.valid());
    CHECK_THROWS(future.get(), TINE_EID);
    CHECK_THROWS(future.wait(), TINE_EID);
    CHECK_THROWS(future.cancel(), TINE_EID);
    event->set();
    CHECK(other.wait_for(hang) == std::future_status::ready && other.is_ready());
    CHECK_EQ(other.cancel(std::nothrow).error().code, -EALREADY);
    CHECK_EQ(other.get(), 5);
    CHECK(!other.valid());
    CHECK_THROWS(other.get(), TINE_EID);

    event->clear();
    auto queued = pool.submit(waits, event.get());
    queued.cancel();
    CHECK_THROWS(queued.get(), -ECANCELED);
    pool.cancel_all();
    CHECK(pool.wait_all(hang));
}

// Futures that nobody asks leave nothing behind, also in a small window.
static void forgotten()
{
    tine::pool_options options;
    options.workers = 1;
    options.window_tasks = 4;
    tine::pool pool(options);
    tine::submit_options patient;
    patient.timeout_ns = tine::ns(hang);
    auto counter = pool.make<std::atomic<int>>(0);
    for (int i = 0; i < 1000; i++)
        (void)pool.submit(patient, [](std::atomic<int> *count) { ++*count; }, counter.get());
    CHECK(pool.wait_all(hang));
    CHECK_EQ(counter->load(), 1000);
    // Without patience, too, once they have settled.
    std::vector<tine::future<void>> held;
    for (int i = 0; i < 4; i++)
        held.push_back(pool.submit(nothing));
    CHECK_THROWS((void)pool.submit(nothing), -EAGAIN);
    CHECK(pool.wait_all(hang));
    held.clear();
    pool.submit(nothing).get();

    // A full window of tasks that go on is a full window.
    auto event = pool.make<tine::event>();
    for (int i = 0; i < 4; i++)
        (void)pool.submit([](tine::event *go) { go->wait(); }, event.get());
    CHECK_THROWS((void)pool.submit(nothing), -EAGAIN);
    patient.timeout_ns = tine::ns(std::chrono::milliseconds(20));
    CHECK_THROWS((void)pool.submit(patient, nothing), -ETIMEDOUT);
    // A time that is over is one that is over, as in tine.h.
    for (std::int64_t over : {tine::ns(std::chrono::milliseconds(-1)), INT64_MIN}) {
        patient.timeout_ns = over;
        auto refused = pool.submit(std::nothrow, patient, nothing);
        CHECK(!refused && refused.error().code == -EAGAIN);
    }
    event->set();
    patient.timeout_ns = TINE_FOREVER;
    pool.submit(patient, nothing).get();
}

// Waiting does not help where no thread can be started: the call says so, and does not wait.
static void without_a_thread()
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        tine::pool pool(1);
        refuse_with(SYS_clone3, EAGAIN);
        tine::submit_options patient;
        patient.timeout_ns = TINE_FOREVER;
        auto refused = pool.submit(std::nothrow, patient, nothing);
        CHECK(!refused && refused.error().code == -EAGAIN);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void ends()
{
    tine::future<int> left;
    tine::future<tine::result> raw;
    {
        tine::pool pool(1);
        left = pool.submit(twice, 1);
        raw = pool.submit(c_function, "x");
        CHECK(pool.shutdown(hang));
        CHECK_THROWS((void)pool.submit(twice, 1), TINE_ESHUTDOWN);
        CHECK_EQ(pool.submit(std::nothrow, twice, 1).error().code, TINE_ESHUTDOWN);
    }
    CHECK_THROWS(left.get(), TINE_ESHUTDOWN);
    CHECK_THROWS(raw.wait(), TINE_ESHUTDOWN);

    tine::pool first(1), second = std::move(first);
    CHECK_THROWS((void)first.submit(twice, 1), TINE_ESHUTDOWN);
    CHECK_EQ(second.submit(twice, 1).get(), 2);
    second = tine::pool(1);
    CHECK_EQ(second.submit(twice, 2).get(), 4);
    auto stays = second.submit(twice, 3);
    tine::pool &same_pool = second;
    tine::future<int> &same_future = stays;
    second = std::move(same_pool);
    stays = std::move(same_future);
    CHECK_EQ(stays.get(), 6);
    CHECK_EQ(second.submit(twice, 2).get(), 4);

    tine::pool_options bad;
    bad.start = 77;
    CHECK_THROWS(tine::pool{bad}, -EINVAL);
    auto none = tine::pool::create(std::nothrow, bad);
    CHECK(!none && none.error().message.find("77") != std::string::npos);
    auto some = tine::pool::create(std::nothrow);
    CHECK(some && some->submit(twice, 3).get() == 6);
    CHECK(some->stats().workers > 0);
    CHECK(some->fd() >= 0 && some->poll() == 0);
}

static std::size_t blocks_in(const tine::pool &pool) { return pool.heap().stats().used_blocks; }

// A task's own submissions run in its worker. What comes of a pool object that is somebody else's pool outlives the object.
static int uses_its_pool(tine::task &task)
{
    std::size_t before = blocks_in(task.pool());
    auto sum = task.pool().submit([](int n) { return n + 1; }, 41);
    CHECK_EQ(sum.get(), 42);
    {
        auto left = task.pool().submit([](int n) { return n; }, 1);
        auto large = task.pool().submit(c_function, std::string(100'000, 'x')).get();
        CHECK_EQ(large.size(), 100'000);
        tine::queue<int> queue(task.pool(), 8);
        queue.put(7);
        CHECK_EQ(queue.get(), 7);
        auto stream = task.pool().stream<int>(twice);
        stream.put(21);
        stream.end();
        CHECK_EQ(stream.next()->value(), 42);
        CHECK(blocks_in(task.pool()) > before);
    }
    CHECK_EQ(blocks_in(task.pool()), before);
    return 42;
}

// The same with a pool that is C's.
static void uses_a_pool_of_c(tine::pool &pool)
{
    tine_pool *of_c = pool.native_handle();
    auto future = tine::pool::from(of_c).submit(twice, 21);
    CHECK_EQ(future.get(), 42);
    tine::queue<int> queue(tine::pool::from(of_c), 8);
    queue.put(7);
    CHECK_EQ(queue.get(), 7);
    tine::pool same = tine::pool::from(of_c);
    same = tine::pool::from(of_c);
    CHECK_EQ(same.submit(twice, 4).get(), 8);
    CHECK_EQ(pool.submit(twice, 5).get(), 10);
}

static bool is_asleep(pid_t thread)
{
    std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string line;
    std::getline(stat, line);
    return line.compare(line.rfind(')') + 1, 2, " S") == 0;
}

// Other threads have futures while the pool ends: who waits is told, and who asks or lets go meets no pool that has gone.
static void ends_meanwhile()
{
    for (int round = 0; round < 20; round++) {
        tine::pool_options options;
        options.workers = 2;
        options.grace_ns = tine::ns(std::chrono::milliseconds(2));
        auto pool = std::make_unique<tine::pool>(options);
        auto waited_for = pool->submit([] { pause(); }), asked = pool->submit([] { pause(); });
        std::vector<tine::future<int>> dropped;
        for (int i = 0; i < 2000; i++)
            dropped.push_back(pool->submit(twice, i));
        std::atomic<pid_t> waiter{0};
        std::atomic<bool> asks{false}, drops{false};
        std::thread waiting([&] {
            waiter = gettid();
            auto end = waited_for.get(std::nothrow);
            CHECK(!end && (end.error().code == -ECANCELED || end.error().code == TINE_ESHUTDOWN));
        });
        std::thread asking([&] {
            try {
                for (;; asks = true)
                    (void)asked.is_ready();
            } catch (const tine::error &end) {
                CHECK_EQ(end.code(), TINE_ESHUTDOWN);
            }
        });
        while (!waiter || !is_asleep(waiter) || !asks)
            std::this_thread::yield();
        std::thread dropping([&] {
            for (drops = true; !dropped.empty();)
                dropped.pop_back();
        });
        while (!drops)
            std::this_thread::yield();
        pool.reset();
        waiting.join();
        asking.join();
        dropping.join();
    }
}

static void options(tine::pool &pool)
{
    tine::submit_options retry;
    retry.flags = TINE_IDEMPOTENT;
    retry.retries = 2;
    auto attempts = pool.make<int>(0);
    CHECK_EQ(pool.submit(retry, [](int *attempt) { return ++*attempt < 3 ? std::raise(SIGKILL) : *attempt; }, attempts.get()).get(), 3);
    tine::submit_options late;
    late.deadline_ns = tine::ns(std::chrono::milliseconds(20));
    auto heeds = [](tine::task &task) {
        while (!task.cancelled())
            usleep(1000);
    };
    CHECK_THROWS(pool.submit(late, heeds).get(), -ETIMEDOUT);
    auto expected = pool.submit(std::nothrow, late, twice, 1);
    CHECK(expected && expected->get() == 2);
    CHECK_EQ(pool.submit(uses_its_pool).get(), 42);
    uses_a_pool_of_c(pool);
    tine_error own = TINE_ERROR_INIT;
    tine::submit_options bad;
    bad.flags = 1u << 30;
    bad.error = &own;
    CHECK_THROWS((void)pool.submit(bad, twice, 1), -EINVAL);
    CHECK_EQ(own.code, -EINVAL);
}

static void durations()
{
    using namespace std::chrono;
    CHECK_EQ(tine::ns(milliseconds(5)), 5'000'000);
    CHECK_EQ(tine::ns(tine::forever), TINE_FOREVER);
    CHECK_EQ(tine::ns(hours(24 * 365 * 1000)), TINE_FOREVER);
    CHECK_EQ(tine::ns(duration<double>(0.5)), 500'000'000);
    CHECK_EQ(tine::ns(duration<double, std::nano>(0.25)), 1);
    CHECK_EQ(tine::ns(nanoseconds::max() - nanoseconds(1'000'000)), INT64_MAX - 1'000'000);
    CHECK_EQ(tine::ns(seconds(0)), 0);
    CHECK_EQ(tine::ns_until(steady_clock::now() - hours(1)), 0);
}

int main(int argc, char **argv)
{
    tine::register_function<shout>("shout");
    tine::register_function<mirror>("mirror");
    CHECK_THROWS(tine::register_function<shout>("shout"), -EEXIST);
    tine::init(argc, argv);
    CHECK_THROWS(tine::register_function<shout>("late"), TINE_ELATE);
    durations();
    with_all_starts(2, [](tine::pool &pool) {
        functions(pool);
        arguments(pool);
        failures(pool);
        futures(pool);
        options(pool);
    });
    forgotten();
    without_a_thread();
    ends();
    ends_meanwhile();
    return 0;
}
