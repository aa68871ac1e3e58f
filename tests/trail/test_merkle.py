"""RFC 6962 hashing: published verdicts, and the laws that proofs obey at every size."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import TrailCorrupt
from compliance.trail import merkle

LEAVES = st.lists(st.binary(max_size=8), min_size=1, max_size=80).map(
    lambda entries: [merkle.leaf_hash(entry) for entry in entries]
)


def decode(text):
    return base64.b64decode(text or "")


def verdicts(data, kind):
    paths = sorted((data / "crypto/merkle/testdata" / kind).rglob("*.json"))
    return [(path, json.loads(path.read_text("utf-8"))) for path in paths]


def accepts(check, *args):
    try:
        check(*args)
    except TrailCorrupt:
        return False
    return True


def reference_root(leaves):
    """The definition of RFC 6962 section 2.1, literally."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = reference_root(leaves[:split]), reference_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# -- published verdicts ---------------------------------------------------------


def test_inclusion_agrees_with_every_published_verdict(data):
    cases = verdicts(data, "inclusion")
    for path, case in cases:
        proof = [decode(part) for part in case["proof"] or []]
        index, size = case.get("leafIdx", 0), case.get("treeSize", 0)
        arguments = (index, size, decode(case["leafHash"]), proof, decode(case["root"]))
        assert accepts(merkle.verify_inclusion, *arguments) is not case["wantErr"], path
    assert {case["wantErr"] for _, case in cases} == {True, False}


def test_consistency_agrees_with_every_published_verdict(data):
    cases = verdicts(data, "consistency")
    for path, case in cases:
        proof = [decode(part) for part in case["proof"] or []]
        old, new = case.get("size1", 0), case.get("size2", 0)
        arguments = (old, new, proof, decode(case["root1"]), decode(case["root2"]))
        assert accepts(merkle.verify_consistency, *arguments) is not case["wantErr"], path
    assert {case["wantErr"] for _, case in cases} == {True, False}


def test_there_are_196_published_verdicts(data):
    assert len(verdicts(data, "inclusion")) + len(verdicts(data, "consistency")) == 196


# -- laws --------------------------------------------------------------------------


def test_the_empty_tree_has_the_hash_of_nothing():
    assert merkle.root_of([]) == hashlib.sha256(b"").digest()


@given(LEAVES)
def test_the_frontier_computes_the_root_of_the_definition(leaves):
    assert merkle.root_of(leaves) == reference_root(leaves)


@given(LEAVES)
def test_a_frontier_read_back_appends_as_if_it_had_never_been_written(leaves):
    whole, resumed = merkle.Frontier(), merkle.Frontier()
    for leaf in leaves:
        whole.append(leaf)
        resumed = merkle.Frontier.decode(resumed.size, resumed.encode())
        resumed.append(leaf)
    assert (resumed.size, resumed.root()) == (whole.size, whole.root())


@given(LEAVES, st.data())
def test_every_leaf_is_proved_included(leaves, draw):
    index = draw.draw(st.integers(0, len(leaves) - 1))
    proof = merkle.inclusion_proof(leaves, index)
    merkle.verify_inclusion(index, len(leaves), leaves[index], proof, merkle.root_of(leaves))


@given(LEAVES, st.data())
def test_any_flipped_bit_breaks_an_inclusion_proof(leaves, draw):
    index = draw.draw(st.integers(0, len(leaves) - 1))
    parts = [
        leaves[index],
        merkle.root_of(leaves),
        *merkle.inclusion_proof(leaves, index),
    ]
    which, bit = draw.draw(st.integers(0, len(parts) - 1)), draw.draw(st.integers(0, 255))
    parts[which] = flipped(parts[which], bit)
    leaf, root, *proof = parts
    with pytest.raises(TrailCorrupt):
        merkle.verify_inclusion(index, len(leaves), leaf, proof, root)


@given(st.integers(2, 80), st.data())
def test_a_leaf_is_not_proved_at_another_index(size, draw):
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(size)]
    index = draw.draw(st.integers(0, len(leaves) - 1))
    other = draw.draw(st.integers(0, len(leaves) + 3).filter(lambda n: n != index))
    proof = merkle.inclusion_proof(leaves, index)
    with pytest.raises(TrailCorrupt):
        merkle.verify_inclusion(other, len(leaves), leaves[index], proof, merkle.root_of(leaves))


@given(LEAVES, st.data())
def test_every_prefix_is_proved_to_be_the_past(leaves, draw):
    size = draw.draw(st.integers(1, len(leaves)))
    proof = merkle.consistency_proof(leaves, size)
    roots = merkle.root_of(leaves[:size]), merkle.root_of(leaves)
    merkle.verify_consistency(size, len(leaves), proof, *roots)


@given(LEAVES, st.data())
def test_any_flipped_bit_breaks_a_consistency_proof(leaves, draw):
    size = draw.draw(st.integers(1, len(leaves)))
    parts = [
        merkle.root_of(leaves[:size]),
        merkle.root_of(leaves),
        *merkle.consistency_proof(leaves, size),
    ]
    which, bit = draw.draw(st.integers(0, len(parts) - 1)), draw.draw(st.integers(0, 255))
    parts[which] = flipped(parts[which], bit)
    old, new, *proof = parts
    with pytest.raises(TrailCorrupt):
        merkle.verify_consistency(size, len(leaves), proof, old, new)


# -- malformed input ------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 3])
def test_nothing_is_consistent_with_an_empty_or_larger_past(size):
    with pytest.raises(TrailCorrupt):
        merkle.verify_consistency(size, 2, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)


@pytest.mark.parametrize(
    ("size", "data"),
    [(1, b""), (0, bytes(32)), (3, bytes(32)), (1, bytes(31)), (1, bytes(33)), (-1, bytes(32))],
)
def test_a_stored_frontier_that_fits_no_tree_is_refused(size, data):
    with pytest.raises(TrailCorrupt, match="does not belong"):
        merkle.Frontier.decode(size, data)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_leaf_that_is_not_there_has_no_proof(index):
    with pytest.raises(IndexError):
        merkle.inclusion_proof([bytes(32)] * 2, index)
    with pytest.raises(IndexError):
        merkle.consistency_proof([bytes(32)] * 2, index + 1 if index > 0 else index)
