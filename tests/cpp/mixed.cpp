// A program of which one file, mixed_object.cc, is compiled without exceptions: whichever the linker sees first, each file does as its own
// compiler was told.
#include "check.hpp"

#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

int twice_without_exceptions(tine_pool *pool, int number);
int code_without_exceptions(tine_pool *pool, int number);
void aborts_without_exceptions(tine_pool *pool);

static int only_even(int number)
{
    if (number % 2 != 0)
        throw std::domain_error(std::to_string(number) + " is odd");
    return 2 * number;
}

int main(int argc, char **argv)
{
    tine::init(argc, argv);
    tine::pool pool(2);
    // The two files send the same types, by the same calls.
    CHECK_EQ(pool.submit(only_even, 2).get(), 4);
    CHECK_THROWS(pool.submit(only_even, 3).get(), -EDOM);
    CHECK_THROWS(pool.submit(std::nothrow, only_even, 3)->get(std::nothrow).value(), -EDOM);
    CHECK_THROWS((void)pool.submit(tine::named<int>("no such name"), 1), TINE_ENAME);
    CHECK_EQ(twice_without_exceptions(pool.native_handle(), 21), 42);
    CHECK_EQ(code_without_exceptions(pool.native_handle(), 5), -EDOM);

    // And the other one's calls that would throw say so, and abort.
    int said[2];
    CHECK_EQ(pipe(said), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(said[1], 2);
        aborts_without_exceptions(pool.native_handle());
        _exit(0);
    }
    close(said[1]);
    char text[400] = "";
    ssize_t length = read(said[0], text, sizeof text - 1);
    int status;
    CHECK(length > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(std::string(text).find("without exceptions this call ends the process: ") != std::string::npos);
    close(said[0]);
    return 0;
}
