/* Declarations as tokens. The first error stays; after it every token is the end. */
#ifndef FFI_LEXER_H
#define FFI_LEXER_H

#include "declarations.h"

typedef enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_INTEGER, TOKEN_REAL, TOKEN_STRING, TOKEN_SIGN } token_kind;

/* Signs of two characters are both, one after the other, in one number. */
enum {
    sign_shift_left = '<' << 8 | '<',
    sign_shift_right = '>' << 8 | '>',
    sign_less_equal = '<' << 8 | '=',
    sign_greater_equal = '>' << 8 | '=',
    sign_equal = '=' << 8 | '=',
    sign_unequal = '!' << 8 | '=',
    sign_dots = '.' << 8 | '.'
};

typedef struct token {
    token_kind kind;
    int sign;
    const char *at; /* in the text */
    size_t size;
    uint32_t line, column;
    int64_t integer;
    double real;
    const char *string; /* of STRING without quotes; of NAME a copy */
} token;

typedef struct lexer {
    const char *start, *at, *end;
    const char *line_start;
    uint32_t line;
    scratch *memory;
    decl_error *error;
    bool has_failed;
    token current;
    token previous;      /* the end of what was read */
    const char *comment; /* the comments right before the current token; NULL for none */
    size_t comment_size;
} lexer;

void lexer_start(lexer *self, const char *text, size_t size, scratch *memory, decl_error *error);
void lexer_next(lexer *self);

/* Keeps the first failure; the place is a token's. */
__attribute__((__format__(__printf__, 4, 5))) void lexer_fail(
    lexer *self, uint32_t line, uint32_t column, const char *format, ...);
/* `expected … but found 'x'`. */
void lexer_expected(lexer *self, const char *what);
void lexer_no_memory(lexer *self);

bool lexer_is_sign(const lexer *self, int sign);
bool lexer_is_name(const lexer *self, const char *name);
/* Goes on when the current token is this one. */
bool lexer_take_sign(lexer *self, int sign);
bool lexer_take_name(lexer *self, const char *name);
void lexer_want_sign(lexer *self, int sign);
/* A name; "" after a failure. */
const char *lexer_want_name(lexer *self, const char *what);

#endif
