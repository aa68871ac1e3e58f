"""Tables in and out: pandas, polars, Arrow, DuckDB and Spark through narwhals.

The rest of the package handles a `Frame` (a narwhals data frame) and never
imports a data frame library itself. What a user handed in, a user gets back:
``native`` returns the library's own object.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compliance._parquet import Encryption, encryption
from compliance.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import narwhals as nw
    import pyarrow as pa

    Frame = nw.DataFrame[Any]
    Series = nw.Series[Any]
else:
    Frame = Series = Any

SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def is_frame(value: object) -> bool:
    """Say whether a value is a table of any library that we can read."""
    import narwhals as nw

    if type(value).__module__.partition(".")[0] in {"builtins", "numpy", "torch"}:
        return False
    native = nw.to_native(value, pass_through=True)
    try:
        wrapped = nw.from_native(native, pass_through=True)
    except nw.exceptions.DuplicateError:
        return True  # a frame, though one that `wrap` refuses
    return isinstance(wrapped, (nw.DataFrame, nw.LazyFrame))


def is_series(value: object) -> bool:
    """Say whether a value is a column of any library that we can read."""
    import narwhals as nw

    if type(value).__module__.partition(".")[0] == "builtins":
        return False
    try:
        wrapped = nw.from_native(value, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError:
        return False
    return isinstance(wrapped, nw.Series)


def wrap(value: object) -> Frame:
    """Return the table as a narwhals data frame, reading lazy and remote ones into memory.

    Raises:
        InputError: the value is no table, or two of its columns share a name.
    """
    import narwhals as nw

    if isinstance(value, nw.DataFrame):
        return value
    try:
        wrapped = nw.from_native(value, pass_through=True)
    except nw.exceptions.DuplicateError:
        raise InputError("two columns share a name; rename one") from None
    if isinstance(wrapped, nw.LazyFrame):
        return wrapped.collect()
    if isinstance(wrapped, nw.DataFrame):
        return wrapped
    raise InputError(f"expected a data frame, got {type(value).__name__}")


def native(frame: Frame) -> Any:
    """Return the library's own object."""
    return frame.to_native()


def keep_rows(frame: Frame, mask: Sequence[bool]) -> Frame:
    """Return the rows where the mask is true, in order.

    Raises:
        InputError: the mask has not one entry for each row.
    """
    _one_each(frame, mask)
    return frame.filter([bool(keep) for keep in mask])


def take_rows(frame: Frame, positions: Sequence[int]) -> Frame:
    """Return the rows at these positions, in the order given."""
    return frame[list(positions)]


def with_column(frame: Frame, name: str, values: Sequence[Any]) -> Frame:
    """Return the frame with a column replaced or added at the end.

    Raises:
        InputError: there is not one value for each row.
    """
    import narwhals as nw

    _one_each(frame, values)
    if frame.implementation.is_pandas():
        column = _pandas_column(frame.to_native().index, list(values))
        series = nw.from_native(column, series_only=True)
    else:
        series = nw.new_series(name, list(values), backend=frame.implementation)
    return frame.with_columns(series.alias(name))


def with_array(frame: Frame, name: str, array: pa.Array) -> Frame:
    """Return the frame as `with_column` does; in pandas all but text are objects."""
    import narwhals as nw
    import pyarrow as pa

    _one_each(frame, array)
    if frame.implementation.is_pandas():
        column = _pandas_array(frame.to_native().index, array)
        return frame.with_columns(nw.from_native(column, series_only=True).alias(name))
    table = nw.from_arrow(pa.table({name: array}), backend=frame.implementation)
    return frame.with_columns(table[name])


def _pandas_array(index: Any, array: pa.Array) -> Any:
    import pandas as pd

    if str(array.type) in _TEXTS:
        return array.to_pandas().set_axis(index)
    return pd.Series(array.to_pylist(), index=index, dtype=object)


def _one_each(frame: Frame, values: Sequence[Any]) -> None:
    if len(values) != len(frame):
        raise InputError(f"{len(values)} values for {len(frame)} rows")


def _pandas_column(index: Any, values: list[Any]) -> Any:
    """Left to itself pandas turns whole numbers beside a missing one, or a half, into floats."""
    import pandas as pd

    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) > 1:
        return pd.Series(values, index=index, dtype=object)
    if kinds == {int}:
        fits = all(v is None or -(2**63) <= v < 2**63 for v in values)
        whole = "Int64" if None in values else "int64"
        return pd.Series(values, index=index, dtype=whole if fits else object)
    try:
        return pd.Series(values, index=index)
    except UnicodeEncodeError:  # a lone surrogate, which pandas' text cannot hold and objects can
        return pd.Series(values, index=index, dtype=object)


def column(frame: Frame, name: str) -> list[Any]:
    """Return a column as Python values; missing values of every library become None.

    Raises:
        InputError: there is no such column; the message lists those there are.
    """
    if name not in frame.columns:
        raise InputError(f"no column {name!r}; there are: {', '.join(map(repr, frame.columns))}")
    values = frame[name].to_list()
    kinds = set(map(type, values))
    if kinds <= _NEVER_NAN:
        return values
    if kinds <= _COMPARABLE:
        return [None if v != v else v for v in values]  # noqa: PLR0124  NaN alone differs from itself
    return [None if _is_missing(v) else v for v in values]


_TEXTS = {"string", "large_string", "string_view"}  # Arrow's types
_NEVER_NAN = {bool, int, str, bytes, type(None)}
_COMPARABLE = _NEVER_NAN | {float}


def strings(frame: Frame, name: str, *, text: bool) -> pa.Array | pa.ChunkedArray | None:
    """Return a column of text, or of bytes, as Arrow holds it; None for any other column.

    Raises:
        InputError: text that is no UTF-8.
    """
    import narwhals as nw
    import pyarrow as pa

    if name not in frame.columns or frame[name].dtype != (nw.String if text else nw.Binary):
        return None
    try:
        array = frame[name].to_arrow()
    except (pa.ArrowException, UnicodeError, TypeError, OverflowError):  # several types in pandas
        return None
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raise InputError(f"column {name!r} holds text that is not UTF-8; repair it") from None
    return array if (str(array.type) in _TEXTS) is text else None


def _is_missing(value: Any) -> bool:
    """Say whether a cell is None, NaN, NaT or pandas' NA, whose comparisons raise or are arrays."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, numbers.Real) and value != value  # noqa: PLR0124  NaN


def distinct(frame: Frame, name: str) -> list[Any]:
    """Return the distinct values of a column, missing ones left out, in order of appearance."""
    try:
        return list(dict.fromkeys(v for v in column(frame, name) if v is not None))
    except TypeError:  # unhashable cells, such as lists or dicts
        return list(dict.fromkeys(repr(v) for v in column(frame, name) if v is not None))


def records(frame: Frame) -> Iterator[dict[str, Any]]:
    """Return an iterator of rows as dictionaries."""
    return frame.iter_rows(named=True)


def from_columns(columns: dict[str, Sequence[Any]], backend: str = "pandas") -> Any:
    """Return a native frame of a library, by default pandas.

    Raises:
        MissingExtra: the library is not installed.
    """
    import narwhals as nw

    try:
        return nw.from_dict(columns, backend=backend).to_native()  # type: ignore[arg-type]  # narwhals checks the name
    except ImportError as error:
        raise MissingExtra("fairness" if backend == "pandas" else backend, backend) from error


def concat(frames: Sequence[Frame]) -> Frame:
    """Return the frames one above the other; all of one library, with the same columns."""
    import narwhals as nw

    return nw.concat(list(frames), how="vertical")


def to_arrow(frame: Frame, names: Sequence[str] | None = None) -> pa.Table:
    """Return the rows as an Arrow table, all columns or the named ones in this order.

    Raises:
        InputError: no such column, or one that mixes types, so that Arrow has none for it.
    """
    import pyarrow as pa

    absent = [name for name in names or () if name not in frame.columns]
    if absent:
        known = ", ".join(map(repr, frame.columns))
        raise InputError(f"no column {absent[0]!r}; there are: {known}")
    try:
        return (frame if names is None else frame.select(list(names))).to_arrow()
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError):  # they may quote a cell
        raise InputError(
            "a column mixes types, or holds values that Arrow has none for; give it one type"
        ) from None


def from_arrow(table: pa.Table, backend: str) -> Any:
    """Return an Arrow table as a native frame of a library.

    Raises:
        InputError: a library that we do not write to.
        MissingExtra: the library is not installed.
    """
    import narwhals as nw

    try:
        return nw.from_arrow(table, backend=backend).to_native()  # type: ignore[arg-type]  # narwhals checks the name
    except ImportError as error:
        raise MissingExtra("fairness" if backend == "pandas" else backend, backend) from error
    except ValueError:
        raise InputError(
            f"{backend!r} holds no frames here; use pandas, polars or pyarrow"
        ) from None


def digest(frame: Frame) -> str:
    """Return SHA-256 over the Arrow stream of the rows: column names, types and values.

    The same rows read by the same library give the same digest.

    Raises:
        InputError: a column mixes types, so that Arrow has none for it.
    """
    import hashlib

    import pyarrow as pa

    table = to_arrow(frame).replace_schema_metadata(None).combine_chunks()
    hashed = hashlib.sha256()
    with pa.ipc.new_stream(_Hashing(hashed.update), table.schema) as stream:
        stream.write_table(table)
    return hashed.hexdigest()


class _Hashing:
    """A file that hashes what is written and keeps nothing."""

    closed = False

    def __init__(self, update: Any) -> None:
        self._update = update

    def write(self, data: Any) -> int:
        self._update(data)
        return len(data)

    def flush(self) -> None:
        """Have nothing to flush: `write` hashes at once."""

    def close(self) -> None:
        self.closed = True


def kind_of(path: Path | str) -> str:
    """Return ``csv``, ``parquet`` or ``jsonl`` by the file's suffix.

    Raises:
        InputError: another suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{path}: cannot tell the format by the suffix {suffix!r}; known: {known}")
    return SUFFIXES[suffix]


def read(path: Path | str) -> Frame:
    """Read a CSV, Parquet or JSONL file into Arrow.

    Raises:
        InputError: no such file, an unknown suffix, a content that does not parse, or an
            encrypted Parquet file, which needs its keys.
    """
    import narwhals.exceptions as nwe
    import pyarrow as pa

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    kind = kind_of(path)
    if kind == "parquet":
        require_plain(path)
    try:
        return wrap(_READERS[kind](path))
    except (
        pa.ArrowException,
        nwe.DuplicateError,
        InputError,
        UnicodeError,
        OSError,
    ) as error:
        # Arrow quotes the offending cell, which may be personal: name the fault's kind only.
        raise InputError(
            f"{path}: cannot be read as {kind} ({type(error).__name__}); check its encoding "
            "(UTF-8), that no column name repeats and every row has the header's number of fields"
        ) from None


def _csv(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    table = csv.read_csv(path, csv.ReadOptions(use_threads=True))
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        raise pa.ArrowInvalid("not UTF-8")  # Arrow falls back to bytes, which no scan would read
    return table


def require_plain(path: Path) -> None:
    """Refuse encrypted Parquet before pyarrow sees it, which can end the process (_parquet)."""
    found = encryption(path)
    if found is not Encryption.PLAIN:
        raise InputError(
            f"{path}: an encrypted Parquet file ({found.value}); open ours by compliance.crypto."
            "parquet.read, another's with the tool that wrote it, and hand in the table"
        )


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _jsonl(path: Path) -> Any:
    from pyarrow import json

    return json.read_json(path)


_READERS = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}
