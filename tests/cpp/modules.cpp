// A program and a library that both use the binding: functions travel from where they are, and advice comes where they can't.
// modules_library.cc is that library; both export what they have, so that the loader may take the one's for the other's.
#include "check.hpp"

#include <dlfcn.h>

int in_library(int number);
int call_by_library(tine::pool &pool, int number);
int map_by_library(tine::pool &pool);
int (*pointer_of_library())(int);

static int twice(int number) { return 2 * number; }

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    with_all_starts(2, [](tine::pool &pool) {
        // The same type of function, in both.
        CHECK_EQ(pool.submit(twice, 21).get(), 42);
        CHECK_EQ(call_by_library(pool, 5), 5 + 1000);
        CHECK_EQ(map_by_library(pool), 1001 + 1002 + 1003);
        CHECK_EQ(pool.submit([](int number) { return in_library(number); }, 1).get(), 1001);
        auto refused = pool.submit(std::nothrow, pointer_of_library(), 1);
        CHECK(!refused && refused.error().code == TINE_EFUNCTION);
        CHECK(refused.error().message.find("wrap it in a lambda") != std::string::npos);
        const int numbers[] = {1};
        CHECK_THROWS(pool.map(numbers, pointer_of_library()), TINE_EFUNCTION);
        CHECK_THROWS(pool.for_each(0, 1, reinterpret_cast<void (*)(std::size_t)>(dlsym(RTLD_DEFAULT, "puts"))), TINE_EFUNCTION);
    });
    return 0;
}
