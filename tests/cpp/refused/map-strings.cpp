// refused: items of this type cannot be copied to another process
#include <tine.hpp>

auto refused(tine::pool &pool, std::vector<std::string> items) { return pool.map(items, [](const std::string &item) { return item.size(); }); }
