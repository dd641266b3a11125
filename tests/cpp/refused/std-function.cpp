// refused: wrap a member function or a std::function in a lambda
#include <tine.hpp>

auto refused(tine::pool &pool, std::function<int()> call) { return pool.submit(call); }
