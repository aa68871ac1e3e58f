"""Sealed columns: every type comes back as it was, in the frame it came from, in its own place."""

import base64
import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import frames
from compliance.crypto import columns
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed, InputError

EAST = dt.timezone(dt.timedelta(hours=2))
VALUES = {
    "text": ["ana", None, ""],
    "int": [2**62 + 1, None, -3],
    "float": [0.1, None, -1e300],
    "bool": [True, None, False],
    "bytes": [b"\x00\xff", None, b""],
    "date": [dt.date(2024, 2, 29), None, dt.date(1, 1, 1)],
    "datetime": [dt.datetime(2024, 2, 29, 1, 2, 3, 4), None, dt.datetime(1970, 1, 1)],  # noqa: DTZ001
    "aware": [
        dt.datetime(2024, 2, 29, 1, 2, tzinfo=EAST),
        None,
        dt.datetime(1970, 1, 1, tzinfo=EAST),
    ],
}
MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def sealed(ring, frame, names, **options):
    return columns.encrypt(frames.wrap(frame), names, ring, table="people", **options)


def opened(ring, frame, names, **options):
    return columns.decrypt(frame, names, ring, table="people", **options)


@pytest.mark.parametrize("kind", VALUES)
def test_a_column_comes_back_as_it_was_and_missing_stays_missing(ring, make, kind):
    frame = make({"id": [1, 2, 3], "x": VALUES[kind]})
    before = frames.column(frames.wrap(frame), "x")
    hidden = sealed(ring, frame, ["x"], rows=[1, 2, 3])
    cells = frames.column(hidden, "x")
    assert [cell is None for cell in cells] == [False, True, False]
    assert all(isinstance(cell, bytes) and cell[0] == 1 for cell in cells if cell is not None)
    after = opened(ring, hidden, ["x"], rows=[1, 2, 3])
    assert frames.column(after, "x") == before
    assert list(map(type, frames.column(after, "x"))) == list(map(type, before))
    assert type(frames.native(after)) is type(frame)
    assert frames.column(after, "id") == [1, 2, 3]


def test_a_pandas_index_that_repeats_survives(ring):
    frame = pd.DataFrame({"x": ["a", None, "c"], "y": [1, 2, 3]}, index=[5, 5, 0])
    hidden = sealed(ring, frame, ["x"], rows=[1, 2, 3])
    back = frames.native(opened(ring, hidden, ["x"], rows=[1, 2, 3]))
    pd.testing.assert_frame_equal(back, frame)


def test_whole_numbers_beside_a_missing_one_do_not_lose_a_digit(ring):
    frame = pd.DataFrame({"x": pd.array([2**62 + 1, None], dtype="Int64")})
    back = frames.native(opened(ring, sealed(ring, frame, ["x"]), ["x"]))
    pd.testing.assert_frame_equal(back, frame)


def test_a_mixed_pandas_column_keeps_the_type_of_each_cell(ring):
    frame = pd.DataFrame({"x": pd.Series([2**62 + 1, 0.5, "a", None, "\ud800"], dtype=object)})
    back = opened(ring, sealed(ring, frame, ["x"]), ["x"])
    assert frames.column(back, "x") == [2**62 + 1, 0.5, "a", None, "\ud800"]


@given(
    st.booleans()
    | st.integers(-(10**300), 10**300)
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(EAST))
)
def test_the_encoding_of_a_value_is_read_back_as_that_value(value):
    back = columns._decode(columns._encode(value))
    assert type(back) is type(value)
    assert back == value or value != value  # noqa: PLR0124  NaN


@pytest.mark.parametrize(
    ("value", "plain"),
    [(np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a")],
)
def test_numpy_scalars_come_back_as_pythons(value, plain):
    back = columns._decode(columns._encode(value))
    assert (back, type(back)) == (plain, type(plain))


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        1j,
        dt.time(1),
        dt.timedelta(1),
        np.datetime64("2020-01-01", "ns"),
        pd.Timestamp(1),
        object(),
    ],
)
def test_a_type_that_would_not_come_back_is_refused_without_its_value(value):
    with pytest.raises(InputError, match="cannot seal") as caught:
        columns._encode(value)
    assert "2020" not in str(caught.value)


# -- place -----------------------------------------------------------------------------


@pytest.fixture
def hidden(ring):
    frame = pa.table({"salary": [10, 20], "bonus": [30, 40]})
    return sealed(ring, frame, ["salary", "bonus"], rows=[1, 2])


def test_two_cells_that_changed_rows_are_refused(ring, hidden):
    swapped = frames.take_rows(hidden, [1, 0])
    with pytest.raises(DecryptionFailed):
        opened(ring, swapped, ["salary"], rows=[1, 2])
    assert frames.column(opened(ring, swapped, ["salary"], rows=[2, 1]), "salary") == [20, 10]


def test_a_cell_in_another_column_is_refused(ring, hidden):
    moved = frames.with_column(hidden, "bonus", frames.column(hidden, "salary"))
    with pytest.raises(DecryptionFailed):
        opened(ring, moved, ["bonus"], rows=[1, 2])


def test_a_cell_in_another_table_is_refused(ring, hidden):
    with pytest.raises(DecryptionFailed):
        columns.decrypt(hidden, ["salary"], ring, table="staff", rows=[1, 2])


def test_a_cell_of_another_tenant_is_refused(ring, hidden, key_file):
    other = Keyring.open(ring.store, key_file, tenant="other")
    with pytest.raises(DecryptionFailed):
        opened(other, hidden, ["salary"], rows=[1, 2])


@pytest.mark.parametrize("rows", [None, ["", ""], [None, None], [1, 3]])
def test_a_cell_that_was_bound_to_its_row_does_not_open_without_it(ring, hidden, rows):
    with pytest.raises(DecryptionFailed):
        opened(ring, hidden, ["salary"], rows=rows)


def test_row_keys_of_another_length_are_refused(ring, hidden):
    with pytest.raises(InputError, match="3 row keys for 2 rows"):
        opened(ring, hidden, ["salary"], rows=[1, 2, 3])


def test_a_row_key_may_be_typed_differently_when_it_is_read_back(ring, hidden):
    assert frames.column(opened(ring, hidden, ["salary"], rows=["1", 2.0]), "salary") == [10, 20]


# -- cells in other clothes --------------------------------------------------------------


@pytest.mark.parametrize(
    "dress", [bytearray, memoryview, lambda cell: base64.b64encode(cell).decode()]
)
def test_cells_may_come_back_as_databases_and_files_give_them(ring, hidden, dress):
    cells = [dress(cell) for cell in frames.column(hidden, "salary")]
    frame = frames.wrap(pd.DataFrame({"salary": pd.Series(cells, dtype=object)}))
    assert frames.column(opened(ring, frame, ["salary"], rows=[1, 2]), "salary") == [10, 20]


@pytest.mark.parametrize("cell", ["plain text", "", 7, 0.5, b"", "AAAA"])
def test_a_cell_that_is_not_sealed_is_refused_and_not_quoted(ring, cell):
    frame = frames.wrap(pd.DataFrame({"x": pd.Series([cell], dtype=object)}))
    with pytest.raises(DecryptionFailed) as caught:
        opened(ring, frame, ["x"])
    assert "plain" not in str(caught.value)


def test_an_empty_frame_and_no_columns_are_fine(ring, make):
    frame = make({"x": []})
    assert len(sealed(ring, frame, ["x"])) == 0
    assert frames.column(sealed(ring, make({"x": [1]}), []), "x") == [1]


def test_a_missing_column_is_named(ring):
    with pytest.raises(InputError, match="no column 'y'"):
        sealed(ring, pa.table({"x": [1]}), ["y"])
