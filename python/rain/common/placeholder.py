"""How data objects inside pickled arguments become data instances in the task."""

#: The inputs of the call whose arguments are being read: a function from (position, load, content type) to what the
#: argument shall be. A subworker runs one call at a time.
resolve = None


def take_input(position, load=False, content_type=None):
    """What a data object is pickled as."""
    return resolve(position, load, content_type)


def same(value):
    return value


class Parameter:
    """One parameter's value, so that the data objects inside are read as its `Input` says.

    A pickler asks an object how it is written and then writes what it said; so the settings are in force for the value
    and until the next parameter.
    """

    __slots__ = ("collector", "value", "load", "content_type")

    def __init__(self, collector, value, load, content_type):
        self.collector = collector
        self.value = value
        self.load = load
        self.content_type = content_type

    def __reduce__(self):
        self.collector.load = self.load
        self.collector.content_type = self.content_type
        return same, (self.value,)
