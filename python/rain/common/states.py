"""The states of tasks and data objects, under the names that the Python package has always had."""

from enum import Enum


class TaskState(Enum):
    notAssigned = "waiting"
    ready = "ready"
    assigned = "assigned"
    running = "running"
    finished = "finished"
    failed = "failed"
    cancelled = "cancelled"


class DataObjectState(Enum):
    unfinished = "unfinished"
    finished = "finished"
    removed = "dropped"
