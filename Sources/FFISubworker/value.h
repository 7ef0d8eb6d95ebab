/* C values in memory: made from JSON, from declarations, and read back. */
#ifndef FFI_VALUE_H
#define FFI_VALUE_H

#include "declarations.h"
#include "json.h"

/* Why a value can't be had, for people. */
typedef struct problem {
    char text[320];
} problem;

__attribute__((__format__(__printf__, 2, 3))) bool problem_set(problem *self, const char *format, ...);

/* Writes a value of a type; memory of its size and alignment. False after setting the problem. */
bool value_from_json(const decl_type *type, json *from, scratch *memory, void *out, problem *problem);
/* The default of a parameter that has one value; UNKNOWN when it needs others that are not known yet. */
decl_outcome value_from_fallback(
    const decl_parameter *parameter, const decl_value *values, void *out, problem *problem);

/* How many values a list has, with lists in it counted by what is in them; false when it is broken. */
bool value_count_json(json from, uint64_t *count);
/* Writes the values of a list, of lists in it too, one after the other. */
bool value_list_from_json(const decl_type *type, json *from, scratch *memory, unsigned char **out, problem *problem);

/* The integer in memory; false for one past 63 bits, and for other kinds. */
bool value_integer(const decl_type *type, const void *value, int64_t *out);

#endif
