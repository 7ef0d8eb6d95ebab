"""Pickles: what travels between client and tasks, and the container that lets large arrays travel without a copy.

The container (`pickle5`), little-endian:

    8 bytes  b"RAINPKL5"
    u32      how many buffers      u32  reserved, 0
    u64      bytes of the pickle
    u64, u64 for each buffer: its offset from the start of the container, a multiple of 64, and its bytes
    the pickle (protocol 5), then the buffers in order, each after zeros up to its offset
"""

import pickle
import struct

from .errors import RainException

MAGIC = b"RAINPKL5"
#: Smaller buffers stay inside the pickle: copying them is cheaper than an entry of their own.
BUFFER_BYTES_MIN = 65536
_HEAD = struct.Struct("<8sIIQ")
_ENTRY = struct.Struct("<QQ")


def dump(value, by_value=False, buffer_callback=None) -> bytes:
    """A pickle that a process with other modules in `__main__` can read.

    The fast pickler writes functions and classes of `__main__` by name, which means another thing elsewhere; then, and
    when it gives up (lambdas, local functions), cloudpickle writes them by value.
    """
    if not by_value:
        try:
            data = pickle.dumps(value, 5, buffer_callback=buffer_callback)
        except (pickle.PicklingError, AttributeError, TypeError):
            data = None
        if data is not None and b"__main__" not in data:
            return data
        if buffer_callback is not None:
            buffer_callback.reset()
    return cloudpickle().dumps(value, 5, buffer_callback=buffer_callback)


def cloudpickle():
    try:
        import cloudpickle as module
    except ImportError:
        raise RainException("functions travel with the package cloudpickle: pip install cloudpickle") from None
    return module


class _Buffers:
    """Takes the large buffers out of a pickle."""

    def __init__(self):
        self.views = []

    def reset(self):
        self.views = []

    def __call__(self, buffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True  # Not contiguous: the pickle holds a copy.
        if view.nbytes < BUFFER_BYTES_MIN:
            return True
        self.views.append(view)
        return False


def dump_parts(value, by_value=False) -> list:
    """The pickle of a value as one part, or the parts of a container when the value has large buffers."""
    buffers = _Buffers()
    data = dump(value, by_value, buffers)
    if not buffers.views:
        return [data]
    position = _HEAD.size + _ENTRY.size * len(buffers.views) + len(data)
    entries = []
    body = [data]
    for view in buffers.views:
        padding = -position % 64
        if padding:
            body.append(bytes(padding))
        position += padding
        entries.append(_ENTRY.pack(position, view.nbytes))
        body.append(view)
        position += view.nbytes
    return [_HEAD.pack(MAGIC, len(entries), 0, len(data)) + b"".join(entries), *body]


def load_parts(data):
    """The value in a container; its large buffers are views of `data`, writable if that is."""
    view = memoryview(data)
    try:
        magic, count, reserved, pickle_size = _HEAD.unpack_from(view, 0)
        start = _HEAD.size + _ENTRY.size * count
        if magic != MAGIC or reserved != 0 or start + pickle_size > len(view):
            raise ValueError
        buffers = []
        for i in range(count):
            offset, size = _ENTRY.unpack_from(view, _HEAD.size + _ENTRY.size * i)
            if offset + size > len(view):
                raise ValueError
            buffers.append(view[offset : offset + size])
    except (struct.error, ValueError):
        raise RainException("the data is said to be 'pickle5' but is not, or was cut off") from None
    return pickle.loads(view[start : start + pickle_size], buffers=buffers)
