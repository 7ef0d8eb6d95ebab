/* Builds a Cap'n Proto message of one segment, in the standard stream framing.
 *
 * Places are word numbers, not addresses, because the memory moves when it grows. Memory is reserved before a part is
 * built, so that only csw_builder_reserve() can fail; a builder is used again and again and keeps its memory. */
#ifndef CSW_CAPNP_BUILDER_H
#define CSW_CAPNP_BUILDER_H

#include "csubworker.h"

typedef struct csw_builder {
    uint8_t *bytes;
    size_t words;    /* in use, frame header included */
    size_t capacity; /* words */
} csw_builder;

typedef uint32_t csw_place;

/* The root's place after csw_builder_start(): its data, then its pointers. */
#define CSW_ROOT_PLACE 2

/* How many words a text or bytes of this size take. */
#define CSW_BYTES_WORDS(size) (((size_t)(size) + 8) / 8)

/* Makes room for this many words more; false when there is no memory. */
bool csw_builder_reserve(csw_builder *builder, size_t words);
/* Begins a message with a root of this size; its words must be reserved: 2 + data_words + pointer_count. */
void csw_builder_start(csw_builder *builder, uint16_t data_words, uint16_t pointer_count);
/* Takes zeroed words out of the reserve. */
csw_place csw_builder_take(csw_builder *builder, size_t words);
/* Writes the frame header; then `bytes` holds `words` words to send. */
void csw_builder_finish(csw_builder *builder);
void csw_builder_release(csw_builder *builder);

void csw_put_u8(csw_builder *builder, csw_place place, uint32_t byte, uint8_t value);
void csw_put_u16(csw_builder *builder, csw_place place, uint32_t byte, uint16_t value);
void csw_put_u32(csw_builder *builder, csw_place place, uint32_t byte, uint32_t value);
void csw_put_u64(csw_builder *builder, csw_place place, uint32_t byte, uint64_t value);

/* Each takes words and lets the pointer at `place` lead to them; the result is their place.
 * Bytes of size 0 stay a null pointer, which reads as empty. */
csw_place csw_put_struct(csw_builder *builder, csw_place place, uint16_t data_words, uint16_t pointer_count);
/* A list of structs: the first is at the result, each has data_words + pointer_count words. */
csw_place csw_put_structs(
    csw_builder *builder, csw_place place, uint32_t count, uint16_t data_words, uint16_t pointer_count);
csw_place csw_put_pointers(csw_builder *builder, csw_place place, uint32_t count);
csw_place csw_put_bytes(csw_builder *builder, csw_place place, const void *data, size_t size);
csw_place csw_put_text(csw_builder *builder, csw_place place, const char *text, size_t size);

/* Lets the pointer at `place` lead to bytes or a text of `size` bytes (with the NUL) that were taken before. */
void csw_point_bytes(csw_builder *builder, csw_place place, csw_place target, size_t size);
/* The same for structs: `target` is the first one, behind its tag. */
void csw_point_structs(csw_builder *builder, csw_place place, csw_place target, uint32_t count, uint32_t struct_words);
void csw_point_struct(
    csw_builder *builder, csw_place place, csw_place target, uint16_t data_words, uint16_t pointer_count);

#endif
