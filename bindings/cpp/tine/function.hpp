/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: how functions get to the workers.
 *
 * For each type of function, and types of its arguments, the compiler makes one function of C's kind, which takes the
 * arguments out of the task's input, calls, and puts the result into its output. It is that function's address which travels,
 * as tine.h's functions do: nothing needs to be registered. A lambda's captures travel before the arguments. A pointer
 * to a function travels as its distance from a place in the same module.
 */
#ifndef TINE_FUNCTION_HPP
#define TINE_FUNCTION_HPP

#include "codec.hpp"
#include "error.hpp"

#include <cxxabi.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

TINE_NAMESPACE_BEGIN

class pool;
class channel_ref;

/** The first thing in main: tine_init(). In the program that its user started it returns; in a worker it never does. */
inline void init(int argc, char **argv)
{
    detail::check(tine_init(argc, argv), "tine::init");
}

/**
 * A task, as the function that carries it out sees it. A function whose first parameter is a tine::task & is given it,
 * before its arguments. Valid until the function returns, in its thread only.
 */
class task {
public:
    explicit task(tine_task *handle) noexcept : handle_(handle) {}

    /** Whether the function should return: it is past its deadline, or was cancelled. */
    bool cancelled() const noexcept { return tine_cancelled(handle_); }
    /** The task's number, or the item's place in its map. */
    std::uint64_t id() const noexcept { return tine_task_id(handle_); }
    /** Fails the task: code is a negated errno value, -1 to -4095. Other exceptions do so as well, and so does a function that returns
        a tine::expected with a tine::failure in it; without exceptions that is the way. */
    [[noreturn]] void fail(int code, const std::string &message) const { detail::raise(error(code, message)); }
    /** What set_state() has left in this worker, an initialiser's work say; nullptr if nothing was. */
    template <class T>
    T *state() const noexcept
    {
        return static_cast<T *>(tine_worker_state(handle_));
    }
    /** Leaves something for the tasks of this worker to find; it is not deleted. */
    template <class T>
    void set_state(T *state) const noexcept
    {
        tine_set_worker_state(handle_, state);
    }
    /** The pool that runs the task, for its heap, and for what the task submits to it: as tine::pool::from(). */
    inline tine::pool pool() const;
    /** The end of a channel that the task or the process was given; false if it was given none. Include tine/channel.hpp. */
    inline channel_ref channel() const noexcept;
    /** tine.h's. */
    tine_task *native_handle() const noexcept { return handle_; }

private:
    tine_task *handle_;
};

/** What an exception of a task's function comes to where nothing says more: see tine::register_function. */
inline constexpr int exception_code = -EREMOTEIO;

/** A registered function, of whatever language: pool.submit(tine::named("resize"), input). */
template <class R>
struct named_function {
    std::string name;
};

class result;

/** Names a function that is registered in the workers. Its result is a tine::result, or an R if one is named. */
template <class R = result>
named_function<R> named(std::string name)
{
    return {std::move(name)};
}

namespace detail {

template <class T>
struct is_named : std::false_type {};
template <class R>
struct is_named<named_function<R>> : std::true_type {};

template <class T>
inline constexpr bool is_text_pointer =
    std::is_pointer_v<T> && (std::is_same_v<std::remove_cv_t<std::remove_pointer_t<T>>, char> ||
                             std::is_same_v<std::remove_cv_t<std::remove_pointer_t<T>>, wchar_t>);

/* A code that a function may return. */
inline int own_code(int code) noexcept
{
    return code <= -1 && code >= -4095 ? code : exception_code;
}

/* Calls what an exception must not leave. Its text becomes the task's message. */
template <class Body>
int guarded([[maybe_unused]] tine_task *handle, Body &&body)
{
#ifdef __cpp_exceptions
    try {
        return body();
    } catch (const error &what) {
        return tine_fail(handle, own_code(what.code()), "%s", what.what());
    } catch (const std::bad_alloc &) {
        return tine_fail(handle, -ENOMEM, "out of memory");
    } catch (const std::system_error &what) {
        bool is_errno = what.code().category() == std::generic_category() ||
                        what.code().category() == std::system_category();
        return tine_fail(handle, is_errno ? own_code(-what.code().value()) : exception_code, "%s", what.what());
    } catch (const std::invalid_argument &what) {
        return tine_fail(handle, -EINVAL, "%s", what.what());
    } catch (const std::domain_error &what) {
        return tine_fail(handle, -EDOM, "%s", what.what());
    } catch (const std::out_of_range &what) {
        return tine_fail(handle, -ERANGE, "%s", what.what());
    } catch (const std::range_error &what) {
        return tine_fail(handle, -ERANGE, "%s", what.what());
    } catch (const std::overflow_error &what) {
        return tine_fail(handle, -EOVERFLOW, "%s", what.what());
    } catch (const std::exception &what) {
        return tine_fail(handle, exception_code, "%s", what.what());
    } catch (abi::__forced_unwind &) {
        throw; // the C library's, when a thread ends: it must not be stopped
    } catch (...) {
        return tine_fail(handle, exception_code, "an exception that is not a std::exception");
    }
#else
    return body();
#endif
}

/* A function may give a tine::expected: then its result is what is expected, and a failure the task's. */
template <class R>
struct unwrapped {
    using type = R;
};
template <class R>
struct unwrapped<expected<R>> {
    using type = R;
};

inline int fail_with(tine_task *handle, const failure &why)
{
    return tine_fail(handle, own_code(why.code), "%s", why.message.c_str());
}

/* Has use() take what a function gives, if that is no failure; the task's status. */
template <class Given, class Use>
int with_value(tine_task *handle, Given &&given, Use &&use)
{
    if constexpr (std::is_same_v<typename unwrapped<std::decay_t<Given>>::type, std::decay_t<Given>>) {
        return use(std::forward<Given>(given));
    } else {
        if (!given)
            return fail_with(handle, given.error());
        if constexpr (std::is_void_v<typename unwrapped<std::decay_t<Given>>::type>)
            return 0;
        else
            return use(std::move(*given));
    }
}

/* With the task first where the function takes one. */
template <class F, class... A>
decltype(auto) call(F &function, task &handle, A &&...arguments)
{
    if constexpr (std::is_invocable_v<F &, task &, A...>)
        return std::invoke(function, handle, std::forward<A>(arguments)...);
    else
        return std::invoke(function, std::forward<A>(arguments)...);
}

template <class F, class... A>
inline constexpr bool is_callable = std::is_invocable_v<F &, task &, A...> || std::is_invocable_v<F &, A...>;

template <bool, class F, class... A>
struct call_result {
    using type = void;
};
template <class F, class... A>
struct call_result<true, F, A...> {
    using type = std::decay_t<decltype(call(std::declval<F &>(), std::declval<task &>(), std::declval<A>()...))>;
};

/* What the function gives, and what of it is the task's result. */
template <class F, class... A>
using given_by = typename call_result<is_callable<F, A...>, F, A...>::type;
template <class F, class... A>
using result_of = typename unwrapped<given_by<F, A...>>::type;

template <class T>
inline constexpr bool is_output = std::is_void_v<T> || can_travel<T>::value;

/* Says what is wrong with a submission, once, in words. */
template <class F>
constexpr bool check_function()
{
    static_assert(is_plain<F>,
                  "tine: this function cannot be sent to another process. Send a function, or a lambda that captures nothing "
                  "or copies of trivially copyable values; give strings and vectors as arguments; wrap a member function or a "
                  "std::function in a lambda");
    return true;
}

template <class A>
constexpr bool check_argument()
{
    static_assert(!is_text_pointer<A>, "tine: a pointer to characters means nothing in another process. Give a std::string or a "
                                       "std::string_view, which are copied there");
    static_assert(!std::is_same_v<A, bytes>, "tine: tine::bytes are for functions that are called by name. Give a std::vector, which is "
                                             "copied there");
    static_assert(!is_private_address<A>, "tine: a reference or a pointer to a function means nothing in another process. Give a "
                                          "value, or wrap the function in a lambda");
    static_assert(is_private_address<A> || can_travel<A>::value,
                  "tine: this argument cannot be sent to another process. Give trivially copyable values, std::string, or "
                  "std::vector of such values; or specialise tine::codec for the type; or put it into the pool's heap "
                  "(pool.make) and give its address");
    return true;
}

template <class R>
constexpr bool check_result()
{
    static_assert(!is_text_pointer<R>, "tine: a pointer to characters means nothing in another process. Return a std::string");
    static_assert(is_text_pointer<R> || is_output<R>,
                  "tine: this result cannot be sent to another process. Return nothing, a trivially copyable value, std::string, or "
                  "std::vector of such values; or specialise tine::codec for the type");
    return true;
}

template <class F, class... A>
constexpr bool check_call()
{
    static_assert(is_callable<F, A...>,
                  "tine: the function cannot be called with these arguments. They arrive as values of their own: literals and views as "
                  "std::string or std::vector, and not as references to what may be changed");
    return true;
}

template <class F, class... A>
constexpr bool check_submission()
{
    constexpr bool fine = check_function<F>() && (check_argument<A>() && ... && true);
    if constexpr (is_plain<F> && (can_travel<A>::value && ... && true)) {
        check_call<F, A...>();
        if constexpr (is_callable<F, A...>)
            check_result<result_of<F, A...>>();
    }
    return fine;
}

template <class R>
int put_output(tine_task *handle, const R &value)
{
    std::size_t size = codec<R>::size(value);
    void *out = tine_output(handle, size);
    if (!out)
        return tine_fail(handle, -ENOMEM, "no room for an output of %zu bytes", size);
    codec<R>::encode(value, out);
    return 0;
}

/* For functions that each module must have for itself: one that is exported might be taken from another module. */
#define TINE_LOCAL __attribute__((visibility("hidden")))

/* What each module has for itself, also where a linker would take one for all: distances and addresses are within it. */
namespace local __attribute__((visibility("hidden"))) {

extern "C" {
extern const char tine_module_begin[] __asm__("__ehdr_start") __attribute__((visibility("hidden"), weak));
}

/* Where this module's code ends, by its own ELF header: of the linker's names, the one for that may be another module's. */
inline std::uintptr_t code_end()
{
    static const std::uintptr_t end = [] {
        if (!tine_module_begin)
            return std::uintptr_t(0);
        auto *header = reinterpret_cast<const ElfW(Ehdr) *>(tine_module_begin);
        auto *segment = reinterpret_cast<const ElfW(Phdr) *>(tine_module_begin + header->e_phoff);
        std::uintptr_t lowest = UINTPTR_MAX, highest = 0;
        for (int left = header->e_phnum; left > 0; left--, segment++) {
            if (segment->p_type != PT_LOAD)
                continue;
            lowest = std::min<std::uintptr_t>(lowest, segment->p_vaddr - segment->p_offset);
            if ((segment->p_flags & PF_X) != 0)
                highest = std::max<std::uintptr_t>(highest, segment->p_vaddr + segment->p_memsz);
        }
        return reinterpret_cast<std::uintptr_t>(tine_module_begin) + (highest - lowest);
    }();
    return end;
}

/* A pointer to a function, as it travels: as the distance from this module's beginning. */
template <class F>
struct by_address {
    std::ptrdiff_t distance;

    static bool is_here(F function)
    {
        auto at = reinterpret_cast<std::uintptr_t>(function);
        return at >= reinterpret_cast<std::uintptr_t>(tine_module_begin) && at < code_end();
    }

    static by_address of(F function)
    {
        return {reinterpret_cast<const char *>(function) - tine_module_begin};
    }

    template <class... A>
    auto operator()(A &&...arguments) const
        -> decltype(std::invoke(std::declval<F>(), std::forward<A>(arguments)...))
    {
        return std::invoke(reinterpret_cast<F>(const_cast<char *>(tine_module_begin) + distance),
                           std::forward<A>(arguments)...);
    }
};

template <class F, class... A>
int run(tine_task *handle)
{
    return guarded(handle, [handle] {
        std::size_t size;
        const void *input = tine_input(handle, &size);
        unpacker from({input, size});
        task self(handle);
        F function = from.next<F>();
        std::tuple<A...> arguments{from.next<A>()...};
        auto apply = [&](A &...each) -> decltype(auto) { return call(function, self, std::move(each)...); };
        if constexpr (std::is_void_v<given_by<F, A...>>)
            return std::apply(apply, arguments), 0;
        else
            return with_value(handle, std::apply(apply, arguments), [handle](const auto &value) {
                return put_output<result_of<F, A...>>(handle, value);
            });
    });
}

/* The function of a map: its captures are the map's context. */
template <class F>
F captured(tine_task *handle)
{
    std::size_t size = 0;
    const void *context = nullptr;
    if constexpr (!std::is_empty_v<F>)
        context = tine_context(handle, &size);
    return unpacker({context, size}).template next<F>();
}

/* An item of a map. Assigned: the outputs are objects in shared memory, that live. */
template <class F, class In, class Out, bool Assigned>
int run_item(tine_task *handle, const void *in, void *out)
{
    return guarded(handle, [=] {
        task self(handle);
        F function = captured<F>(handle);
        // Arrays in shared memory are where they are; its items may be changed if the range's type says so.
        In &item = *static_cast<In *>(const_cast<void *>(in));
        if constexpr (std::is_void_v<given_by<F, In &>>)
            return call(function, self, item), 0;
        else
            return with_value(handle, call(function, self, item), [out](auto &&value) {
                if constexpr (std::is_void_v<Out>)
                    static_cast<void>(value);
                else if constexpr (Assigned)
                    *static_cast<Out *>(out) = std::forward<decltype(value)>(value);
                else
                    ::new (out) Out(std::forward<decltype(value)>(value));
                return 0;
            });
    });
}

template <class F>
int run_range(tine_task *handle, std::size_t begin, std::size_t end)
{
    return guarded(handle, [=] {
        task self(handle);
        F function = captured<F>(handle);
        for (std::size_t at = begin; at < end; at++) {
            if constexpr (std::is_same_v<given_by<F, std::size_t &>, result_of<F, std::size_t &>>)
                call(function, self, at);
            else if (auto given = call(function, self, at); !given)
                return fail_with(handle, given.error());
        }
        return 0;
    });
}

/* A registered function: its input is the argument's bytes alone, so that any language can call it. */
template <auto Function, class R, class... A>
int run_registered(tine_task *handle)
{
    static_assert(sizeof...(A) <= 1, "tine: a registered function has one parameter, or none, and may have a tine::task & before it");
    return guarded(handle, [handle] {
        task self(handle);
        std::size_t size;
        const void *input = tine_input(handle, &size);
        auto function = Function;
        auto apply = [&](auto &&...each) -> int {
            if constexpr (std::is_void_v<R>)
                return call(function, self, std::move(each)...), 0;
            else
                return with_value(handle, call(function, self, std::move(each)...), [handle](const auto &value) {
                    return put_output<typename unwrapped<R>::type>(handle, value);
                });
        };
        if constexpr (sizeof...(A) == 0)
            return apply();
        else
            return (with_value(handle, decode<A>({input, size}), apply), ...);
    });
}

template <auto Function, class R, class... A>
int add_registered(const char *name, R (*)(A...))
{
    return tine_register(name, run_registered<Function, std::decay_t<R>, std::decay_t<A>...>);
}

template <auto Function, class R, class... A>
int add_registered(const char *name, R (*)(task &, A...))
{
    return tine_register(name, run_registered<Function, std::decay_t<R>, std::decay_t<A>...>);
}

} // namespace local

inline int elsewhere(tine_error &error)
{
    error.code = TINE_EFUNCTION;
    std::snprintf(error.text, sizeof error.text,
                  "the function is in another module (a shared library) than the call: wrap it in a lambda");
    return TINE_EFUNCTION;
}

/* Has post(function, name, input) send one call on its way: post's code, or why there was nothing to send. */
template <class Post, class F, class... A>
TINE_LOCAL int send(tine_error &error, Post &post, F &&function, A &&...arguments)
{
    using type = std::decay_t<F>;
    constexpr bool is_raw = is_named<type>::value || std::is_same_v<type, tine_fn>;
    if constexpr (is_raw) {
        static_assert(sizeof...(A) <= 1, "tine: a function that is called by name, or a tine_fn, has one input");
        auto post_raw = [&](bytes input) {
            if constexpr (is_named<type>::value)
                return post(static_cast<tine_fn>(nullptr), function.name.c_str(), input);
            else
                return post(function, static_cast<const char *>(nullptr), input);
        };
        auto post_one = [&](const auto &value) {
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, bytes>)
                return post_raw(value);
            else if constexpr (check_argument<T>() && can_travel<T>::value)
                return as_bytes(value, post_raw);
            else
                return TINE_EFUNCTION;
        };
        if constexpr (sizeof...(A) == 0)
            return post_raw({});
        else
            return (post_one(depart(std::forward<A>(arguments))), ...);
    } else if constexpr (std::is_pointer_v<type> && std::is_function_v<std::remove_pointer_t<type>>) {
        using sent = local::by_address<type>;
        if (!sent::is_here(function))
            return elsewhere(error);
        return send(error, post, sent::of(function), std::forward<A>(arguments)...);
    } else {
        check_submission<type, arrival<A>...>();
        if constexpr (is_plain<type> && (can_travel<arrival<A>>::value && ... && true)) {
            packet packet;
            packet.fill(static_cast<const type &>(function), depart(std::forward<A>(arguments))...);
            return post(static_cast<tine_fn>(local::run<type, arrival<A>...>), static_cast<const char *>(nullptr),
                        bytes(packet.data(), packet.size()));
        }
        return TINE_EFUNCTION;
    }
}

/* Has take(function, name, captures) have what calls with an A each begin with; captures that are nothing: the A is all. */
template <class A, class Take, class F>
TINE_LOCAL int send_captures(tine_error &error, Take &take, const F &function)
{
    using captures = std::optional<std::vector<unsigned char>>;
    if constexpr (is_named<F>::value) {
        return take(static_cast<tine_fn>(nullptr), function.name.c_str(), captures());
    } else if constexpr (std::is_same_v<F, tine_fn>) {
        return take(function, static_cast<const char *>(nullptr), captures());
    } else if constexpr (std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>) {
        using sent = local::by_address<F>;
        if (!sent::is_here(function))
            return elsewhere(error);
        return send_captures<A>(error, take, sent::of(function));
    } else {
        check_submission<F, A>();
        if constexpr (is_plain<F> && can_travel<A>::value) {
            std::vector<unsigned char> packed(packed_size(function));
            pack(function, packed.data());
            return take(static_cast<tine_fn>(local::run<F, A>), static_cast<const char *>(nullptr), captures(std::move(packed)));
        }
        return TINE_EFUNCTION;
    }
}

} // namespace detail

/**
 * Registers a function under a name, for callers in other programs and languages, before tine::init:
 *
 *     tine::register_function<resize>("resize");
 *
 * It has one parameter or none, and may have a tine::task & before it. Its input is the bytes of that parameter and its output
 * those of the result, both as their tine::codec has them: a struct as it lies in memory, a string its characters.
 *
 * An exception fails the task, with its what() as the message: tine::error with its code, std::system_error with its errno value,
 * std::invalid_argument with -EINVAL, std::domain_error -EDOM, std::out_of_range and range_error -ERANGE,
 * std::overflow_error -EOVERFLOW, std::bad_alloc -ENOMEM, any other with tine::exception_code, -EREMOTEIO. That holds for
 * every function that runs in a worker.
 *
 * Throws -EINVAL, -EEXIST, TINE_ELATE, as tine_register().
 */
template <auto Function>
TINE_LOCAL void register_function(const char *name)
{
    detail::check(detail::local::add_registered<Function>(name, Function), "tine::register_function");
}

TINE_NAMESPACE_END

#endif /* TINE_FUNCTION_HPP */
