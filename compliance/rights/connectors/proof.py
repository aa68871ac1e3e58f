"""Proof that nothing is left: planned keys, the first identifiers, and every text column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from compliance.rights import subject
from compliance.rights.connectors import schema
from compliance.rights.connectors.schema import chunks, condition
from compliance.rights.connectors.session import Session
from compliance.rights.plan import Action, Step, StorePlan

PAGE = 1_000
_FEW = 10  # more conditions on every column cost the database more than reading them costs us


def left(session: Session, plan: StorePlan) -> Counter[str]:
    """Return what a carried-out plan would not have left."""
    counts: Counter[str] = Counter()
    for step in plan.steps:
        live = session.tables[step.table]
        for name, query in _questions(live, step):
            counts[name] += session.connection.execute(query).scalar_one()
    return +counts


def _questions(live: sa.Table, step: Step) -> Iterator[tuple[str, sa.Select[Any]]]:
    count = sa.select(sa.func.count()).select_from(live)
    for start in range(0, len(step.keys), schema.CHUNK):
        keys = step.keys[start : start + schema.CHUNK]
        here = count.where(condition(live, step.key_columns, keys))
        if step.action is Action.DELETE:
            yield step.table, here
        elif step.action is Action.DETACH:
            for parents in chunks(step.parents):
                name = f"{step.table}.{','.join(step.match)}"
                yield name, here.where(condition(live, step.match, parents))
        elif step.action is Action.ANONYMISE:
            yield from _unmasked(live, step, here, start)


def _unmasked(
    live: sa.Table, step: Step, here: sa.Select[Any], start: int
) -> Iterator[tuple[str, sa.Select[Any]]]:
    """Yield the count of cells that do not hold the planned constant."""
    for column, values in step.constants.items():
        name = f"{step.table}.{column}"
        if len(values) == 1:
            yield name, here.where(_differs(live.c[column], values[0]))
            continue
        for key, value in zip(
            step.keys[start:], values[start : start + schema.CHUNK], strict=False
        ):
            one = condition(live, step.key_columns, [key])
            yield name, here.where(one, _differs(live.c[column], value))


def found_again(session: Session, plan: StorePlan) -> Counter[str]:
    """Return rows that the first identifiers still find, besides those anonymised."""
    known = {(s.table, key) for s in plan.steps if s.action is Action.ANONYMISE for key in s.keys}
    counts: Counter[str] = Counter()
    for table, rows in session.locate(plan.search, whole=False).items():
        refs = {(table, tuple(row[c] for c in session.key(table))) for row in rows}
        counts[table] += len(refs - known)
    return +counts


def residue(session: Session, plan: StorePlan) -> Counter[str]:
    """Return the cells that hold one of the plan's values, in any text column of any table."""
    needles = [subject.Needle(value) for value in plan.needles]
    counts: Counter[str] = Counter()
    for table in session.tables if needles else ():
        columns = [c for c in session.tables[table].columns if schema.holds_text(c)]
        if columns:
            counts += _residue(session, table, columns, needles)
    return counts


def _residue(
    session: Session, table: str, columns: list[sa.Column[Any]], needles: list[subject.Needle]
) -> Counter[str]:
    texts = [_as_text(c) for c in columns]
    query = sa.select(*texts)
    if len(needles) <= _FEW and all(needle.prefilter for needle in needles):
        tests = [
            sa.func.lower(t).contains(n.prefilter, autoescape=True) for t in texts for n in needles
        ]
        query = query.where(sa.or_(*tests))
    counts: Counter[str] = Counter()
    matcher = subject.Matcher(needles)
    for row in session.connection.execute(query.execution_options(yield_per=PAGE)):
        for column, value in zip(columns, row, strict=True):
            if value is not None and matcher.found(_text(value)):
                counts[f"{table}.{column.name}"] += 1
    return counts


def _differs(column: sa.Column[Any], value: Any) -> sa.ColumnElement[bool]:
    if value is None:
        return column.is_not(None)
    if isinstance(column.type, sa.JSON):
        return sa.or_(column.is_(sa.null()), sa.cast(column, sa.Text) != "{}")
    return sa.or_(column.is_(None), column != value)


def _as_text(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    plain = isinstance(schema.declared(column), sa.String) or "declared" in column.info
    return column if plain else sa.cast(column, sa.Text)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
