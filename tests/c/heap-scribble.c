/* A worker that writes random bytes into all shared memory that it can reach, while the host allocates, frees, submits
 * and maps: the host neither crashes nor hangs, and serves on. TINE_SCRIBBLE=60 sets the seconds; the default is 4.
 * limit: 120 */
#include <tine.h>
#include "check.h"
#include <errno.h>
#include <stdint.h>
#include <time.h>

static uint64_t next(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What of a mapping there is memory behind, going by the kernel; the heap's range is much longer than its file. */
static size_t file_length(const char *path)
{
    /* Lines end in "/memfd:tine-heap (deleted)": the file is open in this process, or its length is the range's. */
    return strstr(path, "tine-heap") ? (size_t)8 << 20 : (size_t)-1;
}

/* For as many milliseconds as the input says; most likely it does not live that long. */
static int scribble(tine_task *task)
{
    int milliseconds = *(const int *)tine_input(task, NULL);
    struct { char *start; size_t length; } areas[64];
    int count = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        return -errno;
    while (count < 64 && fgets(line, sizeof line, maps)) {
        unsigned long long start, end;
        char rights[8];
        if (sscanf(line, "%llx-%llx %7s", &start, &end, rights) != 3)
            continue;
        if (rights[1] != 'w' || rights[3] != 's')
            continue;
        size_t length = (size_t)(end - start), most = file_length(line);
        areas[count].start = (char *)(uintptr_t)start;
        areas[count++].length = length < most ? length : most;
    }
    fclose(maps);
    CHECK(count >= 2);
    uint64_t random = (uint64_t)(seconds() * 1e9) | 1;
    double end = seconds() + milliseconds / 1e3;
    do {
        for (int i = 0; i < 200; i++) {
            int area = (int)(next(&random) % (unsigned)count);
            /* Half of it where the directories and headers are. */
            size_t length = areas[area].length, near = length < 65536 ? length : 65536;
            size_t at = (size_t)next(&random) % (next(&random) & 1 ? length : near) & ~(size_t)7;
            uint64_t what = next(&random);
            switch (next(&random) % 4) {
                case 0: what &= 0xff; break;
                case 1: what = (uint64_t)(uintptr_t)areas[area].start + what % length; break;
                case 2: what &= 0x04ff0000ffffffffULL; break;
                default: break;
            }
            *(volatile uint64_t *)(areas[area].start + at) = what;
        }
    } while (seconds() < end);
    return 0;
}

static int work(tine_task *task)
{
    size_t length;
    const unsigned char *input = (const unsigned char *)tine_input(task, &length);
    unsigned char *output = (unsigned char *)tine_output(task, 3000);
    if (output && length)
        memset(output, input[0], 3000);
    return 0;
}

static int item(tine_task *task, const void *in, void *out)
{
    (void)task;
    memcpy(out, in, 8);
    return 0;
}

/* Whatever the results are: the calls come back, and what they give can be looked at. */
static void live_with_it(tine_pool *pool, uint64_t *random)
{
    enum { BLOCKS = 40 };
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = tine_alloc(pool, (size_t)(next(random) % (i % 8 ? 3000 : 300000)));
    char input[2000];
    memset(input, 7, sizeof input);
    tine_id id;
    tine_submit_options options = TINE_SUBMIT_OPTIONS_INIT;
    int submitted = 0;
    for (int i = 0; i < 20; i++)
        submitted += tine_submit(pool, work, input, 1 + (size_t)(next(random) % sizeof input), &options, &id) == 0;
    char *in = (char *)tine_calloc(pool, 500, 8), *out = (char *)tine_calloc(pool, 500, 8);
    if (in && out)
        (void)tine_map(pool, item, in, 8, out, 8, 500, NULL);
    tine_result result = TINE_RESULT_INIT;
    volatile unsigned char sum = 0;
    while (tine_next(pool, 20 * 1000000000LL, &result) == 0) {
        for (size_t i = 0; i < result.length; i++)
            sum += ((const unsigned char *)result.data)[i];
        tine_result_release(pool, &result);
    }
    tine_heap_info info = TINE_HEAP_INFO_INIT;
    CHECK_RC(tine_heap_stats(tine_pool_heap(pool), &info), 0);
    for (int i = 0; i < BLOCKS; i++)
        tine_free(pool, blocks[i]);
    tine_free(pool, in);
    tine_free(pool, out);
}

int main(int argc, char **argv)
{
    CHECK_RC(tine_init(argc, argv), 0);
    const char *text = getenv("TINE_SCRIBBLE");
    double end = seconds() + (text ? atof(text) : 4);
    uint64_t random = 88172645463325252ULL;
    int pools = 0, rounds = 0;
    unsigned long long deaths = 0;
    /* A heap that is wrecked all over has no memory left to hand out, so a new pool now and then keeps this going. */
    while (seconds() < end) {
        tine_pool_options options = TINE_POOL_OPTIONS_INIT;
        options.workers = 2;
        options.flags = TINE_NO_CRASH_HANDLER;
        options.heap_bytes = (size_t)1 << 30;
        tine_pool *pool;
        CHECK_RC(tine_pool_create(&options, &pool), 0);
        double until = seconds() + 1;
        live_with_it(pool, &random);
        while (seconds() < until) {
            int milliseconds = (int)(next(&random) % 30);
            tine_id id;
            int rc = tine_submit(pool, scribble, &milliseconds, sizeof milliseconds, NULL, &id);
            if (rc)
                break;
            live_with_it(pool, &random);
            rounds++;
        }
        tine_stats stats = TINE_STATS_INIT;
        CHECK_RC(tine_pool_stats(pool, &stats), 0);
        deaths += stats.worker_deaths;
        tine_pool_destroy(pool);
        pools++;
    }
    printf("%d rounds in %d pools, %llu workers died of it\n", rounds, pools, deaths);
    CHECK(rounds > 0 && deaths > 0);
    return 0;
}
