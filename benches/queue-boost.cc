// Boost.Interprocess' message_queue, for benches/queue.c: one-way|round-trip LENGTH COUNT, prints nanoseconds per message.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sched.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

using boost::interprocess::message_queue;

static void stay_on(int processor)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    sched_setaffinity(0, sizeof one, &one);
}

int main(int argc, char **argv)
{
    if (argc != 4) return 2;
    bool echo = std::string(argv[1]) == "round-trip";
    std::size_t length = std::strtoul(argv[2], nullptr, 10), got;
    long count = std::atol(argv[3]);
    std::unique_ptr<message_queue> ways[2];
    for (int way = 0; way < 2; way++) {
        std::string name = "tine-bench-" + std::to_string(getpid()) + "-" + std::to_string(way);
        ways[way].reset(new message_queue(boost::interprocess::create_only, name.c_str(), length > 65536 ? 4 : 256, length));
        message_queue::remove(name.c_str());
    }
    std::vector<char> bytes(length), buffer(length);
    unsigned priority;
    pid_t pid = fork();
    stay_on(pid ? 1 : 0);
    auto began = std::chrono::steady_clock::now();
    for (long i = 0; i < count; i++) {
        if (pid) ways[0]->send(bytes.data(), length, 0);
        if (!pid) ways[0]->receive(buffer.data(), length, got, priority);
        if (!pid && echo) ways[1]->send(bytes.data(), length, 0);
        if (pid && echo) ways[1]->receive(buffer.data(), length, got, priority);
    }
    if (!pid) _exit(0);
    waitpid(pid, nullptr, 0);
    std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
    std::printf("%f\n", took.count() / count);
}
