#include "expression.h"

#include <string.h>

typedef struct reader {
    lexer *lexer;
    uint32_t depth;
} reader;

static decl_expression *read_choice(reader *reader);

static decl_expression *make(reader *reader, decl_operator operation, const token *at) {
    decl_expression *made = scratch_take(reader->lexer->memory, sizeof *made);
    if (made == NULL) {
        lexer_no_memory(reader->lexer);
        return NULL;
    }
    made->operation = operation;
    made->line = at->line;
    made->column = at->column;
    return made;
}

static decl_expression *make_pair(
    reader *reader, decl_operator operation, const token *at, decl_expression *a, decl_expression *b) {
    if (a == NULL || b == NULL) return NULL;
    decl_expression *made = make(reader, operation, at);
    if (made == NULL) return NULL;
    made->operands[0] = a;
    made->operands[1] = b;
    return made;
}

/* `len(x)`, `min(a, b)`, `max(a, b)` */
static decl_expression *read_call(reader *reader, const token *name) {
    lexer *lexer = reader->lexer;
    bool is_min = strcmp(name->string, "min") == 0;
    decl_expression *made = NULL;
    lexer_next(lexer);
    if (strcmp(name->string, "len") == 0) {
        made = make(reader, DECL_COUNT, name);
        const char *text = lexer_want_name(lexer, "the name of an array");
        if (made != NULL) made->text = text;
    } else if (is_min || strcmp(name->string, "max") == 0) {
        decl_expression *first = read_choice(reader);
        lexer_want_sign(lexer, ',');
        made = make_pair(reader, is_min ? DECL_MIN : DECL_MAX, name, first, read_choice(reader));
    } else {
        lexer_fail(
            lexer, name->line, name->column, "'%s' can't be called here: there are len, min and max", name->string);
    }
    lexer_want_sign(lexer, ')');
    return made;
}

static decl_expression *read_named(reader *reader) {
    token name = reader->lexer->current;
    lexer_next(reader->lexer);
    if (lexer_is_sign(reader->lexer, '(')) return read_call(reader, &name);
    decl_operator operation = strcmp(name.string, "return") == 0 ? DECL_RETURN
                              : strcmp(name.string, "NULL") == 0 ? DECL_NULL
                                                                 : DECL_NAME;
    decl_expression *made = make(reader, operation, &name);
    if (made != NULL && (strcmp(name.string, "true") == 0 || strcmp(name.string, "false") == 0)) {
        made->operation = DECL_NUMBER;
        made->number = name.string[0] == 't';
    }
    if (made != NULL) made->text = name.string;
    return made;
}

static decl_expression *read_primary(reader *reader) {
    lexer *lexer = reader->lexer;
    token at = lexer->current;
    decl_expression *made = NULL;
    if (at.kind == TOKEN_NAME) return read_named(reader);
    if (at.kind == TOKEN_INTEGER || at.kind == TOKEN_REAL || at.kind == TOKEN_STRING) {
        made = make(
            reader,
            at.kind == TOKEN_INTEGER ? DECL_NUMBER
            : at.kind == TOKEN_REAL  ? DECL_REAL
                                     : DECL_TEXT,
            &at);
        if (made == NULL) return NULL;
        made->number = at.integer;
        made->real = at.real;
        made->text = at.string;
        lexer_next(lexer);
    } else if (lexer_take_sign(lexer, '(')) {
        made = read_choice(reader);
        lexer_want_sign(lexer, ')');
    } else {
        lexer_expected(lexer, "a number or a name");
    }
    return made;
}

static decl_expression *read_unary(reader *reader) {
    lexer *lexer = reader->lexer;
    token at = lexer->current;
    if (reader->depth >= decl_depth_max) {
        lexer_fail(lexer, at.line, at.column, "an expression that is nested more than %d times", decl_depth_max);
        return NULL;
    }
    decl_expression *made = NULL;
    reader->depth += 1;
    if (lexer_take_sign(lexer, '+')) {
        made = read_unary(reader);
    } else if (lexer_take_sign(lexer, '-')) {
        decl_expression *operand = read_unary(reader);
        made = operand != NULL ? make(reader, DECL_NEGATE, &at) : NULL;
        if (made != NULL) made->operands[0] = operand;
    } else if (lexer_take_sign(lexer, '*')) {
        made = make(reader, DECL_POINTEE, &at);
        const char *name = lexer_want_name(lexer, "the name of a pointer");
        if (made != NULL) made->text = name;
    } else {
        made = read_primary(reader);
    }
    reader->depth -= 1;
    return made;
}

/* Operators by how strongly they bind, the strongest first. */
static const struct binary {
    int sign, level;
    decl_operator operation;
} binaries[] = {
    {'*', 0, DECL_MULTIPLY},
    {'/', 0, DECL_DIVIDE},
    {'%', 0, DECL_REMAINDER},
    {'+', 1, DECL_ADD},
    {'-', 1, DECL_SUBTRACT},
    {sign_shift_left, 2, DECL_SHIFT_LEFT},
    {sign_shift_right, 2, DECL_SHIFT_RIGHT},
    {'<', 3, DECL_LESS},
    {sign_less_equal, 3, DECL_LESS_EQUAL},
    {'>', 3, DECL_LESS},
    {sign_greater_equal, 3, DECL_LESS_EQUAL},
    {sign_equal, 4, DECL_EQUAL},
    {sign_unequal, 4, DECL_UNEQUAL},
};

static const struct binary *binary_here(const lexer *lexer, int level) {
    for (size_t i = 0; i < sizeof binaries / sizeof *binaries; i += 1)
        if (binaries[i].level == level && lexer_is_sign(lexer, binaries[i].sign)) return &binaries[i];
    return NULL;
}

static decl_expression *read_binary(reader *reader, int level) {
    decl_expression *left = level == 0 ? read_unary(reader) : read_binary(reader, level - 1);
    const struct binary *found;
    uint32_t count = 0;
    while (left != NULL && (found = binary_here(reader->lexer, level)) != NULL) {
        token at = reader->lexer->current;
        lexer_next(reader->lexer);
        count += 1;
        if (count > decl_depth_max) lexer_fail(reader->lexer, at.line, at.column, "an expression that is too long");
        decl_expression *right = level == 0 ? read_unary(reader) : read_binary(reader, level - 1);
        bool is_turned = found->sign == '>' || found->sign == sign_greater_equal;
        left = is_turned ? make_pair(reader, found->operation, &at, right, left)
                         : make_pair(reader, found->operation, &at, left, right);
    }
    return left;
}

static decl_expression *read_choice(reader *reader) {
    decl_expression *condition = read_binary(reader, 4);
    token at = reader->lexer->current;
    if (condition == NULL || !lexer_take_sign(reader->lexer, '?')) return condition;
    if (reader->depth >= decl_depth_max) {
        lexer_fail(
            reader->lexer, at.line, at.column, "an expression that is nested more than %d times", decl_depth_max);
        return NULL;
    }
    reader->depth += 1;
    decl_expression *first = read_choice(reader);
    lexer_want_sign(reader->lexer, ':');
    decl_expression *second = read_choice(reader);
    reader->depth -= 1;
    decl_expression *made = make_pair(reader, DECL_CHOOSE, &at, condition, first);
    if (made == NULL || second == NULL) return NULL;
    made->operands[2] = second;
    return made;
}

decl_expression *expression_read(lexer *lexer) {
    reader reader = {.lexer = lexer};
    decl_expression *made = read_choice(&reader);
    return lexer->has_failed ? NULL : made;
}

/* --- Names ------------------------------------------------------------------------------------------------------ */

static bool fail_at(lexer *lexer, const decl_expression *expression, const char *format) {
    lexer_fail(lexer, expression->line, expression->column, format, expression->text);
    return false;
}

static bool is_integer(const decl_type *type) {
    return type->kind == DECL_SIGNED || type->kind == DECL_UNSIGNED || type->kind == DECL_BOOL;
}

static bool resolve_parameter(decl_expression *expression, lexer *lexer, const decl_parameter *parameter, uint32_t i) {
    bool is_pointer = parameter->form == DECL_POINTER;
    expression->parameter = i;
    if (expression->operation == DECL_COUNT) {
        if (parameter->form != DECL_ARRAY && parameter->form != DECL_STRING)
            return fail_at(lexer, expression, "'%s' is neither an array nor a text, so it has no len()");
        if (parameter->direction == DECL_OUT) return fail_at(lexer, expression, "len(%s): it is an output");
        return true;
    }
    if (!is_integer(parameter->type) || (parameter->form != DECL_BY_VALUE && !is_pointer))
        return fail_at(lexer, expression, "'%s' is no integer");
    if (is_pointer && expression->operation == DECL_NAME)
        return fail_at(lexer, expression, "'%s' is a pointer: write a * before it for its value");
    if (!is_pointer && expression->operation == DECL_POINTEE) return fail_at(lexer, expression, "'%s' is no pointer");
    expression->operation = DECL_VALUE;
    return true;
}

static bool resolve_name(
    decl_expression *expression, lexer *lexer, const types *types, const decl_parameter *parameters, uint32_t count) {
    for (uint32_t i = 0; i < count; i += 1)
        if (strcmp(parameters[i].name, expression->text) == 0)
            return resolve_parameter(expression, lexer, &parameters[i], i);
    const decl_constant *constant = types_find_constant(types, expression->text);
    if (constant == NULL || expression->operation != DECL_NAME)
        return fail_at(lexer, expression, "'%s' is neither a parameter of this function nor a constant");
    expression->operation = DECL_NUMBER;
    expression->number = constant->value;
    return true;
}

bool expression_resolve(
    decl_expression *expression, lexer *lexer, const types *types, const decl_parameter *parameters,
    uint32_t parameter_count, bool is_result_integer) {
    if (lexer->has_failed) return false;
    switch (expression->operation) {
    case DECL_NAME:
    case DECL_POINTEE:
    case DECL_COUNT:
        return resolve_name(expression, lexer, types, parameters, parameter_count);
    case DECL_RETURN:
        return is_result_integer || fail_at(lexer, expression, "'%s' is known after the call only, as an integer");
    case DECL_REAL:
    case DECL_TEXT:
    case DECL_NULL:
        return fail_at(lexer, expression, "an integer is wanted here");
    default:
        break;
    }
    for (size_t i = 0; i < 3 && expression->operands[i] != NULL; i += 1)
        if (!expression_resolve(expression->operands[i], lexer, types, parameters, parameter_count, is_result_integer))
            return false;
    return true;
}

int64_t expression_read_constant(lexer *lexer, const types *types) {
    token at = lexer->current;
    decl_expression *expression = expression_read(lexer);
    int64_t value = 0;
    if (expression == NULL || !expression_resolve(expression, lexer, types, NULL, 0, false)) return 0;
    if (decl_evaluate(expression, NULL, NULL, &value) != DECL_KNOWN)
        lexer_fail(lexer, at.line, at.column, "this has no value in 64 bits");
    return value;
}

/* --- Values ----------------------------------------------------------------------------------------------------- */

static decl_outcome shifted(int64_t a, int64_t b, bool is_left, int64_t *out) {
    if (b < 0 || b > 62 || a < 0) return DECL_OVERFLOW;
    if (is_left && a > INT64_MAX >> b) return DECL_OVERFLOW;
    *out = is_left ? a << b : a >> b;
    return DECL_KNOWN;
}

static decl_outcome combine(decl_operator operation, int64_t a, int64_t b, int64_t *out) {
    bool is_past = false;
    switch (operation) {
    case DECL_NEGATE:
        is_past = __builtin_sub_overflow((int64_t)0, a, out);
        break;
    case DECL_MULTIPLY:
        is_past = __builtin_mul_overflow(a, b, out);
        break;
    case DECL_ADD:
        is_past = __builtin_add_overflow(a, b, out);
        break;
    case DECL_SUBTRACT:
        is_past = __builtin_sub_overflow(a, b, out);
        break;
    case DECL_DIVIDE:
    case DECL_REMAINDER:
        if (b == 0) return DECL_BY_ZERO;
        if (a == INT64_MIN && b == -1) return DECL_OVERFLOW;
        *out = operation == DECL_DIVIDE ? a / b : a % b;
        break;
    case DECL_SHIFT_LEFT:
    case DECL_SHIFT_RIGHT:
        return shifted(a, b, operation == DECL_SHIFT_LEFT, out);
    case DECL_LESS:
        *out = a < b;
        break;
    case DECL_LESS_EQUAL:
        *out = a <= b;
        break;
    case DECL_EQUAL:
        *out = a == b;
        break;
    case DECL_UNEQUAL:
        *out = a != b;
        break;
    case DECL_MIN:
        *out = a < b ? a : b;
        break;
    case DECL_MAX:
        *out = a > b ? a : b;
        break;
    default:
        return DECL_UNKNOWN;
    }
    return is_past ? DECL_OVERFLOW : DECL_KNOWN;
}

decl_outcome decl_evaluate(
    const decl_expression *expression, const decl_value *values, const int64_t *returned, int64_t *out) {
    int64_t operands[3] = {0};
    decl_outcome outcome;
    switch (expression->operation) {
    case DECL_NUMBER:
        *out = expression->number;
        return DECL_KNOWN;
    case DECL_VALUE:
        *out = values[expression->parameter].value;
        return values[expression->parameter].is_known ? DECL_KNOWN : DECL_UNKNOWN;
    case DECL_COUNT:
        *out = values[expression->parameter].count;
        return values[expression->parameter].is_counted ? DECL_KNOWN : DECL_UNKNOWN;
    case DECL_RETURN:
        if (returned != NULL) *out = *returned;
        return returned != NULL ? DECL_KNOWN : DECL_UNKNOWN;
    case DECL_CHOOSE:
        outcome = decl_evaluate(expression->operands[0], values, returned, &operands[0]);
        if (outcome != DECL_KNOWN) return outcome;
        return decl_evaluate(expression->operands[operands[0] != 0 ? 1 : 2], values, returned, out);
    default:
        break;
    }
    for (size_t i = 0; i < 2 && expression->operands[i] != NULL; i += 1) {
        outcome = decl_evaluate(expression->operands[i], values, returned, &operands[i]);
        if (outcome != DECL_KNOWN) return outcome;
    }
    return combine(expression->operation, operands[0], operands[1], out);
}
