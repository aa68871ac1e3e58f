"""Finding the rows of a table whose cells do not open, so that one of them spoils no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, Session

from compliance.crypto.orm_cells import PUBLIC, row_text
from compliance.crypto.orm_types import Encrypted, EncryptedRow
from compliance.errors import InputError, IntegrityError, KeyRetired

BATCH = 1000  # rows that are held at a time


class Unreadable(NamedTuple):
    """A cell that does not open.

    Attributes:
        table: the table's name.
        column: the column's.
        key: the row's primary key, as ``session.get`` takes it; it may be personal data.
    """

    table: str
    column: str
    key: Any


def unreadable(connection: Session | sa.Connection, entity: Any) -> list[Unreadable]:
    """Return the cells of a table that do not open, in the order of the database.

    What was erased is not among them: it loads. It reads the whole table, and changes nothing.

    Args:
        connection: a session or a connection; of an `AsyncSession`, its ``run_sync``.
        entity: a mapped class, or a table.

    Raises:
        InputError: a class or table without encrypted columns.
        ConfigurationError: the MetaData is not bound to keys.
        KeyRetired: cells lie under a retired epoch; restore it first, for they can be opened.
    """
    tables = [table for table in _tables(entity) if _encrypted(table)]
    if not tables:
        raise InputError("unreadable takes a mapped class, or a table, with encrypted columns")
    return [found for table in tables for found in _survey(connection, table)]


def _tables(entity: Any) -> list[sa.Table]:
    mapper = entity if isinstance(entity, sa.Table) else sa.inspect(entity, raiseerr=False)
    found = mapper.tables if isinstance(mapper, Mapper) else [mapper]
    return [table for table in found if isinstance(table, sa.Table)]


def _encrypted(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.columns if isinstance(column.type, Encrypted)]


def _survey(connection: Session | sa.Connection, table: sa.Table) -> Iterator[Unreadable]:
    columns, keys = _encrypted(table), list(table.primary_key)
    # As the driver gives it: a column type would stumble over text in a column of bytes.
    raw = [sa.type_coerce(column, sa.types.NullType()) for column in columns]
    subjects = [table.columns[name] if (name := _subject(c)) else sa.null() for c in columns]
    query = sa.select(*keys, *subjects, *raw).execution_options(yield_per=BATCH)
    with connection.execute(query) as rows:  # closed also where a cell ends the survey
        for values in map(tuple, rows):
            key, rest = values[: len(keys)], values[len(keys) :]
            for i, column in enumerate(columns):
                if not _opens(column.type, rest[len(columns) + i], key, rest[i]):
                    yield Unreadable(table.fullname, column.key, key if len(key) > 1 else key[0])


def _subject(column: sa.Column[Any]) -> str | None:
    kind = column.type
    return kind.subject[1] if isinstance(kind, EncryptedRow) and kind.subject else None


def _opens(kind: Any, raw: object, key: tuple[Any, ...], subject: object) -> bool:
    bound = isinstance(kind, EncryptedRow)
    if raw is None:
        return not (bound and kind.nulls == "seal")
    try:
        kind.unseal(raw, row_text(key) if bound else None, subject)
    except KeyRetired:
        raise  # `compliance keys restore` takes it back: to list it is to have it cleared
    except (IntegrityError, InputError):
        return False
    return True


for _public in (Unreadable, unreadable):
    _public.__module__ = PUBLIC
