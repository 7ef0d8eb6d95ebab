"""Everything that Rain raises."""


class RainException(Exception):
    """Something was asked of Rain that it can't do; the text says what, and what to do."""


class RainWarning(Warning):
    """Something that works, but probably not as meant."""


class SessionException(RainException):
    """The session failed, or was closed."""


class TaskException(SessionException):
    """A task failed.

    The text tells the whole story; the attributes hold its parts, as the server sent them:
    `task` (number), `name`, `type`, `origin`, `cause`, `message`, `detail`, `debug`, `exit_code`, `signal`, `host`.
    """

    def __init__(self, failure: dict):
        self.failure = failure
        self.task = failure.get("task")
        self.name = failure.get("name") or ""
        self.type = failure.get("type") or ""
        self.origin = failure.get("origin") or ""
        self.cause = failure.get("cause") or ""
        self.message = failure.get("message") or "no message"
        self.detail = failure.get("detail") or ""
        self.debug = failure.get("debug") or ""
        self.exit_code = failure.get("exit_code")
        self.signal = failure.get("signal")
        self.host = failure.get("host") or ""
        super().__init__(describe_failure(self))

    def __reduce__(self):
        return TaskException, (self.failure,)


def describe_failure(error: TaskException) -> str:
    title = f"task {error.task}" if error.task is not None else "a task"
    if error.name and error.name != error.type:
        title += f" '{error.name}'"
    if error.type:
        title += f" ({error.type})"
    if error.host:
        title += f" on {error.host}"
    lines = [f"{title}: {error.message}"]
    if error.exit_code is not None and str(error.exit_code) not in error.message:
        lines.append(f"exit code {error.exit_code}")
    if error.signal is not None and str(error.signal) not in error.message:
        lines.append(f"ended by signal {error.signal}")
    for heading, text in (("Detail", error.detail), ("Debug", error.debug), ("Created at", error.origin)):
        if text:
            lines.append(f"\n{heading}:")
            lines += ["  " + line for line in text.rstrip("\n").split("\n")]
    return "\n".join(lines)
