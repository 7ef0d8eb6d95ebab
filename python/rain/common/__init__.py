"""What the client and the subworker share."""

from .content_type import check_content_type, decode_value, encode_value, merge_content_types
from .data_instance import DataInstance
from .directory import DirectoryInstance
from .errors import RainException, RainWarning, SessionException, TaskException
from .labeled_list import LabeledList
from .states import DataObjectState, TaskState

__all__ = [
    "DataInstance",
    "DataObjectState",
    "DirectoryInstance",
    "LabeledList",
    "RainException",
    "RainWarning",
    "SessionException",
    "TaskException",
    "TaskState",
    "check_content_type",
    "decode_value",
    "encode_value",
    "merge_content_types",
]
