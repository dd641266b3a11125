// refused: this function cannot be sent to another process
#include <tine.hpp>

void refused(tine::pool &pool, std::string text) { pool.for_each(0, 10, [text](std::size_t) {}); }
