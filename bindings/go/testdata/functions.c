/* C functions for the workers of Go hosts: they are called by name, and one crashes. */
#include <stdint.h>
#include <tine.h>

int tripled(tine_task *task);
int crashes(tine_task *task);
int touches(tine_task *task);

int tripled(tine_task *task)
{
    size_t length;
    const int32_t *in = tine_input(task, &length);
    int32_t *out = tine_output(task, sizeof *out);
    if (length != sizeof *in || !out)
        return tine_fail(task, -22, "an input of %zu bytes", length);
    *out = 3 * *in;
    return 0;
}

/* A number that can be divided by 10 is one too many. */
int crashes(tine_task *task)
{
    const int32_t *in = tine_input(task, NULL);
    if (*in % 10 == 0)
        *(volatile int *)(uintptr_t)0xdead0 = 1;
    return tripled(task);
}

/* Adds one to each of a tine.Shared[int64]. */
int touches(tine_task *task)
{
    size_t length;
    const struct { int64_t *at; size_t count; } *in = tine_input(task, &length);
    if (length != sizeof *in || !tine_is_shared(tine_task_pool(task), in->at, in->count * sizeof *in->at))
        return tine_fail(task, -22, "no shared slice");
    for (size_t i = 0; i < in->count; i++)
        in->at[i]++;
    return 0;
}

__attribute__((constructor)) static void on_load(void)
{
    tine_register("tripled", tripled);
    tine_register("crashes", crashes);
    tine_register("touches", touches);
}
