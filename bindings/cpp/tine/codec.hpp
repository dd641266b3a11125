/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: what can travel to another process, and how.
 *
 * A value travels as bytes. Types that are trivially copyable travel as they are, strings and vectors of such types as
 * their elements, pairs and tuples as their parts; a type of one's own gets a specialisation of tine::codec. What holds
 * addresses of the sender's private memory is refused where the compiler can see it. A plain pointer can't be told from one into shared memory: run with
 * TINE_CHECK=1 in the environment, which looks for such in all inputs and outputs.
 */
#ifndef TINE_CODEC_HPP
#define TINE_CODEC_HPP

#include <tine.h>

#include "error.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<span>) && __cplusplus >= 202002L
#include <span>
#define TINE_HAS_SPAN 1
#endif

TINE_NAMESPACE_BEGIN

/** Bytes that are somewhere else: what a message, an input or an output consists of. */
struct bytes {
    const void *data = nullptr;
    std::size_t size = 0;

    bytes() = default;
    bytes(const void *at, std::size_t length) noexcept : data(at), size(length) {}
#ifdef TINE_HAS_SPAN
    /** Of the elements of a span; and as one. */
    template <class T, std::size_t N>
    bytes(std::span<T, N> from) noexcept : data(from.data()), size(from.size_bytes())
    {
        static_assert(std::is_trivially_copyable_v<T>,
                      "tine: the elements of this span are not trivially copyable: their bytes mean nothing elsewhere");
    }
    std::span<const std::byte> span() const noexcept { return {static_cast<const std::byte *>(data), size}; }
#endif
};

namespace detail {

template <class T>
struct is_reference_wrapper : std::false_type {};
template <class T>
struct is_reference_wrapper<std::reference_wrapper<T>> : std::true_type {};

/* Addresses of private memory, or of code, that would mean something else at the other end. */
template <class T>
inline constexpr bool is_private_address =
    is_reference_wrapper<T>::value || std::is_member_pointer_v<T> ||
    (std::is_pointer_v<T> && std::is_function_v<std::remove_pointer_t<T>>);

template <class T>
inline constexpr bool is_plain = std::is_trivially_copyable_v<T> && !is_private_address<T> && !std::is_reference_v<T>;

/* A copy of what lies at an address that need not be aligned for it. */
template <class T>
T copy_of(const void *at)
{
    if constexpr (std::is_empty_v<T> && std::is_default_constructible_v<T>) {
        return T();
    } else {
        // Not every such type has a constructor without arguments; copying bytes begins the life of what they are.
        struct place {
            alignas(T) unsigned char bytes[sizeof(T)];
        } room;
        std::memcpy(&room, at, sizeof(T));
        return *std::launder(reinterpret_cast<T *>(&room));
    }
}

} // namespace detail

/**
 * How a type travels. For a type of one's own:
 *
 *     template <> struct tine::codec<polygon> {
 *         static std::size_t size(const polygon &value);                  // how many bytes it takes
 *         static void encode(const polygon &value, void *at);            // writes them; aligned to 16 bytes
 *         static polygon decode(tine::bytes from);                       // the other way; may throw tine::error
 *     };
 *
 * Beside decode it may have try_decode, which returns a tine::expected<polygon>: without exceptions that alone can refuse bytes.
 */
template <class T, class Enable = void>
struct codec;

template <class T>
struct codec<T, std::enable_if_t<detail::is_plain<T>>> {
    /** Its size is known without looking at a value. */
    static constexpr std::size_t fixed_size = sizeof(T);
    static constexpr std::size_t size(const T &) { return sizeof(T); }
    static void encode(const T &value, void *at) { std::memcpy(at, std::addressof(value), sizeof(T)); }
    static T decode(bytes from) { return try_decode(from).value(); }
    static expected<T> try_decode(bytes from)
    {
        if (from.size != sizeof(T))
            return detail::failure_with(-EBADMSG, std::to_string(from.size) + " bytes have come where a value of " +
                                                      std::to_string(sizeof(T)) + " was to");
        return detail::copy_of<T>(from.data);
    }
};

namespace detail {

/* Strings and vectors: the elements, one behind the other. */
template <class Sequence>
struct sequence_codec {
    using element = typename Sequence::value_type;
    static std::size_t size(const Sequence &value) { return value.size() * sizeof(element); }
    static void encode(const Sequence &value, void *at)
    {
        if (!value.empty())
            std::memcpy(at, value.data(), value.size() * sizeof(element));
    }
    static Sequence decode(bytes from) { return try_decode(from).value(); }
    static expected<Sequence> try_decode(bytes from)
    {
        if (from.size % sizeof(element) != 0)
            return failure_with(-EBADMSG, std::to_string(from.size) + " bytes have come where elements of " +
                                              std::to_string(sizeof(element)) + " were to");
        Sequence value(from.size / sizeof(element), element());
        if (from.size)
            std::memcpy(value.data(), from.data, from.size);
        return expected<Sequence>(std::move(value));
    }
};

} // namespace detail

template <class Char, class Traits>
struct codec<std::basic_string<Char, Traits>> : detail::sequence_codec<std::basic_string<Char, Traits>> {};

template <class T>
struct codec<std::vector<T>, std::enable_if_t<detail::is_plain<T> && !std::is_same_v<T, bool>>>
    : detail::sequence_codec<std::vector<T>> {};

namespace detail {

template <class T, class = void>
struct can_travel : std::false_type {};
template <class T>
struct can_travel<T, std::void_t<decltype(codec<T>::size(std::declval<const T &>()))>> : std::true_type {};

template <class T, class = void>
struct has_try_decode : std::false_type {};
template <class T>
struct has_try_decode<T, std::void_t<decltype(codec<T>::try_decode(bytes()))>> : std::true_type {};

/* The value that these bytes are, or why they are none. */
template <class T>
expected<T> decode(bytes from)
{
    if constexpr (has_try_decode<T>::value) {
        return codec<T>::try_decode(from);
    } else {
#ifdef __cpp_exceptions
        try {
            return codec<T>::decode(from);
        } catch (const error &wrong) {
            return wrong.failure();
        }
#else
        return codec<T>::decode(from);
#endif
    }
}

template <class T, class = void>
struct has_fixed_size : std::false_type {};
template <class T>
struct has_fixed_size<T, std::void_t<decltype(codec<T>::fixed_size)>> : std::true_type {};

/* As what an argument arrives: a copy without const or reference; what only refers to characters or elements, as a
   string or vector of its own. */
template <class T, class = void>
struct arrives {
    using type = T;
};
template <class Char, std::size_t N>
struct arrives<Char[N], std::enable_if_t<std::is_same_v<Char, char> || std::is_same_v<Char, wchar_t>>> {
    using type = std::basic_string<Char>;
};
template <class T, std::size_t N>
struct arrives<T[N], std::enable_if_t<!std::is_same_v<T, char> && !std::is_same_v<T, wchar_t>>> {
    using type = std::vector<T>;
};
template <class Char, class Traits>
struct arrives<std::basic_string_view<Char, Traits>> {
    using type = std::basic_string<Char, Traits>;
};
#ifdef TINE_HAS_SPAN
template <class T, std::size_t N>
struct arrives<std::span<T, N>> {
    using type = std::vector<std::remove_cv_t<T>>;
};
#endif

template <class T>
struct strip_array {
    using type = std::remove_cv_t<T>;
};
template <class T, std::size_t N>
struct strip_array<T[N]> {
    using type = std::remove_cv_t<T>[N];
};

template <class T>
using arrival = typename arrives<typename strip_array<std::remove_reference_t<T>>::type>::type;

/* The argument as what it arrives as, without a copy where it already is that. */
template <class T>
decltype(auto) depart(T &&value)
{
    using plain = typename strip_array<std::remove_reference_t<T>>::type;
    using type = arrival<T>;
    if constexpr (std::is_same_v<plain, type>) {
        return static_cast<const type &>(value);
    } else if constexpr (std::is_array_v<plain> && !std::is_same_v<type, std::vector<std::remove_extent_t<plain>>>) {
        // A string literal, up to its zero.
        return type(std::begin(value), std::find(std::begin(value), std::end(value), std::remove_extent_t<plain>()));
    } else {
        return type(std::begin(value), std::end(value));
    }
}

template <class T>
struct is_sequence : std::false_type {};
template <class Char, class Traits>
struct is_sequence<std::basic_string<Char, Traits>> : std::true_type {};
template <class T>
struct is_sequence<std::vector<T>> : std::bool_constant<is_plain<T> && !std::is_same_v<T, bool>> {};

/* Has use(bytes) take what a value travels as: from where the value is, if its bytes are in one place. */
template <class T, class Use>
auto as_bytes(const T &value, Use &&use)
{
    if constexpr (std::is_same_v<T, bytes>) {
        return use(value);
    } else if constexpr (is_plain<T>) {
        return use(bytes(std::addressof(value), sizeof(T)));
    } else if constexpr (is_sequence<T>::value) {
        return use(bytes(value.data(), codec<T>::size(value)));
    } else {
        std::vector<unsigned char> encoded(codec<T>::size(value));
        codec<T>::encode(value, encoded.data());
        return use(bytes(encoded.data(), encoded.size()));
    }
}

/* Everything starts at a multiple of this, as tine_input does. */
inline constexpr std::size_t ALIGNMENT = 16;

constexpr std::size_t aligned(std::size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Values one behind the other. Those without a fixed size have their length before them. */

template <class T>
std::size_t packed_size(const T &value)
{
    if constexpr (has_fixed_size<T>::value)
        return std::is_empty_v<T> ? 0 : aligned(codec<T>::fixed_size);
    else
        return ALIGNMENT + aligned(codec<T>::size(value));
}

/* What is between two values is zero: addresses of private memory that happened to stand there would be found by TINE_CHECK. */
template <class T>
unsigned char *pack(const T &value, unsigned char *at)
{
    if constexpr (has_fixed_size<T>::value) {
        if constexpr (!std::is_empty_v<T>) {
            constexpr std::size_t size = codec<T>::fixed_size;
            codec<T>::encode(value, at);
            std::memset(at + size, 0, aligned(size) - size);
        }
        return at + packed_size(value);
    } else {
        std::size_t size = codec<T>::size(value);
        std::memset(at, 0, ALIGNMENT);
        std::memcpy(at, &size, sizeof size);
        codec<T>::encode(value, at + ALIGNMENT);
        std::memset(at + ALIGNMENT + size, 0, aligned(size) - size);
        return at + ALIGNMENT + aligned(size);
    }
}

/* Takes values out again, in their order. What stands there was written by a process that had it from this program. */
class unpacker {
public:
    explicit unpacker(bytes from) : at_(static_cast<const unsigned char *>(from.data)), left_(from.size) {}

    template <class T>
    T next()
    {
        if constexpr (has_fixed_size<T>::value) {
            if constexpr (std::is_empty_v<T>)
                return copy_of<T>(&left_); // it has no content, and the bytes need only be some
            else
                return codec<T>::decode({take(aligned(codec<T>::fixed_size)), codec<T>::fixed_size});
        } else {
            std::size_t size;
            std::memcpy(&size, take(ALIGNMENT), sizeof size);
            if (size > left_)
                fail(-EBADMSG, "an argument");
            return codec<T>::decode({take(aligned(size)), size});
        }
    }

private:
    const unsigned char *take(std::size_t size)
    {
        if (size > left_)
            fail(-EBADMSG, "an argument");
        const unsigned char *at = at_;
        at_ += size;
        left_ -= size;
        return at;
    }

    const unsigned char *at_;
    std::size_t left_;
};

/* Pairs and tuples, which are not trivially copyable: their parts, one behind the other. */
template <class Whole, class... Parts>
struct product_codec {
    static std::size_t size(const Whole &value)
    {
        return std::apply([](const Parts &...each) { return (packed_size(each) + ... + std::size_t{0}); },
                          std::tuple<const Parts &...>(value));
    }
    static void encode(const Whole &value, void *at)
    {
        auto *to = static_cast<unsigned char *>(at);
        std::apply([&](const Parts &...each) { ((to = pack(each, to)), ...); }, std::tuple<const Parts &...>(value));
    }
    static Whole decode(bytes from)
    {
        unpacker parts(from);
        return Whole{parts.next<Parts>()...};
    }
};

} // namespace detail

template <class First, class Second>
struct codec<std::pair<First, Second>,
             std::enable_if_t<!detail::is_plain<std::pair<First, Second>> && detail::can_travel<First>::value &&
                              detail::can_travel<Second>::value>>
    : detail::product_codec<std::pair<First, Second>, First, Second> {};

template <class... T>
struct codec<std::tuple<T...>, std::enable_if_t<!detail::is_plain<std::tuple<T...>> && (detail::can_travel<T>::value && ...)>>
    : detail::product_codec<std::tuple<T...>, T...> {};

namespace detail {

/* Room for packed values: small ones without an allocation. */
class packet {
public:
    packet() = default;
    packet(const packet &) = delete;
    packet &operator=(const packet &) = delete;

    template <class... T>
    void fill(const T &...values)
    {
        size_ = (packed_size(values) + ... + std::size_t{0});
        unsigned char *at = small_.data();
        if (size_ > small_.size()) {
            large_.reset(new unsigned char[size_]); // not make_unique: it would write zeros first
            at = large_.get();
        }
        ((at = pack(values, at)), ...);
    }

    const void *data() const noexcept { return size_ == 0 ? nullptr : large_ ? large_.get() : small_.data(); }
    std::size_t size() const noexcept { return size_; }

private:
    alignas(ALIGNMENT) std::array<unsigned char, 256> small_; // written as far as it is used
    std::unique_ptr<unsigned char[]> large_;
    std::size_t size_ = 0;
};

} // namespace detail
TINE_NAMESPACE_END

#endif /* TINE_CODEC_HPP */
