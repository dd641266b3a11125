// refused: the function cannot be called with these arguments
#include <tine.hpp>

auto refused(tine::pool &pool, std::vector<int> items) { return pool.map(items, [](std::string item) { return item.size(); }); }
