/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * tine for C++: what maps and loops of a pool are made of. pool.hpp has the calls.
 */
#ifndef TINE_MAP_HPP
#define TINE_MAP_HPP

#include "codec.hpp"
#include "error.hpp"
#include "function.hpp"
#include "future.hpp"
#include "memory.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tine {

/**
 * What a map or loop can be told: tine.h's tine_map_options, at its defaults, with callbacks of C++'s kind, which run on the
 * thread that called. One that throws is not called again, and its exception leaves the map when all is done. .context is
 * for functions that are called by name; others have their captures.
 */
struct map_options : tine_map_options {
    map_options() : tine_map_options TINE_MAP_OPTIONS_INIT {}
    /** Called for each item that fails. */
    std::function<void(std::size_t item, const failure &why)> on_failure;
    /** Called now and then, and at the end, with how many items have been dealt with. */
    std::function<void(std::size_t done, std::size_t total)> progress;
};

namespace detail {

template <class T>
struct is_shared_allocator : std::false_type {};
template <class T>
struct is_shared_allocator<tine::allocator<T>> : std::true_type {};

/* Containers in shared memory: their elements are used where they are, so these may be of any type. */
template <class Range, class = void>
struct is_shared_range : std::false_type {};
template <class Range>
struct is_shared_range<Range, std::void_t<typename Range::allocator_type>>
    : is_shared_allocator<typename Range::allocator_type> {};

template <class Range, class = void>
struct is_contiguous : std::false_type {};
template <class Range>
struct is_contiguous<
    Range, std::void_t<decltype(*std::data(std::declval<Range &>())), decltype(std::size(std::declval<Range &>()))>>
    : std::true_type {};

template <bool, class Range>
struct item_of {
    using type = int;
};
template <class Range>
struct item_of<true, Range> {
    using element = std::remove_reference_t<decltype(*std::data(std::declval<Range &>()))>;
    // Workers get copies of what isn't shared, so that changing one would change nothing.
    using type = std::conditional_t<is_shared_range<std::remove_const_t<Range>>::value, element, const element>;
};
template <class Range>
using item = typename item_of<is_contiguous<Range>::value, Range>::type;

template <class Range>
constexpr bool check_range()
{
    static_assert(is_contiguous<Range>::value,
                  "tine: a map needs a contiguous range: a std::vector, std::array, tine::vector, std::span or an array");
    if constexpr (is_contiguous<Range>::value && !is_shared_range<std::remove_const_t<Range>>::value) {
        using type = std::remove_const_t<item<Range>>;
        static_assert(is_plain<type>, "tine: items of this type cannot be copied to another process. Put them into a tine::vector, which "
                                      "lies in the pool's heap, or submit them one by one");
        static_assert(alignof(type) <= ALIGNMENT, "tine: items with an alignment above 16 must lie in a tine::vector");
    }
    return true;
}

template <class F>
using map_function = std::conditional_t<std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>,
                                        local::by_address<F>, F>;

/* The calling side of a map: failures are gathered, callbacks are told, exceptions wait for the end. */
class map_call {
public:
    explicit map_call(const map_options &options) : options_(options), call_(options)
    {
        if (!call_.error)
            call_.error = report_.place();
        call_.user = this;
        call_.on_failure = [](const tine_result *result, std::size_t item, void *user) {
            static_cast<map_call *>(user)->fail(*result, item);
        };
        if (options.progress)
            call_.progress = [](std::size_t done, std::size_t total, void *user) {
                static_cast<map_call *>(user)->tell(done, total);
            };
    }
    map_call(const map_call &) = delete;
    map_call &operator=(const map_call &) = delete;

    tine_map_options *options() noexcept { return &call_; }

    expected<void> finish(int rc, std::size_t count)
    {
        if (thrown_)
            std::rethrow_exception(thrown_);
        if (rc == 0)
            return {};
        if (rc != TINE_EITEMS)
            return report_.take(rc);
        std::sort(failed_.begin(), failed_.end(),
                  [](const item_failure &left, const item_failure &right) { return left.item < right.item; });
        failure what;
        what.code = rc;
        what.message = std::to_string(failed_.size()) + " of " + std::to_string(count) + " items failed";
        if (!failed_.empty())
            what.message += "; item " + std::to_string(failed_.front().item) + ": " + failed_.front().why.message;
        what.items = std::make_shared<const std::vector<item_failure>>(std::move(failed_));
        return what;
    }

private:
    template <class Body>
    void keep(Body &&body) noexcept
    {
        if (thrown_)
            return;
        TINE_TRY
        {
            body();
        }
        TINE_CATCH_ALL
        {
            thrown_ = std::current_exception();
        }
    }

    void fail(const tine_result &result, std::size_t item) noexcept
    {
        keep([&] {
            failed_.push_back({item, failure_of(result)});
            if (options_.on_failure)
                options_.on_failure(item, failed_.back().why);
        });
    }

    void tell(std::size_t done, std::size_t total) noexcept
    {
        keep([&] { options_.progress(done, total); });
    }

    const map_options &options_;
    tine_map_options call_;
    report report_;
    std::vector<item_failure> failed_;
    std::exception_ptr thrown_;
};

} // namespace detail
} // namespace tine

#endif /* TINE_MAP_HPP */
