"""How data objects inside pickled arguments become data instances in the task."""

#: The inputs of the call whose arguments are being read: a function from (position, load, content type) to what the
#: argument shall be. A subworker runs one call at a time.
resolve = None


def take_input(position, load=False, content_type=None):
    """What a data object is pickled as."""
    return resolve(position, load, content_type)
