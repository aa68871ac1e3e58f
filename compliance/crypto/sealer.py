"""Sealing of whole artefacts under a key of their name; handed to the rooms that know no keys."""

from __future__ import annotations

from collections.abc import Mapping

from compliance.crypto.aead import Place
from compliance.crypto.keys import Keyring


class Sealer:
    """Seals and opens the versions of one model; name, version and format are bound in."""

    def __init__(self, ring: Keyring, name: str) -> None:
        self._ring = ring
        self._name = name
        self._key = ring.model(name)

    @property
    def key_id(self) -> str:
        """Return the id of the key, which is no secret."""
        return str(self._key.id)

    def seal(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Return the ciphertext."""
        return self._ring.seal(self._key, data, self._place(context))

    def open(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Return the plaintext.

        Raises:
            DecryptionFailed: another key, name, version or format, or altered bytes.
        """
        return self._ring.open_sealed(data, self._place(context))

    def _place(self, context: Mapping[str, str]) -> Place:
        row = "\x1f".join(f"{name}={context[name]}" for name in sorted(context))
        return Place(self._ring.tenant, "compliance_model", self._name, row=row)
