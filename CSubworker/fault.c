#define _GNU_SOURCE
#include "fault.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* A handler must not allocate, which the first use of another kind of thread-local variable may. */
#if defined(__GNUC__)
#define CSW_IN_HANDLER __attribute__((__tls_model__("initial-exec")))
#else
#define CSW_IN_HANDLER
#endif

static _Thread_local csw_control_slot *watched CSW_IN_HANDLER;

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
enum { fatal_count = sizeof fatal / sizeof *fatal };
static struct sigaction before[fatal_count];
static pid_t installer;

/* The first call alone: what an exit() tears down may well be what another thread is using. And not for a process that a task
 * forked, which shares the page: its end is not the end of this one. */
static void mark(void) {
    static atomic_flag is_marked = ATOMIC_FLAG_INIT;
    if (watched != NULL && getpid() == installer && !atomic_flag_test_and_set(&is_marked))
        atomic_store_explicit(&watched->state, CSW_SLOT_AT_FAULT, memory_order_relaxed);
}

/* A fault happens again when this returns, and a signal that was sent is sent again: both then meet the handler of before. */
static void handle(int signal, siginfo_t *info, void *context) {
    (void)context;
    /* Another process may send one of these to any thread. */
    if (info->si_code > 0 || info->si_pid == getpid()) mark();
    for (size_t i = 0; i < fatal_count; i += 1)
        if (fatal[i] == signal) sigaction(signal, &before[i], NULL);
    if (info->si_code <= 0) raise(signal);
}

void csw_fault_install(void) {
    static atomic_flag is_installed = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&is_installed)) return;
    installer = getpid();
    struct sigaction what = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&what.sa_mask);
    for (size_t i = 0; i < fatal_count; i += 1) {
        if (sigaction(fatal[i], NULL, &before[i]) != 0) continue;
        /* Who ignores it does not crash of it. */
        bool is_ignored = (before[i].sa_flags & SA_SIGINFO) == 0 && before[i].sa_handler == SIG_IGN;
        if (!is_ignored) sigaction(fatal[i], &what, NULL);
    }
    atexit(mark);
}

void csw_fault_use_stack(void *stack) {
    stack_t use = {.ss_sp = stack, .ss_size = CSW_FAULT_STACK_BYTES, .ss_flags = stack == NULL ? SS_DISABLE : 0};
    sigaltstack(&use, NULL);
}

void csw_fault_watch(csw_control_slot *slot) {
    watched = slot;
}
