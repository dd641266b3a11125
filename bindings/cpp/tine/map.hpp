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
#include "submission.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TINE_NAMESPACE_BEGIN

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

/* The output of a map whose function is called for what it does. */
struct no_output {};

template <class Range, class F, bool Named = is_named<std::decay_t<F>>::value>
struct output_of {
    using type = result_of<map_function<std::decay_t<F>>, item<Range> &>;
};
template <class Range, class F>
struct output_of<Range, F, true> {
    using type = typename submission<std::decay_t<F>>::type;
};
template <class Range, class F>
using map_output = typename output_of<Range, F>::type;

/* Whether there can be such a map; says what is wrong where there cannot. */
template <class Range, class F>
constexpr bool check_map()
{
    using type = map_function<std::decay_t<F>>;
    constexpr bool fine_range = check_range<Range>() && is_contiguous<Range>::value;
    if constexpr (is_named<std::decay_t<F>>::value) {
        return fine_range;
    } else {
        check_function<type>();
        if constexpr (fine_range && is_plain<type>) {
            check_call<type, item<Range> &>();
            return is_callable<type, item<Range> &>;
        }
        return false;
    }
}

/* A function's captures, as the map's context. */
template <class F>
TINE_LOCAL int carry(map_call &call, packet &captures, F &function)
{
    using type = std::decay_t<F>;
    if (call.options()->context) {
        call.options()->error->code = -EINVAL;
        std::snprintf(call.options()->error->text, sizeof call.options()->error->text,
                      ".context is for functions that are called by name: capture it instead");
        return -EINVAL;
    }
    if constexpr (std::is_pointer_v<type> && std::is_function_v<std::remove_pointer_t<type>>) {
        using sent = local::by_address<type>;
        if (!sent::is_here(function))
            return elsewhere(*call.options()->error);
        captures.fill(sent::of(function));
    } else if constexpr (is_plain<type>) {
        captures.fill(static_cast<const type &>(function));
    }
    call.options()->context = captures.data();
    call.options()->context_length = captures.size();
    return 0;
}

/* One map in this pool, from its options to its results. */
template <class Range, class Output, class F>
TINE_LOCAL expected<void> run_map(tine_pool *pool, const map_options &options, Range &range, Output &output, F &function)
{
    constexpr bool has_output = !std::is_same_v<std::remove_const_t<Output>, no_output>;
    constexpr bool by_name = is_named<std::decay_t<F>>::value;
    if constexpr (has_output)
        check_range<Output>();
    if constexpr (check_map<Range, F>() && (!has_output || is_contiguous<Output>::value)) {
        using in = item<Range>;
        map_call call(options);
        packet captures;
        void *out = nullptr;
        std::size_t out_stride = 0;
        tine_item_fn item_function = nullptr;
        if constexpr (has_output) {
            out = std::data(output);
            out_stride = sizeof(*std::data(output));
            if (std::size(output) != std::size(range))
                return plain(-EINVAL, "tine::pool::map_into: the ranges' lengths differ");
        }
        int rc = 0;
        if constexpr (by_name) {
            call.options()->name = function.name.c_str();
        } else {
            using type = map_function<std::decay_t<F>>;
            if constexpr (has_output) {
                using gives = result_of<type, in &>;
                using to = std::remove_reference_t<decltype(*std::data(output))>;
                static_assert(!std::is_const_v<to>, "tine: the range for the results is const");
                static_assert(std::is_convertible_v<gives, to>, "tine: the function's result is not what the range for the results holds");
                constexpr bool assigned = is_shared_range<Output>::value && !is_plain<to>;
                item_function = local::run_item<type, in, to, assigned>;
            } else {
                item_function = local::run_item<type, in, void, false>;
            }
            rc = carry(call, captures, function);
        }
        if (rc == 0)
            rc = tine_map(pool, item_function, std::data(range), sizeof(in), out, out_stride, std::size(range),
                          call.options());
        return call.finish(rc, std::size(range));
    }
    return {};
}

} // namespace detail
TINE_NAMESPACE_END

#endif /* TINE_MAP_HPP */
