/* Feeds anything to the reader of declarations, and to that of the arguments of their functions. */
#include "function.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every expression, with numbers from the input. */
static void evaluate(const decl_function *function, const uint8_t *data, size_t size) {
    decl_value values[decl_parameters_max] = {0};
    int64_t returned = size != 0 ? (int64_t)data[0] - 128 : 0, out = 0;
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        uint64_t bits = 0;
        if (size >= 8) memcpy(&bits, data + (i * 5) % (size - 7), 8);
        values[i] = (decl_value){(int64_t)bits, (int64_t)(bits >> 1), bits & 1, bits & 2};
    }
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        const decl_parameter *parameter = &function->parameters[i];
        for (uint32_t k = 0; k < parameter->dimension_count; k += 1)
            decl_evaluate(parameter->dimensions[k], values, NULL, &out);
        if (parameter->used != NULL) decl_evaluate(parameter->used, values, &returned, &out);
        if (parameter->fallback != NULL && parameter->form != DECL_NOTHING && parameter->form != DECL_STRING) {
            problem problem;
            void *room = malloc(parameter->type->size);
            if (room != NULL) value_from_fallback(parameter, values, room, &problem);
            free(room);
        }
    }
}

/* A value of every parameter's type from JSON, in memory of exactly its size. */
static void read_arguments(const decl_function *function, const char *text, size_t size) {
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        const decl_type *type = function->parameters[i].type;
        json from = {.at = text, .end = text + size}, list = from;
        scratch memory = {0};
        problem problem;
        uint64_t count;
        size_t string_size;
        int64_t integer;
        unsigned char *room = malloc(type->size);
        if (room != NULL && value_from_json(type, &from, &memory, room, &problem)) value_integer(type, room, &integer);
        free(room);
        if (json_peek(&list) == JSON_LIST && value_count_json(list, &count) && count < 10000) {
            room = malloc(count * type->size + 1);
            unsigned char *out = room;
            if (room != NULL) value_list_from_json(type, &list, &memory, &out, &problem);
            free(room);
        }
        from = (json){.at = text, .end = text + size};
        json_string(&from, &memory, &string_size);
        scratch_release(&memory);
    }
}

/* Declarations, a NUL, and arguments. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
    size_t declarations_size = end != NULL ? (size_t)(end - data) : size;
    size_t arguments_size = end != NULL ? size - declarations_size - 1 : 0;
    char *declarations = malloc(declarations_size + 1), *arguments = malloc(arguments_size + 1);
    decl_file file;
    decl_error error;
    text shown = {0};
    if (declarations == NULL || arguments == NULL) abort();
    memcpy(declarations, data, declarations_size);
    if (arguments_size != 0) memcpy(arguments, end + 1, arguments_size);
    /* Without what lies behind them, so that reading on is found. */
    char *exact = realloc(declarations, declarations_size != 0 ? declarations_size : 1);
    declarations = exact != NULL ? exact : declarations;
    if (decl_parse(declarations, declarations_size, &file, &error)) {
        decl_describe(&file, &shown);
        for (uint32_t i = 0; i < file.library_count; i += 1)
            for (uint32_t k = 0; k < file.libraries[i]->function_count; k += 1) {
                const decl_function *function = file.libraries[i]->functions[k];
                decl_task_signature(file.libraries[i], function, &shown);
                evaluate(function, data, size);
                read_arguments(function, arguments, arguments_size);
            }
    } else {
        decl_error_print(&error, "FILE", declarations, declarations_size, &shown);
    }
    text_release(&shown);
    decl_release(&file);
    free(declarations);
    free(arguments);
    return 0;
}
