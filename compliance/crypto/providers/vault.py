"""The master key in the transit engine of HashiCorp Vault or OpenBao, through ``hvac``.

Address, token, namespace and certificates come from Vault's own environment: ``VAULT_ADDR``,
``VAULT_TOKEN`` or ``~/.vault-token``, ``VAULT_NAMESPACE``, ``VAULT_CACERT``.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from compliance.crypto.providers.base import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Remote,
    altered,
    encode_context,
    require_tls,
)
from compliance.errors import (
    AccessDenied,
    ComplianceError,
    ConfigurationError,
    DecryptionFailed,
    KeyDestroyed,
    MissingExtra,
    StoreError,
)

_KEY = re.compile(r"(?:[\w-][\w.-]*/)+[\w-][\w.-]*")
_NO_UPSERT = "must-exist"  # no key type: a server that would make a missing key refuses instead
_ALTERED = ("message authentication failed", "unable to decrypt", "invalid ciphertext")
_UNSUPPORTED = ("non-AEAD", "context", "not supported", "derivation")


class VaultTransit(Remote):
    """A named key of a transit engine; it must be of an AEAD type, such as ``aes256-gcm96``."""

    def __init__(self, key: str) -> None:
        """Name a key as ``MOUNT/KEYNAME``; nothing is contacted.

        Raises:
            ConfigurationError: no such name, no ``VAULT_ADDR``, or plain http.
            MissingExtra: ``hvac`` is not installed.
        """
        if not _KEY.fullmatch(key):
            raise ConfigurationError("write the Vault key as vault:MOUNT/KEYNAME")
        self._mount, _, self._key = key.rpartition("/")
        self._namespace = os.environ.get("VAULT_NAMESPACE", "")
        address = os.environ.get("VAULT_ADDR", "")
        if not address:
            raise ConfigurationError("set VAULT_ADDR to the address of the Vault server")
        self._address = require_tls(address, "VAULT_ADDR")
        _hvac()
        super().__init__(self._public_name())

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return a key encrypted by the server.

        An old server ignores ``associated_data`` without a word. So each wrapping asks for a
        decryption under another context, which has to fail.

        Raises:
            ConfigurationError: the key cannot bind a context.
        """
        plain = base64.b64encode(key).decode()
        bound = _bound(encode_context(context))
        wrapped = self._ask(
            lambda client: str(
                client.secrets.transit.encrypt_data(
                    self._key,
                    plain,
                    type=_NO_UPSERT,
                    mount_point=self._mount,
                    associated_data=bound,
                )["data"]["ciphertext"]
            )
        )
        if self._opens(wrapped, encode_context(context) + b"\0"):
            raise _unbound(self.name)
        return wrapped.encode()

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], wrapper: str | None) -> bytes:
        """Return a key decrypted by the server."""
        self._check(wrapper)
        return self._decrypt(wrapped.decode("ascii", "replace"), encode_context(context))

    def _opens(self, wrapped: str, context: bytes) -> bool:
        try:
            self._decrypt(wrapped, context)
        except DecryptionFailed:
            return False
        return True

    def _decrypt(self, wrapped: str, context: bytes) -> bytes:
        return self._ask(
            lambda client: base64.b64decode(
                client.secrets.transit.decrypt_data(
                    self._key, wrapped, mount_point=self._mount, associated_data=_bound(context)
                )["data"]["plaintext"],
                validate=True,
            )
        )

    def _public_name(self) -> str:
        """Return the address without user, password, query and trailing slash, and the key."""
        parts = urlsplit(self._address)
        host = parts.netloc.rpartition("@")[2]
        where = [f"{parts.scheme}://{host}{parts.path.rstrip('/')}", self._namespace.strip("/")]
        return "vault:" + "/".join([*filter(None, where), self._mount, self._key])

    def _connect(self) -> Any:
        client = _hvac().Client(
            self._address,
            namespace=self._namespace or None,
            timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
        )
        if self._address.startswith("https:"):  # no redirect takes token and key to plain http
            client.session.adapters.pop("http://", None)
        if not client.token:
            raise AccessDenied(f"{self.name}: no token; set VAULT_TOKEN, or run `vault login`")
        return client

    def _explain(self, error: Exception) -> ComplianceError:
        from hvac import exceptions

        match error:
            case exceptions.Forbidden() | exceptions.Unauthorized():
                return AccessDenied(
                    f"{self.name}: the token may not use this key, or there is none; "
                    f"permit update on {self._mount}/encrypt/{self._key} and on "
                    f"{self._mount}/decrypt/{self._key}"
                )
            case exceptions.InvalidPath():
                return ConfigurationError(f"{self.name}: no transit engine is mounted there")
            case exceptions.RateLimitExceeded():
                return StoreError(f"{self.name}: the server refuses so many requests; wait")
            case exceptions.VaultDown():
                return StoreError(f"{self.name}: the server is sealed or in maintenance; unseal it")
            case exceptions.VaultError():
                return self._explain_text(" ".join(map(str, error.errors or [])))
        return StoreError(f"{self.name}: the server cannot be reached ({type(error).__name__})")

    def _explain_text(self, text: str) -> ComplianceError:
        """Sort the server's own words; they are not repeated, as nobody promises what they hold."""
        if any(words in text for words in _ALTERED):
            return altered(self.name)
        if "unknown key type" in text:
            return self._no_key()
        if "key not found" in text:
            return KeyDestroyed(f"{self.name}: the key is not on the server any more; restore it")
        if "disallowed by policy" in text:
            return KeyDestroyed(
                f"{self.name}: the version of the key that wrapped this is retired; lower "
                "min_decryption_version while the version is still archived"
            )
        if any(words in text for words in _UNSUPPORTED):
            return _unbound(self.name)
        return StoreError(f"{self.name}: the server failed; its log says why")

    def _no_key(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name}: no such key; its keeper makes it with `vault write -f "
            f"{self._mount}/keys/{self._key} type=aes256-gcm96`"
        )


def _unbound(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: this key does not bind a context (associated_data), so a domain key could be "
        "moved between tenants; use an underived key of type aes256-gcm96 or chacha20-poly1305"
    )


def _bound(context: bytes) -> str:
    return base64.b64encode(context).decode()


def _hvac() -> Any:
    try:
        import hvac
    except ImportError:
        raise MissingExtra("vault", "hvac") from None
    return hvac
