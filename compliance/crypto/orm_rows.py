"""Rows for `EncryptedRow`: seals the parameters of statements, opens instances as they load.

Attributes of instances hold plaintext at all times and are never exchanged for something
else during a flush. What is exchanged are the parameters on their way from the ORM, or from
Core, to the database: there the primary key of each row stands beside its values.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper, attributes
from sqlalchemy.orm.state import InstanceState
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList

from compliance.crypto.orm_cells import Cell, Sealed, row_text
from compliance.crypto.orm_types import Encrypted, EncryptedRow, watch_log
from compliance.errors import ComplianceError, DecryptionFailed, InputError

Parameters = dict[str, Any]


def install() -> None:
    """Listen to every engine and mapper; done once, when `compliance.crypto.orm` is imported."""
    event.listen(sa.Engine, "before_execute", _before_execute, retval=True)
    event.listen(sa.Engine, "handle_error", _ours)
    event.listen(Mapper, "mapper_configured", _watch)


def _ours(context: Any) -> ComplianceError | None:
    """Give an error of ours as it is: SQLAlchemy's wrapper would quote unprocessed parameters."""
    error = context.original_exception
    return copy.copy(error) if isinstance(error, ComplianceError) else None


# -- parameters of statements ----------------------------------------------------------


def _before_execute(
    connection: sa.Connection, clause: Any, many: Any, one: Any, options: object
) -> tuple[Any, Any, Any]:
    """Seal the parameters of an INSERT or UPDATE of a table with encrypted columns."""
    del options
    watch_log(connection)
    table = getattr(clause, "table", None)
    if not isinstance(clause, (sa.Insert, sa.Update)) or not isinstance(table, sa.Table):
        return clause, many, one
    types = {c.key: c.type for c in table.columns if isinstance(c.type, Encrypted)}
    if not types:
        return clause, many, one
    statement = _Statement(clause, table, types)
    statement.check()
    return clause, [statement.sealed(row) for row in many], statement.sealed(one) if one else one


@dataclass(frozen=True, slots=True)
class _Statement:
    """An INSERT or UPDATE of a table with encrypted columns, by the columns' keys."""

    clause: Any
    table: sa.Table
    types: Mapping[str, Encrypted]

    @property
    def _bound(self) -> dict[str, EncryptedRow]:
        return {k: t for k, t in self.types.items() if isinstance(t, EncryptedRow)}

    def check(self) -> None:
        """Refuse statements that may set a bound cell in another row than its own."""
        if not self._bound:
            return
        upsert = getattr(self.clause, "_post_values_clause", None)
        if upsert is not None and upsert.__visit_name__ != "on_conflict_do_nothing":
            raise InputError(
                f"an upsert of {self.table.fullname} may write a cell into another row than the "
                "one it is bound to; load the row and change it, or insert it"
            )
        if isinstance(self.clause, sa.Update):
            self._complete(self._inline(), set())

    def _inline(self) -> set[str]:
        """Return the columns whose values stand in the statement itself."""
        ordered = dict(getattr(self.clause, "_ordered_values", None) or ())
        named = {**(getattr(self.clause, "_values", None) or {}), **ordered}
        return {getattr(column, "key", column) for column in named}

    def sealed(self, row: Mapping[str, Any]) -> Parameters:
        """Return one row's parameters with its cells sealed."""
        result = dict(row)
        update = isinstance(self.clause, sa.Update)
        if update:
            self._complete(set(row), set(row))
        elif self._bound:
            result |= self._defaults(row)
        bound = self._row(result) if any(result.get(k) is not None for k in self._bound) else None
        for key, kind in self.types.items():
            hidden_null = kind.nulls == "seal" and not update and self._writes(key)
            if (key in result or hidden_null) and not isinstance(result.get(key), Cell):
                result[key] = self._cell(key, kind, result, bound)
        return result

    def _writes(self, key: str) -> bool:
        """Say whether an INSERT would leave this column out, and NULL in it for all to see."""
        return self.table.columns[key].default is None and key not in self._inline()

    def _cell(self, key: str, kind: Encrypted, row: Parameters, bound: str | None) -> Cell:
        if not isinstance(kind, EncryptedRow):
            return kind.seal(row.get(key))
        if bound is None and kind.nulls == "seal":
            bound = self._row(row)
        subject = self._named(kind.subject[1], row) if kind.subject else None
        return kind.seal(row.get(key), bound, subject)

    def _complete(self, changed: set[str], present: set[str]) -> None:
        """Refuse to change what cells are bound to unless all of them are sealed anew."""
        keys = {c.key for c in self.table.primary_key}
        for key, kind in self._bound.items():
            anchors = keys | ({kind.subject[1]} if kind.subject else set())
            if anchors & changed and key not in present:
                raise InputError(
                    f"{', '.join(sorted(anchors & changed))} of {self.table.fullname} changes, and "
                    f"{key} is sealed for the former value; change it on an instance in a "
                    "session, which seals the cell anew"
                )

    def _defaults(self, row: Mapping[str, Any]) -> Parameters:
        """Return the parts of the primary key that a default of the client's makes."""
        made = {}
        for column in self.table.primary_key:
            default: Any = column.default
            if row.get(column.key) is None and default is not None:
                if default.is_scalar:
                    made[column.key] = default.arg
                elif default.is_callable and _needs_nothing(default.arg):
                    made[column.key] = default.arg(None)
        return made

    def _row(self, row: Mapping[str, Any]) -> str:
        parts = [self._named(column.key, row) for column in self.table.primary_key]
        if not parts or any(part is None for part in parts):
            raise InputError(
                f"the row of {self.table.fullname} is not known before it is written, and its "
                "cells are bound to it: make the primary key in the client, as with "
                "default_factory=row_key, not in the database; in an update, name it in WHERE"
            )
        for column, part in zip(self.table.primary_key, parts, strict=True):
            _check_type(column, part)
        return row_text(parts)

    def _named(self, key: str, row: Mapping[str, Any]) -> Any:
        """Return what a column will hold in this row: as it is set, or as WHERE pins it."""
        if key in row or isinstance(self.clause, sa.Insert):
            return row.get(key)
        pinned = dict(_equalities(self.clause.whereclause)).get(_plain(self.table.columns[key]))
        return None if pinned is None else row.get(pinned.key, pinned.value)


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
        yield _plain(clause.left), clause.right


def _plain(column: Any) -> Any:
    """Return a table's own column for one that the ORM annotated."""
    return column._deannotate()  # noqa: SLF001  there is no public way


# -- instances ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute bound to its row: its name, type, the key's attributes and the subject's."""

    name: str
    kind: EncryptedRow
    keys: tuple[str, ...]
    subject: str | None


def _watch(mapper: Mapper[Any], cls: type) -> None:
    """Open and keep together the bound attributes of a mapped class."""
    bound = list(_bound_attributes(mapper))
    if not bound:
        return
    opening = partial(_open, bound)
    for name in ("load", "refresh", "refresh_flush"):
        event.listen(cls, name, opening, raw=True, insert=True, restore_load_context=True)
    event.listen(mapper, "before_update", partial(_keep_together, bound))


def _bound_attributes(mapper: Mapper[Any]) -> Iterator[_Attribute]:
    for prop in mapper.column_attrs:
        column = prop.columns[0]
        if not isinstance(column, sa.Column) or not isinstance(column.type, EncryptedRow):
            continue
        table = column.table
        keys = tuple(mapper.get_property_by_column(c).key for c in table.primary_key)
        name = column.type.subject and column.type.subject[1]
        if name and name not in table.columns:
            raise InputError(f"{table.fullname} has no column {name}, which names the subject")
        subject = mapper.get_property_by_column(table.columns[name]).key if name else None
        yield _Attribute(prop.key, column.type, keys, subject)


def _open(bound: Sequence[_Attribute], state: InstanceState[Any], *context: Any) -> None:
    """Put values in the place of the cells that were just loaded; nothing becomes dirty.

    The row is the identity under which the instance was loaded, also while a change of its
    primary key waits for a flush.
    """
    fresh = context[1] if len(context) > 1 and context[1] is not None else None
    names = [p.key for p in map(state.mapper.get_property_by_column, state.mapper.primary_key)]
    known = state.dict | (dict(zip(names, state.key[1], strict=True)) if state.key else {})
    for item in bound:
        loaded = (fresh is None or item.name in fresh) and item.name not in state.committed_state
        cell = state.dict.get(item.name, item)
        if isinstance(cell, Sealed) or (cell is None and loaded and item.kind.nulls == "seal"):
            try:
                state.dict[item.name] = _opened(item, cell, known)
            except BaseException:
                state._expire_attributes(state.dict, [item.name])  # noqa: SLF001  the public one wants a session
                raise


def _opened(item: _Attribute, cell: Sealed | None, known: Mapping[str, Any]) -> Any:
    if cell is None:
        raise DecryptionFailed(f"{item.kind.title}: NULL stands where a sealed value belongs")
    row = tuple(known.get(key) for key in item.keys)
    return cell.open(row, known.get(item.subject) if item.subject else None)


def _keep_together(
    bound: Sequence[_Attribute], mapper: object, connection: object, target: Any
) -> None:
    """Have cells sealed anew when their row or subject changes; a subject's cells go together.

    The UPDATE then names the subject beside each of its cells.
    """
    del mapper, connection
    state = sa.inspect(target)
    watched = {name for b in bound for name in (b.name, *b.keys, b.subject) if name}
    changed = {n for n in watched if state.attrs[n].history.has_changes()}
    again: set[str] = set()
    for item in bound:
        family = {b.name for b in bound if b.subject == item.subject} if item.subject else set()
        if changed & {*item.keys, item.subject} or (family and changed & family):
            again |= {item.name} | ({item.subject} if item.subject else set())
    for name in again:
        getattr(target, name)
        attributes.flag_modified(target, name)
