/* One call on its way through its parts: inputs, arguments, lengths, the function, outputs. */
#ifndef FFI_RUN_H
#define FFI_RUN_H

#include "call.h"

typedef struct run {
    csw_call *call;
    function *function;
    scratch *memory;
} run;

/* Fails the call with the function's name and a text. */
csw_status run_fail(const run *self, const problem *problem);
csw_status run_no_memory(const run *self);
/* With what is wrong about a name, and the signature of the task. */
csw_status run_fail_signature(const run *self, const char *what, const char *name);

/* The input of this name; -1 for none. */
int64_t run_find_parameter(const function *function, const char *name);
/* Says that a slot holds its value, so that lengths can be computed from it. */
void run_note(const run *self, uint32_t i);
/* A copy of a text with a NUL behind it. */
csw_status run_take_text(const run *self, function_slot *slot, const char *text, size_t size);

/* The call's objects, then its arguments, into the slots. */
csw_status run_take_objects(const run *self);
csw_status run_take_arguments(const run *self);

/* Whether every input is there and every array as long as it must be. */
csw_status run_check_inputs(const run *self);
/* Room for the outputs that are arrays, before the function is called; what the function made, after. */
csw_status run_make_outputs(const run *self);
csw_status run_set_outputs(const run *self);

#endif
