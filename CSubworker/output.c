#define _GNU_SOURCE
#include "memory.h"
#include "subworker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* All outputs of a call that travel in its message; the others become files, whatever their size. The worker would read small ones back at
 * once, each from a file of its own: there may be more of them. */
enum { memory_bytes_max = 1 << 20, small_bytes_max = 4096, small_memory_bytes_max = 8 << 20 };
/* What the outputs of a call may have besides their bytes, so that no task makes a message that the worker must refuse. */
enum { attributes_bytes_max = 1 << 20, all_attributes_bytes_max = 8 << 20 };

static csw_output *checked_output(csw_call *call, size_t i) {
    if (i < call->output_count) return &call->outputs[i];
    csw_call_fail(call, CSW_EINVAL, "there is no output %zu: the task has %zu", i, call->output_count);
    return NULL;
}

const char *csw_output_title(csw_call *call, size_t i) {
    if (i >= call->output_count) return "memory for an output";
    const char *label = csw_output_label(call, i);
    size_t capacity = strlen(label) + 40;
    char *title = csw_arena_take(&call->arena, capacity);
    if (title == NULL) return "an output";
    if (*label != 0)
        snprintf(title, capacity, "output %zu \"%s\"", i, label);
    else
        snprintf(title, capacity, "output %zu", i);
    return title;
}

static csw_status no_file(csw_call *call, size_t i, const csw_room *room, size_t size) {
    return csw_call_fail(
        call, CSW_EIO, "%s of %zu bytes can't be made in %s: %s", csw_output_title(call, i), size,
        room->directory != NULL ? room->directory : call->staging->directory, strerror(errno));
}

/* Whether an output of this size, in place of `output`, still goes into the message. */
static bool fits_message(const csw_call *call, const csw_output *output, size_t size) {
    size_t others = call->memory_bytes - (output->kind == CSW_OUTPUT_MEMORY ? output->size : 0);
    size_t limit = size <= small_bytes_max ? small_memory_bytes_max : memory_bytes_max;
    return size <= call->subworker->inline_bytes_max && others + size <= limit;
}

bool csw_output_fits_message(const csw_call *call, size_t i, size_t size) {
    return fits_message(call, &call->outputs[i], size);
}

static void unmap(csw_output *output) {
    if (output->capacity != 0) munmap(output->data, output->capacity);
    close(output->descriptor);
    output->descriptor = -1;
}

void csw_output_discard(csw_output *output) {
    if (output->kind == CSW_OUTPUT_LENT) csw_memory_take_back(output->memory);
    if (output->kind == CSW_OUTPUT_MAPPED) unmap(output);
    if ((output->kind == CSW_OUTPUT_MAPPED || output->kind == CSW_OUTPUT_PATH) && !csw_file_remove(output->path))
        fprintf(stderr, "csubworker: can't remove %s: %s\n", output->path, strerror(errno));
}

void csw_output_unset(csw_call *call, csw_output *output) {
    if (output->kind == CSW_OUTPUT_MEMORY) call->memory_bytes -= output->size;
    csw_output_discard(output);
    csw_room_give_back(call, &output->room);
    *output = (csw_output){.descriptor = -1, .content_type = output->content_type, .attributes = output->attributes};
}

static void set_memory(csw_call *call, csw_output *output, void *data, size_t size) {
    csw_output_unset(call, output);
    output->kind = CSW_OUTPUT_MEMORY;
    output->data = data;
    output->size = output->capacity = output->touched = size;
    call->memory_bytes += size;
}

/* --- Facts ------------------------------------------------------------------------------------------------------ */

size_t csw_output_count(const csw_call *call) {
    return call->output_count;
}

int32_t csw_output_find(const csw_call *call, const char *label) {
    for (size_t i = 0; i < call->output_count; i += 1)
        if (strcmp(call->shared->outputs[i].label, label) == 0) return (int32_t)i;
    return -1;
}

const char *csw_output_label(const csw_call *call, size_t i) {
    return i < call->output_count ? call->shared->outputs[i].label : "";
}

const char *csw_output_content_type(const csw_call *call, size_t i) {
    return i < call->output_count ? call->shared->outputs[i].content_type : "";
}

bool csw_output_is_directory(const csw_call *call, size_t i) {
    return i < call->output_count && call->shared->outputs[i].is_directory;
}

/* --- Bytes ------------------------------------------------------------------------------------------------------ */

csw_status csw_output_bytes(csw_call *call, size_t i, const void *data, size_t size) {
    csw_bytes part = {data, size};
    return csw_output_parts(call, i, &part, 1);
}

csw_status csw_output_parts(csw_call *call, size_t i, const csw_bytes *parts, size_t count) {
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    size_t size = 0;
    for (size_t k = 0; k < count; k++) {
        if (parts[k].data == NULL && parts[k].size != 0)
            return csw_call_fail(call, CSW_EINVAL, "%s: no data", csw_output_title(call, i));
        if (parts[k].size > PTRDIFF_MAX - size) return csw_call_no_memory(call);
        size += parts[k].size;
    }
    if (fits_message(call, output, size)) {
        char *copy = csw_arena_take(&call->arena, size + 1);
        if (copy == NULL) return csw_call_no_memory(call);
        size_t filled = 0;
        for (size_t k = 0; k < count; k++) {
            if (parts[k].size != 0) memcpy(copy + filled, parts[k].data, parts[k].size);
            filled += parts[k].size;
        }
        set_memory(call, output, copy, size);
        return CSW_OK;
    }
    csw_room room = {0};
    csw_status status = csw_room_ask(call, i, &room, size, size);
    if (status != CSW_OK) return status;
    const char *path;
    for (bool is_made = false; !is_made && status == CSW_OK;) {
        path = csw_staging_name(call->staging, room.directory, &call->arena);
        if (path == NULL)
            status = csw_call_no_memory(call);
        else if (csw_file_make(path, parts, count))
            is_made = true;
        else if (errno != ENOSPC || !csw_room_elsewhere(call, &room, size))
            status = no_file(call, i, &room, size);
    }
    if (status != CSW_OK) {
        csw_room_give_back(call, &room);
        return status;
    }
    csw_output_unset(call, output);
    output->kind = CSW_OUTPUT_PATH;
    output->path = path;
    output->room = room;
    return CSW_OK;
}

csw_status csw_output_printf(csw_call *call, size_t i, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size < 0) return csw_call_fail(call, CSW_EINVAL, "%s: the format is wrong", csw_output_title(call, i));
    char *text = csw_arena_take(&call->arena, (size_t)size + 1);
    if (text == NULL) return csw_call_no_memory(call);
    va_start(arguments, format);
    vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    if (!fits_message(call, output, (size_t)size)) return csw_output_bytes(call, i, text, (size_t)size);
    set_memory(call, output, text, (size_t)size);
    return CSW_OK;
}

/* --- Buffers ---------------------------------------------------------------------------------------------------- */

/* A new file of this size, mapped; on failure errno says why and nothing is left. */
static bool map_new_file(csw_output *made, const char *path, size_t size) {
    int descriptor = csw_file_create(path);
    if (descriptor < 0) return false;
    void *data = MAP_FAILED;
    /* Without its space a full disk would be a SIGBUS in the task's own code. */
    if (csw_file_allocate(descriptor, 0, size)) {
        data = size == 0 ? NULL : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    }
    if (data == MAP_FAILED) {
        int code = errno;
        close(descriptor);
        unlink(path);
        errno = code;
        return false;
    }
    made->kind = CSW_OUTPUT_MAPPED;
    made->descriptor = descriptor;
    made->path = path;
    made->data = data;
    made->size = made->capacity = made->touched = size;
    return true;
}

/* The same where there is room, which is in made->room already or given back on failure. */
static csw_status make_map(csw_call *call, size_t i, csw_output *made, size_t size) {
    csw_status status;
    for (;;) {
        const char *path = csw_staging_name(call->staging, made->room.directory, &call->arena);
        status = path == NULL ? csw_call_no_memory(call) : CSW_OK;
        if (path == NULL || map_new_file(made, path, size)) break;
        if (errno == ENOSPC && csw_room_elsewhere(call, &made->room, size)) continue;
        status = no_file(call, i, &made->room, size);
        break;
    }
    if (status != CSW_OK) csw_room_give_back(call, &made->room);
    return status;
}

csw_status csw_output_map(csw_call *call, size_t i, csw_output *made, size_t size) {
    csw_status status = csw_room_ask(call, i, &made->room, size, size);
    return status == CSW_OK ? make_map(call, i, made, size) : status;
}

csw_status csw_output_buffer(csw_call *call, size_t i, size_t size, void **out) {
    *out = NULL;
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    if (size > PTRDIFF_MAX) return csw_call_no_memory(call);
    /* A buffer of size 0 still has an address. */
    if (fits_message(call, output, size)) {
        void *data = csw_arena_take(&call->arena, size + 1);
        if (data == NULL) return csw_call_no_memory(call);
        memset(data, 0, size);
        set_memory(call, output, data, size);
    } else {
        csw_output made = {.content_type = output->content_type, .attributes = output->attributes};
        csw_status status = csw_output_map(call, i, &made, size);
        if (status != CSW_OK) return status;
        csw_output_unset(call, output);
        *output = made;
    }
    output->is_buffer = true;
    *out = output->data;
    return CSW_OK;
}

/* A buffer that grows step by step must not be made anew at every step. */
static size_t roomy(size_t capacity, size_t size) {
    size_t larger = capacity + capacity / 2;
    return size > larger ? size : (larger + 4095) & ~(size_t)4095;
}

static csw_status grow_memory(csw_call *call, size_t i, csw_output *output, size_t size) {
    csw_output made = {.is_buffer = true, .content_type = output->content_type, .attributes = output->attributes};
    if (fits_message(call, output, size)) {
        size_t capacity = roomy(output->capacity, size);
        made.kind = CSW_OUTPUT_MEMORY;
        made.descriptor = -1;
        made.data = csw_arena_take(&call->arena, capacity + 1);
        made.capacity = made.touched = capacity;
        if (made.data == NULL) return csw_call_no_memory(call);
        memset((char *)made.data + output->size, 0, capacity - output->size);
    } else {
        csw_status status = csw_output_map(call, i, &made, size);
        if (status != CSW_OK) return status;
    }
    made.size = size;
    memcpy(made.data, output->data, output->size);
    call->memory_bytes -= output->size;
    if (made.kind == CSW_OUTPUT_MEMORY) call->memory_bytes += size;
    *output = made;
    return CSW_OK;
}

/* Goes on in another directory, which was granted because the first one has no room for so much. */
static csw_status move_map(csw_call *call, size_t i, csw_output *output, const csw_room *room, size_t size) {
    csw_output made = {.is_buffer = true, .content_type = output->content_type, .attributes = output->attributes};
    made.room = *room;
    csw_status status = make_map(call, i, &made, size);
    if (status != CSW_OK) {
        output->room = made.room;
        return status;
    }
    memcpy(made.data, output->data, output->size);
    csw_output_discard(output);
    *output = made;
    return CSW_OK;
}

static csw_status grow_map(csw_call *call, size_t i, csw_output *output, size_t size) {
    csw_room room = output->room;
    size_t wanted = roomy(output->capacity, size);
    csw_status status = csw_room_ask(call, i, &room, size, wanted);
    if (status != CSW_OK) return status;
    size_t capacity = room.bytes < wanted ? (size_t)room.bytes : wanted;
    if (output->room.directory != NULL && strcmp(room.directory, output->room.directory) != 0)
        return move_map(call, i, output, &room, size);
    output->room = room;
    while (!csw_file_allocate(output->descriptor, output->capacity, capacity - output->capacity)) {
        bool is_full = errno == ENOSPC;
        if (is_full && capacity != size) {
            /* By halves, so that the last pages of a full disk don't cost a step each. */
            capacity = capacity - size < 8192 ? size : size + (capacity - size) / 2;
            continue;
        }
        if (!is_full || !csw_room_elsewhere(call, &room, size)) return no_file(call, i, &room, size);
        if (strcmp(room.directory, output->room.directory) != 0) return move_map(call, i, output, &room, size);
        output->room = room;
    }
    void *data = output->capacity == 0 ? mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, output->descriptor, 0)
                                       : mremap(output->data, output->capacity, capacity, MREMAP_MAYMOVE);
    if (data == MAP_FAILED) return no_file(call, i, &room, size);
    output->data = data;
    output->capacity = capacity;
    output->size = size;
    return CSW_OK;
}

csw_status csw_output_resize_buffer(csw_call *call, size_t i, csw_output *output, size_t size) {
    csw_status status = CSW_OK;
    bool is_memory = output->kind == CSW_OUTPUT_MEMORY;
    /* What was given up and comes back must be zero again. */
    size_t stale_end = size < output->touched ? size : output->touched;
    if (stale_end > output->size) memset((char *)output->data + output->size, 0, stale_end - output->size);
    if (size <= output->capacity && (!is_memory || fits_message(call, output, size))) {
        if (is_memory) call->memory_bytes = call->memory_bytes - output->size + size;
        output->size = size;
    } else {
        status = is_memory ? grow_memory(call, i, output, size) : grow_map(call, i, output, size);
    }
    if (output->size > output->touched) output->touched = output->size;
    return status;
}

csw_status csw_output_resize(csw_call *call, size_t i, size_t size, void **out) {
    if (out != NULL) *out = NULL;
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    if (!output->is_buffer)
        return csw_call_fail(
            call, CSW_EINVAL, "%s is no buffer: nothing to make larger or smaller", csw_output_title(call, i));
    if (size > PTRDIFF_MAX) return csw_call_no_memory(call);
    csw_status status = csw_output_resize_buffer(call, i, output, size);
    if (out != NULL && status == CSW_OK) *out = output->data;
    return status;
}

/* --- Files and inputs ------------------------------------------------------------------------------------------- */

static bool is_same(const char *a, const char *b) {
    return a != NULL && strcmp(a, b) == 0;
}

/* A path that is an input or another output must not be moved away under it. */
static bool is_taken(csw_call *call, size_t i, const char *path) {
    for (size_t k = 0; k < call->input_count; k += 1) {
        const csw_input *input = &call->inputs[k];
        const csw_source *source = input->cached != NULL ? &input->cached->source : &input->own;
        if (is_same(input->path, path) || is_same(source->path, path)) return true;
    }
    for (size_t k = 0; k < call->output_count; k += 1)
        if (k != i && is_same(call->outputs[k].path, path)) return true;
    return false;
}

/* Moves a file or directory to `to`, also from another file system. */
static bool move(const char *from, const char *to, bool is_directory) {
    if (rename(from, to) == 0) return true;
    if (errno != EXDEV) return false;
    bool is_moved = (is_directory ? csw_tree_copy(from, to) : csw_file_copy(from, to)) && csw_file_remove(from);
    int code = errno;
    if (!is_moved) csw_file_remove(to);
    errno = code;
    return is_moved;
}

static void mark_output(csw_call *call, const char *path) {
    for (csw_staged *staged = call->staged; staged != NULL; staged = staged->next)
        if (strcmp(staged->path, path) == 0) staged->is_output = true;
}

csw_status csw_output_path(csw_call *call, size_t i, const char *path) {
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    struct stat status;
    if (lstat(path, &status) != 0)
        return csw_call_fail(call, CSW_EINVAL, "%s: %s: %s", csw_output_title(call, i), path, strerror(errno));
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
        return csw_call_fail(
            call, CSW_EINVAL, "%s: %s is neither a regular file nor a directory", csw_output_title(call, i), path);
    if (is_taken(call, i, path))
        return csw_call_fail(
            call, CSW_EINVAL, "%s: %s is an input or another output already", csw_output_title(call, i), path);
    const char *place;
    if (is_same(output->path, path)) return CSW_OK;
    if (csw_staging_contains(call->staging, path)) {
        place = csw_arena_copy(&call->arena, path, strlen(path));
        if (place == NULL) return csw_call_no_memory(call);
    } else {
        place = csw_staging_name(call->staging, NULL, &call->arena);
        if (place == NULL) return csw_call_no_memory(call);
        if (!move(path, place, S_ISDIR(status.st_mode)))
            return csw_call_fail(
                call, CSW_EIO, "%s: %s can't be moved to %s: %s", csw_output_title(call, i), path,
                call->staging->directory, strerror(errno));
    }
    csw_output_unset(call, output);
    mark_output(call, place);
    output->kind = CSW_OUTPUT_PATH;
    output->path = place;
    output->is_directory = S_ISDIR(status.st_mode);
    return CSW_OK;
}

csw_status csw_output_same_as_input(csw_call *call, size_t i, size_t j) {
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    if (j >= call->input_count || j > UINT16_MAX)
        return csw_call_fail(
            call, CSW_EINVAL, "%s can't be input %zu: the task has %zu", csw_output_title(call, i), j,
            call->input_count);
    csw_output_unset(call, output);
    output->kind = CSW_OUTPUT_INPUT;
    output->input = (uint16_t)j;
    output->is_directory = csw_input_is_directory(call, j);
    return CSW_OK;
}

/* Copies what is known about output i in place of what was known before. */
static csw_status set_fact(csw_call *call, size_t i, csw_bytes *fact, const char *what, const void *data, size_t size) {
    if (size > attributes_bytes_max)
        return csw_call_fail(call, CSW_EINVAL, "%s: %s of more than 1 MiB", csw_output_title(call, i), what);
    size_t others = call->fact_bytes - fact->size;
    if (size > all_attributes_bytes_max - others)
        return csw_call_fail(
            call, CSW_EINVAL, "%s: the attributes of all outputs have more than 8 MiB", csw_output_title(call, i));
    const char *copy = csw_arena_copy(&call->arena, data, size);
    if (copy == NULL) return csw_call_no_memory(call);
    call->fact_bytes = others + size;
    *fact = (csw_bytes){copy, size};
    return CSW_OK;
}

csw_status csw_output_set_content_type(csw_call *call, size_t i, const char *content_type) {
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    return set_fact(call, i, &output->content_type, "a content type", content_type, strlen(content_type));
}

csw_status csw_output_set_attributes(csw_call *call, size_t i, const char *json, size_t size) {
    csw_output *output = checked_output(call, i);
    if (output == NULL) return CSW_EINVAL;
    return set_fact(call, i, &output->attributes, "attributes", json, size);
}

/* --- The end of the call ---------------------------------------------------------------------------------------- */

static csw_wire_value memory_value(const csw_output *output) {
    return (csw_wire_value){
        .location = CSW_LOCATION_INLINE, .bytes = {output->size != 0 ? output->data : "", output->size}};
}

static csw_wire_value path_value(const csw_output *output) {
    return (csw_wire_value){.location = CSW_LOCATION_PATH, .bytes = {output->path, strlen(output->path)}};
}

/* Whether another process, one that the task started, still maps a file for writing. */
static bool is_shared(const char *path) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) return false;
    /* Who breaks the lease sends a signal; this one does no harm. */
    (void)fcntl(descriptor, F_SETSIG, SIGURG);
    bool has_writer = fcntl(descriptor, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
    close(descriptor);
    return has_writer;
}

/* Leaves a file that others can still write to to them, and goes on with a copy. */
static bool make_unshared(csw_call *call, size_t i, csw_output *output) {
    if (!output->may_be_shared || !is_shared(output->path)) return true;
    /* What is left to others keeps its room until the call ends: they have it mapped. */
    csw_room room = {0};
    if (csw_room_ask(call, i, &room, output->size, output->size) != CSW_OK) return false;
    for (;;) {
        const char *path = csw_staging_name(call->staging, room.directory, &call->arena);
        if (path == NULL) {
            csw_call_no_memory(call);
            break;
        }
        if (csw_file_copy(output->path, path)) {
            csw_output_discard(output);
            output->path = path;
            output->room = room;
            return true;
        }
        if (errno == ENOSPC && csw_room_elsewhere(call, &room, output->size)) continue;
        no_file(call, i, &room, output->size);
        break;
    }
    csw_room_give_back(call, &room);
    return false;
}

/* Gives the file its final size and lets go of it: the worker takes no object that somebody can still write. */
static bool conclude_map(csw_call *call, size_t i, csw_output *output) {
    int result = 0;
    if (output->size != output->capacity) {
        do
            result = ftruncate(output->descriptor, (off_t)output->size);
        while (result != 0 && errno == EINTR);
    }
    if (result != 0) {
        no_file(call, i, &output->room, output->size);
        return false;
    }
    unmap(output);
    output->kind = CSW_OUTPUT_PATH;
    return make_unshared(call, i, output);
}

/* A large buffer of which little was used goes into the message after all. */
static bool move_to_memory(csw_call *call, csw_output *output) {
    void *copy = csw_arena_copy(&call->arena, output->data, output->size);
    if (copy == NULL) return false;
    set_memory(call, output, copy, output->size);
    return true;
}

bool csw_output_conclude(csw_call *call, size_t i, csw_wire_value *value) {
    csw_output *output = &call->outputs[i];
    if (output->kind == CSW_OUTPUT_MAPPED && fits_message(call, output, output->size) &&
        !move_to_memory(call, output)) {
        csw_call_no_memory(call);
        return false;
    }
    switch (output->kind) {
    case CSW_OUTPUT_UNSET:
        csw_call_fail(call, CSW_ETASK, "%s was not set", csw_output_title(call, i));
        return false;
    case CSW_OUTPUT_MEMORY:
        *value = memory_value(output);
        break;
    case CSW_OUTPUT_MAPPED:
        if (!conclude_map(call, i, output)) return false;
        *value = path_value(output);
        break;
    case CSW_OUTPUT_LENT:
        if (!csw_memory_seal(output->memory) || !make_unshared(call, i, output)) return false;
        *value = path_value(output);
        break;
    case CSW_OUTPUT_PATH:
        *value = path_value(output);
        break;
    case CSW_OUTPUT_INPUT:
        *value = (csw_wire_value){.location = CSW_LOCATION_CACHED, .input = output->input};
        break;
    }
    value->content_type = output->content_type;
    value->attributes = output->attributes;
    value->is_directory = output->is_directory;
    return true;
}

void csw_outputs_close(csw_call *call, bool are_kept) {
    for (size_t i = 0; i < call->output_count; i += 1) {
        /* The worker moves a path away. */
        if (are_kept && call->outputs[i].kind == CSW_OUTPUT_PATH) continue;
        csw_output_discard(&call->outputs[i]);
    }
    call->output_count = 0;
}
