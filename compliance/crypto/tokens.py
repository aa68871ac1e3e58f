"""A vault of tokens: random names that stand for values, and mean nothing without the database.

What a token leaks: equality, since one value has one token within a space; in the form
``digits`` also the value's length and separators. A token is drawn at random and cannot be
computed from its value, with or without keys: no attack on a cipher turns it back.

The row behind it holds the value sealed (AES-256-GCM) under a key of the space, or of the
data subject, and a digest, a keyed hash by which the value is found again. Tenant, space,
token and digest are bound into the seal: rows whose parts were exchanged are refused.
Whoever holds the keys can test a guess against the digests.

The vault asks nobody whether the caller may see a value, and has no trail: the guard asks and
records, before. Whoever calls `Vault.forget` outside a guarded function records that it did.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from compliance.crypto import aead, values
from compliance.crypto.aead import Place
from compliance.crypto.arguments import require_list, require_names
from compliance.crypto.hierarchy import KEY, now
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.subkeys import derive, joined, live_ids
from compliance.crypto.tables import Token
from compliance.crypto.tokenforms import FORMS, possible
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed, OperationError

_TOKEN = Token.__table__  # type: ignore[attr-defined]  # SQLModel sets it on table classes
_INSERT: dict[str, Callable[..., Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_CHUNK = 1_000  # parameters of one query, rows of one transaction
_ATTEMPTS = 50  # fresh tokens for a value before the form counts as full
_ROWS = sa.select(_TOKEN.c.token, _TOKEN.c.digest, _TOKEN.c.sealed)
Row = sa.Row[tuple[str, str, bytes]]
Forgotten = Literal["raise", "null"]


@dataclass(frozen=True, slots=True, repr=False)
class _Entry:
    """A value on its way in; its digest under every live epoch, the newest first."""

    value: Any
    data: bytes
    digests: tuple[str, ...]
    key: Key


class Vault:
    """The tokens of one space: a value has one token there, and another in another space."""

    def __init__(
        self, ring: Keyring, space: str, *, form: str = "random", subject: str | None = None
    ) -> None:
        """Name a space; nothing is written.

        Args:
            ring: the keys, and the store that holds the tokens.
            space: the name under which values and tokens belong together.
            form: ``random``, 128 bits as URL-safe text after ``tok_``; or ``digits``, digits
                and separators as the value has them.
            subject: a type of data subject, such as ``customer``. Each value is then sealed
                under its subject's key and found by it: a value has a token for each of its
                subjects, and destroying a subject's key erases that person's values.

        Raises:
            InputError: no such form, or an empty name.
        """
        require_names(space=space)
        if form not in FORMS:
            raise InputError(f"no form {form!r}; there are: {', '.join(FORMS)}")
        self._ring = ring
        self._space = space
        self._form = FORMS[form]
        self._subject = subject

    def __repr__(self) -> str:
        return f"Vault({self._space!r})"

    def tokenise(
        self, column: Sequence[Any], subjects: Sequence[object] | None = None
    ) -> list[str | None]:
        """Return the token of each value, made on first use; missing stays missing.

        All new ones are written in one transaction: all or none. Two processes that ask at
        once get the same token, since one writes to a space at a time and the database takes
        a digest once.

        Args:
            column: values that a sealed cell takes; 7 and "7" are two.
            subjects: whose value each is, where the vault seals under subjects' keys.

        Raises:
            InputError: a value that the form or a cell does not take; one text in the place of
                a list; subjects missing.
            DecryptionFailed: the row of a value was altered.
            OperationError: no free token of digits was found; or an epoch of the index key is
                over and rows are still found by it alone, so that values would get a second
                token: `reseal` first.
        """
        require_list(column=column)
        present = [at for at, value in enumerate(column) if value is not None]
        whose = self._whose(subjects, present, len(column))
        tokens: list[str | None] = [None] * len(column)
        given = self._given([column[at] for at in present], whose)
        for at, token in zip(present, given, strict=True):
            tokens[at] = token
        return tokens

    def detokenise(
        self, tokens: Sequence[str | None], *, forgotten: Forgotten = "raise"
    ) -> list[Any]:
        """Return the values that tokens stand for; missing stays missing.

        Args:
            tokens: of this space.
            forgotten: ``null`` returns None for a token that is not here, or whose key was
                destroyed; ``raise`` refuses all.

        Raises:
            DecryptionFailed: a token is not of this space, was forgotten, or its row altered.
            KeyDestroyed: the key of the data subject was destroyed.
        """
        require_list(tokens=tokens)
        if forgotten not in {"raise", "null"}:
            raise InputError("forgotten is 'raise' or 'null'")
        asked = set(tokens) - {None}
        with self._ring.store.reading() as connection:
            found = self._find(connection, _TOKEN.c.token, possible(asked))
        rows = {row.token: row for row in found}
        if len(rows) < len(asked) and forgotten == "raise":
            raise DecryptionFailed(
                f"{len(asked) - len(rows)} tokens are not of this space or were forgotten; ask "
                "with forgotten='null' to have None for them"
            )
        opened = self._values(list(rows.values()), forgotten=forgotten)
        return [None if token is None else opened.get(token) for token in tokens]

    def forget(
        self,
        *,
        tokens: Sequence[str] = (),
        column: Sequence[Any] = (),
        subjects: Sequence[object] | None = None,
    ) -> int:
        """Delete the rows of tokens, or of values; return how many there were.

        Backups keep what they hold: a destroyed subject's key reaches them. The caller records.

        Raises:
            InputError: one text in the place of a list, or subjects missing.
            OperationError: as `tokenise`, where values are given.
        """
        require_list(tokens=tokens, column=column)
        whose = self._whose(subjects, range(len(column)), len(column))
        while True:  # over again where an index key got a new epoch before the lock was held
            entries, epochs = self._entries(column, whose) if len(column) else ([], [])
            digests = [digest for entry in entries for digest in entry.digests]
            wanted = ((_TOKEN.c.token, possible(tokens)), (_TOKEN.c.digest, digests))
            with self._ring.store.writing() as connection:
                self._lock(connection)
                if entries and self._epochs(connection) != epochs:
                    continue
                self._ring.store.scrub_after(connection)
                return sum(self._delete(connection, field, keys) for field, keys in wanted)

    def reseal(self) -> int:
        """Seal the space's rows under the current keys; return how many were under older ones.

        Tokens stay as they are. Run it after a key of the vault got a new epoch; then retire
        the older ones. It writes 1,000 rows a transaction and may be cut off and run again.

        Raises:
            InputError: rows under subjects' keys stay under them.
            DecryptionFailed: a row was altered.
        """
        if self._subject is not None:
            raise InputError("rows sealed under subjects' keys are not sealed again")
        changed, after, newest = 0, "", 0
        while True:
            key = self._ring.reserve(self._ring.named("token", self._space), _CHUNK)
            if (epoch := self._epochs()[0]) != newest:  # rotated meanwhile: from the first row
                newest, after = epoch, ""
            digests = self._hasher([self._ring.by_id(newest)])
            with self._ring.store.writing() as connection:
                self._lock(connection)
                rows = self._after(connection, after)
                changed += sum(self._renewed(connection, row, key, digests) for row in rows)
            if not rows:
                return changed
            after = rows[-1].token

    # -- values to tokens ------------------------------------------------------------

    def _given(self, column: Sequence[Any], whose: Sequence[object]) -> list[str]:
        """Start over where an index key got a new epoch before the lock was held."""
        while True:
            entries, epochs = self._entries(column, whose)
            with self._ring.store.reading() as connection:
                known = self._known(connection, entries)
            missing = [entry for entry in entries if entry.digests[0] not in known]
            fresh = self._write(missing, epochs) if missing else {}
            if fresh is not None:
                known |= fresh
                return [known[entry.digests[0]] for entry in entries]

    def _write(self, missing: list[_Entry], epochs: list[int]) -> dict[str, str] | None:
        """Insert what is still missing; None where the epochs are no longer these."""
        if self._subject is None:  # before our transaction, since it may write
            key = self._ring.reserve(missing[0].key, len(missing))
            missing = [replace(entry, key=key) for entry in missing]
        with self._ring.store.writing() as connection:
            self._lock(connection)
            if self._epochs(connection) != epochs:
                return None
            return self._insert(connection, missing)

    def _insert(self, connection: sa.Connection, missing: list[_Entry]) -> dict[str, str]:
        """Insert and look again: a token drawn twice is not taken, and drawn afresh."""
        known = self._known(connection, missing)
        insert = _INSERT[connection.dialect.name](_TOKEN).on_conflict_do_nothing()
        for _ in range(_ATTEMPTS):
            rest = {e.digests[0]: e for e in missing if e.digests[0] not in known}
            if not rest:
                return known
            connection.execute(insert, [self._row(entry) for entry in rest.values()])
            known |= self._known(connection, list(rest.values()))
        raise OperationError(
            "no free token was found; this space of digits is nearly full: use form='random'"
        )

    def _row(self, entry: _Entry) -> dict[str, object]:
        token, digest = self._form(entry.value), entry.digests[0]
        sealed = self._ring.seal(entry.key, entry.data, self._place(token, digest))
        names = {"tenant": self._ring.tenant, "space": self._space}
        return names | {"token": token, "digest": digest, "sealed": sealed, "created": now()}

    def _known(self, connection: sa.Connection, entries: list[_Entry]) -> dict[str, str]:
        """Return the tokens there are, by newest digest; each row is opened and compared."""
        digests = list(dict.fromkeys(d for entry in entries for d in entry.digests))
        rows = {row.digest: row for row in self._find(connection, _TOKEN.c.digest, digests)}
        known: dict[str, str] = {}
        for entry in entries:
            row = next((rows[digest] for digest in entry.digests if digest in rows), None)
            if row is not None and entry.digests[0] not in known:
                if not hmac.compare_digest(self._open(row), entry.data):
                    raise DecryptionFailed("a token's row was altered; restore the database")
                known[entry.digests[0]] = row.token
        return known

    def _entries(
        self, column: Sequence[Any], whose: Sequence[object]
    ) -> tuple[list[_Entry], list[int]]:
        """Return what is to be looked up, and the epochs of the index key that were used."""
        encoded = values.encode_all(column)
        if self._subject is not None:
            keys = self._ring.subjects(self._subject, whose)
            hashed = [(self._hasher([key]), key) for key in keys]
            parts = zip(column, encoded, hashed, strict=True)
            return [_Entry(v, data, digests(data), key) for v, data, (digests, key) in parts], []
        epochs = self._epochs()
        live = [self._ring.by_id(key_id) for key_id in epochs]
        digests = self._hasher(live)
        self._require_resealed(live, digests)
        key = self._ring.named("token", self._space)
        pairs = zip(column, encoded, strict=True)
        return [_Entry(value, data, digests(data), key) for value, data in pairs], epochs

    def _require_resealed(
        self, live: Sequence[Key], digests: Callable[[bytes], tuple[str, ...]]
    ) -> None:
        """Refuse where an epoch is over and the space was not sealed again before.

        `reseal` goes by token: it ended where the last row from before the newest epoch is found.
        """
        newest = live[0]
        if newest.epoch == len(live):
            return
        began = sa.select(KEY.c.created).where(KEY.c.id == newest.id).scalar_subquery()
        older = _ROWS.where(self._mine(), _TOKEN.c.created < began)
        with self._ring.store.reading() as connection:
            row = connection.execute(older.order_by(_TOKEN.c.token.desc()).limit(1)).first()
        with contextlib.suppress(KeyDestroyed):  # then nobody has the value to ask for
            if row is not None and row.digest not in digests(self._open(row)):
                raise OperationError(
                    "an index key of this space was retired or destroyed before its rows were "
                    "sealed again, so values would not be found; run `Vault.reseal` first"
                )

    def _hasher(self, keys: Sequence[Key]) -> Callable[[bytes], tuple[str, ...]]:
        subkeys = [derive(key, "token digest", self._ring.tenant, self._space) for key in keys]
        return functools.cache(
            lambda data: tuple(hmac.digest(s, data, "sha256").hex() for s in subkeys)
        )

    def _epochs(self, connection: sa.Connection | None = None) -> list[int]:
        """Return the live epochs of the index key, which is made on first use."""
        if self._subject is not None:
            return []
        name = f"token:{self._space}"
        if connection is None:  # inside a transaction no key can be made, and one is there
            self._ring.named("index", name)
        return live_ids(self._ring, "index", name, connection)

    def _whose(
        self, subjects: Sequence[object] | None, present: Sequence[int], length: int
    ) -> list[object]:
        """Return the subject of each value present, after a look at whether they fit the vault."""
        require_list(subjects=subjects)
        if self._subject is None:
            if subjects is not None:
                raise InputError("this vault knows no subjects; open it with subject=")
            return []
        if length and (subjects is None or len(subjects) != length):
            raise InputError("this vault seals under subjects' keys; name one for each value")
        whose = [subjects[at] for at in present] if subjects is not None else []
        if None in whose:
            raise InputError("a value has no subject; name one for each value")
        return whose

    # -- rows ------------------------------------------------------------------------

    def _place(self, token: str, digest: str) -> Place:
        """Return what a row is bound to; the digest has one length, so no two rows are alike."""
        return Place(self._ring.tenant, "compliance_token", self._space, row=f"{token}:{digest}")

    def _values(self, rows: Sequence[Row], *, forgotten: Forgotten) -> dict[str, Any]:
        opened: dict[str, bytes] = {}
        for row in rows:
            try:
                opened[row.token] = self._open(row)
            except KeyDestroyed:
                if forgotten == "raise":
                    raise
        return dict(zip(opened, values.decode_all(list(opened.values())), strict=True))

    def _open(self, row: Row) -> bytes:
        """Open a row's value; a key of another kind or space is never tried."""
        sealed = bytes(row.sealed)
        key = self._ring.by_id(aead.key_id_of(sealed))
        mine = ("token", self._space) if self._subject is None else ("subject", key.name)
        if (key.kind, key.name) != mine:
            raise DecryptionFailed("a token's row names a key of another kind or space")
        return aead.open_sealed(key.cipher, sealed, self._place(row.token, row.digest).encode())

    def _find(
        self, connection: sa.Connection, field: sa.Column[str], keys: Sequence[str]
    ) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(keys), _CHUNK):
            query = _ROWS.where(self._mine(), field.in_(keys[start : start + _CHUNK]))
            found += connection.execute(query).all()
        return found

    def _delete(self, connection: sa.Connection, field: sa.Column[str], keys: list[str]) -> int:
        gone = 0
        for start in range(0, len(keys), _CHUNK):
            where = sa.and_(self._mine(), field.in_(keys[start : start + _CHUNK]))
            gone += connection.execute(sa.delete(_TOKEN).where(where)).rowcount
        return gone

    def _after(self, connection: sa.Connection, token: str) -> list[Row]:
        query = _ROWS.where(self._mine(), _TOKEN.c.token > token).order_by(_TOKEN.c.token)
        return list(connection.execute(query.limit(_CHUNK)).all())

    def _renewed(
        self,
        connection: sa.Connection,
        row: Row,
        key: Key,
        digests: Callable[[bytes], tuple[str, ...]],
    ) -> bool:
        """Write a row anew where its key or digest is of an older epoch; say whether it was."""
        data = self._open(row)
        (digest,) = digests(data)
        if hmac.compare_digest(digest, row.digest) and aead.key_id_of(bytes(row.sealed)) == key.id:
            return False
        sealed = self._ring.seal(key, data, self._place(row.token, digest))
        update = sa.update(_TOKEN).where(self._mine(), _TOKEN.c.token == row.token)
        connection.execute(update.values(digest=digest, sealed=sealed))
        return True

    def _mine(self) -> sa.ColumnElement[bool]:
        return sa.and_(_TOKEN.c.tenant == self._ring.tenant, _TOKEN.c.space == self._space)

    def _lock(self, connection: sa.Connection) -> None:
        """Let one transaction at a time write to the space; SQLite's own lock does it for all."""
        if connection.dialect.name == "postgresql":
            name = hashlib.sha256(joined("compliance_token", self._ring.tenant, self._space))
            number = int.from_bytes(name.digest()[:8], "big", signed=True)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))
