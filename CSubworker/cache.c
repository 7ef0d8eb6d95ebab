#define _GNU_SOURCE
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static csw_table_key object_key(csw_key key) {
    return (csw_table_key){(uint64_t)key.session << 32 | key.index, (uint64_t)key.epoch << 32 | key.number};
}

static void destroy_values(csw_value *values) {
    while (values != NULL) {
        csw_value *older = values->older;
        if (values->destroy != NULL) values->destroy(values->value, values->context);
        free(values);
        values = older;
    }
}

static void release_cached(void *value) {
    csw_cached *cached = value;
    destroy_values(cached->values);
    csw_source_unmap(&cached->source);
    if (cached->source.kind == CSW_SOURCE_MEMORY) free((void *)cached->source.data);
    if (cached->source.kind == CSW_SOURCE_PATH) free((void *)cached->source.path);
    if (cached->source.descriptor >= 0) close(cached->source.descriptor);
    free(cached->content_type);
    free(cached->attributes);
    free(cached);
}

void csw_cache_open(csw_cache *cache) {
    /* Without attributes it can't fail. */
    pthread_mutex_init(&cache->lock, NULL);
}

csw_cached *csw_cache_use(csw_cache *cache, csw_key key) {
    pthread_mutex_lock(&cache->lock);
    csw_cached *cached = csw_table_find(&cache->table, object_key(key));
    if (cached != NULL) cached->users += 1;
    pthread_mutex_unlock(&cache->lock);
    return cached;
}

static void *copy_bytes(csw_bytes bytes) {
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
        source->data = copy_bytes(input->bytes);
        return source->data != NULL;
    case CSW_LOCATION_DESCRIPTOR:
        source->kind = CSW_SOURCE_DESCRIPTOR;
        source->descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
        return source->descriptor >= 0;
    case CSW_LOCATION_PATH:
        if (input->is_directory) {
            source->kind = CSW_SOURCE_PATH;
            source->path = copy_bytes(input->path);
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
    cached->content_type = copy_bytes(input->content_type);
    cached->attributes = copy_bytes(input->attributes);
    cached->attributes_size = input->attributes.size;
    cached->users = 1;
    bool is_good =
        hold(&cached->source, input, descriptor) && cached->content_type != NULL && cached->attributes != NULL;
    if (is_good) {
        pthread_mutex_lock(&cache->lock);
        is_good = csw_table_put(&cache->table, object_key(input->key), cached);
        pthread_mutex_unlock(&cache->lock);
    }
    if (is_good) return cached;
    int code = errno;
    release_cached(cached);
    errno = code;
    return NULL;
}

void csw_cache_leave(csw_cache *cache, csw_cached *cached) {
    csw_value *replaced = NULL;
    pthread_mutex_lock(&cache->lock);
    cached->users -= 1;
    bool is_last = cached->users == 0;
    bool is_gone = is_last && cached->is_dropped;
    if (is_last && cached->values != NULL) {
        replaced = cached->values->older;
        cached->values->older = NULL;
    }
    pthread_mutex_unlock(&cache->lock);
    /* What the user destroys may take its time, or ask the library for something. */
    destroy_values(replaced);
    if (is_gone) release_cached(cached);
}

void csw_cache_drop(csw_cache *cache, csw_key key) {
    pthread_mutex_lock(&cache->lock);
    csw_cached *cached = csw_table_remove(&cache->table, object_key(key));
    bool is_gone = cached != NULL && cached->users == 0;
    if (cached != NULL) cached->is_dropped = true;
    pthread_mutex_unlock(&cache->lock);
    if (is_gone) release_cached(cached);
}

bool csw_cache_attach(
    csw_cache *cache, csw_cached *cached, void *value, void (*destroy)(void *value, void *context), void *context) {
    csw_value *added = malloc(sizeof *added);
    if (added == NULL) return false;
    pthread_mutex_lock(&cache->lock);
    *added = (csw_value){.older = cached->values, .value = value, .destroy = destroy, .context = context};
    cached->values = added;
    pthread_mutex_unlock(&cache->lock);
    return true;
}

void *csw_cache_attached(csw_cache *cache, const csw_cached *cached) {
    pthread_mutex_lock(&cache->lock);
    void *value = cached->values != NULL ? cached->values->value : NULL;
    pthread_mutex_unlock(&cache->lock);
    return value;
}

bool csw_cache_map(csw_cache *cache, csw_cached *cached, const char **reason, int *code) {
    pthread_mutex_lock(&cache->lock);
    bool is_mapped = csw_source_map(&cached->source, reason, code);
    pthread_mutex_unlock(&cache->lock);
    return is_mapped;
}

void csw_cache_close(csw_cache *cache) {
    csw_table_release(&cache->table, release_cached);
    pthread_mutex_destroy(&cache->lock);
}
