"""Deterministic encryption for joins: AES-SIV (RFC 5297), one key for each named space.

Tables that name the same space can be joined on their encrypted columns without opening
them. Layout: ``0x03 | key id (4 bytes, big endian) | synthetic IV (16) | ciphertext``,
21 bytes more than the encoded value.

What it leaks to whoever sees the columns: which rows are equal, within a table and between
all tables of the space; how often each value occurs; and each value's type size or length.
That is what deterministic encryption means (RFC 5297, section 1.3.2), and with a table of
frequencies common values can be named (Naveed, Kamara and Wright, CCS 2015). Tenant and
space are authenticated. Table, column and row are not, or equal values would differ: a cell
may be moved to another row or column of the space, and opens there.

Cells of two epochs of the key do not join: after a rotation every table of the space is
encrypted again.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import struct
import uuid
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from compliance import frames
from compliance.crypto import values
from compliance.crypto.arguments import require_names
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.subkeys import derive, joined
from compliance.errors import DecryptionFailed, InputError
from compliance.frames import Frame

VERSION = 3
OVERHEAD = 21
_HEADER = struct.Struct(">BI")
_LONGEST = 2**31 - 1 - 16  # the library's limit for one message
# Types of which equal values have one encoding. -0.0 equals 0.0, Decimal("1.0") equals
# Decimal("1.00"), and one instant has a time in every zone: none of them joins reliably.
_JOINED = (str, int, bytes, dt.date, uuid.UUID)
_NOT_JOINED = (bool, dt.datetime)


def encrypt(value: object, ring: Keyring, *, space: str) -> bytes:
    """Return the cell of a value: the same for the same value, tenant, space and epoch.

    Leaks equality, frequency and length (see the module).

    Args:
        value: text, a whole number, bytes, a date or a UUID. Texts are equal when their code
            points are, and 7 is not "7": normalise before.
        ring: the keys.
        space: the name that the tables to be joined share.

    Raises:
        InputError: an empty space, or another type, one whose equal values are written in
            several ways.
    """
    require_names(space=space)
    return _sealed(_encoded([value]), ring.named("join", space), ring, space)[0]


def decrypt(cell: bytes | str, ring: Keyring, *, space: str) -> Any:
    """Return the value of a cell, which may be bytes or base64 text.

    Raises:
        DecryptionFailed: no cell of this tenant and space, or altered bytes.
        KeyDestroyed: the key was destroyed.
    """
    require_names(space=space)
    return _opened([cell], ring, space)[0]


def encrypt_column(frame: Frame, name: str, ring: Keyring, *, space: str) -> Frame:
    """Return the frame with a column encrypted in place; missing stays missing.

    Each distinct value is encrypted once. Errors and what it leaks are those of `encrypt`,
    and which rows are empty.
    """
    require_names(space=space)
    column = frames.column(frame, name)
    there = _encoded([value for value in column if value is not None])
    distinct = list(dict.fromkeys(there))
    cells = _sealed(distinct, ring.named("join", space), ring, space)
    found = dict(zip(distinct, cells, strict=True))
    return _filled(frame, name, column, [found[data] for data in there])


def decrypt_column(frame: Frame, name: str, ring: Keyring, *, space: str) -> Frame:
    """Return the frame with a column opened in place; missing stays missing.

    Each distinct cell is opened once. Errors are those of `decrypt`.
    """
    require_names(space=space)
    column = frames.column(frame, name)
    there = [_raw(cell) for cell in column if cell is not None]
    distinct = list(dict.fromkeys(there))
    found = dict(zip(distinct, _opened(distinct, ring, space), strict=True))
    return _filled(frame, name, column, [found[cell] for cell in there])


def _filled(frame: Frame, name: str, column: Sequence[object], results: Sequence[Any]) -> Frame:
    """Return the frame with the results in the places of the values that were there."""
    rest = iter(results)
    return frames.with_column(frame, name, [None if v is None else next(rest) for v in column])


def _encoded(column: Sequence[Any]) -> list[bytes]:
    """Return the encodings, by which values are told apart from here on: True equals 1."""
    plain = _plain(column)
    for kind in set(map(type, plain)):
        if issubclass(kind, _NOT_JOINED) or not issubclass(kind, _JOINED):
            raise InputError(
                f"{kind.__name__} is not encrypted for joins: equal values have several forms, "
                "or there are too few of them; turn it into text, whole numbers, dates or bytes"
            )
    encoded = values.encode_all(plain)
    if any(len(data) > _LONGEST for data in encoded):
        raise InputError("one encrypted value holds less than 2 GiB")
    return encoded


def _plain(column: Sequence[Any]) -> Sequence[Any]:
    """Return NumPy's whole numbers and texts as Python's; its dates are refused later on."""
    if not any(kind.__module__ == "numpy" for kind in set(map(type, column))):
        return column
    import numpy as np

    return [v.item() if isinstance(v, (np.integer, np.str_, np.bytes_)) else v for v in column]


def _sealed(data: Sequence[bytes], key: Key, ring: Keyring, space: str) -> list[bytes]:
    header = _HEADER.pack(VERSION, key.id)
    cipher, bound = _cipher(key, ring, space), _bound(header, ring, space)
    return [header + cipher.encrypt(item, bound) for item in data]


def _opened(cells: Sequence[bytes | str], ring: Keyring, space: str) -> list[Any]:
    raw = [_raw(cell) for cell in cells]
    opened: dict[bytes, bytes] = {}
    for header in dict.fromkeys(cell[: _HEADER.size] for cell in raw):
        cipher, bound = _cipher(_key(header, ring, space), ring, space), _bound(header, ring, space)
        mine = [cell for cell in raw if cell.startswith(header)]
        opened.update({cell: _open(cipher, cell, bound) for cell in mine})
    return values.decode_all([opened[cell] for cell in raw])


def _open(cipher: AESSIV, cell: bytes, bound: list[bytes]) -> bytes:
    try:
        return cipher.decrypt(cell[_HEADER.size :], bound)
    except InvalidTag:
        raise DecryptionFailed(
            "a cell does not open: wrong key, wrong space or altered bytes"
        ) from None


def _key(header: bytes, ring: Keyring, space: str) -> Key:
    """Return the key that a cell names; one of another kind or space is never tried."""
    key = ring.by_id(_HEADER.unpack(header)[1])
    if (key.kind, key.name) != ("join", space):
        raise DecryptionFailed("a cell was encrypted for another space; name that one")
    return key


def _cipher(key: Key, ring: Keyring, space: str) -> AESSIV:
    return AESSIV(derive(key, "join AES-SIV", ring.tenant, space, length=64))


def _bound(header: bytes, ring: Keyring, space: str) -> list[bytes]:
    """Return the associated data, two parts that S2V keeps apart."""
    return [header, joined(ring.tenant, space)]


def _raw(cell: Any) -> bytes:
    raw = _bytes(cell)
    if len(raw) <= OVERHEAD or raw[0] != VERSION:
        raise DecryptionFailed("not a cell encrypted for joins; check the column")
    return raw


def _bytes(cell: Any) -> bytes:
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    try:
        return base64.b64decode(cell, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise DecryptionFailed("not a cell encrypted for joins; check the column") from None
