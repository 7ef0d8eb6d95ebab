/* The subworker plane, as a worker sees it: include/subworker.capnp. */
#ifndef CCAPNP_SUBWORKER_H
#define CCAPNP_SUBWORKER_H

#include "ccapnp.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CS_REGISTER = 0, CS_RESULTS, CS_PONG, CS_RESERVE, CS_PROGRESS };
enum { CS_OUTPUTS = 0, CS_ERROR, CS_CANCELLED };
enum { CS_OUTPUT_INLINE = 0, CS_OUTPUT_PATH, CS_OUTPUT_SAME_AS_INPUT };

typedef struct cs_task {
    cc_bytes name;
    cc_bytes documentation;
    cc_range inputs;  /* of texts */
    cc_range outputs; /* of texts */
} cs_task;

typedef struct cs_result {
    uint64_t duration_nanoseconds;
    uint32_t slot;
    uint32_t kind;
    cc_bytes debug;
    cc_bytes attributes;
    cc_range outputs; /* CS_OUTPUTS */
    cc_bytes message; /* CS_ERROR */
    cc_bytes detail;  /* CS_ERROR */
} cs_result;

typedef struct cs_output {
    cc_bytes content_type;
    cc_bytes attributes;
    cc_bytes value; /* CS_OUTPUT_INLINE, CS_OUTPUT_PATH */
    uint32_t kind;
    uint16_t input; /* CS_OUTPUT_SAME_AS_INPUT */
    uint8_t is_directory;
} cs_output;

typedef struct cs_register {
    cc_bytes name;
    cc_bytes library;
    uint16_t protocol_version;
    uint16_t threads;
    uint8_t takes_descriptors;
    uint8_t has_control_page;
    uint8_t has_caching;
} cs_register;

typedef struct cs_reserve {
    uint64_t size_bytes;
    uint32_t slot;
    uint32_t id;
} cs_reserve;

typedef struct cs_progress {
    uint32_t slot;
    uint32_t millionths;
    cc_bytes text;
} cs_progress;

/* ToWorker. */
typedef struct cs_to_worker {
    uint32_t kind;
    cs_register registration;
    cs_reserve reserve;
    uint64_t pong;

    const uint8_t *bytes;
    const cc_bytes *texts;
    const cs_task *tasks;
    size_t task_count;
    const cs_result *results;
    size_t result_count;
    const cs_output *outputs;
    const cs_progress *progress;
    size_t progress_count;
} cs_to_worker;

enum {
    CS_WELCOME = 0,
    CS_REFUSED,
    CS_TEMPLATES,
    CS_CALLS,
    CS_DROP_CACHED,
    CS_CANCEL,
    CS_PING,
    CS_SHUTDOWN,
    CS_GRANTED
};
enum { CS_INPUT_INLINE = 0, CS_INPUT_DESCRIPTOR, CS_INPUT_PATH, CS_INPUT_CACHED };

typedef struct cs_template_output {
    cc_bytes label;
    cc_bytes content_type;
    uint32_t is_directory;
} cs_template_output;

typedef struct cs_template {
    uint32_t id;
    uint32_t constant_count;
    cc_bytes method;
    cc_bytes name;
    cc_bytes config;
    cc_bytes attributes;
    cc_range input_labels; /* of texts */
    cc_range outputs;      /* of template_outputs */
} cs_template;

typedef struct cs_call {
    cc_id attempt;
    uint32_t slot;
    uint32_t template_id;
    uint32_t array_index;
    uint32_t ticket;
    cc_bytes arguments;
    cc_range inputs;
} cs_call;

typedef struct cs_input {
    cc_id replica;
    uint64_t size_bytes;
    cc_bytes content_type;
    cc_bytes attributes;
    cc_bytes value; /* CS_INPUT_INLINE, CS_INPUT_PATH */
    uint16_t kind;
    uint16_t descriptor; /* CS_INPUT_DESCRIPTOR */
    uint8_t is_directory;
    uint8_t is_kept;
} cs_input;

typedef struct cs_welcome {
    cc_bytes worker_name;
    cc_bytes staging_directory;
    uint64_t credit_bytes;
    uint32_t inline_bytes_max;
    uint32_t protocol_version;
    uint8_t takes_progress;
    uint8_t log_level;
} cs_welcome;

typedef struct cs_granted {
    cc_bytes text; /* the directory, or why it was refused */
    uint32_t id;
    uint32_t is_refused;
} cs_granted;

/* ToSubworker. */
typedef struct cs_to_subworker {
    uint32_t kind;
    uint32_t descriptor_count;
    cs_welcome welcome;
    cs_granted granted;
    cc_bytes refusal;
    uint64_t ping;

    const uint8_t *bytes;
    const cc_bytes *texts;
    const uint32_t *slots; /* CS_CANCEL */
    size_t slot_count;
    const cc_id *replicas; /* CS_DROP_CACHED */
    size_t replica_count;
    const cs_template *templates;
    size_t template_count;
    const cs_template_output *template_outputs;
    const cs_call *calls;
    size_t call_count;
    const cs_input *inputs;
} cs_to_subworker;

/* Reads the first message of a stream.
 *   bytes        what was read so far, at any alignment; must stay until the message was read, when aligned to 8
 *   limit        a larger message is an error, as soon as it announces itself
 *   consumed     receives the size of the message; 0 when more bytes are needed, `out` is then untouched
 *   out          receives the message, which lasts until the next call on the work area
 *   returns      NULL, or what is wrong with the bytes, until the next call */
const char *ccapnp_decode_to_worker(
    ccapnp_work *work, const uint8_t *bytes, size_t size, size_t limit, size_t *consumed, const cs_to_worker **out);

/* Builds one message; `ccapnp_take` copies it.
 *   size         receives its size in bytes
 *   returns      NULL, or why it can't be built */
const char *ccapnp_encode_to_subworker(ccapnp_work *work, const cs_to_subworker *message, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
