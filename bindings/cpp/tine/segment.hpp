/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: segments, pieces of shared memory that pass between any processes, and heaps in them.
 */
#ifndef TINE_SEGMENT_HPP
#define TINE_SEGMENT_HPP

#include "codec.hpp"
#include "error.hpp"
#include "memory.hpp"
#include "pool.hpp"

#include <cstddef>
#include <new>
#include <string>
#include <utility>

TINE_NAMESPACE_BEGIN

/** What a segment can be told: tine.h's tine_segment_options, at its defaults. */
struct segment_options : tine_segment_options {
    segment_options() : tine_segment_options TINE_SEGMENT_OPTIONS_INIT {}
};

/** What a heap in a segment can be told: tine.h's tine_heap_options, at its defaults. */
struct heap_options : tine_heap_options {
    heap_options() : tine_heap_options TINE_HEAP_OPTIONS_INIT {}
};

/**
 * Shared memory of a fixed size, at the same address in every process that has it, gone when the last of them lets go. This object
 * is one process's way to it: it unmaps the memory when it ends, and pointers into it are dangling then. A segment in which a lock
 * is held, or a heap open, stays mapped: close() says so.
 */
class segment {
public:
    /** New memory, all of it zero. Throws -ENOMEM; -EINVAL: no bytes, or bad options; -EMFILE. */
    explicit segment(std::size_t size, const segment_options &options = {})
        : segment(std::move(create(std::nothrow, size, options)).value())
    {
    }
    /** The same without exceptions. */
    static expected<segment> create(std::nothrow_t, std::size_t size, const segment_options &options = {})
    {
        return made(options, [size](const tine_segment_options *full, tine_segment **out) { return tine_segment_create(size, full, out); });
    }

    /** One that another process has made, by a descriptor that stays the caller's. Throws as tine_segment_attach(). */
    static segment attach(int fd, const segment_options &options = {})
    {
        return std::move(attach(std::nothrow, fd, options)).value();
    }
    static expected<segment> attach(std::nothrow_t, int fd, const segment_options &options = {})
    {
        return made(options, [fd](const tine_segment_options *full, tine_segment **out) { return tine_segment_attach(fd, full, out); });
    }

    /** One that another process sends through a unix socket. Throws as tine_segment_receive(); -EAGAIN: none is there yet. */
    static segment receive(int socket, const segment_options &options = {})
    {
        return std::move(receive(std::nothrow, socket, options)).value();
    }
    static expected<segment> receive(std::nothrow_t, int socket, const segment_options &options = {})
    {
        return made(options, [socket](const tine_segment_options *full, tine_segment **out) {
            return tine_segment_receive(socket, full, out);
        });
    }
    /** Sends it to the process at the other end of a unix socket, without waiting. Throws -EAGAIN: the socket is full; -EPIPE. */
    void send(int socket) const { detail::check(tine_segment_send(socket, handle_), "tine::segment::send"); }

    segment(segment &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    segment &operator=(segment &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~segment() { tine_segment_close(handle_); }

    /** Unmaps it now. Throws -EBUSY: a lock in it is held, or a heap open; it is as it was then. */
    void close() { close(std::nothrow).value(); }
    expected<void> close(std::nothrow_t)
    {
        if (int rc = tine_segment_close(handle_))
            return detail::plain(rc, "tine::segment::close");
        handle_ = nullptr;
        return {};
    }

    /** Its bytes; the same address in every process, unless TINE_SEGMENT_ANY_ADDRESS was asked for. */
    void *data() const noexcept { return tine_segment_address(handle_); }
    /** How many: what it was made with. */
    std::size_t size() const noexcept { return tine_segment_size(handle_); }
    /** The T that lies so far into it; nullptr where it does not fit. Whoever makes the segment has it all zero. */
    template <class T>
    T *at(std::size_t offset = 0) const noexcept
    {
        bool fits = offset % alignof(T) == 0 && offset <= size() && sizeof(T) <= size() - offset;
        return fits ? reinterpret_cast<T *>(static_cast<char *>(data()) + offset) : nullptr;
    }
#ifdef TINE_HAS_SPAN
    /** All of it as elements of a plain type. */
    template <class T = std::byte>
    std::span<T> span() const noexcept
    {
        static_assert(detail::is_plain<T>, "tine: memory that is all zero is no object of this type");
        return {static_cast<T *>(data()), size() / sizeof(T)};
    }
#endif

    /** A descriptor to pass to other processes; the segment's own. */
    int fd() const { return detail::check(tine_segment_fd(handle_), "tine::segment::fd"); }
    /** tine.h's. */
    tine_segment *native_handle() const noexcept { return handle_; }

private:
    explicit segment(tine_segment *handle) noexcept : handle_(handle) {}

    template <class Make>
    static expected<segment> made(segment_options options, Make make)
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        tine_segment *handle = nullptr;
        if (int rc = make(&options, &handle))
            return report.take(rc);
        return segment(handle);
    }

    tine_segment *handle_;
};

/** A heap in a segment, for processes that have no pool in common: one creates it, the others attach. It is closed with this object. */
class segment_heap : public heap {
public:
    /** A new heap in a segment that is all zero, or whose content nobody needs. Throws -EINVAL: the segment is too small. */
    static segment_heap create(const segment &in, const heap_options &options = {}) { return {in, options, tine_heap_create}; }
    /** The heap that another process has made in it. Throws -EINVAL: there is none; TINE_EVERSION. */
    static segment_heap attach(const segment &in, const heap_options &options = {}) { return {in, options, tine_heap_attach}; }

    segment_heap(segment_heap &&other) noexcept : heap(std::exchange(other.handle_, nullptr)) {}
    segment_heap &operator=(segment_heap &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~segment_heap() { tine_heap_close(handle_); }

    /** Closes it now. Throws -EBUSY: a thread of this process is in a call on a queue in it, or holds a lock. */
    void close()
    {
        detail::check(tine_heap_close(handle_), "tine::segment_heap::close");
        handle_ = nullptr;
    }

private:
    using maker = int (*)(tine_segment *, const tine_heap_options *, tine_heap **);

    segment_heap(const segment &in, const heap_options &options, maker how) : heap(make_in(in, options, how)) {}

    static tine_heap *make_in(const segment &in, heap_options options, maker how)
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        tine_heap *handle = nullptr;
        if (int rc = how(in.native_handle(), &options, &handle))
            report.take(rc).raise();
        return handle;
    }
};

inline void pool::share(const tine::segment &segment, time_limit timeout)
{
    share(std::nothrow, segment, timeout).value();
}

inline expected<void> pool::share(std::nothrow_t, const tine::segment &segment, time_limit timeout)
{
    if (int rc = tine_pool_share(handle(), segment.native_handle(), timeout.ns()))
        return detail::plain(rc, "tine::pool::share");
    return {};
}

TINE_NAMESPACE_END

#endif /* TINE_SEGMENT_HPP */
