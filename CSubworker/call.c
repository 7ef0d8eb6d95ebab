#define _GNU_SOURCE
#include "memory.h"
#include "subworker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a result may carry besides its outputs, so that no task makes a message that the worker must refuse. */
enum { text_bytes_max = 1 << 20 };

/* --- Life ------------------------------------------------------------------------------------------------------- */

static bool make_call_room(csw_call *call, size_t input_count, size_t output_count) {
    if (input_count > call->input_capacity) {
        csw_input *inputs = realloc(call->inputs, input_count * sizeof *inputs);
        if (inputs == NULL) return false;
        call->inputs = inputs;
        call->input_capacity = input_count;
    }
    if (output_count > call->output_capacity) {
        csw_output *outputs = realloc(call->outputs, output_count * sizeof *outputs);
        if (outputs == NULL) return false;
        call->outputs = outputs;
        csw_wire_value *values = realloc(call->values, output_count * sizeof *values);
        if (values == NULL) return false;
        call->values = values;
        call->output_capacity = output_count;
    }
    return true;
}

void csw_call_prepare(csw_call *call, csw_subworker *subworker) {
    call->subworker = subworker;
    call->staging = &subworker->staging;
    call->slot = &subworker->own_slots[0];
    call->message = call->detail = call->attributes = (csw_bytes){"", 0};
}

bool csw_call_open(csw_call *call, csw_template *shared, const csw_wire_call *wire) {
    if (!make_call_room(call, wire->inputs.count, shared->output_count)) return false;
    call->is_open = true;
    call->shared = shared;
    call->wire = *wire;
    call->input_count = 0; /* grows as inputs are decoded */
    call->output_count = shared->output_count;
    for (size_t i = 0; i < call->output_count; i += 1)
        call->outputs[i] = (csw_output){.descriptor = -1, .content_type = {"", 0}, .attributes = {"", 0}};
    call->memory_bytes = 0;
    call->fact_bytes = 0;
    call->credit_used = 0;
    call->told_progress = 0;
    call->told_text_hash = csw_progress_hash("", 0);
    call->staged = NULL;
    call->memories = NULL;
    call->message = call->detail = call->attributes = (csw_bytes){"", 0};
    call->debug_size = 0;
    call->is_debug_cut = false;
    return true;
}

/* The failure of a task that returned `status`, in the words of whoever found it. */
static void conclude_failure(csw_call *call, csw_status status) {
    if (status == CSW_ECANCELLED)
        csw_call_fail(call, status, "the task returned CSW_ECANCELLED, but nobody cancelled it");
    else if (call->message.size == 0)
        csw_call_fail(call, status, "the task returned %d (%s)", (int)status, csw_status_text(status));
}

static void remove_staged(csw_call *call) {
    for (csw_staged *staged = call->staged; staged != NULL; staged = staged->next)
        if (!staged->is_output && !csw_file_remove(staged->path))
            fprintf(stderr, "csubworker: can't remove %s: %s\n", staged->path, strerror(errno));
    call->staged = NULL;
}

void csw_call_conclude(csw_call *call, csw_status status, csw_wire_result *result) {
    *result = (csw_wire_result){.slot = call->wire.slot, .attributes = call->attributes};
    if (status == CSW_OK) {
        for (size_t i = 0; i < call->output_count && status == CSW_OK; i += 1)
            if (!csw_output_conclude(call, i, &call->values[i])) status = CSW_ETASK;
    }
    result->debug = (csw_bytes){call->debug_size != 0 ? call->debug : "", call->debug_size};
    if (status == CSW_OK) {
        result->outcome = CSW_OUTCOME_OUTPUTS;
        result->outputs = call->values;
        result->output_count = (uint32_t)call->output_count;
    } else if (status == CSW_ECANCELLED && csw_cancelled(call)) {
        result->outcome = CSW_OUTCOME_CANCELLED;
    } else {
        conclude_failure(call, status);
        result->outcome = CSW_OUTCOME_ERROR;
        result->message = call->message;
        result->detail = call->detail;
    }
    csw_inputs_close(call);
    if (result->outcome != CSW_OUTCOME_OUTPUTS) csw_outputs_close(call, false);
    csw_memories_leave(call);
    remove_staged(call);
}

void csw_call_close(csw_call *call, bool are_outputs_kept) {
    csw_inputs_close(call);
    csw_outputs_close(call, are_outputs_kept);
    csw_memories_leave(call);
    remove_staged(call);
    csw_arena_reset(&call->arena);
    call->message = call->detail = call->attributes = (csw_bytes){"", 0};
    call->shared = NULL;
    call->is_open = false;
}

void csw_call_release(csw_call *call) {
    if (call->is_open) csw_call_close(call, false);
    csw_arena_release(&call->arena);
    free(call->inputs);
    free(call->outputs);
    free(call->values);
    free(call->debug);
    csw_builder_release(&call->builder);
}

csw_staged *csw_call_stage(csw_call *call) {
    csw_staged *staged = csw_arena_take(&call->arena, sizeof *staged);
    char *path = csw_staging_name(call->staging, NULL, &call->arena);
    if (staged == NULL || path == NULL) return NULL;
    *staged = (csw_staged){.next = call->staged, .path = path};
    call->staged = staged;
    return staged;
}

csw_status csw_staging_path(csw_call *call, const char **out) {
    *out = NULL;
    csw_staged *staged = csw_call_stage(call);
    if (staged == NULL) return csw_call_no_memory(call);
    *out = staged->path;
    return CSW_OK;
}

/* --- Facts ------------------------------------------------------------------------------------------------------ */

csw_subworker *csw_call_subworker(const csw_call *call) {
    return call->subworker;
}

const char *csw_call_method(const csw_call *call) {
    return call->is_open ? call->shared->method : "";
}

const char *csw_call_name(const csw_call *call) {
    return call->is_open ? call->shared->name : "";
}

uint32_t csw_call_template(const csw_call *call) {
    return call->is_open ? call->shared->id : 0;
}

csw_bytes csw_call_config(const csw_call *call) {
    return call->is_open ? call->shared->config : (csw_bytes){"", 0};
}

csw_bytes csw_call_arguments(const csw_call *call) {
    return call->is_open ? call->wire.arguments : (csw_bytes){"", 0};
}

csw_bytes csw_call_attributes(const csw_call *call) {
    return call->is_open ? call->shared->attributes : (csw_bytes){"", 0};
}

uint32_t csw_call_array_index(const csw_call *call) {
    return call->wire.array_index;
}

csw_attempt csw_call_attempt(const csw_call *call) {
    return call->wire.attempt;
}

csw_function *csw_call_function(const csw_call *call) {
    return call->is_open && call->shared->task != NULL ? call->shared->task->type.function : NULL;
}

void *csw_call_context(const csw_call *call) {
    return call->is_open && call->shared->task != NULL ? call->shared->task->type.context : NULL;
}

bool csw_cancelled(const csw_call *call) {
    return atomic_load_explicit(&call->slot->cancel, memory_order_relaxed) != 0;
}

/* --- Failure ---------------------------------------------------------------------------------------------------- */

/* A text in the call's arena; its data is NULL when there is no memory. */
static csw_bytes format_text(csw_call *call, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (size < 0) return (csw_bytes){NULL, 0};
    char *text = csw_arena_take(&call->arena, (size_t)size + 1);
    if (text == NULL) return (csw_bytes){NULL, 0};
    vsnprintf(text, (size_t)size + 1, format, arguments);
    return (csw_bytes){text, (size_t)size};
}

static csw_bytes limited(csw_bytes text) {
    if (text.size > text_bytes_max) text.size = text_bytes_max;
    return text;
}

static void set_failure(csw_call *call, csw_bytes message, csw_bytes detail) {
    static const char none[] = "the task failed, and there is no memory for the text of its failure";
    call->message = message.data != NULL ? limited(message) : (csw_bytes){none, sizeof none - 1};
    call->detail = detail.data != NULL ? limited(detail) : (csw_bytes){"", 0};
}

csw_status csw_call_fail(csw_call *call, csw_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set_failure(call, format_text(call, format, arguments), (csw_bytes){NULL, 0});
    va_end(arguments);
    return status;
}

csw_status csw_call_no_memory(csw_call *call) {
    static const char text[] = "no memory";
    set_failure(call, (csw_bytes){text, sizeof text - 1}, (csw_bytes){NULL, 0});
    return CSW_ENOMEM;
}

csw_status csw_vfail(csw_call *call, const char *format, va_list arguments) {
    set_failure(call, format_text(call, format, arguments), (csw_bytes){NULL, 0});
    return CSW_ETASK;
}

csw_status csw_fail(csw_call *call, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    csw_status status = csw_vfail(call, format, arguments);
    va_end(arguments);
    return status;
}

csw_status csw_fail_text(
    csw_call *call, const char *message, size_t message_size, const char *detail, size_t detail_size) {
    const char *message_copy = csw_arena_copy(&call->arena, message, message_size);
    const char *detail_copy = csw_arena_copy(&call->arena, detail, detail_size);
    set_failure(call, (csw_bytes){message_copy, message_size}, (csw_bytes){detail_copy, detail_size});
    return CSW_ETASK;
}

const char *csw_call_message(const csw_call *call) {
    return call->message.data;
}

/* --- Debug text and attributes ---------------------------------------------------------------------------------- */

/* Makes room for a line of this size, its newline and a NUL; NULL when there is none. */
static char *debug_room(csw_call *call, size_t size) {
    size_t needed = call->debug_size + size + 2;
    if (needed > call->debug_capacity) {
        size_t capacity = needed < 1024 ? 2048 : needed * 2;
        char *debug = realloc(call->debug, capacity);
        if (debug == NULL) return NULL;
        call->debug = debug;
        call->debug_capacity = capacity;
    }
    return call->debug + call->debug_size;
}

static csw_status take_line(csw_call *call, size_t size) {
    csw_call_beat(call);
    call->debug[call->debug_size + size] = '\n';
    call->debug_size += size + 1;
    return CSW_OK;
}

/* Past the limit one line says that the rest is missing. */
static bool is_debug_full(csw_call *call, size_t size) {
    static const char note[] = "(more debug lines than 1 MiB: the rest is left out)";
    if (call->is_debug_cut) return true;
    if (size < text_bytes_max - call->debug_size) return false;
    call->is_debug_cut = true;
    char *room = debug_room(call, sizeof note - 1);
    if (room == NULL) return true;
    memcpy(room, note, sizeof note - 1);
    take_line(call, sizeof note - 1);
    return true;
}

csw_status csw_debug_text(csw_call *call, const char *line, size_t size) {
    if (is_debug_full(call, size)) return CSW_OK;
    char *room = debug_room(call, size);
    if (room == NULL) return csw_call_no_memory(call);
    if (size != 0) memcpy(room, line, size);
    return take_line(call, size);
}

csw_status csw_vdebug(csw_call *call, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (size < 0) return csw_call_fail(call, CSW_EINVAL, "a debug line's format is wrong");
    if (is_debug_full(call, (size_t)size)) return CSW_OK;
    char *room = debug_room(call, (size_t)size);
    if (room == NULL) return csw_call_no_memory(call);
    vsnprintf(room, (size_t)size + 1, format, arguments);
    return take_line(call, (size_t)size);
}

csw_status csw_debug(csw_call *call, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    csw_status status = csw_vdebug(call, format, arguments);
    va_end(arguments);
    return status;
}

csw_status csw_set_attributes(csw_call *call, const char *json, size_t size) {
    if (size > text_bytes_max) return csw_call_fail(call, CSW_EINVAL, "attributes of more than 1 MiB");
    const char *copy = csw_arena_copy(&call->arena, json, size);
    if (copy == NULL) return csw_call_no_memory(call);
    call->attributes = (csw_bytes){copy, size};
    return CSW_OK;
}
