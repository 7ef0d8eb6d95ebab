/* A subworker: its tasks, its link to the worker, and the message whose calls it is running. */
#ifndef CSW_SUBWORKER_H
#define CSW_SUBWORKER_H

#include "call.h"
#include "link.h"

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
    csw_table templates;
    csw_cache cache;

    /* The `calls` message that is open: its calls run one after the other, straight from the receive buffer. */
    bool has_message;
    csw_reader reader;
    csw_list calls;
    uint32_t next_call;
    size_t message_bytes;
    int *descriptors;
    size_t descriptor_count, descriptor_capacity;

    csw_call call;
    csw_results results;
    uint64_t oldest_result_ns;
    csw_builder builder;    /* of messages that are no results */
    _Atomic uint32_t never; /* what csw_cancelled() loads when there is no control page */
};

/* Ends the connection for good and keeps the reason; returns the status. */
csw_status csw_subworker_fail(csw_subworker *subworker, csw_status status, const char *format, ...) CSW_PRINTF(3, 4);
/* The same with what the link says. */
csw_status csw_subworker_fail_link(csw_subworker *subworker, csw_status status);
void csw_subworker_note(csw_subworker *subworker, const char *format, ...) CSW_PRINTF(2, 3);

/* Takes the socket, registers and waits for the answer. */
csw_status csw_handshake(csw_subworker *subworker);

#endif
