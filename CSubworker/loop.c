#define _GNU_SOURCE
#include "subworker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A result waits for others until one of these, or until there is nothing else to do. */
enum { flush_bytes = 64 << 10, flush_ns = 200000 };

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static csw_status malformed(csw_subworker *subworker, const char *reason) {
    return csw_subworker_fail(subworker, CSW_EPROTO, "malformed message of the worker: %s", reason);
}

static csw_status no_memory(csw_subworker *subworker) {
    return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for a message of the worker");
}

/* --- Results ---------------------------------------------------------------------------------------------------- */

static csw_status flush(csw_subworker *subworker) {
    if (subworker->results.count == 0) return CSW_OK;
    csw_results_finish(&subworker->results);
    const csw_builder *builder = &subworker->results.builder;
    csw_status status = csw_link_send(&subworker->link, builder->bytes, builder->words * 8);
    csw_results_clear(&subworker->results);
    return status == CSW_OK ? CSW_OK : csw_subworker_fail_link(subworker, status);
}

csw_status csw_flush(csw_subworker *subworker) {
    if (subworker == NULL) return CSW_EINVAL;
    if (subworker->life == CSW_LIFE_FAILED) return subworker->failure;
    return flush(subworker);
}

static csw_status answer(csw_subworker *subworker, csw_status status) {
    csw_call *call = &subworker->call;
    csw_wire_result result;
    uint64_t now = now_ns();
    csw_call_conclude(call, status, &result);
    result.duration_ns = now - call->started_ns;
    csw_template_learn(call->shared, result.duration_ns);
    if (subworker->results.count == 0) subworker->oldest_result_ns = now;
    bool is_added = csw_results_add(&subworker->results, &result);
    csw_call_close(call, is_added && result.outcome == CSW_OUTCOME_OUTPUTS);
    if (!is_added) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for the result of a call");
    if (subworker->control_page != NULL) csw_control_page_done(&subworker->control_page[result.slot]);
    if (subworker->results.count == CSW_SLOT_COUNT || subworker->results.builder.words * 8 >= flush_bytes)
        return flush(subworker);
    return CSW_OK;
}

csw_status csw_finish(csw_call *call, csw_status status) {
    if (call == NULL) return CSW_EINVAL;
    if (!call->is_open) {
        csw_subworker_note(call->subworker, "csw_finish: the call has ended already");
        return CSW_ESTATE;
    }
    if (call->subworker->life == CSW_LIFE_FAILED) {
        csw_call_close(call, false);
        return call->subworker->failure;
    }
    return answer(call->subworker, status);
}

/* --- Inputs of a call ------------------------------------------------------------------------------------------- */

/* Takes an input that is remembered, or is to be. A failure is the task's, not the connection's: `refusal` stays set. */
static void take_cached(csw_subworker *subworker, csw_input *input, const csw_wire_input *wire, size_t i) {
    csw_call *call = &subworker->call;
    input->cached = csw_cache_find(&subworker->cache, wire->key);
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

static csw_status take_input(csw_subworker *subworker, size_t i) {
    csw_call *call = &subworker->call;
    csw_wire_input wire;
    if (!csw_decode_input(&call->wire.inputs, (uint32_t)i, &wire)) return malformed(subworker, subworker->reader.error);
    if (wire.location == CSW_LOCATION_DESCRIPTOR && wire.descriptor >= subworker->descriptor_count)
        return malformed(subworker, "input behind a descriptor that did not come with it");
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
        take_cached(subworker, input, &wire, i);
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

/* --- One call --------------------------------------------------------------------------------------------------- */

/* Whether the task can run the call at all; false after setting the call's failure. */
static bool is_runnable(csw_call *call) {
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

/* Results must not wait behind a call that may take long; and such a call is not begun for a worker that is gone, which
 * is worth a system call then. */
static csw_status flush_before(csw_subworker *subworker, const csw_template *shared) {
    csw_call *call = &subworker->call;
    call->started_ns = now_ns();
    bool is_long = shared->expected_ns > flush_ns;
    bool is_old = subworker->results.count != 0 && call->started_ns - subworker->oldest_result_ns > flush_ns;
    if (!is_long && !is_old) return CSW_OK;
    csw_status status = flush(subworker);
    if (status == CSW_OK && is_long) csw_link_notice_end(&subworker->link);
    call->started_ns = now_ns();
    return status;
}

static csw_taken take_slot(csw_subworker *subworker) {
    csw_call *call = &subworker->call;
    if (subworker->control_page == NULL) return CSW_TAKEN;
    csw_control_slot *slot = &subworker->control_page[call->wire.slot];
    call->cancel = &slot->cancel;
    return csw_control_page_take(slot, call->wire.ticket);
}

/* Opens the next call of the message; *out is NULL when it was recalled or answered without running. */
static csw_status open_call(csw_subworker *subworker, csw_call **out) {
    *out = NULL;
    csw_call *call = &subworker->call;
    csw_wire_call wire;
    if (!csw_decode_call(&subworker->calls, subworker->next_call++, &wire))
        return malformed(subworker, subworker->reader.error);
    csw_template *shared = csw_templates_find(&subworker->templates, wire.template_id);
    if (shared == NULL) return malformed(subworker, "call of a template that was never sent");
    csw_status status = flush_before(subworker, shared);
    if (status != CSW_OK || subworker->link.is_ended) return status;
    if (!csw_call_open(call, shared, &wire)) return no_memory(subworker);
    /* Also those of a recalled call: the worker counts on what it asked us to remember. */
    for (size_t i = 0; i < wire.inputs.count; i += 1) {
        status = take_input(subworker, i);
        if (status == CSW_OK) continue;
        csw_call_close(call, false);
        return status;
    }
    csw_taken taken = take_slot(subworker);
    if (taken != CSW_TAKEN) {
        csw_call_close(call, false);
        return taken == CSW_TAKEN_NOT ? CSW_OK : malformed(subworker, "call for a slot that is running or done");
    }
    if (csw_cancelled(call)) return answer(subworker, CSW_ECANCELLED);
    if (!is_runnable(call)) return answer(subworker, CSW_ETASK);
    *out = call;
    return CSW_OK;
}

/* --- Messages --------------------------------------------------------------------------------------------------- */

static void close_message(csw_subworker *subworker) {
    for (size_t i = 0; i < subworker->descriptor_count; i += 1)
        close(subworker->descriptors[i]);
    subworker->descriptor_count = 0;
    subworker->has_message = false;
    csw_link_consume(&subworker->link, subworker->message_bytes);
}

static csw_status take_descriptors(csw_subworker *subworker, size_t count) {
    if (count == 0) return CSW_OK;
    if (count > subworker->descriptor_capacity) {
        int *larger = realloc(subworker->descriptors, count * sizeof *larger);
        if (larger == NULL) return no_memory(subworker);
        subworker->descriptors = larger;
        subworker->descriptor_capacity = count;
    }
    const int *taken = csw_link_take_descriptors(&subworker->link, count);
    if (taken == NULL) return malformed(subworker, "it speaks of more descriptors than came with it");
    memcpy(subworker->descriptors, taken, count * sizeof *taken);
    subworker->descriptor_count = count;
    return CSW_OK;
}

static csw_status define_templates(csw_subworker *subworker, const csw_list *list) {
    for (uint32_t i = 0; i < list->count; i += 1) {
        csw_status status = csw_templates_define(&subworker->templates, &subworker->tasks, list, i);
        if (status == CSW_EPROTO) return malformed(subworker, subworker->reader.error);
        if (status != CSW_OK) return no_memory(subworker);
    }
    return CSW_OK;
}

static csw_status drop_cached(csw_subworker *subworker, const csw_list *list) {
    for (uint32_t i = 0; i < list->count; i += 1) {
        csw_key key;
        if (!csw_decode_key(list, i, &key)) return malformed(subworker, subworker->reader.error);
        csw_cache_drop(&subworker->cache, key);
    }
    return CSW_OK;
}

/* A call runs to its end before the next message is read, so what is to be cancelled is over; the flag that reaches a
 * running call is the control page's. */
static csw_status check_slots(csw_subworker *subworker, const csw_list *list) {
    for (uint32_t i = 0; i < list->count; i += 1)
        if (csw_list_u32(list, i) >= CSW_SLOT_COUNT) return malformed(subworker, "cancel for a slot above 63");
    return CSW_OK;
}

static csw_status pong(csw_subworker *subworker, uint64_t ping) {
    if (!csw_encode_pong(&subworker->builder, ping)) return no_memory(subworker);
    csw_status status = csw_link_send(&subworker->link, subworker->builder.bytes, subworker->builder.words * 8);
    return status == CSW_OK ? CSW_OK : csw_subworker_fail_link(subworker, status);
}

/* Carries out a message; one with calls stays open. */
static csw_status open_message(csw_subworker *subworker, const uint8_t *bytes, size_t size) {
    csw_envelope envelope;
    csw_reader_open(&subworker->reader, bytes, size);
    subworker->message_bytes = size;
    subworker->has_message = true;
    csw_link_pin(&subworker->link);
    if (!csw_decode_envelope(&subworker->reader, &envelope)) return malformed(subworker, subworker->reader.error);
    csw_status status = take_descriptors(subworker, envelope.descriptor_count);
    if (status != CSW_OK) return status;
    switch (envelope.kind) {
    case CSW_MESSAGE_WELCOME:
    case CSW_MESSAGE_REFUSED:
    case CSW_MESSAGE_KIND_COUNT:
        return malformed(subworker, "welcome or refused after the welcome");
    case CSW_MESSAGE_TEMPLATES:
        status = define_templates(subworker, &envelope.list);
        break;
    case CSW_MESSAGE_CALLS:
        subworker->calls = envelope.list;
        subworker->next_call = 0;
        return CSW_OK;
    case CSW_MESSAGE_DROP_CACHED:
        status = drop_cached(subworker, &envelope.list);
        break;
    case CSW_MESSAGE_CANCEL:
        status = check_slots(subworker, &envelope.list);
        break;
    case CSW_MESSAGE_PING:
        status = pong(subworker, envelope.ping);
        break;
    case CSW_MESSAGE_SHUTDOWN:
        status = flush(subworker);
        if (status == CSW_OK) subworker->life = CSW_LIFE_ENDED;
        break;
    }
    if (status == CSW_OK) close_message(subworker);
    return status;
}

/* Gets more bytes: what is there already, else it sends the results and waits. */
static csw_status receive(csw_subworker *subworker) {
    csw_link *link = &subworker->link;
    bool received = false;
    csw_status status = CSW_OK;
    if (csw_link_has_stray_descriptors(link)) return malformed(subworker, "descriptors that it does not speak of");
    if (subworker->results.count != 0) {
        status = csw_link_receive(link, CSW_DONT_WAIT, &received);
        if (status != CSW_OK) return csw_subworker_fail_link(subworker, status);
        if (received) return CSW_OK;
        /* Sending reads too, so there may be a message now: look again before waiting for one. */
        return flush(subworker);
    }
    status = csw_link_receive(link, CSW_WAIT, &received);
    return status == CSW_OK ? CSW_OK : csw_subworker_fail_link(subworker, status);
}

/* One step towards the next call. */
static csw_status step(csw_subworker *subworker, csw_call **out) {
    if (subworker->has_message) {
        if (subworker->next_call < subworker->calls.count) return open_call(subworker, out);
        close_message(subworker);
        return CSW_OK;
    }
    const uint8_t *message;
    size_t size;
    csw_status status = csw_link_message(&subworker->link, &message, &size);
    if (status != CSW_OK) return csw_subworker_fail_link(subworker, status);
    return message != NULL ? open_message(subworker, message, size) : receive(subworker);
}

csw_status csw_next(csw_subworker *subworker, csw_call **out) {
    if (subworker == NULL || out == NULL) return CSW_EINVAL;
    *out = NULL;
    if (subworker->call.is_open) {
        csw_subworker_note(subworker, "csw_next: the call before is not finished");
        return CSW_ESTATE;
    }
    csw_status status = csw_connect(subworker);
    while (status == CSW_OK && *out == NULL && subworker->life == CSW_LIFE_CONNECTED && !subworker->link.is_ended)
        status = step(subworker, out);
    return status;
}
