// oneTBB's tasks, for pool.c.
// links: -ltbb
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

extern "C" void tbb_empty_tasks(int tasks, int threads)
{
    static tbb::task_arena arena(threads);
    arena.execute([tasks] {
        tbb::task_group group;
        for (int task = 0; task < tasks; task++) group.run([] {});
        group.wait();
    });
}
