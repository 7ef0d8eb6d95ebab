#define _GNU_SOURCE
#include "CLinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

int rain_openat(int directory, const char *path, int flags, unsigned mode) {
    int descriptor = openat(directory, path, flags | O_CLOEXEC, (mode_t)mode);
    return descriptor < 0 ? -errno : descriptor;
}

int rain_mkdirat(int directory, const char *path, unsigned mode) {
    return mkdirat(directory, path, (mode_t)mode) < 0 ? -errno : 0;
}

int rain_open_unnamed(int directory, int flags, unsigned mode) {
    int descriptor = openat(directory, ".", flags | O_TMPFILE | O_CLOEXEC, (mode_t)mode);
    return descriptor < 0 ? -errno : descriptor;
}

int rain_link_unnamed(int descriptor, int directory, const char *path) {
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", descriptor);
    return linkat(AT_FDCWD, source, directory, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int rain_memfd(const char *name) {
    int descriptor = memfd_create(name, MFD_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

int rain_has_no_writer(int descriptor) {
    /* While the lease is held, somebody's open for writing breaks it, and SIGIO ends a process that does not expect it. */
    static bool is_quiet; /* two threads may both do it, with one result */
    if (!__atomic_load_n(&is_quiet, __ATOMIC_ACQUIRE)) {
        struct sigaction action;
        if (sigaction(SIGIO, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
            action.sa_handler = SIG_IGN;
            sigaction(SIGIO, &action, NULL);
        }
        __atomic_store_n(&is_quiet, true, __ATOMIC_RELEASE);
    }
    if (fcntl(descriptor, F_SETLEASE, F_RDLCK) < 0) return errno == EAGAIN ? 0 : -errno;
    fcntl(descriptor, F_SETLEASE, F_UNLCK);
    return 1;
}

static int reserve(int descriptor, int mode, int64_t size) {
    if (size <= 0) return 0;
    int result;
    do
        result = fallocate(descriptor, mode, 0, (off_t)size) < 0 ? errno : 0;
    while (result == EINTR);
    /* A file system that cannot reserve still reports a full disk, at the write. */
    return result == EOPNOTSUPP || result == ENOSYS ? 0 : -result;
}

int rain_fallocate(int descriptor, int64_t size) {
    return reserve(descriptor, 0, size);
}

int rain_fallocate_ahead(int descriptor, int64_t size) {
    return reserve(descriptor, FALLOC_FL_KEEP_SIZE, size);
}

static int64_t copy_by_hand(int from, int to, const uint32_t *stop) {
    enum { piece_size = 256 * 1024 };
    char *piece = malloc(piece_size);
    if (!piece) return -ENOMEM;
    int64_t total = 0;
    for (;;) {
        if (stop && rain_load(stop)) {
            total = -ECANCELED;
            break;
        }
        ssize_t got = read(from, piece, piece_size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            total = -errno;
            break;
        }
        if (got == 0) break;
        ssize_t done = 0;
        while (done < got) {
            ssize_t put = write(to, piece + done, (size_t)(got - done));
            if (put < 0 && errno == EINTR) continue;
            if (put < 0) {
                total = -errno;
                break;
            }
            done += put;
        }
        if (total < 0) break;
        total += got;
    }
    free(piece);
    return total;
}

int64_t rain_copy(int from, int to, const uint32_t *stop) {
    enum { piece_size = 4 * 1024 * 1024 };
    int64_t total = 0;
    bool by_range = true;
    for (;;) {
        if (stop && rain_load(stop)) return -ECANCELED;
        ssize_t got =
            by_range ? copy_file_range(from, NULL, to, NULL, piece_size, 0) : sendfile(to, from, NULL, piece_size);
        if (got > 0) {
            total += got;
            continue;
        }
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO)) return -errno;
        if (by_range) {
            if (got == 0 && total > 0) return total;
            /* Another file system, or one (as /proc) that claims to be empty. */
            by_range = false;
            continue;
        }
        if (got == 0 && total > 0) return total;
        int64_t rest = copy_by_hand(from, to, stop);
        return rest < 0 ? rest : total + rest;
    }
}

int rain_pipe(int ends[2], bool nonblocking) {
    return pipe2(ends, O_CLOEXEC | (nonblocking ? O_NONBLOCK : 0)) < 0 ? -errno : 0;
}

int rain_set_nonblocking(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
    return 0;
}

int rain_set_close_on_exec(int descriptor, bool on) {
    return fcntl(descriptor, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}

/* What lies deeper than this is moved up first, so that neither the stack nor the descriptors run out. */
enum { remove_depth_max = 32 };

typedef struct removal {
    int top; /* directory that the tree is in */
    const char *path;
    unsigned long moved;
    bool again;
    int error;
} removal;

static void remove_content(removal *state, int directory, int depth);

/* Moves a directory to the top of the tree, under a name that nothing has there. */
static void move_up(removal *state, int directory, const char *name) {
    char target[4096];
    for (int attempts = 0; attempts < 1000; ++attempts) {
        int size = snprintf(target, sizeof target, "%s/.deep-%lu", state->path, state->moved++);
        if (size >= (int)sizeof target) {
            state->error = ENAMETOOLONG;
            return;
        }
        int result = renameat2(directory, name, state->top, target, RENAME_NOREPLACE);
        /* Its entry for the directory above it changes: nobody but root may do that to one that is not writable. */
        if (result < 0 && errno == EACCES && fchmodat(directory, name, 0700, 0) == 0)
            result = renameat2(directory, name, state->top, target, RENAME_NOREPLACE);
        if (result == 0) {
            state->again = true;
            return;
        }
        if (errno != EEXIST) break;
    }
    state->error = errno;
}

static void remove_entry(removal *state, int directory, const char *name, int depth) {
    if (unlinkat(directory, name, 0) == 0 || errno == ENOENT) return;
    if (errno != EISDIR && errno != EPERM && errno != EACCES) {
        state->error = errno;
        return;
    }
    if (unlinkat(directory, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return;
    if (errno == ENOTDIR) {
        state->error = EACCES;
        return;
    }
    if (depth >= remove_depth_max) return move_up(state, directory, name);
    int child = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (child < 0 && errno == EACCES && fchmodat(directory, name, 0700, 0) == 0)
        child = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (child < 0) {
        if (errno != ENOENT) state->error = errno;
        return;
    }
    remove_content(state, child, depth + 1);
    if (unlinkat(directory, name, AT_REMOVEDIR) < 0 && errno != ENOENT && !state->error && !state->again)
        state->error = errno;
}

/* Takes `directory` and closes it. */
static void remove_content(removal *state, int directory, int depth) {
    struct stat status;
    if (fstat(directory, &status) == 0 && (status.st_mode & 0700) != 0700) fchmod(directory, 0700);
    DIR *list = fdopendir(directory);
    if (!list) {
        state->error = errno;
        close(directory);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        remove_entry(state, dirfd(list), entry->d_name, depth);
    }
    closedir(list);
}

int rain_remove_tree(int directory, const char *path) {
    removal state = {.top = directory, .path = path};
    for (;;) {
        state.again = false;
        state.error = 0;
        unsigned long moved = state.moved;
        remove_entry(&state, directory, path, 0);
        if (!state.again) return -state.error;
        if (state.error && state.moved == moved) return -state.error;
    }
}

void *rain_map_shared(int descriptor, size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

uint32_t rain_load(const uint32_t *word) {
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

void rain_store(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

bool rain_exchange(uint32_t *word, uint32_t expected, uint32_t desired) {
    return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}
