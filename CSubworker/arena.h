/* Memory that lasts as long as a call. Taking some is adding to a pointer; the first chunk is kept from call to call. */
#ifndef CSW_ARENA_H
#define CSW_ARENA_H

#include "csubworker.h"

typedef struct csw_arena {
    struct csw_arena_chunk *chunk; /* the newest */
    size_t chunk_bytes;            /* the least to ask the system for; 0: room for a few inline outputs */
} csw_arena;

/* Aligned to 16 bytes, not zeroed; NULL when there is no memory. */
void *csw_arena_take(csw_arena *arena, size_t size);
/* With a NUL behind it, so that it can serve as a string. */
char *csw_arena_copy(csw_arena *arena, const void *data, size_t size);
void csw_arena_reset(csw_arena *arena);
void csw_arena_release(csw_arena *arena);

#endif
