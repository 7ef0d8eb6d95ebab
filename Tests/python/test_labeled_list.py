import pytest
from rain.client import LabeledList


def test_finds_items_by_position_slice_and_label():
    values = LabeledList(["a", "b", "c"], ["x", None, "z"])
    assert values[0] == "a" and values[-1] == "c" and values["z"] == "c"
    assert values[1:] == LabeledList(["b", "c"], [None, "z"])
    assert values[1:]["z"] == "c"


def test_in_asks_for_a_label():
    values = LabeledList(["a"], ["x"])
    assert "x" in values
    assert "a" not in values


def test_pairs_are_labels_with_values():
    assert LabeledList(pairs=[("x", 1), (None, 2)]) == LabeledList([1, 2], ["x", None])
    with pytest.raises(ValueError):
        LabeledList([1], pairs=[("x", 1)])


def test_unknown_and_double_labels_are_key_errors():
    values = LabeledList([1, 2], ["x", "y"])
    with pytest.raises(KeyError):
        values["z"]
    with pytest.raises(KeyError):
        values.append(3, "x")
    with pytest.raises(KeyError):
        values.set_label(1, "x")
    with pytest.raises(KeyError):
        LabeledList([1, 2], ["x", "x"])
    with pytest.raises(IndexError):
        values[2]


def test_a_number_is_no_label():
    with pytest.raises(TypeError):
        LabeledList([1], [5])


def test_labels_follow_their_items():
    values = LabeledList([1, 2, 3], ["x", "y", "z"])
    assert values.pop(0) == 1
    assert values["y"] == 2 and values["z"] == 3 and "x" not in values
    values.insert(0, 9, "x")
    assert values["x"] == 9 and values["z"] == 3
    assert values.pop("y") == 2
    assert values.labels == ["x", "z"]
    values.set(0, 5, "w")
    assert values["w"] == 5 and "x" not in values
    values.set("new", 7)
    assert values["new"] == 7 and values.get_label(2) == "new"
    values.set_label(0, None)
    assert values.get_label(0) is None
    values[1] = 30
    assert values["z"] == 30


def test_equality_is_over_items_and_labels():
    assert LabeledList([1], ["x"]) != LabeledList([1], ["y"])
    assert LabeledList([1], ["x"]) == LabeledList([1], ["x"])
    assert list(LabeledList([1, 2], ["x", None]).items()) == [("x", 1), (None, 2)]
