"""Verification: every byte of every entry against the signed head.

Two roots are computed, one from the bodies and one from the stored leaf hashes, so
that a changed body and a changed hash are told apart and the first bad index is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from compliance.errors import ComplianceError, TrailCorrupt
from compliance.store import Store
from compliance.trail import checkpoint, entries, log, merkle

_MOST = 100
_COLUMNS = ("time", "event", "actor", "activity", "subject", "outcome")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, of kind ``payload``, ``leaf``, ``column``, ``gap``, ``head`` or ``signature``."""

    kind: str
    index: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and what was found; `require` raises unless nothing was."""

    size: int
    root: bytes
    faults: tuple[Fault, ...]
    level: str = "internal"

    def require(self) -> None:
        """Return when the trail is whole.

        Raises:
            TrailCorrupt: names the first fault.
        """
        if self.faults:
            first = self.faults[0]
            raise TrailCorrupt(f"{first.kind}: {first.message}")


def check(
    store: Store,
    verifier: checkpoint.Verifier,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verification:
    """Read the whole trail once and compare it with its head.

    Faults of entries are collected up to a hundred, the first of each entry; those of
    the head come after them. The read is one snapshot: a writer at work is no fault.
    """
    with store.reading() as connection:
        head = log.stored_head(connection)
        size = head.size if head else 0
        walk = _Walk()
        for row in log.stored_entries(connection):
            walk.step(row)
            if walk.bodies.size % log.PAGE == 0:
                progress(walk.bodies.size, size)
        progress(size, size)
    faults = [*walk.faults, *_head_faults(head, walk, verifier)]
    return Verification(walk.bodies.size, walk.bodies.root(), tuple(faults))


class _Walk:
    """The state of one pass: both trees, the index expected next, the faults so far."""

    def __init__(self) -> None:
        self.bodies = merkle.Frontier()
        self.leaves = merkle.Frontier()
        self.expected = 0
        self.anchored = 0  # entries before this index led to a recorded root
        self.parted = False
        self.faults: list[Fault] = []

    def step(self, row: Any) -> None:
        body, leaf = log.raw(row.body), log.raw(row.leaf_hash)
        if row.index != self.expected:
            self._fault(
                Fault(
                    "gap", self.expected, f"entry {self.expected} is missing; next is {row.index}"
                )
            )
        self.expected = row.index + 1 if isinstance(row.index, int) else self.expected + 1
        actual = merkle.leaf_hash(body)
        self.bodies.append(actual)
        self.leaves.append(leaf if len(leaf) == merkle.HASH_BYTES else b"\0" * merkle.HASH_BYTES)
        fault = _entry_fault(row, body, hash_matches=actual == leaf)
        if fault:
            self._fault(fault)
        if row.root is not None and not self.parted:
            self._compare(row.index, log.raw(row.root), clean=not self.faults)

    def _fault(self, fault: Fault) -> None:
        if len(self.faults) < _MOST:
            self.faults.append(fault)

    def _compare(self, index: int, recorded: bytes, *, clean: bool) -> None:
        """Compare with the root recorded at an append; the first difference says where."""
        if self.leaves.root() == recorded:
            self.anchored = index + 1
            return
        self.parted = True
        if clean:
            span = (
                f"entries {self.anchored} to {index}" if index > self.anchored else f"entry {index}"
            )
            self._fault(
                Fault("leaf", self.anchored, f"{span}: rewritten together with the leaf hash")
            )


def _entry_fault(row: Any, body: bytes, *, hash_matches: bool) -> Fault | None:
    if not hash_matches:
        return Fault("payload", row.index, f"entry {row.index}: body and leaf hash do not agree")
    try:
        values = entries.parse(body)
    except TrailCorrupt as error:
        return Fault("payload", row.index, f"entry {row.index}: {error}")
    wrong = [name for name in _COLUMNS if values.get(name) != getattr(row, name)]
    if wrong:
        names = ", ".join(wrong)
        return Fault("column", row.index, f"entry {row.index}: {names} not as in the body")
    return None


def _head_faults(head: Any, walk: _Walk, verifier: checkpoint.Verifier) -> Iterator[Fault]:
    if head is None:
        if walk.bodies.size:
            yield Fault("head", None, "there are entries but no head")
        return
    if walk.bodies.size != head.size:
        yield Fault(
            "head", None, f"the head says {head.size} entries, there are {walk.bodies.size}"
        )
    elif walk.bodies.root() != log.raw(head.root):
        yield _root_fault(head, walk)
    elif walk.bodies.encode() != log.raw(head.frontier):
        yield Fault("head", None, "the stored tree state is not that of the entries")
    if head.size:
        yield from _note_faults(head, verifier)


def _root_fault(head: Any, walk: _Walk) -> Fault:
    if walk.leaves.root() == log.raw(head.root):
        return Fault("head", None, "the leaf hashes lead to the root, the bodies do not")
    return Fault("head", None, "the entries do not lead to the root in the head")


def _note_faults(head: Any, verifier: checkpoint.Verifier) -> Iterator[Fault]:
    try:
        signed = checkpoint.open_note(head.note, verifier)
    except ComplianceError as error:
        yield Fault("signature", None, f"the head's note: {error}")
        return
    if signed.origin != verifier.name:
        yield Fault("signature", None, "the head's note is that of another log")
    if (signed.size, signed.root) != (head.size, log.raw(head.root)):
        yield Fault("head", None, "the head is not the one that was signed")
