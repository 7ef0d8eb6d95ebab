#define _GNU_SOURCE
#include "calls.h"
#include "pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)
#define VERSION VERSION_TEXT(CSW_VERSION_MAJOR, CSW_VERSION_MINOR, CSW_VERSION_PATCH)

enum { message_bytes_max_default = 64 << 20, label_count_max = 1 << 16 };

const char *csw_version(void) {
    return VERSION;
}

const char *csw_status_text(csw_status status) {
    switch (status) {
    case CSW_OK:
        return "success";
    case CSW_EINVAL:
        return "an argument is wrong";
    case CSW_ENOMEM:
        return "no memory";
    case CSW_ENOWORKER:
        return "not started by a worker";
    case CSW_EPROTO:
        return "malformed message, or another protocol version";
    case CSW_EREFUSED:
        return "the worker refused the registration";
    case CSW_EIO:
        return "input or output failed";
    case CSW_ESTATE:
        return "not possible now";
    case CSW_ECANCELLED:
        return "cancelled";
    case CSW_ETASK:
        return "the task failed";
    }
    return "unknown status";
}

/* --- Messages --------------------------------------------------------------------------------------------------- */

static void set_message(csw_subworker *subworker, const char *format, va_list arguments) {
    vsnprintf(subworker->message, sizeof subworker->message, format, arguments);
}

void csw_subworker_note(csw_subworker *subworker, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set_message(subworker, format, arguments);
    va_end(arguments);
}

csw_status csw_subworker_fail(csw_subworker *subworker, csw_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set_message(subworker, format, arguments);
    va_end(arguments);
    subworker->life = CSW_LIFE_FAILED;
    subworker->failure = status;
    csw_link_shut(&subworker->link); /* an open call's inputs may still lie in the link's buffer */
    return status;
}

csw_status csw_subworker_fail_link(csw_subworker *subworker, csw_status status) {
    const char *what = subworker->link.error;
    int code = subworker->link.error_code;
    const char *whose = status == CSW_EPROTO ? "malformed message of the worker: " : "";
    if (code != 0) return csw_subworker_fail(subworker, status, "%s%s: %s", whose, what, strerror(code));
    return csw_subworker_fail(subworker, status, "%s%s", whose, what);
}

const char *csw_message(const csw_subworker *subworker) {
    return subworker != NULL ? subworker->message : "";
}

const char *csw_name(const csw_subworker *subworker) {
    return subworker->name;
}

const char *csw_worker_name(const csw_subworker *subworker) {
    return subworker->worker_name != NULL ? subworker->worker_name : "";
}

const char *csw_staging_directory(const csw_subworker *subworker) {
    return subworker->staging.directory != NULL ? subworker->staging.directory : "";
}

size_t csw_inline_bytes_max(const csw_subworker *subworker) {
    return subworker->inline_bytes_max;
}

/* --- Making one ------------------------------------------------------------------------------------------------- */

/* Copies a struct of the caller's version into one of ours. What we do not know must be zero: a caller that asks for
 * something that this library can't do must hear of it. */
static bool copy_versioned(void *into, size_t own_size, size_t size_min, const void *from, size_t size) {
    if (size < size_min || size > 4096) return false;
    memset(into, 0, own_size);
    memcpy(into, from, size < own_size ? size : own_size);
    for (size_t i = own_size; i < size; i += 1)
        if (((const char *)from)[i] != 0) return false;
    return true;
}

csw_status csw_open(const csw_options *options, csw_subworker **out) {
    if (out == NULL) return CSW_EINVAL;
    *out = NULL;
    csw_options own = CSW_OPTIONS_INIT;
    size_t size_min = offsetof(csw_options, message_bytes_max) + sizeof own.message_bytes_max;
    if (options != NULL && !copy_versioned(&own, sizeof own, size_min, options, options->struct_size))
        return CSW_EINVAL;
    csw_subworker *subworker = calloc(1, sizeof *subworker);
    if (subworker == NULL) return CSW_ENOMEM;
    subworker->link.socket = -1;
    subworker->threads = 1;
    subworker->log_level = csw_log_level_of(getenv("RAIN_LOG"));
    csw_cache_open(&subworker->cache);
    csw_call_prepare(&subworker->call, subworker);
    subworker->is_name_given = own.name != NULL;
    subworker->name = strdup(own.name != NULL ? own.name : "");
    subworker->library = strdup(own.library != NULL ? own.library : "csubworker " VERSION);
    subworker->message_bytes_max = own.message_bytes_max != 0 ? own.message_bytes_max : message_bytes_max_default;
    if (subworker->name == NULL || subworker->library == NULL) {
        csw_close(subworker);
        return CSW_ENOMEM;
    }
    *out = subworker;
    return CSW_OK;
}

static bool has_no_null(const char *const *labels, size_t count) {
    if (count > label_count_max || (labels == NULL && count != 0)) return false;
    for (size_t i = 0; i < count; i += 1)
        if (labels[i] == NULL) return false;
    return true;
}

static csw_status add_task(csw_subworker *subworker, const csw_task_type *type) {
    csw_task_type own;
    size_t size_min = offsetof(csw_task_type, context) + sizeof own.context;
    if (type == NULL || !copy_versioned(&own, sizeof own, size_min, type, type->struct_size)) {
        csw_subworker_note(
            subworker, "csw_task: struct_size is not that of a csw_task_type: begin the initialiser with CSW_TASK, and "
                       "use a library as new as its header");
        return CSW_EINVAL;
    }
    if (own.name == NULL || !has_no_null(own.inputs, own.input_count) || !has_no_null(own.outputs, own.output_count)) {
        csw_subworker_note(
            subworker, "csw_task: %s needs a name and as many labels as it counts",
            own.name != NULL ? own.name : "a task");
        return CSW_EINVAL;
    }
    if ((own.input_content_types != NULL && !has_no_null(own.input_content_types, own.input_count)) ||
        (own.output_content_types != NULL && !has_no_null(own.output_content_types, own.output_count))) {
        csw_subworker_note(subworker, "csw_task: %s needs a content type for each label, \"\" for any", own.name);
        return CSW_EINVAL;
    }
    if (own.threads > CSW_SLOT_COUNT) {
        csw_subworker_note(
            subworker, "csw_task: %s can't run %zu calls at once: a worker gives %d at most", own.name, own.threads,
            CSW_SLOT_COUNT);
        return CSW_EINVAL;
    }
    csw_status status = csw_tasks_add(&subworker->tasks, &own);
    if (status == CSW_EINVAL) csw_subworker_note(subworker, "csw_task: there is a task \"%s\" already", own.name);
    if (status == CSW_ENOMEM) csw_subworker_note(subworker, "csw_task: no memory for \"%s\"", own.name);
    return status;
}

csw_status csw_task(csw_subworker *subworker, const csw_task_type *type) {
    if (subworker == NULL) return CSW_EINVAL;
    if (subworker->life != CSW_LIFE_NEW) {
        csw_subworker_note(
            subworker, "csw_task: the worker was told the tasks already: register them before the start");
        return CSW_ESTATE;
    }
    if (subworker->failure != CSW_OK) return subworker->failure;
    subworker->failure = add_task(subworker, type);
    return subworker->failure;
}

/* --- Its end ---------------------------------------------------------------------------------------------------- */

void csw_close(csw_subworker *subworker) {
    if (subworker == NULL) return;
    csw_call_release(&subworker->call);
    for (size_t i = 0; i < subworker->descriptor_count; i += 1)
        close(subworker->descriptors[i]);
    free(subworker->descriptors);
    csw_link_close(&subworker->link);
    csw_control_page_unmap(subworker->control_page);
    csw_cache_close(&subworker->cache);
    csw_templates_release(&subworker->templates);
    csw_templates_release_replaced(&subworker->replaced);
    csw_tasks_release(&subworker->tasks);
    csw_staging_close(&subworker->staging);
    csw_builder_release(&subworker->builder);
    csw_builder_release(&subworker->results.builder);
    free(subworker->worker_name);
    free(subworker->name);
    free(subworker->library);
    free(subworker);
}

static csw_status run_one_by_one(csw_subworker *subworker) {
    for (;;) {
        csw_call *call;
        csw_status status = csw_next(subworker, &call);
        if (status != CSW_OK || call == NULL) return status;
        status = csw_finish(call, csw_call_run(call));
        if (status != CSW_OK) return status;
    }
}

/* The threads first: the worker is told how many calls it may give only when there are so many. */
static csw_status run_at_once(csw_subworker *subworker, size_t threads, bool is_mixed) {
    csw_pool *pool = csw_pool_open(subworker, threads, is_mixed);
    if (pool == NULL)
        return csw_subworker_fail(subworker, CSW_ENOMEM, "can't start %zu threads: %s", threads, strerror(errno));
    subworker->threads = threads;
    csw_status status = csw_read(subworker);
    csw_status pool_status = csw_pool_close(pool);
    return status != CSW_OK ? status : pool_status;
}

static csw_status run(csw_subworker *subworker) {
    bool is_mixed;
    size_t threads = csw_tasks_threads(&subworker->tasks, &is_mixed);
    if (subworker->life != CSW_LIFE_NEW || subworker->failure != CSW_OK || threads == 1)
        return run_one_by_one(subworker);
    return run_at_once(subworker, threads, is_mixed);
}

int csw_run(csw_subworker *subworker) {
    if (subworker == NULL) {
        fputs("csubworker: there is no subworker to run: csw_open() failed\n", stderr);
        return 1;
    }
    /* What a task printed must be in the log when it crashes. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    csw_status status = run(subworker);
    if (status != CSW_OK)
        fprintf(
            stderr, "%s: %s\n", *subworker->name != 0 ? subworker->name : program_invocation_short_name,
            subworker->message);
    csw_close(subworker);
    return status == CSW_OK ? 0 : 1;
}
