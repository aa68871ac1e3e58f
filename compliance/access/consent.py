"""Consent, withdrawal and opt-out by purpose (GDPR Art. 7, 21 and 22; CCPA 1798.120).

Subjects are filed under a keyed hash; the store holds no identifier. Under a purpose
whose basis is consent a subject is in only after ``given``; under any other basis a
subject is in unless the latest word is ``withdrawn`` or ``opted-out``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import sqlalchemy as sa

from compliance.access.tables import ConsentEvent
from compliance.errors import InputError
from compliance.policy import Basis, Policy
from compliance.store import Store
from compliance.trail.entries import Event
from compliance.trail.log import Trail

State = Literal["given", "withdrawn", "opted-out"]
AUTOMATED = "automated-decisions"  # GDPR Art. 22: an objection to being decided about by a machine
_EVENT = ConsentEvent.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
_CHUNK = 10_000


class Subjects(Protocol):
    """Turns identifiers into keyed hashes; see `compliance.crypto.keys.Keyring`."""

    def references(self, subject_type: str, identifiers: list[object]) -> list[str]:
        """Return a keyed hash for each identifier."""

    def pseudonym(self, subject_type: str, identifier: object) -> str:
        """Return the name by which the trail knows a subject."""


class Consents:
    """What subjects agreed to, in the audit store."""

    def __init__(self, store: Store, trail: Trail, subjects: Subjects, policy: Policy) -> None:
        self._store = store
        self._trail = trail
        self._subjects = subjects
        self._policy = policy

    def record(
        self,
        who: Event,
        identifiers: Sequence[object],
        *,
        purpose: str,
        state: State,
        subject_type: str = "person",
    ) -> int:
        """Record one word of many subjects; return how many.

        Args:
            who: an event that carries the actor; this method fills in the rest.
            identifiers: the subjects, as the data sets identify them.
            purpose: a purpose of the policy, or ``automated-decisions``.
            state: ``given``, ``withdrawn`` or ``opted-out``.
            subject_type: the kind of identifier, as in the data set's ``subject_type``.

        Raises:
            InputError: unknown purpose or state, or no subject.
        """
        self._check(identifiers, purpose, state)
        references = self._subjects.references(subject_type, list(identifiers))
        one = (
            self._subjects.pseudonym(subject_type, identifiers[0]) if len(references) == 1 else None
        )
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        common = {"purpose": purpose, "state": state, "time": now, "actor": who.actor}
        with self._store.writing() as connection:
            for start in range(0, len(references), _CHUNK):
                rows = [common | {"reference": r} for r in references[start : start + _CHUNK]]
                connection.execute(sa.insert(_EVENT), rows)
            self._trail.append_in(connection, _event(who, state, purpose, one, len(references)))
        return len(references)

    def _check(self, identifiers: Sequence[object], purpose: str, state: str) -> None:
        known = [*self._policy.purposes, AUTOMATED]
        if purpose not in known:
            raise InputError(f"unknown purpose {purpose!r}; known: {', '.join(known)}")
        if state not in get_args(State):
            raise InputError(f"unknown state {state!r}; known: {', '.join(get_args(State))}")
        if not identifiers or any(i is None or i != i or not str(i).strip() for i in identifiers):  # noqa: PLR0124  NaN
            raise InputError("name at least one subject, and none that is empty")

    def permits(self, purpose: str, subject_type: str, identifiers: Sequence[object]) -> list[bool]:
        """Say for each subject whether its rows may be used; a missing subject may not.

        Raises:
            InputError: a purpose that the policy does not know.
        """
        if purpose not in self._policy.purposes:
            raise InputError(f"unknown purpose {purpose!r}")
        latest = self._latest(purpose)
        references = self._subjects.references(subject_type, list(identifiers))
        if self._policy.purposes[purpose].basis is Basis.CONSENT:
            allowed = [latest.get(r) == "given" for r in references]
        else:
            allowed = [latest.get(r) not in {"withdrawn", "opted-out"} for r in references]
        return [ok and i is not None for ok, i in zip(allowed, identifiers, strict=True)]

    def decidable(self, subject_type: str, identifiers: Sequence[object]) -> list[bool]:
        """Say for each subject whether a machine may decide: false after an opt-out."""
        latest = self._latest(AUTOMATED)
        references = self._subjects.references(subject_type, list(identifiers))
        return [latest.get(r) not in {"withdrawn", "opted-out"} for r in references]

    def _latest(self, purpose: str) -> dict[str, str]:
        columns = (_EVENT.c.reference, _EVENT.c.state)
        query = sa.select(*columns).where(_EVENT.c.purpose == purpose).order_by(_EVENT.c.id)
        with self._store.reading() as connection:
            return {row.reference: row.state for row in connection.execute(query)}


def _event(who: Event, state: str, purpose: str, subject: str | None, count: int) -> Event:
    return Event(
        event=f"consent.{state}",
        actor=who.actor,
        method=who.method,
        account=who.account,
        on_behalf_of=who.on_behalf_of,
        policy=who.policy,
        purpose=purpose,
        subject=subject,
        outcome="ok",
        facts={"subjects": count},
    )
