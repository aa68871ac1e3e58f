"""The table of wrapped keys: made, found, unwrapped, superseded and destroyed.

Each key is wrapped by its parent with AES-KWP (RFC 5649, NIST SP 800-38F), the domain key
by the master, which its provider keeps. Who owns what: the store owns which keys there
are; a transaction that makes a key holds the row of the domain key, so that no rotation
of the domain key passes it by.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from compliance.crypto import aead, cache
from compliance.crypto.cache import Key
from compliance.crypto.providers import MasterKey
from compliance.crypto.tables import WrappedKey
from compliance.errors import (
    ConfigurationError,
    DecryptionFailed,
    KeyDestroyed,
    KeyRetired,
    OperationError,
    StoreError,
)
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
        self.cache = cache.KeyCache()

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
        """Return the domain key, made where there is none."""
        row = self._find("domain", self.tenant)
        if row is None:
            with self.store.writing() as connection:
                values = self.wrapped_domain(secrets.token_bytes(BYTES), epoch=1)
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
        """Return the values of a row that holds a domain key under the master.

        Call it inside the write transaction that stores them, after `lock_domains`: whoever
        forgets an earlier master looks at the rows under the same lock.
        """
        values = self._values("domain", self.tenant, epoch, material)
        return values | {"parent": None, **wrapped_by(self.master, material, self.tenant)}

    def lock_domains(self, connection: sa.Connection) -> Sequence[Row]:
        """Return the live domain keys, newest first, which nobody else changes until commit."""
        query = self.rows("domain", self.tenant).where(KEY.c.wrapped.is_not(None))
        return connection.execute(query.with_for_update()).all()

    def fresh(self, kind: str, name: str, domain: Key, epoch: int = 1) -> dict[str, Any]:
        """Return the values of a row that holds a random key under the domain key."""
        material = secrets.token_bytes(BYTES)
        wrapped = aes_key_wrap_with_padding(domain.material, material)
        values = self._values(kind, name, epoch, material)
        return values | {"parent": domain.id, "wrapped": wrapped}

    def _values(self, kind: str, name: str, epoch: int, material: bytes) -> dict[str, Any]:
        mac = row_mac(material, self.tenant, kind, name, epoch, retired=None)
        values = {"tenant": self.tenant, "kind": kind, "name": name, "epoch": epoch}
        return values | {"created": now(), "sealed": 0, "mac": mac}

    # -- life and death --------------------------------------------------------------------

    def advance(
        self,
        kind: str,
        name: str,
        *,
        after: int | None = None,
        record: Callable[[sa.Connection, Row], None] | None = None,
    ) -> Key:
        """Make the next epoch of a key; what was sealed before opens as it did.

        Args:
            kind: of the key.
            name: of the key.
            after: the epoch to follow; where another process made a later one, that is returned.
            record: called in the transaction that makes the key.
        """
        with self.under_domain() as (connection, domain):
            query = self.rows(kind, name).limit(1)
            row = connection.execute(query).first()
            epoch = row.epoch if row else 0
            if row is None or after is None or epoch <= after:
                connection.execute(sa.insert(KEY).values(self.fresh(kind, name, domain, epoch + 1)))
                row = connection.execute(query).one()
                if record is not None:
                    record(connection, row)
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
        cache.bar_everywhere(key_id for key_id, _kind in rows)
        self.store.scrub_after(connection)
        return [key_id for key_id, _kind in rows]

    # -- unwrapping --------------------------------------------------------------------------

    def unwrap(self, row: Row, *, current: bool = False) -> Key:
        """Return the key of a row.

        Raises:
            KeyDestroyed: it was destroyed on purpose.
            KeyRetired: its epoch is over.
            DecryptionFailed: another master, or an altered row.
        """
        if row.wrapped is not None and row.retired is not None:
            raise KeyRetired(
                f"key {row.id} was retired on {row.retired}: what it sealed is out of date; "
                f"`compliance keys restore {row.id}` takes it back"
            )
        key = Key(row.id, self.material(row), row.kind, row.name, row.epoch)
        self.cache.put(key, current=current)
        return key

    def material(self, row: Row) -> bytes:
        """Return the material of a row, also of a retired one.

        Raises:
            KeyDestroyed: it was destroyed on purpose.
            DecryptionFailed: another master, or an altered row.
        """
        if row.wrapped is None:
            raise KeyDestroyed(f"key {row.id} was destroyed on {row.destroyed}")
        try:
            found = self._unwrapped(row)
        except KeyDestroyed:  # its domain key was rotated between two queries: read it again
            moved = self.row(row.id)
            if moved is None or moved.parent == row.parent:
                raise
            return self.material(moved)
        own = row_mac(found, row.tenant, row.kind, row.name, row.epoch, row.retired)
        if len(found) != BYTES or not hmac.compare_digest(own, row.mac or b""):
            raise DecryptionFailed(f"the row of key {row.id} was altered; restore the database")
        return found

    def _unwrapped(self, row: Row) -> bytes:
        wrapped = wrapped_of(row)
        if row.kind == "domain":
            return self._by_master(wrapped, row.wrapper)
        held = None if row.parent is None else self.cache.get(row.parent)
        return unwrapped((held or self._parent(row)).material, wrapped)

    def _by_master(self, wrapped: bytes, wrapper: str | None) -> bytes:
        try:
            return self.master.unwrap(wrapped, context(self.tenant), wrapper)
        except KeyDestroyed as error:  # a master's end is no erasure of the persons under it
            raise StoreError(f"{error}; nothing under this master opens until it is back") from None

    def _parent(self, child: Row) -> Key:
        row = None if child.parent is None else self.row(child.parent)
        if row is None or row.kind != "domain":
            raise DecryptionFailed(f"key {child.id} hangs on no domain key; restore the database")
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


def require_own(store: Store, tenant: str) -> None:
    """Return where a store holds no keys yet, or those of this tenant.

    Raises:
        ConfigurationError: it is another tenant's.
    """
    with store.reading() as connection:
        tenants = set(connection.execute(sa.select(KEY.c.tenant).distinct()).scalars())
    if tenants and tenant not in tenants:
        raise ConfigurationError(
            f"this database holds the keys of tenant {min(tenants)!r}, and the settings say "
            f"{tenant!r}: give each tenant a database of its own"
        )


def context(tenant: str) -> dict[str, str]:
    """Return what a master authenticates beside a domain key."""
    return {"tenant": tenant, "purpose": "compliance domain key"}


def row_mac(
    material: bytes, tenant: str, kind: str, name: str, epoch: int, retired: str | None
) -> bytes:
    """Return HMAC-SHA-256 under a key of what its row says of it; each part with its length.

    Only who can unwrap the key can compute it, so a row cannot be edited into another's, and
    a new wrapping needs no new one.
    """
    bound = b"".join(map(aead.part, (tenant, kind, name, str(epoch), retired or "")))
    return hmac.digest(material, b"compliance key row v1\0" + bound, "sha256")


def wrapped_by(master: MasterKey, material: bytes, tenant: str) -> dict[str, Any]:
    """Return what a domain key's row holds of its master, once it was seen to unwrap again.

    A server that answers nonsense, a lost private key, or a master that another process
    rotates meanwhile would otherwise lose every key.

    Raises:
        OperationError: it does not unwrap to what was wrapped.
    """
    name, about = master.name, context(tenant)
    wrapped = master.wrap(material, about)
    if not hmac.compare_digest(master.unwrap(wrapped, about, name), material):
        raise OperationError(
            f"{name} does not give back what it wrapped; nothing was changed: try again, and do "
            "not use it if that stays so"
        )
    return {"wrapped": wrapped, "wrapper": name}


def wrapped_of(row: Row) -> bytes:
    """Return what a row holds wrapped; SQLite may hold any type in any column.

    Raises:
        DecryptionFailed: no bytes.
    """
    if isinstance(row.wrapped, (bytes, memoryview)):
        return bytes(row.wrapped)
    raise DecryptionFailed(f"the row of key {row.id} was altered; restore the database")


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
