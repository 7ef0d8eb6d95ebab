#include "call.h"

#include <string.h>

typedef struct run {
    csw_call *call;
    function *function;
    scratch *memory;
} run;

static csw_status fail(const run *self, const problem *problem) {
    return csw_fail(self->call, "%s: %s", self->function->title, problem->text);
}

static csw_status no_memory(const run *self) {
    return csw_fail(self->call, "%s: no memory", self->function->title);
}

static csw_status fail_signature(const run *self, const char *what, const char *name) {
    text signature = {0};
    decl_task_signature(self->function->library, self->function->declared, &signature);
    csw_status status = csw_fail(
        self->call, "%s: %s '%s'; its task is %s", self->function->title, what, name,
        signature.has_failed ? "too large to show" : signature.bytes);
    text_release(&signature);
    return status;
}

static int64_t find_parameter(const function *function, const char *name) {
    for (uint32_t i = 0; i < function->declared->parameter_count; i += 1)
        if (strcmp(function->declared->parameters[i].name, name) == 0 &&
            decl_is_input(&function->declared->parameters[i]))
            return i;
    return -1;
}

/* --- From objects ----------------------------------------------------------------------------------------------- */

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
        return fail(self, &problem);
    }
    slot->pointer = (void *)(uintptr_t)aligned(self, bytes, type->alignment);
    slot->count = bytes.size / type->size;
    return slot->pointer != NULL ? CSW_OK : no_memory(self);
}

static csw_status take_text(const run *self, function_slot *slot, const char *text, size_t size) {
    problem problem;
    if (memchr(text, 0, size) != NULL) {
        problem_set(&problem, "'%s' is a text, which can't have a NUL byte in it", slot->declared->name);
        return fail(self, &problem);
    }
    slot->pointer = scratch_copy(self->memory, text, size);
    slot->count = size;
    return slot->pointer != NULL ? CSW_OK : no_memory(self);
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
        return fail(self, &problem);
    }
    if (bytes.size != type->size) {
        problem_set(
            &problem, "'%s' is %s of %u bytes, but was given %zu", slot->declared->name, type->name,
            (unsigned)type->size, bytes.size);
        return fail(self, &problem);
    }
    memcpy(slot->value, bytes.data, bytes.size);
    return CSW_OK;
}

/* What a slot holds, as lengths read it. */
static void note(const run *self, uint32_t i) {
    function_slot *slot = &self->function->slots[i];
    decl_value *value = &self->function->values[i];
    slot->is_given = true;
    if (slot->declared->form == DECL_ARRAY || slot->declared->form == DECL_STRING)
        *value = (decl_value){.count = (int64_t)slot->count, .is_counted = true};
    else
        value->is_known = value_integer(slot->declared->type, slot->value, &value->value);
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
    if (!is_parsed && !check_content_type(slot, content_type, &problem)) return fail(self, &problem);
    if (form == DECL_ARRAY)
        status = take_array(self, slot, bytes);
    else if (form == DECL_STRING)
        status = take_text(self, slot, bytes.data, bytes.size);
    else
        status = take_value(self, slot, bytes, content_type);
    if (status == CSW_OK) note(self, i);
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

static csw_status take_objects(const run *self) {
    size_t count = csw_input_count(self->call);
    for (int are_labelled = 1; are_labelled >= 0; are_labelled -= 1) {
        for (size_t input = 0; input < count; input += 1) {
            const char *label = csw_input_label(self->call, input);
            if ((*label != 0) != are_labelled) continue;
            int64_t i = are_labelled ? find_parameter(self->function, label) : next_open(self->function);
            if (i < 0)
                return fail_signature(
                    self, are_labelled ? "there is no input" : "there are more objects than inputs:",
                    are_labelled ? label : "…");
            if (self->function->slots[i].is_given) return fail_signature(self, "given twice:", label);
            csw_status status = take_object(self, (uint32_t)i, input);
            if (status != CSW_OK) return status;
        }
    }
    return CSW_OK;
}

/* --- From arguments --------------------------------------------------------------------------------------------- */

static csw_status take_list(const run *self, function_slot *slot, json *from) {
    const decl_type *type = slot->declared->type;
    problem problem, why = {0};
    size_t bytes;
    if (json_peek(from) != JSON_LIST || !value_count_json(*from, &slot->count)) {
        problem_set(&problem, "'%s' is an array: give a list or an object with its bytes", slot->declared->name);
        return fail(self, &problem);
    }
    if (__builtin_mul_overflow(slot->count, (uint64_t)type->size, &bytes)) return no_memory(self);
    unsigned char *out = scratch_take(self->memory, bytes + 1);
    if (out == NULL) return no_memory(self);
    slot->pointer = out;
    if (value_list_from_json(type, from, self->memory, &out, &why)) return CSW_OK;
    problem_set(&problem, "'%s': %.250s", slot->declared->name, why.text);
    return fail(self, &problem);
}

static csw_status take_argument(const run *self, uint32_t i, json *from) {
    function_slot *slot = &self->function->slots[i];
    csw_status status = CSW_OK;
    problem problem, why = {0};
    if (slot->is_given) return fail_signature(self, "given twice:", slot->declared->name);
    if (slot->declared->form == DECL_ARRAY) {
        status = take_list(self, slot, from);
    } else if (slot->declared->form == DECL_STRING) {
        size_t size;
        const char *text = json_string(from, self->memory, &size);
        if (text == NULL) {
            problem_set(&problem, "'%s' must be a string", slot->declared->name);
            return fail(self, &problem);
        }
        status = take_text(self, slot, text, size);
    } else if (!value_from_json(slot->declared->type, from, self->memory, slot->value, &why)) {
        problem_set(&problem, "'%s': %.250s", slot->declared->name, why.text);
        return fail(self, &problem);
    }
    if (status == CSW_OK) note(self, i);
    return status;
}

static csw_status take_positions(const run *self, json *from, bool *is_broken) {
    bool is_first = true;
    uint32_t k = 0;
    const function *function = self->function;
    while (json_next(from, &is_first, is_broken)) {
        while (k < function->order_count && function->slots[function->order[k]].is_given)
            k += 1;
        if (k == function->order_count) return fail_signature(self, "there are more arguments than", "inputs");
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
        int64_t i = find_parameter(self->function, key);
        if (i < 0) return fail_signature(self, "there is no input", key);
        csw_status status = CSW_OK;
        if (json_peek(from) == JSON_NULL)
            json_skip(from);
        else
            status = take_argument(self, (uint32_t)i, from);
        if (status != CSW_OK) return status;
    }
    return CSW_OK;
}

static csw_status take_arguments(const run *self) {
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
    if (status == CSW_OK && is_broken)
        return csw_fail(self->call, "%s: the arguments are broken JSON", self->function->title);
    return status;
}

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

static csw_status check_inputs(const run *self) {
    problem problem;
    for (uint32_t i = 0; i < self->function->declared->parameter_count; i += 1) {
        const function_slot *slot = &self->function->slots[i];
        if (!decl_is_input(slot->declared)) continue;
        if (!slot->is_given && !slot->declared->is_implied && slot->declared->fallback == NULL)
            return fail_signature(self, "there is no value for", slot->declared->name);
        if (!slot->is_given) {
            problem_set(&problem, "'%s' does not follow from the arrays, so it must be given", slot->declared->name);
            return fail(self, &problem);
        }
        if (slot->declared->form == DECL_ARRAY && !check_input(self, slot, &problem)) return fail(self, &problem);
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
    csw_status status = content_type.has_failed ? no_memory(self) : set_content_type(self, output, content_type.bytes);
    text_release(&content_type);
    return status;
}

/* Room for an output in the result itself; what goes in and out is copied there. */
static csw_status make_room(const run *self, function_slot *slot, size_t output) {
    uint64_t count = slot->count;
    int64_t shape[decl_dimensions_max];
    problem problem;
    void *room;
    if (slot->declared->has_length && !read_length(self, slot, &count, shape, &problem)) return fail(self, &problem);
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

static csw_status make_outputs(const run *self) {
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
        return fail(self, &problem);
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

static csw_status set_outputs(const run *self) {
    const decl_function *declared = self->function->declared;
    size_t output = declared->has_result ? 1 : 0;
    int64_t returned;
    bool has_returned = function_returned(self->function, &returned);
    for (uint32_t i = 0; i < declared->parameter_count; i += 1)
        if (self->function->slots[i].declared->form == DECL_POINTER) note(self, i);
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

csw_status call_function(csw_call *call, function *function, scratch *memory) {
    run self = {.call = call, .function = function, .memory = memory};
    problem problem;
    if (csw_output_count(call) != function->output_count)
        return csw_fail(
            call, "%s has %u outputs, but the task declares %zu", function->title, (unsigned)function->output_count,
            csw_output_count(call));
    function_reset(function);
    csw_status status = take_objects(&self);
    if (status == CSW_OK) status = take_arguments(&self);
    if (status != CSW_OK) return status;
    if (!function_derive(function, &problem)) return fail(&self, &problem);
    status = check_inputs(&self);
    if (status == CSW_OK) status = make_outputs(&self);
    if (status != CSW_OK) return status;
    if (!function_call(function, &problem)) return csw_fail(call, "%s", problem.text);
    return set_outputs(&self);
}
