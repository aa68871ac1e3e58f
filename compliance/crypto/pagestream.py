"""Streams of sealed pages: tables larger than memory, in files that appear whole or not at all.

Layout: ``0x03 | stream id (16)``, then pages (compliance.crypto.pages), each after a mark
(1 byte, 1 for the last) and its length (8 bytes, big endian). Every page is bound to the
random id of its stream, to its number and to its mark (STREAM: Hoang, Reyhanitabar, Rogaway
and Vizár, CRYPTO 2015, eprint 2015/189): pages that were left out, repeated, reordered or
brought from another stream do not open, and a stream without its last page is refused.
The last page holds no rows.
"""

from __future__ import annotations

import io
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from compliance.crypto import atomic, pages
from compliance.crypto.arguments import require_names
from compliance.crypto.keys import Keyring
from compliance.errors import DecryptionFailed, InputError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 3
PAGE_BYTES = 2**24  # of rows in one page: what both ends hold in memory, a few times over
LARGEST_PAGE = 2**30  # of a page in bytes; a reader believes no length beyond it
_FRAME = struct.Struct(">BQ")
_ID = 16
_MORE, _LAST = 0, 1


class _Stream:
    """What both ends share: the keys, the place, and the number of the next page."""

    def __init__(self, ring: Keyring, table: str, label: str) -> None:
        require_names(table=table)
        self._ring = ring
        self._table = table
        self._label = label.encode("utf-8", "surrogatepass")
        self._id = b""
        self._number = 0
        self._file: Any = None

    def _taken(self) -> Any:
        """Take the file out of reach until a page has passed whole: an error ends the stream."""
        if self._file is None:
            raise InputError("a stream of pages is used inside `with`, and not after an error")
        file, self._file = self._file, None
        return file

    def _where(self, mark: int) -> bytes:
        parts = (b"stream", self._label, self._id, _FRAME.pack(mark, self._number))
        return pages.context(self._ring, self._table, pages.EVERY_COLUMN, *parts)


class PageWriter(_Stream):
    """Seal tables one after the other into a file.

    For tables that come in pieces::

        with PageWriter("people.pages", ring, table="people", schema=schema) as writer:
            for batch in batches:
                writer.write(batch)

    A path is written beside its place, synced, and moved there by the end of the ``with``
    block; if the block raises, or the process dies, what was there before stays. Only
    ciphertext reaches the disk.
    """

    def __init__(
        self,
        target: Path | str | Any,
        ring: Keyring,
        *,
        table: str,
        schema: pa.Schema,
        label: str = "",
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        """Prepare a stream.

        Args:
            target: a path, or a binary file that the caller opens, syncs and closes.
            ring: the keys; each page asks for the table's current one.
            table: the table or data set that the rows belong to.
            schema: the columns that every table written has.
            label: what tells this stream from others of the table.
            page_bytes: about how many bytes of rows a page holds.
        """
        super().__init__(ring, table, label)
        self._target = target
        self._closing = ExitStack()
        self._schema = schema
        self._page_bytes = page_bytes

    def __enter__(self) -> Self:
        if self._id:
            raise InputError("a PageWriter writes one stream; make another")
        self._id = secrets.token_bytes(_ID)
        with ExitStack() as stack:
            file = stack.enter_context(_written(self._target))
            _write(file, bytes([VERSION]) + self._id)
            self._closing, self._file = stack.pop_all(), file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._seal(self._schema.empty_table(), _LAST)
        except BaseException as own:
            self._closing.__exit__(type(own), own, own.__traceback__)
            raise
        finally:
            self._file = None
        self._closing.__exit__(kind, error, trace)

    def write(self, rows: Any) -> None:
        """Seal a table, a record batch or a frame of any library, in as many pages as it takes.

        Raises:
            InputError: other columns than the schema's, or a row too large for a page.
            StoreError: the file cannot be written.
        """
        arrow = pages.arrow_table(rows)
        if not arrow.schema.equals(self._schema):
            raise InputError("the rows have other columns or types than the stream; cast them")
        arrow = arrow.replace_schema_metadata(self._schema.metadata)
        for part in _split(arrow, self._page_bytes):
            self._seal(part, _MORE)

    def _seal(self, rows: pa.Table, mark: int) -> None:
        file = self._taken()
        key = self._ring.column(self._table, pages.EVERY_COLUMN)
        page = pages.seal_page(rows, key, self._where(mark))
        if len(page) > LARGEST_PAGE:
            raise InputError("a page of a stream holds less than 1 GiB; write smaller rows")
        _write(file, _FRAME.pack(mark, len(page)))
        _write(file, page)
        self._number += 1
        self._file = file


class PageReader(_Stream):
    """Open a stream of pages, one table at a time.

    Memory is that of a page or two::

        with PageReader("people.pages", ring, table="people") as reader:
            for rows in reader:
                ...

    Each table is authentic and in its order. That nothing is missing at the end is known
    when the loop has ended without an error: act on the whole only then, or use `read_all`.
    """

    def __init__(
        self, source: Path | str | Any, ring: Keyring, *, table: str, label: str = ""
    ) -> None:
        """Prepare to read a path, or a binary file that the caller opens and closes."""
        super().__init__(ring, table, label)
        self._source = source
        self._closing = ExitStack()
        self._ended: pa.Table | None = None  # the last page: no rows, but the schema

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            file = self._source
            if isinstance(file, (str, os.PathLike)):
                file = stack.enter_context(_opened(Path(file)))
            self._id, self._file = _stream_id(file), file
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._file = None
        self._closing.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.Table:
        """Return the rows of the next page.

        Raises:
            DecryptionFailed: a page was altered, moved, left out or added.
            KeyDestroyed: the key was destroyed.
        """
        if self._ended is None:
            file = self._taken()
            rows, last = self._page(file)
            self._number += 1
            self._file = file
            if not last:
                return rows
            self._ended = rows
        raise StopIteration

    def read_all(self) -> pa.Table:
        """Return all rows, once the last page has been seen.

        Raises:
            InputError: pages were read already.
        """
        import pyarrow as pa

        if self._number:
            raise InputError("pages were read already; open the stream again to read all")
        tables = list(self)
        return pa.concat_tables([*tables, self._ended])

    def _page(self, file: Any) -> tuple[pa.Table, bool]:
        """Read a page; the mark is believed because the page opens under no other."""
        mark, length = _FRAME.unpack(_exactly(file, _FRAME.size))
        if not pages.OVERHEAD <= length <= LARGEST_PAGE or mark not in {_MORE, _LAST}:
            raise DecryptionFailed("not a stream of sealed pages")
        page = _exactly(file, length)
        key = pages.key_of(page, self._ring, ("column", f"{self._table}.{pages.EVERY_COLUMN}"))
        rows = pages.open_page(page, key, self._where(mark))
        if mark == _LAST and file.read(1):
            raise DecryptionFailed("a stream of pages has more bytes behind its last page")
        return rows, mark == _LAST


def _split(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield the rows in halves of halves, until each has about this many bytes.

    A part whose halves are hardly smaller (they share a dictionary) is left whole.
    """
    half = len(rows) // 2
    parts = [rows.slice(0, half), rows.slice(half)]
    shared = min(part.nbytes for part in parts) > 0.75 * rows.nbytes
    if rows.nbytes > size and half and not shared:
        for part in parts:
            yield from _split(part, size)
    elif len(rows):
        yield rows


# -- files ---------------------------------------------------------------------------


@contextmanager
def _written(target: Any) -> Iterator[Any]:
    """Give the file to write: the caller's own, or one that takes a path's place at the end."""
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    failed = False
    try:  # what a link points to is replaced, not the link
        with atomic.replacing(Path(target).resolve()) as file:
            try:
                yield file
            except BaseException:
                failed = True
                raise
    except OSError as error:
        if failed:  # the caller's own error
            raise
        raise _unwritable(error) from error


def _write(file: Any, data: Any) -> None:
    view = memoryview(data).cast("B")
    try:
        while view:
            written = file.write(view)
            if written is None and isinstance(file, io.RawIOBase):
                raise InputError("the target does not block and is full; pass a stream that blocks")
            view = view[len(view) if written is None else written :]
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> StoreError:
    return StoreError(f"the pages cannot be written: {error.strerror}; what was there stays")


def _opened(path: Path) -> Any:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _stream_id(file: Any) -> bytes:
    head: bytes = _exactly(file, 1 + _ID).to_pybytes()
    if head[0] != VERSION:
        raise DecryptionFailed("not a stream of sealed pages")
    return head[1:]


def _exactly(file: Any, length: int) -> pa.Buffer:
    """Read so many bytes; memory that a false length asks for is never touched."""
    import pyarrow as pa

    buffer = pa.allocate_buffer(length)
    view, done = memoryview(buffer).cast("B"), 0
    while done < length:
        count = file.readinto(view[done:])
        if not count:
            raise DecryptionFailed("a stream of pages is cut off before its last page")
        done += count
    return buffer
