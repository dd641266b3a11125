/* For tests in which the host's malloc is the program's own and refuses. In each run one allocation of a scenario fails, or all from
 * that one on, in whatever thread: so every place where tine or the C library allocates for it is met. A run is a process of its own, as
 * what is made once for a process can fail only once.
 *
 *   PROGRAM              a sample of the places; TINE_STORM=1: all of them
 *   PROGRAM SCENARIO      one of them
 *   PROGRAM SCENARIO one|all NUMBER      one run, in this very process */
#ifndef MEMORY_SHORT_H
#define MEMORY_SHORT_H

#include "family.h"

#ifdef __cplusplus
#define NO_THROW noexcept
extern "C" {
#else
#define NO_THROW
#endif
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void *malloc(size_t size) NO_THROW;
void *calloc(size_t count, size_t size) NO_THROW;
void *realloc(void *block, size_t size) NO_THROW;
void *aligned_alloc(size_t alignment, size_t size) NO_THROW;
int posix_memalign(void **block, size_t alignment, size_t size) NO_THROW;
#ifdef __cplusplus
}
#endif

enum mode { ONE, ALL };

static struct {
    pid_t host; /* 0 while nothing is to fail */
    enum mode mode;
    long at, made;
} plan;

static int is_refused(void)
{
    if (__atomic_load_n(&plan.host, __ATOMIC_SEQ_CST) != getpid()) {
        return 0;
    }
    long number = __atomic_fetch_add(&plan.made, 1, __ATOMIC_SEQ_CST);
    return plan.mode == ONE ? number == plan.at : number >= plan.at;
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size) NO_THROW
{
    return is_refused() ? no_memory() : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) NO_THROW
{
    return is_refused() ? no_memory() : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) NO_THROW
{
    return is_refused() ? no_memory() : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size) NO_THROW
{
    return is_refused() ? no_memory() : __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) NO_THROW
{
    void *made = is_refused() ? NULL : __libc_memalign(alignment, size);
    if (!made) {
        return ENOMEM;
    }
    *block = made;
    return 0;
}

static void begin_to_refuse(void)
{
    __atomic_store_n(&plan.host, getpid(), __ATOMIC_SEQ_CST);
}

static void end_to_refuse(void)
{
    __atomic_store_n(&plan.host, 0, __ATOMIC_SEQ_CST);
}

/* What a call may say that asks for something: there is no memory, or none for a thread of tine's. */
#define CHECK_SHORT(call)                                                                    \
    do {                                                                                     \
        int rc__ = (call);                                                                   \
        if (rc__ != 0 && rc__ != -ENOMEM && rc__ != -EAGAIN) {                               \
            end_to_refuse();                                                                 \
            CHECK_RC(rc__, -ENOMEM);                                                         \
        }                                                                                    \
    } while (0)

struct scenario {
    const char *name;
    void (*run)(void);
    int places; /* where the kernel refuses: in pages, and so many of them; 0: malloc does */
};

static long *made; /* shared with the runs: how many allocations the part that counts has made */

static int run(const struct scenario *scenario, enum mode mode, long at)
{
    fflush(NULL);
    pid_t host = fork();
    CHECK(host >= 0);
    if (host == 0) {
        alarm(60);
        plan.mode = mode;
        plan.at = at;
        struct belongings before = take_stock();
        before.mappings += 64; /* arenas and stacks that the C library keeps */
        scenario->run();
        end_to_refuse();
        check_stock(before);
        *made = plan.made;
        _exit(0);
    }
    int status;
    CHECK(waitpid(host, &status, 0) == host);
    if (status != 0) {
        fprintf(stderr, "%s %s %ld: status %#x\n", scenario->name, mode == ONE ? "one" : "all", at, status);
    }
    return status == 0;
}

static int run_scenarios(const struct scenario *scenarios, size_t count, int argc, char **argv)
{
    int failed = 0, is_long = getenv("TINE_STORM") != NULL;
    tine_init(argc, argv);
    made = (long *)mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(made != MAP_FAILED);
    for (const struct scenario *scenario = scenarios; scenario != scenarios + count; scenario++) {
        if (argc > 1 && strcmp(argv[1], scenario->name) != 0) {
            continue;
        }
        if (argc == 4) {
            plan.mode = strcmp(argv[2], "one") ? ALL : ONE;
            plan.at = atol(argv[3]);
            scenario->run();
            return 0;
        }
        int runs = 0, bad = 0;
        for (int mode = ONE; mode <= ALL; mode++) {
            *made = scenario->places ? scenario->places : 1;
            for (long at = 0; at < *made; at += is_long || scenario->places ? 1 : 1 + at) {
                /* Where the kernel refuses: none left, or ever more pages. */
                bad += !run(scenario, (enum mode)mode, scenario->places ? at * at * 64 : at);
                runs++;
                if (scenario->places) {
                    *made = scenario->places;
                }
            }
        }
        printf("%s: %d runs, %d bad\n", scenario->name, runs, bad);
        failed += bad;
    }
    return failed != 0;
}

#endif
