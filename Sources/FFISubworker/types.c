#include "types.h"
#include "expression.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#define SCALAR(kind, type, name)                                                                                       \
    { (kind), false, sizeof(type), _Alignof(type), (name), NULL, NULL, 0, 1, 0, NULL, 0 }
#define IS_SIGNED(type) ((type)-1 < (type)1 ? DECL_SIGNED : DECL_UNSIGNED)
#define INTEGER(type, name) SCALAR(IS_SIGNED(type), type, name)
#define CHARACTER(type, name)                                                                                          \
    { IS_SIGNED(type), true, 1, 1, (name), NULL, NULL, 0, 1, 0, NULL, 0 }

/* `code` is filled in when a type is used, since it follows from kind and size. */
static const decl_type base_types[] = {
    {.kind = DECL_VOID, .size = 1, .alignment = 1, .name = "void", .leaf_count = 1},
    SCALAR(DECL_BOOL, _Bool, "bool"),
    SCALAR(DECL_BOOL, _Bool, "_Bool"),
    CHARACTER(char, "char"),
    CHARACTER(signed char, "signed char"),
    CHARACTER(unsigned char, "unsigned char"),
    INTEGER(short, "short"),
    INTEGER(unsigned short, "unsigned short"),
    INTEGER(int, "int"),
    INTEGER(unsigned int, "unsigned int"),
    INTEGER(long, "long"),
    INTEGER(unsigned long, "unsigned long"),
    INTEGER(long long, "long long"),
    INTEGER(unsigned long long, "unsigned long long"),
    SCALAR(DECL_FLOATING, float, "float"),
    SCALAR(DECL_FLOATING, double, "double"),
    SCALAR(DECL_FLOATING, long double, "long double"),
    INTEGER(int8_t, "int8_t"),
    INTEGER(uint8_t, "uint8_t"),
    INTEGER(int16_t, "int16_t"),
    INTEGER(uint16_t, "uint16_t"),
    INTEGER(int32_t, "int32_t"),
    INTEGER(uint32_t, "uint32_t"),
    INTEGER(int64_t, "int64_t"),
    INTEGER(uint64_t, "uint64_t"),
    INTEGER(intptr_t, "intptr_t"),
    INTEGER(uintptr_t, "uintptr_t"),
    INTEGER(intmax_t, "intmax_t"),
    INTEGER(uintmax_t, "uintmax_t"),
    INTEGER(size_t, "size_t"),
    INTEGER(ssize_t, "ssize_t"),
    INTEGER(ptrdiff_t, "ptrdiff_t"),
    INTEGER(off_t, "off_t"),
    INTEGER(time_t, "time_t"),
};
enum { base_count = sizeof base_types / sizeof *base_types };

static const decl_type *find_base(const char *name) {
    for (size_t i = 0; i < base_count; i += 1)
        if (strcmp(base_types[i].name, name) == 0) return &base_types[i];
    return NULL;
}

static const decl_type *int_type(void) {
    return find_base("int");
}

void types_release(types *self) {
    free(self->entries);
    free(self->constants);
    *self = (types){0};
}

/* --- Tables ----------------------------------------------------------------------------------------------------- */

/* Room for one more element of this size; false when there is no memory. */
static bool make_room(void **elements, uint32_t count, uint32_t *capacity, size_t size) {
    if (count < *capacity) return true;
    uint32_t larger = *capacity == 0 ? 16 : *capacity * 2;
    void *moved = realloc(*elements, larger * size);
    if (moved == NULL) return false;
    *elements = moved;
    *capacity = larger;
    return true;
}

static const decl_type *find(const types *self, const char *name) {
    for (uint32_t i = 0; i < self->count; i += 1)
        if (strcmp(self->entries[i].name, name) == 0) return self->entries[i].type;
    return NULL;
}

static void add(types *self, lexer *lexer, const char *name, const decl_type *type, const token *at) {
    if (find(self, name) != NULL) {
        lexer_fail(lexer, at->line, at->column, "'%s' is declared twice", name);
        return;
    }
    if (self->count == decl_types_max) {
        lexer_fail(lexer, at->line, at->column, "more than %d types", decl_types_max);
        return;
    }
    void *entries = self->entries;
    if (!make_room(&entries, self->count, &self->capacity, sizeof *self->entries)) {
        lexer_no_memory(lexer);
        return;
    }
    self->entries = entries;
    self->entries[self->count++] = (struct named_type){name, type};
}

const decl_constant *types_find_constant(const types *self, const char *name) {
    for (uint32_t i = 0; i < self->constant_count; i += 1)
        if (strcmp(self->constants[i].name, name) == 0) return &self->constants[i];
    return NULL;
}

static const char *scalar_code(lexer *lexer, const decl_type *type) {
    static const char letters[] = {
        [DECL_VOID] = 'u', [DECL_BOOL] = 'b', [DECL_SIGNED] = 'i', [DECL_UNSIGNED] = 'u', [DECL_FLOATING] = 'f'};
    return scratch_print(lexer->memory, "%c%u", letters[type->kind], (unsigned)type->size);
}

/* A copy that can be changed; NULL after saying that there is no memory. */
static decl_type *own(lexer *lexer, const decl_type *type) {
    decl_type *copy = scratch_take(lexer->memory, sizeof *copy);
    if (copy == NULL) {
        lexer_no_memory(lexer);
        return NULL;
    }
    *copy = *type;
    if (copy->code == NULL) copy->code = scalar_code(lexer, copy);
    if (copy->code == NULL) lexer_no_memory(lexer);
    return copy;
}

/* --- Enums ------------------------------------------------------------------------------------------------------ */

static void read_constant(types *self, lexer *lexer, int64_t *next) {
    token at = lexer->current;
    const char *name = lexer_want_name(lexer, "the name of a constant");
    if (types_find_constant(self, name) != NULL) lexer_fail(lexer, at.line, at.column, "'%s' is declared twice", name);
    if (lexer_take_sign(lexer, '=')) *next = expression_read_constant(lexer, self);
    if (*next > UINT32_MAX || *next < INT32_MIN)
        lexer_fail(lexer, at.line, at.column, "'%s' does not fit into the 32 bits of an enum", name);
    if (self->constant_count == decl_constants_max)
        lexer_fail(lexer, at.line, at.column, "more than %d constants", decl_constants_max);
    if (lexer->has_failed) return;
    void *constants = self->constants;
    if (!make_room(&constants, self->constant_count, &self->constant_capacity, sizeof *self->constants)) {
        lexer_no_memory(lexer);
        return;
    }
    self->constants = constants;
    self->constants[self->constant_count++] = (decl_constant){name, *next};
    *next += 1;
}

/* An int, or an unsigned one where a constant needs it, as compilers do. */
static const decl_type *type_of_constants(const types *self, lexer *lexer, uint32_t first, const token *at) {
    bool is_large = false;
    const decl_constant *negative = NULL;
    for (uint32_t i = first; i < self->constant_count; i += 1) {
        is_large = is_large || self->constants[i].value > INT32_MAX;
        if (self->constants[i].value < 0) negative = &self->constants[i];
    }
    if (is_large && negative != NULL)
        lexer_fail(
            lexer, at->line, at->column, "'%s' is negative and others are above %d: 32 bits can't hold both",
            negative->name, INT32_MAX);
    return find_base(is_large ? "unsigned int" : "int");
}

static const decl_type *read_enum_body(types *self, lexer *lexer, const char *name, const token *at) {
    uint32_t first = self->constant_count;
    int64_t next = 0;
    do {
        if (lexer_is_sign(lexer, '}')) break;
        read_constant(self, lexer, &next);
    } while (lexer_take_sign(lexer, ','));
    lexer_want_sign(lexer, '}');
    const decl_type *base = type_of_constants(self, lexer, first, at);
    decl_type *type = lexer->has_failed ? NULL : own(lexer, base);
    if (type == NULL) return int_type();
    uint32_t count = self->constant_count - first;
    decl_constant *constants = scratch_take(lexer->memory, count * sizeof *constants + 1);
    if (constants == NULL) {
        lexer_no_memory(lexer);
        return int_type();
    }
    if (count != 0) memcpy(constants, &self->constants[first], count * sizeof *constants);
    type->name = name;
    type->constants = constants;
    type->constant_count = count;
    return type;
}

/* --- Structs ---------------------------------------------------------------------------------------------------- */

/* The `[3][4]` of a field: one number, for its elements lie one after the other. */
static void read_field_length(types *self, lexer *lexer, decl_field *field) {
    uint64_t count = 1;
    while (lexer_is_sign(lexer, '[')) {
        token at = lexer->current;
        lexer_next(lexer);
        int64_t length = expression_read_constant(lexer, self);
        lexer_want_sign(lexer, ']');
        if (length < 1 || length > decl_struct_bytes_max)
            lexer_fail(
                lexer, at.line, at.column, "'%s' has no length from 1 to %d", field->name, decl_struct_bytes_max);
        else
            count =
                count * (uint64_t)length > decl_struct_bytes_max ? decl_struct_bytes_max + 1 : count * (uint64_t)length;
        field->is_array = true;
    }
    field->count = (uint32_t)count;
}

/* Puts a field behind those that are there, as the ABI does. */
static void place(lexer *lexer, decl_type *type, decl_field *field, const token *at) {
    const decl_type *inner = field->type;
    uint64_t offset = ((uint64_t)type->size + inner->alignment - 1) / inner->alignment * inner->alignment;
    uint64_t end = offset + (uint64_t)inner->size * field->count;
    uint64_t leaves = type->leaf_count + (uint64_t)inner->leaf_count * field->count;
    if (end > decl_struct_bytes_max || leaves > decl_leaves_max || inner->depth + 1 > decl_depth_max) {
        lexer_fail(
            lexer, at->line, at->column,
            "the struct is too large here: up to %d bytes, %d values and %d structs in structs", decl_struct_bytes_max,
            decl_leaves_max, decl_depth_max);
        return;
    }
    field->offset = (uint32_t)offset;
    type->size = (uint32_t)end;
    type->leaf_count = (uint32_t)leaves;
    if (inner->alignment > type->alignment) type->alignment = inner->alignment;
    if (inner->depth + 1 > type->depth) type->depth = inner->depth + 1;
}

static void read_fields(types *self, lexer *lexer, decl_type *type, decl_field *fields) {
    bool is_const;
    const decl_type *inner = types_read(self, lexer, &is_const);
    do {
        token at = lexer->current;
        if (lexer_is_sign(lexer, '*')) {
            lexer_fail(lexer, at.line, at.column, "a struct with pointers can't go from one process to another");
            return;
        }
        decl_field field = {.name = lexer_want_name(lexer, "the name of a field"), .type = inner};
        for (uint32_t i = 0; i < type->field_count; i += 1)
            if (strcmp(fields[i].name, field.name) == 0)
                lexer_fail(lexer, at.line, at.column, "'%s' is declared twice", field.name);
        if (inner->kind == DECL_VOID) lexer_fail(lexer, at.line, at.column, "'%s' can't be void", field.name);
        read_field_length(self, lexer, &field);
        if (lexer_is_sign(lexer, ':'))
            lexer_fail(lexer, lexer->current.line, lexer->current.column, "bit fields are not supported");
        if (type->field_count == decl_leaves_max)
            lexer_fail(lexer, at.line, at.column, "a struct has more than %d fields", decl_leaves_max);
        if (lexer->has_failed) return;
        place(lexer, type, &field, &at);
        fields[type->field_count++] = field;
    } while (lexer_take_sign(lexer, ','));
    lexer_want_sign(lexer, ';');
}

static void finish_struct(lexer *lexer, decl_type *type, const decl_field *fields) {
    decl_field *kept = scratch_take(lexer->memory, type->field_count * sizeof *kept);
    text code = {0};
    text_add(&code, "{");
    for (uint32_t i = 0; i < type->field_count && kept != NULL; i += 1) {
        kept[i] = fields[i];
        text_add(&code, i == 0 ? "%s:%s" : ",%s:%s", fields[i].name, fields[i].type->code);
        if (fields[i].is_array) text_add(&code, "[%u]", (unsigned)fields[i].count);
        text_add(&code, "@%u", (unsigned)fields[i].offset);
    }
    type->size = (type->size + type->alignment - 1) / type->alignment * type->alignment;
    text_add(&code, "}%u", (unsigned)type->size);
    type->fields = kept;
    type->code = code.has_failed ? NULL : scratch_copy(lexer->memory, code.bytes, code.size);
    text_release(&code);
    if (kept == NULL || type->code == NULL) lexer_no_memory(lexer);
}

static const decl_type *read_struct_body(types *self, lexer *lexer, const char *name, const token *at) {
    decl_type *type = scratch_take(lexer->memory, sizeof *type);
    decl_field *fields = calloc(decl_leaves_max, sizeof *fields);
    if (type == NULL || fields == NULL) {
        free(fields);
        lexer_no_memory(lexer);
        return int_type();
    }
    *type = (decl_type){.kind = DECL_STRUCT, .alignment = 1, .name = name};
    while (!lexer->has_failed && !lexer_is_sign(lexer, '}'))
        read_fields(self, lexer, type, fields);
    lexer_want_sign(lexer, '}');
    if (type->field_count == 0) lexer_fail(lexer, at->line, at->column, "a struct without fields");
    if (!lexer->has_failed) finish_struct(lexer, type, fields);
    free(fields);
    return lexer->has_failed ? int_type() : type;
}

/* --- Specifiers ------------------------------------------------------------------------------------------------- */

/* What follows `struct` or `enum`: a name, a body, or both. */
static const decl_type *read_tagged(types *self, lexer *lexer, bool is_struct) {
    token at = lexer->current;
    lexer_next(lexer);
    const char *name = is_struct ? "struct" : "enum";
    bool has_tag = lexer->current.kind == TOKEN_NAME;
    if (has_tag) name = scratch_print(lexer->memory, "%s %s", name, lexer->current.string);
    if (name == NULL) lexer_no_memory(lexer);
    if (has_tag) lexer_next(lexer);
    if (lexer->has_failed) return int_type();
    if (!lexer_take_sign(lexer, '{')) {
        const decl_type *known = has_tag ? find(self, name) : NULL;
        if (!has_tag) lexer_expected(lexer, "a name or '{'");
        if (has_tag && known == NULL)
            lexer_fail(
                lexer, at.line, at.column, "'%s' is not declared above: its %s are needed", name,
                is_struct ? "fields" : "constants");
        return known != NULL ? known : int_type();
    }
    self->depth += 1;
    if (self->depth > decl_depth_max)
        lexer_fail(lexer, at.line, at.column, "structs in structs, more than %d", decl_depth_max);
    const decl_type *type =
        is_struct ? read_struct_body(self, lexer, name, &at) : read_enum_body(self, lexer, name, &at);
    self->depth -= 1;
    if (has_tag && !lexer->has_failed) add(self, lexer, name, type, &at);
    return type;
}

typedef struct specifiers {
    uint32_t longs, shorts, signeds, unsigneds, words;
    const char *word; /* char, int, float, double, bool, void */
    const decl_type *type;
} specifiers;

static const char *const words[] = {"char", "int", "float", "double", "bool", "_Bool", "void"};

static const char *as_word(const lexer *lexer) {
    for (size_t i = 0; i < sizeof words / sizeof *words; i += 1)
        if (lexer_is_name(lexer, words[i])) return words[i];
    return NULL;
}

/* The C name of what the words say; NULL when they don't go together. */
static const char *spelling(const specifiers *found) {
    const char *word = found->word;
    bool is_plain = found->longs + found->shorts + found->signeds + found->unsigneds == 0;
    if (found->words > 1 || found->signeds + found->unsigneds > 1 || found->shorts > 1 || found->longs > 2) return NULL;
    if (found->longs != 0 && found->shorts != 0) return NULL;
    if (word != NULL && strcmp(word, "char") == 0) {
        if (found->longs + found->shorts != 0) return NULL;
        return found->signeds ? "signed char" : found->unsigneds ? "unsigned char" : "char";
    }
    if (word != NULL && strcmp(word, "double") == 0 && found->longs == 1)
        return found->shorts + found->signeds + found->unsigneds == 0 ? "long double" : NULL;
    if (word != NULL && strcmp(word, "int") != 0) return is_plain ? word : NULL;
    if (found->shorts) return found->unsigneds ? "unsigned short" : "short";
    if (found->longs == 1) return found->unsigneds ? "unsigned long" : "long";
    if (found->longs == 2) return found->unsigneds ? "unsigned long long" : "long long";
    return found->unsigneds ? "unsigned int" : "int";
}

static bool take_specifier(types *self, lexer *lexer, specifiers *found) {
    const char *word = as_word(lexer);
    bool has_word = found->word != NULL || found->longs + found->shorts + found->signeds + found->unsigneds != 0;
    if (word != NULL) {
        found->word = word;
        found->words += 1;
    } else if (lexer_is_name(lexer, "long")) {
        found->longs += 1;
    } else if (lexer_is_name(lexer, "short")) {
        found->shorts += 1;
    } else if (lexer_is_name(lexer, "signed")) {
        found->signeds += 1;
    } else if (lexer_is_name(lexer, "unsigned")) {
        found->unsigneds += 1;
    } else if (!has_word && found->type == NULL && (lexer_is_name(lexer, "struct") || lexer_is_name(lexer, "enum"))) {
        found->type = read_tagged(self, lexer, lexer_is_name(lexer, "struct"));
        return !lexer->has_failed;
    } else if (!has_word && found->type == NULL && lexer->current.kind == TOKEN_NAME) {
        found->type = find(self, lexer->current.string);
        if (found->type == NULL) found->type = find_base(lexer->current.string);
        if (found->type == NULL) return false;
    } else {
        return false;
    }
    lexer_next(lexer);
    return true;
}

static bool take_qualifier(lexer *lexer, bool *is_const) {
    if (lexer_take_name(lexer, "const")) return *is_const = true;
    if (lexer_is_name(lexer, "volatile") || lexer_is_name(lexer, "_Atomic") || lexer_is_name(lexer, "_Complex") ||
        lexer_is_name(lexer, "__attribute__"))
        lexer_fail(lexer, lexer->current.line, lexer->current.column, "'%s' is not supported", lexer->current.string);
    return lexer_take_name(lexer, "restrict") || lexer_take_name(lexer, "__restrict");
}

const decl_type *types_read(types *self, lexer *lexer, bool *is_const) {
    token at = lexer->current;
    specifiers found = {0};
    *is_const = false;
    while (take_qualifier(lexer, is_const) || take_specifier(self, lexer, &found))
        continue;
    if (lexer->has_failed) return int_type();
    bool has_words = found.words + found.longs + found.shorts + found.signeds + found.unsigneds != 0;
    if (!has_words && found.type == NULL) {
        if (lexer->current.kind == TOKEN_NAME && lexer->current.line == at.line)
            lexer_fail(
                lexer, lexer->current.line, lexer->current.column,
                lexer_is_name(lexer, "union") ? "'%s's are not supported: declare a struct of as many bytes"
                                              : "unknown type '%s': declare it with a typedef",
                lexer->current.string);
        else
            lexer_expected(lexer, "a type");
        return int_type();
    }
    const decl_type *type = found.type;
    if (has_words) {
        const char *name = type == NULL ? spelling(&found) : NULL;
        type = name != NULL ? find_base(name) : NULL;
    }
    if (type == NULL) {
        lexer_fail(lexer, at.line, at.column, "these words make no type");
        return int_type();
    }
    if (type->code != NULL) return type;
    const decl_type *owned = own(lexer, type);
    return owned != NULL ? owned : int_type();
}

bool types_is_start(const types *self, const lexer *lexer) {
    static const char *const others[] = {"const", "long", "short", "signed", "unsigned", "struct", "enum", "restrict"};
    if (lexer->current.kind != TOKEN_NAME) return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i += 1)
        if (lexer_is_name(lexer, others[i])) return true;
    return as_word(lexer) != NULL || find(self, lexer->current.string) != NULL ||
           find_base(lexer->current.string) != NULL;
}

void types_read_typedef(types *self, lexer *lexer) {
    bool is_const;
    const decl_type *type = types_read(self, lexer, &is_const);
    token at = lexer->current;
    if (lexer_is_sign(lexer, '*')) {
        lexer_fail(
            lexer, at.line, at.column, "a typedef of a pointer is not supported: write the '*' where it is used");
        return;
    }
    if (lexer_is_sign(lexer, '('))
        lexer_fail(lexer, at.line, at.column, "pointers to functions are not supported: write `void *name = NULL`");
    const char *name = lexer_want_name(lexer, "the new type's name");
    if (lexer_is_sign(lexer, '[') || lexer_is_sign(lexer, '('))
        lexer_fail(lexer, at.line, at.column, "a typedef of an array or function is not supported");
    lexer_want_sign(lexer, ';');
    decl_type *named = lexer->has_failed ? NULL : own(lexer, type);
    if (named == NULL) return;
    named->name = name;
    const decl_type *base = find_base(name);
    if (base == NULL) add(self, lexer, name, named, &at);
    if (base != NULL && (base->kind != type->kind || base->size != type->size))
        lexer_fail(
            lexer, at.line, at.column, "'%s' is a type of this machine already, %s of %u bytes", name,
            base->kind == DECL_SIGNED     ? "a signed integer"
            : base->kind == DECL_UNSIGNED ? "an unsigned integer"
                                          : "not an integer",
            (unsigned)base->size);
}
