"""Cells for statements: the values of an INSERT or UPDATE are sealed on their way.

There the primary key of each row stands beside its values: among the parameters, in the
statement itself, or in the WHERE of an UPDATE. The clause keeps its shape, so it is cached as
any other: sealed cells are given as parameters of the names that its values have.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList

from compliance.crypto import orm_writes
from compliance.crypto.orm_cells import Cell, row_text
from compliance.crypto.orm_types import Encrypted, EncryptedRow, watch_log
from compliance.errors import InputError

Parameters = dict[str, Any]


def seal_parameters(
    connection: sa.Connection, clause: Any, many: Any, one: Any, options: object
) -> tuple[Any, Any, Any]:
    """Seal the values of an INSERT or UPDATE of a table with encrypted columns."""
    del options
    watch_log(connection)
    if not isinstance(clause, (sa.Insert, sa.Update)):
        return clause, many, one
    rows = many or [one or {}]
    orm_writes.refuse(clause, set(rows[0]))
    table = orm_writes.target(clause)
    if not isinstance(table, sa.Table) or getattr(clause, "_select_names", None):
        return clause, many, one
    types = orm_writes.encrypted(table)
    if not types:
        return clause, many, one
    statement = _Statement(clause, table, types)
    if clause._multi_values:  # noqa: SLF001  there is no public way
        return statement.listed(), many, one
    sealed = statement.sealed(rows)
    return (clause, sealed, one) if many else (clause, many, sealed[0])


class _Statement:
    """An INSERT or UPDATE of a table with encrypted columns, by the columns' keys."""

    def __init__(self, clause: Any, table: sa.Table, types: Mapping[str, Encrypted]) -> None:
        self.clause = clause
        self.table = table
        self.types = types
        self._update = isinstance(clause, sa.Update)
        self._bound = orm_writes.bound(table)
        self._inline = orm_writes.own_values(clause, table)
        pins = _equalities(clause.whereclause) if self._update else ()
        self._pins = {column.key: pin for column, pin in pins if _of(column) is table}

    def sealed(self, rows: Sequence[Mapping[str, Any]]) -> list[Parameters]:
        """Return the parameters of rows with their cells sealed, column by column."""
        result = [dict(row) for row in rows]
        for row in result if self._bound and not self._update else ():
            row.update(self._defaults(row))
        known = [self._row(row) if self._needs_row(row) else None for row in result]
        for key, kind in self.types.items():
            self._seal_column(key, kind, result, known)
        return result

    def listed(self) -> Any:
        """Return an INSERT of several VALUES with their cells sealed in it."""
        rows = [
            {getattr(key, "key", key): _literal(value) for key, value in row.items()}
            for row in orm_writes.many(self.clause)
        ]
        clause = self.clause._generate()  # noqa: SLF001  there is no public way
        clause._multi_values = (self.sealed(rows),)  # noqa: SLF001  as `values` does
        return clause

    def _needs_row(self, row: Mapping[str, Any]) -> bool:
        return any(
            self._holds(key, row) and (self._value(key, row) is not None or kind.nulls == "seal")
            for key, kind in self._bound.items()
        )

    def _holds(self, key: str, row: Mapping[str, Any]) -> bool:
        """Say whether this row writes a cell: a NULL that is to be sealed is one, also unsaid."""
        if key in self._inline:  # what is bound to no row is sealed by its type
            return key in self._bound and isinstance(self._inline[key], BindParameter)
        if key in row:
            return not isinstance(row[key], Cell)
        unsaid = self.types[key].nulls == "seal" and self.table.columns[key].default is None
        return unsaid and not self._update

    def _seal_column(
        self, key: str, kind: Encrypted, rows: list[Parameters], known: list[str | None]
    ) -> None:
        chosen = [index for index, row in enumerate(rows) if self._holds(key, row)]
        bound = isinstance(kind, EncryptedRow)
        subject = kind.subject[1] if isinstance(kind, EncryptedRow) and kind.subject else None
        cells = kind.seal_all(
            [self._value(key, rows[index]) for index in chosen],
            [known[index] if bound else None for index in chosen],
            [self._value(subject, rows[index]) if subject else None for index in chosen],
        )
        name = self._parameter(key)
        for index, cell in zip(chosen, cells, strict=True):
            rows[index][name] = cell

    def _parameter(self, key: str) -> str:
        """Return the name under which a column takes its parameter."""
        own = self._inline.get(key)
        return own.key if isinstance(own, BindParameter) and not own.unique else key

    def _value(self, key: str, row: Mapping[str, Any]) -> Any:
        """Return what a column will hold in this row: as it is set, or as WHERE pins it.

        None where it is not known.
        """
        if key in self._inline:
            own = self._inline[key]
            known = isinstance(own, BindParameter)
            return row.get(self._parameter(key), own.effective_value) if known else None
        pin = None if key in row else self._pins.get(key)
        return row.get(key) if pin is None else row.get(pin.key, pin.effective_value)

    def _defaults(self, row: Mapping[str, Any]) -> Parameters:
        """Return the parts of the primary key that a default of the client's makes."""
        made = {}
        for column in self.table.primary_key:
            default: Any = column.default
            if self._value(column.key, row) is None and default is not None:
                if default.is_scalar:
                    made[column.key] = default.arg
                elif default.is_callable and _needs_nothing(default.arg):
                    made[column.key] = default.arg(None)
        return made

    def _row(self, row: Mapping[str, Any]) -> str:
        parts = [self._value(column.key, row) for column in self.table.primary_key]
        if not parts or any(part is None for part in parts):
            raise InputError(
                f"the row of {self.table.fullname} is not known before it is written, and its "
                "cells are bound to it: make the primary key in the client, as with "
                "default_factory=row_key, not in the database; in an update, name it: "
                f"{self._form()}"
            )
        for column, part in zip(self.table.primary_key, parts, strict=True):
            _check_type(column, part)
        return row_text(parts)

    def _form(self) -> str:
        keys = [column.key for column in self.table.primary_key]
        return f"update(T).where({', '.join(f'T.{key} == ...' for key in keys)}).values(...)"


def _literal(value: Any) -> Any:
    """Return the plain value in a list of VALUES."""
    if isinstance(value, BindParameter) and value.unique:
        return value.effective_value
    return None if isinstance(value, sa.Null) else value


def _of(column: Any) -> Any:
    return getattr(column, "table", None)


def _needs_nothing(wrapped: Any) -> bool:
    """Say whether a column's default takes no context: SQLAlchemy wrapped it in one that does."""
    try:
        parameters = inspect.signature(inspect.unwrap(wrapped)).parameters.values()
    except (TypeError, ValueError):
        return True
    needed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return not any(p.kind in needed and p.default is p.empty for p in parameters)


def _check_type(column: sa.Column[Any], part: object) -> None:
    """Refuse a key of another type than the database gives back: its text could differ."""
    try:
        expected = column.type.python_type
    except NotImplementedError:
        return
    if not isinstance(part, expected):
        raise InputError(
            f"row key {column.name} is {expected.__name__}, not {type(part).__name__}; convert it"
        )


def _equalities(clause: Any) -> Iterator[tuple[Any, BindParameter[Any]]]:
    """Yield the columns that a WHERE pins to a parameter: equalities that must all hold."""
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        for part in clause.clauses:
            yield from _equalities(part)
    elif (
        isinstance(clause, BinaryExpression)
        and clause.operator is operators.eq
        and isinstance(clause.right, BindParameter)
    ):
        yield orm_writes.plain(clause.left), clause.right
