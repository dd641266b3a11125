// refused: a reference or a pointer to a function means nothing in another process
#include <tine.hpp>

auto refused(tine::pool &pool, int (*call)(int)) { return pool.submit([](int (*in)(int)) { return in(1); }, call); }
