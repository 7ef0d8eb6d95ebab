"""`spec`, `info` and `progress` of tasks and data objects."""

from typing import NamedTuple


class Spec:
    """What was asked for, as `spec`; `user` holds attributes of the program's own."""

    __slots__ = ("_node",)

    def __init__(self, node):
        object.__setattr__(self, "_node", node)

    @property
    def user(self) -> dict:
        return self._node.attributes

    @user.setter
    def user(self, value: dict):
        self._node.attributes = value

    def __getattr__(self, name):
        return getattr(self._node, name)


class Progress(NamedTuple):
    """How far a running task is, as it says itself."""

    #: From 0 to 1.
    fraction: float
    #: A line on what it does; may be empty.
    text: str = ""

    @classmethod
    def of(cls, record):
        """From the server's record; None when it knows nothing."""
        if not record or record.get("fraction") is None:
            return None
        return cls(float(record["fraction"]), record.get("text") or "")


class TaskInfo:
    """What became of a task, as of the last `update`."""

    __slots__ = ("state", "worker", "start_time", "duration", "progress", "debug", "user", "error")

    def __init__(self, record: dict):
        self.state = record.get("state")
        #: Name of the worker that ran it, or None.
        self.worker = record.get("worker")
        #: Seconds since 1970, or None.
        self.start_time = record.get("started")
        #: Seconds, or None.
        self.duration = record.get("duration_s")
        #: A `Progress` while it runs, or None.
        self.progress = Progress.of(record.get("progress"))
        #: Lines that the task wrote for debugging.
        self.debug = (record.get("debug") or "").removesuffix("\n")
        #: Attributes that the task gave itself.
        self.user = record.get("attributes") or {}
        failure = record.get("failure")
        self.error = failure.get("message") if failure else None

    @property
    def governor(self):
        """The worker, under its older name."""
        return self.worker

    @property
    def attributes(self) -> dict:
        return self.user

    def __repr__(self):
        return f"<TaskInfo {self.state} worker={self.worker!r} duration={self.duration}>"


class ObjectInfo:
    """What became of a data object, as of the last `update` or `fetch`."""

    __slots__ = ("size", "content_type", "_user", "_object")

    def __init__(self, size, content_type, user=None, object=None):
        self.size = size
        self.content_type = content_type or None
        self._user = user
        self._object = object

    @property
    def user(self) -> dict:
        """Attributes that its task gave it. A fetch does not bring them: they are asked for when they are wanted."""
        if self._user is None:
            self._user = self._object._session._object_record(self._object).get("attributes") or {}
        return self._user

    @property
    def attributes(self) -> dict:
        return self.user

    def __repr__(self):
        return f"<ObjectInfo {self.size} bytes, {self.content_type or 'no content type'}>"
