/* The functions that this process knows: of declarations files, and of the configurations of tasks. */
#ifndef FFI_KNOWN_H
#define FFI_KNOWN_H

#include "call.h"

typedef struct known known;

known *known_make(void);
void known_release(known *self);

/* Adds a declarations file; false after writing to `out` why not. */
bool known_add_file(known *self, const char *path, text *out);
/* Registers the task of every function of the files, and one that takes all names. */
csw_status known_register(known *self, csw_subworker *subworker);
/* Says of every function of the files whether it is there, and the signature of its task.
 *   returns   how many are not there */
uint32_t known_check(known *self, text *out);

#endif
