"""The bytes of a data object, in a client or in a task."""

from .content_type import decode_value


class Attributes:
    """The face of an instance that the original showed as `spec` and `info`: `user` holds the user's attributes."""

    __slots__ = ("_instance",)

    def __init__(self, instance):
        self._instance = instance

    @property
    def user(self) -> dict:
        return self._instance.attributes

    @property
    def content_type(self):
        return self._instance.content_type

    @property
    def size(self) -> int:
        return len(self._instance)


class DataInstance:
    """Bytes with a content type: what `fetch` returns, and what a Python task gets for a data object.

    The bytes don't change. `get_bytes` and `get_str` copy them; `get_buffer` and `load` don't need to.
    """

    __slots__ = ("_data", "_content_type", "_attributes", "_attributes_source", "_value", "_has_value", "input_index")

    def __init__(self, data=b"", content_type=None, attributes=None):
        self._data = data
        self._content_type = content_type or None
        self._attributes = attributes
        self._attributes_source = None
        self._has_value = False
        #: Position among the inputs of the task that it was given to; None outside one.
        self.input_index = None

    data_type = "blob"

    @property
    def content_type(self):
        return self._content_type

    @property
    def attributes(self) -> dict:
        """The user's attributes, any JSON values by name."""
        if self._attributes is None:
            source = self._attributes_source
            self._attributes = source._made_attributes() if source is not None else {}
        return self._attributes

    @attributes.setter
    def attributes(self, value: dict):
        self._attributes = value

    @property
    def spec(self) -> Attributes:
        return Attributes(self)

    @property
    def info(self) -> Attributes:
        return Attributes(self)

    def get_buffer(self) -> memoryview:
        """The bytes, read-only and without a copy."""
        return memoryview(self._data).toreadonly()

    def get_bytes(self) -> bytes:
        data = self._data
        return data if type(data) is bytes else bytes(data)

    def get_str(self, encoding=None) -> str:
        """The bytes as text, in UTF-8 or what the content type says."""
        if encoding is None:
            kind = self._content_type or ""
            encoding = kind[5:] if kind.startswith("text-") else "utf-8"
        return str(self._data, encoding)

    def load(self, cache=False):
        """The decoded value.

        Args:
            cache: keep the value, so that the next `load` returns the same one.
        """
        if self._has_value:
            return self._value
        data = self._data
        if self._content_type == "pickle5":
            # Arrays in it will be views of these bytes, and a program may write to them: give it bytes of its own.
            data = data.private_copy() if hasattr(data, "private_copy") else bytearray(data)
        value = decode_value(data, self._content_type)
        if cache:
            self._value = value
            self._has_value = True
        return value

    def write(self, path):
        """Writes the bytes to a file."""
        with open(path, "wb") as file:
            file.write(self._data)

    link = write

    def __len__(self):
        return len(self._data)

    def __repr__(self):
        return f"<DataInstance {len(self)} bytes, {self._content_type or 'no content type'}>"

    def __reduce__(self):
        return DataInstance, (self.get_bytes(), self._content_type, self.attributes or None)
