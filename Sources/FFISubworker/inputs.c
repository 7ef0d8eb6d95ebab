#include "run.h"

#include <string.h>

static bool has_prefix(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* `[3,4]` behind the code of a content type; false when it is something else. */
static bool read_shape(const char *from, function_slot *slot) {
    uint32_t count = 0;
    if (*from == 0) return true;
    from += 1;
    while (*from != 0 && *from != ']') {
        int64_t length = 0;
        while (*from >= '0' && *from <= '9') {
            if (length > INT64_MAX / 10 - 1) return false;
            length = length * 10 + (*from++ - '0');
        }
        if (count < decl_dimensions_max) slot->shape[count] = length;
        count += 1;
        if (*from != ',' && *from != ']') return false;
        if (*from == ',') from += 1;
    }
    /* One dimension says no more than the size; others must be those that were declared, or the array's is flat. */
    slot->is_shaped = count > 1 && count == slot->declared->dimension_count;
    return count == 1 || slot->is_shaped || slot->declared->dimension_count <= 1;
}

/* Whether an object's content type says that its bytes are values of the parameter's type. */
static bool check_content_type(function_slot *slot, const char *content_type, problem *problem) {
    static const char *const encodings[] = {"pickle", "cloudpickle", "json", "text", "cbor", "arrow"};
    const decl_type *type = slot->declared->type;
    const char *name = slot->declared->name;
    bool are_bytes = slot->declared->form == DECL_STRING || (type->size == 1 && type->kind != DECL_STRUCT);
    size_t size = strlen(type->code);
    if (has_prefix(content_type, "array/")) {
        const char *code = content_type + 6;
        bool is_same = strncmp(code, type->code, size) == 0 && (code[size] == 0 || code[size] == '[');
        if (!is_same && are_bytes) return true;
        if (!is_same)
            return problem_set(
                problem, "'%s' takes %s (%.60s) but was given %.80s: convert it first", name, type->name, type->code,
                content_type);
        if (read_shape(code + size, slot)) return true;
        return problem_set(
            problem, "'%s' has %u dimensions but was given %.80s", name, slot->declared->dimension_count, content_type);
    }
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings && !are_bytes; i += 1)
        if (has_prefix(content_type, encodings[i]))
            return problem_set(
                problem, "'%s' takes the bytes of %s (content type array/%.60s or none) but was given %.60s", name,
                type->name, type->code, content_type);
    return true;
}

/* Bytes where the type wants them. */
static const void *aligned(const run *self, csw_bytes bytes, uint32_t alignment) {
    if ((uintptr_t)bytes.data % alignment == 0) return bytes.data;
    return scratch_copy(self->memory, bytes.data, bytes.size);
}

static csw_status take_array(const run *self, function_slot *slot, csw_bytes bytes) {
    const decl_type *type = slot->declared->type;
    problem problem;
    if (bytes.size % type->size != 0) {
        problem_set(
            &problem, "'%s' was given %zu bytes, which is no multiple of the %u of %s", slot->declared->name,
            bytes.size, (unsigned)type->size, type->name);
        return run_fail(self, &problem);
    }
    slot->pointer = (void *)(uintptr_t)aligned(self, bytes, type->alignment);
    slot->count = bytes.size / type->size;
    return slot->pointer != NULL ? CSW_OK : run_no_memory(self);
}

static csw_status take_value(const run *self, function_slot *slot, csw_bytes bytes, const char *content_type) {
    const decl_type *type = slot->declared->type;
    problem problem, why;
    bool is_text = has_prefix(content_type, "json") || has_prefix(content_type, "text");
    if (is_text) {
        json from = {.at = bytes.data, .end = (const char *)bytes.data + bytes.size};
        bool is_read = value_from_json(type, &from, self->memory, slot->value, &why);
        if (is_read && json_peek(&from) == JSON_END) return CSW_OK;
        problem_set(
            &problem, "'%s' can't be read from %.20s: %.200s", slot->declared->name, content_type,
            is_read ? "there is more than one value" : why.text);
        return run_fail(self, &problem);
    }
    if (bytes.size != type->size) {
        problem_set(
            &problem, "'%s' is %s of %u bytes, but was given %zu", slot->declared->name, type->name,
            (unsigned)type->size, bytes.size);
        return run_fail(self, &problem);
    }
    memcpy(slot->value, bytes.data, bytes.size);
    return CSW_OK;
}

static csw_status take_object(const run *self, uint32_t i, size_t input) {
    function_slot *slot = &self->function->slots[i];
    const char *content_type = csw_input_content_type(self->call, input);
    decl_form form = slot->declared->form;
    csw_bytes bytes;
    problem problem;
    csw_status status = csw_input_bytes(self->call, input, &bytes);
    if (status != CSW_OK) return status;
    bool is_parsed = (form == DECL_BY_VALUE || form == DECL_POINTER) &&
                     (has_prefix(content_type, "json") || has_prefix(content_type, "text"));
    if (!is_parsed && !check_content_type(slot, content_type, &problem)) return run_fail(self, &problem);
    if (form == DECL_ARRAY)
        status = take_array(self, slot, bytes);
    else if (form == DECL_STRING)
        status = run_take_text(self, slot, bytes.data, bytes.size);
    else
        status = take_value(self, slot, bytes, content_type);
    if (status == CSW_OK) run_note(self, i);
    return status;
}

/* The parameter for an input without a label: the next array, else whatever is next. */
static int64_t next_open(const function *function) {
    for (int is_any = 0; is_any < 2; is_any += 1)
        for (uint32_t k = 0; k < function->order_count; k += 1) {
            const function_slot *slot = &function->slots[function->order[k]];
            if (!slot->is_given && (is_any || slot->declared->form == DECL_ARRAY)) return function->order[k];
        }
    return -1;
}

csw_status run_take_objects(const run *self) {
    size_t count = csw_input_count(self->call);
    for (int are_labelled = 1; are_labelled >= 0; are_labelled -= 1) {
        for (size_t input = 0; input < count; input += 1) {
            const char *label = csw_input_label(self->call, input);
            if ((*label != 0) != are_labelled) continue;
            int64_t i = are_labelled ? run_find_parameter(self->function, label) : next_open(self->function);
            if (i < 0)
                return run_fail_signature(
                    self, are_labelled ? "there is no input" : "there are more objects than inputs:",
                    are_labelled ? label : "…");
            if (self->function->slots[i].is_given) return run_fail_signature(self, "given twice:", label);
            csw_status status = take_object(self, (uint32_t)i, input);
            if (status != CSW_OK) return status;
        }
    }
    return CSW_OK;
}
