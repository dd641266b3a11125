/* A heap of one's own met by who is not like its maker: another layout of it or of the segment, another clock, a copy of its bytes. */
#include "family.h"
#include <sched.h>
#include <sys/mman.h>

#define SIZE ((size_t)1 << 20)
/* Where the words are that say what it is, by the file's and by the heap's first byte. */
#define SEGMENT_VERSION_AT 8
#define SEGMENT_LAYOUT_AT 16
#define HEAP_MARK_AT 8
#define EXTENT ((uintptr_t)65536)

static tine_segment *new_segment(tine_heap **heap)
{
    tine_segment *s;
    CHECK_RC(tine_segment_create(SIZE, NULL, &s), 0);
    if (heap) {
        CHECK_RC(tine_heap_create(s, NULL, heap), 0);
    }
    return s;
}

static int exit_status(pid_t pid)
{
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* Of another version, whichever of its words says so: refused by name, and whole again when the word is. */
static void another_layout(void)
{
    tine_error error = TINE_ERROR_INIT;
    tine_segment_options options = TINE_SEGMENT_OPTIONS_INIT;
    tine_heap_options heap_options = TINE_HEAP_OPTIONS_INIT;
    tine_heap *heap, *other = NULL;
    tine_segment *s = new_segment(&heap), *again = NULL;
    static const off_t places[] = {SEGMENT_VERSION_AT, SEGMENT_LAYOUT_AT};
    int fd = tine_segment_fd(s);
    options.error = heap_options.error = &error;
    options.flags = TINE_SEGMENT_ANY_ADDRESS;
    for (int i = 0; i < 2; i++) {
        uint64_t word, next;
        CHECK(pread(fd, &word, sizeof word, places[i]) == sizeof word);
        next = word + 1;
        CHECK(pwrite(fd, &next, sizeof next, places[i]) == sizeof next);
        CHECK_RC(tine_segment_attach(fd, &options, &again), TINE_EVERSION);
        CHECK(again == NULL && error.code == TINE_EVERSION && strstr(error.text, "version"));
        CHECK(pwrite(fd, &word, sizeof word, places[i]) == sizeof word);
    }
    CHECK_RC(tine_segment_attach(fd, &options, &again), 0);
    CHECK_RC(tine_segment_close(again), 0);
    uintptr_t start = ((uintptr_t)tine_segment_address(s) + EXTENT - 1) / EXTENT * EXTENT;
    unsigned char *layout = (unsigned char *)(start + HEAP_MARK_AT);
    ++*layout;
    CHECK_RC(tine_heap_attach(s, &heap_options, &other), TINE_EVERSION);
    CHECK(other == NULL && strstr(error.text, "layout"));
    --*layout;
    CHECK_RC(tine_heap_attach(s, &heap_options, &other), 0);
    CHECK_RC(tine_heap_close(other), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

/* Bytes that were copied out of a segment and into another are no heap there: its pointers mean the first one's address. */
static void a_copy(void)
{
    tine_heap *heap, *other = NULL;
    tine_segment *s = new_segment(&heap), *copy = new_segment(NULL);
    void *block = tine_heap_alloc(heap, 100);
    CHECK(block && tine_segment_address(s) != tine_segment_address(copy));
    memcpy(tine_segment_address(copy), tine_segment_address(s), SIZE);
    CHECK_RC(tine_heap_attach(copy, NULL, &other), -EINVAL);
    CHECK_RC(tine_heap_create(copy, NULL, &other), -EEXIST);
    CHECK(other == NULL);
    CHECK_RC(tine_heap_free(heap, block), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(copy), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

struct met {
    int pid, alive, blocks;
};

static int note(const tine_heap_usage *usage, void *user)
{
    struct met *met = (struct met *)user;
    if (usage->pid == met->pid) {
        met->alive = usage->alive;
        met->blocks = (int)usage->blocks;
    }
    return 0;
}

/* A process whose clocks say something else has the heap open: it lives, and its blocks stay, whoever looks; and it finds the others
 * alive as well. When it dies that is seen. */
static void another_clock(void)
{
    int told[2], go[2];
    char byte = 0;
    tine_heap *heap;
    tine_segment *s = new_segment(&heap);
    void *mine = tine_heap_alloc(heap, 500);
    CHECK(mine && pipe2(told, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
    pid_t outer = fork();
    CHECK(outer >= 0);
    if (outer == 0) {
        static const char offsets[] = "monotonic 86400 0\nboottime 864000 0\n";
        int fd;
        if ((unshare(CLONE_NEWTIME) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWTIME) != 0) ||
            (fd = open("/proc/self/timens_offsets", O_WRONLY)) < 0 ||
            write(fd, offsets, sizeof offsets - 1) != sizeof offsets - 1) {
            _exit(77);
        }
        pid_t inner = fork();
        CHECK(inner >= 0);
        if (inner > 0) {
            _exit(exit_status(inner));
        }
        tine_heap *theirs;
        struct met host = {0, -1, -1};
        CHECK_RC(tine_heap_attach(s, NULL, &theirs), 0);
        CHECK(tine_heap_alloc(theirs, 1000) && tine_heap_alloc(theirs, 200000));
        int pid = getpid();
        CHECK(write(told[1], &pid, sizeof pid) == sizeof pid);
        CHECK(read(go[0], &host.pid, sizeof host.pid) == sizeof host.pid);
        CHECK(tine_heap_processes(theirs, note, &host) >= 0);
        CHECK(host.alive == 1 && host.blocks == 1);
        CHECK_RC(tine_heap_release_process(theirs, host.pid), -EBUSY);
        CHECK(write(told[1], &byte, 1) == 1);
        CHECK(read(go[0], &byte, 1) == 1);
        _exit(0);
    }
    struct met there = {0, -1, -1};
    close(told[1]);
    if (read(told[0], &there.pid, sizeof there.pid) != sizeof there.pid) {
        CHECK_EQ(exit_status(outer), 77);
        printf("not tested: a heap in two time namespaces: none can be made here\n");
    } else {
        int me = getpid();
        CHECK(tine_heap_processes(heap, note, &there) >= 0);
        CHECK(there.alive == 1 && there.blocks == 2);
        CHECK_RC(tine_heap_release_process(heap, there.pid), -EBUSY);
        CHECK(write(go[1], &me, sizeof me) == sizeof me);
        CHECK(read(told[0], &byte, 1) == 1 && write(go[1], &byte, 1) == 1);
        CHECK_EQ(exit_status(outer), 0);
        CHECK_RC(tine_heap_release_process(heap, there.pid), 2);
    }
    close(told[0]);
    close(go[0]);
    close(go[1]);
    CHECK_RC(tine_heap_free(heap, mine), 0);
    CHECK_RC(tine_heap_close(heap), 0);
    CHECK_RC(tine_segment_close(s), 0);
}

int main(void)
{
    another_layout();
    a_copy();
    another_clock();
    return 0;
}
