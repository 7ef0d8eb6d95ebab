#define _GNU_SOURCE
#include "CLinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

char **rain_environment(void) {
    return environ;
}

void rain_set_name(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

int rain_usable_cpus(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) < 0 ? -errno : CPU_COUNT(&set);
}

int rain_pidfd_open(pid_t pid) {
    long descriptor = syscall(SYS_pidfd_open, pid, 0);
    return descriptor < 0 ? -errno : (int)descriptor;
}

int rain_pidfd_send_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

int rain_set_child_subreaper(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int rain_set_parent_death_signal(int signal) {
    return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0 ? -errno : 0;
}

int rain_signal_descriptor(const int *signals, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t index = 0; index < count; ++index)
        sigaddset(&set, signals[index]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error) return -error;
    int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

static int signal_pipe[2] = {-1, -1};

static void write_signal(int signal) {
    int saved = errno;
    unsigned char byte = (unsigned char)signal;
    /* A full pipe holds a signal already that has not been looked at. */
    ssize_t ignored = write(signal_pipe[1], &byte, 1);
    (void)ignored;
    errno = saved;
}

int rain_signal_pipe(const int *signals, size_t count) {
    if (signal_pipe[0] >= 0) return -EALREADY;
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
    for (size_t index = 0; index < count; ++index) {
        struct sigaction action = {.sa_handler = write_signal, .sa_flags = SA_RESTART};
        sigfillset(&action.sa_mask);
        if (sigaction(signals[index], &action, NULL) < 0) return -errno;
    }
    return signal_pipe[0];
}

pid_t rain_ended_child(pid_t which) {
    siginfo_t information = {0};
    int result;
    do
        result =
            waitid(which < 0 ? P_ALL : P_PID, which < 0 ? 0 : (id_t)which, &information, WEXITED | WNOHANG | WNOWAIT);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : information.si_pid;
}

int rain_reap(pid_t which, rain_ended *ended) {
    int status;
    pid_t pid;
    do
        pid = waitpid(which, &status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid < 0) return -errno;
    if (pid == 0) return 0;
    ended->pid = pid;
    ended->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    ended->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    ended->dumped_core = WIFSIGNALED(status) && WCOREDUMP(status);
    return 1;
}

/* The fourth field of a process's stat, behind its name, which may have any bytes in it. */
static pid_t parent_of(const char *process) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%.20s/stat", process);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    ssize_t size = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (size <= 0) return -1;
    text[size] = 0;
    const char *end = strrchr(text, ')');
    int parent;
    return end && sscanf(end + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

int64_t rain_children_by_parent(pid_t *pids, size_t capacity) {
    DIR *processes = opendir("/proc");
    if (!processes) return -errno;
    pid_t self = getpid();
    size_t count = 0;
    struct dirent *entry;
    while (count < capacity && (entry = readdir(processes)) != NULL) {
        int pid = atoi(entry->d_name);
        /* One that ends meanwhile is nobody's child any more. */
        if (pid > 0 && parent_of(entry->d_name) == self) pids[count++] = pid;
    }
    closedir(processes);
    return (int64_t)count;
}

int64_t rain_children(pid_t *pids, size_t capacity) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *list = fopen(path, "re");
    /* Kernels without CONFIG_PROC_CHILDREN don't have it. */
    if (!list) return rain_children_by_parent(pids, capacity);
    size_t count = 0;
    int pid;
    while (count < capacity && fscanf(list, "%d", &pid) == 1)
        pids[count++] = pid;
    fclose(list);
    return (int64_t)count;
}

int64_t rain_start_time(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -errno;
    ssize_t size = read(descriptor, text, sizeof text - 1);
    int error = errno;
    close(descriptor);
    if (size <= 0) return size < 0 ? -error : -ESRCH;
    text[size] = 0;
    /* The name may hold blanks and parentheses: fields are counted from the last one. */
    char *rest = strrchr(text, ')');
    char state;
    long long started;
    if (!rest || sscanf(
                     rest + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld",
                     &state, &started) != 2)
        return -EPROTO;
    return state == 'Z' || state == 'X' ? -ESRCH : (int64_t)started;
}
