// refused: this result cannot be sent to another process
#include <tine.hpp>

#include <map>
auto refused(tine::pool &pool) { return pool.submit([] { return std::map<int, int>(); }); }
