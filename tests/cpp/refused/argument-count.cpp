// refused: the function cannot be called with these arguments
#include <tine.hpp>

auto refused(tine::pool &pool) { return pool.submit([](int) {}, 1, 2); }
