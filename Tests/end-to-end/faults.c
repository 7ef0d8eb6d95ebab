/* A subworker whose tasks misbehave, each in one way. */
#include <csubworker.h>
#include <signal.h>
#include <stdio.h>
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
    };
    csw_subworker *subworker = NULL;
    csw_open(NULL, &subworker);
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; ++i)
        csw_task(subworker, &tasks[i]);
    return csw_run(subworker);
}
