"""The keyring: keys by name, subjects by keyed hash, values sealed and opened.

``master -> domain -> column | subject | model | lookup | signing``; see
`compliance.crypto.hierarchy`. Destroying a subject's key makes everything sealed under
it, and the subject's pseudonym in the trail, unreadable and unlinkable.
"""

from __future__ import annotations

import contextlib
import decimal
import hmac
import math
import numbers
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from compliance.config import Settings
from compliance.crypto import aead, cache, providers
from compliance.crypto.cache import Key
from compliance.crypto.hierarchy import KEY, Hierarchy, KeyInfo, has_keys
from compliance.crypto.providers import MasterKey
from compliance.crypto.signing import Signer
from compliance.errors import ConfigurationError, DecryptionFailed, InputError
from compliance.store import Store

__all__ = [
    "BLOCK",
    "CACHE_SECONDS",
    "MOST_SEALED",
    "Key",
    "KeyInfo",
    "Keyring",
    "identity_text",
    "require_identifiers",
    "row_identity",
]
CACHE_SECONDS = cache.SECONDS
_NEVER_OPEN = frozenset({"domain", "lookup", "signing"})  # no sealed value names one of these
MOST_SEALED = 2**32  # random nonces under one key (NIST SP 800-38D, 8.3)
BLOCK = 2**16  # nonces that a process reserves at once where it seals one value at a time


class Keyring:
    """All keys of one store and tenant, unwrapped as they are needed."""

    def __init__(self, store: Store, master: MasterKey, tenant: str = "default") -> None:
        """Open the hierarchy; a store without keys gets its first ones.

        Raises:
            ConfigurationError: another master wraps the keys of this store.
            DecryptionFailed: the master is not the one this store was made with.
        """
        self.store = store
        self.tenant = tenant
        self.keys = Hierarchy(store, master, tenant)
        # Made now, so that no reference needs a write of its own inside a caller's transaction.
        self.named("lookup", "subjects")

    def __reduce__(self) -> str:
        raise TypeError("a keyring does not travel between processes; open the guard in each")

    def __repr__(self) -> str:
        return f"Keyring(tenant={self.tenant!r}, master={self.keys.master.name!r})"

    @classmethod
    def open(
        cls, store: Store, path: Path, *, tenant: str = "default", passphrase: str | None = None
    ) -> Keyring:
        """Open the keys of a store under a local key file; see `configured`."""
        settings = Settings(master=f"file:{path}", tenant=tenant)
        return cls.configured(store, settings, passphrase=passphrase)

    @classmethod
    def configured(
        cls, store: Store, settings: Settings, *, passphrase: str | None = None
    ) -> Keyring:
        """Open the keys of a store under the master that the settings name.

        A new store without a master gets a new one, where that is ours to make.

        Raises:
            ConfigurationError: the store has keys but their master is not here.
            DecryptionFailed: the master is not the one this store was made with.
        """
        here = providers.has_master(settings)
        if not here and has_keys(store):
            raise ConfigurationError(
                f"{_where(settings)}: this database holds keys, but their master is not here; "
                "restore it, or recover from an export with `compliance keys import`: without "
                "it nothing that was sealed can be opened"
            )
        if not here:  # the master comes before the first key
            with contextlib.suppress(ConfigurationError):  # another process was first: its key
                providers.create_master(settings, passphrase)
        return cls(store, providers.open_master(settings, passphrase=passphrase), settings.tenant)

    # -- named keys --------------------------------------------------------------

    def column(self, table: str, column: str) -> Key:
        """Return the current key of a column, made on first use."""
        return self.named("column", f"{table}.{column}")

    def model(self, name: str) -> Key:
        """Return the key of a model's versions, made on first use."""
        return self.named("model", name)

    def named(self, kind: str, name: str) -> Key:
        """Return the current key of a kind and name, made on first use.

        Raises:
            KeyDestroyed: it was destroyed; rotate it to seal anew.
        """
        return self.keys.current(kind, name)

    def subject(self, subject_type: str, identifier: object) -> Key:
        """Return the key of a data subject, made on first use.

        Raises:
            InputError: the identifier is missing: many would share that person's key.
        """
        require_identifiers([identifier])
        return self.named("subject", self.reference(subject_type, identifier))

    def subjects(self, subject_type: str, identifiers: Sequence[object]) -> list[Key]:
        """Return the keys of many data subjects, made on first use; one query for thousands.

        Raises:
            InputError: as `subject`.
        """
        require_identifiers(identifiers)
        names = self.references(subject_type, identifiers)
        found = self.keys.subjects(names)
        return [found[name] for name in names]

    def reference(self, subject_type: str, identifier: object) -> str:
        """Return the keyed hash under which we file a subject: consent, keys, suppression.

        HMAC-SHA-256 under the tenant's lookup key; the same person gives the same value,
        and without the key it cannot be computed or guessed.
        """
        return self.references(subject_type, [identifier])[0]

    def references(self, subject_type: str, identifiers: Sequence[object]) -> list[str]:
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

    def reserve(self, key: Key, count: int) -> Key:
        """Return the key under which ``count`` values may be sealed with random nonces.

        The store counts what each process reserves, so that no key sees more than
        `MOST_SEALED` nonces; the next epoch takes over where it would. A store that is
        restored from a backup counts from there; nonces are random, so none comes back.

        Raises:
            InputError: more than `MOST_SEALED` at once.
        """
        if not 0 <= count <= MOST_SEALED:
            raise InputError(f"one key seals up to {MOST_SEALED} values; seal them in parts")
        left = self.keys.cache.left.get(key.id, 0)
        if left >= count:
            self.keys.cache.left[key.id] = left - count
            return key
        block = max(count, BLOCK)
        where = (KEY.c.id == key.id) & (KEY.c.sealed <= MOST_SEALED - block)
        taken = sa.update(KEY).where(where).values(sealed=KEY.c.sealed + block)
        with self.store.writing() as connection:
            granted = connection.execute(taken).rowcount
        if not granted:
            self.keys.cache.drop(key.id)
            return self.reserve(self.keys.advance(key.kind, key.name, after=key.epoch), count)
        self.keys.cache.left[key.id] = block - count
        return key

    def seal(self, key: Key, plaintext: bytes, place: aead.Place) -> bytes:
        """Return a sealed value bound to its place.

        Where many values are sealed under one key, `reserve` gives the key that may seal them.
        """
        return aead.seal(key.cipher, key.id, plaintext, place.encode())

    def open_sealed(self, cell: bytes, place: aead.Place) -> bytes:
        """Return the plaintext of a sealed value.

        Raises:
            DecryptionFailed: unknown key, another column's key, wrong place or altered bytes.
            KeyDestroyed: the key was destroyed on purpose.
        """
        key = self.by_id(aead.key_id_of(cell))
        if key.kind == "column" and key.name != f"{place.table}.{place.column}":
            raise DecryptionFailed(aead.REFUSED)
        return aead.open_sealed(key.cipher, cell, place.encode())

    def by_id(self, key_id: int) -> Key:
        """Return a key by the id that stands in a sealed value.

        Raises:
            DecryptionFailed: no such key, or one that seals nothing.
            KeyRetired: its epoch is over.
            KeyDestroyed: it was destroyed on purpose.
        """
        key = self.keys.cache.get(key_id)
        if key is None:
            row = self.keys.row(key_id)
            if row is None or row.kind in _NEVER_OPEN:  # none of these is unwrapped for a value
                raise DecryptionFailed("the sealed value names a key that is not here")
            key = self.keys.unwrap(row)
        if key.kind in _NEVER_OPEN:
            raise DecryptionFailed("the sealed value names a key that is not here")
        return key

    def by_ids(self, key_ids: Iterable[int]) -> dict[int, Key | None]:
        """Return many keys as `by_id` does; None for one that was destroyed on purpose.

        Raises:
            DecryptionFailed: one of them is not here, or seals nothing.
            KeyRetired: the epoch of one is over.
        """
        wanted = set(key_ids)
        cached = {key_id: self.keys.cache.get(key_id) for key_id in wanted}
        found: dict[int, Key | None] = {i: key for i, key in cached.items() if key is not None}
        rows = self.keys.many(wanted - found.keys())
        kinds = {key.kind for key in cached.values() if key} | {row.kind for row in rows}
        if len(found) + len(rows) < len(wanted) or kinds & _NEVER_OPEN:
            raise DecryptionFailed("a sealed value names a key that is not here")
        for row in rows:
            found[row.id] = None if row.wrapped is None else self.keys.unwrap(row)
        return found

    # -- life and death --------------------------------------------------------------

    def listing(self) -> list[KeyInfo]:
        """Return what may be shown of every key."""
        return self.keys.listing()

    def destroy_subject(
        self, connection: sa.Connection, subject_type: str, identifier: object
    ) -> list[int]:
        """Destroy a subject's key inside a write transaction; return the ids of what is gone.

        Effective at commit in this process, and within `CACHE_SECONDS` in every other.
        """
        name = self.reference(subject_type, identifier)
        for row in connection.execute(self.keys.rows("subject", name)):
            self.keys.material(row)  # that it is this person's key, and not a row renamed to it
        where = (KEY.c.kind == "subject") & (KEY.c.name == name)
        return self.keys.destroy(connection, where)


def _where(settings: Settings) -> str:
    return str(providers.master_path(settings) or settings.master)


def identity_text(identifier: object) -> str:
    """Return the text of an identifier: 7, 7.0 and "7" are one person, as databases mix them."""
    return str(_whole(identifier)).strip()


_MISSING = frozenset({"", "None", "nan", "NaN", "-NaN", "sNaN", "<NA>", "NaT"})


def require_identifiers(identifiers: Sequence[object]) -> None:
    """Return where each identifier names somebody; the text ``"nan"`` does, a NaN does not.

    Raises:
        InputError: how many do not.
    """
    missing = sum(
        text in _MISSING and (not text or not isinstance(given, str))
        for given, text in zip(identifiers, map(identity_text, identifiers), strict=True)
    )
    if missing:
        raise InputError(
            f"{missing} rows name no subject, so nobody's key can seal them; drop them or give "
            "each an identifier"
        )


def row_identity(key: object) -> str:
    """Return the text of a row's key: as `identity_text`, but spaces tell rows apart."""
    return str(_whole(key))


def _whole(number: Any) -> Any:
    """Return a number without a fraction as int; NumPy's numbers are Real, Decimal is not."""
    if isinstance(number, int) or not isinstance(number, (numbers.Real, decimal.Decimal)):
        return number
    value: Any = number
    return int(value) if math.isfinite(value) and value == int(value) else value
