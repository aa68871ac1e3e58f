"""Sealed artefacts: name, version and format are bound in."""

import pytest

from compliance.crypto.keys import Keyring
from compliance.crypto.sealer import Sealer
from compliance.errors import DecryptionFailed

CONTEXT = {"version": "1", "format": "safetensors"}


@pytest.fixture
def sealer(ring):
    return Sealer(ring, "scoring")


def test_what_was_sealed_opens_in_another_process(ring, sealer, key_file):
    cell = sealer.seal(b"weights", CONTEXT)
    other = Sealer(Keyring.open(ring.store, key_file), "scoring")
    assert other.open(cell, dict(reversed(CONTEXT.items()))) == b"weights"
    assert other.key_id == sealer.key_id


@pytest.mark.parametrize(
    "context",
    [{}, CONTEXT | {"version": "2"}, CONTEXT | {"format": "skops"}, CONTEXT | {"more": ""}],
)
def test_another_version_or_format_is_refused(sealer, context):
    cell = sealer.seal(b"weights", CONTEXT)
    with pytest.raises(DecryptionFailed):
        sealer.open(cell, context)


def test_a_model_under_another_models_name_is_refused(ring, sealer):
    with pytest.raises(DecryptionFailed):
        Sealer(ring, "pricing").open(sealer.seal(b"weights", CONTEXT), CONTEXT)


def test_another_tenants_model_is_refused(ring, sealer, key_file):
    other = Sealer(Keyring.open(ring.store, key_file, tenant="other"), "scoring")
    with pytest.raises(DecryptionFailed):
        other.open(sealer.seal(b"weights", CONTEXT), CONTEXT)
