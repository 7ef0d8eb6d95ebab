"""Content types of C values: `array/f8` (of any length), `array/f8[3,4]` (of that shape), `array/f8[]` (one value).

Between the slash and the bracket is the type of the elements: a letter and a size as in numpy (b1, i1 … i8, u1 … u8,
f4, f8, f16, c8, c16), or a struct with its fields at their offsets and its size, `{x:f8@0,tag:i1[4]@8}16`.
"""

import math
import re
import struct

from .errors import RainException

FORMATS = {
    "b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q",
    "f4": "f", "f8": "d",
}  # fmt: skip
_SIMPLE = re.compile(r"[biufc]\d{1,2}")
_FIELD = re.compile(r"(\w+):")
_COUNT = re.compile(r"(?:\[(\d+)\])?@(\d+)")
_STRUCT_END = re.compile(r"\}(\d+)")


def split(content_type) -> tuple:
    """(code of the elements, shape): the shape is None where the content type has none."""
    body = content_type[6:]
    if not body.endswith("]") or body.endswith("[]"):
        return (body[:-2], ()) if body.endswith("[]") else (body, None)
    code, _, shape = body[:-1].rpartition("[")
    try:
        return code, tuple(int(length) for length in shape.split(","))
    except ValueError:
        raise RainException(f"content type {content_type!r} has no shape after its '['") from None


class _Struct:
    """The fields of a struct: (name, code or `_Struct`, count or None, offset)."""

    def __init__(self, fields, size):
        self.fields = fields
        self.size = size


def _parse(code, at=0):
    """(the element type at a place, where it ends)."""
    if code[at : at + 1] != "{":
        match = _SIMPLE.match(code, at)
        if match is None:
            raise RainException(f"{code!r} is no type of array elements")
        return match.group(), match.end()
    at += 1
    fields = []
    while True:
        name = _FIELD.match(code, at)
        if name is None:
            raise RainException(f"{code!r} is no type of array elements")
        kind, at = _parse(code, name.end())
        place = _COUNT.match(code, at)
        if place is None:
            raise RainException(f"{code!r} is no type of array elements")
        fields.append((name.group(1), kind, int(place.group(1)) if place.group(1) else None, int(place.group(2))))
        at = place.end()
        end = _STRUCT_END.match(code, at)
        if end is not None:
            return _Struct(fields, int(end.group(1))), end.end()
        at += 1


def _element_type(code):
    kind, end = _parse(code)
    if end != len(code):
        raise RainException(f"{code!r} is no type of array elements")
    return kind


def _dtype(kind):
    import numpy

    if isinstance(kind, str):
        return numpy.dtype(kind)
    formats = [(_dtype(k), (count,)) if count is not None else _dtype(k) for _, k, count, _ in kind.fields]
    names = [name for name, *_ in kind.fields]
    offsets = [offset for *_, offset in kind.fields]
    return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": kind.size})


def dtype_of(code):
    """The numpy dtype of elements."""
    return _dtype(_element_type(code))


def code_of(dtype) -> str:
    """The element type of a numpy dtype."""
    if dtype.fields is not None:
        fields = []
        for name, (kind, offset, *_) in dtype.fields.items():
            count = ""
            if kind.subdtype is not None:
                kind, shape = kind.subdtype
                count = f"[{math.prod(shape)}]"
            fields.append((offset, f"{name}:{code_of(kind)}{count}@{offset}"))
        return "{" + ",".join(text for _, text in sorted(fields)) + "}" + str(dtype.itemsize)
    if dtype.kind not in "biufc" or not dtype.isnative:
        raise RainException(
            f"an array of {dtype} has no form in C: convert it, for example with astype('f8'), or encode it as a pickle"
        )
    return f"{dtype.kind}{dtype.itemsize}"


def _value(kind, data, at):
    """One value at a place of the bytes: a number, or a dict of a struct."""
    if isinstance(kind, str):
        if kind in FORMATS:
            return struct.unpack_from("=" + FORMATS[kind], data, at)[0]
        import numpy

        return numpy.frombuffer(data, kind, 1, at)[0]
    result = {}
    for name, inner, count, offset in kind.fields:
        if count is None:
            result[name] = _value(inner, data, at + offset)
        else:
            size = inner.size if isinstance(inner, _Struct) else int(inner[1:])
            result[name] = [_value(inner, data, at + offset + i * size) for i in range(count)]
    return result


def decode(data, content_type):
    """What the bytes are: where the content type says one value, a number or a dict of a struct; else a numpy array."""
    code, shape = split(content_type)
    kind = _element_type(code)
    if shape == ():
        size = kind.size if isinstance(kind, _Struct) else int(kind[1:])
        if len(data) != size:
            raise RainException(f"{len(data)} bytes are no {content_type}, which has {size}")
        return _value(kind, data, 0)
    import numpy

    try:
        array = numpy.frombuffer(data, _dtype(kind))
        return array if shape is None else array.reshape(shape)
    except ValueError as error:
        raise RainException(f"{len(data)} bytes are no {content_type}: {error}") from None


def encode(value) -> tuple:
    """(bytes, content type) of a numpy array, or of what numpy makes one of."""
    import numpy

    if isinstance(value, numpy.ma.MaskedArray):
        raise RainException("a masked array has no form in C: give its filled(), or encode it as a pickle")
    array = numpy.asarray(value)
    if array.ndim:
        array = numpy.ascontiguousarray(array)
    shape = ",".join(str(length) for length in array.shape)
    content_type = f"array/{code_of(array.dtype)}[{shape}]"
    return array.reshape(-1).view("u1").data if array.size else b"", content_type
