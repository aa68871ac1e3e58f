"""SQLAlchemy databases: SQLite, PostgreSQL, MariaDB and MySQL.

One transaction a method. An erasure repeats the planning inside its own serialisable
transaction and goes on only where it finds the very rows that were approved; it counts
every statement and looks again before it commits. Values travel as parameters and
names through reflected tables: no statement is put together from text.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from compliance import policy
from compliance import store as stores
from compliance.errors import OperationError, StalePlanError
from compliance.rights.connectors import Rows, proof, schema, values
from compliance.rights.connectors.planning import plan_store, readable
from compliance.rights.connectors.schema import chunks, condition
from compliance.rights.connectors.session import Session
from compliance.rights.plan import Action, Step, StorePlan
from compliance.rights.subject import Search


class SqlConnector:
    """One database of the data map."""

    def __init__(self, name: str, store: policy.Store) -> None:
        self.name = name
        self.store = store

    def locate(self, search: Search) -> Rows:
        """Return the person's own rows: table -> columns that identify.

        Raises:
            InputError: the identifiers point to different persons, or the map does not fit.
            StoreError: the database cannot be reached.
        """
        with self._session() as session:
            return session.locate(search)

    def plan(self, search: Search, retention: Mapping[str, str], kind: str) -> StorePlan:
        """Return what a request would touch.

        Raises:
            InputError: an edge has no meaning, or the map does not fit the live schema.
            StoreError: the database cannot be reached.
        """
        with self._session() as session:
            plan = plan_store(session, search, retention, kind)
            if kind == "access":
                return plan
            unsearched = (*plan.unsearched, *values.unread(session))
            return replace(plan, needles=values.learn(session, plan), unsearched=unsearched)

    def read(self, plan: StorePlan) -> Rows:
        """Return the person's rows, JSON-able, without columns about third persons.

        Raises:
            StalePlanError: the rows are no longer those of the plan.
        """
        with self._session() as session:
            if not plan_store(session, plan.search, {}, "access").same_rows(plan):
                raise _stale(self.name)
            return _read(session, plan)

    def erase(
        self, plan: StorePlan, retention: Mapping[str, str], *, commit: bool, resumed: bool = False
    ) -> bool:
        """Carry the plan out in one transaction, or roll it back after counting.

        Args:
            plan: what was approved.
            retention: the rules in force now, by table.
            commit: False rolls the same work back.
            resumed: an earlier run may have committed here: then nothing is done again.

        Returns:
            False when an interrupted earlier run had done it already.

        Raises:
            StalePlanError: the rows are not those of the plan; rolled back.
            StoreError: the database cannot be reached or refused; rolled back.
        """
        with self._session(write=True) as session:
            if resumed and not proof.left(session, plan):
                return False
            if not plan_store(session, plan.search, retention, "erasure").same_rows(plan):
                raise _stale(self.name)
            for step in plan.steps:
                _execute(session, step)
            if proof.left(session, plan):
                raise OperationError(
                    f"{self.name}: rows came back within the transaction; look for triggers"
                )
            if not commit:
                session.transaction.rollback()
        if commit:
            self._checkpoint()
        return True

    def verify(self, plan: StorePlan) -> dict[str, int]:
        """Return what is left, by table or table.column.

        Planned keys are looked up, the person is searched again, and every text column of
        every table is read for the identifying and personal values that the plan holds.
        """
        with self._session() as session:
            rows = proof.left(session, plan) | proof.found_again(session, plan)
            return dict(rows | proof.residue(session, plan))

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Session]:
        engine = schema.open_engine(self.store.url)
        options: dict[str, Any] = {"rights_writes": write}
        if write and engine.dialect.name != "sqlite":
            options["isolation_level"] = "SERIALIZABLE"
        try:
            with stores.translated(engine.url), engine.connect() as plain:
                connection = plain.execution_options(**options)
                with connection.begin() as transaction:
                    yield Session(self.name, self.store, connection, transaction)
        finally:
            engine.dispose()

    def _checkpoint(self) -> None:
        """Write SQLite's log back, so that no old page stays in it."""
        engine = schema.open_engine(self.store.url)
        try:
            if engine.dialect.name == "sqlite":
                with stores.translated(engine.url), engine.connect() as connection:
                    raw = connection.connection.dbapi_connection
                    assert raw is not None  # noqa: S101  the connection is open
                    raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            engine.dispose()


def _stale(name: str) -> StalePlanError:
    return StalePlanError(
        f"{name}: the data changed since the plan was approved; nothing was written: plan again"
    )


def _read(session: Session, plan: StorePlan) -> Rows:
    rows: Rows = {}
    for step in plan.steps:
        live = session.tables[step.table]
        query = sa.select(*readable(session, step.table))
        for chunk in chunks(step.keys):
            found = session.connection.execute(
                query.where(condition(live, step.key_columns, chunk))
            )
            rows.setdefault(step.table, []).extend(
                {name: _jsonable(value) for name, value in row.items()} for row in found.mappings()
            )
    return rows


def _execute(session: Session, step: Step) -> None:
    """Carry out a step; a count that differs from the plan's ends the transaction."""
    if step.action in {Action.KEEP, Action.READ}:
        return
    live = session.tables[step.table]
    done = sum(session.connection.execute(query).rowcount for query in _statements(live, step))
    if done != step.rows:
        raise _stale(session.name)


def _statements(live: sa.Table, step: Step) -> Iterator[sa.Delete | sa.Update]:
    if any(len(values) > 1 for values in step.constants.values()):
        for i, key in enumerate(step.keys):
            cells = {c: vs[i if len(vs) > 1 else 0] for c, vs in step.constants.items()}
            yield sa.update(live).values(cells).where(condition(live, step.key_columns, [key]))
        return
    for chunk in chunks(step.keys):
        where = condition(live, step.key_columns, chunk)
        if step.action is Action.DELETE:
            yield sa.delete(live).where(where)
        elif step.action is Action.ANONYMISE:
            yield sa.update(live).values({c: v[0] for c, v in step.constants.items()}).where(where)
        else:
            yield sa.update(live).values(dict.fromkeys(step.columns)).where(where)


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | decimal.Decimal):
        return value if isinstance(value, float) and math.isfinite(value) else str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    return [_jsonable(v) for v in value] if isinstance(value, list | tuple | set) else str(value)
