"""Where the program makes its tasks."""

import sys

import pytest
from rain import _sites


def place(count=6, package="rain.client"):
    return _sites.call_site(package, count)[0]


def outside(count=6):
    """As from a function of the package: its own frame and this one's don't count."""
    names = {"call_site": _sites.call_site, "__package__": "a.package"}
    exec(f"def inner():\n    return call_site('a.package', {count})\ndef made():\n    return inner()", names)
    return names["made"]()


def test_the_same_place_has_the_same_key_and_another_has_another():
    keys = [place() for _ in range(3)]
    assert len(set(keys)) == 1
    assert place() != place()
    assert place() not in keys


def test_who_called_counts_as_far_as_was_asked_for():
    def called(count):
        return place(count)

    one, other = called(6), called(6)
    assert one != other
    assert called(1) == called(1)


def test_frames_of_the_package_are_left_out():
    _, frame = outside()
    assert frame.f_code is outside.__code__


def test_a_short_stack_has_a_short_key():
    assert len(place(1)) < len(place(2)) < len(place(6))
    assert _sites.call_site("nobody", 32)[1] is sys._getframe()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((), TypeError), (("a",), TypeError), ((1, 2), TypeError), (("a", "b"), TypeError)]
    + [(("a", count), ValueError) for count in (0, -1, 33)]
    + [(("a", 1 << 70), OverflowError)],
)
def test_wrong_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        _sites.call_site(*arguments)
