#define _GNU_SOURCE
#include "marker.h"

#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one thread is doing. The handler of a fault reads those of all threads: a library may have threads of its own, and the
 * fault may be on one of them. */
typedef struct marker {
    alignas(64) _Atomic(const char *) action;
    _Atomic(const char *) title;
} marker;

/* One for each call that a worker gives a process, and one for the main thread. */
enum { marker_count_max = 65 };
static marker markers[marker_count_max];
static atomic_uint marker_count;
static _Thread_local marker *own;
/* Somebody is ending the process. Who is late must not put another's name to it. */
static atomic_flag is_ending = ATOMIC_FLAG_INIT;

static marker *take_marker(void) {
    unsigned i = atomic_fetch_add(&marker_count, 1);
    if (i >= marker_count_max) abort(); /* A thread that runs calls has its marker as long as the process lasts. */
    own = &markers[i];
    return own;
}

void marker_set(const char *action, const char *title) {
    marker *mine = own != NULL ? own : take_marker();
    atomic_store_explicit(&mine->title, title, memory_order_relaxed);
    atomic_store_explicit(&mine->action, action, memory_order_relaxed);
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

/* ` while calling libfoo/bar`, and ` and calling libfoo/other` for the next one. */
static char *append_marker(char *at, const char *end, const marker *from, bool is_first) {
    const char *doing = atomic_load_explicit(&from->action, memory_order_relaxed);
    const char *name = atomic_load_explicit(&from->title, memory_order_relaxed);
    if (doing == NULL || name == NULL) return at;
    at = append(at, end, is_first ? " while " : " and ");
    at = append(at, end, doing);
    at = append(at, end, " ");
    return append(at, end, name);
}

/* `ffi: crashed while calling libfoo/bar: SIGSEGV`; only what a handler may call. */
static void write_line(const char *what, const char *reason) {
    char line[1024], *at = line, *end = line + sizeof line - 1;
    at = append(at, end, "ffi: ");
    at = append(at, end, what);
    char *begin = at, *room = end - 200; /* for the reason, however many are named */
    if (own != NULL) {
        at = append_marker(at, room, own, true);
    } else {
        /* A thread of a library's own: it may belong to any of the calls. */
        unsigned count = atomic_load(&marker_count);
        for (unsigned i = 0; i < count && i < marker_count_max; i += 1)
            at = append_marker(at, room, &markers[i], at == begin);
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
    if (!atomic_flag_test_and_set(&is_ending)) write_line("crashed", name);
    raise(signal); /* The action is the default one again: the process ends by this signal, as it would have. */
}

static bool is_marked(void) {
    if (own != NULL) return atomic_load_explicit(&own->action, memory_order_relaxed) != NULL;
    unsigned count = atomic_load(&marker_count);
    for (unsigned i = 0; i < count && i < marker_count_max; i += 1)
        if (atomic_load_explicit(&markers[i].action, memory_order_relaxed) != NULL) return true;
    return false;
}

static void note_exit(void) {
    if (is_marked() && !atomic_flag_test_and_set(&is_ending)) write_line("the process was ended", "exit() was called");
}

void marker_install(void) {
    /* A stack of its own: the fault may be that the other one is full. */
    static alignas(16) unsigned char stack[64 << 10];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction what = {.sa_handler = handle, .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
    sigemptyset(&what.sa_mask);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i += 1)
        sigaction(faults[i].signal, &what, NULL);
    atexit(note_exit);
}
