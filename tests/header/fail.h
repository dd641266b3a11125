/**
 * Fails a task with a text, which becomes the .message of the result:
 *     return tine_fail(task, -EINVAL, "%s: not an image", path);
 *
 * Parameters: task. code: a negated errno value, from -1 to -4095. format: as for printf, with what it takes behind
 * it; up to 184 bytes of text are kept.
 * Returns code, or TINE_EBADCODE where code is outside of that range: with EINVAL instead of -EINVAL, say. A function
 * that has called it and then returns 0 has failed with what it returned all the same.
 * Threads: the task's. Fork: a child must not call it.
 */
int tine_fail(tine_task *task, int code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;
