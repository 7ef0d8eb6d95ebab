#define _GNU_SOURCE
#include "staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool csw_staging_open(csw_staging *staging, const char *directory, size_t size) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    while (size > 1 && directory[size - 1] == '/')
        size -= 1;
    staging->directory = strndup(directory, size);
    staging->prefix = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return staging->directory != NULL;
}

void csw_staging_close(csw_staging *staging) {
    free(staging->directory);
    staging->directory = NULL;
}

char *csw_staging_name(csw_staging *staging, const char *directory, csw_arena *arena) {
    if (directory == NULL) directory = staging->directory;
    size_t capacity = strlen(directory) + 64;
    char *path = csw_arena_take(arena, capacity);
    if (path == NULL) return NULL;
    snprintf(
        path, capacity, "%s/%d-%llx-%u", directory, (int)getpid(), (unsigned long long)staging->prefix,
        (unsigned)atomic_fetch_add(&staging->next, 1));
    return path;
}

bool csw_staging_contains(const csw_staging *staging, const char *path) {
    size_t size = strlen(staging->directory);
    if (strncmp(path, staging->directory, size) != 0 || path[size] != '/') return false;
    const char *name = path + size + 1;
    return *name != 0 && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int csw_file_create(const char *path) {
    int descriptor;
    do
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

bool csw_file_write(int descriptor, const void *data, size_t size) {
    const char *next = data;
    while (size != 0) {
        ssize_t count = write(descriptor, next, size);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return false;
        next += count;
        size -= (size_t)count;
    }
    return true;
}

bool csw_file_allocate(int descriptor, uint64_t from, uint64_t size) {
    if (size == 0) return true;
    /* With its size known first, a tmpfs may give it huge pages. */
    if (ftruncate(descriptor, (off_t)(from + size)) != 0) return false;
    int result;
    do
        result = fallocate(descriptor, 0, (off_t)from, (off_t)size);
    while (result != 0 && errno == EINTR);
    /* posix_fallocate writes zeros where the file system can't allocate. */
    if (result != 0 && errno == EOPNOTSUPP) result = errno = posix_fallocate(descriptor, (off_t)from, (off_t)size);
    if (result == 0) return true;
    int code = errno;
    (void)!ftruncate(descriptor, (off_t)from);
    errno = code;
    return false;
}

/* Closes and, after a failure, removes a file that was being made. */
static bool conclude(int descriptor, const char *path, bool is_good) {
    int code = errno;
    if (close(descriptor) != 0 && is_good) {
        code = errno;
        is_good = false;
    }
    if (!is_good) unlink(path);
    errno = code;
    return is_good;
}

bool csw_file_make(const char *path, const csw_bytes *parts, size_t count) {
    int descriptor = csw_file_create(path);
    bool is_good = descriptor >= 0;
    for (size_t k = 0; k < count && is_good; k++)
        is_good = csw_file_write(descriptor, parts[k].data, parts[k].size);
    return descriptor >= 0 && conclude(descriptor, path, is_good);
}

static bool copy_all(int from, int to) {
    for (;;) {
        ssize_t count = sendfile(to, from, NULL, 1 << 30);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return count == 0;
    }
}

/* Copies the file `name` of one directory to the same name in another, or whole paths with AT_FDCWD. */
static bool copy_file(int from, const char *name, int to, const char *new_name) {
    int source = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (source < 0) return false;
    struct stat status;
    int target = openat(to, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_good = target >= 0 && copy_all(source, target) && fstat(source, &status) == 0 &&
                   fchmod(target, status.st_mode & 0777) == 0;
    int code = errno;
    close(source);
    if (target >= 0 && close(target) != 0 && is_good) {
        code = errno;
        is_good = false;
    }
    if (target >= 0 && !is_good) unlinkat(to, new_name, 0);
    errno = code;
    return is_good;
}

bool csw_file_copy(const char *from, const char *to) {
    return copy_file(AT_FDCWD, from, AT_FDCWD, to);
}

static bool copy_link(int from, const char *name, int to) {
    char target[4097];
    ssize_t size = readlinkat(from, name, target, sizeof target - 1);
    if (size < 0) return false;
    target[size] = 0;
    return symlinkat(target, to, name) == 0;
}

/* Deeper than any real tree, and far from the end of the stack. */
enum { tree_depth_max = 256 };

static bool copy_directory(int from, const char *name, int to, const char *new_name, int depth);

static bool copy_entry(int from, const char *name, int to, int depth) {
    struct stat status;
    if (fstatat(from, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return false;
    if (S_ISREG(status.st_mode)) return copy_file(from, name, to, name);
    if (S_ISDIR(status.st_mode)) return copy_directory(from, name, to, name, depth + 1);
    if (S_ISLNK(status.st_mode)) return copy_link(from, name, to);
    errno = EINVAL;
    return false;
}

static bool copy_entries(DIR *entries, int to, int depth) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(entries);
        if (entry == NULL) return errno == 0;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!copy_entry(dirfd(entries), entry->d_name, to, depth)) return false;
    }
}

static bool copy_directory(int from, const char *name, int to, const char *new_name, int depth) {
    if (depth > tree_depth_max) {
        errno = ELOOP;
        return false;
    }
    int source = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *entries = source >= 0 ? fdopendir(source) : NULL;
    if (entries == NULL) {
        int code = errno;
        if (source >= 0) close(source);
        errno = code;
        return false;
    }
    int target = -1;
    if (mkdirat(to, new_name, 0700) == 0)
        target = openat(to, new_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    bool is_good = target >= 0 && copy_entries(entries, target, depth);
    int code = errno;
    closedir(entries);
    if (target >= 0) close(target);
    errno = code;
    return is_good;
}

bool csw_tree_copy(const char *from, const char *to) {
    return copy_directory(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

bool csw_file_remove(const char *path) {
    if (unlink(path) == 0 || errno == ENOENT) return true;
    if (errno != EISDIR && errno != EPERM) return false;
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0;
}
