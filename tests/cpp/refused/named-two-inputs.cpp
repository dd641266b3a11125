// refused: a function that is called by name, or a tine_fn, has one input
#include <tine.hpp>

auto refused(tine::pool &pool) { return pool.submit(tine::named("add"), 1, 2); }
