/* Shared libraries, loaded once and never given back: their code may have left anything anywhere. A library is loaded and
 * begun once, whichever threads need it; while its initialisers run only those wait that want this library. */
#ifndef FFI_LIBRARY_H
#define FFI_LIBRARY_H

#include "value.h"

typedef struct library library;

/* What follows is used between these two. */
void library_lock(void);
void library_unlock(void);

/* The library of a declaration, loaded now or before.
 *   directory   what a file's relative path with a slash is relative to; NULL for the working directory
 *   returns     NULL after setting the problem */
library *library_open(const decl_library *declared, const char *directory, problem *problem);
/* The address of a function; NULL after setting the problem: there is none, or it is no code. */
void *library_symbol(const library *self, const char *name, problem *problem);

/* What follows is used between these two. */
void library_lock_start(library *self);
void library_unlock_start(library *self);

/* Whether its initialisers have run; what they said when one failed, else NULL. */
bool library_is_started(const library *self);
const char *library_failure(const library *self);
/* Says that they have run; failure NULL when all went well. */
void library_set_started(library *self, const char *failure);

#endif
