"""Doubles for sealing and signing, and short ways to seal, load and verify."""

import json
import os
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.errors import (
    DecryptionFailed,
    IntegrityError,
)
from compliance.models import artefact
from compliance.models.manifest import Origin

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"weights": np.arange(4.0)}
ORIGIN = Origin(
    activity="credit-scoring",
    actor="ada",
    data_digest="d" * 64,
    policy_digest="e" * 64,
    epsilon=1.0,
    delta=1e-5,
    rows=31_909,
    intent=17,
)


class Sealer:
    """AES-256-GCM with the sorted context as associated data."""

    def __init__(self, key=b"k" * 32, key_id="7"):
        self._aead = AESGCM(key)
        self.key_id = key_id

    def seal(self, data, context):
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, data, self._bind(context))

    def open(self, data, context):
        try:
            return self._aead.decrypt(data[:12], data[12:], self._bind(context))
        except (InvalidTag, ValueError):
            raise DecryptionFailed("does not open") from None

    @staticmethod
    def _bind(context):
        return json.dumps(dict(context), sort_keys=True).encode()


class Signer:
    """Ed25519."""

    def __init__(self, seed=b"s" * 32):
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def sign(self, data):
        return self._key.sign(data)

    def verify(self, signature, data):
        try:
            self._key.public_key().verify(signature, data)
        except InvalidSignature:
            raise IntegrityError("not signed by this key") from None


SEALER, SIGNER = Sealer(), Signer()


def seal(folder, name="scorer", model=MODEL, **options):
    keys = {"origin": ORIGIN, "sealer": SEALER, "signer": SIGNER}
    return artefact.seal(folder, name, model, **keys | options)


def load(folder, name="scorer", version=None, **options):
    keys = {"verifier": SIGNER, "sealer": SEALER}
    return artefact.load(folder, name, version, **keys | options)


def verify(folder, name="scorer", version=None, **options):
    return artefact.verify(folder, name, version, **{"verifier": SIGNER} | options)
