#include "json.h"

#include <string.h>

enum { depth_max = 64 };

static void skip_blanks(json *self) {
    while (self->at < self->end && (*self->at == ' ' || *self->at == '\t' || *self->at == '\n' || *self->at == '\r'))
        self->at += 1;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool take_word(json *self, const char *word) {
    size_t size = strlen(word);
    if ((size_t)(self->end - self->at) < size || memcmp(self->at, word, size) != 0) return false;
    self->at += size;
    return true;
}

json_kind json_peek(json *self) {
    skip_blanks(self);
    if (self->at == self->end) return JSON_END;
    char c = *self->at;
    size_t left = (size_t)(self->end - self->at);
    if (c == '[') return JSON_LIST;
    if (c == '{') return JSON_OBJECT;
    if (c == '"') return JSON_STRING;
    if (c == '-' || is_digit(c)) return JSON_NUMBER;
    if (left >= 4 && memcmp(self->at, "null", 4) == 0) return JSON_NULL;
    if (left >= 4 && memcmp(self->at, "true", 4) == 0) return JSON_TRUE;
    if (left >= 5 && memcmp(self->at, "false", 5) == 0) return JSON_FALSE;
    return JSON_BROKEN;
}

bool json_enter(json *self) {
    if (self->depth == depth_max) return false;
    self->depth += 1;
    self->at += 1;
    return true;
}

bool json_next(json *self, bool *is_first, bool *is_broken) {
    skip_blanks(self);
    *is_broken = self->at == self->end;
    if (*is_broken) return false;
    if (*self->at == ']' || *self->at == '}') {
        self->at += 1;
        self->depth -= 1;
        return false;
    }
    if (!*is_first) {
        *is_broken = *self->at != ',';
        if (*is_broken) return false;
        self->at += 1;
        skip_blanks(self);
        *is_broken = self->at == self->end || *self->at == ']' || *self->at == '}';
    }
    *is_first = false;
    return !*is_broken;
}

bool json_skip(json *self) {
    json_number number;
    json_kind kind = json_peek(self);
    bool is_first = true, is_broken = false;
    switch (kind) {
    case JSON_NULL:
        return take_word(self, "null");
    case JSON_TRUE:
        return take_word(self, "true");
    case JSON_FALSE:
        return take_word(self, "false");
    case JSON_NUMBER:
        return json_read_number(self, &number);
    case JSON_STRING:
        for (self->at += 1; self->at < self->end && *self->at != '"'; self->at += 1)
            if (*self->at == '\\') self->at += self->end - self->at > 1 ? 1 : 0;
        if (self->at == self->end) return false;
        self->at += 1;
        return true;
    case JSON_LIST:
    case JSON_OBJECT:
        if (!json_enter(self)) return false;
        while (json_next(self, &is_first, &is_broken)) {
            if (kind == JSON_OBJECT) {
                if (json_peek(self) != JSON_STRING || !json_skip(self)) return false;
                skip_blanks(self);
                if (!take_word(self, ":")) return false;
            }
            if (!json_skip(self)) return false;
        }
        return !is_broken;
    case JSON_END:
    case JSON_BROKEN:
        break;
    }
    return false;
}

/* --- Numbers ---------------------------------------------------------------------------------------------------- */

static const char *skip_digits(const char *at, const char *end) {
    while (at < end && is_digit(*at))
        at += 1;
    return at;
}

bool json_read_number(json *self, json_number *out) {
    const char *start = self->at, *at = start;
    *out = (json_number){.is_integer = true};
    if (at < self->end && *at == '-') {
        out->is_negative = true;
        at += 1;
    }
    const char *digits = at;
    at = skip_digits(at, self->end);
    if (at == digits || (*digits == '0' && at - digits > 1)) return false;
    for (const char *digit = digits; digit < at; digit += 1) {
        bool is_past = __builtin_mul_overflow(out->magnitude, (uint64_t)10, &out->magnitude);
        is_past = __builtin_add_overflow(out->magnitude, (uint64_t)(*digit - '0'), &out->magnitude) || is_past;
        out->is_large = out->is_large || is_past;
    }
    if (at < self->end && *at == '.') {
        const char *fraction = at + 1;
        at = skip_digits(fraction, self->end);
        if (at == fraction) return false;
        out->is_integer = false;
    }
    if (at < self->end && (*at == 'e' || *at == 'E')) {
        const char *exponent = at + 1;
        if (exponent < self->end && (*exponent == '+' || *exponent == '-')) exponent += 1;
        at = skip_digits(exponent, self->end);
        if (at == exponent) return false;
        out->is_integer = false;
    }
    size_t size = (size_t)(at - start);
    if (size >= sizeof out->text) return false;
    memcpy(out->text, start, size);
    self->at = at;
    return true;
}

/* --- Strings ---------------------------------------------------------------------------------------------------- */

static bool read_hex(const char *at, const char *end, uint32_t *out) {
    *out = 0;
    if (end - at < 4) return false;
    for (size_t i = 0; i < 4; i += 1) {
        char c = at[i];
        uint32_t digit = is_digit(c)            ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16) return false;
        *out = *out << 4 | digit;
    }
    return true;
}

static size_t put_utf8(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i -= 1, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)((size == 2 ? 0xc0 : size == 3 ? 0xe0 : 0xf0) | code);
    return size;
}

/* `\u` and what follows, of a pair both halves; false when it is broken. */
static bool read_code(const char **at, const char *end, uint32_t *code) {
    uint32_t low;
    if (!read_hex(*at, end, code)) return false;
    *at += 4;
    if (*code < 0xd800 || *code > 0xdfff) return true;
    if (*code > 0xdbff || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u' || !read_hex(*at + 2, end, &low))
        return false;
    if (low < 0xdc00 || low > 0xdfff) return false;
    *at += 6;
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

const char *json_string(json *self, scratch *memory, size_t *size) {
    json after = *self;
    *size = 0;
    if (json_peek(self) != JSON_STRING || (after = *self, !json_skip(&after))) return NULL;
    const char *at = self->at + 1, *end = after.at - 1;
    char *made = scratch_take(memory, (size_t)(end - at) + 1);
    if (made == NULL) return NULL;
    while (at < end) {
        char c = *at++;
        uint32_t code;
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        if (c != '\\') {
            made[(*size)++] = c;
        } else if (at < end && *at == 'u') {
            at += 1;
            if (!read_code(&at, end, &code)) return NULL;
            *size += put_utf8(made + *size, code);
        } else {
            const char *name = at < end && *at != 0 ? strchr(names, *at) : NULL;
            if (name == NULL) return NULL;
            made[(*size)++] = values[name - names];
            at += 1;
        }
    }
    made[*size] = 0;
    *self = after;
    return made;
}

const char *json_key(json *self, scratch *memory, size_t *size) {
    const char *key = json_string(self, memory, size);
    skip_blanks(self);
    return key != NULL && take_word(self, ":") ? key : NULL;
}
