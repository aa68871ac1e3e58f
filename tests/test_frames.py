"""Tables of every library in, the same library out, and no cell in an error."""

import datetime as dt
from decimal import Decimal

import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from compliance import frames
from compliance.errors import InputError, MissingExtra

COLUMNS = {"a": [1, 2, 3], "b": ["x", None, "z"]}


MAKERS = {
    "pandas": lambda columns: pd.DataFrame(columns, index=[5, 5, 0][: len(columns["a"])]),
    "polars": pl.DataFrame,
    "lazy polars": pl.LazyFrame,
    "pyarrow": pa.table,
    "duckdb": lambda columns: duckdb.from_arrow(pa.table(columns)),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def frame(make):
    return frames.wrap(make(COLUMNS))


def rows(frame):
    return list(zip(*(frames.column(frame, name) for name in frame.columns), strict=True))


# -- in and out ------------------------------------------------------------------------


def test_a_table_of_any_library_is_a_frame(make, frame):
    native = make(COLUMNS)
    assert frames.is_frame(native)
    assert frames.is_frame(frame)
    assert frames.wrap(frame) is frame
    assert rows(frame) == [(1, "x"), (2, None), (3, "z")]


@pytest.mark.parametrize("maker", [pd.DataFrame, pl.DataFrame, pa.table])
def test_what_came_in_comes_out(maker):
    native = maker(COLUMNS)
    assert frames.native(frames.wrap(native)) is native


@pytest.mark.parametrize(
    "value",
    [None, 7, "text", [1], {"a": [1]}, np.zeros((2, 2)), pd.Series([1]), pl.Series([1]), object()],
)
def test_what_is_no_table_is_refused(value):
    assert not frames.is_frame(value)
    with pytest.raises(InputError, match="expected a data frame"):
        frames.wrap(value)


def test_a_column_is_told_from_a_table():
    assert frames.is_series(pd.Series([1]))
    assert frames.is_series(pl.Series([1]))
    assert not frames.is_series(pd.DataFrame(COLUMNS))
    assert not frames.is_series([1])


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(InputError, match="share a name"):
        frames.wrap(pd.DataFrame([[1, 2]], columns=["a", "a"]))


# -- rows and columns -------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [[True, False, True], np.array([True, False, True])])
def test_rows_are_kept_by_position(frame, mask):
    assert rows(frames.keep_rows(frame, mask)) == [(1, "x"), (3, "z")]


def test_a_mask_of_python_and_numpy_words_is_read_alike(frame):
    mixed = [np.True_, False, np.bool_(True)]
    assert rows(frames.keep_rows(frame, mixed)) == [(1, "x"), (3, "z")]


def test_keeping_no_row_keeps_the_columns(frame):
    kept = frames.keep_rows(frame, [False] * 3)
    assert (len(kept), kept.columns) == (0, ["a", "b"])


@pytest.mark.parametrize("mask", [[], [True], [True] * 4])
def test_a_mask_of_another_length_is_refused(frame, mask):
    with pytest.raises(InputError, match="for 3 rows"):
        frames.keep_rows(frame, mask)


def test_rows_are_taken_in_the_order_asked_for(frame):
    assert rows(frames.take_rows(frame, [2, 0, 2])) == [(3, "z"), (1, "x"), (3, "z")]
    assert len(frames.take_rows(frame, [])) == 0


def test_a_column_is_replaced_in_its_place_or_added_at_the_end(frame):
    replaced = frames.with_column(frame, "a", [7, 8, 9])
    added = frames.with_column(frame, "c", [b"1", None, b"3"])
    assert (replaced.columns, frames.column(replaced, "a")) == (["a", "b"], [7, 8, 9])
    assert (added.columns, frames.column(added, "c")) == (["a", "b", "c"], [b"1", None, b"3"])


def test_a_pandas_index_that_repeats_stays_and_misplaces_nothing():
    native = pd.DataFrame(COLUMNS, index=[5, 5, 0])
    changed = frames.native(frames.with_column(frames.wrap(native), "c", [7, 8, 9]))
    assert (changed.index.tolist(), changed["c"].tolist()) == ([5, 5, 0], [7, 8, 9])
    kept = frames.native(frames.keep_rows(frames.wrap(native), [False, True, True]))
    assert (kept.index.tolist(), kept["a"].tolist()) == ([5, 0], [2, 3])


@pytest.mark.parametrize(
    "values",
    [
        [2**62 + 1, None, 3],
        [2**62 + 1, 2, 3],
        [True, None, False],
        [0.5, None, 1.0],
        [None, None, None],
        ["x", None, ""],
        [dt.date(2024, 2, 29), None, dt.date(1, 1, 1)],
    ],
)
def test_values_come_back_as_they_were_put_in(frame, values):
    assert frames.column(frames.with_column(frame, "c", values), "c") == values


@pytest.mark.parametrize("values", [[2**70, None, 1], [2**70, 1, 2], [2**62 + 1, 0.5, "x"]])
def test_pandas_keeps_what_no_typed_column_holds(values):
    frame = frames.wrap(pd.DataFrame(COLUMNS))
    assert frames.column(frames.with_column(frame, "c", values), "c") == values


@pytest.mark.parametrize("values", [[], [1], [1] * 4])
def test_values_of_another_length_are_refused(frame, values):
    with pytest.raises(InputError, match="for 3 rows"):
        frames.with_column(frame, "c", values)


def test_a_column_that_is_not_there_is_named_beside_those_that_are(frame):
    with pytest.raises(InputError, match="no column 'c'; there are: 'a', 'b'"):
        frames.column(frame, "c")


# -- missing values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1.0, np.nan]),
        pd.Series(["x", None]),
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series([1.0, pd.NA], dtype="Float64"),
        pd.Series([True, pd.NA], dtype="boolean"),
        pd.Series(["x", pd.NA], dtype="string"),
        pd.Series(["x", None], dtype="category"),
        pd.Series([pd.Timestamp("2024"), pd.NaT]),
        pd.Series([pd.Timestamp("2024", tz="UTC"), pd.NaT]),
        pd.Series([pd.Timedelta(1), pd.NaT]),
        *(
            pd.Series([1, missing], dtype=object)
            for missing in (None, np.nan, pd.NA, pd.NaT, Decimal("NaN"), Decimal("sNaN"))
        ),
        pd.Series([1, np.float32("nan")], dtype=object),
        pl.Series([1.0, float("nan")]),
        pl.Series([1, None]),
        pl.Series([dt.date(2024, 1, 1), None]),
        pa.chunked_array([[1, None]]),
        pa.chunked_array([[1.0, float("nan")]]),
        pa.chunked_array([pa.array([1, None], pa.timestamp("ns"))]),
        pa.chunked_array([pa.array([Decimal(1), None])]),
    ],
    ids=lambda series: (
        f"{type(series).__module__.partition('.')[0]} {getattr(series, 'dtype', '')}"
    ),
)
def test_a_missing_value_of_any_library_is_none(series):
    libraries = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    table = libraries[type(series).__module__.partition(".")[0]]({"a": series})
    values = frames.column(frames.wrap(table), "a")
    assert values[0] is not None
    assert values[1] is None


def test_cells_that_hold_arrays_or_lists_are_values():
    cells = [np.array([1.0, np.nan]), np.array([]), [None], {"a": None}]
    frame = frames.wrap(pd.DataFrame({"a": pd.Series(cells, dtype=object)}))
    assert [
        value is cell for value, cell in zip(frames.column(frame, "a"), cells, strict=True)
    ] == [True] * 4


def test_distinct_values_leave_out_missing_ones_and_keep_their_order():
    frame = frames.wrap(pd.DataFrame({"a": pd.Series(["b", pd.NA, "a", "b"], dtype=object)}))
    assert frames.distinct(frame, "a") == ["b", "a"]


def test_distinct_works_on_cells_that_cannot_be_hashed():
    frame = frames.wrap(pl.DataFrame({"a": [[1], [2], [1], None]}))
    assert frames.distinct(frame, "a") == ["[1]", "[2]"]


# -- whole tables ------------------------------------------------------------------------------------


def test_records_are_dictionaries(frame):
    assert [record["a"] for record in frames.records(frame)] == [1, 2, 3]


@pytest.mark.parametrize("backend", ["pandas", "polars", "pyarrow"])
def test_a_table_is_made_from_columns(backend):
    made = frames.from_columns(COLUMNS, backend)
    assert frames.column(frames.wrap(made), "a") == [1, 2, 3]


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise ModuleNotFoundError

    monkeypatch.setattr(nw, "from_dict", refuse)
    with pytest.raises(MissingExtra, match="polars") as caught:
        frames.from_columns(COLUMNS, "polars")
    assert caught.value.extra == "polars"


def test_tables_are_put_one_above_the_other():
    frame = frames.wrap(pl.DataFrame(COLUMNS))
    assert len(frames.concat([frame, frame])) == 6


def test_a_digest_changes_with_any_value_name_type_or_order():
    tables = [
        COLUMNS,
        {"a": [1, 2, 4], "b": COLUMNS["b"]},
        {"a": [1, 2, 3], "c": COLUMNS["b"]},
        {"a": [1.0, 2.0, 3.0], "b": COLUMNS["b"]},
        {"b": COLUMNS["b"], "a": [1, 2, 3]},
        {"a": [2, 1, 3], "b": COLUMNS["b"]},
        {"a": [1, 2, 3], "b": ["x", "", "z"]},
    ]
    digests = {frames.digest(frames.wrap(pa.table(table))) for table in tables}
    assert len(digests) == len(tables)


def test_a_digest_does_not_depend_on_how_the_rows_are_held(frame):
    table = pa.table(COLUMNS)
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert frames.digest(frames.wrap(pieces)) == frames.digest(frames.wrap(table))
    assert frames.digest(frame) == frames.digest(frame)


def test_a_table_that_arrow_cannot_type_is_refused_without_its_values():
    frame = frames.wrap(pd.DataFrame({"a": pd.Series([1, "Jane Doe"], dtype=object)}))
    with pytest.raises(InputError, match="mixes types") as caught:
        frames.digest(frame)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("maker", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("backend", ["pandas", "polars", "pyarrow"])
def test_a_table_goes_to_arrow_and_to_any_library(maker, backend):
    arrow = frames.to_arrow(frames.wrap(maker(COLUMNS)), ["b", "a"])
    assert arrow.to_pydict() == {"b": ["x", None, "z"], "a": [1, 2, 3]}
    native = frames.wrap(frames.from_arrow(arrow, backend))
    assert native.implementation.name.lower() == backend
    assert rows(native) == [("x", 1), (None, 2), ("z", 3)]


@pytest.mark.parametrize("cells", [[1, "Jane Doe"], [1, 2**70], ["Jane \ud800"]], ids=ascii)
def test_what_arrow_has_no_type_for_is_refused_without_its_values(cells):
    frame = frames.wrap(pd.DataFrame({"a": pd.Series(cells, dtype=object)}))
    with pytest.raises(InputError, match="mixes types") as caught:
        frames.to_arrow(frame)
    assert "Jane" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_absent_column_and_an_unknown_library_are_named():
    table = pa.table(COLUMNS)
    with pytest.raises(InputError, match="no column 'c'; there are: 'a', 'b'"):
        frames.to_arrow(frames.wrap(table), ["a", "c"])
    with pytest.raises(InputError, match="'excel' holds no frames here"):
        frames.from_arrow(table, "excel")
    with pytest.raises(MissingExtra, match="modin"):
        frames.from_arrow(table, "modin")


# -- files ------------------------------------------------------------------------------------------


def test_each_format_is_read_by_its_suffix(tmp_path):
    (tmp_path / "x.CSV").write_text("a,b\n1,x\n2,\n3,z\n", "utf-8")
    (tmp_path / "x.jsonl").write_text('{"a":1,"b":"x"}\n{"a":2}\n{"a":3,"b":"z"}\n', "utf-8")
    parquet.write_table(pa.table(COLUMNS), tmp_path / "x.parquet")
    for name in ("x.CSV", "x.jsonl", "x.parquet"):
        assert frames.column(frames.read(tmp_path / name), "a") == [1, 2, 3]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "x.csv").write_text("\ufeffa,b\n1,2\n", "utf-8")
    assert frames.read(tmp_path / "x.csv").columns == ["a", "b"]


@pytest.mark.parametrize("name", ["x.xlsx", "x", "x.csv.gz", ".csv"])
def test_an_unknown_suffix_is_refused_with_those_that_are_known(tmp_path, name):
    (tmp_path / name).write_text("a\n1\n", "utf-8")
    with pytest.raises(InputError, match=r"known: \.csv, \.parquet, \.jsonl"):
        frames.read(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        frames.read(tmp_path / "x.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="no such file"):
        frames.read(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b""),
        ("x.csv", b"a,a\nJane,1\n"),
        ("x.csv", b"a,b\n1,2\nJane\n"),
        ("x.csv", b"a,b\n1,2\nJane,Doe,3\n"),
        ("x.csv", "name\nJane Mü\n".encode("latin-1")),
        ("x.csv", "näme\nJane\n".encode("latin-1")),
        ("x.csv", "name\nJane\n".encode("utf-16")),
        ("x.jsonl", b""),
        ("x.jsonl", b"Jane\n"),
        ("x.jsonl", b'{"a": 1}\n{"a": "Jane"}\n'),
        ("x.jsonl", b'{"a": "Jane"\n'),
        ("x.jsonl", b'{"a": 1, "a": "Jane"}\n'),
        ("x.jsonl", b'[{"a": "Jane"}]\n'),
        ("x.parquet", b"Jane"),
        ("x.parquet", b"PAR1Jane" * 9 + b"PAR1"),
    ],
)
def test_a_file_that_does_not_parse_is_named_and_not_quoted(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as") as caught:
        frames.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "Jane" not in str(caught.value)
    assert caught.value.__cause__ is None


# -- Spark ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # py4j leaves its sockets to the collector
def test_a_spark_frame_is_read_into_memory(java):
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    try:
        native = session.createDataFrame([(1, "x"), (2, None), (3, "z")], "a int, b string")
        assert frames.is_frame(native)
        frame = frames.wrap(native)
        assert rows(frames.keep_rows(frame, [True, False, True])) == [(1, "x"), (3, "z")]
        assert frames.column(frames.with_column(frame, "a", [None, 2**40, 1]), "a")[1] == 2**40
    finally:
        session.stop()
