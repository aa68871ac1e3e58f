"""Subkeys: one key, one purpose, one algorithm, by HKDF-Expand (RFC 5869)."""

from __future__ import annotations

import sqlalchemy as sa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from compliance.crypto import aead
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.tables import WrappedKey
from compliance.errors import KeyDestroyed

_KEY = WrappedKey.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes


def derive(key: Key, purpose: str, *parts: str, length: int = 32) -> bytes:
    """Return a key for one purpose, and for these parts of it alone.

    HKDF-Expand with SHA-256 (RFC 5869, section 2.3); the step Extract is left out, since
    the material is uniform already (section 3.3).

    Args:
        key: where it is derived from.
        purpose: what the subkey does, written into the info string with a version.
        parts: what it does that for, such as a table and a column.
        length: bytes.
    """
    info = f"compliance {purpose} v1".encode() + joined(*parts)
    return HKDFExpand(SHA256(), length, info).derive(key.material)


def joined(*parts: str) -> bytes:
    """Return the parts, each with its length before it; no two lists of parts are alike."""
    return b"".join(map(aead.part, parts))


def live_keys(ring: Keyring, kind: str, name: str) -> list[Key]:
    """Return the keys of every epoch that may still be used, the newest first."""
    ring.named(kind, name)  # makes the first
    return [ring.by_id(key_id) for key_id in live_ids(ring, kind, name)]


def live_ids(
    ring: Keyring, kind: str, name: str, connection: sa.Connection | None = None
) -> list[int]:
    """Return the ids of `live_keys` as the database has them now, past every cache.

    Args:
        ring: the keys.
        kind: the kind of key.
        name: its name.
        connection: the transaction to ask in; a read of its own where there is none.

    Raises:
        KeyDestroyed: there is none.
    """
    if connection is None:
        with ring.store.reading() as reading:
            return live_ids(ring, kind, name, reading)
    where = (_KEY.c.tenant == ring.tenant) & (_KEY.c.kind == kind) & (_KEY.c.name == name)
    alive = _KEY.c.destroyed.is_(None) & _KEY.c.retired.is_(None)
    query = sa.select(_KEY.c.id).where(where & alive).order_by(_KEY.c.epoch.desc())
    ids = list(connection.execute(query).scalars())
    if not ids:
        raise KeyDestroyed(f"every {kind} key of this name was destroyed or retired")
    return ids
