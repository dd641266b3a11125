// refused: a reference or a pointer to a function means nothing in another process
#include <tine.hpp>

auto refused(tine::pool &pool, int &number) { return pool.submit([](int &in) { in++; }, std::ref(number)); }
