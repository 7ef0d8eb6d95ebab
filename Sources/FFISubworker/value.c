#define _GNU_SOURCE
#include "value.h"

#include "plain_locale.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool problem_set(problem *self, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->text, sizeof self->text, format, arguments);
    va_end(arguments);
    return false;
}

/* --- Numbers ---------------------------------------------------------------------------------------------------- */

static bool store_integer(const decl_type *type, bool is_negative, uint64_t magnitude, void *out, problem *problem) {
    unsigned bits = type->size * 8;
    uint64_t most = type->kind == DECL_BOOL       ? 1
                    : type->kind == DECL_UNSIGNED ? UINT64_MAX >> (64 - bits)
                                                  : (UINT64_MAX >> (64 - bits)) / 2;
    uint64_t limit = !is_negative ? most : type->kind == DECL_SIGNED ? most + 1 : 0;
    if (magnitude > limit)
        return problem_set(
            problem, "%s%llu does not fit into %s", is_negative ? "-" : "", (unsigned long long)magnitude, type->name);
    uint64_t value = is_negative ? 0 - magnitude : magnitude;
    uint8_t one = (uint8_t)value;
    uint16_t two = (uint16_t)value;
    uint32_t four = (uint32_t)value;
    const void *from = type->size == 1   ? (void *)&one
                       : type->size == 2 ? (void *)&two
                       : type->size == 4 ? (void *)&four
                                         : (void *)&value;
    memcpy(out, from, type->size);
    return true;
}

static bool store_real(const decl_type *type, const char *text, void *out, problem *problem) {
    locale_t locale = plain_locale();
    bool is_finite;
    if (type->size == sizeof(float)) {
        float value = strtof_l(text, NULL, locale);
        is_finite = isfinite(value);
        memcpy(out, &value, sizeof value);
    } else if (type->size == sizeof(double)) {
        double value = strtod_l(text, NULL, locale);
        is_finite = isfinite(value);
        memcpy(out, &value, sizeof value);
    } else {
        long double value = strtold_l(text, NULL, locale);
        is_finite = isfinite(value);
        memcpy(out, &value, sizeof value);
    }
    /* What was written with digits is finite: infinity means that it was too large. */
    bool is_written = strpbrk(text, "0123456789") != NULL;
    return is_finite || !is_written || problem_set(problem, "%s does not fit into %s", text, type->name);
}

static bool store_number(const decl_type *type, const json_number *number, void *out, problem *problem) {
    if (type->kind == DECL_FLOATING) return store_real(type, number->text, out, problem);
    double real = strtod_l(number->text, NULL, plain_locale());
    bool is_whole = number->is_integer || (fabs(real) < 9007199254740992.0 && real == trunc(real));
    if (!is_whole) return problem_set(problem, "%s is no integer, which %s is", number->text, type->name);
    if (number->is_large) return problem_set(problem, "%s does not fit into %s", number->text, type->name);
    uint64_t magnitude = number->is_integer ? number->magnitude : (uint64_t)fabs(real);
    return store_integer(type, number->is_negative && magnitude != 0, magnitude, out, problem);
}

/* The names of an enum's constants, and the numbers that JSON has no digits for. */
static bool store_name(const decl_type *type, const char *name, void *out, problem *problem) {
    if (type->kind == DECL_FLOATING &&
        (strcmp(name, "nan") == 0 || strcmp(name, "inf") == 0 || strcmp(name, "-inf") == 0))
        return store_real(type, name, out, problem);
    for (uint32_t i = 0; i < type->constant_count; i += 1) {
        int64_t value = type->constants[i].value;
        if (strcmp(type->constants[i].name, name) != 0) continue;
        return store_integer(type, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, out, problem);
    }
    if (type->constants != NULL) return problem_set(problem, "\"%.60s\" is no constant of %s", name, type->name);
    return problem_set(problem, "\"%.60s\" is a text, not %s", name, type->name);
}

/* --- From JSON -------------------------------------------------------------------------------------------------- */

static bool is_broken_json(problem *problem) {
    return problem_set(problem, "the JSON is broken");
}

/* As C initialises an array of characters: with the text, then zeros; the NUL may be what has no room. */
static bool characters_from_json(
    const decl_field *field, json *from, scratch *memory, unsigned char *out, problem *problem) {
    size_t size;
    const char *text = json_string(from, memory, &size);
    if (text == NULL) return is_broken_json(problem);
    if (size > field->count)
        return problem_set(
            problem, "the text for '%s' has %zu bytes, but it has %u", field->name, size, (unsigned)field->count);
    memset(out, 0, field->count);
    memcpy(out, text, size);
    return true;
}

static bool field_from_json(
    const decl_field *field, json *from, scratch *memory, unsigned char *out, problem *problem) {
    out += field->offset;
    if (!field->is_array) return value_from_json(field->type, from, memory, out, problem);
    bool is_text = field->type->size == 1 && (field->type->kind == DECL_SIGNED || field->type->kind == DECL_UNSIGNED);
    if (is_text && json_peek(from) == JSON_STRING) return characters_from_json(field, from, memory, out, problem);
    uint64_t count;
    if (json_peek(from) != JSON_LIST || !value_count_json(*from, &count) || count != field->count)
        return problem_set(
            problem, "'%s' must be a list of %u%s", field->name, (unsigned)field->count, is_text ? ", or a text" : "");
    return value_list_from_json(field->type, from, memory, &out, problem);
}

static bool struct_from_json(const decl_type *type, json *from, scratch *memory, unsigned char *out, problem *problem) {
    if (json_peek(from) != JSON_OBJECT)
        return problem_set(problem, "%s is an object with a value for each field", type->name);
    bool *are_given = scratch_take(memory, type->field_count);
    bool is_first = true, is_broken = false;
    if (are_given == NULL || !json_enter(from)) return problem_set(problem, "no memory, or nested too deeply");
    while (json_next(from, &is_first, &is_broken)) {
        size_t size;
        uint32_t i = 0;
        const char *key = json_key(from, memory, &size);
        if (key == NULL) return is_broken_json(problem);
        while (i < type->field_count && strcmp(type->fields[i].name, key) != 0)
            i += 1;
        if (i == type->field_count) return problem_set(problem, "%s has no field \"%.60s\"", type->name, key);
        are_given[i] = true;
        if (!field_from_json(&type->fields[i], from, memory, out, problem)) return false;
    }
    if (is_broken) return is_broken_json(problem);
    for (uint32_t i = 0; i < type->field_count; i += 1)
        if (!are_given[i])
            return problem_set(problem, "the field \"%s\" of %s is missing", type->fields[i].name, type->name);
    return true;
}

bool value_from_json(const decl_type *type, json *from, scratch *memory, void *out, problem *problem) {
    json_kind kind = json_peek(from);
    if (type->kind == DECL_STRUCT) return struct_from_json(type, from, memory, out, problem);
    if (kind == JSON_NUMBER) {
        json_number number;
        if (!json_read_number(from, &number)) return is_broken_json(problem);
        return store_number(type, &number, out, problem);
    }
    if (kind == JSON_TRUE || kind == JSON_FALSE) {
        if (type->kind != DECL_BOOL) return problem_set(problem, "it is a truth value, not %s", type->name);
        json_skip(from);
        return store_integer(type, false, kind == JSON_TRUE, out, problem);
    }
    if (kind == JSON_STRING) {
        size_t size;
        const char *name = json_string(from, memory, &size);
        if (name == NULL) return is_broken_json(problem);
        return store_name(type, name, out, problem);
    }
    if (kind == JSON_BROKEN || kind == JSON_END) return is_broken_json(problem);
    return problem_set(problem, "it is no number, but %s is one", type->name);
}

bool value_count_json(json from, uint64_t *count) {
    /* Of lists, only the brackets between values count; what is in an object is one value. */
    bool is_first = true, is_broken = false;
    *count = 0;
    if (json_peek(&from) != JSON_LIST || !json_enter(&from)) return false;
    while (json_next(&from, &is_first, &is_broken)) {
        uint64_t inner = 1;
        if (json_peek(&from) == JSON_LIST && !value_count_json(from, &inner)) return false;
        if (!json_skip(&from)) return false;
        *count += inner;
    }
    return !is_broken;
}

bool value_list_from_json(const decl_type *type, json *from, scratch *memory, unsigned char **out, problem *problem) {
    bool is_first = true, is_broken = false;
    if (!json_enter(from)) return problem_set(problem, "lists in lists, too many");
    while (json_next(from, &is_first, &is_broken)) {
        if (json_peek(from) == JSON_LIST) {
            if (!value_list_from_json(type, from, memory, out, problem)) return false;
        } else {
            if (!value_from_json(type, from, memory, *out, problem)) return false;
            *out += type->size;
        }
    }
    return !is_broken || is_broken_json(problem);
}

/* --- From declarations ------------------------------------------------------------------------------------------ */

static void store_double(const decl_type *type, double real, void *out) {
    float small = (float)real;
    long double large = real;
    const void *from = type->size == sizeof small  ? (void *)&small
                       : type->size == sizeof real ? (void *)&real
                                                   : (void *)&large;
    memcpy(out, from, type->size);
}

decl_outcome value_from_fallback(
    const decl_parameter *parameter, const decl_value *values, void *out, problem *problem) {
    const decl_expression *fallback = parameter->fallback;
    const decl_type *type = parameter->type;
    bool is_negated = fallback->operation == DECL_NEGATE;
    const decl_expression *literal = is_negated ? fallback->operands[0] : fallback;
    if (literal->operation == DECL_REAL) {
        store_double(type, is_negated ? -literal->real : literal->real, out);
        return DECL_KNOWN;
    }
    int64_t value = 0;
    decl_outcome outcome = decl_evaluate(fallback, values, NULL, &value);
    if (outcome == DECL_OVERFLOW)
        problem_set(problem, "the default of '%s' does not fit into 64 bits", parameter->name);
    if (outcome == DECL_BY_ZERO) problem_set(problem, "the default of '%s' is divided by zero", parameter->name);
    if (outcome != DECL_KNOWN) return outcome;
    if (type->kind == DECL_FLOATING) {
        store_double(type, (double)value, out);
        return DECL_KNOWN;
    }
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    return store_integer(type, value < 0, magnitude, out, problem) ? DECL_KNOWN : DECL_OVERFLOW;
}

bool value_integer(const decl_type *type, const void *value, int64_t *out) {
    uint64_t bits = 0;
    if (type->kind != DECL_SIGNED && type->kind != DECL_UNSIGNED && type->kind != DECL_BOOL) return false;
    if (type->size == 1) bits = *(const uint8_t *)value;
    if (type->size == 2) {
        uint16_t two;
        memcpy(&two, value, 2);
        bits = two;
    } else if (type->size == 4) {
        uint32_t four;
        memcpy(&four, value, 4);
        bits = four;
    } else if (type->size == 8) {
        memcpy(&bits, value, 8);
    }
    if (type->kind != DECL_SIGNED && bits > INT64_MAX) return false;
    unsigned unused = 64 - type->size * 8;
    *out = type->kind == DECL_SIGNED ? (int64_t)(bits << unused) >> unused : (int64_t)bits;
    return true;
}
