/* One run of a task: its inputs, its outputs and the texts that go with its result. A subworker has one, used again. */
#ifndef CSW_CALL_H
#define CSW_CALL_H

#include "arena.h"
#include "cache.h"
#include "control_page.h"
#include "protocol.h"
#include "room.h"
#include "source.h"
#include "staging.h"
#include "template.h"

typedef struct csw_input {
    csw_key key;
    uint64_t size;
    const char *content_type;
    csw_bytes attributes;
    csw_cached *cached; /* NULL when it goes with the call */
    csw_source own;     /* used when it is not cached */
    const char *path;   /* once somebody asked for it */
} csw_input;

typedef enum csw_output_kind {
    CSW_OUTPUT_UNSET,
    CSW_OUTPUT_MEMORY, /* in the call's arena; travels in the message */
    CSW_OUTPUT_MAPPED, /* a file in the staging directory that the task writes through a map */
    CSW_OUTPUT_LENT,   /* the beginning of a csw_memory, which is somebody's still */
    CSW_OUTPUT_PATH,   /* a file or directory in the staging directory */
    CSW_OUTPUT_INPUT   /* the same as an input */
} csw_output_kind;

typedef struct csw_output {
    csw_output_kind kind;
    bool is_directory;
    bool is_buffer;     /* may be resized */
    bool may_be_shared; /* MAPPED or PATH: by processes that its maker started */
    uint16_t input;
    int descriptor;     /* of MAPPED */
    void *data;         /* of MEMORY and MAPPED */
    size_t size;        /* bytes of the object */
    size_t capacity;    /* bytes that `data` has room for */
    size_t touched;     /* bytes of it that the task may have written to */
    csw_memory *memory; /* of LENT */
    const char *path;
    csw_room room; /* of MAPPED, and of PATH where the library made the file */
    csw_bytes content_type;
    csw_bytes attributes;
} csw_output;

/* A name that was given away by csw_staging_path() or made for an input's path. */
typedef struct csw_staged {
    struct csw_staged *next;
    const char *path;
    bool is_output;
} csw_staged;

/* How often a task may still tell its progress: see progress.c. */
typedef struct csw_progress_purse {
    uint32_t spent;
    uint64_t filled_ns;
} csw_progress_purse;

struct csw_call {
    csw_subworker *subworker;
    bool is_open;
    csw_template *shared;
    csw_wire_call wire;
    csw_control_slot *slot; /* of the control page, or of the subworker's own where there is none */
    csw_staging *staging;
    csw_input *inputs;
    size_t input_count, input_capacity;
    csw_output *outputs;
    size_t output_count, output_capacity;
    size_t memory_bytes;    /* of all outputs in memory */
    size_t fact_bytes;      /* content types and attributes of all outputs */
    uint64_t credit_used;   /* by files of which the worker was not asked */
    csw_wire_value *values; /* as many as output_capacity; used when the call ends */
    csw_staged *staged;
    csw_memory *memories;
    csw_bytes message;
    csw_bytes detail;
    csw_bytes attributes;
    char *debug;
    size_t debug_size, debug_capacity;
    bool is_debug_cut;
    csw_arena arena;
    uint64_t started_ns;
    uint32_t told_progress; /* what the worker heard last */
    uint64_t told_text_hash;
    csw_progress_purse purse;
    csw_builder builder; /* of messages that are sent while it runs */
};

/* Before the first use of zeroed memory as a call. */
void csw_call_prepare(csw_call *call, csw_subworker *subworker);
/* Empties a call for the next one and makes room; false when there is no memory. */
bool csw_call_open(csw_call *call, csw_template *shared, const csw_wire_call *wire);
/* Writes the call's result; what it points to lasts until csw_call_close(). Outputs that can't be completed make it a
 * failure. What the result does not need is let go of already. */
void csw_call_conclude(csw_call *call, csw_status status, csw_wire_result *result);
/* Gives back what the call holds; files that `result` does not hand to the worker are removed. */
void csw_call_close(csw_call *call, bool are_outputs_kept);
void csw_call_release(csw_call *call);

/* Sets the text of a failure; returns the status. */
csw_status csw_call_fail(csw_call *call, csw_status status, const char *format, ...) CSW_PRINTF(3, 4);
csw_status csw_call_no_memory(csw_call *call);
/* `input 2 "words"`, for messages. */
const char *csw_input_title(csw_call *call, size_t i);
const char *csw_output_title(csw_call *call, size_t i);

/* Shows on the control page that the call is alive. */
void csw_call_beat(csw_call *call);
uint64_t csw_progress_hash(const char *text, size_t size);

/* A fresh staging path that is removed when the call ends. */
csw_staged *csw_call_stage(csw_call *call);

/* Below, a position that no output has means memory of which it is not known yet which one it will be. */

/* A new file of this size, mapped, where there is room for it; `made` is otherwise as it was. */
csw_status csw_output_map(csw_call *call, size_t i, csw_output *made, size_t size);
/* Changes the size of a buffer. */
csw_status csw_output_resize_buffer(csw_call *call, size_t i, csw_output *output, size_t size);
/* Removes the file of an output that nobody wants. */
void csw_output_discard(csw_output *output);
/* Forgets what an output was set to; its content type and attributes stay. */
void csw_output_unset(csw_call *call, csw_output *output);
/* Whether output i, if it were of this size, would go into the message. */
bool csw_output_fits_message(const csw_call *call, size_t i, size_t size);

void csw_inputs_close(csw_call *call);
/* Completes an output: its place in the result. False after setting the call's failure. */
bool csw_output_conclude(csw_call *call, size_t i, csw_wire_value *value);
void csw_outputs_close(csw_call *call, bool are_kept);

#endif
