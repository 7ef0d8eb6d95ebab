/* An input's bytes, wherever they are: in memory, behind a descriptor or at a path. A file is mapped on its first use. */
#ifndef CSW_SOURCE_H
#define CSW_SOURCE_H

#include "csubworker.h"

typedef enum csw_source_kind { CSW_SOURCE_MEMORY, CSW_SOURCE_DESCRIPTOR, CSW_SOURCE_PATH } csw_source_kind;

typedef struct csw_source {
    csw_source_kind kind;
    bool is_directory;
    bool is_mapped;
    int descriptor; /* not owned */
    uint64_t size;
    const void *data; /* in memory, or of the map */
    const char *path; /* not owned */
} csw_source;

/* Makes the bytes readable at `data`. On failure `reason` is a format for the text of errno, or a text where that is 0. */
bool csw_source_map(csw_source *source, const char **reason, int *code);
void csw_source_unmap(csw_source *source);

#endif
