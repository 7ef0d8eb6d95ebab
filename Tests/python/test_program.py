"""Commands, as configurations of `builtin/run`; against a server on paper."""

import pytest
from rain.client import Input, Output, Program, RainException, blob, tasks


@pytest.fixture
def session(paper_client):
    with paper_client.new_session("test") as session:
        yield session


def test_a_str_is_split_as_a_shell_would(paper, session):
    task = tasks.Execute("grep -i 'two words' file", stdout=True)
    session.submit()
    (template,) = paper.templates()
    assert template["config"] == {"stdout": 0, "command": ["grep"]}
    assert template["outputs"] == [{"label": "stdout"}]
    assert paper.rows() == [[0, [], ["-i", "two words", "file"]]]
    assert task.outputs["stdout"] is task.output


def test_commands_that_differ_in_words_share_a_template(paper, session):
    for i in range(3):
        tasks.Execute(["/bin/echo", str(i)])
    session.submit()
    assert len(paper.templates()) == 1
    assert [row[2] for row in paper.rows()] == [["0"], ["1"], ["2"]]


def test_shell_commands_stay_whole(paper, session):
    tasks.Execute("echo $HOME | wc", shell=True, stdout="size")
    tasks.Execute(["echo", "$HOME"], shell=True)
    session.submit()
    first, second = paper.templates()
    assert first["config"]["command"] == ["echo $HOME | wc"] and first["config"]["shell"] is True
    assert first["outputs"] == [{"label": "size"}]
    assert second["config"]["command"] == ["echo", "$HOME"] and paper.rows()[1][2] is None


def test_objects_and_outputs_among_the_words_become_paths(paper, session):
    a, b = blob("a"), blob("b")
    tasks.Execute(
        ["cp", a, b, Input("named", path="d/p", dataobj=a, write=True), "-x", Output("result"), "-v"],
        input_paths=[Input("extra", dataobj=b)],
        output_paths=["log.txt", Output("l", path="sub/file", content_type="text")],
        stdin=b,
        stdout=Output("out", content_type="text"),
        env={"LC_ALL": "C", "N": 1},
        cpus=2,
    )
    session.submit()
    (template,) = paper.templates()
    assert template["cpus"] == 2
    assert template["outputs"] == [
        {"label": "out", "content_type": "text"},
        {"label": "result"},
        {"label": "log.txt"},
        {"label": "l", "content_type": "text"},
    ]
    config = template["config"]
    assert config["command"] == ["cp", {"input": 0}, {"input": 1}, {"input": 2}, "-x", {"output": 1}]
    assert paper.rows() == [[0, [0, 1, 0, 1, 1], ["-v"]]]
    assert config["inputs"] == [
        {"path": "const"},
        {"path": "const-1"},
        {"path": "d/p", "write": True},
        {},
        {"path": "extra"},
    ]
    assert config["outputs"] == [{}, {"path": "result"}, {"path": "log.txt"}, {"path": "sub/file"}]
    assert (config["stdin"], config["stdout"]) == (3, 0)
    assert config["env"] == {"LC_ALL": "C", "N": "1"}


def test_labels_that_are_no_file_names_get_one(paper, session):
    tasks.Execute(["cat", blob("a", label="a/b"), blob("b", label=".."), Input(dataobj=blob("c"))])
    session.submit()
    assert [i["path"] for i in paper.templates()[0]["config"]["inputs"]] == ["input0", "input1", "input2"]


def test_misuse_of_execute_is_refused(session):
    x = blob("x")
    for arguments in (
        {"args": []},
        {"args": ["cat", 5]},
        {"args": ["cat", Input("a")]},
        {"args": ["cat", Input("a", dataobj=x, load=True)]},
        {"args": ["cat", Output("a", encode="pickle")]},
        {"args": ["cat", Output("a"), Output("a")]},
        {"args": ["cat", Input("a", path="p", dataobj=x), Input("b", path="p", dataobj=x)]},
    ):
        with pytest.raises(RainException):
            tasks.Execute(**arguments)
    assert session.task_count == 0


def test_a_program_takes_its_data_by_label(paper, session):
    program = Program(["sort", Input("first"), "-u", Input("second"), "-n"], stdin="words", stdout=True, name="sorting")
    a, b, c = blob("a"), blob("b"), blob("c")
    for name in (None, "mine"):
        program(first=a, second=tasks.Concat((b,)), words=c, name=name)
    session.submit()
    template = [t for t in paper.templates() if t["type"] == "builtin/run"][0]
    assert template["name"] == "sorting" and template["inputs"] == ["first", "second", "words"]
    assert template["config"] == {
        "stdout": 0,
        "stdin": 2,
        "command": ["sort", {"input": 0}, "-u", {"input": 1}],
        "inputs": [{"path": "first"}, {"path": "second"}, {}],
    }
    rows = [row for row in paper.rows() if len(row[1]) == 3]
    assert [row[1:] for row in rows] == [[[0, 3, 2], ["-n"]], [[0, 5, 2], ["-n"], {"name": "mine"}]]


def test_a_program_wants_exactly_its_data(session):
    program = Program(["cat", Input("a")])
    with pytest.raises(KeyError, match="'a'"):
        program()
    with pytest.raises(TypeError, match="'b'"):
        program(a=blob("x"), b=blob("x"))
    with pytest.raises(RainException):
        Program(["cat", Input("a", dataobj=blob("x"))])
    with pytest.raises(RainException, match="label"):
        Program(["cat", Input(path="x")])
    with pytest.raises(RainException, match="blob"):
        program(a="text")
