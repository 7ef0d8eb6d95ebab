"""Calls of remote functions, as rows and constants; against a server on paper."""

import base64
import json
import pickle

import pytest
from rain.client import Input, Output, RainException, blob, pickled, remote, tasks
from rain.common import placeholder

# Most look at what is made, and submit nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*never submitted")


@pytest.fixture
def session(paper_client):
    with paper_client.new_session("test") as session:
        yield session


def unpickled(text):
    """The arguments of a row; a data object in them as (position, load, content type)."""
    placeholder.resolve = lambda *reference: reference
    try:
        return pickle.loads(base64.b64decode(text))
    finally:
        placeholder.resolve = None


def test_a_call_with_data_objects_alone_is_a_row_of_numbers(paper, session):
    @remote()
    def join(ctx, a, b):
        return a.get_bytes() + b.get_bytes()

    a, b = blob("a"), blob("b")
    join(join(a, b), b)
    session.submit()
    (template, again) = paper.templates()
    function = paper.objects()[2]
    assert function["content_type"] == "cloudpickle" and function["label"] == "join"
    assert template["type"] == "py/call" and template["name"] == "join" and template["config"] == {}
    assert template["constants"] == [2] == again["constants"] and template["outputs"] == [{"label": "out0"}]
    assert paper.rows() == [[0, [0, 1], None], [1, [3, 1], None]]


def test_the_function_travels_once(paper, session):
    @remote()
    def same(ctx, a):
        return a

    a = blob("a")
    for _ in range(3):
        for _ in range(2):
            same(a)
        session.submit()
    assert len([o for o in paper.objects() if o.get("content_type") == "cloudpickle"]) == 1
    assert len(paper.templates()) == 1 and [row[0] for row in paper.rows()] == [0] * 6


def test_values_are_pickled_and_objects_found_inside(paper, session):
    @remote()
    def f(ctx, a, b=None, *rest, c, **more):
        pass

    x, y = blob("x"), blob("y")
    task = f([1, {"k": x}], tasks.Concat((y,)), 5, c=(x, lambda: y), d="d")
    session.submit()
    template, inputs, arguments = paper.rows()[-1]
    args, keywords = unpickled(arguments)
    assert args == ([1, {"k": (0, False, None)}], (1, False, None), 5)
    assert keywords["d"] == "d" and keywords["c"][0] == (0, False, None)
    assert keywords["c"][1]() == (2, False, None)
    assert inputs == [x.id, paper.rows()[0][0] + 2, y.id]
    assert len(task.inputs) == 3


def test_objects_in_defaults_and_closures_are_inputs(paper, session):
    x, y = blob("x"), blob("y")

    @remote()
    def f(ctx, a, b=x):
        return y

    f(1)
    f(x)
    session.submit()
    for _, inputs, _ in paper.rows():
        assert sorted(inputs) == [x.id, y.id]
    placeholder.resolve = lambda position, *_: position
    function = pickle.loads(base64.b64decode(paper.objects()[2]["data64"]))
    placeholder.resolve = None
    assert paper.rows()[0][1][function(None, 1)] == y.id


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda f: f(), r"f\(\) missing 1 required positional argument: 'a'"),
        (lambda f: f(1, 2, 3), r"f\(\) takes from 2 to 3 positional arguments but 4 were given"),
        (lambda f: f(1, a=1), r"f\(\) got multiple values for argument 'a'"),
        (lambda f: f(1, z=1), r"f\(\) got an unexpected keyword argument 'z'"),
    ],
)
def test_a_wrong_call_is_pythons_own_type_error(session, call, text):
    @remote()
    def f(ctx, a, b=1):
        pass

    with pytest.raises(TypeError, match=text):
        call(f)
    assert session.task_count == 0


def test_every_kind_of_parameter_is_bound(session):
    @remote()
    def f(ctx, a, /, b, *args, c=3, d, **more):
        pass

    assert f._bind(None, 1, 2, 4, 5, d=6, e=7) == ((1, 2, 4, 5), {"c": 3, "d": 6, "e": 7})

    @remote()
    def only_rest(ctx, *args):
        pass

    assert only_rest._bind(None, 1, 2) == ((1, 2), None)

    @remote()
    def g(*args):
        pass

    assert g._bind(None, 1, 2) == ((1, 2), None)
    with pytest.raises(RainException, match="ctx"):

        @remote()
        def h():
            pass


def test_inputs_say_how_parameters_are_loaded(paper, session):
    @remote(inputs={"rest": Input(load=True)})
    def f(ctx, a: Input(load=True, content_type="json"), b, *rest, **more: Input(content_type="text")):
        pass

    a, b, text = blob(b"[1]"), blob(b"b"), blob(b"t")
    f(a, b, b)
    f([a, 1], b, [b], t=text)
    session.submit()
    config = paper.templates()[0]["config"]
    assert config == {"parameters": [[True, "json"], [False, None]], "rest": [True, None]}
    assert paper.rows()[0][1:] == [[a.id, b.id, b.id], None]
    args, keywords = unpickled(paper.rows()[1][2])
    placeholder.resolve = lambda *reference: reference
    args = [pickle.loads(value) for value in args]
    assert args == [[(0, True, "json"), 1], (1, False, None), [(1, True, None)]]
    assert pickle.loads(keywords["t"]) == (2, False, "text")
    placeholder.resolve = None
    with pytest.raises(RainException, match="do not fit"):
        f(pickled(1), b)
    with pytest.raises(RainException, match="do not fit"):
        f([pickled(1)], b)


def test_auto_load_and_auto_encode(paper, session):
    @remote(auto_load=True, auto_encode="pickle", outputs=[None, Output("x", encode="json")])
    def f(ctx, a):
        pass

    f(blob("x"))
    f([blob("x")])
    session.submit()
    assert paper.templates()[0]["config"] == {"encode": ["pickle", "json"], "load": True}
    assert paper.templates()[0]["outputs"] == [{"label": "out0"}, {"label": "x", "content_type": "json"}]
    assert unpickled(paper.rows()[1][2]) == (([(0, True, None)],), None)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [(0, []), (2, ["out0", "out1"]), ("x", ["x"]), (["x", None], ["x", "out1"]), ([Output("x"), "y"], ["x", "y"])],
)
def test_outputs_are_counted_or_named(session, outputs, labels):
    @remote(outputs=outputs)
    def f(ctx):
        pass

    assert f().outputs.labels == labels


def test_annotations_are_as_good_as_arguments(session):
    @remote()
    def f(ctx) -> (Output("x"), Output("y", encode="json")):
        pass

    @remote()
    def g(ctx) -> 3:
        pass

    @remote()
    def h(ctx) -> bytes:
        pass

    assert f().outputs.labels == ["x", "y"] and len(g().outputs) == 3 and len(h().outputs) == 1


def test_a_call_may_say_more_of_its_outputs(paper, session):
    @remote(outputs=[Output("a", content_type="text"), "b"])
    def f(ctx):
        pass

    f(outputs=["x", None])
    f(outputs=[None, Output(encode="json")])
    session.submit()
    first, second = paper.templates()
    assert first["outputs"] == [{"label": "x", "content_type": "text"}, {"label": "b"}]
    assert second["outputs"] == [{"label": "a", "content_type": "text"}, {"label": "b", "content_type": "json"}]
    assert second["config"] == {"encode": [None, "json"]}
    with pytest.raises(RainException, match="2 outputs"):
        f(outputs=["x"])


def test_names(paper, session):
    @remote()
    def f(ctx):
        pass

    @remote(name="given", cpus=2)
    def g(ctx):
        pass

    assert (f().name, g().name, g(name="mine").name) == ("f", "given", "mine")
    session.submit()
    assert paper.templates()[1]["cpus"] == 2
    assert paper.rows()[2][3] == {"name": "mine"}


def test_large_arguments_are_objects(paper, session):
    @remote()
    def f(ctx, a, x):
        pass

    x = blob("x")
    f(bytes(10_000), x)
    session.submit()
    _, inputs, arguments = paper.rows()[0]
    assert arguments == 1 and inputs == [x.id, 2]
    assert paper.objects()[2]["content_type"] == "pickle" and len(next(iter(paper.blobs.values()))) > 10_000


def test_only_functions_are_remote():
    with pytest.raises(RainException, match="for functions"):
        remote()(print)
    with pytest.raises(RainException, match="for functions"):
        remote(print)
    with pytest.raises(RainException, match="no parameter 'z'"):

        @remote(inputs={"z": Input()})
        def f(ctx, a):
            pass

    with pytest.raises(RainException, match="path"):

        @remote(outputs=Output("x", path="p"))
        def g(ctx):
            pass


def test_a_data_object_is_pickled_in_arguments_only(session):
    with pytest.raises(RainException, match="pickled"):
        pickle.dumps(blob("x"))
    assert json.dumps(session.task_count) == "0"
