// refused: make<tine::vector<T>> for several objects
#include <tine.hpp>

auto refused(tine::pool &pool) { return pool.make<int[4]>(); }
