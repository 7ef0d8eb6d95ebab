/* Says on the control page which of the calls that run at once made the process crash, so that the others are not charged. */
#ifndef CSW_FAULT_H
#define CSW_FAULT_H

#include "control_page.h"

#include <stddef.h>

/* Room for a handler to run on where the thread's own stack is full. */
enum { CSW_FAULT_STACK_BYTES = 32 << 10 };

/* From now on a fatal signal and exit() mark the call of the thread that they happen on; whoever handled the signal before
 * handles it then. Once for a process. */
void csw_fault_install(void);
/* This thread's handlers run on `stack`, of CSW_FAULT_STACK_BYTES; NULL: no more. */
void csw_fault_use_stack(void *stack);
/* What this thread does from now on is the call of the slot; NULL: of none. */
void csw_fault_watch(csw_control_slot *slot);

#endif
