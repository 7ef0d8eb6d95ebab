/* The messages of include/subworker.capnp as C values: the one place that knows their layout.
 *
 * What is decoded points into the message. Decoders return false when the message is malformed; the reason is the
 * reader's. */
#ifndef CSW_PROTOCOL_H
#define CSW_PROTOCOL_H

#include "capnp_builder.h"
#include "capnp_reader.h"

#define CSW_PROTOCOL_VERSION 1
#define CSW_SLOT_COUNT 64

typedef enum csw_message_kind {
    CSW_MESSAGE_WELCOME,
    CSW_MESSAGE_REFUSED,
    CSW_MESSAGE_TEMPLATES,
    CSW_MESSAGE_CALLS,
    CSW_MESSAGE_DROP_CACHED,
    CSW_MESSAGE_CANCEL,
    CSW_MESSAGE_PING,
    CSW_MESSAGE_SHUTDOWN,
    CSW_MESSAGE_GRANTED,
    CSW_MESSAGE_KIND_COUNT
} csw_message_kind;

/* A ToSubworker message. */
typedef struct csw_envelope {
    csw_message_kind kind;
    uint16_t descriptor_count;
    csw_struct body; /* welcome or granted */
    csw_bytes refused;
    csw_list list; /* templates, calls, keys or slots */
    uint64_t ping;
} csw_envelope;

typedef struct csw_wire_welcome {
    uint16_t protocol_version;
    csw_bytes worker_name;
    csw_bytes staging_directory;
    uint32_t inline_bytes_max;
    uint64_t credit_bytes;
    bool takes_progress;
    uint8_t log_level;
} csw_wire_welcome;

/* The answer to a reserve. */
typedef struct csw_wire_granted {
    uint32_t id;
    bool is_refused;
    csw_bytes text; /* the directory, or why not */
} csw_wire_granted;

typedef struct csw_wire_template {
    uint32_t id;
    csw_bytes method;
    csw_bytes name;
    csw_bytes config;
    csw_list input_labels;
    csw_list outputs;
    csw_bytes attributes;
    uint16_t constant_count;
} csw_wire_template;

typedef struct csw_wire_output {
    csw_bytes label;
    csw_bytes content_type;
    bool is_directory;
} csw_wire_output;

typedef struct csw_wire_call {
    uint32_t slot;
    uint32_t template_id;
    csw_attempt attempt;
    csw_bytes arguments;
    csw_list inputs;
    uint32_t array_index;
    uint32_t ticket;
} csw_wire_call;

typedef enum csw_location {
    CSW_LOCATION_INLINE,
    CSW_LOCATION_DESCRIPTOR,
    CSW_LOCATION_PATH,
    CSW_LOCATION_CACHED,
    CSW_LOCATION_COUNT
} csw_location;

typedef struct csw_wire_input {
    csw_key key;
    uint64_t size_bytes;
    csw_bytes content_type;
    bool is_directory;
    bool keep;
    csw_bytes attributes;
    csw_location location;
    csw_bytes bytes; /* inline */
    uint16_t descriptor;
    csw_bytes path;
} csw_wire_input;

bool csw_decode_envelope(csw_reader *reader, csw_envelope *out);
bool csw_decode_welcome(const csw_struct *from, csw_wire_welcome *out);
bool csw_decode_granted(const csw_struct *from, csw_wire_granted *out);
bool csw_decode_template(const csw_list *from, uint32_t i, csw_wire_template *out);
bool csw_decode_output(const csw_list *from, uint32_t i, csw_wire_output *out);
bool csw_decode_call(const csw_list *from, uint32_t i, csw_wire_call *out);
bool csw_decode_input(const csw_list *from, uint32_t i, csw_wire_input *out);
bool csw_decode_key(const csw_list *from, uint32_t i, csw_key *out);

typedef struct csw_wire_task {
    const char *name;
    const char *documentation;
    const char *const *inputs;
    uint32_t input_count;
    const char *const *outputs;
    uint32_t output_count;
    const char *const *input_content_types; /* as many as labels, or NULL */
    const char *const *output_content_types;
} csw_wire_task;

typedef struct csw_wire_register {
    const char *name;
    const char *library;
    const csw_wire_task *tasks;
    uint32_t task_count;
    bool has_descriptors;
    bool has_control_page;
    bool has_caching;
    uint16_t threads;
} csw_wire_register;

/* Whole messages; false when there is no memory. Then the builder holds the words to send. */
bool csw_encode_register(csw_builder *builder, const csw_wire_register *from);
bool csw_encode_pong(csw_builder *builder, uint64_t ping);
bool csw_encode_reserve(csw_builder *builder, uint32_t slot, uint32_t id, uint64_t size_bytes);
bool csw_encode_progress(csw_builder *builder, uint32_t slot, uint32_t millionths, csw_bytes text);

typedef struct csw_wire_value {
    csw_location location; /* inline or path, or cached: same as an input */
    csw_bytes bytes;       /* or path */
    csw_bytes content_type;
    csw_bytes attributes;
    bool is_directory;
    uint16_t input;
} csw_wire_value;

typedef enum csw_outcome { CSW_OUTCOME_OUTPUTS, CSW_OUTCOME_ERROR, CSW_OUTCOME_CANCELLED } csw_outcome;

typedef struct csw_wire_result {
    uint32_t slot;
    uint64_t duration_ns;
    csw_bytes debug;
    csw_bytes attributes;
    csw_outcome outcome;
    const csw_wire_value *outputs;
    uint32_t output_count;
    csw_bytes message;
    csw_bytes detail;
} csw_wire_result;

/* A `results` message that grows by one result at a time. What a result holds is written when it is added; the list
 * itself, whose elements must lie side by side, is written last. */
typedef struct csw_results {
    csw_builder builder;
    struct {
        uint64_t words[2];
        csw_place debug, attributes, body;
        uint32_t debug_size, attributes_size, body_count;
    } pending[CSW_SLOT_COUNT];
    uint32_t count;
} csw_results;

bool csw_results_add(csw_results *results, const csw_wire_result *result);
/* Completes the message; the builder holds the words to send. Afterwards csw_results_clear() begins the next one. */
void csw_results_finish(csw_results *results);
void csw_results_clear(csw_results *results);

#endif
