#include <tine.hpp>

#include <iostream>

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    tine::pool pool(1);
    std::cout << pool.submit([](int left, int right) { return left + right; }, 19, 23).get() << '\n';
}
