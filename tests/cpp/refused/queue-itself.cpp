// refused: this argument cannot be sent to another process
#include <tine.hpp>

auto refused(tine::pool &pool, tine::queue<int> queue) { return pool.submit([](tine::queue_ref<int>) {}, std::move(queue)); }
