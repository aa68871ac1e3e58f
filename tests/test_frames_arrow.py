"""Columns of frames as Arrow arrays: text and bytes only, and what is neither stays what it is."""

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from compliance import frames
from compliance.errors import InputError

MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
MANY = ["a"] * 200  # more than narwhals looks at before it names a type
ARRAYS = [
    pa.array(["x", None, ""]),
    pa.array(["x", None, ""], pa.large_string()),
    pa.array([b"x", None, b"\xff"]),
    pa.array([2**64 - 1, None, 0], pa.uint64()),
]


@pytest.fixture(params=MAKERS)
def maker(request):
    return MAKERS[request.param]


def objects(values):
    return frames.wrap(pd.DataFrame({"x": pd.Series(values, dtype=object)}))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
@pytest.mark.parametrize("name", ["x", "new"])
def test_an_array_is_a_column_of_any_library_as_its_values_are(maker, array, name):
    frame = frames.with_array(frames.wrap(maker({"x": [1, 2, 3], "y": [4, 5, 6]})), name, array)
    assert frames.column(frame, name) == array.to_pylist()
    assert frame.columns == list(dict.fromkeys(["x", "y", name]))
    assert type(frames.native(frame)) is type(maker({}))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type))
def test_a_pandas_index_that_repeats_stays(array):
    frame = frames.wrap(pd.DataFrame({"x": [1, 2, 3]}, index=[5, 5, 0]))
    found = frames.native(frames.with_array(frame, "x", array))
    assert list(found.index) == [5, 5, 0]
    assert frames.column(frames.wrap(found), "x") == array.to_pylist()


def test_text_in_an_array_has_the_type_that_text_in_a_list_has(maker):
    frame = frames.wrap(maker({"x": ["a", "b"]}))
    listed = frames.with_column(frame, "x", ["c", None])
    assert frames.with_array(frame, "x", pa.array(["c", None])).schema == listed.schema


def test_an_array_of_another_length_is_refused(maker):
    with pytest.raises(InputError, match="1 values for 2 rows"):
        frames.with_array(frames.wrap(maker({"x": [1, 2]})), "x", pa.array(["a"]))


def test_text_is_had_from_any_library(maker):
    frame = frames.wrap(maker({"x": ["ä", None, ""], "y": [1, 2, 3]}))
    assert frames.strings(frame, "x", text=True).to_pylist() == ["ä", None, ""]
    for name, text in (("x", False), ("y", True), ("absent", True)):
        assert frames.strings(frame, name, text=text) is None


@pytest.mark.parametrize("maker", [pl.DataFrame, pa.table], ids=["polars", "pyarrow"])
def test_bytes_are_had_where_a_library_has_a_type_for_them(maker):
    frame = frames.wrap(maker({"x": [b"\xff", None, b""]}))
    assert frames.strings(frame, "x", text=False).to_pylist() == [b"\xff", None, b""]
    assert frames.strings(frame, "x", text=True) is None


@pytest.mark.parametrize(
    "odd", [b"x", 5, 0.5, 2**70, float("inf"), ["a"], "\ud800", pd.Timestamp(0)], ids=ascii
)
def test_a_pandas_column_of_several_types_is_no_text_however_it_begins(odd):
    assert frames.strings(objects([*MANY, odd]), "x", text=True) is None


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT], ids=repr)
def test_missing_text_in_pandas_is_missing(missing):
    found = frames.strings(objects([*MANY, missing]), "x", text=True)
    assert found.to_pylist() == [*MANY, None]


def test_text_that_is_not_utf_8_is_refused_and_not_quoted():
    bad = pa.StringArray.from_buffers(
        1, pa.array([0, 7], pa.int32()).buffers()[1], pa.py_buffer(b"hunter\xff")
    )
    with pytest.raises(InputError, match="column 'x' holds text that is not UTF-8") as caught:
        frames.strings(frames.wrap(pa.table({"x": bad})), "x", text=True)
    assert caught.value.__cause__ is None
    assert "hunter" not in str(caught.value)
