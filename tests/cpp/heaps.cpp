// Allocators of heaps that are closed, opened again, and others at their place: what outlives a heap neither harms nor is
// harmed, and the next heap is another one.
#include "check.hpp"

#include <cstring>
#include <malloc.h>
#include <memory>
#include <optional>
#include <unistd.h>
#include <vector>

struct own_heap {
    tine_segment *segment = nullptr;
    tine_heap *handle = nullptr;

    own_heap()
    {
        CHECK_RC(tine_segment_create(4 << 20, nullptr, &segment), 0);
        CHECK_RC(tine_heap_create(segment, nullptr, &handle), 0);
    }
    own_heap(const own_heap &) = delete;
    own_heap &operator=(const own_heap &) = delete;

    void close()
    {
        CHECK_RC(tine_heap_close(handle), 0);
        CHECK_RC(tine_segment_close(segment), 0);
    }
};

// The memory of a handle that was closed is the program's again: whoever still reads it as one reads this.
static void reuse(std::size_t usable)
{
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 64; i++) {
        blocks.push_back(std::make_unique<char[]>(usable));
        int pid = getpid();
        for (std::size_t at = 0; at + sizeof pid <= usable; at += sizeof pid)
            std::memcpy(blocks.back().get() + at, &pid, sizeof pid);
    }
    static std::vector<std::vector<std::unique_ptr<char[]>>> kept;
    kept.push_back(std::move(blocks));
}

static void one_of_several_is_closed()
{
    own_heap first, third;
    tine::vector<int> numbers(tine::heap(first.handle).allocator());
    for (int round = 0; round < 10; round++) {
        own_heap second;
        std::size_t usable = malloc_usable_size(second.handle);
        {
            tine::vector<int> others(tine::heap(second.handle).allocator());
            others.push_back(1);
        }
        auto object = tine::heap(second.handle).make<int>(7);
        tine::allocator<int> late(tine::heap(second.handle).allocator());
        CHECK(late != numbers.get_allocator());
        second.close();
        reuse(usable);
        object.reset(); // its heap has gone, and its memory with it
        CHECK_THROWS((void)late.allocate(1), -EXDEV);
        CHECK(late != numbers.get_allocator());
        for (int i = 0; i < 1000; i++)
            numbers.push_back(i);
        tine::vector<int> more(tine::heap(third.handle).allocator());
        more.assign(100, round);
        CHECK(more.get_allocator() != numbers.get_allocator());
    }
    CHECK_EQ(numbers.size(), 10000);
    numbers = tine::vector<int>(tine::heap(first.handle).allocator());
    third.close();
    first.close();
}

// Attached twice: what was allocated by the one handle is found by the other when that is closed.
static void attached_again()
{
    own_heap heap;
    tine_heap *again = nullptr;
    CHECK_RC(tine_heap_attach(heap.segment, nullptr, &again), 0);
    tine::vector<int> numbers(tine::heap(heap.handle).allocator());
    numbers.push_back(1);
    tine::vector<int> others(tine::heap(again).allocator());
    CHECK(others.get_allocator() == numbers.get_allocator());
    std::size_t usable = malloc_usable_size(heap.handle);
    CHECK_RC(tine_heap_close(heap.handle), 0);
    reuse(usable);
    for (int i = 0; i < 1000; i++)
        numbers.push_back(i), others.push_back(i);
    CHECK(tine_heap_find(numbers.data()) == again);
    numbers = tine::vector<int>(tine::heap(again).allocator());
    others = tine::vector<int>(tine::heap(again).allocator());
    CHECK_RC(tine_heap_close(again), 0);
    CHECK(tine_heap_find(tine_segment_address(heap.segment)) == nullptr);
    // Closed, and opened again: the names in it are still there.
    CHECK_RC(tine_heap_attach(heap.segment, nullptr, &heap.handle), 0);
    tine::vector<int> later(tine::heap(heap.handle).allocator());
    later.push_back(1);
    later = tine::vector<int>(tine::heap(heap.handle).allocator());
    heap.close();
}

static void pools()
{
    tine::pool_options options;
    options.workers = 1;
    std::optional<tine::pool> first(std::in_place, options), second(std::in_place, options);
    auto *numbers = new tine::vector<int>(first->allocator());
    auto object = second->make<int>(3);
    tine::allocator<int> late(second->allocator());
    second.reset();
    object.reset();
    CHECK_THROWS((void)late.allocate(1), -EXDEV);
    numbers->assign(1000, 1);
    delete numbers;
    auto shared = first->make<tine::vector<int>>();
    shared->push_back(1);
    CHECK_EQ(first->submit([](tine::vector<int> *at) { at->push_back(2); return int(at->size()); }, shared.get()).get(hang), 2);
    CHECK(tine_heap_find(shared.get()) == first->heap().native_handle());
    int here = 0;
    CHECK(tine_heap_find(&here) == nullptr && tine_heap_find(nullptr) == nullptr);
}

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    one_of_several_is_closed();
    attached_again();
    pools();
}
