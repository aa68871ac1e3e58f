"""Values that name a person: learned from their rows before these go, looked for afterwards.

A value that another person's own row holds too (a namesake, a household's street) would
find that person: it is dropped while both rows are still there to be compared.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from compliance.policy import Meaning
from compliance.rights import subject
from compliance.rights.connectors import schema
from compliance.rights.connectors.schema import chunks, condition
from compliance.rights.connectors.session import Session
from compliance.rights.datamap import words
from compliance.rights.plan import Action, Step, StorePlan

PAGE = 1_000
# What many people have in common, whoever happens to be the only one here.
_MANY = frozenset(
    [
        "birth",
        "birthdate",
        "birthday",
        "born",
        "city",
        "company",
        "country",
        "county",
        "dob",
        "employer",
        "latitude",
        "longitude",
        "postal",
        "postalcode",
        "postcode",
        "province",
        "region",
        "state",
        "town",
        "zip",
        "zipcode",
    ]
)
_FIRST = re.compile(r"(^|_)(first|given|fore)_?name(_|$)")
_LAST = re.compile(r"(^|_)(last|family|sur)_?name(_|$)")


def learn(session: Session, plan: StorePlan) -> tuple[str, ...]:
    """Return the plan's needles, with the specific personal values of the rows it erases.

    Args:
        session: a transaction in which these rows are still there.
        plan: an erasure.
    """
    steps = [s for s in plan.steps if s.action in {Action.DELETE, Action.ANONYMISE}]
    found = {text for step in steps for text in _erased(session, step)}
    needles = set(subject.specific(found))
    if needles:
        needles -= _shared(session, plan, subject.Matcher(needles))
    return tuple(sorted({*plan.needles, *(needle.value for needle in needles)}))


def unread(session: Session) -> list[str]:
    """Return the binary columns, as ``table.column``: nothing is looked for in them."""
    return [
        f"{table}.{column.name}"
        for table in session.tables
        for column in session.tables[table].columns
        if schema.is_binary(column)
    ]


def _erased(session: Session, step: Step) -> Iterator[str]:
    live, columns = session.tables[step.table], _columns(session, step.table)
    for chunk in chunks(step.keys) if columns else ():
        query = sa.select(*columns).where(condition(live, step.key_columns, chunk))
        for row in session.connection.execute(query).mappings():
            yield from _texts(row, columns)


def _columns(session: Session, table: str) -> list[sa.Column[Any]]:
    live = session.tables[table]
    return [
        live.c[name]
        for name in session.store.personal.get(table, ())
        if schema.holds_text(live.c[name]) and not set(words(name).split("_")) & _MANY
    ]


def _texts(row: sa.RowMapping, columns: Sequence[sa.Column[Any]]) -> Iterator[str]:
    """Yield the texts of a row, and the name put together where it stands in two columns."""
    texts = {c.name: row[c.name] for c in columns if isinstance(row[c.name], str)}
    yield from texts.values()
    first = [text for name, text in texts.items() if _FIRST.search(words(name))]
    last = [text for name, text in texts.items() if _LAST.search(words(name))]
    for one, other in itertools.product(first, last):
        yield from (f"{one} {other}", f"{other} {one}") if one.strip() and other.strip() else ()


def _shared(session: Session, plan: StorePlan, matcher: subject.Matcher) -> set[subject.Needle]:
    """Return the needles that rows of other persons hold."""
    about = {Action.DELETE, Action.ANONYMISE, Action.KEEP}  # a row let go of is another person's
    mine = {(s.table, key) for s in plan.steps if s.action in about for key in s.keys}
    found: set[subject.Needle] = set()
    for table, owned in _of_persons(session).items():
        columns = _columns(session, table)
        if not columns:
            continue
        live, key = session.tables[table], session.key(table)
        wanted = {c.name: c for c in (*(live.c[name] for name in key), *columns)}
        query = sa.select(*wanted.values()).where(owned)
        for row in session.connection.execute(query.execution_options(yield_per=PAGE)).mappings():
            if (table, tuple(row[name] for name in key)) not in mine:
                for text in _texts(row, columns):
                    found |= matcher.found(text)
    return found


def _of_persons(session: Session) -> dict[str, sa.ColumnElement[bool]]:
    """Return the tables whose rows are persons or owned by one, with the condition for it."""
    found: dict[str, sa.ColumnElement[bool]] = {table: sa.true() for table in session.persons}
    owned = [link for link in session.links if link.meaning is Meaning.OWNED]
    for _round in owned:
        for link in owned:
            if link.parent in found and link.child not in session.persons:
                live = session.tables[link.child]
                hangs = sa.and_(*(live.c[name].is_not(None) for name in link.child_columns))
                found.setdefault(link.child, hangs)
    return found
