// The header compiles as C++17 without a warning, and its structs begin with their initialisers.
#include <csubworker.h>

static csw_status task(csw_call *call, void *) {
    return csw_fail(call, "%d", 1);
}

int headerCheckInCxx() {
    csw_options options = CSW_OPTIONS_INIT;
    csw_task_type type = CSW_TASK_TYPE_INIT;
    type.name = "task";
    type.function = task;
    csw_subworker *subworker = nullptr;
    if (csw_open(&options, &subworker) == CSW_OK) csw_task(subworker, &type);
    return csw_run(subworker);
}
