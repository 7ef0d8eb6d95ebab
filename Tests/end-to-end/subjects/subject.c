/* A subworker for `rain subworker check`: what a call can be, one method each. */
#include <csubworker.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* All inputs, one behind the other. */
static csw_status join(csw_call *call, void *context) {
    (void)context;
    size_t size = 0, count = csw_input_count(call);
    for (size_t index = 0; index < count; ++index)
        size += csw_input_size(call, index);
    void *bytes;
    csw_status status = csw_output_buffer(call, 0, size, &bytes);
    char *end = bytes;
    for (size_t index = 0; index < count && status == CSW_OK; ++index) {
        csw_bytes input;
        status = csw_input_bytes(call, index, &input);
        if (status != CSW_OK) break;
        if (input.size > 0) memcpy(end, input.data, input.size);
        end += input.size;
    }
    return status;
}

static csw_status large(csw_call *call, void *context) {
    (void)context;
    void *bytes;
    csw_status status = csw_output_buffer(call, 0, 1 << 20, &bytes);
    if (status == CSW_OK) memset(bytes, 'x', 1 << 20);
    return status;
}

static csw_status steps(csw_call *call, void *context) {
    (void)context;
    for (int step = 0; step <= 4; ++step) {
        csw_status status = csw_progress(call, step / 4.0, step % 2 == 0 ? "even" : "odd");
        if (status != CSW_OK) return status;
    }
    return csw_output_printf(call, 0, "walked");
}

static csw_status fail(csw_call *call, void *context) {
    (void)context;
    return csw_fail(call, "there are %d reasons", 2);
}

static csw_status endless(csw_call *call, void *context) {
    (void)context;
    while (!csw_cancelled(call))
        usleep(1000);
    return CSW_ECANCELLED;
}

static csw_status crash(csw_call *call, void *context) {
    (void)call;
    (void)context;
    abort();
}

/* Takes for granted that its input has bytes. */
static csw_status trust(csw_call *call, void *context) {
    (void)context;
    csw_bytes bytes;
    if (csw_input_bytes(call, 0, &bytes) != CSW_OK) abort();
    return csw_output_same_as_input(call, 0, 0);
}

/* Puts the file `below/text` of a directory into a new one, in the same place; returns its descriptor there. */
static int copy_text(csw_call *call, const char *to) {
    const char *from;
    char path[4096], text[1024];
    if (csw_input_path(call, 0, &from) != CSW_OK) return -1;
    snprintf(path, sizeof path, "%s/below/text", from);
    int input = open(path, O_RDONLY);
    ssize_t size = input < 0 ? -1 : read(input, text, sizeof text);
    close(input);
    snprintf(path, sizeof path, "%s/below", to);
    if (size < 0 || mkdir(to, 0700) != 0 || mkdir(path, 0700) != 0) return -1;
    snprintf(path, sizeof path, "%s/below/text", to);
    int output = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return output >= 0 && write(output, text, (size_t)size) == size ? output : -1;
}

static csw_status tree(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_staging_path(call, &path);
    if (status != CSW_OK) return status;
    int file = copy_text(call, path);
    if (file < 0) return csw_fail(call, "the directory can't be copied");
    close(file);
    return csw_output_path(call, 0, path);
}

/* Has one name for all that it makes. */
static csw_status again(csw_call *call, void *context) {
    (void)context;
    const char *path;
    char name[4096];
    csw_status status = csw_staging_path(call, &path);
    if (status != CSW_OK) return status;
    snprintf(name, sizeof name, "%.*s/again", (int)(strrchr(path, '/') - path), path);
    int file = copy_text(call, name);
    if (file < 0) return csw_fail(call, "%s can't be made", name);
    close(file);
    return csw_output_path(call, 0, name);
}

/* Leaves a file in its directory open for writing. */
static csw_status unclosed(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_staging_path(call, &path);
    if (status != CSW_OK) return status;
    if (copy_text(call, path) < 0) return csw_fail(call, "the directory can't be copied");
    return csw_output_path(call, 0, path);
}

/* An output of 4 TiB that takes no room. */
static csw_status sparse(csw_call *call, void *context) {
    (void)context;
    const char *path;
    csw_status status = csw_staging_path(call, &path);
    if (status != CSW_OK) return status;
    FILE *file = fopen(path, "w");
    if (file == NULL || fclose(file) != 0 || truncate(path, (off_t)1 << 42) != 0)
        return csw_fail(call, "%s can't be made", path);
    return csw_output_path(call, 0, path);
}

static csw_status count(csw_call *call, void *context) {
    int *calls = context;
    return csw_output_printf(call, 0, "%d", ++*calls);
}

int main(void) {
    static int calls;
    static const struct {
        const char *name;
        csw_function *function;
    } tasks[] = {{"join", join},     {"large", large}, {"fail", fail},   {"endless", endless},
                 {"crash", crash},   {"count", count}, {"steps", steps}, {"trust", trust},
                 {"sparse", sparse}, {"tree", tree},   {"again", again}, {"unclosed", unclosed}};
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    for (size_t index = 0; index < sizeof tasks / sizeof *tasks; ++index) {
        csw_task_type type = {
            CSW_TASK, .name = tasks[index].name, .function = tasks[index].function, .context = &calls};
        csw_task(subworker, &type);
    }
    return csw_run(subworker);
}
