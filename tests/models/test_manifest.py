"""Manifests are canonical: one value, one sequence of bytes."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError, ModelRejected
from compliance.models.manifest import Manifest, Origin

COUNTS = st.integers(0, 2**60)
LOSSES = st.none() | st.floats(0, allow_infinity=False) | st.integers(0, 10)
ORIGINS = st.builds(
    Origin,
    activity=st.text(max_size=20),
    actor=st.text(max_size=20),
    data_digest=st.text(max_size=20),
    policy_digest=st.text(max_size=20),
    epsilon=LOSSES,
    delta=LOSSES,
    rows=COUNTS,
    intent=COUNTS,
)
TEXT = st.text(max_size=20)
MANIFESTS = st.builds(
    Manifest,
    name=TEXT, version=TEXT, format=TEXT, sha256=TEXT,
    size=COUNTS, created=TEXT, key_id=TEXT, origin=ORIGINS,
)  # fmt: skip

ORIGIN = {
    "activity": "a", "actor": "b", "data_digest": "c", "policy_digest": "d", "rows": 1, "intent": 2,
}  # fmt: skip
SAMPLE = Manifest(
    name="m", version="000001", format="arrays", sha256="00", size=1,
    created="2026-01-01T00:00:00Z", key_id="1", origin=Origin(**ORIGIN),
)  # fmt: skip


@given(manifest=MANIFESTS)
def test_a_manifest_reads_back_the_same(manifest):
    assert Manifest.decode(manifest.encode()) == manifest


@given(manifest=MANIFESTS)
def test_the_bytes_are_sorted_compact_ascii_json(manifest):
    data = manifest.encode()
    values = json.loads(data)
    assert list(values) == sorted(values)
    assert values["schema"] == 1
    assert data == json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")


def changed(**changes):
    values = json.loads(SAMPLE.encode()) | changes
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def without(name):
    values = json.loads(SAMPLE.encode())
    del values[name]
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b" " + SAMPLE.encode(),
        SAMPLE.encode() + b"\n",
        SAMPLE.encode().replace(b'"size":1', b'"size":1,"size":1'),
        SAMPLE.encode().replace(b'"size":1', b'"size":01'),
        changed(schema=2),
        changed(schema=True),
        changed(size="1"),
        changed(size=True),
        changed(further=1),
        changed(origin=None),
        changed(origin=ORIGIN | {"further": 1}),
        changed(origin=ORIGIN | {"rows": -1}),
        without("schema"),
        without("sha256"),
    ],
)
def test_other_bytes_are_rejected(data):
    with pytest.raises(ModelRejected, match="manifest"):
        Manifest.decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": 1.0},
        {"rows": True},
        {"intent": None},
        {"actor": None},
        {"data_digest": b"00"},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"epsilon": -0.1},
        {"epsilon": "1"},
        {"delta": True},
    ],
)
def test_an_origin_of_wrong_types_or_ranges_is_refused(change):
    with pytest.raises(InputError):
        Origin(**ORIGIN | change)


def test_a_manifest_that_could_not_be_read_again_is_not_written():
    huge = dataclasses.replace(SAMPLE, origin=Origin(**ORIGIN | {"actor": "x" * 70_000}))
    with pytest.raises(InputError, match="at most 65536 bytes"):
        huge.encode()
