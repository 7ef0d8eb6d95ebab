/* The inputs that the worker asked this subworker to remember, by key, until it says to drop them. */
#ifndef CSW_CACHE_H
#define CSW_CACHE_H

#include "protocol.h"
#include "source.h"
#include "table.h"

typedef struct csw_cached {
    csw_key key;
    csw_source source; /* its memory, descriptor and path are owned */
    char *content_type;
    char *attributes;
    size_t attributes_size;
    void *value; /* what the user hung on it */
    void (*destroy)(void *value, void *context);
    void *context;
} csw_cached;

typedef struct csw_cache {
    csw_table table;
} csw_cache;

csw_cached *csw_cache_find(const csw_cache *cache, csw_key key);
/* Remembers an input. On failure errno says why: no memory, or the file can't be opened.
 *   descriptor   the one that came with it, where its location says so; duplicated */
csw_cached *csw_cache_keep(csw_cache *cache, const csw_wire_input *input, int descriptor);
void csw_cache_drop(csw_cache *cache, csw_key key);
void csw_cached_attach(csw_cached *cached, void *value, void (*destroy)(void *value, void *context), void *context);
void csw_cache_release(csw_cache *cache);

#endif
