"""Messages between client and server of encrypted scoring, as framed bytes.

Layout: magic ``CTHE``, version (1 byte), kind (1 byte), number of parts (4 bytes), the length
of each part (4 bytes each), the parts; numbers are big endian. The first part of a query and
of an answer holds its facts, the others are ciphertexts.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from compliance.errors import InputError

MAX_BYTES = 2**31
CONTEXT, QUERY, ANSWER = 1, 2, 3
QUERY_FACTS = struct.Struct(">16s32sII")  # query id, context fingerprint, rows, features
ANSWER_FACTS = struct.Struct(">16sI?")  # query id, rows, logistic

_MAGIC = b"CTHE"
_VERSION = 1
_HEADER = struct.Struct(">4sBBI")
_LENGTH = struct.Struct(">I")


def pack(kind: int, parts: Sequence[bytes]) -> bytes:
    """Return header, lengths of the parts, and the parts.

    Raises:
        InputError: more than `MAX_BYTES`.
    """
    size = _HEADER.size + sum(_LENGTH.size + len(part) for part in parts)
    if size > MAX_BYTES:
        raise InputError(f"the message would have {size} bytes, over {MAX_BYTES}; send fewer rows")
    lengths = b"".join(_LENGTH.pack(len(part)) for part in parts)
    return b"".join((_HEADER.pack(_MAGIC, _VERSION, kind, len(parts)), lengths, *parts))


def unpack(message: bytes, kind: int, parts: int | None = None) -> list[bytes]:
    """Return the parts; every size is compared with the message's before anything is read.

    Raises:
        InputError: not bytes of this format, version and kind, or truncated, or too long.
    """
    if not isinstance(message, bytes) or not _HEADER.size <= len(message) <= MAX_BYTES:
        raise InputError("not a message of encrypted scoring, or truncated")
    magic, version, found, count = _HEADER.unpack_from(message)
    if (magic, version, found) != (_MAGIC, _VERSION, kind):
        raise InputError("not a message of encrypted scoring, or of another version or kind")
    start = _HEADER.size + _LENGTH.size * count
    if not 1 <= count == (parts or count) or start > len(message):
        raise InputError("the message is truncated, or has another number of parts than it should")
    lengths = [size for (size,) in _LENGTH.iter_unpack(message[_HEADER.size : start])]
    if start + sum(lengths) != len(message):
        raise InputError("the message is truncated or too long")
    return list(_cut(message, start, lengths))


def _cut(message: bytes, start: int, lengths: list[int]) -> Iterator[bytes]:
    for length in lengths:
        yield message[start : start + length]
        start += length


def unpack_facts(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """Return the fields of a message's first part.

    Raises:
        InputError: it has another length.
    """
    if len(data) != layout.size:
        raise InputError("the message's first part has a wrong length")
    return layout.unpack(data)


def fingerprint(message: bytes) -> bytes:
    """Return the 32 bytes by which a context's message is known."""
    return hashlib.sha256(message).digest()
