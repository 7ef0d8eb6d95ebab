/* A subworker: its tasks, its link to the worker, and the message whose calls it is running. */
#ifndef CSW_SUBWORKER_H
#define CSW_SUBWORKER_H

#include "call.h"
#include "link.h"

typedef struct csw_pool csw_pool;

/* The answer to a reserve. */
typedef struct csw_grant {
    bool is_refused;
    const char *text; /* the directory, or why not; in the call's arena */
} csw_grant;

typedef enum csw_life { CSW_LIFE_NEW, CSW_LIFE_CONNECTED, CSW_LIFE_ENDED, CSW_LIFE_FAILED } csw_life;

struct csw_subworker {
    csw_life life;
    csw_status failure; /* of FAILED; before that, the first failure of csw_task() */
    char message[1024];
    char *name;
    bool is_name_given;
    char *library;
    size_t message_bytes_max;
    csw_tasks tasks;

    csw_link link;
    csw_control_slot *control_page; /* NULL: none */
    char *worker_name;
    csw_staging staging;
    size_t inline_bytes_max;
    uint64_t credit_bytes; /* of files that a call may make unasked; 0: the worker is never asked */
    bool takes_progress;
    int log_level;
    csw_pool *pool; /* NULL: calls run one at a time, on the thread that reads */
    csw_table templates;
    csw_template *replaced; /* templates that calls may still use */
    csw_cache cache;

    /* The `calls` message that is open: its calls run one after the other, straight from the receive buffer. */
    bool has_message;
    csw_reader reader;
    csw_list calls;
    uint32_t next_call;
    size_t message_bytes;
    size_t seen_bytes; /* from the open message on, what was looked through for the answer to a reserve */
    int *descriptors;
    size_t descriptor_count, descriptor_capacity;

    csw_call call;
    csw_results results;
    uint64_t oldest_result_ns;
    csw_builder builder; /* of messages that are no results and of no call */
    size_t threads;      /* that the worker is told */
    _Atomic uint32_t next_id;
    csw_control_slot own_slots[CSW_SLOT_COUNT]; /* in place of a control page */
};

/* Ends the connection for good and keeps the reason; returns the status. */
csw_status csw_subworker_fail(csw_subworker *subworker, csw_status status, const char *format, ...) CSW_PRINTF(3, 4);
/* The same with what the link says. */
csw_status csw_subworker_fail_link(csw_subworker *subworker, csw_status status);
void csw_subworker_note(csw_subworker *subworker, const char *format, ...) CSW_PRINTF(2, 3);

/* Whether results must be sent before a call of this template begins: they must not wait behind one that may take long. */
bool csw_results_must_go(const csw_subworker *subworker, const csw_template *next);
bool csw_results_are_enough(const csw_results *results);

/* Sends a message of a call that is running, on its thread. */
csw_status csw_subworker_send(csw_subworker *subworker, const csw_builder *builder);
/* Asks for room and waits for the answer. A failure is the call's too. */
csw_status csw_subworker_reserve(csw_call *call, uint32_t id, uint64_t size, csw_grant *out);
/* A number for a reserve. */
uint32_t csw_subworker_next_id(csw_subworker *subworker);

/* The level that a text like RAIN_LOG names; information when it names none. */
int csw_log_level_of(const char *name);

/* Reads until the worker goes away or says so, and lets the pool run the calls. */
csw_status csw_read(csw_subworker *subworker);

/* Takes the socket, registers and waits for the answer. */
csw_status csw_handshake(csw_subworker *subworker);

#endif
