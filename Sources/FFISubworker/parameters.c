#include "parser.h"

#include <string.h>

static bool is_integer(const decl_type *type) {
    return type->kind == DECL_SIGNED || type->kind == DECL_UNSIGNED || type->kind == DECL_BOOL;
}

/* --- Parameters ------------------------------------------------------------------------------------------------- */

/* `[n]`, `[m][n]`, `[capacity : used]`, `[]` */
static void read_lengths(parser *self, decl_parameter *made) {
    lexer *lexer = &self->lexer;
    made->form = DECL_ARRAY;
    while (!lexer->has_failed && lexer_is_sign(lexer, '[')) {
        token at = lexer->current;
        lexer_next(lexer);
        lexer_take_name(lexer, "static");
        if (made->dimension_count == decl_dimensions_max)
            lexer_fail(lexer, at.line, at.column, "an array with more than %d dimensions", decl_dimensions_max);
        if (lexer_take_sign(lexer, ']')) {
            if (made->dimension_count != 0 || lexer_is_sign(lexer, '['))
                lexer_fail(lexer, at.line, at.column, "an array of several dimensions needs the length of each");
            return;
        }
        decl_expression *length = expression_read(lexer);
        if (lexer_take_sign(lexer, ':')) made->used = expression_read(lexer);
        lexer_want_sign(lexer, ']');
        if (lexer->has_failed) return;
        made->dimensions[made->dimension_count++] = length;
        made->has_length = true;
    }
    if (made->used != NULL && made->dimension_count != 1)
        lexer_fail(
            lexer, made->line, made->column, "'%s': only an array of one dimension may have [capacity : used]",
            made->name);
}

typedef struct declarator {
    uint32_t stars;
    bool is_const, is_inout;
} declarator;

/* What stars, brackets and `const` make of a parameter. */
static void find_form(parser *self, decl_parameter *made, const declarator *declarator) {
    lexer *lexer = &self->lexer;
    bool is_null = made->fallback != NULL && made->fallback->operation == DECL_NULL;
    bool is_pointer = declarator->stars == 1 && made->form != DECL_ARRAY;
    const char *problem = NULL;
    made->direction = declarator->is_inout ? DECL_INOUT : declarator->is_const ? DECL_IN : DECL_OUT;
    if (is_null && declarator->stars > 0 && made->form != DECL_ARRAY) {
        made->form = DECL_NOTHING;
        made->direction = DECL_IN;
    } else if (is_null) {
        problem = "'%s' is no pointer, so it can't be NULL";
    } else if (declarator->stars > 1 || (declarator->stars == 1 && made->form == DECL_ARRAY)) {
        problem = "'%s': a pointer to a pointer can only be passed as NULL: give it `= NULL`";
    } else if (declarator->is_inout && declarator->is_const) {
        problem = "'%s' can't be inout and const";
    } else if (is_pointer && made->type->kind == DECL_VOID) {
        problem = "'%s': a void pointer can only be passed as NULL; write bytes as an array, `const void data[n]`";
    } else if (is_pointer && made->type->is_char && strcmp(made->type->name, "char") == 0) {
        made->form = DECL_STRING;
        if (!declarator->is_const)
            problem = "'%s': write `const char *` for a text that goes in, `char name[size]` for one that comes out";
    } else if (is_pointer) {
        made->form = DECL_POINTER;
    } else if (made->form != DECL_ARRAY) {
        made->direction = DECL_IN;
        if (made->type->kind == DECL_VOID) problem = "'%s' can't be void";
        if (declarator->is_inout) problem = "'%s' is passed by value: only pointers and arrays can be inout";
    } else if (!made->has_length && made->direction == DECL_OUT) {
        problem = "'%s' is an output, so it needs a length";
    } else if (made->used != NULL && made->direction == DECL_IN) {
        problem = "'%s' is an input: only an output has [capacity : used]";
    } else if (made->fallback != NULL) {
        problem = "'%s': an array has no default value";
    }
    if (problem == NULL && made->fallback != NULL && made->direction == DECL_OUT)
        problem = "'%s' is an output: it has no default value";
    if (problem == NULL && made->fallback != NULL && made->type->kind == DECL_STRUCT && !is_null)
        problem = "'%s': a struct has no default value";
    if (problem != NULL) lexer_fail(lexer, made->line, made->column, problem, made->name);
}

const char *parser_as_written(parser *self, const char *from, const char *to) {
    char *made = scratch_take(self->lexer.memory, (size_t)(to - from) + 1);
    if (made == NULL) {
        lexer_no_memory(&self->lexer);
        return "";
    }
    size_t used = 0;
    while (from < to) {
        const char *end = from;
        if (to - from > 1 && from[0] == '/' && from[1] == '/')
            while (end < to && *end != '\n')
                end += 1;
        else if (to - from > 1 && from[0] == '/' && from[1] == '*')
            for (end += 2; end < to && (end[-1] != '/' || end[-2] != '*' || end - from < 4);)
                end += 1;
        if (end == from && strchr(" \t\r\n", *from) == NULL) {
            made[used++] = *from;
        } else if (used > 0 && made[used - 1] != ' ' && made[used - 1] != '(') {
            made[used++] = ' ';
        }
        from = end == from ? from + 1 : end;
    }
    while (used > 0 && made[used - 1] == ' ')
        used -= 1;
    made[used] = 0;
    return made;
}

static void read_parameter(parser *self, decl_parameter *made, uint32_t index) {
    lexer *lexer = &self->lexer;
    declarator found = {.is_inout = lexer_take_name(lexer, "inout")};
    made->type = types_read(&self->types, lexer, &found.is_const);
    while (lexer_take_sign(lexer, '*')) {
        found.stars += 1;
        /* Words about the pointer itself say nothing to a caller. */
        while (lexer_take_name(lexer, "const") || lexer_take_name(lexer, "restrict") ||
               lexer_take_name(lexer, "__restrict"))
            continue;
    }
    made->line = lexer->current.line;
    made->column = lexer->current.column;
    if (lexer_is_sign(lexer, '('))
        lexer_fail(
            lexer, made->line, made->column, "pointers to functions are not supported: write `void *name = NULL`");
    if (lexer->current.kind == TOKEN_NAME) {
        made->name = lexer_want_name(lexer, "");
    } else {
        made->name = scratch_print(lexer->memory, "arg%u", (unsigned)index);
        if (made->name == NULL) lexer_no_memory(lexer);
    }
    if (lexer->has_failed) return;
    if (lexer_is_sign(lexer, '[')) read_lengths(self, made);
    if (lexer_take_sign(lexer, '=')) {
        const char *start = lexer->current.at;
        made->fallback = expression_read(lexer);
        if (!lexer->has_failed)
            made->fallback_text = parser_as_written(self, start, lexer->previous.at + lexer->previous.size);
    }
    if (!lexer->has_failed) find_form(self, made, &found);
}

uint32_t parser_read_parameters(parser *self, decl_parameter *parameters) {
    lexer *lexer = &self->lexer;
    uint32_t count = 0;
    lexer_want_sign(lexer, '(');
    if (lexer_is_name(lexer, "void")) {
        struct lexer now = *lexer;
        lexer_next(lexer);
        if (lexer_take_sign(lexer, ')')) return 0;
        if (!lexer->has_failed) *lexer = now;
    }
    if (lexer_take_sign(lexer, ')')) return 0;
    do {
        token at = lexer->current;
        if (lexer_is_sign(lexer, sign_dots))
            lexer_fail(lexer, at.line, at.column, "functions with any number of arguments (...) can't be called");
        if (count == decl_parameters_max)
            lexer_fail(lexer, at.line, at.column, "more than %d parameters", decl_parameters_max);
        if (lexer->has_failed) return 0;
        read_parameter(self, &parameters[count], count);
        for (uint32_t i = 0; i < count && !lexer->has_failed; i += 1)
            if (strcmp(parameters[i].name, parameters[count].name) == 0)
                lexer_fail(
                    lexer, parameters[count].line, parameters[count].column, "'%s' is declared twice",
                    parameters[i].name);
        count += 1;
    } while (lexer_take_sign(lexer, ','));
    lexer_want_sign(lexer, ')');
    return count;
}

/* Whether an integer is a value of the type. */
static bool holds(const decl_type *type, int64_t value) {
    unsigned bits = type->size * 8;
    if (type->kind == DECL_FLOATING) return true;
    if (type->kind == DECL_BOOL) return value == 0 || value == 1;
    if (type->kind == DECL_UNSIGNED) return value >= 0 && (bits >= 63 || value >> bits == 0);
    return bits >= 64 || (value >= -((int64_t)1 << (bits - 1)) && value < (int64_t)1 << (bits - 1));
}

/* Says what is wrong with what is known before any call; 0 for what is not. */
static int64_t check_constant(parser *self, const decl_expression *expression) {
    const decl_value nothing[decl_parameters_max] = {{0}};
    int64_t value = 0;
    decl_outcome outcome = decl_evaluate(expression, nothing, NULL, &value);
    if (outcome == DECL_OVERFLOW || outcome == DECL_BY_ZERO)
        lexer_fail(
            &self->lexer, expression->line, expression->column,
            outcome == DECL_OVERFLOW ? "this has no value in 64 bits" : "this is divided by zero");
    return outcome == DECL_KNOWN ? value : 0;
}

/* --- Names and lengths ------------------------------------------------------------------------------------------ */

/* A default value: a literal of the parameter's own kind, or an integer expression. */
static void resolve_fallback(parser *self, decl_function *function, decl_parameter *parameter) {
    const decl_expression *fallback = parameter->fallback;
    bool is_negated = fallback->operation == DECL_NEGATE;
    decl_operator literal = (is_negated ? fallback->operands[0] : fallback)->operation;
    bool is_string = parameter->form == DECL_STRING;
    if (parameter->form == DECL_NOTHING) return;
    if (is_string != (fallback->operation == DECL_TEXT)) {
        lexer_fail(
            &self->lexer, fallback->line, fallback->column,
            is_string ? "the default of '%s' must be a string" : "the default of '%s' must be a number",
            parameter->name);
        return;
    }
    if (is_string || (literal == DECL_REAL && parameter->type->kind == DECL_FLOATING)) return;
    if (!expression_resolve(
            parameter->fallback, &self->lexer, &self->types, function->parameters, function->parameter_count, false))
        return;
    int64_t value = check_constant(self, fallback);
    if (!holds(parameter->type, value))
        lexer_fail(
            &self->lexer, fallback->line, fallback->column, "the default of '%s' is %lld, which does not fit into %s",
            parameter->name, (long long)value, parameter->type->name);
}

static void resolve_length(parser *self, decl_function *function, decl_parameter *parameter, decl_expression *length) {
    if (!expression_resolve(length, &self->lexer, &self->types, function->parameters, function->parameter_count, false))
        return;
    if (check_constant(self, length) < 0)
        lexer_fail(&self->lexer, length->line, length->column, "the length of '%s' is negative", parameter->name);
}

static void count_factors(const decl_expression *expression, uint32_t *count, const decl_expression **out) {
    if (expression->operation == DECL_MULTIPLY) {
        count_factors(expression->operands[0], count, out);
        count_factors(expression->operands[1], count, out);
    } else {
        if (out != NULL) out[*count] = expression;
        *count += 1;
    }
}

/* Takes a length apart into factors, and finds the parameters that follow from it. */
static void split_length(parser *self, decl_function *function, decl_parameter *parameter) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < parameter->dimension_count; i += 1)
        count_factors(parameter->dimensions[i], &count, NULL);
    parameter->factors = scratch_take(self->lexer.memory, count * sizeof *parameter->factors + 1);
    if (parameter->factors == NULL) {
        lexer_no_memory(&self->lexer);
        return;
    }
    for (uint32_t i = 0; i < parameter->dimension_count; i += 1)
        count_factors(parameter->dimensions[i], &parameter->factor_count, parameter->factors);
    if (parameter->direction == DECL_OUT) return;
    for (uint32_t i = 0; i < count; i += 1) {
        if (parameter->factors[i]->operation != DECL_VALUE) continue;
        decl_parameter *factor = &function->parameters[parameter->factors[i]->parameter];
        if (factor->form == DECL_BY_VALUE && factor->fallback == NULL && factor->type->kind != DECL_BOOL)
            factor->is_implied = true;
    }
}

/* The pointer whose value the function changes, among those that an expression reads; NULL for none. */
static const decl_parameter *find_changing(const decl_expression *expression, const decl_function *function) {
    if (expression == NULL) return NULL;
    if (expression->operation == DECL_VALUE) {
        const decl_parameter *found = &function->parameters[expression->parameter];
        return found->form == DECL_POINTER && found->direction != DECL_IN ? found : NULL;
    }
    for (size_t i = 0; i < 3; i += 1) {
        const decl_parameter *found = find_changing(expression->operands[i], function);
        if (found != NULL) return found;
    }
    return NULL;
}

/* Lengths before and after the call: what the function changes can't be known before, and shortens the output after. */
static void check_length(parser *self, decl_function *function, decl_parameter *parameter) {
    for (uint32_t i = 0; i < parameter->dimension_count; i += 1) {
        const decl_parameter *found = find_changing(parameter->dimensions[i], function);
        if (found == NULL || parameter->direction == DECL_IN) continue;
        if (found->direction == DECL_OUT)
            lexer_fail(
                &self->lexer, parameter->line, parameter->column,
                "*%s is known after the call only: give '%s' a capacity too, [capacity : *%s]", found->name,
                parameter->name, found->name);
        else if (parameter->used == NULL && parameter->dimension_count == 1)
            parameter->used = parameter->dimensions[0];
    }
}

void parser_resolve_parameters(parser *self, decl_function *function) {
    bool is_result_integer = is_integer(function->result) && !function->is_result_pointer;
    for (uint32_t i = 0; i < function->parameter_count && !self->lexer.has_failed; i += 1) {
        decl_parameter *parameter = &function->parameters[i];
        for (uint32_t k = 0; k < parameter->dimension_count; k += 1)
            resolve_length(self, function, parameter, parameter->dimensions[k]);
        if (parameter->used != NULL)
            expression_resolve(
                parameter->used, &self->lexer, &self->types, function->parameters, function->parameter_count,
                is_result_integer);
        if (parameter->fallback != NULL) resolve_fallback(self, function, parameter);
    }
    for (uint32_t i = 0; i < function->parameter_count && !self->lexer.has_failed; i += 1)
        split_length(self, function, &function->parameters[i]);
    for (uint32_t i = 0; i < function->parameter_count && !self->lexer.has_failed; i += 1)
        check_length(self, function, &function->parameters[i]);
}
