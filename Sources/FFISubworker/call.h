/* One call of a task: its inputs and arguments become the function's, what the function made becomes outputs. */
#ifndef FFI_CALL_H
#define FFI_CALL_H

#include "function.h"

#include <csubworker.h>

/*   memory    of this call; the caller gives it back
 *   returns   CSW_OK, or the status of a failure whose text the call has */
csw_status call_function(csw_call *call, function *function, scratch *memory);

#endif
