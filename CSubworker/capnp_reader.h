/* Reads Cap'n Proto messages in the standard stream framing: https://capnproto.org/encoding.html
 *
 * Nothing is copied and nothing is trusted: every pointer is checked against its segment when it is followed. The first
 * malformed one sets the reader's error, which stays; from then on everything reads as empty. So a decoder asks once, at
 * its end, whether what it read was real. */
#ifndef CSW_CAPNP_READER_H
#define CSW_CAPNP_READER_H

#include "csubworker.h"

/* libcapnp's own limits: more segments than this are no message, and a schema never nests this deep. */
#define CSW_SEGMENTS_MAX 512
#define CSW_DEPTH_MAX 64

typedef struct csw_segment {
    const uint8_t *data; /* aligned to 8 bytes */
    uint32_t words;
} csw_segment;

typedef struct csw_reader {
    csw_segment segments[CSW_SEGMENTS_MAX];
    uint32_t segment_count;
    uint64_t
        traversal_words; /* how much may still be read; stops messages that point at the same bytes again and again */
    const char *error;   /* NULL while the message is well formed */
} csw_reader;

typedef struct csw_struct {
    csw_reader *reader;
    const uint8_t *data;
    const uint8_t *pointers;
    uint32_t data_bytes;
    uint16_t pointer_count;
    uint16_t segment;
    uint16_t depth;
} csw_struct;

typedef struct csw_list {
    csw_reader *reader;
    const uint8_t *elements;
    uint32_t count;
    uint32_t step;          /* bytes from one element to the next */
    uint32_t data_bytes;    /* of an element */
    uint16_t pointer_count; /* of an element */
    uint16_t segment;
    uint16_t depth;
} csw_list;

/* What a list's elements are read as. A list of structs may be stored as a list of their first field, and the other way
 * round: that is how Cap'n Proto lets schemas grow. */
typedef enum csw_element { CSW_ELEMENT_STRUCT, CSW_ELEMENT_POINTER, CSW_ELEMENT_U32 } csw_element;

/* The length of the message that begins at `bytes`, header included; 0 while too few bytes are there to say.
 *   bytes_max   a longer message is an error
 *   error       receives a reason when the header is malformed; else it is left alone */
size_t csw_frame_size(const uint8_t *bytes, size_t size, size_t bytes_max, const char **error);

/* Opens a whole message; `bytes` is aligned to 8, is csw_frame_size() long and outlives the reader's results. */
void csw_reader_open(csw_reader *reader, const uint8_t *bytes, size_t size);
csw_struct csw_reader_root(csw_reader *reader);

uint8_t csw_struct_u8(const csw_struct *from, uint32_t byte);
uint16_t csw_struct_u16(const csw_struct *from, uint32_t byte);
uint32_t csw_struct_u32(const csw_struct *from, uint32_t byte);
uint64_t csw_struct_u64(const csw_struct *from, uint32_t byte);
bool csw_struct_bool(const csw_struct *from, uint32_t bit);
csw_struct csw_struct_struct(const csw_struct *from, uint16_t pointer);
csw_list csw_struct_list(const csw_struct *from, uint16_t pointer, csw_element element);
/* A Text; size is without the NUL, which is there. */
csw_bytes csw_struct_text(const csw_struct *from, uint16_t pointer);
csw_bytes csw_struct_data(const csw_struct *from, uint16_t pointer);

csw_struct csw_list_struct(const csw_list *from, uint32_t i);
csw_bytes csw_list_text(const csw_list *from, uint32_t i);
uint32_t csw_list_u32(const csw_list *from, uint32_t i);

#endif
