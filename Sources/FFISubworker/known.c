#define _GNU_SOURCE
#include "known.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Templates are numbered from 1 up, so the newest ones share no place. */
enum { recent_count = 1024, entries_max = 1024 };

typedef struct file {
    struct file *next;
    char *directory;
    decl_file declarations;
} file;

/* A function of a task's configuration. */
typedef struct entry {
    uint64_t hash;
    char *key; /* method, NUL, configuration */
    size_t key_size;
    decl_file declarations;
    scratch memory;
    function *function;
} entry;

/* A function of a file, made when it is called first. */
typedef struct registered {
    struct registered *next;
    const file *file;
    const decl_library *library;
    const decl_function *declared;
    function *function;
} registered;

struct known {
    file *files;
    file **last_file;
    registered *registered;
    scratch memory; /* of all that belongs to files */
    struct {
        uint32_t template;
        function *function;
    } recent[recent_count];
    entry *entries[entries_max];
    uint32_t entry_count;
    scratch call_memory;
};

known *known_make(void) {
    known *self = calloc(1, sizeof *self);
    if (self != NULL) self->last_file = &self->files;
    return self;
}

static void release_entry(entry *entry) {
    scratch_release(&entry->memory);
    decl_release(&entry->declarations);
    free(entry->key);
    free(entry);
}

static void release_entries(known *self) {
    for (uint32_t i = 0; i < self->entry_count; i += 1)
        release_entry(self->entries[i]);
    self->entry_count = 0;
    memset(self->recent, 0, sizeof self->recent);
}

void known_release(known *self) {
    if (self == NULL) return;
    release_entries(self);
    while (self->files != NULL) {
        file *next = self->files->next;
        decl_release(&self->files->declarations);
        free(self->files->directory);
        free(self->files);
        self->files = next;
    }
    scratch_release(&self->memory);
    scratch_release(&self->call_memory);
    free(self);
}

/* --- Files ------------------------------------------------------------------------------------------------------ */

/* A file's bytes and one more; NULL after saying why. */
static char *read_whole(const char *path, size_t *size, text *out) {
    FILE *stream = fopen(path, "re");
    char *bytes = stream != NULL ? malloc(decl_text_bytes_max + 2) : NULL;
    *size = bytes != NULL ? fread(bytes, 1, decl_text_bytes_max + 1, stream) : 0;
    if (bytes == NULL || ferror(stream)) {
        text_add(out, "%s: %s\n", path, strerror(errno));
        free(bytes);
        bytes = NULL;
    }
    if (stream != NULL) fclose(stream);
    return bytes;
}

static bool add_functions(known *self, const file *from) {
    for (uint32_t i = 0; i < from->declarations.library_count; i += 1) {
        const decl_library *library = from->declarations.libraries[i];
        for (uint32_t k = 0; k < library->function_count; k += 1) {
            registered *made = scratch_take(&self->memory, sizeof *made);
            if (made == NULL) return false;
            *made = (registered){
                .next = self->registered, .file = from, .library = library, .declared = library->functions[k]};
            self->registered = made;
        }
    }
    return true;
}

bool known_add_file(known *self, const char *path, text *out) {
    size_t size;
    decl_error error;
    char *bytes = read_whole(path, &size, out);
    if (bytes == NULL) return false;
    file *made = calloc(1, sizeof *made);
    char *copy = strdup(path);
    bool is_read = made != NULL && copy != NULL;
    if (is_read) {
        made->directory = strdup(dirname(copy));
        *self->last_file = made;
        self->last_file = &made->next;
        is_read = decl_parse(bytes, size, &made->declarations, &error);
        if (!is_read) {
            decl_error_print(&error, path, bytes, size, out);
            text_add(out, "\n");
        } else if (!add_functions(self, made)) {
            text_add(out, "%s: no memory\n", path);
            is_read = false;
        }
    } else {
        text_add(out, "%s: no memory\n", path);
        free(made);
    }
    free(copy);
    free(bytes);
    return is_read;
}

/* --- Calls ------------------------------------------------------------------------------------------------------ */

static csw_status run_function(known *self, csw_call *call, function *function) {
    csw_status status = call_function(call, function, &self->call_memory);
    scratch_reset(&self->call_memory);
    return status;
}

/* FNV-1a. */
static uint64_t hash_of(const char *bytes, size_t size) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i += 1)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

/* A text in a configuration; NULL where it has none of this name. */
static const char *text_of(csw_bytes config, const char *name, scratch *memory, size_t *size) {
    json from = {.at = config.data, .end = (const char *)config.data + config.size};
    bool is_first = true, is_broken = false;
    if (json_peek(&from) != JSON_OBJECT || !json_enter(&from)) return NULL;
    while (json_next(&from, &is_first, &is_broken)) {
        size_t key_size;
        const char *key = json_key(&from, memory, &key_size);
        if (key == NULL) return NULL;
        if (strcmp(key, name) == 0) return json_string(&from, memory, size);
        if (!json_skip(&from)) return NULL;
    }
    return NULL;
}

static const char *declarations_of(csw_bytes config, scratch *memory, size_t *size) {
    return text_of(config, "declarations", memory, size);
}

/* Splits `libm/cos`; false when there is no slash. */
static bool split(const char *method, scratch *memory, const char **library, const char **function) {
    const char *slash = strchr(method, '/');
    if (slash == NULL) return false;
    *library = scratch_copy(memory, method, (size_t)(slash - method));
    *function = slash + 1;
    return *library != NULL;
}

static csw_status unknown(csw_call *call, const char *method) {
    return csw_fail(
        call,
        "no function '%s' is declared: declare it in the task's config, {\"declarations\": \"library … { … }\"}, or in "
        "a file "
        "that the worker is started with, --ffi FILE",
        method);
}

/* Makes the function of a configuration; NULL after setting the call's failure to `status`. */
static function *make_entry(
    known *self, csw_call *call, entry *made, const char *declarations, size_t size, csw_status *status) {
    const char *method = csw_call_method(call), *library, *name;
    decl_error error;
    problem problem;
    if (!decl_parse(declarations, size, &made->declarations, &error)) {
        text shown = {0};
        decl_error_print(&error, "declarations", declarations, size, &shown);
        *status = csw_fail(call, "%s", shown.has_failed ? error.message : shown.bytes);
        text_release(&shown);
        return NULL;
    }
    bool is_split = split(method, &self->call_memory, &library, &name);
    size_t directory_size;
    const char *directory = text_of(csw_call_config(call), "directory", &self->call_memory, &directory_size);
    const decl_function *declared = is_split ? decl_find(&made->declarations, library, name) : NULL;
    for (uint32_t i = 0; declared != NULL && i < made->declarations.library_count; i += 1) {
        const decl_library *found = made->declarations.libraries[i];
        if (strcmp(found->name, library) != 0) continue;
        made->function = function_make(found, declared, directory, &made->memory, &problem);
        if (made->function == NULL) *status = csw_fail(call, "%s", problem.text);
        return made->function;
    }
    *status = csw_fail(call, "the declarations of the task have no function '%s'", method);
    return NULL;
}

/* The function that the task's own configuration declares; NULL where it has none, or after setting a failure. */
static function *find_configured(known *self, csw_call *call, csw_status *status) {
    csw_bytes config = csw_call_config(call);
    size_t size, method_size = strlen(csw_call_method(call)) + 1, key_size = method_size + config.size;
    const char *declarations = declarations_of(config, &self->call_memory, &size);
    if (declarations == NULL) return NULL;
    char *key = malloc(key_size);
    entry *made = calloc(1, sizeof *made);
    if (key == NULL || made == NULL) {
        free(key);
        free(made);
        *status = csw_fail(call, "no memory");
        return NULL;
    }
    memcpy(key, csw_call_method(call), method_size);
    memcpy(key + method_size, config.data, config.size);
    *made = (entry){.hash = hash_of(key, key_size), .key = key, .key_size = key_size};
    for (uint32_t i = 0; i < self->entry_count; i += 1) {
        entry *found = self->entries[i];
        if (found->hash != made->hash || found->key_size != key_size || memcmp(found->key, key, key_size) != 0)
            continue;
        release_entry(made);
        return found->function;
    }
    function *function = make_entry(self, call, made, declarations, size, status);
    if (function == NULL) {
        release_entry(made);
        return NULL;
    }
    /* Nobody calls a thousand functions at once: they come from sessions that are gone. */
    if (self->entry_count == entries_max) release_entries(self);
    self->entries[self->entry_count++] = made;
    return function;
}

static csw_status run_any(csw_call *call, void *context) {
    known *self = context;
    uint32_t template = csw_call_template(call), place = template % recent_count;
    if (self->recent[place].template == template && self->recent[place].function != NULL)
        return run_function(self, call, self->recent[place].function);
    csw_status status = CSW_OK;
    function *function = find_configured(self, call, &status);
    if (function == NULL) {
        scratch_reset(&self->call_memory);
        return status != CSW_OK ? status : unknown(call, csw_call_method(call));
    }
    self->recent[place].template = template;
    self->recent[place].function = function;
    return run_function(self, call, function);
}

static known *owner; /* of the functions of files, whose tasks carry the function itself */

static csw_status run_registered(csw_call *call, void *context) {
    registered *self = context;
    problem problem;
    /* A task that brings declarations of its own means those. */
    if (csw_call_config(call).size > 2) {
        uint32_t template = csw_call_template(call), place = template % recent_count;
        size_t size;
        if (owner->recent[place].template == template) return run_any(call, owner);
        bool has_own = declarations_of(csw_call_config(call), &owner->call_memory, &size) != NULL;
        scratch_reset(&owner->call_memory);
        if (has_own) return run_any(call, owner);
    }
    if (self->function == NULL)
        self->function = function_make(self->library, self->declared, self->file->directory, &owner->memory, &problem);
    if (self->function == NULL) return csw_fail(call, "%s", problem.text);
    return run_function(owner, call, self->function);
}

csw_status known_register(known *self, csw_subworker *subworker) {
    owner = self;
    for (registered *task = self->registered; task != NULL; task = task->next) {
        char *name = scratch_print(&self->memory, "%s/%s", task->library->name, task->declared->name);
        if (name == NULL) return CSW_ENOMEM;
        const csw_task_type type = {
            CSW_TASK, .name = name, .documentation = task->declared->documentation, .function = run_registered,
            .context = task};
        csw_status status = csw_task(subworker, &type);
        if (status != CSW_OK) return status;
    }
    const csw_task_type any = {
        CSW_TASK, .name = "", .documentation = "A function that the task's config declares.", .function = run_any,
        .context = self};
    return csw_task(subworker, &any);
}

/* --- Checking --------------------------------------------------------------------------------------------------- */

static void check_one(
    known *self, const file *from, const decl_library *library, const decl_function *declared, text *out,
    uint32_t *missing) {
    problem problem;
    if (function_check(library, declared, from->directory, &self->memory, &problem)) {
        text_add(out, "ok       ");
        decl_task_signature(library, declared, out);
        text_add(out, "\n");
        return;
    }
    text_add(out, "missing  ffi/%s/%s: %s\n", library->name, declared->name, problem.text);
    *missing += 1;
}

uint32_t known_check(known *self, text *out) {
    uint32_t missing = 0;
    for (const file *from = self->files; from != NULL; from = from->next)
        for (uint32_t i = 0; i < from->declarations.library_count; i += 1) {
            const decl_library *library = from->declarations.libraries[i];
            for (uint32_t k = 0; k < library->function_count; k += 1)
                check_one(self, from, library, library->functions[k], out, &missing);
        }
    return missing;
}
