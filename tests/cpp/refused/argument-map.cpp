// refused: this argument cannot be sent to another process
#include <tine.hpp>

#include <map>
auto refused(tine::pool &pool, std::map<int, int> map) { return pool.submit([](std::map<int, int> in) { return in.size(); }, map); }
