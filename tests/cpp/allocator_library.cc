// Of allocator.cpp: its copy of the binding is its own.
#include <tine.hpp>

__attribute__((visibility("default"))) void append_in_library(tine::vector<int> &to, int number);
void append_in_library(tine::vector<int> &to, int number)
{
    to.push_back(number);
}

__attribute__((visibility("default"))) bool same_in_library(const tine::allocator<int> &left, const tine::allocator<int> &right);
bool same_in_library(const tine::allocator<int> &left, const tine::allocator<int> &right)
{
    return left == right;
}
