import pickle

import numpy
import pytest
from rain.client import DataInstance, RainException
from rain.common import check_content_type, decode_value, encode_value, merge_content_types
from rain.common.content_type import encode_parts
from rain.common.pickling import BUFFER_BYTES_MIN, MAGIC, dump


@pytest.mark.parametrize("name", ["pickle", "json", "text", "text-latin2", "user/mine", "mime/image/png", "protobuf/x"])
def test_known_names_are_content_types(name):
    assert check_content_type(name) == name


@pytest.mark.parametrize("name", ["foo", "text-", "user/", "pickle2"])
def test_other_names_are_value_errors(name):
    with pytest.raises(ValueError):
        check_content_type(name)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (None, "json", "json"),
        ("text", "text-utf-16", "text-utf-16"),
        ("text-utf-16", "text", "text-utf-16"),
        ("pickle", "cloudpickle", "cloudpickle"),
        ("cloudpickle", "pickle", "cloudpickle"),
        ("pickle", "pickle5", "pickle5"),
        ("cloudpickle", "pickle5", "pickle5"),
        (None, None, None),
    ],
)
def test_merging_takes_the_narrower_type(first, second, merged):
    assert merge_content_types(first, second) == merged


def test_types_that_do_not_fit_are_an_error():
    with pytest.raises(RainException, match="json.*pickle"):
        merge_content_types("json", "pickle")


@pytest.mark.parametrize("kind", ["pickle", "cloudpickle", "json"])
def test_values_come_back(kind):
    value = {"a": [1, 2.5, None, True, "é"]}
    assert decode_value(encode_value(value, kind), kind) == value


@pytest.mark.parametrize("kind", ["text", "text-utf-16", "text-latin2"])
def test_texts_come_back(kind):
    assert decode_value(encode_value("žluť", kind), kind) == "žluť"


def test_what_has_no_encoder_is_an_error():
    for kind in ("arrow", "protobuf", "user/x"):
        with pytest.raises(RainException):
            encode_value(1, kind)
        with pytest.raises(RainException):
            decode_value(b"1", kind)
    with pytest.raises(RainException, match="no content type"):
        decode_value(b"1", None)
    with pytest.raises(RainException, match="text encoding"):
        encode_value("x", "text-nonsense")


def test_small_arrays_are_plain_pickles():
    parts, kind = encode_parts(numpy.arange(10), "pickle")
    assert kind == "pickle" and len(parts) == 1


def test_large_arrays_are_not_copied_into_the_pickle():
    array = numpy.arange(BUFFER_BYTES_MIN, dtype=numpy.float64)
    parts, kind = encode_parts({"x": array, "y": [array[:9000], "text"]}, "pickle")
    assert kind == "pickle5"
    assert sum(len(part) for part in parts if type(part) is bytes) < 1000
    data = b"".join(parts)
    assert data.startswith(MAGIC)
    value = decode_value(data, kind)
    assert (value["x"] == array).all() and (value["y"][0] == array[:9000]).all()
    assert value["x"].__array_interface__["data"][0] % 64 == memoryview_address(data) % 64


def memoryview_address(data):
    return numpy.frombuffer(data, dtype=numpy.uint8).__array_interface__["data"][0]


def test_arrays_of_loaded_instances_can_be_written_and_the_data_stays():
    array = numpy.zeros(BUFFER_BYTES_MIN, dtype=numpy.uint8)
    instance = DataInstance(encode_value(array, "pickle"), "pickle5")
    first = instance.load()
    first += 1
    assert instance.load().sum() == 0


def test_a_damaged_container_is_an_error():
    data = encode_value(numpy.zeros(BUFFER_BYTES_MIN, dtype=numpy.uint8), "pickle")
    for damaged in (b"", data[:10], data[:-1], b"x" + data[1:], data[:8] + b"\xff" * 8 + data[16:]):
        with pytest.raises(RainException):
            decode_value(damaged, "pickle5")


def test_what_only_this_program_has_goes_by_value():
    import __main__

    exec("class Local:\n  def __eq__(self, other): return True", __main__.__dict__)
    assert b"cloudpickle" in dump(__main__.Local())
    assert b"cloudpickle" in dump(lambda: 3)
    assert pickle.loads(dump([1, 2])) == [1, 2]


def test_an_instance_gives_bytes_text_and_files(tmp_path):
    instance = DataInstance("žluť".encode("utf-16"), "text-utf-16")
    assert instance.get_str() == "žluť" == instance.load()
    instance.write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == instance.get_bytes()
    assert instance.get_buffer().readonly and len(instance) == len(instance.get_bytes())


def test_a_cached_load_returns_the_same_value():
    instance = DataInstance(encode_value([1], "json"), "json")
    assert instance.load() is not instance.load()
    assert instance.load(cache=True) is instance.load()
