/* The one function of the API that takes variable arguments, which Rust cannot define. */
#include <stdarg.h>
#include <stdio.h>

/* From then on threads, timers and dlopen are in the C library itself, so that tine needs no other one. */
#ifdef __GLIBC__
#if !__GLIBC_PREREQ(2, 34)
#error "tine needs glibc 2.34 or later, or musl"
#endif
#endif

/* The beginning of a Task: worker/context.rs. */
struct tine_task {
    int (*fail)(struct tine_task *task, int code, const char *text);
};

__attribute__((visibility("hidden")))
int tine_fail_variadic(struct tine_task *task, int code, const char *format, ...)
{
    char text[256];
    va_list arguments;

    text[0] = '\0';
    if (format) {
        va_start(arguments, format);
        if (vsnprintf(text, sizeof text, format, arguments) < 0)
            snprintf(text, sizeof text, "%s", format);
        va_end(arguments);
    }
    return task ? task->fail(task, code, text) : code;
}
