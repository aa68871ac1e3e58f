"""Which rows belong to a person, and what must happen to each: pure decisions over a graph.

A foreign key is not ownership. The graph holds the person's rows and every row that
points to one of them; the meaning of each link, confirmed by people in the data map,
decides. Rows are fetched through a small function, so that no SQL stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compliance.errors import InputError
from compliance.policy import Meaning
from compliance.rights.plan import Key, Link
from compliance.rights.subject import tokens

Ref = tuple[str, Key]
Row = Mapping[str, Any]
Fetch = Callable[[str, tuple[str, ...], Collection[Key]], Iterator[Row]]
_KEPT_BUT_DETACHED = frozenset({Meaning.ACTED, Meaning.SHARED, Meaning.CO_OWNED})


@dataclass(frozen=True, slots=True)
class Schema:
    """What the decisions need to know of a store.

    Attributes:
        links: every link with a meaning.
        keys: the columns that identify a row, by table.
        subjects: the tables whose rows are persons.
        detachable: the columns of a link's child that may be set to NULL; empty: it is fixed.
    """

    links: tuple[Link, ...]
    keys: Callable[[str], tuple[str, ...]]
    subjects: frozenset[str]
    detachable: Callable[[Link], tuple[str, ...]]


class _Groups(dict[tuple[str, ...], list[Ref]]):
    """Rows by the values of some columns, as a database compares them, and the values as stored."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: set[Key] = set()


def _alike(row: Row, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is equal wherever a database may see a link: MariaDB ignores case and accents.

    Only rows that the database returned are compared, so that nothing is linked that it did not.
    """
    return tuple(" ".join(tokens(str(row[c]))) or str(row[c]) for c in columns)


@dataclass(slots=True)
class Graph:
    """Rows reached from the person, with the rows that point to them."""

    schema: Schema
    rows: dict[Ref, Row] = field(default_factory=dict)
    copies: dict[Ref, int] = field(default_factory=dict)
    children: dict[Ref, set[tuple[Link, Ref]]] = field(default_factory=dict)
    parents: dict[Ref, set[tuple[Link, Ref]]] = field(default_factory=dict)
    _expanded: set[Ref] = field(default_factory=set)

    def add(self, table: str, row: Row) -> Ref:
        """Add a row; rows of a table without a key of its own that look alike are one, counted."""
        ref = table, tuple(row[c] for c in self.schema.keys(table))
        self.rows[ref] = row
        return ref

    def connect(self, link: Link, child: Ref, parent: Ref) -> None:
        """Record that a row points to another."""
        self.children.setdefault(parent, set()).add((link, child))
        self.parents.setdefault(child, set()).add((link, parent))

    def reach(self, start: Iterable[Ref], fetch: Fetch) -> None:
        """Fetch what the rows own, what they alone use, and all that points to either."""
        todo = set(start)
        while todo:
            self._expanded |= todo
            found: set[Ref] = set()
            for link in self.schema.links:
                here = {ref for ref in todo if ref[0] == link.parent}
                found |= self._pull_children(link, here, fetch)
                if link.meaning is Meaning.EXCLUSIVE_PARENT:
                    found |= self._pull_parents(
                        link, {r for r in todo if r[0] == link.child}, fetch
                    )
            todo = found - self._expanded

    def _pull_children(self, link: Link, parents: set[Ref], fetch: Fetch) -> set[Ref]:
        by_value = self._by_value(parents, link.parent_columns)
        owned: set[Ref] = set()
        counted: dict[Ref, int] = {}
        for row in self._fetched(fetch, link.child, link.child_columns, by_value):
            child = self.add(link.child, row)
            counted[child] = counted.get(child, 0) + 1
            for parent in by_value.get(_alike(row, link.child_columns), ()):
                self.connect(link, child, parent)
            if link.meaning is Meaning.OWNED:
                owned.add(child)
        self.copies |= {ref: n for ref, n in counted.items() if n > 1}
        return owned

    def _pull_parents(self, link: Link, children: set[Ref], fetch: Fetch) -> set[Ref]:
        by_value = self._by_value(children, link.child_columns)
        found: set[Ref] = set()
        for row in self._fetched(fetch, link.parent, link.parent_columns, by_value):
            parent = self.add(link.parent, row)
            found.add(parent)
            for child in by_value.get(_alike(row, link.parent_columns), ()):
                self.connect(link, child, parent)
        return found

    def _fetched(
        self, fetch: Fetch, table: str, columns: tuple[str, ...], groups: _Groups
    ) -> Iterator[Row]:
        return fetch(table, columns, groups.stored) if groups else iter(())

    def _by_value(self, refs: Iterable[Ref], columns: tuple[str, ...]) -> _Groups:
        found = _Groups()
        for ref in refs:
            value = tuple(self.rows[ref][c] for c in columns)
            if None not in value:  # MATCH SIMPLE: one NULL and the link points nowhere
                found.stored.add(value)
                found.setdefault(_alike(self.rows[ref], columns), []).append(ref)
        return found

    def count(self, refs: Iterable[Ref]) -> int:
        """Return how many rows there are, look-alikes included."""
        return sum(self.copies.get(ref, 1) for ref in refs)


# -- decisions -----------------------------------------------------------------------


@dataclass(slots=True)
class Decision:
    """What happens to each row; a reason for each group.

    Attributes:
        delete: rows to delete.
        retained: rows that a retention rule keeps, with the rule's ground.
        pinned: rows that stay because a row that stays points to them and cannot let go.
        detach: by link, the rows whose link is set to NULL, and the rows they let go of.
    """

    delete: set[Ref]
    retained: dict[Ref, str]
    pinned: dict[Ref, Link] = field(default_factory=dict)
    detach: dict[Link, dict[Ref, set[Ref]]] = field(default_factory=dict)


def members(graph: Graph, subjects: Iterable[Ref]) -> set[Ref]:
    """Return the rows about the person: owned ones, and parents nobody else uses.

    A row that a second person owns too is neither: erasing it would erase the other.
    """
    start = set(subjects)
    blocked: set[Ref] = set()
    while True:
        found = _owned(graph, start, blocked)
        others = {ref for ref in found - start if _has_another_owner(graph, ref, found)}
        if not others:
            return found
        blocked |= others


def _owned(graph: Graph, start: set[Ref], blocked: set[Ref]) -> set[Ref]:
    seen: set[Ref] = set()
    todo = set(start)
    while todo:
        while todo:
            ref = todo.pop()
            seen.add(ref)
            owned = {c for link, c in graph.children.get(ref, ()) if link.meaning is Meaning.OWNED}
            todo |= owned - seen - blocked
        todo = {p for ref in seen for p in _exclusive(graph, ref, seen)} - seen
    return seen


def _exclusive(graph: Graph, ref: Ref, seen: set[Ref]) -> Iterator[Ref]:
    for link, parent in graph.parents.get(ref, ()):
        if link.meaning is Meaning.EXCLUSIVE_PARENT:
            users = (child for _link, child in graph.children.get(parent, ()))
            if all(child in seen for child in users):
                yield parent


def _has_another_owner(graph: Graph, ref: Ref, found: set[Ref]) -> bool:
    mine = {link for link, parent in graph.parents.get(ref, ()) if parent in found}
    owning = {Meaning.OWNED, Meaning.CO_OWNED}
    return any(
        link.child == ref[0]
        and link.parent in graph.schema.subjects
        and link.meaning in owning
        and link not in mine
        and all(graph.rows[ref][c] is not None for c in link.child_columns)
        for link in graph.schema.links
    )


def decide(graph: Graph, subjects: Iterable[Ref], retention: Mapping[str, str]) -> Decision:
    """Return what an erasure does.

    Args:
        graph: filled by `Graph.reach` from the subjects.
        subjects: the person's own rows.
        retention: by table, the ground on which its rows must stay.
    """
    about = members(graph, subjects)
    retained = _retained(graph, about, retention)
    decision = Decision(about - retained.keys(), retained)
    while _pin(graph, decision):
        continue
    for parent in decision.delete:
        for link, child in graph.children.get(parent, ()):
            if child not in decision.delete:
                decision.detach.setdefault(link, {}).setdefault(child, set()).add(parent)
    return decision


def _retained(graph: Graph, about: set[Ref], retention: Mapping[str, str]) -> dict[Ref, str]:
    """A record is kept whole: what a retained row owns stays with it."""
    retained = {ref: retention[ref[0]] for ref in about if ref[0] in retention}
    todo = list(retained)
    while todo:
        ref = todo.pop()
        for link, child in graph.children.get(ref, ()):
            if link.meaning is Meaning.OWNED and child in about and child not in retained:
                retained[child] = f"part of a retained row: {retained[ref]}"
                todo.append(child)
    return retained


def _pin(graph: Graph, decision: Decision) -> bool:
    """Take from the deletes one layer of rows that a staying row cannot let go of."""
    pinned = {}
    for parent in decision.delete:
        for link, child in graph.children.get(parent, ()):
            if child not in decision.delete and not graph.schema.detachable(link):
                pinned[parent] = link
    decision.pinned |= pinned
    decision.delete -= pinned.keys()
    return bool(pinned)


def levels(graph: Graph, delete: set[Ref]) -> tuple[list[set[Ref]], dict[Link, set[Ref]]]:
    """Return the deletes in layers, children first, and the links to set NULL beforehand.

    A self-reference that may be NULL is cut at once, so that a long chain is one layer;
    other cycles are cut where a column may be NULL.

    Raises:
        InputError: a cycle of links that may not be NULL.
    """
    waiting, cut = _waiting(graph, delete)
    layers: list[set[Ref]] = []
    left = set(delete)
    while left:
        layer = {
            ref for ref in left if not any(child in left for _l, child in waiting.get(ref, ()))
        }
        if layer:
            layers.append(layer)
            left -= layer
        else:
            _cut(graph, waiting, left, cut)
    return layers, cut


def _waiting(
    graph: Graph, delete: set[Ref]
) -> tuple[dict[Ref, set[tuple[Link, Ref]]], dict[Link, set[Ref]]]:
    """Return for each row the rows that must go before it, and the self-references to cut."""
    waiting: dict[Ref, set[tuple[Link, Ref]]] = {}
    cut: dict[Link, set[Ref]] = {}
    for parent in delete:
        for link, child in graph.children.get(parent, ()):
            if child not in delete or child == parent:
                continue
            if link.child == link.parent and graph.schema.detachable(link):
                cut.setdefault(link, set()).add(child)
            else:
                waiting.setdefault(parent, set()).add((link, child))
    return waiting, cut


def _cut(
    graph: Graph,
    waiting: dict[Ref, set[tuple[Link, Ref]]],
    left: set[Ref],
    cut: dict[Link, set[Ref]],
) -> None:
    stuck = {link for ref in left for link, child in waiting.get(ref, ()) if child in left}
    loose = sorted((link for link in stuck if graph.schema.detachable(link)), key=str)
    if not loose:
        names = ", ".join(sorted(map(str, stuck)))
        raise InputError(f"the rows point to each other in a circle that cannot be opened: {names}")
    for ref in left:
        pairs = {(link, child) for link, child in waiting.get(ref, ()) if link == loose[0]}
        cut.setdefault(loose[0], set()).update(child for _link, child in pairs)
        waiting[ref] = waiting.get(ref, set()) - pairs
