"""Tasks and data objects, as a program sees them."""

import json
import threading

from ..common.content_type import check_content_type, encode_parts, merge_content_types
from ..common.data_instance import DataInstance
from ..common.directory import CONTENT_TYPE, is_directory_type, pack
from ..common.errors import RainException, TaskException
from ..common.labeled_list import LabeledList
from ..common.placeholder import take_input
from ..common.states import DataObjectState, TaskState
from .active import active_session
from .info import ObjectInfo, Spec
from .template import Template, call_site, describe_site, frames_at, to_json

#: What a server takes.
RETRIES_MAX = 1_000_000

#: While arguments are pickled: `collector`, which turns data objects into placeholders.
pickling = threading.local()


class DataObject:
    """Immutable bytes or a directory in a session: a constant of the program, or the output of a task."""

    __slots__ = ("_session", "_id", "_task", "_position", "label", "_content_type", "_info", "_is_kept", "_attributes")

    def __init__(self, session, id, label, content_type=None, task=None, position=0):
        self._session = session
        self._id = id
        #: The task that makes it; None for a constant.
        self._task = task
        self._position = position
        self.label = label
        self._content_type = content_type
        #: An `ObjectInfo`; after a fetch, until somebody asks for it, its size and content type.
        self._info = None
        self._is_kept = False
        self._attributes = None

    @property
    def session(self):
        return self._session

    @property
    def id(self) -> int:
        return self._id

    @property
    def task(self):
        return self._task

    @property
    def content_type(self):
        """The declared content type, or what the task made of it when that is known."""
        info = self.info
        if info is not None and info.content_type:
            return merge_content_types(self._content_type, info.content_type)
        return self._content_type

    @property
    def data_type(self) -> str:
        """ "dir" for a directory, else "blob"."""
        return "dir" if is_directory_type(self._content_type) else "blob"

    def expect_dir(self):
        """Raises unless it is a directory."""
        if self.data_type != "dir":
            raise RainException(f"{self!r} is a file; a directory is expected")

    def expect_blob(self):
        """Raises unless it is a file."""
        if self.data_type != "blob":
            raise RainException(f"{self!r} is a directory; a file is expected")

    @property
    def attributes(self) -> dict:
        """Attributes of the program's own: any JSON by name. Of a constant, set before its submit."""
        if self._attributes is None:
            self._attributes = {}
        return self._attributes

    @attributes.setter
    def attributes(self, value: dict):
        if self._task is not None:
            raise RainException(
                "an output has the attributes that its task gives it; set them on the task, or on a constant"
            )
        if self.state is not None:
            raise RainException("attributes can't be changed after the submit")
        self._attributes = value

    @property
    def spec(self) -> Spec:
        return Spec(self)

    @property
    def info(self):
        """None before `update` or `fetch`."""
        if self._info.__class__ is tuple:
            self._info = ObjectInfo(*self._info, None, self)
        return self._info

    def _made_attributes(self) -> dict:
        """Those that its task gave it, for the `DataInstance` of a fetch."""
        return self.info.user

    @property
    def state(self):
        """A `DataObjectState`, as far as the program has heard; None before the submit."""
        return self._session._object_state(self)

    def keep(self):
        """Keeps the object on the workers until `unkeep` or the end of the session. Only before the submit."""
        self._session._keep(self)

    def unkeep(self):
        """Lets the object go; at once when nothing needs it."""
        self._session.unkeep((self,))

    def is_kept(self) -> bool:
        if self._task is not None:
            return bool(self._task._keep_mask >> self._position & 1)
        return self._is_kept

    def wait(self):
        """Waits until the object is there."""
        self._session.wait((self,))

    def fetch(self) -> DataInstance:
        """Waits for the object and brings its bytes. It must be kept."""
        return self._session.fetch(self)

    def update(self):
        """Brings state and info."""
        self._session.update((self,))

    def __reduce_ex__(self, protocol):
        collector = getattr(pickling, "collector", None)
        if collector is None:
            raise RainException("a data object can't be pickled, except in the arguments of a remote function")
        return take_input, collector.reference(self)

    def __repr__(self):
        return f"<DataObject {self._id} {self.label!r} {self.state.value if self.state else 'not submitted'}>"


def check_label(label):
    if label is not None and not isinstance(label, str):
        raise TypeError(f"a label must be a str, not {label!r}")
    return label


class Task:
    """A task of any type.

    Args:
        task_type: `NAME/METHOD`: a subworker and its task, such as "wordcount/count". A subclass may set TASK_TYPE
            instead.
        inputs: data objects, or tasks with one output. (label, object) pairs or a `LabeledList` give labels.
        outputs: a number, labels, `Output`s, or None.
        config: any JSON, the same for many tasks.
        arguments: any JSON, of this task.
        cpus: how many CPUs it occupies.
        name: shown to people; "/" makes a hierarchy.
        session: None for the active one.
    """

    TASK_TYPE = None

    __slots__ = (
        "_session", "_id", "_template", "_inputs", "_row", "_name", "_first_output", "_output", "_keep_mask", "_info",
        "_attributes", "_policy",
    )  # fmt: skip

    def __init__(
        self, task_type=None, inputs=(), outputs=1, *, config=None, arguments=None, cpus=1, name=None, session=None
    ):
        if task_type is not None and not isinstance(task_type, str):
            raise TypeError("the first argument of a Task is its type, such as 'wordcount/count'; name the others")
        self._make(task_type or self.TASK_TYPE, inputs, outputs, config, arguments, cpus, name, session)

    def _make(self, task_type, inputs, outputs, config, arguments, cpus, name, session):
        """Fills in a new task and adds it to its session; what templates share is found by its text."""
        session = session or active_session()
        objects, input_labels, ids = ((), (), "")
        if inputs.__class__ is not tuple or inputs:
            objects, input_labels, ids = self._own_inputs(session, inputs)
        config_json = None if config is None else to_json(config)
        site, frame = call_site()
        is_simple = outputs.__class__ in (int, str)
        key = (task_type, config_json, input_labels, outputs if is_simple else self._declared(outputs), cpus, site)
        template = session._templates.get(key)
        if template is None:
            template = session._templates[key] = self._new_template(
                task_type, frames_at(frame), config_json, input_labels, self._declared(outputs), cpus
            )
        # One text for all that have neither: the collector of garbage looks at each again and again.
        if arguments is None:
            row = f"[{ids}],null" if ids else "[],null"
        else:
            row = f"[{ids}],{to_json(arguments)}"
        self._begin(session, template, objects, row, name)

    @staticmethod
    def _own_inputs(session, inputs) -> tuple:
        """(data objects, labels if one has any, numbers of the objects as text)."""
        if isinstance(inputs, (DataObject, Task)):
            inputs = (inputs,)
        elif isinstance(inputs, (str, bytes)):
            raise RainException("inputs are data objects; wrap this in blob()")
        labels = ()
        objects = []
        ids = []
        for value in inputs.items() if isinstance(inputs, LabeledList) else inputs:
            if type(value) is tuple and len(value) == 2:
                labels = labels or (None,) * len(objects)
                label, value = value
                labels += (check_label(label),)
            elif labels:
                labels += (None,)
            if type(value) is not DataObject:
                value = to_dataobj(value)
            objects.append(value)
            ids.append(str(session._own_id(value)))
        return objects, labels, ",".join(ids)

    @staticmethod
    def _declared(outputs) -> tuple:
        from .io import OutputSpec

        return OutputSpec(outputs).declarations()

    @staticmethod
    def _new_template(task_type, frames, config_json, input_labels, outputs, cpus) -> Template:
        if not isinstance(task_type, str) or "/" not in task_type:
            raise RainException(f"a task's type is NAME/METHOD, such as 'wordcount/count', not {task_type!r}")
        if not isinstance(cpus, int) or cpus < 0:
            raise RainException(f"cpus is a number, 0 or more, not {cpus!r}")
        return Template(task_type, frames, config=config_json, input_labels=input_labels, outputs=outputs, cpus=cpus)

    def _begin(self, session, template, inputs, row, name):
        self._session = session
        self._template = template
        # A tuple, and no list for one output: the collector of garbage walks through every list, again and again.
        self._inputs = tuple(inputs)
        self._row = row
        self._name = name
        #: The outputs that the program has asked for: one, or a list of them and None.
        self._output = None
        self._keep_mask = 0
        self._info = None
        self._attributes = None
        self._policy = None
        session._add_task(self, len(template.outputs))

    @property
    def session(self):
        return self._session

    @property
    def id(self) -> int:
        return self._id

    @property
    def name(self):
        return self._name or self._template.name

    @property
    def task_type(self) -> str:
        return self._template.type

    @property
    def cpus(self) -> int:
        return self._template.cpus

    @property
    def config(self):
        return None if self._template.config is None else json.loads(self._template.config)

    @property
    def inputs(self) -> LabeledList:
        labels = list(self._template.input_labels)
        return LabeledList(self._inputs, (labels + [None] * len(self._inputs))[: len(self._inputs)])

    @property
    def outputs(self) -> LabeledList:
        count = len(self._template.outputs)
        return LabeledList([self._output_at(i) for i in range(count)], [label for label, _ in self._template.outputs])

    def _output_at(self, position) -> DataObject:
        declared = self._template.outputs
        made = self._output
        if len(declared) > 1 and made is None:
            made = self._output = [None] * len(declared)
        result = made[position] if made.__class__ is list else made
        if result is None:
            label, content_type = declared[position]
            first = self._first_output
            result = DataObject(
                self._session, first + position if position else first, label, content_type, self, position
            )
            if made is None:
                self._output = result
            else:
                made[position] = result
        return result

    def _outputs_made(self) -> tuple:
        """The outputs that the program has asked for so far."""
        made = self._output
        if made is None:
            return ()
        return tuple(output for output in made if output is not None) if made.__class__ is list else (made,)

    @property
    def output(self) -> DataObject:
        """The only output."""
        count = len(self._template.outputs)
        if count != 1:
            raise RainException(
                f"{self!r} has {count} outputs: name one, as in task.outputs['label'] or task.outputs[0]"
            )
        return self._output_at(0)

    @property
    def attributes(self) -> dict:
        """Attributes of the program's own: any JSON by name; readable in the task. Set before the submit."""
        if self._attributes is None:
            self._attributes = {}
        return self._attributes

    @attributes.setter
    def attributes(self, value: dict):
        if self.state is not None:
            raise RainException("attributes can't be changed after the submit")
        self._attributes = value

    @property
    def retries(self) -> int:
        """How many times it runs again when its process crashes; 0 unless set, before the submit."""
        return (self._policy or {}).get("retries", 0)

    @retries.setter
    def retries(self, value: int):
        if type(value) is not int or not 0 <= value <= RETRIES_MAX:
            raise RainException(f"retries is a number from 0 to {RETRIES_MAX}, not {value!r}")
        self._set_policy("retries", value)

    @property
    def rerun(self) -> str:
        """Whether it may run again when its worker is lost: "on_loss", or "always" or "never", before the submit."""
        return (self._policy or {}).get("rerun", "on_loss")

    @rerun.setter
    def rerun(self, value: str):
        if value not in ("always", "on_loss", "never"):
            raise RainException(f"rerun is 'always', 'on_loss' or 'never', not {value!r}")
        self._set_policy("rerun", value)

    def _set_policy(self, name, value):
        if self.state is not None:
            raise RainException(f"{name} can't be changed after the submit")
        self._policy = {**(self._policy or {}), name: value}

    @property
    def spec(self) -> Spec:
        return Spec(self)

    @property
    def info(self):
        """A `TaskInfo`; None before `update`."""
        return self._info

    @property
    def state(self):
        """A `TaskState`, as far as the program has heard; None before the submit."""
        return self._session._task_state(self)

    @property
    def progress(self):
        """How far the task is, as it says itself: a `Progress` with `fraction` and `text`.

        The newest that has come, without waiting; None when the task does not run or says nothing.
        """
        return self._session._outcomes.progress_of(self._id)

    def keep_outputs(self):
        """Keeps every output; see `DataObject.keep`."""
        for output in self.outputs:
            output.keep()

    def unkeep_outputs(self):
        self._session.unkeep(self.outputs)

    def fetch_outputs(self) -> list:
        """Waits for the outputs and brings them, in order; of a task without outputs, for its end."""
        if not self._template.outputs:
            self.wait()
        return self._session.fetch(self.outputs)

    def wait(self):
        """Waits until the task is finished; raises TaskException when it failed."""
        self._session.wait((self,))

    def update(self):
        """Brings state and info."""
        self._session.update((self,))

    def _cancellation(self) -> TaskException:
        """What says that it was cancelled, with what the program knows of it."""
        return TaskException(
            {
                "task": self._id,
                "name": self.name,
                "type": self.task_type,
                "message": "the task was cancelled",
                "origin": describe_site(self._template.frames),
            }
        )

    def __reduce_ex__(self, protocol):
        return self.output.__reduce_ex__(protocol)

    def __repr__(self):
        title = f" '{self.name}'" if self.name else ""
        state = self.state
        return f"<Task {self._id}{title} {self.task_type} {state.value if state else 'not submitted'}>"


def to_dataobj(value) -> DataObject:
    """The data object that is meant by a data object or by a task with one output."""
    if isinstance(value, DataObject):
        return value
    if isinstance(value, Task):
        return value.output
    if isinstance(value, (str, bytes)):
        raise RainException(f"{value[:40]!r} is no data object: wrap it in blob()")
    raise RainException(
        f"{value!r} is no data object and no task: wrap values in blob(value, encode='pickle') or pickled()"
    )


def blob(value, label="const", content_type=None, encode=None, session=None) -> DataObject:
    """A constant: bytes as they are, text in UTF-8, or any value with an encoder.

    Args:
        value: bytes; str (content type "text"); anything else with `encode`.
        label: its role.
        content_type: what the bytes are; only with bytes.
        encode: how the value is turned into bytes, and the content type: "pickle", "json", "text", …
    """
    if encode is not None and content_type is not None:
        raise RainException("give encode or content_type, not both")
    if encode is not None:
        check_content_type(encode)
        parts, content_type = encode_parts(value, encode)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
    elif isinstance(value, str):
        if content_type is not None:
            raise RainException("content_type goes with bytes; for a str use encode='text-…' or nothing")
        data, content_type = value.encode(), "text"
    elif isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
        content_type = check_content_type(content_type)
    else:
        raise RainException(f"a value of type {type(value).__name__} needs encode=…, such as encode='pickle'")
    return (session or active_session())._add_constant(data, check_label(label), content_type)


def directory(source, label="const_dir", session=None) -> DataObject:
    """A constant that is a directory, taken as it is now.

    Args:
        source: the path of a directory of this machine; or the files as a dict: bytes, str (in UTF-8) or None (an empty
            directory) by relative path.
        label: its role.
    """
    return (session or active_session())._add_constant(pack(source), check_label(label), CONTENT_TYPE)


def pickled(value, label="pickle", session=None) -> DataObject:
    """A constant with a pickled value."""
    return blob(value, label, encode="pickle", session=session)


__all__ = ["DataObject", "DataObjectState", "Task", "TaskState", "blob", "directory", "pickled", "to_dataobj"]
