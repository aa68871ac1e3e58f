"""The master key in a local file, and what every master that we keep ourselves has in common.

Domain keys are wrapped with AES-KWP (RFC 5649, NIST SP 800-38F). AES-KWP takes no context:
which tenant a domain key belongs to is proved by the keys that it opens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from compliance.crypto import master
from compliance.crypto.providers.base import Provider, another
from compliance.errors import DecryptionFailed, StoreError


class Stored(Provider, ABC):
    """A master whose key document we read and write: the current key and earlier ones.

    The document is read again at each use, so that another process's rotation, and the
    destruction of the document, reach this one. It is parsed again only when it changed.
    """

    _opens_first_version = False

    def __init__(self, prefix: str, where: str, passphrase: master.Passphrase | None) -> None:
        super().__init__(prefix)
        self._prefix, self._where = prefix, where
        self._passphrase = passphrase
        self._held: tuple[bytes, master.Masters] | None = None
        self._masters()

    @property
    def name(self) -> str:
        """Return the name of the current key."""
        return self._named(self._masters().fingerprints[-1])

    @property
    def kept(self) -> tuple[str, ...]:
        """Return the names of all keys that unwrap here, oldest first; the last one wraps."""
        return tuple(map(self._named, self._masters().fingerprints))

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return a key wrapped under the current master (AES-KWP)."""
        del context  # AES-KWP takes none
        return aes_key_wrap_with_padding(self._masters().current, key)

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], wrapper: str | None) -> bytes:
        """Return a key; the master is picked by name, never by trial."""
        del context
        try:
            return aes_key_unwrap_with_padding(self._pick(wrapper), wrapped)
        except InvalidUnwrap:
            raise DecryptionFailed(
                "the master key is not the one this database was made with; restore the right file"
            ) from None

    def rotate(self) -> None:
        """Add a fresh current key; earlier ones stay until `forget_earlier`.

        Raises:
            StoreError: another process rotates, or rotated since this one looked.
        """
        with self._alone() as (masters, text):
            keys = (*masters.keys, master.fresh(masters.fingerprints))
            self._rewrite(master.Masters(keys, masters.first), text)

    def forget_earlier(self, needed: Collection[str | None] = ()) -> None:
        """Drop the earlier keys that no row names any more.

        Args:
            needed: the wrappers that rows still name, None included; their keys stay.

        Raises:
            StoreError: another process rotates, or rotated since this one looked.
        """
        with self._alone() as (masters, text):
            names = {self._named(masters.first) if name is None else name for name in needed}
            *earlier, current = masters.keys
            kept = [key for key in earlier if self._named(master.fingerprint(key)) in names]
            if kept != earlier:
                self._rewrite(master.Masters((*kept, current), masters.first), text)

    @abstractmethod
    def _read(self) -> bytes:
        """Return the document as it is now."""

    @abstractmethod
    def _write(self, document: bytes) -> None:
        """Replace the document whole; the lock is held."""

    @abstractmethod
    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other writers out, or raise at once."""

    def _named(self, fingerprint: str) -> str:
        return f"{self._prefix}{fingerprint}"

    def _masters(self) -> master.Masters:
        return self._parse(self._read())

    def _parse(self, text: bytes) -> master.Masters:
        digest = hashlib.sha256(text).digest()
        if self._held is None or self._held[0] != digest:
            self._held = (digest, master.decode(text, self._where, self._passphrase))
        return self._held[1]

    def _pick(self, wrapper: str | None) -> bytes:
        masters = self._masters()
        if wrapper is None and self._opens_first_version:
            wrapper = self._named(masters.first)
        known = wrapper is not None and wrapper.startswith(self._prefix)
        key = masters.find(wrapper.removeprefix(self._prefix)) if wrapper and known else None
        if key is None:
            raise another(wrapper, self._named(masters.fingerprints[-1]))
        return key

    @contextlib.contextmanager
    def _alone(self) -> Iterator[tuple[master.Masters, bytes]]:
        """Hold the lock over a document that is still the one this object last saw."""
        seen = self._held
        with self._lock():
            text = self._read()
            if seen is None or hashlib.sha256(text).digest() != seen[0]:
                raise StoreError(f"{self._where}: another process changed it; look, and run again")
            yield self._parse(text), text

    def _rewrite(self, masters: master.Masters, before: bytes) -> None:
        ask = self._passphrase if master.protected(before) else None
        self._write(master.encode(masters, ask and ask()))
        self._masters()


class LocalFile(Stored):
    """The master key in a file of mode 0600."""

    _opens_first_version = True

    def __init__(self, path: Path, passphrase: master.Passphrase | None = None) -> None:
        self._path = path
        super().__init__("file:", str(path), passphrase)

    def _read(self) -> bytes:
        return master.read(self._path)

    def _write(self, document: bytes) -> None:
        master.replace(self._path.resolve(), document)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        real = self._path.resolve()
        return locked(real.with_name(f".{real.name}.lock"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its process ends, however it ends.

    The file stays: to remove it would let a third process lock another file of the same name.

    Raises:
        StoreError: another process holds it, or the folder cannot be written.
    """
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StoreError(
            f"{path}: another process is changing the master key; run again when it is done"
        ) from None
    try:
        yield
    finally:
        os.close(handle)
