/* What a declarations file says: libraries and their functions, as values. docs/ffi.md has the grammar.
 *
 * Nothing here loads a library or calls a function; the Python package uses it to know what a function takes. */
#ifndef FFI_DECLARATIONS_H
#define FFI_DECLARATIONS_H

#include "scratch.h"

#include <stdint.h>

enum {
    decl_text_bytes_max = 1 << 20,
    decl_parameters_max = 64,
    decl_dimensions_max = 8,
    decl_depth_max = 32,   /* of parentheses, and of structs in structs */
    decl_threads_max = 64, /* calls that a worker gives one process */
    decl_name_bytes_max = 255,
    /* Of a file. Names are compared with all others, which is quick for so many. */
    decl_libraries_max = 1024,
    decl_functions_max = 4096, /* initialisers too */
    decl_types_max = 4096,
    decl_constants_max = 8192,
    decl_leaves_max = 1024, /* scalars in a struct */
    decl_struct_bytes_max = 1 << 20
};

/* --- Types ------------------------------------------------------------------------------------------------------ */

typedef enum decl_kind { DECL_VOID, DECL_BOOL, DECL_SIGNED, DECL_UNSIGNED, DECL_FLOATING, DECL_STRUCT } decl_kind;

typedef struct decl_constant { /* of an enum */
    const char *name;
    int64_t value;
} decl_constant;

typedef struct decl_type {
    decl_kind kind;
    bool is_char; /* plain, signed or unsigned: a pointer to const ones is a text */
    uint32_t size, alignment;
    const char *name; /* as C writes it, "unsigned long" */
    const char *code; /* how content types write it, "u8"; of structs "{x:f8@0,y:f8@8}16" */
    const struct decl_field *fields;
    uint32_t field_count;
    uint32_t leaf_count, depth;
    const decl_constant *constants; /* of an enum; else NULL */
    uint32_t constant_count;
} decl_type;

typedef struct decl_field {
    const char *name;
    const decl_type *type;
    uint32_t offset;
    uint32_t count; /* of elements; 1 where is_array is false */
    bool is_array;
} decl_field;

/* --- Expressions ------------------------------------------------------------------------------------------------ */

typedef enum decl_operator {
    DECL_NUMBER,
    DECL_REAL,
    DECL_TEXT,
    DECL_NULL,
    DECL_NAME,  /* while its parameter list is not complete; afterwards VALUE or NUMBER */
    DECL_VALUE, /* an integer parameter, or with DECL_POINTEE what it points to */
    DECL_POINTEE,
    DECL_COUNT,  /* elements of an array, bytes of a text */
    DECL_RETURN, /* what the function returned */
    DECL_NEGATE,
    DECL_MULTIPLY,
    DECL_DIVIDE,
    DECL_REMAINDER,
    DECL_ADD,
    DECL_SUBTRACT,
    DECL_SHIFT_LEFT,
    DECL_SHIFT_RIGHT,
    DECL_LESS,
    DECL_LESS_EQUAL,
    DECL_EQUAL,
    DECL_UNEQUAL,
    DECL_CHOOSE,
    DECL_MIN,
    DECL_MAX
} decl_operator;

typedef struct decl_expression {
    decl_operator operation;
    uint32_t parameter;
    uint32_t line, column;
    int64_t number;
    double real;
    const char *text; /* of TEXT; of NAME, POINTEE and COUNT the name */
    struct decl_expression *operands[3];
} decl_expression;

/* What is known of a function's parameters. */
typedef struct decl_value {
    int64_t value, count;
    bool is_known, is_counted;
} decl_value;

typedef enum decl_outcome { DECL_KNOWN, DECL_UNKNOWN, DECL_OVERFLOW, DECL_BY_ZERO } decl_outcome;

/* The value of an expression in 64-bit integers.
 *   values    by parameter
 *   returned  may be NULL before the call
 *   returns   UNKNOWN: it needs a value that is not known; OVERFLOW: past 64 bits; BY_ZERO: a division by zero */
decl_outcome decl_evaluate(
    const decl_expression *expression, const decl_value *values, const int64_t *returned, int64_t *out);

/* --- Functions -------------------------------------------------------------------------------------------------- */

typedef enum decl_direction { DECL_IN, DECL_OUT, DECL_INOUT } decl_direction;
typedef enum decl_form {
    DECL_BY_VALUE,
    DECL_POINTER, /* to one value */
    DECL_ARRAY,
    DECL_STRING,
    DECL_NOTHING /* a pointer that is always NULL */
} decl_form;

typedef struct decl_parameter {
    const char *name;
    const decl_type *type; /* of the value or element */
    decl_direction direction;
    decl_form form;
    bool is_implied; /* its value follows from the length of an input array */
    bool has_length; /* false: `x[]`, of any length */
    uint32_t dimension_count;
    decl_expression *dimensions[decl_dimensions_max];
    const decl_expression **factors; /* of the length: a product of them */
    uint32_t factor_count;
    decl_expression *used;     /* length after the call; NULL: the same */
    decl_expression *fallback; /* its value where none is given; NULL: it must be given */
    const char *fallback_text; /* as it was written */
    uint32_t line, column;
} decl_parameter;

typedef enum decl_errors {
    DECL_ERRORS_NONE,
    DECL_ERRORS_NONZERO,
    DECL_ERRORS_NEGATIVE,
    DECL_ERRORS_NULL,
    DECL_ERRORS_ERRNO
} decl_errors;

typedef struct decl_function {
    const char *name;
    const char *documentation;
    const char *signature;   /* as it was written, in one line */
    const decl_type *result; /* VOID for a pointer that only says whether it is NULL */
    bool is_result_text, is_result_pointer;
    bool has_result; /* whether what it returns is an output */
    decl_errors errors;
    const char *error_string; /* the function that turns a code into a text; NULL for none */
    const char *freed_by;     /* the function that takes a returned text back; NULL for none */
    uint32_t threads; /* calls that may run at once in a process, beside those of other such functions; from 1 */
    decl_parameter *parameters;
    uint32_t parameter_count;
    uint32_t line, column;
} decl_function;

typedef struct decl_library {
    const char *name;
    const char **files;
    uint32_t file_count;
    decl_function **functions, **initialisers;
    uint32_t function_count, initialiser_count;
} decl_library;

typedef struct decl_file {
    decl_library **libraries;
    uint32_t library_count;
    scratch memory; /* of all of it */
} decl_file;

typedef struct decl_error {
    uint32_t line, column; /* from 1; 0: not about a place */
    char message[400];
} decl_error;

/* Reads declarations.
 *   text      of size bytes; what is read does not point into it
 *   file      to be released with decl_release() in any case
 *   returns   false after filling in `error` */
bool decl_parse(const char *text, size_t size, decl_file *file, decl_error *error);
void decl_release(decl_file *file);

/* "zlib.ffi:3:14: message", the line and a mark below the place; in memory of the caller. */
void decl_error_print(const decl_error *error, const char *name, const char *text, size_t size, struct text *out);

const decl_function *decl_find(const decl_file *file, const char *library, const char *function);

/* Whether it is given by whoever calls the task: all inputs but those that are always NULL. */
bool decl_is_input(const decl_parameter *parameter);
bool decl_is_output(const decl_parameter *parameter);
/* The content type of an output of this form and type: "array/f8" for arrays, "array/f8[]" for one value, "text". */
char *decl_content_type(scratch *memory, decl_form form, const decl_type *type);

/* The functions as JSON, for clients; the signatures of their tasks, for people. */
void decl_describe(const decl_file *file, text *out);
void decl_task_signature(const decl_library *library, const decl_function *function, text *out);

#endif
