/* The conformance suite's driver for C++: README.md says what it does. */
#include <tine.hpp>

#include <dlfcn.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

namespace {

using std::string;
using bytes = std::vector<unsigned char>;

[[noreturn]] void confused(const string &what, const string &word)
{
    std::cerr << "conformance driver: " << what << ": " << word << '\n';
    std::exit(2);
}

std::int64_t number(const string &text)
{
    char *end;
    std::int64_t value = std::strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end)
        confused("no number", text);
    return value;
}

/* ---- Results ---- */

string show(const void *data, std::size_t size)
{
    auto *at = static_cast<const unsigned char *>(data);
    std::uint64_t hash = 0xcbf29ce484222325;
    bool text = size <= 64;
    for (std::size_t i = 0; i < size; i++) {
        hash = (hash ^ at[i]) * 0x100000001b3;
        text = text && at[i] >= 0x20 && at[i] <= 0x7e;
    }
    if (size == 0)
        return "none";
    if (text)
        return "text:" + string(at, at + size);
    char line[64];
    std::snprintf(line, sizeof line, "bytes:%zu:%016" PRIx64, size, hash);
    return line;
}

template <class T>
string code(const tine::expected<T> &what)
{
    return what ? "OK" : what.error().name();
}

/* For what says no more than that it is not possible now. */
string now_or(bool done, std::chrono::nanoseconds timeout)
{
    return done ? "OK" : timeout.count() == 0 ? "EAGAIN" : "ETIMEDOUT";
}

/* ---- One case ---- */

/* Whatever a name stands for: it, and its address where workers may have that. */
struct thing {
    std::shared_ptr<void> object;
    void *address = nullptr;
};

class suite {
public:
    suite(int start, const char *library, const char *worker) : start_(start), library_(library), worker_(worker)
    {
        add_pools();
        add_locks();
        add_signals();
        add_messages();
    }

    void end_case()
    {
        things_.clear();
        pool_.reset();
    }

    string perform(const string &operation, const string &arguments)
    {
        std::istringstream words(arguments);
        words_.clear();
        for (string word; words >> word;)
            words_.push_back(word);
        auto found = operations_.find(operation);
        if (found == operations_.end())
            confused("no such operation", operation);
        try {
            return found->second();
        } catch (const tine::error &wrong) {
            return wrong.name();
        } catch (const std::bad_alloc &) {
            return "ENOMEM";
        }
    }

private:
    /* ---- Words ---- */

    const string &argument(std::size_t at)
    {
        if (at >= words_.size())
            confused("an argument is missing", std::to_string(at));
        return words_[at];
    }

    std::optional<string> setting(const string &name)
    {
        for (const string &word : words_)
            if (word.rfind(name + "=", 0) == 0)
                return word.substr(name.size() + 1);
        return std::nullopt;
    }

    std::int64_t number_setting(const string &name, std::int64_t otherwise = 0)
    {
        auto text = setting(name);
        return text ? number(*text) : otherwise;
    }

    std::int64_t ns_setting(const string &name)
    {
        return tine::ns(std::chrono::milliseconds(number_setting(name)));
    }

    std::chrono::nanoseconds timeout()
    {
        auto text = setting("timeout_ms");
        return text ? std::chrono::milliseconds(number(*text)) : tine::forever;
    }

    bool shows(const string &what)
    {
        for (const string &word : words_)
            if (word == "show=" + what)
                return true;
        return false;
    }

    thing &named(const string &name)
    {
        auto found = things_.find(name);
        if (found == things_.end())
            confused("nothing has the name", name);
        return found->second;
    }

    template <class T>
    T &object(std::size_t at = 0)
    {
        return *static_cast<T *>(named(argument(at)).object.get());
    }

    template <class T>
    bytes list(const string &items)
    {
        bytes all;
        std::istringstream in(items);
        for (string item; std::getline(in, item, ',');) {
            T value = item[0] == '@' ? T(reinterpret_cast<std::intptr_t>(named(item.substr(1)).address)) : T(number(item));
            auto *at = reinterpret_cast<unsigned char *>(&value);
            all.insert(all.end(), at, at + sizeof value);
        }
        return all;
    }

    bytes parse(const string &word)
    {
        auto rest = word.substr(std::min(word.size(), word.find(':') + 1));
        if (word == "none")
            return {};
        if (word.rfind("text:", 0) == 0)
            return bytes(rest.begin(), rest.end());
        if (word.rfind("bytes:", 0) == 0) {
            bytes all(std::size_t(number(rest)));
            for (std::size_t i = 0; i < all.size(); i++)
                all[i] = static_cast<unsigned char>(i + i / 251);
            return all;
        }
        if (word.rfind("ints:", 0) == 0)
            return list<std::int32_t>(rest);
        if (word.rfind("words:", 0) == 0)
            return list<std::int64_t>(rest);
        confused("no bytes", word);
    }

    /* ---- Making things ---- */

    template <class T, class... A>
    string make(A &&...arguments)
    {
        auto owner = std::make_shared<tine::heap_ptr<T>>(pool_->make<T>(std::forward<A>(arguments)...));
        void *address = owner->get();
        things_[argument(0)] = {std::shared_ptr<void>(owner, address), address};
        return "OK";
    }

    static string held(bool whole) { return whole ? "OK" : "EOWNERDEAD"; }

    /* The two kinds of mutex, by what the case has made. */
    template <class F>
    string with_mutex(F call)
    {
        return process_owned_ ? call(object<tine::process_mutex>()) : call(object<tine::mutex>());
    }

    /* ---- Pools ---- */

    string pool_create()
    {
        tine::pool_options options;
        options.workers = std::size_t(number_setting("workers"));
        options.window_tasks = std::size_t(number_setting("window_tasks"));
        options.window_bytes = std::size_t(number_setting("window_bytes"));
        options.heap_bytes = std::size_t(number_setting("heap_bytes"));
        options.grace_ns = ns_setting("grace_ms");
        options.deadline_ns = ns_setting("deadline_ms");
        options.start = start_;
        options.worker_path = worker_;
        options.preload = start_ == TINE_START_FORK ? nullptr : library_;
        pool_ = std::make_unique<tine::pool>(options);
        return "OK";
    }

    string pool_submit()
    {
        tine::submit_options options;
        options.deadline_ns = ns_setting("deadline_ms");
        options.queue_deadline_ns = ns_setting("queue_deadline_ms");
        options.timeout_ns = ns_setting("timeout_ms");
        options.retries = std::uint32_t(number_setting("retries"));
        options.flags = number_setting("idempotent") ? TINE_IDEMPOTENT : 0;
        auto task = pool_->submit(std::nothrow, options, tine::named(argument(1)), parse(argument(2)));
        if (task)
            things_[argument(0)] = {std::make_shared<tine::future<tine::result>>(std::move(*task)), nullptr};
        return code(task);
    }

    string pool_wait()
    {
        static const char *const deliveries[] = {"ran", "not_started", "maybe_ran"};
        auto got = object<tine::future<tine::result>>().get(std::nothrow, timeout());
        if (got)
            return std::to_string(got->status()) + " " + show(got->data(), got->size()) +
                   (shows("deaths") ? " deaths " + std::to_string(got->deaths()) : "");
        const tine::failure &why = got.error();
        if (!why.of_task)
            return why.name();
        string line = string(why.name()) + " " + deliveries[why.delivery];
        if (why.death)
            line += why.death->signal ? " signal " + std::to_string(why.death->signal) : " exit " + std::to_string(why.death->code);
        if (shows("message"))
            line += " " + why.message;
        if (shows("deaths"))
            line += " deaths " + std::to_string(why.deaths);
        return line;
    }

    string pool_map()
    {
        std::vector<std::int32_t> in(std::size_t(number(argument(2)))), out(in.size());
        std::iota(in.begin(), in.end(), std::int32_t(number(argument(1))));
        bytes context = parse(setting("context").value_or("none"));
        tine::map_options options;
        options.context = context.data();
        options.context_length = context.size();
        options.chunk = std::size_t(number_setting("chunk"));
        options.item_deadline_ns = ns_setting("item_deadline_ms");
        options.retries = std::uint32_t(number_setting("retries"));
        options.flags = number_setting("idempotent") ? TINE_IDEMPOTENT : 0;
        auto done = pool_->map_into(std::nothrow, options, in, out, tine::named(argument(0)));
        string line = code(done) + " sum " + std::to_string(std::accumulate(out.begin(), out.end(), std::int64_t(0)));
        if (!done && done.error().items)
            for (const tine::item_failure &each : *done.error().items)
                line += " " + std::to_string(each.item) + ":" + each.why.name() + (shows("message") ? ":" + each.why.message : "");
        return line;
    }

    /* ---- Memory and queues ---- */

    string heap_alloc()
    {
        std::size_t size = std::size_t(number(argument(1)));
        void *block = pool_->heap().allocate(size);
        std::memset(block, 0, size);
        things_[argument(0)] = {nullptr, block};
        return "OK";
    }

    string heap_fill()
    {
        bytes what = parse(argument(1));
        std::memcpy(named(argument(0)).address, what.data(), what.size());
        return "OK";
    }

    string queue_create()
    {
        tine::queue_options options;
        options.capacity_messages = std::size_t(number_setting("messages"));
        options.capacity_bytes = std::size_t(number_setting("bytes"));
        auto made = std::make_shared<tine::queue<bytes>>(*pool_, options);
        things_[argument(0)] = {made, made->native_handle()};
        return "OK";
    }

    string queue_get()
    {
        // Without a capacity as C++ programs do, which need none.
        auto &from = object<tine::queue<bytes>>();
        if (!setting("capacity")) {
            auto got = from.get(std::nothrow, timeout());
            return got ? show(got->data(), got->size()) : got.error().name();
        }
        bytes buffer(std::size_t(number_setting("capacity")));
        auto length = from.get_into(std::nothrow, buffer.data(), buffer.size(), timeout());
        return length ? show(buffer.data(), *length) : length.error().name();
    }

    string channel_create()
    {
        auto [here, there] = tine::channel::create();
        things_[argument(0)] = {std::make_shared<tine::channel>(std::move(here))};
        things_[argument(1)] = {std::make_shared<tine::channel>(std::move(there))};
        return "OK";
    }

    string channel_receive()
    {
        auto got = object<tine::channel>().receive<bytes>(std::nothrow, timeout());
        return got ? show(got->data(), got->size()) : got.error().name();
    }

    string once_call()
    {
        bool ran = false;
        tine::call_once(object<tine::once_flag>(), [&] { ran = true; });
        return ran ? "ran" : "done";
    }

    /* ---- All operations ---- */

    void add_pools()
    {
        using task = tine::future<tine::result>;
        auto &all = operations_;
        all["pool.create"] = [this] { return pool_create(); };
        all["pool.shutdown"] = [this] { return code(pool_->shutdown(std::nothrow, timeout())); };
        all["pool.submit"] = [this] { return pool_submit(); };
        all["pool.wait"] = [this] { return pool_wait(); };
        all["pool.cancel"] = [this] { return code(object<task>().cancel(std::nothrow)); };
        all["pool.map"] = [this] { return pool_map(); };

        all["heap.alloc"] = [this] { return heap_alloc(); };
        all["heap.free"] = [this] { return pool_->heap().deallocate(named(argument(0)).address), "OK"; };
        all["heap.fill"] = [this] { return heap_fill(); };
        all["heap.show"] = [this] { return show(named(argument(0)).address, std::size_t(number(argument(1)))); };
        all["heap.used"] = [this] { return std::to_string(pool_->heap().stats().used_blocks); };
    }

    void add_locks()
    {
        auto &all = operations_;
        all["mutex.create"] = [this] {
            process_owned_ = number_setting("process_owned") != 0;
            return process_owned_ ? make<tine::process_mutex>() : make<tine::mutex>();
        };
        all["mutex.lock"] = [this] { return with_mutex([this](auto &m) { return held(m.lock_even_if_owner_died(timeout())); }); };
        all["mutex.unlock"] = [this] { return with_mutex([](auto &m) { return m.unlock(), "OK"; }); };
        all["mutex.repair"] = [this] { return with_mutex([](auto &m) { return m.repair(), "OK"; }); };
        all["rwlock.create"] = [this] { return make<tine::shared_mutex>(); };
        all["rwlock.read_lock"] = [this] { return held(object<tine::shared_mutex>().lock_shared_even_if_owner_died(timeout())); };
        all["rwlock.write_lock"] = [this] { return held(object<tine::shared_mutex>().lock_even_if_owner_died(timeout())); };
        all["rwlock.unlock"] = [this] { return object<tine::shared_mutex>().unlock(), "OK"; };
        all["rwlock.repair"] = [this] { return object<tine::shared_mutex>().repair(), "OK"; };
        all["once.create"] = [this] { return make<tine::once_flag>(); };
        all["once.call"] = [this] { return once_call(); };
    }

    void add_signals()
    {
        using semaphore = tine::counting_semaphore<>;
        using two_units = tine::counting_semaphore<2>;
        auto &all = operations_;
        all["semaphore.create"] = [this] {
            if (number_setting("max", 2) != 2)
                confused("this driver has semaphores of 2 units", argument(0));
            return setting("max") ? make<two_units>(number(argument(1))) : make<semaphore>(number(argument(1)));
        };
        all["semaphore.acquire"] = [this] {
            auto &from = object<two_units>();
            if (timeout() == tine::forever)
                return from.acquire(), string("OK");
            return now_or(from.try_acquire_for(timeout()), timeout());
        };
        all["semaphore.release"] = [this] { return object<two_units>().release(number(argument(1))), "OK"; };
        all["semaphore.value"] = [this] { return std::to_string(object<two_units>().value()); };

        all["event.create"] = [this] { return make<tine::event>(number_setting("auto_reset") ? std::uint32_t(TINE_AUTO_RESET) : 0u); };
        all["event.wait"] = [this] {
            auto &what = object<tine::event>();
            if (timeout() == tine::forever)
                return what.wait(), string("OK");
            return now_or(what.wait_for(timeout()), timeout());
        };
        all["event.set"] = [this] { return object<tine::event>().set(), "OK"; };
        all["event.clear"] = [this] { return object<tine::event>().clear(), "OK"; };
        all["event.is_set"] = [this] { return object<tine::event>().is_set() ? "yes" : "no"; };

        all["barrier.create"] = [this] { return make<tine::barrier>(number(argument(1))); };
        all["barrier.wait"] = [this] {
            auto &at = object<tine::barrier>();
            if (timeout() == tine::forever)
                return at.arrive_and_wait(), string("OK");
            return now_or(at.arrive_and_wait_for(timeout()), timeout());
        };
        all["barrier.reset"] = [this] { return object<tine::barrier>().reset(), "OK"; };
        all["barrier.abort"] = [this] { return object<tine::barrier>().abort(), "OK"; };

        all["condition.create"] = [this] { return make<tine::condition_variable>(); };
        all["condition.wait"] = [this] { return condition_wait(); };
    }

    void add_messages()
    {
        auto &all = operations_;
        all["queue.create"] = [this] { return queue_create(); };
        all["queue.put"] = [this] { return code(object<tine::queue<bytes>>().put(std::nothrow, parse(argument(1)), timeout())); };
        all["queue.get"] = [this] { return queue_get(); };
        all["queue.close"] = [this] { return object<tine::queue<bytes>>().close(), "OK"; };
        all["queue.task_done"] = [this] { return object<tine::queue<bytes>>().task_done(), "OK"; };
        all["queue.join"] = [this] { return code(object<tine::queue<bytes>>().join(std::nothrow, timeout())); };
        all["queue.count"] = [this] { return std::to_string(object<tine::queue<bytes>>().size()); };
        all["channel.create"] = [this] { return channel_create(); };
        all["channel.send"] = [this] { return code(object<tine::channel>().send(std::nothrow, parse(argument(1)), timeout())); };
        all["channel.receive"] = [this] { return channel_receive(); };
        all["channel.close"] = [this] { return object<tine::channel>().close(), "OK"; };
    }

    string condition_wait()
    {
        auto &mutex = object<tine::mutex>(1);
        bool held = mutex.owner().pid == getpid();
        std::unique_lock<tine::mutex> lock = held ? std::unique_lock<tine::mutex>(mutex, std::adopt_lock)
                                                   : std::unique_lock<tine::mutex>(mutex, std::defer_lock);
        struct keeping { // the table unlocks it
            std::unique_lock<tine::mutex> &lock;
            ~keeping() { lock.release(); }
        } keep{lock};
        auto &what = object<tine::condition_variable>();
        if (timeout() == tine::forever)
            return what.wait(lock), "OK";
        return now_or(what.wait_for(lock, timeout()) == std::cv_status::no_timeout, timeout());
    }

    const int start_;
    const char *const library_, *const worker_;
    bool process_owned_ = false;
    std::vector<string> words_;
    std::unique_ptr<tine::pool> pool_;
    std::map<string, thing> things_;
    std::map<string, std::function<string()>> operations_;
};

} // namespace

int main(int argc, char **argv)
{
    static const std::map<string, int> starts = {
        {"forkserver", TINE_START_FORKSERVER}, {"spawn", TINE_START_SPAWN}, {"fork", TINE_START_FORK}};
    if (argc > 2 && argv[1] == string("fork") && !dlopen(argv[2], RTLD_NOW)) // its names, before tine::init
        confused("not loaded", dlerror());
    tine::init(argc, argv);
    if (argc < 3 || !starts.count(argv[1]))
        confused("usage", "driver START LIBRARY [WORKER] <cases.tsv");
    suite all(starts.at(argv[1]), argv[2], argv[3]);

    string current;
    for (string line; std::getline(std::cin, line);) {
        if (line.empty() || line[0] == '#')
            continue;
        std::size_t first = line.find('\t'), second = line.find('\t', first + 1), last = line.rfind('\t');
        if (second == string::npos || last <= second)
            confused("no four columns", line);
        if (line.substr(0, first) != current)
            all.end_case();
        current = line.substr(0, first);
        string result = all.perform(line.substr(first + 1, second - first - 1), line.substr(second + 1, last - second - 1));
        std::cout << line.substr(0, last) << '\t' << result << std::endl;
    }
    all.end_case();
    return 0;
}
