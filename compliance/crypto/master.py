"""The master key document: a file that only its owner may read, optionally under a passphrase.

Version 1 holds one key. Version 2 holds the current key and earlier ones, so that a rotation
may be killed between any two of its steps; each key has a public fingerprint, and the
passphrase seals all keys at once, bound to everything else that the document says.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from compliance.crypto import atomic
from compliance.errors import ConfigurationError, DecryptionFailed, StoreError

BYTES = 32
_SCRYPT = {"n": 2**17, "r": 8, "p": 1}  # OWASP Password Storage Cheat Sheet: N=2^17, r=8, p=1
_MOST_N, _MOST_R, _MOST_P = 2**20, 8, 2  # 1 GiB of memory and some seconds at the most
_AAD = b"compliance master key v1"
_AAD_2 = b"compliance master key v2\0"
_ID = b"compliance master key id v1"
Passphrase = Callable[[], str]


@dataclass(frozen=True, slots=True, repr=False)
class Masters:
    """The keys of one document; its repr shows fingerprints alone.

    Attributes:
        keys: 32 bytes each, oldest first; the last one wraps, the others only unwrap.
        first: fingerprint of the key that wrapped before rows named their master.
    """

    keys: tuple[bytes, ...]
    first: str

    @property
    def current(self) -> bytes:
        """Return the key that wraps."""
        return self.keys[-1]

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Return the public fingerprint of each key, oldest first."""
        return tuple(map(fingerprint, self.keys))

    def find(self, wanted: str) -> bytes | None:
        """Return the key with a fingerprint; None where the document does not hold it."""
        return dict(zip(self.fingerprints, self.keys, strict=True)).get(wanted)

    def __repr__(self) -> str:
        return f"Masters({', '.join(self.fingerprints)})"


def fingerprint(key: bytes) -> str:
    """Return 8 hexadecimal digits that name a key and tell nothing about it (HMAC-SHA-256)."""
    return hmac.digest(key, _ID, "sha256")[:4].hex()


def fresh(taken: tuple[str, ...] = ()) -> bytes:
    """Return a random key whose fingerprint is not taken."""
    key = secrets.token_bytes(BYTES)
    return key if fingerprint(key) not in taken else fresh(taken)


def create(path: Path, passphrase: str | None = None) -> bytes:
    """Write a fresh key and return it.

    The file appears whole or not at all, and never replaces one that is there.

    Raises:
        ConfigurationError: there is a key file already.
        StoreError: the folder cannot be written.
    """
    key = fresh()
    document = {"version": 1, "protection": "none", "key": _encode(key)}
    if passphrase:
        document = _protect(key, passphrase)
    write_new(path, json.dumps(document, indent=1).encode() + b"\n")
    return key


def write_new(path: Path, data: bytes) -> None:
    """Write a secret file of mode 0600 that appears whole or not at all, and replaces nothing.

    Raises:
        ConfigurationError: there is a file already.
        StoreError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _publish(path, data)
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(path):
            raise ConfigurationError(f"{path}: there is a master key already") from None
        raise StoreError(f"{path}: the master key cannot be written: {error.strerror}") from error


def _publish(path: Path, data: bytes) -> None:
    """Publish by hard link: it fails where the name is taken, and exposes no half file.

    Where the file system can, the file has no name before that one, so that a kill leaves no
    second name by which the key could be found after it was destroyed.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        handle = atomic.unnamed(folder)
        if handle is None:
            _publish_by_name(path, data)
        else:
            with os.fdopen(handle, "wb") as file:
                _write(file, data)
                os.link(f"{atomic.SELF}/{file.fileno()}", path.name, dst_dir_fd=folder)
        os.fsync(folder)  # on disk before a database holds the first key wrapped by this one
    finally:
        os.close(folder)


def _publish_by_name(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb", opener=_owners) as file:
            _write(file, data)
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _owners(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Have the name on disk before a database holds the first key wrapped by this one."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, data: bytes) -> None:
    """Replace a secret file whole; the caller holds the lock that keeps other writers out.

    Killed at any moment, the old file or the new one is there. A temporary file that a killed
    process left holds keys too: it has a fixed name, and is removed here first.

    Raises:
        StoreError: the folder cannot be written; the old file stands.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "xb", opener=_owners) as file:
                _write(file, data)
            temporary.replace(path)  # the commit point
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: the master key cannot be written: {error.strerror}") from error


def load(path: Path, passphrase: Passphrase | None = None) -> bytes:
    """Read the current key.

    Args:
        path: the key file.
        passphrase: asked for only when the file needs one.

    Raises:
        ConfigurationError: no file, readable by others, or malformed.
        DecryptionFailed: the passphrase is wrong.
    """
    return decode(read(path), str(path), passphrase).current


def read(path: Path) -> bytes:
    """Read a secret file that only its owner may read.

    Raises:
        ConfigurationError: no file, or readable by others.
    """
    try:
        status = path.stat()
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no master key here; run `compliance keys init`, or restore the file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    _private(path, status)
    return data


def decode(data: bytes, where: str, passphrase: Passphrase | None = None) -> Masters:
    """Open a document of either version.

    Args:
        data: the document.
        where: what it is called in errors.
        passphrase: asked for only when the document needs one.

    Raises:
        ConfigurationError: malformed, or the passphrase is missing.
        DecryptionFailed: the passphrase is wrong, or the document was altered.
    """
    try:
        document = json.loads(data)
        masters = _READERS[document["version"]](document, passphrase)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ConfigurationError(f"{where}: not a master key file") from None
    if {len(key) for key in masters.keys} != {BYTES}:
        raise ConfigurationError(f"{where}: not a master key file")
    return masters


def encode(masters: Masters, passphrase: str | None = None) -> bytes:
    """Return a document of version 2, under a passphrase where one is given."""
    head: dict[str, Any] = {
        "version": 2,
        "protection": "scrypt" if passphrase else "none",
        "first": masters.first,
        "ids": list(masters.fingerprints),
    }
    data = b"".join(masters.keys)
    if passphrase:
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        head["kdf"] = {"salt": _encode(salt), **_SCRYPT}
        wrapping = AESGCM(_derive(passphrase, salt, _SCRYPT))
        data = nonce + wrapping.encrypt(nonce, data, _bound(head))
    return json.dumps(head | {"key": _encode(data)}, indent=1).encode() + b"\n"


def protected(data: bytes) -> bool:
    """Say whether a document that `decode` accepted lies under a passphrase."""
    return bool(json.loads(data)["protection"] != "none")


def _bound(head: dict[str, Any]) -> bytes:
    return _AAD_2 + json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _read_1(document: dict[str, Any], passphrase: Passphrase | None) -> Masters:
    key = _unprotect(document, passphrase, _AAD)
    return Masters((key,), fingerprint(key))


def _read_2(document: dict[str, Any], passphrase: Passphrase | None) -> Masters:
    head = {name: document[name] for name in document if name != "key"}
    data = _unprotect(document, passphrase, _bound(head))
    keys = tuple(data[start : start + BYTES] for start in range(0, len(data), BYTES))
    masters = Masters(keys, document["first"])
    if list(masters.fingerprints) != document["ids"] or not isinstance(masters.first, str):
        raise ValueError
    return masters


_READERS = {1: _read_1, 2: _read_2}


def _private(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(f"{path}: others may read the master key; run `chmod 600 {path}`")
    folder = path.parent.stat().st_mode
    if folder & 0o022 and not folder & stat.S_ISVTX:  # who may rename there may exchange the key
        raise ConfigurationError(
            f"{path.parent}: others may exchange the master key; run `chmod go-w {path.parent}`"
        )


def _protect(key: bytes, passphrase: str) -> dict[str, Any]:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    sealed = AESGCM(_derive(passphrase, salt, _SCRYPT)).encrypt(nonce, key, _AAD)
    kdf = {"salt": _encode(salt), **_SCRYPT}
    return {"version": 1, "protection": "scrypt", "kdf": kdf, "key": _encode(nonce + sealed)}


def _unprotect(document: dict[str, Any], passphrase: Passphrase | None, bound: bytes) -> bytes:
    data = base64.b64decode(document["key"], validate=True)
    if document["protection"] == "none":
        return data
    if document["protection"] != "scrypt":
        raise ValueError
    if passphrase is None:
        raise ConfigurationError("the master key needs a passphrase; set COMPLIANCE_PASSPHRASE")
    kdf = {name: int(document["kdf"][name]) for name in _SCRYPT}
    most = {"n": _MOST_N, "r": _MOST_R, "p": _MOST_P}
    if not all(1 <= kdf[name] <= most[name] for name in most):
        raise ValueError
    wrapping = AESGCM(_derive(passphrase(), base64.b64decode(document["kdf"]["salt"]), kdf))
    try:
        return wrapping.decrypt(data[:12], data[12:], bound)
    except InvalidTag:
        raise DecryptionFailed("the passphrase does not open the master key") from None


def _derive(passphrase: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return Scrypt(salt=salt, length=BYTES, **cost).derive(passphrase.encode())


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
