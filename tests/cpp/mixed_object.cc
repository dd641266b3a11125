// flags: -fno-exceptions
// Of mixed.cpp: files of the two kinds hand each other C's handles.
#include <tine.hpp>

#ifdef __cpp_exceptions
#error "this file is compiled with -fno-exceptions"
#endif

int twice_without_exceptions(tine_pool *pool, int number);
int code_without_exceptions(tine_pool *pool, int number);
void aborts_without_exceptions(tine_pool *pool);

static int twice(int number) { return 2 * number; }

int twice_without_exceptions(tine_pool *pool, int number)
{
    return tine::pool::from(pool).submit(twice, number).get();
}

int code_without_exceptions(tine_pool *pool, int number)
{
    auto odd = [](int value) { return value % 2 == 0 ? tine::expected<int>(value) : tine::error(-EDOM, "odd").failure(); };
    auto task = tine::pool::from(pool).submit(std::nothrow, odd, number);
    auto end = task->get(std::nothrow);
    return end ? *end : end.error().code;
}

void aborts_without_exceptions(tine_pool *pool)
{
    (void)tine::pool::from(pool).submit(twice, 1); // a child of fork() may not
}
