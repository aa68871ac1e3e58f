"""What every step of a request stands on: the row, its sealed parts, the trail, the stores.

Who owns what: the row owns the state, and every change of state is one transaction with
its trail entry. Keys are asked for before that transaction opens, since a new key is a
transaction of its own.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from compliance.access.identity import Identity
from compliance.access.rbac import Authority
from compliance.crypto.aead import Place
from compliance.crypto.keys import Keyring
from compliance.errors import (
    AccessDenied,
    InputError,
    IntegrityError,
    KeyDestroyed,
    RequestStateError,
    StalePlanError,
    TrailCorrupt,
)
from compliance.policy import Policy
from compliance.rights import subject as subjects
from compliance.rights.connectors.sql import SqlConnector
from compliance.rights.plan import Plan, StorePlan, digest_of
from compliance.rights.subject import Search, Subject
from compliance.rights.tables import RequestRow, RequestStep
from compliance.store import Store
from compliance.trail.entries import Event, Fact, canonical, stamp
from compliance.trail.log import Trail

REQUEST = RequestRow.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
STEP = RequestStep.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
Row = Any  # a row of compliance_request
NEXT = {
    "received": "identify",
    "identified": "plan",
    "planned": "approve",
    "approved": "run",
    "running": "run",
    "verifying": "verify",
    "closed": "certificate",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts that the steps share."""

    store: Store
    trail: Trail
    ring: Keyring
    policy: Policy
    authority: Authority
    clock: Callable[[], dt.datetime]

    # -- who and which --------------------------------------------------------------------

    def authorise(self, identity: Identity, request: str, action: str) -> None:
        """Return when the identity may; a refusal is in the trail.

        Raises:
            AccessDenied: it may not.
        """
        try:
            self.authority.require(identity, f"request/{request}", action)
        except AccessDenied:
            self.trail.append(self.event(action, identity, request, outcome="refused"))
            raise

    def enter(self, identity: Identity, request: str, action: str, states: set[str]) -> Row:
        """Return the request when the identity may and the state is one of these.

        Raises:
            AccessDenied: no role permits it.
            InputError: no such request.
            RequestStateError: another step is next.
        """
        self.authorise(identity, request, action)
        row = self.row(request)
        if row.state not in states:
            raise wrong_state(row)
        return row

    def row(self, request: str) -> Row:
        """Return the row of a request."""
        with self.store.reading() as connection:
            row = connection.execute(
                sa.select(REQUEST).where(REQUEST.c.id == request)
            ).one_or_none()
        if row is None:
            raise InputError("no request has this id; see `compliance request list`")
        return row

    def recorded(self, row: Row, step: str, column: str) -> dict[str, Any]:
        """Return the values of the last trail entry about a step of a request.

        Args:
            row: the request.
            step: such as ``approved``.
            column: where the row holds who did it.

        Raises:
            TrailCorrupt: there is none, or the row says another person than the trail.
        """
        values = None
        filters = {"event": f"request.{step}"}
        for entry in self.trail.read(filters=filters, newest_first=True):
            if entry.values["call"] == row.id:
                values = entry.values
                break
        if values is None or getattr(row, column) != values["actor"]:
            raise TrailCorrupt(
                f"request {row.id} was not {step} as its row says: the audit store was changed "
                "outside this package; see `compliance trail verify`"
            )
        return values

    # -- sealed parts -----------------------------------------------------------------------

    def _place(self, table: str, column: str, row: str) -> Place:
        return Place(self.ring.tenant, table, column, row=row)

    def seal_subject(self, subject: Subject, request: str) -> bytes:
        """Return the identifiers, sealed under the person's key."""
        key = self.ring.subject(*subject.primary)
        data = canonical(dict(subject.identifiers))
        return self.ring.seal(key, data, self._place("compliance_request", "subject", request))

    def subject(self, row: Row) -> Subject:
        """Return the person of an open request.

        Raises:
            KeyDestroyed: the person was erased under another request.
        """
        if row.subject is None:
            raise KeyDestroyed("the person of this request was erased")
        place = self._place("compliance_request", "subject", row.id)
        return Subject(json.loads(self.ring.open_sealed(row.subject, place)))

    def pseudonym(self, row: Row) -> str | None:
        """Return the person's name in the trail; None once it can no longer be computed."""
        try:
            return self.ring.pseudonym(*self.subject(row).primary)
        except KeyDestroyed:
            return None

    def seal_plan(self, plan: Plan, subject: Subject, generation: int) -> list[dict[str, Any]]:
        """Return the rows of a plan's steps."""
        key = self.ring.subject(*subject.primary)
        rows = []
        for position, store in enumerate(plan.stores):
            place = self._step_place(plan.request, generation, store.store)
            sealed = self.ring.seal(key, canonical(plan.secret(store)), place)
            rows.append(
                {
                    "request": plan.request,
                    "generation": generation,
                    "store": store.store,
                    "position": position,
                    "state": "pending",
                    "visible": canonical(store.visible()).decode(),
                    "sealed": sealed,
                }
            )
        return rows

    def _step_place(self, request: str, generation: int, store: str) -> Place:
        return self._place("compliance_request_step", "sealed", f"{request}/{generation}/{store}")

    def steps(self, row: Row, *, done: bool = False) -> list[Any]:
        """Return the steps of the plan in force, or all that were ever done."""
        which = STEP.c.state == "done" if done else STEP.c.generation == row.generation
        query = sa.select(STEP).where(STEP.c.request == row.id, which)
        with self.store.reading() as connection:
            return list(connection.execute(query.order_by(STEP.c.generation, STEP.c.position)))

    def secret(self, step: Any) -> dict[str, Any]:
        """Return the opened secret part of a step."""
        place = self._step_place(step.request, step.generation, step.store)
        secret: dict[str, Any] = json.loads(self.ring.open_sealed(step.sealed, place))
        return secret

    def store_plan(self, step: Any) -> StorePlan:
        """Return a step's part of its plan."""
        return StorePlan.join(json.loads(step.visible), self.secret(step)["plan"])

    def plan(self, row: Row) -> Plan:
        """Return the plan in force.

        Raises:
            IntegrityError: it is not the plan that was made.
            StalePlanError: the policy has changed since.
        """
        visible = json.loads(row.plan)
        if digest_of(visible) != row.digest:
            raise IntegrityError("the stored plan is not the one that was made: its digest differs")
        if visible["policy"] != self.policy.digest:
            raise StalePlanError("the policy changed since the plan was made: plan again")
        return Plan.join(visible, [self.secret(step) for step in self.steps(row)])

    # -- stores -----------------------------------------------------------------------------

    def connectors(self) -> dict[str, SqlConnector]:
        """Return a connector for each store of the data map."""
        return {name: SqlConnector(name, store) for name, store in self.policy.stores.items()}

    def retention(self, store: str) -> dict[str, str]:
        """Return the tables that a rule in force today keeps, with the ground."""
        today = self.clock().date()
        return {
            rule.table: f"{rule.basis}, {rule.article}"
            + (f", until {rule.until}" if rule.until else "")
            for rule in self.policy.retention.values()
            if rule.store == store and (rule.until is None or rule.until >= today)
        }

    def searches(self, subject: Subject) -> dict[str, Search]:
        """Return where and by what to look in each store.

        Subject tables that know none of the identifiers are searched by what the person's
        rows elsewhere say (one identifier, e-mail first).

        Raises:
            InputError: a whole store cannot be searched, so that nothing could be certified.
        """
        connectors = self.connectors()
        found = {n: subjects.searches(c.store, subject.identifiers) for n, c in connectors.items()}
        learned: dict[str, set[object]] = {}
        for name, search in found.items():
            for table, rows in (connectors[name].locate(search) if search else {}).items():
                _learn(learned, connectors[name], table, rows)
        for name, connector in connectors.items():
            for person in connector.store.subjects:
                more = subjects.learned_search(person, learned)
                if person.table not in found[name] and more:
                    found[name][person.table] = more
            if not found[name]:
                names = ", ".join(subjects.known_names([connector.store]))
                raise InputError(
                    f"store {name!r} knows a person only by {names}: submit one of them too"
                )
        return dict(found.items())

    # -- changes ----------------------------------------------------------------------------

    def event(
        self,
        step: str,
        identity: Identity,
        request: str,
        pseudonym: str | None = None,
        outcome: str | None = "ok",
        **facts: Fact,
    ) -> Event:
        """Return a trail entry about a request."""
        return Event(
            f"request.{step}",
            actor=identity.actor,
            method=identity.method.value,
            account=identity.account,
            on_behalf_of=identity.on_behalf_of,
            subject=pseudonym,
            call=request,
            policy=self.policy.digest or None,
            outcome=outcome,
            facts=facts,
        )

    def move(
        self,
        connection: sa.Connection,
        row: Row,
        event: Event,
        values: Mapping[str, Any],
    ) -> int:
        """Change the row and record it; return the entry's index.

        Raises:
            RequestStateError: another process changed the request in between.
        """
        same = [REQUEST.c[name] == getattr(row, name) for name in ("id", "state", "generation")]
        held = REQUEST.c.lease == row.lease if row.lease else REQUEST.c.lease.is_(None)
        if connection.execute(sa.update(REQUEST).where(*same, held).values(**values)).rowcount != 1:
            raise RequestStateError(
                f"request {row.id} was changed by another process; look at it again"
            )
        return self.trail.append_in(connection, event)

    def now(self) -> str:
        """Return the time as it is stored."""
        return stamp(self.clock())


def wrong_state(row: Row) -> RequestStateError:
    """Return the error that names the command which is next."""
    command = NEXT.get(row.state)
    advice = (
        f"next: `compliance request {command} {row.id}`" if command else "nothing is left to do"
    )
    return RequestStateError(f"request {row.id} is {row.state}; {advice}")


def _learn(
    learned: dict[str, set[object]], connector: SqlConnector, table: str, rows: list[dict[str, Any]]
) -> None:
    for person in connector.store.subjects:
        if person.table == table:
            for column in person.identifiers:
                values = {row[column] for row in rows if row[column] is not None}
                learned.setdefault(subjects.normal_name(column), set()).update(values)
