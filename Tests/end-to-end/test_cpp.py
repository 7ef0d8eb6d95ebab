"""Tasks in C++, by the header and the library of this tree, under a real worker."""

import subprocess

import numpy
import pytest
from cluster import ROOT
from rain.client import Client, Task, TaskException, blob

SOURCE = r"""
#include <csubworker.hpp>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <unistd.h>

int main() {
    csw::subworker subworker;
    subworker.task("dot", [](csw::span<const double> x, csw::span<const double> y) {
        if (x.size() != y.size()) throw csw::error("the vectors differ in length", "8 bytes each");
        return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
    });
    subworker.task("ramp", [](long count, csw::output<double> ramp) {
        auto out = ramp.resize(static_cast<std::size_t>(count));
        std::iota(out.begin(), out.end(), 0.0);
    });
    subworker.task("halve", [](double x) { return x / 2; });
    static std::atomic<int> met{0};
    csw::task_options two;
    two.threads = 2;
    // Ends when two calls are in here at once, in one process.
    subworker.task("meet", [](csw::context &context, long) {
        met += 1;
        for (int i = 0; met < 2 && i < 5000; ++i) {
            context.check();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        if (met < 2) throw csw::error("alone in process " + std::to_string(getpid()));
        return static_cast<long>(getpid());
    }, two);
    return subworker.run();
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cpp")
    (directory / "tasks.cpp").write_text(SOURCE)
    subprocess.run([ROOT / "scripts/amalgamate", directory], check=True)
    subprocess.run(["cc", "-std=c11", "-O1", "-c", "csubworker.c"], cwd=directory, check=True)
    command = ["c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
    subprocess.run([*command, "tasks.cpp", "csubworker.o", "-pthread", "-o", "tasks"], cwd=directory, check=True)
    return str(directory / "tasks")


@pytest.fixture
def session(shared_cluster, program, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(shared_cluster.state))
    client = Client("127.0.0.1", shared_cluster.port)
    with client.new_session("cpp", subworkers={"cpp": program}) as session:
        yield session


def number(value):
    return blob(value, encode="json")


def load(session, *made):
    for task in made:
        task.output.keep()
    session.submit()
    session.wait_all()
    return [task.output.fetch() for task in made]


def test_lambdas_take_arrays_and_numbers_and_make_them(session):
    x = numpy.arange(1000.0)
    dot = Task("cpp/dot", [blob(x.tobytes()), blob(x.tobytes())])
    ramp = Task("cpp/ramp", [number(1000)])
    again = Task("cpp/dot", [ramp, blob(x.tobytes())])
    half = Task("cpp/halve", [again])
    dot, ramp, half = load(session, dot, ramp, half)
    assert dot.load() == float(x @ x)
    assert numpy.array_equal(numpy.frombuffer(ramp.get_bytes()), x)
    assert half.load() == float(x @ x) / 2


def test_a_large_output_is_made_in_place(session):
    count = 8 << 20
    (ramp,) = load(session, Task("cpp/ramp", [number(count)]))
    values = numpy.frombuffer(ramp.get_bytes())
    assert len(values) == count and values[-1] == count - 1


def test_calls_run_at_once_in_one_process(session):
    first, second = load(session, Task("cpp/meet", [number(1)]), Task("cpp/meet", [number(2)]))
    assert first.load() == second.load()


def test_an_exception_is_the_tasks_error(session):
    Task("cpp/dot", [blob(b"12345678"), blob(b"")]).output.keep()
    session.submit()
    with pytest.raises(TaskException, match="the vectors differ in length"):
        session.wait_all()
