// refused: Return a std::string
#include <tine.hpp>

auto refused(tine::pool &pool) { return pool.submit([]() -> const char * { return "text"; }); }
