/* Lengths and default values: C's integer expressions. */
#ifndef FFI_EXPRESSION_H
#define FFI_EXPRESSION_H

#include "types.h"

/* Reads an expression; NULL after a failure. Names are looked up by expression_resolve(). */
decl_expression *expression_read(lexer *lexer);
/* The value of one that has only numbers and constants. */
int64_t expression_read_constant(lexer *lexer, const types *types);
/* Gives every name its parameter or constant.
 *   is_result_integer   whether `return` has a meaning
 *   returns             false after a failure */
bool expression_resolve(
    decl_expression *expression, lexer *lexer, const types *types, const decl_parameter *parameters,
    uint32_t parameter_count, bool is_result_integer);

#endif
