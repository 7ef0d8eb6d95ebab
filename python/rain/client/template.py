"""Templates: what tasks of one place in the program share, and where that place is."""

import functools
import json

from .. import _sites
from ..common.directory import is_directory_type
from ..common.errors import RainException

#: Frames of the program that are remembered with a task.
ORIGIN_FRAMES_MAX = 6


_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def to_json(value) -> str:
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError) as error:
        raise RainException(f"{value!r:.200} must be JSON: {error}") from None
    if "\\ud" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # The server would take another character for each, silently.
            raise RainException(
                f"{value!r:.200} has text that UTF-8 can't write, such as a file name of other bytes"
            ) from None
    return text


#: Where the program is, outside of this package; for a function of this package: a key that is equal for the same
#: place, and stays unique while somebody keeps its `frames_at`; and the program's innermost frame, which nobody
#: should keep.
call_site = functools.partial(_sites.call_site, __package__, ORIGIN_FRAMES_MAX)


def frames_at(frame) -> list:
    """(code, instruction) of a frame and those around it, up to six, innermost first."""
    frames = []
    while frame is not None and len(frames) < ORIGIN_FRAMES_MAX:
        frames.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return frames


def describe_site(frames) -> str:
    """The lines of a call site: `flow.py:12 in main`, innermost first."""
    lines = []
    for code, at in frames:
        number = code.co_firstlineno
        for start, end, line in code.co_lines():
            if start <= at < end and line is not None:
                number = line
                break
        lines.append(f"{code.co_filename}:{number} in {code.co_name}")
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode()


class Template:
    """What tasks of one place in the program share. Made once for each place and kind of call; sent once."""

    __slots__ = (
        "type",
        "name",
        "config",
        "input_labels",
        "outputs",
        "constants",
        "cpus",
        "threads",
        "frames",
        "attributes",
        "ids",
    )

    def __init__(
        self,
        type,
        frames,
        *,
        name=None,
        config=None,
        input_labels=(),
        outputs=(),
        constants=(),
        cpus=1,
        threads=0,
        attributes=None,
    ):
        self.type = type
        self.frames = frames
        self.name = name
        #: JSON text or None.
        self.config = config
        self.input_labels = input_labels
        #: (label, content type or None) for each output.
        self.outputs = outputs
        #: Data objects.
        self.constants = constants
        self.cpus = cpus
        #: Calls that may run at once in a process; 0 where that is for the subworker to say.
        self.threads = threads
        self.attributes = attributes
        #: The template's number in its session, by (mask of kept outputs, fields of its tasks' own).
        self.ids = {}

    def line(self, keep_mask, own_fields) -> str:
        """As the server reads it; `own_fields` are those that its tasks differ in, as JSON without the braces."""
        fields = [f'"type":{to_json(self.type)}']
        if self.name:
            fields.append(f'"name":{to_json(self.name)}')
        if self.config is not None:
            fields.append(f'"config":{self.config}')
        if any(self.input_labels):
            fields.append(f'"inputs":{to_json([label or "" for label in self.input_labels])}')
        if self.constants:
            fields.append(f'"constants":{to_json([c._id for c in self.constants])}')
        outputs = []
        for i, (label, content_type) in enumerate(self.outputs):
            output = {"label": label or ""}
            if content_type:
                output["content_type"] = content_type
            if is_directory_type(content_type):
                output["directory"] = True
            if keep_mask >> i & 1:
                output["keep"] = True
            outputs.append(output)
        fields.append(f'"outputs":{to_json(outputs)}')
        if self.cpus != 1:
            fields.append(f'"cpus":{self.cpus}')
        if self.threads:
            fields.append(f'"threads":{self.threads}')
        fields.append(f'"origin":{to_json(describe_site(self.frames))}')
        if own_fields:
            fields.append(own_fields)
        return '{"template":{' + ",".join(fields) + "}}"
