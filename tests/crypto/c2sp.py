"""C2SP chunked encryption (Cobblestone-256) a second time, from the page of its specification.

Shares no code with `compliance.crypto.chunked` but AES-GCM itself: HKDF-Expand is written out.
"""

import hashlib
import hmac
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.crypto.keys import Key
from compliance.errors import DecryptionFailed

CHUNK, TAG, PREFIX = 16_384, 16, 56


def expand(key, info, length):
    """HKDF-Expand with SHA-512 (RFC 5869, section 2.3)."""
    block = okm = b""
    for number in range(1, -(-length // 64) + 1):
        block = hmac.new(key, block + info + bytes([number]), hashlib.sha512).digest()
        okm += block
    return okm[:length]


def _keys(key, salt, context):
    info = b"c2sp.org/chunked-encryption@v1+" + b"AEAD_AES_256_GCM" + b"\x00" + salt + context
    derived = expand(key, info, 32 + 12 + 32)
    return AESGCM(derived[:32]), derived[32:44], derived[44:]


def _nonce(base, number):
    return bytes(a ^ b for a, b in zip(base, number.to_bytes(12, "big"), strict=True))


def encrypt(key, context, plaintext, salt=None):
    salt = salt or os.urandom(24)
    cipher, base, commitment = _keys(key, salt, context)
    message = salt + commitment
    for number in range(len(plaintext) // CHUNK + 1):
        chunk = plaintext[number * CHUNK : (number + 1) * CHUNK]
        message += cipher.encrypt(_nonce(base, number), chunk, b"")
    return message


def decrypt(key, context, message):
    cipher, base, commitment = _keys(key, message[:24], context)
    assert message[24:PREFIX] == commitment
    body, plaintext = message[PREFIX:], b""
    chunks = [body[i : i + CHUNK + TAG] for i in range(0, len(body), CHUNK + TAG)]
    assert chunks
    assert len(chunks[-1]) < CHUNK + TAG
    for number, chunk in enumerate(chunks):
        plaintext += cipher.decrypt(_nonce(base, number), chunk, b"")
    return plaintext


def prefixed(*parts):
    """Each part with its length (4 bytes, big endian) before it."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


class Ring:
    """A keyring in memory."""

    def __init__(self, tenant="default"):
        self.tenant = tenant
        self._keys = {}

    def named(self, kind, name):
        found = [key for key in self._keys.values() if (key.kind, key.name) == (kind, name)]
        return found[-1] if found else self.add(kind, name)

    def add(self, kind, name):
        key = Key(len(self._keys) + 1, os.urandom(32), kind, name)
        return self._keys.setdefault(key.id, key)

    def by_id(self, key_id):
        if key_id not in self._keys:
            raise DecryptionFailed("the sealed value names a key that is not here")
        return self._keys[key_id]
