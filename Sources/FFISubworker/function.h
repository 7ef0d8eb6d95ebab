/* A declared function, found in its library and ready to be called. */
#ifndef FFI_FUNCTION_H
#define FFI_FUNCTION_H

#include "library.h"

#include <ffi.h>

typedef struct function_slot { /* one per parameter */
    const decl_parameter *declared;
    void *value;              /* memory for the value, or for what a pointer points to */
    void *pointer;            /* what is passed where it is a pointer */
    const char *content_type; /* of its output */
    bool is_given;            /* the rest is of one call */
    bool is_shaped;
    uint64_t count; /* elements */
    int64_t shape[decl_dimensions_max];
} function_slot;

typedef struct function {
    const char *title; /* "libm/cos" */
    const decl_function *declared;
    const decl_library *library;
    void (*code)(void);
    const char *(*error_string)(int);
    void (*free_text)(void *); /* NULL: a returned text stays the library's */
    ffi_cif cif;
    ffi_type **types;
    void **arguments;
    void *result;
    const char *result_content_type;
    int error_number; /* errno after the call */
    function_slot *slots;
    decl_value *values;
    uint32_t *order; /* what a caller gives, as lists take them: first what has no default */
    uint32_t order_count;
    uint32_t output_count;
} function;

/* Finds a function and works out how it is called; loads and begins its library where that was not done before.
 *   declared, library   must outlive it
 *   memory              what it is made in
 *   returns             NULL after setting the problem */
function *function_make(
    const decl_library *library, const decl_function *declared, const char *directory, scratch *memory,
    problem *problem);

/* Finds a function as function_make() does, and the library's initialisers, but calls nothing. */
bool function_check(
    const decl_library *library, const decl_function *declared, const char *directory, scratch *memory,
    problem *problem);

/* Forgets what the slots were given. */
void function_reset(function *self);
/* Values that follow from others: defaults, and lengths of arrays. False after setting the problem. */
bool function_derive(function *self, problem *problem);
/* Calls it with what is in the slots, and looks at its errors; false after setting the problem. */
bool function_call(function *self, problem *problem);
/* Gives a returned text back to the library. */
void function_free_text(const function *self);
/* What it returned, as an integer; false for other kinds. */
bool function_returned(const function *self, int64_t *out);

#endif
