/* TOML 1.0 as JSON, by Debian's toml++: one call, since Swift reads JSON already. */
#ifndef RAIN_CTOML_H
#define RAIN_CTOML_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads a TOML document.
 *   text, size   UTF-8
 *   error        set to what is wrong with it ("line 3, column 7: …") when NULL is returned; NULL when there was no memory
 *   returns      its root table as JSON text; dates and times are strings. Both are freed with free(). */
char *rain_toml_to_json(const char *text, size_t size, char **error);

#ifdef __cplusplus
}
#endif
#endif
