"""Appending to and reading from the trail.

Who owns what: the head row owns the length. Entries and the head move in one
transaction, the head by compare-and-swap, so that two writers cannot fork the
log and a crash leaves either both or neither. An entry is acknowledged when
that transaction has committed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from compliance.errors import IntegrityError, StoreError, TrailCorrupt
from compliance.store import Store
from compliance.trail import checkpoint, entries, merkle
from compliance.trail.tables import Entry, Head

_COLUMNS = ("time", "event", "actor", "activity", "subject", "outcome")
_ENTRY = Entry.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
_HEAD = Head.__table__  # type: ignore[attr-defined]  # as above
PAGE = 2_000
_ADVICE = "; run `compliance trail verify`"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as read: its index, its bytes and what they say."""

    index: int
    body: bytes
    values: dict[str, Any]


class Trail:
    """The log of one database."""

    def __init__(self, store: Store, signer: checkpoint.Signer) -> None:
        self.store = store
        self.signer = signer

    def append(self, *events: entries.Event) -> int:
        """Record events durably and return the index of the first.

        Raises:
            StoreError: not recorded; the caller must not go on.
        """
        with self.store.writing() as connection:
            return self.append_in(connection, *events)

    def append_in(self, connection: sa.Connection, *events: entries.Event) -> int:
        """Record events in the caller's own write transaction: both commit, or neither."""
        head = _locked_head(connection)
        frontier = self._trusted(head)
        now = dt.datetime.now(dt.UTC)
        rows = [_row(head.size + i, event.body(now)) for i, event in enumerate(events)]
        for row in rows:
            frontier.append(row["leaf_hash"])
        if rows:
            rows[-1]["root"] = frontier.root()
            connection.execute(sa.insert(_ENTRY), rows)
            self._move(connection, head, frontier)
        return int(head.size)

    def _trusted(self, head: Any) -> merkle.Frontier:
        """Return the tree state of a head whose signed note vouches for it.

        Without this the next append would put a signature under whatever a hand had
        written into the head, and launder it.

        Raises:
            TrailCorrupt: the head is not what this log signed last.
        """
        if head.size == 0:
            note = checkpoint.Checkpoint(self.signer.name, 0, merkle.EMPTY_ROOT)
        else:
            note = self._signed(head.note)
        if (note.size, note.root) != (head.size, raw(head.root)):
            raise TrailCorrupt("the trail's head is not the one that was signed" + _ADVICE)
        frontier = merkle.Frontier.decode(note.size, raw(head.frontier))
        if frontier.root() != note.root:
            raise TrailCorrupt("the trail's stored tree state is not that of its head" + _ADVICE)
        return frontier

    def _signed(self, note: str) -> checkpoint.Checkpoint:
        try:
            return checkpoint.open_note(note, self.signer)
        except IntegrityError as error:
            origin = str(note).partition("\n")[0]
            if origin != self.signer.name:
                raise TrailCorrupt(
                    f"the trail of this database is that of {origin[:100]!r}, not of "
                    f"{self.signer.name!r}: give each tenant a database of its own"
                ) from error
            raise TrailCorrupt(f"the trail's head: {error}{_ADVICE}") from error

    def _move(self, connection: sa.Connection, head: Any, frontier: merkle.Frontier) -> None:
        root = frontier.root()
        note = checkpoint.sign(
            checkpoint.Checkpoint(self.signer.name, frontier.size, root), self.signer
        )
        moved = connection.execute(
            sa.update(_HEAD)
            .where(_HEAD.c.id == 1, _HEAD.c.size == head.size, _HEAD.c.root == head.root)
            .values(size=frontier.size, root=root, frontier=frontier.encode(), note=note)
        )
        if moved.rowcount != 1:
            raise StoreError("the trail's head moved under this transaction; nothing was recorded")

    def read(
        self,
        *,
        start: int = 0,
        newest_first: bool = False,
        filters: Mapping[str, str | None] | None = None,
    ) -> Iterator[Recorded]:
        """Yield entries from an index on, or backwards from the end, by exact filters.

        Args:
            start: the first index to read.
            newest_first: the last entry first.
            filters: ``event``, ``actor``, ``activity``, ``subject``, ``outcome``; None is ignored.
        """
        where = [
            _ENTRY.c[name] == value for name, value in (filters or {}).items() if value is not None
        ]
        order = _ENTRY.c.index.desc() if newest_first else _ENTRY.c.index
        query = sa.select(_ENTRY.c.index, _ENTRY.c.body).where(_ENTRY.c.index >= start, *where)
        with self.store.reading() as connection:
            for row in connection.execute(query.order_by(order).execution_options(yield_per=PAGE)):
                body = raw(row.body)
                yield Recorded(row[0], body, entries.parse(body))

    @staticmethod
    def events_in(
        connection: sa.Connection, names: Collection[str], *, activity: str | None = None
    ) -> Iterator[Recorded]:
        """Yield the entries of these events in the caller's own transaction, oldest first."""
        where = [_ENTRY.c.event.in_(names)]
        if activity is not None:
            where.append(_ENTRY.c.activity == activity)
        query = sa.select(_ENTRY.c.index, _ENTRY.c.body).where(*where).order_by(_ENTRY.c.index)
        for row in connection.execute(query.execution_options(yield_per=PAGE)):
            body = raw(row.body)
            yield Recorded(row[0], body, entries.parse(body))

    def size(self) -> int:
        """Return the number of entries."""
        with self.store.reading() as connection:
            return int(connection.execute(sa.select(_HEAD.c.size)).scalar_one_or_none() or 0)

    def checkpoint(self) -> str:
        """Return the signed note of the head; empty for an empty log."""
        with self.store.reading() as connection:
            return connection.execute(sa.select(_HEAD.c.note)).scalar_one_or_none() or ""


def _locked_head(connection: sa.Connection) -> Any:
    """Read the head under a lock that lasts until the transaction ends."""
    query = sa.select(_HEAD).where(_HEAD.c.id == 1).with_for_update()
    head = connection.execute(query).one_or_none()
    return _first_head(connection) if head is None else head


def _first_head(connection: sa.Connection) -> Any:
    """Insert the head of an empty log; where another writer was first, wait for it and take its."""
    first = {"id": 1, "size": 0, "root": merkle.EMPTY_ROOT, "frontier": b"", "note": ""}
    with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
        connection.execute(sa.insert(_HEAD), first)
    head = connection.execute(sa.select(_HEAD).where(_HEAD.c.id == 1).with_for_update()).one()
    if head.size == 0 and connection.execute(sa.select(_ENTRY.c.index).limit(1)).first():
        raise TrailCorrupt("the trail has entries but no head" + _ADVICE)
    return head


def raw(value: object) -> bytes:
    """Return a column's bytes; SQLite lets a hand put any type there, and that matches nothing."""
    return bytes(value) if isinstance(value, (bytes, memoryview)) else b""


def _row(index: int, body: bytes) -> dict[str, Any]:
    values = entries.parse(body)
    row = {name: values[name] for name in _COLUMNS}
    leaf = merkle.leaf_hash(body)
    return row | {"index": index, "body": body, "leaf_hash": leaf, "root": None}


def stored_entries(connection: sa.Connection, start: int = 0) -> Iterator[Sequence[Any]]:
    """Yield the raw rows in order of index, for verification."""
    query = sa.select(_ENTRY).where(_ENTRY.c.index >= start).order_by(_ENTRY.c.index)
    yield from connection.execute(query.execution_options(yield_per=PAGE))


def stored_head(connection: sa.Connection) -> Any:
    """Return the raw head row, or None."""
    return connection.execute(sa.select(_HEAD).where(_HEAD.c.id == 1)).one_or_none()
