/* Calls of every kind of declaration on a library made for it: `calls_test LIBRARY`. */
#include "call.h"
#include "fake_call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *test_library;
static int failed_count, row_count;

typedef struct row {
    const char *declarations; /* in the library; the last function is the one that is called */
    const char *arguments;
    const char *inputs;   /* see fake_inputs() */
    const char *expected; /* see fake_show(); with a '!' a part of the error */
    size_t offset;
} row;

static const char types[] = "struct point { double x, y; };\n"
                            "struct small { int8_t a; int16_t b; };\n"
                            "struct large { char name[5]; struct point corners[2]; int64_t number; float weight; };\n"
                            "typedef struct { float x, y; } pair;\n"
                            "enum colour { RED, GREEN = 5, BLUE };\n"
                            "enum { TWO = 2 };\n";

static void complain(const row *row, const char *found) {
    failed_count += 1;
    fprintf(
        stderr, "%s %s %s\n  expected %s\n  found    %s\n", row->declarations, row->arguments,
        row->inputs != NULL ? row->inputs : "", row->expected, found);
}

static void compare(const row *row, csw_status status, const csw_call *call) {
    static char found[1 << 16];
    bool is_failure = row->expected[0] == '!';
    if (status == CSW_OK) {
        fake_show(call, found, sizeof found);
        if (is_failure || strcmp(found, row->expected) != 0) complain(row, found);
    } else if (!is_failure || strstr(call->message, row->expected + 1) == NULL) {
        complain(row, call->message);
    }
}

/* One call of the last function that is declared. */
static void run(const row *row) {
    decl_file file;
    decl_error error;
    scratch memory = {0}, call_memory = {0};
    problem problem;
    text whole = {0};
    csw_call call = {.arguments = row->arguments, .offset = row->offset, .bytes_max = 1 << 24};
    row_count += 1;
    text_add(&whole, "%slibrary test = \"%s\" { %s }", types, test_library, row->declarations);
    if (!decl_parse(whole.bytes, whole.size, &file, &error)) {
        text shown = {0};
        decl_error_print(&error, "test", whole.bytes, whole.size, &shown);
        complain(row, shown.bytes);
        text_release(&shown);
    } else {
        const decl_library *library = file.libraries[0];
        const decl_function *declared = library->functions[library->function_count - 1];
        function *function = function_make(library, declared, NULL, &memory, &problem);
        if (function == NULL) {
            csw_fail(&call, "%s", problem.text);
            compare(row, CSW_ETASK, &call);
        } else {
            /* Twice: nothing may be left of the first call. */
            for (int time = 0; time < 2; time += 1) {
                csw_call call = {.arguments = row->arguments, .offset = row->offset, .bytes_max = 1 << 24};
                call.output_count = function->output_count;
                if (row->inputs != NULL) fake_inputs(&call, row->inputs);
                compare(row, call_function(&call, function, &call_memory), &call);
                scratch_reset(&call_memory);
                fake_release(&call);
            }
        }
    }
    text_release(&whole);
    scratch_release(&memory);
    scratch_release(&call_memory);
    decl_release(&file);
}

/* --- One value of each type ------------------------------------------------------------------------------------- */

static const struct type_row {
    const char *name, *type, *code, *values;
    const char *bad[4];
} type_rows[] = {
    {"bool", "bool", "b1", "1,0", {"2", "-1", "\"yes\"", "0.5"}},
    {"char", "char", "i1", "-128,127", {"128", "-129"}},
    {"signed_char", "signed char", "i1", "-128,127", {"128", "-129", "true"}},
    {"unsigned_char", "unsigned char", "u1", "0,255", {"256", "-1"}},
    {"short", "short int", "i2", "-32768,32767", {"32768", "-32769"}},
    {"unsigned_short", "unsigned short", "u2", "0,65535", {"65536", "-1"}},
    {"int", "int", "i4", "-2147483648,2147483647", {"2147483648", "-2147483649", "1.5", "[1]"}},
    {"unsigned_int", "unsigned", "u4", "0,4294967295", {"4294967296", "-1"}},
    {"long", "long", "i8", "-9223372036854775808,9223372036854775807", {"9223372036854775808", "1e30"}},
    {"unsigned_long", "unsigned long", "u8", "0,18446744073709551615", {"18446744073709551616", "-1"}},
    {"long_long", "long long int", "i8", "-9223372036854775808,9223372036854775807", {"9223372036854775808"}},
    {"unsigned_long_long", "unsigned long long", "u8", "1,18446744073709551615", {"18446744073709551616"}},
    {"float", "float", "f4", "0.5,-3.40282347e+38", {"1e39", "\"x\"", "true", "{}"}},
    {"double", "double", "f8", "0.10000000000000001,-1.7976931348623157e+308", {"1e309", "\"x\"", "[]"}},
    {"long_double", "long double", "f16", "0.25,-1.5,1e+4000", {"1e5000"}},
    {"int8_t", "int8_t", "i1", "-128,127", {"128"}},
    {"uint8_t", "uint8_t", "u1", "0,255", {"256"}},
    {"int16_t", "int16_t", "i2", "-32768,32767", {"32768"}},
    {"uint16_t", "uint16_t", "u2", "0,65535", {"65536"}},
    {"int32_t", "int32_t", "i4", "-2147483648,2147483647", {"2147483648"}},
    {"uint32_t", "uint32_t", "u4", "0,4294967295", {"4294967296"}},
    {"int64_t", "int64_t", "i8", "-9223372036854775808,9223372036854775807", {"9223372036854775808"}},
    {"uint64_t", "uint64_t", "u8", "0,18446744073709551615", {"18446744073709551616"}},
    {"size_t", "size_t", "u8", "0,18446744073709551615", {"-1"}},
    {"ssize_t", "ssize_t", "i8", "-1,1", {"9223372036854775808"}},
};

/* A declaration, arguments and outputs from patterns in which %s stands for the type's parts. */
static void run_type(const struct type_row *type) {
    char declaration[300], arguments[200], inputs[200], expected[200], values[100];
    row row = {declaration, arguments, NULL, expected, 0};
    snprintf(values, sizeof values, "%s", type->values);
    char *rest = NULL;
    for (char *value = strtok_r(values, ",", &rest); value != NULL; value = strtok_r(NULL, ",", &rest)) {
        snprintf(arguments, sizeof arguments, "[%s]", value);
        snprintf(expected, sizeof expected, "array/%s[]:%s", type->code, value);
        snprintf(declaration, sizeof declaration, "%s same_%s(%s);", type->type, type->name, type->type);
        row.inputs = NULL;
        run(&row);
        /* A pointer to char is a text, so one of them is an array. */
        bool is_char = strcmp(type->name, "char") == 0;
        if (is_char)
            snprintf(declaration, sizeof declaration, "char same_char(char x);");
        else
            snprintf(
                declaration, sizeof declaration, "void point_%s(const %s *x, %s *y);", type->name, type->type,
                type->type);
        run(&row);
        /* The same from an object, by its label and without one. */
        snprintf(arguments, sizeof arguments, "null");
        snprintf(inputs, sizeof inputs, "x=array/%s[]:%s", type->code, value);
        row.inputs = inputs;
        run(&row);
        row.inputs = inputs + 2;
        run(&row);
    }
    snprintf(
        declaration, sizeof declaration, "void copy_%s(const %s x[n], size_t n, %s y[n]);", type->name, type->type,
        type->type);
    snprintf(inputs, sizeof inputs, "array/%s:%s", type->code, type->values);
    snprintf(expected, sizeof expected, "array/%s:%s", type->code, type->values);
    row.inputs = inputs;
    for (row.offset = 0; row.offset < 16; row.offset += 5)
        run(&row);
    row.offset = 0;
    row.inputs = NULL;
    snprintf(arguments, sizeof arguments, "[[%s]]", type->values);
    run(&row);
    for (size_t i = 0; i < 4 && type->bad[i] != NULL; i += 1) {
        snprintf(declaration, sizeof declaration, "%s same_%s(%s x);", type->type, type->name, type->type);
        snprintf(arguments, sizeof arguments, "{\"x\": %s}", type->bad[i]);
        snprintf(expected, sizeof expected, "!test/same_%s: 'x': ", type->name);
        run(&row);
    }
}

/* --- Everything else -------------------------------------------------------------------------------------------- */

#define DOT "double dot(size_t n, const double x[n], const double y[n]);"
#define MULTIPLY                                                                                                       \
    "void multiply(int rows, int columns, const double matrix[rows][columns], const double vector[columns], double "   \
    "out[rows]);"
#define NAMED(name)                                                                                                    \
    "{\"name\": " name ", \"corners\": [{\"x\": 1, \"y\": 2}, {\"x\": 3, \"y\": 4}], \"number\": 7, \"weight\": 1.5}"
#define LARGE NAMED("[72, 101, 108, 108, 111]")

static const row rows[] = {
    {"double mix(int8_t a, double b, uint16_t c, float d, int e, double f, unsigned long g, float h, int64_t i, double "
     "j, bool k, "
     "double l, short m, double n, double o, double p);",
     "[1,1,1,1,1,1,1,1,1,1,true,1,1,1,1,1]", NULL, "array/f8[]:136", 0},

    /* Lengths that follow from arrays. */
    {DOT, "null", "array/f8:1,2,3; array/f8:4,5,6", "array/f8[]:32", 0},
    {DOT, "", "y=array/f8:4,5,6; x=array/f8:1,2,3", "array/f8[]:32", 0},
    {DOT, "[[1,2,3],[4,5,6]]", NULL, "array/f8[]:32", 0},
    {DOT, "{\"y\":[4,5,6]}", "array/f8:1,2,3", "array/f8[]:32", 0},
    {DOT, "{\"n\":3}", "array/f8:1,2,3; array/f8:4,5,6", "array/f8[]:32", 0},
    {DOT, "null", "array/f8:; array/f8:", "array/f8[]:0", 0},
    {DOT, "null", "array/f8[3]:1,2,3; array/f8[1,3]:4,5,6", "array/f8[]:32", 0},
    {DOT, "null", "array/f8:1,2,3; array/f8:4,5", "!'y' has 2 elements, but its length is declared as 3", 0},
    {DOT, "{\"n\":2}", "array/f8:1,2,3; array/f8:4,5,6", "!'x' has 3 elements, but its length is declared as 2", 0},
    {DOT, "null", "array/f4:1,2; array/f8:1,2", "!'x' takes double (f8) but was given array/f4: convert it first", 0},
    {DOT, "null", "array/i8:1,2; array/f8:1,2", "!was given array/i8", 0},
    {DOT, "null", ":1234567; array/f8:1,2", "!7 bytes, which is no multiple of the 8 of double", 0},
    {DOT, "null", "pickle:12345678; array/f8:1", "!was given pickle", 0},
    {DOT, "null", "json:12345678; array/f8:1", "!was given json", 0},
    {DOT, "null", "user/mine:~~~~~~~~; :~~~~~~~~", "array/f8[]:0", 0},
    {DOT, "null", "array/f8:1",
     "!there is no value for 'y'; its task is ffi/test/dot(x: double[], y: double[]) -> (return: double)", 0},
    {DOT, "null", "array/f8:1; array/f8:1; array/f8:1", "!there are more objects than inputs", 0},
    {DOT, "null", "z=array/f8:1; array/f8:1", "!there is no input 'z'", 0},
    {DOT, "null", "x=array/f8:1; x=array/f8:1", "!given twice: 'x'", 0},
    {DOT, "[[1]]", "x=array/f8:1; y=array/f8:1", "!more arguments", 0},
    {DOT, "{\"x\":[1]}", "x=array/f8:1; y=array/f8:1", "!given twice: 'x'", 0},
    {DOT, "[[1], 5]", NULL, "!'y' is an array", 0},
    {DOT, "[[1], [\"a\"]]", NULL, "!'y': \"a\" is a text", 0},
    {DOT, "[[[1,2],[3,4]],[[1,1],[1,1]]]", NULL, "array/f8[]:10", 0},
    {DOT, "7", "array/f8:1; array/f8:1", "!arguments are a list", 0},
    {DOT, "[", NULL, "!broken JSON", 0},
    {DOT, "[[1],[1]", NULL, "!broken JSON", 0},
    {DOT, "{\"x\" [1]}", NULL, "!broken JSON", 0},
    {DOT, "{\"q\": [1]}", NULL, "!there is no input 'q'", 0},
    {"double dot(uint8_t n, const double x[n], const double y[len(x)]);", "null", "array/f8:1,2; array/f8:1,2,3",
     "!'y' has 3", 0},
    {"int sum_bytes(const unsigned char data[n], uint8_t n);", "null",
     ":0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
     "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
     "0123456789012345678901234567890123456789012345678901234567890123456789",
     "!'data' has too many elements for n, which is uint8_t", 0},

    /* Outputs, and arrays that go in and out. */
    {"void scale(inout double x[n], size_t n, double factor);", "[3]", "array/f8:1,2", "array/f8:3,6", 0},
    {"void scale(inout double x[], size_t n = len(x), double factor = 0.5);", "null", "array/f8:1,2", "array/f8:0.5,1",
     0},
    {"void range(int first, int count, int out[count]);", "[5, 3]", NULL, "array/i4:5,6,7", 0},
    {"void range(int first = -1, int count = TWO * 2, int out[count]);", "null", NULL, "array/i4:-1,0,1,2", 0},
    {"void range(int first, int count, int out[count]);", "[5, 0]", NULL, "array/i4:", 0},
    {"void range(int first, int count, int out[count]);", "[5, -3]", NULL,
     "!the length of 'out' can't be computed: it is negative", 0},
    {"void range(int first, int count = 1, int out[8 / first]);", "[0]", NULL, "!divided by zero", 0},
    {"void range(int first, long count, int out[count * 4611686018427387904]);", "[5, 3]", NULL,
     "!larger than 9223372036854775807", 0},
    {"void range(int first, long count, int out[count]);", "[5, 4611686018427387904]", NULL,
     "!more elements of 4 bytes than memory", 0},
    {"void range(int first, unsigned long count, int out[count]);", "[5, 18446744073709551615]", NULL,
     "!larger than 9223372036854775807", 0},
    {"void range(int first, int count, int out[count]);", "[5, 100000000]", NULL,
     "!output 0 of 400000000 bytes can't be made", 0},
    {"void range(int first, int count, int out[count][4611686018427387904]);", "[5, 8]", NULL, "!than memory can hold",
     0},
    {"void range(int first, int count, int out[count << 61]);", "[5, 8]", NULL, "!larger than 9223372036854775807", 0},
    {"int evens(const int x[n], int n, int out[n : return]);", "[[1,2,3,4]]", NULL, "array/i4[]:2; array/i4:2,4", 0},
    {"int evens(const int x[n], int n, int out[max(n, 1) : return]);", "[[1,3]]", NULL, "array/i4[]:0; array/i4:", 0},
    {"int evens_into(const int x[n], int n, int out[*room], inout int *room = n) errors = \"nonzero\";",
     "[[1,2,3,4,6]]", NULL, "array/i4:2,4,6; array/i4[]:3", 0},
    {"int evens_into(const int x[n], int n, int out[*room], inout int *room) errors = \"nonzero\";", "[[1,2,3,4,6], 1]",
     NULL, "!test/evens_into failed: it returned 7", 0},
    {"int claim(int out[3 : *used], int *used) errors = \"nonzero\";", "null", NULL,
     "!after the call the length of 'out' is 100, but it has room for 3", 0},

    /* Dimensions. */
    {MULTIPLY, "null", "array/f8[2,3]:1,2,3,4,5,6; array/f8:1,1,1", "array/f8:6,15", 0},
    {MULTIPLY, "null", "array/f8:1,2,3,4,5,6; array/f8:1,1,1", "array/f8:6,15", 0},
    {MULTIPLY, "null", "array/f8:1,2,3,4,5; array/f8:1,1,1", "!'matrix' has 5 elements, which is no multiple of 3", 0},
    {MULTIPLY, "null", "array/f8[3,2]:1,2,3,4,5,6; array/f8:1,1,1",
     "!'vector' has 3 elements, but its length is declared as 2", 0},
    {MULTIPLY, "null", "array/f8[2,3,1]:1,2,3,4,5,6; array/f8:1,1,1",
     "!'matrix' has 2 dimensions but was given array/f8[2,3,1]", 0},
    {"void transpose(int rows, int columns, const int matrix[rows][columns], int out[columns][rows]);", "null",
     "array/i4[2,3]:1,2,3,4,5,6", "array/i4[3,2]:1,4,2,5,3,6", 0},
    {"void transpose(int rows, int columns, const int matrix[rows][columns], int out[columns][rows]);", "{\"rows\":2}",
     "array/i4:1,2,3,4,5,6", "array/i4[3,2]:1,4,2,5,3,6", 0},
    {"void transpose(int rows, int columns, const int matrix[rows][columns], int out[columns][rows]);", "null",
     "array/i4:1,2,3,4,5,6", "!'rows' does not follow from the arrays, so it must be given", 0},
    {"void transpose(int rows, int columns, const int matrix[rows * columns], int out[rows * columns]);",
     "{\"columns\":3}", "array/i4:1,2,3,4,5,6", "array/i4:1,4,2,5,3,6", 0},

    /* Bytes and texts. */
    {"int sum_bytes(const void data[n], size_t n);", "null", "pickle:abc", "array/i4[]:294", 0},
    {"int sum_bytes(const uint8_t data[n], size_t n);", "null", "array/f8:0", "array/i4[]:0", 0},
    {"size_t length(const char *text);", "[\"h\\u00e4t\\ud83d\\ude00\\n\"]", NULL, "array/u8[]:9", 0},
    {"size_t length(const char *text);", "null", "text:hello", "array/u8[]:5", 0},
    {"size_t length(const char *text);", "null", "text:he~lo", "!can't have a NUL byte", 0},
    {"size_t length(const char *text);", "[\"a\\u0000b\"]", NULL, "!can't have a NUL byte", 0},
    {"size_t length(const char *text);", "[5]", NULL, "!'text' must be a string", 0},
    {"size_t length(const char *text = \"default\");", "null", NULL, "array/u8[]:7", 0},
    {"const char *weekday(int day);", "[1]", NULL, "text:Tuesday", 0},
    {"const char *weekday(int day);", "[7]", NULL, "!returned NULL instead of a text", 0},
    {"const char *weekday(int day) errors = \"null\";", "[7]", NULL, "!test/weekday failed: it returned NULL", 0},
    {"int greet(const char *name, char out[size : return], size_t size = 7 + len(name) + 1);", "[\"you\"]", NULL,
     "array/i4[]:10; array/i1:72,101,108,108,111,44,32,121,111,117", 0},
    {"char *make_text(int n) freed_by = free_text;", "[3]", NULL, "text:text 3", 0},
    {"freed_by = free_text; int same_int(int x); char *make_text(int n);", "[4]", NULL, "text:text 4", 0},
    {"int texts(void);", "[]", NULL, "array/i4[]:0", 0},
    {"char *make_text(int n) freed_by = no_such_function;", "[3]", NULL, "!has no function 'no_such_function'", 0},
    {"bool is_null(void *pointer = NULL);", "null", NULL, "array/b1[]:1", 0},
    {"bool is_null(char **pointer = NULL);", "[]", NULL, "array/b1[]:1", 0},
    {"double same_double(double x);", "null", "json:0.25", "array/f8[]:0.25", 0},
    {"double same_double(double x);", "null", "text: 0.25 ", "array/f8[]:0.25", 0},
    {"double same_double(double x);", "null", "text:0.25 1", "!there is more than one value", 0},
    {"double same_double(double x);", "null", "text:abc", "!'x' can't be read from text", 0},
    {"double same_double(double x);", "null", ":1234", "!'x' is double of 8 bytes, but was given 4", 0},
    {"double same_double(double x);", "null", "array/i8[]:1", "!was given array/i8[]", 0},
    {"double same_double(double x);", "[\"inf\"]", NULL, "array/f8[]:inf", 0},
    {"double same_double(double x);", "[null]", NULL, "!there is no value for 'x'", 0},
    {"double same_double(double x = -2.5);", "[null]", NULL, "array/f8[]:-2.5", 0},
    {"double same_double(double x = TWO + 1);", "null", NULL, "array/f8[]:3", 0},
    {"int same_int(int x);", "[1] 2", NULL, "!the arguments are broken JSON", 0},
    {"int same_int(int x);", "{\"x\": 1}, 2", NULL, "!the arguments are broken JSON", 0},
    {"enum flag { HIGH = 0x80000000 }; enum flag same_unsigned_int(enum flag x);", "[\"HIGH\"]", NULL,
     "array/u4[]:2147483648", 0},
    {"void range(int first, int count = first * 3000000000, int out[count]);", "[1]", NULL,
     "!3000000000 does not fit into int", 0},
    {"int same_int(int x);", "[1e3]", NULL, "array/i4[]:1000", 0},
    {"int misalignment(const long double x[n], size_t n);", "null", "array/f16:1,2", "array/i4[]:0", 0},
    {"int misalignment(const long double x[n], size_t n);", "null", "array/f16:1,2", "array/i4[]:0", 8},
    {"int misalignment(const long double x[n], size_t n);", "null", "array/f16:1,2", "array/i4[]:0", 1},

    /* Structs and enums. */
    {"struct point mirror(struct point p);", "[{\"x\": 1, \"y\": 2}]", NULL,
     "array/{x:f8@0,y:f8@8}16[]:0000000000000040000000000000f03f", 0},
    {"struct point mirror(struct point p);", "[{\"x\": 1}]", NULL, "!the field \"y\" of struct point is missing", 0},
    {"struct point mirror(struct point p);", "[{\"x\": 1, \"y\": 2, \"z\": 3}]", NULL,
     "!struct point has no field \"z\"", 0},
    {"struct point mirror(struct point p);", "[5]", NULL, "!struct point is an object", 0},
    {"struct point mirror(struct point p);", "null", "array/{x:f8@0,y:f8@8}16[]:~~~~~~~~~~~~~~~~",
     "array/{x:f8@0,y:f8@8}16[]:00000000000000000000000000000000", 0},
    {"struct point mirror(struct point p);", "null", "array/{y:f8@0,x:f8@8}16[]:~~~~~~~~~~~~~~~~", "!convert it first",
     0},
    {"struct small negate(struct small s);", "[{\"a\": 1, \"b\": -2}]", NULL, "array/{a:i1@0,b:i2@2}4[]:ff000200", 0},
    {"pair swap(pair p);", "[{\"x\": 1, \"y\": 2}]", NULL, "array/{x:f4@0,y:f4@4}8[]:000000400000803f", 0},
    {"struct large grow(struct large l, double by);", "[" LARGE ", 1]", NULL,
     "array/{name:i1[5]@0,corners:{x:f8@0,y:f8@8}16[2]@8,number:i8@40,weight:f4@48}56[]:"
     "47656c6c6f000000000000000000f03f000000000000004000000000000010400000000000001040080000000000000000004040"
     "00000000",
     0},
    {"struct large grow(struct large l, double by);", "[" NAMED("\"Hel\"") ", 1]", NULL,
     "array/{name:i1[5]@0,corners:{x:f8@0,y:f8@8}16[2]@8,number:i8@40,weight:f4@48}56[]:"
     "47656c0000000000000000000000f03f000000000000004000000000000010400000000000001040080000000000000000004040"
     "00000000",
     0},
    {"struct large grow(struct large l, double by);", "[" NAMED("\"Hellos\"") ", 1]", NULL,
     "!the text for 'name' has 6 bytes, but it has 5", 0},
    {"struct large grow(struct large l, double by);", "[1]",
     "array/{name:i1[5]@0,corners:{x:f8@0,y:f8@8}16[2]@8,number:i8@40,weight:f4@48}56[]:"
     "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcd",
     "array/{name:i1[5]@0,corners:{x:f8@0,y:f8@8}16[2]@8,number:i8@40,weight:f4@48}56[]:"
     "4762636465666768696a6b6c6d6e6f707172737475767778797a6162636465666768696a6b6c6d6e70707172737475767778f97a61626364",
     0},
    {"struct large grow(struct large l, double by);", "[{\"name\": [1, 2]}, 1]", NULL,
     "!'name' must be a list of 5, or a text", 0},
    {"double norm1(const struct point *p);", "[{\"x\": 1, \"y\": 2}]", NULL, "array/f8[]:3", 0},
    {"void middle(const struct point points[n], size_t n, struct point *out);",
     "[[{\"x\": 1, \"y\": 2}, {\"x\": 3, \"y\": 2}]]", NULL,
     "array/{x:f8@0,y:f8@8}16[]:00000000000000400000000000000040", 0},
    {"void move(inout struct point *p, double dx);", "[{\"x\": 1, \"y\": 2}, 1]", NULL,
     "array/{x:f8@0,y:f8@8}16[]:00000000000000400000000000000040", 0},
    {"enum colour next_colour(enum colour c);", "[\"RED\"]", NULL, "array/i4[]:5", 0},
    {"enum colour next_colour(enum colour c = GREEN);", "null", NULL, "array/i4[]:6", 0},
    {"enum colour next_colour(enum colour c);", "[6]", NULL, "array/i4[]:0", 0},
    {"enum colour next_colour(enum colour c);", "[\"PINK\"]", NULL, "!\"PINK\" is no constant of enum colour", 0},

    /* Errors. */
    {"int fail_with(int code) errors = \"nonzero\";", "[0]", NULL, "", 0},
    {"int fail_with(int code) errors = \"nonzero\";", "[3]", NULL, "!test/fail_with failed: it returned 3", 0},
    {"int fail_with(int code) errors = \"nonzero\", error_string = test_error;", "[3]", NULL,
     "!test/fail_with failed: test error 3 (it returned 3)", 0},
    {"errors = \"nonzero\"; error_string = test_error; int fail_with(int code);", "[3]", NULL, "!test error 3", 0},
    {"errors = \"nonzero\"; int fail_with(int code) errors = \"none\";", "[3]", NULL, "array/i4[]:3", 0},
    {"errors = \"nonzero\"; double root(double x);", "[3]", NULL, "array/f8[]:1.5", 0},
    {"int fail_with(int code) errors = \"negative\";", "[3]", NULL, "array/i4[]:3", 0},
    {"int fail_with(int code) errors = \"negative\";", "[-3]", NULL, "!test/fail_with failed: it returned -3", 0},
    {"int fail_errno(int code) errors = \"negative\";", "[2]", NULL,
     "!test/fail_errno failed: No such file or directory (it returned -1, errno 2)", 0},
    {"int fail_errno(int code) errors = \"errno\";", "[2]", NULL, "!No such file or directory (it set errno, errno 2)",
     0},
    {"double root(double x) errors = \"errno\";", "[-1]", NULL, "!Numerical argument out of domain", 0},
    {"double root(double x) errors = \"errno\";", "[1]", NULL, "array/f8[]:0.5", 0},
    {"void *find(int x) errors = \"null\";", "[1]", NULL, "", 0},
    {"void *find(int x) errors = \"null\";", "[-1]", NULL,
     "!test/find failed: No such file or directory (it returned NULL, errno 2)", 0},
    {"double no_such_function(double x);", "[1]", NULL, "!has no function 'no_such_function'", 0},
    {"int a_variable(void);", "[]", NULL, "!'a_variable' in test is no function", 0},
    {"int fail_with(int code) error_string = no_such_text;", "[1]", NULL, "!has no function 'no_such_text'", 0},

    /* Initialisers run once for each library. */
    {"init int start(int by = 2) errors = \"nonzero\"; int start_count(void);", "null", NULL, "array/i4[]:2", 0},
    {"init int start(int by = 2) errors = \"nonzero\"; int start_count(void);", "null", NULL, "array/i4[]:2", 0},
    {"init int start_badly(void) errors = \"nonzero\"; int start_count(void);", "null", NULL,
     "!could not be initialised: test/start_badly failed: it returned 4", 0},
    {"init void german(void); double same_double(double x);", "[0.5]", NULL, "array/f8[]:0.5", 0},
};

/* A result that was declared with the right content type needs none of its own. */
static void test_declared_content_type(void) {
    decl_file file;
    decl_error error;
    problem problem;
    scratch memory = {0}, call_memory = {0};
    text whole = {0};
    csw_call call = {.arguments = "[1]", .bytes_max = 100, .output_count = 1};
    text_add(&whole, "library test = \"%s\" { double same_double(double); }", test_library);
    bool is_read = decl_parse(whole.bytes, whole.size, &file, &error);
    function *function =
        is_read ? function_make(file.libraries[0], file.libraries[0]->functions[0], NULL, &memory, &problem) : NULL;
    call.outputs[0].declared_type = strdup("array/f8[]");
    row_count += 1;
    if (function == NULL || call_function(&call, function, &call_memory) != CSW_OK ||
        call.outputs[0].content_type != NULL) {
        fputs("a content type was set that was declared already\n", stderr);
        failed_count += 1;
    }
    call.output_count = 2;
    if (function != NULL && (call_function(&call, function, &call_memory) == CSW_OK ||
                             strstr(call.message, "has 1 outputs, but the task declares 2") == NULL)) {
        fprintf(stderr, "two outputs of a function with one: %s\n", call.message);
        failed_count += 1;
    }
    fake_release(&call);
    text_release(&whole);
    scratch_release(&memory);
    scratch_release(&call_memory);
    decl_release(&file);
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    test_library = arguments[1];
    for (size_t i = 0; i < sizeof type_rows / sizeof *type_rows; i += 1)
        run_type(&type_rows[i]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i += 1)
        run(&rows[i]);
    test_declared_content_type();
    printf("%d calls, %d wrong\n", row_count, failed_count);
    return failed_count == 0 ? 0 : 1;
}
