"""One transaction on a user's database: finding a person, and rows by the values of a link."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from compliance import policy
from compliance.errors import InputError
from compliance.rights import closure, datamap, subject
from compliance.rights.connectors import Rows, schema
from compliance.rights.connectors.schema import chunks, condition
from compliance.rights.plan import Key
from compliance.rights.subject import Search


class Session:
    """A connection inside a transaction, with the live tables and the links that have a meaning."""

    def __init__(
        self,
        name: str,
        store: policy.Store,
        connection: sa.Connection,
        transaction: sa.RootTransaction,
    ) -> None:
        self.name = name
        self.store = store
        self.connection = connection
        self.transaction = transaction
        self.tables = schema.Tables.reflect(connection, datamap.mapped_tables(store))
        self.links = tuple(link for link in datamap.links(store) if link.meaning is not None)
        self.persons = frozenset(s.table for s in store.subjects)

    def locate(self, search: Search, *, whole: bool = True) -> Rows:
        """Return rows that match; ``whole`` demands that all identifiers agree."""
        found: Rows = {}
        for table, columns in search.items():
            rows = [
                (row, self._agreement(table, row, columns)) for row in self._like(table, columns)
            ]
            partial = sum(0 < hits < len(columns) for _row, hits in rows)
            if whole and partial:
                raise InputError(
                    f"{table}: {partial} rows match some of the identifiers and not all; "
                    "submit those that are sure"
                )
            found[table] = [row for row, hits in rows if hits]
        return found

    def _like(
        self, table: str, columns: Mapping[str, tuple[object, ...]]
    ) -> Iterator[dict[str, Any]]:
        """Yield candidates: what the database takes for equal, checked again by `_agreement`."""
        live = self.tables[table]
        tests = [test for c, values in columns.items() for test in _tests(_column(live, c), values)]
        if tests:
            wanted = self._columns(table, columns)
            for row in self.connection.execute(sa.select(*wanted).where(sa.or_(*tests))).mappings():
                yield dict(row)

    def _agreement(
        self, table: str, row: Mapping[str, Any], columns: Mapping[str, tuple[object, ...]]
    ) -> int:
        live = self.tables[table]
        return sum(_equal(live.c[c], row[c], values) for c, values in columns.items())

    def _columns(self, table: str, more: Collection[str] = ()) -> list[sa.Column[Any]]:
        """Return the columns that decisions need: key, links, identifiers."""
        names = {*self.key(table), *more}
        for link in self.links:
            names |= set(link.child_columns) if link.child == table else set()
            names |= set(link.parent_columns) if link.parent == table else set()
        for person in self.store.subjects:
            names |= {person.key, *person.identifiers} if person.table == table else set()
        return [_column(self.tables[table], name) for name in sorted(names)]

    def key(self, table: str) -> tuple[str, ...]:
        """Return what identifies a row; for a table without a key, its only link."""
        key = self.tables.key(table)
        if key:
            return key
        mine = [link.child_columns for link in self.links if link.child == table]
        if len(mine) != 1 or any(link.parent == table for link in self.links):
            raise InputError(f"{table} has no key, and not exactly one link: give it a primary key")
        return mine[0]

    def fetch(
        self, table: str, columns: tuple[str, ...], values: Collection[Key]
    ) -> Iterator[closure.Row]:
        """Yield rows whose columns hold one of the values."""
        live, wanted = self.tables[table], self._columns(table)
        fitted = (tuple(map(schema.matching, (live.c[c] for c in columns), v)) for v in values)
        for chunk in chunks([value for value in fitted if None not in value]):
            query = sa.select(*wanted).where(condition(live, columns, chunk))
            yield from map(dict, self.connection.execute(query).mappings())


def _column(table: sa.Table, name: str) -> sa.Column[Any]:
    if name not in table.c:
        raise InputError(f"the data map names {table.name}.{name}, which the store does not have")
    return table.c[name]


def _tests(column: sa.Column[Any], values: tuple[object, ...]) -> Iterator[sa.ColumnElement[bool]]:
    for value in values:
        fitted = schema.fitting(column, value)
        if fitted is not None:
            yield column == fitted
        if isinstance(fitted, str) and "@" in fitted and schema.holds_text(column):
            yield sa.func.lower(column) == fitted.lower()


def _equal(column: sa.Column[Any], held: Any, values: tuple[object, ...]) -> bool:
    """Compare as we define identity, whatever the collation of the database."""
    fitted = [schema.fitting(column, value) for value in values]
    return held is not None and any(
        f is not None and (f == held or subject.fold(f) == subject.fold(held)) for f in fitted
    )
