#include "run.h"

static csw_status take_list(const run *self, function_slot *slot, json *from) {
    const decl_type *type = slot->declared->type;
    problem problem, why = {0};
    size_t bytes;
    if (json_peek(from) != JSON_LIST || !value_count_json(*from, &slot->count)) {
        problem_set(&problem, "'%s' is an array: give a list or an object with its bytes", slot->declared->name);
        return run_fail(self, &problem);
    }
    if (__builtin_mul_overflow(slot->count, (uint64_t)type->size, &bytes)) return run_no_memory(self);
    unsigned char *out = scratch_take(self->memory, bytes + 1);
    if (out == NULL) return run_no_memory(self);
    slot->pointer = out;
    if (value_list_from_json(type, from, self->memory, &out, &why)) return CSW_OK;
    problem_set(&problem, "'%s': %.250s", slot->declared->name, why.text);
    return run_fail(self, &problem);
}

static csw_status take_argument(const run *self, uint32_t i, json *from) {
    function_slot *slot = &self->function->slots[i];
    csw_status status = CSW_OK;
    problem problem, why = {0};
    if (slot->is_given) return run_fail_signature(self, "given twice:", slot->declared->name);
    if (slot->declared->form == DECL_ARRAY) {
        status = take_list(self, slot, from);
    } else if (slot->declared->form == DECL_STRING) {
        size_t size;
        const char *text = json_string(from, self->memory, &size);
        if (text == NULL) {
            problem_set(&problem, "'%s' must be a string", slot->declared->name);
            return run_fail(self, &problem);
        }
        status = run_take_text(self, slot, text, size);
    } else if (!value_from_json(slot->declared->type, from, self->memory, slot->value, &why)) {
        problem_set(&problem, "'%s': %.250s", slot->declared->name, why.text);
        return run_fail(self, &problem);
    }
    if (status == CSW_OK) run_note(self, i);
    return status;
}

static csw_status take_positions(const run *self, json *from, bool *is_broken) {
    bool is_first = true;
    uint32_t k = 0;
    const function *function = self->function;
    while (json_next(from, &is_first, is_broken)) {
        while (k < function->order_count && function->slots[function->order[k]].is_given)
            k += 1;
        if (k == function->order_count) return run_fail_signature(self, "there are more arguments than", "inputs");
        csw_status status = CSW_OK;
        if (json_peek(from) == JSON_NULL)
            json_skip(from);
        else
            status = take_argument(self, function->order[k], from);
        if (status != CSW_OK) return status;
        k += 1;
    }
    return CSW_OK;
}

static csw_status take_names(const run *self, json *from, bool *is_broken) {
    bool is_first = true;
    while (json_next(from, &is_first, is_broken)) {
        size_t size;
        const char *key = json_key(from, self->memory, &size);
        *is_broken = key == NULL;
        if (*is_broken) return CSW_OK;
        int64_t i = run_find_parameter(self->function, key);
        if (i < 0) return run_fail_signature(self, "there is no input", key);
        csw_status status = CSW_OK;
        if (json_peek(from) == JSON_NULL)
            json_skip(from);
        else
            status = take_argument(self, (uint32_t)i, from);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

csw_status run_take_arguments(const run *self) {
    csw_bytes bytes = csw_call_arguments(self->call);
    json from = {.at = bytes.data, .end = (const char *)bytes.data + bytes.size};
    json_kind kind = json_peek(&from);
    bool is_broken = false;
    csw_status status = CSW_OK;
    if (kind == JSON_END || kind == JSON_NULL) return CSW_OK;
    if (kind == JSON_LIST && json_enter(&from))
        status = take_positions(self, &from, &is_broken);
    else if (kind == JSON_OBJECT && json_enter(&from))
        status = take_names(self, &from, &is_broken);
    else
        return csw_fail(
            self->call, "%s: arguments are a list, or an object with a value for each name", self->function->title);
    is_broken = is_broken || (status == CSW_OK && json_peek(&from) != JSON_END);
    if (status == CSW_OK && is_broken)
        return csw_fail(self->call, "%s: the arguments are broken JSON", self->function->title);
    return status;
}
