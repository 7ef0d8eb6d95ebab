#include "fake_call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- The library's functions ------------------------------------------------------------------------------------ */

csw_bytes csw_call_arguments(const csw_call *call) {
    return (csw_bytes){call->arguments, strlen(call->arguments)};
}
size_t csw_input_count(const csw_call *call) {
    return call->input_count;
}
const char *csw_input_label(const csw_call *call, size_t i) {
    return call->inputs[i].label;
}
const char *csw_input_content_type(const csw_call *call, size_t i) {
    return call->inputs[i].content_type;
}
csw_status csw_input_bytes(csw_call *call, size_t i, csw_bytes *out) {
    *out = (csw_bytes){(char *)call->inputs[i].data + call->offset, call->inputs[i].size};
    return CSW_OK;
}
size_t csw_output_count(const csw_call *call) {
    return call->output_count;
}
const char *csw_output_content_type(const csw_call *call, size_t i) {
    return call->outputs[i].declared_type != NULL ? call->outputs[i].declared_type : "";
}
csw_status csw_output_set_content_type(csw_call *call, size_t i, const char *content_type) {
    free(call->outputs[i].content_type);
    call->outputs[i].content_type = strdup(content_type);
    return CSW_OK;
}
csw_status csw_output_buffer(csw_call *call, size_t i, size_t size, void **out) {
    if (size > call->bytes_max) return csw_fail(call, "output %zu of %zu bytes can't be made", i, size);
    void *data = NULL;
    if (posix_memalign(&data, 16, size == 0 ? 1 : size) != 0) return csw_fail(call, "no memory");
    memset(data, 0, size);
    free(call->outputs[i].data);
    call->outputs[i].data = *out = data;
    call->outputs[i].size = size;
    call->outputs[i].is_set = true;
    return CSW_OK;
}
csw_status csw_output_resize(csw_call *call, size_t i, size_t size, void **out) {
    call->outputs[i].size = size;
    if (out != NULL) *out = call->outputs[i].data;
    return CSW_OK;
}
csw_status csw_output_bytes(csw_call *call, size_t i, const void *data, size_t size) {
    void *room;
    csw_status status = csw_output_buffer(call, i, size, &room);
    if (status == CSW_OK && size != 0) memcpy(room, data, size);
    return status;
}
csw_status csw_fail(csw_call *call, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(call->message, sizeof call->message, format, arguments);
    va_end(arguments);
    return CSW_ETASK;
}

/* --- Inputs as text --------------------------------------------------------------------------------------------- */

static size_t put(const char *code, const char *number, unsigned char *out) {
    long double real = strtold(number, NULL);
    unsigned size = (unsigned)(code[1] - '0');
    double eight = (double)real;
    float four = (float)real;
    int64_t integer = *number == '-' ? strtoll(number, NULL, 10) : (int64_t)strtoull(number, NULL, 10);
    if (strncmp(code, "f16", 3) == 0) size = sizeof real;
    if (code[0] == 'f')
        memcpy(out, size == 4 ? (void *)&four : size == 8 ? (void *)&eight : (void *)&real, size);
    else
        memcpy(out, &integer, size); /* little-endian, as every machine of the tests */
    return size;
}

static void add_input(csw_call *call, char *item) {
    char *colon = strchr(item, ':'), *equals = strchr(item, '=');
    size_t i = call->input_count++;
    unsigned char bytes[4096];
    size_t size = 0;
    if (item[0] == 'a' && strchr(item, '{') != NULL) colon = strrchr(item, ':');
    *colon = 0;
    bool has_label = equals != NULL && equals < colon;
    if (has_label) *equals = 0;
    call->inputs[i].label = has_label ? strdup(item) : strdup("");
    call->inputs[i].content_type = strdup(has_label ? equals + 1 : item);
    const char *code = call->inputs[i].content_type;
    if (strncmp(code, "array/", 6) == 0 && code[6] != '{') {
        for (char *number = strtok(colon + 1, ","); number != NULL; number = strtok(NULL, ","))
            size += put(code + 6, number, bytes + size);
    } else {
        for (const char *at = colon + 1; *at != 0; at += 1)
            bytes[size++] = (unsigned char)(*at == '~' ? 0 : *at);
    }
    void *data = NULL;
    if (posix_memalign(&data, 16, size + call->offset + 1) != 0) abort();
    memcpy((char *)data + call->offset, bytes, size);
    /* Of exactly its size, so that reading past it is found. */
    data = realloc(data, size + call->offset == 0 ? 1 : size + call->offset);
    call->inputs[i].data = data;
    call->inputs[i].size = size;
}

void fake_inputs(csw_call *call, const char *text) {
    char *copy = strdup(text), *at = copy;
    while (at != NULL && *at != 0) {
        char *end = strstr(at, "; ");
        if (end != NULL) *end = 0;
        add_input(call, at);
        at = end != NULL ? end + 2 : NULL;
    }
    free(copy);
}

/* --- Outputs as text -------------------------------------------------------------------------------------------- */

static size_t show_value(const char *code, const unsigned char *data, char *out, size_t size, size_t *used) {
    unsigned bytes = (unsigned)(code[1] - '0');
    uint64_t bits = 0;
    if (strncmp(code, "f16", 3) == 0) {
        long double real;
        memcpy(&real, data, sizeof real);
        *used = sizeof real;
        return (size_t)snprintf(out, size, "%.18Lg", real);
    }
    *used = bytes;
    memcpy(&bits, data, bytes);
    if (code[0] == 'f' && bytes == 4) {
        float real;
        memcpy(&real, data, 4);
        return (size_t)snprintf(out, size, "%.9g", (double)real);
    }
    if (code[0] == 'f') {
        double real;
        memcpy(&real, data, 8);
        return (size_t)snprintf(out, size, "%.17g", real);
    }
    if (code[0] == 'i')
        return (size_t)snprintf(
            out, size, "%lld", (long long)((int64_t)(bits << (64 - 8 * bytes)) >> (64 - 8 * bytes)));
    return (size_t)snprintf(out, size, "%llu", (unsigned long long)bits);
}

void fake_show(const csw_call *call, char *out, size_t size) {
    size_t used = 0;
    *out = 0;
    for (size_t i = 0; i < call->output_count; i += 1) {
        const char *type =
            call->outputs[i].content_type != NULL ? call->outputs[i].content_type : csw_output_content_type(call, i);
        used += (size_t)snprintf(out + used, size - used, "%s%s:", i == 0 ? "" : "; ", type);
        bool are_numbers = strncmp(type, "array/", 6) == 0 && type[6] != '{';
        for (size_t at = 0; at < call->outputs[i].size && used < size - 100;) {
            size_t step = 1;
            if (are_numbers) {
                if (at != 0) out[used++] = ',';
                used += show_value(type + 6, call->outputs[i].data + at, out + used, size - used, &step);
            } else {
                used += (size_t)snprintf(
                    out + used, size - used, type[0] == 't' ? "%c" : "%02x", call->outputs[i].data[at]);
            }
            at += step;
        }
    }
}

void fake_release(csw_call *call) {
    for (size_t i = 0; i < call->input_count; i += 1) {
        free((void *)(uintptr_t)call->inputs[i].label);
        free((void *)(uintptr_t)call->inputs[i].content_type);
        free(call->inputs[i].data);
    }
    for (size_t i = 0; i < fake_outputs_max; i += 1) {
        free(call->outputs[i].content_type);
        free(call->outputs[i].declared_type);
        free(call->outputs[i].data);
    }
}
