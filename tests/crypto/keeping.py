"""A custodian for tests, and what the trail says of the acts."""

from compliance.crypto.custody import Custodian
from compliance.trail.entries import Event
from compliance.trail.log import Trail


def event(what, **fields):
    return Event(event=what, actor="keeper", method="os", account="keeper", **fields)


def custodian(ring):
    return Custodian(ring, Trail(ring.store, ring.signer()), event)


def told(ring):
    """Return what the trail says was done to keys: event and facts."""
    entries = Trail(ring.store, ring.signer()).read()
    return [(e.values["event"], e.values["facts"]) for e in entries]
