#include "run.h"

#include <string.h>

/* --- Lengths ---------------------------------------------------------------------------------------------------- */

/* How many elements a length says; false after setting the problem. */
static bool read_length(const run *self, const function_slot *slot, uint64_t *out, int64_t *shape, problem *problem) {
    const decl_parameter *declared = slot->declared;
    uint64_t count = 1, bytes;
    for (uint32_t k = 0; k < declared->dimension_count; k += 1) {
        decl_outcome outcome = decl_evaluate(declared->dimensions[k], self->function->values, NULL, &shape[k]);
        const char *why = outcome == DECL_UNKNOWN
                              ? "it depends on a value that is missing, or larger than 9223372036854775807"
                          : outcome == DECL_BY_ZERO  ? "it is divided by zero"
                          : outcome == DECL_OVERFLOW ? "it is larger than 9223372036854775807"
                          : shape[k] < 0             ? "it is negative"
                                                     : NULL;
        if (why != NULL) return problem_set(problem, "the length of '%s' can't be computed: %s", declared->name, why);
        if (__builtin_mul_overflow(count, (uint64_t)shape[k], &count)) count = UINT64_MAX;
    }
    *out = count;
    if (!__builtin_mul_overflow(count, (uint64_t)declared->type->size, &bytes) && bytes <= PTRDIFF_MAX) return true;
    return problem_set(
        problem, "'%s' would have more elements of %u bytes than memory can hold", declared->name,
        (unsigned)declared->type->size);
}

static bool check_input(const run *self, const function_slot *slot, problem *problem) {
    const decl_parameter *declared = slot->declared;
    uint64_t count;
    int64_t shape[decl_dimensions_max];
    if (!declared->has_length) return true;
    if (!read_length(self, slot, &count, shape, problem)) return false;
    if (count != slot->count)
        return problem_set(
            problem, "'%s' has %llu elements, but its length is declared as %llu", declared->name,
            (unsigned long long)slot->count, (unsigned long long)count);
    for (uint32_t k = 0; k < declared->dimension_count && slot->is_shaped; k += 1)
        if (shape[k] != slot->shape[k])
            return problem_set(
                problem, "dimension %u of '%s' is %lld, but declared as %lld", (unsigned)k + 1, declared->name,
                (long long)slot->shape[k], (long long)shape[k]);
    return true;
}

csw_status run_check_inputs(const run *self) {
    problem problem;
    for (uint32_t i = 0; i < self->function->declared->parameter_count; i += 1) {
        const function_slot *slot = &self->function->slots[i];
        if (!decl_is_input(slot->declared)) continue;
        if (!slot->is_given && !slot->declared->is_implied && slot->declared->fallback == NULL)
            return run_fail_signature(self, "there is no value for", slot->declared->name);
        if (!slot->is_given) {
            problem_set(&problem, "'%s' does not follow from the arrays, so it must be given", slot->declared->name);
            return run_fail(self, &problem);
        }
        if (slot->declared->form == DECL_ARRAY && !check_input(self, slot, &problem)) return run_fail(self, &problem);
    }
    return CSW_OK;
}

/* --- Outputs ---------------------------------------------------------------------------------------------------- */

static csw_status set_content_type(const run *self, size_t output, const char *content_type) {
    if (strcmp(csw_output_content_type(self->call, output), content_type) == 0) return CSW_OK;
    return csw_output_set_content_type(self->call, output, content_type);
}

/* `array/f8[3,4]`: what is read from the object later can't know its dimensions otherwise. */
static csw_status set_shape(const run *self, size_t output, const function_slot *slot, const int64_t *shape) {
    text content_type = {0};
    text_add(&content_type, "%s[", slot->content_type);
    for (uint32_t k = 0; k < slot->declared->dimension_count; k += 1)
        text_add(&content_type, k == 0 ? "%lld" : ",%lld", (long long)shape[k]);
    text_add(&content_type, "]");
    csw_status status =
        content_type.has_failed ? run_no_memory(self) : set_content_type(self, output, content_type.bytes);
    text_release(&content_type);
    return status;
}

/* Room for an output in the result itself; what goes in and out is copied there. */
static csw_status make_room(const run *self, function_slot *slot, size_t output) {
    uint64_t count = slot->count;
    int64_t shape[decl_dimensions_max];
    problem problem;
    void *room;
    if (slot->declared->has_length && !read_length(self, slot, &count, shape, &problem))
        return run_fail(self, &problem);
    csw_status status = csw_output_buffer(self->call, output, count * slot->declared->type->size, &room);
    if (status == CSW_OK && slot->declared->dimension_count > 1)
        status = set_shape(self, output, slot, shape);
    else if (status == CSW_OK)
        status = set_content_type(self, output, slot->content_type);
    if (status != CSW_OK) return status;
    if (slot->declared->direction == DECL_INOUT && count != 0)
        memcpy(room, slot->pointer, count * slot->declared->type->size);
    slot->pointer = room;
    slot->count = count;
    return CSW_OK;
}

csw_status run_make_outputs(const run *self) {
    size_t output = self->function->declared->has_result ? 1 : 0;
    for (uint32_t i = 0; i < self->function->declared->parameter_count; i += 1) {
        function_slot *slot = &self->function->slots[i];
        if (!decl_is_output(slot->declared)) continue;
        if (slot->declared->direction == DECL_OUT) memset(slot->value, 0, slot->declared->type->size);
        csw_status status = slot->declared->form == DECL_ARRAY ? make_room(self, slot, output) : CSW_OK;
        if (status != CSW_OK) return status;
        output += 1;
    }
    return CSW_OK;
}

/* Cuts an array to what the function says that it used. */
static csw_status shorten(const run *self, const function_slot *slot, size_t output, const int64_t *returned) {
    int64_t used = 0;
    problem problem;
    decl_outcome outcome = decl_evaluate(slot->declared->used, self->function->values, returned, &used);
    if (outcome != DECL_KNOWN || used < 0 || (uint64_t)used > slot->count) {
        problem_set(
            &problem, "after the call the length of '%s' is %lld, but it has room for %llu", slot->declared->name,
            (long long)used, (unsigned long long)slot->count);
        return run_fail(self, &problem);
    }
    return csw_output_resize(self->call, output, (size_t)used * slot->declared->type->size, NULL);
}

static csw_status set_result(const run *self) {
    const decl_function *declared = self->function->declared;
    const char *text = NULL;
    int64_t integer;
    csw_status status;
    if (declared->is_result_text) {
        memcpy(&text, self->function->result, sizeof text);
        status = csw_output_bytes(self->call, 0, text, strlen(text));
        if (self->function->free_text != NULL) function_free_text(self->function);
    } else if (declared->result->kind == DECL_UNSIGNED && declared->result->size == 8) {
        status = csw_output_bytes(self->call, 0, self->function->result, 8);
    } else if (function_returned(self->function, &integer)) {
        uint8_t one = (uint8_t)integer;
        uint16_t two = (uint16_t)integer;
        uint32_t four = (uint32_t)integer, size = declared->result->size;
        const void *from = size == 1   ? (void *)&one
                           : size == 2 ? (void *)&two
                           : size == 4 ? (void *)&four
                                       : (void *)&integer;
        status = csw_output_bytes(self->call, 0, from, size);
    } else {
        status = csw_output_bytes(self->call, 0, self->function->result, declared->result->size);
    }
    return status == CSW_OK ? set_content_type(self, 0, self->function->result_content_type) : status;
}

csw_status run_set_outputs(const run *self) {
    const decl_function *declared = self->function->declared;
    size_t output = declared->has_result ? 1 : 0;
    int64_t returned;
    bool has_returned = function_returned(self->function, &returned);
    for (uint32_t i = 0; i < declared->parameter_count; i += 1)
        if (self->function->slots[i].declared->form == DECL_POINTER) run_note(self, i);
    csw_status status = declared->has_result ? set_result(self) : CSW_OK;
    for (uint32_t i = 0; i < declared->parameter_count && status == CSW_OK; i += 1) {
        const function_slot *slot = &self->function->slots[i];
        if (!decl_is_output(slot->declared)) continue;
        if (slot->declared->form == DECL_POINTER) {
            status = csw_output_bytes(self->call, output, slot->value, slot->declared->type->size);
            if (status == CSW_OK) status = set_content_type(self, output, slot->content_type);
        } else if (slot->declared->used != NULL) {
            status = shorten(self, slot, output, has_returned ? &returned : NULL);
        }
        output += 1;
    }
    return status;
}
