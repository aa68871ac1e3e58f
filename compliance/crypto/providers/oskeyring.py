"""The master key in the operating system's keyring, through the package ``keyring``.

The entry holds the same document as the file. Backends that keep nothing, or keep it in
plain text, are refused: the key would be less safe than in a file of mode 0600.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from compliance.crypto import master
from compliance.crypto.providers.local import Stored, locked
from compliance.errors import ComplianceError, ConfigurationError, MissingExtra, StoreError

T = TypeVar("T")
SERVICE = "compliance-toolkit"
_REFUSED = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")


class OsKeyring(Stored):
    """The master key in an entry of the operating system's keyring."""

    def __init__(
        self, name: str, tenant: str, lock: Path, passphrase: master.Passphrase | None = None
    ) -> None:
        """Open an entry.

        Args:
            name: what the setting calls it.
            tenant: part of the entry's user name, so that tenants do not share one.
            lock: a lock file of this project, held while the entry changes.
            passphrase: asked for only when the entry needs one.
        """
        self._entry = Entry(name, tenant)
        self._lock_path = lock
        super().__init__(f"keyring:{name}/", f"keyring entry {name!r}", passphrase)

    def _read(self) -> bytes:
        text = self._entry.read()
        if text is None:
            raise ConfigurationError(
                f"{self._where}: no master key here; run `compliance keys init`, or unlock "
                "the keyring that holds it"
            )
        return text

    def _write(self, document: bytes) -> None:
        self._entry.write(document)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._lock_path)


class Entry:
    """One entry: service ``compliance-toolkit``, user name ``TENANT/NAME``."""

    def __init__(self, name: str, tenant: str) -> None:
        self.name = name
        self._user = f"{tenant}/{name}"
        self._backend = _backend()

    def read(self) -> bytes | None:
        """Return the document; None where there is no entry."""
        text = self._ask(lambda: self._backend.get_password(SERVICE, self._user))
        return None if text is None else text.encode("utf-8", "surrogatepass")

    def write(self, document: bytes) -> None:
        """Replace the document, and read it back: some keyrings cut what is long."""
        text = document.decode()
        self._ask(lambda: self._backend.set_password(SERVICE, self._user, text))
        if self.read() != document:
            raise StoreError(f"keyring entry {self.name!r}: the keyring did not keep the key whole")

    def create(self, lock: Path, passphrase: str | None) -> None:
        """Make an entry with a fresh key.

        Raises:
            ConfigurationError: there is an entry already.
        """
        with locked(lock):
            if self.read() is not None:
                raise ConfigurationError(
                    f"keyring entry {self.name!r}: there is a master key already"
                )
            key = master.fresh()
            self.write(master.encode(master.Masters((key,), master.fingerprint(key)), passphrase))

    def _ask(self, request: Callable[[], T]) -> T:
        problem: ComplianceError
        try:
            return request()
        except Exception as error:  # noqa: BLE001 - each backend raises errors of its own kind
            problem = StoreError(
                f"keyring entry {self.name!r}: the keyring did not answer "
                f"({type(error).__name__}); unlock it and run again"
            )
        raise problem


def _backend() -> Any:
    """Return the backend that keyring chose, or the first safe one of a chain.

    Raises:
        MissingExtra: ``keyring`` is not installed.
        ConfigurationError: no backend is safe.
    """
    try:
        import keyring
        from keyring.backends.chainer import ChainerBackend
    except ImportError:
        raise MissingExtra("keyring", "keyring") from None
    chosen: Any = keyring.get_keyring()
    candidates = list(chosen.backends) if isinstance(chosen, ChainerBackend) else [chosen]
    safe = [backend for backend in candidates if not _unsafe(backend)]
    if not safe:
        raise ConfigurationError(
            f"the keyring {_kind(chosen)} keeps no secrets safely; start the desktop's own "
            "(Secret Service, KWallet, macOS Keychain, Windows Credential Locker), or set "
            "COMPLIANCE_MASTER to file"
        )
    return safe[0]


def _unsafe(backend: object) -> bool:
    kind = _kind(backend)
    return kind.startswith(_REFUSED) or "plaintext" in kind.lower()


def _kind(backend: object) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"
