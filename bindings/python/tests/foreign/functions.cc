// C++ functions for the workers of a host in Python. They are called by name.
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <thread>
#include <tine.hpp>

namespace {

// Three times a 32-bit integer. One that can be divided by 10 is one too many.
int tripled(tine_task *task)
{
    std::size_t length = 0;
    const auto *in = static_cast<const std::int32_t *>(tine_input(task, &length));
    if (length != sizeof *in)
        return tine_fail(task, -22, "an input of %zu bytes", length);
    if (*in % 10 == 0)
        std::raise(SIGKILL);
    auto *out = static_cast<std::int32_t *>(tine_output(task, sizeof *in));
    *out = 3 * *in;
    return 0;
}

// The same of any integer, a millisecond later.
int tripled_slowly(tine_task *task)
{
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::int32_t in;
    std::memcpy(&in, tine_input(task, nullptr), sizeof in);
    *static_cast<std::int32_t *>(tine_output(task, sizeof in)) = 3 * in;
    return 0;
}

// The length of a short MessagePack string, as MessagePack.
int length_of(tine_task *task)
{
    std::size_t length = 0;
    const auto *in = static_cast<const unsigned char *>(tine_input(task, &length));
    if (length < 9 || std::memcmp(in, "\xc1TINE\1\0\0", 8) != 0)
        return tine_fail(task, -74, "length_of wants a payload of the kind msgpack");
    if ((in[8] & 0xe0) != 0xa0 || length != 9u + (in[8] & 0x1f))
        return tine_fail(task, -74, "length_of wants a string of less than 32 bytes");
    auto *out = static_cast<unsigned char *>(tine_output(task, 9));
    std::memcpy(out, "\xc1TINE\1\0\0", 8);
    out[8] = in[8] & 0x1f;
    return 0;
}

struct shared {
    tine_queue *queue;
    tine_mutex *mutex;
    double *array;
    std::uint64_t count;
};

// Adds numbers from the queue to the whole array, with the lock held, until the queue is closed.
int add_all(tine_task *task)
{
    std::size_t length = 0;
    const auto *in = static_cast<const shared *>(tine_input(task, &length));
    if (length != sizeof *in)
        return tine_fail(task, -22, "an input of %zu bytes", length);
    tine::queue_ref<double> queue(in->queue);
    while (auto number = queue.next()) {
        if (int rc = tine_mutex_lock(in->mutex, TINE_FOREVER))
            return rc;
        for (std::uint64_t i = 0; i < in->count; i++)
            in->array[i] += *number;
        if (int rc = tine_mutex_unlock(in->mutex))
            return rc;
    }
    return 0;
}

int die_holding(tine_task *task)
{
    tine_mutex *mutex;
    std::memcpy(&mutex, tine_input(task, nullptr), sizeof mutex);
    if (int rc = tine_mutex_lock(mutex, TINE_FOREVER))
        return rc;
    return std::raise(SIGKILL);
}

int never_return(tine_task *task)
{
    while (!tine_cancelled(task)) {
    }
    return 0;
}

// The numbers at an address become 1.5.
int fill(tine_task *task)
{
    std::uint64_t in[2];
    std::memcpy(in, tine_input(task, nullptr), sizeof in);
    for (std::uint64_t i = 0; i < in[1]; i++)
        reinterpret_cast<double *>(in[0])[i] = 1.5;
    return 0;
}

// What comes on the channel goes back in capital letters, until the other end is closed.
int shout_back(tine_task *task)
{
    tine::channel_ref end(tine_task_channel(task));
    while (auto text = end.next<std::string>()) {
        for (char &letter : *text)
            letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
        end.send(*text);
    }
    return 0;
}

[[gnu::constructor]] void on_load()
{
    tine_register("tripled", tripled);
    tine_register("tripled_slowly", tripled_slowly);
    tine_register("length_of", length_of);
    tine_register("add_all", add_all);
    tine_register("die_holding", die_holding);
    tine_register("never_return", never_return);
    tine_register("fill", fill);
    tine_register("shout_back", shout_back);
}

} // namespace
