#define _GNU_SOURCE
#include "marker.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Read by the handler, on whatever thread the fault was. */
static _Atomic(const char *) action, title;

void marker_set(const char *new_action, const char *new_title) {
    atomic_store_explicit(&title, new_title, memory_order_relaxed);
    atomic_store_explicit(&action, new_action, memory_order_relaxed);
}

static const struct fault {
    int signal;
    const char *name;
} faults[] = {
    {SIGSEGV, "SIGSEGV (it touched memory that is not its own, or wrote to an input)"},
    {SIGBUS, "SIGBUS"},
    {SIGFPE, "SIGFPE (an integer division by zero, for example)"},
    {SIGILL, "SIGILL"},
    {SIGTRAP, "SIGTRAP"},
    {SIGSYS, "SIGSYS"},
    {SIGABRT, "SIGABRT (abort or a failed assertion)"},
};

static char *append(char *at, const char *end, const char *from) {
    while (*from != 0 && at < end)
        *at++ = *from++;
    return at;
}

/* `ffi: crashed while calling libfoo/bar: SIGSEGV`; only what a handler may call. */
static void write_line(const char *what, const char *reason) {
    char line[512], *at = line, *end = line + sizeof line - 1;
    const char *doing = atomic_load_explicit(&action, memory_order_relaxed);
    const char *name = atomic_load_explicit(&title, memory_order_relaxed);
    at = append(at, end, "ffi: ");
    at = append(at, end, what);
    if (doing != NULL && name != NULL) {
        at = append(at, end, " while ");
        at = append(at, end, doing);
        at = append(at, end, " ");
        at = append(at, end, name);
    }
    at = append(at, end, ": ");
    at = append(at, end, reason);
    *at++ = '\n';
    ssize_t written = write(STDERR_FILENO, line, (size_t)(at - line));
    (void)written;
}

static void handle(int signal) {
    const char *name = "a signal";
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i += 1)
        if (faults[i].signal == signal) name = faults[i].name;
    write_line("crashed", name);
    raise(signal); /* The action is the default one again: the process ends by this signal, as it would have. */
}

static void note_exit(void) {
    if (atomic_load_explicit(&action, memory_order_relaxed) != NULL)
        write_line("the process was ended", "exit() was called");
}

void marker_install(void) {
    /* A stack of its own: the fault may be that the other one is full. */
    static _Alignas(16) unsigned char stack[64 << 10];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction what = {.sa_handler = handle, .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
    sigemptyset(&what.sa_mask);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i += 1)
        sigaction(faults[i].signal, &what, NULL);
    atexit(note_exit);
}
