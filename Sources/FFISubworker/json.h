/* JSON texts, read from front to back without building anything. */
#ifndef FFI_JSON_H
#define FFI_JSON_H

#include "scratch.h"

#include <stdint.h>

typedef enum json_kind {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_LIST,
    JSON_OBJECT,
    JSON_END,
    JSON_BROKEN
} json_kind;

/* A place in a text. Copy it to come back. */
typedef struct json {
    const char *at, *end;
    uint32_t depth;
} json;

typedef struct json_number {
    char text[48]; /* cut off when it is longer, which only fractions can bear */
    bool is_integer, is_negative;
    uint64_t magnitude; /* of an integer up to 64 bits */
    bool is_large;      /* an integer of more */
} json_number;

/* What comes next; BROKEN for what is no JSON. */
json_kind json_peek(json *self);
/* Goes over the next value; false when it is broken. */
bool json_skip(json *self);
/* Into a list or object. */
bool json_enter(json *self);
/* Whether there is one more element; goes to it, or past the end of the list or object. A broken one is the end too:
 * look at `is_broken`.
 *   is_first   in/out: true before the first */
bool json_next(json *self, bool *is_first, bool *is_broken);
/* The key of an object's next element, and over its colon; decoded; NULL when it is broken or there is no memory. */
const char *json_key(json *self, scratch *memory, size_t *size);
/* A string, decoded; a NUL follows. NULL when it is broken or there is no memory. */
const char *json_string(json *self, scratch *memory, size_t *size);
bool json_read_number(json *self, json_number *out);

#endif
