// Objects and containers in shared memory: made here, changed there; and queues of values.
#include "check.hpp"

#include <list>
#include <map>
#include <scoped_allocator>
#include <thread>
#include <unordered_map>

struct counted {
    static inline int alive = 0;
    int value;
    explicit counted(int of) : value(of)
    {
        if (of < 0)
            throw std::invalid_argument("negative");
        alive++;
    }
    counted(const counted &) = delete;
    ~counted() { alive--; }
};

struct alignas(256) wide {
    char content[256];
};

static void objects(tine::pool &pool)
{
    (void)pool.allocator(); // the block that names the heap
    std::uint64_t before = pool.heap().stats().used_blocks;
    {
        auto object = pool.make<counted>(7);
        CHECK(counted::alive == 1 && pool.heap().contains(object.get(), sizeof(counted)));
        CHECK_EQ(pool.submit([](counted *at) { return at->value++; }, object.get()).get(), 7);
        CHECK_EQ(object->value, 8);
        auto aligned = pool.make<wide>();
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(aligned.get()) % 256, 0);
    }
    CHECK_EQ(counted::alive, 0);
    try {
        auto none = pool.make<counted>(-1);
        CHECK(false);
    } catch (const std::invalid_argument &) {
    }
    CHECK_EQ(pool.heap().stats().used_blocks, before);
    CHECK(pool.stats_text("a \"pool\"").find("tine_heap_reserved_bytes{pool=\"a \\\"pool\\\"\"} ") != std::string::npos);
    CHECK(pool.stats_text(std::string(9000, 'n')).find("nnn") != std::string::npos); // more than the first buffer holds

    void *block = pool.heap().allocate(100);
    pool.heap().deallocate(block);
    CHECK_THROWS(pool.heap().deallocate(block), -EINVAL);
    CHECK(!pool.heap().contains(&before));
    bool full = false;
    try {
        (void)pool.heap().allocate(std::size_t(1) << 60);
    } catch (const std::bad_alloc &) {
        full = true;
    }
    CHECK(full);
    pool.heap().trim();
}

static void containers(tine::pool &pool)
{
    // A vector of the host's, in the heap as a whole, that workers let grow.
    auto numbers = pool.make<tine::vector<int>>();
    for (int i = 0; i < 100; i++)
        pool.submit([](tine::vector<int> *at, int from) {
            for (int number = from; number < from + 100; number++)
                at->push_back(number);
        }, numbers.get(), 100 * i).get();
    CHECK_EQ(numbers->size(), 10000);
    CHECK_EQ((*numbers)[9999], 9999);
    numbers->clear();
    numbers->shrink_to_fit();

    using pair = std::pair<const tine::string, tine::vector<int>>;
    using table = std::map<tine::string, tine::vector<int>, std::less<>, std::scoped_allocator_adaptor<tine::allocator<pair>>>;
    auto words = pool.make<table>(tine::allocator<pair>(pool.allocator()));
    pool.submit([](table *at) {
        for (int i = 0; i < 50; i++)
            (*at)[tine::string("a word that is too long to be in the string itself", at->get_allocator())].push_back(i);
    }, words.get()).get();
    CHECK_EQ(words->size(), 1);
    CHECK_EQ(words->begin()->second[49], 49);
    words->begin()->second.push_back(50);
    CHECK_EQ(pool.submit([](const table *at) { return at->begin()->second.back(); }, words.get()).get(), 50);

    std::list<int, tine::allocator<int>> list({1, 2, 3}, pool.allocator());
    std::unordered_map<int, int, std::hash<int>, std::equal_to<>, tine::allocator<std::pair<const int, int>>> hash(pool.allocator());
    hash[1] = 2;
    list.push_back(4);
    CHECK(pool.heap().contains(&list.back()) && pool.heap().contains(&hash[1]));

    // Allocators of one heap are equal, whoever made them; those of two are not.
    tine::pool other(1);
    CHECK(pool.allocator() == pool.allocator());
    CHECK(pool.allocator() != other.allocator());
    tine::vector<int> mine(3, 7, pool.allocator()), theirs(other.allocator());
    theirs = mine;
    CHECK(other.heap().contains(theirs.data()) && theirs == mine);
    theirs = std::move(mine);
    CHECK(pool.heap().contains(theirs.data()));
    mine.swap(theirs);
    theirs = tine::vector<int>(other.allocator());
    CHECK(pool.submit([](tine::task &task, int *first) {
        tine::vector<int> own(task.pool().allocator());
        std::thread([&] { own.push_back(*first); }).join();
        return own[0];
    }, mine.data()).get() == 7);
}

// What outlives its pool may be destroyed.
static void outlived()
{
    tine::heap_ptr<tine::vector<int>> object;
    std::unique_ptr<tine::vector<int>> vector;
    {
        tine::pool pool(1);
        object = pool.make<tine::vector<int>>(std::size_t(3), 7);
        vector = std::make_unique<tine::vector<int>>(std::size_t(3), 7, pool.allocator());
    }
    // Another heap may lie where the first one was, and have blocks of its own there.
    tine::pool later(1);
    std::vector<void *> blocks;
    for (int i = 0; i < 1000; i++)
        blocks.push_back(later.heap().allocate(12));
    std::uint64_t before = later.heap().stats().used_blocks;
    object.reset();
    vector.reset();
    CHECK_EQ(later.heap().stats().used_blocks, before);
    tine::vector<int> *none = nullptr;
    {
        tine::pool pool(1);
        none = new tine::vector<int>(pool.allocator());
    }
    CHECK_THROWS(none->push_back(1), -EXDEV);
    delete none;
}

struct record {
    int number;
    double value;
};

static void queues(tine::pool &pool)
{
    tine::queue<record> records(pool, 4);
    auto reader = pool.submit([](tine::queue_ref<record> from) {
        double total = 0;
        while (auto message = from.next()) {
            total += message->number * message->value;
            from.task_done();
        }
        return total;
    }, records.ref());
    for (int i = 0; i < 100; i++)
        records.put({i, 0.5});
    records.join();
    records.close();
    CHECK(reader.get(hang) == 2475);
    CHECK(records.closed() && records.empty());
    CHECK_THROWS(records.put({1, 1}), -EPIPE);
    CHECK_THROWS(records.get(), -EPIPE);
    CHECK(!records.next() && !records.try_get());

    tine::queue<std::string> texts(pool);
    CHECK(!texts.try_get() && !texts.try_get_for(std::chrono::milliseconds(1)));
    CHECK_EQ(texts.get(std::nothrow, std::chrono::nanoseconds(0)).error().code, -EAGAIN);
    CHECK_THROWS(texts.get(std::chrono::milliseconds(1)), -ETIMEDOUT);
    texts.put("");
    texts.put(std::string(100'000, 'x'));
    CHECK_EQ(texts.size(), 2);
    CHECK(texts.get().empty() && texts.get().size() == 100'000);
    CHECK_THROWS(texts.put(std::string(10'000'000, 'x')), -EMSGSIZE);
    texts.task_done();
    texts.task_done();
    CHECK_THROWS(texts.task_done(), -EINVAL);

    // Messages of the wrong kind: a longer one stays, a shorter one is gone.
    tine::queue_ref<int> numbers(texts.native_handle());
    texts.put("too long for a number");
    CHECK_EQ(numbers.get(std::nothrow).error().code, -EMSGSIZE);
    CHECK(numbers.get(std::nothrow).error().message == "a message of 21 bytes is not a value of 4");
    CHECK(texts.get() == "too long for a number");
    texts.put("no");
    CHECK_THROWS(numbers.get(), -EBADMSG);
    CHECK(texts.empty());
    char buffer[4];
    numbers.put(5);
    CHECK_EQ(*numbers.get_into(std::nothrow, buffer, sizeof buffer), 4);

    tine::queue<int> full(pool, 2);
    CHECK(full.try_put(1) && full.try_put(2) && !full.try_put(3) && !full.try_put_for(3, std::chrono::milliseconds(1)));
    CHECK_EQ(full.put(std::nothrow, 3, std::chrono::milliseconds(1)).error().code, -ETIMEDOUT);
    CHECK_EQ(full.join(std::nothrow, std::chrono::milliseconds(1)).error().code, -ETIMEDOUT);
    tine::queue<int> moved = std::move(full);
    CHECK_EQ(moved.get(), 1);
    CHECK_THROWS(full.get(), -EINVAL);
    CHECK(moved.fd() >= 0);

    // A queue may be left over when its pool is not there any more.
    std::optional<tine::pool> short_lived(1);
    tine::queue<int> left_over(*short_lived, 2), moved_on(std::move(left_over));
    moved_on.put(1);
    short_lived.reset();

    tine::queue<wide> big(pool, 8);
    for (int i = 0; i < 8; i++)
        CHECK(big.try_put(wide{}));
}

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    with_all_starts(2, [](tine::pool &pool) {
        objects(pool);
        containers(pool);
        queues(pool);
    });
    outlived();
    return 0;
}
