"""The master key: a local file that only its owner may read, optionally under a passphrase.

The file is JSON with a version, so that other providers can take its place.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from compliance.errors import ConfigurationError, DecryptionFailed, StoreError

BYTES = 32
_SCRYPT = {"n": 2**17, "r": 8, "p": 1}  # OWASP Password Storage Cheat Sheet: N=2^17, r=8, p=1
_MOST_N, _MOST_R, _MOST_P = 2**20, 16, 16  # 2 GiB of memory at the most
_AAD = b"compliance master key v1"
Passphrase = Callable[[], str]


def create(path: Path, passphrase: str | None = None) -> bytes:
    """Write a fresh key and return it.

    The file appears whole or not at all, and never replaces one that is there.

    Raises:
        ConfigurationError: there is a key file already.
        StoreError: the folder cannot be written.
    """
    key = secrets.token_bytes(BYTES)
    document = {"version": 1, "protection": "none", "key": _encode(key)}
    if passphrase:
        document = _protect(key, passphrase)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(path, json.dumps(document, indent=1).encode() + b"\n")
    except OSError as error:
        if path.exists():
            raise ConfigurationError(f"{path}: there is a master key already") from None
        raise StoreError(f"{path}: the master key cannot be written: {error.strerror}") from error
    return key


def _write_new(path: Path, data: bytes) -> None:
    """Publish by hard link: it fails where the name is taken, and exposes no half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the name on disk before a database holds the first key wrapped by this one."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path, passphrase: Passphrase | None = None) -> bytes:
    """Read the key.

    Args:
        path: the key file.
        passphrase: asked for only when the file needs one.

    Raises:
        ConfigurationError: no file, readable by others, or malformed.
        DecryptionFailed: the passphrase is wrong.
    """
    try:
        status = path.stat()
        document = json.loads(path.read_bytes())
        _private(path, status)
        key = _unprotect(document, passphrase)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no master key here; run `compliance keys init`, or restore the file"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigurationError(f"{path}: not a master key file") from None
    if len(key) != BYTES:
        raise ConfigurationError(f"{path}: not a master key file")
    return key


def _private(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigurationError(f"{path}: others may read the master key; run `chmod 600 {path}`")


def _protect(key: bytes, passphrase: str) -> dict[str, Any]:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    sealed = AESGCM(_derive(passphrase, salt, _SCRYPT)).encrypt(nonce, key, _AAD)
    kdf = {"salt": _encode(salt), **_SCRYPT}
    return {"version": 1, "protection": "scrypt", "kdf": kdf, "key": _encode(nonce + sealed)}


def _unprotect(document: dict[str, Any], passphrase: Passphrase | None) -> bytes:
    data = base64.b64decode(document["key"], validate=True)
    if document["version"] != 1:
        raise ValueError
    if document["protection"] == "none":
        return data
    if document["protection"] != "scrypt":
        raise ValueError
    if passphrase is None:
        raise ConfigurationError("the master key needs a passphrase; set COMPLIANCE_PASSPHRASE")
    kdf = {name: int(document["kdf"][name]) for name in _SCRYPT}
    if kdf["n"] > _MOST_N or kdf["r"] > _MOST_R or kdf["p"] > _MOST_P:
        raise ValueError
    wrapping = AESGCM(_derive(passphrase(), base64.b64decode(document["kdf"]["salt"]), kdf))
    try:
        return wrapping.decrypt(data[:12], data[12:], _AAD)
    except InvalidTag:
        raise DecryptionFailed("the passphrase does not open the master key") from None


def _derive(passphrase: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return Scrypt(salt=salt, length=BYTES, **cost).derive(passphrase.encode())


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
