#include "arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct csw_arena_chunk {
    struct csw_arena_chunk *older;
    size_t capacity;
    size_t used;
    alignas(16) char bytes[];
};

/* Pages that are not touched cost nothing. */
enum { chunk_bytes_default = 256 << 10 };

static size_t chunk_bytes(const csw_arena *arena) {
    return arena->chunk_bytes != 0 ? arena->chunk_bytes : chunk_bytes_default;
}

void *csw_arena_take(csw_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + 15) & ~(size_t)15;
    struct csw_arena_chunk *chunk = arena->chunk;
    if (chunk == NULL || size > chunk->capacity - chunk->used) {
        size_t capacity = size > chunk_bytes(arena) ? size : chunk_bytes(arena);
        chunk = malloc(sizeof *chunk + capacity);
        if (chunk == NULL) return NULL;
        chunk->older = arena->chunk;
        chunk->capacity = capacity;
        chunk->used = 0;
        arena->chunk = chunk;
    }
    char *bytes = chunk->bytes + chunk->used;
    chunk->used += size;
    return bytes;
}

char *csw_arena_copy(csw_arena *arena, const void *data, size_t size) {
    if (size == SIZE_MAX) return NULL;
    char *copy = csw_arena_take(arena, size + 1);
    if (copy == NULL) return NULL;
    if (size != 0) memcpy(copy, data, size);
    copy[size] = 0;
    return copy;
}

void csw_arena_reset(csw_arena *arena) {
    while (arena->chunk != NULL && (arena->chunk->older != NULL || arena->chunk->capacity > chunk_bytes(arena))) {
        struct csw_arena_chunk *older = arena->chunk->older;
        free(arena->chunk);
        arena->chunk = older;
    }
    if (arena->chunk != NULL) arena->chunk->used = 0;
}

void csw_arena_release(csw_arena *arena) {
    while (arena->chunk != NULL) {
        struct csw_arena_chunk *older = arena->chunk->older;
        free(arena->chunk);
        arena->chunk = older;
    }
}
