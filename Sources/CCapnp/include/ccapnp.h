/* Messages of the control plane and of the subworker plane, between bytes and plain C structs, by libcapnp.
 *
 * libcapnp is C++, and its exceptions must not reach a Swift frame: everything is caught here and comes back as text.
 * A message is one call. Its content lies in columns, flat arrays of structs that speak of each other by position, so that
 * neither side allocates for each field; text and data are positions in one array of bytes. Decoded, that array is the
 * message itself; to be encoded, it is whatever the caller gathered.
 *
 * A work area belongs to one thread at a time. */
#ifndef CCAPNP_H
#define CCAPNP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Text (UTF-8, no NUL behind it) or data: a part of the columns' bytes. */
typedef struct cc_bytes {
    uint32_t offset;
    uint32_t length;
} cc_bytes;

/* A part of a column. */
typedef struct cc_range {
    uint32_t first;
    uint32_t count;
} cc_range;

/* An attempt (index: the task), or a replica (index: the object). */
typedef struct cc_id {
    uint32_t session;
    uint32_t index;
    uint32_t epoch;
    uint32_t number;
} cc_id;

typedef struct ccapnp_work ccapnp_work;

/*   returns      NULL when there is no memory */
ccapnp_work *ccapnp_open(void);
void ccapnp_close(ccapnp_work *work);

/* Copies what the last encode made, standard stream framing, and forgets it.
 *   to           as many bytes as that encode said */
void ccapnp_take(ccapnp_work *work, uint8_t *to);

#ifdef __cplusplus
}
#endif
#endif
