"""The key hierarchy: master -> domain -> column, subject, lookup and signing keys.

Each key is wrapped by its parent with AES-KWP (RFC 5649, NIST SP 800-38F); rotating
the master rewraps domain keys only. Destroying a subject's key makes everything
sealed under it, and the subject's pseudonym in the trail, unreadable and unlinkable.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import hmac
import math
import numbers
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from compliance.crypto import aead, master
from compliance.crypto.signing import Signer
from compliance.crypto.tables import WrappedKey
from compliance.errors import ConfigurationError, DecryptionFailed, KeyDestroyed
from compliance.store import Store

_KEY = WrappedKey.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
CACHE_SECONDS = 60.0  # how long another process may still use a key after it was destroyed
KINDS = (
    "domain", "column", "subject", "model", "file", "index", "join", "format", "token",
    "lookup", "signing",
)  # fmt: skip
_NEVER_OPEN = frozenset({"domain", "lookup", "signing"})  # no sealed value names one of these


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """An unwrapped key; its repr shows the id alone.

    Attributes:
        id: what stands in a sealed value.
        material: 32 bytes.
        kind: one of `KINDS`.
        name: what it seals: ``table.column``, a model, a keyed hash of a subject.
        cipher: AES-256-GCM under the material, made once.
    """

    id: int
    material: bytes
    kind: str = ""
    name: str = ""
    cipher: AESGCM = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cipher", AESGCM(self.material))

    def __repr__(self) -> str:
        return f"Key({self.id})"


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key."""

    id: int
    kind: str
    name: str
    epoch: int
    created: str
    destroyed: str | None


class Keyring:
    """All keys of one store and tenant, unwrapped as they are needed."""

    def __init__(self, store: Store, master_key: bytes, tenant: str) -> None:
        self.store = store
        self.tenant = tenant
        self._master = master_key
        self._cache: dict[int, tuple[float, Key]] = {}
        self._names: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"Keyring(tenant={self.tenant!r})"

    @classmethod
    def open(
        cls,
        store: Store,
        path: Path,
        *,
        tenant: str = "default",
        passphrase: str | None = None,
    ) -> Keyring:
        """Open the keys of a store; a new store without a key file gets a new master key.

        Raises:
            ConfigurationError: the store has keys but the master key file is missing.
            DecryptionFailed: the master key is not the one this store was made with.
        """
        ask = _ask(passphrase)
        if not path.exists() and not has_keys(store):
            with contextlib.suppress(ConfigurationError):  # another process was first: use its key
                master.create(path, ask and ask())
        if not path.exists():  # the file comes before the first key
            raise ConfigurationError(
                f"{path}: this database holds keys, but their master key file is not here; "
                "restore it, without it nothing that was sealed can be opened"
            )
        ring = cls(store, master.load(path, ask), tenant)
        # Made now, so that no reference needs a write of its own inside a caller's transaction.
        ring.named("lookup", "subjects")
        return ring

    # -- named keys --------------------------------------------------------------

    def column(self, table: str, column: str) -> Key:
        """Return the current key of a column, made on first use."""
        return self.named("column", f"{table}.{column}")

    def model(self, name: str) -> Key:
        """Return the key of a model's versions, made on first use."""
        return self.named("model", name)

    def subject(self, subject_type: str, identifier: object) -> Key:
        """Return the key of a data subject, made on first use."""
        return self.named("subject", self.reference(subject_type, identifier))

    def subjects(self, subject_type: str, identifiers: Sequence[object]) -> list[Key]:
        """Return the keys of many data subjects, made on first use."""
        return [self.subject(subject_type, identifier) for identifier in identifiers]

    def reserve(self, key: Key, count: int) -> Key:
        """Return the key under which ``count`` values may be sealed with random nonces."""
        del count
        return key

    def reference(self, subject_type: str, identifier: object) -> str:
        """Return the keyed hash under which we file a subject: consent, keys, suppression.

        HMAC-SHA-256 under the tenant's lookup key; the same person gives the same value,
        and without the key it cannot be computed or guessed.
        """
        return self.references(subject_type, [identifier])[0]

    def references(self, subject_type: str, identifiers: list[object]) -> list[str]:
        """Return `reference` of many subjects."""
        key = self.named("lookup", "subjects").material
        kind = subject_type.encode()
        prefix = len(kind).to_bytes(4, "big") + kind
        texts = (
            prefix + identity_text(identifier).encode("utf-8", "surrogatepass")
            for identifier in identifiers
        )
        return [hmac.digest(key, text, "sha256").hex() for text in texts]

    def pseudonym(self, subject_type: str, identifier: object) -> str:
        """Return the name by which the trail knows a subject: an HMAC under the subject's own key.

        When that key is destroyed the pseudonym can no longer be computed by anybody.
        """
        key = self.subject(subject_type, identifier).material
        return hmac.digest(key, b"compliance trail pseudonym v1", "sha256").hex()[:32]

    def signer(self) -> Signer:
        """Return the tenant's signing key."""
        return Signer(f"compliance/{self.tenant}", self.named("signing", "trail").material)

    # -- sealing -------------------------------------------------------------------

    def seal(self, key: Key, plaintext: bytes, place: aead.Place) -> bytes:
        """Return a sealed value bound to its place."""
        return aead.seal(key.cipher, key.id, plaintext, place.encode())

    def open_sealed(self, cell: bytes, place: aead.Place) -> bytes:
        """Return the plaintext of a sealed value.

        Raises:
            DecryptionFailed: unknown key, wrong place or altered bytes.
            KeyDestroyed: the key was destroyed on purpose.
        """
        key = self.by_id(aead.key_id_of(cell))
        return aead.open_sealed(key.cipher, cell, place.encode())

    def by_id(self, key_id: int) -> Key:
        """Return a key by the id that stands in a sealed cell."""
        cached = self._cache.get(key_id)
        if cached and cached[0] > time.monotonic():
            return cached[1]
        with self.store.reading() as connection:
            wanted = sa.literal(key_id, sa.BigInteger)  # a forged id may be larger
            where = (_KEY.c.id == wanted) & (_KEY.c.tenant == self.tenant)
            row = connection.execute(sa.select(_KEY).where(where)).one_or_none()
        if row is None or row.kind in _NEVER_OPEN:
            raise DecryptionFailed("the sealed value names a key that is not here")
        return self._unwrap(row)

    # -- life and death --------------------------------------------------------------

    def listing(self) -> list[KeyInfo]:
        """Return what may be shown of every key."""
        columns = [_KEY.c[name] for name in ("id", "kind", "name", "epoch", "created", "destroyed")]
        with self.store.reading() as connection:
            query = sa.select(*columns).where(_KEY.c.tenant == self.tenant).order_by(_KEY.c.id)
            rows = connection.execute(query).all()
        return [KeyInfo(*row) for row in rows]

    def destroy_subject(
        self, connection: sa.Connection, subject_type: str, identifier: object
    ) -> int:
        """Destroy a subject's key inside a write transaction; return how many were destroyed.

        Effective at commit in this process, and within `CACHE_SECONDS` in every other. The
        name goes too: what is left tells nobody whose key it was.
        """
        name = self.reference(subject_type, identifier)
        where = (
            (_KEY.c.tenant == self.tenant)
            & (_KEY.c.kind == "subject")
            & (_KEY.c.name == name)
            & _KEY.c.destroyed.is_(None)
        )
        ids = connection.execute(sa.select(_KEY.c.id).where(where)).scalars().all()
        for key_id in ids:
            gone = {
                "wrapped": None,
                "destroyed": _now(),
                "name": f"destroyed-{secrets.token_hex(8)}",
            }
            connection.execute(sa.update(_KEY).where(_KEY.c.id == key_id).values(gone))
            self._cache.pop(key_id, None)
        self._names.pop(("subject", name), None)
        self.store.scrub_after(connection)
        return len(ids)

    # -- wrapping --------------------------------------------------------------------

    def named(self, kind: str, name: str) -> Key:
        """Return the current key of a kind and name, made on first use."""
        key_id = self._names.get((kind, name))
        if (
            key_id is not None
            and key_id in self._cache
            and self._cache[key_id][0] > time.monotonic()
        ):
            return self._cache[key_id][1]
        row = self._find(kind, name) or self._make(kind, name)
        self._names[kind, name] = row.id
        return self._unwrap(row)

    def _domain(self) -> Key:
        row = self._find("domain", self.tenant) or self._make("domain", self.tenant)
        return self._unwrap(row)

    def _find(self, kind: str, name: str) -> sa.Row[tuple[object, ...]] | None:
        with self.store.reading() as connection:
            return connection.execute(self._current(kind, name)).first()

    def _current(self, kind: str, name: str) -> sa.Select[tuple[object, ...]]:
        where = (_KEY.c.tenant == self.tenant) & (_KEY.c.kind == kind) & (_KEY.c.name == name)
        return sa.select(_KEY).where(where).order_by(_KEY.c.epoch.desc()).limit(1)

    def _make(self, kind: str, name: str) -> sa.Row[tuple[object, ...]]:
        """Insert a fresh key; where another process was first, its key is the one."""
        parent = None if kind == "domain" else self._domain()
        wrapping = parent.material if parent else self._master
        wrapped = aes_key_wrap_with_padding(wrapping, secrets.token_bytes(master.BYTES))
        values = {"tenant": self.tenant, "kind": kind, "name": name, "epoch": 1}
        values["parent"] = parent and parent.id
        with self.store.writing() as connection:
            row = connection.execute(self._current(kind, name)).first()
            if row is None:
                values |= {"wrapped": wrapped, "created": _now()}
                with contextlib.suppress(sa.exc.IntegrityError), connection.begin_nested():
                    connection.execute(sa.insert(_KEY).values(values))
                row = connection.execute(self._current(kind, name)).one()
        return row

    def _unwrap(self, row: sa.Row[tuple[object, ...]]) -> Key:
        if row.wrapped is None:
            raise KeyDestroyed(f"key {row.id} was destroyed on {row.destroyed}")
        wrapping = self._master if row.parent is None else self._parent(row.parent).material
        try:
            material = aes_key_unwrap_with_padding(wrapping, bytes(row.wrapped))
        except InvalidUnwrap:
            raise DecryptionFailed(
                "the master key is not the one this database was made with; restore the right file"
            ) from None
        key = Key(row.id, material, row.kind, row.name)
        self._cache[row.id] = (time.monotonic() + CACHE_SECONDS, key)
        return key

    def _parent(self, key_id: int) -> Key:
        cached = self._cache.get(key_id)
        if cached:
            return cached[1]
        with self.store.reading() as connection:
            row = connection.execute(sa.select(_KEY).where(_KEY.c.id == key_id)).one_or_none()
        if row is None:
            raise DecryptionFailed("a key's parent is not here; restore the database")
        return self._unwrap(row)


def has_keys(store: Store) -> bool:
    """Say whether a store holds keys already: then only their own master key will do."""
    with store.reading() as connection:
        return connection.execute(sa.select(_KEY.c.id).limit(1)).first() is not None


def _ask(passphrase: str | None) -> master.Passphrase | None:
    given = passphrase or os.environ.get("COMPLIANCE_PASSPHRASE")
    return (lambda: given) if given else None


def identity_text(identifier: object) -> str:
    """Return the text of an identifier: 7, 7.0 and "7" are one person, as databases mix them."""
    return str(_whole(identifier)).strip()


def _whole(number: Any) -> Any:
    """Return a number without a fraction as int; NumPy's numbers are Real, Decimal is not."""
    if isinstance(number, bool) or not isinstance(number, (numbers.Real, decimal.Decimal)):
        return number
    value: Any = number
    return int(value) if math.isfinite(value) and value == int(value) else value


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
