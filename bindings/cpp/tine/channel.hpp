/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: channels, two ends between which whole messages go both ways, and descriptors.
 */
#ifndef TINE_CHANNEL_HPP
#define TINE_CHANNEL_HPP

#include "codec.hpp"
#include "error.hpp"
#include "function.hpp"
#include "pool.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

TINE_NAMESPACE_BEGIN

/** What a channel can be told: tine.h's tine_channel_options, at its defaults. */
struct channel_options : tine_channel_options {
    channel_options() : tine_channel_options TINE_CHANNEL_OPTIONS_INIT {}
};

/**
 * Room for a message that is written in place: channel_ref::reserve(). commit() sends it; where that is not called, it is given up with
 * this object. The end must live as long, and stay here: giving it away gives the room up as well.
 */
class reserved_message {
public:
    reserved_message(reserved_message &&other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), data_(other.data_), size_(other.size_)
    {
    }
    reserved_message &operator=(reserved_message &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~reserved_message()
    {
        if (handle_)
            tine_channel_abandon(handle_);
    }

    /** Where it is written, a multiple of 16. */
    void *data() const noexcept { return data_; }
    /** How many bytes there are. */
    std::size_t size() const noexcept { return size_; }

    /** Sends the first `size` bytes, and waits for room on the way. Throws -EPIPE; after any other error it is still reserved. */
    void commit(std::size_t size, time_limit timeout = forever) { commit(std::nothrow, size, timeout).value(); }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<void> commit(std::nothrow_t, std::size_t size, time_limit timeout = forever)
    {
        int rc = tine_channel_commit(handle_, size, timeout.ns());
        if (rc == 0 || rc == -EPIPE)
            handle_ = nullptr;
        if (rc)
            return detail::plain(rc, "tine::reserved_message::commit");
        return {};
    }

private:
    friend class channel_ref;
    reserved_message(tine_channel *handle, void *data, std::size_t size) noexcept : handle_(handle), data_(data), size_(size) {}
    tine_channel *handle_;
    void *data_;
    std::size_t size_;
};

/** A message that is read in place: channel_ref::peek(). It is released with this object. The end must live as long, and
 * stay here: giving it away releases the message. */
class placed_message {
public:
    placed_message(placed_message &&other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), data_(other.data_), size_(other.size_)
    {
    }
    placed_message &operator=(placed_message &&other) noexcept
    {
        std::swap(handle_, other.handle_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~placed_message() { release(); }

    /** Where it is, a multiple of 16; the program may write there, too. */
    void *data() const noexcept { return data_; }
    /** How many bytes it has. */
    std::size_t size() const noexcept { return size_; }
    /** Lets go of it now. */
    void release() noexcept
    {
        if (handle_)
            tine_channel_release(std::exchange(handle_, nullptr));
    }

private:
    friend class channel_ref;
    placed_message(tine_channel *handle, void *data, std::size_t size) noexcept : handle_(handle), data_(data), size_(size) {}
    tine_channel *handle_;
    void *data_;
    std::size_t size_;
};

/**
 * An end of a channel that somebody else owns: a task's (tine::task::channel), valid until its function returns. Messages are what
 * a type's tine::codec makes of its values, so any language can send and receive them; the two sides agree on the types.
 *
 * Every wait throws tine::error with -EPIPE once the other end is gone and nothing more can be received, but for next(), which then
 * gives nothing. A process that is killed leaves each message sent or not sent.
 */
class channel_ref {
public:
    channel_ref() = default;
    explicit channel_ref(tine_channel *handle) noexcept : handle_(handle) {}

    /** Whether there is one. */
    explicit operator bool() const noexcept { return handle_ != nullptr; }

    /** Sends a message, and waits for room. */
    template <class T>
    void send(const T &value, time_limit timeout = forever) const
    {
        send(std::nothrow, value, timeout).value();
    }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    template <class T>
    expected<void> send(std::nothrow_t, const T &value, time_limit timeout = forever) const
    {
        if (int rc = send_ns(value, timeout.ns()))
            return detail::plain(rc, "tine::channel::send");
        return {};
    }
    /** Sends it if there is room; whether there was. */
    template <class T>
    bool try_send(const T &value) const
    {
        return detail::done_or_not_now(send_ns(value, 0), "tine::channel::try_send");
    }

    /**
     * Receives the next message, and waits for one. -EBADMSG: it is no T; it is gone, unless it is longer than one: -EMSGSIZE.
     * -ENOMSG: it is a descriptor, and stays.
     */
    template <class T>
    T receive(time_limit timeout = forever) const
    {
        return receive<T>(std::nothrow, timeout).value();
    }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    template <class T>
    expected<T> receive(std::nothrow_t, time_limit timeout = forever) const
    {
        static_assert(detail::can_travel<T>::value, "tine: messages of this type cannot come from another process");
        if constexpr (detail::has_fixed_size<T>::value) {
            alignas(T) unsigned char place[sizeof(T)];
            expected<std::size_t> length = receive_into(std::nothrow, place, sizeof place, timeout);
            if (!length)
                return length.error();
            return detail::decode<T>({place, *length});
        } else {
            std::size_t capacity = 4096;
            const detail::time_left time(timeout.ns());
            for (;;) {
                std::unique_ptr<unsigned char[]> place(new unsigned char[capacity]);
                std::size_t length = 0;
                int rc = tine_channel_receive(handle_, time.ns(), place.get(), capacity, &length);
                if (rc == 0)
                    return detail::decode<T>({place.get(), length});
                if (rc != -EMSGSIZE)
                    return detail::plain(time.code(rc), "tine::channel::receive");
                capacity = length; // it has stayed; another thread may take it, and a longer one come
            }
        }
    }
    /** Receives it if there is one. */
    template <class T>
    std::optional<T> try_receive() const
    {
        return receive_if<T>(time_limit(std::chrono::nanoseconds(0)), 0);
    }
    /** The next message, until the other end is gone: while (auto text = end.next<std::string>()). */
    template <class T>
    std::optional<T> next() const
    {
        return receive_if<T>(forever, -EPIPE);
    }

    /** Receives the next message's bytes, whatever they are; -EMSGSIZE: more than capacity, and it stays. Returns how many. */
    expected<std::size_t> receive_into(std::nothrow_t, void *buffer, std::size_t capacity, time_limit timeout = forever) const
    {
        std::size_t length = 0;
        int rc = tine_channel_receive(handle_, timeout.ns(), buffer, capacity, &length);
        if (rc == 0)
            return length;
        failure what = detail::plain(rc, "tine::channel::receive");
        if (rc == -EMSGSIZE)
            what.message = "a message of " + std::to_string(length) + " bytes, where there is room for " + std::to_string(capacity);
        return what;
    }

    /**
     * Reserves room for a message of up to `size` bytes, to be written in place: more than 64 KiB are not copied on their way to peek().
     * Waits until the other end has released room. -EBUSY: a message is reserved through this handle already, or another thread is in this
     * call.
     */
    reserved_message reserve(std::size_t size, time_limit timeout = forever) const
    {
        return reserve(std::nothrow, size, timeout).value();
    }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<reserved_message> reserve(std::nothrow_t, std::size_t size, time_limit timeout = forever) const
    {
        void *place = nullptr;
        if (int rc = tine_channel_reserve(handle_, size, timeout.ns(), &place))
            return detail::plain(rc, "tine::channel::reserve");
        return reserved_message(handle_, place, size);
    }
    /**
     * Receives the next message to be read in place, however it was sent, and waits for one. More than 64 KiB are not copied, unless send()
     * was called with more than 32 MiB or found no room free. -EBUSY: a message is looked at through this handle already, or another
     * thread is in this call. -ENOMSG: it is a descriptor, and stays.
     */
    placed_message peek(time_limit timeout = forever) const { return peek(std::nothrow, timeout).value(); }
    /** The same without exceptions; time that ran out is -EAGAIN or -ETIMEDOUT. */
    expected<placed_message> peek(std::nothrow_t, time_limit timeout = forever) const
    {
        void *place = nullptr;
        std::size_t length = 0;
        if (int rc = tine_channel_peek(handle_, timeout.ns(), &place, &length))
            return detail::plain(rc, "tine::channel::peek");
        return placed_message(handle_, place, length);
    }

    /** Sends a descriptor, which stays the caller's. */
    void send_fd(int fd, time_limit timeout = forever) const
    {
        detail::check(tine_channel_send_fd(handle_, fd, timeout.ns()), "tine::channel::send_fd");
    }
    /** Receives one, which is the caller's to close. -ENOMSG: the next is a message, and stays. */
    int receive_fd(time_limit timeout = forever) const
    {
        int fd = -1;
        detail::check(tine_channel_receive_fd(handle_, timeout.ns(), &fd), "tine::channel::receive_fd");
        return fd;
    }

    /** A descriptor that is readable while there is something to receive, or the other end is gone; the channel's own. */
    int fd() const { return detail::check(tine_channel_fd(handle_), "tine::channel::fd"); }
    /** tine.h's. */
    tine_channel *native_handle() const noexcept { return handle_; }

protected:
    tine_channel *handle_ = nullptr;

private:
    template <class T>
    int send_ns(const T &value, std::int64_t timeout_ns) const
    {
        const auto &leaving = detail::depart(value);
        return detail::as_bytes(leaving, [&](bytes message) {
            return tine_channel_send(handle_, message.data, message.size, timeout_ns);
        });
    }

    template <class T>
    std::optional<T> receive_if(time_limit timeout, int end) const
    {
        expected<T> message = receive<T>(std::nothrow, timeout);
        if (message)
            return std::move(*message);
        int code = message.error().code;
        if (code != end && !(end == 0 && code == -EAGAIN))
            message.error().raise();
        return std::nullopt;
    }
};

/** An end of a channel, and its owner. It is given to a task or a process (give()), or closed with this object. */
class channel : public channel_ref {
public:
    /** Both ends of a new one. Throws -EMFILE, -ENOMEM. */
    static std::pair<channel, channel> create(const channel_options &options = {})
    {
        return std::move(create(std::nothrow, options)).value();
    }
    /** The same without exceptions. */
    static expected<std::pair<channel, channel>> create(std::nothrow_t, channel_options options = {})
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        tine_channel *here = nullptr, *there = nullptr;
        if (int rc = tine_channel_create(&options, &here, &there))
            return report.take(rc);
        return std::pair<channel, channel>(channel(here), channel(there));
    }

    /** An end that has come from another process, by a descriptor that stays the caller's. Throws as tine_channel_attach(). */
    static channel attach(int fd, channel_options options = {})
    {
        detail::report report;
        if (!options.error)
            options.error = report.place();
        tine_channel *handle = nullptr;
        if (int rc = tine_channel_attach(fd, &options, &handle))
            report.take(rc).raise();
        return channel(handle);
    }

    channel() = default;
    channel(channel &&other) noexcept : channel_ref(std::exchange(other.handle_, nullptr)) { other.withdraw(); }
    channel &operator=(channel &&other) noexcept
    {
        withdraw();
        other.withdraw();
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~channel() { close(); }

    /** Closes it now: the other end gets what was sent, and then -EPIPE. */
    void close() noexcept
    {
        withdraw();
        tine_channel_close(std::exchange(handle_, nullptr));
    }

private:
    friend struct submit_options;
    friend struct process_options;
    explicit channel(tine_channel *handle) noexcept : channel_ref(handle) {}

    /* One for all options that are told of this end, so that it is given once. */
    detail::offer offer()
    {
        if (!offered_ || !*offered_)
            offered_ = std::make_shared<tine_channel **>(&handle_);
        return detail::offer(offered_);
    }

    void withdraw() noexcept
    {
        if (offered_)
            *offered_ = nullptr;
    }

    std::shared_ptr<tine_channel **> offered_;
};

inline submit_options &submit_options::give(tine::channel &end)
{
    offer_ = end.offer();
    return *this;
}

inline channel_ref task::channel() const noexcept
{
    return channel_ref(tine_task_channel(handle_));
}

TINE_NAMESPACE_END

#endif /* TINE_CHANNEL_HPP */
