/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: objects and containers in shared memory.
 *
 * A heap lies at the same address in every process that has it, so that containers with tine::allocator can be built by one
 * process and read, and changed, by another. They are as safe as any container between threads: who changes one that others
 * use needs a lock, and a process that dies in the middle of a change leaves it as it was at that moment.
 */
#ifndef TINE_MEMORY_HPP
#define TINE_MEMORY_HPP

#include "error.hpp"
#include "function.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TINE_NAMESPACE_BEGIN

template <class T>
class allocator;

namespace detail {

/*
 * What tells the users of a heap which it is, in every process: a block of it, and a number that stands there and nowhere
 * else. A later heap may lie at the same address.
 */
struct heap_name {
    std::uint64_t *block = nullptr;
    std::uint64_t number = 0;

    friend bool operator==(const heap_name &left, const heap_name &right) noexcept
    {
        return left.block == right.block && left.number == right.number;
    }
};

/*
 * The heap of this name; nullptr: this process does not have it, or no longer. An allocator that lies in shared memory can't
 * hold a handle, which is a process's own, and a handle that is kept may be of a heap that is closed: so only names are.
 */
inline tine_heap *find_heap(const heap_name &name)
{
    tine_heap *heap = tine_heap_find(name.block);
    bool is_it = heap && tine_heap_contains(heap, name.block, sizeof *name.block) == 1 && *name.block == name.number;
    return is_it ? heap : nullptr;
}

/* As good as unique, and never 0: a process, a time and a place, well mixed. */
inline std::uint64_t new_number()
{
    static std::atomic<std::uint64_t> count{0};
    std::uint64_t mixed = std::uint64_t(std::chrono::steady_clock::now().time_since_epoch().count()) ^
                          (std::uint64_t(getpid()) << 40) ^ (++count << 20);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return (mixed ^ (mixed >> 31)) | 1;
}

/* The name that a heap has in this process; others may have given it other ones. */
inline heap_name name_of(tine_heap *heap)
{
    auto *known = static_cast<std::uint64_t *>(tine_heap_tag(heap, nullptr));
    if (!known) {
        auto *fresh = static_cast<std::uint64_t *>(tine_heap_alloc(heap, sizeof(std::uint64_t)));
        if (!fresh)
            detail::raise(std::bad_alloc());
        *fresh = new_number();
        known = static_cast<std::uint64_t *>(tine_heap_tag(heap, fresh));
        if (known != fresh)
            tine_heap_free(heap, fresh);
    }
    return {known, *known};
}

} // namespace detail

/** Destroys an object that heap::make has made and gives its memory back; does nothing once the heap has ended. */
class heap_delete {
public:
    heap_delete() = default;
    explicit heap_delete(detail::heap_name name) noexcept : name_(name) {}

    template <class T>
    void operator()(T *object) const
    {
        tine_heap *heap = detail::find_heap(name_);
        if (!heap)
            return; // its memory has gone with the heap
        object->~T();
        tine_heap_free(heap, const_cast<std::remove_cv_t<T> *>(object));
    }

private:
    detail::heap_name name_;
};

/** Owns an object in a heap. Its address, .get(), may go to workers. */
template <class T>
using heap_ptr = std::unique_ptr<T, heap_delete>;

/** A heap, as tine.h's tine_heap: a pool's (pool.heap()), or one of its own. It is a name, not an owner, and may be copied. */
class heap {
public:
    explicit heap(tine_heap *handle) noexcept : handle_(handle) {}

    /** A block; its content is anything. Throws std::bad_alloc: no memory, or the heap's limit is reached. */
    void *allocate(std::size_t bytes, std::size_t alignment = 16) const
    {
        void *block = alignment <= 16 ? tine_heap_alloc(handle_, bytes) : tine_heap_alloc_aligned(handle_, alignment, bytes);
        if (!block)
            detail::raise(std::bad_alloc());
        return block;
    }

    /** Gives a block back. Throws -EINVAL: it is none, or was freed already. */
    void deallocate(void *block) const { detail::check(tine_heap_free(handle_, block), "tine::heap::deallocate"); }

    /**
     * An object in the heap. One that takes an allocator, such as tine::vector, is given this heap's.
     *
     * Throws std::bad_alloc, and what its constructor throws. Any process of the heap may use the object by its address;
     * the one that made it destroys it.
     */
    template <class T, class... A>
    heap_ptr<T> make(A &&...arguments) const;

    /** For containers: tine::vector<int> numbers(heap.allocator()). */
    inline tine::allocator<std::byte> allocator() const;

    /** Whether all of these bytes lie in the heap. */
    bool contains(const void *pointer, std::size_t length = 1) const
    {
        return detail::check(tine_heap_contains(handle_, pointer, length), "tine::heap::contains") == 1;
    }

    /** What the heap holds. */
    tine_heap_info stats() const
    {
        tine_heap_info info = TINE_HEAP_INFO_INIT;
        detail::check(tine_heap_stats(handle_, &info), "tine::heap::stats");
        return info;
    }

    /** Frees what a process that has died had in the heap, for when nobody uses it. Returns how many blocks. */
    int release_process(int pid) const
    {
        return detail::check(tine_heap_release_process(handle_, pid), "tine::heap::release_process");
    }

    /** Gives the memory that nothing is in back to the system. */
    void trim() const { detail::check(tine_heap_trim(handle_), "tine::heap::trim"); }

    /** tine.h's. */
    tine_heap *native_handle() const noexcept { return handle_; }

protected:
    tine_heap *handle_;
};

/**
 * A standard allocator over a heap, for containers that processes share. In a worker it allocates through that worker, so
 * that a container which the host has made may grow there.
 *
 * A container that outlives its heap must not be touched any more; to destroy one of trivially destructible elements is
 * harmless. The first allocator of a heap in a process, or object made in it, takes a block of 16 bytes there. Every module of a
 * program may use it, and every thread of a task.
 */
template <class T>
class allocator {
public:
    using value_type = T;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;
    using is_always_equal = std::false_type;

    explicit allocator(const tine::heap &heap) : name_(detail::name_of(heap.native_handle())) {}

    template <class U>
    allocator(const allocator<U> &other) noexcept : name_(other.name())
    {
    }

    T *allocate(std::size_t count)
    {
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(T))
            detail::raise(std::bad_array_new_length());
        tine_heap *heap = detail::find_heap(name_);
        if (!heap)
            detail::raise(error(-EXDEV, "tine::allocator: this process does not have the heap"));
        return static_cast<T *>(tine::heap(heap).allocate(count * sizeof(T), alignof(T)));
    }

    void deallocate(T *block, std::size_t) noexcept
    {
        if (tine_heap *heap = detail::find_heap(name_))
            tine_heap_free(heap, block);
    }

    const detail::heap_name &name() const noexcept { return name_; }

private:
    detail::heap_name name_;
};

/** Whether memory of the one can be given back by the other: they are of the same heap. */
template <class T, class U>
bool operator==(const allocator<T> &left, const allocator<U> &right) noexcept
{
    if (left.name() == right.name())
        return true;
    tine_heap *heap = detail::find_heap(left.name());
    return heap && heap == detail::find_heap(right.name());
}

template <class T, class U>
bool operator!=(const allocator<T> &left, const allocator<U> &right) noexcept
{
    return !(left == right);
}

/** A vector in shared memory. */
template <class T>
using vector = std::vector<T, allocator<T>>;

/** A string in shared memory. */
using string = std::basic_string<char, std::char_traits<char>, allocator<char>>;

inline tine::allocator<std::byte> heap::allocator() const
{
    return tine::allocator<std::byte>(*this);
}

template <class T, class... A>
heap_ptr<T> heap::make(A &&...arguments) const
{
    static_assert(!std::is_array_v<T>, "tine: make<tine::vector<T>> for several objects");
    heap_delete deleter(detail::name_of(handle_));
    void *block = allocate(sizeof(T), alignof(T));
    TINE_TRY
    {
        using any = tine::allocator<std::byte>;
        if constexpr (std::uses_allocator_v<T, any> && std::is_constructible_v<T, A..., any>)
            return heap_ptr<T>(::new (block) T(std::forward<A>(arguments)..., allocator()), deleter);
        else
            return heap_ptr<T>(::new (block) T(std::forward<A>(arguments)...), deleter);
    }
    TINE_CATCH_ALL
    {
        tine_heap_free(handle_, block);
        TINE_THROW_ON;
    }
}

TINE_NAMESPACE_END

#endif /* TINE_MEMORY_HPP */
