"""Sealed pages: a whole Arrow column or table under one AEAD that commits to its key.

Layout: ``0x02 | key id (4 bytes, big endian) | salt (24) | commitment (32) | ciphertext |
tag (16)``, 77 bytes more than the plaintext, which is one Arrow IPC stream. Each page has
a key of its own, derived as in C2SP chunked-encryption::

    prk                         = HKDF-Expand-SHA512(column key, "compliance page key v1")
    key || nonce || commitment  = HKDF-Expand-SHA512(prk, "compliance page v1" 0x00 salt context)

The context is the length-prefixed place of the page: tenant, table, column, version, what
kind of page, label and, in a stream, its number. Random salts of 192 bits meet after 2^80
pages with a chance of 2^-32, so no count of pages is kept. AES-GCM alone does not commit
to its key (Albertini et al., USENIX Security 2022, eprint 2020/1456); the commitment is
compared before anything is decrypted (UtC of Bellare and Hoang, EUROCRYPT 2022, eprint
2022/268), and commits to the place as well.

Cells that were sealed under the keys of their subjects before they went into a page stay
sealed in it: an opened page holds sealed cells, and those of an erased subject stay shut.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from compliance import frames
from compliance.crypto.aead import Place
from compliance.crypto.arguments import require_list, require_names
from compliance.crypto.keys import Key, Keyring
from compliance.errors import DecryptionFailed, InputError

if TYPE_CHECKING:
    import pyarrow as pa

Bytes = Any  # bytes, bytearray, memoryview, mmap or an Arrow buffer

VERSION = 2
OVERHEAD = 77
EVERY_COLUMN = "*"  # a page of whole rows belongs to this column of its table
_HEADER = struct.Struct(">BI24s32s")
_TAG = 16
_LARGEST = 2**36 - 32  # GCM's limit for one message (NIST SP 800-38D 5.2.1.1), in bytes
_STEP = 2**26  # one call of the library takes less than 2 GiB


# -- columns -------------------------------------------------------------------------


def seal_column(
    values: Any, ring: Keyring, *, table: str, column: str, label: str = ""
) -> pa.Buffer:
    """Return a column as one sealed page, under the column's own key.

    Args:
        values: an Arrow array, chunked or not, a series of any library, or a sequence.
        ring: the keys.
        table: the table or data set that the column belongs to.
        column: the column.
        label: what tells this page from others of the column: a part, a day, a version.
            Pages of one column and label can be exchanged for one another unnoticed.

    Raises:
        InputError: an empty name, or values that are of no Arrow type or break the rules of
            theirs.
    """
    import pyarrow as pa

    require_names(table=table, column=column)
    whole = pa.table([_chunked(values)], names=[column])
    key = ring.column(table, column)
    return seal_page(whole, key, context(ring, table, column, b"column", _text(label)))


def open_column(
    page: Bytes, ring: Keyring, *, table: str, column: str, label: str = ""
) -> pa.ChunkedArray:
    """Return the column that `seal_column` sealed at this very place.

    Raises:
        DecryptionFailed: another key, another place or label, or altered bytes.
        KeyDestroyed: the key was destroyed.
    """
    require_names(table=table, column=column)
    key = key_of(page, ring, ("column", f"{table}.{column}"))
    where = context(ring, table, column, b"column", _text(label))
    return open_page(page, key, where).column(0)


def seal_columns(
    frame: Any, names: Sequence[str], ring: Keyring, *, table: str, label: str = ""
) -> dict[str, pa.Buffer]:
    """Return a sealed page for each of these columns of a frame of any library.

    Raises:
        InputError: no such column, one text for the list of names, or a column that mixes types.
    """
    require_list(names=names)
    require_names(table=table)
    whole = frames.to_arrow(frames.wrap(frame), names)
    return {
        name: seal_column(whole.column(name), ring, table=table, column=name, label=label)
        for name in names
    }


def open_columns(
    pages: Mapping[str, Bytes],
    ring: Keyring,
    *,
    table: str,
    label: str = "",
    backend: str = "pyarrow",
) -> Any:
    """Return the columns that `seal_columns` sealed as a frame of a library.

    Raises:
        DecryptionFailed: a page is not of this table, column and label, or the pages
            hold different numbers of rows.
        KeyDestroyed: a key was destroyed.
        MissingExtra: the library is not installed.
    """
    import pyarrow as pa

    columns = {
        name: open_column(page, ring, table=table, column=name, label=label)
        for name, page in pages.items()
    }
    if len({len(column) for column in columns.values()}) > 1:
        raise DecryptionFailed(
            "the pages hold different numbers of rows: they are not of one frame; "
            "give each frame a label of its own"
        )
    return frames.from_arrow(pa.table(columns), backend)


# -- whole rows ----------------------------------------------------------------------


def seal_batch(rows: Any, ring: Keyring, *, table: str, label: str = "") -> pa.Buffer:
    """Return a table as one sealed page, under a key of the table's own.

    Args:
        rows: an Arrow table or record batch, or a frame of any library.
        ring: the keys.
        table: the table or data set that the rows belong to.
        label: what tells this page from others of the table: a part, a day, a version.
            Pages of one table and label can be exchanged for one another unnoticed.

    Raises:
        InputError: no table, a column that mixes types, or values that break their type.
    """
    require_names(table=table)
    key = ring.column(table, EVERY_COLUMN)
    where = context(ring, table, EVERY_COLUMN, b"batch", _text(label))
    return seal_page(arrow_table(rows), key, where)


def open_batch(page: Bytes, ring: Keyring, *, table: str, label: str = "") -> pa.Table:
    """Return the rows that `seal_batch` sealed at this very place, as an Arrow table.

    Raises:
        DecryptionFailed: another key, another place or label, or altered bytes.
        KeyDestroyed: the key was destroyed.
    """
    require_names(table=table)
    key = key_of(page, ring, ("column", f"{table}.{EVERY_COLUMN}"))
    return open_page(page, key, context(ring, table, EVERY_COLUMN, b"batch", _text(label)))


def arrow_table(rows: Any) -> pa.Table:
    """Return rows of any library as an Arrow table."""
    import pyarrow as pa

    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    return rows if isinstance(rows, pa.Table) else frames.to_arrow(frames.wrap(rows))


def _chunked(values: Any) -> pa.ChunkedArray:
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, (str, bytes)):
        raise InputError("one text is no column; give a list, an array or a series")
    try:
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        array = pa.array(values)
    except (
        pa.ArrowException,
        TypeError,
        ValueError,
        OverflowError,
    ):  # their texts may quote a cell
        raise InputError(
            "the column mixes types, or holds values that Arrow has none for; give it one type"
        ) from None
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


# -- one page ------------------------------------------------------------------------


def context(ring: Keyring, table: str, column: str, *parts: bytes) -> bytes:
    """Return where a page belongs; for one number of parts, no two places encode alike."""
    place = Place(ring.tenant, table, column).encode()
    return place + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def seal_page(rows: pa.Table, key: Key, where: bytes) -> pa.Buffer:
    """Return a table as a page: Arrow's buffers are encrypted from where they lie.

    Raises:
        InputError: values that break the rules of their type, or more than 64 GiB.
    """
    import pyarrow as pa

    parts = _serialised(rows)
    length = sum(map(len, parts))
    if length > _LARGEST:
        raise InputError("one page holds less than 64 GiB; write the rows as a stream of pages")
    salt = os.urandom(24)
    subkey, nonce, commitment = _derive(key, salt, where)
    header = _HEADER.pack(VERSION, key.id, salt, commitment)
    page = pa.allocate_buffer(len(header) + length + _TAG)
    view = memoryview(page).cast("B")
    view[: len(header)] = header
    cipher = Cipher(algorithms.AES256(subkey), modes.GCM(nonce)).encryptor()
    cipher.authenticate_additional_data(header + where)
    _run(cipher, parts, view[len(header) :])
    cipher.finalize()
    view[-_TAG:] = cipher.tag
    return page


def open_page(page: Bytes, key: Key, where: bytes) -> pa.Table:
    """Return the table of a page, whose memory it shares with the decrypted bytes.

    Raises:
        DecryptionFailed: another key, another place, or altered bytes; not told apart.
    """
    import pyarrow as pa

    view = _view(page)
    header = bytes(view[: _HEADER.size])
    _, _, salt, commitment = _HEADER.unpack(header)
    subkey, nonce, expected = _derive(key, salt, where)
    if not hmac.compare_digest(commitment, expected):
        raise _refusal()
    body = view[_HEADER.size : -_TAG]
    # Not one byte of this buffer leaves the function before the tag has been verified.
    plaintext = pa.allocate_buffer(len(body))
    cipher = Cipher(algorithms.AES256(subkey), modes.GCM(nonce)).decryptor()
    cipher.authenticate_additional_data(header + where)
    _run(cipher, [body], memoryview(plaintext).cast("B") if body else memoryview(b""))
    try:
        cipher.finalize_with_tag(bytes(view[-_TAG:]))
    except InvalidTag:
        raise _refusal() from None
    return _parsed(plaintext)


def key_id_of(page: Bytes) -> int:
    """Return the id of the key that sealed a page.

    Raises:
        DecryptionFailed: too short, or another format version.
    """
    return int.from_bytes(_view(page)[1:5], "big")


def key_of(page: Bytes, ring: Keyring, purpose: tuple[str, str]) -> Key:
    """Return the key that a page names, of this kind and name; any other is refused unused.

    Raises:
        DecryptionFailed: no page, or under a key that has another purpose.
        KeyDestroyed: the key was destroyed.
    """
    key = ring.by_id(key_id_of(page))
    if (key.kind, key.name) != purpose:
        raise _refusal()
    return key


def _refusal() -> DecryptionFailed:
    return DecryptionFailed("a page does not open: wrong key, wrong place or altered bytes")


def _view(page: Bytes) -> memoryview:
    import pyarrow as pa

    try:
        view = memoryview(pa.py_buffer(page))
    except (TypeError, BufferError, pa.ArrowException):
        raise InputError("a page is bytes: give it as it was written") from None
    if len(view) < OVERHEAD or view[:1].tobytes() != bytes([VERSION]):
        raise DecryptionFailed("not a sealed page")
    return view.cast("B")


def _derive(key: Key, salt: bytes, where: bytes) -> tuple[bytes, bytes, bytes]:
    """Return key (32), nonce (12) and commitment (32) of one page."""
    prk = HKDFExpand(SHA512(), 32, b"compliance page key v1").derive(key.material)
    info = b"compliance page v1\x00" + salt + where
    derived = HKDFExpand(SHA512(), 76, info).derive(prk)
    return derived[:32], derived[32:44], derived[44:]


def _run(cipher: Any, parts: Iterable[Bytes], output: memoryview) -> None:
    """Pass the parts through the cipher, one after the other, into the output."""
    done = 0
    for part in filter(len, parts):
        view = memoryview(part).cast("B")
        for start in range(0, len(view), _STEP):
            done += cipher.update_into(view[start : start + _STEP], output[done:])


def _text(label: str) -> bytes:
    return label.encode("utf-8", "surrogatepass")


# -- Arrow ---------------------------------------------------------------------------


def _serialised(rows: pa.Table) -> list[Bytes]:
    """Return the pieces of the Arrow stream of a table; the large ones are its own buffers.

    What breaks the rules of its type (text that is no UTF-8, offsets that run backwards)
    is refused here, because it would be refused when the page is opened.
    """
    import pyarrow as pa

    parts = _Parts()
    try:
        rows.validate(full=True)
        with pa.ipc.new_stream(parts, rows.schema, options=pa.ipc.IpcWriteOptions()) as stream:
            stream.write_table(rows)
    except (pa.ArrowException, ValueError):  # their texts may quote a cell
        raise InputError(
            "a column holds values that its Arrow type does not allow; cast or clean it first"
        ) from None
    return parts.pieces


class _Parts:
    """A file that keeps what is written as it comes: Arrow hands its buffers over uncopied."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[Bytes] = []

    def write(self, data: Any) -> int:
        self.pieces.append(data)
        return len(data)

    def flush(self) -> None:
        """Have nothing to flush: every piece is kept at once."""

    def close(self) -> None:
        self.closed = True


def _parsed(plaintext: pa.Buffer) -> pa.Table:
    """Read an authentic Arrow stream without copying it, and check it before it is used.

    Whoever held the key may have written sizes and offsets that lie; full validation
    holds every one of them to the bytes that are there.
    """
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(plaintext) as stream:
            rows = stream.read_all()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError):
        raise DecryptionFailed(
            "a page is authentic but holds no Arrow data that can be read; "
            "open it with the version that wrote it"
        ) from None
    return rows
