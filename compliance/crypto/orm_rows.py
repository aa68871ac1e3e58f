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
    sealed = statement.sealed(many or ([one] if one else []))
    return (clause, sealed, one) if many else (clause, many, sealed[0] if sealed else one)


class _Statement:
    """An INSERT or UPDATE of a table with encrypted columns, by the columns' keys."""

    def __init__(self, clause: Any, table: sa.Table, types: Mapping[str, Encrypted]) -> None:
        self.clause = clause
        self.table = table
        self.types = types
        self._update = isinstance(clause, sa.Update)
        self._bound = {k: t for k, t in types.items() if isinstance(t, EncryptedRow)}
        pins = _equalities(clause.whereclause) if self._update else ()
        self._pins = {column.key: pin for column, pin in pins if column.table is _plain(table)}

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
        if self._update:
            self._complete(self._inline(), set())

    def _inline(self) -> set[str]:
        """Return the columns whose values stand in the statement itself."""
        ordered = dict(getattr(self.clause, "_ordered_values", None) or ())
        named = {**(getattr(self.clause, "_values", None) or {}), **ordered}
        return {getattr(column, "key", column) for column in named}

    def sealed(self, rows: Sequence[Mapping[str, Any]]) -> list[Parameters]:
        """Return the parameters of rows with their cells sealed, column by column."""
        result = [dict(row) for row in rows]
        if self._update and result:
            self._complete(set(result[0]), set(result[0]))
        for row in result if self._bound and not self._update else ():
            row.update(self._defaults(row))
        known = [self._row(row) if self._needs_row(row) else None for row in result]
        for key, kind in self.types.items():
            self._seal_column(key, kind, result, known)
        return result

    def _needs_row(self, row: Mapping[str, Any]) -> bool:
        return any(
            row.get(key) is not None or (kind.nulls == "seal" and self._holds(key, row))
            for key, kind in self._bound.items()
        )

    def _holds(self, key: str, row: Mapping[str, Any]) -> bool:
        """Say whether this row writes a cell: a NULL that is to be sealed is one, also unsaid."""
        if key in row:
            return not isinstance(row[key], Cell)
        return self.types[key].nulls == "seal" and not self._update and self._writes(key)

    def _seal_column(
        self, key: str, kind: Encrypted, rows: list[Parameters], known: list[str | None]
    ) -> None:
        chosen = [index for index, row in enumerate(rows) if self._holds(key, row)]
        bound = isinstance(kind, EncryptedRow)
        subject = kind.subject[1] if isinstance(kind, EncryptedRow) and kind.subject else None
        cells = kind.seal_all(
            [rows[index].get(key) for index in chosen],
            [known[index] if bound else None for index in chosen],
            [self._named(subject, rows[index]) if subject else None for index in chosen],
        )
        for index, cell in zip(chosen, cells, strict=True):
            rows[index][key] = cell

    def _writes(self, key: str) -> bool:
        """Say whether an INSERT would leave this column out, and NULL in it for all to see."""
        return self.table.columns[key].default is None and key not in self._inline()

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
        pin = None if key in row else self._pins.get(key)
        return row.get(key) if pin is None else row.get(pin.key, pin.value)


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
    identity = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    opening = partial(_open, bound, identity)
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


def _open(
    bound: Sequence[_Attribute],
    identity: Sequence[str],
    state: InstanceState[Any],
    *context: Any,
) -> None:
    """Put values in the place of the cells that were just loaded; nothing becomes dirty.

    The row is the identity under which the instance was loaded, also while a change of its
    primary key waits for a flush.
    """
    fresh = context[1] if len(context) > 1 else None
    known = dict(zip(identity, state.key[1], strict=True)) if state.key else {}
    rows: dict[tuple[str, ...], str] = {}
    for item in bound:
        cell = state.dict.get(item.name, item)
        if isinstance(cell, Sealed) or (cell is None and _bare_null(item, state, fresh)):
            try:
                state.dict[item.name] = _opened(item, state.dict, known, rows)
            except BaseException:
                state._expire_attributes(state.dict, [item.name])  # noqa: SLF001  the public one wants a session
                raise


def _bare_null(item: _Attribute, state: InstanceState[Any], fresh: Any) -> bool:
    """Say whether a NULL was just loaded, not set by the user, where only sealed ones belong."""
    loaded = fresh is None or item.name in fresh
    return item.kind.nulls == "seal" and loaded and item.name not in state.committed_state


def _opened(
    item: _Attribute,
    values: Mapping[str, Any],
    known: Mapping[str, Any],
    rows: dict[tuple[str, ...], str],
) -> Any:
    cell = values[item.name]
    if cell is None:
        raise DecryptionFailed(f"{item.kind.title}: NULL stands where a sealed value belongs")
    if item.keys not in rows:
        rows[item.keys] = row_text([known.get(key, values.get(key)) for key in item.keys])
    subject = known.get(item.subject, values.get(item.subject)) if item.subject else None
    return cell.open_row(rows[item.keys], subject)


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
