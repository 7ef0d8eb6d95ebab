/* Memory that becomes an output once it is known which one, and that its owner may use for longer than the call. */
#ifndef CSW_MEMORY_H
#define CSW_MEMORY_H

#include "call.h"

struct csw_memory {
    csw_memory *next; /* of the call's */
    csw_call *call;   /* NULL when the call is over: the pages are the owner's alone */
    csw_output file;  /* MAPPED; its data, size and capacity outlast the call */
    bool is_output;   /* of the call: as much as `taken` of it */
    size_t output;    /* which */
    size_t taken;
};

/* Completes the file of an output that is memory, which its owner still has: from now on he writes to pages of his own.
 * False after setting the call's failure. */
bool csw_memory_seal(csw_memory *memory);
/* The output was set to something else. */
void csw_memory_take_back(csw_memory *memory);
/* The call is over. What is no output becomes ordinary memory of this process, and its file goes. */
void csw_memories_leave(csw_call *call);

#endif
