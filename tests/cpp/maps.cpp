// Maps and loops over ranges of all kinds, and what comes of items that fail.
#include "check.hpp"

#include <array>
#include <cmath>
#include <numeric>
#include <unistd.h>

struct job {
    tine::string path;
    int width;
};

static double root(double number) { return std::sqrt(number); }
static int length_of(tine::task &, const int &number) { return number + 1; }

static void maps(tine::pool &pool)
{
    std::vector<double> numbers(1000);
    std::iota(numbers.begin(), numbers.end(), 0.0);
    std::vector<double> roots = pool.map(numbers, root);
    CHECK(roots.size() == 1000 && roots[144] == 12);
    CHECK(pool.map(numbers, [](double number) { return number * 2; })[500] == 1000);
    int addend = 7;
    CHECK_EQ(pool.map(std::array<int, 3>{1, 2, 3}, [addend](int number) { return number + addend; })[2], 10);
    const int array[] = {1, 2, 3};
    CHECK_EQ(pool.map(array, length_of)[0], 2);
    CHECK_EQ(pool.map(array, [](tine::task &task, int) { return task.id(); })[2], 2);
    CHECK(pool.map(std::vector<int>(), [](int number) { return number; }).empty());
    std::vector<int> twice(3);
    pool.map_into(array, twice, [](int number) { return 2 * number; });
    CHECK_EQ(twice[2], 6);
    std::vector<int> wrong(2);
    CHECK_THROWS(pool.map_into(array, wrong, [](int number) { return number; }), -EINVAL);

    for (std::size_t chunk : {1u, 7u, 0u}) {
        tine::map_options options;
        std::size_t told = 0, total = 0, failed = 0;
        options.chunk = chunk;
        options.progress = [&](std::size_t done, std::size_t of) { told = done, total = of; };
        options.on_failure = [&](std::size_t item, const tine::failure &why) {
            failed++;
            CHECK_EQ(item, 13);
            CHECK(why.message == "thirteen");
        };
        auto picky = [](double number) { return number == 13 ? throw std::domain_error("thirteen") : number; };
        try {
            pool.map(options, numbers, picky);
            CHECK(false);
        } catch (const tine::items_failed &what) {
            CHECK_EQ(what.code(), TINE_EITEMS);
            CHECK_EQ(what.items().size(), 1);
            CHECK_EQ(what.items()[0].item, 13);
            CHECK_EQ(what.items()[0].why.code, -EDOM);
            CHECK_STR(what.what(), "1 of 1000 items failed; item 13: thirteen");
        }
        CHECK(told == 1000 && total == 1000 && failed == 1);
        std::vector<double> kept(1000, -1);
        options.on_failure = nullptr;
        auto done = pool.map_into(std::nothrow, options, numbers, kept, picky);
        CHECK(!done && done.error().items->size() == 1 && kept[13] == -1 && kept[999] == 999);
        auto fatal = pool.map(std::nothrow, options, numbers, [](double number) { return number == 50 ? std::raise(SIGKILL) : 1; });
        CHECK(!fatal && fatal.error().items->size() == 1 && (*fatal.error().items)[0].why.code == TINE_EDIED &&
              (*fatal.error().items)[0].why.death->signal == SIGKILL);
    }

    // A callback that throws: the map comes to its end, and then the exception comes out.
    tine::map_options options;
    int calls = 0;
    options.progress = [&](std::size_t, std::size_t) { calls++, throw std::logic_error("from a callback"); };
    std::vector<int> all(3);
    try {
        pool.map_into(options, array, all, [](int number) { return number; });
        CHECK(false);
    } catch (const std::logic_error &what) {
        CHECK_STR(what.what(), "from a callback");
    }
    CHECK(calls == 1 && all[2] == 3);
    tine::map_options taken;
    taken.context = &calls;
    taken.context_length = sizeof calls;
    CHECK_THROWS(pool.map(taken, array, length_of), -EINVAL);
    CHECK_THROWS(pool.map(array, tine::named<int>("no such name")), TINE_ENAME);
}

static void loops(tine::pool &pool)
{
    auto sum = pool.make<std::atomic<long>>(0);
    pool.for_each(1, 1001, [to = sum.get()](std::size_t number) { *to += long(number); });
    CHECK_EQ(sum->load(), 500500);
    pool.for_each(5, 5, [](std::size_t) { std::raise(SIGKILL); });
    CHECK_THROWS(pool.for_each(6, 5, [](std::size_t) {}), -EINVAL);
    tine::map_options options;
    options.chunk = 10;
    CHECK_THROWS(pool.for_each(options, 0, 100, [](tine::task &task, std::size_t n) { if (n == 55) task.fail(-EIO, "no"); }), TINE_EITEMS);
    std::vector<int> copies(100, 1);
    pool.for_each(copies, [to = sum.get()](const int &number) { *to += number; });
    CHECK_EQ(sum->load(), 500600);
}

// Items of any type where they are, in shared memory, and results that workers build there.
static void shared(tine::pool &pool)
{
    tine::vector<job> jobs(pool.allocator());
    for (int i = 0; i < 200; i++)
        jobs.push_back({tine::string("a path that is too long to be in the string itself " + std::to_string(i), pool.allocator()), i});
    tine::vector<tine::string> names(200, tine::string(pool.allocator()), pool.allocator());
    pool.map_into(jobs, names, [](const job &each) { return tine::string(each.path) + " at " + tine::string(std::to_string(each.width), each.path.get_allocator()); });
    CHECK(names[199] == "a path that is too long to be in the string itself 199 at 199");
    pool.for_each(jobs, [](job &each) { each.width = -each.width, each.path += " and another long piece of text behind it"; });
    CHECK(jobs[150].width == -150 && jobs[150].path.size() > 90);
    const auto &same = jobs;
    CHECK_EQ(pool.map(same, [](const job &each) { return each.width; })[7], -7);
}

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    with_all_starts(2, [](tine::pool &pool) {
        maps(pool);
        loops(pool);
        shared(pool);
    });
    return 0;
}
