/* The calls of a message that is open: from the wire to a csw_call that can run. */
#ifndef CSW_CALLS_H
#define CSW_CALLS_H

#include "subworker.h"

/* Opens the next call of the subworker's open message in `call`, with its inputs. What is wrong with the call alone is its
 * failure, which csw_call_is_runnable() finds; what is wrong with the message fails the subworker. */
csw_status csw_calls_open_next(csw_subworker *subworker, csw_call *call);
/* Marks the call as running on the control page, if the worker has not taken it back. */
csw_taken csw_call_take(csw_call *call);
/* Whether the task can run the call at all; false after setting the call's failure. */
bool csw_call_is_runnable(csw_call *call);
/* Runs the function that is registered for it. */
csw_status csw_call_run(csw_call *call);

#endif
