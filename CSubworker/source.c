#define _GNU_SOURCE
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool map(csw_source *source, int descriptor, const char **reason, int *code) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        *reason = "can't be examined";
        *code = errno;
        return false;
    }
    /* Reading a map beyond its file's end is a signal, so a file that is too short must be found here. */
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != source->size) {
        *reason = S_ISREG(status.st_mode) ? "is not as long as the worker said" : "is no regular file";
        *code = 0;
        return false;
    }
    void *data = mmap(NULL, (size_t)source->size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (data == MAP_FAILED) {
        *reason = "can't be mapped";
        *code = errno;
        return false;
    }
    source->data = data;
    source->is_mapped = true;
    return true;
}

bool csw_source_map(csw_source *source, const char **reason, int *code) {
    if (source->is_mapped || source->kind == CSW_SOURCE_MEMORY) return true;
    if (source->size == 0) {
        source->data = "";
        return true;
    }
    if (source->kind == CSW_SOURCE_DESCRIPTOR) return map(source, source->descriptor, reason, code);
    int descriptor = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        *reason = "can't be opened";
        *code = errno;
        return false;
    }
    bool is_mapped = map(source, descriptor, reason, code);
    close(descriptor);
    return is_mapped;
}

void csw_source_unmap(csw_source *source) {
    if (!source->is_mapped) return;
    munmap((void *)source->data, (size_t)source->size);
    source->is_mapped = false;
    source->data = NULL;
}
