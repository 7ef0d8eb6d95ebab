/* The C face of libcapnp for the two planes. */
#ifndef CCAPNP_H
#define CCAPNP_H
#include <stdint.h>
#endif
