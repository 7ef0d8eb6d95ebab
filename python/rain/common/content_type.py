"""Content types: names for what the bytes of a data object mean, and the encoders that Rain has for some of them."""

from .errors import RainException

_PLAIN = {"", "pickle", "pickle5", "cloudpickle", "json", "cbor", "arrow", "array", "text", "protobuf", "dir"}
_PREFIXES = ("text-", "array/", "protobuf/", "user/", "mime/")


def check_content_type(name):
    """Returns the name when it is a content type (None for none), else raises ValueError."""
    if name is None or name in _PLAIN or any(name.startswith(p) and len(name) > len(p) for p in _PREFIXES):
        return name or None
    known = ", ".join(sorted(_PLAIN - {"", "pickle5", "dir"}))
    raise ValueError(
        f"unknown content type {name!r}: there are {known}, text-ENCODING and protobuf/…; names of your own begin with "
        "'user/', media types with 'mime/'"
    )


def merge_content_types(first, second):
    """The narrower of two content types, one of which must be part of the other; None is part of nothing."""
    if not first:
        return second or None
    if not second or first.startswith(second):
        return first
    if second.startswith(first):
        return second
    pickles = {first, second}
    if pickles == {"pickle", "cloudpickle"}:
        return "cloudpickle"
    if pickles == {"pickle5", "cloudpickle"}:
        return "pickle5"
    raise RainException(f"content types {first!r} and {second!r} do not fit together")


def encode_parts(value, content_type):
    """Encodes a value.

    Returns:
        (parts, content type): the bytes are the parts one after the other. The type is the given one, or `pickle5`
        for a pickled value with large buffers (a numpy array), which are parts of their own and were not copied.
    """
    if content_type in ("pickle", "cloudpickle", "pickle5"):
        from .pickling import dump_parts

        parts = dump_parts(value, by_value=content_type == "cloudpickle")
        return parts, ("pickle5" if len(parts) > 1 else "pickle" if content_type == "pickle5" else content_type)
    if content_type == "json":
        import json

        return [json.dumps(value).encode()], content_type
    if content_type == "text" or (content_type or "").startswith("text-"):
        if not isinstance(value, str):
            raise RainException(
                f"a value of type {type(value).__name__} can't be encoded as {content_type}: give a str"
            )
        return [value.encode(_codec(content_type))], content_type
    if content_type == "cbor":
        return [_cbor().dumps(value)], content_type
    if content_type == "array":
        from .array_type import encode

        data, content_type = encode(value)
        return [data], content_type
    raise RainException(f"content type {content_type!r} has no encoder: encode the value yourself and give bytes")


def encode_value(value, content_type) -> bytes:
    """The bytes of a value; as `encode_parts`, in one piece."""
    parts, _ = encode_parts(value, content_type)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode_value(data, content_type):
    """The value that is encoded in bytes or a memoryview."""
    if content_type == "pickle5":
        from .pickling import load_parts

        return load_parts(data)
    if content_type in ("pickle", "cloudpickle"):
        import pickle

        return pickle.loads(data)
    if content_type == "json":
        import json

        return json.loads(bytes(data))
    if content_type == "text" or (content_type or "").startswith("text-"):
        return str(data, _codec(content_type))
    if content_type == "cbor":
        return _cbor().loads(bytes(data))
    if (content_type or "").startswith("array/"):
        from .array_type import decode

        return decode(data, content_type)
    if not content_type:
        raise RainException(
            "the data has no content type, so there is nothing to decode: take get_str() or get_bytes(); or name the "
            "type, in the task that makes it by Output(content_type=…), in one that reads it by Input(content_type=…)"
        )
    raise RainException(f"content type {content_type!r} has no decoder: take the bytes with get_bytes()")


def _codec(content_type) -> str:
    name = content_type[5:] or "utf-8"
    try:
        "".encode(name)
    except LookupError:
        raise RainException(f"content type {content_type!r}: Python knows no text encoding {name!r}") from None
    return name


def _cbor():
    try:
        import cbor2
    except ImportError:
        raise RainException("content type 'cbor' needs the package cbor2: pip install cbor2") from None
    return cbor2
