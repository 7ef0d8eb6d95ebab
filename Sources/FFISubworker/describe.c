#include "declarations.h"

#include <string.h>

bool decl_is_input(const decl_parameter *parameter) {
    return parameter->direction != DECL_OUT && parameter->form != DECL_NOTHING;
}

bool decl_is_output(const decl_parameter *parameter) {
    return parameter->direction != DECL_IN;
}

char *decl_content_type(scratch *memory, decl_form form, const decl_type *type) {
    if (form == DECL_STRING) return scratch_copy(memory, "text", 4);
    return scratch_print(memory, form == DECL_ARRAY ? "array/%s" : "array/%s[]", type->code);
}

/* --- For clients ------------------------------------------------------------------------------------------------ */

static const char *form_name(const decl_parameter *parameter) {
    bool is_one = parameter->form == DECL_BY_VALUE || parameter->form == DECL_POINTER;
    if (parameter->form == DECL_ARRAY) return "array";
    if (parameter->form == DECL_STRING) return "string";
    return is_one && parameter->type->kind == DECL_STRUCT ? "struct" : "scalar";
}

static void add_output(text *out, const char *name, decl_form form, const decl_type *type) {
    text_add(out, "{\"name\":");
    text_add_json(out, name);
    text_add(out, ",\"content_type\":");
    if (form == DECL_STRING) {
        text_add(out, "\"text\"}");
    } else {
        text_add(out, "\"array/%s%s\"}", type->code, form == DECL_ARRAY ? "" : "[]");
    }
}

static void add_inputs(const decl_function *function, text *out) {
    bool is_first = true;
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        const decl_parameter *parameter = &function->parameters[i];
        if (!decl_is_input(parameter)) continue;
        text_add(out, is_first ? "{\"name\":" : ",{\"name\":");
        is_first = false;
        text_add_json(out, parameter->name);
        text_add(out, ",\"form\":\"%s\",\"code\":", form_name(parameter));
        text_add_json(out, parameter->type->code);
        text_add(out, ",\"c_type\":");
        text_add_json(out, parameter->type->name);
        text_add(out, ",\"dimensions\":%u", (unsigned)parameter->dimension_count);
        text_add(out, ",\"is_optional\":%s", parameter->fallback != NULL ? "true" : "false");
        text_add(out, ",\"is_implied\":%s}", parameter->is_implied ? "true" : "false");
    }
}

static void add_outputs(const decl_function *function, text *out) {
    bool is_first = !function->has_result;
    if (function->has_result)
        add_output(out, "return", function->is_result_text ? DECL_STRING : DECL_BY_VALUE, function->result);
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        const decl_parameter *parameter = &function->parameters[i];
        if (!decl_is_output(parameter)) continue;
        if (!is_first) text_add(out, ",");
        is_first = false;
        add_output(out, parameter->name, parameter->form, parameter->type);
    }
}

static void add_function(const decl_library *library, const decl_function *function, text *out) {
    text_add(out, "{\"library\":");
    text_add_json(out, library->name);
    text_add(out, ",\"name\":");
    text_add_json(out, function->name);
    text_add(out, ",\"signature\":");
    text_add_json(out, function->signature);
    text_add(out, ",\"documentation\":");
    text_add_json(out, function->documentation != NULL ? function->documentation : "");
    text_add(out, ",\"threads\":%u,\"inputs\":[", (unsigned)function->threads);
    add_inputs(function, out);
    text_add(out, "],\"outputs\":[");
    add_outputs(function, out);
    text_add(out, "]}");
}

void decl_describe(const decl_file *file, text *out) {
    bool is_first = true;
    text_add(out, "[");
    for (uint32_t i = 0; i < file->library_count; i += 1) {
        const decl_library *library = file->libraries[i];
        for (uint32_t k = 0; k < library->function_count; k += 1) {
            if (!is_first) text_add(out, ",");
            is_first = false;
            add_function(library, library->functions[k], out);
        }
    }
    text_add(out, "]");
}

/* --- For people ------------------------------------------------------------------------------------------------- */

static void add_shape(const decl_parameter *parameter, text *out) {
    if (parameter->form == DECL_STRING) {
        text_add(out, "text");
        return;
    }
    text_add(out, "%s", parameter->type->name);
    for (uint32_t i = 0; i < parameter->dimension_count; i += 1)
        text_add(out, "[]");
    if (parameter->form == DECL_ARRAY && parameter->dimension_count == 0) text_add(out, "[]");
}

/* `ffi/libz/crc32(data: unsigned char[], crc: unsigned long = …) -> (return: unsigned long)` */
void decl_task_signature(const decl_library *library, const decl_function *function, text *out) {
    const char *separator = "";
    text_add(out, "ffi/%s/%s(", library->name, function->name);
    for (int are_optional = 0; are_optional < 2; are_optional += 1) {
        for (uint32_t i = 0; i < function->parameter_count; i += 1) {
            const decl_parameter *parameter = &function->parameters[i];
            if (!decl_is_input(parameter) || parameter->is_implied) continue;
            if ((parameter->fallback != NULL) != are_optional) continue;
            text_add(out, "%s%s: ", separator, parameter->name);
            add_shape(parameter, out);
            if (are_optional) text_add(out, " = %s", parameter->fallback_text);
            separator = ", ";
        }
    }
    text_add(out, ") -> (");
    separator = "";
    if (function->has_result) {
        text_add(out, "return: %s", function->is_result_text ? "text" : function->result->name);
        separator = ", ";
    }
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        const decl_parameter *parameter = &function->parameters[i];
        if (!decl_is_output(parameter)) continue;
        text_add(out, "%s%s: ", separator, parameter->name);
        add_shape(parameter, out);
        separator = ", ";
    }
    text_add(out, ")");
}
