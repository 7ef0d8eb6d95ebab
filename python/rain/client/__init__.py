"""The client: sessions, tasks and data objects."""

from ..common import (
    DataInstance,
    DataObjectState,
    DirectoryInstance,
    LabeledList,
    RainException,
    RainWarning,
    SessionException,
    TaskException,
    TaskState,
)
from . import tasks
from .active import active_session as get_active_session
from .client import Client
from .graph import DataObject, Task, blob, directory, pickled, to_dataobj
from .info import Progress
from .io import Input, InputDir, Output, OutputDir, OutputSpec
from .program import Program
from .remote import Remote, remote
from .session import Session

__all__ = [
    "Client",
    "DataInstance",
    "DataObject",
    "DataObjectState",
    "DirectoryInstance",
    "Input",
    "InputDir",
    "LabeledList",
    "Output",
    "OutputDir",
    "OutputSpec",
    "Program",
    "Progress",
    "RainException",
    "RainWarning",
    "Remote",
    "Session",
    "SessionException",
    "Task",
    "TaskException",
    "TaskState",
    "blob",
    "directory",
    "cdll",
    "get_active_session",
    "load_declarations",
    "pickled",
    "remote",
    "tasks",
    "to_dataobj",
]


def __getattr__(name):
    # Few programs need them, and every program would wait for them.
    if name in ("cdll", "load_declarations"):
        from . import libraries

        return getattr(libraries, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
