#define _GNU_SOURCE
#include "calls.h"
#include "clock.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A result waits for others until one of these, or until there is nothing else to do. */
enum { flush_bytes = 64 << 10, flush_ns = 200000 };

static csw_status malformed(csw_subworker *subworker, const char *reason) {
    return csw_subworker_fail(subworker, CSW_EPROTO, "malformed message of the worker: %s", reason);
}

static csw_status no_memory(csw_subworker *subworker) {
    return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for a message of the worker");
}

/* --- Results ---------------------------------------------------------------------------------------------------- */

bool csw_results_are_enough(const csw_results *results) {
    return results->count == CSW_SLOT_COUNT || results->builder.words * 8 >= flush_bytes;
}

static bool is_long(const csw_template *shared) {
    return shared->expected_ns > flush_ns;
}

bool csw_results_must_go(const csw_subworker *subworker, const csw_template *next) {
    if (subworker->results.count == 0) return false;
    return is_long(next) || csw_now_ns() - subworker->oldest_result_ns > flush_ns;
}

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
    uint64_t now = csw_now_ns();
    csw_call_conclude(call, status, &result);
    result.duration_ns = now - call->started_ns;
    csw_template_learn(call->shared, result.duration_ns);
    if (subworker->results.count == 0) subworker->oldest_result_ns = now;
    bool is_added = csw_results_add(&subworker->results, &result);
    csw_call_close(call, is_added && result.outcome == CSW_OUTCOME_OUTPUTS);
    if (!is_added) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory for the result of a call");
    if (subworker->control_page != NULL) csw_control_page_done(&subworker->control_page[result.slot]);
    return csw_results_are_enough(&subworker->results) ? flush(subworker) : CSW_OK;
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

/* --- One call --------------------------------------------------------------------------------------------------- */

/* A call that may take long is not begun for a worker that is gone, which is worth a system call then. */
static csw_status flush_before(csw_subworker *subworker, const csw_template *shared) {
    csw_call *call = &subworker->call;
    call->started_ns = csw_now_ns();
    bool is_old = subworker->results.count != 0 && call->started_ns - subworker->oldest_result_ns > flush_ns;
    if (!is_long(shared) && !is_old) return CSW_OK;
    csw_status status = flush(subworker);
    if (status == CSW_OK && is_long(shared)) csw_link_notice_end(&subworker->link);
    call->started_ns = csw_now_ns();
    return status;
}

/* Opens the next call of the message; *out is NULL when it was recalled or answered without running. */
static csw_status open_call(csw_subworker *subworker, csw_call **out) {
    *out = NULL;
    csw_call *call = &subworker->call;
    csw_status status = csw_calls_open_next(subworker, call);
    if (status != CSW_OK) return status;
    status = flush_before(subworker, call->shared);
    if (status != CSW_OK || subworker->link.is_ended) {
        csw_call_close(call, false);
        return status;
    }
    csw_taken taken = csw_call_take(call);
    if (taken != CSW_TAKEN) {
        csw_call_close(call, false);
        return taken == CSW_TAKEN_NOT ? CSW_OK : malformed(subworker, "call for a slot that is running or done");
    }
    if (csw_cancelled(call)) return answer(subworker, CSW_ECANCELLED);
    if (!csw_call_is_runnable(call)) return answer(subworker, CSW_ETASK);
    *out = call;
    return CSW_OK;
}

/* --- Messages --------------------------------------------------------------------------------------------------- */

static void close_message(csw_subworker *subworker) {
    for (size_t i = 0; i < subworker->descriptor_count; i += 1)
        close(subworker->descriptors[i]);
    subworker->descriptor_count = 0;
    subworker->has_message = false;
    subworker->seen_bytes -=
        subworker->seen_bytes < subworker->message_bytes ? subworker->seen_bytes : subworker->message_bytes;
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
        csw_status status =
            csw_templates_define(&subworker->templates, &subworker->tasks, list, i, &subworker->replaced);
        if (status == CSW_EPROTO) return malformed(subworker, subworker->reader.error);
        if (status != CSW_OK) return no_memory(subworker);
    }
    if (subworker->pool == NULL) csw_templates_release_replaced(&subworker->replaced); /* no call is open now */
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

/* The flag that reaches a running call is the control page's; where there is none, a pool's calls can still be told. */
static csw_status cancel(csw_subworker *subworker, const csw_list *list) {
    for (uint32_t i = 0; i < list->count; i += 1) {
        uint32_t slot = csw_list_u32(list, i);
        if (slot >= CSW_SLOT_COUNT) return malformed(subworker, "cancel for a slot above 63");
        if (subworker->pool != NULL) atomic_store_explicit(&subworker->own_slots[slot].cancel, 1, memory_order_relaxed);
    }
    return CSW_OK;
}

static csw_status pong(csw_subworker *subworker, uint64_t ping) {
    if (!csw_encode_pong(&subworker->builder, ping)) return no_memory(subworker);
    if (subworker->pool != NULL) return csw_pool_send_as_reader(subworker->pool, &subworker->builder);
    csw_status status = csw_link_send(&subworker->link, subworker->builder.bytes, subworker->builder.words * 8);
    return status == CSW_OK ? CSW_OK : csw_subworker_fail_link(subworker, status);
}

/* An answer is looked for as long as its call waits, so here it has been seen; any other was not asked for. */
static csw_status granted(csw_subworker *subworker, const csw_struct *body) {
    csw_wire_granted message;
    if (!csw_decode_granted(body, &message)) return malformed(subworker, subworker->reader.error);
    if (subworker->pool != NULL) return csw_pool_answer(subworker->pool, &message);
    if (subworker->seen_bytes >= subworker->message_bytes) return CSW_OK;
    return malformed(subworker, "answer to a reserve that nobody made");
}

/* Carries out a message; one with calls stays open, unless a pool takes them. */
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
        if (subworker->pool == NULL) return CSW_OK;
        status = csw_pool_take(subworker->pool, bytes, size);
        break;
    case CSW_MESSAGE_DROP_CACHED:
        status = drop_cached(subworker, &envelope.list);
        break;
    case CSW_MESSAGE_CANCEL:
        status = cancel(subworker, &envelope.list);
        break;
    case CSW_MESSAGE_PING:
        status = pong(subworker, envelope.ping);
        break;
    case CSW_MESSAGE_GRANTED:
        status = granted(subworker, &envelope.body);
        break;
    case CSW_MESSAGE_SHUTDOWN:
        if (subworker->pool == NULL) status = flush(subworker);
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
    if (subworker->pool == NULL && subworker->results.count != 0) {
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

csw_status csw_read(csw_subworker *subworker) {
    csw_call *none = NULL;
    csw_status status = csw_connect(subworker);
    while (status == CSW_OK && subworker->life == CSW_LIFE_CONNECTED && !subworker->link.is_ended)
        status = step(subworker, &none);
    return status;
}

/* --- Messages of a call that is running ------------------------------------------------------------------------- */

csw_status csw_subworker_send(csw_subworker *subworker, const csw_builder *builder) {
    if (subworker->pool != NULL) return csw_pool_send(subworker->pool, builder);
    csw_status status = csw_link_send(&subworker->link, builder->bytes, builder->words * 8);
    return status == CSW_OK ? CSW_OK : csw_subworker_fail_link(subworker, status);
}

uint32_t csw_subworker_next_id(csw_subworker *subworker) {
    uint32_t id;
    do
        id = atomic_fetch_add(&subworker->next_id, 1) + 1;
    while (id == 0);
    return id;
}

/* Looks into a message that lies behind the open one, and leaves it to be carried out later. `*is_answer` tells whether it
 * was the answer. */
static csw_status look_into(
    csw_call *call, const uint8_t *message, size_t size, uint32_t id, csw_grant *out, bool *is_answer) {
    csw_subworker *subworker = call->subworker;
    csw_reader reader;
    csw_envelope envelope;
    csw_wire_granted answer;
    csw_reader_open(&reader, message, size);
    if (!csw_decode_envelope(&reader, &envelope)) return malformed(subworker, reader.error);
    if (envelope.kind == CSW_MESSAGE_SHUTDOWN)
        return csw_call_fail(call, CSW_EIO, "the worker, which was asked for room, wants this subworker to end");
    if (envelope.kind != CSW_MESSAGE_GRANTED) return CSW_OK;
    if (!csw_decode_granted(&envelope.body, &answer)) return malformed(subworker, reader.error);
    if (answer.id != id) return malformed(subworker, "answer to a reserve that nobody made");
    out->is_refused = answer.is_refused;
    out->text = csw_arena_copy(&call->arena, answer.text.data, answer.text.size);
    *is_answer = true;
    return out->text != NULL ? CSW_OK : csw_call_no_memory(call);
}

static csw_status wait_for_answer(csw_call *call, uint32_t id, csw_grant *out) {
    csw_subworker *subworker = call->subworker;
    csw_link *link = &subworker->link;
    if (subworker->seen_bytes < subworker->message_bytes) subworker->seen_bytes = subworker->message_bytes;
    for (;;) {
        const uint8_t *message;
        size_t size;
        bool is_answer = false;
        csw_status status = csw_link_peek(link, subworker->seen_bytes, &message, &size);
        if (status != CSW_OK) return csw_subworker_fail_link(subworker, status);
        if (message != NULL) {
            status = look_into(call, message, size, id, out, &is_answer);
            if (status == CSW_OK) subworker->seen_bytes += size;
            if (status != CSW_OK || is_answer) return status;
            continue;
        }
        if (link->is_ended) return csw_call_fail(call, CSW_EIO, "the worker is gone, which was asked for room");
        if (!csw_link_may_read_ahead(link)) return malformed(subworker, "no answer to a reserve, but much else");
        bool received;
        status = csw_link_receive(link, CSW_WAIT, &received);
        if (status != CSW_OK) return csw_subworker_fail_link(subworker, status);
    }
}

csw_status csw_subworker_reserve(csw_call *call, uint32_t id, uint64_t size, csw_grant *out) {
    csw_subworker *subworker = call->subworker;
    *out = (csw_grant){0};
    if (subworker->pool != NULL) return csw_pool_reserve(call, id, size, out);
    if (subworker->life == CSW_LIFE_FAILED)
        return csw_call_fail(call, subworker->failure, "no connection to the worker: %s", subworker->message);
    if (!csw_encode_reserve(&call->builder, call->wire.slot, id, size)) return csw_call_no_memory(call);
    csw_status status = flush(subworker); /* results must not wait as long as this call may */
    if (status == CSW_OK) status = csw_subworker_send(subworker, &call->builder);
    if (status == CSW_OK) status = wait_for_answer(call, id, out);
    if (subworker->life == CSW_LIFE_FAILED) csw_call_fail(call, status, "%s", subworker->message);
    return status;
}
