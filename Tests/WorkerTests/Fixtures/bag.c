/* A subworker for tests: tasks that do well, badly, and not at all. */
#define _GNU_SOURCE
#include <csubworker.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static csw_status size(csw_call *call, void *context) {
    (void)context;
    csw_bytes bytes;
    csw_status status = csw_input_bytes(call, 0, &bytes);
    return status != CSW_OK ? status : csw_output_printf(call, 0, "%zu", bytes.size);
}

static csw_status large(csw_call *call, void *context) {
    (void)context;
    void *memory;
    csw_status status = csw_output_buffer(call, 0, 1 << 20, &memory);
    if (status == CSW_OK) memset(memory, 'x', 1 << 20);
    return status;
}

static csw_status same(csw_call *call, void *context) {
    (void)context;
    return csw_output_same_as_input(call, 0, 0);
}

static csw_status fail(csw_call *call, void *context) {
    (void)context;
    csw_debug(call, "about to fail");
    return csw_fail(call, "no %s today", "luck");
}

static csw_status crash(csw_call *call, void *context) {
    (void)call;
    (void)context;
    static const char text[] = "last words\n";
    if (write(2, text, sizeof text - 1) < 0) return CSW_EIO;
    raise(SIGSEGV);
    return CSW_OK;
}

static csw_status slow(csw_call *call, void *context) {
    (void)context;
    usleep(200 * 1000);
    return csw_output_printf(call, 0, "slow");
}

int main(void) {
    static const struct {
        const char *name;
        csw_function *function;
    } tasks[] = {{"size", size}, {"large", large}, {"same", same}, {"fail", fail}, {"crash", crash}, {"slow", slow}};
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; ++i) {
        csw_task_type type = {CSW_TASK, .name = tasks[i].name, .function = tasks[i].function};
        csw_task(subworker, &type);
    }
    return csw_run(subworker);
}
