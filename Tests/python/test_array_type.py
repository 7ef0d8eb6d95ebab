"""Content types of C values: what they say of bytes, and what numpy makes of them."""

import subprocess
import sys

import numpy
import pytest
from rain.client import DataInstance, RainException, cdll
from rain.common.array_type import code_of, decode, dtype_of, encode
from rain.common.content_type import check_content_type, decode_value, encode_parts, merge_content_types

POINT = numpy.dtype([("x", "f8"), ("tag", "i1", (3,)), ("inner", [("a", "u2"), ("b", "f4")])], align=True)


@pytest.mark.parametrize(
    "code, value",
    [
        *[(code, 7) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")],
        ("b1", True),
        ("f4", 0.5),
        ("f8", 0.1),
        ("f16", numpy.longdouble("1e4000")),
    ],
)
def test_one_value_is_a_number(code, value):
    data = numpy.array(value, code).tobytes()
    found = decode(data, f"array/{code}[]")
    assert found == value and isinstance(found, (bool, int, float, numpy.longdouble))
    assert decode(data * 3, f"array/{code}").tolist() == [value] * 3


def test_a_shape_is_kept():
    array = numpy.arange(6.0).reshape(2, 3)
    data, content_type = encode(array)
    assert content_type == "array/f8[2,3]" and bytes(data) == array.tobytes()
    assert numpy.array_equal(decode(data, content_type), array)
    assert encode(array.T)[1] == "array/f8[3,2]" and bytes(encode(array.T)[0]) == array.T.tobytes()
    assert encode(numpy.zeros((0, 3), "i4")) == (b"", "array/i4[0,3]")
    assert decode(b"", "array/i4[0,3]").shape == (0, 3)


def test_numbers_are_values_of_one():
    assert encode(numpy.float32(0.5))[1] == "array/f4[]"
    assert encode(0.25)[1] == "array/f8[]" and decode(*encode(0.25)) == 0.25
    assert decode(*encode([1, 2])).tolist() == [1, 2]


def test_structs_have_their_fields():
    code = "{x:f8@0,tag:i1[3]@8,inner:{a:u2@0,b:f4@4}8@12}24"
    assert code_of(POINT) == code and dtype_of(code) == POINT
    array = numpy.zeros(2, POINT)
    array["inner"]["b"] = 0.5
    array["tag"][1] = [1, 2, 3]
    found = decode(array.tobytes(), f"array/{code}")
    assert found.dtype == POINT and numpy.array_equal(found["tag"], array["tag"])
    assert decode(array[1:].tobytes(), f"array/{code}[]") == {"x": 0, "tag": [1, 2, 3], "inner": {"a": 0, "b": 0.5}}


@pytest.mark.parametrize(
    "data, content_type",
    [
        (b"1234", "array/f8"),
        (b"1234", "array/f8[]"),
        (b"12345678", "array/f8[2]"),
        (b"12345678", "array/f8[x]"),
        (b"12345678", "array/"),
        (b"12345678", "array/q8"),
        (b"12345678", "array/{x:f8@0"),
        (b"12345678", "array/{x:f8}8"),
        (b"12345678", "array/f8f8"),
        (b"12345678", "array/{}8"),
    ],
)
def test_what_does_not_fit_is_said(data, content_type):
    with pytest.raises(RainException):
        decode(data, content_type)


@pytest.mark.parametrize("value", [["a"], [None], numpy.zeros(2, ">f8"), numpy.zeros(2, "M8[s]")])
def test_what_c_has_no_type_for_is_refused(value):
    with pytest.raises(RainException, match="has no form in C"):
        encode(value)


def test_they_are_content_types():
    assert check_content_type("array/f8[2]") == "array/f8[2]" and check_content_type("array") == "array"
    assert merge_content_types("array/f8", "array/f8[2,3]") == "array/f8[2,3]"
    with pytest.raises(RainException):
        merge_content_types("array/f8", "array/i4")
    parts, content_type = encode_parts(numpy.arange(3), "array")
    assert content_type == "array/i8[3]"
    assert decode_value(parts[0], content_type).tolist() == [0, 1, 2]
    assert DataInstance(bytes(parts[0]), content_type).load().tolist() == [0, 1, 2]


def test_numbers_need_no_numpy():
    program = "from rain.common.array_type import decode; import rain.client, sys\n"
    program += "assert decode(bytes(8), 'array/f8[]') == 0 and decode(bytes(4), 'array/{x:i4@0}4[]') == {'x': 0}\n"
    program += "rain.client.cdll('libm.so.6').function('double cos(double)')\n"
    program += "assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_library_is_named_after_its_file():
    assert cdll("libm.so.6").name == "libm"
    assert cdll("/usr/lib/libfoo-2.0.so").name == "libfoo_2_0"
    assert cdll("libz.so.1", name="z").function("int f(void)").task_type == "ffi/z/f"
    assert cdll(["liba.so", "libb.so"]).name == "libb"


@pytest.mark.parametrize(
    "arguments, part",
    [
        ({"errors": "sometimes"}, 'expected "nonzero"'),
        ({"error_string": "a b"}, "expected ';'"),
        ({"init": "int f(int x)"}, "'x' needs a value here"),
        ({"declarations": "struct p { int x };"}, "expected ';'"),
        ({"name": "1x"}, "'1x' is no number"),
    ],
)
def test_a_wrong_library_is_refused_at_once(arguments, part):
    with pytest.raises(RainException, match=part):
        cdll("libm.so.6", **arguments)


def test_one_function_at_a_time():
    with pytest.raises(RainException, match="one function is declared at a time, not 2"):
        cdll("libm.so.6").function("double cos(double); double sin(double)")
