/* The inputs that the worker asked this subworker to remember, by key, until it says to drop them.
 *
 * A call counts as a user of what it was given. What is dropped, or a value in whose place another one came, goes when the
 * last call that may look at it has ended. Its functions may be called by several threads. */
#ifndef CSW_CACHE_H
#define CSW_CACHE_H

#include "protocol.h"
#include "source.h"
#include "table.h"

#include <pthread.h>

/* What the user hung on an input. */
typedef struct csw_value {
    struct csw_value *older; /* one that was replaced */
    void *value;
    void (*destroy)(void *value, void *context);
    void *context;
} csw_value;

typedef struct csw_cached {
    csw_key key;
    size_t users;
    bool is_dropped;
    csw_source source; /* its memory, descriptor and path are owned */
    char *content_type;
    char *attributes;
    size_t attributes_size;
    csw_value *values; /* the newest first */
} csw_cached;

typedef struct csw_cache {
    pthread_mutex_t lock;
    csw_table table;
} csw_cache;

void csw_cache_open(csw_cache *cache);
/* What is remembered under a key, with one user more; NULL when it is not. */
csw_cached *csw_cache_use(csw_cache *cache, csw_key key);
/* Remembers an input, with one user. On failure errno says why: no memory, or the file can't be opened.
 *   descriptor   the one that came with it, where its location says so; duplicated */
csw_cached *csw_cache_keep(csw_cache *cache, const csw_wire_input *input, int descriptor);
void csw_cache_leave(csw_cache *cache, csw_cached *cached);
void csw_cache_drop(csw_cache *cache, csw_key key);
/* False when there is no memory. */
bool csw_cache_attach(
    csw_cache *cache, csw_cached *cached, void *value, void (*destroy)(void *value, void *context), void *context);
void *csw_cache_attached(csw_cache *cache, const csw_cached *cached);
/* csw_source_map() for a source that calls share. */
bool csw_cache_map(csw_cache *cache, csw_cached *cached, const char **reason, int *code);
void csw_cache_close(csw_cache *cache);

#endif
