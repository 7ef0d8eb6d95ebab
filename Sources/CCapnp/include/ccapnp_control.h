/* The control plane: Sources/Wire/control.capnp. */
#ifndef CCAPNP_CONTROL_H
#define CCAPNP_CONTROL_H

#include "ccapnp.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CC_HELLO = 0, CC_WELCOME, CC_REFUSED, CC_BATCH, CC_GOODBYE };
enum { CC_BATCH_EMPTY = 0, CC_BATCH_TO_WORKER, CC_BATCH_TO_SERVER };
/* What a message says: of the server, then of a worker. */
enum {
    CC_SESSION = 0,   /* number: the session; range: of commands */
    CC_TEMPLATE,      /* number: position in templates */
    CC_ASSIGN,        /* number: position in assignments */
    CC_REVOKE,        /* id */
    CC_CANCEL,        /* id */
    CC_DROP,          /* range: of ids */
    CC_CLOSE_SESSION, /* number */
    CC_PROVIDE,       /* range: of inputs */

    CC_STARTED,        /* id */
    CC_FINISHED,       /* number: position in finished */
    CC_FAILED,         /* number: position in failed */
    CC_CANCELLED,      /* id */
    CC_REVOKED,        /* id, flag: taken back */
    CC_REPLICATED,     /* id */
    CC_SESSION_CLOSED, /* number */
    CC_MISSING,        /* id */
    CC_KNOWS,          /* number */
    CC_RUNS,           /* id */
    CC_HOLDS,          /* range: of ids */
    CC_HANDED_OVER,
    CC_PROGRESS /* range: of progress */
};
enum { CC_SOURCE_HELD = 0, CC_SOURCE_INLINE, CC_SOURCE_EXPECT, CC_SOURCE_FETCH };

typedef struct cc_message {
    uint32_t kind;
    uint32_t flag;
    uint32_t number;
    cc_id id;
    cc_range range;
} cc_message;

typedef struct cc_endpoint {
    cc_bytes host;
    uint16_t port;
} cc_endpoint;

typedef struct cc_command {
    cc_bytes name;
    cc_range arguments;   /* of texts */
    cc_range environment; /* of texts */
} cc_command;

typedef struct cc_template_output {
    cc_bytes label;
    cc_bytes content_type;
    uint8_t is_directory;
    uint8_t is_kept;
} cc_template_output;

typedef struct cc_template {
    uint32_t session;
    uint32_t index;
    uint32_t cpus;
    uint32_t retry_count_max;
    uint32_t threads;
    uint32_t rerun;
    cc_bytes type;
    cc_bytes name;
    cc_bytes config;
    cc_bytes origin;
    cc_bytes attributes;
    cc_range input_labels; /* of texts */
    cc_range constants;    /* of numbers */
    cc_range outputs;      /* of template_outputs */
    uint32_t has_program;
    uint32_t program_object;
    cc_bytes program_path;
    cc_range program_arguments;   /* of texts */
    cc_range program_environment; /* of texts */
} cc_template;

typedef struct cc_assignment {
    cc_id attempt;
    uint32_t template_index;
    uint32_t first_output;
    uint32_t array_index;
    uint32_t loss_count;
    cc_bytes arguments;
    cc_bytes name;
    cc_range inputs;
} cc_assignment;

typedef struct cc_input {
    cc_id replica;
    uint64_t size_bytes;
    cc_bytes content_type;
    cc_bytes attributes;
    uint32_t is_directory;
    uint32_t source;
    cc_bytes value;     /* CC_SOURCE_INLINE */
    cc_id expected;     /* CC_SOURCE_EXPECT */
    cc_range endpoints; /* CC_SOURCE_FETCH */
} cc_input;

typedef struct cc_finished {
    cc_id attempt;
    uint64_t started_unix_microseconds;
    uint64_t duration_nanoseconds;
    cc_bytes debug;
    cc_bytes attributes;
    cc_range outputs;
} cc_finished;

typedef struct cc_finished_output {
    uint64_t size_bytes;
    cc_bytes content_type;
    cc_bytes attributes;
    cc_bytes value;
    uint8_t is_directory;
    uint8_t is_inline;
} cc_finished_output;

typedef struct cc_failed {
    cc_id attempt;
    uint32_t cause;
    int32_t exit_code;
    int32_t signal;
    uint8_t has_exit_code;
    uint8_t has_signal;
    cc_bytes message;
    cc_bytes detail;
    cc_bytes debug;
    cc_bytes host;
} cc_failed;

typedef struct cc_progress {
    cc_id attempt;
    uint32_t millionths;
    cc_bytes text;
} cc_progress;

typedef struct cc_hello {
    uint64_t incarnation;
    uint64_t place;
    uint64_t last_received;
    uint32_t protocol_version;
    uint32_t known_epoch;
    uint32_t knows_epoch;
    uint32_t known_worker;
    uint32_t process_id;
    uint32_t cpus;
    cc_bytes host_name;
    cc_bytes store;
    cc_endpoint data_endpoint;
    cc_range subworkers; /* of texts */
    uint32_t has_predecessor;
    cc_bytes predecessor_end;
    cc_range predecessor_running; /* of ids */
} cc_hello;

typedef struct cc_welcome {
    uint64_t last_received;
    uint32_t epoch;
    uint32_t worker;
    cc_bytes data_secret;
    uint32_t is_restored;
} cc_welcome;

typedef struct cc_batch {
    uint64_t incarnation;
    uint64_t sequence;
    uint64_t acknowledged;
    uint32_t epoch;
    uint32_t direction;
} cc_batch;

typedef struct cc_frame {
    uint32_t kind;
    cc_hello hello;
    cc_welcome welcome;
    cc_bytes refusal;
    cc_batch batch;

    const uint8_t *bytes;
    const cc_bytes *texts;
    const uint32_t *numbers;
    const cc_id *ids;
    const cc_message *messages;
    size_t message_count;
    const cc_command *commands;
    const cc_template *templates;
    const cc_template_output *template_outputs;
    const cc_assignment *assignments;
    const cc_input *inputs;
    const cc_endpoint *endpoints;
    const cc_finished *finished;
    const cc_finished_output *finished_outputs;
    const cc_failed *failed;
    const cc_progress *progress;
} cc_frame;

/* Reads one frame.
 *   bytes        at any alignment; must stay until the frame was read, when they were aligned to 8
 *   out          receives the frame, which lasts until the next call on the work area
 *   returns      NULL, or what is wrong with the bytes, until the next call */
const char *ccapnp_decode_frame(ccapnp_work *work, const uint8_t *bytes, size_t size, const cc_frame **out);

/* Builds one frame; `ccapnp_take` copies it.
 *   size         receives its size in bytes
 *   returns      NULL, or why it can't be built */
const char *ccapnp_encode_frame(ccapnp_work *work, const cc_frame *frame, size_t *size);

#ifdef __cplusplus
}
#endif
#endif
