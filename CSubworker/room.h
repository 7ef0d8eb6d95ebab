/* The room that an output's file was given: part of the credit of its call, or what the worker granted for it. */
#ifndef CSW_ROOM_H
#define CSW_ROOM_H

#include "csubworker.h"

#include <stdbool.h>

typedef struct csw_room {
    uint32_t id; /* of the reserve that was granted; 0: none, it is part of the credit */
    uint64_t bytes;
    const char *directory; /* where the file is to be; in the call's arena */
} csw_room;

/* Makes sure of room for a file of output i, of `least` bytes in all and `most` where they are to be had; asks the worker
 * and waits for its answer where the call's credit is not enough. The room is as before when it fails.
 *   returns   CSW_OK: the file may have room->bytes and is to be in room->directory; else after setting the call's failure */
csw_status csw_room_ask(csw_call *call, size_t i, csw_room *room, uint64_t least, uint64_t most);
/* The file system had no space for what was counted, because of those who don't ask. Asks the worker, who may know another
 * place.
 *   returns   whether to try there; else errno is ENOSPC and the room is as before */
bool csw_room_elsewhere(csw_call *call, csw_room *room, uint64_t bytes);
/* The file is not made after all. */
void csw_room_give_back(csw_call *call, csw_room *room);

#endif
