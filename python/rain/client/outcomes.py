"""What became of a session's tasks, as its lease tells it."""

import json
import threading
import weakref

from ..common.errors import RainException, RainWarning, SessionException, TaskException
from ..common.states import TaskState
from .http import ConnectionLost, Refused
from .info import Progress
from .outage import Outage
from .warn import LEASE_THREAD, warn

#: The server writes to the lease every 10 s at least.
LEASE_SILENCE_SECONDS = 35
#: For so long news may lie unread while the program does something else, or waits for a result: there may be a warning.
UNREAD_SECONDS = 3

UNFINISHED, FINISHED, FAILED, CANCELLED = range(4)
STATES = {FINISHED: TaskState.finished, FAILED: TaskState.failed, CANCELLED: TaskState.cancelled}


class Outcomes:
    """The outcomes of all tasks of a session, and the lease over which they come.

    Waiting is local: one thread of those that wait reads the lease, the others wait for it. A thread of its own takes
    up the lease again when it breaks while the program does something else.

    Attributes:
        states: one byte for each task.
        submitted: how many tasks the server has taken.
        unfinished: how many of `states` are UNFINISHED.
        task_progress: how far running tasks are that say so.
        failures: as the server sent them, by task, in order.
        failure: the one that ended the session, or None.
        closed_reason: None while the session is open.
        is_end_told: whether the program has heard of either.
    """

    def __init__(self, client, session_id, resume, patience):
        self._client = client
        self._session_id = session_id
        self._path = f"/api/v1/sessions/{session_id}/lease?resume={resume}"
        #: Seconds for which a broken lease is taken up again.
        self._patience = patience
        self._outage = None
        self.states = bytearray()
        self.submitted = 0
        self.unfinished = 0
        self.task_progress = {}
        self.failures = {}
        self.failure = None
        self.closed_reason = None
        self.is_end_told = False
        #: What the server says on tasks that wait in vain: told already, and to be told.
        self._known_hints = set()
        self._hints = []
        self._lock = threading.Lock()
        self._news = threading.Condition()
        self._is_reading = False
        self._reading_count = 0
        self._lease = self._open_lease(Outage(f"the server at {client.address}:{client.port}", patience))
        threading.Thread(target=_keep_lease, args=(weakref.ref(self),), name=LEASE_THREAD, daemon=True).start()

    @property
    def progress(self) -> tuple:
        """(tasks with an outcome, tasks submitted)."""
        return self.submitted - self.unfinished, self.submitted

    def set_count(self, count):
        """Makes place for as many tasks; those that are taken away have no outcome."""
        with self._lock:
            more = count - len(self.states)
            if more > 0:
                self.states += bytes(more)
            else:
                del self.states[count:]
            self.unfinished += more

    def mark(self, task_ranges, state):
        states = self.states
        with self._lock:
            for first, count in task_ranges:
                if first < 0 or count < 0 or first + count > len(states):
                    raise RainException(
                        f"the lease of session {self._session_id} speaks of tasks that it does not have"
                    )
                self.unfinished -= states.count(UNFINISHED, first, first + count)
                states[first : first + count] = bytes((state,)) * count
            if self.task_progress:
                for task in [task for task in self.task_progress if states[task] != UNFINISHED]:
                    del self.task_progress[task]

    def note_progress(self, records):
        for record in records:
            task = record["task"]
            if not 0 <= task < len(self.states):
                raise RainException(f"the lease of session {self._session_id} speaks of a task that it does not have")
            progress = Progress.of(record)
            with self._lock:
                if progress is None or self.states[task] != UNFINISHED:
                    self.task_progress.pop(task, None)
                else:
                    self.task_progress[task] = progress

    def progress_of(self, task_id):
        """The newest that has come, without waiting; None when nothing is known."""
        # A lease that broke is taken up again by the thread that looks after it: that takes time.
        if self.closed_reason is None and self.failure is None and not self._lease.wait_for_end(0):
            try:
                self.take_waiting()
            except RainException:
                pass  # The program hears of it when it next waits.
        return self.task_progress.get(task_id)

    def fail(self, failure):
        """The session has failed as a whole."""
        if self.failure is None:
            self.failure = failure
            self.task_progress.clear()
            task = failure.get("task")
            if isinstance(task, int) and 0 <= task < len(self.states):
                self.mark([[task, 1]], FAILED)

    def check_open(self):
        if self.closed_reason is not None:
            self._note_told()
            raise SessionException(f"session {self._session_id} is closed: {self.closed_reason}")

    def check_usable(self):
        if self.failure is not None:
            self._note_told()
            raise TaskException(self.failure)
        self.check_open()

    def _note_told(self):
        # What the thread that looks after the lease is told goes no further.
        self.is_end_told |= threading.current_thread().name != LEASE_THREAD

    def wait_task(self, task, progress):
        task_id = task._id
        while self.states[task_id] == UNFINISHED:
            self.advance(progress)
        state = self.states[task_id]
        if state == FAILED:
            raise TaskException(self.failures[task_id])
        if state == CANCELLED:
            raise task._cancellation()

    def wait_known(self, task_ids):
        """Waits until the outcomes of tasks are known that have one at the server."""
        for task_id in task_ids:
            while self.states[task_id] == UNFINISHED:
                self.advance()

    def wait_all(self, progress):
        while self.unfinished:
            self.advance(progress)
        if self.failures:
            raise TaskException(next(iter(self.failures.values())))

    def advance(self, progress=None):
        """Waits for news and takes them in."""
        with self._news:
            seen = self._reading_count
            if self._is_reading:
                while self._is_reading and self._reading_count == seen:
                    self._news.wait()
                self.check_usable()
                return
            self._is_reading = True
        try:
            for line in self._read():
                self._take(line)
        finally:
            with self._news:
                self._is_reading = False
                self._reading_count += 1
                self._news.notify_all()
        self._tell_hints()
        self.check_usable()
        if progress is not None:
            progress(*self.progress)

    def _tell_hints(self):
        """Once all news are taken in: a program may make exceptions of warnings."""
        while self._hints:
            warn(f"session {self._session_id}: {self._hints.pop(0)}")

    def take_waiting(self):
        """Takes in what has come already, without waiting."""
        while not self._is_reading and self.unfinished and self._lease.has_bytes():
            self.advance()

    def keep_lease(self):
        """For the thread that looks after the lease: takes it up again if it is broken, and reads what nobody reads."""
        with self._news:
            while self._is_reading:
                self._news.wait()
        try:
            while self.closed_reason is None and not self._is_reading and self._lease.has_bytes():
                self.advance()
        except (RainException, RainWarning):
            pass  # The program hears of it when it next asks for something.

    def close(self):
        self._lease.close()
        with self._news:
            self._news.notify_all()

    def _read(self) -> list:
        try:
            lines = self._lease.read(LEASE_SILENCE_SECONDS)
            if lines:
                self._outage = None
            return lines
        except Refused as error:
            broken = self._client._refusal(error.status, error.body)
            if error.status != 503:
                self._lose(broken)
        except ConnectionLost as error:
            broken = error
        except BaseException:
            # Interrupted, perhaps with bytes in hand: a lease taken up anew begins with all that it had said.
            self._lease.close()
            self.task_progress.clear()
            self._lease = self._client._stream(self._path)
            raise
        self._lease.close()
        self.check_open()
        self._resume(broken)
        return []

    def _resume(self, error):
        """Takes up a broken lease again, for as long as the server may need to be there again."""
        if self._outage is None:
            self._outage = Outage(f"the server at {self._client.address}:{self._client.port}", self._patience)
        try:
            self._outage.wait(error)
            self._lease = self._open_lease(self._outage)
        except RainException as last:
            self._lose(last)

    def _open_lease(self, outage):
        self.task_progress.clear()  # The new lease begins with all that is known.
        while True:
            try:
                return self._client._stream(self._path)
            except ConnectionLost as error:
                outage.wait(error)

    def _lose(self, error):
        """The lease can't be taken up again."""
        if self.closed_reason is None:
            self.closed_reason = f"its connection broke, and it could not be taken up again: {error}"
        self.check_open()

    def _take(self, line):
        try:
            news = json.loads(line)
        except ValueError:
            raise RainException(
                f"the lease of session {self._session_id} has a line that is no JSON: {line[:60]!r}"
            ) from None
        if "finished" in news:
            self.mark(news["finished"], FINISHED)
        if "cancelled" in news:
            self.mark(news["cancelled"], CANCELLED)
        if "failed" in news:
            failure = news["failed"]
            self.failures.setdefault(failure["task"], failure)
            self.mark([[failure["task"], 1]], FAILED)
        if "progress" in news:
            self.note_progress(news["progress"])
        if "session_failed" in news:
            self.fail(news["session_failed"])
        if "hint" in news:
            # A lease that is taken up again says them once more.
            hint = (news["hint"]["number"], news["hint"]["message"])
            if hint not in self._known_hints:
                self._known_hints.add(hint)
                self._hints.append(hint[1])
        if "closed" in news and self.closed_reason is None:
            self.closed_reason = news["closed"] or "the server closed it"


def _keep_lease(reference):
    """Looks after the lease of `Outcomes` that lives until its session closes, or until nobody has it any more."""
    while True:
        outcomes = reference()
        if outcomes is None or outcomes.closed_reason is not None:
            return
        lease = outcomes._lease
        del outcomes
        lease.wait_for_end(UNREAD_SECONDS)
        outcomes = reference()
        if outcomes is None:
            lease.close()
            return
        outcomes.keep_lease()
