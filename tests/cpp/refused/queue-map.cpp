// refused: messages of this type cannot be sent to another process
#include <tine.hpp>

#include <map>
auto refused(tine::pool &pool) { return tine::queue<std::map<int, int>>(pool); }
