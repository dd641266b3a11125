// refused: tine: the elements of this span are not trivially copyable: their bytes mean nothing elsewhere
// flags: -std=c++20
#include <tine.hpp>

auto refused(std::span<std::string> names) { return tine::bytes(names); }
