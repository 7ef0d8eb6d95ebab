"""Bringing results: many small ones in one answer, large ones by themselves."""

import json
import struct
from array import array
from bisect import bisect_left

from ..common.data_instance import DataInstance
from ..common.directory import DirectoryInstance
from ..common.errors import RainException, TaskException
from .outcomes import FINISHED, UNFINISHED

#: Objects in one request: small ones come in one answer of a few MB at most.
FETCH_OBJECTS_MAX = 4096
#: Objects that are brought ahead of a program that fetches one after the other, and their bytes in one answer.
AHEAD_OBJECTS_MAX = 512
AHEAD_BYTES_MAX = 1 << 20

_ROW = struct.Struct("<IBBHQ")


def ranges(numbers) -> list:
    """Numbers, in their order, as [first, count] ranges."""
    result = []
    for number in numbers:
        if result and result[-1][0] + result[-1][1] == number:
            result[-1][1] += 1
        else:
            result.append([number, 1])
    return result


def parse_results(body):
    """The rows of a bulk answer: (object, status, is directory, content type, size, bytes)."""
    position = 0
    types = {b"": None}
    while position < len(body):
        try:
            object_id, status, flags, type_size, size = _ROW.unpack_from(body, position)
        except struct.error:
            raise RainException("the server's results were cut off") from None
        position += 16
        name = body[position : position + type_size]
        content_type = types.get(name)
        if content_type is None and name:
            content_type = types[name] = name.decode()
        position += type_size
        data = b""
        if status != 1:
            data = body[position : position + size]
            if len(data) != size:
                raise RainException("the server's results were cut off")
            position += size
        yield object_id, status, flags & 1, content_type, size, data


class Results:
    """Fetches objects of a session.

    A program that fetches one object after the other would wait for an answer each time. So when it does, what is
    finished and next in order comes along: twice as much each time, and as much as fits into small answers.
    """

    def __init__(self, session):
        self._session = session
        #: Objects that were kept by their submits, in order, and the tasks that make them.
        self._kept_objects = array("I")
        self._kept_tasks = array("I")
        self._ahead = {}
        self._next_position = -1
        self._window = 1

    def add_kept(self, task):
        """A task was submitted with kept outputs."""
        for position in range(len(task._template.outputs)):
            if task._keep_mask >> position & 1:
                self._kept_objects.append(task._first_output + position)
                self._kept_tasks.append(task._id)

    def drop(self, object_id):
        self._ahead.pop(object_id, None)

    def fetch_many(self, objects) -> list:
        instances = []
        for start in range(0, len(objects), FETCH_OBJECTS_MAX):
            part = objects[start : start + FETCH_OBJECTS_MAX]
            ids = [self._checked_id(obj) for obj in part]
            # The rows first, which so are read to their end.
            instances += [self._instance(obj, row) for row, obj in zip(self._rows(ids), part)]
        return instances

    def fetch_one(self, obj) -> DataInstance:
        object_id = self._checked_id(obj)
        row = self._ahead.pop(object_id, None)
        if row is None:
            ids = [object_id, *self._ids_after(object_id)]
            rows = list(self._rows(ids))
            row = rows[0]
            for other in rows[1:]:
                if other[1] == 0:
                    self._ahead[other[0]] = other
            if sum(len(other[5]) for other in rows) > AHEAD_BYTES_MAX:
                self._window = max(1, self._window // 4)
        return self._instance(obj, row)

    def _ids_after(self, object_id) -> list:
        """What the program is likely to fetch next, where it is finished: nothing, unless it goes in order."""
        position = bisect_left(self._kept_objects, object_id)
        if position == len(self._kept_objects) or self._kept_objects[position] != object_id:
            return []
        self._window = min(self._window * 2, AHEAD_OBJECTS_MAX) if position == self._next_position else 1
        end = min(position + self._window, len(self._kept_objects))
        self._next_position = end
        if end == position + 1:
            return []
        outcomes = self._session._outcomes
        outcomes.take_waiting()
        removed = self._session._removed
        return [
            self._kept_objects[i]
            for i in range(position + 1, end)
            if outcomes.states[self._kept_tasks[i]] == FINISHED
            and self._kept_objects[i] not in removed
            and self._kept_objects[i] not in self._ahead
        ]

    def _checked_id(self, obj) -> int:
        session = self._session
        object_id = session._own_id(obj)
        if object_id >= session._submitted_objects:
            raise RainException(f"{obj!r} can't be fetched: submit it first")
        if obj._task is not None and not obj._task._keep_mask >> obj._position & 1:
            raise RainException(f"{obj!r} can't be fetched: it was not kept; call keep() before the submit")
        return object_id

    def _rows(self, ids):
        """The server's rows on these objects, one by one: thousands at a time would keep the garbage collector busy."""
        body = json.dumps({"objects": ranges(ids)}).encode()
        answer = self._session._request("POST", "results", body, accept="application/x-rain-rows")
        rows = parse_results(answer.body)
        for object_id in [*ids, None]:
            row = next(rows, (None,))
            if row[0] != object_id:
                raise RainException(f"the server sent other results than those {len(ids)} that were asked for")
            if object_id is not None:
                yield row

    def _instance(self, obj, row) -> DataInstance:
        _, status, is_directory, content_type, size, data = row
        if status == 1:
            data = self._session._request("GET", f"objects/{obj._id}/content").body
        elif status:
            raise self._missing(obj, status, data)
        obj._info = (size, content_type)
        instance = DirectoryInstance(data) if is_directory else DataInstance(data, content_type or obj._content_type)
        instance._attributes_source = obj
        if obj._task is not None and self._session._outcomes.states[obj._task._id] == UNFINISHED:
            self._session._outcomes.mark([[obj._task._id, 1]], FINISHED)
        return instance

    def _missing(self, obj, status, data) -> RainException:
        if status == 2:
            return RainException(f"{obj!r} is gone: it was let go")
        if status == 3:
            try:
                error = TaskException(json.loads(data))
            except ValueError:
                return RainException(f"the task of {obj!r} failed, and the server did not say how")
            self._session._note_failure(error)
            return error
        if status == 4:
            return obj._task._cancellation() if obj._task else RainException(f"the task of {obj!r} was cancelled")
        return RainException(f"{obj!r} can't be had now: {data.decode(errors='replace') or f'status {status}'}")
