/* What a declarations file may say, and what is said about one that is wrong. */
#include "declarations.h"

#include <stdio.h>
#include <string.h>

static int failed_count, row_count;

/* A text, and the signatures of its tasks, or with a '!' the error, its place and the line that is shown. */
static const struct {
    const char *text, *expected;
} rows[] = {
    {"", ""},
    {"// nothing\n/* at\n all */", ""},
    {"library m = \"libm.so.6\" { double cos(double); }", "ffi/m/cos(arg0: double) -> (return: double)\n"},
    {"library m = \"libm.so.6\" { extern double fma(double x, double, double z); }",
     "ffi/m/fma(x: double, arg1: double, z: double) -> (return: double)\n"},
    {"library m = \"a.so\", \"b.so\" { void f(); void g(void); }", "ffi/m/f() -> ()\nffi/m/g() -> ()\n"},
    {"library m = \"m\" { double frexp(double x, int *exp); }",
     "ffi/m/frexp(x: double) -> (return: double, exp: int)\n"},
    {"library m = \"m\" { void f(const double *restrict x, int const n, const int *const k); }",
     "ffi/m/f(x: double, n: int, k: int) -> ()\n"},
    {"library m = \"m\" { double dot(size_t n, const double x[static n], const double y[n]); }",
     "ffi/m/dot(x: double[], y: double[]) -> (return: double)\n"},
    {"library m = \"m\" { void f(double alpha = 1, const double x[n], int n); }",
     "ffi/m/f(x: double[], alpha: double = 1) -> ()\n"},
    {"library m = \"m\" { void f(int m, int n, const float a[m][n], float b[n][m]); }",
     "ffi/m/f(a: float[][]) -> (b: float[][])\n"},
    {"library m = \"m\" { void f(const float a[], float b[len(a) * 2]); }", "ffi/m/f(a: float[]) -> (b: float[])\n"},
    {"enum e { A, B = 3, C, }; typedef enum { X } t; library m = \"m\" { enum e f(t x, int a[C]); }",
     "ffi/m/f(x: t) -> (return: enum e, a: int[])\n"},
    {"library m = \"m\" { struct p { int x, y[2]; char c; }; struct p f(const struct p *a, struct p b[2]); }",
     "ffi/m/f(a: struct p) -> (return: struct p, b: struct p[])\n"},
    {"library m = \"m\" { int f(int x) errors = \"nonzero\", error_string = g; const char *s(void); }",
     "ffi/m/f(x: int) -> ()\nffi/m/s() -> (return: text)\n"},
    {"library m = \"m\" { void *f(int x) errors = \"null\"; }", "ffi/m/f(x: int) -> ()\n"},
    {"library m = \"m\" { init void f(int x = 3); int g(void *p = NULL, FILE_ x); typedef int FILE_; }",
     "!1:65: unknown type 'FILE_': declare it with a typedef"},
    {"library m = \"m\" { long int unsigned f(short unsigned int x, long double y, long long z); }",
     "ffi/m/f(x: unsigned short, y: long double, z: long long) -> (return: unsigned long)\n"},
    {"library m = \"m\" { int f(int n, char o[n > 3 ? n : 4 : return], int m = (1 << 4) - 1 % 2 == 15); }",
     "ffi/m/f(n: int, m: int = (1 << 4) - 1 % 2 == 15) -> (return: int, o: char[])\n"},
    {"library m = \"m\" { void f(int x = 0x10, double y = 1.5e-3f, double z = -.5, const char *s = \"a\\n\\\"\"); }",
     "ffi/m/f(x: int = 0x10, y: double = 1.5e-3f, z: double = -.5, s: text = \"a\\n\\\"\") -> ()\n"},
    {"library m = \"m\" { bool f(bool b = true, int *k = NULL); }", "ffi/m/f(b: bool = true) -> (return: bool)\n"},

    {"double cos(double);",
     "!1:1: expected library, typedef, struct or enum but found 'double'\n    double cos(double);\n    ^"},
    {"library { }", "!1:9: expected the library's name but found '{'"},
    {"library m { }", "!1:11: expected '=' but found '{'"},
    {"library m = libm { }", "!1:13: expected the library's file, \"lib….so\" but found 'libm'"},
    {"library m = \"m\" {\n  double cos(double)\n  double sin(double);\n}",
     "!3:3: expected ';' but found 'double'\n      double sin(double);\n      ^"},
    {"library m = \"m\" { double cos(double); ", "!1:39: expected '}' but the text ends"},
    {"library m = \"m\" {} library m = \"n\" {}", "!1:28: the library 'm' is declared twice"},
    {"library m = \"m\" { int f(void); int f(void); }", "!1:36: 'f' is declared twice"},
    {"library m = \"m\" {\n\tuLong f(void); }",
     "!2:2: unknown type 'uLong': declare it with a typedef\n    \tuLong f(void); }\n    \t^"},
    {"library m = \"m\" { int f(int x, int x); }", "!1:36: 'x' is declared twice"},
    {"library m = \"m\" { int f(int x[n]); }", "!1:31: 'n' is neither a parameter of this function nor a constant"},
    {"library m = \"m\" { int f(const int x[n], double n); }", "!1:37: 'n' is no integer"},
    {"library m = \"m\" { int f(const int x[n], int *n); }",
     "!1:37: 'n' is a pointer: write a * before it for its value"},
    {"library m = \"m\" { int f(const int x[*n], int n); }", "!1:37: 'n' is no pointer"},
    {"library m = \"m\" { int f(int x[*n], int *n); }",
     "!1:29: *n is known after the call only: give 'x' a capacity too, [capacity : *n]"},
    {"library m = \"m\" { int f(int x[]); }", "!1:29: 'x' is an output, so it needs a length"},
    {"library m = \"m\" { int f(const int x[2][]); }", "!1:39: an array of several dimensions"},
    {"library m = \"m\" { int f(const int x[][2]); }", "!1:36: an array of several dimensions"},
    {"library m = \"m\" { int f(const int x[2 : 1]); }",
     "!1:35: 'x' is an input: only an output has [capacity : used]"},
    {"library m = \"m\" { int f(int x[2 : 1][3]); }", "!only an array of one dimension may have [capacity : used]"},
    {"library m = \"m\" { int f(int x[return]); }", "!1:31: 'return' is known after the call only"},
    {"library m = \"m\" { void f(int x[2 : return]); }", "!'return' is known after the call only"},
    {"library m = \"m\" { int f(int x[1.5]); }", "!1:31: an integer is wanted here"},
    {"library m = \"m\" { int f(int x[\"a\"]); }", "!an integer is wanted here"},
    {"library m = \"m\" { int f(int x[sizeof(int)]); }",
     "!1:31: 'sizeof' can't be called here: there are len, min and max"},
    {"library m = \"m\" { int f(int x[len(y)], int y); }", "!'y' is neither an array nor a text"},
    {"library m = \"m\" { int f(int x[len(x)]); }", "!len(x): it is an output"},
    {"library m = \"m\" { int f(char *s); }", "!1:31: 's': write `const char *` for a text that goes in"},
    {"library m = \"m\" { int f(void *p); }", "!a void pointer can only be passed as NULL"},
    {"library m = \"m\" { int f(char **p); }", "!a pointer to a pointer can only be passed as NULL"},
    {"library m = \"m\" { int f(int *p[3]); }", "!a pointer to a pointer"},
    {"library m = \"m\" { int f(int x = NULL); }", "!'x' is no pointer, so it can't be NULL"},
    {"library m = \"m\" { int f(inout int x); }", "!'x' is passed by value"},
    {"library m = \"m\" { int f(inout const int *x); }", "!'x' can't be inout and const"},
    {"library m = \"m\" { int f(void x); }", "!1:30: 'x' can't be void"},
    {"library m = \"m\" { int f(int x[2] = 3); }", "!an array has no default value"},
    {"library m = \"m\" { int f(int *x = 3); }", "!'x' is an output: it has no default value"},
    {"library m = \"m\" { int f(int x = 1.5); }", "!an integer is wanted here"},
    {"library m = \"m\" { int f(int x = \"a\"); }", "!the default of 'x' must be a number"},
    {"library m = \"m\" { int f(const char *x = 3); }", "!the default of 'x' must be a string"},
    {"library m = \"m\" { int f(const char *format, ...); }",
     "!1:45: functions with any number of arguments (...) can't be called"},
    {"library m = \"m\" { void f(int (*compare)(int)); }", "!1:30: pointers to functions are not supported"},
    {"library m = \"m\" { double *f(void); }", "!1:27: 'f' returns a pointer, which has no meaning elsewhere"},
    {"enum { A = 0xFFFFFFFF, B = 0 }; enum e { C = 0x80000000 }; library m = \"m\" { enum e f(int x[B + 1]); }",
     "ffi/m/f() -> (return: enum e, x: int[])\n"},
    {"enum e { A = 4294967296 };", "!1:10: 'A' does not fit into the 32 bits of an enum"},
    {"enum e { A = -1, B = 4294967295 };", "!1:1: 'A' is negative and others are above 2147483647"},
    {"enum e : char { A };", "!1:1: an 'enum' is declared with all that it has and nothing else: `enum name { … };`"},
    {"struct s;", "!1:1: a 'struct' is declared with all that it has and nothing else: `struct name { … };`"},
    {"union u { int a; };", "!1:1: unions are not supported"},
    {"struct s { union { int a; } u; };", "!1:12: 'union's are not supported"},
    {"struct s { int a; } __attribute__((packed));", "!1:21: '__attribute__' is not supported"},
    {"typedef int (*callback)(int);", "!1:13: pointers to functions are not supported"},
    {"typedef long int64_t; typedef unsigned char uint8_t;", ""},
    {"typedef int int64_t;", "!1:13: 'int64_t' is a type of this machine already, a signed integer of 8 bytes"},
    {"typedef unsigned time_t;", "!1:18: 'time_t' is a type of this machine already"},
    {"library m = \"a\\nb\" { }", "!1:13: a file's name has no line breaks here"},
    {"library m = \"m\" { int f(int x = 2147483648); }",
     "!1:33: the default of 'x' is 2147483648, which does not fit into int"},
    {"library m = \"m\" { int f(unsigned x = -1, int y); }", "!1:38: the default of 'x' is -1"},
    {"library m = \"m\" { int f(bool x = 2); }", "!1:34: the default of 'x' is 2"},
    {"library m = \"m\" { int f(uint64_t a = 9223372036854775807, int8_t b = -128, bool c = 1, double d = 1 / 2); }",
     "ffi/m/f(a: uint64_t = 9223372036854775807, b: int8_t = -128, c: bool = 1, d: double = 1 / 2) -> (return: int)\n"},
    {"library m = \"m\" { int f(long x = 9223372036854775807 + 1); }", "!1:54: this has no value in 64 bits"},
    {"library m = \"m\" { int f(int x[1 % 0]); }", "!1:33: this is divided by zero"},
    {"library m = \"m\" { int f(int x[1 - 2]); }", "!1:33: the length of 'x' is negative"},
    {"library m = \"m\" { threads = 0; }", "!1:29: threads is how many calls may run at once in a process, 1 to 64"},
    {"library m = \"m\" { threads = -1; }", "!1:29: threads is how many calls"},
    {"library m = \"m\" { int f(void) threads = 65; }", "!1:41: threads is how many calls"},
    {"library m = \"m\" { threads = 1000000000; }", "!1:29: threads is how many calls"},
    {"library m = \"m\" { threads = 1e9; }", "!1:29: threads is how many calls"},
    {"library m = \"m\" { threads = \"four\"; }", "!1:29: threads is how many calls"},
    {"library m = \"m\" { threads = 9223372036854775808; }", "!1:29: '9223372036854775808' is too large"},
    {"library m = \"m\" { int f(int n) threads = n; }", "!1:42: 'n' is neither a parameter"},
    {"library m = \"m\" { threads = ; }", "!1:29: expected a number or a name"},
    {"library m = \"m\" { threads 4; }", "!1:27: expected '='"},
    {"library m = \"m\" { double f(void) errors = \"nonzero\"; }", "!'f' returns double, which this can't be said of"},
    {"library m = \"m\" { int f(void) errors = \"null\"; }", "!'f' returns int, which"},
    {"library m = \"m\" { int f(void) errors = \"always\"; }",
     "!expected \"nonzero\", \"negative\", \"null\", \"errno\" or \"none\" but found '\"always\"'"},
    {"library m = \"m\" { int f(void) freed_by = free; }", "!1:31: 'f' returns no text that could be given back"},
    {"library m = \"m\" { freed_by = free; char *f(void); int g(void); }",
     "ffi/m/f() -> (return: text)\nffi/m/g() -> (return: int)\n"},
    {"library m = \"m\" { init int f(int x); }", "!1:34: 'x' needs a value here"},
    {"library m = \"m\" { volatile int f(void); }", "!'volatile' is not supported"},
    {"library m = \"m\" { double _Complex f(void); }", "!'_Complex' is not supported"},
    {"library m = \"m\" { long char f(void); }", "!1:19: these words make no type"},
    {"library m = \"m\" { long long long f(void); }", "!these words make no type"},
    {"library m = \"m\" { unsigned double f(void); }", "!these words make no type"},
    {"library m = \"m\" { struct q f(void); }", "!1:19: 'struct q' is not declared above: its fields are needed"},
    {"struct p { int x; }; struct p { int y; };", "!'struct p' is declared twice"},
    {"struct p { };", "!a struct without fields"},
    {"struct p { int x, x; };", "!'x' is declared twice"},
    {"struct p { int x : 3; };", "!bit fields are not supported"},
    {"struct p { char *name; };", "!a struct with pointers can't go from one process to another"},
    {"struct p { int x[0]; };", "!'x' has no length from 1 to"},
    {"struct p { int x[2000]; };", "!the struct is too large here"},
    {"struct a { int x[1024]; }; struct b { struct a y, z; };", "!the struct is too large here"},
    {"struct p { int x[1 << 62]; };", "!'x' has no length from 1 to"},
    {"enum e { A, A };", "!'A' is declared twice"},
    {"enum e { A = 1 << 40 };", "!'A' does not fit into the 32 bits of an enum"},
    {"enum e { A = 1 / 0 };", "!this has no value in 64 bits"},
    {"enum e { A = B };", "!'B' is neither a parameter of this function nor a constant"},
    {"typedef int *pointer;", "!a typedef of a pointer is not supported"},
    {"typedef int array[3];", "!a typedef of an array or function is not supported"},
    {"#include <zlib.h>", "!1:1: '#': there is no preprocessor here"},
    {"library m = \"m\" { int f(int x = 99999999999999999999); }", "!'99999999999999999999' is too large"},
    {"library m = \"m\" { int f(int x = 12abc); }", "!'12abc' is no number"},
    {"library m = \"m\" { int f(int x = 0x); }", "!'0x' is no number"},
    {"library m = \"m", "!1:13: a string begins here and has no end in its line"},
    {"library m = \"\\q\" {}", "!1:14: a string may have"},
    {"/* never\nends", "!1:1: a comment begins here and never ends"},
    {"library m = \"m\" { @ }", "!1:19: '@' has no meaning here"},
    {"\xff", "!1:1: byte 255 has no meaning here"},
    {"library m = \"m\" { int f(int x[((((((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))))))]); }",
     "!nested more than 32 times"},
    {"library m = \"m\" { int f(int x[1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1]); }",
     "!an expression that is too long"},
};

static void run(const char *text, size_t size, const char *expected) {
    decl_file file;
    decl_error error;
    struct text found = {0};
    bool is_failure = expected[0] == '!';
    row_count += 1;
    bool is_read = decl_parse(text, size, &file, &error);
    text_add(&found, "%s", "");
    for (uint32_t i = 0; is_read && i < file.library_count; i += 1)
        for (uint32_t k = 0; k < file.libraries[i]->function_count; k += 1) {
            decl_task_signature(file.libraries[i], file.libraries[i]->functions[k], &found);
            text_add(&found, "\n");
        }
    if (!is_read) decl_error_print(&error, "FILE", text, size, &found);
    bool is_right = is_failure ? !is_read && strstr(found.bytes, expected + 1) != NULL
                               : is_read && strcmp(found.bytes, expected) == 0;
    if (!is_right) {
        failed_count += 1;
        fprintf(stderr, "%s\n  expected %s\n  found    %s\n", text, expected, found.bytes);
    }
    text_release(&found);
    decl_release(&file);
}

/* Cut off anywhere, a text is an error and nothing worse. */
static void run_cut(void) {
    static const char whole[] =
        "enum e { A = 1, B };\nstruct p { int x, y[2]; };\ntypedef struct p q;\n"
        "library m = \"a\", \"b\" {\n  /* doc */ errors = \"negative\"; error_string = e;\n"
        "  init int begin(int x = -1 * 2);\n  const char *f(inout q *p, const double x[n], unsigned long n, "
        "char out[max(n, 2) : *used], int *used, void *z = NULL) errors = \"null\";\n}\n";
    for (size_t size = 0; size < sizeof whole; size += 1) {
        decl_file file;
        decl_error error;
        bool is_read = decl_parse(whole, size, &file, &error);
        struct text shown = {0};
        if (!is_read) decl_error_print(&error, "FILE", whole, size, &shown);
        row_count += 1;
        if (!is_read && shown.size == 0) failed_count += 1;
        text_release(&shown);
        decl_release(&file);
    }
}

/* The description that clients get. */
static void test_description(void) {
    static const char declarations[] = "library m = \"m\" {\n/// Adds \"both\".\n/// Quickly.\nint add(int n, const "
                                       "float x[n], double scale = 2, float y[n]); // not this\n"
                                       "int sub(void) threads = 8;\n}";
    static const char expected[] =
        "[{\"library\":\"m\",\"name\":\"add\",\"signature\":\"int add(int n, const float x[n], double scale = 2, float "
        "y[n])\","
        "\"documentation\":\"Adds \\\"both\\\".\\u000aQuickly.\",\"threads\":1,\"inputs\":["
        "{\"name\":\"n\",\"form\":\"scalar\",\"code\":\"i4\",\"c_type\":\"int\",\"dimensions\":0,\"is_optional\":false,"
        "\"is_implied\":true},"
        "{\"name\":\"x\",\"form\":\"array\",\"code\":\"f4\",\"c_type\":\"float\",\"dimensions\":1,\"is_optional\":"
        "false,\"is_implied\":false},"
        "{\"name\":\"scale\",\"form\":\"scalar\",\"code\":\"f8\",\"c_type\":\"double\",\"dimensions\":0,\"is_"
        "optional\":true,\"is_implied\":false}],"
        "\"outputs\":[{\"name\":\"return\",\"content_type\":\"array/i4[]\"},{\"name\":\"y\",\"content_type\":\"array/"
        "f4\"}]},"
        "{\"library\":\"m\",\"name\":\"sub\",\"signature\":\"int "
        "sub(void)\",\"documentation\":\"\",\"threads\":8,\"inputs\":[],"
        "\"outputs\":[{\"name\":\"return\",\"content_type\":\"array/i4[]\"}]}]";
    decl_file file;
    decl_error error;
    struct text found = {0};
    row_count += 1;
    if (decl_parse(declarations, sizeof declarations - 1, &file, &error)) decl_describe(&file, &found);
    if (found.bytes == NULL || strcmp(found.bytes, expected) != 0) {
        failed_count += 1;
        fprintf(stderr, "expected %s\nfound    %s\n", expected, found.bytes != NULL ? found.bytes : error.message);
    }
    text_release(&found);
    decl_release(&file);
}

/* As many of a kind as a file may have, and one more: names are compared with each other, so there is an end to that. */
static void test_counts(void) {
    static const struct {
        const char *head, *one, *between, *tail, *expected;
        int most;
    } kinds[] = {
        {"library m = \"m\" {", "int f%x();", "", "}", "more than 4096 functions", decl_functions_max},
        {"", "library m%x = \"m\" {}", "", "", "more than 1024 libraries", decl_libraries_max},
        {"", "typedef int t%x;", "", "", "more than 4096 types", decl_types_max},
        {"enum {", "A%x", ",", "};", "more than 8192 constants", decl_constants_max},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i += 1)
        for (int count = kinds[i].most; count <= kinds[i].most + 1; count += 1) {
            struct text whole = {0};
            decl_file file;
            decl_error error;
            char one[64];
            text_add(&whole, "%s", kinds[i].head);
            for (int k = 0; k < count; k += 1) {
                const char *mark = strchr(kinds[i].one, '%');
                snprintf(one, sizeof one, "%.*s%x%s", (int)(mark - kinds[i].one), kinds[i].one, (unsigned)k, mark + 2);
                text_add(&whole, "%s%s", k == 0 ? "" : kinds[i].between, one);
            }
            text_add(&whole, "%s", kinds[i].tail);
            bool is_read = decl_parse(whole.bytes, whole.size, &file, &error);
            row_count += 1;
            if (is_read != (count == kinds[i].most) || (!is_read && strstr(error.message, kinds[i].expected) == NULL)) {
                failed_count += 1;
                fprintf(stderr, "%d of %s: %s\n", count, kinds[i].one, is_read ? "no error" : error.message);
            }
            text_release(&whole);
            decl_release(&file);
        }
}

/* How many calls each function allows at once. */
static void test_threads(void) {
    static const char declarations[] =
        "enum { MANY = 1 << 4 }; library m = \"m\" { int a(void); threads = 4; int b(void);\n"
        "int c(void) threads = MANY, errors = \"errno\"; int d(void); threads = 1; int e(void); }\n"
        "library n = \"n\" { int f(void); threads = 64; int g(void); }";
    static const uint32_t expected[] = {1, 4, 16, 4, 1, 1, 64};
    uint32_t count = 0;
    decl_file file;
    decl_error error;
    if (!decl_parse(declarations, sizeof declarations - 1, &file, &error)) fprintf(stderr, "%s\n", error.message);
    for (uint32_t i = 0; i < file.library_count; i += 1)
        for (uint32_t k = 0; k < file.libraries[i]->function_count; k += 1, count += 1) {
            row_count += 1;
            if (file.libraries[i]->functions[k]->threads == expected[count]) continue;
            failed_count += 1;
            fprintf(
                stderr, "threads of %s: %u\n", file.libraries[i]->functions[k]->name,
                (unsigned)file.libraries[i]->functions[k]->threads);
        }
    if (count != 7) failed_count += 1;
    decl_release(&file);
}

int main(void) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i += 1)
        run(rows[i].text, strlen(rows[i].text), rows[i].expected);
    run("\0", 1, "!1:1: byte 0 has no meaning here");
    run_cut();
    test_description();
    test_threads();
    test_counts();
    printf("%d declarations, %d wrong\n", row_count, failed_count);
    return failed_count == 0 ? 0 : 1;
}
