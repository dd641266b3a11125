#include <tine.hpp>

#include <numeric>

static int secret(int number) { return number + 1000; }

int in_library(int number) { return secret(number); }

int (*pointer_of_library())(int) { return secret; }

int call_by_library(tine::pool &pool, int number) { return pool.submit(secret, number).get(); }

int map_by_library(tine::pool &pool)
{
    const int numbers[] = {1, 2, 3};
    std::vector<int> mapped = pool.map(numbers, secret);
    return std::accumulate(mapped.begin(), mapped.end(), 0);
}
