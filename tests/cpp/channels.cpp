// Channels between a host and its tasks and processes; segments, heaps in them; and single processes.
#include "check.hpp"

#include <cstring>
#include <dlfcn.h>
#include <optional>
#include <sys/socket.h>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

// The timeouts of the calls, while they are wanted; then a message that is too long is taken away, as another thread may do.
static std::vector<std::int64_t> *timeouts;

extern "C" int tine_channel_receive(tine_channel *channel, int64_t timeout_ns, void *buffer, size_t capacity, size_t *length)
{
    static auto real = reinterpret_cast<decltype(&tine_channel_receive)>(dlsym(RTLD_NEXT, "tine_channel_receive"));
    int rc = real(channel, timeout_ns, buffer, capacity, length);
    if (timeouts) {
        timeouts->push_back(timeout_ns);
        std::vector<char> away(10000);
        std::size_t gone;
        if (rc == -EMSGSIZE)
            CHECK_RC(real(channel, 0, away.data(), away.size(), &gone), 0);
    }
    return rc;
}

struct point {
    double x, y;
};

static void messages()
{
    auto [near, far] = tine::channel::create();
    CHECK(near && far && near.fd() > 2);
    near.send(point{1, 2});
    near.send("literal");
    near.send(std::vector<int>{1, 2, 3});
    near.send(std::string(300000, 'x'));
    CHECK(far.receive<point>().y == 2);
    CHECK(far.receive<std::string>() == "literal");
    CHECK((far.receive<std::vector<int>>() == std::vector<int>{1, 2, 3}));
    CHECK(far.receive<std::string>().size() == 300000);
    CHECK(!far.try_receive<int>());
    auto none = far.receive<int>(std::nothrow, std::chrono::milliseconds(5));
    CHECK(!none && none.error().code == -ETIMEDOUT);
    CHECK_THROWS((void)far.receive<int>(std::chrono::nanoseconds(0)), -EAGAIN);

    // What is no such value is an error, and what is too long stays.
    near.send(1L);
    near.send(short(1));
    CHECK_THROWS((void)far.receive<int>(), -EMSGSIZE);
    CHECK_EQ(far.receive<long>(), 1);
    CHECK_THROWS((void)far.receive<int>(), -EBADMSG);

    int pipe_ends[2];
    CHECK_EQ(pipe(pipe_ends), 0);
    far.send_fd(pipe_ends[1]);
    CHECK_THROWS((void)near.receive<int>(), -ENOMSG);
    int same = near.receive_fd();
    CHECK(write(same, "w", 1) == 1 && close(same) == 0);
    char byte;
    CHECK(read(pipe_ends[0], &byte, 1) == 1 && byte == 'w');
    close(pipe_ends[0]);
    close(pipe_ends[1]);

    tine::channel copy = tine::channel::attach(far.fd());
    far.close();
    CHECK(!far);
    near.send(7);
    CHECK_EQ(copy.receive<int>(), 7);
    while (near.try_send(std::string(60000, 'y'))) {
    }
    copy.close();
    CHECK_THROWS(near.send(8), -EPIPE);
    CHECK(!near.next<int>());
    CHECK_THROWS((void)tine::channel::attach(-1), -EBADF);
}

// A call that waits twice has one time for both.
static void one_time()
{
    auto [near, far] = tine::channel::create();
    std::vector<std::int64_t> seen;
    for (std::int64_t milliseconds : {20, 0, -1}) {
        near.send(std::string(5000, 'x'));
        seen.clear();
        timeouts = &seen;
        auto none = far.receive<std::string>(std::nothrow, std::chrono::milliseconds(milliseconds));
        timeouts = nullptr;
        CHECK(!none && none.error().code == (milliseconds > 0 ? -ETIMEDOUT : -EAGAIN));
        CHECK(seen.size() == 2 && (milliseconds > 0 ? seen[1] < seen[0] : seen[0] == 0 && seen[1] == 0));
    }
}

static void in_place()
{
    auto [near, far] = tine::channel::create();
    for (std::size_t size : {std::size_t(0), std::size_t(5), std::size_t(300000)}) {
        auto room = near.reserve(size + 1);
        CHECK(room.data() && room.size() == size + 1);
        CHECK_THROWS((void)near.reserve(1), -EBUSY);
        std::memset(room.data(), 'x', size);
        CHECK_THROWS(room.commit(size + 2), -EMSGSIZE); // and it is still reserved
        room.commit(size);
        CHECK_THROWS(room.commit(size), -EINVAL); // it is not this object's any more
        near.send(std::string(size, 'y'));
        auto first = far.peek(hang);
        CHECK(first.size() == size && std::string(static_cast<char *>(first.data()), size) == std::string(size, 'x'));
        CHECK_THROWS((void)far.peek(), -EBUSY);
        CHECK(far.receive<std::string>() == std::string(size, 'y')); // meanwhile
        auto moved = std::move(first);
        moved.release();
        moved.release();
    }
    {
        auto given_up = near.reserve(300000);
    }
    auto again = near.reserve(300000); // and the one before it is not sent
    auto none = far.peek(std::nothrow, std::chrono::milliseconds(5));
    CHECK(!none && none.error().code == -ETIMEDOUT);
    CHECK_THROWS((void)far.peek(std::chrono::nanoseconds(0)), -EAGAIN);
    far.close();
    CHECK_THROWS(again.commit(1), -EPIPE);
}

static int adds_up(tine::task &task)
{
    tine::channel_ref end = task.channel();
    int sum = 0;
    while (auto number = end.next<int>())
        if (*number == 0)
            return end.send(sum), sum;
        else
            sum += *number;
    return -1;
}

static void with_tasks(tine::pool &pool)
{
    auto [here, there] = tine::channel::create();
    tine::submit_options options;
    auto sum = pool.submit(options.give(there), adds_up);
    CHECK(!there);
    for (int number : {1, 2, 3, 0})
        here.send(number);
    CHECK_EQ(here.receive<int>(), 6);
    CHECK_EQ(sum.get(), 6);
    CHECK_THROWS((void)here.receive<int>(), -EPIPE);
    CHECK(!pool.submit([](tine::task &task) { return bool(task.channel()); }).get());

    // What is not submitted keeps nothing.
    auto [mine, kept] = tine::channel::create();
    tine::submit_options bad;
    bad.flags = 1u << 30;
    CHECK(!pool.submit(std::nothrow, bad.give(kept), adds_up));
    CHECK(bool(kept));
    kept.send(1);
    CHECK_EQ(mine.receive<int>(), 1);
}

// An end that was offered by give() and is no longer there, told by `take`, is refused, whoever is to get it.
template <class Take>
static void gone_since(tine::pool &pool, Take take)
{
    auto ends = tine::channel::create();
    std::optional<tine::channel> there(std::move(ends.second));
    tine::submit_options task;
    tine::process_options process;
    task.give(*there);
    process.give(*there);
    auto kept = take(there);
    auto submitted = pool.submit(std::nothrow, task, adds_up);
    CHECK(!submitted && submitted.error().code == -EBADF && submitted.error().message.find("give()") != std::string::npos);
    auto started = tine::start(std::nothrow, process, adds_up);
    CHECK(!started && started.error().code == -EBADF && started.error().message.find("give()") != std::string::npos);
    if constexpr (std::is_same_v<decltype(kept), tine::channel>) {
        kept.send(1);
        CHECK_EQ(ends.first.receive<int>(), 1);
        auto sum = pool.submit(task.give(kept), adds_up);
        ends.first.send(5);
        ends.first.send(0);
        CHECK_EQ(sum.get(), 5);
        CHECK(!kept);
    }
}

static void offers(tine::pool &pool)
{
    using end = std::optional<tine::channel>;
    gone_since(pool, [&](end &it) { return pool.submit(tine::submit_options().give(*it), adds_up); });
    gone_since(pool, [&](end &it) { return tine::start(tine::process_options().give(*it), adds_up); });
    gone_since(pool, [](end &it) { return it->close(), 0; });
    gone_since(pool, [](end &it) { return it.reset(), 0; });
    gone_since(pool, [](end &it) { return std::move(*it); });
    gone_since(pool, [](end &it) { return std::exchange(*it, tine::channel::create().first); });
    gone_since(pool, [](end &it) { return *it = tine::channel(), 0; });

    // The same options twice, and an end that has never been there.
    auto ends = tine::channel::create();
    tine::submit_options options;
    auto sum = pool.submit(options.give(ends.second), adds_up);
    CHECK_THROWS((void)pool.submit(options, adds_up), -EBADF);
    CHECK_THROWS((void)pool.submit_then(options, [](tine::expected<int>) {}, adds_up), -EBADF);
    tine::channel none;
    CHECK_THROWS((void)pool.submit(options.give(none), adds_up), -EBADF);
    ends.first.send(0);
    CHECK_EQ(sum.get(), 0);
}

static void segments(tine::pool &pool)
{
    tine::segment segment(1 << 20);
    CHECK(segment.size() == 1 << 20 && segment.fd() > 2);
    CHECK(segment.at<point>(1 << 20) == nullptr && segment.at<point>(4) == nullptr && segment.at<point>((1 << 20) - 16) != nullptr);
    pool.share(segment);
    CHECK_THROWS(pool.share(segment), -EALREADY);
    segment.at<point>()->x = 20;
    CHECK_EQ(pool.submit([](point *at) { return int(at->x += 1); }, segment.at<point>()).get(), 21);
    CHECK_EQ(int(segment.at<point>()->x), 21);
#ifdef TINE_HAS_SPAN
    CHECK_EQ(segment.span<int>().size(), (1 << 20) / sizeof(int));
    CHECK(segment.span()[0] == static_cast<std::byte *>(segment.data())[0]);
#endif
    tine::segment moved(std::move(segment));
    CHECK(segment.data() == nullptr && moved.size() == 1 << 20);
    CHECK_THROWS(tine::segment(std::size_t(0)), -EINVAL);
    CHECK(!tine::segment::attach(std::nothrow, 0));

    int sockets[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), 0);
    CHECK_THROWS((void)tine::segment::receive(sockets[1]), -EAGAIN);
    moved.send(sockets[0]);
    tine::segment_options anywhere;
    anywhere.flags = TINE_SEGMENT_ANY_ADDRESS;
    auto again = tine::segment::receive(sockets[1], anywhere);
    CHECK(again.data() != moved.data() && int(again.at<point>()->x) == 21);
    close(sockets[0]);
    close(sockets[1]);
}

static void heaps()
{
    tine::segment segment(4 << 20);
    auto heap = tine::segment_heap::create(segment);
    tine::vector<int> numbers(heap.allocator());
    for (int i = 0; i < 1000; i++)
        numbers.push_back(i);
    CHECK(heap.contains(numbers.data()));
    CHECK_THROWS(segment.close(), -EBUSY);
    {
        auto again = tine::segment_heap::attach(segment);
        CHECK(again.contains(numbers.data()));
    }
    auto moved = std::move(heap);
    CHECK(!heap.native_handle());
    CHECK_THROWS((void)heap.stats(), -EINVAL);
    numbers = tine::vector<int>(moved.allocator());
    moved.close();
    CHECK_THROWS((void)moved.stats(), -EINVAL);
    moved.close();
    segment.close();
    CHECK_THROWS((void)tine::segment_heap::attach(tine::segment(1 << 20)), -EINVAL);
}

static void processes(int start)
{
    tine::process_options options;
    options.start = start;
    auto child = tine::start(options, [](std::string text, int times) { return text + std::to_string(times) + std::to_string(getpid()); },
                             "a", 3);
    std::string pid = std::to_string(child.pid());
    CHECK(child.get() == "a3" + pid && child.get() == "a3" + pid);
    CHECK(child.wait() && !child.alive() && child.fd() > 2 && child.title() == "tine-process");
    CHECK(child.exit().code == 0 && child.exit().status == 0);
    CHECK_THROWS(child.kill(SIGTERM), -ESRCH);

    auto [here, there] = tine::channel::create();
    tine::process_options with_end;
    with_end.start = start;
    auto adder = tine::start(with_end.give(there), adds_up);
    CHECK(!there && !adder.wait(std::chrono::milliseconds(1)));
    here.send(30);
    here.send(12);
    here.send(0);
    CHECK_EQ(adder.get(), 42);
    CHECK(adder.exit().code == 0 && adder.exit().signal == 0);

    auto failing = tine::start(options, [](tine::task &task) { task.fail(-EDOM, "not today"); });
    auto why = failing.get(std::nothrow);
    CHECK(!why && why.error().code == -EDOM && why.error().message == "not today" && why.error().of_task);
    auto sleeper = tine::start(options, [] { pause(); });
    CHECK_THROWS(sleeper.get(std::chrono::milliseconds(1)), -ETIMEDOUT);
    sleeper.kill_tree(SIGKILL);
    try {
        sleeper.get();
        CHECK(false);
    } catch (const tine::worker_died &died) {
        CHECK_EQ(died.report().signal, SIGKILL);
    }
    CHECK_EQ(sleeper.exit().signal, SIGKILL);
    auto ended = tine::start(options, [] { pause(); });
    tine::process<void> elsewhere(std::move(ended)); // and killed with this object
    CHECK(ended.title().empty() && elsewhere.title() == "tine-process");
    CHECK_THROWS(ended.get(), -EINVAL);

    auto unknown = tine::start(std::nothrow, options, tine::named("no such function"), 1);
    CHECK(!unknown && unknown.error().code == TINE_ENAME);
    CHECK(tine::start(options, tine::named("says"), tine::bytes("abc", 3)).get() == "abc");
}

static std::string says(const std::string &what) { return what; }

int main(int argc, char **argv)
{
    tine::register_function<says>("says");
    tine::init(argc, argv);
    messages();
    one_time();
    in_place();
    heaps();
    with_all_starts(2, [](tine::pool &pool) {
        with_tasks(pool);
        offers(pool);
        segments(pool);
    });
    processes(TINE_START_FORKSERVER);
    processes(TINE_START_SPAWN);
    return 0;
}
