"""Runs of everything that Rain can do, in which the server is killed at random moments and started again.

A run is compared with one that nobody disturbs. Its tasks write their names to a file when they are executed, so that
what runs twice is seen. See scripts/kill-runs for how it is used.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field

from cluster import RAIN, ROOT, free_port
from rain.client import Client, Input, Task, blob, remote, tasks
from rain.client.outcomes import FINISHED
from rain.client.session import Session

PROGRAMS = ROOT / "build/libexec/rain"
#: A run takes two seconds, and a restart a fraction of one; this long only when something hangs.
RUN_SECONDS_MAX = 60
NEVER_COUNT = 8


@remote()
def digest(ctx, log, name, milliseconds, size, data):
    """Bytes that follow from `data`, `size` of them."""
    with open(log, "a") as file:
        file.write(name + "\n")
    time.sleep(milliseconds / 1000)
    seed = hashlib.sha256(data.get_bytes()).digest()
    return (seed * (size // 32 + 1))[:size]


class Mix:
    """What one run does; the same in every run.

    Attributes:
        names: of the tasks that write them, by task id; only those of the session `session`.
        session: the one with a lease, once it is open.
        results: by a name of their own.
        never: outcomes of the tasks that must not run twice: bytes, or the cause of a failure.
    """

    def __init__(self, client, directory):
        self.client = client
        self.log = str(directory / "executions")
        pathlib.Path(self.log).touch()
        self.session: Session | None = None
        self.names = {}
        self.results = {}
        self.never = []
        self.random = random.Random(1)

    def noted(self, task, name):
        self.names[task.id] = name
        return task

    def shell(self, name, milliseconds, data):
        command = f"echo {name} >> {self.log}; sleep {milliseconds / 1000}; tr a-y b-z < in"
        return self.noted(
            tasks.Execute(command, shell=True, stdout=True, input_paths=[Input("in", dataobj=data)]), name
        )

    def python(self, name, milliseconds, size, data):
        return self.noted(digest(self.log, name, milliseconds, size, data), name)

    def run(self):
        detached = self.open_detached()
        programs = {name: str(PROGRAMS / name) for name in ("hello", "wordcount")}
        with self.client.new_session("mix", subworkers=programs) as session:
            self.session = session
            self.first_half(session)
            self.submit_detached(detached)
            self.second_half(session)
            self.count = (session.progress[0], self.client._json("GET", session._path, patience=30)["tasks"])
        self.finish_detached(detached)

    def first_half(self, session):
        words = "\n".join(f"word{self.random.randrange(500)}" for _ in range(8000))
        text = blob(words)
        ordered = tasks.Execute(["sort"], stdin=text, stdout="words")
        ordered.output.keep()
        counts = Task("wordcount/count", [ordered], "counts")
        greetings = [Task("hello/hello", [blob(f"caller {number}")]) for number in range(10)]
        merged = tasks.Concat([counts, *greetings], name="merged")
        merged.output.keep()
        session.submit()
        self.fan = []
        for number in range(12):
            data = self.python(f"python-{number}", 20, (200, 150_000, 200, 1_500_000)[number % 4], ordered)
            changed = self.shell(f"shell-{number}", 10, data)
            data.output.keep()
            changed.output.keep()
            self.fan.append((data, changed))
            if number % 4 == 3:
                session.submit()
        self.results["merged"] = merged.output.fetch().get_bytes()
        self.ordered = ordered

    def second_half(self, session):
        step = blob("the beginning " * 100)
        for number in range(12):
            kind = number % 4
            if kind == 0:
                step = self.python(f"chain-{number}", 5, 3000, step)
            elif kind == 1:
                step = self.shell(f"chain-{number}", 0, step)
            elif kind == 2:
                step = tasks.Concat([step, step])
            else:
                step = tasks.Sleep(step, 0.01)
        step.output.keep()
        session.submit()
        for number, (data, changed) in enumerate(self.fan[:4]):
            self.results[f"early-{number}"] = data.output.fetch().get_bytes()
            changed.wait()
            session.unkeep([data.output])
        last = [self.shell(f"again-{number}", 10, changed) for number, (_, changed) in enumerate(self.fan)]
        everything = tasks.Concat([step, self.ordered, *last])
        everything.output.keep()
        total = self.python("total", 0, 100, everything)
        total.output.keep()
        session.submit()
        session.wait_all()
        for name, objects in (
            ("everything", [everything.output]),
            ("total", [total.output]),
            ("changed", [changed.output for _, changed in self.fan]),
            ("late", [data.output for data, _ in self.fan[4:]]),
        ):
            fetched = b"".join(instance.get_bytes() for instance in session.fetch(objects))
            self.results[name] = f"{len(fetched)} bytes, SHA-256 {hashlib.sha256(fetched).hexdigest()}"

    # A session without a lease, as curl would have it: its tasks must not run twice.

    def open_detached(self):
        options = {"name": "never", "detached": True, "on_error": "fail_descendants"}
        return f"/api/v1/sessions/{self.client._json('POST', '/api/v1/sessions', options, patience=30)['session']}"

    def submit_detached(self, path):
        command = [f"echo never-$RAIN_TASK_INDEX >> {self.log}; sleep 0.05; echo out $RAIN_TASK_INDEX"]
        config = {"command": command, "shell": True, "stdout": 0}
        lines = [
            {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
            {
                "template": {
                    "type": "builtin/run",
                    "config": config,
                    "rerun": "never",
                    "outputs": [{"label": "o", "keep": True}],
                }
            },
            [0, [], None, {"count": NEVER_COUNT}],
        ]
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self.client._request("POST", f"{path}/submit", body, "application/x-ndjson", patience=30)

    def finish_detached(self, path):
        self.client._json("POST", f"{path}/wait", {"all": True}, patience=30)
        selection = {"objects": [[0, NEVER_COUNT]]}
        for record in self.client._json("POST", f"{path}/results", selection, patience=30)["objects"]:
            self.never.append(record.get("failure", {}).get("cause") or record.get("data64") or record["status"])
        self.client._request("DELETE", path, patience=30)

    def heard(self):
        """Tasks of which the program knows that they are finished, and how often each was executed until now."""
        session = self.session
        if session is None:
            return {}
        # What has arrived is heard, whether or not the program waits for it now.
        session._outcomes.take_waiting()
        states = bytes(session._outcomes.states)
        names = [name for task, name in list(self.names.items()) if task < len(states) and states[task] == FINISHED]
        counts = self.executions()
        return {name: counts.get(name, 0) for name in names}

    def executions(self):
        counts = {}
        for name in pathlib.Path(self.log).read_text().split():
            counts[name] = counts.get(name, 0) + 1
        return counts


class Processes:
    """A server on ports of its own, and two workers."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.env = dict(os.environ, XDG_STATE_HOME=str(self.directory / "state"))
        self.port, self.control_port = free_port(), free_port()
        self.server = None
        self.workers = {}

    def spawn(self, name, *arguments):
        """Starts a process and waits until it is ready."""
        ready, writer = os.pipe()
        with open(self.directory / f"{name}.log", "ab") as log:
            command = [RAIN, *map(str, arguments), "--work-dir", self.directory / name, "--ready-fd", str(writer)]
            process = subprocess.Popen(command, env=self.env, pass_fds=[writer], stdout=log, stderr=log)
        os.close(writer)
        with os.fdopen(ready) as pipe:
            line = pipe.readline()
        if not line:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not start: see {self.directory}/{name}.log")
        return process, json.loads(line)

    def start_server(self):
        ports = ("--port", self.port, "--control-port", self.control_port)
        self.server, _ = self.spawn("server", "server", *ports)

    def start(self):
        self.start_server()
        for number in (1, 2):
            address = f"127.0.0.1:{self.control_port}"
            name = f"worker-{number}"
            self.workers[name] = self.spawn(name, "worker", address, "--cpus", "2", "--store-memory", "64M")

    def client(self):
        before = {name: os.environ.pop(name, None) for name in ("RAIN_ACCESS", "XDG_STATE_HOME")}
        os.environ["XDG_STATE_HOME"] = self.env["XDG_STATE_HOME"]
        try:
            return Client("127.0.0.1", self.port, reconnect=30)
        finally:
            del os.environ["XDG_STATE_HOME"]
            os.environ.update({name: value for name, value in before.items() if value is not None})

    def end_server(self, number):
        self.server.send_signal(number)
        self.server.wait(30)

    def kill_worker(self):
        """Its own process; its parent starts it again."""
        _, news = self.workers["worker-1"]
        with contextlib.suppress(ProcessLookupError):
            os.kill(news["process"], signal.SIGKILL)

    def stop(self):
        processes = [process for process, _ in self.workers.values()] + ([self.server] if self.server else [])
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass
class Plan:
    """What is done to a run, all of it drawn from its seed.

    Attributes:
        kind: "server": it is killed; "both": a worker at the same time; "told": the server is told to end.
        pauses: seconds from the beginning, or from when the server was ready again, to the next time that it dies.
        absences: seconds that it is then gone.
    """

    seed: int
    kind: str
    pauses: list = field(default_factory=list)
    absences: list = field(default_factory=list)

    @classmethod
    def draw(cls, seed, seconds):
        """
        Args:
            seconds: that an undisturbed run takes.
        """
        numbers = random.Random(seed)
        kind = numbers.choices(("server", "both", "told"), (8, 1, 1))[0]
        count = numbers.choice((1, 1, 1, 2, 3))
        pauses = [numbers.uniform(0, seconds / count * 1.05) for _ in range(count)]
        return cls(seed, kind, pauses, [numbers.choice((0, 0, 0.1, 0.7)) for _ in range(count)])

    def __str__(self):
        what = {"server": "kill -9", "both": "kill -9, with a worker,", "told": "SIGTERM"}[self.kind]
        return f"{what} after {', '.join(f'{pause:.2f}' for pause in self.pauses)} s"


class Failure(Exception):
    """A run that did not come out as it must."""


def disturb(processes, mix, plan, is_over, errors, heard):
    """Does what the plan says; in a thread of its own.

    Args:
        heard: gets what `Mix.heard` says before each death.
    """
    try:
        for pause, absence in zip(plan.pauses, plan.absences):
            if is_over.wait(pause):
                return
            heard.append(mix.heard())
            if plan.kind == "both":
                processes.kill_worker()
            processes.end_server(signal.SIGTERM if plan.kind == "told" else signal.SIGKILL)
            time.sleep(absence)
            processes.start_server()
    except BaseException:
        errors.append(traceback.format_exc())


def carry_out(directory, plan=None):
    """One run.

    Returns:
        (its `Mix`, seconds that it took, what was heard before each death)
    """
    processes = Processes(directory)
    errors = []
    heard = []
    is_over = threading.Event()
    try:
        processes.start()
        mix = Mix(processes.client(), processes.directory)

        def work():
            try:
                mix.run()
            except BaseException:
                errors.append(traceback.format_exc())

        started = time.monotonic()
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        disturber = None
        if plan:
            disturber = threading.Thread(target=disturb, args=(processes, mix, plan, is_over, errors, heard))
            disturber.start()
        worker.join(RUN_SECONDS_MAX)
        seconds = time.monotonic() - started
        is_over.set()
        if disturber:
            disturber.join()
        if worker.is_alive():
            with contextlib.suppress(Exception):
                errors.append(json.dumps(processes.client().status(), indent=1))
            stack = sys._current_frames().get(worker.ident)
            errors.append(f"it did not end within {RUN_SECONDS_MAX} s:\n{''.join(traceback.format_stack(stack))}")
        if errors:
            raise Failure("\n".join(errors))
        return mix, seconds, heard
    finally:
        processes.stop()


def compare(mix, reference, plan, heard):
    """Raises what is wrong with a run."""
    wrong = []
    for name, value in reference.results.items():
        if mix.results.get(name) != value:
            wrong.append(f"the result {name} is {str(mix.results.get(name))[:200]} instead of {str(value)[:200]}")
    if mix.count != reference.count:
        wrong.append(f"(tasks with an outcome, tasks that the server has) are {mix.count} instead of {reference.count}")
    counts = mix.executions()
    for number, (value, expected) in enumerate(zip(mix.never, reference.never)):
        times = counts.get(f"never-{number}", 0)
        if value == expected and times != 1 or times > 1:
            wrong.append(f"a task with rerun: never was executed {times} times")
        if value != expected and (plan.kind != "both" or value != "worker_lost"):
            wrong.append(f"a task with rerun: never ended with {value}")
    if len(mix.never) != NEVER_COUNT:
        wrong.append(f"{len(mix.never)} tasks with rerun: never ended")
    if plan.kind != "both":
        # With a worker its objects are lost, and made again where they are needed.
        for before in heard:
            for name, count in before.items():
                if counts[name] != count or count == 0:
                    wrong.append(
                        f"{name} was heard of as finished, and then executed {counts[name] - count} times more"
                    )
    if wrong:
        raise Failure("\n".join(wrong))
    return sum(counts.values()) - len(counts)


def undisturbed(directory):
    """The run to compare with, and the seconds that it took."""
    mix, seconds, _ = carry_out(directory)
    assert len(mix.never) == NEVER_COUNT and set(mix.executions().values()) == {1}
    return mix, seconds


def one_run(directory, seed, reference, seconds):
    """Carries out the run of a seed and says in a line what it was."""
    plan = Plan.draw(seed, seconds)
    mix, took, heard = carry_out(directory, plan)
    again = compare(mix, reference, plan, heard)
    names = len({name for names in heard for name in names})
    checked = f"{len(mix.results)} results equal, {mix.count[1] + NEVER_COUNT} tasks, none lost or doubled"
    if plan.kind != "both":
        checked += f", {names} heard of before and none of them run again"
    return f"seed {seed}: {plan} ({len(heard)} came to pass): {checked}, {again} executed more than once; {took:.1f} s"


def main():
    parser = argparse.ArgumentParser(prog="kill-runs", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, help="of the first run; those of the others follow")
    parser.add_argument("--seconds", type=float, help="that an undisturbed run takes, instead of what it takes now")
    options = parser.parse_args()
    first = options.seed if options.seed is not None else random.randrange(1_000_000)
    root = pathlib.Path(tempfile.mkdtemp(prefix="rain-kill-runs-"))
    (root / "undisturbed").mkdir()
    reference, seconds = undisturbed(root / "undisturbed")
    print(f"undisturbed: {len(reference.results)} results in {seconds:.1f} s", flush=True)
    seconds = options.seconds or round(seconds, 2)
    failed = 0
    for seed in range(first, first + options.runs):
        directory = root / str(seed)
        directory.mkdir()
        try:
            print(one_run(directory, seed, reference, seconds), flush=True)
            shutil.rmtree(directory)
        except Failure as failure:
            failed += 1
            print(f"seed {seed}: {Plan.draw(seed, seconds)}: FAILED\n{failure}")
            again = f"scripts/kill-runs --runs 1 --seed {seed} --seconds {seconds}"
            print(f"logs are in {directory}; repeat it with: {again}", flush=True)
    print(f"{options.runs - failed} of {options.runs} runs as they must be")
    if failed:
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
