#define _GNU_SOURCE
#include "CLinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Without openat2 (Linux before 5.6, or a container that forbids it): one part of the path after the other, no link followed. */
static int open_parts(int directory, const char *path, int flags) {
    int at = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0) {
        size_t size = strcspn(path, "/");
        char name[256];
        int next = -1;
        if (size >= sizeof name || size == 0) {
            errno = size ? ENAMETOOLONG : EINVAL;
        } else {
            memcpy(name, path, size);
            name[size] = 0;
            if (strcmp(name, "..") == 0)
                errno = EXDEV;
            else
                next = openat(at, name, (path[size] ? O_RDONLY | O_DIRECTORY : flags) | O_NOFOLLOW | O_CLOEXEC);
        }
        int error = errno;
        /* A link where a directory belongs is told in two ways. */
        struct stat status;
        if (next < 0 && error == ENOTDIR && fstatat(at, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(status.st_mode))
            error = ELOOP;
        close(at);
        errno = error;
        if (next < 0 || !path[size]) return next < 0 ? -error : next;
        at = next;
        path += size + 1;
    }
    return -errno;
}

int rain_open_inside(int directory, const char *path, int flags, bool follows_links) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    if (!follows_links) how.resolve |= RESOLVE_NO_SYMLINKS;
    long descriptor = syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (descriptor >= 0) return (int)descriptor;
    if (errno != ENOSYS && errno != EPERM) return -errno;
    return open_parts(directory, path, flags);
}

int rain_mark(int directory, const char *path, int32_t nanoseconds) {
    struct stat status;
    if (fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = status.st_mtim.tv_sec, .tv_nsec = nanoseconds}};
    return utimensat(directory, path, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

enum { mark_depth_max = 32, mark_name_size = 256 };

typedef struct marking {
    int32_t nanoseconds;
    bool sets;
    unsigned budget;
    char *name;
} marking;

static int mark_or_compare(marking *state, int directory, const char *path, const struct stat *status) {
    if (state->sets) return rain_mark(directory, path, state->nanoseconds) < 0 ? -errno : 1;
    return status->st_mtim.tv_nsec == state->nanoseconds;
}

static int mark_content(marking *state, int directory, int depth);

static int mark_entry(marking *state, int directory, const char *path, int depth) {
    struct stat status;
    if (fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return 1;
    int result = 1;
    if (S_ISDIR(status.st_mode) && depth < mark_depth_max) {
        int child = openat(directory, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        result = child < 0 ? -errno : mark_content(state, child, depth + 1);
    }
    if (result != 1) return result;
    result = mark_or_compare(state, directory, path, &status);
    if (result == 0) snprintf(state->name, mark_name_size, "%s", path);
    return result;
}

/* Takes `directory` and closes it. The order of the entries is the same as long as none is added or removed. */
static int mark_content(marking *state, int directory, int depth) {
    DIR *list = fdopendir(directory);
    if (!list) {
        int error = errno;
        close(directory);
        return -error;
    }
    int result = 1;
    struct dirent *entry;
    while (result == 1 && state->budget > 0 && (entry = readdir(list))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        state->budget -= 1;
        result = mark_entry(state, dirfd(list), entry->d_name, depth);
    }
    closedir(list);
    return result;
}

int rain_tree_marks(int directory, int32_t nanoseconds, bool sets, unsigned budget, char *name) {
    marking state = {nanoseconds, sets, budget, name};
    return mark_entry(&state, directory, ".", 0);
}

int rain_rename_new(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int rain_sync_file_system(int descriptor) {
    return syncfs(descriptor) < 0 ? -errno : 0;
}

/* File systems whose pages sync_file_range finds: elsewhere (overlayfs) it may do nothing and say that all is well. */
static bool writes_ranges(int descriptor) {
    struct statfs status;
    if (fstatfs(descriptor, &status) < 0) return false;
    return status.f_type == EXT4_SUPER_MAGIC || status.f_type == XFS_SUPER_MAGIC;
}

int rain_write_out(int descriptor, const uint32_t *stop) {
    const off_t piece = 32 << 20;
    struct stat status;
    if (fstat(descriptor, &status) < 0) return -errno;
    if (!writes_ranges(descriptor)) return fdatasync(descriptor) < 0 ? -errno : 0;
    for (off_t at = 0; at < status.st_size; at += piece) {
        if (stop && rain_load(stop)) return -ECANCELED;
        unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        if (sync_file_range(descriptor, at, piece, how) < 0) return -errno;
    }
    return 0;
}
