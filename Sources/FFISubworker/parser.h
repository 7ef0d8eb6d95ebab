/* What the parts of the parser share. */
#ifndef FFI_PARSER_H
#define FFI_PARSER_H

#include "expression.h"

/* Pointers that are collected while their number is not known. */
typedef struct list {
    void **items;
    uint32_t count, capacity;
} list;

typedef struct parser {
    lexer lexer;
    types types;
    list libraries, functions, initialisers;
    uint32_t function_count; /* of all libraries, with initialisers */
} parser;

/* Reads `( … )`; room for decl_parameters_max. Names in it are looked up by parser_resolve_parameters(). */
uint32_t parser_read_parameters(parser *self, decl_parameter *parameters);
/* Gives every name in lengths and defaults its meaning, and finds what follows from what. */
void parser_resolve_parameters(parser *self, decl_function *function);
/* The text from one place to another as one line, with single blanks and without comments. */
const char *parser_as_written(parser *self, const char *from, const char *to);

#endif
