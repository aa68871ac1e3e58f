"""Sealed cells: AES-256-GCM with a key id in front and the place bound in.

Layout: ``0x01 | key id (4 bytes, big endian) | nonce (12) | ciphertext | tag (16)``,
33 bytes more than the plaintext. The associated data holds the first five bytes and
the length-prefixed parts of a `Place`, so that a cell moved to another column, table,
tenant or row does not open.

AES-GCM does not commit to its key: whoever knows two keys can make one ciphertext that
opens under both (Grubbs et al., CRYPTO 2017). Nothing here claims that it does. A cell
is opened under the one key that its id names, never under several in turn, and whoever
opens it compares that key's kind and name with the place first.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.errors import DecryptionFailed, InputError

VERSION = 1
OVERHEAD = 33
HEADER = 5  # bytes of version and key id
REFUSED = "a sealed value does not open: wrong key, wrong place or altered bytes"
_HEADER = struct.Struct(">BI")
_NONCE = 12
_MAX_PLAINTEXT = 2**31 - 1 - 16  # the library's limit for one message


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs: every part is authenticated.

    Attributes:
        tenant: the organisation.
        table: the table or data set.
        column: the column.
        version: the schema version.
        row: the row key, where one is known.
    """

    tenant: str
    table: str
    column: str
    version: str = "1"
    row: str | None = None

    def encode(self) -> bytes:
        """Return the parts, each with its length before it; no two places encode alike.

        The bytes say how many parts there are, so that four without a row are never five
        with one, whatever the names; a row's part may be appended to a place without one.
        """
        parts = [self.tenant, self.table, self.column, self.version]
        parts += [] if self.row is None else [self.row]
        return b"".join(map(part, parts))


def part(text: str) -> bytes:
    """Return one part of a place: its length (4 bytes) and UTF-8; lone surrogates pass."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "big") + data


def header(key_id: int) -> bytes:
    """Return the first bytes of every cell that a key sealed.

    Raises:
        InputError: the id does not fit into four bytes.
    """
    if not 0 <= key_id < 2**32:
        raise InputError("this database has used up its 2^32 key ids; start a new one")
    return _HEADER.pack(VERSION, key_id)


def seal(key: AESGCM, key_id: int, plaintext: bytes, place: bytes) -> bytes:
    """Return the sealed cell under a fresh random nonce.

    A key may seal 2^32 cells before random nonces are likely to meet (NIST SP 800-38D 8.3).

    Raises:
        InputError: more than 2 GiB.
    """
    if len(plaintext) > _MAX_PLAINTEXT:
        raise InputError("one sealed value holds less than 2 GiB")
    head = header(key_id)
    nonce = os.urandom(_NONCE)
    return head + nonce + key.encrypt(nonce, plaintext, head + place)


def key_id_of(cell: bytes) -> int:
    """Return the id of the key that sealed a cell.

    Raises:
        DecryptionFailed: too short, or another format version.
    """
    if len(cell) < OVERHEAD or cell[0] != VERSION:
        raise DecryptionFailed("not a sealed cell")
    return int.from_bytes(cell[1:5], "big")


def open_sealed(key: AESGCM, cell: bytes, place: bytes) -> bytes:
    """Return the plaintext.

    Raises:
        DecryptionFailed: another key, another place, or altered bytes; not told apart.
    """
    key_id_of(cell)
    nonce, body = cell[HEADER : HEADER + _NONCE], cell[HEADER + _NONCE :]
    try:
        return key.decrypt(nonce, body, cell[:HEADER] + place)
    except InvalidTag:
        raise DecryptionFailed(REFUSED) from None
