"""What an INSERT or UPDATE assigns to encrypted columns: values, and nothing that SQL computes.

The database holds no keys, so what it computes or copies is never the cell that belongs
there: it destroys the value, and the row no longer loads. Statements are looked at before
they are executed; what stands in CTEs and lambdas, once it is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BindParameter

from compliance.crypto.orm_types import Encrypted, EncryptedRow
from compliance.errors import InputError

_CHECKED: WeakSet[Any] = WeakSet()  # compiled statements: what they assign never changes
_UPSERTS = {"on_conflict_do_update": "update_values_to_set", "on_duplicate_key_update": "update"}


def plain(element: Any) -> Any:
    """Return a table's own column, or a table, for one that the ORM annotated."""
    return element._deannotate()  # noqa: SLF001  there is no public way


def target(clause: Any) -> Any:
    """Return what a statement writes; the ORM writes an inherited class table by table."""
    notes = clause._annotations  # noqa: SLF001  there is no public way
    emitted = notes.get("_emit_insert_table", notes.get("_emit_update_table"))
    return plain(clause.table if emitted is None else emitted)


def bound(table: sa.Table) -> dict[str, EncryptedRow]:
    """Return the types of a table's columns that are bound to their row, by key."""
    return {c.key: c.type for c in table.columns if isinstance(c.type, EncryptedRow)}


def inline(clause: Any) -> dict[Any, Any]:
    """Return what stands in the statement itself, by column or key; see `many` for lists."""
    ordered = dict(getattr(clause, "_ordered_values", None) or ())  # SQLAlchemy 2.0's
    return {**(clause._values or {}), **ordered}  # noqa: SLF001  there is no public way


def many(clause: Any) -> Iterator[dict[Any, Any]]:
    """Yield the rows of an INSERT with several VALUES, by column or key."""
    for rows in clause._multi_values or ():  # noqa: SLF001  there is no public way
        for row in rows:
            named = isinstance(row, Mapping)
            yield dict(row) if named else dict(zip(clause.table.c.keys(), row, strict=False))


def own_values(clause: Any, table: sa.Table) -> dict[str, Any]:
    """Return what an UPDATE or INSERT itself assigns to a table's columns, by key.

    A column that is set to itself is not changed, and is left out.
    """
    found = {}
    for key, value in inline(clause).items():
        for column in _columns(table, key):
            if column.table is table and not _itself(column, value):
                found[column.key] = _element(value)
    return found


def refuse(clause: Any, given: set[str] | None = None) -> None:
    """Refuse a statement that may leave in an encrypted column what is no cell of its row.

    Args:
        clause: any; only an INSERT and an UPDATE are looked at.
        given: the parameters that come with it.

    Raises:
        InputError: it does; the message names the column and the forms that work.
    """
    if not isinstance(clause, (sa.Insert, sa.Update)):
        return
    table = target(clause)
    if not _concerned(clause, table):
        return
    for key, value, listed in _assignments(clause):
        for column in _columns(table, key):
            _refuse_value(column, value, listed=listed)
    _refuse_select(clause, table)
    _refuse_upsert(clause, table)
    if isinstance(table, sa.Table):
        _refuse_defaults(table)
        if isinstance(clause, sa.Update):
            complete(table, own_values(clause, table), given or set())
    else:
        _refuse_alias(table)


def refuse_hidden(
    connection: object,
    cursor: object,
    statement: object,
    parameters: object,
    context: Any,
    many: object,
) -> None:
    """Refuse what `before_execute` did not see: statements in CTEs and lambdas."""
    del connection, cursor, statement, parameters, many
    compiled = getattr(context, "compiled", None)
    if compiled is None or compiled in _CHECKED:
        return
    state = getattr(compiled, "compile_state", None)
    refuse(getattr(state, "statement", None), set(getattr(compiled, "column_keys", None) or ()))
    for cte in getattr(compiled, "ctes", None) or ():
        refuse(cte.element)
    _CHECKED.add(compiled)


def complete(table: sa.Table, values: Mapping[str, Any], given: set[str]) -> None:
    """Refuse to change what cells are bound to unless all of them are sealed anew."""
    changed = given | set(values)
    keys = {c.key for c in table.primary_key}
    for key, kind in bound(table).items():
        anchors = keys | ({kind.subject[1]} if kind.subject else set())
        if anchors & changed and key not in changed:
            raise InputError(
                f"{', '.join(sorted(anchors & changed))} of {table.fullname} changes, and "
                f"{key} is sealed for the former value; change it on an instance in a "
                "session, which seals the cell anew"
            )


def encrypted(table: Any) -> dict[str, Encrypted]:
    """Return the types of a table's encrypted columns, by key."""
    return {c.key: c.type for c in table.columns if isinstance(c.type, Encrypted)}


def _concerned(clause: Any, table: Any) -> bool:
    """Say whether a statement may write encrypted columns: in its target, or in another table."""
    if not isinstance(table, sa.Table) or encrypted(table):
        return True
    columns = (_element(key) for key in inline(clause) if not isinstance(key, str))
    return any(plain(column).table is not table for column in columns)


def _assignments(clause: Any) -> Iterator[tuple[Any, Any, bool]]:
    """Yield column or key, value, and whether it stands in a list of VALUES."""
    for key, value in inline(clause).items():
        yield key, value, False
    for row in many(clause):
        yield from ((key, value, True) for key, value in row.items())


def _columns(table: Any, key: Any) -> Iterator[sa.Column[Any]]:
    """Yield the columns that a key may stand for: SQLAlchemy goes by the name in the target."""
    found = []
    if not isinstance(key, str):
        key = _element(key)
        found.append(key)
        key = key.key
    found += [c for c in table.columns if key in {c.key, c.name}]
    for column in {base: None for c in found for base in plain(c).base_columns}:
        if isinstance(column, sa.Column):
            yield plain(column)


def _element(value: Any) -> Any:
    return value.__clause_element__() if hasattr(value, "__clause_element__") else value


def _itself(column: sa.Column[Any], value: Any) -> bool:
    value = _element(value)
    return isinstance(value, sa.ColumnClause) and plain(value) is column


def _refuse_value(column: sa.Column[Any], value: Any, *, listed: bool) -> None:
    kind, value = column.type, _element(value)
    if not isinstance(kind, Encrypted) or _itself(column, value) or _null(kind, value):
        return
    if isinstance(value, BindParameter):
        named = listed and isinstance(kind, EncryptedRow) and not value.unique
        home = getattr(value.type, "home", None)
        if not named and (value.type._isnull or (home is not None and home is kind.home)):  # noqa: SLF001  there is no public way
            return
    elif not isinstance(value, sa.sql.ClauseElement):
        return
    raise InputError(
        f"{kind.title} is encrypted and was given an SQL expression ({type(value).__name__}): the "
        "database has no keys, so it would destroy the value. Give the value itself; load "
        "what it is made from, and write it through the session"
    )


def _null(kind: Encrypted, value: Any) -> bool:
    return isinstance(value, sa.Null) and kind.nulls == "keep"


def _refuse_select(clause: Any, table: Any) -> None:
    """Refuse an INSERT from a SELECT that fills encrypted columns, but with NULL."""
    names = getattr(clause, "_select_names", None)
    if not names:
        return
    named = {column.key: column for name in names for column in _columns(table, name)}
    chosen = list(clause.select.selected_columns) if isinstance(clause.select, sa.Select) else []
    values = dict(zip(names, chosen, strict=False)) if len(names) == len(chosen) else {}
    for column in table.columns:
        kind = column.type
        if not isinstance(kind, Encrypted):
            continue
        value = values.get(column.key)
        filled = column.key in named and not _null(kind, getattr(value, "element", value))
        if filled or (kind.nulls == "seal" and column.key not in named):
            raise InputError(
                f"{kind.title} is encrypted: an INSERT from a SELECT cannot fill it, since the "
                "database has no keys. Load the rows, and insert their values"
            )


def _refuse_defaults(table: sa.Table) -> None:
    for column in table.columns:
        made = (column.default, column.onupdate)
        in_sql = [d for d in made if d is not None and not (d.is_scalar or d.is_callable)]
        servers = (column.server_default, column.server_onupdate)
        if isinstance(column.type, Encrypted) and (in_sql or any(s is not None for s in servers)):
            raise InputError(
                f"{column.type.title} is encrypted, and has a default that the database makes "
                "without keys; take it away, and give the value"
            )


def _refuse_upsert(clause: Any, table: Any) -> None:
    """Refuse upserts that set a bound cell, what it is bound to, or any cell by an expression."""
    for part, key, value in _upserted(clause):
        for column in _columns(table, key):
            if not _incoming(part, column, _element(value)):
                _refuse_value(column, value, listed=False)
            kinds = bound(column.table)
            subjects = {kind.subject[1] for kind in kinds.values() if kind.subject}
            if column.key in kinds or (kinds and (column.primary_key or column.key in subjects)):
                raise InputError(
                    f"an upsert of {column.table} may write {column.key} into another row than "
                    "the one its cells are bound to; load the row and change it, or insert it"
                )


def _upserted(clause: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield clause, column or key, and value of what an upsert sets where the row exists."""
    after = getattr(clause, "_post_values_clause", None)
    for part in visitors.iterate(after) if after is not None else ():
        if part.__visit_name__ in _UPSERTS:
            sets: Any = getattr(part, _UPSERTS[part.__visit_name__])
            yield from ((part, key, value) for key, value in dict(sets).items())


def _incoming(part: Any, column: sa.Column[Any], value: Any) -> bool:
    """Say whether a value is the row's that was to be inserted: the column's own sealed cell."""
    row = getattr(value, "table", None)
    named = getattr(part, "inserted_alias", None)
    same = row is named if named is not None else getattr(row, "name", None) == "excluded"
    return same and isinstance(row, sa.Alias) and column in {plain(c) for c in value.base_columns}


def _refuse_alias(table: Any) -> None:
    for part in visitors.iterate(table):
        if isinstance(part, sa.Table) and bound(plain(part)):
            raise InputError(
                f"cells of {part.fullname} are bound to their rows, which an UPDATE of an alias "
                "or a join does not show; update the table itself"
            )
