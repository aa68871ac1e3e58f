"""What every provider of the master key keeps: a name, a context, and errors without secrets."""

from __future__ import annotations

import ipaddress
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeVar
from urllib.parse import urlsplit

from compliance.errors import ComplianceError, ConfigurationError, DecryptionFailed, InputError

T = TypeVar("T")
CONNECT_SECONDS = 5
ANSWER_SECONDS = 10


class MasterKey(Protocol):
    """Wraps domain keys; the master itself never leaves its provider."""

    @property
    def name(self) -> str:
        """Return the public, stable name of this master; it is stored beside what it wrapped."""
        ...

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return a key wrapped under the master, bound to its context."""
        ...

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], wrapper: str | None) -> bytes:
        """Return the key.

        Args:
            wrapped: what `wrap` returned.
            context: the context it was wrapped with.
            wrapper: the name of the master that wrapped it; None for a row of the first version.

        Raises:
            ConfigurationError: another master wrapped it; this one does not try.
            DecryptionFailed: altered, or wrapped with another context.
            KeyDestroyed: the master was destroyed on purpose.
            AccessDenied: the server refuses whoever is logged in.
            StoreError: the server cannot be reached, or cannot answer now.
        """
        ...


class Provider:
    """A named master; its repr shows the name alone, and it does not pickle."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Return the public, stable name of this master."""
        return self._name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __reduce__(self) -> NoReturn:
        raise InputError("a master key does not travel between processes; open it in each of them")


class Remote(Provider, ABC):
    """A master that lives in a server; a client is made at first use, once in each process."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._held: tuple[int, Any] | None = None

    @abstractmethod
    def _connect(self) -> Any:
        """Return a client; credentials come from the client library's own chain."""

    @abstractmethod
    def _explain(self, error: Exception) -> ComplianceError:
        """Return our error for one of the client library's, without what was sent."""

    def _ask(self, request: Callable[[Any], T]) -> T:
        """Return the answer to a request, or raise one of our errors.

        The client's own error holds the request, and so the credentials and the key: ours is
        raised after the handler, so that it carries neither cause nor context.
        """
        try:
            return request(self._client())
        except ComplianceError:
            raise
        except Exception as error:  # noqa: BLE001 - client libraries share no base of their errors
            problem = self._explain(error)
        raise problem

    def _client(self) -> Any:
        """Return this process's client: a connection shared across a fork mixes up answers."""
        if self._held is None or self._held[0] != os.getpid():
            self._held = (os.getpid(), self._connect())
        return self._held[1]

    def _check(self, wrapper: str | None) -> None:
        if wrapper != self.name:
            raise another(wrapper, self.name)


def another(wrapper: str | None, name: str) -> ConfigurationError:
    """Return the error for a key that another master wrapped."""
    needed = repr(wrapper[:300]) if wrapper else "the master key file of the first version"
    return ConfigurationError(
        f"this key was wrapped by {needed}, and the master in force is {name!r}; "
        "set COMPLIANCE_MASTER to the one that wrapped it, or restore it"
    )


def altered(name: str) -> DecryptionFailed:
    """Return the error for a wrapped key that the right master does not open."""
    return DecryptionFailed(
        f"{name}: the wrapped key was altered, or wrapped for another tenant; restore the database"
    )


def encode_context(context: Mapping[str, str]) -> bytes:
    """Return a context as authenticated bytes: one text for each mapping, whatever its order."""
    text = json.dumps(dict(context), sort_keys=True, separators=(",", ":"))
    return b"compliance master context v1\0" + text.encode()


def require_tls(url: str, variable: str) -> str:
    """Return an address that is https, or that never leaves this machine.

    Raises:
        ConfigurationError: it is plain http to another machine, or no address.
    """
    try:
        parts = urlsplit(url)
        local = parts.hostname is not None and _is_loopback(parts.hostname)
    except ValueError:
        raise ConfigurationError(f"{variable} is no address; write https://HOST:PORT") from None
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and local)):
        return url
    raise ConfigurationError(f"{variable} must start with https://, so that keys travel encrypted")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
