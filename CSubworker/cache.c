#define _GNU_SOURCE
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static csw_table_key table_key(csw_key key) {
    return (csw_table_key){(uint64_t)key.session << 32 | key.index, (uint64_t)key.epoch << 32 | key.number};
}

static void release(void *value) {
    csw_cached *cached = value;
    csw_cached_attach(cached, NULL, NULL, NULL);
    csw_source_unmap(&cached->source);
    if (cached->source.kind == CSW_SOURCE_MEMORY) free((void *)cached->source.data);
    if (cached->source.kind == CSW_SOURCE_PATH) free((void *)cached->source.path);
    if (cached->source.descriptor >= 0) close(cached->source.descriptor);
    free(cached->content_type);
    free(cached->attributes);
    free(cached);
}

csw_cached *csw_cache_find(const csw_cache *cache, csw_key key) {
    return csw_table_find(&cache->table, table_key(key));
}

static void *copy(csw_bytes bytes) {
    char *copied = malloc(bytes.size + 1);
    if (copied == NULL) return NULL;
    memcpy(copied, bytes.data, bytes.size);
    copied[bytes.size] = 0;
    return copied;
}

/* Takes hold of the bytes. A file is held open, because the worker may remove its name while we still remember it. */
static bool hold(csw_source *source, const csw_wire_input *input, int descriptor) {
    switch (input->location) {
    case CSW_LOCATION_INLINE:
        source->kind = CSW_SOURCE_MEMORY;
        source->data = copy(input->bytes);
        return source->data != NULL;
    case CSW_LOCATION_DESCRIPTOR:
        source->kind = CSW_SOURCE_DESCRIPTOR;
        source->descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
        return source->descriptor >= 0;
    case CSW_LOCATION_PATH:
        if (input->is_directory) {
            source->kind = CSW_SOURCE_PATH;
            source->path = copy(input->path);
            return source->path != NULL;
        }
        source->kind = CSW_SOURCE_DESCRIPTOR;
        source->descriptor = open(input->path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        return source->descriptor >= 0;
    case CSW_LOCATION_CACHED:
    case CSW_LOCATION_COUNT:
        break;
    }
    errno = EINVAL;
    return false;
}

csw_cached *csw_cache_keep(csw_cache *cache, const csw_wire_input *input, int descriptor) {
    csw_cached *cached = calloc(1, sizeof *cached);
    if (cached == NULL) return NULL;
    cached->key = input->key;
    cached->source = (csw_source){.size = input->size_bytes, .is_directory = input->is_directory, .descriptor = -1};
    cached->content_type = copy(input->content_type);
    cached->attributes = copy(input->attributes);
    cached->attributes_size = input->attributes.size;
    bool is_good = hold(&cached->source, input, descriptor) && cached->content_type != NULL &&
                   cached->attributes != NULL && csw_table_put(&cache->table, table_key(input->key), cached);
    if (is_good) return cached;
    int code = errno;
    release(cached);
    errno = code;
    return NULL;
}

void csw_cache_drop(csw_cache *cache, csw_key key) {
    csw_cached *cached = csw_table_remove(&cache->table, table_key(key));
    if (cached != NULL) release(cached);
}

void csw_cached_attach(csw_cached *cached, void *value, void (*destroy)(void *value, void *context), void *context) {
    void *old = cached->value;
    void (*destroy_old)(void *, void *) = cached->destroy;
    void *context_old = cached->context;
    cached->value = value;
    cached->destroy = destroy;
    cached->context = context;
    if (old != NULL && destroy_old != NULL) destroy_old(old, context_old);
}

void csw_cache_release(csw_cache *cache) {
    csw_table_release(&cache->table, release);
}
