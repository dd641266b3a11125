// flags: -fvisibility=hidden
// A container in shared memory that a task's library changes, whose own copy of the binding is hidden from the program's: it allocates
// in the task's heap all the same, and so does a thread that the task starts.
#include "check.hpp"

#include <thread>

void append_in_library(tine::vector<int> &to, int number);
bool same_in_library(const tine::allocator<int> &left, const tine::allocator<int> &right);

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    with_all_starts(2, [](tine::pool &pool) {
        auto numbers = pool.make<tine::vector<int>>();
        auto append = [](tine::vector<int> *to, int number) { append_in_library(*to, number); };
        for (int i = 0; i < 200; i++)
            pool.submit(append, numbers.get(), i).get();
        append_in_library(*numbers, 200); // and in the host
        CHECK(numbers->size() == 201 && pool.heap().contains(numbers->data()));
        for (int i = 0; i <= 200; i++)
            CHECK_EQ((*numbers)[std::size_t(i)], i);
        CHECK(same_in_library(numbers->get_allocator(), pool.allocator()));
        CHECK_EQ(pool.submit([](tine::vector<int> *to) {
                         std::thread([to] { to->resize(5000, 3); }).join();
                         return to->back();
                     }, numbers.get()).get(), 3);
    });
    return 0;
}
