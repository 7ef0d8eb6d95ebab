/* The library whose functions the tests call by declarations: one for each way in which C passes something. */
#define _GNU_SOURCE
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* --- One value of each type ------------------------------------------------------------------------------------- */

#define IDENTITY(name, type)                                                                                           \
    EXPORT type same_##name(type x) {                                                                                  \
        return x;                                                                                                      \
    }                                                                                                                  \
    EXPORT void copy_##name(const type *x, size_t n, type *y) {                                                        \
        memcpy(y, x, n * sizeof *x);                                                                                   \
    }                                                                                                                  \
    EXPORT void point_##name(const type *x, type *y) {                                                                 \
        *y = *x;                                                                                                       \
    }
IDENTITY(bool, bool)
IDENTITY(char, char)
IDENTITY(signed_char, signed char)
IDENTITY(unsigned_char, unsigned char)
IDENTITY(short, short)
IDENTITY(unsigned_short, unsigned short)
IDENTITY(int, int)
IDENTITY(unsigned_int, unsigned)
IDENTITY(long, long)
IDENTITY(unsigned_long, unsigned long)
IDENTITY(long_long, long long)
IDENTITY(unsigned_long_long, unsigned long long)
IDENTITY(float, float)
IDENTITY(double, double)
IDENTITY(long_double, long double)
IDENTITY(int8_t, int8_t)
IDENTITY(uint8_t, uint8_t)
IDENTITY(int16_t, int16_t)
IDENTITY(uint16_t, uint16_t)
IDENTITY(int32_t, int32_t)
IDENTITY(uint32_t, uint32_t)
IDENTITY(int64_t, int64_t)
IDENTITY(uint64_t, uint64_t)
IDENTITY(size_t, size_t)
IDENTITY(ssize_t, ssize_t)

/* Many arguments of mixed kinds: more than go into registers. */
EXPORT double mix(
    int8_t a, double b, uint16_t c, float d, int e, double f, unsigned long g, float h, int64_t i, double j, bool k,
    double l, short m, double n, double o, double p) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * (double)g + 8 * h + 9 * (double)i + 10 * j + 11 * k +
           12 * l + 13 * m + 14 * n + 15 * o + 16 * p;
}

/* --- Arrays ----------------------------------------------------------------------------------------------------- */

EXPORT double dot(size_t n, const double *x, const double *y) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i)
        sum += x[i] * y[i];
    return sum;
}

EXPORT void scale(double *x, size_t n, double factor) {
    for (size_t i = 0; i < n; ++i)
        x[i] *= factor;
}

EXPORT void range(int first, int count, int *out) {
    for (int i = 0; i < count; ++i)
        out[i] = first + i;
}

/* rows x columns times a vector. */
EXPORT void multiply(int rows, int columns, const double *matrix, const double *vector, double *out) {
    for (int i = 0; i < rows; ++i) {
        out[i] = 0;
        for (int k = 0; k < columns; ++k)
            out[i] += matrix[i * columns + k] * vector[k];
    }
}

EXPORT void transpose(int rows, int columns, const int *matrix, int *out) {
    for (int i = 0; i < rows; ++i)
        for (int k = 0; k < columns; ++k)
            out[k * rows + i] = matrix[i * columns + k];
}

/* The even numbers, and how many there are. */
EXPORT int evens(const int *x, int n, int *out) {
    int count = 0;
    for (int i = 0; i < n; ++i)
        if (x[i] % 2 == 0) out[count++] = x[i];
    return count;
}

/* The same, with the room as an argument that goes in and out. */
EXPORT int evens_into(const int *x, int n, int *out, int *room) {
    int count = 0;
    for (int i = 0; i < n; ++i)
        if (x[i] % 2 == 0) {
            if (count == *room) return 7;
            out[count++] = x[i];
        }
    *room = count;
    return 0;
}

EXPORT int claim(int *out, int *used) {
    *used = out[0] + 100;
    return 0;
}

EXPORT int sum_bytes(const unsigned char *data, size_t size) {
    int sum = 0;
    for (size_t i = 0; i < size; ++i)
        sum += data[i];
    return sum;
}

EXPORT int misalignment(const long double *x, size_t n) {
    (void)n;
    return (int)((uintptr_t)x % _Alignof(long double));
}

/* --- Texts ------------------------------------------------------------------------------------------------------ */

EXPORT size_t length(const char *text) {
    return strlen(text);
}

EXPORT const char *weekday(int day) {
    static const char *const names[] = {"Monday", "Tuesday", "Wednesday"};
    return day >= 0 && day < 3 ? names[day] : NULL;
}

static int text_count;
EXPORT char *make_text(int n) {
    char *text = malloc(20);
    if (text == NULL) return NULL;
    text_count += 1;
    snprintf(text, 20, "text %d", n);
    return text;
}

EXPORT void free_text(char *text) {
    text_count -= 1;
    free(text);
}

/* How many texts were made and not given back. */
EXPORT int texts(void) {
    return text_count;
}

EXPORT int greet(const char *name, char *out, size_t size) {
    return snprintf(out, size, "Hello, %s", name);
}

EXPORT bool is_null(void *pointer) {
    return pointer == NULL;
}

/* --- Structs and enums ------------------------------------------------------------------------------------------ */

struct point {
    double x, y;
};
struct small {
    int8_t a;
    int16_t b;
};
struct large {
    char name[5];
    struct point corners[2];
    int64_t number;
    float weight;
};
struct pair {
    float x, y;
};

EXPORT struct point mirror(struct point p) {
    return (struct point){p.y, p.x};
}

EXPORT struct small negate(struct small s) {
    return (struct small){(int8_t)-s.a, (int16_t)-s.b};
}

EXPORT struct pair swap(struct pair p) {
    return (struct pair){p.y, p.x};
}

EXPORT struct large grow(struct large l, double by) {
    l.corners[1].x += by;
    l.number += 1;
    l.weight *= 2;
    l.name[0] = 'G';
    return l;
}

EXPORT double norm1(const struct point *p) {
    return p->x + p->y;
}

EXPORT void middle(const struct point *points, size_t n, struct point *out) {
    for (size_t i = 0; i < n; ++i) {
        out->x += points[i].x / (double)n;
        out->y += points[i].y / (double)n;
    }
}

EXPORT void move(struct point *p, double dx) {
    p->x += dx;
}

enum colour { RED, GREEN = 5, BLUE };
EXPORT enum colour next_colour(enum colour c) {
    return c == RED ? GREEN : c == GREEN ? BLUE : RED;
}

/* --- Errors ----------------------------------------------------------------------------------------------------- */

EXPORT int fail_with(int code) {
    return code;
}

EXPORT int fail_errno(int code) {
    errno = code;
    return code == 0 ? 0 : -1;
}

EXPORT double root(double x) {
    if (x < 0) errno = EDOM;
    return x < 0 ? 0 : x / 2;
}

EXPORT void *find(int x) {
    if (x < 0) errno = ENOENT;
    return x < 0 ? NULL : (void *)&errno;
}

EXPORT const char *test_error(int code) {
    static char text[40];
    snprintf(text, sizeof text, "test error %d", code);
    return text;
}

/* --- Initialisers ----------------------------------------------------------------------------------------------- */

static int started;
EXPORT int start(int by) {
    started += by;
    return 0;
}
EXPORT int start_badly(void) {
    return 4;
}
EXPORT int start_count(void) {
    return started;
}
EXPORT int a_variable = 3;

/* --- What ends or stops a process ------------------------------------------------------------------------------- */

EXPORT int crash(int *pointer) {
    return *pointer;
}
EXPORT void write_to_input(double *x, size_t n) {
    if (n != 0) x[0] = 1;
}
EXPORT int divide(int a, int b) {
    return a / b;
}
EXPORT void give_up(void) {
    abort();
}
EXPORT void leave(int code) {
    exit(code);
}
EXPORT void leave_at_once(int code) {
    _exit(code);
}
EXPORT int recurse(int n) {
    volatile char room[4096];
    room[0] = (char)n;
    return n < 0 ? 0 : recurse(n + 1) + room[0];
}
EXPORT void hang(void) {
    for (;;)
        pause();
}
EXPORT void german(void) {
    setlocale(LC_ALL, "de_DE.UTF-8");
}
EXPORT int process(void) {
    return (int)getpid();
}

/* --- Several calls at once -------------------------------------------------------------------------------------- */

/* Waits until so many calls are in here, ten seconds at most; how many there were. */
static atomic_int arrived;
EXPORT int meet(int count) {
    atomic_fetch_add(&arrived, 1);
    for (int i = 0; atomic_load(&arrived) < count && i < 10000; ++i)
        usleep(1000);
    return atomic_load(&arrived);
}

/* An initialiser that waits for a call of `meet`, and whether that came. */
static atomic_bool has_met;
EXPORT void begin_with_another(void) {
    atomic_store(&has_met, meet(2) >= 2);
}
EXPORT int was_met(void) {
    return atomic_load(&has_met);
}

/* How often it was begun, once that is done; until then -1. */
static atomic_int start_slowly_count;
static atomic_bool is_slowly_started;
EXPORT void start_slowly(void) {
    atomic_fetch_add(&start_slowly_count, 1);
    usleep(20000);
    atomic_store(&is_slowly_started, true);
}
EXPORT int slow_start_count(void) {
    return atomic_load(&is_slowly_started) ? atomic_load(&start_slowly_count) : -1;
}

/* As many do: the text is in memory that all callers share. */
EXPORT const char *slow_error(int code) {
    static char text[40];
    snprintf(text, sizeof text, "test error %d", code);
    usleep(200);
    return text;
}

/* Sets errno while others do, too. */
EXPORT int fail_errno_slowly(int code) {
    errno = code;
    usleep(500);
    return errno == code ? -1 : -2;
}

/* When so many calls are here, in whichever of these, one ends the process; the others stay for ever. */
EXPORT void stay_beside(int count) {
    meet(count);
    hang();
}
EXPORT int crash_beside(int count) {
    meet(count);
    return crash(NULL);
}
EXPORT void give_up_beside(int count) {
    meet(count);
    give_up();
}
EXPORT void overflow_beside(int count) {
    meet(count);
    recurse(1);
}
EXPORT void leave_beside(int count) {
    meet(count);
    leave(3);
}

/* While exit() is on its way out, the other call finds the library torn down: its crash ends the wait. */
static atomic_bool is_torn_down, is_used;
__attribute__((destructor)) static void tear_down(void) {
    atomic_store(&is_torn_down, true);
    if (atomic_load(&is_used)) usleep(10000000);
}
EXPORT void use_beside(int count) {
    atomic_store(&is_used, true);
    meet(count);
    while (!atomic_load(&is_torn_down))
        usleep(100);
    crash(NULL);
}

/* The first time it stays until the process is gone; once there is the mark that the crash leaves, it says so. */
EXPORT int stay_once(int count, const char *mark) {
    if (access(mark, F_OK) == 0) return 2;
    meet(count);
    hang();
    return 1;
}
EXPORT int crash_after_meeting(int count, const char *mark) {
    meet(count);
    FILE *file = fopen(mark, "w");
    if (file != NULL) fclose(file);
    return crash(NULL);
}

static void *crash_on_thread(void *unused) {
    (void)unused;
    crash(NULL);
    return NULL;
}
/* On a thread that Rain knows nothing of. */
EXPORT void crash_elsewhere(int count) {
    pthread_t thread;
    meet(count);
    if (pthread_create(&thread, NULL, crash_on_thread, NULL) == 0) pthread_join(thread, NULL);
}
