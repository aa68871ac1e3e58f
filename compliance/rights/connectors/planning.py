"""From decisions to steps: counted, ordered, with the SQL that will run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from compliance import policy
from compliance import store as stores
from compliance.errors import InputError
from compliance.findings import Severity
from compliance.rights import closure, datamap, subject
from compliance.rights.closure import Ref
from compliance.rights.connectors import Rows, schema
from compliance.rights.connectors.session import Session
from compliance.rights.plan import Action, Key, Link, Step, StorePlan
from compliance.rights.subject import Search


def plan_store(
    session: Session, search: Search, retention: Mapping[str, str], kind: str
) -> StorePlan:
    """Return what a request touches, in order; nothing is written.

    Args:
        session: a transaction on the store.
        search: table -> column -> values that identify the person.
        retention: by table, the ground on which rows must stay.
        kind: ``access`` reads, ``erasure`` erases.

    Raises:
        InputError: an edge has no meaning, or the map does not fit the live schema.
    """
    require_meaning(session)
    for table in retention:
        session.tables[table]  # a rule for a table that is not there protects nothing: say so
    located = session.locate(search)
    planner = _Planner(session)
    graph = closure.Graph(planner.schema())
    persons = [graph.add(table, row) for table, rows in located.items() for row in rows]
    graph.reach(persons, session.fetch)
    if kind == "access":
        steps = planner.reads(graph, closure.members(graph, persons))
    else:
        steps = planner.erasure(graph, closure.decide(graph, persons, retention))
    unsearched = tuple(sorted(session.persons - search.keys()))
    return StorePlan(
        session.name, tuple(steps), search, _needles(session, search, located), unsearched
    )


def require_meaning(session: Session) -> None:
    """Return when no edge and no name of the map stands in the way of a plan.

    Raises:
        InputError: what must be completed first.
    """
    source = stores.describe(session.connection.engine.url)
    faults = datamap.faults(session.store, session.tables, source)
    grave = [f.message for f in faults if f.severity >= Severity.HIGH]
    if grave:
        raise InputError("the data map must be completed first:\n" + "\n".join(grave[:10]))


def readable(session: Session, table: str) -> list[sa.Column[Any]]:
    """Return the columns without those that name a third person."""
    hidden = {
        column
        for link in session.links
        if link.child == table
        and link.parent in session.persons
        and link.meaning is not policy.Meaning.OWNED
        for column in link.child_columns
    }
    return [c for c in session.tables[table].columns if c.name not in hidden]


def _needles(session: Session, search: Search, located: Rows) -> tuple[str, ...]:
    values = [v for columns in search.values() for vs in columns.values() for v in vs]
    for person in session.store.subjects:
        for row in located.get(person.table, ()):
            values += [row[c] for c in person.identifiers]
    return tuple(needle.value for needle in subject.needles(values))


class _Planner:
    """Turns the rows of a decision into steps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.store = session.store
        self.tables = session.tables

    def schema(self) -> closure.Schema:
        """Return what the decisions need to know."""
        session = self.session
        return closure.Schema(session.links, session.key, session.persons, self._detachable)

    def _detachable(self, link: Link) -> tuple[str, ...]:
        key, table = self.tables.key(link.child), self.tables[link.child]
        return tuple(c for c in link.child_columns if table.c[c].nullable and c not in key)

    def reads(self, graph: closure.Graph, rows: set[Ref]) -> Iterator[Step]:
        """Yield a step for each table of the person's rows."""
        for table, refs in _grouped(rows).items():
            query = sa.select(*readable(self.session, table)).where(self._template(table))
            reason = "the person's own row or owned by it"
            yield self._step(graph, table, Action.READ, refs, reason, query)

    def erasure(self, graph: closure.Graph, decision: closure.Decision) -> Iterator[Step]:
        """Yield the steps of an erasure: let go, open circles, anonymise, delete children first."""
        layers, cut = closure.levels(graph, decision.delete)
        for link, pairs in sorted(decision.detach.items(), key=lambda item: str(item[0])):
            yield self._detach(graph, link, pairs)
        for link, children in sorted(cut.items(), key=lambda item: str(item[0])):
            reason = f"{link}: opened, so that the rows can be deleted"
            yield self._unlink(graph, link, children, reason)
        yield from self._staying(graph, decision)
        for layer in layers:
            for table, refs in _grouped(layer).items():
                query = sa.delete(self.tables[table]).where(self._template(table))
                yield self._step(graph, table, Action.DELETE, refs, "about the person", query)

    def _detach(self, graph: closure.Graph, link: Link, pairs: Mapping[Ref, set[Ref]]) -> Step:
        parents = {ref for refs in pairs.values() for ref in refs}
        values = {tuple(graph.rows[ref][c] for c in link.parent_columns) for ref in parents}
        reason = f"{link.meaning}: the row is not the person's alone; it is kept without the link"
        return self._unlink(graph, link, set(pairs), reason, Action.DETACH, tuple(values))

    def _unlink(
        self,
        graph: closure.Graph,
        link: Link,
        refs: set[Ref],
        reason: str,
        action: Action = Action.UNLINK,
        parents: tuple[Key, ...] = (),
    ) -> Step:
        columns = self._detachable(link)
        query = sa.update(self.tables[link.child]).values(dict.fromkeys(columns))
        extra = {"columns": columns, "match": link.child_columns, "parents": parents}
        return self._step(
            graph,
            link.child,
            action,
            refs,
            reason,
            query.where(self._template(link.child)),
            **extra,
        )

    def _staying(self, graph: closure.Graph, decision: closure.Decision) -> Iterator[Step]:
        groups: dict[tuple[str, str], set[Ref]] = {}
        for ref, ground in decision.retained.items():
            groups.setdefault((ref[0], ground), set()).add(ref)
        for ref, link in decision.pinned.items():
            ground = (
                f"{link.child}.{','.join(link.child_columns)} must point here and may not be NULL"
            )
            groups.setdefault((ref[0], ground), set()).add(ref)
        for (table, ground), refs in sorted(groups.items(), key=lambda item: item[0]):
            yield self._anonymise(graph, table, refs, ground)

    def _anonymise(self, graph: closure.Graph, table: str, refs: set[Ref], ground: str) -> Step:
        columns = self.store.personal.get(table, ())
        if not columns:
            if table in self.session.persons:
                raise InputError(
                    f"{table}: the person's row must stay ({ground}); "
                    f"list under personal what is to be anonymised in it"
                )
            return self._step(graph, table, Action.KEEP, refs, ground, None)
        live = self.tables[table]
        constants = {c: _constants(live.c[c], len(refs)) for c in columns}
        query = sa.update(live).values(_template_values(columns)).where(self._template(table))
        extra = {"columns": tuple(columns), "constants": constants}
        return self._step(graph, table, Action.ANONYMISE, refs, ground, query, **extra)

    def _step(
        self,
        graph: closure.Graph,
        table: str,
        action: Action,
        refs: Collection[Ref],
        reason: str,
        query: sa.ClauseElement | None,
        **extra: Any,
    ) -> Step:
        keys = tuple(sorted((key for _table, key in refs), key=repr))
        sql = "" if query is None else str(query.compile(dialect=self.session.connection.dialect))
        return Step(
            table,
            action,
            graph.count(refs),
            reason,
            self.session.key(table),
            sql=sql,
            keys=keys,
            **extra,
        )

    def _template(self, table: str) -> sa.ColumnElement[bool]:
        return schema.template(self.tables[table], self.session.key(table))


def _grouped(refs: Collection[Ref]) -> dict[str, set[Ref]]:
    groups: dict[str, set[Ref]] = {}
    for ref in sorted(refs, key=lambda r: r[0]):
        groups.setdefault(ref[0], set()).add(ref)
    return groups


def _constants(column: sa.Column[Any], rows: int) -> tuple[Any, ...]:
    """Return NULL, one constant, or where values must be unique one for each row."""
    if column.nullable:
        return (None,)
    many = rows if schema.is_unique(column) else 1
    return tuple(schema.constant(column) for _row in range(many))


def _template_values(columns: Collection[str]) -> dict[str, Any]:
    """Return bind parameters to show in place of constants."""
    return {
        c: sa.bindparam(f"constant_{i}", type_=sa.types.NullType()) for i, c in enumerate(columns)
    }
