/* A shared library with functions for workers: what a plugin's would be. The runner makes build/c/functions.so of it
   and says where that is in TINE_TEST_LIBRARY. It is not linked with tine: the program that loads it has tine. */
#include <tine.h>

int lib_triple(tine_task *task);
int lib_twice(tine_task *task, const void *in, void *out);
int lib_range(tine_task *task, size_t begin, size_t end);

int lib_triple(tine_task *task)
{
    size_t length;
    const int *in = (const int *)tine_input(task, &length);
    int *out = (int *)tine_output(task, sizeof *out);
    if (length != sizeof *in || !out)
        return tine_fail(task, -22, "an input of %zu bytes", length);
    *out = 3 * *in;
    return 3;
}

int lib_twice(tine_task *task, const void *in, void *out)
{
    (void)task;
    *(int *)out = 2 * *(const int *)in;
    return 0;
}

int lib_range(tine_task *task, size_t begin, size_t end)
{
    return begin <= 13 && 13 < end ? tine_fail(task, -5, "thirteen") : 0;
}

/* A host with a tine of its own in it, linked statically, has none for its libraries; its workers have. */
#pragma weak tine_register

/* What runs when the library is loaded: in workers that is before any task. */
__attribute__((constructor)) static void on_load(void)
{
    if (tine_register)
        tine_register("lib_triple", lib_triple);
}
