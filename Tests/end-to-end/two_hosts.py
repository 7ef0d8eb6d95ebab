"""What test_hosts.py runs in namespaces of its own: host h1 with a server and a worker, h2 with a worker."""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from cluster import RAIN, Cluster, ndjson, run_program, wait_for

CLONE_NEWNET = 0x40000000
LARGE_BYTES = 20_000_000


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True)


def make_hosts(count):
    """Hosts h1, h2 … with the addresses 10.99.0.1, … at a switch of their own."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    pathlib.Path("/run/netns").mkdir()
    ip("netns", "add", "switch")
    ip("-n", "switch", "link", "add", "br0", "type", "bridge")
    ip("-n", "switch", "link", "set", "br0", "up")
    for number in range(1, count + 1):
        ip("netns", "add", f"h{number}")
        ip("-n", f"h{number}", "link", "set", "lo", "up")
        ip(
            "link",
            "add",
            f"v{number}",
            "netns",
            "switch",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            f"h{number}",
        )
        ip("-n", "switch", "link", "set", f"v{number}", "master", "br0", "up")
        ip("-n", f"h{number}", "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
        ip("-n", f"h{number}", "link", "set", "eth0", "up")


def enter(host):
    """From now on this process is on that host."""
    with open(f"/run/netns/{host}") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {host}")


class Hosts(Cluster):
    def __init__(self, directory):
        super().__init__(directory)
        self.children = []

    def spawn(self, host, *command):
        """Starts a part of Rain on a host and waits until it says that it is ready."""
        name = f"{host}-{command[0]}"
        ready = self.directory / f"{name}.ready"
        log = open(self.directory / f"{name}.log", "wb")
        arguments = [*map(str, command), "--work-dir", str(self.directory / name), "--ready-file", str(ready)]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host]
        child = subprocess.Popen(
            ["ip", "netns", "exec", host, *named, RAIN, *arguments], env=self.env, stdout=log, stderr=log
        )
        self.children.append(child)
        wait_for(lambda: ready.exists() or child.poll() is not None, seconds=10)
        assert child.poll() is None, (self.directory / f"{name}.log").read_text()
        return json.loads(ready.read_text())

    def workers(self):
        return {worker["host"]: worker for worker in self.get("/api/v1/status?transfers=true")["workers"]}

    def end(self):
        for child in reversed(self.children):
            child.terminate()
        began = time.monotonic()
        for child in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
        print(f"all ended after {time.monotonic() - began:.1f} s")


def objects_of(pid):
    """The files of the store of a worker, which only it and what it starts see under these names."""
    return {path.name for path in pathlib.Path(f"/proc/{pid}/root/dev/shm").glob("rain-*/objects/*/*")}


def scenario(hosts, directory):
    server = hosts.spawn("h1", "server", "--host", "*", "--port", 0, "--control-port", 0)
    enter("h1")
    hosts.port, hosts.url = server["port"], f"http://10.99.0.1:{server['port']}"
    access = hosts.state / "rain/access.toml"
    hosts.token = re.search(r'token\s*=\s*"([^"]+)"', access.read_text()).group(1)
    address = f"10.99.0.1:{server['control_port']}"
    hosts.spawn("h1", "worker", address, "--cpus", 1)
    hosts.spawn("h2", "worker", address, "--cpus", 2)
    session = hosts.session()

    # Made on h1, for its CPUs are all that is free; used on h2, which alone has two.
    gate = directory / "gate"
    os.mkfifo(gate)
    hold = run_program(f"read line < {gate}", shell=True, outputs=(), cpus=2)
    hosts.post(f"{session}/submit", ndjson(hold, [0, [], None]))
    wait_for(lambda: hosts.workers()["h2"]["running"] == 1)
    make = run_program(f"head -c {LARGE_BYTES} /dev/zero | tr '\\0' x", shell=True)
    made = hosts.post(f"{session}/submit", ndjson(make, [1, [], None]))
    hosts.post(f"{session}/wait", {"tasks": [[made["first_task"], 1]]})
    descriptor = os.open(gate, os.O_RDWR)
    os.write(descriptor, b"\n")
    # Its output is on h2 alone.
    use = run_program("tr", "x", "y", stdin=0, inputs=["in"], cpus=2)
    used = hosts.post(f"{session}/submit", ndjson(use, [2, [made["first_object"]], None]))
    hosts.post(f"{session}/wait", {"all": True})
    status = hosts.get("/api/v1/status")
    assert status["transfers"]["from_workers_bytes"] == 0 and status["transfers"]["to_workers_bytes"] == 0
    moved = hosts.workers()
    assert moved["h2"]["transfers"]["pulled_bytes"] == LARGE_BYTES and moved["h2"]["transfers"]["peers"] == 1
    assert moved["h1"]["transfers"]["served_bytes"] == LARGE_BYTES
    print("objects move between the hosts")

    # Two tasks on h2 and one on h1, all waiting; then the cable of h2 is pulled.
    log = directory / "begun"
    wait_at_gate = run_program(f"echo $$ >> {log}; read line < {gate}; echo $$", shell=True)
    waiting = hosts.post(f"{session}/submit", ndjson(wait_at_gate, [3, [], None, {"count": 3}]))
    wait_for(lambda: log.exists() and len(log.read_text().split()) == 3)
    old = f"{used['first_object']}-1-1"
    assert old in objects_of(moved["h2"]["pid"])
    ip("-n", "switch", "link", "set", "v2", "down")
    began = time.monotonic()
    wait_for(lambda: "h2" not in {worker["host"] for worker in hosts.get("/api/v1/status")["workers"]}, seconds=12)
    assert time.monotonic() - began < 11
    print(f"noticed after {time.monotonic() - began:.1f} s")
    # One program on h1, two on h2 whose outcomes come too late, and two for those on h1.
    os.write(descriptor, b"\n" * 5)
    hosts.post(f"{session}/wait", {"tasks": [[waiting["first_task"], 3]]})
    pids = log.read_text().split()
    assert len(pids) == 5, pids

    def outputs():
        return [
            int(hosts.curl(f"{hosts.url}{session}/objects/{waiting['first_object'] + i}/content")) for i in range(3)
        ]

    values = outputs()
    assert set(map(str, values)) & set(pids[3:]) == set(pids[3:]), "what ran again is what counts"
    infos = hosts.post(f"{session}/info", {"tasks": [[waiting["first_task"], 3]]})["tasks"]
    assert len({info["worker"] for info in infos}) == 1

    # The cable is back: the worker joins as another, and what it had is made again where it is needed.
    ip("-n", "switch", "link", "set", "v2", "up")
    began = time.monotonic()
    wait_for(lambda: "h2" in {worker["host"] for worker in hosts.get("/api/v1/status")["workers"]}, seconds=15)
    print(f"back after {time.monotonic() - began:.1f} s")
    assert hosts.workers()["h2"]["worker"] != moved["h2"]["worker"]
    # It was told to forget what it had; what is made there again has another generation.
    wait_for(lambda: old not in objects_of(moved["h2"]["pid"]))
    print(f"the old object is gone after {time.monotonic() - began:.1f} s")
    assert outputs() == values, "a late outcome has changed an object"
    content = hosts.curl(f"{hosts.url}{session}/objects/{used['first_object']}/content")
    assert content == b"y" * LARGE_BYTES
    print(f"all there again after {time.monotonic() - began:.1f} s")
    os.close(descriptor)
    hosts.call("DELETE", session)


def main(directory):
    signal.alarm(90)
    make_hosts(2)
    hosts = Hosts(directory)
    try:
        scenario(hosts, directory)
    except BaseException:
        for log in sorted(directory.glob("*.log")):
            print(f"== {log.name}\n{log.read_text()}")
        raise
    finally:
        hosts.end()


main(pathlib.Path(sys.argv[1]))
