"""Escrow: the domain keys sealed to a recipient's public key, and recovery from them.

What is handed out opens nothing without the database, and the database nothing without
it or the master: keep the two apart. Destroyed keys are in neither. HPKE (RFC 9180).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from compliance.crypto.hierarchy import BYTES, KEY, now, unwrapped, wrapped_by
from compliance.crypto.keys import Keyring
from compliance.crypto.providers import MasterKey
from compliance.crypto.providers.hpke import open_with, seal_to
from compliance.errors import InputError
from compliance.store import Store

_FORMAT = "compliance domain keys v1"
_INFO = b"compliance domain key export v1\x00"


@dataclass(frozen=True, slots=True, repr=False)
class _Escrowed:
    id: int
    epoch: int
    sealed: bytes


def export(ring: Keyring, recipient: bytes) -> bytes:
    """Return the live domain keys of a ring, each sealed to a public key.

    Args:
        ring: the keys.
        recipient: a public key in PEM: X25519, P-256 or ML-KEM-768.

    Raises:
        InputError: not such a key.
    """
    hierarchy = ring.keys
    query = hierarchy.rows("domain", ring.tenant).where(KEY.c.wrapped.is_not(None))
    with ring.store.reading() as connection:
        rows = connection.execute(query).all()
    keys = [
        {
            "id": row.id,
            "epoch": row.epoch,
            "sealed": _text(
                seal_to(recipient, hierarchy.unwrap(row).material, _info(ring.tenant, row.id))
            ),
        }
        for row in rows
    ]
    document = {"format": _FORMAT, "tenant": ring.tenant, "made": now(), "keys": keys}
    return json.dumps(document, indent=1).encode() + b"\n"


def recover(
    store: Store,
    master: Callable[[], MasterKey],
    document: bytes,
    identity: bytes,
    passphrase: str | None = None,
) -> int:
    """Put the domain keys of a store under a new master; return how many.

    Args:
        store: the database whose master was lost.
        master: returns the new one; asked for once everything was opened and checked.
        document: what `export` gave.
        identity: the recipient's private key in PEM.
        passphrase: of the private key.

    Raises:
        InputError: not an export, or one of another database.
        DecryptionFailed: sealed to another recipient, or altered.
    """
    tenant, escrowed = _parse(document)
    with store.writing() as connection:
        opened = []
        for key in escrowed:
            material = open_with(identity, key.sealed, _info(tenant, key.id), passphrase)
            where = (KEY.c.id == key.id) & (KEY.c.tenant == tenant) & (KEY.c.epoch == key.epoch)
            _check(connection, where, material)
            opened.append((where, material))
        _drop_childless(connection, tenant, [key.id for key in escrowed])
        new = master()
        for where, material in opened:
            values = wrapped_by(new, material, tenant)
            connection.execute(sa.update(KEY).where(where).values(values))
    return len(opened)


def _drop_childless(connection: sa.Connection, tenant: str, known: list[int]) -> None:
    """Drop what a rotation of the domain key that was cut off has left behind."""
    lost = (KEY.c.tenant == tenant) & (KEY.c.kind == "domain") & KEY.c.id.not_in(known)
    rows = connection.execute(sa.select(KEY.c.id).where(lost & KEY.c.wrapped.is_not(None))).all()
    for row in rows:
        hang = sa.select(KEY.c.id).where(KEY.c.parent == row.id).limit(1)
        if connection.execute(hang).first() is not None:
            raise InputError(
                f"the export is older than domain key {row.id}, on which keys hang already; "
                "recover from a newer export, or from an older copy of the database"
            )
        connection.execute(sa.delete(KEY).where(KEY.c.id == row.id))


def _check(connection: sa.Connection, where: sa.ColumnElement[bool], material: bytes) -> None:
    """Refuse a key that is not the one which this database's keys hang on."""
    live = where & (KEY.c.kind == "domain") & KEY.c.wrapped.is_not(None)
    row = connection.execute(sa.select(KEY.c.id).where(live)).first()
    if row is None or len(material) != BYTES:
        raise InputError("the export is of another database, or older than its domain key")
    children = (KEY.c.parent == row.id) & KEY.c.wrapped.is_not(None)
    child = connection.execute(sa.select(KEY.c.wrapped).where(children).limit(1)).first()
    if child is not None:
        unwrapped(material, bytes(child.wrapped))


def _parse(document: bytes) -> tuple[str, list[_Escrowed]]:
    try:
        values: dict[str, Any] = json.loads(document)
        known = values["format"] == _FORMAT
        keys = [_escrowed(entry) for entry in values["keys"]] if known else []
        tenant = str(values["tenant"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        keys = []
    if not keys:
        raise InputError("not an export of keys; name what `compliance keys export` wrote")
    return tenant, keys


def _escrowed(entry: dict[str, Any]) -> _Escrowed:
    sealed = base64.b64decode(entry["sealed"], validate=True)
    key_id, epoch = int(entry["id"]), int(entry["epoch"])
    if min(key_id, epoch) < 1 or max(key_id, epoch) >= 2**31:
        raise ValueError
    return _Escrowed(key_id, epoch, sealed)


def _info(tenant: str, key_id: int) -> bytes:
    """Bind each key to its tenant and place."""
    return _INFO + key_id.to_bytes(4, "big") + tenant.encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
