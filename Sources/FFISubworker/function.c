#define _GNU_SOURCE
#include "function.h"

#include "marker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* --- Types of libffi -------------------------------------------------------------------------------------------- */

static ffi_type *scalar_type(const decl_type *type) {
    static ffi_type *const signeds[] = {&ffi_type_sint8, &ffi_type_sint16, &ffi_type_sint32, &ffi_type_sint64};
    static ffi_type *const unsigneds[] = {&ffi_type_uint8, &ffi_type_uint16, &ffi_type_uint32, &ffi_type_uint64};
    size_t i = type->size == 1 ? 0 : type->size == 2 ? 1 : type->size == 4 ? 2 : 3;
    if (type->kind == DECL_VOID) return &ffi_type_void;
    if (type->kind == DECL_SIGNED) return signeds[i];
    if (type->kind != DECL_FLOATING) return unsigneds[i];
    return type->size == sizeof(float)    ? &ffi_type_float
           : type->size == sizeof(double) ? &ffi_type_double
                                          : &ffi_type_longdouble;
}

/* libffi knows no arrays in structs: an array is as many fields. */
static ffi_type *type_of(const decl_type *type, scratch *memory) {
    if (type->kind != DECL_STRUCT) return scalar_type(type);
    ffi_type *made = scratch_take(memory, sizeof *made);
    uint32_t count = 0, used = 0;
    for (uint32_t i = 0; i < type->field_count; i += 1)
        count += type->fields[i].count;
    ffi_type **elements = scratch_take(memory, (count + 1) * sizeof *elements);
    if (made == NULL || elements == NULL) return NULL;
    for (uint32_t i = 0; i < type->field_count; i += 1) {
        ffi_type *element = type_of(type->fields[i].type, memory);
        if (element == NULL) return NULL;
        for (uint32_t k = 0; k < type->fields[i].count; k += 1)
            elements[used++] = element;
    }
    *made = (ffi_type){.type = FFI_TYPE_STRUCT, .elements = elements};
    return made;
}

static bool is_passed_by_value(const decl_parameter *parameter) {
    return parameter->form == DECL_BY_VALUE;
}

static bool prepare(function *self, scratch *memory, problem *problem) {
    const decl_function *declared = self->declared;
    bool is_pointer = declared->is_result_text || declared->is_result_pointer;
    ffi_type *result = is_pointer ? &ffi_type_pointer : type_of(declared->result, memory);
    size_t result_size = is_pointer ? sizeof(void *) : declared->result->size;
    self->result = scratch_take(memory, result_size > sizeof(ffi_arg) ? result_size : sizeof(ffi_arg));
    for (uint32_t i = 0; i < declared->parameter_count; i += 1) {
        const decl_parameter *parameter = &declared->parameters[i];
        self->types[i] = is_passed_by_value(parameter) ? type_of(parameter->type, memory) : &ffi_type_pointer;
        if (self->types[i] == NULL) return problem_set(problem, "no memory");
    }
    if (result == NULL || self->result == NULL) return problem_set(problem, "no memory");
    if (ffi_prep_cif(&self->cif, FFI_DEFAULT_ABI, declared->parameter_count, result, self->types) != FFI_OK)
        return problem_set(problem, "libffi can't call a function of these types");
    for (uint32_t i = 0; i < declared->parameter_count; i += 1)
        if (is_passed_by_value(&declared->parameters[i]) && self->types[i]->size != declared->parameters[i].type->size)
            return problem_set(problem, "libffi has another size for %s", declared->parameters[i].type->name);
    return true;
}

/* --- Making ----------------------------------------------------------------------------------------------------- */

static bool make_slots(function *self, scratch *memory) {
    const decl_function *declared = self->declared;
    uint32_t count = declared->parameter_count;
    self->slots = scratch_take(memory, (count + 1) * sizeof *self->slots);
    self->values = scratch_take(memory, (count + 1) * sizeof *self->values);
    self->types = scratch_take(memory, (count + 1) * sizeof *self->types);
    self->arguments = scratch_take(memory, (count + 1) * sizeof *self->arguments);
    self->order = scratch_take(memory, (count + 1) * sizeof *self->order);
    if (self->slots == NULL || self->values == NULL || self->types == NULL || self->arguments == NULL ||
        self->order == NULL)
        return false;
    for (uint32_t i = 0; i < count; i += 1) {
        function_slot *slot = &self->slots[i];
        slot->declared = &declared->parameters[i];
        slot->value = scratch_take(memory, slot->declared->type->size);
        slot->content_type = decl_content_type(memory, slot->declared->form, slot->declared->type);
        if (slot->value == NULL || slot->content_type == NULL) return false;
        self->arguments[i] = is_passed_by_value(slot->declared) ? slot->value : (void *)&slot->pointer;
        if (decl_is_output(slot->declared)) self->output_count += 1;
    }
    for (int are_optional = 0; are_optional < 2; are_optional += 1) {
        for (uint32_t i = 0; i < count; i += 1) {
            const decl_parameter *parameter = &declared->parameters[i];
            bool is_asked = decl_is_input(parameter) && !parameter->is_implied;
            if (is_asked && (parameter->fallback != NULL) == are_optional) self->order[self->order_count++] = i;
        }
    }
    if (declared->has_result) self->output_count += 1;
    decl_form form = declared->is_result_text ? DECL_STRING : DECL_BY_VALUE;
    self->result_content_type = decl_content_type(memory, form, declared->result);
    return self->result_content_type != NULL;
}

static function *bind(
    const decl_library *library, const decl_function *declared, const struct library *from, scratch *memory,
    problem *problem) {
    function *made = scratch_take(memory, sizeof *made);
    char *title = scratch_print(memory, "%s/%s", library->name, declared->name);
    if (made == NULL || title == NULL) {
        problem_set(problem, "no memory");
        return NULL;
    }
    made->title = title;
    made->declared = declared;
    made->library = library;
    void *address = library_symbol(from, declared->name, problem);
    void *error_string = declared->error_string != NULL ? library_symbol(from, declared->error_string, problem) : NULL;
    void *free_text = declared->freed_by != NULL ? library_symbol(from, declared->freed_by, problem) : NULL;
    if (address == NULL || (declared->error_string != NULL && error_string == NULL)) return NULL;
    if (declared->freed_by != NULL && free_text == NULL) return NULL;
    memcpy(&made->code, &address, sizeof address);
    memcpy(&made->error_string, &error_string, sizeof error_string);
    memcpy(&made->free_text, &free_text, sizeof free_text);
    if (!make_slots(made, memory)) {
        problem_set(problem, "no memory");
        return NULL;
    }
    return prepare(made, memory, problem) ? made : NULL;
}

/* Calls the library's initialisers, once; false after setting the problem. */
static bool start(struct library *from, const decl_library *library, problem *problem) {
    for (uint32_t i = 0; i < library->initialiser_count && !library_is_started(from); i += 1) {
        scratch memory = {0};
        struct problem why = {0};
        library_lock();
        function *made = bind(library, library->initialisers[i], from, &memory, &why);
        library_unlock();
        bool is_done = made != NULL && function_derive(made, &why) && function_call(made, &why);
        scratch_release(&memory);
        if (!is_done) library_set_started(from, why.text);
    }
    if (!library_is_started(from)) library_set_started(from, NULL);
    if (library_failure(from) == NULL) return true;
    return problem_set(problem, "the library %s could not be initialised: %s", library->name, library_failure(from));
}

function *function_make(
    const decl_library *library, const decl_function *declared, const char *directory, scratch *memory,
    problem *problem) {
    library_lock();
    struct library *from = library_open(library, directory, problem);
    function *made = from != NULL ? bind(library, declared, from, memory, problem) : NULL;
    library_unlock();
    if (made == NULL) return NULL;
    library_lock_start(from);
    bool is_started = start(from, library, problem);
    library_unlock_start(from);
    return is_started ? made : NULL;
}

bool function_check(
    const decl_library *library, const decl_function *declared, const char *directory, scratch *memory,
    problem *problem) {
    library_lock();
    struct library *from = library_open(library, directory, problem);
    bool is_there = from != NULL;
    for (uint32_t i = 0; is_there && i < library->initialiser_count; i += 1)
        is_there = bind(library, library->initialisers[i], from, memory, problem) != NULL;
    is_there = is_there && bind(library, declared, from, memory, problem) != NULL;
    library_unlock();
    return is_there;
}

void function_reset(function *self) {
    for (uint32_t i = 0; i < self->declared->parameter_count; i += 1) {
        self->slots[i].is_given = self->slots[i].is_shaped = false;
        self->values[i] = (decl_value){0};
    }
}

/* --- Values that follow ----------------------------------------------------------------------------------------- */

static void note_value(function *self, uint32_t i) {
    self->slots[i].is_given = true;
    self->values[i].is_known =
        value_integer(self->slots[i].declared->type, self->slots[i].value, &self->values[i].value);
}

/* Gives an implied parameter its value; false after setting the problem. */
static bool imply(function *self, uint32_t i, int64_t value, const decl_parameter *array, problem *problem) {
    int64_t most = self->slots[i].declared->type->size == 8
                       ? INT64_MAX
                       : INT64_MAX >> (64 - 8 * self->slots[i].declared->type->size);
    if (self->slots[i].declared->type->kind == DECL_UNSIGNED && most != INT64_MAX) most = most * 2 + 1;
    if (value > most)
        return problem_set(
            problem, "'%s' has too many elements for %s, which is %s", array->name, self->slots[i].declared->name,
            self->slots[i].declared->type->name);
    uint64_t bits = (uint64_t)value;
    uint8_t one = (uint8_t)bits;
    uint16_t two = (uint16_t)bits;
    uint32_t four = (uint32_t)bits, size = self->slots[i].declared->type->size;
    memcpy(
        self->slots[i].value,
        size == 1   ? (void *)&one
        : size == 2 ? (void *)&two
        : size == 4 ? (void *)&four
                    : (void *)&bits,
        size);
    note_value(self, i);
    return true;
}

/* From the dimensions of an array that says them. */
static bool derive_from_shape(function *self, const function_slot *slot, bool *has_news, problem *problem) {
    for (uint32_t k = 0; k < slot->declared->dimension_count; k += 1) {
        const decl_expression *dimension = slot->declared->dimensions[k];
        if (dimension->operation != DECL_VALUE || self->slots[dimension->parameter].is_given) continue;
        if (!self->slots[dimension->parameter].declared->is_implied) continue;
        if (!imply(self, dimension->parameter, slot->shape[k], slot->declared, problem)) return false;
        *has_news = true;
    }
    return true;
}

/* From the number of elements, when one factor of the length is all that is not known. */
static bool derive_from_count(function *self, const function_slot *slot, bool *has_news, problem *problem) {
    const decl_parameter *declared = slot->declared;
    int64_t product = 1;
    int64_t unknown = -1;
    for (uint32_t k = 0; k < declared->factor_count; k += 1) {
        const decl_expression *factor = declared->factors[k];
        int64_t value;
        bool is_open = factor->operation == DECL_VALUE && !self->slots[factor->parameter].is_given &&
                       self->slots[factor->parameter].declared->is_implied;
        if (is_open && unknown == -1) {
            unknown = factor->parameter;
        } else if (
            decl_evaluate(factor, self->values, NULL, &value) != DECL_KNOWN ||
            __builtin_mul_overflow(product, value, &product)) {
            return true; /* The lengths are checked later, and say so then. */
        }
    }
    if (unknown == -1) return true;
    if (product <= 0 || slot->count % (uint64_t)product != 0) {
        if (product <= 0 && slot->count == 0) return true;
        return problem_set(
            problem, "'%s' has %llu elements, which is no multiple of %lld", declared->name,
            (unsigned long long)slot->count, (long long)product);
    }
    *has_news = true;
    return imply(self, (uint32_t)unknown, (int64_t)(slot->count / (uint64_t)product), declared, problem);
}

static bool derive_default(function *self, uint32_t i, bool *has_news, problem *problem) {
    function_slot *slot = &self->slots[i];
    if (slot->declared->form == DECL_NOTHING) {
        slot->pointer = NULL;
        slot->is_given = true;
        return true;
    }
    if (slot->declared->form == DECL_STRING) {
        slot->pointer = (void *)(uintptr_t)slot->declared->fallback->text;
        self->values[i] = (decl_value){.count = (int64_t)strlen(slot->declared->fallback->text), .is_counted = true};
        *has_news = slot->is_given = true;
        return true;
    }
    decl_outcome outcome = value_from_fallback(slot->declared, self->values, slot->value, problem);
    if (outcome == DECL_UNKNOWN) return true;
    if (outcome != DECL_KNOWN) return false;
    note_value(self, i);
    *has_news = true;
    return true;
}

bool function_derive(function *self, problem *problem) {
    uint32_t count = self->declared->parameter_count;
    bool has_news = true;
    for (uint32_t round = 0; has_news && round <= 2 * count; round += 1) {
        has_news = false;
        for (uint32_t i = 0; i < count; i += 1) {
            function_slot *slot = &self->slots[i];
            bool is_done = true;
            if (!slot->is_given && slot->declared->fallback != NULL)
                is_done = derive_default(self, i, &has_news, problem);
            else if (slot->is_given && slot->declared->form == DECL_ARRAY && slot->is_shaped)
                is_done = derive_from_shape(self, slot, &has_news, problem);
            else if (slot->is_given && slot->declared->form == DECL_ARRAY)
                is_done = derive_from_count(self, slot, &has_news, problem);
            if (!is_done) return false;
        }
    }
    return true;
}

/* --- The call --------------------------------------------------------------------------------------------------- */

bool function_returned(const function *self, int64_t *out) {
    const decl_type *type = self->declared->result;
    if (self->declared->is_result_text || self->declared->is_result_pointer) return false;
    if (type->kind == DECL_VOID || type->kind == DECL_FLOATING || type->kind == DECL_STRUCT) return false;
    /* libffi widens what is smaller than a register. */
    uint64_t bits;
    memcpy(&bits, self->result, sizeof bits);
    uint8_t one = (uint8_t)bits;
    uint16_t two = (uint16_t)bits;
    uint32_t four = (uint32_t)bits;
    const void *value = type->size == 1   ? (void *)&one
                        : type->size == 2 ? (void *)&two
                        : type->size == 4 ? (void *)&four
                                          : (void *)&bits;
    return value_integer(type, value, out);
}

/* Of a failure. */
typedef char error_text[201];

/* A code's text by the library's own function; false where it has none. Such a function often writes to memory that all
 * threads share, so they take turns. */
static bool ask_library(const function *self, int code, error_text out) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if (self->error_string == NULL) return false;
    pthread_mutex_lock(&lock);
    marker_set("asking for an error's text for", self->title);
    const char *text = self->error_string(code);
    marker_set(NULL, NULL);
    if (text != NULL) snprintf(out, sizeof(error_text), "%s", text);
    pthread_mutex_unlock(&lock);
    return text != NULL;
}

static const char *text_of_errno(int code, error_text buffer) {
    return strerror_r(code, buffer, sizeof(error_text)); /* GNU's, which may return a text of its own */
}

static bool fail_number(const function *self, int64_t code, problem *problem) {
    error_text text;
    if (ask_library(self, (int)code, text))
        return problem_set(problem, "%s failed: %s (it returned %lld)", self->title, text, (long long)code);
    if (self->error_number != 0)
        return problem_set(
            problem, "%s failed: %s (it returned %lld, errno %d)", self->title, text_of_errno(self->error_number, text),
            (long long)code, self->error_number);
    return problem_set(problem, "%s failed: it returned %lld", self->title, (long long)code);
}

static bool fail_errno(const function *self, const char *what, problem *problem) {
    if (self->error_number == 0) return problem_set(problem, "%s failed: it %s", self->title, what);
    error_text text;
    bool is_own = ask_library(self, self->error_number, text);
    return problem_set(
        problem, "%s failed: %s (it %s, errno %d)", self->title,
        is_own                       ? text
        : self->error_string != NULL ? "no text"
                                     : text_of_errno(self->error_number, text),
        what, self->error_number);
}

static bool check_errors(const function *self, problem *problem) {
    int64_t code = 0;
    void *pointer = NULL;
    if (self->declared->is_result_text || self->declared->is_result_pointer)
        memcpy(&pointer, self->result, sizeof pointer);
    switch (self->declared->errors) {
    case DECL_ERRORS_NONE:
        break;
    case DECL_ERRORS_NONZERO:
        if (function_returned(self, &code) && code != 0) return fail_number(self, code, problem);
        break;
    case DECL_ERRORS_NEGATIVE:
        if (function_returned(self, &code) && code < 0) return fail_number(self, code, problem);
        break;
    case DECL_ERRORS_NULL:
        if (pointer == NULL) return fail_errno(self, "returned NULL", problem);
        break;
    case DECL_ERRORS_ERRNO:
        if (self->error_number != 0) return fail_errno(self, "set errno", problem);
        break;
    }
    if (self->declared->is_result_text && pointer == NULL)
        return problem_set(
            problem, "%s returned NULL instead of a text: if that tells of an error, declare errors = \"null\"",
            self->title);
    return true;
}

void function_free_text(const function *self) {
    void *text;
    memcpy(&text, self->result, sizeof text);
    marker_set("freeing the text of", self->title);
    self->free_text(text);
    marker_set(NULL, NULL);
}

bool function_call(function *self, problem *problem) {
    for (uint32_t i = 0; i < self->declared->parameter_count; i += 1)
        if (self->slots[i].declared->form == DECL_POINTER) self->slots[i].pointer = self->slots[i].value;
    /* libffi puts the addresses of its own copies of structs into the list. */
    void *arguments[decl_parameters_max];
    memcpy(arguments, self->arguments, self->declared->parameter_count * sizeof *arguments);
    marker_set("calling", self->title);
    errno = 0;
    ffi_call(&self->cif, self->code, self->result, arguments);
    self->error_number = errno;
    marker_set(NULL, NULL);
    return check_errors(self, problem);
}
