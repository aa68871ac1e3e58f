"""Sealing the encrypted columns of a table anew under the newest epoch of their keys.

Lazy: in small transactions, while the table is in use. A cell is replaced only where it is
still the one that was read, so a concurrent write wins. Killed and run again, the job
passes over what is done, for a cell names the key that sealed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from compliance.crypto import aead
from compliance.crypto.orm_cells import ERASED, row_text
from compliance.crypto.orm_types import Encrypted, EncryptedRow
from compliance.errors import InputError, IntegrityError

Progress = Callable[[int, int, str], None]
BATCH = 500  # rows in one transaction


def _silent(_done: int, _total: int, _what: str) -> None:
    return None


@dataclass(slots=True)
class Resealed:
    """What a run did.

    Attributes:
        cells: how many were sealed anew, by column.
        left: how many do not open, or changed meanwhile, by column; run again for the second.
    """

    cells: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)


def reencrypt(engine: sa.Engine, table: sa.Table, *, progress: Progress = _silent) -> Resealed:
    """Seal what older epochs sealed, column by column; columns under subjects' keys have none.

    Args:
        engine: the user's database.
        table: with `Encrypted` or `EncryptedRow` columns, its MetaData bound to a keyring.
        progress: called with cells done and to be done.

    Raises:
        InputError: no such columns, or no primary key to find the rows by.
        ConfigurationError: the MetaData is not bound to keys.
        KeyDestroyed: the column's key was destroyed.
    """
    columns = [c for c in table.columns if isinstance(c.type, Encrypted) and not _own(c.type)]
    if not columns or not table.primary_key.columns:
        raise InputError(f"{table.name}: needs columns under a key of their own, and a primary key")
    done = Resealed()
    for column in columns:
        job = _Job(engine, table, column)
        done.cells[column.name], done.left[column.name] = job.run(progress)
    return done


def _own(kind: Encrypted) -> bool:
    """Say whether each row is sealed under its subject's own key: such keys have no epochs."""
    return isinstance(kind, EncryptedRow) and kind.subject is not None


class _Job:
    """One column. Beneath the encrypted types: the table is seen as the database holds it."""

    def __init__(self, engine: sa.Engine, table: sa.Table, column: sa.Column[Any]) -> None:
        kind = column.type
        assert isinstance(kind, Encrypted)  # noqa: S101  the caller picked it so
        self._engine, self._kind, self._name = engine, kind, column.name
        keys = [sa.column(c.name, c.type) for c in table.primary_key.columns]
        self._cell: sa.ColumnClause[Any] = sa.column(column.name, sa.LargeBinary)
        # As the driver gives it: what no cell is may be text or a number in SQLite.
        self._raw = sa.type_coerce(self._cell, sa.types.NullType())
        self._table = sa.table(table.name, *keys, self._cell, schema=table.schema)
        self._keys = keys

    def run(self, progress: Progress) -> tuple[int, int]:
        """Return how many cells were sealed anew and how many are left."""
        ring, table, column = self._kind.where()
        newest = aead.header(ring.column(table, column).id)[1:]
        # The key id stands in bytes 2 to 5 of a cell; SQLite has NULL there for a cell of none.
        key_id = sa.func.coalesce(sa.func.substr(self._cell, 2, 4), sa.literal(b""))
        old = self._cell.is_not(None) & (key_id != sa.literal(newest))
        with self._engine.connect() as connection:
            count = sa.select(sa.func.count()).select_from(self._table).where(old)
            total = connection.execute(count).scalar_one()
        done = left = 0
        last: Sequence[Any] | None = None
        while rows := self._rows(old, last):
            changed = self._reseal(rows)
            done, left = done + changed, left + len(rows) - changed
            last = rows[-1][:-1]
            progress(done + left, total, f"{self._name} sealed anew")
        return done, left

    def _rows(self, old: sa.ColumnElement[bool], last: Sequence[Any] | None) -> list[sa.Row[Any]]:
        query = sa.select(*self._keys, self._raw).where(old)
        if last is not None:
            query = query.where(self._after(last))
        with self._engine.connect() as connection:
            return list(connection.execute(query.order_by(*self._keys).limit(BATCH)))

    def _after(self, last: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Return the condition of rows after one, in the order of the primary key."""
        later: sa.ColumnElement[bool] = sa.false()
        for i, key in enumerate(self._keys):
            same = [k == value for k, value in zip(self._keys[:i], last, strict=False)]
            later |= sa.and_(*same, key > last[i])
        return later

    def _reseal(self, rows: list[sa.Row[Any]]) -> int:
        """Replace the cells of some rows in one transaction; return how many were replaced."""
        changed = 0
        with self._engine.begin() as connection:
            for row in rows:
                key: list[Any] = list(row[:-1])
                cell = row[-1]
                fresh = self._fresh(key, cell)
                if fresh is None:
                    continue
                mine = [k == value for k, value in zip(self._keys, key, strict=True)]
                change = sa.update(self._table).where(*mine, self._cell == bytes(cell))
                changed += connection.execute(change.values({self._name: fresh})).rowcount
        return changed

    def _fresh(self, key: list[Any], cell: object) -> bytes | None:
        """Return the value sealed anew; None where it does not open, or is no cell: it stays."""
        row = row_text(key) if isinstance(self._kind, EncryptedRow) else None
        try:
            value = self._kind.unseal(cell, row)
        except IntegrityError:
            return None
        return self._kind.seal(value, row).raw if value is not ERASED else None
