/* A subworker for `rain subworker check`: what a call can be, one method each. */
#include <csubworker.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    } tasks[] = {{"join", join},   {"large", large}, {"fail", fail},   {"endless", endless}, {"crash", crash},
                 {"count", count}, {"steps", steps}, {"trust", trust}, {"sparse", sparse}};
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    for (size_t index = 0; index < sizeof tasks / sizeof *tasks; ++index) {
        csw_task_type type = {
            CSW_TASK, .name = tasks[index].name, .function = tasks[index].function, .context = &calls};
        csw_task(subworker, &type);
    }
    return csw_run(subworker);
}
