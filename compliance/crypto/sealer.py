"""Sealing of whole artefacts under a key of their name; handed to the rooms that know no keys."""

from __future__ import annotations

import io
from collections.abc import Mapping

from compliance.crypto import chunked
from compliance.crypto.aead import Place
from compliance.crypto.keys import Keyring


class Sealer:
    """Seals and opens the versions of one model; name, version and format are bound in.

    The format is that of sealed files (`compliance.crypto.chunked`), with a magic, keys and a
    derivation of its own. It keeps no key: each call asks the ring, so that a destroyed key is
    gone here as soon as it is gone there.
    """

    def __init__(self, ring: Keyring, name: str) -> None:
        self._ring = ring
        self._name = name
        self._sealed_under: int | None = None

    def __repr__(self) -> str:
        return f"Sealer({self._name!r})"

    @property
    def key_id(self) -> str:
        """Return the id of the key that sealed last, or that would seal now; it is no secret."""
        if self._sealed_under is None:
            return str(self._ring.named(chunked.MODEL.kind, self._name).id)
        return str(self._sealed_under)

    def seal(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Return the ciphertext."""
        target = io.BytesIO()
        _, self._sealed_under = chunked.seal(
            io.BytesIO(data), target, self._ring, self._binding(context)
        )
        return target.getvalue()

    def open(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Return the plaintext, all of it authenticated.

        Raises:
            DecryptionFailed: another key, name, version or format, or altered bytes.
            KeyDestroyed: the key was destroyed on purpose.
        """
        target = io.BytesIO()
        chunked.open_sealed(io.BytesIO(data), target, self._ring, self._binding(context))
        return target.getvalue()

    def _binding(self, context: Mapping[str, str]) -> chunked.Binding:
        """Bind tenant, name and every entry of the context, each part with its length before it."""
        place = Place(self._ring.tenant, "model", self._name).encode()
        parts = [part.encode() for item in sorted(context.items()) for part in item]
        place += b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return chunked.Binding(chunked.MODEL, self._name, place)
