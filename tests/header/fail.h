/**
 * Fails a task with a text, which becomes the result's .message:
 *     return tine_fail(task, -EINVAL, "%s: not an image", path);
 *
 * Parameters: task. code: a negated errno value, -1 to -4095. format and what it takes: as for printf; up to 184
 * bytes of text are kept.
 * Returns code. A function that has called it and returns 0 has failed with that code all the same; with another code than
 * these, with TINE_EBADCODE.
 */
int tine_fail(tine_task *task, int code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;
