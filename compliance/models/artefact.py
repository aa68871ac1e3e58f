"""Sealed models on disk: encrypted, signed, versioned, and verified before they are parsed.

An artefact is a folder ``<models>/<name>/<version>/`` with three files:

- ``model.sealed``: the ciphertext of the bytes that `formats.serialise` made, bound to name,
  version and format;
- ``manifest.json``: what the model is and where it came from, as canonical JSON (sorted keys,
  no spaces, ASCII), with the SHA-256 of the ciphertext (a digest of the plaintext would tell
  equal models apart from different ones);
- ``manifest.sig``: a signature over a fixed prefix and the manifest's bytes.

Keys are handed in: this module knows none.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compliance.errors import (
    DecryptionFailed,
    InputError,
    IntegrityError,
    ModelRejected,
    StoreError,
)
from compliance.models import formats
from compliance.models.manifest import MAX_BYTES, Manifest, Origin, context_of

SEALED, MANIFEST, SIGNATURE = "model.sealed", "manifest.json", "manifest.sig"

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_VERSION = re.compile(r"[0-9]{6}")
_PREFIX = b"compliance model manifest v1\n"  # no other kind of signed text starts like this
_MAX_SIGNATURE = 16_384
_MAX_VERSION = 999_999


class Sealer(Protocol):
    """Encrypts with authentication; the ciphertext opens under the same context alone."""

    @property
    def key_id(self) -> str:
        """Return the id of the key that `seal` used last, which is no secret."""

    def seal(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Return the ciphertext."""

    def open(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Return the plaintext, or raise DecryptionFailed."""


class Signer(Protocol):
    """Signs."""

    def sign(self, data: bytes) -> bytes:
        """Return a signature."""


class Verifier(Protocol):
    """Checks signatures."""

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return, or raise IntegrityError."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A version that is there; whether it is sound, `verify` says."""

    name: str
    version: str


# -- sealing -----------------------------------------------------------------------


def seal(
    folder: Path,
    name: str,
    model: object,
    *,
    origin: Origin,
    sealer: Sealer,
    signer: Signer,
    trusted: Iterable[str] = (),
) -> Manifest:
    """Write a model as the next version of its name and return the manifest.

    When this returns the version is on disk and stays. Where the process dies before, no
    version is visible: its hidden folder stays behind, holds ciphertext alone, and its
    number is left out.

    Args:
        folder: where all models are; made when it is missing.
        name: lower case letters, digits, ``_``, ``.`` and ``-``; starts with a letter or digit.
        model: as in `formats.serialise`.
        origin: where it came from.
        sealer: encrypts the model.
        signer: signs the manifest.
        trusted: as in `formats.serialise`.

    Raises:
        InputError: the name is malformed, or the model cannot be sealed.
        StoreError: the folder cannot be written to.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no model name: lower case letters, digits, '_', '.' and '-', at most "
            "100, the first a letter or digit"
        )
    kind, data = formats.serialise(model, trusted=trusted)
    try:
        with _reserved(folder / name) as part:
            version = part.name[1:7]
            sealed = sealer.seal(data, context_of(name, version, kind))
            manifest = _manifest(name, version, kind, sealed, sealer.key_id, origin)
            _write_all(part, manifest, sealed, signer)
            _publish(part, folder / name / version)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written to ({error.strerror})") from error
    return manifest


def _manifest(
    name: str, version: str, kind: str, sealed: bytes, key_id: str, origin: Origin
) -> Manifest:
    return Manifest(
        name=name,
        version=version,
        format=kind,
        sha256=hashlib.sha256(sealed).hexdigest(),
        size=len(sealed),
        created=dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        key_id=key_id,
        origin=origin,
    )


def _write_all(part: Path, manifest: Manifest, sealed: bytes, signer: Signer) -> None:
    encoded = manifest.encode()
    _write(part / SEALED, sealed)
    _write(part / MANIFEST, encoded)
    _write(part / SIGNATURE, signer.sign(_PREFIX + encoded))
    _sync(part)


@contextlib.contextmanager
def _reserved(home: Path) -> Iterator[Path]:
    """Give a hidden folder ``.<version>.part`` that this process alone owns.

    Who made the folder owns the version: ``mkdir`` is exclusive, and a version is published
    by renaming its folder, so whoever finds the published version absent after ``mkdir``
    holds a number that nobody published and nobody else can.
    """
    _make(home)
    part = _reserve(home)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _reserve(home: Path) -> Path:
    while True:
        number = _next(home)
        part = home / f".{number:06d}.part"
        with contextlib.suppress(FileExistsError):
            part.mkdir()
            if not (home / f"{number:06d}").exists():
                return part
            part.rmdir()  # published by another between our look and our mkdir


def _make(folder: Path) -> None:
    """Make a folder and those above it, each durable before anything is put into it."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _next(home: Path) -> int:
    taken = (re.fullmatch(r"\.?([0-9]{6})(?:\.part)?", entry) for entry in os.listdir(home))  # noqa: PTH208  names alone
    number = max((int(match[1]) for match in taken if match), default=0) + 1
    if number > _MAX_VERSION:
        raise StoreError(f"{home}: has no version number left; use another name")
    return number


def _publish(part: Path, final: Path) -> None:
    """Rename: the commit point. Before it there is no version, after it a whole one."""
    part.rename(final)  # fails on a version that exists: its folder is not empty
    _sync(final.parent)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make the entries of a folder durable; Windows does so by itself and opens no folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- verifying and loading -----------------------------------------------------------


def verify(folder: Path, name: str, version: str | None = None, *, verifier: Verifier) -> Manifest:
    """Return the manifest of a sound artefact, or raise; needs no decryption key.

    Args:
        folder: where all models are.
        name: the model's name.
        version: six digits; default: the newest there is.
        verifier: the public key that must have signed.

    Raises:
        ModelRejected: name, version, signature, manifest or ciphertext do not agree, or a
            file is missing.
        InputError: there is no such model or version.
    """
    return _checked(folder, name, version, verifier)[0]


def load(
    folder: Path,
    name: str,
    version: str | None = None,
    *,
    verifier: Verifier,
    sealer: Sealer,
    into: object = None,
    trusted: Iterable[str] = (),
) -> tuple[Any, Manifest]:
    """Return a model and its manifest; all of it is verified before a byte is parsed.

    Signature, name, version, size and digest are checked first, then the ciphertext is
    authenticated, then it is parsed. Without a version the newest that is there is taken:
    that somebody deleted a newer one shows in the trail, not here.

    Args:
        folder: where all models are.
        name: the model's name.
        version: six digits; default: the newest there is.
        verifier: the public key that must have signed.
        sealer: decrypts the model.
        into: as in `formats.parse`.
        trusted: as in `formats.parse`.

    Raises:
        ModelRejected: as in `verify`, or the model does not decrypt or names untrusted types.
        KeyDestroyed: the key was destroyed on purpose.
        InputError: there is no such model or version, or ``into`` does not fit.
    """
    manifest, sealed = _checked(folder, name, version, verifier)
    try:
        data = sealer.open(sealed, manifest.context)
    except DecryptionFailed as error:
        raise ModelRejected(
            f"model {name} {manifest.version} does not decrypt: another key sealed it, or for "
            "another name, version or format"
        ) from error
    return formats.parse(manifest.format, data, into=into, trusted=trusted), manifest


def listing(folder: Path) -> list[Listed]:
    """Return every version that is there, by name and then oldest first; unverified."""
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name))
    return [Listed(name, version) for name in names for version in _versions(folder / name)]


def _versions(home: Path) -> list[str]:
    if not home.is_dir():
        return []
    return sorted(entry.name for entry in home.iterdir() if _VERSION.fullmatch(entry.name))


def _checked(
    folder: Path, name: str, version: str | None, verifier: Verifier
) -> tuple[Manifest, bytes]:
    """Return manifest and ciphertext, read once: what is checked is what is opened."""
    version = _locate(folder, name, version)
    home, label = folder / name / version, f"model {name} {version}"
    encoded = _read(home / MANIFEST, MAX_BYTES)
    signature = _read(home / SIGNATURE, _MAX_SIGNATURE)
    try:
        verifier.verify(signature, _PREFIX + encoded)
    except IntegrityError as error:
        raise ModelRejected(f"{label}: the manifest is not signed by the expected key") from error
    manifest = Manifest.decode(encoded)
    if (manifest.name, manifest.version) != (name, version):
        raise ModelRejected(f"{label}: the manifest is of {manifest.name} {manifest.version}")
    sealed = _read(home / SEALED, manifest.size)
    if hashlib.sha256(sealed).hexdigest() != manifest.sha256:
        raise ModelRejected(f"{label}: {SEALED} is not what was signed")
    return manifest, sealed


def _locate(folder: Path, name: str, version: str | None) -> str:
    """Return the version to read, after name and version were found to lead nowhere else."""
    if not _NAME.fullmatch(name) or not (version is None or _VERSION.fullmatch(version)):
        raise ModelRejected("not a model's name and six-digit version; nothing was read")
    there = _versions(folder / name)
    if not there:
        raise InputError(f"{folder}: there is no model {name!r}")
    if version is None:
        return there[-1]
    if version not in there:
        raise InputError(f"model {name} has no version {version}; there are: {', '.join(there)}")
    return version


def _read(path: Path, limit: int) -> bytes:
    """Return a regular file of at most so many bytes; a link, device or pipe is refused unread."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = file.read(limit + 1) if regular else b""
    except OSError as error:
        raise ModelRejected(f"{path}: cannot be read ({error.strerror})") from error
    if not regular or len(data) > limit:
        raise ModelRejected(f"{path}: is larger than it should be, or no regular file")
    return data
