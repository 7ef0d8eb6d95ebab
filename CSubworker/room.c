#define _GNU_SOURCE
#include "room.h"
#include "subworker.h"

#include <errno.h>
#include <string.h>

/* Whether the call's credit is enough for the least, and pays for as much of the most as it can. */
static bool fits_credit(csw_call *call, csw_room *room, uint64_t least, uint64_t most) {
    uint64_t credit = call->subworker->credit_bytes, others = call->credit_used - room->bytes;
    if (others > credit || least > credit - others) return false;
    room->bytes = most < credit - others ? most : credit - others;
    call->credit_used = others + room->bytes;
    return true;
}

csw_status csw_room_ask(csw_call *call, size_t i, csw_room *room, uint64_t least, uint64_t most) {
    csw_subworker *subworker = call->subworker;
    if (room->directory == NULL) room->directory = call->staging->directory;
    if (subworker->credit_bytes == 0) { /* a worker that does not want to be asked */
        room->bytes = most;
        return CSW_OK;
    }
    if (room->id != 0 ? least <= room->bytes : fits_credit(call, room, least, most)) return CSW_OK;
    csw_room granted = {.id = room->id, .bytes = most};
    if (granted.id == 0) granted.id = csw_subworker_next_id(subworker);
    csw_grant grant;
    csw_status status = csw_subworker_reserve(call, granted.id, most, &grant);
    if (status != CSW_OK) return status;
    if (grant.is_refused)
        return csw_call_fail(
            call, CSW_EIO, "%s of %llu bytes: the worker has no room for it: %s", csw_output_title(call, i),
            (unsigned long long)most, grant.text);
    granted.directory = grant.text;
    if (room->id == 0) call->credit_used -= room->bytes;
    *room = granted;
    return CSW_OK;
}

bool csw_room_elsewhere(csw_call *call, csw_room *room, uint64_t bytes) {
    csw_subworker *subworker = call->subworker;
    csw_grant grant;
    csw_room granted = {.id = room->id, .bytes = room->id == 0 ? bytes : room->bytes};
    if (granted.id == 0) granted.id = csw_subworker_next_id(subworker);
    bool is_elsewhere = subworker->credit_bytes != 0 && strcmp(room->directory, call->staging->directory) == 0 &&
                        csw_subworker_reserve(call, granted.id, granted.bytes, &grant) == CSW_OK && !grant.is_refused &&
                        (room->id == 0 || strcmp(grant.text, room->directory) != 0);
    errno = ENOSPC;
    if (!is_elsewhere) return false;
    granted.directory = grant.text;
    if (room->id == 0) call->credit_used -= room->bytes;
    *room = granted;
    return true;
}

void csw_room_give_back(csw_call *call, csw_room *room) {
    if (room->id == 0)
        call->credit_used -= call->subworker->credit_bytes != 0 ? room->bytes : 0;
    else if (csw_encode_reserve(&call->builder, call->wire.slot, room->id, 0))
        /* A connection that is broken is found by who waits for something. */
        (void)csw_subworker_send(call->subworker, &call->builder);
    *room = (csw_room){0};
}
