"""Signatures are checked by raising: nothing to ignore, nothing to show."""

import pytest

from compliance.crypto.signing import Signer, Verifier
from compliance.errors import IntegrityError


def test_a_signature_of_another_key_message_or_length_is_refused():
    signer = Signer("a", bytes(32))
    good = signer.sign(b"message")
    signer.verify(good, b"message")
    for signature, message in (
        (good, b"massage"),
        (good[:-1], b"message"),
        (b"", b"message"),
        (Signer("a", bytes([1] * 32)).sign(b"message"), b"message"),
    ):
        with pytest.raises(IntegrityError, match="not of a"):
            signer.verify(signature, message)


def test_the_public_half_checks_what_the_signer_signed():
    signer = Signer("a", bytes(range(32)))
    Verifier("a", signer.public_key).verify(signer.sign(b"message"), b"message")


def test_no_repr_shows_the_seed():
    seed = bytes(range(32))
    assert seed.hex() not in repr(Signer("a", seed))
