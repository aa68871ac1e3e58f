"""Whether a Parquet file is encrypted, read from its footer without a Parquet library.

pyarrow (26) ends or hangs the whole process on a plaintext-footer file with encrypted
columns that is opened without keys: column metadata, data set filters, row group
statistics. So nothing of ours hands it a file that was not looked at here. Sources:
parquet-format ``Encryption.md`` and ``parquet.thrift``; Thrift compact protocol.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from compliance.errors import InputError

MAX_FOOTER = 64 * 2**20  # bytes; the time is linear in the footer's length
_MAX_DEPTH = 64  # what Thrift's own readers allow
_TAIL = 8  # footer length (4 bytes, little endian) and magic
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _MAP, _STRUCT = (9, 10), 11, 12
_ROW_GROUPS, _ALGORITHM = 4, 8  # fields of FileMetaData
_COLUMNS = 1  # field of RowGroup
_CRYPTO = 8  # field of ColumnChunk
_CRYPTO_ALGORITHM = 1  # field of FileCryptoMetaData
_ALGORITHMS = {1: "AES_GCM_V1", 2: "AES_GCM_CTR_V1"}  # fields of the union EncryptionAlgorithm
_ID_LIMIT, _SIZE_LIMIT = 2**15, 2**31


class Encryption(enum.Enum):
    """How much of a Parquet file is encrypted."""

    PLAIN = "plain"
    ENCRYPTED_FOOTER = "encrypted footer"
    ENCRYPTED_COLUMNS = "plaintext footer, encrypted columns"


def encryption(source: Path | str | BinaryIO) -> Encryption:
    """Return how a Parquet file is encrypted; nothing but its footer is read.

    Raises:
        InputError: not a Parquet file, a malformed or truncated footer, or one of more
            than 64 MiB.
    """
    return _looked_at(source)[0]


def algorithm(source: Path | str | BinaryIO) -> str:
    """Return ``AES_GCM_V1``, ``AES_GCM_CTR_V1``, or "" where the file names neither.

    Of an encrypted footer this is read from bytes that no key protects, and under CTR pages
    are not authenticated: who expects GCM looks here before a page is decrypted.

    Raises:
        InputError: as `encryption`.
    """
    return _ALGORITHMS.get(_looked_at(source)[1], "")


def _looked_at(source: Path | str | BinaryIO) -> tuple[Encryption, int]:
    try:
        if not isinstance(source, (str, Path)):
            return _of_footer(*_footer(source))
        with Path(source).open("rb") as file:
            return _of_footer(*_footer(file))
    except OSError as error:
        raise InputError(f"{_named(source)}: cannot be read ({type(error).__name__})") from None
    except _MalformedError as error:
        raise InputError(
            f"{_named(source)}: cannot be read as parquet: {error}; "
            "it may be truncated or no Parquet file, get it again from its source"
        ) from None


def _named(source: Path | str | BinaryIO) -> str:
    return str(source) if isinstance(source, (str, Path)) else "the file"


class _MalformedError(Exception):
    """The bytes are no Parquet footer; the text says why and quotes none of them."""


def _footer(file: BinaryIO) -> tuple[bytes, bool]:
    """Return the bytes of the footer, and whether they are encrypted."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL + 4:
        raise _MalformedError("it is too short")
    file.seek(size - _TAIL)
    tail = file.read(_TAIL)
    length, magic = int.from_bytes(tail[:4], "little"), tail[4:]
    if magic not in {b"PAR1", b"PARE"}:
        raise _MalformedError("it does not end in the format's magic bytes")
    if not 0 < length <= min(size - _TAIL - 4, MAX_FOOTER):
        raise _MalformedError("the length of its footer is wrong, or more than 64 MiB")
    file.seek(size - _TAIL - length)
    return file.read(length), magic == b"PARE"


def _of_footer(footer: bytes, sealed: bool) -> tuple[Encryption, int]:  # noqa: FBT001  as `_footer` returns it
    cursor = _Compact(footer)
    try:
        marked = cursor.crypto_metadata() if sealed else cursor.file()
    except IndexError:
        raise _MalformedError("its footer ends too early") from None
    if sealed:
        return Encryption.ENCRYPTED_FOOTER, cursor.algorithm
    return (Encryption.ENCRYPTED_COLUMNS if marked else Encryption.PLAIN), cursor.algorithm


class _Compact:
    """A cursor over a struct in Thrift's compact protocol.

    Stricter than Thrift's own readers where those are lenient (numbers that wrap around,
    element types that do not match): what passes here is read alike by every reader. No
    element takes less than a byte, so the work is bounded by the length.
    """

    __slots__ = ("_at", "_data", "algorithm")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.algorithm = 0

    def crypto_metadata(self) -> bool:
        """Read FileCryptoMetaData, which stands before an encrypted footer."""
        for field, kind in self._fields():
            if field == _CRYPTO_ALGORITHM:
                self._algorithm(kind)
            else:
                self._skip(kind, 1)
        return True

    def file(self) -> bool:
        """Return whether FileMetaData says that something is encrypted."""
        found = False
        for field, kind in self._fields():
            if field == _ROW_GROUPS and kind in _LISTS:
                found |= self._any(self._row_group)
            elif field == _ALGORITHM:
                found = True
                self._algorithm(kind)
            else:
                self._skip(kind, 1)
        return found

    def _algorithm(self, kind: int) -> None:
        """Note which member of the union is set; anything but one of them is malformed."""
        if kind != _STRUCT or self.algorithm:
            raise _MalformedError("the encryption algorithm of its footer is unclear")
        for field, inner in self._fields():
            if self.algorithm:
                raise _MalformedError("the encryption algorithm of its footer is unclear")
            self.algorithm = field
            self._skip(inner, 2)

    def _row_group(self) -> bool:
        found = False
        for field, kind in self._fields():
            if field == _COLUMNS and kind in _LISTS:
                found |= self._any(self._column_chunk)
            else:
                self._skip(kind, 2)
        return found

    def _column_chunk(self) -> bool:
        found = False
        for field, kind in self._fields():
            found |= field == _CRYPTO
            self._skip(kind, 3)
        return found

    def _any(self, read: Callable[[], bool]) -> bool:
        """Read a list of structs to its end; say whether one of them is marked."""
        count, kind = self._list()
        if count and kind != _STRUCT:
            raise _MalformedError("a list of its footer holds something else than structs")
        return sum(read() for _ in range(count)) > 0

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; the caller moves over its value."""
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            if delta:
                field += delta
            else:
                number = self._varint()
                field = (number >> 1) ^ -(number & 1)
            if not -_ID_LIMIT <= field < _ID_LIMIT:
                raise _MalformedError("a field of its footer has an impossible number")
            yield field, kind

    def _skip(self, kind: int, depth: int) -> None:
        """Move over a value of a field."""
        if kind in _INTEGERS:
            self._varint()
        elif kind == _BINARY:
            self._forward(self._size())
        elif kind in _BOOLEANS:
            return  # the type is the value
        elif kind == _BYTE:
            self._forward(1)
        elif kind == _DOUBLE:
            self._forward(8)
        else:
            self._skip_nested(kind, depth + 1)

    def _skip_nested(self, kind: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _MalformedError("its footer nests too deeply")
        if kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner, depth)
        elif kind in _LISTS:
            count, element = self._list()
            for _ in range(count):
                self._skip_element(element, depth)
        elif kind == _MAP:
            self._skip_map(depth)
        else:
            raise _MalformedError("a field of its footer has an unknown type")

    def _skip_map(self, depth: int) -> None:
        count = self._size()
        kinds = self._byte() if count else 0
        for _ in range(count):
            self._skip_element(kinds >> 4, depth)
            self._skip_element(kinds & 15, depth)

    def _skip_element(self, kind: int, depth: int) -> None:
        """Move over an element of a list or map, where a boolean takes a byte."""
        self._skip(_BYTE if kind in _BOOLEANS else kind, depth)

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        count = head >> 4
        return (self._size() if count == 15 else count), head & 15  # noqa: PLR2004  the format's mark that the size follows

    def _size(self) -> int:
        size = self._varint()
        if size >= _SIZE_LIMIT:
            raise _MalformedError("a length in its footer is impossible")
        return size

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:  # noqa: PLR2004  the high bit says that more follows
                return value
        raise _MalformedError("a number in its footer is too long")

    def _forward(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise IndexError

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte
