/*
 * A task through tine.h and the same one through tine.hpp, in instructions: submitted, run and its result taken, in a pool without workers, so
 * that all of it is in this thread. benches/instructions.sh prints it.
 */
#include "step.h"

#include <tine.hpp>

namespace {

struct pair { int left, right; };

int add_task(tine_task *task)
{
    auto *in = static_cast<const pair *>(tine_input(task, nullptr));
    auto *out = static_cast<int *>(tine_output(task, sizeof(int)));
    if (!out)
        return -ENOMEM;
    *out = in->left + in->right;
    return 0;
}

constexpr auto add = [](int left, int right) { return left + right; };

int sum;

void in_c(tine_pool *pool, int number)
{
    pair input{number, 1};
    tine_id id;
    tine_result result = TINE_RESULT_INIT;
    check(tine_submit(pool, add_task, &input, sizeof input, nullptr, &id), "tine_submit");
    check(tine_wait(pool, id, TINE_FOREVER, &result), "tine_wait");
    check(result.status, "the task");
    memcpy(&sum, result.data, sizeof sum);
    tine_result_release(pool, &result);
}

void in_cpp(tine::pool &pool, int number)
{
    sum = pool.submit(add, number, 1).get();
}

template <class F>
void counts(row *r, F call)
{
    for (int round = 0; round <= ROUNDS; round++) {
        step_begin();
        call(round);
        step_end();
        if (round > 0) // the first has what is done once
            count(r, counted, 1);
    }
}

} // namespace

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    prepare();
    tine::pool_options options;
    options.flags = TINE_INLINE;
    tine::pool pool(options);
    row c = {}, cpp = {};
    counts(&c, [&](int number) { in_c(pool.native_handle(), number); });
    counts(&cpp, [&](int number) { in_cpp(pool, number); });
    if (sum != ROUNDS + 1)
        return 1;
    print("C", &c);
    print("C++", &cpp);
    return 0;
}
