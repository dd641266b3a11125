// refused: this argument cannot be sent to another process
#include <tine.hpp>

auto refused(tine::pool &pool) { return pool.submit([](std::unique_ptr<int>) {}, std::make_unique<int>()); }
