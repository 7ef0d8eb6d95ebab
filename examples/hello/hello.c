#include <csubworker.h>

/* Greets whom the input names. */
static csw_status hello(csw_call *call, void *context) {
    (void)context;
    csw_bytes name;
    csw_status status = csw_input_bytes(call, 0, &name);
    if (status != CSW_OK) return status;
    return csw_output_printf(call, 0, "Hello, %.*s!\n", (int)name.size, (const char *)name.data);
}

int main(void) {
    static const char *const inputs[] = {"name"}, *const outputs[] = {"greeting"};
    csw_task_type task = {CSW_TASK, .name = "hello", .function = hello};
    task.inputs = inputs, task.input_count = 1;
    task.outputs = outputs, task.output_count = 1;
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    csw_task(subworker, &task);
    return csw_run(subworker);
}
