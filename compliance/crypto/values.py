"""Values as bytes and back: one type letter, then the value; no type drifts into another.

====== ================= ==========================================================
letter value             bytes after the letter
====== ================= ==========================================================
``n``  missing           none, or zeros that make it as long as its neighbours
``b``  bool              1
``i``  int of 64 bits    8, big endian, two's complement
``I``  any other int     as many as it takes, big endian, two's complement
``f``  float             8, IEEE 754 binary64, big endian: every NaN and -0.0 survive
``s``  text              UTF-8; a lone surrogate passes as three bytes
``y``  bytes             themselves
``d``  date              10, ISO 8601
``t``  datetime          fold, ISO 8601 with microseconds and the offset, if any
``z``  datetime in zone  fold, ISO 8601 with microseconds, the zone's name
``h``  time of day       fold, ISO 8601 with microseconds and the offset, if any
``c``  Decimal           its text: every digit and exponent survives
``u``  UUID              16
``p``  a padded value    any of the above, 0x80, zeros (ISO/IEC 7816-4, padding method 2)
====== ================= ==========================================================

The letter is inside the ciphertext. A cell is as long as its value: booleans, 64-bit
numbers, dates and UUIDs all have one length and show nothing by it, text does.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from itertools import repeat
from typing import Any

from compliance.errors import DecryptionFailed, InputError

_INT = struct.Struct(">cq")
_FLOAT = struct.Struct(">cd")
_FIXED = {b"i": _INT, b"f": _FLOAT}
_MARK = b"\x80"
_LONGEST_PAD = 2**20


def encode_all(values: Sequence[Any]) -> list[bytes]:
    """Return the bytes of values of which none is missing.

    Raises:
        InputError: a type that would not come back as it was; named, without the value.
    """
    kinds = set(map(type, values))
    bulk = _BULK.get(kinds.pop()) if len(kinds) == 1 else None
    return bulk(values) if bulk else [encode(value) for value in values]


def decode_all(data: Sequence[bytes]) -> list[Any]:
    """Return the values; a sealed missing value is None.

    Raises:
        DecryptionFailed: a type that this version does not know, or bytes that are none of it.
    """
    letters = {item[:1] for item in data}
    try:
        if len(letters) == 1:
            return _read_alike(letters.pop(), data)
        return [_READERS[item[:1]](item[1:]) for item in data]
    except (LookupError, ValueError, OverflowError, OSError, struct.error, InvalidOperation):
        raise DecryptionFailed(
            "a sealed cell holds a type that this version does not know; update this package, "
            "or for a time in a named zone install tzdata"
        ) from None


def _read_alike(letter: bytes, data: Sequence[bytes]) -> list[Any]:
    if letter in _FIXED and set(map(len, data)) == {9}:  # the letter and eight bytes
        return [value for _, value in _FIXED[letter].iter_unpack(b"".join(data))]
    read = _READERS[letter]
    return [read(item[1:]) for item in data]


def padded(data: Sequence[bytes], multiple: int) -> list[bytes]:
    """Return encoded values whose lengths are multiples of a number of bytes.

    Raises:
        InputError: the number is not from 1 to 2^20.
    """
    _check(multiple)
    zeros = bytes(multiple)
    return [
        b"p" + item + _MARK + zeros[: -(len(item) + 2) % multiple]  # letter and mark make two
        for item in data
    ]


def alike(data: Sequence[bytes | None], multiple: int | None) -> list[bytes]:
    """Return encoded values of one length, where None stands for a missing one.

    Values that already have one length keep it; others are padded to the longest, and with
    ``multiple`` all to the next multiple of it.
    """
    if multiple is not None:
        _check(multiple)
    lengths = {len(item) for item in data if item is not None} or {1}
    filled = [item or b"n".ljust(min(lengths), b"\0") for item in data]
    if len(lengths) == 1 and multiple is None:
        return filled
    longest = max(lengths) + 2
    return _to_length(filled, longest + -longest % (multiple or 1))


def _to_length(data: Sequence[bytes], length: int) -> list[bytes]:
    return [(b"p" + item + _MARK).ljust(length, b"\0") for item in data]


def _check(multiple: int) -> None:
    if type(multiple) is not int or not 1 <= multiple <= _LONGEST_PAD:
        raise InputError("pad is a number of bytes from 1 to 1048576, such as pad=64")


def encode(value: Any) -> bytes:
    """Return the bytes of one value; see `encode_all`."""
    value = _python(value)
    for kind, writer in _WRITERS:
        if isinstance(value, kind):
            return writer(value)
    raise InputError(
        f"cannot seal a {type(value).__name__}; use text, numbers, Decimal, UUID, dates, times "
        "or bytes"
    )


def _python(value: Any) -> Any:
    """Return a NumPy scalar as Python's; its dates would turn into plain numbers and stay."""
    if type(value).__module__ != "numpy" or not hasattr(value, "item"):
        return value
    return value if value.dtype.kind in "mM" else value.item()


# -- one type each ----------------------------------------------------------------------


def _int(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return _INT.pack(b"i", value)
    return b"I" + value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _ints(values: Sequence[int]) -> list[bytes]:
    try:
        return list(map(_INT.pack, repeat(b"i"), values))
    except struct.error:  # some have more than 64 bits
        return list(map(_int, values))


def _text(value: str) -> bytes:
    return b"s" + value.encode("utf-8", "surrogatepass")


def _datetime(value: dt.datetime) -> bytes:
    if getattr(value, "nanosecond", 0):
        raise InputError("cannot seal nanoseconds; round the column to microseconds")
    if value.year > dt.MAXYEAR:  # pandas reaches further than what could read it back
        raise InputError("cannot seal a time after the year 9999")
    zone = getattr(value.tzinfo, "key", None)
    if isinstance(value.tzinfo, zoneinfo.ZoneInfo) and zone:
        wall = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        return f"z{value.fold}{wall}{zone}".encode()
    _offset(value)
    return f"t{value.fold}{value.isoformat(timespec='microseconds')}".encode()


def _time(value: dt.time) -> bytes:
    _offset(value)
    return f"h{value.fold}{value.isoformat('microseconds')}".encode()


def _offset(value: dt.datetime | dt.time) -> None:
    """Refuse a zone that says nothing, or fractions of a second that Python reads back wrongly."""
    if value.tzinfo is None:
        return
    offset = value.utcoffset()
    if offset is None or offset.microseconds:
        raise InputError("cannot seal a time whose zone has no offset in seconds; use UTC")


_WRITERS: tuple[tuple[type, Callable[[Any], bytes]], ...] = (
    (bool, lambda v: b"b\x01" if v else b"b\x00"),
    (int, _int),
    (float, lambda v: _FLOAT.pack(b"f", v)),
    (str, _text),
    (bytes, lambda v: b"y" + v),
    (dt.datetime, _datetime),
    (dt.date, lambda v: b"d" + v.isoformat().encode()),
    (dt.time, _time),
    (Decimal, lambda v: b"c" + str(v).encode()),
    (uuid.UUID, lambda v: b"u" + v.bytes),
)
_BULK: dict[type, Callable[[Sequence[Any]], list[bytes]]] = {
    str: lambda values: [("s" + value).encode("utf-8", "surrogatepass") for value in values],
    int: _ints,
    float: lambda values: list(map(_FLOAT.pack, repeat(b"f"), values)),
    bytes: lambda values: [b"y" + value for value in values],
}


def _read_bool(data: bytes) -> bool:
    return {b"\x01": True, b"\x00": False}[data]


def _read_zoned(data: bytes) -> dt.datetime:
    fold, wall, zone = int(data[:1]), data[1:27].decode(), data[27:].decode()
    naive = dt.datetime.fromisoformat(wall)
    return naive.replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=fold)


def _read_padded(data: bytes) -> Any:
    inner = data.rstrip(b"\0")
    if inner[-1:] != _MARK or inner[:1] == b"p":
        raise ValueError
    return _READERS[inner[:1]](inner[1:-1])


_READERS: dict[bytes, Callable[[bytes], Any]] = {
    b"n": lambda _: None,
    b"b": _read_bool,
    b"i": lambda data: int.from_bytes(data, "big", signed=True),
    b"I": lambda data: int.from_bytes(data, "big", signed=True),
    b"f": lambda data: struct.unpack(">d", data)[0],
    b"s": lambda data: data.decode("utf-8", "surrogatepass"),
    b"y": bytes,
    b"d": lambda data: dt.date.fromisoformat(data.decode()),
    b"t": lambda data: dt.datetime.fromisoformat(data[1:].decode()).replace(fold=int(data[:1])),
    b"z": _read_zoned,
    b"h": lambda data: dt.time.fromisoformat(data[1:].decode()).replace(fold=int(data[:1])),
    b"c": lambda data: Decimal(data.decode()),
    b"u": lambda data: uuid.UUID(bytes=data),
    b"p": _read_padded,
}
