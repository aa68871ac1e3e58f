"""Signatures: the tenant's Ed25519 key, and the public half by which others check."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from compliance.errors import IntegrityError


class Signer:
    """An Ed25519 key that signs, with the name under which it does."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Signer({self.name!r})"

    def public_pem(self) -> bytes:
        """Return the public half as PEM (RFC 8410), for whoever verifies offline."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature (RFC 8032)."""
        return self._key.sign(data)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return, or raise IntegrityError."""
        Verifier(self.name, self.public_key).verify(signature, data)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public Ed25519 key that checks signatures."""

    name: str
    public_key: bytes

    def verify(self, signature: bytes, data: bytes) -> None:
        """Return when the signature is this key's.

        Raises:
            IntegrityError: it is not.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, data)
        except InvalidSignature:
            raise IntegrityError(f"the signature is not of {self.name}") from None
