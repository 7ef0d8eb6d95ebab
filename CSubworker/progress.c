#define _GNU_SOURCE
#include "clock.h"
#include "subworker.h"

#include <string.h>

/* A message for each loop of a task would cost more than the task, so there is a purse: a burst, then so many a second.
 * Who reports that often reports again soon. */
enum { purse_max = 16, refill_ns = 100000000 };
enum { whole = 1000000, progress_step = whole / 200, progress_text_bytes_max = 1024 };

void csw_call_beat(csw_call *call) {
    /* Only this call writes it, so nothing is lost between the two. */
    uint32_t beat = atomic_load_explicit(&call->slot->heartbeat, memory_order_relaxed);
    atomic_store_explicit(&call->slot->heartbeat, beat + 1, memory_order_relaxed);
}

uint64_t csw_progress_hash(const char *text, size_t size) {
    uint64_t value = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < size; i += 1)
        value = (value ^ (uint8_t)text[i]) * 0x100000001b3;
    return value;
}

/* Not in the middle of a character. */
static size_t cut(const char *text, size_t size) {
    if (size <= progress_text_bytes_max) return size;
    size = progress_text_bytes_max;
    while (size > 0 && ((uint8_t)text[size] & 0xc0) == 0x80)
        size -= 1;
    return size;
}

static bool is_affordable(csw_progress_purse *purse) {
    uint64_t now = csw_now_ns();
    uint64_t earned = (now - purse->filled_ns) / refill_ns;
    if (earned != 0) {
        purse->spent = earned < purse->spent ? purse->spent - (uint32_t)earned : 0;
        purse->filled_ns = purse->spent == 0 ? now : purse->filled_ns + earned * refill_ns;
    }
    if (purse->spent >= purse_max) return false;
    purse->spent += 1;
    return true;
}

csw_status csw_progress(csw_call *call, double fraction, const char *text) {
    if (!call->is_open) return CSW_ESTATE;
    csw_subworker *subworker = call->subworker;
    uint32_t millionths = !(fraction > 0) ? 0 : fraction >= 1 ? whole : (uint32_t)(fraction * whole);
    atomic_store_explicit(&call->slot->progress, millionths, memory_order_relaxed);
    csw_call_beat(call);
    if (!subworker->takes_progress) return CSW_OK;
    size_t size = text != NULL ? cut(text, strlen(text)) : 0;
    uint64_t text_hash = csw_progress_hash(text, size);
    uint32_t change =
        millionths > call->told_progress ? millionths - call->told_progress : call->told_progress - millionths;
    bool is_news = text_hash != call->told_text_hash || change >= progress_step || (change != 0 && millionths == whole);
    if (!is_news || !is_affordable(&call->purse)) return CSW_OK;
    csw_bytes bytes = {text, size};
    if (!csw_encode_progress(&call->builder, call->wire.slot, millionths, bytes)) return csw_call_no_memory(call);
    call->told_progress = millionths;
    call->told_text_hash = text_hash;
    return csw_subworker_send(subworker, &call->builder);
}
