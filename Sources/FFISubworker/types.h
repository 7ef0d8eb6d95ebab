/* The types of a declarations file: the ones that C has, and those that the file makes. */
#ifndef FFI_TYPES_H
#define FFI_TYPES_H

#include "lexer.h"

typedef struct types {
    struct named_type { /* typedefs by name; structs and enums by "struct point" */
        const char *name;
        const decl_type *type;
    } * entries;
    uint32_t count, capacity;
    decl_constant *constants; /* of all enums */
    uint32_t constant_count, constant_capacity;
    uint32_t depth; /* of the structs that are being read */
} types;

void types_release(types *self);

/* What specifiers say: `const unsigned long`, `struct point`. Bodies of structs and enums are read too.
 *   is_const  receives whether `const` was among them
 *   returns   never NULL: after a failure `int` */
const decl_type *types_read(types *self, lexer *lexer, bool *is_const);
/* Whether the current token can begin a type. */
bool types_is_start(const types *self, const lexer *lexer);
/* `typedef … name;` */
void types_read_typedef(types *self, lexer *lexer);
/* NULL when no enum has it. */
const decl_constant *types_find_constant(const types *self, const char *name);

#endif
