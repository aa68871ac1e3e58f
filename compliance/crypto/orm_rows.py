"""Rows for `EncryptedRow` on instances: cells open as they load, and are sealed anew together.

Attributes of instances hold plaintext at all times and are never exchanged for something
else during a flush. What is exchanged are the values on their way from the ORM, or from Core,
to the database: see `compliance.crypto.orm_statements`. An attribute whose key was destroyed
is None, so that response models and exports need not know; `erased` tells it from a NULL.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Mapper, attributes
from sqlalchemy.orm.state import InstanceState

from compliance.crypto.orm_cells import ERASED, PUBLIC, Sealed, row_text, with_way_out
from compliance.crypto.orm_statements import seal_parameters
from compliance.crypto.orm_types import Encrypted, EncryptedRow
from compliance.crypto.orm_writes import refuse_hidden
from compliance.errors import ComplianceError, DecryptionFailed, InputError

_ERASED = "compliance.erased"  # where an instance's state names the attributes that are erased


def install() -> None:
    """Listen to every engine and mapper; done once, when `compliance.crypto.orm` is imported."""
    event.listen(sa.Engine, "before_execute", seal_parameters, retval=True)
    event.listen(sa.Engine, "before_cursor_execute", refuse_hidden)
    event.listen(sa.Engine, "handle_error", _ours)
    event.listen(Mapper, "mapper_configured", _watch)


def _ours(context: Any) -> ComplianceError | None:
    """Give an error of ours as it is: SQLAlchemy's wrapper would quote unprocessed parameters."""
    error = context.original_exception
    return copy.copy(error) if isinstance(error, ComplianceError) else None


def erased(instance: object) -> frozenset[str]:
    """Return the attributes of an instance that are None because their key was destroyed.

    It loads what is expired or deferred, as reading the attributes does.

    Raises:
        InputError: not an instance of a mapped class.
    """
    state = sa.inspect(instance, raiseerr=False)
    if not isinstance(state, InstanceState):
        raise InputError("erased takes an instance of a mapped class, such as a row of a session")
    for prop in state.mapper.column_attrs:
        if isinstance(prop.columns[0].type, Encrypted):
            getattr(instance, prop.key)
    return frozenset(_erased_now(state))


def _erased_now(state: InstanceState[Any]) -> set[str]:
    marked: set[str] = state.info.get(_ERASED, set())
    return {name for name in marked if state.dict.get(name, ERASED) is None}


def _mark(state: InstanceState[Any], name: str, value: object) -> Any:
    """Return what the attribute shall hold, and note whether it is erased."""
    if value is ERASED:
        state.info.setdefault(_ERASED, set()).add(name)
        return None
    if _ERASED in state.info:
        state.info[_ERASED].discard(name)
    return value


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute bound to its row: its name, type, the key's attributes and the subject's."""

    name: str
    kind: EncryptedRow
    keys: tuple[str, ...]
    subject: str | None


def _watch(mapper: Mapper[Any], cls: type) -> None:
    """Open and keep together the encrypted attributes of a mapped class."""
    encrypted = [p.key for p in mapper.column_attrs if isinstance(p.columns[0].type, Encrypted)]
    if not encrypted:
        return
    bound = list(_bound_attributes(mapper))
    free = sorted(set(encrypted) - {item.name for item in bound})
    identity = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    opening = partial(_open, bound, free, identity)
    for name in ("load", "refresh", "refresh_flush"):
        event.listen(cls, name, opening, raw=True, insert=True, restore_load_context=True)
    if bound:
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
    free: Sequence[str],
    identity: Sequence[str],
    state: InstanceState[Any],
    *context: Any,
) -> None:
    """Put values in the place of the cells that were just loaded; nothing becomes dirty.

    The row is the identity under which the instance was loaded, also while a change of its
    primary key waits for a flush.
    """
    fresh = context[1] if len(context) > 1 else None
    if context and context[0] is None:  # a value that a statement set, not one that was loaded
        for name in fresh or ():
            _mark(state, name, state.dict.get(name))
        return
    known = dict(zip(identity, state.key[1], strict=True)) if state.key else {}
    rows: dict[tuple[str, ...], str] = {}
    for item in bound:
        cell = state.dict.get(item.name, item)
        if isinstance(cell, Sealed) or (cell is None and _bare_null(item, state, fresh)):
            try:
                value = _opened(item, state.dict, known, rows)
            except BaseException as error:
                state._expire_attributes(state.dict, [item.name])  # noqa: SLF001  the public one wants a session
                if isinstance(error, DecryptionFailed):
                    raise with_way_out(error, state.class_.__name__) from None
                raise
            state.dict[item.name] = _mark(state, item.name, value)
        elif fresh is not None and item.name in fresh:
            _mark(state, item.name, cell)
    for name in free:
        if state.dict.get(name) is ERASED:
            state.dict[name] = _mark(state, name, ERASED)


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
        anchors = {*item.keys, item.subject} if item.subject else {*item.keys}
        # A subject that is no part of the key stands in the UPDATE only where it is set.
        beside = {name for name in (item.subject,) if name and name not in item.keys}
        family = {b.name for b in bound if b.subject == item.subject} if beside else set()
        if changed & (anchors | family):
            again |= {item.name} | beside
    for name in changed:
        _mark(state, name, None)
    _reseal(target, state, again - changed)


def _reseal(target: Any, state: InstanceState[Any], names: set[str]) -> None:
    """Have unchanged attributes written again; a changed one must keep its former value."""
    for name in names:
        getattr(target, name)  # one that is not loaded is
    gone = names & _erased_now(state)
    if gone:
        raise InputError(
            f"{type(target).__name__}.{', '.join(sorted(gone))} was erased and cannot be sealed "
            "anew, as this change needs; first clear it: session.execute(update(T).where(<primary "
            f"key>).values({'=None, '.join(sorted(gone))}=None)), or give it a value"
        )
    for name in names:
        attributes.flag_modified(target, name)


erased.__module__ = PUBLIC
