"""Sealed artefacts: name, version and format are bound in, and no key is kept."""

import gc
import io
import os

import pytest
from crypto import c2sp

from compliance.crypto import files
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.sealer import Sealer
from compliance.errors import DecryptionFailed, KeyDestroyed

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


@pytest.mark.parametrize("size", [0, 1, 16_384, 1_000_003])
def test_another_implementation_opens_a_sealed_model(ring, sealer, size):
    data = os.urandom(size)
    cell, key = sealer.seal(data, CONTEXT), ring.named("model", "scoring")
    header = b"compliance model 1\n" + key.id.to_bytes(4, "big")
    place = c2sp.prefixed(b"default", b"model", b"scoring", b"1")
    place += c2sp.prefixed(b"format", b"safetensors", b"version", b"1")
    input_key = c2sp.expand(key.material, b"compliance model key v1", 32)
    assert cell.startswith(header)
    assert c2sp.decrypt(input_key, header + place, cell[len(header) :]) == data
    assert sealer.open(cell, CONTEXT) == data


@pytest.mark.parametrize("cut", [0, 1, 22, 23, 60, 78, 79, 95, 16_479, -1])
def test_a_model_cut_short_is_refused(sealer, cut):
    cell = sealer.seal(bytes(40_000), CONTEXT)
    with pytest.raises(DecryptionFailed):
        sealer.open(cell[:cut], CONTEXT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "bc"}, {"ab": "c"}),
        ({"a": "b", "c": "d"}, {"a": "bcd"}),
        ({"a": "x\x1fb=y"}, {"a": "x", "b": "y"}),
        ({}, {"": ""}),
    ],
    ids=["moved", "joined", "separator", "empty"],
)
def test_no_two_contexts_are_taken_for_each_other(sealer, one, other):
    with pytest.raises(DecryptionFailed):
        sealer.open(sealer.seal(b"weights", one), other)


def test_a_sealed_file_does_not_pass_for_a_model(ring, sealer):
    target = io.BytesIO()
    files.seal(io.BytesIO(b"weights"), target, ring, label="scoring")
    with pytest.raises(DecryptionFailed, match="not a sealed model"):
        sealer.open(target.getvalue(), {})


def test_a_sealer_keeps_no_key(ring, sealer):
    sealer.open(sealer.seal(b"weights", CONTEXT), CONTEXT)
    kept = [value for value in vars(sealer).values() if value is not ring]
    assert not any(isinstance(found, Key) for found in [*kept, *gc.get_referents(*kept)])


def test_a_destroyed_key_is_gone_for_a_sealer_that_used_it(ring, sealer, monkeypatch):
    cell = sealer.seal(b"weights", CONTEXT)

    def destroyed(key_id):
        raise KeyDestroyed(f"key {key_id} was destroyed")

    monkeypatch.setattr(ring, "by_id", destroyed)
    with pytest.raises(KeyDestroyed):
        sealer.open(cell, CONTEXT)


def test_the_id_is_of_the_key_that_sealed_also_when_an_epoch_ends_meanwhile():
    ring = c2sp.Ring()
    sealer = Sealer(ring, "scoring")
    assert sealer.key_id == "1"
    cell = sealer.seal(b"weights", CONTEXT)
    ring.add("model", "scoring")
    assert sealer.key_id == "1"
    assert sealer.open(cell, CONTEXT) == b"weights"
    sealer.seal(b"weights", CONTEXT)
    assert sealer.key_id == "2"


def test_a_sealer_shows_no_key(ring, sealer):
    assert repr(sealer) == "Sealer('scoring')"
