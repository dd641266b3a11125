/* thumbnails IN_DIR OUT_DIR [forkserver|spawn|fork]: shrinks every JPEG and PNG of a directory, on all cores.
 *
 * What examples-c/thumbnails.c does, in C++, with the same code for images, and with the same files to come out of it. */
#include <tine.hpp>

#include <filesystem>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
#include "files.h"
#include "image.h"
}

// A path as a tine::string lies in the pool's heap, where a worker reads it.
struct job {
    tine::string in, out;
};

// In a worker. What it throws becomes the item's message.
static std::size_t shrink(const job &job)
{
    constexpr std::size_t width = 256;
    image picture;
    char reason[IMAGE_REASON];
    std::size_t bytes = 0;
    if (image_read(&picture, job.in.c_str(), width, reason))
        throw std::invalid_argument(reason);
    bool done = image_shrink(&picture, width, reason) == 0 && image_write(&picture, job.out.c_str(), 85, &bytes, reason) == 0;
    image_free(&picture);
    return done ? bytes : throw std::invalid_argument(reason);
}

struct owned_files : files {
    owned_files() : files{} {}
    owned_files(const owned_files &) = delete;
    owned_files &operator=(const owned_files &) = delete;
    ~owned_files() { files_free(*this); }
};

static int run(const std::string &in, const std::string &out, int start)
{
    owned_files list;
    std::filesystem::create_directories(out);
    if (files_list(&list, in.c_str(), out.c_str()))
        return 2;
    tine::pool_options options;
    options.start = start;
    tine::pool pool(options);
    tine::vector<job> jobs(pool.allocator());
    for (std::size_t i = 0; i < list.count; i++)
        jobs.push_back({tine::string(list.at[i].in, pool.allocator()), tine::string(list.at[i].out, pool.allocator())});

    tine::map_options each;
    each.chunk = 1; // a picture takes milliseconds: hand out one at a time, so that the workers end together
    each.progress = [](std::size_t done, std::size_t total) { tine_progress_bar(done, total, nullptr); };
    std::vector<std::size_t> sizes(jobs.size());
    auto done = pool.map_into(std::nothrow, each, jobs, sizes, shrink);
    if (!done && !done.error().items)
        done.value(); // not of some files, but of all: throws
    if (!done)
        for (const tine::item_failure &failed : *done.error().items)
            std::cout << list.at[failed.item].name << "  " << failed.why.message << '\n';
    return done ? 0 : 1;
}

int main(int argc, char **argv)
{
    tine::init(argc, argv); // returns here; never returns in a worker
    const std::map<std::string, int> starts{
        {"forkserver", TINE_START_FORKSERVER}, {"spawn", TINE_START_SPAWN}, {"fork", TINE_START_FORK}};
    auto start = starts.find(argc == 4 ? argv[3] : "forkserver");
    if (argc < 3 || argc > 4 || start == starts.end())
        return std::cerr << "usage: thumbnails IN_DIR OUT_DIR [forkserver|spawn|fork]\n", 2;
    try {
        return run(argv[1], argv[2], start->second);
    } catch (const std::exception &wrong) {
        return std::cerr << "thumbnails: " << wrong.what() << '\n', 2;
    }
}
