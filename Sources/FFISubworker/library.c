#define _GNU_SOURCE
#include "library.h"

#include "marker.h"
#include "watch.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct library {
    library *next;
    char *key;
    void **handles;
    uint32_t handle_count;
    pthread_mutex_t starting; /* guards what follows */
    bool is_started;
    char *failure;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static library *loaded;

void library_lock(void) {
    pthread_mutex_lock(&lock);
}

void library_unlock(void) {
    pthread_mutex_unlock(&lock);
}

void library_lock_start(library *self) {
    pthread_mutex_lock(&self->starting);
}

void library_unlock_start(library *self) {
    pthread_mutex_unlock(&self->starting);
}

/* What makes two declarations the same library: its files, and how it is begun. */
static char *key_of(const decl_library *declared, const char *directory) {
    text key = {0};
    text_add(&key, "%s\n", declared->name);
    for (uint32_t i = 0; i < declared->file_count; i += 1) {
        const char *file = declared->files[i];
        bool is_relative = directory != NULL && *file != '/' && strchr(file, '/') != NULL;
        text_add(&key, "%s%s%s\n", is_relative ? directory : "", is_relative ? "/" : "", file);
    }
    for (uint32_t i = 0; i < declared->initialiser_count; i += 1)
        text_add(&key, "%s %d\n", declared->initialisers[i]->signature, (int)declared->initialisers[i]->errors);
    if (key.has_failed) text_release(&key);
    return key.bytes;
}

/* The lines of the key after the first name the files. */
static bool load(library *self, const decl_library *declared, problem *problem) {
    bool are_shared = declared->file_count > 1;
    char *line = strchr(self->key, '\n') + 1;
    for (uint32_t i = 0; i < declared->file_count; i += 1) {
        char *end = strchr(line, '\n');
        *end = 0;
        marker_set("loading", line);
        watch_begin(line);
        void *handle = dlopen(line, RTLD_NOW | (are_shared ? RTLD_GLOBAL : RTLD_LOCAL));
        watch_end();
        marker_set(NULL, NULL);
        if (handle == NULL) {
            problem_set(problem, "the library %s can't be loaded: %s", declared->name, dlerror());
            return false;
        }
        *end = '\n';
        line = end + 1;
        self->handles[self->handle_count++] = handle;
    }
    return true;
}

static void release(library *self) {
    free(self->key);
    free(self->handles);
    free(self->failure);
    free(self);
}

library *library_open(const decl_library *declared, const char *directory, problem *problem) {
    char *key = key_of(declared, directory);
    for (library *known = loaded; known != NULL && key != NULL; known = known->next) {
        if (strcmp(known->key, key) != 0) continue;
        free(key);
        return known;
    }
    library *made = calloc(1, sizeof *made);
    void **handles = calloc(declared->file_count, sizeof *handles);
    if (made == NULL || handles == NULL || key == NULL) {
        free(made);
        free(handles);
        free(key);
        problem_set(problem, "no memory for the library %s", declared->name);
        return NULL;
    }
    *made = (library){.next = loaded, .key = key, .handles = handles, .starting = PTHREAD_MUTEX_INITIALIZER};
    if (!load(made, declared, problem)) {
        release(made);
        return NULL;
    }
    loaded = made;
    return made;
}

/* Whether an address is that of code: calling a variable would be a crash without a reason. */
static bool is_code(void *address) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || symbol == NULL) return true;
    int type = symbol->st_info & 0xf;
    return type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE;
}

void *library_symbol(const library *self, const char *name, problem *problem) {
    const char *end = strchr(self->key, '\n');
    for (uint32_t i = self->handle_count; i > 0; i -= 1) {
        void *found = dlsym(self->handles[i - 1], name);
        if (found != NULL && is_code(found)) return found;
        if (found != NULL) {
            problem_set(problem, "'%s' in %.*s is no function", name, (int)(end - self->key), self->key);
            return NULL;
        }
    }
    problem_set(
        problem, "%.*s (%.*s) has no function '%s'", (int)(end - self->key), self->key,
        (int)(strchr(end + 1, '\n') - end - 1), end + 1, name);
    return NULL;
}

bool library_is_started(const library *self) {
    return self->is_started;
}

const char *library_failure(const library *self) {
    return self->failure;
}

void library_set_started(library *self, const char *failure) {
    self->is_started = true;
    if (failure != NULL) self->failure = strdup(failure);
}
