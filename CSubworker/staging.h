/* Files in the staging directory: outputs that are too large for a message, and inputs that somebody wants as a file. */
#ifndef CSW_STAGING_H
#define CSW_STAGING_H

#include "arena.h"

#include <stdatomic.h>

typedef struct csw_staging {
    char *directory; /* absolute; owned */
    uint64_t prefix; /* tells this process from an earlier one with the same number */
    _Atomic uint32_t next;
} csw_staging;

/* Functions that return bool leave errno. */

bool csw_staging_open(csw_staging *staging, const char *directory, size_t size);
void csw_staging_close(csw_staging *staging);
/* A path at which nothing is, in the staging directory or in another one; NULL when there is no memory. For any thread. */
char *csw_staging_name(csw_staging *staging, const char *directory, csw_arena *arena);
/* Whether a path is a direct child of the staging directory. */
bool csw_staging_contains(const csw_staging *staging, const char *path);

/* A new, empty file; -1 on failure. */
int csw_file_create(const char *path);
bool csw_file_write(int descriptor, const void *data, size_t size);
/* Makes sure that a file has its space from `from` on, so that a map of it can't fail later. */
bool csw_file_allocate(int descriptor, uint64_t from, uint64_t size);
/* A new file with these pieces, one after the other; nothing is left when it fails. */
bool csw_file_make(const char *path, const csw_bytes *parts, size_t count);
bool csw_file_copy(const char *from, const char *to);
/* A new directory with all that is in another one: files, directories and symbolic links; EINVAL for anything else. On failure
 * a part of it may be there. */
bool csw_tree_copy(const char *from, const char *to);
/* Removes a file, or a directory with all that is in it; it may be gone already. */
bool csw_file_remove(const char *path);

#endif
