"""Sessions: what a client's tasks and data objects live in."""

import os
import sys
import threading
from binascii import crc32

from ..common.errors import RainException, SessionException, TaskException
from ..common.states import DataObjectState, TaskState
from . import active
from .batch import Batch
from .graph import DataObject, Task, to_dataobj
from .http import ConnectionLost
from .info import ObjectInfo, TaskInfo
from .outcomes import FINISHED, STATES, Outcomes
from .results import Results, ranges
from .warn import warn

#: For so long a session outlives a broken connection, where it has no grace time of its own.
GRACE_SECONDS = 5
#: The server counts milliseconds in 32 bits.
GRACE_SECONDS_MAX = 4_000_000
#: Python's own modules, and what is in the path of installed ones.
_LIBRARY = os.path.dirname(os.__file__)
_PACKAGES = {"site-packages", "dist-packages"}
CLOSED_HERE = "this program has closed it"
#: What a failed task ends.
ON_ERROR = ("fail_session", "fail_descendants")


def python_environment() -> list:
    """The environment in which the subworker finds the modules that are beside the program, or in `PYTHONPATH`."""
    # Modules of a cluster put packages there that the interpreter does not find by itself.
    named = {os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(":") if path}
    paths = []
    for path in sys.path:
        path = os.path.abspath(path or ".")
        if (path in named or not _is_installed(path)) and os.path.isdir(path) and ":" not in path:
            paths.append(path)
    version = "RAIN_PROGRAM_VERSION=" + modules_version()
    return ["PYTHONPATH=" + ":".join(dict.fromkeys(paths)), version] if paths else [version]


def _is_installed(path) -> bool:
    """Whether it comes with Python, or is where packages are installed."""
    return path.startswith(_LIBRARY) or path.endswith(".zip") or not _PACKAGES.isdisjoint(path.split(os.sep))


def modules_version() -> str:
    """Tells the modules that the program has imported, as they are now, from what they were before.

    Workers keep processes for the next session with the same command and environment, and a process keeps the modules
    that it has. Of installed packages only the directories are looked at, in which `pip` leaves a trace.
    """
    paths = {path for path in sys.path if os.path.basename(path) in _PACKAGES}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__dict__", {}).get("__file__")
        # Functions and classes of `__main__` travel with the tasks.
        if isinstance(path, str) and name != "__main__" and not _is_installed(path):
            paths.add(path)
    facts = []
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue  # It was read from elsewhere, or is gone.
        facts.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    return f"{crc32(repr(facts).encode(errors='surrogateescape')):08x}"


def program_environment(program) -> list:
    """Tells what is at the program's path now from what was there before: workers keep processes, by their command."""
    try:
        status = os.stat(program)
    except OSError:
        return []  # There may be something on the worker's machine.
    return [f"RAIN_PROGRAM_VERSION={status.st_mtime_ns}-{status.st_size}-{status.st_ino}"]


class Session:
    """A client's unit of lifetime: its tasks and data objects go when it closes. Made by `Client.new_session`."""

    def __init__(self, client, name, default, on_error, subworkers, grace):
        self.client = client
        self.name = name
        if not isinstance(name, str):
            raise RainException(f"a session's name is a str, not {name!r}")
        if grace is not None and not (isinstance(grace, (int, float)) and 0 <= grace <= GRACE_SECONDS_MAX):
            raise RainException(f"grace is a number of seconds from 0 to {GRACE_SECONDS_MAX}, not {grace!r}")
        if subworkers is not None and not hasattr(subworkers, "items"):
            raise RainException(f"subworkers are a dict of commands by name: {{'wc': './wc'}}, not {subworkers!r}")
        if on_error not in ON_ERROR:
            raise RainException(f"on_error is {' or '.join(map(repr, ON_ERROR))}, not {on_error!r}")
        self._on_error = on_error
        request = {"name": name, "on_error": on_error, "subworkers": [self._python_subworker()]}
        if grace is not None:
            request["grace_ms"] = int(grace * 1000)
        for subworker, command in (subworkers or {}).items():
            command = [command] if isinstance(command, (str, os.PathLike)) else command
            command = [os.fspath(part) for part in command]
            request["subworkers"].append({"name": subworker, "command": command})
            if environment := program_environment(command[0]):
                request["subworkers"][-1]["env"] = environment
        # Twice at worst: a session whose lease nobody takes up closes by itself.
        answer = client._json("POST", "/api/v1/sessions", request, patience=client.reconnect)
        self.session_id = answer["session"]
        self._path = f"/api/v1/sessions/{self.session_id}"
        #: Seconds for which requests are sent again: as long as the session may live without us, and a restart takes.
        self._patience = client.reconnect and client.reconnect + (GRACE_SECONDS if grace is None else grace)
        self._outcomes = Outcomes(client, self.session_id, answer.get("resume"), self._patience)
        self._results = Results(self)
        self._lock = threading.Lock()
        #: What tasks of one place share, by that place; functions that the server has, by `Remote`.
        self._templates = {}
        self._functions = {}
        self._next_template = self._next_task = self._next_object = 0
        self._submitted_objects = 0
        self._pending = []
        self._pending_subworkers = []
        #: Names that are taken.
        self._subworkers = {subworker["name"] for subworker in request["subworkers"]}
        self._in_doubt = None
        self._removed = set()
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
        return self._outcomes.closed_reason is None

    @property
    def task_count(self) -> int:
        """Tasks that are not submitted."""
        return self._next_task - self._outcomes.submitted

    @property
    def dataobj_count(self) -> int:
        """Data objects that are not submitted."""
        return self._next_object - self._submitted_objects

    @property
    def progress(self) -> tuple:
        """(tasks with an outcome, tasks submitted), as far as the program has heard."""
        return self._outcomes.progress

    def set_as_default(self):
        """Makes it the session that is used outside of any `with`."""
        self._outcomes.check_open()
        active.default = self

    def bind_only(self):
        """For `with`: makes the session active, and leaves it open at the end."""
        return _Binding(self)

    def __enter__(self):
        self._outcomes.check_open()
        active.enter(self)
        return self

    def __exit__(self, kind, error, trace):
        active.leave(self)
        lost = self._describe_lost() if kind is None else None
        try:
            # A server that is gone is not waited for when the program has something else to say.
            self._close(self._patience if kind is None else 0)
        except (RainException, OSError):
            if kind is None:
                raise  # Else what the program has to say is more important.
        if lost is not None:
            warn(f"session {self.session_id} {self.name!r} {lost}")

    def _describe_lost(self):
        """What the end of the session takes away from a program that has not waited for it; None for nothing."""
        outcomes = self._outcomes
        if outcomes.is_end_told:
            return None
        if outcomes.closed_reason is not None:
            return None if outcomes.closed_reason == CLOSED_HERE else f"was closed meanwhile: {outcomes.closed_reason}"
        try:
            if outcomes.failure is not None:
                raise TaskException(outcomes.failure)
            outcomes.take_waiting()
            if outcomes.unfinished:
                # A result that was fetched may be here before the outcomes of those that it was made from.
                status = self.client._json("GET", self._path)
                failure = status.get("failure")
                if failure:
                    raise TaskException(failure)
                done = sum(status.get(state, 0) for state in ("finished", "failed", "cancelled"))
                unfinished = status.get("tasks", done) - done
                if unfinished > 0:
                    return (
                        f"ends with {unfinished} of {outcomes.submitted} tasks unfinished, which stops them: "
                        "wait before, with session.wait_all(), or cancel them if that is meant"
                    )
        except TaskException as error:
            return f"ends, and nobody has waited for what failed in it: {error}"
        except (RainException, OSError):
            return None  # The end of the session says what is wrong with the server.
        unsent = sum(isinstance(node, Task) for node in self._pending)
        if unsent:
            return f"ends with {unsent} of {self._next_task} tasks never submitted: call session.submit() before"
        return None

    def close(self):
        """Stops what runs and lets everything go. Returns when nothing of the session runs any more."""
        self._close(self._patience)

    def _close(self, patience):
        if active.default is self:
            active.default = None
        if self._outcomes.closed_reason is not None:
            return
        self._outcomes.closed_reason = CLOSED_HERE
        try:
            self.client._request("DELETE", self._path, patience=patience)
        except TaskException:
            pass  # It failed, which the program knows by now.
        except SessionException:
            pass  # The server closed it first.
        finally:
            self._outcomes.close()

    def subworker(self, name, program, arguments=(), *, directory=None, env=None):
        """A program of this machine whose tasks, of type `NAME/…`, run on every worker while the session lasts.

            words = session.subworker("words", "./words")
            task = words.task("count", text)

        It is taken as it is now, and travels as a data object: workers need no configuration, and each gets it once.
        Its processes are the session's own and end with it.

        Args:
            name: the first part of its tasks' types.
            program: the path of an executable: one that is linked for the workers' machines, or a script with `#!`.
            arguments: what it is started with.
            directory: of this machine, where the program needs more than one file: it travels as a whole, and
                `program` is a path in it.
            env: variables to set, beside those of the worker.

        Returns:
            a `Subworker`, whose method `task` makes tasks.
        """
        from .subworkers import bring_along

        self._outcomes.check_open()
        subworker = bring_along(self, name, program, arguments, directory, env)
        self._subworkers.add(name)
        self._pending_subworkers.append(subworker)
        return subworker

    def submit(self):
        """Sends everything that is new. All of it is taken, or nothing.

        Raises:
            RainException: the server refused it; its tasks and objects are void, and the session goes on. When the
                server could not be reached instead, call `submit` again; so too when something in it is no JSON, which
                is found before anything is sent, once that is mended.
        """
        self._outcomes.check_usable()
        while True:
            if self._in_doubt is None:
                if not self._pending:
                    return
                self._in_doubt = self._build_batch()
            try:
                self._send(self._in_doubt)
            except ConnectionLost:
                raise  # Perhaps it was taken: it must be sent again as it is.
            except RainException:
                self._void(self._in_doubt)
                raise
            self._in_doubt = None

    def wait(self, items, progress=None):
        """Waits until all these tasks and data objects are finished.

        Args:
            items: tasks and data objects.
            progress: called as progress(finished, submitted) when there is news.
        """
        self._outcomes.check_usable()
        if isinstance(items, (Task, DataObject)):
            items = (items,)
        for item in items:
            if isinstance(item, Task):
                task = item
            elif isinstance(item, DataObject):
                task = item._task
            else:
                raise RainException(f"{item!r} can't be waited for: it is no task and no data object")
            if not self._is_submitted(item):
                raise RainException(f"{item!r} can't be waited for: submit it first")
            if task is not None:
                self._outcomes.wait_task(task, progress)

    def wait_all(self, progress=None):
        """Waits until every submitted task has its outcome, and raises the first failure if there is one."""
        self._outcomes.check_usable()
        self._outcomes.wait_all(progress)

    def fetch(self, items):
        """Waits for data objects and brings their bytes.

        Args:
            items: a data object or a task with one output; or many of them, which come in few requests.

        Returns:
            a `DataInstance`; for many, a list of them in the same order.
        """
        self._outcomes.check_usable()
        if isinstance(items, (DataObject, Task)):
            return self._results.fetch_one(to_dataobj(items))
        objects = [item if type(item) is DataObject else to_dataobj(item) for item in items]
        return self._results.fetch_many(objects)

    def keep_all(self):
        """Keeps every output that is not submitted yet."""
        for node in self._pending:
            if isinstance(node, Task):
                node._keep_mask = (1 << len(node._template.outputs)) - 1

    def unkeep(self, items):
        """Lets kept data objects go."""
        self._outcomes.check_usable()
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
                self._results.drop(obj._id)

    def update(self, items):
        """Brings the state and info of tasks and data objects."""
        self._outcomes.check_usable()
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
        self._outcomes.check_usable()
        if isinstance(tasks, Task):
            tasks = (tasks,)
        numbers = range(self._outcomes.submitted) if tasks is None else [self._own_task(task) for task in tasks]
        self._call("cancel", {"all": True} if tasks is None else {"tasks": ranges(numbers)})
        self._outcomes.wait_known(numbers)

    def __repr__(self):
        state = "failed" if self._outcomes.failure else "open" if self.active else "closed"
        return f"<Session {self.session_id} {self.name!r} {state}>"

    # Building the graph.

    def _add_task(self, task, output_count):
        if self._outcomes.closed_reason is not None:
            self._outcomes.check_open()
        with self._lock:
            task._id = self._next_task
            task._first_output = self._next_object
            self._next_task += 1
            self._next_object += output_count
            self._pending.append(task)

    def _add_constant(self, data, label, content_type) -> DataObject:
        self._outcomes.check_open()
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
        return 0 <= node._id < (self._outcomes.submitted if isinstance(node, Task) else self._submitted_objects)

    def _keep(self, obj):
        if self._own_id(obj) < self._submitted_objects:
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
        if not 0 <= task._id < self._outcomes.submitted:
            return None
        state = STATES.get(self._outcomes.states[task._id])
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
            or self._outcomes.states[obj._task._id] == FINISHED
            or obj._info is not None
            and obj.info.size is not None
        ):
            return DataObjectState.finished
        return DataObjectState.unfinished

    # Sending it.

    def _build_batch(self) -> Batch:
        with self._lock:
            first = (self._next_template, self._outcomes.submitted, self._submitted_objects)
            batch = Batch(self._pending, self._pending_subworkers, first)
            self._pending, self._pending_subworkers = [], []
            self._next_template = batch.next_template
            self._outcomes.set_count(self._next_task)
            return batch

    def _send(self, batch):
        while batch.uploads:
            name, data = batch.uploads[-1]
            path = f"/api/v1/blobs/{name}"
            self.client._request("PUT", path, data, "application/octet-stream", patience=self._patience)
            batch.uploads.pop()
        self._request("POST", "submit", batch.body, "application/x-ndjson")
        task_count = object_count = 0
        for node in batch.nodes:
            if type(node) is tuple:
                object_count += 1
            else:
                node._row = None
                if node._keep_mask:
                    self._results.add_kept(node)
                task_count += 1
                object_count += len(node._template.outputs)
        self._outcomes.submitted += task_count
        self._submitted_objects += object_count

    def _void(self, batch):
        """Takes back a refused submit, and what was made after it."""
        with self._lock:
            nodes = batch.nodes + self._pending
            self._subworkers -= {subworker.name for subworker in batch.subworkers + self._pending_subworkers}
            self._pending = []
            self._pending_subworkers = []
            self._in_doubt = None
            batch.forget_templates()
            self._next_template, self._next_task, self._next_object = batch.first
            self._outcomes.set_count(self._next_task)
            for node in nodes:
                if type(node) is tuple:
                    node[0]._id = -1
                else:
                    node._id = node._first_output = -1
                    for output in node._outputs_made():
                        output._id = -1
            # What rests on them has to be sent anew.
            self._functions = {
                remote: function
                for remote, function in self._functions.items()
                if all(obj._id >= 0 for obj in (function.blob, *function.inputs))
            }
            self._templates = {
                key: template
                for key, template in self._templates.items()
                if all(constant._id >= 0 for constant in template.constants)
            }

    # Asking.

    def _request(self, method, verb, body=None, content_type="application/json", accept=None):
        try:
            path = f"{self._path}/{verb}"
            return self.client._request(method, path, body, content_type, accept, patience=self._patience)
        except TaskException as error:
            self._note_failure(error)
            raise

    def _call(self, verb, value) -> dict:
        try:
            return self.client._json("POST", f"{self._path}/{verb}", value, patience=self._patience)
        except TaskException as error:
            self._note_failure(error)
            raise

    def _note_failure(self, error):
        if self._on_error == "fail_session":
            self._outcomes.fail(error.failure)
            self._outcomes.is_end_told = True

    def _object_record(self, obj) -> dict:
        """What the server knows of an object; nothing when the session is closed."""
        return self._call("info", {"objects": [[obj._id, 1]]})["objects"][0] if self.active else {}


class _Binding:
    def __init__(self, session):
        self._session = session

    def __enter__(self):
        self._session._outcomes.check_open()
        active.enter(self._session)
        return self._session

    def __exit__(self, kind, error, trace):
        active.leave(self._session)
