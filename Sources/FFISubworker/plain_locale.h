/* Numbers in texts are read with it: a library, or the program around this, may set a locale in which they have commas.
 * Who includes this defines _GNU_SOURCE. */
#ifndef FFI_PLAIN_LOCALE_H
#define FFI_PLAIN_LOCALE_H

#include <locale.h>

locale_t plain_locale(void);

#endif
