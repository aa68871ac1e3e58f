"""Sealed columns of frames: each cell bound to tenant, table, column and, where known, row."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance import frames
from compliance.crypto import aead
from compliance.crypto.keys import Keyring, identity_text
from compliance.errors import DecryptionFailed, InputError
from compliance.frames import Frame


def encrypt(
    frame: Frame,
    names: Sequence[str],
    ring: Keyring,
    *,
    table: str,
    rows: Sequence[object] | None = None,
) -> Frame:
    """Return the frame with these columns sealed; a missing value stays missing.

    Args:
        frame: the rows.
        names: the columns to seal: text, numbers, booleans, dates or bytes.
        ring: the keys; each column has its own.
        table: the table or data set that the cells belong to.
        rows: a key for each row that is bound in, so that cells cannot change rows.
    """
    keys = _keys(frame, rows)
    for name in names:
        key = ring.column(table, name)
        cipher = AESGCM(key.material)
        cells = [
            None
            if value is None
            else aead.seal(cipher, key.id, _encode(value), _place(ring, table, name, row))
            for value, row in zip(frames.column(frame, name), keys, strict=True)
        ]
        frame = frames.with_column(frame, name, cells)
    return frame


def decrypt(
    frame: Frame,
    names: Sequence[str],
    ring: Keyring,
    *,
    table: str,
    rows: Sequence[object] | None = None,
) -> Frame:
    """Return the frame with these columns opened; cells may be bytes or base64 text.

    Raises:
        DecryptionFailed: a cell is no sealed cell of this table, column and row.
        KeyDestroyed: the key was destroyed.
    """
    keys = _keys(frame, rows)
    for name in names:
        cells = [
            None
            if value is None
            else _decode(ring.open_sealed(_raw(value), _the_place(ring, table, name, row)))
            for value, row in zip(frames.column(frame, name), keys, strict=True)
        ]
        frame = frames.with_column(frame, name, cells)
    return frame


def _keys(frame: Frame, rows: Sequence[object] | None) -> list[str | None]:
    if rows is None:
        return [None] * len(frame)
    if len(rows) != len(frame):
        raise InputError(f"{len(rows)} row keys for {len(frame)} rows")
    return [None if row is None else identity_text(row) for row in rows]


def _the_place(ring: Keyring, table: str, column: str, row: str | None) -> aead.Place:
    return aead.Place(ring.tenant, table, column, row=row)


def _place(ring: Keyring, table: str, column: str, row: str | None) -> bytes:
    return _the_place(ring, table, column, row).encode()


def _raw(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise DecryptionFailed("a cell of an encrypted column is not sealed") from None


def _encode(value: Any) -> bytes:
    """Return one type letter and the value's text; numbers come back as the numbers they were."""
    value = _python(value)
    for kind, letter, text in _TYPES:
        if isinstance(value, kind):
            return letter + bytes(text(value))
    raise InputError(f"cannot seal a {type(value).__name__}; use text, numbers, dates or bytes")


def _python(value: Any) -> Any:
    """Return a NumPy scalar as Python's; its dates would turn into plain numbers and stay."""
    if type(value).__module__ != "numpy" or not hasattr(value, "item"):
        return value
    return (
        value
        if getattr(value, "dtype", None) is not None and value.dtype.kind in "mM"
        else value.item()
    )


def _text(value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


def _iso(value: Any) -> bytes:
    if getattr(value, "nanosecond", 0):
        raise InputError("cannot seal nanoseconds; round the column to microseconds")
    return str(value.isoformat()).encode()


_TYPES: tuple[tuple[type, bytes, Any], ...] = (
    (bool, b"b", _text),
    (int, b"i", _text),
    (float, b"f", lambda v: repr(v).encode()),
    (str, b"s", _text),
    (bytes, b"y", bytes),
    (dt.datetime, b"t", _iso),
    (dt.date, b"d", _iso),
)
_READERS: dict[bytes, Any] = {
    b"b": lambda d: d == b"True",
    b"i": int,
    b"f": float,
    b"s": lambda d: d.decode("utf-8", "surrogatepass"),
    b"y": bytes,
    b"t": lambda d: dt.datetime.fromisoformat(d.decode()),
    b"d": lambda d: dt.date.fromisoformat(d.decode()),
}


def _decode(data: bytes) -> Any:
    reader = _READERS.get(data[:1])
    if reader is None:
        raise DecryptionFailed("a sealed cell holds a type that this version does not know")
    return reader(data[1:])
