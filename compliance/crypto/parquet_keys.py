"""Our keyring as the key management service of Parquet Modular Encryption.

A data key is wrapped by AES-KWP (RFC 5649) and stands in the footer as
``base64(0x01 | key id (4 bytes, big endian) | wrapped key (40))``; its master key
identifier is the key id in decimal. The wrapping key is HKDF-Expand-SHA256 of the column
key with info ``"compliance parquet v1"`` and then tenant, table and column, each in UTF-8
after its length (4 bytes, big endian), so that a wrapped key opens for
its own column alone. The footer's column is named ``<footer>``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime as dt
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from compliance.crypto.keys import CACHE_SECONDS, Key, Keyring
from compliance.crypto.subkeys import derive
from compliance.errors import DecryptionFailed

FOOTER = "<footer>"  # the column under whose key the footer is, and columns without their own
CIPHER = "AES_GCM_V1"
_VERSION = b"\x01"
_HEADER = 5  # version and key id
_BITS = 256
_LIFETIME = dt.timedelta(seconds=CACHE_SECONDS)  # of a cache that dies with each call


class Session:
    """The keys that one read or write of one file uses; empty again when it is over."""

    def __init__(self, ring: Keyring, table: str) -> None:
        self._ring = ring
        self._table = table
        self._wrapping: dict[str, tuple[Key, str]] = {}
        self._opened: dict[tuple[str, str], bytes] = {}

    def __repr__(self) -> str:
        return f"Session(table={self._table!r})"

    def column(self, column: str) -> str:
        """Return the master key identifier of a column, under which data keys get wrapped."""
        if column == FOOTER:
            key = self._ring.named("column", f"{self._table}.{FOOTER}")
        else:
            key = self._ring.column(self._table, column)
        self._wrapping[str(key.id)] = key, column
        return str(key.id)

    def wrap(self, data_key: bytes, master: str) -> str:
        """Return a data key wrapped under one of the keys that `column` named."""
        key, column = self._wrapping[master]
        wrapped = aes_key_wrap_with_padding(self._wrapping_key(key, column), data_key)
        return base64.b64encode(_VERSION + key.id.to_bytes(4, "big") + wrapped).decode()

    def unwrap(self, text: str, master: str) -> bytes:
        """Return a data key; each is unwrapped once, though it is asked for at every page."""
        if (text, master) not in self._opened:
            self._opened[text, master] = self._unwrapped(text, master)
        return self._opened[text, master]

    def _unwrapped(self, text: str, master: str) -> bytes:
        key_id, wrapped = _parsed(text, master)
        key = self._ring.by_id(key_id)
        column = key.name.removeprefix(f"{self._table}.")
        first = not self._opened  # the footer's, which authenticates the names of all others
        if key.kind != "column" or column == key.name or (first and column != FOOTER):
            raise refusal()
        try:
            data_key = aes_key_unwrap_with_padding(self._wrapping_key(key, column), wrapped)
        except (InvalidUnwrap, ValueError):
            raise refusal() from None
        if len(data_key) * 8 != _BITS:
            raise refusal()
        return data_key

    def _wrapping_key(self, key: Key, column: str) -> bytes:
        return derive(key, "parquet", self._ring.tenant, self._table, column)


def _parsed(text: str, master: str) -> tuple[int, bytes]:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refusal() from None
    key_id = int.from_bytes(data[1:_HEADER], "big")
    if data[:1] != _VERSION or len(data) < _HEADER or str(key_id) != master:
        raise refusal()
    return key_id, data[_HEADER:]


def refusal() -> DecryptionFailed:
    """Return the one error for a wrong table, tenant or column and for altered bytes."""
    return DecryptionFailed(
        "the file is not one that we sealed for this table, or it was altered; "
        "check the table's name and get the file again from its source"
    )


@functools.cache
def _client_type() -> Any:
    from pyarrow.parquet.encryption import KmsClient

    class Client(KmsClient):  # type: ignore[misc]  # pyarrow has no types
        """Hands what pyarrow asks to the session of the call, and holds nothing itself."""

        session: Session | None = None

        def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
            return self._current().wrap(key_bytes, master_key_identifier)

        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            return self._current().unwrap(wrapped_key, master_key_identifier)

        def _current(self) -> Session:
            if self.session is None:
                raise DecryptionFailed(
                    "the file was closed, or the block of `unlocked` left; open it again"
                )
            return self.session

    return Client


# pyarrow never frees a client (its C++ half holds it, and it that): they are used again.
_IDLE: list[Any] = []


@contextlib.contextmanager
def client(session: Session) -> Iterator[Any]:
    """Give a key service for pyarrow that knows this session's keys until the block ends."""
    try:
        service = _IDLE.pop()
    except IndexError:
        service = _client_type()()
    service.session = session
    try:
        yield service
    finally:
        service.session = None
        _IDLE.append(service)


def _factory(service: Any) -> Any:
    """Return a factory for one call: its cache of clients ends with it."""
    from pyarrow.parquet.encryption import CryptoFactory

    return CryptoFactory(lambda _connection: service)


def _connection() -> Any:
    from pyarrow.parquet.encryption import KmsConnectionConfig

    return KmsConnectionConfig()


def encrypting(
    session: Session,
    service: Any,
    names: Sequence[str],
    own: Collection[str],
    *,
    plaintext_footer: bool,
) -> Any:
    """Return fresh properties for one file: no two files share a data key.

    Args:
        session: the keys of this write.
        service: what `client` gave for the session.
        names: every column of the file; none is left in plaintext.
        own: those with a key of their own, the others are under the table's.
        plaintext_footer: leave the footer readable, and signed.
    """
    from pyarrow.parquet.encryption import EncryptionConfiguration

    footer = session.column(FOOTER)
    keys: dict[str, list[str]] = {}
    for name in names:
        keys.setdefault(session.column(name) if name in own else footer, []).append(name)
    configuration = EncryptionConfiguration(
        footer_key=footer,
        column_keys=keys,
        encryption_algorithm=CIPHER,
        plaintext_footer=plaintext_footer,
        double_wrapping=False,
        cache_lifetime=_LIFETIME,
        internal_key_material=True,
        data_key_length_bits=_BITS,
    )
    return _factory(service).file_encryption_properties(_connection(), configuration)


def decrypting(service: Any) -> Any:
    """Return fresh properties that ask what `client` gave for every data key."""
    from pyarrow.parquet.encryption import DecryptionConfiguration

    configuration = DecryptionConfiguration(cache_lifetime=_LIFETIME)
    return _factory(service).file_decryption_properties(_connection(), configuration)
