#define _GNU_SOURCE
#include "calls.h"

#include <errno.h>
#include <string.h>

static csw_status malformed_call(csw_subworker *subworker, const char *reason) {
    return csw_subworker_fail(subworker, CSW_EPROTO, "malformed message of the worker: %s", reason);
}

/* Takes an input that is remembered, or is to be. A failure is the task's, not the connection's. */
static void take_cached(csw_call *call, csw_input *input, const csw_wire_input *wire, size_t i) {
    csw_subworker *subworker = call->subworker;
    input->cached = csw_cache_use(&subworker->cache, wire->key);
    if (input->cached == NULL && wire->location == CSW_LOCATION_CACHED) {
        csw_call_fail(
            call, CSW_ETASK, "%s (object %u of session %u) is not remembered here, though the worker says so",
            csw_input_title(call, i), (unsigned)wire->key.index, (unsigned)wire->key.session);
        return;
    }
    if (input->cached == NULL) {
        int descriptor = wire->location == CSW_LOCATION_DESCRIPTOR ? subworker->descriptors[wire->descriptor] : -1;
        input->cached = csw_cache_keep(&subworker->cache, wire, descriptor);
    }
    if (input->cached == NULL) {
        csw_call_fail(call, CSW_ETASK, "%s can't be remembered: %s", csw_input_title(call, i), strerror(errno));
        return;
    }
    const csw_cached *cached = input->cached;
    input->size = cached->source.size;
    if (wire->content_type.size == 0) input->content_type = cached->content_type;
    if (wire->attributes.size == 0) input->attributes = (csw_bytes){cached->attributes, cached->attributes_size};
}

static csw_status take_input(csw_call *call, size_t i) {
    csw_subworker *subworker = call->subworker;
    csw_wire_input wire;
    if (!csw_decode_input(&call->wire.inputs, (uint32_t)i, &wire))
        return malformed_call(subworker, subworker->reader.error);
    if (wire.location == CSW_LOCATION_DESCRIPTOR && wire.descriptor >= subworker->descriptor_count)
        return malformed_call(subworker, "input behind a descriptor that did not come with it");
    csw_input *input = &call->inputs[i];
    *input = (csw_input){
        .key = wire.key,
        .size = wire.size_bytes,
        .content_type = wire.content_type.data,
        .attributes = wire.attributes,
        .own = {.descriptor = -1, .size = wire.size_bytes, .is_directory = wire.is_directory},
    };
    call->input_count = i + 1;
    if (wire.keep || wire.location == CSW_LOCATION_CACHED) {
        take_cached(call, input, &wire, i);
    } else if (wire.location == CSW_LOCATION_INLINE) {
        input->own.kind = CSW_SOURCE_MEMORY;
        input->own.data = wire.bytes.data;
    } else if (wire.location == CSW_LOCATION_DESCRIPTOR) {
        input->own.kind = CSW_SOURCE_DESCRIPTOR;
        input->own.descriptor = subworker->descriptors[wire.descriptor];
    } else {
        input->own.kind = CSW_SOURCE_PATH;
        input->own.path = wire.path.data;
    }
    return CSW_OK;
}

csw_status csw_calls_open_next(csw_subworker *subworker, csw_call *call) {
    csw_wire_call wire;
    if (!csw_decode_call(&subworker->calls, subworker->next_call++, &wire))
        return malformed_call(subworker, subworker->reader.error);
    csw_template *shared = csw_templates_find(&subworker->templates, wire.template_id);
    if (shared == NULL) return malformed_call(subworker, "call of a template that was never sent");
    if (!csw_call_open(call, shared, &wire))
        return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for a call of the worker");
    call->slot =
        subworker->control_page != NULL ? &subworker->control_page[wire.slot] : &subworker->own_slots[wire.slot];
    if (subworker->control_page == NULL) atomic_store_explicit(&call->slot->cancel, 0, memory_order_relaxed);
    /* Also those of a recalled call: the worker counts on what it asked us to remember. */
    for (size_t i = 0; i < wire.inputs.count; i += 1) {
        csw_status status = take_input(call, i);
        if (status == CSW_OK) continue;
        csw_call_close(call, false);
        return status;
    }
    return CSW_OK;
}

csw_taken csw_call_take(csw_call *call) {
    csw_taken taken = CSW_TAKEN;
    if (call->subworker->control_page != NULL) taken = csw_control_page_take(call->slot, call->wire.ticket);
    if (taken == CSW_TAKEN) csw_call_beat(call);
    return taken;
}

bool csw_call_is_runnable(csw_call *call) {
    const csw_task_entry *task = call->shared->task;
    if (call->message.size != 0) return false;
    if (task == NULL) {
        csw_call_fail(
            call, CSW_ETASK, "subworker \"%s\" has no task \"%s\"", call->subworker->name, call->shared->method);
        return false;
    }
    size_t input_count = call->input_count - csw_constant_count(call);
    if (task->type.input_count != 0 && task->type.input_count != input_count) {
        csw_call_fail(
            call, CSW_ETASK, "task \"%s\" takes %zu inputs, but was given %zu", call->shared->method,
            task->type.input_count, input_count);
        return false;
    }
    if (task->type.output_count != 0 && task->type.output_count != call->output_count) {
        csw_call_fail(
            call, CSW_ETASK, "task \"%s\" has %zu outputs, but was asked for %zu", call->shared->method,
            task->type.output_count, call->output_count);
        return false;
    }
    return true;
}

csw_status csw_call_run(csw_call *call) {
    csw_function *function = csw_call_function(call);
    return function != NULL ? function(call, csw_call_context(call))
                            : csw_fail(call, "task \"%s\" has no function", csw_call_method(call));
}
