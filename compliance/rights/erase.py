"""Carrying a plan out: rehearsed everywhere, then store by store, each in one transaction.

Where a crash can fall: before a store's commit nothing happened there; after it, its
step still says ``started``, and the next run finds the planned rows gone and marks it
done. No step is done twice, and no request leaves ``running`` before every step is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from compliance.access.identity import Identity
from compliance.errors import IntegrityError, RequestStateError, StalePlanError
from compliance.rights import lease
from compliance.rights.connectors import Rows
from compliance.rights.desk import STEP, Desk, Row
from compliance.rights.plan import Counts


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did, or in a dry run would do.

    Attributes:
        counts: rows by store, table and action.
        data: for an access request, the person's rows by store and table.
        dry_run: whether everything was rolled back.
    """

    counts: dict[str, Counts]
    dry_run: bool
    data: dict[str, Rows] = field(default_factory=dict, repr=False)


def rehearse(desk: Desk, row: Row, identity: Identity) -> Ran:
    """Carry the plan out in every store and roll it back; the trail says that it was done.

    Raises:
        StalePlanError: the rows are no longer those of the plan.
        StoreError: a store cannot be reached.
    """
    plan = desk.plan(row)
    pseudonym = desk.pseudonym(row)
    _rehearse(desk, row)
    desk.trail.append(desk.event("rehearsed", identity, row.id, pseudonym, plan=plan.digest))
    return Ran(plan.counts(), dry_run=True)


def perform(desk: Desk, row: Row, identity: Identity) -> Ran:
    """Carry the plan out, or what an interrupted run left of it.

    Raises:
        StalePlanError: the data or the policy changed; the request is back at ``identified``.
        StoreError: a store cannot be reached; the request stays ``running``.
        RequestStateError: another process runs it.
        IntegrityError: the plan is not the one that was approved.
    """
    pseudonym = desk.pseudonym(row)
    row = lease.claim(desk, row, desk.event("running", identity, row.id, pseudonym, outcome=None))
    with _held(desk, row, identity, pseudonym):
        _require_approved(desk, row)
        plan = desk.plan(row)
        data = _read(desk, row) if row.kind == "access" else {}
        if row.kind == "erasure":
            _rehearse(desk, row)
        for step in desk.steps(row):
            if step.state != "done":
                _carry_out(desk, row, step, identity, pseudonym)
        _finish(desk, row, identity, pseudonym)
    return Ran(plan.counts(), dry_run=False, data=data)


@contextmanager
def _held(desk: Desk, row: Row, identity: Identity, pseudonym: str | None) -> Iterator[None]:
    """Give the lease back however it ends; a stale plan goes back to be planned again."""
    try:
        yield
    except StalePlanError:
        event = desk.event("stale", identity, row.id, pseudonym, outcome="failed")
        with desk.store.writing() as connection:
            desk.move(connection, row, event, {"state": "identified", **lease.NONE})
        raise
    finally:
        lease.release(desk, row)


def _require_approved(desk: Desk, row: Row) -> None:
    """The trail, not the row, says which plan was approved, and by two persons."""
    submitter = desk.recorded(row, "received", "submitter")["actor"]
    approved = desk.recorded(row, "approved", "approver")
    if approved["actor"] == submitter or approved["facts"]["plan"] != row.digest:
        raise IntegrityError(
            "the plan is not the one that was approved according to the trail; "
            f"plan it again where no step was done: `compliance request plan {row.id}`"
        )


def _rehearse(desk: Desk, row: Row) -> None:
    connectors = desk.connectors()
    for step in desk.steps(row):
        plan, connector = desk.store_plan(step), connectors[step.store]
        if row.kind == "access":
            connector.read(plan)
        elif step.state != "done":
            rules = desk.retention(step.store)
            connector.erase(plan, rules, commit=False, resumed=step.state == "started")


def _read(desk: Desk, row: Row) -> dict[str, Rows]:
    connectors = desk.connectors()
    return {s.store: connectors[s.store].read(desk.store_plan(s)) for s in desk.steps(row)}


def read_again(desk: Desk, row: Row) -> Ran:
    """Return the rows of an access request that has run but is not closed."""
    plan = desk.plan(row)
    return Ran(plan.counts(), dry_run=False, data=_read(desk, row))


def _carry_out(desk: Desk, row: Row, step: Any, identity: Identity, pseudonym: str | None) -> None:
    plan = desk.store_plan(step)
    rows = sum(n for actions in plan.counts().values() for n in actions.values())
    intent = desk.event("step", identity, row.id, pseudonym, None, store=step.store, rows=rows)
    _mark(desk, row, step, intent, state="started")
    if row.kind == "erasure":
        connector = desk.connectors()[step.store]
        rules = desk.retention(step.store)
        # Commit point of the store. A crash from here to the mark leaves ``started``.
        connector.erase(plan, rules, commit=True, resumed=step.state == "started")
    done = desk.event("step", identity, row.id, pseudonym, store=step.store, rows=rows)
    _mark(desk, row, step, done, state="done", finished=desk.now())


def _mark(desk: Desk, row: Row, step: Any, event: Any, **values: Any) -> None:
    """Change a step and record it, as long as the lease is ours."""
    same = [STEP.c[name] == getattr(step, name) for name in ("request", "generation", "store")]
    with desk.store.writing() as connection:
        lease.renew(desk, row, connection)
        changed = sa.update(STEP).where(*same, STEP.c.state != "done").values(**values)
        if connection.execute(changed).rowcount != 1:
            raise RequestStateError(f"request {row.id}: the step in {step.store} is done already")
        desk.trail.append_in(connection, event)


def _finish(desk: Desk, row: Row, identity: Identity, pseudonym: str | None) -> None:
    event = desk.event("verifying", identity, row.id, pseudonym)
    with desk.store.writing() as connection:
        desk.move(connection, row, event, {"state": "verifying", **lease.NONE})
