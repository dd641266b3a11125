// refused: results of this type cannot be copied to another process
#include <tine.hpp>

auto refused(tine::pool &pool, std::vector<int> items) { return pool.map(items, [](int item) { return std::to_string(item); }); }
