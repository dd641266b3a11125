/* Python's traceback of a crash, beside the one that tine makes. faulthandler writes it, but its handler would hide from tine's
 * where the fault was. So it is called from a handler of this file's, which then goes on to tine's with what the kernel told:
 *
 *     signal -> on_crash -> faulthandler: writes, sets its "previous" handler, raises -> on_raise: returns
 *                        -> tine's handler
 *
 * faulthandler takes on_raise for the handler that was there before; when a program disables faulthandler, that is what it puts
 * back, and on_raise then goes on to tine's handler itself. */
#include "native.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <unistd.h>

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { FATAL = sizeof fatal / sizeof *fatal };
static struct sigaction tines[FATAL], pythons[FATAL];
static volatile sig_atomic_t in_python;

static int index_of(int number)
{
    int at = 0;
    while (at < FATAL - 1 && fatal[at] != number) at++;
    return at;
}

static void call(const struct sigaction *action, int number, siginfo_t *info, void *context)
{
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(number, info, context);
    } else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        action->sa_handler(number);
    } else { /* nobody handles it: the instruction, or whoever raised it, does it once more */
        sigaction(number, action, NULL);
        if (info->si_code <= 0) raise(number);
    }
}

static void on_raise(int number, siginfo_t *info, void *context)
{
    if (!in_python) call(&tines[index_of(number)], number, info, context);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    int at = index_of(number);
    if (!in_python) {
        in_python = 1;
        call(&pythons[at], number, info, context);
        in_python = 0;
    }
    call(&tines[at], number, info, context);
}

static int handle(void (*handler)(int, siginfo_t *, void *), struct sigaction *before)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    for (int at = 0; at < FATAL; at++)
        if (sigaction(fatal[at], &action, before ? &before[at] : NULL) < 0) return -errno;
    return 0;
}

/* handle_crashes(step): 0 first of all; 1 before faulthandler is enabled, since disabling it may have put back what was there
 * before tine's; 2 after that. */
PyObject *handle_crashes(PyObject *module, PyObject *arguments)
{
    int step;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "i", &step)) return NULL;
    int rc = step == 2 ? handle(on_crash, pythons) : handle(on_raise, step ? NULL : tines);
    if (rc) return raise_code(rc, NULL);
    Py_RETURN_NONE;
}

/* take_text(fd, offset, length): what was written there, which is gone then. */
PyObject *take_text(PyObject *module, PyObject *arguments)
{
    int fd;
    long long offset, length;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iLL", &fd, &offset, &length)) return NULL;
    char text[16384];
    ssize_t count = pread(fd, text, (size_t)length < sizeof text ? (size_t)length : sizeof text, offset);
    /* Memory that cannot be given back is a page that stays. */
    if (count > 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) < 0) errno = 0;
    Py_ssize_t end = 0;
    while (end < count && text[end]) end++;
    return PyUnicode_DecodeUTF8(text, end, "replace");
}
