// refused: this function cannot be sent to another process
#include <tine.hpp>

struct thing { int call() { return 1; } };
auto refused(tine::pool &pool, thing it) { return pool.submit(&thing::call, it); }
