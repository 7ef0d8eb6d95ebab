#include "capnp_reader.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the codec copies little-endian numbers as they are");

enum { kind_struct = 0, kind_list = 1, kind_far = 2, kind_other = 3 };
enum { size_void = 0, size_bit = 1, size_byte = 2, size_pointer = 6, size_composite = 7 };

/* Element sizes of lists in bytes, by the size code of the list pointer. */
static const uint8_t element_bytes[8] = {0, 0, 1, 2, 4, 8, 8, 0};

static const uint8_t nothing[8] = {0};

static uint32_t load_u32(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static uint64_t load_u64(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static bool refuse(csw_reader *reader, const char *reason) {
    if (reader->error == NULL) reader->error = reason;
    return false;
}

/* --- Framing ---------------------------------------------------------------------------------------------------- */

size_t csw_frame_size(const uint8_t *bytes, size_t size, size_t bytes_max, const char **error) {
    if (size < 8) return 0;
    uint32_t segments_minus_one = load_u32(bytes);
    if (segments_minus_one >= CSW_SEGMENTS_MAX) {
        *error = "more than 512 segments";
        return 0;
    }
    size_t header_bytes = (((size_t)segments_minus_one + 1) / 2 + 1) * 8;
    if (size < header_bytes) return 0;
    uint64_t total = header_bytes;
    for (size_t i = 0; i <= segments_minus_one; i += 1)
        total += (uint64_t)load_u32(bytes + 4 + 4 * i) * 8;
    if (total > bytes_max) {
        *error = "longer than the limit for one message";
        return 0;
    }
    return (size_t)total;
}

void csw_reader_open(csw_reader *reader, const uint8_t *bytes, size_t size) {
    reader->segment_count = load_u32(bytes) + 1;
    reader->error = NULL;
    const uint8_t *next = bytes + ((size_t)reader->segment_count / 2 + 1) * 8;
    for (uint32_t i = 0; i < reader->segment_count; i += 1) {
        uint32_t words = load_u32(bytes + 4 + 4 * (size_t)i);
        reader->segments[i] = (csw_segment){next, words};
        next += (size_t)words * 8;
    }
    /* A decoder reads each word once; the rest is for landing pads and for messages that share some. */
    reader->traversal_words = size / 8 * 2 + 1024;
}

/* --- Pointers --------------------------------------------------------------------------------------------------- */

/* Where a pointer leads, after far pointers. */
typedef struct target {
    uint64_t tag;
    uint32_t segment;
    int64_t start; /* word of the segment; not checked yet */
} target;

static bool charge(csw_reader *reader, uint64_t words) {
    if (words > reader->traversal_words) return refuse(reader, "more to read than there are bytes: pointers overlap");
    reader->traversal_words -= words;
    return true;
}

static int64_t offset_of(uint64_t tag) {
    return (int32_t)(uint32_t)tag >> 2;
}

/* Follows a far pointer to its landing pad, of one word or two. */
static bool resolve_far(csw_reader *reader, uint64_t word, target *out) {
    bool is_double = (word & 4) != 0;
    uint32_t segment = (uint32_t)(word >> 32);
    uint64_t pad = (uint32_t)word >> 3;
    uint64_t pad_words = is_double ? 2 : 1;
    if (segment >= reader->segment_count) return refuse(reader, "far pointer to a segment that is not there");
    if (pad + pad_words > reader->segments[segment].words) return refuse(reader, "far pointer out of its segment");
    if (!charge(reader, pad_words)) return false;
    const uint8_t *bytes = reader->segments[segment].data + pad * 8;
    uint64_t first = load_u64(bytes);
    if (!is_double) {
        *out = (target){first, segment, (int64_t)pad + 1 + offset_of(first)};
    } else {
        if ((first & 7) != kind_far)
            return refuse(reader, "double-far pointer without a far pointer in its landing pad");
        uint32_t content = (uint32_t)(first >> 32);
        if (content >= reader->segment_count) return refuse(reader, "far pointer to a segment that is not there");
        *out = (target){load_u64(bytes + 8), content, (int64_t)((uint32_t)first >> 3)};
    }
    if ((out->tag & 3) >= kind_far) return refuse(reader, "landing pad that holds no struct or list pointer");
    return true;
}

/* Reads the pointer at `at`; false when it is null or malformed. */
static bool resolve(csw_reader *reader, uint32_t segment, const uint8_t *at, uint16_t depth, target *out) {
    if (reader->error != NULL) return false;
    uint64_t word = load_u64(at);
    if (word == 0) return false;
    if (depth >= CSW_DEPTH_MAX) return refuse(reader, "nested too deep");
    if ((word & 3) == kind_far) return resolve_far(reader, word, out);
    if ((word & 3) == kind_other) return refuse(reader, "capability where data belongs");
    int64_t index = (at - reader->segments[segment].data) / 8;
    *out = (target){word, segment, index + 1 + offset_of(word)};
    return true;
}

/* The bytes of `words` words from the target's start; NULL when they are not all in its segment. */
static const uint8_t *content(csw_reader *reader, const target *from, uint64_t words) {
    uint64_t available = reader->segments[from->segment].words;
    if (from->start < 0 || (uint64_t)from->start > available || words > available - (uint64_t)from->start) {
        refuse(reader, "pointer out of its segment");
        return NULL;
    }
    return reader->segments[from->segment].data + from->start * 8;
}

static csw_struct empty_struct(csw_reader *reader) {
    return (csw_struct){.reader = reader, .data = nothing, .pointers = nothing};
}

static csw_list empty_list(csw_reader *reader) {
    return (csw_list){.reader = reader, .elements = nothing};
}

static csw_struct struct_at(csw_reader *reader, uint32_t segment, const uint8_t *at, uint16_t depth) {
    target found;
    if (!resolve(reader, segment, at, depth, &found)) return empty_struct(reader);
    if ((found.tag & 3) != kind_struct) {
        refuse(reader, "list where a struct belongs");
        return empty_struct(reader);
    }
    uint16_t data_words = (uint16_t)(found.tag >> 32), pointer_count = (uint16_t)(found.tag >> 48);
    uint64_t words = (uint64_t)data_words + pointer_count;
    const uint8_t *bytes = content(reader, &found, words);
    if (bytes == NULL || !charge(reader, words)) return empty_struct(reader);
    return (csw_struct){
        reader,
        bytes,
        bytes + (size_t)data_words * 8,
        (uint32_t)data_words * 8,
        pointer_count,
        (uint16_t)found.segment,
        (uint16_t)(depth + 1)};
}

/* A list of structs: a tag with their number and size, then they. */
static csw_list composite_list(csw_reader *reader, const target *found, uint16_t depth) {
    uint64_t words = (uint32_t)(found->tag >> 35);
    const uint8_t *bytes = content(reader, found, words + 1);
    if (bytes == NULL) return empty_list(reader);
    uint64_t tag = load_u64(bytes);
    if ((tag & 3) != kind_struct) {
        refuse(reader, "list of structs whose tag is none");
        return empty_list(reader);
    }
    uint32_t count = (uint32_t)tag >> 2;
    uint16_t data_words = (uint16_t)(tag >> 32), pointer_count = (uint16_t)(tag >> 48);
    uint64_t step_words = (uint64_t)data_words + pointer_count;
    if (count * step_words > words) {
        refuse(reader, "list of structs that is longer than its words");
        return empty_list(reader);
    }
    /* Structs of no size take no bytes; each is charged as a word, or 500 million of them would be free. */
    if (!charge(reader, 1 + (step_words == 0 ? count : words))) return empty_list(reader);
    return (csw_list){
        reader,
        bytes + 8,
        count,
        (uint32_t)step_words * 8,
        (uint32_t)data_words * 8,
        pointer_count,
        (uint16_t)found->segment,
        (uint16_t)(depth + 1)};
}

static bool find_list(csw_reader *reader, uint32_t segment, const uint8_t *at, uint16_t depth, target *out) {
    if (!resolve(reader, segment, at, depth, out)) return false;
    if ((out->tag & 3) != kind_list) return refuse(reader, "struct where a list belongs");
    return true;
}

static csw_list plain_list(csw_reader *reader, const target *found, uint16_t depth) {
    uint32_t size_code = (uint32_t)(found->tag >> 32) & 7, count = (uint32_t)(found->tag >> 35);
    if (size_code == size_bit) {
        refuse(reader, "list of bits where there is none in the schema");
        return empty_list(reader);
    }
    uint32_t step = element_bytes[size_code];
    uint64_t words = ((uint64_t)count * step + 7) / 8;
    const uint8_t *bytes = content(reader, found, words);
    if (bytes == NULL || !charge(reader, step == 0 ? count : words)) return empty_list(reader);
    bool has_pointers = size_code == size_pointer;
    return (csw_list){
        reader,
        bytes,
        count,
        step,
        has_pointers ? 0 : step,
        has_pointers ? 1 : 0,
        (uint16_t)found->segment,
        (uint16_t)(depth + 1)};
}

static csw_bytes bytes_at(csw_reader *reader, uint32_t segment, const uint8_t *at, uint16_t depth) {
    target found;
    csw_bytes none = {nothing, 0};
    if (!find_list(reader, segment, at, depth, &found)) return none;
    if (((found.tag >> 32) & 7) != size_byte) {
        refuse(reader, "list of something else where bytes belong");
        return none;
    }
    uint32_t count = (uint32_t)(found.tag >> 35);
    uint64_t words = ((uint64_t)count + 7) / 8;
    const uint8_t *bytes = content(reader, &found, words);
    if (bytes == NULL || !charge(reader, words)) return none;
    if (count == 0) return none;
    return (csw_bytes){bytes, count};
}

static csw_bytes text_at(csw_reader *reader, uint32_t segment, const uint8_t *at, uint16_t depth) {
    csw_bytes none = {nothing, 0};
    if (load_u64(at) == 0) return none;
    csw_bytes text = bytes_at(reader, segment, at, depth);
    if (reader->error != NULL) return none;
    if (text.size == 0 || ((const uint8_t *)text.data)[text.size - 1] != 0) {
        refuse(reader, "text that does not end in NUL");
        return none;
    }
    text.size -= 1;
    return text;
}

/* --- Fields ----------------------------------------------------------------------------------------------------- */

csw_struct csw_reader_root(csw_reader *reader) {
    if (reader->segments[0].words == 0) {
        refuse(reader, "empty first segment");
        return empty_struct(reader);
    }
    if (load_u64(reader->segments[0].data) == 0) refuse(reader, "no root");
    return struct_at(reader, 0, reader->segments[0].data, 0);
}

/* A field beyond the struct's end is one that the writer did not know: it has its default, which is always 0 here. */
uint8_t csw_struct_u8(const csw_struct *from, uint32_t byte) {
    return byte < from->data_bytes ? from->data[byte] : 0;
}

uint16_t csw_struct_u16(const csw_struct *from, uint32_t byte) {
    uint16_t value = 0;
    if (byte + sizeof value <= from->data_bytes) memcpy(&value, from->data + byte, sizeof value);
    return value;
}

uint32_t csw_struct_u32(const csw_struct *from, uint32_t byte) {
    return byte + sizeof(uint32_t) <= from->data_bytes ? load_u32(from->data + byte) : 0;
}

uint64_t csw_struct_u64(const csw_struct *from, uint32_t byte) {
    return byte + sizeof(uint64_t) <= from->data_bytes ? load_u64(from->data + byte) : 0;
}

bool csw_struct_bool(const csw_struct *from, uint32_t bit) {
    return (csw_struct_u8(from, bit / 8) >> bit % 8 & 1) != 0;
}

static const uint8_t *pointer_of(const csw_struct *from, uint16_t pointer) {
    return pointer < from->pointer_count ? from->pointers + (size_t)pointer * 8 : nothing;
}

csw_struct csw_struct_struct(const csw_struct *from, uint16_t pointer) {
    return struct_at(from->reader, from->segment, pointer_of(from, pointer), from->depth);
}

csw_list csw_struct_list(const csw_struct *from, uint16_t pointer, csw_element element) {
    csw_reader *reader = from->reader;
    target found;
    if (!find_list(reader, from->segment, pointer_of(from, pointer), from->depth, &found)) return empty_list(reader);
    csw_list list = ((found.tag >> 32) & 7) == size_composite ? composite_list(reader, &found, from->depth)
                                                              : plain_list(reader, &found, from->depth);
    if (reader->error != NULL || list.count == 0) return empty_list(reader);
    if (element == CSW_ELEMENT_POINTER && list.pointer_count == 0)
        refuse(reader, "list of numbers where pointers belong");
    if (element == CSW_ELEMENT_U32 && list.data_bytes < 4)
        refuse(reader, "list of something else where numbers belong");
    return reader->error == NULL ? list : empty_list(reader);
}

csw_bytes csw_struct_text(const csw_struct *from, uint16_t pointer) {
    return text_at(from->reader, from->segment, pointer_of(from, pointer), from->depth);
}

csw_bytes csw_struct_data(const csw_struct *from, uint16_t pointer) {
    return bytes_at(from->reader, from->segment, pointer_of(from, pointer), from->depth);
}

csw_struct csw_list_struct(const csw_list *from, uint32_t i) {
    if (i >= from->count) return empty_struct(from->reader);
    const uint8_t *data = from->elements + (size_t)i * from->step;
    return (csw_struct){from->reader,  data,       data + from->data_bytes, from->data_bytes, from->pointer_count,
                        from->segment, from->depth};
}

csw_bytes csw_list_text(const csw_list *from, uint32_t i) {
    csw_struct element = csw_list_struct(from, i);
    return csw_struct_text(&element, 0);
}

uint32_t csw_list_u32(const csw_list *from, uint32_t i) {
    csw_struct element = csw_list_struct(from, i);
    return csw_struct_u32(&element, 0);
}
