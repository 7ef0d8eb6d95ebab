#include "run.h"

#include <string.h>

csw_status run_fail(const run *self, const problem *problem) {
    return csw_fail(self->call, "%s: %s", self->function->title, problem->text);
}

csw_status run_no_memory(const run *self) {
    return csw_fail(self->call, "%s: no memory", self->function->title);
}

csw_status run_fail_signature(const run *self, const char *what, const char *name) {
    text signature = {0};
    decl_task_signature(self->function->library, self->function->declared, &signature);
    csw_status status = csw_fail(
        self->call, "%s: %s '%s'; its task is %s", self->function->title, what, name,
        signature.has_failed ? "too large to show" : signature.bytes);
    text_release(&signature);
    return status;
}

int64_t run_find_parameter(const function *function, const char *name) {
    for (uint32_t i = 0; i < function->declared->parameter_count; i += 1)
        if (strcmp(function->declared->parameters[i].name, name) == 0 &&
            decl_is_input(&function->declared->parameters[i]))
            return i;
    return -1;
}

/* What a slot holds, as lengths read it. */
void run_note(const run *self, uint32_t i) {
    function_slot *slot = &self->function->slots[i];
    decl_value *value = &self->function->values[i];
    slot->is_given = true;
    if (slot->declared->form == DECL_ARRAY || slot->declared->form == DECL_STRING)
        *value = (decl_value){.count = (int64_t)slot->count, .is_counted = true};
    else
        value->is_known = value_integer(slot->declared->type, slot->value, &value->value);
}

csw_status run_take_text(const run *self, function_slot *slot, const char *text, size_t size) {
    problem problem;
    if (memchr(text, 0, size) != NULL) {
        problem_set(&problem, "'%s' is a text, which can't have a NUL byte in it", slot->declared->name);
        return run_fail(self, &problem);
    }
    slot->pointer = scratch_copy(self->memory, text, size);
    slot->count = size;
    return slot->pointer != NULL ? CSW_OK : run_no_memory(self);
}

csw_status call_function(csw_call *call, function *function, scratch *memory) {
    run self = {.call = call, .function = function, .memory = memory};
    problem problem;
    if (csw_output_count(call) != function->output_count)
        return csw_fail(
            call, "%s has %u outputs, but the task declares %zu", function->title, (unsigned)function->output_count,
            csw_output_count(call));
    function_reset(function);
    csw_status status = run_take_objects(&self);
    if (status == CSW_OK) status = run_take_arguments(&self);
    if (status != CSW_OK) return status;
    if (!function_derive(function, &problem)) return run_fail(&self, &problem);
    status = run_check_inputs(&self);
    if (status == CSW_OK) status = run_make_outputs(&self);
    if (status != CSW_OK) return status;
    if (!function_call(function, &problem)) return csw_fail(call, "%s", problem.text);
    return run_set_outputs(&self);
}
