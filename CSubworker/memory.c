#define _GNU_SOURCE
#include "memory.h"
#include "subworker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Which output it will be is not known yet. */
static const size_t no_output = SIZE_MAX;

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* The start of the page at which, or in which, this many bytes end. */
static size_t page_floor(size_t size) {
    return size & ~(page_size() - 1);
}

static size_t page_ceiling(size_t size) {
    return page_floor(size + page_size() - 1);
}

static char *address(const csw_memory *memory, size_t offset) {
    return (char *)memory->file.data + offset;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

csw_status csw_memory_open(csw_call *call, size_t size, csw_memory **out) {
    *out = NULL;
    if (size > PTRDIFF_MAX) return csw_call_no_memory(call);
    csw_memory *memory = calloc(1, sizeof *memory);
    if (memory == NULL) return csw_call_no_memory(call);
    /* Of size 0 it still has an address, and can grow. */
    csw_status status = csw_output_map(call, no_output, &memory->file, size != 0 ? size : 1);
    if (status != CSW_OK) {
        free(memory);
        return status;
    }
    memory->file.size = size;
    memory->call = call;
    memory->next = call->memories;
    call->memories = memory;
    *out = memory;
    return CSW_OK;
}

void *csw_memory_data(const csw_memory *memory) {
    return memory->file.data;
}

size_t csw_memory_size(const csw_memory *memory) {
    return memory->file.size;
}

csw_status csw_memory_resize(csw_memory *memory, size_t size, void **out) {
    csw_output *file = &memory->file;
    if (out != NULL) *out = file->data;
    if (memory->call == NULL) return CSW_ESTATE;
    if (memory->is_output)
        return csw_call_fail(
            memory->call, CSW_EINVAL, "%s is set to this memory: its size can't change any more",
            csw_output_title(memory->call, memory->output));
    if (size > PTRDIFF_MAX) return csw_call_no_memory(memory->call);
    csw_status status = csw_output_resize_buffer(memory->call, no_output, file, size);
    if (out != NULL) *out = file->data;
    return status;
}

static void forget(csw_memory *memory) {
    csw_memory **place = &memory->call->memories;
    while (*place != memory)
        place = &(*place)->next;
    *place = memory->next;
    memory->call = NULL;
}

void csw_memory_close(csw_memory *memory) {
    if (memory == NULL) return;
    csw_call *call = memory->call;
    csw_output *file = &memory->file;
    if (call == NULL) {
        if (file->capacity != 0) munmap(file->data, file->capacity);
    } else if (memory->is_output) {
        csw_output *output = &call->outputs[memory->output];
        file->content_type = output->content_type;
        file->attributes = output->attributes;
        file->size = memory->taken;
        file->may_be_shared = true;
        *output = *file;
        forget(memory);
    } else {
        csw_output_discard(file);
        csw_room_give_back(call, &file->room);
        forget(memory);
    }
    free(memory);
}

/* --- As an output ----------------------------------------------------------------------------------------------- */

csw_status csw_output_memory(csw_call *call, size_t i, csw_memory *memory, size_t size) {
    if (i >= call->output_count || memory->call != call || size > memory->file.size)
        return csw_call_fail(
            call, CSW_EINVAL, "%s can't be the first %zu bytes of this memory, which has %zu and belongs to %s",
            i < call->output_count ? csw_output_title(call, i) : "an output that the task does not have", size,
            memory->file.size, memory->call == call ? "this call" : "another call");
    bool is_another = memory->is_output && memory->output != i;
    if (is_another || csw_output_fits_message(call, i, size)) return csw_output_bytes(call, i, memory->file.data, size);
    csw_output *output = &call->outputs[i];
    csw_output_unset(call, output);
    output->kind = CSW_OUTPUT_LENT;
    output->memory = memory;
    memory->is_output = true;
    memory->output = i;
    memory->taken = size;
    return CSW_OK;
}

void csw_memory_take_back(csw_memory *memory) {
    memory->is_output = false;
}

/* --- The end of the call ---------------------------------------------------------------------------------------- */

/* Makes [from, the end) of the memory pages of this process alone, with the bytes they have. */
static bool make_own(csw_memory *memory, size_t from) {
    size_t size = page_ceiling(memory->file.size) - from;
    if (size == 0) return true;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return false;
    memcpy(copy, address(memory, from), memory->file.size - from);
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, address(memory, from)) != MAP_FAILED) return true;
    int code = errno;
    munmap(copy, size);
    errno = code;
    return false;
}

/* What was mapped ahead of growing is of no more use. */
static void cut_to_size(csw_memory *memory) {
    csw_output *file = &memory->file;
    size_t used = page_ceiling(file->size != 0 ? file->size : 1);
    if (page_ceiling(file->capacity) > used) munmap(address(memory, used), page_ceiling(file->capacity) - used);
    file->capacity = used;
}

/* Maps the file again, at the same place, so that a write makes a copy of its page. */
static bool map_privately(csw_memory *memory, size_t size) {
    if (size == 0) return true;
    int descriptor = open(memory->file.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) return false;
    void *data =
        mmap(memory->file.data, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, descriptor, 0);
    int code = errno;
    close(descriptor);
    errno = code;
    return data != MAP_FAILED;
}

bool csw_memory_seal(csw_memory *memory) {
    csw_call *call = memory->call;
    csw_output *file = &memory->file, *output = &call->outputs[memory->output];
    size_t taken = memory->taken, file_bytes = file->capacity;
    cut_to_size(memory);
    /* The page in which the object ends would lose what follows it. */
    size_t shared = taken == file->size ? page_ceiling(taken) : page_floor(taken);
    bool is_done = make_own(memory, shared) &&
                   (taken == file_bytes || ftruncate(file->descriptor, (off_t)taken) == 0) &&
                   map_privately(memory, shared);
    if (!is_done) {
        csw_call_fail(
            call, CSW_EIO, "%s of %zu bytes can't be completed: %s", csw_output_title(call, memory->output), taken,
            strerror(errno));
        return false;
    }
    close(file->descriptor);
    file->descriptor = -1;
    output->kind = CSW_OUTPUT_PATH;
    output->path = file->path;
    output->size = taken;
    output->room = file->room;
    output->memory = NULL;
    output->may_be_shared = true;
    forget(memory);
    return true;
}

void csw_memories_leave(csw_call *call) {
    while (call->memories != NULL) {
        csw_memory *memory = call->memories;
        csw_output *file = &memory->file;
        cut_to_size(memory);
        /* Where there is no memory for a copy the file is the owner's: it has no name any more. */
        (void)make_own(memory, 0);
        close(file->descriptor);
        file->descriptor = -1;
        if (!csw_file_remove(file->path))
            fprintf(stderr, "csubworker: can't remove %s: %s\n", file->path, strerror(errno));
        csw_room_give_back(call, &file->room);
        forget(memory);
    }
}
