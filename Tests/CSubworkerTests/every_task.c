/* A subworker with one task for each thing that a task can do. The host calls them and looks at what comes back. */
#define _GNU_SOURCE
#include <csubworker.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The call's arguments, which are one number for most tasks. */
static long number(csw_call *call) {
    csw_bytes text = csw_call_arguments(call);
    char copy[32] = "";
    if (text.size < sizeof copy) memcpy(copy, text.data, text.size);
    return strtol(copy, NULL, 10);
}

static void wait_milliseconds(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Output i is a copy of input i. */
static csw_status echo(csw_call *call, void *context) {
    (void)context;
    for (size_t i = 0; i < csw_output_count(call); i += 1) {
        csw_bytes bytes;
        csw_status status = csw_input_bytes(call, i, &bytes);
        if (status == CSW_OK && (uintptr_t)bytes.data % 8 != 0) return csw_fail(call, "input %zu is not aligned", i);
        if (status == CSW_OK) status = csw_output_bytes(call, i, bytes.data, bytes.size);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

/* Output 0 is input 0 in three pieces, with an empty one between. */
static csw_status parts(csw_call *call, void *context) {
    (void)context;
    csw_bytes bytes;
    csw_status status = csw_input_bytes(call, 0, &bytes);
    if (status != CSW_OK) return status;
    size_t third = bytes.size / 3;
    const char *data = bytes.data;
    csw_bytes pieces[] = {{data, third}, {NULL, 0}, {data + third, third}, {data + 2 * third, bytes.size - 2 * third}};
    csw_bytes nothing = {NULL, 1}, endless[] = {{data, SIZE_MAX / 2}, {data, SIZE_MAX / 2}};
    if (csw_output_parts(call, 0, &nothing, 1) != CSW_EINVAL) return csw_fail(call, "a piece of NULL");
    if (csw_output_parts(call, 0, endless, 2) != CSW_ENOMEM) return csw_fail(call, "endless pieces");
    return csw_output_parts(call, 0, pieces, sizeof pieces / sizeof *pieces);
}

/* Output i is what is read at the path of input i. */
static csw_status read_path(csw_call *call, void *context) {
    (void)context;
    for (size_t i = 0; i < csw_output_count(call); i += 1) {
        const char *path;
        csw_status status = csw_input_path(call, i, &path);
        if (status != CSW_OK) return status;
        FILE *file = fopen(path, "rb");
        if (file == NULL) return csw_fail(call, "%s: %s", path, strerror(errno));
        char bytes[4096];
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        status = csw_output_bytes(call, i, bytes, size);
        if (status == CSW_OK) status = csw_debug(call, "%s", path);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

static void fill(unsigned char *bytes, size_t from, size_t to) {
    for (size_t i = from; i < to; i += 1)
        bytes[i] = (unsigned char)(i * 31 + i / 4096);
}

static bool is_zero(const unsigned char *bytes, size_t from, size_t to) {
    for (size_t i = from; i < to; i += 1)
        if (bytes[i] != 0) return false;
    return true;
}

/* A buffer of so many bytes. */
static csw_status buffer(csw_call *call, void *context) {
    (void)context;
    size_t size = (size_t)number(call);
    void *bytes;
    csw_status status = csw_output_buffer(call, 0, size, &bytes);
    if (status != CSW_OK) return status;
    if (bytes == NULL || !is_zero(bytes, 0, size)) return csw_fail(call, "the buffer is not zeroed");
    fill(bytes, 0, size);
    return CSW_OK;
}

/* A buffer that goes through the sizes in `context` up to the argument, and ends with that. */
static csw_status resize(csw_call *call, void *context) {
    const size_t *sizes = context;
    size_t last = (size_t)number(call), size = 0;
    void *bytes;
    csw_status status = csw_output_buffer(call, 0, 0, &bytes);
    for (size_t i = 0; status == CSW_OK && sizes[i] != 0; i += 1) {
        status = csw_output_resize(call, 0, sizes[i], &bytes);
        if (status != CSW_OK) break;
        if (sizes[i] > size && !is_zero(bytes, size, sizes[i])) return csw_fail(call, "what was added is not zeroed");
        fill(bytes, 0, sizes[i]);
        size = sizes[i];
    }
    if (status == CSW_OK) status = csw_output_resize(call, 0, last, &bytes);
    if (status == CSW_OK) fill(bytes, 0, last);
    return status;
}

/* What earlier calls left of their memory. */
static csw_memory *kept[8];
static size_t kept_count;

/* Several memories, of which some become outputs: the word says how. */
static csw_status memory(csw_call *call, void *context) {
    (void)context;
    enum { size = 300000 };
    csw_bytes way = csw_call_arguments(call);
    csw_memory *first, *second;
    csw_status status = csw_memory_open(call, size, &first);
    if (status == CSW_OK) status = csw_memory_open(call, size, &second);
    if (status != CSW_OK) return status;
    if (!is_zero(csw_memory_data(first), 0, size)) return csw_fail(call, "the memory is not zeroed");
    fill(csw_memory_data(first), 0, size);
    memset(csw_memory_data(second), 's', size);
#define IS(word) (way.size == sizeof word - 1 && memcmp(way.data, word, way.size) == 0)
    if (IS("closed") || IS("kept") || IS("failed")) {
        status = csw_output_memory(call, 0, second, size);
        if (status == CSW_OK) status = csw_output_memory(call, 0, first, size);
    } else if (IS("short")) {
        status = csw_output_memory(call, 0, first, 200001);
    } else if (IS("tiny")) {
        status = csw_output_memory(call, 0, first, 10);
    } else if (IS("twice")) {
        status = csw_output_memory(call, 1, first, size);
        if (status == CSW_OK) status = csw_output_memory(call, 0, first, size);
    } else if (IS("replaced")) {
        status = csw_output_memory(call, 0, second, size);
        if (status == CSW_OK) status = csw_output_bytes(call, 0, csw_memory_data(first), size);
    } else if (IS("grown")) {
        void *data;
        for (size_t next = size; status == CSW_OK && next <= 20 * size; next += size)
            status = csw_memory_resize(first, next, &data);
        if (status == CSW_OK) status = csw_memory_resize(first, 10, NULL);
        if (status == CSW_OK) status = csw_memory_resize(first, size, &data);
        if (status == CSW_OK && !is_zero(data, 10, size)) return csw_fail(call, "what was added is not zeroed");
        if (status == CSW_OK) status = csw_output_memory(call, 0, first, size);
        if (csw_memory_resize(first, 1, &data) != CSW_EINVAL || data != csw_memory_data(first))
            return csw_fail(call, "an output was resized");
        fill(data, 0, size);
    } else if (IS("child")) {
        status = csw_output_memory(call, 0, first, size);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            pause();
            _exit(0);
        }
    } else if (IS("misuse")) {
        if (csw_output_memory(call, 0, first, size + 1) != CSW_EINVAL) return csw_fail(call, "more than there is");
        if (csw_output_memory(call, 9, first, size) != CSW_EINVAL) return csw_fail(call, "no such output");
        if (kept_count != 0 && csw_output_memory(call, 0, kept[0], 1) != CSW_EINVAL)
            return csw_fail(call, "memory of another call");
        void *data;
        if (kept_count != 0 && csw_memory_resize(kept[0], 1, &data) != CSW_ESTATE)
            return csw_fail(call, "memory of another call was resized");
        status = csw_output_bytes(call, 0, "ok", 2);
    }
    if (IS("closed")) {
        csw_memory_close(first);
        csw_memory_close(second);
    } else {
        kept[kept_count++ % 8] = first;
        kept[kept_count++ % 8] = second;
    }
    return IS("failed") ? csw_fail(call, "after all") : status;
}

/* Writes to all memory that earlier calls left, after a look that it is as they left it, and gives it back. */
static csw_status memory_after(csw_call *call, void *context) {
    (void)context;
    int wrong = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < kept_count; i += 1) {
        unsigned char *data = csw_memory_data(kept[i]);
        size_t size = csw_memory_size(kept[i]);
        bytes += size;
        for (size_t k = 0; k < size; k += 1)
            wrong += data[k] != (i % 2 == 0 ? (unsigned char)(k * 31 + k / 4096) : 's');
        memset(data, 'x', size);
        wrong += data[0] != 'x' || data[size - 1] != 'x';
    }
    for (; kept_count != 0; kept_count -= 1)
        csw_memory_close(kept[kept_count - 1]);
    return csw_output_printf(call, 0, "%zu bytes, %d wrong", bytes, wrong);
}

static csw_status same(csw_call *call, void *context) {
    (void)context;
    csw_status status = csw_output_same_as_input(call, 0, (size_t)number(call));
    if (status == CSW_OK) status = csw_output_set_content_type(call, 0, "text/x-same");
    if (status == CSW_OK) status = csw_output_set_attributes(call, 0, "{\"same\":true}", 13);
    return status;
}

static csw_status fail(csw_call *call, void *context) {
    (void)context;
    csw_debug(call, "about to fail");
    csw_output_bytes(call, 0, "made before", 11);
    void *bytes;
    csw_output_buffer(call, 1, 1 << 20, &bytes);
    return csw_fail(call, "line %d is no number: %s", 17, "x");
}

static csw_status fail_text(csw_call *call, void *context) {
    (void)context;
    return csw_fail_text(call, "message", 7, "Traceback:\n  here\n", 18);
}

/* The argument is the status. */
static csw_status give_status(csw_call *call, void *context) {
    (void)context;
    return (csw_status)number(call);
}

static csw_status debug(csw_call *call, void *context) {
    (void)context;
    for (long i = 0, count = number(call); i < count; i += 1)
        if (csw_debug(call, "line %ld of a few that are long enough to fill a buffer", i) != CSW_OK) return CSW_ENOMEM;
    csw_set_attributes(call, "{\"lines\":1}", 11);
    return csw_output_bytes(call, 0, NULL, 0);
}

static csw_status print_bytes(csw_call *call, char *text, size_t capacity, size_t *size, csw_bytes bytes) {
    (void)call;
    *size += (size_t)snprintf(text + *size, capacity - *size, " %.*s", (int)bytes.size, (const char *)bytes.data);
    return CSW_OK;
}

/* All facts about the call. */
static csw_status facts(csw_call *call, void *context) {
    char text[4096];
    csw_attempt attempt = csw_call_attempt(call);
    csw_subworker *subworker = csw_call_subworker(call);
    size_t size = (size_t)snprintf(
        text, sizeof text, "%s %s %s method %s name %s template %u attempt %u %u %u %u index %u constants %zu",
        (const char *)context, csw_name(subworker), csw_worker_name(subworker), csw_call_method(call),
        csw_call_name(call), (unsigned)csw_call_template(call), (unsigned)attempt.session, (unsigned)attempt.task,
        (unsigned)attempt.epoch, (unsigned)attempt.attempt, (unsigned)csw_call_array_index(call),
        csw_constant_count(call));
    print_bytes(call, text, sizeof text, &size, csw_call_config(call));
    print_bytes(call, text, sizeof text, &size, csw_call_arguments(call));
    print_bytes(call, text, sizeof text, &size, csw_call_attributes(call));
    for (size_t i = 0; i < csw_input_count(call); i += 1) {
        csw_key key = csw_input_key(call, i);
        size += (size_t)snprintf(
            text + size, sizeof text - size, " input %zu \"%s\" %s %llu %d %d key %u %u %u %u", i,
            csw_input_label(call, i), csw_input_content_type(call, i), (unsigned long long)csw_input_size(call, i),
            csw_input_is_directory(call, i), csw_input_is_cached(call, i), (unsigned)key.session, (unsigned)key.index,
            (unsigned)key.epoch, (unsigned)key.number);
        print_bytes(call, text, sizeof text, &size, csw_input_attributes(call, i));
    }
    for (size_t i = 0; i < csw_output_count(call); i += 1)
        size += (size_t)snprintf(
            text + size, sizeof text - size, " output %zu \"%s\" %s %d", i, csw_output_label(call, i),
            csw_output_content_type(call, i), csw_output_is_directory(call, i));
    size += (size_t)snprintf(
        text + size, sizeof text - size, " find %d %d %d %d", csw_input_find(call, "beta"),
        csw_input_find(call, "none"), csw_output_find(call, "result"), csw_output_find(call, "none"));
    if (csw_input_label(call, 99)[0] != 0 || csw_input_size(call, 99) != 0 || csw_output_label(call, 99)[0] != 0)
        return csw_fail(call, "an index out of range has facts");
    return csw_output_printf(call, 0, "%s", text);
}

static csw_status wait_for_cancel(csw_call *call, void *context) {
    (void)context;
    for (int i = 0; i < 2000; i += 1) {
        if (csw_cancelled(call)) return CSW_ECANCELLED;
        wait_milliseconds(1);
    }
    return csw_fail(call, "nobody cancelled");
}

/* So many milliseconds. */
static csw_status sleep_task(csw_call *call, void *context) {
    (void)context;
    wait_milliseconds(number(call));
    return csw_output_bytes(call, 0, "slept", 5);
}

/* A file, a directory and a file from elsewhere as outputs, and one that is left behind. */
static csw_status files(csw_call *call, void *context) {
    (void)context;
    const char *file, *directory, *left;
    if (csw_staging_path(call, &file) != CSW_OK || csw_staging_path(call, &directory) != CSW_OK ||
        csw_staging_path(call, &left) != CSW_OK)
        return CSW_ENOMEM;
    char inside[4096], elsewhere[] = "/tmp/csubworker-XXXXXX";
    snprintf(inside, sizeof inside, "%s/inside", directory);
    int other = mkstemp(elsewhere);
    if (other < 0 || write(other, "from elsewhere", 14) != 14 || close(other) != 0) return csw_fail(call, "mkstemp");
    FILE *out = fopen(file, "w");
    if (out == NULL || fputs("a file", out) < 0 || fclose(out) != 0) return csw_fail(call, "%s", strerror(errno));
    if (mkdir(directory, 0700) != 0 || mkdir(left, 0700) != 0) return csw_fail(call, "%s", strerror(errno));
    out = fopen(inside, "w");
    if (out == NULL || fputs("inside", out) < 0 || fclose(out) != 0) return csw_fail(call, "%s", strerror(errno));
    snprintf(inside, sizeof inside, "%s/inside", left);
    out = fopen(inside, "w");
    if (out == NULL || fclose(out) != 0) return csw_fail(call, "%s", strerror(errno));
    csw_status status = csw_output_path(call, 0, file);
    if (status == CSW_OK) status = csw_output_path(call, 1, directory);
    if (status == CSW_OK) status = csw_output_path(call, 2, elsewhere);
    if (status == CSW_OK && access(elsewhere, F_OK) == 0) return csw_fail(call, "%s was not moved", elsewhere);
    if (status == CSW_OK && csw_output_path(call, 3, file) != CSW_EINVAL)
        return csw_fail(call, "one file, two outputs");
    if (status == CSW_OK && csw_output_path(call, 3, "/dev/null") != CSW_EINVAL) return csw_fail(call, "a device");
    if (status == CSW_OK && csw_output_path(call, 3, "/no/such/file") != CSW_EINVAL) return csw_fail(call, "nothing");
    if (status == CSW_OK) status = csw_output_bytes(call, 3, "first", 5);
    if (status == CSW_OK) status = csw_output_bytes(call, 3, "second", 6);
    return status;
}

/* Output 0 is input 0 by its path, which must not be taken away from the worker. */
static csw_status steal(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_input_path(call, 0, &path);
    return status == CSW_OK ? csw_output_path(call, 0, path) : status;
}

/* Wrong arguments, each of which is an error and harmless. */
static csw_status misuse(csw_call *call, void *context) {
    (void)context;
    csw_bytes bytes;
    const char *path;
    void *data;
    size_t count = csw_input_count(call);
    if (csw_input_bytes(call, count, &bytes) != CSW_EINVAL || bytes.data == NULL) return csw_fail(call, "input bytes");
    if (csw_input_path(call, SIZE_MAX, &path) != CSW_EINVAL || path != NULL) return csw_fail(call, "input path");
    if (csw_output_bytes(call, 9, "", 0) != CSW_EINVAL) return csw_fail(call, "output bytes");
    if (csw_output_bytes(call, 0, NULL, 5) != CSW_EINVAL) return csw_fail(call, "output of NULL");
    if (csw_output_buffer(call, 9, 1, &data) != CSW_EINVAL || data != NULL) return csw_fail(call, "output buffer");
    if (csw_output_buffer(call, 0, SIZE_MAX, &data) != CSW_ENOMEM) return csw_fail(call, "endless buffer");
    if (csw_output_resize(call, 0, 1, &data) != CSW_EINVAL) return csw_fail(call, "resize of nothing");
    if (csw_output_same_as_input(call, 0, count) != CSW_EINVAL) return csw_fail(call, "same as no input");
    if (csw_input_attach(call, 0, &bytes, NULL, NULL) != CSW_ESTATE) return csw_fail(call, "attach to nothing");
    csw_call *next;
    if (csw_next(csw_call_subworker(call), &next) != CSW_ESTATE || next != NULL)
        return csw_fail(call, "next in a call");
    csw_task_type type = {CSW_TASK, .name = "late"};
    if (csw_task(csw_call_subworker(call), &type) != CSW_ESTATE) return csw_fail(call, "a task that comes late");
    return csw_output_bytes(call, 0, csw_call_message(call), strlen(csw_call_message(call)));
}

static int parsed_count, destroyed_count;

static void destroy(void *value, void *context) {
    *(int *)context += 1;
    free(value);
}

/* Parses a remembered input once: "value, times parsed, times destroyed". */
static csw_status parse(csw_call *call, void *context) {
    (void)context;
    long *value = csw_input_attached(call, 0);
    if (value == NULL) {
        csw_bytes bytes;
        csw_status status = csw_input_bytes(call, 0, &bytes);
        if (status != CSW_OK) return status;
        value = malloc(sizeof *value);
        if (value == NULL) return CSW_ENOMEM;
        char text[32] = "";
        memcpy(text, bytes.data, bytes.size < sizeof text ? bytes.size : sizeof text - 1);
        *value = strtol(text, NULL, 10);
        parsed_count += 1;
        status = csw_input_attach(call, 0, value, destroy, &destroyed_count);
        if (status != CSW_OK) {
            free(value);
            return status;
        }
    }
    return csw_output_printf(call, 0, "%ld %d %d", *value, parsed_count, destroyed_count);
}

/* Says with exit's own status that it was called. */
static csw_status die(csw_call *call, void *context) {
    (void)context;
    printf("dying as told\n");
    _exit((int)number(call));
}

/* Says so many times how far it is; the last time with the whole. */
static csw_status progress(csw_call *call, void *context) {
    (void)context;
    long count = number(call);
    for (long i = 0; i <= count; i += 1) {
        char text[64];
        snprintf(text, sizeof text, "step %ld", i / 1000);
        csw_status status = csw_progress(call, (double)i / (double)count, i % 1000 == 0 ? text : NULL);
        if (status != CSW_OK) return status;
    }
    return csw_output_bytes(call, 0, "told", 4);
}

/* A line of every level. */
static csw_status log_lines(csw_call *call, void *context) {
    (void)context;
    csw_subworker *subworker = csw_call_subworker(call);
    for (int level = CSW_LOG_ERROR - 1; level <= CSW_LOG_DEBUG + 1; level += 1)
        csw_log(subworker, level, "a line of level %d", level);
    return csw_output_printf(call, 0, "%d", csw_log_level(subworker));
}

/* A buffer that grows to the argument in steps of 1000 bytes. */
static csw_status grow(csw_call *call, void *context) {
    (void)context;
    size_t last = (size_t)number(call), size = 0, moves = 0;
    void *bytes, *before = NULL;
    csw_status status = csw_output_buffer(call, 0, 0, &bytes);
    while (status == CSW_OK && size < last) {
        size_t next = size + 1000 < last ? size + 1000 : last;
        status = csw_output_resize(call, 0, next, &bytes);
        if (status != CSW_OK) break;
        if (!is_zero(bytes, size, next)) return csw_fail(call, "what was added is not zeroed");
        fill(bytes, size, next);
        moves += bytes != before ? 1 : 0;
        before = bytes;
        size = next;
    }
    if (status == CSW_OK && moves > 60) return csw_fail(call, "moved %zu times", moves);
    return status;
}

/* Two buffers of the argument's size; the second takes the place of the first, then both are there. */
static csw_status buffers(csw_call *call, void *context) {
    (void)context;
    void *bytes;
    size_t size = (size_t)number(call);
    csw_status status = csw_output_buffer(call, 0, size, &bytes);
    if (status == CSW_OK) status = csw_output_bytes(call, 0, "instead", 7);
    if (status == CSW_OK) status = csw_output_buffer(call, 0, size, &bytes);
    if (status == CSW_OK) status = csw_output_buffer(call, 1, size, &bytes);
    return status;
}

static bool write_file(const char *directory, const char *name, const char *text) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *out = fopen(path, "w");
    return out != NULL && fputs(text, out) >= 0 && fclose(out) == 0;
}

/* A directory that was made at the path in the arguments, which may be on another file system; with a socket in it when the
 * context says so. */
static csw_status tree(csw_call *call, void *context) {
    csw_bytes path = csw_call_arguments(call);
    char top[1024], inside[2048], name[4096];
    snprintf(top, sizeof top, "%.*s", (int)path.size, (const char *)path.data);
    snprintf(inside, sizeof inside, "%s/inside", top);
    if (mkdir(top, 0700) != 0 || mkdir(inside, 0700) != 0 || !write_file(top, "a", "first") ||
        !write_file(inside, "b", "second"))
        return csw_fail(call, "%s: %s", top, strerror(errno));
    snprintf(name, sizeof name, "%s/run", inside);
    if (!write_file(inside, "run", "#!/bin/sh\n") || chmod(name, 0755) != 0) return csw_fail(call, "run");
    snprintf(name, sizeof name, "%s/link", top);
    if (symlink("inside/b", name) != 0) return csw_fail(call, "link");
    snprintf(name, sizeof name, "%s/pipe", inside);
    if (context != NULL && mkfifo(name, 0600) != 0) return csw_fail(call, "pipe");
    csw_status status = csw_output_path(call, 0, top);
    if ((access(top, F_OK) == 0) != (status != CSW_OK)) return csw_fail(call, "%s: still there, or not any more", top);
    return status;
}

/* Attributes of 1 MiB for every output, each of which is another one's again. */
static csw_status heavy(csw_call *call, void *context) {
    (void)context;
    static char attributes[1 << 20];
    for (size_t i = 0; i < csw_output_count(call); i += 1) {
        csw_status status = csw_output_bytes(call, i, "x", 1);
        if (status == CSW_OK) status = csw_output_set_attributes(call, i, attributes, sizeof attributes);
        if (status == CSW_OK) status = csw_output_set_attributes(call, i, attributes, sizeof attributes);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

static csw_status unset(csw_call *call, void *context) {
    (void)context;
    return csw_output_bytes(call, 0, "only the first", 14);
}

int main(int count, char **arguments) {
    static size_t sizes[] = {10, 5000, 100, 200000, 50, 3 << 20, 70000, 100000, 0};
    static const char *const two[] = {"alpha", "beta"}, *const one[] = {"result"};
    static const char *const types_of_two[] = {"text/plain", ""};
    csw_options options = CSW_OPTIONS_INIT;
    options.library = "every_task 1 (tests)";
    if (count > 1) options.name = arguments[1];
    csw_subworker *subworker;
    if (csw_open(&options, &subworker) != CSW_OK) return 3;
    const csw_task_type types[] = {
        {CSW_TASK, .name = "echo", .documentation = "Copies.", .function = echo},
        {CSW_TASK, .name = "parts", .function = parts},
        {CSW_TASK, .name = "read_path", .function = read_path},
        {CSW_TASK, .name = "buffer", .function = buffer},
        {CSW_TASK, .name = "resize", .function = resize, .context = sizes},
        {CSW_TASK, .name = "memory", .function = memory},
        {CSW_TASK, .name = "memory_after", .function = memory_after},
        {CSW_TASK, .name = "same", .function = same},
        {CSW_TASK, .name = "fail", .function = fail},
        {CSW_TASK, .name = "fail_text", .function = fail_text},
        {CSW_TASK, .name = "status", .function = give_status},
        {CSW_TASK, .name = "debug", .function = debug},
        {CSW_TASK, .name = "wait", .function = wait_for_cancel},
        {CSW_TASK, .name = "sleep", .function = sleep_task},
        {CSW_TASK, .name = "files", .function = files},
        {CSW_TASK, .name = "steal", .function = steal},
        {CSW_TASK, .name = "misuse", .function = misuse},
        {CSW_TASK, .name = "parse", .function = parse},
        {CSW_TASK, .name = "die", .function = die},
        {CSW_TASK, .name = "unset", .function = unset},
        {CSW_TASK, .name = "tree", .function = tree},
        {CSW_TASK, .name = "tree_with_a_pipe", .function = tree, .context = (void *)"pipe"},
        {CSW_TASK, .name = "heavy", .function = heavy},
        {CSW_TASK, .name = "progress", .function = progress},
        {CSW_TASK, .name = "log", .function = log_lines},
        {CSW_TASK, .name = "grow", .function = grow},
        {CSW_TASK, .name = "buffers", .function = buffers},
        {CSW_TASK, .name = "no_function"},
        {CSW_TASK, .name = "two", .inputs = two, .input_count = 2, .outputs = one, .output_count = 1, .function = facts,
         .context = (void *)"two", .input_content_types = types_of_two, .output_content_types = one},
        {CSW_TASK, .name = "", .function = facts, .context = (void *)"any"},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i += 1)
        if (csw_task(subworker, &types[i]) != CSW_OK) return 4;
    if (count > 2 && strcmp(arguments[2], "twice") == 0) csw_task(subworker, &types[0]);
    if (count > 2 && strcmp(arguments[2], "old") == 0) {
        csw_task_type bad = types[0];
        bad.struct_size = 0;
        csw_task(subworker, &bad);
    }
    return csw_run(subworker);
}
