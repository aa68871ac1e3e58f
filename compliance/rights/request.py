"""Data-subject requests, from receipt to certificate.

States: received -> identified -> planned -> approved -> running -> verifying -> closed |
refused. A step out of turn is an error that names the next command. Each step is one
transaction with its trail entry: both, or neither.
"""

from __future__ import annotations

import calendar
import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from compliance._yaml import nearest
from compliance.access.identity import Identity
from compliance.access.rbac import Authority, require_another
from compliance.crypto.keys import Keyring
from compliance.errors import AccessDenied, InputError, PolicyError, RequestStateError
from compliance.policy import Policy, Regulation
from compliance.rights import erase, verify
from compliance.rights.desk import NEXT, REQUEST, STEP, Desk, Row, wrong_state
from compliance.rights.erase import Ran
from compliance.rights.plan import Plan, canonical_text
from compliance.rights.subject import Subject, known_names, searches
from compliance.store import Store
from compliance.trail.log import Trail

KINDS = ("erasure", "access")
STATES = (
    "received", "identified", "planned", "approved", "running", "verifying", "closed", "refused",
)  # fmt: skip
_MAX_GROUND = 300


@dataclass(frozen=True, slots=True)
class Request:
    """What may be shown of a request: no personal data, whatever its state.

    Attributes:
        due: the last day for an answer.
        found: rows of the person's own, by store and table, once identified.
        plan: the readable plan, once planned.
        digest: SHA-256 of the plan.
        next: the command that comes next; empty when it is over.
    """

    id: str
    kind: str
    regulation: str
    state: str
    submitter: str
    approver: str | None
    received: str
    due: dt.date
    closed: str | None
    ground: str | None
    found: dict[str, dict[str, int]] | None
    plan: dict[str, Any] | None
    digest: str | None
    next: str


class Requests:
    """The requests of one audit store."""

    def __init__(
        self,
        store: Store,
        trail: Trail,
        ring: Keyring,
        policy: Policy,
        authority: Authority,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.desk = Desk(store, trail, ring, policy, authority, clock)

    # -- reading ----------------------------------------------------------------------------

    def listing(self, identity: Identity) -> list[Request]:
        """Return every request, the newest first."""
        self.desk.authorise(identity, "all", "read")
        query = sa.select(REQUEST).order_by(REQUEST.c.received.desc(), REQUEST.c.id)
        with self.desk.store.reading() as connection:
            return [_shown(row) for row in connection.execute(query)]

    def get(self, identity: Identity, request: str) -> Request:
        """Return one request.

        Raises:
            InputError: no such request.
        """
        self.desk.authorise(identity, request, "read")
        return _shown(self.desk.row(request))

    def certificate(self, identity: Identity, request: str) -> dict[str, Any]:
        """Return the signed certificate of a closed request.

        Raises:
            RequestStateError: it is not closed.
        """
        row = self.desk.enter(identity, request, "read", {"closed"})
        envelope: dict[str, Any] = json.loads(row.certificate)
        return envelope

    # -- the steps ----------------------------------------------------------------------------

    def submit(
        self,
        identity: Identity,
        kind: str,
        subject: Mapping[str, object],
        regulation: str = "gdpr",
    ) -> str:
        """Record a request and return its id.

        Args:
            identity: who submits it.
            kind: ``erasure`` or ``access``.
            subject: identifiers by name, such as ``{"email": ...}``; ``Table.column`` means that
                table alone.
            regulation: the policy's name of the law that sets the deadline.

        Raises:
            InputError: an unknown kind or identifier, or such a request is open already.
            PolicyError: an unknown regulation, or no store in the data map.
        """
        self.desk.authorise(identity, "new", "submit")
        if kind not in KINDS:
            raise InputError(f"unknown kind {kind!r}{nearest(kind, KINDS)}")
        laws = self.desk.policy.regulations
        if regulation not in laws:
            raise PolicyError(f"unknown regulation {regulation!r}{nearest(regulation, laws)}")
        who = Subject.parse(subject)
        self._require_known(who)
        received = self.desk.clock()
        values = {
            "kind": kind,
            "regulation": regulation,
            "state": "received",
            "submitter": identity.person,
            "received": self.desk.now(),
            "due": deadline(received.date(), laws[regulation]).isoformat(),
        }
        return self._record(identity, who, values)

    def identify(self, identity: Identity, request: str) -> dict[str, dict[str, int]]:
        """Look the person up; return rows of their own by store and table.

        A person of whom nothing is held is identified with no rows: the request then closes
        with a certificate that says so.

        Raises:
            InputError: the identifiers contradict each other, or do not reach a store.
            StoreError: a store cannot be reached; the request stays as it was.
        """
        row = self.desk.enter(identity, request, "identify", {"received", "identified"})
        connectors = self.desk.connectors()
        found = {}
        for name, search in self.desk.searches(self.desk.subject(row)).items():
            rows = connectors[name].locate(search)
            found[name] = {table: len(held) for table, held in rows.items() if held}
        total = sum(n for tables in found.values() for n in tables.values())
        self._move(row, identity, "identified", {"found": canonical_text(found)}, rows=total)
        return found

    def plan(self, identity: Identity, request: str) -> Plan:
        """Plan the request, again where it was planned before; an earlier approval falls.

        A run that was refused before its first step is planned again; one that began goes on.

        Raises:
            RequestStateError: a run has begun, or another process holds it.
            InputError: an edge of the data map has no meaning, or the map does not fit.
        """
        states = {"identified", "planned", "approved", "verifying"}
        row = self.desk.enter(identity, request, "plan", states | {"running"})
        if row.state == "running" and (row.lease or self._begun(row)):
            raise wrong_state(row)
        who = self.desk.subject(row)
        connectors, parts = self.desk.connectors(), []
        for name, search in self.desk.searches(who).items():
            parts.append(connectors[name].plan(search, self.desk.retention(name), row.kind))
        plan = Plan(row.id, row.kind, row.regulation, self.desk.policy.digest, tuple(parts))
        steps = self.desk.seal_plan(plan, who, row.generation + 1)
        values = {
            "plan": canonical_text(plan.visible()),
            "digest": plan.digest,
            "generation": row.generation + 1,
            "approver": None,
        }
        self._move(row, identity, "planned", values, steps=steps, plan=plan.digest)
        return plan

    def approve(self, identity: Identity, request: str) -> None:
        """Approve the plan, as another person than the submitter.

        Who submitted it, the trail says.

        Raises:
            AccessDenied: the same person, no role, or too weak an identity.
            TrailCorrupt: the row names another submitter than the trail.
            StalePlanError: the policy changed since the plan was made.
        """
        row = self.desk.enter(identity, request, "approve", {"planned"})
        submitter = self.desk.recorded(row, "received", "submitter")["actor"]
        try:
            require_another(identity, submitter, "approval")
        except AccessDenied:
            self.desk.trail.append(self.desk.event("approve", identity, request, outcome="refused"))
            raise
        plan = self.desk.plan(row)
        self._move(row, identity, "approved", {"approver": identity.person}, plan=plan.digest)

    def run(self, identity: Identity, request: str, *, dry_run: bool = False) -> Ran:
        """Carry the approved plan out, or resume; a dry run rolls the same work back.

        Raises:
            StalePlanError: data or policy changed since the approval; nothing was written.
            StoreError: a store cannot be reached; run again to resume.
            RequestStateError: out of turn, or another process runs it.
        """
        row = self.desk.row(request)
        action = "erase" if row.kind == "erasure" else "read"
        states = {"planned", "approved"} if dry_run else {"approved", "running"}
        again = row.kind == "access" and not dry_run
        row = self.desk.enter(
            identity, request, action, states | ({"verifying"} if again else set())
        )
        if dry_run:
            return erase.rehearse(self.desk, row, identity)
        if row.state == "verifying":
            return erase.read_again(self.desk, row)
        return erase.perform(self.desk, row, identity)

    def verify(self, identity: Identity, request: str) -> dict[str, Any]:
        """Re-query every store; close the request and return its certificate.

        Raises:
            VerificationFailed: something is left; the request stays ``verifying``.
        """
        row = self.desk.enter(identity, request, "verify", {"verifying"})
        return verify.prove(self.desk, row, identity)

    def refuse(self, identity: Identity, request: str, ground: str) -> None:
        """Refuse a request that has not run, with the legal ground.

        Raises:
            InputError: no ground, or one that names the person.
        """
        states = {"received", "identified", "planned", "approved"}
        row = self.desk.enter(identity, request, "approve", states)
        values = {"ground": self._ground(row, ground), "open_reference": None}
        self._move(row, identity, "refused", values)  # free text never enters the trail

    def _begun(self, row: Row) -> bool:
        return any(step.state != "pending" for step in self.desk.steps(row))

    # -- helpers ------------------------------------------------------------------------------

    def _require_known(self, who: Subject) -> None:
        stores = self.desk.policy.stores.values()
        if not stores:
            raise PolicyError(
                "the data map is empty; describe your stores in policies/ (docs/rights.md)"
            )
        for name, value in who.identifiers.items():
            if not any(searches(store, {name: value}) for store in stores):
                hint = nearest(name, known_names(stores))
                raise InputError(f"no store knows a person by {name!r}{hint}")

    def _record(self, identity: Identity, who: Subject, values: dict[str, str]) -> str:
        """Keys first, then one transaction: see `Desk`."""
        desk, request = self.desk, uuid.uuid4().hex
        reference = f"{values['kind']}:{desk.ring.reference(*who.primary)}"
        sealed = desk.seal_subject(who, request)
        pseudonym = desk.ring.pseudonym(*who.primary)
        event = desk.event("received", identity, request, pseudonym, kind=values["kind"])
        new = values | {
            "id": request,
            "subject": sealed,
            "open_reference": reference,
            "generation": 0,
        }
        with desk.store.writing() as connection:
            _refuse_second(connection, reference)
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(REQUEST).values(new))
            except sa.exc.IntegrityError:
                _refuse_second(connection, reference)
                raise
            desk.trail.append_in(connection, event)
        return request

    def _move(
        self,
        row: Row,
        identity: Identity,
        state: str,
        values: Mapping[str, Any],
        steps: list[dict[str, Any]] | None = None,
        **facts: Any,
    ) -> None:
        event = self.desk.event(state, identity, row.id, self.desk.pseudonym(row), **facts)
        with self.desk.store.writing() as connection:
            self.desk.move(connection, row, event, {**values, "state": state})
            if steps is not None:
                undone = (STEP.c.request == row.id) & (STEP.c.state != "done")
                connection.execute(sa.delete(STEP).where(undone))
                connection.execute(sa.insert(STEP), steps)

    def _ground(self, row: Row, ground: str) -> str:
        text = ground.strip()
        if not text or len(text) > _MAX_GROUND:
            raise InputError(
                f"give the legal ground of the refusal, at most {_MAX_GROUND} characters"
            )
        held = self.desk.subject(row).identifiers.values() if self.desk.pseudonym(row) else ()
        if any(value.casefold() in text.casefold() for value in held):
            raise InputError("the ground of a refusal must not name the person")
        return text


def deadline(received: dt.date, regulation: Regulation) -> dt.date:
    """Return the last day for an answer.

    A calendar month ends on the day of the same number, or on the last of the month where
    there is none (Regulation (EEC, Euratom) No 1182/71, Art. 3(2)(c)); then days are added.
    """
    years, month = divmod(received.month - 1 + regulation.months, 12)
    year, month = received.year + years, month + 1
    day = min(received.day, calendar.monthrange(year, month)[1])
    return dt.date(year, month, day) + dt.timedelta(days=regulation.days)


def _refuse_second(connection: sa.Connection, reference: str) -> None:
    query = sa.select(REQUEST.c.id, REQUEST.c.state).where(REQUEST.c.open_reference == reference)
    row = connection.execute(query).first()
    if row is not None:
        raise InputError(f"request {row.id} about the same person is open already ({row.state})")


def _shown(row: Row) -> Request:
    plain = (
        "id",
        "kind",
        "regulation",
        "state",
        "submitter",
        "approver",
        "received",
        "closed",
        "ground",
    )
    return Request(
        **{name: getattr(row, name) for name in plain},
        due=dt.date.fromisoformat(row.due),
        found=row.found and json.loads(row.found),
        plan=row.plan and json.loads(row.plan),
        digest=row.digest,
        next=NEXT.get(row.state, ""),
    )


__all__ = [
    "KINDS",
    "STATES",
    "Ran",
    "Request",
    "RequestStateError",
    "Requests",
    "deadline",
    "wrong_state",
]
