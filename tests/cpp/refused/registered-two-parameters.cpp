// refused: a registered function has one parameter
#include <tine.hpp>

static int add(int left, int right) { return left + right; }
void refused() { tine::register_function<add>("add"); }
