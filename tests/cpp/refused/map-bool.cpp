// refused: a vector of bool has no addresses: return a char
#include <tine.hpp>

auto refused(tine::pool &pool, std::vector<int> items) { return pool.map(items, [](int item) { return item > 0; }); }
