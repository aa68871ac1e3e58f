"""Custody of the keys: rotated, retired, destroyed, handed out; each act is in the trail.

Commit points: an act on one key and its trail entry are one transaction. Two acts touch
many keys: a new master rewraps the domain keys in one transaction; a new domain key
rewraps its children in batches, each key naming its parent throughout, so that a killed
run leaves a hierarchy that opens, and the next run goes on where it stood.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from compliance.crypto import cache
from compliance.crypto.cache import Key
from compliance.crypto.hierarchy import BYTES, KEY, now, row_mac, unwrapped, wrapped_by, wrapped_of
from compliance.crypto.keys import Keyring
from compliance.crypto.providers import MasterKey
from compliance.crypto.providers.local import Stored
from compliance.errors import ConfigurationError, DecryptionFailed, InputError, OperationError
from compliance.trail.entries import Event
from compliance.trail.log import Trail

Events = Callable[..., Event]  # what happened, with outcome and facts; `Guard.event` is one
Progress = Callable[[int, int, str], None]
ROTATABLE = ("column", "model", "file", "index", "join", "format", "token")
DESTRUCTIBLE = (*ROTATABLE, "subject")
BATCH = 20_000  # keys rewrapped in one transaction
_NOBODY = "there is no such key; nothing was destroyed: check the type and the identifier"
_IDS = 4_000  # ids of keys in one entry of the trail


def _silent(_done: int, _total: int, _what: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Keys that are gone.

    Attributes:
        keys: their ids.
        effective: from when on no process can use them: others may hold a key in memory
            for `cache.SECONDS`. In this process it holds at once.
    """

    keys: tuple[int, ...]
    effective: dt.datetime


class Custodian:
    """Acts on the keys of one ring and records each act."""

    def __init__(self, ring: Keyring, trail: Trail, event: Events) -> None:
        self._ring = ring
        self._keys = ring.keys
        self._store = ring.store
        self._trail = trail
        self._event = event

    def __repr__(self) -> str:
        return f"Custodian({self._ring!r})"

    # -- the master ----------------------------------------------------------------------

    def rotate_master(self) -> int:
        """Replace the master and rewrap the domain keys; return how many. No data is touched.

        A crash between the steps leaves a master that opens both: run it again. Afterwards the
        earlier master is gone. A key that was destroyed but lies in a backup is gone with it
        once the domain key was rotated too: before, the backup's copy of the key hangs on a
        domain key that is still in use.

        Raises:
            ConfigurationError: the provider rotates its keys itself; then `rewrap`.
        """
        master = self._keys.master
        if not isinstance(master, Stored):
            raise ConfigurationError(
                f"{master.name} is not rotated here: rotate a key of a server where it is kept, "
                "then run `compliance keys rewrap`; for another key pair, "
                "`compliance keys rewrap --to hpke:NEW.pem`"
            )
        with self._store.writing() as connection:
            self._keys.lock_domains(connection)
            master.rotate()
        count = self._rewrap(master, "key.master-rotated")
        with self._store.writing() as connection:
            self._keys.lock_domains(connection)
            master.forget_earlier(needed=_wrappers(connection))
        return count

    def rewrap(self, target: MasterKey | None = None) -> int:
        """Wrap the domain keys anew, by another master where one is given; return how many."""
        return self._rewrap(target or self._keys.master, "key.rewrapped")

    def _rewrap(self, target: MasterKey, what: str) -> int:
        with self._store.writing() as connection:
            rows = self._keys.lock_domains(connection)
            for row in rows:
                values = wrapped_by(target, self._keys.material(row), self._ring.tenant)
                connection.execute(sa.update(KEY).where(KEY.c.id == row.id).values(values))
            self._record(connection, what, {"keys": len(rows), "master": target.name})
            self._store.scrub_after(connection)
        self._keys.master = target
        return len(rows)

    # -- the domain key --------------------------------------------------------------------

    def rotate_domain(self, progress: Progress = _silent) -> int:
        """Put every key under a new domain key and destroy the old one; return how many moved.

        A run that was cut off is finished first, and then makes no further domain key.
        """
        with self._store.writing() as connection:
            newest, *older = self._keys.lock_domains(connection)
            if not older:
                older = [newest]
                values = self._keys.wrapped_domain(
                    secrets.token_bytes(BYTES), epoch=newest.epoch + 1
                )
                connection.execute(sa.insert(KEY).values(values))
                newest = self._keys.lock_domains(connection)[0]
                self._record(connection, "key.rotating", {"kind": "domain", "key": newest.id})
        target = self._keys.unwrap(newest)
        return sum(self._empty(row, target, progress) for row in older)

    def _empty(self, old: sa.Row[Any], target: Key, progress: Progress) -> int:
        """Move the children of a domain key to another, then destroy it."""
        source, moved = self._keys.unwrap(old), 0
        children = (KEY.c.parent == old.id) & KEY.c.wrapped.is_not(None)
        with self._store.reading() as connection:
            total = connection.execute(sa.select(sa.func.count()).where(children)).scalar_one()
        last = 0
        while True:
            with self._store.writing() as connection:
                last, count = self._move(connection, children, last, source, target)
                moved += count
            progress(moved, total, "keys rewrapped")
            if not count:
                return moved + self._close(old, children, source, target)

    def _move(
        self,
        connection: sa.Connection,
        children: sa.ColumnElement[bool],
        after: int,
        source: Key,
        target: Key,
    ) -> tuple[int, int]:
        """Rewrap the next batch of children; return the last id and how many there were."""
        query = sa.select(KEY.c.id, KEY.c.wrapped).where(children & (KEY.c.id > after))
        rows = connection.execute(query.order_by(KEY.c.id).limit(BATCH)).all()
        values = [{"key": row.id, "by": rewrapped(row, source, target)} for row in rows]
        if values:
            _update(connection, values, target.id, source.id)
        return (rows[-1].id if rows else after), len(rows)

    def _close(
        self, old: sa.Row[Any], children: sa.ColumnElement[bool], source: Key, target: Key
    ) -> int:
        """Destroy the old domain key once nobody can hang another key on it.

        Whoever makes a key holds the row of its domain key until commit: with the row
        locked, what is still found is all that there is.
        """
        with self._store.writing() as connection:
            connection.execute(sa.select(KEY.c.id).where(KEY.c.id == old.id).with_for_update())
            last, late = 0, 0
            while (step := self._move(connection, children, last, source, target))[1]:
                last, late = step[0], late + step[1]
            self._keys.destroy(connection, KEY.c.id == old.id)
            facts = {"kind": "domain", "key": target.id, "epoch": target.epoch}
            self._record(connection, "key.rotated", facts)
        return late

    # -- named keys --------------------------------------------------------------------------

    def rotate(self, kind: str, name: str) -> Key:
        """Make the next epoch of a key: what is sealed from now on is sealed under it.

        Raises:
            InputError: no key of that kind and name, or a kind that is not rotated so.
        """
        self.require(kind, name)

        def record(connection: sa.Connection, row: sa.Row[Any]) -> None:
            facts = {"kind": kind, "name": name, "key": row.id, "epoch": row.epoch}
            self._record(connection, "key.rotated", facts)

        return self._keys.advance(kind, name, record=record)

    def require(self, kind: str, name: str) -> None:
        """Return where a key can be rotated.

        Raises:
            InputError: as `rotate`.
        """
        _known(kind, ROTATABLE)
        with self._store.reading() as connection:
            there = connection.execute(self._keys.rows(kind, name).limit(1)).first()
        if there is None:
            raise InputError(f"no {kind} key {name!r}; see `compliance keys list`")

    def retire(self, kind: str, name: str) -> list[int]:
        """Close every epoch but the newest: an old ciphertext that is put back is refused.

        Retire after everything was sealed anew, and not within `cache.SECONDS` of the
        rotation: until then another process may still seal under the old epoch.

        Raises:
            InputError: no key of that kind and name, or a kind that is not rotated so.
            OperationError: too soon.
        """
        self.require(kind, name)
        with self._store.writing() as connection:
            newest, *old = connection.execute(self._keys.rows(kind, name)).all()
            wait = _age(newest.created)
            if old and wait < cache.SECONDS:
                raise OperationError(
                    f"the newest epoch is {int(wait)} s old; retire the others once it is "
                    f"{int(cache.SECONDS)} s old, when no process holds them any more"
                )
            open_ = [row for row in old if row.retired is None and row.wrapped is not None]
            ids = [row.id for row in open_]
            if ids:
                self._mark(connection, open_, now())
                facts = {"kind": kind, "name": name, "keys": _ids(ids)}
                self._record(connection, "key.retired", facts)
        cache.bar_everywhere(ids)
        return ids

    def restore(self, key_id: int) -> None:
        """Take a retired epoch back, as for a backup that was sealed under it.

        Raises:
            InputError: no such key, or it is not retired.
        """
        row = self._keys.row(key_id)
        if row is None or row.retired is None or row.wrapped is None:
            raise InputError(f"key {key_id} is not retired; see `compliance keys list`")
        with self._store.writing() as connection:
            self._mark(connection, [row], None)
            self._record(connection, "key.restored", {"kind": row.kind, "keys": _ids([key_id])})

    def _mark(
        self, connection: sa.Connection, rows: Sequence[sa.Row[Any]], time: str | None
    ) -> None:
        for row in rows:
            about = (row.tenant, row.kind, row.name, row.epoch, time)
            values = {"retired": time, "mac": row_mac(self._keys.material(row), *about)}
            connection.execute(sa.update(KEY).where(KEY.c.id == row.id).values(values))

    # -- destruction ---------------------------------------------------------------------------

    def destroy(self, key_ids: Iterable[int]) -> Destroyed:
        """Destroy keys by id: what they sealed can never be opened again.

        Raises:
            InputError: no such key, destroyed already, or one that the hierarchy stands on.
        """
        where = KEY.c.id.in_(self.live(key_ids))
        return self._destroy(
            lambda connection: self._keys.destroy(connection, where), "key.destroyed"
        )

    def live(self, key_ids: Iterable[int]) -> list[int]:
        """Return ids of keys that `destroy` would destroy, in order.

        Raises:
            InputError: as `destroy`.
        """
        wanted = sorted(set(key_ids))
        for key_id in wanted:
            row = self._keys.row(key_id)
            if row is None or row.destroyed is not None:
                raise InputError(f"there is no live key {key_id}; see `compliance keys list`")
            _known(row.kind, DESTRUCTIBLE)
        return wanted

    def destroy_subject(self, subject_type: str, identifier: object) -> Destroyed:
        """Destroy the key of a data subject: cells, payloads and copies made under it are gone.

        Raises:
            InputError: that subject has no key; nothing was destroyed.
        """
        return self._destroy(
            lambda connection: self._ring.destroy_subject(connection, subject_type, identifier),
            "key.subject-destroyed",
        )

    def require_subject(self, subject_type: str, identifier: object) -> None:
        """Return where a data subject has a key.

        Raises:
            InputError: as `destroy_subject`.
        """
        name = self._ring.reference(subject_type, identifier)
        with self._store.reading() as connection:
            if connection.execute(self._keys.rows("subject", name).limit(1)).first() is None:
                raise InputError(_NOBODY)

    def _destroy(self, act: Callable[[sa.Connection], list[int]], what: str) -> Destroyed:
        with self._store.writing() as connection:
            ids = act(connection)
            if not ids:
                raise InputError(_NOBODY)
            for facts in key_facts(ids):
                self._record(connection, what, facts)
        effective = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=cache.SECONDS)
        return Destroyed(tuple(ids), effective)

    def _record(self, connection: sa.Connection, what: str, facts: dict[str, Any]) -> None:
        self._trail.append_in(connection, self._event(what, outcome="ok", facts=facts))


def rewrapped(row: sa.Row[Any], source: Key, target: Key) -> bytes:
    """Return a wrapped key under another parent.

    Raises:
        DecryptionFailed: its row was altered; the message names it.
    """
    try:
        material = unwrapped(source.material, wrapped_of(row))
    except DecryptionFailed:
        raise DecryptionFailed(
            f"the row of key {row.id} was altered: restore it from a backup, or destroy the key"
        ) from None
    return aes_key_wrap_with_padding(target.material, material)


def _wrappers(connection: sa.Connection) -> set[str | None]:
    """Return the masters that some domain key of the store needs, of any tenant."""
    live = (KEY.c.kind == "domain") & KEY.c.wrapped.is_not(None)
    return set(connection.execute(sa.select(KEY.c.wrapper).where(live)).scalars())


def _update(connection: sa.Connection, values: list[dict[str, Any]], parent: int, old: int) -> None:
    """Store rewrapped keys, unless they were destroyed meanwhile."""
    where = (KEY.c.id == sa.bindparam("key")) & (KEY.c.parent == old)
    live = where & KEY.c.wrapped.is_not(None)
    change = sa.update(KEY).where(live).values(wrapped=sa.bindparam("by"), parent=parent)
    connection.execute(change, values)


def _known(kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise InputError(f"a key of kind {kind!r} cannot be named here; kinds: {', '.join(kinds)}")


def key_facts(ids: Sequence[int]) -> Iterator[dict[str, str]]:
    """Yield the facts of entries that name keys: an entry holds some thousands of ids."""
    for start in range(0, len(ids), _IDS):
        yield {"keys": _ids(ids[start : start + _IDS])}


def _ids(ids: Sequence[int]) -> str:
    """Return ids as one fact: numbers of rows, which say nothing of anybody."""
    return ",".join(map(str, ids))


_DESTROYED = ("key.destroyed", "key.subject-destroyed", "request.keys-destroyed")
_STATES = {**dict.fromkeys(_DESTROYED, "destroyed"), "key.retired": "retired", "key.restored": ""}


def discrepancies(ring: Keyring, trail: Trail) -> Iterator[str]:
    """Yield what was done to keys and was undone by another way than ours.

    Whoever can write to the database and kept a copy of it can put back the wrapped key that
    was destroyed; the trail knows that it was.
    """
    states: dict[int, str] = {}
    with ring.store.reading() as connection:
        for entry in trail.events_in(connection, _STATES):
            for key_id in str(entry.values["facts"].get("keys", "")).split(","):
                if key_id.isdecimal() and states.get(int(key_id)) != "destroyed":  # for good
                    states[int(key_id)] = _STATES[entry.values["event"]]
    for row in ring.keys.many(states):
        if states[row.id] == "destroyed" and row.wrapped is not None:
            yield f"key {row.id} was destroyed, and is back in the table of keys"
        if states[row.id] == "retired" and row.retired is None and row.wrapped is not None:
            yield f"key {row.id} was retired, and opens again"


def _age(created: str) -> float:
    return (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(created)).total_seconds()
