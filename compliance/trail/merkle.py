"""Merkle tree hashing and proofs of RFC 6962, as pure functions over bytes.

Node names follow RFC 9162 section 2.1. A *frontier* is the list of roots of the
perfect subtrees that make up a tree, largest first: all that is needed to append.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from compliance.errors import TrailCorrupt

EMPTY_ROOT = hashlib.sha256(b"").digest()
HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """Return ``SHA-256(0x00 || entry)``."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return ``SHA-256(0x01 || left || right)``."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The perfect subtrees of a growing tree: appends in O(log n), holds at most 64 hashes."""

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        whole = all(len(part) == HASH_BYTES for part in self.hashes)
        if size < 0 or not whole or len(self.hashes) != size.bit_count():
            raise TrailCorrupt(f"the stored tree state does not belong to {size} entries")

    @classmethod
    def decode(cls, size: int, data: bytes) -> Frontier:
        """Read what `encode` wrote."""
        return cls(size, (data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)))

    def encode(self) -> bytes:
        """Return the hashes, one after the other."""
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash; equal subtrees merge like the carries of a binary counter."""
        self.hashes.append(leaf)
        carry = self.size
        while carry & 1:
            right = self.hashes.pop()
            self.hashes[-1] = node_hash(self.hashes[-1], right)
            carry >>= 1
        self.size += 1

    def root(self) -> bytes:
        """Return the tree's root; the empty tree's is SHA-256 of nothing."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of a leaf (RFC 9162 section 2.1.3.1); O(n) hashing."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if index < split:
        return [*inclusion_proof(left, index), root_of(right)]
    return [*inclusion_proof(right, index - split), root_of(left)]


def consistency_proof(leaves: Sequence[bytes], size: int) -> list[bytes]:
    """Return the proof that a tree's first ``size`` leaves are its past (RFC 9162 2.1.4.1)."""
    if not 0 < size <= len(leaves):
        raise IndexError(f"no tree of {size} inside one of {len(leaves)}")
    return _consistency(leaves, size, whole=True)


def _consistency(leaves: Sequence[bytes], size: int, *, whole: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if whole else [root_of(leaves)]
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if size <= split:
        return [*_consistency(left, size, whole=whole), root_of(right)]
    return [*_consistency(right, size - split, whole=False), root_of(left)]


def _split(size: int) -> int:
    """Return the largest power of two smaller than a size."""
    return 1 << (size - 1).bit_length() - 1


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check an audit path (RFC 9162 section 2.1.3.2).

    Raises:
        TrailCorrupt: the leaf is not at this index of the tree with this root.
    """
    _check_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise TrailCorrupt(f"index {index} is outside a tree of {size}")
    inner = (index ^ (size - 1)).bit_length()
    if len(proof) != inner + (index >> inner).bit_count():
        raise TrailCorrupt("the inclusion proof has the wrong length")
    node = leaf
    for level, sibling in enumerate(proof):
        from_left = level >= inner or index >> level & 1
        node = node_hash(sibling, node) if from_left else node_hash(node, sibling)
    _same(node, root, "the inclusion proof does not lead to the root")


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that one tree is the past of another (RFC 9162 section 2.1.4.2).

    Raises:
        TrailCorrupt: it is not, or a size is zero (nothing is proved from nothing).
    """
    if not 0 < old_size <= new_size:
        raise TrailCorrupt(f"no consistency from size {old_size} to size {new_size}")
    if old_size == new_size:
        if proof:
            raise TrailCorrupt("the consistency proof has the wrong length")
        _same(old_root, new_root, "two roots for one size: a fork")
        return
    _check_hashes(old_root, new_root, *proof)
    _walk_consistency(old_size, new_size, list(proof), old_root, new_root)


def _walk_consistency(
    old_size: int, new_size: int, proof: list[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Rebuild both roots from one proof; a power of two starts from the old root itself."""
    if old_size.bit_count() == 1:
        proof.insert(0, old_root)
    if not proof:
        raise TrailCorrupt("the consistency proof is empty")
    fn, sn = old_size - 1, new_size - 1
    shift = (~fn & (fn + 1)).bit_length() - 1
    fn, sn = fn >> shift, sn >> shift
    old = new = proof[0]
    for node in proof[1:]:
        if sn == 0:
            raise TrailCorrupt("the consistency proof is too long")
        if fn & 1 or fn == sn:
            old, new = node_hash(node, old), node_hash(node, new)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, node)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise TrailCorrupt("the consistency proof is too short")
    _same(old, old_root, "the old root is not the past of the new one")
    _same(new, new_root, "the new root does not follow from the proof")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(h) != HASH_BYTES for h in hashes):
        raise TrailCorrupt("a hash in the proof has the wrong length")


def _same(a: bytes, b: bytes, message: str) -> None:
    if not hmac.compare_digest(a, b):
        raise TrailCorrupt(message)
