/* What the cases have run on the nodes, where several do. */
#include "nodes.h"

int echo(tine_task *task)
{
    size_t length;
    const void *input = tine_input(task, &length);
    void *output = tine_output(task, length);
    if (length && !output)
        return -ENOMEM;
    if (length)
        memcpy(output, input, length);
    return 7;
}

int crash_on_fives(tine_task *task, const void *in, void *out)
{
    const struct item *item = in;
    (void)task;
    if (item->number % 5 == 0)
        raise(SIGKILL);
    *(int64_t *)out = item->number + 1;
    return 0;
}
