#include "parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Settings of a library, which hold for the functions below them. */
typedef struct settings {
    decl_errors errors;
    bool are_own; /* of one function: then they must fit it */
    const char *error_string;
    const char *freed_by;
    uint32_t threads;
    uint32_t line, column;
} settings;

static void append(parser *self, list *list, void *item) {
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 16 : list->capacity * 2;
        void **items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL) {
            lexer_no_memory(&self->lexer);
            return;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
}

/* Moves a list's items into the file's memory; NULL after a failure. */
static void *settle(parser *self, list *list) {
    void **items = scratch_take(self->lexer.memory, list->count * sizeof *items + 1);
    if (items == NULL) lexer_no_memory(&self->lexer);
    if (items != NULL && list->count != 0) memcpy(items, list->items, list->count * sizeof *items);
    list->count = 0;
    return items;
}

/* --- Settings --------------------------------------------------------------------------------------------------- */

static void read_errors(parser *self, settings *settings) {
    static const char *const names[] = {"none", "nonzero", "negative", "null", "errno"};
    lexer *lexer = &self->lexer;
    lexer_want_sign(lexer, '=');
    settings->line = lexer->current.line;
    settings->column = lexer->current.column;
    if (lexer->current.kind == TOKEN_STRING) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i += 1) {
            if (strcmp(names[i], lexer->current.string) != 0) continue;
            settings->errors = (decl_errors)i;
            lexer_next(lexer);
            return;
        }
    }
    lexer_expected(lexer, "\"nonzero\", \"negative\", \"null\", \"errno\" or \"none\"");
}

static void read_threads(parser *self, settings *settings) {
    lexer *lexer = &self->lexer;
    lexer_want_sign(lexer, '=');
    token at = lexer->current;
    bool is_integer = at.kind != TOKEN_REAL && at.kind != TOKEN_STRING;
    int64_t threads = is_integer ? expression_read_constant(lexer, &self->types) : 0;
    if (threads < 1 || threads > decl_threads_max)
        lexer_fail(
            lexer, at.line, at.column, "threads is how many calls may run at once in a process, 1 to %d",
            decl_threads_max);
    settings->threads = (uint32_t)threads;
}

/* True when there was a setting. */
static bool take_setting(parser *self, settings *settings) {
    lexer *lexer = &self->lexer;
    if (lexer_take_name(lexer, "errors")) {
        read_errors(self, settings);
    } else if (lexer_take_name(lexer, "error_string")) {
        lexer_want_sign(lexer, '=');
        settings->error_string = lexer_want_name(lexer, "the name of a function of (int) that returns a text");
    } else if (lexer_is_name(lexer, "freed_by")) {
        settings->line = lexer->current.line;
        settings->column = lexer->current.column;
        lexer_next(lexer);
        lexer_want_sign(lexer, '=');
        settings->freed_by = lexer_want_name(lexer, "the name of a function that takes a text back");
    } else if (lexer_take_name(lexer, "threads")) {
        read_threads(self, settings);
    } else {
        return false;
    }
    return true;
}

/* Whether a convention can hold for what the function returns. */
static bool fits(decl_errors errors, const decl_function *function) {
    bool is_pointer = function->is_result_pointer || function->is_result_text;
    switch (errors) {
    case DECL_ERRORS_NONE:
    case DECL_ERRORS_ERRNO:
        return true;
    case DECL_ERRORS_NONZERO:
    case DECL_ERRORS_NEGATIVE:
        return !is_pointer && function->result->kind == DECL_SIGNED;
    case DECL_ERRORS_NULL:
        return is_pointer;
    }
    return false;
}

static void apply(parser *self, const settings *settings, decl_function *function) {
    lexer *lexer = &self->lexer;
    bool is_fitting = fits(settings->errors, function);
    if (!is_fitting && settings->are_own)
        lexer_fail(
            lexer, settings->line, settings->column, "'%s' returns %s, which this can't be said of", function->name,
            function->is_result_pointer || function->is_result_text ? "a pointer" : function->result->name);
    function->errors = is_fitting ? settings->errors : DECL_ERRORS_NONE;
    function->error_string = settings->error_string;
    function->threads = settings->threads;
    function->freed_by = function->is_result_text ? settings->freed_by : NULL;
    if (settings->freed_by != NULL && settings->are_own && !function->is_result_text)
        lexer_fail(
            lexer, settings->line, settings->column, "'%s' returns no text that could be given back", function->name);
    if (function->is_result_pointer && function->errors != DECL_ERRORS_NULL)
        lexer_fail(
            lexer, function->line, function->column,
            "'%s' returns a pointer, which has no meaning elsewhere: say errors = \"null\" if it tells of failures, "
            "else let it return void",
            function->name);
    bool is_void = function->result->kind == DECL_VOID && !function->is_result_text;
    function->has_result = !is_void && !function->is_result_pointer && function->errors != DECL_ERRORS_NONZERO;
}

/* --- Functions -------------------------------------------------------------------------------------------------- */

/* What a comment says, without its signs; NULL where there is none. */
static const char *clean_comment(parser *self, const char *comment, size_t size) {
    char *made = comment == NULL ? NULL : scratch_take(self->lexer.memory, size + 1);
    if (made == NULL) return NULL;
    size_t used = 0;
    for (size_t at = 0; at < size;) {
        while (at < size && strchr(" \t\r/*", comment[at]) != NULL)
            at += 1;
        size_t first = used;
        while (at < size && comment[at] != '\n')
            made[used++] = comment[at++];
        while (used > first && strchr(" \t\r/*", made[used - 1]) != NULL)
            used -= 1;
        at += 1;
        if (used > first && at < size) made[used++] = '\n';
    }
    while (used > 0 && made[used - 1] == '\n')
        used -= 1;
    made[used] = 0;
    return used != 0 ? made : NULL;
}

static void read_result(parser *self, decl_function *made) {
    lexer *lexer = &self->lexer;
    bool is_const;
    uint32_t stars = 0;
    made->result = types_read(&self->types, lexer, &is_const);
    while (lexer_take_sign(lexer, '*'))
        stars += 1;
    made->is_result_text = stars == 1 && made->result->is_char && strcmp(made->result->name, "char") == 0;
    made->is_result_pointer = stars > 0 && !made->is_result_text;
}

static decl_function *read_function(parser *self, const settings *defaults) {
    lexer *lexer = &self->lexer;
    decl_function *made = scratch_take(lexer->memory, sizeof *made);
    decl_parameter *parameters = calloc(decl_parameters_max, sizeof *parameters);
    settings settings = *defaults;
    if (made == NULL || parameters == NULL) {
        free(parameters);
        lexer_no_memory(lexer);
        return NULL;
    }
    made->documentation = clean_comment(self, lexer->comment, lexer->comment_size);
    lexer_take_name(lexer, "extern");
    const char *start = lexer->current.at;
    read_result(self, made);
    made->line = lexer->current.line;
    made->column = lexer->current.column;
    made->name = lexer_want_name(lexer, "the function's name");
    made->parameter_count = parser_read_parameters(self, parameters);
    if (!lexer->has_failed) {
        made->signature = parser_as_written(self, start, lexer->previous.at + lexer->previous.size);
        made->parameters = scratch_take(lexer->memory, made->parameter_count * sizeof *parameters + 1);
        if (made->parameters == NULL) lexer_no_memory(lexer);
        if (made->parameters != NULL && made->parameter_count != 0)
            memcpy(made->parameters, parameters, made->parameter_count * sizeof *parameters);
    }
    free(parameters);
    while (!lexer->has_failed && take_setting(self, &settings)) {
        settings.are_own = true;
        lexer_take_sign(lexer, ',');
    }
    lexer_want_sign(lexer, ';');
    if (!lexer->has_failed) apply(self, &settings, made);
    if (!lexer->has_failed) parser_resolve_parameters(self, made);
    return lexer->has_failed ? NULL : made;
}

static void check_initialiser(parser *self, const decl_function *function) {
    for (uint32_t i = 0; i < function->parameter_count; i += 1) {
        const decl_parameter *parameter = &function->parameters[i];
        if (parameter->fallback == NULL)
            lexer_fail(
                &self->lexer, parameter->line, parameter->column,
                "'%s' needs a value here, `= …`: an initialiser is called without arguments", parameter->name);
    }
}

/* --- The file --------------------------------------------------------------------------------------------------- */

/* A typedef, struct or enum; false when it is none. */
static bool take_type(parser *self) {
    lexer *lexer = &self->lexer;
    if (lexer_take_name(lexer, "typedef")) {
        types_read_typedef(&self->types, lexer);
        return true;
    }
    if (!lexer_is_name(lexer, "struct") && !lexer_is_name(lexer, "enum")) return false;
    struct lexer now = *lexer;
    lexer_next(lexer);
    if (lexer->current.kind == TOKEN_NAME) lexer_next(lexer);
    bool is_body = lexer_is_sign(lexer, '{');
    *lexer = now;
    if (!is_body) return false;
    bool is_const;
    types_read(&self->types, lexer, &is_const);
    lexer_want_sign(lexer, ';');
    return true;
}

static void read_member(parser *self, settings *settings) {
    lexer *lexer = &self->lexer;
    if (take_setting(self, settings)) {
        lexer_want_sign(lexer, ';');
        return;
    }
    if (take_type(self)) return;
    bool is_initialiser = lexer_is_name(lexer, "init");
    const char *comment = lexer->comment;
    size_t comment_size = lexer->comment_size;
    if (is_initialiser) {
        lexer_next(lexer);
        lexer->comment = comment;
        lexer->comment_size = comment_size;
    }
    if (self->function_count == decl_functions_max)
        lexer_fail(
            lexer, lexer->current.line, lexer->current.column, "more than %d functions: divide the file",
            decl_functions_max);
    self->function_count += 1;
    decl_function *made = read_function(self, settings);
    if (made == NULL) return;
    if (is_initialiser) check_initialiser(self, made);
    for (uint32_t i = 0; i < self->functions.count && !is_initialiser; i += 1)
        if (strcmp(((decl_function *)self->functions.items[i])->name, made->name) == 0)
            lexer_fail(lexer, made->line, made->column, "'%s' is declared twice", made->name);
    append(self, is_initialiser ? &self->initialisers : &self->functions, made);
}

static void read_files(parser *self, decl_library *made) {
    lexer *lexer = &self->lexer;
    list files = {0};
    lexer_want_sign(lexer, '=');
    do {
        if (lexer->current.kind != TOKEN_STRING || *lexer->current.string == 0) {
            lexer_expected(lexer, "the library's file, \"lib….so\"");
            break;
        }
        if (strchr(lexer->current.string, '\n') != NULL)
            lexer_fail(lexer, lexer->current.line, lexer->current.column, "a file's name has no line breaks here");
        append(self, &files, (void *)(uintptr_t)lexer->current.string);
        lexer_next(lexer);
    } while (!lexer->has_failed && lexer_take_sign(lexer, ','));
    made->file_count = files.count;
    made->files = settle(self, &files);
    free(files.items);
}

static void read_library(parser *self) {
    lexer *lexer = &self->lexer;
    decl_library *made = scratch_take(lexer->memory, sizeof *made);
    settings settings = {.threads = 1};
    if (made == NULL) {
        lexer_no_memory(lexer);
        return;
    }
    token at = lexer->current;
    if (self->libraries.count == decl_libraries_max)
        lexer_fail(lexer, at.line, at.column, "more than %d libraries", decl_libraries_max);
    made->name = lexer_want_name(lexer, "the library's name");
    for (uint32_t i = 0; i < self->libraries.count; i += 1)
        if (strcmp(((decl_library *)self->libraries.items[i])->name, made->name) == 0)
            lexer_fail(lexer, at.line, at.column, "the library '%s' is declared twice", made->name);
    read_files(self, made);
    lexer_want_sign(lexer, '{');
    while (!lexer->has_failed && !lexer_is_sign(lexer, '}') && lexer->current.kind != TOKEN_END)
        read_member(self, &settings);
    lexer_want_sign(lexer, '}');
    made->function_count = self->functions.count;
    made->functions = settle(self, &self->functions);
    made->initialiser_count = self->initialisers.count;
    made->initialisers = settle(self, &self->initialisers);
    if (!lexer->has_failed) append(self, &self->libraries, made);
}

/* What headers have and this has not. */
static void refuse(parser *self) {
    lexer *lexer = &self->lexer;
    const token *at = &lexer->current;
    if (lexer_is_name(lexer, "union"))
        lexer_fail(lexer, at->line, at->column, "unions are not supported: declare a struct of as many bytes");
    else if (lexer_is_name(lexer, "struct") || lexer_is_name(lexer, "enum"))
        lexer_fail(
            lexer, at->line, at->column, "%s '%s' is declared with all that it has and nothing else: `%s name { … };`",
            *at->string == 'e' ? "an" : "a", at->string, at->string);
    else
        lexer_expected(lexer, "library, typedef, struct or enum");
}

static void read_file(parser *self) {
    lexer *lexer = &self->lexer;
    while (!lexer->has_failed && lexer->current.kind != TOKEN_END) {
        if (lexer_take_name(lexer, "library"))
            read_library(self);
        else if (!take_type(self))
            refuse(self);
    }
}

bool decl_parse(const char *text, size_t size, decl_file *file, decl_error *error) {
    *file = (decl_file){0};
    *error = (decl_error){0};
    if (size > decl_text_bytes_max) {
        snprintf(error->message, sizeof error->message, "%zu bytes of declarations: the limit is 1 MiB", size);
        return false;
    }
    parser self = {0};
    lexer_start(&self.lexer, text, size, &file->memory, error);
    read_file(&self);
    file->library_count = self.libraries.count;
    file->libraries = settle(&self, &self.libraries);
    types_release(&self.types);
    free(self.libraries.items);
    free(self.functions.items);
    free(self.initialisers.items);
    return !self.lexer.has_failed;
}

void decl_release(decl_file *file) {
    scratch_release(&file->memory);
    *file = (decl_file){0};
}

void decl_error_print(const decl_error *error, const char *name, const char *text, size_t size, struct text *out) {
    if (error->line == 0) {
        text_add(out, "%s: %s", name, error->message);
        return;
    }
    text_add(out, "%s:%u:%u: %s", name, (unsigned)error->line, (unsigned)error->column, error->message);
    const char *line = text, *end = text + size;
    for (uint32_t i = 1; i < error->line && line != NULL; i += 1) {
        line = memchr(line, '\n', (size_t)(end - line));
        if (line != NULL) line += 1;
    }
    if (line == NULL) return;
    size_t length = 0;
    while (line + length < end && line[length] != '\n' && line[length] != '\r' && length < 200)
        length += 1;
    if (error->column > length + 1) return;
    text_add(out, "\n    ");
    for (size_t i = 0; i < length; i += 1)
        text_add(out, "%c", line[i] == 0 ? '?' : line[i]);
    text_add(out, "\n    ");
    for (size_t i = 0; i + 1 < error->column; i += 1)
        text_add(out, line[i] == '\t' ? "\t" : " ");
    text_add(out, "^");
}

const decl_function *decl_find(const decl_file *file, const char *library, const char *function) {
    for (uint32_t i = 0; i < file->library_count; i += 1) {
        const decl_library *found = file->libraries[i];
        if (strcmp(found->name, library) != 0) continue;
        for (uint32_t k = 0; k < found->function_count; k += 1)
            if (strcmp(found->functions[k]->name, function) == 0) return found->functions[k];
    }
    return NULL;
}
