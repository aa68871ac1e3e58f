"""Messages of any length: C2SP chunked encryption (Cobblestone-256) under a key of the ring.

Layout: ``magic | key id (4 bytes, big endian) | salt (24) | commitment (32) | chunks``. Each
chunk holds 16 KiB and a tag of 16 bytes; the last one is shorter and ends the message, so a
message that was cut, extended or rearranged does not open (https://c2sp.org/chunked-encryption).
The input key is HKDF-Expand-SHA512(material, info), and the context is magic, key id and place.

Whoever knows a key of the ring can read a message with any implementation of that page.
"""

from __future__ import annotations

import hmac
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from compliance.crypto.keys import Key, Keyring
from compliance.errors import DecryptionFailed, InputError, OperationError, StoreError

CHUNK = 16_384
TAG = 16
PREFIX = 56  # salt and commitment
_SEALED = CHUNK + TAG
_RUN = 64  # chunks in a buffer: 1 MiB; page caches take large writes at less cost
_SALT = 24
_PROTOCOL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


class Source(Protocol):
    """A binary stream to read from."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most so many bytes, none at the end."""


class Target(Protocol):
    """A binary stream to write to; it must not keep the buffer that it is given."""

    def write(self, data: memoryview, /) -> int | None:
        """Write, and return how many bytes were taken."""


Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a kind of message is for: no two kinds share a key, a magic or an info string.

    Attributes:
        kind: the kind of key that seals it.
        magic: the first bytes, with the version of the format.
        info: of HKDF, from the key's material to the input key.
    """

    kind: str
    magic: bytes
    info: bytes


FILE = Purpose("file", b"compliance file 1\n", b"compliance file key v1")
MODEL = Purpose("model", b"compliance model 1\n", b"compliance model key v1")


@dataclass(frozen=True, slots=True)
class Binding:
    """Which key seals a message, and what the message is bound to.

    Attributes:
        purpose: the kind of message.
        name: of the key.
        place: length-prefixed parts, tenant first.
    """

    purpose: Purpose
    name: str
    place: bytes

    @property
    def header_bytes(self) -> int:
        """Return the length of what stands before the message."""
        return len(self.purpose.magic) + 4

    def header(self, key: Key) -> bytes:
        """Return what stands before the message."""
        return self.purpose.magic + key.id.to_bytes(4, "big")

    def input_key(self, key: Key) -> bytes:
        """Return the input key: 32 bytes that seal this kind of message and nothing else."""
        return HKDFExpand(SHA512(), 32, self.purpose.info).derive(key.material)

    def key_of(self, ring: Keyring, header: bytes) -> Key:
        """Return the key that a header names, where it may seal such a message.

        Raises:
            DecryptionFailed: not such a message, or it names a key that may not seal it.
            KeyDestroyed: the key was destroyed on purpose.
        """
        magic = self.purpose.magic
        if len(header) != self.header_bytes or not header.startswith(magic):
            raise DecryptionFailed(
                f"not a sealed {self.purpose.kind}, or of a later version; name one that was "
                "sealed, or open it with the release that sealed it"
            )
        key = ring.by_id(int.from_bytes(header[len(magic) :], "big"))
        if (key.kind, key.name) != (self.purpose.kind, self.name):
            raise self.refusal()
        return key

    def refusal(self) -> DecryptionFailed:
        """Return the one error for everything that does not open."""
        return DecryptionFailed(
            f"the sealed {self.purpose.kind} does not open: wrong key, label or place, altered "
            "bytes, or cut short; restore it from a copy, or name what it was sealed as"
        )


# -- whole messages ------------------------------------------------------------------------


def seal(
    source: Source, target: Target, ring: Keyring, binding: Binding, advance: Advance | None = None
) -> tuple[int, int]:
    """Write a message from one stream to another; return the plaintext's bytes and the key's id.

    Raises:
        OperationError: the source cannot be read.
        StoreError: the target cannot be written.
    """
    key = ring.named(binding.purpose.kind, binding.name)
    header = binding.header(key)
    encryptor = Cobblestone256Encryptor(binding.input_key(key), header + binding.place)
    _write(target, memoryview(header))
    plain, sealed = _buffer(_RUN * CHUNK), _buffer(PREFIX + (_RUN + 1) * _SEALED)
    done = 0
    while count := _fill(source, plain):
        _write(target, sealed[: encryptor.update_into(plain[:count], sealed)])
        done += count
        _tell(advance, done)
    _write(target, memoryview(encryptor.finalize()))
    return done, key.id


def open_sealed(
    source: Source, target: Target, ring: Keyring, binding: Binding, advance: Advance | None = None
) -> int:
    """Write the plaintext of a message to a stream, each chunk once it is authenticated.

    Whether the message is whole is known at its end: until this returns, what was written is a
    beginning and no more.

    Args:
        source: where the message is read from, to its end.
        target: where the plaintext goes.
        ring: the keys.
        binding: what the message must have been sealed as.
        advance: is told how many bytes of the message were read.

    Returns:
        The bytes of the plaintext.

    Raises:
        DecryptionFailed: not sealed as this, altered, or cut short.
        KeyDestroyed: the key was destroyed on purpose.
        OperationError: the source cannot be read.
        StoreError: the target cannot be written.
    """
    decryptor, sealed = _decryptor(source, ring, binding), _buffer(_RUN * _SEALED)
    plain = _buffer((_RUN + 1) * CHUNK)
    read = written = 0
    try:
        # Salt and commitment first: then each buffer holds whole chunks, which saves a copy.
        decryptor.update_into(sealed[: _fill(source, sealed[:PREFIX])], plain)
        while count := _fill(source, sealed):
            size = decryptor.update_into(sealed[:count], plain)
            _write(target, plain[:size])
            read, written = read + count, written + size
            _tell(advance, read)
        last = decryptor.finalize()
    except InvalidTag:
        raise binding.refusal() from None
    _write(target, memoryview(last))
    return written + len(last)


def _decryptor(source: Source, ring: Keyring, binding: Binding) -> Cobblestone256Decryptor:
    header = _buffer(binding.header_bytes)
    found = header[: _fill(source, header)].tobytes()
    key = binding.key_of(ring, found)
    return Cobblestone256Decryptor(binding.input_key(key), found + binding.place)


def _buffer(size: int) -> memoryview:
    return memoryview(bytearray(size))


def _tell(advance: Advance | None, done: int) -> None:
    if advance is not None:
        advance(done)


def _fill(source: Source, view: memoryview) -> int:
    """Read until the view is full or the source ends; return how many bytes."""
    done = 0
    while done < len(view):
        count = _read(source, view[done:])
        if not count:
            break
        done += count
    return done


def _read(source: Any, view: memoryview) -> int:
    """Read once, without a copy where the stream can."""
    readinto = getattr(source, "readinto", None)
    try:
        if readinto is not None:
            count = readinto(view)
        else:
            data = source.read(len(view))
            count = None if data is None else len(data)
            view[: count or 0] = data or b""
    except OSError as error:
        raise OperationError(
            f"the source cannot be read ({error.strerror or type(error).__name__}); nothing was "
            "changed, try again when it can"
        ) from error
    if count is None:
        raise InputError("the source does not block and has no data yet; pass a stream that blocks")
    return int(count)


def _write(target: Target, view: memoryview) -> None:
    """Write all of it: a raw stream may take a part."""
    while view:
        try:
            count = target.write(view)
        except OSError as error:
            gone = isinstance(error, BrokenPipeError)
            step = (
                "its reader went away, run it again" if gone else "make room or name another place"
            )
            raise StoreError(
                f"the target cannot be written ({error.strerror or type(error).__name__}); {step}"
            ) from error
        if count is None and isinstance(target, io.RawIOBase):
            raise InputError("the target does not block and is full; pass a stream that blocks")
        view = view[len(view) if count is None else count :]


# -- random access ---------------------------------------------------------------------------


class Chunks:
    """Random access to a message in a regular file.

    Key commitment and last chunk are checked on opening: from then on the length is authentic.
    It reads at offsets of its own, so that processes after a fork share no position.

    Attributes:
        length: of the plaintext, in bytes.
    """

    def __init__(self, descriptor: int, ring: Keyring, binding: Binding) -> None:
        """Open the message.

        Args:
            descriptor: of the file, which the caller owns.
            ring: the keys.
            binding: what the message must have been sealed as.

        Raises:
            DecryptionFailed: not sealed as this, altered, or cut short.
            KeyDestroyed: the key was destroyed on purpose.
        """
        self._descriptor, self._ring, self._binding = descriptor, ring, binding
        self._header = header = _pread(descriptor, binding.header_bytes, 0)
        key = binding.key_of(ring, header)
        self._start = len(header) + PREFIX
        prefix = _pread(descriptor, PREFIX, len(header))
        salt, commitment = prefix[:_SALT], prefix[_SALT:]
        info = _PROTOCOL + salt + header + binding.place
        derived = HKDFExpand(SHA512(), 76, info).derive(binding.input_key(key))
        if not hmac.compare_digest(derived[44:], commitment):
            raise binding.refusal()
        self._cipher, self._nonce = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")
        self.length = self._authentic_length(os.fstat(descriptor).st_size)

    def _authentic_length(self, size: int) -> int:
        last, rest = divmod(size - self._start, _SEALED)
        if rest < TAG:
            raise self._binding.refusal()
        return last * CHUNK + self.chunk(last, _buffer(CHUNK))

    def chunk(self, number: int, plain: memoryview) -> int:
        """Decrypt a chunk into a buffer of 16 KiB; return how many bytes it holds.

        Raises:
            DecryptionFailed: altered, or no longer there.
            KeyDestroyed: the key was destroyed since the message was opened.
        """
        self._binding.key_of(self._ring, self._header)  # the cipher outlives the key's cache
        sealed = _pread(self._descriptor, _SEALED, self._start + number * _SEALED)
        nonce = (self._nonce ^ number).to_bytes(12, "big")
        try:
            return self._cipher.decrypt_into(nonce, sealed, None, plain[: len(sealed) - TAG])
        except (InvalidTag, ValueError):  # a value error where a tag is missing
            raise self._binding.refusal() from None


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        raise OperationError(f"the sealed file cannot be read ({error.strerror})") from error
