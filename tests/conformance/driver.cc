/* The conformance suite's driver for C++: README.md says what it does. */
#include "table.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <numeric>

namespace {

using namespace conformance;

/* What a task's callback has been called with. */
struct callback {
    std::mutex mutex;
    std::condition_variable called;
    unsigned calls = 0;
    tine::expected<string> end{string()};
    tine_id id = 0;
};

class suite : table {
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
        for (auto &[task, what] : callbacks_)
            if (what->calls != 1)
                confused(what->calls ? "told more than once" : "never told", task);
        callbacks_.clear();
    }

    string perform(const string &operation, const string &arguments)
    {
        read(arguments);
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
        if (number_setting("callback"))
            return submit_then(options);
        auto task = pool_->submit(std::nothrow, options, tine::named(argument(1)), parse(argument(2)));
        if (task)
            things_[argument(0)] = {std::make_shared<tine::future<tine::result>>(std::move(*task)), nullptr};
        return code(task);
    }

    string submit_then(const tine::submit_options &options)
    {
        auto made = std::make_shared<callback>();
        auto settled = [made](tine::expected<string> end) {
            std::lock_guard<std::mutex> lock(made->mutex);
            made->end = std::move(end);
            made->calls++;
            made->called.notify_all();
        };
        auto task = pool_->submit_then(std::nothrow, options, settled, tine::named(argument(1)), parse(argument(2)));
        if (task)
            made->id = *task, callbacks_[argument(0)] = made;
        return code(task);
    }

    /* A success is told without its status and its deaths. */
    string pool_told()
    {
        auto found = callbacks_.find(argument(0));
        if (found == callbacks_.end())
            confused("no callback", argument(0));
        callback &what = *found->second;
        std::unique_lock<std::mutex> lock(what.mutex);
        auto called = [&] { return what.calls > 0; };
        if (timeout() == tine::forever)
            what.called.wait(lock, called);
        else if (!what.called.wait_for(lock, timeout(), called))
            return now_or(false, timeout());
        return what.end ? "0 " + show(what.end->data(), what.end->size()) : told(what.end.error());
    }

    string pool_cancel()
    {
        auto found = callbacks_.find(argument(0));
        if (found == callbacks_.end())
            return code(object<tine::future<tine::result>>().cancel(std::nothrow));
        int rc = tine_cancel(pool_->native_handle(), found->second->id);
        return rc ? tine_errname(rc) : "OK";
    }

    string pool_wait() { return told(object<tine::future<tine::result>>().get(std::nothrow, timeout())); }

    string told(const tine::expected<tine::result> &got)
    {
        return got ? std::to_string(got->status()) + " " + show(got->data(), got->size()) +
                         (shows("deaths") ? " deaths " + std::to_string(got->deaths()) : "")
                   : told(got.error());
    }

    string told(const tine::failure &why)
    {
        static const char *const deliveries[] = {"ran", "not_started", "maybe_ran"};
        if (!why.of_task)
            return why.name();
        string line = string(why.name()) + " " + deliveries[why.delivery];
        if (why.death)
            line += ending(why.death->signal, why.death->code);
        if (shows("message"))
            line += " " + why.message;
        if (shows("deaths"))
            line += " deaths " + std::to_string(why.deaths);
        return line;
    }

    static string ending(int signal, int code)
    {
        return signal ? " signal " + std::to_string(signal) : " exit " + std::to_string(code);
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

    /* ---- Streams, processes and segments ---- */

    using stream = tine::stream<tine::result, bytes>;

    template <class T>
    string keep(tine::expected<T> made)
    {
        if (!made)
            return made.error().name();
        things_[argument(0)] = {std::make_shared<T>(std::move(*made)), nullptr};
        return "OK";
    }

    string stream_create()
    {
        tine::stream_options options;
        options.window_tasks = std::size_t(number_setting("window_tasks"));
        options.item_deadline_ns = ns_setting("item_deadline_ms");
        options.retries = std::uint32_t(number_setting("retries"));
        options.flags = number_setting("idempotent") ? TINE_IDEMPOTENT : 0;
        return keep(pool_->stream<bytes>(std::nothrow, options, tine::named(argument(1))));
    }

    string stream_next()
    {
        auto got = object<stream>().next(std::nothrow, timeout());
        if (!got)
            return got.error().name();
        return *got ? std::to_string((*got)->number) + ": " + told(**got) : "TINE_EEMPTY";
    }

    string process_start()
    {
        tine::process_options options;
        tine_segment *segment = nullptr;
        options.start = start_;
        options.worker_path = worker_;
        options.preload = start_ == TINE_START_FORK ? nullptr : library_;
        options.deadline_ns = ns_setting("deadline_ms");
        options.grace_ns = ns_setting("grace_ms");
        if (auto end = setting("channel"))
            options.give(*static_cast<tine::channel *>(named(*end).object.get()));
        if (auto given = setting("segment"))
            segment = static_cast<tine::segment *>(named(*given).object.get())->native_handle();
        options.segments = &segment;
        options.segment_count = segment != nullptr;
        return keep(tine::start(std::nothrow, options, tine::named(argument(1)), parse(argument(2))));
    }

    string process_wait()
    {
        auto &what = object<tine::process<>>();
        auto got = what.get(std::nothrow, timeout());
        if (!got && !got.error().of_task)
            return got.error().name();
        tine::exit_status end = what.exit();
        string line = got ? std::to_string(end.status) + " " + show(got->data(), got->size()) : got.error().name();
        return line + ending(end.signal, end.code) + (shows("message") ? " " + end.message : "");
    }

    string segment_create()
    {
        string made = keep(tine::segment::create(std::nothrow, std::size_t(number(argument(1)))));
        return made == "OK" ? located() : made;
    }

    string segment_attach()
    {
        tine::segment_options anywhere;
        anywhere.flags = TINE_SEGMENT_ANY_ADDRESS;
        string made = keep(tine::segment::attach(std::nothrow, object<tine::segment>(1).fd(), anywhere));
        return made == "OK" ? located() : made;
    }

    string located()
    {
        named(argument(0)).address = object<tine::segment>().data();
        return "OK";
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

    string channel_commit()
    {
        bytes message = parse(argument(1));
        auto room = object<tine::channel>().reserve(std::nothrow, message.size(), timeout());
        if (!room)
            return room.error().name();
        std::memcpy(room->data(), message.data(), message.size());
        return code(room->commit(std::nothrow, message.size(), timeout()));
    }

    string channel_peek()
    {
        auto got = object<tine::channel>().peek(std::nothrow, timeout());
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
        auto &all = operations_;
        all["pool.create"] = [this] { return pool_create(); };
        all["pool.shutdown"] = [this] { return code(pool_->shutdown(std::nothrow, timeout())); };
        all["pool.submit"] = [this] { return pool_submit(); };
        all["pool.wait"] = [this] { return pool_wait(); };
        all["pool.told"] = [this] { return pool_told(); };
        all["pool.cancel"] = [this] { return pool_cancel(); };
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
        all["stream.create"] = [this] { return stream_create(); };
        all["stream.put"] = [this] { return code(object<stream>().put(std::nothrow, parse(argument(1)), timeout())); };
        all["stream.end"] = [this] { return object<stream>().end(), "OK"; };
        all["stream.next"] = [this] { return stream_next(); };
        all["process.start"] = [this] { return process_start(); };
        all["process.wait"] = [this] { return process_wait(); };
        all["process.kill"] = [this] { return object<tine::process<>>().kill(int(number(argument(1)))), "OK"; };
        all["process.alive"] = [this] { return object<tine::process<>>().alive() ? "yes" : "no"; };
        all["process.close"] = [this] { return named(argument(0)).object.reset(), "OK"; };
        all["segment.create"] = [this] { return segment_create(); };
        all["segment.attach"] = [this] { return segment_attach(); };
        all["segment.size"] = [this] { return std::to_string(object<tine::segment>().size()); };
        all["segment.fill"] = all["heap.fill"];
        all["segment.show"] = all["heap.show"];
        all["segment.close"] = [this] { return object<tine::segment>().close(), "OK"; };
        all["pool.share"] = [this] { return code(pool_->share(std::nothrow, object<tine::segment>(), timeout())); };
        all["channel.create"] = [this] { return channel_create(); };
        all["channel.send"] = [this] { return code(object<tine::channel>().send(std::nothrow, parse(argument(1)), timeout())); };
        all["channel.receive"] = [this] { return channel_receive(); };
        all["channel.commit"] = [this] { return channel_commit(); };
        all["channel.peek"] = [this] { return channel_peek(); };
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
    std::unique_ptr<tine::pool> pool_;
    std::map<string, std::shared_ptr<callback>> callbacks_;
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
