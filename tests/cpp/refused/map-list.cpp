// refused: a map needs a contiguous range
#include <tine.hpp>

#include <list>
auto refused(tine::pool &pool, std::list<int> items) { return pool.map(items, [](int item) { return item; }); }
