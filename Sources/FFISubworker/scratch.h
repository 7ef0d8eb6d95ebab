/* Memory that is given back all at once. Taking some is adding to a pointer. */
#ifndef FFI_SCRATCH_H
#define FFI_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

typedef struct scratch {
    struct scratch_chunk *chunk; /* the newest */
} scratch;

/* Aligned to 16 bytes, zeroed; NULL when there is no memory. */
void *scratch_take(scratch *self, size_t size);
/* With a NUL behind it. */
char *scratch_copy(scratch *self, const void *data, size_t size);
/* printf into memory of its own; NULL when there is none. */
__attribute__((__format__(__printf__, 2, 3))) char *scratch_print(scratch *self, const char *format, ...);
/* Gives everything back but the first chunk, which the next user needs too. */
void scratch_reset(scratch *self);
void scratch_release(scratch *self);

/* A text that grows. Once there is no memory nothing is added, and has_failed stays set. */
typedef struct text {
    char *bytes; /* ends in NUL; owned; NULL while empty */
    size_t size, capacity;
    bool has_failed;
} text;

__attribute__((__format__(__printf__, 2, 3))) void text_add(text *self, const char *format, ...);
/* As a JSON string, with its quotes. */
void text_add_json(text *self, const char *string);
void text_release(text *self);

#endif
