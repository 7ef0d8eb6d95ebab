"""Sessions: what a client's tasks and data objects live in."""

import base64
import json
import os
import struct
import sys
import threading
import time

from ..common.data_instance import DataInstance
from ..common.errors import RainException, SessionException, TaskException
from ..common.states import DataObjectState, TaskState
from .graph import DataObject, ObjectInfo, Task, TaskInfo, to_dataobj, to_json
from .http import ConnectionLost, Refused

#: Larger constants are uploaded on their own, before the submit.
INLINE_BYTES_MAX = 4096
#: Objects in one request for results: small ones come in one answer of a few MB at most.
FETCH_OBJECTS_MAX = 4096
#: The server writes to the lease every 10 s at least.
LEASE_SILENCE_SECONDS = 35
#: For so long a broken lease is taken up again, where the session has no grace time of its own.
RESUME_SECONDS = 5

_UNFINISHED, _FINISHED, _FAILED, _CANCELLED = range(4)
_TASK_STATES = {_FINISHED: TaskState.finished, _FAILED: TaskState.failed, _CANCELLED: TaskState.cancelled}
_ROW = struct.Struct("<IBBHQ")

_stack = []
_default = None


def get_active_session():
    """The session of the innermost `with`, else the default one."""
    if _stack:
        return _stack[-1]
    if _default is not None:
        return _default
    raise RainException("no session is active: open one with `with client.new_session() as session:`")


def ranges(numbers) -> list:
    """Numbers, in their order, as [first, count] ranges."""
    result = []
    for number in numbers:
        if result and result[-1][0] + result[-1][1] == number:
            result[-1][1] += 1
        else:
            result.append([number, 1])
    return result


def python_environment() -> list:
    """The environment in which the subworker finds the modules that are beside the program, or in `PYTHONPATH`."""
    library = os.path.dirname(os.__file__)
    paths = []
    for path in sys.path:
        path = os.path.abspath(path or ".")
        is_own = path.startswith(library) or path.endswith(("site-packages", "dist-packages", ".zip"))
        if not is_own and os.path.isdir(path) and ":" not in path:
            paths.append(path)
    return ["PYTHONPATH=" + ":".join(dict.fromkeys(paths))] if paths else []


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


class _Batch:
    """A submit on its way: kept until the server has answered it, so that it can be sent again as it was."""

    __slots__ = ("body", "nodes", "uploads", "template_keys", "first")

    def __init__(self, first):
        self.first = first
        self.body = b""
        self.nodes = []
        self.uploads = []
        self.template_keys = []


class Session:
    """A client's unit of lifetime: its tasks and data objects go when it closes. Made by `Client.new_session`."""

    def __init__(self, client, name, default, on_error, subworkers, grace):
        self.client = client
        self.name = name
        self._on_error = on_error
        self._grace = RESUME_SECONDS if grace is None else grace
        request = {"name": name, "on_error": on_error, "subworkers": [self._python_subworker()]}
        if grace is not None:
            request["grace_ms"] = int(grace * 1000)
        for subworker, command in (subworkers or {}).items():
            command = [command] if isinstance(command, (str, os.PathLike)) else command
            request["subworkers"].append({"name": subworker, "command": [os.fspath(part) for part in command]})
        answer = client._json("POST", "/api/v1/sessions", request)
        self.session_id = answer["session"]
        self._path = f"/api/v1/sessions/{self.session_id}"
        self._resume = answer.get("resume")
        self._lock = threading.Lock()
        self._templates = {}
        self._functions = {}
        self._next_template = self._next_task = self._next_object = 0
        self._submitted_tasks = self._submitted_objects = 0
        self._pending = []
        self._in_doubt = None
        self._states = bytearray()
        self._unfinished = 0
        self._failures = {}
        self._failure = None
        self._closed_reason = None
        self._removed = set()
        self._news = threading.Condition()
        self._is_reading = False
        self._reading_count = 0
        self._lease = self._open_lease()
        if default:
            self.set_as_default()

    @staticmethod
    def _python_subworker() -> dict:
        command = [sys.executable, "-u", "-m", "rain.subworker"]
        return {"name": "py", "command": command, "env": python_environment()}

    # The program's view of the session.

    @property
    def id(self) -> int:
        return self.session_id

    @property
    def active(self) -> bool:
        """Whether it is open."""
        return self._closed_reason is None

    @property
    def task_count(self) -> int:
        """Tasks that are not submitted."""
        return self._next_task - self._submitted_tasks

    @property
    def dataobj_count(self) -> int:
        """Data objects that are not submitted."""
        return self._next_object - self._submitted_objects

    @property
    def progress(self) -> tuple:
        """(tasks with an outcome, tasks submitted), as far as the program has heard."""
        return self._submitted_tasks - self._unfinished, self._submitted_tasks

    def set_as_default(self):
        """Makes it the session that is used outside of any `with`."""
        global _default
        self._check_open()
        _default = self

    def bind_only(self):
        """For `with`: makes the session active, and leaves it open at the end."""
        return _Binding(self)

    def __enter__(self):
        self._check_open()
        _stack.append(self)
        return self

    def __exit__(self, kind, error, trace):
        _stack.pop()
        try:
            self.close()
        except (RainException, OSError):
            if kind is None:
                raise  # Else what the program has to say is more important.

    def close(self):
        """Stops what runs and lets everything go. Returns when nothing of the session runs any more."""
        global _default
        if _default is self:
            _default = None
        if self._closed_reason is not None:
            return
        self._closed_reason = "it was closed"
        try:
            self.client._request("DELETE", self._path)
        except TaskException:
            pass  # It failed, which the program knows by now.
        except SessionException:
            pass  # The server closed it first.
        finally:
            self._lease.close()

    def submit(self):
        """Sends everything that is new. All of it is taken, or nothing.

        Raises:
            RainException: the server refused it; its tasks and objects are void, and the session goes on. When the
                server could not be reached instead, call `submit` again.
        """
        self._check_usable()
        while True:
            if self._in_doubt is None:
                if not self._pending:
                    return
                self._in_doubt = self._build_batch()
            try:
                self._send(self._in_doubt)
            except ConnectionLost:
                raise  # Perhaps it was taken: it must be sent again as it is.
            except RainException as error:
                if isinstance(error, TaskException):
                    self._note_failure(error)
                self._void(self._in_doubt)
                raise
            self._in_doubt = None

    def wait(self, items, progress=None):
        """Waits until all these tasks and data objects are finished.

        Args:
            items: tasks and data objects.
            progress: called as progress(finished, submitted) when there is news.
        """
        self._check_usable()
        if isinstance(items, (Task, DataObject)):
            items = (items,)
        for item in items:
            task = item if isinstance(item, Task) else item._task
            if not self._is_submitted(item):
                raise RainException(f"{item!r} can't be waited for: submit it first")
            if task is not None:
                self._wait_task(task._id, progress)

    def wait_all(self, progress=None):
        """Waits until every submitted task has its outcome, and raises the first failure if there is one."""
        self._check_usable()
        while self._unfinished:
            self._advance(progress)
        if self._failures:
            raise TaskException(next(iter(self._failures.values())))

    def fetch(self, items):
        """Waits for data objects and brings their bytes.

        Args:
            items: a data object or a task with one output; or many of them, which come in few requests.

        Returns:
            a `DataInstance`; for many, a list of them in the same order.
        """
        self._check_usable()
        if isinstance(items, (DataObject, Task)):
            return self._fetch([to_dataobj(items)])[0]
        objects = [item if type(item) is DataObject else to_dataobj(item) for item in items]
        instances = []
        for start in range(0, len(objects), FETCH_OBJECTS_MAX):
            instances += self._fetch(objects[start : start + FETCH_OBJECTS_MAX])
        return instances

    def keep_all(self):
        """Keeps every output that is not submitted yet."""
        for node in self._pending:
            if isinstance(node, Task):
                node._keep_mask = (1 << len(node._template.outputs)) - 1

    def unkeep(self, items):
        """Lets kept data objects go."""
        self._check_usable()
        objects = [to_dataobj(i) for i in ((items,) if isinstance(items, (DataObject, Task)) else items)]
        for obj in objects:
            self._own_id(obj)
            if not obj.is_kept():
                raise RainException(f"{obj!r} is not kept")
        submitted = [obj._id for obj in objects if self._is_submitted(obj)]
        if submitted:
            self._call("unkeep", {"objects": ranges(submitted)})
        for obj in objects:
            self._set_kept(obj, False)
            if self._is_submitted(obj):
                self._removed.add(obj._id)

    def update(self, items):
        """Brings the state and info of tasks and data objects."""
        self._check_usable()
        items = [items] if isinstance(items, (DataObject, Task)) else list(items)
        for item in items:
            if not self._is_submitted(item):
                raise RainException(f"{item!r} can't be updated: submit it first")
        tasks = {item._id: item for item in items if isinstance(item, Task)}
        objects = {item._id: item for item in items if isinstance(item, DataObject)}
        answer = self._call("info", {"tasks": ranges(sorted(tasks)), "objects": ranges(sorted(objects))})
        for record in answer.get("tasks", ()):
            task = tasks.get(record["task"])
            if task is not None:
                task._info = TaskInfo(record)
        for record in answer.get("objects", ()):
            obj = objects.get(record["object"])
            if obj is not None:
                obj._info = ObjectInfo(
                    record.get("size"), record.get("content_type"), record.get("attributes") or {}, obj
                )
                if record.get("state") == "dropped":
                    self._removed.add(obj._id)

    def cancel(self, tasks=None):
        """Stops tasks, or all of them, and returns when they have their outcomes."""
        self._check_usable()
        if isinstance(tasks, Task):
            tasks = (tasks,)
        self._call("cancel", {"all": True} if tasks is None else {"tasks": ranges([self._own_task(t) for t in tasks])})

    def __repr__(self):
        state = "failed" if self._failure else "open" if self.active else "closed"
        return f"<Session {self.session_id} {self.name!r} {state}>"

    # Building the graph.

    def _add_task(self, task, output_count):
        self._check_open()
        with self._lock:
            task._id = self._next_task
            task._first_output = self._next_object
            self._next_task += 1
            self._next_object += output_count
            self._pending.append(task)

    def _add_constant(self, data, label, content_type) -> DataObject:
        self._check_open()
        with self._lock:
            obj = DataObject(self, self._next_object, label, content_type)
            self._next_object += 1
            self._pending.append((obj, data))
        return obj

    def _own_id(self, obj) -> int:
        """The number of a data object that is used in this session."""
        if obj._session is not self:
            raise RainException(f"{obj!r} belongs to another session")
        if obj._id < 0:
            raise RainException("this data object is void: its submit was refused; make it again")
        return obj._id

    def _own_task(self, task) -> int:
        if task._session is not self or not self._is_submitted(task):
            raise RainException(f"{task!r} is not a submitted task of this session")
        return task._id

    def _is_submitted(self, node) -> bool:
        if node._session is not self:
            raise RainException(f"{node!r} belongs to another session")
        return 0 <= node._id < (self._submitted_tasks if isinstance(node, Task) else self._submitted_objects)

    def _keep(self, obj):
        self._own_id(obj)
        if self._is_submitted(obj):
            raise RainException(f"{obj!r} is submitted: keep it before")
        self._set_kept(obj, True)

    @staticmethod
    def _set_kept(obj, is_kept):
        if obj._task is None:
            obj._is_kept = is_kept
        elif is_kept:
            obj._task._keep_mask |= 1 << obj._position
        else:
            obj._task._keep_mask &= ~(1 << obj._position)

    def _task_state(self, task):
        if not 0 <= task._id < self._submitted_tasks:
            return None
        state = _TASK_STATES.get(self._states[task._id])
        if state is None:
            state = TaskState(task._info.state) if task._info is not None else TaskState.notAssigned
        return state

    def _object_state(self, obj):
        if not 0 <= obj._id < self._submitted_objects:
            return None
        if obj._id in self._removed:
            return DataObjectState.removed
        if (
            obj._task is None
            or self._states[obj._task._id] == _FINISHED
            or obj._info is not None
            and obj._info.size is not None
        ):
            return DataObjectState.finished
        return DataObjectState.unfinished

    # Sending it.

    def _build_batch(self) -> _Batch:
        with self._lock:
            batch = _Batch((self._next_template, self._submitted_tasks, self._submitted_objects))
            pending, self._pending = self._pending, []
            batch.nodes = pending
            first = {"first_template": batch.first[0], "first_task": batch.first[1], "first_object": batch.first[2]}
            lines = [to_json({"submit": first})]
            add = lines.append
            for node in pending:
                if type(node) is tuple:
                    add(self._constant_line(*node, batch))
                    continue
                template = node._template
                if node._attributes:
                    template_id = self._template_id(node, lines, batch)
                else:
                    template_id = template.ids.get(node._keep_mask)
                    if template_id is None:
                        template_id = self._template_id(node, lines, batch)
                if node._name is None:
                    add(f"[{template_id},{node._row}]")
                else:
                    add(f'[{template_id},{node._row},{{"name":{to_json(node._name)}}}]')
            missing = self._next_task - len(self._states)
            self._states += bytes(missing)
            self._unfinished += missing
            batch.body = ("\n".join(lines) + "\n").encode()
            return batch

    def _template_id(self, task, lines, batch) -> int:
        attributes = to_json(task._attributes) if task._attributes else None
        key = (task._keep_mask, attributes) if attributes else task._keep_mask
        template_id = task._template.ids.get(key)
        if template_id is None:
            template_id = task._template.ids[key] = self._next_template
            self._next_template += 1
            lines.append(task._template.line(task._keep_mask, attributes))
            batch.template_keys.append((task._template, key))
        return template_id

    def _constant_line(self, obj, data, batch) -> str:
        fields = {"label": obj.label or ""}
        if obj._content_type:
            fields["content_type"] = obj._content_type
        if obj._is_kept:
            fields["keep"] = True
        if obj._attributes:
            fields["attributes"] = obj._attributes
        if len(data) <= INLINE_BYTES_MAX:
            fields["data64"] = base64.b64encode(data).decode()
        else:
            import hashlib

            fields["blob"] = hashlib.sha256(data).hexdigest()
            batch.uploads.append((fields["blob"], data))
        return to_json({"object": fields})

    def _send(self, batch):
        while batch.uploads:
            name, data = batch.uploads[-1]
            self.client._request("PUT", f"/api/v1/blobs/{name}", data, "application/octet-stream")
            batch.uploads.pop()
        self.client._request("POST", self._path + "/submit", batch.body, "application/x-ndjson")
        for node in batch.nodes:
            if type(node) is tuple:
                self._submitted_objects += 1
            else:
                node._row = None
                self._submitted_tasks += 1
                self._submitted_objects += len(node._template.outputs)

    def _void(self, batch):
        """Takes back a refused submit, and what was made after it."""
        with self._lock:
            nodes = batch.nodes + self._pending
            self._pending = []
            self._in_doubt = None
            for template, key in batch.template_keys:
                del template.ids[key]
            self._next_template = batch.first[0]
            self._unfinished -= len(self._states) - batch.first[1]
            del self._states[batch.first[1] :]
            self._next_task, self._next_object = batch.first[1:]
            for node in nodes:
                if type(node) is tuple:
                    node[0]._id = -1
                    self._functions = {k: v for k, v in self._functions.items() if v is not node[0]}
                    self._templates = {k: t for k, t in self._templates.items() if node[0] not in t.constants}
                else:
                    node._id = node._first_output = -1
                    for output in node._output or ():
                        if output is not None:
                            output._id = -1

    # Hearing of outcomes.

    def _open_lease(self):
        return self.client._stream(f"{self._path}/lease?resume={self._resume}")

    def _wait_task(self, task_id, progress):
        while self._states[task_id] == _UNFINISHED:
            self._advance(progress)
        state = self._states[task_id]
        if state == _FAILED:
            raise TaskException(self._failures[task_id])
        if state == _CANCELLED:
            raise TaskException({"task": task_id, "message": "the task was cancelled"})

    def _advance(self, progress=None):
        """Waits for news over the lease and takes them in. One thread reads; others wait for it."""
        with self._news:
            seen = self._reading_count
            if self._is_reading:
                while self._is_reading and self._reading_count == seen:
                    self._news.wait()
                self._check_usable()
                return
            self._is_reading = True
        try:
            for line in self._read_lease():
                self._take_news(line)
        finally:
            with self._news:
                self._is_reading = False
                self._reading_count += 1
                self._news.notify_all()
        self._check_usable()
        if progress is not None:
            progress(*self.progress)

    def _read_lease(self) -> list:
        try:
            return self._lease.read(LEASE_SILENCE_SECONDS)
        except Refused as error:
            raise self.client._refusal(error.status, error.body) from None
        except ConnectionLost as error:
            self._lease.close()
            if self._closed_reason is not None:
                raise SessionException(f"the session was closed: {self._closed_reason}") from None
            self._resume_lease(error)
            return []
        except BaseException:
            # Interrupted, perhaps with bytes in hand: a lease taken up anew begins with all that it had said.
            self._lease.close()
            self._lease = self._open_lease()
            raise

    def _resume_lease(self, error):
        deadline = time.monotonic() + self._grace
        pause = 0.02
        while True:
            try:
                self._lease = self._open_lease()
                return
            except RainException:
                if time.monotonic() + pause > deadline:
                    raise RainException(
                        f"the server at {self.client.address}:{self.client.port} is gone ({error}), and session "
                        f"{self.session_id} with it"
                    ) from None
            time.sleep(pause)
            pause = min(1, pause * 2)

    def _take_news(self, line):
        try:
            news = json.loads(line)
        except ValueError:
            raise RainException(
                f"the lease of session {self.session_id} holds a line that is no JSON: {line[:60]!r}"
            ) from None
        if "finished" in news:
            self._mark(news["finished"], _FINISHED)
        if "cancelled" in news:
            self._mark(news["cancelled"], _CANCELLED)
        if "failed" in news:
            failure = news["failed"]
            self._failures.setdefault(failure["task"], failure)
            self._mark([[failure["task"], 1]], _FAILED)
        if "session_failed" in news:
            self._fail(news["session_failed"])
        if "closed" in news and self._closed_reason is None:
            self._closed_reason = news["closed"] or "the server closed it"

    def _mark(self, task_ranges, state):
        states = self._states
        for first, count in task_ranges:
            if first < 0 or count < 0 or first + count > len(states):
                raise RainException(f"the lease of session {self.session_id} speaks of tasks that it does not have")
            self._unfinished -= states.count(_UNFINISHED, first, first + count)
            states[first : first + count] = bytes((state,)) * count

    def _fail(self, failure):
        if self._failure is None:
            self._failure = failure
            task = failure.get("task")
            if isinstance(task, int) and 0 <= task < len(self._states):
                self._mark([[task, 1]], _FAILED)

    def _check_open(self):
        if self._closed_reason is not None:
            raise SessionException(f"session {self.session_id} is closed: {self._closed_reason}")

    def _check_usable(self):
        if self._failure is not None:
            raise TaskException(self._failure)
        self._check_open()

    # Asking.

    def _call(self, verb, value) -> dict:
        try:
            return self.client._json("POST", f"{self._path}/{verb}", value)
        except TaskException as error:
            self._note_failure(error)
            raise

    def _note_failure(self, error):
        if self._on_error == "fail_session":
            self._fail(error.failure)

    def _object_record(self, obj) -> dict:
        if self._closed_reason is not None:
            return {}
        return self._call("info", {"objects": [[obj._id, 1]]})["objects"][0]

    def _fetch(self, objects) -> list:
        ids = []
        submitted = self._submitted_objects
        for obj in objects:
            object_id = self._own_id(obj)
            if object_id >= submitted:
                raise RainException(f"{obj!r} can't be fetched: submit it first")
            if obj._task is not None and not obj._task._keep_mask >> obj._position & 1:
                raise RainException(f"{obj!r} can't be fetched: it was not kept; call keep() before the submit")
            ids.append(object_id)
        body = json.dumps({"objects": ranges(ids)}).encode()
        try:
            answer = self.client._request("POST", self._path + "/results", body, accept="application/x-rain-rows")
        except TaskException as error:
            self._note_failure(error)
            raise
        instances = []
        for obj, row in zip(objects, parse_results(answer.body)):
            object_id, status, _, content_type, size, data = row
            if object_id != obj._id:
                raise RainException(f"the server sent object {object_id} where {obj._id} was asked for")
            if status == 1:
                data = self._content(obj)
            elif status:
                raise self._missing(obj, status, data)
            obj._info = info = ObjectInfo(size, content_type, None, obj)
            instance = DataInstance(data, content_type or obj._content_type)
            instance._attributes_source = info
            if obj._task is not None and self._states[obj._task._id] == _UNFINISHED:
                self._mark([[obj._task._id, 1]], _FINISHED)
            instances.append(instance)
        if len(instances) != len(objects):
            raise RainException(f"the server sent {len(instances)} results of {len(objects)}")
        return instances

    def _content(self, obj) -> bytes:
        try:
            return self.client._request("GET", f"{self._path}/objects/{obj._id}/content").body
        except TaskException as error:
            self._note_failure(error)
            raise

    def _missing(self, obj, status, data) -> RainException:
        if status == 3:
            try:
                error = TaskException(json.loads(data))
            except ValueError:
                return RainException(f"the task of {obj!r} failed, and the server did not say how")
            self._note_failure(error)
            return error
        if status == 4:
            return TaskException({"task": obj._task._id if obj._task else None, "message": "the task was cancelled"})
        if status == 2:
            return RainException(f"{obj!r} is gone: it was let go")
        return RainException(f"{obj!r} can't be had now: {data.decode(errors='replace') or f'status {status}'}")


class _Binding:
    def __init__(self, session):
        self._session = session

    def __enter__(self):
        self._session._check_open()
        _stack.append(self._session)
        return self._session

    def __exit__(self, kind, error, trace):
        _stack.pop()
