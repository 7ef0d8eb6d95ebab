#define _GNU_SOURCE
#include "link.h"
#include "capnp_reader.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { buffer_bytes = 128 << 10, large_buffer_bytes = 1 << 20 };
enum { kernel_descriptor_max = 253 }; /* SCM_MAX_FD: what one sendmsg() can carry */
enum { descriptor_count_max = 4096 }; /* waiting at once; more is a worker that went wrong */

static csw_status fail(csw_link *link, csw_status status, const char *what, int code) {
    link->error = what;
    link->error_code = code;
    return status;
}

/* --- Room ------------------------------------------------------------------------------------------------------- */

static csw_status retire(csw_link *link) {
    uint8_t **retired = realloc(link->retired, (link->retired_count + 1) * sizeof *retired);
    if (retired == NULL) return fail(link, CSW_ENOMEM, "no memory for a message", 0);
    link->retired = retired;
    link->retired[link->retired_count++] = link->bytes;
    return CSW_OK;
}

/* Makes room for at least `room` bytes behind `end`. */
static csw_status make_room(csw_link *link, size_t room) {
    if (room <= link->capacity - link->end) return CSW_OK;
    size_t used = link->end - link->begin;
    /* Moving is paid for by the bytes that came since the last time: half of the buffer at least. */
    if (!link->is_pinned && used <= link->capacity / 2 && used + room <= link->capacity) {
        memmove(link->bytes, link->bytes + link->begin, used);
    } else {
        size_t capacity = used * 2 + room < buffer_bytes ? buffer_bytes : used * 2 + room;
        uint8_t *bytes = malloc(capacity);
        if (bytes == NULL) return fail(link, CSW_ENOMEM, "no memory for a message", 0);
        if (link->is_pinned) {
            csw_status status = retire(link);
            if (status != CSW_OK) {
                free(bytes);
                return status;
            }
        }
        if (used != 0) memcpy(bytes, link->bytes + link->begin, used);
        if (!link->is_pinned) free(link->bytes);
        link->bytes = bytes;
        link->capacity = capacity;
    }
    link->end = used;
    link->begin = 0;
    return CSW_OK;
}

/* How much to ask for: the rest of the message that has begun, and whatever comes behind it. */
static csw_status prepare_room(csw_link *link) {
    const char *error = NULL;
    size_t used = link->end - link->begin;
    size_t frame = used == 0 ? 0 : csw_frame_size(link->bytes + link->begin, used, link->message_bytes_max, &error);
    size_t room = buffer_bytes / 4;
    if (error == NULL && frame > used && frame - used > room) room = frame - used;
    return make_room(link, room);
}

/* --- Receiving -------------------------------------------------------------------------------------------------- */

static void close_all(const int *descriptors, size_t count) {
    for (size_t i = 0; i < count; i += 1)
        close(descriptors[i]);
}

static csw_status keep_descriptors(csw_link *link, const int *descriptors, size_t count) {
    size_t waiting = link->descriptor_end - link->descriptor_begin;
    csw_status status = CSW_OK;
    if (waiting == 0) link->descriptor_begin = link->descriptor_end = 0;
    if (waiting + count > descriptor_count_max)
        status = fail(link, CSW_EPROTO, "more descriptors than any message speaks of", 0);
    if (status == CSW_OK && count > link->descriptor_capacity - link->descriptor_end) {
        size_t capacity = (waiting + count) * 2;
        int *larger = malloc(capacity * sizeof *larger);
        if (larger == NULL) {
            status = fail(link, CSW_ENOMEM, "no memory for descriptors", 0);
        } else {
            if (waiting != 0) memcpy(larger, link->descriptors + link->descriptor_begin, waiting * sizeof *larger);
            free(link->descriptors);
            link->descriptors = larger;
            link->descriptor_begin = 0;
            link->descriptor_end = waiting;
            link->descriptor_capacity = capacity;
        }
    }
    if (status != CSW_OK) {
        close_all(descriptors, count);
        return status;
    }
    memcpy(link->descriptors + link->descriptor_end, descriptors, count * sizeof *descriptors);
    link->descriptor_end += count;
    return CSW_OK;
}

static csw_status collect_descriptors(csw_link *link, struct msghdr *header) {
    csw_status status = CSW_OK;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        int descriptors[kernel_descriptor_max];
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(descriptors, CMSG_DATA(part), count * sizeof(int));
        if (status == CSW_OK)
            status = keep_descriptors(link, descriptors, count);
        else
            close_all(descriptors, count);
    }
    if (status == CSW_OK && (header->msg_flags & MSG_CTRUNC) != 0)
        status =
            fail(link, CSW_EIO, "descriptors of a message were lost: this process may open no more (ulimit -n)", 0);
    return status;
}

static bool wait_for(int socket, short events, short *happened) {
    struct pollfd wait = {.fd = socket, .events = events};
    int count;
    do
        count = poll(&wait, 1, -1);
    while (count < 0 && errno == EINTR);
    *happened = wait.revents;
    return count >= 0;
}

csw_status csw_link_receive(csw_link *link, csw_wait wait, bool *received) {
    *received = false;
    if (link->is_ended) return CSW_OK;
    csw_status status = prepare_room(link);
    if (status != CSW_OK) return status;
    for (;;) {
        union {
            struct cmsghdr alignment;
            char bytes[CMSG_SPACE(kernel_descriptor_max * sizeof(int))];
        } control;
        struct iovec part = {link->bytes + link->end, link->capacity - link->end};
        struct msghdr header = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        ssize_t count = recvmsg(link->socket, &header, MSG_CMSG_CLOEXEC | (wait == CSW_WAIT ? 0 : MSG_DONTWAIT));
        if (count > 0) {
            link->end += (size_t)count;
            *received = true;
            return collect_descriptors(link, &header);
        }
        if (count == 0 || errno == ECONNRESET) {
            link->is_ended = true;
            return CSW_OK;
        }
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) return fail(link, CSW_EIO, "can't read from the worker", errno);
        if (wait == CSW_DONT_WAIT) return CSW_OK;
        short happened;
        if (!wait_for(link->socket, POLLIN, &happened)) return fail(link, CSW_EIO, "can't wait for the worker", errno);
    }
}

csw_status csw_link_peek(csw_link *link, size_t offset, const uint8_t **message, size_t *size) {
    *message = NULL;
    const char *error = NULL;
    size_t used = link->end - link->begin;
    if (used <= offset) return CSW_OK;
    const uint8_t *bytes = link->bytes + link->begin + offset;
    size_t frame = csw_frame_size(bytes, used - offset, link->message_bytes_max, &error);
    if (error != NULL) return fail(link, CSW_EPROTO, error, 0);
    if (frame == 0 || frame > used - offset) return CSW_OK;
    *message = bytes;
    *size = frame;
    return CSW_OK;
}

csw_status csw_link_message(csw_link *link, const uint8_t **message, size_t *size) {
    return csw_link_peek(link, 0, message, size);
}

void csw_link_pin(csw_link *link) {
    link->is_pinned = true;
}

const int *csw_link_take_descriptors(csw_link *link, size_t count) {
    if (count > link->descriptor_end - link->descriptor_begin) return NULL;
    const int *first = link->descriptors + link->descriptor_begin;
    link->descriptor_begin += count;
    return first;
}

void csw_link_consume(csw_link *link, size_t size) {
    link->is_pinned = false;
    for (size_t i = 0; i < link->retired_count; i += 1)
        free(link->retired[i]);
    link->retired_count = 0;
    link->begin += size;
    if (link->begin != link->end) return;
    link->begin = link->end = 0;
    if (link->capacity > large_buffer_bytes) {
        free(link->bytes);
        link->bytes = NULL;
        link->capacity = 0;
    }
}

bool csw_link_has_stray_descriptors(const csw_link *link) {
    return link->begin == link->end && link->descriptor_begin != link->descriptor_end;
}

void csw_link_notice_end(csw_link *link) {
    struct pollfd look = {.fd = link->socket, .events = POLLRDHUP};
    if (!link->is_ended && poll(&look, 1, 0) == 1) link->is_ended = true;
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

/* How much to take in while the worker does not take our results: all that it may have in flight, and a bound. */
bool csw_link_may_read_ahead(const csw_link *link) {
    return link->end - link->begin < link->message_bytes_max * 2;
}

csw_status csw_link_send(csw_link *link, const void *data, size_t size) {
    const uint8_t *next = data;
    while (size != 0 && !link->is_ended) {
        ssize_t count = send(link->socket, next, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count >= 0) {
            next += count;
            size -= (size_t)count;
            continue;
        }
        if (errno == EINTR) continue;
        if (errno == EPIPE || errno == ECONNRESET) {
            link->is_ended = true;
            return CSW_OK;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS)
            return fail(link, CSW_EIO, "can't write to the worker", errno);
        short happened;
        if (!wait_for(link->socket, POLLOUT | (csw_link_may_read_ahead(link) ? POLLIN : 0), &happened))
            return fail(link, CSW_EIO, "can't wait for the worker", errno);
        if ((happened & POLLIN) == 0) continue;
        bool received;
        csw_status status = csw_link_receive(link, CSW_DONT_WAIT, &received);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

bool csw_link_push(const csw_link *link, const void *data, size_t size) {
    const uint8_t *next = data;
    while (size != 0) {
        ssize_t count = send(link->socket, next, size, MSG_NOSIGNAL);
        if (count >= 0) {
            next += count;
            size -= (size_t)count;
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) return true;
        short happened;
        bool is_full = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
        if (errno != EINTR && !(is_full && wait_for(link->socket, POLLOUT, &happened))) return false;
    }
    return true;
}

void csw_link_wake(const csw_link *link) {
    if (link->socket >= 0) shutdown(link->socket, SHUT_RDWR);
}

void csw_link_shut(csw_link *link) {
    csw_link_wake(link);
    link->is_ended = true;
}

void csw_link_close(csw_link *link) {
    csw_link_shut(link);
    if (link->socket >= 0) close(link->socket);
    if (link->descriptors != NULL)
        close_all(link->descriptors + link->descriptor_begin, link->descriptor_end - link->descriptor_begin);
    for (size_t i = 0; i < link->retired_count; i += 1)
        free(link->retired[i]);
    free(link->retired);
    free(link->descriptors);
    free(link->bytes);
    *link = (csw_link){.socket = -1, .is_ended = true};
}
