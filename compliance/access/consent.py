"""Consent, withdrawal and opt-out by purpose (GDPR Art. 7, 21 and 22; CCPA 1798.120).

Subjects are filed under a keyed hash; the store holds no identifier. Under a purpose
whose basis is consent a subject is in only after ``given``; under any other basis a
subject is in unless the latest word is ``withdrawn`` or ``opted-out``.

Who owns what: the trail owns what was said. Each batch of rows cites the entry that was
appended in its transaction, and that entry holds the batch's digest, so that rows which
were changed, added or removed by hand are found by `Consents.discrepancies`. An entry never
names a pseudonym: beside a keyed hash it would outlive the destruction of the subject's key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from typing import Any, Literal, Protocol, get_args

import sqlalchemy as sa

from compliance.access.tables import ConsentEvent
from compliance.errors import InputError
from compliance.policy import Basis, Policy
from compliance.store import Store
from compliance.trail.entries import Event, Fact
from compliance.trail.log import PAGE, Recorded, Trail

State = Literal["given", "withdrawn", "opted-out"]
AUTOMATED = "automated-decisions"  # GDPR Art. 22: an objection to being decided about by a machine
_EVENT = ConsentEvent.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
_CHUNK = 10_000
_MOST = 100


class Subjects(Protocol):
    """Turns identifiers into keyed hashes; see `compliance.crypto.keys.Keyring`."""

    def references(self, subject_type: str, identifiers: list[object]) -> list[str]:
        """Return a keyed hash for each identifier."""


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
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        facts: dict[str, Fact] = {"subjects": len(references), "digest": _digest(references)}
        event = _event(who, state, purpose, facts | {"time": now})
        with self._store.writing() as connection:
            entry = self._trail.append_in(connection, event)
            said = {"purpose": purpose, "state": state, "time": now, "actor": who.actor}
            for start in range(0, len(references), _CHUNK):
                chunk = references[start : start + _CHUNK]
                rows = [{**said, "entry": entry, "reference": r} for r in chunk]
                connection.execute(sa.insert(_EVENT), rows)
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
        query = sa.select(*columns).where(_EVENT.c.purpose == purpose).order_by(_EVENT.c.entry)
        with self._store.reading() as connection:
            return {row.reference: row.state for row in connection.execute(query)}

    def discrepancies(self) -> tuple[str, ...]:
        """Say where the rows are not those that the trail vouches for; at most a hundred.

        Reads every row once, in one snapshot with the trail. What the trail itself holds is
        taken at its word: verify it first.
        """
        names = [f"consent.{state}" for state in get_args(State)]
        with self._store.reading() as connection:
            events = self._trail.events_in(connection, names)
            return tuple(islice(_differences(_batches(connection), events), _MOST))


@dataclass(frozen=True, slots=True)
class _Batch:
    """The rows that cite one entry."""

    entry: Any
    said: set[tuple[Any, ...]]
    subjects: int
    digest: str

    def is_of(self, event: Recorded) -> bool:
        """Say whether these are the rows that were written with an entry.

        The number of rows counts too: a row that held a newline could pass for two.
        """
        values, facts = event.values, event.values["facts"]
        state = values["event"].removeprefix("consent.")
        said = (values["purpose"], state, facts.get("time"), values["actor"])
        recorded = (facts.get("subjects"), facts.get("digest"))
        return self.said == {said} and recorded == (self.subjects, self.digest)


def _batches(connection: sa.Connection) -> Iterator[_Batch]:
    query = sa.select(_EVENT).order_by(_EVENT.c.entry).execution_options(yield_per=PAGE)
    for entry, rows in groupby(connection.execute(query), key=lambda row: row.entry):
        said, references = set(), []
        for row in rows:
            said.add((row.purpose, row.state, row.time, row.actor))
            references.append(str(row.reference))
        yield _Batch(entry, said, len(references), _digest(references))


def _differences(batches: Iterator[_Batch], events: Iterator[Recorded]) -> Iterator[str]:
    """Walk rows and entries side by side; both come in order of the entry's index."""
    event = next(events, None)
    for batch in batches:
        if not isinstance(batch.entry, int):  # SQLite lets a hand put any type there
            yield "consent rows cite no entry of the trail"
            continue
        while event is not None and event.index < batch.entry:
            yield _gone(event)
            event = next(events, None)
        if event is None or event.index != batch.entry:
            yield f"consent rows cite entry {batch.entry}, which records no consent"
            continue
        if not batch.is_of(event):
            yield f"the consent rows of entry {event.index} are not those that were recorded"
        event = next(events, None)
    yield from map(_gone, chain([] if event is None else [event], events))


def _gone(event: Recorded) -> str:
    return f"the consent rows of entry {event.index} are gone"


def _digest(references: Sequence[str]) -> str:
    """Return SHA-256 over the sorted references, in hexadecimal."""
    return hashlib.sha256("\n".join(sorted(references)).encode()).hexdigest()


def _event(who: Event, state: str, purpose: str, facts: dict[str, Fact]) -> Event:
    return Event(
        event=f"consent.{state}",
        actor=who.actor,
        method=who.method,
        account=who.account,
        on_behalf_of=who.on_behalf_of,
        policy=who.policy,
        purpose=purpose,
        outcome="ok",
        facts=facts,
    )
