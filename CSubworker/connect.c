#define _GNU_SOURCE
#include "subworker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- What the worker left in the environment -------------------------------------------------------------------- */

/* The descriptor that a variable names; -1 when it is unset, -2 when it names none. */
static int inherited(const char *variable) {
    const char *text = getenv(variable);
    if (text == NULL) return -1;
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    bool is_number = *text != 0 && *end == 0 && errno == 0 && number >= 0 && number <= 1 << 30;
    return is_number && fcntl((int)number, F_SETFD, FD_CLOEXEC) == 0 ? (int)number : -2;
}

static csw_status take_socket(csw_subworker *subworker) {
    int descriptor = inherited("RAIN_SUBWORKER_SOCKET");
    if (descriptor == -1)
        return csw_subworker_fail(
            subworker, CSW_ENOWORKER,
            "this program runs tasks for a Rain worker, which starts it by itself; it does nothing when it is started "
            "by "
            "hand (RAIN_SUBWORKER_SOCKET is not set)");
    struct stat status;
    if (descriptor < 0 || fstat(descriptor, &status) != 0 || !S_ISSOCK(status.st_mode))
        return csw_subworker_fail(
            subworker, CSW_ENOWORKER,
            "RAIN_SUBWORKER_SOCKET is \"%s\", which is no open socket: only a Rain worker can start this program",
            getenv("RAIN_SUBWORKER_SOCKET"));
    subworker->link.socket = descriptor;
    subworker->link.message_bytes_max = subworker->message_bytes_max;
    return CSW_OK;
}

static csw_status take_control_page(csw_subworker *subworker) {
    int descriptor = inherited("RAIN_CONTROL_PAGE");
    if (descriptor == -1) return CSW_OK;
    if (descriptor >= 0) {
        subworker->control_page = csw_control_page_map(descriptor);
        int code = errno;
        close(descriptor);
        errno = code;
    } else {
        errno = EBADF;
    }
    if (subworker->control_page != NULL) return CSW_OK;
    return csw_subworker_fail(
        subworker, CSW_EIO, "the control page (RAIN_CONTROL_PAGE=%s) can't be mapped: %s", getenv("RAIN_CONTROL_PAGE"),
        strerror(errno));
}

static csw_status take_name(csw_subworker *subworker) {
    const char *name = getenv("RAIN_SUBWORKER_NAME");
    if (subworker->is_name_given || name == NULL) return CSW_OK;
    char *copy = strdup(name);
    if (copy == NULL) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory");
    free(subworker->name);
    subworker->name = copy;
    return CSW_OK;
}

static csw_status take_environment(csw_subworker *subworker) {
    csw_status status = take_name(subworker);
    if (status == CSW_OK) status = take_socket(subworker);
    if (status == CSW_OK) status = take_control_page(subworker);
    if (status != CSW_OK) return status;
    /* A program that a task starts must not take our numbers for its own. */
    unsetenv("RAIN_SUBWORKER_NAME");
    unsetenv("RAIN_SUBWORKER_SOCKET");
    unsetenv("RAIN_CONTROL_PAGE");
    return CSW_OK;
}

/* --- Registration ----------------------------------------------------------------------------------------------- */

static csw_status send_register(csw_subworker *subworker) {
    size_t count = subworker->tasks.count;
    csw_wire_task *tasks = calloc(count + 1, sizeof *tasks);
    if (tasks == NULL) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory");
    for (size_t i = 0; i < count; i += 1) {
        const csw_task_type *type = &subworker->tasks.entries[i]->type;
        tasks[i] = (csw_wire_task){
            type->name,
            type->documentation,
            type->inputs,
            (uint32_t)type->input_count,
            type->outputs,
            (uint32_t)type->output_count,
            type->input_content_types,
            type->output_content_types};
    }
    csw_wire_register message = {
        .name = subworker->name,
        .library = subworker->library,
        .tasks = tasks,
        .task_count = (uint32_t)count,
        .has_descriptors = true,
        .has_control_page = subworker->control_page != NULL,
        .has_caching = true,
        .threads = (uint16_t)subworker->threads,
    };
    bool is_built = csw_encode_register(&subworker->builder, &message);
    free(tasks);
    if (!is_built) return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory");
    csw_status status = csw_link_send(&subworker->link, subworker->builder.bytes, subworker->builder.words * 8);
    return status == CSW_OK ? CSW_OK : csw_subworker_fail_link(subworker, status);
}

static csw_status receive_message(csw_subworker *subworker, const uint8_t **message, size_t *size) {
    for (;;) {
        csw_status status = csw_link_message(&subworker->link, message, size);
        if (status != CSW_OK) return csw_subworker_fail_link(subworker, status);
        if (*message != NULL || subworker->link.is_ended) return CSW_OK;
        bool received;
        status = csw_link_receive(&subworker->link, CSW_WAIT, &received);
        if (status != CSW_OK) return csw_subworker_fail_link(subworker, status);
    }
}

static csw_status accept_welcome(csw_subworker *subworker, const csw_wire_welcome *welcome) {
    if (welcome->protocol_version != CSW_PROTOCOL_VERSION)
        return csw_subworker_fail(
            subworker, CSW_EPROTO,
            "the worker speaks version %u of the subworker protocol, this program version %u: build "
            "it again with the csubworker of the worker's installation",
            (unsigned)welcome->protocol_version, (unsigned)CSW_PROTOCOL_VERSION);
    if (*(const char *)welcome->staging_directory.data != '/')
        return csw_subworker_fail(
            subworker, CSW_EPROTO, "malformed message of the worker: the staging directory is no absolute path");
    subworker->worker_name = strndup(welcome->worker_name.data, welcome->worker_name.size);
    subworker->inline_bytes_max = welcome->inline_bytes_max;
    if (subworker->worker_name == NULL ||
        !csw_staging_open(&subworker->staging, welcome->staging_directory.data, welcome->staging_directory.size))
        return csw_subworker_fail(subworker, CSW_ENOMEM, "no memory");
    subworker->credit_bytes = welcome->credit_bytes;
    subworker->takes_progress = welcome->takes_progress;
    if (welcome->log_level != 0) subworker->log_level = welcome->log_level;
    subworker->life = CSW_LIFE_CONNECTED;
    return CSW_OK;
}

static csw_status read_answer(csw_subworker *subworker, const uint8_t *message, size_t size) {
    csw_reader *reader = &subworker->reader;
    csw_envelope envelope;
    csw_wire_welcome welcome;
    csw_reader_open(reader, message, size);
    if (csw_decode_envelope(reader, &envelope)) {
        if (envelope.kind == CSW_MESSAGE_REFUSED)
            return csw_subworker_fail(
                subworker, CSW_EREFUSED, "the worker refused this subworker: %s", (const char *)envelope.refused.data);
        if (envelope.kind == CSW_MESSAGE_SHUTDOWN) {
            subworker->life = CSW_LIFE_ENDED;
            return CSW_OK;
        }
        if (envelope.kind != CSW_MESSAGE_WELCOME || envelope.descriptor_count != 0)
            return csw_subworker_fail(
                subworker, CSW_EPROTO,
                "malformed message of the worker: neither welcome nor refused in answer to the "
                "registration");
        if (csw_decode_welcome(&envelope.body, &welcome)) return accept_welcome(subworker, &welcome);
    }
    return csw_subworker_fail(subworker, CSW_EPROTO, "malformed message of the worker: %s", reader->error);
}

csw_status csw_handshake(csw_subworker *subworker) {
    csw_status status = take_environment(subworker);
    if (status == CSW_OK) status = send_register(subworker);
    if (status != CSW_OK) return status;
    const uint8_t *message;
    size_t size;
    status = receive_message(subworker, &message, &size);
    if (status != CSW_OK) return status;
    if (message == NULL) {
        subworker->life = CSW_LIFE_ENDED;
        return CSW_OK;
    }
    status = read_answer(subworker, message, size);
    if (status == CSW_OK) csw_link_consume(&subworker->link, size);
    return status;
}

csw_status csw_connect(csw_subworker *subworker) {
    if (subworker == NULL) return CSW_EINVAL;
    if (subworker->life == CSW_LIFE_FAILED || subworker->failure != CSW_OK) return subworker->failure;
    return subworker->life == CSW_LIFE_NEW ? csw_handshake(subworker) : CSW_OK;
}
