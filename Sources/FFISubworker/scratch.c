#define _GNU_SOURCE
#include "scratch.h"

#include "plain_locale.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scratch_chunk {
    struct scratch_chunk *older;
    size_t size, used;
    _Alignas(16) unsigned char bytes[];
};

enum { chunk_bytes = 4000 };

void *scratch_take(scratch *self, size_t size) {
    if (size > PTRDIFF_MAX - 64) return NULL;
    size = (size + 15) & ~(size_t)15;
    struct scratch_chunk *chunk = self->chunk;
    if (chunk == NULL || size > chunk->size - chunk->used) {
        size_t room = size > chunk_bytes ? size : chunk_bytes;
        chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL) return NULL;
        *chunk = (struct scratch_chunk){.older = self->chunk, .size = room & ~(size_t)15};
        self->chunk = chunk;
    }
    void *taken = chunk->bytes + chunk->used;
    chunk->used += size;
    return memset(taken, 0, size);
}

char *scratch_copy(scratch *self, const void *data, size_t size) {
    if (size == SIZE_MAX) return NULL;
    char *copy = scratch_take(self, size + 1);
    if (copy != NULL && size != 0) memcpy(copy, data, size);
    return copy;
}

char *scratch_print(scratch *self, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *made = size < 0 ? NULL : scratch_take(self, (size_t)size + 1);
    if (made == NULL) return NULL;
    va_start(arguments, format);
    vsnprintf(made, (size_t)size + 1, format, arguments);
    va_end(arguments);
    return made;
}

void scratch_reset(scratch *self) {
    while (self->chunk != NULL && (self->chunk->older != NULL || self->chunk->size > chunk_bytes)) {
        struct scratch_chunk *older = self->chunk->older;
        free(self->chunk);
        self->chunk = older;
    }
    if (self->chunk != NULL) self->chunk->used = 0;
}

void scratch_release(scratch *self) {
    while (self->chunk != NULL) {
        struct scratch_chunk *older = self->chunk->older;
        free(self->chunk);
        self->chunk = older;
    }
}

/* --- Texts ------------------------------------------------------------------------------------------------------ */

static bool reserve(text *self, size_t size) {
    if (self->has_failed) return false;
    if (self->capacity - self->size > size) return true;
    size_t capacity = (self->size + size) * 2 + 256;
    char *bytes = realloc(self->bytes, capacity);
    self->has_failed = bytes == NULL;
    if (bytes == NULL) return false;
    self->bytes = bytes;
    self->capacity = capacity;
    return true;
}

void text_add(text *self, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size < 0 || !reserve(self, (size_t)size + 1)) return;
    va_start(arguments, format);
    vsnprintf(self->bytes + self->size, (size_t)size + 1, format, arguments);
    va_end(arguments);
    self->size += (size_t)size;
}

void text_add_json(text *self, const char *string) {
    text_add(self, "\"");
    for (const char *at = string; *at != 0; at += 1) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\')
            text_add(self, "\\%c", byte);
        else if (byte < 0x20)
            text_add(self, "\\u%04x", byte);
        else
            text_add(self, "%c", byte);
    }
    text_add(self, "\"");
}

void text_release(text *self) {
    free(self->bytes);
    *self = (text){0};
}

locale_t plain_locale(void) {
    static _Atomic(locale_t) made;
    locale_t known = atomic_load(&made);
    if (known != (locale_t)0) return known;
    locale_t own = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (atomic_compare_exchange_strong(&made, &known, own)) return own;
    freelocale(own); /* Another thread was first. */
    return known;
}
