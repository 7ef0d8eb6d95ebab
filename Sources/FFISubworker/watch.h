/* A bound in time for the loading of a library, whose constructors may do anything, and so may hang. */
#ifndef FFI_WATCH_H
#define FFI_WATCH_H

#include <stdbool.h>

/* From now on a load that takes longer than RAIN_PATIENCE seconds (30 where the environment doesn't say) ends the process
 * with code 1 and a line that names the file. For who checks a library: a task has time-outs of its own.
 *   returns   whether there is a thread for it */
bool watch_install(void);
/* Around each load; two stores without watch_install(). */
void watch_begin(const char *file);
void watch_end(void);

#endif
