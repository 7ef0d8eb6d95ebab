#define _GNU_SOURCE
#include "lexer.h"

#include "plain_locale.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

void lexer_start(lexer *self, const char *text, size_t size, scratch *memory, decl_error *error) {
    *self = (lexer){
        .start = text, .at = text, .end = text + size, .line_start = text, .line = 1, .memory = memory, .error = error};
    *error = (decl_error){0};
    lexer_next(self);
}

void lexer_fail(lexer *self, uint32_t line, uint32_t column, const char *format, ...) {
    if (!self->has_failed) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(self->error->message, sizeof self->error->message, format, arguments);
        va_end(arguments);
        self->error->line = line;
        self->error->column = column;
    }
    self->has_failed = true;
    self->current.kind = TOKEN_END;
    self->current.sign = 0;
}

void lexer_no_memory(lexer *self) {
    lexer_fail(self, 0, 0, "no memory for the declarations");
}

void lexer_expected(lexer *self, const char *what) {
    const token *found = &self->current;
    int size = found->size > 40 ? 40 : (int)found->size;
    if (found->kind == TOKEN_END)
        lexer_fail(self, found->line, found->column, "expected %s but the text ends", what);
    else
        lexer_fail(self, found->line, found->column, "expected %s but found '%.*s'", what, size, found->at);
}

/* --- Tokens ----------------------------------------------------------------------------------------------------- */

static void new_line(lexer *self) {
    self->line += 1;
    self->line_start = self->at;
}

/* Skips to the end of a comment; false when it has none. */
static bool skip_comment(lexer *self) {
    bool is_block = self->at[1] == '*';
    uint32_t line = self->line, column = (uint32_t)(self->at - self->line_start) + 1;
    self->at += 2;
    for (; self->at < self->end; self->at += 1) {
        if (!is_block && *self->at == '\n') return true;
        if (is_block && *self->at == '*' && self->end - self->at > 1 && self->at[1] == '/') {
            self->at += 2;
            return true;
        }
        if (*self->at == '\n') {
            self->line += 1;
            self->line_start = self->at + 1;
        }
    }
    if (is_block) lexer_fail(self, line, column, "a comment begins here and never ends");
    return !is_block;
}

/* Blanks and comments. A comment is about what comes in the line below it, not about what it stands behind. */
static void skip_blanks(lexer *self) {
    const char *comment = NULL;
    uint32_t blank_lines = 0;
    bool is_behind = self->at != self->start;
    while (self->at < self->end && !self->has_failed) {
        char c = *self->at;
        if (c == '\n') {
            self->at += 1;
            new_line(self);
            is_behind = false;
            blank_lines += 1;
            if (blank_lines > 1) comment = NULL;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            self->at += 1;
        } else if (c == '/' && self->end - self->at > 1 && (self->at[1] == '/' || self->at[1] == '*')) {
            if (comment == NULL && !is_behind) comment = self->at;
            skip_comment(self);
            if (comment != NULL) self->comment_size = (size_t)(self->at - comment);
            blank_lines = 0;
        } else {
            break;
        }
    }
    self->comment = comment;
}

static void read_number(lexer *self) {
    token *made = &self->current;
    const char *at = self->at;
    bool is_real = false;
    bool is_hex = self->end - at > 1 && at[0] == '0' && (at[1] == 'x' || at[1] == 'X');
    while (at < self->end && (is_digit(*at) || is_letter(*at) || *at == '.' ||
                              (!is_hex && (*at == '+' || *at == '-') && (at[-1] == 'e' || at[-1] == 'E')))) {
        if (*at == '.' || (!is_hex && (*at == 'e' || *at == 'E'))) is_real = true;
        at += 1;
    }
    made->size = (size_t)(at - self->at);
    self->at = at;
    char digits[80], *stop;
    if (made->size >= sizeof digits) {
        lexer_fail(self, made->line, made->column, "a number of %zu characters", made->size);
        return;
    }
    memcpy(digits, made->at, made->size);
    digits[made->size] = 0;
    errno = 0;
    made->kind = is_real ? TOKEN_REAL : TOKEN_INTEGER;
    if (is_real)
        made->real = strtod_l(digits, &stop, plain_locale());
    else
        made->integer = (int64_t)strtoll(digits, &stop, 0);
    if (!is_real) made->real = (double)made->integer;
    if (errno == ERANGE && !is_real)
        lexer_fail(self, made->line, made->column, "'%s' is too large: integers end at 9223372036854775807", digits);
    else if (stop[strspn(stop, is_real ? "fFlL" : "uUlL")] != 0)
        lexer_fail(self, made->line, made->column, "'%s' is no number", digits);
}

static char unescaped(char c) {
    return c == 'n' ? '\n' : c == 't' ? '\t' : c;
}

static void read_string(lexer *self) {
    token *made = &self->current;
    const char *at = self->at + 1;
    while (at < self->end && *at != '"' && *at != '\n' && *at != 0)
        at += *at == '\\' && self->end - at > 1 ? 2 : 1;
    if (at >= self->end || *at != '"') {
        lexer_fail(self, made->line, made->column, "a string begins here and has no end in its line");
        return;
    }
    made->size = (size_t)(at + 1 - self->at);
    char *string = scratch_take(self->memory, made->size);
    if (string == NULL) {
        lexer_no_memory(self);
        return;
    }
    size_t size = 0;
    for (const char *from = self->at + 1; from < at; from += 1) {
        if (*from == '\\' && strchr("\"\\nt", from[1]) == NULL) {
            uint32_t column = (uint32_t)(from - self->line_start) + 1;
            lexer_fail(self, made->line, column, "a string may have \\\", \\\\, \\n and \\t after a backslash");
            return;
        }
        string[size++] = *from == '\\' ? unescaped(*++from) : *from;
    }
    self->at = at + 1;
    made->kind = TOKEN_STRING;
    made->string = string;
}

static void read_sign(lexer *self) {
    static const char twos[][3] = {"<<", ">>", "<=", ">=", "==", "!=", ".."};
    token *made = &self->current;
    char c = *self->at;
    made->size = 1;
    made->sign = (unsigned char)c;
    for (size_t i = 0; i < sizeof twos / sizeof *twos && self->end - self->at > 1; i += 1) {
        if (memcmp(self->at, twos[i], 2) != 0) continue;
        made->size = 2;
        made->sign = twos[i][0] << 8 | twos[i][1];
    }
    made->kind = TOKEN_SIGN;
    self->at += made->size;
    if (c == '#')
        lexer_fail(
            self, made->line, made->column,
            "'#': there is no preprocessor here; write constants as `enum { SIZE = 16 };` and types as typedefs");
    else if (made->size == 1 && (c == 0 || strchr("(){}[];,*=+-/%<>?:", c) == NULL))
        lexer_fail(
            self, made->line, made->column,
            c > ' ' && c < 127 ? "'%c' has no meaning here" : "byte %d has no meaning here", (unsigned char)c);
}

void lexer_next(lexer *self) {
    self->previous = self->current;
    if (self->has_failed) return;
    skip_blanks(self);
    if (self->has_failed) return;
    self->current = (token){
        .kind = TOKEN_END, .at = self->at, .line = self->line, .column = (uint32_t)(self->at - self->line_start) + 1};
    if (self->at == self->end) return;
    char c = *self->at;
    if (is_letter(c)) {
        while (self->at < self->end && (is_letter(*self->at) || is_digit(*self->at)))
            self->at += 1;
        self->current.kind = TOKEN_NAME;
        self->current.size = (size_t)(self->at - self->current.at);
        self->current.string = scratch_copy(self->memory, self->current.at, self->current.size);
        if (self->current.string == NULL) lexer_no_memory(self);
        if (self->current.size > decl_name_bytes_max)
            lexer_fail(
                self, self->current.line, self->current.column, "a name of %zu characters: the limit is %d",
                self->current.size, decl_name_bytes_max);
    } else if (is_digit(c) || (c == '.' && self->end - self->at > 1 && is_digit(self->at[1]))) {
        read_number(self);
    } else if (c == '"') {
        read_string(self);
    } else {
        read_sign(self);
    }
}

/* --- What a parser asks ----------------------------------------------------------------------------------------- */

bool lexer_is_sign(const lexer *self, int sign) {
    return self->current.kind == TOKEN_SIGN && self->current.sign == sign;
}

bool lexer_is_name(const lexer *self, const char *name) {
    return self->current.kind == TOKEN_NAME && strcmp(self->current.string, name) == 0;
}

bool lexer_take_sign(lexer *self, int sign) {
    bool is_it = lexer_is_sign(self, sign);
    if (is_it) lexer_next(self);
    return is_it;
}

bool lexer_take_name(lexer *self, const char *name) {
    bool is_it = lexer_is_name(self, name);
    if (is_it) lexer_next(self);
    return is_it;
}

void lexer_want_sign(lexer *self, int sign) {
    char what[4] = {'\'', (char)sign, '\'', 0};
    if (!lexer_take_sign(self, sign)) lexer_expected(self, what);
}

const char *lexer_want_name(lexer *self, const char *what) {
    if (self->current.kind != TOKEN_NAME) {
        lexer_expected(self, what);
        return "";
    }
    const char *name = self->current.string;
    lexer_next(self);
    return name;
}
