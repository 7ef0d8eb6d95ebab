/* Calls functions of the C library by declarations, with any arguments and any objects as inputs. */
#include "call.h"
#include "fake_call.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Functions that keep to what is declared, whatever they are given. What follows the first parameter of ffs, ffsl and abs
 * is passed, but they don't look at it. */
static const char declarations[] =
    "typedef struct { int quot; int rem; } div_t;\n"
    "typedef struct { unsigned short high; unsigned short low; } address;\n"
    "enum colour { RED, GREEN = 5 };\n"
    "library c = \"libc.so.6\", \"libm.so.6\" {\n"
    "  void memcpy(void to[n], const void from[n], size_t n);\n"
    "  void swab(const void from[n], void to[max(n, 1)], ssize_t n);\n"
    "  size_t strlen(const char *text);\n"
    "  size_t strnlen(const char text[n], size_t n);\n"
    "  address inet_makeaddr(int net, enum colour host = GREEN);\n"
    "  double fma(double x, float y = 2, double z = 0.5);\n"
    "  double frexp(double x, int *exponent);\n"
    "  int ffs(int byte = 0, inout long double values[rows][columns], int rows, int columns);\n"
    "  int ffsl(int m, void *nothing = NULL, div_t out[m : min(m, 2)], const div_t in[2 * m]);\n"
    "  int abs(bool x, inout div_t *d, const div_t *e, const unsigned short s[len(t)], const char *t = \"abc\");\n"
    "}\n";

enum { function_count = 10 };

static function *functions[function_count];

static void begin(void) {
    static decl_file file;
    static scratch memory;
    decl_error error;
    problem problem;
    if (!decl_parse(declarations, sizeof declarations - 1, &file, &error)) abort();
    if (file.libraries[0]->function_count != function_count) abort();
    for (uint32_t i = 0; i < function_count; i += 1) {
        functions[i] = function_make(file.libraries[0], file.libraries[0]->functions[i], NULL, &memory, &problem);
        if (functions[i] == NULL) abort();
    }
}

/* A text up to a NUL, or to the end. */
static char *take_text(const uint8_t **at, const uint8_t *end) {
    const uint8_t *stop = memchr(*at, 0, (size_t)(end - *at));
    size_t size = (size_t)((stop != NULL ? stop : end) - *at);
    char *text = malloc(size + 1);
    if (text == NULL) abort();
    memcpy(text, *at, size);
    text[size] = 0;
    *at += stop != NULL ? size + 1 : size;
    return text;
}

static void take_input(csw_call *call, const uint8_t **at, const uint8_t *end) {
    size_t i = call->input_count++;
    call->inputs[i].label = take_text(at, end);
    call->inputs[i].content_type = take_text(at, end);
    size_t size = *at != end ? *(*at)++ : 0;
    if (size > (size_t)(end - *at)) size = (size_t)(end - *at);
    void *bytes = NULL;
    if (posix_memalign(&bytes, 16, size != 0 ? size : 1) != 0) abort();
    if (size != 0) memcpy(bytes, *at, size);
    *at += size;
    call->inputs[i].data = bytes;
    call->inputs[i].size = size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (functions[0] == NULL) begin();
    if (size == 0) return 0;
    const uint8_t *at = data + 1, *end = data + size;
    function *function = functions[data[0] % function_count];
    csw_call call = {.bytes_max = 1 << 20, .output_count = function->output_count};
    char *arguments = take_text(&at, end);
    scratch memory = {0};
    call.arguments = arguments;
    while (at != end && call.input_count < fake_inputs_max)
        take_input(&call, &at, end);
    csw_status status = call_function(&call, function, &memory);
    for (size_t i = 0; status == CSW_OK && i < call.output_count; i += 1)
        if (!call.outputs[i].is_set) abort();
    scratch_release(&memory);
    fake_release(&call);
    free(arguments);
    return 0;
}
