/* Tasks that cost nothing, to measure what everything around them costs. */
#include <csubworker.h>

/* Any inputs; every output is empty. */
static csw_status noop(csw_call *call, void *context) {
    (void)context;
    for (size_t i = 0; i < csw_output_count(call); ++i) {
        csw_status status = csw_output_bytes(call, i, "", 0);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

/* The input, a number in the machine's own form, and one. */
static csw_status increment(csw_call *call, void *context) {
    (void)context;
    uint64_t value = 0;
    csw_bytes input;
    csw_status status = csw_input_bytes(call, 0, &input);
    if (status != CSW_OK) return status;
    if (input.size != sizeof value) return csw_fail(call, "the input has %zu bytes instead of 8", input.size);
    for (size_t i = 0; i < sizeof value; ++i)
        ((unsigned char *)&value)[i] = ((const unsigned char *)input.data)[i];
    ++value;
    return csw_output_bytes(call, 0, &value, sizeof value);
}

int main(void) {
    static const char *const number[] = {"number"};
    csw_subworker *subworker = NULL;
    if (csw_open(NULL, &subworker) != CSW_OK) return 1;
    csw_task(subworker, &(csw_task_type){CSW_TASK, .name = "noop", .function = noop});
    csw_task(
        subworker, &(csw_task_type){
                       CSW_TASK, .name = "increment", .inputs = number, .input_count = 1, .outputs = number,
                       .output_count = 1, .function = increment});
    return csw_run(subworker);
}
