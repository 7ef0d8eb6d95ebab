/* A subworker whose tasks misbehave, each in one way. */
#include <csubworker.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Its input, as it is. */
static csw_status echo(csw_call *call, void *context) {
    (void)context;
    return csw_output_same_as_input(call, 0, 0);
}

static csw_status fail(csw_call *call, void *context) {
    (void)context;
    csw_debug(call, "about to fail");
    return csw_fail(call, "line %d is no number", 12);
}

static csw_status crash(csw_call *call, void *context) {
    (void)call;
    (void)context;
    fprintf(stderr, "last words\n");
    raise(SIGSEGV);
    return CSW_OK;
}

/* Two at once: ends the process when there are two, or goes on when there is a file of this name. */
static csw_status together(csw_call *call, void *context) {
    static atomic_int count;
    (void)context;
    csw_bytes name;
    csw_status status = csw_input_bytes(call, 0, &name);
    if (status != CSW_OK) return status;
    char path[256];
    snprintf(path, sizeof path, "%.*s", (int)name.size, (const char *)name.data);
    atomic_fetch_add(&count, 1);
    while (access(path, F_OK) != 0) {
        if (atomic_load(&count) == 2 && csw_input_count(call) == 2) {
            FILE *file = fopen(path, "w");
            if (file != NULL) fclose(file);
            abort();
        }
        usleep(1000);
    }
    return csw_output_printf(call, 0, "alone");
}

/* Tells how far it is, and goes on when there is a file of the name that its input has. */
static csw_status steps(csw_call *call, void *context) {
    (void)context;
    csw_bytes name;
    csw_status status = csw_input_bytes(call, 0, &name);
    if (status != CSW_OK) return status;
    char path[256];
    snprintf(path, sizeof path, "%.*s", (int)name.size, (const char *)name.data);
    csw_log(csw_call_subworker(call), CSW_LOG_DEBUG, "level %d", csw_log_level(csw_call_subworker(call)));
    csw_debug(call, "waits for %s", path);
    csw_progress(call, 0.25, "looking");
    csw_progress(call, 0.5, "waiting \"here\"");
    while (access(path, F_OK) != 0)
        usleep(1000);
    csw_debug(call, "found");
    for (int i = 0; csw_input_count(call) == 2 && i < 2000; i += 1)
        csw_debug(call, "%01023d", i);
    return csw_output_printf(call, 0, "%d", csw_log_level(csw_call_subworker(call)));
}

/* Every output has the bytes of its input, and begins with its position. */
static csw_status chatter(csw_call *call, void *context) {
    (void)context;
    csw_bytes value;
    csw_status status = csw_input_bytes(call, 0, &value);
    for (size_t i = 0; status == CSW_OK && i < csw_output_count(call); i += 1) {
        uint32_t position = (uint32_t)i;
        csw_bytes parts[] = {{&position, 4}, {(const char *)value.data + 4, value.size - 4}};
        status = csw_output_parts(call, i, parts, 2);
    }
    return status;
}

/* Every output is its input. */
static csw_status mirror(csw_call *call, void *context) {
    (void)context;
    csw_status status = CSW_OK;
    for (size_t i = 0; status == CSW_OK && i < csw_output_count(call); i += 1)
        status = csw_output_same_as_input(call, i, 0);
    return status;
}

/* Never looks whether it was cancelled. */
static csw_status hang(csw_call *call, void *context) {
    (void)call;
    (void)context;
    while (pause() < 0) {}
    return CSW_OK;
}

int main(void) {
    static const csw_task_type tasks[] = {
        {CSW_TASK, .name = "echo", .function = echo},
        {CSW_TASK, .name = "fail", .function = fail},
        {CSW_TASK, .name = "crash", .function = crash},
        {CSW_TASK, .name = "hang", .function = hang},
        {CSW_TASK, .name = "chatter", .function = chatter},
        {CSW_TASK, .name = "mirror", .function = mirror},
        {CSW_TASK, .name = "steps", .function = steps},
        {CSW_TASK, .name = "together", .function = together, .threads = 2},
    };
    csw_subworker *subworker = NULL;
    csw_open(NULL, &subworker);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; ++i)
        csw_task(subworker, &tasks[i]);
    return csw_run(subworker);
}
