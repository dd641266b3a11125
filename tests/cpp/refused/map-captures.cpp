// refused: this function cannot be sent to another process
#include <tine.hpp>

auto refused(tine::pool &pool, std::vector<int> items, std::string text) { return pool.map(items, [text](int item) { return item; }); }
