"""The master key as an HPKE recipient (RFC 9180): wrapping needs only the public key.

Base mode: it authenticates no sender. Whoever may write to the database and has the public key
can put a domain key of their own there; what was sealed before then no longer opens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from compliance.crypto import master
from compliance.crypto.providers.base import Provider, altered, another, encode_context
from compliance.errors import ConfigurationError, DecryptionFailed, InputError

_VERSION = b"\x01"
_KDF_AEAD = b"\x00\x01\x00\x02"  # HKDF-SHA256, AES-256-GCM (RFC 9180, section 7)
_X25519, _P256 = b"\x00\x20", b"\x00\x10"  # RFC 9180, section 7.1
_MLKEM768, _HYBRID = b"\x00\x41", b"\x64\x7a"  # IANA HPKE KEM registry; the second is X-Wing
_KEMS = {
    _X25519: KEM.X25519,
    _P256: KEM.P256,
    _MLKEM768: KEM.MLKEM768,
    _HYBRID: KEM.MLKEM768_X25519,
}
_HEADER = 7  # version 1 | KEM 2 | KDF 2 | AEAD 2
_BEGIN, _END = b"-----BEGIN ", b"-----END "


class HpkeRecipient(Provider):
    """A key pair in a PEM file; with the public key alone it wraps and does not unwrap."""

    def __init__(self, path: Path, passphrase: master.Passphrase | None = None) -> None:
        """Open a PEM file: a private key of mode 0600, or a public key."""
        self._private: bytes | None = None
        self._passphrase = passphrase
        pem = master.read(path) if is_private(path) else _read_public(path)
        if b"PRIVATE KEY-----" in pem:
            self._private = pem
            pem = public_of(pem, passphrase)
        self._public = pem
        super().__init__(f"hpke:{_thumbprint(pem)}")

    def wrap(self, key: bytes, context: Mapping[str, str]) -> bytes:
        """Return a key sealed to the recipient; the context is HPKE's info."""
        return seal_to(self._public, key, encode_context(context))

    def unwrap(self, wrapped: bytes, context: Mapping[str, str], wrapper: str | None) -> bytes:
        """Return a key; it needs the private key."""
        if wrapper != self.name:
            raise another(wrapper, self.name)
        if self._private is None:
            raise ConfigurationError(
                f"{self.name}: this file holds the public key, which only wraps; "
                "set COMPLIANCE_MASTER to the file of the private key"
            )
        try:
            return open_with(self._private, wrapped, encode_context(context), self._passphrase)
        except DecryptionFailed:
            raise altered(self.name) from None


def seal_to(public_pem: bytes, data: bytes, info: bytes) -> bytes:
    """Seal data to a recipient (RFC 9180, base mode, HKDF-SHA256, AES-256-GCM).

    Args:
        public_pem: X25519, P-256 or ML-KEM-768 in PEM; ML-KEM-768 and X25519 together, as two
            blocks, are the hybrid MLKEM768-X25519.
        data: what to seal.
        info: what it is bound to; the same bytes open it.

    Returns:
        version 1 | KEM 2 | KDF 2 | AEAD 2 | encapsulated key | ciphertext | tag 16.

    Raises:
        InputError: no such public key.
    """
    kem, key = _public_key(public_pem)
    return _VERSION + kem + _KDF_AEAD + _suite(kem).encrypt(data, key, info)


def open_with(
    private_pem: bytes,
    sealed: bytes,
    info: bytes,
    passphrase: master.Passphrase | str | None = None,
) -> bytes:
    """Return what was sealed to the owner of a private key.

    Raises:
        InputError: no such private key.
        ConfigurationError: the private key needs a passphrase.
        DecryptionFailed: another recipient, other info, altered bytes or a wrong passphrase.
    """
    kem, key = _private_key(private_pem, passphrase)
    if sealed[:_HEADER] != _VERSION + kem + _KDF_AEAD:
        raise DecryptionFailed("this was not sealed to this kind of key; use the right private key")
    try:
        return _suite(kem).decrypt(sealed[_HEADER:], key, info)
    except InvalidTag:
        raise DecryptionFailed(
            "the private key does not open it: another recipient, another purpose, or altered"
        ) from None


def public_of(private_pem: bytes, passphrase: master.Passphrase | str | None = None) -> bytes:
    """Return the public PEM of a private one: what may be given away."""
    blocks = [_load_private(block, passphrase) for block in _blocks(private_pem)]
    return b"".join(_pem_of(key.public_key()) for key in blocks)


def generate(path: Path, passphrase: str | None = None) -> None:
    """Write a fresh X25519 private key, mode 0600, under the passphrase where one is given.

    Raises:
        ConfigurationError: there is a file already.
        StoreError: the folder cannot be written.
    """
    seal = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    key = x25519.X25519PrivateKey.generate()
    master.write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, seal))


@cache
def _suite(kem: bytes) -> Suite:
    return Suite(_KEMS[kem], KDF.HKDF_SHA256, AEAD.AES_256_GCM)


# -- PEM ---------------------------------------------------------------------------------


def is_private(path: Path) -> bool:
    """Say whether a file holds a private key; what cannot be read is taken for one."""
    try:
        return b"PUBLIC KEY-----" not in path.read_bytes()
    except OSError:
        return True


def _read_public(path: Path) -> bytes:
    pem = path.read_bytes()
    if b"PRIVATE KEY-----" in pem:
        raise ConfigurationError(f"{path}: keep private and public key in files of their own")
    return pem


def _blocks(pem: bytes) -> list[bytes]:
    found = [_BEGIN + block for block in pem.split(_BEGIN)[1:]]
    if not 1 <= len(found) <= 2 or not all(_END in block for block in found):  # noqa: PLR2004 - the hybrid has two
        raise InputError("no key in PEM; expected X25519, P-256 or ML-KEM-768")
    return found


def _public_key(pem: bytes) -> tuple[bytes, Any]:
    keys = [_load_public(block) for block in _blocks(pem)]
    match keys:
        case [x25519.X25519PublicKey()]:
            return _X25519, keys[0]
        case [ec.EllipticCurvePublicKey(curve=ec.SECP256R1())]:
            return _P256, keys[0]
        case [mlkem.MLKEM768PublicKey()]:
            return _MLKEM768, keys[0]
        case [mlkem.MLKEM768PublicKey(), x25519.X25519PublicKey()]:
            return _HYBRID, MLKEM768X25519PublicKey(*keys)
    raise InputError("this kind of key cannot receive; use X25519, P-256 or ML-KEM-768")


def _private_key(pem: bytes, passphrase: master.Passphrase | str | None) -> tuple[bytes, Any]:
    keys = [_load_private(block, passphrase) for block in _blocks(pem)]
    kem, _public = _public_key(b"".join(_pem_of(key.public_key()) for key in keys))
    return kem, MLKEM768X25519PrivateKey(*keys) if kem == _HYBRID else keys[0]


def _load_public(block: bytes) -> Any:
    try:
        return load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError("no public key in PEM; give the recipient's public key") from None


def _load_private(block: bytes, passphrase: master.Passphrase | str | None) -> Any:
    """Load one block; a passphrase is asked for only where the block is encrypted."""
    sealed = b"ENCRYPTED" in block
    if sealed and passphrase is None:
        raise ConfigurationError("the private key needs a passphrase; set COMPLIANCE_PASSPHRASE")
    given = passphrase() if sealed and callable(passphrase) else passphrase
    try:
        return load_pem_private_key(block, str(given).encode() if sealed else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if sealed:
            raise DecryptionFailed("the passphrase does not open the private key") from None
        raise InputError("no private key in PEM; give the recipient's private key") from None


def _pem_of(public: Any) -> bytes:
    data: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def _thumbprint(pem: bytes) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the public keys (SubjectPublicKeyInfo)."""
    digest = hashlib.sha256()
    for block in _blocks(pem):
        key = _load_public(block)
        digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.hexdigest()[:16]
