"""Verification by re-query, and the end of a request: certificate, key destroyed.

Nothing is closed on the word of the run: every planned key is looked up, the person is
searched by the first identifiers again, and every text column is read for their values.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from compliance.access.identity import Identity
from compliance.crypto.custody import key_facts
from compliance.errors import VerificationFailed
from compliance.rights import certificate
from compliance.rights.desk import REQUEST, STEP, Desk, Row
from compliance.rights.plan import Action, StorePlan
from compliance.trail import log

Done = list[tuple[Any, StorePlan]]


def prove(desk: Desk, row: Row, identity: Identity) -> dict[str, Any]:
    """Re-query every store; close the request and return its certificate when nothing is left.

    Raises:
        VerificationFailed: something is left; counts by table and column, and no value.
        StoreError: a store cannot be reached; the request stays ``verifying``.
    """
    done = [(step, desk.store_plan(step)) for step in desk.steps(row, done=True)]
    left = _left(desk, row, done)
    if left:
        _record_failure(desk, row, identity, left)
        raise VerificationFailed(_message(row, left))
    return _close(desk, row, identity, done)


def _left(desk: Desk, row: Row, done: Done) -> dict[str, int]:
    connectors = desk.connectors()
    found: dict[str, int] = {}
    for step, plan in done:
        connector = connectors[step.store]
        if row.kind == "erasure":
            left = connector.verify(plan)
        elif step.generation == row.generation:
            left = _changed(plan, connector.plan(plan.search, {}, "access"))
        else:
            continue
        found |= {f"{step.store}.{place}": n for place, n in left.items()}
    return found


def _changed(planned: StorePlan, now: StorePlan) -> dict[str, int]:
    """Return the tables whose rows are no longer those that were handed out."""
    before = {step.table: set(step.keys) for step in planned.steps}
    after = {step.table: set(step.keys) for step in now.steps}
    changed = {
        t: len(before.get(t, set()) ^ after.get(t, set())) for t in before.keys() | after.keys()
    }
    return {table: n for table, n in changed.items() if n}


def _record_failure(desk: Desk, row: Row, identity: Identity, left: dict[str, int]) -> None:
    facts = {"places": len(left), "cells": sum(left.values())}
    pseudonym = desk.pseudonym(row)
    desk.trail.append(desk.event("verified", identity, row.id, pseudonym, "failed", **facts))


def _message(row: Row, left: dict[str, int]) -> str:
    places = ", ".join(f"{place}: {n}" for place, n in sorted(left.items())[:20])
    if row.kind == "access":
        return f"the data changed since they were read ({places}); plan the request again"
    return (
        f"something of the person is left ({places}). Plan the request again where rows are new; "
        "remove by hand what stands in free text; then verify again"
    )


# -- closing -----------------------------------------------------------------------------


def _close(desk: Desk, row: Row, identity: Identity, done: Done) -> dict[str, Any]:
    """Record the end, sign the certificate and, after an erasure, destroy the person's key.

    All in one transaction: a certificate exists if and only if the request is closed, and
    then nothing of the person can be opened any more.
    """
    keys = _keys_to_destroy(desk, row, done) if row.kind == "erasure" else []
    for kind, identifier in keys:
        desk.ring.reference(kind, identifier)  # the lookup key, before our transaction opens
    signer, pseudonym = desk.ring.signer(), desk.pseudonym(row)
    now = desk.now()
    event = desk.event("closed", identity, row.id, pseudonym, plan=row.digest)
    with desk.store.writing() as connection:
        for facts in key_facts(_destroyed(desk, connection, keys)):
            entry = desk.event("keys-destroyed", identity, row.id, pseudonym, **facts)
            desk.trail.append_in(connection, entry)
        values = {"state": "closed", "closed": now, "subject": None, "open_reference": None}
        index = desk.move(connection, row, event, values)
        head = log.stored_head(connection)
        predicate = _predicate(desk, row, done, now)
        predicate["trail"] = {"index": index, "checkpoint": head.note}
        content = certificate.statement(row.id, row.digest, predicate)
        envelope = certificate.sign(content, signer)
        mine = REQUEST.c.id == row.id
        connection.execute(sa.update(REQUEST).where(mine).values(certificate=json.dumps(envelope)))
        connection.execute(sa.update(STEP).where(STEP.c.request == row.id).values(sealed=None))
    return envelope


def _destroyed(desk: Desk, connection: sa.Connection, keys: list[tuple[str, object]]) -> list[int]:
    """Destroy the persons' keys; return the ids of what is gone."""
    gone = [desk.ring.destroy_subject(connection, kind, identifier) for kind, identifier in keys]
    return [key_id for ids in gone for key_id in ids]


def _keys_to_destroy(desk: Desk, row: Row, done: Done) -> list[tuple[str, object]]:
    """Return the request's own subject, and the persons that data sets know by a row's key."""
    found: list[tuple[str, object]] = [desk.subject(row).primary]
    for step, plan in done:
        for person in desk.policy.store(step.store).subjects:
            if person.subject_type:
                rows = _person_rows(plan, person.table, person.key)
                found += [(person.subject_type, key) for key in rows]
    return found


def _person_rows(plan: StorePlan, table: str, key: str) -> list[object]:
    erased = {Action.DELETE, Action.ANONYMISE}
    return [
        values[0]
        for step in plan.steps
        if step.table == table and step.action in erased and step.key_columns == (key,)
        for values in step.keys
    ]


def _predicate(desk: Desk, row: Row, done: Done, now: str) -> dict[str, Any]:
    regulation = desk.policy.regulations[row.regulation]
    return {
        "request": row.id,
        "kind": row.kind,
        "regulation": {
            "id": row.regulation,
            "name": regulation.name,
            "article": regulation.article,
        },
        "received": row.received,
        "due": row.due,
        "closed": now,
        "plan": {"sha256": row.digest, "generation": row.generation},
        "policy": {"sha256": desk.policy.digest},
        "stores": [_store(step, plan) for step, plan in done],
        "nothing_found": not any(plan.counts() for _step, plan in done),
        "verification": _verification(row, done),
    }


def _store(step: Any, plan: StorePlan) -> dict[str, Any]:
    kept = {Action.KEEP, Action.ANONYMISE, Action.DETACH}
    return {
        "store": step.store,
        "finished": step.finished,
        "counts": plan.counts(),
        "unsearched": list(plan.unsearched),
        "staying": [
            {"table": s.table, "action": s.action.value, "rows": s.rows, "reason": s.reason}
            for s in plan.steps
            if s.action in kept
        ],
    }


def _verification(row: Row, done: Done) -> dict[str, Any]:
    if row.kind == "access":
        return {"planned_rows": "all handed out"}
    return {
        "planned_keys": "none left",
        "first_identifiers": "nothing found",
        "text_columns": "no value left",
        "values_searched": len({value for _step, plan in done for value in plan.needles}),
        "other_rows_unchanged": "not proved",
    }
