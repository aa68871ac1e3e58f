"""The table of wrapped keys: made, found, unwrapped, superseded and destroyed.

Each key is wrapped by its parent with AES-KWP (RFC 5649, NIST SP 800-38F), the domain key
by the master, which its provider keeps. Who owns what: the store owns which keys there
are; a transaction that makes a key holds the row of the domain key, so that no rotation
of the domain key passes it by.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from compliance.crypto import cache
from compliance.crypto.cache import Key
from compliance.crypto.providers import MasterKey
from compliance.crypto.tables import WrappedKey
from compliance.errors import DecryptionFailed, KeyDestroyed, KeyRetired
from compliance.store import Store

KEY = WrappedKey.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
BYTES = 32
_CHUNK = 5_000  # names in one query
_MOST_ID = 2**31 - 1  # a forged id may be larger than the column holds
Row = sa.Row[Any]


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key."""

    id: int
    kind: str
    name: str
    epoch: int
    created: str
    destroyed: str | None
    retired: str | None
    sealed: int

    @property
    def state(self) -> str:
        """Return ``live``, ``retired`` or ``destroyed``."""
        if self.destroyed:
            return "destroyed"
        return "retired" if self.retired else "live"


class Hierarchy:
    """The keys of one store and tenant under one master."""

    def __init__(self, store: Store, master: MasterKey, tenant: str) -> None:
        self.store = store
        self.master = master
        self.tenant = tenant
        self.cache = cache.KeyCache(str(store.engine.url))

    def __repr__(self) -> str:
        return f"<keys of {self.tenant!r} under {self.master.name}>"

    # -- finding and making -----------------------------------------------------------

    def current(self, kind: str, name: str) -> Key:
        """Return the newest epoch of a key, made where there is none.

        Raises:
            KeyDestroyed: it was destroyed; rotate it to seal anew.
        """
        held = self.cache.named(kind, name)
        return held or self.unwrap(self._find(kind, name) or self._make(kind, name), current=True)

    def subjects(self, names: Sequence[str]) -> dict[str, Key]:
        """Return the keys of many data subjects, made where there is none."""
        held = {name: self.cache.named("subject", name) for name in dict.fromkeys(names)}
        found = {name: key for name, key in held.items() if key is not None}
        wanted = [name for name in held if name not in found]
        for start in range(0, len(wanted), _CHUNK):
            rows = self._many(wanted[start : start + _CHUNK])
            found |= {row.name: self.unwrap(row, current=True) for row in rows}
        return found

    def row(self, key_id: int) -> Row | None:
        """Return a key's row, without unwrapping it."""
        return next(iter(self.many([key_id])), None)

    def many(self, key_ids: Iterable[int]) -> list[Row]:
        """Return the rows of those keys that there are, without unwrapping them."""
        possible = sorted(key_id for key_id in key_ids if key_id <= _MOST_ID)
        found: list[Row] = []
        for start in range(0, len(possible), _CHUNK):
            chunk = possible[start : start + _CHUNK]
            with self.store.reading() as connection:
                found += connection.execute(self.rows().where(KEY.c.id.in_(chunk))).all()
        return found

    def rows(self, kind: str | None = None, name: str | None = None) -> sa.Select[Any]:
        """Return a query for this tenant's keys, newest epoch first."""
        given = {"tenant": self.tenant, "kind": kind, "name": name}
        where = [KEY.c[column] == value for column, value in given.items() if value is not None]
        return sa.select(KEY).where(*where).order_by(KEY.c.epoch.desc(), KEY.c.id)

    def listing(self) -> list[KeyInfo]:
        """Return what may be shown of every key."""
        columns = [KEY.c[name] for name in KeyInfo.__dataclass_fields__]
        query = sa.select(*columns).where(KEY.c.tenant == self.tenant).order_by(KEY.c.id)
        with self.store.reading() as connection:
            return [KeyInfo(*row) for row in connection.execute(query)]

    def _find(self, kind: str, name: str) -> Row | None:
        with self.store.reading() as connection:
            return connection.execute(self.rows(kind, name).limit(1)).first()

    def _make(self, kind: str, name: str) -> Row:
        """Insert a fresh key; where another process was first, its key is the one."""
        with self.under_domain() as (connection, domain):
            return _first(connection, self.rows(kind, name), self.fresh(kind, name, domain))

    def _many(self, names: list[str]) -> Sequence[Row]:
        query = self.rows("subject").where(KEY.c.name.in_(names))
        with self.store.reading() as connection:
            there = connection.execute(query).all()
        if len(there) == len(names):
            return there
        with self.under_domain() as (connection, domain):
            known = {row.name for row in connection.execute(query)}
            values = [self.fresh("subject", n, domain) for n in names if n not in known]
            if values:
                connection.execute(sa.insert(KEY), values)
            return connection.execute(query).all()

    # -- the domain key ------------------------------------------------------------------

    def domain(self) -> Key:
        """Return the domain key; the first one is wrapped before a transaction holds a lock."""
        row = self._find("domain", self.tenant)
        if row is None:
            values = self.wrapped_domain(secrets.token_bytes(BYTES), epoch=1)
            with self.store.writing() as connection:
                row = _first(connection, self.rows("domain", self.tenant), values)
        return self.cache.get(row.id) or self.unwrap(row)

    @contextlib.contextmanager
    def under_domain(self) -> Iterator[tuple[sa.Connection, Key]]:
        """Yield a write transaction and the domain key, which no rotation replaces meanwhile."""
        self.domain()
        with self.store.writing() as connection:
            query = self.rows("domain", self.tenant).limit(1)
            # SQLite has locked the whole file; elsewhere whoever makes keys holds this row.
            row = connection.execute(query.with_for_update()).one()
            yield connection, self.cache.get(row.id) or self.unwrap(row)

    def wrapped_domain(self, material: bytes, *, epoch: int) -> dict[str, Any]:
        """Return the values of a row that holds a domain key under the master."""
        values = {"tenant": self.tenant, "kind": "domain", "name": self.tenant, "epoch": epoch}
        wrapped = self.master.wrap(material, context(self.tenant))
        values |= {"wrapped": wrapped, "wrapper": self.master.name}
        return values | {"parent": None, "created": now(), "sealed": 0}

    def fresh(self, kind: str, name: str, domain: Key, epoch: int = 1) -> dict[str, Any]:
        """Return the values of a row that holds a random key under the domain key."""
        wrapped = aes_key_wrap_with_padding(domain.material, secrets.token_bytes(BYTES))
        values = {"tenant": self.tenant, "kind": kind, "name": name, "epoch": epoch}
        return values | {"parent": domain.id, "wrapped": wrapped, "created": now(), "sealed": 0}

    # -- life and death --------------------------------------------------------------------

    def advance(self, kind: str, name: str, *, after: int | None = None) -> Key:
        """Make the next epoch of a key; what was sealed before opens as it did.

        Args:
            kind: of the key.
            name: of the key.
            after: the epoch to follow; where another process made a later one, that is returned.
        """
        with self.under_domain() as (connection, domain):
            query = self.rows(kind, name).limit(1)
            row = connection.execute(query).first()
            epoch = row.epoch if row else 0
            if row is None or after is None or epoch <= after:
                connection.execute(sa.insert(KEY).values(self.fresh(kind, name, domain, epoch + 1)))
                row = connection.execute(query).one()
        return self.unwrap(row, current=True)

    def destroy(self, connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[int]:
        """Destroy the keys that a condition names, inside a write transaction; return their ids.

        Every ring of this process forgets them at once, others within `cache.SECONDS`. A
        subject's name goes too: what is left tells nobody whose key it was.
        """
        where &= (KEY.c.tenant == self.tenant) & KEY.c.destroyed.is_(None)
        rows = connection.execute(sa.select(KEY.c.id, KEY.c.kind).where(where)).all()
        for key_id, kind in rows:
            gone: dict[str, Any] = {"wrapped": None, "destroyed": now()}
            if kind == "subject":
                gone["name"] = f"destroyed-{secrets.token_hex(8)}"
            connection.execute(sa.update(KEY).where(KEY.c.id == key_id).values(gone))
        self.forget(key_id for key_id, _kind in rows)
        self.store.scrub_after(connection)
        return [key_id for key_id, _kind in rows]

    def forget(self, key_ids: Iterable[int]) -> None:
        """Drop keys from the cache of every ring of this process."""
        cache.drop_everywhere(self.cache.store, key_ids)

    # -- unwrapping --------------------------------------------------------------------------

    def unwrap(self, row: Row, *, current: bool = False) -> Key:
        """Return the key of a row.

        Raises:
            KeyDestroyed: it was destroyed on purpose.
            KeyRetired: its epoch is over.
            DecryptionFailed: another master, or an altered row.
        """
        if row.wrapped is None:
            raise KeyDestroyed(f"key {row.id} was destroyed on {row.destroyed}")
        if row.retired is not None:
            raise KeyRetired(
                f"key {row.id} was retired on {row.retired}: what it sealed is out of date; "
                f"`compliance keys restore {row.id}` takes it back"
            )
        try:
            material = self._material(row)
        except KeyDestroyed:  # its domain key was rotated between two queries: read it again
            moved = self.row(row.id)
            if moved is None or moved.parent == row.parent:
                raise
            return self.unwrap(moved, current=current)
        key = Key(row.id, material, row.kind, row.name, row.epoch)
        self.cache.put(key, current=current)
        return key

    def _material(self, row: Row) -> bytes:
        if row.parent is None:
            return self.master.unwrap(bytes(row.wrapped), context(self.tenant), row.wrapper)
        held = self.cache.get(row.parent)
        return unwrapped((held or self._parent(row)).material, bytes(row.wrapped))

    def _parent(self, child: Row) -> Key:
        row = self.row(child.parent)
        if row is None:
            raise DecryptionFailed("a key's parent is not here; restore the database")
        return self.unwrap(row)


def _first(connection: sa.Connection, query: sa.Select[Any], values: dict[str, Any]) -> Row:
    """Return the row that a query finds, inserted where another process was not first."""
    row = connection.execute(query.limit(1)).first()
    if row is None:
        with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
            connection.execute(sa.insert(KEY).values(values))
        row = connection.execute(query.limit(1)).one()
    return row


def has_keys(store: Store) -> bool:
    """Say whether a store holds keys already: then only their own master key will do."""
    with store.reading() as connection:
        return connection.execute(sa.select(KEY.c.id).limit(1)).first() is not None


def context(tenant: str) -> dict[str, str]:
    """Return what a master authenticates beside a domain key."""
    return {"tenant": tenant, "purpose": "compliance domain key"}


def unwrapped(parent: bytes, wrapped: bytes) -> bytes:
    """Return a key that its parent wrapped.

    Raises:
        DecryptionFailed: another parent, or altered bytes.
    """
    try:
        return aes_key_unwrap_with_padding(parent, wrapped)
    except InvalidUnwrap:
        raise DecryptionFailed(
            "the master key is not the one this database was made with; restore the right file"
        ) from None


def now() -> str:
    """Return the time as the table of keys holds it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
