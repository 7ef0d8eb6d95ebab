/* The socket to the worker: messages and descriptors in, messages out. */
#ifndef CSW_LINK_H
#define CSW_LINK_H

#include "csubworker.h"

typedef struct csw_link {
    int socket;    /* -1: none */
    bool is_ended; /* the worker closed it or died */
    /* Bytes that were received and not consumed yet: from begin to end. Messages begin aligned to 8 bytes. */
    uint8_t *bytes;
    size_t begin, end, capacity;
    /* While a message is pinned, what points into the buffer must stay valid: a larger one is added, not exchanged. */
    bool is_pinned;
    uint8_t **retired;
    size_t retired_count;
    /* Descriptors that were received and not consumed yet, in the order of their messages. */
    int *descriptors;
    size_t descriptor_begin, descriptor_end, descriptor_capacity;
    size_t message_bytes_max;
    const char *error; /* why the last function returned CSW_EPROTO, CSW_EIO or CSW_ENOMEM */
    int error_code;    /* errno, where one belongs to it */
} csw_link;

typedef enum csw_wait { CSW_WAIT, CSW_DONT_WAIT } csw_wait;

/* Receives what is there; with CSW_WAIT at least one byte, or the end.
 *   received   whether anything came; false at the end and when nothing was there */
csw_status csw_link_receive(csw_link *link, csw_wait wait, bool *received);
/* The next whole message without consuming it; NULL when more bytes are needed. */
csw_status csw_link_message(csw_link *link, const uint8_t **message, size_t *size);
/* Keeps a message and what it points to in place, until csw_link_consume(). */
void csw_link_pin(csw_link *link);
/* The message's descriptors, in order; the caller owns them and copies their numbers before it receives again. NULL when
 * fewer have come. */
const int *csw_link_take_descriptors(csw_link *link, size_t count);
void csw_link_consume(csw_link *link, size_t size);
/* Sends all bytes. Reads meanwhile, so that two sides that both send never wait for each other. */
csw_status csw_link_send(csw_link *link, const void *data, size_t size);
/* For a thread that is not the one which receives: sends all bytes, and does not read meanwhile. True also when the worker is
 * gone, which the other thread sees; else false with errno. */
bool csw_link_push(const csw_link *link, const void *data, size_t size);
/* For such a thread too: lets the receiver find the end of the stream. */
void csw_link_wake(const csw_link *link);
/* A whole message that lies `offset` bytes behind the next one; NULL when more bytes are needed. */
csw_status csw_link_peek(csw_link *link, size_t offset, const uint8_t **message, size_t *size);
/* Whether there is not too much already that was received and not consumed. */
bool csw_link_may_read_ahead(const csw_link *link);
/* Looks whether the worker is gone, without reading what it sent before. */
void csw_link_notice_end(csw_link *link);
/* Whether descriptors are left though every message was consumed. */
bool csw_link_has_stray_descriptors(const csw_link *link);
/* Ends the connection; what was received stays, and the socket's number is not free for others yet. */
void csw_link_shut(csw_link *link);
void csw_link_close(csw_link *link);

#endif
