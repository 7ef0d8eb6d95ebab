/* What this process is doing, so that its log says it when the process ends by that. */
#ifndef FFI_MARKER_H
#define FFI_MARKER_H

/* From now on a crash or an exit is charged to this; texts that stay. NULL, NULL: to nobody. Two stores. */
void marker_set(const char *action, const char *title);
/* Writes one line to stderr when the process is ended by a fault or exits while something is marked. */
void marker_install(void);

#endif
