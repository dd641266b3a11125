// Streams, callbacks, and results that are values or failures.
#include "check.hpp"

#include <atomic>
#include <map>
#include <stdexcept>
#include <thread>
#include <unistd.h>

static long square(int number) { return long(number) * number; }

static void put_and_take(tine::pool &pool)
{
    int factor = 3;
    auto scaled = pool.stream<int>([factor](int number) { return std::to_string(factor * number); });
    std::thread putter([&] {
        for (int i = 0; i < 1000; i++)
            scaled.put(i);
        scaled.end();
    });
    int next = 0;
    while (auto item = scaled.next()) {
        CHECK(item->number == std::uint64_t(next) && item->value() == std::to_string(factor * next));
        next++;
    }
    putter.join();
    CHECK_EQ(next, 1000);
    CHECK(!scaled.next());
    CHECK_THROWS(scaled.put(1), -EPIPE);

    // A window that is full; results as they finish; failures beside them.
    tine::stream_options options;
    options.window_tasks = 4;
    options.flags = TINE_UNORDERED;
    auto some = pool.stream<int>(options, [](tine::task &task, int number) {
        if (number == 2)
            task.fail(-EDOM, "not two");
        if (number == 3)
            std::raise(SIGKILL);
    });
    int in = 0;
    while (some.try_put(in))
        in++;
    CHECK_EQ(in, 4);
    CHECK_THROWS(some.put(4, std::chrono::milliseconds(1)), -ETIMEDOUT);
    some.end();
    std::map<std::uint64_t, int> codes;
    while (auto item = some.next(hang))
        codes[item->number] = item->has_value() ? 0 : item->error().code;
    CHECK((codes == std::map<std::uint64_t, int>{{0, 0}, {1, 0}, {2, -EDOM}, {3, TINE_EDIED}}));

    // By a function's address, and by name.
    auto squares = pool.stream<int>(square);
    squares.put(9);
    auto mirrors = pool.stream<std::string>(tine::named<std::string>("mirror"));
    mirrors.put("abc");
    auto raw = pool.stream<int>(tine::named("twice"));
    raw.put(21);
    CHECK_EQ(squares.next()->value(), 81);
    CHECK(mirrors.next()->value() == "cba");
    CHECK_EQ(raw.next()->value().as<int>(), 42);
    auto waiting = raw.next(std::nothrow, std::chrono::milliseconds(1));
    CHECK(!waiting && waiting.error().code == -ETIMEDOUT);
    auto unknown = pool.stream<int>(std::nothrow, tine::stream_options(), tine::named("no such function"));
    CHECK(!unknown && unknown.error().code == TINE_ENAME);
}

static void drawn(tine::pool &pool)
{
    int left = 500;
    auto squares = pool.stream<int>(square, [&left]() -> std::optional<int> { return left > 0 ? std::optional(left--) : std::nullopt; });
    long sum = 0;
    while (auto item = squares.next())
        sum += item->value();
    CHECK_EQ(sum, 500L * 501 * 1001 / 6);

    // What the draw throws leaves next(), after what was drawn before.
    int count = 0;
    auto broken = pool.stream<int>(square, [&count]() -> std::optional<int> {
        if (count == 3)
            throw std::runtime_error("the file ends here");
        return count++;
    });
    int taken = 0;
    try {
        while (broken.next())
            taken++;
        CHECK(false);
    } catch (const std::runtime_error &wrong) {
        CHECK_STR(wrong.what(), "the file ends here");
    }
    CHECK_EQ(taken, 3);
}

// A wait that ends before the items are done says that, and not what the draw has thrown meanwhile.
static void thrown_meanwhile(tine::pool &pool)
{
    auto gate = pool.make<std::atomic<int>>(0);
    int count = 0;
    auto broken = pool.stream<int>(
        [open = gate.get()](int number) {
            while (!open->load())
                usleep(1000);
            return number;
        },
        [&count]() -> std::optional<int> {
            if (count == 2)
                throw std::runtime_error("the file ends here");
            return count++;
        });
    CHECK_THROWS((void)broken.next(std::chrono::milliseconds(1)), -ETIMEDOUT);
    CHECK_THROWS((void)broken.next(std::chrono::seconds(0)), -EAGAIN);
    CHECK_EQ(count, 2);
    gate->store(1);
    CHECK_EQ(broken.next()->value(), 0);
    CHECK_EQ(broken.next()->value(), 1);
    std::string said;
    try {
        (void)broken.next();
    } catch (const std::runtime_error &wrong) {
        said = wrong.what();
    }
    CHECK_STR(said.c_str(), "the file ends here");
    CHECK(!broken.next());
}

static void callbacks(tine::pool &pool)
{
    std::atomic<int> sum{0}, begun{0}, told{0};
    for (int i = 1; i <= 100; i++)
        pool.submit_then([&](tine::expected<int> twice) { sum += *twice, told++; }, [](int number) { return 2 * number; }, i);
    CHECK(pool.wait_all(hang));
    tine::submit_options late;
    late.deadline_ns = tine::ns(std::chrono::milliseconds(20));
    int code = 0;
    pid_t where = 0;
    pool.submit_then(late,
                     tine::callbacks{[&](tine::expected<void> end) { code = end.error().code, told++; },
                                     [&](tine_id, pid_t pid) { where = pid, begun++; }},
                     [] { pause(); });
    std::string said;
    pool.submit_then([&](tine::expected<std::string> end) { said = end.value(), told++; }, tine::named("mirror"), tine::bytes("xyz", 3));
    while (told < 102)
        usleep(1000);
    CHECK(sum == 100 * 101 && code == -ETIMEDOUT && begun == 1 && where > 1 && where != getpid() && said == "zyx");
    // One that is refused is not told of.
    auto refused = pool.submit_then(std::nothrow, tine::submit_options(), [&](tine::expected<std::string>) { told++; },
                                    tine::named("no such function"), 1);
    CHECK(!refused && refused.error().code == TINE_ENAME);
    CHECK_EQ(told, 102);
}

static void ends()
{
    int code = 0;
    {
        tine::pool pool(1);
        pool.submit_then([&](tine::expected<void> end) { code = end.has_value() ? 1 : end.error().code; }, [] { pause(); });
    }
    // It had begun, or it had not.
    CHECK(code == -ECANCELED || code == TINE_EDIED);
}

// A function may return its failure.
static tine::expected<int> half(int number)
{
    if (number % 2) {
        tine::failure why;
        why.code = -EDOM;
        why.message = std::to_string(number) + " is odd";
        return why;
    }
    return number / 2;
}

static void values(tine::pool &pool)
{
    tine::future<int> good = pool.submit(half, 42), bad = pool.submit(half, 43);
    CHECK_EQ(good.get(), 21);
    auto why = bad.get(std::nothrow);
    CHECK(!why && why.error().code == -EDOM && why.error().message == "43 is odd" && why.error().of_task);
    CHECK_EQ(pool.submit(tine::named<int>("half"), 10).get(), 5);
    CHECK_THROWS(pool.submit(tine::named<int>("half"), 11).get(), -EDOM);
    CHECK_THROWS(pool.submit(tine::named<int>("half"), 'c').get(), -EBADMSG);
    std::vector<int> numbers{2, 4, 5, 8};
    std::vector<int> halves(4, -1);
    auto done = pool.map_into(std::nothrow, tine::map_options(), numbers, halves, half);
    CHECK(!done && done.error().items->size() == 1 && (*done.error().items)[0].item == 2);
    CHECK((halves == std::vector<int>{1, 2, -1, 4}));
    CHECK_THROWS(pool.for_each(0, 3, [](std::size_t at) { return half(int(at)); }), TINE_EITEMS);
    pool.submit([]() -> tine::expected<void> { return {}; }).get();
}

static std::string mirror(const std::string &text) { return {text.rbegin(), text.rend()}; }
static int twice(int number) { return 2 * number; }

int main(int argc, char **argv)
{
    tine::register_function<mirror>("mirror");
    tine::register_function<twice>("twice");
    tine::register_function<half>("half");
    tine::init(argc, argv);
    with_all_starts(2, [](tine::pool &pool) {
        put_and_take(pool);
        drawn(pool);
        thrown_meanwhile(pool);
        callbacks(pool);
        values(pool);
    });
    ends();
    return 0;
}
