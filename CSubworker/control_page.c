#define _GNU_SOURCE
#include "control_page.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "a lock would not be shared with the worker");
_Static_assert(sizeof(csw_control_slot) == 64, "layout of the control page");

enum { page_bytes = CSW_SLOT_COUNT * sizeof(csw_control_slot) };

csw_control_slot *csw_control_page_map(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) return NULL;
    if (status.st_size < page_bytes) {
        errno = EINVAL;
        return NULL;
    }
    void *slots = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    return slots == MAP_FAILED ? NULL : slots;
}

void csw_control_page_unmap(csw_control_slot *slots) {
    if (slots != NULL) munmap(slots, page_bytes);
}

csw_taken csw_control_page_take(csw_control_slot *slot, uint32_t ticket) {
    uint32_t state = CSW_SLOT_QUEUED;
    if (!atomic_compare_exchange_strong(&slot->state, &state, CSW_SLOT_RUNNING))
        /* A worker that recalls a call may free its slot at once. */
        return state == CSW_SLOT_RECALLED || state == CSW_SLOT_FREE ? CSW_TAKEN_NOT : CSW_TAKEN_WRONGLY;
    /* The worker writes a ticket only while it owns the slot, so now it can't change. */
    if (ticket == 0 || atomic_load_explicit(&slot->ticket, memory_order_relaxed) == ticket) return CSW_TAKEN;
    atomic_store(&slot->state, CSW_SLOT_QUEUED);
    return CSW_TAKEN_NOT;
}

void csw_control_page_done(csw_control_slot *slot) {
    atomic_store_explicit(&slot->state, CSW_SLOT_DONE, memory_order_release);
}
