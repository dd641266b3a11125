/* The progress bar: a line that is drawn over on a terminal, a few plain lines elsewhere. */
#include "family.h"
#include <sys/ioctl.h>

static int nothing(tine_task *task, const void *in, void *out)
{
    (void)out;
    return *(const int *)in % 1000 == 7 ? tine_fail(task, -EDOM, "seven") : 0;
}

static void on_failure(const tine_result *result, size_t item, void *user)
{
    tine_progress *bar = (tine_progress *)user;
    CHECK_EQ(result->status, -EDOM);
    CHECK_EQ(item % 1000, 7);
    bar->failed++;
}

static void map_with(tine_pool *pool, tine_progress *bar)
{
    enum { COUNT = 20000 };
    static int in[COUNT];
    tine_map_options options = TINE_MAP_OPTIONS_INIT;
    options.progress = tine_progress_bar;
    options.on_failure = on_failure;
    options.user = bar;
    for (int i = 0; i < COUNT; i++) {
        in[i] = i;
    }
    CHECK_EQ(tine_map(pool, nothing, in, sizeof in[0], NULL, 0, COUNT, &options), TINE_EITEMS);
    CHECK_EQ(bar->failed, 20);
}

static int count_of(const char *text, const char *what)
{
    int count = 0;
    while ((text = strstr(text, what))) {
        count++;
        text++;
    }
    return count;
}

static void read_all(int fd, char *text, size_t size)
{
    size_t used = 0;
    ssize_t got;
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while ((got = read(fd, text + used, size - 1 - used)) > 0) {
        used += (size_t)got;
    }
    text[used] = 0;
}

int main(int argc, char **argv)
{
    tine_init(argc, argv);
    static char text[100000];
    tine_pool *pool;
    CHECK_EQ(tine_pool_create(NULL, &pool), 0);

    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    tine_progress bar = TINE_PROGRESS_INIT;
    bar.label = "items";
    bar.fd = ends[1];
    map_with(pool, &bar);
    tine_progress_bar(20000, 20000, &bar); /* it has been shown */
    read_all(ends[0], text, sizeof text);
    CHECK(count_of(text, "\n") >= 1 && count_of(text, "\n") <= 4);
    CHECK_EQ(count_of(text, "100%"), 1);
    CHECK(strstr(text, "items: 100% 20000 of 20000"));
    CHECK(strstr(text, "20 failed\n"));
    CHECK_EQ(count_of(text, "\r"), 0);

    /* Each quarter once, by hand. */
    tine_progress quarters = TINE_PROGRESS_INIT;
    quarters.fd = ends[1];
    for (size_t i = 0; i <= 100; i++) {
        tine_progress_bar(i, 100, &quarters);
    }
    read_all(ends[0], text, sizeof text);
    CHECK_EQ(count_of(text, "\n"), 4);
    CHECK(strstr(text, " 25% 25 of 100") && strstr(text, " 50% 50 of 100") && strstr(text, " 75% 75 of 100"));
    tine_progress none = TINE_PROGRESS_INIT;
    none.fd = ends[1];
    tine_progress_bar(0, 0, &none);
    read_all(ends[0], text, sizeof text);
    CHECK_STR(text, "100% 0 of 0\n");
    none.size = 3; /* no such struct */
    tine_progress_bar(1, 2, &none);
    tine_progress closed = TINE_PROGRESS_INIT;
    closed.fd = 9999;
    tine_progress_bar(1, 1, &closed);

    int master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    CHECK(slave >= 0);
    struct winsize size = {24, 60, 0, 0};
    CHECK_EQ(ioctl(slave, TIOCSWINSZ, &size), 0);
    tine_progress drawn = TINE_PROGRESS_INIT;
    drawn.label = "items";
    drawn.fd = slave;
    map_with(pool, &drawn);
    read_all(master, text, sizeof text);
    CHECK(count_of(text, "\r") >= 2); /* the first and the last, and the terminal's own before the newline */
    CHECK_EQ(count_of(text, "\n"), 1);
    CHECK(strstr(text, "100% 20000 of 20000"));
    int longest = 0, column = 0;
    for (const char *at = text; *at; at++) {
        column = *at == '\r' || *at == '\n' ? 0 : column + 1;
        longest = column > longest ? column : longest;
    }
    CHECK(longest <= 59 + 3); /* and the code that clears the rest of the line */
    tine_pool_destroy(pool);
    return 0;
}
