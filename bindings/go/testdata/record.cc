// A C++ worker that shares a record and a queue with a Go host. The host sends what the record's layout is on its side,
// and where the queue is; a layout that is another here is refused before a record is read.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <tine.h>

namespace {

struct record {
    std::uint64_t id;
    double score;
    char name[16];
    bool flag;
    char unused[3];
    struct { std::int16_t x, y; } part;
};

// As tine.Layout has it in Go.
std::string layout()
{
    auto at = [](std::size_t offset) { return "@" + std::to_string(offset); };
    return "id:u64" + at(offsetof(record, id)) + " score:f64" + at(offsetof(record, score)) + " name:u8[16]" +
        at(offsetof(record, name)) + " flag:bool" + at(offsetof(record, flag)) + " part:{x:i16@0 y:i16@2}" +
        at(offsetof(record, part)) + " size " + std::to_string(sizeof(record));
}

struct order {
    tine_queue *in, *out;
    char layout[200];
};

// Takes records from one queue, raises their score, and puts them into another, until the first is closed.
int raise_scores(tine_task *task)
{
    std::size_t length = 0;
    const auto *wanted = static_cast<const order *>(tine_input(task, &length));
    if (length != sizeof *wanted || layout() != std::string(wanted->layout, strnlen(wanted->layout, sizeof wanted->layout)))
        return tine_fail(task, -71, "record is \"%s\" here", layout().c_str());
    record one{};
    int rc;
    while ((rc = tine_queue_get(wanted->in, TINE_FOREVER, &one, sizeof one, &length)) == 0) {
        if (length != sizeof one)
            return tine_fail(task, -71, "a message of %zu bytes", length);
        one.score += 0.5;
        std::strcpy(one.name, "from C++");
        if ((rc = tine_queue_put(wanted->out, &one, sizeof one, TINE_FOREVER)) != 0)
            return rc;
    }
    return rc == -32 ? 0 : rc;
}

[[gnu::constructor]] void on_load()
{
    tine_register("raise scores", raise_scores);
}

} // namespace
