/* Calls of Linux that Swift cannot make: variadic ones, ancillary data, what must happen between vfork and exec.
 *
 * Functions return 0 or a number that is not negative on success and -errno on failure, unless they say otherwise. */
#ifndef RAIN_CLINUX_H
#define RAIN_CLINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Descriptors and files ---- */

/* Opens with O_CLOEXEC added, below a directory (AT_FDCWD for the current one). */
int rain_openat(int directory, const char *path, int flags, unsigned mode);
int rain_mkdirat(int directory, const char *path, unsigned mode);
/* A file without a name in a directory: gone with its last descriptor. */
int rain_open_unnamed(int directory, int flags, unsigned mode);
/* Gives an unnamed file a name. */
int rain_link_unnamed(int descriptor, int directory, const char *path);
int rain_memfd(const char *name);
/* Whether no descriptor or map can write to the file: asks for a read lease and gives it back. `descriptor` must be read-only.
 *   returns   1 no writer, 0 there is one, -errno */
int rain_has_no_writer(int descriptor);
int rain_fallocate(int descriptor, int64_t size);
/* The same without changing the file's size: what is written up to there finds its space. */
int rain_fallocate_ahead(int descriptor, int64_t size);
/* Copies from the current position of `from` to that of `to`, to the end of `from`, inside the kernel where it allows.
 *   stop      looked at between pieces; NULL for never. Not 0 ends the copy with -ECANCELED
 *   returns   bytes copied */
int64_t rain_copy(int from, int to, const uint32_t *stop);
/* Reading end and writing end, close-on-exec. */
int rain_pipe(int ends[2], bool nonblocking);
int rain_set_nonblocking(int descriptor);
int rain_set_close_on_exec(int descriptor, bool on);
/* Removes what `path` below `directory` names, with everything in it; what is missing is no error. Does not follow links. */
int rain_remove_tree(int directory, const char *path);
/* Opens what a path below `directory` names, with O_CLOEXEC; a path that leads out fails with -EXDEV.
 *   follows_links   links inside are followed where the kernel can keep them inside; else any link fails with -ELOOP */
int rain_open_inside(int directory, const char *path, int flags, bool follows_links);
/* Sets the nanoseconds of the time of a file's last change; its seconds stay. */
int rain_mark(int directory, const char *path, int32_t nanoseconds);
/* The same for a tree, its directories included, as far as `budget` members go, or asks whether they still have that mark.
 *   sets      to mark them; else they are looked at
 *   name      256 bytes; receives the name of the first that has another
 *   returns   1; 0 when one has another */
int rain_tree_marks(int directory, int32_t nanoseconds, bool sets, unsigned budget, char *name);
/* Renames; -EEXIST when the new name is taken. */
int rain_rename_new(int from_directory, const char *from, int to_directory, const char *to);
/* Writes what the file system of this file has in memory to its disk. */
int rain_sync_file_system(int descriptor);
/* Waits until a file's bytes have gone to its disk, so that errors that would come late come now. No promise for a loss of power, and nothing
 * that others write is waited for, where the file system can do that.
 *   stop      as for rain_copy */
int rain_write_out(int descriptor, const uint32_t *stop);

/* ---- Mounts ---- */

/* Gives the calling thread, and all that it starts from then on, mounts of its own, and mounts a tmpfs of at most `size` bytes
 * there that is gone with the last of them. For a process with one thread and the right to mount.
 *   returns   1 with huge pages, 0 without, -errno */
int rain_mount_private(const char *path, uint64_t size);
/* Shows a directory at another one, where nothing can be changed, whoever tries. For a process with mounts of its own. */
int rain_mount_view(const char *path, const char *view);
/* Takes a mount away; files of it that are open stay as they are. */
int rain_unmount(const char *path);

/* ---- Sockets that carry descriptors ---- */

/* Sends bytes, and descriptors with the first of them. MSG_DONTWAIT and MSG_NOSIGNAL.
 *   returns   bytes sent */
int64_t rain_send(int socket, const void *bytes, size_t size, const int *descriptors, size_t descriptor_count);
/* Reads without waiting; descriptors that come along are closed and counted.
 *   returns   bytes read, 0 at the end of the stream */
int64_t rain_receive(int socket, void *bytes, size_t size, unsigned *descriptors_dropped);

/* ---- Signals and processes ---- */

int rain_pidfd_open(pid_t pid);
int rain_pidfd_send_signal(int pidfd, int signal);
int rain_set_child_subreaper(void);
int rain_set_parent_death_signal(int signal);
/* A signalfd for these signals; blocks them in this thread. */
int rain_signal_descriptor(const int *signals, size_t count);
/* Makes these signals write their number, as one byte, to a pipe, in whatever thread they arrive.
 *   returns   the pipe's reading end. May be called once in a process. */
int rain_signal_pipe(const int *signals, size_t count);

typedef struct rain_spawn {
    const char *path;           /* executed as it is, no search; a script without #! is run by /bin/sh */
    char *const *arguments;     /* ends in NULL */
    char *const *environment;   /* ends in NULL */
    int working_directory;      /* descriptor; -1 keeps the caller's */
    int input, output, error;   /* descriptors that become 0, 1 and 2 */
    const int *inherited;       /* pairs (descriptor of the caller, number in the child, at least 3) */
    size_t inherited_count;     /* of pairs; at most 8 */
    const int *blocked_signals; /* stay blocked in the child; all others are not */
    size_t blocked_signal_count;
    bool new_group;          /* a process group of its own */
    bool new_session;        /* a session (and group) of its own, without a terminal */
    int parent_death_signal; /* sent to it when the calling thread ends; 0 for none */
} rain_spawn;
/* Starts a process and waits until it runs its program; every signal has its default action there and no other descriptor is open.
 *   returns   its pid, or -errno of what failed in the child, exec included */
pid_t rain_spawn_process(const rain_spawn *spawn);

/* What a process borrows of this one's memory until it runs its program. */
typedef struct rain_spawning rain_spawning;
/* The same without waiting: on a busy machine a program takes longer to load than everything else that is done for it.
 *   out       to be given to rain_end_spawn once the process has been reaped
 *   returns   its pid, or -errno when there is no process */
pid_t rain_begin_spawn(const rain_spawn *spawn, rain_spawning **out);
/* Frees it. The process has been reaped.
 *   returns   0 when it did run its program, else -errno of what failed before, exec included */
int rain_end_spawn(rain_spawning *spawning);

typedef struct rain_ended {
    pid_t pid;
    int32_t exit_code; /* -1 when a signal ended it */
    int32_t signal;    /* 0 when it exited */
    bool dumped_core;
} rain_ended;
/* A child that has ended and was not reaped, without waiting: its number, and that of its group, are still its own.
 *   pid       which; -1 for any
 *   returns   its pid, 0 when there is none, -ECHILD when there is no such child */
pid_t rain_ended_child(pid_t pid);
/* Reaps one child that has ended, without waiting.
 *   pid       which; -1 for any
 *   returns   1 with `ended` filled in, 0 when it has not ended, -ECHILD when there is no such child */
int rain_reap(pid_t pid, rain_ended *ended);
/* Children of this process's first thread, to which orphans are given: at most `capacity`.
 *   returns   how many; -errno when nobody can tell */
int64_t rain_children(pid_t *pids, size_t capacity);
/* The same of all threads, found by a look at every process: where the kernel keeps no list. */
int64_t rain_children_by_parent(pid_t *pids, size_t capacity);
/* When a process started, in clock ticks since the machine did; with its pid it names one process for ever.
 *   returns   -errno; -ENOENT or -ESRCH when there is none */
int64_t rain_start_time(pid_t pid);
char **rain_environment(void);
/* What `ps` calls this process; at most 15 bytes. */
void rain_set_name(const char *name);
/* CPUs of this thread's affinity mask. */
int rain_usable_cpus(void);

/* ---- Waiting ---- */

int rain_eventfd(void); /* close-on-exec, does not block */
void rain_eventfd_wake(int descriptor);
void rain_eventfd_clear(int descriptor);

typedef struct rain_ready {
    uint64_t token;
    bool readable, writable, ended; /* `ended`: hung up, or broken */
} rain_ready;
int rain_epoll(void);
/* Watches a descriptor for reading, and for writing if asked; a second call changes what is watched. */
int rain_epoll_watch(int epoll, int descriptor, uint64_t token, bool writing);
/* Must come before close: a process that is being started may hold the file open for a moment longer. */
int rain_epoll_forget(int epoll, int descriptor);
/* Does not wait.
 *   returns   how many are ready */
int rain_epoll_take(int epoll, rain_ready *ready, int capacity);
/* The number of the next signal of a signalfd; 0 when there is none. */
int rain_next_signal(int descriptor);

/* ---- Shared memory words ---- */

void *rain_map_shared(int descriptor, size_t size); /* NULL on failure */
uint32_t rain_load(const uint32_t *word);
void rain_store(uint32_t *word, uint32_t value);
bool rain_exchange(uint32_t *word, uint32_t expected, uint32_t desired);

#ifdef __cplusplus
}
#endif
#endif
