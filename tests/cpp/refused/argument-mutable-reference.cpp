// refused: the function cannot be called with these arguments
#include <tine.hpp>

auto refused(tine::pool &pool, int number) { return pool.submit([](int &in) { in++; }, number); }
