"""Encrypted Parquet files (Parquet Modular Encryption) under our keys.

Each file has fresh 256-bit data keys, one for the footer and one for each column, and
AES-GCM throughout; how they are wrapped stands in `parquet_keys`. Bound to a file are its
tenant, table and columns, and the order of its parts, not its name: an older file of the
same table in its place is not noticed.

pyarrow (26) ends or hangs the process when a key fails in a data set scan or a filter:
nothing here uses either. Columns are read by `ParquetFile`, which raises, and filters run
in memory. `unlocked` is for readers that do scan: it gets every key before they start.
Source: parquet-format ``Encryption.md``.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from compliance import frames
from compliance._parquet import Encryption, algorithm, encryption
from compliance.crypto.arguments import require_list, require_names
from compliance.crypto.atomic import SELF, replacing
from compliance.crypto.files import regular
from compliance.crypto.keys import Keyring
from compliance.crypto.parquet_keys import (
    CIPHER,
    FOOTER,
    Session,
    client,
    decrypting,
    encrypting,
    refusal,
)
from compliance.errors import DecryptionFailed, InputError, OperationError

if TYPE_CHECKING:
    import pyarrow as pa

_MISREAD = frozenset(",:;")
_CODECS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")  # of Parquet, that pyarrow writes

Filters = Sequence[tuple[str, str, Any]] | Sequence[Sequence[tuple[str, str, Any]]]


def write(
    frame: object,
    path: Path | str,
    ring: Keyring,
    *,
    table: str,
    columns: Collection[str] | None = None,
    plaintext_footer: bool = False,
    compression: str = "zstd",
) -> None:
    """Write a table as an encrypted Parquet file, readable by its owner alone.

    The file appears whole or not at all, and takes the place of one that is there.

    Args:
        frame: a table of any library.
        path: the file.
        ring: the keys.
        table: the table or data set that the file belongs to; another's does not open it.
        columns: those that get a key of their own, default all; the others share the
            table's key. None is left in plaintext.
        plaintext_footer: leave the schema, its metadata and the row counts readable by
            anybody, signed; for readers that plan queries without keys.
        compression: ``zstd``, ``snappy``, ``gzip``, ``brotli``, ``lz4`` or ``none``.

    Raises:
        InputError: no table, an empty name, a column that is not there, one text for the list
            of columns, a name that cannot be keyed, or no such codec.
        KeyDestroyed: a column's key was destroyed.
        OperationError: the disk or the folder does not allow it.
    """
    from pyarrow import parquet

    require_names(table=table)
    _require_codec(compression)
    rows = frames.to_arrow(frames.wrap(frame))
    own = _own(rows.column_names, columns)
    session = Session(ring, table)
    with client(session) as service, _written(path) as sink:
        properties = encrypting(
            session, service, rows.column_names, own, plaintext_footer=plaintext_footer
        )
        parquet.write_table(rows, sink, encryption_properties=properties, compression=compression)


def read(
    path: Path | str,
    ring: Keyring,
    *,
    table: str,
    columns: Sequence[str] | None = None,
    filters: Filters | None = None,
) -> pa.Table:
    """Return the rows of an encrypted Parquet file.

    Only the keys of the columns asked for, and of those that filters name, are used.

    Args:
        path: the file.
        ring: the keys.
        table: the table or data set that it belongs to.
        columns: those to read, in this order; default all.
        filters: ``(column, operator, value)`` tuples that all hold, or a list of such lists
            of which one holds, as pyarrow takes them. A row group at a time is in memory.

    Raises:
        DecryptionFailed: not encrypted, of another table or tenant, or altered.
        KeyDestroyed: the key of the file's footer, or of a column asked for, was destroyed.
        InputError: not a Parquet file, a column that is not there, or a filter that does
            not fit.
    """
    require_list(columns=columns)
    with _opened(path, ring, table) as file:
        wanted = _there(file.schema_arrow.names, columns)
        predicate, named = _predicate(file.schema_arrow.names, filters)
        needed = list(dict.fromkeys([*wanted, *named]))
        parts = [
            _kept(file.read_row_group(number, columns=needed), predicate)
            for number in range(file.num_row_groups)
        ]
        return _joined(parts, file.schema_arrow, needed).select(wanted)


def schema(path: Path | str, ring: Keyring, *, table: str) -> pa.Schema:
    """Return names and types of the columns; only the footer's key is used.

    Raises:
        DecryptionFailed: as `read`.
        KeyDestroyed: the key of the table's footers was destroyed.
        InputError: not a Parquet file.
    """
    with _opened(path, ring, table) as file:
        return file.schema_arrow


@contextlib.contextmanager
def unlocked(
    path: Path | str, ring: Keyring, *, table: str, columns: Sequence[str] | None = None
) -> Iterator[Any]:
    """Give the ``decryption_properties`` with which pyarrow and pandas read a file themselves.

    For their readers, while the block lasts::

        with parquet.unlocked("people.parquet", ring, table="people") as properties:
            rows = pyarrow.parquet.read_table(path, decryption_properties=properties)
            frame = pandas.read_parquet(path, decryption_properties=properties)

    The keys of the columns are unwrapped before the block starts, since a key that fails while
    pyarrow scans can end or hang the process. So within the block a destruction is not noticed,
    and only the columns named here may be read, also by filters. The properties are for this
    one file.

    Args:
        path: the file.
        ring: the keys.
        table: the table or data set that it belongs to.
        columns: those that will be read; default all.

    Raises:
        DecryptionFailed: as `read`; also when the properties are used after the block.
        KeyDestroyed: the key of the footer, or of one of the columns, was destroyed.
        InputError: not a Parquet file, or a column that is not there.
    """
    require_list(columns=columns)
    session = Session(ring, table)
    with _opened(path, ring, table, session) as file:
        for name in _there(file.schema_arrow.names, columns):
            next(file.iter_batches(batch_size=1, columns=[name]), None)
    with client(session) as service:
        yield decrypting(service)


# -- files -----------------------------------------------------------------------------


def _require_codec(name: str) -> None:
    if not isinstance(name, str) or name.lower() not in _CODECS:
        raise InputError(f"no codec {name!r}; there are: {', '.join(_CODECS)}")


def _own(names: Sequence[str], columns: Collection[str] | None) -> frozenset[str]:
    """Return the columns with a key of their own; refuse names that pyarrow would misread.

    It takes names as one text, parted by commas, colons and semicolons, and what is nested
    by dots: a column that it misses would be written in plaintext, or under another's key.
    """
    if not names:
        raise InputError("a table without columns has nothing to encrypt")
    require_list(columns=columns)
    there = frozenset(names)
    for name in names:
        if name == FOOTER or not name or name != name.strip() or _MISREAD & set(name):
            raise InputError(
                f"the column {name!r} cannot be encrypted under this name: rename it without "
                "',', ':', ';' and outer spaces"
            )
        if any(name[:at] in there for at, letter in enumerate(name) if letter == "."):
            raise InputError(f"the column {name!r} looks like a part of another; rename it")
    return frozenset(_there(names, None if columns is None else list(columns)))


def _there(names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    wanted = list(names) if columns is None else list(columns)
    for name in wanted:
        if name not in names:
            known = ", ".join(map(repr, names))
            raise InputError(f"no column {name!r}; there are: {known}")
    return wanted


@contextlib.contextmanager
def _written(path: Path | str) -> Iterator[Any]:
    """Give a file that takes its name when everything was written."""
    import pyarrow as pa

    try:
        with replacing(Path(path)) as file:
            sink = io.BufferedWriter(file)
            try:
                yield sink
                sink.flush()
            finally:
                with contextlib.suppress(OSError):  # a full disk, which `flush` told
                    sink.detach()
    except pa.ArrowException as error:  # its text may quote a cell
        raise InputError(
            f"the table cannot be written as Parquet ({type(error).__name__})"
        ) from None
    except OSError as error:
        raise OperationError(
            f"{path}: cannot be written ({error.strerror or 'see the disk'})"
        ) from None


@contextlib.contextmanager
def _opened(
    path: Path | str, ring: Keyring, table: str, session: Session | None = None
) -> Iterator[Any]:
    """Give a `ParquetFile` whose footer was opened and is authentic."""
    import pyarrow as pa
    from pyarrow import parquet

    require_names(table=table)
    with regular(Path(path)) as raw, client(session or Session(ring, table)) as service:
        _require_ours(raw, path)
        # What was looked at is what is read: the name may be another file's by now.
        same = f"{SELF}/{raw.fileno()}" if os.path.exists(SELF) else raw  # noqa: PTH110  no file of a user's
        try:
            with parquet.ParquetFile(same, decryption_properties=decrypting(service)) as file:
                yield file
        except (pa.ArrowException, OSError, UnicodeError):  # their texts may quote the file
            raise refusal() from None


def _require_ours(file: BinaryIO, path: Path | str) -> None:
    """Refuse a plain file in the place of a sealed one, and pages that nothing authenticates."""
    if encryption(file) is Encryption.PLAIN:
        raise DecryptionFailed(
            f"{path}: is not encrypted; whoever put it there may have replaced a sealed file, "
            "read it with compliance.frames.read if it should be plain"
        )
    if algorithm(file) != CIPHER:
        raise DecryptionFailed(f"{path}: its pages are not under {CIPHER}, as ours are")


def _predicate(names: Sequence[str], filters: Filters | None) -> tuple[Any, list[str]]:
    """Return filters as an expression, and the columns that they name."""
    if not filters:
        return None, []
    from pyarrow import parquet

    try:
        expression = parquet.filters_to_expression(filters)
        groups: Any = [filters] if isinstance(filters[0], tuple) else filters
        named = [str(name) for group in groups for name, _, _ in group]
    except (ValueError, TypeError, IndexError):
        raise InputError("a filter is (column, operator, value); see pyarrow's filters") from None
    return expression, _there(names, named)


def _kept(rows: pa.Table, predicate: Any) -> pa.Table:
    import pyarrow as pa

    if predicate is None:
        return rows
    try:
        return rows.filter(predicate)
    except (pa.ArrowException, TypeError):  # its text may quote a cell
        raise InputError("a filter does not fit the type of its column") from None


def _joined(parts: Sequence[pa.Table], found: pa.Schema, names: Sequence[str]) -> pa.Table:
    import pyarrow as pa

    if parts:
        return pa.concat_tables(parts)
    fields = [found.field(name) for name in names]
    return pa.schema(fields, metadata=found.metadata).empty_table()
