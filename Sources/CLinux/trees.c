#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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

int rain_rename_new(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int rain_sync_file_system(int descriptor) {
    return syncfs(descriptor) < 0 ? -errno : 0;
}
