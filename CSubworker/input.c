#define _GNU_SOURCE
#include "subworker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static csw_source *source_of(csw_input *input) {
    return input->cached != NULL ? &input->cached->source : &input->own;
}

/* The input, or NULL after setting the call's failure. */
static csw_input *checked_input(csw_call *call, size_t i) {
    if (i < call->input_count) return &call->inputs[i];
    csw_call_fail(call, CSW_EINVAL, "there is no input %zu: the task has %zu", i, call->input_count);
    return NULL;
}

static const char *label_of(const csw_call *call, size_t i) {
    size_t constants = call->shared->constant_count;
    if (i < constants || i - constants >= call->shared->input_label_count) return "";
    return call->shared->input_labels[i - constants];
}

const char *csw_input_title(csw_call *call, size_t i) {
    const char *label = label_of(call, i);
    size_t capacity = strlen(label) + 40;
    char *title = csw_arena_take(&call->arena, capacity);
    if (title == NULL) return "an input";
    if (*label != 0)
        snprintf(title, capacity, "input %zu \"%s\"", i, label);
    else
        snprintf(title, capacity, "input %zu", i);
    return title;
}

void csw_inputs_close(csw_call *call) {
    for (size_t i = 0; i < call->input_count; i += 1) {
        csw_input *input = &call->inputs[i];
        if (input->cached != NULL)
            csw_cache_leave(&call->subworker->cache, input->cached);
        else
            csw_source_unmap(&input->own);
    }
    call->input_count = 0;
}

/* --- Facts ------------------------------------------------------------------------------------------------------ */

size_t csw_input_count(const csw_call *call) {
    return call->input_count;
}

size_t csw_constant_count(const csw_call *call) {
    if (!call->is_open) return 0;
    size_t count = call->shared->constant_count;
    return count < call->input_count ? count : call->input_count;
}

int32_t csw_input_find(const csw_call *call, const char *label) {
    for (size_t i = 0; i < call->input_count; i += 1)
        if (strcmp(label_of(call, i), label) == 0) return (int32_t)i;
    return -1;
}

const char *csw_input_label(const csw_call *call, size_t i) {
    return i < call->input_count ? label_of(call, i) : "";
}

const char *csw_input_content_type(const csw_call *call, size_t i) {
    return i < call->input_count ? call->inputs[i].content_type : "";
}

uint64_t csw_input_size(const csw_call *call, size_t i) {
    return i < call->input_count ? call->inputs[i].size : 0;
}

csw_bytes csw_input_attributes(const csw_call *call, size_t i) {
    return i < call->input_count ? call->inputs[i].attributes : (csw_bytes){"", 0};
}

csw_key csw_input_key(const csw_call *call, size_t i) {
    return i < call->input_count ? call->inputs[i].key : (csw_key){0, 0, 0, 0};
}

bool csw_input_is_directory(const csw_call *call, size_t i) {
    return i < call->input_count && source_of(&call->inputs[i])->is_directory;
}

bool csw_input_is_cached(const csw_call *call, size_t i) {
    return i < call->input_count && call->inputs[i].cached != NULL;
}

/* --- Bytes and path --------------------------------------------------------------------------------------------- */

csw_status csw_input_bytes(csw_call *call, size_t i, csw_bytes *out) {
    *out = (csw_bytes){"", 0};
    csw_input *input = checked_input(call, i);
    if (input == NULL) return CSW_EINVAL;
    csw_source *source = source_of(input);
    if (source->is_directory)
        return csw_call_fail(
            call, CSW_EINVAL, "%s is a directory: it has a path and no bytes", csw_input_title(call, i));
    const char *reason;
    int code;
    bool is_mapped = input->cached != NULL ? csw_cache_map(&call->subworker->cache, input->cached, &reason, &code)
                                           : csw_source_map(source, &reason, &code);
    if (!is_mapped)
        return csw_call_fail(
            call, CSW_EIO, "%s %s%s%s", csw_input_title(call, i), reason, code != 0 ? ": " : "",
            code != 0 ? strerror(code) : "");
    /* Of no bytes too, somebody may make a pointer to numbers. */
    static const max_align_t none;
    *out = (csw_bytes){source->size != 0 ? source->data : &none, (size_t)source->size};
    return CSW_OK;
}

/* Writes bytes that came in the message to a file that lasts as long as the call. */
static csw_status write_to_file(csw_call *call, size_t i, const csw_source *source, const char **out) {
    csw_staged *staged = csw_call_stage(call);
    if (staged == NULL) return csw_call_no_memory(call);
    if (!csw_file_make(staged->path, &(csw_bytes){source->data, (size_t)source->size}, 1))
        return csw_call_fail(
            call, CSW_EIO, "%s can't be written to %s: %s", csw_input_title(call, i), staged->path, strerror(errno));
    *out = staged->path;
    return CSW_OK;
}

/* Children that the task starts can open this one too, which they could not under /proc/self. */
static csw_status name_descriptor(csw_call *call, const csw_source *source, const char **out) {
    enum { capacity = 64 };
    char *path = csw_arena_take(&call->arena, capacity);
    if (path == NULL) return csw_call_no_memory(call);
    snprintf(path, capacity, "/proc/%d/fd/%d", (int)getpid(), source->descriptor);
    *out = path;
    return CSW_OK;
}

csw_status csw_input_path(csw_call *call, size_t i, const char **out) {
    *out = NULL;
    csw_input *input = checked_input(call, i);
    if (input == NULL) return CSW_EINVAL;
    csw_source *source = source_of(input);
    csw_status status = CSW_OK;
    if (input->path == NULL) {
        switch (source->kind) {
        case CSW_SOURCE_MEMORY:
            status = write_to_file(call, i, source, &input->path);
            break;
        case CSW_SOURCE_DESCRIPTOR:
            status = name_descriptor(call, source, &input->path);
            break;
        case CSW_SOURCE_PATH:
            input->path = source->path;
            break;
        }
    }
    *out = input->path;
    return status;
}

/* --- Values on cached inputs ------------------------------------------------------------------------------------ */

csw_status csw_input_attach(
    csw_call *call, size_t i, void *value, void (*destroy)(void *value, void *context), void *context) {
    csw_input *input = checked_input(call, i);
    if (input == NULL) return CSW_EINVAL;
    if (value == NULL) return csw_call_fail(call, CSW_EINVAL, "no value to hang on %s", csw_input_title(call, i));
    if (input->cached == NULL)
        return csw_call_fail(
            call, CSW_ESTATE, "%s is not remembered after the call: nothing can hang on it", csw_input_title(call, i));
    if (!csw_cache_attach(&call->subworker->cache, input->cached, value, destroy, context))
        return csw_call_no_memory(call);
    return CSW_OK;
}

void *csw_input_attached(const csw_call *call, size_t i) {
    if (!csw_input_is_cached(call, i)) return NULL;
    return csw_cache_attached(&call->subworker->cache, call->inputs[i].cached);
}
