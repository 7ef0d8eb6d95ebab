// Nothing of libcapnp is shown to Swift: CCapnp wraps it. This module only links it.
