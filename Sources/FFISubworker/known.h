/* The functions that this process knows: of declarations files, and of the configurations of tasks. */
#ifndef FFI_KNOWN_H
#define FFI_KNOWN_H

#include "call.h"

typedef struct known known;

known *known_make(void);
void known_release(known *self);

/* How many calls this process runs at once; then it takes functions that allow as many, and no others. Before known_register(). */
void known_set_threads(known *self, uint32_t threads);

/* Adds a declarations file; false after writing to `out` why not. */
bool known_add_file(known *self, const char *path, text *out);
/* Registers the task of every function of the files, and one that takes all names. */
csw_status known_register(known *self, csw_subworker *subworker);
/* Says of every function of the files whether it is there, and the signature of its task.
 *   returns   how many are not there */
uint32_t known_check(known *self, text *out);
/* A line for every function of the files: `libz/crc32 8`, its task and how many calls of it may run at once. */
void known_list(const known *self, text *out);

#endif
