#include "capnp_builder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool csw_builder_reserve(csw_builder *builder, size_t words) {
    if (words <= builder->capacity - builder->words) return true;
    size_t needed = builder->words + words;
    /* Offsets are 30-bit numbers of words with a sign; nobody takes a message near that size anyway. */
    if (words > UINT32_MAX / 16 || needed > UINT32_MAX / 16) return false;
    size_t capacity = builder->capacity < 512 ? 1024 : builder->capacity * 2;
    if (capacity < needed) capacity = needed;
    uint8_t *bytes = realloc(builder->bytes, capacity * 8);
    if (bytes == NULL) return false;
    builder->bytes = bytes;
    builder->capacity = capacity;
    return true;
}

static void store_u64(csw_builder *builder, csw_place place, uint64_t value) {
    memcpy(builder->bytes + (size_t)place * 8, &value, sizeof value);
}

csw_place csw_builder_take(csw_builder *builder, size_t words) {
    assert(words <= builder->capacity - builder->words);
    csw_place place = (csw_place)builder->words;
    memset(builder->bytes + builder->words * 8, 0, words * 8);
    builder->words += words;
    return place;
}

void csw_builder_start(csw_builder *builder, uint16_t data_words, uint16_t pointer_count) {
    builder->words = 0;
    csw_builder_take(builder, 1);
    csw_place root = csw_builder_take(builder, 1);
    csw_put_struct(builder, root, data_words, pointer_count);
}

void csw_builder_finish(csw_builder *builder) {
    store_u64(builder, 0, (uint64_t)(builder->words - 1) << 32);
}

void csw_builder_release(csw_builder *builder) {
    free(builder->bytes);
    *builder = (csw_builder){0};
}

void csw_put_u8(csw_builder *builder, csw_place place, uint32_t byte, uint8_t value) {
    builder->bytes[(size_t)place * 8 + byte] = value;
}

void csw_put_u16(csw_builder *builder, csw_place place, uint32_t byte, uint16_t value) {
    memcpy(builder->bytes + (size_t)place * 8 + byte, &value, sizeof value);
}

void csw_put_u32(csw_builder *builder, csw_place place, uint32_t byte, uint32_t value) {
    memcpy(builder->bytes + (size_t)place * 8 + byte, &value, sizeof value);
}

void csw_put_u64(csw_builder *builder, csw_place place, uint32_t byte, uint64_t value) {
    memcpy(builder->bytes + (size_t)place * 8 + byte, &value, sizeof value);
}

/* The lower half of a pointer: the way from the word behind it to its target, and its kind. */
static uint64_t offset_word(csw_place from, csw_place target, uint32_t kind) {
    return (uint32_t)((int32_t)target - (int32_t)from - 1) << 2 | kind;
}

void csw_point_struct(
    csw_builder *builder, csw_place place, csw_place target, uint16_t data_words, uint16_t pointer_count) {
    store_u64(
        builder, place, offset_word(place, target, 0) | (uint64_t)data_words << 32 | (uint64_t)pointer_count << 48);
}

static void point_list(csw_builder *builder, csw_place place, csw_place target, uint32_t size_code, uint64_t count) {
    store_u64(builder, place, offset_word(place, target, 1) | (uint64_t)size_code << 32 | count << 35);
}

void csw_point_bytes(csw_builder *builder, csw_place place, csw_place target, size_t size) {
    point_list(builder, place, target, 2, size);
}

void csw_point_structs(csw_builder *builder, csw_place place, csw_place target, uint32_t count, uint32_t struct_words) {
    point_list(builder, place, target - 1, 7, (uint64_t)count * struct_words);
}

csw_place csw_put_struct(csw_builder *builder, csw_place place, uint16_t data_words, uint16_t pointer_count) {
    csw_place target = csw_builder_take(builder, (size_t)data_words + pointer_count);
    csw_point_struct(builder, place, target, data_words, pointer_count);
    return target;
}

csw_place csw_put_structs(
    csw_builder *builder, csw_place place, uint32_t count, uint16_t data_words, uint16_t pointer_count) {
    uint32_t struct_words = (uint32_t)data_words + pointer_count;
    csw_place tag = csw_builder_take(builder, 1 + (size_t)count * struct_words);
    store_u64(builder, tag, (uint64_t)count << 2 | (uint64_t)data_words << 32 | (uint64_t)pointer_count << 48);
    csw_point_structs(builder, place, tag + 1, count, struct_words);
    return tag + 1;
}

csw_place csw_put_pointers(csw_builder *builder, csw_place place, uint32_t count) {
    csw_place target = csw_builder_take(builder, count);
    point_list(builder, place, target, 6, count);
    return target;
}

csw_place csw_put_bytes(csw_builder *builder, csw_place place, const void *data, size_t size) {
    if (size == 0) return 0;
    csw_place target = csw_builder_take(builder, (size + 7) / 8);
    memcpy(builder->bytes + (size_t)target * 8, data, size);
    csw_point_bytes(builder, place, target, size);
    return target;
}

csw_place csw_put_text(csw_builder *builder, csw_place place, const char *text, size_t size) {
    if (size == 0) return 0;
    csw_place target = csw_builder_take(builder, CSW_BYTES_WORDS(size));
    memcpy(builder->bytes + (size_t)target * 8, text, size);
    csw_point_bytes(builder, place, target, size + 1);
    return target;
}
