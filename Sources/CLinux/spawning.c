#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child borrows this process's memory until it runs its program, and this process goes on meanwhile. So the child has a stack
 * and a copy of its plan of its own, and makes its system calls itself: the library's functions would write the caller's errno. */

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
/* Its own clone() takes every child for a fork, and gives this thread's state to a child that runs beside it. */
int __clone(int (*function)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#endif
#endif

#if defined(__x86_64__)
#define RUNS_BESIDE_PARENT 1
static long call(long number, long a, long b, long c, long d) {
    register long r10 __asm__("r10") = d;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define RUNS_BESIDE_PARENT 1
static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#else
/* The caller waits, so that its errno is nobody's. */
#define RUNS_BESIDE_PARENT 0
static long call(long number, long a, long b, long c, long d) {
    long result = syscall(number, a, b, c, d);
    return result < 0 ? -errno : result;
}
#endif

enum { stack_size = 16 * 1024, inherited_max = 8 };

struct rain_spawning {
    alignas(16) unsigned char stack[stack_size];
    rain_spawn spawn;
    int inherited[inherited_max * 2];
    char **shell_arguments; /* for a script without #! */
    pid_t parent;
    uint64_t signal_mask;
    /* Written by the child: read once it is reaped, or has let the caller go on. */
    volatile int error;
    char *texts[];
};

/* Nothing here may touch thread-local memory: it is the caller's. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

IN_CHILD static int become_program(rain_spawning *spawning) {
    static const int to_default[] = {SIGPIPE, SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGCHLD, SIGIO,
                                     SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ};
    const rain_spawn *spawn = &spawning->spawn;
    long result;
    if (spawn->new_session && (result = call(SYS_setsid, 0, 0, 0, 0)) < 0) return (int)-result;
    if (spawn->new_group && (result = call(SYS_setpgid, 0, 0, 0, 0)) < 0) return (int)-result;
    if (spawn->parent_death_signal) {
        result = call(SYS_prctl, PR_SET_PDEATHSIG, spawn->parent_death_signal, 0, 0);
        if (result < 0) return (int)-result;
        if (call(SYS_getppid, 0, 0, 0, 0) != spawning->parent) return ESRCH;
    }
    /* The kernel's struct sigaction: handler, flags, restorer, mask. */
    static const unsigned long default_action[4];
    for (size_t index = 0; index < sizeof to_default / sizeof *to_default; ++index)
        call(SYS_rt_sigaction, to_default[index], (long)default_action, 0, sizeof(uint64_t));
    if (spawn->working_directory >= 0 && (result = call(SYS_fchdir, spawn->working_directory, 0, 0, 0)) < 0)
        return (int)-result;

    /* Numbers that are about to be taken must not be a source any more. */
    int standard[3] = {spawn->input, spawn->output, spawn->error};
    int inherited[inherited_max];
    for (int index = 0; index < 3; ++index) {
        if (standard[index] >= 3 || standard[index] == index) continue;
        if ((result = call(SYS_fcntl, standard[index], F_DUPFD_CLOEXEC, 3, 0)) < 0) return (int)-result;
        standard[index] = (int)result;
    }
    for (size_t index = 0; index < spawn->inherited_count; ++index) {
        if ((result = call(SYS_fcntl, spawn->inherited[index * 2], F_DUPFD_CLOEXEC, 32, 0)) < 0) return (int)-result;
        inherited[index] = (int)result;
    }
    if (call(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */, 0) < 0) {
        for (int descriptor = 3; descriptor < 4096; ++descriptor)
            call(SYS_fcntl, descriptor, F_SETFD, FD_CLOEXEC, 0);
    }
    for (int index = 0; index < 3; ++index) {
        if (standard[index] == index)
            call(SYS_fcntl, index, F_SETFD, 0, 0);
        else if ((result = call(SYS_dup3, standard[index], index, 0, 0)) < 0)
            return (int)-result;
    }
    for (size_t index = 0; index < spawn->inherited_count; ++index) {
        if ((result = call(SYS_dup3, inherited[index], spawn->inherited[index * 2 + 1], 0, 0)) < 0) return (int)-result;
    }
    result = call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&spawning->signal_mask, 0, sizeof(uint64_t));
    if (result < 0) return (int)-result;
    result = call(SYS_execve, (long)spawn->path, (long)spawn->arguments, (long)spawn->environment, 0);
    if (result == -ENOEXEC)
        result = call(SYS_execve, (long)"/bin/sh", (long)spawning->shell_arguments, (long)spawn->environment, 0);
    return (int)-result;
}

IN_CHILD static int child_main(void *argument) {
    rain_spawning *spawning = argument;
    spawning->error = become_program(spawning);
    call(SYS_exit_group, 127, 0, 0, 0);
    return 127;
}

static size_t count_texts(char *const *texts, size_t *bytes) {
    size_t count = 0;
    for (; texts[count]; ++count)
        *bytes += strlen(texts[count]) + 1;
    return count;
}

static char *copy_text(const char *text, char **end) {
    char *copy = *end;
    size_t size = strlen(text) + 1;
    memcpy(copy, text, size);
    *end += size;
    return copy;
}

static rain_spawning *make_spawning(const rain_spawn *spawn) {
    size_t bytes = strlen(spawn->path) + 1;
    size_t argument_count = count_texts(spawn->arguments, &bytes);
    size_t environment_count = count_texts(spawn->environment, &bytes);
    /* Three lists, each with its end; the shell's has one more at its start. */
    size_t list_count = 2 * argument_count + environment_count + 4;
    rain_spawning *spawning = malloc(sizeof *spawning + list_count * sizeof(char *) + bytes);
    if (!spawning) return NULL;
    spawning->spawn = *spawn;
    spawning->error = 0;
    spawning->parent = getpid();
    spawning->signal_mask = 0;
    for (size_t index = 0; index < spawn->blocked_signal_count; ++index)
        spawning->signal_mask |= UINT64_C(1) << (spawn->blocked_signals[index] - 1);
    if (spawn->inherited_count) memcpy(spawning->inherited, spawn->inherited, spawn->inherited_count * 2 * sizeof(int));
    spawning->spawn.inherited = spawning->inherited;

    char **list = spawning->texts;
    char *end = (char *)(list + list_count);
    spawning->spawn.path = copy_text(spawn->path, &end);
    spawning->spawn.arguments = list;
    for (size_t index = 0; index < argument_count; ++index)
        *list++ = copy_text(spawn->arguments[index], &end);
    *list++ = NULL;
    spawning->spawn.environment = list;
    for (size_t index = 0; index < environment_count; ++index)
        *list++ = copy_text(spawn->environment[index], &end);
    *list++ = NULL;
    spawning->shell_arguments = list;
    *list++ = (char *)(uintptr_t) "sh";
    *list++ = (char *)(uintptr_t)spawning->spawn.path;
    for (size_t index = 1; index <= argument_count; ++index)
        *list++ = spawning->spawn.arguments[index];
    return spawning;
}

/* flags: CLONE_VFORK makes the caller wait until the program runs, or can't. */
static pid_t begin(const rain_spawn *spawn, int flags, rain_spawning **out) {
    if (spawn->inherited_count > inherited_max || !spawn->arguments[0]) return -EINVAL;
    for (size_t index = 0; index < spawn->inherited_count; ++index) {
        if (spawn->inherited[index * 2 + 1] < 3 || spawn->inherited[index * 2 + 1] >= 32) return -EINVAL;
    }
    rain_spawning *spawning = make_spawning(spawn);
    if (!spawning) return -ENOMEM;
    if (!RUNS_BESIDE_PARENT) flags |= CLONE_VFORK;
    /* No handler of this process may run in the child. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = clone(child_main, spawning->stack + stack_size, CLONE_VM | SIGCHLD | flags, spawning);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0) {
        free(spawning);
        return -error;
    }
    /* Here too, so that its group can be signalled from now on; once it runs its program it has done so itself. */
    if (spawn->new_group) setpgid(pid, pid);
    *out = spawning;
    return pid;
}

pid_t rain_begin_spawn(const rain_spawn *spawn, rain_spawning **out) {
    return begin(spawn, 0, out);
}

int rain_end_spawn(rain_spawning *spawning) {
    int error = spawning->error;
    free(spawning);
    return -error;
}

pid_t rain_spawn_process(const rain_spawn *spawn) {
    rain_spawning *spawning;
    pid_t pid = begin(spawn, CLONE_VFORK, &spawning);
    if (pid < 0) return pid;
    int error = rain_end_spawn(spawning);
    if (!error) return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    return error;
}
