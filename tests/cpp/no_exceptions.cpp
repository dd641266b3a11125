// flags: -fno-exceptions -fno-rtti
// The binding without exceptions: everything has a way that returns what went wrong, and a call that would throw says so and aborts.
#include "check.hpp"

#include <sys/wait.h>
#include <unistd.h>

#ifdef __cpp_exceptions
#error "this test is compiled with -fno-exceptions"
#endif

static tine::expected<int> root_of(int number)
{
    for (int root = 0; root * root <= number; root++)
        if (root * root == number)
            return root;
    return tine::error(-EDOM, std::to_string(number) + " has no root").failure();
}

static void all(tine::pool &pool)
{
    auto good = pool.submit(std::nothrow, root_of, 49), bad = pool.submit(std::nothrow, root_of, 50);
    auto died = pool.submit(std::nothrow, [] { std::raise(SIGSEGV); });
    CHECK(good && bad && died);
    CHECK_EQ(good->get(std::nothrow).value_or(0), 7);
    auto why = bad->get(std::nothrow);
    CHECK(!why && why.error().code == -EDOM && why.error().message == "50 has no root");
    auto death = died->get(std::nothrow);
    CHECK(!death && death.error().code == TINE_EDIED && death.error().death->signal == SIGSEGV);

    const int squares[] = {1, 4, 9, 10};
    int roots[] = {0, 0, 0, 0};
    auto mapped = pool.map_into(std::nothrow, tine::map_options(), squares, roots, root_of);
    CHECK(!mapped && mapped.error().items->size() == 1 && roots[2] == 3);

    auto object = pool.make<tine::vector<int>>();
    CHECK(pool.submit(std::nothrow, [](tine::vector<int> *to) { to->assign(1000, 7); }, object.get())->get(std::nothrow));
    CHECK(object->size() == 1000 && object->back() == 7);
    tine::queue<std::string> queue(pool, 8);
    CHECK(queue.put(std::nothrow, "text") && *queue.get(std::nothrow) == "text");
    CHECK(queue.get(std::nothrow, std::chrono::milliseconds(1)).error().code == -ETIMEDOUT);
    tine::queue<int> numbers(pool, 8);
    CHECK_RC(tine_queue_put(numbers.native_handle(), "xy", 2, 0), 0);
    CHECK(numbers.get(std::nothrow).error().code == -EBADMSG);

    auto stream = pool.stream<int>(std::nothrow, tine::stream_options(), root_of);
    CHECK(stream && stream->put(std::nothrow, 16));
    stream->end();
    CHECK_EQ(stream->next(std::nothrow)->value().value(), 4);
    CHECK(!*stream->next(std::nothrow));

    auto ends = tine::channel::create(std::nothrow);
    CHECK(ends && ends->first.send(std::nothrow, 'c'));
    CHECK(ends->second.receive<int>(std::nothrow).error().code == -EBADMSG);
    auto child = tine::start(std::nothrow, tine::process_options(), root_of, 81);
    CHECK(child && child->get(std::nothrow).value_or(0) == 9);
    CHECK(!tine::segment::create(std::nothrow, 0));
}

// The call that has no other way ends its process with a text.
static void aborts(tine::pool &pool)
{
    int said[2];
    CHECK_EQ(pipe(said), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(said[1], 2);
        (void)pool.submit(root_of, 1); // a child of fork() may not
        _exit(0);
    }
    close(said[1]);
    char text[400] = "";
    ssize_t length = read(said[0], text, sizeof text - 1);
    int status;
    CHECK(length > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(std::string(text).find("without exceptions this call ends the process: ") != std::string::npos);
    close(said[0]);
}

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    tine::pool pool(2);
    all(pool);
    aborts(pool);
    return 0;
}
