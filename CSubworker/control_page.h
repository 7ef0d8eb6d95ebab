/* The page that a worker shares with a subworker: the states of the calls in flight (include/subworker.capnp). */
#ifndef CSW_CONTROL_PAGE_H
#define CSW_CONTROL_PAGE_H

#include "protocol.h"

#include <stdatomic.h>

typedef struct csw_control_slot {
    _Atomic uint32_t state;
    _Atomic uint32_t cancel;
    _Atomic uint32_t progress;
    _Atomic uint32_t heartbeat;
    _Atomic uint32_t ticket;
    uint32_t reserved[11];
} csw_control_slot;

enum {
    CSW_SLOT_FREE = 0,
    CSW_SLOT_QUEUED = 1,
    CSW_SLOT_RUNNING = 2,
    CSW_SLOT_DONE = 3,
    CSW_SLOT_RECALLED = 4,
    CSW_SLOT_AT_FAULT = 5
};

typedef enum csw_taken { CSW_TAKEN, CSW_TAKEN_NOT, CSW_TAKEN_WRONGLY } csw_taken;

/* Maps the page; NULL with errno when that fails or the file is too short. The descriptor stays the caller's. */
csw_control_slot *csw_control_page_map(int descriptor);
void csw_control_page_unmap(csw_control_slot *slots);

/* Takes a queued call: CSW_TAKEN_NOT when the worker recalled it, CSW_TAKEN_WRONGLY when it was never queued. */
csw_taken csw_control_page_take(csw_control_slot *slot, uint32_t ticket);
void csw_control_page_done(csw_control_slot *slot);

#endif
