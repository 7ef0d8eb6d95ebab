#define _GNU_SOURCE
#include "known.h"

#include <errno.h>
#include <libgen.h>
#include <pthread.h>
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

/* A function of a file. */
typedef struct registered {
    struct registered *next;
    struct known *owner;
    const file *file;
    const decl_library *library;
    const decl_function *declared;
    uint32_t number;
} registered;

/* What a thread runs calls with. A function holds the values of its call, so each thread has its own of each. */
typedef struct caller {
    struct caller *next;
    struct {
        uint32_t template;
        function *function;
    } recent[recent_count];
    entry *entries[entries_max];
    uint32_t entry_count;
    function **registered; /* by number; made when it is called first */
    scratch memory;        /* of those */
    scratch call_memory;
} caller;

struct known {
    file *files;
    file **last_file;
    registered *registered;
    uint32_t registered_count;
    uint32_t threads;
    scratch memory;       /* of all that belongs to files */
    pthread_mutex_t lock; /* guards what follows */
    caller *callers;
};

/* This thread's, of the one `known` of a process. */
static _Thread_local caller *own;

known *known_make(void) {
    known *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    self->last_file = &self->files;
    self->threads = 1;
    pthread_mutex_init(&self->lock, NULL); /* Without attributes it can't fail. */
    return self;
}

void known_set_threads(known *self, uint32_t threads) {
    self->threads = threads;
}

static void release_entry(entry *entry) {
    scratch_release(&entry->memory);
    decl_release(&entry->declarations);
    free(entry->key);
    free(entry);
}

static void release_entries(caller *self) {
    for (uint32_t i = 0; i < self->entry_count; i += 1)
        release_entry(self->entries[i]);
    self->entry_count = 0;
    memset(self->recent, 0, sizeof self->recent);
}

static void release_caller(caller *self) {
    release_entries(self);
    scratch_release(&self->memory);
    scratch_release(&self->call_memory);
    free(self->registered);
    free(self);
}

void known_release(known *self) {
    if (self == NULL) return;
    while (self->callers != NULL) {
        caller *next = self->callers->next;
        release_caller(self->callers);
        self->callers = next;
    }
    own = NULL;
    while (self->files != NULL) {
        file *next = self->files->next;
        decl_release(&self->files->declarations);
        free(self->files->directory);
        free(self->files);
        self->files = next;
    }
    scratch_release(&self->memory);
    pthread_mutex_destroy(&self->lock);
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

static bool is_registered(const known *self, const decl_library *library, const decl_function *declared) {
    for (const registered *task = self->registered; task != NULL; task = task->next)
        if (strcmp(task->library->name, library->name) == 0 && strcmp(task->declared->name, declared->name) == 0)
            return true;
    return false;
}

/* False after saying why. */
static bool add_functions(known *self, const file *from, const char *path, text *out) {
    for (uint32_t i = 0; i < from->declarations.library_count; i += 1) {
        const decl_library *library = from->declarations.libraries[i];
        for (uint32_t k = 0; k < library->function_count; k += 1) {
            registered *made = scratch_take(&self->memory, sizeof *made);
            if (made == NULL) {
                text_add(out, "%s: no memory\n", path);
                return false;
            }
            if (is_registered(self, library, library->functions[k])) {
                text_add(
                    out, "%s:%u:%u: '%s' of the library '%s' is declared in a file before this one, too\n", path,
                    (unsigned)library->functions[k]->line, (unsigned)library->functions[k]->column,
                    library->functions[k]->name, library->name);
                return false;
            }
            *made = (registered){
                .next = self->registered,
                .owner = self,
                .file = from,
                .library = library,
                .declared = library->functions[k],
                .number = self->registered_count};
            self->registered = made;
            self->registered_count += 1;
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
        } else {
            is_read = add_functions(self, made, path, out);
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

static caller *make_caller(known *self) {
    caller *made = calloc(1, sizeof *made);
    function **registered = calloc(self->registered_count + 1, sizeof(function *));
    if (made == NULL || registered == NULL) {
        free(made);
        free(registered);
        return NULL;
    }
    made->registered = registered;
    pthread_mutex_lock(&self->lock);
    made->next = self->callers;
    self->callers = made;
    pthread_mutex_unlock(&self->lock);
    own = made;
    return made;
}

/* Makes a function; NULL after failing the call. */
static function *make_function(
    const known *self, csw_call *call, const decl_library *library, const decl_function *declared,
    const char *directory, scratch *memory, csw_status *status) {
    problem problem;
    if (declared->threads < self->threads) {
        *status = csw_fail(
            call,
            "%s/%s: its task wants to run with others in a process, \"threads\", but its declaration allows %u: write "
            "threads = n there too",
            library->name, declared->name, (unsigned)declared->threads);
        return NULL;
    }
    function *made = function_make(library, declared, directory, memory, &problem);
    if (made == NULL) *status = csw_fail(call, "%s", problem.text);
    return made;
}

static csw_status run_function(caller *self, csw_call *call, function *function) {
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
    const known *self, caller *caller, csw_call *call, entry *made, const char *declarations, size_t size,
    csw_status *status) {
    const char *method = csw_call_method(call), *library, *name;
    decl_error error;
    if (!decl_parse(declarations, size, &made->declarations, &error)) {
        text shown = {0};
        decl_error_print(&error, "declarations", declarations, size, &shown);
        *status = csw_fail(call, "%s", shown.has_failed ? error.message : shown.bytes);
        text_release(&shown);
        return NULL;
    }
    bool is_split = split(method, &caller->call_memory, &library, &name);
    size_t directory_size;
    const char *directory = text_of(csw_call_config(call), "directory", &caller->call_memory, &directory_size);
    const decl_function *declared = is_split ? decl_find(&made->declarations, library, name) : NULL;
    for (uint32_t i = 0; declared != NULL && i < made->declarations.library_count; i += 1) {
        const decl_library *found = made->declarations.libraries[i];
        if (strcmp(found->name, library) != 0) continue;
        made->function = make_function(self, call, found, declared, directory, &made->memory, status);
        return made->function;
    }
    *status = csw_fail(call, "the declarations of the task have no function '%s'", method);
    return NULL;
}

/* The function that the task's own configuration declares; NULL where it has none, or after setting a failure. */
static function *find_configured(const known *self, caller *caller, csw_call *call, csw_status *status) {
    csw_bytes config = csw_call_config(call);
    size_t size, method_size = strlen(csw_call_method(call)) + 1, key_size = method_size + config.size;
    const char *declarations = declarations_of(config, &caller->call_memory, &size);
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
    for (uint32_t i = 0; i < caller->entry_count; i += 1) {
        entry *found = caller->entries[i];
        if (found->hash != made->hash || found->key_size != key_size || memcmp(found->key, key, key_size) != 0)
            continue;
        release_entry(made);
        return found->function;
    }
    function *function = make_entry(self, caller, call, made, declarations, size, status);
    if (function == NULL) {
        release_entry(made);
        return NULL;
    }
    /* Nobody calls a thousand functions at once: they come from sessions that are gone. */
    if (caller->entry_count == entries_max) release_entries(caller);
    caller->entries[caller->entry_count++] = made;
    return function;
}

static csw_status run_any(csw_call *call, void *context) {
    const known *self = context;
    caller *caller = own != NULL ? own : make_caller(context);
    if (caller == NULL) return csw_fail(call, "no memory");
    uint32_t template = csw_call_template(call), place = template % recent_count;
    if (caller->recent[place].template == template && caller->recent[place].function != NULL)
        return run_function(caller, call, caller->recent[place].function);
    csw_status status = CSW_OK;
    function *function = find_configured(self, caller, call, &status);
    if (function == NULL) {
        scratch_reset(&caller->call_memory);
        return status != CSW_OK ? status : unknown(call, csw_call_method(call));
    }
    caller->recent[place].template = template;
    caller->recent[place].function = function;
    return run_function(caller, call, function);
}

static csw_status run_registered(csw_call *call, void *context) {
    const registered *self = context;
    caller *caller = own != NULL ? own : make_caller(self->owner);
    if (caller == NULL) return csw_fail(call, "no memory");
    /* A task that brings declarations of its own means those. */
    if (csw_call_config(call).size > 2) {
        uint32_t template = csw_call_template(call), place = template % recent_count;
        size_t size;
        if (caller->recent[place].template == template) return run_any(call, self->owner);
        bool has_own = declarations_of(csw_call_config(call), &caller->call_memory, &size) != NULL;
        scratch_reset(&caller->call_memory);
        if (has_own) return run_any(call, self->owner);
    }
    function *function = caller->registered[self->number];
    if (function == NULL) {
        csw_status status = CSW_OK;
        function = make_function(
            self->owner, call, self->library, self->declared, self->file->directory, &caller->memory, &status);
        if (function == NULL) return status;
        caller->registered[self->number] = function;
    }
    return run_function(caller, call, function);
}

csw_status known_register(known *self, csw_subworker *subworker) {
    for (registered *task = self->registered; task != NULL; task = task->next) {
        char *name = scratch_print(&self->memory, "%s/%s", task->library->name, task->declared->name);
        if (name == NULL) return CSW_ENOMEM;
        const csw_task_type type = {
            CSW_TASK,
            .name = name,
            .documentation = task->declared->documentation,
            .function = run_registered,
            .context = task,
            .threads = self->threads};
        csw_status status = csw_task(subworker, &type);
        if (status != CSW_OK) return status;
    }
    const csw_task_type any = {
        CSW_TASK,
        .name = "",
        .documentation = "A function that the task's config declares.",
        .function = run_any,
        .context = self,
        .threads = self->threads};
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
        if (declared->threads > 1) text_add(out, ", threads = %u", (unsigned)declared->threads);
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

void known_list(const known *self, text *out) {
    for (const file *from = self->files; from != NULL; from = from->next)
        for (uint32_t i = 0; i < from->declarations.library_count; i += 1) {
            const decl_library *library = from->declarations.libraries[i];
            for (uint32_t k = 0; k < library->function_count; k += 1)
                text_add(
                    out, "%s/%s %u\n", library->name, library->functions[k]->name,
                    (unsigned)library->functions[k]->threads);
        }
}
