// refused: this function cannot be sent to another process. Send a function, or a lambda that captures nothing
#include <tine.hpp>

auto refused(tine::pool &pool, std::string text) { return pool.submit([text] { return text; }); }
