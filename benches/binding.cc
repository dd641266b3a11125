/*
 * What the C++ binding adds to a task, next to C: the same work through tine.h and through tine.hpp, in one pool, in turns.
 * Medians of the rounds, the best round, and the ratio of the medians. The last row has no worker and nothing to wait for:
 * submitting, running and taking in one process, in processor time, is what a machine with other work disturbs least.
 */
#include <tine.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

namespace {

constexpr int TRIPS = 2'000, TASKS = 100'000, ITEMS = 1'000'000;

struct pair { int left, right; };

double now_ns()
{
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double processor_ns()
{
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return double(now.tv_sec) * 1e9 + double(now.tv_nsec);
}

void must(int rc)
{
    if (rc < 0) {
        std::fprintf(stderr, "binding: %s\n", tine_strerror(rc));
        std::exit(1);
    }
}

/* ---- C ---- */

int add_task(tine_task *task)
{
    auto *in = static_cast<const pair *>(tine_input(task, nullptr));
    auto *out = static_cast<int *>(tine_output(task, sizeof(int)));
    if (!out)
        return -ENOMEM;
    *out = in->left + in->right;
    return 0;
}

int add_item(tine_task *, const void *in, void *out)
{
    auto *numbers = static_cast<const pair *>(in);
    *static_cast<int *>(out) = numbers->left + numbers->right;
    return 0;
}

void take(tine_pool *pool, tine_id id, int expected)
{
    tine_result result = TINE_RESULT_INIT;
    must(tine_wait(pool, id, TINE_FOREVER, &result));
    must(result.status);
    int sum;
    std::memcpy(&sum, result.data, sizeof sum);
    if (sum != expected)
        std::exit(1);
    tine_result_release(pool, &result);
}

tine_id send(tine_pool *pool, int left, int right)
{
    pair input{left, right};
    tine_id id;
    must(tine_submit(pool, add_task, &input, sizeof input, nullptr, &id));
    return id;
}

double trip_in_c(tine::pool &pool)
{
    double start = now_ns();
    for (int i = 0; i < TRIPS; i++)
        take(pool.native_handle(), send(pool.native_handle(), i, 1), i + 1);
    return (now_ns() - start) / TRIPS;
}

double many_in_c(tine::pool &pool)
{
    static std::vector<tine_id> ids(TASKS);
    double start = now_ns();
    for (int i = 0; i < TASKS; i++)
        ids[std::size_t(i)] = send(pool.native_handle(), i, 1);
    for (int i = 0; i < TASKS; i++)
        take(pool.native_handle(), ids[std::size_t(i)], i + 1);
    return (now_ns() - start) / TASKS;
}

std::vector<pair> items(ITEMS);

double map_in_c(tine::pool &pool)
{
    double start = now_ns();
    std::vector<int> out(items.size());
    must(tine_map(pool.native_handle(), add_item, items.data(), sizeof(pair), out.data(), sizeof(int), items.size(), nullptr));
    double took = now_ns() - start;
    return out[77] == 78 ? took / ITEMS : (std::exit(1), 0);
}

/* ---- C++ ---- */

constexpr auto add = [](int left, int right) { return left + right; };

double trip_in_cpp(tine::pool &pool)
{
    double start = now_ns();
    for (int i = 0; i < TRIPS; i++)
        if (pool.submit(add, i, 1).get() != i + 1)
            std::exit(1);
    return (now_ns() - start) / TRIPS;
}

double many_in_cpp(tine::pool &pool)
{
    static std::vector<tine::future<int>> futures(TASKS);
    double start = now_ns();
    for (int i = 0; i < TASKS; i++)
        futures[std::size_t(i)] = pool.submit(add, i, 1);
    for (int i = 0; i < TASKS; i++)
        if (futures[std::size_t(i)].get() != i + 1)
            std::exit(1);
    return (now_ns() - start) / TASKS;
}

double map_in_cpp(tine::pool &pool)
{
    double start = now_ns();
    std::vector<int> out = pool.map(items, [](const pair &numbers) { return numbers.left + numbers.right; });
    double took = now_ns() - start;
    return out[77] == 78 ? took / ITEMS : (std::exit(1), 0);
}

tine::pool *no_workers;

template <double (*Trip)(tine::pool &)>
double inline_trip(tine::pool &)
{
    double start = processor_ns();
    Trip(*no_workers);
    return (processor_ns() - start) / TRIPS;
}

struct row {
    const char *name;
    double (*run[2])(tine::pool &);
    std::vector<double> took[2];
};

double median(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

} // namespace

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    const char *text = std::getenv("TINE_BENCH_ROUNDS");
    int rounds = text ? std::atoi(text) : 21;
    const char *wanted = argc > 1 ? argv[1] : ""; // the rows with this word in them
    tine::pool pool(1);
    tine::pool_options options;
    options.flags = TINE_INLINE;
    tine::pool here(options);
    no_workers = &here;
    for (std::size_t i = 0; i < items.size(); i++)
        items[i] = {int(i), 1};
    row rows[] = {{"one task, there and back", {trip_in_c, trip_in_cpp}, {}},
                  {"100,000 tasks, each", {many_in_c, many_in_cpp}, {}},
                  {"map over a million structs, each", {map_in_c, map_in_cpp}, {}},
                  {"one task, TINE_INLINE", {inline_trip<trip_in_c>, inline_trip<trip_in_cpp>}, {}}};
    for (int round = -1; round < rounds; round++) // the first warms up
        for (row &each : rows)
            for (int turn = 0; turn < 2 && std::strstr(each.name, wanted); turn++) {
                int which = (turn + round) & 1; // each is the first as often as the other
                double took = each.run[which](pool);
                if (round >= 0)
                    each.took[which].push_back(took);
            }
    std::printf("%-34s %10s %10s %8s   (ns, medians of %d; best)\n", "the C++ binding next to C", "C", "C++", "ratio", rounds);
    for (row &each : rows) {
        if (each.took[0].empty())
            continue;
        double c = median(each.took[0]), cpp = median(each.took[1]);
        std::printf("%-34s %10.1f %10.1f %8.3f   (%.1f, %.1f)\n", each.name, c, cpp, cpp / c,
                    *std::min_element(each.took[0].begin(), each.took[0].end()),
                    *std::min_element(each.took[1].begin(), each.took[1].end()));
    }
    return 0;
}
