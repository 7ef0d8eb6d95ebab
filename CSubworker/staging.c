#define _GNU_SOURCE
#include "staging.h"

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

bool csw_file_make(const char *path, const void *data, size_t size) {
    int descriptor = csw_file_create(path);
    return descriptor >= 0 && conclude(descriptor, path, csw_file_write(descriptor, data, size));
}

static bool copy_all(int from, int to) {
    for (;;) {
        ssize_t count = sendfile(to, from, NULL, 1 << 30);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return count == 0;
    }
}

bool csw_file_copy(const char *from, const char *to) {
    int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (source < 0) return false;
    int target = csw_file_create(to);
    bool is_good = target >= 0 && conclude(target, to, copy_all(source, target));
    int code = errno;
    close(source);
    errno = code;
    return is_good;
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
