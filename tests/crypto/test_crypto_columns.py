"""Sealed columns: every type comes back as it was, in the frame it came from, in its own place."""

import base64
import datetime as dt
import uuid
import zoneinfo
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from compliance import frames
from compliance.crypto import aead, columns
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed, InputError

EAST = dt.timezone(dt.timedelta(hours=2))
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
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
    "zoned": [dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN), None],
    "time": [dt.time(23, 59, 59, 999_999), None],
    "decimal": [Decimal("1.10"), None, Decimal("-0.003")],
    "uuid": [uuid.UUID(int=7), None],
    "infinite": [float("inf"), None, -0.0],
    "whole floats": [1.0, 3.0],
    "missing": [None, None],
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
    rows = list(range(len(VALUES[kind])))
    frame = make({"id": rows, "x": VALUES[kind]})
    before = frames.column(frames.wrap(frame), "x")
    hidden = sealed(ring, frame, ["x"], rows=rows)
    cells = frames.column(hidden, "x")
    assert [cell is None for cell in cells] == [value is None for value in VALUES[kind]]
    assert all(isinstance(cell, bytes) and cell[0] == 1 for cell in cells if cell is not None)
    after = opened(ring, hidden, ["x"], rows=rows)
    assert frames.column(after, "x") == before
    assert list(map(type, frames.column(after, "x"))) == list(map(type, before))
    assert type(frames.native(after)) is type(frame)
    assert frames.column(after, "id") == rows
    assert after.schema == frames.wrap(frame).schema


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


@pytest.mark.parametrize("odd", [b"x", 5, 2**70, 0.5, "\ud800", dt.date(2024, 1, 1)], ids=ascii)
def test_one_cell_of_another_type_after_many_texts_keeps_its_type(ring, odd):
    cells = [*["a"] * 200, odd, None]
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    back = frames.column(opened(ring, sealed(ring, frame, ["x"]), ["x"]), "x")
    assert (back, type(back[200])) == (cells, type(odd))


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([["a"], [None, "b"], []], pa.string()),
        pa.chunked_array([], pa.large_string()),
        pa.chunked_array([pa.array(["z", "a", None], pa.large_string())[1:]]),
        pa.array(["a", None], pa.string_view()),
        pa.array(["a", None]).dictionary_encode(),
        pl.Series(["a", None], dtype=pl.Categorical),
    ],
    ids=["chunks", "no-chunk", "slice", "view", "dictionary", "polars-category"],
)
def test_text_of_every_layout_survives(ring, column):
    frame = frames.wrap(
        (pl.DataFrame if isinstance(column, pl.Series) else pa.table)({"x": column})
    )
    back = opened(ring, sealed(ring, frame, ["x"]), ["x"])
    assert frames.column(back, "x") == frames.column(frame, "x")


def test_text_that_is_no_unicode_survives_where_the_library_can_hold_it(ring):
    frame = pd.DataFrame({"x": pd.Series(["\ud800", "a"], dtype=object)})
    hidden = sealed(ring, frame, ["x"])
    assert frames.column(opened(ring, hidden, ["x"]), "x") == ["\ud800", "a"]
    for elsewhere in ("polars", "pyarrow"):
        moved = frames.from_columns({"x": frames.column(hidden, "x")}, elsewhere)
        with pytest.raises(InputError, match="open it in pandas") as caught:
            opened(ring, frames.wrap(moved), ["x"])
        assert caught.value.__cause__ is None
        assert "ud800" not in str(caught.value)


def test_values_that_the_opening_library_cannot_hold_are_not_quoted(ring):
    frame = pd.DataFrame({"x": pd.Series(["hunter2", 7], dtype=object)})
    cells = frames.column(sealed(ring, frame, ["x"]), "x")
    with pytest.raises(InputError, match="column 'x'") as caught:
        opened(ring, frames.wrap(pa.table({"x": cells})), ["x"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("x", [2**63 + 1, None], dtype=pl.UInt64),
        pl.Series("x", [2**100, None], dtype=pl.Int128),
        pa.chunked_array([pa.array([2**64 - 1, None], pa.uint64())]),
        pd.Series([2**64 - 1, 0], dtype="uint64"),
    ],
    ids=["polars-64", "polars-128", "arrow-64", "pandas-64"],
)
def test_numbers_beyond_the_signed_64_bits_survive(ring, column):
    kind = {"polars": pl.DataFrame, "pyarrow": pa.table, "pandas": pd.DataFrame}
    frame = kind[type(column).__module__.partition(".")[0]]({"x": column})
    before = frames.column(frames.wrap(frame), "x")
    assert frames.column(opened(ring, sealed(ring, frame, ["x"]), ["x"]), "x") == before


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("x", [1, None], dtype=pl.Datetime("ns")),
        pl.Series("x", [1_001, None]).cast(pl.Time),
        pa.chunked_array([pa.array([1, None], pa.timestamp("ns"))]),
        pa.chunked_array([pa.array([1], pa.time64("ns"))]),
        pd.Series([pd.Timestamp(1)]),
    ],
    ids=["polars", "polars-time", "arrow", "arrow-time", "pandas"],
)
def test_nanoseconds_are_refused_and_never_cut_off(ring, column):
    kind = {"polars": pl.DataFrame, "pyarrow": pa.table, "pandas": pd.DataFrame}
    frame = kind[type(column).__module__.partition(".")[0]]({"x": column})
    with pytest.raises(InputError, match="nanoseconds"):
        sealed(ring, frame, ["x"])


# -- what shows from outside ------------------------------------------------------------


def lengths(frame):
    return {len(cell) for cell in frames.column(frame, "x")}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("pad", [None, 1, 64])
def test_sealed_missing_values_look_like_all_others_and_come_back_missing(ring, make, kind, pad):
    frame = make({"x": VALUES[kind]})
    hidden = sealed(ring, frame, ["x"], nulls="seal", pad=pad)
    assert len(lengths(hidden)) == 1
    before = frames.column(frames.wrap(frame), "x")
    assert frames.column(opened(ring, hidden, ["x"]), "x") == before


def test_lengths_show_unless_they_are_padded(ring, make):
    frame = make({"x": ["a" * n for n in range(70)]})
    assert len(lengths(sealed(ring, frame, ["x"]))) == 70
    hidden = sealed(ring, frame, ["x"], pad=32)
    assert lengths(hidden) == {aead.OVERHEAD + n for n in (32, 64, 96)}
    assert frames.column(opened(ring, hidden, ["x"]), "x") == ["a" * n for n in range(70)]


@pytest.mark.parametrize("pad", [0, -1, 1.5, True, 2**21])
@pytest.mark.parametrize("nulls", ["keep", "seal"])
def test_a_padding_that_is_none_is_refused(ring, pad, nulls):
    with pytest.raises(InputError, match="pad is a number of bytes"):
        sealed(ring, pa.table({"x": ["a", None]}), ["x"], pad=pad, nulls=nulls)


def test_a_misspelt_option_is_refused(ring):
    frame = frames.wrap(pa.table({"x": [1]}))
    with pytest.raises(InputError, match="nulls is"):
        sealed(ring, frame, ["x"], nulls="hide")
    with pytest.raises(InputError, match="destroyed is"):
        opened(ring, frame, ["x"], destroyed="ignore")


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


def test_a_cell_of_another_schema_version_is_refused(ring, hidden):
    with pytest.raises(DecryptionFailed):
        opened(ring, hidden, ["salary"], rows=[1, 2], version="2")
    frame = sealed(ring, pa.table({"x": [1]}), ["x"], version="2")
    assert frames.column(opened(ring, frame, ["x"], version="2"), "x") == [1]


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


def test_cells_as_base64_text_open_in_any_library(ring, make, hidden):
    cells = [base64.b64encode(cell).decode() for cell in frames.column(hidden, "salary")]
    frame = frames.wrap(make({"salary": [cells[0], None, cells[1]]}))
    back = opened(ring, frame, ["salary"], rows=[1, None, 2])
    assert frames.column(back, "salary") == [10, None, 20]


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
