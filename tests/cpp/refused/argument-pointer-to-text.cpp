// refused: a pointer to characters means nothing in another process. Give a std::string
#include <tine.hpp>

auto refused(tine::pool &pool, const char *text) { return pool.submit([](std::string in) { return in; }, text); }
