// refused: this function gives nothing: use for_each
#include <tine.hpp>

auto refused(tine::pool &pool, std::vector<int> items) { return pool.map(items, [](int) {}); }
